//! Core ML packages: opened, described, judged and run.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use embedbar_mil::{Arithmetic, ElementType, Package, Program, Tensor};

use crate::folder::{scratch, write};

/// Numbers of all results of a run; real packages have more, but they teach a fuzzer nothing.
const NUMBERS: usize = 1 << 16;
/// The length of an input that may be of any.
const LENGTH: usize = 3;

/// A package as a folder: every question that can be asked of it has an answer or an error.
pub fn package(bytes: &[u8]) {
    let folder = scratch();
    write(bytes, folder.path());
    let Ok(package) = Package::open(folder.path()) else { return };
    let description = package.describe();
    assert!(!format!("{description:?}").is_empty());
    let _ = package.lint();
    let _ = package.embedding_interface(None);
    read_weights(&package);
    for name in package.function_names() {
        for arithmetic in [Arithmetic::Single, Arithmetic::HalfRounded] {
            if let Ok(program) = package.program(Some(name), arithmetic) {
                run(&program);
            }
        }
    }
}

/// Reads the first row of each constant, the last one, and one that is not there.
fn read_weights(package: &Package) {
    for (name, _) in package.weights(1) {
        let Ok(weight) = package.weight(&name) else { continue };
        let (rows, columns) = weight.extent();
        if columns > NUMBERS {
            continue;
        }
        let mut row = vec![0.0; columns];
        for index in [0, rows.saturating_sub(1), rows] {
            let _ = weight.read(index, &mut row);
        }
    }
}

/// Runs a program on ones.
fn run(program: &Program) {
    let inputs: Option<BTreeMap<String, Tensor>> = program
        .inputs()
        .iter()
        .map(|input| {
            let shape = input
                .tensor_type
                .fixed()
                .unwrap_or_else(|| input.tensor_type.shape.iter().map(|size| size.unwrap_or(LENGTH)).collect());
            let count = shape.iter().try_fold(1_usize, |product, size| product.checked_mul(*size))?;
            if count > NUMBERS {
                return None;
            }
            let tensor = match input.tensor_type.dtype {
                ElementType::Float16 | ElementType::Float32 => Tensor::float32(&shape, vec![1.0; count]),
                _ => Tensor::int32(&shape, &vec![1; count]),
            };
            Some((input.name.clone(), tensor?))
        })
        .collect();
    let Some(inputs) = inputs else { return };
    let mut numbers = 0_usize;
    let _ = program.run_watched(&inputs, |_, result| {
        assert_eq!(result.count(), result.shape().iter().product::<usize>());
        numbers = numbers.saturating_add(result.count());
        if numbers > NUMBERS { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
}
