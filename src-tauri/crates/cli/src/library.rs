//! The library from the command line: what there is, getting more, testing it again, removing it, using it elsewhere.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::path::Path;

use embedbar_app::Access;
use embedbar_contract::{
    Card, Commands as _, ConvertFormat, ConvertPrecision, ConvertRequest, ConvertSystem, DownloadLimit, Empty, Failure,
    FailureCode, InspectRequest, InstallOffer, InstallRequest, Job, JobState, ModelChoice, ModelDetails, ModelHealth,
    ModelInfo, ModelKind, RecipeName, Remote, Removed, SdkKeep, TokenRequest, TokenStatus,
};

use crate::arguments::{Install, PlanPrecision};
use crate::ask::{show, text, watch_job};
use crate::inspect::{absolute, described};
use crate::output;

pub(crate) async fn models(application: &Remote<Access>, json: bool) -> anyhow::Result<()> {
    let found = application.models(Empty {}).await?;
    for model in &found.models {
        if json {
            output::json(model)?;
        } else {
            output::line(&row(model));
        }
    }
    if !json {
        let (all, own) = (output::bytes(Some(found.total_bytes)), output::bytes(Some(found.own_bytes)));
        output::line(&format!("  {all} in all, what is shared counted once; {own} of it in Embedbar's own folder"));
    }
    Ok(())
}

fn row(model: &ModelInfo) -> String {
    let mark = if model.active { "*" } else { " " };
    let size = output::bytes(Some(model.size_bytes));
    let state = match &model.health {
        ModelHealth::Untested if model.bundled => "  (bundled)".to_owned(),
        ModelHealth::Untested => String::new(),
        ModelHealth::Passed => "  tested".to_owned(),
        ModelHealth::Quarantined { reason } => format!("  set aside: {reason}"),
        ModelHealth::Missing { reason } => format!("  gone: {reason}"),
    };
    format!("{mark} {}  {size}  {}{state}", model.id, model.path)
}

pub(crate) async fn show_model(application: &Remote<Access>, model: String, json: bool) -> anyhow::Result<()> {
    show(&application.show_model(ModelChoice { model }).await?, json, details)
}

fn details(details: &ModelDetails) -> String {
    let ModelDetails { model, origin, card, certificate } = details;
    let mut lines = vec![row(model).trim_start_matches("  ").to_owned()];
    if let Some(origin) = origin {
        let commit = origin.commit.as_ref().map_or_else(String::new, |commit| format!(" at {commit}"));
        lines.push(format!("from         {}{commit}", origin.source));
        lines.extend(origin.licence.iter().map(|licence| format!("licence      {licence}")));
        for file in &origin.files {
            lines.push(format!(
                "file         {}  {}  sha256 {}",
                file.path,
                output::bytes(Some(file.bytes)),
                file.sha256
            ));
        }
    }
    lines.extend(certificate.iter().map(|certificate| format!("certificate  {certificate}")));
    match card {
        Some(card) => lines.extend(card_lines(card)),
        None => lines.push(format!("card         none; `embedbar verify {}` tests it", model.id)),
    }
    lines.join("\n")
}

fn card_lines(card: &Card) -> Vec<String> {
    let mut lines = Vec::new();
    for check in &card.checks {
        let verdict = if check.passed { "passed" } else { "FAILED" };
        lines.push(format!("{verdict:<12} {}: {}", check.name, check.detail));
    }
    let milliseconds = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |value| format!("{value:.1} ms"));
    if let Some(backend) = card.backend {
        lines.push(format!("ran on       {backend}"));
    }
    lines.push(format!(
        "cost here    {} to load, {} for a short text, {} tokens a second, {} of memory at most",
        milliseconds(card.load_ms),
        milliseconds(card.short_text_ms),
        card.tokens_per_second.map_or_else(|| "–".to_owned(), |rate| format!("{rate:.0}")),
        output::memory_bytes(card.peak_bytes),
    ));
    lines
}

/// Shows what an installation would take, asks where something is to be fetched, and follows the job.
pub(crate) async fn install(application: &Remote<Access>, install: Install, json: bool) -> anyhow::Result<()> {
    let source = absolute(&install.source)?;
    let offer = application.inspect(InspectRequest { source }).await?;
    for line in offered(&offer) {
        eprintln!("{line}");
    }
    let fetch = offer.download.as_ref().map_or(0, |download| download.fetch_bytes);
    if fetch > 0 && !install.yes && !said_yes(fetch)? {
        return Err(Failure::new(FailureCode::Cancelled, "nothing was downloaded").into());
    }
    if let Some(limit) = install.limit {
        application.limit_downloads(DownloadLimit { bytes_per_second: Some(limit) }).await?;
    }
    let ladder: Vec<ConvertPrecision> = install.prepare.into_iter().map(converted).collect();
    let name = install.name.unwrap_or(offer.name);
    let request = InstallRequest {
        agreed_bytes: Some(fetch),
        commit: offer.download.map(|download| download.commit),
        // Without it the owner would have to look once more.
        name: Some(name.clone()),
        leave_in_place: install.in_place,
        ladder: ladder.clone(),
        source: offer.source,
    };
    let job = application.install(request).await?;
    finish(application, job, json).await?;
    for precision in ladder {
        // The owner has begun it by itself where it stays; then this is the same job.
        let (source, format) = (name.clone(), ConvertFormat::Gguf);
        let wanted = ConvertRequest { source, precision, format, target: None, make_room: None };
        let job = application.convert(wanted).await?;
        finish(application, job, json).await?;
    }
    Ok(())
}

/// Follows a job to its end.
pub(crate) async fn finish(application: &Remote<Access>, job: Job, json: bool) -> anyhow::Result<()> {
    let job = watch_job(application, job).await?;
    if json {
        output::json(&job)?;
    }
    match job.state {
        JobState::Failed { failure } => Err(failure.into()),
        JobState::Cancelled => Err(Failure::new(FailureCode::Cancelled, job.detail).into()),
        _ => {
            if !json {
                output::line(&format!("{}: {} in {:.1} s", job.title, job.detail, job.elapsed_ms / 1e3));
            }
            Ok(())
        }
    }
}

/// An offer, for people.
pub(crate) fn offered(offer: &InstallOffer) -> Vec<String> {
    let mut lines = offer.inspection.as_ref().map(described).unwrap_or_default();
    if let Some(download) = &offer.download {
        lines.push(format!("repository   {} at {}", download.repository, download.commit));
        lines.extend(download.known.iter().map(|known| format!("catalogue    {known}")));
        let (all, fetch) = (output::bytes(Some(download.total_bytes)), output::bytes(Some(download.fetch_bytes)));
        lines.push(format!("size         {all} in {} files, {fetch} of it to be fetched", download.files));
        lines.extend(download.architecture.iter().map(|family| format!("architecture {family}")));
        lines.extend(download.dims.iter().map(|dims| format!("dimensions   {dims}")));
        lines.extend(download.max_tokens.iter().map(|tokens| format!("tokens       {tokens}")));
        lines.push(format!("needs        {}", output::needed(download.needs_bytes, download.total_bytes)));
        lines.push(format!("into         {}", download.folder));
        lines.extend(download.licence.iter().map(|licence| format!("licence      {licence}")));
        lines.extend(download.notes.iter().map(|note| format!("note         {note}")));
    }
    lines.push(format!(
        "installed as {}{}",
        offer.name,
        if offer.replaces { ", in place of the one that is there" } else { "" }
    ));
    if let Some(free) = offer.disk_available_bytes {
        lines.push(format!("disk         {} free", output::bytes(Some(free))));
    }
    for step in offer.ladder.iter().filter(|step| !step.installed) {
        let word = embedbar_contract::Precision::from(step.precision).word();
        let size = step.bytes.map_or_else(String::new, |bytes| format!(", {}", output::bytes(Some(bytes))));
        lines.push(format!("can prepare  {word}{size} (`--prepare {word}`)"));
    }
    lines
}

fn said_yes(bytes: u64) -> anyhow::Result<bool> {
    let size = output::bytes(Some(bytes));
    if !io::stdin().is_terminal() {
        return Err(Failure::new(FailureCode::InvalidRequest, format!("{size} would have to be downloaded"))
            .hint("Say yes to that with `--yes`.")
            .into());
    }
    eprint!("download {size}? [y/N] ");
    io::stderr().flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(["y", "yes"].contains(&answer.trim().to_lowercase().as_str()))
}

pub(crate) fn removed(removed: &Removed) -> String {
    let freed = format!("{} given back", output::bytes(Some(removed.freed_bytes)));
    [vec![freed], removed.kept.clone()].concat().join("\n")
}

pub(crate) async fn export(
    application: &Remote<Access>,
    model: String,
    out: &Path,
    precision: Option<PlanPrecision>,
    json: bool,
) -> anyhow::Result<()> {
    let found = application.show_model(ModelChoice { model }).await?.model;
    let out = std::path::absolute(out)?;
    let format = match out.extension().and_then(|suffix| suffix.to_str()) {
        Some("gguf") => ConvertFormat::Gguf,
        Some("mlpackage") => ConvertFormat::Mlpackage { system: ConvertSystem::Macos15, recipe: RecipeName::Native },
        _ => {
            return Err(Failure::new(
                FailureCode::InvalidRequest,
                format!("`{}` ends in neither `.gguf` nor `.mlpackage`", out.display()),
            )
            .hint("The end of the name says what is made.")
            .into());
        }
    };
    match found.kind {
        Some(ModelKind::Checkpoint | ModelKind::MlxCheckpoint) => {
            let precision = precision.map_or(ConvertPrecision::Int8, converted);
            let request =
                ConvertRequest { source: found.path, precision, format, target: Some(text(&out)?), make_room: None };
            let job = application.convert(request).await?;
            finish(application, job, json).await
        }
        Some(ModelKind::Gguf) if format == ConvertFormat::Gguf => copy(Path::new(&found.path), &out),
        kind => {
            let kind = kind.map_or_else(|| "not known".to_owned(), |kind| format!("{kind:?}"));
            Err(Failure::new(
                FailureCode::ModelUnsupported,
                format!("`{}` ({kind}) cannot be written as `{}`", found.id, out.display()),
            )
            .hint("Only a checkpoint can be converted; a GGUF file can be copied to another one.")
            .into())
        }
    }
}

/// Copies a GGUF file and its tokenizer to where nothing is yet.
fn copy(file: &Path, out: &Path) -> anyhow::Result<()> {
    let folder = out.parent().unwrap_or(Path::new("/"));
    let mut pairs = vec![(file.to_owned(), out.to_owned())];
    let tokenizer = file.with_file_name("tokenizer.json");
    if tokenizer.is_file() {
        pairs.push((tokenizer, folder.join("tokenizer.json")));
    }
    if let Some((_, taken)) = pairs.iter().find(|(_, target)| target.exists()) {
        return Err(Failure::new(FailureCode::InvalidRequest, format!("`{}` is there already", taken.display()))
            .hint("Choose an empty folder; nothing is overwritten.")
            .into());
    }
    for (source, target) in &pairs {
        std::fs::copy(source, target)?;
    }
    output::line(&format!("copied to {}", out.display()));
    Ok(())
}

pub(crate) async fn sdk(application: &Remote<Access>, model: String, write: bool, json: bool) -> anyhow::Result<()> {
    let proposal = application.sdk_lines(ModelChoice { model: model.clone() }).await?;
    if let Some(why) = &proposal.refused {
        return Err(Failure::new(FailureCode::InvalidRequest, format!("the SDK cannot use `{model}`: {why}"))
            .hint("`embedbar export` makes a package of a checkpoint.")
            .into());
    }
    if write {
        application.keep_sdk_lines(SdkKeep { model, changes: proposal.changes.clone() }).await?;
    }
    if json {
        return output::json(&proposal);
    }
    let Some(file) = &proposal.file else {
        for line in &proposal.lines {
            output::line(line);
        }
        eprintln!("no `.env` is followed; `embedbar env use PATH` follows one, and `--write` writes there");
        return Ok(());
    };
    for change in &proposal.changes {
        output::changed_line(change.number, change.before.as_deref(), change.after.as_deref());
    }
    output::line(&match (proposal.changes.is_empty(), write) {
        (true, _) => format!("{file} says so already"),
        (false, true) => format!("written into {file}"),
        (false, false) => format!("`--write` writes these lines into {file}"),
    });
    Ok(())
}

pub(crate) async fn token(application: &Remote<Access>, set: bool, forget: bool, json: bool) -> anyhow::Result<()> {
    let status = if set {
        let mut token = String::new();
        if io::stdin().is_terminal() {
            eprint!("token (it is shown while you type; paste it and press Return): ");
            io::stderr().flush()?;
        }
        io::stdin().lock().read_line(&mut token)?;
        application.set_token(TokenRequest { token: Some(token.trim().to_owned()) }).await?
    } else if forget {
        application.set_token(TokenRequest { token: None }).await?
    } else {
        application.token(Empty {}).await?
    };
    show(&status, json, |status: &TokenStatus| {
        let source = status.source.clone().unwrap_or_else(|| "none; public models need none".to_owned());
        format!("token        {source}\nkept         {} ({})", if status.kept { "yes" } else { "no" }, status.place)
    })
}

fn converted(precision: PlanPrecision) -> ConvertPrecision {
    match precision {
        PlanPrecision::Fp16 => ConvertPrecision::Fp16,
        PlanPrecision::Int8 => ConvertPrecision::Int8,
        PlanPrecision::FourBit => ConvertPrecision::FourBit,
    }
}
