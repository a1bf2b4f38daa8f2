//! candle's quantised storage over mapped memory instead of an owned copy.
//!
//! candle reads a GGUF tensor into memory and, on the processors for which it has packed kernels, packs it into a second
//! copy, keeping the first. With this storage the first is the file itself: its pages can be dropped once packed, and an
//! embedding table costs only the rows that are looked up. Not a kernel: every product is candle's own.
#![allow(unsafe_code, reason = "blocks of candle's types are read in place from the file's bytes")]

use std::{marker::PhantomData, mem, ops::Range, sync::Arc};

use candle_core::{
    CpuStorage, Result,
    quantized::{GgmlDType, GgmlType, QStorage, QuantizedType, k_quants},
};
use half::{bf16, f16};

use crate::mapped::Mapped;

/// Whole blocks of type `T` in a mapped file.
struct MappedBlocks<T> {
    file: Arc<Mapped>,
    range: Range<usize>,
    blocks: PhantomData<T>,
}

impl<T: GgmlType + 'static> MappedBlocks<T> {
    /// Blocks in place, or a copy of them where the file does not align them.
    fn storage(file: &Arc<Mapped>, range: Range<usize>) -> Result<Box<dyn QuantizedType>> {
        let bytes = &file.bytes()[range.clone()];
        if !bytes.len().is_multiple_of(mem::size_of::<T>()) {
            candle_core::bail!("{} bytes are no whole number of {:?} blocks", bytes.len(), T::DTYPE)
        }
        if bytes.as_ptr().addr().is_multiple_of(mem::align_of::<T>()) {
            return Ok(Box::new(Self { file: Arc::clone(file), range, blocks: PhantomData }));
        }
        let mut copy = vec![T::zeros(); bytes.len() / mem::size_of::<T>()];
        // SAFETY: `copy` holds exactly `bytes.len()` bytes, the two do not overlap, and every bit pattern is a block.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), copy.as_mut_ptr().cast::<u8>(), bytes.len()) };
        Ok(Box::new(copy))
    }

    fn blocks(&self) -> &[T] {
        let bytes = &self.file.bytes()[self.range.clone()];
        // SAFETY: `storage` checked length and alignment; candle's block types are plain numbers in C layout, for which
        // every bit pattern is a value; the bytes live as long as `self.file`.
        unsafe { std::slice::from_raw_parts(bytes.as_ptr().cast::<T>(), bytes.len() / mem::size_of::<T>()) }
    }
}

impl<T: GgmlType + 'static> QuantizedType for MappedBlocks<T> {
    fn dtype(&self) -> GgmlDType {
        T::DTYPE
    }

    fn matmul_t(&self, mkn: (usize, usize, usize), lhs: &[f32], dst: &mut [f32]) -> Result<()> {
        k_quants::matmul(mkn, lhs, self.blocks(), dst)
    }

    fn matmul_t_f16(&self, mkn: (usize, usize, usize), lhs: &[f16], dst: &mut [f16]) -> Result<()> {
        k_quants::matmul_f16(mkn, lhs, self.blocks(), dst)
    }

    fn embedding(&self, ids: &[u32], rows: usize, hidden: usize) -> Result<CpuStorage> {
        let per_row = hidden / T::BLCK_SIZE;
        let mut out = vec![0_f32; ids.len() * hidden];
        for (&id, out) in ids.iter().zip(out.chunks_exact_mut(hidden)) {
            let row = id as usize;
            if row >= rows {
                candle_core::bail!("the token {row} is outside the embedding table of {rows} rows")
            }
            T::to_float(&self.blocks()[row * per_row..(row + 1) * per_row], out);
        }
        Ok(CpuStorage::F32(out))
    }

    fn dequantize(&self, elem_count: usize) -> Result<CpuStorage> {
        let mut out = vec![0_f32; elem_count];
        T::to_float(self.blocks(), &mut out);
        Ok(CpuStorage::F32(out))
    }

    fn storage_size_in_bytes(&self) -> usize {
        self.range.len()
    }

    fn as_ptr(&self) -> *const u8 {
        self.file.bytes()[self.range.clone()].as_ptr()
    }

    fn block_size(&self) -> usize {
        T::BLCK_SIZE
    }

    fn from_float(&mut self, _: &[f32]) {
        unreachable!("mapped weights are never written. This is a bug.");
    }

    fn from_float_imatrix(&mut self, _: &[f32], _: &[f32], _: usize) {
        unreachable!("mapped weights are never written. This is a bug.");
    }

    fn size(&self) -> usize {
        self.range.len()
    }
}

/// Storage over `range` of `file`, whose bytes are blocks of `dtype`.
pub(crate) fn storage(file: &Arc<Mapped>, range: Range<usize>, dtype: GgmlDType) -> Result<QStorage> {
    let storage = match dtype {
        GgmlDType::F32 => MappedBlocks::<f32>::storage(file, range),
        GgmlDType::F16 => MappedBlocks::<f16>::storage(file, range),
        GgmlDType::BF16 => MappedBlocks::<bf16>::storage(file, range),
        GgmlDType::Q4_0 => MappedBlocks::<k_quants::BlockQ4_0>::storage(file, range),
        GgmlDType::Q4_1 => MappedBlocks::<k_quants::BlockQ4_1>::storage(file, range),
        GgmlDType::Q5_0 => MappedBlocks::<k_quants::BlockQ5_0>::storage(file, range),
        GgmlDType::Q5_1 => MappedBlocks::<k_quants::BlockQ5_1>::storage(file, range),
        GgmlDType::Q8_0 => MappedBlocks::<k_quants::BlockQ8_0>::storage(file, range),
        GgmlDType::Q2K => MappedBlocks::<k_quants::BlockQ2K>::storage(file, range),
        GgmlDType::Q3K => MappedBlocks::<k_quants::BlockQ3K>::storage(file, range),
        GgmlDType::Q4K => MappedBlocks::<k_quants::BlockQ4K>::storage(file, range),
        GgmlDType::Q5K => MappedBlocks::<k_quants::BlockQ5K>::storage(file, range),
        GgmlDType::Q6K => MappedBlocks::<k_quants::BlockQ6K>::storage(file, range),
        GgmlDType::Q8_1 | GgmlDType::Q8K => {
            candle_core::bail!("{dtype:?} is a type of intermediate results, not of weights")
        }
    }?;
    Ok(QStorage::Cpu(storage))
}
