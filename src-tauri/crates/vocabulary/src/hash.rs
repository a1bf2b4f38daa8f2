//! The hashes that the tables are laid out by: part of the file format, the same on every machine, and no defence against
//! a vocabulary that was made to collide (lookups have a limit for that).

/// The hash of no bytes, before [`finished`].
pub(crate) const START: u64 = 0xcbf2_9ce4_8422_2325;

/// FNV-1a: one byte after the other, so that every beginning of a word is hashed on the way to its end.
pub(crate) fn extended(state: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(state, |state, byte| (state ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Spreads the last bytes over all bits, which FNV does not; the mixing of MurmurHash3.
pub(crate) fn finished(state: u64) -> u64 {
    let state = (state ^ (state >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let state = (state ^ (state >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    state ^ (state >> 33)
}

/// The hash of a whole token.
pub(crate) fn of_bytes(bytes: &[u8]) -> u64 {
    finished(extended(START, bytes))
}

/// The hash of two tokens that may merge.
pub(crate) fn of_pair(left: u32, right: u32) -> u64 {
    finished((u64::from(left) << 32) | u64::from(right))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hashes_of_files_already_written_stay() {
        assert_eq!(extended(START, b"foobar"), 0x8594_4171_f739_67e8);
        assert_eq!(of_bytes(b"hello"), finished(extended(extended(START, b"he"), b"llo")));
        assert_eq!(finished(1), 0xb456_bcfc_34c2_cb2c);
    }
}
