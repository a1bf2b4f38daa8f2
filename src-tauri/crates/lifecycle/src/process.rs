//! Starting the worker's process: a trait, so that tests can put a thread in its place.

use std::ffi::OsString;
use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::pin::Pin;
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};

/// Starts workers.
pub trait Spawn: Send + Sync + 'static {
    /// Starts one and returns the owner's end of its socket. Must be called on a tokio runtime.
    fn spawn(&self) -> io::Result<Spawned>;
}

/// A worker that has been started and has not yet said anything.
pub struct Spawned {
    /// The owner's end of the socket.
    pub stream: UnixStream,
    /// The process.
    pub process: Box<dyn Process>,
}

/// A process that can be waited for and killed; it is killed when dropped.
pub trait Process: Send + Sync {
    /// Its process id.
    fn id(&self) -> u32;
    /// Waits until it has ended and says how, in words.
    fn ended(&mut self) -> Pin<Box<dyn Future<Output = String> + Send + '_>>;
    /// Ends it at once.
    fn kill(&mut self);
}

/// The real thing: a program that speaks the worker's protocol on its standard input.
///
/// The socket is passed as standard input because that needs no unsafe code and survives `exec` on every Unix.
#[derive(Clone, Debug)]
pub struct WorkerProgram {
    /// The program, usually `embedbar`.
    pub program: PathBuf,
    /// Its arguments, usually `worker`.
    pub arguments: Vec<OsString>,
    /// What workers that are started from now on find in their environment besides ours.
    pub environment: Environment,
}

/// Variables for workers; clones share them.
#[derive(Clone, Debug, Default)]
pub struct Environment(Arc<Mutex<Vec<(&'static str, OsString)>>>);

impl Environment {
    /// Sets a variable, or no longer.
    pub fn set(&self, name: &'static str, value: Option<OsString>) {
        let mut variables = self.lock();
        variables.retain(|(known, _)| *known != name);
        variables.extend(value.map(|value| (name, value)));
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(&'static str, OsString)>> {
        self.0.lock().expect("nobody panics while they hold the variables. This is a bug.")
    }
}

impl Spawn for WorkerProgram {
    fn spawn(&self) -> io::Result<Spawned> {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let mut child = Command::new(&self.program)
            .args(&self.arguments)
            .envs(self.environment.lock().iter().cloned())
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            // Ctrl-C in a terminal is for the owner, which ends its worker itself.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| {
                io::Error::new(error.kind(), format!("cannot start the worker `{}`: {error}", self.program.display()))
            })?;
        if let (Some(stderr), Some(pid)) = (child.stderr.take(), child.id()) {
            tokio::spawn(async move {
                let mut lines = BufReader::new(stderr).lines();
                while let Ok(Some(line)) = lines.next_line().await {
                    tracing::info!(target: "worker", pid, "{line}");
                }
            });
        }
        Ok(Spawned { stream: UnixStream::from_std(ours)?, process: Box::new(ChildProcess(child)) })
    }
}

struct ChildProcess(Child);

impl Process for ChildProcess {
    fn id(&self) -> u32 {
        self.0.id().unwrap_or(0)
    }

    fn ended(&mut self) -> Pin<Box<dyn Future<Output = String> + Send + '_>> {
        Box::pin(async {
            match self.0.wait().await {
                Ok(status) => status.to_string(),
                Err(error) => format!("its end could not be read: {error}"),
            }
        })
    }

    fn kill(&mut self) {
        // It may have ended by itself in the meantime.
        let _ = self.0.start_kill();
    }
}
