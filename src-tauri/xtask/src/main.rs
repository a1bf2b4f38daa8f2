//! `cargo xtask`: sets everything up, starts it, tests it, and makes the committed artefacts again.
//!
//! This module only maps the command line to a command; [`arguments`] says what can be asked. Progress goes to standard
//! error, results to standard output. Exit status: 0 done, 1 failed, 2 wrong usage.

mod architecture;
mod arguments;
mod arm;
mod bench;
mod contract;
mod files;
mod foreign;
mod fuzz;
mod mac;
mod model;
mod python;
mod run;
mod smoke;
mod steps;
mod system;
mod tally;
mod test;
mod toolchain;
mod ui;
mod workspace;

use std::process::ExitCode;

use arguments::Task;
use workspace::Workspace;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match arguments::parse(&words) {
        Ok(Task::Help) => {
            print!("{}", arguments::USAGE);
            ExitCode::SUCCESS
        }
        Ok(task) => match carry_out(&task) {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::FAILURE,
            Err(error) => {
                eprintln!("\nerror: {error:#}");
                if matches!(task, Task::Test { .. }) {
                    println!("0 passed, 1 failed, 0 skipped"); // whoever reads the last line finds a tally
                }
                ExitCode::FAILURE
            }
        },
        Err(message) => {
            eprint!("error: {message}\n\n{}", arguments::USAGE);
            ExitCode::from(2)
        }
    }
}

/// `Ok(false)`: it failed, and the reasons have been printed.
fn carry_out(task: &Task) -> anyhow::Result<bool> {
    let workspace = Workspace::load()?;
    toolchain::require(&workspace)?;
    match task {
        Task::Help => Ok(true),
        Task::Run(options) => run::run(&workspace, options).map(|()| true),
        Task::Test { quick } => test::test(&workspace, *quick),
        Task::MacCheck => mac::run(&workspace).map(|()| true),
        Task::Contract => contract::write(&workspace).map(|()| true),
        Task::BundledModel { check, checkpoint } => {
            model::bundled(&workspace, *check, checkpoint.as_deref()).map(|()| true)
        }
        Task::Bench { rest } => bench::bench(&workspace, rest).map(|()| true),
    }
}
