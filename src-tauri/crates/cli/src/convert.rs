//! `embedbar convert`: a checkpoint in, a smaller one out.

use std::ops::ControlFlow;

use embedbar_contract::Failure;
use embedbar_convert::{Job, TargetPrecision};
use serde_json::json;

use crate::arguments::Convert;
use crate::output::{self, Progress};

pub(crate) fn run(convert: &Convert, as_json: bool) -> anyhow::Result<()> {
    if !(convert.fp16 || convert.int8) {
        anyhow::bail!(
            "no precision is chosen\n\nhint: Add `--int8` (half the size, nearly the same vectors) or `--fp16`."
        );
    }
    let precision = if convert.int8 { TargetPrecision::Int8 } else { TargetPrecision::Fp16 };
    let mut job = Job::new(&convert.source, &convert.out, precision);
    job.max_tokens = convert.max_length;
    let mut progress = Progress::default();
    let summary = embedbar_convert::convert(&job, &mut |step| {
        let (done, total) = (output::bytes(Some(step.bytes_done)), output::bytes(Some(step.bytes_total)));
        progress.show(&format!("{done} of {total}: {}", step.tensor));
        ControlFlow::Continue(())
    })
    .map_err(Failure::from)?;
    drop(progress);
    if as_json {
        return output::json(&json!({
            "path": convert.out,
            "bytes_read": summary.bytes_read,
            "bytes_written": summary.bytes_written,
            "input_sha256": summary.input_sha256,
            "output_sha256": summary.output_sha256,
            "tokenizer_left_out": summary.tokenizer_left_out,
        }));
    }
    let (read, written) = (output::bytes(Some(summary.bytes_read)), output::bytes(Some(summary.bytes_written)));
    output::line(&format!("{}: {written} from {read}, sha256 {}", convert.out.display(), summary.output_sha256));
    if let Some(reason) = summary.tokenizer_left_out {
        output::line(&format!(
            "other programs cannot read it, because a GGUF file cannot hold its tokenizer: {reason}"
        ));
    }
    Ok(())
}
