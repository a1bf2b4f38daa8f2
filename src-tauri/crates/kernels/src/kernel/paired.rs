//! Tiles of products of BF16 with BF16 that lie in pairs, which are summed in registers in F32.
//!
//! The product of two BF16 is exact in F32, so that only additions are rounded: two for a pair, of its second input first.
//! Products of BF16 on x86 do the same, and take for zero what is under 2^-126 on its way. Those of ARM round to odd: each
//! addition by less than a unit in the last place instead of half of one.

#![expect(clippy::inline_always, reason = "has to be compiled with the features of its caller")]
#![expect(clippy::needless_range_loop, reason = "rows and vectors index registers")]
#![expect(clippy::needless_pass_by_value, reason = "a job has the one borrow of its tile")]

use super::vectors::{Ahead, Vectors};
use crate::shape::PANEL;

/// One tile to fill.
///
/// `values` are the bits of `[rows][inputs]`, inputs a multiple of 32; `panel` is the panel of that shape, and `ahead` has a
/// step for each pair of inputs; `tile` has `rows` rows of 32 values, `stride` apart.
pub(super) struct Job<'a> {
    pub(super) panel: &'a [u8],
    pub(super) ahead: Ahead,
    pub(super) values: &'a [u16],
    pub(super) rows: usize,
    pub(super) inputs: usize,
    pub(super) tile: &'a mut [f32],
    pub(super) stride: usize,
}

/// How pairs of BF16 are multiplied, in which vectors.
///
/// # Safety
/// As [`Vectors`] says, and where the processor has the instruction.
pub(super) unsafe trait Pairs {
    type In: Vectors;

    /// Adds the two products of each lane.
    unsafe fn add(sums: Floats<Self>, weights: Bytes<Self>, pair: Bytes<Self>) -> Floats<Self>;
}

pub(super) type Floats<P> = <<P as Pairs>::In as Vectors>::Floats;
pub(super) type Bytes<P> = <<P as Pairs>::In as Vectors>::Bytes;

/// Kernels compiled for one way to multiply pairs.
pub(super) trait PairLevel {
    /// [`fill`] with as many columns at a time as there are registers for.
    ///
    /// # Safety
    /// The processor has what it needs; and see there.
    unsafe fn fill<const ROWS: usize>(job: Job);
}

/// Fills a tile with the functions of a level.
///
/// # Safety
/// The processor has what the level needs, and the job has the sizes that it states, with 1 to 8 rows.
pub(super) unsafe fn fill_at<L: PairLevel>(job: Job) {
    // SAFETY: the caller's.
    unsafe {
        match job.rows {
            1 => L::fill::<1>(job),
            2 => L::fill::<2>(job),
            3 => L::fill::<3>(job),
            4 => L::fill::<4>(job),
            5 => L::fill::<5>(job),
            6 => L::fill::<6>(job),
            7 => L::fill::<7>(job),
            8 => L::fill::<8>(job),
            rows => unreachable!("a tile has no {rows} rows. This is a bug."),
        }
    }
}

/// How many bytes before they are needed weights are asked for.
const AHEAD: usize = 2048;

/// Sums of a column at most, which pairs are added to in turn: an addition takes longer than what is between two of them
/// where rows are few.
const MOST_CHAINS: usize = 4;

const fn chains(rows: usize) -> usize {
    match rows {
        1 => MOST_CHAINS,
        2 | 3 => 2,
        _ => 1,
    }
}

/// Fills a tile of `ROWS` rows, `WIDTH` vectors of columns at a time.
///
/// # Safety
/// As [`Pairs`] says, and the job has the sizes that it states, with `rows` equal to `ROWS`.
#[inline(always)]
pub(super) unsafe fn fill<P: Pairs, const ROWS: usize, const WIDTH: usize>(job: Job) {
    debug_assert_eq!(job.rows, ROWS);
    let columns = WIDTH * P::In::LANES;
    let mut ahead = job.ahead.in_passes(PANEL / columns);
    for column in (0..PANEL).step_by(columns) {
        // SAFETY: pointers stay within the job's slices: columns are less than 32, and vectors of a panel's row are
        // `WIDTH * LANES` columns from `column` on.
        unsafe {
            let mut sums = [[[P::In::splat_float(0.0); WIDTH]; ROWS]; MOST_CHAINS];
            let mut panel = job.panel.as_ptr().add(column * 4);
            let mut values = job.values.as_ptr();
            for _ in 0..job.inputs / (2 * MOST_CHAINS) {
                for pair in 0..MOST_CHAINS {
                    let sums = &mut sums[pair % const { chains(ROWS) }];
                    for line in (0..columns * 4).step_by(64) {
                        P::In::prefetch(panel.wrapping_add(AHEAD + line));
                    }
                    P::In::prefetch_far(ahead.next());
                    let weights: [_; WIDTH] =
                        std::array::from_fn(|vector| P::In::load_bytes(panel.add(vector * P::In::LANES * 4)));
                    for row in 0..ROWS {
                        let pair = P::In::splat_quad(values.add(row * job.inputs).cast());
                        for vector in 0..WIDTH {
                            sums[row][vector] = P::add(sums[row][vector], weights[vector], pair);
                        }
                    }
                    panel = panel.wrapping_add(PANEL * 4);
                    values = values.add(2);
                }
            }
            let one = P::In::splat_float(1.0);
            for row in 0..ROWS {
                for vector in 0..WIDTH {
                    let mut sum = sums[0][row][vector];
                    for chain in 1..const { chains(ROWS) } {
                        sum = P::In::multiply_add(sums[chain][row][vector], one, sum);
                    }
                    let place = job.tile.as_mut_ptr().add(row * job.stride + column + vector * P::In::LANES);
                    P::In::store(place, sum);
                }
            }
        }
    }
}
