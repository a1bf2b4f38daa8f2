//! All other programs at once: what they offer, and what becomes of the offers that a person accepts.
//!
//! An offer's id is looked up in a new survey and not taken apart, so that nothing is asked of a program that it did not just list.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use crate::docker::Docker;
use crate::offer::{Deed, Note, Offer, Outcome, Program, Survey};
use crate::servers::{Model, Server};
use crate::sockets;
use crate::stops::{StopResult, Stops};

/// All programs are asked at the same time, and have this long together.
const SURVEY: Duration = Duration::from_secs(1);

/// Where other programs are looked for.
#[derive(Clone, Debug, Default)]
pub struct Places {
    /// The sockets of container engines, in the order in which they are asked.
    pub sockets: Vec<PathBuf>,
    /// The model servers.
    pub servers: Vec<Server>,
    /// What cannot be asked.
    pub notes: Vec<Note>,
}

impl Places {
    /// The usual ones of a user with this home; `variable` reads the environment.
    pub fn usual(home: &Path, variable: impl Fn(&str) -> Option<String>) -> Self {
        let (sockets, elsewhere) = sockets::find(home, &variable);
        let mut servers = Server::usual().to_vec();
        let mut notes: Vec<Note> = elsewhere.map(|text| Note { program: Program::Docker, text }).into_iter().collect();
        match Server::ollama(variable("OLLAMA_HOST").as_deref()) {
            Ok(server) => servers.insert(0, server),
            Err(error) => notes.push(Note { program: Program::Ollama, text: format!("{error}.") }),
        }
        Self { sockets, servers, notes }
    }

    /// Without what listens on a port of our own, which may speak another program's dialect.
    #[must_use]
    pub fn without_port(mut self, port: u16) -> Self {
        self.servers.retain(|server| server.address().port() != port);
        self
    }
}

/// The other programs of this machine.
#[derive(Debug)]
pub struct Neighbours {
    stops: Arc<Stops>,
}

/// Whose an offer is.
#[derive(Clone, Debug)]
enum Holder {
    Container { docker: Docker, id: String },
    Model { server: Server, model: Model },
}

#[derive(Debug, Default)]
struct Found {
    offers: Vec<(Offer, Holder)>,
    notes: Vec<Note>,
}

impl Neighbours {
    /// With the stops whose journal makes containers start again.
    pub fn new(stops: Arc<Stops>) -> Self {
        Self { stops }
    }

    /// What is offered, within a second. Programs that are not there are left out.
    pub async fn survey(&self, places: &Places) -> Survey {
        let found = look(places).await;
        Survey { offers: found.offers.into_iter().map(|(offer, _)| offer).collect(), notes: found.notes }
    }

    /// Accepts offers by their ids: models first, which takes little and can be had back by any request, then containers.
    ///
    /// The outcomes are in the order of the ids. It takes up to 20 s for the models, and for each container as long as it takes to stop.
    pub async fn accept(&self, places: &Places, ids: &[String]) -> Vec<Outcome> {
        let found = look(places).await;
        let mut chosen: Vec<(Offer, Holder)> = Vec::new();
        let mut outcomes: Vec<Outcome> = Vec::new();
        for id in ids {
            match found.offers.iter().find(|(offer, _)| offer.id == *id) {
                Some(known) if !chosen.iter().any(|(offer, _)| offer.id == *id) => chosen.push(known.clone()),
                Some(_) => {}
                None => outcomes.push(Outcome {
                    id: id.clone(),
                    program: None,
                    name: String::new(),
                    held_bytes: None,
                    deed: Deed::AlreadyGone,
                }),
            }
        }
        let mut asked = JoinSet::new();
        for (offer, holder) in &chosen {
            if let Holder::Model { server, model } = holder.clone() {
                let offer = offer.clone();
                asked.spawn(async move { outcome(&offer, server.unload(&model).await) });
            }
        }
        outcomes.extend(asked.join_all().await);
        for outcome in &outcomes {
            tracing::info!(id = outcome.id, deed = ?outcome.deed, "asked a program to unload a model");
        }
        for socket in &places.sockets {
            let here: Vec<(&Offer, &Docker, &String)> = chosen
                .iter()
                .filter_map(|(offer, holder)| match holder {
                    Holder::Container { docker, id } if docker.socket() == socket => Some((offer, docker, id)),
                    Holder::Container { .. } | Holder::Model { .. } => None,
                })
                .collect();
            let Some((_, docker, _)) = here.first() else { continue };
            let containers: Vec<String> = here.iter().map(|(_, _, id)| (*id).clone()).collect();
            match self.stops.stop(docker, &containers).await {
                Ok(stopped) => outcomes.extend(stopped.into_iter().filter_map(|stopped| {
                    let (offer, ..) = here.iter().find(|(_, _, id)| **id == stopped.id)?;
                    Some(outcome(offer, deed(stopped.result)))
                })),
                // Without the journal nothing was stopped.
                Err(error) => {
                    let refused = Deed::Refused { reason: format!("{error}.") };
                    outcomes.extend(here.iter().map(|(offer, ..)| outcome(offer, refused.clone())));
                }
            }
        }
        outcomes.sort_by_key(|outcome| ids.iter().position(|id| *id == outcome.id));
        outcomes
    }

    /// Stopping and starting again.
    pub fn stops(&self) -> &Stops {
        &self.stops
    }
}

fn outcome(offer: &Offer, deed: Deed) -> Outcome {
    Outcome {
        id: offer.id.clone(),
        program: Some(offer.program),
        name: offer.name.clone(),
        held_bytes: offer.bytes,
        deed,
    }
}

fn deed(result: StopResult) -> Deed {
    match result {
        StopResult::Stopped => Deed::Released,
        StopResult::Refused { refusal } => Deed::Refused { reason: format!("It was left alone: {refusal}.") },
        StopResult::Failed { reason } => Deed::Refused { reason: format!("The engine did not stop it: {reason}.") },
        StopResult::Unclear { reason } => Deed::Unconfirmed {
            reason: format!(
                "Whether it has stopped is not known: {reason}. If it has, it is started again with the others."
            ),
        },
    }
}

async fn look(places: &Places) -> Found {
    let deadline = Instant::now() + SURVEY;
    let mut asked = JoinSet::new();
    for server in places.servers.iter().copied() {
        asked.spawn(async move {
            let held = server.list(deadline).await;
            let offers = held.models.into_iter().map(|model| (server.offer(&model), Holder::Model { server, model }));
            Found { offers: offers.collect(), notes: held.notes }
        });
    }
    for socket in places.sockets.clone() {
        asked.spawn(async move { containers(&socket, deadline).await });
    }
    let mut all = Found { notes: places.notes.clone(), ..Found::default() };
    for found in asked.join_all().await {
        for (offer, holder) in found.offers {
            // The same engine may be behind two sockets.
            let same = |other: &Holder| match (other, &holder) {
                (Holder::Container { id, .. }, Holder::Container { id: new, .. }) => id == new,
                _ => false,
            };
            if !all.offers.iter().any(|(_, other)| same(other)) {
                all.offers.push((offer, holder));
            }
        }
        all.notes.extend(found.notes);
    }
    all.offers
        .sort_by(|(one, _), (other, _)| (other.bytes, &one.name, &one.id).cmp(&(one.bytes, &other.name, &other.id)));
    all.notes.sort_by(|one, other| (one.program, &one.text).cmp(&(other.program, &other.text)));
    all.notes.dedup();
    all
}

async fn containers(socket: &Path, deadline: Instant) -> Found {
    let mut found = Found::default();
    let note = |text: String| Note { program: Program::Docker, text };
    let docker = match timeout_at(deadline, Docker::connect(socket)).await {
        Ok(Ok(docker)) => docker,
        // A socket that nobody listens on is what an engine leaves that is not running.
        Ok(Err(error)) => {
            tracing::debug!(%error, "no container engine");
            return found;
        }
        Err(_) => {
            found.notes.push(note(format!("The container engine at `{}` did not answer in time.", socket.display())));
            return found;
        }
    };
    // A little less, so that what has answered by then counts.
    let listed = docker.running_until(deadline - SURVEY / 10).await;
    match listed {
        Ok(containers) => {
            for container in containers {
                if let Some(refusal) = container.refusal {
                    found.notes.push(note(format!("The container {} is not offered: {refusal}.", container.name)));
                    continue;
                }
                let offer = Offer {
                    id: format!("{} at {} {}", Program::Docker, socket.display(), container.id),
                    program: Program::Docker,
                    name: container.name,
                    detail: container.image,
                    bytes: container.memory_bytes,
                };
                found.offers.push((offer, Holder::Container { docker: docker.clone(), id: container.id }));
            }
        }
        Err(error) => found.notes.push(note(format!("{error}."))),
    }
    found
}
