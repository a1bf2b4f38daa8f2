//! Python environments in our cache, one per list of requirements. Only the tests and the benchmark use Python.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::files;
use crate::steps::Steps;
use crate::workspace::Workspace;

/// The interpreter of an environment with everything in `requirements` (a file for pip).
pub(crate) fn environment(workspace: &Workspace, steps: &mut Steps, requirements: &Path) -> Result<PathBuf> {
    let digest = files::digest(&workspace.root, &[requirements.to_owned()])?;
    let folder = workspace.cache().join("python").join(&digest[..16]);
    let python = folder.join("bin/python");
    let stamp = folder.join("complete");
    if stamp.is_file() && python.is_file() {
        return Ok(python);
    }
    let advice = "`apt-get install python3-venv` on Debian; is the package index reachable?";
    let mut make = Command::new("python3");
    make.args(["-m", "venv", "--clear"]).arg(&folder);
    steps.require("python venv", advice, &mut make)?;
    let mut install = Command::new(&python);
    install
        .args(["-m", "pip", "install", "--disable-pip-version-check", "--only-binary=:all:", "-r"])
        .arg(requirements);
    steps.require("pip install", advice, &mut install)?;
    fs::write(stamp, "")?;
    Ok(python)
}
