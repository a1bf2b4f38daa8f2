//! The tray item as a desktop's panel sees it: its icon and its menu, read and activated over the bus.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use serde::Deserialize;

use crate::rig::{Rig, wait_for};

const PATIENCE: Duration = Duration::from_secs(30);

/// The item: its icon's file, and the entries of its menu.
#[derive(Debug, Deserialize)]
pub struct TrayItem {
    /// The PNG that is shown.
    pub icon: PathBuf,
    /// From top to bottom.
    pub menu: Vec<Entry>,
}

/// One entry of a menu.
#[derive(Debug, Deserialize)]
pub struct Entry {
    id: i32,
    /// What it says.
    pub label: String,
    /// Whether it is a line and not an entry.
    pub separator: bool,
    /// Whether it can be chosen.
    pub enabled: bool,
    /// Whether it is shown at all.
    pub visible: bool,
    /// For a check item, whether it is checked.
    pub checked: Option<bool>,
    /// The entries below it.
    pub children: Vec<Entry>,
}

impl TrayItem {
    /// The item as it is now; the error says why there is none.
    pub fn read(rig: &Rig) -> Result<Self, String> {
        let text = rig.tray_menu(&["show"])?;
        serde_json::from_str(&text).map_err(|error| format!("{error} in {text}"))
    }

    /// The entry at a path of labels, such as `["Active model", "all-MiniLM-L6-v2"]`.
    pub fn entry(&self, path: &[&str]) -> Option<&Entry> {
        let (first, rest) = path.split_first()?;
        let mut entry = self.menu.iter().find(|entry| entry.label == *first)?;
        for label in rest {
            entry = entry.children.iter().find(|child| child.label == *label)?;
        }
        Some(entry)
    }

    /// What the entries say, lines left out.
    pub fn labels(&self) -> Vec<&str> {
        self.menu.iter().filter(|entry| !entry.separator && entry.visible).map(|entry| entry.label.as_str()).collect()
    }
}

/// Waits until the item is as `wanted` says, and returns what that gives.
pub fn wait_until<T>(rig: &Rig, what: &str, wanted: impl Fn(&TrayItem) -> Option<T>) -> Result<T> {
    wait_for(what, PATIENCE, || {
        let item = TrayItem::read(rig)?;
        wanted(&item).ok_or_else(|| format!("{:?}", item.menu))
    })
}

/// Chooses the entry at a path of labels, once it is there and enabled.
pub fn click(rig: &Rig, path: &[&str]) -> Result<()> {
    let what = format!("the menu entry {path:?}");
    let id = wait_until(rig, &what, |item| item.entry(path).filter(|entry| entry.enabled).map(|entry| entry.id))?;
    rig.tray_menu(&["click", &id.to_string()])
        .map_err(|error| anyhow!(error))
        .with_context(|| format!("{what} cannot be chosen"))?;
    Ok(())
}
