//! `embedbar convert`: a checkpoint in, a smaller one out.
//!
//! It takes what the Papr SDK's script takes. Ctrl-C cancels: the target stays as it was.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::Context as _;
use embedbar_certify::{Certificate, Certifier, Phase};
use embedbar_contract::Failure;
use embedbar_convert::{
    Format, Job, Lengths, NEURAL_ENGINE_BYTES, Package, PackageSummary, Pooling, Sharing, Summary, System,
    TargetPrecision,
};
use serde_json::json;

use crate::arguments::{self, Convert, Recipe};
use crate::output::{self, Progress};

pub(crate) async fn run(convert: Convert, as_json: bool) -> anyhow::Result<()> {
    let stop = Arc::new(AtomicBool::new(false));
    let asked = stop.clone();
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            asked.store(true, Ordering::Relaxed);
        }
    });
    tokio::task::spawn_blocking(move || convert_all(&convert, as_json, &stop))
        .await
        .context("the conversion panicked")?
}

fn convert_all(convert: &Convert, as_json: bool, stop: &AtomicBool) -> anyhow::Result<()> {
    embedbar_memory::return_large_blocks();
    let job = job(convert)?;
    warn(&job);
    let started = Instant::now();
    let mut shown = Shown::new();
    let mut told = |step| {
        shown.step(&step);
        if stop.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let (summary, certified) = if convert.no_certificate {
        let mut told = |step| told(embedbar_certify::Progress::from(step));
        (embedbar_convert::convert(&job, &mut told).map_err(Failure::from)?, None)
    } else {
        let outcome = Certifier::new(convert.floor).convert(&job, &mut told).map_err(Failure::from)?;
        (outcome.summary, Some(outcome.certificate))
    };
    drop(shown);
    report(&job, &summary, certified.as_ref(), started.elapsed().as_secs_f64(), as_json)
}

/// How far it is, how fast, how long still, and at what. Converting and reading back are counted together.
struct Shown {
    line: Progress,
    phase: Phase,
    since: Instant,
}

impl Shown {
    fn new() -> Self {
        Self { line: Progress::default(), phase: Phase::Converting, since: Instant::now() }
    }

    fn step(&mut self, step: &embedbar_certify::Progress) {
        if step.phase != self.phase && step.phase != Phase::ReadingBack {
            self.since = Instant::now();
        }
        self.phase = step.phase;
        let (done, total) = (output::bytes(Some(step.bytes_done)), output::bytes(Some(step.bytes_total)));
        let rate = step.bytes_done as f64 / self.since.elapsed().as_secs_f64().max(1e-3);
        let left = (step.bytes_total - step.bytes_done) as f64 / rate.max(1.0);
        let (rate, what) = (output::bytes(Some(rate as u64)), step.phase.sentence());
        self.line.show(&format!("{what}: {done} of {total}, {rate}/s, {left:.0} s left {}", step.tensor));
    }
}

/// What a person should know before they wait.
fn warn(job: &Job) {
    if matches!(job.format, Format::Package(_)) && job.precision == TargetPrecision::FourBit {
        eprintln!(
            "warning: 4-bit Core ML packages are an experiment: they have been reported to give wrong vectors on real Macs. INT8 is \
             the safe choice."
        );
    }
}

fn report(
    job: &Job,
    summary: &Summary,
    certificate: Option<&Certificate>,
    seconds: f64,
    as_json: bool,
) -> anyhow::Result<()> {
    if as_json {
        let fell_back: Vec<&str> =
            summary.tensors.iter().filter(|tensor| tensor.fell_back).map(|tensor| tensor.name.as_str()).collect();
        return output::json(&json!({
            "path": job.target,
            "bytes_read": summary.bytes_read,
            "bytes_written": summary.bytes_written,
            "seconds": seconds,
            "input_sha256": summary.input_sha256,
            "output_sha256": summary.output_sha256,
            "max_tokens": summary.max_tokens,
            "left_out": summary.left_out,
            "tokenizer_left_out": summary.tokenizer_left_out,
            "fell_back": fell_back,
            "neural_engine": !is_too_large(summary),
            "packages": summary.packages.iter().map(package_json).collect::<Vec<_>>(),
            "sharing": summary.sharing.map(|sharing| match sharing {
                Sharing::Cloned => "cloned",
                Sharing::Linked => "linked",
                Sharing::Copied => "copied",
            }),
            "certificate": certificate.map(certified).transpose()?,
        }));
    }
    let (read, written) = (output::bytes(Some(summary.bytes_read)), output::bytes(Some(summary.bytes_written)));
    let (path, sha256) = (job.target.display(), &summary.output_sha256);
    output::line(&format!("{path}: {written} from {read} in {seconds:.1} s, sha256 {sha256}"));
    if summary.packages.len() > 1 {
        for package in &summary.packages {
            let (path, bytes) = (package.path.display(), output::bytes(Some(package.bytes)));
            output::line(&format!("  {path}: {bytes}, {} tokens, sha256 {}", package.length, package.sha256));
        }
    }
    if let Some(certificate) = certificate {
        output::line(&format!("certificate: {}", sentence(certificate)));
    }
    for note in notes(summary) {
        eprintln!("note: {note}");
    }
    let made: Vec<PathBuf> = summary.packages.iter().map(|package| package.path.clone()).collect();
    // A GGUF file has one name.
    let left = if made.is_empty() { Vec::new() } else { embedbar_convert::left_over(&job.target, &made) };
    for path in left {
        eprintln!("note: `{}` is from an earlier conversion to this name and was left as it is", path.display());
    }
    Ok(())
}

/// A certificate without the vectors that it keeps.
pub(crate) fn certified(certificate: &Certificate) -> anyhow::Result<serde_json::Value> {
    let mut value = serde_json::to_value(certificate)?;
    value.as_object_mut().and_then(|fields| fields.remove("source_vectors"));
    Ok(value)
}

/// How near a model is to its source, for people.
pub(crate) fn sentence(certificate: &Certificate) -> String {
    let Certificate { agreement, probes, raised, floor, certification_ms, .. } = certificate;
    let raised = match raised.len() {
        0 => String::new(),
        1 => "; the matrix that lost most is stored in 8 bits".to_owned(),
        count => format!("; the {count} matrices that lost most are stored in 8 bits"),
    };
    let asked = if *floor == 0.0 { "; no floor was asked for" } else { "" };
    format!(
        "against the source on {probes} texts the mean cosine is {:.4} (least {:.4}), {:.1} % of the ten nearest are the \
         same{raised}{asked}; it took {:.1} s",
        agreement.mean_cosine,
        agreement.least_cosine,
        agreement.top_10_overlap * 100.0,
        certification_ms / 1e3
    )
}

/// What a person should know of what was made, a sentence each.
pub(crate) fn notes(summary: &Summary) -> Vec<String> {
    let fell_back = summary.tensors.iter().filter(|tensor| tensor.fell_back).count();
    let mut notes = Vec::new();
    if fell_back > 0 {
        notes.push(format!(
            "{fell_back} tensors are stored wider than asked, because their rows do not divide into blocks"
        ));
    }
    if let Some(reason) = &summary.tokenizer_left_out {
        notes.push(format!("other programs cannot read it, because a GGUF file cannot hold its tokenizer: {reason}"));
    }
    if is_too_large(summary) {
        notes.push(format!(
            "the Neural Engine takes at most {} in one package, so that this one will run on the GPU or the processor; \
             `--chunks auto` makes packages that it takes",
            output::memory_bytes(Some(NEURAL_ENGINE_BYTES))
        ));
    }
    if summary.packages.iter().any(|package| package.chunk.is_some()) {
        notes.push(
            "the packages are parts of one model, for programs that run them one after the other; Embedbar does not do that yet"
                .to_owned(),
        );
    }
    match summary.sharing {
        Some(Sharing::Copied) => notes.push(
            "each length has a copy of the weights, because this filesystem can neither clone nor link files"
                .to_owned(),
        ),
        Some(Sharing::Cloned | Sharing::Linked) => notes.push("all lengths share the weights on the disk".to_owned()),
        None => {}
    }
    notes
}

/// Whether the Neural Engine refuses it.
fn is_too_large(summary: &Summary) -> bool {
    summary.packages.iter().any(|package| package.weight_bytes > NEURAL_ENGINE_BYTES)
}

fn package_json(package: &PackageSummary) -> serde_json::Value {
    json!({
        "path": package.path,
        "length": package.length,
        "chunk": package.chunk.map(|(number, of)| format!("{number}/{of}")),
        "bytes": package.bytes,
        "weight_bytes": package.weight_bytes,
        "sha256": package.sha256,
    })
}

/// What was written on the command line, as a job.
fn job(convert: &Convert) -> anyhow::Result<Job> {
    let source = source(&convert.source)?;
    let precision = match (convert.precision.fp16, convert.precision.int8, convert.precision.k4bit) {
        (_, true, _) => TargetPrecision::Int8,
        (_, _, true) => TargetPrecision::FourBit,
        (true, ..) => TargetPrecision::Fp16,
        _ => anyhow::bail!(
            "no precision is chosen\n\nhint: Add `--int8` (half the size, nearly the same vectors), `--fp16` or `--k4bit`."
        ),
    };
    let pooling = convert.pooling.map(|pooling| match pooling {
        arguments::Pooling::Mean => Pooling::Mean,
        arguments::Pooling::Cls => Pooling::Cls,
        arguments::Pooling::Last => Pooling::Last,
    });
    let base = Job { pooling, ..Job::new(source, &convert.out, precision) };
    match format(convert)? {
        arguments::Format::Gguf => Ok(Job { max_tokens: convert.max_length.map(std::num::NonZero::get), ..base }),
        arguments::Format::Mlpackage => Ok(Job { format: Format::Package(package(convert)), ..base }),
    }
}

fn package(convert: &Convert) -> Package {
    let system = match convert.target {
        arguments::System::Macos13 => System::MacOs13,
        arguments::System::Macos14 => System::MacOs14,
        arguments::System::Macos15 => System::MacOs15,
    };
    let mut package = if convert.recipe == Recipe::Papr { Package::papr(system) } else { Package::native(system) };
    package.layers = convert.layers.unwrap_or(package.layers);
    package.normalise = match (convert.normalise.normalize, convert.normalise.no_normalize) {
        (_, true) => Some(false),
        (true, _) => Some(true),
        _ => package.normalise,
    };
    package.lengths = match (convert.lengths.as_slice(), convert.max_length) {
        ([first, further @ ..], _) => Lengths::new(*first, further.iter().copied()),
        ([], Some(length)) => Lengths::from(length),
        ([], None) => package.lengths,
    };
    package.chunk_bytes = convert.chunks.map(|arguments::Chunks::Auto| NEURAL_ENGINE_BYTES);
    package
}

fn format(convert: &Convert) -> anyhow::Result<arguments::Format> {
    let by_name = convert.out.extension().and_then(|suffix| match suffix.to_str() {
        Some("gguf") => Some(arguments::Format::Gguf),
        Some("mlpackage") => Some(arguments::Format::Mlpackage),
        _ => None,
    });
    convert.format.or(by_name).with_context(|| {
        format!("`{}` ends neither in `.gguf` nor in `.mlpackage`, and there is no `--format`", convert.out.display())
    })
}

/// A folder, or a model that another program has downloaded.
fn source(named: &str) -> anyhow::Result<PathBuf> {
    let path = PathBuf::from(named);
    let is_id = named.split('/').count() == 2 && !named.starts_with(['/', '.', '~']);
    if path.exists() || !is_id {
        return Ok(path);
    }
    Ok(embedbar_app::in_cache(named)?)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::arguments::{Arguments, Command};

    fn parsed(arguments: &str) -> anyhow::Result<Job> {
        let words = format!("embedbar convert --hf . {arguments}");
        let Command::Convert(convert) = Arguments::try_parse_from(words.split_whitespace())?.command else {
            panic!("it is a conversion");
        };
        job(&convert)
    }

    fn package(arguments: &str) -> Package {
        let job = parsed(arguments).expect("it is understood");
        let Format::Package(package) = job.format else { panic!("{job:?}") };
        package
    }

    #[test]
    fn the_suffix_says_what_is_made_and_the_option_wins() {
        assert_eq!(parsed("--out x.gguf --int8").expect("it is understood").format, Format::Gguf);
        assert_eq!(package("--out x.mlpackage --fp16"), Package::native(System::MacOs14));
        assert_eq!(package("--out x --fp16 --format mlpackage"), Package::native(System::MacOs14));
        assert!(parsed("--out x --fp16").is_err());
        assert!(parsed("--out x.gguf").expect_err("no precision").to_string().contains("no precision"));
    }

    #[test]
    fn the_sdks_script_and_its_options_mean_the_same_here() {
        let made = package("--out x.mlpackage --fp16 --pooling mean --layers 4 --max-length 32 --normalize");
        let wanted = Package { papr: false, ..Package::papr(System::MacOs14) };
        assert_eq!(made, wanted);
        assert_eq!(package("--out x.mlpackage --fp16 --recipe papr"), Package::papr(System::MacOs14));
        assert_eq!(package("--out x.mlpackage --int8 --recipe papr --no-normalize").normalise, Some(false));
    }

    #[test]
    fn all_lengths_and_chunks_are_made_in_one_conversion() {
        let made = package("--out some/x.mlpackage --int8 --lengths 128,64 --target macos15");
        assert_eq!(made.lengths.iter().map(std::num::NonZero::get).collect::<Vec<_>>(), [128, 64]);
        assert_eq!((made.system, made.chunk_bytes), (System::MacOs15, None));
        let made = package("--out x.mlpackage --int8 --max-length 64 --chunks auto");
        assert_eq!(made.lengths.iter().map(std::num::NonZero::get).collect::<Vec<_>>(), [64]);
        assert_eq!(made.chunk_bytes, Some(NEURAL_ENGINE_BYTES));
    }
}
