//! Finds the one model in what was dropped, and gathers what is said of it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::coreml::Beside;
use crate::folder::Folder;
use crate::leftovers::{self, Leftover};
use crate::{Arrival, ArrivedFile, IntakeError, Kind, Summary, Watch, archive, checkpoint, coreml, files, gguf, names};

/// Folders in folders that are looked into.
const DEPTH: usize = 4;
/// All of them together.
const FOLDERS: usize = 2000;
/// Names of files that a refusal may choose from.
const NAMES: usize = 1000;

/// Whether all of a folder was dropped, or one file in it: then its neighbours are somebody else's.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Scope {
    Whole,
    Around,
}

/// A model in the making.
#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) kind: Kind,
    pub(crate) files: Vec<ArrivedFile>,
    pub(crate) licence: Option<String>,
    pub(crate) notes: Vec<String>,
    pub(crate) summary: Summary,
    /// Folders in the model's folder that are part of it.
    pub(crate) folders: BTreeSet<String>,
}

impl Model {
    pub(crate) fn new(kind: Kind) -> Self {
        Self {
            kind,
            files: Vec::new(),
            licence: None,
            notes: Vec::new(),
            summary: Summary::default(),
            folders: BTreeSet::new(),
        }
    }

    /// Takes the file `name` of `folder` as `to`.
    pub(crate) fn take(&mut self, folder: &Folder, name: &str, to: &str) -> Result<(), IntakeError> {
        let (from, bytes) = folder.needed(name)?;
        names::check(to).map_err(|problem| IntakeError::Name { name: names::shown(to), problem })?;
        self.files.push(ArrivedFile { from, to: to.to_owned(), bytes });
        Ok(())
    }

    /// Takes what says under which terms the model is.
    pub(crate) fn take_papers(&mut self, folder: &Folder) -> Result<(), IntakeError> {
        for name in folder.papers() {
            self.take(folder, name, name)?;
        }
        self.licence = self.licence.take().or_else(|| folder.licence());
        Ok(())
    }

    /// Says what of the folder is not taken.
    pub(crate) fn note_leftovers(&mut self, folder: &Folder) {
        let taken: BTreeSet<&Path> = self.files.iter().map(|file| file.from.as_path()).collect();
        let left = folder.files.keys().filter(|name| !taken.contains(folder.path.join(name).as_path()));
        let mut notes = leftovers::notes(left.map(String::as_str));
        notes.extend(folder.odd.iter().map(|(name, what)| format!("`{name}` is {what}; it is left out")));
        let folders: Vec<&str> =
            folder.folders.iter().filter(|name| !self.folders.contains(*name)).map(String::as_str).collect();
        match folders.as_slice() {
            [] => {}
            [one] => notes.push(format!("the folder `{one}` is left out")),
            several => notes.push(format!("the folders {} are left out", leftovers::list(several))),
        }
        self.notes.extend(notes);
    }
}

/// Says what the file or folder at `path` is and which of its files are the model. Of an archive, those are unpacked into
/// `scratch`, a folder that the caller makes and removes.
///
/// Errors say what is there instead of a model, or what is wrong with it; nothing outside of `scratch` is written.
pub fn recognise(path: &Path, scratch: &Path, watch: &dyn Watch) -> Result<Arrival, IntakeError> {
    if path.to_str().is_none() {
        let what = "its name is not UTF-8".to_owned();
        return Err(IntakeError::NotAModel { path: path.to_path_buf(), what });
    }
    let metadata = fs::metadata(path).map_err(IntakeError::reading(path))?;
    if metadata.is_dir() {
        let origin = fs::canonicalize(path).map_err(IntakeError::reading(path))?;
        let name = folder_name(&origin);
        return from_folder(&Dropped { root: &origin, origin: &origin, name, left_out: &[], in_scratch: false }, watch);
    }
    if let Some(what) = files::irregular(metadata.file_type()) {
        return Err(IntakeError::NotAFile { path: path.to_path_buf(), what });
    }
    // A file of the hub's cache is a link whose target has no name that says anything: only the way to it is resolved.
    let parent = path.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let parent = fs::canonicalize(parent).map_err(IntakeError::reading(parent))?;
    let name = path.file_name().and_then(|it| it.to_str()).unwrap_or_default();
    from_file(&parent, name, scratch, watch)
}

fn from_file(parent: &Path, name: &str, scratch: &Path, watch: &dyn Watch) -> Result<Arrival, IntakeError> {
    let path = parent.join(name);
    if let Err(problem) = names::check(name) {
        return Err(IntakeError::NotAModel { path, what: format!("its name is no name for a file: {problem}") });
    }
    let around = || -> Result<Folder, IntakeError> {
        let mut folder = Folder::around(parent)?;
        let own = Folder::named(parent, &[name])?;
        folder.files.extend(own.files);
        Ok(folder)
    };
    let arrive = |model: Model, title: &str| arrival(model, title, &path, false);
    match names::extension(name).as_str() {
        "gguf" => arrive(gguf::read(&around()?, name, Scope::Around)?, names::stem(name)),
        "safetensors" => {
            let folder = around()?;
            let model = checkpoint::read(&folder, Some(name), Scope::Around, watch)?;
            arrive(model, &folder_name(parent))
        }
        "zip" => from_archive(&path, name, scratch, watch),
        extension => Err(match leftovers::kind(name) {
            Leftover::Archive => IntakeError::OtherArchive { path, kind: format!(".{extension}") },
            Leftover::Program => IntakeError::Program { path },
            Leftover::Unknown => {
                let what = match extension {
                    "" => "a file without an extension".to_owned(),
                    "json" => "its folder may be one".to_owned(),
                    other => format!("a file of the kind `.{}`", names::shown(other)),
                };
                IntakeError::NotAModel { path, what }
            }
            _ => leftovers::refusal(&path, &[name.to_owned()]),
        }),
    }
}

fn from_archive(path: &Path, name: &str, scratch: &Path, watch: &dyn Watch) -> Result<Arrival, IntakeError> {
    let (file, _) = files::open(path)?;
    let scratch = fs::canonicalize(scratch).map_err(IntakeError::reading(scratch))?;
    let folder = scratch.join("unpacked");
    let listing = archive::extract(std::io::BufReader::new(file), path, &folder, watch)?;
    let found = from_folder(
        &Dropped {
            root: &folder,
            origin: path,
            name: names::stem(name).to_owned(),
            left_out: &listing.left_out,
            in_scratch: true,
        },
        watch,
    );
    if found.is_err() {
        let _ = fs::remove_dir_all(&folder);
    }
    found
}

/// What was dropped, once it is a folder.
struct Dropped<'a> {
    /// The folder to look into.
    root: &'a Path,
    /// What the user knows it by.
    origin: &'a Path,
    name: String,
    /// Names in an archive that were not unpacked.
    left_out: &'a [String],
    in_scratch: bool,
}

/// A model that was found, not yet read.
struct Found {
    folder: Rc<Folder>,
    what: What,
}

enum What {
    Checkpoint,
    /// The file of this name.
    Gguf(String),
    Package,
    Compiled,
}

impl Found {
    /// Its path.
    fn path(&self) -> PathBuf {
        match &self.what {
            What::Gguf(name) => self.folder.path.join(name),
            What::Checkpoint | What::Package | What::Compiled => self.folder.path.clone(),
        }
    }
}

/// What the search has seen.
#[derive(Default)]
struct Seen {
    folders: usize,
    names: Vec<String>,
}

fn from_folder(dropped: &Dropped<'_>, watch: &dyn Watch) -> Result<Arrival, IntakeError> {
    let root = Folder::read(dropped.root)?;
    if is_application(&root) {
        return Err(IntakeError::Program { path: dropped.origin.to_path_buf() });
    }
    let mut seen = Seen::default();
    let mut found = Vec::new();
    find(root, dropped.root, 0, &mut seen, &mut found)?;
    // The repository of the hub as it lies in its cache: `refs/main` says which of the snapshots it is.
    if found.len() > 1 {
        keep_main(dropped.root, &mut found);
    }
    if found.len() > 1 {
        let label =
            |it: &Found| names::shown(&it.path().strip_prefix(dropped.root).unwrap_or(dropped.root).to_string_lossy());
        let models =
            found.iter().map(|it| Some(label(it)).filter(|it| !it.is_empty()).unwrap_or_else(|| ".".to_owned()));
        return Err(IntakeError::Several { path: dropped.origin.to_path_buf(), models: models.collect() });
    }
    let Some(found) = found.pop() else {
        seen.names.extend(dropped.left_out.iter().cloned());
        return Err(nothing(dropped, &seen.names));
    };
    let title = title(dropped, &found);
    let folder = found.folder.as_ref();
    let mut model = match &found.what {
        What::Checkpoint => checkpoint::read(folder, None, Scope::Whole, watch)?,
        What::Gguf(name) => gguf::read(folder, name, Scope::Whole)?,
        What::Package => coreml::package(folder, &title, &beside(dropped, folder))?,
        What::Compiled => coreml::compiled(folder, &title, &beside(dropped, folder))?,
    };
    model.notes.extend(leftovers::notes(dropped.left_out.iter().map(String::as_str)));
    arrival(model, &title, dropped.origin, dropped.in_scratch)
}

fn is_application(folder: &Folder) -> bool {
    const LIST: &str = "Info.plist";
    let named = folder.path.extension().is_some_and(|it| it.eq_ignore_ascii_case("app"));
    named || Folder::named(&folder.path.join("Contents"), &[LIST]).is_ok_and(|it| it.has(LIST))
}

/// Adds the models in `folder` to `found`. A folder that is a model is not looked into any further.
fn find(folder: Folder, root: &Path, depth: usize, seen: &mut Seen, found: &mut Vec<Found>) -> Result<(), IntakeError> {
    seen.folders += 1;
    if seen.folders > FOLDERS {
        let what = format!("it holds more than `{FOLDERS}` folders");
        return Err(IntakeError::NotAModel { path: root.to_path_buf(), what });
    }
    let here = models_in(&folder);
    if !here.is_empty() {
        let folder = Rc::new(folder);
        found.extend(here.into_iter().map(|what| Found { folder: Rc::clone(&folder), what }));
        return Ok(());
    }
    let shown = folder.path.strip_prefix(root).unwrap_or(Path::new("")).to_string_lossy().into_owned();
    let below = |name: &String| if shown.is_empty() { name.clone() } else { format!("{shown}/{name}") };
    let room = NAMES.saturating_sub(seen.names.len());
    seen.names.extend(folder.files.keys().chain(folder.odd.keys()).take(room).map(below));
    if depth < DEPTH {
        for name in &folder.folders {
            // One that may not be read, or that has just gone, holds nothing that can be taken.
            let Ok(inner) = Folder::read(&folder.path.join(name)) else { continue };
            if is_application(&inner) {
                seen.names.push(below(name));
            } else {
                find(inner, root, depth + 1, seen, found)?;
            }
        }
    }
    Ok(())
}

/// What this folder itself is or holds; not what the folders in it are.
fn models_in(folder: &Folder) -> Vec<What> {
    if coreml::is_package(folder) {
        return vec![What::Package];
    }
    if coreml::is_compiled(folder) {
        return vec![What::Compiled];
    }
    let mut models: Vec<What> = whole_ggufs(folder).into_iter().map(What::Gguf).collect();
    if folder.has("config.json") && !checkpoint::weights_of(folder).is_empty() {
        models.push(What::Checkpoint);
    }
    models
}

/// The GGUF files of a folder that may be models: of those in parts the first, and no projector beside a model.
fn whole_ggufs(folder: &Folder) -> Vec<String> {
    let all = folder.with_extension("gguf");
    let later = |name: &str| names::part(name, "gguf").is_some_and(|part| part != 1);
    let mut whole: Vec<&str> = all.iter().copied().filter(|name| !later(name)).collect();
    if whole.is_empty() {
        whole = all.into_iter().take(1).collect();
    }
    let is_projector = |name: &str| name.to_ascii_lowercase().contains("mmproj");
    if whole.iter().any(|name| !is_projector(name)) {
        whole.retain(|name| !is_projector(name));
    }
    whole.into_iter().map(str::to_owned).collect()
}

/// Keeps of several snapshots the one that `refs/main` names, where it names one.
fn keep_main(root: &Path, found: &mut Vec<Found>) {
    const COMMIT_BYTES: u64 = 100;
    let Ok(commit) = files::read(&root.join("refs/main"), COMMIT_BYTES) else { return };
    let commit = String::from_utf8_lossy(&commit).trim().to_owned();
    let main = root.join("snapshots").join(&commit);
    if names::is_plain(&commit) && found.iter().any(|it| it.path().starts_with(&main)) {
        found.retain(|it| it.path().starts_with(&main));
    }
}

/// Why a folder without a model is none.
fn nothing(dropped: &Dropped<'_>, seen: &[String]) -> IntakeError {
    let here = |name: &str| seen.iter().any(|it| it == name);
    let folder = dropped.origin.to_path_buf();
    if here("adapter_config.json") || here("adapter_model.safetensors") {
        return IntakeError::Partial { path: folder, what: "an adapter (LoRA)" };
    }
    if let Some(weights) = seen.iter().find(|name| names::extension(name) == "safetensors") {
        let instead = Some(format!("`{}` cannot be understood without it", names::shown(weights)));
        return IntakeError::Missing { folder, file: "config.json".to_owned(), instead };
    }
    let refusal = leftovers::refusal(dropped.origin, seen);
    match refusal {
        IntakeError::NotAModel { .. } if here("config.json") => {
            let instead = Some("`config.json` alone is no model".to_owned());
            IntakeError::Missing { folder, file: "model.safetensors".to_owned(), instead }
        }
        refusal => refusal,
    }
}

/// The folders in which a package's tokenizer may be: its own, those around it up to what was dropped, and one more.
fn beside(dropped: &Dropped<'_>, package: &Folder) -> Beside {
    let mut folders = Vec::new();
    for folder in package.path.ancestors() {
        folders.push(folder.to_path_buf());
        if folder == dropped.root {
            break;
        }
    }
    // What was unpacked has nothing of the user's around it.
    if package.path == dropped.root && !dropped.in_scratch {
        folders.extend(dropped.root.parent().map(Path::to_path_buf));
    }
    Beside { root: dropped.root.to_path_buf(), folders }
}

/// Names of folders in repositories that say how, not what.
const GENERIC: &[&str] =
    &["fp16", "fp32", "f16", "f32", "int8", "int4", "4bit", "8bit", "4-bit", "8-bit", "coreml", "model", "gguf", "mlx"];

/// What the model is called: by the nearest name that says what it is.
fn title(dropped: &Dropped<'_>, found: &Found) -> String {
    let path = found.path();
    let name = match &found.what {
        What::Gguf(name) => return names::cleaned(names::stem(name)),
        _ if path == dropped.root => dropped.name.clone(),
        _ => folder_name(&path),
    };
    let bare = name.strip_suffix(".mlpackage").or_else(|| name.strip_suffix(".mlmodelc")).unwrap_or(&name);
    if GENERIC.contains(&bare.to_ascii_lowercase().as_str()) {
        let around = if path == dropped.root && dropped.in_scratch { None } else { path.parent() };
        let around = around.map(|it| if it == dropped.root { dropped.name.clone() } else { folder_name(it) });
        if let Some(around) = around.filter(|it| !it.is_empty()) {
            return names::cleaned(&format!("{around}-{bare}"));
        }
    }
    names::cleaned(bare)
}

/// The name of a folder; of a snapshot in the hub's cache that of its repository.
fn folder_name(path: &Path) -> String {
    let name =
        |path: Option<&Path>| path.and_then(Path::file_name).and_then(|it| it.to_str()).unwrap_or_default().to_owned();
    let repository =
        |name: &str| name.strip_prefix("models--").map(|it| it.rsplit("--").next().unwrap_or(it).to_owned());
    let parent = path.parent();
    if name(parent) == "snapshots"
        && let Some(repository) = repository(&name(parent.and_then(Path::parent)))
    {
        return repository;
    }
    let own = name(Some(path));
    repository(&own).unwrap_or(own)
}

fn arrival(model: Model, title: &str, origin: &Path, in_scratch: bool) -> Result<Arrival, IntakeError> {
    let Model { kind, mut files, licence, notes, summary, .. } = model;
    files.sort_by(|one, other| one.to.cmp(&other.to));
    let mut seen = BTreeSet::new();
    for file in &files {
        // On a Mac's disk `A` and `a` are one file.
        if !seen.insert(file.to.to_lowercase()) {
            return Err(IntakeError::damaged(origin, format!("two of its files are called `{}`", file.to)));
        }
        if file.from.to_str().is_none() {
            return Err(IntakeError::NotAModel {
                path: origin.to_path_buf(),
                what: "its name is not UTF-8".to_owned(),
            });
        }
    }
    let bytes = files.iter().map(|file| file.bytes).fold(0, u64::saturating_add);
    Ok(Arrival {
        kind,
        name: names::cleaned(title),
        origin: origin.to_path_buf(),
        files,
        bytes,
        licence,
        notes,
        in_scratch,
        summary,
    })
}
