//! The tensors of a checkpoint, whichever file format they came in: mapped, checked against the shapes that the
//! configuration promises, and handed out in the form that their use needs.
//!
//! Encoders name tensors by role (`attn_q` of layer 3); [`Naming`] turns a role into the file's own name, so that an error
//! names what the person can find in the file. Nothing here knows what the tensors mean.

use std::{collections::HashMap, ops::Range, sync::Arc};

use candle_core::{
    DType, Device, Tensor,
    quantized::{GgmlDType, QStorage, QTensor},
};

use crate::{
    EngineError,
    affine::{self, Affine, Groups},
    linear::{self, Linear, WidenedLinear},
    mapped::Mapped,
    mapped_blocks,
};

/// Where a tensor lies and what it is.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// Index into the files.
    pub(crate) file: usize,
    /// Its bytes in that file; inside the file.
    pub(crate) range: Range<usize>,
    /// Its shape, rows first, in numbers, however many of them share a byte.
    pub(crate) shape: Vec<usize>,
    pub(crate) content: Content,
}

/// What the bytes of a tensor are.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    /// Numbers, or blocks of them, of one of candle's types.
    Blocks(GgmlDType),
    /// Integers that MLX has packed.
    Affine(Box<Affine>),
}

/// A matrix in its file.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) file: Arc<Mapped>,
    /// Its bytes in that file.
    pub(crate) range: Range<usize>,
    pub(crate) content: Content,
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    /// What the file calls it.
    pub(crate) name: String,
}

impl Stored {
    /// The bytes of a row.
    pub(crate) fn row(&self, row: usize) -> &[u8] {
        let bytes = &self.file.bytes()[self.range.clone()];
        let length = bytes.len() / self.rows;
        &bytes[row * length..][..length]
    }

    /// Widens row `row` of floating-point or packed numbers to `target`.
    pub(crate) fn numbers(&self, row: usize, groups: &mut Groups, target: &mut [f32]) {
        match &self.content {
            Content::Affine(affine) => affine.row(self.row(row), row, groups, target),
            Content::Blocks(dtype) => {
                debug_assert!(matches!(dtype, GgmlDType::F16 | GgmlDType::BF16), "{dtype:?}");
                linear::widen(self.row(row), *dtype == GgmlDType::BF16, target);
            }
        }
    }

    /// Lets the system take back its pages.
    pub(crate) fn release(&self) {
        self.file.release(&self.range);
        if let Content::Affine(affine) = &self.content {
            affine.release();
        }
    }
}

/// How the file names tensors.
#[derive(Clone, Debug)]
pub(crate) enum Naming {
    /// As llama.cpp does: `blk.3.attn_q.weight`.
    Gguf,
    /// As transformers does, with the prefix that some exports add: `bert.encoder.layer.3.attention.self.query.weight`.
    Transformers {
        /// In front of every name, such as `bert.` or `model.`; often empty.
        prefix: String,
        /// In front of a layer's number, such as `encoder.layer.`.
        layer: &'static str,
        /// Pairs of llama.cpp's and transformers' stem.
        stems: &'static [(&'static str, &'static str)],
    },
}

impl Naming {
    fn name(&self, role: &Role) -> String {
        let Role { layer, stem, part } = role;
        match self {
            Self::Gguf => match layer {
                Some(layer) => format!("blk.{layer}.{stem}.{part}"),
                None => format!("{stem}.{part}"),
            },
            Self::Transformers { prefix, layer: layers, stems } => {
                let stem = stems.iter().find(|(role, _)| role == stem).map_or(*stem, |(_, name)| name);
                match layer {
                    Some(layer) => format!("{prefix}{layers}{layer}.{stem}.{part}"),
                    None => format!("{prefix}{stem}.{part}"),
                }
            }
        }
    }
}

/// What a tensor is for, in llama.cpp's words.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Role {
    layer: Option<usize>,
    stem: &'static str,
    part: &'static str,
}

/// The `weight` of `stem`, in a layer or outside all layers.
pub(crate) fn weight(layer: impl Into<Option<usize>>, stem: &'static str) -> Role {
    Role { layer: layer.into(), stem, part: "weight" }
}

impl Role {
    /// The bias that goes with this weight.
    pub(crate) fn bias(self) -> Self {
        Self { part: "bias", ..self }
    }
}

/// The tensors of one checkpoint.
#[derive(Debug)]
pub(crate) struct Weights {
    files: Vec<Arc<Mapped>>,
    entries: HashMap<String, Entry>,
    naming: Naming,
}

impl Weights {
    pub(crate) fn new(files: Vec<Arc<Mapped>>, entries: HashMap<String, Entry>, naming: Naming) -> Self {
        Self { files, entries, naming }
    }

    /// The mapped files, in a fixed order.
    pub(crate) fn files(&self) -> &[Arc<Mapped>] {
        &self.files
    }

    /// Where the tensor of exactly that name lies.
    pub(crate) fn entry(&self, name: &str) -> Option<&Entry> {
        self.entries.get(name)
    }

    /// What the tensor's numbers are stored as; `None` where there is no such tensor.
    pub(crate) fn content(&self, role: Role) -> Option<&Content> {
        self.find(role).map(|(_, entry)| &entry.content)
    }

    /// The shape of a tensor that must be there.
    pub(crate) fn shape(&self, role: Role) -> Result<&[usize], EngineError> {
        self.find(role).map(|(_, entry)| entry.shape.as_slice()).ok_or_else(|| self.missing(role))
    }

    /// A tensor of the given shape as F32 in memory of its own; its pages in the file are released.
    pub(crate) fn f32(&self, role: Role, shape: &[usize]) -> Result<Tensor, EngineError> {
        let (name, entry) = self.checked(role, shape)?;
        let file = &self.files[entry.file];
        let tensor = match entry.content {
            Content::Blocks(GgmlDType::F32) => {
                let bytes = &file.bytes()[entry.range.clone()];
                match bytemuck::try_cast_slice::<u8, f32>(bytes) {
                    Ok(numbers) => Tensor::from_slice(numbers, shape, &Device::Cpu),
                    Err(_) => Tensor::from_vec(bytemuck::pod_collect_to_vec::<u8, f32>(bytes), shape, &Device::Cpu),
                }
            }
            _ => self.blocks(entry, &name).and_then(|tensor| tensor.dequantize(&Device::Cpu)),
        };
        let tensor = tensor.map_err(|error| self.unusable(entry, &name, &error))?;
        file.release(&entry.range);
        if let Content::Affine(affine) = &entry.content {
            affine.release();
        }
        Ok(tensor)
    }

    /// Like [`Self::f32`], as plain numbers.
    pub(crate) fn numbers(&self, role: Role, shape: &[usize]) -> Result<Vec<f32>, EngineError> {
        self.f32(role, shape)?
            .flatten_all()
            .and_then(|tensor| tensor.to_vec1::<f32>())
            .map_err(|error| EngineError::corrupt(self.files[0].path(), error))
    }

    /// The biases of `roles` end to end, each as long as its number says; `None` where none of them has one.
    pub(crate) fn biases(&self, roles: &[(Role, usize)]) -> Result<Option<Vec<f32>>, EngineError> {
        let there = |&&(role, _): &&(Role, usize)| self.find(role.bias()).is_some();
        if !roles.iter().any(|role| there(&role)) {
            return Ok(None);
        }
        let biases = roles.iter().map(|&(role, length)| self.numbers(role.bias(), &[length]));
        Ok(Some(biases.collect::<Result<Vec<_>, _>>()?.concat()))
    }

    /// Like [`Self::f32`], `None` where there is no such tensor.
    pub(crate) fn optional_f32(&self, role: Role, shape: &[usize]) -> Result<Option<Tensor>, EngineError> {
        self.find(role).map(|_| self.f32(role, shape)).transpose()
    }

    /// A table whose rows are looked up; it stays in the file as it is stored there.
    pub(crate) fn table(&self, role: Role, shape: &[usize]) -> Result<QTensor, EngineError> {
        let (name, entry) = self.checked(role, shape)?;
        self.blocks(entry, &name).map_err(|error| self.unusable(entry, &name, &error))
    }

    /// The matrix and bias of `roles`, stacked into one layer of F32 numbers; `shape` is each one's `[out, in]`.
    pub(crate) fn dense(&self, roles: &[Role], shape: [usize; 2]) -> Result<Linear, EngineError> {
        let weights = roles.iter().map(|&role| self.f32(role, &shape)).collect::<Result<Vec<_>, _>>()?;
        let biases =
            roles.iter().map(|&role| self.optional_f32(role.bias(), &shape[..1])).collect::<Result<Vec<_>, _>>()?;
        if biases.iter().any(Option::is_some) && !biases.iter().all(Option::is_some) {
            let lacking = biases.iter().position(Option::is_none).unwrap_or(0);
            return Err(self.missing(roles[lacking].bias()));
        }
        let biases: Vec<Tensor> = biases.into_iter().flatten().collect();
        let stack = |tensors: Vec<Tensor>| match tensors.as_slice() {
            [one] => Ok(one.clone()),
            several => Tensor::cat(several, 0),
        };
        let bias = if biases.is_empty() { Ok(None) } else { stack(biases).map(Some) };
        stack(weights)
            .and_then(|weight| Linear::dense(&weight, bias?))
            .map_err(|error| EngineError::corrupt(self.files[0].path(), error))
    }

    /// A matrix as it is stored, for whoever packs it; `shape` is `[out, in]`.
    pub(crate) fn stored(&self, role: Role, shape: [usize; 2]) -> Result<Stored, EngineError> {
        let (name, entry) = self.checked(role, &shape)?;
        Ok(self.in_file(entry, name))
    }

    /// `entry` is a matrix.
    fn in_file(&self, entry: &Entry, name: String) -> Stored {
        let columns = entry.shape.last().copied().unwrap_or(1);
        let rows = entry.shape.iter().rev().skip(1).product();
        let (file, range, content) = (Arc::clone(&self.files[entry.file]), entry.range.clone(), entry.content.clone());
        Stored { file, range, content, rows, columns, name }
    }

    /// The matrix and bias of `role` in the form that costs least memory: F32 numbers are copied once; F16, BF16 and what MLX has
    /// packed stay in the file and are widened block by block at use; other quantised ones stay in the file and candle packs them
    /// at first use.
    pub(crate) fn linear(&self, role: Role, shape: [usize; 2]) -> Result<Linear, EngineError> {
        let (name, entry) = self.checked(role, &shape)?;
        let bias = self.optional_f32(role.bias(), &shape[..1])?;
        match entry.content {
            Content::Blocks(GgmlDType::F32) => self.dense(&[role], shape),
            Content::Blocks(GgmlDType::F16 | GgmlDType::BF16) | Content::Affine(_) => {
                Ok(Linear::Widened(WidenedLinear { stored: self.in_file(entry, name), bias }))
            }
            Content::Blocks(_) => {
                let tensor = self.blocks(entry, &name).map_err(|error| self.unusable(entry, &name, &error))?;
                Ok(Linear::Quantized { weight: Arc::new(tensor), bias })
            }
        }
    }

    fn find(&self, role: Role) -> Option<(String, &Entry)> {
        let name = self.naming.name(&role);
        if let Some(entry) = self.entries.get(&name) {
            return Some((name, entry));
        }
        // Checkpoints converted from TensorFlow call a norm's weight and bias `gamma` and `beta`.
        let old = if role.part == "bias" { "beta" } else { "gamma" };
        let name = self.naming.name(&Role { part: old, ..role });
        self.entries.get(&name).map(|entry| (name, entry))
    }

    fn checked(&self, role: Role, shape: &[usize]) -> Result<(String, &Entry), EngineError> {
        let (name, entry) = self.find(role).ok_or_else(|| self.missing(role))?;
        if entry.shape != shape {
            return Err(EngineError::TensorShape {
                path: self.files[entry.file].path().to_path_buf(),
                tensor: name,
                found: entry.shape.clone(),
                wanted: shape.to_vec(),
            });
        }
        Ok((name, entry))
    }

    fn blocks(&self, entry: &Entry, name: &str) -> candle_core::Result<QTensor> {
        let storage = match entry.content {
            Content::Blocks(dtype) => mapped_blocks::storage(&self.files[entry.file], entry.range.clone(), dtype)?,
            Content::Affine(_) => QStorage::Cpu(Box::new(affine::Table(self.in_file(entry, name.to_owned())))),
        };
        QTensor::new(storage, entry.shape.as_slice())
    }

    fn missing(&self, role: Role) -> EngineError {
        EngineError::MissingTensor { path: self.files[0].path().to_path_buf(), tensor: self.naming.name(&role) }
    }

    fn unusable(&self, entry: &Entry, name: &str, error: &candle_core::Error) -> EngineError {
        EngineError::corrupt(self.files[entry.file].path(), format!("the tensor `{name}` cannot be used: {error}"))
    }
}

/// Looks up the rows `ids` of `table` as F32 `[ids, columns]`.
pub(crate) fn rows(table: &QTensor, ids: &[u32]) -> candle_core::Result<Tensor> {
    debug_assert_eq!(table.device().location(), Device::Cpu.location());
    let ids = Tensor::from_slice(ids, ids.len(), &Device::Cpu)?;
    let rows = table.embedding(&ids)?;
    debug_assert_eq!(rows.dtype(), DType::F32);
    Ok(rows)
}
