//! The governor: when something is unloaded, made smaller, stepped down or up again.
//!
//! ```text
//! WARN for seconds, CRITICAL, or paging
//!   ─► unload what is idle besides what answers ─► smaller batches ─► a narrower precision that is ready and certified
//!   ─► (own search, where allowed) a smaller model ─► the remote endpoint ─► tell the user
//! minutes of calm ─► full batches ─► whatever the plan prefers and has had room to spare for
//! ```
//!
//! One thing is done at a time, and the next only after its effect was measured. A step up that is soon regretted
//! doubles the calm that the next one waits for. The governor reads no clock and does nothing itself: it is told the
//! time and what was loaded, and says what to do.
//!
//! What is not here: the choice of what fits (that is [`crate::plan()`]), loading, queues, anything durable: its steps
//! are never written into the settings.

use std::fmt;
use std::time::Duration;

use embedbar_contract::Pressure;

use crate::baseline::{Baselines, PageIns};
use crate::{Candidate, Choice, Judged, Plan, Reading, Thresholds, Verdict, Wishes, text};

/// The governor's numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GovernorRules {
    /// How long the system reports WARN before something is done.
    pub warn_for: Duration,
    /// How long it reports CRITICAL before something is done.
    pub critical_for: Duration,
    /// How long a measure is given to show its effect, and how long evidence of paging counts.
    pub settle: Duration,
    /// How long it is calm before something steps up.
    pub calm_for: Duration,
    /// The longest that this grows to.
    pub calm_for_at_most: Duration,
    /// Trouble that follows a step up this soon speaks against it.
    pub regret_within: Duration,
    /// What was not used for this long is idle when memory is short.
    pub idle_after: Duration,
    /// How long a model stays loaded unused where no request says otherwise.
    pub keep_alive: KeepAlive,
    /// How long a model stays loaded at least, so that clients that take turns cannot make it thrash.
    pub least_residence: Duration,
    /// A step of which nothing was heard for this long has failed.
    pub step_within: Duration,
    /// Readings further apart than this say nothing about what was between them: the machine slept.
    pub gap: Duration,
    /// A query that takes this many times its baseline is slow.
    pub slow: f64,
    /// Page-ins below this rate are not called rising.
    pub page_in_bytes_per_second: f64,
}

impl Default for GovernorRules {
    fn default() -> Self {
        Self {
            warn_for: Duration::from_secs(5),
            critical_for: Duration::from_secs(1),
            settle: Duration::from_secs(10),
            calm_for: Duration::from_mins(5),
            calm_for_at_most: Duration::from_hours(1),
            regret_within: Duration::from_mins(10),
            idle_after: Duration::from_secs(30),
            keep_alive: KeepAlive::For(Duration::from_mins(30)),
            least_residence: Duration::from_mins(1),
            step_within: Duration::from_mins(5),
            gap: Duration::from_secs(30),
            slow: 5.0,
            page_in_bytes_per_second: 1_048_576.0,
        }
    }
}

/// How long a model stays loaded after its last request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum KeepAlive {
    /// For so long; zero unloads at once.
    For(Duration),
    /// Until something else unloads it.
    Forever,
}

/// What answers.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Place {
    /// A model on this machine.
    Local(Candidate),
    /// The remote endpoint.
    Remote,
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local(candidate) => candidate.fmt(formatter),
            Self::Remote => formatter.write_str("the remote endpoint"),
        }
    }
}

/// How large batches are.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub enum Batch {
    /// As large as the settings say.
    #[default]
    Full,
    /// A quarter of that.
    Quarter,
}

impl Batch {
    /// Tokens of a batch, of those that the settings say.
    pub fn tokens(self, full: u64) -> u64 {
        match self {
            Self::Full => full,
            Self::Quarter => (full / 4).max(1),
        }
    }
}

/// A change of what answers.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Step {
    /// What answers now.
    pub from: Place,
    /// What is to answer.
    pub to: Place,
}

/// Something to do.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Action {
    /// End the worker that holds this.
    Unload(Candidate),
    /// Use batches of this size.
    Batch(Batch),
    /// Replace what answers by something that takes less.
    StepDown(Step),
    /// Replace what answers by what the plan prefers.
    StepUp(Step),
    /// Nothing that is allowed would help: say so.
    Tell,
}

/// Why something is done.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Cause {
    /// The system is short of memory.
    Pressure {
        /// What it reports.
        level: Pressure,
        /// For how long it has been reporting more than normal.
        lasting: Duration,
    },
    /// The model is paged out.
    Paging {
        /// How long a query took or is taking.
        elapsed: Duration,
        /// What such queries take when they are warm.
        baseline: Duration,
        /// Bytes that are read back per second.
        page_ins_per_second: u64,
    },
    /// Nobody has asked for it.
    Idle {
        /// For how long.
        lasting: Duration,
    },
    /// Nothing has been wrong.
    Calm {
        /// For how long.
        lasting: Duration,
    },
}

impl fmt::Display for Cause {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Pressure { level, lasting } => {
                let level = match level {
                    Pressure::Normal => "NORMAL",
                    Pressure::Warn => "WARN",
                    Pressure::Critical => "CRITICAL",
                };
                write!(formatter, "the system has been short of memory for {}, now {level}", seconds(lasting))
            }
            Self::Paging { elapsed, baseline, page_ins_per_second } => write!(
                formatter,
                "a query took {:.2} s, warm ones take {:.2} s, and {} per second are paged in",
                elapsed.as_secs_f64(),
                baseline.as_secs_f64(),
                text::bytes(page_ins_per_second)
            ),
            Self::Idle { lasting } => write!(formatter, "nobody has asked for {}", seconds(lasting)),
            Self::Calm { lasting } => write!(formatter, "it has been calm for {}", seconds(lasting)),
        }
    }
}

fn seconds(duration: Duration) -> String {
    format!("{} s", duration.as_secs())
}

/// What a measure changed, some time after it.
#[derive(Clone, Debug, PartialEq)]
pub struct Effect {
    /// The measure's number.
    pub id: u64,
    /// When it was measured.
    pub at: Duration,
    /// What was available before, where it was known.
    pub available_before: Option<u64>,
    /// What is available now.
    pub available_after: Option<u64>,
    /// The pressure before.
    pub pressure_before: Option<Pressure>,
    /// The pressure now.
    pub pressure_after: Option<Pressure>,
}

impl fmt::Display for Effect {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.available_before, self.available_after) {
            (Some(before), Some(after)) if after == before => formatter.write_str("as much is available as before"),
            (Some(before), Some(after)) if after > before => {
                write!(formatter, "{} more are available", text::bytes(after - before))
            }
            (Some(before), Some(after)) => write!(formatter, "{} less are available", text::bytes(before - after)),
            _ => formatter.write_str("how much is available is not known"),
        }
    }
}

/// What the governor says.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// Something is to be done.
    Act {
        /// Counts up from 1.
        id: u64,
        /// When it was decided.
        at: Duration,
        /// What.
        action: Action,
        /// Why.
        cause: Cause,
        /// Both in words, with the numbers.
        reason: String,
    },
    /// What an earlier measure changed.
    Effect(Effect),
}

/// A query that was answered or is being answered.
#[derive(Clone, Debug, PartialEq)]
pub struct QuerySeen {
    /// By what.
    pub candidate: Candidate,
    /// Tokens that it has.
    pub tokens: u64,
    /// How long its forward pass took, or has been taking.
    pub elapsed: Duration,
    /// Whether it was answered.
    pub finished: bool,
}

/// What the governor is told about once a second.
#[derive(Clone, Copy, Debug)]
pub struct Tick<'a> {
    /// The time.
    pub at: Duration,
    /// The machine.
    pub reading: &'a Reading,
    /// Bytes per second that were read back from disk or swap into memory; `None` where it is not known.
    pub page_ins_per_second: Option<f64>,
    /// Queries that ended since the last tick, and the one that runs.
    pub queries: &'a [QuerySeen],
    /// The plan for what answers now, by this reading.
    pub plan: &'a Plan,
    /// What is wanted of what answers now.
    pub wishes: &'a Wishes,
    /// The planner's numbers.
    pub thresholds: &'a Thresholds,
}

/// A loaded model.
#[derive(Clone, Debug)]
struct Resident {
    candidate: Candidate,
    loaded_at: Duration,
    used_at: Duration,
    keep_alive: KeepAlive,
    pinned: bool,
    in_flight: usize,
    /// Whether a query was answered since it was loaded: the first one is not warm.
    warm: bool,
    /// The number of the measure that unloads it.
    leaving: Option<u64>,
}

impl Resident {
    fn may_leave(&self) -> bool {
        !self.pinned && self.in_flight == 0 && self.leaving.is_none()
    }
}

/// A step that was ordered and of which nothing was heard yet.
#[derive(Clone, Debug)]
struct Pending {
    id: u64,
    since: Duration,
    to: Place,
    up: bool,
}

/// A measure whose effect is still to be measured.
#[derive(Clone, Debug)]
struct Unmeasured {
    id: u64,
    due: Duration,
    available: Option<u64>,
    pressure: Option<Pressure>,
}

/// The state machine.
#[derive(Clone, Debug)]
pub struct Governor {
    rules: GovernorRules,
    residents: Vec<Resident>,
    active: Option<Place>,
    batch: Batch,
    baselines: Baselines,
    page_ins: PageIns,
    last_tick: Option<Duration>,
    /// Since when the system has been reporting more than normal.
    short_since: Option<Duration>,
    critical_since: Option<Duration>,
    /// The latest evidence of paging, until it was acted on.
    paging: Option<(Duration, Cause)>,
    calm_since: Option<Duration>,
    /// Since when the plan has been preferring something to what answers.
    room_since: Option<Duration>,
    calm_wanted: Duration,
    stepped_up_at: Option<Duration>,
    acted_at: Option<Duration>,
    pending: Option<Pending>,
    unmeasured: Vec<Unmeasured>,
    /// Whether the user was told that nothing more can be done, in this bout of trouble.
    told: bool,
    last_id: u64,
}

impl Governor {
    /// A governor that knows of no model yet.
    pub fn new(rules: GovernorRules) -> Self {
        Self {
            rules,
            residents: Vec::new(),
            active: None,
            batch: Batch::Full,
            baselines: Baselines::default(),
            page_ins: PageIns::default(),
            last_tick: None,
            short_since: None,
            critical_since: None,
            paging: None,
            calm_since: None,
            room_since: None,
            calm_wanted: rules.calm_for,
            stepped_up_at: None,
            acted_at: None,
            pending: None,
            unmeasured: Vec::new(),
            told: false,
            last_id: 0,
        }
    }

    /// How large batches are to be.
    pub fn batch(&self) -> Batch {
        self.batch
    }

    /// What answers.
    pub fn active(&self) -> Option<&Place> {
        self.active.as_ref()
    }

    /// `candidate` was loaded beside what is loaded already.
    pub fn loaded(&mut self, at: Duration, candidate: &Candidate) {
        self.residents.retain(|resident| resident.candidate != *candidate);
        self.residents.push(Resident {
            candidate: candidate.clone(),
            loaded_at: at,
            used_at: at,
            keep_alive: self.rules.keep_alive,
            pinned: false,
            in_flight: 0,
            warm: false,
            leaving: None,
        });
    }

    /// `place` answers from now on. A model has to be [`Self::loaded`] before.
    pub fn activated(&mut self, at: Duration, place: &Place) {
        if let Some(pending) = self.pending.take_if(|pending| pending.to == *place) {
            if pending.up {
                self.stepped_up_at = Some(at);
            }
            // Loading may have taken longer than a measure is given to show its effect.
            for unmeasured in self.unmeasured.iter_mut().filter(|unmeasured| unmeasured.id == pending.id) {
                unmeasured.due = at + self.rules.settle;
            }
        }
        self.active = Some(place.clone());
        (self.calm_since, self.room_since) = (None, None);
    }

    /// `candidate` is gone: unloaded, replaced or dead.
    pub fn unloaded(&mut self, candidate: &Candidate) {
        self.residents.retain(|resident| resident.candidate != *candidate);
        if self.active.as_ref().is_some_and(|active| *active == Place::Local(candidate.clone())) {
            self.active = None;
        }
    }

    /// The measure with this number could not be carried out. What there was stays; the next attempt waits as after a
    /// measure.
    pub fn failed(&mut self, at: Duration, id: u64) {
        self.pending.take_if(|pending| pending.id == id);
        self.unmeasured.retain(|unmeasured| unmeasured.id != id);
        for resident in self.residents.iter_mut().filter(|resident| resident.leaving == Some(id)) {
            resident.leaving = None;
        }
        self.acted_at = Some(at);
        self.calm_since = None;
    }

    /// A request for `candidate` arrived.
    pub fn began(&mut self, at: Duration, candidate: &Candidate) {
        if let Some(resident) = self.resident(candidate) {
            resident.used_at = at;
            resident.in_flight += 1;
        }
    }

    /// A request for `candidate` was answered; it may have said how long the model is to stay.
    pub fn ended(&mut self, at: Duration, candidate: &Candidate, keep_alive: Option<KeepAlive>) {
        if let Some(resident) = self.resident(candidate) {
            resident.used_at = at;
            resident.in_flight = resident.in_flight.saturating_sub(1);
            resident.keep_alive = keep_alive.unwrap_or(resident.keep_alive);
        }
    }

    /// Whether `candidate` is never unloaded nor replaced by the governor.
    pub fn pin(&mut self, candidate: &Candidate, pinned: bool) {
        if let Some(resident) = self.resident(candidate) {
            resident.pinned = pinned;
        }
    }

    /// How long `candidate` stays loaded unused from now on.
    pub fn keep_alive(&mut self, candidate: &Candidate, keep_alive: KeepAlive) {
        if let Some(resident) = self.resident(candidate) {
            resident.keep_alive = keep_alive;
        }
    }

    /// Whether `candidate` may be unloaded to make room for another model; if not yet, how long that takes. A pinned
    /// one never may: [`Duration::MAX`].
    pub fn may_evict(&self, at: Duration, candidate: &Candidate) -> Result<(), Duration> {
        let Some(resident) = self.residents.iter().find(|resident| resident.candidate == *candidate) else {
            return Ok(());
        };
        if resident.pinned {
            return Err(Duration::MAX);
        }
        let left = (resident.loaded_at + self.rules.least_residence).saturating_sub(at);
        if left.is_zero() { Ok(()) } else { Err(left) }
    }

    fn resident(&mut self, candidate: &Candidate) -> Option<&mut Resident> {
        self.residents.iter_mut().find(|resident| resident.candidate == *candidate)
    }

    /// Takes what happened since the last tick and says what to do.
    pub fn tick(&mut self, tick: &Tick) -> Vec<Event> {
        let mut events = Vec::new();
        let at = tick.at;
        if self.last_tick.is_some_and(|last| at.saturating_sub(last) > self.rules.gap) {
            (self.short_since, self.critical_since) = (None, None);
            (self.calm_since, self.room_since) = (None, None);
        }
        self.last_tick = Some(at);
        self.watch_queries(tick);
        self.watch_pressure(tick);
        self.measure(tick, &mut events);
        if self.pending.as_ref().is_some_and(|pending| at.saturating_sub(pending.since) >= self.rules.step_within) {
            self.pending = None;
        }
        self.unload_unused(tick, &mut events);
        if self.pending.is_none() {
            match self.trouble(at) {
                Some(cause) => self.relieve(tick, cause, &mut events),
                None => self.restore(tick, &mut events),
            }
        }
        events
    }

    fn watch_queries(&mut self, tick: &Tick) {
        let rises = self.page_ins.rise(tick.page_ins_per_second, &self.rules);
        for query in tick.queries {
            let baseline = self.baselines.of(&query.candidate, query.tokens);
            let slow = baseline.filter(|baseline| query.elapsed >= baseline.mul_f64(self.rules.slow));
            if let Some(baseline) = slow.filter(|_| rises) {
                let page_ins_per_second = tick.page_ins_per_second.unwrap_or(0.0) as u64;
                let cause = Cause::Paging { elapsed: query.elapsed, baseline, page_ins_per_second };
                self.paging = Some((tick.at, cause));
            } else if query.finished {
                let warm =
                    self.resident(&query.candidate).is_some_and(|resident| std::mem::replace(&mut resident.warm, true));
                if warm {
                    self.baselines.add(&query.candidate, query.tokens, query.elapsed);
                }
            }
        }
    }

    fn watch_pressure(&mut self, tick: &Tick) {
        let at = tick.at;
        let since = |holds: bool, since: Option<Duration>| holds.then(|| since.unwrap_or(at));
        let pressure = tick.reading.memory.pressure;
        let short = pressure >= Some(Pressure::Warn);
        self.short_since = since(short, self.short_since);
        self.critical_since = since(pressure == Some(Pressure::Critical), self.critical_since);
        if self.paging.is_some_and(|(seen, _)| at.saturating_sub(seen) > self.rules.settle) {
            self.paging = None;
        }
        let calm = tick.reading.shortage(tick.thresholds).is_none() && self.paging.is_none();
        self.calm_since = since(calm, self.calm_since);
        if let Some(lasting) = self.calm_since.map(|since| at.saturating_sub(since)) {
            if lasting >= self.rules.settle {
                self.told = false;
            }
            if lasting >= self.rules.calm_for_at_most {
                self.calm_wanted = self.rules.calm_for;
            }
        }
    }

    /// What is wrong for long enough to do something about it.
    fn trouble(&self, at: Duration) -> Option<Cause> {
        let lasting = |since: Option<Duration>| since.map(|since| at.saturating_sub(since));
        let pressure = |level| {
            let lasting = lasting(self.short_since).unwrap_or_default();
            Cause::Pressure { level, lasting }
        };
        if lasting(self.critical_since).is_some_and(|lasting| lasting >= self.rules.critical_for) {
            return Some(pressure(Pressure::Critical));
        }
        if let Some((_, cause)) = self.paging {
            return Some(cause);
        }
        lasting(self.short_since).filter(|lasting| *lasting >= self.rules.warn_for).map(|_| pressure(Pressure::Warn))
    }

    /// Says what measures have changed, once they had time to.
    fn measure(&mut self, tick: &Tick, events: &mut Vec<Event>) {
        let memory = &tick.reading.memory;
        let pending = self.pending.as_ref().map(|pending| pending.id);
        self.unmeasured.retain(|unmeasured| {
            let due = unmeasured.due <= tick.at && pending != Some(unmeasured.id);
            if due {
                events.push(Event::Effect(Effect {
                    id: unmeasured.id,
                    at: tick.at,
                    available_before: unmeasured.available,
                    available_after: memory.available_bytes,
                    pressure_before: unmeasured.pressure,
                    pressure_after: memory.pressure,
                }));
            }
            !due
        });
    }

    /// Unloads what nobody has asked for, for as long as it was to stay.
    fn unload_unused(&mut self, tick: &Tick, events: &mut Vec<Event>) {
        let at = tick.at;
        let least_residence = self.rules.least_residence;
        let expired = |resident: &Resident| match resident.keep_alive {
            KeepAlive::Forever => false,
            KeepAlive::For(Duration::ZERO) => true,
            KeepAlive::For(stay) => at >= (resident.used_at + stay).max(resident.loaded_at + least_residence),
        };
        let unused = self.residents.iter().filter(|resident| resident.may_leave() && expired(resident));
        let unused: Vec<_> = unused.map(|resident| (resident.candidate.clone(), resident.used_at)).collect();
        for (candidate, used_at) in unused {
            self.unload(tick, &candidate, Cause::Idle { lasting: at.saturating_sub(used_at) }, events);
        }
    }

    /// One measure against trouble, the mildest first; none before the last one has shown its effect.
    fn relieve(&mut self, tick: &Tick, cause: Cause, events: &mut Vec<Event>) {
        let at = tick.at;
        if self.acted_at.is_some_and(|acted| at.saturating_sub(acted) < self.rules.settle) {
            return;
        }
        let regretted = self.stepped_up_at.take_if(|stepped| at.saturating_sub(*stepped) <= self.rules.regret_within);
        if regretted.is_some() {
            self.calm_wanted = (self.calm_wanted * 2).min(self.rules.calm_for_at_most);
        }
        let urgent = !matches!(cause, Cause::Pressure { level: Pressure::Normal | Pressure::Warn, .. });
        let stayed = |resident: &Resident| urgent || at >= resident.loaded_at + self.rules.least_residence;
        // What answers is worth more than the others: it is unloaded only at last.
        let answers = |resident: &Resident| self.active == Some(Place::Local(resident.candidate.clone()));
        let idle = self.residents.iter().find(|resident| {
            resident.may_leave() && stayed(resident) && self.is_idle(resident, at) && !answers(resident)
        });
        if let Some(candidate) = idle.map(|resident| resident.candidate.clone()) {
            self.unload(tick, &candidate, cause, events);
            return;
        }
        let Some(active) = self.active.clone() else { return };
        if self.batch == Batch::Full && active != Place::Remote {
            self.batch = Batch::Quarter;
            let what = "batches are a quarter as large";
            self.act(tick, Action::Batch(Batch::Quarter), cause, what, events);
            return;
        }
        let Place::Local(candidate) = &active else { return };
        let resident = self.residents.iter().find(|resident| resident.candidate == *candidate);
        if resident.is_some_and(|resident| !stayed(resident)) {
            return;
        }
        let pinned = resident.is_some_and(|resident| resident.pinned);
        // Where the precision was chosen explicitly, the plan refuses all others and the remote endpoint.
        let down = if pinned { None } else { down(tick, candidate) };
        if let Some((to, why)) = down {
            let step = Step { from: active, to };
            self.step(tick, &step, Action::StepDown(step.clone()), (cause, &why), events);
            return;
        }
        // At last: what nobody is using is not worth swapping for.
        let critical = matches!(cause, Cause::Pressure { level: Pressure::Critical, .. });
        if critical && resident.is_some_and(|resident| resident.may_leave() && self.is_idle(resident, at)) {
            let candidate = candidate.clone();
            self.unload(tick, &candidate, cause, events);
        } else if !self.told {
            self.told = true;
            let why = if pinned {
                "it is pinned"
            } else if tick.wishes.steps_by_itself() {
                "nothing that is ready and allowed takes noticeably less"
            } else {
                "its precision was chosen explicitly"
            };
            self.act(tick, Action::Tell, cause, &format!("{active} stays: {why}"), events);
        }
    }

    /// Undoes what calm no longer needs, one thing at a time.
    fn restore(&mut self, tick: &Tick, events: &mut Vec<Event>) {
        let at = tick.at;
        let preferred = self.preferred(tick);
        self.room_since = preferred.as_ref().map(|_| self.room_since.unwrap_or(at));
        let Some(lasting) = self.calm_since.map(|since| at.saturating_sub(since)) else { return };
        if lasting < self.calm_wanted {
            return;
        }
        let cause = Cause::Calm { lasting };
        if self.batch != Batch::Full {
            self.batch = Batch::Full;
            self.act(tick, Action::Batch(Batch::Full), cause, "batches are as large as the settings say", events);
            return;
        }
        let lasts = self.room_since.is_some_and(|since| at.saturating_sub(since) >= self.calm_wanted);
        if let Some((step, sentence)) = preferred.filter(|_| lasts) {
            self.step(tick, &step, Action::StepUp(step.clone()), (cause, &sentence), events);
        }
    }

    /// What the plan prefers to what answers, where the governor may step to it, and the plan's sentence.
    fn preferred(&self, tick: &Tick) -> Option<(Step, String)> {
        let active = self.active.clone().filter(|_| tick.wishes.steps_by_itself())?;
        let Choice::Local { index, warning: None } = tick.plan.choice else { return None };
        let chosen = tick.plan.candidates.get(index)?;
        let better = match &active {
            Place::Remote => true,
            Place::Local(candidate) => {
                let pinned = self.residents.iter().any(|found| found.candidate == *candidate && found.pinned);
                !pinned && tick.plan.rank(candidate).is_some_and(|rank| index < rank)
            }
        };
        let step = Step { from: active, to: Place::Local(chosen.candidate.clone()) };
        better.then(|| (step, chosen.sentence.clone()))
    }

    fn unload(&mut self, tick: &Tick, candidate: &Candidate, cause: Cause, events: &mut Vec<Event>) {
        let action = Action::Unload(candidate.clone());
        let id = self.act(tick, action, cause, &format!("{candidate} is unloaded"), events);
        if let Some(resident) = self.resident(candidate) {
            resident.leaving = Some(id);
        }
    }

    fn step(&mut self, tick: &Tick, step: &Step, action: Action, why: (Cause, &str), events: &mut Vec<Event>) {
        let (cause, sentence) = why;
        let up = matches!(action, Action::StepUp(_));
        let what = format!("{} is replaced by {} ({sentence})", step.from, step.to);
        let id = self.act(tick, action, cause, &what, events);
        self.pending = Some(Pending { id, since: tick.at, to: step.to.clone(), up });
    }

    fn is_idle(&self, resident: &Resident, at: Duration) -> bool {
        at.saturating_sub(resident.used_at) >= self.rules.idle_after
    }

    fn act(&mut self, tick: &Tick, action: Action, cause: Cause, what: &str, events: &mut Vec<Event>) -> u64 {
        self.last_id += 1;
        let (id, at) = (self.last_id, tick.at);
        let memory = &tick.reading.memory;
        if action != Action::Tell {
            let (available, pressure) = (memory.available_bytes, memory.pressure);
            self.unmeasured.push(Unmeasured { id, due: at + self.rules.settle, available, pressure });
        }
        self.acted_at = Some(at);
        self.calm_since = None;
        self.paging = None;
        events.push(Event::Act { id, at, reason: format!("{what}: {cause}"), action, cause });
        id
    }
}

/// What takes noticeably less than `active` and may replace it by itself, and the plan's sentence about it.
fn down(tick: &Tick, active: &Candidate) -> Option<(Place, String)> {
    let total = tick.reading.memory.total_bytes.unwrap_or(0);
    step_down(tick.plan, active, (total as f64 * tick.thresholds.least_relief_share) as u64)
}

/// What takes at least `least_relief` bytes less than `active` and may replace it by itself.
pub(crate) fn step_down(plan: &Plan, active: &Candidate, least_relief: u64) -> Option<(Place, String)> {
    let present = &plan.candidates[plan.rank(active)?];
    let local = |judged: &Judged| (Place::Local(judged.candidate.clone()), judged.sentence.clone());
    let at_most = present.needs_bytes.checked_sub(least_relief.max(1))?;
    let less = |judged: &&Judged| judged.ready && judged.needs_bytes <= at_most;
    let narrower =
        |judged: &&Judged| judged.candidate.model == active.model && judged.candidate.precision > active.precision;
    let fits = |judged: &&Judged| judged.verdict == Verdict::Fits;
    let same_model = || plan.candidates.iter().filter(less).filter(narrower);
    // Where nothing leaves the whole reserve free, the narrowest still takes less than what is there.
    let squeezed =
        |judged: &&Judged| matches!(judged.verdict, Verdict::DoesNotFit { .. }) && !judged.candidate.backend.uses_gpu();
    let precision =
        same_model().find(fits).or_else(|| same_model().filter(squeezed).min_by_key(|judged| judged.needs_bytes));
    if let Some(judged) = precision {
        return Some(local(judged));
    }
    // Only the plan knows whether they are allowed; it says so in their verdicts.
    let smaller =
        plan.candidates.iter().filter(less).find(|judged| judged.candidate.model != active.model && fits(judged));
    if let Some(judged) = smaller {
        return Some(local(judged));
    }
    let remote = plan.remote.as_ref().filter(|remote| remote.allowed)?;
    Some((Place::Remote, remote.sentence.clone()))
}
