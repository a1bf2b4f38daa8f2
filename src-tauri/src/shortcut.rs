//! The global shortcut that toggles the search window.
//!
//! `EMBEDBAR_SEARCH_SHORTCUT` names another one, such as `Ctrl+Alt+F`. Another program may hold the combination, and some
//! desktops allow none: then the shell runs without, and the tray says so.

use tauri::AppHandle;
use tauri_plugin_global_shortcut::{Builder, GlobalShortcutExt, ShortcutState};

use crate::windows::{self, View};

const DEFAULT: &str = "CmdOrCtrl+Shift+Space";

/// Registers the shortcut; on failure gives the sentence for the tray.
pub(crate) fn register(app: &AppHandle) -> Result<(), String> {
    let shortcut = std::env::var("EMBEDBAR_SEARCH_SHORTCUT").unwrap_or_else(|_| DEFAULT.to_owned());
    // Added here and not with the other plugins: without an X server it fails, which must not end the program.
    let outcome = app.plugin(Builder::new().build()).map_err(|error| error.to_string()).and_then(|()| {
        app.global_shortcut()
            .on_shortcut(shortcut.as_str(), |app, _, event| {
                if event.state == ShortcutState::Pressed {
                    windows::toggle(app, View::Search);
                }
            })
            .map_err(|error| error.to_string())
    });
    outcome.map_err(|error| {
        tracing::warn!(error, shortcut, "the global shortcut is not available");
        format!("Shortcut {shortcut} is not available")
    })
}
