//! Is this Rust new enough? One sentence if not, before cargo says it about each package.

use std::env;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::workspace::Workspace;

/// Fails with the fix if rustc is older than the newest `rust-version` in the workspace.
pub(crate) fn require(workspace: &Workspace) -> Result<()> {
    let wanted = workspace.packages.iter().filter_map(|package| package.rust_version.as_deref()).filter_map(numbers);
    match wanted.max().and_then(|wanted| complaint(&rustc_version().ok()?, wanted)) {
        Some(sentence) => bail!(sentence),
        None => Ok(()),
    }
}

/// The version of rustc, such as `1.95.0`.
pub(crate) fn rustc_version() -> Result<String> {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).arg("--version").output().context("could not start `rustc --version`")?;
    version_in(&String::from_utf8_lossy(&output.stdout)).context("`rustc --version` names no version")
}

/// `1.95.0` in `rustc 1.95.0 (59807616e 2026-04-14)`.
fn version_in(line: &str) -> Option<String> {
    line.split_whitespace().find(|word| word.starts_with(|first: char| first.is_ascii_digit())).map(str::to_owned)
}

/// Major, minor and patch; a missing patch is 0 and a suffix such as `-nightly` is ignored.
pub(crate) fn numbers(version: &str) -> Option<(u32, u32, u32)> {
    let mut parts = version.trim().trim_start_matches('v').split(['.', '-', '+']);
    let major = parts.next()?.parse().ok()?;
    let minor = parts.next()?.parse().ok()?;
    Some((major, minor, parts.next().and_then(|patch| patch.parse().ok()).unwrap_or(0)))
}

fn complaint(version: &str, wanted: (u32, u32, u32)) -> Option<String> {
    let (major, minor, _) = wanted;
    (numbers(version)? < wanted).then(|| {
        format!("Embedbar needs Rust {major}.{minor} or newer and this is {version}: run `rustup update stable`, then the same command again")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_found_in_what_rustc_prints() {
        assert_eq!(version_in("rustc 1.95.0 (59807616e 2026-04-14)\n").as_deref(), Some("1.95.0"));
        assert_eq!(numbers("1.97.0-nightly"), Some((1, 97, 0)));
        assert_eq!(numbers("v20.19.4"), Some((20, 19, 4)));
        assert_eq!(numbers("unknown"), None);
    }

    #[test]
    fn an_older_toolchain_gets_one_sentence_with_the_fix() {
        let sentence = complaint("1.90.0", (1, 95, 0)).expect("a complaint");
        assert!(sentence.contains("1.95") && sentence.contains("1.90.0") && sentence.contains("rustup update"));
        assert!(!sentence.contains('\n'));
    }

    #[test]
    fn the_declared_version_and_newer_ones_pass() {
        for version in ["1.95.0", "1.96.1", "2.0.0", "1.100.0"] {
            assert_eq!(complaint(version, (1, 95, 0)), None, "{version}");
        }
    }
}
