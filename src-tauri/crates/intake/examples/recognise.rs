//! `recognise PATH [FOLDER]`: prints what a file or folder is, as JSON, and copies its files into FOLDER, which is empty. An
//! archive is unpacked into a folder that is removed again.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use embedbar_intake::{IntakeError, Manner, Unwatched, place, recognise};
use serde::Serialize;

fn main() -> ExitCode {
    let paths: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let (path, folder) = match paths.as_slice() {
        [path] => (path, None),
        [path, folder] => (path, Some(folder.as_path())),
        _ => {
            eprintln!("usage: recognise PATH [FOLDER]");
            return ExitCode::from(2);
        }
    };
    match run(path, folder) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            if let Some(hint) = error.hint() {
                eprintln!("\nhint: {hint}");
            }
            ExitCode::FAILURE
        }
    }
}

fn run(path: &Path, folder: Option<&Path>) -> Result<(), IntakeError> {
    let scratch = tempfile::tempdir().expect("a temporary folder can be made");
    let arrival = recognise(path, scratch.path(), &Unwatched)?;
    print(&arrival);
    if let Some(folder) = folder {
        print(&place(&arrival, folder, Manner::Copy, &Unwatched)?);
    }
    Ok(())
}

fn print(value: &impl Serialize) {
    println!("{}", serde_json::to_string_pretty(value).expect("it is JSON. This is a bug."));
}
