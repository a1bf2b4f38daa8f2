//! What a person names, drops or pastes, as something that can be installed: a path on this machine, or files of the hub.
//!
//! Names are decided here and nothing is opened: what files are, the installer says in its own process.

use std::path::{Path, PathBuf};

use embedbar_catalog::{Catalogue, Entry, PinnedFile};
use embedbar_contract::{
    ConvertPrecision, DownloadOffer, Failure, FailureCode, InstallOffer, LadderOffer, ModelKind, Precision,
};
use embedbar_hub::choice::{Choice, Kind, candidates, choose};
use embedbar_hub::{HubClient, Quote, Reference, Snapshot, Target};
use embedbar_settings::Written;
use embedbar_store::{Library, is_model_id};
use url::Url;

use crate::hub::{Hub, settings, told};

/// Something that can be installed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Source {
    /// On this machine.
    Path(PathBuf),
    /// On the hub.
    Hub(Reference),
}

impl Source {
    /// Reads what a person gave; `written` says where the hub is.
    pub(crate) fn of(text: &str, written: &Written) -> Result<Self, Failure> {
        let text = text.trim();
        if text.is_empty() {
            return Err(Failure::new(FailureCode::InvalidRequest, "nothing is named")
                .hint("Give a path, a link to the hub, or a repository such as `Qwen/Qwen3-Embedding-0.6B`."));
        }
        let scheme = text.split_at_checked("file:".len()).map(|(scheme, _)| scheme);
        if scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case("file:")) {
            return Ok(Self::Path(crate::commands::existing(&path_of(text)?)?));
        }
        if text.starts_with('/') {
            return Ok(Self::Path(crate::commands::existing(text)?));
        }
        // A model of the catalogue by one of its names; what is behind a colon or an @ is for the repository.
        let (name, rest) = text.find([':', '@']).map_or((text, ""), |at| text.split_at(at));
        let known = Catalogue::builtin().find(name).filter(|_| !text.contains("://"));
        let reference = known.map_or_else(|| text.to_owned(), |entry| format!("{}{rest}", entry.repo));
        let endpoint = settings(written)?.endpoint;
        Ok(Self::Hub(Reference::parse(&reference, &endpoint).map_err(told)?))
    }
}

/// The path in a `file://` link of this machine, its escapes undone.
fn path_of(link: &str) -> Result<String, Failure> {
    let path = Url::parse(link).ok().and_then(|link| link.to_file_path().ok());
    path.and_then(|path| path.into_os_string().into_string().ok()).ok_or_else(|| {
        Failure::new(FailureCode::InvalidRequest, format!("`{link}` is no link to a file of this machine"))
            .hint("Give the path itself, beginning with `/`.")
    })
}

/// The files of the hub that make one model, and what fetching them costs.
#[derive(Clone, Debug)]
pub(crate) struct Download {
    pub(crate) snapshot: Snapshot,
    pub(crate) choice: Choice,
    pub(crate) target: Target,
    pub(crate) quote: Quote,
    pub(crate) licence: Option<String>,
    /// The id that the model gets.
    pub(crate) name: String,
    pub(crate) known: Option<&'static Entry>,
}

impl Download {
    /// Asks the hub for its list. `commit` is what a person has seen.
    pub(crate) async fn look(
        client: &HubClient,
        hub: &Hub,
        written: &Written,
        reference: &Reference,
        commit: Option<&str>,
    ) -> Result<Self, Failure> {
        let repository = &reference.repository;
        let offline = client.settings().offline;
        let named = commit.unwrap_or_else(|| reference.revision());
        // Offline, the cache knows no licences.
        let (snapshot, licence) = if offline {
            (client.snapshot(repository, named, &candidates()).await, None)
        } else {
            let described = client.describe(repository, named).await.map_err(told)?;
            (client.listing(repository, named, described.commit, &candidates()).await, described.licence)
        };
        let snapshot = snapshot.map_err(told)?;
        let choice = choose(&snapshot.files, reference.wish.as_deref()).map_err(|error| {
            Failure::new(FailureCode::ModelUnsupported, format!("`{repository}`: {error}"))
                .hint("Name a file behind the repository, such as `owner/name:Q8_0`, or look for a copy in safetensors or GGUF.")
        })?;
        let snapshot = snapshot.only(&choice.files);
        hub.first_use().check(&snapshot)?;
        let target = hub.target(client, written, repository, &snapshot.commit);
        let quote = client.quote(&snapshot, &target).map_err(told)?;
        let raw = match choice.kind {
            Kind::Gguf => stem(choice.files[0].as_str()),
            Kind::Package if choice.folder.ends_with(".mlpackage") => stem(&choice.folder),
            Kind::Checkpoint | Kind::Package => repository.as_str().rsplit('/').next().unwrap_or_default(),
        };
        let (name, known) = catalogue_name(raw, None);
        Ok(Self { snapshot, choice, target, quote, licence, name, known })
    }

    pub(crate) fn offer(&self, client: &HubClient) -> DownloadOffer {
        DownloadOffer {
            hub: client.settings().endpoint.as_str().trim_end_matches('/').to_owned(),
            repository: self.snapshot.repository.to_string(),
            commit: self.snapshot.commit.clone(),
            files: self.snapshot.files.len() as u64,
            total_bytes: self.quote.total,
            fetch_bytes: self.quote.to_fetch,
            folder: self.target.folder().display().to_string(),
            licence: self.licence.clone().or_else(|| Some(self.known.filter(|_| self.is_theirs())?.licence.clone())),
            kind: self.kind(),
            known: self.known.map(|entry| entry.id.clone()),
            architecture: self.known.map(|entry| entry.architecture.family().to_owned()),
            dims: self.known.map(|entry| entry.recipe.dims),
            max_tokens: self.known.map(|entry| entry.recipe.max_tokens),
            needs_bytes: self.known.map(|entry| entry.running_bytes(self.quote.total)),
            notes: self.notes(),
        }
    }

    /// Whether the catalogue names the repository, and not only a model of its name.
    fn is_theirs(&self) -> bool {
        let repository = self.snapshot.repository.as_str();
        self.known.is_some_and(|entry| {
            entry.repo == repository || entry.variants.iter().any(|variant| variant.repo == repository)
        })
    }

    fn notes(&self) -> Vec<String> {
        let Some(entry) = self.known else { return Vec::new() };
        let mut notes = unlike_pinned(entry, &self.snapshot);
        if !self.is_theirs() {
            let (id, repo) = (&entry.id, &entry.repo);
            notes.push(format!(
                "what is said of it here is what the catalogue says of `{id}` by `{repo}`: by its name it is a copy"
            ));
        }
        notes
    }

    /// What kind of files it is.
    pub(crate) fn kind(&self) -> ModelKind {
        match self.choice.kind {
            Kind::Checkpoint => ModelKind::Checkpoint,
            Kind::Gguf => ModelKind::Gguf,
            Kind::Package => ModelKind::CoreMlPackage,
        }
    }
}

/// Files whose content the catalogue knows for certain, and which are something else here, a sentence each. Authors may have
/// published anew; a person should know.
fn unlike_pinned(entry: &Entry, snapshot: &Snapshot) -> Vec<String> {
    if entry.repo != snapshot.repository.as_str() {
        return Vec::new();
    }
    let unlike = |file: &&embedbar_hub::Entry| {
        let same_path = |pinned: &&PinnedFile| pinned.path == file.path.as_str();
        // What git itself keeps has a digest of another kind, and a size.
        entry.files.iter().find(same_path).is_some_and(|pinned| {
            let digest = file.digest.to_string();
            pinned.bytes != file.size || digest.len() == pinned.sha256.len() && digest != pinned.sha256
        })
    };
    let note =
        |file: &embedbar_hub::Entry| format!("`{}` is another file than the one that the catalogue knows", file.path);
    snapshot.files.iter().filter(unlike).map(note).collect()
}

/// The parts of an offer that the library knows.
pub(crate) fn offer(
    library: &Library,
    source: String,
    name: String,
    kind: ModelKind,
    known: Option<&str>,
) -> InstallOffer {
    let installed: Vec<String> = library.models().into_iter().map(|model| model.id).collect();
    let is_there = |id: &str| installed.iter().any(|other| other == id);
    let entry = known.and_then(|known| Catalogue::builtin().find(known));
    let can_be_made = matches!(kind, ModelKind::Checkpoint | ModelKind::MlxCheckpoint);
    let steps = [ConvertPrecision::Int8, ConvertPrecision::FourBit];
    let ladder = steps.into_iter().filter(|_| can_be_made).map(|precision| LadderOffer {
        precision,
        bytes: entry
            .map(|entry| entry.architecture.weights_bytes(embedbar_catalog::Storage::Gguf, Precision::from(precision))),
        installed: is_there(&format!("{name}-{}", Precision::from(precision).word())),
    });
    InstallOffer {
        ladder: ladder.collect(),
        replaces: is_there(&name),
        source,
        name,
        inspection: None,
        download: None,
        disk_available_bytes: None,
    }
}

/// The id that a person has chosen, if it can be one.
pub(crate) fn checked_name(name: &str) -> Result<String, Failure> {
    if is_model_id(name) && name != embedbar_store::BUNDLED_ID {
        return Ok(name.to_owned());
    }
    let why = if name == embedbar_store::BUNDLED_ID {
        "is the model that comes with Embedbar"
    } else {
        "cannot be a model's name"
    };
    Err(Failure::new(FailureCode::InvalidRequest, format!("`{name}` {why}"))
        .hint("Give it another name: letters, digits, dots, dashes and underscores."))
}

/// The id for a model whose files go by `raw`, and the catalogue's model of that name. A variant gets the id that our own
/// conversions would have, so that the planner knows it: `Qwen3-Embedding-0.6B-Q8_0` is `Qwen3-Embedding-0.6B-int8`.
pub fn catalogue_name(raw: &str, stored_as: Option<&str>) -> (String, Option<&'static Entry>) {
    let catalogue = Catalogue::builtin();
    let unlike_the_bundled = |entry: &Entry, suffix: &str| {
        let id = format!("{}{suffix}", entry.id);
        if id == embedbar_store::BUNDLED_ID { format!("{id}-fp32") } else { id }
    };
    let mut rest = raw;
    let mut named = None;
    loop {
        if let Some(entry) = catalogue.find(rest) {
            let suffix = named.or_else(|| stored_as.and_then(precision_suffix)).unwrap_or("");
            return (unlike_the_bundled(entry, suffix), Some(entry));
        }
        let Some(at) = rest.rfind(['-', '.']) else { break };
        let word = &rest[at + 1..];
        match precision_suffix(word) {
            Some(suffix) => named = named.or(Some(suffix)),
            // Words that people put behind a model's name and that say nothing of its numbers.
            None if ["gguf", "mlx", "dwq", "i1", "gptq"].contains(&word.to_lowercase().as_str()) => {}
            None => break,
        }
        rest = &rest[..at];
    }
    (raw.trim_start_matches(['.', ' ', '-']).to_owned(), None)
}

/// What our own conversions put behind a model's name for files that are stored like this.
fn precision_suffix(word: &str) -> Option<&'static str> {
    let word = word.to_lowercase();
    let begins = |heads: &[&str]| heads.iter().any(|head| word.starts_with(head));
    if begins(&["q8", "int8", "8bit", "mlx 8-bit", "q6"]) {
        Some("-int8")
    } else if begins(&["q4", "q5", "iq4", "4bit", "int4", "mlx 4-bit"]) {
        Some("-4bit")
    } else if ["f16", "fp16", "bf16"].contains(&word.as_str()) {
        Some("-fp16")
    } else {
        None
    }
}

fn stem(path: &str) -> &str {
    Path::new(path).file_stem().and_then(|stem| stem.to_str()).unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variants_get_the_names_that_the_planner_knows() {
        for (raw, stored, expected, known) in [
            ("Qwen3-Embedding-0.6B", None, "Qwen3-Embedding-0.6B", true),
            ("Qwen3-Embedding-0.6B-Q8_0", None, "Qwen3-Embedding-0.6B-int8", true),
            ("Qwen3-Embedding-4B-Q4_K_M", None, "Qwen3-Embedding-4B-4bit", true),
            ("Qwen3-Embedding-0.6B-4bit-DWQ", None, "Qwen3-Embedding-0.6B-4bit", true),
            ("qwen3-embedding-0.6b-f16", None, "Qwen3-Embedding-0.6B-fp16", true),
            ("bge-small-en-v1.5", Some("MLX 4-bit, groups of 64"), "bge-small-en-v1.5-4bit", true),
            ("my-model-Q8_0", None, "my-model-Q8_0", false),
            ("all-MiniLM-L6-v2", None, "all-MiniLM-L6-v2-fp32", true),
            (".hidden", None, "hidden", false),
        ] {
            let (name, entry) = catalogue_name(raw, stored);
            assert_eq!((name.as_str(), entry.is_some()), (expected, known), "{raw}");
        }
    }

    #[test]
    fn a_link_to_a_file_is_its_path() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().canonicalize().expect("it is there").join("a b%20.gguf");
        std::fs::write(&file, "").expect("it can be written");
        let plain = format!("file://{}", file.display());
        let link = plain.replace('%', "%25").replace(' ', "%20");
        for text in [&link, &link.replace("file://", "FILE://localhost"), file.to_str().expect("UTF-8")] {
            assert_eq!(Source::of(text, &Written::default()), Ok(Source::Path(file.clone())), "{text}");
        }
        for text in [&*plain, "file://server/share/x.gguf", "file:///nothing/there"] {
            assert!(Source::of(text, &Written::default()).is_err(), "{text}");
        }
    }

    #[test]
    fn files_that_the_catalogue_knows_otherwise_are_told() {
        let entry = Catalogue::builtin().find("all-MiniLM-L6-v2").expect("it is in the catalogue");
        let repository = entry.repo.parse().expect("an id");
        let notes = |sha256: &str, config: u64| {
            let git = "0a".repeat(20);
            let listed = format!(
                r#"{{"format_version":1,"files":{{"config.json":{{"size":{config},"blob_id":"{git}"}},
                    "model.safetensors":{{"size":134,"blob_id":"{git}","lfs_sha256":"{sha256}","lfs_size":90868376}}}}}}"#
            );
            let listed = embedbar_hub::parsers::listing(listed.as_bytes(), &repository, &"1".repeat(40));
            unlike_pinned(entry, &listed.expect("a listing").expect("a good one"))
        };
        let pinned = &entry.files.iter().find(|file| file.path == "model.safetensors").expect("it is pinned").sha256;
        assert_eq!(notes(pinned, 612), Vec::<String>::new());
        let (weights, config) = (notes(&"ab".repeat(32), 612), notes(pinned, 613));
        assert!(weights.len() == 1 && weights[0].contains("`model.safetensors`"), "{weights:?}");
        assert!(config.len() == 1 && config[0].contains("`config.json`"), "{config:?}");
    }

    #[test]
    fn a_name_that_could_be_the_bundled_models_is_refused() {
        assert!(checked_name(embedbar_store::BUNDLED_ID).is_err() && checked_name("../x").is_err());
        assert_eq!(checked_name("mine"), Ok("mine".to_owned()));
    }
}
