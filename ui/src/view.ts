/** Which view a page shows. */
import type { Platform } from './platform';

export type View = 'panel' | 'search' | 'library' | 'both';

const VIEWS: readonly View[] = ['panel', 'search', 'library', 'both'];

export function chooseView(search: string, kind: Platform['kind']): View {
  const asked = new URLSearchParams(search).get('view');
  return VIEWS.find((view) => view === asked) ?? (kind === 'desktop' ? 'panel' : 'both');
}
