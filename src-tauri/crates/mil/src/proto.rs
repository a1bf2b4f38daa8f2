//! The messages of `model.mlmodel` that are read, declared by hand after Apple's `Model.proto`, `FeatureTypes.proto` and
//! `MIL.proto`. Fields that are not declared are skipped when a model is decoded; nothing here is public.

use std::collections::BTreeMap;

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Model {
    #[prost(int32, tag = "1")]
    pub(crate) specification_version: i32,
    #[prost(message, optional, tag = "2")]
    pub(crate) description: Option<ModelDescription>,
    #[prost(message, optional, tag = "502")]
    pub(crate) ml_program: Option<Program>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ModelDescription {
    #[prost(message, repeated, tag = "1")]
    pub(crate) input: Vec<FeatureDescription>,
    #[prost(message, repeated, tag = "10")]
    pub(crate) output: Vec<FeatureDescription>,
    #[prost(message, repeated, tag = "13")]
    pub(crate) state: Vec<FeatureDescription>,
    #[prost(message, repeated, tag = "20")]
    pub(crate) functions: Vec<FunctionDescription>,
    #[prost(string, tag = "21")]
    pub(crate) default_function_name: String,
    #[prost(message, optional, tag = "100")]
    pub(crate) metadata: Option<Metadata>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct FunctionDescription {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(message, repeated, tag = "2")]
    pub(crate) input: Vec<FeatureDescription>,
    #[prost(message, repeated, tag = "3")]
    pub(crate) output: Vec<FeatureDescription>,
    #[prost(message, repeated, tag = "6")]
    pub(crate) state: Vec<FeatureDescription>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Metadata {
    #[prost(string, tag = "1")]
    pub(crate) short_description: String,
    #[prost(string, tag = "2")]
    pub(crate) version_string: String,
    #[prost(string, tag = "3")]
    pub(crate) author: String,
    #[prost(string, tag = "4")]
    pub(crate) license: String,
    #[prost(btree_map = "string, string", tag = "100")]
    pub(crate) user_defined: BTreeMap<String, String>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct FeatureDescription {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(string, tag = "2")]
    pub(crate) short_description: String,
    // In a box, so that a message of many empty features takes little more memory than it has bytes.
    #[prost(message, optional, boxed, tag = "3")]
    pub(crate) kind: Option<Box<FeatureType>>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct FeatureType {
    #[prost(message, optional, tag = "5")]
    pub(crate) multi_array: Option<ArrayFeatureType>,
    #[prost(bool, tag = "1000")]
    pub(crate) is_optional: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ArrayFeatureType {
    #[prost(int64, repeated, tag = "1")]
    pub(crate) shape: Vec<i64>,
    #[prost(int32, tag = "2")]
    pub(crate) data_type: i32,
    #[prost(message, optional, tag = "21")]
    pub(crate) enumerated_shapes: Option<EnumeratedShapes>,
    #[prost(message, optional, tag = "31")]
    pub(crate) shape_range: Option<ShapeRange>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct EnumeratedShapes {
    #[prost(message, repeated, tag = "1")]
    pub(crate) shapes: Vec<Shape>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Shape {
    #[prost(int64, repeated, tag = "1")]
    pub(crate) shape: Vec<i64>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ShapeRange {
    #[prost(message, repeated, tag = "1")]
    pub(crate) size_ranges: Vec<SizeRange>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct SizeRange {
    #[prost(uint64, tag = "1")]
    pub(crate) lower_bound: u64,
    #[prost(int64, tag = "2")]
    pub(crate) upper_bound: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Program {
    #[prost(int64, tag = "1")]
    pub(crate) version: i64,
    #[prost(btree_map = "string, message", tag = "2")]
    pub(crate) functions: BTreeMap<String, Function>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Function {
    #[prost(message, repeated, tag = "1")]
    pub(crate) inputs: Vec<NamedValueType>,
    #[prost(string, tag = "2")]
    pub(crate) opset: String,
    #[prost(btree_map = "string, message", tag = "3")]
    pub(crate) block_specializations: BTreeMap<String, Block>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Block {
    #[prost(string, repeated, tag = "2")]
    pub(crate) outputs: Vec<String>,
    #[prost(message, repeated, tag = "3")]
    pub(crate) operations: Vec<Operation>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Operation {
    #[prost(string, tag = "1")]
    pub(crate) kind: String,
    #[prost(btree_map = "string, message", tag = "2")]
    pub(crate) inputs: BTreeMap<String, Argument>,
    #[prost(message, repeated, tag = "3")]
    pub(crate) outputs: Vec<NamedValueType>,
    #[prost(btree_map = "string, message", tag = "5")]
    pub(crate) attributes: BTreeMap<String, Value>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Argument {
    #[prost(message, repeated, tag = "1")]
    pub(crate) arguments: Vec<Binding>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Binding {
    #[prost(oneof = "Bound", tags = "1, 2")]
    pub(crate) bound: Option<Bound>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(crate) enum Bound {
    #[prost(string, tag = "1")]
    Name(String),
    #[prost(message, tag = "2")]
    Value(Box<Value>),
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct NamedValueType {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(message, optional, tag = "2")]
    pub(crate) kind: Option<ValueType>,
}

/// Lists, dictionaries and states are not declared: a value of those types has no tensor type here.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ValueType {
    #[prost(message, optional, tag = "1")]
    pub(crate) tensor: Option<TensorType>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct TensorType {
    #[prost(int32, tag = "1")]
    pub(crate) data_type: i32,
    #[prost(int64, tag = "2")]
    pub(crate) rank: i64,
    #[prost(message, repeated, tag = "3")]
    pub(crate) dimensions: Vec<Dimension>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Dimension {
    #[prost(oneof = "Size", tags = "1, 2")]
    pub(crate) size: Option<Size>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(crate) enum Size {
    #[prost(message, tag = "1")]
    Constant(ConstantSize),
    #[prost(message, tag = "2")]
    Unknown(UnknownSize),
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ConstantSize {
    #[prost(uint64, tag = "1")]
    pub(crate) size: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct UnknownSize {
    #[prost(bool, tag = "1")]
    pub(crate) variadic: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Value {
    #[prost(message, optional, tag = "2")]
    pub(crate) kind: Option<ValueType>,
    #[prost(oneof = "Content", tags = "3, 5")]
    pub(crate) content: Option<Content>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(crate) enum Content {
    #[prost(message, tag = "3")]
    Immediate(Immediate),
    #[prost(message, tag = "5")]
    Blob(BlobReference),
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct BlobReference {
    #[prost(string, tag = "1")]
    pub(crate) file_name: String,
    #[prost(uint64, tag = "2")]
    pub(crate) offset: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Immediate {
    #[prost(message, optional, tag = "1")]
    pub(crate) tensor: Option<TensorValue>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct TensorValue {
    #[prost(oneof = "Elements", tags = "1, 2, 3, 4, 5, 7")]
    pub(crate) elements: Option<Elements>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(crate) enum Elements {
    #[prost(message, tag = "1")]
    Floats(Floats),
    #[prost(message, tag = "2")]
    Ints(Ints),
    #[prost(message, tag = "3")]
    Bools(Bools),
    #[prost(message, tag = "4")]
    Strings(Strings),
    #[prost(message, tag = "5")]
    LongInts(LongInts),
    #[prost(message, tag = "7")]
    Bytes(Bytes),
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Floats {
    #[prost(float, repeated, tag = "1")]
    pub(crate) values: Vec<f32>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Ints {
    #[prost(int32, repeated, tag = "1")]
    pub(crate) values: Vec<i32>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Bools {
    #[prost(bool, repeated, tag = "1")]
    pub(crate) values: Vec<bool>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Strings {
    #[prost(string, repeated, tag = "1")]
    pub(crate) values: Vec<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct LongInts {
    #[prost(int64, repeated, tag = "1")]
    pub(crate) values: Vec<i64>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Bytes {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) values: Vec<u8>,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;

    proptest! {
        #[test]
        fn any_bytes_are_a_model_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
            let _ = Model::decode(&bytes[..]);
        }
    }

    #[test]
    fn fields_that_are_not_declared_are_skipped() {
        // field 1 = 8, then field 2222 = a text, which only some other program knows
        let bytes = [0x08, 8, 0xf2, 0x8a, 0x01, 2, b'h', b'i'];
        let model = Model::decode(&bytes[..]).expect("a model");
        assert_eq!(model.specification_version, 8);
    }

    #[test]
    fn messages_nested_without_end_are_refused_and_do_not_exhaust_the_stack() {
        // An unknown group within a group within a group: 100,000 times "field 900 begins".
        let bytes: Vec<u8> = std::iter::repeat_n([0xa3_u8, 0x38], 100_000).flatten().collect();
        assert!(Model::decode(&bytes[..]).is_err());
    }
}
