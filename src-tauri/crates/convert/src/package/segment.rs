//! What fills the weight file: constants that are computed, and tensors of the source with the form that each takes.
//!
//! # The contract of whoever writes the file
//!
//! The file starts with [`file_head`](super::blob::file_head). Each array is its [`Place`]'s head and then its data; what
//! lies between arrays is zero. All places are known beforehand, so arrays may be written in any order, and a tensor's
//! segment in particular whenever the source comes to it. For each [`Stored`]: [`Stored::start`] says whether the tensor
//! has to be read once before its codes can be made ([`Start::Survey`]) or not. Then every wanted row goes through
//! [`Encoder::row`] in its order, which appends codes, and [`Encoder::finish`] gives the last bytes of the codes and the data
//! of the array that the codes need, such as the scales. Several encoders may share the rows of a tensor, each taking
//! neighbouring ones from an even one on: their codes and their rest are then put together in the same order (a palette,
//! which is the rest of all of them, once).

use std::ops::Range;
use std::sync::Arc;

use half::f16;

use super::blob::Place;
use crate::quantise::palette::{Histogram, Palette};
use crate::quantise::{F16, OutOfRange, Quantiser as _, rows};

/// One or two neighbouring arrays.
#[derive(Clone, Debug)]
pub(crate) enum Segment {
    /// Numbers that do not come from the source.
    Constant { place: Place, constant: Constant },
    /// A tensor of the source.
    Stored(Stored),
}

/// A tensor of the source, or some of its rows.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    /// Its index among [`Architecture::weights`](super::architecture::Architecture::weights).
    pub(crate) weight: usize,
    /// The rows that are stored.
    pub(crate) rows: Range<usize>,
    pub(crate) form: Form,
    /// Whether that is more exact than what was asked for, because the rows are no whole number of blocks.
    pub(crate) fell_back: bool,
}

/// What a tensor is stored as, and where.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Form {
    /// Half precision.
    Half { numbers: Place },
    /// Signed bytes and a scale for each row.
    Int8 { codes: Place, scales: Place },
    /// Two indices in a byte, and the 16 numbers that they stand for.
    Palette { indices: Place, palette: Place },
    /// Two signed integers in a byte, and a scale for every 32 of them.
    Int4 { codes: Place, scales: Place },
}

impl Form {
    /// The array that is filled row by row.
    pub(crate) fn codes(&self) -> Place {
        match *self {
            Self::Half { numbers } => numbers,
            Self::Palette { indices, .. } => indices,
            Self::Int8 { codes, .. } | Self::Int4 { codes, .. } => codes,
        }
    }

    /// The array behind it that is known when all rows are.
    pub(crate) fn rest(&self) -> Option<Place> {
        match *self {
            Self::Half { .. } => None,
            Self::Palette { palette, .. } => Some(palette),
            Self::Int8 { scales, .. } | Self::Int4 { scales, .. } => Some(scales),
        }
    }

    /// As reports name it.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Half { .. } => "F16",
            Self::Int8 { .. } => "INT8",
            Self::Palette { .. } => "PALETTE4",
            Self::Int4 { .. } => "INT4",
        }
    }
}

impl Stored {
    /// What to do first.
    pub(crate) fn start(&self) -> Start {
        match self.form {
            Form::Half { .. } => Start::Encode(Encoding::Half),
            Form::Int8 { .. } => Start::Encode(Encoding::Int8),
            Form::Int4 { .. } => Start::Encode(Encoding::Int4),
            Form::Palette { .. } => Start::Survey,
        }
    }
}

/// What to do first with a tensor.
pub(crate) enum Start {
    /// Its rows can be encoded as they come.
    Encode(Encoding),
    /// All of its rows have to be [seen](Survey) once before.
    Survey,
}

/// How a tensor is encoded, whoever does it.
#[derive(Clone)]
pub(crate) enum Encoding {
    Half,
    Int8,
    Int4,
    Palette(Arc<Palette>),
}

impl Encoding {
    /// What encodes some rows.
    pub(crate) fn encoder(&self) -> Encoder {
        match self {
            Self::Half => Encoder::Half,
            Self::Int8 => Encoder::Int8 { scales: Vec::new() },
            Self::Int4 => Encoder::Int4 { scales: Vec::new() },
            Self::Palette(palette) => Encoder::Palette { palette: palette.clone(), waiting: None },
        }
    }
}

/// What is known of a tensor before it is encoded.
pub(crate) struct Survey(Histogram);

impl Survey {
    pub(crate) fn new() -> Self {
        Self(Histogram::new())
    }

    /// Takes what another one has seen into account.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.0.merge(&other.0);
    }

    /// Takes a row of finite numbers into account. Their order does not matter.
    pub(crate) fn row(&mut self, row: &[f32]) -> Result<(), OutOfRange> {
        self.0.add(row)
    }

    /// When all rows were seen: what encodes them.
    pub(crate) fn finish(&self) -> Encoding {
        Encoding::Palette(Arc::new(self.0.palette()))
    }
}

/// Turns a tensor's rows into codes.
pub(crate) enum Encoder {
    Half,
    Int8 {
        scales: Vec<u8>,
    },
    Int4 {
        scales: Vec<u8>,
    },
    Palette {
        palette: Arc<Palette>,
        /// An index without a second one to share its byte.
        waiting: Option<u8>,
    },
}

impl Encoder {
    /// Appends the codes of a row of finite numbers.
    pub(crate) fn row(&mut self, row: &[f32], codes: &mut Vec<u8>) -> Result<(), OutOfRange> {
        match self {
            Self::Half => F16.encode(row, codes),
            Self::Int8 { scales } => rows::encode_int8(row, codes, scales),
            Self::Int4 { scales } => rows::encode_int4(row, codes, scales),
            Self::Palette { palette, waiting } => palette.indices(row, |index| match waiting.take() {
                Some(low) => codes.push(low | index << 4),
                None => *waiting = Some(index),
            }),
        }
    }

    /// After the last row: appends what is left of the codes and gives the data of [`Form::rest`], empty where there is none.
    pub(crate) fn finish(self, codes: &mut Vec<u8>) -> Vec<u8> {
        match self {
            Self::Half => Vec::new(),
            Self::Int8 { scales } | Self::Int4 { scales } => scales,
            Self::Palette { palette, waiting } => {
                codes.extend(waiting);
                palette.bytes()
            }
        }
    }
}

/// Numbers that follow from sizes alone. They are computed when they are written, so that a plan stays small.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Constant {
    /// This many zero bytes.
    Zeros(usize),
    /// Rotary positions: see [`rotary`].
    Rotary { length: usize, head: usize, theta: f32, part: RotaryPart },
    /// `[repeats * length, length]`: what a query may not look at, once for each of the heads that share keys.
    Causal { length: usize, repeats: usize },
}

/// Which of the two tables of rotary positions.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum RotaryPart {
    Cosines,
    /// Negative in the first half of a row, where the turned number is subtracted.
    Sines,
}

/// What is added to the score of a key that must not be seen. Its sum with itself and with a score stays in half precision's
/// range, which an infinite or much larger number would leave.
pub(crate) const MASKED: f32 = -1e4;

impl Constant {
    /// The data.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        match *self {
            Self::Zeros(count) => vec![0; count],
            Self::Rotary { length, head, theta, part } => halves(&rotary(length, head, theta, part)),
            Self::Causal { length, repeats } => halves(&causal(length).repeat(repeats)),
        }
    }
}

fn halves(numbers: &[f32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| f16::from_f32(*number).to_le_bytes()).collect()
}

/// `[length, head]`: the factor of each number of a head at each position. Angles are computed in F32 and in the engine's
/// order, because that is how the model was trained.
fn rotary(length: usize, head: usize, theta: f32, part: RotaryPart) -> Vec<f32> {
    let frequencies: Vec<f32> = (0..head).step_by(2).map(|at| 1.0 / theta.powf(at as f32 / head as f32)).collect();
    (0..length)
        .flat_map(|position| {
            let angles = frequencies.iter().map(move |frequency| position as f32 * frequency);
            let (first, second): (Vec<f32>, Vec<f32>) = match part {
                RotaryPart::Cosines => angles.map(|angle| (angle.cos(), angle.cos())).unzip(),
                RotaryPart::Sines => angles.map(|angle| (-angle.sin(), angle.sin())).unzip(),
            };
            first.into_iter().chain(second)
        })
        .collect()
}

/// `[length, length]`: 0 where a key is not after the query.
fn causal(length: usize) -> Vec<f32> {
    let mut mask = vec![0.0; length * length];
    for (query, row) in mask.chunks_exact_mut(length).enumerate() {
        row[query + 1..].fill(MASKED);
    }
    mask
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::package::blob::{BlobType, Layout};

    #[test]
    fn rows_of_an_odd_length_share_a_byte_of_the_palettes_indices() {
        let mut layout = Layout::new();
        let form =
            Form::Palette { indices: layout.place(BlobType::Uint8, 5), palette: layout.place(BlobType::Float16, 16) };
        let stored = Stored { weight: 0, rows: 0..3, form, fell_back: false };
        let Start::Survey = stored.start() else { panic!("a palette needs a survey") };
        let (mut survey, mut other) = (Survey::new(), Survey::new());
        let rows = [[1.0, 2.0, 3.0], [3.0, 2.0, 1.0], [1.0, 1.0, 2.0]];
        survey.row(&rows[0]).expect("in range");
        rows[1..].iter().for_each(|row| other.row(row).expect("in range"));
        survey.merge(&other);
        let mut encoder = survey.finish().encoder();
        let mut codes = Vec::new();
        for row in &rows {
            encoder.row(row, &mut codes).expect("in range");
        }
        let palette = encoder.finish(&mut codes);
        assert_eq!(codes, [0x10, 0x22, 0x01, 0x00, 0x01]);
        assert_eq!(palette.len(), 32);
    }

    #[test]
    fn rotary_positions_turn_by_one_radian_per_position_at_first_and_slower_then() {
        let cosines = rotary(3, 4, 100.0, RotaryPart::Cosines);
        let sines = rotary(3, 4, 100.0, RotaryPart::Sines);
        assert_eq!(cosines[..4], [1.0; 4]);
        assert_eq!(sines[8..], [-(2.0_f32.sin()), -(0.2_f32.sin()), 2.0_f32.sin(), 0.2_f32.sin()]);
        assert_eq!(cosines[4..8], [1.0_f32.cos(), 0.1_f32.cos(), 1.0_f32.cos(), 0.1_f32.cos()]);
    }

    #[test]
    fn a_causal_mask_hides_what_comes_later() {
        let bytes = Constant::Causal { length: 3, repeats: 2 }.bytes();
        let numbers: Vec<f32> = bytes.as_chunks().0.iter().map(|two| f16::from_le_bytes(*two).to_f32()).collect();
        let once = [0.0, MASKED, MASKED, 0.0, 0.0, MASKED, 0.0, 0.0, 0.0];
        assert_eq!(numbers, [once, once].concat());
    }
}
