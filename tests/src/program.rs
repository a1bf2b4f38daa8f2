//! The real `embedbar`, as a user runs it: a home of its own, its output caught, ended with the test.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use serde_json::Value;

/// The top of the checkout.
pub fn checkout() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests live in a folder of the checkout")
}

/// The program: the one in `EMBEDBAR_PROGRAMS`, where `cargo xtask test` has built it; else built now, so that a test never
/// runs yesterday's.
pub fn embedbar() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        if let Some(folder) = std::env::var_os("EMBEDBAR_PROGRAMS") {
            return PathBuf::from(folder).join("embedbar");
        }
        let status = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--package", "embedbar-cli"])
            .current_dir(checkout())
            .status()
            .expect("cargo can be run");
        assert!(status.success(), "embedbar-cli does not build");
        let test = std::env::current_exe().expect("a test knows its path");
        let folder = test.parent().and_then(Path::parent).expect("tests live in `deps` of the profile's folder");
        folder.join("embedbar")
    })
}

/// A home for one test, gone with it.
pub struct TestHome(tempfile::TempDir);

impl TestHome {
    /// An empty home.
    pub fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder can be made"))
    }

    /// A folder beside the home, for the test's own files.
    pub fn scratch(&self) -> PathBuf {
        let scratch = self.0.path().join("scratch");
        std::fs::create_dir_all(&scratch).expect("a folder can be made");
        scratch
    }

    /// The home itself.
    pub fn path(&self) -> PathBuf {
        self.0.path().join("home")
    }

    /// `embedbar ARGUMENTS` on this home, not started yet.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(embedbar());
        command
            .args(arguments)
            .env("EMBEDBAR_HOME", self.path())
            .env("EMBEDBAR_BUNDLED", checkout().join("models/bundled"))
            .stdin(Stdio::null());
        command
    }

    /// Runs `embedbar ARGUMENTS` to its end.
    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("embedbar can be run")
    }

    /// Runs `embedbar ARGUMENTS --json`, which must succeed, and returns its lines.
    pub fn json(&self, arguments: &[&str]) -> Vec<Value> {
        let output = self.run(&[arguments, &["--json"]].concat());
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).expect("the output is UTF-8");
        text.lines().map(|line| serde_json::from_str(line).expect("every line is JSON")).collect()
    }

    /// Runs `embedbar ARGUMENTS`, which must fail with status 1, and returns what it says.
    pub fn failure(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let error = String::from_utf8(output.stderr).expect("messages are UTF-8");
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {error}");
        assert!(output.stdout.is_empty(), "{arguments:?} printed an answer all the same");
        error
    }

    /// Starts `embedbar serve` and waits until it answers.
    pub fn serve(&self) -> Server {
        self.serve_with(&[])
    }

    /// Starts `embedbar serve` with further arguments.
    pub fn serve_with(&self, arguments: &[&str]) -> Server {
        self.serve_by(|command| command, arguments)
    }

    /// Starts `embedbar serve` by a command that `wrap` makes of the usual one.
    pub fn serve_by(&self, wrap: impl FnOnce(Command) -> Command, arguments: &[&str]) -> Server {
        let mut child = wrap(self.command(&[&["serve", "--port", "0"], arguments].concat()))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut line = String::new();
        let read = BufReader::new(child.stdout.take().expect("it is piped")).read_line(&mut line);
        let Some((_, url)) =
            read.ok().and_then(|_| line.trim().trim_end_matches(" (SIMULATED machine)").split_once("ready at "))
        else {
            let _ = child.kill();
            let mut error = String::new();
            let _ = child.stderr.take().expect("it is piped").read_to_string(&mut error);
            panic!("`embedbar serve` does not start: {line}{error}");
        };
        Server { url: url.to_owned(), child }
    }
}

impl Default for TestHome {
    fn default() -> Self {
        Self::new()
    }
}

/// A running `embedbar serve`, killed with the test.
pub struct Server {
    /// Its address, with the token as the fragment.
    pub url: String,
    child: Child,
}

impl Server {
    /// `http://127.0.0.1:PORT` and the token.
    pub fn origin_and_token(&self) -> (&str, &str) {
        let (origin, token) = self.url.split_once("/#token=").expect("the address carries the token");
        (origin, token)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("it can be waited for");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether a process lives (a zombie does not).
pub fn alive(pid: u32) -> bool {
    match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => stat.rsplit(')').next().is_some_and(|rest| !rest.trim_start().starts_with('Z')),
        Err(_) if cfg!(target_os = "linux") => false,
        Err(_) => Command::new("kill").args(["-0", &pid.to_string()]).status().is_ok_and(|status| status.success()),
    }
}

/// Sends a signal, such as `KILL`.
pub fn signal(pid: u32, name: &str) {
    let status = Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status().expect("kill can be run");
    assert!(status.success(), "signal {name} cannot be sent to {pid}");
}

/// Asks `question` every 20 ms until it answers; fails with `what` after a generous half minute.
pub fn eventually<T>(what: &str, mut question: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(answer) = question() {
            return answer;
        }
        assert!(Instant::now() < deadline, "{what} did not come to pass");
        std::thread::sleep(Duration::from_millis(20));
    }
}
