//! F32: the numbers as they are.

use super::{OutOfRange, Quantiser};

pub(super) struct F32;

impl Quantiser for F32 {
    fn name(&self) -> &'static str {
        "F32"
    }

    fn ggml_type(&self) -> u32 {
        0
    }

    fn block(&self) -> usize {
        1
    }

    fn block_bytes(&self) -> usize {
        4
    }

    fn encode(&self, row: &[f32], out: &mut Vec<u8>) -> Result<(), OutOfRange> {
        out.extend(row.iter().flat_map(|number| number.to_le_bytes()));
        Ok(())
    }
}
