//! Every damaged, foreign or contradictory model is an error that names the file and says what to do.

use std::{fs, path::Path};

use candle_core::quantized::GgmlDType;
use embedbar_contract::{Failure, FailureCode, PromptKind, RecipeName};
use embedbar_engine::{Engine, EngineError};
use safetensors::Dtype;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::make::{self, Model};

fn folder(model: &Model) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    model.write(folder.path(), Dtype::F32);
    folder
}

/// The failure to open `path`; its message must name `file` and it must have a hint.
fn failure(path: &Path, file: &str) -> Failure {
    let error = Engine::open("bad", path).err().unwrap_or_else(|| panic!("{} was opened", path.display()));
    let failure = Failure::from(error);
    assert!(failure.message.contains(file), "`{file}` is not named: {failure}");
    assert!(failure.hint.is_some(), "no hint: {failure}");
    failure
}

fn change_config(folder: &Path, change: impl Fn(&mut Value)) {
    let path = folder.join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut config);
    fs::write(path, config.to_string()).unwrap();
}

#[test]
fn a_missing_model_and_each_missing_file_are_named() {
    let failed = failure(Path::new("/no/such/model.gguf"), "/no/such/model.gguf");
    assert_eq!(failed.code, FailureCode::ModelInvalid);
    for file in ["config.json", "tokenizer.json", "model.safetensors"] {
        let folder = folder(&make::bert(32));
        fs::remove_file(folder.path().join(file)).unwrap();
        assert_eq!(failure(folder.path(), file).code, FailureCode::ModelInvalid);
    }
}

#[test]
fn a_gguf_without_any_tokenizer_or_in_a_type_that_nothing_multiplies_says_so() {
    let folder = tempfile::tempdir().unwrap();
    make::bert(32).write_gguf(folder.path(), GgmlDType::Q8_0);
    let path = folder.path().join("model.gguf");
    fs::remove_file(folder.path().join("tokenizer.json")).unwrap();
    let failed = failure(&path, "tokenizer.json");
    assert_eq!(failed.code, FailureCode::ModelInvalid);
    assert!(failed.hint.unwrap().contains("has a tokenizer in it"));
    // The type follows two dimensions, and the name before them.
    let mut bytes = fs::read(&path).unwrap();
    let name = b"token_embd.weight";
    let at = bytes.windows(name.len()).position(|window| window == name).unwrap() + name.len() + 4 + 2 * 8;
    bytes[at] = 20;
    fs::write(&path, bytes).unwrap();
    let failed = failure(&path, "`token_embd.weight` in the type IQ4_NL");
    assert_eq!(failed.code, FailureCode::ModelUnsupported);
}

#[test]
fn a_context_that_is_longer_than_the_table_of_positions_is_cut() {
    let folder = tempfile::tempdir().unwrap();
    let mut model = make::bert(32);
    model.config["max_position_embeddings"] = json!(66);
    model.write_gguf(folder.path(), GgmlDType::F32);
    assert_eq!(Engine::open("short", &folder.path().join("model.gguf")).unwrap().max_tokens(), 64);
}

#[test]
fn a_model_of_which_a_file_has_only_a_part_is_refused() {
    for (key, value, wanted) in
        [("split.count", 3, "`3` files (`llama-gguf-split --merge`"), ("bert.pooling_type", 4, "scores of a reranker")]
    {
        let folder = tempfile::tempdir().unwrap();
        make::bert(32).write_gguf_with(folder.path(), |_| GgmlDType::F32, &[(key, value)]);
        assert_eq!(failure(&folder.path().join("model.gguf"), wanted).code, FailureCode::ModelUnsupported);
    }
    let folder = tempfile::tempdir().unwrap();
    let mut model = make::bert(32);
    let dense = model.tensors["encoder.layer.0.attention.output.dense.weight"].clone();
    model.tensors.insert("dense_2.weight".to_owned(), dense);
    model.write_gguf(folder.path(), GgmlDType::F32);
    let failed = failure(&folder.path().join("model.gguf"), "`dense_2.weight`");
    assert_eq!(failed.code, FailureCode::ModelUnsupported);
}

#[test]
fn weights_cut_short_or_damaged_are_refused() {
    let folder = folder(&make::bert(32));
    let path = folder.path().join("model.safetensors");
    let whole = fs::read(&path).unwrap();
    for length in [0, 4, 8, 100, whole.len() / 2, whole.len() - 1] {
        fs::write(&path, &whole[..length]).unwrap();
        assert_eq!(failure(folder.path(), "model.safetensors").code, FailureCode::ModelInvalid, "{length} bytes");
    }
    let mut longer = whole.clone();
    longer.push(0);
    fs::write(&path, longer).unwrap();
    failure(folder.path(), "model.safetensors");
    fs::write(&path, b"<html>404 Not Found</html>").unwrap();
    failure(folder.path(), "model.safetensors");
}

#[test]
fn a_gguf_cut_short_or_of_another_kind_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    make::bert(32).write_gguf(folder.path(), GgmlDType::Q8_0);
    let path = folder.path().join("model.gguf");
    let whole = fs::read(&path).unwrap();
    for length in [0, 3, 20, 500, whole.len() / 2, whole.len() - 64] {
        fs::write(&path, &whole[..length]).unwrap();
        assert_eq!(failure(&path, "model.gguf").code, FailureCode::ModelInvalid, "{length} bytes");
    }
    fs::write(&path, b"PK\x03\x04 a zip file").unwrap();
    failure(&path, "model.gguf");
}

#[test]
fn an_unknown_architecture_is_named() {
    let folder = folder(&make::bert(32));
    change_config(folder.path(), |config| config["model_type"] = json!("mamba"));
    let failed = failure(folder.path(), "config.json");
    assert_eq!(failed.code, FailureCode::ModelUnsupported);
    assert!(failed.message.contains("`mamba`"), "{failed}");

    let folder = tempfile::tempdir().unwrap();
    make::bert(32).write_gguf(folder.path(), GgmlDType::Q8_0);
    let path = folder.path().join("model.gguf");
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.windows(4).position(|window| window == b"bert").unwrap();
    bytes[at..at + 4].copy_from_slice(b"tree");
    fs::write(&path, bytes).unwrap();
    assert!(failure(&path, "model.gguf").message.contains("`tree`"));
}

#[test]
fn a_configuration_without_a_kind_is_refused() {
    let folder = folder(&make::bert(32));
    change_config(folder.path(), |config| {
        config.as_object_mut().unwrap().remove("model_type");
        config.as_object_mut().unwrap().remove("architectures");
    });
    assert!(failure(folder.path(), "config.json").message.contains("`model_type`"));
    fs::write(folder.path().join("config.json"), "{\"hidden_size\": ").unwrap();
    failure(folder.path(), "config.json");
}

#[test]
fn absurd_figures_are_refused_before_anything_is_allocated() {
    for (key, value) in [
        ("hidden_size", json!(0)),
        ("hidden_size", json!(1_u64 << 60)),
        ("num_hidden_layers", json!(1_000_000)),
        ("num_attention_heads", json!(0)),
        ("num_attention_heads", json!(5)),
        ("intermediate_size", json!(-4)),
        ("max_position_embeddings", json!(1_u64 << 40)),
        ("layer_norm_eps", json!("tiny")),
    ] {
        let folder = folder(&make::bert(32));
        change_config(folder.path(), |config| config[key] = value.clone());
        assert!(failure(folder.path(), "config.json").message.contains(key), "{key} = {value}");
    }
}

#[test]
fn figures_that_contradict_the_weights_are_refused() {
    for (key, value) in [
        ("hidden_size", json!(64)),
        ("intermediate_size", json!(96)),
        ("num_hidden_layers", json!(4)),
        ("max_position_embeddings", json!(512)),
    ] {
        let folder = folder(&make::bert(32));
        change_config(folder.path(), |config| config[key] = value.clone());
        assert_eq!(failure(folder.path(), "model.safetensors").code, FailureCode::ModelInvalid, "{key} = {value}");
    }
}

#[test]
fn a_tokenizer_with_more_tokens_than_the_model_is_refused() {
    let folder = folder(&make::bert(32));
    let mut tokenizer = make::tokenizer(true);
    tokenizer["model"]["vocab"]["extra"] = json!(make::VOCABULARY);
    fs::write(folder.path().join("tokenizer.json"), tokenizer.to_string()).unwrap();
    let failed = failure(folder.path(), "tokenizer.json");
    assert!(failed.message.contains("`40`"), "{failed}");
    assert_eq!(failed.code, FailureCode::ModelInvalid);
}

#[test]
fn a_damaged_or_oversized_tokenizer_is_refused() {
    let folder = folder(&make::bert(32));
    let path = folder.path().join("tokenizer.json");
    fs::write(&path, "{\"model\": ").unwrap();
    failure(folder.path(), "tokenizer.json");
    fs::File::create(&path).unwrap().set_len((64 << 20) + 1).unwrap();
    assert!(failure(folder.path(), "tokenizer.json").message.contains("bytes"));
}

#[test]
fn weights_that_give_nan_or_zero_give_an_error_and_no_vector() {
    let text = ["w1 w2".to_owned()];
    let mut nan = make::bert(32);
    nan.tensors.get_mut("encoder.layer.1.output.dense.weight").unwrap().values[7] = f32::NAN;
    let mut infinite = make::qwen3(64);
    infinite.tensors.get_mut("layers.2.mlp.down_proj.weight").unwrap().values[7] = f32::INFINITY;
    for model in [nan, infinite] {
        let folder = folder(&model);
        let mut engine = Engine::open("nan", folder.path()).unwrap();
        let error = engine.embed(&text, PromptKind::None, RecipeName::Native).unwrap_err();
        assert!(matches!(error, EngineError::NotFinite { index: 0, .. }), "{error}");
        assert_eq!(Failure::from(error).code, FailureCode::ModelInvalid);
    }
    let mut zero = make::bert(32);
    for part in ["weight", "bias"] {
        zero.tensors.get_mut(&format!("encoder.layer.2.output.LayerNorm.{part}")).unwrap().values.fill(0.0);
    }
    let folder = folder(&zero);
    let mut engine = Engine::open("zero", folder.path()).unwrap();
    let error = engine.embed(&text, PromptKind::None, RecipeName::Native).unwrap_err();
    assert!(matches!(error, EngineError::ZeroVector { index: 0, .. }), "{error}");
}

#[test]
fn a_model_without_special_tokens_has_no_vector_for_an_empty_text() {
    let folder = folder(&make::bert(32));
    fs::write(folder.path().join("tokenizer.json"), make::tokenizer(false).to_string()).unwrap();
    let mut engine = Engine::open("plain", folder.path()).unwrap();
    let texts = ["w1".to_owned(), String::new()];
    let error = engine.embed(&texts, PromptKind::None, RecipeName::Native).unwrap_err();
    assert!(matches!(error, EngineError::NoTokens { index: 1 }), "{error}");
    assert_eq!(Failure::from(error).code, FailureCode::InvalidRequest);
}

#[test]
fn an_index_cannot_name_files_elsewhere() {
    for name in ["../model.safetensors", "/etc/passwd", "weights/a.safetensors", "a.bin"] {
        let folder = tempfile::tempdir().unwrap();
        make::bert(32).write_configuration(folder.path());
        let index = json!({"weight_map": {"embeddings.word_embeddings.weight": name}});
        fs::write(folder.path().join("model.safetensors.index.json"), index.to_string()).unwrap();
        failure(folder.path(), "model.safetensors.index.json");
    }
}

#[test]
fn weights_quantised_by_other_tools_are_refused_by_name() {
    let folder = folder(&make::qwen3(64));
    change_config(folder.path(), |config| {
        config["quantization_config"] = json!({"quant_method": "gptq", "bits": 4});
    });
    let failed = failure(folder.path(), "config.json");
    assert_eq!(failed.code, FailureCode::ModelUnsupported);
    assert!(failed.message.contains("gptq"), "{failed}");
}

#[cfg(not(target_os = "macos"))]
#[test]
fn a_core_ml_package_that_is_missing_or_is_none_is_named() {
    let missing = failure(Path::new("/x/Qwen3.mlpackage"), "Qwen3.mlpackage");
    assert_eq!(missing.code, FailureCode::ModelInvalid);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let package = folder.path().join("empty.mlpackage");
    std::fs::create_dir(&package).expect("it can be made");
    assert_eq!(failure(&package, "empty.mlpackage").code, FailureCode::ModelInvalid);
}
