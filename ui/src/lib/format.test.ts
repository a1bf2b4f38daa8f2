import { describe, expect, it } from 'vitest';

import { age, capitalised, count, counted, elapsed, fileRate, fileSize, memory, milliseconds, rate, remaining, unbroken } from './format';

describe('a figure that is not known', () => {
  it.each([null, undefined, Number.NaN, Number.POSITIVE_INFINITY])('is an en dash and never 0: %s', (value) => {
    for (const write of [memory, fileSize, fileRate, rate, milliseconds, elapsed, remaining, age, count]) expect(write(value)).toBe('–');
  });
});

describe('a figure that is 0', () => {
  it('is written as 0', () => {
    expect(memory(0)).toBe('0 B');
    expect(rate(0)).toBe('0 B/s');
    expect(milliseconds(0)).toBe('0.0 ms');
    expect(count(0)).toBe('0');
  });
});

describe('memory', () => {
  it('is written as on the box of the machine', () => {
    expect(memory(17_179_869_184)).toBe('16.0 GB');
    expect(memory(8 * 1024 ** 3)).toBe('8.0 GB');
  });

  it('never reads as 1024 of a unit', () => {
    expect(memory(1023)).toBe('1023 B');
    expect(memory(1024 ** 2 - 1)).toBe('1.0 MB');
    expect(memory(1024 ** 3 - 1)).toBe('1.0 GB');
    expect(memory(1000)).toBe('1000 B');
  });

  it('keeps the sign of a loss', () => {
    expect(memory(-3 * 1024 ** 2)).toBe('-3.0 MB');
  });
});

describe('the size of a file', () => {
  it('counts in thousands', () => {
    expect(fileSize(24_800_000)).toBe('24.8 MB');
    expect(fileSize(999)).toBe('999 B');
    expect(fileSize(999_960)).toBe('1.0 MB');
  });
});

describe('a time', () => {
  it.each([
    [0.42, '0.4 ms'],
    [9.94, '9.9 ms'],
    [9.96, '10 ms'],
    [123.4, '123 ms'],
    [999.6, '1.0 s'],
    [2400, '2.4 s'],
    [59_960, '1 min 0 s'],
    [65_000, '1 min 5 s'],
  ])('of %s ms is written as %s', (value, text) => {
    expect(milliseconds(value)).toBe(text);
  });

  it('of a job is written as a clock', () => {
    expect(elapsed(7_900)).toBe('0:07');
    expect(elapsed(750_000)).toBe('12:30');
    expect(elapsed(3_723_000)).toBe('1:02:03');
  });

  it('ago is given in its largest whole unit', () => {
    expect([2, 59, 60, 3599, 7200].map(age)).toEqual(['now', '59 s ago', '1 min ago', '59 min ago', '2 h ago']);
  });
});

it('one is singular', () => {
  expect(counted(1, 'file')).toBe('1 file');
  expect(counted(20_606, 'passage')).toBe('20,606 passages');
  expect(counted(0, 'file')).toBe('0 files');
});

describe('the time that is left', () => {
  it('is no more exact than a guess can be, and never 0', () => {
    expect([0, 8.4, 59.4, 59.6, 754, 3570, 3900].map(remaining)).toEqual(['1 s', '8 s', '59 s', '1 min', '13 min', '1 h 00 min', '1 h 05 min']);
  });
});

describe('a sentence', () => {
  it('keeps its figures together with their units, and nothing else', () => {
    expect(unbroken('needs 4.6 GB, 8 % of memory, 7 MB/s, about 4 s').replaceAll('\u00a0', '_')).toBe('needs 4.6_GB, 8_% of memory, 7_MB/s, about 4_s');
    expect(unbroken('has 3 models and 2 Benches')).toBe('has 3 models and 2 Benches');
  });

  it('begins with a capital where it is asked to', () => {
    expect(capitalised('it fits')).toBe('It fits');
    expect(capitalised('')).toBe('');
  });
});
