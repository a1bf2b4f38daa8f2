//! What holds for every machine, model, set of files and past.

use embedbar_contract::{BackendName, MemoryReading, Precision, Pressure};
use embedbar_planner::{
    Artefact, Backend, Candidate, Choice, History, Plan, PrecisionWish, Present, Purpose, Reading, System, Thresholds,
    Unit, UsualUse, Verdict, Wishes, memory_text,
};
use proptest::prelude::*;

use crate::machines::{entry, everything, planned_with};

const MODELS: [&str; 4] = ["minilm", "qwen3-0.6b", "qwen3-4b", "qwen3-8b"];
const MEGABYTE: u64 = 1 << 20;

/// Everything that a plan depends on.
#[derive(Clone, Debug)]
struct Scene {
    model: &'static str,
    artefacts: Vec<Artefact>,
    reading: Reading,
    history: History,
}

impl Scene {
    fn plan(&self, wishes: &Wishes) -> Plan {
        planned_with(
            wishes,
            &[self.model, "minilm"][..if self.model == "minilm" { 1 } else { 2 }],
            &self.artefacts,
            &self.reading,
            &self.history,
        )
    }

    /// The reserve, worked out apart from the planner.
    fn reserve(&self) -> u64 {
        let total = self.reading.memory.total_bytes.expect("it is known");
        let held = self.reading.present.as_ref().map_or(0, |present| present.held_bytes);
        let used = total.saturating_sub(self.reading.memory.available_bytes.expect("it is known") + held);
        let grown = match self.history.usual_use {
            Some(usual) => usual.used_bytes,
            None if self.reading.system != System::Linux && total <= 16 << 30 => (total / 16 * 10).min(10 << 30),
            None => 0,
        };
        (1 << 30).min(total / 4).max(total / 100 * 8).max(grown.saturating_sub(used))
    }

    fn room(&self) -> u64 {
        let held = self.reading.present.as_ref().map_or(0, |present| present.held_bytes);
        self.reading.memory.available_bytes.expect("it is known") + held
    }
}

fn backend() -> impl Strategy<Value = Backend> {
    prop::sample::select(vec![
        Backend::Cpu,
        Backend::Metal,
        Backend::CoreMl(Unit::Gpu),
        Backend::CoreMl(Unit::NeuralEngine),
        Backend::CoreMlInterpreted,
    ])
}

fn precision() -> impl Strategy<Value = Precision> {
    prop::sample::select(vec![Precision::Fp32, Precision::Fp16, Precision::Int8, Precision::FourBit])
}

/// A precision, a backend, or both.
fn explicit() -> impl Strategy<Value = (Option<Precision>, Option<Backend>)> {
    (precision(), backend(), 0..3)
        .prop_map(|(precision, backend, which)| ((which != 0).then_some(precision), (which != 1).then_some(backend)))
}

fn system() -> impl Strategy<Value = System> {
    prop::sample::select(vec![System::Mac, System::Linux, System::SimulatedMac])
}

fn scene() -> impl Strategy<Value = Scene> {
    let machine = (system(), 4_u64..80, 0_u64..1000, 0_u8..4, prop::option::of(0_u64..80));
    let loaded = prop::option::of((backend(), precision(), 50_u64..9000));
    (0..MODELS.len(), any::<u16>(), machine, loaded).prop_map(|(model, files, machine, loaded)| {
        let model = MODELS[model];
        let (system, total_gb, free, pressure, usual) = machine;
        let total = total_gb << 30;
        let all = everything(model).into_iter().chain(everything("minilm"));
        let artefacts: Vec<Artefact> =
            all.enumerate().filter(|(place, _)| files >> (place % 12) & 1 == 1).map(|(_, artefact)| artefact).collect();
        let memory = MemoryReading {
            total_bytes: Some(total),
            available_bytes: Some(total / 1000 * free),
            // Half of the machines are not short of memory.
            pressure: Some(
                [Pressure::Normal, Pressure::Normal, Pressure::Warn, Pressure::Critical][usize::from(pressure)],
            ),
            ..MemoryReading::default()
        };
        let mut reading = Reading::new(system, memory);
        let available = total / 1000 * free;
        reading.present = loaded.map(|(backend, precision, megabytes)| Present {
            candidate: Candidate { backend, model: entry(model).id.clone(), precision },
            held_bytes: (megabytes * MEGABYTE).min(total - available),
            running_bytes: (megabytes * MEGABYTE).min(total - available),
        });
        let usual_use = usual.map(|gb| UsualUse { used_bytes: (gb << 30).min(total) });
        Scene { model, artefacts, reading, history: History { usual_use, ..History::default() } }
    })
}

/// The place of the choice: the lower, the better; nothing and the remote endpoint come last.
fn place(plan: &Plan) -> usize {
    match plan.choice {
        Choice::Local { index, .. } => index,
        Choice::Remote | Choice::Nothing { .. } => usize::MAX,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn what_does_not_fit_is_never_chosen(scene in scene(), own in any::<bool>()) {
        let purpose = if own { Purpose::OwnSearch } else { Purpose::Api };
        let wishes = Wishes { purpose, smaller_models: true, ..Wishes::default() };
        let plan = scene.plan(&wishes);
        prop_assert_eq!(&plan, &scene.plan(&wishes), "the same arguments, the same plan");
        if let Some(chosen) = plan.chosen() {
            prop_assert_eq!(&chosen.verdict, &Verdict::Fits);
            // The planner rounds shares of all memory in another way than this test: less than a kilobyte.
            prop_assert!(chosen.needs_bytes + scene.reserve() <= scene.room() + 1024, "{}", chosen.sentence);
            let present = scene.reading.present.as_ref();
            let stays = present.is_some_and(|present| present.candidate == chosen.candidate);
            let short = scene.reading.memory.pressure > Some(Pressure::Normal);
            let held = present.map_or(0, |present| present.held_bytes);
            prop_assert!(!short || stays || chosen.needs_bytes <= held + 256 * MEGABYTE, "{}", chosen.sentence);
            prop_assert!(own || chosen.candidate.model == entry(scene.model).id, "an API client gets the model that it named");
        }
        prop_assert!(plan.choice != Choice::Remote, "nobody allowed it");
    }

    #[test]
    fn every_candidate_says_its_numbers_or_why_it_is_not_used(scene in scene()) {
        for judged in &scene.plan(&Wishes::default()).candidates {
            let numbers = [memory_text(judged.needs_bytes), memory_text(scene.room())];
            let told = match judged.verdict {
                Verdict::Fits | Verdict::CanBeMade(_) | Verdict::DoesNotFit { .. } | Verdict::CannotBeMade => {
                    numbers.iter().all(|number| judged.sentence.contains(number.as_str()))
                }
                Verdict::NotAllowed(_) => judged.sentence.contains(": not used: "),
                Verdict::BelowFloor { .. } => judged.sentence.contains("floor"),
            };
            prop_assert!(told, "{}", judged.sentence);
            prop_assert!(judged.verdict != Verdict::Fits || judged.ready);
        }
    }

    #[test]
    fn more_free_memory_never_gives_a_worse_choice(scene in scene(), more in 0_u64..64 * 1024) {
        let mut roomier = scene.clone();
        let total = scene.reading.memory.total_bytes.expect("it is known");
        let held = scene.room() - scene.reading.memory.available_bytes.expect("it is known");
        let available = scene.reading.memory.available_bytes.map(|free| (free + more * MEGABYTE).min(total - held));
        roomier.reading.memory.available_bytes = available.max(scene.reading.memory.available_bytes);
        let wishes = Wishes { purpose: Purpose::OwnSearch, smaller_models: true, ..Wishes::default() };
        let (before, after) = (scene.plan(&wishes), roomier.plan(&wishes));
        prop_assert!(place(&after) <= place(&before), "{:?}\n{:?}", before.choice, after.choice);
    }

    #[test]
    fn noise_within_the_margin_never_moves_the_choice_to_and_fro(
        scene in scene(),
        noise in prop::collection::vec(0_u64..511, 2..40),
    ) {
        // What everything else uses wavers by less than the 512 MB that a step up wants to spare; what is loaded is
        // what was chosen.
        let total = scene.reading.memory.total_bytes.expect("it is known");
        let others = total - scene.room().min(total);
        let mut scene = scene;
        scene.reading.present = None;
        scene.reading.memory.pressure = Some(Pressure::Normal);
        let mut visited: Vec<Candidate> = Vec::new();
        for wavering in noise {
            let held = scene.reading.present.as_ref().map_or(0, |present| present.held_bytes);
            let used = others + wavering * MEGABYTE + held;
            scene.reading.memory.available_bytes = Some(total.saturating_sub(used));
            if used > total {
                // Such a machine would be swapping; that is the governor's business.
                break;
            }
            let plan = scene.plan(&Wishes::default());
            let Some(chosen) = plan.chosen() else { continue };
            if visited.last() != Some(&chosen.candidate) {
                prop_assert!(!visited.contains(&chosen.candidate), "back to {} after {:?}", chosen.candidate, visited);
                visited.push(chosen.candidate.clone());
            }
            let held_bytes = chosen.running_bytes;
            scene.reading.present = Some(Present { candidate: chosen.candidate.clone(), held_bytes, running_bytes: held_bytes });
        }
    }

    #[test]
    fn an_explicit_choice_is_never_overruled_silently(
        scene in scene(),
        (wanted, backend) in explicit(),
    ) {
        let wishes = Wishes {
            purpose: Purpose::OwnSearch,
            precision: wanted.map_or(PrecisionWish::Automatic, PrecisionWish::Explicit),
            backend: backend.map(Backend::name),
            smaller_models: true,
            remote_host: Some("embeddings.example".to_owned()),
            ..Wishes::default()
        };
        let plan = scene.plan(&wishes);
        match &plan.choice {
            Choice::Local { warning, .. } => {
                let chosen = plan.chosen().expect("it is a candidate");
                prop_assert!(wanted.is_none_or(|wanted| wanted == chosen.candidate.precision));
                prop_assert!(wishes.backend.is_none_or(|wanted: BackendName| wanted == chosen.candidate.backend.name()));
                prop_assert_eq!(warning.is_some(), chosen.verdict != Verdict::Fits);
                prop_assert!(warning.as_ref().is_none_or(|warning| warning.contains(&chosen.sentence)));
            }
            Choice::Remote => prop_assert!(false, "nobody chose the remote endpoint"),
            // Then nothing that was asked for is installed in a form that could be loaded at all.
            Choice::Nothing { .. } => {
                let could = plan.candidates.iter().any(|judged| {
                    judged.ready && matches!(judged.verdict, Verdict::Fits | Verdict::DoesNotFit { .. } | Verdict::BelowFloor { .. })
                });
                prop_assert!(!could);
            }
        }
    }

    #[test]
    fn thresholds_scale_with_the_machine(factor in 0.001_f64..10.0) {
        let whole = Thresholds::default();
        let scaled = whole.scaled(factor);
        let expected = whole.least_reserve_bytes as f64 * factor;
        prop_assert!((scaled.least_reserve_bytes as f64 - expected).abs() <= 1.0);
        prop_assert!((scaled.reserve_share - whole.reserve_share).abs() < 1e-12);
    }
}
