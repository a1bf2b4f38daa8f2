//! Which characters the library's regular expressions call a letter, a number or white space. From the tables that those are
//! compiled from, so that both agree in every version of Unicode; compiling them takes a thousand times longer.

use std::sync::LazyLock;

use regex_syntax::hir::{Class, HirKind};

/// What a character is, as far as words are told apart by it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    /// `\p{L}`
    Letter,
    /// `\p{N}`
    Number,
    /// `\s`
    Space,
    /// All others.
    Other,
}

struct Kinds {
    /// Of the first characters.
    direct: Vec<Kind>,
    /// First and last characters, ascending.
    ranges: Vec<(char, char, Kind)>,
}

/// Characters that are looked up directly: Latin, Greek and Cyrillic letters.
const DIRECT: u32 = 0x500;

static KINDS: LazyLock<Kinds> = LazyLock::new(|| {
    let mut ranges = Vec::with_capacity(1024);
    for (class, kind) in [(r"\p{L}", Kind::Letter), (r"\p{N}", Kind::Number), (r"\s", Kind::Space)] {
        let parsed = regex_syntax::parse(class).expect("the classes are in regex-syntax's tables. This is a bug.");
        let HirKind::Class(Class::Unicode(class)) = parsed.kind() else {
            unreachable!("`{class}` is a class of Unicode. This is a bug.");
        };
        ranges.extend(class.ranges().iter().map(|range| (range.start(), range.end(), kind)));
    }
    ranges.sort_unstable_by_key(|(first, _, _)| *first);
    let direct = (0..DIRECT).map(|code| char::from_u32(code).map_or(Kind::Other, |code| search(&ranges, code)));
    Kinds { direct: direct.collect(), ranges }
});

fn search(ranges: &[(char, char, Kind)], character: char) -> Kind {
    let after = ranges.partition_point(|(first, _, _)| *first <= character);
    match after.checked_sub(1).map(|index| ranges[index]) {
        Some((_, last, kind)) if character <= last => kind,
        _ => Kind::Other,
    }
}

/// What `character` is.
pub(crate) fn kind(character: char) -> Kind {
    let kinds = &*KINDS;
    kinds.direct.get(character as usize).copied().unwrap_or_else(|| search(&kinds.ranges, character))
}
