//! Sixteen F32 numbers at a time, and one body compiled for several instruction sets.
//!
//! A body is written once over [`Lanes`], and [`run`] compiles it for each level: with one register of AVX-512, two of
//! AVX2, four of NEON, or an array. Plain loops over arrays everywhere would need no intrinsics, but the compiler's loop
//! vectoriser then gathers numbers across the arrays instead of taking each as a register, several times slower.
//!
//! A body must be inlined all the way into the function that enables the instructions, because what is left out of line is
//! compiled without them: hence `#[inline(always)]` everywhere, and traits with functions instead of closures. For the same
//! reason the types of a level are named only by functions that have enabled it: it is what makes their intrinsics safe.

#![expect(unsafe_code, reason = "vector instructions, and the functions that enable them")]
#![expect(clippy::inline_always, reason = "what is not inlined is not compiled for the level")]

use std::ops::{Add, Div, Mul, Sub};

use crate::Isa;

#[cfg(target_arch = "aarch64")]
pub(crate) mod arm;
pub(crate) mod portable;
#[cfg(target_arch = "x86_64")]
pub(crate) mod x86;

/// Numbers in one [`Lanes`].
pub(crate) const LANES: usize = 16;

/// Something to compute, whatever the instructions.
pub(crate) trait Body {
    /// What comes out of it.
    type Output;

    /// Computes it. Implementations are `#[inline(always)]`.
    fn run<V: Lanes>(self) -> Self::Output;
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
            // SAFETY: the level is available, and it includes AVX2 and FMA.
            unsafe { x86::run_avx2(body) }
        }
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512Vnni => {
            // SAFETY: the level is available, and it includes AVX-512 F, BW, VL and DQ.
            unsafe { x86::run_avx512(body) }
        }
        // Every aarch64 has NEON.
        #[cfg(target_arch = "aarch64")]
        Isa::Dotprod | Isa::I8mm => body.run::<arm::Neon>(),
        _ => body.run::<portable::Portable>(),
    }
}

/// [`LANES`] numbers that are computed with side by side.
pub(crate) trait Lanes:
    Copy + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self> + Div<Output = Self>
{
    /// Whether there are 32 registers of this size, and not some eight.
    const WIDE: bool;

    /// The same number in each lane.
    fn splat(number: f32) -> Self;

    /// The first numbers of `numbers`, of which there are at least [`LANES`].
    fn load(numbers: &[f32]) -> Self;

    /// Writes to the first numbers of `numbers`, of which there are at least [`LANES`].
    fn store(self, numbers: &mut [f32]);

    /// `self * factor + addend`, with one rounding where that is one instruction.
    fn mul_add(self, factor: Self, addend: Self) -> Self;

    /// The larger of each two; what is not a number in `self` stays so.
    fn at_least(self, bound: Self) -> Self;

    /// The smaller of each two; what is not a number in `self` stays so.
    fn at_most(self, bound: Self) -> Self;

    /// `value` in the lanes where `self` is below `bound`, and `otherwise` in the others.
    fn where_below(self, bound: Self, value: Self, otherwise: Self) -> Self;

    /// Adds the lowest bits of each lane of `exponents` to the exponent.
    fn add_to_exponent(self, exponents: Self) -> Self;

    /// The lanes of the two in turn: a lane of `self`, the same of `other`, the next of `self`; first the lower halves of
    /// both and then the upper halves.
    fn interleave(self, other: Self) -> [Self; 2];

    /// Zero in each lane.
    #[inline(always)]
    fn zero() -> Self {
        Self::splat(0.0)
    }

    /// The numbers of `numbers`, of which there are at most [`LANES`], and `fill` after them.
    #[inline(always)]
    fn load_part(numbers: &[f32], fill: f32) -> Self {
        let mut lanes = [fill; LANES];
        lanes[..numbers.len()].copy_from_slice(numbers);
        Self::load(&lanes)
    }

    /// Writes as many lanes as `numbers` has room for, at most [`LANES`].
    #[inline(always)]
    fn store_part(self, numbers: &mut [f32]) {
        numbers.copy_from_slice(&self.to_array()[..numbers.len()]);
    }

    /// The lanes in order.
    #[inline(always)]
    fn to_array(self) -> [f32; LANES] {
        let mut lanes = [0.0; LANES];
        self.store(&mut lanes);
        lanes
    }

    /// The sum of the lanes, in halves, so that the order is the same at every level.
    #[inline(always)]
    fn sum(self) -> f32 {
        let mut lanes = self.to_array();
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
    fn largest(self) -> f32 {
        let mut lanes = self.to_array();
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

/// Lane j of vector i for lane i of vector j.
#[inline(always)]
pub(crate) fn transpose<V: Lanes>(mut square: [V; LANES]) -> [V; LANES] {
    // Each round moves the highest bit of a number's vector to the lowest bit of its lane.
    for _ in 0..LANES.ilog2() {
        let mut next = square;
        for i in 0..LANES / 2 {
            [next[2 * i], next[2 * i + 1]] = square[i].interleave(square[i + LANES / 2]);
        }
        square = next;
    }
    square
}

/// What one register of a level can do; the functions are those of [`Lanes`].
trait Register: Copy {
    /// Numbers in it.
    const COUNT: usize;
    /// [`Lanes::WIDE`].
    const WIDE: bool;

    fn splat(number: f32) -> Self;
    fn load(numbers: &[f32]) -> Self;
    fn store(self, numbers: &mut [f32]);
    fn add(self, other: Self) -> Self;
    fn sub(self, other: Self) -> Self;
    fn mul(self, other: Self) -> Self;
    fn div(self, other: Self) -> Self;
    fn mul_add(self, factor: Self, addend: Self) -> Self;
    fn at_least(self, bound: Self) -> Self;
    fn at_most(self, bound: Self) -> Self;
    fn where_below(self, bound: Self, value: Self, otherwise: Self) -> Self;
    fn add_to_exponent(self, exponents: Self) -> Self;
    fn interleave(self, other: Self) -> [Self; 2];
}

/// [`LANES`] numbers in `N` registers, which a function that works on registers itself can put in and take out.
#[derive(Clone, Copy)]
pub(crate) struct Group<R, const N: usize>(pub(crate) [R; N]);

impl<R: Register, const N: usize> Lanes for Group<R, N> {
    const WIDE: bool = R::WIDE;

    #[inline(always)]
    fn splat(number: f32) -> Self {
        const { assert!(R::COUNT * N == LANES) };
        Self([R::splat(number); N])
    }

    #[inline(always)]
    fn load(numbers: &[f32]) -> Self {
        let numbers = &numbers[..LANES];
        let mut registers = [R::splat(0.0); N];
        for (i, register) in registers.iter_mut().enumerate() {
            *register = R::load(&numbers[i * R::COUNT..]);
        }
        Self(registers)
    }

    #[inline(always)]
    fn store(self, numbers: &mut [f32]) {
        let numbers = &mut numbers[..LANES];
        for (i, register) in self.0.into_iter().enumerate() {
            register.store(&mut numbers[i * R::COUNT..]);
        }
    }

    #[inline(always)]
    fn mul_add(mut self, factor: Self, addend: Self) -> Self {
        for i in 0..N {
            self.0[i] = self.0[i].mul_add(factor.0[i], addend.0[i]);
        }
        self
    }

    #[inline(always)]
    fn at_least(mut self, bound: Self) -> Self {
        for i in 0..N {
            self.0[i] = self.0[i].at_least(bound.0[i]);
        }
        self
    }

    #[inline(always)]
    fn at_most(mut self, bound: Self) -> Self {
        for i in 0..N {
            self.0[i] = self.0[i].at_most(bound.0[i]);
        }
        self
    }

    #[inline(always)]
    fn where_below(mut self, bound: Self, value: Self, otherwise: Self) -> Self {
        for i in 0..N {
            self.0[i] = self.0[i].where_below(bound.0[i], value.0[i], otherwise.0[i]);
        }
        self
    }

    #[inline(always)]
    fn add_to_exponent(mut self, exponents: Self) -> Self {
        for i in 0..N {
            self.0[i] = self.0[i].add_to_exponent(exponents.0[i]);
        }
        self
    }

    #[inline(always)]
    fn interleave(self, other: Self) -> [Self; 2] {
        let mut result = [self; 2];
        for i in 0..N {
            let [low, high] = self.0[i].interleave(other.0[i]);
            result[2 * i / N].0[2 * i % N] = low;
            result[(2 * i + 1) / N].0[(2 * i + 1) % N] = high;
        }
        result
    }
}

impl<R: Register, const N: usize> Add for Group<R, N> {
    type Output = Self;

    #[inline(always)]
    fn add(mut self, other: Self) -> Self {
        for i in 0..N {
            self.0[i] = self.0[i].add(other.0[i]);
        }
        self
    }
}

impl<R: Register, const N: usize> Sub for Group<R, N> {
    type Output = Self;

    #[inline(always)]
    fn sub(mut self, other: Self) -> Self {
        for i in 0..N {
            self.0[i] = self.0[i].sub(other.0[i]);
        }
        self
    }
}

impl<R: Register, const N: usize> Mul for Group<R, N> {
    type Output = Self;

    #[inline(always)]
    fn mul(mut self, other: Self) -> Self {
        for i in 0..N {
            self.0[i] = self.0[i].mul(other.0[i]);
        }
        self
    }
}

impl<R: Register, const N: usize> Div for Group<R, N> {
    type Output = Self;

    #[inline(always)]
    fn div(mut self, other: Self) -> Self {
        for i in 0..N {
            self.0[i] = self.0[i].div(other.0[i]);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::float_cmp, reason = "whole numbers")]

    use super::*;

    struct Transpose<'a>(&'a mut [[f32; LANES]; LANES]);

    impl Body for Transpose<'_> {
        type Output = ();

        #[inline(always)]
        fn run<V: Lanes>(self) {
            let mut square = [V::zero(); LANES];
            for (vector, row) in square.iter_mut().zip(&*self.0) {
                *vector = V::load(row);
            }
            for (vector, row) in transpose(square).into_iter().zip(self.0) {
                vector.store(row);
            }
        }
    }

    #[test]
    fn squares_are_transposed() {
        for isa in Isa::available() {
            let mut square = std::array::from_fn(|i| std::array::from_fn(|j| (100 * i + j) as f32));
            run(isa, Transpose(&mut square));
            for (i, row) in square.iter().enumerate() {
                assert_eq!(*row, std::array::from_fn(|j| (100 * j + i) as f32), "{isa:?}");
            }
        }
    }

    struct Reduce(Vec<f32>);

    impl Body for Reduce {
        type Output = (f32, f32, Vec<f32>);

        #[inline(always)]
        fn run<V: Lanes>(self) -> Self::Output {
            let lanes = V::load_part(&self.0, -5.0);
            let mut part = vec![0.0; self.0.len()];
            lanes.store_part(&mut part);
            (lanes.sum(), lanes.largest(), part)
        }
    }

    #[test]
    fn parts_are_filled_up_and_reduced() {
        for isa in Isa::available() {
            for count in 0..=LANES {
                let numbers: Vec<f32> = (0..count).map(|i| (7 * i % 16) as f32 - 3.0).collect();
                let (sum, largest, part) = run(isa, Reduce(numbers.clone()));
                let missing = (LANES - count) as f32;
                assert_eq!(sum, numbers.iter().sum::<f32>() - 5.0 * missing);
                let fill = if count < LANES { -5.0 } else { f32::MIN };
                assert_eq!(largest, numbers.iter().copied().fold(fill, f32::max));
                assert_eq!(part, numbers);
            }
        }
    }

    #[test]
    #[should_panic(expected = "on a processor without it")]
    fn a_level_of_another_processor_is_refused() {
        let missing = Isa::ALL.into_iter().find(|isa| !isa.is_available()).expect("no processor has all");
        run(missing, Reduce(Vec::new()));
    }
}
