//! What of that which is dragged over the tray icon the library is to look at: a decision on texts alone, which knows no
//! system and opens nothing. What a path or a link leads to is said by the window, as for what is dropped on it.

use tauri::Url;

/// The longest link or text that is looked at, in bytes: as for what is typed.
pub(crate) const LONGEST_TEXT: usize = 2048;

/// The signs besides ASCII letters and digits that a repository with a revision, a file or a precision behind it has.
const REPOSITORY_SIGNS: &[u8] = b"-._/@:";

/// One of the things that are dragged, in the forms that it was offered in.
#[derive(Clone, Debug, Default)]
pub(crate) struct Dragged {
    /// Where it lies, if it is a file or a folder.
    pub(crate) path: Option<String>,
    /// Where it leads to.
    pub(crate) link: Option<String>,
    /// How it reads.
    pub(crate) text: Option<String>,
}

/// What to look at: the first thing that is a file or leads somewhere, since one is looked at at a time. `None` where
/// nothing does, for example a sentence: such a drag is not accepted.
pub(crate) fn source_of(things: impl IntoIterator<Item = Dragged>) -> Option<String> {
    things.into_iter().find_map(|thing| {
        let path = thing.path.filter(|path| path.starts_with('/'));
        // A browser offers a link as its address and as the words on the page.
        path.or_else(|| named_by(&thing.link?)).or_else(|| named_by(&thing.text?))
    })
}

/// The path, link or repository that a text is.
fn named_by(text: &str) -> Option<String> {
    let text = text.trim();
    if text.is_empty() || text.len() > LONGEST_TEXT || text.chars().any(char::is_control) {
        return None;
    }
    // Two slashes start a comment, in most languages.
    if text.starts_with('/') && !text.starts_with("//") || text.starts_with("~/") {
        return Some(text.to_owned());
    }
    if text.contains("://") {
        let url = Url::parse(text).ok()?;
        return match url.scheme() {
            "file" => url.to_file_path().ok()?.into_os_string().into_string().ok(),
            // Which hosts are the hub is a setting; the window says why a link is refused.
            "https" | "http" => Some(text.to_owned()),
            _ => None,
        };
    }
    is_repository(text).then(|| text.to_owned())
}

/// Whether a text can be `owner/name`, perhaps behind the hub's name and with a revision, a file or a precision. A word
/// without a slash names a model too where it is typed, but whoever drags one rarely means that.
fn is_repository(text: &str) -> bool {
    let signs = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || REPOSITORY_SIGNS.contains(&byte));
    let parts = text.strip_suffix('/').unwrap_or(text);
    signs
        && parts.contains('/')
        && parts.split('/').all(|part| part.starts_with(|sign: char| sign.is_ascii_alphanumeric()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(path: &str) -> Dragged {
        Dragged { path: Some(path.to_owned()), ..Dragged::default() }
    }

    fn link(link: &str) -> Dragged {
        Dragged { link: Some(link.to_owned()), ..Dragged::default() }
    }

    fn text(text: &str) -> Dragged {
        Dragged { text: Some(text.to_owned()), ..Dragged::default() }
    }

    #[test]
    fn a_file_is_looked_at_where_it_lies_whatever_its_name() {
        for name in
            ["/Users/ada/Models/bge small/", "/tmp/a b%20c#d?.gguf", "/tmp/ü\u{301} and/or.mlpackage", "/tmp/a\nb.zip"]
        {
            assert_eq!(source_of([path(name)]).as_deref(), Some(name));
        }
        // What the Finder offers beside the path says less.
        let file = Dragged {
            link: Some("file:///tmp/other".to_owned()),
            text: Some("m.gguf".to_owned()),
            ..path("/tmp/m.gguf")
        };
        assert_eq!(source_of([file]).as_deref(), Some("/tmp/m.gguf"));
    }

    #[test]
    fn of_several_things_the_first_that_leads_somewhere_is_looked_at() {
        let things =
            || [Dragged::default(), text("some words"), path("relative"), path("/tmp/first"), path("/tmp/second")];
        assert_eq!(source_of(things()).as_deref(), Some("/tmp/first"));
        assert_eq!(source_of(things().into_iter().rev()).as_deref(), Some("/tmp/second"));
        assert_eq!(source_of([]), None);
    }

    #[test]
    fn a_link_of_a_browser_is_its_address_not_its_words() {
        let address = "https://huggingface.co/Qwen/Qwen3-Embedding-0.6B/tree/main?x=1#files";
        let dragged = Dragged { text: Some("BAAI/bge-small-en-v1.5".to_owned()), ..link(address) };
        assert_eq!(source_of([dragged]).as_deref(), Some(address));
        // Where the address leads nowhere, the words may.
        let dragged = Dragged { text: Some("BAAI/bge-small-en-v1.5".to_owned()), ..link("javascript:void(0)") };
        assert_eq!(source_of([dragged]).as_deref(), Some("BAAI/bge-small-en-v1.5"));
    }

    #[test]
    fn a_text_is_accepted_where_it_is_a_link_a_path_or_a_repository() {
        for (given, source) in [
            (" https://hf.co/o/n \r\n", "https://hf.co/o/n"),
            // Refused by the window, with the reason: which hosts are the hub is not known here.
            ("http://127.0.0.1:8080/o/n", "http://127.0.0.1:8080/o/n"),
            ("https://example.org/", "https://example.org/"),
            ("/Users/ada/a b.gguf", "/Users/ada/a b.gguf"),
            ("~/Downloads/model", "~/Downloads/model"),
            ("file:///tmp/a%20b%23.gguf", "/tmp/a b#.gguf"),
            ("FILE://localhost/tmp/m.gguf", "/tmp/m.gguf"),
            ("Qwen/Qwen3-Embedding-0.6B", "Qwen/Qwen3-Embedding-0.6B"),
            ("o/n@refs/pr/3", "o/n@refs/pr/3"),
            ("hf.co/o/n:Q4_K_M", "hf.co/o/n:Q4_K_M"),
            ("huggingface.co/o/n/", "huggingface.co/o/n/"),
        ] {
            assert_eq!(source_of([text(given)]).as_deref(), Some(source), "{given:?}");
            assert_eq!(source_of([link(given)]).as_deref(), Some(source), "{given:?}");
        }
    }

    #[test]
    fn a_drag_of_anything_else_is_not_accepted() {
        let (long, longest) =
            (format!("o/{}", "n".repeat(LONGEST_TEXT - 1)), format!("o/{}", "n".repeat(LONGEST_TEXT - 2)));
        assert!(source_of([text(&longest)]).is_some());
        for given in [
            "",
            "  ",
            "word",
            "two words",
            "and / or",
            "a sentence with an/or in it",
            "../up",
            "o/../n",
            "o//n",
            "/\0",
            "a/b\nc/d",
            "//",
            "// a comment",
            "o/",
            "-o/n",
            "o/n?",
            "javascript:alert(1)",
            "data:text/html,a/b",
            "ftp://huggingface.co/o/n",
            "smb://server/share",
            "file://server/share/m.gguf",
            "https://",
            "http://[",
            "x-apple://a/b",
            "ü/ß",
            "tauri://localhost/a",
            &long,
        ] {
            assert_eq!(source_of([text(given), link(given)]), None, "{given:?}");
        }
    }
}
