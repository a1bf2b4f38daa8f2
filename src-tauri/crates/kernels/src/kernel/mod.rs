//! The arithmetic of products: fills a tile, some rows of the left side by one panel of a packed matrix.
//!
//! [`Operands`] is the safe door: it has checked slices and hands their pointers to a function that was written once
//! ([`coded`], [`exact`], [`paired`]) over the few vector operations of each level ([`Vectors`](vectors::Vectors)).
//!
//! All levels add the same integers. What they do in F32, scaling once for each group or multiplying exact weights, may be
//! rounded differently: results differ by at most `groups + 4` (exact and paired: `inputs`) roundings, relative to the sum
//! of the magnitudes of the terms. That is what the tests allow.

#![expect(unsafe_code, reason = "kernels read through pointers and need features of the processor")]

#[cfg(target_arch = "x86_64")]
mod amx;
#[cfg(target_arch = "aarch64")]
mod arm;
mod coded;
mod exact;
mod paired;
mod portable;
mod vectors;
#[cfg(target_arch = "x86_64")]
mod x86;

use std::ops::Range;

use self::vectors::Ahead;
use crate::shape::{PANEL, ScaleType};
use crate::{Bf16Products, Code, Element, ExactMatrix, Isa, PackedMatrix, PairedMatrix, QuantisedRows, RoundedRows};

/// Rows in a tile at most.
pub(crate) const HEIGHT: usize = 16;

/// The values of a tile, row after row: a panel or a pair of them in each.
#[repr(align(64))]
pub(crate) struct Tile(pub(crate) [f32; HEIGHT * PANEL * 2]);

impl Default for Tile {
    fn default() -> Self {
        Self([0.0; HEIGHT * PANEL * 2])
    }
}

/// One tile to fill, or one half of it.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    /// Rows of the left side, as many as a tile has at most.
    pub(crate) rows: Range<usize>,
    /// Which panel of the matrix.
    pub(crate) panel: usize,
    /// Where in the rows of the tile the panel goes.
    pub(crate) place: usize,
    /// How many panels there are in a row of the tile.
    pub(crate) places: usize,
    /// Which of how many tiles with this panel it is.
    pub(crate) share: (usize, usize),
}

/// What a product multiplies: rows, and a packed matrix.
#[derive(Clone, Copy, Debug)]
pub struct Operands<'a>(Kind<'a>);

#[derive(Clone, Copy, Debug)]
enum Kind<'a> {
    Coded(PackedMatrix<'a>, &'a QuantisedRows),
    Exact(ExactMatrix<'a>, &'a [f32]),
    Paired(PairedMatrix<'a>, &'a RoundedRows),
}

impl<'a> PackedMatrix<'a> {
    /// Itself on the right side of a product with `rows`.
    ///
    /// # Panics
    /// If `rows` were quantised with other inputs or another group.
    pub fn times(&self, rows: &'a QuantisedRows) -> Operands<'a> {
        let shape = self.shape();
        assert_eq!(rows.inputs(), shape.inputs, "rows are as long as those of the matrix");
        let lengths = [rows.group(), shape.group].map(|group| group.length(shape.inputs));
        assert_eq!(lengths[0], lengths[1], "rows have the groups of the matrix");
        Operands(Kind::Coded(*self, rows))
    }
}

impl<'a> ExactMatrix<'a> {
    /// Itself on the right side of a product with `rows`, each as long as the matrix has inputs, one after another.
    ///
    /// # Panics
    /// If `rows` are not whole.
    pub fn times(&self, rows: &'a [f32]) -> Operands<'a> {
        let inputs = self.shape().inputs;
        assert!(rows.len().is_multiple_of(inputs), "{} values are no rows of {inputs}", rows.len());
        Operands(Kind::Exact(*self, rows))
    }
}

impl<'a> PairedMatrix<'a> {
    /// Itself on the right side of a product with `rows`.
    ///
    /// # Panics
    /// If `rows` have other inputs.
    pub fn times(&self, rows: &'a RoundedRows) -> Operands<'a> {
        assert_eq!(rows.inputs(), self.shape().inputs, "rows are as long as those of the matrix");
        Operands(Kind::Paired(*self, rows))
    }
}

impl Operands<'_> {
    /// Rows on the left.
    pub(crate) fn rows(&self) -> usize {
        match self.0 {
            Kind::Coded(_, rows) => rows.rows(),
            Kind::Exact(matrix, rows) => rows.len() / matrix.shape().inputs,
            Kind::Paired(_, rows) => rows.rows(),
        }
    }

    /// Bytes of a row on the left.
    pub(crate) fn row_bytes(&self) -> usize {
        match self.0 {
            Kind::Coded(_, rows) => rows.inputs(),
            Kind::Exact(matrix, _) => matrix.shape().inputs * size_of::<f32>(),
            Kind::Paired(matrix, _) => matrix.shape().inputs * size_of::<u16>(),
        }
    }

    /// Length of the sums.
    pub(crate) fn inputs(&self) -> usize {
        match self.0 {
            Kind::Coded(matrix, _) => matrix.shape().inputs,
            Kind::Exact(matrix, _) => matrix.shape().inputs,
            Kind::Paired(matrix, _) => matrix.shape().inputs,
        }
    }

    /// Rows of the matrix.
    pub(crate) fn outputs(&self) -> usize {
        match self.0 {
            Kind::Coded(matrix, _) => matrix.shape().outputs,
            Kind::Exact(matrix, _) => matrix.shape().outputs,
            Kind::Paired(matrix, _) => matrix.shape().outputs,
        }
    }

    /// Panels of the matrix.
    pub(crate) fn panels(&self) -> usize {
        self.outputs().div_ceil(PANEL)
    }

    /// The level that computes the product.
    pub(crate) fn isa(&self) -> Isa {
        match self.0 {
            Kind::Coded(matrix, _) => matrix.shape().isa,
            Kind::Exact(matrix, _) => matrix.isa(),
            Kind::Paired(matrix, _) => matrix.isa(),
        }
    }

    /// Rows that a tile has best, [`HEIGHT`] at most.
    pub(crate) fn height(&self) -> usize {
        match self.0 {
            Kind::Coded(matrix, _) => match matrix.shape().isa {
                Isa::Portable | Isa::Avx2 => 4,
                Isa::AvxVnni => 6,
                _ => 8,
            },
            Kind::Exact(matrix, _) => match matrix.isa() {
                Isa::Portable => 4,
                Isa::Avx2 | Isa::AvxVnni => 6,
                _ => 8,
            },
            Kind::Paired(matrix, _) => match (matrix.products(), matrix.isa()) {
                (Bf16Products::Amx, _) => HEIGHT,
                (Bf16Products::Dots, _) | (_, Isa::Dotprod | Isa::I8mm) => 8,
                _ => 4,
            },
        }
    }

    /// Fills one place in each row of the tile with the product of some rows with one panel.
    ///
    /// # Panics
    /// If rows, panel or place are not there, or rows are more than a tile has.
    pub(crate) fn fill(&self, step: &Step, tile: &mut Tile) {
        let Step { rows, panel, place, places, share } = step.clone();
        assert!(rows.start < rows.end && rows.len() <= self.height() && place < places && places <= 2);
        match self.0 {
            Kind::Coded(matrix, left) => {
                let shape = matrix.shape();
                let (groups, bytes) = (shape.groups(), shape.panel_bytes());
                let in_groups = rows.start * groups..rows.end * groups;
                let bytes = &matrix.bytes()[panel * bytes..][..bytes];
                let following = bytes.as_ptr().wrapping_add(places * bytes.len());
                let job = coded::Job {
                    panel: bytes,
                    ahead: Ahead::new(following, bytes.len(), 128, share),
                    codes: &left.codes()[rows.start * shape.inputs..rows.end * shape.inputs],
                    scales: &left.scales()[in_groups.clone()],
                    sums: &left.sums()[in_groups.clone()],
                    corrections: &left.corrections()[in_groups],
                    rows: rows.len(),
                    groups,
                    blocks: shape.inputs / groups / 32,
                    half: shape.scale == ScaleType::F16,
                    tile: &mut tile.0[place * PANEL..],
                    stride: places * PANEL,
                };
                // SAFETY: `PackedMatrix` made sure that the processor has this level, and the slices have the sizes that
                // the job states: the rows', the panel's, and in the tile room for `HEIGHT` rows.
                unsafe { fill_coded(shape.isa, shape.code, job) }
            }
            Kind::Exact(matrix, left) => {
                let shape = matrix.shape();
                let bytes = shape.panel_bytes();
                let bytes = &matrix.bytes()[panel * bytes..][..bytes];
                let following = bytes.as_ptr().wrapping_add(places * bytes.len());
                let job = exact::Job {
                    panel: bytes,
                    ahead: Ahead::new(following, bytes.len(), PANEL * shape.element.bytes(), share),
                    values: &left[rows.start * shape.inputs..rows.end * shape.inputs],
                    rows: rows.len(),
                    inputs: shape.inputs,
                    tile: &mut tile.0[place * PANEL..],
                    stride: places * PANEL,
                };
                // SAFETY: as above, with `ExactMatrix`.
                unsafe { fill_exact(matrix.isa(), shape.element, job) }
            }
            Kind::Paired(matrix, left) => {
                let shape = matrix.shape();
                let bytes = shape.panel_bytes();
                let bytes = &matrix.bytes()[panel * bytes..][..bytes];
                let following = bytes.as_ptr().wrapping_add(places * bytes.len());
                let job = paired::Job {
                    panel: bytes,
                    ahead: Ahead::new(following, bytes.len(), PANEL * 4, share),
                    values: &left.bits()[rows.start * shape.inputs..rows.end * shape.inputs],
                    rows: rows.len(),
                    inputs: shape.inputs,
                    tile: &mut tile.0[place * PANEL..],
                    stride: places * PANEL,
                };
                // SAFETY: as above, with `PairedMatrix`, which made sure of the products too.
                unsafe { fill_paired(matrix.isa(), matrix.products(), job) }
            }
        }
    }
}

/// # Safety
/// The processor has the level, and see [`coded::Job`].
unsafe fn fill_coded(isa: Isa, code: Code, job: coded::Job) {
    // SAFETY: the caller's.
    unsafe {
        match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Vnni => coded::fill_at::<x86::Avx512>(code, job),
            #[cfg(target_arch = "x86_64")]
            Isa::AvxVnni => coded::fill_at::<x86::Avx2<true>>(code, job),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => coded::fill_at::<x86::Avx2<false>>(code, job),
            #[cfg(target_arch = "aarch64")]
            Isa::Dotprod => coded::fill_at::<arm::Neon>(code, job),
            #[cfg(target_arch = "aarch64")]
            Isa::I8mm => coded::fill_at::<arm::I8mm>(code, job),
            _ => coded::fill_at::<portable::Portable>(code, job),
        }
    }
}

/// # Safety
/// The processor has the level, and see [`exact::Job`].
unsafe fn fill_exact(isa: Isa, element: Element, job: exact::Job) {
    // SAFETY: the caller's.
    unsafe {
        match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Vnni => exact::fill_at::<x86::Avx512>(element, job),
            #[cfg(target_arch = "x86_64")]
            Isa::AvxVnni | Isa::Avx2 => exact::fill_at::<x86::Avx2<false>>(element, job),
            #[cfg(target_arch = "aarch64")]
            Isa::Dotprod => exact::fill_at::<arm::Neon>(element, job),
            #[cfg(target_arch = "aarch64")]
            Isa::I8mm => exact::fill_at::<arm::I8mm>(element, job),
            _ => exact::fill_at::<portable::Portable>(element, job),
        }
    }
}

/// # Safety
/// The processor has the level and the products, and see [`paired::Job`].
unsafe fn fill_paired(isa: Isa, products: Bf16Products, job: paired::Job) {
    // SAFETY: the caller's.
    unsafe {
        match (isa, products) {
            #[cfg(target_arch = "x86_64")]
            (Isa::Avx512Vnni, Bf16Products::Amx) => amx::fill(job),
            #[cfg(target_arch = "x86_64")]
            (Isa::Avx512Vnni, Bf16Products::Dots) => paired::fill_at::<x86::Avx512Bf16>(job),
            // Without such products this arithmetic is nobody's choice: wider vectors would be code for no use.
            #[cfg(target_arch = "x86_64")]
            (Isa::Avx512Vnni | Isa::AvxVnni | Isa::Avx2, _) => paired::fill_at::<x86::Avx2<false>>(job),
            #[cfg(target_arch = "aarch64")]
            (Isa::Dotprod | Isa::I8mm, Bf16Products::Dots) => paired::fill_at::<arm::NeonBf16>(job),
            #[cfg(target_arch = "aarch64")]
            (Isa::Dotprod | Isa::I8mm, _) => paired::fill_at::<arm::Neon>(job),
            _ => paired::fill_at::<portable::Portable>(job),
        }
    }
}

/// Asks for the line of memory at `address`, which may be any, where the processor can do that.
#[inline]
pub(crate) fn prefetch(address: *const u8) {
    // SAFETY: asking for a line reads and writes nothing, and these processors all have the instruction.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(address.cast());
        #[cfg(target_arch = "aarch64")]
        std::arch::asm!("prfm pldl1keep, [{}]", in(reg) address, options(nostack, preserves_flags, readonly));
    }
    let _ = address;
}
