//! Plans a Core ML package: the program, the manifest, and what fills the weight file and where.
//!
//! ```text
//! architecture, options ─► bert | qwen3 ─► pooling ─► program ─► model.mlmodel, Manifest.json
//!                                                        └────► segments: what stands where in weight.bin
//! ```
//!
//! [`PackagePlan::make`] is pure: it knows shapes and no weights, does no input or output, and gives the same bytes for the
//! same arguments. Whoever writes the package follows the contract in [`segment`].
//!
//! A package takes `input_ids` and `attention_mask`, both `[1, length]` integers with padding on the right, and gives one
//! vector `embedding` in single precision. Inside it computes in half precision, the only one that the Neural Engine has,
//! in forms that stay within its range. What the package is about stands in its metadata under `embedbar.…`.
//!
//! What this is not: it does not split a model into several packages. [`PackagePlan::weight_bytes`] lets a caller warn above
//! [`NEURAL_ENGINE_BYTES`].

pub(crate) mod architecture;
mod bert;
pub(crate) mod blob;
pub(crate) mod manifest;
mod message;
mod norm;
pub(crate) mod options;
mod pooling;
pub(crate) mod program;
mod qwen3;
pub(crate) mod segment;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use prost::Message as _;

use crate::{CONVERTER, Pooling};
use architecture::{Architecture, Weight};
use message::{
    ArrayDataType, ArrayFeatureType, FeatureDescription, FeatureType, Metadata, Model, ModelDescription, Program,
};
use options::{Options, WeightPrecision};
use program::{Builder, Built};
use segment::Segment;

/// The largest weight file that the Neural Engine loads. Above it, a model runs on other units.
pub const NEURAL_ENGINE_BYTES: u64 = 1 << 31;

/// Names of the inputs and of the output.
pub(crate) const IDS: &str = "input_ids";
/// See [`IDS`].
pub(crate) const MASK: &str = "attention_mask";
/// See [`IDS`].
pub(crate) const OUTPUT: &str = "embedding";

/// Why there is no package of a model as it was asked for.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum PackageError {
    /// The text would be longer than what the model has positions for.
    #[error("a length of `{length}` tokens is asked for; the model has positions for `{longest}`")]
    TooLong {
        /// What was asked for.
        length: usize,
        /// What the model has.
        longest: usize,
    },
    /// The mean would be over more layers than there are.
    #[error("the mean of `{wanted}` layers is asked for; the model has `{layers}`")]
    TooFewLayers {
        /// What was asked for.
        wanted: usize,
        /// What the model has.
        layers: usize,
    },
}

/// A package, decided before a weight is read.
pub(crate) struct PackagePlan {
    /// The tensors that are taken from the source. Segments refer to them by index.
    pub(crate) weights: Vec<Weight>,
    /// What fills the weight file, in its order.
    pub(crate) segments: Vec<Segment>,
    /// Size of the weight file.
    pub(crate) weight_bytes: u64,
    /// Arrays in the weight file.
    arrays: u32,
    program: Program,
    options: Options,
    width: usize,
}

impl PackagePlan {
    /// Decides everything about the package of a model.
    pub(crate) fn make(architecture: &Architecture, options: Options) -> Result<Self, PackageError> {
        let (length, wanted) = (options.length.get(), options.recipe.layers.get());
        let (longest, layers) = (architecture.longest(), architecture.layers());
        if length > longest {
            return Err(PackageError::TooLong { length, longest });
        }
        if wanted > layers {
            return Err(PackageError::TooFewLayers { wanted, layers });
        }
        let weights = architecture.weights();
        let mut builder = Builder::new(options.target, options.precision, options.raised.clone(), weights.clone());
        let (ids, mask) = (builder.input(IDS, &[1, length]), builder.input(MASK, &[1, length]));
        let hidden = match architecture {
            Architecture::Bert(model) => bert::hidden(&mut builder, model, &ids, &mask, wanted),
            Architecture::Qwen3(model) => qwen3::hidden(&mut builder, model, &ids, &mask, wanted),
        };
        let output = pooling::pool(&mut builder, OUTPUT, &hidden, &mask, &options.recipe);
        let Built { program, segments, layout } = builder.finish(&output);
        let (weight_bytes, arrays) = (layout.bytes(), layout.count());
        Ok(Self { weights, segments, weight_bytes, arrays, program, options, width: architecture.width() })
    }

    /// The head of the weight file.
    pub(crate) fn file_head(&self) -> [u8; blob::HEAD_BYTES] {
        blob::file_head(self.arrays)
    }

    /// The bytes of `model.mlmodel`. Their number does not depend on what the sha256 is.
    pub(crate) fn model(&self, source_sha256: &str) -> Vec<u8> {
        let length = self.options.length.get() as i64;
        let description = ModelDescription {
            input: vec![
                feature(IDS, "The text's tokens, padded on the right", &[1, length], ArrayDataType::Int32),
                feature(MASK, "1 for each token of the text, 0 for padding", &[1, length], ArrayDataType::Int32),
            ],
            output: vec![feature(OUTPUT, "The text's vector", &[1, self.width as i64], ArrayDataType::Float32)],
            metadata: Some(self.metadata(source_sha256)),
        };
        let model = Model {
            specification_version: self.options.target.specification_version(),
            description: Some(description),
            ml_program: Some(self.program.clone()),
        };
        model.encode_to_vec()
    }

    fn metadata(&self, source_sha256: &str) -> Metadata {
        let Options { target, precision, length, recipe, name, licence, .. } = &self.options;
        let pooling = match recipe.pooling {
            Pooling::Mean => "mean",
            Pooling::Cls => "cls",
            Pooling::Last => "last",
        };
        let experimental = *precision == WeightPrecision::FourBit;
        let user_defined = [
            ("recipe", recipe.name.to_owned()),
            ("pooling", pooling.to_owned()),
            ("layers", recipe.layers.to_string()),
            ("normalised", recipe.normalise.to_string()),
            ("precision", precision.name().to_owned()),
            ("experimental", experimental.to_string()),
            ("length", length.to_string()),
            ("padding", "right".to_owned()),
            ("target", target.name().to_owned()),
            ("source_sha256", source_sha256.to_owned()),
            ("converter", CONVERTER.to_owned()),
        ];
        Metadata {
            short_description: format!("{name}: text embeddings of {} numbers, {length} tokens", self.width),
            version_string: CONVERTER.to_owned(),
            author: "Embedbar".to_owned(),
            license: licence.clone().unwrap_or_default(),
            user_defined: BTreeMap::from(user_defined.map(|(key, value)| (format!("embedbar.{key}"), value))),
        }
    }
}

fn feature(name: &str, description: &str, shape: &[i64], kind: ArrayDataType) -> FeatureDescription {
    let array = ArrayFeatureType { shape: shape.to_vec(), data_type: kind.into() };
    FeatureDescription {
        name: name.to_owned(),
        short_description: description.to_owned(),
        kind: Some(FeatureType { multi_array_type: Some(array) }),
    }
}
