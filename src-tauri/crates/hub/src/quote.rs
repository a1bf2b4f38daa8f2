//! What a download will cost, for a person to say yes to: bytes in all, there, begun, and still to come.
//!
//! Nothing is asked of the hub and no file is read: what is begun is what its journal says, which is checked byte for byte
//! only when the download goes on.

use std::collections::HashSet;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::{fs, iter};

use rustix::fs::statvfs;

use crate::error::file;
use crate::journal::Journal;
use crate::snapshot::incomplete;
use crate::{HubClient, HubError, Snapshot, Target};

/// What is there of a snapshot, and what is not. All in bytes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Quote {
    /// All chosen files.
    pub total: u64,
    /// Of files that are there; in a plain folder those of the right size.
    pub present: u64,
    /// That an earlier download brought of files which are not complete.
    pub partial: u64,
    /// What would be fetched: the rest.
    pub to_fetch: u64,
    /// What the disk of the target has room for.
    pub free_on_disk: u64,
    /// What that room must be at least: what is not reserved yet, and a margin where there is something to fetch.
    pub room_needed: u64,
}

impl Quote {
    /// Whether the disk has the room.
    pub fn fits(&self) -> bool {
        self.room_needed <= self.free_on_disk
    }
}

impl HubClient {
    /// What bringing a snapshot to its target would cost.
    pub fn quote(&self, snapshot: &Snapshot, target: &Target) -> Result<Quote, HubError> {
        let mut quote = Quote { free_on_disk: free(target.folder())?, ..Quote::default() };
        let mut seen = HashSet::new();
        for entry in &snapshot.files {
            quote.total += entry.size;
            let shared = matches!(target, Target::Cache(_));
            // In the cache one content is one file, whatever its names.
            if shared && !seen.insert(entry.digest) || snapshot.is_there(entry, target) {
                quote.present += entry.size;
                continue;
            }
            let path = incomplete(snapshot, entry, target);
            let reserved = fs::symlink_metadata(&path).map_or(0, |found| found.blocks().saturating_mul(512));
            quote.partial += Journal::recorded(&path, entry.size, entry.digest).min(entry.size);
            quote.room_needed += entry.size.saturating_sub(reserved);
        }
        quote.to_fetch = quote.total - quote.present - quote.partial;
        if quote.room_needed > 0 {
            quote.room_needed = quote.room_needed.saturating_add(self.options().margin);
        }
        Ok(quote)
    }
}

/// What the disk of a folder that need not be there yet has room for.
fn free(folder: &Path) -> Result<u64, HubError> {
    let mut above = iter::successors(Some(folder), |folder| folder.parent());
    let there = above.find(|folder| folder.is_dir()).map_or_else(|| PathBuf::from("."), Path::to_owned);
    let room = statvfs(&there).map_err(io::Error::from).map_err(file("measure the disk of", &there))?;
    Ok(room.f_bavail.saturating_mul(room.f_frsize))
}
