//! Whether a remote model is the one that runs here.
//!
//! Vectors outlive the model that made them, and those of two models cannot be compared. A server's name for its model
//! proves nothing; vectors of the same texts do. The caller embeds [`PROBES`](crate::PROBES) on both sides, without a
//! prompt. What is not here: embedding, and what is done where they agree.

/// The least cosine of any probe at which vectors of both sides may stand in one index.
pub const THRESHOLD: f64 = 0.99;

/// How near the two sides are: cosines, 1 for the same direction.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Agreement {
    /// Over all texts.
    pub mean: f64,
    /// Of the text on which they differ most.
    pub least: f64,
}

impl Agreement {
    /// Whether remote vectors may carry the local generation: every text agrees, not only the mean of them.
    pub fn may_share(&self) -> bool {
        self.least >= THRESHOLD
    }
}

/// Why two sets of vectors have no agreement at all.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum NotComparable {
    /// Nothing to compare, or not the same texts.
    #[error("there are {local} local and {remote} remote vectors; embed the same texts on both sides")]
    Counts {
        /// Here.
        local: usize,
        /// There.
        remote: usize,
    },
    /// Another model for certain.
    #[error("local vectors have {local} numbers and remote ones {remote}: these are different models")]
    Widths {
        /// Here.
        local: usize,
        /// There.
        remote: usize,
    },
    /// A vector without a direction.
    #[error("the vector of text {index} has no direction: it is zeros, or has a number that is not finite")]
    NoDirection {
        /// Which, from 0.
        index: usize,
    },
}

/// How near local and remote vectors of the same texts are, in the same order.
pub fn agrees(local: &[Vec<f32>], remote: &[Vec<f32>]) -> Result<Agreement, NotComparable> {
    if local.len() != remote.len() || local.is_empty() {
        return Err(NotComparable::Counts { local: local.len(), remote: remote.len() });
    }
    let (mut sum, mut least) = (0.0, f64::INFINITY);
    for (index, (here, there)) in local.iter().zip(remote).enumerate() {
        if here.len() != there.len() {
            return Err(NotComparable::Widths { local: here.len(), remote: there.len() });
        }
        let cosine = dot(here, there) / (dot(here, here) * dot(there, there)).sqrt();
        if !cosine.is_finite() {
            return Err(NotComparable::NoDirection { index });
        }
        sum += cosine;
        least = least.min(cosine);
    }
    Ok(Agreement { mean: sum / local.len() as f64, least })
}

fn dot(one: &[f32], other: &[f32]) -> f64 {
    one.iter().zip(other).map(|(&one, &other)| f64::from(one) * f64::from(other)).sum()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::PROBES;

    #[test]
    fn one_text_that_differs_is_enough_to_keep_them_apart() {
        let local = vec![vec![1.0, 0.0]; 20];
        let mut remote = vec![vec![2.0, 0.0]; 20];
        let same = agrees(&local, &remote).expect("they can be compared");
        assert_eq!(same, Agreement { mean: 1.0, least: 1.0 });
        assert!(same.may_share());
        remote[7] = vec![1.0, 0.2];
        let nearly = agrees(&local, &remote).expect("they can be compared");
        assert!(nearly.mean > 0.999 && nearly.least < 0.981 && !nearly.may_share(), "{nearly:?}");
    }

    #[test]
    fn at_the_threshold_they_may_share() {
        let at = |least| Agreement { mean: 1.0, least }.may_share();
        assert!(at(THRESHOLD) && !at(THRESHOLD - 1e-9) && !at(f64::NAN));
    }

    #[test]
    fn what_cannot_be_compared_has_a_sentence() {
        let of = |numbers: &[f32]| vec![numbers.to_vec()];
        assert_eq!(agrees(&[], &[]), Err(NotComparable::Counts { local: 0, remote: 0 }));
        assert_eq!(agrees(&of(&[1.0]), &[]), Err(NotComparable::Counts { local: 1, remote: 0 }));
        assert_eq!(agrees(&of(&[1.0]), &of(&[1.0, 2.0])), Err(NotComparable::Widths { local: 1, remote: 2 }));
        for numbers in [[0.0, 0.0], [f32::NAN, 1.0], [f32::INFINITY, 1.0]] {
            assert_eq!(agrees(&of(&[1.0, 1.0]), &of(&numbers)), Err(NotComparable::NoDirection { index: 0 }));
        }
    }

    #[test]
    fn the_probes_are_twenty_different_texts() {
        assert_eq!(PROBES.len(), 20);
        assert_eq!(PROBES.iter().collect::<BTreeSet<_>>().len(), 20);
        assert!(PROBES.iter().any(|probe| probe.len() > 400), "one is long, so that truncation shows");
        assert!(PROBES.iter().any(|probe| probe.len() < 10), "one is short, so that special tokens weigh");
    }
}
