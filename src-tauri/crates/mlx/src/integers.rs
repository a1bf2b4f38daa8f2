//! Integers of two to eight bits in words of 32.

/// Bits of a packed number.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Bits {
    /// 0 to 3.
    Two,
    /// 0 to 7.
    Three,
    /// 0 to 15.
    Four,
    /// 0 to 31.
    Five,
    /// 0 to 63.
    Six,
    /// 0 to 255.
    Eight,
}

impl Bits {
    /// The widths that MLX packs.
    pub const ALL: [Self; 6] = [Self::Two, Self::Three, Self::Four, Self::Five, Self::Six, Self::Eight];

    /// The width of `number` bits; `None` where MLX has none.
    pub fn of(number: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|bits| u64::from(bits.count()) == number)
    }

    /// How many they are.
    pub fn count(self) -> u32 {
        match self {
            Self::Two => 2,
            Self::Three => 3,
            Self::Four => 4,
            Self::Five => 5,
            Self::Six => 6,
            Self::Eight => 8,
        }
    }
}

/// Bits of a number, and numbers of a row that share scale and bias: 32, 64 or 128.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Packing {
    /// Of each number.
    pub bits: Bits,
    /// Numbers that share scale and bias.
    pub group: usize,
}

impl Packing {
    /// Numbers in a row of `words` words of 32 bits; `None` where they are no whole groups, or none at all.
    pub fn columns(self, words: usize) -> Option<usize> {
        let bits = words.checked_mul(32)?;
        let count = self.bits.count() as usize;
        let columns = bits / count;
        (bits.is_multiple_of(count) && columns > 0 && columns.is_multiple_of(self.group)).then_some(columns)
    }

    /// Bytes of a row of `columns` numbers, which are whole groups.
    pub fn row_bytes(self, columns: usize) -> usize {
        columns / 8 * self.bits.count() as usize
    }

    /// Fills `codes`, whole groups, with the integers in `bytes`.
    ///
    /// # Panics
    /// If `bytes` are not [`Self::row_bytes`] of as many numbers.
    pub fn codes(self, bytes: &[u8], codes: &mut [u8]) {
        assert_eq!(bytes.len(), self.row_bytes(codes.len()), "a row is as long as its numbers say");
        match self.bits {
            Bits::Four => {
                for (byte, codes) in bytes.iter().zip(codes.as_chunks_mut::<2>().0) {
                    *codes = [byte & 15, byte >> 4];
                }
            }
            Bits::Eight => codes.copy_from_slice(bytes),
            Bits::Two => {
                for (byte, codes) in bytes.iter().zip(codes.as_chunks_mut::<4>().0) {
                    *codes = [byte & 3, byte >> 2 & 3, byte >> 4 & 3, byte >> 6];
                }
            }
            // Eight numbers fill as many whole bytes as a number has bits.
            Bits::Three => eights::<3>(bytes, codes),
            Bits::Five => eights::<5>(bytes, codes),
            Bits::Six => eights::<6>(bytes, codes),
        }
    }

    /// Fills `row`, whole groups, with the numbers that the integers in `bytes` stand for; `scales` and `biases` are those of its
    /// groups.
    ///
    /// # Panics
    /// If the lengths do not fit each other.
    pub fn numbers(self, bytes: &[u8], scales: &[f32], biases: &[f32], row: &mut [f32]) {
        let groups = row.len() / self.group;
        assert_eq!((scales.len(), biases.len()), (groups, groups), "each group has a scale and a bias");
        let mut codes = [0; 128];
        let codes = &mut codes[..self.group];
        let packed = bytes.chunks_exact(self.row_bytes(self.group));
        for ((bytes, row), (scale, bias)) in packed.zip(row.chunks_exact_mut(self.group)).zip(scales.iter().zip(biases))
        {
            self.codes(bytes, codes);
            for (number, code) in row.iter_mut().zip(&*codes) {
                *number = f32::from(*code) * scale + bias;
            }
        }
    }
}

fn eights<const BITS: usize>(bytes: &[u8], codes: &mut [u8]) {
    for (bytes, codes) in bytes.as_chunks::<BITS>().0.iter().zip(codes.as_chunks_mut::<8>().0) {
        let mut word = [0; 8];
        word[..BITS].copy_from_slice(bytes);
        let word = u64::from_le_bytes(word);
        for (place, code) in codes.iter_mut().enumerate() {
            *code = ((word >> (BITS * place)) & ((1 << BITS) - 1)) as u8;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize)]
    struct Case {
        bits: u64,
        group_size: usize,
        dtype: String,
        shape: [usize; 2],
        packed: Vec<u32>,
        scales: Vec<u16>,
        biases: Vec<u16>,
        numbers: Vec<f32>,
    }

    #[derive(Deserialize)]
    struct Cases {
        cases: Vec<Case>,
    }

    /// F16 or BF16 as its bits.
    fn widened(dtype: &str, bits: u16) -> f32 {
        if dtype == "BF16" {
            return f32::from_bits(u32::from(bits) << 16);
        }
        let (exponent, fraction) = (i32::from(bits >> 10 & 31), f32::from(bits & 1023));
        let size = if exponent == 0 {
            fraction * 2.0_f32.powi(-24)
        } else {
            (1024.0 + fraction) * 2.0_f32.powi(exponent - 25)
        };
        if bits >> 15 == 1 { -size } else { size }
    }

    /// Values that MLX computed; `tests/truth/make_mlx.py` made them.
    #[test]
    fn packed_integers_are_the_numbers_that_mlx_makes_of_them() {
        let text = include_str!("../../../../tests/truth/mlx.json");
        let Cases { cases } = serde_json::from_str(text).expect("it is in our form");
        for bits in Bits::ALL {
            let groups = cases.iter().filter(|case| case.bits == u64::from(bits.count()));
            assert_eq!(groups.map(|case| case.group_size).collect::<Vec<_>>(), [32, 64, 128], "{bits:?}");
        }
        for case in cases {
            let packing = Packing { bits: Bits::of(case.bits).expect("MLX packs it"), group: case.group_size };
            let [rows, columns] = case.shape;
            assert_eq!(packing.columns(case.packed.len() / rows), Some(columns));
            let bytes: Vec<u8> = case.packed.iter().flat_map(|word| word.to_le_bytes()).collect();
            let wide = |halves: &[u16]| halves.iter().map(|&bits| widened(&case.dtype, bits)).collect::<Vec<_>>();
            let (scales, biases) = (wide(&case.scales), wide(&case.biases));
            let mut numbers = vec![0.0; columns];
            for row in 0..rows {
                let groups = row * columns / packing.group..(row + 1) * columns / packing.group;
                let bytes = &bytes[row * packing.row_bytes(columns)..][..packing.row_bytes(columns)];
                packing.numbers(bytes, &scales[groups.clone()], &biases[groups], &mut numbers);
                for (ours, theirs) in numbers.iter().zip(&case.numbers[row * columns..]) {
                    // A product and a sum may be rounded together or one after the other.
                    assert!((ours - theirs).abs() <= f32::EPSILON * theirs.abs().max(1.0), "{ours} and {theirs}");
                }
            }
        }
    }

    #[test]
    fn words_that_are_no_whole_groups_make_no_row() {
        let packing = |bits, group| Packing { bits, group };
        assert_eq!(packing(Bits::Four, 64).columns(8), Some(64));
        assert_eq!(packing(Bits::Four, 64).columns(9), None);
        assert_eq!(packing(Bits::Three, 32).columns(3), Some(32));
        assert_eq!(packing(Bits::Three, 32).columns(4), None);
        assert_eq!(packing(Bits::Eight, 32).columns(0), None);
        assert_eq!(packing(Bits::Two, 32).columns(usize::MAX), None);
    }

    proptest! {
        #[test]
        fn what_is_packed_comes_out_again(seed in prop::collection::vec(any::<u8>(), 128), which in 0_usize..6) {
            let packing = Packing { bits: Bits::ALL[which], group: 128 };
            let count = packing.bits.count() as usize;
            let wanted: Vec<u8> = seed.iter().map(|byte| byte & ((1_u16 << count) - 1) as u8).collect();
            // Bit by bit, as the format is described.
            let mut bytes = vec![0_u8; packing.row_bytes(128)];
            for (place, code) in wanted.iter().enumerate() {
                for bit in (0..count).filter(|bit| code >> bit & 1 == 1) {
                    let at = place * count + bit;
                    bytes[at / 8] |= 1 << (at % 8);
                }
            }
            let mut found = vec![0; 128];
            packing.codes(&bytes, &mut found);
            prop_assert_eq!(found, wanted);
        }
    }
}
