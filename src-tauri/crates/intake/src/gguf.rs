//! One GGUF file, and the tokenizer beside it where there is one.

use std::io::BufReader;

use crate::folder::Folder;
use crate::gguf_header::{self, Header};
use crate::recognise::{Model, Scope};
use crate::{IntakeError, Kind, Summary, files, names, tokenizer};

const READ_AHEAD: usize = 1 << 16;

/// Files beside it that are taken where they are there; the tokenizer first.
const COMPANIONS: &[&str] = &["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"];

/// Reads the file `name` of `folder`.
pub(crate) fn read(folder: &Folder, name: &str, scope: Scope) -> Result<Model, IntakeError> {
    let (path, _) = folder.needed(name)?;
    if names::is_part(name, "gguf") {
        return Err(IntakeError::SplitGguf { path });
    }
    let (file, length) = files::open(&path)?;
    let header =
        gguf_header::read(BufReader::with_capacity(READ_AHEAD, file), length).map_err(IntakeError::format(&path))?;
    if header.number("split.count").is_some_and(|count| count > 1) {
        return Err(IntakeError::SplitGguf { path });
    }
    if let Some(what) = partial(&header) {
        return Err(IntakeError::Partial { path, what });
    }
    if header.architecture().is_none_or(str::is_empty) {
        return Err(IntakeError::damaged(&path, "it does not say its `general.architecture`"));
    }
    let mut model = Model::new(Kind::Gguf);
    model.take(folder, name, &format!("{}.gguf", names::cleaned(names::stem(name))))?;
    model.summary = summary(&header);
    model.licence = header.text("general.license").filter(|text| !text.is_empty()).map(names::shown);
    if folder.has(COMPANIONS[0]) {
        let path = folder.path.join(COMPANIONS[0]);
        tokenizer::read(&files::read(&path, tokenizer::MAX_BYTES)?).map_err(IntakeError::format(&path))?;
        for name in COMPANIONS.iter().filter(|name| folder.has(name)) {
            model.take(folder, name, name)?;
        }
    } else if header.settings.contains_key("tokenizer.huggingface.json") || has_whole_tokenizer(&header) {
        model.notes.push("`tokenizer.json` is not beside it; the file's own is used".to_owned());
    } else {
        model.notes.push("`tokenizer.json` is not beside it, and the file has no tokens of its own".to_owned());
    }
    if scope == Scope::Whole {
        model.take_papers(folder)?;
        model.note_leftovers(folder);
    }
    Ok(model)
}

fn has_whole_tokenizer(header: &Header) -> bool {
    header.lists.contains_key("tokenizer.ggml.tokens")
}

/// What it is a part of, if it is no model by itself.
fn partial(header: &Header) -> Option<&'static str> {
    match (header.text("general.type"), header.architecture()) {
        (Some("adapter"), _) => Some("an adapter (LoRA)"),
        (Some("mmproj"), _) | (_, Some("clip")) => Some("the projector of a model that sees"),
        (Some("imatrix"), _) => Some("a table of importances for quantising"),
        _ if header.tensors.is_empty() => Some("a vocabulary without weights"),
        _ => None,
    }
}

fn summary(header: &Header) -> Summary {
    let architecture = header.architecture().unwrap_or_default();
    let number = |name: &str| header.number(&format!("{architecture}.{name}"));
    let mut summary = Summary {
        architecture: Some(names::shown(architecture)),
        layers: number("block_count"),
        hidden: number("embedding_length"),
        vocabulary: header.lists.get("tokenizer.ggml.tokens").copied().or_else(|| number("vocab_size")),
        max_positions: number("context_length"),
        ..Summary::default()
    };
    for tensor in &header.tensors {
        summary.count(tensor.dtype, tensor.numbers);
    }
    summary.quantisation = summary.prevailing();
    summary
}
