//! The 16 numbers that stand for a whole matrix with the least squared error, and the index of each weight among them.
//!
//! A weight is one of 65,536 halves, so a histogram of their bits says everything about a matrix in a fixed 512 KiB. The
//! best palette for sorted numbers splits them into 16 runs; dynamic programming over the runs' ends finds the optimum, not
//! an approximation (Grønlund et al., "Fast exact k-means in 1 dimension", 2017). This is what coremltools does with its
//! kmeans1d, which is given the same distinct numbers and counts.

use half::f16;
use half::slice::HalfFloatSliceExt;

use super::OutOfRange;

/// Numbers in a palette.
pub(crate) const COLOURS: usize = 16;

const HALVES: usize = 1 << 16;

/// How often each half occurs in a matrix.
pub(crate) struct Histogram {
    counts: Box<[u64]>,
}

impl Histogram {
    pub(crate) fn new() -> Self {
        Self { counts: vec![0; HALVES].into_boxed_slice() }
    }

    /// Counts a row's numbers.
    pub(crate) fn add(&mut self, row: &[f32]) -> Result<(), OutOfRange> {
        halves(row, |bits| self.counts[usize::from(bits)] += 1)
    }

    /// Adds what another one has counted.
    pub(crate) fn merge(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
    }

    /// The best palette.
    pub(crate) fn palette(&self) -> Palette {
        let distinct = self.distinct();
        let ends = runs(&distinct, COLOURS.min(distinct.len()));
        let mut palette = Palette { colours: [f16::ZERO; COLOURS], index: vec![0; HALVES].into_boxed_slice() };
        let mut start = 0;
        for (colour, end) in ends.into_iter().enumerate() {
            let run = &distinct[start..end];
            palette.colours[colour] = f16::from_f64(mean(run));
            for (number, _) in run {
                palette.index[usize::from(f16::from_f64(*number).to_bits())] = colour as u8;
            }
            start = end;
        }
        // The two zeros are one number.
        palette.index[usize::from(f16::NEG_ZERO.to_bits())] = palette.index[usize::from(f16::ZERO.to_bits())];
        palette
    }

    /// The numbers that occur and how often, in ascending order.
    fn distinct(&self) -> Vec<(f64, f64)> {
        let negative_zero = usize::from(f16::NEG_ZERO.to_bits());
        let descending = (negative_zero + 1..HALVES).rev();
        let ascending = 0..negative_zero;
        let count = |bits: usize| match bits {
            0 => self.counts[0] + self.counts[negative_zero],
            _ => self.counts[bits],
        };
        let occurring = descending.chain(ascending).filter(|bits| count(*bits) > 0);
        occurring.map(|bits| (f16::from_bits(bits as u16).to_f64(), count(bits) as f64)).collect()
    }
}

/// What stands for a matrix.
pub(crate) struct Palette {
    colours: [f16; COLOURS],
    /// The colour of each half, by its bits.
    index: Box<[u8]>,
}

impl Palette {
    /// The colours as they are stored.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.colours.iter().flat_map(|colour| colour.to_le_bytes()).collect()
    }

    /// Gives `take` the index of each number of a row that was counted.
    pub(crate) fn indices(&self, row: &[f32], mut take: impl FnMut(u8)) -> Result<(), OutOfRange> {
        halves(row, |bits| take(self.index[usize::from(bits)]))
    }
}

/// Gives `take` each number as the bits of a half.
fn halves(row: &[f32], mut take: impl FnMut(u16)) -> Result<(), OutOfRange> {
    /// Numbers converted at a time, small enough to stay in the first-level cache.
    const STEP: usize = 1024;
    let mut halves = [f16::ZERO; STEP];
    for numbers in row.chunks(STEP) {
        let halves = &mut halves[..numbers.len()];
        halves.convert_from_f32_slice(numbers);
        if halves.iter().any(|half| !half.is_finite()) {
            return Err(OutOfRange);
        }
        for half in halves {
            take(half.to_bits());
        }
    }
    Ok(())
}

/// The weighted mean, from the first number on as kmeans1d sums it.
fn mean(run: &[(f64, f64)]) -> f64 {
    let (mut mean, mut total) = (0.0, 0.0);
    for (number, count) in run {
        total += count;
        mean += count * (number - mean) / total;
    }
    mean
}

/// Squared errors of runs, from sums over all numbers up to each.
struct Errors {
    /// Counts, and numbers and squares times their counts, before each number.
    sums: Vec<[f64; 3]>,
}

impl Errors {
    fn new(distinct: &[(f64, f64)]) -> Self {
        let mut sums = vec![[0.0; 3]];
        let mut so_far = [0.0; 3];
        for (number, count) in distinct {
            so_far[0] += count;
            so_far[1] += count * number;
            so_far[2] += count * number * number;
            sums.push(so_far);
        }
        Self { sums }
    }

    /// The error of the numbers from `start` to `end`, the latter excluded, around their mean.
    fn of(&self, start: usize, end: usize) -> f64 {
        let [from, to] = [&self.sums[start], &self.sums[end]];
        let [count, sum, squares] = [to[0] - from[0], to[1] - from[1], to[2] - from[2]];
        squares - sum * (sum / count)
    }
}

/// Where each of `count` runs ends in the split with the least error.
///
/// The best start of the last run moves right as more numbers are split, so the start for the middle number bounds the
/// starts for both halves: n log n errors for each run instead of n squared.
fn runs(distinct: &[(f64, f64)], count: usize) -> Vec<usize> {
    let errors = Errors::new(distinct);
    let numbers = distinct.len();
    // best[end]: the least error of the first `end` numbers in the runs so far. starts[run][end]: where the last one starts.
    let mut best: Vec<f64> = (0..=numbers).map(|end| if end == 0 { 0.0 } else { errors.of(0, end) }).collect();
    let mut starts: Vec<Vec<u32>> = Vec::new();
    for run in 1..count {
        let mut row = Row {
            errors: &errors,
            before: &best,
            after: vec![f64::INFINITY; numbers + 1],
            starts: vec![0; numbers + 1],
        };
        row.fill(run + 1..numbers + 1, run..numbers);
        let Row { after, starts: found, .. } = row;
        best = after;
        starts.push(found);
    }
    let mut ends = vec![numbers];
    for found in starts.iter().rev() {
        ends.push(found[ends[ends.len() - 1]] as usize);
    }
    ends.reverse();
    ends
}

/// One more run for every number of numbers.
struct Row<'a> {
    errors: &'a Errors,
    before: &'a [f64],
    after: Vec<f64>,
    starts: Vec<u32>,
}

impl Row<'_> {
    /// Fills in the ends in `ends`, whose last runs start in `starts`.
    fn fill(&mut self, ends: std::ops::Range<usize>, starts: std::ops::Range<usize>) {
        if ends.is_empty() {
            return;
        }
        let end = ends.start.midpoint(ends.end);
        let mut best = (f64::INFINITY, starts.start);
        for start in starts.start..starts.end.min(end) {
            let error = self.before[start] + self.errors.of(start, end);
            if error < best.0 {
                best = (error, start);
            }
        }
        self.after[end] = best.0;
        self.starts[end] = best.1 as u32;
        self.fill(ends.start..end, starts.start..best.1 + 1);
        self.fill(end + 1..ends.end, best.1..starts.end);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn palette(row: &[f32]) -> Palette {
        let mut histogram = Histogram::new();
        histogram.add(row).expect("in range");
        histogram.palette()
    }

    fn index(palette: &Palette, number: f32) -> u8 {
        let mut found = None;
        palette.indices(&[number], |index| found = Some(index)).expect("in range");
        found.expect("there was a number")
    }

    /// The least error of any split, by trying them all.
    fn least_error(distinct: &[(f64, f64)], count: usize) -> f64 {
        fn from(errors: &Errors, start: usize, end: usize, count: usize) -> f64 {
            if count == 1 {
                return errors.of(start, end);
            }
            let splits = start + 1..=end - (count - 1);
            splits.map(|at| errors.of(start, at) + from(errors, at, end, count - 1)).fold(f64::INFINITY, f64::min)
        }
        from(&Errors::new(distinct), 0, distinct.len(), count)
    }

    proptest! {
        #[test]
        fn no_split_into_runs_is_better(numbers in prop::collection::vec((-64_i8..64, 1_u8..9), 3..12), count in 1_usize..4) {
            let mut distinct: Vec<(f64, f64)> =
                numbers.into_iter().map(|(number, count)| (f64::from(number), f64::from(count))).collect();
            distinct.sort_by(|a, b| a.0.total_cmp(&b.0));
            distinct.dedup_by_key(|pair| pair.0);
            let count = count.min(distinct.len());
            let ends = runs(&distinct, count);
            prop_assert!(ends.windows(2).all(|pair| pair[0] < pair[1]) && ends[0] > 0);
            prop_assert_eq!((ends.len(), ends[ends.len() - 1]), (count, distinct.len()));
            let errors = Errors::new(&distinct);
            let starts = std::iter::once(0).chain(ends.iter().copied());
            let found: f64 = starts.zip(&ends).map(|(start, end)| errors.of(start, *end)).sum();
            prop_assert!(found <= least_error(&distinct, count) + 1e-9);
        }

        #[test]
        fn every_number_gets_the_nearest_colour(row in prop::collection::vec(-1.0_f32..1.0, 1..400)) {
            let palette = palette(&row);
            let distinct = row.iter().map(|number| f16::from_f32(*number).to_bits()).collect::<std::collections::BTreeSet<_>>();
            let used = &palette.colours[..COLOURS.min(distinct.len())];
            for number in row {
                let number = f16::from_f32(number).to_f32();
                let distance = |colour: &f16| (colour.to_f32() - number).abs();
                let chosen = distance(&palette.colours[usize::from(index(&palette, number))]);
                let nearest = used.iter().map(distance).fold(f32::INFINITY, f32::min);
                // A colour is a mean rounded to a half, so that a number in the middle may be nearer to the other one.
                prop_assert!(chosen <= nearest + 2.0_f32.powi(-10), "{number}: {chosen} instead of {nearest}");
            }
        }
    }

    #[test]
    fn sixteen_numbers_or_fewer_come_back_as_they_were() {
        let row: Vec<f32> = (0..16).map(|number| number as f32 - 7.5).collect();
        let sixteen = palette(&row);
        for (at, number) in row.iter().enumerate() {
            assert_eq!((index(&sixteen, *number), sixteen.colours[at].to_f32()), (at as u8, *number));
        }
        let two = palette(&[-3.0, 5.0, -3.0]);
        assert_eq!((index(&two, -3.0), index(&two, 5.0)), (0, 1));
        assert_eq!(two.bytes()[..6], [0x00, 0xc2, 0x00, 0x45, 0, 0]);
    }

    #[test]
    fn both_zeros_are_one_number() {
        let palette = palette(&[-0.0, 0.0, 1.0, -1.0]);
        assert_eq!((index(&palette, -0.0), index(&palette, 0.0)), (1, 1));
    }

    #[test]
    fn a_number_that_no_half_holds_is_out_of_range() {
        assert_eq!(Histogram::new().add(&[1.0, 65_520.0]), Err(OutOfRange));
    }
}
