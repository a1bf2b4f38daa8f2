//! What MLX has quantised, run by the engine as it lies, against vectors that MLX computed (`make_mlx_models.py`).

use std::fs;
use std::path::Path;

use anyhow::Result;
use embedbar_contract::{Precision, PromptKind, RecipeName};
use embedbar_engine::{Arithmetic, Engine, How};
use embedbar_tests::checkpoint;
use embedbar_tests::mlx::quantised_minilm;
use embedbar_tests::reference::{self, Reference, assert_near, mean_cosine};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{EXACT, native};

fn engine(folder: &Path, arithmetic: Arithmetic) -> Engine {
    let how = How { arithmetic, ..How::default() };
    Engine::open_as("mlx", folder, &how).unwrap_or_else(|error| panic!("`{}`: {error}", folder.display()))
}

#[test]
fn minilm_as_mlx_quantises_it_gives_the_vectors_of_mlx() -> Result<()> {
    let Some(checkpoint) = checkpoint::minilm_or_skip("minilm_as_mlx_quantises_it_gives_the_vectors_of_mlx")? else {
        return Ok(());
    };
    let reference = Reference::open("mlx-models");
    let texts = reference.texts("minilm_indices");
    // The kernels round the inputs of products to eight bits, and weights of eight bits once more.
    for (bits, precision, least, mean) in [(4, Precision::FourBit, 0.998, 0.9995), (8, Precision::Int8, 0.997, 0.9993)]
    {
        let folder = tempfile::tempdir()?;
        let digest = quantised_minilm(&checkpoint, bits, folder.path())?;
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
    let texts = reference.texts("qwen3_indices");
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
