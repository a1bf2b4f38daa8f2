//! Walks over the checkout's own files and hashes them. Knows nothing of git: a tarball of the sources works too.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use sha2::{Digest as _, Sha256};

/// Folders of results, which git ignores too.
const RESULTS: &[&str] = &[".git", ".svelte-kit", ".venv", "__pycache__", "dist", "node_modules", "out", "target"];

/// All files below `folder` that people (or committed generators) wrote, sorted.
pub(crate) fn sources(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut pending = vec![folder.to_owned()];
    while let Some(folder) = pending.pop() {
        for entry in fs::read_dir(&folder).with_context(|| format!("could not list `{}`", folder.display()))? {
            let entry = entry?;
            let (name, kind) = (entry.file_name(), entry.file_type()?);
            let name = name.to_string_lossy();
            let generated = name == "gen" && folder.ends_with("src-tauri");
            if kind.is_dir() && !RESULTS.contains(&name.as_ref()) && !generated {
                pending.push(entry.path());
            } else if kind.is_file() && !name.ends_with(".log") {
                found.push(entry.path());
            }
        }
    }
    found.sort();
    Ok(found)
}

/// One hash over the names and contents of `files`, in their order.
pub(crate) fn digest(root: &Path, files: &[PathBuf]) -> Result<String> {
    let mut hasher = Sha256::new();
    for file in files {
        let bytes = fs::read(file).with_context(|| format!("could not read `{}`", file.display()))?;
        hasher.update(file.strip_prefix(root).unwrap_or(file).to_string_lossy().as_bytes());
        hasher.update([0]);
        hasher.update((bytes.len() as u64).to_le_bytes());
        hasher.update(&bytes);
    }
    Ok(hex::encode(hasher.finalize()))
}

/// The sha256 of one file, in hexadecimal.
pub(crate) fn sha256(file: &Path) -> Result<String> {
    let bytes = fs::read(file).with_context(|| format!("could not read `{}`", file.display()))?;
    Ok(hex::encode(Sha256::digest(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_leave_results_out() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let found = sources(root).expect("list");
        assert!(found.contains(&root.join("src/files.rs")));
        assert!(found.iter().all(|file| !file.components().any(|part| part.as_os_str() == "target")));
    }
}
