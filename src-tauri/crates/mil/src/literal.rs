//! Types and immediate values of `MIL.proto` as tensors, checked: nothing is taken from a declaration that its bytes do not
//! bear out.

use half::f16;
use serde::Serialize;

use crate::blob::unpack;
use crate::element::ElementType;
use crate::proto;
use crate::tensor::{Data, RANK, Tensor, count_of};

/// The type of a value: its elements' type, and its shape, in which a flexible dimension is `None`.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct TensorType {
    /// The type of its elements.
    pub dtype: ElementType,
    /// Its dimensions.
    pub shape: Vec<Option<usize>>,
}

impl TensorType {
    /// The shape, if no dimension is flexible.
    pub fn fixed(&self) -> Option<Vec<usize>> {
        self.shape.iter().copied().collect()
    }

    pub(crate) fn of(tensor: &Tensor) -> Self {
        Self { dtype: tensor.dtype(), shape: tensor.shape().iter().copied().map(Some).collect() }
    }
}

impl std::fmt::Display for TensorType {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}[", self.dtype)?;
        for (index, size) in self.shape.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            match size {
                Some(size) => write!(formatter, "{comma}{size}")?,
                None => write!(formatter, "{comma}?")?,
            }
        }
        formatter.write_str("]")
    }
}

/// Reads a declared type.
pub(crate) fn tensor_type(declared: Option<&proto::ValueType>) -> Result<TensorType, String> {
    let tensor = declared.and_then(|declared| declared.tensor.as_ref()).ok_or("it is declared as no tensor")?;
    let code = tensor.data_type;
    let dtype = ElementType::from_mil(code).ok_or_else(|| format!("its elements have the unknown type `{code}`"))?;
    if tensor.rank != tensor.dimensions.len() as i64 || tensor.dimensions.len() > RANK {
        let (rank, found) = (tensor.rank, tensor.dimensions.len());
        return Err(format!("it is declared with the rank `{rank}` and `{found}` dimensions"));
    }
    let dimension = |dimension: &proto::Dimension| match &dimension.size {
        Some(proto::Size::Constant(constant)) => usize::try_from(constant.size).map(Some).map_err(|_| "too large"),
        Some(proto::Size::Unknown(unknown)) if !unknown.variadic => Ok(None),
        Some(proto::Size::Unknown(_)) => Err("variadic"),
        None => Err("missing"),
    };
    let shape = tensor.dimensions.iter().map(dimension).collect::<Result<Vec<_>, _>>();
    let shape = shape.map_err(|problem| format!("a dimension of it is {problem}"))?;
    let declared = TensorType { dtype, shape };
    if declared.fixed().is_some_and(|shape| count_of(&shape).is_none()) {
        return Err(format!("its shape `{:?}` has more elements than can be counted", declared.shape));
    }
    Ok(declared)
}

/// The type of a value that is given, which is never flexible: its elements' type and its shape.
pub(crate) fn fixed_type(value: &proto::Value) -> Result<(ElementType, Vec<usize>), String> {
    let declared = tensor_type(value.kind.as_ref())?;
    let shape = declared.fixed().ok_or("a value cannot have a flexible shape")?;
    Ok((declared.dtype, shape))
}

/// Reads an immediate value.
pub(crate) fn tensor(value: &proto::Value) -> Result<Tensor, String> {
    let (dtype, shape) = fixed_type(value)?;
    let count = count_of(&shape).unwrap_or(usize::MAX);
    let Some(proto::Content::Immediate(proto::Immediate { tensor: Some(immediate) })) = &value.content else {
        return Err("it has no immediate value".to_owned());
    };
    let elements = immediate.elements.as_ref();
    let data = match (dtype, elements) {
        (ElementType::Float32, Some(proto::Elements::Floats(floats))) => Data::from(floats.values.clone()),
        (ElementType::Int16 | ElementType::UInt16 | ElementType::Int32, Some(proto::Elements::Ints(ints))) => {
            let values: Vec<i64> = ints.values.iter().map(|value| i64::from(*value)).collect();
            if let Some(value) = values.iter().find(|value| dtype.wrap(**value) != **value) {
                return Err(format!("`{value}` is no `{dtype}`"));
            }
            values.into()
        }
        (ElementType::Int64 | ElementType::UInt64, Some(proto::Elements::LongInts(ints))) => ints.values.clone().into(),
        (ElementType::Bool, Some(proto::Elements::Bools(bools))) => bools.values.clone().into(),
        (ElementType::String, Some(proto::Elements::Strings(strings))) => Data::Texts(strings.values.clone().into()),
        (ElementType::String | ElementType::Bool | ElementType::Float32 | ElementType::Float64, _) => {
            return Err(format!("its elements are not stored as `{dtype}` are"));
        }
        (_, Some(proto::Elements::Bytes(bytes))) => from_bytes(&bytes.values, dtype, count)?,
        (_, None) if count == 0 => from_bytes(&[], dtype, 0)?,
        _ => return Err(format!("its elements are not stored as `{dtype}` are")),
    };
    Tensor::new(dtype, shape, data)
}

fn from_bytes(bytes: &[u8], dtype: ElementType, count: usize) -> Result<Data, String> {
    if dtype.bytes(count) != Some(bytes.len()) {
        return Err(format!("it has `{}` bytes, which are not `{count}` elements of `{dtype}`", bytes.len()));
    }
    if dtype == ElementType::Float16 {
        return Ok(bytes
            .as_chunks()
            .0
            .iter()
            .map(|bytes| f16::from_le_bytes(*bytes).to_f32())
            .collect::<Vec<_>>()
            .into());
    }
    if dtype == ElementType::BFloat16 {
        return Err("immediate `bf16` are not known".to_owned());
    }
    let mut values = vec![0; count];
    unpack(bytes, 0, dtype, count, |index, value| values[index] = value);
    Ok(values.into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;

    fn value(code: i32, shape: &[u64], elements: proto::Elements) -> proto::Value {
        let size =
            |size: &u64| proto::Dimension { size: Some(proto::Size::Constant(proto::ConstantSize { size: *size })) };
        let tensor = proto::TensorType {
            data_type: code,
            rank: shape.len() as i64,
            dimensions: shape.iter().map(size).collect(),
        };
        let tensor_value = proto::TensorValue { elements: Some(elements) };
        proto::Value {
            kind: Some(proto::ValueType { tensor: Some(tensor) }),
            content: Some(proto::Content::Immediate(proto::Immediate { tensor: Some(tensor_value) })),
        }
    }

    fn bytes(values: &[u8]) -> proto::Elements {
        proto::Elements::Bytes(proto::Bytes { values: values.to_vec() })
    }

    #[test]
    fn every_way_of_storing_elements_is_read() {
        let halves = tensor(&value(10, &[2], bytes(&[0, 0x3c, 0, 0xb8]))).expect("halves");
        assert_eq!(halves.floats(), Some(&[1.0, -0.5][..]));
        let words = tensor(&value(33, &[1], bytes(&[1, 2, 0, 0]))).expect("a word");
        assert_eq!(words.integers(), Some(&[513][..]));
        let ints = tensor(&value(23, &[], proto::Elements::Ints(proto::Ints { values: vec![-3] }))).expect("a scalar");
        assert_eq!((ints.integers(), ints.shape()), (Some(&[-3][..]), &[][..]));
        let nibbles = tensor(&value(25, &[3], bytes(&[0x7f, 0x08]))).expect("nibbles");
        assert_eq!(nibbles.integers(), Some(&[-1, 7, -8][..]));
    }

    #[test]
    fn a_declaration_that_its_bytes_do_not_bear_out_is_refused() {
        for bad in [
            value(10, &[3], bytes(&[0; 4])),
            value(10, &[u64::MAX], bytes(&[0; 4])),
            value(21, &[1 << 40, 1 << 40], bytes(&[])),
            value(11, &[1], bytes(&[0; 4])),
            value(22, &[1], proto::Elements::Ints(proto::Ints { values: vec![40_000] })),
            value(99, &[1], bytes(&[0])),
        ] {
            assert!(tensor(&bad).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn any_message_is_a_tensor_no_larger_than_it_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
            if let Ok(value) = proto::Value::decode(&bytes[..]) && let Ok(tensor) = tensor(&value) {
                prop_assert!(tensor.count() <= 8 * bytes.len());
            }
        }
    }
}
