//! Splits texts into batches of similar length. Pure: it sees lengths, not texts.

/// Padded tokens in one batch at most. On a processor a batch stops paying off at some dozens of rows of the matrix
/// products, while its intermediate results leave the second-level cache.
pub(crate) const TOKENS_PER_BATCH: usize = 512;

/// Groups the indices of `lengths` into batches, shortest first, each of at most `tokens_per_batch` padded tokens.
///
/// A text that is longer than the bound by itself makes a batch of its own.
pub(crate) fn plan(lengths: &[usize], tokens_per_batch: usize) -> Vec<Vec<usize>> {
    // Ascending order: the last text is the longest of its batch, so it decides the padded size.
    grouped(lengths, tokens_per_batch, |texts, _, longest| texts * longest)
}

/// Like [`plan`], for backends to which padding costs nothing: the bound is one of tokens without it.
pub(crate) fn plan_unpadded(lengths: &[usize], tokens_per_batch: usize) -> Vec<Vec<usize>> {
    grouped(lengths, tokens_per_batch, |_, tokens, _| tokens)
}

/// Groups indices, shortest first, while `size` of a batch's texts, their tokens and its longest is within the bound.
fn grouped(lengths: &[usize], bound: usize, size: impl Fn(usize, usize, usize) -> usize) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    order.sort_by_key(|&index| lengths[index]);
    let mut batches: Vec<Vec<usize>> = Vec::new();
    let mut tokens = 0;
    for index in order {
        let length = lengths[index];
        match batches.last_mut() {
            Some(batch) if size(batch.len() + 1, tokens + length, length) <= bound => batch.push(index),
            _ => {
                batches.push(vec![index]);
                tokens = 0;
            }
        }
        tokens += length;
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn similar_lengths_share_a_batch() {
        assert_eq!(plan(&[100, 3, 90, 4], 200), [vec![1, 3], vec![2, 0]]);
    }

    #[test]
    fn a_text_over_the_bound_is_alone() {
        assert_eq!(plan(&[1000, 1000], 512), [[0], [1]]);
    }

    proptest! {
        #[test]
        fn every_text_is_in_one_batch_and_no_batch_is_over_the_bound(
            lengths in prop::collection::vec(1_usize..300, 0..200),
            bound in 1_usize..600,
        ) {
            let unpadded = plan_unpadded(&lengths, bound);
            for batch in &unpadded {
                let tokens: usize = batch.iter().map(|&index| lengths[index]).sum();
                prop_assert!(batch.len() == 1 || tokens <= bound);
            }
            let mut seen: Vec<usize> = unpadded.concat();
            seen.sort_unstable();
            prop_assert_eq!(seen, (0..lengths.len()).collect::<Vec<_>>());
            let batches = plan(&lengths, bound);
            let mut seen: Vec<usize> = batches.concat();
            seen.sort_unstable();
            prop_assert_eq!(seen, (0..lengths.len()).collect::<Vec<_>>());
            for batch in batches {
                let longest = batch.iter().map(|&index| lengths[index]).max().unwrap_or(0);
                prop_assert!(batch.len() == 1 || batch.len() * longest <= bound);
            }
        }
    }
}
