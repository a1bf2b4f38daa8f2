//! `cargo xtask bench`: builds the release and hands over to `tests/bench/bench.py`, which measures it beside onnxruntime
//! in the same run and prints the table. `cargo xtask bench -- convert` measures conversions instead, with `tests/bench/convert.py`.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::python;
use crate::steps::Steps;
use crate::system::{self, Consent, Need};
use crate::workspace::Workspace;

/// Measures and prints; `rest` is passed on to the script.
pub(crate) fn bench(workspace: &Workspace, rest: &[String]) -> Result<()> {
    let folder = workspace.root.join("tests/bench");
    if let Some(("convert", rest)) = rest.split_first().map(|(first, rest)| (first.as_str(), rest)) {
        return conversions(workspace, &folder, rest);
    }
    let mut steps = Steps::new(&workspace.scratch().join("logs"))?;
    system::ensure(&mut steps, &[Need::Python], Consent::Ask)?;
    let build = ["build", "--release", "--package", "embedbar-cli"];
    steps.require("cargo build --release", "read the first error in the log", &mut workspace.cargo(build))?;
    let python = python::environment(workspace, &mut steps, &folder.join("requirements.txt"))?;
    let status = Command::new(&python)
        .arg(folder.join("bench.py"))
        .arg("--embedbar")
        .arg(workspace.target.join("release/embedbar"))
        .arg("--bundled")
        .arg(workspace.bundled_model())
        .arg("--cache")
        .arg(workspace.cache())
        .args(rest)
        // A release build in a target folder of its own does not find the sources.
        .env("EMBEDBAR_BUNDLED", workspace.bundled_model())
        .current_dir(&workspace.root)
        .status()
        .with_context(|| format!("could not start `{}`", python.display()))?;
    if !status.success() {
        bail!("the benchmark failed ({status}): the lines above say where");
    }
    Ok(())
}

/// Measures conversions of a checkpoint that is made first; it takes 25 GB of the cache's disk.
fn conversions(workspace: &Workspace, folder: &Path, rest: &[String]) -> Result<()> {
    let mut steps = Steps::new(&workspace.scratch().join("logs"))?;
    system::ensure(&mut steps, &[Need::Python], Consent::Ask)?;
    for (title, what) in [
        ("cargo build --release", &["--package", "embedbar-cli"][..]),
        ("the generator of checkpoints", &["--package", "embedbar-convert", "--example", "random_checkpoint"]),
    ] {
        let build = [&["build", "--release"][..], what].concat();
        steps.require(title, "read the first error in the log", &mut workspace.cargo(build))?;
    }
    let python = python::environment(workspace, &mut steps, &folder.join("requirements-convert.txt"))?;
    let status = Command::new(&python)
        .arg(folder.join("convert.py"))
        .arg("--embedbar")
        .arg(workspace.target.join("release/embedbar"))
        .arg("--generator")
        .arg(workspace.target.join("release/examples/random_checkpoint"))
        .arg("--work")
        .arg(workspace.cache().join("bench-convert"))
        .args(rest)
        .current_dir(&workspace.root)
        .status()
        .with_context(|| format!("could not start `{}`", python.display()))?;
    if !status.success() {
        bail!("the benchmark failed ({status}): the lines above say where");
    }
    Ok(())
}
