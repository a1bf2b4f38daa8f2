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
  it('says what was chosen, and shows every candidate with its numbers on request', async () => {
    await open();
    expect(text('plan-choice')).toContain('INT8, CPU: needs 100.0 MB');
    expect(screen.queryByRole('list', { name: 'Candidates' })).toBeNull();
    await fireEvent.click(screen.getByTestId('plan-toggle'));
    const rows = within(screen.getByRole('list', { name: 'Candidates' })).getAllByRole('listitem');
    expect(rows.map((row) => row.textContent?.trim().split(' ').at(-1))).toEqual(['Active', 'make', 'Out']);
  });

  it('tells what the governor did, why, and what that changed', async () => {
    const platform = new MockPlatform();
    const event = { id: 1, age_seconds: 12, failed: null, effect: null };
    platform.snapshot.governor.events = [
      { ...event, id: 2, measure: 'step_down', reason: 'INT8 is replaced by 4-bit: short of memory for 24 s', effect: '2.1 GB more are available' },
      { ...event, measure: 'step_up', reason: 'it has been calm', failed: 'it is no longer installed' },
    ];
    platform.snapshot.governor.stand_in = 'MiniLM stands in for Qwen3';
    await open(platform);
    const items = within(screen.getByTestId('governor-events')).getAllByRole('listitem').map((item) => item.textContent);
    expect(items[0]).toContain('Stepped down');
    expect(items[0]).toContain('2.1 GB more are available');
    expect(items[1]).toContain('It failed: it is no longer installed');
    expect(text('stand-in')).toContain('stands in for Qwen3');
  });

  it('of a model that nobody knows is not shown', async () => {
    const platform = new MockPlatform();
    platform.snapshot.governor.plan = null;
    await open(platform);
    expect(screen.queryByRole('region', { name: 'Precision' })).toBeNull();
  });
});

describe('a simulated machine', () => {
  it.each(['panel', 'search'] as const)('is marked in the %s, and a real one is not', async (view) => {
    const platform = new MockPlatform();
    platform.snapshot.memory.simulated = '16gb-docker';
    const shown = render(App, { application: new Application(platform), view });
    await tick();
    await tick();
    expect(text('simulated')).toContain('SIMULATED machine: 16gb-docker');
    shown.unmount();
    render(App, { application: new Application(new MockPlatform()), view });
    await tick();
    await tick();
    expect(screen.queryByTestId('simulated')).toBeNull();
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
