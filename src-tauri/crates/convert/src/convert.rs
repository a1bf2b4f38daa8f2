//! One conversion from its first check to the rename: everything that can be refused is refused before a weight is read.

use std::ops::ControlFlow;
use std::path::Path;

use safetensors::Dtype;

use crate::checkpoint::Checkpoint;
use crate::decode::Decoder;
use crate::gguf::{self, Entry, Value};
use crate::output::Partial;
use crate::plan::{self, Plan, Planned};
use crate::quantise::OutOfRange;
use crate::sidecar::Sidecar;
use crate::stream::{self, Block};
use crate::{ConvertError, Job, Progress, Summary, TensorSummary};

/// What targets record as their maker. The number is raised whenever the same checkpoint gives other bytes; it is not the
/// program's version, so that a release which changes nothing here does not change every model's revision.
pub const CONVERTER: &str = "embedbar-convert 2";

const SHA256_DIGITS: usize = 64;

/// Converts a checkpoint.
///
/// `progress` is called after each block; [`ControlFlow::Break`] cancels. Whatever goes wrong, the target is as it was.
pub fn convert(job: &Job, progress: &mut dyn FnMut(Progress) -> ControlFlow<()>) -> Result<Summary, ConvertError> {
    let name = check_target(&job.target)?;
    let checkpoint = Checkpoint::open(&job.source)?;
    let plan = Plan::make(&checkpoint, job, job.name.as_deref().unwrap_or(name))?;
    let sidecar = Sidecar::read(&job.source, &job.target)?;
    // The sha256 is known at the end; until then a text of the same length keeps its place.
    let head_bytes = head(&plan, &"0".repeat(SHA256_DIGITS)).len() as u64;
    let target_bytes = head_bytes + plan.data_bytes;
    let partial = Partial::create(&job.target, target_bytes + sidecar.bytes())?;
    let meter = Meter { done: 0, total: checkpoint.bytes() + target_bytes, source: &job.source, progress };
    let mut conversion = Conversion { checkpoint: &checkpoint, plan: &plan, partial, meter, written: 0 };
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
        tokenizer_left_out: plan.tokenizer_left_out,
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

fn head<'a>(plan: &'a Plan, source_sha256: &str) -> Vec<u8> {
    let mut metadata = plan.metadata.clone();
    metadata.push(("embedbar.converter".to_owned(), Value::Text(CONVERTER.to_owned())));
    metadata.push(("embedbar.source_sha256".to_owned(), Value::Text(source_sha256.to_owned())));
    let entry = |planned: &'a Planned| Entry {
        name: &planned.name,
        shape: &planned.shape,
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
        shape: planned.shape.clone(),
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
    /// Bytes of data that were written.
    written: u64,
}

impl Conversion<'_> {
    /// Writes the whole file and gives the sha256 of the source.
    fn write(&mut self, head_bytes: u64) -> Result<String, ConvertError> {
        self.partial.append(&vec![0; head_bytes as usize])?;
        let mut decoder = Decoder::default();
        let mut encoded = Vec::new();
        let (checkpoint, plan) = (self.checkpoint, self.plan);
        let hashes = stream::blocks(checkpoint, plan, |block| {
            let planned = block.planned.map(|index| &plan.tensors[index]);
            if let Some(planned) = planned {
                encoded.clear();
                // Padding goes in front, where a tensor starts; the last one's is added at the end.
                encoded.resize(planned.offset.saturating_sub(self.written) as usize, 0);
                encode(block, planned, checkpoint, &mut decoder, &mut encoded)?;
                self.partial.append(&encoded)?;
                self.written += encoded.len() as u64;
            }
            self.meter.advance(block.bytes.len() as u64, planned.map_or("", |planned| &planned.name))
        })?;
        self.partial.append(&vec![0; (plan.data_bytes - self.written) as usize])?;
        let sha256 = hashes.combined(checkpoint);
        self.partial.replace(0, &head(plan, &sha256))?;
        Ok(sha256)
    }

    /// The sha256 of what the disk gives back.
    fn read_back(&mut self) -> Result<String, ConvertError> {
        let (file, path) = self.partial.sync()?;
        stream::sha256_of(file, path, |bytes| self.meter.advance(bytes, ""))
    }
}

/// Appends the stored form of a block's rows.
fn encode(
    block: &Block,
    planned: &Planned,
    checkpoint: &Checkpoint,
    decoder: &mut Decoder,
    encoded: &mut Vec<u8>,
) -> Result<(), ConvertError> {
    let source = planned.source(checkpoint);
    let at = |row: usize| (planned.shard(checkpoint).path.clone(), source.name.clone(), block.first_row + row);
    let row_bytes = plan::row_length(&source.shape) * number_bytes(source.dtype);
    let skipped = planned.skipped_rows.saturating_sub(block.first_row);
    for (row, bytes) in block.bytes.chunks_exact(row_bytes).enumerate().skip(skipped) {
        let numbers = decoder.row(source.dtype, bytes).map_err(|_| {
            let (path, tensor, row) = at(row);
            ConvertError::NotFinite { path, tensor, row }
        })?;
        planned.quantiser.encode(numbers, encoded).map_err(|OutOfRange| {
            let (path, tensor, row) = at(row);
            ConvertError::OutOfRange { path, tensor, row, stored_as: planned.quantiser.name() }
        })?;
    }
    Ok(())
}

fn number_bytes(dtype: Dtype) -> usize {
    dtype.bitsize() / 8
}

#[cfg(test)]
mod tests;
