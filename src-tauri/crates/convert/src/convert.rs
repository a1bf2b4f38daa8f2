//! One conversion from its first check to the rename: everything that can be refused is refused before a weight is read.

use std::num::NonZero;
use std::ops::{ControlFlow, Range};
use std::path::Path;
use std::sync::mpsc::sync_channel;
use std::thread;

use crate::checkpoint::{Checkpoint, Content};
use crate::configuration::Configuration;
use crate::decode::{Decoder, PackedRow};
use crate::gguf::{self, Entry, Value};
use crate::output::Partial;
use crate::plan::{Plan, Planned};
use crate::quantise::OutOfRange;
use crate::sidecar::Sidecar;
use crate::stream::{self, Block};
use crate::{ConvertError, Job, Progress, Summary, TensorSummary};

/// What targets record as their maker. The number is raised whenever the same checkpoint gives other bytes; it is not the
/// program's version, so that a release which changes nothing here does not change every model's revision.
pub const CONVERTER: &str = "embedbar-convert 1";

const SHA256_DIGITS: usize = 64;

/// Encoded blocks that wait for the disk.
const WAITING: usize = 2;

/// More threads than this would only wait for the disk.
const MOST_ENCODERS: usize = 4;

/// Converts a checkpoint.
///
/// `progress` is called after each block; [`ControlFlow::Break`] cancels. Whatever goes wrong, the target is as it was.
pub fn convert(job: &Job, progress: &mut dyn FnMut(Progress) -> ControlFlow<()>) -> Result<Summary, ConvertError> {
    let name = check_target(&job.target)?;
    let configuration = Configuration::open(&job.source)?;
    let checkpoint = Checkpoint::open(&job.source, &configuration)?;
    let plan = Plan::make(&checkpoint, &configuration, job, job.name.as_deref().unwrap_or(name))?;
    let sidecar = Sidecar::read(&job.source, &job.target)?;
    // The sha256 is known at the end; until then a text of the same length keeps its place.
    let head_bytes = head(&plan, &checkpoint, &"0".repeat(SHA256_DIGITS)).len() as u64;
    let target_bytes = head_bytes + plan.data_bytes;
    let partial = Partial::create(&job.target, target_bytes + sidecar.bytes())?;
    let meter = Meter { done: 0, total: checkpoint.bytes() + target_bytes, source: &job.source, progress };
    let mut conversion = Conversion { checkpoint: &checkpoint, plan: &plan, partial, meter };
    let input_sha256 = conversion.write(head_bytes)?;
    let output_sha256 = conversion.read_back()?;
    sidecar.place()?;
    conversion.partial.commit()?;
    Ok(Summary {
        bytes_read: checkpoint.bytes(),
        bytes_written: target_bytes,
        input_sha256,
        output_sha256,
        tensors: plan.tensors.iter().map(|planned| summarise(planned, &checkpoint)).collect(),
        max_tokens: plan.max_tokens as usize,
        pooling: plan.pooling,
        left_out: plan.left_out,
    })
}

/// The target's name without its suffix.
fn check_target(target: &Path) -> Result<&str, ConvertError> {
    let bad = |problem| ConvertError::BadTarget { path: target.to_path_buf(), problem };
    if target.extension().is_none_or(|suffix| suffix != "gguf") {
        return Err(bad("it does not end in `.gguf`"));
    }
    if target.is_dir() {
        return Err(bad("it is a folder"));
    }
    target.file_stem().and_then(|name| name.to_str()).ok_or_else(|| bad("its name is not UTF-8"))
}

fn head<'a>(plan: &'a Plan, checkpoint: &'a Checkpoint, source_sha256: &str) -> Vec<u8> {
    let mut metadata = plan.metadata.clone();
    metadata.push(("embedbar.converter".to_owned(), Value::Text(CONVERTER.to_owned())));
    metadata.push(("embedbar.source_sha256".to_owned(), Value::Text(source_sha256.to_owned())));
    let entry = |planned: &'a Planned| Entry {
        name: &planned.name,
        shape: &planned.source(checkpoint).shape,
        ggml_type: planned.quantiser.ggml_type(),
        offset: planned.offset,
    };
    let entries: Vec<Entry<'a>> = plan.tensors.iter().map(entry).collect();
    gguf::head(&metadata, &entries)
}

fn summarise(planned: &Planned, checkpoint: &Checkpoint) -> TensorSummary {
    let source = planned.source(checkpoint);
    TensorSummary {
        name: planned.name.clone(),
        source: source.name.clone(),
        shape: source.shape.clone(),
        stored_as: planned.quantiser.name(),
        bytes: planned.bytes,
        fell_back: planned.fell_back,
    }
}

/// Counts bytes and asks the caller whether to go on.
struct Meter<'a> {
    done: u64,
    total: u64,
    source: &'a Path,
    progress: &'a mut dyn FnMut(Progress) -> ControlFlow<()>,
}

impl Meter<'_> {
    fn advance(&mut self, bytes: u64, tensor: &str) -> Result<(), ConvertError> {
        self.done += bytes;
        let progress = Progress { bytes_done: self.done, bytes_total: self.total, tensor: tensor.to_owned() };
        match (self.progress)(progress) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(ConvertError::Cancelled { path: self.source.to_path_buf() }),
        }
    }
}

struct Conversion<'a> {
    checkpoint: &'a Checkpoint,
    plan: &'a Plan,
    partial: Partial,
    meter: Meter<'a>,
}

impl Conversion<'_> {
    /// Writes the whole file and gives the sha256 of the source.
    fn write(&mut self, head_bytes: u64) -> Result<String, ConvertError> {
        self.partial.append(&vec![0; head_bytes as usize])?;
        let (checkpoint, plan, partial, meter) = (self.checkpoint, self.plan, &mut self.partial, &mut self.meter);
        let mut encoders = Encoders::new();
        let mut written = 0;
        // Reading and writing have threads of their own, so that neither disk nor processor waits for the other.
        let hashes = thread::scope(|scope| {
            let (sender, receiver) = sync_channel::<Vec<u8>>(WAITING);
            let writer = scope.spawn(move || receiver.iter().try_for_each(|bytes| partial.append(&bytes)));
            let outcome = stream::blocks(checkpoint, plan, |block| {
                let planned = block.planned.map(|index| &plan.tensors[index]);
                if let Some(planned) = planned {
                    // Padding goes in front, where a tensor starts; the last one's is added at the end.
                    let mut encoded = vec![0; planned.offset.saturating_sub(written) as usize];
                    encoders.encode(block, planned, checkpoint, &mut encoded)?;
                    written += encoded.len() as u64;
                    // Where the writer has failed, its error is the one to tell.
                    let _ = sender.send(encoded);
                }
                if writer.is_finished() {
                    return Err(ConvertError::Cancelled { path: checkpoint.folder.clone() });
                }
                meter.advance(block.bytes.len() as u64, planned.map_or("", |planned| &planned.name))
            });
            drop(sender);
            writer.join().expect("the writer does not panic. This is a bug.").and(outcome)
        })?;
        self.partial.append(&vec![0; (plan.data_bytes - written) as usize])?;
        let sha256 = hashes.combined(checkpoint);
        self.partial.replace(0, &head(plan, checkpoint, &sha256))?;
        Ok(sha256)
    }

    /// The sha256 of what the disk gives back.
    fn read_back(&mut self) -> Result<String, ConvertError> {
        let (file, path) = self.partial.sync()?;
        stream::sha256_of(file, path, |bytes| self.meter.advance(bytes, ""))
    }
}

/// Turns blocks into stored bytes on all processors. Rows are independent of each other, so that how they are divided does not
/// show in the result.
struct Encoders {
    decoders: Vec<(Decoder, Vec<u8>)>,
}

impl Encoders {
    fn new() -> Self {
        let threads = thread::available_parallelism().map_or(1, NonZero::get).min(MOST_ENCODERS);
        Self { decoders: (0..threads).map(|_| Default::default()).collect() }
    }

    /// Appends the stored form of a block's rows.
    fn encode(
        &mut self,
        block: &Block,
        planned: &Planned,
        checkpoint: &Checkpoint,
        encoded: &mut Vec<u8>,
    ) -> Result<(), ConvertError> {
        let rows = block.bytes.len() / planned.source(checkpoint).row_bytes();
        let share = rows.div_ceil(self.decoders.len());
        thread::scope(|scope| {
            let mut running = Vec::with_capacity(self.decoders.len());
            for (part, (decoder, out)) in self.decoders.iter_mut().enumerate() {
                let rows = (part * share).min(rows)..((part + 1) * share).min(rows);
                out.clear();
                running.push(scope.spawn(move || encode_rows(block, rows, planned, checkpoint, decoder, out)));
            }
            // The first failure in the order of the rows, so that the same damage always gives the same message.
            running.into_iter().try_for_each(|part| part.join().expect("no encoder panics. This is a bug."))
        })?;
        for (_, out) in &self.decoders {
            encoded.extend_from_slice(out);
        }
        Ok(())
    }
}

fn encode_rows(
    block: &Block,
    rows: Range<usize>,
    planned: &Planned,
    checkpoint: &Checkpoint,
    decoder: &mut Decoder,
    out: &mut Vec<u8>,
) -> Result<(), ConvertError> {
    let source = planned.source(checkpoint);
    let at = |row: usize| (planned.shard(checkpoint).path.clone(), source.name.clone(), block.first_row + row);
    for row in rows {
        let of_row = |bytes: usize| row * bytes..(row + 1) * bytes;
        let integers = &block.bytes[of_row(source.row_bytes())];
        let numbers = match &source.content {
            Content::Numbers(dtype) => decoder.row(*dtype, integers),
            Content::Affine(affine) => {
                let groups = source.row_length() / affine.packing.group;
                let [scales, biases] = [(&affine.scales, 0), (&affine.biases, 1)]
                    .map(|(companion, which)| &block.companions[which][of_row(groups * companion.dtype.bitsize() / 8)]);
                decoder.affine(affine, PackedRow { integers, scales, biases })
            }
            Content::Companion => unreachable!("a companion is no part of a plan. This is a bug."),
        };
        let numbers = numbers.map_err(|_| {
            let (path, tensor, row) = at(row);
            ConvertError::NotFinite { path, tensor, row }
        })?;
        planned.quantiser.encode(numbers, out).map_err(|OutOfRange| {
            let (path, tensor, row) = at(row);
            ConvertError::OutOfRange { path, tensor, row, stored_as: planned.quantiser.name() }
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
