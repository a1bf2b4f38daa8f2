//! Whether a person has agreed that text leaves for a server.
//!
//! Off by default: an endpoint is asked about once, by host and model, and the answer is remembered. Another host, another
//! model of it, or the same host without encryption is another question. What is not here: how a person is asked, and the
//! refusal to send; whoever owns the home asks and looks here before it starts a worker for an endpoint.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use embedbar_records::RecordError;
use serde::{Deserialize, Serialize};

use crate::Endpoint;

/// The version that this program reads and writes.
const VERSION: u64 = 1;

/// What a person is to be asked before an endpoint is first used.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Question {
    /// The host, with its port where that is not the usual one; with `http://` where it is another machine and what is sent
    /// there is not encrypted, because that is another question.
    pub host: String,
    /// The model's name there.
    pub model: String,
    /// One sentence: what leaves, and to where.
    pub what_leaves: String,
}

impl Question {
    /// The question about an endpoint.
    pub fn about(endpoint: &Endpoint) -> Self {
        let host = endpoint.host();
        let (shown, how) = if endpoint.is_loopback() {
            (host.to_owned(), format!("is sent to the program that answers at `{host}` on this machine"))
        } else if endpoint.is_in_clear() {
            let how = format!("leaves this machine for `{host}`, unencrypted: everybody on the way can read it");
            (format!("http://{host}"), how)
        } else {
            (host.to_owned(), format!("leaves this machine for `{host}`, encrypted on the way"))
        };
        let with_key = if endpoint.key().is_some() { ", and with it your key" } else { "" };
        let what_leaves = format!("The text of every query and passage that is embedded there {how}{with_key}.");
        Self { host: shown, model: endpoint.model().to_owned(), what_leaves }
    }
}

/// What a person has said about an endpoint, and when.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Standing {
    /// Nobody was asked.
    NeverAsked,
    /// The question was shown and has no answer yet.
    Asked(SystemTime),
    /// Text may leave.
    Granted(SystemTime),
    /// Text may not leave.
    Refused(SystemTime),
}

/// An entry of the store.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Given {
    /// As in [`Question::host`].
    pub host: String,
    /// As in [`Question::model`].
    pub model: String,
    /// What was said.
    pub standing: Standing,
}

/// Why what was answered cannot be read or kept.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct ConsentError(#[from] RecordError);

impl ConsentError {
    /// What is wrong with the record.
    pub fn record(&self) -> &RecordError {
        &self.0
    }
}

/// The answers that a home remembers. Only its owner opens them, so there is one writer.
#[derive(Debug)]
pub struct Consents {
    store: PathBuf,
    kept: Kept,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
struct Kept {
    /// By host, then by model.
    hosts: BTreeMap<String, BTreeMap<String, Entry>>,
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
struct Entry {
    answer: Answer,
    /// Since 1970.
    at_seconds: u64,
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
enum Answer {
    Asked,
    Granted,
    Refused,
}

impl Consents {
    /// Opens the store, which need not be there yet: then nobody was asked.
    pub fn open(store: impl Into<PathBuf>) -> Result<Self, ConsentError> {
        let store = store.into();
        let kept = embedbar_records::read(&store, VERSION)?.unwrap_or_default();
        Ok(Self { store, kept })
    }

    /// What was said about an endpoint.
    pub fn standing(&self, question: &Question) -> Standing {
        let entry = self.kept.hosts.get(&question.host).and_then(|models| models.get(&question.model));
        entry.map_or(Standing::NeverAsked, Entry::standing)
    }

    /// Whether text may leave for an endpoint: a person has said so.
    pub fn allows(&self, question: &Question) -> bool {
        matches!(self.standing(question), Standing::Granted(_))
    }

    /// Remembers that the question was shown. An answer that was given before stays.
    pub fn asked(&mut self, question: &Question, at: SystemTime) -> Result<(), ConsentError> {
        match self.standing(question) {
            Standing::NeverAsked | Standing::Asked(_) => self.put(question, Answer::Asked, at),
            Standing::Granted(_) | Standing::Refused(_) => Ok(()),
        }
    }

    /// Remembers that text may leave.
    pub fn grant(&mut self, question: &Question, at: SystemTime) -> Result<(), ConsentError> {
        self.put(question, Answer::Granted, at)
    }

    /// Remembers that text may not leave, so that nobody asks again.
    pub fn refuse(&mut self, question: &Question, at: SystemTime) -> Result<(), ConsentError> {
        self.put(question, Answer::Refused, at)
    }

    /// Forgets an answer, by the names that [`Consents::all`] lists; the next use asks again. Whether there was one.
    pub fn revoke(&mut self, host: &str, model: &str) -> Result<bool, ConsentError> {
        let mut kept = self.kept.clone();
        let Some(models) = kept.hosts.get_mut(host) else { return Ok(false) };
        if models.remove(model).is_none() {
            return Ok(false);
        }
        if models.is_empty() {
            kept.hosts.remove(host);
        }
        self.keep(kept)?;
        Ok(true)
    }

    /// All that was asked and answered, by host and model.
    pub fn all(&self) -> impl Iterator<Item = Given> {
        self.kept.hosts.iter().flat_map(|(host, models)| {
            models.iter().map(|(model, entry)| Given {
                host: host.clone(),
                model: model.clone(),
                standing: entry.standing(),
            })
        })
    }

    fn put(&mut self, question: &Question, answer: Answer, at: SystemTime) -> Result<(), ConsentError> {
        let at_seconds = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let mut kept = self.kept.clone();
        let models = kept.hosts.entry(question.host.clone()).or_default();
        models.insert(question.model.clone(), Entry { answer, at_seconds });
        self.keep(kept)
    }

    /// Only what is on the disk holds.
    fn keep(&mut self, kept: Kept) -> Result<(), ConsentError> {
        embedbar_records::write(&self.store, VERSION, &kept).map_err(RecordError::from)?;
        self.kept = kept;
        Ok(())
    }
}

impl Entry {
    fn standing(&self) -> Standing {
        // A time that no clock can hold is a damaged one, and no reason to forget what was said.
        let at = UNIX_EPOCH.checked_add(Duration::from_secs(self.at_seconds)).unwrap_or(UNIX_EPOCH);
        match self.answer {
            Answer::Asked => Standing::Asked(at),
            Answer::Granted => Standing::Granted(at),
            Answer::Refused => Standing::Refused(at),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::Key;

    fn question(url: &str, model: &str) -> Question {
        let key = Key::new("sk-hunter2").expect("it is one");
        let key = (!url.starts_with("http://example")).then_some(key);
        Question::about(&Endpoint::new(url, key, model, None, Duration::from_secs(1)).expect(url))
    }

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn the_question_names_the_host_and_what_leaves() {
        let encrypted = question("https://example.org:8443/v1", "m");
        assert_eq!((encrypted.host.as_str(), encrypted.model.as_str()), ("example.org:8443", "m"));
        assert_eq!(
            encrypted.what_leaves,
            "The text of every query and passage that is embedded there leaves this machine for `example.org:8443`, \
             encrypted on the way, and with it your key."
        );
        let clear = question("http://example.org/v1", "m");
        assert_eq!(clear.host, "http://example.org");
        assert!(clear.what_leaves.contains("unencrypted") && !clear.what_leaves.contains("key"), "{clear:?}");
        let here = question("http://localhost:8080/v1", "m");
        assert!(here.what_leaves.contains("on this machine") && !here.what_leaves.contains("leaves"), "{here:?}");
        assert!(!format!("{encrypted:?}").contains("hunter2"));
    }

    #[test]
    fn an_answer_is_for_one_host_one_model_and_one_way_and_is_remembered() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store = folder.path().join("consents.json");
        let asked = question("https://example.org/v1", "m");
        let mut consents = Consents::open(&store).expect("it need not be there");
        assert_eq!(consents.standing(&asked), Standing::NeverAsked);
        assert!(!store.exists());
        consents.asked(&asked, at(10)).expect("it can be written");
        assert_eq!(consents.standing(&asked), Standing::Asked(at(10)));
        assert!(!consents.allows(&asked));
        consents.grant(&asked, at(20)).expect("it can be written");
        let mut consents = Consents::open(&store).expect("it was written");
        assert_eq!(consents.standing(&asked), Standing::Granted(at(20)));
        assert!(consents.allows(&asked));
        consents.asked(&asked, at(30)).expect("nothing to do");
        assert_eq!(consents.standing(&asked), Standing::Granted(at(20)), "an answer is not forgotten by asking");
        for other in [
            question("https://example.org/v1", "n"),
            question("https://example.org:8443/v1", "m"),
            question("http://example.org/v1", "m"),
        ] {
            assert_eq!(consents.standing(&other), Standing::NeverAsked, "{other:?}");
        }
        assert!(consents.allows(&question("https://EXAMPLE.org/v1/embeddings", "m")), "the same host");
        assert_eq!(fs::metadata(&store).expect("it is there").permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_refusal_stays_and_a_consent_can_be_taken_back() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store = folder.path().join("consents.json");
        let (one, other) = (question("https://one/v1", "m"), question("https://other/v1", "m"));
        let mut consents = Consents::open(&store).expect("it need not be there");
        consents.refuse(&one, at(1)).expect("it can be written");
        consents.grant(&other, at(2)).expect("it can be written");
        let mut consents = Consents::open(&store).expect("it was written");
        assert_eq!(consents.standing(&one), Standing::Refused(at(1)));
        let hosts: Vec<String> = consents.all().map(|given| given.host).collect();
        assert_eq!(hosts, ["one", "other"]);
        assert!(consents.revoke("other", "m").expect("it can be written"));
        assert!(!consents.revoke("other", "m").expect("nothing to do"));
        assert!(!consents.revoke("one", "n").expect("nothing to do"));
        assert_eq!(Consents::open(&store).expect("it is there").standing(&other), Standing::NeverAsked);
        assert_eq!(fs::read_dir(folder.path()).expect("it is there").count(), 1, "no temporary file stays");
    }

    #[test]
    fn a_consent_that_cannot_be_written_does_not_hold() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store = folder.path().join("gone").join("consents.json");
        let asked = question("https://example.org/v1", "m");
        let mut consents = Consents::open(&store).expect("it need not be there");
        let error = consents.grant(&asked, at(1)).expect_err("there is no folder");
        assert!(error.to_string().starts_with("cannot write"), "{error}");
        assert!(!consents.allows(&asked));
    }

    #[test]
    fn a_store_of_a_newer_version_is_refused_with_a_sentence_and_left_alone() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store = folder.path().join("consents.json");
        let newer = r#"{"version": 2, "hosts": "in another form"}"#;
        fs::write(&store, newer).expect("it can be written");
        let error = Consents::open(&store).expect_err("it is newer");
        assert!(matches!(error, ConsentError(RecordError::Newer { found: 2, known: 1, .. })), "{error}");
        assert_eq!(fs::read_to_string(&store).expect("it is there"), newer);
    }

    #[test]
    fn a_damaged_store_allows_nothing_and_is_a_sentence() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store = folder.path().join("consents.json");
        let entry = |text: &str| format!(r#"{{"version":1,"hosts":{{"h":{{"m":{text}}}}}}}"#);
        let broken =
            ["", "{", "[]", r#"{"hosts":{}}"#, r#"{"version":1}"#, r#"{"version":1,"hosts":{"h":3}}"#, "\u{0}"];
        let entries = [r#"{"answer":"perhaps","at_seconds":1}"#, r#"{"answer":"granted"}"#].map(entry);
        for content in broken.into_iter().chain(entries.iter().map(String::as_str)) {
            fs::write(&store, content).expect("it can be written");
            let error = Consents::open(&store).expect_err(content);
            assert!(matches!(error, ConsentError(RecordError::Damaged { .. })), "{error}");
            assert!(error.to_string().contains("consents.json` is damaged: "), "{error}");
        }
        fs::write(&store, entry(&format!(r#"{{"answer":"refused","at_seconds":{}}}"#, u64::MAX)))
            .expect("it can be written");
        let odd = Consents::open(&store).expect("a strange time is no damage");
        assert!(matches!(odd.all().next().expect("it is listed").standing, Standing::Refused(_)));
    }
}
