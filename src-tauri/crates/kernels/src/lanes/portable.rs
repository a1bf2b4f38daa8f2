//! Lanes without intrinsics.

use super::{Group, LANES, Register};

/// An array, which the compiler may or may not keep in registers.
pub(crate) type Portable = Group<[f32; LANES], 1>;

impl Register for [f32; LANES] {
    const COUNT: usize = LANES;
    const WIDE: bool = false;

    #[inline(always)]
    fn splat(number: f32) -> Self {
        [number; LANES]
    }

    #[inline(always)]
    fn load(numbers: &[f32]) -> Self {
        let mut lanes = [0.0; LANES];
        lanes.copy_from_slice(&numbers[..LANES]);
        lanes
    }

    #[inline(always)]
    fn store(self, numbers: &mut [f32]) {
        numbers[..LANES].copy_from_slice(&self);
    }

    #[inline(always)]
    fn add(mut self, other: Self) -> Self {
        for i in 0..LANES {
            self[i] += other[i];
        }
        self
    }

    #[inline(always)]
    fn sub(mut self, other: Self) -> Self {
        for i in 0..LANES {
            self[i] -= other[i];
        }
        self
    }

    #[inline(always)]
    fn mul(mut self, other: Self) -> Self {
        for i in 0..LANES {
            self[i] *= other[i];
        }
        self
    }

    #[inline(always)]
    fn div(mut self, other: Self) -> Self {
        for i in 0..LANES {
            self[i] /= other[i];
        }
        self
    }

    // Not `f32::mul_add`, which is a call of the C library where it is not an instruction.
    #[inline(always)]
    fn mul_add(mut self, factor: Self, addend: Self) -> Self {
        for i in 0..LANES {
            self[i] = self[i] * factor[i] + addend[i];
        }
        self
    }

    #[inline(always)]
    fn at_least(mut self, bound: Self) -> Self {
        for i in 0..LANES {
            self[i] = if bound[i] > self[i] { bound[i] } else { self[i] };
        }
        self
    }

    #[inline(always)]
    fn at_most(mut self, bound: Self) -> Self {
        for i in 0..LANES {
            self[i] = if bound[i] < self[i] { bound[i] } else { self[i] };
        }
        self
    }

    #[inline(always)]
    fn where_below(self, bound: Self, value: Self, mut otherwise: Self) -> Self {
        for i in 0..LANES {
            otherwise[i] = if self[i] < bound[i] { value[i] } else { otherwise[i] };
        }
        otherwise
    }

    #[inline(always)]
    fn add_to_exponent(mut self, exponents: Self) -> Self {
        for i in 0..LANES {
            self[i] = f32::from_bits(self[i].to_bits().wrapping_add(exponents[i].to_bits() << 23));
        }
        self
    }

    #[inline(always)]
    fn interleave(self, other: Self) -> [Self; 2] {
        let mut result = [self; 2];
        for i in 0..LANES {
            result[2 * i / LANES][2 * i % LANES] = self[i];
            result[2 * i / LANES][2 * i % LANES + 1] = other[i];
        }
        result
    }
}
