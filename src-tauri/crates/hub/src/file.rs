//! One file: ranges fetched side by side into an incomplete file, a journal of what is there, and the digest at the end.
//!
//! ```text
//! metadata ─► location ─► connections ─► pieces ─► file, then journal
//!                 ▲            │                        │
//!                 └─ expired ──┘            hashed from its start as it grows
//! ```
//!
//! Bytes that have come are never asked for again: a connection that breaks off goes on where it was, and what it had is
//! written down when the download ends early. A server that ignores ranges is read as one stream, of which only what is
//! missing is kept. What is not here: the name under which the file is found afterwards.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::{Buf as _, Bytes};
use reqwest::header;
use reqwest::{Method, Response, Url};
use rustix::fs::{FallocateFlags, fallocate, statvfs};
use tokio::sync::{Notify, watch};
use tokio::task::{JoinHandle, JoinSet, spawn_blocking};
use tokio::time::timeout;

use crate::client::{Failure, Patience, broken, host, passing, silent};
use crate::digest::Hasher;
use crate::error::file;
use crate::journal::{Extent, Extents, Journal, gaps, insert};
use crate::kept::Kept;
use crate::{Digest, FilePath, HubClient, HubError, RepositoryId, Transfer};

/// How much is written at a time, in bytes: one trip to the threads that may block.
const WRITE: usize = 512 << 10;

/// How much is read back and hashed at a time, in bytes: it stays in the processor's own memory.
const HASH: usize = 256 << 10;

/// How much is read back before it is looked again whether there is something in memory, in bytes.
const READ: u64 = 8 << 20;

/// How long what was written may wait for a sync.
const SYNCED: Duration = Duration::from_secs(5);

/// How many bytes may. Small against the file, so that the disk works beside the network and not after it.
const SYNCED_BYTES: u64 = 64 << 20;

/// Which file, as the listing had it.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub(crate) repository: RepositoryId,
    pub(crate) commit: String,
    pub(crate) path: FilePath,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
}

/// How the file is being read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Mode {
    /// The first connection has not been answered yet.
    Unknown,
    /// Ranges work.
    Ranges,
    /// They do not: everybody but one stops.
    Stream,
    /// Something is final: everybody stops and writes down what there is.
    Stop,
}

/// Where the bytes are, for now.
#[derive(Clone, Debug)]
struct Place {
    url: Url,
    /// How often the hub was asked.
    generation: u32,
    /// The ETag of the first answer from there.
    validator: Option<String>,
}

struct State {
    pieces: VecDeque<Range<u64>>,
    extents: Extents,
    journal: Journal,
    /// When the last sync began, and how much was written since.
    synced: (Instant, u64),
    syncing: Option<JoinHandle<io::Result<()>>>,
}

struct Job {
    client: HubClient,
    source: Source,
    transfer: Transfer,
    path: PathBuf,
    file: Arc<File>,
    state: Mutex<State>,
    place: Mutex<Place>,
    /// Only one connection asks the hub for a new place.
    asking: tokio::sync::Mutex<()>,
    mode: watch::Sender<Mode>,
    /// What was written and not hashed yet.
    kept: Arc<Kept>,
    grown: Notify,
}

/// A part that is being fetched: what of it is there, and its checksum so far.
struct Run {
    start: u64,
    end: u64,
    at: u64,
    checksum: crc32fast::Hasher,
}

impl Run {
    fn new(range: Range<u64>) -> Self {
        Self { start: range.start, end: range.end, at: range.start, checksum: crc32fast::Hasher::new() }
    }

    fn is_complete(&self) -> bool {
        self.at == self.end
    }
}

/// A body, from its first byte's place in the file on.
struct Feed {
    response: Response,
    at: u64,
    /// Of the last chunk, what the run before did not need.
    rest: Bytes,
}

/// How a body ended for a run.
enum Ended {
    /// The run is complete, or the body is over.
    Over,
    /// The connection broke.
    Broken(Failure),
    /// Pause, cancellation, or a change of the mode.
    Interrupted,
}

/// How a connection's work ended.
enum Worked {
    Done,
    /// Ranges are ignored here; the body starts with the file's first byte.
    Whole(Box<Feed>),
}

/// An answer to a range.
enum Answer {
    Part(Feed),
    Whole(Feed),
}

/// Downloads into `incomplete` and verifies. Afterwards the file is whole and on the disk; its journal is still there.
pub(crate) async fn download(
    client: &HubClient,
    source: Source,
    incomplete: &Path,
    transfer: &Transfer,
) -> Result<(), HubError> {
    tokio::select! {
        result = attempt(client, source, incomplete, transfer) => result,
        // Those who read stop by themselves, for they have something to write down; this is for those who only wait.
        () = async { transfer.cancelled().await; tokio::time::sleep(Duration::from_secs(2)).await } => Err(HubError::Cancelled),
    }
}

async fn attempt(client: &HubClient, source: Source, incomplete: &Path, transfer: &Transfer) -> Result<(), HubError> {
    let margin = client.options().margin;
    let (path, size, digest) = (incomplete.to_owned(), source.size, source.digest);
    let opened = blocking(move || open(&path, size, digest, margin)).await?;
    let (data, journal, extents) = opened;
    let there: u64 = extents.values().map(|extent| extent.length).sum();
    transfer.found(there as i64);
    let place = if there < size {
        let url = locate(client, &source).await?;
        Place { url, generation: 0, validator: None }
    } else {
        // Nobody is asked for what is there; a repair asks.
        Place { url: client.settings().endpoint.clone(), generation: u32::MAX, validator: None }
    };
    let piece = client.options().piece.max(1);
    let mut pieces = VecDeque::new();
    for gap in gaps(&extents, size) {
        let starts = (gap.start..gap.end).step_by(usize::try_from(piece).unwrap_or(usize::MAX));
        pieces.extend(starts.map(|start| start..gap.end.min(start.saturating_add(piece))));
    }
    let job = Arc::new(Job {
        client: client.clone(),
        source,
        transfer: transfer.clone(),
        path: incomplete.to_owned(),
        file: Arc::new(data),
        state: Mutex::new(State { pieces, extents, journal, synced: (Instant::now(), 0), syncing: None }),
        place: Mutex::new(place),
        asking: tokio::sync::Mutex::new(()),
        mode: watch::Sender::new(Mode::Unknown),
        kept: Arc::default(),
        grown: Notify::new(),
    });
    let mut hashing = Abort(tokio::spawn(hash_as_it_grows(Arc::clone(&job))));
    let fetched = fetch(&job).await;
    // Whatever ends it early: the checksums in the journal tell next time what reached the disk.
    fetched?;
    job.sync().await?;
    let found = (&mut hashing.0).await.map_err(|error| HubError::Client(error.to_string()))??;
    if found != job.source.digest {
        repair(&job, found).await?;
        job.sync().await?;
    }
    Ok(())
}

/// A task that ends with its owner.
struct Abort<T>(JoinHandle<T>);

impl<T> Drop for Abort<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, HubError> + Send + 'static,
) -> Result<T, HubError> {
    spawn_blocking(work).await.map_err(|error| HubError::Client(error.to_string()))?
}

/// Opens the incomplete file at its full length, if the disk has room for it, and its journal.
fn open(path: &Path, size: u64, digest: Digest, margin: u64) -> Result<(File, Journal, Extents), HubError> {
    let data = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
    let data = data.map_err(file("open", path))?;
    let taken = data.metadata().map_err(file("open", path))?.blocks().saturating_mul(512);
    let folder = path.parent().unwrap_or(path);
    let room = statvfs(folder).map_err(io::Error::from).map_err(file("measure the disk of", folder))?;
    let free = room.f_bavail.saturating_mul(room.f_frsize);
    let needed = size.saturating_sub(taken).saturating_add(margin);
    if size > taken && needed > free {
        return Err(HubError::DiskFull { folder: folder.to_owned(), needed, free });
    }
    // Reserved, so that the disk cannot be full in the middle; only once, for a Mac would reserve as much again. Where the
    // file system cannot, the writes will tell.
    let fresh = data.metadata().map_err(file("open", path))?.len() == 0;
    if fresh
        && size > 0
        && let Err(rustix::io::Errno::NOSPC) = fallocate(&data, FallocateFlags::empty(), 0, size)
    {
        return Err(HubError::DiskFull { folder: folder.to_owned(), needed, free });
    }
    data.set_len(size).map_err(file("lengthen", path))?;
    let (journal, extents) =
        Journal::open(&Journal::beside(path), &data, size, digest).map_err(file("read the journal of", path))?;
    Ok((data, journal, extents))
}

/// Asks the hub where the file is, and whether it still is the file.
async fn locate(client: &HubClient, source: &Source) -> Result<Url, HubError> {
    let metadata = client.metadata(&source.repository, &source.commit, &source.path).await?;
    if metadata.digest != source.digest || metadata.commit != source.commit {
        return Err(source.changed(&metadata.digest.to_string()));
    }
    if metadata.size != source.size {
        return Err(source.length(&client.settings().endpoint, metadata.size));
    }
    Ok(metadata.location)
}

impl Source {
    fn changed(&self, found: &str) -> HubError {
        let found = crate::error::cleaned(found);
        HubError::Changed { path: self.path.to_string(), expected: self.digest.to_string(), found }
    }

    fn length(&self, url: &Url, found: u64) -> HubError {
        HubError::Length { host: host(url), path: self.path.to_string(), expected: self.size, found }
    }
}

/// Fetches all that is missing.
async fn fetch(job: &Arc<Job>) -> Result<(), HubError> {
    let pieces = job.state().pieces.len();
    if pieces == 0 {
        return Ok(());
    }
    let mut workers = JoinSet::new();
    for number in 0..job.client.options().connections.clamp(1, 16).min(pieces) {
        workers.spawn(work(Arc::clone(job), number == 0));
    }
    let mut whole = None;
    let mut failed = None;
    while let Some(ended) = workers.join_next().await {
        match ended.unwrap_or_else(|error| Err(HubError::Client(error.to_string()))) {
            Ok(Worked::Done) => {}
            Ok(Worked::Whole(feed)) => {
                job.mode.send_replace(Mode::Stream);
                whole = whole.or(Some(feed));
            }
            Err(error) => {
                job.mode.send_replace(Mode::Stop);
                failed = failed.or(Some(error));
            }
        }
    }
    match (failed, whole) {
        (Some(error), _) => Err(error),
        (None, Some(feed)) => stream(job, *feed).await,
        (None, None) => Ok(()),
    }
}

/// One connection: takes pieces until there are none. The first one finds out whether ranges work.
async fn work(job: Arc<Job>, first: bool) -> Result<Worked, HubError> {
    if !first {
        // An error would mean that the sender, which the job holds, is gone.
        let _ = job.mode.subscribe().wait_for(|mode| *mode != Mode::Unknown).await;
    }
    loop {
        if matches!(*job.mode.borrow(), Mode::Stream | Mode::Stop) {
            return Ok(Worked::Done);
        }
        let Some(piece) = job.state().pieces.pop_front() else { return Ok(Worked::Done) };
        let mut run = Run::new(piece);
        let ended = job.fetch(&mut run).await;
        job.record(&run)?;
        if let Some(feed) = ended? {
            return Ok(Worked::Whole(Box::new(feed)));
        }
    }
}

/// Reads a server that ignores ranges: each body starts at the file's first byte, and what is there is skipped.
async fn stream(job: &Arc<Job>, feed: Feed) -> Result<(), HubError> {
    tracing::debug!(path = %job.source.path, "ranges are ignored; reading one stream");
    let mut given = Some(feed);
    let mut patience = Patience::default();
    loop {
        let missing = gaps(&job.state().extents, job.source.size);
        let Some(first) = missing.first().cloned() else { return Ok(()) };
        job.transfer.running().await?;
        let piece = job.client.options().piece.max(1);
        let first = first.start..first.end.min(first.start.saturating_add(piece));
        let (mut feed, mut wanted) = match given.take() {
            Some(feed) => (feed, missing),
            None => match job.ask(first.clone(), &patience).await {
                Ok(Answer::Part(feed)) => (feed, vec![first]),
                Ok(Answer::Whole(feed)) => (feed, missing),
                Err(failure) => {
                    job.failed(failure, &mut patience).await?;
                    continue;
                }
            },
        };
        wanted.reverse();
        while let Some(mut gap) = wanted.pop() {
            if gap.end - gap.start > piece {
                wanted.push(gap.start + piece..gap.end);
                gap.end = gap.start + piece;
            }
            let mut run = Run::new(gap);
            let ended = job.receive(&mut feed, &mut run, Mode::Stream).await;
            job.record(&run)?;
            if run.at > run.start {
                patience.progressed();
            }
            match ended? {
                Ended::Over if run.is_complete() => {}
                Ended::Over => {
                    job.failed(silent(feed.response.url(), patience.attempts()), &mut patience).await?;
                    break;
                }
                Ended::Broken(failure) => {
                    job.failed(failure, &mut patience).await?;
                    break;
                }
                Ended::Interrupted => break,
            }
        }
    }
}

impl Job {
    fn state(&self) -> MutexGuard<'_, State> {
        // Whole after every statement, so a panic elsewhere leaves nothing half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn place(&self) -> MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fetches one run, over as many connections as it takes. Ends early, without an error, where the mode changes; with
    /// the body, where it is the whole file that was not asked for.
    async fn fetch(&self, run: &mut Run) -> Result<Option<Feed>, HubError> {
        let mut patience = Patience::default();
        while !run.is_complete() {
            self.transfer.running().await?;
            if matches!(*self.mode.borrow(), Mode::Stream | Mode::Stop) {
                return Ok(None);
            }
            let asked = run.at..run.end;
            let mut mode = self.mode.subscribe();
            let answer = tokio::select! {
                answer = self.ask(asked.clone(), &patience) => answer,
                () = self.transfer.interrupted() => continue,
                _ = mode.wait_for(|mode| matches!(mode, Mode::Stream | Mode::Stop)) => return Ok(None),
            };
            let failure = match answer {
                Err(failure) => failure,
                Ok(Answer::Whole(feed)) if asked != (0..self.source.size) => return Ok(Some(feed)),
                Ok(Answer::Whole(mut feed) | Answer::Part(mut feed)) => {
                    self.mode.send_if_modified(|mode| {
                        let first = *mode == Mode::Unknown;
                        if first {
                            *mode = Mode::Ranges;
                        }
                        first
                    });
                    let ended = self.receive(&mut feed, run, Mode::Ranges).await?;
                    if run.at > asked.start {
                        patience.progressed();
                    }
                    match ended {
                        // A server may send less than it was asked for, but not nothing.
                        Ended::Over if run.at > asked.start => continue,
                        Ended::Over => silent(feed.response.url(), patience.attempts()),
                        Ended::Broken(failure) => failure,
                        Ended::Interrupted => continue,
                    }
                }
            };
            tokio::select! {
                waited = self.failed(failure, &mut patience) => waited?,
                () = self.transfer.interrupted() => {}
                _ = mode.wait_for(|mode| matches!(mode, Mode::Stream | Mode::Stop)) => return Ok(None),
            }
        }
        Ok(None)
    }

    /// After a failure: a place that expired is asked for again, everything else waits.
    async fn failed(&self, failure: Failure, patience: &mut Patience) -> Result<(), HubError> {
        let refused = matches!(&failure, Failure::Passing { status: Some(status), .. }
            if matches!(status.as_u16(), 401 | 403 | 404 | 410 | 416));
        let generation = self.place().generation;
        patience.failed(failure, self.client.options()).await?;
        if refused { self.relocate(generation).await } else { Ok(()) }
    }

    /// Asks the hub for the place again, unless somebody has since.
    async fn relocate(&self, generation: u32) -> Result<(), HubError> {
        let _asking = self.asking.lock().await;
        if self.place().generation != generation {
            return Ok(());
        }
        let url = locate(&self.client, &self.source).await?;
        let mut place = self.place();
        // The same file has another ETag at another host.
        let validator = place.validator.take().filter(|_| url.origin() == place.url.origin());
        *place = Place { url, generation: generation.wrapping_add(1), validator };
        Ok(())
    }

    /// Asks for a range and judges the head of the answer.
    async fn ask(&self, range: Range<u64>, patience: &Patience) -> Result<Answer, Failure> {
        let place = self.place().clone();
        let validator = place.validator.as_deref();
        let asked = Some(range.clone());
        let response = self.client.follow(Method::GET, place.url.clone(), asked, validator, None).await?;
        let url = response.url().clone();
        let status = response.status();
        let attempts = patience.attempts();
        match status.as_u16() {
            200 | 206 => {}
            // A signed address that expired, or a storage that lost its mind for a moment.
            401 | 403 | 404 | 410 | 416 => {
                let error = HubError::Status { host: host(&url), status: status.as_u16(), attempts };
                return Err(Failure::Passing { error, status: Some(status), wait: None });
            }
            _ => return Err(passing(&response, attempts)),
        }
        let text = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
        if let Some(etag) = text(header::ETAG) {
            // The hub's own answers carry the digest; a storage has names of its own.
            let named = Digest::parse(etag).filter(|_| self.client.is_ours(&url));
            if named.is_some_and(|named| named != self.source.digest) {
                return Err(Failure::Final(self.source.changed(etag)));
            }
            let mut now = self.place();
            match &now.validator {
                _ if now.generation != place.generation || etag.starts_with("W/") => {}
                None => now.validator = Some(etag.to_owned()),
                Some(known) if known == etag => {}
                Some(_) => return Err(Failure::Final(self.source.changed(etag))),
            }
        }
        let wrong = |found| Failure::Final(self.source.length(&url, found));
        if status.as_u16() == 200 {
            return match response.content_length() {
                Some(length) if length != self.source.size => Err(wrong(length)),
                _ => Ok(Answer::Whole(Feed { response, at: 0, rest: Bytes::new() })),
            };
        }
        let (sent, total) = text(header::CONTENT_RANGE).and_then(content_range).ok_or_else(|| {
            Failure::Final(HubError::NotAHub { host: host(&url), reason: "it sends a part and does not say which" })
        })?;
        if let Some(total) = total.filter(|total| *total != self.source.size) {
            return Err(wrong(total));
        }
        let length = response.content_length().unwrap_or(sent.end - sent.start);
        if sent.start != range.start || sent.end > range.end || length != sent.end - sent.start {
            let reason = "it sends another part than it was asked for";
            return Err(Failure::Final(HubError::NotAHub { host: host(&url), reason }));
        }
        Ok(Answer::Part(Feed { response, at: sent.start, rest: Bytes::new() }))
    }

    /// Reads a body into a run; what lies before the run is skipped. All that `run` counts is in the file afterwards.
    async fn receive(&self, feed: &mut Feed, run: &mut Run, mode: Mode) -> Result<Ended, HubError> {
        let mut writer = Writer { job: self, at: run.at, pending: None };
        let mut buffer = self.kept.spare(WRITE);
        let mut modes = self.mode.subscribe();
        let mut rest = std::mem::take(&mut feed.rest);
        let mut at = run.at;
        let ended = loop {
            if at == run.end {
                feed.rest = rest;
                break Ended::Over;
            }
            if rest.is_empty() {
                let chunk = tokio::select! {
                    biased;
                    () = self.transfer.interrupted() => break Ended::Interrupted,
                    _ = modes.wait_for(|now| *now == Mode::Stop || *now == Mode::Stream && mode != Mode::Stream) => {
                        break Ended::Interrupted;
                    }
                    chunk = timeout(self.client.options().stall, feed.response.chunk()) => chunk,
                };
                match chunk {
                    Ok(Ok(Some(chunk))) => rest = chunk,
                    Ok(Ok(None)) => break Ended::Over,
                    Ok(Err(error)) => break Ended::Broken(broken(feed.response.url(), 1, &error)),
                    Err(_) => break Ended::Broken(silent(feed.response.url(), 1)),
                }
            }
            let skipped = at.saturating_sub(feed.at).min(rest.len() as u64);
            let taken = (rest.len() as u64 - skipped).min(run.end - at);
            buffer.extend_from_slice(&rest[skipped as usize..(skipped + taken) as usize]);
            feed.at += skipped + taken;
            at += taken;
            rest.advance((skipped + taken) as usize);
            self.transfer.received(taken);
            tokio::select! {
                () = self.transfer.allow(skipped + taken) => {}
                () = self.transfer.interrupted() => {}
            }
            if buffer.len() >= WRITE {
                run.checksum.update(&buffer);
                buffer = writer.write(buffer).await?;
            }
        };
        run.checksum.update(&buffer);
        writer.write(buffer).await?;
        writer.finish().await?;
        run.at = at;
        Ok(ended)
    }

    /// Writes down what of a run is there.
    fn record(&self, run: &Run) -> Result<(), HubError> {
        if run.at == run.start {
            return Ok(());
        }
        let extent = Extent { start: run.start, length: run.at - run.start, checksum: run.checksum.clone().finalize() };
        let mut state = self.state();
        insert(&mut state.extents, extent);
        let written = state.journal.append(extent);
        written.map_err(file("write", state.journal.path()))?;
        state.synced.1 += extent.length;
        let due = state.synced.0.elapsed() > SYNCED || state.synced.1 > SYNCED_BYTES;
        if due && state.syncing.as_ref().is_none_or(JoinHandle::is_finished) {
            state.synced = (Instant::now(), 0);
            let data = Arc::clone(&self.file);
            let journal = state.journal.handle().map_err(file("sync the journal of", &self.path))?;
            // A failure shows again in the sync at the end.
            state.syncing = Some(spawn_blocking(move || data.sync_data().and_then(|()| journal.sync_data())));
        }
        drop(state);
        self.grown.notify_one();
        Ok(())
    }

    async fn sync(&self) -> Result<(), HubError> {
        let (data, path) = (Arc::clone(&self.file), self.path.clone());
        let journal = self.state().journal.handle().map_err(file("sync the journal of", &path))?;
        blocking(move || data.sync_all().and_then(|()| journal.sync_data()).map_err(file("sync", &path))).await
    }

    /// The digest of all that is in the file.
    async fn digest(&self) -> Result<Digest, HubError> {
        let (data, path) = (Arc::clone(&self.file), self.path.clone());
        let (kind, size) = (self.source.digest, self.source.size);
        Ok(blocking(move || hash(Hasher::new(kind, size), &data, &path, 0..size)).await?.finish())
    }

    /// How far the file is there without a gap.
    fn frontier(&self) -> u64 {
        let first = gaps(&self.state().extents, self.source.size).first().map(|gap| gap.start);
        first.unwrap_or(self.source.size)
    }
}

/// Writes buffers one after another, while the next one is being filled.
struct Writer<'a> {
    job: &'a Job,
    at: u64,
    pending: Option<JoinHandle<io::Result<bool>>>,
}

impl Writer<'_> {
    /// Takes a full buffer and gives an empty one.
    async fn write(&mut self, buffer: Vec<u8>) -> Result<Vec<u8>, HubError> {
        self.finish().await?;
        let (file, kept, at) = (Arc::clone(&self.job.file), Arc::clone(&self.job.kept), self.at);
        self.at += buffer.len() as u64;
        self.pending = Some(spawn_blocking(move || {
            file.write_all_at(&buffer, at)?;
            Ok(kept.keep(at, buffer))
        }));
        Ok(self.job.kept.spare(WRITE))
    }

    async fn finish(&mut self) -> Result<(), HubError> {
        let Some(pending) = self.pending.take() else { return Ok(()) };
        let written = pending.await.map_err(|error| HubError::Client(error.to_string()))?;
        if written.map_err(file("write", &self.job.path))? {
            self.job.grown.notify_one();
        }
        Ok(())
    }
}

/// `bytes 0-99/1000`, the total perhaps `*`.
fn content_range(text: &str) -> Option<(Range<u64>, Option<u64>)> {
    let (range, total) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last) = (first.parse().ok()?, last.parse::<u64>().ok()?.checked_add(1)?);
    let total = if total == "*" { None } else { Some(total.parse().ok()?) };
    (first < last).then_some((first..last, total))
}

/// Hashes the file from its start, as far as it is there without a gap, until it is all there: from memory what was written
/// just now, from the disk the rest.
async fn hash_as_it_grows(job: Arc<Job>) -> Result<Digest, HubError> {
    let mut hasher = Hasher::new(job.source.digest, job.source.size);
    let mut at = 0;
    while at < job.source.size {
        // Before it is looked whether there is something, so that nothing is missed.
        let grown = job.grown.notified();
        let (buffers, next) = job.kept.take(at);
        if !buffers.is_empty() {
            at += buffers.iter().map(|buffer| buffer.len() as u64).sum::<u64>();
            let kept = Arc::clone(&job.kept);
            hasher = blocking(move || {
                for buffer in &buffers {
                    hasher.update(buffer);
                }
                kept.give_back(buffers);
                Ok(hasher)
            })
            .await?;
            continue;
        }
        let frontier = job.frontier().min(next.unwrap_or(u64::MAX));
        if frontier > at {
            job.kept.read_back();
            // A little at a time: meanwhile what follows may have come to be kept.
            let end = frontier.min(at + READ);
            let (data, path) = (Arc::clone(&job.file), job.path.clone());
            hasher = blocking(move || hash(hasher, &data, &path, at..end)).await?;
            at = end;
            continue;
        }
        grown.await;
    }
    job.kept.close();
    Ok(hasher.finish())
}

fn hash(mut hasher: Hasher, data: &File, path: &Path, range: Range<u64>) -> Result<Hasher, HubError> {
    let mut block = vec![0; HASH];
    let mut at = range.start;
    while at < range.end {
        let part = &mut block[..(range.end - at).min(HASH as u64) as usize];
        data.read_exact_at(part, at).map_err(file("read", path))?;
        hasher.update(part);
        at += part.len() as u64;
    }
    Ok(hasher)
}

/// The whole is wrong: parts that are not on the disk as they came are fetched again, then one part after another until
/// the whole is right. Each at most once.
async fn repair(job: &Arc<Job>, mut found: Digest) -> Result<(), HubError> {
    tracing::warn!(path = %job.source.path, "the digest is wrong; looking for the part that is");
    job.mode.send_replace(Mode::Ranges);
    if job.place().generation == u32::MAX {
        job.relocate(u32::MAX).await?;
    }
    let all: Vec<Extent> = job.state().extents.values().copied().collect();
    let data = Arc::clone(&job.file);
    let path = job.path.clone();
    let mut order = blocking(move || {
        let mut order = Vec::new();
        for extent in all {
            order.push((extent.holds(&data).map_err(file("read", &path))?, extent));
        }
        Ok(order)
    })
    .await?;
    order.sort_by_key(|(holds, extent)| (*holds, extent.start));
    let damaged = order.iter().filter(|(holds, _)| !holds).count();
    for (number, (holds, extent)) in order.into_iter().enumerate() {
        job.transfer.found(-(extent.length as i64));
        let mut run = Run::new(extent.start..extent.end());
        let ended = job.fetch(&mut run).await;
        // Without the whole of it the old record stands, whose checksum tells which part was overwritten.
        if run.is_complete() {
            job.record(&run)?;
        }
        if let Some(feed) = ended? {
            // One part cannot be asked for alone: all of them, once.
            found = again(job, feed).await?;
            break;
        }
        let differs = run.checksum.finalize() != extent.checksum;
        if number + 1 < damaged || holds && !differs {
            continue;
        }
        found = job.digest().await?;
        if found == job.source.digest {
            return Ok(());
        }
    }
    if found == job.source.digest {
        return Ok(());
    }
    Err(HubError::Digest {
        path: job.source.path.to_string(),
        expected: job.source.digest.to_string(),
        found: found.to_string(),
    })
}

/// Reads the whole file again from one body, part for part, and says what it is now.
async fn again(job: &Arc<Job>, mut feed: Feed) -> Result<Digest, HubError> {
    let all: Vec<Extent> = job.state().extents.values().copied().collect();
    for extent in all {
        job.transfer.found(-(extent.length as i64));
        let mut run = Run::new(extent.start..extent.end());
        let ended = job.receive(&mut feed, &mut run, Mode::Stream).await?;
        if run.is_complete() {
            job.record(&run)?;
            continue;
        }
        job.transfer.running().await?;
        let failure = if let Ended::Broken(failure) = ended { failure } else { silent(feed.response.url(), 1) };
        let (Failure::Final(error) | Failure::Passing { error, .. }) = failure;
        return Err(error);
    }
    job.digest().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ranges_are_read_and_nonsense_is_not() {
        assert_eq!(content_range("bytes 0-99/1000"), Some((0..100, Some(1000))));
        assert_eq!(content_range("bytes 5-5/*"), Some((5..6, None)));
        for bad in ["", "bytes */10", "bytes 9-3/10", "items 0-1/2", "bytes 0-18446744073709551615/1", "bytes a-b/c"] {
            assert_eq!(content_range(bad), None, "{bad}");
        }
    }
}
