//! `embedbar inspect`: what a model on disk is, without running it.
//!
//! A package is read by the judge of packages, anything else is opened by the engine, which checks it whole.

use std::path::Path;

use embedbar_certify::Certificate;
use embedbar_contract::{Failure, FailureCode, RecipeName};
use embedbar_engine::Engine;
use embedbar_mil::{Lengths, Package};
use serde_json::{Value, json};

use crate::convert::certified;
use crate::output;

pub(crate) fn run(path: &Path, as_json: bool) -> anyhow::Result<()> {
    if !path.exists() {
        let failure = Failure::new(FailureCode::NotFound, format!("there is no `{}`", path.display()));
        return Err(failure.hint("Name a `.mlpackage`, a `.gguf` file or the folder of a checkpoint.").into());
    }
    let is_package = path.join("Manifest.json").is_file();
    let mut told = if is_package { package(path)? } else { model(path)? };
    told["certificate"] = match Certificate::beside(path).map_err(Failure::from)? {
        Some(certificate) if certificate.is_of(path) => certified(&certificate)?,
        _ => Value::Null,
    };
    if as_json {
        return output::json(&told);
    }
    for (key, value) in told.as_object().into_iter().flatten() {
        let shown = match value {
            Value::String(text) => text.clone(),
            Value::Null => "–".to_owned(),
            other => serde_json::to_string_pretty(other)?.replace('\n', "\n           "),
        };
        output::line(&format!("{key:<10} {shown}"));
    }
    Ok(())
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
        "kind": "core_ml_package",
        "path": path,
        "precision": description.precision_class,
        "dims": interface.as_ref().ok().map(|interface| interface.dimensions),
        "tokens": tokens,
        "embedding": interface.as_ref().ok(),
        "not_embedding": interface.as_ref().err().map(ToString::to_string),
        "findings": package.lint(),
        "package": description,
    }))
}

fn model(path: &Path) -> anyhow::Result<Value> {
    let id = path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy();
    let engine = Engine::open(&id, path).map_err(Failure::from)?;
    let generation = engine.generation(RecipeName::Native);
    Ok(json!({
        "kind": if path.is_dir() { "checkpoint" } else { "gguf" },
        "path": path,
        "precision": generation.precision,
        "dims": engine.dims(),
        "tokens": engine.max_tokens().to_string(),
        "revision": generation.revision,
    }))
}

fn invalid(message: String) -> Failure {
    Failure::new(FailureCode::ModelInvalid, message).hint("Copy or convert the package again.")
}
