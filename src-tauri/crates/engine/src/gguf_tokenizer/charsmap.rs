//! SentencePiece's compiled normalisation. The library walks its tables without looking where they end, so a map that would lead
//! it out of them is refused here.
//!
//! The map is the length of a table of units in bytes, the units (a double array over the bytes of texts, as darts-clone lays it
//! out), and the replacements, each ended by a zero.

/// Why a map is not used.
pub(super) type Refusal = &'static str;

/// Bytes that are more than any map has: that of XLM-R has 238,000.
const LARGEST: usize = 16 << 20;

/// What lies in a unit.
#[derive(Clone, Copy)]
struct Unit(u32);

impl Unit {
    /// The byte that leads to it; none that a text has where it holds a value.
    fn label(self) -> u32 {
        self.0 & 0x8000_00ff
    }

    fn has_leaf(self) -> bool {
        self.0 >> 8 & 1 == 1
    }

    fn value(self) -> usize {
        (self.0 & 0x7fff_ffff) as usize
    }

    fn offset(self) -> usize {
        ((self.0 >> 10) as usize) << ((self.0 & (1 << 9)) >> 6)
    }
}

/// Checks that no text leads out of the map.
pub(super) fn check(map: &[u8]) -> Result<(), Refusal> {
    if map.len() > LARGEST {
        return Err("is larger than any");
    }
    let (length, rest) = map.split_first_chunk().ok_or("is too short")?;
    let length = u32::from_le_bytes(*length) as usize / 4 * 4;
    let (units, replacements) = rest.split_at_checked(length).ok_or("is too short")?;
    let replacements = str::from_utf8(replacements).map_err(|_| "has replacements that are no text")?;
    let units: Vec<Unit> = units.as_chunks().0.iter().map(|unit| Unit(u32::from_le_bytes(*unit))).collect();
    if units.is_empty() {
        return Err("has no table");
    }
    for (place, unit) in units.iter().enumerate() {
        // The walk begins at the first one and goes on only from what a byte of a text leads to; a zero ends a text.
        if place > 0 && !(1..=255).contains(&unit.label()) {
            continue;
        }
        let next = place ^ unit.offset();
        if next | 255 >= units.len() {
            return Err("leads out of its table");
        }
        if unit.has_leaf() && !replacements.is_char_boundary(units[next].value()) {
            return Err("leads out of its replacements");
        }
    }
    Ok(())
}
