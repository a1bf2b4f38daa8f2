//! The hub's own Python client beside ours, on the fake hub: `tests/hub/real_client.py`, with the examples of this crate.
//! `EMBEDBAR_PYTHON_HUB` names the interpreter, which `cargo xtask test` provides.

use std::env;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

#[test]
fn the_hubs_own_client_downloads_from_the_fake_hub_and_both_read_what_the_other_wrote() {
    let Some(python) = env::var_os("EMBEDBAR_PYTHON_HUB") else {
        skip("EMBEDBAR_PYTHON_HUB is not set; `cargo xtask test` sets it");
        return;
    };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../tests/hub/real_client.py");
    let output = Command::new(python).arg(script).arg(example("fake_hub")).arg(example("fetch")).output();
    let output = output.expect("Python starts");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(said.lines().count(), 10, "{said}");
}

/// An example, which cargo builds before it runs the tests of a package.
fn example(name: &str) -> PathBuf {
    let test = env::current_exe().expect("this binary");
    let profile = test.parent().and_then(Path::parent).expect("the folder of the profile");
    profile.join("examples").join(name)
}

/// What `embedbar_tests::skip` does; that package depends on too much to be depended on here.
fn skip(reason: &str) {
    let name = "the_hubs_own_client_downloads_from_the_fake_hub_and_both_read_what_the_other_wrote";
    eprintln!("SKIPPED {name}: {reason}");
    let Some(path) = env::var_os("EMBEDBAR_SKIPS") else { return };
    let mut file = std::fs::OpenOptions::new().append(true).create(true).open(path).expect("the list of skips opens");
    file.write_all(format!("{name}\t{reason}\n").as_bytes()).expect("the list of skips is written");
}
