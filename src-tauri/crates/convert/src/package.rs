//! Plans a Core ML package: the program, the manifest, and what fills the weight file and where.
//!
//! ```text
//! architecture, options ─► bert | qwen3 ─► pooling ─► program ─► model.mlmodel, Manifest.json
//!      └─► chunk: which layers                            └────► segments: what stands where in weight.bin
//! ```
//!
//! [`PackagePlan::make`] is pure: it knows shapes and no weights, does no input or output, and gives the same bytes for the
//! same arguments. Whoever writes the package follows the contract in [`segment`].
//!
//! Packages of several lengths share one weight file: the tables in it are those of the longest length, and the programs of
//! shorter ones use the beginnings of them.
//!
//! A package takes `input_ids` and `attention_mask`, both `[1, length]` integers with padding on the right, and gives one
//! vector `embedding` in single precision. Inside it computes in half precision, the only one that the Neural Engine has,
//! in forms that stay within its range. What the package is about stands in its metadata under `embedbar.…`.
//!
//! What this is not: whether a model is split into several packages, as [`chunk`] does it, is not decided here.
//! [`PackagePlan::weight_bytes`] lets a caller warn above [`NEURAL_ENGINE_BYTES`].

pub(crate) mod architecture;
mod bert;
pub(crate) mod blob;
pub(crate) mod chunk;
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

use prost::Message as _;

use crate::{CONVERTER, Pooling};
use architecture::{Architecture, Weight};
use chunk::{Chunk, Start, Stretch};
use message::{
    ArrayDataType, ArrayFeatureType, DataType, FeatureDescription, FeatureType, Metadata, Model, ModelDescription,
    Program,
};
use options::{Options, WeightPrecision};
use program::{Builder, Built, Tensor};
use segment::Segment;

/// The largest weight file that the Neural Engine loads. Above it, a model runs on other units.
pub const NEURAL_ENGINE_BYTES: u64 = 1 << 31;

/// Names of the inputs and of the output.
pub(crate) const IDS: &str = "input_ids";
/// See [`IDS`].
pub(crate) const MASK: &str = "attention_mask";
/// See [`IDS`].
pub(crate) const OUTPUT: &str = "embedding";
/// What a chunk takes from the one before. What it leaves to the next one has [`OUT`] behind the name.
const HIDDEN: &str = "hidden";
/// See [`HIDDEN`].
const SHARES: &str = "shares";
const OUT: &str = "_out";

/// Why there is no package of a model as it was asked for.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum PackageError {
    /// Nobody has written down the family's program.
    #[error("a Core ML package of a {family} model, which is not made yet; a GGUF file of it is")]
    NoProgram {
        /// The family.
        family: &'static str,
    },
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
    /// A package would be too large even with one layer.
    #[error("a package with nothing but layer `{layer}` has `{bytes}` bytes of weights; at most `{limit}` are wanted")]
    LayerTooLarge {
        /// The layer, counted from 0. With the first one go the tables of the tokens and positions.
        layer: usize,
        /// What it takes.
        bytes: u64,
        /// What was asked for.
        limit: u64,
    },
}

/// A package, decided before a weight is read.
#[derive(Debug)]
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
    inputs: Vec<FeatureDescription>,
    outputs: Vec<FeatureDescription>,
    options: Options,
    chunk: Chunk,
    width: usize,
}

impl PackagePlan {
    /// Decides everything about one of the packages of a model, or about the only one.
    pub(crate) fn make(architecture: &Architecture, options: Options, chunk: Chunk) -> Result<Self, PackageError> {
        check(architecture, &options)?;
        let weights = architecture.weights();
        let mut draft =
            Draft::new(Builder::new(options.target, options.precision, options.raised.clone(), weights.clone()));
        let outputs = draft.write(architecture, &options, &chunk);
        let Draft { builder, inputs, outputs: described } = draft;
        let Built { program, segments, layout } = builder.finish(&outputs);
        let (weight_bytes, arrays, width) = (layout.bytes(), layout.count(), architecture.width());
        Ok(Self { weights, segments, weight_bytes, arrays, program, inputs, outputs: described, options, chunk, width })
    }

    /// The head of the weight file.
    pub(crate) fn file_head(&self) -> [u8; blob::HEAD_BYTES] {
        blob::file_head(self.arrays)
    }

    /// The bytes of `model.mlmodel`. Their number does not depend on what the sha256 is.
    pub(crate) fn model(&self, source_sha256: &str) -> Vec<u8> {
        let description = ModelDescription {
            input: self.inputs.clone(),
            output: self.outputs.clone(),
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
        let Chunk { number, of, .. } = self.chunk;
        let is_chunk = of > 1;
        let part = if is_chunk { format!(", part {number} of {of}") } else { String::new() };
        let chunk = is_chunk.then(|| ("chunk", format!("{number}/{of}")));
        let user_defined = user_defined.into_iter().chain(chunk);
        Metadata {
            short_description: format!("{name}: text embeddings of {} numbers, {length} tokens{part}", self.width),
            version_string: CONVERTER.to_owned(),
            author: "Embedbar".to_owned(),
            license: licence.clone().unwrap_or_default(),
            user_defined: user_defined.map(|(key, value)| (format!("embedbar.{key}"), value)).collect(),
        }
    }
}

/// Refuses what the model does not have.
fn check(architecture: &Architecture, options: &Options) -> Result<(), PackageError> {
    let (length, wanted) = (options.longest.get(), options.recipe.layers.get());
    assert!(options.length <= options.longest, "a length is longer than the longest. This is a bug.");
    if let Some(family) = architecture.without_program() {
        return Err(PackageError::NoProgram { family });
    }
    let (longest, layers) = (architecture.longest(), architecture.layers());
    if length > longest {
        return Err(PackageError::TooLong { length, longest });
    }
    if wanted > layers {
        return Err(PackageError::TooFewLayers { wanted, layers });
    }
    Ok(())
}

/// A program so far, with the description of what goes in and comes out.
struct Draft {
    builder: Builder,
    inputs: Vec<FeatureDescription>,
    outputs: Vec<FeatureDescription>,
}

impl Draft {
    fn new(builder: Builder) -> Self {
        Self { builder, inputs: Vec::new(), outputs: Vec::new() }
    }

    /// Gives the outputs.
    fn write(&mut self, architecture: &Architecture, options: &Options, chunk: &Chunk) -> Vec<Tensor> {
        let (length, wanted) = (options.length.get(), options.recipe.layers.get());
        // The first of the layers that are averaged.
        let first_kept = architecture.layers() - wanted;
        let states_shape = [1, length, architecture.width()];
        let ids = chunk.is_first().then(|| self.integers(IDS, "The text's tokens, padded on the right", length));
        let hidden = match ids {
            Some(_) => None,
            None => Some(self.states(HIDDEN, "The tokens' states that the chunk before gives", &states_shape)),
        };
        let mask = self.integers(MASK, "1 for each token of the text, 0 for padding", length);
        let before = (chunk.layers.start > first_kept)
            .then(|| self.states(SHARES, "The sum of the averaged layers that the chunk before gives", &states_shape));
        let [hidden, before] = [hidden, before].map(|states| states.map(|it| self.half(&it)));
        let start = match (&ids, &hidden) {
            (Some(ids), _) => Start::Ids(ids),
            (None, Some(hidden)) => Start::Hidden(hidden),
            (None, None) => unreachable!("a chunk has tokens or states. This is a bug."),
        };
        let (layers, longest) = (chunk.layers.clone(), options.longest.get());
        let stretch = Stretch { start, mask: &mask, layers, wanted, longest };
        let builder = &mut self.builder;
        let states = match architecture {
            Architecture::Bert(model) => bert::states(builder, model, &stretch),
            Architecture::Qwen3(model) => qwen3::states(builder, model, &stretch),
            Architecture::NomicBert(_) => unreachable!("it was refused. This is a bug."),
        };
        let first_number = chunk.layers.start.saturating_sub(first_kept);
        let shares = pooling::shares(builder, before, &states.kept, first_number, &options.recipe);
        if chunk.is_last(architecture) {
            let mean = shares.expect("a recipe has a layer. This is a bug.");
            let vector = pooling::pool(builder, OUTPUT, &mean, &mask, &options.recipe);
            self.outputs.push(feature(OUTPUT, "The text's vector", vector.shape(), ArrayDataType::Float32));
            return vec![vector];
        }
        let mut outputs = vec![self.leave(HIDDEN, "The tokens' states, for the next chunk", &states.last)];
        outputs.extend(shares.map(|it| self.leave(SHARES, "The sum of the averaged layers, for the next chunk", &it)));
        outputs
    }

    fn integers(&mut self, name: &str, description: &str, length: usize) -> Tensor {
        self.inputs.push(feature(name, description, &[1, length], ArrayDataType::Int32));
        self.builder.input(name, DataType::Int32, &[1, length])
    }

    fn states(&mut self, name: &str, description: &str, shape: &[usize]) -> Tensor {
        self.inputs.push(feature(name, description, shape, ArrayDataType::Float32));
        self.builder.input(name, DataType::Float32, shape)
    }

    fn half(&mut self, input: &Tensor) -> Tensor {
        self.builder.cast(&format!("{}_half", input.name()), input, DataType::Float16)
    }

    /// An output for the next chunk.
    fn leave(&mut self, name: &str, description: &str, states: &Tensor) -> Tensor {
        let name = format!("{name}{OUT}");
        self.outputs.push(feature(&name, description, states.shape(), ArrayDataType::Float32));
        self.builder.cast(&name, states, DataType::Float32)
    }
}

fn feature(name: &str, description: &str, shape: &[usize], kind: ArrayDataType) -> FeatureDescription {
    let array = ArrayFeatureType { shape: shape.iter().map(|size| *size as i64).collect(), data_type: kind.into() };
    FeatureDescription {
        name: name.to_owned(),
        short_description: description.to_owned(),
        kind: Some(FeatureType { multi_array_type: Some(array) }),
    }
}
