/** Rules of the source that no compiler keeps. */
import { expect, it } from 'vitest';

const sources = import.meta.glob<string>(['./**/*.ts', './**/*.svelte', '!./**/*.test.ts'], {
  query: '?raw',
  import: 'default',
  eager: true,
});

function filesWith(pattern: RegExp): string[] {
  return Object.entries(sources)
    .filter(([, text]) => pattern.test(text))
    .map(([path]) => path);
}

it('there are sources to look at', () => {
  expect(Object.keys(sources).length).toBeGreaterThan(30);
});

it('only the platform names the desktop shell or the network', () => {
  const users = filesWith(/from '@tauri-apps\/|\bfetch\(|\bEventSource\(|\bWebSocket\(/);
  expect(users.length).toBeGreaterThan(0);
  expect(users.filter((path) => !path.startsWith('./platform/'))).toEqual([]);
});

it('no text from a file or a person becomes markup', () => {
  expect(filesWith(/\{@html|innerHTML|insertAdjacentHTML/)).toEqual([]);
});

it('no style stands in the markup, where the content security policy would refuse it', () => {
  expect(filesWith(/\sstyle="/)).toEqual([]);
});
