//! From numbers to stored bytes: one module per type, all behind [`Quantiser`].
//!
//! A quantiser sees one row at a time and keeps nothing between rows, so rows may be handed to it in any blocks. What a type
//! is called in a GGUF file is part of it, because these types are GGUF's own.

mod full;
mod half;
pub(crate) mod palette;
mod q4_0;
mod q4_k;
mod q8_0;
pub(crate) mod rows;

use crate::TargetPrecision;
pub(crate) use half::F16;

/// A number that the type cannot hold. The caller knows which tensor and row it is in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct OutOfRange;

/// Stores rows in one type.
pub(crate) trait Quantiser: Send + Sync {
    /// What GGUF calls the type, such as `Q8_0`.
    fn name(&self) -> &'static str;

    /// GGUF's number for the type.
    fn ggml_type(&self) -> u32;

    /// Numbers that are stored together; a row must be a whole number of them.
    fn block(&self) -> usize;

    /// Bytes that one block takes.
    fn block_bytes(&self) -> usize;

    /// Appends the bytes of `row`, whose numbers are finite.
    fn encode(&self, row: &[f32], out: &mut Vec<u8>) -> Result<(), OutOfRange>;
}

/// What stores the rows of a matrix, and whether it is another type than asked because the rows do not divide into its blocks.
pub(crate) fn for_matrix(precision: TargetPrecision, row: usize) -> (&'static dyn Quantiser, bool) {
    let wanted: &[&'static dyn Quantiser] = match precision {
        TargetPrecision::Fp16 => &[&half::F16],
        TargetPrecision::Int8 => &[&q8_0::Q8_0],
        TargetPrecision::FourBit => &[&q4_k::Q4K, &q4_0::Q4_0],
    };
    match wanted.iter().position(|quantiser| row.is_multiple_of(quantiser.block())) {
        Some(place) => (wanted[place], place > 0),
        None => (&half::F16, true),
    }
}

/// What stores the table of tokens: never below 8 bits, because each text reads only a few of its rows.
pub(crate) fn for_tokens(precision: TargetPrecision, row: usize) -> (&'static dyn Quantiser, bool) {
    match precision {
        TargetPrecision::FourBit => for_matrix(TargetPrecision::Int8, row),
        _ => for_matrix(precision, row),
    }
}

/// What stores norms, biases and small tables.
pub(crate) fn exact() -> &'static dyn Quantiser {
    &full::F32
}

/// llama.cpp's number for a file whose matrices have this precision.
pub(crate) fn file_type(precision: TargetPrecision) -> u32 {
    match precision {
        TargetPrecision::Fp16 => 1,
        TargetPrecision::Int8 => 7,
        // Mostly Q4_K, without the mixture of the customary Q4_K_M.
        TargetPrecision::FourBit => 14,
    }
}

/// See [`rounded`].
const LARGE: f32 = 12_582_912.0;

/// The nearest whole number, halves to even, as llama.cpp's `nearest_int` and coremltools round. Numbers as large as the
/// constant have no fraction in single precision, so that adding one rounds. Unlike `f32::round_ties_even`, it is never a call
/// into a library, which would keep loops from being vectorised. Above 2^22 the result may be off by a few.
fn rounded(number: f32) -> f32 {
    number + LARGE - LARGE
}
