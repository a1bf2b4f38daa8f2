//! The tokens of a file with their types, and which of them are found in a text before it is split.

use std::collections::HashSet;

use super::{Unbuildable, json::Added, metadata::Metadata};

/// What llama.cpp calls the type of a token.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    Normal,
    Unknown,
    Control,
    UserDefined,
    /// A row of the table of embeddings without a token.
    Unused,
    Byte,
}

/// The ids that a file names, each inside the vocabulary.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Named {
    pub(super) begin: Option<u32>,
    pub(super) end: Option<u32>,
    pub(super) class: Option<u32>,
    pub(super) separator: Option<u32>,
    pub(super) unknown: Option<u32>,
    pub(super) padding: Option<u32>,
    pub(super) mask: Option<u32>,
}

impl Named {
    fn all(self) -> impl Iterator<Item = u32> {
        let Self { begin, end, class, separator, unknown, padding, mask } = self;
        [begin, end, class, separator, unknown, padding, mask].into_iter().flatten()
    }
}

/// A file's tokens in the order of their ids.
pub(super) struct Vocabulary<'a> {
    pub(super) texts: Vec<&'a str>,
    pub(super) kinds: Vec<Kind>,
    pub(super) named: Named,
}

impl<'a> Vocabulary<'a> {
    pub(super) fn read(metadata: &Metadata<'a>) -> Result<Self, Unbuildable> {
        let texts = metadata.texts("tokens")?.unwrap_or_default();
        if texts.is_empty() {
            return Err(Unbuildable::key("tokens", "has no tokens"));
        }
        let count = texts.len();
        let mut kinds = match metadata.integers("token_type", count)? {
            Some(types) => types.into_iter().map(kind).collect::<Result<Vec<_>, _>>()?,
            None => vec![Kind::Normal; count],
        };
        for (id, (text, kind)) in texts.iter().zip(&mut kinds).enumerate() {
            // Older converters call the rows without a token user-defined.
            let names = || *text == format!("[PAD{id}]") || *text == format!("\u{2581}[PAD{id}]");
            if *kind == Kind::UserDefined && names() {
                *kind = Kind::Unused;
            }
        }
        let id = |key| metadata.id(key, count);
        // The word is misspelt in the format.
        let separator = id("seperator_token_id")?.or(id("separator_token_id")?);
        let named = Named {
            begin: id("bos_token_id")?,
            end: id("eos_token_id")?,
            class: id("cls_token_id")?,
            separator,
            unknown: id("unknown_token_id")?,
            padding: id("padding_token_id")?,
            mask: id("mask_token_id")?,
        };
        // Readers take what is named for a control token, whatever its type.
        for id in named.all() {
            if kinds[id as usize] == Kind::Normal {
                kinds[id as usize] = Kind::Control;
            }
        }
        Ok(Self { texts, kinds, named })
    }

    /// Ids with types, in order, rows without a token left out.
    pub(super) fn used(&self) -> impl Iterator<Item = (u32, &'a str, Kind)> {
        let used = self.texts.iter().zip(&self.kinds).zip(0..).filter(|((_, kind), _)| **kind != Kind::Unused);
        used.map(|((text, kind), id)| (id, *text, *kind))
    }

    pub(super) fn kind(&self, id: u32) -> Kind {
        self.kinds[id as usize]
    }
}

fn kind(number: i32) -> Result<Kind, Unbuildable> {
    Ok(match number {
        0 | 1 => Kind::Normal,
        2 => Kind::Unknown,
        3 => Kind::Control,
        4 => Kind::UserDefined,
        5 => Kind::Unused,
        6 => Kind::Byte,
        other => return Err(Unbuildable::key("token_type", format!("has the type `{other}`"))),
    })
}

/// The tokens among `pieces` that are found before a text is split.
pub(super) fn added(pieces: &[(u32, String, Kind)]) -> Vec<Added> {
    pieces
        .iter()
        .filter(|(_, text, kind)| matches!(kind, Kind::Control | Kind::UserDefined) && !text.is_empty())
        .map(|(id, text, kind)| Added::new(*id, text, *kind == Kind::Control))
        .collect()
}

/// Refuses a vocabulary in which a text stands twice: one of its ids would be lost.
pub(super) fn refuse_doubled(pieces: &[(u32, String, Kind)]) -> Result<(), Unbuildable> {
    let mut met = HashSet::with_capacity(pieces.len());
    match pieces.iter().find(|(_, text, _)| !met.insert(text.as_str())) {
        Some((_, text, _)) => Err(Unbuildable::Doubled(super::json::short(text))),
        None => Ok(()),
    }
}
