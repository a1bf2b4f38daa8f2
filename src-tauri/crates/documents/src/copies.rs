//! Passages that say the same in nearly the same words: the page of a book and the one-page copy of the whole book, a file
//! and its former version. A person wants one of them, the one in the smaller file, because it is about that alone.
//!
//! Two passages are near copies when half of the runs of four words of the shorter one are in the other. Identical texts are
//! found by their digest elsewhere; cut at other places they are found here.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash as _, Hasher as _};

use crate::fuse::Candidate;
use crate::words::words;

/// Words of a run.
const RUN: usize = 4;

/// A text with fewer runs says too little to be a copy of anything.
const FEWEST: usize = 8;

/// The runs of words of a text, as a set.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Runs(Vec<u64>);

impl Runs {
    pub(crate) fn of(text: &str) -> Self {
        let words: Vec<_> = words(text).map(|word| word.folded).collect();
        let hash = |run: &[std::borrow::Cow<'_, str>]| {
            // The same in every process: it has no random keys.
            let mut hasher = DefaultHasher::new();
            run.hash(&mut hasher);
            hasher.finish()
        };
        let mut runs: Vec<u64> = words.windows(RUN).map(hash).collect();
        runs.sort_unstable();
        runs.dedup();
        Self(runs)
    }

    fn is_near_copy_of(&self, other: &Self) -> bool {
        let fewer = self.0.len().min(other.0.len());
        let shared = self.0.iter().filter(|run| other.0.binary_search(run).is_ok()).count();
        fewer >= FEWEST && 2 * shared >= fewer
    }
}

/// Puts near copies together: of each group the passage in the smallest file gets the group's best score, and the others are
/// discounted as further copies are. `runs` belongs to `candidates`, which are in order, best first, before and after.
pub(crate) fn settle(candidates: &mut [Candidate], runs: &[Runs]) {
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for (index, own) in runs.iter().enumerate() {
        match groups.iter_mut().find(|group| own.is_near_copy_of(&runs[group[0]])) {
            // Two passages of one file overlap where they were cut; both stay.
            Some(group) if group.iter().all(|&other| candidates[other].path != candidates[index].path) => {
                group.push(index);
            }
            _ => groups.push(vec![index]),
        }
    }
    for mut group in groups.into_iter().filter(|group| group.len() > 1) {
        let best = candidates[group[0]].score;
        group.sort_by_key(|&index| (candidates[index].file_chunks, index));
        candidates[group[0]].score = best;
        for (copies, &index) in group.iter().enumerate().skip(1) {
            candidates[index].score /= 1.0 + copies as f64;
        }
    }
    crate::fuse::sort(candidates);
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "A destructor is run when an initialised variable or temporary goes out of scope, and when a value \
                        that was assigned to is overwritten by another.";

    fn candidate(path: &str, file_chunks: i64, score: f64) -> Candidate {
        Candidate {
            chunk: 0,
            content: 0,
            path: path.into(),
            ordinal: 0,
            file_chunks,
            words_rank: None,
            meaning_rank: None,
            score,
        }
    }

    fn order(texts: &[(&str, i64, f64, &str)]) -> Vec<String> {
        let mut candidates: Vec<Candidate> =
            texts.iter().map(|(path, chunks, score, _)| candidate(path, *chunks, *score)).collect();
        let runs: Vec<Runs> = texts.iter().map(|(.., text)| Runs::of(text)).collect();
        settle(&mut candidates, &runs);
        candidates.into_iter().map(|candidate| candidate.path).collect()
    }

    #[test]
    fn of_near_copies_the_one_in_the_smaller_file_comes_first() {
        let whole = format!("The chapter before ends here. {PAGE}");
        let others =
            "Nothing of this is in the other passage: it speaks of tides, of the moon and of the ships that wait.";
        let found = order(&[("print", 900, 0.9, &whole), ("other", 3, 0.6, others), ("page", 4, 0.5, PAGE)]);
        assert_eq!(found, ["page", "other", "print"]);
    }

    #[test]
    fn passages_of_one_file_and_short_ones_are_no_copies() {
        assert_eq!(order(&[("a", 9, 0.9, PAGE), ("a", 9, 0.5, PAGE)]), ["a", "a"]);
        assert_eq!(order(&[("a", 9, 0.9, "fn main() {}"), ("b", 1, 0.5, "fn main() {}")]), ["a", "b"]);
    }

    #[test]
    fn a_copy_is_told_by_half_of_its_runs() {
        let runs = Runs::of(PAGE);
        let half: String = PAGE.split_inclusive(' ').take(15).collect();
        assert!(
            Runs::of(&format!("{half}and then it goes on in quite another way than before")).is_near_copy_of(&runs)
        );
        assert!(
            !Runs::of("A destructor is run, and that is all they share, because the rest is made of other words.")
                .is_near_copy_of(&runs)
        );
    }
}
