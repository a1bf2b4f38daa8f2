//! The vectors of one generation in memory, and the exact search of them.
//!
//! Half precision, in blocks that are never moved: 50,000 passages of 384 numbers take 38 MB. A scan widens a few rows at a
//! time and multiplies them in 16 independent sums, which compilers turn into vector instructions. It is exact: recall is
//! 1, there is no index to build or to age. `near` is what an approximate search would replace.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use half::f16;
use half::slice::HalfFloatSliceExt;

/// Rows of a block; its memory is taken at once.
const BLOCK: usize = 2048;

/// Rows that are widened together: they stay in the first-level cache.
const STRIP: usize = 16;

/// What of the store is in memory: rows up to `last`, and none that was removed before `removals` was counted.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Loaded {
    /// The store's number of the generation; 0 for none.
    pub(crate) generation: i64,
    /// The largest row id that was read.
    pub(crate) last: i64,
    /// How often vectors had been removed when it was read.
    pub(crate) removals: i64,
}

/// Vectors and the identities of their texts.
#[derive(Debug, Default)]
pub(crate) struct Matrix {
    pub(crate) loaded: Loaded,
    dims: usize,
    contents: Vec<i64>,
    blocks: Vec<Vec<f16>>,
}

impl Matrix {
    /// An empty one for vectors of `dims` numbers.
    pub(crate) fn new(loaded: Loaded, dims: usize) -> Self {
        Self { loaded, dims, ..Self::default() }
    }

    /// Numbers of a vector.
    pub(crate) fn dims(&self) -> usize {
        self.dims
    }

    /// Vectors held.
    pub(crate) fn len(&self) -> usize {
        self.contents.len()
    }

    /// Memory held for vectors.
    pub(crate) fn bytes(&self) -> u64 {
        (self.blocks.iter().map(Vec::capacity).sum::<usize>() * 2 + self.contents.capacity() * 8) as u64
    }

    /// Adds the vector of `content`; `row` is `dims` long.
    pub(crate) fn push(&mut self, content: i64, row: &[f16]) {
        assert_eq!(row.len(), self.dims, "The store holds one width per generation. This is a bug.");
        if self.contents.len().is_multiple_of(BLOCK) {
            self.blocks.push(Vec::with_capacity(BLOCK * self.dims));
        }
        self.blocks.last_mut().expect("a block was just added. This is a bug.").extend_from_slice(row);
        self.contents.push(content);
    }

    /// The `count` contents nearest to `query` with their cosines, best first, the smaller identity first among equals. Only
    /// positive cosines count as near.
    pub(crate) fn near(&self, query: &[f32], count: usize) -> Vec<(f32, i64)> {
        let mut best: BinaryHeap<Near> = BinaryHeap::with_capacity(count + 1);
        let mut strip = vec![0.0_f32; STRIP * self.dims];
        let mut contents = self.contents.iter();
        for halves in self.blocks.iter().flat_map(|block| block.chunks(STRIP * self.dims)) {
            let strip = &mut strip[..halves.len()];
            halves.convert_to_f32_slice(strip);
            for (row, content) in strip.chunks_exact(self.dims).zip(contents.by_ref()) {
                let near = Near { cosine: dot(row, query), content: *content };
                // Also false for NaN, which no honest vector yields.
                if near.cosine > 0.0 && (best.len() < count || best.peek().is_some_and(|worst| near < *worst)) {
                    best.push(near);
                    if best.len() > count {
                        best.pop();
                    }
                }
            }
        }
        best.into_sorted_vec().into_iter().map(|near| (near.cosine, near.content)).collect()
    }
}

/// The scalar product of two vectors of the same length.
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    const LANES: usize = 16;
    let mut sums = [0.0_f32; LANES];
    let (a_lanes, a_rest) = a.as_chunks::<LANES>();
    let (b_lanes, b_rest) = b.as_chunks::<LANES>();
    for (a, b) in a_lanes.iter().zip(b_lanes) {
        for lane in 0..LANES {
            sums[lane] += a[lane] * b[lane];
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f32>() + rest
}

/// Ordered so that the greatest is the one to give up: the least near, then the larger identity.
#[derive(Clone, Copy, Debug)]
struct Near {
    cosine: f32,
    content: i64,
}

impl Ord for Near {
    fn cmp(&self, other: &Self) -> Ordering {
        other.cosine.total_cmp(&self.cosine).then_with(|| self.content.cmp(&other.content))
    }
}

impl PartialOrd for Near {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Near {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Near {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn near_agrees_with_sorting_everything(
            rows in proptest::collection::vec(proptest::collection::vec(-8_i8..8, 37), 0..80),
            query in proptest::collection::vec(-8_i8..8, 37),
            count in 1_usize..20,
        ) {
            // Small whole numbers, so that every sum is exact in any order.
            let mut matrix = Matrix::new(Loaded::default(), 37);
            let mut naive = Vec::new();
            for (content, row) in rows.iter().enumerate() {
                matrix.push(content as i64, &row.iter().map(|it| f16::from_f32(f32::from(*it))).collect::<Vec<_>>());
                let dot: i32 = row.iter().zip(&query).map(|(a, b)| i32::from(*a) * i32::from(*b)).sum();
                if dot > 0 {
                    naive.push((dot, content as i64));
                }
            }
            naive.sort_by_key(|(dot, content)| (-dot, *content));
            naive.truncate(count);
            let query: Vec<f32> = query.iter().map(|it| f32::from(*it)).collect();
            let found: Vec<(i32, i64)> =
                matrix.near(&query, count).into_iter().map(|(dot, content)| (dot as i32, content)).collect();
            prop_assert_eq!(found, naive);
        }
    }

    #[test]
    fn rows_are_found_beyond_the_first_block() {
        let mut matrix = Matrix::new(Loaded::default(), 2);
        for content in 0..(BLOCK as i64 * 2 + 5) {
            let x = if content == BLOCK as i64 + 3 { 1.0 } else { 0.5 };
            matrix.push(content, &[f16::from_f32(x), f16::ZERO]);
        }
        assert_eq!(matrix.near(&[1.0, 0.0], 2), [(1.0, BLOCK as i64 + 3), (0.5, 0)]);
        assert_eq!(matrix.len(), BLOCK * 2 + 5);
    }
}
