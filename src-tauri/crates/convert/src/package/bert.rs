//! The program of BERT and XLM-R: the same encoder, whose positions start at different rows of their table.
//!
//! XLM-R counts positions past its padding token. Because padding stands on the right and is masked, a text's positions are
//! the same rows for every text, so there is nothing to look up.

use super::architecture::{Activation, Bert};
use super::chunk::{Start, States, Stretch};
use super::message::DataType;
use super::program::{Builder, Tensor};
use super::segment::MASKED;

/// The hidden states of a stretch of layers.
pub(super) fn states(builder: &mut Builder, bert: &Bert, stretch: &Stretch<'_>) -> States {
    let padding = padding_mask(builder, stretch.mask);
    let mut x = match stretch.start {
        Start::Ids(ids) => embed(builder, bert, ids, stretch.longest),
        Start::Hidden(hidden) => hidden.clone(),
    };
    let mut kept = Vec::new();
    for layer in stretch.layers.clone() {
        x = encode(builder, bert, layer, &x, &padding);
        if layer + stretch.wanted >= bert.layers {
            kept.push(x.clone());
        }
    }
    States { last: x, kept }
}

/// `[1, 1, 1, tokens]`: what is added to the scores of each key.
pub(super) fn padding_mask(builder: &mut Builder, mask: &Tensor) -> Tensor {
    let mask = builder.cast("mask", mask, DataType::Float16);
    let (one, masked) = (builder.number(&mask, 1.0), builder.number(&mask, MASKED));
    let padding = builder.binary("sub", "is_padding", &one, &mask);
    let row = builder.binary("mul", "padding_row", &padding, &masked);
    builder.expand("padding", &row, &[1, 2])
}

fn embed(builder: &mut Builder, bert: &Bert, ids: &Tensor, longest: usize) -> Tensor {
    let length = ids.shape()[1];
    let table = builder.weight("embeddings.word_embeddings.weight");
    let rows = bert.first_position..bert.first_position + longest;
    let mut positions = builder.table("embeddings.position_embeddings.weight", rows, &[1, longest, bert.width]);
    if length < longest {
        positions = builder.beginning("positions", &positions, &[1, length, bert.width]);
    }
    let first_type = builder.table("embeddings.token_type_embeddings.weight", 0..1, &[1, 1, bert.width]);
    let tokens = builder.gather("tokens", &table, ids);
    let placed = builder.binary("add", "tokens_and_positions", &tokens, &positions);
    let typed = builder.binary("add", "embeddings", &placed, &first_type);
    norm(builder, "embeddings_normed", &typed, "embeddings.LayerNorm", bert.epsilon)
}

fn encode(builder: &mut Builder, bert: &Bert, layer: usize, x: &Tensor, padding: &Tensor) -> Tensor {
    let source = |part: &str| format!("encoder.layer.{layer}.{part}");
    let name = |part: &str| format!("layer_{layer}_{part}");
    let (length, width, heads) = (x.shape()[1], bert.width, bert.heads);
    let head = width / heads;
    let project = |builder: &mut Builder, part: &str| {
        let all = linear(builder, &name(part), x, &source(&format!("attention.self.{part}")));
        let split = builder.reshape(&name(&format!("{part}_split")), &all, &[1, length, heads, head]);
        builder.swap_middle(&name(&format!("{part}_heads")), &split)
    };
    let queries = project(builder, "query");
    let keys = project(builder, "key");
    let values = project(builder, "value");
    // Before the product, which could leave half precision's range otherwise.
    let scale = builder.number(&queries, (head as f32).powf(-0.5));
    let queries = builder.binary("mul", &name("query_scaled"), &queries, &scale);
    let scores = builder.matmul(&name("scores"), &queries, &keys, true);
    let masked = builder.binary("add", &name("scores_masked"), &scores, padding);
    let weights = builder.softmax(&name("attention"), &masked);
    let attended = builder.matmul(&name("attended_heads"), &weights, &values, false);
    let attended = builder.swap_middle(&name("attended_split"), &attended);
    let attended = builder.reshape(&name("attended"), &attended, &[1, length, width]);
    let output = linear(builder, &name("attention_output"), &attended, &source("attention.output.dense"));
    let sum = builder.binary("add", &name("attention_sum"), &output, x);
    let x = norm(builder, &name("attention_normed"), &sum, &source("attention.output.LayerNorm"), bert.epsilon);
    let up = linear(builder, &name("inner"), &x, &source("intermediate.dense"));
    let up = match bert.activation {
        Activation::Gelu => builder.gelu(&name("activated"), &up, "EXACT"),
        Activation::GeluTanh => builder.gelu(&name("activated"), &up, "TANH_APPROXIMATION"),
        Activation::Relu => builder.unary("relu", &name("activated"), &up),
    };
    let down = linear(builder, &name("feed_forward"), &up, &source("output.dense"));
    let sum = builder.binary("add", &name("sum"), &down, &x);
    norm(builder, &name("hidden"), &sum, &source("output.LayerNorm"), bert.epsilon)
}

fn linear(builder: &mut Builder, name: &str, x: &Tensor, source: &str) -> Tensor {
    let weight = builder.weight(&format!("{source}.weight"));
    let bias = builder.weight(&format!("{source}.bias"));
    builder.linear(name, x, &weight, &bias)
}

fn norm(builder: &mut Builder, name: &str, x: &Tensor, source: &str, epsilon: f32) -> Tensor {
    let gamma = builder.weight(&format!("{source}.weight"));
    let beta = builder.weight(&format!("{source}.bias"));
    builder.layer_norm(name, x, &gamma, &beta, epsilon)
}
