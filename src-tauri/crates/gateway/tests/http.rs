//! The gateway over real sockets, spoken to byte by byte and through a client library, with a canned application behind it.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

#[allow(clippy::wildcard_imports, reason = "an application names most of the types")]
use embedbar_contract::*;
use embedbar_gateway::{GatewayError, Limits, Options, Server, Token, UiFiles, serve, token};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::sync::{Notify, watch};

/// Answers a few commands with what the tests expect; `embed` waits until it is let go.
#[derive(Default)]
struct Canned {
    entered: Notify,
    release: Notify,
}

/// Commands that no test here asks for.
macro_rules! refuse {
    ($($name:ident($params:ty) -> $reply:ty;)+) => {
        $(async fn $name(&self, _: $params) -> Result<$reply, Failure> {
            Err(Failure::new(FailureCode::Internal, "not in this test"))
        })+
    };
}

impl Commands for Canned {
    refuse! {
        index(IndexRequest) -> Job;
        open(OpenRequest) -> Empty;
        convert(ConvertRequest) -> Job;
        pause(PauseRequest) -> Empty;
        hold(JobHold) -> Empty;
        activate(ModelChoice) -> ModelState;
        follow(EnvChoice) -> EnvState;
        approve_env(EnvApproval) -> EnvState;
        mend_env(EnvMend) -> EnvState;
        keep_in_env(EnvKeep) -> EnvState;
        allow_remote(RemoteAnswer) -> Empty;
        offers(Empty) -> Offers;
        accept_offers(OfferChoice) -> OfferReceipt;
        start_again(Empty) -> OfferReceipt;
        memory(Empty) -> MemoryReading;
        machine(Empty) -> MachineOverview;
        memory_history(Empty) -> MemoryHistory;
        cleanup(CleanupRequest) -> CleanupReceipt;
        inspect(InspectRequest) -> InstallOffer;
        install(InstallRequest) -> Job;
        limit_downloads(DownloadLimit) -> Empty;
        download_limit(Empty) -> DownloadLimit;
        show_model(ModelChoice) -> ModelDetails;
        verify(ModelChoice) -> Job;
        remove(ModelChoice) -> Removed;
        reveal(ModelChoice) -> Empty;
        sdk_lines(ModelChoice) -> SdkProposal;
        keep_sdk_lines(SdkKeep) -> EnvState;
        token(Empty) -> TokenStatus;
        set_token(TokenRequest) -> TokenStatus;
    }
    async fn snapshot(&self, _: Empty) -> Result<Snapshot, Failure> {
        Ok(Snapshot { version: "canned".to_owned(), ..Snapshot::default() })
    }
    async fn embed(&self, _: EmbedRequest) -> Result<Embeddings, Failure> {
        self.entered.notify_one();
        self.release.notified().await;
        Ok(Embeddings::default())
    }
    async fn forget(&self, params: FolderChoice) -> Result<Empty, Failure> {
        Err(Failure::new(FailureCode::NotFound, format!("no folder at `{}`", params.path)).hint("Check the path."))
    }
    async fn search(&self, _: SearchRequest) -> Result<SearchResults, Failure> {
        Err(Failure::new(FailureCode::Overloaded, "the queue is full"))
    }
    async fn cancel(&self, params: JobId) -> Result<Empty, Failure> {
        assert_eq!(params.id, 7);
        Ok(Empty {})
    }
    async fn models(&self, _: Empty) -> Result<Models, Failure> {
        Ok(Models::default())
    }
    async fn env(&self, _: Empty) -> Result<EnvState, Failure> {
        Ok(EnvState::default())
    }
}

struct Stage {
    server: Server,
    application: Arc<Canned>,
    snapshots: watch::Sender<Arc<Snapshot>>,
    token: Token,
    _home: tempfile::TempDir,
}

impl Stage {
    async fn open() -> Self {
        Self::with(Limits::default()).await
    }

    async fn with(limits: Limits) -> Self {
        let home = tempfile::tempdir().expect("a folder");
        let token = token(&home.path().join("token")).expect("a token");
        let ui = UiFiles::new([
            ("index.html".to_owned(), Cow::Borrowed(&b"<p>the interface</p>"[..])),
            ("assets/app.js".to_owned(), Cow::Borrowed(&b"start()"[..])),
        ]);
        let (snapshots, receiver) = watch::channel(Arc::new(numbered(1)));
        let application = Arc::new(Canned::default());
        let options = Options { port: Some(0), ui, limits, ..Options::new(token.clone()) };
        let server = serve(Arc::clone(&application), receiver, options).await.expect("it opens");
        Self { server, application, snapshots, token, _home: home }
    }

    fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Sends `first` with our host and `headers`, and reads the whole answer.
    async fn ask(&self, first: &str, headers: &str, body: &str) -> Answer {
        let host = self.address();
        self.raw(&format!("{first} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{headers}\r\n{body}")).await
    }

    /// Calls a command as a client should.
    async fn call(&self, command: &str, params: &str) -> Answer {
        let bearer = self.bearer();
        let headers = format!("{bearer}Content-Type: application/json\r\nContent-Length: {}\r\n", params.len());
        self.ask(&format!("POST /api/call/{command}"), &headers, params).await
    }

    fn bearer(&self) -> String {
        format!("Authorization: Bearer {}\r\n", self.token.expose())
    }

    async fn raw(&self, bytes: &str) -> Answer {
        let mut stream = TcpStream::connect(self.address()).await.expect("it listens");
        stream.write_all(bytes.as_bytes()).await.expect("it is taken");
        let mut answer = Vec::new();
        // An event stream that should have been refused never ends; a test must.
        let all = tokio::time::timeout(Duration::from_mins(1), stream.read_to_end(&mut answer));
        all.await.expect("the answer ends").expect("an answer");
        Answer::parse(&String::from_utf8(answer).expect("text"))
    }
}

fn numbered(waiting: usize) -> Snapshot {
    Snapshot { waiting, ..Snapshot::default() }
}

#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn parse(text: &str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((text, ""));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        Self { status, head: head.to_lowercase(), body: body.to_owned() }
    }

    fn has(&self, header: &str) -> bool {
        self.head.contains(&header.to_lowercase())
    }

    fn failure(&self) -> Failure {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("no failure: {self:?}"))
    }
}

#[tokio::test]
async fn a_command_is_carried_out_and_its_reply_is_json() {
    let stage = Stage::open().await;
    let answer = stage.call("snapshot", "{}").await;
    assert_eq!(answer.status, 200);
    let snapshot: Snapshot = serde_json::from_str(&answer.body).expect("a snapshot");
    assert_eq!(snapshot.version, "canned");
    assert_eq!(stage.call("models", "").await.status, 200, "no parameters, no body");
    assert_eq!(stage.call("cancel", r#"{"id":7}"#).await.body, "{}");
    assert!(answer.has("cache-control: no-store") && answer.has("content-type: application/json"));
}

#[tokio::test]
async fn a_failure_keeps_its_words_and_gets_one_status() {
    let stage = Stage::open().await;
    let missing = stage.call("forget", r#"{"path":"/x"}"#).await;
    assert_eq!(missing.status, 404);
    assert_eq!(missing.failure(), Failure::new(FailureCode::NotFound, "no folder at `/x`").hint("Check the path."));
    let full = stage.call("search", r#"{"query":"x"}"#).await;
    assert_eq!(full.status, 429);
    assert!(full.has("retry-after: 1") && full.failure().retryable);
    assert_eq!(stage.call("cleanup", "{}").await.status, 500);
}

#[tokio::test]
async fn an_unknown_command_wrong_parameters_and_broken_json_are_told_apart() {
    let stage = Stage::open().await;
    for (command, params, words) in [
        ("explode", "{}", "there is no command `explode`"),
        ("cancel", r#"{"id":"seven"}"#, "the parameters of `cancel` are wrong"),
        ("cancel", r#"{"id":"#, "the body is not JSON"),
        ("%ff", "{}", "Invalid UTF-8"),
        ("", "{}", "there is nothing"),
    ] {
        let answer = stage.call(command, params).await;
        assert!((400..=405).contains(&answer.status), "{command:?} {answer:?}");
        assert!(answer.failure().message.contains(words) || command.is_empty(), "{answer:?}");
    }
}

#[tokio::test]
async fn without_the_token_only_health_and_the_interface_answer() {
    let stage = Stage::open().await;
    let json = "Content-Type: application/json\r\nContent-Length: 2\r\n";
    let wrong = "0".repeat(64);
    for authorization in [
        String::new(),
        format!("Authorization: Bearer {wrong}\r\n"),
        "Authorization: Bearer\r\n".to_owned(),
        format!("Authorization: Basic {}\r\n", stage.token.expose()),
        format!("Authorization: {}\r\n", stage.token.expose()),
        format!("Cookie: token={}\r\n", stage.token.expose()),
    ] {
        let answer = stage.ask("POST /api/call/snapshot", &format!("{authorization}{json}"), "{}").await;
        assert_eq!(answer.status, 401, "{authorization:?}");
        assert!(answer.has("www-authenticate: bearer"));
        assert_eq!(stage.ask("GET /api/events", &authorization, "").await.status, 401, "{authorization:?}");
    }
    let query = format!("GET /api/events?token={}", stage.token.expose());
    assert_eq!(stage.ask(&query, "", "").await.status, 401, "an address ends up in histories");
    let health = stage.ask("GET /api/health", "", "").await;
    assert_eq!((health.status, health.body.as_str()), (200, r#"{"status":"ok"}"#));
    assert_eq!(stage.ask("GET /", "", "").await.status, 200);
}

#[tokio::test]
async fn another_host_is_refused_whatever_it_asks_for() {
    let stage = Stage::open().await;
    let bearer = stage.bearer();
    let port = stage.address().port();
    for host in
        ["evil.example".to_owned(), format!("evil.example:{port}"), "localhost".to_owned(), "localhost:1".to_owned()]
    {
        for path in ["/", "/api/health", "/api/events", "/nothing"] {
            let answer =
                stage.raw(&format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{bearer}\r\n")).await;
            assert_eq!(answer.status, 403, "{host} {path}");
            assert_eq!(answer.failure().code, FailureCode::InvalidRequest);
            assert!(answer.has("x-content-type-options: nosniff"));
        }
    }
    let none = stage.raw("GET /api/health HTTP/1.0\r\n\r\n").await;
    assert_eq!(none.status, 403, "no host at all");
    let localhost = format!("GET /api/health HTTP/1.1\r\nHost: localhost:{port}\r\nConnection: close\r\n\r\n");
    assert_eq!(stage.raw(&localhost).await.status, 200);
}

#[tokio::test]
async fn a_page_of_another_origin_or_site_is_refused_even_with_the_token() {
    let stage = Stage::open().await;
    let bearer = stage.bearer();
    let port = stage.address().port();
    for header in
        ["Origin: http://evil.example", "Origin: null", "Origin: http://localhost:3000", "Sec-Fetch-Site: cross-site"]
    {
        let answer = stage.ask("GET /api/events", &format!("{bearer}{header}\r\n"), "").await;
        assert_eq!(answer.status, 403, "{header}");
        assert!(!answer.has("access-control-allow-origin"));
        assert_eq!(stage.ask("OPTIONS /api/call/snapshot", &format!("{header}\r\n"), "").await.status, 403, "{header}");
    }
    let own = format!("Origin: http://127.0.0.1:{port}\r\nSec-Fetch-Site: same-origin\r\n");
    assert_eq!(stage.ask("GET /", &own, "").await.status, 200);
}

#[tokio::test]
async fn a_body_must_be_declared_as_json_and_be_of_bearable_size() {
    let stage = Stage::with(Limits { body_bytes: 1000, ..Limits::default() }).await;
    let bearer = stage.bearer();
    for kind in [
        "",
        "Content-Type: text/plain\r\n",
        "Content-Type: application/x-www-form-urlencoded\r\n",
        "Content-Type: application/jsonp\r\n",
    ] {
        let answer = stage.ask("POST /api/call/snapshot", &format!("{bearer}{kind}Content-Length: 2\r\n"), "{}").await;
        assert_eq!(answer.status, 415, "{kind:?}");
    }
    let json = "Content-Type: application/json; charset=utf-8\r\n";
    let declared =
        stage.ask("POST /api/call/snapshot", &format!("{bearer}{json}Content-Length: 5000000000\r\n"), "").await;
    assert_eq!(declared.status, 413);
    let chunk = format!("3e9\r\n{}\r\n", " ".repeat(1001));
    let streamed =
        stage.ask("POST /api/call/snapshot", &format!("{bearer}{json}Transfer-Encoding: chunked\r\n"), &chunk).await;
    assert_eq!(streamed.status, 413, "a size that is not declared is counted");
    assert!(streamed.failure().message.contains("`1000`"));
    let fits = stage
        .ask("POST /api/call/snapshot", &format!("{bearer}{json}Content-Length: 1000\r\n"), &format!("{:1000}", "{}"))
        .await;
    assert_eq!(fits.status, 200);
}

#[tokio::test]
async fn a_large_head_and_a_slow_one_are_cut_off() {
    let short = Duration::from_millis(50);
    let stage = Stage::with(Limits { head_time: short, body_time: short, ..Limits::default() }).await;
    let large = stage.ask("GET /api/health", &format!("X-Filler: {}\r\n", "x".repeat(64 << 10)), "").await;
    assert_eq!(large.status, 431);
    let slow = stage.raw("GET /api/health HTTP/1.1\r\nHost: ").await;
    assert!(slow.status == 0 || slow.status == 408, "closed without what it asked for: {slow:?}");
    let headers = format!("{}Content-Type: application/json\r\nContent-Length: 10\r\n", stage.bearer());
    let body = stage.ask("POST /api/call/snapshot", &headers, "{").await;
    assert_eq!(body.status, 408);
}

#[tokio::test]
async fn one_call_too_many_is_told_to_come_back() {
    let stage = Stage::with(Limits { calls: 1, ..Limits::default() }).await;
    let (first, ()) = tokio::join!(stage.call("embed", r#"{"texts":["x"]}"#), async {
        stage.application.entered.notified().await;
        let second = stage.call("snapshot", "{}").await;
        assert_eq!(second.status, 429);
        assert!(second.has("retry-after: 1"));
        assert_eq!(second.failure().code, FailureCode::Overloaded);
        assert_eq!(stage.ask("GET /api/health", "", "").await.status, 200);
        stage.application.release.notify_one();
    });
    assert_eq!(first.status, 200);
    assert_eq!(stage.call("snapshot", "{}").await.status, 200, "its place is free again");
}

async fn next_event(lines: &mut (impl tokio::io::AsyncBufRead + Unpin)) -> Option<Snapshot> {
    loop {
        let mut line = String::new();
        if lines.read_line(&mut line).await.expect("it can be read") == 0 {
            return None;
        }
        if let Some(data) = line.strip_prefix("data: ") {
            return Some(serde_json::from_str(data).expect("a snapshot"));
        }
    }
}

#[tokio::test]
async fn events_start_with_the_present_and_skip_to_the_newest() {
    let stage = Stage::with(Limits { streams: 1, ..Limits::default() }).await;
    let mut stream = TcpStream::connect(stage.address()).await.expect("it listens");
    let request = format!("GET /api/events HTTP/1.1\r\nHost: {}\r\n{}\r\n", stage.address(), stage.bearer());
    stream.write_all(request.as_bytes()).await.expect("it is taken");
    let mut lines = BufReader::new(stream);
    assert_eq!(next_event(&mut lines).await.expect("the first").waiting, 1);
    assert_eq!(stage.ask("GET /api/events", &stage.bearer(), "").await.status, 429, "one stream too many");
    for waiting in 2..=50 {
        stage.snapshots.send_replace(Arc::new(numbered(waiting)));
    }
    assert_eq!(next_event(&mut lines).await.expect("the second").waiting, 50, "those between are skipped");
    stage.snapshots.send_replace(Arc::new(numbered(51)));
    assert_eq!(next_event(&mut lines).await.expect("the third").waiting, 51);
    stage.server.stop().await;
    assert_eq!(next_event(&mut lines).await.map(|event| event.waiting), None, "the stream ends with the gateway");
}

#[tokio::test]
async fn files_are_served_by_their_exact_names_only() {
    let stage = Stage::open().await;
    let page = stage.ask("GET /", "", "").await;
    assert_eq!((page.status, page.body.as_str()), (200, "<p>the interface</p>"));
    for header in [
        "content-type: text/html; charset=utf-8",
        "content-security-policy: default-src 'self'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
         connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
        "x-content-type-options: nosniff",
        "referrer-policy: no-referrer",
    ] {
        assert!(page.has(header), "{header}: {}", page.head);
    }
    let script = stage.ask("GET /assets/app.js?v=1", "", "").await;
    assert_eq!((script.status, script.body.as_str()), (200, "start()"));
    let head = stage.ask("HEAD /assets/app.js", "", "").await;
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    for path in [
        "/..%2f",
        "/../Cargo.toml",
        "/..%2fCargo.toml",
        "/assets/../index.html",
        "/assets/..%2findex.html",
        "/%2e%2e/etc/passwd",
        "//etc/passwd",
        "/etc/passwd",
        "/assets",
        "/assets/",
        "/index.html/",
        "/index.html%00",
        "/api",
        "/api/",
        "/api/nothing",
        "/\\..\\x",
    ] {
        let answer = stage.ask(&format!("GET {path}"), "", "").await;
        assert_eq!(answer.status, 404, "{path}");
        assert_eq!(answer.failure().code, FailureCode::NotFound);
    }
}

#[tokio::test]
async fn a_wrong_method_says_so_in_the_same_form() {
    let stage = Stage::open().await;
    let bearer = stage.bearer();
    for first in ["GET /api/call/snapshot", "POST /api/events", "DELETE /api/health", "PUT /", "POST /index.html"] {
        let answer = stage.ask(first, &bearer, "").await;
        assert_eq!(answer.status, 405, "{first}");
        assert_eq!(answer.failure().code, FailureCode::InvalidRequest);
    }
}

#[tokio::test]
async fn a_taken_port_names_the_program_that_holds_it() {
    let held = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = held.local_addr().expect("its address").port();
    let home = tempfile::tempdir().expect("a folder");
    let options = Options { port: Some(port), ..Options::new(token(&home.path().join("token")).expect("a token")) };
    let (_sender, snapshots) = watch::channel(Arc::new(Snapshot::default()));
    let error = serve(Arc::new(Canned::default()), snapshots, options).await.expect_err("it is taken");
    let GatewayError::PortTaken { port: named, by } = &error else { panic!("{error:?}") };
    assert_eq!(*named, port);
    let by = by.as_deref().expect("this process can see itself");
    assert!(by.ends_with(&format!("(process {})", std::process::id())), "{by}");
    assert!(Failure::from(error).hint.expect("advice").contains("--port"));
}

#[tokio::test]
async fn after_stop_the_port_is_free_and_the_token_was_never_shown() {
    let stage = Stage::open().await;
    let address = stage.address();
    assert!(address.ip().is_loopback());
    assert_eq!(stage.server.url(), format!("http://{address}/#token={}", stage.token.expose()));
    let options = Options::new(stage.token.clone());
    for shown in [format!("{:?}", stage.server), format!("{options:?}"), format!("{:?}", stage.token)] {
        assert!(!shown.contains(stage.token.expose()), "{shown}");
    }
    stage.server.stop().await;
    TcpStream::connect(address).await.expect_err("nobody listens");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_library_gets_the_same_answers() {
    let stage = Stage::open().await;
    let (address, secret) = (stage.address(), stage.token.expose().to_owned());
    let replies = tokio::task::spawn_blocking(move || {
        let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
        let call = |command: &str, params: Value| {
            let mut answer = agent
                .post(format!("http://{address}/api/call/{command}"))
                .header("authorization", format!("Bearer {secret}"))
                .send_json(params)
                .expect("an answer");
            (answer.status().as_u16(), answer.body_mut().read_json::<Value>().expect("JSON"))
        };
        [call("models", json!({})), call("forget", json!({ "path": "/y" }))]
    });
    let [models, missing] = replies.await.expect("no panic");
    assert_eq!(models, (200, json!({ "models": [], "own_bytes": 0, "total_bytes": 0 })));
    assert_eq!((missing.0, &missing.1["code"]), (404, &json!("not_found")));
}
