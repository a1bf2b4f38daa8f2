//! Runs the built app on a desktop in a box, for `cargo xtask run` on machines without a display.
//!
//! Standard output carries the result and nothing else; progress and errors go to standard error.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use embedbar_tests::desktop::{self, Desktop, Launch};
use embedbar_tests::rig::Rig;

#[derive(Parser)]
#[command(about = "Runs the built app on a desktop in a box")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Saves pictures of tray, panel and search window and prints their paths
    Shots {
        /// The app, built with the features `custom-protocol` and `webdriver`; the one beside this program by default
        #[arg(long)]
        app: Option<PathBuf>,
        /// Where the pictures go
        #[arg(long)]
        out: PathBuf,
        /// A folder to index first
        #[arg(long, requires = "query")]
        folder: Option<PathBuf>,
        /// What to search for
        #[arg(long, requires = "folder")]
        query: Option<String>,
    },
    /// Indexes a folder and searches it through the real windows; prints what they show as one line of JSON
    Smoke {
        /// The app, built with the features `custom-protocol` and `webdriver`; the one beside this program by default
        #[arg(long)]
        app: Option<PathBuf>,
        /// The folder to index
        #[arg(long)]
        folder: PathBuf,
        /// What to search for
        #[arg(long)]
        query: String,
        /// Where pictures go
        #[arg(long, default_value = "out/smoke")]
        out: PathBuf,
    },
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The situation last: what is above it explains.
            let causes: Vec<String> = error.chain().map(ToString::to_string).collect();
            eprintln!("{}", causes.join("\n\n"));
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Smoke { app, folder, query, out } => {
            let folder = folder.canonicalize()?;
            let report = desktop::smoke(&Rig::start()?, launch(app)?, &folder, &query, &out)?;
            println!("{report}");
        }
        Command::Shots { app, out, folder: Some(folder), query: Some(query) } => {
            let folder = folder.canonicalize()?;
            let report = desktop::smoke(&Rig::start()?, launch(app)?, &folder, &query, &out)?;
            for picture in ["tray", "panel", "search"] {
                println!("{}", report["screenshots"][picture].as_str().unwrap_or_default());
            }
        }
        Command::Shots { app, out, .. } => {
            let rig = Rig::start()?;
            let mut desktop = Desktop::start(&rig, launch(app)?)?;
            for picture in desktop.explain(|desktop| desktop::pictures_of_a_fresh_start(desktop, &out))? {
                println!("{}", picture.display());
            }
        }
    }
    Ok(())
}

fn launch(app: Option<PathBuf>) -> Result<Launch> {
    app.map_or_else(Launch::beside_this_program, |app| Ok(Launch::of(app.canonicalize()?)))
}
