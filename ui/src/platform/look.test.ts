import { describe, expect, it } from 'vitest';

import { libraryPage, mainPage } from './look';

describe('the address of the library', () => {
  it('keeps what else the page was opened with, and names what to look at behind a hash', () => {
    expect(libraryPage('?mock=calm&view=panel', null)).toBe('?mock=calm&view=library');
    expect(libraryPage('', '/a b/c&d#e')).toBe('?view=library#look=%2Fa+b%2Fc%26d%23e');
    expect(mainPage('?mock=calm&view=library')).toBe('?mock=calm');
  });
});
