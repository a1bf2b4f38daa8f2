//! The small JSON files that sentence-transformers puts beside a model: modules, pooling, length and prompts.
//!
//! All are optional; one that is there and cannot be read is an error, because guessing would change vectors.

use std::path::Path;

use serde_json::Value;

use crate::{
    EngineError,
    facts::{POSITIONS, Settings},
    recipe::{Pooling, Prompts},
};

/// Far above any real one, far below harm.
const LARGEST: u64 = 4 << 20;

/// What the files say; `None` where none of them says it.
#[derive(Debug, Default)]
pub(crate) struct Sidecar {
    pub(crate) pooling: Option<Pooling>,
    pub(crate) max_tokens: Option<usize>,
    pub(crate) prompts: Option<Prompts>,
}

impl Sidecar {
    /// Reads the files in `folder`.
    pub(crate) fn read(folder: &Path) -> Result<Self, EngineError> {
        let pooling_folder = pooling_folder(folder)?;
        Ok(Self {
            pooling: read_pooling(&folder.join(pooling_folder).join("config.json"))?,
            max_tokens: read_max_tokens(folder)?,
            prompts: read_prompts(&folder.join("config_sentence_transformers.json"))?,
        })
    }
}

/// The JSON file at `path`; `None` where there is none.
pub(crate) fn read_json(path: &Path) -> Result<Option<Value>, EngineError> {
    let length = match path.metadata() {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(EngineError::reading(path, error)),
    };
    if length > LARGEST {
        return Err(EngineError::corrupt(path, format!("`{length}` bytes are too many for a configuration")));
    }
    let bytes = std::fs::read(path).map_err(|error| EngineError::reading(path, error))?;
    serde_json::from_slice(&bytes).map(Some).map_err(|error| EngineError::corrupt(path, error))
}

fn read_settings(path: &Path) -> Result<Option<Settings>, EngineError> {
    read_json(path)?.map(|value| Settings::from_json(path, value)).transpose()
}

/// The folder of the pooling module. A module that this crate does not apply is refused: leaving it out would give
/// vectors of another kind.
fn pooling_folder(folder: &Path) -> Result<String, EngineError> {
    let path = folder.join("modules.json");
    let mut pooling = "1_Pooling".to_owned();
    let Some(value) = read_json(&path)? else { return Ok(pooling) };
    let modules = value.as_array().ok_or_else(|| EngineError::corrupt(&path, "it is no list of modules"))?;
    for module in modules {
        let kind = module.get("type").and_then(Value::as_str).unwrap_or_default();
        match kind.rsplit('.').next().unwrap_or_default() {
            "Transformer" | "Normalize" => {}
            "Pooling" => {
                let name = module.get("path").and_then(Value::as_str).unwrap_or("1_Pooling");
                if name.is_empty() || name.contains(['/', '\\', '\0', ':']) || name.starts_with('.') {
                    return Err(EngineError::config(
                        &path,
                        "path",
                        format!("`{name}` is no name of a folder beside it"),
                    ));
                }
                name.clone_into(&mut pooling);
            }
            _ => return Err(EngineError::unsupported(&path, format!("the module `{kind}`"))),
        }
    }
    Ok(pooling)
}

fn read_pooling(path: &Path) -> Result<Option<Pooling>, EngineError> {
    let Some(settings) = read_settings(path)? else { return Ok(None) };
    if settings.values.get("include_prompt").and_then(Value::as_bool) == Some(false) {
        return Err(EngineError::unsupported(path, "pooling that leaves the prompt out"));
    }
    // Newer sentence-transformers write one name, older ones a flag for each way.
    let mut modes: Vec<&str> = settings.text("pooling_mode").into_iter().collect();
    if modes.is_empty() {
        let set = |(key, value): (&'static str, Option<&Value>)| value.and_then(Value::as_bool)?.then_some(key);
        let keys = [
            ("mean", "pooling_mode_mean_tokens"),
            ("cls", "pooling_mode_cls_token"),
            ("lasttoken", "pooling_mode_lasttoken"),
            ("max", "pooling_mode_max_tokens"),
            ("mean_sqrt_len_tokens", "pooling_mode_mean_sqrt_len_tokens"),
            ("weightedmean", "pooling_mode_weightedmean_tokens"),
        ];
        modes = keys.iter().filter_map(|&(mode, key)| set((mode, settings.values.get(key)))).collect();
    }
    match modes.as_slice() {
        ["mean"] => Ok(Some(Pooling::Mean)),
        ["cls"] => Ok(Some(Pooling::Cls)),
        ["lasttoken"] => Ok(Some(Pooling::Last)),
        other => Err(EngineError::unsupported(path, format!("pooling by `{}`", other.join(" and ")))),
    }
}

/// sentence-transformers wrote the limit into a file of its own until version 6; newer ones leave it to the tokenizer's, where
/// older checkpoints have a larger number, or an absurd one that stands for none.
fn read_max_tokens(folder: &Path) -> Result<Option<usize>, EngineError> {
    if let Some(settings) = read_settings(&folder.join("sentence_bert_config.json"))?
        && let Some(length) = settings.optional("max_seq_length", &POSITIONS)?
    {
        return Ok(Some(length));
    }
    let tokenizer = read_json(&folder.join("tokenizer_config.json"))?;
    let length = tokenizer.as_ref().and_then(|tokenizer| tokenizer["model_max_length"].as_u64());
    Ok(length.filter(|length| POSITIONS.contains(length)).map(|length| length as usize))
}

fn read_prompts(path: &Path) -> Result<Option<Prompts>, EngineError> {
    let Some(settings) = read_settings(path)? else { return Ok(None) };
    let Some(prompts) = settings.values.get("prompts").and_then(Value::as_object) else { return Ok(None) };
    let prompt = |names: &[&str]| {
        names.iter().find_map(|&name| prompts.get(name).and_then(Value::as_str)).unwrap_or_default().to_owned()
    };
    let prompts = Prompts {
        query: prompt(&["query", "search_query"]),
        document: prompt(&["document", "passage", "search_document"]),
    };
    // Newer sentence-transformers write empty prompts for models that have none.
    Ok((prompts != Prompts::default()).then_some(prompts))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn folder(files: &[(&str, Value)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, value) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, value.to_string()).unwrap();
        }
        folder
    }

    #[test]
    fn nothing_beside_the_model_says_nothing() {
        let sidecar = Sidecar::read(folder(&[]).path()).unwrap();
        assert!(sidecar.pooling.is_none() && sidecar.max_tokens.is_none() && sidecar.prompts.is_none());
    }

    #[test]
    fn pooling_is_read_as_older_and_as_newer_versions_write_it() {
        let older = json!({"word_embedding_dimension": 384, "pooling_mode_cls_token": false,
            "pooling_mode_mean_tokens": true, "pooling_mode_max_tokens": false});
        let newer = json!({"embedding_dimension": 384, "pooling_mode": "lasttoken", "include_prompt": true});
        for (config, wanted) in [(older, Pooling::Mean), (newer, Pooling::Last)] {
            let folder = folder(&[("1_Pooling/config.json", config)]);
            assert_eq!(Sidecar::read(folder.path()).unwrap().pooling, Some(wanted));
        }
    }

    #[test]
    fn what_is_not_applied_is_refused() {
        let two = json!({"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": true});
        let dense = json!([{"path": "2_Dense", "type": "sentence_transformers.models.Dense"}]);
        for (name, config) in [("1_Pooling/config.json", two), ("modules.json", dense)] {
            let folder = folder(&[(name, config)]);
            assert!(matches!(Sidecar::read(folder.path()), Err(EngineError::Unsupported { .. })));
        }
    }

    #[test]
    fn a_module_path_cannot_leave_the_folder() {
        for name in ["../x", "/etc", "a/b", "..", "C:x"] {
            let folder = folder(&[("modules.json", json!([{"path": name, "type": "x.Pooling"}]))]);
            assert!(matches!(Sidecar::read(folder.path()), Err(EngineError::BadConfig { .. })), "{name}");
        }
    }

    #[test]
    fn prompts_and_length_are_read() {
        let folder = folder(&[
            ("config_sentence_transformers.json", json!({"prompts": {"query": "Q: ", "document": ""}})),
            ("sentence_bert_config.json", json!({"max_seq_length": 256, "do_lower_case": false})),
        ]);
        let sidecar = Sidecar::read(folder.path()).unwrap();
        assert_eq!(sidecar.prompts.unwrap().query, "Q: ");
        assert_eq!(sidecar.max_tokens, Some(256));
    }

    #[test]
    fn a_damaged_file_is_an_error_that_names_it() {
        let folder = folder(&[]);
        std::fs::write(folder.path().join("modules.json"), "[{").unwrap();
        let message = Sidecar::read(folder.path()).unwrap_err().to_string();
        assert!(message.contains("modules.json"), "{message}");
    }
}
