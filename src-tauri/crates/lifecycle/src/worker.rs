//! The owner's end of one worker: greeting, loading, one exchange at a time.

use std::time::{Duration, Instant};

use tokio::net::UnixStream;
use tokio::time::timeout;

use embedbar_contract::{Failure, FailureCode};
use embedbar_wire::frame::bytes_to_floats;
use embedbar_wire::worker::{BatchSize, Embed, Embedded, FromWorker, Lane, Load, Loaded, ToWorker};
use embedbar_wire::{Frame, FrameError, Hello, Role};

use crate::actor::{Options, Target};
use crate::process::{Process, Spawn, Spawned};

/// How long a worker may take to end once its socket is closed, before it is killed.
const FAREWELL: Duration = Duration::from_secs(1);

/// Texts of different lengths, so that the shorter one is padded in their batch.
const SELF_TEST: [&str; 2] =
    ["Embedbar is ready.", "It embeds texts on this machine, whatever else the machine is doing."];

/// The least cosine between a text's vectors alone and in company: rounding differs, nothing else.
const SAME: f32 = 0.99;

/// A worker whose model answers.
pub(crate) struct Worker {
    stream: UnixStream,
    process: Box<dyn Process>,
    pub(crate) target: Target,
    pub(crate) loaded: Loaded,
    pub(crate) load_ms: f64,
    pub(crate) restarts: u32,
}

/// How an exchange can go wrong.
#[derive(Debug)]
pub(crate) enum ExchangeError {
    /// The worker refused the request and goes on.
    Refused(Failure),
    /// The worker is gone or no longer makes sense; what it had not answered may be sent to its successor.
    Lost(String),
}

/// Vectors and what goes with them.
pub(crate) struct Vectors {
    pub(crate) vectors: Vec<Vec<f32>>,
    pub(crate) embedded: Embedded,
}

/// A worker that has greeted and holds no model yet: a process of some megabytes.
pub(crate) struct Greeted {
    stream: UnixStream,
    process: Box<dyn Process>,
    /// What starting it took.
    took: Duration,
}

impl Greeted {
    /// Starts a process and waits for its greeting.
    pub(crate) async fn start(spawn: &dyn Spawn, options: &Options) -> Result<Self, Failure> {
        let started = Instant::now();
        let Spawned { mut stream, process } = spawn.spawn().map_err(|error| {
            Failure::new(FailureCode::WorkerFailed, error.to_string())
                .hint("Reinstall Embedbar, or set EMBEDBAR_WORKER to the `embedbar` program.")
        })?;
        let greeting = async {
            say(&mut stream, ToWorker::Hello(Hello::ours(Role::Owner))).await?;
            match hear(&mut stream).await?.header {
                FromWorker::Hello(hello) => hello.check(Role::Worker).map_err(ExchangeError::Refused),
                other => Err(unexpected(&other)),
            }
        };
        let outcome = timeout(options.load_deadline, greeting).await;
        let mut greeted = Self { stream, process, took: started.elapsed() };
        match outcome {
            Ok(Ok(())) => Ok(greeted),
            Ok(Err(ExchangeError::Refused(failure))) => Err(greeted.given_up(failure).await),
            Ok(Err(ExchangeError::Lost(how))) => {
                let end = greeted.end_or(how).await;
                let failure =
                    Failure::new(FailureCode::WorkerFailed, format!("a worker died before it said anything ({end})"))
                        .hint("The log has more.");
                Err(greeted.given_up(failure).await)
            }
            Err(_) => {
                let seconds = options.load_deadline.as_secs();
                let failure =
                    Failure::new(FailureCode::WorkerFailed, format!("a worker said nothing within {seconds} s"))
                        .hint("The machine may be short of memory; clean up, and try again.");
                Err(greeted.given_up(failure).await)
            }
        }
    }

    /// Loads `target`. The first embedding belongs to the loading, so that `Ready` means ready.
    pub(crate) async fn load(
        mut self,
        target: Target,
        in_background: bool,
        options: &Options,
    ) -> Result<Worker, Failure> {
        let started = Instant::now();
        let loading = async {
            let load = Load { model: target.id.clone(), source: target.source.clone(), in_background };
            say(&mut self.stream, ToWorker::Load(load)).await?;
            match hear(&mut self.stream).await?.header {
                FromWorker::Loaded(loaded) => Ok(loaded),
                FromWorker::Failed(failure) => Err(ExchangeError::Refused(failure)),
                other => Err(unexpected(&other)),
            }
        };
        let failure = match timeout(options.load_deadline, loading).await {
            Ok(Ok(loaded)) => {
                let Self { stream, process, took } = self;
                let mut worker = Worker { stream, process, target, loaded, load_ms: 0.0, restarts: 0 };
                return match worker.warm_up(options.answer_deadline).await {
                    Ok(()) => {
                        worker.load_ms = (took + started.elapsed()).as_secs_f64() * 1e3;
                        Ok(worker)
                    }
                    Err(failure) => {
                        worker.end().await;
                        Err(failure)
                    }
                };
            }
            Ok(Err(ExchangeError::Refused(failure))) => failure,
            Ok(Err(ExchangeError::Lost(how))) => {
                let end = self.end_or(how).await;
                Failure::new(
                    FailureCode::WorkerFailed,
                    format!("the worker died while it loaded `{}` from `{}` ({end})", target.id, target.source),
                )
                .hint("If the system killed it for memory, close something large or choose a smaller model; the log has more.")
            }
            Err(_) => Failure::new(
                FailureCode::WorkerFailed,
                format!("`{}` did not load within {} s", target.id, options.load_deadline.as_secs()),
            )
            .hint("The machine may be short of memory; clean up or choose a smaller model."),
        };
        Err(self.given_up(failure).await)
    }

    /// How the process ended, or what is known of it otherwise.
    async fn end_or(&mut self, how: String) -> String {
        timeout(FAREWELL, self.process.ended()).await.unwrap_or(how)
    }

    /// Ends the process. What it held is gone before anybody is told: the former model may be about to come back.
    async fn given_up(mut self, failure: Failure) -> Failure {
        self.process.kill();
        let _ = timeout(FAREWELL, self.process.ended()).await;
        failure
    }
}

impl Worker {
    /// Starts a worker and loads `target` into it.
    pub(crate) async fn start(
        spawn: &dyn Spawn,
        target: Target,
        in_background: bool,
        options: &Options,
    ) -> Result<Self, Failure> {
        Greeted::start(spawn, options).await?.load(target, in_background, options).await
    }

    /// The first texts: they cost what a cold model costs, so that no caller pays it, and they are the self-test. A vector must
    /// have the width that the worker declared, be finite and not zero, and be the same alone and in company.
    async fn warm_up(&mut self, deadline: Duration) -> Result<(), Failure> {
        let both = self.try_texts(&SELF_TEST, deadline).await?;
        let alone = self.try_texts(&SELF_TEST[..1], deadline).await?;
        let problem = both.iter().chain(&alone).find_map(|vector| unusable(vector, self.loaded.dims)).or_else(|| {
            let cosine = cosine(&both[0], &alone[0]);
            (cosine < SAME).then(|| format!("a text's vector depends on what is embedded with it (cosine {cosine:.4})"))
        });
        match problem {
            None => Ok(()),
            Some(problem) => Err(Failure::new(
                FailureCode::ModelInvalid,
                format!("`{}` fails its self-test: {problem}", self.target.id),
            )
            .hint("The model's file may be damaged; fetch or convert it again.")),
        }
    }

    async fn try_texts(&mut self, texts: &[&str], deadline: Duration) -> Result<Vec<Vec<f32>>, Failure> {
        let request = Embed {
            texts: texts.iter().map(|&text| text.to_owned()).collect(),
            prompt: embedbar_contract::PromptKind::None,
            recipe: self.loaded.generation.recipe,
            lane: Lane::Query,
            batches: BatchSize::Full,
        };
        match self.exchange(&request, deadline).await {
            Ok(answer) => Ok(answer.vectors),
            Err(ExchangeError::Refused(failure)) => Err(failure),
            Err(ExchangeError::Lost(how)) => Err(Failure::new(
                FailureCode::WorkerFailed,
                format!("the worker died at the first text after it had loaded `{}` ({how})", self.target.id),
            )),
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Sends one request and waits for its answer.
    pub(crate) async fn exchange(&mut self, request: &Embed, deadline: Duration) -> Result<Vectors, ExchangeError> {
        let texts = request.texts.len();
        let exchange = async {
            say(&mut self.stream, ToWorker::Embed(request.clone())).await?;
            let frame = hear(&mut self.stream).await?;
            match frame.header {
                FromWorker::Embedded(embedded) => vectors(embedded, &frame.payload, texts),
                FromWorker::Failed(failure) => Err(ExchangeError::Refused(failure)),
                other => Err(unexpected(&other)),
            }
        };
        match timeout(deadline, exchange).await {
            Ok(outcome) => outcome,
            Err(_) => Err(ExchangeError::Lost(format!("no answer within {} s", deadline.as_secs()))),
        }
    }

    /// Asks the worker to give memory back that it does not use.
    pub(crate) async fn trim(&mut self) -> Result<(), ExchangeError> {
        let exchange = async {
            say(&mut self.stream, ToWorker::Trim).await?;
            match hear(&mut self.stream).await?.header {
                FromWorker::Trimmed => Ok(()),
                other => Err(unexpected(&other)),
            }
        };
        timeout(FAREWELL, exchange).await.unwrap_or_else(|_| Err(ExchangeError::Lost("no answer to a trim".to_owned())))
    }

    /// Waits until the process has ended by itself and says how.
    pub(crate) async fn ended(&mut self) -> String {
        self.process.ended().await
    }

    /// Closes the socket, waits a moment for the process to end, and kills it where it does not.
    pub(crate) async fn end(self) {
        let Self { stream, mut process, .. } = self;
        drop(stream);
        if timeout(FAREWELL, process.ended()).await.is_err() {
            process.kill();
            process.ended().await;
        }
    }
}

/// What is wrong with a vector, if anything is.
fn unusable(vector: &[f32], dims: usize) -> Option<String> {
    if vector.len() != dims {
        return Some(format!("a vector has {} numbers, not {dims}", vector.len()));
    }
    if vector.iter().any(|number| !number.is_finite()) {
        return Some("a vector holds a NaN or an infinite number".to_owned());
    }
    vector.iter().all(|&number| number == 0.0).then(|| "a vector is nothing but zeros".to_owned())
}

fn cosine(left: &[f32], right: &[f32]) -> f32 {
    let dot = |left: &[f32], right: &[f32]| left.iter().zip(right).map(|(left, right)| left * right).sum::<f32>();
    dot(left, right) / (dot(left, left) * dot(right, right)).sqrt()
}

async fn say(stream: &mut UnixStream, header: ToWorker) -> Result<(), ExchangeError> {
    Frame::from(header).write_async(stream).await.map_err(lost)
}

async fn hear(stream: &mut UnixStream) -> Result<Frame<FromWorker>, ExchangeError> {
    Frame::read_async(stream).await.map_err(lost)
}

fn lost(error: FrameError) -> ExchangeError {
    ExchangeError::Lost(match error {
        FrameError::Closed => "it closed its socket".to_owned(),
        FrameError::Header(source) => format!("it said something that is not understood: {source}"),
        FrameError::Io(source) => format!("its socket broke: {source}"),
        other => other.to_string(),
    })
}

fn unexpected(header: &FromWorker) -> ExchangeError {
    let said = name_of(header);
    ExchangeError::Lost(format!("it said `{said}` out of turn"))
}

fn name_of(header: &FromWorker) -> &'static str {
    match header {
        FromWorker::Hello(_) => "hello",
        FromWorker::Loaded(_) => "loaded",
        FromWorker::Embedded(_) => "embedded",
        FromWorker::Failed(_) => "failed",
        FromWorker::Trimmed => "trimmed",
    }
}

/// Cuts the payload into one vector a text, after checking that the worker's figures agree with each other.
fn vectors(embedded: Embedded, payload: &[u8], texts: usize) -> Result<Vectors, ExchangeError> {
    let floats = bytes_to_floats(payload)
        .ok_or_else(|| ExchangeError::Lost(format!("its vectors are cut short ({} bytes)", payload.len())))?;
    let counted = embedded.tokens.len() == texts && embedded.truncated.len() == texts;
    if !counted || texts == 0 || floats.is_empty() || floats.len() % texts != 0 {
        return Err(ExchangeError::Lost(format!("it gave {} numbers for {texts} texts", floats.len())));
    }
    let dims = floats.len() / texts;
    Ok(Vectors { vectors: floats.chunks_exact(dims).map(<[f32]>::to_vec).collect(), embedded })
}
