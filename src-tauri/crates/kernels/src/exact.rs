//! Packed matrices whose weights are not coded: F32, F16 or BF16, which products widen exactly and multiply in F32.
//!
//! Packing only rearranges: panels of [`PANEL`] outputs, `[inputs][32]` in each, the last filled up with zeroes. That suits
//! every level of instructions, so these bytes are the same everywhere.

use crate::shape::{PANEL, PackError, check_bytes, check_sizes, outputs_of, pack_units};
use crate::{AlignedBytes, Isa};

/// How a weight is stored.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Element {
    /// Four bytes.
    F32,
    /// Two bytes, IEEE half precision.
    F16,
    /// Two bytes, the upper half of an F32.
    BF16,
}

impl Element {
    /// Bytes of a weight.
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::BF16 => 2,
        }
    }
}

/// The shape of a packed matrix of floating-point weights.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct ExactShape {
    /// Rows of the matrix: columns of the product.
    pub outputs: usize,
    /// Columns of the matrix, a multiple of 32, [`MAX_INPUTS`](crate::MAX_INPUTS) at most.
    pub inputs: usize,
    /// How weights are stored.
    pub element: Element,
}

impl ExactShape {
    /// The name of the layout, which changes whenever its bytes do: for files.
    pub const LAYOUT: &'static str = "columns-1";

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
        self.inputs * PANEL * self.element.bytes()
    }

    /// Bytes of the packed matrix.
    pub fn bytes(&self) -> usize {
        self.panels() * self.panel_bytes()
    }
}

/// Packs a matrix panel by panel. It holds one row.
#[derive(Debug)]
pub struct ExactPacker {
    shape: ExactShape,
    row: Vec<u8>,
}

impl ExactPacker {
    /// A packer for matrices of this shape.
    pub fn new(shape: ExactShape) -> Result<Self, PackError> {
        shape.check()?;
        Ok(Self { shape, row: vec![0; shape.inputs * shape.element.bytes()] })
    }

    /// Packs one panel into `bytes`, asking `source` for the little-endian bytes of each of its rows by number, in ascending
    /// order.
    ///
    /// # Panics
    /// If `bytes` are not [`ExactShape::panel_bytes`] or there is no such panel.
    pub fn panel<E>(
        &mut self,
        panel: usize,
        bytes: &mut [u8],
        source: impl FnMut(usize, &mut [u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let rows = outputs_of(panel, self.shape.outputs);
        pack_units(bytes, self.shape.element.bytes(), rows, &mut self.row, source)
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

/// A packed matrix of floating-point weights, wherever its bytes are.
#[derive(Clone, Copy, Debug)]
pub struct ExactMatrix<'a> {
    shape: ExactShape,
    isa: Isa,
    bytes: &'a [u8],
}

impl<'a> ExactMatrix<'a> {
    /// Bytes as a packed matrix, to be multiplied by the functions of `isa`.
    pub fn new(shape: ExactShape, isa: Isa, bytes: &'a [u8]) -> Result<Self, PackError> {
        shape.check()?;
        check_bytes(bytes, shape.bytes(), isa)?;
        Ok(Self { shape, isa, bytes })
    }

    /// Its shape.
    pub fn shape(&self) -> &ExactShape {
        &self.shape
    }

    /// The level that multiplies it, which the processor has.
    pub fn isa(&self) -> Isa {
        self.isa
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
    fn weights_are_where_the_layout_says() {
        let shape = ExactShape { outputs: 33, inputs: 64, element: Element::F16 };
        let bytes = ExactPacker::new(shape)
            .expect("the shape can be packed")
            .matrix(|row, bytes| {
                for (input, bytes) in bytes.chunks_exact_mut(2).enumerate() {
                    bytes.copy_from_slice(&[row as u8, input as u8]);
                }
                Ok::<_, Infallible>(())
            })
            .unwrap_or_else(|never| match never {});
        assert_eq!(bytes.len(), 64 * 64 * 2);
        let at = |row: usize, input: usize| &bytes[(row / 32 * 64 * 32 + input * 32 + row % 32) * 2..][..2];
        assert_eq!((at(5, 63), at(32, 7)), (&[5, 63][..], &[32, 7][..]));
        assert_eq!(at(33, 7), [0, 0]);
    }

    #[test]
    fn what_is_no_packed_matrix_is_refused() {
        let shape = ExactShape { outputs: 32, inputs: 32, element: Element::BF16 };
        let bytes = AlignedBytes::zeroed(32 * 32 * 2 + 64);
        let error = |shape, isa, bytes| ExactMatrix::new(shape, isa, bytes).expect_err("refused");
        assert!(ExactMatrix::new(shape, Isa::Portable, &bytes[..2048]).is_ok());
        assert_eq!(error(shape, Isa::Portable, &bytes), PackError::Length { expected: 2048, found: 2112 });
        assert_eq!(error(shape, Isa::Portable, &bytes[2..2050]), PackError::Alignment);
        assert_eq!(error(ExactShape { inputs: 33, ..shape }, Isa::Portable, &bytes), PackError::Inputs(33));
        assert_eq!(error(ExactShape { outputs: 0, ..shape }, Isa::Portable, &[]), PackError::Outputs(0));
        let absent = Isa::ALL.into_iter().find(|isa| !isa.is_available()).expect("no processor is of both kinds");
        assert_eq!(error(shape, absent, &bytes[..2048]), PackError::Isa(absent));
    }
}
