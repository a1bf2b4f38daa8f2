/**
 * Sample data without an application behind it: for tests of the views and for looking at them (`?mock=SCENARIO`). Everything
 * is made up and the same each time; views that show it say so.
 */
import type { Commands, EnvFinding, EnvStatus, Failure, GovernorEvent, GovernorStatus, Hit, Job, JobState, MemoryPoint, ModelInfo, ModelState, PlanStatus, Pressure, QueryRecord, Snapshot, TokenStatus } from '../contract/contract';
import { onPageDrop } from './drop';
import { libraryPage, mainPage, onLook } from './look';
import { details, download, HUB_OFFER, MODELS, NO_MODEL, NO_REPOSITORY, PATH_OFFER, SDK, SET_ASIDE, TOKEN } from './mock-library';
import type { Connection, FileDrop, Method, Params, Platform, Reply, Watcher } from './types';

const GIB = 1024 ** 3;
const MIB = 1024 ** 2;

const generation = { model: 'all-MiniLM-L6-v2', revision: '9f3c61d0a47be852', precision: 'int8', recipe: 'native' } as const;

export const FAILURE: Failure = {
  code: 'model_invalid',
  message: 'the file `/Users/ada/Models/qwen3-embedding-4b/model.gguf` ends after `1.2 GB` of `4.3 GB`',
  hint: 'Download or copy it again, or switch to another model.',
  retryable: false,
};

export const CONVERSION_FAILURE: Failure = {
  code: 'io',
  message: 'the disk of `/Users/ada/Library/Application Support/Embedbar` has `1200000000` bytes free; `2300000000` are needed',
  hint: 'Free some space, or choose a target on another disk or a smaller precision.',
  retryable: false,
};

export const MODEL_STATES = {
  idle: { state: 'idle' },
  loading: { state: 'loading', model: 'qwen3-embedding-4b' },
  ready: {
    state: 'ready',
    generation,
    dims: 384,
    backend: 'cpu',
    max_tokens: 256,
    worker_pid: 4711,
    load_ms: 412.4,
    restarts: 0,
  },
  failed: { state: 'failed', model: 'qwen3-embedding-4b', failure: FAILURE },
} as const satisfies Record<ModelState['state'], ModelState>;

export const MEND_FAILURE: Failure = {
  code: 'io',
  message: '`/Users/ada/src/papr-demo/.env` cannot be written: permission denied',
  hint: 'Make it writable for you, or change the line yourself.',
  retryable: false,
};

function finding(line: number, severity: EnvFinding['severity'], code: string, message: string, mend: string | null): EnvFinding {
  return { code, severity, line, message, mend };
}

/** A file that is approved, in force and without a fault. */
const followed: EnvStatus = {
  path: '/Users/ada/src/papr-demo/.env',
  approved: true,
  unapproved: [],
  held_back: [],
  findings: [],
  values: [
    { name: 'backend', value: 'Core ML', origin: '`.env` line 3 (`PAPR_ENABLE_COREML`)' },
    { name: 'model', value: '/Users/ada/Models/Qwen3-Embedding-4B-int8.mlpackage', origin: '`.env` line 4 (`PAPR_COREML_MODEL`)' },
    { name: 'precision', value: 'int8', origin: '`.env` line 5 (`PAPR_COREML_VARIANT`)' },
    { name: 'recipe', value: 'papr', origin: '`.env` line 9 (`EMBEDBAR_RECIPE`)' },
    { name: 'idle', value: 'unloaded after 30 min', origin: 'default' },
    { name: 'pinned', value: 'no', origin: 'default' },
    { name: 'smaller', value: 'no', origin: 'default' },
    { name: 'remote', value: 'never asked', origin: 'default' },
  ],
  effect: '`Qwen3-Embedding-4B` runs in INT8 with Core ML, as the file asks.',
  chosen: null,
};

/** What can be the matter with a followed file. */
export const ENV_STATES = {
  fine: followed,
  findings: {
    ...followed,
    findings: [
      finding(1, 'note', 'byte_order_mark', 'The file begins with a byte order mark. A shell and python-dotenv up to 1.2.1 take it for a part of the first name, which is then not set. Save it as UTF-8 without a byte order mark.', 'Remove the byte order mark'),
      finding(2, 'error', 'readable_by_others', '`PAPR_MEMORY_API_KEY` and 1 more can be read by other users of this machine: the file’s mode is 644. Make it readable by you alone.', 'Set the mode of the file to 600'),
      finding(3, 'error', 'true_only', '`PAPR_ENABLE_COREML=1` turns Core ML on and loads sentence-transformers (16 GB) as well. Write `PAPR_ENABLE_COREML=true`.', 'Write `PAPR_ENABLE_COREML=true`'),
      finding(6, 'warning', 'unknown_name', 'Nothing reads `PAPR_COREML_VARIENT`. Did you mean `PAPR_COREML_VARIANT`?', null),
      finding(7, 'error', 'coreml_and_mlx', 'Core ML (line 3) and MLX are both on: Core ML wins. If it fails, for example because the package is missing, the SDK tries MLX, which has never worked, and ends by loading sentence-transformers, about 16 GB. Comment MLX out.', 'Comment out `PAPR_ENABLE_MLX`'),
      finding(10, 'warning', 'duplicate', '`EMBEDBAR_IDLE_MINUTES` is set again in line 14, which wins: this line has no effect.', 'Comment out `EMBEDBAR_IDLE_MINUTES` in line 10'),
      finding(12, 'note', 'unreleased_only', '`PAPR_COREML_COMPUTE_UNITS` is read by the branch `development-coreml` only. The release always says `ALL`.', null),
    ],
  },
  unapproved: {
    ...followed,
    approved: false,
    unapproved: ['EMBEDBAR_RECIPE', 'PAPR_COREML_MODEL', 'PAPR_COREML_VARIANT', 'PAPR_ENABLE_COREML', 'PAPR_ONDEVICE_PROCESSING'],
    effect: '`Qwen3-Embedding-4B` would run in INT8 with Core ML and take about 4.3 GB, in place of `all-MiniLM-L6-v2`.',
  },
  chosen: {
    ...followed,
    effect: '`Qwen3-Embedding-0.6B-int8` was chosen elsewhere and answers until Embedbar ends.',
    chosen: {
      model: 'Qwen3-Embedding-0.6B-int8',
      changes: [
        { number: 4, before: 'EMBEDBAR_MODEL=Qwen3-Embedding-4B  # the large one', after: 'EMBEDBAR_MODEL=Qwen3-Embedding-0.6B  # the large one' },
        { number: 12, before: null, after: 'EMBEDBAR_PRECISION=int8' },
      ],
      refused: null,
    },
  },
  refused: {
    ...followed,
    chosen: {
      model: 'Qwen3-Embedding-0.6B-int8',
      changes: [],
      refused: '`EMBEDBAR_MODEL` cannot be written: an unfinished quote elsewhere in the file would swallow it',
    },
  },
  held: {
    ...followed,
    held_back: ['the quote that opens in line 7 is never closed: that line is not read'],
  },
} as const satisfies Record<string, EnvStatus>;

function query(id: number, label: string, age: number, [queue, tokenize, forward, search]: [number, number, number, number | null]): QueryRecord {
  const embedding = queue + tokenize + forward;
  return {
    id,
    kind: search === null ? 'embed' : 'search',
    label,
    age_seconds: age,
    tokens: 8 + (id % 5),
    embedding_ms: { queue, tokenize, forward, total: embedding },
    search_ms: search,
    total_ms: embedding + (search ?? 0) + 0.3,
    generation,
  };
}

function job(id: number, state: JobState, title: string, done: number, total: number | null, detail: string): Job {
  const none = { target: null, bytes_per_second: null, seconds_left: null };
  return { id, kind: 'index', title, state, unit: 'files', done, total, detail, elapsed_ms: 41_000 + id * 1000, held: false, ...none };
}

/** A conversion in the middle of its work. */
export function conversion(id: number, changes: Partial<Job> = {}): Job {
  const state = changes.state ?? { state: 'running' };
  const done = job(id, state, 'Qwen3-Embedding-4B to INT8 GGUF', 5.1e9, 12.3e9, 'converting blk.17.ffn_down.weight');
  return {
    ...done,
    kind: 'convert',
    unit: 'bytes',
    target: '/Users/ada/Library/Application Support/Embedbar/models/Qwen3-Embedding-4B-int8/Qwen3-Embedding-4B-int8.gguf',
    bytes_per_second: 212e6,
    seconds_left: 34,
    ...changes,
  };
}

export const SAMPLE_PLAN: PlanStatus = {
  model: 'all-MiniLM-L6-v2',
  wish: 'the precision follows the memory',
  candidates: [
    { candidate: 'all-MiniLM-L6-v2 INT8, CPU', sentence: 'INT8, CPU: needs 100.0 MB, 5.2 GB is free, 1.3 GB reserve (8 % of memory): fits', ready: true, verdict: 'fits', chosen: true, active: true },
    { candidate: 'all-MiniLM-L6-v2 FP16, CPU', sentence: 'FP16, CPU: needs 119.9 MB, 5.2 GB is free, 1.3 GB reserve (8 % of memory): fits; it is not ready and can be made in about 4 s with 46.2 MB of the disk', ready: false, verdict: 'fits', chosen: false, active: false },
    { candidate: 'all-MiniLM-L6-v2 FP32, CPU', sentence: 'FP32, CPU: not used: the exact mode is used where it is asked for', ready: false, verdict: 'not_used', chosen: false, active: false },
  ],
  choice: 'INT8, CPU: needs 100.0 MB, 5.2 GB is free, 1.3 GB reserve (8 % of memory): fits',
  warns: false,
  worth_making: null,
  source: null,
  shortage: null,
};

const QWEN = 'Qwen3-Embedding-4B';
const PRESSED = '2.0 GB is free, 1.3 GB reserve (8 % of memory)';

/** The plan where there is no room for what was asked for, and a better one where there is. */
export const PLANS = {
  calm: SAMPLE_PLAN,
  short: {
    model: QWEN,
    wish: 'INT8 was chosen, so nothing steps by itself',
    candidates: [
      { candidate: `${QWEN} INT8, Core ML (GPU)`, sentence: 'INT8, Core ML (GPU): not used: another backend was asked for', ready: false, verdict: 'not_used', chosen: false, active: false },
      { candidate: `${QWEN} INT8, CPU`, sentence: `INT8, CPU: needs 4.6 GB, ${PRESSED}: does not fit`, ready: true, verdict: 'no_room', chosen: true, active: false },
      { candidate: `${QWEN} 4-bit, CPU`, sentence: `4-bit, CPU: needs 2.9 GB, ${PRESSED}: does not fit`, ready: true, verdict: 'no_room', chosen: false, active: false },
      { candidate: 'all-MiniLM-L6-v2 INT8, CPU', sentence: `all-MiniLM-L6-v2 INT8, CPU: needs 100.0 MB, ${PRESSED}: fits`, ready: true, verdict: 'fits', chosen: false, active: true },
    ],
    choice: `It is used because it was asked for, but INT8, CPU: needs 4.6 GB, ${PRESSED}: does not fit`,
    warns: true,
    worth_making: null,
    source: null,
    shortage: 'the system is short of memory, now WARN',
  },
  better: {
    ...SAMPLE_PLAN,
    worth_making: SAMPLE_PLAN.candidates[1]?.sentence ?? null,
    source: 'sentence-transformers/all-MiniLM-L6-v2',
  },
} as const satisfies Record<string, PlanStatus>;

function event(id: number, age_seconds: number, measure: GovernorEvent['measure'], reason: string, outcome: Partial<GovernorEvent> = {}): GovernorEvent {
  return { id, age_seconds, measure, reason, failed: null, effect: null, ...outcome };
}

/** One of each measure, newest first. */
export const EVENTS: GovernorEvent[] = [
  event(6, 12, 'tell', `${QWEN} INT8, CPU stays: its precision was chosen explicitly: the system has been short of memory for 24 s, now WARN`),
  event(5, 140, 'step_down', `${QWEN} INT8, CPU is replaced by ${QWEN} 4-bit, CPU: the system has been short of memory for 19 s, now WARN`, { failed: `${QWEN} 4-bit, CPU is no longer installed` }),
  event(4, 154, 'batch', 'batches are a quarter as large: the system has been short of memory for 6 s, now WARN', { effect: '43.8 kB more are available' }),
  event(3, 1900, 'unload', 'all-MiniLM-L6-v2 FP16, CPU is unloaded: nobody has used it for 1800 s', { effect: '2.1 GB more are available' }),
  event(2, 4000, 'step_up', `${QWEN} 4-bit, CPU is replaced by ${QWEN} INT8, CPU: it has been calm for 523 s`, { effect: '1.7 GB less are available' }),
  event(1, 7300, 'recycle', `the worker of ${QWEN} INT8, CPU is replaced by a new one: it holds 6.9 GB, and 4.6 GB were expected`, { effect: '2.3 GB more are available' }),
];

/** A governor that has done what it could. */
const SHORT: GovernorStatus = {
  plan: PLANS.short,
  events: EVENTS,
  small_batches: true,
  stand_in: `all-MiniLM-L6-v2 stands in for ${QWEN}, for which there is no room now`,
};

/** A calm machine with two folders and some queries. */
export function sampleSnapshot(): Snapshot {
  return {
    version: '0.1.0',
    home: '/Users/ada/Library/Application Support/Embedbar',
    model: MODEL_STATES.ready,
    paused: false,
    memory: {
      total_bytes: 16 * GIB,
      available_bytes: 5.2 * GIB,
      pressure: 'normal',
      swap_used_bytes: 0.6 * GIB,
      swap_in_bytes_per_second: 0,
      swap_out_bytes_per_second: 0,
      own_bytes: 64 * MIB,
      worker_bytes: 118 * MIB,
      worker_resident_bytes: 141 * MIB,
      worker_page_in_bytes_per_second: 0,
      simulated: null,
    },
    jobs: [job(7, { state: 'running' }, '/Users/ada/Documents/handbook', 312, 840, '/Users/ada/Documents/handbook/team/onboarding/2026-laptops-and-accounts.md')],
    queries: [
      query(12, 'how do I rotate the signing key', 4, [0.4, 0.3, 7.9, 3.1]),
      query(11, '', 95, [1.1, 0.6, 22.4, null]),
      query(10, 'borrow checker lifetimes in async traits', 260, [0.3, 0.2, 8.4, 2.7]),
      query(9, 'vacation policy for contractors in the second year of their engagement', 640, [0.4, 0.3, 8.1, 3.4]),
      query(8, 'first search after start', 660, [1840, 0.4, 9.2, 4.1]),
    ],
    index: {
      folders: [
        { path: '/Users/ada/Documents/handbook', files: 312, chunks: 2204, skipped: 0 },
        { path: '/Users/ada/src/github.com/ada/very-long-project-name/docs/reference/generated', files: 1894, chunks: 18_402, skipped: 3 },
      ],
      skipped: [
        { path: '/Users/ada/src/github.com/ada/very-long-project-name/docs/reference/generated/logo.png', reason: 'binary' },
        { path: '/Users/ada/src/github.com/ada/very-long-project-name/docs/reference/generated/all.json', reason: '12.4 MB, over the limit of 4.0 MB' },
      ],
    },
    waiting: 0,
    env: null,
    governor: { plan: SAMPLE_PLAN, events: [], small_batches: false, stand_in: null },
    remote: null,
  };
}

/** What a machine tells of which nothing could be read. */
export function nothingRead(): Snapshot['memory'] {
  return {
    total_bytes: null,
    available_bytes: null,
    pressure: null,
    swap_used_bytes: null,
    swap_in_bytes_per_second: null,
    swap_out_bytes_per_second: null,
    own_bytes: null,
    worker_bytes: null,
    worker_resident_bytes: null,
    worker_page_in_bytes_per_second: null,
    simulated: null,
  };
}

const SCENARIOS: Record<string, (snapshot: Snapshot) => void> = {
  calm: () => {},
  empty: (snapshot) => {
    Object.assign(snapshot, { jobs: [], queries: [], index: { folders: [], skipped: [] }, model: MODEL_STATES.idle });
  },
  loading: (snapshot) => Object.assign(snapshot, { model: MODEL_STATES.loading, waiting: 3 }),
  failed: (snapshot) => {
    snapshot.model = MODEL_STATES.failed;
    snapshot.jobs = [job(8, { state: 'failed', failure: { ...FAILURE, message: 'the folder `/Volumes/backup` cannot be read' } }, '/Volumes/backup', 0, null, '')];
  },
  critical: (snapshot) => {
    snapshot.paused = true;
    snapshot.jobs = [job(7, { state: 'paused' }, '/Users/ada/Documents/handbook', 312, 840, 'paused')];
    Object.assign(snapshot.memory, {
      available_bytes: 0.4 * GIB,
      pressure: 'critical',
      swap_used_bytes: 6.1 * GIB,
      swap_in_bytes_per_second: 38 * MIB,
      swap_out_bytes_per_second: 74.3 * MIB,
      worker_bytes: 4.3 * GIB,
    });
  },
  converting: (snapshot) => {
    snapshot.jobs = [conversion(8), ...snapshot.jobs];
  },
  held: (snapshot) => {
    snapshot.memory.pressure = 'warn';
    const still = { bytes_per_second: null, seconds_left: null };
    snapshot.jobs = [
      conversion(10, { ...still, state: { state: 'paused' }, done: 0, total: null, title: 'bge-m3 to FP16 Core ML', detail: 'waiting to start' }),
      conversion(9, { ...still, state: { state: 'paused' }, detail: 'paused: memory is short' }),
      conversion(8, { ...still, state: { state: 'failed', failure: CONVERSION_FAILURE }, title: 'bert-base to 4-bit GGUF', detail: CONVERSION_FAILURE.message }),
      conversion(7, { ...still, state: { state: 'done' }, title: 'Qwen3-Embedding-0.6B to INT8 GGUF', detail: '639.2 MB from 1.2 GB', target: '/Users/ada/Models/qwen3-0.6b-int8.gguf' }),
    ];
  },
  downloading: (snapshot) => {
    snapshot.jobs = [download(11), ...snapshot.jobs];
  },
  'download-failed': (snapshot) => {
    const ended = { bytes_per_second: null, seconds_left: null };
    snapshot.paused = true;
    snapshot.jobs = [
      download(12, { ...ended, state: { state: 'paused' }, detail: 'paused' }),
      download(11, { ...ended, kind: 'verify', title: 'Verify bge-m3', state: { state: 'failed', failure: SET_ASIDE } }),
      download(10, { ...ended, title: 'Install BAAI/bge-small-en-v1.5', state: { state: 'done' }, detail: 'left where its files are; 384 dimensions, all 9 checks passed, 5210 tokens a second' }),
    ];
  },
  env: (snapshot) => Object.assign(snapshot, { env: ENV_STATES.fine }),
  'env-findings': (snapshot) => Object.assign(snapshot, { env: ENV_STATES.findings }),
  'env-unapproved': (snapshot) => Object.assign(snapshot, { env: ENV_STATES.unapproved }),
  'env-chosen': (snapshot) => Object.assign(snapshot, { env: ENV_STATES.chosen }),
  'env-refused': (snapshot) => Object.assign(snapshot, { env: ENV_STATES.refused }),
  'env-held': (snapshot) => Object.assign(snapshot, { env: ENV_STATES.held }),
  short: (snapshot) => {
    snapshot.governor = SHORT;
    Object.assign(snapshot.memory, { pressure: 'warn', available_bytes: 2 * GIB, swap_used_bytes: 2.4 * GIB });
  },
  'worth-making': (snapshot) => {
    snapshot.governor.plan = PLANS.better;
  },
  simulated: (snapshot) => {
    snapshot.memory.simulated = '16gb-docker, 60 times as fast';
    snapshot.governor = SHORT;
  },
  unread: (snapshot) => {
    snapshot.memory = nothingRead();
  },
  lost: () => {},
};

const SNIPPETS: [string, string, number, Hit['found_by'], number | null][] = [
  ['/Users/ada/Documents/handbook/security/signing-keys.md', 'To rotate the signing key, create the new pair on the hardware token first, publish its public half, and keep the old one until every client has fetched the new list. Never rotate on a Friday.', 42, 'both', 0.781],
  ['/Users/ada/src/github.com/ada/very-long-project-name/docs/reference/generated/release/updater/configuration-of-the-updater.md', 'Replace the credentials every ninety days. The updater accepts two of them at a time so that a release signed with either is installed.', 7, 'meaning', 0.644],
  ['/Users/ada/Documents/handbook/team/onboarding/2026-laptops-and-accounts.md', 'Ask for a key at the desk; it opens the lab, not the server room.', 118, 'words', 0.402],
  ['/Users/ada/src/github.com/ada/very-long-project-name/docs/reference/generated/ssh.txt', 'ssh-keygen -t ed25519 -C "deploy" writes a new key pair; revoke the former one in the list of authorised keys.', 1, 'both', 0.598],
  ['/Users/ada/Documents/handbook/runbooks/incident.md', '🔑 When a key has leaked: revoke, rotate, tell the people concerned, in this order and within the hour.', 23, 'both', 0.571],
  ['/Users/ada/Documents/handbook/index.md', 'Security · Signing keys · Rotation calendar · Who to call', 3, 'words', null],
];

function hits(query: string): Hit[] {
  const words = query.toLowerCase().split(/[^\p{L}\p{N}]+/u).filter((word) => word.length > 2);
  return SNIPPETS.map(([path, snippet, line, found_by, cosine], index) => {
    const characters = Array.from(snippet.toLowerCase());
    const marks = words.flatMap((word) => {
      const at = Array.from(snippet.toLowerCase().split(word)[0] ?? '').length;
      return at < characters.length ? [{ start: at, end: at + Array.from(word).length }] : [];
    });
    const matched = words.filter((word) => snippet.toLowerCase().includes(word));
    return { path, line, score: 0.0328 / (index + 1), cosine, snippet, marks, matched, found_by };
  });
}

function history(pressureNow: Pressure | null): MemoryPoint[] {
  return Array.from({ length: 900 }, (_, second): MemoryPoint => {
    const wave = 0.62 + 0.06 * Math.sin(second / 70) + 0.02 * Math.sin(second / 11);
    const climb = pressureNow === 'critical' ? Math.max(0, (second - 500) / 400) * 0.34 : 0;
    const share = Math.min(wave + climb, 0.975);
    const pressure: Pressure = share > 0.92 ? 'critical' : share > 0.8 ? 'warn' : 'normal';
    return { age_seconds: 900 - second, used_bytes: share * 16 * GIB, pressure };
  });
}

type Handlers = { [M in keyof Commands]: (params: Params<M>) => Reply<M> };

export class MockPlatform implements Platform {
  readonly kind = 'mock';
  readonly canHide = false;
  readonly leaveLibrary: () => void;
  snapshot: Snapshot = sampleSnapshot();
  models: ModelInfo[] = MODELS;
  token: TokenStatus = TOKEN;
  /** What the library was opened for, for tests. */
  readonly libraryOpened: (string | null)[] = [];
  /** What was called, for tests. */
  readonly calls: { method: Method; params: unknown }[] = [];
  readonly #scenario: string;
  #watcher: Watcher | null = null;
  #shown: (() => void) | null = null;
  #dropped: ((event: FileDrop) => void) | null = null;
  readonly #location: Pick<Location, 'search' | 'assign'> | null;

  /** With the page's location the library is a page to go to, as in a browser; tests have none. */
  constructor(scenario = 'calm', location: Pick<Location, 'search' | 'assign'> | null = null) {
    this.#scenario = scenario;
    this.#location = location;
    this.leaveLibrary = () => this.#location?.assign(mainPage(this.#location.search));
    SCENARIOS[scenario]?.(this.snapshot);
    if (scenario === 'empty') this.models = MODELS.filter((model) => model.bundled);
  }

  /** The answers; a test replaces those that it is about. */
  readonly handlers: Handlers = {
    snapshot: () => this.snapshot,
    embed: () => ({ items: [] }),
    index: ({ paths }) => job(9, { state: 'running' }, paths[0] ?? '', 0, null, ''),
    forget: () => ({}),
    search: ({ query }) => ({
      query,
      hits: query.startsWith('nothing') || this.#scenario === 'empty' ? [] : hits(query),
      generation: query.startsWith('words') ? null : generation,
      degraded: query.startsWith('words') ? 'the model’s worker is being restarted' : null,
      searched_chunks: 20_606,
      embedding_ms: { queue: 0.4, tokenize: 0.3, forward: 7.5, total: 8.2 },
      search_ms: 3.1,
      total_ms: 11.6,
    }),
    open: () => ({}),
    convert: ({ source }) => conversion(10, { title: source, done: 0, total: null, detail: 'waiting to start' }),
    cancel: () => ({}),
    pause: ({ paused }) => {
      this.push({ ...this.snapshot, paused });
      return {};
    },
    models: () => {
      const { models } = this;
      const sum = (sizes: number[]) => sizes.reduce((all, size) => all + size, 0);
      return { models, total_bytes: sum(models.map((model) => model.size_bytes)), own_bytes: sum(models.map((model) => model.own_bytes)) };
    },
    inspect: ({ source }) => {
      if (source.includes('private')) throw NO_REPOSITORY;
      if (source.endsWith('/handbook')) throw NO_MODEL;
      const name = source.replace(/\/+$/, '').split('/').at(-1) ?? source;
      if (source.startsWith('/')) return name === PATH_OFFER.name ? PATH_OFFER : { ...PATH_OFFER, source, name, replaces: false };
      return { ...HUB_OFFER, source, name, download: HUB_OFFER.download && { ...HUB_OFFER.download, repository: source, known: name } };
    },
    install: ({ source }) => {
      const started = download(21, { title: `Install ${source}`, done: 0, total: null, bytes_per_second: null, seconds_left: null, detail: 'waiting to start', elapsed_ms: 0 });
      this.push({ ...this.snapshot, jobs: [started, ...this.snapshot.jobs] });
      return started;
    },
    limit_downloads: () => ({}),
    hold: ({ id, held }) => {
      const state: JobState = { state: held ? 'paused' : 'running' };
      this.push({ ...this.snapshot, jobs: this.snapshot.jobs.map((job) => (job.id === id ? { ...job, held, state, ...(held ? { bytes_per_second: null, seconds_left: null } : {}) } : job)) });
      return {};
    },
    download_limit: () => ({ bytes_per_second: 3_000_000 }),
    show_model: ({ model }) => details(this.#model(model)),
    verify: ({ model }) => download(22, { kind: 'verify', title: `Verify ${model}`, detail: 'waiting to start' }),
    remove: ({ model }) => {
      const { own_bytes, size_bytes } = this.#model(model);
      this.models = this.models.filter(({ id }) => id !== model);
      const kept = own_bytes < size_bytes ? ['3 files in `/Users/ada/.cache/huggingface/hub` stay: they are not Embedbar\'s'] : [];
      return { freed_bytes: own_bytes, kept };
    },
    reveal: () => ({}),
    sdk_lines: ({ model }) => ({ ...SDK, model }),
    keep_sdk_lines: () => ({ env: this.snapshot.env, known: [] }),
    token: () => this.token,
    set_token: ({ token }) => {
      const kept = token !== null;
      this.token = { ...this.token, kept, source: kept ? `the one that Embedbar keeps in ${TOKEN.place}` : null };
      return this.token;
    },
    activate: () => this.snapshot.model,
    allow_remote: () => ({}),
    offers: () => ({
      offers: [
        { id: 'docker:1', program: 'Docker', name: 'postgres', detail: 'postgres:17', bytes: 410 * MIB, action: 'Stop the container postgres, which is started again afterwards', kind: 'stop' },
      ],
      notes: [],
      stopped: [],
    }),
    accept_offers: () => ({
      outcomes: [{ name: 'postgres', done: true, sentence: 'It gave its memory back.' }],
      gained_bytes: 0,
      before: this.snapshot.memory,
      after: this.snapshot.memory,
    }),
    start_again: () => ({ outcomes: [], gained_bytes: 0, before: this.snapshot.memory, after: this.snapshot.memory }),
    env: () => ({ env: this.snapshot.env, known: [] }),
    follow: ({ path }) => {
      const file = path === null || path.endsWith('/.env') ? path : `${path}/.env`;
      return this.#setEnv(file === null ? null : { ...ENV_STATES.unapproved, path: file });
    },
    approve_env: () => {
      const { env } = this.snapshot;
      return this.#setEnv(env && { ...env, approved: true, unapproved: [], effect: ENV_STATES.fine.effect });
    },
    mend_env: ({ code, line }) => {
      const { env } = this.snapshot;
      return this.#setEnv(env && { ...env, findings: env.findings.filter((other) => other.code !== code || other.line !== line) });
    },
    keep_in_env: () => {
      const { env } = this.snapshot;
      return this.#setEnv(env && { ...env, chosen: null, effect: `\`${env.chosen?.model ?? ''}\` is the active model.` });
    },
    memory: () => this.snapshot.memory,
    machine: () =>
      this.#scenario === 'unread'
        ? { programs: null, disk: null }
        : {
            programs: [
              { name: 'Docker', processes: 3, bytes: 4.1 * GIB },
              { name: 'Cursor', processes: 14, bytes: 2.3 * GIB },
              { name: 'Safari', processes: 9, bytes: 1.6 * GIB },
              { name: 'postgres', processes: 8, bytes: 0.4 * GIB },
            ],
            disk: { mounted_at: '/System/Volumes/Data', total_bytes: 494_000_000_000, available_bytes: 61_300_000_000 },
          },
    memory_history: () => ({ points: this.#scenario === 'unread' ? [] : history(this.snapshot.memory.pressure) }),
    cleanup: ({ dry_run }) => {
      const before = this.snapshot.memory;
      const after = { ...before, available_bytes: before.available_bytes === null ? null : before.available_bytes + 0.3 * GIB };
      return {
        dry_run,
        items: [
          { action: 'ended the idle worker of `all-MiniLM-L6-v2`', freed_bytes: 118 * MIB },
          { action: 'closed the caches of the index', freed_bytes: 14 * MIB },
          { action: 'gave back free pages of the allocator', freed_bytes: null },
        ],
        disk: [],
        before,
        after,
      };
    },
  };

  async call<M extends Method>(method: M, params: Params<M>): Promise<Reply<M>> {
    this.calls.push({ method, params });
    return this.handlers[method](params);
  }

  watch(watcher: Watcher): () => void {
    this.#watcher = watcher;
    this.push(this.snapshot);
    if (this.#scenario === 'lost') {
      const failure: Failure = {
        code: 'io',
        message: 'Embedbar does not answer at `http://127.0.0.1:7744`',
        hint: 'Start it again with `embedbar serve` and open the address that it prints.',
        retryable: true,
      };
      this.connection({ state: 'lost', failure });
    }
    return () => (this.#watcher = null);
  }

  /** Delivers a snapshot to whoever watches. */
  push(snapshot: Snapshot): void {
    this.snapshot = snapshot;
    this.#watcher?.connection({ state: 'live' });
    this.#watcher?.snapshot(snapshot);
  }

  #model(id: string): ModelInfo {
    const model = this.models.find((other) => other.id === id);
    if (model) return model;
    throw { code: 'not_found', message: `there is no model \`${id}\``, hint: null, retryable: false } satisfies Failure;
  }

  #setEnv(env: EnvStatus | null): Reply<'env'> {
    this.push({ ...this.snapshot, env });
    return { env, known: [] };
  }

  connection(connection: Connection): void {
    this.#watcher?.connection(connection);
  }

  async hideWindow(): Promise<void> {}

  onShown(callback: () => void): () => void {
    this.#shown = callback;
    return () => (this.#shown = null);
  }

  /** Brings the window to the front. */
  show(): void {
    this.#shown?.();
  }

  onFilesDropped(callback: (event: FileDrop) => void): () => void {
    this.#dropped = callback;
    const stop = this.#location ? onPageDrop(callback) : () => {};
    return () => {
      this.#dropped = null;
      stop();
    };
  }

  /** Drags something over the window, or drops it. */
  drag(phase: FileDrop['phase'], paths: string[] = []): void {
    this.#dropped?.({ phase, paths });
  }

  async openLibrary(source: string | null): Promise<void> {
    this.libraryOpened.push(source);
    this.#location?.assign(libraryPage(this.#location.search, source));
  }

  onLook(callback: (source: string) => void): () => void {
    return onLook(callback);
  }
}
