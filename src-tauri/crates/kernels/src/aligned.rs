//! Bytes on the heap that start at a cache line, for packed matrices that are made in memory and not mapped from a file.

#![expect(unsafe_code, reason = "tells bytemuck that a cache line is plain bytes")]

use std::ops::{Deref, DerefMut};

/// What packed matrices are aligned to: a cache line, and the widest vector.
pub const ALIGNMENT: usize = 64;

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; ALIGNMENT]);

// SAFETY: a line is 64 bytes with no padding (its size equals its alignment), and zeroes are valid bytes.
unsafe impl bytemuck::Zeroable for Line {}
// SAFETY: as above, and every pattern of bytes is valid.
unsafe impl bytemuck::Pod for Line {}

/// Bytes that start at a multiple of [`ALIGNMENT`].
#[derive(Clone, Default)]
pub struct AlignedBytes {
    lines: Vec<Line>,
    length: usize,
}

impl AlignedBytes {
    /// `length` zeroes.
    pub fn zeroed(length: usize) -> Self {
        Self { lines: vec![Line([0; ALIGNMENT]); length.div_ceil(ALIGNMENT)], length }
    }
}

impl std::fmt::Debug for AlignedBytes {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("AlignedBytes").field("length", &self.length).finish_non_exhaustive()
    }
}

impl Deref for AlignedBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.lines)[..self.length]
    }
}

impl DerefMut for AlignedBytes {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut bytemuck::cast_slice_mut(&mut self.lines)[..self.length]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_start_at_a_line_and_have_their_length() {
        for length in [0, 1, 63, 64, 65, 1000] {
            let mut bytes = AlignedBytes::zeroed(length);
            assert_eq!(bytes.len(), length);
            assert_eq!(bytes.as_ptr().align_offset(ALIGNMENT), 0);
            bytes.fill(7);
            assert!(bytes.iter().all(|&byte| byte == 7));
        }
    }
}
