//! Operations that move elements and compute nothing: gather, concat, slices, shapes.

use super::{Call, sized};
use crate::constant::Value;
use crate::element::ElementType;
use crate::tensor::{Data, RANK, Tensor};
use crate::weight::{Weight, axis_of, strides};

/// `$body`, which makes a vector from the elements `$values` of whatever type, as the data of a tensor.
macro_rules! moved {
    ($data:expr, $values:ident => $body:expr) => {
        match $data {
            Data::Floats($values) => Data::from($body),
            Data::Ints($values) => Data::from($body),
            Data::Bools($values) => Data::from($body),
            Data::Texts(_) => return Err("it does not take texts".to_owned()),
        }
    };
}

fn one(like: &Tensor, shape: Vec<usize>, data: Data) -> Result<Vec<Tensor>, String> {
    Ok(vec![Tensor::new(like.dtype(), shape, data)?])
}

/// The sizes before, at and after an axis.
fn around(shape: &[usize], axis: usize) -> (usize, usize, usize) {
    (shape[..axis].iter().product(), shape[axis], shape[axis + 1..].iter().product())
}

/// An index that may count from the end.
fn index_of(index: i64, size: usize) -> Result<usize, String> {
    let from_start = if index < 0 { index.saturating_add(size as i64) } else { index };
    usize::try_from(from_start)
        .ok()
        .filter(|found| *found < size)
        .ok_or_else(|| format!("the index `{index}` is outside the `{size}` that there are"))
}

pub(super) fn gather(call: &Call) -> Result<Vec<Tensor>, String> {
    let indices = call.tensor("indices")?;
    let list = indices.integers().ok_or_else(|| format!("`indices` are `{}`", indices.dtype()))?;
    let x = call.value("x")?;
    let axis = axis_of(call.integer("axis", 0)?, x.shape().len())?;
    let batch = usize::try_from(call.integer("batch_dims", 0)?).map_err(|_| "`batch_dims` is negative")?;
    let of = x.shape().to_vec();
    if batch > axis || batch > indices.shape().len() || of[..batch] != indices.shape()[..batch] {
        return Err(format!("`batch_dims` `{batch}` do not suit `{of:?}` and `{:?}`", indices.shape()));
    }
    let shape = [&of[..axis], &indices.shape()[batch..], &of[axis + 1..]].concat();
    let count = sized(&shape)?;
    if let (Value::Weight(weight), 0) = (x, axis) {
        return gather_rows(weight, list, shape, count, call.rounded);
    }
    let x = call.tensor("x")?;
    let (_, size, inner) = around(&of, axis);
    let outer: usize = of[batch..axis].iter().product();
    let batches: usize = of[..batch].iter().product();
    let list = list.iter().map(|index| index_of(*index, size)).collect::<Result<Vec<_>, _>>()?;
    let per_batch = list.len().checked_div(batches).unwrap_or(0);
    let data = moved!(x.data(), values => {
        let mut moved = Vec::with_capacity(count);
        for batch in 0..batches {
            for outer in batch * outer..(batch + 1) * outer {
                for index in &list[batch * per_batch..][..per_batch] {
                    moved.extend_from_slice(&values[(outer * size + index) * inner..][..inner]);
                }
            }
        }
        moved
    });
    one(&x, shape, data)
}

/// Reads only the rows that are asked for: the table of a vocabulary is the largest weight of many models.
fn gather_rows(
    weight: &Weight,
    indices: &[i64],
    shape: Vec<usize>,
    count: usize,
    rounded: bool,
) -> Result<Vec<Tensor>, String> {
    let (rows, width) = weight.extent();
    let mut numbers = vec![0.0; count];
    for (index, row) in indices.iter().zip(numbers.chunks_mut(width.max(1))) {
        weight.read(index_of(*index, rows)?, row, rounded)?;
    }
    if weight.dtype().class() == crate::element::Class::Float {
        return Ok(vec![Tensor::new(weight.dtype(), shape, numbers.into())?]);
    }
    let numbers: Vec<i64> = numbers.into_iter().map(|number| number as i64).collect();
    Ok(vec![Tensor::new(weight.dtype(), shape, numbers.into())?])
}

fn transposed<T: Copy>(values: &[T], shape: &[usize], order: &[usize]) -> Vec<T> {
    let own = strides(shape);
    let to: Vec<usize> = order.iter().map(|axis| shape[*axis]).collect();
    let from: Vec<usize> = order.iter().map(|axis| own[*axis]).collect();
    let mut moved = Vec::with_capacity(values.len());
    if values.is_empty() {
        return moved;
    }
    let Some((last, outer)) = to.split_last() else { return values.to_vec() };
    let step = from[outer.len()];
    let mut index = vec![0; outer.len()];
    let mut start = 0;
    loop {
        if step == 1 {
            moved.extend_from_slice(&values[start..start + last]);
        } else {
            moved.extend((0..*last).map(|at| values[start + at * step]));
        }
        let mut dimension = outer.len();
        loop {
            let Some(next) = dimension.checked_sub(1) else { return moved };
            dimension = next;
            index[dimension] += 1;
            start += from[dimension];
            if index[dimension] < outer[dimension] {
                break;
            }
            start -= from[dimension] * outer[dimension];
            index[dimension] = 0;
        }
    }
}

pub(super) fn transpose(call: &Call) -> Result<Vec<Tensor>, String> {
    let x = call.tensor("x")?;
    let rank = x.shape().len();
    let order = call.integers("perm")?.into_iter().map(|axis| axis_of(axis, rank)).collect::<Result<Vec<_>, _>>()?;
    let mut sorted = order.clone();
    sorted.sort_unstable();
    if sorted.iter().copied().ne(0..rank) {
        return Err(format!("`perm` `{order:?}` is no order of `{rank}` axes"));
    }
    let data = moved!(x.data(), values => transposed(values, x.shape(), &order));
    let shape = order.iter().map(|axis| x.shape()[*axis]).collect();
    one(&x, shape, data)
}

pub(super) fn concat(call: &Call) -> Result<Vec<Tensor>, String> {
    if call.flag("interleave")? {
        return Err("`interleave` is not known".to_owned());
    }
    let values = call.list("values")?;
    let first = values.first().ok_or("it has no `values`")?;
    let axis = axis_of(call.integer("axis", 0)?, first.shape().len())?;
    let mut shape = first.shape().to_vec();
    for value in &values[1..] {
        let same = value.shape().len() == shape.len()
            && (0..shape.len()).all(|index| index == axis || value.shape()[index] == shape[index]);
        if !same {
            return Err(format!("the shapes `{:?}` and `{:?}` do not go together", first.shape(), value.shape()));
        }
        shape[axis] = shape[axis].saturating_add(value.shape()[axis]);
    }
    joined(&values, axis, shape)
}

pub(super) fn stack(call: &Call) -> Result<Vec<Tensor>, String> {
    let values = call.list("values")?;
    let first = values.first().ok_or("it has no `values`")?;
    let axis = axis_of(call.integer("axis", 0)?, first.shape().len() + 1)?;
    if values.iter().any(|value| value.shape() != first.shape()) {
        return Err("its `values` are of several shapes".to_owned());
    }
    let mut shape = first.shape().to_vec();
    shape.insert(axis, 1);
    let values = values.iter().map(|value| value.reshaped(shape.clone())).collect::<Result<Vec<_>, _>>()?;
    shape[axis] = values.len();
    joined(&values, axis, shape)
}

fn joined(values: &[Tensor], axis: usize, shape: Vec<usize>) -> Result<Vec<Tensor>, String> {
    let count = sized(&shape)?;
    let outer: usize = shape[..axis].iter().product();
    let first = &values[0];
    macro_rules! join {
        ($elements:ident) => {{
            let parts: Option<Vec<_>> = values.iter().map(Tensor::$elements).collect();
            let parts = parts.ok_or("its `values` are of several types")?;
            let mut moved = Vec::with_capacity(count);
            for outer_index in 0..outer {
                for part in &parts {
                    let width = part.len() / outer;
                    moved.extend_from_slice(&part[outer_index * width..][..width]);
                }
            }
            Data::from(moved)
        }};
    }
    let data = match first.data() {
        Data::Floats(_) => join!(floats),
        Data::Ints(_) => join!(integers),
        Data::Bools(_) => join!(bools),
        Data::Texts(_) => return Err("it does not take texts".to_owned()),
    };
    one(first, shape, data)
}

pub(super) fn split(call: &Call) -> Result<Vec<Tensor>, String> {
    let x = call.tensor("x")?;
    let axis = axis_of(call.integer("axis", 0)?, x.shape().len())?;
    let (outer, size, inner) = around(x.shape(), axis);
    let sizes = if let Some(sizes) = call.optional_integers("split_sizes")? {
        sizes.into_iter().map(|size| usize::try_from(size).unwrap_or(usize::MAX)).collect()
    } else {
        let parts = usize::try_from(call.integer("num_splits", 0)?).unwrap_or(0);
        if parts == 0 || parts > size || !size.is_multiple_of(parts) {
            return Err(format!("`{size}` are not split into `{parts}` equal parts"));
        }
        vec![size / parts; parts]
    };
    if sizes.iter().try_fold(0_usize, |sum, size| sum.checked_add(*size)) != Some(size) {
        return Err(format!("`{size}` are not split into `{sizes:?}`"));
    }
    let mut parts = Vec::new();
    let mut from = 0;
    for part in sizes {
        let mut shape = x.shape().to_vec();
        shape[axis] = part;
        let data = moved!(x.data(), values => {
            let mut moved = Vec::with_capacity(outer * part * inner);
            for outer in 0..outer {
                moved.extend_from_slice(&values[(outer * size + from) * inner..][..part * inner]);
            }
            moved
        });
        parts.push(Tensor::new(x.dtype(), shape, data)?);
        from += part;
    }
    Ok(parts)
}

pub(super) fn tile(call: &Call) -> Result<Vec<Tensor>, String> {
    let mut x = call.tensor("x")?;
    let repeats = call.integers("reps")?;
    if repeats.len() != x.shape().len() {
        return Err(format!("`reps` `{repeats:?}` do not suit the shape `{:?}`", x.shape()));
    }
    // From the last axis on, so that each step copies long runs.
    for (axis, repeats) in repeats.into_iter().enumerate().rev() {
        let repeats = usize::try_from(repeats).map_err(|_| "`reps` has a negative number")?;
        if repeats == 1 {
            continue;
        }
        let mut shape = x.shape().to_vec();
        shape[axis] = shape[axis].saturating_mul(repeats);
        let count = sized(&shape)?;
        let (_, size, inner) = around(x.shape(), axis);
        let data = moved!(x.data(), values => {
            let mut moved = Vec::with_capacity(count);
            for run in values.chunks((size * inner).max(1)) {
                (0..repeats).for_each(|_| moved.extend_from_slice(run));
            }
            moved
        });
        x = Tensor::new(x.dtype(), shape, data)?;
    }
    Ok(vec![x])
}

/// The dimensions that `reshape` makes: `-1` stands for what is left, 0 for the dimension of the input in its place if the
/// rank stays the same. Flexible dimensions are `None`.
pub(crate) fn reshape_dimensions(from: &[Option<usize>], asked: &[i64]) -> Result<Vec<Option<usize>>, String> {
    let keeps = asked.len() == from.len();
    let mut shape = Vec::with_capacity(asked.len());
    let mut open = None;
    for (index, size) in asked.iter().enumerate() {
        match size {
            -1 if open.replace(index).is_some() => return Err(format!("the shape `{asked:?}` has -1 twice")),
            -1 => shape.push(Some(1)),
            0 if keeps => shape.push(from[index]),
            size => shape.push(Some(usize::try_from(*size).map_err(|_| format!("no shape has the size `{size}`"))?)),
        }
    }
    let product = |shape: &[Option<usize>]| {
        shape.iter().try_fold(1_usize, |product, size| size.and_then(|size| product.checked_mul(size)))
    };
    let (Some(count), Some(rest)) = (product(from), product(&shape)) else {
        if let Some(index) = open {
            shape[index] = None;
        }
        return Ok(shape);
    };
    match open {
        Some(index) if rest != 0 && count.is_multiple_of(rest) => shape[index] = Some(count / rest),
        None if rest == count => {}
        _ => return Err(format!("`{count}` elements do not make the shape `{asked:?}`")),
    }
    Ok(shape)
}

pub(super) fn reshape(call: &Call) -> Result<Vec<Tensor>, String> {
    let x = call.tensor("x")?;
    let from: Vec<Option<usize>> = x.shape().iter().copied().map(Some).collect();
    let shape: Option<Vec<usize>> = reshape_dimensions(&from, &call.integers("shape")?)?.into_iter().collect();
    Ok(vec![x.reshaped(shape.ok_or("its shape is not known")?)?])
}

pub(super) fn expand_dims(call: &Call) -> Result<Vec<Tensor>, String> {
    let x = call.tensor("x")?;
    let axes = call.integers("axes")?;
    let rank = x.shape().len() + axes.len();
    if rank > RANK {
        return Err(format!("a shape of `{rank}` dimensions is not known"));
    }
    let mut axes = axes.into_iter().map(|axis| axis_of(axis, rank)).collect::<Result<Vec<_>, _>>()?;
    axes.sort_unstable();
    let mut shape = x.shape().to_vec();
    for axis in axes {
        if axis > shape.len() {
            return Err("`axes` has an axis twice".to_owned());
        }
        shape.insert(axis, 1);
    }
    Ok(vec![x.reshaped(shape)?])
}

pub(super) fn squeeze(call: &Call) -> Result<Vec<Tensor>, String> {
    let x = call.tensor("x")?;
    let mut dropped: Vec<bool> = x.shape().iter().map(|size| *size == 1).collect();
    if let Some(axes) = call.optional_integers("axes")? {
        let mut chosen = vec![false; dropped.len()];
        for axis in axes {
            let axis = axis_of(axis, dropped.len())?;
            if !dropped[axis] {
                return Err(format!("the axis `{axis}` of `{:?}` is not 1", x.shape()));
            }
            chosen[axis] = true;
        }
        dropped = chosen;
    }
    let shape = x.shape().iter().zip(dropped).filter(|(_, dropped)| !dropped).map(|(size, _)| *size).collect();
    Ok(vec![x.reshaped(shape)?])
}

pub(super) fn shape(call: &Call) -> Result<Vec<Tensor>, String> {
    let x = call.value("x")?;
    let sizes: Vec<i64> = x.shape().iter().map(|size| *size as i64).collect();
    Ok(vec![Tensor::new(ElementType::Int32, vec![sizes.len()], sizes.into())?])
}

/// What a slice takes of one axis.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Slice {
    begin: usize,
    step: i64,
    pub(crate) count: usize,
    /// Does the axis go away?
    pub(crate) squeezed: bool,
}

/// The parameters of `slice_by_index`.
#[derive(Debug, Default)]
pub(crate) struct Slices {
    pub(crate) begin: Vec<i64>,
    pub(crate) end: Vec<i64>,
    pub(crate) stride: Option<Vec<i64>>,
    pub(crate) begin_mask: Option<Vec<bool>>,
    pub(crate) end_mask: Option<Vec<bool>>,
    pub(crate) squeeze_mask: Option<Vec<bool>>,
}

impl Slices {
    /// Are there as many of each as axes?
    pub(crate) fn check(&self, rank: usize) -> Result<(), String> {
        let masks = [&self.begin_mask, &self.end_mask, &self.squeeze_mask];
        let right = self.begin.len() == rank
            && self.end.len() == rank
            && self.stride.as_ref().is_none_or(|stride| stride.len() == rank)
            && masks.iter().all(|mask| mask.as_ref().is_none_or(|mask| mask.len() == rank));
        if right { Ok(()) } else { Err(format!("its parameters are not made for `{rank}` axes")) }
    }

    /// What is taken of the axis, which has `size` indices, as in Python.
    pub(crate) fn of(&self, axis: usize, size: usize) -> Result<Slice, String> {
        let set = |mask: &Option<Vec<bool>>| mask.as_ref().is_some_and(|mask| mask[axis]);
        let length = size as i64;
        let from_start = |index: i64| if index < 0 { index.saturating_add(length) } else { index };
        if set(&self.squeeze_mask) {
            let begin = index_of(self.begin[axis], size)?;
            return Ok(Slice { begin, step: 1, count: 1, squeezed: true });
        }
        let step = self.stride.as_ref().map_or(1, |stride| stride[axis]);
        if step == 0 {
            return Err("it has a `stride` of 0".to_owned());
        }
        let (least, most) = if step > 0 { (0, length) } else { (-1, length - 1) };
        let default = |first: bool| if first == (step > 0) { least } else { most };
        let bound = |masked, index: i64, first| {
            if masked { default(first) } else { from_start(index).clamp(least, most.max(least)) }
        };
        let begin = bound(set(&self.begin_mask), self.begin[axis], true);
        let end = bound(set(&self.end_mask), self.end[axis], false);
        let span = if step > 0 { end - begin } else { begin - end };
        let count = if span > 0 { (span.cast_unsigned()).div_ceil(step.unsigned_abs()) as usize } else { 0 };
        Ok(Slice { begin: usize::try_from(begin).unwrap_or(0), step, count, squeezed: false })
    }
}

fn sliced<T: Copy>(values: &[T], shape: &[usize], slices: &[Slice]) -> Vec<T> {
    let Some(axis) = (0..shape.len()).find(|axis| slices[*axis].count != shape[*axis] || slices[*axis].step != 1)
    else {
        return values.to_vec();
    };
    // One axis after the other: rarely is more than one cut.
    let (outer, size, inner) = around(shape, axis);
    let slice = slices[axis];
    let mut moved = Vec::with_capacity(outer * slice.count * inner);
    for outer in 0..outer {
        for index in 0..slice.count {
            let at = (slice.begin as i64 + index as i64 * slice.step) as usize;
            moved.extend_from_slice(&values[(outer * size + at) * inner..][..inner]);
        }
    }
    let mut shape = shape.to_vec();
    shape[axis] = slice.count;
    let mut slices = slices.to_vec();
    slices[axis] = Slice { begin: 0, step: 1, count: slice.count, squeezed: slice.squeezed };
    sliced(&moved, &shape, &slices)
}

fn take(x: &Tensor, slices: &[Slice]) -> Result<Vec<Tensor>, String> {
    let data = moved!(x.data(), values => sliced(values, x.shape(), slices));
    let shape = slices.iter().filter(|slice| !slice.squeezed).map(|slice| slice.count).collect();
    one(x, shape, data)
}

pub(super) fn slice_by_index(call: &Call) -> Result<Vec<Tensor>, String> {
    let x = call.tensor("x")?;
    let slices = Slices {
        begin: call.integers("begin")?,
        end: call.integers("end")?,
        stride: call.optional_integers("stride")?,
        begin_mask: call.optional_flags("begin_mask")?,
        end_mask: call.optional_flags("end_mask")?,
        squeeze_mask: call.optional_flags("squeeze_mask")?,
    };
    slices.check(x.shape().len())?;
    let slices =
        x.shape().iter().enumerate().map(|(axis, size)| slices.of(axis, *size)).collect::<Result<Vec<_>, _>>()?;
    take(&x, &slices)
}

pub(super) fn slice_by_size(call: &Call) -> Result<Vec<Tensor>, String> {
    let x = call.tensor("x")?;
    let (begin, sizes) = (call.integers("begin")?, call.integers("size")?);
    if begin.len() != x.shape().len() || sizes.len() != begin.len() {
        return Err(format!("its parameters are not made for `{}` axes", x.shape().len()));
    }
    let slices = begin.iter().zip(sizes).zip(x.shape()).map(|((begin, size), length)| {
        let from = if *begin < 0 { begin.saturating_add(*length as i64) } else { *begin };
        let from = usize::try_from(from).ok().filter(|from| from <= length);
        let from = from.ok_or_else(|| format!("`begin` `{begin}` is outside the `{length}` that there are"))?;
        let count = if size == -1 { length - from } else { usize::try_from(size).unwrap_or(usize::MAX) };
        if count > length - from {
            return Err(format!("`size` `{size}` from `{from}` on is more than the `{length}` that there are"));
        }
        Ok(Slice { begin: from, step: 1, count, squeezed: false })
    });
    take(&x, &slices.collect::<Result<Vec<_>, _>>()?)
}

pub(super) fn fill(call: &Call) -> Result<Vec<Tensor>, String> {
    let shape = call.integers("shape")?;
    let shape: Vec<usize> = shape.into_iter().map(|size| usize::try_from(size).unwrap_or(usize::MAX)).collect();
    let count = sized(&shape)?;
    let value = call
        .optional_tensor("value")?
        .unwrap_or_else(|| Tensor::float32(&[], vec![0.0]).expect("one number is a scalar. This is a bug."));
    let data = moved!(value.data(), values => vec![*values.first().ok_or("`value` is empty")?; count]);
    one(&value, shape, data)
}

pub(super) fn range(call: &Call) -> Result<Vec<Tensor>, String> {
    let (start, end, step) = (call.tensor("start")?, call.tensor("end")?, call.tensor("step")?);
    let number = |tensor: &Tensor| match (tensor.integers(), tensor.floats()) {
        (Some([one]), _) => Ok(*one as f64),
        (_, Some([one])) => Ok(f64::from(*one)),
        _ => Err("a bound is not one number".to_owned()),
    };
    let (from, to, by) = (number(&start)?, number(&end)?, number(&step)?);
    let count = ((to - from) / by).ceil();
    if !count.is_finite() {
        return Err(format!("there is no end from `{from}` to `{to}` by `{by}`"));
    }
    let shape = vec![count.max(0.0) as usize];
    let values = (0..sized(&shape)?).map(|index| from + index as f64 * by);
    let data = if start.integers().is_some() {
        values.map(|value| value as i64).collect::<Vec<_>>().into()
    } else {
        values.map(|value| value as f32).collect::<Vec<_>>().into()
    };
    one(&start, shape, data)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::testing::{call, call_values, close, flags, floats, int, ints, one};
    use super::*;
    use crate::weight::Source;

    fn count_up(shape: &[usize]) -> Tensor {
        let count: usize = shape.iter().product();
        ints(shape, &(0..count as i32).collect::<Vec<_>>())
    }

    fn found(tensor: &Tensor) -> (Vec<usize>, Vec<i64>) {
        (tensor.shape().to_vec(), tensor.integers().expect("integers").to_vec())
    }

    #[test]
    fn rows_are_gathered_from_a_weight_and_a_tensor_alike() {
        let table = floats(&[3, 2], &[0.0, 1.0, 10.0, 11.0, 20.0, 21.0]);
        let weight = Value::Weight(Arc::new(Weight::plain(Source::Tensor(table.clone()))));
        let indices = ints(&[2, 1], &[2, -3]);
        for x in [Value::Tensor(table), weight] {
            let found = call_values("gather", &[("x", x.clone()), ("indices", Value::Tensor(indices.clone()))]);
            close(&found.expect("two rows")[0], &[2, 1, 2], &[20.0, 21.0, 0.0, 1.0]);
            assert!(call_values("gather", &[("x", x), ("indices", Value::Tensor(int(3)))]).is_err());
        }
    }

    #[test]
    fn gather_knows_axes_and_batches() {
        let x = count_up(&[2, 3, 2]);
        let along = one("gather", &[("x", x.clone()), ("indices", ints(&[2], &[2, 0])), ("axis", int(1))]);
        assert_eq!(found(&along), (vec![2, 2, 2], vec![4, 5, 0, 1, 10, 11, 6, 7]));
        let batched = one(
            "gather",
            &[("x", x.clone()), ("indices", ints(&[2, 1], &[2, 0])), ("axis", int(1)), ("batch_dims", int(1))],
        );
        assert_eq!(found(&batched), (vec![2, 1, 2], vec![4, 5, 6, 7]));
        let scalar = one("gather", &[("x", x), ("indices", int(1)), ("axis", int(-1))]);
        assert_eq!(found(&scalar), (vec![2, 3], vec![1, 3, 5, 7, 9, 11]));
    }

    #[test]
    fn axes_change_places() {
        let x = count_up(&[2, 1, 3]);
        let moved = one("transpose", &[("x", x.clone()), ("perm", ints(&[3], &[2, 1, 0]))]);
        assert_eq!(found(&moved), (vec![3, 1, 2], vec![0, 3, 1, 4, 2, 5]));
        let moved = one("transpose", &[("x", x.clone()), ("perm", ints(&[3], &[1, 0, -1]))]);
        assert_eq!(found(&moved), (vec![1, 2, 3], vec![0, 1, 2, 3, 4, 5]));
        assert!(call("transpose", &[("x", x), ("perm", ints(&[3], &[0, 0, 1]))]).is_err());
    }

    #[test]
    fn what_is_split_can_be_joined_again() {
        let x = count_up(&[2, 4]);
        let parts = call("split", &[("x", x.clone()), ("num_splits", int(2)), ("axis", int(1))]).expect("two parts");
        assert_eq!(found(&parts[1]), (vec![2, 2], vec![2, 3, 6, 7]));
        let inputs: Vec<(&str, Value)> = vec![
            ("values", Value::Tensor(parts[0].clone())),
            ("values", Value::Tensor(parts[1].clone())),
            ("axis", Value::Tensor(int(-1))),
        ];
        assert_eq!(call_values("concat", &inputs).expect("one")[0], x);
        let parts = call("split", &[("x", x.clone()), ("split_sizes", ints(&[2], &[1, 3])), ("axis", int(1))]);
        assert_eq!(found(&parts.expect("two parts")[0]), (vec![2, 1], vec![0, 4]));
        assert!(call("split", &[("x", x.clone()), ("num_splits", int(3)), ("axis", int(1))]).is_err());
        assert!(call("split", &[("x", x), ("split_sizes", ints(&[2], &[-1, 5])), ("axis", int(1))]).is_err());
    }

    #[test]
    fn tiles_repeat_along_each_axis_and_have_an_end() {
        let x = count_up(&[2, 2]);
        let tiled = one("tile", &[("x", x.clone()), ("reps", ints(&[2], &[2, 2]))]);
        assert_eq!(found(&tiled), (vec![4, 4], vec![0, 1, 0, 1, 2, 3, 2, 3, 0, 1, 0, 1, 2, 3, 2, 3]));
        assert!(call("tile", &[("x", x), ("reps", ints(&[2], &[1 << 20, 1 << 20]))]).is_err());
    }

    #[test]
    fn shapes_follow_the_rules_of_minus_one_and_zero() {
        let of = |from: &[usize], asked: &[i64]| {
            reshape_dimensions(&from.iter().copied().map(Some).collect::<Vec<_>>(), asked)
        };
        assert_eq!(of(&[2, 6], &[3, -1]), Ok(vec![Some(3), Some(4)]));
        assert_eq!(of(&[2, 6], &[0, -1]), Ok(vec![Some(2), Some(6)]));
        assert_eq!(of(&[2, 6], &[-1]), Ok(vec![Some(12)]));
        assert!(of(&[2, 6], &[-1, -1]).is_err());
        assert!(of(&[2, 6], &[5, -1]).is_err());
        assert!(of(&[2, 6], &[12, 2]).is_err());
        assert!(of(&[2, 6], &[-2, -6]).is_err());
        assert_eq!(
            reshape_dimensions(&[Some(1), None, Some(4)], &[1, -1, 2, 2]),
            Ok(vec![Some(1), None, Some(2), Some(2)])
        );
        assert_eq!(
            found(&one("squeeze", &[("x", count_up(&[1, 2, 1])), ("axes", int(0).reshaped(vec![1]).expect("one"))])).0,
            [2, 1]
        );
        let wider = one("expand_dims", &[("x", count_up(&[2])), ("axes", ints(&[2], &[0, -1]))]);
        assert_eq!(found(&wider).0, [1, 2, 1]);
    }

    #[test]
    fn slices_are_those_of_python() {
        let x = count_up(&[3, 4]);
        let slice = |begin: &[i32], end: &[i32], more: Vec<(&'static str, Tensor)>| {
            let mut inputs = vec![("x", x.clone()), ("begin", ints(&[2], begin)), ("end", ints(&[2], end))];
            inputs.extend(more);
            call("slice_by_index", &inputs).map(|parts| found(&parts[0]))
        };
        assert_eq!(slice(&[1, 1], &[3, -1], vec![]), Ok((vec![2, 2], vec![5, 6, 9, 10])));
        let reversed = slice(&[0, 3], &[1, 0], vec![("stride", ints(&[2], &[1, -2]))]);
        assert_eq!(reversed, Ok((vec![1, 2], vec![3, 1])));
        let open = slice(&[0, 3], &[1, 0], vec![("stride", ints(&[2], &[1, -1])), ("end_mask", flags(&[false, true]))]);
        assert_eq!(open, Ok((vec![1, 4], vec![3, 2, 1, 0])));
        let squeezed = slice(&[-1, 0], &[0, 2], vec![("squeeze_mask", flags(&[true, false]))]);
        assert_eq!(squeezed, Ok((vec![2], vec![8, 9])));
        assert_eq!(slice(&[2, 0], &[1, 9], vec![]), Ok((vec![0, 4], vec![])));
        assert!(slice(&[0, 0], &[1, 1], vec![("stride", ints(&[2], &[1, 0]))]).is_err());
        assert!(slice(&[5, 0], &[0, 1], vec![("squeeze_mask", flags(&[true, false]))]).is_err());
        let sized =
            one("slice_by_size", &[("x", x.clone()), ("begin", ints(&[2], &[1, -2])), ("size", ints(&[2], &[-1, 1]))]);
        assert_eq!(found(&sized), (vec![2, 1], vec![6, 10]));
        assert!(
            call("slice_by_size", &[("x", x), ("begin", ints(&[2], &[1, 0])), ("size", ints(&[2], &[3, 1]))]).is_err()
        );
    }
}
