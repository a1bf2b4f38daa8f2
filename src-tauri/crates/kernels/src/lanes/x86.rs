//! Registers of AVX2 and AVX-512.

use std::arch::x86_64::{
    __m256, __m512, _CMP_LT_OQ, _mm256_add_epi32, _mm256_add_ps, _mm256_blendv_ps, _mm256_castps_si256,
    _mm256_castsi256_ps, _mm256_cmp_ps, _mm256_div_ps, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_max_ps, _mm256_min_ps,
    _mm256_mul_ps, _mm256_permute2f128_ps, _mm256_set1_ps, _mm256_slli_epi32, _mm256_storeu_ps, _mm256_sub_ps,
    _mm256_unpackhi_ps, _mm256_unpacklo_ps, _mm512_add_epi32, _mm512_add_ps, _mm512_castps_si512, _mm512_castsi512_ps,
    _mm512_cmp_ps_mask, _mm512_div_ps, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_mask_blend_ps, _mm512_max_ps,
    _mm512_min_ps, _mm512_mul_ps, _mm512_permutex2var_ps, _mm512_set1_ps, _mm512_setr_epi32, _mm512_slli_epi32,
    _mm512_storeu_ps, _mm512_sub_ps,
};

use super::{Body, Group, Register};

/// AVX2 with FMA.
pub(crate) type Avx2 = Group<__m256, 2>;

/// AVX-512.
pub(crate) type Avx512 = Group<__m512, 1>;

#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn run_avx2<B: Body>(body: B) -> B::Output {
    body.run::<Avx2>()
}

#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq")]
pub(super) fn run_avx512<B: Body>(body: B) -> B::Output {
    body.run::<Avx512>()
}

impl Register for __m256 {
    const COUNT: usize = 8;
    const WIDE: bool = false;

    #[inline(always)]
    fn splat(number: f32) -> Self {
        // SAFETY: the caller has enabled the instruction.
        unsafe { _mm256_set1_ps(number) }
    }

    #[inline(always)]
    fn load(numbers: &[f32]) -> Self {
        assert!(numbers.len() >= Self::COUNT, "numbers for each lane");
        // SAFETY: the caller has enabled the instruction, and there are as many numbers.
        unsafe { _mm256_loadu_ps(numbers.as_ptr()) }
    }

    #[inline(always)]
    fn store(self, numbers: &mut [f32]) {
        assert!(numbers.len() >= Self::COUNT, "numbers for each lane");
        // SAFETY: the caller has enabled the instruction, and there is room for as many numbers.
        unsafe { _mm256_storeu_ps(numbers.as_mut_ptr(), self) }
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        // SAFETY: the caller has enabled the instruction.
        unsafe { _mm256_add_ps(self, other) }
    }

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        // SAFETY: the caller has enabled the instruction.
        unsafe { _mm256_sub_ps(self, other) }
    }

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        // SAFETY: the caller has enabled the instruction.
        unsafe { _mm256_mul_ps(self, other) }
    }

    #[inline(always)]
    fn div(self, other: Self) -> Self {
        // SAFETY: the caller has enabled the instruction.
        unsafe { _mm256_div_ps(self, other) }
    }

    #[inline(always)]
    fn mul_add(self, factor: Self, addend: Self) -> Self {
        // SAFETY: the caller has enabled the instruction.
        unsafe { _mm256_fmadd_ps(self, factor, addend) }
    }

    #[inline(always)]
    fn at_least(self, bound: Self) -> Self {
        // SAFETY: the caller has enabled the instruction. It gives its second argument if either is not a number.
        unsafe { _mm256_max_ps(bound, self) }
    }

    #[inline(always)]
    fn at_most(self, bound: Self) -> Self {
        // SAFETY: the caller has enabled the instruction. It gives its second argument if either is not a number.
        unsafe { _mm256_min_ps(bound, self) }
    }

    #[inline(always)]
    fn where_below(self, bound: Self, value: Self, otherwise: Self) -> Self {
        // SAFETY: the caller has enabled the instruction.
        unsafe { _mm256_blendv_ps(otherwise, value, _mm256_cmp_ps::<_CMP_LT_OQ>(self, bound)) }
    }

    #[inline(always)]
    fn add_to_exponent(self, exponents: Self) -> Self {
        // SAFETY: the caller has enabled the instruction.
        unsafe {
            let exponents = _mm256_slli_epi32::<23>(_mm256_castps_si256(exponents));
            _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(self), exponents))
        }
    }

    #[inline(always)]
    fn interleave(self, other: Self) -> [Self; 2] {
        // SAFETY: the caller has enabled the instructions.
        unsafe {
            let (low, high) = (_mm256_unpacklo_ps(self, other), _mm256_unpackhi_ps(self, other));
            [_mm256_permute2f128_ps::<0x20>(low, high), _mm256_permute2f128_ps::<0x31>(low, high)]
        }
    }
}

impl Register for __m512 {
    const COUNT: usize = 16;
    const WIDE: bool = true;

    #[inline(always)]
    fn splat(number: f32) -> Self {
        // SAFETY: the caller has enabled the instruction.
        unsafe { _mm512_set1_ps(number) }
    }

    #[inline(always)]
    fn load(numbers: &[f32]) -> Self {
        assert!(numbers.len() >= Self::COUNT, "numbers for each lane");
        // SAFETY: the caller has enabled the instruction, and there are as many numbers.
        unsafe { _mm512_loadu_ps(numbers.as_ptr()) }
    }

    #[inline(always)]
    fn store(self, numbers: &mut [f32]) {
        assert!(numbers.len() >= Self::COUNT, "numbers for each lane");
        // SAFETY: the caller has enabled the instruction, and there is room for as many numbers.
        unsafe { _mm512_storeu_ps(numbers.as_mut_ptr(), self) }
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        // SAFETY: the caller has enabled the instruction.
        unsafe { _mm512_add_ps(self, other) }
    }

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        // SAFETY: the caller has enabled the instruction.
        unsafe { _mm512_sub_ps(self, other) }
    }

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        // SAFETY: the caller has enabled the instruction.
        unsafe { _mm512_mul_ps(self, other) }
    }

    #[inline(always)]
    fn div(self, other: Self) -> Self {
        // SAFETY: the caller has enabled the instruction.
        unsafe { _mm512_div_ps(self, other) }
    }

    #[inline(always)]
    fn mul_add(self, factor: Self, addend: Self) -> Self {
        // SAFETY: the caller has enabled the instruction.
        unsafe { _mm512_fmadd_ps(self, factor, addend) }
    }

    #[inline(always)]
    fn at_least(self, bound: Self) -> Self {
        // SAFETY: the caller has enabled the instruction. It gives its second argument if either is not a number.
        unsafe { _mm512_max_ps(bound, self) }
    }

    #[inline(always)]
    fn at_most(self, bound: Self) -> Self {
        // SAFETY: the caller has enabled the instruction. It gives its second argument if either is not a number.
        unsafe { _mm512_min_ps(bound, self) }
    }

    #[inline(always)]
    fn where_below(self, bound: Self, value: Self, otherwise: Self) -> Self {
        // SAFETY: the caller has enabled the instruction.
        unsafe { _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_LT_OQ>(self, bound), otherwise, value) }
    }

    #[inline(always)]
    fn add_to_exponent(self, exponents: Self) -> Self {
        // SAFETY: the caller has enabled the instruction.
        unsafe {
            let exponents = _mm512_slli_epi32::<23>(_mm512_castps_si512(exponents));
            _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(self), exponents))
        }
    }

    #[inline(always)]
    fn interleave(self, other: Self) -> [Self; 2] {
        // SAFETY: the caller has enabled the instructions.
        unsafe {
            let low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
            let high = _mm512_setr_epi32(8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
            [_mm512_permutex2var_ps(self, low, other), _mm512_permutex2var_ps(self, high, other)]
        }
    }
}
