//! BERT encoders: MiniLM, bge, e5 (English), gte, arctic-embed.

use serde_json::json;

use super::{Blueprint, Part, Recognised};
use crate::ConvertError;
use crate::configuration::Configuration;
use crate::gguf::Value;
use crate::package::architecture::{Activation, Architecture, Bert, Role};

pub(super) fn blueprint(configuration: &Configuration) -> Result<Blueprint, ConvertError> {
    encoder(configuration, 0, |name| canonical(name.strip_prefix("bert.").unwrap_or(name)))
}

/// An encoder whose table of positions starts with `unused` rows that belong to no token of a text.
pub(super) fn encoder(
    configuration: &Configuration,
    unused: u32,
    recognise: fn(&str) -> Recognised,
) -> Result<Blueprint, ConvertError> {
    let (activation, inexpressible) = activation(configuration)?;
    configuration.only("position_embedding_type", &json!("absolute"))?;
    configuration.only("is_decoder", &json!(false))?;
    let layers = configuration.count("num_hidden_layers", 1..=512)?;
    let width = configuration.count("hidden_size", 1..=65_536)?;
    let inner = configuration.count("intermediate_size", 1..=1_048_576)?;
    let heads = configuration.count("num_attention_heads", 1..=4096)?;
    let vocabulary = configuration.count("vocab_size", 1..=4_194_304)?;
    let positions = configuration.count("max_position_embeddings", 1..=1_048_576)?;
    let types = configuration.count_or("type_vocab_size", 2, 1..=1024)?;
    let epsilon = configuration.positive_or("layer_norm_eps", 1e-12)?;
    let Some(context) = positions.checked_sub(unused).filter(|&context| context > 0) else {
        let problem = format!("of `{positions}` rows, the first `{unused}` are no positions, so none is left");
        return Err(ConvertError::config(&configuration.path, "max_position_embeddings", problem));
    };
    if !width.is_multiple_of(heads) {
        let problem = format!("`{heads}` heads do not divide a width of `{width}`");
        return Err(ConvertError::config(&configuration.path, "num_attention_heads", problem));
    }
    Ok(Blueprint {
        architecture: "bert",
        keys: vec![
            ("block_count", Value::U32(layers)),
            ("context_length", Value::U32(context)),
            ("embedding_length", Value::U32(width)),
            ("feed_forward_length", Value::U32(inner)),
            ("attention.head_count", Value::U32(heads)),
            ("attention.layer_norm_epsilon", Value::F32(epsilon)),
            ("attention.causal", Value::Bool(false)),
        ],
        parts: parts([layers, width, inner, vocabulary, positions, unused, types].map(|size| size as usize)),
        vocabulary,
        token_types: Some(types),
        context,
        sizes: Architecture::Bert(Bert {
            layers: layers as usize,
            width: width as usize,
            inner: inner as usize,
            heads: heads as usize,
            vocabulary: vocabulary as usize,
            positions: positions as usize,
            first_position: unused as usize,
            token_types: types as usize,
            epsilon,
            activation,
        }),
        pooling: None,
        inexpressible,
        recognise,
    })
}

/// The nonlinearity, and what a GGUF file cannot say of it: there is no key for it, and readers assume the customary one.
fn activation(configuration: &Configuration) -> Result<(Activation, Option<String>), ConvertError> {
    let name = configuration.text("hidden_act").unwrap_or("gelu");
    let activation = match name {
        "gelu" => return Ok((Activation::Gelu, None)),
        "gelu_new" | "gelu_pytorch_tanh" => Activation::GeluTanh,
        "relu" => Activation::Relu,
        other => return Err(ConvertError::unsupported(&configuration.path, format!("`hidden_act` = `{other}`"))),
    };
    Ok((activation, Some(format!("`hidden_act` = `{name}` in a GGUF file"))))
}

fn parts(sizes: [usize; 7]) -> Vec<Part> {
    let [layers, width, inner, vocabulary, positions, unused, types] = sizes;
    let part = |source: &str, target: &str, shape: &[usize], role| Part {
        source: source.to_owned(),
        target: target.to_owned(),
        shape: shape.to_vec(),
        skipped_rows: 0,
        role,
    };
    let table = part("embeddings.position_embeddings.weight", "position_embd.weight", &[positions, width], Role::Exact);
    let mut parts = vec![
        part("embeddings.word_embeddings.weight", "token_embd.weight", &[vocabulary, width], Role::Tokens),
        Part { skipped_rows: unused, ..table },
        part("embeddings.token_type_embeddings.weight", "token_types.weight", &[types, width], Role::Exact),
    ];
    let mut pair = |source: &str, target: &str, shape: &[usize]| {
        let role = if shape.len() == 2 { Role::Matrix } else { Role::Exact };
        parts.push(part(&format!("{source}.weight"), &format!("{target}.weight"), shape, role));
        parts.push(part(&format!("{source}.bias"), &format!("{target}.bias"), &shape[..1], Role::Exact));
    };
    pair("embeddings.LayerNorm", "token_embd_norm", &[width]);
    for layer in 0..layers {
        let mut pair = |source: &str, target: &str, shape: &[usize]| {
            pair(&format!("encoder.layer.{layer}.{source}"), &format!("blk.{layer}.{target}"), shape);
        };
        pair("attention.self.query", "attn_q", &[width, width]);
        pair("attention.self.key", "attn_k", &[width, width]);
        pair("attention.self.value", "attn_v", &[width, width]);
        pair("attention.output.dense", "attn_output", &[width, width]);
        pair("attention.output.LayerNorm", "attn_output_norm", &[width]);
        pair("intermediate.dense", "ffn_up", &[inner, width]);
        pair("output.dense", "ffn_down", &[width, inner]);
        pair("output.LayerNorm", "layer_output_norm", &[width]);
    }
    parts
}

/// What a tensor without the prefix of its class is.
pub(super) fn canonical(name: &str) -> Recognised {
    if name.starts_with("pooler.") || matches!(name, "embeddings.position_ids" | "embeddings.token_type_ids") {
        return Recognised::LeftOut;
    }
    // Checkpoints that once came from TensorFlow keep its names for a norm's weight and bias.
    Recognised::Part(if let Some(norm) = name.strip_suffix(".gamma") {
        format!("{norm}.weight")
    } else if let Some(norm) = name.strip_suffix(".beta") {
        format!("{norm}.bias")
    } else {
        name.to_owned()
    })
}
