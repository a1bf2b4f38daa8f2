//! Two rankings become one: reciprocal-rank fusion, then a discount for more of the same.
//!
//! Fusion gives a passage 1 / (60 + rank) for each ranking it is in. The discount divides by 1 + n the score of the n-th
//! further passage of a file, and of the n-th further copy of a text, so that ten files are not pushed out by one, nor by
//! the copies of a licence; nothing is dropped for it.

use std::collections::HashMap;

/// Dampens the difference between the first ranks; 60 is the customary value.
const DAMPING: f64 = 60.0;

/// A passage that one of the rankings holds.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Candidate {
    pub(crate) chunk: i64,
    /// The identity of its text.
    pub(crate) content: i64,
    pub(crate) path: String,
    pub(crate) ordinal: i64,
    /// Passages of the file that it is in.
    pub(crate) file_chunks: i64,
    /// Its place in the ranking by words, from 1.
    pub(crate) words_rank: Option<usize>,
    /// Its place in the ranking by meaning, from 1.
    pub(crate) meaning_rank: Option<usize>,
    pub(crate) score: f64,
}

/// Scores `candidates` and puts them in order, best first, the path and the place in the file deciding ties.
pub(crate) fn fuse(candidates: &mut [Candidate]) {
    for candidate in &mut *candidates {
        let ranks = [candidate.words_rank, candidate.meaning_rank];
        candidate.score = ranks.into_iter().flatten().map(|rank| 1.0 / (DAMPING + rank as f64)).sum();
    }
    sort(candidates);
    discount(candidates);
    sort(candidates);
}

fn discount(candidates: &mut [Candidate]) {
    let mut of_file: HashMap<String, u32> = HashMap::new();
    let mut of_content: HashMap<i64, u32> = HashMap::new();
    for candidate in candidates {
        let in_file = of_file.entry(candidate.path.clone()).or_default();
        let copies = of_content.entry(candidate.content).or_default();
        candidate.score /= f64::from(1 + (*in_file).max(*copies));
        *in_file += 1;
        *copies += 1;
    }
}

/// Best first, the path and the place in the file deciding ties.
pub(crate) fn sort(candidates: &mut [Candidate]) {
    candidates.sort_by(|a, b| {
        b.score.total_cmp(&a.score).then_with(|| a.path.cmp(&b.path)).then_with(|| a.ordinal.cmp(&b.ordinal))
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn candidate(path: &str, ordinal: i64, content: i64, ranks: (Option<usize>, Option<usize>)) -> Candidate {
        let (words_rank, meaning_rank) = ranks;
        Candidate {
            chunk: ordinal,
            content,
            path: path.into(),
            ordinal,
            file_chunks: 1,
            words_rank,
            meaning_rank,
            score: 0.0,
        }
    }

    fn order(candidates: &[Candidate]) -> Vec<(&str, i64)> {
        candidates.iter().map(|it| (it.path.as_str(), it.ordinal)).collect()
    }

    #[test]
    fn a_passage_that_both_halves_find_comes_before_the_first_of_either() {
        let mut all = [
            candidate("words", 0, 1, (Some(1), None)),
            candidate("meaning", 0, 2, (None, Some(1))),
            candidate("both", 0, 3, (Some(5), Some(5))),
        ];
        fuse(&mut all);
        assert_eq!(order(&all), [("both", 0), ("meaning", 0), ("words", 0)]);
    }

    #[test]
    fn one_file_and_one_text_do_not_take_every_place() {
        let mut all = [
            candidate("a", 0, 1, (Some(1), None)),
            candidate("a", 1, 2, (Some(2), None)),
            candidate("copy of a", 0, 1, (Some(3), None)),
            candidate("b", 0, 3, (Some(9), None)),
        ];
        fuse(&mut all);
        assert_eq!(order(&all), [("a", 0), ("b", 0), ("a", 1), ("copy of a", 0)]);
    }

    proptest! {
        #[test]
        fn fusion_agrees_with_two_lists_walked_one_after_the_other(
            words in proptest::collection::hash_set(0_i64..40, 0..20),
            meaning in proptest::collection::hash_set(0_i64..40, 0..20),
        ) {
            let (words, meaning): (Vec<_>, Vec<_>) = (words.into_iter().collect(), meaning.into_iter().collect());
            let mut naive: HashMap<i64, f64> = HashMap::new();
            for list in [&words, &meaning] {
                for (place, id) in list.iter().enumerate() {
                    *naive.entry(*id).or_default() += 1.0 / (61 + place) as f64;
                }
            }
            let place = |list: &[i64], id| list.iter().position(|it| *it == id).map(|place| place + 1);
            let mut all: Vec<Candidate> = naive.keys()
                .map(|id| candidate(&format!("{id:02}"), 0, *id, (place(&words, *id), place(&meaning, *id)))).collect();
            fuse(&mut all);
            prop_assert!(all.windows(2).all(|pair| pair[0].score >= pair[1].score));
            for one in &all {
                prop_assert!((one.score - naive[&one.content]).abs() < 1e-12);
            }
        }
    }
}
