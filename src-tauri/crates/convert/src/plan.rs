//! From a checkpoint's tensors to the target's: which becomes which, in what type, in what order.
//!
//! A family ([`bert`], [`xlm_roberta`], [`qwen3`]) describes the model that `config.json` asks for as a [`Blueprint`]; [`Plan::make`] holds the
//! checkpoint against it and refuses what is unknown, missing, doubled or of another shape, before a weight is read.

mod bert;
mod qwen3;
mod xlm_roberta;

use std::collections::HashMap;

use safetensors::Dtype;
use serde_json::Value as Json;

use crate::checkpoint::{Checkpoint, Shard, Tensor};
use crate::configuration::{self, Configuration};
use crate::gguf::{self, Value};
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
    /// The pooling of every model of this family, where it has only one.
    pooling: Option<Pooling>,
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

/// How exact a tensor has to stay.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Role {
    /// Stored in the precision that was asked for.
    Matrix,
    /// Small and sensitive: always F32.
    Exact,
}

/// What a name of the source means.
enum Recognised {
    /// Perhaps a part, by its canonical name.
    Part(String),
    /// Something a vector does not depend on.
    LeftOut,
}

/// One tensor of the target.
pub(crate) struct Planned {
    /// Its name in the target.
    pub(crate) name: String,
    /// Index of its weight file.
    pub(crate) shard: usize,
    /// Index of its source in that file.
    pub(crate) tensor: usize,
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

impl Planned {
    /// The weight file that it comes from.
    pub(crate) fn shard<'a>(&self, checkpoint: &'a Checkpoint) -> &'a Shard {
        &checkpoint.shards[self.shard]
    }

    /// The tensor that it comes from.
    pub(crate) fn source<'a>(&self, checkpoint: &'a Checkpoint) -> &'a Tensor {
        &self.shard(checkpoint).tensors[self.tensor]
    }
}

/// The whole target, decided before a weight is read.
pub(crate) struct Plan {
    /// The target's keys, except those that only the conversion itself can know.
    pub(crate) metadata: Vec<(String, Value)>,
    /// The target's tensors in the order of their sources' bytes.
    pub(crate) tensors: Vec<Planned>,
    /// Names of the tensors of the source that are left out.
    pub(crate) left_out: Vec<String>,
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
    /// Holds the checkpoint against its configuration and decides what becomes of every tensor.
    pub(crate) fn make(checkpoint: &Checkpoint, job: &Job, name: &str) -> Result<Self, ConvertError> {
        let configuration = Configuration::open(&checkpoint.folder)?;
        configuration::check_modules(&checkpoint.folder)?;
        let blueprint = blueprint(&configuration)?;
        let said = job.pooling.or(configuration::pooling(&checkpoint.folder)?).or(blueprint.pooling);
        let pooling = said.ok_or_else(|| ConvertError::UnknownPooling { path: checkpoint.folder.clone() })?;
        let max_tokens = max_tokens(&configuration, checkpoint, job, blueprint.context)?;
        let (tensors, left_out, data_bytes) = match_tensors(checkpoint, &blueprint, job)?;
        let mut metadata = metadata(&blueprint, job, name, pooling, max_tokens);
        let settings = configuration::tokenizer(&checkpoint.folder)?;
        let read = tokenizer::keys(&sidecar::read(&checkpoint.folder)?, &settings, blueprint.vocabulary);
        let tokenizer_left_out = match read {
            Ok(keys) => {
                metadata.extend(keys);
                None
            }
            Err(reason) => Some(reason.to_string()),
        };
        Ok(Self { metadata, tensors, left_out, tokenizer_left_out, data_bytes, pooling, max_tokens })
    }
}

fn blueprint(configuration: &Configuration) -> Result<Blueprint, ConvertError> {
    for key in ["quantization", "quantization_config"] {
        configuration.only(key, &Json::Null)?;
    }
    match configuration.text("model_type") {
        Some("bert") => bert::blueprint(configuration),
        Some("xlm-roberta") => xlm_roberta::blueprint(configuration),
        Some("qwen3") => qwen3::blueprint(configuration),
        Some(other) => {
            let path = configuration.path.clone();
            Err(ConvertError::UnknownArchitecture { path, architecture: other.to_owned() })
        }
        None => Err(ConvertError::config(&configuration.path, "model_type", "it is missing")),
    }
}

fn max_tokens(
    configuration: &Configuration,
    checkpoint: &Checkpoint,
    job: &Job,
    context: u32,
) -> Result<u32, ConvertError> {
    let Some(wanted) = job.max_tokens else { return configuration::max_tokens(&checkpoint.folder, context) };
    u32::try_from(wanted).ok().filter(|tokens| (1..=context).contains(tokens)).ok_or_else(|| {
        let problem = format!("`{wanted}` tokens are asked for, the model has positions for `{context}`");
        ConvertError::config(&configuration.path, "max_position_embeddings", problem)
    })
}

type Matched = (Vec<Planned>, Vec<String>, u64);

fn match_tensors(checkpoint: &Checkpoint, blueprint: &Blueprint, job: &Job) -> Result<Matched, ConvertError> {
    let mut wanted: HashMap<&str, (&Part, bool)> =
        blueprint.parts.iter().map(|part| (part.source.as_str(), (part, false))).collect();
    let mut tensors = Vec::with_capacity(blueprint.parts.len());
    let mut left_out = Vec::new();
    let mut end = 0;
    for (shard_index, shard) in checkpoint.shards.iter().enumerate() {
        for (tensor_index, tensor) in shard.tensors.iter().enumerate() {
            let Recognised::Part(canonical) = (blueprint.recognise)(&tensor.name) else {
                left_out.push(tensor.name.clone());
                continue;
            };
            let at_tensor = || (shard.path.clone(), tensor.name.clone());
            let Some((part, met)) = wanted.get_mut(canonical.as_str()) else {
                let (path, tensor) = at_tensor();
                return Err(ConvertError::UnknownTensor { path, tensor });
            };
            if std::mem::replace(met, true) {
                let (path, tensor) = at_tensor();
                return Err(ConvertError::DuplicateTensor { path, tensor });
            }
            check_tensor(shard, tensor, part)?;
            let row = row_length(&tensor.shape);
            let (quantiser, fell_back) = match part.role {
                Role::Matrix => quantise::for_matrix(job.precision, row),
                Role::Exact => (quantise::exact(), false),
            };
            let mut shape = tensor.shape.clone();
            if let Some(rows) = shape.first_mut() {
                *rows -= part.skipped_rows;
            }
            let rows = rows(&shape);
            let bytes = (rows * (row / quantiser.block())) as u64 * quantiser.block_bytes() as u64;
            let name = part.target.clone();
            tensors.push(Planned {
                name,
                shard: shard_index,
                tensor: tensor_index,
                shape,
                skipped_rows: part.skipped_rows,
                quantiser,
                fell_back,
                offset: end,
                bytes,
            });
            end = gguf::aligned(end + bytes);
        }
    }
    match blueprint.parts.iter().find(|part| wanted.get(part.source.as_str()).is_none_or(|(_, met)| !met)) {
        Some(part) => Err(ConvertError::MissingTensor { path: checkpoint.folder.clone(), tensor: part.source.clone() }),
        None => Ok((tensors, left_out, end)),
    }
}

fn check_tensor(shard: &Shard, tensor: &Tensor, part: &Part) -> Result<(), ConvertError> {
    let (path, name) = (shard.path.clone(), tensor.name.clone());
    if tensor.shape != part.shape {
        let (found, wanted) = (tensor.shape.clone(), part.shape.clone());
        return Err(ConvertError::TensorShape { path, tensor: name, found, wanted });
    }
    if !matches!(tensor.dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16) {
        return Err(ConvertError::TensorType { path, tensor: name, found: format!("{:?}", tensor.dtype) });
    }
    Ok(())
}

/// Numbers in a row; a vector is one row.
pub(crate) fn row_length(shape: &[usize]) -> usize {
    shape.last().copied().unwrap_or(1)
}

/// Rows of a tensor; a vector has one.
pub(crate) fn rows(shape: &[usize]) -> usize {
    shape.split_last().map_or(1, |(_, outer)| outer.iter().product())
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
