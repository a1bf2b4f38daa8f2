//! From rows as a file stores them to rows of codes, scales and minima as the kernels pack them.
//!
//! Types whose groups the kernels have are taken over bit by bit; of Q4_K the product of its two scales is rounded to F16, and so
//! are the scales and biases of what MLX has quantised to two, three or four bits. All other quantised types become eight bits,
//! which loses little beside what they have lost already.

use candle_core::quantized::GgmlDType;
use embedbar_kernels::{
    Bf16Products, Code, Element, ExactShape, Group, Isa, Layout, PackedShape, PairedShape, ScaleType, SourceRow,
};
use embedbar_mlx::Bits;
use half::f16;

use crate::{
    Arithmetic,
    affine::Groups,
    mapped_blocks,
    weights::{Content, Stored},
};

/// Inputs that share a scale in every quantised type here.
pub(super) const GROUP: usize = 32;
/// Numbers in a block of Q4_K.
const SUPER: usize = 256;

/// For which instructions matrices are packed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Packing {
    pub(super) isa: Isa,
    /// Whether those of BF16 are for products with rows that are rounded to BF16 too.
    pub(super) paired: bool,
}

impl Packing {
    /// For this processor.
    pub(crate) fn new(arithmetic: Arithmetic) -> Self {
        let isa = Isa::best();
        Self { isa, paired: arithmetic == Arithmetic::KernelsInBf16 && Bf16Products::pay(isa) }
    }

    /// A name for files: what is packed for one is for no other.
    pub(super) fn name(self) -> String {
        format!("{}{}", self.isa.name(), if self.paired { "-pairs" } else { "" })
    }

    /// The names of the layouts, which change whenever their bytes do.
    pub(super) fn layouts(self) -> String {
        let coded = Layout::of(self.isa).name();
        format!("{coded} {}", if self.paired { PairedShape::LAYOUT } else { ExactShape::LAYOUT })
    }
}

/// How the rows of a matrix are packed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    Exact(Element),
    /// Codes and scales of the file.
    As(Code, Stored4),
    /// Anything else, as eight bits.
    Eight,
}

/// Which of the file's types codes come from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Stored4 {
    Q8_0,
    Q4_0,
    Q4_1,
    Q4K,
    /// MLX's, of four bits at most.
    Affine,
}

impl Kind {
    pub(crate) fn of(stored: &Stored) -> Self {
        let dtype = match &stored.content {
            Content::Affine(affine) if affine.packing.bits <= Bits::Four => {
                return Self::As(Code::FourWithMinimum, Stored4::Affine);
            }
            Content::Affine(_) => return Self::Eight,
            Content::Blocks(dtype) => dtype,
        };
        match dtype {
            GgmlDType::F32 => Self::Exact(Element::F32),
            GgmlDType::F16 => Self::Exact(Element::F16),
            GgmlDType::BF16 => Self::Exact(Element::BF16),
            GgmlDType::Q8_0 => Self::As(Code::Eight, Stored4::Q8_0),
            GgmlDType::Q4_0 => Self::As(Code::Four, Stored4::Q4_0),
            GgmlDType::Q4_1 => Self::As(Code::FourWithMinimum, Stored4::Q4_1),
            GgmlDType::Q4K => Self::As(Code::FourWithMinimum, Stored4::Q4K),
            _ => Self::Eight,
        }
    }

    /// The shape of such a matrix; an [`ExactShape`] where it has no codes.
    pub(crate) fn shape(self, outputs: usize, inputs: usize, isa: Isa) -> Result<PackedShape, ExactShape> {
        let coded = |code| PackedShape { outputs, inputs, code, group: Group::Of32, scale: ScaleType::F16, isa };
        match self {
            Self::Exact(element) => Err(ExactShape { outputs, inputs, element }),
            Self::As(code, _) => Ok(coded(code)),
            Self::Eight => Ok(coded(Code::Eight)),
        }
    }

    /// Fills `target` with row `row` of a matrix that has codes.
    pub(crate) fn fill(self, stored: &Stored, row: usize, target: &mut SourceRow) -> candle_core::Result<()> {
        let SourceRow { codes, scales, minima } = target;
        let bytes = stored.row(row);
        match self {
            Self::As(_, Stored4::Q8_0) => {
                let blocks = bytes.chunks_exact(2 + GROUP).zip(codes.chunks_exact_mut(GROUP)).zip(scales);
                for ((block, codes), scale) in blocks {
                    *scale = half_at(block, 0);
                    codes.copy_from_slice(bytemuck::cast_slice(&block[2..]));
                }
            }
            Self::As(_, Stored4::Q4_0) => {
                let blocks = bytes.chunks_exact(2 + GROUP / 2).zip(codes.chunks_exact_mut(GROUP)).zip(scales);
                for ((block, codes), scale) in blocks {
                    *scale = half_at(block, 0);
                    nibbles(&block[2..], codes);
                }
            }
            Self::As(_, Stored4::Q4_1) => {
                let groups = codes.chunks_exact_mut(GROUP).zip(scales.iter_mut().zip(minima));
                for (block, (codes, (scale, minimum))) in bytes.chunks_exact(4 + GROUP / 2).zip(groups) {
                    (*scale, *minimum) = (half_at(block, 0), half_at(block, 2));
                    nibbles(&block[4..], codes);
                }
            }
            Self::As(_, Stored4::Q4K) => {
                let groups = SUPER / GROUP;
                let supers = codes.chunks_exact_mut(SUPER).zip(scales.chunks_exact_mut(groups));
                let supers = supers.zip(minima.chunks_exact_mut(groups));
                for (block, ((codes, scales), minima)) in bytes.chunks_exact(16 + SUPER / 2).zip(supers) {
                    let (scale, minimum) = (half_at(block, 0), half_at(block, 2));
                    for group in 0..groups {
                        let (six_bit_scale, six_bit_minimum) = six_bits(&block[4..16], group);
                        scales[group] = scale * f32::from(six_bit_scale);
                        minima[group] = -(minimum * f32::from(six_bit_minimum));
                    }
                    for (bytes, codes) in block[16..].chunks_exact(GROUP).zip(codes.chunks_exact_mut(2 * GROUP)) {
                        nibbles(bytes, codes);
                    }
                }
            }
            Self::As(_, Stored4::Affine) => {
                let Content::Affine(affine) = &stored.content else {
                    unreachable!("it was found to be MLX's. This is a bug.")
                };
                affine.packing.codes(bytes, bytemuck::cast_slice_mut(codes));
                let mut groups = Groups::default();
                groups.read(affine, row, stored.columns);
                // The groups here are the smallest of MLX's.
                let times = affine.packing.group / GROUP;
                for (found, target) in [(&groups.scales, scales), (&groups.biases, minima)] {
                    if let Some(number) = found.iter().find(|&&number| !f16::from_f32(number).is_finite()) {
                        candle_core::bail!("{number} is no scale or bias of four bits")
                    }
                    for (number, target) in found.iter().zip(target.chunks_exact_mut(times)) {
                        target.fill(*number);
                    }
                }
            }
            Self::Eight => {
                let numbers = numbers(stored, row)?;
                for ((numbers, codes), scale) in
                    numbers.chunks_exact(GROUP).zip(codes.chunks_exact_mut(GROUP)).zip(scales)
                {
                    let largest = numbers.iter().fold(0_f32, |largest, number| largest.max(number.abs()));
                    // As it will be read back, so that codes are the nearest to it.
                    *scale = f16::from_f32(largest / 127.0).to_f32();
                    let inverse = if *scale > 0.0 { scale.recip() } else { 0.0 };
                    for (code, number) in codes.iter_mut().zip(numbers) {
                        *code = (number * inverse).round_ties_even().clamp(-127.0, 127.0) as i8;
                    }
                }
            }
            Self::Exact(_) => unreachable!("it has no codes. This is a bug."),
        }
        Ok(())
    }
}

/// The numbers of a row of whatever type.
fn numbers(stored: &Stored, row: usize) -> candle_core::Result<Vec<f32>> {
    match &stored.content {
        Content::Affine(affine) => {
            let mut numbers = vec![0.0; stored.columns];
            affine.row(stored.row(row), row, &mut Groups::default(), &mut numbers);
            Ok(numbers)
        }
        Content::Blocks(dtype) => {
            let length = stored.row(row).len();
            let start = stored.range.start + row * length;
            let storage = mapped_blocks::storage(&stored.file, start..start + length, *dtype)?;
            candle_core::quantized::QTensor::new(storage, stored.columns)?
                .dequantize(&candle_core::Device::Cpu)?
                .to_vec1::<f32>()
        }
    }
}

fn half_at(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

/// The low halves of all bytes, then the high halves.
fn nibbles(bytes: &[u8], codes: &mut [i8]) {
    let (low, high) = codes.split_at_mut(bytes.len());
    for ((byte, low), high) in bytes.iter().zip(low).zip(high) {
        *low = (byte & 15).cast_signed();
        *high = (byte >> 4).cast_signed();
    }
}

/// Scale and minimum number `group` of a block of Q4_K: twelve bytes hold eight of each, the last four in pieces.
fn six_bits(bytes: &[u8], group: usize) -> (u8, u8) {
    if group < 4 {
        (bytes[group] & 63, bytes[group + 4] & 63)
    } else {
        let low = bytes[group + 4];
        ((low & 15) | (bytes[group - 4] >> 6) << 4, (low >> 4) | (bytes[group] >> 6) << 4)
    }
}
