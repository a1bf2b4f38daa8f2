//! Declares the shell's commands, so that a window needs a permission for each, and sees to it that there is an
//! interface to embed.

use std::error::Error;
use std::fs;
use std::path::Path;

use tauri_build::{AppManifest, Attributes};

const INTERFACE: &str = "../ui/dist";

const PLACEHOLDER: &str = "<!doctype html>\n<meta charset=\"utf-8\">\n<title>Embedbar</title>\n\
    <body data-placeholder>\n<p>The interface has not been built. Run <code>npm --prefix ui ci</code> and \
    <code>npm --prefix ui run build</code>, then build again, or use <code>cargo xtask run</code>.</p>\n</body>\n";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed={INTERFACE}");
    provide_interface()?;
    let commands = AppManifest::new().commands(&["rpc", "watch", "hide_window", "open_library"]);
    tauri_build::try_build(Attributes::new().app_manifest(commands))
        .map_err(|error| format!("the shell's manifest is not accepted: {error:#}").into())
}

/// Lint and type checks work without Node: a page that says what is missing stands in for the interface.
fn provide_interface() -> Result<(), Box<dyn Error>> {
    let index = Path::new(INTERFACE).join("index.html");
    let page = fs::read_to_string(&index).ok();
    if page.is_none() {
        fs::create_dir_all(INTERFACE).map_err(|error| format!("`{INTERFACE}` cannot be made: {error}"))?;
        fs::write(&index, PLACEHOLDER).map_err(|error| format!("`{}` cannot be written: {error}", index.display()))?;
    }
    if page.is_none_or(|page| page == PLACEHOLDER) {
        println!(
            "cargo::warning=the interface has not been built: run `npm --prefix ui ci && npm --prefix ui run build`, \
             or use `cargo xtask run`"
        );
    }
    Ok(())
}
