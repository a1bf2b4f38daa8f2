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
    /// What is around a file, the Core ML packages beside it and one folder below among it: that is where a wrong path usually
    /// meant to point.
    pub fn of(file: &EnvFile) -> Self {
        Self::around(file, packages_in(file.folder()))
    }

    /// What is around a file; `packages` as in [`World::packages`].
    pub fn around(file: &EnvFile, packages: Vec<PathBuf>) -> Self {
        let home = env::var_os("HOME").filter(|home| !home.is_empty()).map(PathBuf::from);
        Self { folder: file.folder().to_owned(), home, mode: file.mode(), packages }
    }
}

fn packages_in(folder: &Path) -> Vec<PathBuf> {
    let entries = |folder: &Path| -> Vec<PathBuf> {
        std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
    };
    let is_package = |path: &Path| path.extension().is_some_and(|suffix| suffix == "mlpackage") && path.is_dir();
    let mut found = Vec::new();
    for path in entries(folder) {
        if is_package(&path) {
            found.push(path);
        } else if path.is_dir() && !path.is_symlink() {
            found.extend(entries(&path).into_iter().filter(|path| is_package(path)));
        }
    }
    found.sort();
    found
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
