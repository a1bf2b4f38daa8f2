//! `const` and the `constexpr_*` operations: what they hold, found without running anything. Both the judge and the evaluator
//! build on this; big ones stay in their file ([`crate::weight`]).

use std::sync::Arc;

use crate::blob::{Blob, BlobFault};
use crate::element::{Class, ElementType};
use crate::literal::{self, TensorType};
use crate::package::WeightFiles;
use crate::proto::{self, Bound, Content};
use crate::tensor::{Tensor, count_of};
use crate::weight::{Source, Weight};

/// Constants of at most so many elements are decoded once: norms, biases, rotary tables.
const SMALL: usize = 1 << 16;

/// Integers are decoded at once, so a constant may have so many of them: a mask for 8192 tokens.
const INTEGERS: usize = 1 << 26;

/// Something that an operation takes: in memory, or a weight in its file.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    Tensor(Tensor),
    Weight(Arc<Weight>),
}

impl Value {
    pub(crate) fn tensor_type(&self) -> TensorType {
        match self {
            Self::Tensor(tensor) => TensorType::of(tensor),
            Self::Weight(weight) => {
                TensorType { dtype: weight.dtype(), shape: weight.shape().iter().copied().map(Some).collect() }
            }
        }
    }

    pub(crate) fn shape(&self) -> &[usize] {
        match self {
            Self::Tensor(tensor) => tensor.shape(),
            Self::Weight(weight) => weight.shape(),
        }
    }

    fn source(self) -> Source {
        match self {
            Self::Tensor(tensor) => Source::Tensor(tensor),
            Self::Weight(weight) => Source::Weight(weight),
        }
    }
}

/// Why a constant cannot be had: a code for the judge and a sentence.
pub(crate) type Fault = BlobFault;

fn fault(code: &'static str, problem: impl Into<String>) -> Fault {
    Fault { code, problem: problem.into() }
}

/// Does this operation make a constant?
pub(crate) fn is_constant(kind: &str) -> bool {
    kind == "const" || kind.starts_with("constexpr_")
}

/// What a `const` or `constexpr_*` operation holds; `None` for a `constexpr_*` that is not known. `lookup` finds the
/// constants before it; `parameters_are_inputs` is so from CoreML8 on.
pub(crate) fn evaluate(
    operation: &proto::Operation,
    parameters_are_inputs: bool,
    files: &WeightFiles,
    lookup: &dyn Fn(&str) -> Option<Value>,
) -> Result<Option<Value>, Fault> {
    let parameters = Parameters { operation, inputs: parameters_are_inputs, files, lookup };
    if operation.kind == "const" {
        let value = operation.attributes.get("val").ok_or_else(|| fault("missing-value", "it has no value"))?;
        return small(value_of(value, files)?).map(Some);
    }
    let weight = match operation.kind.as_str() {
        "constexpr_affine_dequantize" => {
            let axis = parameters.integer("axis")?;
            let data = parameters.required("quantized_data")?;
            Weight::affine(data, &parameters.required("zero_point")?, &parameters.required("scale")?, axis)
        }
        "constexpr_lut_to_dense" if parameters_are_inputs => {
            let axis = parameters.optional("vector_axis")?.map(|_| parameters.integer("vector_axis")).transpose()?;
            Weight::table(parameters.required("indices")?, parameters.required("lut")?, axis)
        }
        "constexpr_lut_to_dense" => {
            let shape = parameters.integers("shape")?;
            let shape = shape.into_iter().map(|size| usize::try_from(size).unwrap_or(usize::MAX)).collect();
            Weight::packed_table(parameters.required("indices")?, &parameters.required("lut")?, shape)
        }
        "constexpr_blockwise_shift_scale" => {
            let offset = parameters.optional("offset")?;
            Weight::blockwise(parameters.required("data")?, parameters.required("scale")?, offset)
        }
        "constexpr_cast" => {
            let name = parameters.required("output_dtype")?;
            let name = match &name {
                Source::Tensor(tensor) => tensor.texts().and_then(|texts| texts.first()),
                _ => None,
            };
            let dtype = name.and_then(|name| ElementType::from_name(name));
            let dtype = dtype.ok_or_else(|| fault("constexpr-form", "`output_dtype` names no type"))?;
            Weight::cast(parameters.required("source_val")?, dtype)
        }
        _ => return Ok(None),
    };
    let weight = weight.map_err(|problem| fault("constexpr-form", problem))?;
    small(Value::Weight(Arc::new(weight))).map(Some)
}

/// Decodes what is small.
fn small(value: Value) -> Result<Value, Fault> {
    match value {
        Value::Weight(weight) if weight.count() <= SMALL => {
            weight.tensor(false).map(Value::Tensor).map_err(|problem| fault("blob-offset", problem))
        }
        value => Ok(value),
    }
}

/// A value that is given as such, immediate or in a file.
pub(crate) fn value_of(value: &proto::Value, files: &WeightFiles) -> Result<Value, Fault> {
    let Some(Content::Blob(reference)) = &value.content else {
        return literal::tensor(value).map(Value::Tensor).map_err(|problem| fault("bad-value", problem));
    };
    let (dtype, shape) = literal::fixed_type(value).map_err(|problem| fault("bad-value", problem))?;
    let file = files.get(&reference.file_name).map_err(|problem| fault("weight-file", problem))?;
    let blob = Blob::new(file, reference.offset, dtype, count_of(&shape).unwrap_or(usize::MAX))?;
    if dtype.class() == Class::Int && dtype.bits() > 16 {
        // Indices and shapes, which have to stay exact.
        if blob.count() > INTEGERS {
            return Err(fault("bad-value", format!("`{}` integers in one constant are not known", blob.count())));
        }
        let mut numbers = vec![0; blob.count()];
        blob.integers(0, &mut numbers).map_err(|problem| fault("blob-offset", problem))?;
        return Tensor::new(dtype, shape, numbers.into())
            .map(Value::Tensor)
            .map_err(|problem| fault("bad-value", problem));
    }
    Ok(Value::Weight(Arc::new(Weight::plain(Source::Blob(blob, shape)))))
}

struct Parameters<'a> {
    operation: &'a proto::Operation,
    inputs: bool,
    files: &'a WeightFiles,
    lookup: &'a dyn Fn(&str) -> Option<Value>,
}

impl Parameters<'_> {
    fn optional(&self, name: &str) -> Result<Option<Source>, Fault> {
        if !self.inputs {
            if self.operation.inputs.contains_key(name) {
                return Err(fault(
                    "constexpr-form",
                    format!("`{name}` is an input; before CoreML8 it is an attribute"),
                ));
            }
            let value = self.operation.attributes.get(name);
            return value.map(|value| Ok(value_of(value, self.files)?.source())).transpose();
        }
        if self.operation.attributes.contains_key(name) {
            return Err(fault("constexpr-form", format!("`{name}` is an attribute; from CoreML8 on it is an input")));
        }
        let Some(argument) = self.operation.inputs.get(name) else { return Ok(None) };
        match argument.arguments.as_slice() {
            [proto::Binding { bound: Some(Bound::Value(value)) }] => Ok(Some(value_of(value, self.files)?.source())),
            [proto::Binding { bound: Some(Bound::Name(of)) }] => match (self.lookup)(of) {
                Some(value) => Ok(Some(value.source())),
                None => Err(fault("undefined-name", format!("`{name}` is `{of}`, which is no constant before it"))),
            },
            _ => Err(fault("constexpr-form", format!("`{name}` is not bound to one value"))),
        }
    }

    fn required(&self, name: &str) -> Result<Source, Fault> {
        self.optional(name)?.ok_or_else(|| fault("missing-input", format!("it has no `{name}`")))
    }

    fn integers(&self, name: &str) -> Result<Vec<i64>, Fault> {
        match self.required(name)? {
            Source::Tensor(tensor) if tensor.integers().is_some() => Ok(tensor.integers().unwrap_or_default().to_vec()),
            _ => Err(fault("constexpr-form", format!("`{name}` is not made of immediate integers"))),
        }
    }

    fn integer(&self, name: &str) -> Result<i64, Fault> {
        match self.integers(name)?.as_slice() {
            [one] => Ok(*one),
            _ => Err(fault("constexpr-form", format!("`{name}` is not one integer"))),
        }
    }
}
