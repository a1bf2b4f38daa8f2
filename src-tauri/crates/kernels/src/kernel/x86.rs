//! Kernels for x86: AVX-512 with VNNI, and maybe with BF16, AVX2 with VNNI, and AVX2 alone.

#![expect(unsafe_op_in_unsafe_fn, reason = "functions are an instruction or two under the contract of `Vectors`")]
#![expect(clippy::inline_always, reason = "has to be compiled with the features of its caller")]

#[allow(clippy::wildcard_imports, reason = "the names say where they come from")]
use std::arch::x86_64::*;

use super::coded::{self, Coding};
use super::exact::{self, Weight};
use super::paired::{self, PairLevel, Pairs};
use super::vectors::{Level, Vectors};

/// Vectors of 512 bits with AVX-512 and VNNI.
pub(super) struct Avx512;

// SAFETY: each function is its instruction, and reads or writes what the trait says.
unsafe impl Vectors for Avx512 {
    type Integers = __m512i;
    type Bytes = __m512i;
    type Floats = __m512;
    type Partial = __m512i;
    const LANES: usize = 16;
    const BIASED: bool = true;

    #[inline(always)]
    unsafe fn splat(value: i32) -> __m512i {
        _mm512_set1_epi32(value)
    }
    #[inline(always)]
    unsafe fn load_bytes(bytes: *const u8) -> __m512i {
        _mm512_loadu_si512(bytes.cast())
    }
    #[inline(always)]
    unsafe fn splat_quad(bytes: *const i8) -> __m512i {
        _mm512_set1_epi32(bytes.cast::<i32>().read_unaligned())
    }
    #[inline(always)]
    unsafe fn low(bytes: __m512i) -> __m512i {
        _mm512_and_si512(bytes, _mm512_set1_epi8(15))
    }
    #[inline(always)]
    unsafe fn high(bytes: __m512i) -> __m512i {
        Self::low(_mm512_srli_epi16::<4>(bytes))
    }
    #[inline(always)]
    unsafe fn dot_eight(sums: __m512i, weights: __m512i, quad: __m512i) -> __m512i {
        _mm512_dpbusd_epi32(sums, weights, quad)
    }
    #[inline(always)]
    unsafe fn open_four(sums: __m512i) -> __m512i {
        sums
    }
    #[inline(always)]
    unsafe fn dot_four(partial: __m512i, weights: __m512i, quad: __m512i) -> __m512i {
        _mm512_dpbusd_epi32(partial, weights, quad)
    }
    #[inline(always)]
    unsafe fn close_four(_sums: __m512i, partial: __m512i) -> __m512i {
        partial
    }
    #[inline(always)]
    unsafe fn to_floats(integers: __m512i) -> __m512 {
        _mm512_cvtepi32_ps(integers)
    }
    #[inline(always)]
    unsafe fn splat_float(value: f32) -> __m512 {
        _mm512_set1_ps(value)
    }
    #[inline(always)]
    unsafe fn load(values: *const f32) -> __m512 {
        _mm512_loadu_ps(values)
    }
    #[inline(always)]
    unsafe fn load_f32(bytes: *const u8) -> __m512 {
        _mm512_loadu_ps(bytes.cast())
    }
    #[inline(always)]
    unsafe fn load_f16(bytes: *const u8) -> __m512 {
        _mm512_cvtph_ps(_mm256_loadu_si256(bytes.cast()))
    }
    #[inline(always)]
    unsafe fn load_bf16(bytes: *const u8) -> __m512 {
        let wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(bytes.cast()));
        _mm512_castsi512_ps(_mm512_slli_epi32::<16>(wide))
    }
    #[inline(always)]
    unsafe fn store(values: *mut f32, floats: __m512) {
        _mm512_storeu_ps(values, floats);
    }
    #[inline(always)]
    unsafe fn multiply(left: __m512, right: __m512) -> __m512 {
        _mm512_mul_ps(left, right)
    }
    #[inline(always)]
    unsafe fn multiply_add(left: __m512, right: __m512, sum: __m512) -> __m512 {
        _mm512_fmadd_ps(left, right, sum)
    }
    #[inline(always)]
    unsafe fn prefetch(address: *const u8) {
        _mm_prefetch::<_MM_HINT_T0>(address.cast());
    }
    #[inline(always)]
    unsafe fn prefetch_far(address: *const u8) {
        _mm_prefetch::<_MM_HINT_T1>(address.cast());
    }
}

impl Level for Avx512 {
    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
    #[inline(never)]
    unsafe fn fill_coded<C: Coding, const ROWS: usize>(job: coded::Job) {
        coded::fill::<Self, C, ROWS, 2>(job);
    }

    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
    #[inline(never)]
    unsafe fn fill_exact<W: Weight, const ROWS: usize>(job: exact::Job) {
        exact::fill::<Self, W, ROWS, 2>(job);
    }
}

/// [`Avx512`] and the dot products of BF16.
pub(super) struct Avx512Bf16;

// SAFETY: it is its instruction.
unsafe impl Pairs for Avx512Bf16 {
    type In = Avx512;

    #[inline(always)]
    unsafe fn add(sums: __m512, weights: __m512i, pair: __m512i) -> __m512 {
        // The types differ in name only.
        let weights = std::mem::transmute::<__m512i, __m512bh>(weights);
        _mm512_dpbf16_ps(sums, weights, std::mem::transmute::<__m512i, __m512bh>(pair))
    }
}

impl PairLevel for Avx512Bf16 {
    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512bf16")]
    #[inline(never)]
    unsafe fn fill<const ROWS: usize>(job: paired::Job) {
        paired::fill::<Self, ROWS, 2>(job);
    }
}

/// Vectors of 256 bits with AVX2 and FMA, and maybe with VNNI.
///
/// Without it, a signed byte times a signed byte is the magnitude of the one times the other with the sign of the one. The
/// sum of two such products is at most 2 * 128 * 127, which fits the 16 bits it is made in; so does that of sixteen products
/// with codes of four bits, 16 * 15 * 127.
pub(super) struct Avx2<const VNNI: bool>;

// SAFETY: each function is its instruction, and reads or writes what the trait says.
unsafe impl<const VNNI: bool> Vectors for Avx2<VNNI> {
    type Integers = __m256i;
    type Bytes = __m256i;
    type Floats = __m256;
    type Partial = __m256i;
    const LANES: usize = 8;
    const BIASED: bool = VNNI;

    #[inline(always)]
    unsafe fn splat(value: i32) -> __m256i {
        _mm256_set1_epi32(value)
    }
    #[inline(always)]
    unsafe fn load_bytes(bytes: *const u8) -> __m256i {
        _mm256_loadu_si256(bytes.cast())
    }
    #[inline(always)]
    unsafe fn splat_quad(bytes: *const i8) -> __m256i {
        _mm256_set1_epi32(bytes.cast::<i32>().read_unaligned())
    }
    #[inline(always)]
    unsafe fn low(bytes: __m256i) -> __m256i {
        _mm256_and_si256(bytes, _mm256_set1_epi8(15))
    }
    #[inline(always)]
    unsafe fn high(bytes: __m256i) -> __m256i {
        Self::low(_mm256_srli_epi16::<4>(bytes))
    }
    #[inline(always)]
    unsafe fn dot_eight(sums: __m256i, weights: __m256i, quad: __m256i) -> __m256i {
        if VNNI {
            _mm256_dpbusd_avx_epi32(sums, weights, quad)
        } else {
            let pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(weights), _mm256_sign_epi8(quad, weights));
            _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
        }
    }
    #[inline(always)]
    unsafe fn open_four(sums: __m256i) -> __m256i {
        if VNNI { sums } else { _mm256_setzero_si256() }
    }
    #[inline(always)]
    unsafe fn dot_four(partial: __m256i, weights: __m256i, quad: __m256i) -> __m256i {
        if VNNI {
            _mm256_dpbusd_avx_epi32(partial, weights, quad)
        } else {
            _mm256_add_epi16(partial, _mm256_maddubs_epi16(weights, quad))
        }
    }
    #[inline(always)]
    unsafe fn close_four(sums: __m256i, partial: __m256i) -> __m256i {
        if VNNI { partial } else { _mm256_add_epi32(sums, _mm256_madd_epi16(partial, _mm256_set1_epi16(1))) }
    }
    #[inline(always)]
    unsafe fn to_floats(integers: __m256i) -> __m256 {
        _mm256_cvtepi32_ps(integers)
    }
    #[inline(always)]
    unsafe fn splat_float(value: f32) -> __m256 {
        _mm256_set1_ps(value)
    }
    #[inline(always)]
    unsafe fn load(values: *const f32) -> __m256 {
        _mm256_loadu_ps(values)
    }
    #[inline(always)]
    unsafe fn load_f32(bytes: *const u8) -> __m256 {
        _mm256_loadu_ps(bytes.cast())
    }
    #[inline(always)]
    unsafe fn load_f16(bytes: *const u8) -> __m256 {
        _mm256_cvtph_ps(_mm_loadu_si128(bytes.cast()))
    }
    #[inline(always)]
    unsafe fn load_bf16(bytes: *const u8) -> __m256 {
        let wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(bytes.cast()));
        _mm256_castsi256_ps(_mm256_slli_epi32::<16>(wide))
    }
    #[inline(always)]
    unsafe fn store(values: *mut f32, floats: __m256) {
        _mm256_storeu_ps(values, floats);
    }
    #[inline(always)]
    unsafe fn multiply(left: __m256, right: __m256) -> __m256 {
        _mm256_mul_ps(left, right)
    }
    #[inline(always)]
    unsafe fn multiply_add(left: __m256, right: __m256, sum: __m256) -> __m256 {
        _mm256_fmadd_ps(left, right, sum)
    }
    #[inline(always)]
    unsafe fn prefetch(address: *const u8) {
        _mm_prefetch::<_MM_HINT_T0>(address.cast());
    }
    #[inline(always)]
    unsafe fn prefetch_far(address: *const u8) {
        _mm_prefetch::<_MM_HINT_T1>(address.cast());
    }
}

impl Level for Avx2<false> {
    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline(never)]
    unsafe fn fill_coded<C: Coding, const ROWS: usize>(job: coded::Job) {
        coded::fill::<Self, C, ROWS, 2>(job);
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline(never)]
    unsafe fn fill_exact<W: Weight, const ROWS: usize>(job: exact::Job) {
        exact::fill::<Self, W, ROWS, 2>(job);
    }
}

/// Widens the first BF16 of each pair.
///
/// # Safety
/// The processor has AVX2.
#[inline(always)]
unsafe fn first_of_pairs(pairs: __m256i) -> __m256 {
    _mm256_castsi256_ps(_mm256_slli_epi32::<16>(pairs))
}

/// Widens the second.
///
/// # Safety
/// The processor has AVX2.
#[inline(always)]
unsafe fn second_of_pairs(pairs: __m256i) -> __m256 {
    _mm256_castsi256_ps(_mm256_and_si256(pairs, _mm256_set1_epi32(0xffff_0000_u32.cast_signed())))
}

// SAFETY: needs nothing but the level.
unsafe impl Pairs for Avx2<false> {
    type In = Self;

    #[inline(always)]
    unsafe fn add(mut sums: __m256, weights: __m256i, pair: __m256i) -> __m256 {
        sums = _mm256_fmadd_ps(second_of_pairs(weights), second_of_pairs(pair), sums);
        _mm256_fmadd_ps(first_of_pairs(weights), first_of_pairs(pair), sums)
    }
}

impl PairLevel for Avx2<false> {
    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline(never)]
    unsafe fn fill<const ROWS: usize>(job: paired::Job) {
        paired::fill::<Self, ROWS, 2>(job);
    }
}

impl Level for Avx2<true> {
    #[target_feature(enable = "avx2,fma,f16c,avxvnni")]
    #[inline(never)]
    unsafe fn fill_coded<C: Coding, const ROWS: usize>(job: coded::Job) {
        coded::fill::<Self, C, ROWS, 2>(job);
    }

    #[target_feature(enable = "avx2,fma,f16c,avxvnni")]
    #[inline(never)]
    unsafe fn fill_exact<W: Weight, const ROWS: usize>(job: exact::Job) {
        exact::fill::<Self, W, ROWS, 2>(job);
    }
}
