//! What models there are, as a list shows them: found by id or path, and only what is asked for is measured.
//!
//! What is not here: what can be done with them ([`crate::shelf`]), and what is on the disk (`embedbar-store`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use embedbar_contract::{Card, Failure, ModelHealth, ModelInfo, ModelKind};
use embedbar_store::{Found, Home, Library, Model, Tally, read_card, read_origin};

use crate::installed::precision_of;

/// What there is, and what the owner knows of it besides.
pub(crate) struct Inventory {
    pub(crate) library: Library,
    pub(crate) home: Home,
    /// The active model, which may lie outside of the library.
    pub(crate) chosen: Model,
    /// When each model answered last, in seconds since 1970, by its id.
    pub(crate) used: BTreeMap<String, u64>,
}

impl Inventory {
    /// Everything with an id, the active model included.
    pub(crate) fn all(&self) -> Vec<Found> {
        let mut all: Vec<Found> = self.library.all().collect();
        let chosen = Found::Model(self.chosen.clone());
        if !all.contains(&chosen) {
            let behind = all.partition_point(|found| matches!(found, Found::Model(_)));
            all.insert(behind, chosen);
        }
        all
    }

    /// The one of this id or at this path; its size and its card are not looked at.
    pub(crate) fn find(&self, name: &str) -> Result<Found, Failure> {
        let is_it = |found: &Found| found.id() == name || found.path().to_str() == Some(name);
        match self.all().into_iter().find(is_it) {
            Some(found) => Ok(found),
            // Its error says which there are.
            None => Ok(Found::Model(self.library.find(name)?)),
        }
    }

    /// The folder with its records.
    pub(crate) fn folder(&self, found: &Found) -> PathBuf {
        match found {
            Found::Model(model) => folder_of(&self.library, model, self.home.root()),
            Found::Aside(_) | Found::Missing { .. } => found.path().to_owned(),
        }
    }

    /// What a list says of it, and what it takes on the disk.
    pub(crate) fn look(&self, found: &Found) -> (ModelInfo, Tally) {
        let mut own = Tally::default();
        let path = found.path().display().to_string();
        let info = match found {
            Found::Model(model) => {
                let folder = self.folder(found);
                own.add(&model.path);
                if !model.bundled && folder.starts_with(self.home.models()) {
                    own.add(&folder);
                }
                let card = read_card(&folder);
                let is_own = folder.starts_with(self.home.root()) && !model.bundled;
                ModelInfo {
                    active: *model == self.chosen,
                    bundled: model.bundled,
                    size_bytes: own.bytes(),
                    own_bytes: if is_own { own.own_bytes() } else { 0 },
                    kind: Some(kind_of(&folder, model)),
                    precision: precision_of(model)
                        .or_else(|| card.as_ref()?.generation.as_ref().map(|generation| generation.precision)),
                    health: card.as_ref().map_or(ModelHealth::Untested, health),
                    last_used_at: self.used.get(&model.id).copied(),
                    id: model.id.clone(),
                    path,
                }
            }
            Found::Aside(aside) => {
                own.add(&aside.folder);
                ModelInfo {
                    size_bytes: own.bytes(),
                    own_bytes: own.own_bytes(),
                    kind: read_origin(&aside.folder).map(|origin| origin.kind),
                    health: ModelHealth::Quarantined { reason: aside.reason() },
                    id: aside.id.clone(),
                    path,
                    ..ModelInfo::default()
                }
            }
            Found::Missing { id, lost, .. } => {
                let reason = format!("`{}` is not there", lost.display());
                ModelInfo { id: id.clone(), path, health: ModelHealth::Missing { reason }, ..ModelInfo::default() }
            }
        };
        (info, own)
    }
}

/// The folder of a model with its records: below the library, for the bundled one a folder of the home's own, else beside it.
pub(crate) fn folder_of(library: &Library, model: &Model, home: &Path) -> PathBuf {
    if model.bundled {
        return home.join("bundled");
    }
    let installed = library.folder(&model.id);
    if model.path.starts_with(&installed) {
        installed
    } else {
        model.path.parent().map_or_else(PathBuf::new, Path::to_owned)
    }
}

fn health(card: &Card) -> ModelHealth {
    if card.passed {
        return ModelHealth::Passed;
    }
    ModelHealth::Quarantined { reason: card.first_failure().unwrap_or_default() }
}

pub(crate) fn kind_of(folder: &Path, model: &Model) -> ModelKind {
    let by_name = || match model.path.extension().and_then(|suffix| suffix.to_str()) {
        Some("gguf") => ModelKind::Gguf,
        Some("mlpackage") => ModelKind::CoreMlPackage,
        _ => ModelKind::Checkpoint,
    };
    read_origin(folder).map_or_else(by_name, |origin| origin.kind)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use embedbar_contract::{FailureCode, ModelOrigin, Placing};
    use embedbar_store::write_origin;

    use super::*;

    fn origin(placed: Placing) -> ModelOrigin {
        ModelOrigin {
            source: "owner/name".into(),
            commit: None,
            licence: None,
            kind: ModelKind::Gguf,
            placed,
            installed_at: 0,
            files: Vec::new(),
        }
    }

    #[test]
    fn one_is_found_as_the_list_has_it_by_its_id_and_by_its_path() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let home = Home::open(Some(folder.path().join("home"))).expect("it can be made");
        let library = Library::open(&home);
        let (installed, aside, linked) =
            (library.folder("installed"), home.quarantine().join("aside"), library.folder("linked"));
        for (folder, placed) in [(&installed, Placing::Copied), (&aside, Placing::Copied), (&linked, Placing::Linked)] {
            fs::create_dir_all(folder).expect("it can be made");
            write_origin(folder, &origin(placed)).expect("it can be written");
        }
        for folder in [&installed, &aside] {
            fs::write(folder.join("x.gguf"), "12345").expect("it can be written");
        }
        symlink(folder.path().join("gone.gguf"), linked.join("x.gguf")).expect("it can be made");
        let outside = folder.path().join("outside.gguf");
        fs::write(&outside, "1234567").expect("it can be written");
        let chosen = Model { id: "outside".into(), path: outside, bundled: false };
        let used = BTreeMap::from([("installed".to_owned(), 7)]);
        let inventory = Inventory { library, home, chosen, used };

        let all = inventory.all();
        // The model that comes with the program is not in every checkout of a test.
        let ids: Vec<&str> = all.iter().map(Found::id).filter(|id| *id != embedbar_store::BUNDLED_ID).collect();
        assert_eq!(ids, ["installed", "outside", "aside", "linked"]);
        for found in &all {
            for name in [found.id(), found.path().to_str().expect("UTF-8")] {
                assert_eq!(inventory.find(name).expect("it is listed"), *found);
            }
        }
        let look = |name: &str| inventory.look(&inventory.find(name).expect("it is listed")).0;
        let installed = look("installed");
        assert_eq!((installed.kind, installed.last_used_at), (Some(ModelKind::Gguf), Some(7)));
        assert!(installed.own_bytes > 5 && !installed.active, "its record counts too");
        let outside = look("outside");
        assert_eq!((outside.active, outside.size_bytes, outside.own_bytes), (true, 7, 0));
        assert!(matches!(look("aside").health, ModelHealth::Quarantined { .. }));
        assert!(matches!(look("linked").health, ModelHealth::Missing { .. }));
        assert_eq!(inventory.find("none").expect_err("there is none").code, FailureCode::NotFound);
    }
}
