//! What MLX has quantised, run by the engine as it lies, against vectors that MLX computed (`make_mlx_models.py`).

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::Result;
use embedbar_contract::{Precision, PromptKind, RecipeName};
use embedbar_engine::{Arithmetic, Engine, How};
use embedbar_tests::checkpoint;
use half::f16;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use crate::reference::{self, Reference, assert_near, mean_cosine, texts};
use crate::{EXACT, copy, native};

const GROUP: usize = 64;

fn engine(folder: &Path, arithmetic: Arithmetic) -> Engine {
    let how = How { arithmetic, ..How::default() };
    Engine::open_as("mlx", folder, &how).unwrap_or_else(|error| panic!("`{}`: {error}", folder.display()))
}

/// The texts whose places the tensor `indices` of the truth names.
fn chosen(reference: &Reference, indices: &str) -> Vec<String> {
    let all = texts();
    reference.counts(indices).into_iter().map(|index| all[index].clone()).collect()
}

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

/// MiniLM's checkpoint as MLX quantises it, and a digest of all that is quantised.
fn minilm(checkpoint: &Path, bits: usize) -> Result<(TempDir, String)> {
    let folder = tempfile::tempdir()?;
    for entry in fs::read_dir(checkpoint)? {
        let path = entry?.path();
        if path.is_file() && path.extension().is_some_and(|extension| extension == "json") {
            copy(&path, &folder.path().join(path.file_name().expect("a file has a name")));
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
    fs::write(folder.path().join("model.safetensors"), safetensors::serialize(views, None)?)?;
    let path = folder.path().join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path)?)?;
    config["quantization"] = json!({"group_size": GROUP, "bits": bits});
    fs::write(path, config.to_string())?;
    Ok((folder, hex::encode(digest.finalize())))
}

#[test]
fn minilm_as_mlx_quantises_it_gives_the_vectors_of_mlx() -> Result<()> {
    let Some(checkpoint) = checkpoint::minilm_or_skip("minilm_as_mlx_quantises_it_gives_the_vectors_of_mlx")? else {
        return Ok(());
    };
    let reference = Reference::open("mlx-models");
    let texts = chosen(&reference, "minilm_indices");
    // The kernels round the inputs of products to eight bits, and weights of eight bits once more.
    for (bits, precision, least, mean) in [(4, Precision::FourBit, 0.998, 0.9995), (8, Precision::Int8, 0.997, 0.9993)]
    {
        let (folder, digest) = minilm(&checkpoint, bits)?;
        assert_eq!(
            Reference::provenance("mlx-models")["quantised"][format!("minilm_{bits}")],
            digest,
            "MLX's own bytes"
        );
        let expected = reference.vectors(&format!("minilm_{bits}"));
        let exact = native(&mut engine(folder.path(), Arithmetic::Candle), &texts, PromptKind::None);
        assert_near(&exact.vectors, &expected, &texts, EXACT);
        let mut engine = engine(folder.path(), Arithmetic::Kernels);
        assert_eq!(engine.generation(RecipeName::Native).precision, precision);
        let found = native(&mut engine, &texts, PromptKind::None);
        let found_mean = mean_cosine(&found.vectors, &expected);
        assert_near(&found.vectors, &expected, &texts, least);
        assert!(found_mean >= mean, "{bits} bits: the mean cosine is {found_mean}");
    }
    Ok(())
}

/// The committed weights with the rest of the folder that they were made of.
fn qwen3() -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    crate::copy_all(&reference::folder().join("qwen3-small"), folder.path());
    crate::copy_all(&reference::folder().join("mlx-qwen3-small"), folder.path());
    folder
}

#[test]
fn a_qwen3_of_every_width_gives_the_vectors_of_mlx() -> Result<()> {
    let reference = Reference::open("mlx-models");
    let provenance = Reference::provenance("mlx-models");
    assert_eq!(provenance["sentences_sha256"], checkpoint::sha256(&reference::folder().join("sentences.json"))?);
    for (file, expected) in provenance["checkpoint"].as_object().expect("a checkpoint is named") {
        assert_eq!(expected, &checkpoint::sha256(&reference::folder().join("mlx-qwen3-small").join(file))?, "{file}");
    }
    let texts = chosen(&reference, "qwen3_indices");
    let (folder, expected) = (qwen3(), reference.vectors("qwen3"));
    let exact = native(&mut engine(folder.path(), Arithmetic::Candle), &texts, PromptKind::None);
    assert_near(&exact.vectors, &expected, &texts, EXACT);
    let mut engine = engine(folder.path(), Arithmetic::Kernels);
    assert_eq!(engine.generation(RecipeName::Native).precision, Precision::FourBit);
    let found = native(&mut engine, &texts, PromptKind::None);
    // A random model of 64 numbers feels the rounding of inputs more than a real one.
    let mean = mean_cosine(&found.vectors, &expected);
    assert!(mean >= 0.99, "the mean cosine is {mean}");
    Ok(())
}

#[test]
fn what_of_mlx_cannot_be_run_is_refused_with_a_sentence() {
    type Change = fn(&mut Value);
    let cases: [(Change, &str); 5] = [
        (|config| config["quantization"]["mode"] = json!("mxfp4"), "the mode `mxfp4`"),
        (|config| config["quantization"]["bits"] = json!(7), "`7` bits"),
        (|config| config["quantization"]["model.embed_tokens"] = json!(false), "does not say how"),
        (|config| config["quantization"]["group_size"] = json!(32), "has the shape"),
        (
            |config| {
                config["quantization"] = Value::Null;
                config["quantization_config"] = json!({"quant_method": "gptq", "bits": 4});
            },
            "gptq",
        ),
    ];
    for (change, wanted) in cases {
        let folder = qwen3();
        let path = folder.path().join("config.json");
        let mut config: Value = serde_json::from_slice(&fs::read(&path).expect("it is there")).expect("it is JSON");
        change(&mut config);
        fs::write(&path, config.to_string()).expect("it can be written");
        let message = Engine::open("mlx", folder.path()).err().expect(wanted).to_string();
        assert!(message.contains(wanted), "{message}");
    }
}
