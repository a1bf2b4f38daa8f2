//! Scaled dot-product attention over packed texts of any lengths: full or causal, with grouped key and value heads.
//!
//! The work is cut into [`Plan`] items, each some queries of some heads of one text, that are independent of each other and
//! may run on any thread. Within an item a panel of queries meets the keys block by block; the softmax is corrected
//! whenever a later block brings a larger score, so that scores exist for one block at a time. The panel's queries are laid
//! out so that each lane of a vector is another query: largest scores and sums are then made lane by lane, and keys and
//! values are read where they are. What a text gives does not depend on what else is in the batch.

#![expect(clippy::inline_always, reason = "see `lanes`")]
#![expect(unsafe_code, reason = "items of one output write to disjoint parts of its rows")]

use std::{marker::PhantomData, ops::Range};

use crate::{
    Isa,
    arena::Buffer,
    elementwise::exp2,
    lanes::{Body, LANES, Lanes, run, transpose},
    team::Team,
};

/// Keys whose scores exist at a time.
const BLOCK: usize = 64;
/// Most queries in an item: a whole number of panels at every level.
const ITEM_QUERIES: usize = 64;
/// An item of less work than this, in multiplications, would spend its time on being handed out.
const ITEM_WORK: usize = 1 << 18;
/// Most queries in a panel, and most columns of values that it takes at a time.
const LARGEST_PANEL: usize = 2 * LANES;
/// Less than any score: what a query scores that has seen none yet.
const LOWEST: f32 = -1e30;

/// What is the same for every text.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shape {
    /// Heads of queries.
    pub heads: usize,
    /// Heads of keys and of values, by which `heads` is divisible.
    pub groups: usize,
    /// Numbers in a head: a multiple of 16.
    pub width: usize,
    /// Whether a query sees only the keys up to its own.
    pub causal: bool,
    /// What scores are multiplied with before the softmax.
    pub scale: f32,
}

/// Part of the columns of rows that lie end to end: each row has `stride` numbers, and the part begins at `column`.
#[derive(Clone, Copy, Debug)]
pub struct Columns<'a> {
    /// `[total][stride]`.
    pub rows: &'a [f32],
    /// Numbers from one row to the next.
    pub stride: usize,
    /// The first column of the part.
    pub column: usize,
}

impl<'a> Columns<'a> {
    /// `width` numbers of a row from `column` of the part on.
    #[inline(always)]
    fn row(&self, row: usize, column: usize, width: usize) -> &'a [f32] {
        &self.rows[row * self.stride + self.column + column..][..width]
    }

    fn check(&self, total: usize, width: usize) {
        assert!(self.column + width <= self.stride, "the columns lie within a row");
        assert!(self.rows.len() >= total * self.stride, "a row for each token");
    }
}

/// [`Columns`] to write to.
#[derive(Debug)]
pub struct ColumnsMut<'a> {
    /// `[total][stride]`.
    pub rows: &'a mut [f32],
    /// Numbers from one row to the next.
    pub stride: usize,
    /// The first column of the part.
    pub column: usize,
}

/// Queries of some heads of a text, with the keys that they may see.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Item {
    heads: Range<usize>,
    queries: Range<usize>,
    text: Range<usize>,
    work: usize,
}

/// The items of a batch, made once for all layers, which have the same shape.
#[derive(Debug, Default)]
pub struct Plan {
    items: Vec<Item>,
    /// Rows of the batch.
    total: usize,
}

impl Plan {
    /// A plan without items.
    pub const fn new() -> Self {
        Self { items: Vec::new(), total: 0 }
    }

    /// Replaces the items by those of a batch: text t is rows `offsets[t]..offsets[t + 1]`.
    ///
    /// Allocates only if there are more items than ever before.
    ///
    /// # Panics
    ///
    /// If an offset is less than the one before it.
    pub fn prepare(&mut self, shape: &Shape, offsets: &[usize]) {
        self.items.clear();
        self.total = offsets.last().copied().unwrap_or(0);
        for text in offsets.windows(2) {
            let text = text[0]..text[1];
            assert!(text.start <= text.end, "texts one after the other");
            for first in text.clone().step_by(ITEM_QUERIES) {
                let queries = first..text.end.min(first + ITEM_QUERIES);
                let seen = if shape.causal { queries.end } else { text.end } - text.start;
                let work_of_head = 2 * queries.len() * seen * shape.width;
                let step = ITEM_WORK.div_ceil(work_of_head).min(shape.heads).max(1);
                for head in (0..shape.heads).step_by(step) {
                    let heads = head..shape.heads.min(head + step);
                    let work = work_of_head * heads.len();
                    self.items.push(Item { heads, queries: queries.clone(), text: text.clone(), work });
                }
            }
        }
        // The longest first, so that no thread begins one when the others are about to be done.
        self.items.sort_unstable_by_key(|item| (usize::MAX - item.work, item.queries.start, item.heads.start));
    }

    /// How many items there are.
    pub fn items(&self) -> usize {
        self.items.len()
    }
}

/// What one thread needs for itself; grows to what the largest item takes.
#[derive(Default)]
pub struct Scratch {
    numbers: Buffer<f32>,
}

impl Scratch {
    /// One without memory.
    pub const fn new() -> Self {
        Self { numbers: Buffer::new() }
    }

    /// Makes it large enough for any item of `shape`, which the first item would do otherwise.
    pub fn reserve(&mut self, shape: &Shape) {
        self.numbers.numbers_mut(memory_of_panel(shape.width, LARGEST_PANEL, LARGEST_PANEL));
    }
}

/// The attention of one layer to one batch.
#[derive(Clone, Copy, Debug)]
pub struct Attention<'a> {
    plan: &'a Plan,
    shape: Shape,
    queries: Columns<'a>,
    keys: Columns<'a>,
    values: Columns<'a>,
}

impl<'a> Attention<'a> {
    /// `queries` are `[total][heads * width]`, and `keys` and `values` `[total][groups * width]`; `plan` was prepared for
    /// `shape`.
    ///
    /// # Panics
    ///
    /// If the heads are not a multiple of the groups, the width not one of 16, or the columns do not lie within the rows.
    pub fn new(plan: &'a Plan, shape: Shape, queries: Columns<'a>, keys: Columns<'a>, values: Columns<'a>) -> Self {
        assert!(shape.groups > 0 && shape.heads.is_multiple_of(shape.groups), "as many heads in each group");
        assert!(shape.width > 0 && shape.width.is_multiple_of(LANES), "a width that is a multiple of 16");
        queries.check(plan.total, shape.heads * shape.width);
        keys.check(plan.total, shape.groups * shape.width);
        values.check(plan.total, shape.groups * shape.width);
        Self { plan, shape, queries, keys, values }
    }

    /// How many items there are to [`Self::run`].
    pub fn items(&self) -> usize {
        self.plan.items()
    }

    /// Computes one item: some columns of some rows of `output`, which is `[total][heads * width]`.
    ///
    /// # Panics
    ///
    /// If there is no such item, or the columns of the output do not lie within its rows.
    pub fn run(&self, isa: Isa, item: usize, output: &mut ColumnsMut, scratch: &mut Scratch) {
        let output = self.shared(output);
        // SAFETY: the output is borrowed, so that nothing else writes to it.
        unsafe { self.run_shared(isa, item, &output, scratch) }
    }

    /// Computes all items on this thread.
    ///
    /// # Panics
    ///
    /// If the columns of the output do not lie within its rows.
    pub fn run_all(&self, isa: Isa, output: &mut ColumnsMut, scratch: &mut Scratch) {
        for item in 0..self.items() {
            self.run(isa, item, output, scratch);
        }
    }

    /// Computes all items on the threads of `team`, which has as many threads as there are `scratches` at most.
    ///
    /// # Panics
    ///
    /// If there are fewer scratches than threads, or the columns of the output do not lie within its rows.
    pub fn run_on(&self, isa: Isa, team: &Team, output: &mut ColumnsMut, scratches: &mut [Scratch]) {
        let output = self.shared(output);
        team.for_each_with(scratches, self.items(), |item, scratch| {
            // SAFETY: the output is borrowed, and the team hands out each item once.
            unsafe { self.run_shared(isa, item, &output, scratch) }
        });
    }

    fn shared<'b>(&self, output: &'b mut ColumnsMut) -> SharedOutput<'b> {
        let width = self.shape.heads * self.shape.width;
        assert!(output.column + width <= output.stride, "the columns lie within a row");
        assert!(output.rows.len() >= self.plan.total * output.stride, "a row for each token");
        SharedOutput {
            pointer: output.rows.as_mut_ptr(),
            length: output.rows.len(),
            stride: output.stride,
            column: output.column,
            borrowed: PhantomData,
        }
    }

    /// # Safety
    ///
    /// No two calls with the same item and output run at the same time.
    unsafe fn run_shared(&self, isa: Isa, item: usize, output: &SharedOutput, scratch: &mut Scratch) {
        let item = &self.plan.items[item];
        run(isa, RunItem { attention: self, item, output, scratch });
    }
}

/// Rows that several threads write to, each to columns that no other writes to.
struct SharedOutput<'a> {
    pointer: *mut f32,
    length: usize,
    stride: usize,
    column: usize,
    borrowed: PhantomData<&'a mut [f32]>,
}

// SAFETY: it is only written to through `row_mut`, whose callers see to it that threads do not meet.
unsafe impl Sync for SharedOutput<'_> {}

impl SharedOutput<'_> {
    /// `width` numbers of a row from `column` of the part on.
    ///
    /// # Safety
    ///
    /// Nothing else refers to these numbers at the same time.
    #[inline(always)]
    #[expect(clippy::mut_from_ref, reason = "that is what it is for")]
    unsafe fn row_mut(&self, row: usize, column: usize, width: usize) -> &mut [f32] {
        let first = row * self.stride + self.column + column;
        assert!(first + width <= self.length, "within the output");
        // SAFETY: they lie within what the pointer was made from, which is borrowed as long as `self`, and the caller
        // refers to them only here.
        unsafe { std::slice::from_raw_parts_mut(self.pointer.add(first), width) }
    }
}

struct RunItem<'a, 'b> {
    attention: &'a Attention<'b>,
    item: &'a Item,
    output: &'a SharedOutput<'a>,
    scratch: &'a mut Scratch,
}

impl Body for RunItem<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        let Self { attention, item, output, scratch } = self;
        for head in item.heads.clone() {
            let mut first = item.queries.start;
            while first < item.queries.end {
                let left = item.queries.end - first;
                // What fits in the registers: 16 sums of 16 lanes and what goes into them, or 4.
                let panel = Panel { attention, output, head, text: item.text.clone(), first, queries: 0 };
                if !L::WIDE {
                    panel.run::<L, 1, 4, 1>(left, scratch);
                    first += LANES;
                } else if left <= LANES {
                    panel.run::<L, 1, 8, 2>(left, scratch);
                    first += LANES;
                } else {
                    panel.run::<L, 2, 8, 2>(left, scratch);
                    first += 2 * LANES;
                }
            }
        }
    }
}

/// As many queries of a head as have a lane each in `V` vectors.
struct Panel<'a, 'b> {
    attention: &'a Attention<'b>,
    output: &'a SharedOutput<'a>,
    head: usize,
    text: Range<usize>,
    /// The row of the first query.
    first: usize,
    /// How many there are: at most `V * LANES`.
    queries: usize,
}

/// How many numbers a panel of `queries` needs that takes `columns` of the values at a time.
fn memory_of_panel(width: usize, queries: usize, columns: usize) -> usize {
    (2 * width + BLOCK) * queries + BLOCK * columns
}

/// Numbers of the queries of a panel, each in its lane.
type Vectors<const V: usize> = [[f32; LANES]; V];

/// The part of the memory of an item that a panel uses.
struct Memory<'a, const V: usize> {
    /// `[width]`: the queries, times the scale.
    queries: &'a mut [Vectors<V>],
    /// `[BLOCK]`: scores and then exponentials.
    scores: &'a mut [Vectors<V>],
    /// `[V * LANES][width]`: the weighted sums of values so far.
    sums: &'a mut [f32],
    /// `[BLOCK][C]`: some columns of the values of a block.
    values: &'a mut [[f32; LANES]],
}

/// The softmax of the queries of a panel so far.
struct Softmax<L, const V: usize> {
    largest: [L; V],
    sum: [L; V],
}

impl Panel<'_, '_> {
    /// Computes at most `left` queries in panels of `V` vectors, in tiles of `T` keys by `V` vectors of queries and of `T`
    /// queries by `C` vectors of values.
    #[inline(always)]
    fn run<L: Lanes, const V: usize, const T: usize, const C: usize>(mut self, left: usize, scratch: &mut Scratch) {
        self.queries = left.min(V * LANES);
        let Shape { heads, groups, width, causal, .. } = self.attention.shape;
        let lanes = V * LANES;
        let memory = scratch.numbers.numbers_mut(memory_of_panel(width, lanes, C * LANES));
        let (queries, memory) = memory.split_at_mut(width * lanes);
        let (scores, memory) = memory.split_at_mut(BLOCK * lanes);
        let (sums, values) = memory.split_at_mut(width * lanes);
        let mut memory = Memory::<V> {
            queries: queries.as_chunks_mut().0.as_chunks_mut().0,
            scores: scores.as_chunks_mut().0.as_chunks_mut().0,
            sums,
            values: values.as_chunks_mut().0,
        };
        self.transpose_queries::<L, V>(memory.queries);
        let group_column = self.head / (heads / groups) * width;
        let mut softmax = Softmax { largest: [L::splat(LOWEST); V], sum: [L::zero(); V] };
        let seen = if causal { self.first + self.queries } else { self.text.end };
        for start in (self.text.start..seen).step_by(BLOCK) {
            let keys = start..seen.min(start + BLOCK);
            let largest = self.score::<L, V, T>(&mut memory, &keys, group_column);
            let shrink = softmax.add(&mut memory.scores[..keys.len()], largest);
            let block = Block { keys, is_first: start == self.text.start, shrink };
            let mut column = 0;
            while column + C * LANES <= width {
                self.weigh::<L, V, T, C>(&mut memory, &block, [group_column, column]);
                column += C * LANES;
            }
            if column < width {
                self.weigh::<L, V, T, 1>(&mut memory, &block, [group_column, column]);
            }
        }
        self.finish(memory.sums, &softmax.sum);
    }

    /// Writes number i of each query, times the scale, to vectors i.
    #[inline(always)]
    fn transpose_queries<L: Lanes, const V: usize>(&self, transposed: &mut [Vectors<V>]) {
        let width = transposed.len();
        // The exponentials are powers of 2.
        let scale = L::splat(self.attention.shape.scale * std::f32::consts::LOG2_E);
        for (i, transposed) in transposed.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
            for v in 0..V {
                let mut square = [L::zero(); LANES];
                for (lane, numbers) in square.iter_mut().enumerate() {
                    let query = v * LANES + lane;
                    if query < self.queries {
                        let column = self.head * width + i * LANES;
                        *numbers = L::load(self.attention.queries.row(self.first + query, column, LANES)) * scale;
                    }
                }
                for (transposed, numbers) in transposed.iter_mut().zip(transpose(square)) {
                    numbers.store(&mut transposed[v]);
                }
            }
        }
    }

    /// Writes the scores of a block of keys and gives the largest of each query.
    #[inline(always)]
    fn score<L: Lanes, const V: usize, const T: usize>(
        &self,
        memory: &mut Memory<V>,
        keys: &Range<usize>,
        group_column: usize,
    ) -> [L; V] {
        let width = self.attention.shape.width;
        let mut largest = [L::splat(LOWEST); V];
        let (tiles, _) = memory.scores.as_chunks_mut::<T>();
        for (first, scores) in keys.clone().step_by(T).zip(tiles) {
            let mut rows = [[].as_slice(); T];
            for (i, row) in rows.iter_mut().enumerate() {
                // Beyond the last key it is scored again, into rows that nobody reads.
                *row = self.attention.keys.row((first + i).min(keys.end - 1), group_column, width);
            }
            let mut sums = products::<L, V, T>(memory.queries, rows);
            if self.attention.shape.causal && first + T > self.first {
                self.hide_later_keys(&mut sums, first);
            }
            for i in 0..T {
                for v in 0..V {
                    largest[v] = sums[i][v].at_least(largest[v]);
                    sums[i][v].store(&mut scores[i][v]);
                }
            }
        }
        largest
    }

    /// Replaces the scores of keys, the first of which is `first`, that come after a query.
    #[inline(always)]
    fn hide_later_keys<L: Lanes, const V: usize, const T: usize>(&self, scores: &mut [[L; V]; T], first: usize) {
        let lanes = L::load(&std::array::from_fn::<f32, LANES, _>(|lane| lane as f32));
        for (i, scores) in scores.iter_mut().enumerate() {
            for (v, scores) in scores.iter_mut().enumerate() {
                // In how many lanes, counted from the first one, the query comes before the key.
                let before = (first + i) as f32 - (self.first + v * LANES) as f32;
                *scores = lanes.where_below(L::splat(before), L::splat(LOWEST), *scores);
            }
        }
    }

    /// Adds `C` vectors of columns of the weighted values of a block, after shrinking what was added before.
    #[inline(always)]
    fn weigh<L: Lanes, const V: usize, const T: usize, const C: usize>(
        &self,
        memory: &mut Memory<V>,
        block: &Block<V>,
        [group_column, column]: [usize; 2],
    ) {
        let Shape { width, causal, .. } = self.attention.shape;
        // Read once per tile, and in a merged buffer often a multiple of 4096 bytes apart, where few of them would stay in
        // the nearest cache.
        let (values, _) = memory.values.as_chunks_mut::<C>();
        for (key, values) in block.keys.clone().zip(&mut *values) {
            let row = self.attention.values.row(key, group_column + column, C * LANES);
            for (c, values) in values.iter_mut().enumerate() {
                L::load(&row[c * LANES..]).store(values);
            }
        }
        for query in (0..self.queries).step_by(T) {
            let end = if causal { block.keys.end.min(self.first + query + T) } else { block.keys.end };
            let seen = end.saturating_sub(block.keys.start);
            let mut sums = [[L::zero(); C]; T];
            if !block.is_first {
                for (t, sums) in sums.iter_mut().enumerate() {
                    let shrink = L::splat(block.shrink.as_flattened()[query + t]);
                    for (c, sum) in sums.iter_mut().enumerate() {
                        *sum = L::load(&memory.sums[(query + t) * width + column + c * LANES..]) * shrink;
                    }
                }
            }
            for (values, weights) in values[..seen].iter().zip(&*memory.scores) {
                let weights = &weights.as_flattened()[query..][..T];
                for t in 0..T {
                    let weight = L::splat(weights[t]);
                    for c in 0..C {
                        sums[t][c] = weight.mul_add(L::load(&values[c]), sums[t][c]);
                    }
                }
            }
            for (t, sums) in sums.iter().enumerate() {
                for (c, sum) in sums.iter().enumerate() {
                    sum.store(&mut memory.sums[(query + t) * width + column + c * LANES..]);
                }
            }
        }
    }

    /// Divides by the sums of the softmax and writes to the output.
    #[inline(always)]
    fn finish<L: Lanes, const V: usize>(&self, sums: &[f32], softmax_sums: &[L; V]) {
        let width = self.attention.shape.width;
        for (query, sums) in sums.chunks_exact(width).take(self.queries).enumerate() {
            let scale = 1.0 / softmax_sums[query / LANES].to_array()[query % LANES];
            // SAFETY: this item alone has this query of this head, and it refers to it only here.
            let row = unsafe { self.output.row_mut(self.first + query, self.head * width, width) };
            for (number, sum) in row.iter_mut().zip(sums) {
                *number = sum * scale;
            }
        }
    }
}

/// Keys whose exponentials are there, to be added to the sums.
struct Block<const V: usize> {
    keys: Range<usize>,
    /// Whether nothing was added before.
    is_first: bool,
    /// What to multiply what was added before with.
    shrink: Vectors<V>,
}

/// The products of `T` keys with the queries of a panel.
#[inline(always)]
fn products<L: Lanes, const V: usize, const T: usize>(queries: &[Vectors<V>], mut keys: [&[f32]; T]) -> [[L; V]; T] {
    let mut sums = [[L::zero(); V]; T];
    for key in &mut keys {
        *key = &key[..queries.len()];
    }
    for (column, queries) in queries.iter().enumerate() {
        for t in 0..T {
            let key = L::splat(keys[t][column]);
            for v in 0..V {
                sums[t][v] = key.mul_add(L::load(&queries[v]), sums[t][v]);
            }
        }
    }
    sums
}

impl<L: Lanes, const V: usize> Softmax<L, V> {
    /// Turns the scores of a block into exponentials and gives what to multiply what was computed before with.
    #[inline(always)]
    fn add(&mut self, scores: &mut [Vectors<V>], largest: [L; V]) -> Vectors<V> {
        let mut shrink = [[0.0; LANES]; V];
        for v in 0..V {
            let largest = largest[v].at_least(self.largest[v]);
            let factor = exp2::<L>(self.largest[v] - largest);
            self.largest[v] = largest;
            self.sum[v] = self.sum[v] * factor;
            factor.store(&mut shrink[v]);
        }
        for scores in scores {
            for (v, score) in scores.iter_mut().enumerate() {
                let exp = exp2::<L>(L::load(score) - self.largest[v]);
                self.sum[v] = self.sum[v] + exp;
                exp.store(score);
            }
        }
        shrink
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::team::Options;

    /// One query head of one text, in F64 and with all scores at once.
    fn naive(shape: &Shape, [queries, keys, values]: [&[f32]; 3], text: Range<usize>, head: usize) -> Vec<Vec<f64>> {
        let Shape { heads, groups, width, .. } = *shape;
        let group = head / (heads / groups);
        let query_row = |row: usize| &queries[(row * heads + head) * width..][..width];
        let row = |rows, row: usize| -> Vec<f64> {
            let rows: &[f32] = rows;
            rows[(row * groups + group) * width..][..width].iter().map(|&x| f64::from(x)).collect()
        };
        let query = |query: usize| {
            let seen = text.start..if shape.causal { query + 1 } else { text.end };
            let score = |key| {
                let products = query_row(query).iter().zip(row(keys, key)).map(|(&x, y)| f64::from(x) * y);
                products.sum::<f64>() * f64::from(shape.scale)
            };
            let scores: Vec<f64> = seen.clone().map(score).collect();
            let largest = scores.iter().copied().fold(f64::MIN, f64::max);
            let weights: Vec<f64> = scores.iter().map(|score| (score - largest).exp()).collect();
            let sum: f64 = weights.iter().sum();
            let mut result = vec![0.0; width];
            for (key, weight) in seen.zip(weights) {
                for (result, value) in result.iter_mut().zip(row(values, key)) {
                    *result += weight / sum * value;
                }
            }
            result
        };
        text.clone().map(query).collect()
    }

    /// Numbers in -1..1 that look random.
    fn numbers(count: usize, seed: u32) -> Vec<f32> {
        let mut state = seed.wrapping_mul(2_654_435_761) | 1;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state as f32 / u32::MAX as f32 * 2.0 - 1.0
        };
        (0..count).map(|_| next()).collect()
    }

    /// Compares every level with the naive one, from one merged buffer and into a wider output.
    fn check(shape: Shape, lengths: &[usize], magnitude: f32, seed: u32) {
        let Shape { heads, groups, width, .. } = shape;
        let mut offsets = vec![0];
        for length in lengths {
            offsets.push(offsets[offsets.len() - 1] + length);
        }
        let total = offsets[lengths.len()];
        let queries = numbers(total * heads * width, seed).into_iter().map(|x| x * magnitude).collect::<Vec<_>>();
        let keys = numbers(total * groups * width, seed + 1);
        let values = numbers(total * groups * width, seed + 2);
        let stride = (heads + 2 * groups) * width + 3;
        let mut merged = vec![f32::NAN; total * stride];
        for row in 0..total {
            let mut rest = &mut merged[row * stride + 3..][..stride - 3];
            for (part, part_width) in [(&queries, heads * width), (&keys, groups * width), (&values, groups * width)] {
                let (this, after) = rest.split_at_mut(part_width);
                this.copy_from_slice(&part[row * part_width..][..part_width]);
                rest = after;
            }
        }
        let columns = |column| Columns { rows: &merged, stride, column: 3 + column * width };
        let mut plan = Plan::new();
        plan.prepare(&shape, &offsets);
        let attention = Attention::new(&plan, shape, columns(0), columns(heads), columns(heads + groups));
        let output_stride = heads * width + 5;
        let mut scratch = Scratch::new();
        for isa in Isa::available() {
            let mut output = vec![9.0; total * output_stride];
            attention.run_all(
                isa,
                &mut ColumnsMut { rows: &mut output, stride: output_stride, column: 2 },
                &mut scratch,
            );
            for (text, head) in offsets.windows(2).flat_map(|text| (0..heads).map(|head| (text[0]..text[1], head))) {
                let expected = naive(&shape, [&queries, &keys, &values], text.clone(), head);
                for (row, expected) in text.zip(expected) {
                    let results = &output[row * output_stride + 2 + head * width..][..width];
                    for (&result, expected) in results.iter().zip(expected) {
                        let error = (f64::from(result) - expected).abs();
                        // The rounding of a score of size s changes its weight by s * 2^-24 or so.
                        let tolerance = 4e-6 + 4e-7 * f64::from(magnitude) * (width as f64).sqrt();
                        assert!(error <= tolerance, "{isa:?} row {row} head {head}: {result} and not {expected}");
                    }
                }
            }
            for row in output.chunks(output_stride) {
                assert!(row[..2].iter().chain(&row[2 + heads * width..]).all(|x| x.to_bits() == 9_f32.to_bits()));
            }
        }
    }

    const SHAPES: [(usize, usize, usize); 6] =
        [(2, 2, 32), (3, 1, 64), (4, 2, 128), (1, 1, 16), (2, 1, 48), (1, 1, 256)];

    fn shapes() -> impl Strategy<Value = Shape> {
        (prop::sample::select(&SHAPES), any::<bool>()).prop_map(|((heads, groups, width), causal)| Shape {
            heads,
            groups,
            width,
            causal,
            scale: 1.0 / (width as f32).sqrt(),
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]

        #[test]
        fn texts_of_any_lengths_are_the_naive_ones(
            shape in shapes(),
            lengths in prop::collection::vec(prop_oneof![0_usize..20, 20_usize..150], 1..4),
            magnitude in prop::sample::select(vec![1_f32, 10.0]),
            seed in 0_u32..1000,
        ) {
            check(shape, &lengths, magnitude, seed);
        }
    }

    #[test]
    fn a_team_computes_what_one_thread_does() {
        let shape = Shape { heads: 4, groups: 2, width: 32, causal: true, scale: 0.2 };
        let offsets = [0, 100, 100, 117, 400];
        let (queries, keys, values) = (numbers(400 * 128, 1), numbers(400 * 64, 2), numbers(400 * 64, 3));
        let columns = |rows, stride| Columns { rows, stride, column: 0 };
        let mut plan = Plan::new();
        plan.prepare(&shape, &offsets);
        let attention = Attention::new(&plan, shape, columns(&queries, 128), columns(&keys, 64), columns(&values, 64));
        let team = Team::new(3, Options::default());
        let mut scratches = [Scratch::new(), Scratch::new(), Scratch::new()];
        for isa in Isa::available() {
            let mut alone = vec![0.0; 400 * 128];
            let mut output = ColumnsMut { rows: &mut alone, stride: 128, column: 0 };
            attention.run_all(isa, &mut output, &mut scratches[0]);
            for _ in 0..20 {
                let mut together = vec![0.0; 400 * 128];
                let mut output = ColumnsMut { rows: &mut together, stride: 128, column: 0 };
                attention.run_on(isa, &team, &mut output, &mut scratches);
                assert_eq!(alone, together);
            }
        }
    }

    #[test]
    fn a_text_gives_the_same_in_any_batch() {
        let shape = Shape { heads: 2, groups: 2, width: 32, causal: false, scale: 0.2 };
        let rows = numbers(150 * 192, 1);
        let mut scratch = Scratch::new();
        let mut compute = |isa, first: usize, offsets: &[usize]| {
            let mut plan = Plan::new();
            plan.prepare(&shape, offsets);
            let columns = |column| Columns { rows: &rows[first * 192..], stride: 192, column };
            let mut output = vec![0.0; offsets[offsets.len() - 1] * 64];
            let attention = Attention::new(&plan, shape, columns(0), columns(64), columns(128));
            attention.run_all(isa, &mut ColumnsMut { rows: &mut output, stride: 64, column: 0 }, &mut scratch);
            output
        };
        for isa in Isa::available() {
            let together = compute(isa, 0, &[0, 13, 90, 150]);
            assert_eq!(together[13 * 64..90 * 64], compute(isa, 13, &[0, 77]));
        }
    }

    #[test]
    fn large_scores_choose_one_key_and_stay_finite() {
        for causal in [false, true] {
            for scale in [1e4, -1e4] {
                // Queries of ones and keys that hold their number: scores of up to 1e6 and down to -1e6.
                let shape = Shape { heads: 1, groups: 1, width: 16, causal, scale: scale / 16.0 };
                let count = 100;
                let queries = vec![1.0; count * 16];
                let keys: Vec<f32> = (0..count * 16).map(|i| (i / 16) as f32).collect();
                let values: Vec<f32> = (0..count * 16).map(|i| (i + 1) as f32).collect();
                let columns = |rows| Columns { rows, stride: 16, column: 0 };
                let mut plan = Plan::new();
                plan.prepare(&shape, &[0, count]);
                let attention = Attention::new(&plan, shape, columns(&queries), columns(&keys), columns(&values));
                for isa in Isa::available() {
                    let mut rows = vec![f32::NAN; count * 16];
                    let mut output = ColumnsMut { rows: &mut rows, stride: 16, column: 0 };
                    attention.run_all(isa, &mut output, &mut Scratch::new());
                    for (query, row) in rows.chunks(16).enumerate() {
                        let last = if causal { query } else { count - 1 };
                        let chosen = if scale > 0.0 { last } else { 0 };
                        assert_eq!(row, &values[chosen * 16..][..16], "{isa:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_single_token_gives_its_value() {
        let shape = Shape { heads: 2, groups: 1, width: 48, causal: true, scale: 1.0 };
        let (queries, keys, values) = (numbers(96, 1), numbers(48, 2), numbers(48, 3));
        let columns = |rows, stride| Columns { rows, stride, column: 0 };
        let mut plan = Plan::new();
        plan.prepare(&shape, &[0, 1]);
        let attention = Attention::new(&plan, shape, columns(&queries, 96), columns(&keys, 48), columns(&values, 48));
        for isa in Isa::available() {
            let mut rows = vec![0.0; 96];
            let mut output = ColumnsMut { rows: &mut rows, stride: 96, column: 0 };
            attention.run_all(isa, &mut output, &mut Scratch::new());
            assert_eq!(rows, [values.as_slice(), &values].concat());
        }
    }

    #[test]
    fn a_plan_covers_every_query_of_every_head_once() {
        for causal in [false, true] {
            let shape = Shape { heads: 12, groups: 12, width: 32, causal, scale: 1.0 };
            let offsets = [0, 3, 3, 70, 580];
            let mut plan = Plan::new();
            plan.prepare(&shape, &offsets);
            let mut counts = vec![0; 580 * 12];
            for item in &plan.items {
                assert!(item.text.start <= item.queries.start && item.queries.end <= item.text.end);
                assert!(offsets.windows(2).any(|text| item.text == (text[0]..text[1])));
                for query in item.queries.clone() {
                    for head in item.heads.clone() {
                        counts[query * 12 + head] += 1;
                    }
                }
            }
            assert!(counts.iter().all(|&count| count == 1));
            assert!(plan.items.is_sorted_by_key(|item| usize::MAX - item.work));
        }
        let mut plan = Plan::new();
        plan.prepare(&Shape { heads: 1, groups: 1, width: 16, causal: false, scale: 1.0 }, &[]);
        assert_eq!(plan.items(), 0);
    }

    #[test]
    fn lengths_about_the_size_of_tiles_and_blocks() {
        for causal in [false, true] {
            let shape = Shape { heads: 2, groups: 1, width: 32, causal, scale: 0.2 };
            check(shape, &[1, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129], 3.0, 5);
            check(shape, &[512], 3.0, 6);
        }
    }
}
