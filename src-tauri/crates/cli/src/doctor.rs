//! `embedbar doctor`: is everything as it should be? Each point passes, fails or does not apply, with the evidence.
//!
//! `--checklist` runs the seven points of the note that this project began with, about a Papr SDK's project; without it, the
//! points are about this installation. Nothing is changed.

use std::path::{Path, PathBuf};

use embedbar_app::Access;
use embedbar_contract::{Commands as _, Empty, Failure, ModelState, Pressure, Remote, SearchRequest, Snapshot};
use embedbar_settings::{BackendWish, EnvFile, ModelWish, Settings, Written};
use serde::Serialize;

use crate::output;

/// What became of a point.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    Pass,
    Fail,
    NotApplicable,
}

/// One point.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
struct Point {
    title: &'static str,
    outcome: Outcome,
    /// What was seen.
    evidence: String,
}

fn point(title: &'static str, passes: Option<bool>, evidence: impl Into<String>) -> Point {
    let outcome = match passes {
        Some(true) => Outcome::Pass,
        Some(false) => Outcome::Fail,
        None => Outcome::NotApplicable,
    };
    Point { title, outcome, evidence: evidence.into() }
}

pub(crate) async fn run(
    application: &Remote<Access>,
    checklist: bool,
    file: Option<&Path>,
    json: bool,
) -> anyhow::Result<()> {
    let before = application.snapshot(Empty {}).await?;
    let mut points = vec![answers(application, &before).await];
    let after = application.snapshot(Empty {}).await?;
    let project = Project::read(file, &after)?;
    if checklist {
        points.extend([
            skips_preload(project.as_ref()),
            has_memory(&after),
            core_ml_width(project.as_ref()),
            mlx_is_off(project.as_ref()),
            tokenizers(project.as_ref()),
            four_bits(application).await?,
        ]);
    } else {
        points.extend([has_memory(&after), has_disk(application).await?, follows(&after)]);
    }
    let failed = points.iter().filter(|point| point.outcome == Outcome::Fail).count();
    for point in &points {
        if json {
            output::json(point)?;
            continue;
        }
        let mark = match point.outcome {
            Outcome::Pass => "pass",
            Outcome::Fail => "FAIL",
            Outcome::NotApplicable => "n/a ",
        };
        output::line(&format!("{mark}  {}\n      {}", point.title, point.evidence));
    }
    match failed {
        0 => Ok(()),
        1 => anyhow::bail!("one point fails"),
        count => anyhow::bail!("{count} points fail"),
    }
}

/// The project's `.env` and what it means.
struct Project {
    path: PathBuf,
    written: Written,
    settings: Settings,
}

impl Project {
    /// The file that was named, else the followed one, else the `.env` here.
    fn read(named: Option<&Path>, snapshot: &Snapshot) -> anyhow::Result<Option<Self>> {
        let followed = snapshot.env.as_ref().map(|env| PathBuf::from(&env.path));
        let here = || Some(PathBuf::from(".env")).filter(|path| path.is_file());
        let Some(path) = named.map(Path::to_owned).or(followed).or_else(here) else { return Ok(None) };
        let file = EnvFile::at(&path).map_err(Failure::from)?;
        let (written, settings) = (Written::of(file.document()), Settings::of_file(&file));
        Ok(Some(Self { path: file.path().to_owned(), written, settings }))
    }

    /// The Core ML package that the file asks for.
    fn package(&self) -> Option<&Path> {
        match (&self.settings.backend.value, &self.settings.model.value) {
            (BackendWish::CoreMl(_), Some(ModelWish::Path(path))) => Some(path),
            _ => None,
        }
    }
}

/// What a conversion of a 4B model may take, and what it leaves.
const ENOUGH: u64 = 10_000_000_000;

const NO_FILE: &str = "there is no `.env` here, none is followed and none was named (`--file`)";

/// A query is answered, and a warm one within a second.
async fn answers(application: &Remote<Access>, before: &Snapshot) -> Point {
    let title = "a query is answered within a second once the model is loaded";
    let mut times = Vec::new();
    for number in 0..3 {
        let query = format!("is everything as it should be, question {number}");
        match application.search(SearchRequest { query, limit: 1 }).await {
            Ok(results) => match results.degraded {
                None => times.push(results.total_ms),
                Some(reason) => return point(title, Some(false), format!("only words were searched: {reason}")),
            },
            Err(failure) => return point(title, Some(false), failure.message),
        }
    }
    let warm = times[1..].iter().copied().fold(f64::INFINITY, f64::min);
    let loaded = if matches!(before.model, ModelState::Ready { .. }) { "loaded already" } else { "not loaded before" };
    point(title, Some(warm < 1e3), format!("the first took {:.0} ms ({loaded}), a warm one {warm:.1} ms", times[0]))
}

/// The SDK does not load sentence-transformers beside Core ML or MLX.
fn skips_preload(project: Option<&Project>) -> Point {
    let title = "the SDK skips the preload of sentence-transformers";
    let Some(project) = project else { return point(title, None, NO_FILE) };
    let sdk = project.settings.sdk;
    let path = project.path.display();
    if !sdk.on_device || !(sdk.core_ml || sdk.mlx) {
        return point(title, None, format!("`{path}` enables neither Core ML nor MLX on this machine"));
    }
    let core_ml = project.written.get("PAPR_ENABLE_COREML");
    let evidence = if sdk.preloads_sentence_transformers {
        "only the literal `true` skips it; `embedbar env fix` writes that"
    } else if core_ml.is_some_and(|entry| entry.text.eq_ignore_ascii_case("true")) {
        "Skipping ST preload: Core ML is enabled (faster, less memory)"
    } else {
        "Skipping ST preload: MLX is enabled (faster, less memory)"
    };
    point(title, Some(!sdk.preloads_sentence_transformers), evidence)
}

/// Nothing ran out of memory.
fn has_memory(snapshot: &Snapshot) -> Point {
    let title = "memory is not short, and no worker has died";
    let memory = &snapshot.memory;
    let available = output::memory_bytes(memory.available_bytes);
    let restarts = match &snapshot.model {
        ModelState::Ready { restarts, .. } => *restarts,
        ModelState::Failed { failure, .. } => return point(title, Some(false), failure.message.clone()),
        ModelState::Idle | ModelState::Loading { .. } => 0,
    };
    let short = memory.pressure.is_some_and(|pressure| pressure != Pressure::Normal);
    let pressure =
        memory.pressure.map_or_else(|| "unknown".to_owned(), |pressure| format!("{pressure:?}").to_lowercase());
    point(
        title,
        Some(!short && restarts == 0),
        format!("{available} is available, pressure is {pressure}, the worker was replaced {restarts} times"),
    )
}

/// The package that the file names gives what the SDK expects.
fn core_ml_width(project: Option<&Project>) -> Point {
    let title = "the Core ML model gives [1, 2560]";
    let Some(project) = project else { return point(title, None, NO_FILE) };
    let Some(path) = project.package() else {
        return point(title, None, format!("`{}` names no Core ML package", project.path.display()));
    };
    let opened = embedbar_mil::Package::open(path).and_then(|package| package.embedding_interface(None));
    match opened {
        Ok(interface) => {
            let evidence = format!("`{}` gives [1, {}]", path.display(), interface.dimensions);
            point(title, Some(interface.dimensions == 2560), evidence)
        }
        Err(error) => point(title, Some(false), error.to_string()),
    }
}

fn mlx_is_off(project: Option<&Project>) -> Point {
    let title = "Core ML and MLX are not both on";
    let Some(project) = project else { return point(title, None, NO_FILE) };
    let sdk = project.settings.sdk;
    let evidence = match (sdk.core_ml, sdk.mlx) {
        (true, true) => "both are on; `embedbar env fix` comments MLX out",
        (true, false) => "Core ML is on, MLX is off",
        (false, true) => "MLX is on, Core ML is off",
        (false, false) => "both are off",
    };
    point(title, Some(!(sdk.core_ml && sdk.mlx)), evidence)
}

fn tokenizers(project: Option<&Project>) -> Point {
    let title = "TOKENIZERS_PARALLELISM is false";
    let Some(project) = project else { return point(title, None, NO_FILE) };
    let Some(entry) = project.written.get("TOKENIZERS_PARALLELISM") else {
        return point(title, Some(true), "it is not set, and the SDK sets it to `false` itself");
    };
    let is_false = ["false", "0", "off", "no"].contains(&entry.text.to_ascii_lowercase().as_str());
    point(title, Some(is_false), format!("it is `{}`", entry.text))
}

/// Optional: a 4-bit model is there.
async fn four_bits(application: &Remote<Access>) -> anyhow::Result<Point> {
    let title = "a 4-bit model is at hand (optional)";
    let models = application.models(Empty {}).await?.models;
    let found = models.iter().find(|model| model.id.contains("4bit") || model.id.contains("k4bit"));
    Ok(match found {
        Some(model) => point(title, Some(true), format!("`{}`, {}", model.id, output::bytes(Some(model.size_bytes)))),
        None => {
            point(title, None, "none is installed; `embedbar convert --k4bit` makes one in less than 256 MB of memory")
        }
    })
}

async fn has_disk(application: &Remote<Access>) -> anyhow::Result<Point> {
    let title = "there is room on the disk of Embedbar's folder";
    let machine = application.machine(Empty {}).await?;
    Ok(match machine.disk {
        Some(disk) => point(
            title,
            Some(disk.available_bytes >= ENOUGH),
            format!(
                "{} is available; converting a 4B model takes 4 to 8 GB",
                output::bytes(Some(disk.available_bytes))
            ),
        ),
        None => point(title, None, "this system does not tell"),
    })
}

fn follows(snapshot: &Snapshot) -> Point {
    let title = "the followed `.env` is in force and nothing is wrong with it";
    let Some(env) = &snapshot.env else { return point(title, None, "none is followed, or no Embedbar is running") };
    let wrong = env.findings.len();
    let fine = env.approved && env.held_back.is_empty() && wrong == 0;
    let state = if env.approved { "approved" } else { "not approved" };
    let held = env.held_back.first().map_or_else(String::new, |reason| format!(", held back: {reason}"));
    point(title, Some(fine), format!("`{}` is {state}, {wrong} findings{held}", env.path))
}
