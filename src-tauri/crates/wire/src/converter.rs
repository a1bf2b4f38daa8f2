//! What a converter is told and what it says at the end; how, is for [`crate::errand`] to say.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use embedbar_contract::{ConvertFormat, ConvertPrecision};

/// One conversion.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Order {
    /// The checkpoint's folder.
    pub source: PathBuf,
    /// The file or package to make; its folder exists.
    pub target: PathBuf,
    /// What the matrices are stored as.
    pub precision: ConvertPrecision,
    /// What is made.
    pub format: ConvertFormat,
}

/// What a conversion made.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Made {
    /// Size of the source's weights.
    pub bytes_read: u64,
    /// Size of the target.
    pub bytes_written: u64,
    /// Its sha256.
    pub sha256: String,
    /// What a person should know about it, a sentence each.
    pub notes: Vec<String>,
}
