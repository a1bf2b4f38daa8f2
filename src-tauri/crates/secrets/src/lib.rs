//! Keeps the hub's token: in the Keychain (macOS), in the Secret Service (Linux), or, where no such service answers, in a file
//! of the home that only its owner may read.
//!
//! ```text
//! set ─► keyring ─ no answer ─► file        get ─► file, if there is one ─► keyring
//! ```
//!
//! The file is looked at first, because it is there only when the keyring did not answer the last time something was kept; what is
//! kept in the keyring removes it. A keyring may wait for a person who is not there, so each request has a time after which
//! it counts as no answer; its thread is left behind.
//!
//! What is not here: variables and the file of the hub's own login command, which come first and are the caller's affair
//! ([`keyring`](https://docs.rs/keyring) as a whole would bring every store of every system; its core and one store do).

mod file;
mod keyring;
mod secret;

use std::fmt;
use std::path::{Path, PathBuf};

use keyring::Keyring;
pub use keyring::Patience;
pub use secret::Secret;

/// What can go wrong. No message holds a secret.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SecretsError {
    /// A name that could not be that of a file.
    #[error("`{name}` is no name for a secret: 1 to 64 small letters, digits and hyphens")]
    Name {
        /// As it was given.
        name: String,
    },
    /// Others could have read or changed the file.
    #[error("`{}` is refused: {reason}; make a new token at the hub, for others may know this one, and remove the file", .path.display())]
    Exposed {
        /// The file or its folder.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// It holds something that is not text, or too much of it.
    #[error("what is kept in {place} under `{name}` is not a secret of ours; remove it and set it again")]
    NotASecret {
        /// Where.
        place: String,
        /// Under which name.
        name: String,
    },
    /// The keyring answered, but not as it should.
    #[error("{keyring} refuses: {message}")]
    Keyring {
        /// Which one.
        keyring: &'static str,
        /// What it said.
        message: String,
    },
    /// The disk refused.
    #[error("could not {action} `{}`", .path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
}

/// Where secrets are kept. Its text is a sentence without a full stop.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Place {
    /// The system's keyring, by its name.
    Keyring(&'static str),
    /// A folder of the home, and why no keyring.
    Files {
        /// Holds a file for each secret.
        folder: PathBuf,
        /// Why.
        reason: String,
    },
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Keyring(name) => write!(formatter, "it is kept in {name}"),
            Self::Files { folder, reason } => {
                write!(
                    formatter,
                    "it is kept in a file in `{}` that only you may read, because {reason}",
                    folder.display()
                )
            }
        }
    }
}

/// The secrets of one home. Requests block, at most as long as [`Patience`] says.
#[derive(Debug)]
pub struct Secrets {
    folder: PathBuf,
    keyring: Keyring,
}

impl Secrets {
    /// The secrets of a home, with the system's keyring. Nothing is asked yet; each home has its own entries there.
    pub fn open(home: &Path) -> Self {
        Self::with_patience(home, Patience::default())
    }

    /// As [`open`](Self::open), with other times.
    pub fn with_patience(home: &Path, patience: Patience) -> Self {
        Self { folder: folder_of(home), keyring: Keyring::new(home, patience) }
    }

    /// The secrets of a home in files only: no keyring is asked.
    pub fn in_files(home: &Path) -> Self {
        Self { folder: folder_of(home), keyring: Keyring::none() }
    }

    /// What is kept under a name.
    pub fn get(&self, name: &str) -> Result<Option<Secret>, SecretsError> {
        check(name)?;
        if let Some(secret) = file::read(&self.folder, name)? {
            return Ok(Some(secret));
        }
        Ok(self.keyring.get(name)?.unwrap_or_default())
    }

    /// Keeps a secret under a name, in place of an older one, and says where.
    pub fn set(&self, name: &str, secret: &Secret) -> Result<Place, SecretsError> {
        check(name)?;
        if self.keyring.set(name, secret)?.is_some() {
            file::remove(&self.folder, name)?;
        } else {
            file::write(&self.folder, name, secret)?;
        }
        Ok(self.place())
    }

    /// Forgets what is kept under a name, wherever it is.
    pub fn remove(&self, name: &str) -> Result<(), SecretsError> {
        check(name)?;
        file::remove(&self.folder, name)?;
        self.keyring.remove(name).map(|_| ())
    }

    /// Where something would be kept now.
    pub fn place(&self) -> Place {
        match self.keyring.silence() {
            None => Place::Keyring(keyring::NAME),
            Some(reason) => Place::Files { folder: self.folder.clone(), reason },
        }
    }
}

fn folder_of(home: &Path) -> PathBuf {
    home.join("secrets")
}

fn check(name: &str) -> Result<(), SecretsError> {
    let plain = |it: u8| it.is_ascii_lowercase() || it.is_ascii_digit() || it == b'-';
    if (1..=64).contains(&name.len()) && name.bytes().all(plain) {
        return Ok(());
    }
    let name = name.chars().filter(|it| !it.is_control()).take(64).collect();
    Err(SecretsError::Name { name })
}
