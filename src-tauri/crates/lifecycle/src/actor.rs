//! The actor: one task, one state.
//!
//! Invariants, each kept by the actor owning the thing alone:
//! - at most one worker serves and at most one other is starting;
//! - a request is with one worker at a time, and with at most two in its life;
//! - the state that others see ([`ModelState`]) is derived from what the actor holds, never set beside it.

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot, watch};

use embedbar_contract::{Failure, FailureCode, Generation, ModelState, PromptKind, RecipeName, Timing, Truncation};
use embedbar_wire::worker::Embed;

use crate::process::Spawn;
use crate::queue::{Lane, Pending, Queue};
use crate::worker::{ExchangeError, Vectors, Worker};

/// The most bytes of text that one bulk exchange carries: a query never waits for longer than this takes.
const BULK_BYTES: usize = 4096;
/// The most texts that one bulk exchange carries.
const BULK_TEXTS: usize = 16;
/// How often a request is sent again after its worker died.
const RETRIES: u32 = 1;
/// A worker that dies younger than this is not replaced before somebody asks for it.
const SHORT_LIFE: Duration = Duration::from_secs(5);

/// A model to load.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Target {
    /// The id that generations carry.
    pub id: String,
    /// A `.gguf` file or a model folder.
    pub path: PathBuf,
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
}

impl Default for Options {
    fn default() -> Self {
        Self { load_deadline: Duration::from_mins(10), answer_deadline: Duration::from_mins(5), queue_limit: 512 }
    }
}

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

/// One text's share of an answer.
type Slot = (Vec<f32>, usize, Option<Truncation>);

enum Message {
    Embed(Pending),
    Activate { target: Target, reply: oneshot::Sender<Result<ModelState, Failure>> },
    Wake { reply: oneshot::Sender<Result<ModelState, Failure>> },
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
}

impl Lifecycle {
    /// Starts the actor. `target` is loaded by the first request, or by [`Lifecycle::activate`].
    pub fn start(spawn: Arc<dyn Spawn>, target: Target, options: Options) -> Self {
        let (messages, inbox) = mpsc::channel(64);
        let (state_sender, state) = watch::channel(ModelState::Idle);
        let waiting = Arc::new(AtomicUsize::new(0));
        let actor = Actor {
            inbox,
            state: state_sender,
            waiting: waiting.clone(),
            spawn,
            options,
            target,
            queue: Queue::default(),
            serving: Serving::None,
            starting: None,
            failure: None,
            restarts: 0,
            ready_since: None,
            outbox: messages.downgrade(),
        };
        tokio::spawn(actor.run());
        Self { messages, state, waiting }
    }

    /// The state, and every change of it.
    pub fn state(&self) -> watch::Receiver<ModelState> {
        self.state.clone()
    }

    /// Requests that wait for the worker.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
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
            Lane::Query => self.send(Embed { texts, prompt, recipe }, lane).await,
            Lane::Bulk => self.embed_in_pieces(texts, prompt, recipe).await,
        }
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
            let request = Embed { texts: piece.iter().map(|&index| texts[index].clone()).collect(), prompt, recipe };
            let mut answer = self.send(request, Lane::Bulk).await?;
            let parts = std::mem::take(&mut answer.vectors).into_iter().zip(&answer.tokens).zip(&answer.truncated);
            for (&index, ((vector, &tokens), &truncated)) in piece.iter().zip(parts) {
                slots[index] = Some((vector, tokens, truncated));
            }
            match &mut whole {
                None => whole = Some(answer),
                Some(whole) if whole.generation != answer.generation => {
                    return Err(Failure {
                        retryable: true,
                        ..Failure::new(FailureCode::WorkerFailed, "the model changed in the middle of a bulk request")
                    });
                }
                Some(whole) => {
                    whole.timing.queue += answer.timing.queue;
                    whole.timing.tokenize += answer.timing.tokenize;
                    whole.timing.forward += answer.timing.forward;
                    whole.timing.total += answer.timing.total;
                }
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

    async fn send(&self, request: Embed, lane: Lane) -> Result<Answer, Failure> {
        let (reply, answer) = oneshot::channel();
        let pending = Pending { request, lane, arrived: Instant::now(), lost: 0, reply };
        self.messages.send(Message::Embed(pending)).await.map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
    }

    /// Makes `target` the active model: it starts beside the present one, which serves until the new one answers and goes on
    /// serving where the new one fails. A newer request takes the place of an older one.
    pub async fn activate(&self, target: Target) -> Result<ModelState, Failure> {
        let (reply, answer) = oneshot::channel();
        self.messages.send(Message::Activate { target, reply }).await.map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
    }

    /// Loads the active model where it is not loaded, and waits until it answers.
    pub async fn wake(&self) -> Result<ModelState, Failure> {
        let (reply, answer) = oneshot::channel();
        self.messages.send(Message::Wake { reply }).await.map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
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
    Busy { exchange: Exchange, shown: ModelState },
}

/// A worker that is on its way.
struct Starting {
    target: Target,
    future: Pin<Box<dyn Future<Output = Result<Worker, Failure>> + Send>>,
    waiters: Vec<oneshot::Sender<Result<ModelState, Failure>>>,
}

struct Actor {
    inbox: mpsc::Receiver<Message>,
    state: watch::Sender<ModelState>,
    waiting: Arc<AtomicUsize>,
    spawn: Arc<dyn Spawn>,
    options: Options,
    /// What a request loads where nothing is loaded.
    target: Target,
    queue: Queue,
    serving: Serving,
    starting: Option<Starting>,
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
    Started(Result<Worker, Failure>),
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
                Event::Started(outcome) => self.started(outcome),
                Event::Exchanged(exchanged) => self.exchanged(*exchanged),
                Event::IdleWorkerEnded(how) => {
                    tracing::warn!(model = self.target.id, how, "the worker ended while it was idle");
                    self.replace_dead_worker();
                }
            }
        }
    }

    async fn next_event(&mut self) -> Event {
        let starting = async {
            match &mut self.starting {
                Some(starting) => starting.future.as_mut().await,
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
            outcome = starting => Event::Started(outcome),
            event = serving => event,
        }
    }

    /// Does whatever can be done with what the actor holds now: hands out the next request, or starts a worker for it.
    fn advance(&mut self) {
        self.queue.drop_abandoned();
        if self.queue.is_empty() {
            return;
        }
        match std::mem::replace(&mut self.serving, Serving::None) {
            Serving::Idle(worker) => {
                let shown = ready(&worker);
                match self.queue.pop() {
                    Some(pending) => {
                        let exchange = Self::exchange(*worker, pending, self.options.answer_deadline);
                        self.serving = Serving::Busy { exchange, shown };
                    }
                    None => self.serving = Serving::Idle(worker),
                }
            }
            Serving::None => {
                if self.starting.is_none() {
                    self.start(self.target.clone(), Vec::new());
                }
            }
            busy @ Serving::Busy { .. } => self.serving = busy,
        }
    }

    fn exchange(mut worker: Worker, pending: Pending, deadline: Duration) -> Exchange {
        Box::pin(async move {
            let started = Instant::now();
            let outcome = worker.exchange(&pending.request, deadline).await;
            Exchanged { worker, pending, started, outcome }
        })
    }

    fn start(&mut self, target: Target, waiters: Vec<oneshot::Sender<Result<ModelState, Failure>>>) {
        tracing::info!(model = target.id, path = %target.path.display(), "starting a worker");
        let (spawn, options, wanted) = (self.spawn.clone(), self.options.clone(), target.clone());
        let future = Box::pin(async move { Worker::start(spawn.as_ref(), wanted, &options).await });
        self.starting = Some(Starting { target, future, waiters });
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
            Message::Activate { target, reply } => self.activate(target, reply),
            Message::Wake { reply } => {
                // A model that is on its way will be the active one.
                let target = self.starting.as_ref().map_or(&self.target, |starting| &starting.target).clone();
                self.activate(target, reply);
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

    fn activate(&mut self, target: Target, reply: oneshot::Sender<Result<ModelState, Failure>>) {
        if let Some(starting) = &mut self.starting {
            if starting.target == target {
                starting.waiters.push(reply);
                return;
            }
            // Dropping the future kills the process that was starting.
            for waiter in self.starting.take().into_iter().flat_map(|starting| starting.waiters) {
                let _ = waiter.send(Err(Failure::new(FailureCode::Cancelled, "another model was chosen meanwhile")));
            }
        }
        // Whatever serves, serves `self.target`.
        let served = match &self.serving {
            Serving::Idle(worker) => Some(ready(worker)),
            Serving::Busy { shown, .. } => Some(shown.clone()),
            Serving::None => None,
        };
        match served {
            Some(state) if self.target == target => drop(reply.send(Ok(state))),
            _ => self.start(target, vec![reply]),
        }
    }

    fn started(&mut self, outcome: Result<Worker, Failure>) {
        let Some(starting) = self.starting.take() else { return };
        match outcome {
            Ok(mut worker) => {
                if starting.target != self.target {
                    self.restarts = 0;
                }
                self.target = starting.target;
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
                for waiter in starting.waiters {
                    let _ = waiter.send(Ok(state.clone()));
                }
            }
            Err(failure) => {
                tracing::warn!(model = starting.target.id, %failure, "a worker could not be started");
                for waiter in starting.waiters {
                    let _ = waiter.send(Err(failure.clone()));
                }
                if matches!(self.serving, Serving::None) {
                    // Nothing serves, so nobody who waits can be helped by waiting longer.
                    self.target = starting.target;
                    while let Some(pending) = self.queue.pop() {
                        let _ = pending.reply.send(Err(failure.clone()));
                    }
                    self.failure = Some(failure);
                }
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
        if lived.is_some_and(|lived| lived >= SHORT_LIFE) && self.starting.is_none() {
            self.start(self.target.clone(), Vec::new());
        }
    }

    fn publish(&self) {
        self.waiting.store(self.queue.len(), Ordering::Relaxed);
        let state = match (&self.serving, &self.starting, &self.failure) {
            (Serving::Idle(worker), _, _) => ready(worker),
            (Serving::Busy { shown, .. }, _, _) => shown.clone(),
            (Serving::None, Some(starting), _) => ModelState::Loading { model: starting.target.id.clone() },
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
        self.starting = None;
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
