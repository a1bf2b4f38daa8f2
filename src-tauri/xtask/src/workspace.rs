//! Where things are: the checkout, cargo's target folder, our cache; and what the packages say about themselves.
//!
//! Asked of `cargo metadata`, so that `CARGO_TARGET_DIR` and cargo's configuration mean here what they mean to cargo.

use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// The shell as it is tested: with its UI inside, and with the port through which the tests drive its windows.
/// One set for clippy, build and test, so that no dependency is compiled twice. Never used for a release.
pub(crate) const TEST_FEATURES: &str = "embedbar-desktop/custom-protocol,embedbar-desktop/webdriver";

/// A checkout of this repository.
pub(crate) struct Workspace {
    pub(crate) root: PathBuf,
    /// cargo's target folder, often outside the checkout and shared between checkouts.
    pub(crate) target: PathBuf,
    pub(crate) packages: Vec<Package>,
}

/// One member of the workspace.
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) rust_version: Option<String>,
    pub(crate) dependencies: Vec<Dependency>,
}

/// One line of a dependency table.
pub(crate) struct Dependency {
    pub(crate) name: String,
    /// A dependency of the tests alone.
    pub(crate) development: bool,
}

impl Workspace {
    /// Finds the workspace that this program was built from.
    pub(crate) fn load() -> Result<Self> {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
        let mut command = cargo_in(Path::new("."));
        command.args(["metadata", "--no-deps", "--format-version", "1", "--manifest-path"]).arg(&manifest);
        let output = command.output().context("could not start `cargo metadata`")?;
        if !output.status.success() {
            bail!("`cargo metadata` failed: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Self::from_metadata(&serde_json::from_slice(&output.stdout)?)
    }

    fn from_metadata(metadata: &Value) -> Result<Self> {
        let text = |value: &Value, key: &str| -> Result<String> {
            Ok(value[key].as_str().with_context(|| format!("`cargo metadata` gave no `{key}`"))?.to_owned())
        };
        let mut packages = Vec::new();
        for package in metadata["packages"].as_array().into_iter().flatten() {
            let mut dependencies = Vec::new();
            for dependency in package["dependencies"].as_array().into_iter().flatten() {
                let development = dependency["kind"] == "dev";
                dependencies.push(Dependency { name: text(dependency, "name")?, development });
            }
            packages.push(Package {
                name: text(package, "name")?,
                rust_version: package["rust_version"].as_str().map(str::to_owned),
                dependencies,
            });
        }
        let root = text(metadata, "workspace_root")?.into();
        Ok(Self { root, target: text(metadata, "target_directory")?.into(), packages })
    }

    /// cargo, to be run at the root of the checkout.
    pub(crate) fn cargo<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Command {
        let mut command = cargo_in(&self.root);
        command.args(arguments);
        command
    }

    /// A program of the dev profile.
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.target.join("debug").join(name)
    }

    /// Logs and intermediate files of xtask; may be deleted at any time. One for each checkout that shares the target
    /// folder, so that their runs do not read each other's logs.
    pub(crate) fn scratch(&self) -> PathBuf {
        let checkout = hex::encode(Sha256::digest(self.root.as_os_str().as_encoded_bytes()));
        self.target.join("xtask").join(&checkout[..12])
    }

    /// What is worth keeping between checkouts: downloads, Python environments, the standard library for the Mac. Tests
    /// and benchmark look in the same place.
    pub(crate) fn cache(&self) -> PathBuf {
        let folder = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        folder("EMBEDBAR_CACHE")
            .or_else(|| folder("XDG_CACHE_HOME").map(|cache| cache.join("embedbar")))
            .or_else(|| folder("HOME").map(|home| home.join(".cache/embedbar")))
            .unwrap_or_else(|| self.scratch().join("cache"))
    }

    /// The model that the app answers with before anything has been downloaded.
    pub(crate) fn bundled_model(&self) -> PathBuf {
        self.root.join("models/bundled")
    }
}

/// cargo without what the cargo that runs xtask left in the environment: build scripts that look at those variables would
/// be run again each time xtask and a plain `cargo build` take turns.
fn cargo_in(folder: &Path) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if ["CARGO_PKG_", "CARGO_MANIFEST_"].iter().any(|prefix| text.starts_with(prefix)) {
            command.env_remove(&name);
        }
    }
    command.current_dir(folder);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_gives_folders_versions_and_kinds_of_dependency() {
        let metadata = serde_json::json!({
            "workspace_root": "/checkout",
            "target_directory": "/cache/target",
            "packages": [{
                "name": "embedbar-documents",
                "rust_version": "1.95",
                "dependencies": [{"name": "rusqlite", "kind": null}, {"name": "proptest", "kind": "dev"}],
            }],
        });
        let workspace = Workspace::from_metadata(&metadata).expect("metadata");
        assert_eq!(workspace.program("embedbar"), Path::new("/cache/target/debug/embedbar"));
        let package = &workspace.packages[0];
        assert_eq!(package.rust_version.as_deref(), Some("1.95"));
        let kinds: Vec<_> = package.dependencies.iter().map(|found| (found.name.as_str(), found.development)).collect();
        assert_eq!(kinds, [("rusqlite", false), ("proptest", true)]);
    }
}
