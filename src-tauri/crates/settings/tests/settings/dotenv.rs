//! Values and lines are those of python-dotenv, which read the same corpus (`tests/dotenv/make.py`).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use embedbar_settings::{Breakage, Content, Document, UnparsedReason, lint};
use serde::Deserialize;

use crate::world::Imagined;

#[derive(Deserialize)]
struct Expected {
    python_dotenv: String,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    base64: String,
    /// `null`: a `UnicodeDecodeError`.
    read: Option<Read>,
    /// Only where an older version reads something else.
    read_by_older: Option<Read>,
}

#[derive(Debug, Deserialize, PartialEq)]
struct Read {
    bindings: Vec<Bound>,
    errors: Vec<usize>,
}

#[derive(Debug, Deserialize, PartialEq)]
struct Bound {
    key: String,
    value: Option<String>,
    line: usize,
    expands: bool,
}

fn expected() -> Expected {
    serde_json::from_str(include_str!("../dotenv/expected.json")).expect("make.py wrote it")
}

fn document(case: &Case) -> Document {
    Document::parse(STANDARD.decode(&case.base64).expect("make.py wrote it"))
}

fn read(document: &Document) -> Read {
    let mut read = Read { bindings: Vec::new(), errors: Vec::new() };
    for line in document.lines() {
        match &line.content {
            Content::Binding(binding) => read.bindings.push(Bound {
                key: binding.name.clone(),
                value: binding.value.as_ref().map(|value| value.text.clone()),
                line: line.number,
                expands: binding.value.as_ref().is_some_and(|value| value.expands),
            }),
            Content::Unparsed(_) => read.errors.push(line.number),
            Content::Blank | Content::Comment => {}
        }
    }
    read
}

#[test]
fn every_file_is_read_as_python_dotenv_reads_it() {
    let expected = expected();
    assert_eq!(expected.python_dotenv, "1.2.4");
    assert!(expected.cases.len() >= 100, "{} cases", expected.cases.len());
    let mut differ = Vec::new();
    for case in &expected.cases {
        let document = document(case);
        match &case.read {
            Some(python) if read(&document) == *python => {}
            Some(python) => differ.push(format!("{}: python {python:?}, we {:?}", case.name, read(&document))),
            None if matches!(document.breakage(), Some(Breakage::NotUtf8 { .. })) => {}
            None => differ.push(format!("{}: python stops, we do not", case.name)),
        }
    }
    assert!(differ.is_empty(), "{}", differ.join("\n"));
}

#[test]
fn what_python_reads_is_broken_only_by_an_open_quote_or_a_null_byte() {
    for case in expected().cases.iter().filter(|case| case.read.is_some()) {
        let document = document(case);
        let open_quote = document.lines().iter().any(|line| {
            matches!(&line.content, Content::Unparsed(unparsed) if unparsed.reason == UnparsedReason::UnfinishedQuote)
        });
        let broken = open_quote || document.bytes().contains(&0);
        assert_eq!(document.breakage().is_some(), broken, "{}: {:?}", case.name, document.breakage());
    }
}

#[test]
fn what_an_older_python_dotenv_reads_differently_is_found() {
    let cases = expected().cases;
    let differ: Vec<_> = cases.iter().filter(|case| case.read_by_older.is_some()).collect();
    assert!(!differ.is_empty());
    for case in differ {
        // A file without a line has nothing to be read differently.
        assert!(!lint(&document(case), &Imagined::default()).is_empty(), "{}", case.name);
    }
}
