//! End to end: the built app on a desktop in a box, driven as a person drives it.
//!
//! The app must have been built with the features `custom-protocol` and `webdriver` and with the interface in it
//! (`cargo xtask test` does that); where it is not there, or the machine lacks an X server, the tests say that they were
//! skipped. One test at a time: each needs a browser engine and a model.

mod dropping;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use embedbar_tests::desktop::{self, Desktop, Launch, PANEL_TITLE, SEARCH_TITLE, index, search, smoke, wait_for_model};
use embedbar_tests::program::{alive, checkout, eventually, signal};
use embedbar_tests::rig::{self, Rig};
use embedbar_tests::tray::{TrayItem, wait_until};

const MODEL: &str = "all-MiniLM-L6-v2";
const SENTENCE: &str = "The lighthouse keeper repaired the brass lamp before the storm came in from the west.";
const QUERY: &str = "who mended the light on the coast";

/// A desktop to itself, with a folder of documents in its home.
struct Bench {
    rig: Rig,
    launch: Launch,
    folder: PathBuf,
    planted: String,
    _turn: MutexGuard<'static, ()>,
}

/// The bench, or `None` with a skip that names `test`.
fn bench(test: &str) -> Option<Bench> {
    static TURN: Mutex<()> = Mutex::new(());
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let skip = |reason: &str| {
        embedbar_tests::skip(&format!("desktop::{test}"), reason);
        None
    };
    if let Some(sentence) = rig::missing() {
        return skip(&sentence);
    }
    let launch = match Launch::beside_this_program() {
        Ok(launch) => launch,
        Err(error) => return skip(&error.to_string()),
    };
    let rig = Rig::start().expect("the desktop in a box starts");
    let folder = rig.home().join("documents");
    let planted = plant(&folder);
    Some(Bench { rig, launch, folder, planted, _turn: turn })
}

/// A few documents of which one answers [`QUERY`] without sharing a telling word with it.
fn plant(folder: &Path) -> String {
    fs::create_dir_all(folder.join("notes")).expect("a folder can be made");
    let write = |name: &str, text: &str| {
        let path = folder.join(name);
        fs::write(&path, text).expect("a document can be written");
        path.display().to_string()
    };
    write(
        "bread.md",
        "# Bread\n\nThe dough rests overnight in a cool kitchen, then bakes in a hot oven for forty minutes.\n",
    );
    write("notes/garden.txt", "Tomatoes want sun, water in the morning and a stake before they grow tall.\n");
    write("notes/parser.rs", "/// Splits a line into tokens at commas that are not quoted.\nfn split(line: &str) {}\n");
    write("notes/autumn.md", &format!("# Autumn\n\nNotes from the walks.\n\n{SENTENCE}\n"))
}

#[test]
fn the_tray_menu_has_its_entries_and_the_active_model_is_checked() {
    let Some(bench) = bench("the_tray_menu_has_its_entries_and_the_active_model_is_checked") else { return };
    let mut desktop = Desktop::start(&bench.rig, bench.launch).expect("the app starts");
    desktop
        .explain(|desktop| {
            let ready = format!("{MODEL} · INT8 · ready");
            wait_until(&bench.rig, "a model that is ready", |item| item.entry(&[&ready]).map(|_| ()))?;
            wait_until(&bench.rig, "the active model, checked", |item| {
                (item.entry(&["Active model", MODEL])?.checked == Some(true)).then_some(())
            })?;
            let item = TrayItem::read(&bench.rig).map_err(anyhow::Error::msg)?;
            let labels = [
                &ready,
                "Search…",
                "Panel",
                "Models…",
                "Active model",
                ".env file",
                "Clean up memory",
                "Pause",
                "Quit",
            ];
            assert_eq!(item.labels(), labels);
            assert!(!item.entry(&[&ready]).expect("it is there").enabled, "the state is no action");
            assert!(item.icon.is_file(), "the icon `{}` is a file", item.icon.display());
            desktop.picture_of_tray(&bench.rig.home().join("tray.png"))
        })
        .expect("the menu is as it should be");
}

#[test]
fn a_search_through_the_real_windows_finds_the_planted_file_first() {
    let Some(bench) = bench("a_search_through_the_real_windows_finds_the_planted_file_first") else { return };
    let out = checkout().join("out/desktop");
    let report = smoke(&bench.rig, bench.launch, &bench.folder, QUERY, &out).expect("the journey succeeds");
    assert_eq!(report["hits"][0]["path"], bench.planted, "{report}");
    assert!(report["hits"][0]["snippet"].as_str().is_some_and(|snippet| snippet.contains("lighthouse")), "{report}");
    assert!(report["model"].as_str().is_some_and(|model| model.contains("MiniLM")), "{report}");
    assert_eq!(report["precision"], "INT8");
    for picture in ["tray", "panel", "search", "desktop"] {
        let path = report["screenshots"][picture].as_str().expect("a path");
        let size = fs::metadata(path).expect("the picture is there").len();
        assert!(size > 2_000, "`{path}` has {size} bytes: it shows nothing");
    }
}

#[test]
fn escape_hides_the_search_window_and_what_is_hidden_is_destroyed() {
    let Some(bench) = bench("escape_hides_the_search_window_and_what_is_hidden_is_destroyed") else { return };
    let launch = Launch { linger: Duration::from_millis(1500), ..bench.launch };
    let mut desktop = Desktop::start(&bench.rig, launch).expect("the app starts");
    desktop
        .explain(|desktop| {
            desktop.open_panel()?;
            let window = desktop.open_search()?;
            let mut windows = window.windows()?;
            windows.sort();
            assert_eq!(windows, ["panel", "search"]);

            desktop.press_in(&window, SEARCH_TITLE, "Escape")?;
            eventually("the search window is hidden", || bench.rig.window(SEARCH_TITLE).is_none().then_some(()));
            eventually("the search window is destroyed", || {
                (desktop.driver().and_then(|driver| driver.windows()).ok()? == ["panel"]).then_some(())
            });
            assert!(bench.rig.window(PANEL_TITLE).is_some(), "the panel, which is shown, stays");

            // And it can be opened again.
            desktop.open_search()?;
            Ok(())
        })
        .expect("the windows come and go");
}

#[test]
fn a_window_that_is_opened_again_before_its_time_keeps_its_page() {
    let Some(bench) = bench("a_window_that_is_opened_again_before_its_time_keeps_its_page") else { return };
    let launch = Launch { linger: Duration::from_secs(4), ..bench.launch };
    let mut desktop = Desktop::start(&bench.rig, launch).expect("the app starts");
    desktop
        .explain(|desktop| {
            let window = desktop.open_search()?;
            window.script("window.kept = true")?;
            desktop.press_in(&window, SEARCH_TITLE, "Escape")?;
            eventually("the search window is hidden", || bench.rig.window(SEARCH_TITLE).is_none().then_some(()));
            let window = desktop.open_search()?;
            std::thread::sleep(Duration::from_secs(5)); // past the first clock, which must be void
            assert_eq!(window.script("return window.kept")?, true, "the page was loaded anew");
            Ok(())
        })
        .expect("the page is kept");
}

#[test]
fn a_window_that_loses_the_keyboard_hides() {
    let Some(bench) = bench("a_window_that_loses_the_keyboard_hides") else { return };
    let launch = Launch { keep_windows: false, ..bench.launch };
    let mut desktop = Desktop::start(&bench.rig, launch).expect("the app starts");
    desktop
        .explain(|desktop| {
            desktop.open_search()?;
            bench.rig.focus(SEARCH_TITLE)?;
            desktop.open_panel()?;
            bench.rig.focus(PANEL_TITLE)?;
            eventually("the search window is hidden", || bench.rig.window(SEARCH_TITLE).is_none().then_some(()));
            assert!(bench.rig.window(PANEL_TITLE).is_some(), "the panel has the keyboard and stays");
            Ok(())
        })
        .expect("the window hides");
}

#[test]
fn a_home_of_a_newer_version_is_refused_with_a_sentence_in_tray_and_panel() {
    let Some(bench) = bench("a_home_of_a_newer_version_is_refused_with_a_sentence_in_tray_and_panel") else { return };
    let home = desktop::home(&bench.rig);
    fs::create_dir(&home).expect("a home can be made");
    fs::write(home.join("layout"), "999\n").expect("its version can be written");
    let mut desktop = Desktop::start(&bench.rig, bench.launch).expect("the app starts");
    desktop
        .explain(|desktop| {
            wait_until(&bench.rig, "the reason in the tray", |item| {
                item.labels().first()?.starts_with("Embedbar did not start: ").then_some(())
            })?;
            let panel = desktop.shown(PANEL_TITLE, "panel")?;
            panel.wait_for_text("body", |text| text.contains("newer"))?;

            // Mended while the app runs, it starts without a restart.
            fs::write(home.join("layout"), "1\n")?;
            wait_until(&bench.rig, "a model that is ready", |item| {
                item.labels().first()?.ends_with(" · ready").then_some(())
            })?;
            Ok(())
        })
        .expect("the reason is shown, and the way back is open");
}

#[test]
fn the_global_shortcut_toggles_the_search_window() {
    let Some(bench) = bench("the_global_shortcut_toggles_the_search_window") else { return };
    let mut desktop = Desktop::start(&bench.rig, bench.launch).expect("the app starts");
    desktop
        .explain(|_| {
            bench.rig.press("ctrl+shift+space")?;
            eventually("the search window is shown", || bench.rig.window(SEARCH_TITLE));
            bench.rig.press("ctrl+shift+space")?;
            eventually("the search window is hidden", || bench.rig.window(SEARCH_TITLE).is_none().then_some(()));
            Ok(())
        })
        .expect("the shortcut works");
}

#[test]
fn enter_opens_the_chosen_file_with_the_persons_own_program() {
    let Some(bench) = bench("enter_opens_the_chosen_file_with_the_persons_own_program") else { return };
    let record = bench.rig.home().join("opened.txt");
    let opener = bench.rig.programs_folder().join("xdg-open");
    let script = format!("#!/bin/sh\nprintf '%s\\n' \"$@\" >> '{}'\n", record.display());
    fs::write(&opener, script).expect("a script can be written");
    fs::set_permissions(&opener, fs::Permissions::from_mode(0o755)).expect("it can be made executable");

    let mut desktop = Desktop::start(&bench.rig, bench.launch).expect("the app starts");
    desktop
        .explain(|desktop| {
            let panel = desktop.open_panel()?;
            wait_for_model(&panel)?;
            index(&panel, &bench.folder)?;
            let window = desktop.open_search()?;
            let hits = search(&window, QUERY)?;
            assert_eq!(hits[0].path, bench.planted);
            desktop.press_in(&window, SEARCH_TITLE, "Return")?;
            let opened =
                eventually("a file is opened", || fs::read_to_string(&record).ok().filter(|text| !text.is_empty()));
            assert_eq!(opened.trim().trim_start_matches("file://"), bench.planted);
            Ok(())
        })
        .expect("the file is opened");
}

#[test]
fn a_model_is_converted_in_the_panel_and_used() {
    let Some(bench) = bench("a_model_is_converted_in_the_panel_and_used") else { return };
    let mut desktop = Desktop::start(&bench.rig, bench.launch).expect("the app starts");
    desktop
        .explain(|desktop| {
            let panel = desktop.open_panel()?;
            wait_for_model(&panel)?;
            panel.click(&panel.wait_for("[data-testid=convert-toggle]")?)?;
            let source = checkout().join("tests/truth/qwen3-small");
            let field = panel.wait_for("[data-testid=convert-source]")?;
            panel.type_into(&field, source.to_str().expect("UTF-8"))?;
            panel.click(&panel.wait_for("[data-testid=convert-start]")?)?;
            panel.wait_for_text("[data-kind=convert] [data-testid=job-state]", |text| text == "Done")?;
            panel.click(&panel.wait_for("[data-testid=job-use]")?)?;
            panel.wait_for_text("[data-testid=panel-model]", |text| text == "qwen3-small-int8")?;
            wait_for_model(&panel)?;
            let out = checkout().join("out/desktop");
            fs::create_dir_all(&out)?;
            panel.screenshot(&out.join("converted.png"))
        })
        .expect("the model is made and answers");
}

#[test]
fn pause_is_checked_while_bulk_work_is_paused_and_shows_in_the_icon() {
    let Some(bench) = bench("pause_is_checked_while_bulk_work_is_paused_and_shows_in_the_icon") else { return };
    let mut desktop = Desktop::start(&bench.rig, bench.launch).expect("the app starts");
    desktop
        .explain(|desktop| {
            let panel = desktop.open_panel()?;
            wait_for_model(&panel)?;
            let icon = || fs::read(TrayItem::read(&bench.rig).ok()?.icon).ok();
            let before = eventually("an icon", icon);
            for paused in [true, false] {
                desktop.choose(&["Pause"])?;
                wait_until(&bench.rig, &format!("the check mark of Pause to be {paused}"), |item| {
                    (item.entry(&["Pause"])?.checked == Some(paused)).then_some(())
                })?;
                let wanted = if paused { "Resume" } else { "Pause" };
                panel.wait_for_text("[data-testid=pause]", |text| text.contains(wanted))?;
                eventually("the icon follows", || (icon()? != before || !paused).then_some(()));
            }
            eventually("the icon is the former one again", || (icon()? == before).then_some(()));
            Ok(())
        })
        .expect("pausing works");
}

#[test]
fn a_second_start_shows_the_panel_of_the_first_and_ends() {
    let Some(bench) = bench("a_second_start_shows_the_panel_of_the_first_and_ends") else { return };
    let mut desktop = Desktop::start(&bench.rig, bench.launch).expect("the app starts");
    desktop
        .explain(|desktop| {
            assert!(bench.rig.window(PANEL_TITLE).is_none(), "the app starts without a window");
            assert_eq!(desktop.second_instance(&[])?, 0);
            desktop.shown(PANEL_TITLE, "panel")?;
            assert_eq!(desktop.second_instance(&["search"])?, 0);
            desktop.shown(SEARCH_TITLE, "search")?;
            Ok(())
        })
        .expect("the second start reaches the first");
}

#[test]
fn a_search_is_answered_after_the_worker_was_killed() {
    let Some(bench) = bench("a_search_is_answered_after_the_worker_was_killed") else { return };
    let mut desktop = Desktop::start(&bench.rig, bench.launch).expect("the app starts");
    desktop
        .explain(|desktop| {
            let panel = desktop.open_panel()?;
            wait_for_model(&panel)?;
            index(&panel, &bench.folder)?;
            let worker = desktop.worker()?;
            signal(worker, "KILL");
            eventually("the worker is gone", || (!alive(worker)).then_some(()));

            let hits = search(&desktop.open_search()?, QUERY)?;
            assert_eq!(hits[0].path, bench.planted, "the meaning half answers, which needs the worker");
            assert_ne!(desktop.worker()?, worker);
            let panel = desktop.open_panel()?;
            panel.wait_for_text("body", |text| text.contains("1 restart"))?;
            Ok(())
        })
        .expect("the worker is replaced");
}

#[test]
fn quit_ends_the_app_and_its_worker() {
    let Some(bench) = bench("quit_ends_the_app_and_its_worker") else { return };
    let mut desktop = Desktop::start(&bench.rig, bench.launch).expect("the app starts");
    let worker = desktop.worker().expect("a worker runs");
    desktop.choose(&["Quit"]).expect("there is a way out");
    let code = desktop.explain(Desktop::ended).expect("the app ends");
    assert_eq!(code, 0);
    assert!(!alive(worker), "the worker outlived the app");
}

#[test]
fn a_termination_signal_ends_the_app_and_its_worker() {
    let Some(bench) = bench("a_termination_signal_ends_the_app_and_its_worker") else { return };
    let mut desktop = Desktop::start(&bench.rig, bench.launch).expect("the app starts");
    let worker = desktop.worker().expect("a worker runs");
    signal(desktop.pid(), "TERM");
    let code = desktop.explain(Desktop::ended).expect("the app ends");
    assert_eq!(code, 0);
    assert!(!alive(worker), "the worker outlived the app");
}
