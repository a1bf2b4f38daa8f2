//! The application: what it holds, how it starts and how it stops.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use embedbar_contract::{
    Failure, FailureCode, IndexSummary, MemoryReading, ModelState, PromptKind, RecipeName, Snapshot,
};
use embedbar_documents::Index;
use embedbar_lifecycle::{Environment, Lane, Lifecycle, Manner, Source, Target, WorkerProgram};
use embedbar_memory::Machine;
use embedbar_planner::PrecisionWish;
use embedbar_store::{BUNDLED_ID, Home, Library, Model, Ownership};
use tokio::runtime::Handle;
use tokio::sync::{Notify, mpsc, watch};

use crate::agreed::{Agreed, Agreement};
use crate::conversion;
use crate::embedder::{BulkEmbedder, OwnRecipe};
use crate::errand::ChildProgram;
use crate::following::{self, Following};
use crate::governing::{Decision, Governing, Order, Wanted, What};
use crate::hub::Hub;
use crate::jobs::{Ended, Jobs, Workshop};
use crate::neighbours::Others;
use crate::observer::{Gauge, observe, worker_pid};
use crate::owner;
use crate::queries::Queries;
use crate::remembered::Remembered;
use crate::remote::RemoteEndpoint;
use crate::simulation::{Simulation, World};
use crate::swap;

/// After the start: a converter that was killed while the system wrote its file to the disk holds the lock until that is done, and
/// what it leaves is passed over by the first sweep.
const SECOND_SWEEP: Duration = Duration::from_mins(1);

/// How to start.
#[derive(Default)]
pub struct Options {
    /// The folder of all state; the system's place for a user's data where it is `None`.
    pub home: Option<PathBuf>,
    /// The program of the worker and of the converter; found beside this program where it is `None` (and `EMBEDBAR_WORKER` is not set).
    pub worker: Option<PathBuf>,
    /// What the worker's command line has besides `worker`.
    pub worker_arguments: Vec<OsString>,
    /// The model to begin with, an id or a path; the bundled one where it is `None`.
    pub model: Option<String>,
    /// The machine to read; the one that this program runs on where it is `None`.
    pub machine: Option<Box<dyn Machine>>,
    /// A machine to simulate in its place.
    pub simulation: Option<Simulation>,
    /// Whether to load the model and to look for changed documents at once, as a program that stays does.
    pub stay: bool,
}

/// An owner of a home.
pub struct App {
    pub(crate) home: Home,
    pub(crate) library: Library,
    pub(crate) lifecycle: Lifecycle,
    pub(crate) index: Index,
    pub(crate) jobs: Jobs,
    pub(crate) following: Following,
    pub(crate) governing: Arc<Governing>,
    pub(crate) environment: Environment,
    /// Of our own index and search.
    pub(crate) recipe: OwnRecipe,
    pub(crate) remote: RemoteEndpoint,
    pub(crate) others: Others,
    pub(crate) hub: Arc<Hub>,
    /// The program that looks into files.
    pub(crate) installer: ChildProgram,
    /// Installations that go on at the next start.
    pub(crate) agreed: Arc<Agreed>,
    pub(crate) gauge: Arc<Gauge>,
    pub(crate) queries: Mutex<Queries>,
    pub(crate) changed: Arc<Notify>,
    /// The model that was chosen last.
    pub(crate) chosen: Mutex<Model>,
    index_changed: AtomicBool,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    /// Whether it stays until it is told to stop, and is not only there for one command.
    pub(crate) stays: bool,
    _ownership: Ownership,
}

impl App {
    /// Becomes the owner of the home. Must be called on a tokio runtime with several threads.
    pub async fn start(options: Options) -> Result<Arc<Self>, Failure> {
        let home = Home::open(options.home.clone())?;
        let ownership = Ownership::take(&home)?.ok_or_else(|| already_owned(&home))?;
        Self::start_as_owner(options, home, ownership).await
    }

    pub(crate) async fn start_as_owner(
        options: Options,
        home: Home,
        ownership: Ownership,
    ) -> Result<Arc<Self>, Failure> {
        let library = Library::open(&home);
        let machine = options.machine.unwrap_or_else(embedbar_memory::this_machine);
        let (world, machine) = match options.simulation {
            Some(simulation) => simulation.start(machine),
            None => (World::real(), machine),
        };
        // What a simulated machine shows is nothing to remember.
        let remembered = if world.is_simulated() { Remembered::nothing() } else { Remembered::open(home.history()) };
        let gauge = Gauge::new(machine);
        let (following, events) = Following::open(&home)?;
        let wanted = Wanted::of(BUNDLED_ID, PrecisionWish::Automatic);
        let governing = Arc::new(Governing::new(world, remembered, wanted));
        let (environment, recipe) = (Environment::default(), OwnRecipe::default());
        let remote = RemoteEndpoint::open(&home)?;
        let others = Others::new(&home);
        let hub = Arc::new(Hub::new(&home));
        let followed = match &options.model {
            None if options.stay => {
                following.model_at_start(&library, &gauge.read(None), &governing, (&environment, &recipe), &remote)
            }
            _ => None,
        };
        let begins_as_followed = followed.is_some();
        let model = match (&options.model, followed) {
            (Some(name), _) => {
                let model = library.find(name)?;
                governing.want(Wanted::exactly(&model));
                model
            }
            (None, Some(model)) => model,
            // Nobody said anything: the model that comes with the program, in the precision that suits the machine.
            (None, None) if options.stay && governing.wanted().model == BUNDLED_ID => {
                match governing.decide(&governing.wanted(), &library, &gauge.read(None), &ModelState::Idle) {
                    Decision::Load(model, _) => model,
                    _ => library.bundled()?.clone(),
                }
            }
            (None, None) => library.bundled()?.clone(),
        };
        let program = worker_program(options.worker)?;
        let converter = ChildProgram::new(program.clone(), "converter");
        let installer = ChildProgram::new(program.clone(), "installer");
        let (ended, endings) = mpsc::unbounded_channel();
        let agreed = Arc::new(Agreed::open(home.installing()));
        hub.limit(agreed.limit());
        let workshop = Workshop {
            installer: installer.clone(),
            library: library.clone(),
            hub: hub.clone(),
            scratch: home.scratch(),
            packed: home.packed(),
            agreed: agreed.clone(),
            ended,
        };
        let arguments = worker_arguments(&home, options.worker_arguments);
        let worker = WorkerProgram { program, arguments, environment: environment.clone() };
        let lifecycle = Lifecycle::start(Arc::new(worker), target(&model), embedbar_lifecycle::Options::default());
        let (file, models, scratch) = (home.index(), home.models(), home.scratch());
        let swept = library.clone();
        let opening = tokio::task::spawn_blocking(move || {
            conversion::sweep(&models);
            swept.sweep();
            // Nothing in it outlives its program.
            let _ = std::fs::remove_dir_all(scratch);
            Index::open(&file)
        });
        let index =
            opening.await.map_err(|error| Failure::internal(format!("opening the index panicked: {error}")))??;
        let changed = Arc::new(Notify::new());
        let embedder =
            BulkEmbedder { recipe: recipe.clone(), lifecycle: lifecycle.clone(), runtime: Handle::current() };
        let (sender, snapshots) = watch::channel(Arc::default());
        let told = governing.clone();
        let converted = Arc::new(move |bytes_per_second| told.converted(bytes_per_second));
        let app = Arc::new(Self {
            jobs: Jobs::start(index.clone(), embedder, converter, changed.clone(), converted, workshop)?,
            hub,
            installer,
            agreed,
            governing,
            environment,
            recipe,
            remote,
            others,
            following,
            library,
            lifecycle,
            index,
            gauge: Arc::new(gauge),
            queries: Mutex::default(),
            changed: changed.clone(),
            chosen: Mutex::new(model),
            index_changed: AtomicBool::new(false),
            snapshots,
            stays: options.stay,
            _ownership: ownership,
            home,
        });
        tokio::spawn(observe(Arc::downgrade(&app), changed, app.lifecycle.state(), sender));
        tokio::spawn(go_on_from_installations(Arc::downgrade(&app), endings));
        owner::listen(&app)?;
        tracing::info!(home = %app.home.root().display(), version = env!("CARGO_PKG_VERSION"), "Embedbar owns its home");
        if options.stay {
            let models = app.home.models();
            tokio::spawn(async move {
                tokio::time::sleep(SECOND_SWEEP).await;
                drop(tokio::task::spawn_blocking(move || conversion::sweep(&models)).await);
            });
            let others = app.clone();
            tokio::spawn(async move { others.others.recover().await });
            app.following.start()?;
            tokio::spawn(following::follow(Arc::downgrade(&app), events));
            let (lifecycle, weak) = (app.lifecycle.clone(), Arc::downgrade(&app));
            tokio::spawn(async move {
                // A failure shows in the state; a file that names a broken model does not leave the person without any.
                let woken = lifecycle.wake().await;
                if let (Err(failure), true, Some(app)) = (woken, begins_as_followed, weak.upgrade()) {
                    app.fall_back(&failure).await;
                }
            });
            for folder in app.index.folders()? {
                app.jobs.index(PathBuf::from(folder.path))?;
            }
            let weak = Arc::downgrade(&app);
            tokio::spawn(async move {
                let Some(app) = weak.upgrade() else { return };
                for Agreement { request, held, .. } in app.agreed.all() {
                    let source = request.source.clone();
                    match app.begin_install(request, held).await {
                        Ok(_) => tracing::info!(source, "goes on being installed"),
                        // The network may be back at the next start.
                        Err(failure) => tracing::warn!(source, %failure, "cannot go on being installed"),
                    }
                }
            });
        }
        Ok(app)
    }

    /// A fresh reading of memory.
    pub(crate) fn read_memory(&self) -> MemoryReading {
        self.gauge.read(worker_pid(&self.lifecycle.state().borrow()))
    }

    /// Makes a model active and waits until it answers.
    pub(crate) async fn make_active(&self, model: Model) -> Result<ModelState, Failure> {
        let state = self.load(&model).await?;
        *self.chosen.lock().expect("nobody panics while they hold the choice. This is a bug.") = model;
        self.changed.notify_one();
        Ok(state)
    }

    /// Has a model answer, whoever wants it, and waits until it does.
    pub(crate) async fn load(&self, model: &Model) -> Result<ModelState, Failure> {
        self.lifecycle.activate(target(model), self.manner(model)).await
    }

    /// Has a new worker take the place of the present one.
    pub(crate) async fn recycle(&self) {
        // The governor may have stepped away from the one that was chosen.
        self.lifecycle.recycle(self.manner(&self.active_model())).await;
    }

    /// How this model takes the place of the present one.
    fn manner(&self, model: &Model) -> Manner {
        swap::manner(model.size_bytes(), &self.read_memory(), &self.governing.world().thresholds)
    }

    /// Has a server on the network answer, and finds out how far its vectors agree with those of the model that answered before.
    pub(crate) async fn connect(&self, target: Target) -> Result<ModelState, Failure> {
        let local = self.probe_vectors().await;
        // A connection takes no memory.
        let state = self.lifecycle.activate(target, Manner::Overlap).await?;
        if let (Some((name, local)), Some((_, remote))) = (local, self.probe_vectors().await) {
            match embedbar_remote::agrees(&local, &remote) {
                Ok(agreement) => self.remote.agrees(&name, agreement),
                Err(error) => tracing::info!(%error, "the server's vectors are of their own generation"),
            }
        }
        self.changed.notify_one();
        Ok(state)
    }

    /// The vectors of the sentences by which models are compared, where a model is loaded.
    async fn probe_vectors(&self) -> Option<(String, Vec<Vec<f32>>)> {
        if !matches!(&*self.lifecycle.state().borrow(), ModelState::Ready { .. }) {
            return None;
        }
        let texts = embedbar_remote::PROBES.iter().map(ToString::to_string).collect();
        let answer = self.lifecycle.embed(texts, PromptKind::None, RecipeName::Native, Lane::Bulk).await.ok()?;
        Some((answer.generation.model, answer.vectors))
    }

    /// Carries out what the governor ordered.
    pub(crate) async fn carry_out_order(&self, order: Order) {
        let failed = match &order.what {
            What::SmallBatches(small) => {
                self.lifecycle.set_small_batches(*small);
                None
            }
            What::Unload => {
                let unloaded = self.lifecycle.unload().await;
                (!unloaded).then(|| "it was busy, so it stays".to_owned())
            }
            What::Load(model) => self.load(model).await.err().map(|failure| failure.message),
            What::Remote => match self.remote.target() {
                Ok(target) => self.connect(target).await.err().map(|failure| failure.message),
                Err(why) => Some(why),
            },
            What::Recycle => {
                self.recycle().await;
                None
            }
        };
        if let Some(why) = failed {
            self.governing.failed(&order, why);
        }
        self.changed.notify_one();
    }

    /// The newest snapshot, and every one after it; at most ten a second.
    pub fn snapshots(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.snapshots.clone()
    }

    /// The folder of all state.
    pub fn home(&self) -> &Home {
        &self.home
    }

    /// Cancels jobs, ends the converter and the worker, and takes the socket away.
    pub async fn stop(&self) {
        tokio::join!(self.jobs.stop(), self.lifecycle.stop());
        if let Ok(socket) = self.home.owner_socket() {
            let _ = std::fs::remove_file(socket); // the next owner would do it
        }
        tracing::info!("Embedbar has stopped");
    }

    /// Has the observer count the index again.
    pub(crate) fn set_index_changed(&self) {
        self.index_changed.store(true, Ordering::Relaxed);
        self.changed.notify_one();
    }

    pub(crate) fn index_changed(&self) -> bool {
        self.index_changed.swap(false, Ordering::Relaxed)
    }

    pub(crate) fn picture(&self, index: IndexSummary) -> Snapshot {
        let model = self.lifecycle.state().borrow().clone();
        Snapshot {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            home: self.home.root().display().to_string(),
            paused: self.jobs.paused(),
            memory: self.gauge.last(),
            jobs: self.jobs.snapshot(),
            queries: self.queries.lock().expect("nobody panics while they hold the queries. This is a bug.").records(),
            index,
            waiting: self.lifecycle.waiting(),
            env: self.following.status(),
            governor: self.governing.status(&model),
            model,
            remote: self.remote.status(),
        }
    }
}

/// Looks after what installations have come to, for as long as the application is there.
async fn go_on_from_installations(app: Weak<App>, mut endings: mpsc::UnboundedReceiver<Ended>) {
    while let Some(ended) = endings.recv().await {
        let Some(app) = app.upgrade() else { return };
        app.installed(ended).await;
    }
}

pub(crate) fn target(model: &Model) -> Target {
    Target { id: model.id.clone(), source: Source::File(model.path.clone()) }
}

fn already_owned(home: &Home) -> Failure {
    let who = std::fs::read_to_string(home.owner_lock()).unwrap_or_default();
    Failure::new(
        FailureCode::OwnerMismatch,
        format!("another Embedbar (process {}) owns `{}`", who.trim(), home.root().display()),
    )
    .hint("Quit it first, or choose another folder with `--home DIR`.")
}

/// What a worker's command line is after the program, `more` at its end.
pub(crate) fn worker_arguments(home: &Home, more: Vec<OsString>) -> Vec<OsString> {
    [vec![OsString::from("worker"), OsString::from("--packed"), home.packed().into()], more].concat()
}

/// The program that becomes a worker or a converter: named by the caller or by `EMBEDBAR_WORKER`, else `embedbar` beside this program, else this
/// program itself where it is `embedbar`.
pub(crate) fn worker_program(chosen: Option<PathBuf>) -> Result<PathBuf, Failure> {
    if let Some(named) =
        chosen.or_else(|| env::var_os("EMBEDBAR_WORKER").filter(|named| !named.is_empty()).map(PathBuf::from))
    {
        return Ok(named);
    }
    let this = env::current_exe()
        .map_err(|error| Failure::internal(format!("this program does not know its path: {error}")))?;
    let folder = this.parent().unwrap_or_else(|| std::path::Path::new("/"));
    // Test programs live one folder deeper than the programs they test.
    [folder.join("embedbar"), folder.join("../embedbar")].into_iter().find(|path| path.is_file()).ok_or_else(|| {
        Failure::new(
            FailureCode::WorkerFailed,
            format!("the worker program `embedbar` is not beside `{}`", this.display()),
        )
        .hint("Build it with `cargo build -p embedbar-cli`, or set EMBEDBAR_WORKER to it.")
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use embedbar_contract::{
        Commands as _, ConvertFormat, ConvertPrecision, ConvertRequest, Empty, JobId, JobState, MemoryReading, Pressure,
    };
    use embedbar_memory::Scripted;

    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_conversion_waits_while_the_machine_is_short_of_memory_and_can_be_cancelled() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let source = folder.path().join("checkpoint");
        fs::create_dir(&source).expect("it can be made");
        fs::write(source.join("config.json"), "{}").expect("it can be written");
        let short = MemoryReading { pressure: Some(Pressure::Warn), ..MemoryReading::default() };
        let options = Options {
            home: Some(folder.path().join("home")),
            worker: Some("/no/such/program".into()),
            machine: Some(Box::new(Scripted::new([short]))),
            ..Options::default()
        };
        let app = App::start(options).await.expect("the home is free");
        let mut snapshots = app.snapshots();
        snapshots.wait_for(|snapshot| snapshot.memory.pressure.is_some()).await.expect("it is observed");
        let request = ConvertRequest {
            source: source.display().to_string(),
            precision: ConvertPrecision::Int8,
            format: ConvertFormat::Gguf,
            target: None,
            make_room: None,
        };
        let id = app.convert(request).await.expect("it can be tried").id;
        // A conversion that did not wait would fail: there is no such program.
        tokio::time::sleep(Duration::from_millis(300)).await;
        let job = app.snapshot(Empty {}).await.expect("it is always answered").jobs.remove(0);
        assert_eq!((job.id, job.state, job.detail.as_str()), (id, JobState::Paused, "paused: memory is short"));
        app.cancel(JobId { id }).await.expect("it is there");
        let ended = |snapshot: &Arc<Snapshot>| snapshot.jobs.iter().any(|job| job.state == JobState::Cancelled);
        snapshots.wait_for(ended).await.expect("it is observed");
        app.stop().await;
        assert!(!folder.path().join("home/models").exists(), "nothing was made");
    }
}
