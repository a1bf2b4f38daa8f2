//! What can go wrong between here and a verified file, each with what a person can do about it.
//!
//! No message holds a signed address or the token: a file's location is named by its host alone.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// An error of the hub, of the way to it, or of the disk. Sizes are in bytes.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HubError {
    /// `HF_ENDPOINT` is no address.
    #[error("HF_ENDPOINT is `{endpoint}`, but {reason}")]
    Endpoint {
        /// As it was written.
        endpoint: String,
        /// Why it is refused.
        reason: &'static str,
    },
    /// What should be a token cannot stand in a header.
    #[error("{place} holds characters that no token has; copy it again from the settings page of the hub")]
    TokenUnusable {
        /// The variable or the file that holds it.
        place: String,
    },
    /// Neither an id nor a revision, or a name that would lead out of the folder.
    #[error("`{text}` is refused: {reason}")]
    Name {
        /// The name, cut and cleaned.
        text: String,
        /// Why it is refused.
        reason: &'static str,
    },
    /// `HF_HUB_OFFLINE` is set and the answer is not in the cache.
    #[error(
        "{what} is not in the cache, and HF_HUB_OFFLINE forbids asking the hub; unset it, or download the model once"
    )]
    Offline {
        /// What was wanted.
        what: String,
    },
    /// No such repository, or a private one; the hub does not say which.
    #[error(
        "the hub has no repository `{repository}` that we may see; check the spelling; if it is private, set HF_TOKEN"
    )]
    RepositoryNotFound {
        /// Its id.
        repository: String,
    },
    /// Its licence must be accepted by a person first.
    #[error(
        "`{repository}` is gated: accept its conditions on the page of the repository, then set HF_TOKEN of that account"
    )]
    Gated {
        /// Its id.
        repository: String,
    },
    /// The repository is there, the revision is not.
    #[error("`{repository}` has no revision `{revision}`")]
    RevisionNotFound {
        /// Its id.
        repository: String,
        /// A branch, a tag or a commit.
        revision: String,
    },
    /// The revision is there, the file is not.
    #[error("`{repository}` has no file `{path}` at that revision")]
    EntryNotFound {
        /// Its id.
        repository: String,
        /// The file.
        path: String,
    },
    /// No file of the repository was asked for.
    #[error("`{repository}` has no file that matches {patterns}")]
    NothingChosen {
        /// Its id.
        repository: String,
        /// The patterns, for a person.
        patterns: String,
    },
    /// 401 that is not about a repository.
    #[error("the hub refuses the token (401): {said}; make a new one and set HF_TOKEN")]
    Unauthorized {
        /// What the hub said, cleaned.
        said: String,
    },
    /// 403 of the hub itself.
    #[error("the hub refuses access to `{repository}` (403): {said}")]
    Forbidden {
        /// Its id.
        repository: String,
        /// What the hub said, cleaned.
        said: String,
    },
    /// 429 or 503, and waiting as it asks would take longer than allowed.
    #[error("the hub asks to wait {} s, longer than the {} s that are left; try again then, or set HF_TOKEN for higher limits", .wait.as_secs(), .allowed.as_secs())]
    RateLimited {
        /// What it asks.
        wait: Duration,
        /// What was left of the allowance.
        allowed: Duration,
    },
    /// It answered with another status, and went on doing so.
    #[error("{host} answered {status} and still did after {attempts} attempts; try again later")]
    Status {
        /// Who.
        host: String,
        /// The HTTP status.
        status: u16,
        /// How often it was asked.
        attempts: u32,
    },
    /// The connection failed or broke off, and went on doing so.
    #[error(
        "the connection to {host} failed {attempts} times without a byte ({message}); check the network or the proxy"
    )]
    Network {
        /// To whom.
        host: String,
        /// How often it was tried.
        attempts: u32,
        /// The last failure.
        message: String,
    },
    /// A captive portal, or a mirror that does not speak the protocol.
    #[error(
        "the answer of {host} is not one of a hub: {reason}; is this network asking for a login, or HF_ENDPOINT wrong?"
    )]
    NotAHub {
        /// Who.
        host: String,
        /// What is missing.
        reason: &'static str,
    },
    /// The file is another one than at the start.
    #[error(
        "`{path}` changed while it was downloaded: it was {expected}, it is {found}; start again with the new commit"
    )]
    Changed {
        /// The file.
        path: String,
        /// Its first ETag.
        expected: String,
        /// Its later ETag.
        found: String,
    },
    /// What came is longer or shorter than what was announced.
    #[error("{host} says that `{path}` has {found} bytes, the hub says {expected}; nothing of it is used")]
    Length {
        /// Who.
        host: String,
        /// The file.
        path: String,
        /// By the metadata.
        expected: u64,
        /// By the answer.
        found: u64,
    },
    /// Everything is here and it is not the file.
    #[error(
        "`{path}` is damaged: its digest is {found}, the hub says {expected}; each part was fetched again without a difference, so the file on the server itself is damaged"
    )]
    Digest {
        /// The file.
        path: String,
        /// By the hub.
        expected: String,
        /// Of what came.
        found: String,
    },
    /// Too little room.
    #[error("`{}` has room for {free} bytes, {needed} are needed (a margin included); free some space", .folder.display())]
    DiskFull {
        /// Where.
        folder: PathBuf,
        /// What is still to come, with the margin.
        needed: u64,
        /// What is free.
        free: u64,
    },
    /// Somebody ended it; what is there is kept and taken up next time.
    #[error("the download was cancelled; what is there already is kept")]
    Cancelled,
    /// The disk refused.
    #[error("could not {action} `{}`", .path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The client could not be made: no certificates, say.
    #[error("could not prepare connections: {0}")]
    Client(String),
}

/// What a stranger said, fit for a message: one line, no control characters, 200 at most.
pub(crate) fn cleaned(text: &str) -> String {
    text.chars().filter(|it| !it.is_control()).take(200).collect()
}

/// Makes an I/O error say what was tried.
pub(crate) fn file(action: &'static str, path: &std::path::Path) -> impl FnOnce(io::Error) -> HubError {
    let path = path.to_owned();
    move |source| HubError::File { action, path, source }
}
