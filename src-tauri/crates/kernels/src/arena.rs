//! Memory that is used again and again, so that computing allocates nothing once the largest batch has been seen.

#![expect(unsafe_code, reason = "to tell bytemuck that an aligned array of bytes is plain data")]

use std::marker::PhantomData;

use bytemuck::{Pod, Zeroable};

/// What a buffer begins at a multiple of, in bytes: a cache line, and the widest register.
const ALIGNMENT: usize = 64;

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; ALIGNMENT]);

// SAFETY: all of it may be zero.
unsafe impl Zeroable for Line {}
// SAFETY: bytes without padding, as long as their alignment, and any value of them is valid.
unsafe impl Pod for Line {}

/// Numbers that begin at a multiple of 64 bytes and keep their place until more of them are asked for.
///
/// It grows to what was asked for at most and does not shrink unless told. A forward pass keeps one for each intermediate
/// result; all of them together are its arena.
pub struct Buffer<T> {
    lines: Vec<Line>,
    numbers: PhantomData<T>,
}

impl<T: Pod> Buffer<T> {
    /// One without memory.
    pub const fn new() -> Self {
        const { assert!(align_of::<T>() <= ALIGNMENT && size_of::<T>() > 0) };
        Self { lines: Vec::new(), numbers: PhantomData }
    }

    /// The first `count` numbers. Those never written are zero, the others whatever was written last.
    ///
    /// # Panics
    ///
    /// If there is no memory for them.
    pub fn numbers_mut(&mut self, count: usize) -> &mut [T] {
        let lines = Self::lines_for(count);
        if lines > self.lines.len() {
            self.lines.reserve_exact(lines - self.lines.len());
            self.lines.resize(lines, Line::zeroed());
        }
        &mut bytemuck::cast_slice_mut(&mut self.lines[..lines])[..count]
    }

    /// The first `rows` rows of `width` numbers, end to end: [`Self::numbers_mut`].
    ///
    /// # Panics
    ///
    /// If there is no memory for them.
    pub fn rows_mut(&mut self, rows: usize, width: usize) -> &mut [T] {
        self.numbers_mut(rows.checked_mul(width).expect("rows that fit in memory"))
    }

    /// The first `rows` rows of `width` numbers as they were written.
    ///
    /// # Panics
    ///
    /// If so many were never asked for.
    pub fn rows(&self, rows: usize, width: usize) -> &[T] {
        &bytemuck::cast_slice(&self.lines)[..rows * width]
    }

    /// How many numbers there is memory for.
    pub fn capacity(&self) -> usize {
        self.lines.capacity() * ALIGNMENT / size_of::<T>()
    }

    /// Gives back the memory beyond the first `count` numbers.
    pub fn shrink_to(&mut self, count: usize) {
        let lines = Self::lines_for(count);
        self.lines.truncate(lines);
        self.lines.shrink_to(lines);
    }

    fn lines_for(count: usize) -> usize {
        // Whole lines hold whole numbers: the size of plain data that is aligned like this divides 64 or is made of it.
        count.checked_mul(size_of::<T>()).expect("numbers that fit in memory").div_ceil(ALIGNMENT)
    }
}

impl<T: Pod> Default for Buffer<T> {
    fn default() -> Self {
        Self::new()
    }
}
