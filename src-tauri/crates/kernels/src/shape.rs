//! What a packed matrix of codes looks like: how many bytes it takes and where each code, scale and minimum lies in them.
//!
//! A matrix has a row of `inputs` codes for each of its `outputs`. Each [`PANEL`] outputs make a panel; panels follow one
//! another, and the last is filled up with zeroes. A panel is a sequence of groups of inputs. A group is
//!
//! ```text
//! scales   [32]                      F16 or F32
//! minima   [32]                      likewise, only where the code has them
//! codes    [group / n][32][n]        a byte each, where n is 4 or 8 ("quads" or "octets"), or
//!          [group / 2n][32][n]       two in a byte: the low four bits are those of inputs 2ni.., the high of 2ni + n..
//! ```
//!
//! so that a product reads every panel from its start to its end, and every part starts at a multiple of 64 bytes. Codes
//! of eight bits are signed, or have 128 added where the processor multiplies only unsigned by signed bytes.

use std::fmt;
use std::ops::Range;

use crate::Isa;

/// Outputs that lie side by side in a packed matrix.
pub const PANEL: usize = 32;

/// Inputs that a packed matrix can have at most: the sum of so many products of bytes fits 32 bits.
pub const MAX_INPUTS: usize = 1 << 16;

/// How a weight is coded.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Code {
    /// `code * scale`, -128 to 127 (GGUF's Q8_0).
    Eight,
    /// `(code - 8) * scale`, 0 to 15 (GGUF's Q4_0).
    Four,
    /// `code * scale + minimum`, 0 to 15 (GGUF's Q4_1 and Q4_K).
    FourWithMinimum,
}

impl Code {
    /// Whether weights have a minimum.
    pub fn has_minimum(self) -> bool {
        self == Self::FourWithMinimum
    }

    /// A name that stays the same from release to release.
    pub fn name(self) -> &'static str {
        match self {
            Self::Eight => "8",
            Self::Four => "4",
            Self::FourWithMinimum => "4-minimum",
        }
    }
}

/// How many inputs share a scale.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Group {
    /// 32 inputs.
    Of32,
    /// 64 inputs.
    Of64,
    /// 128 inputs.
    Of128,
    /// 256 inputs.
    Of256,
    /// All inputs: a scale for each output.
    Row,
}

impl Group {
    /// Inputs in a group of a row of `inputs`.
    pub fn length(self, inputs: usize) -> usize {
        match self {
            Self::Of32 => 32,
            Self::Of64 => 64,
            Self::Of128 => 128,
            Self::Of256 => 256,
            Self::Row => inputs,
        }
    }
}

/// How scales and minima are stored. F16 is widened exactly.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum ScaleType {
    /// For scales that came as F16.
    F16,
    /// For all others.
    F32,
}

impl ScaleType {
    /// Bytes of one scale.
    pub fn bytes(self) -> usize {
        match self {
            Self::F16 => 2,
            Self::F32 => 4,
        }
    }
}

/// How codes lie within a group.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Layout {
    /// Four inputs of each output, codes of eight bits plus 128.
    BiasedQuads,
    /// Four inputs of each output, codes of eight bits signed.
    SignedQuads,
    /// Eight inputs of each output, codes of eight bits signed.
    SignedOctets,
}

impl Layout {
    /// The layout that the functions of a level read.
    pub fn of(isa: Isa) -> Self {
        match isa {
            Isa::Avx512Vnni | Isa::AvxVnni => Self::BiasedQuads,
            Isa::Portable | Isa::Avx2 | Isa::Dotprod => Self::SignedQuads,
            Isa::I8mm => Self::SignedOctets,
        }
    }

    /// A name that changes whenever the bytes of this layout do: for files.
    pub fn name(self) -> &'static str {
        match self {
            Self::BiasedQuads => "biased-quads-1",
            Self::SignedQuads => "signed-quads-1",
            Self::SignedOctets => "signed-octets-1",
        }
    }

    /// Inputs of one output that lie side by side.
    pub(crate) fn run(self) -> usize {
        match self {
            Self::BiasedQuads | Self::SignedQuads => 4,
            Self::SignedOctets => 8,
        }
    }

    /// What is added to codes of eight bits.
    pub(crate) fn bias(self) -> u8 {
        match self {
            Self::BiasedQuads => 128,
            Self::SignedQuads | Self::SignedOctets => 0,
        }
    }
}

/// Why bytes are not a packed matrix, or a shape not one that can be packed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum PackError {
    /// Inputs are 0, over [`MAX_INPUTS`], no multiple of 32 or no multiple of the group.
    Inputs(usize),
    /// There are no outputs, or so many that their bytes cannot be counted.
    Outputs(usize),
    /// The bytes are too few or too many.
    Length {
        /// What the shape asks for.
        expected: usize,
        /// What is there.
        found: usize,
    },
    /// The bytes do not start at a multiple of 64.
    Alignment,
    /// This processor lacks the instructions that the matrix is packed for.
    Isa(Isa),
}

impl fmt::Display for PackError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inputs(inputs) => write!(formatter, "a matrix with {inputs} inputs cannot be packed"),
            Self::Outputs(outputs) => write!(formatter, "a matrix with {outputs} outputs cannot be packed"),
            Self::Length { expected, found } => {
                write!(formatter, "the packed matrix has {found} bytes instead of {expected}")
            }
            Self::Alignment => write!(formatter, "the packed matrix does not start at a multiple of 64 bytes"),
            Self::Isa(isa) => write!(formatter, "the matrix is packed for {}, which is not here", isa.name()),
        }
    }
}

impl std::error::Error for PackError {}

/// The shape of a packed matrix of codes.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct PackedShape {
    /// Rows of the matrix: columns of the product.
    pub outputs: usize,
    /// Columns of the matrix, a multiple of 32 and of the group, [`MAX_INPUTS`] at most.
    pub inputs: usize,
    /// How weights are coded.
    pub code: Code,
    /// How many inputs share a scale.
    pub group: Group,
    /// How scales and minima are stored.
    pub scale: ScaleType,
    /// Whose functions are to read it.
    pub isa: Isa,
}

impl PackedShape {
    /// Whether such a matrix can be packed.
    pub fn check(&self) -> Result<(), PackError> {
        check_sizes(self.outputs, self.inputs)?;
        if !self.inputs.is_multiple_of(self.group.length(self.inputs)) {
            return Err(PackError::Inputs(self.inputs));
        }
        Ok(())
    }

    /// The layout of its codes.
    pub fn layout(&self) -> Layout {
        Layout::of(self.isa)
    }

    /// Panels in it.
    pub fn panels(&self) -> usize {
        self.outputs.div_ceil(PANEL)
    }

    /// Groups in a row.
    pub fn groups(&self) -> usize {
        self.inputs / self.group.length(self.inputs)
    }

    /// Bytes of the scales, or of the minima, of a group of a panel.
    pub(crate) fn scale_bytes(&self) -> usize {
        PANEL * self.scale.bytes()
    }

    /// Where in a group of a panel the codes start.
    pub(crate) fn codes_offset(&self) -> usize {
        self.scale_bytes() * if self.code.has_minimum() { 2 } else { 1 }
    }

    /// Bytes of a group of a panel.
    pub(crate) fn group_bytes(&self) -> usize {
        let codes = PANEL * self.group.length(self.inputs);
        self.codes_offset() + if self.code == Code::Eight { codes } else { codes / 2 }
    }

    /// Bytes of a panel, a multiple of 64.
    pub fn panel_bytes(&self) -> usize {
        self.groups() * self.group_bytes()
    }

    /// Bytes of the packed matrix.
    pub fn bytes(&self) -> usize {
        self.panels() * self.panel_bytes()
    }
}

/// The limits that packed matrices of every kind share.
pub(crate) fn check_sizes(outputs: usize, inputs: usize) -> Result<(), PackError> {
    if inputs == 0 || inputs > MAX_INPUTS || !inputs.is_multiple_of(32) {
        return Err(PackError::Inputs(inputs));
    }
    // A panel takes less than 8 bytes for each of its weights, so this keeps every later count of bytes within bounds.
    match outputs.checked_next_multiple_of(PANEL).and_then(|outputs| outputs.checked_mul(8 * inputs)) {
        Some(bytes) if outputs > 0 && isize::try_from(bytes).is_ok() => Ok(()),
        _ => Err(PackError::Outputs(outputs)),
    }
}

/// That `bytes` has the given length and alignment and `isa` is here.
pub(crate) fn check_bytes(bytes: &[u8], expected: usize, isa: Isa) -> Result<(), PackError> {
    if bytes.len() != expected {
        return Err(PackError::Length { expected, found: bytes.len() });
    }
    if bytes.as_ptr().align_offset(crate::ALIGNMENT) != 0 {
        return Err(PackError::Alignment);
    }
    if !isa.is_available() {
        return Err(PackError::Isa(isa));
    }
    Ok(())
}

/// Packs rows of units that lie side by side into a panel, `[units][32][bytes of a unit]`, and zeroes where there are fewer
/// than 32 rows. `source` fills `row` with each of `rows`, by number.
///
/// # Panics
/// If the panel has no room for 32 times the row.
pub(crate) fn pack_units<E>(
    panel: &mut [u8],
    unit: usize,
    rows: Range<usize>,
    row: &mut [u8],
    mut source: impl FnMut(usize, &mut [u8]) -> Result<(), E>,
) -> Result<(), E> {
    assert_eq!(panel.len(), PANEL * row.len(), "a panel is packed into its exact bytes");
    panel.fill(0);
    for (column, number) in rows.enumerate() {
        source(number, row)?;
        for (panel, unit_bytes) in panel.chunks_exact_mut(PANEL * unit).zip(row.chunks_exact(unit)) {
            panel[column * unit..][..unit].copy_from_slice(unit_bytes);
        }
    }
    Ok(())
}

/// The outputs of panel `panel` of a matrix with so many.
///
/// # Panics
/// If there is no such panel.
pub(crate) fn outputs_of(panel: usize, outputs: usize) -> Range<usize> {
    assert!(panel < outputs.div_ceil(PANEL), "panel {panel} of {}", outputs.div_ceil(PANEL));
    panel * PANEL..outputs.min((panel + 1) * PANEL)
}
