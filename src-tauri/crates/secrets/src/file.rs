//! Secrets as files that only their owner may read, in a folder that only the owner may enter.
//!
//! A file is written whole beside the old one and then takes its name. One that others could have read or changed is refused:
//! what it holds is no secret any more. What is not here: encryption, whose key would lie beside it.

use std::fs::{self, DirBuilder, Metadata, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use embedbar_records::{Draft, PRIVATE, Refused, flush_folder};
use rustix::fs::OFlags;
use rustix::process::geteuid;

use crate::SecretsError;
use crate::secret::{MOST, Secret};

pub(crate) fn read(folder: &Path, name: &str) -> Result<Option<Secret>, SecretsError> {
    match fs::symlink_metadata(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed("look at", folder)(error)),
        Ok(found) if !found.is_dir() => return Err(exposed(folder, "it is not a folder")),
        Ok(found) => private(folder, &found, 0o022)?,
    }
    let path = folder.join(name);
    // Neither through a link nor waiting for a pipe.
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32;
    let file = match OpenOptions::new().read(true).custom_flags(flags).open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) if rustix::io::Errno::from_io_error(&error) == Some(rustix::io::Errno::LOOP) => {
            return Err(exposed(&path, "it is a link"));
        }
        other => other.map_err(failed("open", &path))?,
    };
    let found = file.metadata().map_err(failed("look at", &path))?;
    if !found.is_file() {
        return Err(exposed(&path, "it is not a file"));
    }
    private(&path, &found, 0o077)?;
    let mut bytes = Vec::new();
    file.take(MOST as u64 + 2).read_to_end(&mut bytes).map_err(failed("read", &path))?;
    let secret = std::str::from_utf8(&bytes).ok().and_then(Secret::new);
    let place = format!("`{}`", path.display());
    secret.map(Some).ok_or_else(|| SecretsError::NotASecret { place, name: name.to_owned() })
}

pub(crate) fn write(folder: &Path, name: &str, secret: &Secret) -> Result<(), SecretsError> {
    DirBuilder::new().mode(0o700).recursive(true).create(folder).map_err(failed("make the folder", folder))?;
    let found = fs::symlink_metadata(folder).map_err(failed("look at", folder))?;
    if !found.is_dir() {
        return Err(exposed(folder, "it is not a folder"));
    }
    private(folder, &found, 0o022)?;
    let path = folder.join(name);
    // Dots are in no name, so what is written beside it is nobody's secret.
    let written = Draft::beside(&path, secret.reveal().as_bytes(), PRIVATE).and_then(Draft::replace);
    let written = written.and_then(|()| flush_folder(&path));
    written.map_err(|Refused { action, path, source }| SecretsError::File { action, path, source })
}

pub(crate) fn remove(folder: &Path, name: &str) -> Result<(), SecretsError> {
    let path = folder.join(name);
    match fs::remove_file(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.map_err(failed("remove", &path)),
    }
}

/// Refuses what belongs to somebody else, or gives others one of these rights.
fn private(path: &Path, found: &Metadata, rights: u32) -> Result<(), SecretsError> {
    if found.uid() != geteuid().as_raw() {
        return Err(exposed(path, "it belongs to somebody else"));
    }
    let mode = found.mode() & 0o777;
    if mode & rights == 0 {
        return Ok(());
    }
    let could = if rights == 0o077 { "others may read it" } else { "others may write to it" };
    Err(exposed(path, &format!("{could} (its mode is {mode:03o})")))
}

fn exposed(path: &Path, reason: &str) -> SecretsError {
    SecretsError::Exposed { path: path.to_owned(), reason: reason.to_owned() }
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SecretsError {
    let path = path.to_owned();
    move |source| SecretsError::File { action, path, source }
}
