//! Arithmetic for encoders on the processor: matrix products with weights that were packed once, and the layers between
//! them, each in one pass.
//!
//! Everything here works on slices of F32 rows that the caller owns. It knows nothing of models, files, tokens or candle;
//! `engine` composes it into encoders. Each operation exists as portable Rust, which is the truth, and for the instruction
//! sets in [`Isa`], which tests compare with it.

mod aligned;
pub mod arena;
pub mod attention;
mod bf16_products;
pub mod cores;
pub mod elementwise;
mod epilogue;
mod exact;
mod isa;
mod kernel;
mod lanes;
pub mod norm;
mod pack;
mod paired;
mod product;
mod quantise;
pub mod rotary;
mod rounded;
mod shape;
pub mod team;
pub mod urgency;

pub use aligned::{ALIGNMENT, AlignedBytes};
pub use bf16_products::Bf16Products;
pub use epilogue::{Activated, AddTo, Epilogue, Gated, Plain, WithBias};
pub use exact::{Element, ExactMatrix, ExactPacker, ExactShape};
pub use isa::Isa;
pub use kernel::Operands;
pub use pack::{PackedMatrix, Packer, SourceRow, interleaved};
pub use paired::{PairedMatrix, PairedPacker, PairedShape};
pub use product::{Output, Product};
pub use quantise::QuantisedRows;
pub use rounded::RoundedRows;
pub use shape::{Code, Group, Layout, MAX_INPUTS, PANEL, PackError, PackedShape, ScaleType};
