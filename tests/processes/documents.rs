//! Real files through the whole program: indexed, found, changed, and not lost when the owner is killed.

use std::fs;
use std::path::Path;

use embedbar_tests::program::{TestHome, eventually};

fn write(folder: &Path, name: &str, text: &str) {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().expect("it has one")).expect("it can be made");
    fs::write(path, text).expect("it can be written");
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

fn library(home: &TestHome) -> std::path::PathBuf {
    let folder = home.scratch().join("library");
    write(&folder, "garden/tomatoes.md", "# Tomatoes\n\nWater them in the morning and cut the side shoots.\n");
    write(&folder, "garden/compost.txt", "Kitchen scraps and dry leaves rot into soil within a year.\n");
    write(
        &folder,
        "code/queue.rs",
        "/// Pushes a value to the back.\nfn push_back(&mut self, value: T) { self.items.push(value) }\n",
    );
    write(&folder, "travel/lisbon.md", "# Lisbon\n\nThe yellow tram climbs the steep hill to the castle.\n");
    write(&folder, ".gitignore", "secret/\n");
    write(&folder, "secret/diary.txt", "The yellow tram is where we first met.\n");
    fs::write(folder.join("photo.jpg"), [0xff, 0xd8, 0x00, 0x01].repeat(100)).expect("it can be written");
    folder
}

#[test]
fn a_question_in_other_words_finds_the_right_file() {
    let home = TestHome::new();
    let folder = library(&home);
    let job = &home.json(&["index", text(&folder)])[0];
    assert_eq!((job["state"]["state"].as_str(), job["done"].as_u64()), (Some("done"), Some(5)), "{job}");
    for (query, file) in [
        ("public transport up to the fortress", "lisbon.md"),
        ("turning food waste into fertiliser", "compost.txt"),
        ("push_back", "queue.rs"),
        ("how to care for vegetables", "tomatoes.md"),
    ] {
        let hits = home.json(&["search", query]);
        assert!(hits[0]["path"].as_str().is_some_and(|path| path.ends_with(file)), "{query}: {}", hits[0]);
        assert!(
            hits.iter().all(|hit| !hit["path"].as_str().expect("a path").contains("secret")),
            ".gitignore is respected"
        );
    }
    let hit = &home.json(&["search", "yellow tram"])[0];
    assert_eq!((hit["line"].as_u64(), hit["found_by"].as_str()), (Some(3), Some("both")), "{hit}");
    assert_eq!(hit["matched"], serde_json::json!(["yellow", "tram"]));
}

#[test]
fn only_what_changed_is_indexed_again_and_what_is_gone_is_not_found() {
    let home = TestHome::new();
    let folder = library(&home);
    home.json(&["index", text(&folder)]);
    write(&folder, "travel/lisbon.md", "# Lisbon\n\nThe ferry crosses the river to the other bank.\n");
    fs::remove_file(folder.join("garden/compost.txt")).expect("it can be removed");
    let detail = home.json(&["index", text(&folder)])[0]["detail"].as_str().expect("a summary").to_owned();
    assert!(detail.starts_with("0 added, 1 changed,") && detail.contains("1 removed"), "{detail}");
    let hits = home.json(&["search", "yellow tram"]);
    assert!(
        hits.iter().all(|hit| hit["matched"].as_array().expect("a list").is_empty()),
        "the words are gone: {hits:?}"
    );
    let output = home.run(&["forget", text(&folder)]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(home.json(&["search", "ferry"]).is_empty());
    assert!(folder.join("travel/lisbon.md").exists(), "the folder itself is not touched");
}

#[test]
fn an_owner_killed_while_it_indexes_loses_nothing_and_goes_on_at_its_next_start() {
    let home = TestHome::new();
    let folder = home.scratch().join("many");
    for number in 0..300 {
        write(
            &folder,
            &format!("{number}.txt"),
            &format!("Report {number}: the pump in hall {number} ran for {number} hours.\n"),
        );
    }
    write(&folder, "300.txt", "The lighthouse keeper counts ships at dusk.\n");
    for _ in 0..3 {
        let mut server = home.serve();
        let mut indexing = home.command(&["index", text(&folder)]).spawn().expect("it starts");
        eventually("some files are indexed", || {
            let status = &home.json(&["status"])[0];
            status["jobs"][0]["done"].as_u64().filter(|done| *done > 0)
        });
        server.kill();
        indexing.wait().expect("it can be waited for");
    }
    let _server = home.serve();
    eventually("the folder is complete", || {
        let status = home.json(&["status"]).remove(0);
        (status["index"]["folders"][0]["files"] == 301 && status["jobs"][0]["state"]["state"] == "done").then_some(())
    });
    let hits = home.json(&["search", "who watches the sea in the evening"]);
    assert!(hits[0]["path"].as_str().is_some_and(|path| path.ends_with("300.txt")), "{}", hits[0]);
}
