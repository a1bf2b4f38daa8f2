//! The harness of the integration tests.

pub mod checkpoint;
pub mod desktop;
pub mod mlx;
pub mod program;
pub mod reference;
pub mod rig;
pub mod tray;
pub mod webdriver;

use std::io::Write as _;

/// Says that the test `name` could not run and why; the caller returns. `cargo xtask test` names the file that collects
/// these lines in `EMBEDBAR_SKIPS` and reports them; a plain `cargo test` shows them on standard error.
///
/// # Panics
/// If the file cannot be written: a skip that nobody sees would pass for a success.
pub fn skip(name: &str, reason: &str) {
    eprintln!("SKIPPED {name}: {reason}");
    let Some(path) = std::env::var_os("EMBEDBAR_SKIPS") else { return };
    let mut file = std::fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(&path)
        .unwrap_or_else(|error| panic!("`{}` cannot be opened: {error}", path.display()));
    // One write, so that lines of tests that skip at the same time do not mix.
    let line = format!("{name}\t{}\n", reason.replace(['\t', '\n'], " "));
    file.write_all(line.as_bytes()).unwrap_or_else(|error| panic!("`{}` cannot be written: {error}", path.display()));
}
