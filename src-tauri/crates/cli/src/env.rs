//! `embedbar env`: the `.env` of a project, by itself: what it means, what is wrong with it, and mending that. No Embedbar has to
//! run for it, and none is told. Following one is for the home's owner.

use std::path::Path;

use embedbar_contract::Failure;
use embedbar_settings::{
    Code, Disk, EnvFile, Finding, Settings, Severity, Written, changed_lines, differences, fix_all, lint,
};
use serde_json::json;

use crate::arguments::Env;
use crate::output;

pub(crate) fn run(command: &Env, as_json: bool) -> anyhow::Result<()> {
    match command {
        Env::Lint { file } => show_findings(&read(file)?, as_json),
        Env::Show { file } => show(&read(file)?, as_json),
        Env::Fix { file, dry_run } => fix(&read(file)?, *dry_run, as_json),
        Env::Use { .. } | Env::Status | Env::Remote { .. } => unreachable!("the owner carries it out. This is a bug."),
        Env::Table => {
            output::line(embedbar_settings::variables_table().trim_end());
            Ok(())
        }
    }
}

fn read(path: &Path) -> anyhow::Result<EnvFile> {
    Ok(EnvFile::at(path).map_err(Failure::from)?)
}

/// All findings; it is a failure that there are any.
fn show_findings(file: &EnvFile, as_json: bool) -> anyhow::Result<()> {
    let findings = lint(file.document(), &Disk::of(file));
    let name = file.path().display();
    for finding in &findings {
        if as_json {
            output::json(finding)?;
            continue;
        }
        output::line(&format!(
            "{name}:{}: {}: {} [{}]",
            finding.line,
            word(finding.severity),
            finding.message,
            finding.code
        ));
        if let Some(fix) = &finding.fix {
            let how = if fix.on_request { "to mend it yourself" } else { "`embedbar env fix` does this" };
            output::line(&format!("    {how}: {}", fix.title));
        }
    }
    match findings.len() {
        0 => {
            if !as_json {
                output::line(&format!("{name}: nothing is wrong"));
            }
            Ok(())
        }
        1 => anyhow::bail!("`{name}` has one thing wrong with it"),
        count => anyhow::bail!("`{name}` has {count} things wrong with it"),
    }
}

fn word(severity: Severity) -> &'static str {
    match severity {
        Severity::Note => "note",
        Severity::Warning => "warning",
        Severity::Error => "error",
    }
}

/// What the file means for Embedbar, with the place that each value comes from.
fn show(file: &EnvFile, as_json: bool) -> anyhow::Result<()> {
    let written = Written::of(file.document());
    let settings = Settings::of_file(file);
    let differences = differences(&written, std::env::vars());
    if as_json {
        return output::json(&json!({ "file": file.path(), "settings": settings, "differences": differences }));
    }
    output::line(&format!("{}", file.path().display()));
    for row in settings.described() {
        output::line(&format!("  {:<12} {:<44} {}", row.name, row.value, row.origin));
    }
    output::line(&format!("  the Papr SDK {}", settings.sdk.sentence()));
    for problem in &settings.problems {
        eprintln!("warning: {} ({})", problem.message, problem.origin);
    }
    for difference in &differences {
        let in_file = difference.in_file.as_deref().unwrap_or("nothing");
        eprintln!(
            "note: the environment says {}={}, the file {in_file}; for Embedbar the file holds",
            difference.variable, difference.in_environment
        );
    }
    Ok(())
}

/// Mends what can be mended without asking.
fn fix(file: &EnvFile, dry_run: bool, as_json: bool) -> anyhow::Result<()> {
    let world = Disk::of(file);
    let fixed = fix_all(file.document(), &world, Severity::Note);
    let changes = changed_lines(file.document(), &fixed.document);
    let mut left = lint(&fixed.document, &world);
    // The world still has the old mode.
    left.retain(|finding| fixed.mode.is_none() || finding.code != Code::ReadableByOthers);
    let changed = !changes.is_empty() || fixed.mode.is_some();
    if changed && !dry_run {
        file.write(fixed.document.bytes(), fixed.mode).map_err(Failure::from)?;
    }
    if as_json {
        let mode = fixed.mode.map(|mode| format!("{mode:o}"));
        return output::json(&json!({
            "file": file.path(), "dry_run": dry_run, "changed": changed, "mode": mode, "mended": fixed.mended,
            "changes": changes, "left": left,
        }));
    }
    for change in &changes {
        output::changed_line(change.number, change.before.as_deref(), change.after.as_deref());
    }
    if let Some(mode) = fixed.mode {
        output::line(&format!("permissions become {mode:o}"));
    }
    let verb = if dry_run { "would be mended" } else { "mended" };
    output::line(&format!("{}: {} {verb}, {} left", file.path().display(), count(&fixed.mended), count(&left)));
    for finding in &left {
        eprintln!("left: line {}: {}", finding.line, finding.message);
    }
    Ok(())
}

fn count(findings: &[Finding]) -> usize {
    findings.len()
}

#[cfg(test)]
mod tests {
    /// `embedbar env table` prints it.
    #[test]
    fn the_readme_has_the_table_of_variables() {
        let readme = include_str!("../../../../README.md");
        assert!(
            readme.contains(embedbar_settings::variables_table().trim()),
            "put what `embedbar env table` prints there"
        );
    }
}
