//! A server on the network in the place of a model, with real programs: nothing leaves before a person has said yes.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use embedbar_tests::program::{TestHome, eventually};
use serde_json::{Value, json};

use crate::following::{active, becomes, call, env, save};

/// What a server was sent: the header with the key, and the texts.
type Requests = Vec<(String, Vec<String>)>;

#[derive(Clone, Default)]
pub(crate) struct Seen(Arc<Mutex<Requests>>);

impl Seen {
    pub(crate) fn texts(&self) -> Vec<String> {
        self.0.lock().expect("nobody panics").iter().flat_map(|(_, texts)| texts.clone()).collect()
    }

    fn keys(&self) -> Vec<String> {
        self.0.lock().expect("nobody panics").iter().map(|(key, _)| key.clone()).collect()
    }
}

/// An OpenAI-compatible server on this machine whose vectors have three numbers.
pub(crate) fn server() -> (String, Seen) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("it has one");
    let seen = Seen::default();
    let told = seen.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let told = told.clone();
            std::thread::spawn(move || answer(&stream, &told));
        }
    });
    (format!("http://{address}/v1"), seen)
}

fn answer(stream: &TcpStream, seen: &Seen) -> Option<()> {
    let mut input = BufReader::new(stream.try_clone().ok()?);
    loop {
        let (mut length, mut key) = (0, String::new());
        loop {
            let mut line = String::new();
            if input.read_line(&mut line).ok()? == 0 {
                return None;
            }
            let Some((name, value)) = line.trim().split_once(':') else {
                if line.trim().is_empty() {
                    break;
                }
                continue;
            };
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.trim().parse().ok()?,
                "authorization" => value.trim().clone_into(&mut key),
                _ => {}
            }
        }
        let mut body = vec![0; length];
        input.read_exact(&mut body).ok()?;
        let request: Value = serde_json::from_slice(&body).ok()?;
        let texts: Vec<String> = serde_json::from_value(request["input"].clone()).ok()?;
        let data: Vec<Value> = texts
            .iter()
            .enumerate()
            .map(|(index, text)| json!({ "index": index, "embedding": [1.0, text.len() as f64, 2.0] }))
            .collect();
        seen.0.lock().ok()?.push((key, texts));
        let reply = json!({ "data": data, "model": "small", "usage": { "prompt_tokens": 5, "total_tokens": 5 } });
        let reply = reply.to_string();
        let mut output = stream;
        write!(
            output,
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{reply}",
            reply.len()
        )
        .ok()?;
    }
}

#[test]
fn a_server_on_the_network_is_used_once_a_person_allows_it_and_its_key_shows_nowhere() {
    const KEY: &str = "sk-secret-0123456789";
    let (url, seen) = server();
    let home = TestHome::new();
    let embedbar = home.serve();
    becomes(&embedbar, "all-MiniLM-L6-v2");
    let file = home.scratch().join(".env");
    let text = format!(
        "EMBEDBAR_BACKEND=remote\nEMBEDBAR_REMOTE_URL={url}\nEMBEDBAR_REMOTE_MODEL=small\nEMBEDBAR_REMOTE_KEY={KEY}\n"
    );
    save(&file, &text, true);
    home.json(&["env", "use", file.to_str().expect("UTF-8"), "--approve"]);
    let asked = eventually("the person is asked", || {
        env(&embedbar)["effect"].as_str().filter(|it| it.contains("before you allow it")).map(str::to_owned)
    });
    let host = url.trim_start_matches("http://").trim_end_matches("/v1");
    assert!(asked.contains(host) && asked.contains("The text of every query"), "{asked}");
    assert_eq!(active(&embedbar).as_deref(), Some("all-MiniLM-L6-v2"));
    assert_eq!(seen.texts(), Vec::<String>::new(), "nothing leaves before");

    let status = &home.json(&["env", "remote", "--allow"])[0];
    assert_eq!((status["consent"].as_str(), status["host"].as_str()), (Some("granted"), Some(host)));
    becomes(&embedbar, &format!("remote:{host}/small"));
    let answer = call(&embedbar, "embed", &json!({ "texts": ["four", "sixteen letters!"] })).expect("it answers");
    assert_eq!((answer["items"][0]["dims"].as_u64(), answer["items"].as_array().map(Vec::len)), (Some(3), Some(2)));
    assert!(seen.texts().iter().any(|text| text == "sixteen letters!"));
    assert!(seen.keys().iter().all(|key| *key == format!("Bearer {KEY}")));
    // Vectors of three numbers are nobody else's generation.
    assert!(home.json(&["env", "remote"])[0]["agreement"].is_null());

    // A program that names the local model is refused, not answered from the network.
    assert!(call(&embedbar, "embed", &json!({ "texts": ["x"], "model": "all-MiniLM-L6-v2" })).is_err());
    // A refusal brings the local model back with the next save.
    home.json(&["env", "remote", "--refuse"]);
    save(&file, "EMBEDBAR_MODEL=all-MiniLM-L6-v2\n", true);
    home.json(&["env", "use", file.to_str().expect("UTF-8"), "--approve"]);
    becomes(&embedbar, "all-MiniLM-L6-v2");
    drop(embedbar);

    let logs = std::fs::read_dir(home.path().join("logs")).expect("there are logs").flatten();
    let logs: String = logs.map(|log| std::fs::read_to_string(log.path()).expect("UTF-8")).collect();
    assert!(logs.contains(&format!("remote:{host}/small")) && !logs.contains(KEY), "the key is in the log");
    let consents = std::fs::read_to_string(home.path().join("consents.json")).expect("it is there");
    assert!(!consents.contains(KEY));
}
