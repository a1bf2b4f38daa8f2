//! The UI: installs its packages, builds it, checks it; each only if what it is made from has changed.
//!
//! The stamps lie in `ui/node_modules`, not in cargo's target folder, which several checkouts may share.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::files;
use crate::steps::Steps;
use crate::workspace::Workspace;

/// The folder of the UI.
pub(crate) fn folder(workspace: &Workspace) -> PathBuf {
    workspace.root.join("ui")
}

/// A command to be run in the folder of the UI.
pub(crate) fn command(workspace: &Workspace, program: impl AsRef<Path>, arguments: &[&str]) -> Command {
    let mut command = Command::new(program.as_ref());
    command.args(arguments).current_dir(folder(workspace));
    command
}

/// `npm ci`, if the lock file or `package.json` is not the one that was installed last.
pub(crate) fn install(workspace: &Workspace, steps: &mut Steps) -> Result<()> {
    let folder = folder(workspace);
    let wanted = files::digest(&folder, &[folder.join("package.json"), folder.join("package-lock.json")])?;
    let stamp = folder.join("node_modules/.embedbar-installed");
    if reads(&stamp, &wanted) {
        return Ok(());
    }
    let advice = "is the registry reachable? `npm --prefix ui ci` by hand shows more";
    steps.require("npm ci", advice, &mut command(workspace, "npm", &["ci", "--no-audit", "--no-fund"]))?;
    write(&stamp, &wanted)
}

/// `npm run build`, if anything in `ui/` changed since the last build.
pub(crate) fn build(workspace: &Workspace, steps: &mut Steps) -> Result<()> {
    let folder = folder(workspace);
    let wanted = files::digest(&folder, &files::sources(&folder)?)?;
    let stamp = folder.join("node_modules/.embedbar-built");
    let built = fs::read_dir(folder.join("dist")).is_ok_and(|mut entries| entries.next().is_some());
    if built && reads(&stamp, &wanted) {
        return Ok(());
    }
    let advice = "`npm --prefix ui run check` names type errors; `npm --prefix ui run build` by hand shows more";
    steps.require("npm run build", advice, &mut command(workspace, "npm", &["run", "build"]))?;
    write(&stamp, &wanted)
}

fn reads(stamp: &Path, wanted: &str) -> bool {
    fs::read_to_string(stamp).is_ok_and(|text| text == wanted)
}

fn write(stamp: &Path, text: &str) -> Result<()> {
    fs::write(stamp, text).with_context(|| format!("could not write `{}`", stamp.display()))
}
