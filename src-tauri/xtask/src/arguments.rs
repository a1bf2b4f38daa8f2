//! The command line of xtask, by hand: no argument parser is worth its build time here.

use std::path::PathBuf;

/// What `--help` and every usage error show.
pub(crate) const USAGE: &str = "\
Usage: cargo xtask COMMAND

  run [--install] [-- ARGS]       check what is missing, build everything, start the app with the bundled model.
                                  Without a display: the same app under Xvfb, screenshots in out/.
      --install                   install missing system packages without asking (through sudo where not root)
      --headless                  no WebKit and no display: `embedbar serve`, which prints the address of the UI
      --simulate TRACE [--speed N]
                                  decide for a simulated Mac: 8gb-browser, 16gb-docker, 16gb-full, 32gb-build or 64gb-calm.
                                  FP16, INT8 and 4-bit of the bundled model are made first; models and vectors are real
      --smoke --folder DIR --query TEXT [--expect FILE]
                                  index DIR with the app, search in the real window, print what it shows as one line
                                  of JSON; fails if anything is missing, or if FILE is not the first result
  test [--quick]                  every test there is; the last line counts them. --quick: cargo alone, no network
  mac-check                       check and clippy of the whole workspace for aarch64-apple-darwin
  bench [-- ARGS]                 the table of measured figures, beside onnxruntime's
  bench -- speed [ARGS]           what an embedding costs, beside onnxruntime and llama.cpp; `--quick` for less
  bench -- convert [ARGS]         conversions of a model of 8 GB beside cp and coremltools
  bench -- swap [ARGS]            what queries notice while a followed `.env` swaps the model
  bench -- start [ARGS]           from the start of a process to its first vector
  bench -- hub [ARGS]             a download of 1 GB beside curl, from the same server to the same disk
  bench -- soak [ARGS]            the worker's memory over 20,000 texts; `--svg PATH` draws it
  bench -- seed-table [ARGS]      the performance table that this project began with, as it is measured here
  bench -- fuzz [--minutes N] [TARGET…]
                                  gives every parser bytes that nobody thought of, under a sanitizer; 5 minutes for all
  contract                        write ui/src/contract/contract.ts from the Rust types
  bundled-model [--check] [--hf DIR]
                                  make models/bundled again from the published checkpoint (or from DIR);
                                  --check compares with what is committed instead of replacing it
";

/// One run of xtask.
#[derive(Debug, PartialEq)]
pub(crate) enum Task {
    Help,
    Run(RunOptions),
    Test { quick: bool },
    MacCheck,
    Contract,
    BundledModel { check: bool, checkpoint: Option<PathBuf> },
    Bench { rest: Vec<String> },
}

/// The options of `cargo xtask run`.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct RunOptions {
    pub(crate) install: bool,
    pub(crate) headless: bool,
    pub(crate) smoke: Option<Smoke>,
    pub(crate) simulate: Option<Simulate>,
    /// Passed on to the program that is started.
    pub(crate) rest: Vec<String>,
}

/// A simulated machine.
#[derive(Debug, PartialEq)]
pub(crate) struct Simulate {
    /// The trace's name.
    pub(crate) trace: String,
    /// How many times as fast, as it was written; the app reads it.
    pub(crate) speed: Option<String>,
}

/// One search through the real window.
#[derive(Debug, PartialEq)]
pub(crate) struct Smoke {
    pub(crate) folder: PathBuf,
    pub(crate) query: String,
    /// The file that must be the first result.
    pub(crate) expect: Option<PathBuf>,
}

/// The words after one command: flags, options with a value, and what follows `--`.
struct Words<'a> {
    command: &'a str,
    flags: Vec<&'a str>,
    values: Vec<(&'a str, &'a str)>,
    rest: Vec<String>,
}

impl<'a> Words<'a> {
    /// `rest`: whether `--` and what follows it is welcome.
    fn split(words: &'a [String], flags: &[&str], values: &[&str], rest: bool) -> Result<Self, String> {
        let command = words[0].as_str();
        let mut found = Self { command, flags: Vec::new(), values: Vec::new(), rest: Vec::new() };
        let mut remaining = words[1..].iter();
        while let Some(word) = remaining.next() {
            if word == "--" && rest {
                found.rest = remaining.cloned().collect();
                break;
            } else if flags.contains(&word.as_str()) {
                found.flags.push(word);
            } else if values.contains(&word.as_str()) {
                let value = remaining.next().ok_or_else(|| format!("`{word}` needs a value"))?;
                found.values.push((word, value));
            } else {
                return Err(format!("`{command}` does not take `{word}`"));
            }
        }
        Ok(found)
    }

    fn has(&self, flag: &str) -> bool {
        self.flags.contains(&flag)
    }

    fn value(&self, name: &str) -> Option<&'a str> {
        self.values.iter().rev().find(|(option, _)| *option == name).map(|(_, value)| *value)
    }
}

/// Reads the words after `cargo xtask`; the error is one sentence about what is wrong with them.
pub(crate) fn parse(words: &[String]) -> Result<Task, String> {
    let Some(command) = words.first() else {
        return Err("name a command".to_owned());
    };
    if words.iter().take_while(|word| *word != "--").any(|word| word == "--help" || word == "-h") || command == "help" {
        return Ok(Task::Help);
    }
    match command.as_str() {
        "run" => parse_run(words),
        "test" => Ok(Task::Test { quick: Words::split(words, &["--quick"], &[], false)?.has("--quick") }),
        "mac-check" => Words::split(words, &[], &[], false).map(|_| Task::MacCheck),
        "contract" => Words::split(words, &[], &[], false).map(|_| Task::Contract),
        "bench" => Words::split(words, &[], &[], true).map(|found| Task::Bench { rest: found.rest }),
        "bundled-model" => {
            let found = Words::split(words, &["--check"], &["--hf"], false)?;
            Ok(Task::BundledModel { check: found.has("--check"), checkpoint: found.value("--hf").map(PathBuf::from) })
        }
        _ => Err(format!("there is no command `{command}`")),
    }
}

/// What `--smoke` takes.
const SMOKE_VALUES: [&str; 3] = ["--folder", "--query", "--expect"];

/// What `run` takes.
const RUN_VALUES: [&str; 5] = ["--folder", "--query", "--expect", "--simulate", "--speed"];

fn parse_run(words: &[String]) -> Result<Task, String> {
    let found = Words::split(words, &["--install", "--headless", "--smoke"], &RUN_VALUES, true)?;
    let simulate = found
        .value("--simulate")
        .map(|trace| Simulate { trace: trace.to_owned(), speed: found.value("--speed").map(str::to_owned) });
    let smoke = if found.has("--smoke") {
        let folder = found.value("--folder").ok_or("`--smoke` needs `--folder DIR`")?;
        let query = found.value("--query").ok_or("`--smoke` needs `--query TEXT`")?;
        if query.trim().is_empty() {
            return Err("the query is empty".to_owned());
        }
        Some(Smoke { folder: folder.into(), query: query.to_owned(), expect: found.value("--expect").map(Into::into) })
    } else if let Some((option, _)) = found.values.iter().find(|(option, _)| SMOKE_VALUES.contains(option)) {
        return Err(format!("`{option}` goes with `--smoke`"));
    } else {
        None
    };
    let headless = found.has("--headless");
    if headless && smoke.is_some() {
        return Err(format!(
            "`{}` is either `--headless` or `--smoke`: the smoke test is of the real window",
            found.command
        ));
    }
    if simulate.is_none() && found.value("--speed").is_some() {
        return Err("`--speed` goes with `--simulate`".to_owned());
    }
    if simulate.is_some() && smoke.is_some() {
        return Err("`run` is either `--simulate` or `--smoke`".to_owned());
    }
    if smoke.is_some() && !found.rest.is_empty() {
        return Err("`--smoke` passes nothing on to the app".to_owned());
    }
    Ok(Task::Run(RunOptions { install: found.has("--install"), headless, smoke, simulate, rest: found.rest }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_line(line: &str) -> Result<Task, String> {
        parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn the_two_commands_of_the_readme_need_nothing_more() {
        assert_eq!(parse_line("run"), Ok(Task::Run(RunOptions::default())));
        assert_eq!(parse_line("test"), Ok(Task::Test { quick: false }));
    }

    #[test]
    fn a_smoke_run_carries_its_folder_query_and_expectation() {
        let smoke = Smoke { folder: "docs".into(), query: "words".into(), expect: Some("docs/a.md".into()) };
        assert_eq!(
            parse_line("run --install --smoke --folder docs --query words --expect docs/a.md"),
            Ok(Task::Run(RunOptions { install: true, smoke: Some(smoke), ..RunOptions::default() }))
        );
    }

    #[test]
    fn what_follows_two_dashes_is_passed_on_untouched() {
        assert_eq!(
            parse_line("run --headless -- --port 0 --help"),
            Ok(Task::Run(RunOptions {
                headless: true,
                rest: ["--port", "0", "--help"].map(str::to_owned).to_vec(),
                ..RunOptions::default()
            }))
        );
    }

    #[test]
    fn wrong_usage_is_named() {
        for (line, part) in [
            ("", "name a command"),
            ("walk", "`walk`"),
            ("test --quik", "`--quik`"),
            ("run --smoke --folder x", "--query TEXT"),
            ("run --smoke --query x", "--folder DIR"),
            ("run --folder x", "goes with `--smoke`"),
            ("run --smoke --folder", "needs a value"),
            ("run --headless --smoke --folder x --query y", "either"),
            ("run --smoke --folder x --query y -- z", "passes nothing on"),
            ("mac-check now", "`now`"),
            ("test -- x", "`--`"),
        ] {
            let message = parse_line(line).expect_err(line);
            assert!(message.contains(part), "{line}: {message}");
        }
        let blank = ["run", "--smoke", "--folder", "x", "--query", "  "].map(str::to_owned);
        assert!(parse(&blank).expect_err("blank query").contains("empty"));
    }

    #[test]
    fn help_is_asked_for_in_the_usual_ways() {
        for line in ["--help", "help", "run -h", "test --help"] {
            assert_eq!(parse_line(line), Ok(Task::Help), "{line}");
        }
    }
}
