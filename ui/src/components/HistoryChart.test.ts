import { render } from '@testing-library/svelte';
import { expect, it } from 'vitest';

import type { TimedPoint } from '../stores/history.svelte';
import HistoryChart from './HistoryChart.svelte';

const calm = (count: number): TimedPoint[] =>
  Array.from({ length: count }, (_, second) => ({ at: second * 1000, usedBytes: 50, pressure: 'normal' }));

it('is drawn anew when points come', async () => {
  const { container, rerender } = render(HistoryChart, { points: calm(1), totalBytes: 100 });
  const line = () => container.querySelector('.line')?.getAttribute('d') ?? '';
  expect(line()).not.toContain('L');
  await rerender({ points: calm(900), totalBytes: 100 });
  expect(line().split('L')).toHaveLength(900);
  expect(container.querySelector('figure')?.getAttribute('aria-label')).toContain('15 min');
});
