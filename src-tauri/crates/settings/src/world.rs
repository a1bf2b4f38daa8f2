//! What the lint asks about the machine, so that its tests need no disk.

use std::env;
use std::path::{Path, PathBuf};

use crate::file::EnvFile;

/// What is around an `.env` file.
pub trait World {
    /// The folder that relative paths resolve against.
    fn folder(&self) -> &Path;

    /// Whether there is something at a path.
    fn exists(&self, path: &Path) -> bool;

    /// The user's home folder.
    fn home(&self) -> Option<&Path>;

    /// The permission bits of the file; `None` where they are not known.
    fn mode(&self) -> Option<u32>;

    /// Core ML packages that are known to be there, so that a wrong path can be mended.
    fn packages(&self) -> Vec<PathBuf> {
        Vec::new()
    }
}

/// The world of a real file.
#[derive(Clone, Debug)]
pub struct Disk {
    folder: PathBuf,
    home: Option<PathBuf>,
    mode: u32,
    packages: Vec<PathBuf>,
}

impl Disk {
    /// What is around a file; `packages` as in [`World::packages`].
    pub fn around(file: &EnvFile, packages: Vec<PathBuf>) -> Self {
        let home = env::var_os("HOME").filter(|home| !home.is_empty()).map(PathBuf::from);
        Self { folder: file.folder().to_owned(), home, mode: file.mode(), packages }
    }
}

impl World for Disk {
    fn folder(&self) -> &Path {
        &self.folder
    }

    fn exists(&self, path: &Path) -> bool {
        path.exists()
    }

    fn home(&self) -> Option<&Path> {
        self.home.as_deref()
    }

    fn mode(&self) -> Option<u32> {
        Some(self.mode)
    }

    fn packages(&self) -> Vec<PathBuf> {
        self.packages.clone()
    }
}
