//! What a person names, drops or pastes, as something that can be installed: a path on this machine, or files of the hub.
//!
//! Names are decided here and nothing is opened: what files are, the installer says in its own process.

use std::path::{Path, PathBuf};

use embedbar_catalog::{Catalogue, Entry};
use embedbar_contract::{
    ConvertPrecision, DownloadOffer, Failure, FailureCode, InstallOffer, LadderOffer, ModelKind, Precision,
};
use embedbar_hub::choice::{Choice, Kind, candidates, choose};
use embedbar_hub::{HubClient, Quote, Reference, Snapshot, Target};
use embedbar_settings::Written;
use embedbar_store::{Library, is_model_id};

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
        let text = text.strip_prefix("file://").unwrap_or(text);
        if text.is_empty() {
            return Err(Failure::new(FailureCode::InvalidRequest, "nothing is named")
                .hint("Give a path, a link to the hub, or a repository such as `Qwen/Qwen3-Embedding-0.6B`."));
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
        let licence = if offline { None } else { client.describe(repository, named).await.map_err(told)?.licence };
        let snapshot = client.snapshot(repository, named, &candidates()).await.map_err(told)?;
        let choice = choose(&snapshot.files, reference.wish.as_deref()).map_err(|error| {
            Failure::new(FailureCode::ModelUnsupported, format!("`{repository}`: {error}"))
                .hint("Name a file behind the repository, such as `owner/name:Q8_0`, or look for a copy in safetensors or GGUF.")
        })?;
        let snapshot = snapshot.only(&choice.files);
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
            licence: self.licence.clone().or_else(|| self.known.map(|entry| entry.licence.clone())),
            known: self.known.map(|entry| entry.id.clone()),
        }
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
    fn a_name_that_could_be_the_bundled_models_is_refused() {
        assert!(checked_name(embedbar_store::BUNDLED_ID).is_err() && checked_name("../x").is_err());
        assert_eq!(checked_name("mine"), Ok("mine".to_owned()));
    }
}
