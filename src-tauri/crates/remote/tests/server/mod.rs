//! A server on this machine that does what a script says, well or badly, and remembers what it was asked.
//!
//! Every connection carries one request and one reply. What is not here: any check of the client; that is the tests' part.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// No reply takes longer, so that a client that keeps no deadline fails its test instead of hanging.
const LONGEST: Duration = Duration::from_secs(25);

/// What a request was.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// Request line and headers.
    pub(crate) head: String,
    /// The body, `null` where it is not JSON.
    pub(crate) body: Value,
}

/// How one connection is answered, its request having been read. Returning closes it.
pub(crate) type Reply = Box<dyn Fn(&Asked, &mut TcpStream) + Send>;

/// A listening server; it stops with its value.
pub(crate) struct Server {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    stopped: Arc<AtomicBool>,
}

impl Server {
    /// Answers the first connections by the script and all later ones by its last line.
    pub(crate) fn start(script: Vec<Reply>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let asked = Arc::new(Mutex::new(Vec::new()));
        let stopped = Arc::new(AtomicBool::new(false));
        let (kept, stop) = (Arc::clone(&asked), Arc::clone(&stopped));
        thread::spawn(move || {
            for (count, stream) in listener.incoming().enumerate() {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(mut stream) = stream else { continue };
                if let Some(request) = read_request(&stream) {
                    kept.lock().expect("no test panics with it").push(request.clone());
                    script[count.min(script.len() - 1)](&request, &mut stream);
                }
            }
        });
        Self { address, asked, stopped }
    }

    /// A base address for an endpoint.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// All requests so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("no test panics with it").clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        let _woken = TcpStream::connect(self.address);
    }
}

fn read_request(stream: &TcpStream) -> Option<Asked> {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let length = head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body).ok()?;
    Some(Asked { head, body: serde_json::from_slice(&body).unwrap_or(Value::Null) })
}

impl Asked {
    /// How many texts were sent.
    pub(crate) fn texts(&self) -> usize {
        self.body["input"].as_array().map_or(0, Vec::len)
    }
}

/// The vector that a right answer has for a text: it depends on its length alone.
pub(crate) fn vector_of(text: &str, width: usize) -> Vec<f32> {
    (0..width).map(|place| if place == text.len() % width { 3.0 } else { 1.0 }).collect()
}

/// A right answer with vectors of this width.
pub(crate) fn right(asked: &Asked, width: usize) -> Value {
    let texts = asked.body["input"].as_array().expect("a list of texts");
    let item = |(index, text): (usize, &Value)| json!({"object": "embedding", "index": index, "embedding": vector_of(text.as_str().expect("a text"), width)});
    let data: Vec<Value> = texts.iter().enumerate().map(item).collect();
    json!({"object": "list", "data": data, "model": "m-1", "usage": {"prompt_tokens": texts.len() * 3}})
}

/// A whole response.
pub(crate) fn respond(stream: &mut TcpStream, status: &str, headers: &str, body: &str) {
    let length = body.len();
    let response = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n{headers}\r\n{body}"
    );
    // A client that has given up is part of what is tested.
    let _gone = stream.write_all(response.as_bytes());
}

/// Answers rightly.
pub(crate) fn answers(width: usize) -> Reply {
    changed(width, |_| ())
}

/// Answers rightly, but for a change of the JSON.
pub(crate) fn changed(width: usize, change: impl Fn(&mut Value) + Send + 'static) -> Reply {
    Box::new(move |asked, stream| {
        let mut body = right(asked, width);
        change(&mut body);
        respond(stream, "200 OK", "", &body.to_string());
    })
}

/// Answers every request with this status, these headers (each with its line end) and this body.
pub(crate) fn says(status: &'static str, headers: impl Into<String>, body: impl Into<String>) -> Reply {
    let (headers, body) = (headers.into(), body.into());
    Box::new(move |_, stream| respond(stream, status, &headers, &body))
}

/// Writes these bytes and closes.
pub(crate) fn writes(bytes: impl Into<Vec<u8>>) -> Reply {
    let bytes = bytes.into();
    Box::new(move |_, stream| {
        let _gone = stream.write_all(&bytes);
    })
}

/// Writes these bytes, then blanks, one at a time with a pause, until nobody reads any longer.
pub(crate) fn drips(start: &'static str, pause: Duration) -> Reply {
    Box::new(move |_, stream| {
        let _gone = stream.write_all(start.as_bytes());
        let start = Instant::now();
        while start.elapsed() < LONGEST && stream.write_all(b" ").is_ok() {
            thread::sleep(pause);
        }
    })
}

/// Writes these bytes, then nothing, until the other side closes.
pub(crate) fn falls_silent_after(start: &'static str) -> Reply {
    Box::new(move |_, stream| {
        let _gone = stream.write_all(start.as_bytes());
        stream.set_read_timeout(Some(LONGEST)).expect("it is not zero");
        let _closed = stream.read(&mut [0; 1]);
    })
}
