//! Arithmetic on one vector of the processor, with operators. `pulp` chooses the vector's width when the program runs and has the
//! instructions; this gives them names. No product is fused with a sum, because the reference fuses none.

use std::ops::{Add, Div, Mul, Sub};

use pulp::Simd;

use crate::quantise::LARGE;

/// One number for each lane of a vector.
#[derive(Clone, Copy)]
pub(super) struct Lanes<S: Simd> {
    simd: S,
    numbers: S::f32s,
}

/// A choice for each lane.
#[derive(Clone, Copy)]
pub(super) struct Mask<S: Simd> {
    simd: S,
    chosen: S::m32s,
}

impl<S: Simd> Lanes<S> {
    #[inline(always)]
    pub(super) fn all_of(simd: S, number: f32) -> Self {
        Self { simd, numbers: simd.splat_f32s(number) }
    }

    /// What `number` gives for each lane.
    #[inline(always)]
    pub(super) fn each(simd: S, number: impl Fn(usize) -> f32) -> Self {
        let mut numbers = simd.splat_f32s(0.0);
        for (lane, place) in
            bytemuck::cast_slice_mut::<_, f32>(std::slice::from_mut(&mut numbers)).iter_mut().enumerate()
        {
            *place = number(lane);
        }
        Self { simd, numbers }
    }

    /// The number in every lane of a vector like this one.
    #[inline(always)]
    pub(super) fn all(self, number: f32) -> Self {
        Self::all_of(self.simd, number)
    }

    #[inline(always)]
    pub(super) fn numbers(&self) -> &[f32] {
        bytemuck::cast_slice(std::slice::from_ref(&self.numbers))
    }

    #[inline(always)]
    fn with(self, numbers: S::f32s) -> Self {
        Self { simd: self.simd, numbers }
    }

    #[inline(always)]
    pub(super) fn absolute(self) -> Self {
        self.with(self.simd.abs_f32s(self.numbers))
    }

    #[inline(always)]
    pub(super) fn square_root(self) -> Self {
        self.with(self.simd.sqrt_f32s(self.numbers))
    }

    /// See [`crate::quantise::rounded`].
    #[inline(always)]
    pub(super) fn rounded(self) -> Self {
        self + self.all(LARGE) - self.all(LARGE)
    }

    #[inline(always)]
    pub(super) fn at_least(self, low: Self) -> Self {
        self.with(self.simd.max_f32s(self.numbers, low.numbers))
    }

    #[inline(always)]
    pub(super) fn at_most(self, high: Self) -> Self {
        self.with(self.simd.min_f32s(self.numbers, high.numbers))
    }

    #[inline(always)]
    pub(super) fn below(self, other: Self) -> Mask<S> {
        Mask { simd: self.simd, chosen: self.simd.less_than_f32s(self.numbers, other.numbers) }
    }

    #[inline(always)]
    pub(super) fn at_or_below(self, other: Self) -> Mask<S> {
        Mask { simd: self.simd, chosen: self.simd.less_than_or_equal_f32s(self.numbers, other.numbers) }
    }
}

impl<S: Simd> Mask<S> {
    #[inline(always)]
    pub(super) fn and(self, other: Self) -> Self {
        Self { simd: self.simd, chosen: self.simd.and_m32s(self.chosen, other.chosen) }
    }

    /// The first where the mask is set, else the second.
    #[inline(always)]
    pub(super) fn choose(self, set: Lanes<S>, unset: Lanes<S>) -> Lanes<S> {
        set.with(self.simd.select_f32s(self.chosen, set.numbers, unset.numbers))
    }
}

impl<S: Simd> Add for Lanes<S> {
    type Output = Self;

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        self.with(self.simd.add_f32s(self.numbers, other.numbers))
    }
}

impl<S: Simd> Sub for Lanes<S> {
    type Output = Self;

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        self.with(self.simd.sub_f32s(self.numbers, other.numbers))
    }
}

impl<S: Simd> Mul for Lanes<S> {
    type Output = Self;

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        self.with(self.simd.mul_f32s(self.numbers, other.numbers))
    }
}

impl<S: Simd> Div for Lanes<S> {
    type Output = Self;

    #[inline(always)]
    fn div(self, other: Self) -> Self {
        self.with(self.simd.div_f32s(self.numbers, other.numbers))
    }
}
