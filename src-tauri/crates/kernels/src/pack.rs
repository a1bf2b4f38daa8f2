//! Packs rows of codes into the layout that [`PackedShape`] describes, a panel at a time, and reads nothing back: that is
//! for the products.

use half::f16;

use crate::shape::{PANEL, PackError, PackedShape, ScaleType, check_bytes, outputs_of};
use crate::{AlignedBytes, Code};

/// A row of a matrix before it is packed, for the caller to fill.
#[derive(Debug)]
pub struct SourceRow {
    /// A code for each input. Those of four bits are 0 to 15; higher bits are dropped.
    pub codes: Vec<i8>,
    /// A scale for each group.
    pub scales: Vec<f32>,
    /// A minimum for each group; not looked at where the code has none.
    pub minima: Vec<f32>,
}

/// Packs a matrix panel by panel. It holds one row.
#[derive(Debug)]
pub struct Packer {
    shape: PackedShape,
    row: SourceRow,
}

impl Packer {
    /// A packer for matrices of this shape, whether the processor can multiply them or not.
    pub fn new(shape: PackedShape) -> Result<Self, PackError> {
        shape.check()?;
        let row = SourceRow {
            codes: vec![0; shape.inputs],
            scales: vec![0.0; shape.groups()],
            minima: vec![0.0; shape.groups()],
        };
        Ok(Self { shape, row })
    }

    /// Packs one panel into `bytes`, asking `source` for each of its rows by number, in ascending order.
    ///
    /// # Panics
    /// If `bytes` are not [`PackedShape::panel_bytes`], there is no such panel, or `source` changed the length of a row.
    pub fn panel<E>(
        &mut self,
        panel: usize,
        bytes: &mut [u8],
        mut source: impl FnMut(usize, &mut SourceRow) -> Result<(), E>,
    ) -> Result<(), E> {
        assert_eq!(bytes.len(), self.shape.panel_bytes(), "a panel is packed into its exact bytes");
        bytes.fill(0);
        for (column, row) in outputs_of(panel, self.shape.outputs).enumerate() {
            source(row, &mut self.row)?;
            self.column(column, bytes);
        }
        Ok(())
    }

    /// Packs the whole matrix in memory.
    pub fn matrix<E>(
        &mut self,
        mut source: impl FnMut(usize, &mut SourceRow) -> Result<(), E>,
    ) -> Result<AlignedBytes, E> {
        let mut bytes = AlignedBytes::zeroed(self.shape.bytes());
        for (panel, bytes) in bytes.chunks_exact_mut(self.shape.panel_bytes()).enumerate() {
            self.panel(panel, bytes, &mut source)?;
        }
        Ok(bytes)
    }

    /// Writes the row into one column of a panel.
    fn column(&self, column: usize, bytes: &mut [u8]) {
        let Self { shape, row } = self;
        let length = shape.group.length(shape.inputs);
        assert_eq!(row.codes.len(), shape.inputs, "a row has a code for each input");
        let groups = bytes.chunks_exact_mut(shape.group_bytes()).zip(row.codes.chunks_exact(length));
        for (group, (bytes, codes)) in groups.enumerate() {
            self.scale(row.scales[group], column, bytes);
            if shape.code.has_minimum() {
                self.scale(row.minima[group], column, &mut bytes[shape.scale_bytes()..]);
            }
            self.codes(codes, column, &mut bytes[shape.codes_offset()..]);
        }
    }

    fn scale(&self, scale: f32, column: usize, bytes: &mut [u8]) {
        match self.shape.scale {
            ScaleType::F16 => bytes[2 * column..][..2].copy_from_slice(&f16::from_f32(scale).to_le_bytes()),
            ScaleType::F32 => bytes[4 * column..][..4].copy_from_slice(&scale.to_le_bytes()),
        }
    }

    fn codes(&self, codes: &[i8], column: usize, bytes: &mut [u8]) {
        let layout = self.shape.layout();
        let run = layout.run();
        let rows = bytes.chunks_exact_mut(PANEL * run).map(|row| &mut row[column * run..][..run]);
        if self.shape.code == Code::Eight {
            for (bytes, codes) in rows.zip(codes.chunks_exact(run)) {
                for (byte, &code) in bytes.iter_mut().zip(codes) {
                    *byte = code.cast_unsigned().wrapping_add(layout.bias());
                }
            }
        } else {
            for (bytes, codes) in rows.zip(codes.chunks_exact(2 * run)) {
                let (low, high) = codes.split_at(run);
                for (byte, (&low, &high)) in bytes.iter_mut().zip(low.iter().zip(high)) {
                    *byte = (low.cast_unsigned() & 15) | (high.cast_unsigned() << 4);
                }
            }
        }
    }
}

/// Which of two matrices, and which of its rows, a row of the two packed panel by panel in turn is: for products whose
/// epilogue wants the same 32 outputs of both (see [`Epilogue::PANELS`](crate::Epilogue::PANELS)).
pub fn interleaved(row: usize) -> (usize, usize) {
    let panel = row / PANEL;
    (panel % 2, panel / 2 * PANEL + row % PANEL)
}

/// A packed matrix, wherever its bytes are. They may come from a file: whatever they are, products read only them, and
/// give numbers.
#[derive(Clone, Copy, Debug)]
pub struct PackedMatrix<'a> {
    shape: PackedShape,
    bytes: &'a [u8],
}

impl<'a> PackedMatrix<'a> {
    /// Bytes as a packed matrix.
    pub fn new(shape: PackedShape, bytes: &'a [u8]) -> Result<Self, PackError> {
        shape.check()?;
        check_bytes(bytes, shape.bytes(), shape.isa)?;
        Ok(Self { shape, bytes })
    }

    /// Its shape. The processor has the instructions it is packed for.
    pub fn shape(&self) -> &PackedShape {
        &self.shape
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
    use crate::{Group, Isa};

    fn shape(code: Code, isa: Isa) -> PackedShape {
        PackedShape { outputs: 40, inputs: 64, code, group: Group::Of32, scale: ScaleType::F16, isa }
    }

    fn pack(shape: PackedShape) -> AlignedBytes {
        Packer::new(shape)
            .expect("the shape can be packed")
            .matrix(|row, into| {
                for (input, code) in into.codes.iter_mut().enumerate() {
                    *code = ((row * 7 + input) % 16) as i8;
                }
                into.scales.copy_from_slice(&[row as f32, 0.5]);
                into.minima.copy_from_slice(&[-1.0, -(row as f32)]);
                Ok::<_, Infallible>(())
            })
            .unwrap_or_else(|never| match never {})
    }

    #[test]
    fn sizes_are_within_a_tenth_of_the_blocks_of_gguf() {
        let eight = PackedShape { outputs: 1024, inputs: 1024, ..shape(Code::Eight, Isa::Avx512Vnni) };
        assert_eq!(eight.bytes(), 1024 * 1024 / 32 * 34);
        assert_eq!(PackedShape { code: Code::Four, ..eight }.bytes(), 1024 * 1024 / 32 * 18);
        assert_eq!(PackedShape { code: Code::FourWithMinimum, ..eight }.bytes(), 1024 * 1024 / 32 * 20);
    }

    #[test]
    fn codes_scales_and_minima_are_where_the_shape_says() {
        // Row 33 is column 1 of panel 1; input 37 is number 5 of group 1.
        let (panel, column) = (1, 1);
        for (isa, at, bias) in [
            (Isa::Avx512Vnni, 128 + column * 4 + 1, 128),
            (Isa::Avx2, 128 + column * 4 + 1, 0),
            (Isa::I8mm, column * 8 + 5, 0),
        ] {
            let shape = shape(Code::Eight, isa);
            let bytes = pack(shape);
            let group = &bytes[panel * 2 * (64 + 1024) + 64 + 1024..];
            assert_eq!(group[2..4], f16::from_f32(0.5).to_le_bytes());
            assert_eq!(group[64 + at], ((33 * 7 + 37) % 16) as u8 + bias, "{isa:?}");
        }
        for (isa, at, high) in [(Isa::Avx2, column * 4 + 1, true), (Isa::I8mm, column * 8 + 5, false)] {
            let bytes = pack(shape(Code::FourWithMinimum, isa));
            let group = &bytes[panel * 2 * (128 + 512) + 128 + 512..];
            assert_eq!(group[64 + 2..64 + 4], f16::from_f32(-33.0).to_le_bytes());
            let byte = group[128 + at];
            assert_eq!(if high { byte >> 4 } else { byte & 15 }, ((33 * 7 + 37) % 16) as u8, "{isa:?}");
        }
    }

    #[test]
    fn the_last_panel_ends_in_zeroes() {
        let bytes = pack(shape(Code::Four, Isa::Portable));
        let last = &bytes[bytes.len() / 2..];
        assert!(last[2 * 8..64].iter().all(|&byte| byte == 0));
        assert!(last[64..][..512].chunks(128).all(|quads| quads[8 * 4..].iter().all(|&byte| byte == 0)));
    }

    #[test]
    fn what_is_no_packed_matrix_is_refused() {
        let good = shape(Code::Eight, Isa::Portable);
        let bytes = AlignedBytes::zeroed(good.bytes() + 64);
        assert!(PackedMatrix::new(good, &bytes[..good.bytes()]).is_ok());
        let error = |shape, bytes| PackedMatrix::new(shape, bytes).expect_err("refused");
        assert_eq!(error(good, &bytes), PackError::Length { expected: good.bytes(), found: bytes.len() });
        assert_eq!(error(good, &bytes[1..=good.bytes()]), PackError::Alignment);
        assert_eq!(error(PackedShape { inputs: 48, ..good }, &bytes), PackError::Inputs(48));
        assert_eq!(error(PackedShape { inputs: 0, ..good }, &bytes), PackError::Inputs(0));
        assert_eq!(error(PackedShape { inputs: 1 << 17, ..good }, &bytes), PackError::Inputs(1 << 17));
        assert_eq!(error(PackedShape { inputs: 64, group: Group::Of128, ..good }, &bytes), PackError::Inputs(64));
        assert_eq!(error(PackedShape { outputs: 0, ..good }, &[]), PackError::Outputs(0));
        for outputs in [usize::MAX, usize::MAX / 64, usize::MAX / 512] {
            assert_eq!(error(PackedShape { outputs, ..good }, &bytes), PackError::Outputs(outputs));
        }
        let absent = Isa::ALL.into_iter().find(|isa| !isa.is_available()).expect("no processor is of both kinds");
        assert_eq!(error(PackedShape { isa: absent, ..good }, &bytes[..good.bytes()]), PackError::Isa(absent));
    }

    #[test]
    fn interleaved_rows_come_from_both_matrices_panel_by_panel() {
        assert_eq!([0, 31, 32, 63, 64, 100].map(interleaved), [(0, 0), (0, 31), (1, 0), (1, 31), (0, 32), (1, 36)]);
    }
}
