//! One search through the real window, and whether it found what it had to.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::arguments::Smoke;
use crate::run::rig;
use crate::workspace::Workspace;

/// Refuses a folder or an expected file that is not there before anything is built.
pub(crate) fn require_input(smoke: &Smoke) -> Result<()> {
    ensure!(smoke.folder.is_dir(), "`{}` is not a folder", smoke.folder.display());
    if let Some(expect) = &smoke.expect {
        ensure!(expect.is_file(), "the expected file `{}` is not there", expect.display());
    }
    Ok(())
}

/// Starts the app under Xvfb, lets it index the folder, types the query, and prints what the window shows.
pub(crate) fn run(workspace: &Workspace, smoke: &Smoke) -> Result<()> {
    let folder = smoke.folder.canonicalize().with_context(|| format!("could not open `{}`", smoke.folder.display()))?;
    let output = rig(workspace, "smoke")
        .arg("--folder")
        .arg(&folder)
        .arg("--query")
        .arg(&smoke.query)
        .stderr(Stdio::inherit())
        .output()
        .context("could not start `desktop-rig`")?;
    let printed = String::from_utf8_lossy(&output.stdout);
    println!("{}", printed.trim_end());
    if !output.status.success() {
        bail!("something was missing in the window ({}): the lines above say what", output.status);
    }
    let expect = smoke.expect.as_deref().map(|file| file.canonicalize().map(|path| relative(&path, &folder)));
    judge(&printed, expect.transpose()?.as_deref())
}

fn relative(path: &Path, folder: &Path) -> String {
    path.strip_prefix(folder).unwrap_or(path).to_string_lossy().into_owned()
}

/// Is `printed` one line of JSON with hits, the first of them in the file whose path ends in `expect`?
fn judge(printed: &str, expect: Option<&str>) -> Result<()> {
    let mut lines = printed.lines().filter(|line| !line.trim().is_empty());
    let (line, more) = (lines.next().context("the smoke test printed nothing")?, lines.next());
    ensure!(more.is_none(), "the smoke test printed more than one line");
    let shown: Value = serde_json::from_str(line).context("the smoke test did not print JSON")?;
    let hits = shown["hits"].as_array().context("the smoke test's JSON has no `hits`")?;
    let first = hits.first().context("the window shows no results")?;
    let path = first["path"].as_str().context("the first result has no `path`")?;
    if let Some(expect) = expect {
        ensure!(Path::new(path).ends_with(expect), "the first result is `{path}`, not `{expect}`");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHOWN: &str = r#"{"query": "q", "hits": [{"path": "/tmp/f/docs/planted.md"}, {"path": "/tmp/f/a.rs"}]}"#;

    #[test]
    fn the_expected_file_has_to_be_the_first() {
        judge(SHOWN, None).expect("hits");
        judge(SHOWN, Some("docs/planted.md")).expect("the first one");
        let error = judge(SHOWN, Some("a.rs")).expect_err("it is the second").to_string();
        assert!(error.contains("planted.md") && error.contains("a.rs"), "{error}");
        // a file whose name merely ends alike
        assert!(judge(SHOWN, Some("anted.md")).is_err());
    }

    #[test]
    fn anything_but_one_line_of_json_with_hits_fails() {
        for printed in ["", "ready", "{}", r#"{"hits": []}"#, r#"{"hits": [{}]}"#, "{}\n{}\n"] {
            assert!(judge(printed, None).is_err(), "{printed}");
        }
    }
}
