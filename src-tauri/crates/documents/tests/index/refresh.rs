//! What a refresh reads, leaves out, keeps and removes.

use std::sync::Mutex;
use std::sync::mpsc;
use std::time::{Duration, SystemTime};

use embedbar_contract::{Failure, FailureCode};
use embedbar_documents::{Control, DocumentsError, Embedded, Embedder, Index, Outcome};

use crate::support::{Desk, Hashing, assert_consistent, generation, search};

fn outcome(outcome: Outcome) -> (u64, u64, u64, u64, u64) {
    (outcome.added, outcome.changed, outcome.unchanged, outcome.removed, outcome.skipped)
}

fn age(desk: &Desk, name: &str) {
    let file = std::fs::File::options().write(true).open(desk.path(name)).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_mins(1)).unwrap();
}

#[test]
fn text_of_every_kind_is_read_and_the_rest_has_a_reason() {
    let desk = Desk::new(&[
        ("notes.txt", "plain walrus"),
        ("guide.md", "# Guide\n\nmarked walrus"),
        ("doc.rst", "Title\n=====\nrestructured walrus"),
        ("src/main.rs", "fn walrus() {}"),
        ("settings.toml", "animal = 'walrus'"),
        ("page.html", "<p>web <b>walrus</b></p>"),
        ("README", "extensionless walrus"),
        ("odd.xyzzy", "unheard-of walrus"),
        ("empty.txt", ""),
        ("photo.png", "not looked at"),
        ("min.js", &"walrus();".repeat(5000)),
        ("node_modules/left/pad.js", "walrus"),
        ("cache/CACHEDIR.TAG", "Signature: 8a477f597d28d172789f06886806bc55\n"),
        ("cache/a.txt", "walrus"),
    ]);
    desk.write("latin.txt", b"W\xE4lder f\xFCr das gro\xDFe walrus");
    desk.write("program", b"\x7FELF\0\0walrus");
    desk.write("huge.txt", "walrus ".repeat(700_000));
    let result = desk.refresh(&Hashing::new("a"));
    assert_eq!(outcome(result), (10, 0, 0, 0, 6), "{:?}", desk.skipped());
    let mut found = desk.by_words("walrus");
    found.sort();
    assert_eq!(
        found,
        [
            "README",
            "doc.rst",
            "guide.md",
            "latin.txt",
            "notes.txt",
            "odd.xyzzy",
            "page.html",
            "settings.toml",
            "src/main.rs"
        ]
    );
    assert_eq!(desk.by_words("wälder große"), ["latin.txt"]);
    let reasons = desk.skipped();
    let reasons: Vec<(&str, &str)> = reasons.iter().map(|(name, reason)| (name.as_str(), reason.as_str())).collect();
    assert_eq!(
        reasons,
        [
            ("cache", "a cache, says its CACHEDIR.TAG"),
            ("huge.txt", "4.7 MB, over the limit of 4.0 MB"),
            ("min.js", "minified or generated: most of it is on endless lines"),
            ("node_modules", "packages installed by a package manager"),
            ("photo.png", "binary"),
            ("program", "binary"),
        ]
    );
    // Nothing of it is read again.
    let folders = desk.index.folders().unwrap();
    assert_eq!((folders[0].files, folders[0].skipped), (10, 6));
    assert_eq!(outcome(desk.refresh(&Hashing::new("a"))), (0, 0, 10, 0, 6));
}

#[test]
fn ignore_files_hold_without_git_and_hidden_files_and_links_are_passed_over() {
    let desk = Desk::new(&[
        (".gitignore", "*.log\n/build/\n!keep.log\n"),
        ("a.txt", "otter"),
        ("a.log", "otter"),
        ("keep.log", "otter"),
        ("build/out.txt", "otter"),
        ("sub/.ignore", "secret*\n"),
        ("sub/secret.txt", "otter"),
        ("sub/open.txt", "otter"),
        (".hidden/x.txt", "otter"),
        (".env", "otter"),
    ]);
    std::fs::write(desk.folder.path().join("outside.txt"), "otter outside").unwrap();
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(desk.folder.path().join("outside.txt"), desk.path("link.txt")).unwrap();
        std::os::unix::fs::symlink(desk.path(""), desk.path("sub/loop")).unwrap();
    }
    desk.refresh(&Hashing::new("a"));
    let mut found = desk.by_words("otter");
    found.sort();
    assert_eq!(found, ["a.txt", "keep.log", "sub/open.txt"]);
}

#[test]
fn rules_above_a_folder_hold_only_in_its_repository_and_not_against_the_folder_itself() {
    let desk = Desk::new(&[
        (".gitignore", "*.log\n/dist/\n"),
        ("sub/a.txt", "heron"),
        ("sub/a.log", "heron"),
        ("dist/b.txt", "heron"),
    ]);
    desk.refresh_path("sub", &Hashing::new("a")).unwrap();
    assert_eq!(desk.by_words("heron"), ["sub/a.log", "sub/a.txt"]);
    std::fs::create_dir(desk.path(".git")).unwrap();
    desk.refresh_path("sub", &Hashing::new("a")).unwrap();
    assert_eq!(desk.by_words("heron"), ["sub/a.txt"]);
    desk.refresh_path("dist", &Hashing::new("a")).unwrap();
    assert_eq!(desk.by_words("heron"), ["dist/b.txt", "sub/a.txt"]);
}

#[test]
fn only_what_changed_is_read_and_embedded_again() {
    let long =
        |word: &str| (0..60).map(|day| format!("On day {day} the {word} lake is quiet. ")).collect::<Vec<_>>().concat();
    let desk = Desk::new(&[("a.txt", &long("alpha")), ("b.txt", &long("beta")), ("c.txt", "gamma alone")]);
    for name in ["a.txt", "b.txt", "c.txt"] {
        age(&desk, name);
    }
    let embedder = Hashing::new("a");
    assert_eq!(outcome(desk.refresh(&embedder)), (3, 0, 0, 0, 0));
    let first = embedder.take_texts();
    assert!(first.len() > 4);
    assert_eq!(outcome(desk.refresh(&embedder)), (0, 0, 3, 0, 0));
    assert_eq!(embedder.take_texts().len(), 0);
    // Another time on the same content costs a hash and nothing else.
    desk.write("a.txt", long("alpha"));
    assert_eq!(outcome(desk.refresh(&embedder)), (0, 0, 3, 0, 0));
    // One word more at the end: the passages before keep their vectors.
    desk.write("b.txt", format!("{} omega", long("beta")));
    assert_eq!(outcome(desk.refresh(&embedder)), (0, 1, 2, 0, 0));
    let texts = embedder.take_texts();
    assert!(!texts.is_empty() && texts.len() <= 2 && texts.iter().any(|text| text.contains("omega")), "{texts:?}");
    // Renamed, copied: not one text is embedded.
    std::fs::rename(desk.path("a.txt"), desk.path("renamed.txt")).unwrap();
    std::fs::copy(desk.path("c.txt"), desk.path("copy of c.txt")).unwrap();
    assert_eq!(outcome(desk.refresh(&embedder)), (2, 0, 2, 1, 0));
    assert_eq!(embedder.take_texts().len(), 0);
    assert_eq!(desk.by_words("alpha"), ["renamed.txt"]);
    // Deleted, and a text that became binary.
    std::fs::remove_file(desk.path("renamed.txt")).unwrap();
    desk.write("c.txt", b"\0\0\0");
    assert_eq!(outcome(desk.refresh(&embedder)), (0, 0, 2, 1, 1));
    assert!(desk.by_words("alpha").is_empty());
    assert_eq!(desk.by_words("gamma"), ["copy of c.txt"]);
    assert!(!desk.index.holds(&desk.path("c.txt")).unwrap() && desk.index.holds(&desk.path("b.txt")).unwrap());
    assert_eq!(search(&desk.index, &embedder, "omega").hits[0].path, desk.path("b.txt").to_str().unwrap());
}

#[test]
fn a_folder_inside_an_indexed_folder_is_not_counted_twice() {
    let desk = Desk::new(&[
        (".gitignore", "ignored/\n"),
        ("top.txt", "finch"),
        ("inner/a.txt", "finch"),
        ("inner/deep/b.txt", "finch"),
        ("ignored/c.txt", "finch"),
    ]);
    let embedder = Hashing::new("a");
    let folders = || {
        let folders = desk.index.folders().unwrap();
        folders.into_iter().map(|it| (it.path, it.files)).collect::<Vec<_>>()
    };
    let path = |name: &str| desk.path(name).to_str().unwrap().to_owned();
    desk.refresh_path("inner/deep", &embedder).unwrap();
    desk.refresh_path("inner", &embedder).unwrap();
    assert_eq!(folders(), [(path("inner"), 2)]);
    // The outer folder takes the inner one in.
    assert_eq!(outcome(desk.refresh_path("", &embedder).unwrap()), (1, 0, 2, 0, 0));
    assert_eq!(folders(), [(path(""), 3)]);
    // The inner one again: part of the outer.
    desk.write("inner/new.txt", "finch");
    desk.write("elsewhere.txt", "finch");
    assert_eq!(outcome(desk.refresh_path("inner", &embedder).unwrap()), (1, 0, 2, 0, 0));
    assert_eq!(outcome(desk.refresh_path("inner/a.txt", &embedder).unwrap()), (0, 0, 1, 0, 0));
    assert_eq!(folders(), [(path(""), 4)]);
    // One that the outer folder's rules leave out stands for itself, and outlives a refresh of the outer one.
    desk.refresh_path("ignored", &embedder).unwrap();
    assert_eq!(folders(), [(path(""), 4), (path("ignored"), 1)]);
    assert_eq!(outcome(desk.refresh(&embedder)), (1, 0, 4, 0, 0));
    assert_eq!(folders(), [(path(""), 5), (path("ignored"), 1)]);
    assert_eq!(desk.by_words("finch").len(), 6);
    // A part that is gone leaves; the outer folder being gone is not taken for a deletion.
    std::fs::remove_dir_all(desk.path("inner")).unwrap();
    assert_eq!(desk.refresh_path("inner", &embedder).unwrap().removed, 3);
    std::fs::rename(desk.path(""), desk.folder.path().join("unplugged")).unwrap();
    let error = desk.index.refresh(&desk.folder.path().join("docs"), &embedder, &Control::new(), &mut |_| {});
    assert!(matches!(error, Err(DocumentsError::NotFound { .. })), "{error:?}");
    assert_eq!(desk.index.folders().unwrap()[0].files, 2);
}

#[test]
fn forgetting_a_folder_leaves_nothing_of_it() {
    let desk = Desk::new(&[("one/a.txt", "stork here"), ("two/b.txt", "stork here"), ("two/c.bin", "")]);
    let embedder = Hashing::new("a");
    desk.refresh_path("one", &embedder).unwrap();
    desk.refresh_path("two", &embedder).unwrap();
    assert!(desk.index.forget(&desk.path("two")).unwrap());
    assert!(!desk.index.forget(&desk.path("two")).unwrap());
    assert!(!desk.index.forget(&desk.path("one/a.txt")).unwrap());
    assert_consistent(&desk.database());
    assert_eq!(desk.by_words("stork"), ["one/a.txt"]);
    assert_eq!(search(&desk.index, &embedder, "stork").hits.len(), 1);
    assert!(desk.index.summary().unwrap().skipped.is_empty());
    desk.index.forget(&desk.path("one")).unwrap();
    let rows: i64 = rusqlite::Connection::open(desk.database())
        .unwrap()
        .query_row(
            "SELECT (SELECT count(*) FROM contents) + (SELECT count(*) FROM vectors) + (SELECT count(*) FROM files)",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert_eq!(rows, 0);
}

#[test]
fn a_failing_model_costs_only_the_vectors_that_are_missing() {
    let files: Vec<(String, String)> = (0..100).map(|it| (format!("{it}.txt"), format!("crane number{it}"))).collect();
    let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    for panics in [false, true] {
        let desk = Desk::new(&files);
        let failing = Hashing { fails_after: Some((1, panics)), ..Hashing::new("a") };
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| desk.refresh_path("", &failing)));
        match result {
            Ok(result) => {
                let failure = Failure::from(result.unwrap_err());
                assert_eq!((failure.code, failure.message.as_str()), (FailureCode::WorkerFailed, "the worker died"));
            }
            Err(_) => assert!(panics),
        }
        assert_consistent(&desk.database());
        assert_eq!(desk.by_words("number42"), ["42.txt"]);
        let working = Hashing::new("a");
        let found = search(&desk.index, &working, "crane");
        assert_eq!(found.meaning.degraded().unwrap(), "64 of 100 passages are embedded so far");
        let result = desk.refresh(&working);
        assert_eq!((result.unchanged, result.embedded), (100, 36));
        assert_eq!(search(&desk.index, &working, "crane").meaning.degraded(), None);
    }
}

#[test]
fn each_generation_keeps_its_own_vectors_and_nothing_is_embedded_without_need() {
    let desk = Desk::new(&[("a.txt", "teal pond"), ("b.txt", "teal lake")]);
    let (small, large) = (Hashing::new("small"), Hashing { dims: 96, ..Hashing::new("large") });
    desk.refresh(&small);
    assert!(search(&desk.index, &large, "teal").meaning.degraded().unwrap().starts_with("no passage is embedded"));
    assert_eq!(desk.refresh(&large).embedded, 2);
    assert_eq!(search(&desk.index, &large, "pond").meaning.degraded(), None);
    assert_eq!(search(&desk.index, &small, "pond").meaning.degraded(), None);
    assert_eq!(desk.refresh(&small).embedded, 0);
    // An embedder that does not know yet what it would be is not asked for anything if the last generation is complete.
    let silent = Hashing { announces: false, dims: 96, ..Hashing::new("large") };
    assert_eq!(desk.refresh(&silent).embedded, 0);
    assert_eq!(silent.take_texts().len(), 0);
    // It turns out to be another one while it works: then everything is embedded with that.
    desk.write("c.txt", "teal river");
    let other = Hashing { announces: false, ..Hashing::new("third") };
    assert_eq!(desk.refresh(&other).embedded, 3);
    assert_eq!(search(&desk.index, &other, "pond").meaning.degraded(), None);
}

/// Answers with whatever it was told.
struct Fixed(Mutex<Vec<Vec<f32>>>);

impl Embedder for Fixed {
    fn embed_documents(&self, _: Vec<String>) -> Result<Embedded, Failure> {
        Ok(Embedded { vectors: self.0.lock().unwrap().clone(), generation: generation("fixed") })
    }

    fn generation(&self) -> Option<embedbar_contract::Generation> {
        None
    }
}

#[test]
fn dishonest_vectors_are_refused() {
    let desk = Desk::new(&[("a.txt", "ibis"), ("b.txt", "egret")]);
    for (vectors, what) in [
        (vec![vec![1.0, 0.0]], "1 vectors for 2 texts"),
        (vec![vec![1.0, 0.0], vec![1.0]], "vectors of no or of different widths"),
        (vec![vec![], vec![]], "vectors of no or of different widths"),
        (vec![vec![1.0, 0.0], vec![f32::NAN, 0.0]], "a vector of length NaN where 1 is due"),
        (vec![vec![1.0, 0.0], vec![0.0, 0.0]], "a vector of length 0 where 1 is due"),
    ] {
        let error = desk.refresh_path("", &Fixed(Mutex::new(vectors))).unwrap_err();
        assert_eq!(error.to_string(), format!("the embedder returned {what}"));
    }
    assert!(desk.refresh_path("", &Fixed(Mutex::new(vec![vec![1.0, 0.0]; 2]))).is_ok());
    desk.write("c.txt", "spoonbill");
    let error = desk.refresh_path("", &Fixed(Mutex::new(vec![vec![1.0]]))).unwrap_err();
    assert_eq!(error.to_string(), "the embedder returned vectors of 1 numbers where this generation has 2");
}

#[test]
fn a_refresh_can_be_paused_and_cancelled_and_goes_on_later() {
    let files: Vec<(String, String)> = (0..50).map(|it| (format!("{it:02}.txt"), format!("swan {it}"))).collect();
    let desk = Desk::new(&[]);
    for (name, text) in &files {
        desk.write(name, text);
    }
    let (control, embedder) = (Control::new(), Hashing::new("a"));
    let result = desk
        .index
        .refresh(&desk.path(""), &embedder, &control, &mut |progress| {
            if progress.files_done == 20 {
                assert_eq!(progress.files_total, Some(50));
                assert!(progress.current.ends_with("20.txt"));
                control.cancel();
            }
        })
        .unwrap();
    assert!(result.cancelled && result.added == 20 && control.is_cancelled());

    let control = Control::new();
    control.set_paused(true);
    let (sender, receiver) = mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let result = desk.index.refresh(&desk.path(""), &embedder, &control, &mut |_| {}).unwrap();
            sender.send(result).unwrap();
        });
        // While it is paused it does nothing, and a second one waits for it.
        let impatient = Control::new();
        scope.spawn({
            let impatient = impatient.clone();
            move || {
                std::thread::sleep(Duration::from_millis(150));
                impatient.cancel();
            }
        });
        std::thread::sleep(Duration::from_millis(50));
        assert!(desk.index.refresh(&desk.path(""), &embedder, &impatient, &mut |_| {}).unwrap().cancelled);
        assert!(receiver.try_recv().is_err());
        control.set_paused(false);
        let result = receiver.recv().unwrap();
        assert_eq!((result.added, result.unchanged, result.embedded, result.cancelled), (30, 20, 50, false));
    });
}

#[test]
fn forgetting_a_folder_ends_its_refresh() {
    let desk = Desk::new(&[("a.txt", "gull"), ("b.txt", "gull"), ("c.txt", "gull")]);
    let (index, path) = (desk.index.clone(), desk.path(""));
    let result = desk.index.refresh(&desk.path(""), &Hashing::new("a"), &Control::new(), &mut |progress| {
        if progress.files_done == 1 {
            index.forget(&path).unwrap();
        }
    });
    assert!(result.unwrap().cancelled);
    assert_consistent(&desk.database());
    assert!(desk.by_words("gull").is_empty() && desk.index.folders().unwrap().is_empty());
}

#[test]
fn what_cannot_be_indexed_gets_a_sentence_that_names_it() {
    let desk = Desk::new(&[("a.txt", "raven")]);
    let missing = Failure::from(desk.refresh_path("nowhere", &Hashing::new("a")).unwrap_err());
    assert_eq!(missing.code, FailureCode::NotFound);
    assert_eq!(missing.message, format!("there is no file or folder at `{}`", desk.path("nowhere").display()));
    assert!(desk.index.folders().unwrap().is_empty());
    #[cfg(unix)]
    {
        let pipe = desk.path("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let failure = Failure::from(desk.refresh_path("pipe", &Hashing::new("a")).unwrap_err());
        assert_eq!(failure.code, FailureCode::Io);
        assert_eq!(failure.message, format!("`{}` cannot be read: not a regular file", pipe.display()));
        // In a folder it is passed over without waiting for a writer.
        assert_eq!(outcome(desk.refresh(&Hashing::new("a"))), (1, 0, 0, 0, 0));
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_file_that_fails_while_it_is_read_is_left_out_with_the_reason() {
    let desk = Desk::new(&[]);
    // Reading the first page of a process's memory fails for anyone, root included.
    let result = desk.index.refresh("/proc/self/mem".as_ref(), &Hashing::new("a"), &Control::new(), &mut |_| {});
    assert_eq!(outcome(result.unwrap()), (0, 0, 0, 0, 1));
    let reason = desk.index.summary().unwrap().skipped.remove(0).reason;
    assert!(reason.starts_with("cannot be read: Input/output error"), "{reason}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_name_that_is_not_utf8_is_left_out_with_the_reason() {
    use std::os::unix::ffi::OsStrExt;
    let desk = Desk::new(&[("a.txt", "wren")]);
    std::fs::write(desk.path("").join(std::ffi::OsStr::from_bytes(b"caf\xE9.txt")), "wren").unwrap();
    assert_eq!(outcome(desk.refresh(&Hashing::new("a"))), (1, 0, 0, 0, 1));
    assert_eq!(desk.skipped(), [("caf\u{FFFD}.txt".to_owned(), "its name is not UTF-8".to_owned())]);
    assert_eq!(outcome(desk.refresh(&Hashing::new("a"))), (0, 0, 1, 0, 1));
}

#[test]
fn an_index_of_a_later_release_or_of_something_else_is_refused_untouched() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("index.sqlite");
    drop(Index::open(&file).unwrap());
    drop(Index::open(&file).unwrap());
    rusqlite::Connection::open(&file).unwrap().pragma_update(None, "user_version", 7).unwrap();
    let failure = Failure::from(Index::open(&file).unwrap_err());
    assert_eq!(failure.code, FailureCode::OwnerMismatch);
    assert!(failure.message.ends_with("has version 7; this program reads up to 1"), "{failure}");

    let foreign = folder.path().join("foreign.sqlite");
    rusqlite::Connection::open(&foreign).unwrap().execute_batch("CREATE TABLE a (b)").unwrap();
    let before = std::fs::read(&foreign).unwrap();
    assert!(matches!(Index::open(&foreign), Err(DocumentsError::Foreign { .. })));
    assert_eq!(std::fs::read(&foreign).unwrap(), before);

    let garbage = folder.path().join("garbage");
    std::fs::write(&garbage, "this is no database at all ".repeat(100)).unwrap();
    let failure = Failure::from(Index::open(&garbage).unwrap_err());
    assert!(failure.message.contains("garbage` cannot be opened: file is not a database"), "{failure}");
}
