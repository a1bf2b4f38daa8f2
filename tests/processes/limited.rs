//! A gigabyte of memory, by a control group: the planner sees the limit and takes the precision that fits into it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use embedbar_tests::program::{TestHome, checkout, eventually};
use embedbar_tests::skip;
use serde_json::{Value, json};

use crate::conversions::{copy, write_weights};
use crate::following::{becomes, call, env, save};

const MODEL: &str = "bge-base-en-v1.5";
const LIMIT: u64 = 1 << 30;
const MEGABYTE: u64 = 1 << 20;

/// A control group of our own, gone with the test.
struct Group(PathBuf);

impl Group {
    /// `Err` with the reason where this machine lets nobody make one.
    fn new() -> Result<Self, String> {
        let name = format!("embedbar-test-{}", std::process::id());
        // Version 1 has a hierarchy of its own for memory, version 2 one for all.
        let places = [("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")];
        for (root, limit) in places {
            let group = Self(Path::new(root).join(&name));
            if fs::create_dir(&group.0).is_ok() && fs::write(group.0.join(limit), LIMIT.to_string()).is_ok() {
                return Ok(group);
            }
        }
        Err("no control group with a limit of memory can be made here".to_owned())
    }

    /// A command that runs inside.
    fn inside(&self, command: &Command) -> Command {
        let mut shell = Command::new("sh");
        shell.arg("-c").arg("echo $$ > \"$0\" && exec \"$@\"").arg(self.0.join("cgroup.procs"));
        shell.arg(command.get_program()).args(command.get_args()).stdin(Stdio::null());
        for (name, value) in command.get_envs() {
            if let Some(value) = value {
                shell.env(name, value);
            }
        }
        shell
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Only an empty one can be removed; the last process may just be ending.
        for _ in 0..50 {
            if fs::remove_dir(&self.0).is_ok() || !self.0.exists() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
    }
}

/// Holds memory until it is dropped.
struct Ballast(Child);

impl Ballast {
    fn of(bytes: u64, group: &Group) -> Self {
        let script =
            format!("import time; held = bytearray(b'x') * {bytes}; print('held', flush=True); time.sleep(600)");
        let mut python = Command::new("python3");
        python.args(["-c", &script]);
        let mut child = group.inside(&python).stdout(Stdio::piped()).spawn().expect("python3 can be run");
        let mut line = String::new();
        let output = child.stdout.take().expect("it is piped");
        std::io::BufRead::read_line(&mut std::io::BufReader::new(output), &mut line).expect("it says so");
        Self(child)
    }
}

impl Drop for Ballast {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A checkpoint with the shapes of bge-base and a pattern in the place of weights.
fn write_checkpoint(folder: &Path) {
    const WIDTH: usize = 768;
    let small = checkout().join("tests/truth/bert-small");
    fs::create_dir_all(folder).expect("it can be made");
    for name in ["modules.json", "1_Pooling", "2_Normalize", "sentence_bert_config.json", "tokenizer_config.json"] {
        copy(&small.join(name), &folder.join(name));
    }
    copy(&checkout().join("models/bundled/tokenizer.json"), &folder.join("tokenizer.json"));
    let config = fs::read(small.join("config.json")).expect("it is there");
    let mut config: Value = serde_json::from_slice(&config).expect("it is JSON");
    let sizes = json!({
        "hidden_size": WIDTH, "intermediate_size": 4 * WIDTH, "num_hidden_layers": 12, "num_attention_heads": 12,
        "vocab_size": 30522, "max_position_embeddings": 512, "type_vocab_size": 2, "torch_dtype": "bfloat16",
    });
    config.as_object_mut().expect("an object").extend(sizes.as_object().expect("an object").clone());
    fs::write(folder.join("config.json"), config.to_string()).expect("it can be written");
    let mut tensors = vec![
        ("embeddings.word_embeddings.weight".to_owned(), vec![30522, WIDTH]),
        ("embeddings.position_embeddings.weight".to_owned(), vec![512, WIDTH]),
        ("embeddings.token_type_embeddings.weight".to_owned(), vec![2, WIDTH]),
        ("embeddings.LayerNorm.weight".to_owned(), vec![WIDTH]),
        ("embeddings.LayerNorm.bias".to_owned(), vec![WIDTH]),
    ];
    for layer in 0..12 {
        let mut linear = |part: &str, rows: usize, columns: usize| {
            tensors.push((format!("encoder.layer.{layer}.{part}.weight"), vec![rows, columns]));
            tensors.push((format!("encoder.layer.{layer}.{part}.bias"), vec![rows]));
        };
        for part in ["attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"] {
            linear(part, WIDTH, WIDTH);
        }
        linear("intermediate.dense", 4 * WIDTH, WIDTH);
        linear("output.dense", WIDTH, 4 * WIDTH);
        for part in ["attention.output.LayerNorm", "output.LayerNorm"] {
            for kind in ["weight", "bias"] {
                tensors.push((format!("encoder.layer.{layer}.{part}.{kind}"), vec![WIDTH]));
            }
        }
    }
    write_weights(&folder.join("model.safetensors"), &tensors);
}

#[test]
fn in_a_gigabyte_the_model_that_does_not_fit_in_int8_is_loaded_in_4_bit_and_the_plan_says_why() {
    let name = "limited::in_a_gigabyte_the_model_that_does_not_fit_in_int8_is_loaded_in_4_bit_and_the_plan_says_why";
    let group = match Group::new() {
        Ok(group) => group,
        Err(reason) => return skip(name, &reason),
    };
    let home = TestHome::new();
    let source = home.scratch().join(MODEL);
    write_checkpoint(&source);
    for (flag, suffix) in [("--int8", "int8"), ("--k4bit", "4bit")] {
        let id = format!("{MODEL}-{suffix}");
        let target = home.path().join("models").join(&id).join(format!("{id}.gguf"));
        fs::create_dir_all(target.parent().expect("a folder")).expect("it can be made");
        let (source, target) = (source.to_str().expect("UTF-8"), target.to_str().expect("UTF-8"));
        // A pattern is no model that 4 bits could be near to.
        home.json(&["convert", "--hf", source, "--out", target, flag, "--floor", "0"]);
    }
    // What the planner says on a machine with room enough.
    let roomy = &home.json(&["plan", "--model", MODEL])[0];
    let needs = |precision: &str| {
        let candidates = roomy["candidates"].as_array().expect("a list");
        let one = candidates.iter().find(|it| it["precision"] == precision && it["backend"] == "candle_cpu");
        one.and_then(|it| it["needs_bytes"].as_u64()).expect("a candidate")
    };
    assert_eq!(roomy["choice"]["precision"], "int8");
    let (wide, narrow) = (needs("int8"), needs("4bit"));
    assert!(wide > narrow + 20 * MEGABYTE, "{wide} and {narrow} are too near to each other for this test");

    let file = home.scratch().join(".env");
    save(&file, &format!("EMBEDBAR_MODEL={MODEL}\n"), true);
    // A quarter stays free. The owner itself takes some tens of megabytes.
    let free = LIMIT / 4 + (wide + narrow) / 2;
    let ballast = Ballast::of(LIMIT - free - 24 * MEGABYTE, &group);
    let server = home.serve_by(|command| group.inside(&command), &["--model", "all-MiniLM-L6-v2"]);
    becomes(&server, "all-MiniLM-L6-v2");
    let total = call(&server, "memory", &json!({})).expect("it answers")["total_bytes"].clone();
    assert_eq!(total, LIMIT, "the limit is seen");
    home.json(&["env", "use", file.to_str().expect("UTF-8"), "--approve"]);
    becomes(&server, &format!("{MODEL}-4bit"));
    let plan = eventually("the plan says why", || {
        let snapshot = call(&server, "snapshot", &json!({})).ok()?;
        let plan = snapshot["governor"]["plan"].clone();
        (plan["model"] == MODEL).then_some(plan)
    });
    let rows = plan["candidates"].as_array().expect("a list");
    let row = |start: &str| {
        let found = rows.iter().find(|row| row["sentence"].as_str().is_some_and(|it| it.starts_with(start)));
        found.and_then(|row| row["sentence"].as_str()).expect("a sentence").to_owned()
    };
    let (int8, four) = (row("INT8, CPU"), row("4-bit, CPU"));
    assert!(int8.contains("does not fit") || int8.contains("to spare"), "{int8}");
    assert!(four.contains("fits") && !four.contains("does not fit"), "{four}");
    assert!(env(&server)["effect"].as_str().is_some_and(|effect| effect.contains("is the active model")));
    call(&server, "embed", &json!({ "texts": ["it answers"] })).expect("it answers");
    drop(server);
    drop(ballast);
}
