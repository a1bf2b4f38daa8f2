/** Turns whatever was thrown into the contract's failure. */
import type { Failure } from '../contract/contract';

function isFailure(value: unknown): value is Failure {
  return (
    typeof value === 'object' &&
    value !== null &&
    typeof (value as Failure).code === 'string' &&
    typeof (value as Failure).message === 'string'
  );
}

/** A {@link Failure} as it is; anything else becomes an internal one that keeps its text. */
export function toFailure(error: unknown): Failure {
  if (isFailure(error)) {
    return { code: error.code, message: error.message, hint: error.hint ?? null, retryable: error.retryable ?? false };
  }
  const message = error instanceof Error ? error.message : String(error);
  return { code: 'internal', message: message || 'something failed without saying what', hint: null, retryable: false };
}

/** Milliseconds to wait before the next attempt to reach the application: 0.5 s, doubling, at most 8 s. */
export function backoff(attempt: number): number {
  return Math.min(500 * 2 ** Math.min(attempt, 10), 8000);
}
