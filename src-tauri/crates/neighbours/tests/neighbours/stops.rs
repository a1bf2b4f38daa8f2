//! Stopping and starting again, while nothing is killed.

use std::fs;
use std::time::{Duration, Instant};

use embedbar_neighbours::{Docker, NeighboursError, Patience, Refusal, Stage, StartResult, StopResult, Stops};

use crate::engine::{Box, Engine, Fate, Kind, id, running, stopped};

pub(crate) const PATIENCE: Patience =
    Patience { start: Duration::from_secs(20), stop_margin: Duration::from_secs(1), look: Duration::from_millis(10) };

fn ids(numbers: &[usize]) -> Vec<String> {
    numbers.iter().map(|number| id(*number)).collect()
}

#[tokio::test]
async fn exactly_what_was_stopped_is_started_again_in_the_order_in_which_it_had_been_started() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let engine = Engine::start(folder.path(), [running(3), running(1), running(2), stopped(4), running(5)]);
    let docker = Docker::connect(engine.socket()).await.expect("it runs");
    let stops = Stops::with_patience(folder.path().join("stopped.json"), PATIENCE);
    let outcomes = stops.stop(&docker, &ids(&[1, 3, 2, 3])).await.expect("the journal can be written");
    assert_eq!(outcomes.len(), 3, "each once");
    assert!(outcomes.iter().all(|outcome| outcome.result == StopResult::Stopped), "{outcomes:?}");
    assert_eq!(engine.running(), [5]);
    assert_eq!(engine.deeds(), ["stop 3", "stop 2", "stop 1"], "the youngest first");
    let pending = stops.pending().await.expect("it is there");
    assert_eq!(pending.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(), ["box1", "box2", "box3"]);
    assert!(pending.iter().all(|one| one.stage == Stage::Stopped && one.socket == engine.socket()));
    let outcomes = stops.start_again().await.expect("the journal can be written");
    assert!(outcomes.iter().all(|outcome| outcome.result == StartResult::Started), "{outcomes:?}");
    assert_eq!(engine.running(), [1, 2, 3, 5]);
    assert_eq!(engine.deeds()[3..], ["start 1", "start 2", "start 3"]);
    assert!(!folder.path().join("stopped.json").exists());
    assert!(stops.recover(Duration::ZERO).await.expect("nothing to do").is_empty());
}

#[tokio::test]
async fn the_whole_list_is_on_the_disk_before_the_first_container_stops() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let journal = folder.path().join("stopped.json");
    let seen = journal.clone();
    let engine = Engine::start_with(
        folder.path(),
        [running(1), running(2), running(3)],
        std::boxed::Box::new(move |_, request| {
            if request.ends_with("/stop") {
                let text = fs::read_to_string(&seen).expect("the journal is there");
                assert!((1..=3).all(|number| text.contains(&id(number))), "{text}");
            }
            Fate::Served
        }),
    );
    let docker = Docker::connect(engine.socket()).await.expect("it runs");
    let stops = Stops::with_patience(&journal, PATIENCE);
    let outcomes = stops.stop(&docker, &ids(&[1, 2, 3])).await.expect("the journal can be written");
    assert!(outcomes.iter().all(|outcome| outcome.result == StopResult::Stopped), "{outcomes:?}");
}

#[tokio::test]
async fn what_must_not_be_stopped_is_refused_with_a_sentence_and_never_started() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (with_rm, paused) = (running(2), running(3));
    let engine = Engine::start(
        folder.path(),
        [
            stopped(1),
            (with_rm.0, Box { kind: Kind::RemovedOnStop, ..with_rm.1 }),
            (paused.0, Box { kind: Kind::Paused, ..paused.1 }),
        ],
    );
    let docker = Docker::connect(engine.socket()).await.expect("it runs");
    let stops = Stops::with_patience(folder.path().join("stopped.json"), PATIENCE);
    let chosen = [ids(&[1, 2, 3, 9]), vec!["box2".to_owned(), "../json".to_owned()]].concat();
    let outcomes = stops.stop(&docker, &chosen).await.expect("nothing to write");
    let refusals: Vec<_> = outcomes
        .iter()
        .map(|outcome| match outcome.result {
            StopResult::Refused { refusal } => refusal,
            _ => panic!("{outcome:?}"),
        })
        .collect();
    assert_eq!(
        refusals,
        [
            Refusal::NotRunning,
            Refusal::RemovedOnStop,
            Refusal::Paused,
            Refusal::NotThere,
            Refusal::NotAnId,
            Refusal::NotAnId
        ]
    );
    assert!(Refusal::RemovedOnStop.to_string().contains("`--rm`"));
    assert!(engine.deeds().is_empty());
    assert!(!folder.path().join("stopped.json").exists());
}

#[tokio::test]
async fn what_was_removed_leaves_the_list_and_what_cannot_start_stays_on_it() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let engine = Engine::start(folder.path(), [running(1), running(2), running(3), running(4)]);
    let docker = Docker::connect(engine.socket()).await.expect("it runs");
    let stops = Stops::with_patience(folder.path().join("stopped.json"), PATIENCE);
    stops.stop(&docker, &ids(&[1, 2, 3, 4])).await.expect("the journal can be written");
    engine.remove(1);
    engine.change(2, |one| one.running = true);
    let blocked = format!("POST /containers/{}/start", id(3));
    engine.rule(
        move |_, request| {
            if request == blocked { Fate::Fails(500, "port is already allocated") } else { Fate::Served }
        },
    );
    let results: Vec<_> =
        stops.start_again().await.expect("it is there").into_iter().map(|outcome| outcome.result).collect();
    let failed = StartResult::Failed { reason: "port is already allocated (status 500)".to_owned() };
    assert_eq!(results, [StartResult::Gone, StartResult::AlreadyRunning, failed, StartResult::Started]);
    assert_eq!(stops.pending().await.expect("it is there").len(), 1);
    engine.rule(|_, _| Fate::Served);
    let again = stops.recover(Duration::ZERO).await.expect("it is there");
    assert_eq!(again[0].result, StartResult::Started);
    assert_eq!(engine.running(), [2, 3, 4]);
}

#[tokio::test]
async fn an_engine_that_is_away_keeps_the_list_and_is_waited_for() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let engine = Engine::start(folder.path(), [running(1)]);
    let docker = Docker::connect(engine.socket()).await.expect("it runs");
    let stops = Stops::with_patience(folder.path().join("stopped.json"), PATIENCE);
    stops.stop(&docker, &ids(&[1])).await.expect("the journal can be written");
    let away = folder.path().join("away.sock");
    fs::rename(engine.socket(), &away).expect("it is there");
    let outcomes = stops.recover(Duration::from_millis(50)).await.expect("the journal is there");
    let StartResult::EngineAway { reason } = &outcomes[0].result else { panic!("{outcomes:?}") };
    assert!(reason.contains("cannot be reached") && reason.contains("start it"), "{reason}");
    assert_eq!(stops.pending().await.expect("it is there").len(), 1);
    let back = engine.socket().to_owned();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(100)).await;
        fs::rename(away, back).expect("it is there");
    });
    let outcomes = stops.recover(Duration::from_secs(20)).await.expect("the journal is there");
    assert_eq!(outcomes.len(), 1);
    assert_eq!(outcomes[0].result, StartResult::Started);
    assert_eq!(engine.running(), [1]);
}

#[tokio::test]
async fn what_an_engine_does_not_stop_is_told_and_nothing_is_lost() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let engine = Engine::start(folder.path(), [running(1), running(2)]);
    let docker = Docker::connect(engine.socket()).await.expect("it runs");
    let stops = Stops::with_patience(folder.path().join("stopped.json"), PATIENCE);
    let blocked = format!("POST /containers/{}/stop", id(1));
    engine.rule(
        move |_, request| {
            if request == blocked { Fate::Fails(500, "cannot kill\u{1b}[31m") } else { Fate::Served }
        },
    );
    let outcomes = stops.stop(&docker, &ids(&[1, 2])).await.expect("the journal can be written");
    assert_eq!(outcomes[0].result, StopResult::Stopped);
    assert_eq!(outcomes[1].result, StopResult::Failed { reason: "cannot kill[31m (status 500)".to_owned() });
    // It was asked a moment ago, so it is looked at until it could no longer be stopping; this test has no time for that.
    let path = folder.path().join("stopped.json");
    let text = fs::read_to_string(&path).expect("it is there").replace("\"grace_ms\": 10000", "\"grace_ms\": 0");
    fs::write(&path, text).expect("it can be written");
    let outcomes = stops.start_again().await.expect("it is there");
    assert_eq!(outcomes[0].result, StartResult::AlreadyRunning);
    assert_eq!(outcomes[1].result, StartResult::Started);
    assert_eq!(engine.running(), [1, 2]);
}

#[tokio::test]
async fn a_stop_that_nobody_confirmed_stays_on_the_list_and_is_made_good() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let engine = Engine::start(folder.path(), [running(1)]);
    let docker = Docker::connect(engine.socket()).await.expect("it runs");
    let stops = Stops::with_patience(folder.path().join("stopped.json"), PATIENCE);
    engine.rule(|_, request| if request.ends_with("/stop") { Fate::HangsUp } else { Fate::Served });
    let outcomes = stops.stop(&docker, &ids(&[1])).await.expect("the journal can be written");
    assert!(matches!(outcomes[0].result, StopResult::Unclear { .. }), "{outcomes:?}");
    assert!(engine.running().is_empty(), "it has stopped all the same");
    let outcomes = stops.start_again().await.expect("it is there");
    assert_eq!(outcomes[0].result, StartResult::Started);
    assert_eq!(engine.running(), [1]);
}

#[tokio::test]
async fn nothing_is_stopped_where_the_list_cannot_be_kept() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let engine = Engine::start(folder.path(), [running(1)]);
    let docker = Docker::connect(engine.socket()).await.expect("it runs");
    let path = folder.path().join("stopped.json");
    let stops = Stops::with_patience(&path, PATIENCE);
    for content in [r#"{"version": 2}"#, "half of a fi"] {
        fs::write(&path, content).expect("it can be written");
        stops.stop(&docker, &ids(&[1])).await.expect_err(content);
        stops.start_again().await.expect_err(content);
        assert_eq!(fs::read_to_string(&path).expect("it is there"), content, "it is left alone");
    }
    fs::remove_file(&path).expect("it is there");
    fs::create_dir(&path).expect("it can be made");
    let error = stops.stop(&docker, &ids(&[1])).await.expect_err("a folder is no file");
    assert!(matches!(error, NeighboursError::JournalIo { .. }), "{error}");
    assert_eq!(engine.running(), [1]);
    assert!(engine.deeds().is_empty());
}

#[tokio::test]
async fn the_rest_runs_on_where_the_list_can_no_longer_be_written_half_way() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("stopped.json");
    let spoilt = path.clone();
    let engine = Engine::start(folder.path(), [running(1), running(2), running(3)]);
    engine.rule(move |_, request| {
        if request == format!("POST /containers/{}/stop", id(2)) {
            fs::write(&spoilt, r#"{"version": 9}"#).expect("it can be written");
        }
        Fate::Served
    });
    let docker = Docker::connect(engine.socket()).await.expect("it runs");
    let stops = Stops::with_patience(&path, PATIENCE);
    let outcomes = stops.stop(&docker, &ids(&[1, 2, 3])).await.expect("it could be written at first");
    assert_eq!(outcomes[0].result, StopResult::Stopped);
    assert_eq!(outcomes[1].result, StopResult::Stopped);
    let StopResult::Failed { reason } = &outcomes[2].result else { panic!("{outcomes:?}") };
    assert!(reason.contains("newer Embedbar"), "{reason}");
    assert_eq!(engine.running(), [1]);
}

#[tokio::test]
async fn an_engine_that_is_none_or_says_nothing_is_given_up_in_time() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let engine = Engine::start(folder.path(), [running(1)]);
    let docker = Docker::connect(engine.socket()).await.expect("it runs");
    let hostile: [Fate; 5] = [
        Fate::Swallowed,
        Fate::Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n<html"),
        Fate::Raw(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n[]"),
        Fate::Raw(b"SSH-2.0-OpenSSH_9.9\r\n"),
        Fate::Fails(500, "no"),
    ];
    for fate in hostile {
        let told = format!("{fate:?}");
        engine.rule(move |_, _| fate.clone());
        let begin = Instant::now();
        let connected = Docker::connect(engine.socket()).await;
        assert!(matches!(connected, Err(NeighboursError::EngineAway { .. })), "{told}");
        let listed = docker.running().await;
        assert!(listed.as_ref().map_or(true, Vec::is_empty), "{told}: {listed:?}");
        assert!(begin.elapsed() < Duration::from_secs(10), "{told}: {:?}", begin.elapsed());
    }
}

#[tokio::test]
async fn a_container_can_be_taken_off_the_list_without_being_started() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let engine = Engine::start(folder.path(), [running(1), running(2)]);
    let docker = Docker::connect(engine.socket()).await.expect("it runs");
    let stops = Stops::with_patience(folder.path().join("stopped.json"), PATIENCE);
    stops.stop(&docker, &ids(&[1, 2])).await.expect("the journal can be written");
    assert_eq!(stops.forget(&ids(&[2, 7])).await.expect("it can be written"), 1);
    stops.start_again().await.expect("it is there");
    assert_eq!(engine.running(), [1]);
}
