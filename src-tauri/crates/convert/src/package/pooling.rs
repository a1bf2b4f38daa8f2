//! From the hidden states of the last layers to the vector: mean over layers, pooling over tokens, L2.
//!
//! Padding counts in no pooling: a mean weighs tokens by the mask and the last token is the last one in the mask. A clamp to
//! half precision's range, which the Papr recipe has, is what half precision itself does to finite numbers; an infinite one
//! must stay visible as NaN instead of becoming a large number.

use super::message::DataType;
use super::options::PackageRecipe;
use super::program::{Builder, Tensor};
use crate::Pooling;

/// The smallest length that a vector is divided by; the engine refuses a vector without a direction.
const SHORTEST: f32 = 1e-7;

/// `[1, width]` in single precision, called `output`, from the `states` `[1, tokens, width]`, which are the mean over layers.
pub(super) fn pool(
    builder: &mut Builder,
    output: &str,
    states: &Tensor,
    mask: &Tensor,
    recipe: &PackageRecipe,
) -> Tensor {
    let pooled = match recipe.pooling {
        Pooling::Cls => builder.first_token("pooled_token", states),
        Pooling::Mean => {
            let weights = mean_weights(builder, mask);
            weigh(builder, &weights, states)
        }
        Pooling::Last => {
            let weights = last_weights(builder, mask);
            weigh(builder, &weights, states)
        }
    };
    let vector = builder.squeeze("pooled", &pooled, 1);
    if recipe.normalise {
        let vector = builder.cast("vector", &vector, DataType::Float32);
        normalise(builder, output, &vector)
    } else {
        builder.cast(output, &vector, DataType::Float32)
    }
}

/// What some of the recipe's layers contribute to the mean over layers; of all of them, the mean. `before` is the sum for the
/// layers before them. Each layer is divided before the sum, which could leave half precision's range otherwise.
pub(super) fn shares(
    builder: &mut Builder,
    before: Option<Tensor>,
    layers: &[Tensor],
    first_number: usize,
    recipe: &PackageRecipe,
) -> Option<Tensor> {
    let all = recipe.layers.get();
    if all == 1 {
        return layers.first().cloned();
    }
    let mut sum = before;
    for (number, layer) in (first_number..).zip(layers) {
        let share = builder.number(layer, 1.0 / all as f32);
        let part = builder.binary("mul", &format!("share_{number}"), layer, &share);
        sum = Some(match sum {
            Some(sum) => builder.binary("add", &format!("shares_to_{number}"), &sum, &part),
            None => part,
        });
    }
    sum
}

/// `[1, tokens]`: one over the number of the text's tokens for each of them, and 0 for padding. Counted in integers, which
/// are exact for any length.
fn mean_weights(builder: &mut Builder, mask: &Tensor) -> Tensor {
    let count = builder.reduce("reduce_sum", "token_count", mask);
    let one = builder.number(&count, 1.0);
    let count = builder.binary("maximum", "token_count_or_1", &count, &one);
    let count = builder.cast("token_count_half", &count, DataType::Float16);
    let ones = builder.cast("token_ones", mask, DataType::Float16);
    builder.binary("real_div", "token_weights", &ones, &count)
}

/// `[1, tokens]`: 1 for the last token of the mask and 0 for all others.
fn last_weights(builder: &mut Builder, mask: &Tensor) -> Tensor {
    let numbers: Vec<i32> = (1..=mask.shape()[1] as i32).collect();
    let numbers = builder.int_row("token_numbers", &numbers);
    let numbers = builder.binary("mul", "masked_token_numbers", &numbers, mask);
    let last = builder.reduce("reduce_max", "last_token_number", &numbers);
    let is_last = builder.equal("token_is_last", &numbers, &last);
    builder.cast("token_weights", &is_last, DataType::Float16)
}

/// `[1, 1, width]`: the sum of the tokens' states times their weights.
fn weigh(builder: &mut Builder, weights: &Tensor, states: &Tensor) -> Tensor {
    let weights = builder.expand("token_weights_row", weights, &[1]);
    builder.matmul("pooled_tokens", &weights, states, false)
}

/// In single precision and of numbers of at most 1, so that no square leaves even half precision's range.
fn normalise(builder: &mut Builder, output: &str, vector: &Tensor) -> Tensor {
    let shortest = builder.number(vector, SHORTEST);
    let magnitudes = builder.unary("abs", "vector_magnitudes", vector);
    let largest = builder.reduce("reduce_max", "vector_largest", &magnitudes);
    let largest = builder.binary("maximum", "vector_divisor", &largest, &shortest);
    let scaled = builder.binary("real_div", "vector_scaled", vector, &largest);
    let length = builder.reduce("reduce_l2_norm", "vector_length", &scaled);
    let length = builder.binary("maximum", "vector_length_or_shortest", &length, &shortest);
    builder.binary("real_div", output, &scaled, &length)
}
