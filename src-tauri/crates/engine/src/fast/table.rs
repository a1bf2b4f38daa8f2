//! Rows of token embeddings, read where they lie in the file: a text touches the pages of its own tokens only.

use candle_core::quantized::QTensor;
use embedbar_kernels::{Code, Element, SourceRow};

use super::packing::{GROUP, Kind};
use crate::{
    EngineError,
    affine::Groups,
    linear,
    weights::{Content, Role, Stored, Weights, rows},
};

/// A table of token embeddings, `[tokens][hidden]`.
pub(super) struct Table {
    stored: Stored,
    reader: Reader,
}

/// How rows become numbers.
enum Reader {
    Float(Element),
    /// Codes of the file times their scales.
    Codes {
        kind: Kind,
        code: Code,
        row: SourceRow,
    },
    /// What MLX has packed, exactly.
    Packed(Groups),
    /// Types that are rare in tables: candle's reader, which allocates.
    Candle(QTensor),
}

impl Table {
    /// The table of `role` with `shape`, `[tokens, hidden]`.
    pub(super) fn load(weights: &Weights, role: Role, shape: [usize; 2]) -> Result<Self, EngineError> {
        let stored = weights.stored(role, shape)?;
        let reader = match Kind::of(&stored) {
            _ if matches!(stored.content, Content::Affine(_)) => Reader::Packed(Groups::default()),
            Kind::Exact(element) => Reader::Float(element),
            kind @ Kind::As(code, _) => {
                let groups = shape[1] / GROUP;
                let row = SourceRow { codes: vec![0; shape[1]], scales: vec![0.0; groups], minima: vec![0.0; groups] };
                Reader::Codes { kind, code, row }
            }
            Kind::Eight => Reader::Candle(weights.table(role, &shape)?),
        };
        Ok(Self { stored, reader })
    }

    /// Writes the rows `ids` to `target`, one after another.
    pub(super) fn read(&mut self, ids: &[u32], target: &mut [f32]) -> candle_core::Result<()> {
        let Self { stored, reader } = self;
        if let Some(id) = ids.iter().find(|&&id| id as usize >= stored.rows) {
            candle_core::bail!("the token {id} has no embedding: there are {}", stored.rows);
        }
        let targets = ids.iter().map(|&id| id as usize).zip(target.chunks_exact_mut(stored.columns));
        match reader {
            Reader::Float(element) => targets.for_each(|(id, target)| widen(*element, stored.row(id), target)),
            Reader::Codes { kind, code, row } => {
                for (id, target) in targets {
                    kind.fill(stored, id, row)?;
                    widen_codes(*code, row, target);
                }
            }
            Reader::Packed(groups) => targets.for_each(|(id, target)| stored.numbers(id, groups, target)),
            Reader::Candle(table) => target.copy_from_slice(&rows(table, ids)?.flatten_all()?.to_vec1::<f32>()?),
        }
        Ok(())
    }
}

/// Numbers of a file that are floating-point, in its byte order.
fn widen(element: Element, bytes: &[u8], target: &mut [f32]) {
    match element {
        Element::F32 => {
            for (number, bytes) in target.iter_mut().zip(bytes.as_chunks().0) {
                *number = f32::from_le_bytes(*bytes);
            }
        }
        Element::F16 => linear::widen(bytes, false, target),
        Element::BF16 => linear::widen(bytes, true, target),
    }
}

fn widen_codes(code: Code, row: &SourceRow, target: &mut [f32]) {
    let offset = if code == Code::Four { 8 } else { 0 };
    let groups = target.as_chunks_mut::<GROUP>().0.iter_mut().zip(row.codes.as_chunks::<GROUP>().0);
    for ((target, codes), (&scale, &minimum)) in groups.zip(row.scales.iter().zip(&row.minima)) {
        let minimum = if code.has_minimum() { minimum } else { 0.0 };
        for (number, code) in target.iter_mut().zip(codes) {
            *number = f32::from(code - offset) * scale + minimum;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        mapped::Mapped,
        weights::{Entry, Naming, weight},
    };
    use candle_core::{Device, Tensor, quantized::GgmlDType};

    #[test]
    fn rows_are_those_that_candle_reads() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("table");
        let numbers: Vec<f32> = (0..6 * 256).map(|number| (number as f32 * 0.37).sin()).collect();
        let matrix = Tensor::from_vec(numbers, (6, 256), &Device::Cpu).unwrap();
        for dtype in [
            GgmlDType::F32,
            GgmlDType::F16,
            GgmlDType::BF16,
            GgmlDType::Q8_0,
            GgmlDType::Q4_0,
            GgmlDType::Q4_1,
            GgmlDType::Q4K,
            GgmlDType::Q5_0,
            GgmlDType::Q6K,
        ] {
            let tensor = QTensor::quantize(&matrix, dtype).unwrap();
            let bytes = tensor.data().unwrap();
            std::fs::write(&path, &bytes).unwrap();
            let entry = Entry { file: 0, range: 0..bytes.len(), shape: vec![6, 256], content: Content::Blocks(dtype) };
            let entries = [("token_embd.weight".to_owned(), entry)].into();
            let weights = Weights::new(vec![Arc::new(Mapped::open(&path).unwrap())], entries, Naming::Gguf);
            let mut table = Table::load(&weights, weight(None, "token_embd"), [6, 256]).unwrap();
            let whole = tensor.dequantize(&Device::Cpu).unwrap().to_vec2::<f32>().unwrap();
            let mut found = vec![0.0; 3 * 256];
            table.read(&[5, 0, 5], &mut found).unwrap();
            assert_eq!(found, [whole[5].as_slice(), &whole[0], &whole[5]].concat(), "{dtype:?}");
            assert!(table.read(&[6], &mut found).is_err(), "{dtype:?}: there is no row 6");
        }
    }
}
