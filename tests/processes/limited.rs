//! A gigabyte of memory, by a control group: the planner sees the limit and takes the precision that fits into it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use embedbar_tests::program::{TestHome, checkout};
use embedbar_tests::skip;
use serde_json::{Value, json};

use crate::conversions::{copy, write_weights};
use crate::following::{becomes, call, env, save};

const MODEL: &str = "Qwen3-Embedding-0.6B";
const LIMIT: u64 = 1 << 30;

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

/// A checkpoint with the shapes of Qwen3-Embedding-0.6B, the tokenizer of a small one and a pattern in the place of weights.
fn write_checkpoint(folder: &Path) {
    const WIDTH: usize = 1024;
    const LAYERS: usize = 28;
    const VOCABULARY: usize = 151_669;
    let small = checkout().join("tests/truth/qwen3-small");
    fs::create_dir_all(folder).expect("it can be made");
    for name in ["modules.json", "1_Pooling", "2_Normalize", "tokenizer.json"] {
        copy(&small.join(name), &folder.join(name));
    }
    let config = fs::read(small.join("config.json")).expect("it is there");
    let mut config: Value = serde_json::from_slice(&config).expect("it is JSON");
    let sizes = json!({
        "hidden_size": WIDTH, "intermediate_size": 3 * WIDTH, "num_hidden_layers": LAYERS, "num_attention_heads": 16,
        "num_key_value_heads": 8, "head_dim": 128, "vocab_size": VOCABULARY, "torch_dtype": "bfloat16",
        "max_window_layers": LAYERS, "layer_types": vec!["full_attention"; LAYERS],
    });
    config.as_object_mut().expect("an object").extend(sizes.as_object().expect("an object").clone());
    fs::write(folder.join("config.json"), config.to_string()).expect("it can be written");
    let mut tensors = vec![("embed_tokens.weight".to_owned(), vec![VOCABULARY, WIDTH])];
    for layer in 0..LAYERS {
        for (part, shape) in [
            ("input_layernorm", vec![WIDTH]),
            ("mlp.down_proj", vec![WIDTH, 3 * WIDTH]),
            ("mlp.gate_proj", vec![3 * WIDTH, WIDTH]),
            ("mlp.up_proj", vec![3 * WIDTH, WIDTH]),
            ("post_attention_layernorm", vec![WIDTH]),
            ("self_attn.k_norm", vec![128]),
            ("self_attn.k_proj", vec![1024, WIDTH]),
            ("self_attn.o_proj", vec![WIDTH, 2048]),
            ("self_attn.q_norm", vec![128]),
            ("self_attn.q_proj", vec![2048, WIDTH]),
            ("self_attn.v_proj", vec![1024, WIDTH]),
        ] {
            tensors.push((format!("layers.{layer}.{part}.weight"), shape));
        }
    }
    tensors.push(("norm.weight".to_owned(), vec![WIDTH]));
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
        // Comparing a pattern with its source would take minutes and prove nothing.
        home.json(&["convert", "--hf", source, "--out", target, flag, "--no-certificate"]);
    }
    let file = home.scratch().join(".env");
    save(&file, &format!("EMBEDBAR_MODEL={MODEL}\n"), true);
    let server = home.serve_by(|command| group.inside(&command), &["--model", "all-MiniLM-L6-v2"]);
    becomes(&server, "all-MiniLM-L6-v2");
    let total = call(&server, "memory", &json!({})).expect("it answers")["total_bytes"].clone();
    assert_eq!(total, LIMIT, "the limit is seen");
    home.json(&["env", "use", file.to_str().expect("UTF-8"), "--approve"]);
    becomes(&server, &format!("{MODEL}-4bit"));
    let effect = env(&server)["effect"].as_str().expect("a sentence").to_owned();
    assert!(effect.contains("Passed over: INT8, CPU: needs") && effect.contains("does not fit"), "{effect}");
    call(&server, "embed", &json!({ "texts": ["it answers"] })).expect("it answers");
}
