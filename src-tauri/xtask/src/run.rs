//! `cargo xtask run`: what is missing, the UI, the programs, and then the app in the form that this machine can show.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::{fs, io};

use anyhow::{Context as _, Result, bail};

use crate::arguments::{RunOptions, Simulate, Smoke};
use crate::steps::Steps;
use crate::system::{self, Consent, Need};
use crate::ui;
use crate::workspace::{TEST_FEATURES, Workspace};
use crate::{model, smoke};

/// The form in which the app is started.
#[derive(Debug, PartialEq)]
enum Form<'a> {
    /// `embedbar serve`.
    Headless,
    /// The app on the display of this session.
    Window,
    /// The app under Xvfb, for pictures.
    Screenshots,
    /// The app under Xvfb, for one search.
    Smoke(&'a Smoke),
}

impl<'a> Form<'a> {
    fn choose(options: &'a RunOptions, display: bool) -> Self {
        match &options.smoke {
            Some(smoke) => Self::Smoke(smoke),
            None if options.headless => Self::Headless,
            None if display => Self::Window,
            None => Self::Screenshots,
        }
    }

    fn needs(&self) -> &'static [Need] {
        match self {
            Self::Headless => &[Need::Node],
            Self::Window => &[Need::Node, Need::Shell],
            Self::Screenshots | Self::Smoke(_) => &[Need::Node, Need::Shell, Need::Rig],
        }
    }

    /// What cargo builds. Under Xvfb it is what the tests build too; the port that drives the windows is never opened on
    /// somebody's own display.
    fn build(&self) -> Vec<&'static str> {
        match self {
            Self::Headless => vec!["build", "--package", "embedbar-cli"],
            Self::Window => {
                let features = "embedbar-desktop/custom-protocol";
                vec!["build", "--package", "embedbar-cli", "--package", "embedbar-desktop", "--features", features]
            }
            Self::Screenshots | Self::Smoke(_) => TEST_PROGRAMS.to_vec(),
        }
    }
}

/// Builds every program as the tests use them. xtask is left out: it is running.
pub(crate) const TEST_PROGRAMS: &[&str] =
    &["build", "--workspace", "--exclude", "xtask", "--bins", "--features", TEST_FEATURES];

/// What to do when a build fails.
pub(crate) const BUILD_ADVICE: &str = "read the first error in the log; `cargo xtask run --install` installs missing \
                                       system packages, `--headless` needs none";

/// Sets everything up and starts the app.
pub(crate) fn run(workspace: &Workspace, options: &RunOptions) -> Result<()> {
    let form = Form::choose(options, system::has_display());
    if let Form::Smoke(smoke) = &form {
        smoke::require_input(smoke)?;
    }
    if matches!(form, Form::Smoke(_)) && cfg!(target_os = "macos") {
        bail!("the smoke test drives the window under Xvfb, which macOS has not: run it on Linux");
    }
    let mut steps = Steps::new(&workspace.scratch().join("logs"))?;
    let consent = if options.install { Consent::Given } else { Consent::Ask };
    system::ensure(&mut steps, form.needs(), consent)?;
    ui::install(workspace, &mut steps)?;
    ui::build(workspace, &mut steps)?;
    steps.require("cargo build", BUILD_ADVICE, &mut workspace.cargo(form.build()))?;
    let environment = match &options.simulate {
        Some(simulate) => simulated(workspace, &mut steps, simulate)?,
        None => Vec::new(),
    };
    eprint!("{}", steps.table());
    match form {
        Form::Headless => become_program(workspace, "embedbar", &["serve"], &environment, options),
        Form::Window => become_program(workspace, "embedbar-desktop", &[], &environment, options),
        Form::Screenshots => screenshots(workspace, &environment),
        Form::Smoke(smoke) => smoke::run(workspace, smoke),
    }
}

/// Variables for the program that is started.
type Environment = [(&'static str, OsString)];

/// A home of its own with the ladder of the bundled model's checkpoint, made by the converter and compared by the certifier.
fn simulated(workspace: &Workspace, steps: &mut Steps, simulate: &Simulate) -> Result<Vec<(&'static str, OsString)>> {
    let home = workspace.cache().join("simulated");
    let checkpoint = model::download(workspace, steps)?;
    for (flag, suffix) in [("--fp16", "fp16"), ("--int8", "int8"), ("--k4bit", "4bit")] {
        let name = format!("all-MiniLM-L6-v2-{suffix}");
        let target = home.join("models").join(&name).join(format!("{name}.gguf"));
        if target.is_file() {
            continue;
        }
        let folder = target.parent().unwrap_or(&home);
        fs::create_dir_all(folder).with_context(|| format!("could not make the folder `{}`", folder.display()))?;
        let mut convert = Command::new(workspace.program("embedbar"));
        convert.arg("convert").arg("--hf").arg(&checkpoint).arg("--out").arg(&target).arg(flag);
        steps.require(&format!("convert to {suffix}"), "the log says what is wrong", &mut convert)?;
    }
    let speed = simulate.speed.clone().unwrap_or_else(|| "1".to_owned());
    Ok(vec![
        ("EMBEDBAR_HOME", home.into()),
        ("EMBEDBAR_SIMULATE", simulate.trace.clone().into()),
        ("EMBEDBAR_SIMULATE_SPEED", speed.into()),
    ])
}

/// Replaces xtask, so that Ctrl-C and the exit status are the program's own.
fn become_program(
    workspace: &Workspace,
    name: &str,
    arguments: &[&str],
    environment: &Environment,
    options: &RunOptions,
) -> Result<()> {
    eprintln!("  starting {name}");
    let program = workspace.program(name);
    let error: io::Error = Command::new(&program)
        .args(arguments)
        .args(&options.rest)
        .env("EMBEDBAR_BUNDLED", workspace.bundled_model())
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .exec();
    Err(error).with_context(|| format!("could not start `{}`", program.display()))
}

/// The desktop in a box, a program of the tests.
pub(crate) fn rig(workspace: &Workspace, task: &str) -> Command {
    let mut command = Command::new(workspace.program("desktop-rig"));
    command
        .arg(task)
        .arg("--app")
        .arg(workspace.program("embedbar-desktop"))
        .env("EMBEDBAR_BUNDLED", workspace.bundled_model())
        .stdin(Stdio::null())
        .current_dir(&workspace.root);
    command
}

fn screenshots(workspace: &Workspace, environment: &Environment) -> Result<()> {
    let folder = workspace.root.join("out");
    eprintln!("  no display here: starting the app under Xvfb, its pictures go to `{}`", folder.display());
    let mut shots = rig(workspace, "shots");
    shots.envs(environment.iter().map(|(name, value)| (name, value)));
    let status = shots.arg("--out").arg(&folder).status().context("could not start `desktop-rig`")?;
    if !status.success() {
        bail!(
            "the app did not show everything under Xvfb ({status}): the lines above say what was missing; \
               `cargo xtask run --headless` needs no display"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_follows_the_options_and_then_the_display() {
        let plain = RunOptions::default();
        assert_eq!(Form::choose(&plain, true), Form::Window);
        assert_eq!(Form::choose(&plain, false), Form::Screenshots);
        let headless = RunOptions { headless: true, ..RunOptions::default() };
        assert_eq!(Form::choose(&headless, true), Form::Headless);
        let smoke = Smoke { folder: "x".into(), query: "y".into(), expect: None };
        let options = RunOptions { smoke: Some(smoke), ..RunOptions::default() };
        assert!(matches!(Form::choose(&options, true), Form::Smoke(_)));
    }

    #[test]
    fn headless_needs_no_system_package_and_a_window_opens_no_port() {
        assert_eq!(Form::Headless.needs(), [Need::Node]);
        assert!(Form::Window.build().iter().all(|word| !word.contains("webdriver")));
        assert!(Form::Headless.build().iter().all(|word| !word.contains("desktop")));
    }
}
