//! One certified conversion: convert, test, compare, raise what lost most, and only then rename.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Instant;

use embedbar_convert::{
    Architecture, CONVERTER, ConvertError, Format, Job, Prepared, Source, Summary, TargetPrecision,
};
use embedbar_engine::{TextEnd, token_ids};
use embedbar_mil::Package;

use crate::compare::agreement;
use crate::forward::{self, Block, Recipe, Watch};
use crate::product::product;
use crate::self_test::{self, Expected};
use crate::weights::{GgufWeights, PackageWeights, Weights};
use crate::{CertifyError, probes};
use embedbar_convert::certificate::{Agreement, Certificate, SelfTest, Vectors, Verdict};

/// What certificates name as the evaluator. The number is raised whenever it computes something else.
pub(crate) const EVALUATOR: &str = "embedbar-certify 1 (weights streamed, single precision)";

/// Shares of the 4-bit matrices that are raised to 8 bits, one after the other, until the model passes.
const RAISED: [f64; 4] = [0.125, 0.25, 0.5, 1.0];

/// Converts and certifies. Vectors of a source are kept for the next conversion of the same one.
pub struct Certifier {
    floor: Option<f64>,
    known: Option<Known>,
}

/// A source whose vectors are known.
struct Known {
    source: PathBuf,
    recipe: Recipe,
    texts: Vec<Vec<u32>>,
    vectors: Vec<Vec<f32>>,
}

/// What is being done.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Phase {
    /// The source is read and the target written.
    Converting,
    /// The target is read back for its sha256.
    ReadingBack,
    /// Probe texts go through the source.
    EvaluatingSource,
    /// Probe texts go through what was made.
    EvaluatingTarget,
    /// One text goes through what was made, for the self-test.
    TestingTarget,
    /// It is looked for what lost most, after the floor was missed.
    FindingWorst,
}

impl Phase {
    /// For people.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::Converting => "converting",
            Self::ReadingBack => "reading back what was written",
            Self::EvaluatingSource => "embedding probe texts with the source",
            Self::EvaluatingTarget => "embedding probe texts with the new model",
            Self::TestingTarget => "testing the new model",
            Self::FindingWorst => "looking for the matrices that lost most",
        }
    }
}

/// How far a phase is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Progress {
    /// What is being done.
    pub phase: Phase,
    /// Bytes that were gone through. While converting and reading back these are one count; while evaluating, of weights in
    /// half precision.
    pub bytes_done: u64,
    /// Bytes that there are.
    pub bytes_total: u64,
    /// The tensor that is worked on.
    pub tensor: String,
}

/// A model that was made and passed.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// What the conversion did.
    pub summary: Summary,
    /// What is known of the result.
    pub certificate: Certificate,
    /// Where that is written.
    pub certificate_path: PathBuf,
}

/// Called as work goes on; [`ControlFlow::Break`] cancels.
type Told<'a> = &'a mut (dyn FnMut(Progress) -> ControlFlow<()> + 'a);

impl Certifier {
    /// With the least mean cosine that is accepted; `None`: what the precision should reach, see [`Self::floor_of`].
    pub fn new(floor: Option<f64>) -> Self {
        Self { floor, known: None }
    }

    /// The least mean cosine that a model of this precision is accepted with where nobody says otherwise.
    pub fn floor_of(precision: TargetPrecision) -> f64 {
        match precision {
            TargetPrecision::Int8 => 0.99,
            TargetPrecision::FourBit => 0.95,
            _ => 0.999,
        }
    }

    /// Converts, and puts the result in the target's place with a certificate beside it if it passes.
    ///
    /// What does not pass after its worst matrices were raised to 8 bits is set aside under another name with a certificate
    /// that says why, and is an error. Whatever goes wrong, the target is as it was.
    pub fn convert(&mut self, job: &Job, progress: Told<'_>) -> Result<Outcome, CertifyError> {
        let floor = self.floor.unwrap_or_else(|| Self::floor_of(job.precision));
        // Before hours of work: a tokenizer that does not fit the model fits no target either.
        let texts = tokens(job)?;
        let mut job = job.clone();
        let mut worst: Option<Vec<String>> = None;
        let mut shares = RAISED.iter();
        loop {
            let started = Instant::now();
            let prepared = embedbar_convert::prepare(&job, &mut |step| progress(step.into()))?;
            let conversion_ms = milliseconds(started);
            let judging = Instant::now();
            embedbar_memory::release_unused();
            let subject = Subject::open(&job, &prepared, &texts)?;
            let mut judge = Judge { subject, known: &mut self.known, told: progress };
            let (self_test, agreement) = judge.judge()?;
            if agreement.mean_cosine < floor && !judge.subject.four_bit().is_empty() {
                let ranking = match worst.take() {
                    Some(ranking) => ranking,
                    None => judge.worst()?,
                };
                if let Some(share) = shares.next() {
                    let count = (ranking.len() as f64 * share).ceil() as usize;
                    job.raised = ranking.iter().take(count).cloned().collect();
                    worst = Some(ranking);
                    continue;
                }
            }
            let certificate = judge.certificate(self_test, agreement, floor)?;
            let certificate = Certificate { conversion_ms, certification_ms: milliseconds(judging), ..certificate };
            return finish(&job, prepared, certificate);
        }
    }
}

fn finish(job: &Job, prepared: Prepared, certificate: Certificate) -> Result<Outcome, CertifyError> {
    if certificate.verdict == Verdict::Passed {
        let summary = prepared.commit()?;
        let certificate_path = certificate.write(&job.target)?;
        return Ok(Outcome { summary, certificate, certificate_path });
    }
    let aside = prepared.set_aside(&job.target)?;
    certificate.write(&aside)?;
    let (cosine, floor) = (certificate.agreement.mean_cosine, certificate.floor);
    Err(CertifyError::BelowFloor { path: job.target.clone(), aside, cosine, floor })
}

impl From<embedbar_convert::Progress> for Progress {
    fn from(step: embedbar_convert::Progress) -> Self {
        let phase = if step.tensor.is_empty() { Phase::ReadingBack } else { Phase::Converting };
        Self { phase, bytes_done: step.bytes_done, bytes_total: step.bytes_total, tensor: step.tensor }
    }
}

fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

/// What was made.
enum Made {
    Gguf(GgufWeights),
    Packages(Vec<Package>, PackageWeights),
}

impl Made {
    fn weights(&self) -> &dyn Weights {
        match self {
            Self::Gguf(weights) => weights,
            Self::Packages(_, weights) => weights,
        }
    }
}

/// What is judged, and what it is judged by.
struct Subject<'a> {
    job: &'a Job,
    summary: &'a Summary,
    source: Source,
    made: Made,
    recipe: Recipe,
    texts: &'a [Vec<u32>],
}

impl<'a> Subject<'a> {
    fn open(job: &'a Job, prepared: &'a Prepared, texts: &'a [Vec<u32>]) -> Result<Self, CertifyError> {
        let (summary, paths) = (prepared.summary(), prepared.paths());
        let source = Source::open(&job.source)?;
        let (made, layers) = match &job.format {
            Format::Gguf => (Made::Gguf(GgufWeights::open(paths[0], summary)?), 1),
            Format::Package(target) => {
                let packages = paths.into_iter().map(Package::open).collect::<Result<Vec<_>, _>>()?;
                let weights = PackageWeights::open(&packages, summary)?;
                (Made::Packages(packages, weights), target.layers.get())
            }
        };
        let recipe = Recipe { pooling: summary.pooling, layers };
        Ok(Self { job, summary, source, made, recipe, texts })
    }

    /// Counts what goes through in one evaluation.
    fn meter<'m>(&self, phase: Phase, told: &'m mut (dyn FnMut(Progress) -> ControlFlow<()> + 'm)) -> Meter<'m> {
        let total = 2 * forward::work(self.source.architecture(), self.texts);
        Meter { phase, done: 0, total, path: self.job.source.clone(), told }
    }

    /// Vectors of length 1 of the first `texts`, by the evaluator.
    fn vectors(
        &self,
        weights: &dyn Weights,
        texts: usize,
        path: &Path,
        watch: &mut dyn Watch,
    ) -> Result<Vec<Vec<f32>>, CertifyError> {
        let architecture = self.source.architecture();
        unit(forward::vectors(weights, architecture, self.recipe, &self.texts[..texts], watch)?, path)
    }

    fn four_bit(&self) -> BTreeSet<String> {
        let parts = self.summary.tensors.iter().filter(|tensor| tensor.is_four_bit());
        parts.map(|tensor| tensor.part.clone()).collect()
    }

    /// Whether the model itself gives vectors of length 1.
    fn normalised(&self) -> Result<bool, CertifyError> {
        match &self.job.format {
            Format::Gguf => Ok(true),
            Format::Package(package) => match package.normalise {
                Some(said) => Ok(said),
                None => Ok(self.source.normalises()?),
            },
        }
    }
}

/// One result and what was found out about it.
struct Judge<'a, 'b> {
    subject: Subject<'a>,
    known: &'a mut Option<Known>,
    told: Told<'b>,
}

impl Judge<'_, '_> {
    /// Runs the self-test and compares the two models.
    fn judge(&mut self) -> Result<(SelfTest, Agreement), CertifyError> {
        let subject = &self.subject;
        let (target, count) = (&subject.job.target, subject.texts.len());
        let mut meter = subject.meter(Phase::EvaluatingTarget, self.told);
        let vectors = subject.vectors(subject.made.weights(), count, target, &mut meter)?;
        let (texts, normalised) = (subject.texts, subject.normalised()?);
        let expected = Expected { target, texts, vectors: &vectors, normalised };
        let self_test = match &subject.made {
            Made::Packages(packages, _) => {
                let mut meter = subject.meter(Phase::TestingTarget, self.told);
                self_test::packages(packages, &expected, &mut |share| meter.share(share))?
            }
            Made::Gguf(weights) => {
                let started = Instant::now();
                let alone = subject.vectors(weights, 1, target, &mut subject.meter(Phase::TestingTarget, self.told))?;
                self_test::alone(&alone, &expected, milliseconds(started))?
            }
        };
        let source = self.source()?;
        Ok((self_test, agreement(source, &vectors)))
    }

    /// The source's vectors.
    fn source(&mut self) -> Result<&[Vec<f32>], CertifyError> {
        let subject = &self.subject;
        let source = &subject.job.source;
        let same =
            |known: &Known| known.source == *source && known.recipe == subject.recipe && known.texts == subject.texts;
        if !self.known.as_ref().is_some_and(same) {
            let texts = subject.texts.to_vec();
            let mut meter = subject.meter(Phase::EvaluatingSource, self.told);
            let vectors = subject.vectors(&subject.source, texts.len(), source, &mut meter)?;
            *self.known = Some(Known { source: source.clone(), recipe: subject.recipe, texts, vectors });
        }
        Ok(self.known.as_ref().map_or(&[], |known| &known.vectors))
    }

    /// The 4-bit matrices, the one that lost most first: by how far its products with the source's states are off.
    fn worst(&mut self) -> Result<Vec<String>, CertifyError> {
        let subject = &self.subject;
        let mut losses = Losses {
            meter: subject.meter(Phase::FindingWorst, self.told),
            target: subject.made.weights(),
            four_bit: subject.four_bit(),
            block: Vec::new(),
            product: Vec::new(),
            squares: BTreeMap::new(),
        };
        subject.vectors(&subject.source, subject.texts.len(), &subject.job.source, &mut losses)?;
        let loss = |(part, (difference, all)): (String, (f64, f64))| (difference / all.max(f64::MIN_POSITIVE), part);
        let mut ranking: Vec<(f64, String)> = losses.squares.into_iter().map(loss).collect();
        ranking.sort_by(|left, right| right.0.total_cmp(&left.0).then_with(|| left.1.cmp(&right.1)));
        Ok(ranking.into_iter().map(|(_, part)| part).collect())
    }

    /// What to write beside the model.
    fn certificate(
        &mut self,
        self_test: SelfTest,
        agreement: Agreement,
        floor: f64,
    ) -> Result<Certificate, CertifyError> {
        let source_vectors = Vectors::of(self.source()?);
        let Subject { job, summary, texts, .. } = &self.subject;
        let verdict = Verdict::of(&agreement, floor);
        let (format, recipe) = match &job.format {
            Format::Gguf => ("gguf", "native"),
            Format::Package(package) => ("mlpackage", if package.papr { "papr" } else { "native" }),
        };
        let precision = match job.precision {
            TargetPrecision::Int8 => "int8",
            TargetPrecision::FourBit => "4bit",
            _ => "fp16",
        };
        let fell_back = summary.tensors.iter().filter(|tensor| tensor.fell_back).map(|tensor| tensor.part.clone());
        Ok(Certificate {
            version: Certificate::CURRENT,
            verdict,
            floor,
            agreement,
            evaluator: EVALUATOR.to_owned(),
            self_test,
            format: format.to_owned(),
            precision: precision.to_owned(),
            recipe: recipe.to_owned(),
            raised: job.raised.iter().cloned().collect(),
            fell_back: fell_back.collect(),
            converter: CONVERTER.to_owned(),
            source_sha256: summary.input_sha256.clone(),
            target_sha256: summary.output_sha256.clone(),
            source_bytes: summary.bytes_read,
            target_bytes: summary.bytes_written,
            probes_sha256: probes::sha256(),
            probes: texts.len(),
            conversion_ms: 0.0,
            certification_ms: 0.0,
            source_vectors,
        })
    }
}

/// The probe set as the model's token ids.
fn tokens(job: &Job) -> Result<Vec<Vec<u32>>, CertifyError> {
    let source = Source::open(&job.source)?;
    let (vocabulary, end) = match source.architecture() {
        Architecture::Bert(bert) => (bert.vocabulary, TextEnd::Tokenizer),
        Architecture::NomicBert(nomic) => (nomic.vocabulary, TextEnd::Tokenizer),
        Architecture::Qwen3(qwen3) => (qwen3.vocabulary, TextEnd::qwen3(source.end_token())),
    };
    let ids = token_ids(&source.tokenizer(), &probes::probes(), vocabulary, source.max_tokens(job)?, end)?;
    // A tokenizer of 150,000 tokens takes more memory than anything after it, and allocators keep what they were given back.
    embedbar_memory::release_unused();
    Ok(ids)
}

/// Scales vectors to length 1.
fn unit(mut vectors: Vec<Vec<f32>>, path: &Path) -> Result<Vec<Vec<f32>>, CertifyError> {
    for (index, vector) in vectors.iter_mut().enumerate() {
        let length = vector.iter().map(|&number| f64::from(number).powi(2)).sum::<f64>().sqrt();
        let problem = match length {
            length if !length.is_finite() => "it holds a NaN or an infinite number",
            0.0 => "it holds nothing but zeros",
            _ => {
                for number in vector.iter_mut() {
                    *number = (f64::from(*number) / length) as f32;
                }
                continue;
            }
        };
        let text = probes::probes().swap_remove(index);
        return Err(CertifyError::NoVector { path: path.to_path_buf(), text, problem });
    }
    Ok(vectors)
}

/// Counts weights and asks whether to go on.
struct Meter<'a> {
    phase: Phase,
    done: u64,
    total: u64,
    path: PathBuf,
    told: Told<'a>,
}

impl Meter<'_> {
    /// Says that so much is done, from 0 to 1, where weights are not counted.
    fn share(&mut self, share: f64) -> ControlFlow<()> {
        self.done = (self.total as f64 * share) as u64;
        self.tell("")
    }

    fn tell(&mut self, tensor: &str) -> ControlFlow<()> {
        (self.told)(Progress {
            phase: self.phase,
            bytes_done: self.done.min(self.total),
            bytes_total: self.total,
            tensor: tensor.to_owned(),
        })
    }
}

impl Watch for Meter<'_> {
    fn multiplied(&mut self, block: Block<'_>) -> Result<(), CertifyError> {
        self.done += 2 * (block.rows.len() * block.width) as u64;
        match self.tell(block.part) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(ConvertError::Cancelled { path: self.path.clone() }.into()),
        }
    }
}

/// Compares each product of the source with that of the target's matrix.
struct Losses<'a> {
    meter: Meter<'a>,
    target: &'a dyn Weights,
    four_bit: BTreeSet<String>,
    block: Vec<f32>,
    product: Vec<f32>,
    /// The sum of squares of differences, and of the source's products, by part.
    squares: BTreeMap<String, (f64, f64)>,
}

impl Watch for Losses<'_> {
    fn multiplied(&mut self, block: Block<'_>) -> Result<(), CertifyError> {
        if self.four_bit.contains(block.part) {
            self.block.resize(block.rows.len() * block.width, 0.0);
            self.target.read(block.part, block.rows.start, &mut self.block)?;
            product(block.x, &self.block, block.width, &mut self.product);
            let sums = self.squares.entry(block.part.to_owned()).or_default();
            for (source, target) in block.product.iter().zip(&self.product) {
                sums.0 += f64::from(source - target).powi(2);
                sums.1 += f64::from(*source).powi(2);
            }
        }
        self.meter.multiplied(block)
    }
}
