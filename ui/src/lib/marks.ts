/** Cuts a snippet into marked and unmarked stretches. Marks count Unicode scalar values, JavaScript's strings do not. */
import type { Mark } from '../contract/contract';

export interface Stretch {
  text: string;
  marked: boolean;
}

/** Marks in order, inside the text, not empty, and merged where they touch or overlap. */
function tidied(marks: readonly Mark[], length: number): Mark[] {
  const inside = marks
    .map(({ start, end }) => ({ start: Math.max(0, start), end: Math.min(length, end) }))
    .filter(({ start, end }) => start < end)
    .sort((left, right) => left.start - right.start);
  const merged: Mark[] = [];
  for (const mark of inside) {
    const last = merged.at(-1);
    if (last && mark.start <= last.end) last.end = Math.max(last.end, mark.end);
    else merged.push(mark);
  }
  return merged;
}

/**
 * The stretches of `snippet` in order; together they are the snippet, but for what `lead` leaves out: where the first mark
 * stands more than `lead` characters in, the text before it is shortened to that, so that a few lines show it.
 */
export function stretches(snippet: string, marks: readonly Mark[], lead = Number.POSITIVE_INFINITY): Stretch[] {
  const characters = Array.from(snippet);
  const ordered = tidied(marks, characters.length);
  const first = ordered[0];
  let at = 0;
  const result: Stretch[] = [];
  if (first && first.start > lead) {
    at = first.start - Math.floor(lead / 2);
    while (at < first.start && characters[at - 1]?.trim() !== '') at += 1;
    result.push({ text: '… ', marked: false });
  }
  const add = (end: number, marked: boolean) => {
    if (end > at) result.push({ text: characters.slice(at, end).join(''), marked });
    at = Math.max(at, end);
  };
  for (const mark of ordered) {
    add(mark.start, false);
    add(mark.end, true);
  }
  add(characters.length, false);
  return result;
}
