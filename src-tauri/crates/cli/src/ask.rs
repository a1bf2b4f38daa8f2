//! Commands that are carried out by the home's owner, whoever that is.

use std::io::{BufRead as _, IsTerminal as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use embedbar_app::{Access, Options};
use embedbar_contract::{
    CleanupRequest, Commands as _, EmbedRequest, Embeddings, Empty, EnvApproval, EnvChoice, EnvKeep, EnvState, Failure,
    FailureCode, FolderChoice, IndexRequest, Job, JobId, JobState, MachineOverview, MemoryReading, ModelChoice,
    ModelState, OfferChoice, OfferReceipt, PromptKind, RecipeName, Remote, RemoteAnswer, RemoteConsent, SearchRequest,
};

use crate::arguments::{Command, Embed, Env, Prompt, Recipe};
use crate::doctor;
use crate::inspect;
use crate::jobs;
use crate::latency;
use crate::library;
use crate::output::{self, Progress};

pub(crate) async fn run(command: Command, home: Option<PathBuf>, json: bool) -> anyhow::Result<()> {
    if let Command::Embed(Embed { model: Some(model), .. }) = &command {
        let model = model.clone();
        let Command::Embed(embed) = command else { unreachable!("it has just been looked at. This is a bug.") };
        let arguments = embed.backend.worker_arguments();
        return show_embeddings(&embedbar_app::embed_with(home, &model, arguments, request(embed)?).await?, json);
    }
    let access = Access::open(Options { home, ..Options::default() }).await?;
    let application = Remote(access);
    let outcome = carry_out(&application, command, json).await;
    application.0.close().await;
    outcome
}

async fn carry_out(application: &Remote<Access>, command: Command, json: bool) -> anyhow::Result<()> {
    match command {
        Command::Embed(embed) => show_embeddings(&application.embed(request(embed)?).await?, json),
        Command::Index { paths } => index(application, &paths, json).await,
        Command::Forget { path } => {
            // A folder that is gone can still be forgotten.
            let path = path.canonicalize().or_else(|_| std::path::absolute(&path))?;
            application.forget(FolderChoice { path: text(&path)? }).await?;
            Ok(())
        }
        Command::Search { query, limit } => search(application, query.join(" "), limit.into(), json).await,
        Command::Models => library::models(application, json).await,
        Command::Show { model } => library::show_model(application, model, json).await,
        Command::Inspect { source } => inspect::run(application, &source, json).await,
        Command::Install(install) => library::install(application, install, json).await,
        Command::Verify { model } => {
            let job = application.verify(ModelChoice { model }).await?;
            library::finish(application, job, json).await
        }
        Command::Remove { model } => show(&application.remove(ModelChoice { model }).await?, json, library::removed),
        Command::Export { model, out, precision } => library::export(application, model, &out, precision, json).await,
        Command::Sdk { model, write } => library::sdk(application, model, write, json).await,
        Command::Token { set, forget } => library::token(application, set, forget, json).await,
        Command::Use { model, keep } => activate(application, model, keep, json).await,
        Command::Memory => {
            let memory =
                Memory { reading: application.memory(Empty {}).await?, machine: application.machine(Empty {}).await? };
            show(&memory, json, |memory| {
                format!("{}\n{}", output::memory(&memory.reading), output::machine(&memory.machine))
            })
        }
        Command::Cleanup { offers: true, .. } => offers(application, json).await,
        Command::Cleanup { start_again: true, .. } => {
            show(&application.start_again(Empty {}).await?, json, offer_receipt)
        }
        Command::Cleanup { accept, .. } if !accept.is_empty() => accept_offers(application, accept, json).await,
        Command::Cleanup { dry_run, .. } => cleanup(application, dry_run, json).await,
        Command::Status => status(application, json).await,
        Command::Jobs => jobs::list(application, json).await,
        Command::Pause { job } => jobs::pause(application, job, true).await,
        Command::Resume { job } => jobs::pause(application, job, false).await,
        Command::Cancel { job } => jobs::cancel(application, job).await,
        Command::Doctor { checklist, file } => doctor::run(application, checklist, file.as_deref(), json).await,
        Command::Latency { queries, cold } => latency::run(application, queries, cold, json).await,
        Command::Env { command: Env::Use { file, approve, none: _ } } => {
            let path = file.map(std::path::absolute).transpose()?.as_deref().map(text).transpose()?;
            let mut state = application.follow(EnvChoice { path }).await?;
            if let Some(env) = state.env.as_ref().filter(|env| approve && !env.approved) {
                let variables = env.unapproved.clone();
                state = application.approve_env(EnvApproval { variables }).await?;
            }
            show(&state, json, followed)
        }
        Command::Env { command: Env::Remote { allow, refuse } } => remote(application, allow, refuse, json).await,
        Command::Env { .. } => show(&application.env(Empty {}).await?, json, followed),
        Command::Convert(_)
        | Command::Plan(_)
        | Command::Serve(_)
        | Command::Worker { .. }
        | Command::Converter
        | Command::Installer
        | Command::Probe(_) => unreachable!("the caller carries it out. This is a bug."),
    }
}

/// The followed file, for people.
fn followed(state: &EnvState) -> String {
    let Some(env) = &state.env else {
        return "no `.env` is shown: none is followed, or no Embedbar is running".to_owned();
    };
    let mut lines = vec![env.path.clone()];
    if !env.approved {
        let variables = env.unapproved.join(", ");
        lines.push(format!(
            "  it decides nothing before it is approved (`embedbar env use --approve FILE`): {variables}"
        ));
    }
    lines.extend(env.held_back.iter().map(|reason| format!("  the last save is not in force: {reason}")));
    if !env.effect.is_empty() {
        lines.push(format!("  {}", env.effect));
    }
    let wrong = match env.findings.len() {
        0 => "nothing is wrong with it".to_owned(),
        1 => "one thing is wrong with it; `embedbar env lint` says what".to_owned(),
        count => format!("{count} things are wrong with it; `embedbar env lint` says which"),
    };
    lines.push(format!("  {wrong}"));
    lines.join("\n")
}

/// What `embedbar memory` tells.
#[derive(serde::Serialize)]
struct Memory {
    #[serde(flatten)]
    reading: MemoryReading,
    #[serde(flatten)]
    machine: MachineOverview,
}

/// One answer, as JSON or in words.
pub(crate) fn show<T: serde::Serialize>(answer: &T, json: bool, in_words: impl Fn(&T) -> String) -> anyhow::Result<()> {
    if json {
        return output::json(answer);
    }
    output::line(&in_words(answer));
    Ok(())
}

fn request(embed: Embed) -> anyhow::Result<EmbedRequest> {
    let texts = if embed.texts.is_empty() {
        let input = std::io::stdin().lock();
        if input.is_terminal() {
            anyhow::bail!("there is no text to embed: give texts as arguments, or one a line on standard input");
        }
        input.lines().collect::<Result<Vec<_>, _>>().context("standard input is not UTF-8 text")?
    } else {
        embed.texts
    };
    let prompt = match embed.prompt {
        Prompt::None => PromptKind::None,
        Prompt::Query => PromptKind::Query,
        Prompt::Document => PromptKind::Document,
    };
    let recipe = match embed.recipe {
        Recipe::Native => RecipeName::Native,
        Recipe::Papr => RecipeName::Papr,
    };
    Ok(EmbedRequest { texts, prompt, recipe, ..EmbedRequest::default() })
}

fn show_embeddings(embeddings: &Embeddings, json: bool) -> anyhow::Result<()> {
    for item in &embeddings.items {
        if json {
            output::json(item)?;
            continue;
        }
        let start: Vec<String> = item.embedding.iter().take(6).map(|value| format!("{value:+.4}")).collect();
        let generation = &item.generation;
        output::line(&format!(
            "[{}, …] {} dimensions, {} tokens, {} {} {} in {:.1} ms",
            start.join(", "),
            item.dims,
            item.tokens,
            generation.model,
            generation.precision,
            generation.recipe,
            item.timing_ms.total
        ));
        if let Some(truncated) = item.truncated {
            eprintln!(
                "warning: read {} of {} tokens, the rest was cut off",
                truncated.kept_tokens, truncated.total_tokens
            );
        }
    }
    Ok(())
}

async fn index(application: &Remote<Access>, paths: &[PathBuf], json: bool) -> anyhow::Result<()> {
    let mut failed = None;
    for path in paths {
        let path = std::path::absolute(path).with_context(|| format!("`{}` is not a path", path.display()))?;
        let started = application.index(IndexRequest { paths: vec![text(&path)?] }).await?;
        let job = watch_job(application, started).await?;
        if json {
            output::json(&job)?;
        } else {
            output::line(&format!("{}: {} in {:.1} s", job.title, job.detail, job.elapsed_ms / 1e3));
        }
        match job.state {
            JobState::Failed { failure } => failed = Some(failure),
            JobState::Cancelled => {
                failed = Some(
                    Failure::new(FailureCode::Cancelled, "indexing was cancelled; what was done is kept")
                        .hint("Run the command again to go on."),
                );
            }
            _ => {}
        }
    }
    failed.map_or(Ok(()), |failure| Err(failure.into()))
}

/// Shows progress until the job has ended; Ctrl-C cancels it.
pub(crate) async fn watch_job(application: &Remote<Access>, mut job: Job) -> anyhow::Result<Job> {
    let mut snapshots = application.0.snapshots().await?;
    let mut progress = Progress::default();
    loop {
        let newest = snapshots.borrow_and_update().jobs.iter().find(|other| other.id == job.id).cloned();
        job = newest.unwrap_or(job);
        if matches!(job.state, JobState::Done | JobState::Cancelled | JobState::Failed { .. }) {
            return Ok(job);
        }
        progress.show(&output::progress(&job));
        tokio::select! {
            outcome = snapshots.changed() => outcome.map_err(|_| Failure::new(FailureCode::Cancelled, "Embedbar has stopped"))?,
            _ = tokio::signal::ctrl_c() => { application.cancel(JobId { id: job.id }).await?; }
        }
    }
}

async fn search(application: &Remote<Access>, query: String, limit: usize, json: bool) -> anyhow::Result<()> {
    let results = application.search(SearchRequest { query, limit }).await?;
    if json {
        for hit in &results.hits {
            output::json(hit)?;
        }
    } else {
        for hit in &results.hits {
            output::line(&format!("{}:{}\n    {}", hit.path, hit.line, hit.snippet.replace('\n', "\n    ")));
        }
        if results.hits.is_empty() {
            eprintln!("nothing found in {} passages", results.searched_chunks);
        } else {
            eprintln!(
                "{} passages searched in {:.0} ms ({:.0} ms embedding, {:.0} ms search)",
                results.searched_chunks, results.total_ms, results.embedding_ms.total, results.search_ms
            );
        }
    }
    if let Some(reason) = results.degraded {
        eprintln!("warning: only words were searched: {reason}");
    }
    Ok(())
}

async fn activate(application: &Remote<Access>, model: String, keep: bool, json: bool) -> anyhow::Result<()> {
    if matches!(application.0, Access::Owner(_)) {
        anyhow::bail!(
            "no Embedbar is running on this home, so there is nothing to switch\n\n\
             hint: Start it with `embedbar serve --model {model}`, or use `embedbar embed --model {model}` for once."
        );
    }
    // A path is the caller's, not the owner's.
    let model = if Path::new(&model).exists() { text(&std::path::absolute(&model)?)? } else { model };
    let state = application.activate(ModelChoice { model: model.clone() }).await?;
    let env = application.env(Empty {}).await?.env;
    // A file that means this already has nothing to be told.
    let Some((path, chosen)) = env.and_then(|env| env.chosen.map(|chosen| (env.path, chosen))) else {
        return show(&state, json, describe);
    };
    if let Some(why) = chosen.refused.as_ref().filter(|_| keep) {
        return Err(Failure::new(FailureCode::InvalidRequest, format!("`{path}` stays as it is: {why}"))
            .hint("The model answers until Embedbar ends. Edit the file yourself.")
            .into());
    }
    let changes = chosen.changes;
    if keep {
        application.keep_in_env(EnvKeep { changes: changes.clone() }).await?;
    }
    show(&state, json, describe)?;
    if json {
        return Ok(());
    }
    for change in &changes {
        output::changed_line(change.number, change.before.as_deref(), change.after.as_deref());
    }
    output::line(&match (keep, &chosen.refused) {
        (true, _) => format!("written into {path}"),
        (false, None) => format!("until Embedbar ends; `embedbar use {model} --keep` writes these lines into {path}"),
        (false, Some(why)) => format!("until Embedbar ends: {why}"),
    });
    Ok(())
}

fn describe(state: &ModelState) -> String {
    match state {
        ModelState::Idle => "no model is loaded; the first query loads it".to_owned(),
        ModelState::Loading { model } => format!("{model} is loading"),
        ModelState::Ready { generation, dims, backend, load_ms, .. } => {
            let (model, precision) = (&generation.model, generation.precision);
            format!("{model} {precision} is ready: {dims} dimensions, {backend}, loaded in {load_ms:.0} ms")
        }
        ModelState::Failed { model, failure } => format!("{model} failed: {failure}"),
    }
}

async fn remote(application: &Remote<Access>, allow: bool, refuse: bool, json: bool) -> anyhow::Result<()> {
    let named = |snapshot: embedbar_contract::Snapshot| {
        snapshot.remote.ok_or_else(|| {
            Failure::new(FailureCode::NotFound, "the followed `.env` names no server on the network").hint(
                "Set EMBEDBAR_REMOTE_URL and EMBEDBAR_REMOTE_MODEL there, and follow it: `embedbar env use PATH`.",
            )
        })
    };
    let mut status = named(application.snapshot(Empty {}).await?)?;
    if allow || refuse {
        let answer = RemoteAnswer { host: status.host, model: status.model, allow };
        application.allow_remote(answer).await?;
        status = named(application.snapshot(Empty {}).await?)?;
    }
    show(&status, json, |status| {
        let consent = match status.consent {
            RemoteConsent::Unasked => "not allowed yet; `embedbar env remote --allow` allows it",
            RemoteConsent::Granted => "allowed",
            RemoteConsent::Refused => "refused",
        };
        let mut lines = vec![format!("{} with {}: {consent}", status.host, status.model), status.what_leaves.clone()];
        lines.extend(status.agreement.clone());
        lines.join("\n")
    })
}

async fn cleanup(application: &Remote<Access>, dry_run: bool, json: bool) -> anyhow::Result<()> {
    let receipt = application.cleanup(CleanupRequest { dry_run }).await?;
    if json {
        return output::json(&receipt);
    }
    for item in &receipt.items {
        output::line(&format!("{:>10}  {}", output::memory_bytes(item.freed_bytes), item.action));
    }
    for item in &receipt.disk {
        output::line(&format!("{:>10}  {} (on the disk)", output::bytes(item.freed_bytes), item.action));
    }
    let available = |reading: &embedbar_contract::MemoryReading| output::memory_bytes(reading.available_bytes);
    if !dry_run {
        output::line(&format!("available: {} before, {} after", available(&receipt.before), available(&receipt.after)));
    }
    Ok(())
}

async fn offers(application: &Remote<Access>, json: bool) -> anyhow::Result<()> {
    show(&application.offers(Empty {}).await?, json, |offers| {
        let mut lines: Vec<String> = Vec::new();
        for offer in &offers.offers {
            lines.push(format!(
                "{:>10}  {}\n            accept with {}",
                output::memory_bytes(offer.bytes),
                offer.action,
                offer.id
            ));
        }
        if offers.offers.is_empty() {
            lines.push("no other program offers anything".to_owned());
        }
        lines.extend(offers.notes.iter().map(|note| format!("note: {note}")));
        if !offers.stopped.is_empty() {
            lines.push(format!("stopped, to be started again with `--start-again`: {}", offers.stopped.join(", ")));
        }
        lines.join("\n")
    })
}

/// A name is as good as an id where only one offer has it.
async fn accept_offers(application: &Remote<Access>, accept: Vec<String>, json: bool) -> anyhow::Result<()> {
    let known = application.offers(Empty {}).await?.offers;
    let id = |given: String| {
        let mut named = known.iter().filter(|offer| offer.name == given);
        match (named.next(), named.next()) {
            (Some(offer), None) => offer.id.clone(),
            _ => given,
        }
    };
    let ids = accept.into_iter().map(id).collect();
    show(&application.accept_offers(OfferChoice { ids }).await?, json, offer_receipt)
}

fn offer_receipt(receipt: &OfferReceipt) -> String {
    let mut lines: Vec<String> =
        receipt.outcomes.iter().map(|outcome| format!("{}: {}", outcome.name, outcome.sentence)).collect();
    if lines.is_empty() {
        lines.push("there was nothing to do".to_owned());
    }
    let gained = match receipt.gained_bytes {
        Some(0) => "nothing was gained: what these programs gave back, somebody else has kept".to_owned(),
        gained => format!("{} more are available", output::memory_bytes(gained)),
    };
    lines.push(gained);
    lines.join("\n")
}

async fn status(application: &Remote<Access>, json: bool) -> anyhow::Result<()> {
    let snapshot = application.snapshot(Empty {}).await?;
    if json {
        return output::json(&snapshot);
    }
    output::line(&format!("home       {}\nmodel      {}", snapshot.home, describe(&snapshot.model)));
    output::line(&output::memory(&snapshot.memory));
    if let Some(plan) = &snapshot.governor.plan {
        output::line(&format!("precision  {}", plan.choice));
    }
    if let Some(stand_in) = &snapshot.governor.stand_in {
        output::line(&format!("stand-in   {stand_in}"));
    }
    for event in snapshot.governor.events.iter().take(3) {
        output::line(&format!("governor   {:.0} s ago: {}", event.age_seconds, event.reason));
    }
    for folder in &snapshot.index.folders {
        let (files, chunks, skipped) = (folder.files, folder.chunks, folder.skipped);
        output::line(&format!("indexed    {}: {files} files, {chunks} passages, {skipped} skipped", folder.path));
    }
    for job in &snapshot.jobs {
        output::line(&format!("job        {}", jobs::row(job).trim_start()));
    }
    Ok(())
}

pub(crate) fn text(path: &Path) -> anyhow::Result<String> {
    path.to_str().map(str::to_owned).with_context(|| format!("the path `{}` is not UTF-8", path.display()))
}
