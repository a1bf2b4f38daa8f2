//! The governor: each rule by itself, then whole days of simulated machines.

use std::fmt::Write as _;
use std::time::Duration;

use embedbar_contract::Precision::{self, FourBit, Fp16, Int8};
use embedbar_contract::{MemoryReading, Pressure};
use embedbar_planner::trace::{Trace, TraceMachine};
use embedbar_planner::{
    Action, Artefact, Backend, Batch, Candidate, Cause, Effect, Event, Governor, GovernorRules, History, KeepAlive,
    Place, Plan, PrecisionWish, Present, Purpose, QuerySeen, Reading, Standing, Step, System, Thresholds, Tick, Wishes,
    plan,
};

use proptest::prelude::*;

use crate::machines::{candidate, entry, gb, gguf, ggufs};

fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// A governor with the machine, the models and the caller that carries out what it says.
struct Rig {
    governor: Governor,
    wishes: Wishes,
    models: Vec<&'static str>,
    artefacts: Vec<Artefact>,
    history: History,
    thresholds: Thresholds,
    system: System,
    /// What answers, with what it holds.
    present: Option<Present>,
    queries: Vec<QuerySeen>,
    page_ins: Option<f64>,
    events: Vec<Event>,
    /// Every other model that was unloaded.
    unloaded: Vec<Candidate>,
    remote: bool,
}

impl Rig {
    fn new(models: &[&'static str], artefacts: Vec<Artefact>) -> Self {
        Self {
            governor: Governor::new(GovernorRules::default()),
            wishes: Wishes { purpose: Purpose::OwnSearch, ..Wishes::default() },
            models: models.to_vec(),
            artefacts,
            history: History::default(),
            thresholds: Thresholds::default(),
            system: System::SimulatedMac,
            present: None,
            queries: Vec::new(),
            page_ins: Some(0.0),
            events: Vec::new(),
            unloaded: Vec::new(),
            remote: false,
        }
    }

    /// With 4B in `precision` loaded at 0 s and answering, for ever where nothing else unloads it.
    fn with_4b(precision: Precision) -> Self {
        let mut rig = Self::new(&["qwen3-4b"], ggufs("qwen3-4b"));
        let candidate = candidate("qwen3-4b", precision, Backend::Cpu);
        rig.load(s(0), candidate.clone());
        rig.governor.ended(s(0), &candidate, Some(KeepAlive::Forever));
        rig
    }

    fn reading(&self, memory: MemoryReading) -> Reading {
        Reading { present: self.present.clone(), ..Reading::new(self.system, memory) }
    }

    fn plan(&self, reading: &Reading) -> Plan {
        let entries: Vec<_> = self.models.iter().map(|model| entry(model)).collect();
        plan(&self.wishes, &entries, &self.artefacts, reading, &self.history, &self.thresholds)
    }

    /// Loads what is to answer, in place of what does.
    fn load(&mut self, at: Duration, candidate: Candidate) {
        let roomy =
            MemoryReading { total_bytes: Some(1 << 40), available_bytes: Some(1 << 40), ..MemoryReading::default() };
        let judged = self.plan(&Reading::new(self.system, roomy)).candidates;
        let found = judged.iter().find(|judged| judged.candidate == candidate).expect("it is a candidate");
        let held_bytes = found.running_bytes;
        if let Some(before) = self.present.take() {
            self.governor.unloaded(&before.candidate);
        }
        self.governor.loaded(at, &candidate);
        self.governor.activated(at, &Place::Local(candidate.clone()));
        self.present = Some(Present { candidate, held_bytes, running_bytes: held_bytes });
        self.remote = false;
    }

    /// One second: gives what was said, and does it.
    fn tick(&mut self, at: Duration, memory: MemoryReading) -> Vec<Event> {
        let reading = self.reading(memory);
        let plan = self.plan(&reading);
        let queries = std::mem::take(&mut self.queries);
        let tick = Tick {
            at,
            reading: &reading,
            page_ins_per_second: self.page_ins,
            queries: &queries,
            plan: &plan,
            wishes: &self.wishes,
            thresholds: &self.thresholds,
        };
        let events = self.governor.tick(&tick);
        for event in &events {
            let Event::Act { action, .. } = event else { continue };
            match action.clone() {
                Action::Unload(candidate) => {
                    self.governor.unloaded(&candidate);
                    if self.present.as_ref().is_some_and(|present| present.candidate == candidate) {
                        self.present = None;
                    }
                    self.unloaded.push(candidate);
                }
                Action::StepDown(Step { to, .. }) | Action::StepUp(Step { to, .. }) => match to {
                    Place::Local(candidate) => self.load(at, candidate),
                    Place::Remote => {
                        if let Some(before) = self.present.take() {
                            self.governor.unloaded(&before.candidate);
                        }
                        self.governor.activated(at, &Place::Remote);
                        self.remote = true;
                    }
                },
                Action::Batch(_) | Action::Tell => {}
            }
        }
        self.events.extend(events.iter().cloned());
        events
    }

    /// Ticks each second from `from` to `to` with the same memory; gives what was ordered, with its time.
    fn run(&mut self, from: u64, to: u64, memory: &MemoryReading) -> Vec<(u64, Action)> {
        let mut ordered = Vec::new();
        for at in from..to {
            for event in self.tick(s(at), memory.clone()) {
                if let Event::Act { action, .. } = event {
                    ordered.push((at, action));
                }
            }
        }
        ordered
    }

    fn precision(&self) -> Option<Precision> {
        self.present.as_ref().map(|present| present.candidate.precision)
    }

    /// Gives the query that the next tick sees.
    fn query(&mut self, milliseconds: u64, finished: bool) {
        let candidate = self.present.as_ref().expect("something is loaded").candidate.clone();
        self.queries.push(QuerySeen { candidate, tokens: 20, elapsed: ms(milliseconds), finished });
    }

    /// Seconds `from` to `from + 8`: queries of 100 ms, which make a baseline.
    fn warm(&mut self, from: u64) {
        for at in from..from + 8 {
            self.query(100, true);
            let said = self.tick(s(at), memory(32.0, 20.0, Pressure::Normal));
            assert!(said.is_empty(), "{said:?}");
        }
    }
}

fn memory(total: f64, free: f64, pressure: Pressure) -> MemoryReading {
    MemoryReading {
        total_bytes: Some(gb(total)),
        available_bytes: Some(gb(free)),
        pressure: Some(pressure),
        swap_out_bytes_per_second: Some(0.0),
        ..MemoryReading::default()
    }
}

fn warn() -> MemoryReading {
    memory(16.0, 0.6, Pressure::Warn)
}

fn calm() -> MemoryReading {
    memory(64.0, 50.0, Pressure::Normal)
}

fn step_to(action: &Action) -> Option<&Place> {
    match action {
        Action::StepDown(step) | Action::StepUp(step) => Some(&step.to),
        Action::Unload(_) | Action::Batch(_) | Action::Tell => None,
    }
}

fn local(model: &str, precision: Precision) -> Place {
    Place::Local(candidate(model, precision, Backend::Cpu))
}

#[test]
fn pressure_has_to_last_and_is_answered_by_one_measure_at_a_time() {
    let mut rig = Rig::with_4b(Fp16);
    assert!(rig.run(100, 104, &warn()).is_empty(), "WARN for 3 seconds is nothing yet");
    assert!(rig.run(104, 105, &memory(16.0, 2.0, Pressure::Normal)).is_empty(), "and it ended");
    let ordered = rig.run(105, 150, &warn());
    let [(110, Action::Batch(Batch::Quarter)), (120, step)] = ordered.as_slice() else { panic!("{ordered:?}") };
    assert_eq!(step_to(step), Some(&local("qwen3-4b", Int8)));
}

#[test]
fn what_was_just_loaded_stays_for_its_least_residence_unless_it_is_urgent() {
    let mut rig = Rig::with_4b(Fp16);
    let ordered = rig.run(100, 300, &warn());
    let steps: Vec<u64> = ordered.iter().filter(|(_, action)| step_to(action).is_some()).map(|(at, _)| *at).collect();
    assert_eq!(steps.len(), 2, "{ordered:?}");
    assert!(steps[1] >= steps[0] + 60, "INT8 stays for a minute: {steps:?}");
    let mut urgent = Rig::with_4b(Fp16);
    let ordered = urgent.run(100, 150, &memory(16.0, 0.2, Pressure::Critical));
    let steps: Vec<u64> = ordered.iter().filter(|(_, action)| step_to(action).is_some()).map(|(at, _)| *at).collect();
    assert_eq!(steps, [111, 121], "a second, smaller batches, then each after the ten seconds of the one before");
    assert_eq!(urgent.precision(), Some(FourBit));
}

#[test]
fn idle_models_go_first_and_what_answers_goes_last() {
    let mut rig = Rig::with_4b(FourBit);
    let other = candidate("minilm", Int8, Backend::Cpu);
    rig.governor.loaded(s(0), &other);
    let ordered = rig.run(100, 160, &warn());
    let actions: Vec<&Action> = ordered.iter().map(|(_, action)| action).collect();
    assert_eq!(
        actions,
        [&Action::Unload(other), &Action::Batch(Batch::Quarter), &Action::Tell],
        "WARN does not unload what answers"
    );
    let answers = candidate("qwen3-4b", FourBit, Backend::Cpu);
    let ordered = rig.run(160, 200, &memory(16.0, 0.1, Pressure::Critical));
    assert_eq!(
        ordered.first().map(|(_, action)| action),
        Some(&Action::Unload(answers)),
        "CRITICAL does, as nobody uses it"
    );
}

#[test]
fn a_pinned_model_and_one_in_use_are_not_unloaded() {
    let mut rig = Rig::with_4b(FourBit);
    let (pinned, busy) = (candidate("minilm", Int8, Backend::Cpu), candidate("minilm", Fp16, Backend::Cpu));
    rig.governor.loaded(s(0), &pinned);
    rig.governor.loaded(s(0), &busy);
    rig.governor.pin(&pinned, true);
    rig.governor.began(s(1), &busy);
    rig.governor.pin(&candidate("qwen3-4b", FourBit, Backend::Cpu), true);
    let ordered = rig.run(100, 4000, &memory(16.0, 0.1, Pressure::Critical));
    assert!(ordered.iter().all(|(_, action)| !matches!(action, Action::Unload(_))), "{ordered:?}");
    rig.governor.ended(s(4000), &busy, None);
    let ordered = rig.run(4000, 4100, &memory(16.0, 0.1, Pressure::Critical));
    assert_eq!(ordered, [(4030, Action::Unload(busy))]);
}

#[test]
fn a_model_leaves_after_its_keep_alive_and_a_request_may_change_that() {
    let fp16 = candidate("qwen3-4b", Fp16, Backend::Cpu);
    let mut rig = Rig::new(&["qwen3-4b"], ggufs("qwen3-4b"));
    rig.load(s(0), fp16.clone());
    assert_eq!(
        rig.run(1, 2000, &calm()),
        [(1800, Action::Unload(fp16.clone()))],
        "half an hour where nobody says otherwise"
    );
    let mut rig = Rig::with_4b(Fp16);
    rig.governor.began(s(500), &fp16);
    rig.governor.ended(s(501), &fp16, Some(KeepAlive::For(s(120))));
    assert_eq!(rig.run(502, 700, &calm()), [(621, Action::Unload(fp16.clone()))]);
    let Some(Event::Act { cause, reason, .. }) = rig.events.first() else { panic!("{:?}", rig.events) };
    assert_eq!(*cause, Cause::Idle { lasting: s(120) });
    assert!(reason.ends_with("is unloaded: nobody has asked for 120 s"), "{reason}");
    let mut rig = Rig::with_4b(Fp16);
    rig.governor.ended(s(5), &fp16, Some(KeepAlive::For(Duration::ZERO)));
    assert_eq!(rig.run(6, 7, &calm()), [(6, Action::Unload(fp16.clone()))], "at once");
    let mut rig = Rig::with_4b(Fp16);
    rig.governor.ended(s(5), &fp16, Some(KeepAlive::Forever));
    assert!(rig.run(6, 8000, &calm()).is_empty());
}

#[test]
fn clients_that_take_turns_cannot_make_models_thrash() {
    let mut rig = Rig::with_4b(Int8);
    let loaded = candidate("qwen3-4b", Int8, Backend::Cpu);
    assert_eq!(rig.governor.may_evict(s(20), &loaded), Err(s(40)));
    assert_eq!(rig.governor.may_evict(s(60), &loaded), Ok(()));
    rig.governor.pin(&loaded, true);
    assert_eq!(rig.governor.may_evict(s(600), &loaded), Err(Duration::MAX));
    assert_eq!(rig.governor.may_evict(s(0), &candidate("minilm", Int8, Backend::Cpu)), Ok(()), "it is not loaded");
}

#[test]
fn a_query_of_five_times_its_baseline_is_paging_only_while_page_ins_rise() {
    let normal = || memory(32.0, 20.0, Pressure::Normal);
    let seen = |milliseconds, page_ins, finished| {
        let mut rig = Rig::with_4b(Fp16);
        rig.warm(10);
        rig.query(milliseconds, finished);
        rig.page_ins = page_ins;
        rig.tick(s(20), normal())
    };
    let many = Some(50e6);
    assert!(seen(499, many, true).is_empty(), "not slow enough");
    assert!(seen(50_000, Some(0.0), true).is_empty(), "slow for another reason");
    assert!(seen(50_000, None, true).is_empty(), "not known");
    for finished in [true, false] {
        let said = seen(500, many, finished);
        let [
            Event::Act {
                action: Action::Batch(Batch::Quarter),
                cause: Cause::Paging { elapsed, baseline, .. },
                reason,
                ..
            },
        ] = said.as_slice()
        else {
            panic!("{said:?}")
        };
        assert_eq!((*elapsed, *baseline), (ms(500), ms(100)));
        assert!(
            reason.contains("a query took 0.50 s, warm ones take 0.10 s, and 47.7 MB per second are paged in"),
            "{reason}"
        );
    }
}

#[test]
fn paging_steps_down_while_the_system_reports_nothing() {
    let mut rig = Rig::with_4b(Fp16);
    rig.warm(10);
    rig.page_ins = Some(50e6);
    for at in 20..45 {
        rig.query(6000, false);
        rig.tick(s(at), memory(16.0, 4.0, Pressure::Normal));
    }
    assert_eq!(rig.precision(), Some(Int8), "{:?}", rig.events);
}

#[test]
fn a_baseline_is_of_warm_queries_of_about_the_same_length() {
    let mut rig = Rig::with_4b(Fp16);
    rig.warm(10);
    let candidate = candidate("qwen3-4b", Fp16, Backend::Cpu);
    // A long text takes longer; there is no baseline of its length yet.
    rig.queries.push(QuerySeen { candidate, tokens: 400, elapsed: ms(2000), finished: true });
    rig.page_ins = Some(50e6);
    assert!(rig.tick(s(20), memory(32.0, 20.0, Pressure::Normal)).is_empty());
}

#[test]
fn an_explicit_precision_is_not_stepped_and_the_user_is_told_once_each_time() {
    let mut rig = Rig::with_4b(Fp16);
    rig.wishes.precision = PrecisionWish::Explicit(Fp16);
    let ordered = rig.run(100, 400, &warn());
    let actions: Vec<&Action> = ordered.iter().map(|(_, action)| action).collect();
    assert_eq!(actions, [&Action::Batch(Batch::Quarter), &Action::Tell]);
    let told = rig.events.iter().any(|event| {
        matches!(event, Event::Act { action: Action::Tell, reason, .. } if reason.contains("its precision was chosen explicitly"))
    });
    assert!(told);
    assert_eq!(rig.run(400, 1400, &calm()), [(700, Action::Batch(Batch::Full))]);
    let again: Vec<Action> = rig.run(1400, 1600, &warn()).into_iter().map(|(_, action)| action).collect();
    assert_eq!(again, [Action::Batch(Batch::Quarter), Action::Tell]);
}

#[test]
fn it_steps_only_to_what_is_ready_and_certified() {
    let mut rig = Rig::with_4b(Fp16);
    rig.artefacts = vec![gguf("qwen3-4b", Fp16)];
    assert_eq!(
        rig.run(100, 200, &warn()).last().map(|(_, action)| action.clone()),
        Some(Action::Tell),
        "nothing else is ready"
    );
    let mut rig = Rig::with_4b(Fp16);
    for artefact in rig.artefacts.iter_mut().filter(|artefact| artefact.precision == Int8) {
        artefact.standing = Standing::Compared { mean_cosine: 0.98, floor: 0.99 };
    }
    rig.run(100, 200, &warn());
    assert_eq!(rig.precision(), Some(FourBit), "INT8 is below its floor");
}

#[test]
fn a_smaller_model_and_the_remote_endpoint_come_last_and_only_for_our_own_search() {
    let with = |purpose, smaller_models| {
        let artefacts = ggufs("qwen3-4b").into_iter().chain(ggufs("minilm")).collect();
        let mut rig = Rig::new(&["qwen3-4b", "minilm"], artefacts);
        rig.wishes =
            Wishes { purpose, smaller_models, remote_host: Some("embeddings.example".to_owned()), ..Wishes::default() };
        rig.load(s(0), candidate("qwen3-4b", FourBit, Backend::Cpu));
        rig.run(100, 400, &memory(8.0, 0.3, Pressure::Warn));
        rig
    };
    let own = with(Purpose::OwnSearch, true);
    let steps = own.events.iter().filter_map(|event| match event {
        Event::Act { action, .. } => step_to(action).cloned(),
        Event::Effect(_) => None,
    });
    // MiniLM fits beside the reserve once 4B is gone. The pressure never ends, but MiniLM in 4 bits would give back 26
    // MB of 8 GB, and other vectors are not worth that.
    let expected = [local("minilm", Fp16), Place::Remote];
    assert_eq!(steps.collect::<Vec<_>>(), expected);
    let remote = with(Purpose::OwnSearch, false);
    assert!(remote.remote && remote.present.is_none());
    let api = with(Purpose::Api, true);
    assert_eq!(api.precision(), Some(FourBit));
    assert!(api.events.iter().all(|event| !matches!(event, Event::Act { action: Action::StepDown(_), .. })));
    // And back, once it is calm.
    let mut back = with(Purpose::OwnSearch, false);
    back.run(400, 1200, &calm());
    assert_eq!(back.precision(), Some(Fp16), "{:?}", back.events);
}

#[test]
fn calm_restores_batches_first_and_precision_after_as_long_again() {
    let mut rig = Rig::with_4b(Fp16);
    rig.run(100, 140, &warn());
    assert_eq!((rig.precision(), rig.governor.batch()), (Some(Int8), Batch::Quarter));
    let ordered = rig.run(140, 1000, &calm());
    let times: Vec<u64> = ordered.iter().map(|(at, _)| *at).collect();
    assert_eq!(ordered.first().map(|(_, action)| action), Some(&Action::Batch(Batch::Full)));
    assert_eq!(step_to(&ordered[1].1), Some(&local("qwen3-4b", Fp16)));
    assert!(times[0] >= 140 + 300 && times[1] >= times[0] + 300, "{times:?}");
    assert_eq!(ordered.len(), 2);
}

#[test]
fn it_does_not_step_up_without_room_to_spare() {
    let mut rig = Rig::with_4b(Int8);
    // 16 GB with 5.2 GB free beside INT8's 4.2: FP16 needs 7.8 and the reserve 1.3 and 0.8 to spare.
    let tight = memory(16.0, 5.2, Pressure::Normal);
    rig.history.usual_use = Some(embedbar_planner::UsualUse { used_bytes: gb(4.0) });
    assert!(rig.run(10, 1500, &tight).iter().all(|(_, action)| step_to(action).is_none()));
    let roomy = memory(16.0, 6.2, Pressure::Normal);
    assert!(rig.run(1500, 1900, &roomy).iter().any(|(_, action)| step_to(action) == Some(&local("qwen3-4b", Fp16))));
}

#[test]
fn a_step_up_that_is_regretted_doubles_the_calm_that_the_next_one_waits_for() {
    let mut rig = Rig::with_4b(Int8);
    let up = |ordered: &[(u64, Action)]| {
        ordered.iter().find(|(_, action)| matches!(action, Action::StepUp(_))).map(|(at, _)| *at)
    };
    let first = up(&rig.run(10, 400, &calm())).expect("it is calm");
    assert_eq!(first, 310);
    rig.run(400, 440, &warn());
    assert_eq!(rig.precision(), Some(Int8), "regretted within ten minutes");
    let ordered = rig.run(440, 2000, &calm());
    let batch = ordered.iter().find(|(_, action)| *action == Action::Batch(Batch::Full)).map(|(at, _)| *at);
    assert_eq!(batch, Some(440 + 600), "ten minutes instead of five");
    assert!(up(&ordered).is_some_and(|at| at >= 440 + 1200));
}

#[test]
fn a_gap_between_readings_is_not_calm() {
    let mut rig = Rig::with_4b(Int8);
    rig.run(10, 20, &calm());
    assert!(rig.run(5000, 5299, &calm()).iter().all(|(_, action)| step_to(action).is_none()), "the Mac slept");
    assert!(rig.run(5299, 5302, &calm()).iter().any(|(_, action)| step_to(action).is_some()));
}

#[test]
fn a_step_that_fails_leaves_everything_as_it_was_and_is_tried_again_later() {
    let mut rig = Rig::with_4b(Fp16);
    let reading = rig.reading(memory(16.0, 0.2, Pressure::Critical));
    let plan = rig.plan(&reading);
    let mut orders = Vec::new();
    for at in 100..130 {
        let tick = Tick {
            at: s(at),
            reading: &reading,
            page_ins_per_second: None,
            queries: &[],
            plan: &plan,
            wishes: &rig.wishes,
            thresholds: &rig.thresholds,
        };
        for event in rig.governor.tick(&tick) {
            if let Event::Act { id, action: Action::StepDown(_), .. } = event {
                orders.push(at);
                rig.governor.failed(s(at + 1), id);
            }
        }
    }
    assert_eq!(orders, [111, 122], "ten seconds after it failed");
    assert_eq!(rig.governor.active(), Some(&local("qwen3-4b", Fp16)));
}

#[test]
fn each_measure_has_its_effect_measured() {
    let mut rig = Rig::with_4b(Fp16);
    rig.run(100, 107, &warn());
    rig.run(107, 127, &memory(16.0, 4.6, Pressure::Normal));
    let effects: Vec<&Effect> = rig
        .events
        .iter()
        .filter_map(|event| if let Event::Effect(effect) = event { Some(effect) } else { None })
        .collect();
    let ids: Vec<u64> = rig
        .events
        .iter()
        .filter_map(|event| if let Event::Act { id, .. } = event { Some(*id) } else { None })
        .collect();
    assert_eq!(effects.iter().map(|effect| effect.id).collect::<Vec<_>>(), ids);
    let first = effects[0];
    assert_eq!((first.available_before, first.available_after), (Some(gb(0.6)), Some(gb(4.6))));
    assert_eq!((first.pressure_before, first.pressure_after), (Some(Pressure::Warn), Some(Pressure::Normal)));
    assert_eq!(first.to_string(), "4.0 GB more are available");
    assert_eq!(first.at, s(115), "ten seconds after it was ordered");
}

// ---------------------------------------------------------------- whole days

/// Plays a trace with a model, starting with what the plan chooses; gives the precisions that answered, with their
/// times.
fn day(name: &str, model: &'static str, scale_to_widest: bool) -> (Rig, Vec<(u64, Precision)>) {
    play(Trace::builtin(name).expect("it is there"), model, scale_to_widest)
}

fn play(trace: &Trace, model: &'static str, scale_to_widest: bool) -> (Rig, Vec<(u64, Precision)>) {
    let mut rig = Rig::new(&[model], ggufs(model));
    let mut machine = TraceMachine::new(trace.clone());
    if scale_to_widest {
        rig.load(s(0), candidate(model, Fp16, Backend::Cpu));
        let widest = rig.present.take().expect("it was loaded").held_bytes;
        rig = Rig::new(&[model], ggufs(model));
        let factor = TraceMachine::factor_for(trace, widest);
        machine = machine.scaled(factor);
        rig.thresholds = rig.thresholds.scaled(factor);
    }
    let first = rig.plan(&rig.reading(machine.reading(s(0), None)));
    rig.load(s(0), first.chosen().expect("something fits in the morning").candidate.clone());
    let mut answered = Vec::new();
    for at in 0..trace.duration().as_secs() {
        let held = rig.present.as_ref().map(|present| present.held_bytes);
        let place = rig.present.as_ref().map(|present| present.candidate.clone());
        if let Some(candidate) = place.filter(|_| at % 20 == 0) {
            // Somebody uses it all day.
            rig.governor.began(s(at), &candidate);
            rig.governor.ended(s(at), &candidate, None);
        }
        rig.page_ins = Some(machine.page_ins_per_second(s(at), held));
        rig.tick(s(at), machine.reading(s(at), held));
        let precision = rig.precision().expect("what answers is in use");
        if answered.last().is_none_or(|(_, last)| *last != precision) {
            answered.push((at, precision));
        }
    }
    (rig, answered)
}

fn precisions(answered: &[(u64, Precision)]) -> Vec<Precision> {
    answered.iter().map(|(_, precision)| *precision).collect()
}

#[test]
fn a_small_model_sees_each_rung_on_the_16_gb_day() {
    let (_, answered) = day("16gb-docker", "minilm", true);
    assert_eq!(precisions(&answered), [Fp16, Int8, FourBit, Fp16], "{answered:?}");
    let at = |place: usize| answered[place].0;
    assert!((240..900).contains(&at(1)), "Docker and the editor: {answered:?}");
    assert!((900..1600).contains(&at(2)), "the build: {answered:?}");
    assert!(at(3) > 3600 + 300, "minutes after they were quit: {answered:?}");
}

#[test]
fn the_real_4b_starts_in_int8_on_the_16_gb_day_and_comes_back_to_it() {
    let (rig, answered) = day("16gb-docker", "qwen3-4b", false);
    assert_eq!(precisions(&answered), [Int8, FourBit, Int8], "{answered:?}");
    let steps = rig
        .events
        .iter()
        .filter(|event| matches!(event, Event::Act { action: Action::StepUp(_) | Action::StepDown(_), .. }));
    assert_eq!(steps.count(), 2, "a build that spikes twice does not make it flap");
}

#[test]
fn an_8_gb_mac_that_is_short_by_itself_gets_down_to_4_bits_and_up_again_in_the_evening() {
    let (_, answered) = day("8gb-browser", "qwen3-0.6b", false);
    assert_eq!(precisions(&answered).iter().max(), Some(&FourBit), "{answered:?}");
    assert!(answered.last().is_some_and(|(at, last)| *at > 1860 + 300 && *last < FourBit), "{answered:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn on_no_day_does_it_flap(uses in prop::collection::vec((1_u64..900, 3_u64..15), 2..12)) {
        // What the others use moves from one level to the next, anything from idle to more than there is room for.
        let mut text = "total 16 GB\n0 4 normal 0\n".to_owned();
        let mut at = 0;
        for (lasting, used) in uses {
            at += lasting;
            let _ = writeln!(text, "{at} {used} normal 0");
        }
        let (rig, _) = play(&Trace::parse(&text).expect("it is good"), "qwen3-4b", false);
        let mut down_at: Option<Duration> = None;
        for event in &rig.events {
            match event {
                Event::Act { at, action: Action::StepDown(_), .. } => down_at = Some(*at),
                Event::Act { at, action: Action::StepUp(_), reason, .. } => {
                    // Five minutes until batches are full again, then five more.
                    let calm = down_at.map(|down| at.saturating_sub(down));
                    prop_assert!(calm.is_none_or(|calm| calm >= s(600)), "{} after {:?}", reason, calm);
                    prop_assert!(reason.contains(": fits): it has been calm for"), "{}", reason);
                }
                Event::Act { .. } | Event::Effect(_) => {}
            }
        }
    }
}

#[test]
fn large_machines_see_nothing_of_it() {
    for (name, model) in [("64gb-calm", "qwen3-4b"), ("32gb-build", "qwen3-0.6b")] {
        let (rig, answered) = day(name, model, false);
        assert_eq!(precisions(&answered), [Fp16], "{name}");
        assert!(rig.events.is_empty(), "{:?}", rig.events);
    }
}
