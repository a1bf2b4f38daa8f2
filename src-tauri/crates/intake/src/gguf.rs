//! One GGUF file, and beside it the tokenizer and the settings of sentence-transformers, where they are there.

use std::io::BufReader;

use crate::folder::Folder;
use crate::gguf_header::{self, Header};
use crate::recognise::{Model, Scope};
use crate::{IntakeError, Kind, Summary, checkpoint, files, names, tokenizer};

const READ_AHEAD: usize = 1 << 16;

const TOKENIZER: &str = "tokenizer.json";

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
    if folder.has(TOKENIZER) {
        let path = folder.path.join(TOKENIZER);
        tokenizer::read(&files::read(&path, tokenizer::MAX_BYTES)?).map_err(IntakeError::format(&path))?;
        model.take(folder, TOKENIZER, TOKENIZER)?;
    } else {
        let own = if has_tokens(&header) {
            "; the file has tokens of its own"
        } else {
            ", and the file has no tokens of its own"
        };
        model.notes.push(format!("`{TOKENIZER}` is not beside it{own}"));
    }
    // Without the tokenizer, settings beside a file that was dropped are more likely to be another model's.
    if scope == Scope::Whole || folder.has(TOKENIZER) {
        checkpoint::take_companions(&mut model, folder)?;
    }
    if scope == Scope::Whole {
        model.take_papers(folder)?;
        model.note_leftovers(folder);
    }
    Ok(model)
}

fn has_tokens(header: &Header) -> bool {
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
