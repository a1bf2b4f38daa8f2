//! Tiles of products with weights of floating point, which are summed in registers in the order of the inputs.

#![expect(clippy::inline_always, reason = "has to be compiled with the features of its caller")]
#![expect(clippy::needless_range_loop, reason = "rows and vectors index registers")]
#![expect(clippy::needless_pass_by_value, reason = "a job has the one borrow of its tile")]

use super::vectors::{Ahead, Level, Vectors};
use crate::Element;
use crate::shape::PANEL;

/// One tile to fill.
///
/// `values` are `[rows][inputs]`, inputs a multiple of 4; `panel` is the panel of that shape, and `ahead` has a step for each input; `tile` has `rows` rows of 32
/// values, `stride` apart.
pub(super) struct Job<'a> {
    pub(super) panel: &'a [u8],
    pub(super) ahead: Ahead,
    pub(super) values: &'a [f32],
    pub(super) rows: usize,
    pub(super) inputs: usize,
    pub(super) tile: &'a mut [f32],
    pub(super) stride: usize,
}

/// An [`Element`], for the compiler.
pub(super) trait Weight {
    const BYTES: usize;

    /// Widens as many weights as a vector has lanes.
    ///
    /// # Safety
    /// As [`Vectors`] says.
    unsafe fn load<V: Vectors>(bytes: *const u8) -> V::Floats;
}

pub(super) struct F32;
pub(super) struct F16;
pub(super) struct BF16;

impl Weight for F32 {
    const BYTES: usize = 4;

    #[inline(always)]
    unsafe fn load<V: Vectors>(bytes: *const u8) -> V::Floats {
        // SAFETY: the caller's.
        unsafe { V::load_f32(bytes) }
    }
}

impl Weight for F16 {
    const BYTES: usize = 2;

    #[inline(always)]
    unsafe fn load<V: Vectors>(bytes: *const u8) -> V::Floats {
        // SAFETY: the caller's.
        unsafe { V::load_f16(bytes) }
    }
}

impl Weight for BF16 {
    const BYTES: usize = 2;

    #[inline(always)]
    unsafe fn load<V: Vectors>(bytes: *const u8) -> V::Floats {
        // SAFETY: the caller's.
        unsafe { V::load_bf16(bytes) }
    }
}

/// Fills a tile with the functions of a level.
///
/// # Safety
/// The processor has the level, and the job has the sizes that it states, with 1 to 8 rows.
pub(super) unsafe fn fill_at<L: Level>(element: Element, job: Job) {
    // SAFETY: the caller's.
    unsafe {
        match element {
            Element::F32 => fill_rows::<L, F32>(job),
            Element::F16 => fill_rows::<L, F16>(job),
            Element::BF16 => fill_rows::<L, BF16>(job),
        }
    }
}

/// # Safety
/// As [`fill_at`].
unsafe fn fill_rows<L: Level, W: Weight>(job: Job) {
    // SAFETY: the caller's.
    unsafe {
        match job.rows {
            1 => L::fill_exact::<W, 1>(job),
            2 => L::fill_exact::<W, 2>(job),
            3 => L::fill_exact::<W, 3>(job),
            4 => L::fill_exact::<W, 4>(job),
            5 => L::fill_exact::<W, 5>(job),
            6 => L::fill_exact::<W, 6>(job),
            7 => L::fill_exact::<W, 7>(job),
            8 => L::fill_exact::<W, 8>(job),
            rows => unreachable!("a tile has no {rows} rows. This is a bug."),
        }
    }
}

/// How many bytes before they are needed weights are asked for.
const AHEAD: usize = 2048;

/// Fills a tile of `ROWS` rows, `WIDTH` vectors of columns at a time.
///
/// # Safety
/// As [`Vectors`] says, and the job has the sizes that it states, with `rows` equal to `ROWS`.
#[inline(always)]
pub(super) unsafe fn fill<V: Vectors, W: Weight, const ROWS: usize, const WIDTH: usize>(job: Job) {
    debug_assert_eq!(job.rows, ROWS);
    let mut ahead = job.ahead.in_passes(PANEL / (WIDTH * V::LANES));
    for column in (0..PANEL).step_by(WIDTH * V::LANES) {
        // SAFETY: pointers stay within the job's slices: columns are less than 32, and vectors of a panel's row are
        // `WIDTH * LANES` columns from `column` on.
        unsafe {
            let mut sums = [[V::splat_float(0.0); WIDTH]; ROWS];
            let mut panel = job.panel.as_ptr().add(column * W::BYTES);
            let mut values = job.values.as_ptr();
            for _ in 0..job.inputs / 4 {
                for input in 0..4 {
                    for line in (0..WIDTH * V::LANES * W::BYTES).step_by(64) {
                        V::prefetch(panel.wrapping_add(AHEAD + line));
                    }
                    V::prefetch_far(ahead.next());
                    let weights: [_; WIDTH] =
                        std::array::from_fn(|vector| W::load::<V>(panel.add(vector * V::LANES * W::BYTES)));
                    for row in 0..ROWS {
                        let value = V::splat_float(*values.add(row * job.inputs + input));
                        for vector in 0..WIDTH {
                            sums[row][vector] = V::multiply_add(weights[vector], value, sums[row][vector]);
                        }
                    }
                    panel = panel.wrapping_add(PANEL * W::BYTES);
                }
                values = values.add(4);
            }
            for row in 0..ROWS {
                for vector in 0..WIDTH {
                    let place = job.tile.as_mut_ptr().add(row * job.stride + column + vector * V::LANES);
                    V::store(place, sums[row][vector]);
                }
            }
        }
    }
}
