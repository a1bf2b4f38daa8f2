//! llama-server: as a router it loads and unloads models by name; with a single model it keeps that until it ends.
//!
//! Its usual port is everybody's usual port, so it counts only if it names itself in the header `Server`.

use serde_json::{Value, json};
use tokio::time::Instant;

use super::http::{HttpError, Reply};
use super::{Held, Model, Problem, Server, elements};

pub(super) fn list(server: Server, deadline: Instant) -> Result<Held, Problem> {
    let reply = server.get("/models", deadline).map_err(|error| Problem::of(server, &error))?;
    if reply.server.as_deref() != Some("llama.cpp") {
        return Err(Problem::Absent);
    }
    let models = elements(&reply, "data").ok_or(Problem::Absent)?;
    // Only a router says of each model how far it is.
    if let Some(model) = models.iter().find(|model| model.get("status").is_none()).and_then(model) {
        let text = format!(
            "{server} serves {} alone and cannot be asked to unload it; end it where it was started, or start it with \
             `--sleep-idle-seconds`.",
            model.name
        );
        return Ok(Held::only_note(server, text));
    }
    let loaded = models.iter().filter(|model| {
        model.get("status").and_then(|status| status.get("value")).and_then(Value::as_str) == Some("loaded")
    });
    Ok(Held::models(loaded.filter_map(model)))
}

fn model(value: &Value) -> Option<Model> {
    let bytes = value.get("meta").and_then(|meta| meta.get("size")).and_then(Value::as_u64);
    Model::new(value.get("id")?.as_str()?, None, bytes)
}

pub(super) fn unload(server: Server, model: &str, deadline: Instant) -> Result<Reply, HttpError> {
    server.post("/models/unload", &json!({"model": model}), deadline)
}
