import { fireEvent, render, screen, within } from '@testing-library/svelte';
import { tick } from 'svelte';
import { afterEach, describe, expect, it, vi } from 'vitest';

import App from '../../App.svelte';
import { MockPlatform } from '../../platform/mock';
import { download, HUB_OFFER, PATH_OFFER, SET_ASIDE } from '../../platform/mock-library';
import { Application } from '../../stores/application.svelte';

async function settle() {
  for (let turn = 0; turn < 6; turn += 1) await tick();
}

async function open(platform = new MockPlatform()) {
  render(App, { application: new Application(platform), view: 'library' });
  await settle();
  return platform;
}

const text = (element: HTMLElement | null | undefined) => element?.textContent?.replace(/\s+/g, ' ').trim() ?? '';
const at = (testid: string) => text(screen.getByTestId(testid));
const asked = (platform: MockPlatform, method: string) => platform.calls.filter((call) => call.method === method).map((call) => call.params);
const row = (id: string) => screen.getAllByTestId('library-model').find((model) => model.dataset['id'] === id) as HTMLElement;

async function press(testid: string) {
  await fireEvent.click(screen.getByTestId(testid));
  await settle();
}

async function choose(id: string) {
  await fireEvent.click(row(id));
  await settle();
}

async function look(source: string) {
  await fireEvent.input(screen.getByTestId('library-source'), { target: { value: source } });
  await press('library-look');
}

afterEach(() => history.replaceState(null, '', '/'));

describe('the list', () => {
  it('says that it is being read until it is', async () => {
    const platform = new MockPlatform();
    platform.call = () => new Promise(() => {});
    await open(platform);
    expect(at('library-waiting')).toBe('Reading the models…');
  });

  it('that cannot be read says why and can be read again', async () => {
    const platform = new MockPlatform();
    const works = platform.handlers.models;
    platform.handlers.models = () => {
      throw { code: 'io', message: 'the folder `models` cannot be read', hint: null, retryable: true };
    };
    await open(platform);
    expect(text(screen.getByRole('alert'))).toContain('cannot be read');
    platform.handlers.models = works;
    await fireEvent.click(screen.getByText('Try again'));
    await settle();
    expect(screen.queryByRole('alert')).toBeNull();
    expect(screen.getAllByTestId('library-model')).toHaveLength(6);
  });

  it('shows precision, kind, size and trust of each model, and what all take together', async () => {
    await open();
    expect(text(row('all-MiniLM-L6-v2'))).toMatch(/active Not tested INT8 · GGUF · 24\.8 MB, bundled/);
    expect(text(row('Qwen3-Embedding-0.6B'))).toMatch(/Tested FP16 · safetensors · 1\.2 GB, shared/);
    expect(screen.getAllByTestId('library-health').map(text)).toEqual(['Not tested', 'Tested', 'Tested', 'Not tested', 'Set aside', 'Files gone']);
    expect(at('library-totals')).toBe('7.0 GB in all, shared files counted once; 5.7 GB in Embedbar’s folder');
  });

  it('is walked through with the arrow keys', async () => {
    await open();
    row('all-MiniLM-L6-v2').focus();
    await fireEvent.keyDown(row('all-MiniLM-L6-v2'), { key: 'ArrowDown' });
    expect(document.activeElement).toBe(row('qwen3-embedding-4b'));
    await fireEvent.keyDown(row('qwen3-embedding-4b'), { key: 'ArrowUp' });
    await fireEvent.keyDown(row('all-MiniLM-L6-v2'), { key: 'ArrowUp' });
    expect(document.activeElement).toBe(row('all-MiniLM-L6-v2'));
  });

  it('is read again when a job about models has ended', async () => {
    const platform = await open(new MockPlatform('downloading'));
    const before = asked(platform, 'models').length;
    platform.push({ ...platform.snapshot, jobs: [download(11, { done: 3e9 })] });
    await settle();
    expect(asked(platform, 'models')).toHaveLength(before);
    platform.push({ ...platform.snapshot, jobs: [download(11, { state: { state: 'done' }, detail: 'moved' })] });
    await settle();
    expect(asked(platform, 'models')).toHaveLength(before + 1);
  });
});

describe('a model', () => {
  it('shows each check of its self-test, what it costs here and where it is from', async () => {
    await open();
    await choose('Qwen3-Embedding-0.6B');
    expect(within(screen.getByTestId('model-checks')).getAllByRole('listitem')).toHaveLength(7);
    expect(at('model-checks')).toContain('cosine of at least 0.99998');
    expect(at('model-costs')).toContain('1,840 tokens a second');
    expect(at('model-origin')).toMatch(/Commit\s*c54f2e6e80b2… ?Licence/);
    await fireEvent.click(screen.getByText('3 files'));
    expect(screen.getByText('model.safetensors').parentElement?.querySelector('code')?.title).toMatch(/^sha256 [0-9a-f]{64}$/);
  });

  it('that was set aside says why and cannot be used, only tested again or removed', async () => {
    await open();
    await choose('bge-m3');
    expect(at('model-reason')).toMatch(/^Unit norm: the norms of 4 of 12/);
    expect(screen.queryByTestId('model-use')).toBeNull();
    expect(screen.queryByTestId('model-sdk')).toBeNull();
    expect(screen.getByTestId('model-verify')).toBeTruthy();
    expect(screen.getByTestId('model-remove')).toBeTruthy();
    expect(screen.getByTestId('model-checks').querySelectorAll('.bad')).toHaveLength(1);
  });

  it('whose files are gone says which and can only be removed', async () => {
    await open();
    await choose('snowflake-arctic-embed-s');
    expect(at('model-reason')).toContain('is not there');
    for (const action of ['use', 'verify', 'reveal', 'sdk', 'export']) expect(screen.queryByTestId(`model-${action}`)).toBeNull();
    expect(screen.getByTestId('model-remove')).toBeTruthy();
  });

  it('that came with the program or is active cannot be removed', async () => {
    await open();
    await choose('all-MiniLM-L6-v2');
    expect(screen.queryByTestId('model-remove')).toBeNull();
    expect(screen.queryByTestId('model-use')).toBeNull();
    const platform = new MockPlatform();
    document.body.innerHTML = '';
    platform.models = platform.models.map((model) => ({ ...model, active: model.id === 'qwen3-embedding-4b' }));
    await open(platform);
    await choose('qwen3-embedding-4b');
    expect((screen.getByTestId('model-remove') as HTMLButtonElement).disabled).toBe(true);
  });

  it('is used, tested and shown in the file manager by its name', async () => {
    const platform = await open();
    await choose('Qwen3-Embedding-0.6B');
    await press('model-use');
    await press('model-verify');
    await press('model-reveal');
    for (const method of ['activate', 'verify', 'reveal']) expect(asked(platform, method)).toEqual([{ model: 'Qwen3-Embedding-0.6B' }]);
  });

  it('that cannot be used says why beside its buttons', async () => {
    const platform = await open();
    platform.handlers.activate = () => {
      throw { code: 'worker_failed', message: 'the worker died', hint: 'Verify it.', retryable: false };
    };
    await choose('qwen3-embedding-4b');
    await press('model-use');
    expect(text(screen.getByRole('alert'))).toContain('the worker died');
  });

  it('is removed only after a question that says what that gives back and what stays', async () => {
    const platform = await open();
    await choose('Qwen3-Embedding-0.6B');
    await press('model-remove');
    expect(at('remove-card')).toContain('4.1 kB on the disk are given back. 1.2 GB in other folders stay');
    expect(document.activeElement).toBe(screen.getByTestId('remove-no'));
    await press('remove-no');
    expect(asked(platform, 'remove')).toEqual([]);
    await press('model-remove');
    await press('remove-yes');
    expect(asked(platform, 'remove')).toEqual([{ model: 'Qwen3-Embedding-0.6B' }]);
    expect(at('library-removed')).toContain('Qwen3-Embedding-0.6B is removed. 4.1 kB were given back.');
    expect(at('library-removed')).toContain('stay: they are not Embedbar');
    expect(screen.getAllByTestId('library-model')).toHaveLength(5);
  });

  it('gets its lines into the .env only after they were seen', async () => {
    const platform = await open();
    await choose('Qwen3-Embedding-0.6B');
    await press('model-sdk');
    expect(at('sdk-lines')).toContain('PAPR_ENABLE_COREML=false');
    expect(asked(platform, 'keep_sdk_lines')).toEqual([]);
    await press('sdk-keep');
    expect(asked(platform, 'keep_sdk_lines')).toMatchObject([{ model: 'Qwen3-Embedding-0.6B', changes: [{ number: 4 }, { number: 9 }] }]);
    expect(at('sdk-written')).toContain('~/src/papr-demo/.env');
  });

  it('that the SDK cannot use says so, and without a .env the lines are shown to be copied', async () => {
    const platform = await open();
    const lines = platform.handlers.sdk_lines;
    platform.handlers.sdk_lines = (choice) => ({ ...lines(choice), lines: [], changes: [], refused: 'the SDK reads no such files' });
    await choose('qwen3-embedding-4b');
    await press('model-sdk');
    expect(at('sdk-refused')).toBe('The SDK reads no such files.');
    platform.handlers.sdk_lines = (choice) => ({ ...lines(choice), file: null, changes: [] });
    await press('model-sdk');
    await press('model-sdk');
    expect(at('sdk-lines')).toContain('PAPR_ONDEVICE_PROCESSING=true');
    expect(screen.queryByTestId('sdk-keep')).toBeNull();
  });

  it('of safetensors can be prepared and exported, any other cannot', async () => {
    const platform = await open();
    await choose('qwen3-embedding-4b');
    expect(screen.queryByTestId('model-export')).toBeNull();
    await choose('Qwen3-Embedding-0.6B');
    await press('model-prepare-4bit');
    await press('model-export');
    expect((screen.getByTestId('export-path') as HTMLInputElement).value).toBe('~/Desktop/Qwen3-Embedding-0.6B-int8.gguf');
    await fireEvent.click(screen.getByLabelText('Core ML'));
    await fireEvent.click(screen.getByLabelText('FP16'));
    expect((screen.getByTestId('export-path') as HTMLInputElement).value).toBe('~/Desktop/Qwen3-Embedding-0.6B-fp16.mlpackage');
    await press('export-start');
    expect(asked(platform, 'convert')).toMatchObject([
      { precision: '4bit', format: { kind: 'gguf' }, target: null },
      { precision: 'fp16', format: { kind: 'mlpackage', system: 'macos14', recipe: 'native' }, target: '/Users/ada/Desktop/Qwen3-Embedding-0.6B-fp16.mlpackage' },
    ]);
    expect(screen.queryByTestId('export-card')).toBeNull();
  });
});

describe('an offer', () => {
  it('of the hub says what would be fetched, where to and how much room there is; the button names the size', async () => {
    const platform = await open();
    await look('Qwen/Qwen3-Embedding-4B');
    const rows = at('offer-rows');
    for (const part of ['Qwen/Qwen3-Embedding-4B', '5cf2132abc99…', '7.5 GB of 8.1 GB in 9 files', 'qwen3, 2,560 dimensions', 'at most 32,768 tokens', 'about 8.3 GB', '~/.cache/hugg', 'Apache-2.0', '61.3 GB']) expect(rows).toContain(part);
    expect(screen.queryByTestId('offer-in-place')).toBeNull();
    expect(at('offer-install')).toBe('Download 7.5 GB');
    expect(at('offer')).toContain('tokenizer.json is another file than the one that the catalogue knows.');
    expect(asked(platform, 'install')).toEqual([]);
    await fireEvent.click(screen.getByTestId('offer-ladder-int8'));
    await press('offer-install');
    expect(asked(platform, 'install')).toMatchObject([{ agreed_bytes: HUB_OFFER.download?.fetch_bytes, ladder: ['int8'] }]);
    expect(within(screen.getByRole('list', { name: 'Work on models' })).getByText('Install Qwen/Qwen3-Embedding-4B')).toBeTruthy();
    expect(screen.queryByTestId('offer')).toBeNull();
  });

  it('of a folder says what it is and what a person should know, and can leave it where it is', async () => {
    const platform = await open();
    await look('~/Downloads/bge-small-en-v1.5');
    const rows = at('offer-rows');
    for (const part of ['safetensors, F32, 134.2 MB', 'bert, 384 dimensions, 33 M parameters', 'at most 512 tokens', '210.0 MB', 'MIT']) expect(rows).toContain(part);
    expect(at('offer')).toContain('pytorch_model.bin is a pickle');
    expect(at('offer-replaces')).toContain('It replaces the bge-small-en-v1.5');
    expect((screen.getByTestId('offer-ladder-int8') as HTMLInputElement).disabled).toBe(true);
    expect(at('offer-install')).toBe('Install');
    await fireEvent.click(screen.getByTestId('offer-in-place'));
    await press('offer-install');
    expect(asked(platform, 'install')).toMatchObject([{ source: PATH_OFFER.source, leave_in_place: true, agreed_bytes: null }]);
  });

  it('for which the disk has no room says so with the numbers', async () => {
    const platform = new MockPlatform();
    platform.handlers.inspect = () => ({ ...HUB_OFFER, disk_available_bytes: 8e9 });
    await open(platform);
    await look('Qwen/Qwen3-Embedding-4B');
    expect(screen.queryByTestId('offer-disk')).toBeNull();
    await fireEvent.click(screen.getByTestId('offer-ladder-int8'));
    expect(at('offer-disk')).toBe('This takes 11.8 GB, and 8.0 GB are free on the disk.');
  });

  it('forgets what was ticked on the one before', async () => {
    await open();
    await look('Qwen/Qwen3-Embedding-4B');
    await fireEvent.click(screen.getByTestId('offer-ladder-int8'));
    await look('Qwen/Qwen3-Embedding-0.6B');
    expect((screen.getByTestId('offer-ladder-int8') as HTMLInputElement).checked).toBe(false);
  });

  it('is given up by Cancel and by Escape, and nothing was fetched', async () => {
    const platform = await open();
    await look('Qwen/Qwen3-Embedding-4B');
    await press('offer-cancel');
    expect(screen.queryByTestId('offer')).toBeNull();
    await look('Qwen/Qwen3-Embedding-4B');
    await fireEvent.keyDown(window, { key: 'Escape' });
    await settle();
    expect(screen.queryByTestId('offer')).toBeNull();
    expect(document.activeElement).toBe(screen.getByTestId('library-source'));
    expect(asked(platform, 'install')).toEqual([]);
  });

  it('of something that is no model says why, and what else could be done with it', async () => {
    const platform = await open();
    await look('~/Documents/handbook');
    expect(text(screen.getByRole('alert'))).toContain('is no model');
    expect(text(screen.getByRole('alert'))).toContain('Name a folder with config.json');
    await press('offer-index');
    expect(asked(platform, 'index')).toEqual([{ paths: ['/Users/ada/Documents/handbook'] }]);
    expect(screen.queryByRole('alert')).toBeNull();
  });

  it('of a repository that is not there leads to the token', async () => {
    await open();
    await look('acme/private');
    expect(screen.queryByTestId('offer-index')).toBeNull();
    await press('offer-token');
    expect(screen.getByTestId('token-field')).toBeTruthy();
  });

  it('is a click away for well-known models where nothing is looked at', async () => {
    const platform = await open(new MockPlatform('empty'));
    await fireEvent.click(screen.getAllByTestId('library-suggestion')[0] as HTMLElement);
    await settle();
    expect(asked(platform, 'inspect')).toEqual([{ source: 'BAAI/bge-small-en-v1.5' }]);
    expect((screen.getByTestId('library-source') as HTMLInputElement).value).toBe('BAAI/bge-small-en-v1.5');
  });
});

describe('work on models', () => {
  it('shows a download with figures, rate and time left; it can be paused and cancelled', async () => {
    const platform = await open(new MockPlatform('downloading'));
    const job = screen.getByTestId('job');
    expect(text(within(job).getByTestId('job-figures'))).toBe('2.9 GB of 7.5 GB · 11.8 MB/s · 7 min left');
    expect(within(job).getByRole('progressbar').getAttribute('aria-valuenow')).toBe('39');
    await fireEvent.click(within(job).getByText('Cancel'));
    await press('library-pause');
    expect(asked(platform, 'cancel')).toEqual([{ id: 11 }]);
    expect(asked(platform, 'pause')).toEqual([{ paused: true }]);
    expect(at('library-pause')).toBe('Resume all');
  });

  it('lets one download wait and go on by itself, but not what is paused with everything', async () => {
    const platform = await open(new MockPlatform('downloading'));
    const hold = () => screen.getByTestId('job-hold');
    await fireEvent.click(hold());
    await settle();
    expect([text(screen.getByTestId('job-state')), text(hold())]).toEqual(['Paused', 'Resume']);
    await fireEvent.click(hold());
    await settle();
    expect([text(screen.getByTestId('job-state')), text(hold())]).toEqual(['Running', 'Pause']);
    expect(asked(platform, 'hold')).toEqual([{ id: 11, held: true }, { id: 11, held: false }]);
    platform.push({ ...platform.snapshot, paused: true, jobs: platform.snapshot.jobs.map((job) => ({ ...job, state: { state: 'paused' } })) });
    await settle();
    expect(screen.queryByTestId('job-hold')).toBeNull();
  });

  it('that failed says why and what to do, and can be taken off the list', async () => {
    await open(new MockPlatform('download-failed'));
    expect(screen.getAllByTestId('job')).toHaveLength(3);
    expect(text(screen.getByRole('alert'))).toContain(SET_ASIDE.hint?.slice(0, 20));
    await fireEvent.click(screen.getByLabelText('Take “Verify bge-m3” off the list'));
    expect(screen.queryByRole('alert')).toBeNull();
    expect(screen.getAllByTestId('job')).toHaveLength(2);
  });
});

describe('downloads', () => {
  it('tell where the token is from; one that is typed is kept and not shown again', async () => {
    const platform = await open();
    expect(asked(platform, 'token')).toEqual([]);
    await press('downloads-toggle');
    expect(at('token-status')).toContain('No token is sent');
    const field = screen.getByTestId('token-field') as HTMLInputElement;
    expect(field.type).toBe('password');
    await fireEvent.input(field, { target: { value: ' hf_secret ' } });
    await press('token-keep');
    expect(asked(platform, 'set_token')).toEqual([{ token: 'hf_secret' }]);
    expect(field.value).toBe('');
    expect(document.body.innerHTML).not.toContain('hf_secret');
    await press('token-forget');
    expect(asked(platform, 'set_token').at(-1)).toEqual({ token: null });
  });

  it('are as fast as a person says; what was set elsewhere is among the choices', async () => {
    const platform = await open();
    await press('downloads-toggle');
    const limit = screen.getByTestId('library-limit') as HTMLSelectElement;
    expect(limit.selectedOptions[0]?.textContent).toBe('3.0 MB/s');
    await fireEvent.change(limit, { target: { value: '5000000' } });
    await settle();
    expect(asked(platform, 'limit_downloads')).toEqual([{ bytes_per_second: 5_000_000 }]);
  });
});

describe('something that is dropped', () => {
  it('is named while it is held over the window, and looked at', async () => {
    const platform = await open();
    platform.drag('over', ['/Users/ada/Downloads/bge-small-en-v1.5']);
    await settle();
    expect(at('drop-target')).toContain('bge-small-en-v1.5');
    platform.drag('leave');
    await settle();
    expect(screen.queryByTestId('drop-target')).toBeNull();
    platform.drag('drop', ['/Users/ada/Downloads/bge-small-en-v1.5']);
    await settle();
    expect(asked(platform, 'inspect')).toEqual([{ source: '/Users/ada/Downloads/bge-small-en-v1.5' }]);
    expect(screen.getByTestId('offer')).toBeTruthy();
    expect(asked(platform, 'install')).toEqual([]);
  });

  it('in a browser has no path, and the page says so', async () => {
    const platform = await open();
    platform.drag('drop');
    await settle();
    expect(text(screen.getByRole('alert'))).toContain('does not tell where a file lies');
    expect(asked(platform, 'inspect')).toEqual([]);
  });

  it('on the panel opens the library with it; a .env is followed', async () => {
    const platform = new MockPlatform();
    render(App, { application: new Application(platform), view: 'panel' });
    await settle();
    platform.drag('drop', ['/Users/ada/Models/x.gguf']);
    await settle();
    expect(platform.libraryOpened).toEqual(['/Users/ada/Models/x.gguf']);
    platform.drag('drop', ['/Users/ada/src/demo/.env']);
    await settle();
    expect(platform.libraryOpened).toHaveLength(1);
    expect(asked(platform, 'follow')).toEqual([{ path: '/Users/ada/src/demo/.env' }]);
    await press('library-open');
    expect(platform.libraryOpened.at(-1)).toBeNull();
  });
});

it('what the address names is looked at, once, now and later', async () => {
  history.replaceState(null, '', '/?view=library#look=%2FUsers%2Fada%2Fa+model%26b');
  const platform = await open();
  expect(asked(platform, 'inspect')).toEqual([{ source: '/Users/ada/a model&b' }]);
  expect(location.hash).toBe('');
  const changed = new Promise((resolve) => addEventListener('hashchange', resolve, { once: true }));
  location.hash = 'look=owner%2Fname';
  await changed;
  await vi.waitFor(() => expect(asked(platform, 'inspect')).toHaveLength(2));
  expect(asked(platform, 'inspect')[1]).toEqual({ source: 'owner/name' });
});
