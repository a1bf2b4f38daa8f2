//! The windows: made when they are opened, hidden when the person turns away or closes them, destroyed some seconds later.
//!
//! The library stays when the person turns away: things are dragged into it from other windows.
//!
//! A hidden web view keeps hundreds of megabytes, and this program exists to save memory: nothing of a window outlives
//! [`Windows::linger`]. Everything that touches a window runs on the main thread, one after the other.
//!
//! Two variables of the environment are for tests: `EMBEDBAR_WINDOW_LINGER_MS` (how long a hidden window is kept) and
//! `EMBEDBAR_KEEP_WINDOWS=1` (windows stay when they lose the focus).

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tauri::async_runtime::JoinHandle;
use tauri::webview::NewWindowResponse;
use tauri::{
    AppHandle, Manager, Monitor, PhysicalPosition, Rect, Url, WebviewUrl, WebviewWindow, WebviewWindowBuilder, Window,
    WindowEvent,
};
use tokio::sync::watch;

mod placement;

use placement::{Area, Point, Size};

/// How long a hidden window is kept, for a person who looks twice.
const LINGER: Duration = Duration::from_secs(15);

/// A click on the tray icon takes the focus from the panel first: within this time it means "close", not "open again".
const SAME_CLICK: Duration = Duration::from_millis(300);

/// What the pages leave free on each side for the shadow that they draw themselves: `--shadow-room` in `ui/src/styles`.
const SHADOW_ROOM: f64 = if cfg!(target_os = "macos") { 0.0 } else { 10.0 };

/// The windows there are.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) enum View {
    /// Memory, model, queries, jobs.
    Panel,
    /// One line to type into and what it finds.
    Search,
    /// The models there are, and how to get others.
    Library,
}

impl View {
    /// The window's label, which the capabilities name.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Panel => "panel",
            Self::Search => "search",
            Self::Library => "library",
        }
    }

    /// The view with this label.
    pub(crate) fn from_label(label: &str) -> Option<Self> {
        [Self::Panel, Self::Search, Self::Library].into_iter().find(|view| view.label() == label)
    }

    /// The view that a command line asks for, its first word being the program.
    pub(crate) fn from_arguments(arguments: &[String]) -> Option<Self> {
        arguments.iter().skip(1).find_map(|argument| Self::from_label(argument))
    }

    fn title(self) -> &'static str {
        match self {
            Self::Panel => "Embedbar",
            Self::Search => "Embedbar search",
            Self::Library => "Models",
        }
    }

    /// Whether it is a window like any other, with the system's frame, which other windows may cover; the others float, draw
    /// their own edge and hide when the person turns away.
    fn is_framed(self) -> bool {
        matches!(self, Self::Library)
    }

    fn page(self) -> WebviewUrl {
        WebviewUrl::App(format!("index.html?view={}", self.label()).into())
    }

    /// In logical pixels, with room for the shadow where the page draws it.
    fn size(self) -> Size {
        let (width, height) = match self {
            Self::Panel => (380.0, 600.0),
            Self::Search => (720.0, 480.0),
            Self::Library => return Size { width: 760.0, height: 560.0 },
        };
        Size { width: width + 2.0 * SHADOW_ROOM, height: height + 2.0 * SHADOW_ROOM }
    }
}

/// The smallest that a framed window can be made, in logical pixels.
const SMALLEST: Size = Size { width: 620.0, height: 420.0 };

/// What is known of one window between its openings.
#[derive(Default)]
struct Entry {
    shown: watch::Sender<bool>,
    /// Counts the times it was hidden: a later one makes an earlier clock void.
    hidden: u64,
    /// Whether it has had the focus since it was shown; before that, losing it means nothing.
    focused: bool,
    /// When it was hidden because it lost the focus.
    turned_away: Option<Instant>,
    /// What runs for the page and ends with the window.
    task: Option<JoinHandle<()>>,
}

/// The windows' state, managed by Tauri.
pub(crate) struct Windows {
    linger: Duration,
    hide_on_blur: bool,
    entries: Mutex<HashMap<View, Entry>>,
    /// Where the tray icon was last clicked.
    anchor: Mutex<Option<Area>>,
}

impl Windows {
    /// Reads the two variables that tests set.
    pub(crate) fn from_environment() -> Self {
        let linger = std::env::var("EMBEDBAR_WINDOW_LINGER_MS").ok().and_then(|text| text.parse().ok());
        Self {
            linger: linger.map_or(LINGER, Duration::from_millis),
            hide_on_blur: std::env::var_os("EMBEDBAR_KEEP_WINDOWS").is_none_or(|value| value != "1"),
            entries: Mutex::default(),
            anchor: Mutex::default(),
        }
    }

    /// Whether the window is shown, and when that changes.
    pub(crate) fn shown(&self, view: View) -> watch::Receiver<bool> {
        self.entries().entry(view).or_default().shown.subscribe()
    }

    /// Ends `task` when the window is destroyed or brings another one.
    pub(crate) fn keep_until_closed(&self, view: View, task: JoinHandle<()>) {
        if let Some(former) = self.entries().entry(view).or_default().task.replace(task) {
            former.abort();
        }
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<View, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<T>(&self, view: View, change: impl FnOnce(&mut Entry) -> T) -> T {
        change(self.entries().entry(view).or_default())
    }

    fn anchor(&self) -> MutexGuard<'_, Option<Area>> {
        self.anchor.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Shows the window, making it first where there is none.
pub(crate) fn open(app: &AppHandle, view: View) {
    on_main_thread(app, move |app| open_now(app, view));
}

/// Shows the library; with what installing `source` would take, where something is named.
pub(crate) fn open_library(app: &AppHandle, source: Option<String>) {
    on_main_thread(app, move |app| {
        open_now(app, View::Library)?;
        let Some((source, window)) = source.zip(app.get_webview_window(View::Library.label())) else { return Ok(()) };
        // A page that is loaded already goes nowhere: it is told that the fragment of its address has changed.
        window.navigate(looking_at(window.url()?, &source))
    });
}

/// The address of a page with what it is to look at, in a fragment, as `ui/src/platform/look.ts` reads it.
fn looking_at(mut page: Url, source: &str) -> Url {
    let mut query = page.clone();
    query.set_query(None);
    query.query_pairs_mut().append_pair("look", source);
    page.set_fragment(query.query());
    page
}

/// Hides the window if it is shown, opens it if not.
///
/// Whether it has the focus is not asked: on X11 the key that brought us here has just taken it.
pub(crate) fn toggle(app: &AppHandle, view: View) {
    on_main_thread(app, move |app| {
        let shown = app.get_webview_window(view.label()).is_some_and(|window| window.is_visible().unwrap_or(false));
        let same_click = app.state::<Windows>().with(view, |entry| entry.turned_away.take());
        if shown {
            hide_now(app, view);
            Ok(())
        } else if same_click.is_some_and(|moment| moment.elapsed() < SAME_CLICK) {
            Ok(())
        } else {
            open_now(app, view)
        }
    });
}

/// Toggles the panel below the tray icon, which is at `icon`.
pub(crate) fn toggle_panel_at(app: &AppHandle, icon: Rect) {
    let scale = app.primary_monitor().ok().flatten().map_or(1.0, |monitor| monitor.scale_factor());
    let (position, size) = (icon.position.to_physical::<f64>(scale), icon.size.to_physical::<f64>(scale));
    *app.state::<Windows>().anchor() =
        Some(Area { x: position.x, y: position.y, width: size.width, height: size.height });
    toggle(app, View::Panel);
}

/// Hides the window; it is destroyed unless it is shown again soon.
pub(crate) fn hide(app: &AppHandle, view: View) {
    on_main_thread(app, move |app| {
        hide_now(app, view);
        Ok(())
    });
}

/// Follows what happens to the windows.
pub(crate) fn on_event(window: &Window, event: &WindowEvent) {
    let Some(view) = View::from_label(window.label()) else { return };
    let windows = window.state::<Windows>();
    match event {
        WindowEvent::CloseRequested { api, .. } => {
            api.prevent_close();
            hide_now(window.app_handle(), view);
        }
        WindowEvent::Focused(true) => windows.with(view, |entry| entry.focused = true),
        WindowEvent::Focused(false) if windows.hide_on_blur && !view.is_framed() => {
            let turned_away = windows.with(view, |entry| {
                let turned_away = entry.focused && *entry.shown.borrow();
                entry.turned_away = turned_away.then(Instant::now);
                turned_away
            });
            if turned_away {
                hide_now(window.app_handle(), view);
            }
        }
        WindowEvent::Destroyed => {
            let task = windows.with(view, |entry| {
                entry.shown.send_replace(false);
                entry.task.take()
            });
            if let Some(task) = task {
                task.abort();
            }
        }
        _ => {}
    }
}

fn on_main_thread(app: &AppHandle, work: impl FnOnce(&AppHandle) -> tauri::Result<()> + Send + 'static) {
    let handle = app.clone();
    let sent = app.run_on_main_thread(move || {
        if let Err(error) = work(&handle) {
            tracing::error!(%error, "a window could not be shown");
        }
    });
    if let Err(error) = sent {
        tracing::error!(%error, "the main thread is gone");
    }
}

fn open_now(app: &AppHandle, view: View) -> tauri::Result<()> {
    let window = match app.get_webview_window(view.label()) {
        Some(window) => window,
        None => build(app, view)?,
    };
    let windows = app.state::<Windows>();
    if !window.is_visible()? {
        if let Some(place) = place(app, &window, view) {
            window.set_position(PhysicalPosition::new(place.x, place.y))?;
        }
        windows.with(view, |entry| entry.focused = false);
        window.show()?;
    }
    windows.with(view, |entry| entry.shown.send_replace(true));
    window.set_focus()
}

fn hide_now(app: &AppHandle, view: View) {
    let Some(window) = app.get_webview_window(view.label()) else { return };
    if let Err(error) = window.hide() {
        tracing::warn!(%error, "the window `{}` could not be hidden", view.label());
    }
    let windows = app.state::<Windows>();
    let hidden = windows.with(view, |entry| {
        entry.shown.send_replace(false);
        entry.hidden += 1;
        entry.hidden
    });
    let (app, linger) = (app.clone(), windows.linger);
    tauri::async_runtime::spawn(async move {
        tokio::time::sleep(linger).await;
        on_main_thread(&app, move |app| destroy_if_hidden(app, view, hidden));
    });
}

/// Destroys the window unless it was shown again since it was hidden for the `hidden`th time.
fn destroy_if_hidden(app: &AppHandle, view: View, hidden: u64) -> tauri::Result<()> {
    let untouched = app.state::<Windows>().with(view, |entry| entry.hidden == hidden && !*entry.shown.borrow());
    match app.get_webview_window(view.label()) {
        Some(window) if untouched => window.destroy(),
        _ => Ok(()),
    }
}

fn build(app: &AppHandle, view: View) -> tauri::Result<WebviewWindow> {
    let (size, framed) = (view.size(), view.is_framed());
    let builder = WebviewWindowBuilder::new(app, view.label(), view.page())
        .title(view.title())
        .inner_size(size.width, size.height)
        .decorations(framed)
        .transparent(!framed)
        // The floating pages draw their own edge and shadow; the system's would follow the square window.
        .shadow(framed || cfg!(target_os = "macos"))
        .resizable(framed)
        .maximizable(framed)
        .minimizable(framed)
        .always_on_top(!framed)
        .skip_taskbar(!framed)
        .visible_on_all_workspaces(!framed)
        .accept_first_mouse(!framed);
    let builder = if framed { builder.min_inner_size(SMALLEST.width, SMALLEST.height) } else { builder };
    builder
        .visible(false)
        .devtools(cfg!(debug_assertions))
        .on_navigation(is_own_page)
        .on_new_window(|_, _| NewWindowResponse::Deny)
        .build()
}

/// Whether `url` is a page of this program: nothing else is ever loaded into a window.
fn is_own_page(url: &Url) -> bool {
    url.scheme() == "tauri" && url.host_str() == Some("localhost")
}

/// The window's place in physical pixels, or `None` where the system tells no monitor and places it itself.
fn place(app: &AppHandle, window: &WebviewWindow, view: View) -> Option<Point> {
    let monitor = monitor(app)?;
    let work_area = monitor.work_area();
    let area = Area {
        x: f64::from(work_area.position.x),
        y: f64::from(work_area.position.y),
        width: f64::from(work_area.size.width),
        height: f64::from(work_area.size.height),
    };
    // Before it is shown for the first time a window does not know its size.
    let scale = window.scale_factor().unwrap_or_else(|_| monitor.scale_factor());
    let size = Size { width: view.size().width * scale, height: view.size().height * scale };
    Some(match view {
        View::Panel => placement::panel(*app.state::<Windows>().anchor(), area, size),
        View::Search | View::Library => placement::search(area, size),
    })
}

/// The monitor that the person looks at: where the pointer is.
fn monitor(app: &AppHandle) -> Option<Monitor> {
    let pointer = app.cursor_position().ok();
    pointer
        .and_then(|at| app.monitor_from_point(at.x, at.y).ok().flatten())
        .or_else(|| app.primary_monitor().ok().flatten())
        .or_else(|| app.available_monitors().ok().and_then(|monitors| monitors.into_iter().next()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_names_the_window_it_wants() {
        let arguments = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(View::from_arguments(&arguments(&["embedbar-desktop", "search"])), Some(View::Search));
        assert_eq!(View::from_arguments(&arguments(&["embedbar-desktop", "--quiet", "panel"])), Some(View::Panel));
        assert_eq!(View::from_arguments(&arguments(&["search"])), None, "the program's own name is not a wish");
        assert_eq!(View::from_arguments(&[]), None);
    }

    #[test]
    fn every_window_has_a_capability_of_its_own_that_names_it() {
        for view in [View::Panel, View::Search, View::Library] {
            let path = format!("{}/capabilities/{}.json", env!("CARGO_MANIFEST_DIR"), view.label());
            let text = std::fs::read_to_string(&path).expect("a capability for every window");
            let capability: serde_json::Value = serde_json::from_str(&text).expect("JSON");
            assert_eq!(capability["windows"], serde_json::json!([view.label()]), "{path}");
            assert_eq!(View::from_label(view.label()), Some(view));
        }
    }

    #[test]
    fn what_the_library_is_to_look_at_stands_in_the_fragment_and_nowhere_else() {
        let page = || "tauri://localhost/index.html?view=library#look=before".parse::<Url>().expect("a URL");
        for source in ["/Users/ada/a b&c=d#e?f", "owner/name@main:Q8_0", "https://example.org/a?b=c&d#e", "/tmp/ü%20"]
        {
            let url = looking_at(page(), source);
            assert!(is_own_page(&url), "{url}");
            assert_eq!((url.path(), url.query()), ("/index.html", Some("view=library")), "{url}");
            // Read back with the parser of another part of the address.
            let mut back = page();
            back.set_query(url.fragment());
            assert_eq!(back.query_pairs().collect::<Vec<_>>(), [("look".into(), source.into())], "{url}");
        }
    }

    #[test]
    fn only_the_programs_own_pages_are_loaded() {
        let own = |text: &str| is_own_page(&text.parse().expect("a URL"));
        assert!(own("tauri://localhost/index.html?view=panel"));
        for foreign in [
            "https://localhost/index.html",
            "http://tauri.localhost.example/index.html",
            "tauri://example/index.html",
            "file:///etc/passwd",
            "data:text/html,hello",
            "about:blank",
            "javascript:alert(1)",
        ] {
            assert!(!own(foreign), "{foreign}");
        }
    }
}
