//! Text to passages: pieces that a model with a window of 256 tokens reads whole, cut where the text itself has joints.
//!
//! text-splitter finds the joints. Sizes are estimated tokens, not characters: 900 characters of English are some 200 tokens,
//! but 900 of Chinese are 900, and code has a token for every bracket. The estimate errs upwards; exact counting would
//! bind the index to one model's vocabulary, and the passages have to serve all of them.
//!
//! What is embedded is the passage under its headings (`context`): a paragraph that says "run it again" means little without
//! them. The name of the file is not among them, although the words half knows it: so a passage has the same vector
//! wherever it stands, and a file that is renamed, moved or copied costs no embedding.

use std::ops::Range;

use text_splitter::{ChunkCapacity, ChunkConfig, ChunkSizer, MarkdownSplitter, TextSplitter};

use crate::extract::{Extracted, Form};

/// Estimated tokens that a passage may have; with [`CONTEXT`] and two special tokens it stays below 256.
const MOST: usize = 216;

/// Estimated tokens that a passage should have before a strong joint ends it.
const DESIRED: usize = 150;

/// Characters of headings in front of a passage, about 30 tokens.
const CONTEXT: usize = 120;

/// text-splitter takes time by the square of a text's length, so that texts are first cut, at an empty line if there is one.
const PIECE: usize = 16 * 1024;

/// The same where there is no line to cut at, which is where it is slowest: a long line, a long word.
const LINELESS_PIECE: usize = 2 * 1024;

/// A piece of a document, to be found and shown on its own.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Passage {
    /// Its first line in the file, from 1.
    pub(crate) line: usize,
    /// Its bytes in the extracted text.
    pub(crate) range: Range<usize>,
    /// The title and headings it stands under, outermost first; may be empty.
    pub(crate) context: String,
    /// Its words.
    pub(crate) text: String,
    /// Where lines cannot be counted in `text`: the byte of it at which each further line begins, and the line.
    pub(crate) lines: Option<Vec<(u32, u32)>>,
}

/// What is embedded for a passage.
pub(crate) fn embedded_text(context: &str, text: &str) -> String {
    if context.is_empty() { text.to_owned() } else { format!("{context}\n\n{text}") }
}

/// Cuts `document` into passages; those without a letter or digit are left out.
pub(crate) fn passages(document: &Extracted) -> Vec<Passage> {
    let capacity = ChunkCapacity::new(DESIRED).with_max(MOST).expect("DESIRED is below MOST. This is a bug.");
    let config = || ChunkConfig::new(capacity).with_sizer(EstimatedTokens);
    let (plain, markdown) = (TextSplitter::new(config()), MarkdownSplitter::new(config()));
    let mut lines = LineCounter::new(&document.text);
    let mut passages = Vec::new();
    for piece in pieces(&document.text) {
        let text = &document.text[piece.clone()];
        let mut keep = |(offset, chunk): (usize, &str)| {
            if chunk.chars().any(char::is_alphanumeric) {
                let start = piece.start + offset;
                passages.push(passage(document, start..start + chunk.len(), &mut lines));
            }
        };
        match document.form {
            Form::Plain => plain.chunk_indices(text).for_each(&mut keep),
            Form::Markdown => markdown.chunk_indices(text).for_each(&mut keep),
        }
    }
    passages
}

fn passage(document: &Extracted, range: Range<usize>, lines: &mut LineCounter<'_>) -> Passage {
    let text = document.text[range.clone()].to_owned();
    let (line, anchors) = match &document.lines {
        None => (lines.at(range.start), None),
        Some(anchors) => {
            let after = anchors.partition_point(|(byte, _)| *byte <= range.start);
            let line = anchors[..after].last().map_or(1, |(_, line)| *line);
            let inside = anchors[after..].iter().take_while(|(byte, _)| *byte < range.end);
            (line, Some(inside.map(|(byte, line)| ((byte - range.start) as u32, *line as u32)).collect()))
        }
    };
    Passage { line, context: context(document, range.start), range, text, lines: anchors }
}

/// The title and the headings above `start`, outermost first, the outermost left out first where they are too long.
fn context(document: &Extracted, start: usize) -> String {
    let mut above: Vec<(u8, &str)> = document.title.iter().map(|title| (0, title.as_str())).collect();
    for heading in document.headings.iter().take_while(|heading| heading.start < start) {
        above.retain(|(level, _)| *level < heading.level);
        above.push((heading.level, &heading.text));
    }
    above.dedup_by(|later, earlier| later.1 == earlier.1);
    let mut context = String::new();
    for (_, text) in above.into_iter().rev() {
        let longer = if context.is_empty() { text.to_owned() } else { format!("{text} > {context}") };
        if longer.chars().count() > CONTEXT {
            if context.is_empty() {
                context = text.chars().take(CONTEXT).collect();
            }
            break;
        }
        context = longer;
    }
    context
}

/// Estimates how many tokens a wordpiece or byte-pair vocabulary makes of a text; errs upwards.
struct EstimatedTokens;

impl ChunkSizer for EstimatedTokens {
    fn size(&self, chunk: &str) -> usize {
        // In sixtieths of a token.
        let mut sum = 0;
        let mut run = Run::None;
        for character in chunk.chars() {
            let next = Run::of(character);
            sum += match (next, next == run) {
                (Run::Letters, false) => 66,
                (Run::Letters, true) => 7,
                (Run::Digits, false) | (Run::Ideographs, _) => 60,
                (Run::Digits, true) => 30,
                (Run::Foreign, _) => 36,
                (Run::Marks, _) => 50,
                (Run::None, _) => 1,
            };
            run = next;
        }
        sum / 60
    }
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Run {
    None,
    Letters,
    Digits,
    Foreign,
    Ideographs,
    Marks,
}

impl Run {
    fn of(character: char) -> Self {
        match character {
            'a'..='z' | 'A'..='Z' => Self::Letters,
            '0'..='9' => Self::Digits,
            _ if character.is_whitespace() => Self::None,
            _ if u32::from(character) >= 0x2E80 => Self::Ideographs,
            _ if character.is_alphanumeric() => Self::Foreign,
            _ => Self::Marks,
        }
    }
}

/// Counts the lines of a text for ever later bytes of it.
struct LineCounter<'text> {
    text: &'text str,
    byte: usize,
    line: usize,
}

impl<'text> LineCounter<'text> {
    fn new(text: &'text str) -> Self {
        Self { text, byte: 0, line: 1 }
    }

    fn at(&mut self, byte: usize) -> usize {
        self.line += newlines(&self.text[self.byte..byte]);
        self.byte = byte;
        self.line
    }
}

/// How many lines end in `text`.
pub(crate) fn newlines(text: &str) -> usize {
    text.bytes().filter(|byte| *byte == b'\n').count()
}

/// Consecutive stretches of at most [`PIECE`] bytes that cover `text`.
fn pieces(text: &str) -> Vec<Range<usize>> {
    let mut pieces = Vec::new();
    let mut start = 0;
    while text.len() - start > PIECE {
        let last = |joint: &str, most: usize| {
            let later_half = text.ceil_char_boundary(start + most / 2)..text.floor_char_boundary(start + most);
            text[later_half.clone()].rfind(joint).map(|at| later_half.start + at + joint.len())
        };
        let end = last("\n\n", PIECE)
            .or_else(|| last("\n", PIECE))
            .or_else(|| last(" ", LINELESS_PIECE))
            .unwrap_or_else(|| text.floor_char_boundary(start + LINELESS_PIECE));
        pieces.push(start..end);
        start = end;
    }
    pieces.push(start..text.len());
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::extract::extract;
    use proptest::prelude::*;
    use std::path::Path;

    fn cut(name: &str, text: &str) -> Vec<Passage> {
        passages(&extract(Path::new(name), text.as_bytes()).unwrap())
    }

    #[test]
    fn a_markdown_passage_stands_under_its_headings() {
        let long = "Some sentence about it that is not short. ".repeat(25);
        let text = format!(
            "# Guide\n\nHello.\n\n## Install\n\n{long}\n\n### Linux\n\n{long}\n\n## Use\n\n```\n# no heading\n```\n\n{long}"
        );
        let all = cut("guide.md", &text);
        let last = all.last().unwrap();
        assert_eq!(last.context, "Guide > Use");
        assert!(all.iter().any(|it| it.context == "Guide > Install > Linux"), "{all:#?}");
        assert_eq!(all[0].context, "");
    }

    #[test]
    fn a_very_long_line_and_a_very_long_word_are_cut() {
        for text in ["a".repeat(300_000), "word ".repeat(60_000), "字".repeat(90_000)] {
            let all = cut("long.txt", &text);
            assert!(all.iter().all(|it| EstimatedTokens.size(&it.text) <= MOST));
            assert_eq!(all.iter().map(|it| it.text.replace(' ', "").len()).sum::<usize>(), text.replace(' ', "").len());
        }
    }

    proptest! {
        #[test]
        fn passages_are_pieces_of_the_text_with_the_lines_they_stand_on(
            text in "([a-zé中]{1,9}[ .,]){0,40}(\n{1,3}#{0,3} ?([a-zé中]{1,9}[ .,;(){}]{1,2}){1,60}){0,30}", markdown: bool,
        ) {
            let mut covered = 0;
            let mut last = 0;
            for passage in cut(if markdown { "a.md" } else { "a.rs" }, &text) {
                prop_assert_eq!(&text[passage.range.clone()], &passage.text);
                prop_assert_eq!(passage.line, text[..passage.range.start].matches('\n').count() + 1);
                prop_assert!(passage.range.start >= last);
                prop_assert!(EstimatedTokens.size(&passage.text) <= MOST);
                last = passage.range.end;
                covered += passage.text.chars().filter(|it| it.is_alphanumeric()).count();
            }
            prop_assert_eq!(covered, text.chars().filter(|it| it.is_alphanumeric()).count());
        }
    }
}
