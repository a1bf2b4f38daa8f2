//! How Python reads the text of a variable: what counts as true, as a number, as a blank. Nothing here reads a file.

/// The words that the SDK takes for true, in any case.
const TRUE: [&str; 4] = ["true", "1", "yes", "on"];

/// The words that anybody takes for false, in any case. The SDK has no such list: all that is not true is false.
const FALSE: [&str; 5] = ["false", "0", "no", "off", ""];

/// `str.isspace` of Python, which is also `\s` of its regular expressions: Unicode's white space and four separators.
pub(crate) fn is_space(character: char) -> bool {
    character.is_whitespace() || ('\x1c'..='\x1f').contains(&character)
}

/// `value.lower() in ("true", "1", "yes", "on")`. Blanks are not stripped.
pub(crate) fn is_true(value: &str) -> bool {
    TRUE.contains(&value.to_lowercase().as_str())
}

/// `value.lower() == "true"`.
pub(crate) fn is_literally_true(value: &str) -> bool {
    value.to_lowercase() == "true"
}

/// Whether a person who wrote this meant false.
pub(crate) fn is_false(value: &str) -> bool {
    FALSE.contains(&value.to_lowercase().as_str())
}

/// What the library `tokenizers` takes for true: all that it does not know as false.
pub(crate) fn is_true_for_tokenizers(value: &str) -> bool {
    !matches!(value.to_ascii_lowercase().as_str(), "" | "off" | "false" | "f" | "no" | "n" | "0")
}

/// `int(value)`, where it fits; numbers that do not fit saturate, because Python's have no limit.
pub(crate) fn integer(value: &str) -> Option<i64> {
    let digits = value.trim_matches(is_space);
    let (negative, digits) = match digits.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, digits.strip_prefix('+').unwrap_or(digits)),
    };
    let digits = without_underscores(digits)?;
    if digits.is_empty() {
        return None;
    }
    let mut number: i64 = 0;
    for character in digits.chars() {
        number = number.saturating_mul(10).saturating_add(i64::from(decimal_digit(character)?));
    }
    Some(if negative { -number } else { number })
}

/// `float(value)`.
pub(crate) fn float(value: &str) -> Option<f64> {
    let text = without_underscores(value.trim_matches(is_space))?;
    // Rust also takes what Python takes (`inf`, `nan`, `.5`, `5.`, `1e5`), and nothing more.
    text.parse().ok()
}

/// Removes underscores, each of which must stand between two digits.
fn without_underscores(text: &str) -> Option<String> {
    let characters: Vec<char> = text.chars().collect();
    for (index, _) in characters.iter().enumerate().filter(|(_, character)| **character == '_') {
        let is_digit = |at: Option<usize>| {
            at.and_then(|at| characters.get(at)).is_some_and(|character| decimal_digit(*character).is_some())
        };
        if !is_digit(index.checked_sub(1)) || !is_digit(Some(index + 1)) {
            return None;
        }
    }
    Some(characters.into_iter().filter(|character| *character != '_').collect())
}

/// Python takes the decimal digits of every script; of those we know the ASCII and the full-width ones.
fn decimal_digit(character: char) -> Option<u32> {
    character.to_digit(10).or_else(|| match character {
        '\u{ff10}'..='\u{ff19}' => Some(u32::from(character) - 0xff10),
        _ => None,
    })
}

/// What python-dotenv makes of the text between double quotes.
pub(crate) fn unescape_double(text: &str) -> String {
    unescape(text, |character| {
        Some(match character {
            '\\' | '\'' | '"' => character,
            'a' => '\x07',
            'b' => '\x08',
            'f' => '\x0c',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'v' => '\x0b',
            _ => return None,
        })
    })
}

/// What python-dotenv makes of the text between single quotes.
pub(crate) fn unescape_single(text: &str) -> String {
    unescape(text, |character| matches!(character, '\\' | '\'').then_some(character))
}

fn unescape(text: &str, meaning: impl Fn(char) -> Option<char>) -> String {
    let mut result = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(character) = rest.next() {
        let meant = if character == '\\' { rest.clone().next().and_then(&meaning) } else { None };
        if meant.is_some() {
            rest.next();
        }
        result.push(meant.unwrap_or(character));
    }
    result
}

/// Whether python-dotenv would put the value of another variable into this one: `${NAME}` or `${NAME:-default}`, in any quotes.
pub(crate) fn expands(value: &str) -> bool {
    let mut rest = value;
    while let Some(start) = rest.find("${") {
        let inside = &rest[start + 2..];
        let name = inside.find(['}', ':']).unwrap_or(inside.len());
        let after = &inside[name..];
        if after.starts_with('}') || after.strip_prefix(":-").is_some_and(|default| default.contains('}')) {
            return true;
        }
        rest = inside;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn true_is_one_of_four_words_in_any_case_and_nothing_is_stripped() {
        for value in ["true", "TRUE", "True", "1", "yes", "YES", "on", "oN"] {
            assert!(is_true(value), "{value}");
        }
        for value in ["", " true", "true ", "y", "t", "enabled", "2", "01"] {
            assert!(!is_true(value), "{value}");
        }
        assert!(is_literally_true("TrUe"));
        assert!(!is_literally_true("1") && !is_literally_true("yes") && !is_literally_true("true "));
    }

    #[test]
    fn tokenizers_takes_for_true_what_it_does_not_know() {
        for value in ["true", "1", "none", "disabled", " false"] {
            assert!(is_true_for_tokenizers(value), "{value}");
        }
        for value in ["", "OFF", "False", "f", "no", "N", "0"] {
            assert!(!is_true_for_tokenizers(value), "{value}");
        }
    }

    // Each line was tried in Python 3.11.
    #[test]
    fn numbers_are_those_of_python() {
        for (text, expected) in
            [("300", 300), (" 300\n", 300), ("+3", 3), ("-3", -3), ("1_000", 1000), ("007", 7), ("\u{ff13}", 3)]
        {
            assert_eq!(integer(text), Some(expected), "{text:?}");
        }
        for text in ["", " ", "3.0", "1e3", "0x10", "1__0", "_1", "1_", "--1", "+ 1", "five", "5m", "- 1"] {
            assert_eq!(integer(text), None, "{text:?}");
        }
        assert_eq!(integer("99999999999999999999"), Some(i64::MAX));
        for (text, expected) in [("0.7", 0.7), (".5", 0.5), ("5.", 5.0), ("1e-3", 0.001), (" 1_0.5 ", 10.5)] {
            assert_eq!(float(text), Some(expected), "{text:?}");
        }
        assert_eq!(float("-inf"), Some(f64::NEG_INFINITY));
        for text in ["", "0,7", "1._5", "e3", "0x1"] {
            assert_eq!(float(text), None, "{text:?}");
        }
    }
}
