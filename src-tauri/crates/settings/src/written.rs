//! What the user wrote, by name. Nothing is checked, resolved or given a default here.

use std::collections::BTreeMap;
use std::fmt;

use crate::document::Document;
use crate::secret::shown;
use crate::variables;

/// What one place says: a file, the app's settings, or the flags of a command.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Written {
    entries: BTreeMap<String, Entry>,
}

/// What is written for one name.
#[derive(Clone, Eq, PartialEq)]
pub struct Entry {
    name: String,
    /// The value as python-dotenv reads it, before it expands anything.
    pub text: String,
    /// The line of the file; `None` where it comes from no file.
    pub line: Option<usize>,
    /// Whether python-dotenv would put the value of another variable into it.
    pub expands: bool,
}

impl Entry {
    /// The value as it may be shown.
    pub fn shown(&self) -> &str {
        shown(&self.name, &self.text)
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}={:?}", self.name, self.shown())?;
        match self.line {
            Some(line) => write!(formatter, " (line {line})"),
            None => Ok(()),
        }
    }
}

impl Written {
    /// What a file says: of several bindings of a name the last one; a name without `=` sets nothing.
    pub fn of(document: &Document) -> Self {
        let mut entries = BTreeMap::new();
        for (line, binding) in document.bindings() {
            let name = binding.name.clone();
            match &binding.value {
                Some(value) => {
                    let (text, expands) = (value.text.clone(), value.expands);
                    entries.insert(name.clone(), Entry { name, text, line: Some(line), expands });
                }
                None => {
                    entries.remove(&name);
                }
            }
        }
        Self { entries }
    }

    /// What the flags of a command or the app's own settings say, under the same names.
    pub fn from_pairs<Name: Into<String>, Text: Into<String>>(pairs: impl IntoIterator<Item = (Name, Text)>) -> Self {
        let entries = pairs.into_iter().map(|(name, text)| {
            let (name, text) = (name.into(), text.into());
            (name.clone(), Entry { name, text, line: None, expands: false })
        });
        Self { entries: entries.collect() }
    }

    /// What is written for a name.
    pub fn get(&self, name: &str) -> Option<&Entry> {
        self.entries.get(name)
    }

    /// All of it, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.entries.iter().map(|(name, entry)| (name.as_str(), entry))
    }

    /// The names on which Embedbar acts, in order: what somebody approves when a file is trusted.
    pub fn keys_that_matter(&self) -> Vec<String> {
        self.entries.keys().filter(|name| variables::find(name).is_some_and(|it| it.matters)).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_one_counts_and_a_name_alone_sets_nothing() {
        let written = Written::of(&Document::parse("A=1\nB=2\nA=3\nB\nC\nC=4\n"));
        assert_eq!(written.get("A").map(|entry| (entry.text.as_str(), entry.line)), Some(("3", Some(3))));
        assert_eq!(written.get("B"), None);
        assert_eq!(written.get("C").map(|entry| entry.text.as_str()), Some("4"));
    }

    #[test]
    fn what_is_approved_is_what_changes_something() {
        let text = "HF_TOKEN=x\nPAPR_ENABLE_COREML=true\nOTHER=1\nEMBEDBAR_MODEL=a/b\nPAPR_LOG_LEVEL=INFO\n";
        assert_eq!(
            Written::of(&Document::parse(text)).keys_that_matter(),
            ["EMBEDBAR_MODEL", "HF_TOKEN", "PAPR_ENABLE_COREML"]
        );
    }

    #[test]
    fn a_secret_is_not_dumped() {
        let written = Written::of(&Document::parse("PAPR_MEMORY_API_KEY=hunter2\nPAPR_COREML_VARIANT=int8\n"));
        let dump = format!("{written:?}");
        assert!(!dump.contains("hunter2") && dump.contains("int8"), "{dump}");
    }
}
