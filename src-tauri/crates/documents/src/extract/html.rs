//! HTML to its words: tags out, entities decoded, block elements on lines of their own.
//!
//! A scanner, not a parser: it builds no tree and knows no nesting, reads each byte a bounded number of times whatever the
//! input, and in doubt shows a tag as text rather than to lose text. Scripts, styles, drawings and navigation are left out.
//! Every stretch of text knows the line of the file it came from.

use super::{Extracted, Form, Heading};

/// Elements whose whole content is left out.
const DROPPED: &[&str] = &["script", "style", "svg", "nav", "template", "noscript", "iframe"];

/// Elements that stand on lines of their own.
const BLOCKS: &[&str] = &[
    "address",
    "article",
    "aside",
    "blockquote",
    "body",
    "br",
    "button",
    "caption",
    "dd",
    "details",
    "div",
    "dl",
    "dt",
    "fieldset",
    "figcaption",
    "figure",
    "footer",
    "form",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "header",
    "hr",
    "html",
    "li",
    "main",
    "ol",
    "option",
    "p",
    "pre",
    "section",
    "summary",
    "table",
    "tbody",
    "td",
    "tfoot",
    "th",
    "thead",
    "tr",
    "ul",
];

/// Block elements with an empty line around them.
const PARAGRAPHS: &[&str] =
    &["p", "h1", "h2", "h3", "h4", "h5", "h6", "pre", "section", "article", "table", "ul", "ol", "dl", "blockquote"];

/// Strips `source`.
pub(super) fn strip(source: &str) -> Extracted {
    let mut scanner = Scanner::new(source);
    scanner.run();
    let (headings, lines) = (scanner.headings, scanner.out.lines);
    Extracted { text: scanner.out.text, form: Form::Plain, title: scanner.title, headings, lines: Some(lines) }
}

/// A tag, from its `<` to behind its `>`.
struct Tag {
    name: String,
    closing: bool,
    end: usize,
}

struct Scanner<'source> {
    source: &'source str,
    /// The same in lower case, byte for byte, to find closing tags in.
    lower: String,
    at: usize,
    line: usize,
    out: Output,
    title: Option<String>,
    headings: Vec<Heading>,
    open_heading: Option<(usize, u8)>,
    /// Names whose closing tag is known not to follow any more, so that no search is repeated in vain.
    unclosed: Vec<&'static str>,
    /// Set once a quote in a tag was never closed; quotes are then not trusted any more.
    quotes_are_broken: bool,
    /// Set once no `>` follows; the rest is then text.
    no_more_tags: bool,
}

impl<'source> Scanner<'source> {
    fn new(source: &'source str) -> Self {
        Self {
            source,
            lower: source.to_ascii_lowercase(),
            at: 0,
            line: 1,
            out: Output::default(),
            title: None,
            headings: Vec::new(),
            open_heading: None,
            unclosed: Vec::new(),
            quotes_are_broken: false,
            no_more_tags: false,
        }
    }

    fn run(&mut self) {
        while self.at < self.source.len() {
            let tag = self.source[self.at..].find('<').map_or(self.source.len(), |found| self.at + found);
            self.text_until(tag);
            if tag < self.source.len() {
                self.markup();
            }
        }
        let trimmed = self.out.text.trim_end().len();
        self.out.text.truncate(trimmed);
    }

    fn text_until(&mut self, end: usize) {
        let (source, mut rest) = (self.source, self.at);
        while rest < end {
            let (character, length) = match entity(&source[rest..end]) {
                Some(decoded) => decoded,
                None => source[rest..].chars().next().map_or(('\u{FFFD}', 1), |it| (it, it.len_utf8())),
            };
            self.out.push(character, self.line);
            self.line += usize::from(character == '\n' && length == 1);
            rest += length;
        }
        self.at = end;
    }

    /// Passes over what begins at a `<`.
    fn markup(&mut self) {
        let rest = &self.source[self.at..];
        if let Some(comment) = rest.strip_prefix("<!--") {
            let length = comment.find("-->").map_or(rest.len(), |end| end + 7);
            self.skip_to(self.at + length);
        } else if rest.starts_with("<!") || rest.starts_with("<?") {
            match self.next_end(self.at) {
                Some(end) => self.skip_to(end),
                None => self.literal(),
            }
        } else if let Some(tag) = self.tag() {
            self.skip_to(tag.end);
            self.apply(&tag);
        } else {
            self.literal();
        }
    }

    /// Takes the `<` here for what it is.
    fn literal(&mut self) {
        self.out.push('<', self.line);
        self.at += 1;
    }

    /// Behind the next `>`, if there is one.
    fn next_end(&mut self, from: usize) -> Option<usize> {
        if self.no_more_tags {
            return None;
        }
        let found = self.source[from..].find('>');
        self.no_more_tags = found.is_none();
        found.map(|found| from + found + 1)
    }

    fn skip_to(&mut self, end: usize) {
        self.line += crate::chunk::newlines(&self.source[self.at..end]);
        self.at = end;
    }

    /// The tag that begins here; `None` where the `<` is only a character.
    fn tag(&mut self) -> Option<Tag> {
        let rest = &self.lower[self.at + 1..];
        let (closing, rest) = rest.strip_prefix('/').map_or((false, rest), |rest| (true, rest));
        let length = rest.find(|it: char| !it.is_ascii_alphanumeric() && it != '-').unwrap_or(rest.len());
        if !rest.starts_with(|it: char| it.is_ascii_lowercase()) {
            return None;
        }
        let (start, name) = (self.lower.len() - rest.len(), rest[..length].to_owned());
        let end = self.tag_end(start + length)?;
        Some(Tag { name, closing, end })
    }

    /// Behind the `>` that ends the tag whose attributes begin at `from`.
    fn tag_end(&mut self, from: usize) -> Option<usize> {
        let bytes = &self.source.as_bytes()[from..];
        let (mut quote, mut previous) = (None, b' ');
        if !self.no_more_tags && !self.quotes_are_broken {
            for (offset, byte) in bytes.iter().enumerate() {
                match (byte, quote) {
                    (b'>', None) => return Some(from + offset + 1),
                    (b'"' | b'\'', None) if previous == b'=' => quote = Some(*byte),
                    (byte, Some(open)) if *byte == open => quote = None,
                    _ => {}
                }
                previous = if byte.is_ascii_whitespace() { previous } else { *byte };
            }
            self.quotes_are_broken = true;
        }
        self.next_end(from)
    }

    fn apply(&mut self, tag: &Tag) {
        let name = tag.name.as_str();
        if !tag.closing && name == "title" {
            self.read_title();
        } else if let Some(dropped) = DROPPED.iter().find(|dropped| **dropped == name) {
            if !tag.closing
                && let Some(end) = self.closing(dropped)
            {
                self.skip_to(end);
            }
        } else if BLOCKS.binary_search(&name).is_ok() {
            self.heading(tag);
            self.out.pre = if name == "pre" { !tag.closing } else { self.out.pre };
            self.out.break_line(if PARAGRAPHS.contains(&name) { 2 } else { 1 });
        }
    }

    /// Where the closing tag of `name` begins.
    fn closing(&mut self, name: &'static str) -> Option<usize> {
        if self.unclosed.contains(&name) {
            return None;
        }
        let found = self.lower[self.at..].find(&format!("</{name}"));
        if found.is_none() {
            self.unclosed.push(name);
        }
        found.map(|found| self.at + found)
    }

    fn read_title(&mut self) {
        let Some(end) = self.closing("title") else { return };
        let mut words = Output::default();
        let mut rest = &self.source[self.at..end];
        while let Some(first) = rest.chars().next() {
            let (character, length) = entity(rest).unwrap_or((first, first.len_utf8()));
            words.push(character, 1);
            rest = &rest[length..];
        }
        let words = words.text.trim().to_owned();
        self.title = self.title.take().or((!words.is_empty()).then_some(words));
        self.skip_to(end);
    }

    fn heading(&mut self, tag: &Tag) {
        let level = match tag.name.as_bytes() {
            [b'h', digit @ b'1'..=b'6'] => digit - b'0',
            _ => return,
        };
        if !tag.closing {
            self.out.break_line(2);
            self.open_heading = Some((self.out.text.len(), level));
        } else if let Some((start, level)) = self.open_heading.take() {
            let words: Vec<&str> = self.out.text[start..].split_whitespace().collect();
            if !words.is_empty() {
                self.headings.push(Heading { start, level, text: words.join(" ") });
            }
        }
    }
}

/// The text so far, white space folded outside of `pre`.
#[derive(Default)]
struct Output {
    text: String,
    lines: Vec<(usize, usize)>,
    pre: bool,
    /// A space that is written only if a word follows.
    space: bool,
}

impl Output {
    fn push(&mut self, character: char, line: usize) {
        if self.pre && matches!(character, '\n' | ' ' | '\t') {
            self.text.push(character);
            return;
        }
        if character.is_whitespace() {
            self.space = true;
            return;
        }
        if std::mem::take(&mut self.space) && !self.pre && !self.text.is_empty() && !self.text.ends_with('\n') {
            self.text.push(' ');
        }
        if self.lines.last().is_none_or(|(_, last)| *last != line) {
            self.lines.push((self.text.len(), line));
        }
        self.text.push(character);
    }

    /// Ends the line, with `newlines` of them in all; does nothing at the beginning.
    fn break_line(&mut self, newlines: usize) {
        self.space = false;
        let present = self.text.len() - self.text.trim_end_matches('\n').len();
        if !self.text.is_empty() {
            self.text.extend(std::iter::repeat_n('\n', newlines.saturating_sub(present)));
        }
    }
}

/// The character that `text` begins with as an entity, and the bytes of it.
fn entity(text: &str) -> Option<(char, usize)> {
    let rest = text.strip_prefix('&')?;
    let end = rest.bytes().take(10).position(|byte| byte == b';')?;
    let name = &rest[..end];
    let character = if let Some(number) = name.strip_prefix('#') {
        let code = match number.strip_prefix(['x', 'X']) {
            Some(digits) => u32::from_str_radix(digits, 16).ok()?,
            None => number.parse().ok()?,
        };
        char::from_u32(code).filter(|it| !it.is_control() || it.is_whitespace())?
    } else {
        named_entity(name)?
    };
    Some((character, end + 2))
}

fn named_entity(name: &str) -> Option<char> {
    Some(match name {
        "amp" => '&',
        "lt" => '<',
        "gt" => '>',
        "quot" => '"',
        "apos" => '\'',
        "nbsp" => ' ',
        "ndash" => '–',
        "mdash" => '—',
        "hellip" => '…',
        "lsquo" => '‘',
        "rsquo" => '’',
        "ldquo" => '“',
        "rdquo" => '”',
        "laquo" => '«',
        "raquo" => '»',
        "copy" => '©',
        "reg" => '®',
        "trade" => '™',
        "para" => '¶',
        "sect" => '§',
        "bull" => '•',
        "middot" => '·',
        "times" => '×',
        "deg" => '°',
        "larr" => '←',
        "rarr" => '→',
        "auml" => 'ä',
        "ouml" => 'ö',
        "uuml" => 'ü',
        "Auml" => 'Ä',
        "Ouml" => 'Ö',
        "Uuml" => 'Ü',
        "szlig" => 'ß',
        "agrave" => 'à',
        "egrave" => 'è',
        "eacute" => 'é',
        "ccedil" => 'ç',
        "ntilde" => 'ñ',
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_names_of_blocks_are_sorted_for_the_search() {
        assert!(BLOCKS.is_sorted());
    }

    #[test]
    fn a_page_becomes_its_words_with_their_lines() {
        let page = "<!DOCTYPE html>\n<html><head><title>Swap &amp; pressure</title>\n<style>p { color: red }</style></head>\n\
            <body><nav><a href='/'>Home</a></nav>\n<h1 class=\"a>b\">Memory</h1>\n<p>Less <b>is</b>\nmore,\n5 < 6 &mdash; \
            caf&eacute;&#33;</p><!-- no\n<p>comment -->\n<pre>let a = 1;\n  let b;</pre><script>if (a<b) {}</script>\n\
            <ul><li>one<li>two</ul></body>";
        let found = strip(page);
        assert_eq!(found.title.as_deref(), Some("Swap & pressure"));
        assert_eq!(found.text, "Memory\n\nLess is more, 5 < 6 — café!\n\nlet a = 1;\n  let b;\n\none\ntwo");
        assert_eq!(found.headings, [Heading { start: 0, level: 1, text: "Memory".into() }]);
        let lines = found.lines.unwrap();
        let line_of = |words: &str| {
            let byte = found.text.find(words).unwrap();
            lines[lines.partition_point(|(at, _)| *at <= byte) - 1].1
        };
        for words in ["Memory", "Less", "more", "5 <", "let a", "let b", "one"] {
            let expected = page[..page.find(words).unwrap()].matches('\n').count() + 1;
            assert_eq!(line_of(words), expected, "{words}");
        }
    }

    #[test]
    fn broken_markup_loses_no_text_and_takes_no_time() {
        assert_eq!(strip("a <b title=\"open>kept <i>too").text, "a kept too");
        assert_eq!(strip("if a <b and no end").text, "if a <b and no end");
        for unit in ["<nav>", "<a \"", "<!-", "<title>", "<", "</", "&#x", "<a b='"] {
            strip(&unit.repeat(200_000));
        }
    }

    proptest! {
        #[test]
        fn no_page_makes_it_panic(page in "(<|>|/|!|--|&|;|#|\"|'|h1|pre|script|title|é|\n| |x|\\PC){0,60}") {
            let found = strip(&page);
            for heading in &found.headings {
                prop_assert!(found.text.get(heading.start..).is_some());
            }
        }
    }
}
