/** What the panel says about a snapshot: pure functions, without a view in sight. */
import type { ConvertFormat, ConvertPrecision, EnvFinding, EnvSeverity, EnvStatus, GovernorEvent, GovernorMeasure, MemoryReading, ModelInfo, ModelState, PlanRow, PlanStatus } from '../../contract/contract';
import type { IconName } from '../../components/Icon.svelte';
import { capitalised, counted, memory, milliseconds, unbroken, UNKNOWN } from '../../lib/format';
import { BACKEND, MEASURE, PRECISION, SEVERITY } from '../../lib/words';

export interface Gauge {
  /** Shares of the whole memory, 0 to 1. */
  others: number;
  ours: number;
  othersBytes: number | null;
  words: string;
}

/** Whose memory it is. What cannot be told apart is not: without our own figures all that is used counts as others'. */
export function gauge(reading: MemoryReading | null): Gauge {
  const total = reading?.total_bytes ?? null;
  const available = reading?.available_bytes ?? null;
  if (!total || available === null) {
    return { others: 0, ours: 0, othersBytes: null, words: 'Memory could not be read' };
  }
  const used = Math.max(0, total - available);
  const ours = Math.min(used, (reading?.own_bytes ?? 0) + (reading?.worker_bytes ?? 0));
  const measured = reading?.own_bytes !== null && reading?.worker_bytes !== null;
  return {
    others: (used - ours) / total,
    ours: ours / total,
    othersBytes: measured ? used - ours : null,
    words: `${reading?.simulated ? 'Simulated: ' : ''}${memory(used)} of ${memory(total)} in use, ${memory(ours)} of it by Embedbar and its model`,
  };
}

export interface ModelFace {
  name: string;
  precision: string;
  word: string;
  tone: 'neutral' | 'accent' | 'normal' | 'critical';
  /** A line of particulars; may be empty. */
  detail: string;
  revision: string | null;
}

export function modelFace(state: ModelState | null, models: ModelInfo[]): ModelFace {
  const blank = { precision: UNKNOWN, detail: '', revision: null };
  const active = models.find((model) => model.active)?.id;
  switch (state?.state) {
    case undefined:
      return { ...blank, name: UNKNOWN, word: UNKNOWN, tone: 'neutral' };
    case 'idle':
      return { ...blank, name: active ?? 'No model', word: 'Not loaded', tone: 'neutral', detail: 'The first query loads it.' };
    case 'loading':
      return { ...blank, name: state.model, word: 'Loading…', tone: 'accent', detail: 'Queries wait until it answers.' };
    case 'failed':
      return { ...blank, name: state.model, word: 'Failed', tone: 'critical' };
    case 'ready': {
      const { generation, backend, dims, load_ms, restarts } = state;
      const detail = [`${dims} dimensions`, BACKEND[backend] ?? backend, `loaded in ${milliseconds(load_ms)}`];
      if (generation.recipe !== 'native') detail.push(`recipe ${generation.recipe}`);
      if (restarts > 0) detail.push(counted(restarts, 'restart'));
      return {
        name: generation.model,
        precision: PRECISION[generation.precision] ?? generation.precision,
        word: 'Ready',
        tone: 'normal',
        detail: detail.join(' · '),
        revision: generation.revision,
      };
    }
  }
}

export interface EnvFace {
  word: string;
  tone: 'accent' | 'normal' | 'warn';
}

/** Whether the followed file decides. That it waits for a person comes first: nothing else goes on before. */
export function envFace({ approved, held_back, chosen }: EnvStatus): EnvFace {
  if (!approved) return { word: 'Not approved', tone: 'accent' };
  if (chosen) return { word: 'Overridden', tone: 'accent' };
  return held_back.length > 0 ? { word: 'Held back', tone: 'warn' } : { word: 'In force', tone: 'normal' };
}

export interface FindingFace {
  word: string;
  tone: 'neutral' | 'warn' | 'critical';
}

const FINDING_TONE: Record<EnvSeverity, FindingFace['tone']> = { note: 'neutral', warning: 'warn', error: 'critical' };

export function findingFace({ severity }: EnvFinding): FindingFace {
  return { word: SEVERITY[severity] ?? severity, tone: FINDING_TONE[severity] ?? 'neutral' };
}

/** A sentence of the plan: the candidate that it is about, where it names one, and what it says. */
export interface Verdict {
  name: string | null;
  says: string;
}

export function rowVerdict({ candidate, sentence }: PlanRow, model: string): Verdict {
  // The sentence leaves the model out where it is the wanted one.
  const own = candidate.startsWith(`${model} `) ? candidate.slice(model.length + 1) : candidate;
  const rest = sentence.startsWith(`${own}: `) ? sentence.slice(own.length + 2) : sentence;
  // A mark says already that it is not used.
  return { name: own, says: capitalised(unbroken(rest.replace(/^not used: /, ''))) };
}

/** The choice is a candidate's own sentence, or a sentence about why there is none to be proud of. */
export function choiceVerdict({ candidates, choice, model }: PlanStatus): Verdict {
  const row = candidates.find(({ sentence }) => sentence === choice);
  return row ? rowVerdict(row, model) : { name: null, says: unbroken(choice) };
}

export interface RowMark {
  word: string;
  tone: 'neutral' | 'accent' | 'normal' | 'warn';
}

/** A candidate of the plan: what it is at the moment, in a word each. */
export function rowMarks({ active, chosen, verdict, ready }: PlanRow): RowMark[] {
  const marks: RowMark[] = [];
  if (active) marks.push({ word: 'Active', tone: 'accent' });
  if (chosen) marks.push({ word: 'Chosen', tone: 'normal' });
  const tone = active || chosen ? 'warn' : 'neutral';
  if (verdict !== 'fits') marks.push({ word: verdict === 'no_room' ? 'Does not fit' : 'Not used', tone });
  if (!ready) marks.push({ word: 'Not installed', tone: 'neutral' });
  return marks;
}

/** Whether a candidate is out of the question, now and without somebody's doing. */
export function isQuiet({ active, chosen, verdict, ready }: PlanRow): boolean {
  return !active && !chosen && verdict !== 'fits' && !ready;
}

/** What the conversion form is set to. */
export interface Prefill {
  source: string;
  precision: ConvertPrecision;
  format: ConvertFormat['kind'];
}

/** How to make the candidate that is worth it; `null` where no conversion makes it. */
export function worthMaking({ candidates, worth_making, source }: PlanStatus): Prefill | null {
  const row = candidates.find(({ sentence }) => sentence === worth_making);
  const precision = (['fp16', 'int8', '4bit'] as const).find((name) => row?.candidate.includes(` ${PRECISION[name]},`));
  if (!row || !precision) return null;
  return { source: source ?? '', precision, format: row.candidate.includes(', Core ML') ? 'mlpackage' : 'gguf' };
}

const MEASURE_ICON: Record<GovernorMeasure, IconName> = {
  unload: 'unload',
  batch: 'batch',
  step_down: 'down',
  step_up: 'up',
  recycle: 'recycle',
  tell: 'still',
};

export interface MeasureFace {
  word: string;
  icon: IconName;
  reason: string;
  /** The sentence about its outcome; empty where it is not known yet. */
  outcome: string;
}

export function measureFace({ measure, reason, failed, effect }: GovernorEvent): MeasureFace {
  // The other sentences begin with a model's name, which stays as it is written.
  const sentence = measure === 'batch' || measure === 'recycle' ? capitalised(reason) : reason;
  const outcome = failed !== null ? `It failed: ${failed}` : effect !== null ? `Afterwards ${effect}` : '';
  return { word: MEASURE[measure] ?? measure, icon: MEASURE_ICON[measure] ?? 'still', reason: unbroken(sentence), outcome: unbroken(outcome) };
}
