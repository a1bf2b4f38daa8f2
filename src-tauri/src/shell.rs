//! Puts the shell together: plugins, commands, events, and the way out.

use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};

use embedbar_app::{Access, Logging, Options, Simulation};
use embedbar_contract::Failure;
use embedbar_store::Home;
use tauri::{AppHandle, Manager, RunEvent};

use crate::backend::Backend;
use crate::tray::{self, Tray};
use crate::windows::{self, View, Windows};
use crate::{rpc, shortcut};

/// Keeps the log open from the moment that we know we are the only instance to the program's end.
type LogSlot = Arc<Mutex<Option<Logging>>>;

/// Runs until the person quits or the system asks us to; gives the exit status.
pub(crate) fn run() -> Result<i32, Box<dyn Error>> {
    let log = LogSlot::default();
    let builder = tauri::Builder::default()
        // First: a second start hands its wish to the first and ends before anything else is set up.
        .plugin(tauri_plugin_single_instance::init(|app, arguments, _| {
            windows::open(app, View::from_arguments(&arguments).unwrap_or(View::Panel));
        }));
    #[cfg(feature = "webdriver")]
    let builder = builder.plugin(tauri_plugin_webdriver::init());
    let app = builder
        .manage(Windows::from_environment())
        .manage(Backend::new())
        .invoke_handler(tauri::generate_handler![rpc::rpc, rpc::watch, rpc::hide_window, rpc::open_library])
        .on_window_event(windows::on_event)
        .setup({
            let log = Arc::clone(&log);
            move |app| setup(app, log)
        })
        .build(tauri::generate_context!())?;
    let status = app.run_return(on_run_event);
    drop(log.lock().unwrap_or_else(PoisonError::into_inner).take());
    Ok(status)
}

/// Finds the owner of the home or becomes it, with a log from the first success on.
async fn open_application(log: LogSlot) -> Result<Access, Failure> {
    let home = Home::open(None)?;
    {
        let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
        if log.is_none() {
            // A log that cannot be written is said and no reason to stop.
            *log =
                embedbar_app::log_to_files(&home.logs()).inspect_err(|failure| eprintln!("embedbar: {failure}")).ok();
        }
    }
    let simulation = Simulation::from_environment()?;
    Access::open(Options { stay: true, simulation, ..Options::default() }).await
}

fn setup(app: &mut tauri::App, log: LogSlot) -> Result<(), Box<dyn Error>> {
    #[cfg(target_os = "macos")]
    app.set_activation_policy(tauri::ActivationPolicy::Accessory);
    let handle = app.handle().clone();
    let tray = Tray::build(&handle)?;
    if let Err(sentence) = shortcut::register(&handle) {
        tray.warn(sentence);
    }
    app.manage(tray);

    let backend = app.state::<Backend>().inner().clone();
    tauri::async_runtime::spawn(async move {
        backend.keep(|| open_application(Arc::clone(&log))).await;
    });
    tauri::async_runtime::spawn(tray::follow(handle.clone()));
    tauri::async_runtime::spawn(quit_on_signal(handle.clone()));
    if let Some(view) = View::from_arguments(&std::env::args().collect::<Vec<_>>()) {
        windows::open(&handle, view);
    }
    Ok(())
}

fn on_run_event(app: &AppHandle, event: RunEvent) {
    match event {
        // The last window was destroyed: the tray stays.
        RunEvent::ExitRequested { code: None, api, .. } => api.prevent_exit(),
        // Reached without `quit` when the system logs the person out.
        RunEvent::Exit => tauri::async_runtime::block_on(app.state::<Backend>().stop()),
        #[cfg(target_os = "macos")]
        RunEvent::Reopen { .. } => windows::open(app, View::Panel),
        _ => {}
    }
}

/// Stops the application, then ends the program.
pub(crate) fn quit(app: &AppHandle) {
    let app = app.clone();
    tauri::async_runtime::spawn(async move {
        let backend = app.state::<Backend>().inner().clone();
        backend.stop().await;
        app.exit(0);
    });
}

#[cfg(unix)]
async fn quit_on_signal(app: AppHandle) {
    use tokio::signal::unix::{SignalKind, signal};

    let (terminate, interrupt) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()));
    let (Ok(mut terminate), Ok(mut interrupt)) = (terminate, interrupt) else {
        tracing::warn!("signals cannot be watched; a SIGTERM ends the program without stopping its jobs first");
        return;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    quit(&app);
}

#[cfg(not(unix))]
async fn quit_on_signal(_: AppHandle) {}
