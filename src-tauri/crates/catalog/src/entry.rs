//! One model of the catalogue: the schema of `models/*.toml`.
//!
//! A field that the schema does not know is an error, so that a misspelt one is never a silent default.

use embedbar_contract::Precision;
use serde::Deserialize;

use crate::{Architecture, CatalogError, Storage, Variant};

/// The version of the files' form.
const VERSION: u32 = 1;

/// A model.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    version: u32,
    /// Its id, the name of its repository.
    pub id: String,
    /// Other names.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// `owner/name` on the hub.
    pub repo: String,
    /// The commit that its files are pinned to, 40 hexadecimal digits; `None` where none is known for certain.
    #[serde(default)]
    pub revision: Option<String>,
    /// Files whose size and content are known for certain.
    #[serde(default)]
    pub files: Vec<PinnedFile>,
    /// What the repository's weights are.
    pub weights: SourceWeights,
    /// The licence's SPDX name.
    pub licence: String,
    /// Whether it comes with the program.
    pub bundled: bool,
    /// Published parameters. What is computed with follows from the shapes; this is compared with it.
    pub parameters: u64,
    /// Precisions that are made of it, the widest first. F32 is the exact mode and no step of a ladder.
    pub ladder: Vec<Precision>,
    /// Its shapes.
    pub architecture: Architecture,
    /// How its authors make vectors.
    pub recipe: Recipe,
    /// What others have made of it.
    #[serde(default)]
    pub variants: Vec<Variant>,
    /// Vectors that another program has made of it.
    #[serde(default)]
    pub references: Vec<Reference>,
}

/// The beginning of a vector of length 1 that another program has made of a text without a prompt.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Reference {
    /// The text.
    pub text: String,
    /// The vector's first numbers.
    pub begins: Vec<f32>,
}

/// What the weights of a repository are.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum SourceWeights {
    /// Safetensors, which can be converted.
    Safetensors,
    /// A pickle only, which is a program and never opened.
    Pickle,
}

/// A file of the repository.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct PinnedFile {
    /// Its path in the repository.
    pub path: String,
    /// Its size.
    pub bytes: u64,
    /// Its sha256, 64 hexadecimal digits in lower case.
    pub sha256: String,
}

/// How hidden states become a vector.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum Pooling {
    /// The mean of the tokens.
    Mean,
    /// The first token, `[CLS]`.
    First,
    /// The last token.
    Last,
}

/// How the authors make vectors.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// How hidden states become a vector.
    pub pooling: Pooling,
    /// Tokens that are read of a text.
    pub max_tokens: u64,
    /// Columns of a vector.
    pub dims: u64,
    /// The least columns that a vector may be cut to (Matryoshka); `None` where it may not be cut.
    #[serde(default)]
    pub least_dims: Option<u64>,
    /// What goes in front of a query; empty for nothing.
    pub query_prompt: String,
    /// What goes in front of a document; empty for nothing.
    pub document_prompt: String,
}

impl Entry {
    /// Reads one file; `file` is its name, for messages.
    pub fn parse(file: &str, text: &str) -> Result<Self, CatalogError> {
        let entry: Self = toml::from_str(text)
            .map_err(|error| CatalogError::Malformed { file: file.to_owned(), problem: error.to_string() })?;
        match entry.contradiction() {
            None => Ok(entry),
            Some(problem) => Err(CatalogError::Contradiction { file: file.to_owned(), problem }),
        }
    }

    /// Everything that this model may be called, in lower case.
    pub(crate) fn names(&self) -> Vec<String> {
        let own = [&self.id, &self.repo].into_iter().chain(&self.aliases);
        let mut names: Vec<String> = own.map(|name| name.to_lowercase()).collect();
        names.sort();
        names.dedup();
        names
    }

    fn contradiction(&self) -> Option<String> {
        let Self { architecture, recipe, .. } = self;
        if self.version != VERSION {
            return Some(format!("its version is `{}`; this program knows `{VERSION}`", self.version));
        }
        if self.repo.rsplit_once('/').map(|(_, name)| name) != Some(self.id.as_str()) {
            return Some(format!("`{}` is not the name of `{}`", self.id, self.repo));
        }
        if let Some(problem) = architecture.contradiction() {
            return Some(problem);
        }
        let counted = architecture.parameters();
        if self.parameters != counted {
            return Some(format!("it names `{}` parameters, its shapes have `{counted}`", self.parameters));
        }
        if recipe.dims != architecture.hidden() {
            return Some(format!("`{}` dims of `{}` columns", recipe.dims, architecture.hidden()));
        }
        if !(1..=architecture.usable_positions()).contains(&recipe.max_tokens) {
            return Some(format!("`{}` tokens for `{}` positions", recipe.max_tokens, architecture.usable_positions()));
        }
        if recipe.least_dims.is_some_and(|least| !(1..=recipe.dims).contains(&least)) {
            return Some(format!("`{:?}` of `{}` dims at least", recipe.least_dims, recipe.dims));
        }
        if self.ladder.is_empty() || !self.ladder.is_sorted() || self.ladder.contains(&Precision::Fp32) {
            return Some(format!("the ladder `{:?}` does not go down from FP16", self.ladder));
        }
        if let Some(step) = self.ladder.iter().find(|&&step| !architecture.makes(Storage::Gguf, step)) {
            return Some(format!("the ladder's `{step}` is not made of such a model"));
        }
        if let Some(problem) = self.variants.iter().find_map(Variant::contradiction) {
            return Some(problem);
        }
        for (number, variant) in self.variants.iter().enumerate() {
            let same = |other: &&Variant| (&other.repo, &other.file) == (&variant.repo, &variant.file);
            if self.variants[..number].iter().any(|other| same(&other)) {
                return Some(format!("`{}` is named twice", variant.file.as_ref().unwrap_or(&variant.repo)));
            }
        }
        if self.revision.as_ref().is_some_and(|revision| !is_hexadecimal(revision, 40)) {
            return Some(format!("`{:?}` is no commit", self.revision));
        }
        let unpinned = self.files.iter().find(|file| !is_hexadecimal(&file.sha256, 64));
        unpinned.map(|file| format!("`{}` of `{}` is no sha256", file.sha256, file.path))
    }
}

fn is_hexadecimal(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}
