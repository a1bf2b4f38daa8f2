/** Figures as people read them. A figure that is not known is an en dash, never 0. */

export const UNKNOWN = '–';

type Figure = number | null | undefined;

function known(value: Figure): value is number {
  return typeof value === 'number' && Number.isFinite(value);
}

function scaled(value: number, step: number, units: readonly string[]): string {
  let index = 0;
  // 1023.95 MB would be written as "1024.0 MB": move on before rounding does.
  while (index < units.length - 1 && Math.abs(value) >= step - 0.05) {
    value /= step;
    index += 1;
  }
  return `${index === 0 ? Math.round(value) : value.toFixed(1)} ${units[index]}`;
}

/** Memory in steps of 1024 and with the units that Activity Monitor writes: 17179869184 is `16.0 GB`. */
export function memory(bytes: Figure): string {
  return known(bytes) ? scaled(bytes, 1024, ['B', 'KB', 'MB', 'GB', 'TB']) : UNKNOWN;
}

/** Files in steps of 1000, as the Finder writes them. */
export function fileSize(bytes: Figure): string {
  return known(bytes) ? scaled(bytes, 1000, ['B', 'kB', 'MB', 'GB', 'TB']) : UNKNOWN;
}

/** Bytes per second. */
export function rate(bytesPerSecond: Figure): string {
  return known(bytesPerSecond) ? `${memory(bytesPerSecond)}/s` : UNKNOWN;
}

/** Bytes of files per second, in the steps of {@link fileSize}. */
export function fileRate(bytesPerSecond: Figure): string {
  return known(bytesPerSecond) ? `${fileSize(bytesPerSecond)}/s` : UNKNOWN;
}

/** How long a step took. */
export function milliseconds(value: Figure): string {
  if (!known(value)) return UNKNOWN;
  if (value < 9.95) return `${value.toFixed(1)} ms`;
  if (value < 999.5) return `${Math.round(value)} ms`;
  if (value < 59_950) return `${(value / 1000).toFixed(1)} s`;
  const seconds = Math.round(value / 1000);
  return `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
}

/** How long a job has been running: `0:07`, `12:30`, `1:02:03`. */
export function elapsed(value: Figure): string {
  if (!known(value)) return UNKNOWN;
  const seconds = Math.max(0, Math.floor(value / 1000));
  const two = (part: number) => String(part).padStart(2, '0');
  const hours = Math.floor(seconds / 3600);
  const minutes = Math.floor(seconds / 60) % 60;
  return hours > 0 ? `${hours}:${two(minutes)}:${two(seconds % 60)}` : `${minutes}:${two(seconds % 60)}`;
}

/** How long something will take, no more exact than such a guess can be: `8 s`, `12 min`, `1 h 05 min`. */
export function remaining(seconds: Figure): string {
  if (!known(seconds)) return UNKNOWN;
  if (seconds < 59.5) return `${Math.max(1, Math.round(seconds))} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 60) return `${minutes} min`;
  return `${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, '0')} min`;
}

/** How long ago, in the largest whole unit. */
export function age(seconds: Figure): string {
  if (!known(seconds)) return UNKNOWN;
  if (seconds < 5) return 'now';
  if (seconds < 60) return `${Math.floor(seconds)} s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  return `${Math.floor(seconds / 3600)} h ago`;
}

/** Keeps each figure of a sentence on one line with its unit. */
export function unbroken(sentence: string): string {
  return sentence.replace(/(\d) (?=(?:%|[kMGT]?B(?:\/s)?|ms|s|min|h)(?![\p{L}\d]))/gu, '$1\u00a0');
}

/** With a capital at its beginning. */
export function capitalised(sentence: string): string {
  return sentence.charAt(0).toUpperCase() + sentence.slice(1);
}

/** With a capital at its beginning, unless it begins with a name between backticks, which stays as it is written. */
export function sentence(text: string): string {
  return text.startsWith('`') ? text : capitalised(text);
}

const grouped = new Intl.NumberFormat('en-US');

export function count(value: Figure): string {
  return known(value) ? grouped.format(value) : UNKNOWN;
}

/** `1 file`, `2 files`. */
export function counted(value: number, noun: string): string {
  return `${count(value)} ${noun}${value === 1 ? '' : 's'}`;
}
