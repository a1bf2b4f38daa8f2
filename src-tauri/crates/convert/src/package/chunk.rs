//! A model in several packages, one after the other: which layers each has, and what goes from one to the next.
//!
//! ```text
//! input_ids, attention_mask ─► 1of3 ─► hidden_out = hidden ─► 2of3 ─► hidden_out = hidden ─► 3of3 ─► embedding
//! ```
//!
//! Each package but the first takes `hidden`, and the `attention_mask` again; each but the last gives `hidden_out`, which the
//! next one takes. The two names differ because a program cannot have a value twice. Where the layers that a recipe averages
//! are in several packages, their sum so far goes along as `shares_out` and `shares`. What goes along is in single precision,
//! which holds every number of half precision, so that a chain gives exactly what the whole package gives.
//!
//! What this is not: it does not know what a layer consists of.

use std::ops::Range;

use super::architecture::Architecture;
use super::options::Options;
use super::program::Tensor;
use super::{PackageError, PackagePlan};

/// One of the packages of a model.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Chunk {
    /// Counted from 1.
    pub(crate) number: usize,
    /// How many there are.
    pub(crate) of: usize,
    /// The layers that it has.
    pub(crate) layers: Range<usize>,
}

impl Chunk {
    /// A package of a whole model.
    pub(crate) fn whole(model: &Architecture) -> Self {
        Self { number: 1, of: 1, layers: 0..model.layers() }
    }

    /// Whether it looks tokens up.
    pub(super) fn is_first(&self) -> bool {
        self.layers.start == 0
    }

    /// Whether it gives the vector.
    pub(super) fn is_last(&self, model: &Architecture) -> bool {
        self.layers.end == model.layers()
    }
}

/// Splits a model at its layers into the least number of packages whose weight files have at most `limit` bytes. Earlier ones
/// are not fuller than need be, so that the layers that a recipe averages are together where they can be.
pub(crate) fn split(model: &Architecture, options: &Options, limit: u64) -> Result<Vec<Chunk>, PackageError> {
    let bytes = |layers: Range<usize>| {
        let chunk = Chunk { number: 1, of: 1, layers };
        PackagePlan::make(model, options.clone(), chunk).map(|plan| plan.weight_bytes)
    };
    let mut parts = Vec::new();
    let mut end = model.layers();
    while end > 0 {
        let mut start = end;
        let mut next = bytes(start - 1..end)?;
        if next > limit {
            return Err(PackageError::LayerTooLarge { layer: start - 1, bytes: next, limit });
        }
        while next <= limit {
            start -= 1;
            if start == 0 {
                break;
            }
            next = bytes(start - 1..end)?;
        }
        parts.push(start..end);
        end = start;
    }
    let of = parts.len();
    Ok((1..).zip(parts.into_iter().rev()).map(|(number, layers)| Chunk { number, of, layers }).collect())
}

/// What the program of some layers is given.
pub(super) struct Stretch<'a> {
    pub(super) start: Start<'a>,
    pub(super) mask: &'a Tensor,
    pub(super) layers: Range<usize>,
    /// How many of the model's last layers are averaged.
    pub(super) wanted: usize,
    /// See [`Options::longest`].
    pub(super) longest: usize,
}

impl Stretch<'_> {
    /// Tokens of a text.
    pub(super) fn length(&self) -> usize {
        self.mask.shape()[1]
    }
}

/// What the first of some layers works on.
#[derive(Clone, Copy)]
pub(super) enum Start<'a> {
    /// Tokens.
    Ids(&'a Tensor),
    /// The hidden states after the layer before, in half precision.
    Hidden(&'a Tensor),
}

/// Hidden states.
pub(super) struct States {
    /// Those after the last of the layers.
    pub(super) last: Tensor,
    /// Those after each layer that is to be averaged.
    pub(super) kept: Vec<Tensor>,
}
