//! The followed `.env`: what it says, whether it may decide, and which model it asks for. Carrying that out is for [`crate::App`].
//!
//! One lock around the stores and the last state; nothing waits while it is held. A thread of `embedbar-settings` watches the
//! file; what it sees comes through a channel to [`follow`].

use std::ffi::OsString;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, Weak};

use embedbar_catalog::Catalogue;
use embedbar_contract::{
    BackendName, EnvChange, EnvFinding, EnvSeverity, EnvStatus, EnvValue, Failure, FailureCode, MemoryReading,
    ModelState,
};
use embedbar_lifecycle::{Environment, Target};
use embedbar_planner::{KeepAlive, PrecisionWish, Purpose, Wishes};
use embedbar_settings::{
    BackendWish, Disk, EnvFile, Fallback, FileEvent, Followed, IdleWish, LastGood, ModelWish, Offered, Origin,
    Patience, Settings, Severity, Trust, Verdict, Watch, Wish, Written, apply, lint, variables,
};
use embedbar_store::{Home, Library, Model};
use tokio::sync::mpsc;

use crate::app::App;
use crate::embedder::OwnRecipe;
use crate::governing::{Decision, Governing, Wanted};
use crate::keeping::{Choice, Kept};
use crate::remote::RemoteEndpoint;

/// The file, the stores and the last state.
pub(crate) struct Following {
    inner: Mutex<Inner>,
    events: mpsc::UnboundedSender<FileEvent>,
}

struct Inner {
    followed: Followed,
    trust: Trust,
    good: LastGood,
    watch: Option<Watch>,
    file: Option<EnvFile>,
    status: Option<EnvStatus>,
    /// The model that was chosen elsewhere since the file last decided.
    chosen: Option<Choice>,
}

/// What a state of the file leads to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Outcome {
    /// This model is to be active; sentences that a person should know with it.
    Activate(Model, Vec<String>),
    /// A server on the network is to answer.
    Connect(Target),
    /// Nothing changes, and why.
    Nothing(String),
}

impl Following {
    /// Opens the stores of the home. The file is not looked at yet.
    pub(crate) fn open(home: &Home) -> Result<(Self, mpsc::UnboundedReceiver<FileEvent>), Failure> {
        let inner = Inner {
            followed: Followed::open(home.followed())?,
            trust: Trust::open(home.trust())?,
            good: LastGood::default(),
            watch: None,
            file: None,
            status: None,
            chosen: None,
        };
        let (events, received) = mpsc::unbounded_channel();
        Ok((Self { inner: Mutex::new(inner), events }, received))
    }

    /// The model that an approved file asks for, before anything is loaded.
    pub(crate) fn model_at_start(
        &self,
        library: &Library,
        reading: &MemoryReading,
        governing: &Governing,
        (environment, recipe): (&Environment, &OwnRecipe),
        remote: &RemoteEndpoint,
    ) -> Option<Model> {
        let mut inner = self.lock();
        let file = EnvFile::read(inner.followed.path()?).ok()?; // the watcher will say what is wrong with it
        let settings = inner.look(&file)?;
        pass_on(&settings, environment, recipe);
        match governing.follow(&settings, library, reading, &ModelState::Idle, remote) {
            Outcome::Activate(model, remarks) => {
                let effect = format!("`{}` is the model that Embedbar began with.", model.id);
                inner.status.as_mut()?.effect = with_remarks(&effect, &remarks);
                Some(model)
            }
            // The watcher's first look connects.
            Outcome::Connect(_) => {
                inner.good = LastGood::default();
                None
            }
            Outcome::Nothing(effect) => {
                inner.status.as_mut()?.effect = effect;
                None
            }
        }
    }

    /// Begins to watch the file that is followed, if there is one.
    pub(crate) fn start(&self) -> Result<(), Failure> {
        let mut inner = self.lock();
        let Some(path) = inner.followed.path().map(Path::to_owned) else { return Ok(()) };
        inner.watch = Some(self.watch(&path)?);
        Ok(())
    }

    /// Follows a file or the `.env` in a folder, or none any more.
    pub(crate) fn follow(&self, path: Option<&Path>) -> Result<(), Failure> {
        // The thread that ends may be about to tell something.
        let old = {
            let mut inner = self.lock();
            (inner.good, inner.status, inner.file, inner.chosen) = (LastGood::default(), None, None, None);
            match path {
                // It is shown at once; what it decides comes with the watcher's first look.
                Some(path) => {
                    let file = inner.followed.follow(path)?;
                    inner.look_only(file);
                }
                None => inner.followed.stop()?,
            }
            inner.watch.take()
        };
        drop(old);
        self.start()
    }

    fn watch(&self, path: &Path) -> Result<Watch, Failure> {
        let events = self.events.clone();
        // Nobody listens any more where the application has ended.
        Ok(Watch::start(path, Patience::default(), move |event| drop(events.send(event)))?)
    }

    /// The state that others see.
    pub(crate) fn status(&self) -> Option<EnvStatus> {
        self.lock().status.clone()
    }

    /// Takes what the watcher saw. Gives the settings that are to be carried out, where the file may decide and means something
    /// else than before.
    pub(crate) fn take(&self, event: FileEvent) -> Option<Box<Settings>> {
        let mut inner = self.lock();
        inner.followed.path()?;
        match event {
            FileEvent::Changed(file) => inner.look(&file),
            FileEvent::Broken { file, breakage } => {
                inner.hold_back(vec![breakage.to_string()]);
                inner.file = Some(*file);
                None
            }
            FileEvent::Gone => {
                inner.hold_back(vec!["the file is no longer there".to_owned()]);
                None
            }
            FileEvent::Unreadable(sentence) => {
                inner.hold_back(vec![sentence]);
                None
            }
            other => {
                tracing::debug!(?other, "an event of the followed file that is not known here");
                None
            }
        }
    }

    /// The files that were approved and are still there.
    pub(crate) fn known(&self) -> Vec<String> {
        let inner = self.lock();
        let there = inner.trust.files().filter(|path| path.is_file());
        there.filter_map(Path::to_str).map(str::to_owned).collect()
    }

    /// What the file in force means.
    pub(crate) fn settings(&self) -> Option<Settings> {
        self.lock().good.settings().cloned()
    }

    /// Lets the file decide with these variables, which a person has seen.
    pub(crate) fn approve(&self, variables: &[String]) -> Result<Option<Box<Settings>>, Failure> {
        let mut inner = self.lock();
        let file = inner.file.clone().ok_or_else(nothing_followed)?;
        let has = Written::of(file.document()).keys_that_matter();
        // Only what the file has: an approval is not given in advance.
        inner.trust.approve(file.path(), variables.iter().filter(|variable| has.contains(variable)))?;
        tracing::info!(file = %file.path().display(), "the followed file was approved");
        inner.good = LastGood::default();
        Ok(inner.look(&file))
    }

    /// Mends one finding. The watcher sees the new file like any other save.
    pub(crate) fn mend(&self, code: &str, line: usize) -> Result<(), Failure> {
        let path = self.lock().followed.path().map(Path::to_owned).ok_or_else(nothing_followed)?;
        let file = EnvFile::read(path)?;
        let found = lint(file.document(), &Disk::of(&file));
        let fix = found.into_iter().find(|it| it.code.as_str() == code && it.line == line).and_then(|it| it.fix);
        let Some(fix) = fix else {
            return Err(Failure::new(FailureCode::NotFound, format!("line {line} has no finding `{code}` to mend"))
                .hint("The file may have changed meanwhile; look again."));
        };
        let bytes = apply(file.document().bytes(), &fix.edits)?;
        let mended = file.write(&bytes, fix.mode)?;
        // What is shown is true at once; the watcher's event then changes nothing.
        self.lock().look_only(mended);
        Ok(())
    }

    /// A model was chosen elsewhere and answers; the file is not asked, and shows what it would have to say.
    pub(crate) fn chose(&self, choice: Choice) {
        let mut inner = self.lock();
        let effect = format!("`{}` was chosen elsewhere and answers until Embedbar ends.", choice.id);
        inner.chosen = Some(choice);
        inner.propose();
        if let Some(status) = inner.status.as_mut().filter(|status| status.chosen.is_some()) {
            status.effect = effect;
        }
    }

    /// Writes the chosen model into the file, where this still changes the lines that a person has seen. Gives the settings
    /// that hold then. The watcher sees the new file like any other save, and finds that it means what holds.
    pub(crate) fn keep(&self, seen: &[EnvChange]) -> Result<Option<Box<Settings>>, Failure> {
        let path = self.lock().followed.path().map(Path::to_owned).ok_or_else(nothing_followed)?;
        let choice = self.lock().chosen.clone().ok_or_else(|| {
            Failure::new(FailureCode::NotFound, "no model was chosen that the file does not ask for")
                .hint("Choose one in the menu bar or with `embedbar use MODEL` first.")
        })?;
        let file = EnvFile::read(path)?;
        let refused = |why: String| Failure::new(FailureCode::InvalidRequest, why).hint("Edit the file yourself.");
        let kept = choice.kept(&file).map_err(refused)?;
        self.write(&file, kept, seen)
    }

    /// The followed file; `None` where none is followed.
    pub(crate) fn file(&self) -> Option<EnvFile> {
        let path = self.lock().followed.path().map(Path::to_owned)?;
        EnvFile::read(path).ok()
    }

    /// What the file says, where it is approved; paths as they are from any folder.
    pub(crate) fn written(&self) -> Written {
        let inner = self.lock();
        let folder = inner.file.as_ref().map(|file| file.folder().to_owned()).unwrap_or_default();
        Written::from_pairs(inner.good.written().iter().map(|(name, entry)| {
            let is_path = variables::find(name).is_some_and(|variable| variable.kind == variables::Kind::Path);
            let relative = is_path && entry.text.starts_with(|first: char| first == '.' || first.is_alphanumeric());
            let text = if relative { folder.join(&entry.text).display().to_string() } else { entry.text.clone() };
            (name, text)
        }))
    }

    /// Writes lines that a person has seen; the settings are those that have become other ones.
    pub(crate) fn write(
        &self,
        file: &EnvFile,
        kept: Kept,
        seen: &[EnvChange],
    ) -> Result<Option<Box<Settings>>, Failure> {
        if !kept.is(seen) {
            return Err(Failure::new(
                FailureCode::InvalidRequest,
                "the file has changed since its new lines were shown",
            )
            .hint("Look at them again."));
        }
        let written = file.write(&kept.bytes, None)?;
        tracing::info!(file = %written.path().display(), variables = ?kept.variables, "lines were written into the followed file");
        let mut inner = self.lock();
        // The lines were seen, so their variables are approved.
        inner.trust.approve(written.path(), kept.variables)?;
        Ok(inner.look(&written))
    }

    /// What the file says could not be carried out: the next save is another attempt, even where it means the same.
    fn forget(&self) {
        self.lock().good = LastGood::default();
    }

    /// Says what came of it.
    pub(crate) fn set_effect(&self, effect: String) {
        if let Some(status) = &mut self.lock().status {
            status.effect = effect;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("nobody panics while they hold the followed file. This is a bug.")
    }
}

impl Inner {
    /// A new state of the file.
    fn look(&mut self, file: &EnvFile) -> Option<Box<Settings>> {
        self.look_only(file.clone());
        let status = self.status.as_mut()?;
        if !status.approved {
            return None;
        }
        let nothing = Written::default();
        match self.good.offer(file, &nothing, &nothing) {
            Offered::Taken(settings) => {
                // It decides anew.
                (self.chosen, status.chosen) = (None, None);
                Some(settings)
            }
            Offered::Same => None,
            Offered::Kept(reasons) => {
                status.held_back = reasons;
                None
            }
        }
    }

    /// Describes a state of the file and lets it decide nothing.
    fn look_only(&mut self, file: EnvFile) {
        let settings = Settings::of_file(&file);
        let keys = Written::of(file.document()).keys_that_matter();
        let (approved, unapproved) = match self.trust.verdict(file.path(), &keys) {
            Verdict::Trusted => (true, Vec::new()),
            Verdict::New => (false, keys),
            Verdict::KeysChanged { added } => (false, added),
        };
        let findings = lint(file.document(), &Disk::of(&file)).into_iter().map(|finding| EnvFinding {
            code: finding.code.as_str().to_owned(),
            severity: match finding.severity {
                Severity::Note => EnvSeverity::Note,
                Severity::Warning => EnvSeverity::Warning,
                Severity::Error => EnvSeverity::Error,
            },
            line: finding.line,
            message: finding.message,
            mend: finding.fix.map(|fix| fix.title),
        });
        let values = settings.described().into_iter().map(|row| EnvValue {
            name: row.name.to_owned(),
            value: row.value,
            origin: row.origin,
        });
        let effect = match &self.status {
            Some(before) if before.approved && approved => before.effect.clone(),
            _ if approved => String::new(),
            _ => would(&settings),
        };
        self.status = Some(EnvStatus {
            path: file.path().display().to_string(),
            approved,
            unapproved,
            held_back: Vec::new(),
            findings: findings.collect(),
            values: values.collect(),
            effect,
            chosen: None,
        });
        self.file = Some(file);
        self.propose();
    }

    /// Shows what the file would have to say so that the choice lasts, where it may decide at all.
    fn propose(&mut self) {
        let Some(status) = &mut self.status else { return };
        let (choice, file) = (self.chosen.as_ref(), self.file.as_ref());
        let both = choice.zip(file).filter(|_| status.approved);
        status.chosen = both.and_then(|(choice, file)| choice.proposal(file));
    }

    fn hold_back(&mut self, reasons: Vec<String>) {
        let path = self.followed.path().map(|path| path.display().to_string()).unwrap_or_default();
        let status = self.status.get_or_insert_with(|| EnvStatus { path, ..EnvStatus::default() });
        status.held_back = reasons;
    }
}

/// What the file says of workers' environment and of our own recipe.
fn pass_on(settings: &Settings, environment: &Environment, recipe: &OwnRecipe) {
    recipe.wish(settings.recipe.value);
    let parallel = &settings.tokenizers_parallel;
    let written = (parallel.origin != Origin::Default).then(|| OsString::from(parallel.value.to_string()));
    environment.set("TOKENIZERS_PARALLELISM", written);
    // The SDK's own lines, so that a log can be compared with one of the SDK.
    if settings.sdk.on_device && !settings.sdk.preloads_sentence_transformers {
        if settings.sdk.core_ml {
            tracing::info!("Skipping ST preload: Core ML is enabled (faster, less memory)");
        } else if settings.sdk.mlx {
            tracing::info!("Skipping ST preload: MLX is enabled (faster, less memory)");
        }
    }
}

fn with_remarks(effect: &str, remarks: &[String]) -> String {
    [&[effect.to_owned()], remarks].concat().join(" ")
}

/// What a file would do that may not decide yet.
fn would(settings: &Settings) -> String {
    match &settings.model.value {
        Some(model) => format!("It would make `{model}` the active model."),
        None => "It says nothing of the model, so that nothing would change.".to_owned(),
    }
}

fn nothing_followed() -> Failure {
    Failure::new(FailureCode::NotFound, "no `.env` is followed").hint("Follow one first: `embedbar env use PATH`.")
}

/// What the settings ask for.
#[derive(Clone, Debug, PartialEq)]
enum Asked {
    /// One model, by its place or because nothing else is known of it.
    Model(Model),
    /// A model of the catalogue, in a way that the planner chooses.
    Known(Wanted),
    /// Nothing, and why.
    Nothing(String),
}

fn asked(settings: &Settings, library: &Library, remote_allowed: bool) -> Asked {
    if settings.backend.value == BackendWish::SdkServer {
        return Asked::Nothing("The file has the SDK embed on its own server; the model here stays.".to_owned());
    }
    let id = match &settings.model.value {
        None => return Asked::Nothing("The file says nothing of the model; the active one stays.".to_owned()),
        Some(ModelWish::Path(path)) => {
            return match library.find(&path.display().to_string()) {
                Ok(model) => Asked::Model(model),
                Err(error) => Asked::Nothing(format!("{error}. Nothing is downloaded for it; the active model stays.")),
            };
        }
        Some(ModelWish::Id(id)) => id,
    };
    if let Some(entry) = Catalogue::builtin().find(id) {
        return Asked::Known(wanted(&entry.id, settings, remote_allowed));
    }
    let installed = library.models().into_iter().find(|model| model.id == *id);
    installed.map_or_else(
        || Asked::Nothing(format!("`{id}` is not installed. Nothing is downloaded for it; the active model stays.")),
        Asked::Model,
    )
}

/// A model in the way that the settings want it.
fn wanted(model: &str, settings: &Settings, remote_allowed: bool) -> Wanted {
    let precision = match settings.precision.value {
        Wish::Explicit(precision) => PrecisionWish::Explicit(precision),
        Wish::Auto => PrecisionWish::Automatic,
    };
    // Where there is no Core ML and no Metal, the processor does what they would.
    let backend = match &settings.backend.value {
        BackendWish::Cpu => Some(BackendName::Cpu),
        BackendWish::CoreMl(_) if cfg!(target_os = "macos") => Some(BackendName::CoreMl),
        BackendWish::Metal if cfg!(target_os = "macos") => Some(BackendName::CandleMetal),
        _ => None,
    };
    let Fallback { smaller, remote } = &settings.fallback;
    let keep_alive = match settings.idle.value {
        // Only what is written counts: a model that nobody spoke of stays loaded.
        IdleWish::After(limit) if settings.idle.origin != Origin::Default => KeepAlive::For(limit),
        _ => KeepAlive::Forever,
    };
    let wished = Wanted::of(model, precision);
    let wishes = Wishes {
        // The worker serves Embedbar's own search; programs are refused while something stands in.
        purpose: Purpose::OwnSearch,
        backend,
        smaller_models: smaller.value,
        remote_host: remote.value.as_ref().filter(|_| remote_allowed).map(|remote| remote.host().to_owned()),
        ..wished.wishes
    };
    Wanted { wishes, keep_alive, pinned: settings.pinned.value, ..wished }
}

impl Governing {
    /// What the settings lead to at this reading. What they want is wanted from now on.
    fn follow(
        &self,
        settings: &Settings,
        library: &Library,
        reading: &MemoryReading,
        state: &ModelState,
        remote: &RemoteEndpoint,
    ) -> Outcome {
        let named = match &settings.backend.value {
            BackendWish::Remote(named) => Some(named),
            _ => settings.fallback.remote.value.as_ref(),
        };
        let usable = remote.name(named);
        if matches!(settings.backend.value, BackendWish::Remote(_)) {
            return match usable.and_then(|()| remote.target()) {
                Ok(target) => {
                    self.want(wanted(&target.id, settings, true));
                    Outcome::Connect(target)
                }
                Err(why) => Outcome::Nothing(format!("{why} The active model stays.")),
            };
        }
        let allowed = remote.is_allowed();
        let wanted = match asked(settings, library, allowed) {
            Asked::Nothing(effect) => {
                // How the present model is kept may be all that the file speaks of.
                self.want(Wanted { wishes: self.wanted().wishes, ..wanted(&self.wanted().model, settings, allowed) });
                return Outcome::Nothing(effect);
            }
            Asked::Model(model) => {
                let exactly = Wanted::exactly(&model);
                let wanted = wanted(&exactly.model, settings, allowed);
                let wishes = Wishes { precision: exactly.wishes.precision, ..wanted.wishes };
                self.want(Wanted { wishes, ..wanted });
                return Outcome::Activate(model, Vec::new());
            }
            Asked::Known(wanted) => wanted,
        };
        let id = &wanted.model;
        let decision = self.decide(&wanted, library, reading, state);
        let is_here = decision != Decision::NotInstalled;
        let outcome = match decision {
            Decision::Load(model, remarks) => Outcome::Activate(model, remarks),
            Decision::NotInstalled => Outcome::Nothing(match wanted.wishes.precision {
                PrecisionWish::Explicit(precision) => format!(
                    "`{id}` is not installed in {precision}; convert it in this panel or with `embedbar convert`. The active model stays."
                ),
                _ => format!("`{id}` is not installed. Nothing is downloaded for it; the active model stays."),
            }),
            Decision::NoRoom(reason) => Outcome::Nothing(format!(
                "`{id}` is not loaded now: {reason}. The active model stays until there is room."
            )),
            Decision::Remote => match remote.target() {
                Ok(target) => Outcome::Connect(target),
                Err(why) => Outcome::Nothing(why),
            },
        };
        if is_here {
            self.want(wanted);
        }
        outcome
    }
}

/// Carries out what the watcher sees, until the application ends.
pub(crate) async fn follow(app: Weak<App>, mut events: mpsc::UnboundedReceiver<FileEvent>) {
    while let Some(event) = events.recv().await {
        let Some(app) = app.upgrade() else { return };
        let settings = app.following.take(event);
        app.changed.notify_one();
        if let Some(settings) = settings {
            // A newer save must be able to overtake a model that takes minutes to load.
            tokio::spawn(async move { app.carry_out(&settings).await });
        }
    }
}

impl App {
    /// Loads the model that comes with the program, after the one that the followed file named could not be loaded at the start.
    pub(crate) async fn fall_back(&self, failure: &Failure) {
        // Whoever chose another model meanwhile has one.
        if failure.code == FailureCode::Cancelled {
            return;
        }
        let Ok(bundled) = self.library.bundled().cloned() else { return };
        let id = bundled.id.clone();
        let effect = match self.make_active(bundled).await {
            Ok(_) => format!(
                "The model that the file names could not be loaded: {}. `{id}` answers instead.",
                failure.message
            ),
            Err(_) => format!("The model that the file names could not be loaded: {}.", failure.message),
        };
        self.following.set_effect(effect);
        self.changed.notify_one();
    }

    /// Makes the model active that the settings ask for, and says what came of it.
    pub(crate) async fn carry_out(&self, settings: &Settings) {
        pass_on(settings, &self.environment, &self.recipe);
        let state = self.lifecycle.state().borrow().clone();
        let outcome = self.governing.follow(settings, &self.library, &self.read_memory(), &state, &self.remote);
        let effect = match outcome {
            Outcome::Nothing(effect) => effect,
            Outcome::Connect(target) => {
                let id = target.id.clone();
                self.following.set_effect(format!("Connecting to `{id}`."));
                self.changed.notify_one();
                match self.connect(target).await {
                    Ok(_) => format!("`{id}` answers."),
                    Err(failure) if failure.code == FailureCode::Cancelled => return,
                    Err(failure) => {
                        self.following.forget();
                        format!("`{id}` could not be made active: {}. The former model stays.", failure.message)
                    }
                }
            }
            Outcome::Activate(model, remarks) => {
                let id = model.id.clone();
                tracing::info!(model = id, origin = %settings.model.origin, "the followed file asks for a model");
                self.following.set_effect(format!("`{id}` is being made the active model."));
                self.changed.notify_one();
                match self.make_active(model).await {
                    Ok(_) => with_remarks(&format!("`{id}` is the active model."), &remarks),
                    // A newer save or choice says the rest.
                    Err(failure) if failure.code == FailureCode::Cancelled => return,
                    Err(failure) => {
                        self.following.forget();
                        format!("`{id}` could not be made active: {}. The former model stays.", failure.message)
                    }
                }
            }
        };
        self.governing.settled();
        self.following.set_effect(effect);
        self.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use embedbar_catalog::{Engine, Workload};
    use embedbar_contract::Precision;
    use embedbar_convert::certificate::{Agreement, Certificate, SelfTest, Vectors, Verdict as Certified};
    use embedbar_planner::System;
    use embedbar_settings::{Layers, resolve};

    use crate::remembered::Remembered;
    use crate::simulation::World;

    use super::*;

    /// A home with models of these names, each as large as its number says.
    fn library(folder: &Path, models: &[(&str, usize)]) -> Library {
        for (name, bytes) in models {
            let own = folder.join("models").join(name);
            fs::create_dir_all(&own).expect("it can be made");
            fs::write(own.join(format!("{name}.gguf")), vec![0; *bytes]).expect("it can be written");
        }
        Library::open(&Home::open(Some(folder.to_owned())).expect("a home"))
    }

    fn settings(text: &str) -> Settings {
        let written = Written::of(&embedbar_settings::Document::parse(text));
        let nothing = Written::default();
        resolve(Layers { overrides: &nothing, file: &written, app: &nothing, folder: Path::new("/project") })
    }

    fn governing() -> Governing {
        let mut world = World::real();
        world.system = System::Linux;
        Governing::new(world, Remembered::nothing(), Wanted::of("all-MiniLM-L6-v2", PrecisionWish::Automatic))
    }

    /// Nobody has allowed anything.
    fn no_remote(folder: &Path) -> RemoteEndpoint {
        RemoteEndpoint::open(&Home::open(Some(folder.to_owned())).expect("a home")).expect("it opens")
    }

    fn chosen(outcome: Outcome) -> Result<String, String> {
        match outcome {
            Outcome::Activate(model, _) => Ok(model.id),
            Outcome::Connect(target) => Ok(target.id),
            Outcome::Nothing(why) => Err(why),
        }
    }

    #[test]
    fn a_file_asks_for_a_model_that_is_installed_or_nothing_changes() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let library = library(
            folder.path(),
            &[("Qwen3-Embedding-0.6B-int8", 3000), ("Qwen3-Embedding-0.6B-4bit", 2000), ("mine", 10)],
        );
        let roomy = MemoryReading::default();
        let (governing, remote) = (governing(), no_remote(folder.path()));
        let ask = |text: &str| chosen(governing.follow(&settings(text), &library, &roomy, &ModelState::Idle, &remote));
        assert_eq!(ask("EMBEDBAR_MODEL=Qwen/Qwen3-Embedding-0.6B").as_deref(), Ok("Qwen3-Embedding-0.6B-int8"));
        let pinned = "EMBEDBAR_MODEL=Qwen3-Embedding-0.6B\nEMBEDBAR_PRECISION=4bit";
        assert_eq!(ask(pinned).as_deref(), Ok("Qwen3-Embedding-0.6B-4bit"));
        assert_eq!(ask("EMBEDBAR_MODEL=mine").as_deref(), Ok("mine"));
        for (text, says) in [
            ("EMBEDBAR_MODEL=Qwen3-Embedding-0.6B\nEMBEDBAR_PRECISION=fp16", "not installed in FP16"),
            ("EMBEDBAR_MODEL=Qwen3-Embedding-4B", "not installed"),
            ("PAPR_ENABLE_COREML=true\nPAPR_COREML_MODEL=./x.mlpackage", "/project/x.mlpackage"),
            ("PAPR_ONDEVICE_PROCESSING=false", "on its own server"),
            ("# nothing", "says nothing"),
        ] {
            let why = ask(text).expect_err(text);
            assert!(why.contains(says), "{text}: {why}");
        }
    }

    #[test]
    fn how_long_a_model_stays_is_what_is_written_and_nothing_else() {
        let stays = |text: &str| {
            let wanted = wanted("m", &settings(text), false);
            (wanted.keep_alive, wanted.pinned)
        };
        assert_eq!(stays("EMBEDBAR_IDLE_MINUTES=5"), (KeepAlive::For(Duration::from_mins(5)), false));
        assert_eq!(stays("EMBEDBAR_IDLE_MINUTES=0"), (KeepAlive::Forever, false));
        assert_eq!(stays("EMBEDBAR_PIN=true"), (KeepAlive::Forever, true));
        assert_eq!(stays("EMBEDBAR_MODEL=mine"), (KeepAlive::Forever, false));
    }

    /// Says that a model agrees with its source.
    fn certify(folder: &Path, name: &str, bytes: u64) {
        let certificate = Certificate {
            version: 1,
            verdict: Certified::Passed,
            floor: 0.99,
            agreement: Agreement { mean_cosine: 0.999, least_cosine: 0.99, top_10_overlap: 0.98 },
            evaluator: String::new(),
            self_test: SelfTest {
                evaluator: String::new(),
                width: 384,
                alone_difference: 0.0,
                least_cosine: 1.0,
                text_ms: 1.0,
            },
            format: "gguf".to_owned(),
            precision: String::new(),
            recipe: "native".to_owned(),
            raised: Vec::new(),
            fell_back: Vec::new(),
            converter: String::new(),
            source_sha256: String::new(),
            target_sha256: String::new(),
            source_bytes: 0,
            target_bytes: bytes,
            probes_sha256: String::new(),
            probes: 0,
            conversion_ms: 0.0,
            certification_ms: 0.0,
            source_vectors: Vectors::of(&[]),
        };
        let model = folder.join("models").join(name).join(format!("{name}.gguf"));
        certificate.write(&model).expect("it can be written");
    }

    #[test]
    fn of_several_precisions_the_planner_takes_the_one_that_fits() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let models = [("bge-small-en-v1.5-int8", 900_000), ("bge-small-en-v1.5-4bit", 1)];
        let library = library(folder.path(), &models);
        for (name, bytes) in models {
            certify(folder.path(), name, bytes as u64);
        }
        let remote = no_remote(folder.path());
        let ask = |available: u64| {
            let total_bytes = Some(16 << 30);
            let reading = MemoryReading { total_bytes, available_bytes: Some(available), ..MemoryReading::default() };
            chosen(governing().follow(
                &settings("EMBEDBAR_MODEL=bge-small-en-v1.5"),
                &library,
                &reading,
                &ModelState::Idle,
                &remote,
            ))
        };
        let entry = Catalogue::builtin().find("bge-small-en-v1.5").expect("it is known");
        let needs = |precision| entry.footprint(precision, Engine::Cpu, Workload::default()).peak_bytes();
        let reserve = ((16_u64 << 30) as f64 * 0.08) as u64;
        assert_eq!(ask(reserve + needs(Precision::Int8)).as_deref(), Ok("bge-small-en-v1.5-int8"));
        assert_eq!(ask(reserve + needs(Precision::Int8) - 1).as_deref(), Ok("bge-small-en-v1.5-4bit"));
        let nothing = ask(reserve + needs(Precision::FourBit) - 1).expect_err("nothing fits");
        assert!(nothing.contains("not loaded now") && nothing.contains("reserve"), "{nothing}");
    }

    #[test]
    fn an_unknown_file_decides_nothing_until_it_is_approved_and_again_when_it_has_new_variables() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let home = Home::open(Some(folder.path().join("home"))).expect("a home");
        let (following, _events) = Following::open(&home).expect("it opens");
        let file = folder.path().join(".env");
        let changed = |text: &str| {
            fs::write(&file, text).expect("it can be written");
            FileEvent::Changed(Box::new(EnvFile::read(&file).expect("it can be read")))
        };
        let first = changed("EMBEDBAR_MODEL=mine\n");
        following.follow(Some(&file)).expect("it can be followed");
        assert!(following.take(first).is_none());
        let status = following.status().expect("it is followed");
        assert_eq!((status.approved, status.unapproved), (false, vec!["EMBEDBAR_MODEL".to_owned()]));
        assert!(status.effect.contains("`mine`"), "{}", status.effect);
        let shown = |following: &Following| following.status().expect("followed").unapproved;
        // A variable that came after the file was shown is not approved with the others.
        assert!(following.take(changed("EMBEDBAR_MODEL=mine\nEMBEDBAR_PIN=true\n")).is_none());
        assert!(following.approve(&["EMBEDBAR_MODEL".to_owned()]).expect("it is there").is_none());
        assert_eq!(shown(&following), ["EMBEDBAR_PIN"]);
        following.take(changed("EMBEDBAR_MODEL=mine\n"));
        let settings = following.approve(&shown(&following)).expect("it is there").expect("it may decide now");
        assert_eq!(settings.model.value, Some(ModelWish::Id("mine".to_owned())));
        assert!(following.take(changed("EMBEDBAR_MODEL=other\n")).is_some(), "another value needs no new word");
        assert!(following.take(changed("EMBEDBAR_MODEL=other\nEMBEDBAR_PRECISION=int8\n")).is_none());
        assert_eq!(following.status().expect("followed").unapproved, ["EMBEDBAR_PRECISION"]);
        // A broken edit keeps what was good.
        following.approve(&shown(&following)).expect("it is there");
        assert!(following.take(changed("EMBEDBAR_MODEL=x\nEMBEDBAR_PRECISION=wide\n")).is_none());
        assert!(!following.status().expect("followed").held_back.is_empty());
        following.follow(None).expect("it can be let go");
        assert!(following.status().is_none());
        assert!(Following::open(&home).expect("it opens").0.lock().followed.path().is_none());
    }
}
