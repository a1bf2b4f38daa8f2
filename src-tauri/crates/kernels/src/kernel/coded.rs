//! Tiles of products with codes of four or eight bits that lie in quads.
//!
//! Each lane holds the sum of one column in 32-bit integers until a group ends; then it is scaled and added to the column's
//! F32 in the tile. That is in the first-level cache and not in registers, so that all registers are left to the integers.

#![expect(clippy::inline_always, reason = "has to be compiled with the features of its caller")]
#![expect(clippy::needless_range_loop, reason = "rows and vectors index registers: iterators left some in memory")]
#![expect(clippy::needless_pass_by_value, reason = "a job has the one borrow of its tile")]

use super::vectors::{Ahead, Level, Vectors};
use crate::Code;
use crate::quantise::CORRECTION;
use crate::shape::PANEL;

/// One tile to fill.
///
/// `codes` are `[rows][inputs]`, `scales`, `sums` and `corrections` `[rows][groups]`, where inputs are `32 * blocks * groups`;
/// `panel` is the panel of that shape, and `ahead` has a step for each 128 bytes of it; `tile` has `rows` rows of 32 values, `stride` apart.
pub(super) struct Job<'a> {
    pub(super) panel: &'a [u8],
    pub(super) ahead: Ahead,
    pub(super) codes: &'a [i8],
    pub(super) scales: &'a [f32],
    pub(super) sums: &'a [f32],
    pub(super) corrections: &'a [i32],
    pub(super) rows: usize,
    pub(super) groups: usize,
    /// 32 inputs each, in a group.
    pub(super) blocks: usize,
    /// Whether scales and minima are F16.
    pub(super) half: bool,
    pub(super) tile: &'a mut [f32],
    pub(super) stride: usize,
}

/// A [`Code`](crate::Code), for the compiler.
pub(super) trait Coding {
    /// Four bits or eight.
    const FOUR: bool;
    const MINIMUM: bool;
}

pub(super) struct Eight;
pub(super) struct Four;
pub(super) struct FourWithMinimum;

impl Coding for Eight {
    const FOUR: bool = false;
    const MINIMUM: bool = false;
}

impl Coding for Four {
    const FOUR: bool = true;
    const MINIMUM: bool = false;
}

impl Coding for FourWithMinimum {
    const FOUR: bool = true;
    const MINIMUM: bool = true;
}

/// Fills a tile with the functions of a level.
///
/// # Safety
/// The processor has the level, and the job has the sizes that it states, with 1 to 8 rows.
pub(super) unsafe fn fill_at<L: Level>(code: Code, job: Job) {
    // SAFETY: the caller's.
    unsafe {
        match code {
            Code::Eight => fill_rows::<L, Eight>(job),
            Code::Four => fill_rows::<L, Four>(job),
            Code::FourWithMinimum => fill_rows::<L, FourWithMinimum>(job),
        }
    }
}

/// # Safety
/// As [`fill_at`].
unsafe fn fill_rows<L: Level, C: Coding>(job: Job) {
    // SAFETY: the caller's.
    unsafe {
        match job.rows {
            1 => L::fill_coded::<C, 1>(job),
            2 => L::fill_coded::<C, 2>(job),
            3 => L::fill_coded::<C, 3>(job),
            4 => L::fill_coded::<C, 4>(job),
            5 => L::fill_coded::<C, 5>(job),
            6 => L::fill_coded::<C, 6>(job),
            7 => L::fill_coded::<C, 7>(job),
            8 => L::fill_coded::<C, 8>(job),
            rows => unreachable!("a tile has no {rows} rows. This is a bug."),
        }
    }
}

/// Integer sums of `ROWS` rows by `WIDTH` vectors of columns.
type Sums<V, const ROWS: usize, const WIDTH: usize> = [[<V as Vectors>::Integers; WIDTH]; ROWS];

/// Fills a tile of `ROWS` rows, `WIDTH` vectors of columns at a time.
///
/// # Safety
/// As [`Vectors`] says, and the job has the sizes that it states, with `rows` equal to `ROWS`.
#[inline(always)]
pub(super) unsafe fn fill<V: Vectors, C: Coding, const ROWS: usize, const WIDTH: usize>(job: Job) {
    debug_assert_eq!(job.rows, ROWS);
    let scale_bytes = PANEL * if job.half { 2 } else { 4 };
    let codes_offset = scale_bytes * if C::MINIMUM { 2 } else { 1 };
    let block_bytes = PANEL * 32 / if C::FOUR { 2 } else { 1 };
    let inputs = job.groups * job.blocks * 32;
    let mut ahead = job.ahead.in_passes(PANEL / (WIDTH * V::LANES));
    for column in (0..PANEL).step_by(WIDTH * V::LANES) {
        // SAFETY: pointers stay within the job's slices: groups and blocks add up to the panel and the rows, columns to
        // 32, and vectors of a panel's row are `WIDTH * LANES` columns from `column` on.
        unsafe {
            let tile = job.tile.as_mut_ptr().add(column);
            for row in 0..ROWS {
                for vector in 0..WIDTH {
                    V::store(tile.add(row * job.stride + vector * V::LANES), V::splat_float(0.0));
                }
            }
            let mut panel = job.panel.as_ptr();
            for group in 0..job.groups {
                let mut sums = start::<V, C, ROWS, WIDTH>(job.corrections.as_ptr().add(group), job.groups);
                for block in 0..job.blocks {
                    let weights = panel.add(codes_offset + block * block_bytes + column * 4);
                    let codes = job.codes.as_ptr().add((group * job.blocks + block) * 32);
                    if C::FOUR {
                        sums = add_block_of_four::<V, ROWS, WIDTH>(sums, weights, &mut ahead, codes, inputs);
                    } else {
                        sums = add_block_of_eight::<V, ROWS, WIDTH>(sums, weights, &mut ahead, codes, inputs);
                    }
                }
                let scales: [_; WIDTH] = load_scales::<V, WIDTH>(panel, column, job.half);
                let minima: [_; WIDTH] =
                    load_scales::<V, WIDTH>(panel.add(codes_offset - scale_bytes), column, job.half);
                for row in 0..ROWS {
                    let scale = V::splat_float(*job.scales.as_ptr().add(row * job.groups + group));
                    let sum = V::splat_float(*job.sums.as_ptr().add(row * job.groups + group));
                    for vector in 0..WIDTH {
                        let place = tile.add(row * job.stride + vector * V::LANES);
                        let mut value = V::load(place);
                        if C::MINIMUM {
                            value = V::multiply_add(minima[vector], sum, value);
                        }
                        let product = V::to_floats(sums[row][vector]);
                        V::store(place, V::multiply_add(product, V::multiply(scales[vector], scale), value));
                    }
                }
                panel = panel.add(codes_offset + job.blocks * block_bytes);
            }
        }
    }
}

/// What sums start at: what makes up for the offset of the codes.
///
/// # Safety
/// `corrections` has a value at `stride` times each row.
#[inline(always)]
unsafe fn start<V: Vectors, C: Coding, const ROWS: usize, const WIDTH: usize>(
    corrections: *const i32,
    stride: usize,
) -> Sums<V, ROWS, WIDTH> {
    // SAFETY: the caller's.
    unsafe {
        let mut sums = [[V::splat(0); WIDTH]; ROWS];
        for (row, sums) in sums.iter_mut().enumerate() {
            let correction = *corrections.add(row * stride);
            if C::FOUR && !C::MINIMUM {
                *sums = [V::splat(correction / (CORRECTION / -8)); WIDTH];
            } else if !C::FOUR && V::BIASED {
                *sums = [V::splat(correction); WIDTH];
            }
        }
        sums
    }
}

/// Adds the products of 32 inputs with weights of eight bits.
///
/// # Safety
/// `weights` has eight rows of quads, `codes` 32 bytes at `inputs` times each row.
#[inline(always)]
unsafe fn add_block_of_eight<V: Vectors, const ROWS: usize, const WIDTH: usize>(
    mut sums: Sums<V, ROWS, WIDTH>,
    weights: *const u8,
    ahead: &mut Ahead,
    codes: *const i8,
    inputs: usize,
) -> Sums<V, ROWS, WIDTH> {
    // SAFETY: the caller's.
    unsafe {
        for quad in 0..8 {
            let weights = weights.add(quad * PANEL * 4);
            let vectors: [_; WIDTH] = std::array::from_fn(|vector| V::load_bytes(weights.add(vector * V::LANES * 4)));
            prefetch::<V, WIDTH>(weights);
            V::prefetch_far(ahead.next());
            for (row, sums) in sums.iter_mut().enumerate() {
                let codes = V::splat_quad(codes.add(row * inputs + quad * 4));
                for (sum, weights) in sums.iter_mut().zip(vectors) {
                    *sum = V::dot_eight(*sum, weights, codes);
                }
            }
        }
        sums
    }
}

/// Adds the products of 32 inputs with weights of four bits.
///
/// # Safety
/// `weights` has four rows of pairs of quads, `codes` 32 bytes at `inputs` times each row.
#[inline(always)]
unsafe fn add_block_of_four<V: Vectors, const ROWS: usize, const WIDTH: usize>(
    sums: Sums<V, ROWS, WIDTH>,
    weights: *const u8,
    ahead: &mut Ahead,
    codes: *const i8,
    inputs: usize,
) -> Sums<V, ROWS, WIDTH> {
    // SAFETY: the caller's.
    unsafe {
        let mut partial: [[V::Partial; WIDTH]; ROWS] =
            std::array::from_fn(|row| std::array::from_fn(|vector| V::open_four(sums[row][vector])));
        for pair in 0..4 {
            let weights = weights.add(pair * PANEL * 4);
            prefetch::<V, WIDTH>(weights);
            V::prefetch_far(ahead.next());
            let bytes: [_; WIDTH] = std::array::from_fn(|vector| V::load_bytes(weights.add(vector * V::LANES * 4)));
            let low: [_; WIDTH] = std::array::from_fn(|vector| V::low(bytes[vector]));
            for row in 0..ROWS {
                let codes = V::splat_quad(codes.add(row * inputs + pair * 8));
                for vector in 0..WIDTH {
                    partial[row][vector] = V::dot_four(partial[row][vector], low[vector], codes);
                }
            }
            let high: [_; WIDTH] = std::array::from_fn(|vector| V::high(bytes[vector]));
            for row in 0..ROWS {
                let codes = V::splat_quad(codes.add(row * inputs + pair * 8 + 4));
                for vector in 0..WIDTH {
                    partial[row][vector] = V::dot_four(partial[row][vector], high[vector], codes);
                }
            }
        }
        std::array::from_fn(|row| std::array::from_fn(|vector| V::close_four(sums[row][vector], partial[row][vector])))
    }
}

/// How many bytes before they are needed weights are asked for.
const AHEAD: usize = 1024;

/// Asks for the weights of as many columns [`AHEAD`].
///
/// # Safety
/// As [`Vectors`] says.
#[inline(always)]
unsafe fn prefetch<V: Vectors, const WIDTH: usize>(weights: *const u8) {
    for line in (0..WIDTH * V::LANES * 4).step_by(64) {
        // SAFETY: the caller's.
        unsafe { V::prefetch(weights.wrapping_add(AHEAD + line)) };
    }
}

/// The scales of some columns from `column` on.
///
/// # Safety
/// `scales` has 32 of them, F16 if `half`.
#[inline(always)]
unsafe fn load_scales<V: Vectors, const WIDTH: usize>(
    scales: *const u8,
    column: usize,
    half: bool,
) -> [V::Floats; WIDTH] {
    // SAFETY: the caller's.
    unsafe {
        std::array::from_fn(|vector| {
            let column = column + vector * V::LANES;
            if half { V::load_f16(scales.add(column * 2)) } else { V::load_f32(scales.add(column * 4)) }
        })
    }
}
