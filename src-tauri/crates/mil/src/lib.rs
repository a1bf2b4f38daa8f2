//! Core ML packages (`.mlpackage` with an ML program) without Core ML: what one is ([`Package::describe`]), what is wrong with
//! it ([`Package::lint`]), and what it computes ([`Program`]).
//!
//! This crate is the judge of the packages that `embedbar-convert` writes, so the two share no code: what is known of the
//! format here was learnt from Apple's protocol definitions and from what coremltools writes, and the tests compare with
//! coremltools. It is also how a package runs where there is no Core ML: interpreted, one operation after the other, slowly.
//!
//! It is not a validator that Apple's own is bound to agree with (that one is not public), not a compiler, and it says nothing
//! about speed on a Mac or about which operations the Neural Engine takes.
//!
//! A package is untrusted input. Paths stay within it, sizes are checked against the files they describe, and no value of a
//! program may take more than a gibibyte. Weights are read from their file when an operation asks for them, a few rows at a
//! time, so that a package of 8 GB is evaluated in a few hundred megabytes.

mod blob;
mod constant;
mod describe;
mod element;
mod embedding;
mod error;
mod infer;
mod lint;
mod literal;
mod manifest;
mod operation;
mod package;
mod program;
mod proto;
mod signature;
mod tensor;
mod weight;

pub use describe::{Description, Feature, FunctionDescription, Precision, ShapeRange, StorageKind};
pub use element::ElementType;
pub use embedding::{EmbeddingInterface, Lengths};
pub use error::MilError;
pub use lint::Finding;
pub use literal::TensorType;
pub use package::Package;
pub use program::{Arithmetic, Input, Program, WeightRows};
pub use tensor::Tensor;
