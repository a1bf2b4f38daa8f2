import { describe, expect, it } from 'vitest';

import { fileName, folderOf, homeOf, isModelId, shortenMiddle, shownPath, typedPath } from './paths';

describe('the home folder', () => {
  it('is read off a path inside it', () => {
    expect(homeOf('/Users/ada/Library/Application Support/Embedbar')).toBe('/Users/ada');
    expect(homeOf('/home/ada/.embedbar')).toBe('/home/ada');
    expect(homeOf('/root/.embedbar')).toBe('/root');
    expect(homeOf('/rooted/x')).toBeNull();
    expect(homeOf('/tmp/x')).toBeNull();
  });

  it('is shown as a tilde, and a neighbour of the same prefix is not', () => {
    expect(shownPath('/Users/ada/notes', '/Users/ada', 99)).toBe('~/notes');
    expect(shownPath('/Users/ada', '/Users/ada', 99)).toBe('~');
    expect(shownPath('/Users/adam/notes', '/Users/ada', 99)).toBe('/Users/adam/notes');
  });
});

describe('a long path', () => {
  it('loses its middle and keeps within the limit', () => {
    const short = shortenMiddle('/one/two/three/four/five/six/seven.md', 20);
    expect(Array.from(short).length).toBeLessThanOrEqual(20);
    expect(short).toContain('…');
    expect(short.endsWith('six/seven.md')).toBe(true);
  });

  it('is not cut inside a character', () => {
    expect(shortenMiddle('😀'.repeat(30), 11)).toBe(`${'😀'.repeat(3)}…${'😀'.repeat(7)}`);
  });
});

describe('the parts of a path', () => {
  it('are the file and its folder', () => {
    expect(fileName('/a/b.md')).toBe('b.md');
    expect(folderOf('/a/b.md')).toBe('/a');
    expect(folderOf('/b.md')).toBe('/');
    expect(fileName('/')).toBe('/');
  });
});

describe('a typed path', () => {
  it.each([
    ['  /Users/ada/notes/  ', '/Users/ada/notes'],
    ["'/Users/ada/My notes'", '/Users/ada/My notes'],
    ['~/notes', '/Users/ada/notes'],
    ['~', '/Users/ada'],
    ['/', '/'],
  ])('%s means %s', (typed, meant) => {
    expect(typedPath(typed, '/Users/ada')).toBe(meant);
  });

  it.each(['', 'notes', './notes', '../notes', '~bob/notes', "''"])('%s is refused', (typed) => {
    expect(typedPath(typed, '/Users/ada')).toBeNull();
  });

  it('with a tilde is refused where the home folder is not known', () => {
    expect(typedPath('~/notes', null)).toBeNull();
  });
});

describe('the id of a model', () => {
  it('is two names with a slash between them, and no path', () => {
    expect(['Qwen/Qwen3-Embedding-0.6B', 'BAAI/bge-m3'].every(isModelId)).toBe(true);
    expect(['/a/b', '~/a', './a', '../a', 'a', 'a/b/c', 'a/', 'a b/c', ''].some(isModelId)).toBe(false);
  });
});
