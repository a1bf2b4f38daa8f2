//! Runs what was made on a few fixed texts: finite, of the right width and length, the same alone as in company, and what the
//! evaluator of the certificate says.

use std::path::Path;
use std::time::Instant;

use embedbar_mil::{Arithmetic, Lengths, Package};

use crate::CertifyError;
use crate::certificate::SelfTest;
use crate::compare::agreement;

/// How far a text's vector may move when its company or its padding changes.
const ALONE: f64 = 1e-4;

/// The least cosine between a program and its own weights.
const SAME: f64 = 0.9999;

/// Texts that a package is run on.
const TEXTS: usize = 2;

/// What a self-test compares with.
pub(crate) struct Expected<'a> {
    /// The model's place, for messages.
    pub(crate) target: &'a Path,
    /// Token ids of the probe set.
    pub(crate) texts: &'a [Vec<u32>],
    /// Vectors of the probe set by the evaluator, of length 1.
    pub(crate) vectors: &'a [Vec<f32>],
    /// Whether the model scales its vectors to length 1.
    pub(crate) normalised: bool,
}

impl Expected<'_> {
    fn failed(&self, problem: String) -> CertifyError {
        CertifyError::SelfTest { path: self.target.to_path_buf(), problem }
    }

    fn width(&self) -> usize {
        self.vectors.first().map_or(0, Vec::len)
    }
}

/// Checks the structure of a package and runs its program.
pub(crate) fn package(package: &Package, expected: &Expected<'_>) -> Result<SelfTest, CertifyError> {
    let findings = package.lint();
    if let Some(first) = findings.first() {
        let (path, count) = (expected.target.to_path_buf(), findings.len());
        return Err(CertifyError::Structure { path, count, first: first.message.clone() });
    }
    let interface = package.embedding_interface(None)?;
    let Lengths::Fixed(length) = interface.lengths else {
        return Err(expected.failed("it takes texts of several lengths".to_owned()));
    };
    let program = package.program(Some(&interface.function), Arithmetic::Single)?;
    let run = |text: &[u32], padding: i32| -> Result<Vec<f32>, CertifyError> {
        let mut ids: Vec<i32> = text.iter().map(|&id| id as i32).take(length).collect();
        let mut mask = vec![1; ids.len()];
        ids.resize(length, padding);
        mask.resize(length, 0);
        let inputs = interface.inputs(&ids, &mask);
        let inputs = inputs.ok_or_else(|| expected.failed(format!("it takes no `{length}` tokens")))?;
        let outputs = program.run(&inputs)?;
        let vector = outputs.get(&interface.output).and_then(|output| output.floats());
        let vector = vector.ok_or_else(|| expected.failed(format!("it gives no `{}`", interface.output)))?.to_vec();
        check(&vector, expected)?;
        Ok(vector)
    };
    let started = Instant::now();
    let texts = expected.texts.len().min(TEXTS);
    let vectors = expected.texts[..texts].iter().map(|text| run(text, 0)).collect::<Result<Vec<_>, _>>()?;
    let text_ms = started.elapsed().as_secs_f64() * 1e3 / texts.max(1) as f64;
    // A package takes one text; what must not show is what pads it.
    let repadded = match expected.texts.first() {
        Some(text) => vec![run(text, 1)?],
        None => Vec::new(),
    };
    let alone_difference = difference(&vectors[..repadded.len()], &repadded);
    judged(expected, "Core ML (interpreted, slow)", &vectors, alone_difference, text_ms)
}

/// Judges the vectors that the evaluator gave for the first texts alone.
pub(crate) fn alone(alone: &[Vec<f32>], expected: &Expected<'_>, text_ms: f64) -> Result<SelfTest, CertifyError> {
    alone.iter().try_for_each(|vector| check(vector, expected))?;
    let alone_difference = difference(&expected.vectors[..alone.len()], alone);
    judged(expected, crate::certify::EVALUATOR, alone, alone_difference, text_ms)
}

fn judged(
    expected: &Expected<'_>,
    evaluator: &str,
    vectors: &[Vec<f32>],
    alone_difference: f64,
    text_ms: f64,
) -> Result<SelfTest, CertifyError> {
    if alone_difference > ALONE {
        return Err(expected.failed(format!("a text's vector moves by {alone_difference:.1e} with what is beside it")));
    }
    let least_cosine = agreement(&expected.vectors[..vectors.len()], vectors).least_cosine;
    if least_cosine < SAME {
        return Err(expected.failed(format!(
            "its program agrees with its weights to a cosine of {least_cosine:.5}, where {SAME} is right"
        )));
    }
    Ok(SelfTest { evaluator: evaluator.to_owned(), width: expected.width(), alone_difference, least_cosine, text_ms })
}

fn check(vector: &[f32], expected: &Expected<'_>) -> Result<(), CertifyError> {
    if vector.len() != expected.width() {
        return Err(expected.failed(format!("a vector has `{}` numbers, not `{}`", vector.len(), expected.width())));
    }
    let length = vector.iter().map(|&number| f64::from(number).powi(2)).sum::<f64>().sqrt();
    if !length.is_finite() || length == 0.0 || (expected.normalised && (length - 1.0).abs() > 1e-3) {
        return Err(expected.failed(format!("a vector has the length `{length}`")));
    }
    Ok(())
}

/// The largest difference between numbers, relative to vectors of length 1.
fn difference(left: &[Vec<f32>], right: &[Vec<f32>]) -> f64 {
    let length = |vector: &[f32]| vector.iter().map(|&number| f64::from(number).powi(2)).sum::<f64>().sqrt();
    let pairs = left.iter().zip(right).flat_map(|(left, right)| {
        let length = length(left).max(f64::MIN_POSITIVE);
        left.iter().zip(right).map(move |(left, right)| f64::from((left - right).abs()) / length)
    });
    pairs.fold(0.0, f64::max)
}
