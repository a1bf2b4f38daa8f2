//! Embedbar in the menu bar: a tray icon, a panel, a search window.
//!
//! This package is a thin adapter: it turns clicks, shortcuts and the windows' calls into commands of
//! [`embedbar_contract::Commands`] and shows the application's snapshots. It holds no state of the application, loads no
//! model and reads no document; nothing outside this folder names `tauri`.

mod backend;
mod rpc;
mod shell;
mod shortcut;
mod tray;
mod windows;

#[cfg(all(feature = "webdriver", not(debug_assertions)))]
compile_error!("the feature `webdriver` opens an unauthenticated port: it must not be in a release build");

fn main() -> std::process::ExitCode {
    match shell::run() {
        Ok(status) => std::process::ExitCode::from(u8::try_from(status).unwrap_or(1)),
        Err(error) => {
            eprintln!("embedbar: {error}");
            std::process::ExitCode::FAILURE
        }
    }
}
