//! The committed probe set: short sentences on which a smaller model is compared with the one that it was made from.
//!
//! Ten sentences for each of the subjects that a developer's notes are about, so that a text's nearest others mean something,
//! and a part of them in other languages. Written for this project. A change of the file changes every certificate after it:
//! [`sha256`] says which set a certificate used.

use sha2::{Digest, Sha256};

const TEXT: &str = include_str!("../probes.txt");

/// The sentences, in their order.
pub fn probes() -> Vec<String> {
    let sentence = |line: &&str| !line.is_empty() && !line.starts_with('#');
    TEXT.lines().map(str::trim).filter(sentence).map(str::to_owned).collect()
}

/// The sha256 of the set, comments included.
pub(crate) fn sha256() -> String {
    hex::encode(Sha256::digest(TEXT))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn there_are_at_least_two_hundred_different_sentences() {
        let probes = probes();
        let different: BTreeSet<&String> = probes.iter().collect();
        assert!(different.len() >= 200 && different.len() == probes.len(), "{} of {}", different.len(), probes.len());
        let short = probes.iter().find(|probe| probe.chars().count() < 8);
        assert_eq!(short, None);
        assert_eq!(sha256().len(), 64);
    }
}
