//! A GGUF file: its tensors in the order of the source, so that one sequential pass both converts the source and takes its
//! sha256.

use super::rows::{Crew, Subject};
use super::{CONVERTER, Made, Meter, Prepared, SHA256_DIGITS};
use crate::checkpoint::Checkpoint;
use crate::gguf::{self, Entry, Value};
use crate::output::{self, Partial};
use crate::plan::{Model, Plan, Planned};
use crate::sidecar::Sidecar;
use crate::{ConvertError, Job, Summary, TensorSummary, stream};

pub(super) fn make(
    job: &Job,
    name: &str,
    checkpoint: &Checkpoint,
    model: &Model,
    mut meter: Meter<'_>,
) -> Result<Prepared, ConvertError> {
    let plan = Plan::make(checkpoint, model, job, name)?;
    let sidecar = Sidecar::read(&job.source, &job.target)?;
    // The sha256 is known at the end; until then a text of the same length keeps its place.
    let head_bytes = head(&plan, &"0".repeat(SHA256_DIGITS)).len() as u64;
    let target_bytes = head_bytes + plan.data_bytes;
    let partial = Partial::create(&job.target, target_bytes + sidecar.bytes())?;
    meter.total = checkpoint.bytes() + target_bytes;
    let input_sha256 = write(&plan, checkpoint, head_bytes, &partial, &mut meter)?;
    let (file, path) = partial.sync()?;
    let output_sha256 = stream::sha256_of(file, path, |bytes| meter.advance(bytes, ""))?;
    let summary = Summary {
        bytes_read: checkpoint.bytes(),
        bytes_written: target_bytes,
        input_sha256,
        output_sha256,
        packages: Vec::new(),
        sharing: None,
        tensors: plan.tensors.iter().map(|planned| summarise(planned, checkpoint)).collect(),
        left_out: model.left_out.clone(),
        tokenizer_left_out: plan.tokenizer_left_out,
        max_tokens: plan.max_tokens as usize,
        pooling: plan.pooling,
    };
    Ok(Prepared { summary, made: Made::File(partial), sidecar })
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
    TensorSummary {
        part: planned.part.clone(),
        name: planned.name.clone(),
        source: planned.place.tensor(checkpoint).name.clone(),
        shape: planned.shape.clone(),
        stored_as: planned.quantiser.name(),
        bytes: planned.bytes,
        fell_back: planned.fell_back,
    }
}

/// Writes the whole file and gives the sha256 of the source.
fn write(
    plan: &Plan,
    checkpoint: &Checkpoint,
    head_bytes: u64,
    partial: &Partial,
    meter: &mut Meter<'_>,
) -> Result<String, ConvertError> {
    let mut crew = Crew::new();
    let mut encoded = crew.states(Vec::new);
    let places: Vec<_> = plan.tensors.iter().map(|planned| planned.place).collect();
    let hashes = output::writing(partial.writer(), |sink| {
        // How far each tensor is, in bytes; blocks of one tensor come one after the other.
        let mut written = (usize::MAX, 0);
        stream::blocks(checkpoint, &places, &|_| false, |block| {
            let planned = block.wanted.map(|index| (index, &plan.tensors[index]));
            if let Some((index, planned)) = planned {
                let tensor = planned.place.tensor(checkpoint);
                let shard = planned.place.shard(checkpoint);
                let (first, stored_as) = (planned.skipped_rows, planned.quantiser.name());
                let subject = Subject { shard, tensor, first, end: tensor.rows(), stored_as };
                encoded.iter_mut().for_each(Vec::clear);
                crew.each(block, subject, &mut encoded, |out, row| planned.quantiser.encode(row, out))?;
                if written.0 != index {
                    written = (index, 0);
                }
                let bytes = encoded.concat();
                let length = bytes.len() as u64;
                sink.put(head_bytes + planned.offset + written.1, bytes)?;
                written.1 += length;
            }
            meter.advance(block.bytes.len() as u64, planned.map_or("", |(_, planned)| &planned.name))
        })
    })?;
    // The last tensor's padding: whatever was never written is zero.
    partial.set_length(head_bytes + plan.data_bytes)?;
    let sha256 = hashes.combined(checkpoint);
    partial.replace(0, &head(plan, &sha256))?;
    Ok(sha256)
}
