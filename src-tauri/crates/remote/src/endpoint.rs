//! Which server is asked, for which model, and how long it may take.
//!
//! An address is checked once, here, so that nothing later has to. What is not here: the settings that it comes from (the
//! app maps them), and any connection.

use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use embedbar_contract::{Generation, Precision, RecipeName};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use ureq::http::Uri;

use crate::Key;
use crate::answer::MOST_WIDTH;

/// The longest deadline.
const LONGEST_DEADLINE: Duration = Duration::from_hours(1);

/// An OpenAI-compatible server and a model of it.
///
/// It serialises **with the key in clear**, for one purpose: an owner process hands it to its worker, a child, over a
/// private socket that the child has inherited. It must not be written to a file, a log or a reply. Every other form,
/// `Debug` included, is without the key and without the query of the address, where some servers take one.
#[derive(Clone, Deserialize, Eq, PartialEq, Serialize)]
#[serde(try_from = "InClear", into = "InClear")]
pub struct Endpoint {
    url: String,
    host: String,
    reach: Reach,
    key: Option<Key>,
    model: String,
    dimensions: Option<NonZeroU32>,
    deadline: Duration,
}

/// How a text gets there.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Reach {
    /// It does not leave this machine.
    Loopback,
    /// Encrypted.
    Tls,
    /// In clear.
    Clear,
}

/// The form in which an endpoint crosses the private socket.
#[derive(Clone, Deserialize, Serialize)]
struct InClear {
    url: String,
    key: Option<String>,
    model: String,
    dimensions: Option<NonZeroU32>,
    deadline_ms: u64,
}

/// Why an endpoint cannot be used. None of these shows the key or the address, which may have a password in it.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum EndpointError {
    /// Not an address that can be asked.
    #[error("the remote address cannot be used: {reason}; write one such as `https://host/v1`")]
    UrlUnusable {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Everybody on the way could read the key.
    #[error(
        "the key would travel to `{host}` unencrypted, so it is not sent; write `https://`, or leave the key out if `{host}` \
         wants none"
    )]
    KeyInClear {
        /// The host.
        host: String,
    },
    /// Not a key that can be sent.
    #[error(
        "the remote key cannot be sent: it is empty, too long, or has a character that no key has, such as a space or a \
         quote; copy it again"
    )]
    KeyUnusable,
    /// Not a name.
    #[error("the name of the remote model is empty or has control characters; write it as the server lists it")]
    ModelUnusable,
    /// Wider than any model.
    #[error("{dimensions} dimensions are more than the {most} that any model has", most = MOST_WIDTH)]
    DimensionsTooMany {
        /// What was asked for.
        dimensions: u32,
    },
    /// Not a time in which something can be answered.
    #[error("a deadline of {} s cannot be used; give 1 to {} s", .deadline.as_secs_f64(), LONGEST_DEADLINE.as_secs())]
    DeadlineUnusable {
        /// What was asked for.
        deadline: Duration,
    },
}

impl Endpoint {
    /// Checks an address and completes it: `https://host/v1` and `https://host/v1/embeddings` name the same endpoint. Plain
    /// `http` is for this machine, and for a server elsewhere that wants no key. `dimensions` asks the server for vectors of
    /// that length; `deadline` is for one request, its repetitions included.
    pub fn new(
        url: &str,
        key: Option<Key>,
        model: impl Into<String>,
        dimensions: Option<NonZeroU32>,
        deadline: Duration,
    ) -> Result<Self, EndpointError> {
        let Address { url, host, reach } = Address::of(url)?;
        if reach == Reach::Clear && key.is_some() {
            return Err(EndpointError::KeyInClear { host });
        }
        let model = model.into();
        if model.trim().is_empty() || model.chars().any(char::is_control) {
            return Err(EndpointError::ModelUnusable);
        }
        if let Some(dimensions) = dimensions.map(NonZeroU32::get).filter(|&it| it as usize > MOST_WIDTH) {
            return Err(EndpointError::DimensionsTooMany { dimensions });
        }
        if deadline.is_zero() || deadline > LONGEST_DEADLINE {
            return Err(EndpointError::DeadlineUnusable { deadline });
        }
        Ok(Self { url, host, reach, key, model, dimensions, deadline })
    }

    /// Where requests go. Some servers take a secret in its query: not for messages.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The host, with its port where that is not the usual one.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// What it wants to see.
    pub fn key(&self) -> Option<&Key> {
        self.key.as_ref()
    }

    /// The model's name there.
    pub fn model(&self) -> &str {
        &self.model
    }

    /// How long its vectors are to be; `None` takes what comes.
    pub fn dimensions(&self) -> Option<NonZeroU32> {
        self.dimensions
    }

    /// After which a request has failed.
    pub fn deadline(&self) -> Duration {
        self.deadline
    }

    /// Whether it is on this machine.
    pub fn is_loopback(&self) -> bool {
        self.reach == Reach::Loopback
    }

    /// Whether everybody on the way can read what is sent.
    pub fn is_in_clear(&self) -> bool {
        self.reach == Reach::Clear
    }

    /// What its vectors carry. They are a generation of their own.
    ///
    /// Nobody here sees the weights. The revision names the question (address, model, dimensions), not the weights: a server
    /// that changes its model under the same name goes unnoticed by it, and only a changed width or name in an answer is
    /// caught. The precision is not known: a server does not say what it computes with; the recipe is
    /// whatever the server applies.
    pub fn generation(&self) -> Generation {
        let mut hash = Sha256::new();
        let dimensions = self.dimensions.map_or(0, NonZeroU32::get).to_string();
        for part in [self.url.as_str(), self.model.as_str(), dimensions.as_str()] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        let digest = hash.finalize();
        let first = digest.first_chunk::<8>().expect("a sha256 has 32 bytes. This is a bug.");
        Generation {
            model: format!("remote:{}/{}", self.host, self.model),
            revision: format!("{:016x}", u64::from_be_bytes(*first)),
            precision: Precision::Unknown,
            recipe: RecipeName::Native,
        }
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = self.url.split('?').next().unwrap_or_default();
        formatter
            .debug_struct("Endpoint")
            .field("url", &url)
            .field("key", &self.key)
            .field("model", &self.model)
            .field("dimensions", &self.dimensions)
            .field("deadline", &self.deadline)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} at {}", self.model, self.host)
    }
}

impl TryFrom<InClear> for Endpoint {
    type Error = EndpointError;

    fn try_from(sent: InClear) -> Result<Self, EndpointError> {
        let key = sent.key.map(Key::new).transpose()?;
        Self::new(&sent.url, key, sent.model, sent.dimensions, Duration::from_millis(sent.deadline_ms))
    }
}

impl From<Endpoint> for InClear {
    fn from(endpoint: Endpoint) -> Self {
        Self {
            url: endpoint.url,
            key: endpoint.key.map(|key| key.reveal().to_owned()),
            model: endpoint.model,
            dimensions: endpoint.dimensions,
            deadline_ms: endpoint.deadline.as_millis() as u64,
        }
    }
}

/// A checked address.
struct Address {
    url: String,
    host: String,
    reach: Reach,
}

impl Address {
    fn of(text: &str) -> Result<Self, EndpointError> {
        let unusable = |reason| EndpointError::UrlUnusable { reason };
        if text.contains('#') {
            return Err(unusable("it has a fragment (`#`)"));
        }
        let uri: Uri = text.parse().map_err(|_| unusable("it is not an address"))?;
        let scheme = match uri.scheme_str() {
            Some("https") => "https",
            Some("http") => "http",
            Some(_) => return Err(unusable("it begins with neither `https://` nor `http://`")),
            None => return Err(unusable("it does not begin with `https://`")),
        };
        let authority = uri.authority().ok_or(unusable("it has no host"))?.as_str().to_lowercase();
        if authority.contains('@') {
            return Err(unusable("it has a user name or a password in it"));
        }
        let name = uri.host().unwrap_or_default();
        if name.is_empty() {
            return Err(unusable("it has no host"));
        }
        if authority.len() > name.len() && uri.port_u16().is_none_or(|port| port == 0) {
            return Err(unusable("its port is not a number from 1 to 65535"));
        }
        let usual = if scheme == "https" { ":443" } else { ":80" };
        let host = authority.strip_suffix(usual).unwrap_or(&authority).to_owned();
        let reach = match scheme {
            _ if is_loopback(name) => Reach::Loopback,
            "https" => Reach::Tls,
            _ => Reach::Clear,
        };
        let path = uri.path().trim_end_matches('/');
        let path = path.strip_suffix("/embeddings").unwrap_or(path);
        let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
        Ok(Self { url: format!("{scheme}://{host}{path}/embeddings{query}"), host, reach })
    }
}

/// Whether a host is this machine. A name that only looks like one of its addresses is not.
fn is_loopback(host: &str) -> bool {
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host.eq_ignore_ascii_case("localhost")
        || address.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(10);

    fn key() -> Key {
        Key::new("sk-hunter2").expect("it is one")
    }

    fn endpoint(url: &str) -> Endpoint {
        Endpoint::new(url, Some(key()), "m", None, DEADLINE).expect(url)
    }

    #[test]
    fn a_base_and_a_whole_address_are_the_same_endpoint() {
        let whole = "https://example.org/v1/embeddings";
        for url in
            ["https://example.org/v1", "https://EXAMPLE.org/v1/", whole, "https://example.org:443/v1/embeddings/"]
        {
            let endpoint = endpoint(url);
            assert_eq!((endpoint.url(), endpoint.host()), (whole, "example.org"), "{url}");
        }
        assert_eq!(endpoint("https://h:8443").url(), "https://h:8443/embeddings");
        assert_eq!(endpoint("https://h:8443").host(), "h:8443");
        let with_query = endpoint("https://h/deployments/d/embeddings?api-version=3");
        assert_eq!(with_query.url(), "https://h/deployments/d/embeddings?api-version=3");
    }

    #[test]
    fn what_is_no_address_is_refused_with_a_sentence_that_does_not_repeat_it() {
        for (url, says) in [
            ("", "not an address"),
            ("hunter2.example/v1", "not an address"),
            ("/hunter2", "does not begin"),
            ("ftp://hunter2/v1", "neither"),
            ("https://", "not an address"),
            ("https:///hunter2", "not an address"),
            ("https://:443/hunter2", "no host"),
            ("https://me:hunter2@example.org/v1", "password"),
            ("https://hunter2/v1#here", "fragment"),
            ("https://hunter2:99999/v1", "port"),
            ("https://hunter2:/v1", "port"),
            ("https://hunter2 x/v1", "not an address"),
        ] {
            let error = Endpoint::new(url, None, "m", None, DEADLINE).expect_err(url).to_string();
            assert!(error.contains(says) && !error.contains("hunter2"), "{url}: {error}");
        }
    }

    #[test]
    fn a_key_is_not_sent_in_clear_to_another_machine() {
        for url in
            ["http://example.org/v1", "http://127.0.0.1.example.org/v1", "http://10.0.0.7:8000/v1", "http://[::2]/v1"]
        {
            let error = Endpoint::new(url, Some(key()), "m", None, DEADLINE).expect_err(url);
            assert!(matches!(error, EndpointError::KeyInClear { .. }), "{error}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
            let without =
                Endpoint::new(url, None, "m", None, DEADLINE).expect("nobody can read a key that is not there");
            assert!(without.is_in_clear() && !without.is_loopback());
        }
        for url in
            ["http://localhost:8000", "http://127.0.0.1/v1", "http://[::1]:80/v1", "http://[::ffff:127.0.0.1]/v1"]
        {
            assert!(endpoint(url).is_loopback(), "{url}");
        }
        let encrypted = endpoint("https://example.org/v1");
        assert!(!encrypted.is_in_clear() && !encrypted.is_loopback());
    }

    #[test]
    fn a_name_a_width_and_a_deadline_that_cannot_be_are_refused() {
        let of = |model: &str, dimensions, deadline| {
            Endpoint::new("https://h/v1", None, model, NonZeroU32::new(dimensions), deadline).expect_err("it cannot be")
        };
        assert_eq!(of(" ", 0, DEADLINE), EndpointError::ModelUnusable);
        assert_eq!(of("a\nb", 0, DEADLINE), EndpointError::ModelUnusable);
        assert_eq!(of("m", 65_537, DEADLINE), EndpointError::DimensionsTooMany { dimensions: 65_537 });
        for deadline in [Duration::ZERO, Duration::from_secs(3601)] {
            assert_eq!(of("m", 0, deadline), EndpointError::DeadlineUnusable { deadline });
        }
    }

    #[test]
    fn no_form_but_that_for_the_worker_shows_the_key() {
        let endpoint = endpoint("https://example.org/v1?token=swordfish");
        let (debug, pretty) = (format!("{endpoint:?}"), format!("{endpoint:#?}"));
        for form in [&debug, &pretty, &endpoint.to_string(), &format!("{:?}", endpoint.generation())] {
            assert!(!form.contains("hunter2") && !form.contains("swordfish"), "{form}");
        }
        assert!(debug.contains("https://example.org/v1/embeddings") && debug.contains("(secret)"), "{debug}");
        let sent = serde_json::to_string(&endpoint).expect("it is plain data");
        assert_eq!(serde_json::from_str::<Endpoint>(&sent).expect("it was just written"), endpoint);
    }

    #[test]
    fn what_arrives_over_the_socket_is_checked_again() {
        let sent =
            r#"{"url":"http://example.org/v1","key":"hunter2","model":"m","dimensions":null,"deadline_ms":10000}"#;
        let error = serde_json::from_str::<Endpoint>(sent).expect_err("the key would travel in clear").to_string();
        assert!(error.contains("unencrypted") && !error.contains("hunter2"), "{error}");
    }

    #[test]
    fn the_generation_names_the_question() {
        let one = endpoint("https://example.org:8443/v1").generation();
        assert_eq!(one.model, "remote:example.org:8443/m");
        assert_eq!(one.revision.len(), 16);
        let of = |url: &str, model: &str, dimensions| {
            Endpoint::new(url, None, model, NonZeroU32::new(dimensions), DEADLINE).expect(url).generation()
        };
        assert_eq!(of("https://example.org:8443/v1/embeddings", "m", 0), one, "the key does not count");
        for other in [of("https://example.org:8443/v2", "m", 0), of("https://example.org:8443/v1", "m", 256)] {
            assert_eq!(other.model, one.model);
            assert_ne!(other.revision, one.revision);
        }
        assert_ne!(of("https://example.org:8443/v1", "n", 0).revision, one.revision);
    }

    proptest! {
        #[test]
        fn any_text_is_an_address_or_a_sentence(text in ".{0,80}", tail in "[a-z0-9:/?@#.\\[\\]%-]{0,40}") {
            for url in [text.clone(), format!("https://{tail}"), format!("http://{text}")] {
                if let Ok(endpoint) = Endpoint::new(&url, None, "m", None, DEADLINE) {
                    prop_assert_eq!(Endpoint::new(endpoint.url(), None, "m", None, DEADLINE), Ok(endpoint.clone()));
                }
            }
        }
    }
}
