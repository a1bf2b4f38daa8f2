//! The system's keyring, asked from a thread of its own, so that nobody waits longer for it than was decided.
//!
//! A keyring that did not answer counts as silent for a while, so that a program which looks for a token often does not wait
//! each time. What is not here: files.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use keyring_core::Error;
use keyring_core::api::CredentialStoreApi;

use crate::{Secret, SecretsError};

/// Whose the entries are.
const SERVICE: &str = "embedbar";

/// How long a keyring that did not answer is left alone.
const LEFT_ALONE: Duration = Duration::from_mins(1);

/// What this system's keyring is called.
#[cfg(target_os = "macos")]
pub(crate) const NAME: &str = "the Keychain";
#[cfg(not(target_os = "macos"))]
pub(crate) const NAME: &str = "the Secret Service";

/// How long the keyring may take.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// To be found and to say what it has.
    pub read: Duration,
    /// To keep or to forget something; a person who is there may have to unlock it first.
    pub write: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        // A Mac asks the person whether this program may read the entry.
        let read = if cfg!(target_os = "macos") { 60 } else { 5 };
        Self { read: Duration::from_secs(read), write: Duration::from_mins(1) }
    }
}

type Store = Arc<dyn CredentialStoreApi + Send + Sync>;

#[derive(Clone)]
enum State {
    /// Not asked yet.
    Unknown,
    Found(Store),
    /// Since when it is silent, and why.
    Silent(Instant, String),
    /// It is not to be asked.
    Refused,
}

/// The entries of one home.
pub(crate) struct Keyring {
    /// Stands in the names of the entries.
    home: String,
    patience: Patience,
    state: Mutex<State>,
}

impl std::fmt::Debug for Keyring {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Keyring")
            .field("home", &self.home)
            .field("patience", &self.patience)
            .finish_non_exhaustive()
    }
}

impl Keyring {
    pub(crate) fn new(home: &Path, patience: Patience) -> Self {
        // The same home by another path is the same home.
        let home = std::fs::canonicalize(home).unwrap_or_else(|_| home.to_owned());
        Self { home: home.display().to_string(), patience, state: Mutex::new(State::Unknown) }
    }

    pub(crate) fn none() -> Self {
        let state = Mutex::new(State::Refused);
        Self { home: String::new(), patience: Patience::default(), state }
    }

    /// `None`: it does not answer. `Some(None)`: it has nothing.
    #[allow(clippy::option_option)] // two different nothings, told apart by one caller
    pub(crate) fn get(&self, name: &str) -> Result<Option<Option<Secret>>, SecretsError> {
        let found = self.ask(name, self.patience.read, |entry| match entry.get_password() {
            Ok(text) => Ok(Some(text)),
            Err(Error::NoEntry) => Ok(None),
            Err(error) => Err(error),
        })?;
        let Some(Some(text)) = found else { return Ok(found.map(|_| None)) };
        let place = NAME.to_owned();
        let secret = Secret::new(&text).ok_or_else(|| SecretsError::NotASecret { place, name: name.to_owned() })?;
        Ok(Some(Some(secret)))
    }

    /// `None`: it does not answer.
    pub(crate) fn set(&self, name: &str, secret: &Secret) -> Result<Option<()>, SecretsError> {
        let secret = secret.clone();
        self.ask(name, self.patience.write, move |entry| entry.set_password(secret.reveal()))
    }

    /// `None`: it does not answer.
    pub(crate) fn remove(&self, name: &str) -> Result<Option<()>, SecretsError> {
        self.ask(name, self.patience.write, |entry| match entry.delete_credential() {
            Ok(()) | Err(Error::NoEntry) => Ok(()),
            Err(error) => Err(error),
        })
    }

    /// Why nothing can be kept there just now.
    pub(crate) fn silence(&self) -> Option<String> {
        self.store().err()
    }

    /// Asks in a thread of its own. An error that means that there is no keyring for us counts as no answer.
    fn ask<T: Send + 'static>(
        &self,
        name: &str,
        patience: Duration,
        question: impl FnOnce(keyring_core::Entry) -> Result<T, Error> + Send + 'static,
    ) -> Result<Option<T>, SecretsError> {
        let Ok(store) = self.store() else { return Ok(None) };
        let user = format!("{name} of {}", self.home);
        let answer = in_time(patience, move || store.build(SERVICE, &user, None).and_then(question));
        let silent = match answer {
            Some(Ok(value)) => return Ok(Some(value)),
            // A locked keyring that nobody can unlock, a bus that went away.
            Some(Err(Error::NoStorageAccess(error) | Error::PlatformFailure(error)))
                if cfg!(not(target_os = "macos")) =>
            {
                format!("{NAME} does not answer ({error})")
            }
            Some(Err(error)) => return Err(SecretsError::Keyring { keyring: NAME, message: said(&error) }),
            None => format!("{NAME} did not answer within {} s", patience.as_secs_f64()),
        };
        tracing::warn!("{silent}");
        *self.lock() = State::Silent(Instant::now(), silent);
        Ok(None)
    }

    /// The store, or why there is none.
    fn store(&self) -> Result<Store, String> {
        // Held while it is looked for: a second one who asks waits for the same answer.
        let mut state = self.lock();
        match &*state {
            State::Found(store) => return Ok(Arc::clone(store)),
            State::Refused => return Err("it was asked for".to_owned()),
            State::Silent(since, reason) if since.elapsed() < LEFT_ALONE => return Err(reason.clone()),
            State::Silent(..) | State::Unknown => {}
        }
        let patience = self.patience.read;
        let reason = match in_time(patience, connect) {
            Some(Ok(store)) => {
                *state = State::Found(Arc::clone(&store));
                return Ok(store);
            }
            Some(Err(error)) => format!("{NAME} does not answer ({})", said(&error)),
            None => format!("{NAME} did not answer within {} s", patience.as_secs_f64()),
        };
        *state = State::Silent(Instant::now(), reason.clone());
        Err(reason)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Whole after every statement.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An error without what was found: an entry that is not text would be shown.
fn said(error: &Error) -> String {
    match error {
        Error::BadEncoding(_) | Error::BadDataFormat(..) => "the entry is not text".to_owned(),
        Error::Ambiguous(_) => "there are several entries of that name".to_owned(),
        error => error.to_string().chars().filter(|it| !it.is_control()).take(300).collect(),
    }
}

/// Does something in a thread of its own; `None` if it takes too long, and then the thread is left to itself.
fn in_time<T: Send + 'static>(patience: Duration, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (sender, receiver) = mpsc::channel();
    let started = thread::Builder::new().name("keyring".to_owned()).spawn(move || {
        // Whoever asked may have gone.
        let _ = sender.send(work());
    });
    started.ok()?;
    receiver.recv_timeout(patience).ok()
}

#[cfg(target_os = "macos")]
fn connect() -> Result<Store, Error> {
    Ok(apple_native_keyring_store::keychain::Store::new()?)
}

#[cfg(target_os = "linux")]
fn connect() -> Result<Store, Error> {
    Ok(zbus_secret_service_keyring_store::Store::new()?)
}

#[cfg(not(any(target_os = "macos", target_os = "linux")))]
fn connect() -> Result<Store, Error> {
    Err(Error::NoDefaultStore)
}
