//! Arithmetic for encoders on the processor: matrix products with weights that were packed once, and the layers between
//! them, each in one pass.
//!
//! Everything here works on slices of F32 rows that the caller owns. It knows nothing of models, files, tokens or candle;
//! `engine` composes it into encoders. Each operation exists as portable Rust, which is the truth, and for the instruction
//! sets in [`Isa`], which tests compare with it.

pub mod arena;
pub mod attention;
pub mod cores;
pub mod elementwise;
mod isa;
mod lanes;
pub mod norm;
pub mod rotary;
pub mod team;

pub use isa::Isa;
