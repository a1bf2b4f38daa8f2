//! The Secret Service: a real one on a bus of its own, one that is not there, and one that says nothing.
//!
//! The process that asks is this test binary itself, run again with the bus's address in its environment.
#![cfg(target_os = "linux")]

use std::env;
use std::fs;
use std::io::Write as _;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Output};
use std::thread;
use std::time::{Duration, Instant};

use embedbar_secrets::{Patience, Place, Secret, Secrets};

const HOME: &str = "SECRETS_TEST_HOME";
const WITHIN: Duration = Duration::from_secs(2);

/// Nothing, unless it is that process.
#[test]
fn the_process_that_asks() {
    let Some(home) = env::var_os(HOME) else { return };
    let secrets = Secrets::with_patience(Path::new(&home), Patience { read: WITHIN, write: WITHIN });
    let secret = |text: &str| Secret::new(text).expect("a secret");
    let started = Instant::now();
    assert_eq!(secrets.get("hub-token").expect("nothing"), None);
    let place = secrets.set("hub-token", &secret("hf_one")).expect("kept");
    secrets.set("hub-token", &secret("hf_two")).expect("kept");
    // Another one, as after a restart.
    let again = Secrets::with_patience(Path::new(&home), Patience { read: WITHIN, write: WITHIN });
    assert_eq!(again.get("hub-token").expect("read"), Some(secret("hf_two")));
    let other = Secrets::with_patience(&Path::new(&home).join("other"), Patience { read: WITHIN, write: WITHIN });
    assert_eq!(other.get("hub-token").expect("nothing"), None, "each home has its own");
    let in_keyring = matches!(place, Place::Keyring(_));
    assert_ne!(in_keyring, Path::new(&home).join("secrets/hub-token").exists(), "{place}");
    println!("place: {place}; {} ms", started.elapsed().as_millis());
    again.remove("hub-token").expect("removed");
    assert_eq!(secrets.get("hub-token").expect("nothing"), None);
}

fn asking(command: &mut Command, home: &Path, bus: Option<&str>) -> Output {
    command.env(HOME, home).env_remove("DBUS_SESSION_BUS_ADDRESS").env("XDG_RUNTIME_DIR", home);
    command.env("HOME", home).env_remove("XDG_DATA_HOME");
    if let Some(bus) = bus {
        command.env("DBUS_SESSION_BUS_ADDRESS", bus);
    }
    let output = command.output().expect("it starts");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(!said.contains("hf_one") && !String::from_utf8_lossy(&output.stderr).contains("hf_"), "{said}");
    output
}

fn said(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    said.lines().find_map(|line| line.split_once("place: ")).map(|(_, place)| place.to_owned()).expect("a place")
}

fn this() -> Command {
    let mut command = Command::new(env::current_exe().expect("this binary"));
    command.args(["--exact", "the_process_that_asks", "--nocapture"]);
    command
}

#[test]
fn without_a_bus_the_file_is_taken_and_says_why() {
    let home = tempfile::tempdir().expect("a folder");
    let place = said(&asking(&mut this(), home.path(), None));
    assert!(place.contains("only you may read, because the Secret Service does not answer"), "{place}");
}

#[test]
fn a_bus_that_says_nothing_is_not_waited_for() {
    let home = tempfile::tempdir().expect("a folder");
    let socket = home.path().join("silent");
    let listener = UnixListener::bind(&socket).expect("a socket");
    thread::spawn(move || {
        let mut kept = Vec::new();
        while let Ok((stream, _)) = listener.accept() {
            kept.push(stream);
        }
    });
    let started = Instant::now();
    let place = said(&asking(&mut this(), home.path(), Some(&format!("unix:path={}", socket.display()))));
    assert!(place.contains("did not answer within 2 s"), "{place}");
    // Once for each of the three that were opened, and not for each question.
    assert!(started.elapsed() < WITHIN * 5, "{:?}", started.elapsed());
}

#[test]
fn a_real_keyring_keeps_it_and_no_file_does() {
    let there = |program: &str| {
        env::split_paths(&env::var_os("PATH").unwrap_or_default()).any(|folder| folder.join(program).is_file())
    };
    if !there("gnome-keyring-daemon") || !there("dbus-run-session") {
        skip("gnome-keyring or dbus-daemon is not installed");
        return;
    }
    let home = tempfile::tempdir().expect("a folder");
    // What was kept in a file before stays there until it is set again.
    let earlier = Secrets::in_files(home.path());
    earlier.set("other", &Secret::new("hf_x").expect("a secret")).expect("kept");
    let script = "printf word | gnome-keyring-daemon --unlock --components=secrets >/dev/null 2>&1; exec \"$0\" \"$@\"";
    let mut command = Command::new("dbus-run-session");
    command.args(["--", "sh", "-c", script]).arg(env::current_exe().expect("this binary"));
    command.args(["--exact", "the_process_that_asks", "--nocapture"]);
    let place = said(&asking(&mut command, home.path(), None));
    assert!(place.starts_with("it is kept in the Secret Service"), "{place}");
    assert_eq!(fs::read_dir(home.path().join("secrets")).expect("a folder").count(), 1);
}

/// What `embedbar_tests::skip` does; that package depends on too much to be depended on here.
fn skip(reason: &str) {
    let name = "a_real_keyring_keeps_it_and_no_file_does";
    eprintln!("SKIPPED {name}: {reason}");
    let Some(path) = env::var_os("EMBEDBAR_SKIPS") else { return };
    let mut file = fs::OpenOptions::new().append(true).create(true).open(path).expect("the list of skips opens");
    file.write_all(format!("{name}\t{reason}\n").as_bytes()).expect("the list of skips is written");
}
