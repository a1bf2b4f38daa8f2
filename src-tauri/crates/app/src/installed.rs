//! What the installed models are to the planner, and which of them a candidate of the planner is.
//!
//! A model's place in the catalogue follows from its name, how good it is from the certificate beside it. Nothing is loaded.

use std::collections::BTreeMap;
use std::path::Path;

use embedbar_catalog::Catalogue;
use embedbar_contract::{BackendName, Generation, Precision};
use embedbar_convert::certificate::{Certificate, Verdict};
use embedbar_planner::{Artefact, Backend, Candidate, Form, Standing, Unit};
use embedbar_store::{Library, Model};

/// An installed model that the catalogue knows.
#[derive(Clone, Debug, PartialEq)]
pub struct Installed {
    /// Where it is.
    pub model: Model,
    /// What the planner knows of it.
    pub artefact: Artefact,
}

/// The installed models that the catalogue knows. Reads their certificates.
pub fn installed(library: &Library) -> Vec<Installed> {
    let models = library.models().into_iter();
    models.filter_map(|model| artefact(&model).map(|artefact| Installed { model, artefact })).collect()
}

/// The installed model that a candidate would load: one that passed before one that did not.
pub(crate) fn model_of<'a>(installed: &'a [Installed], candidate: &Candidate) -> Option<&'a Model> {
    let usable = installed.iter().filter(|Installed { artefact, .. }| {
        artefact.model == candidate.model
            && artefact.precision == candidate.precision
            && artefact.runs_on(candidate.backend)
    });
    usable.min_by_key(|installed| installed.artefact.standing == Standing::NotCompared).map(|found| &found.model)
}

/// What the planner calls a model that answers; `None` for a server on the network.
pub(crate) fn candidate_of(generation: &Generation, backend: BackendName) -> Option<Candidate> {
    let known = Catalogue::builtin().installed(&generation.model);
    Some(Candidate {
        backend: match backend {
            // It is a place of its own.
            BackendName::Remote => return None,
            BackendName::CandleCpu | BackendName::Cpu => Backend::Cpu,
            BackendName::CandleMetal => Backend::Metal,
            BackendName::CoreMl => Backend::CoreMl(Unit::NeuralEngine),
            BackendName::CoreMlInterpreted => Backend::CoreMlInterpreted,
        },
        model: known.map_or_else(|| generation.model.clone(), |(entry, _)| entry.id.clone()),
        precision: generation.precision,
    })
}

/// The precision of an installed model, where it is the catalogue's.
pub(crate) fn precision_of(model: &Model) -> Option<Precision> {
    artefact(model).map(|artefact| artefact.precision)
}

fn artefact(model: &Model) -> Option<Artefact> {
    let (entry, named) = Catalogue::builtin().installed(&model.id)?;
    let form = form(&model.path);
    let precision = match (named, model.bundled, &form) {
        (Some(precision), ..) => precision,
        // The model that comes with the program.
        (None, true, _) => Precision::Int8,
        (None, false, Form::Checkpoint) => Precision::Fp16,
        (None, false, _) => return None,
    };
    let standing = match Certificate::beside(&model.path) {
        Ok(Some(certificate)) if certificate.is_of(&model.path) && certificate.verdict == Verdict::Passed => {
            Standing::Compared { mean_cosine: certificate.agreement.mean_cosine, floor: certificate.floor }
        }
        _ if model.bundled || form == Form::Checkpoint => Standing::Original,
        _ => Standing::NotCompared,
    };
    Some(Artefact { model: entry.id.clone(), precision, form, standing })
}

fn form(path: &Path) -> Form {
    match path.extension().and_then(|suffix| suffix.to_str()) {
        Some("gguf") => Form::Gguf,
        Some("mlpackage") => {
            let weights = path.join("Data/com.apple.CoreML/weights/weight.bin");
            let largest_file_bytes = weights.metadata().map_or(0, |found| found.len());
            Form::Package { specialised: false, largest_file_bytes, repeated: BTreeMap::new() }
        }
        _ => Form::Checkpoint,
    }
}

#[cfg(test)]
mod tests {
    use embedbar_store::BUNDLED_ID;

    use super::*;

    #[test]
    fn the_bundled_model_is_an_int8_file_and_a_strangers_is_nothing() {
        let model = Model { id: BUNDLED_ID.to_owned(), path: "/models/x.gguf".into(), bundled: true };
        let found = artefact(&model).expect("the catalogue knows it");
        assert_eq!((found.precision, found.form, found.standing), (Precision::Int8, Form::Gguf, Standing::Original));
        let stranger = Model { id: "mine".to_owned(), path: "/models/x.gguf".into(), bundled: false };
        assert!(artefact(&stranger).is_none());
    }

    #[test]
    fn what_answers_is_called_as_the_planner_calls_it() {
        let generation = |model: &str| Generation {
            model: model.to_owned(),
            revision: "0".to_owned(),
            precision: Precision::FourBit,
            recipe: embedbar_contract::RecipeName::Native,
        };
        let known =
            candidate_of(&generation("Qwen3-Embedding-4B-4bit-macos15"), BackendName::Cpu).expect("it is local");
        assert_eq!((known.model.as_str(), known.backend), ("Qwen3-Embedding-4B", Backend::Cpu));
        assert_eq!(
            candidate_of(&generation("mine"), BackendName::CandleMetal).map(|it| it.model).as_deref(),
            Some("mine")
        );
        assert_eq!(candidate_of(&generation("remote:example.org/m"), BackendName::Remote), None);
    }
}
