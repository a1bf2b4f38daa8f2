//! Kernels in plain Rust: vectors are arrays, which the compiler may turn into what the processor surely has.

#![expect(unsafe_op_in_unsafe_fn, reason = "functions are a load or a store under the contract of `Vectors`")]
#![expect(clippy::inline_always, reason = "left to itself the compiler calls functions for these few additions")]

use std::array::from_fn;

use half::{bf16, f16};

use super::coded::{self, Coding};
use super::exact::{self, Weight};
use super::paired::{self, PairLevel, Pairs};
use super::vectors::{Level, Vectors};

const LANES: usize = 8;

/// Arrays of eight.
pub(super) struct Portable;

// SAFETY: needs no features, and reads or writes what the trait says.
unsafe impl Vectors for Portable {
    type Integers = [i32; LANES];
    type Bytes = [[i8; 4]; LANES];
    type Floats = [f32; LANES];
    type Partial = [i32; LANES];
    const LANES: usize = LANES;
    const BIASED: bool = false;

    #[inline(always)]
    unsafe fn splat(value: i32) -> [i32; LANES] {
        [value; LANES]
    }
    #[inline(always)]
    unsafe fn load_bytes(bytes: *const u8) -> Self::Bytes {
        bytes.cast::<Self::Bytes>().read()
    }
    #[inline(always)]
    unsafe fn splat_quad(bytes: *const i8) -> Self::Bytes {
        [bytes.cast::<[i8; 4]>().read(); LANES]
    }
    #[inline(always)]
    unsafe fn low(bytes: Self::Bytes) -> Self::Bytes {
        bytes.map(|quad| quad.map(|byte| byte & 15))
    }
    #[inline(always)]
    unsafe fn high(bytes: Self::Bytes) -> Self::Bytes {
        bytes.map(|quad| quad.map(|byte| byte >> 4 & 15))
    }
    #[inline(always)]
    unsafe fn dot_eight(sums: [i32; LANES], weights: Self::Bytes, quad: Self::Bytes) -> [i32; LANES] {
        from_fn(|lane| {
            let product = |byte: usize| i32::from(weights[lane][byte]) * i32::from(quad[lane][byte]);
            // No more than MAX_INPUTS products of 128 * 127 come together, so this cannot overflow.
            sums[lane] + (product(0) + product(1) + product(2) + product(3))
        })
    }
    #[inline(always)]
    unsafe fn open_four(sums: [i32; LANES]) -> [i32; LANES] {
        sums
    }
    #[inline(always)]
    unsafe fn dot_four(partial: [i32; LANES], weights: Self::Bytes, quad: Self::Bytes) -> [i32; LANES] {
        Self::dot_eight(partial, weights, quad)
    }
    #[inline(always)]
    unsafe fn close_four(_sums: [i32; LANES], partial: [i32; LANES]) -> [i32; LANES] {
        partial
    }
    #[inline(always)]
    unsafe fn to_floats(integers: [i32; LANES]) -> [f32; LANES] {
        integers.map(|integer| integer as f32)
    }
    #[inline(always)]
    unsafe fn splat_float(value: f32) -> [f32; LANES] {
        [value; LANES]
    }
    #[inline(always)]
    unsafe fn load(values: *const f32) -> [f32; LANES] {
        values.cast::<[f32; LANES]>().read()
    }
    #[inline(always)]
    unsafe fn load_f32(bytes: *const u8) -> [f32; LANES] {
        bytes.cast::<[[u8; 4]; LANES]>().read().map(f32::from_le_bytes)
    }
    #[inline(always)]
    unsafe fn load_f16(bytes: *const u8) -> [f32; LANES] {
        bytes.cast::<[[u8; 2]; LANES]>().read().map(|bytes| f16::from_le_bytes(bytes).to_f32())
    }
    #[inline(always)]
    unsafe fn load_bf16(bytes: *const u8) -> [f32; LANES] {
        bytes.cast::<[[u8; 2]; LANES]>().read().map(|bytes| bf16::from_le_bytes(bytes).to_f32())
    }
    #[inline(always)]
    unsafe fn store(values: *mut f32, floats: [f32; LANES]) {
        values.cast::<[f32; LANES]>().write(floats);
    }
    #[inline(always)]
    unsafe fn multiply(left: [f32; LANES], right: [f32; LANES]) -> [f32; LANES] {
        from_fn(|lane| left[lane] * right[lane])
    }
    #[inline(always)]
    unsafe fn multiply_add(left: [f32; LANES], right: [f32; LANES], sum: [f32; LANES]) -> [f32; LANES] {
        // Not fused: without the instruction that takes a function call for each lane.
        from_fn(|lane| left[lane] * right[lane] + sum[lane])
    }
    #[inline(always)]
    unsafe fn prefetch(_address: *const u8) {}
    #[inline(always)]
    unsafe fn prefetch_far(_address: *const u8) {}
}

impl Level for Portable {
    unsafe fn fill_coded<C: Coding, const ROWS: usize>(job: coded::Job) {
        coded::fill::<Self, C, ROWS, 2>(job);
    }

    unsafe fn fill_exact<W: Weight, const ROWS: usize>(job: exact::Job) {
        exact::fill::<Self, W, ROWS, 1>(job);
    }
}

// SAFETY: needs no features.
unsafe impl Pairs for Portable {
    type In = Self;

    #[inline(always)]
    unsafe fn add(sums: [f32; LANES], weights: [[i8; 4]; LANES], pair: [[i8; 4]; LANES]) -> [f32; LANES] {
        let [weights, pair] =
            [weights, pair].map(|quads| quads.map(|quad| u32::from_le_bytes(quad.map(i8::cast_unsigned))));
        let second = |bits: u32| f32::from_bits(bits & 0xffff_0000);
        let first = |bits: u32| f32::from_bits(bits << 16);
        from_fn(|lane| {
            let sum = second(weights[lane]) * second(pair[lane]) + sums[lane];
            first(weights[lane]) * first(pair[lane]) + sum
        })
    }
}

impl PairLevel for Portable {
    unsafe fn fill<const ROWS: usize>(job: paired::Job) {
        paired::fill::<Self, ROWS, 1>(job);
    }
}
