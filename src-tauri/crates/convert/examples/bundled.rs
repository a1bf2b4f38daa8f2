//! Makes the bundled model: `cargo run --package embedbar-convert --example bundled -- SOURCE FOLDER`.
//!
//! SOURCE is the checkpoint's folder. `cargo xtask bundled-model` fetches it and calls the same code.

use std::error::Error;
use std::path::PathBuf;

use embedbar_contract::Failure;
use embedbar_convert::bundled;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [source, folder] = arguments.as_slice() else {
        return Err("usage: bundled SOURCE FOLDER".into());
    };
    let provenance = bundled::make(source, folder).map_err(|error| Failure::from(error).to_string())?;
    for output in provenance.outputs {
        println!("{}  {}  {} bytes", output.sha256, output.file, output.bytes);
    }
    Ok(())
}
