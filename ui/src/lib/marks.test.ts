import { describe, expect, it } from 'vitest';

import { stretches } from './marks';

const text = (snippet: string, marks: { start: number; end: number }[], lead?: number) =>
  stretches(snippet, marks, lead)
    .map((stretch) => (stretch.marked ? `[${stretch.text}]` : stretch.text))
    .join('');

describe('the marks of a snippet', () => {
  it('count characters, not halves of them', () => {
    expect(text('🔑🔑 key 𝔘𝔫𝔦 key', [{ start: 3, end: 6 }, { start: 11, end: 14 }])).toBe('🔑🔑 [key] 𝔘𝔫𝔦 [key]');
    expect(text('🔑', [{ start: 0, end: 1 }])).toBe('[🔑]');
  });

  it('may touch both ends', () => {
    expect(text('abc', [{ start: 0, end: 3 }])).toBe('[abc]');
  });

  it('are merged where they overlap or touch, in whatever order they come', () => {
    expect(text('abcdef', [{ start: 3, end: 5 }, { start: 1, end: 4 }, { start: 5, end: 6 }])).toBe('a[bcdef]');
  });

  it('that lie outside or hold nothing are dropped or cut', () => {
    expect(text('abc', [{ start: 9, end: 12 }, { start: 2, end: 2 }, { start: 2, end: 1 }, { start: 2, end: 99 }])).toBe('ab[c]');
  });

  it('leave the snippet whole', () => {
    const snippet = 'naïve 😀 text with some marks';
    const joined = stretches(snippet, [{ start: 6, end: 7 }, { start: 13, end: 17 }]).map((stretch) => stretch.text);
    expect(joined.join('')).toBe(snippet);
  });

  it('far into the snippet pull it into sight, from the start of a word on', () => {
    const snippet = `${'word '.repeat(60)}needle and the rest`;
    const cut = text(snippet, [{ start: 300, end: 306 }], 50);
    expect(cut).toBe(`… ${'word '.repeat(5)}[needle] and the rest`);
  });

  it('pull nothing out of sight where the text before the mark has no spaces', () => {
    expect(text(`${'x'.repeat(200)}needle`, [{ start: 200, end: 206 }], 50)).toBe('… [needle]');
  });

  it('may be missing', () => {
    expect(text('abc', [])).toBe('abc');
    expect(stretches('', [])).toEqual([]);
  });
});
