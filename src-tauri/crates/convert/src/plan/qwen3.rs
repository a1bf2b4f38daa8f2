//! Qwen3 decoders used as encoders: Qwen3-Embedding.

use serde_json::{Value as Json, json};

use super::{Blueprint, Part, Recognised};
use crate::configuration::Configuration;
use crate::gguf::Value;
use crate::package::architecture::{Architecture, Qwen3, Role};
use crate::{ConvertError, Pooling};

/// The table of tokens.
const TOKENS: &str = "embed_tokens.weight";

/// The sizes that shapes follow from.
struct Sizes {
    layers: u32,
    width: u32,
    inner: u32,
    heads: u32,
    kv_heads: u32,
    head: u32,
    vocabulary: u32,
}

pub(super) fn blueprint(configuration: &Configuration) -> Result<Blueprint, ConvertError> {
    configuration.only("hidden_act", &json!("silu"))?;
    configuration.only("attention_bias", &json!(false))?;
    configuration.only("use_sliding_window", &json!(false))?;
    let sizes = sizes(configuration)?;
    let context = configuration.count("max_position_embeddings", 1..=1_048_576)?;
    let epsilon = configuration.positive_or("rms_norm_eps", 1e-6)?;
    let base = rope_base(configuration)?;
    Ok(Blueprint {
        architecture: "qwen3",
        keys: vec![
            ("block_count", Value::U32(sizes.layers)),
            ("context_length", Value::U32(context)),
            ("embedding_length", Value::U32(sizes.width)),
            ("feed_forward_length", Value::U32(sizes.inner)),
            ("attention.head_count", Value::U32(sizes.heads)),
            ("attention.head_count_kv", Value::U32(sizes.kv_heads)),
            ("attention.key_length", Value::U32(sizes.head)),
            ("attention.value_length", Value::U32(sizes.head)),
            ("attention.layer_norm_rms_epsilon", Value::F32(epsilon)),
            ("rope.dimension_count", Value::U32(sizes.head)),
            ("rope.freq_base", Value::F32(base)),
        ],
        parts: parts(&sizes),
        vocabulary: sizes.vocabulary,
        token_types: None,
        context,
        sizes: Architecture::Qwen3(Qwen3 {
            layers: sizes.layers as usize,
            width: sizes.width as usize,
            inner: sizes.inner as usize,
            heads: sizes.heads as usize,
            groups: sizes.kv_heads as usize,
            head: sizes.head as usize,
            vocabulary: sizes.vocabulary as usize,
            positions: context as usize,
            epsilon,
            theta: base,
        }),
        pooling: Some(Pooling::Last),
        inexpressible: None,
        recognise,
    })
}

fn sizes(configuration: &Configuration) -> Result<Sizes, ConvertError> {
    let heads = configuration.count("num_attention_heads", 1..=4096)?;
    let kv_heads = configuration.count("num_key_value_heads", 1..=4096)?;
    if !heads.is_multiple_of(kv_heads) {
        let problem = format!("`{kv_heads}` key-value heads do not divide `{heads}` heads");
        return Err(ConvertError::config(&configuration.path, "num_key_value_heads", problem));
    }
    Ok(Sizes {
        layers: configuration.count("num_hidden_layers", 1..=512)?,
        width: configuration.count("hidden_size", 1..=65_536)?,
        inner: configuration.count("intermediate_size", 1..=1_048_576)?,
        heads,
        kv_heads,
        // The default of transformers' Qwen3Config. It is not the width divided by the heads.
        head: configuration.count_or("head_dim", 128, 2..=256)?,
        vocabulary: configuration.count("vocab_size", 1..=4_194_304)?,
    })
}

/// The base of the rotary embedding, as older (`rope_theta`) and newer (`rope_parameters`) versions of transformers write it.
fn rope_base(configuration: &Configuration) -> Result<f32, ConvertError> {
    for key in ["rope_scaling", "rope_parameters"] {
        let scaled = configuration.value(key);
        let kind = scaled.and_then(|scaled| scaled.get("rope_type").or_else(|| scaled.get("type")));
        if scaled.is_some() && kind.is_some_and(|kind| kind != &json!("default")) {
            let what = format!("`{key}` = `{}`", scaled.unwrap_or(&Json::Null));
            return Err(ConvertError::unsupported(&configuration.path, what));
        }
    }
    let nested = configuration.value("rope_parameters").and_then(|rope| rope.get("rope_theta"));
    match nested.or_else(|| configuration.value("rope_theta")) {
        Some(base) => configuration.positive("rope_theta", base),
        None => Err(ConvertError::config(&configuration.path, "rope_theta", "it is missing")),
    }
}

fn parts(sizes: &Sizes) -> Vec<Part> {
    let [width, inner, head, vocabulary] =
        [sizes.width, sizes.inner, sizes.head, sizes.vocabulary].map(|size| size as usize);
    let (queries, keys) = (sizes.heads as usize * head, sizes.kv_heads as usize * head);
    let mut parts = Vec::new();
    let mut part = |source: String, target: String, shape: &[usize]| {
        let role = match shape.len() {
            2 if source == TOKENS => Role::Tokens,
            2 => Role::Matrix,
            _ => Role::Exact,
        };
        parts.push(Part { source, target, shape: shape.to_vec(), skipped_rows: 0, role });
    };
    part(TOKENS.into(), "token_embd.weight".into(), &[vocabulary, width]);
    part("norm.weight".into(), "output_norm.weight".into(), &[width]);
    for layer in 0..sizes.layers {
        let mut part = |source: &str, target: &str, shape: &[usize]| {
            part(format!("layers.{layer}.{source}.weight"), format!("blk.{layer}.{target}.weight"), shape);
        };
        part("input_layernorm", "attn_norm", &[width]);
        part("self_attn.q_proj", "attn_q", &[queries, width]);
        part("self_attn.k_proj", "attn_k", &[keys, width]);
        part("self_attn.v_proj", "attn_v", &[keys, width]);
        part("self_attn.o_proj", "attn_output", &[width, queries]);
        part("self_attn.q_norm", "attn_q_norm", &[head]);
        part("self_attn.k_norm", "attn_k_norm", &[head]);
        part("post_attention_layernorm", "ffn_norm", &[width]);
        part("mlp.gate_proj", "ffn_gate", &[inner, width]);
        part("mlp.up_proj", "ffn_up", &[inner, width]);
        part("mlp.down_proj", "ffn_down", &[width, inner]);
    }
    parts
}

fn recognise(name: &str) -> Recognised {
    let name = name.strip_prefix("model.").unwrap_or(name);
    // The head predicts tokens; the inverse frequencies are a buffer that follows from the base.
    if name == "lm_head.weight" || name.ends_with("rotary_emb.inv_freq") {
        return Recognised::LeftOut;
    }
    Recognised::Part(name.to_owned())
}
