//! The client before a server that misbehaves: every departure becomes its own sentence, within the deadline, and without
//! the key.

mod server;

use std::net::{TcpListener, TcpStream};
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use embedbar_contract::Failure;
use embedbar_remote::{AnswerFault, Endpoint, Key, RemoteBatch, RemoteEmbedder, RemoteError};
use proptest::prelude::*;
use serde_json::{Value, json};

use server::{Reply, Server, answers, changed, drips, falls_silent_after, respond, right, says, vector_of, writes};

const KEY: &str = "sk-hunter2-Y29ycmVjdA";
const WIDTH: usize = 4;

/// A line of a script that is needed twice.
type MakeReply = fn() -> Reply;

/// Long enough that no busy machine exceeds it by accident.
const DEADLINE: Duration = Duration::from_secs(20);

/// For servers that are to be given up.
const SHORT: Duration = Duration::from_millis(700);

/// What would otherwise never end has ended by then, on a busy machine too.
const SOON: Duration = Duration::from_secs(15);

fn endpoint(url: &str, deadline: Duration) -> Endpoint {
    let key = Key::new(KEY).expect("it is one");
    Endpoint::new(url, Some(key), "model-x", None, deadline).expect("it is on this machine")
}

fn open(server: &Server, deadline: Duration) -> RemoteEmbedder {
    RemoteEmbedder::open(endpoint(&server.url(), deadline)).expect("nothing is sent yet")
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|&text| text.to_owned()).collect()
}

/// What becomes of two texts, and what the server was asked. No outcome shows the key.
fn outcome(script: Vec<Reply>, deadline: Duration) -> (Result<RemoteBatch, RemoteError>, Server, Duration) {
    let server = Server::start(script);
    let embedder = open(&server, deadline);
    let start = Instant::now();
    let outcome = embedder.embed(&texts(&["one", "three"]));
    let elapsed = start.elapsed();
    if let Err(error) = &outcome {
        assert_no_key(error);
    }
    (outcome, server, elapsed)
}

/// The error that a server leads to which always behaves like this, and how often it was asked.
fn error_of(reply: Reply) -> (RemoteError, usize) {
    let (outcome, server, _) = outcome(vec![reply], DEADLINE);
    (outcome.expect_err("the server misbehaves"), server.asked().len())
}

fn assert_no_key(error: &RemoteError) {
    for form in [error.to_string(), format!("{error:?}"), format!("{:?}", Failure::from(error.clone()))] {
        assert!(!form.to_lowercase().contains("hunter2"), "{form}");
    }
}

fn unit(vector: &[f32]) -> Vec<f32> {
    let length = vector.iter().map(|number| number * number).sum::<f32>().sqrt();
    vector.iter().map(|number| number / length).collect()
}

fn assert_right(batch: &RemoteBatch, of: &[&str]) {
    assert_eq!(batch.vectors.len(), of.len());
    for (vector, text) in batch.vectors.iter().zip(of) {
        for (got, wanted) in vector.iter().zip(unit(&vector_of(text, WIDTH))) {
            assert!((got - wanted).abs() < 1e-6, "{vector:?}");
        }
    }
}

// ---------------------------------------------------------------- right answers

#[test]
fn a_right_answer_gives_unit_vectors_and_the_request_is_what_openai_documents() {
    let (outcome, server, _) = outcome(vec![answers(WIDTH)], DEADLINE);
    let batch = outcome.expect("the server behaves");
    assert_right(&batch, &["one", "three"]);
    assert_eq!(batch.tokens, Some(6));
    assert!(batch.milliseconds > 0.0);
    let asked = server.asked();
    assert_eq!(asked.len(), 1);
    assert!(asked[0].head.starts_with("POST /v1/embeddings HTTP/1.1\r\n"), "{}", asked[0].head);
    let head = asked[0].head.to_lowercase();
    assert!(head.contains(&format!("authorization: bearer {KEY}\r\n").to_lowercase()), "{head}");
    assert!(head.contains("user-agent: embedbar/") && !head.contains("accept-encoding: gzip"), "{head}");
    assert_eq!(asked[0].body, json!({"model": "model-x", "input": ["one", "three"], "encoding_format": "float"}));
}

#[test]
fn dimensions_are_asked_for_and_checked_and_without_a_key_none_is_sent() {
    let server = Server::start(vec![answers(WIDTH)]);
    let of = |dimensions| {
        let endpoint = Endpoint::new(&server.url(), None, "m", NonZeroU32::new(dimensions), DEADLINE);
        let embedder = RemoteEmbedder::open(endpoint.expect("it is on this machine")).expect("nothing is sent yet");
        embedder.embed(&texts(&["one"])).map(|batch| (batch, embedder.width()))
    };
    let (batch, width) = of(4).expect("that is its width");
    assert_right(&batch, &["one"]);
    assert_eq!(width, Some(WIDTH));
    let error = of(3).expect_err("that is not its width").to_string();
    assert!(error.contains("have 4 numbers, 3 were asked for"), "{error}");
    assert_eq!(server.asked()[1].body["dimensions"], 3);
    assert!(!server.asked()[0].head.to_lowercase().contains("authorization"));
}

#[test]
fn nothing_is_sent_before_there_is_a_text() {
    let server = Server::start(vec![answers(WIDTH)]);
    let batch = open(&server, DEADLINE).embed(&[]).expect("nothing to do");
    assert_eq!((batch.vectors.len(), batch.tokens), (0, Some(0)));
    assert_eq!(server.asked().len(), 0);
}

#[test]
fn shuffled_places_are_put_in_order() {
    let reply = changed(WIDTH, |body| body["data"].as_array_mut().expect("a list").reverse());
    assert_right(&outcome(vec![reply], DEADLINE).0.expect("any order will do"), &["one", "three"]);
}

#[test]
fn base64_is_understood_though_it_was_not_asked_for() {
    let reply = changed(WIDTH, |body| {
        for item in body["data"].as_array_mut().expect("a list") {
            let numbers: Vec<f32> = serde_json::from_value(item["embedding"].take()).expect("numbers");
            let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
            item["embedding"] = json!(STANDARD.encode(bytes));
        }
    });
    assert_right(&outcome(vec![reply], DEADLINE).0.expect("either form will do"), &["one", "three"]);
}

#[test]
fn a_long_list_goes_in_several_requests_and_comes_back_in_order() {
    let server = Server::start(vec![answers(WIDTH)]);
    let many: Vec<String> = (0..300).map(|count| "x".repeat(count % 7)).collect();
    let batch = open(&server, DEADLINE).embed(&many).expect("the server behaves");
    let of: Vec<&str> = many.iter().map(String::as_str).collect();
    assert_right(&batch, &of);
    assert_eq!(batch.tokens, Some(900));
    let asked = server.asked();
    assert!(asked.iter().all(|asked| (1..=128).contains(&asked.texts())));
    assert_eq!(asked.iter().map(server::Asked::texts).sum::<usize>(), 300);
    let large = vec!["x".repeat(200 * 1024); 3];
    open(&server, DEADLINE).embed(&large).expect("the server behaves");
    let later: Vec<usize> = server.asked()[asked.len()..].iter().map(server::Asked::texts).collect();
    assert_eq!(later, [1, 1, 1]);
}

// ---------------------------------------------------------------- wrong answers

#[test]
fn a_wrong_answer_is_refused_by_what_is_wrong_with_it_and_not_asked_again() {
    let cases: Vec<(Reply, &str)> = vec![
        (
            changed(WIDTH, |body| drop(body["data"].as_array_mut().expect("a list").pop())),
            "it has 1 vector(s) for 2 text(s)",
        ),
        (changed(WIDTH, |body| body["data"][1]["index"] = json!(0)), "two vectors for text 0"),
        (changed(WIDTH, |body| body["data"][1]["index"] = json!(9)), "a vector for text 9, and the last one is 1"),
        (
            changed(WIDTH, |body| body["data"][1]["embedding"] = json!([1, 2])),
            "4 numbers for the first text, 2 for text 1",
        ),
        (
            changed(WIDTH, |body| body["data"][1]["embedding"][2] = Value::Null),
            "text 1 has a place without a finite number",
        ),
        (changed(WIDTH, |body| body["data"][0]["embedding"] = json!([0, 0, 0, 0])), "text 0 is nothing but zeros"),
        (says("200 OK", "", r#"{"data":[{"index":0,"embedding":[NaN]}]}"#), "not a list of embeddings"),
        (says("200 OK", "", "<!doctype html><title>It works!</title>"), "begins with `<!doctype html><title>It works!"),
        (says("200 OK", "Content-Encoding: gzip\r\n", "\u{1f}\u{8b}\u{8}bomb"), "not a list of embeddings"),
        (
            says("200 OK", "", format!(r#"{{"error":{{"message":"{KEY} has no money"}}}}"#)),
            "says: `(secret) has no money`",
        ),
        (says("200 OK", "", format!(r#"{{"data":"{KEY}"}}"#)), "(secret)"),
        (says("204 No Content", "", ""), "not a list of embeddings"),
    ];
    for (reply, says) in cases {
        let (error, asked) = error_of(reply);
        assert!(matches!(error, RemoteError::AnswerUnusable { .. }), "{error:?}");
        assert!(error.to_string().contains(says), "{error}\nshould say: {says}");
        assert_eq!(asked, 1, "{error}");
    }
}

#[test]
fn a_server_that_changes_its_model_under_us_is_refused_by_width_and_by_name() {
    let server = Server::start(vec![
        answers(WIDTH),
        answers(WIDTH + 1),
        changed(WIDTH, |body| body["model"] = json!("m-2")),
        answers(WIDTH),
    ]);
    let embedder = open(&server, DEADLINE);
    let ask = || embedder.embed(&texts(&["one"]));
    ask().expect("the first answer says what it is");
    let fault = |error| match error {
        RemoteError::AnswerUnusable { fault, .. } => fault,
        other => panic!("{other}"),
    };
    let width = fault(ask().expect_err("it is wider"));
    assert_eq!(width, AnswerFault::WidthChanged { before: WIDTH, got: WIDTH + 1 });
    let name = fault(ask().expect_err("it has another name"));
    assert_eq!(name, AnswerFault::ModelChanged { before: "m-1".to_owned(), got: "m-2".to_owned() });
    ask().expect("it is the first one again");
    assert_eq!(embedder.width(), Some(WIDTH));
}

#[test]
fn a_huge_body_is_given_up_at_what_vectors_can_take() {
    let reply: Reply = Box::new(|asked, stream| {
        use std::io::Write as _;
        let head = format!("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{}", right(asked, WIDTH));
        let _gone = stream.write_all(head.as_bytes());
        let block = vec![b' '; 1 << 20];
        // Without end, unless the reader closes.
        while stream.write_all(&block).is_ok() {}
    });
    let (error, _) = error_of(reply);
    // 2 texts of at most 16384 numbers
    assert!(matches!(error, RemoteError::TooLarge { texts: 2, most_bytes: 1_378_304, .. }), "{error:?}");
    assert!(error.to_string().contains("larger than the 1378304 bytes that 2 vector(s) take at most"), "{error}");
}

// ---------------------------------------------------------------- time

#[test]
fn a_server_that_drips_or_is_silent_is_given_up_at_the_deadline() {
    let drop_by_drop = Duration::from_millis(50);
    let scripts: Vec<Reply> = vec![
        drips("HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n{", drop_by_drop),
        drips("HTTP/1.1 200 OK\r\nX-Header: ", drop_by_drop),
        falls_silent_after(""),
        falls_silent_after("HTTP/1.1 200 OK\r\n"),
        falls_silent_after("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{"),
    ];
    for (number, reply) in scripts.into_iter().enumerate() {
        let (outcome, _server, elapsed) = outcome(vec![reply], SHORT);
        let error = outcome.expect_err("it never ends");
        let sentence = "has not answered 2 text(s) within 0.7 s";
        assert!(error.to_string().contains(sentence), "{number}: {error}");
        assert!(elapsed * 2 >= SHORT && elapsed < SOON, "{number}: {elapsed:?}");
    }
}

#[test]
fn the_body_of_an_error_that_drips_does_not_hide_the_status() {
    let reply = drips("HTTP/1.1 401 Unauthorized\r\nContent-Length: 1000\r\n\r\nno", Duration::from_millis(50));
    let (outcome, _server, elapsed) = outcome(vec![reply], SHORT);
    assert!(matches!(outcome, Err(RemoteError::KeyRefused { status: 401, .. })), "{outcome:?}");
    assert!(elapsed < SOON, "{elapsed:?}");
}

#[test]
fn a_connection_that_nobody_accepts_is_given_up_at_the_deadline() {
    // The system completes the handshake for it; nobody ever reads.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("it is bound"));
    let embedder = RemoteEmbedder::open(endpoint(&url, SHORT)).expect("nothing is sent yet");
    let start = Instant::now();
    let error = embedder.embed(&texts(&["one"])).expect_err("nobody answers");
    assert!(matches!(error, RemoteError::TimedOut { texts: 1, deadline: SHORT, .. }), "{error:?}");
    assert!(start.elapsed() < SOON);
}

// ---------------------------------------------------------------- broken connections

#[test]
fn a_broken_connection_is_tried_once_more() {
    let breaks: [(MakeReply, &str); 3] = [
        (|| writes(""), "cannot be reached"),
        (|| writes("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{\"data\":["), "broke off its answer"),
        (|| says("502 Bad Gateway", "", "<html>nginx</html>"), "failed (status 502); it says: `<html>nginx</html>`"),
    ];
    for (reply, says) in breaks {
        let (error, asked) = error_of(reply());
        assert!(error.to_string().contains(says), "{error}");
        assert!(error.is_passing());
        assert_eq!(asked, 2, "{error}");
        let (outcome, server, _) = outcome(vec![reply(), answers(WIDTH)], DEADLINE);
        assert_right(&outcome.expect("the second time it behaves"), &["one", "three"]);
        assert_eq!(server.asked().len(), 2);
    }
}

#[test]
fn a_port_where_nobody_listens_is_named() {
    let free = TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("it was bound");
    let embedder = RemoteEmbedder::open(endpoint(&format!("http://{free}"), DEADLINE)).expect("nothing is sent yet");
    let error = embedder.embed(&texts(&["one"])).expect_err("nobody listens");
    assert!(matches!(error, RemoteError::Unreachable { .. }), "{error:?}");
    assert!(error.to_string().starts_with(&format!("`{free}` cannot be reached: ")), "{error}");
}

#[test]
fn what_does_not_speak_http_is_said_to_be_no_http_server() {
    for bytes in ["220 mail.example ESMTP ready\r\n\r\n", "SSH-2.0-OpenSSH_9.9\r\n\r\n", "\u{0}\u{1}\u{2}\r\n\r\n"] {
        let (error, asked) = error_of(writes(bytes));
        assert!(matches!(error, RemoteError::NotHttp { .. }), "{error:?}");
        assert!(error.to_string().contains("is no HTTP server"), "{error}");
        assert_eq!(asked, 1);
    }
    let (error, _) = error_of(writes(format!("HTTP/1.1 200 OK\r\nX-Long: {}\r\n\r\n", "x".repeat(200_000))));
    assert!(matches!(error, RemoteError::NotHttp { .. }), "{error:?}");
}

#[test]
fn what_does_not_speak_tls_gets_no_request() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("https://{}/v1", listener.local_addr().expect("it is bound"));
    let seen = std::thread::spawn(move || {
        use std::io::{Read as _, Write as _};
        let (mut stream, _): (TcpStream, _) = listener.accept().expect("somebody comes");
        let mut bytes = vec![0; 4096];
        let length = stream.read(&mut bytes).expect("it speaks first");
        let _gone = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        bytes.truncate(length);
        bytes
    });
    let embedder = RemoteEmbedder::open(endpoint(&url, DEADLINE)).expect("nothing is sent yet");
    let error = embedder.embed(&texts(&["one"])).expect_err("that is not TLS");
    assert!(matches!(error, RemoteError::Tls { .. }), "{error:?}");
    assert!(error.to_string().starts_with("no secure connection to `127.0.0.1:"), "{error}");
    let seen = seen.join().expect("it ends");
    assert!(!String::from_utf8_lossy(&seen).contains("hunter2"), "the key was sent in clear");
}

// ---------------------------------------------------------------- statuses

#[test]
fn a_busy_server_is_asked_again_when_it_says() {
    let busy = || says("429 Too Many Requests", "Retry-After: 1\r\n", r#"{"error":{"message":"slow down"}}"#);
    let (answered, server, elapsed) = outcome(vec![busy(), answers(WIDTH)], DEADLINE);
    assert_right(&answered.expect("then it behaves"), &["one", "three"]);
    assert_eq!(server.asked().len(), 2);
    assert!(elapsed >= Duration::from_secs(1), "{elapsed:?}");
    // It asks for more time than there is: that is said at once, with its wish.
    let long = says("503 Service Unavailable", "Retry-After: 120\r\n", r#"{"error":"loading"}"#);
    let (outcome, server, elapsed) = outcome(vec![long], DEADLINE);
    let error = outcome.expect_err("it is busy for longer");
    assert!(error.to_string().ends_with("is too busy (status 503); it says: `loading`"), "{error}");
    assert_eq!(Failure::from(error).retry_after_seconds, Some(120));
    assert_eq!(server.asked().len(), 1);
    assert!(elapsed < DEADLINE, "{elapsed:?}");
}

#[test]
fn a_server_that_is_busy_for_ever_is_given_up_within_the_deadline() {
    let deadline = Duration::from_secs(3);
    let (outcome, server, elapsed) = outcome(vec![says("503 Service Unavailable", "Retry-After: x\r\n", "")], deadline);
    let error = outcome.expect_err("it is always busy");
    assert!(matches!(error, RemoteError::Busy { status: 503, retry_after: None, .. }), "{error:?}");
    assert!(error.to_string().ends_with("is too busy (status 503)"), "{error}");
    assert!((2..=4).contains(&server.asked().len()), "{}", server.asked().len());
    assert!(elapsed < SOON, "{elapsed:?}");
    let (error, asked) = error_of(says("429 Too Many Requests", "Retry-After: 0\r\n", ""));
    assert!(matches!(error, RemoteError::Busy { status: 429, .. }), "{error:?}");
    assert_eq!(asked, 5, "a server that says `now` is not asked without end");
}

#[test]
fn what_somebody_has_to_change_is_not_tried_again_and_never_shows_the_key() {
    let echo = format!(r#"{{"error":{{"message":"Incorrect API key provided: {KEY}.\u0007"}}}}"#);
    let raw = format!("you sent Bearer {}", KEY.to_uppercase());
    let cases = vec![
        (
            says("401 Unauthorized", "", echo),
            "refuses the key (status 401); it says: `Incorrect API key provided: (secret).`",
        ),
        (says("403 Forbidden", "", raw), "refuses the key (status 403); it says: `you sent Bearer (secret)`"),
        (
            says("404 Not Found", "", r#"{"detail":"Not Found"}"#),
            "no model `model-x` (status 404); it says: `Not Found`",
        ),
        (
            says("400 Bad Request", "", "x".repeat(5000)),
            "rejects the request for model `model-x` (status 400); it says: `xxxx",
        ),
        (says("413 Payload Too Large", "", ""), "rejects the request for model `model-x` (status 413)"),
    ];
    for (reply, says) in cases {
        let (error, asked) = error_of(reply);
        assert!(error.to_string().contains(says), "{error}");
        assert!(error.to_string().len() < 400, "{error}");
        assert!(!error.is_passing());
        assert_eq!(asked, 1, "{error}");
    }
}

#[test]
fn a_redirect_is_not_followed_and_the_other_host_gets_nothing() {
    for status in
        ["301 Moved Permanently", "302 Found", "303 See Other", "307 Temporary Redirect", "308 Permanent Redirect"]
    {
        let other = Server::start(vec![answers(WIDTH)]);
        let location = format!("Location: {}/embeddings?key={KEY}\r\n", other.url().replace("127.0.0.1", "localhost"));
        let (error, asked) = error_of(says(status, location, ""));
        assert!(error.to_string().contains("sends requests on to `localhost`"), "{error}");
        assert!(error.to_string().ends_with("where nothing was sent"), "{error}");
        assert_eq!((asked, other.asked().len()), (1, 0), "{status}");
    }
    let (error, _) = error_of(says("302 Found", format!("Location: http://{KEY}.example/\r\n"), ""));
    assert!(error.to_string().contains("`(secret).example`"), "{error}");
    let (error, _) = error_of(says("302 Found", "", ""));
    assert!(error.to_string().contains("sends requests on to another place"), "{error}");
}

// ---------------------------------------------------------------- noise

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn any_bytes_instead_of_a_response_are_a_sentence_in_time(
        start in prop_oneof![Just(""), Just("HTTP/1.1 "), Just("HTTP/1.1 200 OK\r\n"), Just("HTTP/1.1 200 OK\r\n\r\n"),
            Just("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"), Just("HTTP/1.1 429 x\r\nRetry-After: ")],
        noise in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let bytes = [start.as_bytes(), &noise, b"\r\n\r\n"].concat();
        let (outcome, _server, elapsed) = outcome(vec![writes(bytes)], Duration::from_millis(200));
        let error = outcome.expect_err("no noise is an answer");
        prop_assert!(!error.to_string().chars().any(char::is_control), "{}", error);
        prop_assert!(elapsed < SOON, "{:?}", elapsed);
    }

    #[test]
    fn a_key_that_is_echoed_anywhere_is_shown_nowhere(place in 0_usize..6, around in "[ -~]{0,30}") {
        let echo = json!(format!("{around}{KEY}{around}"));
        let body = match place {
            0 => json!({"error": echo}),
            1 => json!({"data": echo}),
            2 => json!({"data": [{"index": 0, "embedding": echo}]}),
            3 => json!({"data": [{"index": echo}]}),
            4 => json!({"model": echo, "data": [], "usage": echo}),
            _ => echo,
        };
        for status in ["200 OK", "401 Unauthorized", "400 Bad Request", "418 I'm a teapot"] {
            // The check is in `outcome`.
            outcome(vec![says(status, "", body.to_string())], DEADLINE).0.expect_err("that is no answer");
        }
    }
}

#[test]
fn a_reply_to_one_is_a_reply_to_all_threads() {
    let server =
        Server::start(vec![Box::new(|asked, stream| respond(stream, "200 OK", "", &right(asked, WIDTH).to_string()))]);
    let embedder = open(&server, DEADLINE);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert_right(&embedder.embed(&texts(&["one"])).expect("the server behaves"), &["one"]));
        }
    });
    assert_eq!(server.asked().len(), 4);
}
