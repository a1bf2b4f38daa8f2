//! Builds a program operation by operation: names, types and shapes on one side, places in the weight file on the other.
//!
//! Each method is one of Core ML's operations with all of its inputs, the optional ones too, because Core ML does not treat
//! all of them as optional. Shapes that do not fit are bugs of the caller and end in a panic. What the operations add up to
//! is not known here.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use half::f16;

use super::architecture::{Role, Weight};
use super::blob::{BlobType, Layout, Place};
use super::message::{
    Argument, Binding, BlobFileValue, Block, Bools, Bound, Bytes, ConstantDimension, Content, DataType, Dimension,
    Floats, Function, ImmediateValue, Ints, NamedValueType, Numbers, Operation, Program, Strings, TensorType,
    TensorValue, Value, ValueType,
};
use super::options::{Target, WeightPrecision};
use super::segment::{Constant, Form, Segment, Stored};
use crate::quantise::palette::COLOURS;
use crate::quantise::rows::INT4_BLOCK;

/// The weight file as programs name it.
const WEIGHT_FILE: &str = "@model_path/weights/weight.bin";

/// The only function; Core ML wants this name.
const FUNCTION: &str = "main";

/// A value of the program.
#[derive(Clone, Debug)]
pub(super) struct Tensor {
    name: String,
    kind: DataType,
    shape: Vec<usize>,
}

impl Tensor {
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The name and type, as inputs and outputs of operations have them.
    fn named(&self) -> NamedValueType {
        NamedValueType { name: self.name.clone(), kind: Some(value_type(self.kind, &self.shape)) }
    }
}

/// A program so far.
pub(super) struct Builder {
    target: Target,
    precision: WeightPrecision,
    raised: BTreeSet<String>,
    weights: Vec<Weight>,
    inputs: Vec<Tensor>,
    operations: Vec<Operation>,
    names: BTreeSet<String>,
    segments: Vec<Segment>,
    layout: Layout,
}

/// What a finished builder leaves.
pub(super) struct Built {
    pub(super) program: Program,
    pub(super) segments: Vec<Segment>,
    pub(super) layout: Layout,
}

impl Builder {
    pub(super) fn new(
        target: Target,
        precision: WeightPrecision,
        raised: BTreeSet<String>,
        weights: Vec<Weight>,
    ) -> Self {
        let (inputs, operations, names, segments) = (Vec::new(), Vec::new(), BTreeSet::new(), Vec::new());
        Self { target, precision, raised, weights, inputs, operations, names, segments, layout: Layout::new() }
    }

    /// Ends the program, whose results are `outputs`.
    pub(super) fn finish(self, outputs: &[Tensor]) -> Built {
        let outputs = outputs.iter().map(|output| output.name.clone()).collect();
        let block = Block { outputs, operations: self.operations };
        let opset = self.target.opset().to_owned();
        let function = Function {
            inputs: self.inputs.iter().map(Tensor::named).collect(),
            opset: opset.clone(),
            block_specializations: BTreeMap::from([(opset, block)]),
        };
        let program = Program { version: 1, functions: BTreeMap::from([(FUNCTION.to_owned(), function)]) };
        Built { program, segments: self.segments, layout: self.layout }
    }

    /// An input.
    pub(super) fn input(&mut self, name: &str, kind: DataType, shape: &[usize]) -> Tensor {
        let tensor = self.fresh(name, kind, shape);
        self.inputs.push(tensor.clone());
        tensor
    }

    // Constants in the program itself. Equal ones are made once and named after what they are.

    pub(super) fn ints(&mut self, numbers: &[i32]) -> Tensor {
        let name = numbers.iter().map(i32::to_string).collect::<Vec<_>>().join("_");
        self.immediate(
            &format!("ints_{name}"),
            DataType::Int32,
            &[numbers.len()],
            Numbers::Ints(Ints { values: numbers.to_vec() }),
        )
    }

    /// `[1, numbers]`, by a name of its own because it may be long.
    pub(super) fn int_row(&mut self, name: &str, numbers: &[i32]) -> Tensor {
        self.immediate(name, DataType::Int32, &[1, numbers.len()], Numbers::Ints(Ints { values: numbers.to_vec() }))
    }

    fn int(&mut self, number: i32) -> Tensor {
        self.immediate(&format!("int_{number}"), DataType::Int32, &[], Numbers::Ints(Ints { values: vec![number] }))
    }

    fn truth(&mut self, truth: bool) -> Tensor {
        self.immediate(&format!("bool_{truth}"), DataType::Bool, &[], Numbers::Bools(Bools { values: vec![truth] }))
    }

    fn text(&mut self, text: &str) -> Tensor {
        let content = Numbers::Strings(Strings { values: vec![text.to_owned()] });
        self.immediate(&format!("text_{text}"), DataType::String, &[], content)
    }

    /// A number of the type of `like`.
    pub(super) fn number(&mut self, like: &Tensor, number: f32) -> Tensor {
        match like.kind {
            DataType::Float16 => {
                // A positive number stays one: the smallest half is better than dividing by zero.
                let half = f16::from_f32(number);
                let half = if half == f16::ZERO && number > 0.0 { f16::from_bits(1) } else { half };
                let content = Numbers::Bytes(Bytes { values: half.to_le_bytes().to_vec() });
                self.immediate(&format!("half_{half:e}"), DataType::Float16, &[], content)
            }
            DataType::Float32 => {
                let content = Numbers::Floats(Floats { values: vec![number] });
                self.immediate(&format!("float_{number:e}"), DataType::Float32, &[], content)
            }
            DataType::Int32 => self.int(number as i32),
            other => panic!("no number is made of type {other:?}. This is a bug."),
        }
    }

    fn immediate(&mut self, name: &str, kind: DataType, shape: &[usize], numbers: Numbers) -> Tensor {
        let tensor = Tensor { name: identifier(name), kind, shape: shape.to_vec() };
        if self.names.insert(tensor.name.clone()) {
            self.constant_operation(&tensor, immediate(kind, shape, numbers));
        }
        tensor
    }

    // Constants in the weight file.

    /// A tensor of the source as a value of the shape that it has there.
    pub(super) fn weight(&mut self, source: &str) -> Tensor {
        let index = self.source(source);
        let Weight { shape, role, .. } = self.weights[index].clone();
        let (rows, row) = (self.weights[index].rows(), self.weights[index].row());
        let tensor = self.fresh(source, DataType::Float16, &shape);
        let precision = if self.raised.contains(source) { self.precision.raised() } else { self.precision };
        let (form, fell_back) = self.form(role, precision, rows, row);
        self.segments.push(Segment::Stored(Stored { weight: index, rows: 0..rows, form, fell_back }));
        self.decompress(&tensor, form);
        tensor
    }

    /// Some rows of a table in half precision, as a value of another shape.
    pub(super) fn table(&mut self, source: &str, rows: Range<usize>, shape: &[usize]) -> Tensor {
        let index = self.source(source);
        let elements = rows.len() * self.weights[index].row();
        assert_eq!(
            elements,
            shape.iter().product::<usize>(),
            "rows of `{source}` do not fill their shape. This is a bug."
        );
        let tensor = self.fresh(source, DataType::Float16, shape);
        let form = Form::Half { numbers: self.layout.place(BlobType::Float16, elements as u64) };
        self.segments.push(Segment::Stored(Stored { weight: index, rows, form, fell_back: false }));
        self.decompress(&tensor, form);
        tensor
    }

    /// A computed array of half precision.
    pub(super) fn computed(&mut self, name: &str, shape: &[usize], constant: Constant) -> Tensor {
        let tensor = self.fresh(name, DataType::Float16, shape);
        let place = self.layout.place(BlobType::Float16, shape.iter().product::<usize>() as u64);
        self.segments.push(Segment::Constant { place, constant });
        self.constant_operation(&tensor, in_file(DataType::Float16, shape, place));
        tensor
    }

    /// The bias of a linear layer without one. Core ML takes it for optional; coremltools always writes it.
    pub(super) fn no_bias(&mut self, width: usize) -> Tensor {
        let name = format!("no_bias_{width}");
        if self.names.contains(&name) {
            return Tensor { name, kind: DataType::Float16, shape: vec![width] };
        }
        self.computed(&name, &[width], Constant::Zeros(2 * width))
    }

    fn source(&self, name: &str) -> usize {
        let found = self.weights.iter().position(|weight| weight.name == name);
        found.unwrap_or_else(|| panic!("the architecture has no `{name}`. This is a bug."))
    }

    /// What a tensor is stored as, with places for it.
    fn form(&mut self, role: Role, precision: WeightPrecision, rows: usize, row: usize) -> (Form, bool) {
        let elements = (rows * row) as u64;
        let layout = &mut self.layout;
        let mut int8 = || Form::Int8 {
            codes: layout.place(BlobType::Int8, elements),
            scales: layout.place(BlobType::Float16, rows as u64),
        };
        match (role, precision) {
            (Role::Exact, _) | (_, WeightPrecision::Fp16) => {
                (Form::Half { numbers: layout.place(BlobType::Float16, elements) }, false)
            }
            (_, WeightPrecision::Int8) | (Role::Tokens, WeightPrecision::FourBit) => (int8(), false),
            (Role::Matrix, WeightPrecision::FourBit) if self.target < Target::MacOs15 => {
                let indices = layout.place(BlobType::Uint8, elements.div_ceil(2));
                (Form::Palette { indices, palette: layout.place(BlobType::Float16, COLOURS as u64) }, false)
            }
            (Role::Matrix, WeightPrecision::FourBit) if row.is_multiple_of(INT4_BLOCK) => {
                let codes = layout.place(BlobType::Int4, elements);
                let scales = layout.place(BlobType::Float16, elements / INT4_BLOCK as u64);
                (Form::Int4 { codes, scales }, false)
            }
            (Role::Matrix, WeightPrecision::FourBit) => (int8(), true),
        }
    }

    /// The operation that makes half precision of a stored form.
    fn decompress(&mut self, tensor: &Tensor, form: Form) {
        let shape = &tensor.shape;
        let rows = shape[0];
        match form {
            Form::Half { numbers } => self.constant_operation(tensor, in_file(DataType::Float16, shape, numbers)),
            Form::Int8 { codes, scales } if self.target < Target::MacOs15 => {
                let place = self.layout.place(BlobType::Int8, rows as u64);
                self.segments.push(Segment::Constant { place, constant: Constant::Zeros(rows) });
                let axis = immediate(DataType::Int32, &[], Numbers::Ints(Ints { values: vec![0] }));
                let parameters = [
                    ("quantized_data", in_file(DataType::Int8, shape, codes)),
                    ("zero_point", in_file(DataType::Int8, &[rows], place)),
                    ("scale", in_file(DataType::Float16, &[rows], scales)),
                    ("axis", axis),
                ];
                self.constant_expression("constexpr_affine_dequantize", tensor, parameters);
            }
            Form::Int8 { codes, scales } => {
                let parameters = [
                    ("data", in_file(DataType::Int8, shape, codes)),
                    ("scale", in_file(DataType::Float16, &[rows, 1], scales)),
                ];
                self.constant_expression("constexpr_blockwise_shift_scale", tensor, parameters);
            }
            Form::Palette { indices, palette } => {
                let sizes = shape.iter().flat_map(|size| (*size as u32).to_le_bytes()).collect();
                let parameters = [
                    ("indices", in_file(DataType::Uint8, &[indices.elements as usize], indices)),
                    ("lut", in_file(DataType::Float16, &[COLOURS], palette)),
                    ("shape", immediate(DataType::Uint32, &[shape.len()], Numbers::Bytes(Bytes { values: sizes }))),
                ];
                self.constant_expression("constexpr_lut_to_dense", tensor, parameters);
            }
            Form::Int4 { codes, scales } => {
                let parameters = [
                    ("data", in_file(DataType::Int4, shape, codes)),
                    ("scale", in_file(DataType::Float16, &[rows, shape[1] / INT4_BLOCK], scales)),
                ];
                self.constant_expression("constexpr_blockwise_shift_scale", tensor, parameters);
            }
        }
    }

    fn constant_operation(&mut self, tensor: &Tensor, value: Value) {
        let attributes = [("name", name_value(&tensor.name)), ("val", value)];
        self.operations.push(Operation {
            kind: "const".to_owned(),
            inputs: BTreeMap::new(),
            outputs: vec![tensor.named()],
            attributes: attributes.map(|(key, value)| (key.to_owned(), value)).into(),
        });
    }

    /// An operation that only the loader carries out. Its parameters are attributes up to macOS 14 and inputs from then on.
    fn constant_expression<const N: usize>(&mut self, kind: &str, tensor: &Tensor, parameters: [(&str, Value); N]) {
        let mut attributes = BTreeMap::from([("name".to_owned(), name_value(&tensor.name))]);
        let mut inputs = BTreeMap::new();
        for (key, value) in parameters {
            if self.target < Target::MacOs15 {
                attributes.insert(key.to_owned(), value);
            } else {
                inputs.insert(key.to_owned(), argument([Bound::Value(value)]));
            }
        }
        self.operations.push(Operation { kind: kind.to_owned(), inputs, outputs: vec![tensor.named()], attributes });
    }

    // Operations.

    /// `x` as another type of number.
    pub(super) fn cast(&mut self, name: &str, x: &Tensor, kind: DataType) -> Tensor {
        let text = match kind {
            DataType::Float16 => "fp16",
            DataType::Float32 => "fp32",
            other => panic!("nothing is cast to {other:?}. This is a bug."),
        };
        let dtype = self.text(text);
        self.operation("cast", name, &[("x", x), ("dtype", &dtype)], kind, &x.shape)
    }

    /// An operation with one input and its shape: `abs`, `relu`, `silu`.
    pub(super) fn unary(&mut self, kind: &str, name: &str, x: &Tensor) -> Tensor {
        self.operation(kind, name, &[("x", x)], x.kind, &x.shape)
    }

    /// An operation between numbers, the sizes 1 of one being repeated to the other's: `add`, `sub`, `mul`, `real_div`,
    /// `maximum`.
    pub(super) fn binary(&mut self, kind: &str, name: &str, x: &Tensor, y: &Tensor) -> Tensor {
        assert_eq!(x.kind, y.kind, "`{name}` mixes types. This is a bug.");
        let shape = broadcast(name, &x.shape, &y.shape);
        self.operation(kind, name, &[("x", x), ("y", y)], x.kind, &shape)
    }

    /// Where two tensors have the same number.
    pub(super) fn equal(&mut self, name: &str, x: &Tensor, y: &Tensor) -> Tensor {
        let shape = broadcast(name, &x.shape, &y.shape);
        self.operation("equal", name, &[("x", x), ("y", y)], DataType::Bool, &shape)
    }

    /// An operation over the last axis, which becomes 1: `reduce_max`, `reduce_mean`, `reduce_sum`, `reduce_l2_norm`.
    pub(super) fn reduce(&mut self, kind: &str, name: &str, x: &Tensor) -> Tensor {
        let (axes, keep) = (self.ints(&[-1]), self.truth(true));
        let mut shape = x.shape.clone();
        *shape.last_mut().expect("a scalar is never reduced. This is a bug.") = 1;
        self.operation(kind, name, &[("x", x), ("axes", &axes), ("keep_dims", &keep)], x.kind, &shape)
    }

    /// `1 / sqrt(x)`.
    pub(super) fn rsqrt(&mut self, name: &str, x: &Tensor) -> Tensor {
        let epsilon = self.number(x, 0.0);
        self.operation("rsqrt", name, &[("x", x), ("epsilon", &epsilon)], x.kind, &x.shape)
    }

    /// The rows of `table` that `ids` name.
    pub(super) fn gather(&mut self, name: &str, table: &Tensor, ids: &Tensor) -> Tensor {
        let (axis, batch_dims, validate) = (self.int(0), self.int(0), self.truth(false));
        let mut inputs = vec![("x", table), ("indices", ids), ("axis", &axis), ("batch_dims", &batch_dims)];
        if self.target >= Target::MacOs14 {
            inputs.push(("validate_indices", &validate));
        }
        let shape = [&ids.shape[..], &table.shape[1..]].concat();
        self.operation("gather", name, &inputs, table.kind, &shape)
    }

    /// `x` times the transposed `weight` plus `bias`.
    pub(super) fn linear(&mut self, name: &str, x: &Tensor, weight: &Tensor, bias: &Tensor) -> Tensor {
        let mut shape = x.shape.clone();
        let last = shape.last_mut().expect("a scalar is never projected. This is a bug.");
        assert_eq!((*last, weight.shape[0]), (weight.shape[1], bias.shape[0]), "`{name}` does not fit. This is a bug.");
        *last = weight.shape[0];
        self.operation("linear", name, &[("x", x), ("weight", weight), ("bias", bias)], x.kind, &shape)
    }

    /// The product of the last two axes, with those of `y` transposed or not.
    pub(super) fn matmul(&mut self, name: &str, x: &Tensor, y: &Tensor, transpose_y: bool) -> Tensor {
        let [.., rows, inner] = x.shape[..] else { panic!("`{name}` needs two axes. This is a bug.") };
        let [.., first, second] = y.shape[..] else { panic!("`{name}` needs two axes. This is a bug.") };
        let (y_inner, columns) = if transpose_y { (second, first) } else { (first, second) };
        assert_eq!(inner, y_inner, "`{name}` does not fit. This is a bug.");
        let mut shape = broadcast(name, &x.shape[..x.shape.len() - 2], &y.shape[..y.shape.len() - 2]);
        shape.extend([rows, columns]);
        let (transpose_x, transpose_y) = (self.truth(false), self.truth(transpose_y));
        let inputs = [("x", x), ("y", y), ("transpose_x", &transpose_x), ("transpose_y", &transpose_y)];
        self.operation("matmul", name, &inputs, x.kind, &shape)
    }

    /// `x` in another shape.
    pub(super) fn reshape(&mut self, name: &str, x: &Tensor, shape: &[usize]) -> Tensor {
        assert_eq!(
            x.shape.iter().product::<usize>(),
            shape.iter().product::<usize>(),
            "`{name}` does not fit. This is a bug."
        );
        let sizes: Vec<i32> = shape.iter().map(|size| *size as i32).collect();
        let sizes = self.ints(&sizes);
        self.operation("reshape", name, &[("x", x), ("shape", &sizes)], x.kind, shape)
    }

    /// Swaps the two axes in the middle of four: `[1, tokens, heads, width]` and `[1, heads, tokens, width]`.
    pub(super) fn swap_middle(&mut self, name: &str, x: &Tensor) -> Tensor {
        let [batch, first, second, last] = x.shape[..] else { panic!("`{name}` needs four axes. This is a bug.") };
        let permutation = self.ints(&[0, 2, 1, 3]);
        let shape = [batch, second, first, last];
        self.operation("transpose", name, &[("x", x), ("perm", &permutation)], x.kind, &shape)
    }

    /// Softmax over the last axis.
    pub(super) fn softmax(&mut self, name: &str, x: &Tensor) -> Tensor {
        let axis = self.int(-1);
        self.operation("softmax", name, &[("x", x), ("axis", &axis)], x.kind, &x.shape)
    }

    /// The two halves of the last axis, swapped.
    pub(super) fn swap_halves(&mut self, name: &str, x: &Tensor) -> Tensor {
        let (two, axis, no) = (self.int(2), self.int(-1), self.truth(false));
        let mut shape = x.shape.clone();
        let last = shape.last_mut().expect("a scalar is never split. This is a bug.");
        assert!(last.is_multiple_of(2), "`{name}` cannot be halved. This is a bug.");
        *last /= 2;
        let [first, second] = ["first", "second"].map(|half| self.fresh(&format!("{name}_{half}"), x.kind, &shape));
        let inputs = [("x", x), ("num_splits", &two), ("axis", &axis)];
        let inputs = inputs.map(|(key, value)| (key, vec![value])).into();
        self.push("split", inputs, &[first.clone(), second.clone()]);
        let swapped = self.fresh(name, x.kind, &x.shape);
        let inputs = vec![("values", vec![&second, &first]), ("axis", vec![&axis]), ("interleave", vec![&no])];
        self.push("concat", inputs, std::slice::from_ref(&swapped));
        swapped
    }

    /// `x` with sizes of 1 inserted at `axes`.
    pub(super) fn expand(&mut self, name: &str, x: &Tensor, axes: &[usize]) -> Tensor {
        let mut shape = x.shape.clone();
        for axis in axes {
            shape.insert(*axis, 1);
        }
        let axes: Vec<i32> = axes.iter().map(|axis| *axis as i32).collect();
        let axes = self.ints(&axes);
        self.operation("expand_dims", name, &[("x", x), ("axes", &axes)], x.kind, &shape)
    }

    /// `x` without its axis of size 1 at `axis`.
    pub(super) fn squeeze(&mut self, name: &str, x: &Tensor, axis: usize) -> Tensor {
        let mut shape = x.shape.clone();
        assert_eq!(shape.remove(axis), 1, "`{name}` would lose numbers. This is a bug.");
        let axes = self.ints(&[axis as i32]);
        self.operation("squeeze", name, &[("x", x), ("axes", &axes)], x.kind, &shape)
    }

    /// The first of the tokens of `[1, tokens, width]`.
    pub(super) fn first_token(&mut self, name: &str, x: &Tensor) -> Tensor {
        let [1, _, width] = x.shape[..] else { panic!("`{name}` needs one text. This is a bug.") };
        self.beginning(name, x, &[1, 1, width])
    }

    /// The first numbers along each axis, which make up `shape`.
    pub(super) fn beginning(&mut self, name: &str, x: &Tensor, shape: &[usize]) -> Tensor {
        assert_eq!(x.shape.len(), shape.len(), "`{name}` has other axes. This is a bug.");
        assert!(x.shape.iter().zip(shape).all(|(has, wants)| has >= wants), "`{name}` does not fit. This is a bug.");
        let sizes: Vec<i32> = shape.iter().map(|size| *size as i32).collect();
        let (begin, size) = (self.ints(&vec![0; shape.len()]), self.ints(&sizes));
        self.operation("slice_by_size", name, &[("x", x), ("begin", &begin), ("size", &size)], x.kind, shape)
    }

    /// Layer normalisation over the last axis.
    pub(super) fn layer_norm(&mut self, name: &str, x: &Tensor, gamma: &Tensor, beta: &Tensor, epsilon: f32) -> Tensor {
        let (axes, epsilon) = (self.ints(&[-1]), self.number(x, epsilon));
        let inputs = [("x", x), ("axes", &axes), ("gamma", gamma), ("beta", beta), ("epsilon", &epsilon)];
        self.operation("layer_norm", name, &inputs, x.kind, &x.shape)
    }

    /// The Gaussian error linear unit: `EXACT` or `TANH_APPROXIMATION`.
    pub(super) fn gelu(&mut self, name: &str, x: &Tensor, mode: &str) -> Tensor {
        let mode = self.text(mode);
        self.operation("gelu", name, &[("x", x), ("mode", &mode)], x.kind, &x.shape)
    }

    fn operation(
        &mut self,
        kind: &str,
        name: &str,
        inputs: &[(&str, &Tensor)],
        output: DataType,
        shape: &[usize],
    ) -> Tensor {
        let tensor = self.fresh(name, output, shape);
        self.push(
            kind,
            inputs.iter().map(|(key, value)| (*key, vec![*value])).collect(),
            std::slice::from_ref(&tensor),
        );
        tensor
    }

    fn push(&mut self, kind: &str, inputs: Vec<(&str, Vec<&Tensor>)>, outputs: &[Tensor]) {
        let names = |values: Vec<&Tensor>| argument(values.into_iter().map(|value| Bound::Name(value.name.clone())));
        self.operations.push(Operation {
            kind: kind.to_owned(),
            inputs: inputs.into_iter().map(|(key, values)| (key.to_owned(), names(values))).collect(),
            attributes: BTreeMap::from([("name".to_owned(), name_value(&outputs[0].name))]),
            outputs: outputs.iter().map(Tensor::named).collect(),
        });
    }

    fn fresh(&mut self, name: &str, kind: DataType, shape: &[usize]) -> Tensor {
        let tensor = Tensor { name: identifier(name), kind, shape: shape.to_vec() };
        assert!(self.names.insert(tensor.name.clone()), "two values are called `{}`. This is a bug.", tensor.name);
        tensor
    }
}

/// A name of letters, digits and underscores.
/// What a value of the program is called: `name` with nothing but letters, digits and underscores.
pub(crate) fn identifier(name: &str) -> String {
    let letter = |it: char| match it {
        '-' => "minus".to_owned(),
        it if it.is_ascii_alphanumeric() => it.to_string(),
        _ => "_".to_owned(),
    };
    name.chars().map(letter).collect()
}

fn broadcast(name: &str, x: &[usize], y: &[usize]) -> Vec<usize> {
    let rank = x.len().max(y.len());
    let size = |shape: &[usize], axis: usize| (axis + shape.len()).checked_sub(rank).map_or(1, |at| shape[at]);
    let both = (0..rank).map(|axis| match (size(x, axis), size(y, axis)) {
        (x, y) if x == y || y == 1 => x,
        (1, y) => y,
        (x, y) => panic!("`{name}` does not fit: `{x}` and `{y}`. This is a bug."),
    });
    both.collect()
}

fn value_type(kind: DataType, shape: &[usize]) -> ValueType {
    let dimension = |size: &usize| Dimension { constant: Some(ConstantDimension { size: *size as u64 }) };
    let dimensions = shape.iter().map(dimension).collect();
    ValueType { tensor_type: Some(TensorType { data_type: kind.into(), rank: shape.len() as i64, dimensions }) }
}

fn immediate(kind: DataType, shape: &[usize], numbers: Numbers) -> Value {
    let tensor = Some(TensorValue { numbers: Some(numbers) });
    Value { kind: Some(value_type(kind, shape)), content: Some(Content::Immediate(ImmediateValue { tensor })) }
}

fn in_file(kind: DataType, shape: &[usize], place: Place) -> Value {
    let blob = BlobFileValue { file_name: WEIGHT_FILE.to_owned(), offset: place.offset };
    Value { kind: Some(value_type(kind, shape)), content: Some(Content::BlobFile(blob)) }
}

fn name_value(name: &str) -> Value {
    immediate(DataType::String, &[], Numbers::Strings(Strings { values: vec![name.to_owned()] }))
}

fn argument(bound: impl IntoIterator<Item = Bound>) -> Argument {
    Argument { arguments: bound.into_iter().map(|binding| Binding { binding: Some(binding) }).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_hold_nothing_but_letters_digits_and_underscores() {
        assert_eq!(identifier("encoder.layer.0.output.dense.weight"), "encoder_layer_0_output_dense_weight");
        assert_eq!(identifier("ints_-1_2"), "ints_minus1_2");
    }

    #[test]
    fn sizes_of_one_are_repeated() {
        assert_eq!(
            broadcast("x", &[1, 4, 1], &[3, 1, 1, 5]),
            [3, 1, 4, 5][..1].iter().chain(&[1, 4, 5]).copied().collect::<Vec<_>>()
        );
        assert_eq!(broadcast("x", &[], &[2, 3]), [2, 3]);
    }

    #[test]
    fn equal_constants_are_made_once() {
        let mut builder = Builder::new(Target::MacOs13, WeightPrecision::Fp16, BTreeSet::new(), Vec::new());
        builder.ints(&[-1]);
        let made = builder.operations.len();
        builder.ints(&[-1]);
        assert_eq!(builder.operations.len(), made);
    }
}
