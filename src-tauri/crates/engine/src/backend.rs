//! What runs a model's arithmetic: the seam between recipes and candle, Core ML or whatever comes next.
//!
//! A backend gets padded token ids and gives hidden states, or a vector per row where pooling is part of the model (a
//! converted Core ML package). It knows nothing of text, prompts, truncation or normalisation.

use candle_core::Tensor;
use embedbar_contract::{BackendName, RecipeName};

use crate::EngineError;

/// Why a forward pass failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackendError {
    /// candle refused an operation.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
    /// Core ML or the binding to it refused.
    #[error("Core ML: {0}")]
    CoreMl(String),
}

/// Token ids of several texts, padded on the right to one length.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PaddedBatch {
    /// Row after row, `rows * length` ids.
    pub ids: Vec<u32>,
    /// How many ids of each row are text; the rest is padding. Never 0.
    pub lengths: Vec<usize>,
    /// Ids per row.
    pub length: usize,
}

impl PaddedBatch {
    /// Pads `texts` with `pad` to the longest of them, or to `length` where it is given.
    ///
    /// # Panics
    /// If a text is empty or longer than `length`.
    pub fn new(texts: &[&[u32]], pad: u32, length: Option<usize>) -> Self {
        let longest = texts.iter().map(|ids| ids.len()).max().unwrap_or(0);
        let length = length.unwrap_or(longest);
        assert!(longest <= length, "a text is longer than its batch. This is a bug.");
        let mut ids = Vec::with_capacity(texts.len() * length);
        for text in texts {
            assert!(!text.is_empty(), "a text without tokens reached a batch. This is a bug.");
            ids.extend_from_slice(text);
            ids.resize(ids.len() + length - text.len(), pad);
        }
        Self { ids, lengths: texts.iter().map(|ids| ids.len()).collect(), length }
    }

    /// Texts in the batch.
    pub fn rows(&self) -> usize {
        self.lengths.len()
    }

    /// Whether any row is padded.
    pub fn is_padded(&self) -> bool {
        self.lengths.iter().any(|&length| length < self.length)
    }
}

/// What shapes of batches a backend takes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum BatchShape {
    /// Any number of rows of any length; padding costs as much as text.
    Any,
    /// Any number of texts of any length; padding costs nothing.
    Unpadded,
    /// One row of exactly this many ids.
    OneRowOf(usize),
}

/// What a forward pass gives.
#[derive(Clone, Debug)]
pub enum Output<'a> {
    /// Hidden states `[rows, length, dims]` in F32 of the last layers, in the order of the layers. The last one is after the
    /// final norm where the architecture has one.
    Hidden(Vec<Tensor>),
    /// Likewise, in memory of the backend.
    Tokens {
        /// `[layers, tokens, dims]`, text after text without padding.
        states: &'a [f32],
        /// How many layers.
        layers: usize,
    },
    /// A vector per row: the model pools by itself.
    Pooled(Vec<Vec<f32>>),
}

/// One loaded model that can be run.
pub trait Backend: Send {
    /// What runs it.
    fn name(&self) -> BackendName;

    /// What batches it takes.
    fn shape(&self) -> BatchShape {
        BatchShape::Any
    }

    /// The recipe that is part of the model; `None` where hidden states come out and any recipe can be applied.
    fn built_in_recipe(&self) -> Option<RecipeName> {
        None
    }

    /// Runs the model and gives the hidden states of its last `layers` layers (at least 1, at most as many as it has).
    fn forward(&mut self, batch: &PaddedBatch, layers: usize) -> Result<Output<'_>, BackendError>;
}

/// Names the model in a backend's error.
pub(crate) fn failed(path: &std::path::Path) -> impl Fn(BackendError) -> EngineError + '_ {
    move |source| EngineError::Backend { path: path.to_path_buf(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_padded_on_the_right_to_the_longest() {
        let batch = PaddedBatch::new(&[&[1, 2, 3], &[4]], 9, None);
        assert_eq!(batch.ids, [1, 2, 3, 4, 9, 9]);
        assert_eq!((batch.rows(), batch.length, batch.is_padded()), (2, 3, true));
    }

    #[test]
    fn a_fixed_length_pads_further() {
        let batch = PaddedBatch::new(&[&[1, 2]], 0, Some(4));
        assert_eq!(batch.ids, [1, 2, 0, 0]);
        assert_eq!(batch.lengths, [2]);
    }
}
