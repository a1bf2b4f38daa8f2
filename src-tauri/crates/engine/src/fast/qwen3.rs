//! The Qwen3 encoder on the kernels; what it computes is described in [`crate::qwen3`], which does the same with candle.

use embedbar_kernels::{
    Isa,
    attention::Shape,
    elementwise::Activation,
    norm::{Norm, NormKind},
    rotary::Rotary,
};

use super::{
    encoder::{FastEncoder, Layers},
    matrix::{GatedLinear, Linear, Then},
    room::Room,
    shelf::Shelf,
    table::Table,
    team,
    turns::{Turns, turn},
};
use crate::{
    EngineError,
    backend::Backend,
    bert::vocabulary,
    facts::Qwen3Facts,
    weights::{Weights, weight},
};

/// Rows that are normed at a time.
const ROWS: usize = 8;

/// What a Qwen3 has beside its table of tokens.
struct Qwen3Layers {
    facts: Qwen3Facts,
    layers: Vec<Layer>,
    norm: Vec<f32>,
    turns: Turns,
}

struct Layer {
    norm: Vec<f32>,
    mixed: Linear,
    queries_norm: Vec<f32>,
    keys_norm: Vec<f32>,
    output: Linear,
    feed_norm: Vec<f32>,
    gated: GatedLinear,
    down: Linear,
}

fn root_mean_square(weight: &[f32], epsilon: f32) -> Norm<'_> {
    Norm { kind: NormKind::RootMeanSquare, weight, bias: None, epsilon }
}

/// Packs what a Qwen3 needs from `weights`; the model suits the kernels.
pub(crate) fn load(weights: &Weights, facts: &Qwen3Facts, shelf: &mut Shelf) -> Result<Box<dyn Backend>, EngineError> {
    let tokens = Table::load(weights, weight(None, "token_embd"), [vocabulary(weights)?, facts.hidden])?;
    let layers = (0..facts.layers).map(|layer| Layer::load(weights, layer, facts, shelf)).collect::<Result<_, _>>()?;
    let norm = weights.numbers(weight(None, "output_norm"), &[facts.hidden])?;
    let turns = Turns::new(facts.frequencies());
    let layers = Qwen3Layers { facts: facts.clone(), layers, norm, turns };
    Ok(Box::new(FastEncoder::new(tokens, facts.hidden, layers)))
}

impl Layers for Qwen3Layers {
    fn attention(&self) -> Shape {
        let Qwen3Facts { heads, groups, head_width: width, .. } = self.facts;
        Shape { heads, groups, width, causal: true, scale: (width as f32).powf(-0.5) }
    }

    fn count(&self) -> usize {
        self.layers.len()
    }

    fn begin(&mut self, room: &mut Room, _tokens: usize) {
        let longest = room.positions.iter().max().map_or(0, |&last| last as usize + 1);
        self.turns.up_to(longest);
    }

    fn forward(&self, number: usize, room: &mut Room, tokens: usize) {
        self.layers[number].forward(room, tokens, self.attention(), &self.turns, &self.facts);
    }

    fn end(&self, isa: Isa, states: &mut [f32]) {
        root_mean_square(&self.norm, self.facts.epsilon).apply_in_place(isa, states);
    }
}

impl Layer {
    fn load(weights: &Weights, layer: usize, facts: &Qwen3Facts, shelf: &mut Shelf) -> Result<Self, EngineError> {
        let Qwen3Facts { hidden, intermediate, head_width, .. } = *facts;
        let (all, shared) = (facts.heads * head_width, facts.groups * head_width);
        let mixed = [("attn_q", all), ("attn_k", shared), ("attn_v", shared)];
        let mixed = mixed.map(|(stem, outputs)| (weight(layer, stem), outputs));
        let norm = |stem, width| weights.numbers(weight(layer, stem), &[width]);
        let linear = |stem, outputs, inputs, shelf: &mut Shelf| {
            Linear::load(weights, &[(weight(layer, stem), outputs)], inputs, shelf)
        };
        Ok(Self {
            norm: norm("attn_norm", hidden)?,
            mixed: Linear::load(weights, &mixed, hidden, shelf)?,
            queries_norm: norm("attn_q_norm", head_width)?,
            keys_norm: norm("attn_k_norm", head_width)?,
            output: linear("attn_output", hidden, all, shelf)?,
            feed_norm: norm("ffn_norm", hidden)?,
            gated: GatedLinear::load(
                weights,
                [weight(layer, "ffn_gate"), weight(layer, "ffn_up")],
                [intermediate, hidden],
                shelf,
            )?,
            down: linear("ffn_down", hidden, intermediate, shelf)?,
        })
    }

    /// Takes the residual stream of `tokens` from one layer to the next.
    fn forward(&self, room: &mut Room, tokens: usize, attention: Shape, turns: &Turns, facts: &Qwen3Facts) {
        let Qwen3Facts { hidden, intermediate, epsilon, .. } = *facts;
        let isa = room.isa;
        let normed = normed(isa, &root_mean_square(&self.norm, epsilon), room, tokens);
        let x = room.left.of(room.normed.rows(tokens, normed), hidden, self.mixed.wanted());
        let mixed = room.mixed.rows_mut(tokens, self.mixed.outputs());
        self.mixed.forward(x, mixed, Then::Write);
        self.turn(isa, mixed, &room.positions, attention, turns, epsilon);
        room.attend(tokens, attention);
        let width = attention.heads * attention.width;
        let attended = room.left.of(room.attended.rows(tokens, width), width, self.output.wanted());
        self.output.forward(attended, room.x.rows_mut(tokens, hidden), Then::Add);
        self::normed(isa, &root_mean_square(&self.feed_norm, epsilon), room, tokens);
        let x = room.left.of(room.normed.rows(tokens, hidden), hidden, self.gated.wanted());
        let inner = room.inner.rows_mut(tokens, intermediate);
        let spare = if self.gated.needs_spare() { room.spare.rows_mut(tokens, intermediate) } else { &mut [] };
        self.gated.forward(x, inner, spare, Activation::Silu);
        let inner = room.left.of(inner, intermediate, self.down.wanted());
        self.down.forward(inner, room.x.rows_mut(tokens, hidden), Then::Add);
    }

    /// Norms and turns the heads of queries and keys.
    fn turn(&self, isa: Isa, mixed: &mut [f32], positions: &[u32], shape: Shape, turns: &Turns, epsilon: f32) {
        let angles = turns.angles();
        let queries = Rotary { norm: Some(root_mean_square(&self.queries_norm, epsilon)), angles };
        let keys = Rotary { norm: Some(root_mean_square(&self.keys_norm, epsilon)), angles };
        turn(isa, mixed, positions, shape, [queries, keys]);
    }
}

/// Writes the normed residual stream beside it, and gives its width.
fn normed(isa: Isa, norm: &Norm, room: &mut Room, tokens: usize) -> usize {
    let width = norm.weight.len();
    let Room { x, normed, .. } = room;
    let x = x.rows(tokens, width);
    team().for_each_piece(normed.rows_mut(tokens, width), ROWS * width, |piece, rows| {
        norm.apply(isa, &x[piece * ROWS * width..][..rows.len()], rows);
    });
    width
}
