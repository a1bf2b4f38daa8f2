//! The readers of what servers and files say, alone, so that each can be given any bytes: see `embedbar-hostile`.
//!
//! Nobody else needs them: [`HubClient`](crate::HubClient) and [`HubCache`](crate::HubCache) call them with what they have read.

use std::ops::Range;

use crate::journal;
use crate::tree::Tree;
use crate::{Chosen, Description, Digest, HubError, RepositoryId, Snapshot};

/// All files of a commit's listing as the shared cache keeps it; `None` where it is no listing.
pub fn listing(text: &[u8], repository: &RepositoryId, commit: &str) -> Option<Result<Snapshot, HubError>> {
    let tree = Tree::parse(text)?;
    Some(Snapshot::of(repository, commit, commit.to_owned(), tree, &Chosen::default()))
}

/// The places that a journal calls written of a file of `size` bytes, in order.
pub fn journal(written: &[u8], size: u64, digest: Digest) -> Vec<Range<u64>> {
    journal::parse(written, size, digest).into_values().map(|extent| extent.start..extent.end()).collect()
}

/// What the interface answers about a repository; `None` where the answer is no JSON.
pub fn description(answer: &[u8], repository: &RepositoryId, commit: &str) -> Option<Result<Description, HubError>> {
    let answer = serde_json::from_slice(answer).ok()?;
    Some(Description::of(repository, commit.to_owned(), &answer))
}
