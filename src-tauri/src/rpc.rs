//! What the windows can ask the shell for: four Tauri commands, each behind a permission of its own.
//!
//! `rpc` carries every command of the contract; no command of the application is declared here a second time.

use std::sync::Arc;

use embedbar_contract::{Failure, ReplyJson, Snapshot, dispatch};
use serde_json::Value;
use tauri::ipc::Channel;
use tauri::{AppHandle, Manager, State, WebviewWindow};
use tokio::sync::watch as values;

use crate::backend::Backend;
use crate::windows::{self, View, Windows};

/// Carries out one command of the contract.
#[tauri::command]
pub(crate) async fn rpc(
    backend: State<'_, Backend>,
    method: String,
    params: Option<Value>,
) -> Result<ReplyJson, Failure> {
    let running = backend.running().await?;
    dispatch(running.application.as_ref(), &method, params.unwrap_or_default()).await
}

/// Sends snapshots to the calling window for as long as it is shown; a later call from the same window replaces this one.
#[tauri::command]
pub(crate) async fn watch(
    window: WebviewWindow,
    backend: State<'_, Backend>,
    open: State<'_, Windows>,
    channel: Channel<Snapshot>,
) -> Result<(), Failure> {
    let running = backend.running().await?;
    let Some(view) = View::from_label(window.label()) else {
        return Err(Failure::internal(format!("the window `{}` is not known", window.label())));
    };
    let (shown, backend) = (open.shown(view), backend.inner().clone());
    let task = tauri::async_runtime::spawn(async move {
        let mut send = |snapshot| channel.send(snapshot).is_ok();
        let mut snapshots = running.snapshots;
        while forward(snapshots, shown.clone(), &mut send).await == End::Application {
            // Another owner may take its place.
            snapshots = match backend.running().await {
                Ok(running) => running.snapshots,
                Err(_) => return,
            };
        }
    });
    open.keep_until_closed(view, task);
    Ok(())
}

/// Hides the calling window.
#[tauri::command]
pub(crate) async fn hide_window(window: WebviewWindow) -> Result<(), Failure> {
    if let Some(view) = View::from_label(window.label()) {
        windows::hide(window.app_handle(), view);
    }
    Ok(())
}

/// Shows the library, with what installing `source` would take where something is named.
#[tauri::command]
pub(crate) async fn open_library(app: AppHandle, source: Option<String>) -> Result<(), Failure> {
    windows::open_library(&app, source);
    Ok(())
}

/// Why no more snapshots are passed on.
#[derive(Debug, Eq, PartialEq)]
enum End {
    /// The application is gone.
    Application,
    /// The window is gone.
    Window,
}

/// Passes snapshots to `send` while the window is shown; the newest one at once when it is shown again.
async fn forward(
    mut snapshots: values::Receiver<Arc<Snapshot>>,
    mut shown: values::Receiver<bool>,
    send: &mut (impl FnMut(Snapshot) -> bool + Send),
) -> End {
    loop {
        if shown.wait_for(|shown| *shown).await.is_err() {
            return End::Window;
        }
        let snapshot = Snapshot::clone(&snapshots.borrow_and_update());
        if !send(snapshot) {
            return End::Window;
        }
        tokio::select! {
            changed = snapshots.changed() => if changed.is_err() { return End::Application },
            // Hidden: wait at the top until it is shown again.
            hidden = shown.wait_for(|shown| !*shown) => if hidden.is_err() { return End::Window },
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;

    fn snapshot(waiting: usize) -> Arc<Snapshot> {
        Arc::new(Snapshot { waiting, ..Snapshot::default() })
    }

    #[tokio::test]
    async fn a_hidden_window_gets_nothing_and_the_newest_snapshot_when_shown_again() {
        let (snapshots, shown) = (values::Sender::new(snapshot(1)), values::Sender::new(true));
        let (sender, mut received) = mpsc::unbounded_channel();
        let (from, visible) = (snapshots.subscribe(), shown.subscribe());
        let task = tokio::spawn(async move {
            forward(from, visible, &mut |snapshot: Snapshot| sender.send(snapshot.waiting).is_ok()).await
        });
        assert_eq!(received.recv().await, Some(1));
        shown.send_replace(false);
        tokio::task::yield_now().await;
        snapshots.send_replace(snapshot(2));
        snapshots.send_replace(snapshot(3));
        tokio::task::yield_now().await;
        assert!(received.try_recv().is_err(), "nothing is sent to a hidden window");
        shown.send_replace(true);
        assert_eq!(received.recv().await, Some(3));
        drop(snapshots);
        assert_eq!(task.await.expect("it ends"), End::Application);
    }
}
