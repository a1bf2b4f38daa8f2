//! The server on the network that the followed `.env` names: asked about by host, used only with a person's word.
//!
//! The key goes from the file to the worker that connects and to nobody else. What is not here: the connection itself
//! (`embedbar-remote`, in the worker), and when it is used.

use std::sync::{Mutex, MutexGuard};
use std::time::SystemTime;

use embedbar_contract::{Failure, FailureCode, RemoteAnswer, RemoteConsent, RemoteStatus};
use embedbar_lifecycle::{RemoteSource, Source, Target};
use embedbar_remote::{Agreement, Consents, Endpoint, Key, Question, Standing, THRESHOLD};
use embedbar_settings::Remote;
use embedbar_store::Home;

/// The endpoint and what was said to it.
pub(crate) struct RemoteEndpoint {
    inner: Mutex<Inner>,
}

struct Inner {
    consents: Consents,
    endpoint: Option<Endpoint>,
    agreement: Option<String>,
}

impl RemoteEndpoint {
    pub(crate) fn open(home: &Home) -> Result<Self, Failure> {
        let consents = Consents::open(home.consents())?;
        Ok(Self { inner: Mutex::new(Inner { consents, endpoint: None, agreement: None }) })
    }

    /// The file names this server, or none. A sentence where it cannot be used as it is written.
    pub(crate) fn name(&self, remote: Option<&Remote>) -> Result<(), String> {
        let endpoint = remote.map(endpoint).transpose();
        let mut inner = self.lock();
        if inner.endpoint.as_ref() != endpoint.as_ref().ok().and_then(Option::as_ref) {
            inner.agreement = None;
        }
        match endpoint {
            Ok(endpoint) => {
                inner.endpoint = endpoint;
                Ok(())
            }
            Err(failure) => {
                inner.endpoint = None;
                Err(failure.message)
            }
        }
    }

    /// What is to be loaded, where a person has allowed it; else what they are to be asked.
    pub(crate) fn target(&self) -> Result<Target, String> {
        let mut inner = self.lock();
        let Some(endpoint) = inner.endpoint.clone() else {
            return Err("The file names no server on the network.".to_owned());
        };
        let question = Question::about(&endpoint);
        if inner.consents.allows(&question) {
            let source = serde_json::to_string(&endpoint).expect("an endpoint becomes JSON. This is a bug.");
            let id = endpoint.generation().model;
            return Ok(Target { id, source: Source::Remote(RemoteSource(source)) });
        }
        // That it was shown is worth remembering, and no reason to fail.
        if let Err(error) = inner.consents.asked(&question, SystemTime::now()) {
            tracing::warn!(%error, "it could not be remembered that a question was asked");
        }
        let Question { host, what_leaves, .. } = question;
        Err(format!("`{host}` is not used before you allow it. {what_leaves}"))
    }

    /// Whether it may be used.
    pub(crate) fn is_allowed(&self) -> bool {
        let inner = self.lock();
        inner.endpoint.as_ref().is_some_and(|endpoint| inner.consents.allows(&Question::about(endpoint)))
    }

    /// A person's word for the server that they were shown.
    pub(crate) fn answer(&self, answer: &RemoteAnswer) -> Result<(), Failure> {
        let mut inner = self.lock();
        let shown = inner.endpoint.as_ref().map(Question::about);
        let question = shown.filter(|it| it.host == answer.host && it.model == answer.model).ok_or_else(|| {
            Failure::new(
                FailureCode::NotFound,
                format!("the followed `.env` names no server `{}` with the model `{}`", answer.host, answer.model),
            )
            .hint("It may have changed meanwhile; look again.")
        })?;
        let now = SystemTime::now();
        if answer.allow {
            inner.consents.grant(&question, now)?;
        } else {
            inner.consents.refuse(&question, now)?;
        }
        tracing::info!(host = answer.host, model = answer.model, allowed = answer.allow, "a server on the network");
        Ok(())
    }

    /// How far its vectors agree with the local model's.
    pub(crate) fn agrees(&self, local: &str, agreement: Agreement) {
        let Agreement { mean, least } = agreement;
        let verdict = if agreement.may_share() { "the same vectors" } else { "vectors of their own generation" };
        let sentence = format!(
            "Against {local} the least cosine is {least:.4} (mean {mean:.4}; {THRESHOLD} is asked): {verdict}."
        );
        tracing::info!("{sentence}");
        self.lock().agreement = Some(sentence);
    }

    /// What others see.
    pub(crate) fn status(&self) -> Option<RemoteStatus> {
        let inner = self.lock();
        let question = Question::about(inner.endpoint.as_ref()?);
        let consent = match inner.consents.standing(&question) {
            Standing::NeverAsked | Standing::Asked(_) => RemoteConsent::Unasked,
            Standing::Granted(_) => RemoteConsent::Granted,
            Standing::Refused(_) => RemoteConsent::Refused,
        };
        let Question { host, model, what_leaves } = question;
        Some(RemoteStatus { host, model, what_leaves, consent, agreement: inner.agreement.clone() })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("nobody panics while they hold the endpoint. This is a bug.")
    }
}

fn endpoint(remote: &Remote) -> Result<Endpoint, Failure> {
    let key = remote.key.as_ref().map(|key| Key::new(key.reveal())).transpose()?;
    Ok(Endpoint::new(remote.url(), key, remote.model.clone(), remote.dimensions, remote.deadline)?)
}
