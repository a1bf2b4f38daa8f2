//! Against a real engine: podman's service speaks Docker's API on a socket of its own, with its storage in a temporary folder.
//!
//! The image is made here, `FROM scratch` with Debian's `busybox-static`, so nothing is fetched. Where the machine does not let
//! containers start, the test says so and is skipped.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use embedbar_neighbours::{Container, Docker, Refusal, Stage, StartResult, StopResult, Stops};

const VICTIM: &str = "EMBEDBAR_TEST_VICTIM";

const IMAGE: &str = "localhost/embedbar-test:1";

/// Holds 32 MB and ends when it is asked to.
const POLITE: &str = "trap 'exit 0' TERM; held=$(/bin/busybox head -c 32000000 /dev/zero | /bin/busybox tr '\\0' a); \
    while :; do /bin/busybox sleep 0.2; done";

/// What `embedbar_tests::skip` does; that package depends on too much to be depended on here.
fn skip(reason: &str) {
    eprintln!("SKIPPED podman: {reason}");
    let Some(path) = std::env::var_os("EMBEDBAR_SKIPS") else { return };
    let mut file = File::options().append(true).create(true).open(path).expect("the list of skips opens");
    let line = format!("podman\t{}\n", reason.replace(['\t', '\n'], " "));
    file.write_all(line.as_bytes()).expect("the list of skips is written");
}

/// The engine, with all that it has; it is cleared away with this.
struct Podman {
    folder: tempfile::TempDir,
    service: Child,
}

impl Podman {
    /// Starts it, makes the image and tries it; otherwise why that does not work on this machine.
    fn start() -> Result<Self, String> {
        let found = Command::new("podman").arg("--version").output();
        if !found.is_ok_and(|output| output.status.success()) {
            return Err("there is no `podman`: `apt-get install podman crun busybox-static`".to_owned());
        }
        let busybox = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|path| is_static(Path::new(path)));
        let busybox = busybox.ok_or("there is no static busybox: `apt-get install busybox-static`")?;
        let folder = tempfile::tempdir().map_err(|error| format!("no temporary folder: {error}"))?;
        let within = |name: &str| folder.path().join(name);
        // podman asks for more open files than an unprivileged machine may give.
        fs::write(
            within("containers.conf"),
            "[containers]\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=1024:1024\"]\n",
        )
        .expect("it can be written");
        let log = File::create(within("service.log")).expect("it can be made");
        // crun refuses a machine with both kinds of cgroups, as old ones mount them; here it is shown the one that counts. Needs to
        // be root, as does the other way; where that does not work, podman is left to try.
        let script = "if [ \"$(id -u)\" = 0 ] && [ -d /sys/fs/cgroup/unified ]; then \
                exec unshare --mount sh -c 'mount --make-rprivate / && umount /sys/fs/cgroup/unified; exec \"$0\" \"$@\"' \"$@\"; \
            fi; exec \"$@\"";
        let mut command = Command::new("sh");
        command.args(["-c", script, "sh", "podman"]);
        for (option, name) in [("--root", "root"), ("--runroot", "run"), ("--tmpdir", "tmp")] {
            command.arg(option).arg(within(name));
        }
        command
            .args(["--storage-driver", "vfs", "--cgroup-manager", "cgroupfs", "--events-backend", "file"])
            .args(["--runtime", "crun", "system", "service", "--time", "0"])
            .arg(format!("unix://{}", within("engine.sock").display()))
            .env("CONTAINERS_CONF", within("containers.conf"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        let service = command.spawn().map_err(|error| format!("`podman` does not start: {error}"))?;
        let mut podman = Self { folder, service };
        podman.wait_for_socket()?;
        fs::copy(busybox, podman.within("busybox")).map_err(|error| format!("busybox cannot be copied: {error}"))?;
        fs::write(podman.within("Containerfile"), "FROM scratch\nCOPY busybox /bin/busybox\n")
            .expect("it can be written");
        let place = podman.folder.path().to_str().expect("a temporary folder's name is UTF-8").to_owned();
        podman.run(&["build", "--quiet", "--tag", IMAGE, "--file", &format!("{place}/Containerfile"), &place])?;
        podman.container("first", &[], POLITE)?;
        podman.run(&["rm", "--force", "--time", "0", "first"])?;
        Ok(podman)
    }

    fn within(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn wait_for_socket(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + Duration::from_secs(30);
        while !self.within("engine.sock").exists() {
            let log = self.within("service.log");
            let log = || fs::read_to_string(&log).unwrap_or_default();
            if let Ok(Some(status)) = self.service.try_wait() {
                return Err(format!("podman's service ended with {status}: {}", log().trim()));
            }
            if Instant::now() >= deadline {
                return Err(format!("podman's service has no socket after 30 s: {}", log().trim()));
            }
            thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// What podman's own command says, asked through the same socket.
    fn run(&self, arguments: &[&str]) -> Result<String, String> {
        let output = Command::new("podman")
            .arg("--url")
            .arg(format!("unix://{}", self.within("engine.sock").display()))
            .args(arguments)
            .env("CONTAINERS_CONF", self.within("containers.conf"))
            .output()
            .map_err(|error| error.to_string())?;
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
        } else {
            Err(format!("`podman {}`: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim()))
        }
    }

    /// Starts a container, and returns its id.
    fn container(&self, name: &str, options: &[&str], script: &str) -> Result<String, String> {
        let mut arguments = vec!["run", "--detach", "--network", "none", "--name", name];
        arguments.extend(options);
        arguments.extend([IMAGE, "/bin/busybox", "sh", "-c", script]);
        self.run(&arguments)
    }

    /// When the container was last started, and whether it runs, by podman's own account.
    fn state(&self, name: &str) -> (String, bool) {
        let said = self.run(&["inspect", "--format", "{{.State.StartedAt}}|{{.State.Running}}", name]);
        let said = said.expect("the container is there");
        let (started, running) = said.split_once('|').expect("the format has one");
        (started.to_owned(), running == "true")
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        // One that is being stopped cannot be removed at once.
        for _ in 0..20 {
            let removed = self.run(&["rm", "--all", "--force", "--time", "0"]);
            if removed.is_ok() && self.run(&["ps", "--all", "--quiet"]).is_ok_and(|left| left.is_empty()) {
                break;
            }
            thread::sleep(Duration::from_millis(500));
        }
        let _done = self.service.kill();
        let _done = self.service.wait();
    }
}

/// A program without a loader: it has no `PT_INTERP`, which names one.
fn is_static(path: &Path) -> bool {
    let names_a_loader =
        |bytes: Vec<u8>| bytes.windows(9).take(4096).any(|text| text == b"/ld-linux" || text == b"/ld-musl-");
    fs::read(path).is_ok_and(|bytes| bytes.starts_with(b"\x7fELF") && !names_a_loader(bytes))
}

fn named<'a>(containers: &'a [Container], name: &str) -> &'a Container {
    containers.iter().find(|container| container.name == name).unwrap_or_else(|| panic!("{name}: {containers:?}"))
}

/// What the machine itself says is available, where it says so.
fn available_bytes() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("MemAvailable:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? * 1024)
}

/// Not a test: what the other one starts and kills.
#[tokio::test]
async fn a_victim_that_stops_containers() {
    let Ok(chosen) = std::env::var(VICTIM) else { return };
    let (folder, ids) = chosen.split_once(' ').expect("the folder and the ids");
    let docker = Docker::connect(&Path::new(folder).join("engine.sock")).await.expect("it runs");
    let ids: Vec<String> = ids.split(' ').map(str::to_owned).collect();
    let stops = Stops::new(Path::new(folder).join("stopped.json"));
    stops.stop(&docker, &ids).await.expect("the journal can be written");
    // Killed here at the latest.
    std::future::pending::<()>().await;
}

/// Lets a process of its own stop the containers, and kills it half a second after `enough` says so of the journal: by then the
/// engine has been asked.
async fn stop_and_kill(podman: &Podman, ids: &[&str], enough: impl Fn(&[Stage]) -> bool) {
    let folder = podman.folder.path();
    let mut victim = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "a_victim_that_stops_containers", "--test-threads=1"])
        .env(VICTIM, format!("{} {}", folder.display(), ids.join(" ")))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("it can be started");
    let stops = Stops::new(folder.join("stopped.json"));
    let deadline = Instant::now() + Duration::from_mins(1);
    loop {
        let pending = stops.pending().await.expect("it can be read at every moment");
        let stages: Vec<Stage> = pending.iter().map(|pending| pending.stage).collect();
        if !stages.is_empty() && enough(&stages) {
            break;
        }
        assert!(Instant::now() < deadline, "it never came so far: {stages:?}");
        thread::sleep(Duration::from_millis(2));
    }
    thread::sleep(Duration::from_millis(500));
    victim.kill().expect("it runs");
    victim.wait().expect("it ends");
}

#[tokio::test]
async fn a_real_engine_runs_after_a_kill_exactly_what_it_ran_before() {
    let podman = match Podman::start() {
        Ok(podman) => podman,
        Err(reason) => return skip(&reason),
    };
    let folder = podman.folder.path();
    let start =
        |name, options: &[&str], script| podman.container(name, options, script).expect("one was started before");
    let polite = start("polite", &[], POLITE);
    let kept = start("kept", &[], POLITE);
    let earlier = start("earlier", &[], POLITE);
    podman.run(&["stop", "earlier"]).expect("it runs");
    let temporary = start("temporary", &["--rm"], POLITE);
    // Its first process has no handler for the signal: the engine waits and then kills it.
    let stubborn = start("stubborn", &["--stop-timeout", "2"], "exec /bin/busybox sleep 1000");

    let docker = Docker::connect(&folder.join("engine.sock")).await.expect("it runs");
    let deadline = Instant::now() + Duration::from_secs(30);
    let listed = loop {
        let listed = docker.running().await.expect("it runs");
        if named(&listed, "polite").memory_bytes > Some(32_000_000) {
            break listed;
        }
        assert!(Instant::now() < deadline, "it never held what it allocates: {listed:?}");
        thread::sleep(Duration::from_millis(100));
    };
    let names: Vec<_> = listed.iter().map(|container| container.name.as_str()).collect();
    assert_eq!(names, ["kept", "polite", "stubborn", "temporary"]);
    let held = named(&listed, "polite").memory_bytes.expect("it was seen above");
    assert!((32_000_000..64_000_000).contains(&held), "{held}");
    assert!(named(&listed, "stubborn").memory_bytes.is_some_and(|bytes| bytes < 8_000_000), "{listed:?}");
    assert_eq!(named(&listed, "polite").image, IMAGE);
    assert_eq!(named(&listed, "temporary").refusal, Some(Refusal::RemovedOnStop));
    eprintln!("podman says: {:?}", listed.iter().map(|one| (&one.name, one.memory_bytes)).collect::<Vec<_>>());

    let stops = Stops::new(folder.join("stopped.json"));
    let refused = stops.stop(&docker, &[earlier.clone(), temporary.clone()]).await.expect("nothing to write");
    let refusals: Vec<_> = refused.into_iter().map(|outcome| outcome.result).collect();
    let refused = |refusal| StopResult::Refused { refusal };
    assert_eq!(refusals, [refused(Refusal::NotRunning), refused(Refusal::RemovedOnStop)]);

    let kept_since = podman.state("kept");
    let temporary_since = podman.state("temporary");
    let unharmed = || {
        assert!(podman.state("polite").1 && podman.state("stubborn").1, "they run again");
        assert!(!podman.state("earlier").1, "it did not run before");
        assert_eq!((podman.state("kept"), podman.state("temporary")), (kept_since.clone(), temporary_since.clone()));
    };
    let ids = [polite.as_str(), stubborn.as_str()];
    // While the engine waits for the stubborn one, which was started last and is stopped first; and when both have stopped.
    let stopping = |stages: &[Stage]| stages.iter().any(|stage| matches!(stage, Stage::Asked { .. }));
    let stopped = |stages: &[Stage]| stages.iter().all(|stage| *stage == Stage::Stopped);
    for (when, enough) in [("while one stops", &stopping as &dyn Fn(&[Stage]) -> bool), ("when both have", &stopped)] {
        stop_and_kill(&podman, &ids, enough).await;
        let begin = Instant::now();
        let outcomes = stops.recover(Duration::ZERO).await.expect("the journal is there");
        eprintln!("killed {when}, recovered in {:?}: {outcomes:?}", begin.elapsed());
        assert_eq!(outcomes.len(), 2);
        assert!(outcomes.iter().all(|outcome| outcome.result.done()), "{outcomes:?}");
        let stubborn = outcomes.iter().find(|outcome| outcome.id == stubborn).expect("it was on the list");
        assert_eq!(stubborn.result, StartResult::Started, "it was stopped, or was about to");
        unharmed();
        assert_eq!(stops.pending().await.expect("it can be read"), []);
    }

    // Without a kill, and with one that was removed meanwhile.
    let both = [polite.clone(), kept.clone()];
    let listed = docker.running().await.expect("it runs");
    let holding = ["polite", "kept"].map(|name| named(&listed, name).memory_bytes);
    let before = available_bytes();
    let outcomes = stops.stop(&docker, &both).await.expect("the journal can be written");
    assert!(outcomes.iter().all(|outcome| outcome.result == StopResult::Stopped), "{outcomes:?}");
    let left: Vec<_> = docker.running().await.expect("it runs").into_iter().map(|container| container.name).collect();
    assert_eq!(left, ["stubborn", "temporary"]);
    // A figure to be looked at, not judged: others are at work on this machine.
    thread::sleep(Duration::from_secs(1));
    let gained = available_bytes().zip(before).map(|(after, before)| after.cast_signed() - before.cast_signed());
    eprintln!("the two that were stopped held {holding:?} bytes; the machine has {gained:?} bytes more available");
    podman.run(&["rm", "kept"]).expect("it has stopped");
    let outcomes = stops.start_again().await.expect("the journal is there");
    let results: Vec<_> = outcomes.into_iter().map(|outcome| outcome.result).collect();
    assert_eq!(results, [StartResult::Gone, StartResult::Started], "the one that was restarted above is the younger");
    assert!(podman.state("polite").1);
}
