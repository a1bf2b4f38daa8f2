//! What is asked of the converter and what it answers. No behaviour.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use crate::Lengths;

/// What the matrices of the target are stored as. Norms, biases and small tables stay F32 in each of them.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum TargetPrecision {
    /// IEEE half precision (GGUF's F16).
    Fp16,
    /// 8-bit integers. GGUF: a scale for every 32 of them (Q8_0). Core ML: a scale for each row.
    Int8,
    /// 4 bits. GGUF: Q4_K, or Q4_0 where rows are no multiple of 256. Core ML: a palette for each matrix before macOS 15, 4-bit
    /// integers with a scale for every 32 from then on; reported to be badly wrong on real Macs, so an experiment. The table of
    /// tokens stays 8-bit.
    FourBit,
}

impl TargetPrecision {
    /// What a matrix is stored as that loses too much in 4 bits.
    pub(crate) fn raised(self) -> Self {
        match self {
            Self::FourBit => Self::Int8,
            other => other,
        }
    }
}

/// What is made.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Format {
    /// One GGUF file, which llama.cpp reads too.
    Gguf,
    /// A Core ML package for the Neural Engine or the GPU of a Mac, or one for each of several lengths.
    Package(Package),
}

/// What a package is made for.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Package {
    /// The oldest system that opens it.
    pub system: System,
    /// Tokens of a text; shorter ones are padded on the right. Each length is a package of its own: the first one is called as
    /// the target is, and 64 after it is `NAME-64.mlpackage`. All of them have the same weights, which are on the disk once
    /// where the filesystem can do that.
    pub lengths: Lengths,
    /// How many of the last layers are averaged before pooling; 1 is the customary form.
    pub layers: NonZeroUsize,
    /// Whether the vector is scaled to length 1; `None` as the checkpoint says.
    pub normalise: Option<bool>,
    /// Whether it is what the Papr SDK expects; it is then recorded in the package.
    pub papr: bool,
    /// The most bytes of weights in one package, such as [`NEURAL_ENGINE_BYTES`](crate::NEURAL_ENGINE_BYTES). A model that has
    /// more becomes the least number of packages that run one after the other: `NAME-1of3.mlpackage` takes `input_ids` and
    /// `attention_mask` and gives `hidden_out`; the next one takes that as `hidden`, and `attention_mask`; the last one gives
    /// `embedding`. Where they average layers of several packages, `shares_out` and `shares` go along. `None`: one package,
    /// whatever its size.
    pub chunk_bytes: Option<u64>,
}

impl Package {
    /// A text's length in the model's own recipe, by default.
    pub const NATIVE_LENGTH: NonZeroUsize = NonZeroUsize::new(128).expect("128 is not 0");
    /// A text's length in the Papr SDK.
    pub const PAPR_LENGTH: NonZeroUsize = NonZeroUsize::new(32).expect("32 is not 0");
    /// Layers that the Papr SDK's shipped model averages.
    pub const PAPR_LAYERS: NonZeroUsize = NonZeroUsize::new(4).expect("4 is not 0");

    /// The model's own recipe at the default length.
    pub fn native(system: System) -> Self {
        let (lengths, layers) = (Self::NATIVE_LENGTH.into(), NonZeroUsize::MIN);
        Self { system, lengths, layers, normalise: None, papr: false, chunk_bytes: None }
    }

    /// What the Papr SDK expects: 32 tokens, the mean of the last four layers, mean pooling.
    pub fn papr(system: System) -> Self {
        let (lengths, layers) = (Self::PAPR_LENGTH.into(), Self::PAPR_LAYERS);
        Self { system, lengths, layers, normalise: Some(true), papr: true, chunk_bytes: None }
    }
}

/// The oldest macOS that opens a package. Newer ones open it too.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum System {
    /// Ventura.
    MacOs13,
    /// Sonoma.
    MacOs14,
    /// Sequoia.
    MacOs15,
}

/// How the hidden states of a text become one vector.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Pooling {
    /// The mean over the tokens of the text.
    Mean,
    /// The first token.
    Cls,
    /// The last token.
    Last,
}

/// One conversion.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Job {
    /// A folder with `config.json`, `tokenizer.json` and `model.safetensors`, or shards and their index.
    pub source: PathBuf,
    /// The `.gguf` file or the `.mlpackage` folder to make; its folder must exist. `tokenizer.json` is placed beside it. What
    /// is there already is replaced only when the new one is complete.
    pub target: PathBuf,
    /// What is made.
    pub format: Format,
    /// What the matrices are stored as.
    pub precision: TargetPrecision,
    /// Overrides what the checkpoint says about pooling; needed where it says nothing.
    pub pooling: Option<Pooling>,
    /// Overrides the most tokens that the authors meant the model to read of a text.
    pub max_tokens: Option<usize>,
    /// The model's name as the file records it; by default the target's file name without its suffix.
    pub name: Option<String>,
    /// Matrices that are stored in 8 bits although 4 are asked for, by the names that [`TensorSummary::part`] gives: those
    /// that lost most. Of no effect with another precision.
    pub raised: BTreeSet<String>,
}

impl Job {
    /// A GGUF file with everything else as the checkpoint says.
    pub fn new(source: impl Into<PathBuf>, target: impl Into<PathBuf>, precision: TargetPrecision) -> Self {
        let (source, target, format) = (source.into(), target.into(), Format::Gguf);
        let raised = BTreeSet::new();
        Self { source, target, format, precision, pooling: None, max_tokens: None, name: None, raised }
    }

    /// What the part of that name is stored as.
    pub(crate) fn precision_of(&self, part: &str) -> TargetPrecision {
        if self.raised.contains(part) { self.precision.raised() } else { self.precision }
    }
}

/// How far a conversion is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Progress {
    /// Bytes of the source that were converted plus bytes of the target that were read back.
    pub bytes_done: u64,
    /// Bytes of the source's weights plus bytes of the target; known from the headers before anything is converted.
    pub bytes_total: u64,
    /// The tensor that was worked on, by its name in the target; empty while the target is read back for its sha256.
    pub tensor: String,
}

/// What a conversion did.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Summary {
    /// Bytes of the source's weight files, all of which were read.
    pub bytes_read: u64,
    /// Size of the target; of the packages of the first length together, where there are several.
    pub bytes_written: u64,
    /// The sha256 of the weights: of the file itself where there is one; where there are shards, of the lines
    /// `SHA256  NAME` that `sha256sum` prints for them in the order of their names.
    pub input_sha256: String,
    /// The sha256 of the target, taken by reading it back; of a package, that of the lines `SHA256  PATH` for its files in the
    /// order of their paths; of a chain of packages, that of the lines `SHA256  NAME` for those of the first length.
    pub output_sha256: String,
    /// Every package that was made, those of the first length first; empty for a GGUF file.
    pub packages: Vec<PackageSummary>,
    /// How the packages of further lengths have their weights; `None` where there is one length.
    pub sharing: Option<Sharing>,
    /// Every tensor of the target, in its order.
    pub tensors: Vec<TensorSummary>,
    /// Tensors of the source that a vector does not depend on and that were left out, such as the pooler.
    pub left_out: Vec<String>,
    /// Why the target has no tokenizer of its own, where `tokenizer.json` cannot be said in GGUF. llama.cpp cannot read such
    /// a target; Embedbar can, with the `tokenizer.json` that lies beside it.
    pub tokenizer_left_out: Option<String>,
    /// The most tokens of a text that the target says to read; in packages, the first length.
    pub max_tokens: usize,
    /// The pooling that the target asks for.
    pub pooling: Pooling,
}

/// One package that was made.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PackageSummary {
    /// Where it is.
    pub path: PathBuf,
    /// Tokens of a text.
    pub length: usize,
    /// Where the model is in several packages: which of them it is, counted from 1, and how many there are.
    pub chunk: Option<(usize, usize)>,
    /// Its size, weights that it shares with others included.
    pub bytes: u64,
    /// Size of its weights.
    pub weight_bytes: u64,
    /// See [`Summary::output_sha256`].
    pub sha256: String,
}

/// How a weight file of the same bytes came to be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Sharing {
    /// As a file of its own that shares its blocks on the disk (APFS, Btrfs, XFS).
    Cloned,
    /// As another name of the same file.
    Linked,
    /// As a second file, on a filesystem that can do neither.
    Copied,
}

/// One tensor of the target.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TensorSummary {
    /// The part of the model that it is, by the name that models of its family have for it; see [`crate::Source`].
    pub part: String,
    /// Its name in the target.
    pub name: String,
    /// Its name in the source.
    pub source: String,
    /// Rows first; those of the source, less the rows that belong to no position of XLM-R.
    pub shape: Vec<usize>,
    /// What it is stored as, such as `F32`, `F16`, `Q8_0`, `INT8` or `PALETTE4`.
    pub stored_as: &'static str,
    /// Its size in the target.
    pub bytes: u64,
    /// Whether it is stored wider than asked because its rows do not divide into whole blocks.
    pub fell_back: bool,
}

impl TensorSummary {
    /// Whether its numbers have 4 bits.
    pub fn is_four_bit(&self) -> bool {
        matches!(self.stored_as, "Q4_0" | "Q4_K" | "PALETTE4" | "INT4")
    }
}
