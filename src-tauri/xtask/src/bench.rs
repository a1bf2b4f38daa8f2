//! `cargo xtask bench [-- NAME]`: builds what a benchmark of `tests/bench` needs and hands over to its script, which measures and
//! prints. Without a name it is the table beside onnxruntime.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::python;
use crate::steps::Steps;
use crate::system::{self, Consent, Need};
use crate::workspace::Workspace;

/// A script of `tests/bench` and what it needs.
struct Bench {
    /// The word after `--` that chooses it.
    name: &'static str,
    script: &'static str,
    /// A list for pip; `None` where Python alone is enough.
    requirements: Option<&'static str>,
    /// Whether the generator of random checkpoints is built and named.
    generator: bool,
    options: &'static [Passed],
}

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
    generator: false,
    options: &[Passed::Bundled, Passed::Cache],
};

const NAMED: [Bench; 4] = [
    Bench {
        name: "convert",
        script: "convert.py",
        requirements: Some("requirements-convert.txt"),
        generator: true,
        options: &[Passed::Work("bench-convert")],
    },
    Bench {
        name: "swap",
        script: "swap.py",
        requirements: Some("requirements-tokenizer.txt"),
        generator: true,
        options: &[Passed::Cache],
    },
    Bench { name: "soak", script: "soak.py", requirements: None, generator: false, options: &[] },
    Bench {
        name: "seed-table",
        script: "seed_table.py",
        requirements: Some("requirements-tokenizer.txt"),
        generator: true,
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
    let folder = workspace.root.join("tests/bench");
    let (bench, rest) = Bench::chosen(rest);
    let mut steps = Steps::new(&workspace.scratch().join("logs"))?;
    system::ensure(&mut steps, &[Need::Python], Consent::Ask)?;
    let build = ["build", "--release", "--package", "embedbar-cli"];
    steps.require("cargo build --release", "read the first error in the log", &mut workspace.cargo(build))?;
    if bench.generator {
        let build = ["build", "--release", "--package", "embedbar-convert", "--example", "random_checkpoint"];
        steps.require(
            "the generator of checkpoints",
            "read the first error in the log",
            &mut workspace.cargo(build),
        )?;
    }
    let python = match bench.requirements {
        Some(requirements) => python::environment(workspace, &mut steps, &folder.join(requirements))?,
        None => PathBuf::from("python3"),
    };
    let mut script = Command::new(&python);
    script.arg(folder.join(bench.script)).arg("--embedbar").arg(workspace.target.join("release/embedbar"));
    if bench.generator {
        script.arg("--generator").arg(workspace.target.join("release/examples/random_checkpoint"));
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
