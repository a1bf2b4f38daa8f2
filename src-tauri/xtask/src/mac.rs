//! `cargo xtask mac-check`: check and clippy of everything, shell and tests included, for a Mac with Apple silicon.
//!
//! On Linux this needs the target's standard library but no linker and no SDK: nothing is linked. The library comes from
//! `$EMBEDBAR_MAC_DIR`, from `../shared/mac` beside the checkout, or from rustup. The first two hold an archive that goes
//! into a sysroot of our own, so that the installed toolchain stays as it is; cargo hands the flag for it to target code
//! alone, never to build scripts and procedural macros. What this cannot show: link errors, Swift, behaviour.

use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::steps::{Finished, Steps};
use crate::system::{self, Consent, Need};
use crate::toolchain;
use crate::workspace::{TEST_FEATURES, Workspace};

const TARGET: &str = "aarch64-apple-darwin";
const ADVICE: &str = "the first error in the log is code that a Mac would refuse";

/// Stand-ins for the compilers that build scripts call.
const TOOLS: &[(&str, &str)] = &[
    ("cc", include_str!("../mac/cc.sh")),
    ("ar", include_str!("../mac/ar.sh")),
    ("swift", include_str!("../mac/swift.sh")),
];

/// How the Mac's code can be checked here.
#[derive(Debug, PartialEq)]
pub(crate) enum Means {
    /// This is a Mac.
    Native,
    /// rustup has installed the target.
    Installed,
    /// An archive of the standard library for this very rustc.
    Archive(PathBuf),
}

/// The two commands, in their order, and what to call them.
pub(crate) const CHECKS: &[(&str, &[&str])] = &[
    ("mac check", &["check", "--workspace"]),
    ("mac clippy", &["clippy", "--workspace", "--all-targets", "--keep-going"]),
];

/// `cargo xtask mac-check`.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    let mut steps = Steps::new(&workspace.scratch().join("logs"))?;
    let means = match find(workspace)? {
        Ok(means) => means,
        Err(reason) => bail!("NOTHING WAS CHECKED for {TARGET}: {reason}"),
    };
    for (title, arguments) in CHECKS {
        let finished = attempt(workspace, &mut steps, &means, title, arguments)?;
        if !finished.status.success() {
            bail!(finished.failure(title, ADVICE));
        }
    }
    Ok(())
}

/// Runs one of [`CHECKS`].
pub(crate) fn attempt(
    workspace: &Workspace,
    steps: &mut Steps,
    means: &Means,
    title: &str,
    arguments: &[&str],
) -> Result<Finished> {
    let mut command = workspace.cargo(arguments);
    command.args(["--features", TEST_FEATURES]);
    if *means != Means::Native {
        command.args(["--target", TARGET]);
        stand_in(&mut command, &tools(workspace)?)?;
    }
    if let Means::Archive(archive) = means {
        system::ensure(steps, &[Need::MacCheck], Consent::Ask)?;
        let sysroot = unpack(workspace, steps, archive)?;
        // the form of the variable in which a path may contain spaces
        command.env_remove("RUSTFLAGS").env("CARGO_ENCODED_RUSTFLAGS", format!("--sysroot\u{1f}{}", sysroot.display()));
    }
    if arguments.first() == Some(&"clippy") {
        command.args(["--", "-D", "warnings"]);
    }
    steps.attempt(title, &mut command)
}

/// The message for a failed check.
pub(crate) fn failure(finished: &Finished, title: &str) -> String {
    finished.failure(title, ADVICE)
}

/// How to check, or why it is not possible.
pub(crate) fn find(workspace: &Workspace) -> Result<Result<Means, String>> {
    if cfg!(all(target_os = "macos", target_arch = "aarch64")) {
        return Ok(Ok(Means::Native));
    }
    let version = toolchain::rustc_version()?;
    let mut folders: Vec<PathBuf> = env::var_os("EMBEDBAR_MAC_DIR").map(PathBuf::from).into_iter().collect();
    folders.extend(workspace.root.parent().map(|parent| parent.join("shared/mac")));
    let output = Command::new("rustc").args(["--print", "sysroot"]).output().context("could not start rustc")?;
    let sysroot = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    Ok(choose(&folders, &sysroot, &version))
}

fn choose(folders: &[PathBuf], sysroot: &Path, version: &str) -> Result<Means, String> {
    let archive = format!("std-{TARGET}-rust-{version}.tar.zst");
    if let Some(found) = folders.iter().map(|folder| folder.join(&archive)).find(|path| path.is_file()) {
        return Ok(Means::Archive(found));
    }
    if sysroot.join("lib/rustlib").join(TARGET).join("lib").is_dir() {
        return Ok(Means::Installed);
    }
    let places: Vec<String> = folders.iter().map(|folder| format!("`{}`", folder.display())).collect();
    Err(format!(
        "no standard library of rustc {version} for {TARGET}: there is no `{archive}` in {}, and `rustup target add {TARGET}` has not been run",
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
    steps.require("unpack the Mac's standard library", "is `zstd` installed, and the archive whole?", &mut tar)?;
    fs::rename(&partial, &sysroot).with_context(|| format!("could not make the folder `{}`", sysroot.display()))?;
    Ok(sysroot)
}

/// Writes the stand-ins to a folder that is the same for every checkout, so that build scripts see the same names.
fn tools(workspace: &Workspace) -> Result<PathBuf> {
    let folder = workspace.cache().join("mac/tools");
    fs::create_dir_all(&folder).with_context(|| format!("could not make the folder `{}`", folder.display()))?;
    for (name, script) in TOOLS {
        let path = folder.join(name);
        if !fs::read_to_string(&path).is_ok_and(|text| text == *script) {
            fs::write(&path, script).with_context(|| format!("could not write `{}`", path.display()))?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        }
    }
    Ok(folder)
}

fn stand_in(command: &mut Command, tools: &Path) -> Result<()> {
    let suffix = TARGET.replace('-', "_");
    command
        .env(format!("CC_{suffix}"), tools.join("cc"))
        .env(format!("CXX_{suffix}"), tools.join("cc"))
        .env(format!("AR_{suffix}"), tools.join("ar"))
        .env(format!("RANLIB_{suffix}"), "true")
        .env("MACOSX_DEPLOYMENT_TARGET", "13.0");
    // build scripts call `swift` by its name; `cc` and `ar` by their own names are still the host's
    let swift = tools.join("only-swift");
    fs::create_dir_all(&swift)?;
    fs::copy(tools.join("swift"), swift.join("swift"))?;
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(swift).chain(env::split_paths(&path));
    command.env("PATH", env::join_paths(folders)?);
    Ok(())
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
        let reason = choose(&folders, sysroot.path(), "1.95.0").expect_err("only an older one is there");
        assert!(reason.contains("1.95.0") && reason.contains("rustup target add"), "{reason}");
        let archive = second.path().join("std-aarch64-apple-darwin-rust-1.95.0.tar.zst");
        fs::write(&archive, "").expect("write");
        assert_eq!(choose(&folders, sysroot.path(), "1.95.0"), Ok(Means::Archive(archive)));
    }

    #[test]
    fn an_installed_target_is_used_when_there_is_no_archive() {
        let sysroot = tempdir().expect("dir");
        fs::create_dir_all(sysroot.path().join("lib/rustlib/aarch64-apple-darwin/lib")).expect("folder");
        assert_eq!(choose(&[], sysroot.path(), "1.95.0"), Ok(Means::Installed));
    }

    #[test]
    fn the_stand_in_compiler_writes_its_output_and_names_itself() {
        let folder = tempdir().expect("dir");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("mac/cc.sh");
        let object = folder.path().join("a.o");
        let compile = Command::new("sh").arg(&script).args(["-c", "a.m", "-o"]).arg(&object).status().expect("sh");
        assert!(compile.success() && object.is_file());
        let asked = Command::new("sh").arg(&script).args(["-E", "detect.c"]).output().expect("sh");
        assert!(String::from_utf8_lossy(&asked.stdout).contains("clang"));
    }
}
