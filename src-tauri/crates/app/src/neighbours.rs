//! What other programs would give back: shown by name and size, asked for only where a person chose it, undone afterwards.
//!
//! Containers that were stopped are started again by the person, after the job that needed the room, or at the next start of a
//! program that stays. What it gained is measured here, nothing included.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use embedbar_contract::{
    Failure, FailureCode, JobState, MemoryReading, NeighbourOffer, OfferChoice, OfferKind, OfferOutcome, OfferReceipt,
    Offers, Snapshot,
};
use embedbar_neighbours::{Deed, Neighbours, NeighboursError, Places, Program, StartOutcome, StartResult, Stops};
use embedbar_store::Home;

use tokio::sync::watch;

use crate::app::App;
use crate::cleanup::SETTLE;

/// How long a program that starts waits for an engine that may be starting too.
const ENGINE: Duration = Duration::from_mins(2);

/// The other programs, and where they are looked for.
pub(crate) struct Others {
    stops: Arc<Stops>,
    neighbours: Neighbours,
}

impl Others {
    pub(crate) fn new(home: &Home) -> Self {
        let stops = Arc::new(Stops::new(home.stopped()));
        Self { neighbours: Neighbours::new(stops.clone()), stops }
    }

    /// Where they are now: an engine may have been started since the last look.
    fn places() -> Places {
        let user = std::env::home_dir().unwrap_or_else(|| PathBuf::from("/"));
        Places::usual(&user, |name| std::env::var(name).ok())
    }

    /// What is offered, and what is to be started again.
    pub(crate) async fn survey(&self) -> Result<Offers, Failure> {
        let survey = self.neighbours.survey(&Self::places()).await;
        let offers = survey.offers.into_iter().map(|offer| NeighbourOffer {
            action: offer.action(),
            kind: if offer.program == Program::Docker { OfferKind::Stop } else { OfferKind::Unload },
            program: offer.program.to_string(),
            id: offer.id,
            name: offer.name,
            detail: offer.detail,
            bytes: offer.bytes,
        });
        Ok(Offers {
            offers: offers.collect(),
            notes: survey.notes.into_iter().map(|note| note.text).collect(),
            stopped: self
                .stops
                .pending()
                .await
                .map_err(|error| unlisted(&error))?
                .into_iter()
                .map(|pending| pending.name)
                .collect(),
        })
    }

    async fn accept(&self, ids: &[String]) -> Vec<OfferOutcome> {
        let outcomes = self.neighbours.accept(&Self::places(), ids).await;
        let told = |outcome: embedbar_neighbours::Outcome| {
            let (done, sentence) = match outcome.deed {
                Deed::Released => (true, "It gave its memory back.".to_owned()),
                Deed::AlreadyGone => (true, "There was nothing to do: it was gone already.".to_owned()),
                Deed::Unconfirmed { reason } | Deed::Refused { reason } => (false, reason),
            };
            let name = if outcome.name.is_empty() { outcome.id } else { outcome.name };
            OfferOutcome { name, done, sentence }
        };
        outcomes.into_iter().map(told).collect()
    }

    async fn start_again(&self) -> Result<Vec<OfferOutcome>, Failure> {
        Ok(self.stops.start_again().await.map_err(|error| unlisted(&error))?.into_iter().map(started).collect())
    }

    /// Starts what was stopped once a job has ended, however it ended; at once where there is none.
    pub(crate) fn start_again_after(&self, mut snapshots: watch::Receiver<Arc<Snapshot>>, job: Option<u64>) {
        let stops = self.stops.clone();
        tokio::spawn(async move {
            let ended = |snapshot: &Arc<Snapshot>| {
                let Some(id) = job else { return true };
                let known = snapshot.jobs.iter().find(|known| known.id == id);
                known.is_some_and(|job| {
                    matches!(job.state, JobState::Done | JobState::Cancelled | JobState::Failed { .. })
                })
            };
            // An error means that the application has ended; the next start does it.
            if snapshots.wait_for(ended).await.is_ok() {
                match stops.start_again().await {
                    Ok(outcomes) => tracing::info!(?outcomes, "started again after a conversion"),
                    Err(error) => tracing::warn!(%error, "the stopped containers could not be started again"),
                }
            }
        });
    }

    /// Starts what an earlier life has stopped and not started again.
    pub(crate) async fn recover(&self) {
        match self.stops.recover(ENGINE).await {
            Ok(outcomes) => {
                for outcome in outcomes {
                    tracing::info!(container = outcome.name, result = ?outcome.result, "started again after a break");
                }
            }
            Err(error) => tracing::warn!(%error, "the list of stopped containers"),
        }
    }
}

/// The list of stopped containers is all that can fail here.
fn unlisted(error: &NeighboursError) -> Failure {
    Failure::new(FailureCode::Io, error.to_string()).hint("Start your containers by hand once: `docker start NAME`.")
}

fn started(outcome: StartOutcome) -> OfferOutcome {
    let done = outcome.result.done();
    let sentence = match outcome.result {
        StartResult::Started => "It runs again.".to_owned(),
        StartResult::AlreadyRunning => "It was running already.".to_owned(),
        StartResult::Gone => "Somebody has removed it.".to_owned(),
        StartResult::Failed { reason } | StartResult::EngineAway { reason } => reason,
    };
    OfferOutcome { name: outcome.name, done, sentence }
}

/// Accepts offers and measures what that gained.
pub(crate) async fn accept(app: &App, choice: &OfferChoice) -> Result<OfferReceipt, Failure> {
    let before = app.read_memory();
    let outcomes = app.others.accept(&choice.ids).await;
    receipt(app, before, outcomes).await
}

/// Starts what was stopped.
pub(crate) async fn start_again(app: &App) -> Result<OfferReceipt, Failure> {
    let before = app.read_memory();
    let outcomes = app.others.start_again().await?;
    receipt(app, before, outcomes).await
}

async fn receipt(app: &App, before: MemoryReading, outcomes: Vec<OfferOutcome>) -> Result<OfferReceipt, Failure> {
    tokio::time::sleep(SETTLE).await;
    let after = app.read_memory();
    let gained = after.available_bytes.zip(before.available_bytes).map(|(after, before)| after.saturating_sub(before));
    tracing::info!(?outcomes, gained, "asked other programs");
    app.changed.notify_one();
    Ok(OfferReceipt { outcomes, gained_bytes: gained, before, after })
}
