//! The data of getting and keeping models: what a model is before it is installed, what an installation costs, what its
//! self-test found, and the library.
//!
//! As in [`crate::types`]: units are in the names, what is not known is `None`.

use serde::{Deserialize, Serialize};
use ts_rs::TS;

use crate::types::{BackendName, ConvertPrecision, EnvChange, Generation, Precision};

/// What kind of files a model is.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum ModelKind {
    /// A folder as transformers writes it: `config.json` and safetensors.
    Checkpoint,
    /// The same with matrices that MLX has quantised.
    MlxCheckpoint,
    /// One GGUF file.
    Gguf,
    /// A Core ML package.
    CoreMlPackage,
    /// A compiled Core ML model, which runs on macOS only.
    CompiledCoreMl,
}

/// What a model on this machine is, before anything is installed.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, TS)]
pub struct Inspection {
    /// What kind of files it is.
    pub kind: ModelKind,
    /// The id that it would get.
    pub name: String,
    /// Its family as its files name it, such as `bert`.
    pub architecture: Option<String>,
    /// Width of its vectors.
    pub dims: Option<u64>,
    /// The most tokens that its files allow in a text.
    pub max_tokens: Option<u64>,
    /// Numbers in its matrices.
    pub parameters: Option<u64>,
    /// What its matrices are stored as, in words, such as `F16` or `Q4_K, Q6_K`.
    pub stored_as: Option<String>,
    /// Size of the files that would be taken.
    pub bytes: u64,
    /// The licence that its files name.
    pub licence: Option<String>,
    /// What it is expected to take in memory while it runs.
    pub needs_bytes: Option<u64>,
    /// The model of the catalogue that it is, by name and shapes.
    pub known: Option<String>,
    /// What a person should know, a sentence each.
    pub notes: Vec<String>,
}

/// Names what is to be looked at.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, TS)]
pub struct InspectRequest {
    /// An absolute path, a link to the hub, or a repository there: `owner/name`, with `@revision`, `:Q8_0` or a file's name
    /// behind it. A model of the catalogue by its name is its repository.
    pub source: String,
}

/// What an installation would be, before a person says yes to it.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, TS)]
pub struct InstallOffer {
    /// What [`InstallRequest::source`] is to be.
    pub source: String,
    /// The id that the model gets.
    pub name: String,
    /// Whether a model of that id is installed, which the new one would replace.
    pub replaces: bool,
    /// What the files are, where they are on this machine.
    pub inspection: Option<Inspection>,
    /// What has to be fetched, where they are not.
    pub download: Option<DownloadOffer>,
    /// Precisions that can be made of it afterwards.
    pub ladder: Vec<LadderOffer>,
    /// Room on the disk of the home.
    pub disk_available_bytes: Option<u64>,
}

/// What a download would be.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, TS)]
pub struct DownloadOffer {
    /// The hub's address.
    pub hub: String,
    /// `owner/name`.
    pub repository: String,
    /// The commit that is fetched, 40 hexadecimal digits.
    pub commit: String,
    /// Files in all.
    pub files: u64,
    /// Their size.
    pub total_bytes: u64,
    /// What of it has to be fetched; the rest is on this machine.
    pub fetch_bytes: u64,
    /// The folder that they are fetched into.
    pub folder: String,
    /// The licence that the repository names.
    pub licence: Option<String>,
    /// What kind of files they are.
    pub kind: ModelKind,
    /// The model of the catalogue that it is. What follows is known of it alone: files are opened once they are here.
    pub known: Option<String>,
    /// Its family, such as `bert`.
    pub architecture: Option<String>,
    /// Width of its vectors.
    pub dims: Option<u64>,
    /// The most tokens that it reads of a text.
    pub max_tokens: Option<u64>,
    /// What it is expected to take in memory while it runs.
    pub needs_bytes: Option<u64>,
    /// What a person should know, a sentence each.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// A precision that can be made of a model.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize, TS)]
pub struct LadderOffer {
    /// The precision.
    pub precision: ConvertPrecision,
    /// What it takes on the disk.
    pub bytes: Option<u64>,
    /// Whether it is installed already.
    pub installed: bool,
}

/// An installation that is wanted.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize, TS)]
pub struct InstallRequest {
    /// [`InstallOffer::source`].
    pub source: String,
    /// What a person has said may be fetched ([`DownloadOffer::fetch_bytes`]); nothing is fetched without it.
    #[serde(default)]
    pub agreed_bytes: Option<u64>,
    /// The commit that a person has seen; another one is refused.
    #[serde(default)]
    pub commit: Option<String>,
    /// Another id than the offer's.
    #[serde(default)]
    pub name: Option<String>,
    /// Leave the files where they are and point to them.
    #[serde(default)]
    pub leave_in_place: bool,
    /// Precisions to make of it afterwards, while the machine is calm.
    #[serde(default)]
    pub ladder: Vec<ConvertPrecision>,
}

/// Where an installed model has come from.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, TS)]
pub struct ModelOrigin {
    /// A path, or `owner/name` on the hub.
    pub source: String,
    /// The commit, where it is from the hub.
    pub commit: Option<String>,
    /// The licence.
    pub licence: Option<String>,
    /// What kind of files it is.
    pub kind: ModelKind,
    /// How its files came into the home.
    pub placed: Placing,
    /// When, in seconds since 1970.
    pub installed_at: u64,
    /// Its files, by which it can be verified again.
    pub files: Vec<OriginFile>,
}

/// How files came into the home.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum Placing {
    /// As clones, which share their blocks with the original.
    Cloned,
    /// As copies.
    Copied,
    /// Not at all: links point to where they are.
    Linked,
    /// Moved there by the download.
    Moved,
}

/// A file of an installed model.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, TS)]
pub struct OriginFile {
    /// Below the model's folder.
    pub path: String,
    /// In bytes.
    pub bytes: u64,
    /// Its sha256.
    pub sha256: String,
}

/// What a model's self-test found on this machine.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, TS)]
pub struct Card {
    /// When, in seconds since 1970.
    pub tested_at: u64,
    /// The program's version.
    pub program: String,
    /// Whether all checks passed.
    pub passed: bool,
    /// Each check.
    pub checks: Vec<CardCheck>,
    /// What its vectors carry; `None` where it could not be opened.
    pub generation: Option<Generation>,
    /// What ran it.
    pub backend: Option<BackendName>,
    /// Width of its vectors.
    pub dims: Option<u64>,
    /// The most tokens it reads of a text, by its files.
    pub max_tokens: Option<u64>,
    /// The token after which text no longer changed the vector, as measured; never more than a test's longest text.
    pub true_window: Option<u64>,
    /// How hidden states become a vector: `mean`, `first` or `last`; `None` where a package has it built in.
    pub pooling: Option<String>,
    /// What goes in front of a query.
    pub query_prompt: String,
    /// What goes in front of a document.
    pub document_prompt: String,
    /// From opening the file to the first vector.
    pub load_ms: Option<f64>,
    /// A text of about ten tokens, the median of several.
    pub short_text_ms: Option<f64>,
    /// Tokens a second of texts of about sixty tokens together.
    pub tokens_per_second: Option<f64>,
    /// The most memory that the test's process held.
    pub peak_bytes: Option<u64>,
}

impl Card {
    /// The first check that failed, with its numbers; `None` where all passed.
    pub fn first_failure(&self) -> Option<String> {
        let failed = self.checks.iter().find(|check| !check.passed)?;
        Some(format!("{}: {}", failed.name, failed.detail))
    }
}

/// One check of a self-test.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, TS)]
pub struct CardCheck {
    /// What was checked, such as `batch equals single`.
    pub name: String,
    /// Whether it is as it should be.
    pub passed: bool,
    /// With the numbers.
    pub detail: String,
}

/// How far a model can be trusted.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize, TS)]
#[serde(tag = "health", rename_all = "snake_case")]
pub enum ModelHealth {
    /// It has no card: it came with the program, was converted here or was put there by hand.
    #[default]
    Untested,
    /// Its self-test passed.
    Passed,
    /// Its self-test failed: it is never active.
    Quarantined {
        /// Why.
        reason: String,
    },
    /// Its files lie elsewhere and are not there.
    Missing {
        /// Which.
        reason: String,
    },
}

/// One model with all that is known of it.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, TS)]
pub struct ModelDetails {
    /// As in the list.
    pub model: ModelInfo,
    /// Where it has come from.
    pub origin: Option<ModelOrigin>,
    /// What its self-test found.
    pub card: Option<Card>,
    /// How near its vectors are to those of what it was made of, a sentence.
    pub certificate: Option<String>,
}

/// A model that can be made active.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize, TS)]
pub struct ModelInfo {
    /// The id that [`ModelChoice`](crate::ModelChoice) takes.
    pub id: String,
    /// Where it lives on disk.
    pub path: String,
    /// Whether it came with the program.
    pub bundled: bool,
    /// Whether it is the active one.
    pub active: bool,
    /// Size of its files, wherever they lie.
    pub size_bytes: u64,
    /// What of it lies in the home and in nobody else's folder: what removing it gives back.
    #[serde(default)]
    pub own_bytes: u64,
    /// What kind of files it is, where that is known.
    #[serde(default)]
    pub kind: Option<ModelKind>,
    /// Its precision, where that is known without opening it.
    #[serde(default)]
    pub precision: Option<Precision>,
    /// How far it can be trusted.
    #[serde(default)]
    pub health: ModelHealth,
    /// When it last answered, in seconds since 1970.
    #[serde(default)]
    pub last_used_at: Option<u64>,
}

/// What removing a model came to.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, TS)]
pub struct Removed {
    /// What it gave back on the disk.
    pub freed_bytes: u64,
    /// What was left where it is, a sentence each.
    pub kept: Vec<String>,
}

/// The lines that the Papr SDK needs to use a model, and where they would be written.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, TS)]
pub struct SdkProposal {
    /// The model.
    pub model: String,
    /// The followed `.env`; `None` where none is followed.
    pub file: Option<String>,
    /// The lines themselves, `NAME=value`, to be copied.
    pub lines: Vec<String>,
    /// What would change in the file; empty where it has them.
    pub changes: Vec<EnvChange>,
    /// Why they cannot be written, or why the SDK cannot use this model.
    pub refused: Option<String>,
}

/// A person's word for writing the SDK's lines into the followed `.env`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, TS)]
pub struct SdkKeep {
    /// The model.
    pub model: String,
    /// [`SdkProposal::changes`], as they were shown: a file that has changed meanwhile is left alone.
    pub changes: Vec<EnvChange>,
}

/// A hub's token on its way to the place where it is kept. It is never shown.
#[derive(Clone, Deserialize, Eq, PartialEq, Serialize, TS)]
pub struct TokenRequest {
    /// The token; `None` forgets the one that is kept.
    pub token: Option<String>,
}

impl std::fmt::Debug for TokenRequest {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(if self.token.is_some() { "TokenRequest(secret)" } else { "TokenRequest(none)" })
    }
}

/// Whether the hub gets a token, and whose.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, TS)]
pub struct TokenStatus {
    /// Where the token that would be sent is from, a sentence; `None` where there is none.
    pub source: Option<String>,
    /// Whether one is kept by Embedbar, be it sent or not.
    pub kept: bool,
    /// Where Embedbar keeps one, a sentence.
    pub place: String,
}

/// How fast downloads may be.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize, TS)]
pub struct DownloadLimit {
    /// Bytes a second over all connections; `None` is no limit.
    pub bytes_per_second: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_not_shown() {
        let request = TokenRequest { token: Some("hf_secret".to_owned()) };
        assert_eq!(format!("{request:?}"), "TokenRequest(secret)");
    }
}
