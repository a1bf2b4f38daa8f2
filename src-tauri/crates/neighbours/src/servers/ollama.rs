//! Ollama: `/api/ps`, and `/api/generate` without a prompt.
//!
//! An empty prompt with `keep_alive: 0` is its documented way to unload. It is answered before the model's abilities are looked at,
//! so it serves for models that only embed too; `/api/embed` would load the model first.

use serde_json::{Value, json};
use tokio::time::Instant;

use super::http::{HttpError, Reply};
use super::{Held, Model, Problem, Server, elements};

pub(super) fn list(server: Server, deadline: Instant) -> Result<Held, Problem> {
    let reply = server.get("/api/ps", deadline).map_err(|error| Problem::of(server, &error))?;
    let models = elements(&reply, "models").ok_or(Problem::Absent)?;
    Ok(Held::models(models.iter().filter_map(model)))
}

fn model(value: &Value) -> Option<Model> {
    let name = value.get("model").or_else(|| value.get("name"))?.as_str()?;
    Model::new(name, None, value.get("size").and_then(Value::as_u64))
}

pub(super) fn unload(server: Server, model: &str, deadline: Instant) -> Result<Reply, HttpError> {
    server.post("/api/generate", &json!({"model": model, "keep_alive": 0, "stream": false}), deadline)
}
