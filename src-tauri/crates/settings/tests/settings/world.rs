//! A world without a disk.

use std::path::{Path, PathBuf};

use embedbar_settings::World;

/// What is there is said.
#[derive(Clone, Debug)]
pub(crate) struct Imagined {
    pub(crate) there: Vec<PathBuf>,
    pub(crate) packages: Vec<PathBuf>,
    pub(crate) mode: Option<u32>,
    pub(crate) home: Option<PathBuf>,
}

impl Default for Imagined {
    fn default() -> Self {
        Self { there: Vec::new(), packages: Vec::new(), mode: Some(0o600), home: Some("/people/ada".into()) }
    }
}

impl Imagined {
    pub(crate) fn with(there: &[&str]) -> Self {
        Self { there: there.iter().map(PathBuf::from).collect(), ..Self::default() }
    }
}

impl World for Imagined {
    fn folder(&self) -> &Path {
        Path::new("/project")
    }

    fn exists(&self, path: &Path) -> bool {
        self.there.iter().any(|it| it == path)
    }

    fn home(&self) -> Option<&Path> {
        self.home.as_deref()
    }

    fn mode(&self) -> Option<u32> {
        self.mode
    }

    fn packages(&self) -> Vec<PathBuf> {
        self.packages.clone()
    }
}
