/** Text keeps the contrast that WCAG AA asks for, 4.5 to 1, in both schemes. */
import { describe, expect, it } from 'vitest';

import css from './tokens.css?raw';

const [lightText = '', darkText = ''] = css.split('@media (prefers-color-scheme: dark)');

function colours(text: string): Map<string, string> {
  return new Map([...text.matchAll(/--([\w-]+):\s*(#[0-9a-f]{6});/g)].map(([, name, value]) => [name ?? '', value ?? '']));
}

function luminance(hex: string): number {
  const [red = 0, green = 0, blue = 0] = [1, 3, 5].map((at) => {
    const value = Number.parseInt(hex.slice(at, at + 2), 16) / 255;
    return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}

function contrast(left: string, right: string): number {
  const [high = 0, low = 0] = [luminance(left), luminance(right)].sort((a, b) => b - a);
  return (high + 0.05) / (low + 0.05);
}

const PAIRS: [text: string, ...surfaces: string[]][] = [
  ['ink', 'window', 'surface', 'sunken', 'accent-soft', 'critical-soft', 'warn-soft'],
  ['ink-2', 'window', 'surface', 'sunken', 'accent-soft'],
  ['ink-3', 'window', 'surface', 'sunken'],
  ['on-accent', 'accent', 'accent-hover'],
  ['on-accent-soft', 'accent-soft'],
  ['normal-text', 'normal-soft'],
  ['warn-text', 'warn-soft', 'window'],
  ['critical-text', 'critical-soft', 'window'],
  ['on-mark', 'mark'],
];

it('the measure itself knows black on white', () => {
  expect(contrast('#000000', '#ffffff')).toBeCloseTo(21);
  expect(contrast('#767676', '#ffffff')).toBeCloseTo(4.54, 1);
});

describe.each([
  ['light', colours(lightText)],
  ['dark', new Map([...colours(lightText), ...colours(darkText)])],
])('in the %s scheme', (_, scheme) => {
  it.each(PAIRS.flatMap(([text, ...surfaces]) => surfaces.map((surface) => [text, surface] as const)))(
    '%s can be read on %s',
    (text, surface) => {
      expect(contrast(scheme.get(text) ?? '', scheme.get(surface) ?? '')).toBeGreaterThanOrEqual(4.5);
    },
  );
});
