//! LM Studio: its REST API version 1, since 0.4. Version 0 lists what is loaded and cannot unload.

use serde_json::{Value, json};
use tokio::time::Instant;

use super::http::{HttpError, Reply};
use super::{Held, Model, Problem, Server, elements};
use crate::text::shown;

pub(super) fn list(server: Server, deadline: Instant) -> Result<Held, Problem> {
    let late = |error: HttpError| Problem::of(server, &error);
    let reply = server.get("/api/v1/models", deadline).map_err(late)?;
    if matches!(reply.status, 401 | 403) {
        let text =
            format!("{server} demands a token, which Embedbar does not have; unload its models in its own window.");
        return Ok(Held::only_note(server, text));
    }
    if let Some(models) = elements(&reply, "models") {
        return Ok(Held::models(models.iter().flat_map(instances)));
    }
    // Before version 1 existed.
    let reply = server.get("/api/v0/models", deadline).map_err(late)?;
    let models = elements(&reply, "data").ok_or(Problem::Absent)?;
    let is_loaded = |model: &&Value| model.get("state").and_then(Value::as_str) == Some("loaded");
    let loaded = models.iter().filter(is_loaded).filter_map(|model| model.get("id")?.as_str());
    let loaded: Vec<String> = loaded.take(super::MOST_MODELS).map(shown).collect();
    if loaded.is_empty() {
        return Ok(Held::models(std::iter::empty()));
    }
    let text = format!(
        "{server} holds {} and is older than 0.4, which cannot be asked to unload; unload it in its own window.",
        shown(&loaded.join(", "))
    );
    Ok(Held::only_note(server, text))
}

/// A model may be loaded more than once. Its size is that of its files.
fn instances(model: &Value) -> Vec<Model> {
    let bytes = model.get("size_bytes").and_then(Value::as_u64);
    let label = model.get("display_name").and_then(Value::as_str);
    let instances = model.get("loaded_instances").and_then(Value::as_array);
    let instances = instances.into_iter().flatten().filter_map(|instance| {
        let id = instance.get("id")?.as_str()?;
        let label = label.filter(|label| *label != id).map(|label| format!("{label} ({id})"));
        Model::new(id, label.as_deref(), bytes)
    });
    instances.collect()
}

pub(super) fn unload(server: Server, instance: &str, deadline: Instant) -> Result<Reply, HttpError> {
    server.post("/api/v1/models/unload", &json!({"instance_id": instance}), deadline)
}
