//! What has arrived: the answer of [`recognise`](crate::recognise).

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::Summary;

/// What a dropped path holds.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// `config.json` and safetensors, as transformers writes them.
    Checkpoint,
    /// The same, with weights that are quantised as MLX does it.
    MlxCheckpoint,
    /// One GGUF file.
    Gguf,
    /// A Core ML package: `Manifest.json` and `Data/`.
    CoreMlPackage,
    /// A Core ML model that a Mac has compiled: `.mlmodelc`.
    CompiledCoreMl,
}

/// A model that can be taken, and what its headers say. Nothing has been copied except out of an archive.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Arrival {
    /// What it is.
    pub kind: Kind,
    /// A name for a person and for a file: letters, digits, `.`, `_` and `-`.
    pub name: String,
    /// What was dropped, without symbolic links in its path.
    pub origin: PathBuf,
    /// The files to take, and only these.
    pub files: Vec<ArrivedFile>,
    /// The sum of their sizes.
    pub bytes: u64,
    /// Its licence as the model says it (`apache-2.0`), which nobody has checked.
    pub licence: Option<String>,
    /// What a person should know: files that are left out and why, what is missing. One sentence each.
    pub notes: Vec<String>,
    /// Whether the files lie in the scratch folder, unpacked from an archive.
    pub in_scratch: bool,
    /// What the headers say.
    pub summary: Summary,
}

/// A file that is taken.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ArrivedFile {
    /// Where it is; perhaps a symbolic link to a file, in a folder that the user named.
    pub from: PathBuf,
    /// Where it goes, below the model's folder, with `/` between its parts.
    pub to: String,
    /// Its size when it was looked at.
    pub bytes: u64,
}
