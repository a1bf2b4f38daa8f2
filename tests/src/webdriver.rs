//! As much of a WebDriver client as the tests need: find, read, type, click, picture.
//!
//! It speaks to `tauri-plugin-webdriver` inside the program, whose window handles are the windows' labels.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use ureq::Agent;

use crate::rig::wait_for;

/// The name under which WebDriver wraps an element's id; fixed by the standard.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

const PATIENCE: Duration = Duration::from_secs(30);

/// A session with the program on one port.
#[derive(Debug)]
pub struct WebDriver {
    agent: Agent,
    base: String,
    session: String,
}

/// An element of the page that was found.
#[derive(Debug)]
pub struct Element(String);

impl WebDriver {
    /// Begins a session; a window must be open.
    pub fn connect(port: u16) -> Result<Self> {
        let config = Agent::config_builder().timeout_global(Some(PATIENCE)).http_status_as_error(false).build();
        let mut driver =
            Self { agent: config.new_agent(), base: format!("http://127.0.0.1:{port}"), session: String::new() };
        let reply = wait_for("the WebDriver port", PATIENCE, || {
            driver.post("/session", &json!({ "capabilities": {} })).map_err(|error| format!("{error:#}"))
        })
        .context("the app must be built with the feature `webdriver`")?;
        reply["sessionId"].as_str().context("a session without an id")?.clone_into(&mut driver.session);
        Ok(driver)
    }

    /// The labels of the windows that exist, shown or not.
    pub fn windows(&self) -> Result<Vec<String>> {
        Ok(serde_json::from_value(self.get("window/handles")?)?)
    }

    /// Makes the window with this label the one that all else is about, once it exists.
    pub fn switch_to(&self, label: &str) -> Result<()> {
        wait_for(&format!("the window `{label}`"), PATIENCE, || {
            self.command("window", &json!({ "handle": label })).map_err(|error| format!("{error:#}"))
        })?;
        Ok(())
    }

    /// The first element that matches, at once.
    pub fn find(&self, css: &str) -> Result<Option<Element>> {
        Ok(self.find_all(css)?.into_iter().next())
    }

    /// All elements that match, in the page's order.
    pub fn find_all(&self, css: &str) -> Result<Vec<Element>> {
        let found = self.command("elements", &json!({ "using": "css selector", "value": css }))?;
        let found = found.as_array().context("the answer to a search for elements is no list")?;
        Ok(found.iter().filter_map(|element| element[ELEMENT].as_str()).map(|id| Element(id.to_owned())).collect())
    }

    /// Waits for an element that matches and whose text is as `wanted` says; on failure shows the page's text.
    pub fn wait_for_text(&self, css: &str, wanted: impl Fn(&str) -> bool) -> Result<String> {
        self.wait_for_text_within(css, PATIENCE, wanted)
    }

    /// Like [`WebDriver::wait_for_text`] with a limit of the caller's.
    pub fn wait_for_text_within(&self, css: &str, limit: Duration, wanted: impl Fn(&str) -> bool) -> Result<String> {
        let outcome = wait_for(&format!("`{css}`"), limit, || {
            let texts = self.texts(css).map_err(|error| format!("{error:#}"))?;
            texts.iter().find(|text| wanted(text)).cloned().ok_or_else(|| format!("{texts:?}"))
        });
        outcome.with_context(|| format!("the page says: {}", self.page_text().unwrap_or_default()))
    }

    /// Waits for an element that matches.
    pub fn wait_for(&self, css: &str) -> Result<Element> {
        self.wait_for_text(css, |_| true)?;
        self.find(css)?.with_context(|| format!("`{css}` was there and is gone"))
    }

    /// The text of each element that matches.
    pub fn texts(&self, css: &str) -> Result<Vec<String>> {
        self.find_all(css)?.iter().map(|element| self.text(element)).collect()
    }

    /// What an element says, white space as a browser shows it.
    pub fn text(&self, element: &Element) -> Result<String> {
        let text = self.get(&format!("element/{}/text", element.0))?;
        Ok(text.as_str().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" "))
    }

    /// An attribute of an element; `None` where it has none of that name.
    pub fn attribute(&self, element: &Element, name: &str) -> Result<Option<String>> {
        Ok(self.get(&format!("element/{}/attribute/{name}", element.0))?.as_str().map(str::to_owned))
    }

    /// Types into an element.
    pub fn type_into(&self, element: &Element, text: &str) -> Result<()> {
        self.command(&format!("element/{}/value", element.0), &json!({ "text": text })).map(drop)
    }

    /// Empties a field.
    pub fn clear(&self, element: &Element) -> Result<()> {
        self.command(&format!("element/{}/clear", element.0), &json!({})).map(drop)
    }

    /// Clicks an element.
    pub fn click(&self, element: &Element) -> Result<()> {
        self.command(&format!("element/{}/click", element.0), &json!({})).map(drop)
    }

    /// Runs a script in the page and returns what it returns.
    pub fn script(&self, script: &str) -> Result<Value> {
        self.command("execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// All that the page shows as text.
    pub fn page_text(&self) -> Result<String> {
        Ok(self.script("return document.body.innerText")?.as_str().unwrap_or_default().to_owned())
    }

    /// Saves the window as a PNG, its transparent parts transparent; it must be shown.
    pub fn screenshot(&self, path: &Path) -> Result<()> {
        let picture = self.get("screenshot")?;
        let bytes = STANDARD.decode(picture.as_str().context("a screenshot that is no text")?)?;
        fs::write(path, bytes).with_context(|| format!("`{}` cannot be written", path.display()))
    }

    fn get(&self, path: &str) -> Result<Value> {
        let address = format!("{}/session/{}/{path}", self.base, self.session);
        let mut response = self.agent.get(&address).call()?;
        value(path, response.body_mut().read_json()?)
    }

    fn command(&self, path: &str, body: &Value) -> Result<Value> {
        self.post(&format!("/session/{}/{path}", self.session), body)
    }

    fn post(&self, path: &str, body: &Value) -> Result<Value> {
        let mut response = self.agent.post(format!("{}{path}", self.base)).send_json(body)?;
        value(path, response.body_mut().read_json()?)
    }
}

/// Takes the answer out of WebDriver's envelope; an error in it becomes ours.
fn value(path: &str, mut reply: Value) -> Result<Value> {
    let value = reply["value"].take();
    if let Some(error) = value["error"].as_str() {
        bail!("`{path}`: {error}: {}", value["message"].as_str().unwrap_or_default());
    }
    Ok(value)
}
