import { afterEach, describe, expect, it, vi } from 'vitest';

import { libraryPage, mainPage, onLook } from './look';

describe('the address of the library', () => {
  it('keeps what else the page was opened with, and names what to look at behind a hash', () => {
    expect(libraryPage('?mock=calm&view=panel', null)).toBe('?mock=calm&view=library');
    expect(libraryPage('', '/a b/c&d#e')).toBe('?view=library#look=%2Fa+b%2Fc%26d%23e');
    expect(mainPage('?mock=calm&view=library')).toBe('?mock=calm');
  });
});

describe('what the library is to look at', () => {
  afterEach(() => window.history.replaceState(null, '', '/'));

  /** The shell sends a page that is open to the same address with another fragment: no reload, only this event. */
  function send(fragment: string) {
    window.history.replaceState(null, '', `?view=library${fragment}`);
    window.dispatchEvent(new HashChangeEvent('hashchange'));
  }

  it('is told once, where the page is opened for it and where it is open already', () => {
    window.history.replaceState(null, '', '?view=library#look=%2FUsers%2Fada%2Fa+b.gguf');
    const looked = vi.fn();
    const stop = onLook(looked);
    expect(looked.mock.calls).toEqual([['/Users/ada/a b.gguf']]);
    expect(window.location.search + window.location.hash).toBe('?view=library');

    send('#look=https%3A%2F%2Fhf.co%2Fo%2Fn%3Fx%3D1%23files');
    expect(looked).toHaveBeenLastCalledWith('https://hf.co/o/n?x=1#files');
    // The same thing dropped once more is looked at once more.
    send('#look=https%3A%2F%2Fhf.co%2Fo%2Fn%3Fx%3D1%23files');
    expect(looked).toHaveBeenCalledTimes(3);

    send('#other=1');
    send('#look=+');
    expect(looked).toHaveBeenCalledTimes(3);
    stop();
    send('#look=x');
    expect(looked).toHaveBeenCalledTimes(3);
  });
});
