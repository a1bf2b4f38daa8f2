//! The actor against workers that misbehave on purpose. The workers are threads that speak the real protocol.

use std::io;
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use embedbar_contract::{BackendName, Failure, FailureCode, Generation, ModelState, Precision, PromptKind, RecipeName};
use embedbar_lifecycle::{Guard, Lane, Lifecycle, Manner, Options, Process, Source, Spawn, Spawned, Target};
use embedbar_wire::frame::floats_to_bytes;
use embedbar_wire::worker::{Embed, Embedded, FromWorker, Loaded, ToWorker};
use embedbar_wire::{Frame, Hello, Role};
use tokio::task::JoinHandle;

/// What a worker does; the n-th worker that is started takes the n-th of these, the last one for ever.
#[derive(Clone, Copy, Debug)]
enum Habit {
    Good,
    /// Refuses the model.
    RefuseToLoad,
    /// Closes its socket instead of answering the n-th text after the warm-up.
    DieAt(usize),
    /// Never answers the first text after the warm-up.
    Hang,
    /// Another build.
    Stranger,
    /// Gives fewer numbers than it should.
    CutShort,
    /// Takes so many milliseconds to greet.
    GreetSlowly(u64),
    /// Greets, and ends when it is to load.
    DieAtLoad,
    /// Takes so many milliseconds to load.
    LoadSlowly(u64),
    /// Is killed by more than so many texts at once.
    DieOfMoreThan(usize),
    /// Gives vectors of nothing but zeros.
    Zeros,
    /// Gives a text another vector in company than alone.
    Fickle,
}

/// Exchanges that belong to loading.
const WARM_UP: usize = 2;

#[derive(Default)]
struct Log {
    started: AtomicUsize,
    /// Workers that hold a model, or load one.
    holding: AtomicUsize,
    most_holding: AtomicUsize,
    texts: Mutex<Vec<String>>,
}

struct Fakes {
    habits: Vec<Habit>,
    log: Arc<Log>,
    /// How long one exchange takes.
    work: Duration,
}

struct FakeProcess {
    pid: u32,
    stream: UnixStream,
    ended: tokio::sync::watch::Receiver<bool>,
}

impl Process for FakeProcess {
    fn id(&self) -> u32 {
        self.pid
    }

    fn ended(&mut self) -> Pin<Box<dyn Future<Output = String> + Send + '_>> {
        Box::pin(async {
            let _ = self.ended.wait_for(|ended| *ended).await;
            "the thread returned".to_owned()
        })
    }

    fn kill(&mut self) {
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
    }
}

impl Drop for FakeProcess {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Spawn for Fakes {
    fn spawn(&self) -> io::Result<Spawned> {
        static PID: AtomicU32 = AtomicU32::new(1000);
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let number = self.log.started.fetch_add(1, Ordering::SeqCst);
        let habit = *self.habits.get(number).or(self.habits.last()).expect("a test names at least one habit");
        let (log, work) = (self.log.clone(), self.work);
        let (sender, ended) = tokio::sync::watch::channel(false);
        let stream = theirs.try_clone()?;
        std::thread::spawn(move || {
            let mut held = false;
            let _ = work_for(theirs, habit, &log, work, &mut held); // any error is the end of this worker
            if held {
                log.holding.fetch_sub(1, Ordering::SeqCst);
            }
            let _ = sender.send(true);
        });
        Ok(Spawned {
            stream: tokio::net::UnixStream::from_std(ours)?,
            process: Box::new(FakeProcess { pid: PID.fetch_add(1, Ordering::SeqCst), stream, ended }),
        })
    }
}

fn work_for(
    mut socket: UnixStream,
    habit: Habit,
    log: &Log,
    work: Duration,
    held: &mut bool,
) -> Result<(), embedbar_wire::FrameError> {
    let mut generation = Generation {
        model: String::new(),
        revision: "0".into(),
        precision: Precision::Int8,
        recipe: RecipeName::Native,
    };
    let mut served = 0;
    loop {
        let frame: Frame<ToWorker> = Frame::read(&mut socket)?;
        match frame.header {
            ToWorker::Hello(_) => {
                if let Habit::GreetSlowly(milliseconds) = habit {
                    std::thread::sleep(Duration::from_millis(milliseconds));
                }
                let mut hello = Hello::ours(Role::Worker);
                if matches!(habit, Habit::Stranger) {
                    hello.build = "another".into();
                }
                Frame::from(FromWorker::Hello(hello)).write(&mut socket)?;
            }
            ToWorker::Load(load) => {
                let holding = log.holding.fetch_add(1, Ordering::SeqCst) + 1;
                log.most_holding.fetch_max(holding, Ordering::SeqCst);
                *held = true;
                if matches!(habit, Habit::DieAtLoad) {
                    socket.shutdown(std::net::Shutdown::Both)?;
                    return Ok(());
                }
                if let Habit::LoadSlowly(milliseconds) = habit {
                    std::thread::sleep(Duration::from_millis(milliseconds));
                }
                generation.model = load.model;
                let answer = if matches!(habit, Habit::RefuseToLoad) {
                    FromWorker::Failed(Failure::new(FailureCode::ModelInvalid, "`x.gguf` is truncated"))
                } else {
                    let generation = generation.clone();
                    FromWorker::Loaded(Loaded { generation, dims: 2, max_tokens: 8, backend: BackendName::CandleCpu })
                };
                Frame::from(answer).write(&mut socket)?;
            }
            ToWorker::Embed(request) => {
                if served >= WARM_UP {
                    std::thread::sleep(work);
                    log.texts.lock().expect("no test panics while it holds this").extend(request.texts.clone());
                }
                match habit {
                    Habit::DieAt(text) if served == WARM_UP - 1 + text => return Ok(()),
                    Habit::DieOfMoreThan(texts) if served >= WARM_UP && request.texts.len() > texts => return Ok(()),
                    Habit::Hang if served >= WARM_UP => std::thread::sleep(Duration::from_secs(3)),
                    _ => {}
                }
                served += 1;
                let mut frame = answer(&request, &generation);
                match habit {
                    Habit::CutShort if served > WARM_UP => drop(frame.payload.pop()),
                    Habit::Zeros => frame.payload.fill(0),
                    Habit::Fickle if request.texts.len() > 1 => frame.payload.rotate_left(4),
                    _ => {}
                }
                frame.write(&mut socket)?;
            }
            ToWorker::Trim => Frame::from(FromWorker::Trimmed).write(&mut socket)?,
        }
    }
}

/// A vector that tells which text it is of: (length, first byte).
fn answer(request: &Embed, generation: &Generation) -> Frame<FromWorker> {
    let floats: Vec<f32> = request.texts.iter().flat_map(|text| vector(text)).collect();
    let embedded = Embedded {
        tokens: request.texts.iter().map(String::len).collect(),
        truncated: vec![None; request.texts.len()],
        generation: generation.clone(),
        tokenize_ms: 0.25,
        forward_ms: 1.0,
    };
    Frame { header: FromWorker::Embedded(embedded), payload: floats_to_bytes(&floats) }
}

fn vector(text: &str) -> [f32; 2] {
    [text.len() as f32, text.bytes().next().map_or(0.0, f32::from)]
}

fn target(id: &str) -> Target {
    Target { id: id.into(), source: Source::File("/models/x.gguf".into()) }
}

fn lifecycle(habits: &[Habit], work_ms: u64) -> (Lifecycle, Arc<Log>) {
    let options = Options { answer_deadline: Duration::from_millis(600), queue_limit: 8, ..Options::default() };
    lifecycle_with(habits, work_ms, options)
}

fn lifecycle_with(habits: &[Habit], work_ms: u64, options: Options) -> (Lifecycle, Arc<Log>) {
    let log = Arc::new(Log::default());
    let fakes = Fakes { habits: habits.to_vec(), log: log.clone(), work: Duration::from_millis(work_ms) };
    (Lifecycle::start(Arc::new(fakes), target("small"), options), log)
}

async fn ask(lifecycle: &Lifecycle, text: &str, lane: Lane) -> Result<embedbar_lifecycle::Answer, Failure> {
    lifecycle.embed(vec![text.to_owned()], PromptKind::None, RecipeName::Native, lane).await
}

/// [`ask`], while the test goes on.
fn asking(lifecycle: &Lifecycle, text: &str, lane: Lane) -> JoinHandle<Result<embedbar_lifecycle::Answer, Failure>> {
    let (lifecycle, text) = (lifecycle.clone(), text.to_owned());
    tokio::spawn(async move { ask(&lifecycle, &text, lane).await })
}

/// Makes a model active, while the test goes on.
fn activating(lifecycle: &Lifecycle, id: &str, manner: Manner) -> JoinHandle<Result<ModelState, Failure>> {
    let (lifecycle, target) = (lifecycle.clone(), target(id));
    tokio::spawn(async move { lifecycle.activate(target, manner).await })
}

#[tokio::test]
async fn the_first_query_loads_and_every_answer_says_what_made_it_and_what_it_cost() {
    let (lifecycle, log) = lifecycle(&[Habit::Good], 0);
    assert_eq!(*lifecycle.state().borrow(), ModelState::Idle);
    let answer = ask(&lifecycle, "hello", Lane::Query).await.expect("a good worker");
    assert_eq!(answer.vectors, [vector("hello")]);
    assert_eq!((answer.generation.model.as_str(), answer.tokens.as_slice()), ("small", [5].as_slice()));
    assert!(answer.timing.forward > 0.0 && answer.timing.total >= answer.timing.queue);
    assert!(matches!(&*lifecycle.state().borrow(), ModelState::Ready { dims: 2, .. }));
    assert_eq!(log.started.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn bulk_texts_come_back_in_their_order_though_they_are_sent_in_pieces() {
    let (lifecycle, log) = lifecycle(&[Habit::Good], 0);
    let texts: Vec<String> = (0..50_usize).map(|i| "abcdefg"[..=i % 7].repeat(1 + (i * 37) % 90)).collect();
    let answer =
        lifecycle.embed(texts.clone(), PromptKind::Document, RecipeName::Native, Lane::Bulk).await.expect("good");
    let expected: Vec<Vec<f32>> = texts.iter().map(|text| vector(text).to_vec()).collect();
    assert_eq!(answer.vectors, expected);
    assert_eq!(answer.tokens, texts.iter().map(String::len).collect::<Vec<_>>());
    assert_eq!(log.texts.lock().expect("unpoisoned").len(), 50);
}

#[tokio::test]
async fn a_query_overtakes_bulk_work_that_waits() {
    let (lifecycle, log) = lifecycle(&[Habit::Good], 30);
    ask(&lifecycle, "warm", Lane::Query).await.expect("good");
    let bulk: Vec<_> = (0..4).map(|i| asking(&lifecycle, &format!("bulk {i}"), Lane::Bulk)).collect();
    tokio::time::sleep(Duration::from_millis(10)).await;
    ask(&lifecycle, "query", Lane::Query).await.expect("good");
    for task in bulk {
        task.await.expect("no panic").expect("good");
    }
    let texts = log.texts.lock().expect("unpoisoned").clone();
    let position = texts.iter().position(|text| text == "query").expect("it was served");
    assert!(position <= 2, "only the exchange that was under way goes first: {texts:?}");
}

#[tokio::test]
async fn what_a_dying_worker_left_unanswered_is_answered_by_its_successor() {
    let (lifecycle, log) = lifecycle(&[Habit::DieAt(2), Habit::Good], 0);
    for text in ["one", "two", "three"] {
        assert_eq!(ask(&lifecycle, text, Lane::Query).await.expect("an answer all the same").vectors, [vector(text)]);
    }
    assert_eq!(log.started.load(Ordering::SeqCst), 2);
    assert!(matches!(&*lifecycle.state().borrow(), ModelState::Ready { restarts: 1, .. }));
}

#[tokio::test]
async fn a_text_that_kills_two_workers_fails_and_the_next_one_is_answered() {
    let (lifecycle, _) = lifecycle(&[Habit::DieAt(1), Habit::DieAt(1), Habit::Good], 0);
    let failure = ask(&lifecycle, "poison", Lane::Query).await.expect_err("both die");
    assert_eq!(failure.code, FailureCode::WorkerFailed);
    ask(&lifecycle, "fine", Lane::Query).await.expect("the third worker is good");
}

#[tokio::test]
async fn a_worker_that_hangs_or_talks_nonsense_is_replaced() {
    for habit in [Habit::Hang, Habit::CutShort] {
        let (lifecycle, log) = lifecycle(&[habit, Habit::Good], 0);
        ask(&lifecycle, "text", Lane::Query).await.expect("the second worker is good");
        assert_eq!(log.started.load(Ordering::SeqCst), 2, "{habit:?}");
    }
}

#[tokio::test]
async fn a_model_that_cannot_be_loaded_is_a_state_with_a_reason_and_everybody_who_waits_is_told() {
    let (lifecycle, _) = lifecycle(&[Habit::RefuseToLoad, Habit::Good], 0);
    let failure = ask(&lifecycle, "x", Lane::Query).await.expect_err("it refuses");
    assert_eq!(failure.message, "`x.gguf` is truncated");
    assert!(matches!(&*lifecycle.state().borrow(), ModelState::Failed { .. }));
    ask(&lifecycle, "x", Lane::Query).await.expect("the next request tries again");
}

#[tokio::test]
async fn a_worker_of_another_build_is_refused_with_both_versions() {
    let (lifecycle, _) = lifecycle(&[Habit::Stranger], 0);
    let failure = ask(&lifecycle, "x", Lane::Query).await.expect_err("it is a stranger");
    assert_eq!(failure.code, FailureCode::OwnerMismatch);
    assert!(failure.message.contains("another"), "{failure}");
}

#[tokio::test]
async fn the_old_model_serves_on_where_the_new_one_fails() {
    let (lifecycle, _) = lifecycle(&[Habit::Good, Habit::RefuseToLoad], 0);
    ask(&lifecycle, "x", Lane::Query).await.expect("good");
    lifecycle.activate(target("broken"), Manner::Overlap).await.expect_err("it refuses");
    assert_eq!(ask(&lifecycle, "x", Lane::Query).await.expect("the old one").generation.model, "small");
}

#[tokio::test]
async fn a_swap_under_load_answers_every_query_and_mixes_no_generations() {
    let (lifecycle, log) = lifecycle(&[Habit::Good], 1);
    ask(&lifecycle, "x", Lane::Query).await.expect("good");
    let load = tokio::spawn({
        let lifecycle = lifecycle.clone();
        async move {
            let mut models = Vec::new();
            for i in 0..200 {
                models.push(
                    ask(&lifecycle, &format!("{i}"), Lane::Query).await.expect("no query fails").generation.model,
                );
            }
            models
        }
    });
    for id in ["large", "small", "large"] {
        tokio::time::sleep(Duration::from_millis(20)).await;
        lifecycle.activate(target(id), Manner::Overlap).await.expect("good");
    }
    let models = load.await.expect("no panic");
    assert_eq!(models.last().map(String::as_str), Some("large"));
    lifecycle.stop().await;
    assert!(log.most_holding.load(Ordering::SeqCst) <= 3, "one serves, one starts, one may be ending");
}

#[tokio::test]
async fn the_queue_has_an_end() {
    let (lifecycle, _) = lifecycle(&[Habit::Good], 50);
    let tasks: Vec<_> = (0..20).map(|i| asking(&lifecycle, &format!("{i}"), Lane::Query)).collect();
    let mut refused = 0;
    for task in tasks {
        match task.await.expect("no panic") {
            Ok(_) => {}
            Err(failure) => {
                assert_eq!((failure.code, failure.retryable), (FailureCode::Overloaded, true));
                refused += 1;
            }
        }
    }
    assert!((8..=12).contains(&refused), "8 wait and the rest is refused, not {refused}");
}

#[tokio::test]
async fn a_request_whose_caller_has_gone_is_not_worked_on() {
    let (lifecycle, log) = lifecycle(&[Habit::Good], 40);
    ask(&lifecycle, "warm", Lane::Query).await.expect("good");
    let first = asking(&lifecycle, "first", Lane::Query);
    tokio::time::sleep(Duration::from_millis(5)).await;
    let abandoned = tokio::time::timeout(Duration::from_millis(5), ask(&lifecycle, "abandoned", Lane::Query)).await;
    assert!(abandoned.is_err(), "it timed out");
    first.await.expect("no panic").expect("good");
    ask(&lifecycle, "last", Lane::Query).await.expect("good");
    assert!(!log.texts.lock().expect("unpoisoned").contains(&"abandoned".to_owned()));
}

#[tokio::test]
async fn unload_ends_the_worker_and_the_next_query_starts_one_again() {
    let (lifecycle, log) = lifecycle(&[Habit::Good], 0);
    ask(&lifecycle, "x", Lane::Query).await.expect("good");
    assert!(lifecycle.trim().await && lifecycle.unload().await);
    assert_eq!(*lifecycle.state().borrow(), ModelState::Idle);
    assert!(!lifecycle.unload().await, "there is none any more");
    ask(&lifecycle, "x", Lane::Query).await.expect("good");
    lifecycle.stop().await;
    assert_eq!(log.started.load(Ordering::SeqCst), 2);
    assert_eq!(ask(&lifecycle, "x", Lane::Query).await.expect_err("stopped").code, FailureCode::Cancelled);
}

/// Asks one thing after the other until told to stop, and gives the models that answered.
fn keep_asking(lifecycle: &Lifecycle, stop: &Arc<std::sync::atomic::AtomicBool>) -> JoinHandle<Vec<String>> {
    let (lifecycle, stop) = (lifecycle.clone(), stop.clone());
    tokio::spawn(async move {
        let mut models = Vec::new();
        while !stop.load(Ordering::SeqCst) {
            let answer = ask(&lifecycle, &format!("{}", models.len()), Lane::Query).await.expect("no query fails");
            models.push(answer.generation.model);
        }
        models
    })
}

#[tokio::test]
async fn a_swap_that_drains_first_drops_nothing_and_never_holds_two_models() {
    let (lifecycle, log) = lifecycle(&[Habit::Good], 1);
    ask(&lifecycle, "x", Lane::Query).await.expect("good");
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let askers: Vec<_> = (0..4).map(|_| keep_asking(&lifecycle, &stop)).collect();
    for round in 0..20 {
        let id = ["large", "small"][round % 2];
        let state = lifecycle.activate(target(id), Manner::DrainFirst).await.expect("good");
        assert!(matches!(state, ModelState::Ready { generation, .. } if generation.model == id));
        // The model that came answers before the next one comes.
        assert_eq!(ask(&lifecycle, "x", Lane::Query).await.expect("good").generation.model, id);
    }
    stop.store(true, Ordering::SeqCst);
    for asker in askers {
        assert!(!asker.await.expect("no query failed").is_empty());
    }
    assert_eq!(log.most_holding.load(Ordering::SeqCst), 1, "two workers held a model at once");
    assert_eq!(log.started.load(Ordering::SeqCst), 21);
}

#[tokio::test]
async fn the_old_model_is_brought_back_where_the_new_one_fails_after_the_drain() {
    let (lifecycle, log) = lifecycle(&[Habit::Good, Habit::RefuseToLoad, Habit::Good], 5);
    ask(&lifecycle, "x", Lane::Query).await.expect("good");
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let asker = keep_asking(&lifecycle, &stop);
    let failure = lifecycle.activate(target("broken"), Manner::DrainFirst).await.expect_err("it refuses");
    assert_eq!(failure.message, "`x.gguf` is truncated");
    assert_eq!(ask(&lifecycle, "x", Lane::Query).await.expect("the old one").generation.model, "small");
    stop.store(true, Ordering::SeqCst);
    assert!(asker.await.expect("no query failed").iter().all(|model| model == "small"));
    assert_eq!((log.started.load(Ordering::SeqCst), log.most_holding.load(Ordering::SeqCst)), (3, 1));
}

#[tokio::test]
async fn the_old_model_serves_on_while_the_process_of_the_new_one_starts() {
    let (lifecycle, log) = lifecycle(&[Habit::Good, Habit::GreetSlowly(400), Habit::Good], 30);
    ask(&lifecycle, "x", Lane::Query).await.expect("good");
    let swap = activating(&lifecycle, "large", Manner::DrainFirst);
    while log.started.load(Ordering::SeqCst) < 2 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let answered = ask(&lifecycle, "y", Lane::Query).await.expect("good");
    assert_eq!(answered.generation.model, "small");
    assert!(!swap.is_finished());
    swap.await.expect("no panic").expect("good");
    assert_eq!(ask(&lifecycle, "x", Lane::Query).await.expect("good").generation.model, "large");
    // What waits does not keep the old one for ever: bulk work is for the new one.
    let bulk: Vec<_> = (0..6).map(|_| asking(&lifecycle, "bulk", Lane::Bulk)).collect();
    lifecycle.activate(target("larger"), Manner::DrainFirst).await.expect("good");
    let mut last = String::new();
    for bulk in bulk {
        last = bulk.await.expect("no panic").expect("good").generation.model;
    }
    assert_eq!(last, "larger");
    assert_eq!(log.most_holding.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_process_that_cannot_greet_or_dies_when_it_is_to_load_leaves_the_old_model() {
    for (habit, started) in [(Habit::Stranger, 2), (Habit::DieAtLoad, 3)] {
        let (lifecycle, log) = lifecycle(&[Habit::Good, habit, Habit::Good], 1);
        ask(&lifecycle, "x", Lane::Query).await.expect("good");
        lifecycle.activate(target("large"), Manner::DrainFirst).await.expect_err("it fails");
        assert_eq!(ask(&lifecycle, "x", Lane::Query).await.expect("good").generation.model, "small");
        // Who cannot even greet is noticed before the old one makes room.
        assert_eq!(log.started.load(Ordering::SeqCst), started);
    }
}

#[tokio::test]
async fn a_text_that_waits_for_one_model_is_never_seen_by_another() {
    let (lifecycle, log) = lifecycle(&[Habit::Good, Habit::LoadSlowly(300)], 1);
    let guard: Guard = Arc::new(|answers: &Generation| match answers.model.as_str() {
        "small" => Ok(()),
        other => Err(Failure::new(FailureCode::Loading, format!("{other} stands in"))),
    });
    let guarded = |text: &str| {
        let (lifecycle, text, guard) = (lifecycle.clone(), text.to_owned(), guard.clone());
        async move { lifecycle.embed_guarded(vec![text], PromptKind::None, RecipeName::Native, guard).await }
    };
    assert_eq!(guarded("mine").await.expect("good").generation.model, "small");
    let swap = activating(&lifecycle, "large", Manner::DrainFirst);
    while !matches!(&*lifecycle.state().borrow(), ModelState::Loading { .. }) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let refusal = guarded("secret").await.expect_err("another model serves");
    assert_eq!(refusal.message, "large stands in");
    assert_eq!(ask(&lifecycle, "open", Lane::Query).await.expect("good").generation.model, "large");
    swap.await.expect("no panic").expect("good");
    assert!(!log.texts.lock().expect("unpoisoned").iter().any(|text| text == "secret"));
}

#[tokio::test]
async fn a_query_that_waits_too_long_for_a_model_is_told_when_to_come_again_and_is_counted() {
    let options = Options { patience: Duration::from_millis(80), ..Options::default() };
    let (lifecycle, _) = lifecycle_with(&[Habit::Good, Habit::LoadSlowly(600)], 0, options);
    ask(&lifecycle, "x", Lane::Query).await.expect("good");
    let swap = activating(&lifecycle, "large", Manner::DrainFirst);
    while !matches!(&*lifecycle.state().borrow(), ModelState::Loading { .. }) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let bulk = asking(&lifecycle, "bulk", Lane::Bulk);
    let failure = ask(&lifecycle, "x", Lane::Query).await.expect_err("it waited long enough");
    assert_eq!((failure.code, failure.retryable), (FailureCode::Loading, true));
    assert!(failure.retry_after_seconds.is_some_and(|seconds| (1..=10).contains(&seconds)), "{failure:?}");
    assert_eq!(lifecycle.expired(), 1);
    swap.await.expect("no panic").expect("good");
    bulk.await.expect("no panic").expect("bulk work is patient");
    assert_eq!(ask(&lifecycle, "x", Lane::Query).await.expect("good").generation.model, "large");
}

#[tokio::test]
async fn the_newest_of_several_swaps_wins_and_the_others_are_told() {
    for manner in [Manner::Overlap, Manner::DrainFirst] {
        let (lifecycle, log) =
            lifecycle(&[Habit::Good, Habit::LoadSlowly(300), Habit::LoadSlowly(300), Habit::Good], 0);
        ask(&lifecycle, "x", Lane::Query).await.expect("good");
        let mut swaps = Vec::new();
        for id in ["a", "b", "c"] {
            swaps.push(activating(&lifecycle, id, manner));
            tokio::time::sleep(Duration::from_millis(40)).await;
        }
        let outcomes =
            [swaps.remove(0).await, swaps.remove(0).await, swaps.remove(0).await].map(|it| it.expect("no panic"));
        assert_eq!(outcomes[0].as_ref().expect_err("replaced").code, FailureCode::Cancelled);
        assert_eq!(outcomes[1].as_ref().expect_err("replaced").code, FailureCode::Cancelled);
        assert!(outcomes[2].is_ok());
        assert_eq!(ask(&lifecycle, "x", Lane::Query).await.expect("good").generation.model, "c");
        assert!(log.started.load(Ordering::SeqCst) <= 4);
    }
}

#[tokio::test]
async fn a_drain_is_called_off_by_choosing_the_present_model_again() {
    let (lifecycle, log) = lifecycle(&[Habit::Good], 150);
    ask(&lifecycle, "x", Lane::Query).await.expect("good");
    let busy = asking(&lifecycle, "busy", Lane::Query);
    tokio::time::sleep(Duration::from_millis(30)).await;
    let swap = activating(&lifecycle, "large", Manner::DrainFirst);
    tokio::time::sleep(Duration::from_millis(30)).await;
    lifecycle.activate(target("small"), Manner::DrainFirst).await.expect("it serves already");
    assert_eq!(swap.await.expect("no panic").expect_err("called off").code, FailureCode::Cancelled);
    assert_eq!(busy.await.expect("no panic").expect("good").generation.model, "small");
    assert_eq!(log.most_holding.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_model_that_fails_its_self_test_never_serves() {
    for (habit, word) in [(Habit::Zeros, "zeros"), (Habit::Fickle, "depends on")] {
        let (lifecycle, _) = lifecycle(&[Habit::Good, habit], 0);
        ask(&lifecycle, "x", Lane::Query).await.expect("good");
        let failure = lifecycle.activate(target("bad"), Manner::Overlap).await.expect_err("it fails its self-test");
        assert_eq!(failure.code, FailureCode::ModelInvalid);
        assert!(failure.message.contains(word), "{failure}");
        assert_eq!(ask(&lifecycle, "x", Lane::Query).await.expect("the old one").generation.model, "small");
    }
}

#[tokio::test]
async fn texts_that_kill_a_worker_together_are_answered_in_smaller_batches() {
    for lane in [Lane::Query, Lane::Bulk] {
        let (lifecycle, log) = lifecycle(&[Habit::DieOfMoreThan(2)], 0);
        let texts: Vec<String> = ["a", "bb", "ccc", "dddd", "eeeee"].map(str::to_owned).to_vec();
        let answer =
            lifecycle.embed(texts.clone(), PromptKind::None, RecipeName::Native, lane).await.expect("in halves");
        let wanted: Vec<Vec<f32>> = texts.iter().map(|text| vector(text).to_vec()).collect();
        assert_eq!(answer.vectors, wanted);
        assert_eq!(answer.tokens, [1, 2, 3, 4, 5]);
        assert!(log.started.load(Ordering::SeqCst) > 2);
    }
}

#[tokio::test]
async fn a_worker_that_has_grown_is_replaced_without_a_dropped_query() {
    for (manner, most) in [(Manner::Overlap, 3), (Manner::DrainFirst, 1)] {
        let (lifecycle, log) = lifecycle(&[Habit::Good], 1);
        ask(&lifecycle, "x", Lane::Query).await.expect("good");
        let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let asker = keep_asking(&lifecycle, &stop);
        lifecycle.recycle(manner).await;
        while log.started.load(Ordering::SeqCst) < 2 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        ask(&lifecycle, "x", Lane::Query).await.expect("good");
        stop.store(true, Ordering::SeqCst);
        asker.await.expect("no query failed");
        assert!(log.most_holding.load(Ordering::SeqCst) <= most);
    }
}

#[tokio::test]
async fn what_a_replaced_worker_finishes_is_not_what_the_present_one_is_at() {
    let (lifecycle, _log) = lifecycle(&[Habit::Good], 100);
    ask(&lifecycle, "x", Lane::Query).await.expect("good");
    assert!(lifecycle.running().is_none());
    let asked = tokio::spawn({
        let lifecycle = lifecycle.clone();
        async move { ask(&lifecycle, "y", Lane::Query).await }
    });
    while lifecycle.running().is_none() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // It is loaded while the old one is at the text, and serves from then on.
    lifecycle.activate(target("large"), Manner::Overlap).await.expect("good");
    asked.await.expect("no panic").expect("good");
    assert!(lifecycle.running().is_none(), "nobody is at anything any more");
}
