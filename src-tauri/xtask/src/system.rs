//! What this machine lacks: names it and, where that is possible and agreed to, installs it.
//!
//! Debian and Ubuntu: packages, through apt. macOS: says what Xcode's command line tools lack. Elsewhere: says under which
//! names Debian has what is needed. Rust, Node and a C compiler are expected to be there; a wrong Node gets a sentence.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::process::Command;

use anyhow::{Result, bail};

use crate::steps::Steps;
use crate::toolchain;

/// The oldest Node that the UI's build tools run on.
const OLDEST_NODE: (u32, u32, u32) = (20, 19, 0);

/// What a task needs from the system.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Need {
    /// Building the UI.
    Node,
    /// Building and running the desktop shell.
    Shell,
    /// A desktop in a box: the app without a display, and the tests of its windows.
    Rig,
    /// Unpacking the Mac's standard library.
    MacCheck,
    /// Running programs for ARM.
    Arm,
    /// A container engine for the tests of those that stop and start. What it can do on this machine is found out there.
    Containers,
    /// A checkpoint from the package index, and Python environments. A Python from elsewhere will do.
    Python,
}

/// May packages be installed without asking?
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Consent {
    Given,
    Ask,
}

/// Debian's name of each package, and for what.
const PACKAGES: &[(Need, &str)] = &[
    (Need::Shell, "pkg-config"),
    (Need::Shell, "libwebkit2gtk-4.1-dev"),
    // loaded at run time by the tray icon
    (Need::Shell, "libayatana-appindicator3-1"),
    // what `tests/src/rig.rs` starts
    (Need::Rig, "xvfb"),
    (Need::Rig, "dbus-daemon"),
    (Need::Rig, "openbox"),
    (Need::Rig, "picom"),
    (Need::Rig, "xdotool"),
    (Need::Rig, "imagemagick"),
    (Need::Rig, "procps"),
    (Need::Rig, "python3-gi"),
    (Need::Rig, "gir1.2-gtk-3.0"),
    (Need::Rig, "gir1.2-dbusmenu-gtk3-0.4"),
    (Need::MacCheck, "zstd"),
    (Need::Arm, "qemu-user"),
    (Need::Arm, "gcc-aarch64-linux-gnu"),
    (Need::Arm, "libc6-dev-arm64-cross"),
    (Need::Containers, "podman"),
    (Need::Containers, "crun"),
    // for an image that is made and not fetched
    (Need::Containers, "busybox-static"),
    (Need::Python, "python3"),
    (Need::Python, "python3-pip"),
    (Need::Python, "python3-venv"),
];

/// Makes sure that everything in `needs` is there, or fails with a list of what is not.
pub(crate) fn ensure(steps: &mut Steps, needs: &[Need], consent: Consent) -> Result<()> {
    if needs.contains(&Need::Node) {
        let (node, npm) = (version("node"), version("npm"));
        if let Some(sentence) = node_complaint(node.as_deref(), npm.as_deref()) {
            bail!(sentence);
        }
    }
    if cfg!(target_os = "macos") {
        return ensure_macos();
    }
    let needs: Vec<Need> =
        needs.iter().copied().filter(|need| *need != Need::Python || !python_is_complete()).collect();
    let wanted: Vec<&str> = PACKAGES.iter().filter(|(need, _)| needs.contains(need)).map(|(_, name)| *name).collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let asked = Command::new("dpkg-query").args(["-W", "-f=${Package}\t${db:Status-Status}\n"]).args(&wanted).output();
    match asked {
        Ok(output) => ensure_debian(steps, &missing(&wanted, &String::from_utf8_lossy(&output.stdout)), consent),
        Err(_) => ensure_elsewhere(&needs, &wanted),
    }
}

fn version(program: &str) -> Option<String> {
    let output = Command::new(program).arg("--version").output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn node_complaint(node: Option<&str>, npm: Option<&str>) -> Option<String> {
    let (major, minor, _) = OLDEST_NODE;
    let how = format!(
        "install Node {major}.{minor} or newer with npm (nodejs.org, or your version manager), then run the same command again"
    );
    match (node, npm) {
        (None, _) => Some(format!("there is no `node` on this machine: {how}")),
        (Some(_), None) => Some(format!("there is no `npm` on this machine: {how}")),
        (Some(node), Some(_)) => match toolchain::numbers(node) {
            Some(numbers) if numbers >= OLDEST_NODE => None,
            _ => Some(format!("this is Node {node} and the UI's build tools need a newer one: {how}")),
        },
    }
}

fn python_is_complete() -> bool {
    let probe = Command::new("python3").args(["-c", "import ensurepip, pip, venv"]).output();
    probe.is_ok_and(|output| output.status.success())
}

/// The packages in `wanted` that `dpkg-query -W` does not list as installed.
fn missing<'a>(wanted: &[&'a str], listing: &str) -> Vec<&'a str> {
    let installed: Vec<&str> = listing
        .lines()
        .filter_map(|line| line.split_once('\t'))
        .filter(|(_, status)| status.trim() == "installed")
        .map(|(name, _)| name)
        .collect();
    wanted.iter().filter(|name| !installed.contains(*name)).copied().collect()
}

fn ensure_debian(steps: &mut Steps, missing: &[&str], consent: Consent) -> Result<()> {
    if missing.is_empty() {
        return Ok(());
    }
    let root = Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout.trim_ascii() == b"0");
    let by_hand = format!("sudo apt-get install {}", missing.join(" "));
    eprintln!("  missing system packages: {}", missing.join(" "));
    if !root && consent == Consent::Ask && !agreed()? {
        bail!("system packages are missing: `{by_hand}`, then run the same command again");
    }
    let install = ["install", "-y", "--no-install-recommends", "-o", "Acquire::Retries=3"];
    let advice = format!("look at the log; by hand it is `{by_hand}`");
    if root {
        steps.require("apt-get update", &advice, apt(&["update", "-o", "Acquire::Retries=3"]).env("LC_ALL", "C"))?;
        steps.require("apt-get install", &advice, apt(&install).args(missing))?;
        return Ok(());
    }
    // sudo asks for the password on the terminal: these two are not captured.
    for arguments in [vec!["update"], [&install[..], missing].concat()] {
        let status =
            Command::new("sudo").args(["env", "DEBIAN_FRONTEND=noninteractive", "apt-get"]).args(arguments).status();
        if !status.is_ok_and(|status| status.success()) {
            bail!("could not install the system packages through sudo: {advice}");
        }
    }
    Ok(())
}

fn apt(arguments: &[&str]) -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive").args(arguments);
    command
}

/// Asks once; without a terminal the answer is no.
fn agreed() -> Result<bool> {
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Ok(false);
    }
    eprint!("  install them now through sudo? [Y/n] ");
    io::stderr().flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "" | "y" | "yes"))
}

/// Without dpkg the package names are only a hint: asks for the things themselves.
fn ensure_elsewhere(needs: &[Need], wanted: &[&str]) -> Result<()> {
    let mut probes: Vec<(&str, Command)> = Vec::new();
    let mut probe = |name, program: &str, arguments: &[&str]| {
        let mut command = Command::new(program);
        command.args(arguments);
        probes.push((name, command));
    };
    if needs.contains(&Need::Shell) {
        probe("WebKitGTK 4.1 with its headers", "pkg-config", &["--exists", "webkit2gtk-4.1"]);
    }
    if needs.contains(&Need::Rig) {
        probe("Xvfb", "sh", &["-c", "command -v Xvfb"]);
        probe("dbus-run-session", "sh", &["-c", "command -v dbus-run-session"]);
    }
    if needs.contains(&Need::MacCheck) {
        probe("zstd", "sh", &["-c", "command -v zstd"]);
    }
    if needs.contains(&Need::Arm) {
        probe("qemu-aarch64", "sh", &["-c", "command -v qemu-aarch64"]);
        probe("a linker for ARM", "sh", &["-c", "command -v aarch64-linux-gnu-gcc"]);
    }
    if needs.contains(&Need::Containers) {
        probe("podman", "podman", &["--version"]);
    }
    if needs.contains(&Need::Python) {
        probe("Python with pip and venv", "python3", &["-c", "import ensurepip, pip, venv"]);
    }
    let absent: Vec<&str> = probes
        .into_iter()
        .filter_map(|(name, mut command)| {
            let there = command.output().is_ok_and(|output| output.status.success());
            (!there).then_some(name)
        })
        .collect();
    if !absent.is_empty() {
        bail!(
            "this machine lacks {}: install what your system calls these packages of Debian: {}",
            absent.join(", "),
            wanted.join(" ")
        );
    }
    Ok(())
}

/// The command line tools bring the linker, the SDK and Swift, which coreml-rs compiles its bridge with.
fn ensure_macos() -> Result<()> {
    let absent: Vec<&str> = ["clang", "swift", "python3"]
        .into_iter()
        .filter(|tool| {
            !Command::new("xcrun").args(["--find", tool]).output().is_ok_and(|output| output.status.success())
        })
        .collect();
    if !absent.is_empty() {
        bail!("Xcode's tools lack {}: run `xcode-select --install`, then the same command again", absent.join(" and "));
    }
    Ok(())
}

/// Is there a display to put a window on?
pub(crate) fn has_display() -> bool {
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    cfg!(target_os = "macos") || set("DISPLAY") || set("WAYLAND_DISPLAY")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_counts_only_if_it_is_fully_installed() {
        let listing = "xvfb\tinstalled\npicom\tconfig-files\nzstd\tinstalled\nzstd\tinstalled\nopenbox\tunpacked\n";
        assert_eq!(missing(&["xvfb", "picom", "openbox", "zstd", "dbus"], listing), ["picom", "openbox", "dbus"]);
        assert_eq!(missing(&["xvfb"], ""), ["xvfb"]);
        assert_eq!(missing(&[], listing), Vec::<&str>::new());
    }

    #[test]
    fn node_is_asked_for_by_version() {
        assert_eq!(node_complaint(Some("v20.20.2"), Some("11.19.1")), None);
        assert_eq!(node_complaint(Some("v24.0.0"), Some("11.19.1")), None);
        assert!(node_complaint(Some("v18.20.4"), Some("9.2.0")).expect("too old").contains("v18.20.4"));
        assert!(node_complaint(Some("v20.20.2"), None).expect("no npm").contains("`npm`"));
        assert!(node_complaint(None, None).expect("no node").contains("`node`"));
    }

    #[test]
    fn every_package_is_listed_once() {
        let mut names: Vec<&str> = PACKAGES.iter().map(|(_, name)| *name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), PACKAGES.len());
    }
}
