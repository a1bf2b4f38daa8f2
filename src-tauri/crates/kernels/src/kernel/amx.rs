//! Tiles of products of BF16 with BF16 by AMX, whose registers hold 16 rows of 64 bytes each.
//!
//! Panels of pairs are what these registers load: 16 pairs of inputs of 16 columns. The standard library has no stable
//! functions for AMX yet, so all of it is one piece of assembly, in which the registers live. Sums are rounded to nearest,
//! those of all first inputs of the pairs apart from those of the second, and what is under 2^-126 counts as zero.

#![expect(clippy::needless_pass_by_value, reason = "a job has the one borrow of its tile")]

use std::arch::asm;

use super::paired::Job;
use crate::shape::PANEL;

/// Rows of a register.
const ROWS: usize = 16;

/// Inputs of a row of a register.
const STEP: usize = 32;

/// What `ldtilecfg` reads: how much of each register is used.
#[repr(C, align(64))]
struct Shapes {
    palette: u8,
    start: u8,
    reserved: [u8; 14],
    /// Bytes of a row.
    widths: [u16; 16],
    heights: [u8; 16],
}

impl Shapes {
    /// For `rows` rows on the left: two registers of sums, one of the left side, two of the panel.
    fn new(rows: u8) -> Self {
        let (mut widths, mut heights) = ([0; 16], [0; 16]);
        widths[..5].fill(64);
        heights[..3].fill(rows);
        heights[3..5].fill(ROWS as u8);
        Self { palette: 1, start: 0, reserved: [0; 14], widths, heights }
    }
}

/// Fills a tile of up to 16 rows.
///
/// # Safety
/// The processor has AMX with BF16, which the process may use, and the job has the sizes that it states, with 1 to
/// 16 rows.
#[inline(never)]
pub(super) unsafe fn fill(job: Job) {
    const { assert!(super::HEIGHT <= ROWS, "a tile fits the registers") };
    debug_assert!((1..=ROWS).contains(&job.rows));
    let shapes = Shapes::new(job.rows as u8);
    // SAFETY: the registers' rows are those of the left side, `inputs` apart, and of the panel, a row of pairs apart; each
    // step takes 64 bytes of the former and 16 of the latter, and there are `inputs / 32` steps. Sums go to the tile, whose
    // rows are `stride` apart. Prefetching may be of any address.
    unsafe {
        asm!(
            "ldtilecfg [{shapes}]",
            "tilezero tmm0",
            "tilezero tmm1",
            "2:",
            "tileloadd tmm2, [{values} + {row}]",
            "tileloadd tmm3, [{panel} + {pairs}]",
            "tileloadd tmm4, [{panel} + {pairs} + 64]",
            "tdpbf16ps tmm0, tmm2, tmm3",
            "tdpbf16ps tmm1, tmm2, tmm4",
            "mov {line:e}, {lines:e}",
            "3:",
            "prefetcht1 [{ahead}]",
            "add {ahead}, 64",
            "dec {line:e}",
            "jnz 3b",
            "add {panel}, 2048",
            "add {values}, 64",
            "dec {steps}",
            "jnz 2b",
            "tilestored [{tile} + {stride}], tmm0",
            "tilestored [{tile} + {stride} + 64], tmm1",
            "tilerelease",
            shapes = in(reg) &raw const shapes,
            panel = inout(reg) job.panel.as_ptr() => _,
            pairs = in(reg) PANEL * 4,
            values = inout(reg) job.values.as_ptr() => _,
            row = in(reg) job.inputs * 2,
            steps = inout(reg) job.inputs / STEP => _,
            ahead = inout(reg) job.ahead.start() => _,
            lines = in(reg) job.ahead.lines(STEP / 2),
            line = out(reg) _,
            tile = in(reg) job.tile.as_mut_ptr(),
            stride = in(reg) job.stride * 4,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _, out("tmm4") _,
            options(nostack),
        );
    }
}
