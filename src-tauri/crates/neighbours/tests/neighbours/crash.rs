//! Whatever ends this program, and whenever: what ran before runs again, and nothing else does.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use embedbar_neighbours::{Docker, Stops};
use proptest::prelude::*;
use tokio::runtime::{Builder, Runtime};

use crate::engine::{Engine, Fate, Kind, id, running, stopped};
use crate::stops::PATIENCE;

/// Set for the process that is killed: the folder with the engine and the journal, and the containers that it stops.
const VICTIM: &str = "EMBEDBAR_TEST_VICTIM";

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime")
}

fn journal(folder: &Path) -> PathBuf {
    folder.join("stopped.json")
}

/// Stops, and starts again at once.
async fn there_and_back(folder: &Path, chosen: &[String]) {
    let docker = Docker::connect(&folder.join("engine.sock")).await.expect("it runs");
    let stops = Stops::with_patience(journal(folder), PATIENCE);
    stops.stop(&docker, chosen).await.expect("the journal can be written");
    stops.start_again().await.expect("the journal can be written");
}

/// What the next start of the program does.
async fn recover(folder: &Path) {
    let stops = Stops::with_patience(journal(folder), PATIENCE);
    let outcomes = stops.recover(Duration::ZERO).await.expect("the journal can be read");
    assert!(outcomes.iter().all(|outcome| outcome.result.done()), "{outcomes:?}");
    assert_eq!(stops.pending().await.expect("it can be read"), [], "nothing is left to be done");
}

/// A container that was asked to stop may do so later: the kill is made to have been so long ago, except where that is the point.
fn age(folder: &Path) {
    let Ok(text) = std::fs::read_to_string(journal(folder)) else { return };
    let aged: Vec<String> = text
        .lines()
        .map(|line| match line.split_once("\"when_ms\": ") {
            Some((before, _)) => format!("{before}\"when_ms\": 0,"),
            None => line.to_owned(),
        })
        .collect();
    std::fs::write(journal(folder), aged.join("\n")).expect("it can be written");
}

#[test]
fn a_task_dropped_at_any_request_leaves_everything_to_be_recovered() {
    for swallowed in [true, false] {
        let mut at = 0;
        loop {
            let folder = tempfile::tempdir().expect("a temporary folder");
            let boxes = [running(1), running(2), running(3), stopped(4), running(5)];
            let engine = Engine::start_with(
                folder.path(),
                boxes,
                Box::new(move |number, _| match (number == at, swallowed) {
                    (false, _) => Fate::Served,
                    (true, true) => Fate::Swallowed,
                    (true, false) => Fate::Unanswered,
                }),
            );
            let before = engine.running();
            let runtime = runtime();
            let watched = engine.clone();
            let crashed = runtime.block_on(async {
                let chosen = [id(1), id(2), id(3)];
                tokio::select! {
                    biased;
                    () = there_and_back(folder.path(), &chosen) => false,
                    silent = tokio::task::spawn_blocking(move || {
                        watched.wait_for_silence(Duration::from_millis(700))
                    }) => silent.expect("it does not panic"),
                }
            });
            engine.rule(|_, _| Fate::Served);
            age(folder.path());
            runtime.block_on(recover(folder.path()));
            assert_eq!(engine.running(), before, "request {at}, swallowed: {swallowed}");
            if !crashed {
                assert!(at >= 13, "only {at} requests were tried");
                break;
            }
            at += 1;
        }
    }
}

/// Not a test: what the others start and kill.
#[test]
fn a_victim_that_stops_and_starts() {
    let Some(folder) = env::var_os(VICTIM) else { return };
    let numbers: Vec<usize> =
        serde_json::from_str(&env::var("EMBEDBAR_TEST_CHOSEN").expect("it is set")).expect("a list");
    let chosen: Vec<String> = numbers.into_iter().map(id).collect();
    runtime().block_on(there_and_back(Path::new(&folder), &chosen));
}

fn victim(folder: &Path, chosen: &[usize]) -> Child {
    Command::new(env::current_exe().expect("this program"))
        .args(["--exact", "crash::a_victim_that_stops_and_starts", "--test-threads=1"])
        .env(VICTIM, folder)
        .env("EMBEDBAR_TEST_CHOSEN", format!("{chosen:?}"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("it can be started")
}

#[test]
fn a_kill_while_a_container_is_still_stopping_is_waited_out() {
    for kind in [Kind::Usual, Kind::AsPodman] {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (one, slow) = running(1);
        let slow = crate::engine::Box { slow_to_stop: Duration::from_millis(1500), kind, ..slow };
        let engine = Engine::start(folder.path(), [(one, slow), running(2)]);
        let mut victim = victim(folder.path(), &[1]);
        let deadline = Instant::now() + Duration::from_mins(1);
        while engine.deeds().is_empty() {
            assert!(Instant::now() < deadline, "it never stopped anything");
            std::thread::sleep(Duration::from_millis(5));
        }
        victim.kill().expect("it runs");
        victim.wait().expect("it ends");
        assert_eq!(engine.running(), [1, 2], "it has not stopped yet, and will");
        runtime().block_on(recover(folder.path()));
        let deeds = engine.deeds();
        assert_eq!((&*deeds[0], &**deeds.last().expect("two")), ("stop 1", "start 1"), "{deeds:?}");
        assert_eq!(engine.running(), [1, 2]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    /// `kill -9`, at any request, before or after its effect, or a moment later while the journal is written.
    #[test]
    fn a_killed_program_is_made_good_by_the_next_one(
        kinds in proptest::collection::vec(any::<bool>(), 1..7),
        wanted in proptest::collection::vec(any::<bool>(), 7),
        at in 0_usize..40,
        how in 0_usize..3,
        later in 0_u64..3000,
    ) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let boxes = kinds.iter().enumerate().map(|(number, runs)| if *runs { running(number) } else { stopped(number) });
        let engine = Engine::start_with(folder.path(), boxes, Box::new(move |number, _| {
            if number == at { [Fate::Swallowed, Fate::Unanswered, Fate::Served][how].clone() } else { Fate::Served }
        }));
        let before = engine.running();
        let chosen: Vec<usize> = (0..kinds.len()).filter(|number| wanted[*number]).collect();
        let mut victim = victim(folder.path(), &chosen);
        let deadline = Instant::now() + Duration::from_mins(1);
        while victim.try_wait().expect("it is ours").is_none() && engine.requests() <= at {
            prop_assert!(Instant::now() < deadline, "it hangs");
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_micros(later));
        victim.kill().expect("it is ours");
        victim.wait().expect("it ends");
        // A request that was under way when it was killed.
        std::thread::sleep(Duration::from_millis(20));
        engine.rule(|_, _| Fate::Served);
        age(folder.path());
        runtime().block_on(recover(folder.path()));
        prop_assert_eq!(engine.running(), before);
        let started: Vec<String> = engine.deeds().into_iter().filter(|deed| deed.starts_with("start")).collect();
        for number in (0..kinds.len()).filter(|number| !kinds[*number]) {
            prop_assert!(!started.contains(&format!("start {number}")), "{:?}", started);
        }
    }
}
