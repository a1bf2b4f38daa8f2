//! The revision in a generation: a short name for the bytes that decide what vectors come out.
//!
//! Hashing gigabytes at every load would take longer than loading. A weight file counts with its length, its first
//! mebibyte, its last block and 64 blocks of 64 KiB spread evenly over it; a file of at most 8 MiB counts whole. Different
//! checkpoints differ in nearly every block, so this tells them apart; it is no proof of integrity, which is the store's
//! business (the full sha256 of every installed file). The tokenizer counts whole, and so do the facts that the native
//! recipe takes from the configuration (pooling, length, prompts), because they change the vectors as well.

use sha2::{Digest, Sha256};

use crate::{facts::ModelFacts, mapped::Mapped};

const WHOLE: usize = 8 << 20;
const HEAD: usize = 1 << 20;
const BLOCK: usize = 64 << 10;
const BLOCKS: usize = 64;

/// The first 16 hexadecimal digits of the sha256 described above, over weight `files` in a fixed order.
pub(crate) fn revision<'a>(
    files: impl IntoIterator<Item = &'a Mapped>,
    tokenizer: &[u8],
    facts: &ModelFacts,
) -> String {
    let mut hash = Sha256::new();
    for file in files {
        add_sampled(&mut hash, file.bytes());
    }
    for part in [tokenizer, facts.describe().as_bytes()] {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    let digest = hash.finalize();
    let first = digest.first_chunk::<8>().expect("a sha256 has 32 bytes. This is a bug.");
    format!("{:016x}", u64::from_be_bytes(*first))
}

fn add_sampled(hash: &mut Sha256, bytes: &[u8]) {
    hash.update((bytes.len() as u64).to_le_bytes());
    if bytes.len() <= WHOLE {
        hash.update(bytes);
        return;
    }
    hash.update(&bytes[..HEAD]);
    let step = (bytes.len() - BLOCK) / BLOCKS;
    for block in 0..=BLOCKS {
        let start = if block == BLOCKS { bytes.len() - BLOCK } else { block * step };
        hash.update(&bytes[start..start + BLOCK]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sampled(bytes: &[u8]) -> Vec<u8> {
        let mut hash = Sha256::new();
        add_sampled(&mut hash, bytes);
        hash.finalize().to_vec()
    }

    #[test]
    fn a_small_file_counts_whole() {
        let mut bytes = vec![7; 100_000];
        let before = sampled(&bytes);
        bytes[54_321] = 8;
        assert_ne!(before, sampled(&bytes));
    }

    #[test]
    fn a_large_file_counts_by_length_head_tail_and_samples() {
        let mut bytes = vec![7; WHOLE + 123_457];
        let before = sampled(&bytes);
        for place in [0, HEAD - 1, WHOLE + 123_456] {
            bytes[place] = 8;
            assert_ne!(before, sampled(&bytes), "a change at {place} is not seen");
            bytes[place] = 7;
        }
        bytes.push(7);
        assert_ne!(before, sampled(&bytes), "a longer file");
    }
}
