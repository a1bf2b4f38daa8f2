//! Models that arrive: from a hub that speaks the real protocol, from folders and archives, whole, damaged and hostile; what is
//! listed meanwhile, and what is left when a program is killed.

#[path = "../../src-tauri/crates/hub/tests/fake_hub/mod.rs"]
mod fake_hub;

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use embedbar_tests::checkpoint;
use embedbar_tests::program::{Server, TestHome, alive, checkout, eventually, signal};
use fake_hub::{Content, FakeHub, Host};
use serde_json::{Value, json};

use crate::http;

const REPOSITORY: &str = "owner/bert-small";

/// A home, and a hub with one repository that only this home's programs ask.
struct Bench {
    home: TestHome,
    /// Whether downloads go into the home.
    own: bool,
    hub: FakeHub,
    /// Runs the hub.
    runtime: tokio::runtime::Runtime,
}

impl Bench {
    /// A hub with the files of a folder.
    fn with(folder: &Path) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime can be made");
        let files = files_of(folder);
        let named: Vec<(&str, Content)> =
            files.iter().map(|(name, content)| (name.as_str(), content.clone())).collect();
        let hub = runtime.block_on(FakeHub::start(REPOSITORY, named)).expect("the hub starts");
        Self { home: TestHome::new(), own: false, hub, runtime }
    }

    fn small() -> Self {
        Self::with(&small())
    }

    /// `embedbar ARGUMENTS` as somebody whose hub this is, and who has no keyring.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.home.command(arguments);
        self.surround(&mut command);
        command
    }

    fn surround(&self, command: &mut Command) {
        for name in ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HUB_OFFLINE"] {
            command.env_remove(name);
        }
        command
            .env("HF_ENDPOINT", &self.hub.endpoint)
            .env("HF_HOME", self.cache())
            .env("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nowhere")
            .env("NO_PROXY", "*");
        if self.own {
            command.env("EMBEDBAR_DOWNLOADS", "own");
        }
    }

    /// A server that outlives single commands.
    fn serve(&self) -> Server {
        self.home.serve_by(
            |mut command| {
                self.surround(&mut command);
                command
            },
            &[],
        )
    }

    /// What a restart goes on with.
    fn wanted(&self) -> Vec<Value> {
        let text = fs::read(self.home.path().join("installing.json")).unwrap_or_else(|_| b"{}".to_vec());
        let mut kept: Value = serde_json::from_slice(&text).expect("it is JSON");
        serde_json::from_value(kept["requests"].take()).unwrap_or_default()
    }

    /// The newest job.
    fn job(&self) -> Option<Value> {
        self.json(&["jobs"]).into_iter().next()
    }

    fn cache(&self) -> PathBuf {
        self.home.scratch().join("hf")
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("embedbar can be run")
    }

    fn done(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{arguments:?}: {error}");
        String::from_utf8(output.stdout).expect("the output is UTF-8")
    }

    fn json(&self, arguments: &[&str]) -> Vec<Value> {
        let text = self.done(&[arguments, &["--json"]].concat());
        text.lines().map(|line| serde_json::from_str(line).expect("every line is JSON")).collect()
    }

    fn failure(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let error = String::from_utf8(output.stderr).expect("messages are UTF-8");
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {error}");
        assert!(error.contains("error: ") && error.contains("hint: "), "{error}");
        error
    }

    /// The model `id` in the list, if it is there.
    fn listed(&self, id: &str) -> Option<Value> {
        self.json(&["models"]).into_iter().find(|model| model["id"] == id)
    }

    fn model(&self, id: &str) -> PathBuf {
        self.home.path().join("models").join(id)
    }
}

fn small() -> PathBuf {
    checkout().join("tests/truth/bert-small")
}

/// The files of a checkpoint as a hub has them: large ones in its storage, small ones beside a pickle that nobody wants.
fn files_of(folder: &Path) -> Vec<(String, Content)> {
    let mut files = vec![("pytorch_model.bin".to_owned(), Content::new(b"a program".to_vec(), true))];
    let other = fs::read(checkout().join("tests/truth/gguf/qwen3-small.gguf")).expect("it is committed");
    files.push(("other.gguf".to_owned(), Content::new(other, true)));
    for path in walk(folder) {
        let name = path.strip_prefix(folder).expect("it lies below").to_str().expect("UTF-8").to_owned();
        let bytes = fs::read(&path).expect("it can be read");
        files.push((name.clone(), Content::new(bytes, name.ends_with(".safetensors"))));
    }
    files
}

/// A copy of a folder's files in a folder of its own.
fn copied(folder: &Path, target: &Path) {
    for path in walk(folder) {
        let copy = target.join(path.strip_prefix(folder).expect("it lies below"));
        fs::create_dir_all(copy.parent().expect("it has one")).expect("it can be made");
        fs::copy(path, copy).expect("it can be copied");
    }
}

/// A command of the contract, over HTTP.
fn call(server: &Server, method: &str, params: &Value) -> Value {
    let (origin, token) = server.origin_and_token();
    http::call(origin, token, method, params).expect("it is taken")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

fn vector(lines: &[Value]) -> Vec<f64> {
    let numbers = lines[0]["embedding"].as_array().expect("a vector");
    numbers.iter().map(|number| number.as_f64().expect("a number")).collect()
}

#[test]
fn a_repository_is_fetched_after_a_yes_once_and_python_finds_it() {
    let bench = Bench::small();
    let offer = &bench.json(&["inspect", REPOSITORY])[0];
    assert_eq!((&offer["name"], &offer["replaces"]), (&json!("bert-small"), &json!(false)));
    let download = &offer["download"];
    assert!(download["fetch_bytes"].as_u64() > Some(1000) && download["fetch_bytes"] == download["total_bytes"]);
    let refused = bench.failure(&["install", REPOSITORY]);
    assert!(refused.contains("--yes"), "{refused}");
    assert_eq!(bench.hub.served(), 0, "nothing is fetched without a yes");
    let job = &bench.json(&["install", REPOSITORY, "--yes"])[0];
    assert_eq!(job["state"]["state"], "done", "{job}");
    let fetched = bench.hub.served();
    assert_eq!(Some(fetched), download["fetch_bytes"].as_u64());
    assert!(
        !bench.hub.requests().iter().any(|request| request.path.contains("pytorch_model")),
        "a pickle was asked for"
    );
    // It lies in the hub's cache, and the library points there.
    let link = fs::read_link(bench.model("bert-small").join("model.safetensors")).expect("it is a link");
    assert!(link.starts_with(bench.cache().canonicalize().expect("it is there")), "{}", link.display());
    let listed = bench.listed("bert-small").expect("it is listed");
    assert_eq!(listed["health"]["health"], "passed", "{listed}");
    assert!(
        listed["own_bytes"].as_u64() < Some(20_000) && listed["size_bytes"].as_u64() > listed["own_bytes"].as_u64()
    );
    let ours = vector(&bench.json(&["embed", "hello there", "--model", "bert-small"]));
    let theirs = vector(&bench.json(&["embed", "hello there", "--model", text(&small())]));
    assert_eq!(ours, theirs);
    // Removing it leaves the cache alone, so that installing it again fetches nothing.
    let removed = &bench.json(&["remove", "bert-small"])[0];
    assert!(removed["kept"].as_array().is_some_and(|kept| !kept.is_empty()), "{removed}");
    assert!(link.is_file() && bench.listed("bert-small").is_none());
    bench.done(&["install", REPOSITORY]);
    assert_eq!(bench.hub.served(), fetched);
}

#[test]
fn by_setting_a_download_goes_into_the_library_and_nowhere_else() {
    let bench = Bench { own: true, ..Bench::small() };
    bench.done(&["install", REPOSITORY, "--yes"]);
    let weights = bench.model("bert-small").join("model.safetensors");
    assert!(fs::symlink_metadata(&weights).expect("it is there").is_file());
    assert_eq!(
        fs::read(&weights).expect("it can be read"),
        fs::read(small().join("model.safetensors")).expect("it can")
    );
    assert!(!bench.cache().join("hub").exists(), "the shared cache was touched");
    let left = fs::read_dir(bench.home.path().join("downloads/models--owner--bert-small")).map(Iterator::count);
    assert!(left.is_err() || left.is_ok_and(|count| count == 0), "the download is still there");
}

#[test]
fn a_token_is_kept_for_its_owner_alone_and_goes_to_the_hub_and_nowhere_else() {
    const TOKEN: &str = "hf_abcdefghijklmnop";
    let bench = Bench::small();
    let mut setting =
        bench.command(&["token", "--set"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it runs");
    writeln!(setting.stdin.take().expect("it is piped"), "{TOKEN}").expect("it listens");
    let told = setting.wait_with_output().expect("it ends");
    let told = String::from_utf8(told.stdout).expect("UTF-8");
    assert!(told.contains("kept         yes") && !told.contains(TOKEN), "{told}");
    bench.done(&["install", REPOSITORY, "--yes"]);
    let requests = bench.hub.requests();
    let sent = |host: Host| requests.iter().filter(move |it| it.host == host && it.authorization.is_some()).count();
    assert!(sent(Host::Hub) > 0 && sent(Host::Storage) == 0, "the token went astray");
    // One file has it, which nobody else may read, and no log.
    let holders: Vec<PathBuf> = walk(&bench.home.path())
        .into_iter()
        .filter(|path| {
            fs::read(path).is_ok_and(|bytes| bytes.windows(TOKEN.len()).any(|window| window == TOKEN.as_bytes()))
        })
        .collect();
    assert_eq!(holders.len(), 1, "{holders:?}");
    assert_eq!(fs::metadata(&holders[0]).expect("it is there").permissions().mode() & 0o777, 0o600);
    bench.done(&["token", "--forget"]);
    assert!(!holders[0].exists());
}

fn walk(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let visit = |entry: fs::DirEntry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => walk(&entry.path()),
        Ok(kind) if kind.is_file() => vec![entry.path()],
        _ => Vec::new(),
    };
    entries.flat_map(visit).collect()
}

#[test]
fn folders_archives_and_single_files_become_models_and_keep_their_vectors() {
    let bench = Bench::small();
    let theirs = vector(&bench.json(&["embed", "hello there", "--model", text(&small())]));
    let scratch = bench.home.scratch();
    let folder = scratch.join("folder");
    copied(&small(), &folder);
    let archive = scratch.join("archived.zip");
    let zipped = Command::new("python3").args(["-m", "zipfile", "-c", text(&archive), text(&folder)]).status();
    assert!(zipped.is_ok_and(|status| status.success()), "python3 packs it");
    let gguf = scratch.join("converted.gguf");
    bench.done(&["convert", "--hf", text(&folder), "--out", text(&gguf), "--fp16"]);
    for (path, name, nearest) in [(&folder, "folder", 1.0), (&archive, "archived", 1.0), (&gguf, "converted", 0.9999)] {
        let job = &bench.json(&["install", text(path), "--name", name])[0];
        assert_eq!(job["state"]["state"], "done", "{job}");
        let ours = vector(&bench.json(&["embed", "hello there", "--model", name]));
        let cosine: f64 = ours.iter().zip(&theirs).map(|(one, other)| one * other).sum();
        assert!(cosine >= nearest - 1e-6, "{name}: {cosine}");
        let details = &bench.json(&["show", name])[0];
        assert_eq!(details["card"]["passed"], true, "{details}");
        assert!(details["origin"]["files"].as_array().is_some_and(|files| files.len() >= 2), "{details}");
    }
    // As strangers publish them: a GGUF file with its tokenizer inside, and a folder that MLX has quantised.
    let truth = checkout().join("tests/truth");
    let mlx = scratch.join("mlx");
    copied(&truth.join("mlx-qwen3-small"), &mlx);
    fs::copy(truth.join("qwen3-small/tokenizer.json"), mlx.join("tokenizer.json")).expect("it can be copied");
    for (path, name) in [(truth.join("gguf/qwen3-small.gguf"), "stranger"), (mlx, "quantised")] {
        let job = &bench.json(&["install", text(&path), "--name", name])[0];
        assert_eq!(job["state"]["state"], "done", "{job}");
        let kind = &bench.listed(name).expect("it is listed")["kind"];
        assert_eq!(kind, if name == "stranger" { "gguf" } else { "mlx_checkpoint" });
        bench.done(&["embed", "hello there", "--model", name]);
    }
    // Left in place, it takes no room.
    let job = &bench.json(&["install", text(&folder), "--name", "in-place", "--in-place"])[0];
    assert_eq!(job["state"]["state"], "done", "{job}");
    assert!(fs::symlink_metadata(bench.model("in-place").join("model.safetensors")).expect("it is there").is_symlink());
    // And when its folder goes, it is told so.
    fs::remove_dir_all(&folder).expect("it can be removed");
    let gone = bench.listed("in-place").expect("it is listed");
    assert_eq!(gone["health"]["health"], "missing", "{gone}");
    let error = bench.failure(&["embed", "x", "--model", "in-place"]);
    assert!(error.contains("gone"), "{error}");
}

#[test]
fn what_is_damaged_or_hostile_is_refused_by_name_and_leaves_nothing() {
    let bench = Bench::small();
    let scratch = bench.home.scratch();
    let short = scratch.join("short");
    copied(&small(), &short);
    let weights = fs::read(short.join("model.safetensors")).expect("it can be read");
    fs::write(short.join("model.safetensors"), &weights[..weights.len() / 2]).expect("it can be written");
    let pickled = scratch.join("pickled");
    copied(&small(), &pickled);
    fs::rename(pickled.join("model.safetensors"), pickled.join("pytorch_model.bin")).expect("it can be moved");
    let broken = scratch.join("broken.zip");
    fs::write(&broken, b"PK\x03\x04 and then nothing").expect("it can be written");
    let slipping = scratch.join("slipping.zip");
    let script =
        "import sys, zipfile\nwith zipfile.ZipFile(sys.argv[1], 'w') as it: it.writestr('../../escaped.txt', 'x')";
    let made = Command::new("python3").args(["-c", script, text(&slipping)]).status();
    assert!(made.is_ok_and(|status| status.success()));
    let empty = scratch.join("empty");
    fs::create_dir(&empty).expect("it can be made");
    for (path, word) in [
        (&short, "model.safetensors"),
        (&pickled, "pickle"),
        (&broken, "broken.zip"),
        (&slipping, ".."),
        (&empty, "empty"),
    ] {
        let error = bench.failure(&["install", text(path)]);
        assert!(error.contains(word), "{word}: {error}");
        let error = bench.failure(&["inspect", text(path)]);
        assert!(error.contains(word), "{word}: {error}");
    }
    assert!(!walk(bench.home.path().parent().expect("it has one")).iter().any(|path| path.ends_with("escaped.txt")));
    assert_eq!(bench.json(&["models"]).len(), 1, "only the bundled one is there");
    let left: Vec<PathBuf> = walk(&bench.home.path().join("models"));
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn what_fails_its_self_test_is_set_aside_with_its_reason_and_never_active() {
    let bench = Bench::small();
    let bad = bench.home.scratch().join("bad");
    copied(&small(), &bad);
    let path = bad.join("model.safetensors");
    let mut weights = fs::read(&path).expect("it can be read");
    let length = weights.len();
    // NaNs, whatever the tensor.
    weights[length / 2..].fill(0xff);
    fs::write(&path, &weights).expect("it can be written");
    let error = bench.failure(&["install", text(&bad), "--name", "bad"]);
    assert!(error.contains("set aside"), "{error}");
    let listed = bench.listed("bad").expect("it is listed");
    assert_eq!(listed["health"]["health"], "quarantined", "{listed}");
    let error = bench.failure(&["embed", "x", "--model", "bad"]);
    assert!(error.contains("self-test"), "{error}");
    let details = &bench.json(&["show", "bad"])[0];
    assert_eq!(details["card"]["passed"], false, "{details}");
    bench.done(&["remove", "bad"]);
    assert!(bench.listed("bad").is_none());
}

#[test]
fn a_file_that_changes_later_is_found_and_its_model_set_aside() {
    let bench = Bench::small();
    bench.done(&["install", text(&small()), "--name", "mine"]);
    bench.done(&["verify", "mine"]);
    let path = bench.model("mine").join("model.safetensors");
    let mut weights = fs::read(&path).expect("it can be read");
    let last = weights.len() - 1;
    weights[last - 1] ^= 1;
    fs::write(&path, &weights).expect("it can be written");
    let error = bench.failure(&["verify", "mine"]);
    assert!(error.contains("model.safetensors") && error.contains("set aside"), "{error}");
    assert_eq!(bench.listed("mine").expect("it is listed")["health"]["health"], "quarantined");
    // Mended, it comes back.
    weights[last - 1] ^= 1;
    let aside = bench.home.path().join("quarantine/mine/model.safetensors");
    fs::write(aside, &weights).expect("it can be written");
    bench.done(&["verify", "mine"]);
    assert_eq!(bench.listed("mine").expect("it is listed")["health"]["health"], "passed");
}

#[test]
fn an_installation_survives_twenty_kills_and_is_never_seen_half() {
    let name = "installing::an_installation_survives_twenty_kills_and_is_never_seen_half";
    let Some(minilm) = checkpoint::minilm_or_skip(name).expect("the checkpoint can be fetched") else { return };
    let bench = Bench::with(&minilm);
    survives_kills(&bench, &minilm, 20);
    // In a folder of our own the files are moved, not linked.
    let bench = Bench { own: true, ..Bench::with(&minilm) };
    survives_kills(&bench, &minilm, 8);
    assert!(fs::symlink_metadata(bench.model("fetched").join("model.safetensors")).expect("it is there").is_file());
    let left = walk(&bench.home.path().join("downloads"));
    assert!(left.is_empty(), "the download is still there: {left:?}");
}

/// Installs the files of `original` from the hub into a program that is killed so often meanwhile.
fn survives_kills(bench: &Bench, original: &Path, kills: u64) {
    let mut server = bench.serve();
    let offer = &bench.json(&["inspect", REPOSITORY])[0];
    let total = offer["download"]["total_bytes"].as_u64().expect("a size");
    // So slow that there are moments to choose from.
    call(&server, "limit_downloads", &json!({ "bytes_per_second": 60_000_000 }));
    call(&server, "install", &json!({ "source": REPOSITORY, "agreed_bytes": total, "name": "fetched" }));
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    let mut installed_after = None;
    for kill in 0..kills {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        std::thread::sleep(Duration::from_millis(20 + (seed >> 33) % 400));
        server.kill();
        let models = bench.home.path().join("models");
        let seen: Vec<String> = fs::read_dir(&models)
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|name| !name.starts_with('.'))
            .collect();
        for name in &seen {
            let folder = models.join(name);
            assert!(folder.join("card.json").is_file() && folder.join("origin.json").is_file(), "{name} is half there");
            installed_after = installed_after.or(Some(kill));
        }
        server = bench.serve();
    }
    // What a person said yes to goes on by itself.
    eventually("the model in the list", || bench.listed("fetched"));
    let folder = bench.model("fetched");
    for file in ["model.safetensors", "tokenizer.json", "config.json"] {
        assert_eq!(
            fs::read(folder.join(file)).expect("it is there"),
            fs::read(original.join(file)).expect("it is there")
        );
    }
    assert_eq!(bench.listed("fetched").expect("it is listed")["health"]["health"], "passed");
    // Each kill costs at most what the connections had not written down.
    let wasted = bench.hub.served().saturating_sub(total);
    assert!(
        wasted <= kills * 4 * (8 << 20),
        "{wasted} bytes were fetched twice; installed after {installed_after:?} kills"
    );
    drop(server);
}

#[test]
fn one_download_can_be_paused_for_longer_than_the_program_runs_while_others_go_ahead() {
    let bench = Bench::small();
    let mut server = bench.serve();
    let total = bench.json(&["inspect", REPOSITORY])[0]["download"]["total_bytes"].as_u64().expect("a size");
    let slow = json!({ "bytes_per_second": total / 4 });
    let begin = |server: &Server| {
        call(server, "limit_downloads", &slow);
        call(server, "install", &json!({ "source": REPOSITORY, "agreed_bytes": total, "name": "fetched" }));
        let begun = eventually("the first bytes", || {
            bench.job().filter(|job| job["unit"] == "bytes" && job["done"].as_u64() > Some(0))
        });
        begun["id"].to_string()
    };
    let id = begin(&server);
    bench.done(&["pause", &id]);
    let paused = bench.job().expect("it is there");
    assert_eq!((&paused["state"]["state"], &paused["held"]), (&json!("paused"), &json!(true)), "{paused}");
    // The next in line goes ahead.
    bench.done(&["install", text(&small()), "--name", "other"]);
    assert!(bench.listed("other").is_some() && bench.listed("fetched").is_none());
    let fetched = bench.hub.served();
    assert!(fetched < total, "it was paused too late to see anything");
    // It stays so when the program goes and comes back.
    server.kill();
    server = bench.serve();
    let again = eventually("the paused installation", || bench.job());
    assert_eq!((&again["state"]["state"], &again["held"]), (&json!("paused"), &json!(true)), "{again}");
    assert_eq!(bench.hub.served(), fetched, "nothing is fetched while it is paused");
    assert_eq!(call(&server, "download_limit", &json!({})), slow, "the limit is the one that was set");
    call(&server, "limit_downloads", &json!({ "bytes_per_second": null }));
    bench.done(&["resume", &again["id"].to_string()]);
    eventually("the model in the list", || bench.listed("fetched"));
    assert_eq!(bench.job().expect("it is there")["state"]["state"], "done");

    // A paused one is cancelled at once, and the next start has nothing to go on with.
    bench.done(&["remove", "fetched"]);
    fs::remove_dir_all(bench.cache()).expect("the cache can be emptied");
    let id = begin(&server);
    bench.done(&["pause", &id]);
    bench.done(&["cancel", &id]);
    assert_eq!(bench.job().expect("it is there")["state"]["state"], "cancelled");
    assert_eq!(bench.wanted(), Vec::<Value>::new());
    let error = bench.failure(&["pause", "77"]);
    assert!(error.contains("77"), "{error}");
}

#[test]
fn what_waits_behind_a_download_is_cancelled_at_once_and_forgotten() {
    let bench = Bench::small();
    let server = bench.serve();
    let total = bench.json(&["inspect", REPOSITORY])[0]["download"]["total_bytes"].as_u64().expect("a size");
    let slow = json!({ "bytes_per_second": total / 20 });
    call(&server, "limit_downloads", &slow);
    let begin = |source: &str, name: &str, agreed: u64| {
        let request = json!({ "source": source, "agreed_bytes": agreed, "name": name });
        call(&server, "install", &request)["id"].as_u64().expect("a number")
    };
    let fetching = |id: u64| {
        let is_it = |job: &Value| job["id"] == id && job["unit"] == "bytes" && job["done"].as_u64() > Some(0);
        eventually("the first bytes", || bench.json(&["jobs"]).into_iter().find(is_it));
    };
    let state = |id: u64| {
        let jobs = bench.json(&["jobs"]);
        let job = jobs.iter().find(|job| job["id"] == id).expect("it is shown");
        job["state"]["state"].as_str().expect("a word").to_owned()
    };
    // Two models of one repository: its checkpoint, and a GGUF file of more bytes.
    let first = begin(REPOSITORY, "first", total);
    fetching(first);
    assert_eq!(begin(REPOSITORY, "first", total - 1), first, "asked for again, it is the same");
    assert_eq!(bench.wanted().len(), 1);
    bench.done(&["pause", &first.to_string()]);
    let second = begin(&format!("{REPOSITORY}:other.gguf"), "second", u64::MAX >> 12);
    fetching(second);
    // Let go, it is behind the second one; cancelled, it does not wait for that.
    bench.done(&["resume", &first.to_string()]);
    assert_eq!(state(first), "running");
    bench.done(&["cancel", &first.to_string()]);
    assert_eq!(state(first), "cancelled");
    let wanted = bench.wanted();
    assert!(wanted.len() == 1 && wanted[0]["name"] == "second", "{wanted:?}");
    // The other one waits for its turn with it, and is asked for again after a cancel.
    let behind = begin(REPOSITORY, "first", total);
    bench.done(&["cancel", &behind.to_string()]);
    let again = begin(REPOSITORY, "first", total);
    assert_ne!(again, behind);
    bench.done(&["pause", &again.to_string()]);
    // An end in order keeps what was wanted, and does not wait for what is paused.
    signal(server.pid(), "TERM");
    eventually("the end of the program", || (!alive(server.pid())).then_some(()));
    let wanted = bench.wanted();
    let held: Vec<_> = wanted.iter().map(|it| (it["name"].as_str(), it["held"].as_bool())).collect();
    assert_eq!(held, [(Some("second"), Some(false)), (Some("first"), Some(true))]);
    // Asked for, what is paused goes on.
    let server = bench.serve();
    call(&server, "limit_downloads", &json!({ "bytes_per_second": null }));
    eventually("both jobs", || (bench.json(&["jobs"]).len() == 2).then_some(()));
    bench.done(&["install", REPOSITORY, "--name", "first", "--yes"]);
    eventually("both models", || bench.listed("first").and(bench.listed("second")));
    eventually("nothing more to do", || bench.wanted().is_empty().then_some(()));
}

#[test]
fn a_commit_whose_files_are_others_than_they_were_is_refused() {
    let bench = Bench::small();
    bench.done(&["install", REPOSITORY, "--yes"]);
    bench.done(&["remove", "bert-small"]);
    fs::remove_dir_all(bench.cache()).expect("the cache can be emptied");
    // Another hub says that the same commit has other weights.
    let folder = bench.home.scratch().join("changed");
    copied(&small(), &folder);
    let path = folder.join("model.safetensors");
    let mut weights = fs::read(&path).expect("it can be read");
    let last = weights.len() - 1;
    weights[last] ^= 1;
    fs::write(&path, &weights).expect("it can be written");
    let other = Bench::with(&folder);
    let bench = Bench { hub: other.hub, runtime: other.runtime, ..bench };
    for arguments in [&["install", REPOSITORY, "--yes"][..], &["inspect", REPOSITORY]] {
        let error = bench.failure(arguments);
        assert!(error.contains("model.safetensors") && error.contains("fetched first"), "{error}");
    }
    assert_eq!(bench.hub.served(), 0, "nothing was fetched");
}

#[test]
fn the_sdks_lines_are_shown_and_written_as_it_reads_them() {
    let bench = Bench::small();
    bench.done(&["install", text(&small()), "--name", "mine"]);
    let project = bench.home.scratch().join("project");
    fs::create_dir(&project).expect("it can be made");
    let env = project.join(".env");
    fs::write(&env, "# mine\nPAPR_ENABLE_COREML=1\nOTHER=x\n").expect("it can be written");
    bench.done(&["env", "use", text(&env)]);
    let shown = bench.done(&["sdk", "mine"]);
    assert!(shown.contains("PAPR_ONDEVICE_PROCESSING=true"), "{shown}");
    assert_eq!(fs::read_to_string(&env).expect("it is there"), "# mine\nPAPR_ENABLE_COREML=1\nOTHER=x\n");
    bench.done(&["sdk", "mine", "--write"]);
    let written = fs::read_to_string(&env).expect("it is there");
    let path = bench.model("mine").canonicalize().expect("it is there");
    assert!(written.contains(&format!("PAPR_EMBEDDING_MODEL={}", path.display())), "{written}");
    assert!(written.starts_with("# mine\nPAPR_ENABLE_COREML=false\nOTHER=x\n"), "{written}");
}
