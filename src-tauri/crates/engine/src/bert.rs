//! The BERT encoder (MiniLM, BGE, E5, GTE, Arctic…) in F32 on the processor, and XLM-R (multilingual E5, BGE-M3, Arctic 2),
//! which is the same but for its first position.
//!
//! Positions count from a text's first token, whatever the tokens are. transformers takes XLM-R's from the tokens that are not
//! padding, which is the same for every text but one that spells `<pad>` out.
//!
//! Weights of any stored type become F32 at load, because these models are small, because half precision overflows in this
//! architecture, and because candle's product with 8-bit blocks is slow for rows of 384 numbers. Only the table of token
//! embeddings, more than half of MiniLM, stays in the file as it is stored.

use candle_core::{D, Result, Tensor, quantized::QTensor};
use embedbar_contract::BackendName;

use crate::{
    EngineError,
    attention::{self, Mask},
    backend::{Backend, BackendError, Output, PaddedBatch},
    facts::{Activation, BertFacts, VOCABULARY},
    linear::Linear,
    weights::{Weights, rows, weight},
};

/// A loaded BERT.
pub(crate) struct Bert {
    facts: BertFacts,
    tokens: QTensor,
    /// `[positions, hidden]`: each position's embedding, a text's first one first, plus that of the first token type.
    positions: Tensor,
    norm: Norm,
    layers: Vec<Layer>,
}

struct Layer {
    /// Queries, keys and values in one product.
    mixed: Linear,
    output: Linear,
    output_norm: Norm,
    up: Linear,
    down: Linear,
    down_norm: Norm,
}

pub(crate) struct Norm {
    weight: Tensor,
    bias: Tensor,
    epsilon: f32,
}

impl Norm {
    pub(crate) fn load(
        weights: &Weights,
        layer: Option<usize>,
        stem: &'static str,
        (width, epsilon): (usize, f32),
    ) -> std::result::Result<Self, EngineError> {
        let role = weight(layer, stem);
        Ok(Self { weight: weights.f32(role, &[width])?, bias: weights.f32(role.bias(), &[width])?, epsilon })
    }

    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        candle_nn::ops::layer_norm(x, &self.weight, &self.bias, self.epsilon)
    }
}

impl Bert {
    /// Takes what it needs from `weights`.
    pub(crate) fn load(weights: &Weights, facts: &BertFacts) -> std::result::Result<Self, EngineError> {
        let vocabulary = vocabulary(weights)?;
        let tokens = weights.table(weight(None, "token_embd"), &[vocabulary, facts.hidden])?;
        let layers =
            (0..facts.layers).map(|layer| Layer::load(weights, layer, facts)).collect::<std::result::Result<_, _>>()?;
        Ok(Self {
            facts: facts.clone(),
            tokens,
            positions: positions(weights, facts)?,
            norm: Norm::load(weights, None, "token_embd_norm", (facts.hidden, facts.epsilon))?,
            layers,
        })
    }

    fn run(&self, batch: &PaddedBatch, last: usize) -> Result<Vec<Tensor>> {
        let (rows_in_batch, length, hidden) = (batch.rows(), batch.length, self.facts.hidden);
        let mask = Mask::new(batch, false)?;
        let embedded = rows(&self.tokens, &batch.ids)?.reshape((rows_in_batch, length, hidden))?;
        let embedded = embedded.broadcast_add(&self.positions.narrow(0, 0, length)?)?;
        let mut x = self.norm.forward(&embedded.reshape((rows_in_batch * length, hidden))?)?;
        let mut kept = Vec::with_capacity(last);
        for (number, layer) in self.layers.iter().enumerate() {
            x = layer.forward(&x, (rows_in_batch, length), &mask, &self.facts)?;
            if number + last >= self.layers.len() {
                kept.push(x.reshape((rows_in_batch, length, hidden))?);
            }
        }
        Ok(kept)
    }
}

/// Rows of the table of token embeddings, believed within bounds.
pub(crate) fn vocabulary(weights: &Weights) -> std::result::Result<usize, EngineError> {
    let shape = weights.shape(weight(None, "token_embd"))?;
    let found = shape.first().copied().unwrap_or(0);
    if VOCABULARY.contains(&(found as u64)) {
        Ok(found)
    } else {
        Err(EngineError::corrupt(weights.files()[0].path(), format!("its table of tokens has `{found}` rows")))
    }
}

/// Position embeddings with the first token type added: texts never have another type.
pub(crate) fn positions(weights: &Weights, facts: &BertFacts) -> std::result::Result<Tensor, EngineError> {
    let corrupt = |error| EngineError::corrupt(weights.files()[0].path(), error);
    // A table may have more rows than the model is meant to read.
    let role = weight(None, "position_embd");
    let wanted = facts.first_position + facts.positions;
    let rows = weights.shape(role)?.first().copied().unwrap_or(0).max(wanted);
    let positions = weights.f32(role, &[rows, facts.hidden])?;
    let positions = positions.narrow(0, facts.first_position, rows - facts.first_position).map_err(corrupt)?;
    match first_type(weights, facts.hidden)? {
        Some(first) => positions.broadcast_add(&first).map_err(corrupt),
        None => Ok(positions),
    }
}

/// The embedding of the first token type, `[hidden]`, where there are types.
pub(crate) fn first_type(weights: &Weights, hidden: usize) -> std::result::Result<Option<Tensor>, EngineError> {
    let role = weight(None, "token_types");
    if weights.content(role).is_none() {
        return Ok(None);
    }
    let types = weights.shape(role)?.first().copied().unwrap_or(0);
    let types = weights.f32(role, &[types, hidden])?;
    types.get(0).map(Some).map_err(|error| EngineError::corrupt(weights.files()[0].path(), error))
}

impl Layer {
    fn load(weights: &Weights, layer: usize, facts: &BertFacts) -> std::result::Result<Self, EngineError> {
        let (hidden, intermediate) = (facts.hidden, facts.intermediate);
        let mixed = ["attn_q", "attn_k", "attn_v"].map(|stem| weight(layer, stem));
        let norm = |stem| Norm::load(weights, Some(layer), stem, (hidden, facts.epsilon));
        Ok(Self {
            mixed: weights.dense(&mixed, [hidden, hidden])?,
            output: weights.dense(&[weight(layer, "attn_output")], [hidden, hidden])?,
            output_norm: norm("attn_output_norm")?,
            up: weights.dense(&[weight(layer, "ffn_up")], [intermediate, hidden])?,
            down: weights.dense(&[weight(layer, "ffn_down")], [hidden, intermediate])?,
            down_norm: norm("layer_output_norm")?,
        })
    }

    /// Maps `x` `[rows * length, hidden]` to the same shape.
    fn forward(&self, x: &Tensor, (rows, length): (usize, usize), mask: &Mask, facts: &BertFacts) -> Result<Tensor> {
        let width = facts.hidden / facts.heads;
        let mixed = self.mixed.forward(x)?.reshape((rows, length, 3, facts.heads, width))?;
        // `[rows, heads, length, width]`, a view for one row.
        let part = |number| mixed.narrow(2, number, 1)?.squeeze(2)?.transpose(1, 2);
        let compact = |view: Tensor| if rows == 1 { Ok(view) } else { view.contiguous() };
        let queries = (part(0)? * (width as f64).powf(-0.5))?;
        let attended = attention::attend(&queries, &compact(part(1)?)?, &compact(part(2)?)?, mask)?;
        let x = self.output_norm.forward(&(self.output.forward(&attended)? + x)?)?;
        let up = self.up.forward(&x)?;
        let up = match facts.activation {
            Activation::Gelu => up.gelu_erf()?,
            Activation::GeluTanh => up.gelu()?,
            Activation::Relu => up.relu()?,
        };
        debug_assert_eq!(up.dim(D::Minus1)?, facts.intermediate);
        self.down_norm.forward(&(self.down.forward(&up)? + x)?)
    }
}

impl Backend for Bert {
    fn name(&self) -> BackendName {
        BackendName::CandleCpu
    }

    fn forward(&mut self, batch: &PaddedBatch, layers: usize) -> std::result::Result<Output<'_>, BackendError> {
        Ok(Output::Hidden(self.run(batch, layers)?))
    }
}
