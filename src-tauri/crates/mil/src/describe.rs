//! What a package is, for showing it to a person and for choosing how to run it: everything that can be said without
//! evaluating it. What is wrong with it is said by [`crate::lint`].

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::element::ElementType;
use crate::package::{Package, block};
use crate::proto::{self, Bound, Content};
use crate::tensor::count_of;
use crate::{constant, literal};

/// What a package says of itself and what is in it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Description {
    /// The version of the model's specification: 7 needs macOS 13, 8 macOS 14, 9 macOS 15, 10 macOS 26.
    pub specification_version: i32,
    /// The functions; a package with one calls it `main`.
    pub functions: Vec<FunctionDescription>,
    /// The function that is meant where none is named.
    pub default_function: String,
    /// Who made it; empty if it does not say.
    pub author: String,
    /// What it is for.
    pub description: String,
    /// Under which licence.
    pub license: String,
    /// The version that its maker gave it.
    pub version: String,
    /// Whatever else its maker wrote into it.
    pub user_defined: BTreeMap<String, String>,
    /// How many operations of each kind there are, in all functions.
    pub operations: BTreeMap<String, usize>,
    /// Bytes of the weights by how they are stored, each blob counted once.
    pub weight_bytes: BTreeMap<StorageKind, u64>,
    /// How most of the weights' numbers are stored.
    pub precision: Option<StorageKind>,
    /// The precision of [`Self::precision`], in the words that the rest of Embedbar uses.
    pub precision_class: Option<Precision>,
    /// The size of the model's file, without its weights.
    pub model_bytes: u64,
}

/// A function of a package.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FunctionDescription {
    /// Its name.
    pub name: String,
    /// The version of the operations that it uses.
    pub opset: String,
    /// What it takes.
    pub inputs: Vec<Feature>,
    /// What it makes.
    pub outputs: Vec<Feature>,
}

/// An input or an output, as the model's description has it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Feature {
    /// Its name.
    pub name: String,
    /// The type of its elements; `None` if it is no array of a known type.
    pub dtype: Option<ElementType>,
    /// Its default shape; outputs of flexible models may have none.
    pub shape: Vec<i64>,
    /// The shapes that are allowed, if the model lists them.
    pub enumerated_shapes: Vec<Vec<i64>>,
    /// The sizes that are allowed for each dimension, if the model gives ranges.
    pub shape_range: Vec<ShapeRange>,
    /// May it be left out?
    pub optional: bool,
}

/// The sizes that are allowed for a dimension.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
pub struct ShapeRange {
    /// The smallest.
    pub least: u64,
    /// The largest; `None`: there is none.
    pub most: Option<u64>,
}

/// How a weight is stored.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum StorageKind {
    /// Single precision.
    Fp32,
    /// Half precision.
    Fp16,
    /// Bytes with a scale for each channel or for all.
    Int8,
    /// Bytes with a scale for each block within a channel.
    Int8Block,
    /// Nibbles with a scale for each block, or for each channel.
    Int4Block,
    /// Indices of 8 bits into a table.
    Palette8,
    /// Indices of 6 bits into a table.
    Palette6,
    /// Indices of 4 bits into a table.
    Palette4,
    /// Indices of 3 bits into a table.
    Palette3,
    /// Indices of 2 bits into a table.
    Palette2,
    /// Indices of 1 bit into a table.
    Palette1,
    /// Scales, offsets and tables of compressed weights.
    Parameters,
    /// Whatever else lies in a weight file: indices, masks.
    Other,
}

/// A precision as the rest of Embedbar names it.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[non_exhaustive]
pub enum Precision {
    /// Single precision.
    #[serde(rename = "fp32")]
    Fp32,
    /// Half precision.
    #[serde(rename = "fp16")]
    Fp16,
    /// About a byte a weight.
    #[serde(rename = "int8")]
    Int8,
    /// About half a byte a weight, or less.
    #[serde(rename = "4bit")]
    FourBit,
}

impl StorageKind {
    /// The precision in the words that the rest of Embedbar uses.
    pub fn precision(self) -> Option<Precision> {
        match self {
            Self::Fp32 => Some(Precision::Fp32),
            Self::Fp16 => Some(Precision::Fp16),
            Self::Int8 | Self::Int8Block | Self::Palette8 | Self::Palette6 => Some(Precision::Int8),
            Self::Int4Block | Self::Palette4 | Self::Palette3 | Self::Palette2 | Self::Palette1 => {
                Some(Precision::FourBit)
            }
            Self::Parameters | Self::Other => None,
        }
    }
}

impl Package {
    /// What the package is.
    pub fn describe(&self) -> Description {
        let model = self.model();
        let described = model.description.as_ref();
        let metadata = described.and_then(|described| described.metadata.clone()).unwrap_or_default();
        let functions = self.functions().iter().map(|(name, function)| {
            let (inputs, outputs) = self.interface(name);
            FunctionDescription {
                name: name.clone(),
                opset: function.opset.clone(),
                inputs: inputs.iter().map(feature).collect(),
                outputs: outputs.iter().map(feature).collect(),
            }
        });
        let mut operations = BTreeMap::new();
        for operation in
            self.functions().values().filter_map(|function| block(function).ok()).flat_map(|it| &it.operations)
        {
            *operations.entry(operation.kind.clone()).or_default() += 1;
        }
        let weights = Weights::of(self);
        let precision = weights.most();
        Description {
            specification_version: model.specification_version,
            functions: functions.collect(),
            default_function: self.default_function().to_owned(),
            author: metadata.author,
            description: metadata.short_description,
            license: metadata.license,
            version: metadata.version_string,
            user_defined: metadata.user_defined,
            operations,
            weight_bytes: weights.bytes,
            precision,
            precision_class: precision.and_then(StorageKind::precision),
            model_bytes: self.model_bytes(),
        }
    }
}

fn feature(described: &proto::FeatureDescription) -> Feature {
    let kind = described.kind.as_deref().cloned().unwrap_or_default();
    let array = kind.multi_array.unwrap_or_default();
    let ranges = array.shape_range.map_or_else(Vec::new, |range| range.size_ranges);
    let range =
        |range: &proto::SizeRange| ShapeRange { least: range.lower_bound, most: u64::try_from(range.upper_bound).ok() };
    Feature {
        name: described.name.clone(),
        dtype: ElementType::from_interface(array.data_type),
        shape: array.shape,
        enumerated_shapes: array
            .enumerated_shapes
            .map_or_else(Vec::new, |shapes| shapes.shapes.into_iter().map(|shape| shape.shape).collect()),
        shape_range: ranges.iter().map(range).collect(),
        optional: kind.is_optional,
    }
}

/// Bytes and numbers of elements by how they are stored.
#[derive(Default)]
struct Weights {
    bytes: BTreeMap<StorageKind, u64>,
    elements: BTreeMap<StorageKind, u64>,
    /// Blobs that were counted: functions share them.
    seen: BTreeSet<(String, u64)>,
}

impl Weights {
    fn of(package: &Package) -> Self {
        let mut weights = Self::default();
        for block in package.functions().values().filter_map(|function| block(function).ok()) {
            // Compressed weights first: a constant that one of them is made from is not a weight by itself.
            let mut later = Vec::new();
            for operation in &block.operations {
                if operation.kind.starts_with("constexpr_") {
                    weights.compressed(operation, block);
                } else {
                    later.push(operation);
                }
            }
            for value in later.into_iter().flat_map(|operation| operation.attributes.values()) {
                weights.add(value, |dtype, _| match dtype {
                    ElementType::Float32 => StorageKind::Fp32,
                    ElementType::Float16 => StorageKind::Fp16,
                    _ => StorageKind::Other,
                });
            }
        }
        weights
    }

    fn compressed(&mut self, operation: &proto::Operation, block: &proto::Block) {
        let named = |name: &str| {
            let makes = |operation: &&proto::Operation| operation.outputs.iter().any(|output| output.name == name);
            let found = block.operations.iter().find(makes).filter(|operation| constant::is_constant(&operation.kind));
            found.and_then(|operation| operation.attributes.get("val"))
        };
        let parameter = |name: &str| {
            let bound = operation.inputs.get(name).and_then(|argument| argument.arguments.first()?.bound.as_ref());
            match bound {
                Some(Bound::Value(value)) => Some(&**value),
                Some(Bound::Name(name)) => named(name),
                None => operation.attributes.get(name),
            }
        };
        let shape = |name: &str| parameter(name).and_then(|value| literal::fixed_type(value).ok()).map(|found| found.1);
        let scales = shape("scale").unwrap_or_default();
        let entries = shape("lut").and_then(|shape| match shape.as_slice() {
            [entries] | [.., entries, _] => Some(*entries),
            [] => None,
        });
        for name in ["quantized_data", "data", "indices", "source_val"] {
            let Some(value) = parameter(name) else { continue };
            self.add(value, |dtype, shape| match (name, dtype) {
                ("quantized_data", _) => StorageKind::Int8,
                ("data", ElementType::Int8 | ElementType::UInt8) => {
                    // One scale for every row is a channel; more of them are blocks.
                    let blocks = scales.iter().skip(1).any(|blocks| *blocks > 1) && scales.len() == shape.len();
                    if blocks { StorageKind::Int8Block } else { StorageKind::Int8 }
                }
                ("data", ElementType::Int4 | ElementType::UInt4) => StorageKind::Int4Block,
                ("indices", ElementType::UInt1) => StorageKind::Palette1,
                ("indices", ElementType::UInt2) => StorageKind::Palette2,
                ("indices", ElementType::UInt3) => StorageKind::Palette3,
                ("indices", ElementType::UInt4) => StorageKind::Palette4,
                ("indices", ElementType::UInt6) => StorageKind::Palette6,
                // Bytes, in which smaller indices were packed before CoreML8.
                ("indices", _) => match entries {
                    Some(2) => StorageKind::Palette1,
                    Some(4) => StorageKind::Palette2,
                    Some(16) => StorageKind::Palette4,
                    Some(64) => StorageKind::Palette6,
                    _ => StorageKind::Palette8,
                },
                ("source_val", ElementType::Float32) => StorageKind::Fp32,
                ("source_val", ElementType::Float16) => StorageKind::Fp16,
                _ => StorageKind::Other,
            });
        }
        for name in ["scale", "zero_point", "offset", "lut"] {
            if let Some(value) = parameter(name) {
                self.add(value, |_, _| StorageKind::Parameters);
            }
        }
    }

    fn add(&mut self, value: &proto::Value, kind: impl FnOnce(ElementType, &[usize]) -> StorageKind) {
        let Some(Content::Blob(reference)) = &value.content else { return };
        let Ok((dtype, shape)) = literal::fixed_type(value) else { return };
        if !self.seen.insert((reference.file_name.clone(), reference.offset)) {
            return;
        }
        let kind = kind(dtype, &shape);
        let count = count_of(&shape).unwrap_or(0);
        let bytes = dtype.bytes(count).unwrap_or(0) as u64;
        // Packed indices are declared as bytes.
        let elements = match (dtype, kind) {
            (ElementType::UInt8, StorageKind::Palette6) => bytes * 8 / 6,
            (ElementType::UInt8, StorageKind::Palette4) => bytes * 2,
            (ElementType::UInt8, StorageKind::Palette2) => bytes * 4,
            (ElementType::UInt8, StorageKind::Palette1) => bytes * 8,
            _ => count as u64,
        };
        *self.bytes.entry(kind).or_default() += bytes;
        *self.elements.entry(kind).or_default() += elements;
    }

    fn most(&self) -> Option<StorageKind> {
        let weights = self.elements.iter().filter(|(kind, _)| kind.precision().is_some());
        weights.max_by_key(|(_, count)| **count).map(|(kind, _)| *kind)
    }
}
