//! Downloads from a hub that misbehaves: byte-identical or a clear error, and no good byte twice.

mod fake_hub;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use embedbar_hub::{
    Chosen, FilePath, Gate, HubCache, HubClient, HubError, HubOptions, HubSettings, RepositoryId, Snapshot, Target,
    Transfer, Verdict,
};
use fake_hub::{COMMIT, Content, FakeHub, Fault, Host};
use tempfile::TempDir;

const REPOSITORY: &str = "owner/name";
const MODEL: &str = "model.safetensors";
const TOKEN: &str = "hf_secret";
const PIECE: u64 = 64 << 10;

/// Bytes without a pattern that a shifted piece could hide in.
fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..length).map(|_| next()).collect()
}

fn options() -> HubOptions {
    HubOptions {
        piece: PIECE,
        stall: Duration::from_secs(5),
        attempts: 4,
        backoff: Duration::from_millis(2),
        margin: 1 << 20,
        proxies: false,
        ..HubOptions::default()
    }
}

fn client(endpoint: &str, options: HubOptions) -> HubClient {
    let value = |name: &str| match name {
        "HF_ENDPOINT" => Some(endpoint.to_owned()),
        "HF_TOKEN" => Some(TOKEN.to_owned()),
        _ => None,
    };
    HubClient::new(HubSettings::from_lookup(value).expect("settings"), options).expect("a client")
}

/// A hub with one large file, and a folder to download to.
struct Bench {
    hub: FakeHub,
    bytes: Vec<u8>,
    folder: TempDir,
}

impl Bench {
    async fn new(length: usize) -> Self {
        let bytes = noise(length, 42);
        let files = vec![(MODEL, Content::new(bytes.clone(), true))];
        let hub = FakeHub::start(REPOSITORY, files).await.expect("a hub");
        Self { hub, bytes, folder: tempfile::tempdir().expect("a folder") }
    }

    fn target(&self) -> Target {
        Target::Folder(self.folder.path().to_owned())
    }

    async fn snapshot(&self, client: &HubClient) -> Snapshot {
        client.snapshot(&id(), "main", &Chosen::new([MODEL]).expect("patterns")).await.expect("a snapshot")
    }

    async fn run_with(&self, options: HubOptions, transfer: &Transfer) -> Result<(), HubError> {
        let client = client(&self.hub.endpoint, options);
        let snapshot = self.snapshot(&client).await;
        client.download(&snapshot, &self.target(), transfer).await.map(|_| ())
    }

    async fn run(&self) -> Result<(), HubError> {
        self.run_with(options(), &Transfer::new()).await
    }

    fn assert_whole(&self) {
        let found = fs::read(self.folder.path().join(MODEL)).expect("the file");
        assert!(found == self.bytes, "the file is another one");
        assert_eq!(names(self.folder.path()), [MODEL], "nothing else is left");
        for request in self.hub.requests().iter().filter(|request| request.host == Host::Storage) {
            assert_eq!(request.authorization, None, "the token must not reach the storage");
        }
    }

    fn assert_nothing_appeared(&self) {
        assert!(!self.folder.path().join(MODEL).exists());
    }
}

fn id() -> RepositoryId {
    REPOSITORY.parse().expect("an id")
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a folder").flatten();
    let mut names: Vec<_> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_hub_that_answers_for_another_commit_is_not_believed() {
    let hub = FakeHub::start(REPOSITORY, vec![("config.json", Content::new(b"{}".to_vec(), false))])
        .await
        .expect("it starts");
    hub.misbehave(|_| Fault::OtherCommit);
    let client = client(&hub.endpoint, options());
    assert_eq!(client.describe(&id(), "main").await.expect("a branch may be anywhere").commit, "f".repeat(40));
    let error = client.describe(&id(), COMMIT).await.expect_err("a commit is where it is");
    assert!(error.to_string().contains("another commit"), "{error}");
}

#[tokio::test]
async fn a_file_arrives_whole_with_each_byte_once_and_the_token_stays_with_the_hub() {
    let bench = Bench::new(1_000_003).await;
    let transfer = Transfer::new();
    bench.run_with(options(), &transfer).await.expect("it downloads");
    bench.assert_whole();
    assert_eq!(bench.hub.served(), 1_000_003);
    let requests = bench.hub.requests();
    let asked = requests.iter().filter(|request| request.host == Host::Hub);
    let mut with_token = asked.map(|request| request.authorization.as_deref() == Some("Bearer hf_secret"));
    assert!(with_token.all(|it| it), "the hub sees the token");
    assert_eq!(requests.iter().filter(|request| request.is_bytes()).count(), 16);
    let progress = *transfer.progress().borrow();
    assert_eq!((progress.done, progress.total), (1_000_003, 1_000_003));
    // Again: the file is there.
    bench.run().await.expect("it is there");
    assert_eq!(bench.hub.served(), 1_000_003);
}

#[tokio::test]
async fn fifty_cuts_at_random_bytes_cost_no_byte_twice() {
    let bench = Bench::new(3_000_001).await;
    let cuts = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&cuts);
    let mut random = noise(4096, 7).into_iter();
    bench.hub.misbehave(move |request| {
        if !request.is_bytes() || counted.load(Ordering::SeqCst) == 50 {
            return Fault::None;
        }
        let (first, last) = request.range.expect("a range");
        let random = random.next().map_or(0, u64::from);
        counted.fetch_add(1, Ordering::SeqCst);
        // At least one byte: what is cut without one, again and again, is given up.
        Fault::Cut(((last - first) * random / 256).max(1))
    });
    bench.run().await.expect("it downloads");
    bench.assert_whole();
    assert_eq!(cuts.load(Ordering::SeqCst), 50);
    assert_eq!(bench.hub.served(), 3_000_001);
}

#[tokio::test]
async fn a_flipped_byte_is_found_and_its_part_alone_is_replaced() {
    let bench = Bench::new(500_000).await;
    let flipped = Arc::new(AtomicBool::new(false));
    bench.hub.misbehave(move |request| match request.range {
        Some((first, last)) if request.is_bytes() && (first..=last).contains(&200_000) => {
            if flipped.swap(true, Ordering::SeqCst) { Fault::None } else { Fault::Flip(200_000) }
        }
        _ => Fault::None,
    });
    bench.run().await.expect("it is repaired");
    bench.assert_whole();
    // The parts before it were compared, those behind it were not.
    assert_eq!(bench.hub.served(), 500_000 + 4 * PIECE);
}

#[tokio::test]
async fn a_file_that_is_damaged_on_the_server_is_an_error_and_never_a_model() {
    let bench = Bench::new(300_000).await;
    bench.hub.misbehave(|request| if request.is_bytes() { Fault::Flip(100_000) } else { Fault::None });
    let error = bench.run().await.expect_err("it is damaged");
    assert!(matches!(error, HubError::Digest { .. }), "{error}");
    bench.assert_nothing_appeared();
    assert_eq!(bench.hub.served(), 600_000, "each part was compared once");
    // The server is mended: what was kept is enough to find the part.
    bench.hub.misbehave(|_| Fault::None);
    bench.run().await.expect("it is repaired");
    bench.assert_whole();
    assert_eq!(bench.hub.served(), 600_000 + 2 * PIECE);
}

#[tokio::test]
async fn bytes_that_rot_on_the_disk_are_fetched_again_and_no_others() {
    let bench = Bench::new(400_000).await;
    let served = Arc::new(AtomicUsize::new(0));
    bench.hub.misbehave(move |request| {
        let late = request.is_bytes() && served.fetch_add(1, Ordering::SeqCst) >= 3;
        if late { Fault::Status(400, "") } else { Fault::None }
    });
    let error = bench.run().await.expect_err("it breaks off");
    assert!(matches!(error, HubError::Status { status: 400, .. }), "{error}");
    assert_eq!(bench.hub.served(), 3 * PIECE);
    let incomplete = names(bench.folder.path()).into_iter().find(|name| name.ends_with(".incomplete"));
    let incomplete = bench.folder.path().join(incomplete.expect("it is kept"));
    let mut rotten = fs::read(&incomplete).expect("it is there");
    rotten[PIECE as usize + 5] ^= 0x10;
    fs::write(&incomplete, rotten).expect("written");
    bench.hub.misbehave(|_| Fault::None);
    bench.run().await.expect("it goes on");
    bench.assert_whole();
    assert_eq!(bench.hub.served(), 400_000 + PIECE);
}

#[tokio::test]
async fn a_server_that_ignores_ranges_is_read_as_one_stream() {
    let bench = Bench::new(700_000).await;
    bench.hub.misbehave(|request| if request.is_bytes() { Fault::IgnoreRange } else { Fault::None });
    bench.run().await.expect("it downloads");
    bench.assert_whole();
    assert_eq!(bench.hub.served(), 700_000, "one connection finds out");
}

#[tokio::test]
async fn a_stream_that_is_cut_goes_on_behind_what_is_there() {
    let bench = Bench::new(700_000).await;
    let mut cut = 0;
    bench.hub.misbehave(move |request| {
        if !request.is_bytes() {
            return Fault::None;
        }
        cut += 150_001;
        Fault::IgnoreRangeCut(cut)
    });
    bench.run().await.expect("it downloads");
    bench.assert_whole();
    assert_eq!(bench.hub.served(), 150_001 * (1 + 2 + 3 + 4) + 700_000, "it can only be sent again");
}

#[tokio::test]
async fn a_server_that_forgets_ranges_in_the_middle_is_followed() {
    let bench = Bench::new(1_500_000).await;
    let mut answered = 0;
    bench.hub.misbehave(move |request| {
        answered += usize::from(request.is_bytes());
        if request.is_bytes() && answered > 6 { Fault::IgnoreRange } else { Fault::None }
    });
    bench.run().await.expect("it downloads");
    bench.assert_whole();
}

#[tokio::test]
async fn a_flipped_byte_of_a_server_that_ignores_ranges_costs_the_file_once_more() {
    let bench = Bench::new(400_000).await;
    let mut answered = 0;
    bench.hub.misbehave(move |request| {
        answered += usize::from(request.is_bytes());
        match (request.is_bytes(), answered) {
            (false, _) => Fault::None,
            // The first stream ends behind the damage, so that the rest is a range that works.
            (true, 1) => Fault::Flip(90_000),
            (true, _) => Fault::IgnoreRange,
        }
    });
    bench.run_with(HubOptions { connections: 1, ..options() }, &Transfer::new()).await.expect("it downloads");
    bench.assert_whole();

    let bench = Bench::new(400_000).await;
    bench.hub.misbehave(|request| if request.is_bytes() { Fault::IgnoreRangeFlip(90_000) } else { Fault::None });
    let error = bench.run().await.expect_err("it is damaged each time");
    assert!(matches!(error, HubError::Digest { .. }), "{error}");
    assert_eq!(bench.hub.served(), 800_000);
    bench.hub.misbehave(|request| if request.is_bytes() { Fault::IgnoreRange } else { Fault::None });
    bench.run().await.expect("it is repaired");
    bench.assert_whole();
    assert_eq!(bench.hub.served(), 1_200_000);
}

#[tokio::test]
async fn the_hub_itself_may_fail_for_a_while() {
    let bench = Bench::new(100_000).await;
    let mut asked = 0;
    bench.hub.misbehave(move |request| {
        asked += usize::from(request.host == Host::Hub);
        match (request.host, asked) {
            (Host::Hub, 1 | 4) => Fault::Status(503, ""),
            (Host::Hub, 2 | 6) => Fault::Status(429, "Retry-After: 0\r\n"),
            _ => Fault::None,
        }
    });
    bench.run().await.expect("it downloads");
    bench.assert_whole();
}

#[tokio::test]
async fn two_who_want_the_same_file_fetch_it_once() {
    let hub = FakeHub::start(REPOSITORY, several()).await.expect("a hub");
    let folder = tempfile::tempdir().expect("a folder");
    let targets =
        [Target::Cache(HubCache::new(folder.path().join("cache"))), Target::Folder(folder.path().join("plain"))];
    for (times, target) in [1, 2].into_iter().zip(targets) {
        let both = [client(&hub.endpoint, options()), client(&hub.endpoint, options())];
        let snapshot = both[0].snapshot(&id(), "main", &Chosen::new([]).expect("patterns")).await.expect("a snapshot");
        let (one, other) = (Transfer::new(), Transfer::new());
        let (first, second) =
            tokio::join!(both[0].download(&snapshot, &target, &one), both[1].download(&snapshot, &target, &other));
        assert_eq!(first.expect("it downloads"), second.expect("it downloads"));
        assert_eq!(hub.served(), times * snapshot.size());
        assert_eq!((one.progress().borrow().done, other.progress().borrow().done), (snapshot.size(), snapshot.size()));
    }
}

#[tokio::test]
async fn statuses_that_pass_are_waited_for_and_an_expired_place_is_asked_for_again() {
    let bench = Bench::new(900_000).await;
    let mut answered = 0;
    bench.hub.misbehave(move |request| {
        if !request.is_bytes() {
            return Fault::None;
        }
        answered += 1;
        match answered {
            2 => Fault::Status(403, ""),
            3 => Fault::Status(500, ""),
            5 => Fault::Status(429, "Retry-After: 0\r\n"),
            6 => Fault::Status(416, ""),
            8 => Fault::Status(503, ""),
            _ => Fault::None,
        }
    });
    bench.run().await.expect("it downloads");
    bench.assert_whole();
    assert_eq!(bench.hub.served(), 900_000);
    let places = bench.hub.requests().iter().filter(|request| request.method == "HEAD").count();
    assert!((2..=3).contains(&places), "the hub was asked {places} times where the file is");
}

#[tokio::test]
async fn a_status_that_stays_is_an_error_that_says_so() {
    for (status, headers) in [(403, ""), (416, ""), (500, ""), (418, "")] {
        let bench = Bench::new(200_000).await;
        bench
            .hub
            .misbehave(move |request| if request.is_bytes() { Fault::Status(status, headers) } else { Fault::None });
        let error = bench.run().await.expect_err("it cannot");
        assert!(matches!(error, HubError::Status { status: found, .. } if found == status), "{error}");
        bench.assert_nothing_appeared();
    }
    let bench = Bench::new(200_000).await;
    let limit = |request: &fake_hub::Request| match request.host {
        Host::Hub => Fault::None,
        Host::Storage => Fault::Status(429, "RateLimit: \"resolvers\";r=0;t=3000\r\n"),
    };
    bench.hub.misbehave(limit);
    let error = bench.run().await.expect_err("it cannot");
    assert!(matches!(error, HubError::RateLimited { wait, .. } if wait.as_secs() == 3001), "{error}");
}

#[tokio::test]
async fn silence_is_broken_off_and_asked_again() {
    let bench = Bench::new(600_000).await;
    let mut answered = 0;
    bench.hub.misbehave(move |request| {
        answered += usize::from(request.is_bytes());
        if request.is_bytes() && answered == 3 { Fault::Stall(10_000) } else { Fault::None }
    });
    let options = HubOptions { stall: Duration::from_millis(500), ..options() };
    bench.run_with(options, &Transfer::new()).await.expect("it downloads");
    bench.assert_whole();
    // What stood still was kept. On a machine that stands still itself, others may be broken off with it.
    assert!(bench.hub.served() <= 600_000 + 4 * PIECE, "{}", bench.hub.served());
}

#[tokio::test]
async fn a_file_that_changes_between_ranges_is_an_error() {
    let bench = Bench::new(600_000).await;
    let mut answered = 0;
    bench.hub.misbehave(move |request| {
        answered += usize::from(request.is_bytes());
        if request.is_bytes() && answered > 2 { Fault::Changed } else { Fault::None }
    });
    let error = bench.run().await.expect_err("it changed");
    assert!(matches!(error, HubError::Changed { .. }), "{error}");
    bench.assert_nothing_appeared();
}

#[tokio::test]
async fn lies_about_the_length_are_errors() {
    for (by, host) in [(1, Host::Storage), (-1, Host::Storage), (1, Host::Hub), (-1, Host::Hub)] {
        let bench = Bench::new(150_000).await;
        bench.hub.misbehave(move |request| if request.host == host { Fault::Length(by) } else { Fault::None });
        let error = bench.run().await.expect_err("it lies");
        let found = 150_000_u64.saturating_add_signed(by);
        assert!(matches!(error, HubError::Length { expected: 150_000, found: it, .. } if it == found), "{error}");
        bench.assert_nothing_appeared();
    }
}

#[tokio::test]
async fn pause_keeps_what_is_there_and_cancel_leaves_it_for_the_next_time() {
    let bench = Bench::new(2_000_000).await;
    let transfer = Transfer::new();
    transfer.limit(Some(2_000_000));
    let steer = async {
        let mut progress = transfer.progress();
        progress.wait_for(|progress| progress.done > 300_000).await.expect("progress");
        transfer.pause();
        tokio::time::sleep(Duration::from_millis(100)).await;
        let paused = bench.hub.requests().len();
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(bench.hub.requests().len(), paused, "nobody asks while it is paused");
        transfer.resume();
        progress.wait_for(|progress| progress.done > 900_000).await.expect("progress");
        transfer.cancel();
    };
    let (ended, ()) = tokio::join!(bench.run_with(options(), &transfer), steer);
    assert!(matches!(ended, Err(HubError::Cancelled)));
    bench.assert_nothing_appeared();
    let resumed = Transfer::new();
    let mut progress = resumed.progress();
    let first = async { progress.wait_for(|progress| progress.done > 0).await.expect("progress").done };
    let (ended, first) = tokio::join!(bench.run_with(options(), &resumed), first);
    ended.expect("it goes on");
    assert!(first > 900_000, "{first}");
    bench.assert_whole();
}

#[tokio::test]
async fn a_disk_that_is_too_small_is_found_before_a_byte_is_fetched() {
    let bench = Bench::new(100_000).await;
    let options = HubOptions { margin: 1 << 60, ..options() };
    let error = bench.run_with(options, &Transfer::new()).await.expect_err("it is too small");
    assert!(matches!(error, HubError::DiskFull { .. }), "{error}");
    assert_eq!(bench.hub.served(), 0);
}

#[tokio::test]
async fn a_quote_counts_what_is_there_and_what_is_begun_and_a_sweep_takes_only_what_nobody_uses() {
    let bench = Bench::new(1_000_003).await;
    let cache = tempfile::tempdir().expect("a folder");
    for target in [bench.target(), Target::Cache(HubCache::new(cache.path()))] {
        let client = client(&bench.hub.endpoint, options());
        let snapshot = bench.snapshot(&client).await;
        let quote = client.quote(&snapshot, &target).expect("a quote");
        assert_eq!((quote.total, quote.present, quote.partial, quote.to_fetch), (1_000_003, 0, 0, 1_000_003));
        assert_eq!((quote.room_needed, quote.fits()), (1_000_003 + (1 << 20), true));
        // Cancelled in the middle: what came is begun, and counts.
        let transfer = Transfer::new();
        let handle = transfer.clone();
        bench.hub.misbehave(move |request| {
            if request.is_bytes() && request.range.is_some_and(|(from, _)| from >= 500_000) {
                handle.cancel();
                return Fault::Stall(0);
            }
            Fault::None
        });
        let served = bench.hub.served();
        client.download(&snapshot, &target, &transfer).await.expect_err("cancelled");
        let quote = client.quote(&snapshot, &target).expect("a quote");
        let begun = bench.hub.served() - served;
        assert!(quote.partial > 0 && quote.partial <= begun && quote.present == 0, "{quote:?} {begun}");
        assert_eq!(quote.to_fetch, 1_000_003 - quote.partial);
        assert_eq!(target.leftovers(Duration::from_hours(1)), [], "it is not old");
        let left = target.leftovers(Duration::ZERO);
        assert_eq!((left.len(), left[0].bytes >= 1_000_000), (1, true), "{left:?}");
        // Somebody goes on with it.
        bench.hub.misbehave(|request| if request.is_bytes() { Fault::Stall(0) } else { Fault::None });
        let transfer = Transfer::new();
        let running = tokio::spawn({
            let (client, snapshot, target, transfer) =
                (client.clone(), snapshot.clone(), target.clone(), transfer.clone());
            async move { client.download(&snapshot, &target, &transfer).await }
        });
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(target.leftovers(Duration::ZERO), []);
        assert!(!left[0].remove().expect("it is looked at") && left[0].path.exists());
        transfer.cancel();
        running.await.expect("it ends").expect_err("cancelled");
        bench.hub.misbehave(|_| Fault::None);
        assert!(left[0].remove().expect("it is removed"));
        assert_eq!(client.quote(&snapshot, &target).expect("a quote").to_fetch, 1_000_003);
        client.download(&snapshot, &target, &Transfer::new()).await.expect("it downloads");
        let quote = client.quote(&snapshot, &target).expect("a quote");
        assert_eq!((quote.present, quote.to_fetch, quote.room_needed), (1_000_003, 0, 0));
        assert_eq!(target.leftovers(Duration::ZERO), []);
    }
}

#[tokio::test]
async fn a_busy_server_says_when_to_come_back() {
    let bench = Bench::new(100_000).await;
    let mut left = 1;
    bench.hub.misbehave(move |request| {
        if request.is_bytes() && left > 0 {
            left -= 1;
            return Fault::Status(503, "Retry-After: 1\r\n");
        }
        Fault::None
    });
    let started = std::time::Instant::now();
    bench.run().await.expect("it comes back");
    assert!(started.elapsed() >= Duration::from_secs(1), "{:?}", started.elapsed());
    bench.assert_whole();
    let other = Bench::new(100_000).await;
    other.hub.misbehave(
        |request| if request.is_bytes() { Fault::Status(503, "Retry-After: 9999\r\n") } else { Fault::None },
    );
    let error = other.run().await.expect_err("too long");
    assert!(matches!(error, HubError::RateLimited { .. }), "{error}");
}

fn several() -> Vec<(&'static str, Content)> {
    vec![
        ("README.md", Content::new(b"# A model\n".to_vec(), false)),
        ("config.json", Content::new(b"{}\n".to_vec(), false)),
        ("empty.txt", Content::new(Vec::new(), false)),
        ("onnx/model.onnx", Content::new(noise(300_000, 3), true)),
        (MODEL, Content::new(noise(700_000, 4), true)),
    ]
}

#[tokio::test]
async fn a_snapshot_is_laid_out_as_the_hubs_library_does() {
    let hub = FakeHub::start(REPOSITORY, several()).await.expect("a hub");
    let folder = tempfile::tempdir().expect("a folder");
    let cache = HubCache::new(folder.path());
    let client = client(&hub.endpoint, options());
    let everything = Chosen::new([]).expect("patterns");
    let snapshot = client.snapshot(&id(), "main", &everything).await.expect("a snapshot");
    assert_eq!((snapshot.commit.as_str(), snapshot.files.len(), snapshot.size()), (COMMIT, 5, 1_000_013));
    let target = Target::Cache(cache.clone());
    assert_eq!(snapshot.missing(&target), 1_000_013);
    let root = client.download(&snapshot, &target, &Transfer::new()).await.expect("it downloads");
    assert_eq!(root, folder.path().join("models--owner--name/snapshots").join(COMMIT));
    for (path, content) in several() {
        assert!(fs::read(root.join(path)).expect("it is there") == *content.bytes, "{path}");
        let up = "../".repeat(2 + path.matches('/').count());
        let link = fs::read_link(root.join(path)).expect("a link");
        assert_eq!(link, Path::new(&format!("{up}blobs/{}", content.etag())));
    }
    let repository = folder.path().join("models--owner--name");
    assert_eq!(fs::read_to_string(repository.join("refs/main")).expect("a ref"), COMMIT);
    assert_eq!(names(&repository.join("blobs")).len(), 5, "nothing else is left");
    // Again, and a commit by its own name: nothing is asked for but the listing.
    let before = (hub.served(), hub.requests().iter().filter(|request| request.method == "HEAD").count());
    assert_eq!(snapshot.missing(&target), 0);
    client.download(&snapshot, &target, &Transfer::new()).await.expect("it is there");
    assert_eq!((hub.served(), hub.requests().iter().filter(|request| request.method == "HEAD").count()), before);
}

#[tokio::test]
async fn offline_the_cache_answers_and_nobody_else() {
    let hub = FakeHub::start(REPOSITORY, several()).await.expect("a hub");
    let folder = tempfile::tempdir().expect("a folder");
    let online = client(&hub.endpoint, options());
    let chosen = Chosen::new(["*.json"]).expect("patterns");
    let snapshot = online.snapshot(&id(), "main", &chosen).await.expect("a snapshot");
    let target = Target::Cache(HubCache::new(folder.path()));
    let root = online.download(&snapshot, &target, &Transfer::new()).await.expect("it downloads");
    let asked = hub.requests().len();
    let settings = HubSettings { offline: true, cache: folder.path().to_owned(), ..online.settings().clone() };
    let offline = HubClient::new(settings, options()).expect("a client");
    let path = |path| FilePath::new(path).expect("a path");
    assert_eq!(offline.cached(&id(), "main", &chosen, &[path("config.json")]).expect("it is there"), root);
    for error in [
        offline.cached(&id(), "main", &chosen, &[path(MODEL)]).expect_err("no such file"),
        offline.cached(&id(), "other", &chosen, &[]).expect_err("no such revision"),
        offline.cached(&"owner/none".parse().expect("an id"), COMMIT, &chosen, &[]).expect_err("no such model"),
        offline.snapshot(&id(), "other", &chosen).await.expect_err("no request"),
        offline.describe(&id(), "main").await.expect_err("no request"),
        offline.metadata(&id(), "main", &path("config.json")).await.expect_err("no request"),
    ] {
        assert!(matches!(error, HubError::Offline { .. }) && error.to_string().contains("HF_HUB_OFFLINE"), "{error}");
    }
    // The listing is kept, so what is there and what is missing can be told without the hub.
    let kept = offline.snapshot(&id(), "main", &Chosen::default()).await.expect("the listing is kept");
    assert_eq!((kept.commit.as_str(), kept.files.len(), kept.missing(&target)), (COMMIT, 5, 1_000_010));
    assert!(offline.cached(&id(), "main", &Chosen::default(), &[]).is_err(), "only a part is there");
    offline.download(&snapshot, &target, &Transfer::new()).await.expect("everything is there");
    assert_eq!(hub.requests().len(), asked);
}

#[tokio::test]
async fn what_the_hub_lacks_and_what_rots_in_the_cache_is_known_afterwards() {
    let hub = FakeHub::start(REPOSITORY, several()).await.expect("a hub");
    let folder = tempfile::tempdir().expect("a folder");
    let cache = HubCache::new(folder.path());
    let client = client(&hub.endpoint, options());
    let chosen = Chosen::new(["*.json", "onnx/model.onnx", "1_Pooling/config.json"]).expect("patterns");
    let snapshot = client.snapshot(&id(), "main", &chosen).await.expect("a snapshot");
    let root = client.download(&snapshot, &Target::Cache(cache.clone()), &Transfer::new()).await.expect("downloads");
    let path = |path| FilePath::new(path).expect("a path");
    assert!(cache.lacks(&id(), COMMIT, &path("1_Pooling/config.json")) && !cache.lacks(&id(), COMMIT, &path(MODEL)));
    assert!(folder.path().join("CACHEDIR.TAG").is_file());
    let judge = || {
        let verdicts = cache.verify(&id(), COMMIT).expect("read");
        let verdict = |name: &str| verdicts.iter().find(|(entry, _)| entry.path.as_str() == name).map(|it| it.1);
        (verdicts.len(), verdict("onnx/model.onnx"), verdict("config.json"), verdict(MODEL))
    };
    assert_eq!(judge(), (5, Some(Verdict::Whole), Some(Verdict::Whole), Some(Verdict::Missing)));
    let real = fs::canonicalize(root.join("onnx/model.onnx")).expect("a blob");
    fs::write(real, noise(300_000, 5)).expect("written");
    assert_eq!(judge().1, Some(Verdict::Damaged));
}

#[tokio::test]
async fn a_description_has_the_licence_and_the_gate() {
    let hub = FakeHub::start(REPOSITORY, several()).await.expect("a hub");
    let found = client(&hub.endpoint, options()).describe(&id(), "main").await.expect("a description");
    assert_eq!(
        (found.commit.as_str(), found.licence.as_deref(), found.gated),
        (COMMIT, Some("apache-2.0"), Gate::Automatic)
    );
    assert_eq!(found.library.as_deref(), Some("sentence-transformers"));
}

#[tokio::test]
async fn the_hubs_errors_are_told_apart() {
    let hub = FakeHub::start(REPOSITORY, several()).await.expect("a hub");
    let client = client(&hub.endpoint, options());
    let everything = Chosen::new([]).expect("patterns");
    let path = |path| FilePath::new(path).expect("a path");
    let id = |text: &str| text.parse::<RepositoryId>().expect("an id");
    let error = client.snapshot(&id("owner/none"), "main", &everything).await.expect_err("none");
    assert!(matches!(error, HubError::RepositoryNotFound { .. }), "{error}");
    let error = client.snapshot(&id("owner/gated"), "main", &everything).await.expect_err("gated");
    assert!(matches!(error, HubError::Gated { .. }), "{error}");
    let error = client.snapshot(&id(REPOSITORY), "v9", &everything).await.expect_err("no revision");
    assert!(matches!(error, HubError::RevisionNotFound { .. }), "{error}");
    let error = client.metadata(&id(REPOSITORY), "main", &path("none.bin")).await.expect_err("no file");
    assert!(matches!(error, HubError::EntryNotFound { .. }), "{error}");
    let nothing = Chosen::new(["*.gguf"]).expect("patterns");
    let error = client.snapshot(&id(REPOSITORY), "main", &nothing).await.expect_err("no such files");
    assert!(matches!(error, HubError::NothingChosen { .. }), "{error}");
    hub.misbehave(|_| Fault::Status(401, "X-Error-Message: Invalid credentials in Authorization header\r\n"));
    let error = client.metadata(&id(REPOSITORY), "main", &path(MODEL)).await.expect_err("a bad token");
    assert!(matches!(error, HubError::Unauthorized { .. }) && !error.to_string().contains(TOKEN), "{error}");
    hub.misbehave(|_| Fault::Status(200, "ETag: \"x\"\r\n"));
    let error = client.metadata(&id(REPOSITORY), "main", &path(MODEL)).await.expect_err("a captive portal");
    assert!(matches!(error, HubError::NotAHub { .. }), "{error}");
}

#[tokio::test]
async fn a_repository_that_moved_is_followed() {
    let hub = FakeHub::start(REPOSITORY, several()).await.expect("a hub");
    let client = client(&hub.endpoint, options());
    let old: RepositoryId = "owner/old-name".parse().expect("an id");
    let folder = tempfile::tempdir().expect("a folder");
    let chosen = Chosen::new(["*.safetensors", "config.json"]).expect("patterns");
    let snapshot = client.snapshot(&old, "main", &chosen).await.expect("a snapshot");
    let target = Target::Folder(folder.path().to_owned());
    client.download(&snapshot, &target, &Transfer::new()).await.expect("it downloads");
    assert_eq!(names(folder.path()), ["config.json", MODEL]);
}

#[tokio::test]
async fn hostile_listings_are_refused_whole_and_links_are_not_followed_out() {
    for path in ["../evil", "/etc/evil", "a\\b", "nul", "CONFIG.json", "a/../../b"] {
        let hub = FakeHub::start(REPOSITORY, several()).await.expect("a hub");
        hub.list_first(path);
        let client = client(&hub.endpoint, options());
        let error = client.snapshot(&id(), "main", &Chosen::new([]).expect("patterns")).await.expect_err(path);
        assert!(matches!(error, HubError::Name { .. }), "{error}");
        let chosen = Chosen::new([MODEL]).expect("patterns");
        let snapshot = client.snapshot(&id(), "main", &chosen).await.expect("nobody wants that file");
        assert_eq!(snapshot.files.len(), 1);
    }
    let hub = FakeHub::start(REPOSITORY, several()).await.expect("a hub");
    let (inside, outside) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    std::os::unix::fs::symlink(outside.path(), inside.path().join("onnx")).expect("a link");
    let client = client(&hub.endpoint, options());
    let snapshot = client.snapshot(&id(), "main", &Chosen::new(["onnx/*"]).expect("patterns")).await;
    let target = Target::Folder(inside.path().to_owned());
    let error = client.download(&snapshot.expect("a snapshot"), &target, &Transfer::new()).await.expect_err("a link");
    assert!(matches!(error, HubError::File { .. }), "{error}");
    assert!(names(outside.path()).is_empty());
}
