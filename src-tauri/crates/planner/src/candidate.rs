//! What can be chosen, and what of it is there.

use std::collections::BTreeMap;
use std::fmt;

use embedbar_contract::{BackendName, Precision};

/// Where Core ML runs a package.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Unit {
    /// The processor and the Neural Engine.
    NeuralEngine,
    /// The processor and the GPU.
    Gpu,
    /// The processor alone.
    Cpu,
}

/// What computes, with its compute unit where there are several.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Backend {
    /// Core ML, on one of its units.
    CoreMl(Unit),
    /// candle on Apple's GPU.
    Metal,
    /// The processor.
    Cpu,
    /// A package where there is no Core ML.
    CoreMlInterpreted,
}

impl Backend {
    /// What the contract calls it.
    pub fn name(self) -> BackendName {
        match self {
            Self::CoreMl(_) => BackendName::CoreMl,
            Self::Metal => BackendName::CandleMetal,
            Self::Cpu => BackendName::Cpu,
            Self::CoreMlInterpreted => BackendName::CoreMlInterpreted,
        }
    }

    /// Whether its weights lie in memory that the GPU has to reach.
    pub(crate) fn uses_gpu(self) -> bool {
        matches!(self, Self::Metal | Self::CoreMl(Unit::Gpu))
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::CoreMl(Unit::NeuralEngine) => "Core ML (Neural Engine)",
            Self::CoreMl(Unit::Gpu) => "Core ML (GPU)",
            Self::CoreMl(Unit::Cpu) => "Core ML (processor)",
            Self::Metal => "Metal",
            Self::Cpu => "CPU",
            Self::CoreMlInterpreted => "Core ML (interpreted, slow)",
        })
    }
}

/// Something that could answer: a model in one precision on one backend.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Candidate {
    /// What computes.
    pub backend: Backend,
    /// The model's id in the catalogue.
    pub model: String,
    /// What its weights are stored as.
    pub precision: Precision,
}

impl fmt::Display for Candidate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}, {}", self.model, self.precision, self.backend)
    }
}

/// How the vectors of an installed model compare with those of what it was made from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Standing {
    /// Nothing to compare it with: the checkpoint itself, or a model that the user or the program brought as it is.
    Original,
    /// It was made here and compared.
    Compared {
        /// Mean cosine with its source's vectors.
        mean_cosine: f64,
        /// The least that was asked for when it was made.
        floor: f64,
    },
    /// It was made here and not compared yet.
    NotCompared,
}

/// What an installed model is.
#[derive(Clone, Debug, PartialEq)]
pub enum Form {
    /// A folder of safetensors: it runs on the processor and on Metal, and others can be made of it.
    Checkpoint,
    /// A GGUF file.
    Gguf,
    /// A Core ML package.
    Package {
        /// Whether this system has its compiled form already, so that loading it takes no more than running it.
        specialised: bool,
        /// The largest of its weight files.
        largest_file_bytes: u64,
        /// The mean cosine of its vectors with those of its certificate, for each unit of this Mac that was tried.
        repeated: BTreeMap<Unit, f64>,
    },
}

/// A model that is installed.
#[derive(Clone, Debug, PartialEq)]
pub struct Artefact {
    /// The model's id in the catalogue.
    pub model: String,
    /// What its weights are stored as.
    pub precision: Precision,
    /// What it is.
    pub form: Form,
    /// How good it is.
    pub standing: Standing,
}

impl Artefact {
    /// Whether it can be given to `backend`.
    pub fn runs_on(&self, backend: Backend) -> bool {
        match backend {
            Backend::Cpu | Backend::Metal => matches!(self.form, Form::Checkpoint | Form::Gguf),
            Backend::CoreMl(_) | Backend::CoreMlInterpreted => matches!(self.form, Form::Package { .. }),
        }
    }
}
