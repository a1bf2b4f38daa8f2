//! Weight files: where a blob lies, and its elements as numbers. The file is read where it is asked for and never mapped or
//! held; a truncated or lying file is an error with its offset.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use half::bf16;

use crate::MilError;
use crate::element::{Class, ElementType};
use crate::manifest::open_regular;

/// Headers and blobs begin at multiples of this.
pub(crate) const ALIGNMENT: u64 = 64;
pub(crate) const SENTINEL: u32 = 0xDEAD_BEEF;

/// An open weight file.
#[derive(Debug)]
pub(crate) struct BlobFile {
    path: PathBuf,
    file: File,
    length: u64,
}

/// What the file says of a blob, unchecked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Entry {
    pub(crate) sentinel: u32,
    pub(crate) dtype: u32,
    pub(crate) size: u64,
    pub(crate) start: u64,
    pub(crate) padding_bits: u64,
}

impl BlobFile {
    pub(crate) fn open(path: &Path) -> Result<Self, MilError> {
        let file = open_regular(path)?;
        let length = file.metadata().map_err(MilError::reading(path))?.len();
        Ok(Self { path: path.to_path_buf(), file, length })
    }

    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// The file's own count of its blobs and the version of its format.
    pub(crate) fn header(&self) -> Result<(u32, u32), String> {
        let bytes: [u8; 64] = self.array(0)?;
        Ok((u32_at(&bytes, 0), u32_at(&bytes, 4)))
    }

    /// What is said of the blob at `offset`.
    pub(crate) fn entry(&self, offset: u64) -> Result<Entry, String> {
        if offset < ALIGNMENT || !offset.is_multiple_of(ALIGNMENT) {
            return Err(format!("no blob can begin at byte `{offset}` of the weight file"));
        }
        let bytes: [u8; 64] = self.array(offset)?;
        Ok(Entry {
            sentinel: u32_at(&bytes, 0),
            dtype: u32_at(&bytes, 4),
            size: u64_at(&bytes, 8),
            start: u64_at(&bytes, 16),
            padding_bits: u64_at(&bytes, 24),
        })
    }

    fn array<const N: usize>(&self, offset: u64) -> Result<[u8; N], String> {
        let mut bytes = [0; N];
        self.read(offset, &mut bytes)?;
        Ok(bytes)
    }

    fn read(&self, offset: u64, bytes: &mut [u8]) -> Result<(), String> {
        if offset.checked_add(bytes.len() as u64).is_none_or(|end| end > self.length) {
            return Err(format!("byte `{offset}` is beyond the weight file's `{}`", self.length));
        }
        self.file
            .read_exact_at(bytes, offset)
            .map_err(|error| format!("`{}` cannot be read: {error}", self.path.display()))
    }
}

fn u32_at(bytes: &[u8; 64], at: usize) -> u32 {
    u32::from_le_bytes(std::array::from_fn(|index| bytes[at + index]))
}

fn u64_at(bytes: &[u8; 64], at: usize) -> u64 {
    u64::from_le_bytes(std::array::from_fn(|index| bytes[at + index]))
}

/// Elements that lie in a weight file and were checked to be there.
#[derive(Clone, Debug)]
pub(crate) struct Blob {
    file: Arc<BlobFile>,
    start: u64,
    dtype: ElementType,
    count: usize,
}

impl Blob {
    /// The blob at `offset`, which has to have `count` elements of the type `dtype`.
    pub(crate) fn new(file: &Arc<BlobFile>, offset: u64, dtype: ElementType, count: usize) -> Result<Self, BlobFault> {
        let fault = |code, problem: String| BlobFault { code, problem };
        let entry = file.entry(offset).map_err(|problem| fault("blob-offset", problem))?;
        if entry.sentinel != SENTINEL {
            let found = entry.sentinel;
            return Err(fault(
                "blob-sentinel",
                format!("byte `{offset}` of the weight file begins no blob: `{found:#x}`"),
            ));
        }
        if ElementType::from_blob(entry.dtype) != Some(dtype) {
            let found = ElementType::from_blob(entry.dtype);
            let found = found.map_or_else(|| format!("type {}", entry.dtype), |found| found.to_string());
            return Err(fault(
                "blob-dtype",
                format!("the blob at `{offset}` has `{found}`; the program says `{dtype}`"),
            ));
        }
        let bytes = dtype.bytes(count).unwrap_or(usize::MAX);
        if entry.size != bytes as u64 {
            let size = entry.size;
            return Err(fault(
                "blob-size",
                format!("the blob at `{offset}` has `{size}` bytes; its `{count}` numbers take `{bytes}`"),
            ));
        }
        if entry.start.checked_add(entry.size).is_none_or(|end| end > file.length) || entry.start < offset + 64 {
            let problem = format!("the blob at `{offset}` lies outside the weight file's `{}` bytes", file.length);
            return Err(fault("blob-offset", problem));
        }
        Ok(Self { file: Arc::clone(file), start: entry.start, dtype, count })
    }

    pub(crate) fn dtype(&self) -> ElementType {
        self.dtype
    }

    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// `out.len()` elements from `first` on, as numbers: floating point and integers of up to 24 bits exactly.
    pub(crate) fn floats(&self, first: usize, out: &mut [f32]) -> Result<(), String> {
        let (bytes, skipped) = self.bytes(first, out.len())?;
        match self.dtype {
            ElementType::Float32 => {
                for (number, bytes) in out.iter_mut().zip(bytes.as_chunks().0) {
                    *number = f32::from_le_bytes(*bytes);
                }
            }
            ElementType::Float16 => {
                for (number, bytes) in out.iter_mut().zip(bytes.as_chunks().0) {
                    *number = half_to_single(u16::from_le_bytes(*bytes));
                }
            }
            ElementType::BFloat16 => {
                for (number, bytes) in out.iter_mut().zip(bytes.as_chunks().0) {
                    *number = bf16::from_le_bytes(*bytes).to_f32();
                }
            }
            _ => unpack(&bytes, skipped, self.dtype, out.len(), |index, number| out[index] = number as f32),
        }
        Ok(())
    }

    /// `out.len()` elements from `first` on, of an integer type.
    pub(crate) fn integers(&self, first: usize, out: &mut [i64]) -> Result<(), String> {
        if self.dtype.class() != Class::Int {
            return Err(format!("`{}` are no integers", self.dtype));
        }
        let (bytes, skipped) = self.bytes(first, out.len())?;
        unpack(&bytes, skipped, self.dtype, out.len(), |index, number| out[index] = number);
        Ok(())
    }

    /// The bytes that hold the elements, and how many bits of the first one belong to elements before.
    fn bytes(&self, first: usize, count: usize) -> Result<(Vec<u8>, usize), String> {
        if first.checked_add(count).is_none_or(|end| end > self.count) {
            return Err(format!("elements `{first}` and `{count}` on are beyond the `{}` of a blob", self.count));
        }
        let bits = self.dtype.bits();
        let from = first * bits / 8;
        let to = ((first + count) * bits).div_ceil(8);
        let mut bytes = vec![0; to - from];
        self.file.read(self.start + from as u64, &mut bytes)?;
        Ok((bytes, first * bits % 8))
    }
}

/// `f16::to_f32` without its question, asked for every number, what the processor can do: a loop over this is vectorised.
fn half_to_single(bits: u16) -> f32 {
    /// What the exponents' biases differ by.
    const SCALE: f32 = f32::from_bits((127 + 112) << 23);
    let magnitude = u32::from(bits & 0x7fff) << 13;
    let scaled = (f32::from_bits(magnitude) * SCALE).to_bits();
    let special = u32::from(bits & 0x7c00 == 0x7c00).wrapping_neg();
    let magnitude = (scaled & !special) | ((magnitude | 0x7f80_0000) & special);
    f32::from_bits(magnitude | u32::from(bits & 0x8000) << 16)
}

/// Why a blob is not what the program says.
#[derive(Clone, Debug)]
pub(crate) struct BlobFault {
    pub(crate) code: &'static str,
    pub(crate) problem: String,
}

/// Gives `count` integers of the type `dtype` to `put`. Elements of less than a byte are a stream of bits, the lowest first;
/// the first `skipped` bits are passed over.
pub(crate) fn unpack(bytes: &[u8], skipped: usize, dtype: ElementType, count: usize, mut put: impl FnMut(usize, i64)) {
    let bits = dtype.bits();
    match (dtype, bits) {
        (ElementType::Int8, _) => {
            bytes.iter().take(count).enumerate().for_each(|(index, byte)| put(index, i64::from(byte.cast_signed())));
        }
        (_, 8) => bytes.iter().take(count).enumerate().for_each(|(index, byte)| put(index, i64::from(*byte))),
        (_, 16..) => {
            for (index, bytes) in bytes.chunks_exact(bits / 8).take(count).enumerate() {
                let number = bytes.iter().rev().fold(0_i64, |number, byte| number << 8 | i64::from(*byte));
                put(index, dtype.wrap(number));
            }
        }
        _ => {
            for index in 0..count {
                let at = skipped + index * bits;
                let low = bytes.get(at / 8).copied().unwrap_or(0);
                let high = bytes.get(at / 8 + 1).copied().unwrap_or(0);
                let number = u16::from_le_bytes([low, high]) >> (at % 8) & ((1 << bits) - 1);
                put(index, dtype.wrap(i64::from(number)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn file(bytes: &[u8]) -> (tempfile::TempDir, Arc<BlobFile>) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("weight.bin");
        std::fs::write(&path, bytes).expect("a file");
        let file = Arc::new(BlobFile::open(&path).expect("it is there"));
        (folder, file)
    }

    fn one_blob(code: u32, data: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; 128];
        bytes[..8].copy_from_slice(&[1, 0, 0, 0, 2, 0, 0, 0]);
        bytes[64..68].copy_from_slice(&SENTINEL.to_le_bytes());
        bytes[68..72].copy_from_slice(&code.to_le_bytes());
        bytes[72..80].copy_from_slice(&(data.len() as u64).to_le_bytes());
        bytes[80..88].copy_from_slice(&128_u64.to_le_bytes());
        bytes.extend_from_slice(data);
        bytes
    }

    #[test]
    fn every_type_is_read_as_it_was_stored() {
        let (_folder, halves) = file(&one_blob(1, &[0, 0x3c, 0, 0xc0]));
        let blob = Blob::new(&halves, 64, ElementType::Float16, 2).expect("a blob");
        let mut out = [0.0; 2];
        blob.floats(0, &mut out).expect("two halves");
        assert_eq!(out.map(f32::to_bits), [1.0_f32, -2.0].map(f32::to_bits));

        let (_folder, nibbles) = file(&one_blob(8, &[0x21, 0xf3]));
        let blob = Blob::new(&nibbles, 64, ElementType::Int4, 4).expect("a blob");
        let mut out = [0.0; 3];
        blob.floats(1, &mut out).expect("three nibbles from the second on");
        assert_eq!(out.map(f32::to_bits), [2.0_f32, 3.0, -1.0].map(f32::to_bits));

        // 3 bits: 1, 2, 3, 4, 5 -> 101 100 011 010 001, lowest first
        let (_folder, threes) = file(&one_blob(12, &[0b1101_0001, 0b0101_1000]));
        let blob = Blob::new(&threes, 64, ElementType::UInt3, 5).expect("a blob");
        let mut out = [0; 5];
        blob.integers(0, &mut out).expect("five numbers");
        assert_eq!(out, [1, 2, 3, 4, 5]);
    }

    #[test]
    fn every_half_is_the_number_that_it_is() {
        for bits in 0..=u16::MAX {
            let (found, expected) = (half_to_single(bits), half::f16::from_bits(bits).to_f32());
            assert!(found.to_bits() == expected.to_bits() || found.is_nan() && expected.is_nan(), "{bits:#x}");
        }
    }

    #[test]
    fn lies_about_a_blob_have_their_codes() {
        let good = one_blob(1, &[0; 8]);
        let code = |bytes: &[u8], offset, dtype, count| {
            let (_folder, file) = file(bytes);
            Blob::new(&file, offset, dtype, count).expect_err("a lie").code
        };
        assert_eq!(code(&good, 65, ElementType::Float16, 4), "blob-offset");
        assert_eq!(code(&good, u64::MAX - 63, ElementType::Float16, 4), "blob-offset");
        assert_eq!(code(&good, 0, ElementType::Float16, 4), "blob-offset");
        assert_eq!(code(&good, 64, ElementType::Float32, 2), "blob-dtype");
        assert_eq!(code(&good, 64, ElementType::Float16, 5), "blob-size");
        assert_eq!(code(&good, 64, ElementType::Float16, usize::MAX), "blob-size");
        assert_eq!(code(&good[..132], 64, ElementType::Float16, 4), "blob-offset");
        let mut bad = good.clone();
        bad[64] = 0;
        assert_eq!(code(&bad, 64, ElementType::Float16, 4), "blob-sentinel");
        let mut far = good;
        far[80..88].fill(0xff);
        assert_eq!(code(&far, 64, ElementType::Float16, 4), "blob-offset");
    }

    proptest! {
        #[test]
        fn any_file_gives_numbers_or_an_error(
            tail in prop::collection::vec(any::<u8>(), 0..64),
            header in prop::collection::vec(any::<u8>(), 24),
            offset in any::<u64>(),
            count in any::<usize>(),
        ) {
            let mut bytes = one_blob(u32::from(header[0] % 20), &tail);
            if header[1] % 2 == 0 {
                bytes[72..88].copy_from_slice(&header[8..24]);
            }
            let (_folder, file) = file(&bytes);
            for dtype in [ElementType::Float16, ElementType::Int8, ElementType::UInt3, ElementType::Int32] {
                for (offset, count) in [(64, tail.len()), (64, count), (offset, tail.len())] {
                    if let Ok(blob) = Blob::new(&file, offset, dtype, count) {
                        prop_assert!(blob.count() <= 8 * tail.len());
                        let mut out = vec![0.0; blob.count()];
                        prop_assert!(blob.floats(0, &mut out).is_ok());
                        prop_assert!(blob.floats(1, &mut out).is_err() || out.is_empty());
                    }
                }
            }
        }
    }
}
