import { fireEvent, render, screen, within } from '@testing-library/svelte';
import { tick } from 'svelte';
import { describe, expect, it, vi } from 'vitest';

import App from '../../App.svelte';
import { MockPlatform } from '../../platform/mock';
import { Application } from '../../stores/application.svelte';

async function open(scenario = 'calm', platform = new MockPlatform(scenario)) {
  render(App, { application: new Application(platform), view: 'search' });
  await tick();
  return { platform, input: screen.getByTestId('search-input') as HTMLInputElement };
}

async function search(input: HTMLInputElement, query: string) {
  await fireEvent.input(input, { target: { value: query } });
  await vi.waitFor(() => expect(screen.getByTestId('search-footer').textContent).toContain('searched'));
}

describe('the search window', () => {
  it('has the focus in its field from the start and again whenever it is shown', async () => {
    const { platform, input } = await open();
    expect(document.activeElement).toBe(input);
    input.blur();
    platform.show();
    expect(document.activeElement).toBe(input);
  });

  it('shows each hit with its file, line and marked words, and what the answer cost', async () => {
    const { input } = await open();
    await search(input, 'signing key');
    const first = screen.getAllByTestId('hit')[0] as HTMLElement;
    expect(first.dataset['path']).toBe('/Users/ada/Documents/handbook/security/signing-keys.md');
    expect(first.dataset['line']).toBe('42');
    expect([...first.querySelectorAll('mark')].map((mark) => mark.textContent)).toEqual(['signing', 'key']);
    expect(first.textContent).toContain('~/Documents/handbook/security');
    const footer = screen.getByTestId('search-footer').textContent?.replace(/\s+/g, ' ');
    expect(footer).toContain('20,606 passages searched · embedding 8.2 ms · search 3.1 ms');
    expect(footer).toContain('all-MiniLM-L6-v2 · INT8');
  });

  it('tells a screen reader which hit the arrows have reached', async () => {
    const { input } = await open();
    expect(input.getAttribute('aria-expanded')).toBe('false');
    await search(input, 'key');
    expect(input.getAttribute('aria-expanded')).toBe('true');
    await fireEvent.keyDown(input, { key: 'ArrowDown' });
    const active = document.getElementById(input.getAttribute('aria-activedescendant') ?? '');
    expect(active).toBe(screen.getAllByTestId('hit')[1]);
    expect(active?.getAttribute('aria-selected')).toBe('true');
    expect(screen.getByRole('listbox').id).toBe(input.getAttribute('aria-controls'));
  });

  it('opens with Enter and leaves Enter to an input method that is composing', async () => {
    const { platform, input } = await open();
    await search(input, 'key');
    await fireEvent.keyDown(input, { key: 'Enter', isComposing: true });
    expect(platform.calls.map((call) => call.method)).not.toContain('open');
    await fireEvent.keyDown(input, { key: 'Enter' });
    expect(platform.calls.at(-1)?.method).toBe('open');
  });

  it('hides with Escape where there is a window to hide, and clears where there is none', async () => {
    const { input } = await open();
    await search(input, 'key');
    await fireEvent.keyDown(input, { key: 'Escape' });
    expect(input.value).toBe('');
    expect(screen.queryAllByTestId('hit')).toHaveLength(0);

    document.body.innerHTML = '';
    const platform = Object.assign(new MockPlatform(), { canHide: true });
    vi.spyOn(platform, 'hideWindow');
    const { input: second } = await open('calm', platform);
    await fireEvent.keyDown(second, { key: 'Escape' });
    expect(platform.hideWindow).toHaveBeenCalledOnce();
  });

  it('says when only words were searched, and why', async () => {
    const { input } = await open();
    await search(input, 'words only key');
    expect(screen.getByText(/Words only: the model’s worker is being restarted/)).toBeTruthy();
    expect(screen.getByTestId('search-footer').textContent).not.toContain('embedding');
  });

  it('says what to do where nothing is indexed, and takes a folder there', async () => {
    const { platform } = await open('empty');
    expect(screen.getByText('Index a folder first')).toBeTruthy();
    await fireEvent.input(screen.getByTestId('index-path'), { target: { value: '/Users/ada/notes' } });
    await fireEvent.click(screen.getByTestId('index-start'));
    expect(platform.calls.at(-1)).toEqual({ method: 'index', params: { paths: ['/Users/ada/notes'] } });
  });

  it('says that nothing matches', async () => {
    const { input } = await open();
    await search(input, 'nothing at all');
    expect(screen.getByText('No passage matches')).toBeTruthy();
  });

  it('shows a failed search with its advice and a way to try again', async () => {
    const { platform, input } = await open();
    const works = platform.handlers.search;
    platform.handlers.search = () => {
      throw { code: 'worker_failed', message: 'the worker died twice', hint: 'Switch to a smaller model.', retryable: true };
    };
    await fireEvent.input(input, { target: { value: 'key' } });
    const alert = await screen.findByRole('alert');
    expect(alert.textContent).toContain('Switch to a smaller model.');
    platform.handlers.search = works;
    await fireEvent.click(within(alert).getByText('Try again'));
    expect((await screen.findAllByTestId('hit')).length).toBeGreaterThan(0);
  });

  it('shows markup in a file as text', async () => {
    const { platform, input } = await open();
    const works = platform.handlers.search;
    platform.handlers.search = (request) => {
      const results = works(request);
      return { ...results, hits: results.hits.slice(0, 1).map((hit) => ({ ...hit, snippet: '<img src=x onerror=alert(1)>', marks: [] })) };
    };
    await search(input, 'img');
    expect(screen.getByTestId('hit').querySelector('img')).toBeNull();
    expect(screen.getByTestId('hit').textContent).toContain('<img src=x');
  });
});
