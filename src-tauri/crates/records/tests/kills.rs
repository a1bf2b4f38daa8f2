//! `kill -9` at random moments of writing, with a reader at the same time: a record is always whole.
//!
//! The process that writes is this test binary itself, run again with a variable that tells it where.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use serde::{Deserialize, Serialize};

const PATH: &str = "RECORDS_TEST_PATH";
const KILLS: u64 = 20;
const VERSION: u64 = 1;

/// Whole only if all its numbers are the first.
#[derive(Debug, Deserialize, Serialize)]
struct Content {
    numbers: Vec<u64>,
}

/// Nothing, unless it is that process.
#[test]
fn the_process_that_writes() {
    let Some(path) = env::var_os(PATH) else { return };
    for number in 0_u64.. {
        // Lengths differ, so that an old end behind a new beginning would show.
        let numbers = vec![number; 1 + (number as usize * 7919) % 5000];
        embedbar_records::write(Path::new(&path), VERSION, &Content { numbers }).expect("it can be written");
    }
}

/// Whether there is one, which is whole.
fn look(path: &Path) -> bool {
    let found: Option<Content> = embedbar_records::read(path, VERSION).expect("what is there is whole");
    found.inspect(|it| assert!(it.numbers.iter().all(|number| *number == it.numbers[0]))).is_some()
}

#[test]
fn twenty_kills_leave_a_whole_record_and_what_they_leave_beside_it_disturbs_nobody() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("record.json");
    for kill in 0..KILLS {
        let mut child = Command::new(env::current_exe().expect("this binary"))
            .args(["--exact", "the_process_that_writes", "--nocapture"])
            .env(PATH, &path)
            .stdout(Stdio::null())
            .spawn()
            .expect("it can be started");
        let start = Instant::now();
        while !look(&path) {
            assert!(start.elapsed() < Duration::from_secs(30), "nothing is written");
            thread::sleep(Duration::from_millis(1));
        }
        let until = Instant::now() + Duration::from_millis(10 + kill * 3);
        while Instant::now() < until {
            look(&path);
        }
        child.kill().expect("it runs");
        child.wait().expect("it has ended");
        assert!(look(&path));
    }
    // Some were killed between the making of the temporary file and the rename; the next write minds none of it.
    embedbar_records::write(&path, VERSION, &Content { numbers: vec![1] }).expect("it can be written");
    assert!(look(&path));
    // And the first one that finds them old sweeps them away.
    let others = || {
        let entries = fs::read_dir(folder.path()).expect("it is there").map(|entry| entry.expect("an entry").path());
        entries.filter(|other| *other != path).collect::<Vec<_>>()
    };
    let old = SystemTime::now() - Duration::from_hours(1);
    for other in others() {
        let file = fs::File::options().write(true).open(&other).expect("it can be opened");
        file.set_modified(old).expect("its time can be set");
    }
    embedbar_records::write(&path, VERSION, &Content { numbers: vec![2] }).expect("it can be written");
    assert_eq!(others(), Vec::<PathBuf>::new());
}
