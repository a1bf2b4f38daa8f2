//! Registers of NEON.

use std::arch::aarch64::{
    float32x4_t, vaddq_f32, vaddq_u32, vbslq_f32, vcltq_f32, vdivq_f32, vdupq_n_f32, vfmaq_f32, vld1q_f32, vmaxq_f32,
    vminq_f32, vmulq_f32, vreinterpretq_f32_u32, vreinterpretq_u32_f32, vshlq_n_u32, vst1q_f32, vsubq_f32, vzip1q_f32,
    vzip2q_f32,
};

use super::{Group, Register};

/// NEON.
pub(crate) type Neon = Group<float32x4_t, 4>;

impl Register for float32x4_t {
    const COUNT: usize = 4;
    const WIDE: bool = false;

    #[inline(always)]
    fn splat(number: f32) -> Self {
        // SAFETY: every aarch64 has the instruction.
        unsafe { vdupq_n_f32(number) }
    }

    #[inline(always)]
    fn load(numbers: &[f32]) -> Self {
        assert!(numbers.len() >= Self::COUNT, "numbers for each lane");
        // SAFETY: every aarch64 has the instruction, and there are as many numbers.
        unsafe { vld1q_f32(numbers.as_ptr()) }
    }

    #[inline(always)]
    fn store(self, numbers: &mut [f32]) {
        assert!(numbers.len() >= Self::COUNT, "numbers for each lane");
        // SAFETY: every aarch64 has the instruction, and there is room for as many numbers.
        unsafe { vst1q_f32(numbers.as_mut_ptr(), self) }
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        // SAFETY: every aarch64 has the instruction.
        unsafe { vaddq_f32(self, other) }
    }

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        // SAFETY: every aarch64 has the instruction.
        unsafe { vsubq_f32(self, other) }
    }

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        // SAFETY: every aarch64 has the instruction.
        unsafe { vmulq_f32(self, other) }
    }

    #[inline(always)]
    fn div(self, other: Self) -> Self {
        // SAFETY: every aarch64 has the instruction.
        unsafe { vdivq_f32(self, other) }
    }

    #[inline(always)]
    fn mul_add(self, factor: Self, addend: Self) -> Self {
        // SAFETY: every aarch64 has the instruction.
        unsafe { vfmaq_f32(addend, self, factor) }
    }

    #[inline(always)]
    fn at_least(self, bound: Self) -> Self {
        // SAFETY: every aarch64 has the instruction.
        unsafe { vmaxq_f32(self, bound) }
    }

    #[inline(always)]
    fn at_most(self, bound: Self) -> Self {
        // SAFETY: every aarch64 has the instruction.
        unsafe { vminq_f32(self, bound) }
    }

    #[inline(always)]
    fn where_below(self, bound: Self, value: Self, otherwise: Self) -> Self {
        // SAFETY: every aarch64 has the instruction.
        unsafe { vbslq_f32(vcltq_f32(self, bound), value, otherwise) }
    }

    #[inline(always)]
    fn add_to_exponent(self, exponents: Self) -> Self {
        // SAFETY: every aarch64 has the instruction.
        unsafe {
            let exponents = vshlq_n_u32::<23>(vreinterpretq_u32_f32(exponents));
            vreinterpretq_f32_u32(vaddq_u32(vreinterpretq_u32_f32(self), exponents))
        }
    }

    #[inline(always)]
    fn interleave(self, other: Self) -> [Self; 2] {
        // SAFETY: every aarch64 has the instructions.
        unsafe { [vzip1q_f32(self, other), vzip2q_f32(self, other)] }
    }
}
