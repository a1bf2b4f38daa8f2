//! The application behind the shell: being looked for, running, or failed.
//!
//! The shell owns its home unless another program does (`embedbar serve`); then it is a client of that one. Windows may ask
//! before the application is there: [`Backend::running`] waits. A failed start does not end the shell: every request is
//! answered with the failure, so that the person sees it, and another attempt follows.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use embedbar_app::Access;
use embedbar_contract::{Failure, FailureCode, Remote, Snapshot};
use tokio::sync::watch;

/// How long the application gets to cancel its jobs and end its worker.
const STOP_DEADLINE: Duration = Duration::from_secs(5);

/// Between a failed start and the next attempt.
const RETRY_INTERVAL: Duration = Duration::from_secs(5);

/// An application that answers.
#[derive(Clone)]
pub(crate) struct Running {
    /// Carries out commands.
    pub(crate) application: Arc<Remote<Access>>,
    /// The newest snapshot and those after it; closed when the application is gone.
    pub(crate) snapshots: watch::Receiver<Arc<Snapshot>>,
}

impl Running {
    async fn open(access: Access) -> Result<Self, Failure> {
        let snapshots = access.snapshots().await?;
        Ok(Self { application: Arc::new(Remote(access)), snapshots })
    }

    async fn stop(&self) {
        let Access::Owner(application) = &self.application.0 else { return };
        if tokio::time::timeout(STOP_DEADLINE, application.stop()).await.is_err() {
            tracing::warn!("the application did not stop within {STOP_DEADLINE:?}; its worker ends with this process");
        }
    }
}

#[derive(Clone)]
enum Phase {
    Starting,
    Running(Running),
    Failed(Failure),
    Stopped,
}

impl Phase {
    /// Whether there is something to say: an application whose snapshots have ended is about to be looked for again.
    fn is_settled(&self) -> bool {
        match self {
            Self::Starting => false,
            Self::Running(running) => running.snapshots.has_changed().is_ok(),
            Self::Failed(_) | Self::Stopped => true,
        }
    }
}

/// Where the shell finds the application.
#[derive(Clone)]
pub(crate) struct Backend {
    phase: watch::Sender<Phase>,
}

impl Backend {
    /// A backend without an application; [`Backend::keep`] brings it.
    pub(crate) fn new() -> Self {
        Self { phase: watch::Sender::new(Phase::Starting) }
    }

    /// Opens the application with `open`, and again whenever it is gone or could not be opened, until the shell stops.
    pub(crate) async fn keep<F>(&self, open: impl Fn() -> F)
    where
        F: Future<Output = Result<Access, Failure>>,
    {
        let mut reported = None;
        loop {
            let outcome = match open().await {
                Ok(access) => Running::open(access).await,
                Err(failure) => Err(failure),
            };
            match outcome {
                Ok(running) => {
                    let mut snapshots = running.snapshots.clone();
                    if !self.settle(Phase::Running(running.clone())) {
                        running.stop().await; // the person quit in the meantime
                        return;
                    }
                    while snapshots.changed().await.is_ok() {}
                    tracing::info!("the application is gone; looking for it again");
                    if !self.settle(Phase::Starting) {
                        return;
                    }
                }
                Err(failure) => {
                    if reported.as_ref() != Some(&failure) {
                        report(&failure);
                        reported = Some(failure.clone());
                    }
                    if !self.settle(Phase::Failed(failure)) {
                        return;
                    }
                    tokio::time::sleep(RETRY_INTERVAL).await;
                }
            }
        }
    }

    /// Waits until another attempt has been made after a failure; what [`Backend::running`] says then may be the same.
    pub(crate) async fn next_attempt(&self) {
        tokio::time::sleep(RETRY_INTERVAL).await;
    }

    /// The application, once there is one.
    pub(crate) async fn running(&self) -> Result<Running, Failure> {
        let mut phase = self.phase.subscribe();
        match phase.wait_for(Phase::is_settled).await.as_deref() {
            Ok(Phase::Running(running)) => Ok(running.clone()),
            Ok(Phase::Failed(failure)) => Err(failure.clone()),
            Ok(Phase::Starting | Phase::Stopped) | Err(_) => {
                Err(Failure::new(FailureCode::Cancelled, "Embedbar is quitting"))
            }
        }
    }

    /// Ends jobs and worker; later requests are refused. A second call does nothing.
    pub(crate) async fn stop(&self) {
        if let Phase::Running(running) = self.phase.send_replace(Phase::Stopped) {
            running.stop().await;
        }
    }

    /// Enters a phase unless the shell stops; says whether it did.
    fn settle(&self, next: Phase) -> bool {
        self.phase.send_if_modified(|phase| {
            let open = !matches!(phase, Phase::Stopped);
            if open {
                *phase = next;
            }
            open
        })
    }
}

fn report(failure: &Failure) {
    tracing::error!(%failure, "the application did not start");
    // A home that cannot be opened has no log.
    if !tracing::dispatcher::has_been_set() {
        eprintln!("embedbar: {failure}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_failed_start_answers_every_request_with_its_failure() {
        let backend = Backend::new();
        let waiting = tokio::spawn({
            let backend = backend.clone();
            async move { backend.running().await.map(drop) }
        });
        let failure = Failure::new(FailureCode::OwnerMismatch, "another Embedbar speaks another version");
        let keeper = tokio::spawn({
            let (backend, failure) = (backend.clone(), failure.clone());
            async move { backend.keep(|| std::future::ready(Err(failure.clone()))).await }
        });
        assert_eq!(waiting.await.expect("the waiting request ends"), Err(failure.clone()));
        assert_eq!(backend.running().await.map(drop), Err(failure));
        keeper.abort();
    }

    #[tokio::test]
    async fn requests_after_quitting_are_refused_and_no_new_attempt_is_made() {
        let backend = Backend::new();
        backend.stop().await;
        let failure = backend.running().await.map(drop).expect_err("it is quitting");
        assert_eq!(failure.code, FailureCode::Cancelled);
        backend.keep(|| std::future::ready(Err(Failure::new(FailureCode::Io, "no")))).await;
    }
}
