//! The program of Qwen3.
//!
//! Queries that share keys and values are laid one after the other as more queries of the same key head: a reshape that moves
//! nothing, in place of copies of keys and values. The causal mask is repeated to fit once, not in every layer.

use super::architecture::Qwen3;
use super::bert::padding_mask;
use super::chunk::{Start, States, Stretch};
use super::norm::rms_norm;
use super::program::{Builder, Tensor};
use super::segment::{Constant, RotaryPart};

/// What every layer is given.
struct Shared {
    cosines: Tensor,
    sines: Tensor,
    mask: Tensor,
}

/// The hidden states of a stretch of layers, the model's last one after the final norm.
pub(super) fn states(builder: &mut Builder, qwen3: &Qwen3, stretch: &Stretch<'_>) -> States {
    let shared = shared(builder, qwen3, stretch);
    let (mut x, final_name) = match stretch.start {
        Start::Ids(ids) => {
            let table = builder.weight("embed_tokens.weight");
            (builder.gather("tokens", &table, ids), "hidden")
        }
        // The chunk's input is called `hidden` already.
        Start::Hidden(hidden) => (hidden.clone(), "hidden_normed"),
    };
    let mut kept = Vec::new();
    for layer in stretch.layers.clone() {
        x = decode(builder, qwen3, layer, &x, &shared);
        if layer + 1 == qwen3.layers {
            x = norm(builder, final_name, &x, "norm", qwen3.epsilon);
        }
        if layer + stretch.wanted >= qwen3.layers {
            kept.push(x.clone());
        }
    }
    States { last: x, kept }
}

fn shared(builder: &mut Builder, qwen3: &Qwen3, stretch: &Stretch<'_>) -> Shared {
    let (length, longest) = (stretch.length(), stretch.longest);
    let mut rotary = |name: &str, part| {
        let constant = Constant::Rotary { length: longest, head: qwen3.head, theta: qwen3.theta, part };
        let table = builder.computed(name, &[1, 1, longest, qwen3.head], constant);
        if length == longest {
            return table;
        }
        builder.beginning(&format!("{name}_used"), &table, &[1, 1, length, qwen3.head])
    };
    let (cosines, sines) = (rotary("rotary_cosines", RotaryPart::Cosines), rotary("rotary_sines", RotaryPart::Sines));
    let causal = causal(builder, qwen3.heads / qwen3.groups, length, longest);
    let padding = padding_mask(builder, stretch.mask);
    Shared { cosines, sines, mask: builder.binary("add", "mask_for_scores", &causal, &padding) }
}

/// `[1, 1, repeats * length, length]`. A shorter one is cut out of each repetition of the longest, which is a constant still:
/// Core ML can do it once, when it compiles the package.
fn causal(builder: &mut Builder, repeats: usize, length: usize, longest: usize) -> Tensor {
    let constant = Constant::Causal { length: longest, repeats };
    if length == longest {
        return builder.computed("causal", &[1, 1, repeats * length, length], constant);
    }
    let all = builder.computed("causal", &[1, repeats, longest, longest], constant);
    let used = builder.beginning("causal_used", &all, &[1, repeats, length, length]);
    builder.reshape("causal_rows", &used, &[1, 1, repeats * length, length])
}

fn decode(builder: &mut Builder, qwen3: &Qwen3, layer: usize, x: &Tensor, shared: &Shared) -> Tensor {
    let source = |part: &str| format!("layers.{layer}.{part}");
    let name = |part: &str| format!("layer_{layer}_{part}");
    let &Qwen3 { heads, groups, head, epsilon, .. } = qwen3;
    let length = x.shape()[1];
    let normed = norm(builder, &name("normed"), x, &source("input_layernorm"), epsilon);
    let project = |builder: &mut Builder, part: &str, heads: usize| {
        let all = linear(builder, &name(part), &normed, &source(&format!("self_attn.{part}")));
        builder.reshape(&name(&format!("{part}_split")), &all, &[1, length, heads, head])
    };
    let turned = |builder: &mut Builder, part: &str, heads: usize| {
        let split = project(builder, &format!("{part}_proj"), heads);
        let normed = norm(
            builder,
            &name(&format!("{part}_normed")),
            &split,
            &source(&format!("self_attn.{part}_norm")),
            epsilon,
        );
        let heads = builder.swap_middle(&name(&format!("{part}_heads")), &normed);
        rotate(builder, &name(&format!("{part}_turned")), &heads, shared)
    };
    let queries = turned(builder, "q", heads);
    let keys = turned(builder, "k", groups);
    let values = project(builder, "v_proj", groups);
    let values = builder.swap_middle(&name("v_heads"), &values);
    // Before the product, which could leave half precision's range otherwise.
    let scale = builder.number(&queries, (head as f32).powf(-0.5));
    let queries = builder.binary("mul", &name("q_scaled"), &queries, &scale);
    let queries = builder.reshape(&name("q_grouped"), &queries, &[1, groups, heads / groups * length, head]);
    let scores = builder.matmul(&name("scores"), &queries, &keys, true);
    let masked = builder.binary("add", &name("scores_masked"), &scores, &shared.mask);
    let weights = builder.softmax(&name("attention"), &masked);
    let attended = builder.matmul(&name("attended_grouped"), &weights, &values, false);
    let attended = builder.reshape(&name("attended_heads"), &attended, &[1, heads, length, head]);
    let attended = builder.swap_middle(&name("attended_split"), &attended);
    let attended = builder.reshape(&name("attended"), &attended, &[1, length, heads * head]);
    let output = linear(builder, &name("o_proj"), &attended, &source("self_attn.o_proj"));
    let x = builder.binary("add", &name("attention_sum"), x, &output);
    let normed = norm(builder, &name("feed_normed"), &x, &source("post_attention_layernorm"), epsilon);
    let gate = linear(builder, &name("gate_proj"), &normed, &source("mlp.gate_proj"));
    let gate = builder.unary("silu", &name("gate"), &gate);
    let up = linear(builder, &name("up_proj"), &normed, &source("mlp.up_proj"));
    let gated = builder.binary("mul", &name("gated"), &gate, &up);
    let down = linear(builder, &name("down_proj"), &gated, &source("mlp.down_proj"));
    builder.binary("add", &name("sum"), &x, &down)
}

/// Turns each pair of numbers of a head by the angle of its position. The sign of the sines is in their table.
fn rotate(builder: &mut Builder, name: &str, x: &Tensor, shared: &Shared) -> Tensor {
    let straight = builder.binary("mul", &format!("{name}_cosines"), x, &shared.cosines);
    let swapped = builder.swap_halves(&format!("{name}_swapped"), x);
    let across = builder.binary("mul", &format!("{name}_sines"), &swapped, &shared.sines);
    builder.binary("add", name, &straight, &across)
}

fn linear(builder: &mut Builder, name: &str, x: &Tensor, source: &str) -> Tensor {
    let weight = builder.weight(&format!("{source}.weight"));
    let bias = builder.no_bias(weight.shape()[0]);
    builder.linear(name, x, &weight, &bias)
}

fn norm(builder: &mut Builder, name: &str, x: &Tensor, source: &str, epsilon: f32) -> Tensor {
    let weight = builder.weight(&format!("{source}.weight"));
    rms_norm(builder, name, x, &weight, epsilon)
}
