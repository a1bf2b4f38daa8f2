import { describe, expect, it } from 'vitest';

import type { TimedPoint } from '../stores/history.svelte';
import { chart, HEIGHT, WIDTH } from './chart';

const point = (seconds: number, usedBytes: number | null, pressure: TimedPoint['pressure'] = 'normal'): TimedPoint => ({
  at: seconds * 1000,
  usedBytes,
  pressure,
});

describe('the chart of the history', () => {
  it('spans the whole width from the first point to the last', () => {
    const { areas } = chart([point(0, 50), point(120, 50)].flatMap((end, index) => (index === 0 ? [end, point(25, 50), point(50, 50), point(75, 50), point(100, 50)] : [end])), 100);
    expect(areas).toHaveLength(1);
    expect(areas[0]?.from).toBe(0);
    expect(areas[0]?.to).toBe(WIDTH);
    expect(areas[0]?.line.startsWith(`M0.0 ${(HEIGHT / 2).toFixed(1)}L`)).toBe(true);
  });

  it('starts a new area where the pressure changes and leaves no gap between the two', () => {
    const { areas } = chart([point(0, 50), point(1, 60), point(2, 90, 'warn'), point(3, 95, 'critical')], 100);
    expect(areas.map((area) => area.pressure)).toEqual(['normal', 'warn', 'critical']);
    expect(areas[1]?.from).toBe(areas[0]?.to);
    expect(areas[2]?.from).toBe(areas[1]?.to);
  });

  it('tells the pressure without colour too', () => {
    const { areas } = chart([point(0, 50), point(1, 90, 'warn'), point(2, 95, 'critical'), point(3, 95, null)], 100);
    const bands = areas.map((area) => area.band);
    expect(new Set(bands).size).toBe(4);
  });

  it('joins nothing over a reading that failed or over a long silence', () => {
    const { areas } = chart([point(0, 50), point(1, null), point(2, 50), point(100, 50)], 100);
    expect(areas).toHaveLength(3);
  });

  it('draws nothing without a total or without a single figure', () => {
    expect(chart([point(0, 50)], null).areas).toEqual([]);
    expect(chart([point(0, null)], 100).areas).toEqual([]);
    expect(chart([], 100).areas).toEqual([]);
  });

  it('draws fifteen minutes of readings as one line', () => {
    const points = Array.from({ length: 901 }, (_, second) => point(second, 50));
    const { areas, spanWords } = chart(points, 100);
    expect(areas).toHaveLength(1);
    expect(areas[0]?.from).toBe(0);
    expect(spanWords).toBe('15 min');
  });
});
