import { beforeEach, describe, expect, it } from 'vitest';

import type { InstallOffer } from '../../contract/contract';
import type { Method } from '../../platform';
import { MockPlatform } from '../../platform/mock';
import { HUB_OFFER, MODELS, NO_MODEL } from '../../platform/mock-library';
import { Application } from '../../stores/application.svelte';
import { LibraryStore } from './store.svelte';

let platform: MockPlatform;
let store: LibraryStore;

beforeEach(() => {
  platform = new MockPlatform();
  const application = new Application(platform);
  application.start();
  store = new LibraryStore(application);
});

const asked = (method: Method) => platform.calls.filter((call) => call.method === method).map((call) => call.params);

/** Holds the answers to a command back, for the test to give in the order it likes. */
function hold(method: Method): ((answer: unknown) => void)[] {
  const answers: ((answer: unknown) => void)[] = [];
  const call = platform.call.bind(platform) as (name: Method, params: unknown) => Promise<unknown>;
  platform.call = ((name: Method, params: unknown) =>
    name === method ? new Promise<unknown>((resolve) => answers.push(resolve)) : call(name, params)) as unknown as typeof platform.call;
  return answers;
}

describe('looking', () => {
  it('asks about what was typed, with the home folder for a tilde and without blanks', async () => {
    await store.look(' ~/Downloads/bge-small-en-v1.5/ ');
    await store.look(' owner/name:Q8_0 ');
    await store.look('https://huggingface.co/owner/name');
    expect(asked('inspect')).toEqual([
      { source: '/Users/ada/Downloads/bge-small-en-v1.5' },
      { source: 'owner/name:Q8_0' },
      { source: 'https://huggingface.co/owner/name' },
    ]);
  });

  it('at nothing asks nothing and says what could be typed', async () => {
    await store.look('  ');
    expect(asked('inspect')).toEqual([]);
    expect(store.failureOf('look')?.hint).toContain('Qwen/Qwen3-Embedding-0.6B');
  });

  it('drops an answer that comes after something else was looked at, or nothing any more', async () => {
    const answers = hold('inspect');
    const [first, second] = [store.look('a/first'), store.look('a/second')];
    const offer = (name: string): InstallOffer => ({ ...HUB_OFFER, name });
    answers[1]?.(offer('second'));
    answers[0]?.(offer('first'));
    await Promise.all([first, second]);
    expect(store.offer?.name).toBe('second');
    const third = store.look('a/third');
    store.cancelOffer();
    answers[2]?.(offer('third'));
    await third;
    expect(store.offer).toBeNull();
    expect(store.looked).toBeNull();
  });

  it('that fails keeps what was typed', async () => {
    await store.look('/Users/ada/Documents/handbook');
    expect(store.failureOf('look')).toEqual(NO_MODEL);
    expect(store.source).toBe('/Users/ada/Documents/handbook');
    expect(store.offer).toBeNull();
  });
});

describe('installing', () => {
  it('asks for the size and the commit that were shown and for nothing that was not chosen', async () => {
    await store.look('Qwen/Qwen3-Embedding-4B');
    expect(asked('install')).toEqual([]);
    await store.install({ inPlace: false, ladder: ['int8'] });
    expect(asked('install')).toEqual([
      {
        source: 'Qwen/Qwen3-Embedding-4B',
        agreed_bytes: HUB_OFFER.download?.fetch_bytes,
        commit: HUB_OFFER.download?.commit,
        name: HUB_OFFER.name,
        leave_in_place: false,
        ladder: ['int8'],
      },
    ]);
    expect(store.offer).toBeNull();
    expect(store.source).toBe('');
  });

  it('of files on this machine agrees to no download', async () => {
    await store.look('/Users/ada/Downloads/bge-small-en-v1.5');
    await store.install({ inPlace: true, ladder: [] });
    expect(asked('install')).toMatchObject([{ agreed_bytes: null, commit: null, leave_in_place: true, ladder: [] }]);
  });

  it('that is refused keeps the offer and says why', async () => {
    platform.handlers.install = () => {
      throw { code: 'invalid_request', message: 'it is larger now', hint: 'Look at it again.', retryable: false };
    };
    await store.look('Qwen/Qwen3-Embedding-4B');
    await store.install({ inPlace: false, ladder: [] });
    expect(store.offer).not.toBeNull();
    expect(store.failureOf('install')?.message).toBe('it is larger now');
  });

  it('twice by a nervous hand asks once', async () => {
    await store.look('Qwen/Qwen3-Embedding-4B');
    const choices = { inPlace: false, ladder: [] };
    await Promise.all([store.install(choices), store.install(choices)]);
    expect(asked('install')).toHaveLength(1);
  });

  it('of nothing asks nothing', async () => {
    await store.install({ inPlace: false, ladder: [] });
    expect(asked('install')).toEqual([]);
  });
});

describe('the list', () => {
  it('shows a model that has just arrived, unless something else is looked at', async () => {
    const arrived = { ...(MODELS[1] as (typeof MODELS)[number]), id: 'new' };
    await store.refresh();
    expect(store.selected).toBeNull();
    platform.models = [...MODELS, arrived];
    await store.refresh();
    expect(store.selected).toBe('new');
    platform.models = [...platform.models, { ...arrived, id: 'newer' }];
    await store.refresh();
    expect(store.selected).toBe('new');
  });

  it('lets go of a model that is no longer there', async () => {
    await store.refresh();
    await store.show('bge-m3');
    platform.models = MODELS.filter((model) => model.id !== 'bge-m3');
    await store.refresh();
    expect(store.selected).toBeNull();
    expect(store.details).toBeNull();
  });

  it('keeps the details of the model that was chosen last', async () => {
    await store.refresh();
    const answers = hold('show_model');
    const [first, second] = [store.show('qwen3-embedding-4b'), store.show('bge-m3')];
    const details = (id: string) => ({ model: MODELS.find((model) => model.id === id), origin: null, card: null, certificate: null });
    answers[1]?.(details('bge-m3'));
    answers[0]?.(details('qwen3-embedding-4b'));
    await Promise.all([first, second]);
    expect(store.details?.model.id).toBe('bge-m3');
  });
});

describe('removing', () => {
  it('keeps the receipt, and the model is gone', async () => {
    await store.refresh();
    await store.show('Qwen3-Embedding-0.6B');
    await store.remove('Qwen3-Embedding-0.6B');
    expect(store.removed?.receipt).toMatchObject({ freed_bytes: 4100 });
    expect(store.removed?.receipt.kept).toHaveLength(1);
    expect(store.models.some((model) => model.id === 'Qwen3-Embedding-0.6B')).toBe(false);
    expect(store.selected).toBeNull();
  });
});

describe('exporting', () => {
  const model = MODELS[2] as (typeof MODELS)[number];

  it('converts the model to the path that was typed', async () => {
    await store.exportTo(model, 'fp16', { kind: 'gguf' }, '~/Desktop/x.gguf');
    expect(asked('convert')).toEqual([{ source: model.path, precision: 'fp16', format: { kind: 'gguf' }, target: '/Users/ada/Desktop/x.gguf', make_room: null }]);
  });

  it('to a path that is not absolute is explained, and nothing is asked for', async () => {
    await store.exportTo(model, 'fp16', { kind: 'gguf' }, 'x.gguf');
    expect(asked('convert')).toEqual([]);
    expect(store.failureOf('convert')?.message).toContain('`x.gguf`');
  });
});

it('the limit that was set anywhere is read with the token', async () => {
  await store.readSettings();
  expect(store.limit).toBe(3_000_000);
  expect(store.token?.kept).toBe(false);
});

it('no limit is told as none, which is no rate of zero bytes', async () => {
  await store.setLimit(5_000_000);
  await store.setLimit(0);
  expect(asked('limit_downloads')).toEqual([{ bytes_per_second: 5_000_000 }, { bytes_per_second: null }]);
  expect(store.limit).toBe(0);
});
