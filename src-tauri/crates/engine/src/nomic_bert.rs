//! The NomicBERT encoder (nomic-embed-text) in F32 on the processor: a BERT with rotary positions, a gated feed-forward layer
//! and no biases but those of its norms.
//!
//! Why not candle-transformers' model: these parts were here, so that this is as short as what adapts another's model, computes
//! GGUF files too, and stays beside the same model on the kernels, which is what answers.

use candle_core::{Device, Result, Tensor, quantized::QTensor};
use embedbar_contract::BackendName;

use crate::{
    EngineError,
    attention::{self, Mask},
    backend::{Backend, BackendError, Output, PaddedBatch},
    bert::{Norm, first_type, vocabulary},
    facts::NomicBertFacts,
    linear::Linear,
    weights::{Weights, rows, weight},
};

/// A loaded NomicBERT.
pub(crate) struct NomicBert {
    facts: NomicBertFacts,
    tokens: QTensor,
    /// `[hidden]`: what every token gets, because texts never have another type.
    first_type: Option<Tensor>,
    norm: Norm,
    layers: Vec<Layer>,
}

struct Layer {
    /// Queries, keys and values in one matrix.
    mixed: Linear,
    output: Linear,
    output_norm: Norm,
    gate: Linear,
    up: Linear,
    down: Linear,
    down_norm: Norm,
}

impl NomicBert {
    /// Takes what it needs from `weights`.
    pub(crate) fn load(weights: &Weights, facts: &NomicBertFacts) -> std::result::Result<Self, EngineError> {
        let tokens = weights.table(weight(None, "token_embd"), &[vocabulary(weights)?, facts.hidden])?;
        let layers =
            (0..facts.layers).map(|layer| Layer::load(weights, layer, facts)).collect::<std::result::Result<_, _>>()?;
        let norm = Norm::load(weights, None, "token_embd_norm", (facts.hidden, facts.epsilon))?;
        Ok(Self { facts: facts.clone(), tokens, first_type: first_type(weights, facts.hidden)?, norm, layers })
    }

    fn run(&self, batch: &PaddedBatch, last: usize) -> Result<Vec<Tensor>> {
        let (rows_in_batch, length, hidden) = (batch.rows(), batch.length, self.facts.hidden);
        let mask = Mask::new(batch, false)?;
        let rotary = self.rotary(batch)?;
        let mut x = rows(&self.tokens, &batch.ids)?;
        if let Some(first_type) = &self.first_type {
            x = x.broadcast_add(first_type)?;
        }
        x = self.norm.forward(&x)?;
        let mut kept = Vec::with_capacity(last);
        for (number, layer) in self.layers.iter().enumerate() {
            x = layer.forward(&x, (rows_in_batch, length), &rotary, &mask, &self.facts)?;
            if number + last >= self.layers.len() {
                kept.push(x.reshape((rows_in_batch, length, hidden))?);
            }
        }
        Ok(kept)
    }

    /// Cosines and sines of the batch's positions, of each row where a text is so long that its positions turn otherwise.
    fn rotary(&self, batch: &PaddedBatch) -> Result<(Tensor, Tensor)> {
        let half = self.facts.head_width() / 2;
        let apart = batch.lengths.iter().any(|&length| self.facts.is_stretched(length));
        let rows = if apart { batch.rows() } else { 1 };
        let of_row = |&text: &usize| {
            let frequencies = self.facts.frequencies(text);
            (0..batch.length)
                .flat_map(move |position| frequencies.clone().map(move |frequency| position as f32 * frequency))
        };
        let angles: Vec<f32> = batch.lengths[..rows].iter().flat_map(of_row).collect();
        let table = |of: fn(f32) -> f32| {
            let numbers: Vec<f32> = angles.iter().map(|&angle| of(angle)).collect();
            let table = Tensor::from_vec(numbers, (rows, batch.length, half), &Device::Cpu)?;
            if apart { Ok(table) } else { table.squeeze(0) }
        };
        Ok((table(f32::cos)?, table(f32::sin)?))
    }
}

impl Layer {
    fn load(weights: &Weights, layer: usize, facts: &NomicBertFacts) -> std::result::Result<Self, EngineError> {
        let (hidden, intermediate) = (facts.hidden, facts.intermediate);
        let norm = |stem| Norm::load(weights, Some(layer), stem, (hidden, facts.epsilon));
        Ok(Self {
            mixed: weights.dense(&[weight(layer, "attn_qkv")], [3 * hidden, hidden])?,
            output: weights.dense(&[weight(layer, "attn_output")], [hidden, hidden])?,
            output_norm: norm("attn_output_norm")?,
            gate: weights.dense(&[weight(layer, "ffn_gate")], [intermediate, hidden])?,
            up: weights.dense(&[weight(layer, "ffn_up")], [intermediate, hidden])?,
            down: weights.dense(&[weight(layer, "ffn_down")], [hidden, intermediate])?,
            down_norm: norm("layer_output_norm")?,
        })
    }

    /// Maps `x` `[rows * length, hidden]` to the same shape.
    fn forward(
        &self,
        x: &Tensor,
        (rows, length): (usize, usize),
        (cosines, sines): &(Tensor, Tensor),
        mask: &Mask,
        facts: &NomicBertFacts,
    ) -> Result<Tensor> {
        let width = facts.head_width();
        let mixed = self.mixed.forward(x)?.reshape((rows, length, 3, facts.heads, width))?;
        // `[rows, heads, length, width]`.
        let part = |number| mixed.narrow(2, number, 1)?.squeeze(2)?.transpose(1, 2)?.contiguous();
        let turned = |number| candle_nn::rotary_emb::rope(&part(number)?, cosines, sines);
        let queries = (turned(0)? * (width as f64).powf(-0.5))?;
        let attended = attention::attend(&queries, &turned(1)?, &part(2)?, mask)?;
        let x = self.output_norm.forward(&(self.output.forward(&attended)? + x)?)?;
        let gated = (self.gate.forward(&x)?.silu()? * self.up.forward(&x)?)?;
        self.down_norm.forward(&(self.down.forward(&gated)? + x)?)
    }
}

impl Backend for NomicBert {
    fn name(&self) -> BackendName {
        BackendName::CandleCpu
    }

    fn forward(&mut self, batch: &PaddedBatch, layers: usize) -> std::result::Result<Output<'_>, BackendError> {
        Ok(Output::Hidden(self.run(batch, layers)?))
    }
}
