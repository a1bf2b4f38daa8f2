//! Rotary position embedding of queries and keys in place, after an RMSNorm of each head where the model has one.
//!
//! The convention is that of transformers' `rotate_half`: number i of a head is turned together with number i + width / 2,
//! by the angle of its position and of i.

#![expect(clippy::inline_always, reason = "see `lanes`")]

use crate::{
    Isa,
    lanes::{Body, LANES, Lanes, run},
    norm::Norm,
};

/// The cosines and sines of every angle that occurs.
#[derive(Clone, Copy, Debug)]
pub struct Angles<'a> {
    /// `[positions][width / 2]`, where `width` is that of a head.
    pub cosines: &'a [f32],
    /// `[positions][width / 2]`.
    pub sines: &'a [f32],
}

/// Which columns of a row belong to the heads.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Heads {
    /// Numbers from one row to the next.
    pub stride: usize,
    /// The first column of the first head.
    pub column: usize,
    /// How many heads lie side by side.
    pub count: usize,
    /// Numbers in one head.
    pub width: usize,
}

/// What is done to each head.
#[derive(Clone, Copy, Debug)]
pub struct Rotary<'a> {
    /// Applied first. As wide as a head.
    pub norm: Option<Norm<'a>>,
    /// By what a head is turned then.
    pub angles: Angles<'a>,
}

impl Rotary<'_> {
    /// Does it to the `heads` of each row in `rows`; `positions` has the position of each row in its text.
    ///
    /// # Panics
    ///
    /// If the heads do not lie in a row, their width is not an even number, the norm is not as wide as a head, the rows are
    /// not one for each position, or the angles of a position are missing.
    pub fn apply(&self, isa: Isa, rows: &mut [f32], heads: Heads, positions: &[u32]) {
        let Heads { stride, column, count, width } = heads;
        assert!(width > 0 && width.is_multiple_of(2), "a head has two halves");
        assert!(column + count * width <= stride, "the heads lie within a row");
        assert_eq!(rows.len(), positions.len() * stride, "a row for each position");
        assert!(self.norm.is_none_or(|norm| norm.weight.len() == width), "a norm as wide as a head");
        assert_eq!(self.angles.cosines.len(), self.angles.sines.len(), "a sine for each cosine");
        run(isa, Apply { rotary: *self, rows, heads, positions });
    }
}

struct Apply<'a> {
    rotary: Rotary<'a>,
    rows: &'a mut [f32],
    heads: Heads,
    positions: &'a [u32],
}

impl Body for Apply<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes>(self) {
        let Heads { stride, column, count, width } = self.heads;
        let half = width / 2;
        for (row, &position) in self.rows.chunks_exact_mut(stride).zip(self.positions) {
            let first = position as usize * half;
            let cosines = &self.rotary.angles.cosines[first..first + half];
            let sines = &self.rotary.angles.sines[first..first + half];
            for head in row[column..column + count * width].chunks_exact_mut(width) {
                if let Some(norm) = &self.rotary.norm {
                    norm.row_in_place::<V>(head);
                }
                turn::<V>(head, cosines, sines);
            }
        }
    }
}

/// Turns each pair of numbers, one from each half of the head.
#[inline(always)]
fn turn<V: Lanes>(head: &mut [f32], cosines: &[f32], sines: &[f32]) {
    let (left, right) = head.split_at_mut(cosines.len());
    let (left, left_rest) = left.as_chunks_mut::<LANES>();
    let (right, right_rest) = right.as_chunks_mut::<LANES>();
    let (cosines, cosines_rest) = cosines.as_chunks::<LANES>();
    let (sines, sines_rest) = sines.as_chunks::<LANES>();
    for (((x, y), cosine), sine) in left.iter_mut().zip(right).zip(cosines).zip(sines) {
        let (turned_x, turned_y) = turn_lanes(V::load(x), V::load(y), V::load(cosine), V::load(sine));
        turned_x.store(x);
        turned_y.store(y);
    }
    if !left_rest.is_empty() {
        let (x, y) = turn_lanes(
            V::load_part(left_rest, 0.0),
            V::load_part(right_rest, 0.0),
            V::load_part(cosines_rest, 0.0),
            V::load_part(sines_rest, 0.0),
        );
        x.store_part(left_rest);
        y.store_part(right_rest);
    }
}

#[inline(always)]
fn turn_lanes<V: Lanes>(x: V, y: V, cosine: V, sine: V) -> (V, V) {
    (x.mul_add(cosine, V::zero() - y * sine), y.mul_add(cosine, x * sine))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::norm::NormKind;

    /// Qwen3's base; the angles in F64, rounded once.
    fn angles(positions: u16, width: usize) -> (Vec<f32>, Vec<f32>) {
        let angle = |position: u16, i: usize| f64::from(position) / 1e6_f64.powf(2.0 * i as f64 / width as f64);
        let all = (0..positions).flat_map(|position| (0..width / 2).map(move |i| angle(position, i)));
        all.map(|angle| (angle.cos() as f32, angle.sin() as f32)).unzip()
    }

    fn naive(head: &[f32], norm: Option<(&[f32], f64)>, cosines: &[f32], sines: &[f32]) -> Vec<f64> {
        let mut head: Vec<f64> = head.iter().map(|&x| f64::from(x)).collect();
        if let Some((weight, epsilon)) = norm {
            let mean_square = head.iter().map(|x| x * x).sum::<f64>() / head.len() as f64;
            for (x, &weight) in head.iter_mut().zip(weight) {
                *x = *x / (mean_square + epsilon).sqrt() * f64::from(weight);
            }
        }
        let half = head.len() / 2;
        let turned = |i: usize| {
            let (cosine, sine) = (f64::from(cosines[i % half]), f64::from(sines[i % half]));
            let other = if i < half { -head[i + half] } else { head[i - half] };
            head[i] * cosine + other * sine
        };
        (0..head.len()).map(turned).collect()
    }

    #[derive(Clone, Debug)]
    struct Case {
        heads: Heads,
        weight: Option<Vec<f32>>,
        rows: Vec<f32>,
        positions: Vec<u32>,
    }

    fn cases() -> impl Strategy<Value = Case> {
        let width = prop::sample::select(vec![2_usize, 6, 32, 40, 64, 128]);
        let numbers = |count| prop::collection::vec(-2_f32..2.0, count);
        (width, 1_usize..4, 0_usize..20, 0_usize..20, prop::collection::vec(0_u32..50, 0..4)).prop_flat_map(
            move |(width, count, column, after, positions)| {
                let heads = Heads { stride: column + count * width + after, column, count, width };
                let rows = numbers(positions.len() * heads.stride);
                let weight = prop::option::of(numbers(width));
                (rows, weight, Just(positions)).prop_map(move |(rows, weight, positions)| Case {
                    heads,
                    weight,
                    rows,
                    positions,
                })
            },
        )
    }

    proptest! {
        #[test]
        fn heads_are_normalised_and_turned_and_nothing_else_is_touched(case in cases()) {
            let Case { heads, weight, rows, positions } = case;
            let (cosines, sines) = angles(50, heads.width);
            let norm = weight.as_deref().map(|weight| Norm {
                kind: NormKind::RootMeanSquare,
                weight,
                bias: None,
                epsilon: 1e-6,
            });
            let rotary = Rotary { norm, angles: Angles { cosines: &cosines, sines: &sines } };
            let first = heads.column;
            let last = first + heads.count * heads.width;
            for isa in Isa::available() {
                let mut results = rows.clone();
                rotary.apply(isa, &mut results, heads, &positions);
                let pairs = rows.chunks(heads.stride).zip(results.chunks(heads.stride));
                for ((row, results), &position) in pairs.zip(&positions) {
                    prop_assert_eq!(&row[..first], &results[..first]);
                    prop_assert_eq!(&row[last..], &results[last..]);
                    let half = heads.width / 2;
                    let at = position as usize * half..(position as usize + 1) * half;
                    let heads = row[first..last].chunks(heads.width).zip(results[first..last].chunks(heads.width));
                    for (head, results) in heads {
                        let norm = weight.as_deref().map(|weight| (weight, 1e-6));
                        let expected = naive(head, norm, &cosines[at.clone()], &sines[at.clone()]);
                        for (&result, expected) in results.iter().zip(expected) {
                            prop_assert!((f64::from(result) - expected).abs() < 4e-6, "{} {}", result, expected);
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn the_first_position_is_not_turned() {
        let (cosines, sines) = angles(1, 64);
        let rotary = Rotary { norm: None, angles: Angles { cosines: &cosines, sines: &sines } };
        let rows: Vec<f32> = (0..64_u8).map(f32::from).collect();
        for isa in Isa::available() {
            let mut results = rows.clone();
            rotary.apply(isa, &mut results, Heads { stride: 64, column: 0, count: 1, width: 64 }, &[0]);
            assert_eq!(results, rows);
        }
    }

    #[test]
    #[should_panic(expected = "the heads lie within a row")]
    fn heads_beyond_the_row_are_refused() {
        let rotary = Rotary { norm: None, angles: Angles { cosines: &[1.0], sines: &[0.0] } };
        rotary.apply(Isa::Portable, &mut [0.0; 3], Heads { stride: 3, column: 0, count: 2, width: 2 }, &[0]);
    }
}
