//! Containers and models in one list, accepted by their ids.

use std::sync::Arc;
use std::time::{Duration, Instant};

use embedbar_neighbours::{Deed, Neighbours, Offer, Places, Program, Server, Stops, Survey};
use serde_json::json;

use crate::engine::{Box, Engine, Fate, Kind, running, stopped};
use crate::servers::{Answer, Played};
use crate::stops::PATIENCE;

#[tokio::test]
async fn one_list_holds_both_kinds_and_each_is_done_in_its_own_way() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (with_rm, other) = (running(2), running(3));
    let engine = Engine::start(
        folder.path(),
        [
            running(1),
            (with_rm.0, Box { kind: Kind::RemovedOnStop, ..with_rm.1 }),
            (other.0, Box { bytes: 5000, ..other.1 }),
            stopped(4),
        ],
    );
    let loaded = std::sync::Mutex::new(true);
    let ollama = Played::start(move |request, _| {
        let mut loaded = loaded.lock().expect("no panic");
        if request == "POST /api/generate" {
            *loaded = false;
        }
        Answer::Json(200, json!({"models": if *loaded { json!([{"model": "m", "size": 2000}]) } else { json!([]) }}))
    });
    let stops = Arc::new(Stops::with_patience(folder.path().join("stopped.json"), PATIENCE));
    let neighbours = Neighbours::new(Arc::clone(&stops));
    let places = Places {
        sockets: vec![engine.socket().to_owned(), folder.path().join("nobody.sock")],
        servers: vec![Server::new(Program::Ollama, ollama.address).expect("it is loopback")],
        notes: Vec::new(),
    };
    let survey = neighbours.survey(&places).await;
    let listed: Vec<_> = survey.offers.iter().map(|o| (o.program, o.name.as_str(), o.bytes)).collect();
    let expected = [
        (Program::Docker, "box3", Some(5000)),
        (Program::Ollama, "m", Some(2000)),
        (Program::Docker, "box1", Some(1000)),
    ];
    assert_eq!(listed, expected);
    assert_eq!(survey.offers[0].detail, "image:1");
    assert!(survey.notes.iter().any(|note| note.text.contains("box2") && note.text.contains("--rm")), "{survey:?}");
    let text = serde_json::to_string(&survey).expect("it is JSON");
    assert_eq!(serde_json::from_str::<Survey>(&text).expect("it is read again"), survey);
    let chosen: Vec<String> = survey.offers[..2].iter().rev().map(|offer| offer.id.clone()).collect();
    let outcomes = neighbours.accept(&places, &chosen).await;
    let done: Vec<_> = outcomes.iter().map(|outcome| (outcome.name.as_str(), &outcome.deed)).collect();
    assert_eq!(done, [("m", &Deed::Released), ("box3", &Deed::Released)], "in the order of the ids");
    assert_eq!(engine.running(), [1, 2]);
    assert_eq!(stops.pending().await.expect("it is there").len(), 1);
    stops.start_again().await.expect("it is there");
    assert_eq!(engine.running(), [1, 2, 3]);
}

#[tokio::test]
async fn a_survey_takes_a_second_even_if_everybody_is_silent() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let engine = Engine::start_with(folder.path(), [running(1)], std::boxed::Box::new(|_, _| Fate::Swallowed));
    let silent = Played::start(|_, _| Answer::Silence);
    let programs = [Program::Ollama, Program::LmStudio, Program::LlamaServer];
    let servers = programs.map(|program| Server::new(program, silent.address).expect("it is loopback"));
    let places = Places { sockets: vec![engine.socket().to_owned()], servers: servers.to_vec(), notes: Vec::new() };
    let neighbours = Neighbours::new(Arc::new(Stops::new(folder.path().join("stopped.json"))));
    let begin = Instant::now();
    let survey = neighbours.survey(&places).await;
    assert!(begin.elapsed() < Duration::from_secs(4), "{:?}", begin.elapsed());
    assert!(survey.offers.is_empty());
    assert_eq!(survey.notes.len(), 4, "each is named: {survey:?}");
}

#[tokio::test]
async fn an_engine_that_says_half_offers_only_what_is_safe_to_stop() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let engine = Engine::start_with(
        folder.path(),
        [running(1), running(2)],
        std::boxed::Box::new(|_, request| match request {
            request if request.ends_with("1/json") => Fate::Swallowed,
            request if request.ends_with("/stats") => Fate::Fails(500, "no cgroup"),
            _ => Fate::Served,
        }),
    );
    let places = Places { sockets: vec![engine.socket().to_owned()], ..Places::default() };
    let neighbours = Neighbours::new(Arc::new(Stops::new(folder.path().join("stopped.json"))));
    let survey = neighbours.survey(&places).await;
    let names: Vec<_> = survey.offers.iter().map(|offer: &Offer| (offer.name.as_str(), offer.bytes)).collect();
    assert_eq!(names, [("box2", None)]);
    assert!(survey.notes[0].text.contains("box1"), "{survey:?}");
}

#[tokio::test]
async fn the_same_engine_behind_two_sockets_is_offered_once() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let engine = Engine::start(folder.path(), [running(1)]);
    let other = folder.path().join("other.sock");
    std::fs::hard_link(engine.socket(), &other).expect("it can be linked");
    let places = Places { sockets: vec![engine.socket().to_owned(), other], ..Places::default() };
    let neighbours = Neighbours::new(Arc::new(Stops::new(folder.path().join("stopped.json"))));
    assert_eq!(neighbours.survey(&places).await.offers.len(), 1);
}

#[test]
fn our_own_port_is_left_out_and_a_far_ollama_is_named() {
    let home = tempfile::tempdir().expect("a temporary folder");
    let places = Places::usual(home.path(), |_| None);
    assert_eq!(places.servers.len(), 3);
    let places = places.without_port(11434);
    assert_eq!(places.servers.len(), 2);
    let far = Places::usual(home.path(), |name| (name == "OLLAMA_HOST").then(|| "10.1.2.3".to_owned()));
    assert_eq!(far.servers.len(), 2);
    assert!(far.notes.iter().any(|note| note.text.contains("`10.1.2.3` is not on this machine")), "{far:?}");
}
