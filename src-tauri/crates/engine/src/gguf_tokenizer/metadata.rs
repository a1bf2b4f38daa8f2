//! The keys of a tokenizer, believed only within bounds: counts and lengths are compared with limits, ids with the vocabulary,
//! texts must be UTF-8. The header's own reader has already checked that every list lies inside the file.

use std::{collections::HashMap, ops::Range};

use serde_json::Value;

use super::Unbuildable;
use crate::{
    facts::VOCABULARY,
    gguf::{Header, List},
};

/// Bytes of a token or of a merge; real ones have some hundred, a row of equal characters in a trained one 4,096.
const TOKEN: usize = 1 << 14;
/// Items of a list: the rows that an embedding table can have.
const ITEMS: usize = *VOCABULARY.end() as usize;

/// A file's settings below `tokenizer.ggml.`.
pub(super) struct Metadata<'a> {
    bytes: &'a [u8],
    values: HashMap<String, Value>,
    lists: HashMap<String, List>,
}

fn full(key: &str) -> String {
    format!("tokenizer.ggml.{key}")
}

impl<'a> Metadata<'a> {
    pub(super) fn new(bytes: &'a [u8], header: Header) -> Self {
        Self { bytes, values: header.values, lists: header.lists }
    }

    /// The bytes from the file's start to the end of the last list.
    pub(super) fn whole(&self) -> Range<usize> {
        0..self.lists.values().map(|list| list.range.end).max().unwrap_or(0)
    }

    pub(super) fn text(&self, key: &str) -> Option<&str> {
        self.values.get(&full(key))?.as_str()
    }

    pub(super) fn flag(&self, key: &str) -> Option<bool> {
        self.values.get(&full(key))?.as_bool()
    }

    /// The id of a token out of `count`.
    pub(super) fn id(&self, key: &'static str, count: usize) -> Result<Option<u32>, Unbuildable> {
        let Some(value) = self.values.get(&full(key)) else { return Ok(None) };
        // Readers take what means "none" for no id.
        if value.as_u64() == Some(u64::from(u32::MAX)) || value.as_i64() == Some(-1) {
            return Ok(None);
        }
        match value.as_u64().and_then(|id| u32::try_from(id).ok()).filter(|&id| (id as usize) < count) {
            Some(id) => Ok(Some(id)),
            None => Err(Unbuildable::key(key, format!("is `{value}`, and there are `{count}` tokens"))),
        }
    }

    fn list(&self, key: &'static str, kinds: &[u32]) -> Result<Option<(&List, &'a [u8])>, Unbuildable> {
        let Some(list) = self.lists.get(&full(key)) else { return Ok(None) };
        if list.count > ITEMS {
            return Err(Unbuildable::key(key, format!("has `{}` items", list.count)));
        }
        if !kinds.contains(&list.kind) {
            return Err(Unbuildable::key(key, format!("is a list of the type `{}`", list.kind)));
        }
        Ok(Some((list, &self.bytes[list.range.clone()])))
    }

    /// A list of texts.
    pub(super) fn texts(&self, key: &'static str) -> Result<Option<Vec<&'a str>>, Unbuildable> {
        let Some((list, mut rest)) = self.list(key, &[8])? else { return Ok(None) };
        let mut texts = Vec::with_capacity(list.count);
        for place in 0..list.count {
            const INSIDE: &str = "the header's reader has passed over it. This is a bug.";
            let (length, after) = rest.split_first_chunk().expect(INSIDE);
            let (text, after) = after.split_at(usize::try_from(u64::from_le_bytes(*length)).expect(INSIDE));
            rest = after;
            if text.len() > TOKEN {
                return Err(Unbuildable::key(key, format!("has a text of `{}` bytes", text.len())));
            }
            let text = str::from_utf8(text)
                .map_err(|_| Unbuildable::key(key, format!("has bytes that are no text at `{place}`")))?;
            texts.push(text);
        }
        Ok(Some(texts))
    }

    /// A list of `count` integers of 32 bits.
    pub(super) fn integers(&self, key: &'static str, count: usize) -> Result<Option<Vec<i32>>, Unbuildable> {
        let Some((list, bytes)) = self.list(key, &[4, 5])? else { return Ok(None) };
        as_many(key, list, count)?;
        Ok(Some(bytes.as_chunks().0.iter().map(|bytes| i32::from_le_bytes(*bytes)).collect()))
    }

    /// A list of `count` finite numbers.
    pub(super) fn numbers(&self, key: &'static str, count: usize) -> Result<Option<Vec<f32>>, Unbuildable> {
        let Some((list, bytes)) = self.list(key, &[6])? else { return Ok(None) };
        as_many(key, list, count)?;
        let numbers: Vec<f32> = bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        match numbers.iter().position(|number| !number.is_finite()) {
            Some(place) => Err(Unbuildable::key(key, format!("has `{}` at `{place}`", numbers[place]))),
            None => Ok(Some(numbers)),
        }
    }

    /// A list of bytes.
    pub(super) fn bytes(&self, key: &'static str) -> Result<Option<&'a [u8]>, Unbuildable> {
        Ok(self.list(key, &[0, 1])?.map(|(_, bytes)| bytes))
    }
}

fn as_many(key: &'static str, list: &List, count: usize) -> Result<(), Unbuildable> {
    if list.count == count {
        Ok(())
    } else {
        Err(Unbuildable::key(key, format!("has `{}` items, and there are `{count}` tokens", list.count)))
    }
}
