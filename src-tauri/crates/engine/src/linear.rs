//! Matrix products with weights in the three forms they come in. Inputs and outputs are F32 rows.

use std::{ops::Range, sync::Arc};

use candle_core::{Device, Module, Result, Tensor, quantized::QMatMul, quantized::QTensor};
use half::{
    bf16, f16,
    slice::{HalfBitsSliceExt, HalfFloatSliceExt},
};

use crate::mapped::Mapped;

/// Numbers that are widened at a time: 4 MiB of F32, which stay in the cache between widening and multiplying.
const WIDENED: usize = 1 << 20;

/// `x · weightᵀ + bias`.
pub(crate) enum Linear {
    /// F32 in memory.
    Dense {
        /// `[in, out]`, a transposed view.
        transposed: Tensor,
        /// `[out]`.
        bias: Option<Tensor>,
    },
    /// F16 or BF16 in the file.
    Half(HalfLinear),
    /// Quantised blocks in the file.
    Quantized {
        /// `[out, in]`.
        weight: Arc<QTensor>,
        /// `[out]`.
        bias: Option<Tensor>,
    },
}

impl Linear {
    /// A layer over `weight` `[out, in]` in F32.
    pub(crate) fn dense(weight: &Tensor, bias: Option<Tensor>) -> Result<Self> {
        Ok(Self::Dense { transposed: weight.t()?, bias })
    }

    /// Maps `x` `[rows, in]` to `[rows, out]`.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (product, bias) = match self {
            Self::Dense { transposed, bias } => (x.matmul(transposed)?, bias),
            Self::Half(half) => (half.product(x)?, &half.bias),
            // Not `QMatMul::from_arc`, which decides by the environment and by the type whether to widen everything.
            Self::Quantized { weight, bias } => (QMatMul::QTensor(Arc::clone(weight)).forward(x)?, bias),
        };
        match bias {
            Some(bias) => product.broadcast_add(bias),
            None => Ok(product),
        }
    }
}

/// A matrix of F16 or BF16 numbers that stays in its file.
///
/// candle's half-precision products are slower than F32 on processors (BF16 has none and widens whole matrices), and its
/// F16 BERT overflows to NaN. So each block of rows is widened to F32 just before its product: exact arithmetic in F32 on
/// the stored numbers, and no second copy of the weights.
pub(crate) struct HalfLinear {
    pub(crate) file: Arc<Mapped>,
    pub(crate) range: Range<usize>,
    /// BF16 instead of F16.
    pub(crate) brain: bool,
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    pub(crate) bias: Option<Tensor>,
}

impl HalfLinear {
    fn product(&self, x: &Tensor) -> Result<Tensor> {
        let rows_at_once = (WIDENED / self.columns).max(1);
        let bytes = &self.file.bytes()[self.range.clone()];
        let mut parts = Vec::with_capacity(self.rows.div_ceil(rows_at_once));
        for block in bytes.chunks(rows_at_once * self.columns * 2) {
            let mut numbers = vec![0_f32; block.len() / 2];
            widen(block, self.brain, &mut numbers);
            let rows = numbers.len() / self.columns;
            let block = Tensor::from_vec(numbers, (rows, self.columns), &Device::Cpu)?;
            parts.push(x.matmul(&block.t()?)?);
        }
        match parts.as_slice() {
            [one] => Ok(one.clone()),
            several => Tensor::cat(several, 1),
        }
    }
}

/// Widens the F16, or BF16 where it is `brain`, of a file to as many `numbers`.
pub(crate) fn widen(bytes: &[u8], brain: bool, numbers: &mut [f32]) {
    // A file with an odd header leaves its numbers unaligned; then they are copied first.
    let bits: std::borrow::Cow<'_, [u16]> = match bytemuck::try_cast_slice(bytes) {
        Ok(bits) => bits.into(),
        Err(_) => bytemuck::pod_collect_to_vec(bytes).into(),
    };
    if brain {
        bits.reinterpret_cast::<bf16>().convert_to_f32_slice(numbers);
    } else {
        bits.reinterpret_cast::<f16>().convert_to_f32_slice(numbers);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_numbers_are_widened_exactly_even_where_the_file_does_not_align_them() {
        let numbers = [1.5_f32, -0.25, 65_504.0, 0.0];
        let mut bytes = vec![0_u8];
        bytes.extend(numbers.iter().flat_map(|&number| f16::from_f32(number).to_le_bytes()));
        let mut widened = vec![0.0; 4];
        widen(&bytes[1..], false, &mut widened);
        assert_eq!(widened, numbers);
        bytes.truncate(1);
        bytes.extend([1.5_f32, -0.25, 3.0e38].iter().flat_map(|&number| bf16::from_f32(number).to_le_bytes()));
        let mut widened = vec![0.0; 3];
        widen(&bytes[1..], true, &mut widened);
        assert_eq!(widened[..2], [1.5, -0.25]);
        assert!((widened[2] / 3.0e38 - 1.0).abs() < 0.01);
    }
}
