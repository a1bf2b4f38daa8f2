//! What a package is made for: the system that opens it, the precision of its weights, its length and its recipe.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;

use crate::Pooling;

pub(crate) use crate::job::System as Target;

impl Target {
    /// Core ML's name for the set of operations.
    pub(super) fn opset(self) -> &'static str {
        match self {
            Self::MacOs13 => "CoreML6",
            Self::MacOs14 => "CoreML7",
            Self::MacOs15 => "CoreML8",
        }
    }

    /// Core ML's number for the format.
    pub(super) fn specification_version(self) -> i32 {
        match self {
            Self::MacOs13 => 7,
            Self::MacOs14 => 8,
            Self::MacOs15 => 9,
        }
    }

    /// As people write it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::MacOs13 => "macOS 13",
            Self::MacOs14 => "macOS 14",
            Self::MacOs15 => "macOS 15",
        }
    }
}

pub(crate) use crate::job::TargetPrecision as WeightPrecision;

impl WeightPrecision {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Fp16 => "fp16",
            Self::Int8 => "int8",
            Self::FourBit => "4-bit",
        }
    }
}

/// How hidden states become a vector.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct PackageRecipe {
    /// `native` or `papr`, as readers of the package are told.
    pub(crate) name: &'static str,
    /// How the tokens' states become one.
    pub(crate) pooling: Pooling,
    /// How many of the last layers are averaged; the last one is after the final norm.
    pub(crate) layers: NonZeroUsize,
    /// Whether the vector is scaled to length 1.
    pub(crate) normalise: bool,
}

/// Everything about a package that its architecture does not say.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) target: Target,
    pub(crate) precision: WeightPrecision,
    /// Matrices that stay 8-bit where 4 bits are asked for.
    pub(crate) raised: BTreeSet<String>,
    /// Tokens of a text; shorter texts are padded on the right.
    pub(crate) length: NonZeroUsize,
    /// The longest length of the packages that share the weight file: its tables are of this length.
    pub(crate) longest: NonZeroUsize,
    pub(crate) recipe: PackageRecipe,
    /// The model's name.
    pub(crate) name: String,
    /// The licence of the weights, where the checkpoint names one.
    pub(crate) licence: Option<String>,
}
