//! The types that operations make from the types of their inputs, by rules of its own: what a program declares is compared
//! with this. Nothing is computed; a dimension that depends on an input's values is not known.

use std::collections::BTreeMap;

use crate::element::{Class, ElementType};
use crate::literal::TensorType;
use crate::operation::{Slices, reshape_dimensions};
use crate::tensor::Tensor;
use crate::weight::axis_of;

type Dimension = Option<usize>;

/// An input: its type, and what it holds if that is a small constant.
#[derive(Clone, Debug)]
pub(crate) struct Operand {
    pub(crate) tensor_type: TensorType,
    pub(crate) constant: Option<Tensor>,
}

/// The inputs of an operation by name.
pub(crate) struct Operands(pub(crate) BTreeMap<String, Vec<Operand>>);

/// A parameter's values: absent, not known before running, or these.
enum Known<T> {
    Absent,
    Unknown,
    Values(Vec<T>),
}

impl Operands {
    fn optional(&self, name: &str) -> Result<Option<&Operand>, String> {
        match self.0.get(name).map(Vec::as_slice) {
            None => Ok(None),
            Some([one]) => Ok(Some(one)),
            Some(many) => Err(format!("`{name}` is bound to `{}` values", many.len())),
        }
    }

    fn one(&self, name: &str) -> Result<&TensorType, String> {
        Ok(&self.optional(name)?.ok_or_else(|| format!("it has no `{name}`"))?.tensor_type)
    }

    fn integers(&self, name: &str) -> Result<Known<i64>, String> {
        let Some(operand) = self.optional(name)? else { return Ok(Known::Absent) };
        if operand.tensor_type.dtype.class() != Class::Int {
            return Err(format!("`{name}` is `{}`, where integers are right", operand.tensor_type));
        }
        let values = operand.constant.as_ref().and_then(Tensor::integers);
        Ok(values.map_or(Known::Unknown, |values| Known::Values(values.to_vec())))
    }

    /// One integer, or `default`; `None`: not known before running.
    fn integer(&self, name: &str, default: i64) -> Result<Option<i64>, String> {
        match self.integers(name)? {
            Known::Absent => Ok(Some(default)),
            Known::Unknown => Ok(None),
            Known::Values(values) if values.len() == 1 => Ok(Some(values[0])),
            Known::Values(_) => Err(format!("`{name}` is not one integer")),
        }
    }

    fn flags(&self, name: &str) -> Result<Known<bool>, String> {
        let Some(operand) = self.optional(name)? else { return Ok(Known::Absent) };
        if operand.tensor_type.dtype != ElementType::Bool {
            return Err(format!("`{name}` is `{}`, where booleans are right", operand.tensor_type));
        }
        let values = operand.constant.as_ref().and_then(Tensor::bools);
        Ok(values.map_or(Known::Unknown, |values| Known::Values(values.to_vec())))
    }

    fn flag(&self, name: &str) -> Result<Option<bool>, String> {
        match self.flags(name)? {
            Known::Absent => Ok(Some(false)),
            Known::Unknown => Ok(None),
            Known::Values(values) if values.len() == 1 => Ok(Some(values[0])),
            Known::Values(_) => Err(format!("`{name}` is not one boolean")),
        }
    }

    /// The shapes of two inputs that have to be of the same type.
    fn pair(&self, left: &str, right: &str) -> Result<(&TensorType, &TensorType), String> {
        let (x, y) = (self.one(left)?, self.one(right)?);
        if x.dtype != y.dtype {
            return Err(format!("`{left}` is `{x}` and `{right}` is `{y}`: their types differ"));
        }
        Ok((x, y))
    }

    /// Inputs that, where they are there, have to be of the type of `x`.
    fn same(&self, x: &TensorType, names: &[&str]) -> Result<(), String> {
        for name in names {
            if let Some(operand) = self.optional(name)?
                && operand.tensor_type.dtype != x.dtype
            {
                return Err(format!("`{name}` is `{}` and its type should be `{}`", operand.tensor_type, x.dtype));
            }
        }
        Ok(())
    }
}

fn float(tensor_type: &TensorType) -> Result<(), String> {
    if tensor_type.dtype.class() == Class::Float {
        return Ok(());
    }
    Err(format!("it does not take `{tensor_type}`"))
}

/// The shape of two shapes broadcast against each other. A dimension that is not known is taken to suit the other one.
fn broadcast(left: &[Dimension], right: &[Dimension]) -> Result<Vec<Dimension>, String> {
    let rank = left.len().max(right.len());
    let size = |shape: &[Dimension], index: usize| {
        (index + shape.len()).checked_sub(rank).map_or(Some(1), |index| shape[index])
    };
    let pairs = (0..rank).map(|index| match (size(left, index), size(right, index)) {
        (left, right) if left == right => Ok(left),
        (Some(1), size) | (size, Some(1)) => Ok(size),
        (Some(size), None) | (None, Some(size)) => Ok(Some(size)),
        _ => Err(format!("the shapes `{}` and `{}` do not go together", shown(left), shown(right))),
    });
    pairs.collect()
}

fn shown(shape: &[Dimension]) -> String {
    let sizes: Vec<String> = shape.iter().map(|size| size.map_or("?".to_owned(), |size| size.to_string())).collect();
    format!("[{}]", sizes.join(","))
}

/// Can two dimensions be the same?
fn agree(left: Dimension, right: Dimension) -> bool {
    left.is_none() || right.is_none() || left == right
}

/// Can two types be the same? Dimensions that are not known agree with any.
pub(crate) fn compatible(left: &TensorType, right: &TensorType) -> bool {
    left.dtype == right.dtype
        && left.shape.len() == right.shape.len()
        && left.shape.iter().zip(&right.shape).all(|(left, right)| agree(*left, *right))
}

/// The types of an operation's results; `None` if they depend on what is computed. An error says why the inputs do not go
/// together.
pub(crate) fn infer(kind: &str, operands: &Operands) -> Result<Option<Vec<TensorType>>, String> {
    let found = |dtype: ElementType, shape: Vec<Dimension>| Ok(Some(vec![TensorType { dtype, shape }]));
    match kind {
        "add" | "sub" | "mul" | "real_div" | "floor_div" | "mod" | "maximum" | "minimum" | "pow" => {
            let (x, y) = operands.pair("x", "y")?;
            if !matches!(x.dtype.class(), Class::Float | Class::Int) {
                return Err(format!("it does not take `{x}`"));
            }
            found(x.dtype, broadcast(&x.shape, &y.shape)?)
        }
        "equal" | "not_equal" | "less" | "less_equal" | "greater" | "greater_equal" => {
            let (x, y) = operands.pair("x", "y")?;
            found(ElementType::Bool, broadcast(&x.shape, &y.shape)?)
        }
        "logical_and" | "logical_or" | "logical_xor" | "logical_not" => {
            let x = operands.one("x")?;
            let y = operands.optional("y")?.map_or(x, |operand| &operand.tensor_type);
            if x.dtype != ElementType::Bool || y.dtype != ElementType::Bool {
                return Err(format!("it does not take `{x}` and `{y}`"));
            }
            found(ElementType::Bool, broadcast(&x.shape, &y.shape)?)
        }
        "abs" | "sign" | "relu" | "square" | "identity" | "cumsum" => {
            let x = operands.one("x")?;
            found(x.dtype, x.shape.clone())
        }
        "ceil" | "clip" | "cos" | "erf" | "exp" | "floor" | "gelu" | "inverse" | "log" | "round" | "rsqrt"
        | "sigmoid" | "silu" | "sin" | "softplus" | "sqrt" | "tanh" => {
            let x = operands.one("x")?;
            float(x)?;
            found(x.dtype, x.shape.clone())
        }
        "softmax" => {
            let x = operands.one("x")?;
            float(x)?;
            if let Some(axis) = operands.integer("axis", -1)? {
                axis_of(axis, x.shape.len())?;
            }
            found(x.dtype, x.shape.clone())
        }
        "cast" => {
            let x = operands.one("x")?;
            let name = operands.optional("dtype")?.and_then(|operand| operand.constant.as_ref());
            let name =
                name.and_then(Tensor::texts).and_then(|texts| texts.first()).ok_or("its `dtype` is not one text")?;
            let dtype = ElementType::from_name(name).ok_or_else(|| format!("there is no type `{name}`"))?;
            found(dtype, x.shape.clone())
        }
        "select" => {
            let condition = operands.one("cond")?;
            if condition.dtype != ElementType::Bool {
                return Err(format!("`cond` is `{condition}`"));
            }
            let (a, b) = operands.pair("a", "b")?;
            found(a.dtype, broadcast(&condition.shape, &broadcast(&a.shape, &b.shape)?)?)
        }
        "reduce_mean" | "reduce_sum" | "reduce_max" | "reduce_min" | "reduce_prod" | "reduce_sum_square"
        | "reduce_l1_norm" | "reduce_l2_norm" => {
            let x = operands.one("x")?;
            let Some(reduced) = axes(operands, x.shape.len())? else { return Ok(None) };
            let Some(keep) = operands.flag("keep_dims")? else { return Ok(None) };
            let sizes = x.shape.iter().zip(reduced);
            let shape = if keep {
                sizes.map(|(size, reduced)| if reduced { Some(1) } else { *size }).collect()
            } else {
                sizes.filter(|(_, reduced)| !reduced).map(|(size, _)| *size).collect()
            };
            found(x.dtype, shape)
        }
        "layer_norm" => {
            let x = operands.one("x")?;
            float(x)?;
            operands.same(x, &["gamma", "beta"])?;
            let Some(reduced) = axes(operands, x.shape.len())? else { return Ok(None) };
            let own: Vec<Dimension> =
                x.shape.iter().zip(reduced).filter(|(_, reduced)| *reduced).map(|(size, _)| *size).collect();
            for name in ["gamma", "beta"] {
                if let Some(weight) = operands.optional(name)?.map(|operand| &operand.tensor_type)
                    && (weight.shape.len() != own.len() || !weight.shape.iter().zip(&own).all(|(a, b)| agree(*a, *b)))
                {
                    return Err(format!("`{name}` is `{weight}`; the axes that are normalised have `{}`", shown(&own)));
                }
            }
            found(x.dtype, x.shape.clone())
        }
        "concat" | "stack" => joined(kind, operands),
        "expand_dims" => {
            let x = operands.one("x")?;
            let Known::Values(axes) = operands.integers("axes")? else { return Ok(None) };
            let rank = x.shape.len() + axes.len();
            let mut axes = axes.into_iter().map(|axis| axis_of(axis, rank)).collect::<Result<Vec<_>, _>>()?;
            axes.sort_unstable();
            let mut shape = x.shape.clone();
            for axis in axes {
                if axis > shape.len() {
                    return Err("`axes` has an axis twice".to_owned());
                }
                shape.insert(axis, Some(1));
            }
            found(x.dtype, shape)
        }
        "squeeze" => {
            let x = operands.one("x")?;
            let Known::Values(axes) = operands.integers("axes")? else { return Ok(None) };
            let mut dropped = vec![false; x.shape.len()];
            for axis in axes {
                let axis = axis_of(axis, x.shape.len())?;
                if !agree(x.shape[axis], Some(1)) {
                    return Err(format!("the axis `{axis}` of `{x}` is not 1"));
                }
                dropped[axis] = true;
            }
            let shape = x.shape.iter().zip(dropped).filter(|(_, dropped)| !dropped).map(|(size, _)| *size).collect();
            found(x.dtype, shape)
        }
        "fill" => {
            let dtype = operands.optional("value")?.map_or(ElementType::Float32, |operand| operand.tensor_type.dtype);
            let Known::Values(shape) = operands.integers("shape")? else { return Ok(None) };
            found(dtype, shape.into_iter().map(|size| usize::try_from(size).ok()).collect())
        }
        "gather" => gather(operands),
        "range_1d" => found(operands.one("start")?.dtype, vec![None]),
        "reshape" => {
            let x = operands.one("x")?;
            let Known::Values(shape) = operands.integers("shape")? else { return Ok(None) };
            found(x.dtype, reshape_dimensions(&x.shape, &shape)?)
        }
        "shape" => found(ElementType::Int32, vec![Some(operands.one("x")?.shape.len())]),
        "slice_by_index" => slice_by_index(operands),
        "slice_by_size" => {
            let x = operands.one("x")?;
            let Known::Values(size) = operands.integers("size")? else { return Ok(None) };
            if size.len() != x.shape.len() {
                return Err(format!("its `size` is not made for `{x}`"));
            }
            // What is left after a beginning that may be computed is not known.
            found(x.dtype, size.into_iter().map(|size| usize::try_from(size).ok()).collect())
        }
        "split" => split(operands),
        "tile" => {
            let x = operands.one("x")?;
            let Known::Values(repeats) = operands.integers("reps")? else { return Ok(None) };
            if repeats.len() != x.shape.len() {
                return Err(format!("its `reps` are not made for `{x}`"));
            }
            let sizes = x.shape.iter().zip(repeats);
            found(
                x.dtype,
                sizes
                    .map(|(size, repeats)| size.zip(usize::try_from(repeats).ok()).map(|(a, b)| a.saturating_mul(b)))
                    .collect(),
            )
        }
        "transpose" => {
            let x = operands.one("x")?;
            let Known::Values(order) = operands.integers("perm")? else { return Ok(None) };
            let order = order.into_iter().map(|axis| axis_of(axis, x.shape.len())).collect::<Result<Vec<_>, _>>()?;
            let mut sorted = order.clone();
            sorted.sort_unstable();
            if sorted.iter().copied().ne(0..x.shape.len()) {
                return Err(format!("`perm` `{order:?}` is no order of the axes of `{x}`"));
            }
            found(x.dtype, order.iter().map(|axis| x.shape[*axis]).collect())
        }
        "linear" => {
            let (x, weight) = operands.pair("x", "weight")?;
            float(x)?;
            operands.same(x, &["bias"])?;
            let ([outer @ .., last], [columns, inner]) = (x.shape.as_slice(), weight.shape.as_slice()) else {
                return Err(format!("it does not take `{x}` and `{weight}`"));
            };
            if !agree(*last, *inner) {
                return Err(format!("`x` is `{x}` and `weight` is `{weight}`: their last dimensions differ"));
            }
            vector(operands, "bias", *columns)?;
            found(x.dtype, [outer, &[*columns]].concat())
        }
        "matmul" => matmul(operands),
        "conv" => {
            let (x, weight) = operands.pair("x", "weight")?;
            operands.same(x, &["bias"])?;
            let ([batch, channels, pixels @ ..], [columns, inner, kernel @ ..]) =
                (x.shape.as_slice(), weight.shape.as_slice())
            else {
                return Err(format!("it does not take `{x}` and `{weight}`"));
            };
            vector(operands, "bias", *columns)?;
            let ones = |name: &str, value: i64| -> Result<bool, String> {
                Ok(match operands.integers(name)? {
                    Known::Absent => true,
                    Known::Unknown => false,
                    Known::Values(values) => values.iter().all(|found| *found == value),
                })
            };
            if operands.integer("groups", 1)? != Some(1) || kernel.iter().any(|size| *size != Some(1)) {
                return Ok(None);
            }
            if !agree(*channels, *inner) || kernel.len() != pixels.len() {
                return Err(format!("it does not take `{x}` and `{weight}`"));
            }
            if !ones("strides", 1)? || !ones("pad", 0)? {
                return Ok(None);
            }
            found(x.dtype, [&[*batch, *columns], pixels].concat())
        }
        "scaled_dot_product_attention" => {
            let (query, key) = operands.pair("query", "key")?;
            let value = operands.one("value")?;
            operands.same(query, &["value"])?;
            let ([outer @ .., rows, width], [.., length, key_width], [.., value_length, columns]) =
                (query.shape.as_slice(), key.shape.as_slice(), value.shape.as_slice())
            else {
                return Err(format!("it does not take `{query}`, `{key}` and `{value}`"));
            };
            let ranks =
                query.shape.len() >= 3 && query.shape.len() == key.shape.len() && key.shape.len() == value.shape.len();
            if !ranks || !agree(*width, *key_width) || !agree(*length, *value_length) {
                return Err(format!("it does not take `{query}`, `{key}` and `{value}`"));
            }
            if let Some(mask) = operands.optional("attn_mask")?.map(|operand| &operand.tensor_type) {
                if mask.dtype != query.dtype && mask.dtype != ElementType::Bool {
                    return Err(format!("`attn_mask` is `{mask}`"));
                }
                broadcast(&[outer, &[*rows, *length]].concat(), &mask.shape)?;
            }
            found(query.dtype, [outer, &[*rows, *columns]].concat())
        }
        _ => Ok(None),
    }
}

fn vector(operands: &Operands, name: &str, columns: Dimension) -> Result<(), String> {
    match operands.optional(name)?.map(|operand| &operand.tensor_type) {
        Some(found) if !matches!(found.shape.as_slice(), [size] if agree(*size, columns)) => {
            Err(format!("`{name}` is `{found}`; `{}` numbers are right", shown(&[columns])))
        }
        _ => Ok(()),
    }
}

/// Which axes are reduced; all of them where the parameter is absent; `None`: not known.
fn axes(operands: &Operands, rank: usize) -> Result<Option<Vec<bool>>, String> {
    let axes = match operands.integers("axes")? {
        Known::Absent => return Ok(Some(vec![true; rank])),
        Known::Unknown => return Ok(None),
        Known::Values(axes) => axes,
    };
    let mut reduced = vec![false; rank];
    for axis in axes {
        if std::mem::replace(&mut reduced[axis_of(axis, rank)?], true) {
            return Err(format!("`axes` has the axis `{axis}` twice"));
        }
    }
    Ok(Some(reduced))
}

fn joined(kind: &str, operands: &Operands) -> Result<Option<Vec<TensorType>>, String> {
    let values = operands.0.get("values").filter(|values| !values.is_empty()).ok_or("it has no `values`")?;
    let first = &values[0].tensor_type;
    let stacked = kind == "stack";
    let Some(axis) = operands.integer("axis", 0)? else { return Ok(None) };
    let axis = axis_of(axis, first.shape.len() + usize::from(stacked))?;
    if operands.flag("interleave")? == Some(true) {
        return Ok(None);
    }
    let mut shape = first.shape.clone();
    for value in &values[1..] {
        let value = &value.tensor_type;
        let same = value.dtype == first.dtype
            && value.shape.len() == shape.len()
            && (0..shape.len()).all(|index| !stacked && index == axis || agree(value.shape[index], shape[index]));
        if !same {
            return Err(format!("it does not take `{first}` and `{value}`"));
        }
        for (index, size) in shape.iter_mut().enumerate() {
            if index == axis && !stacked {
                *size = size.zip(value.shape[index]).map(|(a, b)| a.saturating_add(b));
            } else {
                *size = size.or(value.shape[index]);
            }
        }
    }
    if stacked {
        shape.insert(axis, Some(values.len()));
    }
    Ok(Some(vec![TensorType { dtype: first.dtype, shape }]))
}

fn gather(operands: &Operands) -> Result<Option<Vec<TensorType>>, String> {
    let (x, indices) = (operands.one("x")?, operands.one("indices")?);
    if indices.dtype.class() != Class::Int {
        return Err(format!("`indices` are `{indices}`"));
    }
    let (Some(axis), Some(batch)) = (operands.integer("axis", 0)?, operands.integer("batch_dims", 0)?) else {
        return Ok(None);
    };
    let axis = axis_of(axis, x.shape.len())?;
    let batch = usize::try_from(batch).ok().filter(|batch| *batch <= axis && *batch <= indices.shape.len());
    let batch = batch.ok_or_else(|| format!("its `batch_dims` do not suit `{x}` and `{indices}`"))?;
    if !x.shape[..batch].iter().zip(&indices.shape).all(|(a, b)| agree(*a, *b)) {
        return Err(format!("its `batch_dims` do not suit `{x}` and `{indices}`"));
    }
    let shape = [&x.shape[..axis], &indices.shape[batch..], &x.shape[axis + 1..]].concat();
    Ok(Some(vec![TensorType { dtype: x.dtype, shape }]))
}

fn slice_by_index(operands: &Operands) -> Result<Option<Vec<TensorType>>, String> {
    let x = operands.one("x")?;
    let (Known::Values(begin), Known::Values(end)) = (operands.integers("begin")?, operands.integers("end")?) else {
        return Ok(None);
    };
    let flags = |name| -> Result<Option<Vec<bool>>, String> {
        Ok(match operands.flags(name)? {
            Known::Values(values) => Some(values),
            Known::Absent | Known::Unknown => None,
        })
    };
    let stride = match operands.integers("stride")? {
        Known::Values(values) => Some(values),
        Known::Absent => None,
        Known::Unknown => return Ok(None),
    };
    let slices = Slices {
        begin,
        end,
        stride,
        begin_mask: flags("begin_mask")?,
        end_mask: flags("end_mask")?,
        squeeze_mask: flags("squeeze_mask")?,
    };
    slices.check(x.shape.len())?;
    let mut shape = Vec::new();
    for (axis, size) in x.shape.iter().enumerate() {
        match size {
            Some(size) => {
                let slice = slices.of(axis, *size)?;
                if !slice.squeezed {
                    shape.push(Some(slice.count));
                }
            }
            None if slices.squeeze_mask.as_ref().is_some_and(|mask| mask[axis]) => {}
            None => shape.push(None),
        }
    }
    Ok(Some(vec![TensorType { dtype: x.dtype, shape }]))
}

fn split(operands: &Operands) -> Result<Option<Vec<TensorType>>, String> {
    let x = operands.one("x")?;
    let Some(axis) = operands.integer("axis", 0)? else { return Ok(None) };
    let axis = axis_of(axis, x.shape.len())?;
    let sizes: Vec<Dimension> = match operands.integers("split_sizes")? {
        Known::Unknown => return Ok(None),
        Known::Values(sizes) => {
            let sizes: Option<Vec<usize>> = sizes.iter().map(|size| usize::try_from(*size).ok()).collect();
            let sizes = sizes.ok_or("its `split_sizes` are negative")?;
            let sum = sizes.iter().try_fold(0_usize, |sum, size| sum.checked_add(*size));
            if sum.is_none() || !agree(x.shape[axis], sum) {
                return Err(format!("`{x}` is not split into `{sizes:?}`"));
            }
            sizes.into_iter().map(Some).collect()
        }
        Known::Absent => {
            let Some(parts) = operands.integer("num_splits", 0)? else { return Ok(None) };
            let parts = usize::try_from(parts).ok().filter(|parts| (1..=1 << 16).contains(parts));
            let parts = parts.ok_or("its `num_splits` is no number of parts")?;
            match x.shape[axis] {
                Some(size) if !size.is_multiple_of(parts) => {
                    return Err(format!("`{x}` is not split into `{parts}` equal parts"));
                }
                size => vec![size.map(|size| size / parts); parts],
            }
        }
    };
    let part = |size| {
        let mut shape = x.shape.clone();
        shape[axis] = size;
        TensorType { dtype: x.dtype, shape }
    };
    Ok(Some(sizes.into_iter().map(part).collect()))
}

fn matmul(operands: &Operands) -> Result<Option<Vec<TensorType>>, String> {
    let (x, y) = operands.pair("x", "y")?;
    let (Some(transpose_x), Some(transpose_y)) = (operands.flag("transpose_x")?, operands.flag("transpose_y")?) else {
        return Ok(None);
    };
    let wrong = || format!("it does not take `{x}` and `{y}`");
    let (x_vector, y_vector) = (x.shape.len() == 1, y.shape.len() == 1);
    let x_full = if x_vector { vec![Some(1), x.shape[0]] } else { x.shape.clone() };
    let y_full = if y_vector { vec![y.shape[0], Some(1)] } else { y.shape.clone() };
    let ([x_batch @ .., x_rows, x_columns], [y_batch @ .., y_rows, y_columns]) = (&x_full[..], &y_full[..]) else {
        return Err(wrong());
    };
    let (rows, inner) = if transpose_x { (x_columns, x_rows) } else { (x_rows, x_columns) };
    let (columns, y_inner) = if transpose_y { (y_rows, y_columns) } else { (y_columns, y_rows) };
    if !agree(*inner, *y_inner) {
        return Err(wrong());
    }
    let mut shape = broadcast(x_batch, y_batch)?;
    if !x_vector {
        shape.push(*rows);
    }
    if !y_vector {
        shape.push(*columns);
    }
    Ok(Some(vec![TensorType { dtype: x.dtype, shape }]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operand(dtype: ElementType, shape: &[Dimension]) -> Operand {
        Operand { tensor_type: TensorType { dtype, shape: shape.to_vec() }, constant: None }
    }

    fn half(shape: &[Dimension]) -> Operand {
        operand(ElementType::Float16, shape)
    }

    fn constant(tensor: Tensor) -> Operand {
        Operand { tensor_type: TensorType::of(&tensor), constant: Some(tensor) }
    }

    fn ints(values: &[i32]) -> Operand {
        constant(Tensor::int32(&[values.len()], values).expect("a tensor"))
    }

    fn shape_of(kind: &str, inputs: Vec<(&str, Operand)>) -> Result<Option<String>, String> {
        let mut operands: BTreeMap<String, Vec<Operand>> = BTreeMap::new();
        for (name, operand) in inputs {
            operands.entry(name.to_owned()).or_default().push(operand);
        }
        Ok(infer(kind, &Operands(operands))?.map(|types| types[0].to_string()))
    }

    #[expect(clippy::unnecessary_wraps, reason = "it is compared with what may fail")]
    fn is(text: &str) -> Result<Option<String>, String> {
        Ok(Some(text.to_owned()))
    }

    #[test]
    fn flexible_dimensions_stay_so_and_fixed_ones_are_checked() {
        let x = || half(&[Some(1), None, Some(8)]);
        assert_eq!(shape_of("add", vec![("x", x()), ("y", half(&[Some(8)]))]), is("fp16[1,?,8]"));
        assert!(shape_of("add", vec![("x", x()), ("y", half(&[Some(7)]))]).is_err());
        assert!(shape_of("add", vec![("x", x()), ("y", operand(ElementType::Float32, &[]))]).is_err());
        assert_eq!(shape_of("reshape", vec![("x", x()), ("shape", ints(&[1, -1, 2, 4]))]), is("fp16[1,?,2,4]"));
        assert_eq!(shape_of("reshape", vec![("x", x()), ("shape", operand(ElementType::Int32, &[Some(3)]))]), Ok(None));
        let weight = || half(&[Some(5), Some(8)]);
        assert_eq!(shape_of("linear", vec![("x", x()), ("weight", weight())]), is("fp16[1,?,5]"));
        assert!(shape_of("linear", vec![("x", x()), ("weight", weight()), ("bias", half(&[Some(8)]))]).is_err());
        assert_eq!(shape_of("matmul", vec![("x", x()), ("y", half(&[Some(8), Some(3)]))]), is("fp16[1,?,3]"));
        assert!(shape_of("matmul", vec![("x", x()), ("y", weight())]).is_err());
    }

    #[test]
    fn types_follow_the_operation() {
        let indices = operand(ElementType::UInt16, &[Some(1), Some(4)]);
        let table = half(&[Some(9), Some(2)]);
        assert_eq!(shape_of("gather", vec![("x", table.clone()), ("indices", indices.clone())]), is("fp16[1,4,2]"));
        assert!(shape_of("gather", vec![("x", indices.clone()), ("indices", table.clone())]).is_err());
        assert_eq!(shape_of("equal", vec![("x", indices.clone()), ("y", indices.clone())]), is("bool[1,4]"));
        assert!(shape_of("exp", vec![("x", indices)]).is_err());
        assert_eq!(shape_of("shape", vec![("x", table.clone())]), is("int32[2]"));
        assert_eq!(shape_of("transpose", vec![("x", table.clone()), ("perm", ints(&[1, 0]))]), is("fp16[2,9]"));
        assert!(shape_of("transpose", vec![("x", table.clone()), ("perm", ints(&[1, 1]))]).is_err());
        assert_eq!(shape_of("tile", vec![("x", table.clone()), ("reps", ints(&[1, 3]))]), is("fp16[9,6]"));
        let parts = vec![("x", table), ("split_sizes", ints(&[4, 5])), ("axis", ints(&[0]))];
        assert_eq!(shape_of("split", parts), is("fp16[4,2]"));
        assert_eq!(shape_of("something_new", vec![]), Ok(None));
    }
}
