/** The contract's names in words. */
import type { BackendName, EnvSeverity, FoundBy, GovernorMeasure, Precision, Pressure, RemoteConsent } from '../contract/contract';
import { UNKNOWN } from './format';

export const PRECISION: Record<Precision, string> = { fp32: 'FP32', fp16: 'FP16', int8: 'INT8', '4bit': '4-bit', unknown: 'precision unknown' };

export const BACKEND: Record<BackendName, string> = {
  candle_cpu: 'candle, CPU',
  cpu: 'CPU',
  candle_metal: 'candle, Metal',
  core_ml: 'Core ML',
  core_ml_interpreted: 'Core ML (interpreted, slow)',
  remote: 'a server on the network',
};

export const FOUND_BY: Record<FoundBy, string> = { words: 'words', meaning: 'meaning', both: 'words + meaning' };

export const SEVERITY: Record<EnvSeverity, string> = { note: 'Note', warning: 'Warning', error: 'Error' };

export const MEASURE: Record<GovernorMeasure, string> = {
  unload: 'Unloaded',
  batch: 'Batch size',
  step_down: 'Stepped down',
  step_up: 'Stepped up',
  recycle: 'Worker replaced',
  tell: 'Left as it is',
};

export const CONSENT: Record<RemoteConsent, string> = { unasked: 'Asks', granted: 'Allowed', refused: 'Refused' };

/** What the word means, for a tooltip. */
export const SIMULATED_MEANS = 'The machine’s memory is a recording; the models, their sizes and vectors are real.';

const PRESSURE: Record<Pressure, string> = { normal: 'Normal', warn: 'Warning', critical: 'Critical' };

export function pressureWord(pressure: Pressure | null | undefined): string {
  return pressure ? PRESSURE[pressure] : UNKNOWN;
}
