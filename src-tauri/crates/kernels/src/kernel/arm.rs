//! Kernels for ARM: NEON with the dot products of bytes, with the products of 2 by 8 with 8 by 2 bytes, and maybe with those
//! of BF16.
//!
//! The standard library has no stable functions for these instructions yet, so they are written as such.

#![expect(unsafe_op_in_unsafe_fn, reason = "functions are an instruction or two under the contract of `Vectors`")]
#![expect(clippy::inline_always, reason = "has to be compiled with the features of its caller")]
#![expect(clippy::needless_range_loop, reason = "rows and columns index registers")]
#![expect(clippy::needless_pass_by_value, reason = "a job has the one borrow of its tile")]

#[allow(clippy::wildcard_imports, reason = "the names say where they come from")]
use std::arch::aarch64::*;
use std::arch::asm;
use std::array::from_fn;

use super::coded::{self, Coding};
use super::exact::{self, Weight};
use super::paired::{self, PairLevel, Pairs};
use super::vectors::{Level, Vectors};
use crate::quantise::CORRECTION;
use crate::shape::PANEL;

/// Adds four products to each lane.
///
/// # Safety
/// The processor has the dot products of bytes.
#[inline(always)]
unsafe fn sdot(mut sums: int32x4_t, left: int8x16_t, right: int8x16_t) -> int32x4_t {
    asm!(
        ".arch_extension dotprod",
        "sdot {sums:v}.4s, {left:v}.16b, {right:v}.16b",
        sums = inout(vreg) sums,
        left = in(vreg) left,
        right = in(vreg) right,
        options(pure, nomem, nostack, preserves_flags),
    );
    sums
}

/// Adds the product of two rows of eight with two columns of eight: `[row 0 column 0, 0 1, 1 0, 1 1]`.
///
/// # Safety
/// The processor has these products.
#[inline(always)]
unsafe fn smmla(mut sums: int32x4_t, rows: int8x16_t, columns: int8x16_t) -> int32x4_t {
    asm!(
        ".arch_extension i8mm",
        "smmla {sums:v}.4s, {rows:v}.16b, {columns:v}.16b",
        sums = inout(vreg) sums,
        rows = in(vreg) rows,
        columns = in(vreg) columns,
        options(pure, nomem, nostack, preserves_flags),
    );
    sums
}

/// Adds two products of BF16 to each lane.
///
/// # Safety
/// The processor has the products of BF16.
#[inline(always)]
unsafe fn bfdot(mut sums: float32x4_t, left: int8x16_t, right: int8x16_t) -> float32x4_t {
    asm!(
        ".arch_extension bf16",
        "bfdot {sums:v}.4s, {left:v}.8h, {right:v}.8h",
        sums = inout(vreg) sums,
        left = in(vreg) left,
        right = in(vreg) right,
        options(pure, nomem, nostack, preserves_flags),
    );
    sums
}

/// Adds the product of two rows of four BF16 with two columns of four: `[row 0 column 0, 0 1, 1 0, 1 1]`.
///
/// # Safety
/// The processor has the products of BF16.
#[inline(always)]
unsafe fn bfmmla(mut sums: float32x4_t, rows: uint16x8_t, columns: uint16x8_t) -> float32x4_t {
    asm!(
        ".arch_extension bf16",
        "bfmmla {sums:v}.4s, {rows:v}.8h, {columns:v}.8h",
        sums = inout(vreg) sums,
        rows = in(vreg) rows,
        columns = in(vreg) columns,
        options(pure, nomem, nostack, preserves_flags),
    );
    sums
}

/// Vectors of 128 bits with the dot products of bytes.
pub(super) struct Neon;

// SAFETY: each function is its instruction, and reads or writes what the trait says.
unsafe impl Vectors for Neon {
    type Integers = int32x4_t;
    type Bytes = int8x16_t;
    type Floats = float32x4_t;
    type Partial = int32x4_t;
    const LANES: usize = 4;
    const BIASED: bool = false;

    #[inline(always)]
    unsafe fn splat(value: i32) -> int32x4_t {
        vdupq_n_s32(value)
    }
    #[inline(always)]
    unsafe fn load_bytes(bytes: *const u8) -> int8x16_t {
        vld1q_s8(bytes.cast())
    }
    #[inline(always)]
    unsafe fn splat_quad(bytes: *const i8) -> int8x16_t {
        vreinterpretq_s8_s32(vdupq_n_s32(bytes.cast::<i32>().read_unaligned()))
    }
    #[inline(always)]
    unsafe fn low(bytes: int8x16_t) -> int8x16_t {
        vandq_s8(bytes, vdupq_n_s8(15))
    }
    #[inline(always)]
    unsafe fn high(bytes: int8x16_t) -> int8x16_t {
        vreinterpretq_s8_u8(vshrq_n_u8::<4>(vreinterpretq_u8_s8(bytes)))
    }
    #[inline(always)]
    unsafe fn dot_eight(sums: int32x4_t, weights: int8x16_t, quad: int8x16_t) -> int32x4_t {
        sdot(sums, weights, quad)
    }
    #[inline(always)]
    unsafe fn open_four(sums: int32x4_t) -> int32x4_t {
        sums
    }
    #[inline(always)]
    unsafe fn dot_four(partial: int32x4_t, weights: int8x16_t, quad: int8x16_t) -> int32x4_t {
        sdot(partial, weights, quad)
    }
    #[inline(always)]
    unsafe fn close_four(_sums: int32x4_t, partial: int32x4_t) -> int32x4_t {
        partial
    }
    #[inline(always)]
    unsafe fn to_floats(integers: int32x4_t) -> float32x4_t {
        vcvtq_f32_s32(integers)
    }
    #[inline(always)]
    unsafe fn splat_float(value: f32) -> float32x4_t {
        vdupq_n_f32(value)
    }
    #[inline(always)]
    unsafe fn load(values: *const f32) -> float32x4_t {
        vld1q_f32(values)
    }
    #[inline(always)]
    unsafe fn load_f32(bytes: *const u8) -> float32x4_t {
        vreinterpretq_f32_u8(vld1q_u8(bytes))
    }
    #[inline(always)]
    unsafe fn load_f16(bytes: *const u8) -> float32x4_t {
        vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(bytes)))
    }
    #[inline(always)]
    unsafe fn load_bf16(bytes: *const u8) -> float32x4_t {
        vreinterpretq_f32_u32(vshll_n_u16::<16>(vreinterpret_u16_u8(vld1_u8(bytes))))
    }
    #[inline(always)]
    unsafe fn store(values: *mut f32, floats: float32x4_t) {
        vst1q_f32(values, floats);
    }
    #[inline(always)]
    unsafe fn multiply(left: float32x4_t, right: float32x4_t) -> float32x4_t {
        vmulq_f32(left, right)
    }
    #[inline(always)]
    unsafe fn multiply_add(left: float32x4_t, right: float32x4_t, sum: float32x4_t) -> float32x4_t {
        vfmaq_f32(sum, left, right)
    }
    #[inline(always)]
    unsafe fn prefetch(address: *const u8) {
        asm!("prfm pldl1keep, [{}]", in(reg) address, options(nostack, preserves_flags, readonly));
    }
    #[inline(always)]
    unsafe fn prefetch_far(address: *const u8) {
        asm!("prfm pldl2keep, [{}]", in(reg) address, options(nostack, preserves_flags, readonly));
    }
}

impl Level for Neon {
    #[inline(never)]
    unsafe fn fill_coded<C: Coding, const ROWS: usize>(job: coded::Job) {
        coded::fill::<Self, C, ROWS, 2>(job);
    }
    #[inline(never)]
    unsafe fn fill_exact<W: Weight, const ROWS: usize>(job: exact::Job) {
        exact::fill::<Self, W, ROWS, 2>(job);
    }
}

/// [`Neon`], and the products of 2 by 8 with 8 by 2 bytes for codes that lie in octets.
pub(super) struct I8mm;

impl Level for I8mm {
    #[inline(never)]
    unsafe fn fill_coded<C: Coding, const ROWS: usize>(job: coded::Job) {
        // The pairs of rows, the last of which may be one row twice. An array's length cannot be computed from `ROWS`.
        match ROWS.div_ceil(2) {
            1 => fill_octets::<C, 1>(job),
            2 => fill_octets::<C, 2>(job),
            3 => fill_octets::<C, 3>(job),
            _ => fill_octets::<C, 4>(job),
        }
    }
    #[inline(never)]
    unsafe fn fill_exact<W: Weight, const ROWS: usize>(job: exact::Job) {
        exact::fill::<Neon, W, ROWS, 2>(job);
    }
}

/// Pairs of columns whose sums are in registers together.
const COLUMNS: usize = 4;

/// Sums of two rows by two columns each.
type Sums<const ROWS: usize> = [[int32x4_t; COLUMNS]; ROWS];

/// Fills a tile of `ROWS` pairs of rows, four pairs of columns at a time.
///
/// # Safety
/// The processor has the level, and the job has the sizes that it states, with `2 * ROWS` rows or one less, and codes in
/// octets.
#[inline(always)]
unsafe fn fill_octets<C: Coding, const ROWS: usize>(job: coded::Job) {
    debug_assert_eq!(job.rows.div_ceil(2), ROWS);
    let scale_bytes = PANEL * if job.half { 2 } else { 4 };
    let codes_offset = scale_bytes * if C::MINIMUM { 2 } else { 1 };
    let block_bytes = PANEL * 32 / if C::FOUR { 2 } else { 1 };
    let inputs = job.groups * job.blocks * 32;
    let row = |pair: usize, which: usize| (2 * pair + which).min(job.rows - 1);
    for row in 0..job.rows {
        job.tile[row * job.stride..][..PANEL].fill(0.0);
    }
    let mut ahead = job.ahead.in_passes(PANEL / (2 * COLUMNS));
    for column in (0..PANEL).step_by(2 * COLUMNS) {
        let mut panel = job.panel.as_ptr();
        for group in 0..job.groups {
            let mut sums: Sums<ROWS> = [[vdupq_n_s32(0); COLUMNS]; ROWS];
            if C::FOUR && !C::MINIMUM {
                for pair in 0..ROWS {
                    let [first, second] = [0, 1].map(|which| {
                        let correction = *job.corrections.as_ptr().add(row(pair, which) * job.groups + group);
                        vdup_n_s32(correction / (CORRECTION / -8))
                    });
                    sums[pair] = [vcombine_s32(first, second); COLUMNS];
                }
            }
            for half in 0..2 * job.blocks {
                let weights = panel.add(codes_offset + half * (block_bytes / 2) + column * 8);
                let codes = job.codes.as_ptr().add((group * 2 * job.blocks + half) * 16);
                let pairs: [_; ROWS] = from_fn(|pair| [0, 1].map(|which| codes.add(row(pair, which) * inputs)));
                sums = add_half_block::<C, ROWS>(sums, weights, pairs);
                for _ in 0..block_bytes / 256 {
                    Neon::prefetch_far(ahead.next());
                }
            }
            for pair in 0..ROWS {
                for half in 0..COLUMNS / 2 {
                    let [left, right] = [0, 1].map(|which| vreinterpretq_s64_s32(sums[pair][2 * half + which]));
                    let column = column + 4 * half;
                    let scales = load_scales(panel, column, job.half);
                    let minima = load_scales(panel.add(codes_offset - scale_bytes), column, job.half);
                    for (which, values) in [vzip1q_s64(left, right), vzip2q_s64(left, right)].into_iter().enumerate() {
                        // A row that is there twice must not be added twice.
                        let row = 2 * pair + which;
                        if row == job.rows {
                            break;
                        }
                        let place = job.tile.as_mut_ptr().add(row * job.stride + column);
                        let mut value = vld1q_f32(place);
                        if C::MINIMUM {
                            value = vfmaq_n_f32(value, minima, *job.sums.as_ptr().add(row * job.groups + group));
                        }
                        let scales = vmulq_n_f32(scales, *job.scales.as_ptr().add(row * job.groups + group));
                        vst1q_f32(place, vfmaq_f32(value, vcvtq_f32_s32(vreinterpretq_s32_s64(values)), scales));
                    }
                }
            }
            panel = panel.add(codes_offset + job.blocks * block_bytes);
        }
    }
}

/// Adds the products of 16 inputs.
///
/// # Safety
/// `weights` has two rows of octets (or one of pairs of octets, of four bits), each pointer of `pairs` 16 bytes.
#[inline(always)]
unsafe fn add_half_block<C: Coding, const ROWS: usize>(
    mut sums: Sums<ROWS>,
    weights: *const u8,
    pairs: [[*const i8; 2]; ROWS],
) -> Sums<ROWS> {
    let mut octets = [[vdupq_n_s8(0); 2]; ROWS];
    for pair in 0..ROWS {
        let [first, second] = [0, 1].map(|which| vreinterpretq_s64_s8(vld1q_s8(pairs[pair][which])));
        octets[pair] = [vzip1q_s64(first, second), vzip2q_s64(first, second)].map(|pair| vreinterpretq_s8_s64(pair));
    }
    Neon::prefetch(weights.wrapping_add(AHEAD));
    for column in 0..COLUMNS {
        let bytes = Neon::load_bytes(weights.add(column * 16));
        let columns = if C::FOUR {
            [Neon::low(bytes), Neon::high(bytes)]
        } else {
            [bytes, Neon::load_bytes(weights.add(PANEL * 8 + column * 16))]
        };
        for pair in 0..ROWS {
            for octet in 0..2 {
                sums[pair][column] = smmla(sums[pair][column], octets[pair][octet], columns[octet]);
            }
        }
    }
    sums
}

/// How many bytes before they are needed weights are asked for.
const AHEAD: usize = 1024;

/// The scales of four columns from `column` on.
///
/// # Safety
/// `scales` has 32 of them, F16 if `half`.
#[inline(always)]
unsafe fn load_scales(scales: *const u8, column: usize, half: bool) -> float32x4_t {
    if half { Neon::load_f16(scales.add(2 * column)) } else { Neon::load_f32(scales.add(4 * column)) }
}

// SAFETY: needs nothing but the level.
unsafe impl Pairs for Neon {
    type In = Self;

    #[inline(always)]
    unsafe fn add(sums: float32x4_t, weights: int8x16_t, pair: int8x16_t) -> float32x4_t {
        let [weights, pair] = [weights, pair].map(|numbers| {
            let bits = vreinterpretq_u32_s8(numbers);
            let second = vandq_u32(bits, vdupq_n_u32(0xffff_0000));
            [second, vshlq_n_u32::<16>(bits)].map(|bits| vreinterpretq_f32_u32(bits))
        });
        vfmaq_f32(vfmaq_f32(sums, weights[0], pair[0]), weights[1], pair[1])
    }
}

impl PairLevel for Neon {
    #[inline(never)]
    unsafe fn fill<const ROWS: usize>(job: paired::Job) {
        paired::fill::<Self, ROWS, 2>(job);
    }
}

/// [`Neon`], and the products of BF16: dot products for one row, those of 2 by 4 with 4 by 2 for more.
pub(super) struct NeonBf16;

// SAFETY: it is its instruction.
unsafe impl Pairs for NeonBf16 {
    type In = Neon;

    #[inline(always)]
    unsafe fn add(sums: float32x4_t, weights: int8x16_t, pair: int8x16_t) -> float32x4_t {
        bfdot(sums, weights, pair)
    }
}

impl PairLevel for NeonBf16 {
    #[inline(never)]
    unsafe fn fill<const ROWS: usize>(job: paired::Job) {
        match ROWS {
            1 => paired::fill::<Self, 1, 2>(job),
            // As in `I8mm`.
            2 => fill_pairs::<1>(job),
            3 | 4 => fill_pairs::<2>(job),
            5 | 6 => fill_pairs::<3>(job),
            _ => fill_pairs::<4>(job),
        }
    }
}

/// Fills a tile of `ROWS` pairs of rows, four pairs of columns at a time.
///
/// # Safety
/// The processor has the level and the products of BF16, and the job has the sizes that it states, with `2 * ROWS` rows or
/// one less.
#[inline(always)]
unsafe fn fill_pairs<const ROWS: usize>(job: paired::Job) {
    debug_assert_eq!(job.rows.div_ceil(2), ROWS);
    let row = |pair: usize, which: usize| (2 * pair + which).min(job.rows - 1);
    let mut ahead = job.ahead.in_passes(PANEL / (2 * COLUMNS));
    for column in (0..PANEL).step_by(2 * COLUMNS) {
        let mut sums = [[vdupq_n_f32(0.0); COLUMNS]; ROWS];
        for eight in 0..job.inputs / 8 {
            let values = job.values.as_ptr().add(eight * 8);
            let fours: [[uint16x8_t; 2]; ROWS] = from_fn(|pair| {
                let [first, second] =
                    [0, 1].map(|which| vreinterpretq_u64_u16(vld1q_u16(values.add(row(pair, which) * job.inputs))));
                [vzip1q_u64(first, second), vzip2q_u64(first, second)].map(|rows| vreinterpretq_u16_u64(rows))
            });
            for half in 0..2 {
                let panel = job.panel.as_ptr().add((eight * 4 + half * 2) * PANEL * 4 + column * 4);
                for pair in 0..2 {
                    Neon::prefetch(panel.wrapping_add(AHEAD + pair * PANEL * 4));
                    Neon::prefetch_far(ahead.next());
                }
                let load = |pair: usize, vector: usize| {
                    vreinterpretq_u32_s8(Neon::load_bytes(panel.add(pair * PANEL * 4 + vector * 16)))
                };
                let columns: [uint16x8_t; COLUMNS] = from_fn(|columns| {
                    let [first, second] = [0, 1].map(|pair| load(pair, columns / 2));
                    let zip = if columns % 2 == 0 { vzip1q_u32 } else { vzip2q_u32 };
                    vreinterpretq_u16_u32(zip(first, second))
                });
                for pair in 0..ROWS {
                    for column in 0..COLUMNS {
                        sums[pair][column] = bfmmla(sums[pair][column], fours[pair][half], columns[column]);
                    }
                }
            }
        }
        for pair in 0..ROWS {
            for half in 0..COLUMNS / 2 {
                let [left, right] = [0, 1].map(|which| vreinterpretq_f64_f32(sums[pair][2 * half + which]));
                for (which, values) in [vzip1q_f64(left, right), vzip2q_f64(left, right)].into_iter().enumerate() {
                    // A row that is there twice is written where it belongs, twice the same.
                    let place = job.tile.as_mut_ptr().add(row(pair, which) * job.stride + column + 4 * half);
                    vst1q_f32(place, vreinterpretq_f32_f64(values));
                }
            }
        }
    }
}
