//! `embedbar inspect`: what something is before it is installed, without running it.
//!
//! The owner's installer looks at the files in a process of its own; of a package the judge of packages tells more.

use std::path::Path;

use embedbar_app::Access;
use embedbar_certify::Certificate;
use embedbar_contract::{Commands as _, Failure, FailureCode, InspectRequest, Inspection, InstallOffer, Remote};
use embedbar_mil::{Lengths, Package};
use serde_json::{Value, json};

use crate::ask::text;
use crate::convert::certified;
use crate::output;

pub(crate) async fn run(application: &Remote<Access>, source: &str, as_json: bool) -> anyhow::Result<()> {
    let offer = application.inspect(InspectRequest { source: absolute(source)? }).await?;
    let Some(inspection) = &offer.inspection else {
        if as_json {
            return output::json(&offer);
        }
        shown(&offer);
        return Ok(());
    };
    let path = Path::new(&offer.source);
    let mut told = serde_json::to_value(inspection)?;
    told["path"] = json!(path);
    if path.join("Manifest.json").is_file() {
        let Value::Object(more) = package(path)? else {
            return Err(Failure::internal("a package is no object").into());
        };
        told.as_object_mut().into_iter().for_each(|told| told.extend(more.clone()));
    }
    told["certificate"] = match Certificate::beside(path).map_err(Failure::from)? {
        Some(certificate) if certificate.is_of(path) => certified(&certificate)?,
        _ => Value::Null,
    };
    if as_json {
        return output::json(&told);
    }
    for line in described(inspection) {
        output::line(&line);
    }
    for key in ["tokens", "not_embedding", "findings", "certificate"] {
        if let Some(value) = told.get(key).filter(|value| !value.is_null()) {
            let shown = match value {
                Value::String(text) => text.clone(),
                other => serde_json::to_string_pretty(other)?.replace('\n', "\n             "),
            };
            output::line(&format!("{key:<12} {shown}"));
        }
    }
    Ok(())
}

/// A path is the caller's, not the owner's; what is no path is the hub's.
pub(crate) fn absolute(source: &str) -> anyhow::Result<String> {
    let path = Path::new(source);
    let is_path = path.exists() || source.starts_with(['.', '/', '~']);
    if is_path { text(&std::path::absolute(path)?) } else { Ok(source.to_owned()) }
}

fn shown(offer: &InstallOffer) {
    for line in crate::library::offered(offer) {
        output::line(&line);
    }
}

/// An inspection, a line for each thing that is known.
pub(crate) fn described(inspection: &Inspection) -> Vec<String> {
    let number = |value: Option<u64>| value.map(|value| value.to_string());
    let kind = serde_json::to_value(inspection.kind).ok().and_then(|kind| kind.as_str().map(|it| it.replace('_', " ")));
    let known = [
        ("kind", kind),
        ("name", Some(inspection.name.clone())),
        ("catalogue", inspection.known.clone()),
        ("architecture", inspection.architecture.clone()),
        ("dimensions", number(inspection.dims)),
        ("tokens", number(inspection.max_tokens)),
        ("parameters", number(inspection.parameters)),
        ("stored as", inspection.stored_as.clone()),
        ("size", Some(output::bytes(Some(inspection.bytes)))),
        ("needs", Some(output::needed(inspection.needs_bytes, inspection.bytes))),
        ("licence", inspection.licence.clone()),
    ];
    let lines = known.into_iter().filter_map(|(key, value)| Some(format!("{key:<12} {}", value?)));
    lines.chain(inspection.notes.iter().map(|note| format!("note         {note}"))).collect()
}

fn package(path: &Path) -> anyhow::Result<Value> {
    let package = Package::open(path).map_err(|error| invalid(error.to_string()))?;
    let description = package.describe();
    let interface = package.embedding_interface(None);
    let tokens = interface.as_ref().ok().map(|interface| match &interface.lengths {
        Lengths::Fixed(length) => length.to_string(),
        Lengths::Enumerated(lengths) => format!("one of {lengths:?}"),
        Lengths::Range(least, None) => format!("{least} or more"),
        Lengths::Range(least, Some(most)) => format!("{least} to {most}"),
    });
    Ok(json!({
        "precision": description.precision_class,
        "dims": interface.as_ref().ok().map(|interface| interface.dimensions),
        "tokens": tokens,
        "embedding": interface.as_ref().ok(),
        "not_embedding": interface.as_ref().err().map(ToString::to_string),
        "findings": package.lint(),
        "package": description,
    }))
}

fn invalid(message: String) -> Failure {
    Failure::new(FailureCode::ModelInvalid, message).hint("Copy or convert the package again.")
}
