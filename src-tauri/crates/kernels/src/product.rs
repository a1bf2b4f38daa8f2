//! Products of rows with a packed matrix: which part of the work is done when and by whom.
//!
//! The arithmetic is in the kernels, which fill a tile: some rows by one panel of the matrix. Here tiles are put in an order
//! that reads each panel from memory once while as many rows as fit the second-level cache pass by, and handed to the
//! epilogue one after another.

#![expect(unsafe_code, reason = "threads write to disjoint columns of the same rows")]

use std::marker::PhantomData;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::epilogue::{self, Epilogue};
use crate::kernel::{HEIGHT, Operands, Step, Tile, prefetch};
use crate::lanes::{self, Body, Lanes};
use crate::shape::PANEL;

/// Bytes of the left side that are multiplied with one panel after another: half a second-level cache, or less.
const BLOCK_BYTES: usize = 512 << 10;

/// Multiplications in a part at least: some microseconds, so that taking a part costs nothing against doing it.
const PART_WORK: usize = 1 << 18;

/// Rows of F32 that a product writes. Rows may lie apart, so that the output can be some of the columns of a wider matrix.
#[derive(Debug)]
pub struct Output<'a> {
    values: *mut f32,
    rows: usize,
    columns: usize,
    stride: usize,
    borrow: PhantomData<&'a mut [f32]>,
}

// SAFETY: it stands for a mutable slice of F32, which may be sent; sharing it gives no access without `Output::segment`,
// whose caller answers for disjointness.
unsafe impl Send for Output<'_> {}
// SAFETY: as above.
unsafe impl Sync for Output<'_> {}

impl<'a> Output<'a> {
    /// `rows` rows of `columns`, the first at the start of `values` and each `stride` after the one before.
    ///
    /// # Panics
    /// If `values` are too few or rows would overlap.
    pub fn new(values: &'a mut [f32], rows: usize, columns: usize, stride: usize) -> Self {
        assert!(columns <= stride, "rows of {columns} overlap at a distance of {stride}");
        let needed = rows.checked_sub(1).map_or(Some(0), |rows| rows.checked_mul(stride)?.checked_add(columns));
        assert!(needed.is_some_and(|needed| needed <= values.len()), "{} values are too few", values.len());
        Self { values: values.as_mut_ptr(), rows, columns, stride, borrow: PhantomData }
    }

    /// Columns `columns` of row `row`.
    ///
    /// # Safety
    /// The segment is within the rows and columns, and no other segment that is alive overlaps it.
    #[inline]
    #[expect(clippy::mut_from_ref, reason = "disjointness is the caller's")]
    unsafe fn segment(&self, row: usize, columns: Range<usize>) -> &mut [f32] {
        debug_assert!(row < self.rows && columns.end <= self.columns);
        // SAFETY: `new` made sure that rows and columns are within the slice, which is borrowed for 'a; the caller answers
        // for the rest.
        unsafe { std::slice::from_raw_parts_mut(self.values.add(row * self.stride + columns.start), columns.len()) }
    }
}

/// One product, split into parts that any number of threads can take and do at the same time.
///
/// Call [`Self::run`] on one thread, or [`Self::run_part`] as many times as there are [`Self::parts`], from wherever.
#[derive(Debug)]
pub struct Product<'a, E> {
    operands: Operands<'a>,
    output: Output<'a>,
    epilogue: &'a E,
    /// Rows of the left side that stay in the cache while panels pass by.
    rows_in_block: usize,
    /// 32 columns of the output each.
    segments: usize,
    segments_in_part: usize,
    parts: usize,
    next: AtomicUsize,
}

impl<'a, E: Epilogue> Product<'a, E> {
    /// The product of `operands`, given to `epilogue`, which fills `output`.
    ///
    /// # Panics
    /// If the output has not a row for each row on the left, or not a column for each output of the matrix (with two
    /// panels to a segment of output: 32 columns, the last time or fewer, for each pair of panels).
    pub fn new(operands: Operands<'a>, output: Output<'a>, epilogue: &'a E) -> Self {
        const { assert!(E::PANELS == 1 || E::PANELS == 2, "an epilogue takes one panel at a time or two") };
        let (rows, panels) = (operands.rows(), operands.panels());
        assert_eq!(output.rows, rows, "a product has as many rows as its left side");
        if E::PANELS == 1 {
            assert_eq!(output.columns, operands.outputs(), "a product has as many columns as its matrix has outputs");
        }
        let segments = output.columns.div_ceil(PANEL);
        assert_eq!(segments * E::PANELS, panels, "{} columns of output for {panels} panels", output.columns);
        let blocks = (rows * operands.row_bytes()).div_ceil(BLOCK_BYTES).max(1);
        let rows_in_block = rows.div_ceil(blocks).next_multiple_of(HEIGHT).max(HEIGHT);
        let segment_work = PANEL * E::PANELS * operands.inputs() * rows_in_block.min(rows);
        let segments_in_part = PART_WORK.div_ceil(segment_work.max(1)).clamp(1, segments.max(1));
        let parts = rows.div_ceil(rows_in_block) * segments.div_ceil(segments_in_part);
        Self { operands, output, epilogue, rows_in_block, segments, segments_in_part, parts, next: AtomicUsize::new(0) }
    }

    /// How many parts there are to take.
    pub fn parts(&self) -> usize {
        self.parts
    }

    /// Takes the next part that nobody has taken and does it. Gives false where there is none left; others may still be
    /// busy with theirs then.
    pub fn run_part(&self) -> bool {
        // Relaxed: a part needs nothing of the parts before it, and whoever waits for all of them has to synchronise with
        // the threads that did them anyway.
        let part = self.next.fetch_add(1, Ordering::Relaxed);
        if part >= self.parts {
            // Not past the end again and again: the counter must never come round.
            self.next.store(self.parts, Ordering::Relaxed);
            return false;
        }
        let parts_of_block = self.segments.div_ceil(self.segments_in_part);
        let first_row = part / parts_of_block * self.rows_in_block;
        let rows = first_row..self.operands.rows().min(first_row + self.rows_in_block);
        let first = part % parts_of_block * self.segments_in_part;
        let segments = first..self.segments.min(first + self.segments_in_part);
        lanes::run(self.operands.isa(), PartOf { product: self, rows, segments });
        true
    }

    /// Does all parts on this thread.
    pub fn run(&self) {
        while self.run_part() {}
    }
}

/// Some segments of a block of rows. Only [`Product::run_part`] makes this, each time with others.
struct PartOf<'a, 'b, E> {
    product: &'a Product<'b, E>,
    rows: Range<usize>,
    segments: Range<usize>,
}

impl<E: Epilogue> Body for PartOf<'_, '_, E> {
    type Output = ();

    #[inline(always)]
    #[expect(clippy::inline_always, reason = "has to be compiled with the features of its caller")]
    fn run<V: Lanes>(self) {
        let Self { product, rows, segments } = self;
        let mut tile = Tile::default();
        let tiles = rows.len().div_ceil(product.operands.height());
        for segment in segments {
            let columns = segment * PANEL..product.output.columns.min((segment + 1) * PANEL);
            for index in 0..tiles {
                // As even as possible: a tile of one row takes nearly as long as one of four.
                let bound = |index: usize| rows.start + index * rows.len() / tiles;
                let (first, end) = (bound(index), bound(index + 1));
                for row in first..end {
                    // Rows are far apart: without this, the epilogue would wait for each.
                    let start = product.output.values.wrapping_add(row * product.output.stride + columns.start);
                    prefetch(start.cast());
                    prefetch(start.wrapping_add(PANEL / 2).cast());
                }
                for place in 0..E::PANELS {
                    let panel = segment * E::PANELS + place;
                    let step = Step { rows: first..end, panel, place, places: E::PANELS, share: (index, tiles) };
                    product.operands.fill(&step, &mut tile);
                }
                let values = &mut tile.0[..(end - first) * PANEL * E::PANELS];
                product.epilogue.prepare(columns.start, values);
                for (row, values) in (first..end).zip(values.chunks_exact(PANEL * E::PANELS)) {
                    // SAFETY: `new` made the output as large as the rows and segments. No other thread has this segment
                    // of this row: the counter gives each part to one, and parts share no segment of a row. The product
                    // is the only one that has the output.
                    let output = unsafe { product.output.segment(row, columns.clone()) };
                    epilogue::store(product.epilogue, row, columns.start, values, output);
                }
            }
        }
    }
}
