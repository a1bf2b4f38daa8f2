//! Rubbish in, a sentence out: what happened, to which file, and what to do. Nothing is lost and the app goes on.

use std::fs;
use std::path::{Path, PathBuf};

use embedbar_tests::program::{TestHome, checkout};

const MODEL: &str = "all-MiniLM-L6-v2-int8.gguf";

/// A copy of the bundled model to spoil.
fn copy(home: &TestHome, name: &str) -> PathBuf {
    let folder = home.scratch().join(name);
    fs::create_dir_all(&folder).expect("it can be made");
    for file in [MODEL, "tokenizer.json"] {
        fs::copy(checkout().join("models/bundled").join(file), folder.join(file)).expect("it can be copied");
    }
    folder
}

fn complaint(home: &TestHome, model: &Path) -> String {
    home.failure(&["embed", "hello", "--model", model.to_str().expect("UTF-8")])
}

fn assert_names(error: &str, file: &str) {
    assert!(error.contains(file), "the message names `{file}`: {error}");
    assert!(error.contains("hint: "), "the message says what to do: {error}");
}

#[test]
fn a_model_that_is_missing() {
    let home = TestHome::new();
    assert_names(&complaint(&home, &home.scratch().join("none.gguf")), "none.gguf");
    assert_names(&home.failure(&["embed", "hello", "--model", "no-such-model"]), "no-such-model");
}

#[test]
fn a_model_that_is_truncated() {
    let home = TestHome::new();
    for length in [0, 100, 1_000_000, 24_000_000] {
        let file = copy(&home, "cut").join(MODEL);
        fs::File::options().write(true).open(&file).and_then(|file| file.set_len(length)).expect("it can be cut");
        assert_names(&complaint(&home, &file), MODEL);
    }
}

#[test]
fn a_model_that_is_not_a_model() {
    let home = TestHome::new();
    let file = copy(&home, "text").join(MODEL);
    fs::write(&file, "This is a letter to my aunt.").expect("it can be written");
    assert_names(&complaint(&home, &file), MODEL);
}

#[test]
fn a_model_of_an_unknown_architecture() {
    let home = TestHome::new();
    let folder = home.scratch().join("odd");
    fs::create_dir_all(&folder).expect("it can be made");
    fs::copy(checkout().join("models/bundled/tokenizer.json"), folder.join("tokenizer.json"))
        .expect("it can be copied");
    fs::write(folder.join("config.json"), r#"{"model_type": "mamba", "architectures": ["MambaModel"]}"#)
        .expect("it can be written");
    fs::write(folder.join("model.safetensors"), 2_u64.to_le_bytes().iter().chain(b"{}").copied().collect::<Vec<u8>>())
        .expect("it can be written");
    let error = complaint(&home, &folder);
    assert_names(&error, "mamba");
}

#[test]
fn a_tokenizer_that_is_broken_or_of_another_model_and_one_that_lies_in_the_file() {
    let home = TestHome::new();
    let folder = copy(&home, "tokenizer");
    let tokenizer = folder.join("tokenizer.json");
    let text = fs::read_to_string(&tokenizer).expect("it is there");
    // Our converter writes it into the file as well, where llama.cpp looks for it.
    fs::remove_file(&tokenizer).expect("it can be removed");
    let alone = home.json(&["embed", "hello", "--model", folder.to_str().expect("UTF-8")]);
    fs::write(&tokenizer, &text).expect("it can be written");
    let beside = home.json(&["embed", "hello", "--model", folder.to_str().expect("UTF-8")]);
    assert_eq!(alone[0]["embedding"], beside[0]["embedding"]);
    fs::write(&tokenizer, &text[..text.len() / 2]).expect("it can be written");
    assert_names(&complaint(&home, &folder), "tokenizer.json");
    let mut other: serde_json::Value = serde_json::from_str(&text).expect("it is JSON");
    let vocabulary = other["model"]["vocab"].as_object_mut().expect("it has one");
    for number in 0..100 {
        vocabulary.insert(format!("extra{number}"), (40_000 + number).into());
    }
    fs::write(&tokenizer, other.to_string()).expect("it can be written");
    assert_names(&complaint(&home, &folder), "tokenizer.json");
}

#[test]
fn a_model_that_fails_leaves_the_running_one_in_place() {
    let home = TestHome::new();
    let _server = home.serve();
    home.json(&["embed", "hello"]);
    let file = copy(&home, "broken").join(MODEL);
    fs::write(&file, "rubbish").expect("it can be written");
    assert_names(&home.failure(&["use", file.to_str().expect("UTF-8")]), MODEL);
    assert_eq!(home.json(&["embed", "hello"])[0]["generation"]["model"], "all-MiniLM-L6-v2");
}

#[test]
fn an_empty_query_and_a_folder_that_is_not_there() {
    let home = TestHome::new();
    let error = home.failure(&["search", "  "]);
    assert!(error.contains("the query is empty") && error.contains("hint:"), "{error}");
    assert_names(&home.failure(&["index", "/no/such/folder"]), "/no/such/folder");
}

#[test]
fn wrong_usage_has_its_own_exit_status() {
    let home = TestHome::new();
    for arguments in [&["embed", "--no-such-flag"][..], &["search"], &["frobnicate"], &["search", "x", "--limit", "0"]]
    {
        assert_eq!(home.run(arguments).status.code(), Some(2), "{arguments:?}");
    }
}

#[test]
fn a_home_of_a_newer_version_is_left_alone() {
    let home = TestHome::new();
    fs::create_dir_all(home.path()).expect("it can be made");
    fs::write(home.path().join("layout"), "99\n").expect("it can be written");
    let error = home.failure(&["status"]);
    assert!(error.contains("newer Embedbar") && error.contains("99"), "{error}");
    assert_eq!(fs::read_dir(home.path()).expect("it is there").count(), 1, "nothing was added");
}
