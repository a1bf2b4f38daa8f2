//! What the library takes for granted of a template of special tokens and does not check when it reads one: it panics at the first
//! text. It is no reading of the template; that stays the library's.

use serde_json::Value;
use tokenizers::PostProcessorWrapper;

/// Checks that there is at most one template and that it has what it names for one text: special tokens that its table knows, and no
/// second text. The error says what is wrong.
///
/// A second template would be given the pieces of the first as so many texts. What a template says of pairs of texts is left alone,
/// because an embedding is of one.
pub fn check_templates(post_processor: Option<&PostProcessorWrapper>) -> Result<(), String> {
    // As the library has read it, written out again: its types keep their pieces to themselves.
    let written = serde_json::to_value(post_processor).map_err(|error| error.to_string())?;
    let mut templates = Vec::new();
    collect(&written, &mut templates);
    match *templates {
        [] => Ok(()),
        [template] => check(template),
        _ => Err("it puts the special tokens of several templates around a text".to_owned()),
    }
}

fn collect<'part>(part: &'part Value, templates: &mut Vec<&'part Value>) {
    if part["type"] == "TemplateProcessing" {
        templates.push(part);
    }
    for inner in part["processors"].as_array().into_iter().flatten() {
        collect(inner, templates);
    }
}

fn check(part: &Value) -> Result<(), String> {
    let named = |piece: &Value| piece["SpecialToken"]["id"].as_str().map(str::to_owned);
    for piece in part["single"].as_array().into_iter().flatten() {
        if let Some(name) = named(piece).filter(|name| part["special_tokens"].get(name).is_none()) {
            return Err(format!(
                "its template puts the special token `{name}` around a text and does not say what that is"
            ));
        }
        if piece["Sequence"]["id"] == "B" {
            return Err("its template for one text asks for a second one".to_owned());
        }
    }
    Ok(())
}
