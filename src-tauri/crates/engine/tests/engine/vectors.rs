//! Vectors are those of the definition, for every layout, type, recipe and company of a text.

use std::path::Path;

use candle_core::quantized::GgmlDType;
use embedbar_contract::{BackendName, Precision, PromptKind, RecipeName};
use embedbar_engine::{Arithmetic, Engine, How, Padding};
use safetensors::Dtype;
use serde_json::{Value, json};

use crate::{
    make::{self, CLS, END, Model, SEP, ids, texts},
    reference,
};

fn open(path: &Path) -> Engine {
    Engine::open("small", path).unwrap_or_else(|error| panic!("{error}"))
}

pub(crate) fn embed(engine: &mut Engine, recipe: RecipeName) -> Vec<Vec<f32>> {
    engine.embed(&texts(), PromptKind::None, recipe).unwrap_or_else(|error| panic!("{error}")).vectors
}

/// What a BERT gives for each of the texts.
pub(crate) fn bert_vectors(model: &Model) -> Vec<Vec<f32>> {
    let vector = |text: &String| {
        let ids = [vec![CLS], ids(text), vec![SEP]].concat();
        reference::normalized(&reference::mean(reference::bert(model, &ids).last().unwrap()))
    };
    texts().iter().map(vector).collect()
}

/// What a NomicBERT gives for each of the texts.
pub(crate) fn nomic_bert_vectors(model: &Model) -> Vec<Vec<f32>> {
    let vector = |text: &String| {
        let ids = [vec![CLS], ids(text), vec![SEP]].concat();
        reference::normalized(&reference::mean(reference::nomic_bert(model, &ids).last().unwrap()))
    };
    texts().iter().map(vector).collect()
}

/// What a Qwen3 gives for each of the texts: the last token's state.
pub(crate) fn qwen3_vectors(model: &Model) -> Vec<Vec<f32>> {
    let vector = |text: &String| {
        let ids = [ids(text), vec![END]].concat();
        reference::normalized(reference::qwen3(model, &ids).last().unwrap().last().unwrap())
    };
    texts().iter().map(vector).collect()
}

pub(crate) fn largest_difference(ours: &[Vec<f32>], wanted: &[Vec<f32>]) -> f32 {
    assert_eq!(ours.len(), wanted.len());
    let pairs = ours.iter().flatten().zip(wanted.iter().flatten());
    assert_eq!(ours.concat().len(), wanted.concat().len());
    pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

pub(crate) fn smallest_cosine(ours: &[Vec<f32>], wanted: &[Vec<f32>]) -> f32 {
    let cosine = |(a, b): (&Vec<f32>, &Vec<f32>)| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    ours.iter().zip(wanted).map(cosine).fold(1.0, f32::min)
}

/// A model whose numbers are rounded to `dtype` and back.
pub(crate) fn rounded(model: &Model, dtype: Dtype) -> Model {
    let mut model = model.clone();
    for value in model.tensors.values_mut().flat_map(|numbers| &mut numbers.values) {
        *value = match dtype {
            Dtype::F16 => half::f16::from_f32(*value).to_f32(),
            Dtype::BF16 => half::bf16::from_f32(*value).to_f32(),
            _ => *value,
        };
    }
    model
}

#[test]
fn bert_from_safetensors_is_the_definition_in_every_type() {
    let model = make::bert(32);
    for (dtype, precision) in
        [(Dtype::F32, Precision::Fp32), (Dtype::F16, Precision::Fp16), (Dtype::BF16, Precision::Fp16)]
    {
        let folder = tempfile::tempdir().unwrap();
        model.write(folder.path(), dtype);
        let mut engine = open(folder.path());
        let wanted = bert_vectors(&rounded(&model, dtype));
        let difference = largest_difference(&embed(&mut engine, RecipeName::Native), &wanted);
        assert!(difference < 2e-6, "{dtype:?}: {difference}");
        assert_eq!(engine.generation(RecipeName::Native).precision, precision);
        assert_eq!((engine.dims(), engine.max_tokens(), engine.backend()), (32, 64, BackendName::CandleCpu));
    }
}

#[test]
fn qwen3_from_safetensors_is_the_definition_in_every_type() {
    let model = make::qwen3(64);
    for dtype in [Dtype::F32, Dtype::F16, Dtype::BF16] {
        let folder = tempfile::tempdir().unwrap();
        model.write(folder.path(), dtype);
        let mut engine = open(folder.path());
        let wanted = qwen3_vectors(&rounded(&model, dtype));
        let difference = largest_difference(&embed(&mut engine, RecipeName::Native), &wanted);
        assert!(difference < 5e-6, "{dtype:?}: {difference}");
    }
}

#[test]
fn nomic_bert_is_the_definition_in_every_type_and_in_either_form_of_its_configuration() {
    let model = make::nomic_bert(32);
    assert!(texts().iter().any(|text| ids(text).len() > make::TRAINED), "positions have to stretch");
    for dtype in [Dtype::F32, Dtype::F16, Dtype::BF16] {
        let wanted = nomic_bert_vectors(&rounded(&model, dtype));
        let found = [model.clone(), model.native_nomic()].map(|model| {
            let folder = tempfile::tempdir().unwrap();
            model.write(folder.path(), dtype);
            let mut engine = open(folder.path());
            // Heads of 8 numbers do not suit the kernels.
            assert_eq!((engine.dims(), engine.max_tokens(), engine.backend()), (32, 64, BackendName::CandleCpu));
            embed(&mut engine, RecipeName::Native)
        });
        let difference = largest_difference(&found[0], &wanted);
        assert!(difference < 2e-6, "{dtype:?}: {difference}");
        assert_eq!(found[0], found[1], "{dtype:?}");
    }
}

#[test]
fn nomic_bert_from_gguf_is_the_definition_on_the_rounded_weights() {
    let model = make::nomic_bert(256);
    for (dtype, precision) in [
        (GgmlDType::F16, Precision::Fp16),
        (GgmlDType::Q8_0, Precision::Int8),
        (GgmlDType::Q4_0, Precision::FourBit),
        (GgmlDType::Q4K, Precision::FourBit),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let rounded = model.write_gguf(folder.path(), dtype);
        let path = folder.path().join("model.gguf");
        let how = How { arithmetic: Arithmetic::Candle, ..How::default() };
        let mut engine = Engine::open_as("test", &path, &how).unwrap();
        let difference = largest_difference(&embed(&mut engine, RecipeName::Native), &nomic_bert_vectors(&rounded));
        assert!(difference < 5e-6, "{dtype:?}: {difference}");
        assert_eq!(engine.generation(RecipeName::Native).precision, precision);
        // A file has no prompts; the family's own are asked for.
        let recipe = engine.recipe(RecipeName::Native);
        assert_eq!([recipe.prompts.query.as_str(), &recipe.prompts.document], ["search_query: ", "search_document: "]);
    }
}

#[test]
fn bert_from_gguf_is_the_definition_on_the_rounded_weights() {
    let model = make::bert(256);
    for (dtype, precision) in [
        (GgmlDType::F16, Precision::Fp16),
        (GgmlDType::Q8_0, Precision::Int8),
        (GgmlDType::Q4_0, Precision::FourBit),
        (GgmlDType::Q4_1, Precision::FourBit),
        (GgmlDType::Q4K, Precision::FourBit),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let rounded = model.write_gguf(folder.path(), dtype);
        // candle widens this architecture to F32, so that nothing but the weights is rounded.
        let path = folder.path().join("model.gguf");
        let mut engine =
            Engine::open_as("test", &path, &How { arithmetic: Arithmetic::Candle, ..How::default() }).unwrap();
        let difference = largest_difference(&embed(&mut engine, RecipeName::Native), &bert_vectors(&rounded));
        assert!(difference < 5e-6, "{dtype:?}: {difference}");
        assert_eq!(engine.generation(RecipeName::Native).precision, precision);
    }
}

#[test]
fn qwen3_from_gguf_is_near_the_definition_on_the_rounded_weights() {
    let model = make::qwen3(256);
    // Inputs of products with quantised weights are rounded to 8 bits, so only exact types are exact.
    for (dtype, cosine) in [
        (GgmlDType::F32, 0.999_999),
        (GgmlDType::F16, 0.999_999),
        (GgmlDType::Q8_0, 0.998),
        (GgmlDType::Q4_0, 0.998),
        (GgmlDType::Q4_1, 0.998),
        (GgmlDType::Q4K, 0.998),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let rounded = model.write_gguf(folder.path(), dtype);
        let mut engine = open(&folder.path().join("model.gguf"));
        let found = smallest_cosine(&embed(&mut engine, RecipeName::Native), &qwen3_vectors(&rounded));
        assert!(found > cosine, "{dtype:?}: {found}");
    }
}

#[test]
fn a_batch_gives_what_each_text_gives_alone() {
    for model in [make::bert(32), make::nomic_bert(32), make::nomic_bert(64), make::qwen3(64)] {
        let folder = tempfile::tempdir().unwrap();
        model.write(folder.path(), Dtype::F32);
        let mut engine = open(folder.path());
        for recipe in [RecipeName::Native, RecipeName::Papr] {
            let together = embed(&mut engine, recipe);
            let alone: Vec<Vec<f32>> = texts()
                .iter()
                .map(|text| {
                    engine.embed(std::slice::from_ref(text), PromptKind::None, recipe).unwrap().vectors.remove(0)
                })
                .collect();
            let difference = largest_difference(&together, &alone);
            assert!(difference < 2e-6, "{recipe}: {difference}");
        }
    }
}

#[test]
fn the_papr_recipe_is_the_mean_of_the_last_four_layers_of_32_tokens() {
    for model in [make::bert(32), make::qwen3(64)] {
        let folder = tempfile::tempdir().unwrap();
        model.write(folder.path(), Dtype::F32);
        let mut engine = open(folder.path());
        let wanted: Vec<Vec<f32>> = texts()
            .iter()
            .map(|text| {
                let is_bert = model.config["model_type"] == "bert";
                let (before, end, room) = if is_bert { (vec![CLS], SEP, 30) } else { (vec![], END, 31) };
                let mut text = ids(text);
                text.truncate(room);
                let ids = [before, text, vec![end]].concat();
                let layers = if is_bert { reference::bert(&model, &ids) } else { reference::qwen3(&model, &ids) };
                reference::normalized(&reference::mean_of_last_four(&layers))
            })
            .collect();
        let difference = largest_difference(&embed(&mut engine, RecipeName::Papr), &wanted);
        assert!(difference < 5e-6, "{difference}");
    }
}

#[test]
fn padding_that_is_read_counts_like_text() {
    let model = make::qwen3(64);
    let folder = tempfile::tempdir().unwrap();
    model.write(folder.path(), Dtype::F32);
    let mut engine = open(folder.path());
    let mut recipe = engine.recipe(RecipeName::Papr);
    recipe.padding = Padding::ReadUpTo(8);
    recipe.layers = 1;
    let batch = engine.embed_by(&["w1 w2".to_owned()], PromptKind::None, &recipe).unwrap();
    // The tokenizer's padding token is `<|endoftext|>`.
    let ids = [ids("w1 w2"), vec![END; 6]].concat();
    let wanted = reference::normalized(&reference::mean(reference::qwen3(&model, &ids).last().unwrap()));
    assert!(largest_difference(&batch.vectors, &[wanted]) < 2e-6);
    assert_eq!(batch.tokens, [3]);
}

#[test]
fn every_truncation_is_reported_with_its_counts() {
    let folder = tempfile::tempdir().unwrap();
    make::bert(32).write(folder.path(), Dtype::F32);
    std::fs::write(folder.path().join("sentence_bert_config.json"), r#"{"max_seq_length": 10}"#).unwrap();
    let mut engine = open(folder.path());
    assert_eq!(engine.max_tokens(), 10);
    let batch = engine.embed(&texts(), PromptKind::None, RecipeName::Native).unwrap();
    for ((text, tokens), truncated) in texts().iter().zip(&batch.tokens).zip(&batch.truncated) {
        let whole = ids(text).len() + 2;
        assert_eq!(*tokens, whole.min(10));
        let counts = truncated.map(|truncation| (truncation.total_tokens, truncation.kept_tokens));
        assert_eq!(counts, (whole > 10).then_some((whole, 10)));
    }
}

#[test]
fn a_prompt_goes_in_front_only_when_it_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    make::bert(32).write(folder.path(), Dtype::F32);
    let prompts = json!({"prompts": {"query": "w7 w8 ", "document": ""}, "default_prompt_name": "query"});
    std::fs::write(folder.path().join("config_sentence_transformers.json"), prompts.to_string()).unwrap();
    let mut engine = open(folder.path());
    let mut vector =
        |text: &str, prompt| engine.embed(&[text.to_owned()], prompt, RecipeName::Native).unwrap().vectors.remove(0);
    assert_eq!(vector("w1", PromptKind::Query), vector("w7 w8 w1", PromptKind::None));
    assert_eq!(vector("w1", PromptKind::Document), vector("w1", PromptKind::None));
    assert_ne!(vector("w1", PromptKind::Query), vector("w1", PromptKind::None));
}

#[test]
fn no_texts_give_no_vectors() {
    let folder = tempfile::tempdir().unwrap();
    make::bert(32).write(folder.path(), Dtype::F32);
    let batch = open(folder.path()).embed(&[], PromptKind::None, RecipeName::Native).unwrap();
    assert!(batch.vectors.is_empty() && batch.tokens.is_empty() && batch.truncated.is_empty());
}

/// Configurations as they are found in the wild, and names with the prefix of the class that saved them.
#[test]
fn a_checkpoint_reads_the_same_however_transformers_wrote_it() {
    type Change = fn(&mut Value);
    let bert: [(&str, Change); 3] = [
        ("", |_| {}),
        ("bert.", |config| {
            config.as_object_mut().unwrap().remove("position_embedding_type");
            config["dtype"] = json!("float32");
        }),
        ("", |config| {
            config.as_object_mut().unwrap().remove("model_type");
            config["torch_dtype"] = json!("float32");
        }),
    ];
    let qwen3: [(&str, Change); 4] = [
        ("", |_| {}),
        ("model.", |config| {
            config.as_object_mut().unwrap().remove("rope_parameters");
            config["rope_theta"] = json!(10_000);
            config["rope_scaling"] = Value::Null;
        }),
        ("", |config| {
            config.as_object_mut().unwrap().remove("head_dim");
            config.as_object_mut().unwrap().remove("architectures");
        }),
        ("", |config| config["layer_types"] = json!(vec!["full_attention"; 5])),
    ];
    for (model, variants) in [(make::bert(32), bert.as_slice()), (make::qwen3(64), qwen3.as_slice())] {
        let mut first: Option<Vec<Vec<f32>>> = None;
        for (prefix, change) in variants {
            let folder = tempfile::tempdir().unwrap();
            let mut variant = model.prefixed(prefix);
            change(&mut variant.config);
            variant.write_tensors(&folder.path().join("model.safetensors"), Dtype::F32, |_| true);
            model.write_configuration(folder.path());
            std::fs::write(folder.path().join("config.json"), variant.config.to_string()).unwrap();
            let vectors = embed(&mut open(folder.path()), RecipeName::Native);
            assert_eq!(first.get_or_insert(vectors.clone()), &vectors, "`{prefix}` {}", variant.config);
        }
    }
}

#[test]
fn norms_named_gamma_and_beta_are_found() {
    let model = make::bert(32);
    let mut old = model.clone();
    old.tensors = model
        .tensors
        .iter()
        .map(|(name, numbers)| {
            let name = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta");
            (name, numbers.clone())
        })
        .collect();
    let [new, old] = [model, old].map(|model| {
        let folder = tempfile::tempdir().unwrap();
        model.write(folder.path(), Dtype::F32);
        embed(&mut open(folder.path()), RecipeName::Native)
    });
    assert_eq!(new, old);
}

#[test]
fn shards_are_one_model() {
    let model = make::qwen3(64);
    let folder = tempfile::tempdir().unwrap();
    model.write_configuration(folder.path());
    let second = |name: &str| name.starts_with("layers.3") || name.starts_with("layers.4");
    model.write_tensors(&folder.path().join("a.safetensors"), Dtype::F32, |name| !second(name));
    model.write_tensors(&folder.path().join("b.safetensors"), Dtype::F32, second);
    let map: serde_json::Map<String, Value> = model
        .tensors
        .keys()
        .map(|name| (name.clone(), json!(if second(name) { "b.safetensors" } else { "a.safetensors" })))
        .collect();
    let index = json!({"metadata": {"total_size": 1}, "weight_map": map});
    std::fs::write(folder.path().join("model.safetensors.index.json"), index.to_string()).unwrap();
    let vectors = embed(&mut open(folder.path()), RecipeName::Native);
    assert!(largest_difference(&vectors, &qwen3_vectors(&model)) < 5e-6);
}

#[test]
fn the_revision_names_weights_tokenizer_and_recipe_facts() {
    let model = make::bert(32);
    let revision = |model: &Model, length: usize, tokenizer: &dyn Fn(&mut Value)| {
        let folder = tempfile::tempdir().unwrap();
        model.write(folder.path(), Dtype::F32);
        let mut changed = make::tokenizer(true);
        tokenizer(&mut changed);
        std::fs::write(folder.path().join("tokenizer.json"), changed.to_string()).unwrap();
        let config = json!({"max_seq_length": length});
        std::fs::write(folder.path().join("sentence_bert_config.json"), config.to_string()).unwrap();
        open(folder.path()).generation(RecipeName::Native).revision
    };
    let first = revision(&model, 64, &|_| {});
    assert_eq!(first.len(), 16);
    assert!(first.bytes().all(|byte| byte.is_ascii_hexdigit()));
    assert_eq!(first, revision(&model, 64, &|_| {}));
    assert_ne!(first, revision(&model, 32, &|_| {}));
    assert_ne!(first, revision(&model, 64, &|tokenizer| tokenizer["model"]["vocab"]["w0"] = json!(0)));
    for (figure, value) in [
        ("num_hidden_layers", json!(2)),
        ("num_attention_heads", json!(2)),
        ("layer_norm_eps", json!(1e-5)),
        ("hidden_act", json!("relu")),
    ] {
        let mut other = model.clone();
        other.config[figure] = value;
        assert_ne!(first, revision(&other, 64, &|_| {}), "{figure}");
    }
    let mut other = model;
    other.tensors.get_mut("encoder.layer.1.output.dense.weight").unwrap().values[5] += 0.1;
    assert_ne!(first, revision(&other, 64, &|_| {}));
}

#[test]
fn a_table_of_positions_may_be_longer_than_the_texts_that_are_read() {
    let mut model = make::bert(32);
    let whole = bert_vectors(&model);
    model.config["max_position_embeddings"] = json!(50);
    let folder = tempfile::tempdir().unwrap();
    model.write(folder.path(), Dtype::F32);
    let mut engine = open(folder.path());
    assert_eq!(engine.max_tokens(), 50);
    assert!(largest_difference(&embed(&mut engine, RecipeName::Native), &whole) < 2e-6);
}
