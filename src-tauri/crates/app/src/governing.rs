//! The planner and its governor at work: what is wanted, what is loaded, what the machine is like, and what follows from it.
//!
//! Every reading of memory becomes a plan and a tick of the governor; what that orders is carried out in the background and
//! reported back. Nothing that it does is written into the settings. What is not here: the rules (`embedbar-planner`), loading
//! and ending workers (`embedbar-lifecycle`).

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use embedbar_catalog::{Catalogue, Entry};
use embedbar_contract::{
    GovernorEvent, GovernorMeasure, GovernorStatus, MemoryReading, ModelState, PlanRow, PlanStatus, PlanVerdict,
};
use embedbar_memory::used_bytes;
use embedbar_planner::{
    Action, Backend, Candidate, Choice, Event, Governor, GovernorRules, History, Judged, KeepAlive, Measured, Place,
    Plan, PrecisionWish, Present, QuerySeen, Reading, Standing, Thresholds, Tick, Verdict, Wishes, memory_text, plan,
};
use embedbar_store::{Library, Model};

use crate::installed::{Installed, candidate_of, installed, model_of, precision_of};
use crate::remembered::Remembered;
use crate::simulation::World;

/// Events that are kept.
const KEPT: usize = 20;
/// The models' folder is looked at again this often.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// A worker that holds more than this times what it is expected to take is replaced.
const GROWN: f64 = 1.15;
/// Between two replacements of a worker that grows.
const RECYCLE_EVERY: Duration = Duration::from_mins(10);
/// How long there has to be room for a model that did not fit when it was asked for.
const ROOM_FOR: Duration = Duration::from_mins(1);
/// Bytes of text to a token, roughly, for a query whose tokens nobody has counted yet.
const BYTES_PER_TOKEN: usize = 4;

/// What the user wants to have loaded.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Wanted {
    /// The id of a model, of the catalogue's where it knows it.
    pub(crate) model: String,
    /// In which way.
    pub(crate) wishes: Wishes,
    /// How long it stays loaded unused.
    pub(crate) keep_alive: KeepAlive,
    /// Whether nothing but the user may replace it.
    pub(crate) pinned: bool,
}

impl Wanted {
    /// A model and nothing said about it.
    pub(crate) fn of(model: impl Into<String>, precision: PrecisionWish) -> Self {
        let wishes = Wishes { precision, ..Wishes::default() };
        Self { model: model.into(), wishes, keep_alive: KeepAlive::Forever, pinned: false }
    }

    /// This installed model in its precision and no other: a person named it, so nothing steps away from it by itself.
    pub(crate) fn exactly(model: &Model) -> Self {
        let precision = precision_of(model).map_or(PrecisionWish::Automatic, PrecisionWish::Explicit);
        let known = Catalogue::builtin().installed(&model.id).map(|(entry, _)| entry.id.clone());
        Self::of(known.unwrap_or_else(|| model.id.clone()), precision)
    }

    /// The wanted model and those that may stand in for it.
    fn entries(&self) -> Vec<&'static Entry> {
        let catalogue = Catalogue::builtin();
        let Some(entry) = catalogue.find(&self.model) else { return Vec::new() };
        let smaller = if self.wishes.smaller_models { catalogue.smaller_than(entry) } else { Vec::new() };
        [entry].into_iter().chain(smaller).collect()
    }
}

/// What a wish leads to now.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Decision {
    /// Load this; sentences that a person should know with it.
    Load(Model, Vec<String>),
    /// Nothing of it is installed that could be loaded.
    NotInstalled,
    /// Nothing of it fits; the sentence says why.
    NoRoom(String),
    /// The remote endpoint is to answer.
    Remote,
}

/// Something to carry out.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Order {
    /// The event that says so.
    event: u64,
    pub(crate) what: What,
}

/// What is to be carried out.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum What {
    /// End the worker.
    Unload,
    /// Make batches smaller, or no longer.
    SmallBatches(bool),
    /// Have this model answer.
    Load(Model),
    /// Have the remote endpoint answer.
    Remote,
    /// Replace the worker by a new one.
    Recycle,
}

/// What the observer saw.
pub(crate) struct Seen<'a> {
    pub(crate) reading: &'a MemoryReading,
    pub(crate) state: &'a ModelState,
    /// Whether somebody is asking or something is being indexed.
    pub(crate) busy: bool,
    /// Bytes and duration of the request that a worker is at.
    pub(crate) running: Option<(usize, Duration)>,
}

/// The governor and all that it knows.
pub(crate) struct Governing {
    world: World,
    inner: Mutex<Inner>,
}

struct Inner {
    governor: Governor,
    remembered: Remembered,
    wanted: Wanted,
    /// The model that answered when something else became wanted, until that has been carried out: it stands in for nothing.
    left_over: Option<String>,
    loaded: Option<Loaded>,
    /// Whether a server on the network answers.
    remote: bool,
    /// Queries that ended since the last tick.
    ended: Vec<Ended>,
    installed: Vec<Installed>,
    looked_at: Option<Duration>,
    recycled_at: Option<Duration>,
    /// Since when there has been room for the wanted model that is not loaded.
    room_since: Option<Duration>,
    /// Whether loading the wanted model late has failed: it is tried again when something else is wanted.
    gave_up: bool,
    /// Used memory at the last reading without a model, for backends whose memory is not the process's own.
    used_without: Option<u64>,
    kept: VecDeque<Kept>,
    last_id: u64,
    status: Option<PlanStatus>,
}

/// What answers.
#[derive(Clone, Debug)]
struct Loaded {
    /// The installed model's id.
    id: String,
    candidate: Candidate,
    worker: u32,
    /// Size of its files.
    file_bytes: u64,
    /// What comes back when it is unloaded.
    held_bytes: u64,
    /// Of its mapped files, what is resident and counts as available.
    mapped_bytes: u64,
    /// What it took at rest, right after its load, and is expected to take on top; `None` before it was measured.
    expected: Option<u64>,
}

impl Loaded {
    fn running_bytes(&self) -> u64 {
        (self.held_bytes + self.mapped_bytes).max(self.expected.unwrap_or(0))
    }
}

struct Ended {
    tokens: u64,
    forward: Duration,
    keep_alive: Option<Duration>,
}

struct Kept {
    id: u64,
    governor_id: Option<u64>,
    at: Duration,
    measure: GovernorMeasure,
    reason: String,
    failed: Option<String>,
    effect: Option<String>,
}

impl Governing {
    pub(crate) fn new(world: World, remembered: Remembered, wanted: Wanted) -> Self {
        let inner = Inner {
            governor: Governor::new(GovernorRules { keep_alive: KeepAlive::Forever, ..GovernorRules::default() }),
            remembered,
            wanted,
            left_over: None,
            loaded: None,
            remote: false,
            ended: Vec::new(),
            installed: Vec::new(),
            looked_at: None,
            recycled_at: None,
            room_since: None,
            gave_up: false,
            used_without: None,
            kept: VecDeque::new(),
            last_id: 0,
            status: None,
        };
        Self { world, inner: Mutex::new(inner) }
    }

    /// The world that is decided for.
    pub(crate) fn world(&self) -> &World {
        &self.world
    }

    /// What is wanted now.
    pub(crate) fn wanted(&self) -> Wanted {
        self.lock().wanted.clone()
    }

    /// Something else is wanted from now on.
    pub(crate) fn want(&self, wanted: Wanted) {
        let mut inner = self.lock();
        if inner.wanted.model != wanted.model {
            inner.left_over = inner.loaded.as_ref().map(|loaded| loaded.id.clone());
        }
        (inner.wanted, inner.room_since, inner.gave_up) = (wanted, None, false);
        inner.looked_at = None;
        inner.tell_governor();
    }

    /// What a wish leads to at this reading and with this model.
    pub(crate) fn decide(
        &self,
        wanted: &Wanted,
        library: &Library,
        reading: &MemoryReading,
        state: &ModelState,
    ) -> Decision {
        let mut inner = self.lock();
        // Reading and model belong together: what holds memory now would make way.
        inner.note_model(self.world.now(), &self.world, library, reading, state);
        let entries = wanted.entries();
        let installed = installed(library);
        let ready = |installed: &Installed| entries.iter().any(|entry| entry.id == installed.artefact.model);
        if !installed.iter().any(ready) && wanted.wishes.remote_host.is_none() {
            return Decision::NotInstalled;
        }
        let found = inner.plan(&self.world, wanted, &entries, &installed, reading);
        log(wanted, &found);
        let load = |model: Option<&Model>, told: Vec<String>| {
            model.map_or(Decision::NotInstalled, |model| Decision::Load(model.clone(), told))
        };
        let of = |judged: &Judged| model_of(&installed, &judged.candidate);
        match &found.choice {
            Choice::Local { .. } => load(found.chosen().and_then(of), remarks(&found)),
            Choice::Remote => Decision::Remote,
            // Where the machine says nothing of its memory, that is no reason to have no model.
            Choice::Nothing { .. } if inner.reading(&self.world, reading).room_bytes().is_none() => {
                let allowed = |judged: &&Judged| judged.ready && !matches!(judged.verdict, Verdict::NotAllowed(_));
                let model = found.candidates.iter().find(allowed).and_then(of);
                load(model, vec!["How much memory is free is not known.".to_owned()])
            }
            // What was never compared is used where nothing else is there: the user asked for the model, and is told.
            Choice::Nothing { .. } if found.candidates.iter().any(never_compared) => {
                let trusted: Vec<Installed> = installed.iter().map(trusted).collect();
                let found = inner.plan(&self.world, wanted, &entries, &trusted, reading);
                let mut told = remarks(&found);
                told.push("Its vectors have never been compared with those of its source.".to_owned());
                match (found.chosen().and_then(of), &found.choice) {
                    (None, Choice::Nothing { reason }) => Decision::NoRoom(reason.clone()),
                    (model, _) => load(model, told),
                }
            }
            Choice::Nothing { .. } if !found.candidates.iter().any(|judged| judged.ready && usable(wanted, judged)) => {
                Decision::NotInstalled
            }
            Choice::Nothing { reason } => Decision::NoRoom(reason.clone()),
        }
    }

    /// A query was answered.
    pub(crate) fn answered(&self, tokens: usize, forward_ms: f64, keep_alive: Option<Duration>) {
        let forward = Duration::from_secs_f64(forward_ms.max(0.0) / 1e3);
        self.lock().ended.push(Ended { tokens: tokens as u64, forward, keep_alive });
    }

    /// When each model answered last, in seconds since 1970, by its id.
    pub(crate) fn last_used(&self) -> BTreeMap<String, u64> {
        self.lock().remembered.last_used()
    }

    /// A conversion read and wrote so fast.
    pub(crate) fn converted(&self, bytes_per_second: f64) {
        self.lock().remembered.converted(bytes_per_second);
    }

    /// Takes what the observer saw and says what is to be done.
    pub(crate) fn tick(&self, library: &Library, seen: &Seen) -> Vec<Order> {
        let mut inner = self.lock();
        let at = self.world.now();
        inner.note_model(at, &self.world, library, seen.reading, seen.state);
        if inner.looked_at.is_none_or(|looked| at.saturating_sub(looked) >= LOOK_EVERY) {
            (inner.installed, inner.looked_at) = (installed(library), Some(at));
        }
        if !self.world.is_simulated()
            && let Some(used) = used_bytes(seen.reading)
        {
            let others = used.saturating_sub(inner.held_bytes());
            inner.remembered.others_use(SystemTime::now(), others);
        }
        let wanted = inner.wanted.clone();
        let entries = wanted.entries();
        let found = inner.plan(&self.world, &wanted, &entries, &inner.installed, seen.reading);
        inner.note_footprint(&found, seen.reading);
        let reading = inner.reading(&self.world, seen.reading);
        let queries = inner.queries(at, seen);
        let page_ins = page_ins(seen.reading);
        let events = inner.governor.tick(&Tick {
            at,
            reading: &reading,
            page_ins_per_second: page_ins,
            queries: &queries,
            plan: &found,
            wishes: &wanted.wishes,
            thresholds: &self.world.thresholds,
        });
        let mut orders: Vec<Order> = events.into_iter().filter_map(|event| inner.take(event)).collect();
        orders.extend(inner.recycle(at, &self.world.thresholds, &found));
        orders.extend(inner.late(at, &found, seen.reading));
        inner.status = (!entries.is_empty()).then(|| status(&wanted, &found, inner.loaded.as_ref()));
        orders
    }

    /// An order could not be carried out.
    pub(crate) fn failed(&self, order: &Order, why: String) {
        let mut inner = self.lock();
        let at = self.world.now();
        let Some(kept) = inner.kept.iter_mut().find(|kept| kept.id == order.event) else { return };
        tracing::warn!(reason = kept.reason, why, "the governor's measure failed");
        kept.failed = Some(why);
        match kept.governor_id {
            Some(id) => inner.governor.failed(at, id),
            // Nobody waits for it any more than they did before.
            None => inner.gave_up = true,
        }
    }

    /// What others see.
    pub(crate) fn status(&self, state: &ModelState) -> GovernorStatus {
        let answering = match state {
            ModelState::Ready { generation, .. } => Some(generation.model.as_str()),
            _ => None,
        };
        let inner = self.lock();
        let now = self.world.now();
        let events = inner.kept.iter().map(|kept| GovernorEvent {
            id: kept.id,
            age_seconds: now.saturating_sub(kept.at).as_secs_f64(),
            measure: kept.measure,
            reason: kept.reason.clone(),
            failed: kept.failed.clone(),
            effect: kept.effect.clone(),
        });
        GovernorStatus {
            plan: inner.status.clone(),
            events: events.collect(),
            small_batches: inner.governor.batch() != embedbar_planner::Batch::Full,
            stand_in: answering.and_then(|id| inner.stands_in(id)),
        }
    }

    /// Whether the worker holds more than it should at most, right after the batches that it was expected to be at.
    pub(crate) fn has_grown(&self) -> bool {
        let inner = self.lock();
        inner.loaded.as_ref().is_some_and(|loaded| {
            loaded.expected.is_some_and(|expected| loaded.held_bytes + loaded.mapped_bytes > expected)
        })
    }

    /// What is wanted has been carried out, or could not be: from now on whatever else answers stands in for it.
    pub(crate) fn settled(&self) {
        self.lock().left_over = None;
    }

    /// Why programs do not get what the installed or remote model `id` answers, where it stands in for the wanted one.
    pub(crate) fn stands_in(&self, id: &str) -> Option<String> {
        self.lock().stands_in(id)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("nobody panics while they hold the governor. This is a bug.")
    }
}

impl Inner {
    /// What is loaded, as the lifecycle says it.
    fn note_model(
        &mut self,
        at: Duration,
        world: &World,
        library: &Library,
        reading: &MemoryReading,
        state: &ModelState,
    ) {
        let now = match state {
            ModelState::Ready { generation, backend, worker_pid, .. } => {
                let candidate = candidate_of(generation, *backend);
                if candidate.is_none() && !std::mem::replace(&mut self.remote, true) {
                    self.governor.activated(at, &Place::Remote);
                }
                candidate.map(|candidate| (candidate, *worker_pid, generation.model.clone()))
            }
            _ => None,
        };
        let same = match (&self.loaded, &now) {
            (Some(loaded), Some((candidate, worker, _))) => loaded.candidate == *candidate && loaded.worker == *worker,
            (None, None) => true,
            _ => false,
        };
        if !same {
            if let Some(gone) = self.loaded.take() {
                self.governor.unloaded(&gone.candidate);
            }
            if let Some((candidate, worker, id)) = now {
                self.remote = false;
                let file_bytes = library.find(&id).map_or(0, |model| model.size_bytes());
                if matches!(candidate.backend, Backend::CoreMl(_)) {
                    tracing::info!("Using Core ML embedder"); // the SDK's own line, at the same moment
                }
                self.governor.loaded(at, &candidate);
                self.governor.activated(at, &Place::Local(candidate.clone()));
                let expected = None;
                self.loaded =
                    Some(Loaded { id, candidate, worker, file_bytes, held_bytes: 0, mapped_bytes: 0, expected });
                world.set_loaded_bytes(file_bytes);
                self.tell_governor();
            }
        }
        let used = used_bytes(reading);
        match &mut self.loaded {
            None => self.used_without = used,
            Some(loaded) => {
                if world.is_simulated() {
                    (loaded.held_bytes, loaded.expected) = (loaded.file_bytes, Some(loaded.file_bytes));
                    return;
                }
                let own = reading.worker_bytes.unwrap_or(0);
                // Core ML keeps weights where the process's own figure does not show them.
                let gained = match loaded.candidate.backend {
                    Backend::CoreMl(_) => used.zip(self.used_without).map_or(0, |(now, was)| now.saturating_sub(was)),
                    _ => 0,
                };
                loaded.held_bytes = own.max(gained);
                let resident = reading.worker_resident_bytes.unwrap_or(0);
                // A process that holds more than its file has copied the weights, and has no need of the file any more.
                let mapped = resident.saturating_sub(own).min(loaded.file_bytes);
                loaded.mapped_bytes = if own >= loaded.file_bytes { 0 } else { mapped };
            }
        }
    }

    /// What the user said about keeping the model.
    fn tell_governor(&mut self) {
        let Some(Loaded { candidate, .. }) = &self.loaded else { return };
        self.governor.pin(candidate, self.wanted.pinned);
        self.governor.keep_alive(candidate, self.wanted.keep_alive);
    }

    fn held_bytes(&self) -> u64 {
        self.loaded.as_ref().map_or(0, |loaded| loaded.held_bytes)
    }

    fn reading(&self, world: &World, memory: &MemoryReading) -> Reading {
        Reading {
            present: self.loaded.as_ref().map(|loaded| Present {
                candidate: loaded.candidate.clone(),
                held_bytes: loaded.held_bytes,
                running_bytes: loaded.running_bytes(),
            }),
            ..Reading::new(world.system, memory.clone())
        }
    }

    fn plan(
        &self,
        world: &World,
        wanted: &Wanted,
        entries: &[&Entry],
        installed: &[Installed],
        memory: &MemoryReading,
    ) -> Plan {
        let artefacts: Vec<_> = installed.iter().map(|installed| installed.artefact.clone()).collect();
        let reading = self.reading(world, memory);
        let mut history = self.remembered.history();
        if world.is_simulated() {
            history.measured = installed.iter().map(by_its_file).collect();
        }
        plan(&wanted.wishes, entries, &artefacts, &reading, &history, &world.thresholds)
    }

    /// What the model takes at rest, right after its load, with the estimate of what a batch takes on top: comparable, however
    /// much each was asked.
    fn note_footprint(&mut self, found: &Plan, reading: &MemoryReading) {
        let Some(loaded) = self.loaded.as_mut().filter(|loaded| loaded.expected.is_none()) else { return };
        let judged = found.rank(&loaded.candidate).map(|rank| &found.candidates[rank]);
        let Some(judged) = judged.filter(|_| reading.worker_bytes.is_some()) else { return };
        let rest = loaded.held_bytes + loaded.mapped_bytes;
        let running = rest + judged.activations_bytes;
        loaded.expected = Some(running);
        let candidate = &judged.candidate;
        tracing::info!(
            %candidate,
            rest = memory_text(rest),
            running = memory_text(running),
            expected = memory_text(judged.running_bytes),
            "what a model takes here"
        );
        let query_ms = self.remembered.history().of(candidate).and_then(|known| known.query_ms);
        self.remembered.measured(candidate, running, query_ms);
    }

    /// Queries for the governor, which is also told of who is using the model.
    fn queries(&mut self, at: Duration, seen: &Seen) -> Vec<QuerySeen> {
        let ended = std::mem::take(&mut self.ended);
        let Some(Loaded { id, candidate, .. }) = self.loaded.clone() else { return Vec::new() };
        if !ended.is_empty() {
            self.remembered.used(SystemTime::now(), &id);
        }
        if seen.busy {
            self.governor.began(at, &candidate);
            self.governor.ended(at, &candidate, None);
        }
        let mut queries = Vec::new();
        for Ended { tokens, forward, keep_alive } in ended {
            self.governor.began(at, &candidate);
            self.governor.ended(at, &candidate, keep_alive.map(KeepAlive::For));
            queries.push(QuerySeen { candidate: candidate.clone(), tokens, elapsed: forward, finished: true });
        }
        if let Some((bytes, elapsed)) = seen.running {
            let tokens = (bytes / BYTES_PER_TOKEN).max(1) as u64;
            queries.push(QuerySeen { candidate, tokens, elapsed, finished: false });
        }
        queries
    }

    /// Keeps an event and makes an order of it.
    fn take(&mut self, event: Event) -> Option<Order> {
        match event {
            Event::Effect(effect) => {
                let text = effect.to_string();
                if let Some(kept) = self.kept.iter_mut().find(|kept| kept.governor_id == Some(effect.id)) {
                    tracing::info!(reason = kept.reason, effect = text, "what the governor's measure changed");
                    kept.effect = Some(text);
                }
                None
            }
            Event::Act { id, at, action, reason, .. } => {
                let (measure, what) = match action {
                    Action::Unload(_) => (GovernorMeasure::Unload, Ok(What::Unload)),
                    Action::Batch(batch) => {
                        let small = batch != embedbar_planner::Batch::Full;
                        (GovernorMeasure::Batch, Ok(What::SmallBatches(small)))
                    }
                    Action::StepDown(step) => (GovernorMeasure::StepDown, self.load(&step.to)),
                    Action::StepUp(step) => (GovernorMeasure::StepUp, self.load(&step.to)),
                    Action::Tell => (GovernorMeasure::Tell, Err(None)),
                };
                let event = self.keep(Some(id), at, measure, reason);
                match what {
                    Ok(what) => Some(Order { event, what }),
                    Err(why) => {
                        if let Some(why) = why {
                            self.kept.front_mut()?.failed = Some(why);
                            self.governor.failed(at, id);
                        }
                        None
                    }
                }
            }
        }
    }

    fn load(&self, place: &Place) -> Result<What, Option<String>> {
        match place {
            Place::Remote => Ok(What::Remote),
            Place::Local(candidate) => model_of(&self.installed, candidate)
                .map(|model| What::Load(model.clone()))
                .ok_or_else(|| Some(format!("{candidate} is no longer installed"))),
        }
    }

    fn keep(&mut self, governor_id: Option<u64>, at: Duration, measure: GovernorMeasure, reason: String) -> u64 {
        tracing::info!(?measure, "{reason}");
        self.last_id += 1;
        let id = self.last_id;
        self.kept.truncate(KEPT - 1);
        self.kept.push_front(Kept { id, governor_id, at, measure, reason, failed: None, effect: None });
        id
    }

    /// A worker that has grown is replaced by a new one, between batches.
    fn recycle(&mut self, at: Duration, thresholds: &Thresholds, found: &Plan) -> Option<Order> {
        let loaded = self.loaded.as_ref()?;
        let held = loaded.held_bytes + loaded.mapped_bytes;
        let expected = match found.rank(&loaded.candidate) {
            Some(rank) => loaded.expected?.max(found.candidates[rank].running_bytes),
            None => loaded.file_bytes + thresholds.besides_weights_bytes,
        };
        let line = (expected as f64 * GROWN) as u64;
        if held <= line || self.recycled_at.is_some_and(|last| at.saturating_sub(last) < RECYCLE_EVERY) {
            return None;
        }
        self.recycled_at = Some(at);
        let reason = format!(
            "the worker of {} is replaced by a new one: it holds {}, and {} were expected",
            loaded.candidate,
            memory_text(held),
            memory_text(expected)
        );
        let event = self.keep(None, at, GovernorMeasure::Recycle, reason);
        Some(Order { event, what: What::Recycle })
    }

    /// The wanted model, which did not fit when it was asked for, once there has been room for a while.
    fn late(&mut self, at: Duration, found: &Plan, reading: &MemoryReading) -> Option<Order> {
        let loaded = self.loaded.as_ref()?;
        // What stands in for it is the governor's to replace.
        let waits = found.rank(&loaded.candidate).is_none() && !self.wanted.pinned && !self.gave_up;
        let chosen = match found.choice {
            Choice::Local { warning: None, .. } => found.chosen().filter(|judged| judged.ready),
            _ => None,
        };
        let calm = reading.pressure.is_none_or(|pressure| pressure == embedbar_contract::Pressure::Normal);
        let Some(chosen) = chosen.filter(|_| waits && calm) else {
            self.room_since = None;
            return None;
        };
        let since = *self.room_since.get_or_insert(at);
        if at.saturating_sub(since) < ROOM_FOR {
            return None;
        }
        self.room_since = None;
        let model = model_of(&self.installed, &chosen.candidate)?.clone();
        let reason = format!("{} is replaced by {}, for which there is room now", loaded.candidate, chosen.sentence);
        let event = self.keep(None, at, GovernorMeasure::StepUp, reason);
        Some(Order { event, what: What::Load(model) })
    }

    fn stands_in(&self, id: &str) -> Option<String> {
        let catalogue = Catalogue::builtin();
        let (wanted, wishes) = (catalogue.find(&self.wanted.model)?, &self.wanted.wishes);
        let known = catalogue.installed(id).map(|(entry, _)| entry.id.as_str());
        let allowed = match known {
            Some(known) => wishes.smaller_models && known != wanted.id,
            None => wishes.remote_host.as_ref().is_some_and(|host| id.starts_with(&format!("remote:{host}/"))),
        };
        let stands_in = known.or(wishes.remote_host.as_deref())?;
        (allowed && self.left_over.as_deref() != Some(id))
            .then(|| format!("{stands_in} stands in for {}, for which there is no room now", wanted.id))
    }
}

/// On a simulated machine a model takes what its file takes.
fn by_its_file(installed: &Installed) -> Measured {
    let Installed { model, artefact } = installed;
    let candidate = Candidate { backend: Backend::Cpu, model: artefact.model.clone(), precision: artefact.precision };
    Measured { candidate, running_bytes: model.size_bytes(), query_ms: None }
}

/// Whether a candidate is installed and lacks nothing but a comparison with its source.
fn never_compared(judged: &Judged) -> bool {
    judged.ready && matches!(judged.verdict, Verdict::BelowFloor { mean_cosine: None, .. })
}

/// What a person should know about a choice: what speaks against it, and what would have been preferred.
fn remarks(found: &Plan) -> Vec<String> {
    let Choice::Local { index, warning } = &found.choice else { return Vec::new() };
    let passed_over = found.candidates[..*index]
        .iter()
        .find(|judged| judged.ready && matches!(judged.verdict, Verdict::DoesNotFit { .. }));
    let warning = warning.as_ref().map(|warning| format!("Warning: {warning}."));
    let passed_over = passed_over.map(|judged| format!("Passed over: {}.", judged.sentence));
    warning.into_iter().chain(passed_over).collect()
}

/// As if nobody had to compare it.
fn trusted(installed: &Installed) -> Installed {
    let mut trusted = installed.clone();
    if trusted.artefact.standing == Standing::NotCompared {
        trusted.artefact.standing = Standing::Original;
    }
    trusted
}

/// Whether a candidate's precision is one that is wanted.
fn usable(wanted: &Wanted, judged: &Judged) -> bool {
    match wanted.wishes.precision {
        PrecisionWish::Automatic => true,
        PrecisionWish::Pinned(precision) | PrecisionWish::Explicit(precision) => {
            judged.candidate.precision == precision
        }
    }
}

/// What was read back from the disk or from swap: the worker's own where that is known, because others read files too.
fn page_ins(reading: &MemoryReading) -> Option<f64> {
    match (reading.worker_page_in_bytes_per_second, reading.swap_in_bytes_per_second) {
        (None, None) => None,
        (own, swap) => Some(own.unwrap_or(0.0) + swap.unwrap_or(0.0)),
    }
}

fn choice(found: &Plan) -> (String, bool) {
    match &found.choice {
        Choice::Local { warning: Some(warning), .. } => (capitalised(warning), true),
        Choice::Local { warning: None, .. } => {
            (found.chosen().map(|judged| judged.sentence.clone()).unwrap_or_default(), false)
        }
        Choice::Remote => (found.remote.as_ref().map(|remote| remote.sentence.clone()).unwrap_or_default(), false),
        Choice::Nothing { reason } => (capitalised(reason), true),
    }
}

fn capitalised(sentence: &str) -> String {
    let mut characters = sentence.chars();
    characters.next().map_or_else(String::new, |first| first.to_uppercase().chain(characters).collect())
}

fn log(wanted: &Wanted, found: &Plan) {
    for judged in &found.candidates {
        tracing::debug!(model = wanted.model, "{}", judged.sentence);
    }
    let (choice, warns) = choice(found);
    tracing::info!(model = wanted.model, warns, reserve = found.reserve.map(|it| it.to_string()), "plan: {choice}");
}

fn status(wanted: &Wanted, found: &Plan, loaded: Option<&Loaded>) -> PlanStatus {
    let chosen = found.chosen().map(|judged| &judged.candidate);
    let rows = found.candidates.iter().map(|judged| PlanRow {
        candidate: judged.candidate.to_string(),
        sentence: judged.sentence.clone(),
        ready: judged.ready,
        verdict: match judged.verdict {
            Verdict::Fits | Verdict::CanBeMade(_) => PlanVerdict::Fits,
            Verdict::DoesNotFit { .. } => PlanVerdict::NoRoom,
            Verdict::NotAllowed(_) | Verdict::BelowFloor { .. } | Verdict::CannotBeMade => PlanVerdict::NotUsed,
        },
        chosen: chosen == Some(&judged.candidate),
        active: loaded.is_some_and(|loaded| loaded.candidate == judged.candidate),
    });
    let (choice, warns) = choice(found);
    let worth_making = found.worth_making.map(|index| &found.candidates[index]);
    PlanStatus {
        model: wanted.model.clone(),
        wish: match wanted.wishes.precision {
            PrecisionWish::Automatic => "the precision follows the memory".to_owned(),
            PrecisionWish::Pinned(precision) => format!("{precision} and no other"),
            PrecisionWish::Explicit(precision) => format!("{precision} was chosen, so nothing steps by itself"),
        },
        candidates: rows.collect(),
        choice,
        warns,
        worth_making: worth_making.map(|judged| judged.sentence.clone()),
        source: worth_making
            .and_then(|judged| Catalogue::builtin().find(&judged.candidate.model))
            .map(|entry| entry.repo.clone()),
        shortage: found.shortage.clone(),
    }
}

/// What the program knows of this machine, for those who only ask.
pub fn history(home: &embedbar_store::Home) -> History {
    Remembered::open(home.history()).history()
}
