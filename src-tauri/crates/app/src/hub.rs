//! The hub as this home uses it: its settings from the followed `.env` and the environment, the token that is kept, how fast
//! downloads may be, and where they go.
//!
//! What is not here: the protocol (`embedbar-hub`), and what is downloaded when ([`crate::jobs`]).

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use embedbar_contract::{DownloadLimit, Failure, FailureCode, TokenStatus};
use embedbar_hub::{
    HubCache, HubClient, HubError, HubOptions, HubSettings, Leftover, RepositoryId, Target, Token, TokenPlace, Transfer,
};
use embedbar_secrets::{Secret, Secrets, SecretsError};
use embedbar_settings::Written;
use embedbar_store::Home;

use crate::first_use::FirstUse;

/// What the kept token is called.
const TOKEN: &str = "hub-token";

/// Where downloads go: into the cache that all programs share, or into the home.
const DOWNLOADS: &str = "EMBEDBAR_DOWNLOADS";

/// After this long nobody goes on with a download.
const LEFT: Duration = Duration::from_hours(7 * 24);

/// The home's side of the hub.
pub(crate) struct Hub {
    secrets: Secrets,
    downloads: PathBuf,
    first_use: FirstUse,
    running: Mutex<Running>,
}

#[derive(Default)]
struct Running {
    limit: Option<u64>,
    transfers: Vec<(u64, Transfer)>,
}

impl Hub {
    /// Nothing is asked of the hub, and no place for secrets is opened yet.
    pub(crate) fn new(home: &Home) -> Self {
        Self {
            secrets: Secrets::open(home.root()),
            downloads: home.downloads(),
            first_use: FirstUse::open(home.first_use()),
            running: Mutex::default(),
        }
    }

    /// What was fetched before.
    pub(crate) fn first_use(&self) -> &FirstUse {
        &self.first_use
    }

    /// A client by what is written now. It may ask the system for the kept token, which blocks.
    pub(crate) fn client(&self, written: &Written) -> Result<HubClient, Failure> {
        let mut settings = settings(written)?;
        if settings.token.is_none() && settings.token_place == TokenPlace::Nowhere {
            settings.token = self.kept();
        }
        HubClient::new(settings, HubOptions::default()).map_err(told)
    }

    /// The token that is kept. One that cannot be read is as good as none: public models need none.
    fn kept(&self) -> Option<Token> {
        match self.secrets.get(TOKEN) {
            Ok(secret) => secret.and_then(|secret| Token::new(secret.reveal())),
            Err(error) => {
                tracing::warn!(%error, "the kept token cannot be read");
                None
            }
        }
    }

    /// Where the files of a repository at a commit go.
    pub(crate) fn target(
        &self,
        client: &HubClient,
        written: &Written,
        repository: &RepositoryId,
        commit: &str,
    ) -> Target {
        let own = value(written, DOWNLOADS).is_some_and(|word| word.trim().eq_ignore_ascii_case("own"));
        if own {
            Target::Folder(self.downloads.join(repository.folder()).join(commit))
        } else {
            Target::Cache(HubCache::new(&client.settings().cache))
        }
    }

    /// Downloads that were broken off and that nothing has come for in a week, wherever they went.
    pub(crate) fn left_over(&self, written: &Written) -> Vec<Leftover> {
        let Ok(settings) = settings(written) else { return Vec::new() };
        let own = std::fs::read_dir(&self.downloads).into_iter().flatten().flatten();
        let commits = own.flat_map(|repository| std::fs::read_dir(repository.path()).into_iter().flatten().flatten());
        let folders = commits.map(|commit| Target::Folder(commit.path()));
        let places = std::iter::once(Target::Cache(HubCache::new(&settings.cache))).chain(folders);
        places.flat_map(|place| place.leftovers(LEFT)).collect()
    }

    /// A transfer for a job, with the limit that holds.
    pub(crate) fn begin(&self, job: u64) -> Transfer {
        let mut running = self.lock();
        let transfer = Transfer::new();
        transfer.limit(running.limit);
        running.transfers.push((job, transfer.clone()));
        transfer
    }

    /// A job's transfer is over.
    pub(crate) fn end(&self, job: u64) {
        self.lock().transfers.retain(|(id, _)| *id != job);
    }

    /// Limits all transfers, those to come included.
    pub(crate) fn limit(&self, limit: DownloadLimit) {
        let mut running = self.lock();
        running.limit = limit.bytes_per_second.filter(|limit| *limit > 0);
        for (_, transfer) in &running.transfers {
            transfer.limit(running.limit);
        }
    }

    /// How fast all transfers together may be.
    pub(crate) fn limit_now(&self) -> DownloadLimit {
        DownloadLimit { bytes_per_second: self.lock().limit }
    }

    /// Whether the hub gets a token, and whose.
    pub(crate) fn token_status(&self, written: &Written) -> Result<TokenStatus, Failure> {
        let settings = settings(written)?;
        let kept = self.secrets.get(TOKEN).map_err(|error| unkept(&error))?.is_some();
        let source = match settings.token_place {
            TokenPlace::Environment => Some("`HF_TOKEN`, from the followed `.env` or the environment".to_owned()),
            TokenPlace::File(path) => Some(format!("the file of the hub's own login, `{}`", path.display())),
            TokenPlace::Nowhere if kept => Some(format!("the one that Embedbar keeps: {}", self.secrets.place())),
            TokenPlace::Nowhere | TokenPlace::Forbidden => None,
        };
        Ok(TokenStatus { source, kept, place: self.secrets.place().to_string() })
    }

    /// Keeps a token, or forgets it.
    pub(crate) fn set_token(&self, token: Option<&str>) -> Result<(), Failure> {
        let Some(token) = token else { return self.secrets.remove(TOKEN).map_err(|error| unkept(&error)) };
        let secret = Token::new(token).and_then(|_| Secret::new(token.trim())).ok_or_else(|| {
            Failure::new(FailureCode::InvalidRequest, "that is no token: it is empty or holds characters that none has")
                .hint("Copy it again from the settings page of the hub; it begins with `hf_`.")
        })?;
        self.secrets.set(TOKEN, &secret).map(drop).map_err(|error| unkept(&error))
    }

    fn lock(&self) -> MutexGuard<'_, Running> {
        self.running.lock().expect("nobody panics while they hold the transfers. This is a bug.")
    }
}

/// The folder of a model's main revision in the hub's shared cache, by its id.
pub(crate) fn downloaded(id: &str, written: &Written) -> Result<PathBuf, Failure> {
    let repository: RepositoryId = id.parse().map_err(told)?;
    let cache = HubCache::new(&settings(written)?.cache);
    let commit = cache.commit(&repository, "main").map_err(told)?;
    let folder = commit.map(|commit| cache.snapshot(&repository, &commit));
    folder.filter(|folder| folder.join("config.json").is_file()).ok_or_else(|| {
        let message = format!("`{id}` has not been downloaded: it is not in `{}`", cache.root().display());
        Failure::new(FailureCode::NotFound, message)
            .hint(format!("Download it with `embedbar install {id}`, or give the folder of the checkpoint."))
    })
}

/// The folder of a model that the hub's shared cache holds, by its id and what the environment says.
pub fn in_cache(id: &str) -> Result<PathBuf, Failure> {
    downloaded(id, &Written::default())
}

/// A name for a folder that nobody else has.
pub(crate) fn nonce() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    format!("{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// What the hub's variables say: in the followed file, else in the environment.
pub(crate) fn settings(written: &Written) -> Result<HubSettings, Failure> {
    HubSettings::from_lookup(|name| value(written, name)).map_err(told)
}

fn value(written: &Written, name: &str) -> Option<String> {
    written.get(name).map(|entry| entry.text.clone()).or_else(|| std::env::var(name).ok())
}

/// An error of the place where secrets are kept, whose sentences say what to do themselves.
fn unkept(error: &SecretsError) -> Failure {
    let text = match error {
        SecretsError::File { source, .. } => format!("{error}: {source}"),
        _ => error.to_string(),
    };
    apart(FailureCode::Io, text)
}

/// An error of the hub, whose sentences say what to do themselves.
#[allow(clippy::needless_pass_by_value, reason = "it is named where errors are mapped")]
pub(crate) fn told(error: HubError) -> Failure {
    let code = match &error {
        HubError::Cancelled => FailureCode::Cancelled,
        HubError::DiskFull { .. } | HubError::File { .. } => FailureCode::Io,
        HubError::Digest { .. } | HubError::Changed { .. } | HubError::Length { .. } => FailureCode::ModelInvalid,
        HubError::RepositoryNotFound { .. }
        | HubError::RevisionNotFound { .. }
        | HubError::EntryNotFound { .. }
        | HubError::Offline { .. }
        | HubError::NothingChosen { .. } => FailureCode::NotFound,
        HubError::Network { .. } | HubError::Status { .. } | HubError::RateLimited { .. } => FailureCode::Overloaded,
        _ => FailureCode::InvalidRequest,
    };
    let text = match &error {
        HubError::File { source, .. } => format!("{error}: {source}"),
        _ => error.to_string(),
    };
    apart(code, text)
}

/// The sentences of these crates have their advice behind the first semicolon.
fn apart(code: FailureCode, text: String) -> Failure {
    match text.split_once("; ") {
        Some((message, advice)) => Failure::new(code, message).hint(as_sentence(advice)),
        None => Failure::new(code, text),
    }
}

fn as_sentence(advice: &str) -> String {
    let mut letters = advice.chars();
    let first = letters.next().into_iter().flat_map(char::to_uppercase);
    let sentence: String = first.chain(letters).collect();
    if sentence.ends_with(['.', '?', '!']) { sentence } else { format!("{sentence}.") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_is_set_apart() {
        let failure = told(HubError::RepositoryNotFound { repository: "a/b".into() });
        assert_eq!(failure.code, FailureCode::NotFound);
        assert!(
            !failure.message.contains(';') && failure.hint.is_some_and(|hint| hint.ends_with('.')),
            "{}",
            failure.message
        );
    }

    #[test]
    fn a_limit_holds_for_what_runs_and_for_what_comes() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let hub = Hub::new(&Home::open(Some(folder.path().into())).expect("it can be made"));
        hub.begin(1);
        hub.limit(DownloadLimit { bytes_per_second: Some(5) });
        hub.begin(2);
        hub.end(1);
        assert_eq!(hub.lock().transfers.len(), 1);
        assert_eq!(hub.lock().limit, Some(5));
        hub.limit(DownloadLimit { bytes_per_second: Some(0) });
        assert_eq!(hub.lock().limit, None);
    }

    #[test]
    fn the_followed_file_wins_over_the_environment() {
        let written = Written::from_pairs([("HF_ENDPOINT", "http://127.0.0.1:9"), ("HF_HUB_CACHE", "/caches/hub")]);
        let settings = settings(&written).expect("they are good");
        assert_eq!(settings.endpoint.as_str().trim_end_matches('/'), "http://127.0.0.1:9");
        assert_eq!(settings.cache, PathBuf::from("/caches/hub"));
    }
}
