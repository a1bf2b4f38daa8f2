//! What others send, made fit to be shown.

/// More characters than this are no name.
const MOST_CHARACTERS: usize = 200;

/// Without control characters and without those that turn the direction of what follows; shortened.
pub(crate) fn shown(text: &str) -> String {
    let mut characters = text.trim().chars().filter(|character| !hidden(*character));
    let mut shown: String = characters.by_ref().take(MOST_CHARACTERS).collect();
    if characters.next().is_some() {
        shown.push('…');
    }
    shown
}

fn hidden(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_steer_a_terminal_or_turn_the_text_around() {
        assert_eq!(shown("\u{1b}[31mqwen3\u{7}:4b\r\n"), "[31mqwen3:4b");
        assert_eq!(shown("gnp.\u{202e}exe\u{200b}"), "gnp.exe");
        assert_eq!(shown("nomic-embed-text-v1.5 – Ω"), "nomic-embed-text-v1.5 – Ω");
        assert_eq!(shown(&"x".repeat(5000)).chars().count(), MOST_CHARACTERS + 1);
    }
}
