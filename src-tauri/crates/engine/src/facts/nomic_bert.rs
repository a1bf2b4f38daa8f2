//! Figures of a NomicBERT encoder: nomic-embed-text v1 and v1.5, and what was made of the same base.
//!
//! Two generations of configurations are read: the authors' own, with GPT-2's names, and transformers'. The mixture of experts
//! (v2) is refused, and so is every option that no published model of one dense network uses.

use super::{EPSILON, HEADS, INTERMEDIATE, LAYERS, POSITIONS, Settings, THETA, WIDTH};
use crate::EngineError;

/// Tokens that the authors' code takes a model to have been trained with where its configuration does not say it.
const TRAINED: usize = 2048;
const FACTOR: std::ops::RangeInclusive<f64> = 1.0..=1024.0;
/// Options that change what is computed, and that are off in every model of this family.
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

/// Figures of a NomicBERT encoder.
#[derive(Clone, Debug)]
pub(crate) struct NomicBertFacts {
    pub(crate) hidden: usize,
    pub(crate) layers: usize,
    pub(crate) heads: usize,
    pub(crate) intermediate: usize,
    /// The most tokens of a text.
    pub(crate) positions: usize,
    pub(crate) epsilon: f32,
    pub(crate) theta: f32,
    /// How positions of texts beyond the training's length turn; `None` where such texts are not read.
    pub(crate) stretch: Option<Stretch>,
}

/// Dynamic NTK: the base of a longer text's rotary positions grows with its own length.
///
/// The reference implementations take the length of a batch's longest text, so that a vector depends on its company; for one
/// text at a time the two are the same.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Stretch {
    pub(crate) factor: f32,
    /// Tokens of the longest text that is not stretched.
    pub(crate) trained: usize,
}

impl NomicBertFacts {
    /// From `config.json`.
    pub(crate) fn from_config(settings: &Settings) -> Result<Self, EngineError> {
        refuse_variants(settings)?;
        let named = |names: [&'static str; 2]| names.into_iter().find(|name| settings.get(name).is_some());
        let count = |names: [&'static str; 2], range| settings.integer(named(names).unwrap_or(names[1]), range);
        let epsilon = named(["layer_norm_epsilon", "layer_norm_eps"]).unwrap_or("layer_norm_eps");
        let (theta, factor) = rotary(settings)?;
        let trained = match settings.optional("max_trained_positions", &POSITIONS)? {
            Some(trained) => trained,
            None if is_authors(settings) => TRAINED,
            None => settings.integer("max_position_embeddings", &POSITIONS)?,
        };
        let most = settings.optional("n_positions", &POSITIONS)?;
        let positions = match factor {
            None => most.unwrap_or(trained).min(trained),
            // A factor is by how much the length may grow, unless a length is named.
            Some(factor) => most.unwrap_or(((trained as f64 * f64::from(factor)) as usize).min(1 << 20)),
        };
        Self {
            hidden: count(["n_embd", "hidden_size"], &WIDTH)?,
            layers: count(["n_layer", "num_hidden_layers"], &LAYERS)?,
            heads: count(["n_head", "num_attention_heads"], &HEADS)?,
            intermediate: count(["n_inner", "intermediate_size"], &INTERMEDIATE)?,
            positions,
            epsilon: settings.number(epsilon, if is_authors(settings) { 1e-5 } else { 1e-12 }, EPSILON)?,
            theta,
            stretch: factor.map(|factor| Stretch { factor, trained }),
        }
        .checked(settings, named(["n_head", "num_attention_heads"]).unwrap_or("num_attention_heads"))
    }

    /// From GGUF metadata, which have no word for dynamic NTK: such a file is read up to the length of its training.
    pub(crate) fn from_gguf(settings: &Settings) -> Result<Self, EngineError> {
        if settings.flag("nomic-bert.attention.causal") {
            return Err(settings.unsupported("a NomicBERT with causal attention"));
        }
        if let Some(kind) = settings.text("nomic-bert.rope.scaling.type").filter(|&kind| kind != "none") {
            return Err(settings.unsupported(format!("rotary positions of the kind `{kind}`")));
        }
        Self {
            hidden: settings.integer("nomic-bert.embedding_length", &WIDTH)?,
            layers: settings.integer("nomic-bert.block_count", &LAYERS)?,
            heads: settings.integer("nomic-bert.attention.head_count", &HEADS)?,
            intermediate: settings.integer("nomic-bert.feed_forward_length", &INTERMEDIATE)?,
            positions: settings.integer("nomic-bert.context_length", &POSITIONS)?,
            epsilon: settings.number("nomic-bert.attention.layer_norm_epsilon", 1e-12, EPSILON)?,
            // llama.cpp's default where a file does not say it.
            theta: settings.number("nomic-bert.rope.freq_base", 10_000.0, THETA)?,
            stretch: None,
        }
        .checked(settings, "nomic-bert.attention.head_count")
    }

    fn checked(self, settings: &Settings, heads: &str) -> Result<Self, EngineError> {
        if !self.hidden.is_multiple_of(2 * self.heads) {
            let problem =
                format!("`{}` heads do not divide a width of `{}` into even numbers", self.heads, self.hidden);
            return Err(settings.bad(heads, problem));
        }
        // The exponent of the stretched base divides by the width of a head less 2.
        if self.stretch.is_some() && self.head_width() == 2 {
            return Err(settings.unsupported("rotary positions of the kind `dynamic` for heads of two numbers"));
        }
        Ok(self)
    }

    /// Numbers in a head.
    pub(crate) fn head_width(&self) -> usize {
        self.hidden / self.heads
    }

    /// Whether the positions of a text of `length` tokens turn otherwise than those of shorter ones.
    pub(crate) fn is_stretched(&self, length: usize) -> bool {
        self.stretch.is_some_and(|stretch| length > stretch.trained)
    }

    /// By how much each pair of numbers of a head turns from one position to the next, in radians, in a text of `length` tokens.
    pub(crate) fn frequencies(&self, length: usize) -> impl Iterator<Item = f32> + Clone + use<> {
        let width = self.head_width();
        let theta = match self.stretch.filter(|stretch| length > stretch.trained) {
            None => self.theta,
            Some(Stretch { factor, trained }) => {
                let growth = f64::from(factor) * length as f64 / trained as f64 - (f64::from(factor) - 1.0);
                (f64::from(self.theta) * growth.powf(width as f64 / (width as f64 - 2.0))) as f32
            }
        };
        // In F32 and in this order, as the reference implementation does.
        (0..width).step_by(2).map(move |at| 1.0 / theta.powf(at as f32 / width as f32))
    }
}

/// Whether the configuration is in the authors' own form.
fn is_authors(settings: &Settings) -> bool {
    settings.get("n_embd").is_some()
}

fn refuse_variants(settings: &Settings) -> Result<(), EngineError> {
    if settings.get("moe_every_n_layers").and_then(serde_json::Value::as_u64).is_some_and(|every| every > 0) {
        return Err(settings.unsupported("a NomicBERT with a mixture of experts"));
    }
    match (settings.text("activation_function"), settings.text("hidden_act")) {
        (Some("swiglu"), _) | (None, Some("silu")) => {}
        (Some(other), _) | (None, Some(other)) => {
            return Err(settings.unsupported(format!("a NomicBERT with the activation `{other}`")));
        }
        (None, None) => return Err(settings.bad("hidden_act", "it is missing".to_owned())),
    }
    if let Some(option) = OFF.iter().find(|option| settings.flag(option)) {
        return Err(settings.unsupported(format!("a NomicBERT with `{option}`")));
    }
    if settings.get("rotary_emb_scale_base").is_some() {
        return Err(settings.unsupported("a NomicBERT with `rotary_emb_scale_base`"));
    }
    let turning = settings.number("rotary_emb_fraction", if is_authors(settings) { 0.0 } else { 1.0 }, 0.0..=1.0)?;
    if turning < 1.0 {
        return Err(settings.unsupported("partial rotary positions"));
    }
    Ok(())
}

/// The base of rotary positions, and by which factor they are stretched where they are.
fn rotary(settings: &Settings) -> Result<(f32, Option<f32>), EngineError> {
    if is_authors(settings) {
        let factor =
            settings.get("rotary_scaling_factor").map(|_| settings.number("rotary_scaling_factor", 1.0, FACTOR));
        return Ok((settings.number("rotary_emb_base", 10_000.0, THETA)?, factor.transpose()?));
    }
    let Some(value) = settings.get("rope_parameters").or(settings.get("rope_scaling")) else {
        // The default of transformers' NomicBertConfig.
        return Ok((settings.number("rope_theta", 1000.0, THETA)?, None));
    };
    let nested = Settings::from_json(&settings.path, value.clone())?;
    if nested.number("partial_rotary_factor", 1.0, 0.0..=1.0)? < 1.0 {
        return Err(settings.unsupported("partial rotary positions"));
    }
    let theta = nested.number("rope_theta", 1000.0, THETA)?;
    match nested.text("rope_type").or(nested.text("type")).unwrap_or("default") {
        "default" => Ok((theta, None)),
        "dynamic" => Ok((theta, Some(nested.number("factor", 1.0, FACTOR)?))),
        kind => Err(settings.unsupported(format!("rotary positions of the kind `{kind}`"))),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::{Value, json};

    use super::*;

    /// nomic-embed-text-v1.5 as its authors publish it.
    fn authors(change: impl Fn(&mut Value)) -> Result<NomicBertFacts, EngineError> {
        let mut value = json!({
            "activation_function": "swiglu", "causal": false, "layer_norm_epsilon": 1e-12, "max_trained_positions": 2048,
            "mlp_fc1_bias": false, "mlp_fc2_bias": false, "model_type": "nomic_bert", "n_embd": 768, "n_head": 12,
            "n_inner": 3072, "n_layer": 12, "n_positions": 8192, "prenorm": false, "qkv_proj_bias": false,
            "rotary_emb_base": 1000, "rotary_emb_fraction": 1.0, "rotary_emb_interleaved": false,
            "rotary_emb_scale_base": null, "rotary_scaling_factor": null, "type_vocab_size": 2, "vocab_size": 30528
        });
        change(&mut value);
        NomicBertFacts::from_config(&Settings::from_json(Path::new("config.json"), value).unwrap())
    }

    /// The same as transformers writes it.
    fn native(change: impl Fn(&mut Value)) -> Result<NomicBertFacts, EngineError> {
        let mut value = json!({
            "hidden_act": "silu", "hidden_size": 768, "intermediate_size": 3072, "layer_norm_eps": 1e-12,
            "max_position_embeddings": 2048, "model_type": "nomic_bert", "num_attention_heads": 12,
            "num_hidden_layers": 12, "rope_parameters": {"rope_theta": 1000.0, "rope_type": "default"}
        });
        change(&mut value);
        NomicBertFacts::from_config(&Settings::from_json(Path::new("config.json"), value).unwrap())
    }

    #[test]
    fn both_forms_say_the_same() {
        let (old, new) = (authors(|_| {}).unwrap(), native(|_| {}).unwrap());
        assert_eq!(format!("{old:?}"), format!("{new:?}"));
        assert_eq!((old.positions, old.head_width(), old.stretch), (2048, 64, None));
    }

    #[test]
    fn longer_texts_are_read_where_a_factor_says_how() {
        let scaled = authors(|config| config["rotary_scaling_factor"] = json!(2)).unwrap();
        assert_eq!((scaled.positions, scaled.stretch), (8192, Some(Stretch { factor: 2.0, trained: 2048 })));
        let scaled = native(|config| {
            config["rope_parameters"] = json!({"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e3});
        })
        .unwrap();
        assert_eq!((scaled.positions, scaled.stretch), (4096, Some(Stretch { factor: 2.0, trained: 2048 })));
        // 1000 * (2 * 4096 / 2048 - 1) ^ (64 / 62), from the formula of the paper by hand: the second pair turns by its -1/32nd
        // power.
        let second = scaled.frequencies(4096).nth(1).unwrap();
        assert!((f64::from(second) - 3108.2237_f64.powf(-1.0 / 32.0)).abs() < 1e-6, "{second}");
        assert!(scaled.frequencies(2048).eq(authors(|_| {}).unwrap().frequencies(7)));
    }

    #[test]
    fn variants_are_refused_by_name() {
        let refused = |key: &str, value: Value| authors(|config| config[key] = value.clone()).unwrap_err().to_string();
        for (key, value, named) in [
            ("activation_function", json!("gelu"), "`gelu`"),
            ("moe_every_n_layers", json!(2), "experts"),
            ("prenorm", json!(true), "`prenorm`"),
            ("qkv_proj_bias", json!(true), "`qkv_proj_bias`"),
            ("rotary_emb_fraction", json!(0.5), "partial"),
            ("rotary_emb_fraction", Value::Null, "partial"),
            ("rotary_emb_scale_base", json!(512), "`rotary_emb_scale_base`"),
            ("n_head", json!(7), "`7` heads"),
            ("rotary_scaling_factor", json!(0), "rotary_scaling_factor"),
        ] {
            let message = refused(key, value);
            assert!(message.contains(named), "{key}: {message}");
        }
        let yarn = native(|config| config["rope_parameters"] = json!({"rope_type": "yarn", "factor": 2.0}));
        assert!(yarn.unwrap_err().to_string().contains("`yarn`"));
    }
}
