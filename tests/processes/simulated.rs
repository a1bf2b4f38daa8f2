//! A simulated Mac, with real models: the governor goes down the ladder and up again, and every view says that it is simulated.

use std::fs;
use std::path::Path;

use embedbar_tests::checkpoint::minilm_or_skip;
use embedbar_tests::program::{Server, TestHome, eventually};
use serde_json::{Value, json};

use crate::following::{call, env, save};

/// FP16, INT8 and 4-bit of the bundled model's checkpoint, compared with it.
fn ladder(home: &TestHome, source: &Path) {
    for (flag, suffix) in [("--fp16", "fp16"), ("--int8", "int8"), ("--k4bit", "4bit")] {
        let name = format!("all-MiniLM-L6-v2-{suffix}");
        let folder = home.path().join("models").join(&name);
        fs::create_dir_all(&folder).expect("it can be made");
        let target = folder.join(format!("{name}.gguf"));
        let (source, target) = (source.to_str().expect("UTF-8"), target.to_str().expect("UTF-8"));
        home.json(&["convert", "--hf", source, "--out", target, flag]);
    }
}

fn snapshot(server: &Server) -> Value {
    call(server, "snapshot", &json!({})).expect("it answers")
}

fn answers_in(server: &Server, precision: &str) -> Value {
    eventually(&format!("{precision} answers"), || {
        // Somebody uses it: what nobody uses would be unloaded.
        call(server, "embed", &json!({ "texts": ["hello"] })).ok();
        let now = snapshot(server);
        (now["model"]["generation"]["precision"] == precision).then_some(now)
    })
}

fn measures(snapshot: &Value) -> Vec<(String, String)> {
    let events = snapshot["governor"]["events"].as_array().expect("a list").iter().rev();
    let word = |event: &Value, key: &str| event[key].as_str().unwrap_or_default().to_owned();
    events.map(|event| (word(event, "measure"), word(event, "reason"))).collect()
}

#[test]
fn the_governor_goes_down_the_ladder_and_up_again_as_docker_comes_and_goes() {
    let name = "simulated::the_governor_goes_down_the_ladder_and_up_again_as_docker_comes_and_goes";
    let Some(source) = minilm_or_skip(name).expect("the checkpoint can be had") else { return };
    let home = TestHome::new();
    ladder(&home, &source);
    // Three hours in two and a half minutes; the last step is at about 65 seconds.
    let server = home.serve_with(&["--simulate", "16gb-docker", "--simulate-speed", "75"]);
    let first = answers_in(&server, "fp16");
    assert_eq!(first["memory"]["simulated"], "16gb-docker, 75 times as fast");
    assert!(String::from_utf8_lossy(&home.run(&["memory"]).stdout).starts_with("SIMULATED"));
    let vector =
        |text: &str| call(&server, "embed", &json!({ "texts": [text] })).expect("it answers")["items"][0].clone();
    let wide = vector("the same text");
    // Docker and the editor start; a build spikes.
    answers_in(&server, "int8");
    let narrow = answers_in(&server, "4bit");
    let seen = measures(&narrow);
    let steps: Vec<&(String, String)> = seen.iter().filter(|(measure, _)| measure == "step_down").collect();
    assert!(steps.iter().all(|(_, reason)| reason.contains("short of memory")), "{seen:?}");
    assert!(seen.iter().any(|(measure, _)| measure == "batch"), "smaller batches come first: {seen:?}");
    eventually("the plan says what answers", || {
        let now = snapshot(&server);
        let rows = now["governor"]["plan"]["candidates"].as_array()?.clone();
        let active = rows.iter().find(|row| row["active"] == true)?["candidate"].as_str()?.to_owned();
        active.contains("4-bit").then_some(())
    });
    // Another generation, and it says so.
    let small = vector("the same text");
    assert_eq!(small["generation"]["precision"], "4bit");
    assert_ne!((&wide["generation"], &wide["embedding"]), (&small["generation"], &small["embedding"]));
    // A program that insists on a precision gets it or is refused, never another one under its name.
    let pinned = json!({ "texts": ["x"], "model": "all-MiniLM-L6-v2:fp16" });
    assert!(call(&server, "embed", &pinned).is_err());
    let named = json!({ "texts": ["x"], "model": "all-MiniLM-L6-v2" });
    assert!(call(&server, "embed", &named).is_ok());
    // The build ends, and it is calm for minutes.
    let wider = answers_in(&server, "int8");
    assert!(measures(&wider).iter().any(|(measure, reason)| measure == "step_up" && reason.contains("calm")));

    // An explicit precision is never overruled: the governor only tells.
    let file = home.scratch().join(".env");
    save(&file, "EMBEDBAR_MODEL=all-MiniLM-L6-v2\nEMBEDBAR_PRECISION=fp16\n", true);
    home.json(&["env", "use", file.to_str().expect("UTF-8"), "--approve"]);
    answers_in(&server, "fp16");
    let effect = env(&server)["effect"].as_str().expect("a sentence").to_owned();
    assert!(effect.contains("is the active model"), "{effect}");
}
