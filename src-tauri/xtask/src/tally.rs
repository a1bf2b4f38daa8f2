//! Counts: what libtest, Vitest and our own checks passed, failed and skipped. Pure functions over their output.
//!
//! libtest has no way to say at run time that a test could not run. Such a test appends `name<TAB>reason` to the file named
//! by `EMBEDBAR_SKIPS` and returns; libtest counts it as passed, and [`Tally::add_rust`] moves it to the skipped ones.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

/// A test that did not run.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Skip {
    pub(crate) name: String,
    pub(crate) reason: String,
}

/// The counts of a whole run. Shown as its last line.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Tally {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    pub(crate) skipped: Vec<Skip>,
}

impl fmt::Display for Tally {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped.len())
    }
}

/// What `cargo test` printed about its tests.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct RustTests {
    passed: usize,
    failed: usize,
    ignored: Vec<Skip>,
    /// Test programs that ended without a result: a crash, or an abort.
    crashed: usize,
    /// The names of the failed tests.
    pub(crate) failures: Vec<String>,
}

/// Reads what `cargo test --no-fail-fast` printed, standard output and standard error together.
pub(crate) fn parse_libtest(output: &str) -> RustTests {
    let mut found = RustTests::default();
    let (mut failed_programs, mut failed_results) = (0, 0);
    for line in output.lines() {
        if let Some((_, result)) = line.split_once("test result: ") {
            found.passed += count_before(result, "passed");
            found.failed += count_before(result, "failed");
            failed_results += usize::from(result.starts_with("FAILED"));
        } else if line.starts_with("error: test failed, to rerun")
            || line.starts_with("error: doctest failed, to rerun")
        {
            failed_programs += 1;
        } else if let Some((name, outcome)) = line.strip_prefix("test ").and_then(|rest| rest.rsplit_once(" ... ")) {
            if let Some(reason) = outcome.strip_prefix("ignored") {
                let reason = reason.trim_start_matches([',', ' ']);
                let reason = if reason.is_empty() { "ignored" } else { reason };
                found.ignored.push(Skip { name: name.to_owned(), reason: reason.to_owned() });
            } else if outcome.ends_with("FAILED") {
                found.failures.push(name.to_owned());
            }
        }
    }
    found.crashed = usize::saturating_sub(failed_programs, failed_results);
    found
}

/// `12` for `passed` in `ok. 12 passed; 0 failed; …`.
fn count_before(result: &str, what: &str) -> usize {
    let mut words = result.split([' ', ';']).filter(|word| !word.is_empty()).peekable();
    while let Some(word) = words.next() {
        if words.peek() == Some(&what) {
            return word.parse().unwrap_or(0);
        }
    }
    0
}

/// The panic messages and names that libtest printed for failed tests.
pub(crate) fn failure_blocks(output: &str) -> String {
    let mut text = String::new();
    let mut inside = false;
    for line in output.lines() {
        if line == "failures:" {
            inside = true;
        } else if line.starts_with("test result: ") {
            inside = false;
        } else if inside {
            text.push_str("    ");
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

impl Tally {
    /// Adds one check of our own.
    pub(crate) fn add(&mut self, success: bool) {
        if success {
            self.passed += 1;
        } else {
            self.failed += 1;
        }
    }

    /// Adds something that could not run.
    pub(crate) fn skip(&mut self, name: &str, reason: &str) {
        self.skipped.push(Skip { name: name.to_owned(), reason: reason.to_owned() });
    }

    /// Adds the tests of `cargo test`. `succeeded` is its exit status: a failure that shows in no count (a compile error)
    /// is one failure.
    pub(crate) fn add_rust(&mut self, found: &RustTests, skips: Vec<Skip>, succeeded: bool) {
        self.passed += found.passed.saturating_sub(skips.len());
        let failed = found.failed + found.crashed;
        self.failed += if succeeded { failed } else { failed.max(1) };
        self.skipped.extend(found.ignored.iter().cloned());
        self.skipped.extend(skips);
    }

    /// Adds the tests of Vitest from the report of its JSON reporter.
    pub(crate) fn add_vitest(&mut self, report: &str, succeeded: bool) -> Result<()> {
        let report: Value = serde_json::from_str(report).context("Vitest's report is not JSON")?;
        let mut failed = 0;
        for file in report["testResults"].as_array().context("Vitest's report has no `testResults`")? {
            for test in file["assertionResults"].as_array().into_iter().flatten() {
                let name = test["fullName"].as_str().unwrap_or("a test without a name").trim();
                match test["status"].as_str() {
                    Some("passed") => self.passed += 1,
                    Some("failed") => failed += 1,
                    status => self.skip(name, status.unwrap_or("no status")),
                }
            }
        }
        self.failed += if succeeded { failed } else { failed.max(1) };
        Ok(())
    }
}

/// Reads the file behind `EMBEDBAR_SKIPS`; a test that wrote twice counts once, with its first reason.
pub(crate) fn parse_skips(text: &str) -> Vec<Skip> {
    let mut reasons = BTreeMap::new();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let (name, reason) = line.split_once('\t').unwrap_or((line, "no reason given"));
        reasons.entry(name.trim().to_owned()).or_insert_with(|| reason.trim().to_owned());
    }
    reasons.into_iter().map(|(name, reason)| Skip { name, reason }).collect()
}

/// The committed list of tests that may be skipped.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct SkipList(Vec<(Option<String>, String)>);

impl SkipList {
    /// One `[platform:]name  # reason` a line, where platform is `linux` or `macos`, and a name that ends in `*` stands for
    /// all that begin so; empty lines and lines that start with `#` are comments.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let mut entries = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let Some((entry, reason)) = line.split_once(" #") else {
                bail!("line {} of the skip list gives no reason after ` #`: `{line}`", number + 1);
            };
            if reason.trim().is_empty() {
                bail!("line {} of the skip list gives an empty reason: `{line}`", number + 1);
            }
            let entry = entry.trim();
            let platform = ["linux", "macos"].into_iter().find_map(|platform| {
                Some((platform, entry.strip_prefix(platform)?.strip_prefix(':').filter(|rest| !rest.starts_with(':'))?))
            });
            entries.push(match platform {
                Some((platform, name)) => (Some(platform.to_owned()), name.trim().to_owned()),
                None => (None, entry.to_owned()),
            });
        }
        Ok(Self(entries))
    }

    /// Whether `name` may be skipped on `platform` (as in [`std::env::consts::OS`]).
    pub(crate) fn allows(&self, name: &str, platform: &str) -> bool {
        let matches = |entry: &str| match entry.strip_suffix('*') {
            Some(beginning) => name.starts_with(beginning),
            None => name == entry,
        };
        self.0.iter().any(|(only, entry)| matches(entry) && only.as_deref().is_none_or(|only| only == platform))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIBTEST: &str = "\
   Compiling embedbar-wire v0.1.0
     Running unittests src/lib.rs (target/debug/deps/embedbar_wire-1)

running 3 tests
test frame::tests::a_frame_cut_short_is_an_error ... ok
test frame::tests::needs_a_mac ... ignored, runs on macOS
test frame::tests::wrong ... FAILED

failures:

---- frame::tests::wrong stdout ----
thread 'wrong' panicked: left != right

failures:
    frame::tests::wrong

test result: FAILED. 1 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s

error: test failed, to rerun pass `-p embedbar-wire --lib`
     Running tests/crash.rs (target/debug/deps/crash-1)

running 12 tests
error: test failed, to rerun pass `-p embedbar-tests --test crash`

Caused by:
  process didn't exit successfully: `crash-1` (signal: 11, SIGSEGV: invalid memory reference)
   Doc-tests embedbar_wire

running 12 tests
test result: ok. 12 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.01s

error: 2 targets failed:
    `-p embedbar-wire --lib`
    `-p embedbar-tests --test crash`
";

    #[test]
    fn libtest_counts_are_summed_and_a_crashed_program_is_a_failure() {
        let found = parse_libtest(LIBTEST);
        assert_eq!((found.passed, found.failed, found.crashed), (13, 1, 1));
        assert_eq!(found.failures, ["frame::tests::wrong"]);
        let mut tally = Tally::default();
        tally.add_rust(&found, Vec::new(), false);
        assert_eq!(tally.to_string(), "13 passed, 2 failed, 1 skipped");
        assert_eq!(tally.skipped[0].reason, "runs on macOS");
    }

    #[test]
    fn a_test_that_skipped_itself_is_not_counted_as_passed() {
        let found = parse_libtest("test result: ok. 5 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out\n");
        let skips = parse_skips("desktop\tno display\ndesktop\tno display\npython\tno venv\n\n");
        assert_eq!(skips.len(), 2);
        let mut tally = Tally::default();
        tally.add_rust(&found, skips, true);
        assert_eq!(tally.to_string(), "3 passed, 0 failed, 2 skipped");
    }

    #[test]
    fn a_compile_error_is_one_failure() {
        let mut tally = Tally::default();
        tally.add_rust(&parse_libtest("error: could not compile `xtask`\n"), Vec::new(), false);
        assert_eq!(tally.to_string(), "0 passed, 1 failed, 0 skipped");
    }

    #[test]
    fn a_result_line_after_unfinished_output_is_still_read() {
        let found = parse_libtest("a child printed this test result: ok. 2 passed; 0 failed; 0 ignored\n");
        assert_eq!(found.passed, 2);
    }

    #[test]
    fn the_blocks_of_failures_are_cut_out() {
        let blocks = failure_blocks(LIBTEST);
        assert!(blocks.contains("left != right") && !blocks.contains("Compiling") && !blocks.contains("Doc-tests"));
    }

    #[test]
    fn vitest_counts_come_from_its_tests() {
        let report = r#"{"numTotalTests": 4, "testResults": [
            {"assertionResults": [
                {"fullName": "search shows hits", "status": "passed"},
                {"fullName": "search is empty", "status": "failed"}]},
            {"assertionResults": [
                {"fullName": "gauge later", "status": "pending"},
                {"fullName": "gauge draws", "status": "passed"}]}]}"#;
        let mut tally = Tally::default();
        tally.add_vitest(report, false).expect("a report");
        assert_eq!(tally.to_string(), "2 passed, 1 failed, 1 skipped");
        assert_eq!(tally.skipped[0], Skip { name: "gauge later".into(), reason: "pending".into() });
    }

    #[test]
    fn a_vitest_run_that_failed_without_a_failed_test_is_one_failure() {
        let mut tally = Tally::default();
        tally.add_vitest(r#"{"testResults": [{"assertionResults": [], "status": "failed"}]}"#, false).expect("report");
        assert_eq!(tally.to_string(), "0 passed, 1 failed, 0 skipped");
        assert!(tally.add_vitest("", false).is_err());
        assert!(tally.add_vitest("{}", false).is_err());
    }

    #[test]
    fn the_skip_list_knows_platforms_and_demands_reasons() {
        let list = SkipList::parse(
            "# comment\n\nmac-check  # no standard library\nmacos:desktop::*  # the rig is Xvfb\nlinux::x # a path\n",
        )
        .expect("a list");
        assert!(list.allows("mac-check", "linux") && list.allows("mac-check", "macos"));
        assert!(list.allows("desktop::search", "macos") && !list.allows("desktop::search", "linux"));
        assert!(list.allows("linux::x", "macos"));
        assert!(!list.allows("other", "linux"));
        assert!(SkipList::parse("name\n").is_err());
        assert!(SkipList::parse("name #  \n").is_err());
    }
}
