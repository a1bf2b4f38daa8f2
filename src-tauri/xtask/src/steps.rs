//! Runs one command after the other: a line when it starts, its time when it ends, its log in a file, and on failure the
//! end of that log with what to do.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

const TAIL_LINES: usize = 40;
const HEARTBEAT: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(100);

/// The steps of one run of xtask and what each took.
pub(crate) struct Steps {
    logs: PathBuf,
    times: Vec<(String, Duration)>,
}

/// A command that has ended.
pub(crate) struct Finished {
    pub(crate) status: ExitStatus,
    /// Everything it printed, standard output and standard error as they came.
    pub(crate) output: String,
    pub(crate) log: PathBuf,
}

impl Finished {
    /// The message for a person: the end of the log, where the rest is, and what to do.
    pub(crate) fn failure(&self, title: &str, advice: &str) -> String {
        let tail = tail(&self.output, TAIL_LINES);
        format!(
            "{title} failed ({})\n{tail}\n  the whole log: {}\n  what to do: {advice}",
            self.status,
            self.log.display()
        )
    }
}

impl Steps {
    /// Logs go to `folder`, those of an earlier run are overwritten.
    pub(crate) fn new(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder).with_context(|| format!("could not make the folder `{}`", folder.display()))?;
        Ok(Self { logs: folder.to_owned(), times: Vec::new() })
    }

    /// Runs a command to its end, whatever that is.
    pub(crate) fn attempt(&mut self, title: &str, command: &mut Command) -> Result<Finished> {
        let log = self.logs.join(format!("{}.log", file_name(title)));
        let file = File::create(&log).with_context(|| format!("could not write `{}`", log.display()))?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        eprintln!("  {title} …");
        let started = Instant::now();
        let mut child = command
            .spawn()
            .with_context(|| format!("could not start `{}`", command.get_program().to_string_lossy()))?;
        let mut reported = started;
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            if reported.elapsed() >= HEARTBEAT {
                reported = Instant::now();
                eprintln!("    {} s: {}", started.elapsed().as_secs(), last_line(&log));
            }
            thread::sleep(POLL);
        };
        let took = started.elapsed();
        eprintln!("  {title}: {}, {:.1} s", if status.success() { "ok" } else { "FAILED" }, took.as_secs_f64());
        self.times.push((title.to_owned(), took));
        let output = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
        Ok(Finished { status, output, log })
    }

    /// Runs a command that has to succeed; gives what it printed.
    pub(crate) fn require(&mut self, title: &str, advice: &str, command: &mut Command) -> Result<String> {
        let finished = self.attempt(title, command)?;
        if !finished.status.success() {
            bail!(finished.failure(title, advice));
        }
        Ok(finished.output)
    }

    /// What each step took, one a line.
    pub(crate) fn table(&self) -> String {
        let total: Duration = self.times.iter().map(|(_, took)| *took).sum();
        let mut text = String::new();
        for (title, took) in &self.times {
            let _ = writeln!(text, "{:>8.1} s  {title}", took.as_secs_f64());
        }
        let _ = writeln!(text, "{:>8.1} s  together", total.as_secs_f64());
        text
    }
}

fn file_name(title: &str) -> String {
    title.chars().map(|letter| if letter.is_ascii_alphanumeric() { letter.to_ascii_lowercase() } else { '-' }).collect()
}

fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.trim_end().lines().collect();
    let mut end = String::new();
    for line in &all[all.len().saturating_sub(lines)..] {
        let _ = writeln!(end, "    {line}");
    }
    end
}

fn last_line(log: &Path) -> String {
    let text = fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let line = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("nothing printed yet");
    line.trim().chars().take(100).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps() -> (Steps, tempfile::TempDir) {
        let folder = tempfile::tempdir().expect("a folder for logs");
        (Steps::new(folder.path()).expect("steps"), folder)
    }

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn both_outputs_are_kept_and_the_time_is_listed() {
        let (mut steps, _folder) = steps();
        let output = steps.require("two lines", "nothing", &mut shell("echo one; echo two >&2")).expect("success");
        assert_eq!(output, "one\ntwo\n");
        assert!(steps.table().contains("two lines"));
    }

    #[test]
    fn a_failure_shows_the_end_of_the_log_and_what_to_do() {
        let (mut steps, _folder) = steps();
        let error =
            steps.require("failing", "mend it", &mut shell("seq 1 100; echo the reason; exit 3")).expect_err("failure");
        let message = error.to_string();
        assert!(message.contains("the reason") && message.contains("mend it") && message.contains('3'), "{message}");
        assert!(message.contains("    62\n") && !message.contains("    61\n"), "{message}");
    }

    #[test]
    fn a_program_that_does_not_exist_is_named() {
        let (mut steps, _folder) = steps();
        let error = steps.require("absent", "", &mut Command::new("no-such-program-here")).expect_err("failure");
        assert!(error.to_string().contains("no-such-program-here"));
    }
}
