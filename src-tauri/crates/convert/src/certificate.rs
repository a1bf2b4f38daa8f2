//! What is known of a model that was made here: how near its vectors are to its source's, by whose computation. A JSON file
//! beside the model. What is not here: making one (`embedbar-certify`).

use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use half::f16;
use serde::{Deserialize, Serialize};

use crate::ConvertError;

/// The version of the form. A program refuses newer ones.
const VERSION: u32 = 1;

/// Behind the model's name.
const SUFFIX: &str = ".certificate.json";

/// Far above any real one.
const LARGEST: u64 = 64 << 20;

/// A certificate.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Certificate {
    /// The version of the form.
    pub version: u32,
    /// Whether the model passed, and why not.
    pub verdict: Verdict,
    /// The least mean cosine that was asked for; 0 where any was good enough.
    pub floor: f64,
    /// How near the vectors are to the source's.
    pub agreement: Agreement,
    /// What computed both sides' vectors.
    pub evaluator: String,
    /// What was made sure before.
    pub self_test: SelfTest,
    /// `gguf` or `mlpackage`.
    pub format: String,
    /// `fp16`, `int8` or `4bit`.
    pub precision: String,
    /// `native` or `papr`.
    pub recipe: String,
    /// Matrices that are stored in 8 bits although 4 were asked for, because they lost most.
    pub raised: Vec<String>,
    /// Matrices that are stored wider than asked because their rows do not divide into blocks.
    pub fell_back: Vec<String>,
    /// What made the model.
    pub converter: String,
    /// See [`crate::Summary::input_sha256`].
    pub source_sha256: String,
    /// See [`crate::Summary::output_sha256`].
    pub target_sha256: String,
    /// Size of the source's weights in bytes.
    pub source_bytes: u64,
    /// Size of the model in bytes.
    pub target_bytes: u64,
    /// The probe set that was used, by the sha256 of its file.
    pub probes_sha256: String,
    /// How many sentences it has.
    pub probes: usize,
    /// Milliseconds that the conversion took, the last one where there were several.
    pub conversion_ms: f64,
    /// Milliseconds that judging it took.
    pub certification_ms: f64,
    /// The source's vectors of the probe set. With them the comparison can be repeated by any other program or processor, and the
    /// source is not needed for that.
    pub source_vectors: Vectors,
}

/// Vectors of length 1 as half-precision numbers, the lowest byte first, in base64.
#[derive(Clone, Deserialize, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Vectors(String);

impl Vectors {
    /// Of vectors of length 1, for which halves suffice.
    pub fn of(vectors: &[Vec<f32>]) -> Self {
        let bytes: Vec<u8> = vectors.iter().flatten().flat_map(|number| f16::from_f32(*number).to_le_bytes()).collect();
        Self(STANDARD.encode(bytes))
    }

    /// As `count` vectors; `None` where they are not so many.
    fn decode(&self, count: usize) -> Option<Vec<Vec<f32>>> {
        let bytes = STANDARD.decode(&self.0).ok()?;
        let numbers: Vec<f32> = bytes.as_chunks().0.iter().map(|two| f16::from_le_bytes(*two).to_f32()).collect();
        let width = numbers.len().checked_div(count).filter(|width| *width > 0 && numbers.len() == width * count)?;
        Some(numbers.chunks_exact(width).map(<[f32]>::to_vec).collect())
    }
}

impl std::fmt::Debug for Vectors {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} characters", self.0.len())
    }
}

/// Whether a model may be used without being asked for by name.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "outcome", content = "reason")]
pub enum Verdict {
    /// It agrees with its source.
    Passed,
    /// It does not, or nobody can tell; the reason.
    Quarantined(String),
}

/// How far the vectors of two models agree on the probe set.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub struct Agreement {
    /// The mean over the texts.
    pub mean_cosine: f64,
    /// That of the text that lost most.
    pub least_cosine: f64,
    /// The share of each text's ten nearest others that both models agree on, from 0 to 1.
    pub top_10_overlap: f64,
}

/// What was made sure before the vectors were compared.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct SelfTest {
    /// What ran the model itself.
    pub evaluator: String,
    /// Numbers in a vector.
    pub width: usize,
    /// The largest difference between a text's vector by itself and the same among others, or, of a package, with other padding.
    pub alone_difference: f64,
    /// The least cosine between the model as it was run and the evaluator of the certificate.
    pub least_cosine: f64,
    /// Milliseconds that one text took there.
    pub text_ms: f64,
}

impl Verdict {
    /// Of a model whose vectors agree so with the source's, where `floor` is the least mean cosine that is accepted.
    pub fn of(agreement: &Agreement, floor: f64) -> Self {
        let cosine = agreement.mean_cosine;
        if cosine >= floor {
            return Self::Passed;
        }
        Self::Quarantined(format!(
            "its vectors agree with the source's to a mean cosine of {cosine:.4}, below the floor of {floor}"
        ))
    }
}

impl Certificate {
    /// The version of the form that this program writes.
    pub const CURRENT: u32 = VERSION;

    /// Where the certificate of the model at `model` is.
    pub fn path(model: &Path) -> PathBuf {
        beside(model, SUFFIX)
    }

    /// The certificate beside the model at `model`; `None` where there is none.
    ///
    /// It may be an older model's: see [`Self::is_of`].
    pub fn beside(model: &Path) -> Result<Option<Self>, ConvertError> {
        let path = Self::path(model);
        let bad = |problem: String| ConvertError::Certificate { path: path.clone(), problem };
        let length = match path.metadata() {
            Ok(metadata) => metadata.len(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(bad(error.to_string())),
        };
        if length > LARGEST {
            return Err(bad(format!("it has `{length}` bytes")));
        }
        let text = fs::read(&path).map_err(|error| bad(error.to_string()))?;
        let certificate: Self = serde_json::from_slice(&text).map_err(|error| bad(error.to_string()))?;
        if certificate.version > VERSION {
            let version = certificate.version;
            return Err(bad(format!("it has the version `{version}`, and this Embedbar knows `{VERSION}`")));
        }
        Ok(Some(certificate))
    }

    /// Whether the model at `model` has the size that this certificate is about. A kill between the model's rename and its
    /// certificate's leaves an older certificate there, which counts for nothing.
    pub fn is_of(&self, model: &Path) -> bool {
        size(model).is_some_and(|bytes| bytes == self.target_bytes)
    }

    /// Writes it beside the model at `model`.
    pub fn write(&self, model: &Path) -> Result<PathBuf, ConvertError> {
        let path = Self::path(model);
        place(&path, self)?;
        Ok(path)
    }

    /// The source's vectors of the probe set; `None` where the file was changed.
    pub fn source_vectors(&self) -> Option<Vec<Vec<f32>>> {
        self.source_vectors.decode(self.probes)
    }
}

/// The file whose name is the model's with `suffix` behind it.
pub fn beside(model: &Path, suffix: &str) -> PathBuf {
    let mut name = model.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Puts a record into its place as JSON for people.
pub fn place(path: &Path, record: &impl Serialize) -> Result<(), ConvertError> {
    let mut text = serde_json::to_string_pretty(record).expect("plain structs become JSON. This is a bug.");
    text.push('\n');
    crate::place(path, text.as_bytes())
}

/// Bytes of a file, or of all files in a folder.
fn size(path: &Path) -> Option<u64> {
    let metadata = path.metadata().ok()?;
    if !metadata.is_dir() {
        return Some(metadata.len());
    }
    fs::read_dir(path).ok()?.map(|entry| size(&entry.ok()?.path())).sum()
}
