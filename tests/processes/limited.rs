//! A gigabyte of memory, by a control group: the planner sees the limit and takes the precision that fits into it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use embedbar_tests::program::TestHome;
use embedbar_tests::skip;
use serde_json::json;

use crate::conversions::{Sizes, write_qwen3};
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

#[test]
fn in_a_gigabyte_the_model_that_does_not_fit_in_int8_is_loaded_in_4_bit_and_the_plan_says_why() {
    let name = "limited::in_a_gigabyte_the_model_that_does_not_fit_in_int8_is_loaded_in_4_bit_and_the_plan_says_why";
    let group = match Group::new() {
        Ok(group) => group,
        Err(reason) => return skip(name, &reason),
    };
    let home = TestHome::new();
    let source = home.scratch().join(MODEL);
    let sizes = Sizes {
        width: 1024,
        inner: 3072,
        layers: 28,
        heads: 16,
        key_heads: 8,
        vocabulary: Some(151_669), // the sizes of Qwen3-Embedding-0.6B
    };
    write_qwen3(&source, &sizes);
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
