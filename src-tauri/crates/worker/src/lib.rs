//! The child process that holds one model, or the connection to one.
//!
//! [`run`] speaks the worker's half of [`embedbar_wire::worker`] until its owner is gone. Reading the socket has a thread of its
//! own, so that the end of the owner is noticed within moments even in the middle of a forward pass; the process then ends
//! without further ado, because the system takes memory back faster than any destructor.
//!
//! What is not here: anything about queues, retries or which model to load.

mod holding;

use std::io::BufReader;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc;
use std::thread;

use embedbar_contract::{Failure, FailureCode};
use embedbar_engine::Engine;
use embedbar_wire::frame::floats_to_bytes;
use embedbar_wire::worker::{Embed, FromWorker, Load, Source, ToWorker};
use embedbar_wire::{Frame, FrameError, Hello, Role};

use crate::holding::{Answer, Holding};

/// Opens the model at a path under an id.
pub type Open<'a> = &'a (dyn Fn(&str, &Path) -> Result<Engine, Failure> + Sync);

/// Serves the owner at the other end of `socket` with models that `open` opens. Returns only where the conversation cannot begin;
/// otherwise the process ends when the owner closes the socket.
pub fn run(mut socket: UnixStream, open: Open) -> Result<(), Failure> {
    let mut input = BufReader::new(socket.try_clone().map_err(|error| broken(&FrameError::Io(error)))?);
    match Frame::read(&mut input).map_err(|error| broken(&error))?.header {
        ToWorker::Hello(hello) => {
            // The owner compares too; it is the one who can tell a person.
            Frame::from(FromWorker::Hello(Hello::ours(Role::Worker)))
                .write(&mut socket)
                .map_err(|error| broken(&error))?;
            hello.check(Role::Owner)?;
        }
        other => return Err(Failure::internal(format!("the owner said {other:?} before its greeting"))),
    }
    let (sender, requests) = mpsc::channel();
    thread::Builder::new()
        .name("socket".to_owned())
        .spawn(move || read_until_the_owner_is_gone(&mut input, &sender))
        .map_err(|error| Failure::internal(format!("a thread cannot be started: {error}")))?;
    let mut holding = None;
    for request in requests {
        answer(&mut holding, open, request).write(&mut socket).map_err(|error| broken(&error))?;
    }
    Ok(())
}

fn read_until_the_owner_is_gone(input: &mut BufReader<UnixStream>, requests: &mpsc::Sender<ToWorker>) {
    loop {
        match Frame::read(input) {
            Ok(frame) => {
                if requests.send(frame.header).is_err() {
                    std::process::exit(0);
                }
            }
            Err(FrameError::Closed) => std::process::exit(0),
            Err(error) => {
                tracing::warn!(%error, "the owner can no longer be understood");
                std::process::exit(1);
            }
        }
    }
}

fn answer(holding: &mut Option<Holding>, open: Open, request: ToWorker) -> Frame<FromWorker> {
    match request {
        ToWorker::Load(load) => match load_by(open, &load) {
            Ok(loaded) => FromWorker::Loaded(holding.insert(loaded).loaded()).into(),
            Err(failure) => FromWorker::Failed(failure).into(),
        },
        ToWorker::Embed(request) => embed(holding.as_mut(), &request).unwrap_or_else(|failure| {
            tracing::warn!(%failure, "texts could not be embedded");
            FromWorker::Failed(failure).into()
        }),
        ToWorker::Trim => {
            embedbar_memory::release_unused();
            FromWorker::Trimmed.into()
        }
        ToWorker::Hello(_) => FromWorker::Failed(Failure::internal("a second greeting")).into(),
    }
}

fn load_by(open: Open, load: &Load) -> Result<Holding, Failure> {
    let Load { model, source, in_background } = load;
    tracing::info!(model, %source, "loading");
    let path = match source {
        Source::File(path) => path,
        Source::Remote(source) => return Holding::connect(source),
    };
    let engine = if *in_background { open_in_background(open, model, path)? } else { open(model, path)? };
    tracing::info!(dims = engine.dims(), backend = %engine.backend(), "loaded");
    Ok(Holding::Model(Box::new(engine)))
}

/// Opens a model on a thread of its own, because a thread that has stepped back may not come forward again. Those that compute
/// with the model later are started before, so that they do not step back with it.
fn open_in_background(open: Open, model: &str, path: &Path) -> Result<Engine, Failure> {
    embedbar_engine::start_threads();
    let opened = thread::scope(|scope| {
        let loader = thread::Builder::new().name("loader".to_owned()).spawn_scoped(scope, || {
            embedbar_memory::step_back();
            open(model, path)
        });
        loader.map(thread::ScopedJoinHandle::join)
    });
    match opened {
        Ok(Ok(opened)) => opened,
        Ok(Err(_)) => Err(Failure::internal(format!("loading `{model}` panicked"))),
        Err(error) => Err(Failure::internal(format!("a thread cannot be started: {error}"))),
    }
}

fn embed(holding: Option<&mut Holding>, request: &Embed) -> Result<Frame<FromWorker>, Failure> {
    let holding = holding.ok_or_else(|| Failure::internal("texts came before a model"))?;
    let Answer { vectors, embedded } = holding.embed(request)?;
    Ok(Frame { header: FromWorker::Embedded(embedded), payload: floats_to_bytes(&vectors.concat()) })
}

fn broken(error: &FrameError) -> Failure {
    Failure::new(FailureCode::WorkerFailed, format!("the owner cannot be reached: {error}"))
}
