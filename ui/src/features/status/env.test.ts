import { fireEvent, render, screen, within } from '@testing-library/svelte';
import { tick } from 'svelte';
import { describe, expect, it } from 'vitest';

import App from '../../App.svelte';
import type { EnvStatus } from '../../contract/contract';
import { ENV_STATES, MEND_FAILURE, MockPlatform } from '../../platform/mock';
import { Application } from '../../stores/application.svelte';

async function settle() {
  for (let turn = 0; turn < 4; turn++) await tick();
}

async function open(scenario = 'calm', changes: Partial<EnvStatus> = {}) {
  const platform = new MockPlatform(scenario);
  const { env } = platform.snapshot;
  if (env) platform.snapshot.env = { ...env, ...changes };
  render(App, { application: new Application(platform), view: 'panel' });
  await settle();
  return platform;
}

async function press(element: HTMLElement) {
  await fireEvent.click(element);
  await settle();
}

async function follow(path: string) {
  await fireEvent.input(screen.getByTestId('env-path'), { target: { value: path } });
  await press(screen.getByTestId('env-start'));
}

const section = () => screen.getByRole('region', { name: '.env file' });
const text = (testid: string) => screen.getByTestId(testid).textContent?.replace(/\s+/g, ' ').trim();
const field = () => screen.getByTestId('env-path') as HTMLInputElement;
const calls = (platform: MockPlatform, method: string) => platform.calls.filter((call) => call.method === method).map((call) => call.params);

/** A command that answers when the test says so. */
function held<T>() {
  let answer: (value: T) => void = () => {};
  let fail: (error: unknown) => void = () => {};
  const promise = new Promise<T>((resolve, reject) => ([answer, fail] = [resolve, reject]));
  return { promise, answer, fail };
}

describe('no followed file', () => {
  it('is one quiet line and a field', async () => {
    await open();
    expect(section().textContent).toContain('No .env is followed.');
    expect(field().value).toBe('');
    expect(screen.queryByTestId('env-state')).toBeNull();
    expect(screen.queryByRole('alert')).toBeNull();
  });

  it('is not claimed before the first snapshot', async () => {
    const platform = new MockPlatform();
    platform.watch = () => () => {};
    render(App, { application: new Application(platform), view: 'panel' });
    await settle();
    expect(section().textContent).toContain('Waiting for Embedbar');
    expect(section().textContent).not.toContain('is followed');
  });

  it('is what an application of an earlier version has', async () => {
    const platform = new MockPlatform();
    Reflect.deleteProperty(platform.snapshot, 'env');
    render(App, { application: new Application(platform), view: 'panel' });
    await settle();
    expect(section().textContent).toContain('No .env is followed.');
  });

  it('becomes one by its path, and what is followed first decides nothing', async () => {
    const platform = await open();
    await follow(' ~/src/papr-demo/ ');
    expect(calls(platform, 'follow')).toEqual([{ path: '/Users/ada/src/papr-demo' }]);
    expect(text('env-file')).toBe('~/src/papr-demo/.env');
    expect(text('env-state')).toBe('Not approved');
    expect(screen.queryByTestId('env-path')).toBeNull();
  });

  it.each([
    ['src/papr-demo', 'the path src/papr-demo is not absolute'],
    ['', 'no file is named'],
  ])('is explained below the field where %j was typed, and nothing is asked for', async (typed, words) => {
    const platform = await open();
    await follow(typed);
    expect(within(section()).getByRole('alert').textContent).toContain(words);
    expect(screen.getAllByRole('alert')).toHaveLength(1);
    expect(field().value).toBe(typed);
    expect(calls(platform, 'follow')).toEqual([]);
  });

  it('says in place why a file was refused and what to do, until it is dismissed', async () => {
    const platform = await open();
    platform.handlers.follow = () => {
      throw { code: 'not_found', message: 'there is no `/srv/.env`', hint: 'Name another file.', retryable: false };
    };
    await follow('/srv');
    const note = within(section()).getByRole('alert');
    expect(note.textContent).toContain('there is no /srv/.env');
    expect(note.textContent).toContain('Name another file.');
    expect(screen.getAllByRole('alert')).toHaveLength(1);
    expect(field().value).toBe('/srv');
    await press(within(note).getByLabelText('Dismiss'));
    expect(screen.queryByRole('alert')).toBeNull();
  });
});

describe('a followed file', () => {
  it('that is in force is named with its effect, and has no notice', async () => {
    await open('env');
    expect(text('env-file')).toBe('~/src/papr-demo/.env');
    expect(screen.getByTestId('env-file').title).toBe('/Users/ada/src/papr-demo/.env');
    expect(text('env-state')).toBe('In force');
    expect(text('env-effect')).toBe('Qwen3-Embedding-4B runs in INT8 with Core ML, as the file asks.');
    for (const testid of ['env-trust', 'env-held-back', 'env-finding', 'env-count', 'env-path']) {
      expect(screen.queryByTestId(testid)).toBeNull();
    }
  });

  it('says what it means once somebody asks: name, value and origin', async () => {
    await open('env');
    const toggle = screen.getByTestId('env-values-toggle');
    expect(toggle.textContent?.trim()).toBe('8 settings');
    expect(toggle.getAttribute('aria-expanded')).toBe('false');
    expect(screen.queryByTestId('env-values')).toBeNull();
    await press(toggle);
    expect(toggle.getAttribute('aria-expanded')).toBe('true');
    const list = screen.getByTestId('env-values');
    expect(document.getElementById(toggle.getAttribute('aria-controls') ?? '')?.contains(list)).toBe(true);
    const rows = [...list.querySelectorAll('div')].map((row) => [...row.querySelectorAll('dt, dd > span')].map((cell) => cell.textContent));
    expect(rows).toHaveLength(8);
    expect(rows[0]).toEqual(['backend', 'Core ML', '.env line 3 (PAPR_ENABLE_COREML)']);
    await press(toggle);
    expect(screen.queryByTestId('env-values')).toBeNull();
  });

  it('keeps what is unfolded when another snapshot comes', async () => {
    const platform = await open('env-findings');
    await press(screen.getByTestId('env-values-toggle'));
    await press(screen.getByTestId('env-findings-toggle'));
    const first = screen.getAllByTestId('env-finding')[0];
    platform.push(structuredClone(platform.snapshot));
    await settle();
    expect(screen.getByTestId('env-values')).toBeTruthy();
    expect(screen.getAllByTestId('env-finding')).toHaveLength(7);
    expect(screen.getAllByTestId('env-finding')[0]).toBe(first);
  });

  it('shows text as text', async () => {
    const mark = '<img src=x onerror=alert(1)>';
    await open('env', {
      approved: false,
      path: `/${mark}`,
      effect: mark,
      unapproved: [mark, mark],
      held_back: [mark, mark],
      findings: [1, 1].map((line) => ({ code: mark, severity: 'note', line, message: mark, mend: mark })),
      values: [{ name: mark, value: mark, origin: mark }],
    });
    await press(screen.getByTestId('env-values-toggle'));
    expect(section().querySelector('img')).toBeNull();
    expect(section().textContent?.split(mark)).toHaveLength(12);
  });

  it('is given up on request, and the field is back', async () => {
    const platform = await open('env');
    const button = screen.getByTestId('env-unfollow');
    button.focus();
    await press(button);
    expect(document.activeElement?.textContent?.trim()).toBe('No .env is followed.');
    expect(calls(platform, 'follow')).toEqual([{ path: null }]);
    expect(field().value).toBe('');
  });

  it('that cannot be given up says why in place', async () => {
    const platform = await open('env');
    platform.handlers.follow = () => {
      throw MEND_FAILURE;
    };
    await press(screen.getByTestId('env-unfollow'));
    expect(within(section()).getByRole('alert').textContent).toContain(MEND_FAILURE.hint);
    expect(screen.getAllByRole('alert')).toHaveLength(1);
    expect(text('env-state')).toBe('In force');
  });
});

describe('the findings', () => {
  const rows = () => screen.getAllByTestId('env-finding');
  const row = (code: string) => rows().find((item) => item.dataset['code'] === code) as HTMLElement;

  it('are listed as they are given, five at first and all on request', async () => {
    await open('env-findings');
    expect(text('env-count')).toBe('7 findings');
    expect(rows().map((item) => item.dataset['line'])).toEqual(['1', '2', '3', '6', '7']);
    await press(screen.getByText('Show all 7'));
    expect(rows().map((item) => item.dataset['line'])).toEqual(['1', '2', '3', '6', '7', '10', '12']);
    await press(screen.getByText('Show fewer'));
    expect(rows()).toHaveLength(5);
  });

  it('that are few have no button for more', async () => {
    await open('env-findings', { findings: [...ENV_STATES.findings.findings.slice(0, 5)] });
    expect(rows()).toHaveLength(5);
    expect(screen.queryByTestId('env-findings-toggle')).toBeNull();
  });

  it.each([
    ['byte_order_mark', 'Note', 'neutral'],
    ['unknown_name', 'Warning', 'warn'],
    ['true_only', 'Error', 'critical'],
  ])('say how bad they are: %s is a %s', async (code, word, tone) => {
    await open('env-findings');
    expect(within(row(code)).getByText(word).classList.contains(tone)).toBe(true);
  });

  it('say where and what, and offer a mend only where there is one', async () => {
    await open('env-findings');
    expect(row('coreml_and_mlx').textContent).toContain('line 7');
    expect(row('coreml_and_mlx').textContent).toContain('Core ML (line 3) and MLX are both on');
    const mend = within(row('coreml_and_mlx')).getByText('Mend');
    expect(mend.title).toBe('Comment out PAPR_ENABLE_MLX');
    expect(mend.getAttribute('aria-label')).toBe('Mend line 7: Comment out PAPR_ENABLE_MLX');
    expect(within(row('unknown_name')).queryByRole('button')).toBeNull();
  });

  it('are mended one at a time, and a mended one is gone with the answer', async () => {
    const platform = await open('env-findings');
    const { promise, answer } = held<{ env: EnvStatus }>();
    platform.handlers.mend_env = () => promise as never;
    await press(within(row('true_only')).getByText('Mend'));
    expect(calls(platform, 'mend_env')).toEqual([{ code: 'true_only', line: 3 }]);
    expect(within(row('true_only')).getByRole('button').textContent?.trim()).toBe('Mending…');
    const buttons = screen.getAllByTestId('env-mend') as HTMLButtonElement[];
    expect(buttons.every((button) => button.disabled)).toBe(true);

    const left = ENV_STATES.findings.findings.filter((finding) => finding.code !== 'true_only');
    answer({ env: { ...ENV_STATES.findings, findings: left } });
    await settle();
    expect(text('env-count')).toBe('6 findings');
    expect(row('true_only')).toBeUndefined();
    expect((screen.getAllByTestId('env-mend') as HTMLButtonElement[]).some((button) => button.disabled)).toBe(false);
  });

  it('follow the snapshots again after an answer', async () => {
    const platform = await open('env-findings');
    platform.handlers.mend_env = () => ({ env: ENV_STATES.fine, known: [] });
    await press(within(row('true_only')).getByText('Mend'));
    expect(screen.queryByTestId('env-finding')).toBeNull();
    platform.push({ ...platform.snapshot });
    await settle();
    expect(text('env-count')).toBe('7 findings');
  });

  it('that cannot be mended say why where they stand', async () => {
    const platform = await open('env-findings');
    platform.handlers.mend_env = () => {
      throw MEND_FAILURE;
    };
    await press(within(row('true_only')).getByText('Mend'));
    expect(within(row('true_only')).getByRole('alert').textContent).toContain(MEND_FAILURE.hint);
    expect(screen.getAllByRole('alert')).toHaveLength(1);
    await press(within(row('coreml_and_mlx')).getByText('Mend'));
    expect(within(row('coreml_and_mlx')).getByRole('alert')).toBeTruthy();
    expect(screen.getAllByRole('alert')).toHaveLength(1);
  });

  it('that are gone when their mend fails leave its explanation behind', async () => {
    const platform = await open('env-findings');
    const { promise, fail } = held();
    platform.handlers.mend_env = () => promise as never;
    await press(within(row('true_only')).getByText('Mend'));
    platform.push({ ...platform.snapshot, env: { ...ENV_STATES.findings, findings: [...ENV_STATES.findings.findings.slice(3)] } });
    fail(MEND_FAILURE);
    await settle();
    expect(row('true_only')).toBeUndefined();
    expect(within(section()).getByRole('alert').textContent).toContain(MEND_FAILURE.hint);
  });

  it('leave the keyboard in the section when the button under it is gone, and not on the next mend', async () => {
    await open('env-findings');
    const mend = within(row('true_only')).getByText('Mend');
    mend.focus();
    await press(mend);
    expect(mend.isConnected).toBe(false);
    expect(section().contains(document.activeElement)).toBe(true);
    expect(screen.getAllByTestId('env-mend')).not.toContain(document.activeElement);
  });
});

describe('a file that is not approved', () => {
  it('says that it changes nothing, what it would do and with which variables', async () => {
    await open('env-unapproved');
    expect(text('env-state')).toBe('Not approved');
    const question = screen.getByRole('group', { name: 'It changes nothing until you approve it' });
    expect(text('env-would')).toContain('would run in INT8 with Core ML');
    const list = within(question).getByRole('list', { name: 'Variables that would count' });
    expect(within(list).getAllByRole('listitem').map((item) => item.textContent)).toEqual(ENV_STATES.unapproved.unapproved);
    // What would be is not shown as if it were.
    expect(screen.queryByTestId('env-effect')).toBeNull();
  });

  it('decides once it is let', async () => {
    const platform = await open('env-unapproved');
    await press(screen.getByText('Let it decide'));
    expect(calls(platform, 'approve_env')).toEqual([{ variables: ENV_STATES.unapproved.unapproved }]);
    expect(screen.queryByTestId('env-trust')).toBeNull();
    expect(text('env-state')).toBe('In force');
  });

  it('cannot be approved twice at once, and a refusal is told in its place', async () => {
    const platform = await open('env-unapproved');
    const { promise, fail } = held();
    platform.handlers.approve_env = () => promise as never;
    await press(screen.getByTestId('env-approve'));
    expect((screen.getByTestId('env-approve') as HTMLButtonElement).disabled).toBe(true);
    expect((screen.getByTestId('env-unfollow') as HTMLButtonElement).disabled).toBe(true);
    fail(MEND_FAILURE);
    await settle();
    expect(within(screen.getByTestId('env-trust')).getByRole('alert').textContent).toContain(MEND_FAILURE.hint);
    expect((screen.getByTestId('env-approve') as HTMLButtonElement).disabled).toBe(false);
  });
});

describe('a save that is held back', () => {
  it('is told with its reasons, beside what holds', async () => {
    await open('env-held', { held_back: ['line 7 is not UTF-8', 'the model `bge` is not there'] });
    expect(text('env-state')).toBe('Held back');
    const notice = screen.getByTestId('env-held-back');
    expect(notice.textContent).toContain('The last save is not in force');
    expect(within(notice).getAllByRole('listitem').map((item) => item.textContent)).toEqual(['line 7 is not UTF-8', 'the model bge is not there']);
    expect(text('env-effect')).toContain('runs in INT8');
  });

  it('of a file that waits for approval is told too', async () => {
    await open('env-unapproved', { held_back: ['line 7 is not UTF-8'] });
    expect(text('env-state')).toBe('Not approved');
    expect(screen.getByTestId('env-held-back')).toBeTruthy();
    expect(screen.getByTestId('env-trust')).toBeTruthy();
  });

  it('is told no longer once a save is in force', async () => {
    const platform = await open('env-held');
    platform.push({ ...platform.snapshot, env: ENV_STATES.fine });
    await settle();
    expect(screen.queryByTestId('env-held-back')).toBeNull();
    expect(text('env-state')).toBe('In force');
  });
});

describe('a model that was chosen elsewhere', () => {
  const lines = () => within(screen.getByTestId('env-chosen-lines')).getAllByRole('listitem').map((item) => item.textContent);

  it('is said to answer for now, with every line that would change, and is written by one press with these lines', async () => {
    const platform = await open('env-chosen');
    expect(screen.getByTestId('env-chosen').textContent).toContain('Qwen3-Embedding-0.6B-int8 answers until you quit');
    expect(lines()).toEqual([
      '4EMBEDBAR_MODEL=Qwen3-Embedding-4B  # the large one',
      '4EMBEDBAR_MODEL=Qwen3-Embedding-0.6B  # the large one',
      '12EMBEDBAR_PRECISION=int8',
    ]);
    const { promise, answer } = held<{ env: EnvStatus }>();
    platform.handlers.keep_in_env = () => promise as never;
    await press(screen.getByTestId('env-keep'));
    expect((screen.getByTestId('env-keep') as HTMLButtonElement).disabled).toBe(true);
    expect(calls(platform, 'keep_in_env')).toEqual([{ changes: ENV_STATES.chosen.chosen.changes }]);
    answer({ env: ENV_STATES.fine });
    await settle();
    expect(screen.queryByTestId('env-chosen')).toBeNull();
  });

  it('says where it was asked for why nothing was written', async () => {
    const platform = await open('env-chosen');
    platform.handlers.keep_in_env = () => {
      throw MEND_FAILURE;
    };
    await press(screen.getByTestId('env-keep'));
    expect(within(screen.getByTestId('env-chosen')).getByRole('alert').textContent).toContain(MEND_FAILURE.hint);
    expect(lines()).toHaveLength(3);
  });

  it('offers nothing where the file cannot say it', async () => {
    await open('env-refused');
    expect(text('env-chosen-refused')).toContain('an unfinished quote');
    expect(screen.queryByTestId('env-keep')).toBeNull();
  });
});
