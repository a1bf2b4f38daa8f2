//! For programs that need an application and do not care whether it is theirs: the owner of the home where there is one, else
//! this program becomes the owner.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use embedbar_contract::{Connection, Failure, FailureCode, ReplyJson, Snapshot, dispatch};
use embedbar_store::{Home, Ownership};
use embedbar_wire::owner::{FromOwner, ToOwner};
use embedbar_wire::{Frame, Hello, Role};
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{oneshot, watch};

use crate::app::{App, Options};

/// How long an owner that has just started is given to open its socket.
const PATIENCE: Duration = Duration::from_secs(5);

/// An application, here or elsewhere; commands go through [`embedbar_contract::Remote`].
pub enum Access {
    /// This program owns the home.
    Owner(Arc<App>),
    /// Another program owns it.
    Client(Client),
}

impl Access {
    /// Finds the home's owner or becomes it.
    pub async fn open(options: Options) -> Result<Self, Failure> {
        let home = Home::open(options.home.clone())?;
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            if let Some(ownership) = Ownership::take(&home)? {
                return Ok(Self::Owner(App::start_as_owner(options, home, ownership).await?));
            }
            match Client::connect(home.owner_socket()?).await {
                Ok(client) => return Ok(Self::Client(client)),
                Err(failure) if !failure.retryable || tokio::time::Instant::now() >= deadline => return Err(failure),
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    /// The newest snapshot, and every one after it.
    pub async fn snapshots(&self) -> Result<watch::Receiver<Arc<Snapshot>>, Failure> {
        match self {
            Self::Owner(app) => Ok(app.snapshots()),
            Self::Client(client) => client.watch().await,
        }
    }

    /// Stops the application where it is this program's own.
    pub async fn close(self) {
        if let Self::Owner(app) = self {
            app.stop().await;
        }
    }
}

impl Connection for Access {
    async fn call(&self, method: &'static str, params: Value) -> Result<ReplyJson, Failure> {
        match self {
            Self::Owner(app) => dispatch(app.as_ref(), method, params).await,
            Self::Client(client) => client.call(method, params).await,
        }
    }
}

type Waiting = Arc<Mutex<Option<HashMap<u64, oneshot::Sender<Result<ReplyJson, Failure>>>>>>;

/// A conversation with the owner of a home.
pub struct Client {
    output: tokio::sync::Mutex<OwnedWriteHalf>,
    last_id: AtomicU64,
    /// Calls without a reply yet; `None` once the owner is gone.
    waiting: Waiting,
    snapshots: watch::Receiver<Arc<Snapshot>>,
}

impl Client {
    async fn connect(path: PathBuf) -> Result<Self, Failure> {
        let unreachable = |detail: String| Failure {
            retryable: true,
            ..Failure::new(
                FailureCode::OwnerMismatch,
                format!("another Embedbar owns this home and cannot be reached on `{}`: {detail}", path.display()),
            )
            .hint("Quit it, or choose another folder with `--home DIR`.")
        };
        let stream = UnixStream::connect(&path).await.map_err(|error| unreachable(error.to_string()))?;
        let (mut input, mut output) = stream.into_split();
        let greeting = Frame::from(ToOwner::Hello(Hello::ours(Role::Client)));
        greeting.write_async(&mut output).await.map_err(|error| unreachable(error.to_string()))?;
        let answer: Frame<FromOwner> =
            Frame::read_async(&mut input).await.map_err(|error| unreachable(error.to_string()))?;
        match answer.header {
            FromOwner::Hello(hello) => hello.check(Role::Owner)?,
            _ => return Err(Failure::new(FailureCode::OwnerMismatch, "the owner of this home does not greet back")),
        }
        let waiting: Waiting = Arc::new(Mutex::new(Some(HashMap::new())));
        let (sender, snapshots) = watch::channel(Arc::default());
        tokio::spawn(hear(input, waiting.clone(), sender));
        Ok(Self { output: tokio::sync::Mutex::new(output), last_id: AtomicU64::new(0), waiting, snapshots })
    }

    async fn say(&self, header: ToOwner) -> Result<(), Failure> {
        Frame::from(header).write_async(&mut *self.output.lock().await).await.map_err(|_| gone())
    }

    async fn call(&self, method: &str, params: Value) -> Result<ReplyJson, Failure> {
        let id = self.last_id.fetch_add(1, Ordering::Relaxed);
        let (sender, reply) = oneshot::channel();
        match self.waiting.lock().expect("nobody panics while they hold the calls. This is a bug.").as_mut() {
            Some(waiting) => drop(waiting.insert(id, sender)),
            None => return Err(gone()),
        }
        self.say(ToOwner::Call { id, method: method.to_owned(), params }).await?;
        reply.await.map_err(|_| gone())?
    }

    async fn watch(&self) -> Result<watch::Receiver<Arc<Snapshot>>, Failure> {
        let mut snapshots = self.snapshots.clone();
        self.say(ToOwner::Watch).await?;
        snapshots.changed().await.map_err(|_| gone())?;
        snapshots.mark_changed();
        Ok(snapshots)
    }
}

async fn hear(mut input: OwnedReadHalf, waiting: Waiting, snapshots: watch::Sender<Arc<Snapshot>>) {
    let answer = |id: u64, outcome: Result<ReplyJson, Failure>| {
        let mut waiting = waiting.lock().expect("nobody panics while they hold the calls. This is a bug.");
        if let Some(sender) = waiting.as_mut().and_then(|waiting| waiting.remove(&id)) {
            let _ = sender.send(outcome); // the caller may have lost interest
        }
    };
    loop {
        let Ok(frame) = Frame::<FromOwner>::read_async(&mut input).await else { break };
        match frame.header {
            FromOwner::Reply { id } => answer(id, reply_json(frame.payload)),
            FromOwner::Failed { id, failure } => answer(id, Err(failure)),
            FromOwner::Snapshot(snapshot) => drop(snapshots.send_replace(Arc::from(snapshot))),
            FromOwner::Hello(_) => {}
        }
    }
    // Dropping the senders wakes every caller.
    *waiting.lock().expect("nobody panics while they hold the calls. This is a bug.") = None;
}

fn reply_json(payload: Vec<u8>) -> Result<ReplyJson, Failure> {
    let text = String::from_utf8(payload).map_err(Failure::internal)?;
    RawValue::from_string(text).map_err(Failure::internal)
}

fn gone() -> Failure {
    Failure {
        retryable: true,
        ..Failure::new(
            FailureCode::Cancelled,
            "the Embedbar that owns this home has ended in the middle of the request",
        )
        .hint("Run the command again; it will start one of its own.")
    }
}
