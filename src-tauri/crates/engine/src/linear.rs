//! Matrix products with weights in the three forms they come in. Inputs and outputs are F32 rows.

use std::sync::Arc;

use candle_core::{Device, Module, Result, Tensor, quantized::QMatMul, quantized::QTensor};
use half::{
    bf16, f16,
    slice::{HalfBitsSliceExt, HalfFloatSliceExt},
};

use crate::{affine::Groups, weights::Stored};

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
    /// F16, BF16 or MLX's packed integers in the file.
    Widened(WidenedLinear),
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
            Self::Widened(layer) => (layer.product(x)?, &layer.bias),
            // Not `QMatMul::from_arc`, which decides by the environment and by the type whether to widen everything.
            Self::Quantized { weight, bias } => (QMatMul::QTensor(Arc::clone(weight)).forward(x)?, bias),
        };
        match bias {
            Some(bias) => product.broadcast_add(bias),
            None => Ok(product),
        }
    }
}

/// A matrix of F16, BF16 or MLX's packed integers that stays in its file.
///
/// candle's half-precision products are slower than F32 on processors (BF16 has none and widens whole matrices), its F16 BERT
/// overflows to NaN, and it has no product with such integers. So each block of rows is widened to F32 just before its product:
/// exact arithmetic in F32 on the stored numbers, and no second copy of the weights.
pub(crate) struct WidenedLinear {
    pub(crate) stored: Stored,
    pub(crate) bias: Option<Tensor>,
}

impl WidenedLinear {
    fn product(&self, x: &Tensor) -> Result<Tensor> {
        let Stored { rows, columns, .. } = self.stored;
        let rows_at_once = (WIDENED / columns).max(1);
        let mut groups = Groups::default();
        let mut parts = Vec::with_capacity(rows.div_ceil(rows_at_once));
        for first in (0..rows).step_by(rows_at_once) {
            let count = rows_at_once.min(rows - first);
            let mut numbers = vec![0_f32; count * columns];
            for (row, numbers) in (first..).zip(numbers.chunks_exact_mut(columns)) {
                self.stored.numbers(row, &mut groups, numbers);
            }
            let block = Tensor::from_vec(numbers, (count, columns), &Device::Cpu)?;
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
