//! The BERT encoder on the kernels; what it computes is described in [`crate::bert`], which does the same with candle.

use candle_core::quantized::QTensor;
use embedbar_contract::BackendName;
use embedbar_kernels::{
    attention::Shape,
    norm::{Norm, NormKind},
};

use super::{
    matrix::{Linear, Then},
    room::{Room, left, normalise},
    shelf::Shelf,
};
use crate::{
    EngineError,
    backend::{Backend, BackendError, BatchShape, Output, PaddedBatch},
    bert::{positions, vocabulary},
    facts::BertFacts,
    weights::{Weights, rows, weight},
};

/// A loaded BERT.
pub(crate) struct FastBert {
    facts: BertFacts,
    attention: Shape,
    tokens: QTensor,
    /// `[positions][hidden]`.
    positions: Vec<f32>,
    norm: OwnedNorm,
    layers: Vec<Layer>,
    room: Room,
}

struct Layer {
    mixed: Linear,
    output: Linear,
    output_norm: OwnedNorm,
    up: Linear,
    down: Linear,
    down_norm: OwnedNorm,
}

struct OwnedNorm {
    weight: Vec<f32>,
    bias: Vec<f32>,
    epsilon: f32,
}

impl OwnedNorm {
    fn load(
        weights: &Weights,
        layer: Option<usize>,
        stem: &'static str,
        facts: &BertFacts,
    ) -> Result<Self, EngineError> {
        let role = weight(layer, stem);
        let numbers = |role| weights.numbers(role, &[facts.hidden]);
        Ok(Self { weight: numbers(role)?, bias: numbers(role.bias())?, epsilon: facts.epsilon })
    }

    fn get(&self) -> Norm<'_> {
        Norm { kind: NormKind::Layer, weight: &self.weight, bias: Some(&self.bias), epsilon: self.epsilon }
    }
}

impl FastBert {
    /// Packs what it needs from `weights`; the model suits the kernels.
    pub(crate) fn load(weights: &Weights, facts: &BertFacts, shelf: &mut Shelf) -> Result<Self, EngineError> {
        let tokens = weights.table(weight(None, "token_embd"), &[vocabulary(weights)?, facts.hidden])?;
        let layers =
            (0..facts.layers).map(|layer| Layer::load(weights, layer, facts, shelf)).collect::<Result<_, _>>()?;
        let positions = positions(weights, facts)?
            .flatten_all()
            .and_then(|positions| positions.to_vec1::<f32>())
            .map_err(|error| EngineError::corrupt(weights.files()[0].path(), error))?;
        let width = facts.hidden / facts.heads;
        Ok(Self {
            facts: facts.clone(),
            attention: Shape {
                heads: facts.heads,
                groups: facts.heads,
                width,
                causal: false,
                scale: (width as f32).powf(-0.5),
            },
            tokens,
            positions,
            norm: OwnedNorm::load(weights, None, "token_embd_norm", facts)?,
            layers,
            room: Room::new(),
        })
    }

    fn run(&mut self, batch: &PaddedBatch, last: usize) -> candle_core::Result<Vec<Vec<f32>>> {
        let (hidden, room) = (self.facts.hidden, &mut self.room);
        let tokens = room.take(batch, &self.attention);
        let embedded = rows(&self.tokens, &room.ids)?.flatten_all()?.to_vec1::<f32>()?;
        let x = room.x.rows_mut(tokens, hidden);
        let rows = x.chunks_exact_mut(hidden).zip(embedded.chunks_exact(hidden)).zip(&room.positions);
        for ((x, embedded), &position) in rows {
            let position = &self.positions[position as usize * hidden..][..hidden];
            for ((x, embedded), position) in x.iter_mut().zip(embedded).zip(position) {
                *x = embedded + position;
            }
        }
        normalise(room.isa, &self.norm.get(), x);
        let mut kept = Vec::with_capacity(last);
        for (number, layer) in self.layers.iter().enumerate() {
            layer.forward(room, tokens, self.attention, &self.facts);
            if number + last >= self.layers.len() {
                kept.push(room.x.rows(tokens, hidden).to_vec());
            }
        }
        Ok(kept)
    }
}

impl Layer {
    fn load(weights: &Weights, layer: usize, facts: &BertFacts, shelf: &mut Shelf) -> Result<Self, EngineError> {
        let (hidden, intermediate) = (facts.hidden, facts.intermediate);
        let mixed = ["attn_q", "attn_k", "attn_v"].map(|stem| (weight(layer, stem), hidden));
        let linear = |stem, outputs, inputs, shelf: &mut Shelf| {
            Linear::load(weights, &[(weight(layer, stem), outputs)], inputs, shelf)
        };
        Ok(Self {
            mixed: Linear::load(weights, &mixed, hidden, shelf)?,
            output: linear("attn_output", hidden, hidden, shelf)?,
            output_norm: OwnedNorm::load(weights, Some(layer), "attn_output_norm", facts)?,
            up: linear("ffn_up", intermediate, hidden, shelf)?,
            down: linear("ffn_down", hidden, intermediate, shelf)?,
            down_norm: OwnedNorm::load(weights, Some(layer), "layer_output_norm", facts)?,
        })
    }

    /// Takes the residual stream of `tokens` from one layer to the next.
    fn forward(&self, room: &mut Room, tokens: usize, attention: Shape, facts: &BertFacts) {
        let (hidden, intermediate) = (facts.hidden, facts.intermediate);
        let x = left(room.x.rows(tokens, hidden), hidden, self.mixed.group(), &mut room.codes);
        self.mixed.forward(x, room.mixed.rows_mut(tokens, self.mixed.outputs()), Then::Write);
        room.attend(tokens, attention);
        let attended = left(room.attended.rows(tokens, hidden), hidden, self.output.group(), &mut room.codes);
        let x = room.x.rows_mut(tokens, hidden);
        self.output.forward(attended, x, Then::Add);
        normalise(room.isa, &self.output_norm.get(), x);
        let x = left(x, hidden, self.up.group(), &mut room.codes);
        let inner = room.inner.rows_mut(tokens, intermediate);
        self.up.forward(x, inner, Then::Activate(facts.activation.into()));
        let inner = left(inner, intermediate, self.down.group(), &mut room.codes);
        let x = room.x.rows_mut(tokens, hidden);
        self.down.forward(inner, x, Then::Add);
        normalise(room.isa, &self.down_norm.get(), x);
    }
}

impl Backend for FastBert {
    fn name(&self) -> BackendName {
        BackendName::Cpu
    }

    fn shape(&self) -> BatchShape {
        BatchShape::Unpadded
    }

    fn forward(&mut self, batch: &PaddedBatch, layers: usize) -> Result<Output, BackendError> {
        Ok(Output::Tokens(self.run(batch, layers)?))
    }
}
