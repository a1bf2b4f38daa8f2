/** What is said about a job, in whichever window it is shown. */
import type { ConvertFormat, ConvertPrecision, Job } from '../contract/contract';
import { count, elapsed, fileRate, fileSize, remaining } from './format';
import { shownPath } from './paths';

export interface JobFace {
  word: string;
  tone: 'neutral' | 'accent' | 'normal' | 'warn' | 'critical';
  /** Whether it still has work before it. */
  open: boolean;
  share: number | null;
}

const JOB: Record<Job['state']['state'], Omit<JobFace, 'share'>> = {
  running: { word: 'Running', tone: 'accent', open: true },
  paused: { word: 'Paused', tone: 'warn', open: true },
  cancelling: { word: 'Stopping…', tone: 'neutral', open: true },
  done: { word: 'Done', tone: 'normal', open: false },
  cancelled: { word: 'Cancelled', tone: 'neutral', open: false },
  failed: { word: 'Failed', tone: 'critical', open: false },
};

export function jobFace({ state, done, total }: Job): JobFace {
  return { ...JOB[state.state], share: total ? done / total : null };
}

/** What a job is doing to what. */
export function jobTitle({ kind, title }: Job, home: string | null): string {
  return kind === 'index' ? `Indexing ${shownPath(title, home, 34)}` : title;
}

/** How far an open job is, in figures; rate and time left only where they are known. */
export function jobFigures({ unit, done, total, bytes_per_second, seconds_left, elapsed_ms }: Job): string {
  if (unit === 'bytes' && total === null) return elapsed(elapsed_ms);
  const amount = (value: number) => (unit === 'bytes' ? fileSize(value) : count(value));
  const figures = [`${amount(done)} of ${total === null ? '…' : amount(total)}${unit === 'bytes' ? '' : ` ${unit}`}`];
  if (bytes_per_second !== null) figures.push(fileRate(bytes_per_second));
  figures.push(seconds_left === null ? elapsed(elapsed_ms) : `${remaining(seconds_left)} left`);
  return figures.join(' · ');
}

/** What can be chosen for a conversion. */
export const PRECISIONS = [
  { value: 'fp16', word: 'FP16' },
  { value: 'int8', word: 'INT8' },
  { value: '4bit', word: '4-bit' },
] as const;
export const FORMATS = [
  { value: 'gguf', word: 'GGUF' },
  { value: 'mlpackage', word: 'Core ML' },
] as const;
export const SYSTEMS = [
  { value: 'macos13', word: 'macOS 13' },
  { value: 'macos14', word: '14' },
  { value: 'macos15', word: '15' },
] as const;

/** What a person should know before they choose; empty where there is nothing to say. */
export function conversionCaution(precision: ConvertPrecision, format: ConvertFormat['kind']): string {
  return precision === '4bit' && format === 'mlpackage'
    ? '4-bit Core ML packages have been reported to give wrong vectors on real Macs. INT8 is the safe choice.'
    : '';
}
