//! A container engine with Docker's API, asked through its socket: what runs and what it holds.
//!
//! Every call has a deadline of its own, because an engine whose virtual machine is paged out answers late or never. Replies are
//! not bounded in size: bollard reads them whole, and the socket belongs to us or to the administrator (`sockets.rs`).
//!
//! What is not here: which containers are to be started again ([`Stops`](crate::Stops)).

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bollard::API_DEFAULT_VERSION;
use bollard::errors::Error as EngineError;
use bollard::models::{ContainerInspectResponse, ContainerMemoryStats};
use bollard::query_parameters::{ListContainersOptionsBuilder, StatsOptionsBuilder};
use futures_util::StreamExt as _;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};

use crate::NeighboursError;
use crate::journal::is_id;
use crate::text::shown;

/// For the calls that only ask.
const CALL: Duration = Duration::from_secs(3);

/// What an engine waits before it kills, unless the container says otherwise.
const USUAL_GRACE: Duration = Duration::from_secs(10);

/// Longer than any container should take to stop.
const MOST_GRACE: Duration = Duration::from_mins(10);

/// A container engine that answered.
#[derive(Clone, Debug)]
pub struct Docker {
    socket: PathBuf,
    client: bollard::Docker,
}

/// A container that is running.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Container {
    /// Its full id.
    pub id: String,
    /// Its name, without control characters.
    pub name: String,
    /// The image that it was made from, without control characters.
    pub image: String,
    /// The memory that its processes hold, in bytes, without the page cache, as `docker stats` shows it; `None` where the engine did
    /// not say in time.
    pub memory_bytes: Option<u64>,
    /// Why it must not be stopped; `None` where it may be.
    pub refusal: Option<Refusal>,
}

/// Why a container is not stopped.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Refusal {
    /// Not 64 hexadecimal digits.
    #[error("this is no id of a container")]
    NotAnId,
    /// The engine does not know it.
    #[error("the engine has no such container")]
    NotThere,
    /// Stopping what does not run would start it afterwards.
    #[error("it is not running, so there is nothing to stop, and nothing that should be started afterwards")]
    NotRunning,
    /// It would not be paused after it was started again.
    #[error("it is paused, and would not be any more after it was started again; resume or stop it by hand")]
    Paused,
    /// `docker run --rm`.
    #[error("it was started with `--rm`, so stopping it would delete it; stop it by hand if that is fine")]
    RemovedOnStop,
    /// The engine did not answer when it was asked about the container.
    #[error("the engine did not say in time whether stopping it would delete it")]
    Unknown,
}

/// What the engine says about one container.
#[derive(Clone, Debug)]
pub(crate) struct Inspected {
    pub(crate) name: String,
    pub(crate) running: bool,
    /// Why it must not be stopped.
    pub(crate) refusal: Option<Refusal>,
    pub(crate) started_at: String,
    /// How long it may take to stop.
    pub(crate) grace: Duration,
}

/// Why a call about one container failed.
#[derive(Debug)]
pub(crate) enum CallError {
    /// The engine has no such container.
    NotThere,
    /// The engine refused, with its sentence.
    Said(String),
    /// Nobody knows what the engine did or will do.
    Lost(String),
}

impl CallError {
    fn of(error: &EngineError) -> Self {
        match error {
            EngineError::DockerResponseServerError { status_code: 404, .. } => Self::NotThere,
            EngineError::DockerResponseServerError { status_code, message } => {
                Self::Said(shown(&format!("{message} (status {status_code})")))
            }
            other => Self::Lost(reason(other)),
        }
    }

    pub(crate) fn sentence(self) -> String {
        match self {
            Self::NotThere => Refusal::NotThere.to_string(),
            Self::Said(reason) | Self::Lost(reason) => reason,
        }
    }
}

impl Docker {
    /// Connects to the engine behind a socket and agrees on a version of the API.
    pub async fn connect(socket: &Path) -> Result<Self, NeighboursError> {
        let away = |reason: String| NeighboursError::EngineAway { socket: socket.to_owned(), reason };
        let path = socket.to_str().ok_or_else(|| away("its path is not UTF-8".to_owned()))?;
        // The deadlines here are shorter, but for stopping.
        let most = (MOST_GRACE * 2).as_secs();
        let client = bollard::Docker::connect_with_unix(path, most, API_DEFAULT_VERSION)
            .map_err(|error| away(reason(&error)))?;
        match timeout(CALL, client.negotiate_version()).await {
            Ok(Ok(client)) => Ok(Self { socket: socket.to_owned(), client }),
            Ok(Err(error)) => Err(away(reason(&error))),
            Err(_) => Err(away(late(CALL))),
        }
    }

    /// The socket that it was reached through.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The containers that are running, by name. Takes at most three seconds.
    pub async fn running(&self) -> Result<Vec<Container>, NeighboursError> {
        self.running_until(Instant::now() + CALL).await
    }

    pub(crate) async fn running_until(&self, deadline: Instant) -> Result<Vec<Container>, NeighboursError> {
        let action = "list its containers";
        let failed = |reason| NeighboursError::Engine { socket: self.socket.clone(), action, reason };
        let only_running = HashMap::from([("status", vec!["running"])]);
        let options = ListContainersOptionsBuilder::default().filters(&only_running).build();
        let listed = match timeout_at(deadline, self.client.list_containers(Some(options))).await {
            Ok(listed) => listed.map_err(|error| failed(reason(&error)))?,
            Err(_) => return Err(failed("it did not answer in time".to_owned())),
        };
        let mut asked = JoinSet::new();
        for summary in listed {
            let Some(id) = summary.id.filter(|id| is_id(id)) else { continue };
            let name = summary.names.iter().flatten().next().map(|name| shown(name.trim_start_matches('/')));
            let name = name.filter(|name| !name.is_empty()).unwrap_or_else(|| id.chars().take(12).collect());
            let image = shown(&summary.image.unwrap_or_default());
            let engine = self.clone();
            asked.spawn(async move {
                let (inspected, memory_bytes) = tokio::join!(
                    timeout_at(deadline, engine.inspect(&id)),
                    timeout_at(deadline, engine.memory_bytes(&id)),
                );
                let refusal = match inspected {
                    Ok(Ok(inspected)) => inspected.refusal,
                    Ok(Err(CallError::NotThere)) => Some(Refusal::NotThere),
                    Ok(Err(_)) | Err(_) => Some(Refusal::Unknown),
                };
                Container { id, name, image, memory_bytes: memory_bytes.ok().flatten(), refusal }
            });
        }
        // What has ended since it was listed is no longer there.
        let gone = [Some(Refusal::NotThere), Some(Refusal::NotRunning)];
        let mut containers = asked.join_all().await;
        containers.retain(|container| !gone.contains(&container.refusal));
        containers.sort_by(|one, other| (&one.name, &one.id).cmp(&(&other.name, &other.id)));
        Ok(containers)
    }

    pub(crate) async fn inspect(&self, id: &str) -> Result<Inspected, CallError> {
        let response = bounded(CALL, self.client.inspect_container(id, None)).await?;
        Ok(inspected(response))
    }

    async fn memory_bytes(&self, id: &str) -> Option<u64> {
        let options = StatsOptionsBuilder::default().stream(false).one_shot(true).build();
        let mut readings = Box::pin(self.client.stats(id, Some(options)));
        let reading = readings.next().await?.ok()?;
        without_page_cache(&reading.memory_stats?)
    }

    /// Asks the engine to stop a container, and waits until it has. The container's own signal and patience apply.
    pub(crate) async fn stop(&self, id: &str, patience: Duration) -> Result<(), CallError> {
        bounded(patience, self.client.stop_container(id, None)).await
    }

    pub(crate) async fn start(&self, id: &str, patience: Duration) -> Result<(), CallError> {
        bounded(patience, self.client.start_container(id, None)).await
    }
}

async fn bounded<T>(patience: Duration, call: impl Future<Output = Result<T, EngineError>>) -> Result<T, CallError> {
    match timeout(patience, call).await {
        Ok(answer) => answer.map_err(|error| CallError::of(&error)),
        Err(_) => Err(CallError::Lost(late(patience))),
    }
}

fn late(patience: Duration) -> String {
    format!("no answer within {} s", patience.as_secs())
}

/// With the causes, which bollard leaves out of its own message.
fn reason(error: &EngineError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    shown(&text)
}

fn inspected(response: ContainerInspectResponse) -> Inspected {
    let state = response.state.unwrap_or_default();
    let running = state.running.unwrap_or(false);
    let auto_remove = response.host_config.and_then(|config| config.auto_remove).unwrap_or(false);
    let refusal = if !running {
        Some(Refusal::NotRunning)
    } else if auto_remove {
        Some(Refusal::RemovedOnStop)
    } else if state.paused.unwrap_or(false) {
        Some(Refusal::Paused)
    } else {
        None
    };
    let grace = match response.config.and_then(|config| config.stop_timeout) {
        // Negative: as long as it takes.
        Some(seconds) => u64::try_from(seconds).map_or(MOST_GRACE, Duration::from_secs),
        None => USUAL_GRACE,
    };
    Inspected {
        name: shown(response.name.unwrap_or_default().trim_start_matches('/')),
        running,
        refusal,
        started_at: state.started_at.unwrap_or_default(),
        // Some engines say 0 where nothing was set, and wait all the same.
        grace: grace.clamp(USUAL_GRACE, MOST_GRACE),
    }
}

/// As Docker's command does it: pages of files that nobody has used lately are not the container's need.
fn without_page_cache(memory: &ContainerMemoryStats) -> Option<u64> {
    let usage = memory.usage?;
    let of = |name: &str| memory.stats.as_ref().and_then(|stats| stats.get(name).copied());
    // The first is cgroup v1, the second v2.
    let cache = of("total_inactive_file").or_else(|| of("inactive_file")).unwrap_or(0);
    Some(usage.saturating_sub(cache))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_counted_as_docker_stats_shows_it() {
        let memory = |usage, stats: &[(&str, u64)]| ContainerMemoryStats {
            usage,
            stats: Some(stats.iter().map(|(name, bytes)| ((*name).to_owned(), *bytes)).collect()),
            ..ContainerMemoryStats::default()
        };
        assert_eq!(without_page_cache(&memory(Some(100), &[("inactive_file", 30)])), Some(70));
        let first = [("total_inactive_file", 40), ("inactive_file", 30)];
        assert_eq!(without_page_cache(&memory(Some(100), &first)), Some(60));
        assert_eq!(without_page_cache(&memory(Some(100), &[])), Some(100));
        assert_eq!(without_page_cache(&memory(Some(100), &[("inactive_file", 300)])), Some(0));
        assert_eq!(without_page_cache(&memory(None, &[])), None);
    }

    #[test]
    fn a_container_that_says_nothing_is_taken_for_one_that_does_not_run() {
        let found = inspected(ContainerInspectResponse::default());
        assert!(!found.running);
        assert_eq!(found.refusal, Some(Refusal::NotRunning));
        assert_eq!(found.grace, USUAL_GRACE);
    }
}
