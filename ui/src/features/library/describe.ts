/** What the library says about models and offers: pure functions, without a view in sight. */
import type { Card, ConvertPrecision, Inspection, InstallOffer, ModelHealth, ModelInfo, ModelOrigin, Placing, TokenStatus } from '../../contract/contract';
import { age, count, counted, fileSize, memory, milliseconds, unbroken, UNKNOWN } from '../../lib/format';
import { KIND } from '../../lib/models';
import { shownPath } from '../../lib/paths';
import { BACKEND, PRECISION } from '../../lib/words';

export interface HealthFace {
  word: string;
  tone: 'neutral' | 'normal' | 'warn' | 'critical';
  /** Why, where something is wrong. */
  reason: string | null;
}

export function healthFace(health: ModelHealth): HealthFace {
  switch (health.health) {
    case 'passed':
      return { word: 'Tested', tone: 'normal', reason: null };
    case 'untested':
      return { word: 'Not tested', tone: 'neutral', reason: null };
    case 'quarantined':
      return { word: 'Set aside', tone: 'warn', reason: health.reason };
    case 'missing':
      return { word: 'Files gone', tone: 'critical', reason: health.reason };
  }
}

/** When something was, read from a clock in milliseconds; it may be days ago. */
export function since(seconds: number, now: number): string {
  const past = Math.max(0, now / 1000 - seconds);
  return past < 2 * 86_400 ? age(past) : `${Math.floor(past / 86_400)} days ago`;
}

/** The line below a model's name. */
export function modelMeta(model: ModelInfo, now: number): string {
  if (model.health.health === 'missing') return 'its files lie elsewhere and are not there';
  const parts: string[] = [];
  if (model.precision && model.precision !== 'unknown') parts.push(PRECISION[model.precision]);
  if (model.kind) parts.push(KIND[model.kind] ?? model.kind);
  parts.push(model.bundled ? `${fileSize(model.size_bytes)}, bundled` : sizeWords(model));
  if (model.last_used_at !== null) parts.push(`used ${since(model.last_used_at, now)}`);
  return unbroken(parts.join(' · '));
}

/** Its size, and whether somebody else keeps a part of it. */
export function sizeWords({ size_bytes, own_bytes, bundled }: ModelInfo): string {
  return fileSize(size_bytes) + (own_bytes < size_bytes && !bundled ? ', shared' : '');
}

/** The line below the list. */
export function totals(total: number, own: number): string {
  return unbroken(`${fileSize(total)} in all, shared files counted once; ${fileSize(own)} in Embedbar’s folder`);
}

/** What removing it does, before it is done. */
export function removalWords({ own_bytes, size_bytes, health }: ModelInfo): string {
  if (health.health === 'missing') return 'Its entry goes; of its files there are none.';
  const stays = size_bytes - own_bytes;
  const freed = own_bytes > 0 ? `${fileSize(own_bytes)} on the disk are given back.` : 'Nothing is given back on the disk.';
  return unbroken(stays > 0 ? `${freed} ${fileSize(stays)} in other folders stay: they are not Embedbar’s.` : freed);
}

/** A figure with its name. */
export interface Row {
  name: string;
  value: string;
  /** The whole of a value that is shortened. */
  title?: string;
}

const PLACED: Record<Placing, string> = {
  cloned: 'cloned, which takes no room of its own',
  copied: 'copied',
  linked: 'left where its files are',
  moved: 'downloaded into the library',
};

export function shortHash(hash: string): string {
  return hash.length > 12 ? `${hash.slice(0, 12)}…` : hash;
}

export function originRows(origin: ModelOrigin, home: string | null, now: number): Row[] {
  const rows: Row[] = [{ name: 'From', value: shownPath(origin.source, home, 46), title: origin.source }];
  if (origin.commit) rows.push({ name: 'Commit', value: shortHash(origin.commit), title: origin.commit });
  rows.push({ name: 'Licence', value: origin.licence ?? 'not named in its files' });
  rows.push({ name: 'Files', value: `${KIND[origin.kind] ?? origin.kind}, ${PLACED[origin.placed] ?? origin.placed}` });
  rows.push({ name: 'Installed', value: since(origin.installed_at, now) });
  return rows;
}

/** What the self-test measured; what it did not is a dash. */
export function costRows(card: Card): Row[] {
  const rows: Row[] = [
    { name: 'Ran on', value: card.backend ? (BACKEND[card.backend] ?? card.backend) : UNKNOWN },
    { name: 'Loading', value: milliseconds(card.load_ms) },
    { name: 'A short text', value: milliseconds(card.short_text_ms) },
    { name: 'Many texts', value: card.tokens_per_second === null ? UNKNOWN : `${count(Math.round(card.tokens_per_second))} tokens a second` },
    { name: 'Memory at most', value: memory(card.peak_bytes) },
  ];
  return rows.map((row) => ({ ...row, value: unbroken(row.value) }));
}

/** How the model makes a vector. */
export function recipeRows(card: Card): Row[] {
  const rows: Row[] = [];
  if (card.dims !== null) rows.push({ name: 'Dimensions', value: count(card.dims) });
  if (card.max_tokens !== null) {
    const measured = card.true_window !== null && card.true_window < card.max_tokens ? `; measured up to ${count(card.true_window)}` : '';
    rows.push({ name: 'Reads', value: `${counted(card.max_tokens, 'token')}${measured}` });
  }
  if (card.pooling) rows.push({ name: 'Pooling', value: card.pooling });
  if (card.query_prompt) rows.push({ name: 'Before a query', value: `“${card.query_prompt.trim()}”` });
  if (card.document_prompt) rows.push({ name: 'Before a text', value: `“${card.document_prompt.trim()}”` });
  return rows;
}

/** Roughly: 33,360,000 is `33 M`, 4,020,000,000 is `4.0 B`. */
export function parameters(value: number): string {
  return value >= 1e9 ? `${(value / 1e9).toFixed(1)} B` : `${Math.round(value / 1e6)} M`;
}

/** What a model is and what it takes, as far as that is known before it has run. */
function modelRows(known: Pick<Inspection, 'architecture' | 'dims' | 'max_tokens' | 'needs_bytes'>, numbers: number | null, bytes: number): Row[] {
  const { architecture, dims, max_tokens, needs_bytes } = known;
  const facts = [architecture, dims === null ? null : `${count(dims)} dimensions`, numbers === null ? null : `${parameters(numbers)} parameters`].filter((fact) => fact !== null);
  return [
    ...(facts.length > 0 ? [{ name: 'Architecture', value: facts.join(', ') }] : []),
    ...(max_tokens === null ? [] : [{ name: 'Reads', value: `at most ${counted(max_tokens, 'token')}` }]),
    { name: 'Memory', value: needs_bytes === null ? `at least ${memory(bytes)}, its files; its test measures it` : `about ${memory(needs_bytes)} while it runs` },
  ];
}

/** All that an offer says in rows. */
export function offerRows({ inspection, download, disk_available_bytes }: InstallOffer, home: string | null): Row[] {
  const rows: Row[] = [];
  if (inspection) {
    const { kind, stored_as, bytes } = inspection;
    rows.push({ name: 'Files', value: `${KIND[kind] ?? kind}${stored_as ? `, ${stored_as}` : ''}, ${fileSize(bytes)}` });
    rows.push(...modelRows(inspection, inspection.parameters, bytes));
  }
  if (download) {
    const { repository, commit, files, total_bytes, fetch_bytes, folder } = download;
    const all = `${fileSize(total_bytes)} in ${counted(files, 'file')}`;
    rows.push({ name: 'Repository', value: repository, title: `${download.hub}/${repository}` });
    rows.push({ name: 'Commit', value: shortHash(commit), title: commit });
    rows.push({ name: 'To fetch', value: fetch_bytes === total_bytes ? all : fetch_bytes === 0 ? `nothing: all ${all} are here` : `${fileSize(fetch_bytes)} of ${all}; the rest is here` });
    rows.push({ name: 'Files', value: KIND[download.kind] ?? download.kind });
    // What the catalogue says of a model of that name; of any other nothing is known before its files are here.
    rows.push(...modelRows(download, null, total_bytes));
    rows.push({ name: 'Into', value: shownPath(folder, home, 46), title: folder });
  }
  const licence = inspection?.licence ?? download?.licence;
  rows.push({ name: 'Licence', value: licence ?? 'not named' });
  rows.push({ name: 'Free on the disk', value: fileSize(disk_available_bytes) });
  return rows.map((row) => ({ ...row, value: unbroken(row.value) }));
}

/** What a person has chosen on an offer. */
export interface OfferChoices {
  inPlace: boolean;
  ladder: ConvertPrecision[];
}

/** What an installation takes of the disk, as far as it is known. */
export function diskNeeded(offer: InstallOffer, { inPlace, ladder }: OfferChoices): number {
  const files = offer.download ? offer.download.fetch_bytes : inPlace ? 0 : (offer.inspection?.bytes ?? 0);
  const made = offer.ladder.filter((step) => ladder.includes(step.precision)).map((step) => step.bytes ?? 0);
  return made.reduce((sum, bytes) => sum + bytes, files);
}

/** Why the disk will not do; `null` where it does or is not known. */
export function diskCaution(offer: InstallOffer, choices: OfferChoices): string | null {
  const [needed, free] = [diskNeeded(offer, choices), offer.disk_available_bytes];
  return free === null || needed <= free ? null : unbroken(`This takes ${fileSize(needed)}, and ${fileSize(free)} are free on the disk.`);
}

/** What the button says: nothing is fetched without a click on its size. */
export function installWord({ download }: InstallOffer): string {
  return download && download.fetch_bytes > 0 ? `Download ${fileSize(download.fetch_bytes)}` : 'Install';
}

/** Well-known models of the catalogue whose repositories have files that can be opened. */
export const SUGGESTIONS = [
  { repository: 'BAAI/bge-small-en-v1.5', about: 'English, small: 384 dimensions' },
  { repository: 'intfloat/multilingual-e5-small', about: 'a hundred languages, small: 384 dimensions' },
  { repository: 'Qwen/Qwen3-Embedding-0.6B', about: 'many languages, long texts: 1,024 dimensions' },
  { repository: 'Qwen/Qwen3-Embedding-4B', about: 'the same and better, with 16 GB of memory: 2,560 dimensions' },
] as const;

/** What a name in the library becomes by a conversion in it. */
export function preparedName(id: string, precision: ConvertPrecision): string {
  return `${id}-${precision}`;
}

/** Whether the hub gets a token, which one, and where Embedbar keeps one. */
export function tokenWords({ source, kept, place }: TokenStatus): string {
  if (source === null) return plain(`No token is sent: public models need none. ${kept ? 'One is kept' : 'One would be kept'} in ${place}.`);
  const other = kept && !source.includes(place) ? ` Another one is kept in ${place}.` : '';
  return plain(`Sent to the hub: ${source}.${other}`);
}

/** Without the marks around names and values. */
function plain(sentence: string): string {
  return sentence.replaceAll('`', '');
}
