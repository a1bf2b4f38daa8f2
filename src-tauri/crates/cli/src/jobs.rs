//! Long work from the command line: what there is, and having it wait, go on or stop.

use embedbar_app::Access;
use embedbar_contract::{Commands as _, Empty, Job, JobHold, JobId, JobState, PauseRequest, Remote};

use crate::output;

pub(crate) async fn list(application: &Remote<Access>, json: bool) -> anyhow::Result<()> {
    let snapshot = application.snapshot(Empty {}).await?;
    for job in &snapshot.jobs {
        if json {
            output::json(job)?;
        } else {
            output::line(&row(job));
        }
    }
    if snapshot.jobs.is_empty() {
        eprintln!("there is no work");
    }
    Ok(())
}

/// Pauses one installation or all bulk work, or lets it go on.
pub(crate) async fn pause(application: &Remote<Access>, job: Option<u64>, paused: bool) -> anyhow::Result<()> {
    running(application)?;
    match job {
        Some(id) => application.hold(JobHold { id, held: paused }).await?,
        None => application.pause(PauseRequest { paused }).await?,
    };
    Ok(())
}

pub(crate) async fn cancel(application: &Remote<Access>, id: u64) -> anyhow::Result<()> {
    running(application)?;
    application.cancel(JobId { id }).await?;
    Ok(())
}

/// Whoever has just become the owner has no work.
fn running(application: &Remote<Access>) -> anyhow::Result<()> {
    if matches!(application.0, Access::Owner(_)) {
        anyhow::bail!("no Embedbar is running on this home, so there is no work to be paused or cancelled");
    }
    Ok(())
}

pub(crate) fn row(job: &Job) -> String {
    let state = match &job.state {
        JobState::Running => "running",
        JobState::Paused => "paused",
        JobState::Cancelling => "stopping",
        JobState::Done => "done",
        JobState::Cancelled => "cancelled",
        JobState::Failed { .. } => "failed",
    };
    format!("{:>3}  {state:<9}  {}  ({})", job.id, job.title, output::progress(job))
}
