//! The JSON files of a checkpoint: `config.json` and what sentence-transformers writes beside it.
//!
//! Every number is checked against a generous bound before anything is computed from it.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{ConvertError, Pooling, stream};

/// Far above any real configuration or shard index.
const MAX_JSON_BYTES: u64 = 64 << 20;

/// Reads a JSON file.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, ConvertError> {
    let bytes = stream::read_small(path, MAX_JSON_BYTES)?;
    serde_json::from_slice(&bytes).map_err(|error| ConvertError::corrupt(path, error))
}

/// Like [`read_json`], `None` where there is no such file.
fn read_optional(path: &Path) -> Result<Option<Value>, ConvertError> {
    match read_json(path) {
        Ok(value) => Ok(Some(value)),
        Err(ConvertError::Missing { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// `config.json` of a checkpoint.
#[derive(Debug)]
pub(crate) struct Configuration {
    /// The file.
    pub(crate) path: PathBuf,
    values: Value,
}

impl Configuration {
    /// Reads `config.json` of `folder`.
    pub(crate) fn open(folder: &Path) -> Result<Self, ConvertError> {
        let path = folder.join("config.json");
        Ok(Self { values: read_json(&path)?, path })
    }

    /// The value of `key`; JSON's `null` counts as absent.
    pub(crate) fn value(&self, key: &str) -> Option<&Value> {
        self.values.get(key).filter(|value| !value.is_null())
    }

    /// A string that may be absent.
    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        self.value(key).and_then(Value::as_str)
    }

    /// A count that must be there and lie in `range`.
    pub(crate) fn count(&self, key: &str, range: RangeInclusive<u32>) -> Result<u32, ConvertError> {
        let value = self.value(key).ok_or_else(|| ConvertError::config(&self.path, key, "it is missing"))?;
        self.checked_count(key, value, range)
    }

    /// A count that is `default` where it is absent.
    pub(crate) fn count_or(&self, key: &str, default: u32, range: RangeInclusive<u32>) -> Result<u32, ConvertError> {
        self.value(key).map_or(Ok(default), |value| self.checked_count(key, value, range))
    }

    fn checked_count(&self, key: &str, value: &Value, range: RangeInclusive<u32>) -> Result<u32, ConvertError> {
        let count = value.as_u64().and_then(|count| u32::try_from(count).ok());
        count.filter(|count| range.contains(count)).ok_or_else(|| {
            let problem = format!("`{value}` is not a count from `{}` to `{}`", range.start(), range.end());
            ConvertError::config(&self.path, key, problem)
        })
    }

    /// A positive finite number that is `default` where it is absent.
    pub(crate) fn positive_or(&self, key: &str, default: f32) -> Result<f32, ConvertError> {
        self.value(key).map_or(Ok(default), |value| self.positive(key, value))
    }

    /// `value` of the setting `key` as a positive finite number.
    pub(crate) fn positive(&self, key: &str, value: &Value) -> Result<f32, ConvertError> {
        let number = value.as_f64().map(|number| number as f32);
        number.filter(|number| number.is_finite() && *number > 0.0).ok_or_else(|| {
            let problem = format!("`{value}` is not a positive number");
            ConvertError::config(&self.path, key, problem)
        })
    }

    /// Refuses a setting that is there and has another value than `only`.
    pub(crate) fn only(&self, key: &str, only: &Value) -> Result<(), ConvertError> {
        match self.value(key) {
            Some(value) if value != only => Err(ConvertError::unsupported(&self.path, format!("`{key}` = `{value}`"))),
            _ => Ok(()),
        }
    }
}

/// Refuses a checkpoint whose vector takes more than a transformer, pooling and normalisation, such as a dense layer.
pub(crate) fn check_modules(folder: &Path) -> Result<(), ConvertError> {
    let path = folder.join("modules.json");
    let Some(modules) = read_optional(&path)? else { return Ok(()) };
    let modules = modules.as_array().ok_or_else(|| ConvertError::corrupt(&path, "it is not a list"))?;
    for module in modules {
        let kind = module.get("type").and_then(Value::as_str).unwrap_or_default();
        if !matches!(kind.rsplit('.').next(), Some("Transformer" | "Pooling" | "Normalize")) {
            return Err(ConvertError::unsupported(&path, format!("the module `{kind}`")));
        }
    }
    Ok(())
}

/// Whether the checkpoint scales its vectors to length 1. One that does not say so in `modules.json` is taken to do it: a vector
/// that is compared by its direction loses nothing.
pub(crate) fn normalises(folder: &Path) -> Result<bool, ConvertError> {
    let Some(modules) = read_optional(&folder.join("modules.json"))? else { return Ok(true) };
    let kinds = modules.as_array().into_iter().flatten().filter_map(|module| module.get("type")?.as_str());
    Ok(kinds.into_iter().any(|kind| kind.rsplit('.').next() == Some("Normalize")))
}

/// The licence that the model card names in its first lines, where there is one.
pub(crate) fn licence(folder: &Path) -> Option<String> {
    let card = stream::read_small(&folder.join("README.md"), MAX_JSON_BYTES).ok()?;
    let card = String::from_utf8_lossy(&card);
    // The card begins with settings between two lines of dashes.
    let settings = card.strip_prefix("---\n")?.split("\n---").next()?;
    let licence = settings.lines().find_map(|line| line.strip_prefix("license:"))?.trim().trim_matches(['"', '\'']);
    (!licence.is_empty() && licence.len() <= 64).then(|| licence.to_owned())
}

/// The pooling that `1_Pooling/config.json` asks for, in either of the forms that sentence-transformers has written.
pub(crate) fn pooling(folder: &Path) -> Result<Option<Pooling>, ConvertError> {
    let path = folder.join("1_Pooling").join("config.json");
    let Some(config) = read_optional(&path)? else { return Ok(None) };
    let modes: Vec<&str> = match config.get("pooling_mode") {
        Some(Value::String(mode)) => vec![mode],
        Some(Value::Array(modes)) => modes.iter().filter_map(Value::as_str).collect(),
        _ => config
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(_, value)| value.as_bool() == Some(true))
            .filter_map(|(key, _)| key.strip_prefix("pooling_mode_"))
            .collect(),
    };
    match modes.as_slice() {
        [] => Ok(None),
        ["mean" | "mean_tokens"] => Ok(Some(Pooling::Mean)),
        ["cls" | "cls_token"] => Ok(Some(Pooling::Cls)),
        ["lasttoken"] => Ok(Some(Pooling::Last)),
        _ => Err(ConvertError::unsupported(&path, format!("the pooling `{}`", modes.join("` and `")))),
    }
}

/// What the authors say about the tokenizer beside `tokenizer.json`; `null` where they say nothing.
pub(crate) fn tokenizer(folder: &Path) -> Result<Value, ConvertError> {
    Ok(read_optional(&folder.join("tokenizer_config.json"))?.unwrap_or(Value::Null))
}

/// The most tokens that the authors meant the model to read, where they say so within what it has positions for.
pub(crate) fn max_tokens(folder: &Path, context: u32) -> Result<u32, ConvertError> {
    // transformers writes 1e30 for "no limit", which is no count and is passed over like everything above the context.
    for (file, key) in [("sentence_bert_config.json", "max_seq_length"), ("tokenizer_config.json", "model_max_length")]
    {
        let said = read_optional(&folder.join(file))?;
        let said = said.as_ref().and_then(|said| said.get(key)).and_then(Value::as_u64);
        if let Some(tokens) = said.and_then(|tokens| u32::try_from(tokens).ok())
            && (1..=context).contains(&tokens)
        {
            return Ok(tokens);
        }
    }
    Ok(context)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for (name, text) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().expect("it has one")).expect("it can be made");
            fs::write(path, text).expect("it can be written");
        }
        folder
    }

    #[test]
    fn pooling_is_read_as_old_and_as_new_versions_write_it() {
        let cases = [
            (r#"{"pooling_mode_cls_token": false, "pooling_mode_mean_tokens": true}"#, Some(Pooling::Mean)),
            (r#"{"pooling_mode_cls_token": true, "include_prompt": true}"#, Some(Pooling::Cls)),
            (r#"{"pooling_mode_lasttoken": true}"#, Some(Pooling::Last)),
            (r#"{"embedding_dimension": 3, "pooling_mode": "mean"}"#, Some(Pooling::Mean)),
            ("{}", None),
        ];
        for (text, wanted) in cases {
            let folder = folder(&[("1_Pooling/config.json", text)]);
            assert_eq!(pooling(folder.path()).expect("it can be read"), wanted, "{text}");
        }
        assert_eq!(pooling(folder(&[]).path()).expect("absent is no error"), None);
    }

    #[test]
    fn two_poolings_or_an_unknown_one_are_refused() {
        for text in [
            r#"{"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": true}"#,
            r#"{"pooling_mode_max_tokens": true}"#,
            r#"{"pooling_mode": "weightedmean"}"#,
        ] {
            let folder = folder(&[("1_Pooling/config.json", text)]);
            assert!(matches!(pooling(folder.path()), Err(ConvertError::Unsupported { .. })), "{text}");
        }
    }

    #[test]
    fn the_authors_length_wins_over_the_tokenizers_and_both_stay_in_the_context() {
        let both = [
            ("sentence_bert_config.json", r#"{"max_seq_length": 256}"#),
            ("tokenizer_config.json", r#"{"model_max_length": 512}"#),
        ];
        assert_eq!(max_tokens(folder(&both).path(), 512).expect("readable"), 256);
        assert_eq!(max_tokens(folder(&both[1..]).path(), 1024).expect("readable"), 512);
        let endless = [("tokenizer_config.json", r#"{"model_max_length": 1000000000000000019884624838656}"#)];
        assert_eq!(max_tokens(folder(&endless).path(), 512).expect("readable"), 512);
        let none = [("sentence_bert_config.json", r#"{"max_seq_length": null}"#)];
        assert_eq!(max_tokens(folder(&none).path(), 128).expect("readable"), 128);
    }

    #[test]
    fn a_dense_layer_after_pooling_is_refused() {
        let text =
            r#"[{"type":"sentence_transformers.models.Transformer"},{"type":"sentence_transformers.models.Dense"}]"#;
        let error = check_modules(folder(&[("modules.json", text)]).path()).expect_err("it cannot be expressed");
        assert!(error.to_string().contains("sentence_transformers.models.Dense"), "{error}");
    }

    #[test]
    fn counts_out_of_range_name_the_setting_and_the_value() {
        for text in [r#"{"layers": 0}"#, r#"{"layers": -1}"#, r#"{"layers": 1e9}"#, r#"{"layers": "6"}"#, "{}"] {
            let folder = folder(&[("config.json", text)]);
            let config = Configuration::open(folder.path()).expect("it is JSON");
            let error = config.count("layers", 1..=512).expect_err("out of range");
            assert!(matches!(&error, ConvertError::BadConfig { key, .. } if key == "layers"), "{error}");
        }
    }
}
