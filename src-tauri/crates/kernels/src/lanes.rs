//! Sixteen F32 numbers at a time, and one body of plain Rust compiled for several instruction sets.
//!
//! The bodies are loops over arrays of a fixed length, which the compiler turns into the vectors of the level it compiles
//! them for; there are no intrinsics here. A body must be inlined all the way into the function that enables the
//! instructions, because what is left out of line is compiled without them: hence `#[inline(always)]` everywhere and traits
//! with functions instead of closures.

#![expect(unsafe_code, reason = "a function that enables vector instructions may run only where they exist")]
#![expect(clippy::inline_always, reason = "what is not inlined is not compiled for the level")]

use std::ops::{Add, Div, Mul, Sub};

use crate::Isa;

/// Numbers in one [`Lanes`]: a register of AVX-512, two of AVX2, four of NEON.
pub(crate) const LANES: usize = 16;

/// What a body needs to know at compile time of the instructions that it is compiled for.
pub(crate) trait Level: Copy {
    /// Whether a product and a sum are one instruction with one rounding; where not, `f32::mul_add` is a library call.
    const FUSED: bool;
    /// Whether there are 32 registers of 16 lanes, and not about a fourth of that.
    const WIDE: bool;
}

/// What every processor of the architecture has.
#[derive(Clone, Copy)]
pub(crate) struct Baseline;

impl Level for Baseline {
    const FUSED: bool = false;
    const WIDE: bool = false;
}

/// AVX2 with FMA, or NEON, which always has it.
#[derive(Clone, Copy)]
pub(crate) struct Fused;

impl Level for Fused {
    const FUSED: bool = true;
    const WIDE: bool = false;
}

/// AVX-512.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(crate) struct Wide;

#[cfg(target_arch = "x86_64")]
impl Level for Wide {
    const FUSED: bool = true;
    const WIDE: bool = true;
}

/// Something to compute, whatever the instructions.
pub(crate) trait Body {
    /// What comes out of it.
    type Output;

    /// Computes it. Implementations are `#[inline(always)]`.
    fn run<L: Level>(self) -> Self::Output;
}

/// Runs `body` with the instructions of `isa`.
///
/// # Panics
///
/// If this processor does not have them.
#[inline]
pub(crate) fn run<B: Body>(isa: Isa, body: B) -> B::Output {
    assert!(isa.is_available(), "{} on a processor without it. This is a bug.", isa.name());
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 | Isa::AvxVnni => {
            // SAFETY: the level is available, and it includes AVX2, FMA and F16C.
            unsafe { run_avx2(body) }
        }
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512Vnni => {
            // SAFETY: the level is available, and it includes AVX-512 F, BW, VL and DQ.
            unsafe { run_avx512(body) }
        }
        // NEON belongs to every aarch64.
        #[cfg(target_arch = "aarch64")]
        Isa::Dotprod | Isa::I8mm => body.run::<Fused>(),
        _ => body.run::<Baseline>(),
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
fn run_avx2<B: Body>(body: B) -> B::Output {
    body.run::<Fused>()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq")]
fn run_avx512<B: Body>(body: B) -> B::Output {
    body.run::<Wide>()
}

/// Numbers that are computed with side by side.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct Lanes(pub(crate) [f32; LANES]);

impl Lanes {
    /// All zero.
    pub(crate) const ZERO: Self = Self([0.0; LANES]);

    /// The same number in each lane.
    #[inline(always)]
    pub(crate) fn splat(number: f32) -> Self {
        Self([number; LANES])
    }

    /// The first numbers of `numbers`, of which there are at least [`LANES`].
    #[inline(always)]
    pub(crate) fn load(numbers: &[f32]) -> Self {
        let mut lanes = [0.0; LANES];
        lanes.copy_from_slice(&numbers[..LANES]);
        Self(lanes)
    }

    /// The numbers of `numbers`, of which there are at most [`LANES`], and `fill` after them.
    #[inline(always)]
    pub(crate) fn load_part(numbers: &[f32], fill: f32) -> Self {
        let mut lanes = [fill; LANES];
        lanes[..numbers.len()].copy_from_slice(numbers);
        Self(lanes)
    }

    /// Writes to the first numbers of `numbers`, of which there are at least [`LANES`].
    #[inline(always)]
    pub(crate) fn store(self, numbers: &mut [f32]) {
        numbers[..LANES].copy_from_slice(&self.0);
    }

    /// Writes as many lanes as `numbers` has room for, at most [`LANES`].
    #[inline(always)]
    pub(crate) fn store_part(self, numbers: &mut [f32]) {
        numbers.copy_from_slice(&self.0[..numbers.len()]);
    }

    /// `self * factor + addend`, with one rounding where the level is [`Level::FUSED`].
    #[inline(always)]
    pub(crate) fn mul_add<L: Level>(self, factor: Self, addend: Self) -> Self {
        let mut sum = addend;
        for i in 0..LANES {
            sum.0[i] =
                if L::FUSED { self.0[i].mul_add(factor.0[i], sum.0[i]) } else { self.0[i] * factor.0[i] + sum.0[i] };
        }
        sum
    }

    /// The larger of each two; what is not a number in `self` stays so.
    #[inline(always)]
    pub(crate) fn at_least(self, bound: Self) -> Self {
        let mut larger = self;
        for i in 0..LANES {
            larger.0[i] = if bound.0[i] > self.0[i] { bound.0[i] } else { self.0[i] };
        }
        larger
    }

    /// The smaller of each two; what is not a number in `self` stays so.
    #[inline(always)]
    pub(crate) fn at_most(self, bound: Self) -> Self {
        let mut smaller = self;
        for i in 0..LANES {
            smaller.0[i] = if bound.0[i] < self.0[i] { bound.0[i] } else { self.0[i] };
        }
        smaller
    }

    /// `value` in the lanes where `self` is below `bound`, and `otherwise` in the others.
    #[inline(always)]
    pub(crate) fn where_below(self, bound: Self, value: Self, otherwise: Self) -> Self {
        let mut chosen = otherwise;
        for i in 0..LANES {
            chosen.0[i] = if self.0[i] < bound.0[i] { value.0[i] } else { otherwise.0[i] };
        }
        chosen
    }

    /// The sum of the lanes, in halves, so that the order is the same at every level.
    #[inline(always)]
    pub(crate) fn sum(self) -> f32 {
        let mut lanes = self.0;
        let mut half = LANES / 2;
        while half > 0 {
            for i in 0..half {
                lanes[i] += lanes[i + half];
            }
            half /= 2;
        }
        lanes[0]
    }

    /// The largest lane.
    #[inline(always)]
    pub(crate) fn largest(self) -> f32 {
        let mut lanes = self.0;
        let mut half = LANES / 2;
        while half > 0 {
            for i in 0..half {
                lanes[i] = if lanes[i + half] > lanes[i] { lanes[i + half] } else { lanes[i] };
            }
            half /= 2;
        }
        lanes[0]
    }
}

impl Add for Lanes {
    type Output = Self;

    #[inline(always)]
    fn add(mut self, other: Self) -> Self {
        for i in 0..LANES {
            self.0[i] += other.0[i];
        }
        self
    }
}

impl Sub for Lanes {
    type Output = Self;

    #[inline(always)]
    fn sub(mut self, other: Self) -> Self {
        for i in 0..LANES {
            self.0[i] -= other.0[i];
        }
        self
    }
}

impl Mul for Lanes {
    type Output = Self;

    #[inline(always)]
    fn mul(mut self, other: Self) -> Self {
        for i in 0..LANES {
            self.0[i] *= other.0[i];
        }
        self
    }
}

impl Div for Lanes {
    type Output = Self;

    #[inline(always)]
    fn div(mut self, other: Self) -> Self {
        for i in 0..LANES {
            self.0[i] /= other.0[i];
        }
        self
    }
}
