//! `recognise PATH`: prints what a file or folder is, as JSON. An archive is unpacked into a folder that is removed again.

use std::path::PathBuf;
use std::process::ExitCode;

use embedbar_intake::{Unwatched, recognise};

fn main() -> ExitCode {
    let Some(path) = std::env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("usage: recognise PATH");
        return ExitCode::from(2);
    };
    let scratch = tempfile::tempdir().expect("a temporary folder can be made");
    match recognise(&path, scratch.path(), &Unwatched) {
        Ok(arrival) => {
            println!("{}", serde_json::to_string_pretty(&arrival).expect("an arrival is JSON. This is a bug."));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            if let Some(hint) = error.hint() {
                eprintln!("\nhint: {hint}");
            }
            ExitCode::FAILURE
        }
    }
}
