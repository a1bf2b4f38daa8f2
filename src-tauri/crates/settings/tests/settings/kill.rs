//! `kill -9` in the middle of writing leaves the old content or the new one.

use std::env;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use embedbar_settings::EnvFile;

/// Set for the process that is killed: the folder in which it writes.
const VICTIM: &str = "EMBEDBAR_TEST_VICTIM";

const KILLS: u32 = 25;

fn content(number: usize) -> String {
    format!("NUMBER={number}\n{}END={number}\n", "# a line like any other\n".repeat(2000))
}

fn number(content: &str) -> Option<usize> {
    content.lines().next()?.strip_prefix("NUMBER=")?.parse().ok()
}

/// Not a test: what the other one starts and kills.
#[test]
fn a_writer_that_never_ends() {
    let Some(folder) = env::var_os(VICTIM) else { return };
    let mut file = EnvFile::read(Path::new(&folder).join(".env")).expect("it is there");
    for next in 1.. {
        file = file.write(content(next).as_bytes(), None).expect("it can be written");
    }
}

#[test]
fn a_killed_writer_leaves_a_whole_file() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join(".env");
    let mut written = 0;
    for kill in 0..KILLS {
        fs::write(&path, content(0)).expect("it can be written");
        let mut victim = Command::new(env::current_exe().expect("this program"))
            .args(["--exact", "kill::a_writer_that_never_ends", "--test-threads=1"])
            .env(VICTIM, folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("it can be started");
        let deadline = Instant::now() + Duration::from_mins(1);
        while fs::read_to_string(&path).expect("it is there at every moment").starts_with("NUMBER=0\n") {
            assert!(Instant::now() < deadline, "it never wrote");
            thread::sleep(Duration::from_millis(2));
        }
        // At another moment of the write each time.
        thread::sleep(Duration::from_micros(u64::from(kill) * 173));
        victim.kill().expect("it runs");
        victim.wait().expect("it ends");
        let found = fs::read_to_string(&path).expect("it is there");
        let number = number(&found).unwrap_or_else(|| panic!("half a file: {} bytes", found.len()));
        assert_eq!(found, content(number), "half a file");
        written += number;
    }
    assert!(written >= KILLS as usize, "{written} writes");
}
