//! What a checkpoint's configuration says about the model, read tolerantly and believed only within bounds.
//!
//! Both `config.json` and GGUF metadata arrive here as [`Settings`]. Every figure that sizes an allocation or a loop has a
//! range: a crafted file gets an error, not a crash or all of the memory. Tensor shapes are checked again against these
//! figures when the weights are handed out.

mod nomic_bert;

use std::{
    collections::HashMap,
    ops::RangeInclusive,
    path::{Path, PathBuf},
};

use serde_json::Value;

use crate::{
    EngineError,
    recipe::{Pooling, Prompts},
};

pub(crate) use nomic_bert::NomicBertFacts;

const LAYERS: RangeInclusive<u64> = 1..=512;
const WIDTH: RangeInclusive<u64> = 1..=65_536;
const HEADS: RangeInclusive<u64> = 1..=1_024;
const INTERMEDIATE: RangeInclusive<u64> = 1..=1 << 20;
/// Largest count of positions that is believed.
pub(crate) const POSITIONS: RangeInclusive<u64> = 1..=1 << 20;
/// Rows of an embedding table.
pub(crate) const VOCABULARY: RangeInclusive<u64> = 1..=1 << 22;
/// Ids of a padding token.
const PADDING: RangeInclusive<u64> = 0..=1 << 22;

/// One loaded model's facts, whatever its family.
#[derive(Clone, Debug)]
pub(crate) struct ModelFacts {
    pub(crate) family: Family,
    pub(crate) layers: usize,
    pub(crate) dims: usize,
    /// The most tokens of the native recipe.
    pub(crate) max_tokens: usize,
    pub(crate) pooling: Pooling,
    pub(crate) prompts: Prompts,
}

impl ModelFacts {
    /// What of this decides vectors beyond weights and tokenizer, as a stable text.
    pub(crate) fn describe(&self) -> String {
        let Prompts { query, document } = &self.prompts;
        format!("{:?} {} {query:?} {document:?} {}", self.pooling, self.max_tokens, self.family.describe())
    }
}

/// The model families that have an encoder here, with their figures.
#[derive(Clone, Debug)]
pub(crate) enum Family {
    Bert(BertFacts),
    NomicBert(NomicBertFacts),
    Qwen3(Qwen3Facts),
    /// A converted package that pools by itself.
    #[cfg_attr(not(target_os = "macos"), allow(dead_code, reason = "only Core ML has packages"))]
    Package,
}

impl Family {
    /// Its figures that no tensor's shape tells: a checkpoint has them in a file of its own, which may change alone.
    fn describe(&self) -> String {
        match self {
            Self::Bert(BertFacts { layers, heads, first_position, epsilon, activation, .. }) => {
                format!("{layers} {heads} {first_position} {epsilon:e} {activation:?}")
            }
            Self::NomicBert(NomicBertFacts { layers, heads, epsilon, theta, stretch, .. }) => {
                format!("{layers} {heads} {epsilon:e} {theta:e} {stretch:?}")
            }
            Self::Qwen3(Qwen3Facts { layers, heads, groups, head_width, epsilon, theta, end, .. }) => {
                format!("{layers} {heads} {groups} {head_width} {epsilon:e} {theta:e} {end:?}")
            }
            Self::Package => String::new(),
        }
    }
}

/// Figures of a BERT encoder or of one that differs from it only in where positions start (XLM-R).
#[derive(Clone, Debug)]
pub(crate) struct BertFacts {
    pub(crate) hidden: usize,
    pub(crate) layers: usize,
    pub(crate) heads: usize,
    pub(crate) intermediate: usize,
    /// How many tokens of a text have a position.
    pub(crate) positions: usize,
    /// The row of the table of positions that belongs to a text's first token.
    pub(crate) first_position: usize,
    pub(crate) epsilon: f32,
    pub(crate) activation: Activation,
}

/// The nonlinearity of BERT's feed-forward layer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Activation {
    /// By the error function.
    Gelu,
    /// By the hyperbolic tangent.
    GeluTanh,
    Relu,
}

/// Figures of a Qwen3 encoder.
#[derive(Clone, Debug)]
pub(crate) struct Qwen3Facts {
    pub(crate) hidden: usize,
    pub(crate) layers: usize,
    pub(crate) heads: usize,
    /// Key and value heads; divides `heads`.
    pub(crate) groups: usize,
    /// Of one head; even.
    pub(crate) head_width: usize,
    pub(crate) intermediate: usize,
    pub(crate) positions: usize,
    pub(crate) epsilon: f32,
    pub(crate) theta: f32,
    /// The token that ends a text, where the configuration names it.
    pub(crate) end: Option<u32>,
}

impl Qwen3Facts {
    /// By how much each pair of numbers of a head turns from one position to the next, in radians.
    pub(crate) fn frequencies(&self) -> Vec<f32> {
        // In F32 and in this order, as the reference implementation does: positions in the thousands multiply the error.
        let width = self.head_width as f32;
        (0..self.head_width).step_by(2).map(|at| 1.0 / self.theta.powf(at as f32 / width)).collect()
    }
}

/// The settings of one configuration file; absent and `null` are the same.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) path: PathBuf,
    pub(crate) values: HashMap<String, Value>,
}

impl Settings {
    /// The settings in the JSON object `value`.
    pub(crate) fn from_json(path: &Path, value: Value) -> Result<Self, EngineError> {
        match value {
            Value::Object(values) => Ok(Self { path: path.to_path_buf(), values: values.into_iter().collect() }),
            _ => Err(EngineError::corrupt(path, "it is no JSON object")),
        }
    }

    fn get(&self, key: &str) -> Option<&Value> {
        self.values.get(key).filter(|value| !value.is_null())
    }

    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        self.get(key).and_then(Value::as_str)
    }

    pub(crate) fn flag(&self, key: &str) -> bool {
        self.get(key).and_then(Value::as_bool).unwrap_or(false)
    }

    /// An integer within `range`; `None` where the key is absent.
    pub(crate) fn optional(&self, key: &str, range: &RangeInclusive<u64>) -> Result<Option<usize>, EngineError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match value.as_u64() {
            Some(number) if range.contains(&number) => Ok(Some(number as usize)),
            _ => {
                Err(self
                    .bad(key, format!("`{}` is no integer from {} to {}", short(value), range.start(), range.end())))
            }
        }
    }

    /// An integer within `range` that must be there.
    pub(crate) fn integer(&self, key: &str, range: &RangeInclusive<u64>) -> Result<usize, EngineError> {
        self.optional(key, range)?.ok_or_else(|| self.bad(key, "it is missing".to_owned()))
    }

    /// A number within `range`, `default` where the key is absent.
    fn number(&self, key: &str, default: f64, range: RangeInclusive<f64>) -> Result<f32, EngineError> {
        let Some(value) = self.get(key) else { return Ok(default as f32) };
        match value.as_f64() {
            Some(number) if range.contains(&number) => Ok(number as f32),
            _ => {
                Err(self.bad(key, format!("`{}` is no number from {} to {}", short(value), range.start(), range.end())))
            }
        }
    }

    fn bad(&self, key: &str, problem: String) -> EngineError {
        EngineError::config(&self.path, key, problem)
    }

    fn unsupported(&self, what: impl Into<String>) -> EngineError {
        EngineError::unsupported(&self.path, what)
    }
}

/// A value for an error message; a crafted one may be megabytes long.
fn short(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// Epsilons of norms; 0 divides by zero for a constant row.
const EPSILON: RangeInclusive<f64> = 1e-30..=0.1;
const THETA: RangeInclusive<f64> = 1.0..=1e12;

impl BertFacts {
    /// From `config.json`.
    pub(crate) fn from_config(settings: &Settings) -> Result<Self, EngineError> {
        if let Some(kind) = settings.text("position_embedding_type").filter(|&kind| kind != "absolute") {
            return Err(settings.unsupported(format!("positions of the kind `{kind}`")));
        }
        if settings.flag("is_decoder") {
            return Err(settings.unsupported("a BERT that decodes"));
        }
        let activation = match settings.text("hidden_act").unwrap_or("gelu") {
            "gelu" => Activation::Gelu,
            "gelu_new" | "gelu_pytorch_tanh" | "gelu_fast" => Activation::GeluTanh,
            "relu" => Activation::Relu,
            other => return Err(settings.unsupported(format!("the activation `{other}`"))),
        };
        Self {
            hidden: settings.integer("hidden_size", &WIDTH)?,
            layers: settings.integer("num_hidden_layers", &LAYERS)?,
            heads: settings.integer("num_attention_heads", &HEADS)?,
            intermediate: settings.integer("intermediate_size", &INTERMEDIATE)?,
            positions: settings.integer("max_position_embeddings", &POSITIONS)?,
            first_position: 0,
            epsilon: settings.number("layer_norm_eps", 1e-12, EPSILON)?,
            activation,
        }
        .checked(settings, "num_attention_heads")
    }

    /// From `config.json` of an XLM-R, which counts positions from behind the padding token's id.
    pub(crate) fn from_xlm_roberta_config(settings: &Settings) -> Result<Self, EngineError> {
        let facts = Self::from_config(settings)?;
        // The default of transformers' XLMRobertaConfig.
        let pad = settings.optional("pad_token_id", &PADDING)?.unwrap_or(1);
        let first_position = pad + 1;
        let Some(positions) = facts.positions.checked_sub(first_position).filter(|&positions| positions > 0) else {
            let problem = format!("`{}` rows leave no position behind the padding token `{pad}`", facts.positions);
            return Err(settings.bad("max_position_embeddings", problem));
        };
        Ok(Self { positions, first_position, ..facts })
    }

    /// From GGUF metadata.
    ///
    /// An XLM-R is a `bert` there: what converts it leaves out the rows of the table that are no positions.
    pub(crate) fn from_gguf(settings: &Settings) -> Result<Self, EngineError> {
        if settings.flag("bert.attention.causal") {
            return Err(settings.unsupported("a BERT with causal attention"));
        }
        Self {
            hidden: settings.integer("bert.embedding_length", &WIDTH)?,
            layers: settings.integer("bert.block_count", &LAYERS)?,
            heads: settings.integer("bert.attention.head_count", &HEADS)?,
            intermediate: settings.integer("bert.feed_forward_length", &INTERMEDIATE)?,
            positions: settings.integer("bert.context_length", &POSITIONS)?,
            first_position: 0,
            epsilon: settings.number("bert.attention.layer_norm_epsilon", 1e-12, EPSILON)?,
            activation: Activation::Gelu,
        }
        .checked(settings, "bert.attention.head_count")
    }

    fn checked(self, settings: &Settings, heads: &str) -> Result<Self, EngineError> {
        if !self.hidden.is_multiple_of(self.heads) {
            let problem = format!("`{}` heads do not divide a width of `{}`", self.heads, self.hidden);
            return Err(settings.bad(heads, problem));
        }
        Ok(self)
    }
}

impl Qwen3Facts {
    /// From `config.json`; `head_width` is what the weights show, for configurations that do not say it.
    pub(crate) fn from_config(settings: &Settings, head_width: usize) -> Result<Self, EngineError> {
        if let Some(act) = settings.text("hidden_act").filter(|&act| act != "silu") {
            return Err(settings.unsupported(format!("the activation `{act}`")));
        }
        let heads = settings.integer("num_attention_heads", &HEADS)?;
        let facts = Self {
            hidden: settings.integer("hidden_size", &WIDTH)?,
            layers: settings.integer("num_hidden_layers", &LAYERS)?,
            heads,
            groups: settings.optional("num_key_value_heads", &HEADS)?.unwrap_or(heads),
            head_width: settings.optional("head_dim", &WIDTH)?.unwrap_or(head_width),
            intermediate: settings.integer("intermediate_size", &INTERMEDIATE)?,
            positions: settings.integer("max_position_embeddings", &POSITIONS)?,
            epsilon: settings.number("rms_norm_eps", 1e-6, EPSILON)?,
            theta: rope_theta(settings)?,
            end: end_token(settings),
        };
        refuse_sliding_window(settings, facts.positions)?;
        facts.checked(settings, "num_key_value_heads")
    }

    /// From GGUF metadata.
    pub(crate) fn from_gguf(settings: &Settings, head_width: usize) -> Result<Self, EngineError> {
        if let Some(kind) = settings.text("qwen3.rope.scaling.type").filter(|&kind| kind != "none") {
            return Err(settings.unsupported(format!("rotary positions of the kind `{kind}`")));
        }
        let heads = settings.integer("qwen3.attention.head_count", &HEADS)?;
        Self {
            hidden: settings.integer("qwen3.embedding_length", &WIDTH)?,
            layers: settings.integer("qwen3.block_count", &LAYERS)?,
            heads,
            groups: settings.optional("qwen3.attention.head_count_kv", &HEADS)?.unwrap_or(heads),
            head_width: settings.optional("qwen3.attention.key_length", &WIDTH)?.unwrap_or(head_width),
            intermediate: settings.integer("qwen3.feed_forward_length", &INTERMEDIATE)?,
            positions: settings.integer("qwen3.context_length", &POSITIONS)?,
            epsilon: settings.number("qwen3.attention.layer_norm_rms_epsilon", 1e-6, EPSILON)?,
            theta: settings.number("qwen3.rope.freq_base", 1e6, THETA)?,
            end: settings
                .get("tokenizer.ggml.eos_token_id")
                .and_then(Value::as_u64)
                .and_then(|id| u32::try_from(id).ok()),
        }
        .checked(settings, "qwen3.attention.head_count_kv")
    }

    fn checked(self, settings: &Settings, groups: &str) -> Result<Self, EngineError> {
        if !self.heads.is_multiple_of(self.groups) {
            let problem = format!("`{}` key heads do not divide `{}` heads", self.groups, self.heads);
            return Err(settings.bad(groups, problem));
        }
        if !self.head_width.is_multiple_of(2) {
            return Err(
                settings.bad("head_dim", format!("rotary positions need an even width, not `{}`", self.head_width))
            );
        }
        Ok(self)
    }
}

/// The base of rotary positions: newer transformers keep it in `rope_parameters`, older ones beside `rope_scaling`.
fn rope_theta(settings: &Settings) -> Result<f32, EngineError> {
    let mut theta = settings.number("rope_theta", 1e6, THETA)?;
    for key in ["rope_scaling", "rope_parameters"] {
        let Some(value) = settings.get(key) else { continue };
        let nested = Settings::from_json(&settings.path, value.clone())?;
        let kind = nested.text("rope_type").or(nested.text("type")).unwrap_or("default");
        if kind != "default" {
            return Err(settings.unsupported(format!("rotary positions of the kind `{kind}`")));
        }
        if nested.get("partial_rotary_factor").and_then(Value::as_f64).is_some_and(|part| (part - 1.0).abs() > 1e-9) {
            return Err(settings.unsupported("partial rotary positions"));
        }
        theta = nested.number("rope_theta", f64::from(theta), THETA)?;
    }
    Ok(theta)
}

/// A window that no text fills changes nothing; any other is not implemented.
fn refuse_sliding_window(settings: &Settings, positions: usize) -> Result<(), EngineError> {
    let slides = match settings.get("layer_types").and_then(Value::as_array) {
        Some(kinds) => kinds.iter().any(|kind| kind.as_str() != Some("full_attention")),
        None => settings.flag("use_sliding_window"),
    };
    let window = settings.get("sliding_window").and_then(Value::as_u64);
    if slides && window.is_none_or(|window| window < positions as u64) {
        return Err(settings.unsupported("attention in a sliding window"));
    }
    Ok(())
}

/// `eos_token_id`, of which there may be a list.
fn end_token(settings: &Settings) -> Option<u32> {
    let value = settings.get("eos_token_id")?;
    let first = value.as_array().and_then(|ids| ids.first()).unwrap_or(value);
    first.as_u64().and_then(|id| u32::try_from(id).ok())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn settings(value: Value) -> Settings {
        Settings::from_json(Path::new("config.json"), value).unwrap()
    }

    fn qwen3(change: impl Fn(&mut Value)) -> Result<Qwen3Facts, EngineError> {
        let mut value = json!({
            "hidden_size": 1024, "num_hidden_layers": 28, "num_attention_heads": 16, "num_key_value_heads": 8,
            "intermediate_size": 3072, "max_position_embeddings": 32_768, "rms_norm_eps": 1e-6, "hidden_act": "silu",
            "eos_token_id": 151_643
        });
        change(&mut value);
        Qwen3Facts::from_config(&settings(value), 128)
    }

    fn refused<T: std::fmt::Debug>(result: Result<T, EngineError>) -> String {
        result.unwrap_err().to_string()
    }

    #[test]
    fn theta_is_read_where_older_and_newer_transformers_write_it() {
        let old: fn(&mut Value) = |config| config["rope_theta"] = json!(10_000.0);
        let absent: fn(&mut Value) = |config| config["rope_scaling"] = Value::Null;
        let new: fn(&mut Value) =
            |config| config["rope_parameters"] = json!({"rope_type": "default", "rope_theta": 5_000_000});
        for (change, wanted) in [(old, 1e4), (absent, 1e6), (new, 5e6)] {
            let theta = qwen3(change).unwrap().theta;
            assert!((theta - wanted).abs() < 0.5, "{theta} instead of {wanted}");
        }
    }

    fn xlm_roberta(change: impl Fn(&mut Value)) -> Result<BertFacts, EngineError> {
        let mut value = json!({
            "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072,
            "max_position_embeddings": 514, "layer_norm_eps": 1e-5, "pad_token_id": 1
        });
        change(&mut value);
        BertFacts::from_xlm_roberta_config(&settings(value))
    }

    #[test]
    fn positions_of_xlm_r_start_behind_its_padding_token() {
        let figures = |facts: BertFacts| (facts.first_position, facts.positions);
        assert_eq!(figures(xlm_roberta(|_| {}).unwrap()), (2, 512));
        assert_eq!(figures(xlm_roberta(|config| config["pad_token_id"] = Value::Null).unwrap()), (2, 512));
        assert_eq!(figures(xlm_roberta(|config| config["pad_token_id"] = json!(0)).unwrap()), (1, 513));
        let none = refused(xlm_roberta(|config| config["pad_token_id"] = json!(513)));
        assert!(none.contains("max_position_embeddings") && none.contains("`513`"), "{none}");
        assert!(refused(xlm_roberta(|config| config["pad_token_id"] = json!(-1))).contains("pad_token_id"));
    }

    #[test]
    fn a_missing_head_width_follows_from_the_weights() {
        assert_eq!(qwen3(|_| {}).unwrap().head_width, 128);
        assert_eq!(qwen3(|config| config["head_dim"] = json!(64)).unwrap().head_width, 64);
    }

    #[test]
    fn options_that_are_not_implemented_are_refused_by_name() {
        let scaled = qwen3(|config| config["rope_scaling"] = json!({"type": "yarn", "factor": 4.0}));
        assert!(refused(scaled).contains("`yarn`"));
        let window = qwen3(|config| {
            config["use_sliding_window"] = json!(true);
            config["sliding_window"] = json!(4096);
        });
        assert!(refused(window).contains("sliding window"));
        let unused = qwen3(|config| config["layer_types"] = json!(["full_attention", "full_attention"]));
        assert!(unused.is_ok());
    }

    #[test]
    fn absurd_figures_are_refused_with_key_and_range() {
        for (key, value) in [
            ("num_hidden_layers", json!(0)),
            ("num_hidden_layers", json!(4_000_000_000_u64)),
            ("hidden_size", json!(-1)),
            ("num_attention_heads", json!("many")),
            ("intermediate_size", json!(1e30)),
            ("max_position_embeddings", json!(u64::MAX)),
            ("rms_norm_eps", json!(0.0)),
            ("rope_theta", json!(-1.0)),
            ("num_key_value_heads", json!(3)),
        ] {
            let message = refused(qwen3(|config| config[key] = value.clone()));
            assert!(message.contains(key), "{key} = {value}: {message}");
            assert!(message.contains("`config.json`"), "{message}");
        }
    }

    #[test]
    fn a_setting_of_megabytes_is_shortened_in_the_message() {
        let message = refused(qwen3(|config| config["hidden_size"] = json!("9".repeat(1 << 20))));
        assert!(message.len() < 300, "{} characters", message.len());
    }

    #[test]
    fn an_end_token_may_be_a_list() {
        assert_eq!(qwen3(|config| config["eos_token_id"] = json!([151_645, 151_643])).unwrap().end, Some(151_645));
        assert_eq!(qwen3(|config| config["eos_token_id"] = Value::Null).unwrap().end, None);
    }
}
