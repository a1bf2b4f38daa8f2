//! Packed matrices of BF16 weights for the processors that multiply BF16 by BF16: both sides of a product are BF16, and it
//! is summed in F32.
//!
//! That is another arithmetic than [`ExactMatrix`](crate::ExactMatrix) has, not a faster way to the same numbers: weights
//! are as they were stored, but the rows on the left are rounded (see [`RoundedRows`](crate::RoundedRows), which is what
//! [`PairedMatrix::times`] asks for), each value by at most 2^-8 of itself. So it is for the caller to choose, and worth it
//! where [`Bf16Products::pay`]; elsewhere it gives the same results within the roundings of the sums, but slower than an
//! exact matrix would.
//!
//! Packing rearranges: panels of [`PANEL`] outputs, `[inputs / 2][32][2]` in each, the last filled up with zeroes, so that
//! two inputs of each output lie side by side. These bytes are the same for every level. Weights under 2^-126, which the
//! instructions take for zero, are made zero here, so that every level multiplies the same numbers.

use crate::rounded::flush;
use crate::shape::{PANEL, PackError, check_bytes, check_sizes, outputs_of, pack_units};
use crate::{AlignedBytes, Bf16Products, Isa};

/// Bytes of a pair of weights.
const PAIR_BYTES: usize = 4;

/// The shape of a packed matrix of BF16 in pairs.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct PairedShape {
    /// Rows of the matrix: columns of the product.
    pub outputs: usize,
    /// Columns of the matrix, a multiple of 32, [`MAX_INPUTS`](crate::MAX_INPUTS) at most.
    pub inputs: usize,
}

impl PairedShape {
    /// The name of the layout, which changes whenever its bytes do: for files.
    pub const LAYOUT: &'static str = "pairs-1";

    /// Whether such a matrix can be packed.
    pub fn check(&self) -> Result<(), PackError> {
        check_sizes(self.outputs, self.inputs)
    }

    /// Panels in it.
    pub fn panels(&self) -> usize {
        self.outputs.div_ceil(PANEL)
    }

    /// Bytes of a panel, a multiple of 64.
    pub fn panel_bytes(&self) -> usize {
        self.inputs / 2 * PANEL * PAIR_BYTES
    }

    /// Bytes of the packed matrix.
    pub fn bytes(&self) -> usize {
        self.panels() * self.panel_bytes()
    }
}

/// Packs a matrix panel by panel. It holds one row.
#[derive(Debug)]
pub struct PairedPacker {
    shape: PairedShape,
    row: Vec<u8>,
}

impl PairedPacker {
    /// A packer for matrices of this shape, whether the processor has the instructions or not.
    pub fn new(shape: PairedShape) -> Result<Self, PackError> {
        shape.check()?;
        Ok(Self { shape, row: vec![0; shape.inputs * 2] })
    }

    /// Packs one panel into `bytes`, asking `source` for the little-endian BF16 of each of its rows by number, in ascending
    /// order.
    ///
    /// # Panics
    /// If `bytes` are not [`PairedShape::panel_bytes`] or there is no such panel.
    pub fn panel<E>(
        &mut self,
        panel: usize,
        bytes: &mut [u8],
        mut source: impl FnMut(usize, &mut [u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let rows = outputs_of(panel, self.shape.outputs);
        pack_units(bytes, PAIR_BYTES, rows, &mut self.row, |number, row| {
            source(number, row)?;
            for weight in row.as_chunks_mut::<2>().0 {
                *weight = flush(u16::from_le_bytes(*weight)).to_le_bytes();
            }
            Ok(())
        })
    }

    /// Packs the whole matrix in memory.
    pub fn matrix<E>(&mut self, mut source: impl FnMut(usize, &mut [u8]) -> Result<(), E>) -> Result<AlignedBytes, E> {
        let mut bytes = AlignedBytes::zeroed(self.shape.bytes());
        for (panel, bytes) in bytes.chunks_exact_mut(self.shape.panel_bytes()).enumerate() {
            self.panel(panel, bytes, &mut source)?;
        }
        Ok(bytes)
    }
}

/// A packed matrix of BF16 in pairs, wherever its bytes are. They may come from a file: whatever they are, products read
/// only them, and give numbers. Only that weights under 2^-126 count as zero is not certain then.
#[derive(Clone, Copy, Debug)]
pub struct PairedMatrix<'a> {
    shape: PairedShape,
    isa: Isa,
    products: Bf16Products,
    bytes: &'a [u8],
}

impl<'a> PairedMatrix<'a> {
    /// Bytes as a packed matrix, to be multiplied by the functions of `isa` with the best [`Bf16Products`] beside it.
    pub fn new(shape: PairedShape, isa: Isa, bytes: &'a [u8]) -> Result<Self, PackError> {
        Self::with_products(shape, isa, Bf16Products::best(isa), bytes)
    }

    /// The same with products of the caller's choice: for comparison. They are widened where those are not here.
    pub fn with_products(
        shape: PairedShape,
        isa: Isa,
        products: Bf16Products,
        bytes: &'a [u8],
    ) -> Result<Self, PackError> {
        shape.check()?;
        check_bytes(bytes, shape.bytes(), isa)?;
        let products = if products.is_available(isa) { products } else { Bf16Products::Widened };
        Ok(Self { shape, isa, products, bytes })
    }

    /// Its shape.
    pub fn shape(&self) -> &PairedShape {
        &self.shape
    }

    /// The level that multiplies it, which the processor has.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// How it is multiplied, which the processor can.
    pub fn products(&self) -> Bf16Products {
        self.products
    }

    /// Its bytes.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    #[test]
    fn pairs_are_where_the_layout_says() {
        let shape = PairedShape { outputs: 33, inputs: 64 };
        let bytes = PairedPacker::new(shape)
            .expect("the shape can be packed")
            .matrix(|row, bytes| {
                for (input, bytes) in bytes.chunks_exact_mut(2).enumerate() {
                    bytes.copy_from_slice(&[row as u8, 64 + input as u8]);
                }
                Ok::<_, Infallible>(())
            })
            .unwrap_or_else(|never| match never {});
        assert_eq!(bytes.len(), 64 * 64 * 2);
        let at = |row: usize, input: usize| {
            &bytes[row / 32 * 64 * 32 * 2 + input / 2 * 32 * 4 + row % 32 * 4 + input % 2 * 2..][..2]
        };
        assert_eq!((at(5, 63), at(5, 62), at(32, 7)), (&[5, 127][..], &[5, 126][..], &[32, 71][..]));
        assert_eq!(at(33, 7), [0, 0]);
    }

    #[test]
    fn subnormal_weights_become_zero_and_keep_their_sign() {
        let shape = PairedShape { outputs: 1, inputs: 32 };
        let weights = [0x0080_u16, 0x007f, 0x807f, 0x8080, 0x0001, 0x7f80, 0x7fff, 0xff7f];
        let bytes = PairedPacker::new(shape)
            .expect("the shape can be packed")
            .matrix(|_, bytes| {
                bytes.fill(0);
                for (bytes, weight) in bytes.chunks_exact_mut(2).zip(weights) {
                    bytes.copy_from_slice(&weight.to_le_bytes());
                }
                Ok::<_, Infallible>(())
            })
            .unwrap_or_else(|never| match never {});
        let found: Vec<u16> = (0..8)
            .map(|input| input / 2 * 128 + input % 2 * 2)
            .map(|at| u16::from_le_bytes([bytes[at], bytes[at + 1]]))
            .collect();
        assert_eq!(found, [0x0080, 0, 0x8000, 0x8080, 0, 0x7f80, 0x7fff, 0xff7f]);
    }

    #[test]
    fn what_is_no_packed_matrix_is_refused() {
        let shape = PairedShape { outputs: 32, inputs: 32 };
        let bytes = AlignedBytes::zeroed(32 * 32 * 2 + 64);
        let error = |shape, isa, bytes| PairedMatrix::new(shape, isa, bytes).expect_err("refused");
        assert!(PairedMatrix::new(shape, Isa::Portable, &bytes[..2048]).is_ok());
        assert_eq!(error(shape, Isa::Portable, &bytes), PackError::Length { expected: 2048, found: 2112 });
        assert_eq!(error(shape, Isa::Portable, &bytes[4..2052]), PackError::Alignment);
        assert_eq!(error(PairedShape { inputs: 34, ..shape }, Isa::Portable, &bytes), PackError::Inputs(34));
        assert_eq!(error(PairedShape { outputs: 0, ..shape }, Isa::Portable, &[]), PackError::Outputs(0));
        let absent = Isa::ALL.into_iter().find(|isa| !isa.is_available()).expect("no processor is of both kinds");
        assert_eq!(error(shape, absent, &bytes[..2048]), PackError::Isa(absent));
    }
}
