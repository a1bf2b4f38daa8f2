import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';

import type { SearchResults } from '../../contract/contract';
import type { Method } from '../../platform';
import { MockPlatform } from '../../platform/mock';
import { Application } from '../../stores/application.svelte';
import { DEBOUNCE_MS, SearchStore } from './store.svelte';

let platform: MockPlatform;
let store: SearchStore;
/** Answers of searches under way, by query, for the test to settle in the order it likes. */
let pending: Map<string, { resolve: (results: SearchResults) => void; reject: (error: unknown) => void }>;

function answer(query: string, hits = 3): SearchResults {
  const results = platform.handlers.search({ query, limit: 30 });
  return { ...results, hits: results.hits.slice(0, hits) };
}

async function settle() {
  await vi.advanceTimersByTimeAsync(0);
}

beforeEach(() => {
  vi.useFakeTimers();
  platform = new MockPlatform();
  pending = new Map();
  vi.spyOn(platform, 'hideWindow');
  const call = platform.call.bind(platform) as (method: Method, params: unknown) => Promise<unknown>;
  platform.call = ((method: Method, params: { query: string }) => {
    if (method !== 'search') return call(method, params);
    return new Promise((resolve, reject) => pending.set(params.query, { resolve, reject }));
  }) as typeof platform.call;
  store = new SearchStore(new Application(platform));
});
afterEach(() => void vi.useRealTimers());

async function search(query: string, hits = 3) {
  store.type(query);
  await vi.advanceTimersByTimeAsync(DEBOUNCE_MS);
  pending.get(query)?.resolve(answer(query, hits));
  await settle();
}

describe('typing', () => {
  it('searches once, for what stands there when the typing pauses', async () => {
    for (const query of ['k', 'ke', 'key']) {
      store.type(query);
      await vi.advanceTimersByTimeAsync(DEBOUNCE_MS - 1);
    }
    expect(pending.size).toBe(0);
    await vi.advanceTimersByTimeAsync(1);
    expect([...pending.keys()]).toEqual(['key']);
  });

  it('drops an answer that comes after the query has changed', async () => {
    store.type('slow');
    await vi.advanceTimersByTimeAsync(DEBOUNCE_MS);
    await search('fast', 2);
    pending.get('slow')?.resolve(answer('slow', 3));
    await settle();
    expect(store.results?.query).toBe('fast');
    expect(store.hits).toHaveLength(2);
  });

  it('drops a failure of an earlier query too', async () => {
    store.type('slow');
    await vi.advanceTimersByTimeAsync(DEBOUNCE_MS);
    await search('fast');
    pending.get('slow')?.reject(new Error('too late'));
    await settle();
    expect(store.failure).toBeNull();
    expect(store.phase).toBe('done');
  });

  it('keeps the former hits until the new ones are there', async () => {
    await search('first');
    store.type('second');
    expect(store.phase).toBe('searching');
    expect(store.results?.query).toBe('first');
  });

  it('nothing clears everything and searches nothing', async () => {
    await search('first');
    store.type('  ');
    await vi.advanceTimersByTimeAsync(1000);
    expect(store.phase).toBe('idle');
    expect(store.hits).toEqual([]);
    expect(pending.size).toBe(1);
  });
});

describe('the keys', () => {
  it('move the selection and stop at both ends', async () => {
    await search('key', 6);
    const after = (key: string) => (store.move(key), store.selected);
    expect(after('ArrowUp')).toBe(0);
    expect(after('ArrowDown')).toBe(1);
    expect(after('PageDown')).toBe(5);
    expect(after('ArrowDown')).toBe(5);
    expect(after('Home')).toBe(0);
    expect(after('End')).toBe(5);
    expect(after('PageUp')).toBe(0);
  });

  it('that do not move are left to the field, and all of them where there are no hits', async () => {
    expect(store.move('ArrowDown')).toBe(false);
    await search('key');
    expect(store.move('a')).toBe(false);
    expect(store.move('constructor')).toBe(false);
  });

  it('start from the first hit after every new answer', async () => {
    await search('key');
    store.move('End');
    await search('keys');
    expect(store.selected).toBe(0);
  });
});

describe('opening', () => {
  it('opens the selected file and hides the window', async () => {
    await search('key');
    store.move('ArrowDown');
    await store.open();
    expect(platform.calls).toEqual([{ method: 'open', params: { path: store.hits[1]?.path } }]);
    expect(platform.hideWindow).toHaveBeenCalledOnce();
  });

  it('opens nothing while the hits on show belong to another query, and searches at once', async () => {
    await search('key');
    store.type('other');
    void store.open();
    await settle();
    expect(platform.calls).toEqual([]);
    expect(pending.has('other')).toBe(true);
  });

  it('that fails says so and keeps the hits', async () => {
    await search('key');
    platform.handlers.open = () => {
      throw { code: 'not_found', message: 'the file `/x` is gone', hint: null, retryable: false };
    };
    await store.open();
    expect(store.failure?.message).toContain('/x');
    expect(store.hits).toHaveLength(3);
    expect(platform.hideWindow).not.toHaveBeenCalled();
  });
});

it('a search that failed can be tried again', async () => {
  store.type('key');
  await vi.advanceTimersByTimeAsync(DEBOUNCE_MS);
  pending.get('key')?.reject({ code: 'worker_failed', message: 'the worker died', hint: null, retryable: true });
  await settle();
  expect(store.phase).toBe('failed');
  const again = store.again();
  pending.get('key')?.resolve(answer('key'));
  await again;
  expect(store.phase).toBe('done');
  expect(store.failure).toBeNull();
});
