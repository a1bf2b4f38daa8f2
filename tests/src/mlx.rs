//! MiniLM's real weights as MLX quantises them, byte for byte: `make_mlx_models.py` has MLX do it and keeps a digest of the
//! result, which is compared with what is made here, so that no run of the tests needs MLX or a second copy of the weights.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::Result;
use half::f16;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

const GROUP: usize = 64;

/// Type, shape and bytes.
type Tensor = (Dtype, Vec<usize>, Vec<u8>);

/// A module's integers, scales and biases, as their bytes in a file.
type Module = [Vec<u8>; 3];

/// A row of F16 as MLX's documentation says that it quantises: the edge that is farther from zero is met exactly.
fn quantise(row: &[f32], bits: usize, [packed, scales, biases]: &mut Module) {
    let largest_code = ((1_u32 << bits) - 1) as f32;
    for group in row.chunks_exact(GROUP) {
        let (low, high) = group
            .iter()
            .fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), &number| (low.min(number), high.max(number)));
        let mut scale = ((high - low) / largest_code).max(1e-7);
        let edge = if low.abs() > high.abs() { low } else { high };
        if low.abs() <= high.abs() {
            scale = -scale;
        }
        let steps = (edge / scale).round_ties_even();
        let bias = if steps == 0.0 { 0.0 } else { edge };
        if steps != 0.0 {
            scale = edge / steps;
        }
        let codes =
            group.iter().map(|number| ((number - bias) / scale).round_ties_even().clamp(0.0, largest_code) as u8);
        if bits == 8 {
            packed.extend(codes);
        } else {
            let codes: Vec<u8> = codes.collect();
            packed.extend(codes.chunks_exact(2).map(|pair| pair[0] | pair[1] << 4));
        }
        scales.extend(f16::from_f32(scale).to_le_bytes());
        biases.extend(f16::from_f32(bias).to_le_bytes());
    }
}

/// Writes MiniLM's checkpoint into `folder` as MLX quantises it (`make_mlx_models.py`), and gives a digest of all that is
/// quantised.
///
/// # Errors
/// Where a file cannot be read or written.
pub fn quantised_minilm(checkpoint: &Path, bits: usize, folder: &Path) -> Result<String> {
    for entry in fs::read_dir(checkpoint)? {
        let path = entry?.path();
        if path.is_file() && path.extension().is_some_and(|extension| extension == "json") {
            fs::copy(&path, folder.join(path.file_name().expect("a file has a name")))?;
        }
    }
    let bytes = fs::read(checkpoint.join("model.safetensors"))?;
    let file = SafeTensors::deserialize(&bytes)?;
    let (mut tensors, mut digest) = (BTreeMap::<String, Tensor>::new(), Sha256::new());
    let modules: BTreeMap<String, _> = file.tensors().into_iter().filter(|(_, it)| it.dtype() == Dtype::F32).collect();
    for (name, tensor) in modules {
        let halves: Vec<f16> =
            tensor.data().as_chunks().0.iter().map(|bytes| f16::from_f32(f32::from_le_bytes(*bytes))).collect();
        let (shape, module) = (tensor.shape(), name.trim_end_matches(".weight"));
        let &[rows, columns] = shape else {
            let bytes = halves.iter().flat_map(|half| half.to_le_bytes()).collect();
            tensors.insert(name, (Dtype::F16, shape.to_vec(), bytes));
            continue;
        };
        let mut parts = Module::default();
        let row: Vec<f32> = halves.iter().map(|half| half.to_f32()).collect();
        row.chunks_exact(columns).for_each(|row| quantise(row, bits, &mut parts));
        let shapes = [columns * bits / 32, columns / GROUP, columns / GROUP];
        for ((part, bytes), width) in ["weight", "scales", "biases"].into_iter().zip(parts).zip(shapes) {
            if !module.starts_with("pooler.") {
                digest.update(&bytes);
            }
            let dtype = if part == "weight" { Dtype::U32 } else { Dtype::F16 };
            tensors.insert(format!("{module}.{part}"), (dtype, vec![rows, width], bytes));
        }
    }
    let views = tensors.iter().map(|(name, (dtype, shape, bytes))| {
        (name, TensorView::new(*dtype, shape.clone(), bytes).expect("the shape has as many bytes"))
    });
    fs::write(folder.join("model.safetensors"), safetensors::serialize(views, None)?)?;
    let path = folder.join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path)?)?;
    config["quantization"] = json!({"group_size": GROUP, "bits": bits});
    fs::write(path, config.to_string())?;
    Ok(hex::encode(digest.finalize()))
}
