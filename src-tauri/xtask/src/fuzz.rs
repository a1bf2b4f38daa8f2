//! `cargo xtask bench -- fuzz [--minutes N] [NAME…]`: runs the targets of `src-tauri/fuzz` under AddressSanitizer, each for its share of
//! the time, and prints what each did; a finding is a failure that names the bytes and how to see it again.
//!
//! It starts from the committed corpus and leaves that alone: what is new is kept in the cache, where the next run finds it, and
//! `src-tauri/fuzz/README.md` says how it gets into the corpus. What the targets assert is in `embedbar-hostile`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::steps::{Finished, Steps};
use crate::workspace::Workspace;

/// All targets together, where nobody says otherwise.
const MINUTES: f64 = 5.0;
const CARGO_FUZZ: &str = "^0.13";
/// An input that takes longer, in seconds, is a finding; a busy machine and the sanitizer take their part.
const SLOWEST: u32 = 20;
/// One that takes more, in MB, is a finding, too. A package may have a gibibyte of values.
const MOST_MEMORY: u32 = 3072;

/// What is asked for.
#[derive(Debug, PartialEq)]
struct Options {
    minutes: f64,
    /// Only these targets; all if it is empty.
    only: Vec<String>,
}

impl Options {
    fn parse(words: &[String]) -> Result<Self> {
        let mut options = Self { minutes: MINUTES, only: Vec::new() };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            if word == "--minutes" {
                let minutes = words.next().and_then(|number| number.parse().ok()).filter(|it| (0.0..=1e6).contains(it));
                options.minutes = minutes.context("`--minutes` needs a number")?;
            } else if word.starts_with('-') {
                bail!("`bench -- fuzz` does not take `{word}`");
            } else {
                options.only.push(word.clone());
            }
        }
        Ok(options)
    }
}

/// What a run of one target printed about itself.
#[derive(Debug, Default, PartialEq)]
struct Counted {
    executions: u64,
    /// Edges of the code that the corpus reaches, and how many the run added.
    covered: u64,
    added: u64,
    /// Where the bytes of a finding are.
    finding: Option<String>,
}

impl Counted {
    fn of(output: &str) -> Self {
        let mut counted = Self::default();
        let mut began = None;
        for line in output.lines() {
            let mut words = line.split_whitespace();
            if let Some(path) = line.split("Test unit written to ").nth(1) {
                counted.finding = Some(path.trim().to_owned());
            }
            let Some(number) = words.next().and_then(|word| word.strip_prefix('#')?.parse::<u64>().ok()) else {
                continue;
            };
            counted.executions = counted.executions.max(number);
            if let Some(covered) = words.skip_while(|word| *word != "cov:").nth(1).and_then(|word| word.parse().ok()) {
                // The first line that counts says what the corpus reaches by itself.
                if line.contains("INITED") {
                    began = Some(covered);
                }
                counted.covered = covered;
            }
        }
        counted.added = counted.covered.saturating_sub(began.unwrap_or(counted.covered));
        counted
    }
}

/// Fuzzes; the words are what stands after `fuzz`.
pub(crate) fn fuzz(workspace: &Workspace, words: &[String]) -> Result<()> {
    let options = Options::parse(words)?;
    let mut steps = Steps::new(&workspace.scratch().join("logs"))?;
    let session = Session::new(workspace, &mut steps)?;
    let targets = chosen(&session.targets()?, &options.only)?;
    let advice = "read the first error in the log";
    steps.require("cargo fuzz build", advice, session.cargo_fuzz("build").args(session.folders()))?;
    let share = Duration::from_secs_f64(options.minutes * 60.0 / targets.len() as f64).max(Duration::from_secs(1));
    println!("| target | executions | edges reached | of them new |\n|---|---|---|---|");
    let mut findings = Vec::new();
    for target in &targets {
        let finished = steps.attempt(&format!("fuzz {target}"), &mut session.run(target, share)?)?;
        let counted = Counted::of(&finished.output);
        println!("| {target} | {} | {} | {} |", counted.executions, counted.covered, counted.added);
        if !finished.status.success() {
            findings.push(session.report(target, &counted, &finished));
        }
    }
    if findings.is_empty() {
        return Ok(());
    }
    bail!("{} of {} targets found something\n\n{}", findings.len(), targets.len(), findings.join("\n\n"));
}

/// The targets that were asked for, all of which there must be.
fn chosen(all: &[String], only: &[String]) -> Result<Vec<String>> {
    if let Some(unknown) = only.iter().find(|name| !all.contains(name)) {
        bail!("there is no target `{unknown}`; there is {}", all.join(", "));
    }
    Ok(if only.is_empty() { all.to_vec() } else { only.to_vec() })
}

struct Session {
    /// The package of the targets.
    package: PathBuf,
    target_folder: PathBuf,
    /// What earlier runs have found worth keeping.
    kept: PathBuf,
    program: PathBuf,
}

impl Session {
    /// Looks for the toolchain, and installs cargo-fuzz into the cache where it is not there yet.
    fn new(workspace: &Workspace, steps: &mut Steps) -> Result<Self> {
        let nightly = Command::new("rustup").args(["run", "nightly", "cargo", "--version"]).output();
        if !nightly.is_ok_and(|output| output.status.success()) {
            bail!(
                "fuzzing needs a nightly toolchain, whose compiler has the sanitizers, and there is none: \
                 `rustup toolchain install nightly --profile minimal`, then the same command again"
            );
        }
        let tools = workspace.cache().join("cargo-fuzz");
        let program = tools.join("bin/cargo-fuzz");
        if !program.is_file() {
            let install = ["install", "cargo-fuzz", "--locked", "--version", CARGO_FUZZ, "--root"];
            let advice =
                "it is fetched from the package index once and needs a network; read the first error in the log";
            let mut command = workspace.cargo(install);
            command.arg(&tools).arg("--target-dir").arg(workspace.target.join("cargo-fuzz"));
            steps.require("cargo install cargo-fuzz", advice, &mut command)?;
        }
        Ok(Self {
            package: workspace.root.join("src-tauri/fuzz"),
            target_folder: workspace.target.join("fuzz"),
            kept: workspace.cache().join("fuzz"),
            program,
        })
    }

    fn targets(&self) -> Result<Vec<String>> {
        let folder = self.package.join("fuzz_targets");
        let entries = fs::read_dir(&folder).with_context(|| format!("could not read `{}`", folder.display()))?;
        let mut names: Vec<String> =
            entries.filter_map(|entry| Some(entry.ok()?.path().file_stem()?.to_string_lossy().into_owned())).collect();
        names.sort();
        Ok(names)
    }

    /// cargo-fuzz under the nightly toolchain; the cargo that runs xtask has told its own to everybody below it.
    fn cargo_fuzz(&self, command: &str) -> Command {
        let mut cargo = Command::new("rustup");
        cargo.args(["run", "nightly"]).arg(&self.program).args(["fuzz", command]).current_dir(&self.package);
        for name in ["CARGO", "RUSTC", "RUSTDOC", "RUSTUP_TOOLCHAIN"] {
            cargo.env_remove(name);
        }
        cargo
    }

    fn folders(&self) -> [&Path; 4] {
        [Path::new("--fuzz-dir"), &self.package, Path::new("--target-dir"), &self.target_folder]
    }

    fn run(&self, target: &str, time: Duration) -> Result<Command> {
        let kept = self.kept.join(target);
        fs::create_dir_all(&kept).with_context(|| format!("could not make the folder `{}`", kept.display()))?;
        let mut command = self.cargo_fuzz("run");
        // New inputs go to the first of the two folders.
        command.args(self.folders()).arg(target).arg(kept).arg(self.package.join("corpus").join(target)).args([
            "--".to_owned(),
            format!("-max_total_time={}", time.as_secs()),
            format!("-timeout={SLOWEST}"),
            format!("-rss_limit_mb={MOST_MEMORY}"),
            "-print_final_stats=1".to_owned(),
        ]);
        // Some targets write folders of small files.
        let memory = Path::new("/dev/shm");
        if memory.is_dir() {
            command.env("TMPDIR", memory);
        }
        Ok(command)
    }

    fn report(&self, target: &str, counted: &Counted, finished: &Finished) -> String {
        let failure =
            finished.failure(&format!("`{target}`"), "see what the bytes do, mend the parser, keep the bytes");
        let Some(path) = &counted.finding else { return failure };
        format!(
            "{failure}\n  the bytes: {path}\n  again: cd {} && cargo +nightly fuzz run {target} {path}\n  \
             and without a nightly toolchain: copy them to corpus/{target}, then `cargo test -p embedbar-hostile`",
            self.package.display()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn time_and_targets_can_be_chosen() {
        let options = Options::parse(&words("dotenv --minutes 0.5 archive")).expect("options");
        assert_eq!(options, Options { minutes: 0.5, only: words("dotenv archive") });
        assert_eq!(Options::parse(&[]).expect("none").minutes.to_bits(), MINUTES.to_bits());
        for wrong in ["--minutes", "--minutes soon", "--minutes -1", "--forever"] {
            assert!(Options::parse(&words(wrong)).is_err(), "{wrong}");
        }
        let all = words("archive dotenv");
        assert_eq!(chosen(&all, &[]).expect("all"), all);
        assert_eq!(chosen(&all, &all[1..]).expect("one"), ["dotenv"]);
        assert!(chosen(&all, &words("zip")).expect_err("unknown").to_string().contains("`zip`"));
    }

    #[test]
    fn what_the_fuzzer_prints_is_counted() {
        let output = "INFO: seed corpus: files: 4 min: 1b max: 100b total: 200b rss: 40Mb\n\
            #5\tINITED cov: 210 ft: 300 corp: 4/200b exec/s: 0 rss: 45Mb\n\
            #64\tNEW    cov: 215 ft: 309 corp: 5/220b lim: 100 exec/s: 32 rss: 45Mb L: 20/100 MS: 1 ChangeBit-\n\
            #9000\tDONE   cov: 250 ft: 420 corp: 40/2Kb lim: 110 exec/s: 4500 rss: 80Mb\n\
            Done 9000 runs in 2 second(s)\n";
        assert_eq!(Counted::of(output), Counted { executions: 9000, covered: 250, added: 40, finding: None });
        let crashed = format!("{output}artifact_prefix='x/'; Test unit written to x/crash-00ff\nBase64: AA==\n");
        assert_eq!(Counted::of(&crashed).finding.as_deref(), Some("x/crash-00ff"));
        assert_eq!(Counted::of(""), Counted::default());
    }
}
