//! Tensors in memory: what goes into a program, what comes out and what flows in between. All floating-point types are held
//! as `f32`, all integers as `i64`; the type that the program gives them is kept beside.

use std::sync::Arc;

use half::f16;

use crate::element::{Class, ElementType};

/// No tensor of Core ML has more dimensions.
pub(crate) const RANK: usize = 16;

/// A tensor. Clones share their elements.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    dtype: ElementType,
    shape: Vec<usize>,
    data: Data,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Data {
    Floats(Arc<Vec<f32>>),
    Ints(Arc<Vec<i64>>),
    Bools(Arc<Vec<bool>>),
    Texts(Arc<Vec<String>>),
}

impl Data {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Floats(values) => values.len(),
            Self::Ints(values) => values.len(),
            Self::Bools(values) => values.len(),
            Self::Texts(values) => values.len(),
        }
    }

    fn class(&self) -> Class {
        match self {
            Self::Floats(_) => Class::Float,
            Self::Ints(_) => Class::Int,
            Self::Bools(_) => Class::Bool,
            Self::Texts(_) => Class::Text,
        }
    }
}

impl From<Vec<f32>> for Data {
    fn from(values: Vec<f32>) -> Self {
        Self::Floats(Arc::new(values))
    }
}

impl From<Vec<i64>> for Data {
    fn from(values: Vec<i64>) -> Self {
        Self::Ints(Arc::new(values))
    }
}

impl From<Vec<bool>> for Data {
    fn from(values: Vec<bool>) -> Self {
        Self::Bools(Arc::new(values))
    }
}

impl Tensor {
    /// An `int32` tensor; `None` if the shape asks for another number of elements.
    pub fn int32(shape: &[usize], values: &[i32]) -> Option<Self> {
        let data: Vec<i64> = values.iter().map(|value| i64::from(*value)).collect();
        Self::new(ElementType::Int32, shape.to_vec(), data.into()).ok()
    }

    /// An `fp32` tensor; `None` if the shape asks for another number of elements.
    pub fn float32(shape: &[usize], values: Vec<f32>) -> Option<Self> {
        Self::new(ElementType::Float32, shape.to_vec(), values.into()).ok()
    }

    pub(crate) fn new(dtype: ElementType, shape: Vec<usize>, data: Data) -> Result<Self, String> {
        if shape.len() > RANK {
            return Err(format!("a shape of `{}` dimensions is not known", shape.len()));
        }
        if count_of(&shape) != Some(data.len()) {
            return Err(format!("`{}` elements do not make the shape `{shape:?}`", data.len()));
        }
        if dtype.class() != data.class() {
            return Err(format!("the elements are not of the type `{dtype}`"));
        }
        Ok(Self { dtype, shape, data })
    }

    /// The type of its elements.
    pub fn dtype(&self) -> ElementType {
        self.dtype
    }

    /// Its shape; empty for a scalar.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// How many elements it has.
    pub fn count(&self) -> usize {
        self.data.len()
    }

    /// Its elements, if they are of a floating-point type.
    pub fn floats(&self) -> Option<&[f32]> {
        match &self.data {
            Data::Floats(values) => Some(values),
            _ => None,
        }
    }

    /// Its elements, if they are integers.
    pub fn integers(&self) -> Option<&[i64]> {
        match &self.data {
            Data::Ints(values) => Some(values),
            _ => None,
        }
    }

    /// Its elements, if they are booleans.
    pub fn bools(&self) -> Option<&[bool]> {
        match &self.data {
            Data::Bools(values) => Some(values),
            _ => None,
        }
    }

    pub(crate) fn texts(&self) -> Option<&[String]> {
        match &self.data {
            Data::Texts(values) => Some(values),
            _ => None,
        }
    }

    pub(crate) fn data(&self) -> &Data {
        &self.data
    }

    /// The same elements in another shape.
    pub(crate) fn reshaped(&self, shape: Vec<usize>) -> Result<Self, String> {
        Self::new(self.dtype, shape, self.data.clone())
    }

    /// The bytes that its elements take here.
    pub(crate) fn memory(&self) -> usize {
        let size = match &self.data {
            Data::Floats(_) => 4,
            Data::Ints(_) => 8,
            Data::Bools(_) => 1,
            Data::Texts(_) => 24,
        };
        size * self.data.len()
    }

    /// The same elements as another type of the same class. Integers wrap; halves are rounded only if `rounded`.
    pub(crate) fn typed(mut self, dtype: ElementType, rounded: bool) -> Result<Self, String> {
        if dtype.class() != self.data.class() {
            return Err(format!("its result is not of the declared type `{dtype}`"));
        }
        match &mut self.data {
            Data::Floats(values) if rounded && dtype == ElementType::Float16 => {
                round(Arc::make_mut(values).as_mut_slice());
            }
            Data::Ints(values) if dtype != self.dtype && values.iter().any(|value| dtype.wrap(*value) != *value) => {
                for value in Arc::make_mut(values) {
                    *value = dtype.wrap(*value);
                }
            }
            _ => {}
        }
        self.dtype = dtype;
        Ok(self)
    }
}

/// Rounds every number to the nearest half.
pub(crate) fn round(values: &mut [f32]) {
    for value in values {
        *value = f16::from_f32(*value).to_f32();
    }
}

/// How many elements a shape has; `None` if more than can be counted.
pub(crate) fn count_of(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1_usize, |product, &size| product.checked_mul(size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tensor_has_as_many_elements_as_its_shape_says() {
        assert!(Tensor::int32(&[1, 3], &[1, 2]).is_none());
        assert!(Tensor::float32(&[usize::MAX, 2], Vec::new()).is_none());
        assert_eq!(Tensor::float32(&[2, 0], Vec::new()).expect("nothing").count(), 0);
        assert_eq!(Tensor::int32(&[], &[7]).expect("a scalar").integers(), Some(&[7][..]));
    }

    #[test]
    fn a_type_wraps_integers_and_rounds_halves_if_asked() {
        let tensor = Tensor::int32(&[1], &[70_000]).expect("a tensor");
        assert_eq!(tensor.typed(ElementType::UInt16, false).expect("integers").integers(), Some(&[4_464][..]));
        let tensor = Tensor::float32(&[2], vec![1e6, 0.1]).expect("a tensor");
        assert_eq!(tensor.clone().typed(ElementType::Float16, false).expect("floats").floats(), tensor.floats());
        let rounded = tensor.typed(ElementType::Float16, true).expect("floats");
        assert_eq!(rounded.floats(), Some(&[f32::INFINITY, 0.099_975_586][..]));
        assert!(rounded.typed(ElementType::Int32, true).is_err());
    }
}
