//! The BERT encoder on the kernels; what it computes is described in [`crate::bert`], which does the same with candle.

use embedbar_kernels::attention::Shape;

use super::{
    encoder::{FastEncoder, Layers},
    layer_norm::LayerNorm,
    matrix::{Linear, Then},
    room::{Room, normalise},
    shelf::Shelf,
    table::Table,
};
use crate::{
    EngineError,
    backend::Backend,
    bert::{positions, vocabulary},
    facts::BertFacts,
    weights::{Weights, weight},
};

/// What a BERT has beside its table of tokens.
struct BertLayers {
    facts: BertFacts,
    /// `[positions][hidden]`.
    positions: Vec<f32>,
    norm: LayerNorm,
    layers: Vec<Layer>,
}

struct Layer {
    mixed: Linear,
    output: Linear,
    output_norm: LayerNorm,
    up: Linear,
    down: Linear,
    down_norm: LayerNorm,
}

/// Packs what a BERT needs from `weights`; the model suits the kernels.
pub(crate) fn load(weights: &Weights, facts: &BertFacts, shelf: &mut Shelf) -> Result<Box<dyn Backend>, EngineError> {
    let tokens = Table::load(weights, weight(None, "token_embd"), [vocabulary(weights)?, facts.hidden])?;
    let layers = (0..facts.layers).map(|layer| Layer::load(weights, layer, facts, shelf)).collect::<Result<_, _>>()?;
    let positions = positions(weights, facts)?
        .flatten_all()
        .and_then(|positions| positions.to_vec1::<f32>())
        .map_err(|error| EngineError::corrupt(weights.files()[0].path(), error))?;
    let norm = LayerNorm::load(weights, None, "token_embd_norm", (facts.hidden, facts.epsilon))?;
    let layers = BertLayers { facts: facts.clone(), positions, norm, layers };
    Ok(Box::new(FastEncoder::new(tokens, facts.hidden, layers)))
}

impl Layers for BertLayers {
    fn attention(&self) -> Shape {
        let BertFacts { hidden, heads, .. } = self.facts;
        let width = hidden / heads;
        Shape { heads, groups: heads, width, causal: false, scale: (width as f32).powf(-0.5) }
    }

    fn count(&self) -> usize {
        self.layers.len()
    }

    fn begin(&mut self, room: &mut Room, tokens: usize) {
        let hidden = self.facts.hidden;
        let x = room.x.rows_mut(tokens, hidden);
        for (x, &position) in x.chunks_exact_mut(hidden).zip(&room.positions) {
            let position = &self.positions[position as usize * hidden..][..hidden];
            for (x, position) in x.iter_mut().zip(position) {
                *x += position;
            }
        }
        normalise(room.isa, &self.norm.get(), x);
    }

    fn forward(&self, number: usize, room: &mut Room, tokens: usize) {
        self.layers[number].forward(room, tokens, self.attention(), &self.facts);
    }
}

impl Layer {
    fn load(weights: &Weights, layer: usize, facts: &BertFacts, shelf: &mut Shelf) -> Result<Self, EngineError> {
        let (hidden, intermediate) = (facts.hidden, facts.intermediate);
        let mixed = ["attn_q", "attn_k", "attn_v"].map(|stem| (weight(layer, stem), hidden));
        let linear = |stem, outputs, inputs, shelf: &mut Shelf| {
            Linear::load(weights, &[(weight(layer, stem), outputs)], inputs, shelf)
        };
        let norm = |stem| LayerNorm::load(weights, Some(layer), stem, (hidden, facts.epsilon));
        Ok(Self {
            mixed: Linear::load(weights, &mixed, hidden, shelf)?,
            output: linear("attn_output", hidden, hidden, shelf)?,
            output_norm: norm("attn_output_norm")?,
            up: linear("ffn_up", intermediate, hidden, shelf)?,
            down: linear("ffn_down", hidden, intermediate, shelf)?,
            down_norm: norm("layer_output_norm")?,
        })
    }

    /// Takes the residual stream of `tokens` from one layer to the next.
    fn forward(&self, room: &mut Room, tokens: usize, attention: Shape, facts: &BertFacts) {
        let (hidden, intermediate) = (facts.hidden, facts.intermediate);
        let x = room.left.of(room.x.rows(tokens, hidden), hidden, self.mixed.wanted());
        self.mixed.forward(x, room.mixed.rows_mut(tokens, self.mixed.outputs()), Then::Write);
        room.attend(tokens, attention);
        let attended = room.left.of(room.attended.rows(tokens, hidden), hidden, self.output.wanted());
        let x = room.x.rows_mut(tokens, hidden);
        self.output.forward(attended, x, Then::Add);
        normalise(room.isa, &self.output_norm.get(), x);
        let x = room.left.of(x, hidden, self.up.wanted());
        let inner = room.inner.rows_mut(tokens, intermediate);
        self.up.forward(x, inner, Then::Activate(facts.activation.into()));
        let inner = room.left.of(inner, intermediate, self.down.wanted());
        let x = room.x.rows_mut(tokens, hidden);
        self.down.forward(inner, x, Then::Add);
        normalise(room.isa, &self.down_norm.get(), x);
    }
}
