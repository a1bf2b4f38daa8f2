//! The tray icon and its native menu.
//!
//! What they show is a [`Face`], a pure function of the newest snapshot; the menu is touched only where the face changed,
//! because a menu that is rebuilt while it is open flickers or closes.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use embedbar_app::Access;
use embedbar_contract::{
    CleanupReceipt, CleanupRequest, Commands, Empty, EnvChoice, EnvState, Failure, MemoryReading, ModelChoice,
    ModelHealth, ModelInfo, PauseRequest, Remote,
};
use tauri::image::Image;
use tauri::menu::{CheckMenuItem, IsMenuItem, Menu, MenuEvent, MenuItem, PredefinedMenuItem, Submenu};
use tauri::tray::{MouseButton, MouseButtonState, TrayIcon, TrayIconBuilder, TrayIconEvent};
use tauri::{AppHandle, Manager, Wry};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::backend::{Backend, Running};
use crate::shell;
use crate::windows::{self, View};

#[cfg(any(target_os = "macos", test))]
mod dragged;
#[cfg(target_os = "macos")]
mod drop;
mod face;

use face::{Face, Symbol, format_memory, short_path, shorten};

/// How often the list of models is read again although the active model has not changed.
const MODELS_INTERVAL: Duration = Duration::from_secs(10);

/// Stands in front of a model's id in the id of its menu item.
const MODEL_PREFIX: &str = "model:";

/// Stands in front of a file's path in the id of its menu item.
const ENV_PREFIX: &str = "env:";

/// The id of the menu item that follows no file.
const NO_ENV: &str = "no-env";

/// The tray icon and the menu items that change.
pub(crate) struct Tray {
    icon: TrayIcon,
    menu: Menu<Wry>,
    status: MenuItem<Wry>,
    notice: MenuItem<Wry>,
    models: Submenu<Wry>,
    envs: Submenu<Wry>,
    pause: CheckMenuItem<Wry>,
    state: Mutex<State>,
    /// Notified when an entry's action has ended.
    acted: Notify,
}

/// What the tray shows now.
#[derive(Default)]
struct State {
    face: Option<Face>,
    notice: Option<String>,
    /// What the second line says when there is nothing newer.
    warning: Option<String>,
    /// Each model's id and item.
    models: Vec<(String, CheckMenuItem<Wry>)>,
    /// Likewise of each approved `.env`, and of none at last.
    envs: Vec<(String, CheckMenuItem<Wry>)>,
}

impl Tray {
    /// Makes icon and menu; they say that Embedbar is starting.
    pub(crate) fn build(app: &AppHandle) -> tauri::Result<Self> {
        let status = MenuItem::with_id(app, "status", "Embedbar is starting…", false, None::<&str>)?;
        let notice = MenuItem::with_id(app, "notice", "", false, None::<&str>)?;
        let models = Submenu::with_id(app, "models", "Active model", true)?;
        let envs = Submenu::with_id(app, "envs", ".env file", true)?;
        let pause = CheckMenuItem::with_id(app, "pause", "Pause", true, false, None::<&str>)?;
        let separator = || PredefinedMenuItem::separator(app);
        let item = |id: &str, text: &str| MenuItem::with_id(app, id, text, true, None::<&str>);
        let menu = Menu::with_items(
            app,
            &[
                &status,
                &separator()?,
                &item("search", "Search…")?,
                &item("panel", "Panel")?,
                &item("library", "Models…")?,
                &models,
                &envs,
                &item("cleanup", "Clean up memory")?,
                &pause,
                &separator()?,
                &item("quit", "Quit")?,
            ],
        )?;
        let icon = TrayIconBuilder::with_id("embedbar")
            .icon(image(Symbol::Unknown))
            .icon_as_template(IS_TEMPLATE)
            .tooltip("Embedbar")
            .menu(&menu)
            // Elsewhere the menu is all there is: clicks do not reach us.
            .show_menu_on_left_click(!cfg!(target_os = "macos"))
            .on_menu_event(|app, event| on_menu_event(app, &event))
            .on_tray_icon_event(|icon, event| on_icon_event(icon, &event))
            .build(app)?;
        #[cfg(target_os = "macos")]
        drop::accept(app, &icon)?;
        let (state, acted) = (Mutex::default(), Notify::new());
        Ok(Self { icon, menu, status, notice, models, envs, pause, state, acted })
    }

    /// Shows `sentence` whenever there is nothing newer to say.
    pub(crate) fn warn(&self, sentence: String) {
        self.state().warning = Some(sentence);
        self.notice(None);
    }

    /// Shows a second line at the top of the menu: `text`, or the standing warning, or none.
    fn notice(&self, text: Option<&str>) {
        let mut state = self.state();
        let warning = state.warning.clone();
        let text = text.or(warning.as_deref());
        let outcome = match (text, state.notice.as_deref()) {
            (Some(text), None) => self.notice.set_text(text).and_then(|()| self.menu.insert(&self.notice, 1)),
            (Some(text), Some(_)) => self.notice.set_text(text),
            (None, Some(_)) => self.menu.remove(&self.notice),
            (None, None) => Ok(()),
        };
        report(outcome);
        state.notice = text.map(str::to_owned);
    }

    /// Shows `face`, and the items' check marks even where it has not changed: a click has toggled them already.
    fn show(&self, face: &Face, checks_too: bool) {
        let mut state = self.state();
        let former = state.face.as_ref();
        if former.is_none_or(|former| former.symbol != face.symbol) {
            report(self.icon.set_icon_with_as_template(Some(image(face.symbol)), IS_TEMPLATE));
        }
        if former.is_none_or(|former| former.status != face.status) {
            report(self.status.set_text(&face.status));
        }
        if former.is_none_or(|former| former.tooltip != face.tooltip) {
            report(self.icon.set_tooltip(Some(&face.tooltip)));
        }
        if checks_too || former.is_none_or(|former| former.paused != face.paused) {
            report(self.pause.set_checked(face.paused));
        }
        state.face = Some(face.clone());
    }

    /// Shows the models, the active one checked.
    fn show_models(&self, app: &AppHandle, models: &[ModelInfo]) -> tauri::Result<()> {
        let entries = models.iter().filter(|model| can_be_active(model)).map(|model| Entry {
            id: format!("{MODEL_PREFIX}{}", model.id),
            text: model.id.clone(),
            checked: model.active,
        });
        show_entries(app, &self.models, &mut self.state().models, &entries.collect::<Vec<_>>())
    }

    /// Shows the files that can be followed, the followed one checked; a file that is followed without being approved too.
    fn show_envs(&self, app: &AppHandle, state: &EnvState) -> tauri::Result<()> {
        let followed = state.env.as_ref().map(|env| &env.path);
        let other = followed.filter(|path| !state.known.contains(path));
        let mut entries: Vec<Entry> = state
            .known
            .iter()
            .chain(other)
            .map(|path| Entry {
                id: format!("{ENV_PREFIX}{path}"),
                text: short_path(path),
                checked: followed == Some(path),
            })
            .collect();
        entries.push(Entry { id: NO_ENV.to_owned(), text: "None".to_owned(), checked: followed.is_none() });
        show_entries(app, &self.envs, &mut self.state().envs, &entries)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a model can be made active: not one that failed its test, nor one whose files are gone.
fn can_be_active(model: &ModelInfo) -> bool {
    match model.health {
        ModelHealth::Untested | ModelHealth::Passed => true,
        ModelHealth::Quarantined { .. } | ModelHealth::Missing { .. } => false,
    }
}

/// One line of a submenu of which one is checked.
struct Entry {
    id: String,
    text: String,
    checked: bool,
}

/// Makes a submenu show these lines; it is rebuilt only where there are other ones.
fn show_entries(
    app: &AppHandle,
    menu: &Submenu<Wry>,
    shown: &mut Vec<(String, CheckMenuItem<Wry>)>,
    entries: &[Entry],
) -> tauri::Result<()> {
    if !shown.iter().map(|(id, _)| id).eq(entries.iter().map(|entry| &entry.id)) {
        for (_, item) in shown.drain(..) {
            menu.remove(&item)?;
        }
        for Entry { id, text, checked } in entries {
            let item = CheckMenuItem::with_id(app, id, text, true, *checked, None::<&str>)?;
            menu.append(&item as &dyn IsMenuItem<Wry>)?;
            shown.push((id.clone(), item));
        }
    }
    for ((_, item), entry) in shown.iter().zip(entries) {
        if item.is_checked()? != entry.checked {
            item.set_checked(entry.checked)?;
        }
    }
    Ok(())
}

/// Keeps the tray in step with the application for as long as the shell runs.
pub(crate) async fn follow(app: AppHandle) {
    let backend = app.state::<Backend>().inner().clone();
    let mut failed_before = false;
    loop {
        match backend.running().await {
            Ok(running) => {
                failed_before = false;
                follow_one(&app, running).await;
            }
            Err(failure) => {
                app.state::<Tray>().show(&Face::of_failed_start(&failure), true);
                if !failed_before {
                    windows::open(&app, View::Panel);
                }
                failed_before = true;
                backend.next_attempt().await;
            }
        }
    }
}

/// Shows one application's snapshots until it is gone.
async fn follow_one(app: &AppHandle, running: Running) {
    let tray = app.state::<Tray>();
    let mut snapshots = running.snapshots;
    let mut models_read: Option<Instant> = None;
    loop {
        let face = Face::of(&snapshots.borrow_and_update());
        let differs = |former: &Face| former.status != face.status || former.env != face.env;
        let changed = tray.state().face.as_ref().is_none_or(differs);
        tray.show(&face, false);
        if changed || models_read.is_none_or(|moment| moment.elapsed() > MODELS_INTERVAL) {
            models_read = Some(Instant::now());
            refresh_models(app, &running.application).await;
        }
        tokio::select! {
            changed = snapshots.changed() => if changed.is_err() { return },
            () = tray.acted.notified() => {
                tray.show(&Face::of(&snapshots.borrow_and_update()), true);
                models_read = None;
            }
        }
    }
}

async fn refresh_models(app: &AppHandle, application: &Remote<Access>) {
    match application.models(Empty {}).await {
        Ok(models) => report(app.state::<Tray>().show_models(app, &models.models)),
        Err(failure) => tracing::warn!(%failure, "the models cannot be listed"),
    }
    match application.env(Empty {}).await {
        Ok(state) => report(app.state::<Tray>().show_envs(app, &state)),
        Err(failure) => tracing::warn!(%failure, "the files that can be followed cannot be listed"),
    }
}

fn on_icon_event(icon: &TrayIcon, event: &TrayIconEvent) {
    if let TrayIconEvent::Click { button: MouseButton::Left, button_state: MouseButtonState::Up, rect, .. } = event {
        windows::toggle_panel_at(icon.app_handle(), *rect);
    }
}

fn on_menu_event(app: &AppHandle, event: &MenuEvent) {
    match event.id().as_ref() {
        "search" => windows::open(app, View::Search),
        "panel" => windows::open(app, View::Panel),
        "library" => windows::open(app, View::Library),
        "quit" => shell::quit(app),
        "cleanup" => act(app, |application| async move {
            let receipt = application.cleanup(CleanupRequest::default()).await?;
            Ok(Some(receipt_line(&receipt)))
        }),
        "pause" => act(app, |application| async move {
            let paused = !application.snapshot(Empty {}).await?.paused;
            application.pause(PauseRequest { paused }).await?;
            Ok(None)
        }),
        NO_ENV => follow_env(app, None),
        id => {
            if let Some(path) = id.strip_prefix(ENV_PREFIX) {
                follow_env(app, Some(path.to_owned()));
            } else if let Some(model) = id.strip_prefix(MODEL_PREFIX) {
                choose(app, model);
            }
        }
    }
}

/// Makes a model active. Where the followed `.env` asks for another one, the panel shows what it would have to say.
fn choose(app: &AppHandle, model: &str) {
    let (panel, choice) = (app.clone(), ModelChoice { model: model.to_owned() });
    act(app, |application| async move {
        application.activate(choice).await?;
        let chosen = application.env(Empty {}).await?.env.and_then(|env| env.chosen);
        let line = chosen.map(|chosen| {
            windows::open(&panel, View::Panel);
            shorten(&format!("`{}` answers until you quit; the panel says how to keep it", chosen.model))
        });
        Ok(line)
    });
}

/// Follows another file, or none.
fn follow_env(app: &AppHandle, path: Option<String>) {
    act(app, |application| async move {
        application.follow(EnvChoice { path }).await?;
        Ok(None)
    });
}

/// Carries out what an item stands for; what it gives becomes the menu's second line, and a failure opens the panel too.
fn act<F, A>(app: &AppHandle, action: F)
where
    F: FnOnce(Arc<Remote<Access>>) -> A + Send + 'static,
    A: Future<Output = Result<Option<String>, Failure>> + Send,
{
    let app = app.clone();
    tauri::async_runtime::spawn(async move {
        let backend = app.state::<Backend>().inner().clone();
        let outcome = match backend.running().await {
            Ok(running) => action(running.application).await,
            Err(failure) => Err(failure),
        };
        let tray = app.state::<Tray>();
        match outcome {
            Ok(line) => tray.notice(line.as_deref()),
            Err(failure) => {
                tracing::warn!(%failure, "an action of the tray failed");
                tray.notice(Some(&shorten(&failure.message)));
                windows::open(&app, View::Panel);
            }
        }
        tray.acted.notify_one();
    });
}

fn receipt_line(receipt: &CleanupReceipt) -> String {
    let available = |reading: &MemoryReading| reading.available_bytes;
    match available(&receipt.after).zip(available(&receipt.before)).map(|(after, before)| after.saturating_sub(before))
    {
        None => "Clean-up: what it gained is not known".to_owned(),
        Some(0) => "Clean-up: nothing to gain".to_owned(),
        Some(gained) => format!("Clean-up: {} more are available", format_memory(gained)),
    }
}

/// macOS draws a template black on a light bar and white on a dark one; other systems show an icon as it is.
const IS_TEMPLATE: bool = cfg!(target_os = "macos");

fn image(symbol: Symbol) -> Image<'static> {
    let template = template(symbol);
    if IS_TEMPLATE {
        return template;
    }
    let (red, green, blue) = symbol.tint();
    let rgba = template.rgba().chunks_exact(4).flat_map(|pixel| [red, green, blue, pixel[3]]).collect();
    Image::new_owned(rgba, template.width(), template.height())
}

fn template(symbol: Symbol) -> Image<'static> {
    match symbol {
        Symbol::Normal => tauri::include_image!("../icons/tray/normal.png"),
        Symbol::Warn => tauri::include_image!("../icons/tray/warn.png"),
        Symbol::Critical => tauri::include_image!("../icons/tray/critical.png"),
        Symbol::Unknown => tauri::include_image!("../icons/tray/unknown.png"),
        Symbol::Paused => tauri::include_image!("../icons/tray/paused.png"),
    }
}

/// A menu that cannot be changed is worth a line in the log and nothing more.
fn report(outcome: tauri::Result<()>) {
    if let Err(error) = outcome {
        tracing::warn!(%error, "the tray could not be changed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(not(target_os = "macos"))]
    #[test]
    fn an_icon_keeps_its_shape_and_gets_a_colour() {
        let (drawn, shown) = (template(Symbol::Warn), image(Symbol::Warn));
        assert_eq!((drawn.width(), drawn.height()), (shown.width(), shown.height()));
        let (red, green, blue) = Symbol::Warn.tint();
        for (before, after) in drawn.rgba().chunks_exact(4).zip(shown.rgba().chunks_exact(4)) {
            assert_eq!(after, [red, green, blue, before[3]]);
        }
    }

    fn receipt(before: Option<u64>, after: Option<u64>) -> CleanupReceipt {
        let reading = |available_bytes| MemoryReading { available_bytes, ..MemoryReading::default() };
        let (items, disk) = (Vec::new(), Vec::new());
        CleanupReceipt { dry_run: false, items, disk, before: reading(before), after: reading(after) }
    }

    #[test]
    fn a_receipt_claims_only_what_was_measured() {
        assert_eq!(receipt_line(&receipt(None, Some(5))), "Clean-up: what it gained is not known");
        assert_eq!(receipt_line(&receipt(Some(5), Some(4))), "Clean-up: nothing to gain");
        assert_eq!(receipt_line(&receipt(Some(0), Some(3 << 29))), "Clean-up: 1.5 GB more are available");
    }
}
