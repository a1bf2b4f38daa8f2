//! `cargo xtask mac-check`: check and clippy of everything, shell and tests included, for a Mac with Apple silicon.
//!
//! On Linux this needs the target's standard library ([`crate::foreign`]) but no linker and no SDK: nothing is linked. What this
//! cannot show: link errors, Swift, behaviour.

use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::foreign::{self, Library};
use crate::steps::{Finished, Steps};
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
    /// The Mac's standard library is here.
    Library(Library),
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
    if let Means::Library(library) = means {
        library.give_to(&mut command, workspace, steps)?;
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
    Ok(foreign::find(workspace, TARGET)?.map(Means::Library))
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
