//! The followed `.env`, with real programs: a save becomes a swap, and no query notices.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use embedbar_tests::program::{Server, TestHome, checkout, eventually};
use serde_json::{Value, json};

use crate::http;

pub(crate) fn call(server: &Server, method: &str, params: &Value) -> Result<Value, u16> {
    let (origin, token) = server.origin_and_token();
    http::call(origin, token, method, params)
}

/// A second model in the home: the bundled one under another name.
pub(crate) fn install_copy(home: &TestHome, name: &str) {
    let folder = home.path().join("models").join(name);
    fs::create_dir_all(&folder).expect("it can be made");
    let bundled = checkout().join("models/bundled");
    fs::copy(bundled.join("all-MiniLM-L6-v2-int8.gguf"), folder.join(format!("{name}.gguf")))
        .expect("it can be copied");
    fs::copy(bundled.join("tokenizer.json"), folder.join("tokenizer.json")).expect("it can be copied");
}

/// Saves as editors do: in place, or beside and renamed.
pub(crate) fn save(file: &Path, text: &str, in_place: bool) {
    if in_place {
        fs::write(file, text).expect("it can be written");
        return;
    }
    let beside = file.with_extension("tmp");
    fs::write(&beside, text).expect("it can be written");
    fs::rename(&beside, file).expect("it can be renamed");
}

pub(crate) fn active(server: &Server) -> Option<String> {
    let snapshot = call(server, "snapshot", &json!({})).ok()?;
    Some(snapshot["model"]["generation"]["model"].as_str()?.to_owned())
}

pub(crate) fn env(server: &Server) -> Value {
    call(server, "env", &json!({})).expect("it answers")["env"].clone()
}

pub(crate) fn becomes(server: &Server, model: &str) {
    eventually(&format!("`{model}` is active"), || active(server).filter(|active| active == model));
}

#[test]
fn a_save_of_the_followed_file_swaps_the_model_once_it_is_approved() {
    let home = TestHome::new();
    install_copy(&home, "mine");
    let server = home.serve();
    becomes(&server, "all-MiniLM-L6-v2");
    let file = home.scratch().join(".env");
    save(&file, "EMBEDBAR_MODEL=mine\n", true);
    let path = file.to_str().expect("UTF-8");

    let state = &home.json(&["env", "use", path])[0]["env"];
    assert_eq!((&state["approved"], &state["unapproved"]), (&json!(false), &json!(["EMBEDBAR_MODEL"])));
    assert!(state["effect"].as_str().is_some_and(|effect| effect.contains("`mine`")), "{state}");
    std::thread::sleep(Duration::from_millis(600));
    assert_eq!(active(&server).as_deref(), Some("all-MiniLM-L6-v2"), "an unknown file decides nothing");

    let state = &home.json(&["env", "use", path, "--approve"])[0]["env"];
    assert_eq!((&state["approved"], &state["effect"]), (&json!(true), &json!("`mine` is the active model.")));
    becomes(&server, "mine");

    // A model that is not there: the sentence says so, nothing is downloaded, the old one stays.
    save(&file, "EMBEDBAR_MODEL=Qwen/Qwen3-Embedding-4B\n", false);
    eventually("it is said", || {
        env(&server)["effect"].as_str().filter(|it| it.contains("not installed")).map(str::to_owned)
    });
    assert_eq!(active(&server).as_deref(), Some("mine"));
    // A broken edit: what held goes on to hold.
    save(&file, "EMBEDBAR_MODEL=all-MiniLM-L6-v2\nEMBEDBAR_IDLE_MINUTES=soon\n", false);
    eventually("it is held back or asked about", || {
        let env = env(&server);
        let waits = !env["held_back"].as_array()?.is_empty() || env["approved"] == false;
        waits.then_some(())
    });
    assert_eq!(active(&server).as_deref(), Some("mine"));
    save(&file, "EMBEDBAR_MODEL=all-MiniLM-L6-v2\n", true);
    becomes(&server, "all-MiniLM-L6-v2");

    // A mend in the followed file.
    save(&file, "EMBEDBAR_MODEL=mine\nEMBEDBAR_MODEL=all-MiniLM-L6-v2\n", true);
    let finding = eventually("the duplicate is found", || {
        env(&server)["findings"].as_array()?.iter().find(|finding| finding["code"] == "duplicate").cloned()
    });
    let mend = json!({ "code": finding["code"], "line": finding["line"] });
    let state = call(&server, "mend_env", &mend).expect("it is mended");
    assert_eq!(
        fs::read_to_string(&file).expect("it is there"),
        "# EMBEDBAR_MODEL=mine\nEMBEDBAR_MODEL=all-MiniLM-L6-v2\n"
    );
    assert!(state["env"]["findings"].as_array().expect("a list").iter().all(|finding| finding["code"] != "duplicate"));
    assert!(call(&server, "mend_env", &mend).is_err(), "it is mended already");

    // The next start begins with what the file says.
    save(&file, "EMBEDBAR_MODEL=mine\n", true);
    becomes(&server, "mine");
    drop(server);
    let server = home.serve();
    becomes(&server, "mine");
    drop(server);
    // A model that is broken by then does not leave anybody without one.
    let weights = home.path().join("models/mine/mine.gguf");
    let whole = fs::read(&weights).expect("it is there");
    fs::write(&weights, &whole[..1000]).expect("it can be written");
    let server = home.serve();
    becomes(&server, "all-MiniLM-L6-v2");
    eventually("it is said", || {
        env(&server)["effect"].as_str().filter(|it| it.contains("answers instead")).map(str::to_owned)
    });
    fs::write(&weights, &whole).expect("it can be written");
    save(&file, "# whole again\nEMBEDBAR_MODEL=mine\nEMBEDBAR_PRECISION=auto\n", true);
    home.json(&["env", "use", path, "--approve"]);
    becomes(&server, "mine");
    assert!(home.run(&["env", "use", "--none"]).status.success());
    assert!(env(&server).is_null());
    save(&file, "EMBEDBAR_MODEL=all-MiniLM-L6-v2\n", true);
    std::thread::sleep(Duration::from_millis(600));
    assert_eq!(active(&server).as_deref(), Some("mine"), "a file that is not followed decides nothing");
}

#[test]
fn a_choice_is_written_into_the_followed_file_once_its_lines_were_seen() {
    let home = TestHome::new();
    install_copy(&home, "mine");
    let server = home.serve();
    becomes(&server, "all-MiniLM-L6-v2");
    let file = home.scratch().join(".env");
    let text = "# ours\nOPENAI_API_KEY=hunter2\nEMBEDBAR_MODEL=mine # for now\n";
    save(&file, text, true);
    home.json(&["env", "use", file.to_str().expect("UTF-8"), "--approve"]);
    becomes(&server, "mine");
    assert_eq!(env(&server)["chosen"], Value::Null);

    // It answers at once, the file is as it was, and what it would have to say is shown.
    home.json(&["use", "all-MiniLM-L6-v2"]);
    assert_eq!(active(&server).as_deref(), Some("all-MiniLM-L6-v2"));
    assert_eq!(fs::read_to_string(&file).expect("it is there"), text);
    let state = env(&server);
    assert!(state["effect"].as_str().is_some_and(|effect| effect.contains("until Embedbar ends")), "{state}");
    let changes = state["chosen"]["changes"].clone();
    let wanted = json!([
        { "number": 3, "before": "EMBEDBAR_MODEL=mine # for now", "after": "EMBEDBAR_MODEL=all-MiniLM-L6-v2 # for now" },
        { "number": 4, "before": null, "after": "EMBEDBAR_PRECISION=int8" },
    ]);
    assert_eq!(changes, wanted);
    // A file that was saved meanwhile is not overwritten.
    let saved = text.replace("# ours", "# all of ours\n");
    save(&file, &saved, true);
    let stale = call(&server, "keep_in_env", &json!({ "changes": changes }));
    assert!(stale.is_err(), "{stale:?}");
    assert_eq!(fs::read_to_string(&file).expect("it is there"), saved);
    assert_eq!(active(&server).as_deref(), Some("all-MiniLM-L6-v2"), "the file means what it meant");

    let shown = eventually("the new lines are shown", || {
        env(&server)["chosen"]["changes"].as_array().filter(|lines| lines[0]["number"] == 4).cloned()
    });
    let state = call(&server, "keep_in_env", &json!({ "changes": shown })).expect("it is written")["env"].clone();
    let kept = saved.replace("=mine", "=all-MiniLM-L6-v2") + "EMBEDBAR_PRECISION=int8\n";
    assert_eq!(fs::read_to_string(&file).expect("it is there"), kept);
    assert_eq!((&state["approved"], &state["chosen"]), (&json!(true), &Value::Null), "{state}");
    assert_eq!(active(&server).as_deref(), Some("all-MiniLM-L6-v2"));
    // It lasts.
    drop(server);
    becomes(&home.serve(), "all-MiniLM-L6-v2");
    // What the file means already asks nothing.
    let server = home.serve();
    becomes(&server, "all-MiniLM-L6-v2");
    home.json(&["use", "all-MiniLM-L6-v2"]);
    assert_eq!(env(&server)["chosen"], Value::Null);
    // Without a terminal nothing is asked; `--keep` is the yes.
    home.json(&["use", "mine", "--keep"]);
    let kept = kept.replace("EMBEDBAR_MODEL=all-MiniLM-L6-v2", "EMBEDBAR_MODEL=mine");
    assert_eq!(fs::read_to_string(&file).expect("it is there"), kept);
}

#[test]
fn the_recipe_of_the_file_is_that_of_our_own_index_and_search() {
    let home = TestHome::new();
    let server = home.serve();
    becomes(&server, "all-MiniLM-L6-v2");
    let folder = home.scratch().join("notes");
    fs::create_dir_all(&folder).expect("it can be made");
    fs::write(folder.join("key.md"), "The signing key is rotated every spring.").expect("it can be written");
    let file = home.scratch().join(".env");
    save(&file, "EMBEDBAR_RECIPE=papr\n", true);
    home.json(&["env", "use", file.to_str().expect("UTF-8"), "--approve"]);
    home.json(&["index", folder.to_str().expect("UTF-8")]);
    let question = json!({ "query": "when do we change the key", "limit": 3 });
    let found = eventually("the search is by the file's recipe", || {
        call(&server, "search", &question).ok().filter(|found| found["generation"]["recipe"] == "papr")
    });
    assert!(found["hits"][0]["cosine"].as_f64().is_some_and(|cosine| cosine > 0.3), "found by meaning: {found}");
    // Programs name theirs.
    let embedded = call(&server, "embed", &json!({ "texts": ["x"] })).expect("it answers");
    assert_eq!(embedded["items"][0]["generation"]["recipe"], "native");
}

/// The short form of `cargo xtask bench -- swap`.
#[test]
fn twenty_swaps_by_saves_at_fifty_requests_a_second_drop_nothing() {
    const SWAPS: usize = 20;
    const CALLERS: u32 = 5;
    const BETWEEN: Duration = Duration::from_millis(100);
    let home = TestHome::new();
    install_copy(&home, "mine");
    let server = home.serve();
    let file = home.scratch().join(".env");
    save(&file, "EMBEDBAR_MODEL=all-MiniLM-L6-v2\n", true);
    home.json(&["env", "use", file.to_str().expect("UTF-8"), "--approve"]);
    becomes(&server, "all-MiniLM-L6-v2");
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (server, done) = (&server, &done);
        let callers: Vec<_> = (0..CALLERS)
            .map(|caller| {
                scope.spawn(move || {
                    let mut answered = 0;
                    let mut next = Instant::now() + BETWEEN * caller / CALLERS;
                    while !done.load(Ordering::Relaxed) {
                        std::thread::sleep(next.saturating_duration_since(Instant::now()));
                        next += BETWEEN;
                        let texts = json!([format!("caller {caller}"), "a second text in the same request"]);
                        let request = json!({ "texts": texts, "prompt": "none", "recipe": "native" });
                        let answer = call(server, "embed", &request).expect("no request fails");
                        let items = answer["items"].as_array().expect("a list");
                        assert_eq!(items.len(), 2);
                        assert_eq!(items[0]["generation"], items[1]["generation"], "one answer has one generation");
                        answered += 1;
                    }
                    answered
                })
            })
            .collect();
        for swap in 0..SWAPS {
            let model = ["mine", "all-MiniLM-L6-v2"][swap % 2];
            save(&file, &format!("# save {swap}\nEMBEDBAR_MODEL={model}\n"), swap % 3 == 0);
            becomes(server, model);
        }
        done.store(true, Ordering::Relaxed);
        let answered: u32 = callers.into_iter().map(|caller| caller.join().expect("no request failed")).sum();
        assert!(answered > SWAPS as u32, "{answered}");
    });
}
