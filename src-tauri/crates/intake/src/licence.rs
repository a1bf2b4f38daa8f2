//! Which licence a model says it has. Nobody has checked it; it is shown, not acted on.

use crate::names;

/// From the front matter of a model card: `license: apache-2.0`, or `license_name` where that says `other`.
pub(crate) fn of_card(text: &str) -> Option<String> {
    let mut lines = text.trim_start_matches('\u{feff}').lines();
    if lines.next()?.trim_end() != "---" {
        return None;
    }
    let front: Vec<&str> = lines.take(400).take_while(|line| line.trim_end() != "---").collect();
    let field = |name: &str| {
        let found = front.iter().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        let found = found.split(" #").next().unwrap_or_default().trim().trim_matches(['"', '\'']);
        // A list or a block begins on the next line.
        (!found.is_empty() && !found.starts_with(['[', '|', '>'])).then(|| names::shown(found))
    };
    match field("license") {
        Some(licence) if licence == "other" => field("license_name").or(Some(licence)),
        found => found,
    }
}

/// Known beginnings of the texts of licences.
const TEXTS: &[(&str, &str)] = &[
    ("apache license", "apache-2.0"),
    ("mit license", "mit"),
    ("the mit license", "mit"),
    ("bsd 3-clause", "bsd-3-clause"),
    ("bsd 2-clause", "bsd-2-clause"),
    ("gnu general public license", "gpl"),
    ("gnu affero general public license", "agpl"),
    ("gnu lesser general public license", "lgpl"),
    ("mozilla public license", "mpl-2.0"),
    ("creative commons attribution-noncommercial", "cc-by-nc"),
    ("attribution-noncommercial 4.0", "cc-by-nc-4.0"),
    ("attribution 4.0 international", "cc-by-4.0"),
    ("gemma terms of use", "gemma"),
    ("tongyi qianwen", "qwen"),
];

/// From the text of a licence: its known name, or its first line.
pub(crate) fn of_text(text: &str) -> Option<String> {
    let first = text.trim_start_matches('\u{feff}').lines().map(str::trim).find(|line| !line.is_empty())?;
    let small = first.to_lowercase();
    let known = TEXTS.iter().find(|(beginning, _)| small.starts_with(beginning));
    Some(known.map_or_else(|| names::shown(first), |(_, name)| (*name).to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cards_and_texts_are_understood() {
        assert_eq!(of_card("---\ntags:\n- a\nlicense: apache-2.0\n---\n# x"), Some("apache-2.0".to_owned()));
        assert_eq!(of_card("---\r\nlicense: \"mit\" # yes\r\n---\r\n"), Some("mit".to_owned()));
        assert_eq!(of_card("---\nlicense: other\nlicense_name: qwen\n---\n"), Some("qwen".to_owned()));
        assert_eq!(of_card("# x\nlicense: mit\n"), None);
        assert_eq!(of_card("---\nx: 1\n---\nlicense: mit\n"), None);
        assert_eq!(of_text("\n    Apache License\n  Version 2.0"), Some("apache-2.0".to_owned()));
        assert_eq!(of_text("Our own terms\n"), Some("Our own terms".to_owned()));
        assert_eq!(of_text(" \n"), None);
    }
}
