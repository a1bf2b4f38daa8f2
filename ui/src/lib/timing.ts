/** Where the time of a query went, as parts of a bar. */
import type { QueryRecord } from '../contract/contract';

export type Step = 'queue' | 'tokenize' | 'forward' | 'search';

export interface Part {
  step: Step;
  milliseconds: number;
  /** Share of the query's total, 0 to 1. */
  share: number;
}

export const STEP_WORD: Record<Step, string> = { queue: 'wait', tokenize: 'tokenise', forward: 'forward', search: 'search' };

/** The parts that took any time, in the order in which they happened; what no step accounts for is left out. */
export function parts(record: Pick<QueryRecord, 'embedding_ms' | 'search_ms' | 'total_ms'>): Part[] {
  const { queue, tokenize, forward } = record.embedding_ms;
  const steps: [Step, number][] = [
    ['queue', queue],
    ['tokenize', tokenize],
    ['forward', forward],
    ['search', record.search_ms ?? 0],
  ];
  const sum = steps.reduce((total, [, value]) => total + value, 0);
  // Clocks are read one after another: the steps may add up to a little more than the total.
  const whole = Math.max(sum, record.total_ms);
  return steps
    .filter(([, value]) => value > 0)
    .map(([step, value]) => ({ step, milliseconds: value, share: value / whole }));
}
