//! Embedding with a model of the caller's choice, beside whatever application owns the home: a worker of its own, for this once.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

use embedbar_contract::{EmbedRequest, Embeddings, Failure};
use embedbar_lifecycle::{Environment, Lane, Lifecycle, WorkerProgram};
use embedbar_store::{Home, Library};

use crate::app::{target, worker_program};
use crate::commands::embeddings;

/// Embeds with the model `name` (an id or a path) without touching the active one. `worker_arguments` are what the worker's
/// command line has besides `worker`.
pub async fn embed_with(
    home: Option<PathBuf>,
    name: &str,
    worker_arguments: Vec<OsString>,
    request: EmbedRequest,
) -> Result<Embeddings, Failure> {
    let home = Home::open(home)?;
    let model = Library::open(&home).find(name)?;
    let worker = WorkerProgram {
        program: worker_program(None)?,
        arguments: crate::app::worker_arguments(&home, worker_arguments),
        environment: Environment::default(),
    };
    let lifecycle = Lifecycle::start(Arc::new(worker), target(&model), embedbar_lifecycle::Options::default());
    let answer = lifecycle.embed(request.texts, request.prompt, request.recipe, Lane::Query).await;
    lifecycle.stop().await;
    Ok(embeddings(answer?))
}
