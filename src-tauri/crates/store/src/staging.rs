//! How a model gets into the library and out of it, so that nobody ever sees half of one.
//!
//! A model is put together in a folder whose name begins with a dot, which no list shows, and becomes one by one rename. A
//! model that is replaced changes places with the new one in one step where the system can. Removing begins with a rename,
//! too. What a killed program leaves is swept away by the next owner ([`Library::sweep`]).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use embedbar_contract::Card;
use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::record::{read_card, read_origin};
use crate::size::Tally;
use crate::{Library, StoreError};

const ARRIVING: &str = ".arriving-";
const LEAVING: &str = ".leaving-";

/// A folder in which a model is put together. Dropping it leaves the folder: what is in it may be wanted again.
#[derive(Debug)]
pub struct Staging {
    folder: PathBuf,
    target: PathBuf,
    quarantine: PathBuf,
}

impl Staging {
    /// The folder to fill.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Makes what is in the folder the model. One that was there under this name goes when the new one is in its place.
    pub fn install(self) -> Result<PathBuf, StoreError> {
        put(&self.folder, &self.target)?;
        // One that was set aside under this name is answered by the new one.
        remove_folder(&self.quarantine)?;
        Ok(self.target)
    }

    /// Sets what is in the folder aside: it is shown with its reason and never active.
    pub fn set_aside(self) -> Result<PathBuf, StoreError> {
        let parent = self.quarantine.parent().unwrap_or(Path::new("/"));
        fs::create_dir_all(parent).map_err(StoreError::io("make the folder", parent))?;
        put(&self.folder, &self.quarantine)?;
        Ok(self.quarantine)
    }

    /// Removes the folder.
    pub fn discard(self) -> Result<(), StoreError> {
        remove_folder(&self.folder)
    }
}

/// A model that was set aside.
#[derive(Clone, Debug, PartialEq)]
pub struct SetAside {
    /// The id that it would have.
    pub id: String,
    /// Its folder.
    pub folder: PathBuf,
    /// What its self-test found.
    pub card: Option<Card>,
}

impl SetAside {
    /// Why, in a sentence.
    pub fn reason(&self) -> String {
        let failed = self.card.as_ref().and_then(Card::first_failure);
        failed.unwrap_or_else(|| "its self-test was not finished".to_owned())
    }
}

/// What removing a model came to.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Removal {
    /// Bytes that the disk has back.
    pub freed_bytes: u64,
    /// Files that a link pointed to, which stay.
    pub kept: Vec<PathBuf>,
}

impl Library {
    /// An empty folder in which the model `id` can be put together. What an earlier attempt left in it is removed.
    pub fn stage(&self, id: &str) -> Result<Staging, StoreError> {
        check_id(id)?;
        let folder = self.installed.join(format!("{ARRIVING}{id}"));
        remove_folder(&folder)?;
        fs::create_dir_all(&folder).map_err(StoreError::io("make the folder", &folder))?;
        Ok(Staging { folder, target: self.installed.join(id), quarantine: self.quarantine.join(id) })
    }

    /// The models that were set aside, by id.
    pub fn set_aside(&self) -> Vec<SetAside> {
        let entries = fs::read_dir(&self.quarantine).into_iter().flatten().flatten();
        let mut found: Vec<SetAside> = entries
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            .filter_map(|entry| {
                let (id, folder) = (entry.file_name().into_string().ok()?, entry.path());
                let card = read_card(&folder);
                (!id.starts_with('.')).then_some(SetAside { id, folder, card })
            })
            .collect();
        found.sort_by(|one, other| one.id.cmp(&other.id));
        found
    }

    /// Takes a model out of the library to be tested again; [`Staging::install`] brings it back.
    pub fn unstage(&self, aside: &SetAside) -> Staging {
        let target = self.installed.join(&aside.id);
        Staging { folder: aside.folder.clone(), target, quarantine: self.quarantine.join(&aside.id) }
    }

    /// Sets an installed model aside.
    pub fn set_installed_aside(&self, id: &str) -> Result<PathBuf, StoreError> {
        check_id(id)?;
        let folder = self.installed.join(id);
        Staging { target: folder.clone(), folder, quarantine: self.quarantine.join(id) }.set_aside()
    }

    /// Removes an installed model, or one that was set aside. Links go, what they point to stays.
    pub fn remove(&self, id: &str) -> Result<Removal, StoreError> {
        check_id(id)?;
        let places = [self.installed.join(id), self.quarantine.join(id)];
        let place = places.iter().find(|path| fs::symlink_metadata(path).is_ok());
        let place = place.ok_or_else(|| StoreError::UnknownModel(id.to_owned()))?;
        let mut tally = Tally::default();
        let is_link = fs::symlink_metadata(place).is_ok_and(|found| found.is_symlink());
        if !is_link {
            tally.add(place);
        }
        let mut kept = linked(place);
        kept.sort();
        kept.dedup();
        let leaving = self.installed.join(format!("{LEAVING}{id}"));
        remove_folder(&leaving)?;
        fs::rename(place, &leaving).map_err(StoreError::io("remove", place))?;
        if is_link || leaving.is_file() {
            fs::remove_file(&leaving).map_err(StoreError::io("remove", &leaving))?;
        } else {
            remove_folder(&leaving)?;
        }
        Ok(Removal { freed_bytes: tally.own_bytes(), kept })
    }

    /// Removes what killed programs left. Only the owner of the home may, and only while nothing is being installed.
    pub fn sweep(&self) {
        let folders = [&self.installed, &self.quarantine];
        for entry in folders.into_iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten().flatten() {
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            if name.starts_with(ARRIVING) || name.starts_with(LEAVING) {
                // A folder that stays is swept the next time.
                let _ = remove_folder(&entry.path());
            }
        }
    }

    /// Installed models whose files lie elsewhere and are not there any more, with the first of them.
    pub fn missing(&self) -> Vec<(String, PathBuf)> {
        let known: Vec<String> = self.models().into_iter().map(|model| model.id).collect();
        let mut missing = Vec::new();
        for entry in fs::read_dir(&self.installed).into_iter().flatten().flatten() {
            let Ok(id) = entry.file_name().into_string() else { continue };
            if id.starts_with('.') || known.contains(&id) || read_origin(&entry.path()).is_none() {
                continue;
            }
            let lost = linked(&entry.path()).into_iter().find(|target| !target.exists());
            missing.push((id, lost.unwrap_or_else(|| entry.path())));
        }
        missing.sort();
        missing
    }
}

/// Whether a text can be the name of a model's folder.
pub fn is_model_id(id: &str) -> bool {
    let allowed = |it: char| it.is_alphanumeric() || matches!(it, '-' | '_' | '.' | '+' | ' ' | '(' | ')');
    (1..=120).contains(&id.len()) && !id.starts_with(['.', ' ', '-']) && !id.ends_with(' ') && id.chars().all(allowed)
}

fn check_id(id: &str) -> Result<(), StoreError> {
    if is_model_id(id) { Ok(()) } else { Err(StoreError::UnusableId(id.to_owned())) }
}

/// Puts a folder into its place; what is there goes afterwards.
fn put(folder: &Path, target: &Path) -> Result<(), StoreError> {
    let failed = || StoreError::io("put the model at", target);
    if fs::symlink_metadata(target).is_err() {
        fs::rename(folder, target).map_err(failed())?;
    } else if renameat_with(CWD, folder, CWD, target, RenameFlags::EXCHANGE).is_ok() {
        // The old one is where the new one was.
        remove_folder(folder)?;
    } else {
        // A file system that cannot: for a moment there is neither.
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        let leaving = target.with_file_name(format!("{LEAVING}{name}"));
        remove_folder(&leaving)?;
        fs::rename(target, &leaving).map_err(failed())?;
        if let Err(error) = fs::rename(folder, target) {
            // The old one is better than none.
            let _ = fs::rename(&leaving, target);
            return Err(failed()(error));
        }
        remove_folder(&leaving)?;
    }
    let parent = target.parent().unwrap_or(Path::new("/"));
    // That the rename outlives a power cut.
    fs::File::open(parent).and_then(|parent| parent.sync_all()).map_err(failed())
}

/// Removes a folder or a link; one that is not there is removed.
fn remove_folder(path: &Path) -> Result<(), StoreError> {
    let outcome = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match outcome {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StoreError::io("remove", path)(error)),
        _ => Ok(()),
    }
}

/// What the links in a folder point to, and those in its folders.
fn linked(path: &Path) -> Vec<PathBuf> {
    if let Ok(target) = fs::read_link(path) {
        return vec![path.parent().unwrap_or(Path::new("/")).join(target)];
    }
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    entries.flat_map(|entry| linked(&entry.path())).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::Home;

    fn home(folder: &Path) -> Library {
        Library::open(&Home::open(Some(folder.join("home"))).expect("it can be made"))
    }

    fn write(path: &Path, text: &str) {
        fs::create_dir_all(path.parent().expect("it has one")).expect("it can be made");
        fs::write(path, text).expect("it can be written");
    }

    fn ids(library: &Library) -> Vec<String> {
        library.models().into_iter().filter(|model| !model.bundled).map(|model| model.id).collect()
    }

    #[test]
    fn a_model_is_there_whole_or_not_at_all_and_a_new_one_takes_its_place() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let library = home(folder.path());
        let staging = library.stage("mine").expect("it is free");
        write(&staging.folder().join("mine.gguf"), "one");
        assert!(ids(&library).is_empty(), "half a model is none");
        let place = staging.install().expect("it can be installed");
        assert_eq!(ids(&library), ["mine"]);
        let staging = library.stage("mine").expect("it is free");
        write(&staging.folder().join("mine.gguf"), "two");
        write(&staging.folder().join("tokenizer.json"), "{}");
        assert_eq!(fs::read_to_string(place.join("mine.gguf")).expect("it is there"), "one");
        staging.install().expect("it can be installed");
        assert_eq!(fs::read_to_string(place.join("mine.gguf")).expect("it is there"), "two");
        assert_eq!(fs::read_dir(place.parent().expect("it has one")).expect("it is there").count(), 1);
    }

    #[test]
    fn what_is_set_aside_is_no_model_until_it_comes_back() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let library = home(folder.path());
        let staging = library.stage("bad").expect("it is free");
        write(&staging.folder().join("bad.gguf"), "x");
        staging.set_aside().expect("it can be set aside");
        assert!(ids(&library).is_empty());
        let aside = library.set_aside();
        assert_eq!((aside.len(), aside[0].id.as_str()), (1, "bad"));
        library.unstage(&aside[0]).install().expect("it comes back");
        assert_eq!((ids(&library), library.set_aside()), (vec!["bad".to_owned()], Vec::new()));
        library.set_installed_aside("bad").expect("it can be set aside");
        assert!(ids(&library).is_empty() && library.set_aside().len() == 1);
        assert!(library.remove("bad").expect("it can be removed").freed_bytes > 0);
        assert!(library.set_aside().is_empty());
    }

    #[test]
    fn removing_gives_back_what_is_ours_and_follows_no_link() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let library = home(folder.path());
        let cache = folder.path().join("cache");
        write(&cache.join("blob"), "12345");
        let staging = library.stage("linked").expect("it is free");
        symlink(cache.join("blob"), staging.folder().join("model.safetensors")).expect("it can be made");
        symlink(&cache, staging.folder().join("1_Pooling")).expect("it can be made");
        write(&staging.folder().join("config.json"), "{}");
        staging.install().expect("it can be installed");
        let removal = library.remove("linked").expect("it can be removed");
        assert_eq!(removal, Removal { freed_bytes: 2, kept: vec![cache.clone(), cache.join("blob")] });
        assert!(cache.join("blob").exists());
        // The whole folder may be a link, too.
        let models = folder.path().join("home/models");
        write(&cache.join("config.json"), "{}");
        symlink(&cache, models.join("theirs")).expect("it can be made");
        assert_eq!(ids(&library), ["theirs"]);
        let removal = library.remove("theirs").expect("it can be removed");
        assert_eq!((removal.freed_bytes, removal.kept), (0, vec![cache.clone()]));
        assert!(cache.join("blob").exists() && ids(&library).is_empty());
        for id in ["theirs", "../cache", "", ".", "..", "a/b", ".arriving-x", "a\0b"] {
            assert!(library.remove(id).is_err(), "{id:?}");
        }
        assert!(cache.join("blob").exists());
    }

    #[test]
    fn the_sweep_takes_what_a_killed_program_left_and_nothing_else() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let library = home(folder.path());
        write(&library.stage("half").expect("it is free").folder().join("x"), "1");
        let models = folder.path().join("home/models");
        write(&models.join(".leaving-old/x"), "1");
        write(&models.join("whole/config.json"), "{}");
        library.sweep();
        let left: Vec<_> = fs::read_dir(&models).expect("it is there").flatten().map(|it| it.file_name()).collect();
        assert_eq!(left, ["whole"]);
    }
}
