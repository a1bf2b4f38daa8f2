//! Which inputs each operation has, and since when: for judging a program. Taken from what coremltools 9.0 declares and what
//! it writes (an optional input with a default is always written; Core ML's runtime was seen to depend on that).

use serde::Serialize;

/// A version of the set of operations.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub(crate) enum Opset {
    CoreML5,
    CoreML6,
    CoreML7,
    CoreML8,
    CoreML9,
}

impl Opset {
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "CoreML5" => Self::CoreML5,
            "CoreML6" => Self::CoreML6,
            "CoreML7" => Self::CoreML7,
            "CoreML8" => Self::CoreML8,
            "CoreML9" => Self::CoreML9,
            _ => return None,
        })
    }

    /// The version of the specification that goes with it.
    pub(crate) fn specification(self) -> i32 {
        match self {
            Self::CoreML5 => 6,
            Self::CoreML6 => 7,
            Self::CoreML7 => 8,
            Self::CoreML8 => 9,
            Self::CoreML9 => 10,
        }
    }
}

/// Are the parameters of `constexpr_*` operations inputs in this opset, not attributes?
pub(crate) fn parameters_are_inputs(opset: &str) -> bool {
    Opset::from_name(opset).is_some_and(|opset| opset >= Opset::CoreML8)
}

/// Whether an input has to be there.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Need {
    /// The operation makes no sense without it.
    Required,
    /// It has a default, which is written nevertheless.
    Written,
    /// Its absence means something.
    Optional,
}

/// An input of an operation.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Parameter {
    pub(crate) name: &'static str,
    pub(crate) need: Need,
    /// The first opset that has it.
    pub(crate) since: Opset,
}

/// Operations, the first opset that has them, and their inputs: `?` is optional, `!` is written though it has a default, and
/// a digit is the first opset that has the input. The parameters of `const` and, before CoreML8, of `constexpr_*` are
/// attributes; they are listed all the same, except for those of `const`.
const TABLE: &[(&str, Opset, &str)] = &[
    ("const", Opset::CoreML5, ""),
    ("constexpr_affine_dequantize", Opset::CoreML6, "quantized_data zero_point scale axis"),
    // `shape` is an attribute before CoreML8 and not there afterwards.
    ("constexpr_lut_to_dense", Opset::CoreML6, "indices lut shape? vector_axis?8"),
    ("constexpr_blockwise_shift_scale", Opset::CoreML8, "data scale offset?"),
    ("constexpr_cast", Opset::CoreML6, "source_val output_dtype"),
    ("scaled_dot_product_attention", Opset::CoreML8, "query key value attn_mask?"),
    (
        "add sub mul real_div floor_div mod maximum minimum pow equal not_equal less less_equal greater greater_equal \
         logical_and logical_or logical_xor",
        Opset::CoreML5,
        "x y",
    ),
    (
        "abs ceil cos erf exp floor relu round sigmoid sign silu sin softplus sqrt square tanh logical_not identity shape",
        Opset::CoreML5,
        "x",
    ),
    ("inverse log rsqrt", Opset::CoreML5, "x epsilon!"),
    ("gelu", Opset::CoreML5, "x mode!"),
    ("clip", Opset::CoreML5, "x alpha beta"),
    ("cast", Opset::CoreML5, "x dtype"),
    ("select", Opset::CoreML5, "cond a b"),
    (
        "reduce_mean reduce_sum reduce_max reduce_min reduce_prod reduce_sum_square reduce_l1_norm reduce_l2_norm",
        Opset::CoreML5,
        "x axes? keep_dims!",
    ),
    ("softmax", Opset::CoreML5, "x axis!"),
    ("layer_norm", Opset::CoreML5, "x axes? gamma? beta? epsilon!"),
    ("cumsum", Opset::CoreML5, "x axis! exclusive! reverse!"),
    ("concat", Opset::CoreML5, "values axis interleave!"),
    ("stack", Opset::CoreML5, "values axis"),
    ("expand_dims", Opset::CoreML5, "x axes"),
    ("squeeze", Opset::CoreML5, "x axes?"),
    ("fill", Opset::CoreML5, "shape value!"),
    ("gather", Opset::CoreML5, "x indices axis! batch_dims!6 validate_indices!7"),
    ("range_1d", Opset::CoreML5, "start end step"),
    ("reshape", Opset::CoreML5, "x shape"),
    ("slice_by_index", Opset::CoreML5, "x begin end stride? begin_mask? end_mask? squeeze_mask?"),
    ("slice_by_size", Opset::CoreML5, "x begin size"),
    ("split", Opset::CoreML5, "x num_splits? split_sizes? axis!"),
    ("tile", Opset::CoreML5, "x reps"),
    ("transpose", Opset::CoreML5, "x perm"),
    ("conv", Opset::CoreML5, "x weight bias? strides! pad_type! pad! dilations! groups!"),
    ("linear", Opset::CoreML5, "x weight bias!"),
    ("matmul", Opset::CoreML5, "x y transpose_x! transpose_y!"),
];

/// Since when there is the operation, and its inputs; `None`: nothing is known of it.
pub(crate) fn of(kind: &str) -> Option<(Opset, Vec<Parameter>)> {
    let (_, since, inputs) = TABLE.iter().find(|(kinds, _, _)| kinds.split(' ').any(|listed| listed == kind))?;
    Some((*since, inputs.split_whitespace().map(|text| parameter(text, *since)).collect()))
}

fn parameter(text: &'static str, since: Opset) -> Parameter {
    let name = text.trim_end_matches(|character: char| character.is_ascii_digit());
    let since = match &text[name.len()..] {
        "6" => Opset::CoreML6,
        "7" => Opset::CoreML7,
        "8" => Opset::CoreML8,
        _ => since,
    };
    if let Some(name) = name.strip_suffix('?') {
        return Parameter { name, need: Need::Optional, since };
    }
    if let Some(name) = name.strip_suffix('!') {
        return Parameter { name, need: Need::Written, since };
    }
    Parameter { name, need: Need::Required, since }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_is_read_from_the_table() {
        let (since, inputs) = of("gather").expect("it is known");
        assert_eq!(since, Opset::CoreML5);
        assert_eq!(inputs[0], Parameter { name: "x", need: Need::Required, since: Opset::CoreML5 });
        assert_eq!(inputs[4], Parameter { name: "validate_indices", need: Need::Written, since: Opset::CoreML7 });
        assert_eq!(of("layer_norm").expect("it is known").1[1].need, Need::Optional);
        assert!(of("con").is_none());
    }

    #[test]
    fn everything_that_is_evaluated_is_in_the_table_and_the_other_way_round() {
        for kind in TABLE.iter().flat_map(|(kinds, _, _)| kinds.split(' ')) {
            assert!(crate::constant::is_constant(kind) || crate::operation::is_known(kind), "{kind}");
        }
    }

    #[test]
    fn versions_go_with_their_opsets() {
        assert_eq!(Opset::from_name("CoreML8").map(Opset::specification), Some(9));
        assert_eq!(Opset::from_name("CoreML4"), None);
        assert!(parameters_are_inputs("CoreML8") && !parameters_are_inputs("CoreML7") && !parameters_are_inputs("x"));
    }
}
