//! Runs what was made on a few fixed texts: finite, of the right width and length, the same alone as in company, and what the
//! evaluator of the certificate says.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Instant;

use embedbar_convert::ConvertError;
use embedbar_mil::{Arithmetic, MilError, Package, Program, Tensor};

use crate::CertifyError;
use crate::compare::agreement;
use embedbar_convert::certificate::SelfTest;

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

/// Called with the share of the work that is done, from 0 to 1; [`ControlFlow::Break`] cancels.
pub(crate) type Share<'a> = &'a mut (dyn FnMut(f64) -> ControlFlow<()> + 'a);

/// Checks the structure of a model's packages and runs their programs, one after the other where there are several.
pub(crate) fn packages(
    packages: &[Package],
    expected: &Expected<'_>,
    told: Share<'_>,
) -> Result<SelfTest, CertifyError> {
    for package in packages {
        let findings = package.lint();
        if let Some(first) = findings.first() {
            let (path, count) = (expected.target.to_path_buf(), findings.len());
            return Err(CertifyError::Structure { path, count, first: first.message.clone() });
        }
    }
    let chain = Chain::open(packages, expected)?;
    let texts = expected.texts.len().min(TEXTS);
    let operations = (texts + 1) * chain.programs.iter().map(Program::steps).sum::<usize>();
    let mut done = 0;
    let mut step = || {
        done += 1;
        told(done.min(operations) as f64 / operations as f64)
    };
    let started = Instant::now();
    let vectors =
        expected.texts[..texts].iter().map(|text| chain.run(text, 0, &mut step)).collect::<Result<Vec<_>, _>>()?;
    let text_ms = started.elapsed().as_secs_f64() * 1e3 / texts.max(1) as f64;
    // A package takes one text; what must not show is what pads it.
    let repadded = match expected.texts.first() {
        Some(text) => vec![chain.run(text, 1, &mut step)?],
        None => Vec::new(),
    };
    let alone_difference = difference(&vectors[..repadded.len()], &repadded);
    judged(expected, "Core ML (interpreted, slow)", &vectors, alone_difference, text_ms)
}

/// Programs that run one after the other.
struct Chain<'a> {
    expected: &'a Expected<'a>,
    programs: Vec<Program>,
    length: usize,
}

/// What the converter calls the inputs and the output.
const IDS: &str = "input_ids";
const MASK: &str = "attention_mask";
const VECTOR: &str = "embedding";

/// Behind the name of what one package of several gives to the next one.
const OUT: &str = "_out";

impl<'a> Chain<'a> {
    fn open(packages: &[Package], expected: &'a Expected<'a>) -> Result<Self, CertifyError> {
        let programs: Vec<Program> =
            packages.iter().map(|package| package.program(None, Arithmetic::Single)).collect::<Result<_, _>>()?;
        let ids = programs.iter().flat_map(Program::inputs).find(|input| input.name == IDS);
        let shape = ids.and_then(|input| input.tensor_type.fixed());
        match shape.as_deref() {
            Some(&[1, length]) => Ok(Self { expected, programs, length }),
            _ => Err(expected.failed(format!("it has no input `{IDS}` for one text of a fixed length"))),
        }
    }

    /// The vector of a text, padded with the token `padding`; `step` is called after each operation.
    fn run(
        &self,
        text: &[u32],
        padding: i32,
        step: &mut impl FnMut() -> ControlFlow<()>,
    ) -> Result<Vec<f32>, CertifyError> {
        let mut ids: Vec<i32> = text.iter().map(|&id| id as i32).take(self.length).collect();
        let mut mask = vec![1; ids.len()];
        ids.resize(self.length, padding);
        mask.resize(self.length, 0);
        let whole = |numbers: &[i32]| {
            let tensor = Tensor::int32(&[1, self.length], numbers);
            tensor.expect("there are as many numbers as the shape says. This is a bug.")
        };
        let tensors = [(IDS, whole(&ids)), (MASK, whole(&mask))];
        let mut given: BTreeMap<String, Tensor> = tensors.map(|(name, tensor)| (name.to_owned(), tensor)).into();
        for program in &self.programs {
            let taken = program.inputs().iter().filter_map(|input| given.get_key_value(&input.name));
            let taken: BTreeMap<String, Tensor> = taken.map(|(name, tensor)| (name.clone(), tensor.clone())).collect();
            let results = program.run_watched(&taken, |_, _| step()).map_err(|error| match error {
                MilError::Stopped { .. } => ConvertError::Cancelled { path: self.expected.target.to_path_buf() }.into(),
                error => CertifyError::from(error),
            })?;
            for (name, tensor) in results {
                let name = name.strip_suffix(OUT).unwrap_or(&name).to_owned();
                given.insert(name, tensor);
            }
        }
        let vector = given.get(VECTOR).and_then(|output| output.floats());
        let vector = vector.ok_or_else(|| self.expected.failed(format!("it gives no `{VECTOR}`")))?.to_vec();
        check(&vector, self.expected)?;
        Ok(vector)
    }
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
