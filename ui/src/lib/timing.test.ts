import { expect, it } from 'vitest';

import { parts } from './timing';

const record = (queue: number, tokenize: number, forward: number, search: number | null, total: number) => ({
  embedding_ms: { queue, tokenize, forward, total: queue + tokenize + forward },
  search_ms: search,
  total_ms: total,
});

it('the parts come in the order in which they happened and leave out what took no time', () => {
  expect(parts(record(1, 0, 6, 2, 10)).map((part) => part.step)).toEqual(['queue', 'forward', 'search']);
});

it('shares are of the whole, what no step accounts for included', () => {
  expect(parts(record(1, 1, 6, 1, 10)).reduce((sum, part) => sum + part.share, 0)).toBeCloseTo(0.9);
});

it('shares never add up to more than the whole when the steps measured more than the total', () => {
  expect(parts(record(5, 5, 5, 5, 10)).reduce((sum, part) => sum + part.share, 0)).toBeCloseTo(1);
});

it('a query that was not timed has no parts', () => {
  expect(parts(record(0, 0, 0, null, 0))).toEqual([]);
});
