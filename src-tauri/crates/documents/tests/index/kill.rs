//! A process that is killed at any instant leaves an index that is whole, and the next refresh finishes the work.

use std::process::Command;
use std::time::Duration;

use embedbar_documents::{Control, Index};

use crate::support::{Desk, Hashing, assert_consistent, search};

/// Tells the child which folder to work in.
const FOLDER: &str = "EMBEDBAR_TEST_KILL_FOLDER";

/// The child's part: refreshes over and over until it is killed. Without the variable it has nothing to do.
#[test]
fn child_that_is_killed() {
    let Some(folder) = std::env::var_os(FOLDER).map(std::path::PathBuf::from) else { return };
    let index = Index::open(&folder.join("home/index.sqlite")).unwrap();
    loop {
        index.refresh(&folder.join("docs"), &Hashing::new("a"), &Control::new(), &mut |_| {}).unwrap();
        index.forget(&folder.canonicalize().unwrap().join("docs")).unwrap();
    }
}

#[test]
fn an_index_survives_being_killed_again_and_again() {
    let desk = Desk::new(&[]);
    let text = |file: usize, round: usize| format!("bittern {file} {round} {}", "reeds and water ".repeat(file % 90));
    for file in 0..120 {
        desk.write(&format!("{file}.txt"), text(file, 0));
    }
    for round in 1..=8 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "kill::child_that_is_killed", "--nocapture"])
            .env(FOLDER, desk.folder.path())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(40 + 37 * round as u64));
        child.kill().unwrap();
        assert!(!child.wait().unwrap().success());
        assert_consistent(&desk.database());
        for file in (round..120).step_by(7) {
            desk.write(&format!("{file}.txt"), text(file, round));
        }
    }
    let embedder = Hashing::new("a");
    desk.refresh(&embedder);
    let fresh = Desk::new(&[]);
    for file in 0..120 {
        fresh.write(&format!("{file}.txt"), std::fs::read(desk.path(&format!("{file}.txt"))).unwrap());
    }
    fresh.refresh(&embedder);
    for query in ["bittern 77", "reeds water 5", "absent"] {
        let (found, expected) = (search(&desk.index, &embedder, query), search(&fresh.index, &embedder, query));
        assert_eq!(desk.names(&found), fresh.names(&expected));
        assert_eq!(found.searched_chunks, expected.searched_chunks);
        assert_eq!(found.meaning, expected.meaning);
    }
}
