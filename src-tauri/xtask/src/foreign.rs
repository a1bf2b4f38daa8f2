//! Standard libraries for other machines than this one.
//!
//! One comes from `$EMBEDBAR_MAC_DIR`, from `../shared/mac` beside the checkout, or from rustup. The first two hold an archive that
//! goes into a sysroot of our own, so that the installed toolchain stays as it is; cargo hands the flag for it to target code
//! alone, never to build scripts and procedural macros.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::steps::Steps;
use crate::system::{self, Consent, Need};
use crate::toolchain;
use crate::workspace::Workspace;

/// Where a target's standard library is.
#[derive(Debug, PartialEq)]
pub(crate) enum Library {
    /// rustup has installed it.
    Installed,
    /// An archive of it for this very rustc.
    Archive(PathBuf),
}

impl Library {
    /// Has `command`, a cargo for the target, find it.
    pub(crate) fn give_to(&self, command: &mut Command, workspace: &Workspace, steps: &mut Steps) -> Result<()> {
        if let Self::Archive(archive) = self {
            system::ensure(steps, &[Need::MacCheck], Consent::Ask)?;
            let sysroot = unpack(workspace, steps, archive)?;
            // the form of the variable in which a path may contain spaces
            let flags = format!("--sysroot\u{1f}{}", sysroot.display());
            command.env_remove("RUSTFLAGS").env("CARGO_ENCODED_RUSTFLAGS", flags);
        }
        Ok(())
    }
}

/// The standard library of `target`, or why it is not here.
pub(crate) fn find(workspace: &Workspace, target: &str) -> Result<Result<Library, String>> {
    let version = toolchain::rustc_version()?;
    let mut folders: Vec<PathBuf> = env::var_os("EMBEDBAR_MAC_DIR").map(PathBuf::from).into_iter().collect();
    folders.extend(workspace.root.parent().map(|parent| parent.join("shared/mac")));
    let output = Command::new("rustc").args(["--print", "sysroot"]).output().context("could not start rustc")?;
    let sysroot = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    Ok(choose(target, &folders, &sysroot, &version))
}

fn choose(target: &str, folders: &[PathBuf], sysroot: &Path, version: &str) -> Result<Library, String> {
    let archive = format!("std-{target}-rust-{version}.tar.zst");
    if let Some(found) = folders.iter().map(|folder| folder.join(&archive)).find(|path| path.is_file()) {
        return Ok(Library::Archive(found));
    }
    if sysroot.join("lib/rustlib").join(target).join("lib").is_dir() {
        return Ok(Library::Installed);
    }
    let places: Vec<String> = folders.iter().map(|folder| format!("`{}`", folder.display())).collect();
    Err(format!(
        "no standard library of rustc {version} for {target}: there is no `{archive}` in {}, and `rustup target add {target}` has not been run",
        places.join(" or ")
    ))
}

/// The folder for `--sysroot`: it holds the target's standard library and nothing else.
fn unpack(workspace: &Workspace, steps: &mut Steps, archive: &Path) -> Result<PathBuf> {
    let size = fs::metadata(archive).with_context(|| format!("could not read `{}`", archive.display()))?.len();
    let name = archive.file_name().unwrap_or_default().to_string_lossy().replace(".tar.zst", "");
    let sysroot = workspace.cache().join("mac").join(format!("{name}-{size}"));
    if sysroot.is_dir() {
        return Ok(sysroot);
    }
    let partial = workspace.cache().join("mac").join(format!("unpacking-{}", std::process::id()));
    let libraries = partial.join("lib/rustlib");
    fs::create_dir_all(&libraries).with_context(|| format!("could not make the folder `{}`", libraries.display()))?;
    let mut tar = Command::new("tar");
    tar.args(["-I", "zstd", "-xf"]).arg(archive).arg("-C").arg(&libraries);
    steps.require("unpack a standard library", "is `zstd` installed, and the archive whole?", &mut tar)?;
    fs::rename(&partial, &sysroot).with_context(|| format!("could not make the folder `{}`", sysroot.display()))?;
    Ok(sysroot)
}

#[cfg(test)]
mod tests {
    use tempfile::tempdir;

    use super::*;

    #[test]
    fn the_archive_must_be_of_this_very_rustc() {
        let (first, second, sysroot) = (tempdir().expect("dir"), tempdir().expect("dir"), tempdir().expect("dir"));
        let folders = [first.path().to_owned(), second.path().to_owned()];
        fs::write(first.path().join("std-aarch64-apple-darwin-rust-1.94.0.tar.zst"), "").expect("write");
        let reason =
            choose("aarch64-apple-darwin", &folders, sysroot.path(), "1.95.0").expect_err("only an older one is there");
        assert!(reason.contains("1.95.0") && reason.contains("rustup target add"), "{reason}");
        let archive = second.path().join("std-aarch64-apple-darwin-rust-1.95.0.tar.zst");
        fs::write(&archive, "").expect("write");
        assert_eq!(choose("aarch64-apple-darwin", &folders, sysroot.path(), "1.95.0"), Ok(Library::Archive(archive)));
    }

    #[test]
    fn an_installed_target_is_used_when_there_is_no_archive() {
        let sysroot = tempdir().expect("dir");
        fs::create_dir_all(sysroot.path().join("lib/rustlib/aarch64-apple-darwin/lib")).expect("folder");
        assert_eq!(choose("aarch64-apple-darwin", &[], sysroot.path(), "1.95.0"), Ok(Library::Installed));
    }
}
