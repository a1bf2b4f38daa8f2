//! Model servers that are played: what they offer, what they do when they are asked, and replies that nobody should send.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use embedbar_neighbours::{Deed, Neighbours, Places, Program, Server, Stops, Survey};
use serde_json::{Value, json};

/// What answers a request: its `METHOD /path` and body.
type Script = Box<dyn Fn(&str, &Value) -> Answer + Send + Sync>;

#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// With this status and body, from llama.cpp where that is said.
    Json(u16, Value),
    LlamaCpp(u16, Value),
    Raw(Vec<u8>),
    /// Byte by byte, without end.
    Drip(&'static str),
    /// Without end, as fast as it goes.
    Flood(&'static str),
    Silence,
}

pub(crate) struct Played {
    pub(crate) address: SocketAddr,
    log: Arc<Mutex<Vec<(String, Value)>>>,
}

impl Played {
    pub(crate) fn start(script: impl Fn(&str, &Value) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("it has one");
        let log = Arc::default();
        let (script, seen): (Arc<Script>, _) = (Arc::new(Box::new(script)), Arc::clone(&log));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (script, seen) = (Arc::clone(&script), Arc::clone(&seen));
                thread::spawn(move || serve(&stream, &script, &seen));
            }
        });
        Self { address, log }
    }

    /// The requests that came.
    pub(crate) fn log(&self) -> Vec<(String, Value)> {
        self.log.lock().expect("no panic").clone()
    }

    fn posts(&self) -> Vec<(String, Value)> {
        self.log().into_iter().filter(|(request, _)| request.starts_with("POST")).collect()
    }
}

fn serve(mut stream: &TcpStream, script: &Script, log: &Mutex<Vec<(String, Value)>>) {
    let mut reader = BufReader::new(stream);
    let (mut first, mut length) = (String::new(), 0);
    if reader.read_line(&mut first).unwrap_or(0) == 0 {
        return;
    }
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 || line == "\r\n" {
            break;
        }
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or(0);
        }
    }
    let mut body = vec![0; length];
    if reader.read_exact(&mut body).is_err() {
        return;
    }
    let body: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let request = first.rsplit_once(' ').map_or("", |(request, _)| request).to_owned();
    log.lock().expect("no panic").push((request.clone(), body.clone()));
    let whole = |status: u16, server: &str, body: &Value| {
        let body = body.to_string();
        format!(
            "HTTP/1.1 {status} x\r\n{server}Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        )
    };
    match script(&request, &body) {
        Answer::Json(status, body) => drop(stream.write_all(whole(status, "", &body).as_bytes())),
        Answer::LlamaCpp(status, body) => {
            drop(stream.write_all(whole(status, "Server: llama.cpp\r\n", &body).as_bytes()));
        }
        Answer::Raw(bytes) => drop(stream.write_all(&bytes)),
        Answer::Drip(head) => {
            let _sent = stream.write_all(head.as_bytes());
            while stream.write_all(b" ").is_ok() {
                thread::sleep(Duration::from_millis(20));
            }
        }
        Answer::Flood(head) => {
            let _sent = stream.write_all(head.as_bytes());
            while stream.write_all(&[b' '; 8192]).is_ok() {}
        }
        Answer::Silence => drop(stream.read(&mut [0])),
    }
}

fn neighbours() -> Neighbours {
    Neighbours::new(Arc::new(Stops::new("never/written.json")))
}

fn at(program: Program, address: SocketAddr) -> Places {
    let server = Server::new(program, address).expect("it is loopback");
    Places { servers: vec![server], ..Places::default() }
}

/// A server that holds models until it is asked to unload them.
fn holding(
    models: &[&str],
    list: impl Fn(&[String], &str) -> Answer + Send + Sync + 'static,
    unload: impl Fn(&str, &Value) -> Option<(String, Answer)> + Send + Sync + 'static,
) -> Played {
    let held = Mutex::new(models.iter().map(|name| (*name).to_owned()).collect::<Vec<String>>());
    Played::start(move |request, body| {
        let mut held = held.lock().expect("no panic");
        match unload(request, body) {
            Some((name, answer)) => {
                held.retain(|other| *other != name);
                answer
            }
            None => list(&held, request),
        }
    })
}

fn name_in(body: &Value, field: &str) -> String {
    body[field].as_str().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn ollama_unloads_what_was_chosen_and_nothing_else() {
    let ollama = holding(
        &["qwen3-embedding:4b", "llama3.2:latest"],
        |held, request| match request {
            "GET /api/ps" => {
                let size = |name: &str| if name.starts_with("qwen") { 4_000_000_000_u64 } else { 6_000_000_000 };
                let models: Vec<Value> = held
                    .iter()
                    .map(|name| json!({"name": name, "model": name, "size": size(name), "size_vram": 1, "digest": "x"}))
                    .collect();
                Answer::Json(200, json!({"models": models}))
            }
            _ => Answer::Json(404, json!({"error": "not found"})),
        },
        |request, body| {
            let unloads = request == "POST /api/generate" && body["keep_alive"] == 0 && body.get("prompt").is_none();
            unloads.then(|| (name_in(body, "model"), Answer::Json(200, json!({"done": true, "done_reason": "unload"}))))
        },
    );
    let places = at(Program::Ollama, ollama.address);
    let survey = neighbours().survey(&places).await;
    let names: Vec<_> = survey.offers.iter().map(|offer| (offer.name.as_str(), offer.bytes)).collect();
    let expected = [("llama3.2:latest", Some(6_000_000_000)), ("qwen3-embedding:4b", Some(4_000_000_000))];
    assert_eq!(names, expected, "the largest first");
    assert!(survey.offers[1].action().contains("Ask Ollama to unload qwen3-embedding:4b"));
    assert!(ollama.posts().is_empty(), "a survey only asks");
    let chosen = [survey.offers[1].id.clone(), "Ollama at 127.0.0.1:1 made-up".to_owned()];
    let outcomes = neighbours().accept(&places, &chosen).await;
    assert_eq!(outcomes[0].deed, Deed::Released);
    assert_eq!(outcomes[0].held_bytes, Some(4_000_000_000));
    assert_eq!((outcomes[1].program, &outcomes[1].deed), (None, &Deed::AlreadyGone));
    assert_eq!(ollama.posts().len(), 1);
    let left = neighbours().survey(&places).await;
    assert_eq!(left.offers.len(), 1);
    let again = neighbours().accept(&places, &chosen[..1]).await;
    assert_eq!(again[0].deed, Deed::AlreadyGone);
    assert_eq!(ollama.posts().len(), 1, "what is gone is not asked for again");
}

#[tokio::test]
async fn lm_studio_unloads_one_instance_of_a_model() {
    let studio = holding(
        &["nomic", "nomic:2"],
        |held, request| match request {
            "GET /api/v1/models" => {
                let instances: Vec<Value> = held.iter().map(|id| json!({"id": id, "config": {}})).collect();
                Answer::Json(
                    200,
                    json!({"models": [
                        {"key": "nomic", "display_name": "Nomic Embed", "size_bytes": 274_290_560, "loaded_instances": instances},
                        {"key": "other", "display_name": "Other", "size_bytes": 5, "loaded_instances": []},
                    ]}),
                )
            }
            _ => Answer::Json(200, json!({"error": "Unexpected endpoint"})),
        },
        |request, body| {
            let id = name_in(body, "instance_id");
            (request == "POST /api/v1/models/unload")
                .then(|| (id.clone(), Answer::Json(200, json!({"instance_id": id}))))
        },
    );
    let places = at(Program::LmStudio, studio.address);
    let survey = neighbours().survey(&places).await;
    let names: Vec<_> = survey.offers.iter().map(|offer| (offer.name.as_str(), offer.bytes)).collect();
    assert_eq!(names, [("Nomic Embed (nomic)", Some(274_290_560)), ("Nomic Embed (nomic:2)", Some(274_290_560))]);
    let outcomes = neighbours().accept(&places, &[survey.offers[1].id.clone()]).await;
    assert_eq!(outcomes[0].deed, Deed::Released);
    assert_eq!(studio.posts(), [("POST /api/v1/models/unload".to_owned(), json!({"instance_id": "nomic:2"}))]);
}

#[tokio::test]
async fn an_lm_studio_that_cannot_be_asked_is_named_and_not_offered() {
    let old = Played::start(|request, _| match request {
        "GET /api/v0/models" => Answer::Json(
            200,
            json!({"data": [{"id": "qwen", "state": "loaded"}, {"id": "other", "state": "not-loaded"}]}),
        ),
        _ => Answer::Json(200, json!({"error": "Unexpected endpoint"})),
    });
    let survey = neighbours().survey(&at(Program::LmStudio, old.address)).await;
    assert!(survey.offers.is_empty());
    assert!(survey.notes[0].text.contains("holds qwen and is older than 0.4"), "{survey:?}");
    let locked = Played::start(|_, _| Answer::Json(401, json!({"error": "token"})));
    let survey = neighbours().survey(&at(Program::LmStudio, locked.address)).await;
    assert!(survey.offers.is_empty() && survey.notes[0].text.contains("demands a token"), "{survey:?}");
}

#[tokio::test]
async fn a_router_of_llama_cpp_unloads_what_is_loaded() {
    let router = holding(
        &["ggml-org/gemma:Q4_K_M"],
        |held, request| match request {
            "GET /models" => {
                let value = |name: &str| if held.iter().any(|held| held == name) { "loaded" } else { "unloaded" };
                let model = |name: &str| json!({"id": name, "status": {"value": value(name)}, "meta": {"size": 99}});
                Answer::LlamaCpp(200, json!({"data": [model("ggml-org/gemma:Q4_K_M"), model("other")]}))
            }
            _ => Answer::LlamaCpp(404, json!({})),
        },
        |request, body| {
            let name = name_in(body, "model");
            (request == "POST /models/unload").then(|| (name, Answer::LlamaCpp(200, json!({"success": true}))))
        },
    );
    let places = at(Program::LlamaServer, router.address);
    let survey = neighbours().survey(&places).await;
    assert_eq!(survey.offers.len(), 1);
    assert_eq!(survey.offers[0].bytes, Some(99));
    let outcomes = neighbours().accept(&places, &[survey.offers[0].id.clone()]).await;
    assert_eq!(outcomes[0].deed, Deed::Released);
}

#[tokio::test]
async fn a_llama_server_with_one_model_and_a_stranger_on_its_port_are_not_asked_for_anything() {
    let list = json!({"data": [{"id": "model.gguf", "object": "model", "meta": {"size": 7}}]});
    let (single, strange) = (list.clone(), json!({"data": [{"id": "x", "status": {"value": "loaded"}}]}));
    let single = Played::start(move |_, _| Answer::LlamaCpp(200, single.clone()));
    let survey = neighbours().survey(&at(Program::LlamaServer, single.address)).await;
    assert!(survey.offers.is_empty());
    assert!(survey.notes[0].text.contains("serves model.gguf alone and cannot be asked to unload"), "{survey:?}");
    let stranger = Played::start(move |_, _| Answer::Json(200, strange.clone()));
    let survey = neighbours().survey(&at(Program::LlamaServer, stranger.address)).await;
    assert_eq!(survey, Survey::default());
}

#[tokio::test]
async fn a_refusal_is_told_in_the_programs_own_words() {
    let ps = json!({"models": [{"model": "m", "size": 1}]});
    let ollama = Played::start(move |request, _| match request {
        "GET /api/ps" => Answer::Json(200, ps.clone()),
        _ => Answer::Json(500, json!({"error": "the model is\u{1b}[2J pinned."})),
    });
    let places = at(Program::Ollama, ollama.address);
    let survey = neighbours().survey(&places).await;
    let outcomes = neighbours().accept(&places, &[survey.offers[0].id.clone()]).await;
    let reason = "Ollama refused: the model is[2J pinned (status 500).".to_owned();
    assert_eq!(outcomes[0].deed, Deed::Refused { reason });
}

#[tokio::test]
async fn a_program_that_agrees_and_keeps_the_model_is_not_believed() {
    let ps = json!({"models": [{"model": "m", "size": 1}]});
    let ollama = Played::start(move |_, _| Answer::Json(200, ps.clone()));
    let places = at(Program::Ollama, ollama.address);
    let survey = neighbours().survey(&places).await;
    let outcomes = neighbours().accept(&places, &[survey.offers[0].id.clone()]).await;
    let Deed::Unconfirmed { reason } = &outcomes[0].deed else { panic!("{outcomes:?}") };
    assert!(reason.contains("was not gone from its list"), "{reason}");
}

#[tokio::test]
async fn hostile_replies_offer_nothing_and_end_in_time() {
    let head = "HTTP/1.1 200 OK\r\nServer: llama.cpp\r\nContent-Type: application/json\r\n\r\n{";
    let deep = format!("HTTP/1.1 200 OK\r\nServer: llama.cpp\r\n\r\n{}", "[".repeat(100_000));
    let long = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n{{}}", "x".repeat(100_000));
    let hostile = [
        Answer::Raw(b"HTTP/1.1 200 OK\r\nServer: llama.cpp\r\n\r\n<html>models</html>".to_vec()),
        Answer::Raw(b"\x16\x03\x01\x00\x00".to_vec()),
        Answer::Raw(b"HTTP/1.1 302 Found\r\nLocation: http://192.0.2.1/\r\nContent-Length: 0\r\n\r\n".to_vec()),
        Answer::Raw(deep.into_bytes()),
        Answer::Raw(long.into_bytes()),
        Answer::Raw(Vec::new()),
        Answer::Drip(head),
        Answer::Drip("HTTP/1.1 200 OK\r\nX: "),
        Answer::Flood(head),
        Answer::Silence,
        Answer::LlamaCpp(200, json!({"models": "none", "data": {"id": 3}})),
        Answer::LlamaCpp(
            200,
            json!({"models": [3, null, {"model": 5}, {"model": ""}], "data": [[], {"id": {}}, {"status": 1}]}),
        ),
        Answer::LlamaCpp(
            500,
            json!({"models": [{"model": "m"}], "data": [{"id": "m", "status": {"value": "loaded"}}]}),
        ),
    ];
    for answer in hostile {
        let told = format!("{answer:?}").chars().take(200).collect::<String>();
        let played = Played::start(move |_, _| answer.clone());
        for program in [Program::Ollama, Program::LmStudio, Program::LlamaServer] {
            let begin = Instant::now();
            let survey = neighbours().survey(&at(program, played.address)).await;
            assert!(survey.offers.is_empty(), "{program}, {told}: {survey:?}");
            assert!(begin.elapsed() < Duration::from_secs(4), "{program}, {told}: {:?}", begin.elapsed());
        }
        assert!(played.posts().is_empty(), "{told}");
    }
}

#[tokio::test]
async fn names_are_cleaned_before_they_are_shown_and_sent_back_as_they_were() {
    let raw = "evil\u{1b}]0;title\u{7}\u{202e}";
    let ollama = holding(
        &[raw],
        |held, _| {
            Answer::Json(
                200,
                json!({"models": held.iter().map(|name| json!({"model": name, "size": -5})).collect::<Vec<_>>()}),
            )
        },
        |request, body| {
            (request == "POST /api/generate").then(|| (name_in(body, "model"), Answer::Json(200, json!({}))))
        },
    );
    let places = at(Program::Ollama, ollama.address);
    let survey = neighbours().survey(&places).await;
    assert_eq!((survey.offers[0].name.as_str(), survey.offers[0].bytes), ("evil]0;title", None));
    let outcomes = neighbours().accept(&places, &[survey.offers[0].id.clone()]).await;
    assert_eq!(outcomes[0].deed, Deed::Released);
    assert_eq!(ollama.posts()[0].1["model"], raw);
}
