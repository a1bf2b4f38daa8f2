//! Changes to a file that leave all other bytes alone: pieces of text put into the place of others.
//!
//! What is not here: writing the result ([`EnvFile::write`](crate::EnvFile::write)), and what should be changed.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::Serialize;

use crate::SettingsError;
use crate::document::{Binding, Content, Document, Line, Quote, line_starts};
use crate::python;
use crate::secret::is_secret;
use crate::written::Written;

/// Text in the place of some bytes.
#[derive(Clone, Eq, PartialEq)]
pub struct Edit {
    /// The bytes that go; empty where something is only put in.
    pub span: Range<usize>,
    /// What comes in their place.
    pub replacement: String,
}

// A replacement may be a secret.
impl std::fmt::Debug for Edit {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Edit({:?} becomes {} bytes)", self.span, self.replacement.len())
    }
}

impl Edit {
    pub(crate) fn new(span: Range<usize>, replacement: impl Into<String>) -> Self {
        Self { span, replacement: replacement.into() }
    }

    /// Whether both cannot be applied together: they share a byte, or put something in at the same place.
    pub(crate) fn collides(&self, other: &Self) -> bool {
        if self.span.is_empty() && other.span.is_empty() {
            return self.span.start == other.span.start;
        }
        self.span.start < other.span.end && other.span.start < self.span.end
            || self.span.is_empty() && other.span.contains(&self.span.start)
            || other.span.is_empty() && self.span.contains(&other.span.start)
    }
}

/// Applies edits, in any order, all of which refer to the bytes as they are now.
pub fn apply(bytes: &[u8], edits: &[Edit]) -> Result<Vec<u8>, SettingsError> {
    let mut sorted: Vec<&Edit> = edits.iter().collect();
    sorted.sort_by_key(|edit| (edit.span.start, edit.span.end));
    let mut result = Vec::with_capacity(bytes.len());
    let mut at = 0;
    let mut before: Option<&Edit> = None;
    for edit in sorted {
        let Range { start, end } = edit.span;
        if start > end || end > bytes.len() || before.is_some_and(|before| before.collides(edit)) {
            return Err(SettingsError::EditsDoNotFit { bytes: bytes.len(), span_start: start, span_end: end });
        }
        result.extend_from_slice(&bytes[at..start]);
        result.extend_from_slice(edit.replacement.as_bytes());
        at = end;
        before = Some(edit);
    }
    result.extend_from_slice(&bytes[at..]);
    Ok(result)
}

/// The edits that set a variable: in its last binding, else in a line of its own at the end.
///
/// An error where no way to write the value is read back as it is.
pub fn set(document: &Document, name: &str, value: &str) -> Result<Vec<Edit>, SettingsError> {
    let refused = |reason| SettingsError::CannotBeWritten { name: name.to_owned(), reason };
    if !is_name(name) {
        return Err(refused("its name has a character that no shell takes"));
    }
    let edits = match document.binding(name).map(|(_, binding)| binding) {
        Some(Binding { value: Some(old), .. }) if old.text == value => Vec::new(),
        Some(Binding { value: Some(old), .. }) => {
            let mut text = quoted(value, old.quote).map_err(refused)?;
            // Without quotes around it a `#` that follows at once would belong to the value.
            if !text.ends_with(['\'', '"']) && document.bytes().get(old.span.end) == Some(&b'#') {
                text.push(' ');
            }
            vec![Edit::new(old.span.clone(), text)]
        }
        Some(Binding { value: None, name_span, .. }) => {
            let text = format!("={}", quoted(value, Quote::None).map_err(refused)?);
            vec![Edit::new(name_span.end..name_span.end, text)]
        }
        None => {
            let end = document.bytes().len();
            let line = format!("{name}={}", quoted(value, Quote::None).map_err(refused)?);
            let newline = document.newline().text();
            let ends = document.bytes().last().is_none_or(|last| matches!(last, b'\n' | b'\r'));
            let starts_text = end == document.text_start();
            let text = if ends || starts_text { format!("{line}{newline}") } else { format!("{newline}{line}") };
            vec![Edit::new(end..end, text)]
        }
    };
    if !keeps_all_but(document, &edits, &[(name, Some(value))]) {
        return Err(refused("an unfinished quote elsewhere in the file would swallow it"));
    }
    Ok(edits)
}

/// The edits that make every binding of a name a comment; none where there is none.
pub fn comment_out(document: &Document, name: &str) -> Vec<Edit> {
    let lines = document.lines().iter();
    lines
        .filter(|line| matches!(&line.content, Content::Binding(it) if it.name == name))
        .flat_map(|line| comment_out_line(document, line))
        .collect()
}

/// The edits that make a statement a comment, each of its lines.
pub(crate) fn comment_out_line(document: &Document, line: &Line) -> Vec<Edit> {
    let start = line.span.start.max(document.text_start());
    let mut starts = line_starts(document.bytes(), start..line.span.end);
    // Behind the indentation.
    starts[0] = match &line.content {
        Content::Binding(binding) => binding.export.as_ref().unwrap_or(&binding.name_span).start,
        Content::Unparsed(unparsed) => unparsed.start,
        Content::Blank | Content::Comment => start,
    };
    starts.into_iter().map(|at| Edit::new(at..at, "# ")).collect()
}

/// A line that edits change, for a person to look at before they are written.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct ChangedLine {
    /// Its number in the file as it was; for a new line that of the line before which it stands.
    pub number: usize,
    /// What it was; `None` where it is new.
    pub before: Option<String>,
    /// What it becomes; `None` where it goes.
    pub after: Option<String>,
}

/// The lines that differ between two versions of a file. Values of secrets are not in them.
pub fn changed_lines(before: &Document, after: &Document) -> Vec<ChangedLine> {
    let (old, new) = (shown_lines(before), shown_lines(after));
    let same_start = old.iter().zip(&new).take_while(|(old, new)| old == new).count();
    let most = old.len().min(new.len()) - same_start;
    let same_end = old.iter().rev().zip(new.iter().rev()).take(most).take_while(|(old, new)| old == new).count();
    let (old, new) = (&old[same_start..old.len() - same_end], &new[same_start..new.len() - same_end]);
    // Edits rarely change how many lines there are; where they do, a line is either the same as one further down or not.
    let mut changes = Vec::new();
    let (mut at, mut next) = (0, 0);
    while at < old.len() || next < new.len() {
        let number = same_start + at + 1;
        let text = |line: &ShownLine| line.shown.clone();
        match (old.get(at), new.get(next)) {
            (Some(one), Some(other)) if one == other => (at, next) = (at + 1, next + 1),
            (Some(one), Some(_)) if new[next..].contains(one) => {
                changes.push(ChangedLine { number, before: None, after: Some(text(&new[next])) });
                next += 1;
            }
            (Some(one), Some(other)) if old[at..].contains(other) => {
                changes.push(ChangedLine { number, before: Some(text(one)), after: None });
                at += 1;
            }
            (one, other) => {
                changes.push(ChangedLine { number, before: one.map(text), after: other.map(text) });
                (at, next) = (at + usize::from(one.is_some()), next + usize::from(other.is_some()));
            }
        }
    }
    changes
}

/// A statement as it may be shown; compared by its bytes, so that a changed secret is a change.
struct ShownLine {
    bytes: Vec<u8>,
    shown: String,
}

impl PartialEq for ShownLine {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

fn shown_lines(document: &Document) -> Vec<ShownLine> {
    let lines = document.lines().iter();
    lines
        .map(|line| {
            let bytes = document.bytes()[line.span.clone()].to_vec();
            let secret = match &line.content {
                Content::Binding(Binding { name, value: Some(value), .. }) if is_secret(name) => {
                    Some(value.span.clone())
                }
                // A comment or a line that nobody can read may hide a secret that was commented out or mistyped.
                Content::Comment | Content::Unparsed(_) => hidden_secret(document, line.span.clone()),
                _ => None,
            };
            let shown = match secret {
                Some(secret) if !secret.is_empty() => {
                    let (start, end) = (line.span.start..secret.start, secret.end..line.span.end);
                    format!("{}(secret){}", document.text(start), document.text(end))
                }
                _ => document.text(line.span.clone()),
            };
            ShownLine { bytes, shown: shown.trim_end_matches(['\r', '\n']).to_owned() }
        })
        .collect()
}

/// The text behind the first `=`, where a word before it is the name of a secret.
fn hidden_secret(document: &Document, span: Range<usize>) -> Option<Range<usize>> {
    let bytes = &document.bytes()[span.clone()];
    let equals = bytes.iter().position(|byte| *byte == b'=')?;
    let before = String::from_utf8_lossy(&bytes[..equals]);
    let word = |character: char| !character.is_ascii_alphanumeric() && character != '_';
    let secret = before.split(word).any(is_secret);
    let end = bytes.len() - bytes.iter().rev().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
    (secret && equals + 1 < end).then(|| span.start + equals + 1..span.start + end)
}

/// Whether edits change what is read for the given names to what is given, and for no other name.
pub(crate) fn keeps_all_but(document: &Document, edits: &[Edit], changed: &[(&str, Option<&str>)]) -> bool {
    let Ok(bytes) = apply(document.bytes(), edits) else { return false };
    let values = |document: &Document| -> BTreeMap<String, String> {
        Written::of(document).iter().map(|(name, entry)| (name.to_owned(), entry.text.clone())).collect()
    };
    let mut expected = values(document);
    for (name, value) in changed {
        match value {
            Some(value) => expected.insert((*name).to_owned(), (*value).to_owned()),
            None => expected.remove(*name),
        };
    }
    values(&Document::parse(bytes)) == expected
}

fn is_name(name: &str) -> bool {
    !name.starts_with(|first: char| first.is_ascii_digit())
        && !name.is_empty()
        && name.chars().all(|character| character.is_ascii_alphanumeric() || character == '_')
}

/// A value in a form that python-dotenv reads back: as before where it can be, else the first of none, `'`, `"` that does it.
pub(crate) fn quoted(value: &str, before: Quote) -> Result<String, &'static str> {
    if value.contains('\0') {
        return Err("it has a null byte");
    }
    if python::expands(value) {
        return Err("python-dotenv would put other variables into it");
    }
    let double = || {
        let mut text = String::from("\"");
        for character in value.chars() {
            match character {
                '\\' => text.push_str("\\\\"),
                '"' => text.push_str("\\\""),
                '\n' => text.push_str("\\n"),
                '\r' => text.push_str("\\r"),
                other => text.push(other),
            }
        }
        text.push('"');
        text
    };
    Ok(match before {
        Quote::None if is_plain(value) || value.is_empty() => value.to_owned(),
        Quote::Double if is_plain(value) || value.is_empty() => format!("\"{value}\""),
        _ if fits_single_quotes(value) => format!("'{value}'"),
        _ => double(),
    })
}

/// Whether every reader of such files takes these characters for themselves, without quotes.
pub(crate) fn is_plain(value: &str) -> bool {
    !value.is_empty()
        && value
            .chars()
            .all(|it| it.is_alphanumeric() || matches!(it, '_' | '.' | '/' | ':' | '@' | '%' | '+' | ',' | '-' | '='))
}

/// Whether python-dotenv and a shell read it alike between single quotes.
pub(crate) fn fits_single_quotes(value: &str) -> bool {
    !value.contains(['\'', '\n', '\r']) && !value.contains("\\\\") && !value.ends_with('\\')
}
