//! From a checkpoint's tensors to the target's: which becomes which, in what type, in what order.
//!
//! A family ([`bert`], [`xlm_roberta`], [`nomic_bert`], [`qwen3`]) describes the model that `config.json` asks for as a [`Blueprint`];
//! [`Model::recognise`] holds the checkpoint against it and refuses what is unknown, missing, doubled or of another shape,
//! before a weight is read.

mod bert;
mod nomic_bert;
mod qwen3;
mod xlm_roberta;

use std::collections::HashMap;
use std::path::PathBuf;

use safetensors::Dtype;

use crate::checkpoint::{Checkpoint, Content, Shard, Tensor};
use crate::configuration::{self, Configuration};
use crate::gguf::{self, Value};
use crate::package::architecture::{Architecture, Role};
use crate::quantise::{self, Quantiser};
use crate::{ConvertError, Job, Pooling, sidecar, tokenizer};

/// What a model consists of according to its configuration.
pub(crate) struct Blueprint {
    /// `general.architecture`.
    architecture: &'static str,
    /// The architecture's own keys, without its name and the dot in front.
    keys: Vec<(&'static str, Value)>,
    /// Every tensor that a vector depends on.
    parts: Vec<Part>,
    /// Rows of the table of token embeddings.
    vocabulary: u32,
    /// Rows of the table of token types, where the family has one.
    token_types: Option<u32>,
    /// Positions that the model has.
    context: u32,
    /// The model's sizes, for targets that are programs.
    sizes: Architecture,
    /// The pooling of every model of this family, where it has only one.
    pooling: Option<Pooling>,
    /// What a GGUF file has no key for, where the model has such a thing.
    inexpressible: Option<String>,
    /// What a tensor of the source is to this family.
    recognise: fn(&str) -> Recognised,
}

/// One tensor that a model needs.
struct Part {
    /// Its name in the source, in the form that [`Recognised::Part`] gives.
    source: String,
    /// Its name in the target.
    target: String,
    /// Its shape in the source.
    shape: Vec<usize>,
    /// How many of its first rows the target lacks.
    skipped_rows: usize,
    role: Role,
}

/// What a name of the source means.
enum Recognised {
    /// Perhaps a part, by its canonical name.
    Part(String),
    /// Something a vector does not depend on.
    LeftOut,
}

/// Where a tensor of the source is.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Place {
    /// Index of its weight file.
    shard: usize,
    /// Index in that file.
    tensor: usize,
}

impl Place {
    /// The weight file.
    pub(crate) fn shard(self, checkpoint: &Checkpoint) -> &Shard {
        &checkpoint.shards[self.shard]
    }

    /// The tensor.
    pub(crate) fn tensor(self, checkpoint: &Checkpoint) -> &Tensor {
        &self.shard(checkpoint).tensors[self.tensor]
    }

    pub(crate) fn is(self, shard: usize, tensor: usize) -> bool {
        self == Self { shard, tensor }
    }
}

/// A checkpoint that was understood: what its configuration asks for and where each part of it is.
pub(crate) struct Model {
    blueprint: Blueprint,
    /// Where each part is, in the order of the blueprint's parts.
    places: Vec<Place>,
    /// Names of the tensors of the source that are left out.
    pub(crate) left_out: Vec<String>,
    folder: PathBuf,
    configuration: PathBuf,
}

impl Model {
    /// Holds the checkpoint against its configuration.
    pub(crate) fn recognise(checkpoint: &Checkpoint, configuration: &Configuration) -> Result<Self, ConvertError> {
        configuration::check_modules(&checkpoint.folder)?;
        let blueprint = blueprint(configuration)?;
        let (places, left_out) = locate(checkpoint, &blueprint)?;
        let (folder, configuration) = (checkpoint.folder.clone(), configuration.path.clone());
        Ok(Self { blueprint, places, left_out, folder, configuration })
    }

    /// The model's sizes.
    pub(crate) fn architecture(&self) -> &Architecture {
        &self.blueprint.sizes
    }

    /// Where the part of that canonical name is.
    pub(crate) fn place(&self, name: &str) -> Option<Place> {
        let part = self.blueprint.parts.iter().position(|part| part.source == name)?;
        self.places.get(part).copied()
    }

    /// How hidden states become one vector: what the job says, else the checkpoint, else the family.
    pub(crate) fn pooling(&self, job: &Job) -> Result<Pooling, ConvertError> {
        let said = job.pooling.or(self.said_pooling()?);
        said.ok_or_else(|| ConvertError::UnknownPooling { path: self.folder.clone() })
    }

    /// What the checkpoint says about pooling, else its family.
    pub(crate) fn said_pooling(&self) -> Result<Option<Pooling>, ConvertError> {
        Ok(configuration::pooling(&self.folder)?.or(self.blueprint.pooling))
    }

    /// The most tokens of a text that the target says to read.
    pub(crate) fn max_tokens(&self, job: &Job) -> Result<u32, ConvertError> {
        let context = self.blueprint.context;
        let Some(wanted) = job.max_tokens else { return configuration::max_tokens(&self.folder, context) };
        u32::try_from(wanted).ok().filter(|tokens| (1..=context).contains(tokens)).ok_or_else(|| {
            let problem = format!("`{wanted}` tokens are asked for, the model has positions for `{context}`");
            ConvertError::config(&self.configuration, "max_position_embeddings", problem)
        })
    }
}

/// One tensor of a GGUF file.
pub(crate) struct Planned {
    /// Its canonical name.
    pub(crate) part: String,
    /// Its name in the target.
    pub(crate) name: String,
    /// Where it comes from.
    pub(crate) place: Place,
    /// Its shape in the target.
    pub(crate) shape: Vec<usize>,
    /// How many of the source's first rows are left out.
    pub(crate) skipped_rows: usize,
    /// What turns its rows into bytes.
    pub(crate) quantiser: &'static dyn Quantiser,
    /// Whether that is not what was asked for.
    pub(crate) fell_back: bool,
    /// Where its bytes start, from the start of the target's data.
    pub(crate) offset: u64,
    /// Its size in the target.
    pub(crate) bytes: u64,
}

/// A whole GGUF file, decided before a weight is read.
pub(crate) struct Plan {
    /// The target's keys, except those that only the conversion itself can know.
    pub(crate) metadata: Vec<(String, Value)>,
    /// The target's tensors in the order of their sources' bytes.
    pub(crate) tensors: Vec<Planned>,
    /// Why the target has no tokenizer of its own, where it has none.
    pub(crate) tokenizer_left_out: Option<String>,
    /// Bytes of the target's data, padding included.
    pub(crate) data_bytes: u64,
    /// What was decided about pooling.
    pub(crate) pooling: Pooling,
    /// What was decided about the length.
    pub(crate) max_tokens: u32,
}

impl Plan {
    /// Decides what becomes of every tensor.
    pub(crate) fn make(checkpoint: &Checkpoint, model: &Model, job: &Job, name: &str) -> Result<Self, ConvertError> {
        if let Some(what) = &model.blueprint.inexpressible {
            return Err(ConvertError::unsupported(&model.configuration, what.clone()));
        }
        let (pooling, max_tokens) = (model.pooling(job)?, model.max_tokens(job)?);
        let mut metadata = metadata(&model.blueprint, job, name, pooling, max_tokens);
        let settings = configuration::tokenizer(&model.folder)?;
        let read = tokenizer::keys(&sidecar::read(&model.folder)?, &settings, model.blueprint.vocabulary);
        let tokenizer_left_out = match read {
            Ok(keys) => {
                metadata.extend(keys);
                None
            }
            Err(reason) => Some(reason.to_string()),
        };
        let mut parts: Vec<(Place, &Part)> = model.places.iter().copied().zip(&model.blueprint.parts).collect();
        parts.sort_by_key(|(place, _)| *place);
        let mut end = 0;
        let mut tensors = Vec::with_capacity(parts.len());
        for (place, part) in parts {
            let tensor = place.tensor(checkpoint);
            let row = tensor.row_length();
            let (quantiser, fell_back) = match part.role {
                Role::Tokens => quantise::for_tokens(job.precision, row),
                Role::Matrix => quantise::for_matrix(job.precision_of(&part.source), row),
                Role::Exact => (quantise::exact(), false),
            };
            let mut shape = tensor.shape.clone();
            if let Some(rows) = shape.first_mut() {
                *rows -= part.skipped_rows;
            }
            let skipped_rows = part.skipped_rows;
            let rows = tensor.rows() - skipped_rows;
            let bytes = (rows * (row / quantiser.block())) as u64 * quantiser.block_bytes() as u64;
            let (part, name) = (part.source.clone(), part.target.clone());
            tensors.push(Planned { part, name, place, shape, skipped_rows, quantiser, fell_back, offset: end, bytes });
            end = gguf::aligned(end + bytes);
        }
        Ok(Self { metadata, tensors, tokenizer_left_out, data_bytes: end, pooling, max_tokens })
    }
}

fn blueprint(configuration: &Configuration) -> Result<Blueprint, ConvertError> {
    match configuration.text("model_type") {
        Some("bert") => bert::blueprint(configuration),
        Some("xlm-roberta") => xlm_roberta::blueprint(configuration),
        Some("nomic_bert") => nomic_bert::blueprint(configuration),
        Some("qwen3") => qwen3::blueprint(configuration),
        Some(other) => {
            let path = configuration.path.clone();
            Err(ConvertError::UnknownArchitecture { path, architecture: other.to_owned() })
        }
        None => Err(ConvertError::config(&configuration.path, "model_type", "it is missing")),
    }
}

/// Where each part of the blueprint is, and the names of what is left out.
fn locate(checkpoint: &Checkpoint, blueprint: &Blueprint) -> Result<(Vec<Place>, Vec<String>), ConvertError> {
    let parts: HashMap<&str, usize> =
        blueprint.parts.iter().enumerate().map(|(index, part)| (part.source.as_str(), index)).collect();
    let mut places: Vec<Option<Place>> = vec![None; blueprint.parts.len()];
    let mut left_out = Vec::new();
    for (shard_index, shard) in checkpoint.shards.iter().enumerate() {
        for (tensor_index, tensor) in shard.tensors.iter().enumerate() {
            if tensor.content == Content::Companion {
                continue;
            }
            let Recognised::Part(canonical) = (blueprint.recognise)(&tensor.name) else {
                left_out.push(tensor.name.clone());
                continue;
            };
            let at_tensor = || (shard.path.clone(), tensor.name.clone());
            let Some(&part) = parts.get(canonical.as_str()) else {
                let (path, tensor) = at_tensor();
                return Err(ConvertError::UnknownTensor { path, tensor });
            };
            if places[part].replace(Place { shard: shard_index, tensor: tensor_index }).is_some() {
                let (path, tensor) = at_tensor();
                return Err(ConvertError::DuplicateTensor { path, tensor });
            }
            check_tensor(shard, tensor, &blueprint.parts[part])?;
        }
    }
    let missing =
        |part: &Part| ConvertError::MissingTensor { path: checkpoint.folder.clone(), tensor: part.source.clone() };
    let places = places.into_iter().zip(&blueprint.parts).map(|(place, part)| place.ok_or_else(|| missing(part)));
    Ok((places.collect::<Result<_, _>>()?, left_out))
}

fn check_tensor(shard: &Shard, tensor: &Tensor, part: &Part) -> Result<(), ConvertError> {
    let (path, name) = (shard.path.clone(), tensor.name.clone());
    if tensor.shape != part.shape {
        let (found, wanted) = (tensor.shape.clone(), part.shape.clone());
        return Err(ConvertError::TensorShape { path, tensor: name, found, wanted });
    }
    match tensor.content {
        Content::Numbers(dtype) if !matches!(dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16) => {
            Err(ConvertError::TensorType { path, tensor: name, found: format!("{dtype:?}") })
        }
        _ => Ok(()),
    }
}

fn metadata(blueprint: &Blueprint, job: &Job, name: &str, pooling: Pooling, max_tokens: u32) -> Vec<(String, Value)> {
    let architecture = blueprint.architecture;
    // The numbers of llama.cpp's enumerations.
    let pooling_type = match pooling {
        Pooling::Mean => 1,
        Pooling::Cls => 2,
        Pooling::Last => 3,
    };
    let mut keys = vec![
        ("general.architecture".to_owned(), Value::Text(architecture.to_owned())),
        ("general.name".to_owned(), Value::Text(name.to_owned())),
        ("general.file_type".to_owned(), Value::U32(quantise::file_type(job.precision))),
        ("general.quantization_version".to_owned(), Value::U32(2)),
    ];
    keys.extend(blueprint.keys.iter().map(|(key, value)| (format!("{architecture}.{key}"), value.clone())));
    keys.push((format!("{architecture}.pooling_type"), Value::U32(pooling_type)));
    // Belongs to the weights, whatever the tokenizer is.
    keys.extend(blueprint.token_types.map(|types| (tokenizer::TYPE_COUNT.to_owned(), Value::U32(types))));
    keys.push(("embedbar.max_tokens".to_owned(), Value::U32(max_tokens)));
    keys
}
