//! Operations along axes: sums and the like, softmax, normalisation. Sums are in double precision, so that they are not what
//! two programs differ by.

use super::Call;
use super::elementwise::zip;
use crate::tensor::Tensor;
use crate::weight::{axis_of, strides};

/// The axes of a parameter; all of them if it is absent.
fn axes(call: &Call, name: &str, rank: usize) -> Result<Vec<bool>, String> {
    let Some(axes) = call.optional_integers(name)? else { return Ok(vec![true; rank]) };
    let mut reduced = vec![false; rank];
    for axis in axes {
        if std::mem::replace(&mut reduced[axis_of(axis, rank)?], true) {
            return Err(format!("`{name}` has the axis `{axis}` twice"));
        }
    }
    Ok(reduced)
}

/// Folds over the axes that are `reduced`; the result has the same rank, with 1 for each of them.
fn fold(
    (shape, values): (&[usize], &[f32]),
    reduced: &[bool],
    start: f64,
    f: impl Fn(f64, f64) -> f64,
) -> (Vec<usize>, Vec<f64>) {
    let kept: Vec<usize> = shape.iter().zip(reduced).map(|(size, reduced)| if *reduced { 1 } else { *size }).collect();
    let mut results = vec![start; kept.iter().product()];
    let from = reduced.iter().position(|reduced| *reduced).unwrap_or(shape.len());
    if reduced[from..].iter().all(|reduced| *reduced) {
        // The elements of one result are neighbours.
        let width: usize = shape[from..].iter().product();
        for (result, values) in results.iter_mut().zip(values.chunks(width.max(1))) {
            *result = values.iter().fold(start, |sum, value| f(sum, f64::from(*value)));
        }
        return (kept, results);
    }
    let own = strides(shape);
    let to: Vec<usize> =
        strides(&kept).iter().zip(reduced).map(|(stride, reduced)| if *reduced { 0 } else { *stride }).collect();
    for (index, value) in values.iter().enumerate() {
        let place = own.iter().zip(shape).zip(&to).map(|((own, size), to)| index / own % size * to).sum::<usize>();
        results[place] = f(results[place], f64::from(*value));
    }
    (kept, results)
}

fn without(shape: &[usize], reduced: &[bool]) -> Vec<usize> {
    shape.iter().zip(reduced).filter(|(_, reduced)| !**reduced).map(|(size, _)| *size).collect()
}

fn floats<'a>(tensor: &'a Tensor, name: &str) -> Result<&'a [f32], String> {
    tensor.floats().ok_or_else(|| format!("`{name}` is `{}`", tensor.dtype()))
}

pub(super) fn reduce(call: &Call) -> Result<Vec<Tensor>, String> {
    let x = call.tensor("x")?;
    let reduced = axes(call, "axes", x.shape().len())?;
    let as_floats;
    let values = match (x.floats(), x.integers()) {
        (Some(values), _) => values,
        (_, Some(values)) => {
            as_floats = values.iter().map(|value| *value as f32).collect::<Vec<_>>();
            &as_floats
        }
        _ => return Err(format!("it does not take `{}`", x.dtype())),
    };
    let operand = (x.shape(), values);
    let many: usize = x.shape().iter().zip(&reduced).filter(|(_, reduced)| **reduced).map(|(size, _)| size).product();
    let (shape, values) = match call.kind {
        "reduce_max" => {
            fold(operand, &reduced, f64::NEG_INFINITY, |most, x| if x > most || x.is_nan() { x } else { most })
        }
        "reduce_min" => {
            fold(operand, &reduced, f64::INFINITY, |least, x| if x < least || x.is_nan() { x } else { least })
        }
        "reduce_prod" => fold(operand, &reduced, 1.0, |product, x| product * x),
        "reduce_sum_square" | "reduce_l2_norm" => fold(operand, &reduced, 0.0, |sum, x| sum + x * x),
        "reduce_l1_norm" => fold(operand, &reduced, 0.0, |sum, x| sum + x.abs()),
        _ => fold(operand, &reduced, 0.0, |sum, x| sum + x),
    };
    let finish = |value: f64| match call.kind {
        "reduce_mean" => value / many as f64,
        "reduce_l2_norm" => value.sqrt(),
        _ => value,
    };
    let shape = if call.flag("keep_dims")? { shape } else { without(&shape, &reduced) };
    let values = values.into_iter().map(finish);
    let data = if x.integers().is_some() {
        values.map(|value| value as i64).collect::<Vec<_>>().into()
    } else {
        values.map(|value| value as f32).collect::<Vec<_>>().into()
    };
    Ok(vec![Tensor::new(x.dtype(), shape, data)?])
}

pub(super) fn softmax(call: &Call) -> Result<Vec<Tensor>, String> {
    let x = call.tensor("x")?;
    let axis = axis_of(call.integer("axis", -1)?, x.shape().len())?;
    let values = softmax_of((x.shape(), floats(&x, "x")?), axis)?;
    Ok(vec![Tensor::new(x.dtype(), x.shape().to_vec(), values.into())?])
}

pub(super) fn softmax_of((shape, values): (&[usize], &[f32]), axis: usize) -> Result<Vec<f32>, String> {
    if axis + 1 == shape.len() {
        let mut values = values.to_vec();
        for line in values.chunks_mut(shape[axis].max(1)) {
            let most =
                line.iter().copied().fold(f32::NEG_INFINITY, |most, x| if x > most || x.is_nan() { x } else { most });
            for x in line.iter_mut() {
                *x = (*x - most).exp();
            }
            let sum = line.iter().copied().map(f64::from).sum::<f64>() as f32;
            for x in line.iter_mut() {
                *x /= sum;
            }
        }
        return Ok(values);
    }
    let reduced: Vec<bool> = (0..shape.len()).map(|index| index == axis).collect();
    let (kept, most) =
        fold((shape, values), &reduced, f64::NEG_INFINITY, |most, x| if x > most || x.is_nan() { x } else { most });
    let (_, powers) = zip((shape, values), (&kept, &most), |x, most| (x - most as f32).exp())?;
    let (_, sums) = fold((shape, &powers), &reduced, 0.0, |sum, x| sum + x);
    Ok(zip((shape, &powers), (&kept, &sums), |x, sum| x / sum as f32)?.1)
}

pub(super) fn layer_norm(call: &Call) -> Result<Vec<Tensor>, String> {
    let x = call.tensor("x")?;
    let shape = x.shape();
    let reduced = axes(call, "axes", shape.len())?;
    let values = floats(&x, "x")?;
    let epsilon = f64::from(call.number("epsilon", 1e-5)?);
    let many: usize = shape.iter().zip(&reduced).filter(|(_, reduced)| **reduced).map(|(size, _)| size).product();
    let (kept, sums) = fold((shape, values), &reduced, 0.0, |sum, x| sum + x);
    let means: Vec<f64> = sums.into_iter().map(|sum| sum / many as f64).collect();
    let (_, centred) = zip((shape, values), (&kept, &means), |x, mean| (f64::from(x) - mean) as f32)?;
    let (_, squares) = fold((shape, &centred), &reduced, 0.0, |sum, x| sum + x * x);
    let scales: Vec<f32> =
        squares.into_iter().map(|square| (1.0 / (square / many as f64 + epsilon).sqrt()) as f32).collect();
    let (_, mut normal) = zip((shape, &centred), (&kept, &scales), |x, scale| x * scale)?;
    // Weights have the normalised dimensions only.
    let own: Vec<usize> = shape.iter().zip(&reduced).map(|(size, reduced)| if *reduced { *size } else { 1 }).collect();
    for (name, scales) in [("gamma", true), ("beta", false)] {
        let Some(weight) = call.optional_tensor(name)? else { continue };
        let weight = weight.reshaped(own.clone()).map_err(|problem| format!("`{name}`: {problem}"))?;
        let operand = (&own[..], floats(&weight, name)?);
        let applied = if scales {
            zip((shape, &normal), operand, |x, weight| x * weight)
        } else {
            zip((shape, &normal), operand, |x, weight| x + weight)
        };
        normal = applied?.1;
    }
    Ok(vec![Tensor::new(x.dtype(), shape.to_vec(), normal.into())?])
}

pub(super) fn cumulative_sum(call: &Call) -> Result<Vec<Tensor>, String> {
    let x = call.tensor("x")?;
    let shape = x.shape();
    let axis = axis_of(call.integer("axis", 0)?, shape.len())?;
    if call.flag("exclusive")? || call.flag("reverse")? {
        return Err("only sums up to and with each element are known".to_owned());
    }
    let step: usize = shape[axis + 1..].iter().product();
    let first = |index: usize| (index / step).is_multiple_of(shape[axis]);
    let data = if let Some(values) = x.integers() {
        let mut values = values.to_vec();
        for index in 0..values.len() {
            if !first(index) {
                values[index] = values[index].wrapping_add(values[index - step]);
            }
        }
        values.into()
    } else {
        let mut values = floats(&x, "x")?.to_vec();
        for index in 0..values.len() {
            if !first(index) {
                values[index] += values[index - step];
            }
        }
        values.into()
    };
    Ok(vec![Tensor::new(x.dtype(), shape.to_vec(), data)?])
}

#[cfg(test)]
mod tests {
    use super::super::testing::{call, close, flag, floats, int, ints, one};

    #[test]
    fn axes_may_count_from_the_end_and_need_not_be_neighbours() {
        let x = || floats(&[2, 2, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]);
        let reduced = |kind: &str, axes: &[i32], keep: bool| {
            one(kind, &[("x", x()), ("axes", ints(&[axes.len()], axes)), ("keep_dims", flag(keep))])
        };
        close(&reduced("reduce_mean", &[-1], false), &[2, 2], &[1.5, 3.5, 5.5, 7.5]);
        close(&reduced("reduce_sum", &[0, 2], true), &[1, 2, 1], &[14.0, 22.0]);
        close(&reduced("reduce_max", &[1], false), &[2, 2], &[3.0, 4.0, 7.0, 8.0]);
        close(&reduced("reduce_sum_square", &[1, 2], false), &[2], &[30.0, 174.0]);
        close(
            &reduced("reduce_l2_norm", &[2], true),
            &[2, 2, 1],
            &[5.0_f32.sqrt(), 5.0, 61.0_f32.sqrt(), 113.0_f32.sqrt()],
        );
        close(&one("reduce_sum", &[("x", x())]), &[], &[36.0]);
        assert!(call("reduce_sum", &[("x", x()), ("axes", ints(&[2], &[0, -3]))]).is_err());
        assert!(call("reduce_sum", &[("x", x()), ("axes", int(3))]).is_err());
    }

    #[test]
    fn a_softmax_sums_to_one_along_any_axis() {
        let x = floats(&[2, 2], &[0.0, 1000.0, 0.0, 1000.0]);
        close(&one("softmax", &[("x", x.clone()), ("axis", int(-1))]), &[2, 2], &[0.0, 1.0, 0.0, 1.0]);
        close(&one("softmax", &[("x", x), ("axis", int(0))]), &[2, 2], &[0.5; 4]);
    }

    #[test]
    fn normalisation_is_along_its_axes_with_weights_of_their_shape() {
        let x = floats(&[1, 2, 2], &[1.0, 3.0, 10.0, 30.0]);
        let normal = one(
            "layer_norm",
            &[
                ("x", x.clone()),
                ("axes", ints(&[1], &[-1])),
                ("gamma", floats(&[2], &[2.0, 1.0])),
                ("beta", floats(&[2], &[0.0, 5.0])),
                ("epsilon", floats(&[], &[0.0])),
            ],
        );
        close(&normal, &[1, 2, 2], &[-2.0, 6.0, -2.0, 6.0]);
        let across = one("layer_norm", &[("x", x), ("axes", ints(&[1], &[1])), ("epsilon", floats(&[], &[0.0]))]);
        close(&across, &[1, 2, 2], &[-1.0, -1.0, 1.0, 1.0]);
    }

    #[test]
    fn sums_accumulate_along_their_axis() {
        let x = ints(&[2, 3], &[1, 1, 0, 1, 1, 1]);
        assert_eq!(one("cumsum", &[("x", x.clone()), ("axis", int(1))]).integers(), Some(&[1, 2, 2, 1, 2, 3][..]));
        assert_eq!(one("cumsum", &[("x", x), ("axis", int(0))]).integers(), Some(&[1, 1, 0, 2, 2, 1][..]));
    }
}
