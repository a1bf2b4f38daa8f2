//! The layout of `weight.bin`, version 2 of Core ML's blob storage: where each array lies and what stands in front of it.
//!
//! Sizes follow from types and shapes, so every place is known before a weight is read and arrays may be written in any
//! order. What is in the arrays is not decided here.

/// Heads and data start at multiples of this.
const ALIGNMENT: u64 = 64;
const SENTINEL: u32 = 0xdead_beef;
const VERSION: u32 = 2;

/// Bytes in front of the first array, and in front of each array's data.
pub(crate) const HEAD_BYTES: usize = ALIGNMENT as usize;

/// Number types of arrays.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum BlobType {
    Float16,
    Uint8,
    Int8,
    Int4,
}

impl BlobType {
    fn number(self) -> u32 {
        match self {
            Self::Float16 => 1,
            Self::Uint8 => 3,
            Self::Int8 => 4,
            Self::Int4 => 8,
        }
    }

    fn bits(self) -> u64 {
        match self {
            Self::Float16 => 16,
            Self::Uint8 | Self::Int8 => 8,
            Self::Int4 => 4,
        }
    }
}

/// Where one array lies.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Place {
    /// Where its head starts, from the start of the file. This is the offset that the program refers to.
    pub(crate) offset: u64,
    pub(crate) kind: BlobType,
    /// Numbers in it.
    pub(crate) elements: u64,
}

impl Place {
    /// Where its data start.
    pub(crate) fn data_offset(&self) -> u64 {
        self.offset + HEAD_BYTES as u64
    }

    /// Bytes of its data.
    pub(crate) fn bytes(&self) -> u64 {
        (self.elements * self.kind.bits()).div_ceil(8)
    }

    /// What stands in front of its data.
    pub(crate) fn head(&self) -> [u8; HEAD_BYTES] {
        let unused_bits = self.bytes() * 8 - self.elements * self.kind.bits();
        let mut head = [0; HEAD_BYTES];
        head[..4].copy_from_slice(&SENTINEL.to_le_bytes());
        head[4..8].copy_from_slice(&self.kind.number().to_le_bytes());
        head[8..16].copy_from_slice(&self.bytes().to_le_bytes());
        head[16..24].copy_from_slice(&self.data_offset().to_le_bytes());
        head[24..32].copy_from_slice(&unused_bits.to_le_bytes());
        head
    }
}

/// What stands at the start of a file of `count` arrays.
pub(crate) fn file_head(count: u32) -> [u8; HEAD_BYTES] {
    let mut head = [0; HEAD_BYTES];
    head[..4].copy_from_slice(&count.to_le_bytes());
    head[4..8].copy_from_slice(&VERSION.to_le_bytes());
    head
}

/// Gives arrays their places one after the other.
#[derive(Debug)]
pub(crate) struct Layout {
    end: u64,
    count: u32,
}

impl Layout {
    /// An empty file.
    pub(crate) fn new() -> Self {
        Self { end: HEAD_BYTES as u64, count: 0 }
    }

    /// The next place, for an array of `elements` numbers.
    pub(crate) fn place(&mut self, kind: BlobType, elements: u64) -> Place {
        let place = Place { offset: self.end.next_multiple_of(ALIGNMENT), kind, elements };
        self.end = place.data_offset() + place.bytes();
        self.count += 1;
        place
    }

    /// Where the last array ends: the file's size.
    pub(crate) fn bytes(&self) -> u64 {
        self.end
    }

    /// Arrays so far.
    pub(crate) fn count(&self) -> u32 {
        self.count
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn kind() -> impl Strategy<Value = BlobType> {
        prop_oneof![Just(BlobType::Float16), Just(BlobType::Uint8), Just(BlobType::Int8), Just(BlobType::Int4)]
    }

    proptest! {
        #[test]
        fn arrays_are_aligned_and_never_overlap(arrays in prop::collection::vec((kind(), 1_u64..5000), 1..20)) {
            let mut layout = Layout::new();
            let mut end = HEAD_BYTES as u64;
            for (kind, elements) in &arrays {
                let place = layout.place(*kind, *elements);
                prop_assert_eq!(place.offset % 64, 0);
                prop_assert!(place.offset >= end && place.offset < end + 64);
                end = place.data_offset() + place.bytes();
            }
            prop_assert_eq!(layout.bytes(), end);
            prop_assert_eq!(layout.count() as usize, arrays.len());
        }
    }

    #[test]
    fn a_head_says_type_size_offset_and_unused_bits() {
        let head = Place { offset: 128, kind: BlobType::Int4, elements: 33 }.head();
        let numbers: Vec<u32> = head.as_chunks().0.iter().copied().map(u32::from_le_bytes).collect();
        assert_eq!(numbers[..8], [0xdead_beef, 8, 17, 0, 192, 0, 4, 0]);
        assert!(numbers[8..].iter().all(|number| *number == 0));
    }

    #[test]
    fn the_file_starts_with_count_and_version() {
        assert_eq!(file_head(3)[..9], [3, 0, 0, 0, 2, 0, 0, 0, 0]);
    }
}
