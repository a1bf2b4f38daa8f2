//! Model servers on this machine: which models they hold, and how they are asked to unload one.
//!
//! | program | lists | unloads | where nothing can be offered |
//! |---|---|---|---|
//! | Ollama | `GET /api/ps` | `POST /api/generate` with `keep_alive: 0` and no prompt, also for models that only embed | |
//! | LM Studio | `GET /api/v1/models` | `POST /api/v1/models/unload` | before 0.4 there is no unload; where a token is demanded |
//! | llama-server | `GET /models` | `POST /models/unload` | with a single model, which it keeps until it ends |
//!
//! Only loopback addresses are asked, redirects and proxies are not followed, a program that is not there is none, and what
//! answers there need not be the program: a reply that does not look like its own counts as nobody. Replies are bounded in size and
//! time. What is not here: whether memory was gained ([`Outcome`](crate::Outcome)).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::offer::{Deed, Note, Offer, Program};
use crate::text::shown;

mod http;
mod llama_server;
mod lm_studio;
mod ollama;

use http::{HttpError, Reply};

/// How long a program may take to do what it was asked.
const UNLOAD: Duration = Duration::from_secs(10);

/// Between two looks whether it did.
const LOOK: Duration = Duration::from_millis(200);

/// More models than this are not listed.
const MOST_MODELS: usize = 256;

/// A longer name is not one.
const MOST_NAME_BYTES: usize = 1024;

/// Where a model server may listen: on this machine only.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Server {
    program: Program,
    address: SocketAddr,
}

/// An address that is not asked.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// It is not on this machine.
    #[error("`{address}` is not on this machine, so no memory of this machine is held there")]
    NotLoopback {
        /// What was given.
        address: String,
    },
    /// It cannot be asked in plain HTTP.
    #[error("`{address}` cannot be asked: only plain `http://` to this machine is")]
    NotPlain {
        /// What was given.
        address: String,
    },
    /// Docker is no model server.
    #[error("{program} is not asked through an address")]
    NoServer {
        /// The program.
        program: Program,
    },
}

impl Server {
    /// A program at an address, which must be a loopback one.
    pub fn new(program: Program, address: SocketAddr) -> Result<Self, AddressError> {
        if !address.ip().to_canonical().is_loopback() {
            return Err(AddressError::NotLoopback { address: address.to_string() });
        }
        match program {
            Program::Docker => Err(AddressError::NoServer { program }),
            Program::Ollama | Program::LmStudio | Program::LlamaServer => Ok(Self { program, address }),
        }
    }

    /// Ollama, where its variable `OLLAMA_HOST` says, read as Ollama's own command reads it; an address that stands for all of this
    /// machine's is asked through loopback.
    pub fn ollama(host: Option<&str>) -> Result<Self, AddressError> {
        let given = host.unwrap_or_default().trim().trim_matches(['"', '\'']);
        let shown = || shown(given);
        let (rest, usual_port) = match given.split_once("://") {
            None => (given, 11434),
            Some(("http", rest)) => (rest, 80),
            Some(_) => return Err(AddressError::NotPlain { address: shown() }),
        };
        let authority = rest.split('/').next().unwrap_or_default();
        let (name, port) = match authority.rsplit_once(':') {
            // An IPv6 address without a port has colons of its own.
            Some((name, port)) if !name.contains(':') || name.ends_with(']') => {
                (name, port.parse().unwrap_or(usual_port))
            }
            _ => (authority, usual_port),
        };
        let name = name.trim_matches(['[', ']']);
        let address = match name {
            "" | "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
            name => match name.parse::<IpAddr>() {
                Ok(address) if address.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
                Ok(address) => address,
                Err(_) => return Err(AddressError::NotLoopback { address: shown() }),
            },
        };
        Self::new(Program::Ollama, SocketAddr::new(address, port))
            .map_err(|_| AddressError::NotLoopback { address: shown() })
    }

    /// LM Studio and llama-server where they listen unless told otherwise.
    pub fn usual() -> [Self; 2] {
        let at = |program, port| Self { program, address: SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port) };
        [at(Program::LmStudio, 1234), at(Program::LlamaServer, 8080)]
    }

    /// The program.
    pub fn program(&self) -> Program {
        self.program
    }

    /// Its address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it holds, until the deadline. Never an error: who is not there, or is somebody else, holds nothing.
    pub(crate) async fn list(self, deadline: Instant) -> Held {
        let server = self;
        let listed = tokio::task::spawn_blocking(move || match server.program {
            Program::Ollama => ollama::list(server, deadline),
            Program::LmStudio => lm_studio::list(server, deadline),
            Program::LlamaServer => llama_server::list(server, deadline),
            Program::Docker => unreachable!("a `Server` is never Docker. This is a bug."),
        });
        let listed = listed.await.expect("listing does not panic. This is a bug.");
        listed.unwrap_or_else(|problem| Held {
            notes: problem.note().map(|text| server.note(text)).into_iter().collect(),
            ..Held::default()
        })
    }

    /// Asks it to unload a model, and looks whether it did.
    pub(crate) async fn unload(self, model: &Model) -> Deed {
        let (server, raw) = (self, model.raw.clone());
        let asked = tokio::task::spawn_blocking(move || {
            let deadline = Instant::now() + UNLOAD;
            match server.program {
                Program::Ollama => ollama::unload(server, &raw, deadline),
                Program::LmStudio => lm_studio::unload(server, &raw, deadline),
                Program::LlamaServer => llama_server::unload(server, &raw, deadline),
                Program::Docker => unreachable!("a `Server` is never Docker. This is a bug."),
            }
        });
        let reply = match asked.await.expect("asking does not panic. This is a bug.") {
            Ok(reply) => reply,
            Err(error) => {
                return Deed::Unconfirmed { reason: format!("{} was asked, but {error}.", self.program) };
            }
        };
        if !(200..300).contains(&reply.status) {
            return Deed::Refused { reason: format!("{} refused: {}.", self.program, reply.complaint()) };
        }
        let deadline = Instant::now() + UNLOAD;
        loop {
            let held = self.list(Instant::now() + Duration::from_secs(1)).await;
            if held.answered && !held.models.iter().any(|other| other.raw == model.raw) {
                return Deed::Released;
            }
            if Instant::now() >= deadline {
                let seconds = UNLOAD.as_secs();
                return Deed::Unconfirmed {
                    reason: format!(
                        "{} agreed, but {seconds} s later {} was not gone from its list; it may be answering a request.",
                        self.program, model.name
                    ),
                };
            }
            sleep(LOOK).await;
        }
    }

    pub(crate) fn offer(self, model: &Model) -> Offer {
        Offer {
            // The name as it was sent, so that two names that look the same are still two.
            id: format!("{self} {}", model.raw),
            program: self.program,
            name: model.name.clone(),
            detail: String::new(),
            bytes: model.bytes,
        }
    }

    fn note(self, text: String) -> Note {
        Note { program: self.program, text }
    }

    fn get(self, path: &str, deadline: Instant) -> Result<Reply, HttpError> {
        http::send(self.address, path, None, deadline)
    }

    fn post(self, path: &str, body: &Value, deadline: Instant) -> Result<Reply, HttpError> {
        http::send(self.address, path, Some(body), deadline)
    }
}

impl fmt::Display for Server {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} at {}", self.program, self.address)
    }
}

/// A model that a server holds.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Model {
    /// By which the server knows it.
    pub(crate) raw: String,
    /// As it is shown.
    pub(crate) name: String,
    pub(crate) bytes: Option<u64>,
}

impl Model {
    /// `None` for a name that is none.
    fn new(raw: &str, label: Option<&str>, bytes: Option<u64>) -> Option<Self> {
        let name = shown(label.unwrap_or(raw));
        (!name.is_empty() && raw.len() <= MOST_NAME_BYTES).then(|| Self { raw: raw.to_owned(), name, bytes })
    }
}

/// What a server holds.
#[derive(Debug, Default)]
pub(crate) struct Held {
    /// Whether the program itself answered.
    pub(crate) answered: bool,
    pub(crate) models: Vec<Model>,
    pub(crate) notes: Vec<Note>,
}

impl Held {
    fn models(models: impl Iterator<Item = Model>) -> Self {
        Self { answered: true, models: models.take(MOST_MODELS).collect(), notes: Vec::new() }
    }

    fn only_note(server: Server, text: String) -> Self {
        Self { answered: true, models: Vec::new(), notes: vec![server.note(text)] }
    }
}

/// Why a server lists nothing.
#[derive(Debug)]
enum Problem {
    /// Nobody is there, or somebody else.
    Absent,
    /// Somebody is there and is too slow.
    Late(Server),
}

impl Problem {
    fn of(server: Server, error: &HttpError) -> Self {
        match error {
            HttpError::Late => Self::Late(server),
            HttpError::TooLarge | HttpError::Failed(_) => Self::Absent,
        }
    }

    fn note(&self) -> Option<String> {
        match self {
            Self::Absent => None,
            Self::Late(server) => Some(format!(
                "{}, where {} listens, did not answer in time; it may be busy or swapped out.",
                server.address, server.program
            )),
        }
    }
}

/// The list under a name in a reply; each of its elements is judged by itself.
fn elements(reply: &Reply, name: &str) -> Option<Vec<Value>> {
    let mut value: Value = serde_json::from_slice(&reply.body).ok()?;
    match value.get_mut(name)?.take() {
        Value::Array(elements) if reply.status == 200 => Some(elements),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variable_of_ollama_is_read_as_ollama_reads_it_and_only_this_machine_is_asked() {
        let at = |host| Server::ollama(host).map(|server| server.address.to_string());
        let here = [
            (None, "127.0.0.1:11434"),
            (Some(""), "127.0.0.1:11434"),
            (Some(" \"127.0.0.1:1\" "), "127.0.0.1:1"),
            (Some("127.0.0.1"), "127.0.0.1:11434"),
            (Some(":8081"), "127.0.0.1:8081"),
            (Some("0.0.0.0"), "127.0.0.1:11434"),
            (Some("0.0.0.0:5000"), "127.0.0.1:5000"),
            (Some("[::]:5000"), "127.0.0.1:5000"),
            (Some("[::1]"), "[::1]:11434"),
            (Some("::1"), "[::1]:11434"),
            (Some("localhost:99999"), "127.0.0.1:11434"),
            (Some("http://localhost"), "127.0.0.1:80"),
            (Some("http://127.0.0.2:9/path"), "127.0.0.2:9"),
        ];
        for (host, expected) in here {
            assert_eq!(at(host).as_deref(), Ok(expected), "{host:?}");
        }
        for far in
            ["10.0.0.7", "ollama.com", "http://192.168.1.2:11434", "localhost.example.org", "[fe80::1]:1", "\u{1b}x"]
        {
            assert!(matches!(at(Some(far)), Err(AddressError::NotLoopback { .. })), "{far}");
        }
        assert!(matches!(at(Some("https://localhost")), Err(AddressError::NotPlain { .. })));
        let far: SocketAddr = "[::ffff:10.0.0.1]:1".parse().expect("an address");
        assert!(matches!(Server::new(Program::LmStudio, far), Err(AddressError::NotLoopback { .. })));
        let here: SocketAddr = "127.0.0.1:1".parse().expect("an address");
        assert!(matches!(Server::new(Program::Docker, here), Err(AddressError::NoServer { .. })));
    }
}
