//! Names that come from outside: whether one is a path below a folder, on any system, and how it is shown.

/// Parts of a path at most.
const DEPTH: usize = 16;
/// Bytes of a part, which is what file systems take.
const PART: usize = 255;

/// Whether `name` is a plain path below a folder, with `/` between its parts; why not, if it is not.
pub(crate) fn check(name: &str) -> Result<(), &'static str> {
    if name.is_empty() {
        return Err("it is empty");
    }
    if name.starts_with('/') {
        return Err("it is absolute");
    }
    if name.contains('\\') {
        return Err("it has a backslash");
    }
    if name.contains(':') {
        return Err("it has a colon, as a drive does");
    }
    if name.chars().any(|it| it.is_control() || is_invisible(it)) {
        return Err("it has characters that are not shown");
    }
    let mut depth = 0;
    for part in name.split('/') {
        depth += 1;
        match part {
            "" => return Err("a part of it is empty"),
            "." | ".." => return Err("it leads out of its folder"),
            part if part.len() > PART => return Err("a part of it is too long"),
            _ => {}
        }
    }
    if depth > DEPTH {
        return Err("it is too deep");
    }
    Ok(())
}

/// Whether it is one part of such a path.
pub(crate) fn is_plain(name: &str) -> bool {
    check(name).is_ok() && !name.contains('/') && !name.starts_with('.')
}

/// Characters that turn the direction of text or have no width: a name with them looks like another.
fn is_invisible(it: char) -> bool {
    matches!(it, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// `text` as a name for a file: letters, digits, `.`, `_` and `-`.
pub(crate) fn cleaned(text: &str) -> String {
    const LONGEST: usize = 100;
    let mut name = String::new();
    for it in text.chars().take(LONGEST) {
        let it = if it.is_ascii_alphanumeric() || matches!(it, '.' | '_' | '-') { it } else { '-' };
        if it != '-' || !name.ends_with('-') {
            name.push(it);
        }
    }
    let name = name.trim_matches(|it| matches!(it, '-' | '.'));
    if name.is_empty() { "model".to_owned() } else { name.to_owned() }
}

/// A stranger's text on one line, fit for a message: cut, and without control characters.
pub(crate) fn shown(text: &str) -> String {
    const SHOWN: usize = 120;
    text.chars().filter(|it| !it.is_control() && !is_invisible(*it) && *it != '`').take(SHOWN).collect()
}

/// The extension in small letters; empty where there is none.
pub(crate) fn extension(name: &str) -> String {
    let file = name.rsplit('/').next().unwrap_or(name);
    file.rsplit_once('.')
        .filter(|(stem, _)| !stem.is_empty())
        .map_or_else(String::new, |(_, it)| it.to_ascii_lowercase())
}

/// The name of a file without its folders and its extension.
pub(crate) fn stem(name: &str) -> &str {
    let file = name.rsplit('/').next().unwrap_or(name);
    file.rsplit_once('.').filter(|(stem, _)| !stem.is_empty()).map_or(file, |(stem, _)| stem)
}

/// Whether it is one of several files of a model: `…-00001-of-00003.` and the extension.
pub(crate) fn is_part(name: &str, wanted: &str) -> bool {
    part(name, wanted).is_some()
}

/// The number of such a file.
pub(crate) fn part(name: &str, wanted: &str) -> Option<u32> {
    if extension(name) != wanted {
        return None;
    }
    let (rest, total) = name.rsplit_once('.')?.0.rsplit_once("-of-")?;
    let (_, number) = rest.rsplit_once('-')?;
    let digits = |text: &str| text.len() == 5 && text.bytes().all(|it| it.is_ascii_digit());
    (digits(number) && digits(total)).then(|| number.parse().ok())?
}

/// Files that a system leaves in folders and archives and that nobody put there.
pub(crate) fn is_debris(path: &str) -> bool {
    path.split('/').any(|part| part == "__MACOSX" || part.starts_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_lead_out_or_deceive_are_refused() {
        for good in ["a", "a/b.json", "1_Pooling/config.json", "Modell ä.gguf", "a..b", "...x"] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        let deep = ["a"; 17].join("/");
        let long = "a".repeat(256);
        for bad in [
            "",
            "/",
            "/a",
            "a/",
            "a//b",
            ".",
            "..",
            "../a",
            "a/../b",
            "a/..",
            "a/./b",
            "a\\b",
            "..\\a",
            "C:",
            "C:a",
            "a\0",
            "a\nb",
            "a\u{202e}b",
            &deep,
            &long,
        ] {
            assert!(check(bad).is_err(), "{bad:?}");
        }
        assert!(is_plain("1_Pooling") && !is_plain("a/b") && !is_plain(".a"));
    }

    #[test]
    fn names_become_names_of_files() {
        assert_eq!(cleaned("All MiniLM (L6)"), "All-MiniLM-L6");
        assert_eq!(cleaned("../.."), "model");
        assert_eq!(extension("a/B.GGUF"), "gguf");
        assert_eq!(extension(".gguf"), "");
        assert_eq!(part("m-00002-of-00003.gguf", "gguf"), Some(2));
        assert!(!is_part("m-2-of-3.gguf", "gguf") && !is_part("model.safetensors", "safetensors"));
        assert!(is_debris("__MACOSX/a") && is_debris("a/.DS_Store") && is_debris("a/._b") && !is_debris("a/b"));
    }
}
