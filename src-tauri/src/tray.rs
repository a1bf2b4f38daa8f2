//! The tray icon and its native menu.
//!
//! What they show is a [`Face`], a pure function of the newest snapshot; the menu is touched only where the face changed,
//! because a menu that is rebuilt while it is open flickers or closes.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use embedbar_app::Access;
use embedbar_contract::{
    CleanupReceipt, CleanupRequest, Commands, Empty, Failure, ModelChoice, ModelInfo, PauseRequest, Remote,
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

mod face;

use face::{Face, Symbol, format_memory, shorten};

/// How often the list of models is read again although the active model has not changed.
const MODELS_INTERVAL: Duration = Duration::from_secs(10);

/// Stands in front of a model's id in the id of its menu item.
const MODEL_PREFIX: &str = "model:";

/// The tray icon and the menu items that change.
pub(crate) struct Tray {
    icon: TrayIcon,
    menu: Menu<Wry>,
    status: MenuItem<Wry>,
    notice: MenuItem<Wry>,
    models: Submenu<Wry>,
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
}

impl Tray {
    /// Makes icon and menu; they say that Embedbar is starting.
    pub(crate) fn build(app: &AppHandle) -> tauri::Result<Self> {
        let status = MenuItem::with_id(app, "status", "Embedbar is starting…", false, None::<&str>)?;
        let notice = MenuItem::with_id(app, "notice", "", false, None::<&str>)?;
        let models = Submenu::with_id(app, "models", "Models", true)?;
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
                &models,
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
        let (state, acted) = (Mutex::default(), Notify::new());
        Ok(Self { icon, menu, status, notice, models, pause, state, acted })
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
        let mut state = self.state();
        if !state.models.iter().map(|(id, _)| id).eq(models.iter().map(|model| &model.id)) {
            for (_, item) in state.models.drain(..) {
                self.models.remove(&item)?;
            }
            for model in models {
                let id = format!("{MODEL_PREFIX}{}", model.id);
                let item = CheckMenuItem::with_id(app, id, &model.id, true, model.active, None::<&str>)?;
                self.models.append(&item as &dyn IsMenuItem<Wry>)?;
                state.models.push((model.id.clone(), item));
            }
        }
        for ((_, item), model) in state.models.iter().zip(models) {
            if item.is_checked()? != model.active {
                item.set_checked(model.active)?;
            }
        }
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
        let model_changed = tray.state().face.as_ref().is_none_or(|former| former.status != face.status);
        tray.show(&face, false);
        if model_changed || models_read.is_none_or(|moment| moment.elapsed() > MODELS_INTERVAL) {
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
        id => {
            if let Some(model) = id.strip_prefix(MODEL_PREFIX) {
                let choice = ModelChoice { model: model.to_owned() };
                act(app, |application| async move {
                    application.activate(choice).await?;
                    Ok(None)
                });
            }
        }
    }
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
    let measured: Vec<u64> = receipt.items.iter().filter_map(|item| item.freed_bytes).collect();
    if measured.is_empty() {
        return "Clean-up: nothing to give back".to_owned();
    }
    format!("Clean-up gave back {}", format_memory(measured.iter().sum()))
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
    use embedbar_contract::{CleanupItem, MemoryReading};

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

    fn receipt(freed: &[Option<u64>]) -> CleanupReceipt {
        let items = freed.iter().map(|freed| CleanupItem { action: String::new(), freed_bytes: *freed }).collect();
        let reading = MemoryReading::default();
        CleanupReceipt { dry_run: false, items, before: reading.clone(), after: reading }
    }

    #[test]
    fn a_receipt_claims_only_what_was_measured() {
        assert_eq!(receipt_line(&receipt(&[])), "Clean-up: nothing to give back");
        assert_eq!(receipt_line(&receipt(&[None])), "Clean-up: nothing to give back");
        assert_eq!(receipt_line(&receipt(&[Some(3 << 29), None])), "Clean-up gave back 1.5 GB");
    }
}
