//! A LayerNorm that holds its numbers.

use embedbar_kernels::norm::{Norm, NormKind};

use crate::{
    EngineError,
    weights::{Weights, weight},
};

pub(super) struct LayerNorm {
    weight: Vec<f32>,
    bias: Vec<f32>,
    epsilon: f32,
}

impl LayerNorm {
    /// The norm called `stem`, of `width` numbers.
    pub(super) fn load(
        weights: &Weights,
        layer: Option<usize>,
        stem: &'static str,
        (width, epsilon): (usize, f32),
    ) -> Result<Self, EngineError> {
        let role = weight(layer, stem);
        let numbers = |role| weights.numbers(role, &[width]);
        Ok(Self { weight: numbers(role)?, bias: numbers(role.bias())?, epsilon })
    }

    pub(super) fn get(&self) -> Norm<'_> {
        Norm { kind: NormKind::Layer, weight: &self.weight, bias: Some(&self.bias), epsilon: self.epsilon }
    }
}
