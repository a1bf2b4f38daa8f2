//! The NomicBERT encoder on the kernels; what it computes is described in [`crate::nomic_bert`], which does the same with candle.

use embedbar_kernels::{attention::Shape, elementwise::Activation, rotary::Rotary};

use super::{
    encoder::{FastEncoder, Layers},
    layer_norm::LayerNorm,
    matrix::{GatedLinear, Linear, Then},
    room::{Room, normalise},
    shelf::Shelf,
    table::Table,
    turns::{Turns, turn},
};
use crate::{
    EngineError,
    backend::Backend,
    bert::{first_type, vocabulary},
    facts::NomicBertFacts,
    weights::{Weights, weight},
};

/// What a NomicBERT has beside its table of tokens.
struct NomicBertLayers {
    facts: NomicBertFacts,
    /// What every token gets; empty where there are no types.
    first_type: Vec<f32>,
    norm: LayerNorm,
    layers: Vec<Layer>,
    turns: Turns,
    /// Each token's place in the table of turns.
    places: Vec<u32>,
}

struct Layer {
    mixed: Linear,
    output: Linear,
    output_norm: LayerNorm,
    gated: GatedLinear,
    down: Linear,
    down_norm: LayerNorm,
}

/// Packs what a NomicBERT needs from `weights`; the model suits the kernels.
pub(crate) fn load(
    weights: &Weights,
    facts: &NomicBertFacts,
    shelf: &mut Shelf,
) -> Result<Box<dyn Backend>, EngineError> {
    let hidden = facts.hidden;
    let tokens = Table::load(weights, weight(None, "token_embd"), [vocabulary(weights)?, hidden])?;
    let layers = (0..facts.layers).map(|layer| Layer::load(weights, layer, facts, shelf)).collect::<Result<_, _>>()?;
    let first_type = match first_type(weights, hidden)? {
        Some(first) => first.to_vec1().map_err(|error| EngineError::corrupt(weights.files()[0].path(), error))?,
        None => Vec::new(),
    };
    let norm = LayerNorm::load(weights, None, "token_embd_norm", (hidden, facts.epsilon))?;
    let turns = Turns::new(facts.frequencies(0).collect());
    let layers = NomicBertLayers { facts: facts.clone(), first_type, norm, layers, turns, places: Vec::new() };
    Ok(Box::new(FastEncoder::new(tokens, hidden, layers)))
}

impl Layers for NomicBertLayers {
    fn attention(&self) -> Shape {
        let (heads, width) = (self.facts.heads, self.facts.head_width());
        Shape { heads, groups: heads, width, causal: false, scale: (width as f32).powf(-0.5) }
    }

    fn count(&self) -> usize {
        self.layers.len()
    }

    fn begin(&mut self, room: &mut Room, tokens: usize) {
        self.place(&room.offsets);
        let hidden = self.facts.hidden;
        let x = room.x.rows_mut(tokens, hidden);
        if !self.first_type.is_empty() {
            for x in x.chunks_exact_mut(hidden) {
                x.iter_mut().zip(&self.first_type).for_each(|(x, first)| *x += first);
            }
        }
        normalise(room.isa, &self.norm.get(), x);
    }

    fn forward(&self, number: usize, room: &mut Room, tokens: usize) {
        let rotary = Rotary { norm: None, angles: self.turns.angles() };
        self.layers[number].forward(room, tokens, self.attention(), (&rotary, &self.places), &self.facts);
    }
}

impl NomicBertLayers {
    /// Finds each token's place in the table of turns, which gets places of their own for the positions of long texts.
    fn place(&mut self, offsets: &[usize]) {
        let Self { facts, turns, places, .. } = self;
        let lengths = offsets.windows(2).map(|ends| ends[1] - ends[0]);
        turns.up_to(lengths.clone().filter(|&length| !facts.is_stretched(length)).max().unwrap_or(0));
        places.clear();
        for length in lengths {
            let first =
                if facts.is_stretched(length) { turns.append(length, &facts.frequencies(length)) as u32 } else { 0 };
            places.extend(first..first + length as u32);
        }
    }
}

impl Layer {
    fn load(weights: &Weights, layer: usize, facts: &NomicBertFacts, shelf: &mut Shelf) -> Result<Self, EngineError> {
        let (hidden, intermediate) = (facts.hidden, facts.intermediate);
        let linear = |stem, outputs, inputs, shelf: &mut Shelf| {
            Linear::load(weights, &[(weight(layer, stem), outputs)], inputs, shelf)
        };
        let norm = |stem| LayerNorm::load(weights, Some(layer), stem, (hidden, facts.epsilon));
        Ok(Self {
            mixed: linear("attn_qkv", 3 * hidden, hidden, shelf)?,
            output: linear("attn_output", hidden, hidden, shelf)?,
            output_norm: norm("attn_output_norm")?,
            gated: GatedLinear::load(
                weights,
                [weight(layer, "ffn_gate"), weight(layer, "ffn_up")],
                [intermediate, hidden],
                shelf,
            )?,
            down: linear("ffn_down", hidden, intermediate, shelf)?,
            down_norm: norm("layer_output_norm")?,
        })
    }

    /// Takes the residual stream of `tokens` from one layer to the next.
    fn forward(
        &self,
        room: &mut Room,
        tokens: usize,
        attention: Shape,
        (rotary, places): (&Rotary, &[u32]),
        facts: &NomicBertFacts,
    ) {
        let (hidden, intermediate) = (facts.hidden, facts.intermediate);
        let x = room.left.of(room.x.rows(tokens, hidden), hidden, self.mixed.wanted());
        let mixed = room.mixed.rows_mut(tokens, self.mixed.outputs());
        self.mixed.forward(x, mixed, Then::Write);
        turn(room.isa, mixed, places, attention, [*rotary, *rotary]);
        room.attend(tokens, attention);
        let attended = room.left.of(room.attended.rows(tokens, hidden), hidden, self.output.wanted());
        let x = room.x.rows_mut(tokens, hidden);
        self.output.forward(attended, x, Then::Add);
        normalise(room.isa, &self.output_norm.get(), x);
        let x = room.left.of(x, hidden, self.gated.wanted());
        let inner = room.inner.rows_mut(tokens, intermediate);
        let spare = if self.gated.needs_spare() { room.spare.rows_mut(tokens, intermediate) } else { &mut [] };
        self.gated.forward(x, inner, spare, Activation::Silu);
        let inner = room.left.of(inner, intermediate, self.down.wanted());
        let x = room.x.rows_mut(tokens, hidden);
        self.down.forward(inner, x, Then::Add);
        normalise(room.isa, &self.down_norm.get(), x);
    }
}
