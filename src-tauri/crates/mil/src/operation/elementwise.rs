//! Operations on every element by itself, and on pairs of elements with the broadcasting of numpy.

use super::{Call, sized};
use crate::element::{Class, ElementType};
use crate::tensor::{Data, Tensor};

/// The shape of two shapes broadcast against each other.
pub(super) fn broadcast_shape(left: &[usize], right: &[usize]) -> Result<Vec<usize>, String> {
    let rank = left.len().max(right.len());
    let size = |shape: &[usize], index: usize| (index + shape.len()).checked_sub(rank).map_or(1, |index| shape[index]);
    let pairs = (0..rank).map(|index| match (size(left, index), size(right, index)) {
        (left, right) if left == right => Ok(left),
        (1, size) | (size, 1) => Ok(size),
        _ => Err(format!("the shapes `{left:?}` and `{right:?}` do not go together")),
    });
    pairs.collect()
}

/// How far the next element along every dimension of `shape` is in a tensor of the shape `of`, which is broadcast to it.
fn broadcast_strides(of: &[usize], shape: &[usize]) -> Vec<usize> {
    let missing = shape.len() - of.len();
    let own = crate::weight::strides(of);
    let stride = |index: usize| match index.checked_sub(missing) {
        Some(index) if of[index] != 1 => own[index],
        _ => 0,
    };
    (0..shape.len()).map(stride).collect()
}

/// `f` of every pair of elements, broadcast.
pub(super) fn zip<A: Copy, B: Copy, R>(
    (left_shape, left): (&[usize], &[A]),
    (right_shape, right): (&[usize], &[B]),
    f: impl Fn(A, B) -> R,
) -> Result<(Vec<usize>, Vec<R>), String> {
    let shape = broadcast_shape(left_shape, right_shape)?;
    let count = sized(&shape)?;
    if left_shape == right_shape {
        return Ok((shape, left.iter().zip(right).map(|(left, right)| f(*left, *right)).collect()));
    }
    if let [right] = right {
        return Ok((shape, left.iter().map(|left| f(*left, *right)).collect()));
    }
    if let [left] = left {
        return Ok((shape, right.iter().map(|right| f(*left, *right)).collect()));
    }
    let mut results = Vec::with_capacity(count);
    let (left_strides, right_strides) = (broadcast_strides(left_shape, &shape), broadcast_strides(right_shape, &shape));
    let last = shape.len() - 1;
    let width = shape[last];
    for_each_line(&shape, &left_strides, &right_strides, |from_left, from_right| {
        match (left_strides[last], right_strides[last]) {
            (0, _) => results.extend(right[from_right..][..width].iter().map(|right| f(left[from_left], *right))),
            (_, 0) => results.extend(left[from_left..][..width].iter().map(|left| f(*left, right[from_right]))),
            _ => {
                let pairs = left[from_left..][..width].iter().zip(&right[from_right..][..width]);
                results.extend(pairs.map(|(left, right)| f(*left, *right)));
            }
        }
    });
    Ok((shape, results))
}

/// Calls `visit` for every line along the last dimension, in order, with where it begins on either side.
fn for_each_line(shape: &[usize], left: &[usize], right: &[usize], mut visit: impl FnMut(usize, usize)) {
    let outer = &shape[..shape.len() - 1];
    if shape.contains(&0) {
        return;
    }
    let mut index = vec![0; outer.len()];
    let (mut from_left, mut from_right) = (0, 0);
    loop {
        visit(from_left, from_right);
        let mut dimension = outer.len();
        loop {
            let Some(next) = dimension.checked_sub(1) else { return };
            dimension = next;
            index[dimension] += 1;
            from_left += left[dimension];
            from_right += right[dimension];
            if index[dimension] < outer[dimension] {
                break;
            }
            from_left -= left[dimension] * outer[dimension];
            from_right -= right[dimension] * outer[dimension];
            index[dimension] = 0;
        }
    }
}

fn result(like: &Tensor, shape: Vec<usize>, data: impl Into<Data>) -> Result<Vec<Tensor>, String> {
    Ok(vec![Tensor::new(like.dtype(), shape, data.into())?])
}

fn booleans(shape: Vec<usize>, values: Vec<bool>) -> Result<Vec<Tensor>, String> {
    Ok(vec![Tensor::new(ElementType::Bool, shape, values.into())?])
}

fn mismatch(x: &Tensor, y: &Tensor) -> String {
    format!("it does not take `{}` and `{}`", x.dtype(), y.dtype())
}

pub(super) fn binary(call: &Call) -> Result<Vec<Tensor>, String> {
    let (x, y) = (call.tensor("x")?, call.tensor("y")?);
    match (x.data(), y.data()) {
        (Data::Floats(left), Data::Floats(right)) => {
            let operands = ((x.shape(), &left[..]), (y.shape(), &right[..]));
            let (shape, values) = match call.kind {
                "add" => zip(operands.0, operands.1, |x, y| x + y),
                "sub" => zip(operands.0, operands.1, |x, y| x - y),
                "mul" => zip(operands.0, operands.1, |x, y| x * y),
                "real_div" => zip(operands.0, operands.1, |x, y| x / y),
                "floor_div" => zip(operands.0, operands.1, |x, y| (x / y).floor()),
                "mod" => zip(operands.0, operands.1, |x, y| x - (x / y).floor() * y),
                // Unlike `f32::max`, NaN stays, so that it is seen.
                "maximum" => zip(operands.0, operands.1, |x: f32, y| if x > y || x.is_nan() { x } else { y }),
                "minimum" => zip(operands.0, operands.1, |x: f32, y| if x < y || x.is_nan() { x } else { y }),
                _ => zip(operands.0, operands.1, f32::powf),
            }?;
            result(&x, shape, values)
        }
        (Data::Ints(left), Data::Ints(right)) => {
            if right.contains(&0) && matches!(call.kind, "real_div" | "floor_div" | "mod") {
                return Err("it divides integers by 0".to_owned());
            }
            let f: fn(i64, i64) -> i64 = match call.kind {
                "add" => i64::wrapping_add,
                "sub" => i64::wrapping_sub,
                "mul" => i64::wrapping_mul,
                "maximum" => i64::max,
                "minimum" => i64::min,
                "pow" => |x, y| x.wrapping_pow(u32::try_from(y).unwrap_or(0)),
                "real_div" => i64::wrapping_div,
                // Towards minus infinity, as in Python.
                "floor_div" => |x, y| x.wrapping_div(y) - i64::from(x.wrapping_rem(y) != 0 && (x < 0) != (y < 0)),
                _ => |x, y| x.wrapping_rem(y).wrapping_add(y).wrapping_rem(y),
            };
            let (shape, values) = zip((x.shape(), left), (y.shape(), right), f)?;
            result(&x, shape, values)
        }
        _ => Err(mismatch(&x, &y)),
    }
}

fn compare<T: Copy + PartialOrd>(
    kind: &str,
    x: (&[usize], &[T]),
    y: (&[usize], &[T]),
) -> Result<(Vec<usize>, Vec<bool>), String> {
    match kind {
        "equal" => zip(x, y, |x, y| x == y),
        "not_equal" => zip(x, y, |x, y| x != y),
        "less" => zip(x, y, |x, y| x < y),
        "less_equal" => zip(x, y, |x, y| x <= y),
        "greater" => zip(x, y, |x, y| x > y),
        _ => zip(x, y, |x, y| x >= y),
    }
}

pub(super) fn comparison(call: &Call) -> Result<Vec<Tensor>, String> {
    let (x, y) = (call.tensor("x")?, call.tensor("y")?);
    let (shape, values) = match (x.data(), y.data()) {
        (Data::Floats(left), Data::Floats(right)) => compare(call.kind, (x.shape(), left), (y.shape(), right)),
        (Data::Ints(left), Data::Ints(right)) => compare(call.kind, (x.shape(), left), (y.shape(), right)),
        (Data::Bools(left), Data::Bools(right)) => compare(call.kind, (x.shape(), left), (y.shape(), right)),
        _ => Err(mismatch(&x, &y)),
    }?;
    booleans(shape, values)
}

pub(super) fn logical(call: &Call) -> Result<Vec<Tensor>, String> {
    let (x, y) = (call.tensor("x")?, call.tensor("y")?);
    let (Some(left), Some(right)) = (x.bools(), y.bools()) else { return Err(mismatch(&x, &y)) };
    let (shape, values) = zip((x.shape(), left), (y.shape(), right), |x, y| match call.kind {
        "logical_and" => x && y,
        "logical_or" => x || y,
        _ => x != y,
    })?;
    booleans(shape, values)
}

pub(super) fn logical_not(call: &Call) -> Result<Vec<Tensor>, String> {
    let x = call.tensor("x")?;
    let values = x.bools().ok_or_else(|| format!("it does not take `{}`", x.dtype()))?;
    booleans(x.shape().to_vec(), values.iter().map(|value| !value).collect())
}

pub(super) fn unary(call: &Call) -> Result<Vec<Tensor>, String> {
    let x = call.tensor("x")?;
    if let Some(values) = x.integers() {
        let f: fn(i64) -> i64 = match call.kind {
            "abs" => i64::wrapping_abs,
            "sign" => i64::signum,
            "relu" => |x| x.max(0),
            "square" => |x| x.wrapping_mul(x),
            _ => return Err(format!("it does not take `{}`", x.dtype())),
        };
        return result(&x, x.shape().to_vec(), values.iter().map(|value| f(*value)).collect::<Vec<_>>());
    }
    let values = x.floats().ok_or_else(|| format!("it does not take `{}`", x.dtype()))?;
    let map = |f: &dyn Fn(f32) -> f32| values.iter().map(|value| f(*value)).collect::<Vec<_>>();
    let values = match call.kind {
        "abs" => map(&f32::abs),
        "ceil" => map(&f32::ceil),
        "cos" => map(&f32::cos),
        "erf" => map(&libm::erff),
        "exp" => map(&f32::exp),
        "floor" => map(&f32::floor),
        "gelu" => match call.text("mode", "EXACT")?.as_str() {
            "EXACT" => map(&|x| 0.5 * x * (1.0 + libm::erff(x * std::f32::consts::FRAC_1_SQRT_2))),
            "TANH_APPROXIMATION" => map(&|x| {
                let inner = (2.0 / std::f32::consts::PI).sqrt() * (x + 0.044_715 * x * x * x);
                0.5 * x * (1.0 + inner.tanh())
            }),
            "SIGMOID_APPROXIMATION" => map(&|x| x * sigmoid(1.702 * x)),
            mode => return Err(format!("it has no `mode` `{mode}`")),
        },
        "inverse" => {
            let epsilon = call.number("epsilon", 1e-4)?;
            map(&|x| 1.0 / (x + epsilon))
        }
        "log" => {
            let epsilon = call.number("epsilon", 1e-45)?;
            map(&|x| (x + epsilon).ln())
        }
        "relu" => map(&|x| if x < 0.0 { 0.0 } else { x }),
        "round" => map(&f32::round_ties_even),
        "rsqrt" => {
            let epsilon = call.number("epsilon", 1e-12)?;
            map(&|x| 1.0 / (x + epsilon).sqrt())
        }
        "sigmoid" => map(&sigmoid),
        "sign" => map(&|x| if x == 0.0 || x.is_nan() { x } else { x.signum() }),
        "silu" => map(&|x| x * sigmoid(x)),
        "sin" => map(&f32::sin),
        "softplus" => map(&|x: f32| x.max(0.0) + (-x.abs()).exp().ln_1p()),
        "sqrt" => map(&f32::sqrt),
        "square" => map(&|x| x * x),
        _ => map(&f32::tanh),
    };
    result(&x, x.shape().to_vec(), values)
}

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

pub(super) fn clip(call: &Call) -> Result<Vec<Tensor>, String> {
    let x = call.tensor("x")?;
    let values = x.floats().ok_or_else(|| format!("it does not take `{}`", x.dtype()))?;
    let (least, most) = (call.number("alpha", f32::NEG_INFINITY)?, call.number("beta", f32::INFINITY)?);
    // Not `clamp`, which panics where the bounds are not in order.
    let clipped = |x: f32| {
        if x < least {
            least
        } else if x > most {
            most
        } else {
            x
        }
    };
    result(&x, x.shape().to_vec(), values.iter().map(|x| clipped(*x)).collect::<Vec<_>>())
}

pub(super) fn cast(call: &Call) -> Result<Vec<Tensor>, String> {
    let x = call.tensor("x")?;
    let name = call.text("dtype", "")?;
    let dtype = ElementType::from_name(&name).ok_or_else(|| format!("there is no type `{name}`"))?;
    let data: Data = match (x.data(), dtype.class()) {
        (data @ Data::Floats(_), Class::Float) | (data @ Data::Bools(_), Class::Bool) => data.clone(),
        (Data::Ints(values), Class::Int) => values.iter().map(|x| dtype.wrap(*x)).collect::<Vec<_>>().into(),
        // Towards 0; NaN becomes 0 and what is too large the largest, where hardware differs.
        (Data::Floats(values), Class::Int) => values.iter().map(|x| dtype.wrap(*x as i64)).collect::<Vec<_>>().into(),
        (Data::Floats(values), Class::Bool) => values.iter().map(|x| *x != 0.0).collect::<Vec<_>>().into(),
        (Data::Ints(values), Class::Float) => values.iter().map(|x| *x as f32).collect::<Vec<_>>().into(),
        (Data::Ints(values), Class::Bool) => values.iter().map(|x| *x != 0).collect::<Vec<_>>().into(),
        (Data::Bools(values), Class::Float) => {
            values.iter().map(|x| f32::from(u8::from(*x))).collect::<Vec<_>>().into()
        }
        (Data::Bools(values), Class::Int) => values.iter().map(|x| i64::from(*x)).collect::<Vec<_>>().into(),
        _ => return Err(format!("`{}` does not become `{dtype}`", x.dtype())),
    };
    Ok(vec![Tensor::new(dtype, x.shape().to_vec(), data)?])
}

pub(super) fn select(call: &Call) -> Result<Vec<Tensor>, String> {
    let (condition, a, b) = (call.tensor("cond")?, call.tensor("a")?, call.tensor("b")?);
    let flags = condition.bools().ok_or_else(|| format!("`cond` is `{}`", condition.dtype()))?;
    match (a.data(), b.data()) {
        (Data::Floats(left), Data::Floats(right)) => {
            let (shape, values) = choose((condition.shape(), flags), (a.shape(), left), (b.shape(), right))?;
            result(&a, shape, values)
        }
        (Data::Ints(left), Data::Ints(right)) => {
            let (shape, values) = choose((condition.shape(), flags), (a.shape(), left), (b.shape(), right))?;
            result(&a, shape, values)
        }
        (Data::Bools(left), Data::Bools(right)) => {
            let (shape, values) = choose((condition.shape(), flags), (a.shape(), left), (b.shape(), right))?;
            result(&a, shape, values)
        }
        _ => Err(mismatch(&a, &b)),
    }
}

fn choose<T: Copy>(
    condition: (&[usize], &[bool]),
    a: (&[usize], &[T]),
    b: (&[usize], &[T]),
) -> Result<(Vec<usize>, Vec<T>), String> {
    let (shape, pairs) = zip(a, b, |a, b| (a, b))?;
    zip(condition, (&shape, &pairs), |first, (a, b)| if first { a } else { b })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::testing::{call, close, flag, floats, int, ints, one, text};
    use super::*;

    #[test]
    fn shapes_are_broadcast_as_numpy_does() {
        let x = floats(&[2, 1, 2], &[1.0, 2.0, 3.0, 4.0]);
        let y = floats(&[3, 1], &[10.0, 20.0, 30.0]);
        let sum = one("add", &[("x", x.clone()), ("y", y)]);
        close(&sum, &[2, 3, 2], &[11.0, 12.0, 21.0, 22.0, 31.0, 32.0, 13.0, 14.0, 23.0, 24.0, 33.0, 34.0]);
        let difference = one("sub", &[("x", floats(&[], &[1.0])), ("y", x.clone())]);
        close(&difference, &[2, 1, 2], &[0.0, -1.0, -2.0, -3.0]);
        assert!(call("add", &[("x", x.clone()), ("y", floats(&[3], &[0.0; 3]))]).is_err());
        assert!(call("add", &[("x", x), ("y", int(1))]).is_err());
    }

    #[test]
    fn functions_are_as_defined() {
        let x = || floats(&[3], &[-1.0, 0.0, 2.0]);
        close(&one("silu", &[("x", x())]), &[3], &[-0.268_941_4, 0.0, 1.761_594_2]);
        close(&one("gelu", &[("x", x()), ("mode", text("EXACT"))]), &[3], &[-0.158_655_26, 0.0, 1.954_499_7]);
        let tanh = one("gelu", &[("x", x()), ("mode", text("TANH_APPROXIMATION"))]);
        close(&tanh, &[3], &[-0.158_808, 0.0, 1.954_597_7]);
        let sigmoid = one("gelu", &[("x", x()), ("mode", text("SIGMOID_APPROXIMATION"))]);
        close(&sigmoid, &[3], &[-0.154_202, 0.0, 1.935_656_4]);
        assert!(call("gelu", &[("x", x()), ("mode", text("OTHER"))]).is_err());
        close(&one("rsqrt", &[("x", floats(&[1], &[3.0])), ("epsilon", floats(&[], &[1.0]))]), &[1], &[0.5]);
        close(
            &one("clip", &[("x", x()), ("alpha", floats(&[], &[1.0])), ("beta", floats(&[], &[0.0]))]),
            &[3],
            &[1.0, 1.0, 0.0],
        );
    }

    #[test]
    fn overflow_and_nan_are_not_hidden() {
        let nan = floats(&[2], &[f32::NAN, 1.0]);
        let found = one("maximum", &[("x", nan.clone()), ("y", floats(&[], &[0.0]))]);
        assert!(found.floats().expect("floats")[0].is_nan());
        let found = one("maximum", &[("x", floats(&[], &[0.0])), ("y", nan)]);
        assert!(found.floats().expect("floats")[0].is_nan());
        let found = one("exp", &[("x", floats(&[1], &[100.0]))]);
        assert_eq!(found.floats(), Some(&[f32::INFINITY][..]));
    }

    #[test]
    fn integers_divide_towards_minus_infinity_and_not_by_zero() {
        let x = || ints(&[4], &[7, -7, 7, -7]);
        let y = ints(&[4], &[2, 2, -2, -2]);
        assert_eq!(one("floor_div", &[("x", x()), ("y", y.clone())]).integers(), Some(&[3, -4, -4, 3][..]));
        assert_eq!(one("mod", &[("x", x()), ("y", y)]).integers(), Some(&[1, 1, -1, -1][..]));
        assert!(call("floor_div", &[("x", x()), ("y", int(0))]).is_err());
    }

    #[test]
    fn a_condition_chooses_and_is_broadcast_too() {
        let chosen = one(
            "select",
            &[("cond", super::super::testing::flags(&[true, false])), ("a", ints(&[2, 1], &[1, 2])), ("b", int(9))],
        );
        assert_eq!((chosen.shape(), chosen.integers()), (&[2, 2][..], Some(&[1, 9, 2, 9][..])));
        let chosen = one("select", &[("cond", flag(false)), ("a", int(1)), ("b", ints(&[2], &[5, 6]))]);
        assert_eq!(chosen.integers(), Some(&[5, 6][..]));
    }

    #[test]
    fn numbers_are_cast_towards_zero_and_integers_wrap() {
        let x = floats(&[3], &[-1.9, 1.9, 0.0]);
        assert_eq!(one("cast", &[("x", x.clone()), ("dtype", text("int32"))]).integers(), Some(&[-1, 1, 0][..]));
        assert_eq!(one("cast", &[("x", x), ("dtype", text("bool"))]).bools(), Some(&[true, true, false][..]));
        let x = ints(&[1], &[40_000]);
        assert_eq!(one("cast", &[("x", x), ("dtype", text("int16"))]).integers(), Some(&[-25_536][..]));
    }

    proptest! {
        /// Against the definition: every element of the result by its own coordinates.
        #[test]
        fn pairs_are_those_of_their_coordinates(
            sizes in prop::collection::vec((1_usize..4, any::<bool>(), any::<bool>()), 0..4),
            left_out in 0_usize..4,
        ) {
            let full: Vec<usize> = sizes.iter().map(|(size, _, _)| *size).collect();
            let left_shape: Vec<usize> = sizes.iter().map(|(size, one, _)| if *one { 1 } else { *size }).collect();
            let right_shape: Vec<usize> = sizes.iter().map(|(size, _, one)| if *one { 1 } else { *size }).collect();
            let right_shape = &right_shape[left_out.min(right_shape.len())..];
            let left: Vec<usize> = (0..left_shape.iter().product()).collect();
            let right: Vec<usize> = (0..right_shape.iter().product()).collect();
            let (shape, pairs) = zip((&left_shape, &left), (right_shape, &right), |x, y| (x, y)).expect("they go together");
            for (dimension, size) in shape.iter().enumerate() {
                prop_assert!(*size == full[dimension] || *size == 1);
            }
            let at = |of: &[usize], index: usize| -> usize {
                let strides = crate::weight::strides(&shape);
                let own = broadcast_strides(of, &shape);
                let coordinates = strides.iter().zip(&shape).map(|(stride, size)| index / stride % size);
                coordinates.zip(own).map(|(coordinate, stride)| coordinate * stride).sum()
            };
            prop_assert_eq!(pairs.len(), shape.iter().product::<usize>());
            for (index, (x, y)) in pairs.into_iter().enumerate() {
                prop_assert_eq!((x, y), (left[at(&left_shape, index)], right[at(right_shape, index)]));
            }
        }
    }
}
