//! F16: rounded to the nearest half, ties to even.

use half::f16;
use half::slice::HalfFloatSliceExt;

use super::{OutOfRange, Quantiser};

pub(crate) struct F16;

/// Numbers converted at a time, small enough to stay in the first-level cache.
const STEP: usize = 1024;

impl Quantiser for F16 {
    fn name(&self) -> &'static str {
        "F16"
    }

    fn ggml_type(&self) -> u32 {
        1
    }

    fn block(&self) -> usize {
        1
    }

    fn block_bytes(&self) -> usize {
        2
    }

    fn encode(&self, row: &[f32], out: &mut Vec<u8>) -> Result<(), OutOfRange> {
        let mut halves = [f16::ZERO; STEP];
        for numbers in row.chunks(STEP) {
            let halves = &mut halves[..numbers.len()];
            halves.convert_from_f32_slice(numbers);
            if halves.iter().any(|half| !half.is_finite()) {
                return Err(OutOfRange);
            }
            out.extend(halves.iter().flat_map(|half| half.to_le_bytes()));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(row: &[f32]) -> Result<Vec<u16>, OutOfRange> {
        let mut bytes = Vec::new();
        F16.encode(row, &mut bytes)?;
        Ok(bytes.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect())
    }

    #[test]
    fn halves_are_rounded_to_even_as_ieee_754_says() {
        // 1 + 2^-11 lies between 1 and the next half; 1 + 3 * 2^-11 between that one and the second next.
        let row = [1.0, 1.0 + 2.0_f32.powi(-11), 1.0 + 3.0 * 2.0_f32.powi(-11), -2.0, 65504.0, 2.0_f32.powi(-24)];
        assert_eq!(encoded(&row), Ok(vec![0x3c00, 0x3c00, 0x3c02, 0xc000, 0x7bff, 0x0001]));
    }

    #[test]
    fn a_number_that_would_become_infinite_is_out_of_range_wherever_it_stands() {
        assert_eq!(encoded(&[0.0, 65520.0]), Err(OutOfRange));
        let mut row = vec![0.5; STEP + 7];
        assert!(encoded(&row).is_ok());
        row[STEP + 6] = -1e9;
        assert_eq!(encoded(&row), Err(OutOfRange));
    }
}
