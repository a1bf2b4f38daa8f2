//! What is between the matrices: norms, attention, rotary positions, nonlinearities. On rows of plain numbers.

use std::ops::Range;

/// Scales each row to mean 0 and variance 1, then by `gamma` and `beta`.
pub(super) fn layer_norm(rows: &mut [f32], gamma: &[f32], beta: &[f32], epsilon: f32) {
    for row in rows.chunks_exact_mut(gamma.len()) {
        let count = row.len() as f64;
        let mean = row.iter().map(|&number| f64::from(number)).sum::<f64>() / count;
        let variance = row.iter().map(|&number| (f64::from(number) - mean).powi(2)).sum::<f64>() / count;
        let scale = 1.0 / (variance + f64::from(epsilon)).sqrt();
        for ((number, gamma), beta) in row.iter_mut().zip(gamma).zip(beta) {
            *number = ((f64::from(*number) - mean) * scale) as f32 * gamma + beta;
        }
    }
}

/// Scales each row of `gamma.len()` numbers to a mean square of 1, then by `gamma`.
pub(super) fn rms_norm(rows: &mut [f32], gamma: &[f32], epsilon: f32) {
    for row in rows.chunks_exact_mut(gamma.len()) {
        let square = row.iter().map(|&number| f64::from(number).powi(2)).sum::<f64>() / row.len() as f64;
        let scale = (1.0 / (square + f64::from(epsilon)).sqrt()) as f32;
        row.iter_mut().zip(gamma).for_each(|(number, gamma)| *number *= scale * gamma);
    }
}

/// Adds `bias` to each row.
pub(super) fn add_bias(rows: &mut [f32], bias: &[f32]) {
    for row in rows.chunks_exact_mut(bias.len()) {
        add(row, bias);
    }
}

/// Adds number by number.
pub(super) fn add(sum: &mut [f32], numbers: &[f32]) {
    sum.iter_mut().zip(numbers).for_each(|(sum, number)| *sum += number);
}

/// With the error function.
pub(super) fn gelu(number: f32) -> f32 {
    0.5 * number * (1.0 + libm::erff(number * std::f32::consts::FRAC_1_SQRT_2))
}

/// The approximation by a hyperbolic tangent.
pub(super) fn gelu_tanh(number: f32) -> f32 {
    let inner = (2.0 / std::f32::consts::PI).sqrt() * (number + 0.044_715 * number.powi(3));
    0.5 * number * (1.0 + inner.tanh())
}

/// `number * sigmoid(number)`.
pub(super) fn silu(number: f32) -> f32 {
    number / (1.0 + (-number).exp())
}

/// Rows of queries, keys and values, and how they are divided into heads.
pub(super) struct Attention<'a> {
    pub(super) queries: &'a [f32],
    pub(super) keys: &'a [f32],
    pub(super) values: &'a [f32],
    /// Heads of queries.
    pub(super) heads: usize,
    /// Heads of keys and values.
    pub(super) groups: usize,
    /// Numbers in a head.
    pub(super) head: usize,
    /// Whether a token sees only itself and what is before it.
    pub(super) causal: bool,
}

impl Attention<'_> {
    /// `[tokens, heads * head]`; each text's tokens see only each other.
    pub(super) fn attend(&self, spans: &[Range<usize>]) -> Vec<f32> {
        let &Self { heads, groups, head, .. } = self;
        let (wide, narrow) = (heads * head, groups * head);
        let scale = 1.0 / (head as f32).sqrt();
        let mut out = vec![0.0; self.queries.len()];
        let mut scores = Vec::new();
        for span in spans {
            for token in span.clone() {
                let last = if self.causal { token + 1 } else { span.end };
                for number in 0..heads {
                    let group = number / (heads / groups);
                    let at = token * wide + number * head;
                    let query = &self.queries[at..at + head];
                    let of = |rows: &'_ [f32], other: usize| -> Range<usize> {
                        let start = other * narrow + group * head;
                        debug_assert!(start + head <= rows.len());
                        start..start + head
                    };
                    scores.clear();
                    scores.extend((span.start..last).map(|other| scale * dot(query, &self.keys[of(self.keys, other)])));
                    softmax(&mut scores);
                    let sum = &mut out[at..at + head];
                    for (other, weight) in (span.start..last).zip(&scores) {
                        let value = &self.values[of(self.values, other)];
                        sum.iter_mut().zip(value).for_each(|(sum, number)| *sum += weight * number);
                    }
                }
            }
        }
        out
    }
}

fn dot(left: &[f32], right: &[f32]) -> f32 {
    // Eight sums, so that the loop is vectorised.
    let mut sums = [0.0_f32; 8];
    let (left, left_rest) = left.as_chunks::<8>();
    let (right, right_rest) = right.as_chunks::<8>();
    for (left, right) in left.iter().zip(right) {
        for ((sum, left), right) in sums.iter_mut().zip(left).zip(right) {
            *sum += left * right;
        }
    }
    let rest: f32 = left_rest.iter().zip(right_rest).map(|(left, right)| left * right).sum();
    sums.iter().sum::<f32>() + rest
}

fn softmax(scores: &mut [f32]) {
    let most = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0;
    for score in scores.iter_mut() {
        *score = (*score - most).exp();
        sum += *score;
    }
    for score in scores {
        *score /= sum;
    }
}

/// Turns each head of each token by the angles of its position in its text: the first half of a head with the second one.
pub(super) fn rotate(rows: &mut [f32], width: usize, head: usize, theta: f32, spans: &[Range<usize>]) {
    let frequencies: Vec<f32> = (0..head).step_by(2).map(|at| 1.0 / theta.powf(at as f32 / head as f32)).collect();
    for span in spans {
        for (position, token) in span.clone().enumerate() {
            for head in rows[token * width..(token + 1) * width].chunks_exact_mut(head) {
                let (first, second) = head.split_at_mut(frequencies.len());
                for ((first, second), frequency) in first.iter_mut().zip(second).zip(&frequencies) {
                    let (sine, cosine) = (position as f32 * frequency).sin_cos();
                    (*first, *second) = (*first * cosine - *second * sine, *second * cosine + *first * sine);
                }
            }
        }
    }
}
