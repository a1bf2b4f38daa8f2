//! A hub that speaks the protocol on two loopback servers (itself and its storage, as two hosts) and misbehaves on demand.
//!
//! It writes HTTP by hand, because a library would not let it lie about a length or stop in the middle of a body. It
//! remembers every request and counts every byte of a file that it sent.

// Each binary that includes it uses another part.
#![allow(dead_code)]

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sha1::Sha1;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

pub(crate) const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// Which of the two servers was asked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Host {
    Hub,
    Storage,
}

/// What came in.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) host: Host,
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: String,
    /// First and last byte.
    pub(crate) range: Option<(u64, u64)>,
    pub(crate) if_range: Option<String>,
    pub(crate) authorization: Option<String>,
}

impl Request {
    /// Is it for the bytes of a file in the storage?
    pub(crate) fn is_bytes(&self) -> bool {
        self.host == Host::Storage && self.method == "GET"
    }
}

/// What goes wrong with an answer.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    None,
    /// The connection ends after so many bytes of the body.
    Cut(u64),
    /// The connection stays, and nothing comes after so many bytes of the body.
    Stall(u64),
    /// The byte at this place of the file has another bit.
    Flip(u64),
    /// The whole file with 200.
    IgnoreRange,
    /// As `IgnoreRange`, and the connection ends after so many bytes.
    IgnoreRangeCut(u64),
    /// As `IgnoreRange` and `Flip`.
    IgnoreRangeFlip(u64),
    /// No body, and these headers.
    Status(u16, &'static str),
    /// The file is so many bytes longer (or shorter) by every header.
    Length(i64),
    /// It has another ETag and is another file.
    Changed,
    /// The repository is at another commit, whichever was asked for.
    OtherCommit,
}

/// A file of the repository.
#[derive(Clone, Debug)]
pub(crate) struct Content {
    pub(crate) bytes: Arc<Vec<u8>>,
    pub(crate) sha256: String,
    pub(crate) git: String,
    /// Kept in the storage.
    pub(crate) large: bool,
    /// In place of `bytes`: a file and its length, sent as it is. Faults that change bytes do not touch it.
    pub(crate) file: Option<(Arc<File>, u64)>,
}

impl Content {
    pub(crate) fn new(bytes: Vec<u8>, large: bool) -> Self {
        let sha256 = hex::encode(Sha256::digest(&bytes));
        let git = Sha1::new_with_prefix(format!("blob {}\0", bytes.len())).chain_update(&bytes);
        let git = hex::encode(git.finalize());
        Self { bytes: Arc::new(bytes), sha256, git, large, file: None }
    }

    /// A large file on the disk.
    pub(crate) fn of_file(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let mut hasher = Sha256::new();
        let size = io::copy(&mut &file, &mut HashWriter(&mut hasher))?;
        let sha256 = hex::encode(hasher.finalize());
        let content = Self::new(Vec::new(), true);
        Ok(Self { sha256, file: Some((Arc::new(file), size)), ..content })
    }

    pub(crate) fn size(&self) -> u64 {
        self.file.as_ref().map_or(self.bytes.len() as u64, |(_, size)| *size)
    }

    pub(crate) fn etag(&self) -> &str {
        if self.large { &self.sha256 } else { &self.git }
    }
}

/// Takes what is read.
struct HashWriter<'a>(&'a mut Sha256);

impl io::Write for HashWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

type Misbehaviour = Box<dyn FnMut(&Request) -> Fault + Send>;

struct Shared {
    repository: String,
    files: BTreeMap<String, Content>,
    by_sha256: HashMap<String, Content>,
    /// In front of the files in a listing, never served.
    listed_first: Mutex<Vec<String>>,
    /// Whether the listing says that large files are in the newer storage, which is not there.
    xet: AtomicBool,
    page: usize,
    endpoint: String,
    storage: String,
    misbehaviour: Mutex<Misbehaviour>,
    requests: Mutex<Vec<Request>>,
    served: AtomicU64,
    signatures: AtomicU32,
}

/// The two servers; they end with the runtime.
pub(crate) struct FakeHub {
    pub(crate) endpoint: String,
    shared: Arc<Shared>,
}

impl FakeHub {
    /// One repository at [`COMMIT`], which is `main`. `owner/old-name` redirects to it; `owner/gated` is gated.
    pub(crate) async fn start(repository: &str, files: Vec<(&str, Content)>) -> io::Result<Self> {
        Self::start_at(repository, files, 0).await
    }

    pub(crate) async fn start_at(repository: &str, files: Vec<(&str, Content)>, port: u16) -> io::Result<Self> {
        let hub = TcpListener::bind(("127.0.0.1", port)).await?;
        let storage = TcpListener::bind("127.0.0.1:0").await?;
        let files: BTreeMap<_, _> = files.into_iter().map(|(path, content)| (path.to_owned(), content)).collect();
        let endpoint = format!("http://127.0.0.1:{}", hub.local_addr()?.port());
        let shared = Arc::new(Shared {
            repository: repository.to_owned(),
            by_sha256: files.values().map(|file| (file.sha256.clone(), file.clone())).collect(),
            files,
            listed_first: Mutex::default(),
            xet: AtomicBool::new(false),
            page: 2,
            endpoint: endpoint.clone(),
            // Another name for the same machine is another host.
            storage: format!("http://localhost:{}", storage.local_addr()?.port()),
            misbehaviour: Mutex::new(Box::new(|_| Fault::None)),
            requests: Mutex::default(),
            served: AtomicU64::new(0),
            signatures: AtomicU32::new(0),
        });
        for (listener, host) in [(hub, Host::Hub), (storage, Host::Storage)] {
            let shared = Arc::clone(&shared);
            tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    let shared = Arc::clone(&shared);
                    tokio::spawn(async move {
                        // Whoever went away went away.
                        let _ = shared.serve(stream, host).await;
                    });
                }
            });
        }
        Ok(Self { endpoint, shared })
    }

    /// Asked for every request from now on.
    pub(crate) fn misbehave(&self, how: impl FnMut(&Request) -> Fault + Send + 'static) {
        *self.shared.misbehaviour.lock().expect("lock") = Box::new(how);
    }

    pub(crate) fn list_first(&self, path: &str) {
        self.shared.listed_first.lock().expect("lock").push(path.to_owned());
    }

    pub(crate) fn list_xet(&self) {
        self.shared.xet.store(true, Ordering::SeqCst);
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.shared.requests.lock().expect("lock").clone()
    }

    /// Bytes of files that were sent.
    pub(crate) fn served(&self) -> u64 {
        self.shared.served.load(Ordering::SeqCst)
    }
}

/// An answer before it is written.
struct Answer {
    status: u16,
    headers: String,
    body: Body,
}

enum Body {
    None,
    Text(String),
    /// A part of a file: from, to.
    Part(Content, u64, u64),
}

impl Answer {
    fn new(status: u16, headers: String) -> Self {
        Self { status, headers, body: Body::None }
    }
}

impl Shared {
    async fn serve(&self, stream: TcpStream, host: Host) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let mut stream = BufReader::new(stream);
        while let Some(request) = read(&mut stream, host).await? {
            let fault = (self.misbehaviour.lock().expect("lock"))(&request);
            self.requests.lock().expect("lock").push(request.clone());
            let answer = match &fault {
                Fault::Status(status, headers) => Answer::new(*status, (*headers).to_owned()),
                _ => self.answer(&request, &fault),
            };
            if !self.write(stream.get_mut(), &request, answer, &fault).await? {
                break;
            }
        }
        Ok(())
    }

    fn answer(&self, request: &Request, fault: &Fault) -> Answer {
        let missing =
            |code: &str| Answer::new(404, format!("X-Error-Code: {code}\r\nX-Error-Message: no such thing\r\n"));
        if request.host == Host::Storage {
            let name = request.path.trim_start_matches("/blob/");
            let Some(content) = self.by_sha256.get(name) else { return Answer::new(404, String::new()) };
            return part(content, request, fault, "ETag: \"of-the-storage\"\r\n".to_owned());
        }
        if request.path == "/served" {
            let text = self.served.load(Ordering::SeqCst).to_string();
            return Answer { body: Body::Text(text), ..Answer::new(200, "Content-Type: text/plain\r\n".to_owned()) };
        }
        let path = request.path.trim_start_matches('/');
        let (api, path) = path.strip_prefix("api/models/").map_or((false, path), |path| (true, path));
        if path.starts_with("owner/old-name/") {
            let to = request.path.replace("owner/old-name", &self.repository);
            return Answer::new(307, format!("Location: {to}?{}\r\n", request.query));
        }
        if path.starts_with("owner/gated/") {
            return Answer::new(403, "X-Error-Code: GatedRepo\r\nX-Error-Message: ask for access\r\n".to_owned());
        }
        let Some(rest) = path.strip_prefix(self.repository.as_str()) else {
            return Answer { status: 401, ..missing("RepoNotFound") };
        };
        let parts: Vec<&str> = rest.trim_start_matches('/').splitn(3, '/').collect();
        match (api, parts.as_slice()) {
            (_, [_, revision, ..]) if !["main", COMMIT].contains(revision) => missing("RevisionNotFound"),
            (true, [""] | ["revision", _]) => self.information(fault),
            (true, ["tree", _]) => self.tree(request),
            (false, ["resolve", _, file]) => match self.files.get(*file) {
                Some(content) => self.resolve(content, request, fault),
                None => missing("EntryNotFound"),
            },
            _ => missing("EntryNotFound"),
        }
    }

    fn information(&self, fault: &Fault) -> Answer {
        let commit = if matches!(fault, Fault::OtherCommit) { "f".repeat(40) } else { COMMIT.to_owned() };
        let names: Vec<_> = self.files.keys().map(|path| format!("{{\"rfilename\":\"{path}\"}}")).collect();
        let text = format!(
            "{{\"id\":\"{0}\",\"modelId\":\"{0}\",\"sha\":\"{commit}\",\"private\":false,\"gated\":\"auto\",\"library_name\":\"sentence-transformers\",\
             \"pipeline_tag\":\"feature-extraction\",\"cardData\":{{\"license\":\"apache-2.0\"}},\"tags\":[\"mteb\"],\"siblings\":[{1}]}}",
            self.repository,
            names.join(",")
        );
        Answer { body: Body::Text(text), ..Answer::new(200, "Content-Type: application/json\r\n".to_owned()) }
    }

    fn tree(&self, request: &Request) -> Answer {
        let mut lines: Vec<String> = self
            .listed_first
            .lock()
            .expect("lock")
            .iter()
            .map(|path| format!("{{\"type\":\"file\",\"path\":{path:?},\"size\":1,\"oid\":\"{COMMIT}\"}}"))
            .collect();
        lines.push(format!("{{\"type\":\"directory\",\"path\":\"folder\",\"size\":0,\"oid\":\"{COMMIT}\"}}"));
        lines.extend(self.files.iter().map(|(path, content)| {
            let Content { sha256, git, large, .. } = content;
            let size = content.size();
            let lfs = format!(",\"lfs\":{{\"oid\":\"{sha256}\",\"size\":{size},\"pointerSize\":134}}");
            let xet = if self.xet.load(Ordering::SeqCst) {
                format!(",\"xetHash\":\"{}\"", reversed(sha256))
            } else {
                String::new()
            };
            let lfs = if *large { lfs + &xet } else { String::new() };
            format!("{{\"type\":\"file\",\"path\":\"{path}\",\"size\":{size},\"oid\":\"{git}\"{lfs}}}")
        }));
        let cursor = request.query.split('&').find_map(|pair| pair.strip_prefix("cursor="));
        let from: usize = cursor.and_then(|cursor| cursor.parse().ok()).unwrap_or(0);
        let to = (from + self.page).min(lines.len());
        let mut headers = "Content-Type: application/json\r\n".to_owned();
        if to < lines.len() {
            let _ = write!(
                headers,
                "Link: <{}{}?recursive=true&cursor={to}>; rel=\"next\"\r\n",
                self.endpoint, request.path
            );
        }
        Answer { body: Body::Text(format!("[{}]", lines[from..to].join(","))), ..Answer::new(200, headers) }
    }

    fn resolve(&self, content: &Content, request: &Request, fault: &Fault) -> Answer {
        let etag = content.etag();
        if !content.large {
            return part(content, request, fault, format!("X-Repo-Commit: {COMMIT}\r\nETag: \"{etag}\"\r\n"));
        }
        let signature = self.signatures.fetch_add(1, Ordering::SeqCst);
        let size = longer(content, fault);
        let headers = format!(
            "X-Repo-Commit: {COMMIT}\r\nX-Linked-Etag: \"{etag}\"\r\nX-Linked-Size: {size}\r\nETag: \"of-the-redirect\"\r\n\
             Location: {}/blob/{}?signature={signature}\r\n",
            self.storage, content.sha256
        );
        Answer { body: Body::Text("Found. Redirecting".to_owned()), ..Answer::new(302, headers) }
    }

    /// Whether the connection can take another request.
    async fn write(
        &self,
        stream: &mut TcpStream,
        request: &Request,
        answer: Answer,
        fault: &Fault,
    ) -> io::Result<bool> {
        let (text, file) = match &answer.body {
            Body::None => ("", None),
            Body::Text(text) => (text.as_str(), None),
            Body::Part(content, from, to) => ("", Some((content, *from, *to))),
        };
        let length = file.map_or(text.len() as u64, |(_, from, to)| to - from);
        let length = if answer.headers.contains("Content-Length") {
            String::new()
        } else {
            format!("Content-Length: {length}\r\n")
        };
        let head = format!("HTTP/1.1 {} Said\r\n{}{length}\r\n", answer.status, answer.headers);
        stream.write_all(head.as_bytes()).await?;
        if request.method == "HEAD" {
            return Ok(true);
        }
        let Some((content, from, to)) = file else {
            stream.write_all(text.as_bytes()).await?;
            return Ok(true);
        };
        let (until, after) = match fault {
            Fault::Cut(bytes) | Fault::IgnoreRangeCut(bytes) | Fault::Stall(bytes) => {
                (to.min(from + bytes), fault.clone())
            }
            _ => (to, Fault::None),
        };
        let mut at = from;
        if let Some((file, _)) = &content.file {
            while at < until {
                let sent = send(stream, file, at, until).await?;
                self.served.fetch_add(sent, Ordering::SeqCst);
                at += sent;
            }
        }
        while at < until {
            let mut end = until.min(at + (256 << 10));
            match fault {
                Fault::Flip(place) | Fault::IgnoreRangeFlip(place) if *place == at => {
                    end = at + 1;
                    stream.write_all(&[content.bytes[at as usize] ^ 1]).await?;
                }
                Fault::Flip(place) | Fault::IgnoreRangeFlip(place) if (at..end).contains(place) => {
                    end = *place;
                    stream.write_all(&content.bytes[at as usize..end as usize]).await?;
                }
                _ => stream.write_all(&content.bytes[at as usize..end as usize]).await?,
            }
            self.served.fetch_add(end - at, Ordering::SeqCst);
            at = end;
        }
        match after {
            Fault::Stall(_) => {
                // Until the other side goes.
                tokio::time::sleep(Duration::from_mins(10)).await;
                Ok(false)
            }
            Fault::None => Ok(true),
            _ => {
                // An orderly end: what was sent arrives.
                stream.shutdown().await?;
                Ok(false)
            }
        }
    }
}

/// Sends some bytes of a file without taking them into this process.
#[cfg(target_os = "linux")]
async fn send(stream: &TcpStream, file: &File, at: u64, until: u64) -> io::Result<u64> {
    loop {
        stream.writable().await?;
        let mut from = at;
        let sent = stream.try_io(tokio::io::Interest::WRITABLE, || {
            Ok(rustix::fs::sendfile(stream, file, Some(&mut from), (until - at).min(4 << 20) as usize)?)
        });
        match sent {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(sent) => return Ok(sent as u64),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(not(target_os = "linux"))]
async fn send(stream: &mut TcpStream, file: &File, at: u64, until: u64) -> io::Result<u64> {
    use std::os::unix::fs::FileExt as _;
    let mut block = vec![0; (until - at).min(1 << 20) as usize];
    file.read_exact_at(&mut block, at)?;
    stream.write_all(&block).await?;
    Ok(block.len() as u64)
}

/// Some name that is not the digest.
fn reversed(sha256: &str) -> String {
    sha256.chars().rev().collect()
}

fn longer(content: &Content, fault: &Fault) -> u64 {
    let size = content.size();
    if let Fault::Length(by) = fault { size.saturating_add_signed(*by) } else { size }
}

/// A file or a range of it.
fn part(content: &Content, request: &Request, fault: &Fault, headers: String) -> Answer {
    let size = content.size();
    let headers = if matches!(fault, Fault::Changed) { "ETag: \"another\"\r\n".to_owned() } else { headers };
    let ignored = matches!(fault, Fault::IgnoreRange | Fault::IgnoreRangeCut(_) | Fault::IgnoreRangeFlip(_))
        || matches!(fault, Fault::Changed) && request.if_range.is_some();
    match request.range.filter(|_| !ignored) {
        Some((first, _)) if first >= size => Answer::new(416, format!("Content-Range: bytes */{size}\r\n")),
        Some((first, last)) => {
            let last = last.min(size - 1);
            let range = format!("{headers}Content-Range: bytes {first}-{last}/{}\r\n", longer(content, fault));
            Answer { body: Body::Part(content.clone(), first, last + 1), ..Answer::new(206, range) }
        }
        None => {
            let headers = format!("{headers}Content-Length: {}\r\n", longer(content, fault));
            Answer { body: Body::Part(content.clone(), 0, size), ..Answer::new(200, headers) }
        }
    }
}

async fn read(stream: &mut BufReader<TcpStream>, host: Host) -> io::Result<Option<Request>> {
    let mut line = String::new();
    if stream.read_line(&mut line).await? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace();
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    // A proxy is asked for a whole address.
    let target = target.strip_prefix("http://").map_or(target, |rest| rest.find('/').map_or("/", |at| &rest[at..]));
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut request = Request {
        host,
        method: method.to_owned(),
        path: path.replace("%20", " "),
        query: query.to_owned(),
        range: None,
        if_range: None,
        authorization: None,
    };
    loop {
        line.clear();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(None);
        }
        let Some((name, value)) = line.trim_end().split_once(':') else { return Ok(Some(request)) };
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "authorization" => request.authorization = Some(value.to_owned()),
            "if-range" => request.if_range = Some(value.to_owned()),
            "range" => {
                let bounds = value.trim_start_matches("bytes=").split_once('-');
                let number = |text: &str| text.parse().ok();
                request.range = bounds.and_then(|(from, to)| Some((number(from)?, number(to).unwrap_or(u64::MAX - 1))));
            }
            _ => {}
        }
    }
}
