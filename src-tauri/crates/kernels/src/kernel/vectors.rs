//! The vector operations that kernels are written in. Each level implements them with its instructions.

use super::coded::{self, Coding};
use super::exact::{self, Weight};

/// Weights of the next panel, which are asked for while a tile is computed: this tile's share of them, a step at a time.
///
/// Where a panel comes from memory, all tiles would wait for the first of them otherwise.
#[derive(Clone, Copy)]
pub(super) struct Ahead {
    address: *const u8,
    step: usize,
}

impl Ahead {
    /// Share `part` of `parts` of the `bytes` from `start` on, in as many steps as they have times `step`. Nothing is read
    /// there: it may be any address.
    pub(super) fn new(start: *const u8, bytes: usize, step: usize, (part, parts): (usize, usize)) -> Self {
        Self { address: start.wrapping_add(bytes / parts * part), step: step / parts }
    }

    /// The same for steps that are made `passes` times.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "has to be compiled with the features of its caller")]
    pub(super) fn in_passes(self, passes: usize) -> Self {
        Self { step: self.step / passes, ..self }
    }

    /// The first address to ask for.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn start(self) -> *const u8 {
        self.address
    }

    /// Lines of 64 bytes in this many steps, at least one.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn lines(self, steps: usize) -> usize {
        (self.step * steps).div_ceil(64).max(1)
    }

    /// The next address to ask for.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "has to be compiled with the features of its caller")]
    pub(super) fn next(&mut self) -> *const u8 {
        let address = self.address;
        self.address = address.wrapping_add(self.step);
        address
    }
}

/// Vectors of one level of instructions, with some columns of a panel in their lanes.
///
/// # Safety
/// Every function may only be called where the processor has the level, from functions compiled with its features; pointers
/// have to be readable, or writable, for as many values as a vector has lanes (or as the function says).
pub(super) unsafe trait Vectors {
    /// An I32 for each lane.
    type Integers: Copy;
    /// Four bytes for each lane.
    type Bytes: Copy;
    /// An F32 for each lane.
    type Floats: Copy;
    /// Sums of products with codes of four bits while they are made.
    type Partial: Copy;
    /// Lanes of a vector.
    const LANES: usize;
    /// Whether codes of eight bits have 128 added.
    const BIASED: bool;

    /// The same number in every lane.
    unsafe fn splat(value: i32) -> Self::Integers;
    /// Four bytes for each lane.
    unsafe fn load_bytes(bytes: *const u8) -> Self::Bytes;
    /// The same four signed bytes in every lane.
    unsafe fn splat_quad(bytes: *const i8) -> Self::Bytes;
    /// The low four bits of each byte.
    unsafe fn low(bytes: Self::Bytes) -> Self::Bytes;
    /// The high four bits of each byte.
    unsafe fn high(bytes: Self::Bytes) -> Self::Bytes;

    /// Adds the four products of each lane of weights of eight bits (biased or not) with -127 to 127.
    unsafe fn dot_eight(sums: Self::Integers, weights: Self::Bytes, quad: Self::Bytes) -> Self::Integers;

    /// Starts sums of at most 32 products for each lane, on top of `sums`.
    unsafe fn open_four(sums: Self::Integers) -> Self::Partial;
    /// Adds the four products of each lane of weights from 0 to 15 with -127 to 127.
    unsafe fn dot_four(partial: Self::Partial, weights: Self::Bytes, quad: Self::Bytes) -> Self::Partial;
    /// The sums that were opened, with what was added since.
    unsafe fn close_four(sums: Self::Integers, partial: Self::Partial) -> Self::Integers;

    unsafe fn to_floats(integers: Self::Integers) -> Self::Floats;
    unsafe fn splat_float(value: f32) -> Self::Floats;
    unsafe fn load(values: *const f32) -> Self::Floats;
    /// F32, wherever they start.
    unsafe fn load_f32(bytes: *const u8) -> Self::Floats;
    /// Widens F16.
    unsafe fn load_f16(bytes: *const u8) -> Self::Floats;
    /// Widens BF16.
    unsafe fn load_bf16(bytes: *const u8) -> Self::Floats;
    unsafe fn store(values: *mut f32, floats: Self::Floats);
    unsafe fn multiply(left: Self::Floats, right: Self::Floats) -> Self::Floats;
    /// `left * right + sum`, rounded once where the level can.
    unsafe fn multiply_add(left: Self::Floats, right: Self::Floats, sum: Self::Floats) -> Self::Floats;
    /// Asks for a line of memory that may be needed soon. Any address will do.
    unsafe fn prefetch(address: *const u8);
    /// The same, for later: not into the first-level cache.
    unsafe fn prefetch_far(address: *const u8);
}

/// Kernels compiled for one level.
pub(super) trait Level {
    /// [`coded::fill`](super::coded::fill) with as many columns at a time as this level has registers for.
    ///
    /// # Safety
    /// The processor has the level; and see there.
    unsafe fn fill_coded<C: Coding, const ROWS: usize>(job: coded::Job);

    /// [`exact::fill`](super::exact::fill), likewise.
    ///
    /// # Safety
    /// The processor has the level; and see there.
    unsafe fn fill_exact<W: Weight, const ROWS: usize>(job: exact::Job);
}
