//! The tensors of a GGUF file as numbers, some rows at a time, for whoever judges a file instead of running it.
//!
//! Dequantisation is candle's. Rows are read with calls, not through the mapping: the system maps pages around each one that is
//! touched, and the rows of a table of tokens lie anywhere, so that a mapping would soon be resident as a whole.

use std::{
    borrow::Cow,
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use candle_core::{
    Device,
    quantized::{QStorage, QTensor},
};

use crate::{
    EngineError, gguf,
    weights::{Content, Weights},
};

/// A GGUF file whose tensors are read by rows.
#[derive(Debug)]
pub struct TensorRows {
    path: PathBuf,
    file: File,
    weights: Weights,
}

impl TensorRows {
    /// Opens the GGUF file at `path`, whatever its name ends in.
    pub fn open(path: &Path) -> Result<Self, EngineError> {
        let weights = gguf::open(path)?.weights;
        // The header may be megabytes of vocabulary; it was read through the mapping.
        for file in weights.files() {
            file.release(&(0..file.bytes().len()));
        }
        let file = File::open(path).map_err(|error| EngineError::reading(path, error))?;
        Ok(Self { path: path.to_path_buf(), file, weights })
    }

    /// Fills `out`, a whole number of rows, with the rows of the tensor `name` from `first` on.
    pub fn read(&self, name: &str, first: usize, out: &mut [f32]) -> Result<(), EngineError> {
        let missing = || EngineError::MissingTensor { path: self.path.clone(), tensor: name.to_owned() };
        let entry = self.weights.entry(name).ok_or_else(missing)?;
        let Content::Blocks(dtype) = entry.content else {
            unreachable!("MLX packs nothing in GGUF files. This is a bug.")
        };
        let width = entry.shape.last().copied().unwrap_or(1);
        let row_bytes = width / dtype.block_size() * dtype.type_size();
        let start = entry.range.start + first * row_bytes;
        let range = start..start + out.len() / width * row_bytes;
        if !out.len().is_multiple_of(width) || range.end > entry.range.end {
            let problem = format!("the tensor `{name}` has no `{}` numbers from row `{first}` on", out.len());
            return Err(EngineError::corrupt(&self.path, problem));
        }
        let mut bytes = vec![0; range.len()];
        (&self.file)
            .seek(SeekFrom::Start(range.start as u64))
            .and_then(|_| (&self.file).read_exact(&mut bytes))
            .map_err(|error| EngineError::reading(&self.path, error))?;
        let numbers = QStorage::from_data(Cow::Owned(bytes), &Device::Cpu, dtype)
            .and_then(|storage| QTensor::new(storage, (out.len() / width, width)))
            .and_then(|rows| rows.dequantize(&Device::Cpu)?.flatten_all()?.to_vec1::<f32>())
            .map_err(|error| {
                EngineError::corrupt(&self.path, format!("the tensor `{name}` cannot be read: {error}"))
            })?;
        out.copy_from_slice(&numbers);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{
        Tensor,
        quantized::{GgmlDType, gguf_file},
    };

    use super::*;

    #[test]
    fn rows_are_those_that_candle_reads_of_the_whole_tensor() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("any name");
        let numbers: Vec<f32> = (0..8 * 256).map(|number| (number as f32 * 0.37).sin()).collect();
        let matrix = Tensor::from_vec(numbers, (8, 256), &Device::Cpu).unwrap();
        let types = [GgmlDType::F32, GgmlDType::F16, GgmlDType::Q8_0, GgmlDType::Q4_0, GgmlDType::Q4K];
        let tensors: Vec<(String, QTensor)> =
            types.map(|dtype| (format!("{dtype:?}"), QTensor::quantize(&matrix, dtype).unwrap())).into();
        let named: Vec<(&str, &QTensor)> = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
        let architecture = gguf_file::Value::String("bert".to_owned());
        let settings = [
            ("general.architecture", &architecture),
            ("bert.block_count", &gguf_file::Value::U32(1)),
            ("bert.context_length", &gguf_file::Value::U32(8)),
            ("bert.embedding_length", &gguf_file::Value::U32(256)),
            ("bert.feed_forward_length", &gguf_file::Value::U32(256)),
            ("bert.attention.head_count", &gguf_file::Value::U32(4)),
            ("bert.attention.layer_norm_epsilon", &gguf_file::Value::F32(1e-12)),
        ];
        gguf_file::write(&mut std::fs::File::create(&path).unwrap(), &settings, &named).unwrap();
        let rows = TensorRows::open(&path).unwrap();
        for (name, tensor) in &tensors {
            let whole = tensor.dequantize(&Device::Cpu).unwrap().to_vec2::<f32>().unwrap();
            let mut two = vec![0.0; 512];
            rows.read(name, 5, &mut two).unwrap();
            assert_eq!(two, whole[5..7].concat(), "{name}");
            assert!(rows.read(name, 7, &mut two).is_err());
        }
    }
}
