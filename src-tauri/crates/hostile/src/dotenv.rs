//! The `.env`: whatever it is, reading keeps its bytes and an edit changes no other one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use embedbar_settings::{
    Document, Edit, Layers, Severity, World, Written, apply, changed_lines, comment_out, fix_all, lint, resolve, set,
};

/// A world in which some paths lead to something, and no disk.
struct Imagined;

impl World for Imagined {
    fn folder(&self) -> &Path {
        Path::new("/project")
    }

    fn exists(&self, path: &Path) -> bool {
        path.as_os_str().len().is_multiple_of(2)
    }

    fn home(&self) -> Option<&Path> {
        Some(Path::new("/people/ada"))
    }

    fn mode(&self) -> Option<u32> {
        Some(0o644)
    }

    fn packages(&self) -> Vec<PathBuf> {
        vec![PathBuf::from("/project/model.mlpackage")]
    }
}

fn said(document: &Document) -> BTreeMap<String, String> {
    Written::of(document).iter().map(|(name, entry)| (name.to_owned(), entry.text.clone())).collect()
}

/// Applies edits and asserts that every byte outside of them is as it was.
fn applied(before: &[u8], edits: &[Edit]) -> Document {
    let after = apply(before, edits).expect("the edits fit each other and the file");
    let mut sorted: Vec<&Edit> = edits.iter().collect();
    sorted.sort_by_key(|edit| (edit.span.start, edit.span.end));
    let (mut at, mut rest) = (0, &after[..]);
    for edit in sorted {
        let kept = rest.strip_prefix(&before[at..edit.span.start]).expect("what stands before an edit is kept");
        rest = kept.strip_prefix(edit.replacement.as_bytes()).expect("the edit is there");
        at = edit.span.end;
    }
    assert_eq!(rest, &before[at..], "what stands behind the edits is kept");
    Document::parse(after)
}

/// The bytes of a file.
pub fn dotenv(bytes: &[u8]) {
    let document = Document::parse(bytes);
    let lines: Vec<u8> = document.lines().iter().flat_map(|line| bytes[line.span.clone()].to_vec()).collect();
    assert_eq!(lines, bytes, "the lines are the file");
    let before = said(&document);
    for (name, value) in before.iter().take(4) {
        // What is there already is no change; another value changes this one alone.
        let same = set(&document, name, value).unwrap_or_default();
        assert_eq!(said(&applied(bytes, &same)), before, "`{name}` set to what it is");
        if let Ok(edits) = set(&document, name, "it's \"x\" # y") {
            let mut expected = before.clone();
            expected.insert(name.clone(), "it's \"x\" # y".to_owned());
            assert_eq!(said(&applied(bytes, &edits)), expected, "`{name}` set to something else");
        }
        let mut expected = before.clone();
        expected.remove(name);
        assert_eq!(said(&applied(bytes, &comment_out(&document, name))), expected, "`{name}` made a comment");
    }
    if let Ok(edits) = set(&document, "PAPR_ENABLE_COREML", "true") {
        let after = applied(bytes, &edits);
        let mut expected = before.clone();
        expected.insert("PAPR_ENABLE_COREML".to_owned(), "true".to_owned());
        assert_eq!(said(&after), expected, "a variable is set");
        let _ = changed_lines(&document, &after);
    }
    for finding in lint(&document, &Imagined) {
        if let Some(fix) = finding.fix {
            let _ = applied(bytes, &fix.edits);
        }
    }
    let fixed = fix_all(&document, &Imagined, Severity::Note).document;
    let again = fix_all(&fixed, &Imagined, Severity::Note).document;
    assert_eq!(again.bytes(), fixed.bytes(), "what is mended needs no mending");
    let (file, nothing) = (Written::of(&document), Written::default());
    let layers = Layers { overrides: &nothing, file: &file, app: &nothing, folder: Path::new("/project") };
    assert_eq!(resolve(layers), resolve(layers));
}
