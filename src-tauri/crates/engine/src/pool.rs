//! From hidden states to vectors: mean over layers, pooling over tokens, clamp, L2. Arithmetic on plain slices.

use std::ops::Range;

use candle_core::{Result, Tensor};

use crate::{
    backend::PaddedBatch,
    recipe::{Pooling, Recipe},
};

/// One vector per row of the batch from the hidden states `[rows, length, dims]` of `layers`.
pub(crate) fn pool(layers: &[Tensor], batch: &PaddedBatch, recipe: &Recipe) -> Result<Vec<Vec<f32>>> {
    let states: Vec<Vec<f32>> =
        layers.iter().map(|states| states.flatten_all()?.to_vec1::<f32>()).collect::<Result<_>>()?;
    let dims = states.first().map_or(0, Vec::len) / (batch.rows() * batch.length).max(1);
    let texts = batch.lengths.iter().enumerate().map(|(row, &length)| {
        let first = row * batch.length;
        first..first + length
    });
    Ok(pool_texts(&states.concat(), layers.len(), dims, texts, recipe))
}

/// One vector per text from hidden states `[layers, tokens, dims]`; `texts` are the tokens of each.
pub(crate) fn pool_texts(
    states: &[f32],
    layers: usize,
    dims: usize,
    texts: impl Iterator<Item = Range<usize>>,
    recipe: &Recipe,
) -> Vec<Vec<f32>> {
    let vectors = texts.map(|tokens| {
        let mut vector = vec![0_f32; dims];
        for states in states.chunks_exact(states.len() / layers) {
            let states = &states[tokens.start * dims..tokens.end * dims];
            add_pooled(&mut vector, states, recipe.pooling);
        }
        let scale = 1.0 / layers as f32;
        if layers > 1 {
            for number in &mut vector {
                *number *= scale;
            }
        }
        vector
    });
    vectors.collect()
}

/// Adds one text's pooled states to `vector`; `states` holds the text's tokens only.
fn add_pooled(vector: &mut [f32], states: &[f32], pooling: Pooling) {
    let dims = vector.len();
    let tokens = states.len() / dims;
    match pooling {
        Pooling::Cls => add(vector, &states[..dims], 1.0),
        Pooling::Last => add(vector, &states[(tokens - 1) * dims..], 1.0),
        Pooling::Mean => {
            let mut sum = vec![0_f32; dims];
            states.chunks_exact(dims).for_each(|token| add(&mut sum, token, 1.0));
            add(vector, &sum, 1.0 / tokens as f32);
        }
    }
}

fn add(sum: &mut [f32], numbers: &[f32], factor: f32) {
    for (sum, number) in sum.iter_mut().zip(numbers) {
        *sum += number * factor;
    }
}

/// Why a vector is no result.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Unusable {
    /// It holds a NaN or an infinite number.
    NotFinite,
    /// It has no direction.
    Zero,
}

/// Applies the recipe's clamp and L2 to `vector` and checks that it is a result.
pub(crate) fn finish(vector: &mut [f32], recipe: &Recipe) -> std::result::Result<(), Unusable> {
    // Before the clamp, which would turn an infinite number into a large one.
    if vector.iter().any(|number| !number.is_finite()) {
        return Err(Unusable::NotFinite);
    }
    if let Some(limit) = recipe.clamp {
        for number in vector.iter_mut() {
            *number = number.clamp(-limit, limit);
        }
    }
    // In f64, so that neither large nor tiny numbers leave the range when squared.
    let norm = vector.iter().map(|&number| f64::from(number).powi(2)).sum::<f64>().sqrt();
    if norm == 0.0 {
        return Err(Unusable::Zero);
    }
    if recipe.l2 {
        for number in vector.iter_mut() {
            *number = (f64::from(*number) / norm) as f32;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use embedbar_contract::RecipeName;
    use proptest::prelude::*;

    use super::*;
    use crate::recipe::{Padding, Prompts};

    fn recipe(pooling: Pooling, clamp: Option<f32>) -> Recipe {
        Recipe {
            name: RecipeName::Native,
            max_tokens: 8,
            prompts: Prompts::default(),
            padding: Padding::Masked,
            layers: 1,
            pooling,
            clamp,
            l2: true,
        }
    }

    /// Two rows of three tokens of two numbers; the second row has one token of padding.
    fn states(factor: f32) -> (Tensor, PaddedBatch) {
        let numbers: Vec<f32> = [1.0, 2.0, 3.0, 4.0, 5.0, 9.0, 7.0, 8.0, 1.0, 0.0, 1000.0, 1000.0]
            .iter()
            .map(|number| number * factor)
            .collect();
        let batch = PaddedBatch { ids: vec![0; 6], lengths: vec![3, 2], length: 3 };
        (Tensor::from_vec(numbers, (2, 3, 2), &Device::Cpu).unwrap(), batch)
    }

    #[test]
    fn padding_counts_in_no_pooling() {
        let (layer, batch) = states(1.0);
        let pooled = |pooling| pool(std::slice::from_ref(&layer), &batch, &recipe(pooling, None)).unwrap();
        assert_eq!(pooled(Pooling::Mean), [[3.0, 5.0], [4.0, 4.0]]);
        assert_eq!(pooled(Pooling::Cls), [[1.0, 2.0], [7.0, 8.0]]);
        assert_eq!(pooled(Pooling::Last), [[5.0, 9.0], [1.0, 0.0]]);
    }

    #[test]
    fn several_layers_are_averaged() {
        let (first, batch) = states(1.0);
        let (second, _) = states(3.0);
        let pooled = pool(&[first, second], &batch, &recipe(Pooling::Last, None)).unwrap();
        assert_eq!(pooled, [[10.0, 18.0], [2.0, 0.0]]);
    }

    #[test]
    fn the_clamp_comes_before_the_scaling() {
        let mut vector = [200.0, 0.0, 3.0];
        finish(&mut vector, &recipe(Pooling::Mean, Some(4.0))).unwrap();
        assert!(vector.iter().zip([0.8, 0.0, 0.6]).all(|(found, wanted)| (found - wanted).abs() < 1e-7), "{vector:?}");
    }

    #[test]
    fn a_nan_an_infinite_or_a_zero_vector_is_no_result() {
        for (mut vector, wanted) in [
            ([f32::NAN, 1.0], Unusable::NotFinite),
            ([f32::INFINITY, 1.0], Unusable::NotFinite),
            ([0.0, -0.0], Unusable::Zero),
        ] {
            assert_eq!(finish(&mut vector, &recipe(Pooling::Mean, Some(65_504.0))), Err(wanted));
        }
    }

    proptest! {
        #[test]
        fn every_finished_vector_has_length_one(vector in prop::collection::vec(-1.0e30_f32..1.0e30, 1..64)) {
            let mut vector = vector;
            if finish(&mut vector, &recipe(Pooling::Mean, None)).is_ok() {
                let norm: f64 = vector.iter().map(|&number| f64::from(number).powi(2)).sum();
                prop_assert!((norm - 1.0).abs() < 1e-5);
            }
        }
    }
}
