//! Core ML packages on `coreml-rs`: a fixed length, one text at a time, pooling inside the package.
//!
//! Type-checked for macOS and never run on one. What the binding (0.5.4, read in source) needs to be used rightly:
//!
//! - It makes URLs with `URL(string:)`, which is nil (and then a crash) for a space and no file URL for a bare path. So it
//!   gets a percent-encoded `file://` URL.
//! - It labels a buffer of 32-bit integers as floating point, so that Core ML would see denormal numbers. So ids and mask
//!   are given as floating-point numbers, which hold ids below 2^24 exactly and which Core ML converts to the declared
//!   type; [`Package::open`] compares the vectors of two texts and refuses the package if the ids do not arrive.
//! - It offers no shape of an input except in the error for a wrong one; [`shape_in_message`] reads it there.

#[cfg(target_os = "macos")]
pub(crate) use macos::Package;

/// A `file://` URL for an absolute path, as RFC 3986 wants it.
#[cfg_attr(not(target_os = "macos"), allow(dead_code, reason = "tested everywhere, used on macOS"))]
fn file_url(path: &str) -> String {
    use std::fmt::Write;

    let mut url = String::from("file://");
    for &byte in path.as_bytes() {
        if byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte) {
            url.push(byte.into());
        } else {
            write!(url, "%{byte:02X}").expect("a string takes any text. This is a bug.");
        }
    }
    url
}

/// The shape in a message such as `expected shape [1, 32] found [1, 1]`.
#[cfg_attr(not(target_os = "macos"), allow(dead_code, reason = "tested everywhere, used on macOS"))]
fn shape_in_message(message: &str) -> Option<Vec<usize>> {
    let (_, rest) = message.split_once("expected shape [")?;
    let (shape, _) = rest.split_once(']')?;
    shape.split(',').map(|size| size.trim().parse().ok()).collect()
}

#[cfg(target_os = "macos")]
mod macos {
    use std::path::{Path, PathBuf};

    use coreml_rs::{
        ComputePlatform, CoreMLModelOptions, CoreMLModelWithState, mlarray::MLArray, mlmodel::CoreMLError,
    };
    use embedbar_contract::{BackendName, Precision, RecipeName};
    use ndarray::ArrayD;

    use crate::{
        EngineError,
        backend::{Backend, BackendError, BatchShape, Output, PaddedBatch},
        mapped::Mapped,
        package::{ComputeUnit, Declared},
    };

    use super::{file_url, shape_in_message};

    const IDS: &str = "input_ids";
    const MASK: &str = "attention_mask";

    /// Texts longer than this are not what a fixed-shape package is made for.
    const LONGEST: usize = 1 << 16;

    /// A loaded package.
    pub(crate) struct Package {
        path: PathBuf,
        model: CoreMLModelWithState,
        length: usize,
        dims: usize,
        declared: Declared,
    }

    // No `unsafe impl Send`: the binding declares its model `Send` itself.

    impl Package {
        /// Compiles and loads the package at `path` for `unit` and finds its length and width.
        pub(crate) fn open(path: &Path, unit: ComputeUnit) -> Result<Self, EngineError> {
            let declared = Declared::at(path)?;
            let absolute = path.canonicalize().map_err(|error| EngineError::reading(path, error))?;
            let Some(text) = absolute.to_str() else {
                return Err(EngineError::unsupported(path, "a path that is not Unicode"));
            };
            let compute_platform = match unit {
                ComputeUnit::NeuralEngine => ComputePlatform::CpuAndANE,
                ComputeUnit::Gpu => ComputePlatform::CpuAndGpu,
                ComputeUnit::Cpu | ComputeUnit::Interpreter => ComputePlatform::Cpu,
            };
            let options = CoreMLModelOptions { compute_platform, ..Default::default() };
            let model = CoreMLModelWithState::new(file_url(text), options)
                .load()
                .map_err(|error| EngineError::corrupt(path, error))?;
            let mut package = Self { path: path.to_path_buf(), model, length: 0, dims: 0, declared };
            package.length = package.probe_length()?;
            let failed = |error: BackendError| EngineError::Backend { path: path.to_path_buf(), source: error };
            let one = package.predict(&[1], 1).map_err(failed)?;
            let other = package.predict(&[2], 1).map_err(failed)?;
            if one == other {
                return Err(EngineError::unsupported(path, "token ids in a form that this Core ML does not convert"));
            }
            package.dims = one.len();
            Ok(package)
        }

        /// Tokens per text.
        pub(crate) fn length(&self) -> usize {
            self.length
        }

        /// Numbers per vector.
        pub(crate) fn dims(&self) -> usize {
            self.dims
        }

        /// What its weights are stored as.
        pub(crate) fn precision(&self) -> Precision {
            self.declared.precision
        }

        /// The package's program and weights, for its revision.
        pub(crate) fn files(&self) -> Result<Vec<Mapped>, EngineError> {
            Mapped::of_package(&self.path)
        }

        fn probe_length(&mut self) -> Result<usize, EngineError> {
            let wrong = ArrayD::<f32>::zeros(vec![1, LONGEST + 1]);
            let shape = match self.model.add_input(IDS, wrong) {
                Err(CoreMLError::BadInputShape(message)) => shape_in_message(&message),
                _ => None,
            };
            match shape.as_deref() {
                Some(&[1, length]) if (1..=LONGEST).contains(&length) => Ok(length),
                _ => Err(EngineError::unsupported(&self.path, format!("an input other than one row of `{IDS}`"))),
            }
        }

        fn predict(&mut self, ids: &[u32], text: usize) -> Result<Vec<f32>, BackendError> {
            let failed = |error: CoreMLError| BackendError::CoreMl(error.to_string());
            let mut padded: Vec<f32> = ids.iter().map(|&id| id as f32).collect();
            padded.resize(self.length, 0.0);
            let mask = (0..self.length).map(|at| if at < text { 1.0 } else { 0.0 }).collect();
            for (name, numbers) in [(IDS, padded), (MASK, mask)] {
                let row = ArrayD::from_shape_vec(vec![1, self.length], numbers)
                    .expect("the row was made with the model's length. This is a bug.");
                self.model.add_input(name, row).map_err(failed)?;
            }
            let output = self.model.predict().map_err(failed)?;
            let only = output.outputs.into_values().next();
            match only {
                Some(MLArray::Float32Array(vector)) => Ok(vector.into_raw_vec()),
                _ => Err(BackendError::CoreMl("the package gave no vector of 32-bit numbers".to_owned())),
            }
        }
    }

    impl Backend for Package {
        fn name(&self) -> BackendName {
            BackendName::CoreMl
        }

        fn shape(&self) -> BatchShape {
            BatchShape::OneRowOf(self.length)
        }

        fn built_in_recipe(&self) -> Option<RecipeName> {
            Some(self.declared.recipe)
        }

        fn forward(&mut self, batch: &PaddedBatch, _: usize) -> Result<Output<'_>, BackendError> {
            let rows = batch.ids.chunks_exact(batch.length).zip(&batch.lengths);
            rows.map(|(ids, &text)| self.predict(ids, text)).collect::<Result<_, _>>().map(Output::Pooled)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_becomes_a_file_url() {
        assert_eq!(file_url("/Models/Qwen 3 (é).mlpackage"), "file:///Models/Qwen%203%20%28%C3%A9%29.mlpackage");
    }

    #[test]
    fn the_shape_is_read_from_the_bindings_message() {
        assert_eq!(shape_in_message("BadInputShape: expected shape [1, 32] found [1, 1]"), Some(vec![1, 32]));
        assert_eq!(shape_in_message("Input feature name 'input_ids' not expected!"), None);
        assert_eq!(shape_in_message("expected shape [1, x] found"), None);
    }
}
