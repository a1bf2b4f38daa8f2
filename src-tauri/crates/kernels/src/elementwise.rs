//! Functions of one number at a time, activations and the softmax of rows.
//!
//! Within the crate a function acts on registers, so that the end of a matrix product can apply it to a tile; the public
//! functions act on slices in place. Arguments are finite numbers. What is not a number stays so in [`exp`] and in the
//! activations; what an infinite argument gives is not defined.

#![expect(clippy::inline_always, reason = "see `lanes`")]

use crate::{
    Isa,
    lanes::{Body, LANES, Lanes, run},
};

/// Below this `2^x` is nothing next to 1, and [`exp2`] stops: its products with other numbers would not be normal numbers,
/// which are slow.
const EXP2_LOWEST: f32 = -100.0;

/// A function of one number, computed in all lanes at once.
pub(crate) trait Function: Copy {
    /// The function of each lane. Implementations are `#[inline(always)]`.
    fn of<V: Lanes>(self, x: V) -> V;
}

/// 1.5 * 2^23: what is added to it is rounded to a whole number n, which then stands in the lowest bits, from
/// where [`Lanes::add_to_exponent`] takes it to multiply by 2^n.
const ROUNDING: f32 = 12_582_912.0;

/// Below this `e^x` is no longer a normal number, and `Exp` gives 0.
const EXP_LOWEST: f32 = -87.336_54;
/// Above this `e^x` is larger than any number, and `Exp` gives infinity.
const EXP_HIGHEST: f32 = 88.722_83;

/// `c[0] * x^(N-1) + ... + c[N-1]`.
#[inline(always)]
fn polynomial<V: Lanes, const N: usize>(x: V, coefficients: [f32; N]) -> V {
    let mut sum = V::splat(coefficients[0]);
    for &coefficient in &coefficients[1..] {
        sum = sum.mul_add(x, V::splat(coefficient));
    }
    sum
}

/// `e^x`, with a relative error of at most 1.3e-7 between the bounds.
#[derive(Clone, Copy)]
pub(crate) struct Exp;

impl Function for Exp {
    #[inline(always)]
    fn of<V: Lanes>(self, x: V) -> V {
        let result = exp_between::<V>(x.at_most(V::splat(EXP_HIGHEST)));
        let result = x.where_below(V::splat(EXP_LOWEST), V::zero(), result);
        V::splat(EXP_HIGHEST).where_below(x, V::splat(f32::INFINITY), result)
    }
}

/// `e^x` for x up to [`EXP_HIGHEST`]; below [`EXP_LOWEST`] as there.
#[inline(always)]
fn exp_between<V: Lanes>(x: V) -> V {
    // ln 2 in two parts: the first has so few bits that its products with whole numbers are exact.
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    // Minimax for the relative error on +- ln 2 / 2: 2e-9.
    const COEFFICIENTS: [f32; 7] = [0.001_383_679_5, 0.008_374_857, 0.041_668_23, 0.166_664_2, 0.499_999_9, 1.0, 1.0];
    let x = x.at_least(V::splat(EXP_LOWEST));
    let rounded = x.mul_add(V::splat(std::f32::consts::LOG2_E), V::splat(ROUNDING));
    let whole = rounded - V::splat(ROUNDING);
    let rest = whole.mul_add(V::splat(-LN_2_HIGH), x);
    let rest = whole.mul_add(V::splat(-LN_2_LOW), rest);
    polynomial::<V, 7>(rest, COEFFICIENTS).add_to_exponent(rounded)
}

/// `2^x` for x up to 127, with a relative error of at most 2e-7; below [`EXP2_LOWEST`] as there.
#[inline(always)]
pub(crate) fn exp2<V: Lanes>(x: V) -> V {
    #[expect(clippy::approx_constant, reason = "the best coefficient is not ln 2")]
    // Minimax for the relative error on +- 1/2 with a last coefficient of 1, so that 2^0 is 1: 1e-7.
    const COEFFICIENTS: [f32; 6] = [0.001_326_459_1, 0.009_671_619, 0.055_507_35, 0.240_222_41, 0.693_147, 1.0];
    let x = x.at_least(V::splat(EXP2_LOWEST));
    let rounded = x + V::splat(ROUNDING);
    let rest = x - (rounded - V::splat(ROUNDING));
    polynomial::<V, 6>(rest, COEFFICIENTS).add_to_exponent(rounded)
}

/// The larger of x and 0.
#[derive(Clone, Copy)]
pub(crate) struct Relu;

impl Function for Relu {
    #[inline(always)]
    fn of<V: Lanes>(self, x: V) -> V {
        x.at_least(V::zero())
    }
}

/// `x * P(X <= x)` for a normal X: GELU with the error function. The error is at most 2e-7 * |x|.
#[derive(Clone, Copy)]
pub(crate) struct Gelu;

impl Function for Gelu {
    #[inline(always)]
    fn of<V: Lanes>(self, x: V) -> V {
        // From here on P(X <= x) is 0 or 1 to within the error.
        const BOUND: f32 = 5.4;
        // (P(X <= x) - 1/2) / x as a polynomial in the square of x, mapped to -1..1, which keeps the coefficients small.
        // Minimax for the error times x: 3e-8.
        const COEFFICIENTS: [f32; 15] = [
            0.000_392_858_96,
            -0.001_028_369,
            0.000_874_933_15,
            -0.001_186_410_2,
            0.003_658_923,
            -0.006_715_338_7,
            0.009_651_195,
            -0.013_963_32,
            0.019_645_145,
            -0.025_746_457,
            0.032_116_596,
            -0.039_206_814,
            0.048_499_59,
            -0.065_328_054,
            0.130_928_11,
        ];
        let near = x.at_most(V::splat(BOUND)).at_least(V::splat(-BOUND));
        let square = (near * near).mul_add(V::splat(2.0 / (BOUND * BOUND)), V::splat(-1.0));
        let slope = polynomial::<V, 15>(square, COEFFICIENTS);
        x * near.mul_add(slope, V::splat(0.5))
    }
}

/// `x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3)))`. The error is at most 3e-7 * |x|.
#[derive(Clone, Copy)]
pub(crate) struct GeluTanh;

impl Function for GeluTanh {
    #[inline(always)]
    fn of<V: Lanes>(self, x: V) -> V {
        // 1 + tanh(y) = 2 / (1 + e^(-2y)), and these are -2 sqrt(2 / pi) and -2 sqrt(2 / pi) * 0.044715.
        const LINEAR: f32 = -1.595_769;
        const CUBIC: f32 = -0.071_354_82;
        let exponent = x * (x * x).mul_add(V::splat(CUBIC), V::splat(LINEAR));
        over_one_plus_exp::<V>(x, exponent)
    }
}

/// `x / (1 + e^-x)`. The error is at most 3e-7 * |x|.
#[derive(Clone, Copy)]
pub(crate) struct Silu;

impl Function for Silu {
    #[inline(always)]
    fn of<V: Lanes>(self, x: V) -> V {
        over_one_plus_exp::<V>(x, V::zero() - x)
    }
}

/// `x / (1 + e^exponent)`.
#[inline(always)]
fn over_one_plus_exp<V: Lanes>(x: V, exponent: V) -> V {
    let exp = exp_between::<V>(exponent.at_most(V::splat(EXP_HIGHEST)));
    x / (V::splat(1.0) + exp)
}

/// Replaces each number of a segment of any length by `function` of it.
#[inline(always)]
pub(crate) fn map<V: Lanes, F: Function>(function: F, numbers: &mut [f32]) {
    let (whole, rest) = numbers.as_chunks_mut::<LANES>();
    for chunk in whole {
        function.of::<V>(V::load(chunk)).store(chunk);
    }
    if !rest.is_empty() {
        function.of::<V>(V::load_part(rest, 0.0)).store_part(rest);
    }
}

/// Replaces each number of `gates` by `function` of it, times the number at its place in `factors`.
#[inline(always)]
pub(crate) fn map_and_multiply<V: Lanes, F: Function>(function: F, gates: &mut [f32], factors: &[f32]) {
    let (whole, rest) = gates.as_chunks_mut::<LANES>();
    let (whole_factors, rest_factors) = factors.as_chunks::<LANES>();
    for (gates, factors) in whole.iter_mut().zip(whole_factors) {
        (function.of::<V>(V::load(gates)) * V::load(factors)).store(gates);
    }
    if !rest.is_empty() {
        let product = function.of::<V>(V::load_part(rest, 0.0)) * V::load_part(rest_factors, 0.0);
        product.store_part(rest);
    }
}

/// What a feed-forward layer applies between its two products.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Activation {
    /// The larger of x and 0.
    Relu,
    /// GELU with the error function, to within 2e-7 * |x|.
    Gelu,
    /// GELU with the hyperbolic tangent, to within 3e-7 * |x|.
    GeluTanh,
    /// x / (1 + e^-x), also called swish, to within 3e-7 * |x|.
    Silu,
}

impl Activation {
    /// Replaces each number by the activation of it.
    pub fn apply(self, isa: Isa, numbers: &mut [f32]) {
        run(isa, Activate { activation: self, numbers });
    }

    /// Replaces each number of `gates` by the activation of it, times the number at the same place in `factors`.
    ///
    /// # Panics
    ///
    /// If `factors` has another length.
    pub fn gate(self, isa: Isa, gates: &mut [f32], factors: &[f32]) {
        assert_eq!(gates.len(), factors.len(), "a factor for each gate");
        run(isa, Gate { activation: self, gates, factors });
    }

    /// [`Self::gate`] for rows of `width` gates followed by as many factors each; the factors stay as they are.
    ///
    /// # Panics
    ///
    /// If `width` is 0 or `rows` are not whole.
    pub fn gate_rows(self, isa: Isa, rows: &mut [f32], width: usize) {
        assert!(width > 0 && rows.len().is_multiple_of(2 * width), "whole rows of gates and factors");
        run(isa, GateRows { activation: self, rows, width });
    }

    /// [`Self::apply`] to a segment, for a body that is compiled for a level already.
    #[inline(always)]
    pub(crate) fn map<V: Lanes>(self, numbers: &mut [f32]) {
        match self {
            Self::Relu => map::<V, _>(Relu, numbers),
            Self::Gelu => map::<V, _>(Gelu, numbers),
            Self::GeluTanh => map::<V, _>(GeluTanh, numbers),
            Self::Silu => map::<V, _>(Silu, numbers),
        }
    }

    /// [`Self::gate`] on a segment, for a body that is compiled for a level already.
    #[inline(always)]
    pub(crate) fn map_and_multiply<V: Lanes>(self, gates: &mut [f32], factors: &[f32]) {
        match self {
            Self::Relu => map_and_multiply::<V, _>(Relu, gates, factors),
            Self::Gelu => map_and_multiply::<V, _>(Gelu, gates, factors),
            Self::GeluTanh => map_and_multiply::<V, _>(GeluTanh, gates, factors),
            Self::Silu => map_and_multiply::<V, _>(Silu, gates, factors),
        }
    }
}

struct Activate<'a> {
    activation: Activation,
    numbers: &'a mut [f32],
}

impl Body for Activate<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes>(self) {
        self.activation.map::<V>(self.numbers);
    }
}

struct Gate<'a> {
    activation: Activation,
    gates: &'a mut [f32],
    factors: &'a [f32],
}

impl Body for Gate<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes>(self) {
        self.activation.map_and_multiply::<V>(self.gates, self.factors);
    }
}

struct GateRows<'a> {
    activation: Activation,
    rows: &'a mut [f32],
    width: usize,
}

impl Body for GateRows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes>(self) {
        for row in self.rows.chunks_exact_mut(2 * self.width) {
            let (gates, factors) = row.split_at_mut(self.width);
            self.activation.map_and_multiply::<V>(gates, factors);
        }
    }
}

/// Replaces each number x by `e^x`, to within a relative error of 1.3e-7.
///
/// Where `e^x` is below the smallest normal number the result is 0, and where it is above the largest it is infinity.
pub fn exp(isa: Isa, numbers: &mut [f32]) {
    run(isa, ExpOf(numbers));
}

struct ExpOf<'a>(&'a mut [f32]);

impl Body for ExpOf<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes>(self) {
        map::<V, _>(Exp, self.0);
    }
}

/// Replaces each row of `width` numbers by its softmax.
///
/// # Panics
///
/// If `rows` is not a whole number of rows.
pub fn softmax(isa: Isa, rows: &mut [f32], width: usize) {
    assert!(width > 0 && rows.len().is_multiple_of(width), "whole rows");
    run(isa, Softmax { rows, width });
}

struct Softmax<'a> {
    rows: &'a mut [f32],
    width: usize,
}

impl Body for Softmax<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes>(self) {
        for row in self.rows.chunks_exact_mut(self.width) {
            let (whole, rest) = row.as_chunks_mut::<LANES>();
            let mut largest = V::load_part(rest, f32::MIN);
            for chunk in &*whole {
                largest = V::load(chunk).at_least(largest);
            }
            let largest = V::splat(largest.largest());
            let mut sum = V::zero();
            for chunk in &mut *whole {
                let exp = Exp.of::<V>(V::load(chunk) - largest);
                sum = sum + exp;
                exp.store(chunk);
            }
            if !rest.is_empty() {
                let exp = Exp.of::<V>(V::load_part(rest, f32::MIN) - largest);
                sum = sum + exp;
                exp.store_part(rest);
            }
            let scale = 1.0 / sum.sum();
            for chunk in whole {
                (V::load(chunk) * V::splat(scale)).store(chunk);
            }
            for number in rest {
                *number *= scale;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::float_cmp, reason = "limits are exact")]

    use proptest::prelude::*;

    use super::*;

    /// Every `step`th positive number up to `highest`, each followed by its negative.
    fn dense(highest: f32, step: usize) -> Vec<f32> {
        (0..=highest.to_bits()).step_by(step).map(f32::from_bits).flat_map(|x| [x, -x]).collect()
    }

    /// P(X <= x) for a normal X, from the series of the error function or the continued fraction of its complement.
    fn normal(x: f64) -> f64 {
        if x.abs() < 3.0 {
            let (mut term, mut sum) = (x, x);
            for n in 1..60 {
                term *= x * x / f64::from(2 * n + 1);
                sum += term;
            }
            0.5 + sum * (-x * x / 2.0).exp() / std::f64::consts::TAU.sqrt()
        } else {
            let mut fraction = x.abs();
            for n in (1..80).rev() {
                fraction = x.abs() + f64::from(n) / fraction;
            }
            let tail = (-x * x / 2.0).exp() / std::f64::consts::TAU.sqrt() / fraction;
            if x < 0.0 { tail } else { 1.0 - tail }
        }
    }

    fn gelu(x: f64) -> f64 {
        x * normal(x)
    }

    fn gelu_tanh(x: f64) -> f64 {
        x / 2.0 * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x * x * x)).tanh())
    }

    fn silu(x: f64) -> f64 {
        x / (1.0 + (-x).exp())
    }

    #[test]
    fn the_normal_distribution_of_the_tests_is_right() {
        // From tables.
        for (x, expected) in [(0.0, 0.5), (1.0, 0.841_344_746_068_543), (-2.0, 0.022_750_131_948_179_2)] {
            assert!((normal(x) - expected).abs() < 1e-14);
        }
        assert!((normal(-4.0) / 3.167_124_183_311_99e-5 - 1.0).abs() < 1e-12);
        assert!((normal(2.999_999_9) - normal(3.000_000_1)).abs() < 1e-8);
    }

    #[test]
    fn exp_keeps_its_bound_everywhere() {
        let arguments: Vec<f32> = dense(EXP_HIGHEST, 499).into_iter().filter(|&x| x >= EXP_LOWEST).collect();
        for isa in Isa::available() {
            let mut results = arguments.clone();
            exp(isa, &mut results);
            let mut worst = 0.0_f64;
            for (&x, &result) in arguments.iter().zip(&results) {
                let exact = f64::from(x).exp();
                worst = worst.max((f64::from(result) / exact - 1.0).abs());
            }
            println!("{isa:?}: {worst:e}");
            assert!(worst < 1.3e-7, "{isa:?}: {worst:e}");
        }
    }

    #[test]
    fn exp_has_its_limits() {
        for isa in Isa::available() {
            let mut numbers =
                [EXP_LOWEST, -87.34, -1e30, EXP_HIGHEST, 88.73, 1e30, f32::NAN, 0.0, f32::MIN, f32::MAX, 1.0];
            exp(isa, &mut numbers);
            let [lowest, below, far_below, highest, above, far_above, nothing, one, least, most, e] = numbers;
            assert!((f64::from(lowest) / f64::from(EXP_LOWEST).exp() - 1.0).abs() < 1.3e-7);
            assert!(highest.is_finite() && highest > 3.4e38);
            assert_eq!([below, far_below, least, one], [0.0, 0.0, 0.0, 1.0]);
            assert_eq!([above, far_above, most], [f32::INFINITY; 3]);
            assert!(nothing.is_nan());
            assert!((f64::from(e) / std::f64::consts::E - 1.0).abs() < 1.3e-7);
        }
    }

    struct Exp2<'a>(&'a mut [f32]);

    impl Body for Exp2<'_> {
        type Output = ();

        #[inline(always)]
        fn run<V: Lanes>(self) {
            for chunk in self.0.as_chunks_mut::<LANES>().0 {
                exp2::<V>(V::load(chunk)).store(chunk);
            }
        }
    }

    #[test]
    fn exp2_keeps_its_bound_where_attention_needs_it() {
        let mut arguments: Vec<f32> = dense(-EXP2_LOWEST, 499).into_iter().filter(|&x| x <= 0.0).collect();
        arguments.resize(arguments.len().next_multiple_of(LANES), 0.0);
        for isa in Isa::available() {
            let mut results = arguments.clone();
            run(isa, Exp2(&mut results));
            let mut worst = 0.0_f64;
            for (&x, &result) in arguments.iter().zip(&results) {
                worst = worst.max((f64::from(result) / f64::from(x).exp2() - 1.0).abs());
            }
            println!("{isa:?}: {worst:e}");
            assert!(worst < 2e-7, "{isa:?}: {worst:e}");
        }
        let mut far = [f32::MIN; LANES];
        run(Isa::Portable, Exp2(&mut far));
        assert!(far.iter().all(|&x| x < 8e-31));
    }

    /// The largest error relative to |x| on a dense sample.
    fn worst_error(activation: Activation, isa: Isa, exact: fn(f64) -> f64, arguments: &[f32]) -> f64 {
        let mut results = arguments.to_vec();
        activation.apply(isa, &mut results);
        let errors = arguments.iter().zip(&results).map(|(&x, &result)| {
            let error = (f64::from(result) - exact(f64::from(x))).abs();
            error / f64::from(x).abs().max(f64::MIN_POSITIVE)
        });
        errors.fold(0.0, f64::max)
    }

    #[test]
    fn activations_keep_their_bounds() {
        // Below the smallest normal number an error is not relative to anything.
        let mut arguments = dense(30.0, 4001);
        arguments.retain(|x| x.abs() > 1e-37);
        arguments.extend(dense(1e4, 40_009).into_iter().filter(|x| x.abs() > 30.0));
        for isa in Isa::available() {
            for (activation, exact, bound) in [
                (Activation::Relu, (|x: f64| x.max(0.0)) as fn(f64) -> f64, 0.0),
                (Activation::Gelu, gelu, 2e-7),
                (Activation::GeluTanh, gelu_tanh, 3e-7),
                (Activation::Silu, silu, 3e-7),
            ] {
                let worst = worst_error(activation, isa, exact, &arguments);
                println!("{isa:?} {activation:?}: {worst:e}");
                assert!(worst <= bound, "{isa:?} {activation:?}: {worst:e}");
            }
        }
    }

    #[test]
    fn what_is_not_a_number_stays_so() {
        for isa in Isa::available() {
            for activation in [Activation::Relu, Activation::Gelu, Activation::GeluTanh, Activation::Silu] {
                let mut numbers = [f32::NAN; 17];
                activation.apply(isa, &mut numbers);
                assert!(numbers.iter().all(|x| x.is_nan()), "{isa:?} {activation:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn segments_of_any_length_are_done_whole_and_no_further(
            numbers in prop::collection::vec(-20_f32..20.0, 0..70),
            factor in -3_f32..3.0,
        ) {
            for isa in Isa::available() {
                for (activation, exact) in
                    [(Activation::Gelu, gelu as fn(f64) -> f64), (Activation::Silu, silu), (Activation::Relu, |x| x.max(0.0))]
                {
                    let mut results = numbers.clone();
                    results.push(7.0);
                    let factors = vec![factor; numbers.len()];
                    activation.gate(isa, &mut results[..numbers.len()], &factors);
                    for (&x, &result) in numbers.iter().zip(&results) {
                        let expected = exact(f64::from(x)) * f64::from(factor);
                        prop_assert!((f64::from(result) - expected).abs() <= 2e-6 * f64::from(x).abs());
                    }
                    prop_assert_eq!(results[numbers.len()], 7.0);
                    if !numbers.is_empty() {
                        let gated = results[..numbers.len()].to_vec();
                        let mut rows = [numbers.as_slice(), &factors, &numbers, &factors].concat();
                        activation.gate_rows(isa, &mut rows, numbers.len());
                        prop_assert_eq!(rows, [gated.as_slice(), &factors, &gated, &factors].concat());
                    }
                }
            }
        }

        #[test]
        fn softmax_is_that_of_f64(
            rows in (1_usize..60, 1_usize..4).prop_flat_map(|(width, rows)| {
                (Just(width), prop::collection::vec(-1_f32..1.0, width * rows))
            }),
            scale in prop::sample::select(vec![1_f32, 30.0, 1e4]),
        ) {
            let (width, numbers) = rows;
            let numbers: Vec<f32> = numbers.into_iter().map(|x| x * scale).collect();
            for isa in Isa::available() {
                let mut results = numbers.clone();
                softmax(isa, &mut results, width);
                for (row, results) in numbers.chunks(width).zip(results.chunks(width)) {
                    let largest = row.iter().copied().fold(f32::MIN, f32::max);
                    let exps: Vec<f64> = row.iter().map(|&x| (f64::from(x) - f64::from(largest)).exp()).collect();
                    let sum: f64 = exps.iter().sum();
                    for (exp, &result) in exps.iter().zip(results) {
                        prop_assert!((f64::from(result) - exp / sum).abs() <= 1e-6);
                    }
                }
            }
        }
    }
}
