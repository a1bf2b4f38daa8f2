//! Whole conversions of small checkpoints, judged by candle's GGUF reader, and everything that must be refused.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::io::{BufRead, BufReader};
use std::num::NonZeroUsize;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use candle_core::quantized::gguf_file;
use candle_core::{Device, quantized::GgmlDType};
use safetensors::Dtype;
use tempfile::TempDir;

use super::*;
use crate::package::blob::Place;
use crate::package::segment::Segment;
use crate::samples::{Numbers, Sample, sha256};
use crate::{Lengths, Package, PackageSummary, Pooling, Sharing, System, TargetPrecision, TensorSummary, stream};

fn folder() -> TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

fn run(job: &Job) -> Result<Summary, ConvertError> {
    convert(job, &mut |_| ControlFlow::Continue(()))
}

/// Writes the sample, converts it, and gives the folder (with the target `out/x.gguf`) and the result.
fn converted(sample: &Sample, precision: TargetPrecision) -> (TempDir, Result<Summary, ConvertError>) {
    let folder = folder();
    sample.write(folder.path());
    let result = run(&job(folder.path(), precision));
    (folder, result)
}

fn job(folder: &Path, precision: TargetPrecision) -> Job {
    fs::create_dir_all(folder.join("out")).expect("it can be made");
    Job::new(folder, target(folder), precision)
}

fn target(folder: &Path) -> PathBuf {
    folder.join("out/x.gguf")
}

fn refused(sample: &Sample) -> ConvertError {
    let (folder, result) = converted(sample, TargetPrecision::Int8);
    let left: Vec<_> = fs::read_dir(folder.path().join("out")).expect("it is there").collect();
    assert!(left.is_empty(), "a refused conversion left {left:?}");
    result.expect_err("it must be refused")
}

/// What candle reads: the keys, and for every tensor its type and its numbers.
struct Read {
    keys: HashMap<String, gguf_file::Value>,
    tensors: HashMap<String, (GgmlDType, Vec<usize>, Vec<f32>)>,
}

fn read(path: &Path) -> Read {
    let mut file = fs::File::open(path).expect("it is there");
    let content = gguf_file::Content::read(&mut file).expect("candle can read it");
    let mut read_tensor = |name: &String| {
        let tensor = content.tensor(&mut file, name, &Device::Cpu).expect("candle can read it");
        let numbers = tensor.dequantize(&Device::Cpu).and_then(|all| all.flatten_all()?.to_vec1());
        (tensor.dtype(), tensor.shape().dims().to_vec(), numbers.expect("candle can dequantise it"))
    };
    let tensors = content.tensor_infos.keys().map(|name| (name.clone(), read_tensor(name))).collect();
    Read { keys: content.metadata, tensors }
}

fn farthest(one: &[f32], other: &[f32]) -> f32 {
    assert_eq!(one.len(), other.len());
    one.iter().zip(other).map(|(one, other)| (one - other).abs()).fold(0.0, f32::max)
}

/// How far a stored number may be from the source's: nothing for F32, half an ulp for F16, half a step for Q8_0.
fn tolerance(dtype: GgmlDType, numbers: &[f32]) -> f32 {
    let most = numbers.iter().fold(0.0_f32, |most, number| most.max(number.abs()));
    match dtype {
        GgmlDType::F32 => 0.0,
        GgmlDType::F16 => most * 2.0_f32.powi(-11),
        _ => most / 127.0 * 0.57,
    }
}

#[test]
fn every_tensor_of_bert_comes_back_in_each_type_of_source_and_target() {
    for dtype in [Dtype::F32, Dtype::F16, Dtype::BF16] {
        for (precision, matrix) in [(TargetPrecision::Int8, GgmlDType::Q8_0), (TargetPrecision::Fp16, GgmlDType::F16)] {
            let sample = Sample::bert(64, dtype);
            let (folder, summary) = converted(&sample, precision);
            let summary = summary.expect("it is sound");
            let found = read(&target(folder.path()));
            assert_eq!(found.tensors.len(), 3 + 2 + 2 * 16);
            for tensor in &summary.tensors {
                let (stored, shape, numbers) = &found.tensors[&tensor.name];
                let source = &sample.tensors[&tensor.source];
                let wanted =
                    if tensor.name == "token_embd.weight" || (tensor.name.starts_with("blk.") && shape.len() == 2) {
                        matrix
                    } else {
                        GgmlDType::F32
                    };
                assert_eq!((*stored, shape, tensor.fell_back), (wanted, &source.shape, false), "{}", tensor.name);
                let distance = farthest(numbers, &source.kept());
                assert!(distance <= tolerance(*stored, &source.kept()), "{} is {distance} away", tensor.name);
            }
            assert_eq!(fs::metadata(target(folder.path())).expect("it is there").len(), summary.bytes_written);
            let mut left_out = summary.left_out.clone();
            left_out.sort();
            assert_eq!(left_out, ["embeddings.position_ids", "pooler.dense.bias", "pooler.dense.weight"]);
        }
    }
}

#[test]
fn bert_has_the_keys_and_names_that_llama_cpp_reads() {
    let sample = Sample::bert(64, Dtype::F32);
    let (folder, summary) = converted(&sample, TargetPrecision::Int8);
    let found = read(&target(folder.path()));
    let count = |key: &str| found.keys[key].to_u32().expect("a count");
    let text = |key: &str| found.keys[key].to_string().expect("a text").clone();
    assert_eq!(text("general.architecture"), "bert");
    assert_eq!(text("general.name"), "x");
    assert_eq!((count("general.file_type"), count("general.quantization_version")), (7, 2));
    let sizes = ["block_count", "context_length", "embedding_length", "feed_forward_length", "attention.head_count"];
    assert_eq!(sizes.map(|key| count(&format!("bert.{key}"))), [2, 16, 64, 128, 4]);
    let epsilon = found.keys["bert.attention.layer_norm_epsilon"].to_f32().expect("a number");
    assert_eq!(epsilon.to_bits(), 1e-12_f32.to_bits());
    assert!(!found.keys["bert.attention.causal"].to_bool().expect("a truth value"));
    assert_eq!((count("bert.pooling_type"), count("embedbar.max_tokens")), (1, 16));
    assert_eq!(text("embedbar.converter"), CONVERTER);
    assert_eq!(text("embedbar.source_sha256"), summary.expect("it is sound").input_sha256);
    for (name, source) in [
        ("token_embd.weight", "embeddings.word_embeddings.weight"),
        ("position_embd.weight", "embeddings.position_embeddings.weight"),
        ("token_types.weight", "embeddings.token_type_embeddings.weight"),
        ("token_embd_norm.bias", "embeddings.LayerNorm.bias"),
        ("blk.1.attn_q.weight", "encoder.layer.1.attention.self.query.weight"),
        ("blk.1.attn_k.bias", "encoder.layer.1.attention.self.key.bias"),
        ("blk.0.attn_v.weight", "encoder.layer.0.attention.self.value.weight"),
        ("blk.1.attn_output.weight", "encoder.layer.1.attention.output.dense.weight"),
        ("blk.1.attn_output_norm.bias", "encoder.layer.1.attention.output.LayerNorm.bias"),
        ("blk.1.ffn_up.weight", "encoder.layer.1.intermediate.dense.weight"),
        ("blk.0.ffn_down.bias", "encoder.layer.0.output.dense.bias"),
        ("blk.1.layer_output_norm.weight", "encoder.layer.1.output.LayerNorm.weight"),
    ] {
        let (dtype, _, numbers) = &found.tensors[name];
        let source = &sample.tensors[source].values;
        assert!(farthest(numbers, source) <= tolerance(*dtype, source), "{name}");
    }
}

#[test]
fn xlm_roberta_comes_back_as_a_bert_whose_positions_start_at_0() {
    let plain = Sample::xlm_roberta(64, Dtype::F32);
    let mut prefixed = Sample::xlm_roberta(64, Dtype::F32);
    prefixed.rename(|name| if name.starts_with("lm_head") { name.to_owned() } else { format!("roberta.{name}") });
    let mut without_pad = Sample::xlm_roberta(64, Dtype::F32);
    without_pad.config.as_object_mut().expect("an object").remove("pad_token_id");
    for (sample, prefix) in [(&plain, ""), (&prefixed, "roberta."), (&without_pad, "")] {
        let (folder, summary) = converted(sample, TargetPrecision::Fp16);
        let summary = summary.expect("it is sound");
        let found = read(&target(folder.path()));
        let count = |key: &str| found.keys[key].to_u32().expect("a count");
        assert_eq!(found.keys["general.architecture"].to_string().expect("a text"), "bert");
        assert_eq!((count("bert.context_length"), count("embedbar.max_tokens")), (16, 16));
        assert_eq!(count("tokenizer.ggml.token_type_count"), 1);
        let epsilon = found.keys["bert.attention.layer_norm_epsilon"].to_f32().expect("a number");
        assert_eq!(epsilon.to_bits(), 1e-5_f32.to_bits());
        let source = &sample.tensors[&format!("{prefix}embeddings.position_embeddings.weight")].values;
        let (dtype, shape, numbers) = &found.tensors["position_embd.weight"];
        assert_eq!((*dtype, shape.as_slice()), (GgmlDType::F32, [16, 64].as_slice()));
        assert!(numbers == &source[2 * 64..], "the first two rows are no positions");
        assert_eq!(found.tensors.len(), 3 + 2 + 2 * 16);
        let positions = summary.tensors.iter().find(|tensor| tensor.name == "position_embd.weight");
        let positions = positions.expect("it is summarised");
        assert_eq!((positions.shape.as_slice(), positions.bytes), ([16, 64].as_slice(), 16 * 64 * 4));
        let mut left_out: Vec<&str> = summary.left_out.iter().map(|name| name.trim_start_matches(prefix)).collect();
        left_out.sort_unstable();
        let pooler = ["pooler.dense.bias", "pooler.dense.weight"];
        let head = ["embeddings.position_ids", "lm_head.bias", "lm_head.dense.bias", "lm_head.dense.weight"];
        assert_eq!(left_out, [head.as_slice(), &pooler].concat());
        assert_eq!(fs::metadata(target(folder.path())).expect("it is there").len(), summary.bytes_written);
    }
}

#[test]
fn nomic_bert_has_the_keys_and_names_that_llama_cpp_reads_and_reads_what_it_was_trained_with() {
    for dtype in [Dtype::F32, Dtype::F16, Dtype::BF16] {
        let sample = Sample::nomic_bert(64, dtype);
        let (folder, summary) = converted(&sample, TargetPrecision::Int8);
        let summary = summary.expect("it is sound");
        let found = read(&target(folder.path()));
        let count = |key: &str| found.keys[&format!("nomic-bert.{key}")].to_u32().expect("a count");
        assert_eq!(found.keys["general.architecture"].to_string().expect("a text"), "nomic-bert");
        let sizes =
            ["block_count", "context_length", "embedding_length", "feed_forward_length", "attention.head_count"];
        assert_eq!(sizes.map(count), [2, 16, 64, 128, 4]);
        let base = found.keys["nomic-bert.rope.freq_base"].to_f32().expect("a number");
        assert_eq!(base.to_bits(), 1000_f32.to_bits());
        assert!(!found.keys["nomic-bert.attention.causal"].to_bool().expect("a truth value"));
        assert_eq!((count("pooling_type"), found.keys["embedbar.max_tokens"].to_u32().expect("a count")), (1, 16));
        assert_eq!(found.keys["tokenizer.ggml.token_type_count"].to_u32().expect("a count"), 2);
        assert_eq!((found.tensors.len(), summary.left_out), (2 + 2 + 2 * 9, vec!["cls.predictions.bias".to_owned()]));
        for (name, source, kind) in [
            ("token_embd.weight", "embeddings.word_embeddings.weight", GgmlDType::Q8_0),
            ("token_types.weight", "embeddings.token_type_embeddings.weight", GgmlDType::F32),
            ("token_embd_norm.bias", "emb_ln.bias", GgmlDType::F32),
            ("blk.1.attn_qkv.weight", "encoder.layers.1.attn.Wqkv.weight", GgmlDType::Q8_0),
            ("blk.1.attn_output.weight", "encoder.layers.1.attn.out_proj.weight", GgmlDType::Q8_0),
            ("blk.1.attn_output_norm.weight", "encoder.layers.1.norm1.weight", GgmlDType::F32),
            ("blk.1.ffn_up.weight", "encoder.layers.1.mlp.fc11.weight", GgmlDType::Q8_0),
            ("blk.1.ffn_gate.weight", "encoder.layers.1.mlp.fc12.weight", GgmlDType::Q8_0),
            ("blk.1.ffn_down.weight", "encoder.layers.1.mlp.fc2.weight", GgmlDType::Q8_0),
            ("blk.1.layer_output_norm.bias", "encoder.layers.1.norm2.bias", GgmlDType::F32),
        ] {
            let (stored, shape, numbers) = &found.tensors[name];
            let source = &sample.tensors[source];
            assert_eq!((*stored, shape), (kind, &source.shape), "{name}");
            let distance = farthest(numbers, &source.kept());
            assert!(distance <= tolerance(*stored, &source.kept()), "{name} is {distance} away");
        }
    }
}

#[test]
fn nomic_bert_in_the_form_of_transformers_gives_the_same_tensors_and_keys() {
    let old = Sample::nomic_bert(64, Dtype::F32);
    let mut new = Sample::nomic_bert(64, Dtype::F32);
    new.config = serde_json::json!({
        "model_type": "nomic_bert", "hidden_act": "silu", "num_hidden_layers": 2, "hidden_size": 64,
        "intermediate_size": 128, "num_attention_heads": 4, "vocab_size": 50, "max_position_embeddings": 16,
        "type_vocab_size": 2, "layer_norm_eps": 1e-12,
        "rope_parameters": {"rope_type": "dynamic", "rope_theta": 1000.0, "factor": 2.0},
    });
    new.rename(|name| format!("nomic_bert.{name}"));
    let [old, new] = [old, new].map(|sample| {
        let (folder, summary) = converted(&sample, TargetPrecision::Fp16);
        summary.expect("it is sound");
        read(&target(folder.path()))
    });
    assert_eq!(old.tensors, new.tensors);
    let keys = |read: &Read| {
        let keys = read.keys.iter().filter(|(key, _)| key.as_str() != "embedbar.source_sha256");
        keys.map(|(key, value)| (key.clone(), format!("{value:?}"))).collect::<BTreeMap<_, _>>()
    };
    assert_eq!(keys(&old), keys(&new));
}

#[test]
fn variants_of_nomic_bert_and_packages_of_it_are_refused_by_name() {
    for (key, value) in [
        ("activation_function", "gelu".into()),
        ("prenorm", true.into()),
        ("moe_every_n_layers", 2.into()),
        ("qkv_proj_bias", true.into()),
        ("rotary_emb_scale_base", 512.into()),
    ] {
        let mut sample = Sample::nomic_bert(64, Dtype::F32);
        let value: serde_json::Value = value;
        sample.config[key] = value;
        let error = refused(&sample);
        assert!(matches!(error, ConvertError::Unsupported { .. }), "{key}: {error}");
    }
    let folder = folder();
    Sample::nomic_bert(64, Dtype::F32).write(folder.path());
    let job = package(folder.path(), TargetPrecision::Fp16, System::MacOs15);
    let error = run(&job).expect_err("there is no program of it");
    assert!(error.to_string().contains("Core ML package of a NomicBERT model"), "{error}");
}

#[test]
fn rows_that_are_left_out_may_fill_whole_blocks() {
    // 70,000 rows of 256 bytes are several blocks, and the padding token's row lies in the second one.
    let (rows, pad) = (70_000, BLOCK_ROWS + 3);
    let mut sample = Sample::xlm_roberta(64, Dtype::F32);
    sample.config["pad_token_id"] = pad.into();
    sample.config["max_position_embeddings"] = rows.into();
    sample.add("embeddings.position_embeddings.weight", &[rows, 64], Dtype::F32);
    let (folder, summary) = converted(&sample, TargetPrecision::Int8);
    summary.expect("it is sound");
    let found = read(&target(folder.path()));
    let source = &sample.tensors["embeddings.position_embeddings.weight"].values;
    assert!(found.tensors["position_embd.weight"].2 == source[(pad + 1) * 64..], "the numbers differ");
}

#[test]
fn an_xlm_roberta_without_positions_behind_its_padding_token_is_refused() {
    let mut sample = Sample::xlm_roberta(64, Dtype::F32);
    sample.config["pad_token_id"] = 17.into();
    let error = refused(&sample);
    assert!(matches!(&error, ConvertError::BadConfig { key, .. } if key == "max_position_embeddings"), "{error}");
}

#[test]
fn a_tokenizer_is_written_where_it_can_be_said_and_the_reason_where_not() {
    let mut sample = Sample::bert(64, Dtype::F32);
    let (folder, summary) = converted(&sample, TargetPrecision::Int8);
    let reason = summary.expect("it is sound").tokenizer_left_out.expect("it has no model");
    assert!(reason.contains("`tokenizer.json`") && reason.contains("model"), "{reason}");
    let keys = read(&target(folder.path())).keys;
    assert!(!keys.contains_key("tokenizer.ggml.model"));
    assert_eq!(keys["tokenizer.ggml.token_type_count"].to_u32().expect("a count"), 2);

    let names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "##b"];
    let vocabulary: HashMap<&str, usize> = names.into_iter().zip(0..).collect();
    let added = |id: usize| serde_json::json!({"id": id, "content": names[id], "special": true});
    let tokenizer = serde_json::json!({
        "added_tokens": [added(0), added(1), added(2), added(3)],
        "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
                       "strip_accents": null, "lowercase": true},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "vocab": vocabulary},
    });
    sample.files.insert("tokenizer.json".into(), tokenizer.to_string());
    let (folder, summary) = converted(&sample, TargetPrecision::Int8);
    assert_eq!(summary.expect("it is sound").tokenizer_left_out, None);
    let keys = read(&target(folder.path())).keys;
    let tokens = keys["tokenizer.ggml.tokens"].to_vec().expect("a list");
    let tokens: Vec<&String> = tokens.iter().map(|token| token.to_string().expect("a text")).collect();
    assert_eq!(tokens.len(), 50, "one for every row");
    assert_eq!([tokens[2], tokens[4], tokens[5], tokens[6]], ["[CLS]", "\u{2581}a", "b", "[PAD6]"]);
    let types = keys["tokenizer.ggml.token_type"].to_vec().expect("a list");
    let types: Vec<i32> = types.iter().map(|kind| kind.to_i32().expect("a number")).collect();
    assert_eq!([types[2], types[4], types[6]], [3, 1, 5]);
}

#[test]
fn qwen3_comes_back_with_its_keys_from_either_form_of_its_names_and_of_its_configuration() {
    let plain = Sample::qwen3(Dtype::BF16);
    let mut newer = Sample::qwen3(Dtype::BF16);
    newer.rename(|name| format!("model.{name}"));
    newer.add("lm_head.weight", &[70, 64], Dtype::BF16);
    let config = newer.config.as_object_mut().expect("an object");
    config.remove("rope_theta");
    config.remove("rope_scaling");
    config.insert("rope_parameters".into(), serde_json::json!({"rope_theta": 1e6, "rope_type": "default"}));
    for (sample, prefix) in [(&plain, ""), (&newer, "model.")] {
        let (folder, summary) = converted(sample, TargetPrecision::Int8);
        let summary = summary.expect("it is sound");
        assert_eq!(summary.pooling, Pooling::Last);
        let found = read(&target(folder.path()));
        let count = |key: &str| found.keys[&format!("qwen3.{key}")].to_u32().expect("a count");
        let sizes = ["block_count", "context_length", "embedding_length", "feed_forward_length", "pooling_type"];
        assert_eq!(sizes.map(count), [2, 128, 64, 96, 3]);
        let attention = ["head_count", "head_count_kv", "key_length", "value_length"];
        assert_eq!(attention.map(|key| count(&format!("attention.{key}"))), [4, 2, 32, 32]);
        assert_eq!(found.keys["qwen3.rope.freq_base"].to_f32().expect("a number").to_bits(), 1e6_f32.to_bits());
        assert_eq!(found.tensors.len(), 2 + 2 * 11);
        for (name, source) in [
            ("token_embd.weight", "embed_tokens.weight"),
            ("output_norm.weight", "norm.weight"),
            ("blk.1.attn_norm.weight", "layers.1.input_layernorm.weight"),
            ("blk.1.ffn_norm.weight", "layers.1.post_attention_layernorm.weight"),
            ("blk.0.attn_output.weight", "layers.0.self_attn.o_proj.weight"),
            ("blk.0.attn_k_norm.weight", "layers.0.self_attn.k_norm.weight"),
            ("blk.1.ffn_gate.weight", "layers.1.mlp.gate_proj.weight"),
            ("blk.1.ffn_down.weight", "layers.1.mlp.down_proj.weight"),
        ] {
            let source = &sample.tensors[&format!("{prefix}{source}")];
            let (dtype, shape, numbers) = &found.tensors[name];
            assert_eq!(shape, &source.shape, "{name}");
            assert!(farthest(numbers, &source.kept()) <= tolerance(*dtype, &source.kept()), "{name}");
        }
    }
}

#[test]
fn an_mlx_checkpoint_is_read_with_its_groups_its_overrides_and_what_it_left_alone() {
    for (bits, group) in [(4, 32), (8, 32), (4, 64), (8, 64)] {
        let mut sample = Sample::qwen3(Dtype::BF16);
        sample.rename(|name| format!("model.{name}"));
        let mut expected = HashMap::new();
        for (module, target) in [
            ("model.embed_tokens", "token_embd.weight"),
            ("model.layers.0.self_attn.q_proj", "blk.0.attn_q.weight"),
            ("model.layers.1.self_attn.o_proj", "blk.1.attn_output.weight"),
        ] {
            expected.insert(target, sample.pack(module, bits, group));
        }
        // One module has bits of its own; the rest stays as it was, which is what missing scales say.
        expected.insert("blk.1.ffn_up.weight", sample.pack("model.layers.1.mlp.up_proj", 12 - bits, 32));
        let own = serde_json::json!({"bits": 12 - bits, "group_size": 32});
        let settings =
            serde_json::json!({"group_size": group, "bits": bits, "mode": "affine", "model.layers.1.mlp.up_proj": own});
        sample.config["quantization"] = settings.clone();
        sample.config["quantization_config"] = settings;
        let (folder, summary) = converted(&sample, TargetPrecision::Fp16);
        let summary = summary.expect("it is sound");
        let found = read(&target(folder.path()));
        for (name, numbers) in &expected {
            assert!(farthest(&found.tensors[*name].2, numbers) <= tolerance(GgmlDType::F16, numbers), "{name}");
        }
        let plain = &sample.tensors["model.layers.0.mlp.down_proj.weight"].kept();
        let (_, _, kept) = &found.tensors["blk.0.ffn_down.weight"];
        assert!(farthest(kept, plain) <= tolerance(GgmlDType::F16, plain));
        let source = fs::read(folder.path().join("model.safetensors")).expect("it is there");
        assert_eq!(summary.input_sha256, sha256(&source), "scales and biases are hashed where they stand");
        assert!(summary.left_out.is_empty(), "{:?}", summary.left_out);
    }
}

#[test]
fn packed_weights_without_their_scales_or_in_another_mode_are_refused() {
    let packed = || {
        let mut sample = Sample::qwen3(Dtype::BF16);
        sample.pack("layers.0.mlp.up_proj", 4, 32);
        sample.config["quantization"] = serde_json::json!({"group_size": 32, "bits": 4});
        sample
    };
    let mut sample = packed();
    sample.tensors.remove("layers.0.mlp.up_proj.biases");
    let error = refused(&sample);
    assert!(
        matches!(&error, ConvertError::MissingTensor { tensor, .. } if tensor.ends_with("up_proj.biases")),
        "{error}"
    );

    let mut sample = packed();
    sample.add("layers.0.mlp.up_proj.scales", &[96, 4], Dtype::BF16);
    let error = refused(&sample);
    assert!(
        matches!(&error, ConvertError::TensorShape { tensor, .. } if tensor.ends_with("up_proj.scales")),
        "{error}"
    );

    for (key, value) in [("mode", "mxfp4".into()), ("bits", 7.into()), ("group_size", 16.into())] {
        let mut sample = packed();
        let shown = serde_json::Value::to_string(&value);
        sample.config["quantization"][key] = value;
        let error = refused(&sample);
        let named = matches!(&error, ConvertError::Unsupported { what, .. } if what.contains(shown.trim_matches('"')));
        assert!(named, "{error}");
    }

    let mut sample = packed();
    sample.config.as_object_mut().expect("an object").remove("quantization");
    let error = refused(&sample);
    assert!(matches!(error, ConvertError::TensorShape { .. } | ConvertError::UnknownTensor { .. }), "{error}");
}

#[test]
fn old_names_a_prefix_and_shards_change_nothing_in_the_tensors() {
    let plain = Sample::bert(64, Dtype::F32);
    let (plain_folder, summary) = converted(&plain, TargetPrecision::Int8);
    summary.expect("it is sound");
    let wanted = read(&target(plain_folder.path()));
    let mut renamed = Sample::bert(64, Dtype::F32);
    renamed.rename(|name| {
        let old = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta");
        format!("bert.{old}")
    });
    let sharded_folder = folder();
    renamed.write_sharded(sharded_folder.path());
    let summary = run(&job(sharded_folder.path(), TargetPrecision::Int8)).expect("it is sound");
    let found = read(&target(sharded_folder.path()));
    assert!(found.tensors == wanted.tensors, "the tensors differ");
    // The definition that the summary gives, with sha256 from another path through the code.
    let lines: String = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
        .map(|name| {
            let bytes = fs::read(sharded_folder.path().join(name)).expect("it is there");
            format!("{}  {name}\n", sha256(&bytes))
        })
        .concat();
    assert_eq!(summary.input_sha256, sha256(lines.as_bytes()));
}

#[test]
fn the_same_source_gives_the_same_bytes_and_the_sums_are_those_of_the_files() {
    let sample = Sample::bert(64, Dtype::BF16);
    let (one, first) = converted(&sample, TargetPrecision::Int8);
    let (other, second) = converted(&sample, TargetPrecision::Int8);
    let bytes = fs::read(target(one.path())).expect("it is there");
    assert!(bytes == fs::read(target(other.path())).expect("it is there"));
    let first = first.expect("it is sound");
    assert_eq!(first, second.expect("it is sound"));
    assert_eq!(first.output_sha256, sha256(&bytes));
    let source = fs::read(one.path().join("model.safetensors")).expect("it is there");
    assert_eq!(first.input_sha256, sha256(&source));
    assert_eq!(fs::read(one.path().join("out/tokenizer.json")).expect("it is there"), b"{\"version\":\"1.0\"}");
}

#[test]
fn a_tensor_of_many_blocks_is_the_same_as_its_rows_one_by_one() {
    let mut sample = Sample::bert(64, Dtype::F32);
    // 16.4 MB: rows do not divide into blocks evenly, and the last block is short.
    let rows = BLOCK_ROWS * 3 + 777;
    sample.add("embeddings.word_embeddings.weight", &[rows, 64], Dtype::F32);
    sample.config["vocab_size"] = rows.into();
    let (folder, summary) = converted(&sample, TargetPrecision::Fp16);
    summary.expect("it is sound");
    let found = read(&target(folder.path()));
    let source = sample.tensors["embeddings.word_embeddings.weight"].values.iter();
    let wanted: Vec<f32> = source.map(|number| half::f16::from_f32(*number).to_f32()).collect();
    assert!(found.tensors["token_embd.weight"].2 == wanted, "the numbers differ");
}

const BLOCK_ROWS: usize = stream::BLOCK_BYTES / (64 * 4);

#[test]
fn rows_that_do_not_divide_into_blocks_are_stored_as_f16_and_reported() {
    let (folder, summary) = converted(&Sample::bert(24, Dtype::F32), TargetPrecision::Int8);
    let summary = summary.expect("it is sound");
    let found = read(&target(folder.path()));
    let matrices: Vec<&TensorSummary> = summary.tensors.iter().filter(|tensor| tensor.stored_as == "F16").collect();
    assert_eq!(matrices.len(), 1 + 2 * 6, "the table and six matrices a layer");
    assert!(matrices.iter().all(|tensor| tensor.fell_back && found.tensors[&tensor.name].0 == GgmlDType::F16));
}

#[test]
fn what_the_job_says_wins_over_what_the_checkpoint_says() {
    let mut sample = Sample::bert(64, Dtype::F32);
    sample.files.insert("sentence_bert_config.json".into(), r#"{"max_seq_length": 12}"#.into());
    let folder = folder();
    sample.write(folder.path());
    let said = run(&job(folder.path(), TargetPrecision::Int8)).expect("it is sound");
    assert_eq!((said.pooling, said.max_tokens), (Pooling::Mean, 12));
    let wanted = Job { pooling: Some(Pooling::Cls), max_tokens: Some(9), ..job(folder.path(), TargetPrecision::Int8) };
    let said = run(&wanted).expect("it is sound");
    assert_eq!((said.pooling, said.max_tokens), (Pooling::Cls, 9));
    let found = read(&target(folder.path()));
    assert_eq!(found.keys["bert.pooling_type"].to_u32().expect("a count"), 2);
    assert_eq!(found.keys["embedbar.max_tokens"].to_u32().expect("a count"), 9);
    let too_long = Job { max_tokens: Some(17), ..wanted };
    assert!(matches!(run(&too_long), Err(ConvertError::BadConfig { .. })));
}

#[test]
fn tensors_that_are_unknown_missing_or_doubled_are_refused_by_name() {
    let mut sample = Sample::bert(64, Dtype::F32);
    sample.add("encoder.layer.0.adapter.weight", &[64, 64], Dtype::F32);
    let error = refused(&sample);
    assert!(matches!(&error, ConvertError::UnknownTensor { tensor, .. } if tensor == "encoder.layer.0.adapter.weight"));

    let mut sample = Sample::bert(64, Dtype::F32);
    sample.tensors.remove("encoder.layer.1.output.dense.bias");
    let error = refused(&sample);
    assert!(
        matches!(&error, ConvertError::MissingTensor { tensor, .. } if tensor == "encoder.layer.1.output.dense.bias")
    );

    let mut sample = Sample::bert(64, Dtype::F32);
    sample.add("bert.embeddings.LayerNorm.bias", &[64], Dtype::F32);
    let error = refused(&sample);
    assert!(
        matches!(&error, ConvertError::DuplicateTensor { tensor, .. } if tensor.ends_with("embeddings.LayerNorm.bias"))
    );

    let mut sample = Sample::bert(64, Dtype::F32);
    sample.config["num_hidden_layers"] = 1.into();
    let error = refused(&sample);
    assert!(matches!(&error, ConvertError::UnknownTensor { tensor, .. } if tensor.starts_with("encoder.layer.1.")));
}

#[test]
fn wrong_shapes_and_types_are_refused_by_name() {
    let name = "encoder.layer.0.intermediate.dense.weight";
    let mut sample = Sample::bert(64, Dtype::F32);
    sample.add(name, &[64, 128], Dtype::F32);
    let error = refused(&sample);
    let shapes = |found: &[usize], wanted: &[usize]| found == [64, 128] && wanted == [128, 64];
    assert!(
        matches!(&error, ConvertError::TensorShape { tensor, found, wanted, .. } if tensor == name && shapes(found, wanted)),
        "{error}"
    );
    let mut sample = Sample::bert(64, Dtype::F32);
    sample.add(name, &[128, 64], Dtype::I64);
    assert!(matches!(refused(&sample), ConvertError::TensorType { tensor, .. } if tensor == name));
}

#[test]
fn weights_that_are_not_finite_are_refused_with_tensor_and_row() {
    for (dtype, bad) in [(Dtype::F32, f32::NAN), (Dtype::F16, f32::INFINITY), (Dtype::BF16, f32::NEG_INFINITY)] {
        for (name, place, at) in
            [("encoder.layer.1.output.dense.weight", 128 * 3 + 5, 3), ("embeddings.LayerNorm.bias", 7, 0)]
        {
            let mut sample = Sample::bert(64, dtype);
            sample.tensors.get_mut(name).expect("it is there").values[place] = bad;
            let error = refused(&sample);
            assert!(
                matches!(&error, ConvertError::NotFinite { tensor, row, .. } if tensor == name && *row == at),
                "{error}"
            );
        }
    }
}

#[test]
fn a_weight_that_the_target_cannot_hold_is_refused() {
    let mut sample = Sample::bert(64, Dtype::BF16);
    sample.tensors.get_mut("embeddings.word_embeddings.weight").expect("it is there").values[64 * 9] = 1e6;
    let (folder, result) = converted(&sample, TargetPrecision::Fp16);
    assert!(matches!(result, Err(ConvertError::OutOfRange { row: 9, stored_as: "F16", .. })));
    run(&job(folder.path(), TargetPrecision::Int8)).expect("a scale per block holds it");
}

#[test]
fn files_that_are_missing_cut_short_or_of_another_kind_are_refused() {
    for file in ["config.json", "model.safetensors", "tokenizer.json"] {
        let folder = folder();
        Sample::bert(64, Dtype::F32).write(folder.path());
        fs::remove_file(folder.path().join(file)).expect("it is there");
        let error = run(&job(folder.path(), TargetPrecision::Int8)).expect_err("a file is missing");
        assert!(matches!(&error, ConvertError::Missing { path } if path.ends_with(file)), "{error}");
    }
    let folder = folder();
    Sample::bert(64, Dtype::F32).write(folder.path());
    let weights = folder.path().join("model.safetensors");
    let bytes = fs::read(&weights).expect("it is there");
    fs::write(&weights, &bytes[..bytes.len() - 1]).expect("it can be written");
    assert!(matches!(run(&job(folder.path(), TargetPrecision::Int8)), Err(ConvertError::Corrupt { .. })));

    let mut sample = Sample::bert(64, Dtype::F32);
    sample.config["model_type"] = "gpt2".into();
    assert!(
        matches!(refused(&sample), ConvertError::UnknownArchitecture { architecture, .. } if architecture == "gpt2")
    );
    for (key, value) in
        [("hidden_act", "relu"), ("position_embedding_type", "relative_key"), ("quantization_config", "x")]
    {
        let mut sample = Sample::bert(64, Dtype::F32);
        sample.config[key] = value.into();
        assert!(matches!(refused(&sample), ConvertError::Unsupported { what, .. } if what.contains(value)), "{key}");
    }
    let mut sample = Sample::bert(64, Dtype::F32);
    sample.files.remove("1_Pooling/config.json");
    assert!(matches!(refused(&sample), ConvertError::UnknownPooling { .. }));
}

#[test]
fn an_index_that_leads_out_of_the_folder_or_names_what_is_not_there_is_refused() {
    for (shard, wanted) in [("../model.safetensors", "name"), ("/etc/passwd", "name"), ("x.safetensors", "no")] {
        let folder = folder();
        Sample::bert(64, Dtype::F32).write_sharded(folder.path());
        let index = serde_json::json!({"weight_map": {"a": shard}}).to_string();
        fs::write(folder.path().join("model.safetensors.index.json"), index).expect("it can be written");
        let error = run(&job(folder.path(), TargetPrecision::Int8)).expect_err("it must be refused");
        let refused = matches!(error, ConvertError::Corrupt { .. } | ConvertError::Missing { .. });
        assert!(refused && error.to_string().contains(wanted), "{error}");
    }
}

#[test]
fn a_target_of_another_kind_is_refused() {
    let folder = folder();
    Sample::bert(64, Dtype::F32).write(folder.path());
    fs::create_dir(folder.path().join("folder.gguf")).expect("it can be made");
    for name in ["x.bin", "x", "folder.gguf"] {
        let job = Job::new(folder.path(), folder.path().join(name), TargetPrecision::Int8);
        assert!(matches!(run(&job), Err(ConvertError::BadTarget { .. })), "{name}");
    }
}

#[test]
fn progress_grows_to_its_total() {
    let folder = folder();
    Sample::bert(64, Dtype::F32).write(folder.path());
    let mut seen: Vec<Progress> = Vec::new();
    let summary = convert(&job(folder.path(), TargetPrecision::Int8), &mut |progress| {
        seen.push(progress);
        ControlFlow::Continue(())
    });
    let summary = summary.expect("it is sound");
    assert!(seen.windows(2).all(|pair| pair[0].bytes_done < pair[1].bytes_done));
    let last = seen.last().expect("there was progress");
    assert_eq!((last.bytes_done, last.bytes_total), (last.bytes_total, summary.bytes_read + summary.bytes_written));
    assert!(seen.iter().any(|progress| progress.tensor == "blk.1.ffn_down.weight"));
}

/// Cancels the conversion after each of its blocks in turn, looking with `check` at what that leaves, until it is let through.
fn cancel_everywhere(job: &Job, check: impl Fn()) {
    for stop in 1.. {
        let mut calls = 0;
        let result = convert(job, &mut |_| {
            calls += 1;
            if calls == stop { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        if result.is_ok() {
            assert!(stop > 30, "every block was a place to cancel, there were {stop}");
            break;
        }
        assert!(matches!(result, Err(ConvertError::Cancelled { .. })));
        check();
    }
}

#[test]
fn cancelling_at_any_moment_leaves_the_old_model_and_nothing_else() {
    let folder = folder();
    Sample::bert(64, Dtype::F32).write(folder.path());
    let job = job(folder.path(), TargetPrecision::Int8);
    fs::write(&job.target, "the old model").expect("it can be written");
    cancel_everywhere(&job, || {
        assert_eq!(fs::read(&job.target).expect("it is there"), b"the old model");
        assert_eq!(fs::read_dir(folder.path().join("out")).expect("it is there").count(), 1);
    });
    assert_ne!(fs::read(&job.target).expect("it is there"), b"the old model");
}

/// The child of the next test: converts and, in the middle of it, says so and waits to be killed.
#[test]
fn a_victim_for_the_next_test() {
    let Some(folder) = std::env::var_os("EMBEDBAR_TEST_VICTIM") else { return };
    let mut calls = 0;
    let result = convert(&job(Path::new(&folder), TargetPrecision::Int8), &mut |_| {
        calls += 1;
        if calls == 20 {
            println!("\nhalf way");
            std::thread::sleep(std::time::Duration::from_mins(1));
        }
        ControlFlow::Continue(())
    });
    result.expect("it is sound");
}

#[test]
fn a_conversion_that_is_killed_leaves_the_old_model_and_the_next_one_clears_up() {
    let folder = folder();
    let sample = Sample::bert(64, Dtype::F32);
    sample.write(folder.path());
    let job = job(folder.path(), TargetPrecision::Int8);
    fs::write(&job.target, "the old model").expect("it can be written");
    let mut victim = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "convert::tests::a_victim_for_the_next_test", "--nocapture"])
        .env("EMBEDBAR_TEST_VICTIM", folder.path())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it can be started");
    let mut lines = BufReader::new(victim.stdout.take().expect("it is piped")).lines();
    assert!(lines.any(|line| line.is_ok_and(|line| line == "half way")), "the victim ended early");
    assert!(matches!(run(&job), Err(ConvertError::Busy { .. })), "the victim holds the lock");
    victim.kill().expect("it can be killed");
    victim.wait().expect("it has ended");
    assert_eq!(fs::read(&job.target).expect("it is there"), b"the old model");
    let debris = folder.path().join("out/.x.gguf.partial");
    assert!(fs::metadata(&debris).expect("it was killed half way").len() > 0);
    run(&job).expect("it is sound");
    assert!(!debris.exists());
    let (clean, _) = converted(&sample, TargetPrecision::Int8);
    assert!(fs::read(&job.target).expect("it is there") == fs::read(target(clean.path())).expect("it is there"));
}

#[test]
fn a_tensor_is_kept_as_the_type_of_its_source_keeps_it() {
    // Guards the guard: a wrong expectation here would let a wrong decoder pass above.
    let numbers = Numbers { shape: vec![1], values: vec![0.1], dtype: Dtype::BF16 };
    assert_ne!(numbers.kept(), numbers.values);
}

fn lengths(all: &[usize]) -> Lengths {
    let mut all = all.iter().map(|length| NonZeroUsize::new(*length).expect("it is not 0"));
    Lengths::new(all.next().expect("there is one"), all)
}

fn package(folder: &Path, precision: TargetPrecision, system: System) -> Job {
    let format = Format::Package(Package { lengths: lengths(&[12]), ..Package::native(system) });
    Job { format, target: folder.join("out/x.mlpackage"), ..job(folder, precision) }
}

/// All files below a folder, by their paths in it.
fn tree(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).expect("it can be listed") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder).expect("it is below").to_string_lossy().into_owned();
                files.insert(name, fs::read(&path).expect("it can be read"));
            }
        }
    }
    files
}

#[test]
fn a_package_is_made_by_streaming_in_each_precision_and_is_the_same_every_time() {
    for system in [System::MacOs13, System::MacOs15] {
        for precision in [TargetPrecision::Fp16, TargetPrecision::Int8, TargetPrecision::FourBit] {
            for sample in [Sample::bert(64, Dtype::F32), Sample::qwen3(Dtype::BF16)] {
                let folder = folder();
                sample.write(folder.path());
                let job = package(folder.path(), precision, system);
                let first = run(&job).expect("it is sound");
                let files = tree(&job.target);
                let names: Vec<&str> = files.keys().map(String::as_str).collect();
                let (model, weights) =
                    ("Data/com.apple.CoreML/model.mlmodel", "Data/com.apple.CoreML/weights/weight.bin");
                assert_eq!(names, [model, weights, "Manifest.json"]);
                let size: usize = files.values().map(Vec::len).sum();
                assert_eq!(first.bytes_written, size as u64);
                let lines: Vec<String> =
                    files.iter().map(|(name, bytes)| format!("{}  {name}\n", sha256(bytes))).collect();
                let lines = lines.concat();
                assert_eq!(first.output_sha256, sha256(lines.as_bytes()));
                assert_eq!(run(&job).expect("it replaces itself"), first);
                assert!(tree(&job.target) == files, "the same source gives the same bytes");
                // In shards, and so in another order, the tensors are the same.
                let sharded = self::folder();
                sample.write_sharded(sharded.path());
                let job = package(sharded.path(), precision, system);
                run(&job).expect("it is sound");
                assert!(tree(&job.target)[weights] == files[weights], "the order of the source does not show");
                let left: Vec<_> = fs::read_dir(folder.path().join("out")).expect("it is there").collect();
                assert_eq!(left.len(), 2, "the package and its tokenizer: {left:?}");
            }
        }
    }
}

#[test]
fn a_package_that_is_cancelled_leaves_the_old_one() {
    let folder = folder();
    Sample::bert(64, Dtype::F32).write(folder.path());
    let job = package(folder.path(), TargetPrecision::FourBit, System::MacOs13);
    run(&job).expect("it is sound");
    let old = tree(&job.target);
    let other = Job { precision: TargetPrecision::Int8, ..job.clone() };
    cancel_everywhere(&other, || {
        assert!(tree(&job.target) == old);
        assert_eq!(fs::read_dir(folder.path().join("out")).expect("it is there").count(), 2);
    });
    assert!(tree(&job.target) != old);
}

/// A conversion to packages that has its weights shared in a certain way.
fn run_sharing(job: &Job, how: Sharing) -> Result<Summary, ConvertError> {
    let Format::Package(package) = &job.format else { panic!("it is a package") };
    let configuration = Configuration::open(&job.source)?;
    let checkpoint = Checkpoint::open(&job.source, &configuration)?;
    let model = Model::recognise(&checkpoint, &configuration)?;
    let mut seen = Progress { bytes_done: 0, bytes_total: 0, tensor: String::new() };
    let progress = &mut |step| {
        seen = step;
        ControlFlow::Continue(())
    };
    let meter = Meter { done: 0, total: 0, source: &job.source, progress };
    let prepared = folder::make_sharing(job, package, "x", &checkpoint, &model, meter, &|_| Ok(how))?;
    assert_eq!(seen.bytes_done, seen.bytes_total, "{how:?}");
    prepared.commit()
}

fn several(folder: &Path, format: impl FnOnce(Package) -> Package) -> Job {
    let job = package(folder, TargetPrecision::Int8, System::MacOs14);
    let Format::Package(package) = job.format.clone() else { panic!("it is a package") };
    Job { format: Format::Package(format(package)), ..job }
}

const WEIGHTS: &str = "Data/com.apple.CoreML/weights/weight.bin";

/// The names in the folder of the target.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder.join("out")).expect("it can be listed");
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn several_lengths_are_packages_with_the_same_weights_however_those_are_shared() {
    for sample in [Sample::bert(64, Dtype::F32), Sample::qwen3(Dtype::BF16)] {
        let folder = folder();
        sample.write(folder.path());
        let job = several(folder.path(), |package| Package { lengths: lengths(&[12, 4, 16, 4]), ..package });
        let mut read = Vec::new();
        let found = convert(&job, &mut |step| {
            read.push(step.bytes_done);
            ControlFlow::Continue(())
        });
        let found = found.expect("it is sound");
        assert!(read.last() < Some(&(2 * found.bytes_read)), "the source is read once");
        let all = ["tokenizer.json", "x-16.mlpackage", "x-4.mlpackage", "x.mlpackage"];
        assert_eq!(names(folder.path()), all);
        let lengths: Vec<usize> = found.packages.iter().map(|package| package.length).collect();
        assert_eq!(lengths, [12, 4, 16]);
        let trees: Vec<_> = found.packages.iter().map(|package| tree(&package.path)).collect();
        for (package, files) in found.packages.iter().zip(&trees) {
            assert!(files[WEIGHTS] == trees[0][WEIGHTS], "{} has other weights", package.path.display());
            let lines = files.iter().map(|(name, bytes)| format!("{}  {name}\n", sha256(bytes)));
            assert_eq!(package.sha256, sha256(lines.collect::<String>().as_bytes()));
            assert_eq!(package.bytes, files.values().map(Vec::len).sum::<usize>() as u64);
            assert_eq!(package.weight_bytes, files[WEIGHTS].len() as u64);
        }
        assert_eq!((found.bytes_written, &found.output_sha256), (found.packages[0].bytes, &found.packages[0].sha256));
        for how in [Sharing::Linked, Sharing::Copied] {
            let made = run_sharing(&job, how).expect("it replaces what is there");
            assert_eq!(Summary { sharing: found.sharing, ..made }, found);
            assert_eq!(made.sharing, Some(how));
            let again: Vec<_> = found.packages.iter().map(|package| tree(&package.path)).collect();
            assert!(again == trees, "{how:?} gives other bytes");
            let inodes: BTreeSet<u64> = found
                .packages
                .iter()
                .map(|package| fs::metadata(package.path.join(WEIGHTS)).expect("it is there").ino())
                .collect();
            assert_eq!(inodes.len(), if how == Sharing::Linked { 1 } else { 3 }, "{how:?}");
        }
    }
}

#[test]
fn one_length_by_itself_and_as_the_longest_of_several_gives_the_same_package() {
    let folder = folder();
    Sample::qwen3(Dtype::BF16).write(folder.path());
    let alone = several(folder.path(), |package| package);
    let summary = run(&alone).expect("it is sound");
    assert_eq!((summary.sharing, summary.packages.len()), (None, 1));
    let files = tree(&alone.target);
    run(&several(folder.path(), |package| Package { lengths: lengths(&[12, 8]), ..package })).expect("it is sound");
    assert!(tree(&alone.target) == files);
}

/// The data of each tensor in the packages of the first length, by its name. Everything else in their weight files is checked.
fn stored(job: &Job, packages: &[PackageSummary]) -> BTreeMap<String, Vec<Vec<u8>>> {
    let Format::Package(package) = &job.format else { panic!("it is a package") };
    let configuration = Configuration::open(&job.source).expect("it is sound");
    let checkpoint = Checkpoint::open(&job.source, &configuration).expect("it is sound");
    let model = Model::recognise(&checkpoint, &configuration).expect("it is sound");
    let options = folder::options(job, package, "x", &model).expect("it is sound");
    let plans = folder::plans(package, &options, &model).expect("it fits the model").swap_remove(0);
    let mut found = BTreeMap::new();
    for (plan, package) in plans.iter().zip(packages) {
        let file = fs::read(package.path.join(WEIGHTS)).expect("it is there");
        assert_eq!((file.len() as u64, &file[..64]), (plan.weight_bytes, plan.file_head().as_slice()));
        let data = |place: &Place| {
            assert_eq!(file[place.offset as usize..][..64], place.head(), "{}", package.path.display());
            file[place.data_offset() as usize..][..place.bytes() as usize].to_vec()
        };
        for segment in &plan.segments {
            match segment {
                Segment::Constant { place, constant } => assert!(data(place) == constant.bytes()),
                Segment::Stored(stored) => {
                    let arrays = [Some(stored.form.codes()), stored.form.rest()];
                    let arrays = arrays.iter().flatten().map(data).collect();
                    let twice = found.insert(plan.weights[stored.weight].name.clone(), arrays);
                    assert!(twice.is_none(), "a tensor is in two chunks");
                }
            }
        }
    }
    found
}

#[test]
fn a_model_that_is_too_large_for_a_package_becomes_a_chain_of_them() {
    let folder = folder();
    Sample::qwen3(Dtype::BF16).write(folder.path());
    let alone = several(folder.path(), |package| package);
    let whole = run(&alone).expect("it is sound");
    let tensors = stored(&alone, &whole.packages);
    fs::remove_dir_all(&whole.packages[0].path).expect("it can be removed");
    let limit = whole.packages[0].weight_bytes * 2 / 3;
    let job =
        several(folder.path(), |package| Package { lengths: lengths(&[12, 8]), chunk_bytes: Some(limit), ..package });
    let chain = run(&job).expect("it can be split");
    let chunks = ["x-1of2.mlpackage", "x-2of2.mlpackage", "x-8-1of2.mlpackage", "x-8-2of2.mlpackage"];
    assert_eq!(names(folder.path()), [["tokenizer.json"].as_slice(), &chunks].concat());
    let order: Vec<String> = chain
        .packages
        .iter()
        .map(|package| package.path.file_name().expect("it has one").to_string_lossy().into_owned())
        .collect();
    assert_eq!(order, chunks);
    assert!(chain.packages.iter().all(|package| package.weight_bytes <= limit));
    assert_eq!(chain.bytes_written, chain.packages[..2].iter().map(|package| package.bytes).sum::<u64>());
    let lines = order[..2].iter().zip(&chain.packages).map(|(name, package)| format!("{}  {name}\n", package.sha256));
    assert_eq!(chain.output_sha256, sha256(lines.collect::<String>().as_bytes()));
    assert_eq!(chain.tensors, whole.tensors, "each tensor is in one of the chunks");
    assert_eq!((&chain.input_sha256, chain.bytes_read), (&whole.input_sha256, whole.bytes_read));
    assert!(stored(&job, &chain.packages) == tensors, "the chunks have the numbers that one package has");
    let files: Vec<_> = chain.packages.iter().map(|package| tree(&package.path)).collect();
    assert!(files[0][WEIGHTS] == files[2][WEIGHTS] && files[1][WEIGHTS] == files[3][WEIGHTS]);
    assert_eq!(run(&job).expect("it replaces itself"), chain);
    let again: Vec<_> = chain.packages.iter().map(|package| tree(&package.path)).collect();
    assert!(again == files, "the same source gives the same bytes");

    let roomy = several(folder.path(), |package| Package { chunk_bytes: Some(u64::MAX), ..package });
    assert_eq!(run(&roomy).expect("it is sound"), whole, "a model that fits stays in one package");
    let tiny = several(folder.path(), |package| Package { chunk_bytes: Some(1000), ..package });
    let error = run(&tiny).expect_err("no layer fits");
    assert!(matches!(error, ConvertError::LayerTooLarge { layer: 1, limit: 1000, .. }), "{error}");
}

#[test]
fn several_packages_that_are_cancelled_leave_the_old_ones() {
    let folder = folder();
    Sample::bert(64, Dtype::F32).write(folder.path());
    let whole = run(&several(folder.path(), |package| package)).expect("it is sound");
    fs::remove_dir_all(&whole.packages[0].path).expect("it can be removed");
    let limit = Some(whole.packages[0].weight_bytes * 2 / 3);
    let make = |normalise| {
        several(folder.path(), |package| Package {
            lengths: lengths(&[12, 8]),
            chunk_bytes: limit,
            normalise: Some(normalise),
            ..package
        })
    };
    let old = run(&make(true)).expect("it is sound");
    let trees = || -> Vec<_> { old.packages.iter().map(|package| tree(&package.path)).collect() };
    let (before, listed) = (trees(), names(folder.path()));
    assert_eq!(before.len(), 4);
    cancel_everywhere(&make(false), || {
        assert!(trees() == before);
        assert_eq!(names(folder.path()), listed);
    });
    assert!(trees() != before);
}

#[test]
fn the_packages_of_further_lengths_replace_nothing_else_either() {
    let folder = folder();
    Sample::bert(64, Dtype::F32).write(folder.path());
    let job = several(folder.path(), |package| Package { lengths: lengths(&[12, 8]), ..package });
    fs::create_dir_all(folder.path().join("out/x-8.mlpackage/precious")).expect("it can be made");
    let error = run(&job).expect_err("it would be lost");
    assert!(matches!(&error, ConvertError::BadTarget { path, .. } if path.ends_with("x-8.mlpackage")), "{error}");
    assert_eq!(names(folder.path()), ["x-8.mlpackage"]);
    assert!(folder.path().join("out/x-8.mlpackage/precious").exists());
}

#[test]
fn a_package_is_not_put_in_the_place_of_another_folder_and_wants_a_length_that_the_model_has() {
    let folder = folder();
    Sample::bert(64, Dtype::F32).write(folder.path());
    let job = package(folder.path(), TargetPrecision::Int8, System::MacOs14);
    fs::create_dir_all(job.target.join("precious")).expect("it can be made");
    assert!(matches!(run(&job), Err(ConvertError::BadTarget { .. })));
    assert!(job.target.join("precious").exists());
    fs::remove_dir_all(&job.target).expect("it can be removed");
    let Format::Package(package) = job.format.clone() else { panic!("it is a package") };
    let long = Package { lengths: lengths(&[8, 17]), ..package.clone() };
    let error = run(&Job { format: Format::Package(long), ..job.clone() }).expect_err("there are 16 positions");
    assert!(matches!(&error, ConvertError::Unsupported { what, .. } if what.contains("17")), "{error}");
    let deep = Package { layers: Package::PAPR_LAYERS, ..package };
    let error = run(&Job { format: Format::Package(deep), ..job }).expect_err("there are 2 layers");
    assert!(matches!(&error, ConvertError::Unsupported { what, .. } if what.contains('4')), "{error}");
}

#[test]
fn four_bits_are_q4_k_where_rows_divide_q4_0_where_they_half_do_and_the_tokens_stay_at_eight() {
    for (width, matrix, fell_back) in [(256, GgmlDType::Q4K, false), (64, GgmlDType::Q4_0, true)] {
        let sample = Sample::bert(width, Dtype::F32);
        let (folder, summary) = converted(&sample, TargetPrecision::FourBit);
        let summary = summary.expect("it is sound");
        let found = read(&target(folder.path()));
        assert_eq!(found.tensors["token_embd.weight"].0, GgmlDType::Q8_0);
        let (dtype, _, numbers) = &found.tensors["blk.0.attn_q.weight"];
        let source = &sample.tensors["encoder.layer.0.attention.self.query.weight"].values;
        let most = source.iter().fold(0.0_f32, |most, number| most.max(number.abs()));
        assert_eq!(*dtype, matrix);
        assert!(farthest(numbers, source) <= most / 7.0, "4 bits are about 16 steps from end to end");
        let told = summary.tensors.iter().find(|tensor| tensor.name == "blk.0.attn_q.weight").expect("it is there");
        assert_eq!(told.fell_back, fell_back);
    }
}
