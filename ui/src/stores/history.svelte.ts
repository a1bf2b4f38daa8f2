/** The memory gauge's history: what the application remembers, then what the snapshots add. */
import type { MemoryHistory, MemoryReading, Pressure } from '../contract/contract';

export interface TimedPoint {
  /** Milliseconds on the caller's clock. */
  at: number;
  usedBytes: number | null;
  pressure: Pressure | null;
}

const WINDOW_MS = 15 * 60 * 1000;
/** Snapshots come for other reasons than memory too; closer ones replace each other. */
const SPACING_MS = 900;

export class History {
  points = $state.raw<TimedPoint[]>([]);

  /** Puts the remembered points in front of those that came meanwhile. */
  seed(history: MemoryHistory, now: number): void {
    const earlier = history.points.map(({ age_seconds, used_bytes, pressure }) => ({
      at: now - age_seconds * 1000,
      usedBytes: used_bytes,
      pressure,
    }));
    const last = earlier.at(-1)?.at ?? Number.NEGATIVE_INFINITY;
    this.points = [...earlier, ...this.points.filter(({ at }) => at > last)];
  }

  add({ total_bytes, available_bytes, pressure }: MemoryReading, now: number): void {
    const usedBytes = total_bytes === null || available_bytes === null ? null : total_bytes - available_bytes;
    const kept = this.points.filter(({ at }) => at >= now - WINDOW_MS);
    const last = kept.at(-1);
    if (last && now - last.at < SPACING_MS) kept.pop();
    const at = last && now - last.at < SPACING_MS ? last.at : now;
    this.points = [...kept, { at, usedBytes, pressure }];
  }
}
