//! What others have made of a model: its authors' GGUF files, and MLX checkpoints.
//!
//! A variant names a repository and no content: neither a revision nor a sha256 is written down that nobody here has seen. Which
//! files a download takes follows from the format: a GGUF file is one, an MLX checkpoint is a folder as transformers has it.

use std::path::Path;

use embedbar_contract::Precision;
use serde::Deserialize;

/// A repository, or a file in it, with the same model in another form.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Variant {
    /// `owner/name` on the hub.
    pub repo: String,
    /// What its weights are.
    pub format: Format,
    /// What its matrices are stored as, for the most part.
    pub precision: Precision,
    /// The GGUF file; `None` for an MLX checkpoint, which is all of its repository.
    #[serde(default)]
    pub file: Option<String>,
    /// How well it is known to exist.
    pub certainty: Certainty,
}

/// What the weights of a variant are.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// llama.cpp's file.
    Gguf,
    /// Safetensors, quantised by MLX.
    Mlx,
}

/// How well a variant is known to exist. Either way, the hub is asked before anything is offered.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum Certainty {
    /// The model's authors publish it.
    Published,
    /// Others' programs name it.
    Reported,
}

impl Variant {
    /// What is wrong with it, if anything is.
    pub(crate) fn contradiction(&self) -> Option<String> {
        let Self { repo, format, precision, file, .. } = self;
        let named = |part: &str| !part.is_empty() && !part.contains(['/', '\\', '\0']) && !part.starts_with('.');
        if repo.split_once('/').is_none_or(|(owner, name)| !named(owner) || !named(name)) {
            return Some(format!("`{repo}` is no repository"));
        }
        if !matches!(precision, Precision::Fp16 | Precision::Int8 | Precision::FourBit) {
            return Some(format!("a variant in `{precision}` is no step of a ladder"));
        }
        match (format, file.as_deref()) {
            (Format::Gguf, Some(file)) if named(file) && Path::new(file).extension().is_some_and(|it| it == "gguf") => {
                None
            }
            (Format::Gguf, file) => Some(format!("`{}` is no GGUF file of `{repo}`", file.unwrap_or_default())),
            (Format::Mlx, None) => None,
            (Format::Mlx, Some(file)) => Some(format!("`{file}` is named, and an MLX checkpoint is all of `{repo}`")),
        }
    }
}
