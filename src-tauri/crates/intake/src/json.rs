//! JSON from outside: bounded in size and depth before it is parsed.

use serde_json::Value;

use crate::FormatError;

/// Of every JSON file but `tokenizer.json`, in bytes.
pub(crate) const LIMIT: u64 = 4 << 20;
/// Nesting of a model's files is about 8; 64 is plenty.
const DEPTH: usize = 64;

/// Refuses what is nested deeper than a parser should follow. Whether it is JSON at all is for the parser to say.
pub(crate) fn check_depth(bytes: &[u8]) -> Result<(), FormatError> {
    let (mut depth, mut in_text, mut escaped) = (0_usize, false, false);
    for byte in bytes {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b'[' | b'{' if !in_text => {
                depth += 1;
                if depth > DEPTH {
                    return Err(FormatError::malformed(format!("it is nested deeper than `{DEPTH}` levels")));
                }
            }
            b']' | b'}' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    Ok(())
}

/// A JSON object of at most [`LIMIT`] bytes or an array of such.
pub(crate) fn parse(bytes: &[u8]) -> Result<Value, FormatError> {
    if bytes.len() as u64 > LIMIT {
        return Err(FormatError::malformed(format!("it has `{}` bytes; at most `{LIMIT}` are read", bytes.len())));
    }
    check_depth(bytes)?;
    let value: Value =
        serde_json::from_slice(bytes).map_err(|error| FormatError::malformed(format!("it is not JSON: {error}")))?;
    if value.is_object() || value.is_array() {
        Ok(value)
    } else {
        Err(FormatError::malformed("it is neither an object nor a list"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_is_counted_outside_texts_only() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(parse(nested(64).as_bytes()).is_ok());
        assert!(parse(nested(65).as_bytes()).is_err());
        assert!(parse(format!(r#"{{"a":"\"{}"}}"#, "[".repeat(1000)).as_bytes()).is_ok());
        assert!(parse(b"3").is_err() && parse(b"").is_err() && parse(b"{").is_err());
    }
}
