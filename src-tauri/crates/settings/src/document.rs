//! An `.env` file as bytes, cut into lines without losing one of them.
//!
//! Statements and values are those of python-dotenv 1.2.4 (`dotenv/parser.py`), which opens the file as UTF-8 and takes
//! `\r\n` and `\r` for `\n`. Each line knows its bytes, so that an edit can leave all others alone; together they are the
//! file. `$` is noted and not expanded. Any bytes can be parsed: what python-dotenv would refuse is a [`Breakage`].
//!
//! What is not here: what a variable means, whether a line is wise ([`lint`](crate::lint())), the disk.

use std::fmt;
use std::ops::Range;

use crate::python;

/// A parsed file.
#[derive(Clone, Eq, PartialEq)]
pub struct Document {
    bytes: Vec<u8>,
    lines: Vec<Line>,
    newline: Newline,
    breakage: Option<Breakage>,
}

/// A statement with its newline: usually one line of the file, several where quotes span them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Line {
    /// Its bytes, newline included; the first one also has the byte order mark.
    pub span: Range<usize>,
    /// The number of its first line, from 1.
    pub number: usize,
    /// What it is.
    pub content: Content,
}

/// What a line is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Content {
    /// Nothing but blanks.
    Blank,
    /// A comment.
    Comment,
    /// `NAME=value`, or `NAME` alone, which sets nothing.
    Binding(Binding),
    /// What python-dotenv skips with a warning.
    Unparsed(Unparsed),
}

/// `NAME=value`, or `NAME` alone.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Binding {
    /// The name, without quotes.
    pub name: String,
    /// Where the name is, with its quotes.
    pub name_span: Range<usize>,
    /// Where `export` and the blanks after it are.
    pub export: Option<Range<usize>>,
    /// What there is behind the `=`; `None` where there is none.
    pub value: Option<Value>,
    /// The comment at the end of the line and the blanks before it.
    pub comment: Option<Range<usize>>,
}

/// The right side of an assignment.
#[derive(Clone, Eq, PartialEq)]
pub struct Value {
    /// What python-dotenv reads, before it expands anything.
    pub text: String,
    /// Its bytes, quotes included. An empty value is the place behind the `=`.
    pub span: Range<usize>,
    /// What it stands in.
    pub quote: Quote,
    /// Whether python-dotenv would put the value of another variable into it (`${NAME}`). It is not done here.
    pub expands: bool,
}

// A value may be a secret and does not know its name.
impl fmt::Debug for Value {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Value").field("span", &self.span).field("quote", &self.quote).finish_non_exhaustive()
    }
}

/// What a value stands in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Quote {
    /// Nothing.
    None,
    /// `'`
    Single,
    /// `"`
    Double,
}

/// What python-dotenv skips.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Unparsed {
    /// Where it begins, behind its indentation.
    pub start: usize,
    /// Why it is skipped.
    pub reason: UnparsedReason,
    /// The name, where there is one.
    pub name: Option<String>,
}

/// Why python-dotenv skips a line.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum UnparsedReason {
    /// There is no name in front of the `=`, or nothing behind `export`.
    NoName,
    /// Behind the name there is something else than a `=`.
    TextAfterName,
    /// A quote that nothing closes.
    UnfinishedQuote,
    /// There is something behind the closing quote.
    TextAfterQuote,
}

/// How the lines of a file end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Newline {
    /// `\n`
    Lf,
    /// `\r\n`
    CrLf,
    /// `\r`
    Cr,
}

impl Newline {
    /// Its characters.
    pub fn text(self) -> &'static str {
        match self {
            Self::Lf => "\n",
            Self::CrLf => "\r\n",
            Self::Cr => "\r",
        }
    }
}

/// Why a file is not to be acted on as it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Breakage {
    /// python-dotenv stops with a `UnicodeDecodeError`; no line is read.
    NotUtf8 {
        /// The line with the first wrong byte.
        line: usize,
    },
    /// Python cannot put it into the environment: `ValueError: embedded null byte`.
    NullByte {
        /// Its line.
        line: usize,
    },
    /// A quote that nothing closes: usually somebody is still writing.
    UnfinishedQuote {
        /// Where it opens.
        line: usize,
    },
}

impl fmt::Display for Breakage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotUtf8 { line } => write!(
                formatter,
                "line {line} is not UTF-8: python-dotenv stops with a UnicodeDecodeError and reads no line of this file"
            ),
            Self::NullByte { line } => write!(
                formatter,
                "line {line} has a null byte: Python stops with `embedded null byte` when it sets the variable"
            ),
            Self::UnfinishedQuote { line } => {
                write!(formatter, "the quote that opens in line {line} is never closed: that line is not read")
            }
        }
    }
}

/// In UTF-8.
pub(crate) const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

impl Document {
    /// Parses any bytes.
    pub fn parse(bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = bytes.into();
        let lines = Parser { bytes: &bytes, at: 0 }.lines();
        let newline = dominant_newline(&bytes);
        let breakage = breakage(&bytes, &lines);
        Self { bytes, lines, newline, breakage }
    }

    /// The file.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The statements, in order. Their spans are the file without a gap.
    pub fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// How most lines end.
    pub fn newline(&self) -> Newline {
        self.newline
    }

    /// Why this is not to be acted on, where it is not.
    pub fn breakage(&self) -> Option<Breakage> {
        self.breakage
    }

    /// Whether the file begins with the byte order mark of UTF-8.
    pub fn has_byte_order_mark(&self) -> bool {
        self.bytes.starts_with(BYTE_ORDER_MARK)
    }

    /// Where the text begins: behind the byte order mark, where there is one.
    pub fn text_start(&self) -> usize {
        if self.has_byte_order_mark() { BYTE_ORDER_MARK.len() } else { 0 }
    }

    /// All bindings with the numbers of their lines, those that lose to a later one included.
    pub fn bindings(&self) -> impl DoubleEndedIterator<Item = (usize, &Binding)> {
        self.lines.iter().filter_map(|line| match &line.content {
            Content::Binding(binding) => Some((line.number, binding)),
            _ => None,
        })
    }

    /// The binding of a name that counts, which is the last one.
    pub fn binding(&self, name: &str) -> Option<(usize, &Binding)> {
        self.bindings().rev().find(|(_, binding)| binding.name == name)
    }

    /// Some of its bytes as text.
    pub(crate) fn text(&self, span: Range<usize>) -> String {
        String::from_utf8_lossy(&self.bytes[span]).into_owned()
    }
}

// The bytes have secrets in them.
impl fmt::Debug for Document {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.bindings().map(|(_, binding)| binding.name.as_str()).collect();
        formatter
            .debug_struct("Document")
            .field("bytes", &self.bytes.len())
            .field("lines", &self.lines.len())
            .field("names", &names)
            .field("breakage", &self.breakage)
            .finish_non_exhaustive()
    }
}

/// Where each line of a part of the file begins.
pub(crate) fn line_starts(bytes: &[u8], span: Range<usize>) -> Vec<usize> {
    let mut starts = vec![span.start];
    let mut at = span.start;
    while at < span.end {
        let length = newline_length(&bytes[at..span.end]);
        at += length.max(1);
        if length > 0 && at < span.end {
            starts.push(at);
        }
    }
    starts
}

fn newline_length(bytes: &[u8]) -> usize {
    match bytes {
        [b'\r', b'\n', ..] => 2,
        [b'\r' | b'\n', ..] => 1,
        _ => 0,
    }
}

fn dominant_newline(bytes: &[u8]) -> Newline {
    let (mut lf, mut crlf, mut cr) = (0_usize, 0_usize, 0_usize);
    let mut at = 0;
    while at < bytes.len() {
        match (bytes[at], newline_length(&bytes[at..])) {
            (_, 2) => crlf += 1,
            (b'\r', _) => cr += 1,
            (b'\n', _) => lf += 1,
            _ => {}
        }
        at += newline_length(&bytes[at..]).max(1);
    }
    if crlf > lf && crlf >= cr {
        Newline::CrLf
    } else if cr > lf {
        Newline::Cr
    } else {
        Newline::Lf
    }
}

fn breakage(bytes: &[u8], lines: &[Line]) -> Option<Breakage> {
    let line_of = |at: usize| line_starts(bytes, 0..at + 1).len();
    if let Err(error) = std::str::from_utf8(bytes) {
        return Some(Breakage::NotUtf8 { line: line_of(error.valid_up_to()) });
    }
    if let Some(at) = bytes.iter().position(|byte| *byte == 0) {
        return Some(Breakage::NullByte { line: line_of(at) });
    }
    lines.iter().find_map(|line| match &line.content {
        Content::Unparsed(Unparsed { reason: UnparsedReason::UnfinishedQuote, .. }) => {
            Some(Breakage::UnfinishedQuote { line: line.number })
        }
        _ => None,
    })
}

/// A place in the bytes. Each method is one regular expression of `dotenv/parser.py` or one of its functions.
struct Parser<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Parser<'_> {
    fn lines(mut self) -> Vec<Line> {
        let mut lines = Vec::new();
        let (mut number, mut start) = (1, 0);
        if self.bytes.starts_with(BYTE_ORDER_MARK) {
            self.at = BYTE_ORDER_MARK.len();
        }
        while start < self.bytes.len() {
            let content = self.line();
            let span = start..self.at;
            let newlines = line_starts(self.bytes, span.clone()).len() - 1;
            start = self.at;
            let ends = self.bytes[span.clone()].last().is_some_and(|last| matches!(last, b'\n' | b'\r'));
            lines.push(Line { span, number, content });
            number += newlines + usize::from(ends);
        }
        lines
    }

    /// One statement. It takes at least one byte, because [`Parser::rest_of_line`] or a newline ends it, or the end.
    fn line(&mut self) -> Content {
        self.blanks();
        if self.at == self.bytes.len() || self.newline() {
            return Content::Blank;
        }
        let start = self.at;
        match self.statement() {
            Ok(content) => content,
            Err((reason, name)) => {
                self.rest_of_line();
                Content::Unparsed(Unparsed { start, reason, name })
            }
        }
    }

    fn statement(&mut self) -> Result<Content, (UnparsedReason, Option<String>)> {
        let export = self.export();
        let name_start = self.at;
        let name = match self.peek() {
            Some('#') => None,
            Some('\'') => Some(self.quoted_name().map_err(|reason| (reason, None))?),
            _ => Some(self.unquoted_name().ok_or((UnparsedReason::NoName, None))?),
        };
        let name_span = name_start..self.at;
        self.blanks();
        let value = if self.byte() == Some(b'=') {
            Some(self.value().ok_or_else(|| (UnparsedReason::UnfinishedQuote, name.clone()))?)
        } else {
            // The blanks belong to the comment that may follow.
            self.at = name_span.end;
            None
        };
        let mut comment = value.as_ref().and_then(|(_, comment)| comment.clone());
        let before = self.at;
        self.blanks();
        if self.byte() == Some(b'#') {
            self.until_newline();
            comment = Some(before..self.at);
        }
        if self.at < self.bytes.len() && !self.newline() {
            let reason = if value.is_some() { UnparsedReason::TextAfterQuote } else { UnparsedReason::TextAfterName };
            return Err((reason, name));
        }
        let value = value.map(|(value, _)| value);
        Ok(match name {
            Some(name) => Content::Binding(Binding { name, name_span, export, value, comment }),
            None => Content::Comment,
        })
    }

    fn export(&mut self) -> Option<Range<usize>> {
        let start = self.at;
        if self.bytes[self.at..].starts_with(b"export") {
            self.at += "export".len();
            if self.blanks() {
                return Some(start..self.at);
            }
            self.at = start;
        }
        None
    }

    fn quoted_name(&mut self) -> Result<String, UnparsedReason> {
        let inside = self.at + 1;
        match self.bytes[inside..].iter().position(|byte| *byte == b'\'') {
            None => Err(UnparsedReason::UnfinishedQuote),
            Some(0) => Err(UnparsedReason::NoName),
            Some(length) => {
                self.at = inside + length + 1;
                Ok(self.text(inside..inside + length))
            }
        }
    }

    fn unquoted_name(&mut self) -> Option<String> {
        let start = self.at;
        while let Some((character, length)) = self.next() {
            if matches!(character, '=' | '#') || python::is_space(character) {
                break;
            }
            self.at += length;
        }
        (self.at > start).then(|| self.text(start..self.at))
    }

    /// What begins at the `=`: the value, and the comment where python-dotenv finds one within. `None`: nothing closes its quote.
    fn value(&mut self) -> Option<(Value, Option<Range<usize>>)> {
        self.at += 1;
        let behind = self.at;
        let had_blanks = self.blanks();
        let value = |text: String, span, quote| {
            let expands = python::expands(&text);
            Value { text, span, quote, expands }
        };
        match self.byte() {
            None | Some(b'\n' | b'\r') => Some((value(String::new(), behind..behind, Quote::None), None)),
            // `NAME= # comment`
            Some(b'#') if had_blanks => {
                self.at = behind;
                Some((value(String::new(), behind..behind, Quote::None), None))
            }
            Some(quote @ (b'\'' | b'"')) => {
                let start = self.at;
                let end = self.closing_quote(quote)?;
                self.at = end + 1;
                let inside = self.text(start + 1..end);
                let (text, quote) = if quote == b'"' {
                    (python::unescape_double(&inside), Quote::Double)
                } else {
                    (python::unescape_single(&inside), Quote::Single)
                };
                Some((value(text, start..self.at, quote), None))
            }
            Some(_) => {
                let start = self.at;
                let (mut end, mut blanks_since, mut comment) = (start, None, false);
                while let Some((character, length)) = self.next() {
                    match character {
                        '\n' | '\r' => break,
                        '#' if blanks_since.is_some() => comment = true,
                        _ => {}
                    }
                    if comment {
                        break;
                    }
                    if python::is_space(character) {
                        blanks_since.get_or_insert(self.at);
                    } else {
                        blanks_since = None;
                        end = self.at + length;
                    }
                    self.at += length;
                }
                self.until_newline();
                let comment = comment.then_some(end..self.at);
                Some((value(self.text(start..end), start..end, Quote::None), comment))
            }
        }
    }

    /// The place of the quote that closes the one at this place. A backslash hides the character behind it.
    fn closing_quote(&self, quote: u8) -> Option<usize> {
        let mut at = self.at + 1;
        while let Some(byte) = self.bytes.get(at) {
            match *byte {
                b'\\' => at += 2,
                byte if byte == quote => return Some(at),
                _ => at += 1,
            }
        }
        None
    }

    /// Blanks that are no newline. Whether there were any.
    fn blanks(&mut self) -> bool {
        let start = self.at;
        while let Some((character, length)) = self.next() {
            if matches!(character, '\n' | '\r') || !python::is_space(character) {
                break;
            }
            self.at += length;
        }
        self.at > start
    }

    fn newline(&mut self) -> bool {
        let length = newline_length(&self.bytes[self.at..]);
        self.at += length;
        length > 0
    }

    fn until_newline(&mut self) {
        let rest = &self.bytes[self.at..];
        self.at += rest.iter().position(|byte| matches!(byte, b'\n' | b'\r')).unwrap_or(rest.len());
    }

    fn rest_of_line(&mut self) {
        self.until_newline();
        self.newline();
    }

    fn byte(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn peek(&self) -> Option<char> {
        self.next().map(|(character, _)| character)
    }

    /// The character at this place and its length; a byte that is not UTF-8 is a replacement character.
    fn next(&self) -> Option<(char, usize)> {
        let rest = &self.bytes[self.at..];
        let first = *rest.first()?;
        if first.is_ascii() {
            return Some((char::from(first), 1));
        }
        let most = &rest[..rest.len().min(4)];
        let valid = match std::str::from_utf8(most) {
            Ok(text) => text,
            Err(error) => std::str::from_utf8(&most[..error.valid_up_to()]).unwrap_or_default(),
        };
        Some(
            valid
                .chars()
                .next()
                .map_or((char::REPLACEMENT_CHARACTER, 1), |character| (character, character.len_utf8())),
        )
    }

    /// Some bytes as Python sees them: every newline is `\n`.
    fn text(&self, span: Range<usize>) -> String {
        let text = String::from_utf8_lossy(&self.bytes[span]);
        if text.contains('\r') { text.replace("\r\n", "\n").replace('\r', "\n") } else { text.into_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Bytes that are likely to mean something, among any others.
    pub(crate) fn files() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            4 => proptest::sample::select(vec![
                "A", "B", "PAPR_ENABLE_COREML", "=", "=", "'", "\"", "\\", "#", " ", "\t", "\n", "\n", "\r\n", "\r", "export ",
                "${A}", "$A", "true", "1", "\u{feff}", "\u{85}", "\u{1c}", "ü", "\0", " # c",
            ])
            .prop_map(|text| text.as_bytes().to_vec()),
            1 => proptest::collection::vec(any::<u8>(), 1..4),
        ];
        proptest::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn the_lines_are_the_file(bytes in prop_oneof![files(), proptest::collection::vec(any::<u8>(), 0..200)]) {
            let document = Document::parse(bytes.clone());
            let mut end = 0;
            for line in document.lines() {
                prop_assert_eq!(line.span.start, end, "no gap, no overlap");
                prop_assert!(line.span.end > end, "no line is empty");
                end = line.span.end;
                if let Content::Binding(binding) = &line.content {
                    let parts = [
                        binding.export.clone(),
                        Some(binding.name_span.clone()),
                        binding.value.as_ref().map(|value| value.span.clone()),
                        binding.comment.clone(),
                    ];
                    let mut at = line.span.start;
                    for part in parts.into_iter().flatten() {
                        prop_assert!(at <= part.start && part.start <= part.end, "{:?} in {:?}", part, line);
                        at = part.end;
                    }
                    prop_assert!(at <= line.span.end);
                }
            }
            prop_assert_eq!(end, bytes.len());
        }
    }

    #[test]
    fn every_line_ends_as_most_do() {
        assert_eq!(Document::parse("a\nb\r\n").newline(), Newline::Lf);
        assert_eq!(Document::parse("a\r\nb\r\nc\n").newline(), Newline::CrLf);
        assert_eq!(Document::parse("a\rb\rc").newline(), Newline::Cr);
        assert_eq!(Document::parse("").newline(), Newline::Lf);
    }

    #[test]
    fn what_python_cannot_load_is_broken_and_says_where() {
        let broken = |bytes: &[u8]| Document::parse(bytes).breakage();
        assert_eq!(broken(b"A=b\n# caf\xe9\n"), Some(Breakage::NotUtf8 { line: 2 }));
        assert_eq!(broken(b"A=b\r\nC=\0\r\n"), Some(Breakage::NullByte { line: 2 }));
        assert_eq!(broken(b"A=b\n\nC='d\nE=f\n"), Some(Breakage::UnfinishedQuote { line: 3 }));
        assert_eq!(broken(b"A B\nC=d\n"), None, "python-dotenv skips that line and reads on");
    }

    #[test]
    fn numbers_of_lines_count_every_kind_of_newline() {
        let document = Document::parse("\u{feff}\r\n# a\rA='b\nc'\n\n  B=d");
        let numbers: Vec<_> = document.lines().iter().map(|line| line.number).collect();
        assert_eq!(numbers, [1, 2, 3, 5, 6]);
    }

    #[test]
    fn a_value_in_a_dump_is_not_shown() {
        let document = Document::parse("PAPR_MEMORY_API_KEY=hunter2\n");
        let dump = format!("{document:?} {:?}", document.lines());
        assert!(!dump.contains("hunter2"), "{dump}");
        assert!(dump.contains("PAPR_MEMORY_API_KEY"));
    }
}
