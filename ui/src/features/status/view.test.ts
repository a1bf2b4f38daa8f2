import { fireEvent, render, screen, within } from '@testing-library/svelte';
import { tick } from 'svelte';
import { describe, expect, it } from 'vitest';

import App from '../../App.svelte';
import { conversion, CONVERSION_FAILURE, FAILURE, MockPlatform, MODEL_STATES, nothingRead, sampleSnapshot } from '../../platform/mock';
import { Application } from '../../stores/application.svelte';

async function open(platform = new MockPlatform()) {
  render(App, { application: new Application(platform), view: 'panel' });
  await tick();
  await tick();
  return platform;
}

/** With plain spaces, where a figure is kept together with its unit. */
const plain = (testid: string) => screen.getByTestId(testid).textContent?.replace(/\s+/g, ' ').trim();
const text = (testid: string) => screen.getByTestId(testid).textContent?.trim();

describe('the memory of the machine', () => {
  it('is shown as it was read', async () => {
    await open();
    expect(text('panel-memory-available')).toBe('5.2 GB');
    expect(text('panel-memory-total')).toBe('16.0 GB');
    expect(text('panel-pressure')).toBe('Normal');
  });

  it('that could not be read is a dash everywhere and a 0 nowhere', async () => {
    await open(new MockPlatform('unread'));
    expect(text('panel-memory-available')).toBe('–');
    expect(text('panel-memory-total')).toBe('–');
    expect(text('panel-pressure')).toBe('–');
    const section = screen.getByRole('region', { name: 'Memory of this machine' });
    const figures = [...section.querySelectorAll('dd')].map((figure) => figure.textContent);
    expect(figures).toHaveLength(6);
    expect(new Set(figures)).toEqual(new Set(['–']));
  });

  it('does not claim what the others use where our own share could not be measured', async () => {
    const platform = new MockPlatform();
    platform.snapshot.memory = { ...sampleSnapshot().memory, worker_bytes: null };
    await open(platform);
    const section = screen.getByRole('region', { name: 'Memory of this machine' });
    expect(within(section).getByText('Everything else').nextElementSibling?.textContent).toBe('–');
  });

  it('is told apart by program, and nothing is read before somebody looks', async () => {
    const platform = await open();
    expect(platform.calls.some((call) => call.method === 'machine')).toBe(false);
    await fireEvent.click(screen.getByTestId('programs-toggle'));
    await tick();
    await tick();
    const list = within(screen.getByTestId('programs'));
    expect(list.getAllByRole('listitem').map((item) => item.textContent?.replace(/\s+/g, ' ').trim())).toEqual([
      'Docker 4.1 GB',
      'Cursor 2.3 GB',
      'Safari 1.6 GB',
      'postgres 409.6 MB',
    ]);
    expect(list.getByText(/^Disk/).textContent).toContain('61.3 GB free of 494.0 GB');
  });

  it('whose programs cannot be listed says so', async () => {
    await open(new MockPlatform('unread'));
    await fireEvent.click(screen.getByTestId('programs-toggle'));
    await tick();
    await tick();
    expect(screen.getByTestId('programs').textContent).toContain('could not be listed');
    expect(screen.getByText(/^Disk/).textContent).toContain('–');
  });

  it('before the first snapshot is a dash too', async () => {
    const platform = new MockPlatform();
    platform.watch = () => () => {};
    await open(platform);
    expect(text('panel-memory-available')).toBe('–');
    expect(text('panel-model')).toBe('–');
    expect(text('panel-model-state')).toBe('–');
  });
});

describe('the model', () => {
  it.each([
    ['idle', 'all-MiniLM-L6-v2', 'Not loaded', '–'],
    ['loading', 'qwen3-embedding-4b', 'Loading…', '–'],
    ['ready', 'all-MiniLM-L6-v2', 'Ready', 'INT8'],
    ['failed', 'qwen3-embedding-4b', 'Failed', '–'],
  ] as const)('that is %s is named with its state and precision', async (state, name, word, precision) => {
    const platform = new MockPlatform();
    platform.snapshot.model = MODEL_STATES[state];
    await open(platform);
    expect(text('panel-model')).toBe(name);
    expect(text('panel-model-state')).toBe(word);
    expect(text('panel-precision')).toBe(precision);
  });

  it('that failed says why and what to do', async () => {
    await open(new MockPlatform('failed'));
    const section = screen.getByRole('region', { name: 'Model' });
    expect(section.textContent).toContain('model.gguf');
    expect(section.textContent).toContain(FAILURE.hint);
  });

  it('that was restarted says how often', async () => {
    const platform = new MockPlatform();
    platform.snapshot.model = { ...MODEL_STATES.ready, restarts: 2 };
    await open(platform);
    expect(screen.getByText(/2 restarts/)).toBeTruthy();
  });

  it('can be switched from the list', async () => {
    const platform = await open();
    await fireEvent.click(screen.getByText('Switch'));
    await fireEvent.click(screen.getByText('qwen3-embedding-4b'));
    expect(platform.calls).toContainEqual({ method: 'activate', params: { model: 'qwen3-embedding-4b' } });
  });
});

describe('the plan', () => {
  const rows = () => within(screen.getByRole('list', { name: 'Candidates' })).getAllByRole('listitem');
  const marks = (row: HTMLElement) => [...row.querySelectorAll('.marks > span')].map((mark) => mark.textContent);

  it('says what is wanted and what was chosen, and shows every candidate with its numbers on request', async () => {
    await open();
    expect(text('plan-wish')).toBe('Wanted: all-MiniLM-L6-v2. The precision follows the memory.');
    expect(plain('plan-choice')).toBe('INT8, CPU Needs 100.0 MB, 5.2 GB is free, 1.3 GB reserve (8 % of memory): fits');
    expect(screen.queryByRole('list', { name: 'Candidates' })).toBeNull();
    await fireEvent.click(screen.getByTestId('plan-toggle'));
    expect(rows().map(marks)).toEqual([['Active', 'Chosen'], ['Not installed'], ['Not used', 'Not installed']]);
    expect(rows()[2]?.textContent).toContain('The exact mode is used where it is asked for');
  });

  it('that was made against the numbers is a warning, and tells candidates without room from those that a rule forbids', async () => {
    await open(new MockPlatform('short'));
    const choice = screen.getByTestId('plan-choice');
    expect(choice.classList.contains('caution')).toBe(true);
    expect(plain('plan-choice')).toContain('asked for, but INT8, CPU: needs 4.6 GB');
    expect(text('plan-shortage')).toContain('Nothing large is loaded now: the system is short of memory');
    await fireEvent.click(screen.getByTestId('plan-toggle'));
    expect(rows().map((row) => [row.querySelector('.name')?.textContent, ...marks(row)])).toEqual([
      ['INT8, Core ML (GPU)', 'Not used', 'Not installed'],
      ['INT8, CPU', 'Chosen', 'Does not fit'],
      ['4-bit, CPU', 'Does not fit'],
      ['all-MiniLM-L6-v2 INT8, CPU', 'Active'],
    ]);
    expect(rows().map((row) => row.classList.contains('quiet'))).toEqual([true, false, false, false]);
  });

  it('that fits is none', async () => {
    await open();
    expect(screen.getByTestId('plan-choice').classList.contains('caution')).toBe(false);
    expect(screen.queryByTestId('worth-making')).toBeNull();
    expect(screen.queryByTestId('plan-shortage')).toBeNull();
  });

  it('leads from what is worth making to the form, which is set to it and waits for the source', async () => {
    await open(new MockPlatform('worth-making'));
    expect(plain('worth-making')).toContain('Worth making: FP16, CPU: needs 119.9 MB');
    await fireEvent.click(screen.getByTestId('convert-toggle'));
    expect((screen.getByLabelText('INT8') as HTMLInputElement).checked).toBe(true);
    await fireEvent.click(screen.getByTestId('worth-making-form'));
    expect((screen.getByLabelText('FP16') as HTMLInputElement).checked).toBe(true);
    expect((screen.getByLabelText('GGUF') as HTMLInputElement).checked).toBe(true);
    expect(document.activeElement).toBe(screen.getByTestId('convert-source'));
  });

  it('of a model that nobody knows is not shown', async () => {
    const platform = new MockPlatform();
    platform.snapshot.governor.plan = null;
    await open(platform);
    expect(screen.queryByRole('region', { name: 'Precision' })).toBeNull();
  });
});

describe('the governor', () => {
  it('tells what it did, why, and what that changed or why it failed, the newest first', async () => {
    await open(new MockPlatform('short'));
    const items = () => screen.getAllByTestId('governor-event').map((item) => item.textContent?.replace(/\s+/g, ' ').trim() ?? '');
    expect(items()).toHaveLength(3);
    await fireEvent.click(screen.getByTestId('governor-toggle'));
    expect(items()).toHaveLength(6);
    expect(items().map((item) => /^(.+?) \d+ (?:s|min|h) ago/.exec(item)?.[1])).toEqual([
      'Left as it is',
      'Stepped down',
      'Batch size',
      'Unloaded',
      'Stepped up',
      'Worker replaced',
    ]);
    expect(items()[0]).toBe(
      'Left as it is 12 s ago Qwen3-Embedding-4B INT8, CPU stays: its precision was chosen explicitly: the system has been short of memory for 24 s, now WARN',
    );
    expect(items()[1]).toContain('2 min ago');
    expect(items()[1]).toContain('It failed: Qwen3-Embedding-4B 4-bit, CPU is no longer installed');
    expect(items()[2]).toContain('Batches are a quarter as large');
    expect(items()[2]).toContain('Afterwards 43.8 kB more are available');
  });

  it('says beside the model what stands in for another one, and that batches are small', async () => {
    await open(new MockPlatform('short'));
    const section = within(screen.getByRole('region', { name: 'Model' }));
    expect(section.getByTestId('stand-in').textContent?.trim()).toBe(
      'all-MiniLM-L6-v2 stands in for Qwen3-Embedding-4B, for which there is no room now.',
    );
    expect(section.getByTestId('small-batches')).toBeTruthy();
  });

  it('that had nothing to do says nothing', async () => {
    await open();
    for (const testid of ['governor-events', 'stand-in', 'small-batches']) expect(screen.queryByTestId(testid)).toBeNull();
  });
});

describe('a simulated machine', () => {
  const show = async (view: 'panel' | 'search' | 'both', scenario: string) => {
    render(App, { application: new Application(new MockPlatform(scenario)), view });
    await tick();
    await tick();
  };

  it.each([
    ['panel', 1],
    ['search', 1],
    ['both', 2],
  ] as const)('is marked at the top of each window (%s)', async (view, windows) => {
    await show(view, 'simulated');
    const bands = screen.getAllByTestId('simulated');
    expect(bands).toHaveLength(windows);
    for (const band of bands) {
      expect(band.textContent).toContain('SIMULATED machine: 16gb-docker, 60 times as fast');
      expect(band.title).toBe('The machine’s memory is a recording; the models, their sizes and vectors are real.');
      expect(band.parentElement?.firstElementChild).toBe(band);
    }
  });

  it('is marked beside its figures: the gauge, the history and the receipt of a clean-up', async () => {
    await show('panel', 'simulated');
    const section = within(screen.getByRole('region', { name: 'Memory of this machine' }));
    expect(section.getByTestId('simulated-badge').textContent).toBe('SIMULATED');
    expect(section.getByRole('img').getAttribute('aria-label')).toMatch(/^Simulated: /);
    expect(section.getByRole('figure').getAttribute('aria-label')).toMatch(/^Simulated: /);
    await fireEvent.click(screen.getByTestId('cleanup'));
    expect(within(await screen.findByTestId('cleanup-receipt')).getByTestId('simulated-badge')).toBeTruthy();
  });

  it.each(['panel', 'search', 'both'] as const)('is the only one that is marked (%s)', async (view) => {
    await show(view, 'calm');
    if (view !== 'search') {
      await fireEvent.click(screen.getByTestId('cleanup'));
      await screen.findByTestId('cleanup-receipt');
    }
    expect(document.body.innerHTML.toLowerCase()).not.toContain('simulated');
  });
});

describe('other programs', () => {
  it('are asked about only when somebody looks, and asked to give back only what was ticked', async () => {
    const platform = await open();
    expect(platform.calls.some((call) => call.method === 'offers')).toBe(false);
    await fireEvent.click(screen.getByTestId('offers-toggle'));
    await tick();
    await tick();
    expect(screen.getByTestId('offers').textContent).toContain('Stop the container postgres');
    expect((screen.getByTestId('offers-accept') as HTMLButtonElement).disabled).toBe(true);
    await fireEvent.click(within(screen.getByTestId('offers')).getByRole('checkbox'));
    await fireEvent.click(screen.getByTestId('offers-accept'));
    expect(platform.calls).toContainEqual({ method: 'accept_offers', params: { ids: ['docker:1'] } });
    expect((await screen.findByTestId('offers-receipt')).textContent).toContain('Nothing was gained');
  });
});

describe('a server on the network', () => {
  it('is used only after a word that says what leaves', async () => {
    const platform = new MockPlatform();
    platform.snapshot.remote = {
      host: 'example.org',
      model: 'small',
      what_leaves: 'The text of every query leaves this machine for `example.org`.',
      consent: 'unasked',
      agreement: null,
    };
    await open(platform);
    expect(text('remote-consent')).toBe('Asks');
    expect(text('remote-leaves')).toContain('leaves this machine');
    await fireEvent.click(screen.getByTestId('remote-allow'));
    expect(platform.calls).toContainEqual({ method: 'allow_remote', params: { host: 'example.org', model: 'small', allow: true } });
  });
});

describe('the index', () => {
  it('says what to do where it is empty', async () => {
    await open(new MockPlatform('empty'));
    expect(screen.getByText(/Nothing can be found yet/)).toBeTruthy();
  });

  it('takes a path, and keeps one that is not absolute in the field with an explanation', async () => {
    const platform = await open();
    const field = screen.getByTestId('index-path') as HTMLInputElement;
    await fireEvent.input(field, { target: { value: 'notes' } });
    await fireEvent.click(screen.getByTestId('index-start'));
    expect((await screen.findByRole('alert')).textContent).toContain('not an absolute path');
    expect(field.value).toBe('notes');
    await fireEvent.input(field, { target: { value: '~/notes' } });
    await fireEvent.click(screen.getByTestId('index-start'));
    expect(platform.calls).toContainEqual({ method: 'index', params: { paths: ['/Users/ada/notes'] } });
  });

  it('shows a job with its state and stops it on request', async () => {
    const platform = await open();
    const job = screen.getByTestId('job');
    expect(text('job-state')).toBe('Running');
    expect(job.textContent).toContain('312 of 840 files');
    await fireEvent.click(within(job).getByText('Cancel'));
    expect(platform.calls).toContainEqual({ method: 'cancel', params: { id: 7 } });
  });

  it('lists the files that were skipped with their reasons, and says how many it does not list', async () => {
    await open();
    await fireEvent.click(screen.getByText('3 skipped', { exact: false }));
    expect(screen.getByText('12.4 MB, over the limit of 4.0 MB')).toBeTruthy();
    expect(screen.getByText(/1 file not listed here/)).toBeTruthy();
  });

  it('gives up a folder only after a second word', async () => {
    const platform = await open();
    await fireEvent.click(screen.getByLabelText('Remove /Users/ada/Documents/handbook from the index'));
    expect(platform.calls.map((call) => call.method)).not.toContain('forget');
    await fireEvent.click(screen.getByText('Remove'));
    expect(platform.calls).toContainEqual({ method: 'forget', params: { path: '/Users/ada/Documents/handbook' } });
  });
});

describe('a conversion', () => {
  async function openForm() {
    const platform = await open();
    await fireEvent.click(screen.getByTestId('convert-toggle'));
    return platform;
  }

  async function ask(source: string) {
    await fireEvent.input(screen.getByTestId('convert-source'), { target: { value: source } });
    await fireEvent.click(screen.getByTestId('convert-start'));
    await tick();
    await tick();
  }

  it('is asked for with an id or a path, and everything else is chosen already', async () => {
    const platform = await openForm();
    await ask('Qwen/Qwen3-Embedding-0.6B');
    await ask('~/models/bge-m3');
    const common = { precision: 'int8', format: { kind: 'gguf' }, target: null, make_room: null };
    expect(platform.calls.filter((call) => call.method === 'convert').map((call) => call.params)).toEqual([
      { ...common, source: 'Qwen/Qwen3-Embedding-0.6B' },
      { ...common, source: '/Users/ada/models/bge-m3' },
    ]);
    expect((screen.getByTestId('convert-source') as HTMLInputElement).value).toBe('');
  });

  it('of a source that is neither is explained, and the source stays in the field', async () => {
    const platform = await openForm();
    await ask('bge-m3');
    expect((await screen.findByRole('alert')).textContent).toContain('neither an absolute path nor the id');
    expect((screen.getByTestId('convert-source') as HTMLInputElement).value).toBe('bge-m3');
    expect(platform.calls.some((call) => call.method === 'convert')).toBe(false);
  });

  it('that is refused says why and what to do, and the source stays in the field', async () => {
    const platform = await openForm();
    platform.handlers.convert = () => {
      throw CONVERSION_FAILURE;
    };
    await ask('/models/bge-m3');
    expect((await screen.findByRole('alert')).textContent).toContain(CONVERSION_FAILURE.hint);
    expect((screen.getByTestId('convert-source') as HTMLInputElement).value).toBe('/models/bge-m3');
  });

  it('to a package says for which system and with which recipe', async () => {
    const platform = await openForm();
    expect(screen.queryByLabelText('macOS 13')).toBeNull();
    await fireEvent.click(screen.getByLabelText('Core ML'));
    await fireEvent.click(screen.getByLabelText('15'));
    await fireEvent.click(screen.getByLabelText('Papr SDK'));
    await fireEvent.click(screen.getByLabelText('FP16'));
    await ask('/models/bge-m3');
    expect(platform.calls.at(-1)?.params).toEqual({
      source: '/models/bge-m3',
      precision: 'fp16',
      format: { kind: 'mlpackage', system: 'macos15', recipe: 'papr' },
      target: null,
      make_room: null,
    });
  });

  it('to 4-bit Core ML is called an experiment, any other one is not', async () => {
    await openForm();
    await fireEvent.click(screen.getByLabelText('4-bit'));
    expect(screen.queryByTestId('convert-caution')).toBeNull();
    await fireEvent.click(screen.getByLabelText('Core ML'));
    expect(text('convert-caution')).toMatch(/^experimental .*wrong vectors on real Macs/);
    await fireEvent.click(screen.getByLabelText('INT8'));
    expect(screen.queryByTestId('convert-caution')).toBeNull();
  });

  it('shows bytes, rate and time left, and stops on request', async () => {
    const platform = await open(new MockPlatform('converting'));
    const section = screen.getByRole('region', { name: 'Model' });
    const job = within(section).getByTestId('job');
    expect(within(job).getByTestId('job-figures').textContent).toBe('5.1 GB of 12.3 GB · 212.0 MB/s · 34 s left');
    expect(job.textContent).toContain('Qwen3-Embedding-4B to INT8 GGUF');
    expect(within(job).getByRole('progressbar').getAttribute('aria-valuenow')).toBe('41');
    await fireEvent.click(within(job).getByText('Cancel'));
    expect(platform.calls).toContainEqual({ method: 'cancel', params: { id: 8 } });
    expect(within(screen.getByRole('region', { name: 'Index' })).getAllByTestId('job')).toHaveLength(1);
  });

  it('that waits says for what and has no rate, one that failed says what to do', async () => {
    await open(new MockPlatform('held'));
    const [, held, failed] = screen.getAllByTestId('job') as [HTMLElement, HTMLElement, HTMLElement];
    expect(within(held).getByTestId('job-state').textContent).toBe('Paused');
    expect(held.textContent).toContain('paused: memory is short');
    expect(held.textContent).not.toContain('/s');
    expect(within(failed).getByRole('alert').textContent).toContain(CONVERSION_FAILURE.hint);
  });

  it('that is done has the models read again, and its model can be used', async () => {
    const platform = await open(new MockPlatform('converting'));
    const reads = () => platform.calls.filter((call) => call.method === 'models').length;
    const before = reads();
    const target = '/models/new.gguf';
    platform.push({ ...platform.snapshot, jobs: [conversion(8, { state: { state: 'done' }, detail: '4.3 GB from 8.0 GB', target })] });
    await tick();
    await tick();
    expect(reads()).toBe(before + 1);
    await fireEvent.click(screen.getByText('Use it'));
    expect(platform.calls).toContainEqual({ method: 'activate', params: { model: target } });
  });
});

describe('the last queries', () => {
  it('are shown with their totals, the newest first, and all of them on request', async () => {
    await open();
    expect(screen.getAllByTestId('query-row')).toHaveLength(3);
    await fireEvent.click(screen.getByText('Show all 5'));
    const rows = screen.getAllByTestId('query-row');
    expect(rows).toHaveLength(5);
    expect(Number(rows[0]?.dataset['totalMs'])).toBeCloseTo(12);
    expect(within(rows[0] as HTMLElement).getByRole('img').getAttribute('aria-label')).toBe(
      'wait 0.4 ms, tokenise 0.3 ms, forward 7.9 ms, search 3.1 ms',
    );
  });
});

describe('the buttons', () => {
  it('clean up and show the receipt, unmeasured items as dashes', async () => {
    await open();
    await fireEvent.click(screen.getByTestId('cleanup'));
    const receipt = await screen.findByTestId('cleanup-receipt');
    expect([...receipt.querySelectorAll('dd')].map((figure) => figure.textContent)).toEqual([
      '118.0 MB',
      '14.0 MB',
      '–',
      '5.2 GB → 5.5 GB',
    ]);
  });

  it('pause and resume', async () => {
    const platform = await open();
    await fireEvent.click(screen.getByTestId('pause'));
    expect(platform.calls.at(-1)).toEqual({ method: 'pause', params: { paused: true } });
    expect(text('pause')).toBe('Resume');
  });

  it('that fail say why, once, and the note can be dismissed', async () => {
    const platform = await open();
    platform.handlers.cleanup = () => {
      throw { code: 'overloaded', message: 'another clean-up is running', hint: 'Wait a moment.', retryable: true };
    };
    await fireEvent.click(screen.getByTestId('cleanup'));
    await screen.findByRole('alert');
    await fireEvent.click(screen.getByTestId('cleanup'));
    await tick();
    expect(screen.getAllByRole('alert')).toHaveLength(1);
    await fireEvent.click(screen.getByLabelText('Dismiss'));
    expect(screen.queryByRole('alert')).toBeNull();
  });
});

describe('a lost stream', () => {
  it('is marked on the page until it is back', async () => {
    const platform = await open(new MockPlatform('lost'));
    const root = document.documentElement;
    expect(root.classList.contains('reconnecting')).toBe(true);
    expect(screen.getByTestId('reconnecting').textContent).toContain('Reconnecting');
    platform.push(sampleSnapshot());
    await tick();
    expect(root.classList.contains('reconnecting')).toBe(false);
    expect(screen.queryByTestId('reconnecting')).toBeNull();
  });
});

it('a reading of nothing has no figure in it', () => {
  expect(Object.values(nothingRead()).every((value) => value === null)).toBe(true);
});
