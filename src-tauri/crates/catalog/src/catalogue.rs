//! All entries, and how to find one.

use std::sync::OnceLock;

use embedbar_contract::Precision;

use crate::{CatalogError, Entry};

/// The files that the program was built with.
const BUILTIN: [(&str, &str); 12] = [
    ("all-MiniLM-L6-v2.toml", include_str!("../../../../models/all-MiniLM-L6-v2.toml")),
    ("Qwen3-Embedding-0.6B.toml", include_str!("../../../../models/Qwen3-Embedding-0.6B.toml")),
    ("Qwen3-Embedding-4B.toml", include_str!("../../../../models/Qwen3-Embedding-4B.toml")),
    ("Qwen3-Embedding-8B.toml", include_str!("../../../../models/Qwen3-Embedding-8B.toml")),
    ("bge-small-en-v1.5.toml", include_str!("../../../../models/bge-small-en-v1.5.toml")),
    ("bge-base-en-v1.5.toml", include_str!("../../../../models/bge-base-en-v1.5.toml")),
    ("bge-large-en-v1.5.toml", include_str!("../../../../models/bge-large-en-v1.5.toml")),
    ("bge-m3.toml", include_str!("../../../../models/bge-m3.toml")),
    ("multilingual-e5-small.toml", include_str!("../../../../models/multilingual-e5-small.toml")),
    ("multilingual-e5-large.toml", include_str!("../../../../models/multilingual-e5-large.toml")),
    ("nomic-embed-text-v1.5.toml", include_str!("../../../../models/nomic-embed-text-v1.5.toml")),
    ("snowflake-arctic-embed-s.toml", include_str!("../../../../models/snowflake-arctic-embed-s.toml")),
];

/// The known models. No two share a name.
#[derive(Clone, Debug, PartialEq)]
pub struct Catalogue {
    entries: Vec<Entry>,
}

impl Catalogue {
    /// The models that the program was built with, the bundled one first.
    ///
    /// Their files are part of the program and each is read by a test, so that reading them cannot fail here.
    pub fn builtin() -> &'static Self {
        static BUILT: OnceLock<Catalogue> = OnceLock::new();
        BUILT.get_or_init(|| {
            let entries = BUILTIN.iter().map(|(file, text)| Entry::parse(file, text)).collect::<Result<_, _>>();
            entries.and_then(Self::new).unwrap_or_else(|error| panic!("{error}. This is a bug."))
        })
    }

    /// A catalogue of `entries`, whose names must differ.
    pub fn new(entries: Vec<Entry>) -> Result<Self, CatalogError> {
        for (number, one) in entries.iter().enumerate() {
            for other in &entries[..number] {
                if let Some(name) = one.names().into_iter().find(|name| other.names().contains(name)) {
                    return Err(CatalogError::SharedName { name, one: other.id.clone(), other: one.id.clone() });
                }
            }
        }
        Ok(Self { entries })
    }

    /// All of them.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The entry and the precision of an installed model by its name, as this program's conversions make it: `NAME`,
    /// `NAME-int8`, `NAME-4bit-macos15-papr`.
    pub fn installed(&self, name: &str) -> Option<(&Entry, Option<Precision>)> {
        let mut rest = name;
        for system in ["-papr", "-macos13", "-macos14", "-macos15"] {
            rest = rest.strip_suffix(system).unwrap_or(rest);
        }
        let suffixes = [("-fp16", Precision::Fp16), ("-int8", Precision::Int8), ("-4bit", Precision::FourBit)];
        let named =
            suffixes.iter().find_map(|(suffix, precision)| Some((rest.strip_suffix(suffix)?, Some(*precision))));
        let (model, precision) = named.unwrap_or((rest, None));
        Some((self.find(model)?, precision))
    }

    /// The model called `name`: its id with or without the owner, or an alias, in upper or lower case.
    ///
    /// Another owner's model of the same name is another model.
    pub fn find(&self, name: &str) -> Option<&Entry> {
        let name = name.trim().to_lowercase();
        self.entries.iter().find(|entry| entry.names().contains(&name))
    }

    /// The models that take less than `entry`, the largest first.
    pub fn smaller_than(&self, entry: &Entry) -> Vec<&Entry> {
        let mut smaller: Vec<&Entry> =
            self.entries.iter().filter(|other| other.parameters < entry.parameters).collect();
        smaller.sort_by_key(|other| std::cmp::Reverse(other.parameters));
        smaller
    }
}
