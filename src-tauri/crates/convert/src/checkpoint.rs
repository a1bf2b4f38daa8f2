//! A checkpoint on disk: which tensors it has and where their bytes are. Reads headers only.

mod header;
pub(crate) mod mlx;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};

use safetensors::Dtype;

use self::mlx::Affine;
use crate::configuration::{self, Configuration};
use crate::{ConvertError, cache};

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// All weight files of a folder, opened.
#[derive(Debug)]
pub(crate) struct Checkpoint {
    /// The folder.
    pub(crate) folder: PathBuf,
    /// Its weight files in the order of their names.
    pub(crate) shards: Vec<Shard>,
}

/// One weight file.
#[derive(Debug)]
pub(crate) struct Shard {
    /// Its name in the folder.
    pub(crate) name: String,
    /// Its path.
    pub(crate) path: PathBuf,
    /// Opened for reading.
    pub(crate) file: File,
    /// Its length when it was opened.
    pub(crate) length: u64,
    /// Where the first tensor's bytes start; everything before is the header.
    pub(crate) data_start: u64,
    /// In the order of their bytes, which lie side by side up to the end of the file.
    pub(crate) tensors: Vec<Tensor>,
}

/// One tensor of a weight file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Tensor {
    /// Its name as the file has it.
    pub(crate) name: String,
    /// What its bytes are.
    pub(crate) content: Content,
    /// Rows first, in numbers, however many of them share a byte.
    pub(crate) shape: Vec<usize>,
    /// Where its bytes start, from the start of the file.
    pub(crate) offset: u64,
    /// How many bytes it has.
    pub(crate) bytes: u64,
}

/// What the bytes of a tensor are.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Content {
    /// Numbers of one type, side by side.
    Numbers(Dtype),
    /// Packed integers; scales and biases are elsewhere.
    Affine(Box<Affine>),
    /// The scales or biases of another tensor.
    Companion,
}

impl Tensor {
    /// Bytes of a row of it, by itself.
    pub(crate) fn row_bytes(&self) -> usize {
        self.bytes as usize / self.rows()
    }

    /// Rows; a vector has one.
    pub(crate) fn rows(&self) -> usize {
        self.shape.split_last().map_or(1, |(_, outer)| outer.iter().product())
    }

    /// Numbers in a row; a vector is one row.
    pub(crate) fn row_length(&self) -> usize {
        self.shape.last().copied().unwrap_or(1)
    }
}

impl Checkpoint {
    /// Opens the weight files of `folder` and reads their headers; `configuration` says whether they are quantised.
    pub(crate) fn open(folder: &Path, configuration: &Configuration) -> Result<Self, ConvertError> {
        let single = folder.join(SINGLE);
        let index = folder.join(INDEX);
        let mut shards = if single.is_file() || !index.is_file() {
            vec![Shard::open(folder, SINGLE.to_owned())?]
        } else {
            open_sharded(folder, &index)?
        };
        mlx::fold(&mut shards, configuration)?;
        Ok(Self { folder: folder.to_path_buf(), shards })
    }

    /// Bytes of all weight files.
    pub(crate) fn bytes(&self) -> u64 {
        self.shards.iter().map(|shard| shard.length).sum()
    }
}

impl Shard {
    fn open(folder: &Path, name: String) -> Result<Self, ConvertError> {
        let path = folder.join(&name);
        let file = File::open(&path).map_err(ConvertError::reading(&path))?;
        let metadata = file.metadata().map_err(ConvertError::reading(&path))?;
        if !metadata.is_file() {
            return Err(ConvertError::corrupt(&path, "it is not a file"));
        }
        cache::bypass(&file);
        let (data_start, tensors) = header::read(&file, metadata.len(), &path)?;
        Ok(Self { name, path, file, length: metadata.len(), data_start, tensors })
    }
}

/// The part of `model.safetensors.index.json` that matters.
#[derive(serde::Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

fn open_sharded(folder: &Path, path: &Path) -> Result<Vec<Shard>, ConvertError> {
    let index: Index = configuration::read_json(path)?;
    let names: BTreeSet<&String> = index.weight_map.values().collect();
    let mut shards = Vec::with_capacity(names.len());
    for name in names {
        // The index comes with the checkpoint: it must not lead out of its folder.
        if name.contains(['/', '\\', '\0']) || !name.ends_with(".safetensors") {
            return Err(ConvertError::corrupt(path, format!("`{name}` is not the name of a weight file")));
        }
        shards.push(Shard::open(folder, name.clone())?);
    }
    for (tensor, shard) in &index.weight_map {
        let holds = |found: &Shard| found.name == *shard && found.tensors.iter().any(|found| found.name == *tensor);
        if !shards.iter().any(holds) {
            return Err(ConvertError::MissingTensor { path: folder.join(shard), tensor: tensor.clone() });
        }
    }
    if shards.is_empty() {
        return Err(ConvertError::corrupt(path, "it names no weight file"));
    }
    Ok(shards)
}
