//! How far two sets of vectors of the same texts agree.

use embedbar_convert::certificate::Agreement;

/// Neighbours of a text that count.
const NEIGHBOURS: usize = 10;

/// Compares vectors text by text: by cosine, and by how many of a text's ten nearest others both sides agree on.
///
/// Vectors need not have length 1. Both sides hold the same texts in the same order.
pub fn agreement(source: &[Vec<f32>], target: &[Vec<f32>]) -> Agreement {
    assert_eq!(source.len(), target.len(), "both sides embed the same texts. This is a bug.");
    let (source, target) = (unit(source), unit(target));
    let cosines: Vec<f64> = source.iter().zip(&target).map(|(left, right)| dot(left, right)).collect();
    let count = cosines.len().max(1) as f64;
    let shared: usize = (0..source.len())
        .map(|text| {
            let (left, right) = (nearest(&source, text), nearest(&target, text));
            left.iter().filter(|other| right.contains(other)).count()
        })
        .sum();
    let neighbours = NEIGHBOURS.min(source.len().saturating_sub(1)).max(1) as f64;
    Agreement {
        mean_cosine: cosines.iter().sum::<f64>() / count,
        least_cosine: cosines.iter().copied().fold(f64::INFINITY, f64::min),
        top_10_overlap: shared as f64 / (count * neighbours),
    }
}

fn unit(vectors: &[Vec<f32>]) -> Vec<Vec<f64>> {
    let scaled = |vector: &Vec<f32>| {
        let norm = vector.iter().map(|&number| f64::from(number).powi(2)).sum::<f64>().sqrt();
        vector.iter().map(|&number| f64::from(number) / norm.max(f64::MIN_POSITIVE)).collect()
    };
    vectors.iter().map(scaled).collect()
}

fn dot(left: &[f64], right: &[f64]) -> f64 {
    left.iter().zip(right).map(|(left, right)| left * right).sum()
}

/// The nearest other texts.
fn nearest(vectors: &[Vec<f64>], text: usize) -> Vec<usize> {
    let mut others: Vec<(f64, usize)> = (0..vectors.len())
        .filter(|&other| other != text)
        .map(|other| (dot(&vectors[text], &vectors[other]), other))
        .collect();
    others.sort_by(|left, right| right.0.total_cmp(&left.0).then(left.1.cmp(&right.1)));
    others.into_iter().take(NEIGHBOURS).map(|(_, other)| other).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Vectors on a half circle: a text's neighbours are those beside it.
    fn circle(count: usize, shift: impl Fn(usize) -> f32) -> Vec<Vec<f32>> {
        let angle = |at: usize| (at as f32 + shift(at)) * 0.05;
        (0..count).map(|at| vec![3.0 * angle(at).cos(), 3.0 * angle(at).sin()]).collect()
    }

    #[test]
    fn vectors_agree_with_themselves_whatever_their_length() {
        let vectors = circle(40, |_| 0.0);
        let longer: Vec<Vec<f32>> = vectors.iter().map(|vector| vector.iter().map(|it| it * 7.0).collect()).collect();
        let Agreement { mean_cosine, least_cosine, top_10_overlap } = agreement(&vectors, &longer);
        assert!((mean_cosine - 1.0).abs() < 1e-9 && (least_cosine - 1.0).abs() < 1e-9);
        assert!((top_10_overlap - 1.0).abs() < 1e-9);
    }

    #[test]
    fn one_text_that_moved_shows_in_the_least_cosine_and_in_the_neighbours() {
        let vectors = circle(40, |_| 0.0);
        let moved = circle(40, |at| if at == 3 { 30.0 } else { 0.0 });
        let Agreement { mean_cosine, least_cosine, top_10_overlap } = agreement(&vectors, &moved);
        assert!((least_cosine - 1.5_f64.cos()).abs() < 1e-6, "{least_cosine}");
        assert!((mean_cosine - (39.0 + 1.5_f64.cos()) / 40.0).abs() < 1e-6, "{mean_cosine}");
        assert!(top_10_overlap > 0.8 && top_10_overlap < 1.0, "{top_10_overlap}");
    }
}
