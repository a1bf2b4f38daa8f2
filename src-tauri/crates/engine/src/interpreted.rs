//! Core ML packages where there is no Core ML: interpreted by `embedbar-mil`, one text and one operation at a time.
//!
//! It answers as the package would, and slowly; it is labelled so wherever it shows. What a package does to tokens, mask and
//! hidden states is inside it, so that only its own recipe can be had from it.

use std::path::{Path, PathBuf};

use embedbar_contract::{BackendName, Precision, RecipeName};
use embedbar_mil::{Arithmetic, EmbeddingInterface, Lengths, MilError, Program};

use crate::{
    EngineError,
    backend::{Backend, BackendError, BatchShape, Output, PaddedBatch},
    mapped::Mapped,
    package::{self, ComputeUnit, Declared},
};

/// A package that is ready to be interpreted.
pub(crate) struct Interpreted {
    path: PathBuf,
    program: Program,
    interface: EmbeddingInterface,
    length: usize,
    recipe: RecipeName,
    precision: Precision,
}

impl Interpreted {
    /// Reads the package at `path`. There is one unit to run it on.
    pub(crate) fn open(path: &Path, _: ComputeUnit) -> Result<Self, EngineError> {
        let failed = |error: MilError| EngineError::corrupt(path, error);
        let package = package::open(path)?;
        let interface = package.embedding_interface(None).map_err(failed)?;
        if interface.per_token {
            return Err(EngineError::unsupported(
                path,
                "a vector for every token, which nothing here says how to pool",
            ));
        }
        let Lengths::Fixed(length) = interface.lengths else {
            return Err(EngineError::unsupported(path, "texts of several lengths in one package"));
        };
        let Declared { recipe, precision } = Declared::of(&package);
        let program = package.program(Some(&interface.function), Arithmetic::Single).map_err(failed)?;
        Ok(Self { path: path.to_path_buf(), program, interface, length, recipe, precision })
    }

    /// Tokens per text.
    pub(crate) fn length(&self) -> usize {
        self.length
    }

    /// Numbers per vector.
    pub(crate) fn dims(&self) -> usize {
        self.interface.dimensions
    }

    /// What most of its weights are stored as.
    pub(crate) fn precision(&self) -> Precision {
        self.precision
    }

    /// The package's program and weights, for its revision.
    pub(crate) fn files(&self) -> Result<Vec<Mapped>, EngineError> {
        Mapped::of_package(&self.path)
    }

    fn vector(&self, ids: &[u32], text: usize) -> Result<Vec<f32>, BackendError> {
        let wrong = || BackendError::CoreMl(format!("the package takes no `{}` tokens", ids.len()));
        let mask: Vec<i32> = (0..ids.len()).map(|at| i32::from(at < text)).collect();
        let ids: Vec<i32> = ids.iter().map(|&id| id as i32).collect();
        let inputs = self.interface.inputs(&ids, &mask).ok_or_else(wrong)?;
        let mut outputs = self.program.run(&inputs).map_err(|error| BackendError::CoreMl(error.to_string()))?;
        let output = outputs.remove(&self.interface.output);
        let vector = output.as_ref().and_then(|output| output.floats()).filter(|vector| vector.len() == self.dims());
        vector
            .map(<[f32]>::to_vec)
            .ok_or_else(|| BackendError::CoreMl(format!("the package gave no `{}`", self.interface.output)))
    }
}

impl Backend for Interpreted {
    fn name(&self) -> BackendName {
        BackendName::CoreMlInterpreted
    }

    fn shape(&self) -> BatchShape {
        BatchShape::OneRowOf(self.length)
    }

    fn built_in_recipe(&self) -> Option<RecipeName> {
        Some(self.recipe)
    }

    fn forward(&mut self, batch: &PaddedBatch, _: usize) -> Result<Output<'_>, BackendError> {
        let rows = batch.ids.chunks_exact(batch.length).zip(&batch.lengths);
        rows.map(|(ids, &text)| self.vector(ids, text)).collect::<Result<_, _>>().map(Output::Pooled)
    }
}
