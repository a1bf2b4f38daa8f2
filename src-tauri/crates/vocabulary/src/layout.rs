//! Where everything lies in a compiled file, and the lookups in it. It reads; `compile` writes.
//!
//! All numbers are little-endian `u32` but the seal. After the header of 48 bytes come, each from a multiple of 64 on:
//!
//! | part | one entry |
//! |---|---|
//! | settings | JSON |
//! | characters | the token that is this one character, for those below U+0400 |
//! | token slots | half of the token's hash, the token; open addressing |
//! | pair slots | left, right, rank, merged; open addressing |
//! | records | where the token's bytes start, how many they are; by id |
//! | text | the bytes of all tokens end to end |
//!
//! Header and settings are sealed by a hash, because the library believes what its settings say. The tables are too large
//! for that, so every number in them is checked where it is used: whatever they say, a lookup ends, and inside of the file.

use std::ops::Range;

use crate::{VocabularyError, hash};

/// The number of the layout, of the hashes and of the settings' form. A file of another one is not read.
pub const FORMAT: u32 = 1;

pub(crate) const MAGIC: [u8; 8] = *b"embvocab";
pub(crate) const HEADER: usize = 48;
/// Where the seal lies, and how far the header is under it.
pub(crate) const SEAL: usize = 40;
const ALIGNMENT: u64 = 64;

/// Slots that are looked at before something is not in a table. `compile` enlarges a table that needs more.
pub(crate) const MOST_PROBES: usize = 128;
/// Characters with an entry of their own: those that stand for a byte end at U+0143.
pub(crate) const CHARACTERS: u32 = 0x400;
/// Neither a token nor a rank.
pub(crate) const NONE: u32 = u32::MAX;
/// In the length of a record: the token's text alone becomes this one token.
pub(crate) const WHOLE: u32 = 1 << 31;
/// The most bytes of a token.
pub(crate) const LONGEST: u32 = 4096;

/// The numbers of the header.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Header {
    /// Bytes of the settings.
    pub(crate) settings: u32,
    /// Tokens of the model.
    pub(crate) tokens: u32,
    /// The largest id and one more.
    pub(crate) records: u32,
    /// Bytes of the text.
    pub(crate) text: u32,
    /// Entries of the table of tokens; a power of two.
    pub(crate) token_slots: u32,
    /// Entries of the table of pairs; a power of two.
    pub(crate) pair_slots: u32,
    /// Bytes of the longest token.
    pub(crate) longest: u32,
}

impl Header {
    /// The header's bytes with the seal over them and the settings.
    pub(crate) fn sealed(&self, settings: &[u8]) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[..8].copy_from_slice(&MAGIC);
        let numbers = [
            FORMAT,
            self.settings,
            self.tokens,
            self.records,
            self.text,
            self.token_slots,
            self.pair_slots,
            self.longest,
        ];
        for (place, number) in bytes[8..SEAL].chunks_exact_mut(4).zip(numbers) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        let seal = seal(&bytes[..SEAL], settings);
        bytes[SEAL..].copy_from_slice(&seal.to_le_bytes());
        bytes
    }
}

fn seal(header: &[u8], settings: &[u8]) -> u64 {
    hash::finished(hash::extended(hash::extended(hash::START, header), settings))
}

/// Where the parts lie in a file.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    pub(crate) header: Header,
    pub(crate) settings: Range<usize>,
    pub(crate) characters: Range<usize>,
    pub(crate) token_slots: Range<usize>,
    pub(crate) pair_slots: Range<usize>,
    pub(crate) records: Range<usize>,
    pub(crate) text: Range<usize>,
}

impl Layout {
    /// The places that follow from the numbers alone; `None` where they do not fit this machine.
    pub(crate) fn of(header: Header) -> Option<Self> {
        let mut end = HEADER as u64;
        let mut next = |entries: u32, size: u64| {
            let start = end.next_multiple_of(ALIGNMENT);
            end = start + u64::from(entries) * size;
            Some(usize::try_from(start).ok()?..usize::try_from(end).ok()?)
        };
        Some(Self {
            header,
            settings: next(header.settings, 1)?,
            characters: next(CHARACTERS, 4)?,
            token_slots: next(header.token_slots, 8)?,
            pair_slots: next(header.pair_slots, 16)?,
            records: next(header.records, 8)?,
            text: next(header.text, 1)?,
        })
    }

    /// Checks the header of `bytes`, its seal, and that the parts fill the file.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, VocabularyError> {
        let Some((header, _)) = bytes.split_first_chunk::<HEADER>() else {
            return Err(VocabularyError::NotCompiled);
        };
        if header[..8] != MAGIC {
            return Err(VocabularyError::NotCompiled);
        }
        let number = |index: usize| u32_at(header, 8 + 4 * index);
        let format = number(0);
        if format != FORMAT {
            return Err(VocabularyError::OtherFormat { found: format, expected: FORMAT });
        }
        let numbers = Header {
            settings: number(1),
            tokens: number(2),
            records: number(3),
            text: number(4),
            token_slots: number(5),
            pair_slots: number(6),
            longest: number(7),
        };
        let layout = Self::of(numbers)
            .ok_or_else(|| VocabularyError::damaged("its parts are larger than what this machine can address"))?;
        if layout.text.end != bytes.len() {
            let (found, expected) = (bytes.len(), layout.text.end);
            return Err(VocabularyError::damaged(format!("it has `{found}` bytes instead of `{expected}`")));
        }
        let settings = bytes.get(layout.settings.clone()).unwrap_or_default();
        if header[SEAL..] != seal(&header[..SEAL], settings).to_le_bytes() {
            return Err(VocabularyError::damaged("header and settings do not fit their seal"));
        }
        let Header { records, token_slots, pair_slots, longest, .. } = numbers;
        if !token_slots.is_power_of_two() || !pair_slots.is_power_of_two() || records == 0 || longest > LONGEST {
            return Err(VocabularyError::damaged(format!(
                "`{token_slots}` and `{pair_slots}` slots, `{records}` records, `{longest}` bytes of the longest token"
            )));
        }
        Ok(layout)
    }

    /// The tables in `bytes`, which [`read`](Self::read) accepted; parts that are not there any more are empty.
    pub(crate) fn tables<'bytes>(&self, bytes: &'bytes [u8]) -> Tables<'bytes> {
        let part = |range: &Range<usize>| bytes.get(range.clone()).unwrap_or_default();
        Tables {
            characters: part(&self.characters).as_chunks().0,
            token_slots: part(&self.token_slots).as_chunks().0,
            pair_slots: part(&self.pair_slots).as_chunks().0,
            records: part(&self.records).as_chunks().0,
            text: part(&self.text),
            longest: self.header.longest as usize,
        }
    }
}

/// A token that was looked up by its text.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Found {
    pub(crate) id: u32,
    /// The text alone becomes this one token.
    pub(crate) whole: bool,
}

/// What two neighbours become.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Merge {
    /// Lower ones come first.
    pub(crate) rank: u32,
    pub(crate) merged: u32,
}

/// The tables of one file.
#[derive(Clone, Copy)]
pub(crate) struct Tables<'bytes> {
    characters: &'bytes [[u8; 4]],
    token_slots: &'bytes [[u8; 8]],
    pair_slots: &'bytes [[u8; 16]],
    records: &'bytes [[u8; 8]],
    text: &'bytes [u8],
    /// Bytes of the longest token.
    pub(crate) longest: usize,
}

impl<'bytes> Tables<'bytes> {
    /// The token with the finished hash `hash` whose text `matches`.
    pub(crate) fn find(&self, hash: u64, matches: impl Fn(&[u8]) -> bool) -> Option<Found> {
        for slot in probes(self.token_slots, hash) {
            let id = u32_at(slot, 4);
            if id == NONE {
                return None;
            }
            if u32_at(slot, 0) == hash as u32
                && let Some((text, whole)) = self.record(id)
                && matches(text)
            {
                return Some(Found { id, whole });
            }
        }
        None
    }

    /// The token with the text `token`.
    pub(crate) fn token(&self, token: &[u8]) -> Option<Found> {
        if token.len() > self.longest {
            return None;
        }
        self.find(hash::of_bytes(token), |text| text == token)
    }

    /// The token that is this one character.
    pub(crate) fn character(&self, character: char) -> Option<u32> {
        match self.characters.get(character as usize) {
            Some(id) => Some(u32::from_le_bytes(*id)).filter(|id| *id != NONE),
            None => self.token(character.encode_utf8(&mut [0; 4]).as_bytes()).map(|found| found.id),
        }
    }

    /// What `left` and `right` become, if they merge.
    pub(crate) fn merge(&self, left: u32, right: u32) -> Option<Merge> {
        for slot in probes(self.pair_slots, hash::of_pair(left, right)) {
            let rank = u32_at(slot, 8);
            if rank == NONE {
                return None;
            }
            if u32_at(slot, 0) == left && u32_at(slot, 4) == right {
                return Some(Merge { rank, merged: u32_at(slot, 12) });
            }
        }
        None
    }

    /// The text of a token, and whether that text alone becomes this one token.
    fn record(&self, id: u32) -> Option<(&'bytes [u8], bool)> {
        let record = self.records.get(id as usize)?;
        let (start, length) = (u32_at(record, 0), u32_at(record, 4));
        if length == NONE {
            return None;
        }
        let start = start as usize;
        let end = start.checked_add((length & !WHOLE) as usize)?;
        Some((self.text.get(start..end)?, length & WHOLE != 0))
    }

    /// The text of a token.
    pub(crate) fn text(&self, id: u32) -> Option<&'bytes str> {
        self.record(id).and_then(|(text, _)| std::str::from_utf8(text).ok())
    }

    /// Every token and its text.
    pub(crate) fn all(&self) -> impl Iterator<Item = (u32, &'bytes str)> {
        (0..self.records.len() as u32).filter_map(|id| Some((id, self.text(id)?)))
    }
}

/// The slots to look at for `hash`, in their order. The upper half says where to start: the lower one is in the slot.
fn probes<Slot>(slots: &[Slot], hash: u64) -> impl Iterator<Item = &Slot> {
    let start = (hash >> 32) as usize;
    let most = MOST_PROBES.min(slots.len());
    (0..most).filter_map(move |step| slots.get(start.wrapping_add(step) & (slots.len() - 1)))
}

/// Where [`probes`] looks first, for the writer.
pub(crate) fn first_slot(slots: usize, hash: u64) -> usize {
    (hash >> 32) as usize & (slots - 1)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(NONE, |number| u32::from_le_bytes(*number))
}
