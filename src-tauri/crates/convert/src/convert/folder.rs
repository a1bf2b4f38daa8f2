//! A Core ML package: tensors go to their places in the weight file whenever the source comes to them, so that here too one
//! sequential pass converts the source and takes its sha256. A tensor that becomes a palette is read a second time.

use std::fs::File;

use sha2::{Digest, Sha256};

use super::rows::{Crew, Subject};
use super::{Made, Meter, Prepared, SHA256_DIGITS};
use crate::checkpoint::Checkpoint;
use crate::job::Package;
use crate::output::{self, Sink, Staged};
use crate::package::PackagePlan;
use crate::package::manifest::{manifest, path};
use crate::package::options::{Options, PackageRecipe};
use crate::package::program::identifier;
use crate::package::segment::{Encoder, Encoding, Segment, Start, Stored, Survey};
use crate::plan::{Model, Place};
use crate::sidecar::Sidecar;
use crate::{ConvertError, Job, Pooling, Summary, TensorSummary, configuration, stream};

pub(super) fn make(
    job: &Job,
    package: Package,
    name: &str,
    checkpoint: &Checkpoint,
    model: &Model,
    mut meter: Meter<'_>,
) -> Result<Prepared, ConvertError> {
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
    let options = Options {
        target: package.system,
        precision: job.precision,
        raised: job.raised.clone(),
        length: package.length,
        recipe,
        name: name.to_owned(),
        licence,
    };
    let plan = PackagePlan::make(model.architecture(), options)
        .map_err(|error| ConvertError::unsupported(&job.source.join("config.json"), error.to_string()))?;
    let sidecar = Sidecar::read(&job.source, &job.target)?;
    let other_bytes = plan.model(&"0".repeat(SHA256_DIGITS)).len() as u64 + manifest(&[]).len() as u64;
    let target_bytes = plan.weight_bytes + other_bytes;
    let staged = Staged::create(&job.target, target_bytes + sidecar.bytes())?;
    meter.total = checkpoint.bytes() + plan.weight_bytes;
    let weights = staged.file(path::WEIGHTS)?;
    let tensors = tensors(&plan, model);
    let input_sha256 = write(&plan, &tensors, checkpoint, &staged, &weights, &mut meter)?;
    let program = plan.model(&input_sha256);
    for (name, bytes) in [(path::MODEL, program.as_slice()), (path::MANIFEST, manifest(&program).as_bytes())] {
        let file = staged.file(name)?;
        staged.writer(&file).put(0, bytes)?;
        file.sync_all().map_err(ConvertError::writing(&job.target))?;
    }
    weights.sync_all().map_err(ConvertError::writing(&job.target))?;
    let output_sha256 = sum(&staged, &weights, &mut meter)?;
    let summaries = tensors.iter().map(|tensor| tensor.summary(&plan, checkpoint)).collect();
    let summary = Summary {
        bytes_read: checkpoint.bytes(),
        bytes_written: target_bytes,
        input_sha256,
        output_sha256,
        tensors: summaries,
        left_out: model.left_out.clone(),
        tokenizer_left_out: None,
        max_tokens: package.length.get(),
        pooling,
    };
    Ok(Prepared { summary, made: Made::Folder(staged), sidecar })
}

/// A tensor of the source and what it becomes.
struct Wanted<'a> {
    place: Place,
    stored: &'a Stored,
}

/// The tensors that a package takes, in the order of the source.
fn tensors<'a>(plan: &'a PackagePlan, model: &Model) -> Vec<Wanted<'a>> {
    let stored = plan.segments.iter().filter_map(|segment| match segment {
        Segment::Stored(stored) => Some(stored),
        Segment::Constant { .. } => None,
    });
    let mut wanted: Vec<Wanted<'a>> = stored
        .map(|stored| {
            let name = &plan.weights[stored.weight].name;
            let place = model.place(name).expect("a package takes what the family's plan has. This is a bug.");
            Wanted { place, stored }
        })
        .collect();
    wanted.sort_by_key(|wanted| wanted.place);
    wanted
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

    fn summary(&self, plan: &PackagePlan, checkpoint: &Checkpoint) -> TensorSummary {
        let form = &self.stored.form;
        let part = plan.weights[self.stored.weight].name.clone();
        TensorSummary {
            name: identifier(&part),
            part,
            source: self.place.tensor(checkpoint).name.clone(),
            shape: plan.weights[self.stored.weight].shape.clone(),
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

/// Writes the weight file and gives the sha256 of the source.
fn write(
    plan: &PackagePlan,
    tensors: &[Wanted<'_>],
    checkpoint: &Checkpoint,
    staged: &Staged,
    weights: &File,
    meter: &mut Meter<'_>,
) -> Result<String, ConvertError> {
    let mut crew = Crew::new();
    let places: Vec<Place> = tensors.iter().map(|wanted| wanted.place).collect();
    let again = |index: usize| matches!(tensors[index].stored.start(), Start::Survey);
    let hashes = output::writing(staged.writer(weights), |sink| {
        sink.put(0, plan.file_head().to_vec())?;
        for segment in &plan.segments {
            if let Segment::Constant { place, constant } = segment {
                sink.put(place.offset, place.head().to_vec())?;
                sink.put(place.data_offset(), constant.bytes())?;
            }
        }
        let mut progress: Option<Progress> = None;
        stream::blocks(checkpoint, &places, &again, |block| {
            let Some(index) = block.wanted else { return meter.advance(block.bytes.len() as u64, "") };
            let wanted = &tensors[index];
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
                        let mut writing = Writing::new(together(surveys).finish());
                        stream::rows(checkpoint, wanted.place, |block| {
                            writing.block(&mut crew, block, wanted, checkpoint, sink)
                        })?;
                        writing.finish(wanted, sink)?;
                    }
                }
            }
            meter.advance(block.bytes.len() as u64, &plan.weights[wanted.stored.weight].name)
        })
    })?;
    weights.set_len(plan.weight_bytes).map_err(ConvertError::writing(staged.path()))?;
    Ok(hashes.combined(checkpoint))
}

fn together(surveys: Vec<Survey>) -> Survey {
    let mut surveys = surveys.into_iter();
    let mut all = surveys.next().unwrap_or_else(Survey::new);
    surveys.for_each(|survey| all.merge(&survey));
    all
}

/// The sha256 of the package's files as the disk gives them back.
fn sum(staged: &Staged, weights: &File, meter: &mut Meter<'_>) -> Result<String, ConvertError> {
    let mut hash = Sha256::new();
    for name in [path::MODEL, path::WEIGHTS, path::MANIFEST] {
        let at = staged.path().join(name);
        let sha256 = if name == path::WEIGHTS {
            stream::sha256_of(weights, &at, |bytes| meter.advance(bytes, ""))?
        } else {
            let file = File::open(&at).map_err(ConvertError::reading(&at))?;
            stream::sha256_of(&file, &at, |_| Ok(()))?
        };
        hash.update(format!("{sha256}  {name}\n"));
    }
    Ok(stream::hexadecimal(hash))
}
