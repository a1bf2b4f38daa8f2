//! Prints what a package is and what is wrong with it, as JSON: `cargo run -p embedbar-mil --example inspect PATH`.

use std::path::Path;
use std::process::ExitCode;

use embedbar_mil::{MilError, Package};

fn main() -> ExitCode {
    let Some(path) = std::env::args_os().nth(1) else {
        eprintln!("usage: inspect PATH");
        return ExitCode::from(2);
    };
    match report(Path::new(&path)) {
        Ok(report) => {
            println!("{report:#}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{}", embedbar_contract::Failure::from(error));
            ExitCode::FAILURE
        }
    }
}

fn report(path: &Path) -> Result<serde_json::Value, MilError> {
    let package = Package::open(path)?;
    let embedding = package.embedding_interface(None).map_err(|error| error.to_string());
    Ok(serde_json::json!({
        "description": package.describe(),
        "findings": package.lint(),
        "embedding": embedding,
    }))
}
