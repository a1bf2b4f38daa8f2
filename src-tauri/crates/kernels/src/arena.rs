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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_aligned_and_keep_what_was_written() {
        let mut buffer = Buffer::<f32>::new();
        assert_eq!(buffer.capacity(), 0);
        assert!(buffer.rows_mut(0, 5).is_empty());
        for rows in [1, 7, 3, 100] {
            let numbers = buffer.rows_mut(rows, 5);
            assert_eq!(numbers.len(), rows * 5);
            assert_eq!(numbers.as_ptr() as usize % 64, 0);
            numbers.fill(rows as f32);
            assert_eq!(buffer.rows(rows, 5), vec![rows as f32; rows * 5]);
        }
        let mut bytes = Buffer::<i8>::new();
        assert_eq!(bytes.rows_mut(3, 65).as_ptr() as usize % 64, 0);
        assert_eq!(bytes.rows(3, 65), [0; 195]);
        assert_eq!(bytes.capacity(), 256);
    }

    #[test]
    fn it_grows_when_more_is_asked_for_and_shrinks_only_when_told() {
        let mut buffer = Buffer::<f32>::new();
        buffer.rows_mut(10, 16).fill(1.0);
        buffer.rows_mut(1, 16);
        assert_eq!(buffer.capacity(), 160);
        // What it had stays, and what is new is zero.
        assert_eq!(buffer.rows_mut(11, 16)[144..], [[1.0; 16], [0.0; 16]].concat());
        buffer.shrink_to(17);
        assert_eq!(buffer.capacity(), 32);
        assert_eq!(buffer.rows(2, 16), [1.0; 32]);
    }

    #[test]
    #[should_panic(expected = "fit in memory")]
    fn more_than_there_can_be_is_refused() {
        Buffer::<f32>::new().rows_mut(usize::MAX, 2);
    }
}
