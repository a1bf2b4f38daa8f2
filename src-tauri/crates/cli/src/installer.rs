//! `embedbar installer`: one piece of work on a model's files for an owner. It is here, and not in the owner, that files which
//! nobody has checked are opened.
//!
//! What is not here: what a folder may hold (`embedbar-intake`), whether a model is right (`embedbar-certify`), and the library.

use std::cell::{Cell, RefCell};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use embedbar_catalog::{Catalogue, Pooling as DeclaredPooling};
use embedbar_certify::{Declared, Reference, trial};
use embedbar_contract::{Card, CardCheck, Failure, FailureCode, Inspection, ModelKind, OriginFile, Placing};
use embedbar_engine::{How, Pooling};
use embedbar_intake::{Arrival, Kind, Watch as IntakeWatch, Way, compare, place, recognise};
use embedbar_wire::errand::Progress;
use embedbar_wire::installer::{Brought, Done, Manner, Order};

use crate::errand::{self, Watch};

pub(crate) fn run() -> anyhow::Result<()> {
    errand::run(|order: Order, watch| carry_out(order, watch))
}

fn carry_out(order: Order, watch: Watch) -> Result<Done, Failure> {
    match order {
        Order::Inspect { path, scratch } => {
            let arrival = recognise(&path, &scratch, &Told::new(watch))?;
            Ok(Done::Inspected(Box::new(inspection(&arrival))))
        }
        Order::Bring { path, scratch, folder, id, manner, packed } => {
            let mut arrival = recognise(&path, &scratch, &Told::new(watch))?;
            // What was downloaded for this is as good as what was unpacked for this.
            arrival.in_scratch |= manner == Manner::Take;
            let manner = match manner {
                Manner::Link => embedbar_intake::Manner::Link,
                Manner::Copy | Manner::Take => embedbar_intake::Manner::Copy,
            };
            let placed = place(&arrival, &folder, manner, &Told::new(watch))?;
            let inspection = inspection(&arrival);
            let model = model_in(&folder, &arrival)?;
            let card = test(&id, &model, inspection.known.as_deref(), packed, watch)?;
            let files = placed.files.into_iter();
            let files = files.map(|it| OriginFile { path: it.to, bytes: it.bytes, sha256: it.sha256 }).collect();
            let placed = match placed.manner {
                Way::Linked => Placing::Linked,
                Way::Moved => Placing::Moved,
                Way::Cloned => Placing::Cloned,
                Way::Copied => Placing::Copied,
            };
            Ok(Done::Brought(Box::new(Brought { inspection, placed, files, card })))
        }
        Order::Test { model, folder, id, files, packed } => {
            let damage = compare(&folder, &files, &Told::new(watch))?;
            let known = Catalogue::builtin().installed(&id).map(|(entry, _)| entry.id.clone());
            let mut card = test(&id, &model, known.as_deref(), packed, watch)?;
            let detail = damage.clone().unwrap_or_else(|| format!("{} files are what they were", files.len()));
            if !files.is_empty() {
                let passed = damage.is_none();
                card.checks.insert(0, CardCheck { name: "files".to_owned(), passed, detail });
                card.passed &= passed;
            }
            Ok(Done::Tested(Box::new(card)))
        }
    }
}

/// What is in the folder for the engine to open.
fn model_in(folder: &Path, arrival: &Arrival) -> Result<PathBuf, Failure> {
    match arrival.kind {
        Kind::Checkpoint | Kind::MlxCheckpoint => Ok(folder.to_owned()),
        Kind::Gguf => {
            let file = arrival.files.iter().find(|file| Path::new(&file.to).extension().is_some_and(|it| it == "gguf"));
            file.map(|file| folder.join(&file.to)).ok_or_else(|| Failure::internal("a GGUF model without its file"))
        }
        Kind::CoreMlPackage => {
            let package =
                arrival.files.iter().find_map(|file| file.to.split('/').next().filter(|it| it.ends_with(".mlpackage")));
            package.map(|it| folder.join(it)).ok_or_else(|| Failure::internal("a package without its folder"))
        }
        Kind::CompiledCoreMl => Err(Failure::new(
            FailureCode::ModelUnsupported,
            format!("`{}` is a compiled Core ML model, which Embedbar does not run", arrival.name),
        )
        .hint("Install the `.mlpackage` that it was compiled from.")),
    }
}

fn test(id: &str, model: &Path, known: Option<&str>, packed: PathBuf, watch: Watch) -> Result<Card, Failure> {
    let how = How { packed: Some(packed), ..How::default() };
    let mut watch = |stage: embedbar_certify::Stage| {
        watch(Progress { phase: stage.sentence().to_owned(), item: String::new(), bytes_done: 0, bytes_total: 0 })
    };
    trial(id, model, &how, &declared(known), &mut watch).map_err(|_| cancelled())
}

/// What the catalogue says of a model.
fn declared(known: Option<&str>) -> Declared {
    let Some(entry) = known.and_then(|known| Catalogue::builtin().find(known)) else { return Declared::default() };
    let recipe = &entry.recipe;
    Declared {
        dims: usize::try_from(recipe.dims).ok(),
        pooling: Some(match recipe.pooling {
            DeclaredPooling::Mean => Pooling::Mean,
            DeclaredPooling::First => Pooling::Cls,
            DeclaredPooling::Last => Pooling::Last,
        }),
        prompts: Some((recipe.query_prompt.clone(), recipe.document_prompt.clone())),
        references: entry.references.iter().map(reference).collect(),
    }
}

fn reference(reference: &embedbar_catalog::Reference) -> Reference {
    Reference { text: reference.text.clone(), begins: reference.begins.clone() }
}

fn cancelled() -> Failure {
    Failure::new(FailureCode::Cancelled, "the work was cancelled")
}

/// What an arrival is, for a person and for the planner.
pub(crate) fn inspection(arrival: &Arrival) -> Inspection {
    let summary = &arrival.summary;
    let kind = match arrival.kind {
        Kind::Checkpoint => ModelKind::Checkpoint,
        Kind::MlxCheckpoint => ModelKind::MlxCheckpoint,
        Kind::Gguf => ModelKind::Gguf,
        Kind::CoreMlPackage => ModelKind::CoreMlPackage,
        Kind::CompiledCoreMl => ModelKind::CompiledCoreMl,
    };
    let (name, known) = embedbar_app::catalogue_name(&arrival.name, summary.quantisation.as_deref());
    // A name is easily given: the shapes have to be those of the catalogue.
    let known = known.filter(|entry| {
        let wide = summary.hidden.is_none_or(|hidden| hidden == entry.architecture.hidden());
        // A head that no vector depends on may be there, or a few more rows of the table of tokens.
        let large = summary.parameters.is_none_or(|found| found.abs_diff(entry.parameters) < entry.parameters / 5);
        wide && large
    });
    let mut notes = arrival.notes.clone();
    if kind == ModelKind::CompiledCoreMl {
        notes.push("Embedbar does not run compiled Core ML models; install the `.mlpackage` instead.".to_owned());
    }
    let stored: Vec<&str> = summary.precisions.keys().map(String::as_str).collect();
    Inspection {
        kind,
        name,
        architecture: summary.architecture.clone(),
        dims: summary.hidden,
        max_tokens: summary.max_positions,
        parameters: summary.parameters,
        stored_as: summary.quantisation.clone().or_else(|| (!stored.is_empty()).then(|| stored.join(", "))),
        bytes: arrival.bytes,
        licence: arrival.licence.clone().or_else(|| known.map(|entry| entry.licence.clone())),
        needs_bytes: known.map(|entry| entry.running_bytes(arrival.bytes)),
        known: known.map(|entry| entry.id.clone()),
        notes,
    }
}

/// Passes on what the intake tells, and whether to go on.
struct Told<'a, 'b> {
    watch: RefCell<&'a mut (dyn FnMut(Progress) -> ControlFlow<()> + 'b)>,
    stopped: Cell<bool>,
}

impl<'a, 'b> Told<'a, 'b> {
    fn new(watch: &'a mut (dyn FnMut(Progress) -> ControlFlow<()> + 'b)) -> Self {
        Self { watch: RefCell::new(watch), stopped: Cell::new(false) }
    }
}

impl IntakeWatch for Told<'_, '_> {
    fn progress(&self, phase: &str, item: &str, done: u64, total: u64) {
        let progress =
            Progress { phase: phase.to_owned(), item: item.to_owned(), bytes_done: done, bytes_total: total };
        if (self.watch.borrow_mut())(progress).is_break() {
            self.stopped.set(true);
        }
    }

    fn cancelled(&self) -> bool {
        self.stopped.get()
    }
}
