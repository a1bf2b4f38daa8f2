//! Reading a file whole, and replacing it whole.
//!
//! A replacement is written beside the file, flushed to the disk and renamed over it: whoever reads, and whatever kills this
//! process, finds the old bytes or the new ones. Mode and links stay as they are. A write is refused where the content is no
//! longer that which was read; between that last look and the rename there are some microseconds that no portable call closes.
//!
//! What is not here: what the bytes mean.

use std::fmt;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};

use crate::SettingsError;
use crate::document::Document;

/// More bytes than this are no settings.
pub const MOST_BYTES: u64 = 256 * 1024;

/// After this time a temporary file was left by a process that is gone.
const LEFT_OVER: Duration = Duration::from_mins(1);

/// What a file contains, in 32 bytes.
#[derive(Clone, Copy, Eq, Hash, PartialEq)]
pub struct ContentHash([u8; 32]);

impl ContentHash {
    /// Of some bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }
}

impl fmt::Debug for ContentHash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..8].iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

/// An `.env` file as it was at one moment.
#[derive(Clone, Debug)]
pub struct EnvFile {
    path: PathBuf,
    target: PathBuf,
    document: Document,
    hash: ContentHash,
    mode: u32,
}

impl EnvFile {
    /// Reads and parses it. A file that cannot be parsed as Python does it is read all the same
    /// ([`Document::breakage`]).
    pub fn read(path: impl AsRef<Path>) -> Result<Self, SettingsError> {
        let path = std::path::absolute(&path).map_err(SettingsError::io("find", path.as_ref()))?;
        let target = path.canonicalize().map_err(SettingsError::io("read", &path))?;
        let (bytes, mode) = read_limited(&target)?;
        let hash = ContentHash::of(&bytes);
        Ok(Self { path, target, document: Document::parse(bytes), hash, mode })
    }

    /// Reads a file, or the `.env` in a folder.
    pub fn at(path: &Path) -> Result<Self, SettingsError> {
        if path.is_dir() { Self::read(path.join(".env")) } else { Self::read(path) }
    }

    /// The path by which it was read, made absolute. Links in it are not followed.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file itself, behind all links.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// What relative paths in it resolve against: where it, or the link to it, lies.
    pub fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(&self.path)
    }

    /// What it says.
    pub fn document(&self) -> &Document {
        &self.document
    }

    /// What it contained.
    pub fn hash(&self) -> ContentHash {
        self.hash
    }

    /// Its permission bits.
    pub fn mode(&self) -> u32 {
        self.mode
    }

    /// Replaces its content, and its permission bits where they are given; refused where it is no longer what was read.
    ///
    /// The file behind a link is replaced, the link stays. Another name of the same file (a hard link) keeps the old content.
    pub fn write(&self, bytes: &[u8], mode: Option<u32>) -> Result<Self, SettingsError> {
        let unchanged = || {
            let target = self.path.canonicalize().map_err(SettingsError::io("read", &self.path))?;
            let (now, _) = read_limited(&target)?;
            if target == self.target && ContentHash::of(&now) == self.hash {
                Ok(())
            } else {
                Err(SettingsError::Changed { path: self.path.clone() })
            }
        };
        let gone = |error| match error {
            SettingsError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                SettingsError::Changed { path: self.path.clone() }
            }
            other => other,
        };
        unchanged().map_err(gone)?;
        replace(&self.target, bytes, mode.unwrap_or(self.mode), || unchanged().map_err(gone))?;
        Self::read(&self.path)
    }
}

/// The bytes and the permission bits of a file that is a file and not too large.
pub(crate) fn read_limited(path: &Path) -> Result<(Vec<u8>, u32), SettingsError> {
    // A pipe would wait for a writer.
    let mut file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)
        .map_err(SettingsError::io("read", path))?;
    let metadata = file.metadata().map_err(SettingsError::io("read", path))?;
    if !metadata.is_file() {
        return Err(SettingsError::NotAFile { path: path.to_owned() });
    }
    let mut bytes = Vec::new();
    (&mut file).take(MOST_BYTES + 1).read_to_end(&mut bytes).map_err(SettingsError::io("read", path))?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(SettingsError::TooLarge { path: path.to_owned(), bytes: metadata.len() });
    }
    Ok((bytes, metadata.permissions().mode() & 0o7777))
}

/// Puts bytes into the place of a file. `last_look` is asked right before; the file stays as it was where it refuses.
fn replace(
    path: &Path,
    bytes: &[u8],
    mode: u32,
    last_look: impl FnOnce() -> Result<(), SettingsError>,
) -> Result<(), SettingsError> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(SettingsError::NotAFile { path: path.to_owned() });
    };
    let prefix = format!(".{}.embedbar-", name.to_string_lossy());
    sweep(folder, &prefix);
    // Secret until it is complete: it has the mode of a private file until it gets its own.
    let mut temporary = tempfile::Builder::new()
        .prefix(&prefix)
        .suffix(".tmp")
        .permissions(Permissions::from_mode(0o600))
        .tempfile_in(folder)
        .map_err(SettingsError::io("write in", folder))?;
    let file = temporary.as_file_mut();
    file.write_all(bytes)
        .and_then(|()| file.set_permissions(Permissions::from_mode(mode)))
        .and_then(|()| file.sync_all())
        .map_err(SettingsError::io("write beside", path))?;
    last_look()?;
    temporary.persist(path).map_err(|error| SettingsError::io("replace", path)(error.error))?;
    // The rename itself must survive a power cut; some filesystems cannot flush a folder, and the file is whole either way.
    if let Err(error) = File::open(folder).and_then(|folder| folder.sync_all()) {
        tracing::debug!(folder = %folder.display(), %error, "the folder was not flushed");
    }
    Ok(())
}

/// Removes what killed processes have left; what cannot be removed stays.
fn sweep(folder: &Path, prefix: &str) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let ours = name.to_string_lossy().starts_with(prefix) && name.to_string_lossy().ends_with(".tmp");
        let age = || {
            entry.metadata().and_then(|it| it.modified()).ok().and_then(|it| SystemTime::now().duration_since(it).ok())
        };
        if ours && age().is_some_and(|age| age > LEFT_OVER) {
            let _left_for_next_time = fs::remove_file(entry.path());
        }
    }
}

/// What every store of this crate has beside its own fields.
#[derive(serde::Deserialize, Serialize)]
struct Versioned<Content> {
    version: u64,
    #[serde(flatten)]
    content: Content,
}

/// Reads a versioned JSON store; `None` where there is none yet.
pub fn read_store<Content: DeserializeOwned>(path: &Path, known: u64) -> Result<Option<Content>, SettingsError> {
    #[derive(serde::Deserialize)]
    struct OnlyVersion {
        version: u64,
    }
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(SettingsError::io("read", path)(error)),
    };
    let damaged =
        |error: serde_json::Error| SettingsError::DamagedStore { path: path.to_owned(), reason: error.to_string() };
    let OnlyVersion { version: found } = serde_json::from_slice(&bytes).map_err(damaged)?;
    if found > known {
        return Err(SettingsError::NewerStore { path: path.to_owned(), found, known });
    }
    let store: Versioned<Content> = serde_json::from_slice(&bytes).map_err(damaged)?;
    Ok(Some(store.content))
}

/// Writes a versioned JSON store that only its owner can read.
pub fn write_store<Content: Serialize>(path: &Path, version: u64, content: Content) -> Result<(), SettingsError> {
    let mut json = serde_json::to_vec_pretty(&Versioned { version, content })
        .map_err(|error| SettingsError::DamagedStore { path: path.to_owned(), reason: error.to_string() })?;
    json.push(b'\n');
    replace(path, &json, 0o600, || Ok(()))
}
