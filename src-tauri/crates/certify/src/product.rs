//! The one matrix product of this crate, by the `gemm` library on all processors.
#![allow(unsafe_code, reason = "gemm takes pointers; the slices' sizes are checked against the shapes first")]

use gemm::Parallelism;

/// `[tokens, rows]`: each of the `tokens` rows of `x` times each of the `rows` rows of `weights`, both of `width` numbers.
pub(crate) fn product(x: &[f32], weights: &[f32], width: usize, out: &mut Vec<f32>) {
    let (tokens, rows) = (x.len() / width, weights.len() / width);
    assert!(x.len() == tokens * width && weights.len() == rows * width, "matrices are of whole rows. This is a bug.");
    out.clear();
    out.resize(tokens * rows, 0.0);
    let (width_stride, rows_stride) = (width as isize, rows as isize);
    // SAFETY: `out` holds `tokens * rows` numbers, `x` `tokens * width` and `weights` `rows * width`, as was just made sure; the
    // strides walk them row by row, `weights` as its transpose; `out` is borrowed alone.
    unsafe {
        gemm::gemm(
            tokens,
            rows,
            width,
            out.as_mut_ptr(),
            1,
            rows_stride,
            false,
            x.as_ptr(),
            1,
            width_stride,
            weights.as_ptr(),
            width_stride,
            1,
            0.0,
            1.0,
            false,
            false,
            false,
            Parallelism::Rayon(0),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_sum_of_products_in_every_shape() {
        for (tokens, rows, width) in [(1, 1, 1), (3, 5, 7), (17, 4, 33), (2, 40, 64)] {
            let x: Vec<f32> = (0..tokens * width).map(|at| (at as f32 * 0.7).sin()).collect();
            let weights: Vec<f32> = (0..rows * width).map(|at| (at as f32 * 0.3).cos()).collect();
            let mut found = vec![9.0];
            product(&x, &weights, width, &mut found);
            for token in 0..tokens {
                for row in 0..rows {
                    let wanted: f64 = (0..width)
                        .map(|at| f64::from(x[token * width + at]) * f64::from(weights[row * width + at]))
                        .sum();
                    assert!((f64::from(found[token * rows + row]) - wanted).abs() < 1e-4, "{tokens} {rows} {width}");
                }
            }
        }
    }
}
