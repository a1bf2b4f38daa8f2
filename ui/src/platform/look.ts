/**
 * What the library is to look at, in the address of its page: `?view=library#look=SOURCE`. A fragment reaches a page that is open
 * already without loading it again, and is never sent to a server.
 */

const NAME = 'look';

/** The address of the library's page beside the page at `search`. */
export function libraryPage(search: string, source: string | null): string {
  const query = new URLSearchParams(search);
  query.set('view', 'library');
  return `?${query.toString()}${source === null ? '' : `#${new URLSearchParams({ [NAME]: source }).toString()}`}`;
}

/** The address of the page with the panel, beside the page at `search`. */
export function mainPage(search: string): string {
  const query = new URLSearchParams(search);
  query.delete('view');
  return `?${query.toString()}`;
}

/** Calls back with what the page is to look at, now and later; each is taken out of the address, so that it is looked at once. */
export function onLook(callback: (source: string) => void, page: Window = window): () => void {
  const read = () => {
    const fragment = new URLSearchParams(page.location.hash.slice(1));
    const source = fragment.get(NAME);
    if (source === null) return;
    fragment.delete(NAME);
    const rest = fragment.toString();
    page.history.replaceState(page.history.state, '', page.location.pathname + page.location.search + (rest ? `#${rest}` : ''));
    if (source.trim() !== '') callback(source);
  };
  read();
  page.addEventListener('hashchange', read);
  return () => page.removeEventListener('hashchange', read);
}
