//! The Qwen3 encoder (Qwen3-Embedding and its like) on the processor: causal, grouped-query attention with normed queries
//! and keys, rotary positions, SwiGLU.
//!
//! No language-model head and no cache: each text is seen once, whole. Padding is on the right, where causal attention makes
//! it harmless. Weights stay in the file unless they are F32 (see [`Weights::linear`]); activations are F32.

use candle_core::{Device, Result, Tensor, quantized::QTensor};
use embedbar_contract::BackendName;

use crate::{
    EngineError,
    attention::{self, Mask},
    backend::{Backend, BackendError, Output, PaddedBatch},
    bert::vocabulary,
    facts::Qwen3Facts,
    linear::Linear,
    weights::{Weights, rows, weight},
};

/// A loaded Qwen3.
pub(crate) struct Qwen3 {
    facts: Qwen3Facts,
    tokens: QTensor,
    layers: Vec<Layer>,
    norm: Tensor,
    rotary: Rotary,
}

struct Layer {
    norm: Tensor,
    queries: Linear,
    keys: Linear,
    values: Linear,
    /// The norm's weight divided by the square root of the head's width, which scales the scores.
    queries_norm: Tensor,
    keys_norm: Tensor,
    output: Linear,
    feed_norm: Tensor,
    gate: Linear,
    up: Linear,
    down: Linear,
}

/// Cosines and sines of rotary positions, made for the longest batch so far.
struct Rotary {
    frequencies: Vec<f32>,
    /// `[length, width / 2]` each.
    table: Option<(Tensor, Tensor)>,
}

impl Rotary {
    fn new(facts: &Qwen3Facts) -> Self {
        let frequencies = facts.frequencies();
        Self { frequencies, table: None }
    }

    fn up_to(&mut self, length: usize) -> Result<(Tensor, Tensor)> {
        let enough = |(cosines, _): &(Tensor, Tensor)| cosines.dim(0).is_ok_and(|made| made >= length);
        let (cosines, sines) = match self.table.take().filter(enough) {
            Some(table) => table,
            None => self.make(length.next_power_of_two())?,
        };
        self.table = Some((cosines.clone(), sines.clone()));
        Ok((cosines.narrow(0, 0, length)?, sines.narrow(0, 0, length)?))
    }

    fn make(&self, length: usize) -> Result<(Tensor, Tensor)> {
        let angles: Vec<f32> = (0..length)
            .flat_map(|position| self.frequencies.iter().map(move |frequency| position as f32 * frequency))
            .collect();
        let table = |of: fn(f32) -> f32| {
            let numbers: Vec<f32> = angles.iter().map(|&angle| of(angle)).collect();
            Tensor::from_vec(numbers, (length, self.frequencies.len()), &Device::Cpu)
        };
        Ok((table(f32::cos)?, table(f32::sin)?))
    }
}

impl Qwen3 {
    /// Takes what it needs from `weights`.
    pub(crate) fn load(weights: &Weights, facts: &Qwen3Facts) -> std::result::Result<Self, EngineError> {
        let tokens = weights.table(weight(None, "token_embd"), &[vocabulary(weights)?, facts.hidden])?;
        let layers =
            (0..facts.layers).map(|layer| Layer::load(weights, layer, facts)).collect::<std::result::Result<_, _>>()?;
        let norm = weights.f32(weight(None, "output_norm"), &[facts.hidden])?;
        Ok(Self { facts: facts.clone(), tokens, layers, norm, rotary: Rotary::new(facts) })
    }

    fn run(&mut self, batch: &PaddedBatch, last: usize) -> Result<Vec<Tensor>> {
        let (rows_in_batch, length, hidden) = (batch.rows(), batch.length, self.facts.hidden);
        let rotary = self.rotary.up_to(length)?;
        let mask = Mask::new(batch, true)?;
        let mut x = rows(&self.tokens, &batch.ids)?;
        let mut kept = Vec::with_capacity(last);
        for (number, layer) in self.layers.iter().enumerate() {
            x = layer.forward(&x, (rows_in_batch, length), &rotary, &mask, &self.facts)?;
            if number + 1 == self.layers.len() {
                x = candle_nn::ops::rms_norm(&x, &self.norm, self.facts.epsilon)?;
            }
            if number + last >= self.layers.len() {
                kept.push(x.reshape((rows_in_batch, length, hidden))?);
            }
        }
        Ok(kept)
    }
}

impl Layer {
    fn load(weights: &Weights, layer: usize, facts: &Qwen3Facts) -> std::result::Result<Self, EngineError> {
        let Qwen3Facts { hidden, intermediate, head_width, .. } = *facts;
        let (all, shared) = (facts.heads * head_width, facts.groups * head_width);
        let linear = |stem, out, input| weights.linear(weight(layer, stem), [out, input]);
        let norm = |stem, width| weights.f32(weight(layer, stem), &[width]);
        let queries_norm = (norm("attn_q_norm", head_width)? * (head_width as f64).powf(-0.5))
            .map_err(|error| EngineError::corrupt(weights.files()[0].path(), error))?;
        Ok(Self {
            norm: norm("attn_norm", hidden)?,
            queries: linear("attn_q", all, hidden)?,
            keys: linear("attn_k", shared, hidden)?,
            values: linear("attn_v", shared, hidden)?,
            queries_norm,
            keys_norm: norm("attn_k_norm", head_width)?,
            output: linear("attn_output", hidden, all)?,
            feed_norm: norm("ffn_norm", hidden)?,
            gate: linear("ffn_gate", intermediate, hidden)?,
            up: linear("ffn_up", intermediate, hidden)?,
            down: linear("ffn_down", hidden, intermediate)?,
        })
    }

    /// Maps `x` `[rows * length, hidden]` to the same shape.
    fn forward(
        &self,
        x: &Tensor,
        (rows, length): (usize, usize),
        (cosines, sines): &(Tensor, Tensor),
        mask: &Mask,
        facts: &Qwen3Facts,
    ) -> Result<Tensor> {
        let width = facts.head_width;
        let normed = candle_nn::ops::rms_norm(x, &self.norm, facts.epsilon)?;
        // `[rows, heads, length, width]`.
        let heads =
            |projected: Tensor, heads| projected.reshape((rows, length, heads, width))?.transpose(1, 2)?.contiguous();
        let turned = |projected: Tensor, count, norm: &Tensor| {
            let normed =
                candle_nn::ops::rms_norm(&projected.reshape((rows * length, count, width))?, norm, facts.epsilon)?;
            candle_nn::rotary_emb::rope(&heads(normed, count)?, cosines, sines)
        };
        let queries = turned(self.queries.forward(&normed)?, facts.heads, &self.queries_norm)?;
        let keys = turned(self.keys.forward(&normed)?, facts.groups, &self.keys_norm)?;
        let values = heads(self.values.forward(&normed)?, facts.groups)?;
        let attended = attention::attend(&queries, &keys, &values, mask)?;
        let x = (self.output.forward(&attended)? + x)?;
        let normed = candle_nn::ops::rms_norm(&x, &self.feed_norm, facts.epsilon)?;
        let gated = (self.gate.forward(&normed)?.silu()? * self.up.forward(&normed)?)?;
        self.down.forward(&gated)? + x
    }
}

impl Backend for Qwen3 {
    fn name(&self) -> BackendName {
        BackendName::CandleCpu
    }

    fn forward(&mut self, batch: &PaddedBatch, layers: usize) -> std::result::Result<Output<'_>, BackendError> {
        Ok(Output::Hidden(self.run(batch, layers)?))
    }
}
