//! The built app on a [`Rig`]: started with a fresh home, driven through its tray and its windows, ended with the test.
//!
//! What is done here is what a person does: the tray's entries, the fields and buttons that are shown, real keys. Nothing
//! reaches around the interface.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use crate::program::checkout;
use crate::rig::{Process, Rig, SCREEN, wait_for};
use crate::tray::{self, TrayItem};
use crate::webdriver::WebDriver;

/// Titles of the windows, by which the window manager knows them.
pub const PANEL_TITLE: &str = "Embedbar";
/// See [`PANEL_TITLE`].
pub const LIBRARY_TITLE: &str = "Models";
/// See [`PANEL_TITLE`].
pub const SEARCH_TITLE: &str = "Embedbar search";

const PATIENCE: Duration = Duration::from_secs(30);

/// A model is loaded in seconds; a folder of thousands of files is indexed in minutes.
const INDEX_PATIENCE: Duration = Duration::from_mins(30);

/// What the panel says of a job that succeeded, and of any that has ended.
const DONE: &str = "Done";
const ENDED: [&str; 3] = [DONE, "Cancelled", "Failed"];

/// How to start the app.
#[derive(Clone, Debug)]
pub struct Launch {
    /// The app's program, built with the feature `webdriver`.
    pub app: PathBuf,
    /// How long a hidden window is kept.
    pub linger: Duration,
    /// Whether windows stay when they lose the keyboard, as they do on no person's desktop.
    pub keep_windows: bool,
}

impl Launch {
    /// The app beside this program, or beside the folder that it is in, as cargo leaves it.
    pub fn beside_this_program() -> Result<Self> {
        let this = std::env::current_exe()?;
        let app = this
            .ancestors()
            .skip(1)
            .take(2)
            .map(|folder| folder.join("embedbar-desktop"))
            .find(|path| path.is_file())
            .with_context(|| format!("`embedbar-desktop` is not built (looked beside `{}`)", this.display()))?;
        Ok(Self::of(app))
    }

    /// The app at this path.
    pub fn of(app: impl Into<PathBuf>) -> Self {
        Self { app: app.into(), linger: Duration::from_secs(15), keep_windows: true }
    }
}

/// The running app.
#[derive(Debug)]
pub struct Desktop<'rig> {
    rig: &'rig Rig,
    launch: Launch,
    process: Process,
    port: u16,
}

/// A hit as the search window shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct ShownHit {
    /// Absolute path of the file.
    pub path: String,
    /// First line of the passage.
    pub line: u64,
    /// The passage's text.
    pub snippet: String,
}

impl<'rig> Desktop<'rig> {
    /// Starts the app and waits for its tray icon.
    pub fn start(rig: &'rig Rig, launch: Launch) -> Result<Self> {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let log = fs::File::create(rig.home().join("app.log"))?;
        let process = Process::start(command(rig, &launch, port).stdout(log.try_clone()?).stderr(log))?;
        let mut desktop = Self { rig, launch, process, port };
        desktop.explain(|desktop| {
            wait_for("the tray icon", PATIENCE, || {
                if let Some(code) = desktop.process.ended() {
                    return Ok(Err(code));
                }
                TrayItem::read(desktop.rig).map(|_| Ok(()))
            })?
            .map_err(|code| anyhow::anyhow!("the app ended with status {code}"))
        })?;
        Ok(desktop)
    }

    /// Adds the end of the app's log to an error.
    pub fn explain<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        work(self).map_err(|error| error.context(format!("the app's log ends with:\n{}", self.log_end())))
    }

    /// The app's process id.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// The process id of its worker, once there is one.
    pub fn worker(&self) -> Result<u32> {
        let parent = self.pid().to_string();
        wait_for("the worker process", PATIENCE, || {
            let found = self.rig.run("pgrep", &["--parent", &parent, "--full", "embedbar worker"]);
            found.ok().and_then(|text| text.lines().next()?.parse().ok()).ok_or_else(|| "none".to_owned())
        })
    }

    /// Runs the same program a second time to its end and returns its exit code.
    pub fn second_instance(&self, arguments: &[&str]) -> Result<i32> {
        let log = fs::File::create(self.rig.home().join("second.log"))?;
        let mut command = command(self.rig, &self.launch, 0);
        let mut process = Process::start(command.args(arguments).stdout(log.try_clone()?).stderr(log))?;
        wait_for("the end of the second instance", PATIENCE, || process.ended().ok_or_else(|| "it runs".to_owned()))
    }

    /// Waits for the app to end by itself and returns its exit code.
    pub fn ended(&mut self) -> Result<i32> {
        let process = &mut self.process;
        wait_for("the end of the app", PATIENCE, || process.ended().ok_or_else(|| "it runs".to_owned()))
    }

    /// Chooses an entry of the tray's menu.
    pub fn choose(&self, path: &[&str]) -> Result<()> {
        tray::click(self.rig, path)
    }

    /// Opens the panel through the tray's menu and waits until it is shown.
    pub fn open_panel(&self) -> Result<WebDriver> {
        self.choose(&["Panel"])?;
        self.shown(PANEL_TITLE, "panel")
    }

    /// Opens the search window through the tray's menu and waits until it can be typed into.
    pub fn open_search(&self) -> Result<WebDriver> {
        self.choose(&["Search…"])?;
        let driver = self.shown(SEARCH_TITLE, "search")?;
        driver.wait_for("[data-testid=search-input]")?;
        Ok(driver)
    }

    /// The window with this title and label, once it is on the screen.
    pub fn shown(&self, title: &str, label: &str) -> Result<WebDriver> {
        wait_for(&format!("the window `{title}` on the screen"), PATIENCE, || {
            self.rig.window(title).ok_or_else(|| "it is not shown".to_owned())
        })?;
        let driver = WebDriver::connect(self.port)?;
        driver.switch_to(label)?;
        Ok(driver)
    }

    /// Presses a key, such as `Escape`, on the keyboard once the page of the window with this title has it.
    pub fn press_in(&self, page: &WebDriver, title: &str, key: &str) -> Result<()> {
        self.rig.focus(title)?;
        // The window manager's word that the window is active comes before the page hears of it.
        wait_for("the keyboard in the page", PATIENCE, || {
            let focused = page.script("return document.hasFocus()").map_err(|error| format!("{error:#}"))?;
            (focused == true).then_some(()).ok_or_else(|| "the page does not have it".to_owned())
        })?;
        self.rig.press(key)
    }

    /// A session, for questions about which windows exist; one of them must.
    pub fn driver(&self) -> Result<WebDriver> {
        WebDriver::connect(self.port)
    }

    /// Saves the part of the screen on which a window is, as a person sees it.
    pub fn picture_of(&self, title: &str, path: &Path) -> Result<()> {
        self.rig.screenshot(path, Some(self.rig.geometry(title)?))
    }

    /// Saves the tray with its menu open, then closes the menu.
    pub fn picture_of_tray(&self, path: &Path) -> Result<()> {
        // The tray's items are on the left of its bar, behind its name.
        let (x, y) = ("118", "14");
        self.rig.run("xdotool", &["mousemove", x, y, "click", "1"])?;
        std::thread::sleep(Duration::from_millis(700)); // the menu asks the app for its entries and fades in
        self.rig.screenshot(path, Some((420.min(SCREEN.0), 320.min(SCREEN.1), 0, 0)))?;
        self.rig.run("xdotool", &["key", "Escape"])?;
        Ok(())
    }

    /// The last lines of what the app wrote to standard error and to its log.
    pub fn log_end(&self) -> String {
        let mut files = vec![self.rig.home().join("app.log")];
        if let Ok(entries) = fs::read_dir(home(self.rig).join("logs")) {
            files.extend(entries.flatten().map(|entry| entry.path()));
        }
        let ends = files.iter().filter_map(|file| {
            let text = fs::read_to_string(file).ok()?;
            let lines: Vec<&str> = text.lines().collect();
            let end = lines[lines.len().saturating_sub(15)..].join("\n");
            Some(format!("--- {}\n{end}", file.file_name()?.to_string_lossy()))
        });
        ends.collect::<Vec<_>>().join("\n")
    }
}

/// Waits in the panel until the model answers.
pub fn wait_for_model(panel: &WebDriver) -> Result<()> {
    panel
        .wait_for_text("[data-testid=panel-model-state]", |text| text.eq_ignore_ascii_case("ready"))
        .context("the model does not become ready")?;
    Ok(())
}

/// Indexes a folder through the panel's own field and button, and waits for the job's end.
pub fn index(panel: &WebDriver, folder: &Path) -> Result<()> {
    let folder = folder.to_str().context("the folder's path must be UTF-8")?;
    let field = panel.wait_for("[data-testid=index-path]")?;
    panel.clear(&field)?;
    panel.type_into(&field, folder)?;
    let former = job_ids(panel)?;
    panel.click(&panel.wait_for("[data-testid=index-start]")?)?;
    let job = wait_for("the index job", PATIENCE, || {
        let jobs = job_ids(panel).map_err(|error| format!("{error:#}"))?;
        let seen = || panel.page_text().unwrap_or_default();
        jobs.into_iter().find(|job| !former.contains(job)).ok_or_else(seen)
    })?;
    let state = format!("[data-testid=job][data-id='{job}'] [data-testid=job-state]");
    let state = panel.wait_for_text_within(&state, INDEX_PATIENCE, |text| ENDED.contains(&text))?;
    if state != DONE {
        bail!("the index job ended as `{state}`: {}", panel.page_text()?);
    }
    Ok(())
}

fn job_ids(panel: &WebDriver) -> Result<Vec<String>> {
    let jobs = panel.find_all("[data-testid=job]")?;
    jobs.iter().map(|job| panel.attribute(job, "data-id")?.context("a job without an id")).collect()
}

/// Types a query into the search window and waits for hits that answer it.
pub fn search(window: &WebDriver, query: &str) -> Result<Vec<ShownHit>> {
    let field = window.wait_for("[data-testid=search-input]")?;
    window.clear(&field)?;
    window.type_into(&field, query)?;
    window.wait_for("[data-testid=hit]").with_context(|| format!("nothing was found for `{query}`"))?;
    // The footer speaks of the answer to what is typed; until then the list may be an older one.
    window.wait_for_text("[data-testid=search-footer]", |text| text.contains("searched"))?;
    let hits = window.find_all("[data-testid=hit]")?;
    let snippets = window.texts("[data-testid=hit] p")?;
    hits.iter()
        .zip(snippets)
        .map(|(hit, snippet)| {
            let attribute = |name: &str| {
                window.attribute(hit, name)?.with_context(|| format!("a hit without the attribute `{name}`"))
            };
            Ok(ShownHit { path: attribute("data-path")?, line: attribute("data-line")?.parse()?, snippet })
        })
        .collect()
}

/// The whole journey through the real windows: model, folder, query. One object of what they show; fails where anything is
/// missing. Pictures go to `out`.
pub fn smoke(rig: &Rig, launch: Launch, folder: &Path, query: &str, out: &Path) -> Result<Value> {
    fs::create_dir_all(out).with_context(|| format!("`{}` cannot be made", out.display()))?;
    let mut desktop = Desktop::start(rig, launch)?;
    desktop.explain(|desktop| {
        let panel = desktop.open_panel()?;
        wait_for_model(&panel)?;
        index(&panel, folder)?;

        let search_window = desktop.open_search()?;
        let hits = search(&search_window, query)?;
        let footer = search_window.wait_for_text("[data-testid=search-footer]", |text| !text.is_empty())?;
        search_window.screenshot(&out.join("search.png"))?;

        // The panel lost nothing by being behind.
        let panel = desktop.open_panel()?;
        // The panel keeps the beginning of a long query.
        let beginning: String = query.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(40).collect();
        let query_row = panel.wait_for_text("[data-testid=query-row]", |text| text.contains(&beginning))?;
        let shown = |name: &str| panel.wait_for_text(&format!("[data-testid={name}]"), is_known);
        let report = json!({
            "query": query,
            "hits": hits.iter().map(|hit| json!({ "path": hit.path, "line": hit.line, "snippet": hit.snippet }))
                .collect::<Vec<_>>(),
            "footer": footer,
            "model": shown("panel-model")?,
            "precision": shown("panel-precision")?,
            "memory_available": shown("panel-memory-available")?,
            "pressure": shown("panel-pressure")?,
            "query_row": query_row,
            "screenshots": pictures(desktop, &panel, out)?,
        });
        Ok(report)
    })
}

/// Pictures of an app that has just been started: its tray, its panel, its empty search window.
pub fn pictures_of_a_fresh_start(desktop: &Desktop, out: &Path) -> Result<Vec<PathBuf>> {
    fs::create_dir_all(out).with_context(|| format!("`{}` cannot be made", out.display()))?;
    let panel = desktop.open_panel()?;
    wait_for_model(&panel)?;
    desktop.open_search()?.screenshot(&out.join("search.png"))?;
    pictures(desktop, &desktop.open_panel()?, out)?;
    Ok(["tray.png", "panel.png", "search.png"].iter().map(|name| out.join(name)).collect())
}

/// Saves the tray, the panel and the whole screen; the search window's picture is there already.
fn pictures(desktop: &Desktop, panel: &WebDriver, out: &Path) -> Result<Value> {
    // As it looks when it has just been opened.
    panel.script(
        "document.activeElement?.blur(); document.querySelectorAll('*').forEach((element) => { element.scrollTop = 0; })",
    )?;
    panel.screenshot(&out.join("panel.png"))?;
    desktop.picture_of_tray(&out.join("tray.png"))?;
    desktop.rig.screenshot(&out.join("desktop.png"), None)?;
    let path = |name: &str| out.join(name).display().to_string();
    Ok(json!({
        "tray": path("tray.png"),
        "panel": path("panel.png"),
        "search": path("search.png"),
        "desktop": path("desktop.png"),
    }))
}

/// Whether a figure is shown, and not the dash of an unknown one.
fn is_known(text: &str) -> bool {
    !text.is_empty() && text != "–" && text != "—"
}

/// Where the app of this desktop keeps its state.
pub fn home(rig: &Rig) -> PathBuf {
    rig.home().join("embedbar")
}

fn command(rig: &Rig, launch: &Launch, port: u16) -> Command {
    let mut command = rig.command(&launch.app);
    command
        .env("EMBEDBAR_HOME", home(rig))
        .env("EMBEDBAR_BUNDLED", checkout().join("models/bundled"))
        .env("EMBEDBAR_KEEP_WINDOWS", if launch.keep_windows { "1" } else { "0" })
        .env("EMBEDBAR_WINDOW_LINGER_MS", launch.linger.as_millis().to_string())
        .env("TAURI_WEBDRIVER_PORT", port.to_string());
    command
}
