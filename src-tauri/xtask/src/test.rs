//! `cargo xtask test`: every check and test, one after the other, each counted; the last line of the output is the tally.
//!
//! What the tests are given in their environment: `EMBEDBAR_PROGRAMS`, the folder of the programs, built already;
//! `EMBEDBAR_BUNDLED`, the bundled model; `EMBEDBAR_CACHE`, where downloads are kept; `EMBEDBAR_SKIPS`, where a test that cannot run says so ([`crate::tally`]);
//! `EMBEDBAR_PYTHON`, an interpreter with `tests/requirements.txt` installed, and `EMBEDBAR_PYTHON_HUB`, one with
//! `tests/hub/requirements.txt`; and `EMBEDBAR_QUICK`, when tests of the window and of Python have to skip themselves.
//!
//! A failing step does not stop the ones after it. What could not run is listed with its reason; where `CI` is set, a skip
//! that is not in `tests/skips.txt` is a failure.

use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::run::{BUILD_ADVICE, TEST_PROGRAMS};
use crate::steps::Steps;
use crate::system::{self, Consent, Need};
use crate::tally::{self, Skip, SkipList, Tally};
use crate::workspace::{TEST_FEATURES, Workspace};
use crate::{architecture, arm, contract, mac, python, ui};

/// The programs that the tests of the default members start.
const QUICK_PROGRAMS: &[&str] =
    &["build", "--workspace", "--exclude", "xtask", "--exclude", "embedbar-desktop", "--bins"];

const QUICK_ADVICE: &str = "read the first error in the log; if a dependency is not on this machine yet, `cargo fetch` \
                              gets all of them once, with a network";

/// Runs everything (`quick`: what cargo can do alone, without a network); `Ok(false)` if anything failed.
pub(crate) fn test(workspace: &Workspace, quick: bool) -> Result<bool> {
    let mut session = Session {
        workspace,
        steps: Steps::new(&workspace.scratch().join("logs"))?,
        tally: Tally::default(),
        problems: Vec::new(),
        quick,
    };
    let outcome = if quick { session.quick() } else { session.everything() };
    if let Err(error) = outcome {
        let message = format!("{error:#}");
        session.fail(message.lines().next().unwrap_or_default(), &message);
    }
    session.judge_skips();
    session.summary();
    Ok(session.tally.failed == 0)
}

/// The interpreters that the tests are given, and what each has installed.
const PYTHONS: &[(&str, &str)] =
    &[("EMBEDBAR_PYTHON", "tests/requirements.txt"), ("EMBEDBAR_PYTHON_HUB", "tests/hub/requirements.txt")];

struct Session<'a> {
    workspace: &'a Workspace,
    steps: Steps,
    tally: Tally,
    /// One line per failure, for the summary.
    problems: Vec<String>,
    quick: bool,
}

impl Session<'_> {
    fn quick(&mut self) -> Result<()> {
        if Command::new("cargo").args(["fmt", "--version"]).output().is_ok_and(|output| output.status.success()) {
            self.formatting()?;
        } else {
            self.tally.skip("formatting", "rustfmt is not installed: `rustup component add rustfmt`");
        }
        self.contract()?;
        self.architecture()?;
        for name in
            ["clippy", "rustdoc", "mac-check", "arm", "the UI's type check", "the UI's tests", "the shell's tests"]
        {
            self.tally.skip(name, "left out by --quick");
        }
        let mut build = self.workspace.cargo(QUICK_PROGRAMS);
        self.steps.require("cargo build", QUICK_ADVICE, &mut build)?;
        self.rust_tests(&[], &[])
    }

    fn everything(&mut self) -> Result<()> {
        let mut needs = vec![Need::Node, Need::Shell, Need::Python];
        if cfg!(target_os = "linux") {
            needs.extend([Need::Rig, Need::MacCheck, Need::Containers]);
        }
        system::ensure(&mut self.steps, &needs, Consent::Ask)?;
        self.formatting()?;
        self.contract()?;
        self.architecture()?;
        self.ui()?;
        self.lints()?;
        self.mac_check()?;
        self.arm()?;
        let mut build = self.workspace.cargo(TEST_PROGRAMS);
        self.steps.require("cargo build", BUILD_ADVICE, &mut build)?;
        let mut pythons = Vec::new();
        for (variable, requirements) in PYTHONS {
            let requirements = self.workspace.root.join(requirements);
            pythons.push((*variable, python::environment(self.workspace, &mut self.steps, &requirements)?));
        }
        self.rust_tests(&["--workspace", "--features", TEST_FEATURES], &pythons)
    }

    /// One check that is a command: counted once.
    fn check(&mut self, title: &str, advice: &str, command: &mut Command) -> Result<()> {
        let finished = self.steps.attempt(title, command)?;
        if finished.status.success() {
            self.tally.add(true);
        } else {
            self.fail(title, &finished.failure(title, advice));
        }
        Ok(())
    }

    fn fail(&mut self, title: &str, message: &str) {
        eprintln!("\n{message}\n");
        self.tally.add(false);
        self.problems.push(title.to_owned());
    }

    fn formatting(&mut self) -> Result<()> {
        let mut command = self.workspace.cargo(["fmt", "--all", "--check"]);
        self.check("formatting", "`cargo fmt --all`", &mut command)
    }

    fn contract(&mut self) -> Result<()> {
        match contract::complaint(self.workspace, &mut self.steps)? {
            None => self.tally.add(true),
            Some(complaint) => self.fail("contract.ts is current", &complaint),
        }
        Ok(())
    }

    fn architecture(&mut self) -> Result<()> {
        for verdict in architecture::check(self.workspace)? {
            if verdict.violations.is_empty() {
                eprintln!("  {}: ok", verdict.rule);
                self.tally.add(true);
            } else {
                let message = format!("{}: it is not so\n    {}", verdict.rule, verdict.violations.join("\n    "));
                self.fail(verdict.rule, &message);
            }
        }
        Ok(())
    }

    /// The UI's type check and tests; then its build, which the shell has inside.
    fn ui(&mut self) -> Result<()> {
        let workspace = self.workspace;
        ui::install(workspace, &mut self.steps)?;
        let mut types = ui::command(workspace, "npm", &["run", "check"]);
        self.check("the UI's type check", "`npm --prefix ui run check` names the lines", &mut types)?;
        let report = workspace.scratch().join("vitest.json");
        remove(&report)?;
        let vitest = ui::folder(workspace).join("node_modules/.bin/vitest");
        let mut command = ui::command(workspace, vitest, &["run", "--reporter=default", "--reporter=json"]);
        let finished =
            self.steps.attempt("the UI's tests", command.arg(format!("--outputFile.json={}", report.display())))?;
        let text = fs::read_to_string(&report).unwrap_or_else(|_| r#"{"testResults": []}"#.to_owned());
        self.tally.add_vitest(&text, finished.status.success())?;
        if !finished.status.success() {
            let title = "the UI's tests";
            eprintln!("\n{}\n", finished.failure(title, "`npm --prefix ui test` runs them alone"));
            self.problems.push(title.to_owned());
        }
        ui::build(workspace, &mut self.steps)
    }

    fn lints(&mut self) -> Result<()> {
        let mut command = self.workspace.cargo(["clippy", "--workspace", "--all-targets", "--keep-going"]);
        command.args(["--features", TEST_FEATURES, "--", "-D", "warnings"]);
        self.check(
            "clippy",
            "each warning in the log names its fix; a missing lint tool is `rustup component add clippy`",
            &mut command,
        )?;
        let mut rustdoc = self.workspace.cargo(["doc", "--workspace", "--no-deps", "--features", TEST_FEATURES]);
        self.check("rustdoc", "a link in a doc comment leads nowhere", rustdoc.env("RUSTDOCFLAGS", "-D warnings"))
    }

    fn mac_check(&mut self) -> Result<()> {
        match mac::find(self.workspace)? {
            Err(reason) => {
                eprintln!("\n  mac-check: SKIPPED, NOTHING WAS CHECKED FOR macOS: {reason}\n");
                self.tally.skip("mac-check", &reason);
            }
            Ok(means) => {
                for (title, arguments) in mac::CHECKS {
                    let finished = mac::attempt(self.workspace, &mut self.steps, &means, title, arguments)?;
                    if finished.status.success() {
                        self.tally.add(true);
                    } else {
                        self.fail(title, &mac::failure(&finished, title));
                    }
                }
            }
        }
        Ok(())
    }

    fn arm(&mut self) -> Result<()> {
        match arm::find(self.workspace)? {
            Err(reason) => self.tally.skip("arm", &reason),
            Ok(library) => {
                for processor in arm::PROCESSORS {
                    let finished = arm::attempt(self.workspace, &mut self.steps, &library, processor)?;
                    if finished.status.success() {
                        self.tally.add(true);
                    } else {
                        self.fail(processor.0, &finished.failure(processor.0, "the log names the test"));
                    }
                }
            }
        }
        Ok(())
    }

    fn rust_tests(&mut self, arguments: &[&str], pythons: &[(&str, PathBuf)]) -> Result<()> {
        let skips = self.workspace.scratch().join("skips.tsv");
        fs::write(&skips, "").with_context(|| format!("could not write `{}`", skips.display()))?;
        let mut command = self.workspace.cargo(["test", "--no-fail-fast"]);
        command
            .args(arguments)
            .env("EMBEDBAR_SKIPS", &skips)
            .env("EMBEDBAR_BUNDLED", self.workspace.bundled_model())
            .env("EMBEDBAR_CACHE", self.workspace.cache())
            .env("EMBEDBAR_PROGRAMS", self.workspace.target.join("debug"));
        command.envs(pythons.iter().map(|(variable, python)| (variable, python)));
        if self.quick {
            command.env("EMBEDBAR_QUICK", "1");
        }
        let finished = self.steps.attempt("cargo test", &mut command)?;
        let found = tally::parse_libtest(&finished.output);
        let skipped = tally::parse_skips(&fs::read_to_string(&skips).unwrap_or_default());
        self.tally.add_rust(&found, skipped, finished.status.success());
        if !finished.status.success() {
            let advice = if self.quick && finished.output.contains("error: failed to") {
                QUICK_ADVICE
            } else {
                "`cargo test -p PACKAGE NAME` runs one test alone"
            };
            eprintln!("\n{}{}\n", tally::failure_blocks(&finished.output), finished.failure("cargo test", advice));
            self.problems.push("cargo test".to_owned());
            self.problems.extend(found.failures.iter().map(|name| format!("  {name}")));
        }
        Ok(())
    }

    /// In CI every skip of a full run has to be on the committed list.
    fn judge_skips(&mut self) {
        if self.quick || env::var_os("CI").is_none_or(|value| value.is_empty() || value == "false") {
            return;
        }
        let path = self.workspace.root.join("tests/skips.txt");
        match SkipList::parse(&fs::read_to_string(&path).unwrap_or_default()) {
            Err(error) => self.fail("tests/skips.txt", &error.to_string()),
            Ok(list) => {
                for name in unlisted(&list, &self.tally.skipped) {
                    self.fail(&name, &format!("`{name}` was skipped and is not in tests/skips.txt"));
                }
            }
        }
    }

    fn summary(&self) {
        println!("\nwhat each part took:\n{}", self.steps.table());
        for problem in &self.problems {
            println!("FAILED  {problem}");
        }
        for Skip { name, reason } in &self.tally.skipped {
            println!("skipped  {name}: {reason}");
        }
        println!("{}", self.tally);
    }
}

fn unlisted(list: &SkipList, skipped: &[Skip]) -> Vec<String> {
    let names = skipped.iter().map(|skip| skip.name.clone());
    names.filter(|name| !list.allows(name, env::consts::OS)).collect()
}

fn remove(file: &PathBuf) -> Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("could not remove `{}`", file.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_list_for_an_interpreter_is_there() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        assert!(PYTHONS.iter().all(|(_, requirements)| root.join(requirements).is_file()));
    }

    #[test]
    fn a_skip_that_nobody_wrote_down_is_named() {
        let list = SkipList::parse("python  # no index on some machines\n").expect("a list");
        let skip = |name: &str| Skip { name: name.into(), reason: "because".into() };
        assert_eq!(unlisted(&list, &[skip("python"), skip("desktop")]), ["desktop"]);
    }
}
