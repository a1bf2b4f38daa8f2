import { describe, expect, it } from 'vitest';

import { nothingRead } from '../platform/mock';
import { History } from './history.svelte';

const reading = (total: number | null, available: number | null) => ({ ...nothingRead(), total_bytes: total, available_bytes: available });

describe('the history of the gauge', () => {
  it('keeps fifteen minutes', () => {
    const history = new History();
    for (let second = 0; second <= 1000; second++) history.add(reading(10, 4), second * 1000);
    expect(history.points[0]?.at).toBe(100_000);
    expect(history.points.at(-1)).toEqual({ at: 1_000_000, usedBytes: 6, pressure: null });
  });

  it('lets snapshots in quick succession replace each other and never stand still', () => {
    const history = new History();
    for (let step = 0; step < 100; step++) history.add(reading(10, 4), step * 100);
    expect(history.points.length).toBeGreaterThan(9);
    expect(history.points.length).toBeLessThan(13);
  });

  it('puts what the application remembers before what came meanwhile', () => {
    const history = new History();
    history.add(reading(10, 1), 50_000);
    history.seed({ points: [2, 1].map((age_seconds) => ({ age_seconds, used_bytes: 3, pressure: 'normal' })) }, 50_000);
    expect(history.points.map(({ at, usedBytes }) => [at, usedBytes])).toEqual([[48_000, 3], [49_000, 3], [50_000, 9]]);
  });

  it('knows no use where half of the reading is missing', () => {
    const history = new History();
    history.add(reading(10, null), 0);
    history.add(reading(null, 5), 1000);
    expect(history.points.map((point) => point.usedBytes)).toEqual([null, null]);
  });
});
