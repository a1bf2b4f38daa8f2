//! `embedbar`: the headless half of Embedbar, the instrument for scripts and tests, the worker and the converter.
//!
//! Each command asks the owner of the home, or becomes it for as long as the command takes. Exit status: 0 done, 1 failed (the
//! message is on standard error), 2 wrong usage.

mod arguments;
mod ask;
mod convert;
mod converter;
mod doctor;
mod env;
mod errand;
mod inspect;
mod installer;
mod jobs;
mod latency;
mod library;
mod output;
mod plan;
mod probe;
mod serve;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser as _;
use embedbar_engine::How;

use arguments::{Arguments, Command, CpuBackend, Env};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::report(&error);
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> anyhow::Result<()> {
    match arguments.command {
        // These need no runtime: a worker answers on plain threads, a converter and an installer work on them, and a probe holds the
        // engine itself.
        Command::Worker { backend, packed } => worker(backend, packed),
        Command::Converter => converter::run(),
        Command::Installer => installer::run(),
        Command::Probe(probe) => probe::run(&probe),
        Command::Env { command } if !matches!(command, Env::Use { .. } | Env::Status | Env::Remote { .. }) => {
            env::run(&command, arguments.json)
        }
        Command::Plan(wanted) => plan::run(&wanted, arguments.home, arguments.json),
        command => {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()
                .context("the runtime cannot be started")?;
            let outcome = runtime.block_on(async {
                match command {
                    Command::Serve(options) => serve::run(options, arguments.home).await,
                    Command::Convert(job) => convert::run(job, arguments.json).await,
                    command => ask::run(command, arguments.home, arguments.json).await,
                }
            });
            // A blocking read of standard input must not keep the program alive.
            runtime.shutdown_background();
            outcome
        }
    }
}

fn worker(backend: CpuBackend, packed: Option<PathBuf>) -> anyhow::Result<()> {
    use std::os::fd::AsFd as _;
    use std::os::unix::net::UnixStream;

    let _logging = embedbar_app::log_to_standard_error();
    let socket = std::io::stdin().as_fd().try_clone_to_owned().context("standard input cannot be taken over")?;
    let socket = UnixStream::from(socket);
    socket
        .peer_addr()
        .context("`embedbar worker` is started by Embedbar itself, with a socket as its standard input")?;
    let how = How { arithmetic: backend.into(), packed };
    let open = |id: &str, path: &Path| Ok(embedbar_certify::open(id, path, &how)?);
    Ok(embedbar_worker::run(socket, &open)?)
}
