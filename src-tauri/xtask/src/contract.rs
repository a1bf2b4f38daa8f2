//! `ui/src/contract/contract.ts`, the TypeScript half of the contract: writes it, or says that it is out of date.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::steps::Steps;
use crate::workspace::Workspace;

fn committed(workspace: &Workspace) -> PathBuf {
    workspace.root.join("ui/src/contract/contract.ts")
}

fn generator(workspace: &Workspace, to: &Path) -> Command {
    let mut command = workspace.cargo(["run", "--package", "embedbar-contract", "--example", "typescript", "--"]);
    command.arg(to);
    command
}

/// Makes the file from the Rust types.
pub(crate) fn write(workspace: &Workspace) -> Result<()> {
    let path = committed(workspace);
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(|| format!("could not make the folder `{}`", folder.display()))?;
    }
    let mut steps = Steps::new(&workspace.scratch().join("logs"))?;
    steps.require("contract", "the contract crate has to build", &mut generator(workspace, &path))?;
    println!("{}", path.display());
    Ok(())
}

/// `Some(complaint)` if the committed file is not what the Rust types give.
pub(crate) fn complaint(workspace: &Workspace, steps: &mut Steps) -> Result<Option<String>> {
    let fresh = workspace.scratch().join("contract.ts");
    let finished = steps.attempt("contract.ts is current", &mut generator(workspace, &fresh))?;
    if !finished.status.success() {
        return Ok(Some(finished.failure("contract.ts is current", "the contract crate has to build")));
    }
    let path = committed(workspace);
    let current = fs::read(&path).is_ok_and(|text| fs::read(&fresh).is_ok_and(|fresh| fresh == text));
    Ok((!current).then(|| format!("`{}` is not what the Rust types give: run `cargo xtask contract`", path.display())))
}
