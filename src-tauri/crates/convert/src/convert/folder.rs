//! Core ML packages: tensors go to their places in the weight files whenever the source comes to them, so that here too one
//! sequential pass converts the source and takes its sha256, however many packages it becomes. A tensor that becomes a palette
//! is read a second time.

use std::fs::File;
use std::path::Path;

use super::rows::{Crew, Subject};
use super::staging::{Member, Set};
use super::{Made, Meter, Prepared};
use crate::checkpoint::Checkpoint;
use crate::job::{Package, PackageSummary, Sharing};
use crate::output::{self, Sink, Writer};
use crate::package::architecture::Weight;
use crate::package::manifest::path;
use crate::package::options::{Options, PackageRecipe};
use crate::package::program::identifier;
use crate::package::segment::{Encoder, Encoding, Segment, Start, Stored, Survey};
use crate::package::{PackageError, PackagePlan, chunk};
use crate::plan::{Model, Place};
use crate::sidecar::Sidecar;
use crate::{ConvertError, Job, Pooling, Summary, TensorSummary, configuration, share, stream};

pub(super) fn make(
    job: &Job,
    package: &Package,
    name: &str,
    checkpoint: &Checkpoint,
    model: &Model,
    meter: Meter<'_>,
) -> Result<Prepared, ConvertError> {
    make_sharing(job, package, name, checkpoint, model, meter, &share::best)
}

/// As [`make`]; `best` says how files in a folder can share their bytes.
pub(super) fn make_sharing(
    job: &Job,
    package: &Package,
    name: &str,
    checkpoint: &Checkpoint,
    model: &Model,
    mut meter: Meter<'_>,
    best: &dyn Fn(&Path) -> std::io::Result<Sharing>,
) -> Result<Prepared, ConvertError> {
    let options = options(job, package, name, model)?;
    let pooling = options.recipe.pooling;
    let plans = plans(package, &options, model).map_err(|error| refused(job, &error))?;
    let sidecar = Sidecar::read(&job.source, &job.target)?;
    let set = Set::create(job, package, plans, sidecar.bytes(), best)?;
    meter.total = checkpoint.bytes() + set.bytes_to_finish();
    let tensors = tensors(set.first(), model);
    let weights: Vec<File> =
        set.first().iter().map(|member| member.staged.file(path::WEIGHTS)).collect::<Result<_, _>>()?;
    let input_sha256 = write(set.first(), &tensors, checkpoint, &weights, &mut meter)?;
    let packages = set.finish(&weights, &input_sha256, &mut meter)?;
    let summaries = tensors.iter().map(|tensor| tensor.summary(checkpoint)).collect();
    let first = &packages[..set.first().len()];
    let summary = Summary {
        bytes_read: checkpoint.bytes(),
        bytes_written: first.iter().map(|package| package.bytes).sum(),
        input_sha256,
        output_sha256: together(first),
        tensors: summaries,
        left_out: model.left_out.clone(),
        tokenizer_left_out: None,
        max_tokens: package.lengths.first().get(),
        pooling,
        sharing: set.sharing(),
        packages,
    };
    drop(tensors);
    Ok(Prepared { summary, made: Made::Folders(set), sidecar })
}

/// What all packages have in common, for the first length.
pub(super) fn options(job: &Job, package: &Package, name: &str, model: &Model) -> Result<Options, ConvertError> {
    let pooling = if package.papr { job.pooling.unwrap_or(Pooling::Mean) } else { model.pooling(job)? };
    let recipe = PackageRecipe {
        name: if package.papr { "papr" } else { "native" },
        pooling,
        layers: package.layers,
        normalise: match package.normalise {
            Some(said) => said,
            None => configuration::normalises(&job.source)?,
        },
    };
    let licence = configuration::licence(&job.source);
    Ok(Options {
        target: package.system,
        precision: job.precision,
        raised: job.raised.clone(),
        length: package.lengths.first(),
        longest: package.lengths.longest(),
        recipe,
        name: name.to_owned(),
        licence,
    })
}

/// The packages of each length.
pub(super) fn plans(
    package: &Package,
    options: &Options,
    model: &Model,
) -> Result<Vec<Vec<PackagePlan>>, PackageError> {
    let architecture = model.architecture();
    let chunks = match package.chunk_bytes {
        Some(limit) => chunk::split(architecture, options, limit)?,
        None => vec![chunk::Chunk::whole(architecture)],
    };
    let plans = package.lengths.iter().map(|length| {
        let plan = |chunk: &chunk::Chunk| {
            PackagePlan::make(architecture, Options { length, ..options.clone() }, chunk.clone())
        };
        chunks.iter().map(plan).collect()
    });
    plans.collect()
}

fn refused(job: &Job, error: &PackageError) -> ConvertError {
    match *error {
        PackageError::LayerTooLarge { layer, bytes, limit } => {
            ConvertError::LayerTooLarge { path: job.source.clone(), layer, bytes, limit }
        }
        _ => ConvertError::unsupported(&job.source.join("config.json"), error.to_string()),
    }
}

/// The sha256 of a model in one package or several.
fn together(packages: &[PackageSummary]) -> String {
    if let [only] = packages {
        return only.sha256.clone();
    }
    let line = |package: &PackageSummary| {
        let name = package.path.file_name().unwrap_or_default().to_string_lossy();
        format!("{}  {name}\n", package.sha256)
    };
    stream::sha256_of_text(&packages.iter().map(line).collect::<String>())
}

/// A tensor of the source and what it becomes.
struct Wanted<'a> {
    place: Place,
    /// The package's index.
    package: usize,
    weight: &'a Weight,
    stored: &'a Stored,
}

/// The tensors that the packages take, in the order of the source.
fn tensors<'a>(packages: &'a [Member], model: &Model) -> Vec<Wanted<'a>> {
    let mut all = Vec::new();
    for (package, Member { plan, .. }) in packages.iter().enumerate() {
        let stored = plan.segments.iter().filter_map(|segment| match segment {
            Segment::Stored(stored) => Some(stored),
            Segment::Constant { .. } => None,
        });
        all.extend(stored.map(|stored| {
            let weight = &plan.weights[stored.weight];
            let place = model.place(&weight.name).expect("a package takes what the family's plan has. This is a bug.");
            Wanted { place, package, weight, stored }
        }));
    }
    all.sort_by_key(|wanted| wanted.place);
    all
}

impl Wanted<'_> {
    fn subject<'a>(&self, checkpoint: &'a Checkpoint) -> Subject<'a> {
        Subject {
            shard: self.place.shard(checkpoint),
            tensor: self.place.tensor(checkpoint),
            first: self.stored.rows.start,
            end: self.stored.rows.end,
            stored_as: self.stored.form.name(),
        }
    }

    fn summary(&self, checkpoint: &Checkpoint) -> TensorSummary {
        let form = &self.stored.form;
        TensorSummary {
            part: self.weight.name.clone(),
            name: identifier(&self.weight.name),
            source: self.place.tensor(checkpoint).name.clone(),
            shape: self.weight.shape.clone(),
            stored_as: form.name(),
            bytes: form.codes().bytes() + form.rest().map_or(0, |rest| rest.bytes()),
            fell_back: self.stored.fell_back,
        }
    }
}

/// How far the tensor is that the pass is in.
struct Progress {
    /// Its index.
    tensor: usize,
    work: Work,
}

enum Work {
    Encode(Writing),
    Survey(Vec<Survey>),
}

/// A tensor whose codes are being written.
struct Writing {
    encoding: Encoding,
    /// Bytes of codes so far.
    codes: u64,
    /// What follows the codes, so far.
    rest: Vec<u8>,
}

impl Writing {
    fn new(encoding: Encoding) -> Self {
        Self { encoding, codes: 0, rest: Vec::new() }
    }

    /// Encodes a block.
    fn block(
        &mut self,
        crew: &mut Crew,
        block: &stream::Block,
        wanted: &Wanted<'_>,
        checkpoint: &Checkpoint,
        sink: &Sink,
    ) -> Result<(), ConvertError> {
        let mut states: Vec<(Encoder, Vec<u8>)> = crew.states(|| (self.encoding.encoder(), Vec::new()));
        crew.each(block, wanted.subject(checkpoint), &mut states, |(encoder, codes), row| encoder.row(row, codes))?;
        let mut bytes = Vec::new();
        for (encoder, mut codes) in states {
            let rest = encoder.finish(&mut codes);
            bytes.append(&mut codes);
            match self.encoding {
                // The same for all.
                Encoding::Palette(_) => self.rest = rest,
                _ => self.rest.extend(rest),
            }
        }
        let length = bytes.len() as u64;
        sink.put(wanted.stored.form.codes().data_offset() + self.codes, bytes)?;
        self.codes += length;
        Ok(())
    }

    /// After the last block: the heads, and what follows the codes.
    fn finish(self, wanted: &Wanted<'_>, sink: &Sink) -> Result<(), ConvertError> {
        let form = &wanted.stored.form;
        let codes = form.codes();
        assert_eq!(self.codes, codes.bytes(), "a tensor does not fill its place. This is a bug.");
        sink.put(codes.offset, codes.head().to_vec())?;
        if let Some(rest) = form.rest() {
            assert_eq!(self.rest.len() as u64, rest.bytes(), "an array does not fill its place. This is a bug.");
            sink.put(rest.offset, rest.head().to_vec())?;
            sink.put(rest.data_offset(), self.rest)?;
        }
        Ok(())
    }
}

/// Writes the packages' weight files and gives the sha256 of the source.
fn write(
    packages: &[Member],
    tensors: &[Wanted<'_>],
    checkpoint: &Checkpoint,
    weights: &[File],
    meter: &mut Meter<'_>,
) -> Result<String, ConvertError> {
    let mut crew = Crew::new();
    let places: Vec<Place> = tensors.iter().map(|wanted| wanted.place).collect();
    let again = |index: usize| matches!(tensors[index].stored.start(), Start::Survey);
    let writers: Vec<Writer<'_>> =
        packages.iter().zip(weights).map(|(member, file)| member.staged.writer(file)).collect();
    let hashes = output::writing_all(&writers, |sinks| {
        for (Member { plan, .. }, sink) in packages.iter().zip(sinks) {
            put_constants(plan, sink)?;
        }
        let mut progress: Option<Progress> = None;
        stream::blocks(checkpoint, &places, &again, |block| {
            let Some(index) = block.wanted else { return meter.advance(block.bytes.len() as u64, "") };
            let wanted = &tensors[index];
            let sink = &sinks[wanted.package];
            let mut present = match progress.take() {
                Some(present) if present.tensor == index => present,
                _ => Progress {
                    tensor: index,
                    work: match wanted.stored.start() {
                        Start::Encode(encoding) => Work::Encode(Writing::new(encoding)),
                        Start::Survey => Work::Survey(crew.states(Survey::new)),
                    },
                },
            };
            match &mut present.work {
                Work::Encode(writing) => writing.block(&mut crew, block, wanted, checkpoint, sink)?,
                Work::Survey(surveys) => {
                    crew.each(block, wanted.subject(checkpoint), surveys, Survey::row)?;
                }
            }
            let tensor = wanted.place.tensor(checkpoint);
            if block.first_row + block.bytes.len() / tensor.row_bytes() < tensor.rows() {
                progress = Some(present);
            } else {
                match present.work {
                    Work::Encode(writing) => writing.finish(wanted, sink)?,
                    Work::Survey(surveys) => {
                        let mut writing = Writing::new(merged(surveys).finish());
                        stream::rows(checkpoint, wanted.place, |block| {
                            writing.block(&mut crew, block, wanted, checkpoint, sink)
                        })?;
                        writing.finish(wanted, sink)?;
                    }
                }
            }
            meter.advance(block.bytes.len() as u64, &wanted.weight.name)
        })
    })?;
    for (Member { plan, staged, .. }, file) in packages.iter().zip(weights) {
        file.set_len(plan.weight_bytes).map_err(|source| staged.failed(source))?;
    }
    Ok(hashes.combined(checkpoint))
}

/// Writes what does not come from the source.
fn put_constants(plan: &PackagePlan, sink: &Sink) -> Result<(), ConvertError> {
    sink.put(0, plan.file_head().to_vec())?;
    for segment in &plan.segments {
        if let Segment::Constant { place, constant } = segment {
            sink.put(place.offset, place.head().to_vec())?;
            sink.put(place.data_offset(), constant.bytes())?;
        }
    }
    Ok(())
}

fn merged(surveys: Vec<Survey>) -> Survey {
    let mut surveys = surveys.into_iter();
    let mut all = surveys.next().unwrap_or_else(Survey::new);
    surveys.for_each(|survey| all.merge(&survey));
    all
}
