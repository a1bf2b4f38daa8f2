//! Asking a server for vectors, and outliving whatever it does instead.
//!
//! Requests are bounded in texts, bytes and time, answers in bytes. The deadline is for a whole request: resolving,
//! connecting, every repetition, and the last byte of the answer, so that a byte a second does not keep it alive. Redirects
//! are not followed: the key and the texts are for one host. Proxies of the environment (`HTTPS_PROXY`, `NO_PROXY`) are
//! respected, except for this machine itself.
//!
//! What is not here: what a right answer is ([`answer`](crate::answer)), and threads: a call blocks until its end.

use std::io;
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;
use ureq::http::{HeaderValue, Response, Uri, header};
use ureq::tls::{RootCerts, TlsConfig};
use ureq::{Agent, Body};

use crate::answer::{self, Answer, Expected, Seen};
use crate::said::Cleaner;
use crate::{Endpoint, RemoteError};

/// The most texts of one request; common servers take at least these.
const MOST_TEXTS: usize = 128;

/// The most text of one request. A single text that is longer goes alone.
const MOST_TEXT_BYTES: usize = 256 * 1024;

/// What a number takes in JSON at most: 17 digits, sign, point, exponent, comma, and the indentation of a pretty printer.
const BYTES_A_NUMBER: usize = 40;

/// What surrounds a vector in an answer at most.
const BYTES_AROUND_A_VECTOR: usize = 1024;

/// What surrounds all vectors at most.
const BYTES_AROUND_ALL: usize = 64 * 1024;

/// No answer may be larger; where vectors are wide, a request has fewer texts.
const MOST_ANSWER_BYTES: usize = 64 * 1024 * 1024;

/// The width that is allowed for before it is known.
const WIDTH_ALLOWED_FOR: usize = 16_384;

/// The most of an error's body that is read.
const MOST_ERROR_BYTES: u64 = 64 * 1024;

/// The pause before the one repetition after a broken connection or a failed server.
const BACKOFF: Duration = Duration::from_millis(250);

/// The first pause for a busy server that does not say how long to wait; it doubles.
const BUSY_BACKOFF: Duration = Duration::from_millis(500);

/// A busy server that says "now" is not asked sooner than after this time.
const LEAST_PAUSE: Duration = Duration::from_millis(100);

/// How often a busy server is asked again.
const MOST_REPETITIONS: u32 = 4;

/// A connection to one endpoint. Nothing leaves before the first [`RemoteEmbedder::embed`].
#[derive(Debug)]
pub struct RemoteEmbedder {
    endpoint: Endpoint,
    agent: Agent,
    seen: Mutex<Option<Seen>>,
}

/// Vectors that came from a server.
#[derive(Clone, Debug, PartialEq)]
pub struct RemoteBatch {
    /// One for each text, in order, each of length 1 (L2): a server that does not normalise is no exception.
    pub vectors: Vec<Vec<f32>>,
    /// Tokens of all texts, where the server counts them.
    pub tokens: Option<usize>,
    /// From the call to its end, all requests and repetitions together.
    pub milliseconds: f64,
}

#[derive(Serialize)]
struct Request<'texts> {
    model: &'texts str,
    input: &'texts [String],
    encoding_format: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    dimensions: Option<NonZeroU32>,
}

/// A request that failed, and whether to repeat it.
struct Failed {
    error: RemoteError,
    again: Again,
}

/// Whether asking again can help.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Again {
    Never,
    Once,
    /// As the server wishes, where it says so.
    After(Option<Duration>),
}

impl Again {
    /// How long to wait before the next repetition; `None` to give up.
    fn pause(self, repetitions: u32) -> Option<Duration> {
        match self {
            Self::Once if repetitions == 0 => Some(BACKOFF),
            Self::After(wish) if repetitions < MOST_REPETITIONS => {
                Some(wish.unwrap_or(BUSY_BACKOFF * 2_u32.pow(repetitions)).max(LEAST_PAUSE))
            }
            _ => None,
        }
    }
}

impl RemoteEmbedder {
    /// Prepares to ask an endpoint. Nothing is sent yet, so this succeeds for a server that is not there.
    pub fn open(endpoint: Endpoint) -> Result<Self, RemoteError> {
        let tls = TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build();
        let config = Agent::config_builder()
            .tls_config(tls)
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("embedbar/", env!("CARGO_PKG_VERSION")));
        // A proxy elsewhere has nothing to do with a program on this machine, and would see the key.
        let config = if endpoint.is_loopback() { config.proxy(None) } else { config };
        Ok(Self { endpoint, agent: config.build().into(), seen: Mutex::new(None) })
    }

    /// The endpoint that is asked.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Numbers of each vector, once an answer has shown it.
    pub fn width(&self) -> Option<usize> {
        self.seen().map(|seen| seen.width)
    }

    /// One vector for each text, in order. Long lists go in several requests, one after the other, each with the endpoint's
    /// deadline; where one fails, the whole call does. Texts are sent as they are, without a prompt.
    pub fn embed(&self, texts: &[String]) -> Result<RemoteBatch, RemoteError> {
        let start = Instant::now();
        let mut vectors = Vec::with_capacity(texts.len());
        let mut tokens = Some(0_usize);
        let mut rest = texts;
        while !rest.is_empty() {
            let (now, later) = rest.split_at(texts_of_a_request(rest, self.width_allowed_for()));
            let answer = self.ask(now)?;
            vectors.extend(answer.vectors);
            tokens = tokens.zip(answer.tokens).map(|(sum, more)| sum.saturating_add(more));
            rest = later;
        }
        Ok(RemoteBatch { vectors, tokens, milliseconds: start.elapsed().as_secs_f64() * 1000.0 })
    }

    /// One request, repeated where that can help.
    fn ask(&self, texts: &[String]) -> Result<Answer, RemoteError> {
        let request = Request {
            model: self.endpoint.model(),
            input: texts,
            encoding_format: "float",
            dimensions: self.endpoint.dimensions(),
        };
        let request = serde_json::to_vec(&request).expect("texts and numbers are always JSON. This is a bug.");
        let until = Instant::now() + self.endpoint.deadline();
        let mut repetitions = 0;
        loop {
            let Failed { error, again } = match self.attempt(&request, texts.len(), until) {
                Ok(body) => return self.check(&body, texts.len()),
                Err(failed) => failed,
            };
            match again.pause(repetitions) {
                Some(pause) if Instant::now() + pause < until => {
                    tracing::debug!(%error, ?pause, repetitions, "the remote server is asked again");
                    thread::sleep(pause);
                    repetitions += 1;
                }
                _ => return Err(error),
            }
        }
    }

    /// One exchange; the body of an answer that says that all is well.
    fn attempt(&self, request: &[u8], texts: usize, until: Instant) -> Result<Vec<u8>, Failed> {
        // With nothing left, ureq would still wait for a moment.
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Failed { error: self.timed_out(texts), again: Again::Never });
        }
        let call = self.agent.post(self.endpoint.url()).header(header::CONTENT_TYPE, "application/json");
        let call = match self.endpoint.key() {
            Some(key) => {
                let mut bearer = HeaderValue::from_str(&format!("Bearer {}", key.reveal()))
                    .expect("a key is visible ASCII. This is a bug.");
                bearer.set_sensitive(true);
                call.header(header::AUTHORIZATION, bearer)
            }
            None => call,
        };
        let mut response =
            call.config().timeout_global(Some(left)).build().send(request).map_err(|error| {
                self.transport(error, texts, |host, reason| RemoteError::Unreachable { host, reason })
            })?;
        if !response.status().is_success() {
            return Err(self.refusal(&mut response));
        }
        let most_bytes = most_answer_bytes(texts, self.width_allowed_for()) as u64;
        response.body_mut().with_config().limit(most_bytes).read_to_vec().map_err(|error| match error {
            ureq::Error::BodyExceedsLimit(_) => {
                Failed { error: RemoteError::TooLarge { host: self.host(), texts, most_bytes }, again: Again::Never }
            }
            error => self.transport(error, texts, |host, reason| RemoteError::BrokenOff { host, reason }),
        })
    }

    /// What a status other than success means.
    fn refusal(&self, response: &mut Response<Body>) -> Failed {
        let host = self.host();
        let status = response.status().as_u16();
        let clean = self.cleaner();
        if response.status().is_redirection() {
            let to = response.headers().get(header::LOCATION).and_then(|to| to.to_str().ok());
            let to = to.and_then(|to| to.parse::<Uri>().ok()).and_then(|to| to.host().map(|host| clean.text(host)));
            return Failed { error: RemoteError::Redirected { host, status, to }, again: Again::Never };
        }
        let retry_after = retry_after(response);
        // A body that does not come is no reason to keep the status from the reader.
        let body = response.body_mut().with_config().limit(MOST_ERROR_BYTES).read_to_vec().unwrap_or_default();
        let said = clean.said(&body);
        let model = self.endpoint.model().to_owned();
        let (error, again) = match status {
            401 | 403 => {
                let had_key = self.endpoint.key().is_some();
                (RemoteError::KeyRefused { host, status, had_key, said }, Again::Never)
            }
            404 => (RemoteError::NotThere { host, model, said }, Again::Never),
            429 | 503 => (RemoteError::Busy { host, status, retry_after, said }, Again::After(retry_after)),
            400..500 => (RemoteError::Rejected { host, model, status, said }, Again::Never),
            500..600 => (RemoteError::ServerFailed { host, status, said }, Again::Once),
            _ => (RemoteError::StatusUnknown { host, status, said }, Again::Never),
        };
        Failed { error, again }
    }

    /// What a broken exchange means; `broken` names it where the connection is at fault.
    fn transport(
        &self,
        error: ureq::Error,
        texts: usize,
        broken: impl FnOnce(String, String) -> RemoteError,
    ) -> Failed {
        let host = self.host();
        let clean = self.cleaner();
        let reason = clean.text(&error.to_string());
        let (error, again) = match error {
            ureq::Error::Timeout(_) => (self.timed_out(texts), Again::Never),
            ureq::Error::Io(error) if error.kind() == io::ErrorKind::TimedOut => (self.timed_out(texts), Again::Never),
            // So says rustls that it does not like what it has read.
            ureq::Error::Io(error) if error.kind() == io::ErrorKind::InvalidData => {
                (RemoteError::Tls { host, reason: clean.text(&error.to_string()) }, Again::Never)
            }
            ureq::Error::Io(error) => (broken(host, clean.text(&error.to_string())), Again::Once),
            ureq::Error::HostNotFound => (broken(host, reason), Again::Once),
            ureq::Error::Tls(_) | ureq::Error::Rustls(_) | ureq::Error::Pem(_) | ureq::Error::TlsRequired => {
                (RemoteError::Tls { host, reason }, Again::Never)
            }
            ureq::Error::Protocol(_) | ureq::Error::Http(_) | ureq::Error::LargeResponseHeader(..) => {
                (RemoteError::NotHttp { host, reason }, Again::Never)
            }
            _ => (broken(host, reason), Again::Never),
        };
        Failed { error, again }
    }

    fn check(&self, body: &[u8], texts: usize) -> Result<Answer, RemoteError> {
        // Held meanwhile, so that of two first answers of different widths one is refused.
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let expected = Expected { texts, dimensions: self.endpoint.dimensions(), before: seen.as_ref() };
        let answer = answer::read(body, expected, self.cleaner())
            .map_err(|fault| RemoteError::AnswerUnusable { host: self.host(), fault })?;
        *seen = Some(answer.seen.clone());
        Ok(answer)
    }

    fn seen(&self) -> Option<Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn width_allowed_for(&self) -> usize {
        let asked = self.endpoint.dimensions().map(|asked| asked.get() as usize);
        self.width().or(asked).unwrap_or(WIDTH_ALLOWED_FOR)
    }

    fn cleaner(&self) -> Cleaner<'_> {
        Cleaner::new(self.endpoint.key())
    }

    fn host(&self) -> String {
        self.endpoint.host().to_owned()
    }

    fn timed_out(&self, texts: usize) -> RemoteError {
        RemoteError::TimedOut { host: self.host(), texts, deadline: self.endpoint.deadline() }
    }
}

/// How long a server asks to wait, in seconds. Dates are not understood: they need its clock to be right.
fn retry_after(response: &Response<Body>) -> Option<Duration> {
    let seconds = response.headers().get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}

/// How many of these texts the next request takes: at least one.
fn texts_of_a_request(texts: &[String], width: usize) -> usize {
    let fit = (MOST_ANSWER_BYTES - BYTES_AROUND_ALL) / (BYTES_AROUND_A_VECTOR + width * BYTES_A_NUMBER);
    let mut bytes = 0;
    let within = texts.iter().take_while(|text| {
        bytes += text.len();
        bytes <= MOST_TEXT_BYTES
    });
    within.take(MOST_TEXTS.min(fit)).count().max(1)
}

/// What the vectors of a request can take at most.
fn most_answer_bytes(texts: usize, width: usize) -> usize {
    BYTES_AROUND_ALL + texts * (BYTES_AROUND_A_VECTOR + width * BYTES_A_NUMBER)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::answer::MOST_WIDTH;

    #[test]
    fn a_request_has_few_texts_and_little_text() {
        let short = vec!["x".to_owned(); 300];
        assert_eq!(texts_of_a_request(&short, 384), MOST_TEXTS);
        assert_eq!(texts_of_a_request(&short, MOST_WIDTH), 25);
        let long = vec!["x".repeat(100 * 1024); 5];
        assert_eq!(texts_of_a_request(&long, 384), 2);
        assert_eq!(texts_of_a_request(&["x".repeat(MOST_TEXT_BYTES + 1), String::new()], 384), 1);
        assert_eq!(texts_of_a_request(&[String::new()], MOST_WIDTH), 1);
    }

    #[test]
    fn a_pause_is_as_the_server_wishes_and_ends() {
        assert_eq!(Again::Never.pause(0), None);
        assert_eq!((Again::Once.pause(0), Again::Once.pause(1)), (Some(BACKOFF), None));
        assert_eq!(Again::After(Some(Duration::ZERO)).pause(0), Some(LEAST_PAUSE));
        assert_eq!(Again::After(Some(Duration::from_secs(7))).pause(3), Some(Duration::from_secs(7)));
        assert_eq!(Again::After(None).pause(0), Some(BUSY_BACKOFF));
        assert_eq!(Again::After(None).pause(2), Some(BUSY_BACKOFF * 4));
        assert_eq!(Again::After(None).pause(MOST_REPETITIONS), None);
    }

    proptest! {
        #[test]
        fn no_answer_may_be_larger_than_the_limit(lengths in prop::collection::vec(0_usize..90_000, 1..200), width in 1..=MOST_WIDTH) {
            let texts: Vec<String> = lengths.into_iter().map(|length| " ".repeat(length)).collect();
            let taken = texts_of_a_request(&texts, width);
            prop_assert!((1..=MOST_TEXTS.min(texts.len())).contains(&taken));
            prop_assert!(most_answer_bytes(taken, width) <= MOST_ANSWER_BYTES);
            prop_assert!(taken == 1 || texts[..taken].iter().map(String::len).sum::<usize>() <= MOST_TEXT_BYTES);
        }
    }
}
