//! Byte-pair encoding of one word: its characters merge, the lowest rank first and the leftmost of equal ones, until nothing
//! merges any more. It knows neither what a word is nor what its characters stand for.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::layout::{Merge, NONE, Tables};

/// Up to this many characters looking at all pairs for every merge is faster than keeping them in order.
const SHORT: usize = 48;

/// No merge.
const APART: Merge = Merge { rank: NONE, merged: NONE };

/// Calls `emit` with the tokens of `word` and how many of its bytes each one is. Characters that are no token are left out,
/// as the library leaves them out, and their bytes with them.
pub(crate) fn encode(tables: &Tables<'_>, word: &str, mut emit: impl FnMut(u32, usize)) {
    let mut characters =
        word.chars().filter_map(|character| Some((tables.character(character)?, character.len_utf8() as u32)));
    let mut short = Short { ids: [0; SHORT], lengths: [0; SHORT], merges: [APART; SHORT], count: 0 };
    for (id, length) in characters.by_ref().take(SHORT) {
        short.ids[short.count] = id;
        short.lengths[short.count] = length;
        short.count += 1;
    }
    match characters.next() {
        None => short.run(tables, emit),
        Some(one_more) => {
            let first = short.ids.into_iter().zip(short.lengths);
            Long::new(tables, first.chain([one_more]).chain(characters)).run(tables, &mut emit);
        }
    }
}

fn merge(tables: &Tables<'_>, left: u32, right: u32) -> Merge {
    tables.merge(left, right).unwrap_or(APART)
}

/// A word of few characters, side by side.
struct Short {
    ids: [u32; SHORT],
    lengths: [u32; SHORT],
    /// Of each token with the next one.
    merges: [Merge; SHORT],
    count: usize,
}

impl Short {
    fn run(&mut self, tables: &Tables<'_>, mut emit: impl FnMut(u32, usize)) {
        for index in 1..self.count {
            self.merges[index - 1] = merge(tables, self.ids[index - 1], self.ids[index]);
        }
        while let Some(at) = self.lowest() {
            self.join(at);
            if at > 0 {
                self.merges[at - 1] = merge(tables, self.ids[at - 1], self.ids[at]);
            }
            if at + 1 < self.count {
                self.merges[at] = merge(tables, self.ids[at], self.ids[at + 1]);
            }
        }
        for (id, length) in self.ids.iter().zip(self.lengths).take(self.count) {
            emit(*id, length as usize);
        }
    }

    /// Where the first merge of the lowest rank is.
    fn lowest(&self) -> Option<usize> {
        let pairs = self.merges.get(..self.count.checked_sub(1)?)?;
        let (at, merge) = pairs.iter().enumerate().min_by_key(|(_, merge)| merge.rank)?;
        (merge.rank != NONE).then_some(at)
    }

    /// Puts the pair at `at` into one token; the merges to both sides are not true any more.
    fn join(&mut self, at: usize) {
        self.ids[at] = self.merges[at].merged;
        self.lengths[at] += self.lengths[at + 1];
        self.ids.copy_within(at + 2..self.count, at + 1);
        self.lengths.copy_within(at + 2..self.count, at + 1);
        self.merges.copy_within(at + 1..self.count, at);
        self.count -= 1;
    }
}

/// A token of a long word.
#[derive(Clone, Copy)]
struct Symbol {
    id: u32,
    length: u32,
    /// The index of the one before, or [`NONE`].
    previous: u32,
    /// The index of the one after, or [`NONE`].
    next: u32,
    /// With the next one; what is not a merge any more has another rank here than in the queue.
    merge: Merge,
}

/// A word of any length, linked, with its merges in a queue: a text may be one word of a megabyte.
struct Long {
    symbols: Vec<Symbol>,
    /// Rank and place of each merge, also of those that are none any more.
    queue: BinaryHeap<Reverse<(u32, u32)>>,
}

impl Long {
    fn new(tables: &Tables<'_>, characters: impl Iterator<Item = (u32, u32)>) -> Self {
        let mut symbols: Vec<Symbol> = characters
            .zip(0_u32..)
            .map(|((id, length), index)| Symbol {
                id,
                length,
                previous: index.checked_sub(1).unwrap_or(NONE),
                next: index + 1,
                merge: APART,
            })
            .collect();
        if let Some(last) = symbols.last_mut() {
            last.next = NONE;
        }
        let mut queue = Vec::with_capacity(symbols.len());
        for index in 1..symbols.len() {
            let merge = merge(tables, symbols[index - 1].id, symbols[index].id);
            symbols[index - 1].merge = merge;
            if merge != APART {
                queue.push(Reverse((merge.rank, index as u32 - 1)));
            }
        }
        Self { symbols, queue: queue.into() }
    }

    fn run(mut self, tables: &Tables<'_>, emit: &mut impl FnMut(u32, usize)) {
        while let Some(Reverse((rank, at))) = self.queue.pop() {
            let symbol = self.symbols[at as usize];
            if symbol.merge.rank != rank || symbol.next == NONE {
                continue;
            }
            let right = self.symbols[symbol.next as usize];
            // What went into its left neighbour merges with nothing: its entries in the queue are void.
            self.symbols[symbol.next as usize].merge = APART;
            if right.next != NONE {
                self.symbols[right.next as usize].previous = at;
            }
            let joined = &mut self.symbols[at as usize];
            joined.id = symbol.merge.merged;
            joined.length += right.length;
            joined.next = right.next;
            joined.merge = APART;
            self.pair(tables, symbol.previous, at);
            self.pair(tables, at, right.next);
        }
        let mut at = 0;
        while let Some(symbol) = self.symbols.get(at as usize) {
            emit(symbol.id, symbol.length as usize);
            at = symbol.next;
        }
    }

    /// Looks up what the neighbours `left` and `right` become.
    fn pair(&mut self, tables: &Tables<'_>, left: u32, right: u32) {
        if left == NONE || right == NONE {
            return;
        }
        let merge = merge(tables, self.symbols[left as usize].id, self.symbols[right as usize].id);
        self.symbols[left as usize].merge = merge;
        if merge != APART {
            self.queue.push(Reverse((merge.rank, left)));
        }
    }
}
