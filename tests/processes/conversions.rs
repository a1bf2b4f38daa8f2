//! Conversions by the application: asked for over the contract, carried out in a process of their own, and what is left when
//! any of the programs is killed.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use embedbar_tests::program::{Server, TestHome, alive, checkout, eventually, signal};
use serde_json::{Map, Value, json};

/// A server on a home of its own.
struct Bench {
    home: TestHome,
    server: Server,
    /// Each conversion takes a processor, and a few hundred megabytes of disk.
    _turn: MutexGuard<'static, ()>,
}

impl Bench {
    fn new() -> Self {
        static TURN: Mutex<()> = Mutex::new(());
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let home = TestHome::new();
        let server = home.serve();
        Self { home, server, _turn: turn }
    }

    /// A checkpoint that keeps a converter busy for some seconds.
    fn large(&self) -> PathBuf {
        let source = self.home.scratch().join("large");
        if !source.exists() {
            write_large_checkpoint(&source);
        }
        source
    }

    /// A command of the contract; the failure where it is refused.
    fn call(&self, method: &str, params: &Value) -> Result<Value, Value> {
        let (origin, token) = self.server.origin_and_token();
        let mut response = ureq::post(format!("{origin}/api/call/{method}"))
            .config()
            .http_status_as_error(false)
            .build()
            .header("Authorization", format!("Bearer {token}"))
            .send_json(params)
            .expect("the server answers");
        let body = response.body_mut().read_json().expect("the answer is JSON");
        if response.status().is_success() { Ok(body) } else { Err(body) }
    }

    /// Starts a conversion and gives its job.
    fn convert(&self, source: &Path, precision: &str, target: Option<&Path>) -> Value {
        let request =
            json!({ "source": source, "precision": precision, "format": { "kind": "gguf" }, "target": target });
        self.call("convert", &request).expect("it is taken")
    }

    fn job(&self, id: &Value) -> Value {
        let snapshot = self.call("snapshot", &json!({})).expect("it is always answered");
        let jobs = snapshot["jobs"].as_array().expect("a list").clone();
        jobs.into_iter().find(|job| &job["id"] == id).expect("the job is shown")
    }

    fn done(&self, id: &Value) -> u64 {
        self.job(id)["done"].as_u64().expect("a number")
    }

    /// Waits until a job is in a state.
    fn reaches(&self, id: &Value, state: &str) -> Value {
        eventually(&format!("a job that is {state}"), || {
            let job = self.job(id);
            (job["state"]["state"] == state).then_some(job)
        })
    }

    /// Starts a large conversion, waits until it has begun to write, and pauses it there.
    fn paused_in_the_middle(&self, target: Option<&Path>) -> (Value, u32) {
        let id = self.convert(&self.large(), "4bit", target)["id"].clone();
        eventually("a conversion that has begun", || (self.done(&id) > 0).then_some(()));
        self.call("pause", &json!({ "paused": true })).expect("it is taken");
        self.reaches(&id, "paused");
        // The job is paused at once; its converter is when nothing has come from it for several times as long as usual.
        eventually("a converter that holds", || {
            let before = self.done(&id);
            std::thread::sleep(Duration::from_millis(500));
            (self.done(&id) == before).then_some(())
        });
        let converter = converter_of(self.server.pid()).expect("a converter is at it");
        (id, converter)
    }

    /// The names of everything below the home's models folder.
    fn models(&self) -> Vec<String> {
        let mut found = Vec::new();
        list(&self.home.path().join("models"), &mut found);
        found.sort();
        found
    }
}

fn list(folder: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        found.push(entry.file_name().to_string_lossy().into_owned());
        list(&entry.path(), found);
    }
}

/// The process id of an owner's converter.
fn converter_of(owner: u32) -> Option<u32> {
    fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
        let parent: u32 = stat.rsplit(')').next()?.split_whitespace().nth(1)?.parse().ok()?;
        let command = fs::read_to_string(entry.path().join("cmdline")).ok()?;
        (parent == owner && command.contains("\0converter\0")).then_some(pid)
    })
}

/// The sizes of a Qwen3; heads have 128 columns.
pub(crate) struct Sizes {
    pub(crate) width: usize,
    pub(crate) inner: usize,
    pub(crate) layers: usize,
    pub(crate) heads: usize,
    pub(crate) key_heads: usize,
    /// Rows of the table of tokens; `None` for as many as the small one's tokenizer has.
    pub(crate) vocabulary: Option<usize>,
}

/// A Qwen3 of a quarter of a gigabyte.
fn write_large_checkpoint(folder: &Path) {
    let sizes = Sizes { width: 1024, inner: 4096, layers: 8, heads: 8, key_heads: 4, vocabulary: None };
    write_qwen3(folder, &sizes);
}

/// A Qwen3 of these sizes with the tokenizer of the small one. The weights are a pattern: what is timed is work.
pub(crate) fn write_qwen3(folder: &Path, sizes: &Sizes) {
    let Sizes { width, inner, layers, heads, key_heads, vocabulary } = *sizes;
    fs::create_dir_all(folder).expect("it can be made");
    let small = checkout().join("tests/truth/qwen3-small");
    let config = fs::read(small.join("config.json")).expect("it is there");
    let mut config: Value = serde_json::from_slice(&config).expect("it is JSON");
    let small_vocabulary = || usize::try_from(config["vocab_size"].as_u64().expect("a number")).expect("it is small");
    let vocabulary = vocabulary.unwrap_or_else(small_vocabulary);
    let sizes = json!({
        "hidden_size": width, "intermediate_size": inner, "num_hidden_layers": layers, "num_attention_heads": heads,
        "num_key_value_heads": key_heads, "head_dim": 128, "vocab_size": vocabulary, "torch_dtype": "bfloat16",
        "max_window_layers": layers, "layer_types": vec!["full_attention"; layers],
    });
    config.as_object_mut().expect("an object").extend(sizes.as_object().expect("an object").clone());
    fs::write(folder.join("config.json"), config.to_string()).expect("it can be written");
    // The last three say how hidden states become a vector.
    for name in ["tokenizer.json", "modules.json", "1_Pooling", "2_Normalize"] {
        copy(&small.join(name), &folder.join(name));
    }
    let mut tensors = vec![("embed_tokens.weight".to_owned(), vec![vocabulary, width])];
    for layer in 0..layers {
        for (part, shape) in [
            ("input_layernorm", vec![width]),
            ("mlp.down_proj", vec![width, inner]),
            ("mlp.gate_proj", vec![inner, width]),
            ("mlp.up_proj", vec![inner, width]),
            ("post_attention_layernorm", vec![width]),
            ("self_attn.k_norm", vec![128]),
            ("self_attn.k_proj", vec![128 * key_heads, width]),
            ("self_attn.o_proj", vec![width, 128 * heads]),
            ("self_attn.q_norm", vec![128]),
            ("self_attn.q_proj", vec![128 * heads, width]),
            ("self_attn.v_proj", vec![128 * key_heads, width]),
        ] {
            tensors.push((format!("layers.{layer}.{part}.weight"), shape));
        }
    }
    tensors.push(("norm.weight".to_owned(), vec![width]));
    write_weights(&folder.join("model.safetensors"), &tensors);
}

fn copy(from: &Path, to: &Path) {
    if from.is_dir() {
        fs::create_dir_all(to).expect("it can be made");
        for entry in fs::read_dir(from).expect("it is there").flatten() {
            copy(&entry.path(), &to.join(entry.file_name()));
        }
    } else {
        fs::copy(from, to).expect("it can be copied");
    }
}

fn write_weights(path: &Path, tensors: &[(String, Vec<usize>)]) {
    let (mut header, mut end) = (Map::new(), 0);
    for (name, shape) in tensors {
        let bytes = 2 * shape.iter().product::<usize>();
        header.insert(name.clone(), json!({ "dtype": "BF16", "shape": shape, "data_offsets": [end, end + bytes] }));
        end += bytes;
    }
    let mut header = serde_json::to_vec(&header).expect("it is JSON");
    header.resize(header.len().next_multiple_of(8), b' ');
    // bfloat16 between 2^-7 and 2^-5, of either sign, in an order without a short period.
    let pattern: Vec<u8> = (0..1_u32 << 20)
        .flat_map(|index| {
            let random = index.wrapping_mul(0x9e37_79b1) >> 13;
            (0x3c00 | (random & 0x00ff) as u16 | (random as u16 & 0x8000)).to_le_bytes()
        })
        .collect();
    let mut file = File::create(path).expect("it can be made");
    file.write_all(&(header.len() as u64).to_le_bytes()).expect("it can be written");
    file.write_all(&header).expect("it can be written");
    while end > 0 {
        let piece = end.min(pattern.len());
        file.write_all(&pattern[..piece]).expect("it can be written");
        end -= piece;
    }
}

#[test]
fn a_converted_model_is_listed_and_answers() {
    let bench = Bench::new();
    let source = checkout().join("tests/truth/qwen3-small");
    let started = bench.convert(&source, "int8", None);
    assert_eq!((started["kind"].as_str(), started["unit"].as_str()), (Some("convert"), Some("bytes")), "{started}");
    let job = bench.reaches(&started["id"], "done");
    assert_eq!(job["done"], job["total"], "{job}");
    assert!(job["done"].as_u64().is_some_and(|bytes| bytes > 600_000), "{job}");
    let models = bench.home.json(&["models"]);
    let model = models.iter().find(|model| model["id"] == "qwen3-small-int8").expect("it is listed");
    assert_eq!(model["path"], job["target"]);
    let vector = |name: &str| bench.home.json(&["embed", "a cat sat on the mat", "--model", name]).remove(0);
    let (made, wanted) = (vector("qwen3-small-int8"), vector(source.to_str().expect("UTF-8")));
    assert_eq!(made["generation"]["precision"], "int8");
    let numbers = |line: &Value| -> Vec<f64> {
        line["embedding"].as_array().expect("a vector").iter().map(|it| it.as_f64().expect("a number")).collect()
    };
    let cosine: f64 = numbers(&made).iter().zip(numbers(&wanted)).map(|(one, other)| one * other).sum();
    assert!(cosine > 0.99, "{cosine}");
}

#[test]
fn a_conversion_shows_bytes_rate_and_time_left_while_another_job_goes_on() {
    let bench = Bench::new();
    let id = bench.convert(&bench.large(), "4bit", None)["id"].clone();
    let again = bench.convert(&bench.large(), "4bit", None);
    assert_eq!(again["id"], id, "the same conversion is the same job");
    let job = eventually("a rate", || {
        let job = bench.job(&id);
        (job["bytes_per_second"].is_number() || job["state"]["state"] != "running").then_some(job)
    });
    assert_eq!(job["state"]["state"], "running", "{job}");
    assert!(job["seconds_left"].as_f64().is_some_and(|seconds| seconds > 0.0), "{job}");
    assert!(job["detail"].as_str().is_some_and(|detail| detail.starts_with("converting ")), "{job}");
    let total = job["total"].as_u64().expect("it is known from the headers");
    assert!(total > 200_000_000 && job["done"].as_u64().is_some_and(|done| done <= total), "{job}");
    // Queries and indexing do not wait for it.
    let folder = bench.home.scratch().join("notes");
    fs::create_dir_all(&folder).expect("it can be made");
    fs::write(folder.join("a.txt"), "The tram climbs the hill.\n").expect("it can be written");
    let indexed = bench.home.json(&["index", folder.to_str().expect("UTF-8")]).remove(0);
    assert_eq!(indexed["state"]["state"], "done");
    assert_eq!(bench.job(&id)["state"]["state"], "running", "the index did not wait for the conversion");
    bench.call("cancel", &json!({ "id": id })).expect("it is taken");
    bench.reaches(&id, "cancelled");
}

#[test]
fn a_pause_holds_a_conversion_and_a_cancel_leaves_nothing() {
    let bench = Bench::new();
    let (id, converter) = bench.paused_in_the_middle(None);
    let held = bench.done(&id);
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(bench.done(&id), held);
    assert!(bench.job(&id)["bytes_per_second"].is_null(), "what stands still has no rate");
    assert!(bench.models().iter().any(|name| name.ends_with(".partial")), "{:?}", bench.models());
    bench.call("pause", &json!({ "paused": false })).expect("it is taken");
    eventually("it goes on", || (bench.done(&id) > held).then_some(()));
    bench.call("pause", &json!({ "paused": true })).expect("it is taken");
    bench.call("cancel", &json!({ "id": id })).expect("a paused one can be cancelled");
    bench.reaches(&id, "cancelled");
    assert!(!alive(converter));
    assert_eq!(bench.models(), [""; 0], "nothing is left");
}

#[test]
fn one_that_waits_for_its_turn_is_cancelled_at_once() {
    let bench = Bench::new();
    let (first, _) = bench.paused_in_the_middle(None);
    let second = bench.convert(&bench.large(), "int8", None)["id"].clone();
    assert_ne!(second, first);
    bench.call("cancel", &json!({ "id": second })).expect("it is taken");
    assert_eq!(bench.job(&second)["state"]["state"], "cancelled");
    assert_eq!(bench.job(&first)["state"]["state"], "paused", "the first one is where it was");
}

#[test]
fn a_killed_converter_is_a_failure_and_the_old_model_stays() {
    let bench = Bench::new();
    let target = bench.home.scratch().join("model.gguf");
    fs::write(&target, "the old model").expect("it can be written");
    let (id, converter) = bench.paused_in_the_middle(Some(&target));
    signal(converter, "KILL");
    let job = bench.reaches(&id, "failed");
    let failure = &job["state"]["failure"];
    assert_eq!(failure["code"], "worker_failed");
    assert!(
        failure["hint"].is_string() && failure["message"].as_str().is_some_and(|text| text.contains("signal: 9")),
        "{failure}"
    );
    assert_eq!(fs::read_to_string(&target).expect("it is there"), "the old model");
    assert!(!target.with_file_name(".model.gguf.partial").exists(), "the owner clears up after it");
    // And the next one goes through.
    bench.call("pause", &json!({ "paused": false })).expect("it is taken");
    let small = checkout().join("tests/truth/qwen3-small");
    let next = bench.convert(&small, "int8", Some(&target));
    bench.reaches(&next["id"], "done");
    assert!(fs::read(&target).expect("it is there").starts_with(b"GGUF"));
}

#[test]
fn a_converter_ends_with_its_owner_and_what_both_leave_is_swept_at_the_next_start() {
    let mut bench = Bench::new();
    let (_, converter) = bench.paused_in_the_middle(None);
    bench.server.kill();
    eventually("the converter is gone", || (!alive(converter)).then_some(()));
    assert!(!bench.models().contains(&"large-4bit.gguf".to_owned()), "it was not complete");
    bench.server = bench.home.serve();
    assert_eq!(bench.models(), [""; 0]);

    // Now neither of them can clear up.
    let (_, converter) = bench.paused_in_the_middle(None);
    signal(converter, "STOP");
    bench.server.kill();
    signal(converter, "KILL");
    eventually("the converter is gone", || (!alive(converter)).then_some(()));
    // What is left has another name while it is judged, which a slow machine may have come to before the pause.
    let folder = bench.home.path().join("models/large-4bit");
    let debris: Vec<_> = folder.read_dir().expect("it is left").flatten().map(|entry| entry.path()).collect();
    assert!(!debris.is_empty(), "nothing was left");
    // A thread of it may still wait for the disk, and hold a file until that answers.
    let closed = |path: &PathBuf| File::open(path).expect("it is left").try_lock().is_ok();
    eventually("its files are closed", || debris.iter().all(closed).then_some(()));
    bench.server = bench.home.serve();
    assert_eq!(bench.models(), [""; 0]);
}

#[test]
fn an_owner_that_stops_takes_its_conversion_with_it() {
    let bench = Bench::new();
    let (_, converter) = bench.paused_in_the_middle(None);
    signal(bench.server.pid(), "TERM");
    eventually("the owner has stopped", || (!alive(bench.server.pid())).then_some(()));
    assert!(!alive(converter));
    assert_eq!(bench.models(), [""; 0], "nothing is left");
}

#[test]
fn one_that_does_not_answer_a_cancel_is_killed() {
    let bench = Bench::new();
    let (id, converter) = bench.paused_in_the_middle(None);
    signal(converter, "STOP");
    bench.call("cancel", &json!({ "id": id })).expect("it is taken");
    bench.reaches(&id, "cancelled");
    assert!(!alive(converter));
    assert_eq!(bench.models(), [""; 0], "nothing is left");
}

#[test]
fn a_source_that_is_not_there_is_refused_before_there_is_a_job() {
    let bench = Bench::new();
    for source in ["/no/such/folder", "nobody/has-downloaded-this"] {
        let request = json!({ "source": source, "precision": "int8", "format": { "kind": "gguf" } });
        let failure = bench.call("convert", &request).expect_err("it is not there");
        assert_eq!(failure["code"], "not_found", "{failure}");
        assert!(failure["hint"].is_string() && failure["message"].as_str().is_some_and(|text| text.contains(source)));
    }
    // What only the converter can see is a job that fails with a sentence.
    let bad = bench.home.scratch().join("bad");
    fs::create_dir_all(&bad).expect("it can be made");
    fs::write(bad.join("config.json"), "{}").expect("it can be written");
    let job = bench.convert(&bad, "int8", None);
    let job = bench.reaches(&job["id"], "failed");
    assert!(job["state"]["failure"]["hint"].is_string(), "{job}");
    assert_eq!(bench.models(), [""; 0], "its folder is gone too");
    assert_eq!(bench.call("snapshot", &json!({})).expect("it answers")["jobs"].as_array().map(Vec::len), Some(1));
}
