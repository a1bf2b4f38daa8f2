//! Where log lines go: a file a day in the home, and standard error for what a person at a terminal must see.

use std::path::Path;

use tracing_appender::non_blocking::WorkerGuard;
use tracing_appender::rolling::{RollingFileAppender, Rotation};
use tracing_subscriber::filter::{EnvFilter, LevelFilter};
use tracing_subscriber::prelude::*;

use embedbar_contract::{Failure, FailureCode};

/// Files that are kept, one a day.
const KEPT_FILES: usize = 7;

/// Keeps the log's writer alive; what is still in memory is written when this is dropped.
#[derive(Debug)]
#[must_use = "the log ends when this is dropped"]
pub struct Logging {
    _writer: Option<WorkerGuard>,
}

/// `EMBEDBAR_LOG` in tracing's own syntax, such as `debug` or `embedbar_lifecycle=trace`; `info` where it is not set.
fn filter() -> EnvFilter {
    EnvFilter::builder().with_default_directive(LevelFilter::INFO.into()).with_env_var("EMBEDBAR_LOG").from_env_lossy()
}

/// Logs into `folder`, and warnings also to standard error. For programs that own a home.
pub fn log_to_files(folder: &Path) -> Result<Logging, Failure> {
    let failed = |error: &dyn std::fmt::Display| {
        Failure::new(FailureCode::Io, format!("cannot write a log in `{}`: {error}", folder.display()))
            .hint("Check that the folder is yours and that the disk is not full.")
    };
    std::fs::create_dir_all(folder).map_err(|error| failed(&error))?;
    let appender = RollingFileAppender::builder()
        .rotation(Rotation::DAILY)
        .filename_prefix("embedbar")
        .filename_suffix("log")
        .max_log_files(KEPT_FILES)
        .build(folder)
        .map_err(|error| failed(&error))?;
    let (writer, guard) = tracing_appender::non_blocking(appender);
    let files = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(writer).with_filter(filter());
    let screen = tracing_subscriber::fmt::layer()
        .without_time()
        .with_target(false)
        .with_writer(std::io::stderr)
        .with_filter(LevelFilter::WARN);
    // A second call in the same process, as in tests, keeps the first subscriber.
    let _ = tracing_subscriber::registry().with(files).with(screen).try_init();
    Ok(Logging { _writer: Some(guard) })
}

/// Logs to standard error only. For workers, whose owner copies their lines into its own log.
pub fn log_to_standard_error() -> Logging {
    let screen = tracing_subscriber::fmt::layer()
        .without_time()
        .with_target(false)
        .with_ansi(false)
        .with_writer(std::io::stderr)
        .with_filter(filter());
    let _ = tracing_subscriber::registry().with(screen).try_init();
    Logging { _writer: None }
}
