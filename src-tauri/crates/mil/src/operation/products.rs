//! Products of matrices: linear, matmul, convolutions of one pixel, attention. Weights are decoded a few rows at a time, in
//! two threads that share the rows; the product itself is blocked for registers and no more.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::axes::softmax_of;
use super::elementwise::{broadcast_shape, zip};
use super::{Call, sized};
use crate::constant::Value;
use crate::element::Class;
use crate::tensor::Tensor;
use crate::weight::Weight;

/// Columns that are computed at once.
const COLUMNS: usize = 8;
/// Rows that are computed at once.
const ROWS: usize = 4;
/// What is decoded of a weight at a time: little enough to stay in a cache until it is multiplied.
const BLOCK_BYTES: usize = 1 << 20;
const THREADS: usize = 2;
/// A thread is not worth less than this many multiplications.
const WORTH_A_THREAD: usize = 1 << 20;

/// The left factor, its rows in groups whose elements lie side by side.
struct Left {
    rows: usize,
    inner: usize,
    groups: Vec<[f32; ROWS]>,
}

impl Left {
    /// From `rows` rows of `inner` numbers, where the next number of a row is `step` further, and the next row `stride`.
    fn new(values: &[f32], rows: usize, inner: usize, stride: usize, step: usize) -> Self {
        let mut groups = vec![[0.0; ROWS]; rows.div_ceil(ROWS) * inner];
        for row in 0..rows {
            let group = &mut groups[row / ROWS * inner..][..inner];
            for (index, group) in group.iter_mut().enumerate() {
                group[row % ROWS] = values[row * stride + index * step];
            }
        }
        Self { rows, inner, groups }
    }
}

/// The right factor, its columns in panels whose elements lie side by side.
struct Right {
    columns: usize,
    panels: Vec<[f32; COLUMNS]>,
}

impl Right {
    /// From `columns` columns of `inner` numbers; the next number of a column is `step` further, the next column `stride`.
    fn new(values: &[f32], columns: usize, inner: usize, stride: usize, step: usize) -> Self {
        let mut panels = vec![[0.0; COLUMNS]; columns.div_ceil(COLUMNS) * inner];
        for (panel, first) in panels.chunks_mut(inner.max(1)).zip((0..columns).step_by(COLUMNS)) {
            if step == 1 && first + COLUMNS <= columns {
                // The common case, written line by line.
                let lines: [&[f32]; COLUMNS] =
                    std::array::from_fn(|column| &values[(first + column) * stride..][..inner]);
                for (index, panel) in panel.iter_mut().enumerate() {
                    *panel = std::array::from_fn(|column| lines[column][index]);
                }
                continue;
            }
            for column in first..columns.min(first + COLUMNS) {
                for (index, panel) in panel.iter_mut().enumerate() {
                    panel[column - first] = values[column * stride + index * step];
                }
            }
        }
        Self { columns, panels }
    }
}

/// Adds `left * right` to `out`, whose rows are `width` apart; `out` begins with the first column of the product.
fn multiply(left: &Left, right: &Right, out: &mut [f32], width: usize) {
    let inner = left.inner;
    if inner == 0 {
        return;
    }
    for (panel, first) in right.panels.chunks(inner).zip((0..right.columns).step_by(COLUMNS)) {
        let columns = COLUMNS.min(right.columns - first);
        for (group, row) in left.groups.chunks(inner).zip((0..left.rows).step_by(ROWS)) {
            let mut sums = [[0.0_f32; COLUMNS]; ROWS];
            for (left, right) in group.iter().zip(panel) {
                for (sums, left) in sums.iter_mut().zip(left) {
                    for (sum, right) in sums.iter_mut().zip(right) {
                        *sum += left * right;
                    }
                }
            }
            for (row, sums) in (row..left.rows).zip(&sums) {
                let out = &mut out[row * width + first..][..columns];
                out.iter_mut().zip(sums).for_each(|(out, sum)| *out += sum);
            }
        }
    }
}

/// Calls `work` for every index below `count`, in two threads if there is enough to do, and collects what it returns.
fn parallel<R: Send>(
    count: usize,
    multiplications: usize,
    work: impl Fn(usize) -> Result<R, String> + Sync,
) -> Result<Vec<R>, String> {
    if count < 2 || multiplications < WORTH_A_THREAD {
        return (0..count).map(work).collect();
    }
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::with_capacity(count));
    std::thread::scope(|scope| {
        for _ in 0..THREADS.min(count) {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= count {
                        return;
                    }
                    let result = work(index);
                    results.lock().expect("no thread panics with the lock. This is a bug.").push((index, result));
                }
            });
        }
    });
    let mut results = results.into_inner().expect("no thread panics with the lock. This is a bug.");
    results.sort_unstable_by_key(|(index, _)| *index);
    results.into_iter().map(|(_, result)| result).collect()
}

/// A matrix of which rows are read.
enum Matrix<'a> {
    Weight(&'a Weight),
    Tensor(&'a [f32], usize),
}

impl Matrix<'_> {
    /// How many rows there are, and how many numbers are in each.
    fn extent(&self) -> (usize, usize) {
        match self {
            Self::Weight(weight) => weight.extent(),
            Self::Tensor(values, width) => (values.len().checked_div(*width).unwrap_or(0), *width),
        }
    }

    fn read(&self, first: usize, out: &mut [f32], rounded: bool) -> Result<(), String> {
        match self {
            Self::Weight(weight) => weight.read(first, out, rounded),
            Self::Tensor(values, width) => {
                out.copy_from_slice(&values[first * width..][..out.len()]);
                Ok(())
            }
        }
    }

    /// How many rows are decoded at a time: a block's worth, and no more than keeps both threads busy.
    fn block(&self) -> usize {
        let (rows, width) = self.extent();
        let fits = BLOCK_BYTES / size_of::<f32>() / width.max(1);
        let shared = rows.div_ceil(2 * THREADS).next_multiple_of(COLUMNS);
        fits.min(shared).clamp(1, rows.max(1))
    }
}

/// `x * matrixᵀ`: every row of `x` with every row of the matrix.
fn with_rows(x: &[f32], rows: usize, matrix: &Matrix, rounded: bool) -> Result<Vec<f32>, String> {
    let (columns, inner) = matrix.extent();
    let left = Left::new(x, rows, inner, inner, 1);
    let block = matrix.block();
    let parts = parallel(columns.div_ceil(block), rows * columns * inner, |index| {
        let first = index * block;
        let count = block.min(columns - first);
        let mut numbers = vec![0.0; count * inner];
        matrix.read(first, &mut numbers, rounded)?;
        let right = Right::new(&numbers, count, inner, inner, 1);
        let mut part = vec![0.0; rows * count];
        multiply(&left, &right, &mut part, count);
        Ok(part)
    })?;
    let mut out = vec![0.0; rows * columns];
    for (index, part) in parts.into_iter().enumerate() {
        let first = index * block;
        let count = block.min(columns - first);
        for (out, part) in out.chunks_mut(columns.max(1)).zip(part.chunks(count)) {
            out[first..first + count].copy_from_slice(part);
        }
    }
    Ok(out)
}

/// `x * matrix`, the matrix a weight whose rows are what is summed over: block after block.
fn with_columns(x: &[f32], rows: usize, weight: &Weight, rounded: bool) -> Result<Vec<f32>, String> {
    let (inner, columns) = weight.extent();
    let matrix = Matrix::Weight(weight);
    let block = matrix.block();
    let mut out = vec![0.0; rows * columns];
    for first in (0..inner).step_by(block) {
        let count = block.min(inner - first);
        let mut numbers = vec![0.0; count * columns];
        matrix.read(first, &mut numbers, rounded)?;
        let part = Left::new(&x[first..], rows, count, inner, 1);
        let right = Right::new(&numbers, columns, count, 1, columns);
        multiply(&part, &right, &mut out, columns);
    }
    Ok(out)
}

fn floats<'a>(tensor: &'a Tensor, name: &str) -> Result<&'a [f32], String> {
    tensor.floats().ok_or_else(|| format!("`{name}` is `{}`", tensor.dtype()))
}

pub(super) fn linear(call: &Call) -> Result<Vec<Tensor>, String> {
    let x = call.tensor("x")?;
    let weight = call.value("weight")?;
    let ([columns, inner], Some((last, outer))) = (weight.shape(), x.shape().split_last()) else {
        return Err(format!("it does not take `{:?}` and `{:?}`", x.shape(), weight.shape()));
    };
    if last != inner {
        return Err(format!("`x` has rows of `{last}`; those of `weight` have `{inner}`"));
    }
    let shape = [outer, &[*columns]].concat();
    sized(&shape)?;
    let rows: usize = outer.iter().product();
    let matrix = match weight {
        Value::Weight(weight) if weight.dtype().class() == Class::Float => Matrix::Weight(weight),
        Value::Tensor(tensor) => Matrix::Tensor(floats(tensor, "weight")?, *inner),
        Value::Weight(weight) => return Err(format!("`weight` is `{}`", weight.dtype())),
    };
    let mut out = with_rows(floats(&x, "x")?, rows, &matrix, call.rounded)?;
    if let Some(bias) = call.optional_tensor("bias")? {
        if bias.shape() != [*columns] {
            return Err(format!("`bias` has the shape `{:?}`; `{columns}` is right", bias.shape()));
        }
        let bias = floats(&bias, "bias")?;
        for row in out.chunks_mut((*columns).max(1)) {
            row.iter_mut().zip(bias).for_each(|(out, bias)| *out += bias);
        }
    }
    Ok(vec![Tensor::new(x.dtype(), shape, out.into())?])
}

pub(super) fn matmul(call: &Call) -> Result<Vec<Tensor>, String> {
    let (transpose_x, transpose_y) = (call.flag("transpose_x")?, call.flag("transpose_y")?);
    let x = call.tensor("x")?;
    if let (Value::Weight(weight), [outer @ .., last]) = (call.value("y")?, x.shape())
        && !transpose_x
        && !outer.is_empty()
        && weight.dtype().class() == Class::Float
        && let [first, second] = weight.shape()
    {
        let (inner, columns) = if transpose_y { (second, first) } else { (first, second) };
        if last != inner {
            return Err(format!("it does not take `{:?}` and `{:?}`", x.shape(), weight.shape()));
        }
        let shape = [outer, &[*columns]].concat();
        sized(&shape)?;
        let rows: usize = outer.iter().product();
        let values = floats(&x, "x")?;
        let out = if transpose_y {
            with_rows(values, rows, &Matrix::Weight(weight), call.rounded)?
        } else {
            with_columns(values, rows, weight, call.rounded)?
        };
        return Ok(vec![Tensor::new(x.dtype(), shape, out.into())?]);
    }
    let y = call.tensor("y")?;
    let (shape, values) =
        product((x.shape(), floats(&x, "x")?), (y.shape(), floats(&y, "y")?), transpose_x, transpose_y)?;
    Ok(vec![Tensor::new(x.dtype(), shape, values.into())?])
}

/// The product of stacks of matrices, broadcast against each other.
fn product(
    (x_shape, x): (&[usize], &[f32]),
    (y_shape, y): (&[usize], &[f32]),
    transpose_x: bool,
    transpose_y: bool,
) -> Result<(Vec<usize>, Vec<f32>), String> {
    let wrong = || format!("it does not take `{x_shape:?}` and `{y_shape:?}`");
    // A vector is a row on the left and a column on the right, and its 1 is not in the result.
    let (x_vector, y_vector) = (x_shape.len() == 1, y_shape.len() == 1);
    let x_full = if x_vector { vec![1, x_shape[0]] } else { x_shape.to_vec() };
    let y_full = if y_vector { vec![y_shape[0], 1] } else { y_shape.to_vec() };
    let ([x_batch @ .., x_rows, x_columns], [y_batch @ .., y_rows, y_columns]) = (&x_full[..], &y_full[..]) else {
        return Err(wrong());
    };
    let (rows, inner, x_stride, x_step) =
        if transpose_x { (*x_columns, *x_rows, 1, *x_columns) } else { (*x_rows, *x_columns, *x_columns, 1) };
    let (columns, y_inner, y_stride, y_step) =
        if transpose_y { (*y_rows, *y_columns, *y_columns, 1) } else { (*y_columns, *y_rows, 1, *y_columns) };
    if inner != y_inner {
        return Err(wrong());
    }
    let batch = broadcast_shape(x_batch, y_batch)?;
    let mut shape = batch.clone();
    shape.extend([rows, columns]);
    let count = sized(&shape)?;
    // Which matrices are multiplied with which.
    let numbers = |of: &[usize]| (0..of.iter().product::<usize>()).collect::<Vec<_>>();
    let (_, pairs) = zip((x_batch, &numbers(x_batch)), (y_batch, &numbers(y_batch)), |x, y| (x, y))?;
    let (x_size, y_size) = (x_rows * x_columns, y_rows * y_columns);
    let parts = parallel(pairs.len(), count * inner, |index| {
        let (x_index, y_index) = pairs[index];
        let left = Left::new(&x[x_index * x_size..][..x_size], rows, inner, x_stride, x_step);
        let right = Right::new(&y[y_index * y_size..][..y_size], columns, inner, y_stride, y_step);
        let mut part = vec![0.0; rows * columns];
        multiply(&left, &right, &mut part, columns);
        Ok(part)
    })?;
    if y_vector {
        shape.pop();
    }
    if x_vector {
        shape.remove(batch.len());
    }
    Ok((shape, parts.concat()))
}

/// Only what a linear layer in the layout of the Neural Engine is: `[B, C, 1, S]` with a kernel of one pixel.
pub(super) fn convolution(call: &Call) -> Result<Vec<Tensor>, String> {
    let x = call.tensor("x")?;
    let weight = call.value("weight")?;
    let ([batch, channels, pixels @ ..], [columns, inner, kernel @ ..]) = (x.shape(), weight.shape()) else {
        return Err(format!("it does not take `{:?}` and `{:?}`", x.shape(), weight.shape()));
    };
    let plain = |name: &str, value: i64| -> Result<bool, String> {
        Ok(call.optional_integers(name)?.is_none_or(|values| values.iter().all(|found| *found == value)))
    };
    if kernel.iter().any(|size| *size != 1)
        || kernel.len() != pixels.len()
        || !plain("strides", 1)?
        || !plain("pad", 0)?
        || call.integer("groups", 1)? != 1
    {
        return Err("only kernels of one pixel, without strides, padding and groups, are known".to_owned());
    }
    if channels != inner {
        return Err(format!("`x` has `{channels}` channels; `weight` takes `{inner}`"));
    }
    let shape = [&[*batch, *columns], pixels].concat();
    sized(&shape)?;
    let pixels: usize = pixels.iter().product();
    let values = floats(&x, "x")?;
    let matrix = match weight {
        Value::Weight(weight) if weight.dtype().class() == Class::Float => Matrix::Weight(weight),
        Value::Tensor(tensor) => Matrix::Tensor(floats(tensor, "weight")?, *inner),
        Value::Weight(weight) => return Err(format!("`weight` is `{}`", weight.dtype())),
    };
    let bias = call.optional_tensor("bias")?;
    let bias = bias.as_ref().map(|bias| floats(bias, "bias")).transpose()?;
    if bias.is_some_and(|bias| bias.len() != *columns) {
        return Err(format!("`bias` has not `{columns}` numbers"));
    }
    let mut out = Vec::with_capacity(batch * columns * pixels);
    for image in values.chunks((channels * pixels).max(1)) {
        // Pixels are the rows of the product; channels go back in front afterwards.
        let mut rows = Vec::with_capacity(image.len());
        for pixel in 0..pixels {
            rows.extend((0..*channels).map(|channel| image[channel * pixels + pixel]));
        }
        let product = with_rows(&rows, pixels, &matrix, call.rounded)?;
        for column in 0..*columns {
            let bias = bias.map_or(0.0, |bias| bias[column]);
            out.extend((0..pixels).map(|pixel| product[pixel * columns + column] + bias));
        }
    }
    Ok(vec![Tensor::new(x.dtype(), shape, out.into())?])
}

pub(super) fn attention(call: &Call) -> Result<Vec<Tensor>, String> {
    let (query, key, value) = (call.tensor("query")?, call.tensor("key")?, call.tensor("value")?);
    let [_, .., width] = *query.shape() else { return Err(format!("`query` has the shape `{:?}`", query.shape())) };
    if key.shape().len() != query.shape().len() || value.shape().len() != query.shape().len() {
        return Err("its inputs are of different ranks".to_owned());
    }
    let (shape, mut scores) =
        product((query.shape(), floats(&query, "query")?), (key.shape(), floats(&key, "key")?), false, true)?;
    let scale = 1.0 / (width as f32).sqrt();
    for score in &mut scores {
        *score *= scale;
    }
    if let Some(mask) = call.optional_tensor("attn_mask")? {
        let masked = match (mask.bools(), mask.floats()) {
            (Some(mask_values), _) => {
                zip(
                    (&shape, &scores),
                    (mask.shape(), mask_values),
                    |score, seen| if seen { score } else { f32::NEG_INFINITY },
                )
            }
            (_, Some(mask_values)) => zip((&shape, &scores), (mask.shape(), mask_values), |score, mask| score + mask),
            _ => Err(format!("`attn_mask` is `{}`", mask.dtype())),
        }?;
        if masked.0 != shape {
            return Err(format!("`attn_mask` has the shape `{:?}`; the scores have `{shape:?}`", mask.shape()));
        }
        scores = masked.1;
    }
    let weights = softmax_of((&shape, &scores), shape.len() - 1)?;
    let (shape, values) = product((&shape, &weights), (value.shape(), floats(&value, "value")?), false, false)?;
    Ok(vec![Tensor::new(query.dtype(), shape, values.into())?])
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::super::testing::{call, call_values, close, flag, floats, ints, one};
    use super::*;
    use crate::weight::Source;

    fn weight(shape: &[usize], values: &[f32]) -> Value {
        Value::Weight(Arc::new(Weight::plain(Source::Tensor(floats(shape, values)))))
    }

    fn numbers(count: usize, seed: usize) -> Vec<f32> {
        (0..count).map(|index| ((index * 37 + seed * 11) % 17) as f32 - 8.0).collect()
    }

    #[test]
    fn vectors_and_stacks_are_multiplied_as_numpy_does() {
        let x = floats(&[2, 1, 2], &[1.0, 2.0, 3.0, 4.0]);
        let y = floats(&[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        close(&one("matmul", &[("x", x.clone()), ("y", y.clone())]), &[2, 1, 3], &[9.0, 12.0, 15.0, 19.0, 26.0, 33.0]);
        close(&one("matmul", &[("x", floats(&[2], &[1.0, 1.0])), ("y", y.clone())]), &[3], &[5.0, 7.0, 9.0]);
        close(&one("matmul", &[("x", x.clone()), ("y", floats(&[2], &[1.0, 1.0]))]), &[2, 1], &[3.0, 7.0]);
        let transposed = [("x", y.clone()), ("y", y), ("transpose_x", flag(true)), ("transpose_y", flag(false))];
        close(&one("matmul", &transposed), &[3, 3], &[17.0, 22.0, 27.0, 22.0, 29.0, 36.0, 27.0, 36.0, 45.0]);
        assert!(call("matmul", &[("x", x.clone()), ("y", x)]).is_err());
    }

    #[test]
    fn a_weight_is_multiplied_as_a_tensor_is() {
        let (rows, inner, columns) = (5, 19, 300);
        let x = floats(&[rows, inner], &numbers(rows * inner, 1));
        let values = numbers(columns * inner, 2);
        let (as_rows, as_columns) = (floats(&[columns, inner], &values), floats(&[inner, columns], &values));
        let expected = one("matmul", &[("x", x.clone()), ("y", as_rows.clone()), ("transpose_y", flag(true))]);
        let linear =
            call_values("linear", &[("x", Value::Tensor(x.clone())), ("weight", weight(&[columns, inner], &values))]);
        assert_eq!(linear.expect("a product")[0].floats(), expected.floats());
        let linear = one("linear", &[("x", x.clone()), ("weight", as_rows)]);
        assert_eq!(linear.floats(), expected.floats());
        let expected = one("matmul", &[("x", x.clone()), ("y", as_columns)]);
        let found = call_values("matmul", &[("x", Value::Tensor(x)), ("y", weight(&[inner, columns], &values))]);
        assert_eq!(found.expect("a product")[0].floats(), expected.floats());
    }

    #[test]
    fn a_convolution_of_one_pixel_is_a_linear_layer_in_another_layout() {
        let x = floats(&[1, 2, 1, 3], &[1.0, 2.0, 3.0, 10.0, 20.0, 30.0]);
        let inputs = [
            ("x", x.clone()),
            ("weight", floats(&[2, 2, 1, 1], &[1.0, 0.0, 1.0, 1.0])),
            ("bias", floats(&[2], &[0.0, 0.5])),
        ];
        close(&one("conv", &inputs), &[1, 2, 1, 3], &[1.0, 2.0, 3.0, 11.5, 22.5, 33.5]);
        let wide = [("x", x.clone()), ("weight", floats(&[2, 2, 1, 3], &[0.0; 12]))];
        assert!(call("conv", &wide).is_err());
        let padded = [("x", x), ("weight", floats(&[1, 2, 1, 1], &[0.0; 2])), ("pad", ints(&[4], &[1, 1, 1, 1]))];
        assert!(call("conv", &padded).is_err());
    }

    #[test]
    fn attention_is_its_definition() {
        let query = floats(&[1, 1, 4], &[2.0, 0.0, 0.0, 0.0]);
        let key = floats(&[1, 2, 4], &[1.0, 0.0, 0.0, 0.0, 3.0, 0.0, 0.0, 0.0]);
        let value = floats(&[1, 2, 1], &[1.0, 2.0]);
        let inputs = [("query", query), ("key", key), ("value", value)];
        let second = 1.0 / (1.0 + (-2.0_f32).exp());
        close(&one("scaled_dot_product_attention", &inputs), &[1, 1, 1], &[1.0 + second]);
        let masked = [&inputs[..], &[("attn_mask", floats(&[1, 2], &[0.0, f32::NEG_INFINITY]))]].concat();
        close(&one("scaled_dot_product_attention", &masked), &[1, 1, 1], &[1.0]);
    }

    proptest! {
        /// Against the definition: whole numbers, so that the order of additions does not matter.
        #[test]
        fn a_product_is_its_definition(
            rows in 1_usize..20, inner in 1_usize..20, columns in 1_usize..20, batch in 1_usize..4,
            transpose_x in any::<bool>(), transpose_y in any::<bool>(), shared in any::<bool>(),
        ) {
            let x = numbers(batch * rows * inner, 3);
            let y_batch = if shared { 1 } else { batch };
            let y = numbers(y_batch * inner * columns, 5);
            let x_shape = if transpose_x { [batch, inner, rows] } else { [batch, rows, inner] };
            let y_shape = if transpose_y { [y_batch, columns, inner] } else { [y_batch, inner, columns] };
            let (shape, found) = product((&x_shape, &x), (&y_shape, &y), transpose_x, transpose_y).expect("a product");
            prop_assert_eq!(shape, vec![batch, rows, columns]);
            for (index, found) in found.into_iter().enumerate() {
                let (stack, row, column) = (index / (rows * columns), index / columns % rows, index % columns);
                let x_at = |at| if transpose_x { at * rows + row } else { row * inner + at };
                let y_at = |at| if transpose_y { column * inner + at } else { at * columns + column };
                let y_stack = if shared { 0 } else { stack };
                let sum: f32 = (0..inner)
                    .map(|at| x[stack * rows * inner + x_at(at)] * y[y_stack * inner * columns + y_at(at)])
                    .sum();
                prop_assert!((found - sum).abs() < 0.5, "{found} instead of {sum}");
            }
        }
    }
}
