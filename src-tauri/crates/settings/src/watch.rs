//! One event for each change of a file, however an editor saves it.
//!
//! Editors write in place, or write another file and rename it, or move the old one away first; some leave the file empty or
//! half for a moment. So the folder is watched and not the file (and every folder of the chain where it is a link), events only
//! say that it is time to look, a look waits until it has been quiet for a moment, and what it finds counts by its content. What
//! looks unfinished must stay so for longer before it is believed. Where the system says nothing (network disks, a link in the
//! middle of a path that is pointed elsewhere), a slow poll finds it.
//!
//! `notify` loses its watch when a folder is replaced, reports our own reading as an event on Linux, and reports subfolders and
//! other names on macOS; all of it ends in a look that finds nothing new. Its debouncers are not used: they drop the sign that
//! events were lost. What is not here: what a change means ([`LastGood`](crate::LastGood)).

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};

use crate::SettingsError;
use crate::document::Breakage;
use crate::file::{ContentHash, EnvFile};

/// Links that lead to links.
const MOST_LINKS: usize = 16;

/// What has become of the file.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum FileEvent {
    /// It has another content. The first event after the start is of this kind, or one of the others.
    Changed(Box<EnvFile>),
    /// It has another content, and Python would not read it. Keep what was good last.
    Broken {
        /// The file.
        file: Box<EnvFile>,
        /// Why.
        breakage: Breakage,
    },
    /// It is no longer there, and has been away for longer than a save takes.
    Gone,
    /// It is there and cannot be read. A sentence.
    Unreadable(String),
}

/// How long to wait.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Without an event before the file is looked at.
    pub quiet: Duration,
    /// At most, where events never stop.
    pub longest: Duration,
    /// What looks unfinished (empty, gone, cut off) must stay so.
    pub unfinished: Duration,
    /// Between looks without any event.
    pub poll: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            quiet: Duration::from_millis(250),
            longest: Duration::from_secs(2),
            unfinished: Duration::from_secs(2),
            poll: Duration::from_secs(3),
        }
    }
}

/// A file that is watched by a thread of its own until this is dropped.
#[derive(Debug)]
pub struct Watch {
    path: PathBuf,
    messages: Sender<Message>,
    thread: Option<JoinHandle<()>>,
}

enum Message {
    Event(notify::Result<notify::Event>),
    Stop,
}

impl Watch {
    /// Begins to watch a file, which need not be there. `tell` is called by the thread, for the state at the start too.
    pub fn start(
        path: impl AsRef<Path>,
        patience: Patience,
        tell: impl FnMut(FileEvent) + Send + 'static,
    ) -> Result<Self, SettingsError> {
        let path = std::path::absolute(&path).map_err(SettingsError::io("find", path.as_ref()))?;
        let (messages, received) = channel();
        let events = messages.clone();
        let watcher = notify::recommended_watcher(move |event| {
            let _the_thread_has_ended = events.send(Message::Event(event));
        });
        let watcher = match watcher {
            Ok(watcher) => Some(watcher),
            Err(error) => {
                tracing::warn!(%error, "the system reports no changes of files; they are looked for instead");
                None
            }
        };
        let folders = Folders { watcher, watched: BTreeMap::new(), names: BTreeSet::new() };
        let look = Look { path: path.clone(), patience, told: Told::Nothing, bytes: Vec::new(), unfinished: None };
        let thread = thread::Builder::new()
            .name("env-watch".to_owned())
            .spawn(move || watch(look, folders, &received, tell))
            .map_err(SettingsError::io("watch", &path))?;
        Ok(Self { path, messages, thread: Some(thread) })
    }

    /// The file, by its absolute path.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _already_ended = self.messages.send(Message::Stop);
        // Whoever is told may be the one who drops it.
        if let Some(thread) = self.thread.take().filter(|it| it.thread().id() != thread::current().id()) {
            let _panic_was_reported = thread.join();
        }
    }
}

fn watch(mut look: Look, mut folders: Folders, received: &Receiver<Message>, mut tell: impl FnMut(FileEvent)) {
    let patience = look.patience;
    folders.follow(&look.path);
    let mut signature = None;
    // When to look, because of events: after the last one, but not much after the first one.
    let mut quiet_at: Option<(Instant, Instant)> = None;
    let mut due = Instant::now();
    loop {
        let now = Instant::now();
        let events_due = quiet_at.map(|(after_last, after_first)| after_last.min(after_first));
        // While events come, a poll would look into the middle of a save.
        let wait = events_due.unwrap_or(due).saturating_duration_since(now);
        if !wait.is_zero() {
            match received.recv_timeout(wait) {
                Ok(Message::Event(event)) => {
                    if folders.concerns(&event) {
                        let now = Instant::now();
                        let after_first = quiet_at.map_or(now + patience.longest, |(_, after_first)| after_first);
                        quiet_at = Some((now + patience.quiet, after_first));
                    }
                }
                Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {}
            }
            continue;
        }
        let by_events = quiet_at.take().is_some();
        folders.follow(&look.path);
        // Before the content, so that a change in between is seen by the next poll.
        let found = Signature::of(&look.path);
        if by_events || look.waits() || signature.as_ref() != Some(&found) {
            signature = Some(found);
            if let Some(event) = look.look(Instant::now()) {
                tell(event);
            }
        }
        let now = Instant::now();
        due = look.unfinished.as_ref().map_or(now + patience.poll, |(_, since)| *since + patience.unfinished).max(now);
    }
}

/// What tells cheaply that a file may have changed.
#[derive(Eq, PartialEq)]
struct Signature(Option<(PathBuf, [i128; 6])>);

impl Signature {
    fn of(path: &Path) -> Self {
        let of = || -> io::Result<_> {
            let target = path.canonicalize()?;
            let it = fs::metadata(&target)?;
            let numbers = [
                i128::from(it.dev()),
                i128::from(it.ino()),
                i128::from(it.len()),
                i128::from(it.mtime()) * 1_000_000_000 + i128::from(it.mtime_nsec()),
                i128::from(it.ctime()) * 1_000_000_000 + i128::from(it.ctime_nsec()),
                i128::from(it.mode()),
            ];
            Ok((target, numbers))
        };
        Self(of().ok())
    }
}

/// The folders that are watched for a file.
struct Folders {
    watcher: Option<RecommendedWatcher>,
    /// By path, with device and inode: a folder that was replaced is watched anew.
    watched: BTreeMap<PathBuf, (u64, u64)>,
    /// The file, the links to it, and what they lead to.
    names: BTreeSet<OsString>,
}

impl Folders {
    /// Watches the folders in which the file and its links are now, and no others.
    fn follow(&mut self, path: &Path) {
        let (folders, names) = chain(path);
        self.names = names;
        let Some(watcher) = &mut self.watcher else { return };
        let identity = |folder: &Path| fs::metadata(folder).map(|it| (it.dev(), it.ino())).ok();
        let lost: Vec<PathBuf> = self
            .watched
            .iter()
            .filter(|(folder, before)| !folders.contains(*folder) || identity(folder) != Some(**before))
            .map(|(folder, _)| folder.clone())
            .collect();
        for folder in lost {
            self.watched.remove(&folder);
            // It may be gone, and its watch with it.
            let _nothing_to_do = watcher.unwatch(&folder);
        }
        for folder in folders {
            if self.watched.contains_key(&folder) {
                continue;
            }
            let Some(identity) = identity(&folder) else { continue };
            match watcher.watch(&folder, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    self.watched.insert(folder, identity);
                }
                // The poll goes on, and it is tried again with each of its looks.
                Err(error) => tracing::debug!(folder = %folder.display(), %error, "the folder is not watched"),
            }
        }
    }

    fn concerns(&self, event: &notify::Result<notify::Event>) -> bool {
        // What went wrong may have been about our file.
        let Ok(event) = event else { return true };
        if event.need_rescan() || event.paths.is_empty() {
            return true;
        }
        let only_read = matches!(event.kind, EventKind::Access(kind) if kind != AccessKind::Close(AccessMode::Write));
        !only_read
            && event.paths.iter().any(|path| {
                path.file_name().is_some_and(|name| self.names.contains(name)) || self.watched.contains_key(path)
            })
    }
}

/// The folders of a file and of the links that lead to it, and their names in them.
fn chain(path: &Path) -> (BTreeSet<PathBuf>, BTreeSet<OsString>) {
    let (mut folders, mut names) = (BTreeSet::new(), BTreeSet::new());
    let mut path = path.to_owned();
    for _ in 0..MOST_LINKS {
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { break };
        let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
        names.insert(name.to_owned());
        let next = fs::read_link(&path).map(|target| folder.join(target));
        folders.insert(folder);
        match next {
            Ok(next) => path = next,
            Err(_) => break,
        }
    }
    (folders, names)
}

/// What a look finds, compared with what was told.
struct Look {
    path: PathBuf,
    patience: Patience,
    told: Told,
    /// The content that was told last.
    bytes: Vec<u8>,
    /// What looks unfinished, and since when.
    unfinished: Option<(Told, Instant)>,
}

#[derive(Clone, Eq, PartialEq)]
enum Told {
    Nothing,
    Content(ContentHash),
    Gone,
    Unreadable(String),
}

impl Look {
    fn waits(&self) -> bool {
        self.unfinished.is_some()
    }

    fn look(&mut self, now: Instant) -> Option<FileEvent> {
        let (found, file) = match EnvFile::read(&self.path) {
            Ok(file) => (Told::Content(file.hash()), Some(file)),
            Err(SettingsError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => (Told::Gone, None),
            Err(SettingsError::Io { source, action, path }) => {
                (Told::Unreadable(format!("cannot {action} `{}`: {source}", path.display())), None)
            }
            Err(other) => (Told::Unreadable(other.to_string()), None),
        };
        if found == self.told {
            self.unfinished = None;
            return None;
        }
        if file.as_ref().is_none_or(|file| looks_unfinished(&self.bytes, file.document().bytes())) {
            let since = match &self.unfinished {
                Some((before, since)) if *before == found => *since,
                _ => now,
            };
            if now.saturating_duration_since(since) < self.patience.unfinished {
                self.unfinished = Some((found, since));
                return None;
            }
        }
        self.unfinished = None;
        self.told = found.clone();
        let Some(file) = file else {
            return Some(match found {
                Told::Unreadable(why) => FileEvent::Unreadable(why),
                _ => FileEvent::Gone,
            });
        };
        file.document().bytes().clone_into(&mut self.bytes);
        let file = Box::new(file);
        Some(match file.document().breakage() {
            Some(breakage) => FileEvent::Broken { file, breakage },
            None => FileEvent::Changed(file),
        })
    }
}

/// Whether somebody may still be writing: nothing is there yet, or only a beginning of what was there, or the last line has lost
/// its end.
fn looks_unfinished(before: &[u8], now: &[u8]) -> bool {
    let ends = |bytes: &[u8]| bytes.last().is_some_and(|last| matches!(last, b'\n' | b'\r'));
    now.is_empty() || (before.len() > now.len() && before.starts_with(now)) || (ends(before) && !ends(now))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn a_look(path: &Path) -> Look {
        let patience = Patience { unfinished: Duration::from_secs(2), ..Patience::default() };
        Look { path: path.to_owned(), patience, told: Told::Nothing, bytes: Vec::new(), unfinished: None }
    }

    // Time is given, not waited for.
    #[test]
    fn what_looks_unfinished_is_believed_when_it_stays_so() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join(".env");
        let write = |text: &str| fs::write(&path, text).expect("it can be written");
        let start = Instant::now();
        let after = |seconds: u64| start + Duration::from_secs(seconds);
        let mut look = a_look(&path);
        write("A=1\nB=2\n");
        assert!(matches!(look.look(after(0)), Some(FileEvent::Changed(_))));
        assert!(look.look(after(1)).is_none(), "nothing new");
        for half in ["", "A=1\n", "A=1\nB", "A=2\nC=3"] {
            write(half);
            assert!(look.look(after(10)).is_none(), "{half:?}");
            assert!(look.look(after(11)).is_none(), "{half:?}");
            write("A=1\nB=2\n");
            assert!(look.look(after(12)).is_none(), "it is what it was");
        }
        write("");
        assert!(look.look(after(20)).is_none());
        assert!(matches!(look.look(after(22)), Some(FileEvent::Changed(file)) if file.document().bytes().is_empty()));
        write("A=3\n");
        assert!(matches!(look.look(after(22)), Some(FileEvent::Changed(_))), "whole lines are believed at once");
        fs::remove_file(&path).expect("it is there");
        assert!(look.look(after(30)).is_none());
        assert!(matches!(look.look(after(33)), Some(FileEvent::Gone)));
        assert!(look.look(after(34)).is_none(), "said once");
        write("A=3\n");
        assert!(matches!(look.look(after(35)), Some(FileEvent::Changed(_))), "it is back");
    }

    #[test]
    fn a_file_that_is_empty_at_the_start_may_be_in_the_middle_of_a_save() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join(".env");
        let start = Instant::now();
        let mut look = a_look(&path);
        fs::write(&path, "").expect("it can be written");
        assert!(look.look(start).is_none());
        fs::write(&path, "A=1\n").expect("it can be written");
        assert!(matches!(look.look(start), Some(FileEvent::Changed(_))));
    }

    #[test]
    fn a_change_of_what_looks_unfinished_begins_the_wait_again() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join(".env");
        let start = Instant::now();
        let mut look = a_look(&path);
        fs::write(&path, "A=1\nB=2\nC=3\n").expect("it can be written");
        assert!(look.look(start).is_some());
        for (second, half) in [(10, "A=1\n"), (11, "A=1\nB=2\n"), (12, "A=1\n"), (13, "")] {
            fs::write(&path, half).expect("it can be written");
            assert!(look.look(start + Duration::from_secs(second)).is_none());
        }
    }

    #[test]
    fn python_would_stop_at_it_and_says_why() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join(".env");
        fs::write(&path, b"A=\xff\n").expect("it can be written");
        let event = a_look(&path).look(Instant::now());
        assert!(matches!(event, Some(FileEvent::Broken { breakage: Breakage::NotUtf8 { line: 1 }, .. })), "{event:?}");
        fs::remove_file(&path).expect("it is there");
        fs::create_dir(&path).expect("it can be made");
        let mut look = a_look(&path);
        look.patience.unfinished = Duration::ZERO;
        assert!(matches!(look.look(Instant::now()), Some(FileEvent::Unreadable(_))));
    }
}
