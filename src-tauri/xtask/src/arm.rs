//! The kernels' tests on emulated ARM processors: one with dot products of bytes, one with matrix products too.
//!
//! Emulation shows what is computed, not how fast. Only the kernels: everything else is the same code everywhere.

use crate::foreign::{self, Library};
use crate::steps::{Finished, Steps};
use crate::system::{self, Consent, Need};
use crate::workspace::Workspace;

use anyhow::Result;

const TARGET: &str = "aarch64-unknown-linux-gnu";
const ROOT: &str = "/usr/aarch64-linux-gnu";

/// What to call each run, and the emulator's name for its processor.
pub(crate) const PROCESSORS: [(&str, &str); 2] =
    [("kernels on ARM with dotprod", "cortex-a76"), ("kernels on ARM with i8mm", "max,sve=off")];

/// The library for the emulated processors, or why there is none.
pub(crate) fn find(workspace: &Workspace) -> Result<Result<Library, String>> {
    if cfg!(not(target_os = "linux")) {
        return Ok(Err("programs of another processor are emulated on Linux only".to_owned()));
    }
    foreign::find(workspace, TARGET)
}

/// Runs the kernels' tests on one of [`PROCESSORS`].
pub(crate) fn attempt(
    workspace: &Workspace,
    steps: &mut Steps,
    library: &Library,
    (title, processor): (&str, &str),
) -> Result<Finished> {
    system::ensure(steps, &[Need::Arm], Consent::Ask)?;
    let mut command =
        workspace.cargo(["test", "--target", TARGET, "--package", "embedbar-kernels", "--lib", "--tests"]);
    library.give_to(&mut command, workspace, steps)?;
    command
        .env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", "aarch64-linux-gnu-gcc")
        .env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER", format!("qemu-aarch64 -cpu {processor} -L {ROOT}"))
        // An emulated instruction takes as long as some dozens.
        .env("PROPTEST_CASES", "16");
    steps.attempt(title, &mut command)
}
