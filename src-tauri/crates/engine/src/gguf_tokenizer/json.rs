//! The text of a `tokenizer.json`, its keys in the library's order.

use std::fmt::Write as _;

use serde_json::{Value, json};

/// A token that is found in a text before it is split.
pub(super) struct Added {
    pub(super) id: u32,
    content: String,
    special: bool,
    /// Whether it swallows the white space before it.
    pub(super) strips_left: bool,
}

impl Added {
    pub(super) fn new(id: u32, content: &str, special: bool) -> Self {
        Self { id, content: content.to_owned(), special, strips_left: false }
    }

    fn json(&self) -> Value {
        let Self { id, content, special, strips_left } = self;
        json!({"id": id, "content": content, "single_word": false, "lstrip": strips_left, "rstrip": false,
            "normalized": false, "special": special})
    }
}

/// Everything but the model.
pub(super) struct Parts {
    pub(super) added: Vec<Added>,
    /// What fills a row up.
    pub(super) padding: Option<(u32, String)>,
    pub(super) normalizer: Value,
    pub(super) pre_tokenizer: Value,
    pub(super) post_processor: Value,
    pub(super) decoder: Value,
}

impl Parts {
    /// The whole text around `model`, which is an object in JSON.
    pub(super) fn around(&self, model: &str) -> String {
        let padding = self.padding.as_ref().map(|(id, token)| {
            json!({"strategy": "BatchLongest", "direction": "Right", "pad_to_multiple_of": null,
                "pad_id": id, "pad_type_id": 0, "pad_token": token})
        });
        let added = self.added.iter().map(Added::json).collect::<Value>();
        let mut text = String::with_capacity(model.len() + (1 << 16));
        let Self { normalizer, pre_tokenizer, post_processor, decoder, .. } = self;
        let parts: [(&str, String); 7] = [
            ("version", "\"1.0\"".to_owned()),
            ("truncation", "null".to_owned()),
            ("padding", padding.map_or_else(|| "null".to_owned(), |padding| padding.to_string())),
            ("added_tokens", added.to_string()),
            ("normalizer", normalizer.to_string()),
            ("pre_tokenizer", pre_tokenizer.to_string()),
            ("post_processor", post_processor.to_string()),
        ];
        text.push('{');
        for (key, value) in parts {
            let _ = write!(text, "\"{key}\":{value},");
        }
        let _ = write!(text, "\"decoder\":{decoder},\"model\":{model}}}");
        text
    }
}

/// `text` in quotes.
pub(super) fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("a text can be written. This is a bug.")
}

/// A text for an error message.
pub(super) fn short(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// A map from texts to ids, in the order of `pieces`.
pub(super) fn numbered<'a>(pieces: impl IntoIterator<Item = (&'a str, u32)>) -> String {
    let mut map = String::from("{");
    for (text, id) in pieces {
        if map.len() > 1 {
            map.push(',');
        }
        let _ = write!(map, "{}:{id}", quoted(text));
    }
    map.push('}');
    map
}

/// What stands around a text and between two: a post-processor.
pub(super) fn template(
    before: Option<(&str, u32)>,
    after: Option<(&str, u32)>,
    between: Option<(&str, u32)>,
    second_type: u32,
) -> Value {
    let special = |token: Option<(&str, u32)>, kind: u32| {
        token.map(|(name, _)| json!({"SpecialToken": {"id": name, "type_id": kind}}))
    };
    let text = |name: &str, kind: u32| Some(json!({"Sequence": {"id": name, "type_id": kind}}));
    let one = [special(before, 0), text("A", 0), special(after, 0)];
    let two = [special(between, 0), text("B", second_type), special(after, second_type)];
    let single: Vec<Value> = one.iter().flatten().cloned().collect();
    let pair: Vec<Value> = one.into_iter().chain(two).flatten().collect();
    let named = before.into_iter().chain(after).chain(between);
    let special_tokens: serde_json::Map<String, Value> =
        named.map(|(name, id)| (name.to_owned(), json!({"id": name, "ids": [id], "tokens": [name]}))).collect();
    json!({"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": special_tokens})
}
