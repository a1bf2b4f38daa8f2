//! `kill -9` at every step of a swap, with real programs: of the old worker, of the new one, of the owner.
//!
//! A save in the followed `.env` begins the swap; the kills come at moments spread over all of it, from before the watcher has
//! seen the save until after the new model answers. Both manners: side by side, and on a simulated machine that is too full for
//! two models.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use embedbar_tests::program::{Server, TestHome, alive, eventually};
use serde_json::{Value, json};

use crate::following::{active, becomes, call, env, install_copy, save};
use crate::http;

const MODELS: [&str; 2] = ["all-MiniLM-L6-v2", "mine"];

/// After the swap's first sign: loading takes a little over 100 ms.
const MOMENTS: [u64; 7] = [0, 20, 50, 90, 140, 220, 400];

/// Long enough for any load here, and far below the time that a request that nobody answers would hang.
const SOON: Duration = Duration::from_secs(20);

#[derive(Clone, Copy, Debug)]
enum Victim {
    OldWorker,
    NewWorker,
}

struct Scene {
    home: TestHome,
    file: PathBuf,
}

impl Scene {
    fn new() -> Self {
        let home = TestHome::new();
        install_copy(&home, "mine");
        let file = home.scratch().join(".env");
        save(&file, &text(0, MODELS[0]), true);
        Self { home, file }
    }

    fn serve(&self, arguments: &[&str]) -> Server {
        self.home.serve_with(arguments)
    }

    fn follow(&self) {
        self.home.json(&["env", "use", self.file.to_str().expect("UTF-8"), "--approve"]);
    }
}

fn text(number: usize, model: &str) -> String {
    format!("# save {number}\nEMBEDBAR_MODEL={model}\n")
}

fn ask(server: &Server) -> Result<Value, ureq::Error> {
    let (origin, token) = server.origin_and_token();
    http::try_call(origin, token, "embed", &json!({ "texts": ["is anybody there?", "a second text"] }))
}

/// The workers of an owner, the oldest first.
fn workers(owner: u32) -> Vec<u32> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        let parent = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1)?.parse::<u32>().ok());
        let arguments = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if parent == Some(owner) && arguments.split(|&byte| byte == 0).nth(1) == Some(b"worker") && alive(pid) {
            found.push(pid);
        }
    }
    found.sort_unstable();
    found
}

/// Waits until the swap shows in the processes: a second worker, or the first one gone.
fn begins(owner: u32, before: &[u32]) {
    let deadline = Instant::now() + SOON;
    while workers(owner) == before {
        assert!(Instant::now() < deadline, "the swap does not begin");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn kill(pid: u32) {
    // It may have ended by itself in the meantime, as an old worker does.
    let _ =
        std::process::Command::new("kill").args(["-9", &pid.to_string()]).stderr(std::process::Stdio::null()).status();
}

struct SetAtEnd<'a>(&'a AtomicBool);

impl Drop for SetAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Swaps to and fro, kills one worker in each, and asks all the time. Every question is answered by one generation; a swap
/// whose worker was killed while it loaded leaves the old model and says so.
fn kills_of_workers(arguments: &[&str]) {
    let scene = Scene::new();
    let server = scene.serve(arguments);
    scene.follow();
    becomes(&server, MODELS[0]);
    let (done, answered) = (AtomicBool::new(false), AtomicU32::new(0));
    std::thread::scope(|scope| {
        // Also where the test fails: the thread that asks must not keep it alive.
        let _done = SetAtEnd(&done);
        let asking = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let answer = ask(&server).expect("a worker's death costs nobody an answer");
                let items = answer["items"].as_array().expect("a list");
                assert_eq!((items.len(), &items[0]["generation"]), (2, &items[1]["generation"]));
                answered.fetch_add(1, Ordering::Relaxed);
            }
        });
        let mut number = 0;
        let mut failed = 0;
        for moment in MOMENTS {
            for victim in [Victim::OldWorker, Victim::NewWorker] {
                number += 1;
                let now = active(&server).unwrap_or_else(|| MODELS[0].to_owned());
                let next = MODELS[usize::from(now == MODELS[0])];
                let before = workers(server.pid());
                save(&scene.file, &text(number, next), number % 2 == 0);
                begins(server.pid(), &before);
                std::thread::sleep(Duration::from_millis(moment));
                let present = workers(server.pid());
                let pid = match victim {
                    Victim::OldWorker => present.iter().find(|pid| before.contains(pid)),
                    Victim::NewWorker => present.iter().find(|pid| !before.contains(pid)),
                };
                if let Some(pid) = pid {
                    kill(*pid);
                }
                let what = format!("{victim:?} killed after {moment} ms: `{next}` answers, or it is said why not");
                eventually(&what, || {
                    let told =
                        env(&server)["effect"].as_str().is_some_and(|it| it.contains("could not be made active"));
                    let there = active(&server)?;
                    (there == next || (told && there == now)).then(|| failed += u32::from(there == now))
                });
                // Whatever was left behind is gone: one worker, which answers.
                eventually("one worker is left", || (workers(server.pid()).len() == 1).then_some(()));
            }
        }
        let before = answered.load(Ordering::Relaxed);
        eventually("questions go on being answered", || (answered.load(Ordering::Relaxed) > before).then_some(()));
        done.store(true, Ordering::Relaxed);
        asking.join().expect("every question was answered");
        assert!(failed > 0, "no kill met a worker that was loading: the moments prove less than they say");
    });
}

/// The nice values of a process's threads, by their names.
fn nice_values(pid: u32) -> Vec<(String, i32)> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let stats = threads.filter_map(|thread| fs::read_to_string(thread.path().join("stat")).ok());
    let value = |stat: String| {
        let (before, after) = stat.rsplit_once(')')?;
        Some((before.rsplit('(').next()?.to_owned(), after.split_whitespace().nth(16)?.parse().ok()?))
    };
    stats.filter_map(value).collect()
}

#[test]
fn a_model_is_loaded_behind_the_others_and_computes_beside_them() {
    let scene = Scene::new();
    let server = scene.serve(&[]);
    scene.follow();
    becomes(&server, MODELS[0]);
    save(&scene.file, &text(1, MODELS[1]), true);
    becomes(&server, MODELS[1]);
    ask(&server).expect("it answers");
    let worker = *workers(server.pid()).last().expect("one serves");
    let values = nice_values(worker);
    let usual = nice_values(server.pid()).iter().map(|(_, nice)| *nice).max().expect("it has threads");
    assert!(values.len() > 1 && values.iter().all(|(_, nice)| *nice <= usual), "{values:?}");
}

#[test]
fn a_worker_killed_at_any_step_of_a_swap_costs_no_answer() {
    kills_of_workers(&[]);
}

#[test]
fn a_worker_killed_at_any_step_of_a_swap_without_room_for_two_costs_no_answer() {
    kills_of_workers(&["--simulate", "16gb-full"]);
}

fn folder_of_notes(home: &TestHome) -> PathBuf {
    let folder = home.scratch().join("notes");
    fs::create_dir_all(&folder).expect("it can be made");
    for number in 0..40 {
        fs::write(folder.join(format!("{number}.md")), format!("# Note {number}\n\nThe harbour has {number} boats.\n"))
            .expect("it can be written");
    }
    folder
}

fn files_of(server: &Server, folder: &Path) -> Option<u64> {
    let snapshot = call(server, "snapshot", &json!({})).ok()?;
    let folders = snapshot["index"]["folders"].as_array()?.clone();
    folders.iter().find(|it| it["path"] == folder.to_str().expect("UTF-8"))?["files"].as_u64()
}

#[test]
fn an_owner_killed_at_any_step_of_a_swap_comes_back_to_what_was_committed() {
    let scene = Scene::new();
    let folder = folder_of_notes(&scene.home).canonicalize().expect("it is there");
    let mut server = scene.serve(&[]);
    scene.follow();
    becomes(&server, MODELS[0]);
    // Acknowledged before the first kill.
    call(&server, "index", &json!({ "paths": [folder] })).expect("it is taken");
    for (number, moment) in MOMENTS.into_iter().enumerate() {
        let next = MODELS[(number + 1) % 2];
        let before = workers(server.pid());
        save(&scene.file, &text(number, next), true);
        // The first kill comes before the watcher can have seen the save.
        if number > 0 {
            begins(server.pid(), &before);
        }
        let (origin, token) = server.origin_and_token();
        let (origin, token) = (origin.to_owned(), token.to_owned());
        let (began, many) = (Instant::now(), vec!["a query in flight ".repeat(40); 200]);
        let asking = std::thread::spawn(move || http::try_call(&origin, &token, "embed", &json!({ "texts": many })));
        std::thread::sleep(Duration::from_millis(moment));
        let orphans = workers(server.pid());
        server.kill();
        let outcome = asking.join().expect("the thread ends");
        assert!(outcome.is_err() && began.elapsed() < SOON, "who waits is told at once");
        eventually("no worker outlives its owner", || orphans.iter().all(|pid| !alive(*pid)).then_some(()));
        server = scene.serve(&[]);
        becomes(&server, next);
        ask(&server).expect("it answers");
    }
    eventually("the folder that was asked for is indexed", || files_of(&server, &folder).filter(|files| *files == 40));
}
