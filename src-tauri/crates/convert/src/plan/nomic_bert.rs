//! NomicBERT encoders: nomic-embed-text v1 and v1.5, snowflake-arctic-embed-m-long.
//!
//! Configurations are the authors' own, with GPT-2's names, or transformers'; tensors have the authors' names in both. A GGUF
//! file has no word for the way in which positions of texts beyond the training's length turn (dynamic NTK), so the target is
//! said to read texts up to that length, as the authors' own files are.

use serde_json::{Value as Json, json};

use super::{Blueprint, Part, Recognised};
use crate::ConvertError;
use crate::configuration::Configuration;
use crate::gguf::Value;
use crate::package::architecture::{Architecture, NomicBert, Role};

/// Tokens that the authors' code takes a model to have been trained with where its configuration does not say it.
const TRAINED: u32 = 2048;
/// Options that change what is computed.
const OFF: [&str; 9] = [
    "causal",
    "prenorm",
    "parallel_block",
    "use_rms_norm",
    "rotary_emb_interleaved",
    "qkv_proj_bias",
    "mlp_fc1_bias",
    "mlp_fc2_bias",
    "is_decoder",
];

pub(super) fn blueprint(configuration: &Configuration) -> Result<Blueprint, ConvertError> {
    let authors = configuration.value("n_embd").is_some();
    refuse_variants(configuration, authors)?;
    let named = |old, new| if authors { old } else { new };
    let layers = configuration.count(named("n_layer", "num_hidden_layers"), 1..=512)?;
    let width = configuration.count(named("n_embd", "hidden_size"), 1..=65_536)?;
    let inner = configuration.count(named("n_inner", "intermediate_size"), 1..=1_048_576)?;
    let heads = configuration.count(named("n_head", "num_attention_heads"), 1..=4096)?;
    let vocabulary = configuration.count("vocab_size", 1..=4_194_304)?;
    let types = configuration.count_or("type_vocab_size", 2, 1..=1024)?;
    let epsilon =
        configuration.positive_or(named("layer_norm_epsilon", "layer_norm_eps"), if authors { 1e-5 } else { 1e-12 })?;
    let trained = match (configuration.value("max_trained_positions"), authors) {
        (None, false) => configuration.count("max_position_embeddings", 1..=1_048_576)?,
        _ => configuration.count_or("max_trained_positions", TRAINED, 1..=1_048_576)?,
    };
    let context = trained.min(configuration.count_or("n_positions", trained, 1..=1_048_576)?);
    let theta = rope_base(configuration, authors)?;
    if !width.is_multiple_of(2 * heads) {
        let problem = format!("`{heads}` heads do not divide a width of `{width}` into even numbers");
        return Err(ConvertError::config(&configuration.path, named("n_head", "num_attention_heads"), problem));
    }
    Ok(Blueprint {
        architecture: "nomic-bert",
        keys: vec![
            ("block_count", Value::U32(layers)),
            ("context_length", Value::U32(context)),
            ("embedding_length", Value::U32(width)),
            ("feed_forward_length", Value::U32(inner)),
            ("attention.head_count", Value::U32(heads)),
            ("attention.layer_norm_epsilon", Value::F32(epsilon)),
            ("attention.causal", Value::Bool(false)),
            ("rope.freq_base", Value::F32(theta)),
        ],
        parts: parts([layers, width, inner, vocabulary, types].map(|size| size as usize)),
        vocabulary,
        token_types: Some(types),
        context,
        sizes: Architecture::NomicBert(NomicBert {
            layers: layers as usize,
            width: width as usize,
            inner: inner as usize,
            heads: heads as usize,
            vocabulary: vocabulary as usize,
            positions: context as usize,
            epsilon,
            theta,
        }),
        pooling: None,
        inexpressible: None,
        recognise,
    })
}

fn refuse_variants(configuration: &Configuration, authors: bool) -> Result<(), ConvertError> {
    match (configuration.text("activation_function"), configuration.text("hidden_act")) {
        (Some("swiglu"), _) | (None, Some("silu")) => {}
        (None, None) => return Err(ConvertError::config(&configuration.path, "hidden_act", "it is missing")),
        (Some(other), _) | (None, Some(other)) => {
            return Err(ConvertError::unsupported(&configuration.path, format!("the activation `{other}`")));
        }
    }
    for option in OFF {
        configuration.only(option, &json!(false))?;
    }
    configuration.only("moe_every_n_layers", &json!(0))?;
    configuration.only("rotary_emb_scale_base", &Json::Null)?;
    let turning =
        configuration.value("rotary_emb_fraction").map_or(Some(if authors { 0.0 } else { 1.0 }), Json::as_f64);
    if turning.is_none_or(|turning| turning < 1.0) {
        return Err(ConvertError::unsupported(&configuration.path, "partial rotary positions"));
    }
    Ok(())
}

/// The base of the rotary embedding for texts up to the training's length.
fn rope_base(configuration: &Configuration, authors: bool) -> Result<f32, ConvertError> {
    if authors {
        return configuration.positive_or("rotary_emb_base", 10_000.0);
    }
    let Some(rope) = configuration.value("rope_parameters").or(configuration.value("rope_scaling")) else {
        // The default of transformers' NomicBertConfig.
        return configuration.positive_or("rope_theta", 1000.0);
    };
    let kind = rope.get("rope_type").or_else(|| rope.get("type")).and_then(Json::as_str).unwrap_or("default");
    let whole = rope.get("partial_rotary_factor").is_none_or(|part| part.as_f64() == Some(1.0));
    if !matches!(kind, "default" | "dynamic") || !whole {
        return Err(ConvertError::unsupported(&configuration.path, format!("`rope_parameters` = `{rope}`")));
    }
    rope.get("rope_theta").map_or(Ok(1000.0), |theta| configuration.positive("rope_theta", theta))
}

fn parts([layers, width, inner, vocabulary, types]: [usize; 5]) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut part = |source: &str, target: &str, shape: &[usize], role| {
        let (source, target) = (format!("{source}.weight"), format!("{target}.weight"));
        parts.push(Part { source, target, shape: shape.to_vec(), skipped_rows: 0, role });
    };
    part("embeddings.word_embeddings", "token_embd", &[vocabulary, width], Role::Tokens);
    part("embeddings.token_type_embeddings", "token_types", &[types, width], Role::Exact);
    let block = |layer: usize, source: &str, target: &str| {
        (format!("encoder.layers.{layer}.{source}"), format!("blk.{layer}.{target}"))
    };
    for layer in 0..layers {
        // The second of the inner matrices is the gate, whatever their numbers suggest.
        for (source, target, shape) in [
            ("attn.Wqkv", "attn_qkv", [3 * width, width]),
            ("attn.out_proj", "attn_output", [width, width]),
            ("mlp.fc11", "ffn_up", [inner, width]),
            ("mlp.fc12", "ffn_gate", [inner, width]),
            ("mlp.fc2", "ffn_down", [width, inner]),
        ] {
            let (source, target) = block(layer, source, target);
            part(&source, &target, &shape, Role::Matrix);
        }
    }
    let norms = (0..layers).flat_map(|layer| {
        [("norm1", "attn_output_norm"), ("norm2", "layer_output_norm")]
            .map(|(source, target)| block(layer, source, target))
    });
    let mut norms: Vec<(String, String)> = norms.collect();
    norms.push(("emb_ln".to_owned(), "token_embd_norm".to_owned()));
    for (source, target) in norms {
        for half in ["weight", "bias"] {
            let (source, target) = (format!("{source}.{half}"), format!("{target}.{half}"));
            parts.push(Part { source, target, shape: vec![width], skipped_rows: 0, role: Role::Exact });
        }
    }
    parts
}

fn recognise(name: &str) -> Recognised {
    let name = name.strip_prefix("nomic_bert.").or(name.strip_prefix("bert.")).unwrap_or(name);
    // The head predicts tokens, the pooler classes; the inverse frequencies follow from the base.
    let left_out = name.starts_with("cls.") || name.starts_with("pooler.") || name.ends_with("inv_freq");
    if left_out { Recognised::LeftOut } else { Recognised::Part(name.to_owned()) }
}
