//! The Qwen3 encoder on the kernels; what it computes is described in [`crate::qwen3`], which does the same with candle.

use candle_core::quantized::QTensor;
use embedbar_contract::BackendName;
use embedbar_kernels::{
    Isa,
    attention::Shape,
    elementwise::Activation,
    norm::{Norm, NormKind},
    rotary::{Angles, Heads, Rotary},
};

use super::{
    matrix::{GatedLinear, Linear, Then},
    room::{Room, left},
    shelf::Shelf,
    team,
};
use crate::{
    EngineError,
    backend::{Backend, BackendError, BatchShape, Output, PaddedBatch},
    bert::vocabulary,
    facts::Qwen3Facts,
    weights::{Weights, rows, weight},
};

/// Rows that are normed and turned at a time.
const ROWS: usize = 8;

/// A loaded Qwen3.
pub(crate) struct FastQwen3 {
    facts: Qwen3Facts,
    attention: Shape,
    tokens: QTensor,
    layers: Vec<Layer>,
    norm: Vec<f32>,
    turns: Turns,
    room: Room,
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

/// Cosines and sines of rotary positions, made for the longest text so far.
struct Turns {
    frequencies: Vec<f32>,
    cosines: Vec<f32>,
    sines: Vec<f32>,
}

impl Turns {
    fn up_to(&mut self, length: usize) {
        let half = self.frequencies.len();
        for position in self.cosines.len() / half..length {
            let angles = self.frequencies.iter().map(|frequency| position as f32 * frequency);
            self.cosines.extend(angles.clone().map(f32::cos));
            self.sines.extend(angles.map(f32::sin));
        }
    }

    fn angles(&self) -> Angles<'_> {
        Angles { cosines: &self.cosines, sines: &self.sines }
    }
}

fn root_mean_square(weight: &[f32], epsilon: f32) -> Norm<'_> {
    Norm { kind: NormKind::RootMeanSquare, weight, bias: None, epsilon }
}

impl FastQwen3 {
    /// Packs what it needs from `weights`; the model suits the kernels.
    pub(crate) fn load(weights: &Weights, facts: &Qwen3Facts, shelf: &mut Shelf) -> Result<Self, EngineError> {
        let tokens = weights.table(weight(None, "token_embd"), &[vocabulary(weights)?, facts.hidden])?;
        let layers =
            (0..facts.layers).map(|layer| Layer::load(weights, layer, facts, shelf)).collect::<Result<_, _>>()?;
        let norm = weights.numbers(weight(None, "output_norm"), &[facts.hidden])?;
        Ok(Self {
            facts: facts.clone(),
            attention: Shape {
                heads: facts.heads,
                groups: facts.groups,
                width: facts.head_width,
                causal: true,
                scale: (facts.head_width as f32).powf(-0.5),
            },
            tokens,
            layers,
            norm,
            turns: Turns { frequencies: facts.frequencies(), cosines: Vec::new(), sines: Vec::new() },
            room: Room::new(),
        })
    }

    fn run(&mut self, batch: &PaddedBatch, last: usize) -> candle_core::Result<Vec<Vec<f32>>> {
        let (hidden, room) = (self.facts.hidden, &mut self.room);
        let tokens = room.take(batch, &self.attention);
        self.turns.up_to(batch.lengths.iter().copied().max().unwrap_or(0));
        let embedded = rows(&self.tokens, &room.ids)?.flatten_all()?.to_vec1::<f32>()?;
        room.x.rows_mut(tokens, hidden).copy_from_slice(&embedded);
        let mut kept = Vec::with_capacity(last);
        for (number, layer) in self.layers.iter().enumerate() {
            layer.forward(room, tokens, self.attention, &self.turns, &self.facts);
            if number + last >= self.layers.len() {
                kept.push(room.x.rows(tokens, hidden).to_vec());
            }
        }
        if let Some(final_states) = kept.last_mut() {
            root_mean_square(&self.norm, self.facts.epsilon).apply_in_place(room.isa, final_states);
        }
        Ok(kept)
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
        let x = left(room.normed.rows(tokens, normed), hidden, self.mixed.group(), &mut room.codes);
        let mixed = room.mixed.rows_mut(tokens, self.mixed.outputs());
        self.mixed.forward(x, mixed, Then::Write);
        self.turn(isa, mixed, &room.positions, attention, turns, epsilon);
        room.attend(tokens, attention);
        let width = attention.heads * attention.width;
        let attended = left(room.attended.rows(tokens, width), width, self.output.group(), &mut room.codes);
        self.output.forward(attended, room.x.rows_mut(tokens, hidden), Then::Add);
        self::normed(isa, &root_mean_square(&self.feed_norm, epsilon), room, tokens);
        let x = left(room.normed.rows(tokens, hidden), hidden, self.gated.group(), &mut room.codes);
        let inner = room.inner.rows_mut(tokens, intermediate);
        let spare = if self.gated.needs_spare() { room.spare.rows_mut(tokens, intermediate) } else { &mut [] };
        self.gated.forward(x, inner, spare, Activation::Silu);
        let inner = left(inner, intermediate, self.down.group(), &mut room.codes);
        self.down.forward(inner, room.x.rows_mut(tokens, hidden), Then::Add);
    }

    /// Norms and turns the heads of queries and keys.
    fn turn(&self, isa: Isa, mixed: &mut [f32], positions: &[u32], shape: Shape, turns: &Turns, epsilon: f32) {
        let Shape { heads, groups, width, .. } = shape;
        let stride = (heads + 2 * groups) * width;
        let angles = turns.angles();
        let queries = Rotary { norm: Some(root_mean_square(&self.queries_norm, epsilon)), angles };
        let keys = Rotary { norm: Some(root_mean_square(&self.keys_norm, epsilon)), angles };
        team().for_each_piece(mixed, ROWS * stride, |piece, rows| {
            let positions = &positions[piece * ROWS..][..rows.len() / stride];
            queries.apply(isa, rows, Heads { stride, column: 0, count: heads, width }, positions);
            keys.apply(isa, rows, Heads { stride, column: heads * width, count: groups, width }, positions);
        });
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

impl Backend for FastQwen3 {
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
