//! `cargo xtask bench [-- NAME]`: builds what a benchmark of `tests/bench` needs and hands over to its script, which measures and
//! prints. Without a name it is the table beside onnxruntime.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::steps::Steps;
use crate::system::{self, Consent, Need};
use crate::workspace::Workspace;
use crate::{fuzz, python};

/// A script of `tests/bench` and what it needs.
struct Bench {
    /// The word after `--` that chooses it.
    name: &'static str,
    script: &'static str,
    /// A list for pip; `None` where Python alone is enough.
    requirements: Option<&'static str>,
    /// Examples of our crates that are built and named.
    examples: &'static [Example],
    options: &'static [Passed],
}

/// A program that a script starts.
struct Example {
    package: &'static str,
    name: &'static str,
    /// The option that names it.
    option: &'static str,
}

const GENERATOR: Example = Example { package: "embedbar-convert", name: "random_checkpoint", option: "--generator" };
const FAKE_HUB: Example = Example { package: "embedbar-hub", name: "fake_hub", option: "--fake-hub" };
const FETCH: Example = Example { package: "embedbar-hub", name: "fetch", option: "--fetch" };
const PRODUCTS: Example = Example { package: "embedbar-kernels", name: "products", option: "--products" };

/// What a script is told, besides `--embedbar`.
enum Passed {
    Bundled,
    Cache,
    /// A folder in the cache.
    Work(&'static str),
}

const MAIN: Bench = Bench {
    name: "",
    script: "bench.py",
    requirements: Some("requirements.txt"),
    examples: &[],
    options: &[Passed::Bundled, Passed::Cache],
};

const NAMED: [Bench; 7] = [
    Bench {
        name: "speed",
        script: "speed.py",
        requirements: Some("requirements-speed.txt"),
        examples: &[GENERATOR, PRODUCTS],
        options: &[Passed::Bundled, Passed::Cache],
    },
    Bench {
        name: "start",
        script: "start.py",
        requirements: Some("requirements-tokenizer.txt"),
        examples: &[GENERATOR],
        options: &[Passed::Bundled, Passed::Cache],
    },
    Bench {
        name: "convert",
        script: "convert.py",
        requirements: Some("requirements-convert.txt"),
        examples: &[GENERATOR],
        options: &[Passed::Work("bench-convert")],
    },
    Bench {
        name: "swap",
        script: "swap.py",
        requirements: Some("requirements-tokenizer.txt"),
        examples: &[GENERATOR],
        options: &[Passed::Cache],
    },
    Bench {
        name: "hub",
        script: "hub.py",
        requirements: None,
        examples: &[FAKE_HUB, FETCH],
        options: &[Passed::Work("bench-hub")],
    },
    Bench { name: "soak", script: "soak.py", requirements: None, examples: &[], options: &[] },
    Bench {
        name: "seed-table",
        script: "seed_table.py",
        requirements: Some("requirements-tokenizer.txt"),
        examples: &[GENERATOR],
        options: &[Passed::Work("bench-convert")],
    },
];

impl Bench {
    /// The one that `rest` begins with, and what is left for its script.
    fn chosen(rest: &[String]) -> (&'static Self, &[String]) {
        match NAMED.iter().find(|bench| rest.first().is_some_and(|word| word == bench.name)) {
            Some(bench) => (bench, &rest[1..]),
            None => (&MAIN, rest),
        }
    }
}

/// Measures and prints.
pub(crate) fn bench(workspace: &Workspace, rest: &[String]) -> Result<()> {
    // No script: cargo-fuzz drives it.
    if let Some((word, rest)) = rest.split_first()
        && word == "fuzz"
    {
        return fuzz::fuzz(workspace, rest);
    }
    let folder = workspace.root.join("tests/bench");
    let (bench, rest) = Bench::chosen(rest);
    let mut steps = Steps::new(&workspace.scratch().join("logs"))?;
    system::ensure(&mut steps, &[Need::Python], Consent::Ask)?;
    let build = ["build", "--release", "--package", "embedbar-cli"];
    steps.require("cargo build --release", "read the first error in the log", &mut workspace.cargo(build))?;
    for example in bench.examples {
        let build = ["build", "--release", "--package", example.package, "--example", example.name];
        let step = format!("cargo build --example {}", example.name);
        steps.require(&step, "read the first error in the log", &mut workspace.cargo(build))?;
    }
    let python = match bench.requirements {
        Some(requirements) => python::environment(workspace, &mut steps, &folder.join(requirements))?,
        None => PathBuf::from("python3"),
    };
    let mut script = Command::new(&python);
    script.arg(folder.join(bench.script)).arg("--embedbar").arg(workspace.target.join("release/embedbar"));
    for example in bench.examples {
        script.arg(example.option).arg(workspace.target.join("release/examples").join(example.name));
    }
    for option in bench.options {
        match option {
            Passed::Bundled => script.arg("--bundled").arg(workspace.bundled_model()),
            Passed::Cache => script.arg("--cache").arg(workspace.cache()),
            Passed::Work(name) => script.arg("--work").arg(workspace.cache().join(name)),
        };
    }
    // A release build in a target folder of its own does not find the sources.
    script.args(rest).env("EMBEDBAR_BUNDLED", workspace.bundled_model()).current_dir(&workspace.root);
    let status = script.status().with_context(|| format!("could not start `{}`", python.display()))?;
    if !status.success() {
        bail!("the benchmark failed ({status}): the lines above say where");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_first_word_chooses_and_the_rest_is_for_the_script() {
        let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        for (line, script, left) in [
            ("", "bench.py", ""),
            ("--turns 5", "bench.py", "--turns 5"),
            ("convert --limit", "convert.py", "--limit"),
            ("seed-table", "seed_table.py", ""),
            ("speed --quick", "speed.py", "--quick"),
            ("start --large", "start.py", "--large"),
            ("hub --turns 3", "hub.py", "--turns 3"),
            ("--json swap", "bench.py", "--json swap"),
        ] {
            let rest = words(line);
            let (bench, rest) = Bench::chosen(&rest);
            assert_eq!((bench.script, rest), (script, &words(left)[..]), "{line}");
        }
    }

    #[test]
    fn every_script_and_every_list_is_there() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/bench");
        for bench in NAMED.iter().chain([&MAIN]) {
            assert!(folder.join(bench.script).is_file(), "{}", bench.script);
            assert!(bench.requirements.is_none_or(|list| folder.join(list).is_file()), "{}", bench.script);
        }
    }
}
