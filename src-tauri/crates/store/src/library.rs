//! Which models there are: the bundled one and those in the home.

use std::env;
use std::fs;
use std::iter;
use std::path::{Path, PathBuf};

use crate::size::bytes_below;
use crate::{Home, SetAside, StoreError};

/// The id of the model that comes with the program.
pub const BUNDLED_ID: &str = "all-MiniLM-L6-v2";

/// A model on disk.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Model {
    /// Its id.
    pub id: String,
    /// A `.gguf` file, a model folder or a `.mlpackage`.
    pub path: PathBuf,
    /// Whether it came with the program.
    pub bundled: bool,
}

impl Model {
    /// Size of its files; 0 where they cannot be read.
    pub fn size_bytes(&self) -> u64 {
        bytes_below(&self.path)
    }
}

/// What there is under an id.
#[derive(Clone, Debug, PartialEq)]
pub enum Found {
    /// A model that can be used.
    Model(Model),
    /// One whose self-test failed.
    Aside(Box<SetAside>),
    /// An installed one whose files lie elsewhere and are not there any more.
    Missing {
        /// Its id.
        id: String,
        /// Its folder in the library.
        folder: PathBuf,
        /// The first file that is not there.
        lost: PathBuf,
    },
}

impl Found {
    /// Its id.
    pub fn id(&self) -> &str {
        match self {
            Self::Model(Model { id, .. }) | Self::Missing { id, .. } => id,
            Self::Aside(aside) => &aside.id,
        }
    }

    /// Where it is: what the engine can be given, or the folder in which nothing is for the engine.
    pub fn path(&self) -> &Path {
        match self {
            Self::Model(Model { path, .. }) => path,
            Self::Aside(aside) => &aside.folder,
            Self::Missing { folder, .. } => folder,
        }
    }
}

/// The models there are.
#[derive(Clone, Debug)]
pub struct Library {
    bundled: Option<Model>,
    /// Where the bundled model was looked for.
    looked: Vec<PathBuf>,
    /// The folder of installed models, a folder each.
    pub(crate) installed: PathBuf,
    /// Models that are never active, a folder each.
    pub(crate) quarantine: PathBuf,
}

impl Library {
    /// Looks for the bundled model; the home's models are looked at later, whenever they are asked for.
    pub fn open(home: &Home) -> Self {
        let looked = bundled_folders();
        let bundled = looked.iter().find_map(|folder| with_suffix(folder, "gguf"));
        let bundled = bundled.map(|path| Model { id: BUNDLED_ID.to_owned(), path, bundled: true });
        Self { bundled, looked, installed: home.models(), quarantine: home.quarantine() }
    }

    /// The folder of the installed model `id`, whether it is there or not.
    pub fn folder(&self, id: &str) -> PathBuf {
        self.installed.join(id)
    }

    /// The model that comes with the program.
    pub fn bundled(&self) -> Result<&Model, StoreError> {
        self.bundled.as_ref().ok_or_else(|| StoreError::NoBundledModel { looked: self.looked.clone() })
    }

    /// All of them, the bundled one first where it is there, then by id.
    pub fn models(&self) -> Vec<Model> {
        let mut found: Vec<Model> = fs::read_dir(&self.installed)
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| {
                let id = entry.file_name().to_str()?.to_owned();
                let path = model_in(&entry.path())?;
                (!id.starts_with('.') && id != BUNDLED_ID).then_some(Model { id, path, bundled: false })
            })
            .collect();
        found.sort_by(|one, other| one.id.cmp(&other.id));
        found.splice(0..0, self.bundled.clone());
        found
    }

    /// Everything with an id: the models, then those that are set aside, then those whose files are gone. Of an id that is there
    /// twice the first counts. Each kind is looked for when its turn comes.
    pub fn all(&self) -> impl Iterator<Item = Found> {
        let models = iter::once_with(|| self.models()).flatten().map(Found::Model);
        let aside = iter::once_with(|| self.set_aside()).flatten().map(|aside| Found::Aside(Box::new(aside)));
        let missing = iter::once_with(|| self.missing()).flatten();
        let missing = missing.map(|(id, lost)| Found::Missing { folder: self.folder(&id), id, lost });
        models.chain(aside).chain(missing)
    }

    /// The model called `name`, or the one at the path `name`.
    pub fn find(&self, name: &str) -> Result<Model, StoreError> {
        match self.all().find(|found| found.id() == name) {
            Some(Found::Model(model)) => return Ok(model),
            Some(Found::Aside(aside)) => return Err(StoreError::SetAside { reason: aside.reason(), id: aside.id }),
            Some(Found::Missing { id, lost, .. }) => return Err(StoreError::FilesGone { id, lost }),
            None => {}
        }
        if name == BUNDLED_ID {
            return self.bundled().cloned();
        }
        let path = Path::new(name);
        if !name.contains('/') && !path.exists() {
            return Err(StoreError::UnknownModel(name.to_owned()));
        }
        let path = path.canonicalize().map_err(StoreError::io("open", path))?;
        let id = path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        // A folder that holds one GGUF file stands for that file; anything else is for the engine to judge.
        Ok(Model { id, path: model_in(&path).unwrap_or(path), bundled: false })
    }
}

/// What the engine can be given of `path`; `None` where nothing of it looks like a model.
pub fn model_in(path: &Path) -> Option<PathBuf> {
    if path.is_dir() {
        let is_model = path.join("config.json").is_file() || is_package(path);
        if is_model {
            Some(path.to_owned())
        } else {
            with_suffix(path, "gguf").or_else(|| with_suffix(path, "mlpackage"))
        }
    } else {
        (path.extension()? == "gguf").then(|| path.to_owned())
    }
}

/// Whether a folder is a Core ML package.
fn is_package(path: &Path) -> bool {
    path.extension().is_some_and(|suffix| suffix == "mlpackage") && path.join("Manifest.json").is_file()
}

/// The first entry of a folder with a suffix, by name.
fn with_suffix(folder: &Path, suffix: &str) -> Option<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder)
        .ok()?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|found| found == suffix))
        .filter(|path| path.is_file() || is_package(path))
        .collect();
    files.sort();
    files.into_iter().next()
}

/// Where the bundled model may be, best first: named by the user, in a macOS bundle, in a Linux installation, in the sources.
fn bundled_folders() -> Vec<PathBuf> {
    if let Some(named) = env::var_os("EMBEDBAR_BUNDLED").filter(|named| !named.is_empty()) {
        return vec![PathBuf::from(named)];
    }
    let mut folders = Vec::new();
    if let Ok(program) = env::current_exe() {
        let beside = program.parent().unwrap_or(Path::new("/"));
        folders.push(beside.join("../Resources/models/bundled"));
        folders.push(beside.join("../lib/Embedbar/models/bundled"));
        folders.push(beside.join("models/bundled"));
        folders.extend(beside.ancestors().skip(1).take(3).map(|folder| folder.join("models/bundled")));
    }
    if cfg!(debug_assertions) {
        // A build for development finds the model in the sources that it was built from.
        folders.push(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../models/bundled"));
    }
    folders
}

#[cfg(test)]
mod tests {
    use super::*;

    fn library(folder: &Path) -> Library {
        let bundled = Some(Model { id: BUNDLED_ID.into(), path: folder.join("bundled.gguf"), bundled: true });
        Library {
            bundled,
            looked: vec![folder.to_owned()],
            installed: folder.join("models"),
            quarantine: folder.join("quarantine"),
        }
    }

    #[test]
    fn without_the_bundled_model_others_are_still_found_and_its_absence_is_told_when_it_is_wanted() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::write(folder.path().join("mine.gguf"), "").expect("it can be written");
        let library = Library { bundled: None, ..library(folder.path()) };
        let mine = folder.path().join("mine.gguf");
        assert_eq!(library.find(mine.to_str().expect("UTF-8")).expect("it is there").id, "mine");
        assert!(library.models().is_empty());
        for outcome in [library.bundled().map(drop), library.find(BUNDLED_ID).map(drop)] {
            let told = matches!(&outcome, Err(StoreError::NoBundledModel { looked }) if looked == &[folder.path()]);
            assert!(told, "{outcome:?}");
        }
    }

    #[test]
    fn the_bundled_model_comes_first_and_debris_is_not_a_model() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let library = library(folder.path());
        assert_eq!(library.models().len(), 1, "a home without a models folder has the bundled one");
        for name in ["zeta/x.gguf", "alpha/config.json", "empty/readme.txt", ".partial/x.gguf"] {
            let path = folder.path().join("models").join(name);
            fs::create_dir_all(path.parent().expect("it has one")).expect("it can be made");
            fs::write(path, "12345").expect("it can be written");
        }
        let models = library.models();
        let ids: Vec<&str> = models.iter().map(|model| model.id.as_str()).collect();
        assert_eq!(ids, [BUNDLED_ID, "alpha", "zeta"]);
        assert!(models[2].path.ends_with("zeta/x.gguf") && models[2].size_bytes() == 5);
    }

    #[test]
    fn everything_with_an_id_is_listed_once_where_it_counts() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let library = library(folder.path());
        for name in ["models/both/x.gguf", "models/linked/y.txt", "quarantine/both/x.gguf", "quarantine/bad/x.gguf"] {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().expect("it has one")).expect("it can be made");
            fs::write(path, "12345").expect("it can be written");
        }
        let linked = library.folder("linked");
        let origin = embedbar_contract::ModelOrigin {
            source: "/elsewhere".into(),
            commit: None,
            licence: None,
            kind: embedbar_contract::ModelKind::Gguf,
            placed: embedbar_contract::Placing::Linked,
            installed_at: 0,
            files: Vec::new(),
        };
        crate::write_origin(&linked, &origin).expect("it can be written");
        std::os::unix::fs::symlink(folder.path().join("gone.gguf"), linked.join("x.gguf")).expect("it can be made");
        let all: Vec<Found> = library.all().collect();
        let ids: Vec<&str> = all.iter().map(Found::id).collect();
        assert_eq!(ids, [BUNDLED_ID, "both", "bad", "both", "linked"]);
        assert!(all[1].path().ends_with("models/both/x.gguf") && all[2].path().ends_with("quarantine/bad"));
        let lost = folder.path().join("gone.gguf");
        assert_eq!(all[4], Found::Missing { id: "linked".into(), folder: linked, lost: lost.clone() });
        assert!(library.find("both").expect("the installed one counts").path.ends_with("models/both/x.gguf"));
        assert!(matches!(library.find("bad"), Err(StoreError::SetAside { id, .. }) if id == "bad"));
        assert!(matches!(library.find("linked"), Err(StoreError::FilesGone { lost: found, .. }) if found == lost));
    }

    #[test]
    fn a_model_is_found_by_id_or_path_and_otherwise_named_in_the_error() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let library = library(folder.path());
        fs::write(folder.path().join("mine.gguf"), "").expect("it can be written");
        assert!(library.find(BUNDLED_ID).expect("it is there").bundled);
        let by_path = library.find(folder.path().join("mine.gguf").to_str().expect("UTF-8")).expect("it is there");
        assert_eq!(by_path.id, "mine");
        assert!(matches!(library.find("none"), Err(StoreError::UnknownModel(name)) if name == "none"));
        assert!(matches!(library.find("./none/x.gguf"), Err(StoreError::Io { .. })));
    }
}
