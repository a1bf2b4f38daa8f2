//! What a Core ML package says of itself, and the processors that may run it: the same for Core ML and for the interpreter.

use std::path::Path;

use embedbar_contract::{Precision, RecipeName};
use embedbar_mil::Package;

use crate::EngineError;

/// Where a package runs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ComputeUnit {
    /// Core ML with the processor and the Neural Engine.
    NeuralEngine,
    /// Core ML with the processor and the GPU.
    Gpu,
    /// Core ML with the processor alone.
    Cpu,
    /// This project's interpreter, where there is no Core ML.
    Interpreter,
}

impl ComputeUnit {
    /// Those of this system, the one first that is tried first.
    pub fn all() -> &'static [Self] {
        if cfg!(target_os = "macos") { &[Self::NeuralEngine, Self::Gpu, Self::Cpu] } else { &[Self::Interpreter] }
    }

    /// For names of files.
    pub fn name(self) -> &'static str {
        match self {
            Self::NeuralEngine => "neural-engine",
            Self::Gpu => "gpu",
            Self::Cpu => "cpu",
            Self::Interpreter => "interpreter",
        }
    }
}

impl std::fmt::Display for ComputeUnit {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::NeuralEngine => "Core ML on the Neural Engine",
            Self::Gpu => "Core ML on the GPU",
            Self::Cpu => "Core ML on the processor",
            Self::Interpreter => "Core ML (interpreted, slow)",
        })
    }
}

/// What a package says of itself.
pub(crate) struct Declared {
    pub(crate) recipe: RecipeName,
    /// What most of its weights are stored as.
    pub(crate) precision: Precision,
}

impl Declared {
    /// By the package at `path`, for Core ML, which tells neither.
    #[cfg(target_os = "macos")]
    pub(crate) fn at(path: &Path) -> Result<Self, EngineError> {
        Ok(Self::of(&open(path)?))
    }

    pub(crate) fn of(package: &Package) -> Self {
        let description = package.describe();
        // Ours say what they are; those that do not come from the Papr SDK's conversion.
        let recipe = match description.user_defined.get("embedbar.recipe").map(String::as_str) {
            Some("native") => RecipeName::Native,
            _ => RecipeName::Papr,
        };
        let precision = match description.precision_class {
            Some(embedbar_mil::Precision::Int8) => Precision::Int8,
            Some(embedbar_mil::Precision::FourBit) => Precision::FourBit,
            Some(embedbar_mil::Precision::Fp32) => Precision::Fp32,
            _ => Precision::Fp16,
        };
        Self { recipe, precision }
    }
}

/// Reads the package at `path`.
pub(crate) fn open(path: &Path) -> Result<Package, EngineError> {
    path.metadata().map_err(|error| EngineError::reading(path, error))?;
    Package::open(path).map_err(|error| EngineError::corrupt(path, error))
}
