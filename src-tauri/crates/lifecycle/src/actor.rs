//! The actor: one task, one state.
//!
//! Invariants, each kept by the actor owning the thing alone:
//! - at most one worker serves and at most one other is starting; in a swap that drains first, the old process is gone before
//!   the new one loads;
//! - a request is with one worker at a time, and with at most two in its life;
//! - the state that others see ([`ModelState`]) is derived from what the actor holds, never set beside it.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot, watch};

use embedbar_contract::{Failure, FailureCode, Generation, ModelState, PromptKind, RecipeName, Timing, Truncation};
use embedbar_wire::worker::{BatchSize, Embed, Lane, Source};

use crate::process::Spawn;
use crate::queue::{Pending, Queue};
use crate::worker::{ExchangeError, Greeted, Vectors, Worker};

/// The most bytes of text that one bulk exchange carries: a query never waits for longer than this takes.
const BULK_BYTES: usize = 4096;
/// The most texts that one bulk exchange carries.
const BULK_TEXTS: usize = 16;
/// How often a request is sent again after its worker died.
const RETRIES: u32 = 1;
/// A worker that dies younger than this is not replaced before somebody asks for it.
const SHORT_LIFE: Duration = Duration::from_secs(5);

/// How long a worker that is to make room goes on with queries that wait, so that nobody waits for both models.
const HAND_OVER: Duration = Duration::from_secs(1);

/// What a model is expected to take that has not been loaded yet.
const UNKNOWN_LOAD: Duration = Duration::from_secs(10);

/// A model to load.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Target {
    /// The id that generations carry.
    pub id: String,
    /// What it is opened from.
    pub source: Source,
}

/// How patient the lifecycle is.
#[derive(Clone, Debug)]
pub struct Options {
    /// The longest a worker may take to load.
    pub load_deadline: Duration,
    /// The longest a worker may take for one exchange; after that it counts as hung and is replaced.
    pub answer_deadline: Duration,
    /// Requests that may wait; one more is refused as overloaded.
    pub queue_limit: usize,
    /// The longest a query may wait for a worker; after that it is refused and counted. Bulk work has no such limit.
    pub patience: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            load_deadline: Duration::from_mins(10),
            answer_deadline: Duration::from_mins(5),
            queue_limit: 512,
            patience: Duration::from_mins(10),
        }
    }
}

/// How a model takes another one's place.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Manner {
    /// The new one starts beside the old one, which serves until then: for when both fit into memory.
    Overlap,
    /// The old one serves until nobody waits, a second at most, and ends; only then the new one loads, in a process that has been
    /// started before. What comes meanwhile waits. Where the new one fails, the old one is brought back.
    DrainFirst,
}

/// Whether this generation may answer somebody; the failure is what they are told where it may not.
pub type Guard = Arc<dyn Fn(&Generation) -> Result<(), Failure> + Send + Sync>;

/// The vectors of one request.
#[derive(Clone, Debug)]
pub struct Answer {
    /// One for each text, in its order.
    pub vectors: Vec<Vec<f32>>,
    /// Each text's tokens that were read.
    pub tokens: Vec<usize>,
    /// Each text's truncation, if any.
    pub truncated: Vec<Option<Truncation>>,
    /// What made them.
    pub generation: Generation,
    /// Where the time went, milliseconds.
    pub timing: Timing,
}

impl Answer {
    /// Counts the time of another part of the same request, which must come from the same generation.
    fn join(&mut self, part: &Self) -> Result<(), Failure> {
        if self.generation != part.generation {
            return Err(Failure {
                retryable: true,
                ..Failure::new(
                    FailureCode::WorkerFailed,
                    "the model changed in the middle of a request in several parts",
                )
            });
        }
        self.timing.queue += part.timing.queue;
        self.timing.tokenize += part.timing.tokenize;
        self.timing.forward += part.timing.forward;
        self.timing.total += part.timing.total;
        Ok(())
    }
}

/// One text's share of an answer.
type Slot = (Vec<f32>, usize, Option<Truncation>);

/// Somebody who waits for a model to answer.
type Waiter = oneshot::Sender<Result<ModelState, Failure>>;

enum Message {
    Embed(Pending),
    Activate { target: Target, manner: Manner, reply: Waiter },
    Wake { reply: Waiter },
    Recycle { manner: Manner },
    Unload { reply: oneshot::Sender<bool> },
    Trim { reply: oneshot::Sender<bool> },
    Stop { reply: oneshot::Sender<()> },
}

/// A handle on the actor. Cheap to clone; the actor ends when [`Lifecycle::stop`] is called or the last handle is dropped.
#[derive(Clone)]
pub struct Lifecycle {
    messages: mpsc::Sender<Message>,
    state: watch::Receiver<ModelState>,
    waiting: Arc<AtomicUsize>,
    expired: Arc<AtomicU64>,
    small_batches: Arc<AtomicBool>,
    running: Arc<Mutex<Option<Running>>>,
    patience: Duration,
}

/// A request that a worker is at.
#[derive(Clone, Copy, Debug)]
pub struct Running {
    /// Since when.
    pub since: Instant,
    /// Bytes of its texts.
    pub bytes: usize,
}

impl Lifecycle {
    /// Starts the actor. `target` is loaded by the first request, or by [`Lifecycle::activate`].
    pub fn start(spawn: Arc<dyn Spawn>, target: Target, options: Options) -> Self {
        let (messages, inbox) = mpsc::channel(64);
        let (state_sender, state) = watch::channel(ModelState::Idle);
        let waiting = Arc::new(AtomicUsize::new(0));
        let expired = Arc::new(AtomicU64::new(0));
        let (small_batches, running) = (Arc::default(), Arc::<Mutex<Option<Running>>>::default());
        let patience = options.patience;
        let actor = Actor {
            inbox,
            state: state_sender,
            waiting: waiting.clone(),
            expired: expired.clone(),
            running: running.clone(),
            spawn,
            options,
            target,
            queue: Queue::default(),
            serving: Serving::None,
            coming: Coming::Nothing,
            load_times: HashMap::new(),
            failure: None,
            restarts: 0,
            ready_since: None,
            outbox: messages.downgrade(),
        };
        tokio::spawn(actor.run());
        Self { messages, state, waiting, expired, small_batches, running, patience }
    }

    /// The state, and every change of it.
    pub fn state(&self) -> watch::Receiver<ModelState> {
        self.state.clone()
    }

    /// Requests that wait for the worker.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Queries that were refused because they had waited too long, since the start.
    pub fn expired(&self) -> u64 {
        self.expired.load(Ordering::Relaxed)
    }

    /// Has batches be a quarter of their usual size, or no longer; requests that are on their way keep theirs.
    pub fn set_small_batches(&self, small: bool) {
        self.small_batches.store(small, Ordering::Relaxed);
    }

    /// The request that a worker is at now.
    pub fn running(&self) -> Option<Running> {
        *self.running.lock().expect("nobody panics while they hold it. This is a bug.")
    }

    fn batches(&self) -> BatchSize {
        if self.small_batches.load(Ordering::Relaxed) { BatchSize::Quarter } else { BatchSize::Full }
    }

    /// Embeds texts. Bulk requests are sent in small pieces, so that a query never waits for a long one.
    pub async fn embed(
        &self,
        texts: Vec<String>,
        prompt: PromptKind,
        recipe: RecipeName,
        lane: Lane,
    ) -> Result<Answer, Failure> {
        if texts.is_empty() {
            return Err(
                Failure::new(FailureCode::InvalidRequest, "there is no text to embed").hint("Give at least one text.")
            );
        }
        match lane {
            Lane::Query => {
                let batches = self.batches();
                self.send_halving(Embed { texts, prompt, recipe, lane, batches }, None).await
            }
            Lane::Bulk => self.embed_in_pieces(texts, prompt, recipe).await,
        }
    }

    /// Embeds texts for somebody whom not every model may answer: `guard` is asked right before a worker gets them, and where it
    /// refuses, the worker never sees them.
    pub async fn embed_guarded(
        &self,
        texts: Vec<String>,
        prompt: PromptKind,
        recipe: RecipeName,
        guard: Guard,
    ) -> Result<Answer, Failure> {
        let batches = self.batches();
        self.send_halving(Embed { texts, prompt, recipe, lane: Lane::Query, batches }, Some(guard)).await
    }

    async fn embed_in_pieces(
        &self,
        texts: Vec<String>,
        prompt: PromptKind,
        recipe: RecipeName,
    ) -> Result<Answer, Failure> {
        // Texts of like length share a piece, because a batch is padded to its longest text.
        let mut order: Vec<usize> = (0..texts.len()).collect();
        order.sort_by_key(|&index| texts[index].len());
        let mut whole: Option<Answer> = None;
        let mut slots: Vec<Option<Slot>> = vec![None; texts.len()];
        for piece in pieces(&order, |index| texts[index].len()) {
            let texts = piece.iter().map(|&index| texts[index].clone()).collect();
            let request = Embed { texts, prompt, recipe, lane: Lane::Bulk, batches: self.batches() };
            let mut answer = self.send_halving(request, None).await?;
            let parts = std::mem::take(&mut answer.vectors).into_iter().zip(&answer.tokens).zip(&answer.truncated);
            for (&index, ((vector, &tokens), &truncated)) in piece.iter().zip(parts) {
                slots[index] = Some((vector, tokens, truncated));
            }
            match &mut whole {
                None => whole = Some(answer),
                Some(whole) => whole.join(&answer)?,
            }
        }
        let mut whole = whole.expect("there is at least one text, so at least one piece. This is a bug.");
        (whole.tokens, whole.truncated) = (Vec::new(), Vec::new());
        for slot in slots {
            let (vector, tokens, truncated) = slot.expect("every text is in exactly one piece. This is a bug.");
            whole.vectors.push(vector);
            whole.tokens.push(tokens);
            whole.truncated.push(truncated);
        }
        Ok(whole)
    }

    /// Sends a request; where it has killed its workers, it is sent in halves, because it may be their size that kills: an
    /// out-of-memory kill shows in nothing else.
    async fn send_halving(&self, request: Embed, guard: Option<Guard>) -> Result<Answer, Failure> {
        let failure = match self.send(request.clone(), guard.clone()).await {
            Err(failure) if failure.code == FailureCode::WorkerFailed && request.texts.len() > 1 => failure,
            outcome => return outcome,
        };
        tracing::warn!(texts = request.texts.len(), %failure, "sending the texts in halves");
        let (first, second) = request.texts.split_at(request.texts.len() / 2);
        let half = |texts: &[String]| Embed { texts: texts.to_vec(), ..request.clone() };
        let mut answer = Box::pin(self.send_halving(half(first), guard.clone())).await?;
        let rest = Box::pin(self.send_halving(half(second), guard)).await?;
        answer.join(&rest)?;
        answer.vectors.extend(rest.vectors);
        answer.tokens.extend(rest.tokens);
        answer.truncated.extend(rest.truncated);
        Ok(answer)
    }

    async fn send(&self, request: Embed, guard: Option<Guard>) -> Result<Answer, Failure> {
        let (reply, answer) = oneshot::channel();
        let arrived = Instant::now();
        let deadline = (request.lane == Lane::Query).then(|| arrived + self.patience);
        let pending = Pending { request, guard, arrived, deadline, lost: 0, reply };
        self.messages.send(Message::Embed(pending)).await.map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
    }

    /// Makes `target` the active model and waits until it answers. Where it fails, the present one goes on serving or is brought
    /// back. A newer request takes the place of an older one.
    pub async fn activate(&self, target: Target, manner: Manner) -> Result<ModelState, Failure> {
        let (reply, answer) = oneshot::channel();
        self.messages.send(Message::Activate { target, manner, reply }).await.map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
    }

    /// Loads the active model where it is not loaded, and waits until it answers.
    pub async fn wake(&self) -> Result<ModelState, Failure> {
        let (reply, answer) = oneshot::channel();
        self.messages.send(Message::Wake { reply }).await.map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
    }

    /// Replaces the present worker with a new one of the same model, for one that has grown. Nothing happens where none serves or
    /// another model is coming.
    pub async fn recycle(&self, manner: Manner) {
        // An error means that the actor has ended.
        let _ = self.messages.send(Message::Recycle { manner }).await;
    }

    /// Ends an idle worker; the next request starts one again. False where there was none or it was busy.
    pub async fn unload(&self) -> bool {
        let (reply, answer) = oneshot::channel();
        self.messages.send(Message::Unload { reply }).await.is_ok() && answer.await.unwrap_or(false)
    }

    /// Has an idle worker give memory back that it does not use. False where there was none or it was busy.
    pub async fn trim(&self) -> bool {
        let (reply, answer) = oneshot::channel();
        self.messages.send(Message::Trim { reply }).await.is_ok() && answer.await.unwrap_or(false)
    }

    /// Ends the worker and the actor. What waits is refused.
    pub async fn stop(&self) {
        let (reply, answer) = oneshot::channel();
        if self.messages.send(Message::Stop { reply }).await.is_ok() {
            let _ = answer.await; // an error means that the actor has ended already
        }
    }
}

fn stopped() -> Failure {
    Failure::new(FailureCode::Cancelled, "Embedbar is stopping")
}

/// Cuts `order` into pieces that hold at most [`BULK_BYTES`] and [`BULK_TEXTS`], and at least one text.
fn pieces(order: &[usize], length: impl Fn(usize) -> usize) -> Vec<&[usize]> {
    let mut pieces = Vec::new();
    let (mut start, mut bytes) = (0, 0);
    for (position, &index) in order.iter().enumerate() {
        let added = length(index);
        if position > start && (bytes + added > BULK_BYTES || position - start == BULK_TEXTS) {
            pieces.push(&order[start..position]);
            (start, bytes) = (position, 0);
        }
        bytes += added;
    }
    if start < order.len() {
        pieces.push(&order[start..]);
    }
    pieces
}

type Exchange = Pin<Box<dyn Future<Output = Exchanged> + Send>>;

struct Exchanged {
    worker: Worker,
    pending: Pending,
    started: Instant,
    outcome: Result<Vectors, ExchangeError>,
}

/// The worker that serves.
enum Serving {
    None,
    Idle(Box<Worker>),
    Busy { exchange: Exchange, shown: ModelState, running: Running },
}

/// A model that was asked for, and who waits for it.
struct Wanted {
    target: Target,
    waiters: Vec<Waiter>,
}

/// The model that will serve next, and how far it is.
enum Coming {
    Nothing,
    /// The process of the next worker is starting, without a model; the present one serves on.
    Greeting {
        future: Pin<Box<dyn Future<Output = Result<Greeted, Failure>> + Send>>,
        wanted: Wanted,
    },
    /// The present worker serves on until nobody waits, or until this moment.
    Draining {
        greeted: Greeted,
        wanted: Wanted,
        until: Instant,
    },
    /// The old worker's process is ending; it served `old`.
    Ending {
        future: Pin<Box<dyn Future<Output = ()> + Send>>,
        greeted: Greeted,
        wanted: Wanted,
        old: Target,
    },
    /// A worker is loading. `back_to` is the model that is brought back where it fails.
    Starting {
        future: Pin<Box<dyn Future<Output = Result<Worker, Failure>> + Send>>,
        wanted: Wanted,
        since: Instant,
        back_to: Option<Target>,
    },
}

impl Coming {
    fn wanted(&self) -> Option<&Wanted> {
        match self {
            Self::Nothing => None,
            Self::Greeting { wanted, .. }
            | Self::Draining { wanted, .. }
            | Self::Ending { wanted, .. }
            | Self::Starting { wanted, .. } => Some(wanted),
        }
    }

    fn wanted_mut(&mut self) -> Option<&mut Wanted> {
        match self {
            Self::Nothing => None,
            Self::Greeting { wanted, .. }
            | Self::Draining { wanted, .. }
            | Self::Ending { wanted, .. }
            | Self::Starting { wanted, .. } => Some(wanted),
        }
    }
}

struct Actor {
    inbox: mpsc::Receiver<Message>,
    state: watch::Sender<ModelState>,
    waiting: Arc<AtomicUsize>,
    expired: Arc<AtomicU64>,
    /// For those who want to know how long a request has been taking.
    running: Arc<Mutex<Option<Running>>>,
    spawn: Arc<dyn Spawn>,
    options: Options,
    /// What a request loads where nothing is loaded.
    target: Target,
    queue: Queue,
    serving: Serving,
    coming: Coming,
    /// What loading took when it last succeeded, by target.
    load_times: HashMap<Target, Duration>,
    /// Why the last load failed, until one succeeds.
    failure: Option<Failure>,
    /// How many workers of the present target have died.
    restarts: u32,
    /// Since when the present worker serves.
    ready_since: Option<Instant>,
    /// The way back into the inbox for what a replaced worker leaves unanswered; weak, so that it keeps nobody alive.
    outbox: mpsc::WeakSender<Message>,
}

/// What woke the actor.
enum Event {
    Message(Option<Message>),
    Greeted(Result<Greeted, Failure>),
    Started(Result<Worker, Failure>),
    OldWorkerEnded,
    /// Somebody has waited as long as they may.
    Expired,
    Exchanged(Box<Exchanged>),
    IdleWorkerEnded(String),
}

impl Actor {
    async fn run(mut self) {
        loop {
            self.advance();
            self.publish();
            match self.next_event().await {
                Event::Message(Some(Message::Stop { reply })) => {
                    self.end().await;
                    let _ = reply.send(());
                    return;
                }
                Event::Message(None) => {
                    self.end().await;
                    return;
                }
                Event::Message(Some(message)) => self.receive(message).await,
                Event::Greeted(outcome) => self.greeted(outcome),
                Event::Started(outcome) => self.started(outcome),
                Event::OldWorkerEnded => self.old_worker_ended(),
                Event::Expired => self.refuse_expired(),
                Event::Exchanged(exchanged) => self.exchanged(*exchanged),
                Event::IdleWorkerEnded(how) => {
                    tracing::warn!(model = self.target.id, how, "the worker ended while it was idle");
                    self.replace_dead_worker();
                }
            }
        }
    }

    async fn next_event(&mut self) -> Event {
        let coming = async {
            match &mut self.coming {
                Coming::Greeting { future, .. } => Event::Greeted(future.as_mut().await),
                Coming::Starting { future, .. } => Event::Started(future.as_mut().await),
                Coming::Ending { future, .. } => {
                    future.as_mut().await;
                    Event::OldWorkerEnded
                }
                Coming::Nothing | Coming::Draining { .. } => std::future::pending().await,
            }
        };
        let deadline = self.queue.earliest_deadline();
        let expiry = async {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
                None => std::future::pending().await,
            }
        };
        let serving = async {
            match &mut self.serving {
                Serving::None => std::future::pending().await,
                Serving::Idle(worker) => Event::IdleWorkerEnded(worker.ended().await),
                Serving::Busy { exchange, .. } => Event::Exchanged(Box::new(exchange.as_mut().await)),
            }
        };
        tokio::select! {
            message = self.inbox.recv() => Event::Message(message),
            event = coming => event,
            event = serving => event,
            () = expiry => Event::Expired,
        }
    }

    /// Does whatever can be done with what the actor holds now: ends a worker that makes room, hands out the next request, or
    /// starts a worker for it.
    fn advance(&mut self) {
        self.queue.drop_abandoned();
        if let Coming::Draining { until, .. } = self.coming
            && (Instant::now() >= until || !self.queue.has_queries() || !self.serves())
        {
            self.drain();
            return;
        }
        if self.queue.is_empty() {
            return;
        }
        match std::mem::replace(&mut self.serving, Serving::None) {
            Serving::Idle(worker) => {
                let shown = ready(&worker);
                match self.queue.pop_for(&worker.loaded.generation) {
                    Some(pending) => {
                        let bytes = pending.request.texts.iter().map(String::len).sum();
                        let running = Running { since: Instant::now(), bytes };
                        let exchange = Self::exchange(*worker, pending, self.options.answer_deadline);
                        self.serving = Serving::Busy { exchange, shown, running };
                    }
                    None => self.serving = Serving::Idle(worker),
                }
            }
            Serving::None => {
                if matches!(self.coming, Coming::Nothing) {
                    self.start(Wanted { target: self.target.clone(), waiters: Vec::new() }, None);
                }
            }
            busy @ Serving::Busy { .. } => self.serving = busy,
        }
    }

    /// Ends the present worker as soon as it is at nothing.
    fn drain(&mut self) {
        let old = self.target.clone();
        match std::mem::replace(&mut self.serving, Serving::None) {
            busy @ Serving::Busy { .. } => self.serving = busy,
            Serving::Idle(worker) => {
                if let Coming::Draining { greeted, wanted, .. } = std::mem::replace(&mut self.coming, Coming::Nothing) {
                    tracing::info!(old = old.id, new = wanted.target.id, "ending the old worker to make room");
                    self.coming = Coming::Ending { future: Box::pin(worker.end()), greeted, wanted, old };
                }
            }
            // It died, so there is room already.
            Serving::None => {
                if let Coming::Draining { greeted, wanted, .. } = std::mem::replace(&mut self.coming, Coming::Nothing) {
                    self.load_into(greeted, wanted, Some(old));
                }
            }
        }
    }

    /// The next worker's process is there, or cannot be started; then the present worker serves on.
    fn greeted(&mut self, outcome: Result<Greeted, Failure>) {
        let Coming::Greeting { wanted, .. } = std::mem::replace(&mut self.coming, Coming::Nothing) else { return };
        match outcome {
            Ok(greeted) => self.coming = Coming::Draining { greeted, wanted, until: Instant::now() + HAND_OVER },
            Err(failure) => {
                tracing::warn!(model = wanted.target.id, %failure, "a worker could not be started");
                for waiter in wanted.waiters {
                    let _ = waiter.send(Err(failure.clone()));
                }
            }
        }
    }

    fn old_worker_ended(&mut self) {
        if let Coming::Ending { greeted, wanted, old, .. } = std::mem::replace(&mut self.coming, Coming::Nothing) {
            let back_to = Some(old).filter(|old| *old != wanted.target);
            self.load_into(greeted, wanted, back_to);
        }
    }

    /// Refuses queries that have waited as long as they may, and says when the model is expected.
    fn refuse_expired(&mut self) {
        let expired = self.queue.take_expired(Instant::now());
        self.expired.fetch_add(expired.len() as u64, Ordering::Relaxed);
        let failure = if let Some(remaining) = self.remaining_load() {
            let id = self.coming.wanted().map_or(self.target.id.as_str(), |wanted| wanted.target.id.as_str());
            Failure::new(FailureCode::Loading, format!("`{id}` is still being loaded"))
                .hint("Try again in a moment; memory may be short.")
                .retry_after(remaining)
        } else {
            let patience = self.options.patience.as_secs_f64();
            Failure::new(FailureCode::Overloaded, format!("other requests went first for {patience:.0} s"))
                .hint("Try again in a moment, or send fewer at a time.")
        };
        for pending in expired {
            let _ = pending.reply.send(Err(failure.clone())); // the caller may be gone
        }
    }

    /// How long the model that is coming will probably still take, at least a second; `None` where none is needed.
    fn remaining_load(&self) -> Option<Duration> {
        let wanted = self.coming.wanted().filter(|_| !self.serves())?;
        let whole = self.load_times.get(&wanted.target).copied().unwrap_or(UNKNOWN_LOAD);
        let gone = match &self.coming {
            Coming::Starting { since, .. } => since.elapsed(),
            _ => Duration::ZERO,
        };
        Some(whole.saturating_sub(gone).max(Duration::from_secs(1)))
    }

    fn exchange(mut worker: Worker, pending: Pending, deadline: Duration) -> Exchange {
        Box::pin(async move {
            let started = Instant::now();
            let outcome = worker.exchange(&pending.request, deadline).await;
            Exchanged { worker, pending, started, outcome }
        })
    }

    fn serves(&self) -> bool {
        !matches!(self.serving, Serving::None)
    }

    /// Sets a model on its way while none is. Without one that serves there is nothing to drain.
    fn bring(&mut self, wanted: Wanted, manner: Manner) {
        match manner {
            Manner::DrainFirst if self.serves() => {
                let (spawn, options) = (self.spawn.clone(), self.options.clone());
                let future = Box::pin(async move { Greeted::start(spawn.as_ref(), &options).await });
                self.coming = Coming::Greeting { future, wanted };
            }
            Manner::DrainFirst | Manner::Overlap => self.start(wanted, None),
        }
    }

    fn start(&mut self, wanted: Wanted, back_to: Option<Target>) {
        let target = wanted.target.clone();
        tracing::info!(model = target.id, source = %target.source, "starting a worker");
        let (spawn, options, in_background) = (self.spawn.clone(), self.options.clone(), self.serves());
        let future = Box::pin(async move { Worker::start(spawn.as_ref(), target, in_background, &options).await });
        self.coming = Coming::Starting { future, wanted, since: Instant::now(), back_to };
    }

    /// Has the process that waits load what is wanted, with nobody beside it.
    fn load_into(&mut self, greeted: Greeted, wanted: Wanted, back_to: Option<Target>) {
        let target = wanted.target.clone();
        tracing::info!(model = target.id, source = %target.source, "loading into the new worker");
        let options = self.options.clone();
        let future = Box::pin(async move { greeted.load(target, false, &options).await });
        self.coming = Coming::Starting { future, wanted, since: Instant::now(), back_to };
    }

    async fn receive(&mut self, message: Message) {
        match message {
            Message::Embed(pending) => {
                if self.queue.len() >= self.options.queue_limit {
                    let failure =
                        Failure::new(FailureCode::Overloaded, format!("{} requests wait already", self.queue.len()))
                            .hint("Try again in a moment.");
                    let _ = pending.reply.send(Err(failure)); // the caller may be gone
                } else {
                    self.queue.push(pending);
                }
            }
            Message::Activate { target, manner, reply } => self.activate(target, manner, reply),
            Message::Wake { reply } => {
                // A model that is on its way will be the active one.
                let target = self.coming.wanted().map_or(&self.target, |wanted| &wanted.target).clone();
                self.activate(target, Manner::Overlap, reply);
            }
            Message::Recycle { manner } => {
                if self.serves() && matches!(self.coming, Coming::Nothing) {
                    self.bring(Wanted { target: self.target.clone(), waiters: Vec::new() }, manner);
                }
            }
            Message::Unload { reply } => {
                let unloaded = match std::mem::replace(&mut self.serving, Serving::None) {
                    Serving::Idle(worker) => {
                        worker.end().await;
                        true
                    }
                    other => {
                        self.serving = other;
                        false
                    }
                };
                let _ = reply.send(unloaded);
            }
            Message::Trim { reply } => {
                let trimmed = match &mut self.serving {
                    Serving::Idle(worker) => worker.trim().await.is_ok(),
                    _ => false,
                };
                let _ = reply.send(trimmed);
            }
            Message::Stop { .. } => unreachable!("the loop handles it. This is a bug."),
        }
    }

    fn activate(&mut self, target: Target, manner: Manner, reply: Waiter) {
        if let Some(wanted) = self.coming.wanted_mut() {
            if wanted.target == target {
                wanted.waiters.push(reply);
                return;
            }
            for waiter in std::mem::take(&mut wanted.waiters) {
                let _ = waiter.send(Err(Failure::new(FailureCode::Cancelled, "another model was chosen meanwhile")));
            }
        }
        // Whatever serves, serves `self.target`.
        let served = match &self.serving {
            Serving::Idle(worker) => Some(ready(worker)),
            Serving::Busy { shown, .. } => Some(shown.clone()),
            Serving::None => None,
        };
        if let Some(state) = served.as_ref().filter(|_| self.target == target) {
            let _ = reply.send(Ok(state.clone())); // the caller may be gone
            // Dropping what is coming calls a drain off, and kills a process that was starting.
            self.coming = Coming::Nothing;
            return;
        }
        let wanted = Wanted { target, waiters: vec![reply] };
        // The newest request wins.
        match std::mem::replace(&mut self.coming, Coming::Nothing) {
            Coming::Ending { future, greeted, old, .. } => {
                self.coming = Coming::Ending { future, greeted, wanted, old }
            }
            Coming::Starting { back_to, .. } if served.is_none() => {
                let back_to = back_to.filter(|old| *old != wanted.target);
                self.start(wanted, back_to);
            }
            _ => self.bring(wanted, manner),
        }
    }

    fn started(&mut self, outcome: Result<Worker, Failure>) {
        let Coming::Starting { wanted, back_to, .. } = std::mem::replace(&mut self.coming, Coming::Nothing) else {
            return;
        };
        let Wanted { target, waiters } = wanted;
        match outcome {
            Ok(mut worker) => {
                if target != self.target {
                    self.restarts = 0;
                }
                self.load_times.insert(target.clone(), Duration::from_secs_f64(worker.load_ms.max(0.0) / 1e3));
                self.target = target;
                self.failure = None;
                worker.restarts = self.restarts;
                let state = ready(&worker);
                tracing::info!(
                    model = self.target.id,
                    pid = worker.pid(),
                    load_ms = worker.load_ms,
                    "the model is ready"
                );
                match std::mem::replace(&mut self.serving, Serving::Idle(Box::new(worker))) {
                    Serving::None => {}
                    Serving::Idle(old) => drop(tokio::spawn(old.end())),
                    Serving::Busy { exchange, .. } => drop(tokio::spawn(finish_and_end(exchange, self.outbox.clone()))),
                }
                for waiter in waiters {
                    let _ = waiter.send(Ok(state.clone()));
                }
            }
            Err(failure) => {
                tracing::warn!(model = target.id, %failure, "a worker could not be started");
                for waiter in waiters {
                    let _ = waiter.send(Err(failure.clone()));
                }
                if !matches!(self.serving, Serving::None) {
                    return;
                }
                if let Some(old) = back_to {
                    tracing::info!(model = old.id, "bringing the former model back");
                    self.start(Wanted { target: old, waiters: Vec::new() }, None);
                    return;
                }
                // Nothing serves, so nobody who waits can be helped by waiting longer.
                self.target = target;
                while let Some(pending) = self.queue.pop() {
                    let _ = pending.reply.send(Err(failure.clone()));
                }
                self.failure = Some(failure);
            }
        }
    }

    fn exchanged(&mut self, exchanged: Exchanged) {
        let Exchanged { worker, pending, started, outcome } = exchanged;
        match settle(pending, started, outcome) {
            Settled::Answered => self.serving = Serving::Idle(Box::new(worker)),
            Settled::Lost(pending, how) => {
                tracing::warn!(
                    model = worker.target.id,
                    pid = worker.pid(),
                    how,
                    "the worker died; it is being replaced"
                );
                drop(tokio::spawn(worker.end()));
                if let Some(pending) = pending {
                    self.queue.push_front(pending);
                }
                self.replace_dead_worker();
            }
        }
    }

    /// Starts the successor at once, so that the next query finds it ready; but not where workers die as fast as they start:
    /// then the next request decides whether it is worth another attempt.
    fn replace_dead_worker(&mut self) {
        self.serving = Serving::None;
        self.restarts += 1;
        let lived = self.ready_since.take().map(|since| since.elapsed());
        if lived.is_some_and(|lived| lived >= SHORT_LIFE) && matches!(self.coming, Coming::Nothing) {
            self.start(Wanted { target: self.target.clone(), waiters: Vec::new() }, None);
        }
    }

    fn publish(&self) {
        self.waiting.store(self.queue.len(), Ordering::Relaxed);
        // Derived like the state: what a replaced worker still finishes is no longer what the present one is at.
        *self.running.lock().expect("nobody panics while they hold it. This is a bug.") = match &self.serving {
            Serving::Busy { running, .. } => Some(*running),
            Serving::None | Serving::Idle(_) => None,
        };
        let state = match (&self.serving, self.coming.wanted(), &self.failure) {
            (Serving::Idle(worker), _, _) => ready(worker),
            (Serving::Busy { shown, .. }, _, _) => shown.clone(),
            (Serving::None, Some(wanted), _) => ModelState::Loading { model: wanted.target.id.clone() },
            (Serving::None, None, Some(failure)) => {
                ModelState::Failed { model: self.target.id.clone(), failure: failure.clone() }
            }
            (Serving::None, None, None) => ModelState::Idle,
        };
        self.state.send_if_modified(|shown| {
            let changed = *shown != state;
            *shown = state;
            changed
        });
    }

    async fn end(&mut self) {
        if let Coming::Ending { future, .. } = std::mem::replace(&mut self.coming, Coming::Nothing) {
            future.await;
        }
        if let Serving::Idle(worker) = std::mem::replace(&mut self.serving, Serving::None) {
            worker.end().await;
        }
        while let Some(pending) = self.queue.pop() {
            let _ = pending.reply.send(Err(stopped()));
        }
        self.publish();
    }
}

/// What became of a request.
enum Settled {
    Answered,
    /// The worker is gone; the request comes along where it may be sent again.
    Lost(Option<Pending>, String),
}

fn settle(mut pending: Pending, started: Instant, outcome: Result<Vectors, ExchangeError>) -> Settled {
    match outcome {
        Ok(Vectors { vectors, embedded }) => {
            let timing = Timing {
                queue: (started - pending.arrived).as_secs_f64() * 1e3,
                tokenize: embedded.tokenize_ms,
                forward: embedded.forward_ms,
                total: pending.arrived.elapsed().as_secs_f64() * 1e3,
            };
            let answer = Answer {
                vectors,
                tokens: embedded.tokens,
                truncated: embedded.truncated,
                generation: embedded.generation,
                timing,
            };
            let _ = pending.reply.send(Ok(answer)); // the caller may be gone
            Settled::Answered
        }
        Err(ExchangeError::Refused(failure)) => {
            let _ = pending.reply.send(Err(failure));
            Settled::Answered
        }
        Err(ExchangeError::Lost(how)) if pending.lost < RETRIES => {
            pending.lost += 1;
            Settled::Lost(Some(pending), how)
        }
        Err(ExchangeError::Lost(how)) => {
            let failure = Failure::new(
                FailureCode::WorkerFailed,
                format!("two workers died on this request, the second because {how}"),
            )
            .hint("The text may be what kills them, or the machine is short of memory; the log has more.");
            let _ = pending.reply.send(Err(failure));
            Settled::Lost(None, how)
        }
    }
}

/// Lets a worker that has been replaced finish what it has, then ends it. What it does not finish goes to its successor.
async fn finish_and_end(exchange: Exchange, inbox: mpsc::WeakSender<Message>) {
    let Exchanged { worker, pending, started, outcome } = exchange.await;
    if let Settled::Lost(Some(pending), how) = settle(pending, started, outcome) {
        tracing::warn!(how, "a worker died while it was being replaced");
        if let Some(inbox) = inbox.upgrade() {
            // An error means that the actor has ended; dropping the request tells its caller so.
            let _ = inbox.send(Message::Embed(pending)).await;
        }
    }
    worker.end().await;
}

fn ready(worker: &Worker) -> ModelState {
    ModelState::Ready {
        generation: worker.loaded.generation.clone(),
        dims: worker.loaded.dims,
        backend: worker.loaded.backend,
        max_tokens: worker.loaded.max_tokens,
        worker_pid: worker.pid(),
        load_ms: worker.load_ms,
        restarts: worker.restarts,
    }
}
