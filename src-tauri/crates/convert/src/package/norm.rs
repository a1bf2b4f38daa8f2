//! Root-mean-square normalisation that half precision can hold.
//!
//! The square of a number above 255 is beyond half precision, and hidden states of Qwen3 reach thousands. So numbers are
//! divided by the largest magnitude `m` of their row first. With `y = x / m` the plain formula
//!
//! ```text
//! x / sqrt(mean(x²) + ε)  =  y / sqrt(mean(y²) + (sqrt(ε) / m)²)
//! ```
//!
//! stays exact, ε included. `m` is at least `sqrt(ε)`: then every term is at most 1, and a row of zeros divides nothing by
//! zero. A row that small is dominated by ε, so the bound costs nothing.

use super::program::{Builder, Tensor};

/// `x` over its last axis, times `weight`.
pub(super) fn rms_norm(builder: &mut Builder, name: &str, x: &Tensor, weight: &Tensor, epsilon: f32) -> Tensor {
    let smallest = builder.number(x, epsilon.sqrt());
    let magnitudes = builder.unary("abs", &format!("{name}_magnitudes"), x);
    let largest = builder.reduce("reduce_max", &format!("{name}_largest"), &magnitudes);
    let largest = builder.binary("maximum", &format!("{name}_divisor"), &largest, &smallest);
    let scaled = builder.binary("real_div", &format!("{name}_scaled"), x, &largest);
    let squares = builder.binary("mul", &format!("{name}_squares"), &scaled, &scaled);
    let mean = builder.reduce("reduce_mean", &format!("{name}_mean"), &squares);
    let root = builder.binary("real_div", &format!("{name}_epsilon_root"), &smallest, &largest);
    let epsilon = builder.binary("mul", &format!("{name}_epsilon"), &root, &root);
    let mean = builder.binary("add", &format!("{name}_variance"), &mean, &epsilon);
    let factor = builder.rsqrt(&format!("{name}_factor"), &mean);
    let normed = builder.binary("mul", &format!("{name}_normed"), &scaled, &factor);
    builder.binary("mul", name, &normed, weight)
}
