//! Tensors that MLX has quantised: integers, scales and biases in up to three places of a checkpoint's files, read by rows where
//! they lie. What the packing means is `embedbar_mlx`'s business.

use std::{collections::HashMap, ops::Range, path::Path, sync::Arc};

use candle_core::{
    CpuStorage, Result,
    quantized::{GgmlDType, QuantizedType},
};
use embedbar_mlx::{Packing, Quantisation};
use half::f16;

use crate::{
    EngineError, linear,
    mapped::Mapped,
    weights::{Content, Entry, Stored},
};

/// Beside packed integers: how they are packed, and the numbers that belong to their groups.
#[derive(Clone, Debug)]
pub(crate) struct Affine {
    pub(crate) packing: Packing,
    scales: Part,
    biases: Part,
}

/// Floating-point numbers in a file, a row of them for each row of integers.
#[derive(Clone, Debug)]
struct Part {
    file: Arc<Mapped>,
    range: Range<usize>,
    /// F32, F16 or BF16.
    dtype: GgmlDType,
}

impl Part {
    /// Puts `count` numbers from number `first` on into `numbers`.
    fn read(&self, first: usize, count: usize, numbers: &mut Vec<f32>) {
        let size = self.dtype.type_size();
        let bytes = &self.file.bytes()[self.range.clone()][first * size..][..count * size];
        numbers.resize(count, 0.0);
        match self.dtype {
            GgmlDType::F32 => {
                for (number, bytes) in numbers.iter_mut().zip(bytes.as_chunks().0) {
                    *number = f32::from_le_bytes(*bytes);
                }
            }
            other => linear::widen(bytes, other == GgmlDType::BF16, numbers),
        }
    }
}

/// The scales and biases of a row, in buffers that are used again and again.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    pub(crate) scales: Vec<f32>,
    pub(crate) biases: Vec<f32>,
}

impl Groups {
    /// Those of row `row` of a tensor of `columns`.
    pub(crate) fn read(&mut self, affine: &Affine, row: usize, columns: usize) {
        let groups = columns / affine.packing.group;
        affine.scales.read(row * groups, groups, &mut self.scales);
        affine.biases.read(row * groups, groups, &mut self.biases);
    }
}

impl Affine {
    /// Writes row number `row`, of which `integers` are the packed integers, to `target`.
    pub(crate) fn row(&self, integers: &[u8], row: usize, groups: &mut Groups, target: &mut [f32]) {
        groups.read(self, row, target.len());
        self.packing.numbers(integers, &groups.scales, &groups.biases, target);
    }

    /// Lets the system take back the pages of scales and biases.
    pub(crate) fn release(&self) {
        for part in [&self.scales, &self.biases] {
            part.file.release(&part.range);
        }
    }
}

/// Packed integers of a file that has not been told yet what they mean.
#[derive(Debug)]
pub(crate) struct Packed {
    pub(crate) file: usize,
    pub(crate) range: Range<usize>,
    /// In words of 32 bits, rows first.
    pub(crate) shape: Vec<usize>,
}

/// Makes one tensor of each of the `packed` ones and of its scales and biases, which are among `entries`. `configuration` is the
/// file that `quantisation` is from.
pub(crate) fn fold(
    files: &[Arc<Mapped>],
    entries: &mut HashMap<String, Entry>,
    packed: HashMap<String, Packed>,
    (configuration, quantisation): (&Path, Option<&Quantisation>),
) -> std::result::Result<(), EngineError> {
    for (name, Packed { file, range, shape }) in packed {
        let path = files[file].path();
        let module = name.strip_suffix(".weight").unwrap_or(&name);
        let refused = |refused: embedbar_mlx::Refused| EngineError::unsupported(configuration, refused.to_string());
        let packing = quantisation.map(|quantisation| quantisation.of(module)).transpose().map_err(refused)?.flatten();
        let Some(packing) = packing else {
            let problem = format!("the tensor `{name}` is packed integers, and `config.json` does not say how");
            return Err(EngineError::corrupt(path, problem));
        };
        let &[rows, words] = shape.as_slice() else {
            return Err(EngineError::corrupt(path, format!("the tensor `{name}` is packed and has no rows")));
        };
        let Some(columns) = packing.columns(words).filter(|_| rows > 0) else {
            let (bits, group) = (packing.bits.count(), packing.group);
            let problem = format!(
                "rows of `{words}` words in `{name}` are no whole groups of `{group}` numbers of `{bits}` bits"
            );
            return Err(EngineError::corrupt(path, problem));
        };
        let mut part = |kind: &str| {
            let name = format!("{module}.{kind}");
            let Some(entry) = entries.remove(&name) else {
                return Err(EngineError::MissingTensor { path: path.to_path_buf(), tensor: name });
            };
            let wanted = [rows, columns / packing.group];
            if entry.shape != wanted {
                let (path, found) = (files[entry.file].path().to_path_buf(), entry.shape);
                return Err(EngineError::TensorShape { path, tensor: name, found, wanted: wanted.to_vec() });
            }
            let Content::Blocks(dtype) = entry.content else {
                unreachable!("only what ends in `weight` is folded. This is a bug.")
            };
            Ok(Part { file: Arc::clone(&files[entry.file]), range: entry.range, dtype })
        };
        let affine = Affine { packing, scales: part("scales")?, biases: part("biases")? };
        let content = Content::Affine(Box::new(affine));
        entries.insert(name, Entry { file, range, shape: vec![rows, columns], content });
    }
    Ok(())
}

/// A table of packed rows for candle, which looks rows of F32 up in it; nothing is copied before it is looked up.
pub(crate) struct Table(pub(crate) Stored);

impl Table {
    fn read(&self, rows: impl Iterator<Item = usize>, out: &mut [f32]) {
        let mut groups = Groups::default();
        for (row, out) in rows.zip(out.chunks_exact_mut(self.0.columns)) {
            self.0.numbers(row, &mut groups, out);
        }
    }
}

impl QuantizedType for Table {
    fn dtype(&self) -> GgmlDType {
        GgmlDType::F32
    }

    fn matmul_t(&self, _: (usize, usize, usize), _: &[f32], _: &mut [f32]) -> Result<()> {
        candle_core::bail!("rows of a table are looked up, not multiplied with")
    }

    fn matmul_t_f16(&self, _: (usize, usize, usize), _: &[f16], _: &mut [f16]) -> Result<()> {
        candle_core::bail!("rows of a table are looked up, not multiplied with")
    }

    fn embedding(&self, ids: &[u32], rows: usize, hidden: usize) -> Result<CpuStorage> {
        if let Some(id) = ids.iter().find(|&&id| id as usize >= rows) {
            candle_core::bail!("the token {id} is outside the embedding table of {rows} rows")
        }
        let mut out = vec![0.0; ids.len() * hidden];
        self.read(ids.iter().map(|&id| id as usize), &mut out);
        Ok(CpuStorage::F32(out))
    }

    fn dequantize(&self, elem_count: usize) -> Result<CpuStorage> {
        let mut out = vec![0.0; elem_count];
        self.read(0..self.0.rows, &mut out);
        Ok(CpuStorage::F32(out))
    }

    fn storage_size_in_bytes(&self) -> usize {
        self.0.range.len()
    }

    fn as_ptr(&self) -> *const u8 {
        self.0.row(0).as_ptr()
    }

    fn block_size(&self) -> usize {
        1
    }

    fn from_float(&mut self, _: &[f32]) {
        unreachable!("mapped weights are never written. This is a bug.");
    }

    fn from_float_imatrix(&mut self, _: &[f32], _: &[f32], _: usize) {
        unreachable!("mapped weights are never written. This is a bug.");
    }

    fn size(&self) -> usize {
        self.0.range.len()
    }
}
