//! The hub's protocol: metadata, listings, and the one place where a request is sent and an answer judged.
//!
//! Redirects are followed here and not by the library: one that stays at the hub is a repository that moved, one that
//! leaves it names the place of a file, and the token goes to the hub's own origin only. What is not here: files.

use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{self, HeaderMap};
use reqwest::{Method, Response, StatusCode, Url};
use serde::Deserialize;
use tokio::time::{sleep, timeout};

use crate::error::cleaned;
use crate::names::check_revision;
use crate::snapshot::Snapshot;
use crate::tree::{Leaf, Tree};
use crate::{Chosen, Description, Digest, FilePath, HubCache, HubError, HubSettings, RepositoryId, is_commit};

/// The most files of one repository that are looked at.
const MOST_FILES: usize = 5000;

/// The most bytes of one answer that is not a file.
const MOST_ANSWER: usize = 32 << 20;

/// The most redirects of one request.
const MOST_REDIRECTS: usize = 5;

/// How a client behaves. The default is for people at home.
#[derive(Clone, Debug)]
pub struct HubOptions {
    /// Ranges of one file that are fetched at once.
    pub connections: usize,
    /// The length of a range, in bytes.
    pub piece: u64,
    /// A connection without a byte for so long is broken off and asked again.
    pub stall: Duration,
    /// How often something is tried without a byte of progress.
    pub attempts: u32,
    /// The pause after a first failure; it doubles with each, to half a minute.
    pub backoff: Duration,
    /// How long the hub may make us wait in all (429), for one thing.
    pub patience: Duration,
    /// Bytes that stay free on the disk.
    pub margin: u64,
    /// Whether the proxies of the environment and of the system are used.
    pub proxies: bool,
}

impl Default for HubOptions {
    fn default() -> Self {
        Self {
            connections: 4,
            piece: 8 << 20,
            stall: Duration::from_secs(30),
            attempts: 8,
            backoff: Duration::from_millis(500),
            // The hub counts in windows of five minutes.
            patience: Duration::from_mins(6),
            margin: 256 << 20,
            proxies: true,
        }
    }
}

/// A client of one hub. Clones share their connections.
#[derive(Clone, Debug)]
pub struct HubClient(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    http: reqwest::Client,
    settings: HubSettings,
    options: HubOptions,
}

/// What the hub says of one file.
#[derive(Clone, Debug)]
pub struct FileMetadata {
    /// The commit that the revision stands for, 40 hexadecimal digits.
    pub commit: String,
    /// By which the file is verified.
    pub digest: Digest,
    /// In bytes.
    pub size: u64,
    /// Where its bytes are; signed, so never shown.
    pub(crate) location: Url,
}

/// An answer that is not what was wanted.
pub(crate) enum Failure {
    /// Asking again does not help.
    Final(HubError),
    /// It may help, after a pause that the other side named or that we choose. Has the status, if there was an answer.
    Passing { error: HubError, status: Option<StatusCode>, wait: Option<Duration> },
}

/// Counts failures in a row, and what was waited.
#[derive(Debug, Default)]
pub(crate) struct Patience {
    attempts: u32,
    waited: Duration,
}

impl Patience {
    /// Something came: the next failure is a first one again.
    pub(crate) fn progressed(&mut self) {
        self.attempts = 0;
    }

    /// Waits, or gives up with the error.
    pub(crate) async fn failed(&mut self, failure: Failure, options: &HubOptions) -> Result<(), HubError> {
        let (mut error, wait) = match failure {
            Failure::Final(error) => return Err(error),
            Failure::Passing { error, wait, .. } => (error, wait),
        };
        self.attempts += 1;
        if let HubError::Network { attempts, .. } | HubError::Status { attempts, .. } = &mut error {
            *attempts = self.attempts;
        }
        if self.attempts >= options.attempts {
            return Err(error);
        }
        if let Some(wait) = wait {
            let allowed = options.patience.saturating_sub(self.waited);
            if wait > allowed {
                return Err(HubError::RateLimited { wait, allowed });
            }
            self.waited += wait;
            // Who says 0 means soon, not at once.
            sleep(wait.max(options.backoff)).await;
            return Ok(());
        }
        let pause = options.backoff.saturating_mul(1 << (self.attempts - 1).min(16)).min(Duration::from_secs(30));
        tracing::debug!(attempt = self.attempts, ?pause, %error, "will be tried again");
        sleep(pause.mul_f64(jitter())).await;
        Ok(())
    }

    pub(crate) fn attempts(&self) -> u32 {
        self.attempts + 1
    }
}

/// 0.75 to 1.25, so that many connections do not come back at the same moment.
fn jitter() -> f64 {
    getrandom::u32().map_or(1.0, |random| 0.75 + f64::from(random) / f64::from(u32::MAX) / 2.0)
}

impl HubClient {
    /// Makes a client; it connects when it is first asked.
    pub fn new(settings: HubSettings, options: HubOptions) -> Result<Self, HubError> {
        // Somebody else in this process may have chosen one, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("embedbar/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(options.stall.min(Duration::from_secs(10)))
            .http2_adaptive_window(true);
        if !options.proxies {
            builder = builder.no_proxy();
        }
        let http = builder.build().map_err(|error| HubError::Client(error.to_string()))?;
        Ok(Self(Arc::new(Inner { http, settings, options })))
    }

    /// What the environment said.
    pub fn settings(&self) -> &HubSettings {
        &self.0.settings
    }

    pub(crate) fn options(&self) -> &HubOptions {
        &self.0.options
    }

    /// What the hub says of one file at a branch, a tag or a commit.
    pub async fn metadata(
        &self,
        repository: &RepositoryId,
        revision: &str,
        path: &FilePath,
    ) -> Result<FileMetadata, HubError> {
        check_revision(revision)?;
        let asked = Asked { repository, revision, path: Some(path) };
        let url = self.address(&[repository.as_str(), "resolve"], &[revision], path.as_str());
        let response = self.ask(Method::HEAD, url, &asked).await?;
        let not_a_hub = |reason| HubError::NotAHub { host: host(response.url()), reason };
        let text = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
        let commit = text("x-repo-commit").filter(|commit| is_commit(commit));
        let commit = commit.ok_or_else(|| not_a_hub("it names no commit"))?.to_owned();
        let etag = text("x-linked-etag").or_else(|| text("etag"));
        let digest = etag.and_then(Digest::parse).ok_or_else(|| not_a_hub("it names no digest of the file"))?;
        let moved = response.status().is_redirection();
        // The length of a redirect is that of its own text.
        let size = text("x-linked-size").or_else(|| text("content-length").filter(|_| !moved));
        let size = size.and_then(|size| size.parse().ok()).ok_or_else(|| not_a_hub("it names no size of the file"))?;
        let location = if moved {
            target(&response).ok_or_else(|| not_a_hub("it redirects to nowhere, or away from TLS"))?
        } else {
            response.url().clone()
        };
        Ok(FileMetadata { commit, digest, size, location })
    }

    /// What the hub says about a repository: its licence, who may have it, what it is for.
    pub async fn describe(&self, repository: &RepositoryId, revision: &str) -> Result<Description, HubError> {
        check_revision(revision)?;
        let asked = Asked { repository, revision, path: None };
        let url = self.address(&["api/models", repository.as_str(), "revision"], &[revision], "");
        let (_, answer): (_, serde_json::Value) = self.json(url, &asked).await?;
        let commit = answer["sha"].as_str().filter(|commit| is_commit(commit));
        let commit = commit.ok_or_else(|| HubError::NotAHub { host: self.host(), reason: "it names no commit" })?;
        if is_commit(revision) && commit != revision {
            return Err(HubError::NotAHub {
                host: self.host(),
                reason: "it answers for another commit than it was asked for",
            });
        }
        Description::of(repository, commit.to_owned(), &answer)
    }

    /// Lists the chosen files of a revision and pins it to its commit. Nothing is downloaded. Offline it is the listing that
    /// the cache keeps, if it does.
    pub async fn snapshot(
        &self,
        repository: &RepositoryId,
        revision: &str,
        chosen: &Chosen,
    ) -> Result<Snapshot, HubError> {
        check_revision(revision)?;
        let asked = Asked { repository, revision, path: None };
        if self.0.settings.offline {
            let cache = HubCache::new(&self.0.settings.cache);
            let kept = cache.commit(repository, revision)?.and_then(|commit| {
                let tree = cache.tree(repository, &commit)?;
                Some((commit, tree))
            });
            let (commit, tree) = kept.ok_or_else(|| HubError::Offline { what: asked.to_string() })?;
            return Snapshot::of(repository, revision, commit, tree, chosen);
        }
        let commit = if is_commit(revision) {
            revision.to_owned()
        } else {
            let url = self.address(&["api/models", repository.as_str(), "revision"], &[revision], "");
            let (_, pinned): (_, Pinned) = self.json(url, &asked).await?;
            if !is_commit(&pinned.sha) {
                return Err(HubError::NotAHub { host: self.host(), reason: "it names no commit" });
            }
            pinned.sha
        };
        self.listing(repository, revision, commit, chosen).await
    }

    /// Lists the chosen files of a revision whose commit is known, from [`describe`](Self::describe) for instance.
    pub async fn listing(
        &self,
        repository: &RepositoryId,
        revision: &str,
        commit: String,
        chosen: &Chosen,
    ) -> Result<Snapshot, HubError> {
        check_revision(revision)?;
        let asked = Asked { repository, revision, path: None };
        let mut next = Some(self.address(&["api/models", repository.as_str(), "tree"], &[&commit], ""));
        if let Some(url) = &mut next {
            url.set_query(Some("recursive=true"));
        }
        let mut tree = Tree::default();
        let mut seen = 0;
        while let Some(url) = next {
            let (headers, page): (_, Vec<Listed>) = self.json(url.clone(), &asked).await?;
            seen += page.len();
            if seen > MOST_FILES {
                let reason = "it has more files than a model has (5000)";
                return Err(HubError::Name { text: repository.to_string(), reason });
            }
            for listed in page.into_iter().filter(|listed| listed.kind == "file") {
                // A name that nobody wants may be what it likes.
                if chosen.matches(&listed.path) {
                    let path = FilePath::new(&listed.path)?;
                    let nameless = HubError::NotAHub { host: self.host(), reason: "it lists a file without a digest" };
                    listed.leaf().entry(path).ok_or(nameless)?;
                }
                tree.insert(listed.path.clone(), listed.leaf());
            }
            next = following(&headers, &url);
            if next.as_ref().is_some_and(|next| !self.is_ours(next)) {
                return Err(HubError::NotAHub { host: self.host(), reason: "its listing goes on at another host" });
            }
        }
        Snapshot::of(repository, revision, commit, tree, chosen)
    }

    /// Sends a request to the hub until it is answered; a redirect that leaves the hub is an answer.
    async fn ask(&self, method: Method, url: Url, asked: &Asked<'_>) -> Result<Response, HubError> {
        if self.0.settings.offline {
            return Err(HubError::Offline { what: asked.to_string() });
        }
        let mut patience = Patience::default();
        loop {
            let answer = self.follow(method.clone(), url.clone(), None, None, Some(&patience)).await;
            let failure = match answer {
                Ok(response) if response.status().is_success() || response.status().is_redirection() => {
                    return Ok(response);
                }
                Ok(response) => asked.judge(&response, &patience),
                Err(failure) => failure,
            };
            patience.failed(failure, &self.0.options).await?;
        }
    }

    /// One request and the redirects that stay at its origin (`patience` of the hub's own requests) or lead anywhere
    /// (none). Statuses are not judged.
    pub(crate) async fn follow(
        &self,
        method: Method,
        mut url: Url,
        range: Option<std::ops::Range<u64>>,
        validator: Option<&str>,
        patience: Option<&Patience>,
    ) -> Result<Response, Failure> {
        for _ in 0..=MOST_REDIRECTS {
            let mut request = self.0.http.request(method.clone(), url.clone());
            // Else the length and the ETag would be those of a compressed file.
            request = request.header(header::ACCEPT_ENCODING, "identity");
            if let Some(range) = &range {
                request = request.header(header::RANGE, format!("bytes={}-{}", range.start, range.end - 1));
            }
            if let Some(validator) = validator {
                request = request.header(header::IF_RANGE, validator);
            }
            if let Some(token) = self.0.settings.token.as_ref().filter(|_| self.is_ours(&url)) {
                request = request.bearer_auth(token.reveal());
            }
            let attempts = patience.map_or(1, Patience::attempts);
            let response = match timeout(self.0.options.stall, request.send()).await {
                Ok(Ok(response)) => response,
                Ok(Err(error)) => return Err(broken(&url, attempts, &error)),
                Err(_) => return Err(silent(&url, attempts)),
            };
            let stays = |to: &Url| to.origin() == url.origin();
            match target(&response) {
                Some(to) if response.status().is_redirection() && (patience.is_none() || stays(&to)) => url = to,
                _ => return Ok(response),
            }
        }
        Err(Failure::Final(HubError::NotAHub { host: host(&url), reason: "it redirects in a circle" }))
    }

    async fn json<T: serde::de::DeserializeOwned>(
        &self,
        url: Url,
        asked: &Asked<'_>,
    ) -> Result<(HeaderMap, T), HubError> {
        let mut patience = Patience::default();
        loop {
            let mut response = self.ask(Method::GET, url.clone(), asked).await?;
            let not_a_hub = |reason| HubError::NotAHub { host: host(&url), reason };
            if response.status().is_redirection() {
                return Err(not_a_hub("its interface redirects to another host"));
            }
            let mut body = Vec::new();
            let failure = loop {
                match timeout(self.0.options.stall, response.chunk()).await {
                    Ok(Ok(Some(chunk))) if body.len() + chunk.len() > MOST_ANSWER => {
                        return Err(not_a_hub("its answer is larger than any list of files"));
                    }
                    Ok(Ok(Some(chunk))) => body.extend_from_slice(&chunk),
                    Ok(Ok(None)) => {
                        let value = serde_json::from_slice(&body).map_err(|_| not_a_hub("its answer is not a list"))?;
                        return Ok((response.headers().clone(), value));
                    }
                    Ok(Err(error)) => break broken(&url, patience.attempts(), &error),
                    Err(_) => break silent(&url, patience.attempts()),
                }
            };
            patience.failed(failure, &self.0.options).await?;
        }
    }

    /// An address at the hub: parts that are known, parts that are escaped whole (a `/` in a revision), and a path.
    fn address(&self, known: &[&str], whole: &[&str], path: &str) -> Url {
        let mut url = self.0.settings.endpoint.clone();
        // Addresses with http and a host can always hold segments.
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty();
            segments.extend(known.iter().flat_map(|part| part.split('/')));
            segments.extend(whole);
            segments.extend(path.split('/').filter(|part| !part.is_empty()));
        }
        url
    }

    pub(crate) fn is_ours(&self, url: &Url) -> bool {
        url.origin() == self.0.settings.endpoint.origin()
    }

    fn host(&self) -> String {
        host(&self.0.settings.endpoint)
    }
}

/// What a request was about, for its errors.
struct Asked<'a> {
    repository: &'a RepositoryId,
    revision: &'a str,
    path: Option<&'a FilePath>,
}

impl std::fmt::Display for Asked<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.path {
            Some(path) => write!(formatter, "`{path}` of `{}`", self.repository),
            None => write!(formatter, "`{}` at `{}`", self.repository, self.revision),
        }
    }
}

impl Asked<'_> {
    /// What a status of the hub's own means.
    fn judge(&self, response: &Response, patience: &Patience) -> Failure {
        let status = response.status();
        let text = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let repository = self.repository.to_string();
        let said = cleaned(text("x-error-message"));
        let not_found = HubError::RepositoryNotFound { repository: repository.clone() };
        Failure::Final(match (status.as_u16(), text("x-error-code")) {
            (_, "GatedRepo") => HubError::Gated { repository },
            (_, "RevisionNotFound") => HubError::RevisionNotFound { repository, revision: cleaned(self.revision) },
            (_, "EntryNotFound") => HubError::EntryNotFound {
                repository,
                path: self.path.map_or_else(|| self.revision.to_owned(), ToString::to_string),
            },
            (_, "RepoNotFound") => not_found,
            (401, _) if said.contains("Invalid credentials") => HubError::Unauthorized { said },
            // What a private repository and one that is not there have in common.
            (401, _) => not_found,
            (403, _) => HubError::Forbidden { repository, said },
            (404, _) => HubError::NotAHub {
                host: host(response.url()),
                reason: "it knows neither the repository nor the hub's error codes (404)",
            },
            _ => return passing(response, patience.attempts()),
        })
    }
}

/// Statuses that pass, and those that do not.
pub(crate) fn passing(response: &Response, attempts: u32) -> Failure {
    let status = response.status();
    let error = HubError::Status { host: host(response.url()), status: status.as_u16(), attempts };
    match status.as_u16() {
        // Busy, and often for how long.
        429 | 503 => Failure::Passing { error, status: Some(status), wait: asked_to_wait(response.headers()) },
        408 | 425 | 500..=599 => Failure::Passing { error, status: Some(status), wait: None },
        _ => Failure::Final(error),
    }
}

pub(crate) fn broken(url: &Url, attempts: u32, error: &reqwest::Error) -> Failure {
    // The innermost cause is the one that says something; the address in the outer ones may be signed.
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    let message =
        if std::ptr::eq(cause, std::ptr::from_ref(error)) { "no answer".to_owned() } else { cause.to_string() };
    let error = HubError::Network { host: host(url), attempts, message: cleaned(&message) };
    Failure::Passing { error, status: None, wait: None }
}

pub(crate) fn silent(url: &Url, attempts: u32) -> Failure {
    let error = HubError::Network { host: host(url), attempts, message: "silence".to_owned() };
    Failure::Passing { error, status: None, wait: None }
}

/// The host of an address, with its port if it is not the usual one.
pub(crate) fn host(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// Where a redirect leads; never from TLS to plain text.
fn target(response: &Response) -> Option<Url> {
    let location = response.headers().get(header::LOCATION)?.to_str().ok()?;
    let to = response.url().join(location).ok()?;
    let safe = to.scheme() == "https" || to.scheme() == "http" && response.url().scheme() == "http";
    safe.then_some(to)
}

/// The seconds that a 429 or a 503 asks for: `RateLimit: "api";r=0;t=55`, or `Retry-After: 55`. Without either, the usual backoff.
fn asked_to_wait(headers: &HeaderMap) -> Option<Duration> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let window = text("ratelimit").and_then(|value| {
        let left = value.split([';', ',']).find_map(|part| part.trim().strip_prefix("t="));
        left.and_then(|seconds| seconds.trim().parse::<u64>().ok()).map(|seconds| seconds.saturating_add(1))
    });
    let after = || text("retry-after").and_then(|value| value.trim().parse::<u64>().ok());
    window.or_else(after).map(Duration::from_secs)
}

/// The next page of a listing.
fn following(headers: &HeaderMap, url: &Url) -> Option<Url> {
    let links = headers.get(header::LINK)?.to_str().ok()?;
    let next = links.split(',').find(|link| link.contains("rel=\"next\""))?;
    url.join(next.split_once('<')?.1.split_once('>')?.0).ok()
}

#[derive(Deserialize)]
struct Pinned {
    sha: String,
}

/// One line of a listing.
#[derive(Deserialize)]
struct Listed {
    #[serde(rename = "type")]
    kind: String,
    path: String,
    #[serde(default)]
    size: u64,
    #[serde(default)]
    oid: String,
    lfs: Option<Large>,
    #[serde(rename = "xetHash")]
    xet_hash: Option<String>,
}

#[derive(Deserialize)]
struct Large {
    oid: String,
    size: u64,
}

impl Listed {
    fn leaf(&self) -> Leaf {
        let sha256 = |large: &Large| large.oid.trim_start_matches("sha256:").to_owned();
        Leaf {
            size: self.size,
            blob_id: self.oid.clone(),
            lfs_sha256: self.lfs.as_ref().map(sha256),
            lfs_size: self.lfs.as_ref().map(|large| large.size),
            xet_hash: self.xet_hash.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_429_says_how_long_to_wait() {
        let headers = |name: &'static str, value: &'static str| {
            HeaderMap::from_iter([(header::HeaderName::from_static(name), header::HeaderValue::from_static(value))])
        };
        let seconds = |headers| asked_to_wait(&headers).map(|wait| wait.as_secs());
        assert_eq!(seconds(headers("ratelimit", "\"resolvers\";r=0;t=55")), Some(56));
        assert_eq!(seconds(headers("retry-after", "7")), Some(7));
        assert_eq!(seconds(headers("retry-after", "Wed, 21 Oct 2026 07:28:00 GMT")), None);
        assert_eq!(seconds(HeaderMap::new()), None);
    }
}
