//! Scaled dot-product attention over padded rows: bidirectional or causal, with grouped key and value heads.
//!
//! Queries arrive already scaled. There is no cache: an encoder sees each text once. Scores are made for a block of queries
//! at a time, so that memory grows with the length and not with its square.

use candle_core::{D, Device, Result, Tensor};

use crate::backend::PaddedBatch;

/// Scores that may exist at a time: 16 MiB of F32.
const SCORES: usize = 4 << 20;

/// What a query may not look at: padding, and for a causal model what comes after it.
pub(crate) struct Mask {
    /// `[rows, 1, 1, length]`: 0 for text, -infinity for padding.
    padding: Option<Tensor>,
    causal: bool,
}

impl Mask {
    /// The mask for a batch.
    ///
    /// A causal model needs none for padding on the right: no token of the text comes after it.
    pub(crate) fn new(batch: &PaddedBatch, causal: bool) -> Result<Self> {
        let padding = if causal || !batch.is_padded() {
            None
        } else {
            let mut mask = vec![0_f32; batch.rows() * batch.length];
            for (row, &length) in mask.chunks_exact_mut(batch.length).zip(&batch.lengths) {
                row[length..].fill(f32::NEG_INFINITY);
            }
            Some(Tensor::from_vec(mask, (batch.rows(), 1, 1, batch.length), &Device::Cpu)?)
        };
        Ok(Self { padding, causal })
    }
}

/// Attention of `queries` `[rows, heads, length, width]` over `keys` and `values` `[rows, groups, length, width]`, where
/// `heads` is a multiple of `groups`. Gives `[rows * length, heads * width]`.
pub(crate) fn attend(queries: &Tensor, keys: &Tensor, values: &Tensor, mask: &Mask) -> Result<Tensor> {
    let (rows, heads, length, width) = queries.dims4()?;
    let at_once = (SCORES / (rows * heads * length)).clamp(16, length.max(16));
    let mut parts = Vec::with_capacity(length.div_ceil(at_once));
    let mut start = 0;
    while start < length {
        let block = at_once.min(length - start);
        // What comes after the block's last query is masked for all of it, so it need not be computed.
        let seen = if mask.causal { start + block } else { length };
        let queries = queries.narrow(2, start, block)?;
        let keys = keys.narrow(2, 0, seen)?;
        let values = values.narrow(2, 0, seen)?;
        parts.push(attend_block(&queries, &keys, &values, mask)?);
        start += block;
    }
    let states = match parts.as_slice() {
        [one] => one.clone(),
        several => Tensor::cat(several, 2)?,
    };
    states.transpose(1, 2)?.reshape((rows * length, heads * width))
}

/// One block of queries, the last of which is the last key's own where the mask is causal.
fn attend_block(queries: &Tensor, keys: &Tensor, values: &Tensor, mask: &Mask) -> Result<Tensor> {
    let (rows, heads, block, width) = queries.dims4()?;
    let (_, groups, seen, _) = keys.dims4()?;
    // Heads that share a key head become more queries of it, so that keys and values need not be repeated.
    let queries = if heads == groups {
        queries.clone()
    } else {
        queries.contiguous()?.reshape((rows, groups, heads / groups * block, width))?
    };
    let mut scores = queries.matmul(&keys.transpose(D::Minus2, D::Minus1)?)?;
    if let Some(padding) = &mask.padding {
        scores = scores.broadcast_add(padding)?;
    }
    if mask.causal && block > 1 {
        let grouped = scores.shape().clone();
        let later = causal_mask(block, seen)?;
        scores = scores.reshape((rows, heads, block, seen))?.broadcast_add(&later)?.reshape(grouped)?;
    }
    let weights = candle_nn::ops::softmax_last_dim(&scores)?;
    weights.matmul(values)?.reshape((rows, heads, block, width))
}

/// `[block, seen]`: -infinity where a key comes after the query; the last query is the last key's own.
fn causal_mask(block: usize, seen: usize) -> Result<Tensor> {
    let mut mask = vec![0_f32; block * seen];
    for (query, row) in mask.chunks_exact_mut(seen).enumerate() {
        row[seen - block + query + 1..].fill(f32::NEG_INFINITY);
    }
    Tensor::from_vec(mask, (block, seen), &Device::Cpu)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers between -1 and 1 that look random and are always the same.
    fn noise(count: usize, seed: u32) -> Vec<f32> {
        let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
        (0..count)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 8) as f32 / (1 << 23) as f32 - 1.0
            })
            .collect()
    }

    /// The definition, head by head and query by query, in f64. `q` is `[heads][length][width]`.
    fn by_definition(
        q: &[f32],
        k: &[f32],
        v: &[f32],
        shape: (usize, usize, usize, usize),
        visible: &dyn Fn(usize, usize) -> bool,
    ) -> Vec<f32> {
        let (heads, groups, length, width) = shape;
        let mut out = vec![0.0; length * heads * width];
        for head in 0..heads {
            let group = head / (heads / groups);
            for query in 0..length {
                let at = |table: &[f32], head: usize, row: usize, column: usize| {
                    f64::from(table[(head * length + row) * width + column])
                };
                let keys: Vec<usize> = (0..length).filter(|&key| visible(query, key)).collect();
                let scores: Vec<f64> = keys
                    .iter()
                    .map(|&key| (0..width).map(|d| at(q, head, query, d) * at(k, group, key, d)).sum::<f64>().exp())
                    .collect();
                let total: f64 = scores.iter().sum();
                for d in 0..width {
                    let sum: f64 = keys.iter().zip(&scores).map(|(&key, score)| score * at(v, group, key, d)).sum();
                    out[(query * heads + head) * width + d] = (sum / total) as f32;
                }
            }
        }
        out
    }

    fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
        assert_eq!(a.len(), b.len());
        a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
    }

    fn tensors(shape: (usize, usize, usize, usize)) -> (Vec<f32>, Vec<f32>, Vec<f32>, [Tensor; 3]) {
        let (heads, groups, length, width) = shape;
        let (q, k, v) =
            (noise(heads * length * width, 1), noise(groups * length * width, 2), noise(groups * length * width, 3));
        let tensor =
            |numbers: &[f32], heads| Tensor::from_slice(numbers, (1, heads, length, width), &Device::Cpu).unwrap();
        let all = [tensor(&q, heads), tensor(&k, groups), tensor(&v, groups)];
        (q, k, v, all)
    }

    #[test]
    fn grouped_causal_attention_is_the_definition() {
        let shape = (4, 2, 9, 8);
        let (q, k, v, [queries, keys, values]) = tensors(shape);
        let mask = Mask { padding: None, causal: true };
        let ours = attend(&queries, &keys, &values, &mask).unwrap().flatten_all().unwrap().to_vec1().unwrap();
        let wanted = by_definition(&q, &k, &v, shape, &|query, key| key <= query);
        assert!(largest_difference(&ours, &wanted) < 1e-6);
    }

    #[test]
    fn a_long_text_is_split_into_blocks_without_a_trace() {
        // 2 heads of 2,100 queries are more scores than are made at a time.
        let shape = (2, 1, 2_100, 4);
        let (q, k, v, [queries, keys, values]) = tensors(shape);
        for causal in [true, false] {
            let mask = Mask { padding: None, causal };
            let ours = attend(&queries, &keys, &values, &mask).unwrap().flatten_all().unwrap().to_vec1().unwrap();
            let wanted = by_definition(&q, &k, &v, shape, &|query, key| !causal || key <= query);
            assert!(largest_difference(&ours, &wanted) < 1e-5);
        }
    }

    #[test]
    fn padding_is_not_looked_at() {
        let shape = (2, 2, 6, 4);
        let (q, k, v, [queries, keys, values]) = tensors(shape);
        let batch = PaddedBatch { ids: vec![0; 6], lengths: vec![4], length: 6 };
        let mask = Mask::new(&batch, false).unwrap();
        let ours: Vec<f32> = attend(&queries, &keys, &values, &mask).unwrap().flatten_all().unwrap().to_vec1().unwrap();
        let wanted = by_definition(&q, &k, &v, shape, &|_, key| key < 4);
        assert!(largest_difference(&ours, &wanted) < 1e-6);
    }
}
