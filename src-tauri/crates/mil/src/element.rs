//! The types of a tensor's elements, with the numbers that stand for them in `MIL.proto`, in a weight file and in a
//! model's description. Not the elements themselves.

use serde::Serialize;

/// The type of a tensor's elements.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names are the types")]
#[non_exhaustive]
pub enum ElementType {
    Bool,
    String,
    Float16,
    Float32,
    Float64,
    BFloat16,
    Int4,
    Int8,
    Int16,
    Int32,
    Int64,
    UInt1,
    UInt2,
    UInt3,
    UInt4,
    UInt6,
    UInt8,
    UInt16,
    UInt32,
    UInt64,
}

use ElementType as E;

/// Type, `DataType` of `MIL.proto`, type in a weight file (0: never there), bits, name in `cast`.
const TABLE: &[(ElementType, i32, u32, usize, &str)] = &[
    (E::Bool, 1, 0, 8, "bool"),
    (E::String, 2, 0, 0, "string"),
    (E::Float16, 10, 1, 16, "fp16"),
    (E::Float32, 11, 2, 32, "fp32"),
    (E::Float64, 12, 0, 64, "fp64"),
    (E::BFloat16, 13, 5, 16, "bf16"),
    (E::Int8, 21, 4, 8, "int8"),
    (E::Int16, 22, 6, 16, "int16"),
    (E::Int32, 23, 14, 32, "int32"),
    (E::Int64, 24, 0, 64, "int64"),
    (E::Int4, 25, 8, 4, "int4"),
    (E::UInt8, 31, 3, 8, "uint8"),
    (E::UInt16, 32, 7, 16, "uint16"),
    (E::UInt32, 33, 15, 32, "uint32"),
    (E::UInt64, 34, 0, 64, "uint64"),
    (E::UInt4, 35, 11, 4, "uint4"),
    (E::UInt2, 36, 10, 2, "uint2"),
    (E::UInt1, 37, 9, 1, "uint1"),
    (E::UInt6, 38, 13, 6, "uint6"),
    (E::UInt3, 39, 12, 3, "uint3"),
];

/// What a number in Rust stands for it: all floating-point types are evaluated as `f32`, all integers as `i64`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Class {
    Float,
    Int,
    Bool,
    Text,
}

impl ElementType {
    pub(crate) fn from_mil(code: i32) -> Option<Self> {
        TABLE.iter().find(|row| row.1 == code).map(|row| row.0)
    }

    pub(crate) fn from_blob(code: u32) -> Option<Self> {
        TABLE.iter().find(|row| row.2 == code && code != 0).map(|row| row.0)
    }

    /// The type of a multi-array in a model's description.
    pub(crate) fn from_interface(code: i32) -> Option<Self> {
        match code {
            65_552 => Some(Self::Float16),
            65_568 => Some(Self::Float32),
            65_600 => Some(Self::Float64),
            131_080 => Some(Self::Int8),
            131_104 => Some(Self::Int32),
            _ => None,
        }
    }

    /// The type that `cast` calls by this name.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        TABLE.iter().find(|row| row.4 == name).map(|row| row.0)
    }

    fn row(self) -> &'static (ElementType, i32, u32, usize, &'static str) {
        TABLE.iter().find(|row| row.0 == self).expect("every type has a row. This is a bug.")
    }

    /// How many bits an element takes in a file; 0 for texts.
    pub fn bits(self) -> usize {
        self.row().3
    }

    /// The short name that `cast` uses: `fp16`, `int32`.
    pub fn name(self) -> &'static str {
        self.row().4
    }

    pub(crate) fn class(self) -> Class {
        match self {
            Self::Bool => Class::Bool,
            Self::String => Class::Text,
            Self::Float16 | Self::Float32 | Self::Float64 | Self::BFloat16 => Class::Float,
            _ => Class::Int,
        }
    }

    /// Bytes that `count` elements take in a file; `None` if no file can be so long.
    pub(crate) fn bytes(self, count: usize) -> Option<usize> {
        count.checked_mul(self.bits()).map(|bits| bits.div_ceil(8))
    }

    pub(crate) fn signed(self) -> bool {
        matches!(self, Self::Int4 | Self::Int8 | Self::Int16 | Self::Int32 | Self::Int64)
    }

    /// What an integer becomes when it is stored in this type: higher bits are lost.
    pub(crate) fn wrap(self, number: i64) -> i64 {
        let bits = self.bits() as u32;
        if self.class() != Class::Int || bits >= 64 {
            return number;
        }
        let shift = 64 - bits;
        if self.signed() {
            (number << shift) >> shift
        } else {
            ((number << shift).cast_unsigned() >> shift).cast_signed()
        }
    }
}

impl std::fmt::Display for ElementType {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_wrap_as_their_type_does() {
        assert_eq!(E::Int8.wrap(200), -56);
        assert_eq!(E::UInt8.wrap(-1), 255);
        assert_eq!(E::Int4.wrap(8), -8);
        assert_eq!(E::UInt3.wrap(9), 1);
        assert_eq!(E::Int64.wrap(i64::MIN), i64::MIN);
        assert_eq!(E::Int32.wrap(i64::from(i32::MIN)), i64::from(i32::MIN));
    }

    #[test]
    fn a_code_stands_for_one_type_only() {
        for row in TABLE {
            assert_eq!(E::from_mil(row.1), Some(row.0));
            assert_eq!(E::from_name(row.4), Some(row.0));
            assert!(row.2 == 0 || E::from_blob(row.2) == Some(row.0));
        }
        assert_eq!(E::from_blob(0), None);
    }
}
