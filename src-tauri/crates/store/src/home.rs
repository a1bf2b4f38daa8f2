//! The folder of all state and the names in it.

use std::env;
use std::fs::{self, DirBuilder, Permissions};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use embedbar_records::{Draft, PRIVATE};

use crate::StoreError;

/// The version of the layout that this program reads and writes.
pub const LAYOUT_VERSION: u32 = 1;

/// The longest path that fits into a socket's address on every system (macOS has 104 bytes, one of them for the end).
const LONGEST_SOCKET_PATH: usize = 100;

/// The folder of all state.
///
/// ```text
/// layout          the version of this layout
/// owner.lock      locked by the program that owns the home
/// owner.sock      how other programs reach it
/// token           what a browser must show (mode 0600)
/// index.sqlite3   the documents' index
/// models/         installed models, a folder each
/// quarantine/     models whose self-test failed, a folder each
/// downloads/      downloads on their way, where they do not go into the hub's shared cache
/// logs/           one file a day
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Home {
    root: PathBuf,
}

impl Home {
    /// Opens the home, making it where it is missing: `chosen`, else `EMBEDBAR_HOME`, else the system's place for a user's data.
    pub fn open(chosen: Option<PathBuf>) -> Result<Self, StoreError> {
        let root =
            match chosen.or_else(|| env::var_os("EMBEDBAR_HOME").filter(|home| !home.is_empty()).map(PathBuf::from)) {
                Some(root) => root,
                None => default_root().ok_or(StoreError::NoHome)?,
            };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&root)
            .map_err(StoreError::io("make the folder", &root))?;
        // Absolute and without links, so that every program on this home derives the same names from it.
        let root = root.canonicalize().map_err(StoreError::io("open the folder", &root))?;
        let home = Self { root };
        home.check_layout()?;
        Ok(home)
    }

    fn check_layout(&self) -> Result<(), StoreError> {
        let path = self.root.join("layout");
        match fs::read_to_string(&path) {
            // What cannot be read as a number was written by something newer than us.
            Ok(text) => match text.trim().parse().unwrap_or(u32::MAX) {
                found if found > LAYOUT_VERSION => Err(StoreError::NewerLayout { path: self.root.clone(), found }),
                _ => Ok(()),
            },
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                // In one step: a program that starts at the same time sees all of it or nothing.
                Ok(Draft::beside(&path, format!("{LAYOUT_VERSION}\n").as_bytes(), PRIVATE)?.replace()?)
            }
            Err(error) => Err(StoreError::io("read", path)(error)),
        }
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The documents' index.
    pub fn index(&self) -> PathBuf {
        self.root.join("index.sqlite3")
    }

    /// The folder of log files.
    pub fn logs(&self) -> PathBuf {
        self.root.join("logs")
    }

    /// The folder of installed models.
    pub fn models(&self) -> PathBuf {
        self.root.join("models")
    }

    /// Models whose self-test failed: shown with the reason, never active.
    pub fn quarantine(&self) -> PathBuf {
        self.root.join("quarantine")
    }

    /// Downloads on their way, where they do not go into the hub's shared cache.
    pub fn downloads(&self) -> PathBuf {
        self.root.join("downloads")
    }

    /// Work in progress that no restart goes on with.
    pub fn scratch(&self) -> PathBuf {
        self.root.join("scratch")
    }

    /// Installations that a person has said yes to and that have not ended.
    pub fn installing(&self) -> PathBuf {
        self.root.join("installing.json")
    }

    /// What the files of the hub's commits were when they were fetched first.
    pub fn first_use(&self) -> PathBuf {
        self.root.join("first-use.json")
    }

    /// Matrices of models in the form that is computed with; they can be made again from the models.
    pub fn packed(&self) -> PathBuf {
        self.root.join("packed")
    }

    /// Which `.env` is followed.
    pub fn followed(&self) -> PathBuf {
        self.root.join("followed.json")
    }

    /// Which files may decide what runs.
    pub fn trust(&self) -> PathBuf {
        self.root.join("trust.json")
    }

    /// What this machine has shown: what models took, what everything else usually uses.
    pub fn history(&self) -> PathBuf {
        self.root.join("history.json")
    }

    /// Which servers on the network a person has allowed.
    pub fn consents(&self) -> PathBuf {
        self.root.join("consents.json")
    }

    /// Which containers are to be started again.
    pub fn stopped(&self) -> PathBuf {
        self.root.join("stopped.json")
    }

    /// The browser's token.
    pub fn token(&self) -> PathBuf {
        self.root.join("token")
    }

    /// The file that the owner locks.
    pub fn owner_lock(&self) -> PathBuf {
        self.root.join("owner.lock")
    }

    /// The socket of the owner. A home whose path is too long for a socket's address has it in a folder of the user's own
    /// below the system's temporary folder.
    pub fn owner_socket(&self) -> Result<PathBuf, StoreError> {
        let direct = self.root.join("owner.sock");
        if direct.as_os_str().len() <= LONGEST_SOCKET_PATH {
            return Ok(direct);
        }
        let owner = fs::metadata(&self.root).map_err(StoreError::io("read", &self.root))?.uid();
        let folder = PathBuf::from("/tmp").join(format!("embedbar-{owner}"));
        match DirBuilder::new().mode(0o700).create(&folder) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(StoreError::io("make the folder", folder)(error));
            }
            _ => {}
        }
        // The temporary folder is everybody's: only a real folder of our own will do.
        let found = fs::symlink_metadata(&folder).map_err(StoreError::io("read", &folder))?;
        if !found.is_dir() || found.uid() != owner {
            let denied = std::io::Error::new(std::io::ErrorKind::PermissionDenied, "it belongs to somebody else");
            return Err(StoreError::io("use the folder", folder)(denied));
        }
        fs::set_permissions(&folder, Permissions::from_mode(0o700)).map_err(StoreError::io("protect", &folder))?;
        Ok(folder.join(format!("{:016x}.sock", fingerprint(self.root.as_os_str().as_bytes()))))
    }
}

/// FNV-1a, 64 bits: every build of Embedbar derives the same name.
fn fingerprint(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

fn default_root() -> Option<PathBuf> {
    let folder = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if cfg!(target_os = "macos") {
        return Some(folder("HOME")?.join("Library/Application Support/Embedbar"));
    }
    let data = folder("XDG_DATA_HOME").filter(|path| path.is_absolute());
    Some(match data {
        Some(data) => data.join("embedbar"),
        None => folder("HOME")?.join(".local/share/embedbar"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_home_is_made_private_and_opens_again() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("a/b");
        let home = Home::open(Some(path.clone())).expect("it can be made");
        assert_eq!(fs::metadata(&path).expect("it is there").permissions().mode() & 0o777, 0o700);
        assert_eq!(Home::open(Some(path)).expect("it is there"), home);
        assert_eq!(fs::read_dir(home.root()).expect("it is there").count(), 1, "nothing but the layout file");
    }

    #[test]
    fn a_home_of_a_newer_version_is_refused() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for content in ["2", "two point oh"] {
            fs::write(folder.path().join("layout"), content).expect("it can be written");
            let error = Home::open(Some(folder.path().into())).expect_err("it is newer");
            assert!(matches!(error, StoreError::NewerLayout { .. }), "{error}");
        }
    }

    #[test]
    fn a_home_with_a_long_path_has_a_short_socket() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let short = Home::open(Some(folder.path().join("h"))).expect("it can be made");
        assert!(short.owner_socket().expect("a name").starts_with(short.root()));
        let long = Home::open(Some(folder.path().join("l".repeat(120)))).expect("it can be made");
        let socket = long.owner_socket().expect("a name");
        assert!(socket.as_os_str().len() <= LONGEST_SOCKET_PATH);
        assert_eq!(socket, long.owner_socket().expect("the same name"));
    }
}
