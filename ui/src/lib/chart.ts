/** Turns the gauge's history into the paths of an area chart, 300 wide and 48 high. Draws nothing itself. */
import type { TimedPoint } from '../stores/history.svelte';

export const WIDTH = 300;
export const HEIGHT = 48;
const LONGEST_MS = 15 * 60 * 1000;
const SHORTEST_MS = 2 * 60 * 1000;
/** Readings further apart than this are not joined: the machine slept, or nobody looked. */
const GAP_MS = 30_000;

export type Tone = 'normal' | 'warn' | 'critical' | 'unknown';
const BAND: Record<Tone, number> = { normal: 0, unknown: 1, warn: 3, critical: 6 };

export interface Area {
  key: string;
  pressure: Tone;
  fill: string;
  line: string;
  from: number;
  to: number;
  band: number;
}

export interface Chart {
  areas: Area[];
  spanWords: string;
}

interface Spot {
  x: number;
  y: number;
}

/** Stretches of one pressure without a gap; neighbours share a point, so that the line is unbroken. */
function stretchesOf(points: TimedPoint[]): { pressure: Tone; points: TimedPoint[] }[] {
  const result: { pressure: Tone; points: TimedPoint[] }[] = [];
  let previous: TimedPoint | null = null;
  for (const point of points) {
    if (point.usedBytes === null) {
      previous = null;
      continue;
    }
    const pressure = point.pressure ?? 'unknown';
    const joined: boolean = previous !== null && point.at - previous.at <= GAP_MS;
    const current = result.at(-1);
    if (joined && current && current.pressure === pressure) current.points.push(point);
    else result.push({ pressure, points: joined && previous ? [previous, point] : [point] });
    previous = point;
  }
  return result;
}

export function chart(points: TimedPoint[], totalBytes: number | null): Chart {
  const last = points.at(-1);
  const first = points.find((point) => point.usedBytes !== null);
  if (!last || !first || !totalBytes) return { areas: [], spanWords: '' };
  const span = Math.min(Math.max(last.at - first.at, SHORTEST_MS), LONGEST_MS);
  const spot = (point: TimedPoint): Spot => ({
    x: WIDTH * (1 - (last.at - point.at) / span),
    y: HEIGHT * (1 - Math.min(Math.max((point.usedBytes ?? 0) / totalBytes, 0), 1)),
  });
  const number = (value: number) => value.toFixed(1);
  const areas = stretchesOf(points.filter((point) => last.at - point.at <= span)).map((stretch, index): Area => {
    const spots = stretch.points.map(spot);
    const line = spots.map(({ x, y }, at) => `${at === 0 ? 'M' : 'L'}${number(x)} ${number(y)}`).join('');
    const from = spots[0]?.x ?? 0;
    const to = spots.at(-1)?.x ?? 0;
    const fill = `${line}L${number(to)} ${HEIGHT}L${number(from)} ${HEIGHT}Z`;
    return { key: `${index}`, pressure: stretch.pressure, fill, line, from, to, band: BAND[stretch.pressure] };
  });
  return { areas, spanWords: `${Math.max(1, Math.round(span / 60_000))} min` };
}
