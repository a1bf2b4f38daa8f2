//! What needs a process of its own: `kill -9` at random moments of a download, and the environment's proxies.
//!
//! That process is this test binary itself, run again with a variable that tells it what to download.

mod fake_hub;

use std::env;
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use embedbar_hub::{Chosen, HubCache, HubClient, HubOptions, HubSettings, Target, Transfer};
use fake_hub::{COMMIT, Content, FakeHub};
use tokio::process::Command;

const ENDPOINT: &str = "HUB_TEST_ENDPOINT";
const FOLDER: &str = "HUB_TEST_FOLDER";
const PIECE: u64 = 64 << 10;
const CONNECTIONS: u64 = 4;
const KILLS: u64 = 20;

/// Nothing, unless it is that process.
#[tokio::test]
async fn the_process_that_downloads() {
    let Some(folder) = env::var_os(FOLDER) else { return };
    let settings = HubSettings::from_lookup(|name| (name == "HF_ENDPOINT").then(|| env::var(ENDPOINT).ok()).flatten());
    let options = HubOptions { piece: PIECE, connections: CONNECTIONS as usize, margin: 0, ..HubOptions::default() };
    let client = HubClient::new(settings.expect("settings"), options).expect("a client");
    let id = "owner/name".parse().expect("an id");
    let snapshot = client.snapshot(&id, "main", &Chosen::new([]).expect("patterns")).await.expect("a snapshot");
    let transfer = Transfer::new();
    // So slow that it is always killed in the middle.
    transfer.limit(env::var("HUB_TEST_RATE").ok().and_then(|rate| rate.parse().ok()));
    client.download(&snapshot, &Target::Cache(HubCache::new(folder)), &transfer).await.expect("it downloads");
}

fn child(endpoint: &str, folder: &Path, rate: Option<u64>) -> Command {
    let mut command = Command::new(env::current_exe().expect("this binary"));
    command.args(["--exact", "the_process_that_downloads", "--nocapture"]).env(ENDPOINT, endpoint).env(FOLDER, folder);
    for proxy in ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "no_proxy"] {
        command.env_remove(proxy);
    }
    command.env("NO_PROXY", "127.0.0.1,localhost");
    command.stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    if let Some(rate) = rate {
        command.env("HUB_TEST_RATE", rate.to_string());
    }
    command
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_kills_cost_the_ranges_in_flight_and_leave_nothing_half_done() {
    let mut state = 0x9e37_79b9_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let bytes: Vec<u8> = (0..24_000_000).map(|_| random() as u8).collect();
    let size = bytes.len() as u64;
    let small = Content::new(b"{\"a\": 1}\n".to_vec(), false);
    let files = vec![("config.json", small), ("model.safetensors", Content::new(bytes.clone(), true))];
    let hub = FakeHub::start("owner/name", files).await.expect("a hub");
    let folder = tempfile::tempdir().expect("a folder");
    let snapshot = folder.path().join("models--owner--name/snapshots").join(COMMIT);
    let mut killed = 0;
    while killed < KILLS {
        let from = hub.served();
        let mut child = child(&hub.endpoint, folder.path(), Some(6_000_000)).spawn().expect("a process");
        // Killed when so much more has been sent: at a random byte, however slow the machine is.
        let until = from + random() % 900_000 + 1;
        while hub.served() < until {
            assert!(child.try_wait().expect("a process").is_none(), "it ended before it was killed");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        child.kill().await.expect("killed");
        killed += 1;
        assert!(!snapshot.join("model.safetensors").exists(), "half a file is not a model");
        assert!(!folder.path().join("models--owner--name/refs/main").exists(), "nor is half a snapshot");
    }
    let ended = child(&hub.endpoint, folder.path(), None).status().await.expect("a process");
    assert!(ended.success());
    assert!(fs::read(snapshot.join("model.safetensors")).expect("the file") == bytes, "it is another file");
    let twice = hub.served() - size - 9;
    // What the system still had in its sockets belongs to the ranges in flight.
    let allowed = KILLS * CONNECTIONS * PIECE;
    assert!(twice <= allowed, "{twice} bytes twice, {allowed} allowed");
}

#[tokio::test]
async fn the_proxy_of_the_environment_is_asked_for_a_hub_that_only_it_can_reach() {
    let files = vec![("config.json", Content::new(b"{}".to_vec(), false))];
    let proxy = FakeHub::start("owner/name", files).await.expect("a hub");
    let folder = tempfile::tempdir().expect("a folder");
    let mut child = child("http://hub.invalid", folder.path(), None);
    let ended = child.env("http_proxy", &proxy.endpoint).status().await.expect("a process");
    assert!(ended.success());
    let file = folder.path().join("models--owner--name/snapshots").join(COMMIT).join("config.json");
    assert_eq!(fs::read(file).expect("the file"), b"{}");
}
