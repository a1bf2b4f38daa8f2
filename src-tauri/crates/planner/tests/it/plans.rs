//! Each rule of the design's section on choosing, with the numbers worked out by hand.

use embedbar_contract::BackendName;
use embedbar_contract::Precision::{self, FourBit, Fp16, Fp32, Int8};
use embedbar_contract::Pressure::{Critical, Normal, Warn};
use embedbar_planner::{
    Backend, Candidate, Choice, Form, History, Judged, Measured, Plan, PrecisionWish, Purpose, Refusal, ReserveCause,
    Standing, System, Unit, UsualUse, Verdict, Wishes, memory_text,
};

use crate::machines::{
    candidate, checkpoint, chosen, entry, everything, gb, gguf, ggufs, holding, package, planned, planned_with,
    reading, under,
};

const NEURAL_ENGINE: Backend = Backend::CoreMl(Unit::NeuralEngine);
const GPU: Backend = Backend::CoreMl(Unit::Gpu);

fn of(plan: &Plan, precision: Precision, backend: Backend) -> &Judged {
    let found = plan
        .candidates
        .iter()
        .find(|found| found.candidate.precision == precision && found.candidate.backend == backend);
    found.unwrap_or_else(|| panic!("{precision} on {backend} is a candidate"))
}

fn explicitly(precision: Precision) -> Wishes {
    Wishes { precision: PrecisionWish::Explicit(precision), ..Wishes::default() }
}

fn warning(plan: &Plan) -> Option<&str> {
    match &plan.choice {
        Choice::Local { warning, .. } => warning.as_deref(),
        Choice::Remote | Choice::Nothing { .. } => None,
    }
}

#[test]
fn a_candidate_has_a_sentence_with_its_numbers() {
    // 32 GB of which 20 are free: the reserve is 8 % of 32 GB, 2.56 GB.
    let plan = planned(&Wishes::default(), "qwen3-4b", &ggufs("qwen3-4b"), &reading(System::Linux, 32.0, 20.0));
    let int8 = of(&plan, Int8, Backend::Cpu);
    // 4.27 GB of 10^9 are 3.98 GB of 2^30; tokenizer, program and activations are some hundred MB more.
    assert!((gb(4.1)..gb(4.4)).contains(&int8.needs_bytes), "{}", int8.sentence);
    let needs = memory_text(int8.needs_bytes);
    assert_eq!(
        int8.sentence,
        format!("INT8, CPU: needs {needs}, 20.0 GB is free, 2.6 GB reserve (8 % of memory): fits")
    );
    assert_eq!(chosen(&plan), Some((Int8, Backend::Cpu)));
    let plan = planned(&Wishes::default(), "qwen3-4b", &ggufs("qwen3-4b"), &reading(System::Linux, 32.0, 6.0));
    let int8 = of(&plan, Int8, Backend::Cpu);
    assert_eq!(
        int8.sentence,
        format!("INT8, CPU: needs {needs}, 6.0 GB is free, 2.6 GB reserve (8 % of memory): does not fit")
    );
    assert!(
        matches!(int8.verdict, Verdict::DoesNotFit { missing_bytes: Some(missing) } if (gb(0.6)..gb(1.0)).contains(&missing))
    );
}

#[test]
fn the_reserve_is_the_largest_of_its_rules_and_says_which() {
    let reserve = |total: f64, free: f64, usual: Option<f64>| {
        let history = History { usual_use: usual.map(|used| UsualUse { used_bytes: gb(used) }), ..History::default() };
        let machine = reading(System::Mac, total, free);
        planned_with(&Wishes::default(), &["minilm"], &[], &machine, &history).reserve.expect("memory is known")
    };
    let first = |to: f64| ReserveCause::FirstStart { working_set_bytes: gb(to) };
    let usually = |to: f64| ReserveCause::UsualUse { used_bytes: gb(to) };
    let share = ReserveCause::Share { percent: 8 };
    let cases = [
        // (total, free, usual use, bytes, cause)
        (16.0, 12.0, None, 6.0, first(10.0), "10 GB minus the 4 GB that are used"),
        (16.0, 5.0, None, 1.28, share, "11 GB are used already; 8 % of 16 GB"),
        (8.0, 5.0, None, 2.0, first(5.0), "five eighths of 8 GB, as 10 GB are of 16, minus 3 GB"),
        (8.0, 2.0, None, 1.0, ReserveCause::Least, "8 % of 8 GB are less than 1 GB"),
        (24.0, 20.0, None, 1.92, share, "nothing is assumed of a larger machine"),
        (32.0, 20.0, Some(20.0), 8.0, usually(20.0), "20 GB minus the 12 GB that are used"),
        (16.0, 12.0, Some(6.0), 2.0, usually(6.0), "known habits replace the assumption"),
    ];
    for (total, free, usual, bytes, cause, why) in cases {
        let found = reserve(total, free, usual);
        assert!(found.bytes.abs_diff(gb(bytes)) <= 8, "{why}: {found}");
        assert_eq!(found.cause, cause, "{why}");
    }
    assert_eq!(
        reserve(16.0, 12.0, None).to_string(),
        "6.0 GB reserve (first start: the rest is assumed to grow to 10.0 GB)"
    );
}

#[test]
fn core_ml_comes_first_on_a_mac_and_the_widest_that_fits() {
    let at = |model: &str, free: f64| {
        chosen(&planned(&Wishes::default(), model, &everything(model), &reading(System::Mac, 64.0, free)))
    };
    assert_eq!(at("qwen3-0.6b", 50.0), Some((Fp16, NEURAL_ENGINE)));
    // 4B: FP16 takes 2 * 7.49 + 1.5 GB while it is specialised, with 5.12 GB reserve 21.6; INT8 2 * 3.75 + 1.5 + 5.12,
    // 14.1.
    assert_eq!(at("qwen3-4b", 22.0), Some((Fp16, GPU)), "7.5 GB in one file is more than the Neural Engine takes");
    assert_eq!(at("qwen3-4b", 21.0), Some((Int8, GPU)));
    assert_eq!(at("qwen3-4b", 14.0), Some((Int8, Backend::Cpu)), "4.3 GB and the reserve");
    assert_eq!(at("qwen3-4b", 9.0), Some((FourBit, Backend::Cpu)), "a 4-bit package is not certified on this Mac");
    assert_eq!(at("qwen3-4b", 7.0), None);
}

#[test]
fn a_specialised_package_needs_no_more_than_it_runs_with() {
    let machine = reading(System::Mac, 64.0, 14.5);
    let ready = |specialised| [package("qwen3-4b", Fp16, specialised, &[])];
    assert_eq!(chosen(&planned(&Wishes::default(), "qwen3-4b", &ready(false), &machine)), None);
    assert_eq!(chosen(&planned(&Wishes::default(), "qwen3-4b", &ready(true), &machine)), Some((Fp16, GPU)));
}

#[test]
fn the_gpus_working_set_is_a_limit_of_its_own() {
    let mut machine = reading(System::Mac, 64.0, 50.0);
    machine.gpu_working_set_bytes = Some(gb(5.3));
    let plan = planned(&Wishes::default(), "qwen3-4b", &everything("qwen3-4b"), &machine);
    let fp16 = of(&plan, Fp16, GPU);
    assert!(matches!(fp16.verdict, Verdict::DoesNotFit { missing_bytes: Some(_) }));
    assert!(fp16.sentence.contains("the GPU takes 5.3 GB at most"), "{}", fp16.sentence);
    assert_eq!(chosen(&plan), Some((Int8, GPU)), "4 GB are within it");
}

#[test]
fn what_is_not_ready_can_be_made_with_seconds_and_disk_and_is_not_chosen() {
    let machine = reading(System::Linux, 32.0, 20.0);
    let plan = planned(&Wishes::default(), "qwen3-4b", &[checkpoint("qwen3-4b")], &machine);
    assert_eq!(chosen(&plan), Some((Fp16, Backend::Cpu)), "the checkpoint itself is ready");
    let int8 = of(&plan, Int8, Backend::Cpu);
    let Verdict::CanBeMade(making) = int8.verdict else { panic!("{:?}", int8.verdict) };
    // 8.04 GB at 50 MB a second; 4.27 GB on the disk.
    assert!(making.download_bytes == 0 && (155..170).contains(&making.seconds), "{making:?}");
    assert!((4_250_000_000..4_300_000_000).contains(&making.disk_bytes));
    assert!(!int8.ready && int8.fits() && int8.sentence.contains("can be made in about 161 s with 4.0 GB of the disk"));
    assert_eq!(plan.worth_making.map(|index| plan.candidates[index].candidate.precision), Some(Int8));

    let nothing = planned(&Wishes::default(), "qwen3-4b", &[], &machine);
    assert!(matches!(&nothing.choice, Choice::Nothing { reason } if reason.contains("after a download of 7.5 GB")));
    let history = History { conversion_bytes_per_second: Some(1e9), ..History::default() };
    let fast = planned_with(&Wishes::default(), &["qwen3-4b"], &[checkpoint("qwen3-4b")], &machine, &history);
    assert!(matches!(of(&fast, Int8, Backend::Cpu).verdict, Verdict::CanBeMade(making) if making.seconds == 9));
}

#[test]
fn what_the_disk_or_a_pickle_prevents_cannot_be_made() {
    let mut machine = reading(System::Linux, 32.0, 20.0);
    machine.disk_free_bytes = Some(gb(3.0));
    let plan = planned(&Wishes::default(), "qwen3-4b", &[checkpoint("qwen3-4b")], &machine);
    let int8 = of(&plan, Int8, Backend::Cpu);
    assert_eq!(int8.verdict, Verdict::CannotBeMade);
    assert!(int8.sentence.contains("of which 3.0 GB is free"), "{}", int8.sentence);
    assert!(matches!(of(&plan, FourBit, Backend::Cpu).verdict, Verdict::CanBeMade(_)), "2.3 GB are there");
    let pickle = planned(&Wishes::default(), "bge-m3", &[], &machine);
    assert_eq!(of(&pickle, Int8, Backend::Cpu).verdict, Verdict::CannotBeMade);
}

#[test]
fn what_is_below_its_floor_is_passed_over_until_the_user_lowers_the_floor() {
    let machine = reading(System::Linux, 32.0, 20.0);
    let mut artefacts = vec![gguf("qwen3-4b", Int8), gguf("qwen3-4b", FourBit)];
    artefacts[0].standing = Standing::Compared { mean_cosine: 0.98, floor: 0.99 };
    let plan = planned(&Wishes::default(), "qwen3-4b", &artefacts, &machine);
    assert_eq!(of(&plan, Int8, Backend::Cpu).verdict, Verdict::BelowFloor { mean_cosine: Some(0.98), floor: 0.99 });
    assert_eq!(chosen(&plan), Some((FourBit, Backend::Cpu)));
    let lenient = Wishes { floor: Some(0.96), ..Wishes::default() };
    assert_eq!(chosen(&planned(&lenient, "qwen3-4b", &artefacts, &machine)), Some((Int8, Backend::Cpu)));
    artefacts[0].standing = Standing::NotCompared;
    let plan = planned(&lenient, "qwen3-4b", &artefacts, &machine);
    assert_eq!(of(&plan, Int8, Backend::Cpu).verdict, Verdict::BelowFloor { mean_cosine: None, floor: 0.96 });
    artefacts[0].standing = Standing::Compared { mean_cosine: f64::NAN, floor: 0.99 };
    assert_eq!(chosen(&planned(&Wishes::default(), "qwen3-4b", &artefacts, &machine)), Some((FourBit, Backend::Cpu)));
}

#[test]
fn a_package_is_used_on_the_units_of_this_mac_that_repeat_its_certificate() {
    let machine = reading(System::Mac, 64.0, 50.0);
    let with = |repeated: &[(Unit, f64)]| {
        planned(&Wishes::default(), "qwen3-0.6b", &[package("qwen3-0.6b", FourBit, false, repeated)], &machine)
    };
    let untried = with(&[]);
    assert_eq!(of(&untried, FourBit, GPU).verdict, Verdict::NotAllowed(Refusal::NotCertifiedHere));
    assert_eq!(chosen(&untried), None);
    let tried = with(&[(Unit::NeuralEngine, 0.2), (Unit::Gpu, 0.96)]);
    assert_eq!(of(&tried, FourBit, NEURAL_ENGINE).verdict, Verdict::BelowFloor { mean_cosine: Some(0.2), floor: 0.95 });
    assert_eq!(chosen(&tried), Some((FourBit, GPU)));
}

#[test]
fn nothing_large_is_loaded_while_the_system_is_short_of_memory() {
    let wishes = Wishes::default();
    for pressure in [Warn, Critical] {
        let machine = under(reading(System::Mac, 32.0, 20.0), pressure);
        let plan = planned(&wishes, "qwen3-0.6b", &everything("qwen3-0.6b"), &machine);
        assert_eq!(chosen(&plan), None, "whatever is free");
        assert!(of(&plan, Int8, Backend::Cpu).sentence.contains("nothing is loaded that needs more than 256.0 MB"));
        let bundled = planned(&wishes, "minilm", &ggufs("minilm"), &machine);
        assert_eq!(chosen(&bundled), Some((Int8, Backend::Cpu)), "the bundled model always answers");
    }
    let mut machine = reading(System::Mac, 32.0, 20.0);
    machine.memory.swap_out_bytes_per_second = Some(5e6);
    assert_eq!(chosen(&planned(&wishes, "qwen3-0.6b", &everything("qwen3-0.6b"), &machine)), None);
    // What is loaded may stay, and may be replaced by what takes less.
    let loaded = candidate("qwen3-4b", Int8, Backend::Cpu);
    let machine = |free| under(holding(reading(System::Linux, 32.0, free), loaded.clone(), 4.3), Warn);
    assert_eq!(chosen(&planned(&wishes, "qwen3-4b", &ggufs("qwen3-4b"), &machine(3.0))), Some((Int8, Backend::Cpu)));
    assert_eq!(chosen(&planned(&wishes, "qwen3-4b", &ggufs("qwen3-4b"), &machine(1.0))), Some((FourBit, Backend::Cpu)));
}

#[test]
fn an_explicit_precision_is_used_with_a_warning_where_it_does_not_fit() {
    let machine = reading(System::Linux, 16.0, 5.0);
    let automatic = planned(&Wishes::default(), "qwen3-4b", &ggufs("qwen3-4b"), &machine);
    assert_eq!(chosen(&automatic), Some((FourBit, Backend::Cpu)));
    let plan = planned(&explicitly(Int8), "qwen3-4b", &ggufs("qwen3-4b"), &machine);
    assert_eq!(chosen(&plan), Some((Int8, Backend::Cpu)));
    let warning = warning(&plan).expect("it does not fit");
    for number in ["needs 4.", "5.0 GB is free", "1.3 GB reserve (8 % of memory)", "does not fit"] {
        assert!(warning.contains(number), "{warning}");
    }
    assert_eq!(of(&plan, FourBit, Backend::Cpu).verdict, Verdict::NotAllowed(Refusal::OtherPrecision(Int8)));
    let fits = planned(&explicitly(Int8), "qwen3-4b", &ggufs("qwen3-4b"), &reading(System::Linux, 32.0, 20.0));
    assert!(matches!(fits.choice, Choice::Local { warning: None, .. }));
    let absent = planned(&explicitly(Int8), "qwen3-4b", &[gguf("qwen3-4b", FourBit)], &machine);
    assert!(matches!(absent.choice, Choice::Nothing { .. }), "another precision is never put in its place");
}

#[test]
fn an_explicit_backend_is_obeyed_too() {
    let machine = reading(System::Mac, 16.0, 6.0);
    let wishes = Wishes { backend: Some(BackendName::CoreMl), ..Wishes::default() };
    let plan = planned(&wishes, "qwen3-4b", &everything("qwen3-4b"), &machine);
    let (_, backend) = chosen(&plan).expect("it is obeyed");
    assert_eq!(backend.name(), BackendName::CoreMl);
    assert!(warning(&plan).expect("it does not fit").contains("does not fit"));
    let wishes = Wishes { backend: Some(BackendName::CandleMetal), ..Wishes::default() };
    let plan = planned(&wishes, "qwen3-0.6b", &everything("qwen3-0.6b"), &reading(System::Mac, 64.0, 50.0));
    assert!(warning(&plan).expect("it was never measured").contains("Metal has not been measured"));
}

#[test]
fn a_request_that_pins_a_precision_gets_it_or_nothing() {
    let wishes = Wishes { precision: PrecisionWish::Pinned(Int8), ..Wishes::default() };
    let tight = planned(&wishes, "qwen3-4b", &ggufs("qwen3-4b"), &reading(System::Linux, 16.0, 5.0));
    assert!(
        matches!(&tight.choice, Choice::Nothing { reason } if reason.contains("INT8, CPU: needs")),
        "{:?}",
        tight.choice
    );
    let roomy = planned(&wishes, "qwen3-4b", &ggufs("qwen3-4b"), &reading(System::Linux, 32.0, 20.0));
    assert_eq!(chosen(&roomy), Some((Int8, Backend::Cpu)));
}

#[test]
fn another_model_or_the_remote_endpoint_stands_in_only_for_our_own_search_and_only_where_allowed() {
    let machine = reading(System::Linux, 16.0, 3.0);
    let artefacts: Vec<_> = ggufs("qwen3-4b").into_iter().chain(ggufs("qwen3-0.6b")).collect();
    let models = ["qwen3-4b", "qwen3-0.6b"];
    let with = |purpose, smaller_models, remote: bool| {
        let remote_host = remote.then(|| "embeddings.example".to_owned());
        let wishes = Wishes { purpose, smaller_models, remote_host, ..Wishes::default() };
        planned_with(&wishes, &models, &artefacts, &machine, &History::default())
    };
    let model = |plan: &Plan| plan.chosen().map(|judged| judged.candidate.model.clone());
    let smaller = with(Purpose::OwnSearch, true, true);
    assert_eq!(model(&smaller).as_deref(), Some("Qwen3-Embedding-0.6B"));
    assert!(
        smaller.chosen().is_some_and(|judged| judged.sentence.starts_with("Qwen3-Embedding-0.6B INT8, CPU: needs"))
    );
    assert_eq!(with(Purpose::OwnSearch, false, true).choice, Choice::Remote);
    assert!(matches!(with(Purpose::OwnSearch, false, false).choice, Choice::Nothing { .. }));
    let api = with(Purpose::Api, true, true);
    assert!(matches!(api.choice, Choice::Nothing { .. }), "a name is a promise");
    let refused = Verdict::NotAllowed(Refusal::OtherModel);
    assert!(
        api.candidates
            .iter()
            .filter(|judged| judged.candidate.model.ends_with("0.6B"))
            .all(|judged| judged.verdict == refused)
    );
}

#[test]
fn f32_is_for_those_who_ask_for_it() {
    let mut exact = gguf("minilm", Fp32);
    exact.form = Form::Checkpoint;
    let machine = reading(System::Linux, 32.0, 20.0);
    assert_eq!(chosen(&planned(&Wishes::default(), "minilm", &[exact.clone()], &machine)), None);
    assert_eq!(chosen(&planned(&explicitly(Fp32), "minilm", &[exact], &machine)), Some((Fp32, Backend::Cpu)));
}

#[test]
fn metals_place_is_where_it_was_measured() {
    let machine = reading(System::Mac, 64.0, 50.0);
    let artefacts = [gguf("qwen3-0.6b", Int8)];
    let with = |metal: Option<f64>, cpu: Option<f64>| {
        let measured = [(Backend::Metal, metal), (Backend::Cpu, cpu)].into_iter().filter_map(|(backend, query_ms)| {
            let candidate = candidate("qwen3-0.6b", Int8, backend);
            query_ms.map(|_| Measured { candidate, running_bytes: gb(1.0), query_ms })
        });
        let history = History { measured: measured.collect(), ..History::default() };
        chosen(&planned_with(&Wishes::default(), &["qwen3-0.6b"], &artefacts, &machine, &history))
    };
    assert_eq!(with(None, None), Some((Int8, Backend::Cpu)));
    assert_eq!(with(Some(20.0), None), Some((Int8, Backend::Metal)));
    assert_eq!(with(Some(20.0), Some(30.0)), Some((Int8, Backend::Metal)));
    assert_eq!(with(Some(40.0), Some(30.0)), Some((Int8, Backend::Cpu)));
}

#[test]
fn what_was_measured_here_counts_more_than_the_estimate() {
    let machine = reading(System::Linux, 32.0, 20.0);
    let candidate = candidate("qwen3-4b", Int8, Backend::Cpu);
    let history = History {
        measured: vec![Measured { candidate, running_bytes: gb(18.0), query_ms: None }],
        ..History::default()
    };
    let plan = planned_with(&Wishes::default(), &["qwen3-4b"], &ggufs("qwen3-4b"), &machine, &history);
    assert_eq!(of(&plan, Int8, Backend::Cpu).needs_bytes, gb(18.0));
    assert_eq!(chosen(&plan), Some((Fp16, Backend::Cpu)));
}

#[test]
fn a_machine_whose_memory_is_not_known_changes_nothing() {
    let mut machine = reading(System::Linux, 32.0, 20.0);
    machine.memory.available_bytes = None;
    let plan = planned(&Wishes::default(), "minilm", &ggufs("minilm"), &machine);
    assert!(matches!(&plan.choice, Choice::Nothing { reason } if reason.contains("how much is free is not known")));
    let loaded = candidate("minilm", FourBit, Backend::Cpu);
    let plan = planned(&Wishes::default(), "minilm", &ggufs("minilm"), &holding(machine, loaded, 0.1));
    assert_eq!(chosen(&plan), Some((FourBit, Backend::Cpu)));
}

#[test]
fn a_step_up_wants_room_to_spare_and_a_stay_does_not() {
    // 64 GB: 5.12 GB reserve. 4B INT8 takes N = 4.2 to 4.3 GB and wants 0.5 GB to spare; 4-bit holds 2.5 GB.
    let narrow = candidate("qwen3-4b", FourBit, Backend::Cpu);
    let wide = candidate("qwen3-4b", Int8, Backend::Cpu);
    let artefacts = [gguf("qwen3-4b", Int8), gguf("qwen3-4b", FourBit)];
    let at = |room: f64, present: Option<(&Candidate, f64)>| {
        let machine = match present {
            None => reading(System::Linux, 64.0, room),
            Some((candidate, held)) => holding(reading(System::Linux, 64.0, room - held), candidate.clone(), held),
        };
        planned(&Wishes::default(), "qwen3-4b", &artefacts, &machine)
    };
    let needs = of(&at(40.0, None), Int8, Backend::Cpu).needs_bytes as f64 / f64::from(1 << 30);
    let line = needs + 5.12;
    assert_eq!(chosen(&at(line + 0.1, None)), Some((Int8, Backend::Cpu)), "nothing is loaded: it fits");
    let waiting = at(line + 0.1, Some((&narrow, 2.5)));
    assert_eq!(chosen(&waiting), Some((FourBit, Backend::Cpu)), "it would fit, with nothing to spare");
    assert!(of(&waiting, Int8, Backend::Cpu).waits_for_room);
    assert!(
        of(&waiting, Int8, Backend::Cpu).sentence.ends_with("but not with the 512.0 MB to spare that a step up wants")
    );
    assert_eq!(chosen(&at(line + 0.6, Some((&narrow, 2.5)))), Some((Int8, Backend::Cpu)));
    assert_eq!(
        chosen(&at(line + 0.1, Some((&wide, needs)))),
        Some((Int8, Backend::Cpu)),
        "it is loaded and fits: it stays"
    );
    assert_eq!(chosen(&at(line - 0.1, Some((&wide, needs)))), Some((FourBit, Backend::Cpu)));
}

#[test]
fn what_is_better_and_takes_less_needs_no_room_to_spare() {
    // FP16 on the processor gives way to INT8, which is preferred there and smaller, and can never make it come back.
    let wide = candidate("qwen3-4b", Fp16, Backend::Cpu);
    let machine = holding(reading(System::Linux, 64.0, 1.6), wide, 7.8);
    // 9.4 GB of room, 5.12 GB reserve, 4.2 GB for INT8: 0.1 GB to spare.
    assert_eq!(
        chosen(&planned(&Wishes::default(), "qwen3-4b", &ggufs("qwen3-4b"), &machine)),
        Some((Int8, Backend::Cpu))
    );
}

#[test]
fn on_a_simulated_mac_the_processor_has_core_mls_ladder_and_on_linux_packages_are_refused() {
    let artefacts = everything("minilm");
    let simulated = planned(&Wishes::default(), "minilm", &artefacts, &reading(System::SimulatedMac, 32.0, 20.0));
    let ladder: Vec<Precision> = simulated.candidates.iter().map(|judged| judged.candidate.precision).collect();
    assert_eq!(ladder, [Fp16, Int8, FourBit, Fp32]);
    assert_eq!(chosen(&simulated), Some((Fp16, Backend::Cpu)));
    let linux = planned(&Wishes::default(), "minilm", &artefacts, &reading(System::Linux, 32.0, 20.0));
    assert_eq!(of(&linux, Int8, Backend::CoreMlInterpreted).verdict, Verdict::NotAllowed(Refusal::Interpreted));
    let core_ml = planned(&Wishes::default(), "minilm", &artefacts, &reading(System::Mac, 32.0, 20.0));
    let last = Backend::CoreMl(Unit::Cpu);
    assert_eq!(of(&core_ml, Fp16, last).verdict, Verdict::NotAllowed(Refusal::CoreMlOnProcessor));
}

#[test]
fn a_package_that_nobody_can_make_is_a_candidate_only_where_there_is_one() {
    let machine = reading(System::Mac, 32.0, 20.0);
    let backends = |artefacts: &[_]| -> Vec<(Backend, Precision)> {
        let plan = planned(&Wishes::default(), "nomic-embed-text", artefacts, &machine);
        plan.candidates.iter().map(|found| (found.candidate.backend, found.candidate.precision)).collect()
    };
    let without = backends(&ggufs("nomic-embed-text"));
    assert!(without.contains(&(Backend::Cpu, Int8)), "{without:?}");
    assert!(!without.iter().any(|(backend, _)| matches!(backend, Backend::CoreMl(_))), "{without:?}");
    let with = backends(&[package("nomic-embed-text", Int8, false, &[])]);
    assert!(with.contains(&(NEURAL_ENGINE, Int8)) && !with.contains(&(NEURAL_ENGINE, Fp16)), "{with:?}");
}

#[test]
fn an_unknown_model_gives_no_candidates() {
    let plan =
        planned_with(&Wishes::default(), &[], &[], &under(reading(System::Mac, 8.0, 4.0), Normal), &History::default());
    assert!(plan.candidates.is_empty() && matches!(plan.choice, Choice::Nothing { .. }));
    assert_eq!(entry("minilm").id, "all-MiniLM-L6-v2");
}
