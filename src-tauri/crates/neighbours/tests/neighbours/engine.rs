//! A container engine that is played: Docker's API over a list in memory, on a socket of its own, with a fault wherever one is wanted.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

/// What is special about a container.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Kind {
    #[default]
    Usual,
    Paused,
    RemovedOnStop,
    /// While it is stopping it says, as podman does, that it does not run, and cannot be started.
    AsPodman,
}

/// A container of the engine.
#[derive(Clone, Debug, Default)]
pub(crate) struct Box {
    pub(crate) name: String,
    pub(crate) running: bool,
    pub(crate) kind: Kind,
    pub(crate) started_at: String,
    pub(crate) bytes: u64,
    /// How long it goes on running after it was asked to stop.
    pub(crate) slow_to_stop: Duration,
    pub(crate) stopping: bool,
}

/// What happens to a request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Fate {
    /// It is served.
    Served,
    /// It has no effect and no answer.
    Swallowed,
    /// It has its effect and no answer.
    Unanswered,
    /// It has its effect, and the connection is closed without an answer.
    HangsUp,
    /// It has no effect and fails so.
    Fails(u16, &'static str),
    /// It is answered with this, whatever it was.
    Raw(&'static [u8]),
}

/// Decides about a request from its number, counted from 0, and its `METHOD /path`.
pub(crate) type Rule = std::boxed::Box<dyn Fn(usize, &str) -> Fate + Send + Sync>;

struct State {
    boxes: BTreeMap<String, Box>,
    log: Vec<String>,
    /// How many requests were left without an answer.
    silent: usize,
    rule: Arc<Rule>,
}

/// The engine; it ends with the test.
#[derive(Clone)]
pub(crate) struct Engine {
    socket: PathBuf,
    shared: Arc<(Mutex<State>, Condvar)>,
}

/// The id of a container in these tests.
pub(crate) fn id(number: usize) -> String {
    format!("{number:064x}")
}

/// A running container that was started as the given one.
pub(crate) fn running(number: usize) -> (String, Box) {
    let started_at = format!("2026-08-01T10:00:{number:02}Z");
    let one = Box { name: format!("box{number}"), running: true, started_at, bytes: 1000, ..Box::default() };
    (id(number), one)
}

/// A container that is not running.
pub(crate) fn stopped(number: usize) -> (String, Box) {
    let (id, one) = running(number);
    (id, Box { running: false, ..one })
}

impl Engine {
    pub(crate) fn start(folder: &Path, boxes: impl IntoIterator<Item = (String, Box)>) -> Self {
        Self::start_with(folder, boxes, std::boxed::Box::new(|_, _| Fate::Served))
    }

    pub(crate) fn start_with(folder: &Path, boxes: impl IntoIterator<Item = (String, Box)>, rule: Rule) -> Self {
        let socket = folder.join("engine.sock");
        let listener = UnixListener::bind(&socket).expect("it can listen");
        let state = State { boxes: boxes.into_iter().collect(), log: Vec::new(), silent: 0, rule: Arc::new(rule) };
        let engine = Self { socket, shared: Arc::new((Mutex::new(state), Condvar::new())) };
        let server = engine.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let server = server.clone();
                thread::spawn(move || server.serve(stream));
            }
        });
        engine
    }

    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.0.lock().expect("no test panics with it")
    }

    /// From now on requests are judged by another rule. Their numbers go on.
    pub(crate) fn rule(&self, rule: impl Fn(usize, &str) -> Fate + Send + Sync + 'static) {
        self.lock().rule = Arc::new(std::boxed::Box::new(rule));
    }

    /// The numbers of the containers that run.
    pub(crate) fn running(&self) -> Vec<usize> {
        let state = self.lock();
        let running = state.boxes.iter().filter(|(_, one)| one.running);
        running.map(|(id, _)| usize::from_str_radix(id, 16).expect("an id of these tests")).collect()
    }

    pub(crate) fn change(&self, number: usize, change: impl FnOnce(&mut Box)) {
        change(self.lock().boxes.get_mut(&id(number)).expect("it is there"));
    }

    pub(crate) fn remove(&self, number: usize) {
        self.lock().boxes.remove(&id(number));
    }

    /// All requests that stop or start, as `stop 3`.
    pub(crate) fn deeds(&self) -> Vec<String> {
        let state = self.lock();
        let deeds = state.log.iter().filter_map(|request| {
            let (id, verb) = request.strip_prefix("POST /containers/")?.split_once('/')?;
            Some(format!("{verb} {}", usize::from_str_radix(id, 16).ok()?))
        });
        deeds.collect()
    }

    /// How many requests came.
    pub(crate) fn requests(&self) -> usize {
        self.lock().log.len()
    }

    /// Waits until a request was left without an answer; `false` where none was in time.
    pub(crate) fn wait_for_silence(&self, patience: Duration) -> bool {
        let state = self.lock();
        let (state, _) =
            self.shared.1.wait_timeout_while(state, patience, |state| state.silent == 0).expect("no panic");
        state.silent > 0
    }

    fn serve(&self, mut stream: UnixStream) {
        let Some((request, length)) = read_head(&mut stream) else { return };
        let mut body = vec![0; length];
        if stream.read_exact(&mut body).is_err() {
            return;
        }
        let (fate, answer) = {
            let mut state = self.lock();
            let number = state.log.len();
            state.log.push(request.clone());
            let rule = Arc::clone(&state.rule);
            let fate = rule(number, &request);
            let served = matches!(fate, Fate::Served | Fate::Unanswered | Fate::HangsUp);
            let answer = if served { self.answer(&mut state, &request) } else { (200, Value::Null) };
            if matches!(fate, Fate::Swallowed | Fate::Unanswered) {
                state.silent += 1;
                self.shared.1.notify_all();
            }
            (fate, answer)
        };
        let (status, value) = match fate {
            Fate::Served => answer,
            Fate::Fails(status, message) => (status, json!({"message": message})),
            Fate::HangsUp => return,
            Fate::Raw(bytes) => return drop(stream.write_all(bytes)),
            Fate::Swallowed | Fate::Unanswered => {
                // Held open until the other side closes.
                let _ended = stream.read(&mut [0]);
                return;
            }
        };
        if status == 204 || status == 304 {
            let _sent = write!(stream, "HTTP/1.1 {status} x\r\nConnection: close\r\n\r\n");
            return;
        }
        if let Some(wait) = value.get("wait_ms").and_then(Value::as_u64) {
            thread::sleep(Duration::from_millis(wait));
            let _sent = write!(stream, "HTTP/1.1 204 x\r\nConnection: close\r\n\r\n");
            return;
        }
        let body = value.to_string();
        let _sent = write!(
            stream,
            "HTTP/1.1 {status} x\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
    }

    fn answer(&self, state: &mut State, request: &str) -> (u16, Value) {
        if request == "GET /version" {
            return (200, json!({"ApiVersion": "1.47", "Version": "27", "Os": "linux", "Arch": "amd64"}));
        }
        if request == "GET /containers/json" {
            let running = state.boxes.iter().filter(|(_, one)| one.running && one.kind != Kind::Paused);
            let list =
                running.map(|(id, one)| json!({"Id": id, "Names": [format!("/{}", one.name)], "Image": "image:1"}));
            return (200, list.collect());
        }
        let Some((id, verb)) = request.split_once(" /containers/").and_then(|(_, rest)| rest.split_once('/')) else {
            return (404, json!({"message": "page not found"}));
        };
        let id = id.to_owned();
        let Some(one) = state.boxes.get_mut(&id) else {
            return (404, json!({"message": format!("No such container: {id}")}));
        };
        match verb {
            "json" => (
                200,
                json!({
                    "Id": id, "Name": format!("/{}", one.name),
                    "State": {"Running": one.running && !(one.stopping && one.kind == Kind::AsPodman), "Paused": one.kind == Kind::Paused, "StartedAt": one.started_at},
                    "HostConfig": {"AutoRemove": one.kind == Kind::RemovedOnStop}, "Config": {"StopTimeout": null},
                }),
            ),
            "stats" => {
                let stats = json!({"inactive_file": 40});
                (200, json!({"memory_stats": {"usage": one.bytes + 40, "stats": stats, "limit": 1_000_000}}))
            }
            "stop" if !one.running => (304, Value::Null),
            "stop" if !one.slow_to_stop.is_zero() => {
                // It goes on by itself, whether or not anybody waits for the answer.
                let (engine, slow) = (self.clone(), one.slow_to_stop);
                one.stopping = true;
                thread::spawn(move || {
                    thread::sleep(slow);
                    if let Some(one) = engine.lock().boxes.get_mut(&id) {
                        (one.running, one.stopping) = (false, false);
                    }
                });
                (200, json!({"wait_ms": slow.as_millis() as u64 + 20}))
            }
            "stop" => {
                one.running = false;
                if one.kind == Kind::RemovedOnStop {
                    state.boxes.remove(&id);
                }
                (204, Value::Null)
            }
            "start" if one.stopping && one.kind == Kind::AsPodman => {
                (500, json!({"message": "container state improper"}))
            }
            "start" if one.running => (304, Value::Null),
            "start" => {
                one.running = true;
                (204, Value::Null)
            }
            _ => (404, json!({"message": "page not found"})),
        }
    }
}

/// `METHOD /path` without the version of the API and the query, and the length of the body.
fn read_head(stream: &mut UnixStream) -> Option<(String, usize)> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if stream.read(&mut byte).ok()? == 0 {
            return None;
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).ok()?.to_lowercase();
    let mut words = head.split_whitespace();
    let (method, path) = (words.next()?.to_uppercase(), words.next()?);
    let path = path.split('?').next()?;
    let path = path.strip_prefix("/v1.").and_then(|rest| rest.find('/').map(|at| &rest[at..])).unwrap_or(path);
    let length = head.split_once("content-length: ").and_then(|(_, rest)| rest.split_whitespace().next());
    Some((format!("{method} {path}"), length.map_or(0, |length| length.parse().unwrap_or(0))))
}
