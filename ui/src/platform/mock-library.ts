/** Sample models of the library, their cards and what installing others would take. Everything is made up; see `mock.ts`. */
import type { Card, Failure, InstallOffer, Job, ModelDetails, ModelInfo, ModelOrigin, SdkProposal, TokenStatus } from '../contract/contract';

const MIB = 1024 ** 2;
/** 2026-11-27, noon: what the samples count back from. */
const THEN = 1_795_780_800;
const HOME = '/Users/ada/Library/Application Support/Embedbar/models';
const sha256 = (digit: string) => digit.repeat(8).padEnd(64, '3c91b7');

export const MODELS: ModelInfo[] = [
  {
    id: 'all-MiniLM-L6-v2',
    path: '/Applications/Embedbar.app/Contents/Resources/models/bundled',
    bundled: true,
    active: true,
    size_bytes: 24_800_000,
    own_bytes: 0,
    kind: 'gguf',
    precision: 'int8',
    health: { health: 'untested' },
    last_used_at: THEN,
  },
  {
    id: 'qwen3-embedding-4b',
    path: '/Users/ada/Models/qwen3-embedding-4b',
    bundled: false,
    active: false,
    size_bytes: 4_280_000_000,
    own_bytes: 4_280_000_000,
    kind: 'gguf',
    precision: 'int8',
    health: { health: 'passed' },
    last_used_at: THEN - 7200,
  },
  {
    id: 'Qwen3-Embedding-0.6B',
    path: `${HOME}/Qwen3-Embedding-0.6B`,
    bundled: false,
    active: false,
    size_bytes: 1_202_000_000,
    own_bytes: 4100,
    kind: 'checkpoint',
    precision: 'fp16',
    health: { health: 'passed' },
    last_used_at: THEN - 3 * 86_400,
  },
  {
    id: 'multilingual-e5-large-instruct-finetuned-on-support-tickets-2026-11',
    path: `${HOME}/multilingual-e5-large-instruct-finetuned-on-support-tickets-2026-11`,
    bundled: false,
    active: false,
    size_bytes: 316_000_000,
    own_bytes: 316_000_000,
    kind: 'mlx_checkpoint',
    precision: '4bit',
    health: { health: 'untested' },
    last_used_at: null,
  },
  {
    id: 'bge-m3',
    path: `${HOME}/.aside/bge-m3`,
    bundled: false,
    active: false,
    size_bytes: 1_140_000_000,
    own_bytes: 1_140_000_000,
    kind: 'core_ml_package',
    precision: null,
    health: { health: 'quarantined', reason: 'unit norm: the norms of 4 of 12 vectors are not 1, the worst is 0.31' },
    last_used_at: null,
  },
  {
    id: 'snowflake-arctic-embed-s',
    path: `${HOME}/snowflake-arctic-embed-s`,
    bundled: false,
    active: false,
    size_bytes: 0,
    own_bytes: 0,
    kind: null,
    precision: null,
    health: { health: 'missing', reason: '`/Volumes/backup/models/snowflake-arctic-embed-s/model.safetensors` is not there' },
    last_used_at: null,
  },
];

const CARD: Card = {
  tested_at: THEN - 86_400,
  program: '0.1.0',
  passed: true,
  checks: [
    { name: 'finite', passed: true, detail: 'all numbers of 12 vectors are finite' },
    { name: 'unit norm', passed: true, detail: 'the norms of 12 vectors are 1 to within 2e-7' },
    { name: 'width', passed: true, detail: '1024 dimensions, as its files say' },
    { name: 'batch equals single', passed: true, detail: 'cosine of at least 0.99998 over 12 texts' },
    { name: 'deterministic', passed: true, detail: 'two runs are the same to the last bit' },
    { name: 'window', passed: true, detail: 'text stops to matter behind token 32768 of 32768' },
    { name: 'tells texts apart', passed: true, detail: 'related pairs 0.71, unrelated ones 0.18' },
  ],
  generation: { model: 'Qwen3-Embedding-0.6B', revision: '1c22b83fd0a94e10', precision: 'fp16', recipe: 'native' },
  backend: 'cpu',
  dims: 1024,
  max_tokens: 32_768,
  true_window: 32_768,
  pooling: 'last',
  query_prompt: 'Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery:',
  document_prompt: '',
  load_ms: 913.2,
  short_text_ms: 21.4,
  tokens_per_second: 1840,
  peak_bytes: 1480 * MIB,
};

/** A card with one failed check. */
const FAILED_CARD: Card = {
  ...CARD,
  passed: false,
  checks: CARD.checks.map((check) => (check.name === 'unit norm' ? { ...check, passed: false, detail: 'the norms of 4 of 12 vectors are not 1, the worst is 0.31' } : check)),
  generation: null,
  backend: 'core_ml',
  pooling: null,
  query_prompt: '',
  tokens_per_second: null,
};

const ORIGIN: ModelOrigin = {
  source: 'Qwen/Qwen3-Embedding-0.6B',
  commit: 'c54f2e6e80b2d7b7de06f51cec4959f6b3e03418',
  licence: 'Apache-2.0',
  kind: 'checkpoint',
  placed: 'linked',
  installed_at: THEN - 86_400,
  files: [
    { path: 'model.safetensors', bytes: 1_191_586_416, sha256: sha256('a7') },
    { path: 'tokenizer.json', bytes: 11_423_705, sha256: sha256('d9') },
    { path: 'config.json', bytes: 727, sha256: sha256('e1') },
  ],
};

export function details(model: ModelInfo): ModelDetails {
  switch (model.id) {
    case 'Qwen3-Embedding-0.6B':
      return { model, origin: ORIGIN, card: CARD, certificate: null };
    case 'qwen3-embedding-4b':
      return {
        model,
        origin: null,
        card: { ...CARD, dims: 2560 },
        certificate: 'its vectors agree with those of what it was made of to a mean cosine of 0.9982, where 0.99 is asked for',
      };
    case 'bge-m3':
      return { model, origin: { ...ORIGIN, source: '/Users/ada/Downloads/bge-m3.mlpackage', commit: null, placed: 'copied', kind: 'core_ml_package' }, card: FAILED_CARD, certificate: null };
    default:
      return { model, origin: null, card: null, certificate: null };
  }
}

/** What the hub offers. */
export const HUB_OFFER: InstallOffer = {
  source: 'Qwen/Qwen3-Embedding-4B',
  name: 'Qwen3-Embedding-4B',
  replaces: false,
  inspection: null,
  download: {
    hub: 'https://huggingface.co',
    repository: 'Qwen/Qwen3-Embedding-4B',
    commit: '5cf2132abc99cad020ac570b19d031efec650f2b',
    files: 9,
    total_bytes: 8_060_000_000,
    fetch_bytes: 7_520_000_000,
    folder: '/Users/ada/.cache/huggingface/hub/models--Qwen--Qwen3-Embedding-4B',
    licence: 'Apache-2.0',
    kind: 'checkpoint',
    known: 'Qwen3-Embedding-4B',
    architecture: 'qwen3',
    dims: 2560,
    max_tokens: 32_768,
    needs_bytes: 8_900_000_000,
    notes: ['`tokenizer.json` is another file than the one that the catalogue knows'],
  },
  ladder: [
    { precision: 'int8', bytes: 4_280_000_000, installed: false },
    { precision: '4bit', bytes: 2_270_000_000, installed: false },
  ],
  disk_available_bytes: 61_300_000_000,
};

/** What a folder on this machine offers. */
export const PATH_OFFER: InstallOffer = {
  source: '/Users/ada/Downloads/bge-small-en-v1.5',
  name: 'bge-small-en-v1.5',
  replaces: true,
  inspection: {
    kind: 'checkpoint',
    name: 'bge-small-en-v1.5',
    architecture: 'bert',
    dims: 384,
    max_tokens: 512,
    parameters: 33_360_000,
    stored_as: 'F32',
    bytes: 134_200_000,
    licence: 'MIT',
    needs_bytes: 210 * MIB,
    known: 'bge-small-en-v1.5',
    notes: ['`pytorch_model.bin` is a pickle and is left where it is: it could run code', 'its tokenizer cuts texts at 512 tokens'],
  },
  download: null,
  ladder: [
    { precision: 'int8', bytes: 36_700_000, installed: true },
    { precision: '4bit', bytes: 24_100_000, installed: false },
  ],
  disk_available_bytes: 61_300_000_000,
};

export const NO_MODEL: Failure = {
  code: 'model_invalid',
  message: '`/Users/ada/Documents/handbook` is no model: it has neither a `config.json` nor a `.gguf` file',
  hint: 'Name a folder with `config.json` and safetensors, a `.gguf` file, an `.mlpackage`, or a `.zip` of one.',
  retryable: false,
};

export const NO_REPOSITORY: Failure = {
  code: 'not_found',
  message: '`acme/private-embedder` is not there, or it is private and the hub got no token',
  hint: 'Check the name, or set a token that may read it.',
  retryable: false,
};

export const TOKEN: TokenStatus = { source: null, kept: false, place: 'the Keychain of this Mac' };

export const SDK: SdkProposal = {
  model: 'Qwen3-Embedding-0.6B',
  file: '/Users/ada/src/papr-demo/.env',
  lines: ['PAPR_ONDEVICE_PROCESSING=true', `PAPR_EMBEDDING_MODEL=${HOME}/Qwen3-Embedding-0.6B`, 'PAPR_ENABLE_COREML=false', 'PAPR_ENABLE_MLX=false'],
  changes: [
    { number: 4, before: 'PAPR_ENABLE_COREML=true', after: 'PAPR_ENABLE_COREML=false' },
    { number: 9, before: null, after: `PAPR_EMBEDDING_MODEL=${HOME}/Qwen3-Embedding-0.6B` },
  ],
  refused: null,
};

/** A download in the middle of its work. */
export function download(id: number, changes: Partial<Job> = {}): Job {
  return {
    id,
    held: false,
    kind: 'install',
    title: 'Install Qwen/Qwen3-Embedding-4B',
    target: null,
    state: { state: 'running' },
    unit: 'bytes',
    done: 2_913_000_000,
    total: 7_520_000_000,
    bytes_per_second: 11_800_000,
    seconds_left: 391,
    detail: 'downloading Qwen/Qwen3-Embedding-4B',
    elapsed_ms: 254_000,
    ...changes,
  };
}

export const SET_ASIDE: Failure = {
  code: 'model_invalid',
  message: '`bge-m3` fails its self-test and is set aside: unit norm: the norms of 4 of 12 vectors are not 1, the worst is 0.31',
  hint: 'It is never active. `embedbar show bge-m3` has its card; `embedbar remove bge-m3` removes it.',
  retryable: false,
};
