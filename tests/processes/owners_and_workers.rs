//! One owner per home, one worker per owner, and no query lost when either dies.

use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};

use embedbar_tests::program::{TestHome, alive, checkout, eventually, signal};
use serde_json::Value;

fn worker_pid(home: &TestHome) -> Option<u32> {
    home.json(&["status"])[0]["model"]["worker_pid"].as_u64().map(|pid| u32::try_from(pid).expect("a process id"))
}

fn norm(embedding: &Value) -> f64 {
    let values = embedding["embedding"].as_array().expect("a vector");
    values.iter().map(|value| value.as_f64().expect("a number").powi(2)).sum::<f64>().sqrt()
}

#[test]
fn embed_prints_a_line_for_each_text_with_what_made_it_and_what_it_cost() {
    let home = TestHome::new();
    let lines = home.json(&["embed", "a cat sat on the mat", "eine Katze saß auf der Matte"]);
    assert_eq!(lines.len(), 2);
    for line in &lines {
        assert_eq!((line["dims"].as_u64(), line["truncated"].is_null()), (Some(384), true));
        assert!((norm(line) - 1.0).abs() < 1e-4, "unit norm");
        assert_eq!(line["generation"]["model"], "all-MiniLM-L6-v2");
        assert_eq!(
            (line["generation"]["precision"].as_str(), line["generation"]["recipe"].as_str()),
            (Some("int8"), Some("native"))
        );
        for part in ["queue", "tokenize", "forward", "total"] {
            assert!(line["timing_ms"][part].as_f64().is_some_and(|ms| ms >= 0.0), "{part}");
        }
    }
}

#[test]
fn a_text_that_is_too_long_is_reported_with_its_counts() {
    let home = TestHome::new();
    let line = &home.json(&["embed", &"word ".repeat(400)])[0];
    assert_eq!((line["tokens"].as_u64(), line["truncated"]["total_tokens"].as_u64()), (Some(256), Some(402)));
}

#[test]
fn other_commands_ask_the_owner_of_the_home_and_load_nothing_themselves() {
    let home = TestHome::new();
    let _server = home.serve();
    let worker = eventually("the worker is ready", || worker_pid(&home));
    home.json(&["embed", "hello"]);
    let status = &home.json(&["status"])[0];
    assert_eq!(status["model"]["worker_pid"].as_u64(), Some(u64::from(worker)), "the same worker answered");
    assert_eq!(status["queries"].as_array().map(Vec::len), Some(1), "the owner counted the query");
}

#[test]
fn a_second_owner_is_refused_and_told_who_the_first_is() {
    let home = TestHome::new();
    let server = home.serve();
    let error = home.failure(&["serve", "--port", "0"]);
    assert!(error.contains(&server.pid().to_string()) && error.contains("hint:"), "{error}");
}

#[test]
fn a_home_whose_owner_was_killed_is_taken_over() {
    let home = TestHome::new();
    home.serve().kill();
    assert_eq!(home.json(&["embed", "hello"]).len(), 1);
}

#[test]
fn a_killed_worker_is_replaced_and_every_query_is_answered() {
    let home = TestHome::new();
    let _server = home.serve();
    let first = eventually("the worker is ready", || worker_pid(&home));
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let mut answered = 0;
            while !done.load(Ordering::Relaxed) {
                answered += home.json(&["embed", "does this survive?"]).len();
            }
            answered
        });
        for _ in 0..3 {
            let victim = eventually("a worker is ready", || worker_pid(&home));
            signal(victim, "KILL");
            eventually("the worker is gone", || (!alive(victim)).then_some(()));
            // A request may lose one worker, not two.
            home.json(&["embed", "the next one answers"]);
            eventually("another one is ready", || worker_pid(&home).filter(|pid| *pid != victim));
        }
        done.store(true, Ordering::Relaxed);
        assert!(asking.join().expect("no query failed") > 0);
    });
    let status = &home.json(&["status"])[0];
    assert!(status["model"]["restarts"].as_u64().is_some_and(|restarts| restarts >= 3), "{}", status["model"]);
    assert!(!alive(first));
}

#[test]
fn a_worker_ends_with_its_owner_even_in_the_middle_of_a_forward_pass() {
    let home = TestHome::new();
    let mut server = home.serve();
    let worker = eventually("the worker is ready", || worker_pid(&home));
    let texts = home.scratch().join("texts");
    std::fs::write(&texts, format!("{}\n", "a long line of many words ".repeat(60)).repeat(400))
        .expect("it can be written");
    let mut client = home
        .command(&["embed"])
        .stdin(std::fs::File::open(&texts).expect("it is there"))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    eventually("the worker is at work", || {
        let stat = std::fs::read_to_string(format!("/proc/{worker}/stat")).ok()?;
        stat.rsplit(')').next()?.trim_start().starts_with('R').then_some(())
    });
    server.kill();
    eventually("the worker is gone", || (!alive(worker)).then_some(()));
    let status = client.wait().expect("it can be waited for");
    assert_eq!(status.code(), Some(1), "the client is told that its owner is gone");
}

#[test]
fn swapping_the_model_under_load_drops_nothing() {
    let home = TestHome::new();
    let copy = home.scratch().join("copy");
    std::fs::create_dir_all(&copy).expect("it can be made");
    for entry in std::fs::read_dir(checkout().join("models/bundled")).expect("it is there").flatten() {
        std::fs::copy(entry.path(), copy.join(entry.file_name())).expect("it can be copied");
    }
    let _server = home.serve();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let mut models = std::collections::BTreeSet::new();
            while !done.load(Ordering::Relaxed) {
                let line = home.json(&["embed", "which model is this?"]).remove(0);
                models.insert(line["generation"]["model"].as_str().expect("a name").to_owned());
            }
            models
        });
        for _ in 0..2 {
            home.json(&["use", copy.to_str().expect("UTF-8")]);
            home.json(&["use", "all-MiniLM-L6-v2"]);
        }
        home.json(&["use", copy.to_str().expect("UTF-8")]);
        home.json(&["embed", "one more"]);
        done.store(true, Ordering::Relaxed);
        assert!(!asking.join().expect("no query failed").is_empty());
    });
    assert_eq!(home.json(&["status"])[0]["model"]["generation"]["model"], "copy");
}

#[test]
fn cleaning_up_unloads_the_idle_model_and_says_what_that_gave_back() {
    let home = TestHome::new();
    let _server = home.serve();
    let worker = eventually("the worker is ready", || worker_pid(&home));
    let plan = &home.json(&["cleanup", "--dry-run"])[0];
    assert!(plan["items"][0]["freed_bytes"].is_null() && alive(worker), "a dry run does nothing");
    let receipt = &home.json(&["cleanup"])[0];
    assert!(receipt["items"][0]["freed_bytes"].as_u64().is_some_and(|bytes| bytes > 1_000_000), "{receipt}");
    assert!(!alive(worker));
    assert_eq!(home.json(&["embed", "and it comes back"]).len(), 1);
}
