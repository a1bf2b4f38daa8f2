//! What each operation does with its inputs. This module finds the inputs and picks the kernel; the kernels are below it, by
//! the shape of their work: element by element, over axes, moving elements, products. An operation that is not in
//! [`evaluate`] is not known to this crate.

mod axes;
mod elementwise;
mod movement;
mod products;

use std::collections::BTreeMap;

use crate::constant::Value;
use crate::tensor::{Tensor, count_of};

pub(crate) use movement::{Slices, reshape_dimensions};

/// No single value may take more: a program that asks for more is wrong, or too long for this way of running it.
const VALUE_BYTES: usize = 1 << 30;

/// Where an operation finds an input.
#[derive(Debug)]
pub(crate) enum Slot {
    /// Among the values of the program.
    Defined(usize),
    /// In the operation itself.
    Given(Value),
}

/// An operation about to be evaluated.
pub(crate) struct Call<'a> {
    kind: &'a str,
    inputs: &'a BTreeMap<String, Vec<Slot>>,
    values: &'a [Option<Value>],
    /// Are halves rounded?
    rounded: bool,
}

impl<'a> Call<'a> {
    pub(crate) fn new(
        kind: &'a str,
        inputs: &'a BTreeMap<String, Vec<Slot>>,
        values: &'a [Option<Value>],
        rounded: bool,
    ) -> Self {
        Self { kind, inputs, values, rounded }
    }

    fn find(&self, slot: &'a Slot) -> Result<&'a Value, String> {
        match slot {
            Slot::Given(value) => Ok(value),
            Slot::Defined(slot) => self.values[*slot].as_ref().ok_or_else(|| "an input was not computed".to_owned()),
        }
    }

    fn optional(&self, name: &str) -> Result<Option<&'a Value>, String> {
        match self.inputs.get(name).map(Vec::as_slice) {
            None => Ok(None),
            Some([one]) => self.find(one).map(Some),
            Some(many) => Err(format!("`{name}` is bound to `{}` values", many.len())),
        }
    }

    fn value(&self, name: &str) -> Result<&'a Value, String> {
        self.optional(name)?.ok_or_else(|| format!("it has no `{name}`"))
    }

    fn tensor(&self, name: &str) -> Result<Tensor, String> {
        materialise(self.value(name)?, self.rounded)
    }

    fn optional_tensor(&self, name: &str) -> Result<Option<Tensor>, String> {
        self.optional(name)?.map(|value| materialise(value, self.rounded)).transpose()
    }

    fn list(&self, name: &str) -> Result<Vec<Tensor>, String> {
        let slots = self.inputs.get(name).ok_or_else(|| format!("it has no `{name}`"))?;
        slots.iter().map(|slot| materialise(self.find(slot)?, self.rounded)).collect()
    }

    fn optional_integers(&self, name: &str) -> Result<Option<Vec<i64>>, String> {
        let Some(tensor) = self.optional_tensor(name)? else { return Ok(None) };
        tensor.integers().map(|values| Some(values.to_vec())).ok_or_else(|| format!("`{name}` is not made of integers"))
    }

    fn integers(&self, name: &str) -> Result<Vec<i64>, String> {
        self.optional_integers(name)?.ok_or_else(|| format!("it has no `{name}`"))
    }

    fn integer(&self, name: &str, default: i64) -> Result<i64, String> {
        match self.optional_integers(name)?.as_deref() {
            None => Ok(default),
            Some([one]) => Ok(*one),
            Some(_) => Err(format!("`{name}` is not one integer")),
        }
    }

    fn number(&self, name: &str, default: f32) -> Result<f32, String> {
        let Some(tensor) = self.optional_tensor(name)? else { return Ok(default) };
        match (tensor.floats(), tensor.integers()) {
            (Some([one]), _) => Ok(*one),
            (_, Some([one])) => Ok(*one as f32),
            _ => Err(format!("`{name}` is not one number")),
        }
    }

    fn optional_flags(&self, name: &str) -> Result<Option<Vec<bool>>, String> {
        let Some(tensor) = self.optional_tensor(name)? else { return Ok(None) };
        tensor.bools().map(|values| Some(values.to_vec())).ok_or_else(|| format!("`{name}` is not made of booleans"))
    }

    fn flag(&self, name: &str) -> Result<bool, String> {
        match self.optional_flags(name)?.as_deref() {
            None => Ok(false),
            Some([one]) => Ok(*one),
            Some(_) => Err(format!("`{name}` is not one boolean")),
        }
    }

    fn text(&self, name: &str, default: &str) -> Result<String, String> {
        let Some(tensor) = self.optional_tensor(name)? else { return Ok(default.to_owned()) };
        match tensor.texts() {
            Some([one]) => Ok(one.clone()),
            _ => Err(format!("`{name}` is not one text")),
        }
    }
}

/// A value as a tensor in memory.
pub(crate) fn materialise(value: &Value, rounded: bool) -> Result<Tensor, String> {
    match value {
        Value::Tensor(tensor) => Ok(tensor.clone()),
        Value::Weight(weight) => {
            sized(weight.shape())?;
            weight.tensor(rounded)
        }
    }
}

/// How many elements a result of this shape has, if it may be made.
fn sized(shape: &[usize]) -> Result<usize, String> {
    let limit = VALUE_BYTES / size_of::<f32>();
    count_of(shape).filter(|count| *count <= limit).ok_or_else(|| {
        format!("a value of the shape `{shape:?}` takes more than the `{VALUE_BYTES}` bytes that one may take")
    })
}

type Kernel = fn(&Call) -> Result<Vec<Tensor>, String>;

fn kernel(kind: &str) -> Option<Kernel> {
    Some(match kind {
        "add" | "sub" | "mul" | "real_div" | "floor_div" | "mod" | "maximum" | "minimum" | "pow" => elementwise::binary,
        "equal" | "not_equal" | "less" | "less_equal" | "greater" | "greater_equal" => elementwise::comparison,
        "logical_and" | "logical_or" | "logical_xor" => elementwise::logical,
        "abs" | "ceil" | "cos" | "erf" | "exp" | "floor" | "gelu" | "inverse" | "log" | "relu" | "round" | "rsqrt"
        | "sigmoid" | "sign" | "silu" | "sin" | "softplus" | "sqrt" | "square" | "tanh" => elementwise::unary,
        "clip" => elementwise::clip,
        "logical_not" => elementwise::logical_not,
        "cast" => elementwise::cast,
        "identity" => |call| Ok(vec![call.tensor("x")?]),
        "select" => elementwise::select,
        "reduce_mean" | "reduce_sum" | "reduce_max" | "reduce_min" | "reduce_prod" | "reduce_sum_square"
        | "reduce_l1_norm" | "reduce_l2_norm" => axes::reduce,
        "softmax" => axes::softmax,
        "layer_norm" => axes::layer_norm,
        "cumsum" => axes::cumulative_sum,
        "concat" => movement::concat,
        "expand_dims" => movement::expand_dims,
        "fill" => movement::fill,
        "gather" => movement::gather,
        "range_1d" => movement::range,
        "reshape" => movement::reshape,
        "shape" => movement::shape,
        "slice_by_index" => movement::slice_by_index,
        "slice_by_size" => movement::slice_by_size,
        "split" => movement::split,
        "squeeze" => movement::squeeze,
        "stack" => movement::stack,
        "tile" => movement::tile,
        "transpose" => movement::transpose,
        "conv" => products::convolution,
        "linear" => products::linear,
        "matmul" => products::matmul,
        "scaled_dot_product_attention" => products::attention,
        _ => return None,
    })
}

/// Can operations of this kind be evaluated?
pub(crate) fn is_known(kind: &str) -> bool {
    kernel(kind).is_some()
}

/// The results of an operation, in a class of types; the caller gives them their declared types.
pub(crate) fn evaluate(call: &Call) -> Result<Vec<Tensor>, String> {
    kernel(call.kind).ok_or_else(|| "it is not known".to_owned())?(call)
}

#[cfg(test)]
pub(crate) mod testing {
    //! Calls an operation with tensors by name.

    use super::*;
    use crate::element::ElementType;

    pub(crate) fn floats(shape: &[usize], values: &[f32]) -> Tensor {
        Tensor::float32(shape, values.to_vec()).expect("a tensor")
    }

    pub(crate) fn ints(shape: &[usize], values: &[i32]) -> Tensor {
        Tensor::int32(shape, values).expect("a tensor")
    }

    pub(crate) fn flags(values: &[bool]) -> Tensor {
        Tensor::new(ElementType::Bool, vec![values.len()], values.to_vec().into()).expect("a tensor")
    }

    pub(crate) fn flag(value: bool) -> Tensor {
        flags(&[value]).reshaped(Vec::new()).expect("a scalar")
    }

    pub(crate) fn text(value: &str) -> Tensor {
        let data = crate::tensor::Data::Texts(vec![value.to_owned()].into());
        Tensor::new(ElementType::String, Vec::new(), data).expect("a scalar")
    }

    pub(crate) fn int(value: i32) -> Tensor {
        ints(&[], &[value])
    }

    pub(crate) fn call(kind: &str, inputs: &[(&str, Tensor)]) -> Result<Vec<Tensor>, String> {
        let inputs: Vec<(&str, Value)> =
            inputs.iter().map(|(name, tensor)| (*name, Value::Tensor(tensor.clone()))).collect();
        call_values(kind, &inputs)
    }

    pub(crate) fn call_values(kind: &str, inputs: &[(&str, Value)]) -> Result<Vec<Tensor>, String> {
        let mut slots: BTreeMap<String, Vec<Slot>> = BTreeMap::new();
        for (name, value) in inputs {
            slots.entry((*name).to_owned()).or_default().push(Slot::Given(value.clone()));
        }
        evaluate(&Call::new(kind, &slots, &[], false))
    }

    pub(crate) fn one(kind: &str, inputs: &[(&str, Tensor)]) -> Tensor {
        call(kind, inputs).expect("it can be evaluated").remove(0)
    }

    pub(crate) fn close(found: &Tensor, shape: &[usize], expected: &[f32]) {
        assert_eq!(found.shape(), shape);
        for (found, expected) in found.floats().expect("floats").iter().zip(expected) {
            // Infinite ones have no difference.
            let same =
                found.to_bits() == expected.to_bits() || (found - expected).abs() <= 1e-5 * expected.abs().max(1.0);
            assert!(same, "{found} instead of {expected}");
        }
    }
}
