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
pub(super) const ROWS: usize = 16;

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
    /// For `rows` rows on the left: four registers of sums, two of the left side, two of the panel.
    fn new(rows: u8) -> Self {
        let (mut widths, mut heights) = ([0; 16], [0; 16]);
        widths[..8].fill(64);
        heights[..6].fill(rows);
        heights[6..8].fill(ROWS as u8);
        Self { palette: 1, start: 0, reserved: [0; 14], widths, heights }
    }
}

/// Fills a tile of up to 16 rows.
///
/// # Safety
/// The processor has AVX-512 and AMX with BF16, which the process may use, and the job has the sizes that it states, with 1 to
/// 16 rows.
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
#[inline(never)]
pub(super) unsafe fn fill(job: Job) {
    debug_assert!((1..=ROWS).contains(&job.rows));
    let shapes = Shapes::new(job.rows as u8);
    // Two steps at a time have their own sums, which would wait for each other otherwise.
    let mut others = [[0_f32; PANEL]; ROWS];
    let lines = job.ahead.lines(STEP / 2);
    // SAFETY: the registers' rows are those of the left side, `inputs` apart, and of the panel, a row of pairs apart; each
    // step takes 64 bytes of the former and 16 of the latter, and there are `inputs / 32` steps. Sums go to the tile, whose
    // rows are `stride` apart, and to `others`. Prefetching may be of any address.
    unsafe {
        asm!(
            "ldtilecfg [{shapes}]",
            "tilezero tmm0",
            "tilezero tmm1",
            "tilezero tmm2",
            "tilezero tmm3",
            "2:",
            "tileloadd tmm6, [{panel} + {pairs}]",
            "tileloadd tmm4, [{values} + {row}]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tileloadd tmm7, [{panel} + {pairs} + 64]",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "mov {line:e}, {lines:e}",
            "3:",
            "prefetcht1 [{ahead}]",
            "add {ahead}, 64",
            "dec {line:e}",
            "jnz 3b",
            "dec {steps}",
            "jz 4f",
            "tileloadd tmm6, [{panel} + {pairs} + 2048]",
            "tileloadd tmm5, [{values} + {row} + 64]",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tileloadd tmm7, [{panel} + {pairs} + 2112]",
            "tdpbf16ps tmm3, tmm5, tmm7",
            "mov {line:e}, {lines:e}",
            "5:",
            "prefetcht1 [{ahead}]",
            "add {ahead}, 64",
            "dec {line:e}",
            "jnz 5b",
            "add {panel}, 4096",
            "add {values}, 128",
            "dec {steps}",
            "jnz 2b",
            "4:",
            "tilestored [{tile} + {stride}], tmm0",
            "tilestored [{tile} + {stride} + 64], tmm1",
            "tilestored [{others} + {pairs}], tmm2",
            "tilestored [{others} + {pairs} + 64], tmm3",
            "tilerelease",
            shapes = in(reg) &raw const shapes,
            panel = inout(reg) job.panel.as_ptr() => _,
            pairs = in(reg) PANEL * 4,
            values = inout(reg) job.values.as_ptr() => _,
            row = in(reg) job.inputs * 2,
            steps = inout(reg) job.inputs / STEP => _,
            ahead = inout(reg) job.ahead.start() => _,
            lines = in(reg) lines,
            line = out(reg) _,
            tile = in(reg) job.tile.as_mut_ptr(),
            stride = in(reg) job.stride * 4,
            others = in(reg) others.as_mut_ptr(),
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }
    for (row, others) in others[..job.rows].iter().enumerate() {
        for (sum, other) in job.tile[row * job.stride..][..PANEL].iter_mut().zip(others) {
            *sum += other;
        }
    }
}
