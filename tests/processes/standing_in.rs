//! What stands in for a model that has no room, on a simulated Mac: a smaller model or a server on the network, for Embedbar's own
//! search and for nobody else.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use embedbar_tests::checkpoint::minilm_or_skip;
use embedbar_tests::program::{Server, TestHome};
use serde_json::{Value, json};

use crate::following::{active, call, save};
use crate::remote::server;

/// A model of the catalogue that is larger than the bundled one. Its weights are the bundled model's: what is tested is who answers.
const WANTED: &str = "bge-small-en-v1.5";
/// What is installed of it.
const INSTALLED: &str = "bge-small-en-v1.5-int8";
/// The smaller model that has room when nothing else has.
const SMALLER: &str = "all-MiniLM-L6-v2-4bit";

/// A home in which [`WANTED`] is followed and something may stand in for it, on a Mac on which Docker starts.
fn home_that_allows(source: &Path, variables: &str) -> (TestHome, Server) {
    let home = TestHome::new();
    for (name, flag) in [(INSTALLED, "--int8"), (SMALLER, "--k4bit")] {
        let folder = home.path().join("models").join(name);
        fs::create_dir_all(&folder).expect("it can be made");
        let target = folder.join(format!("{name}.gguf"));
        let (source, target) = (source.to_str().expect("UTF-8"), target.to_str().expect("UTF-8"));
        home.json(&["convert", "--hf", source, "--out", target, flag]);
    }
    let file = home.scratch().join(".env");
    save(&file, &format!("EMBEDBAR_MODEL={WANTED}\n{variables}"), true);
    // Before the trace begins: Docker starts soon.
    home.json(&["env", "use", file.to_str().expect("UTF-8"), "--approve"]);
    let server = home.serve_with(&["--simulate", "16gb-docker", "--simulate-speed", "75"]);
    (home, server)
}

/// An hour of the trace takes 48 seconds.
fn becomes_at_work(server: &Server, model: &str) {
    let deadline = Instant::now() + Duration::from_secs(90);
    while active(server).as_deref() != Some(model) {
        assert!(
            Instant::now() < deadline,
            "`{model}` never answered: {}",
            call(server, "snapshot", &json!({})).expect("it answers")
        );
        // Somebody uses it: what nobody uses would be unloaded.
        call(server, "search", &json!({ "query": "hello", "limit": 1 })).ok();
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Programs are refused with the time after which to try again; our own search is answered by `model`.
fn stands_in(home: &TestHome, server: &Server, model: &str) {
    let (origin, token) = server.origin_and_token();
    for request in [json!({ "texts": ["x"] }), json!({ "texts": ["x"], "model": WANTED })] {
        let mut refusal = ureq::post(format!("{origin}/api/call/embed"))
            .config()
            .http_status_as_error(false)
            .build()
            .header("Authorization", format!("Bearer {token}"))
            .send_json(&request)
            .expect("it answers");
        let retry_after = refusal.headers().get("retry-after").and_then(|seconds| seconds.to_str().ok()?.parse().ok());
        assert_eq!(refusal.status(), 503, "{}", call(server, "snapshot", &json!({})).expect("it answers"));
        assert!(retry_after.is_some_and(|seconds: u64| seconds > 0));
        let failure: Value = refusal.body_mut().read_json().expect("a failure");
        assert_eq!(failure["code"], "loading", "{failure}");
        assert!(failure["message"].as_str().is_some_and(|message| message.contains(WANTED)), "{failure}");
    }
    assert!(!home.run(&["embed", "x"]).status.success(), "nothing answers under another's name");
    let found = call(server, "search", &json!({ "query": "hello", "limit": 1 })).expect("it answers");
    assert_eq!(found["generation"]["model"], model, "{found}");
}

#[test]
fn a_smaller_model_answers_the_search_alone_until_there_is_room_again() {
    let name = "standing_in::a_smaller_model_answers_the_search_alone_until_there_is_room_again";
    let Some(source) = minilm_or_skip(name).expect("the checkpoint can be had") else { return };
    let (home, server) = home_that_allows(&source, "EMBEDBAR_ALLOW_SMALLER=true\n");
    becomes_at_work(&server, INSTALLED);
    assert!(call(&server, "embed", &json!({ "texts": ["x"], "model": WANTED })).is_ok());
    becomes_at_work(&server, SMALLER);
    stands_in(&home, &server, SMALLER);
    let status = &home.json(&["status"])[0];
    assert!(status["governor"]["stand_in"].as_str().is_some_and(|why| why.contains(WANTED)), "{status}");
    becomes_at_work(&server, INSTALLED);
    assert!(call(&server, "embed", &json!({ "texts": ["x"] })).is_ok());
}

#[test]
fn a_server_on_the_network_answers_the_search_alone_where_that_is_allowed() {
    let name = "standing_in::a_server_on_the_network_answers_the_search_alone_where_that_is_allowed";
    let Some(source) = minilm_or_skip(name).expect("the checkpoint can be had") else { return };
    let (url, seen) = server();
    let host = url.trim_start_matches("http://").trim_end_matches("/v1").to_owned();
    let variables = format!("EMBEDBAR_ALLOW_REMOTE=true\nEMBEDBAR_REMOTE_URL={url}\nEMBEDBAR_REMOTE_MODEL=small\n");
    let (home, server) = home_that_allows(&source, &variables);
    becomes_at_work(&server, INSTALLED);
    assert_eq!(home.json(&["env", "remote", "--allow"])[0]["consent"], "granted");
    assert_eq!(seen.texts(), Vec::<String>::new(), "the model here answers");
    let remote = format!("remote:{host}/small");
    becomes_at_work(&server, &remote);
    stands_in(&home, &server, &remote);
    assert!(seen.texts().iter().any(|text| text == "hello"));
    assert!(!seen.texts().iter().any(|text| text == "x"), "what programs asked has not left");
    let now = call(&server, "snapshot", &json!({})).expect("it answers");
    assert_eq!(now["model"]["generation"]["precision"], "unknown");
    becomes_at_work(&server, INSTALLED);
    let logs = fs::read_dir(home.path().join("logs")).expect("there are logs").flatten();
    let logs: String = logs.map(|log| fs::read_to_string(log.path()).expect("UTF-8")).collect();
    assert!(logs.contains(&remote), "the log says who answered");
}
