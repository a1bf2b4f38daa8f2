//! The engine against values that other implementations computed: sentence-transformers, transformers and onnxruntime.
//!
//! README.md says how the values were made. Nothing here measures speed.

mod gguf;
mod mlx;

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use anyhow::Result;
use embedbar_catalog::{Architecture, Catalogue, Storage};
use embedbar_contract::{Precision, PromptKind, RecipeName};
use embedbar_convert::{Format, Job, Package, System, TargetPrecision, convert};
use embedbar_engine::{Arithmetic, Batch, Engine, How, Padding, Pooling, Recipe};
use embedbar_tests::checkpoint;
use embedbar_tests::program::checkout;
use embedbar_tests::reference::{self, Reference, assert_near, largest_difference, mean_cosine, texts};
use safetensors::SafeTensors;
use safetensors::tensor::TensorView;
use tempfile::TempDir;

/// Same arithmetic in another order: nothing but rounding may differ.
const EXACT: f64 = 0.999_99;
/// Weights of sixteen bits.
const HALF: f64 = 0.9999;
/// Weights of eight bits.
const QUANTISED: f64 = 0.999;
/// What padding may change.
const ROUNDING: f32 = 1e-5;

fn open(path: &Path) -> Engine {
    Engine::open("truth", path).unwrap_or_else(|error| panic!("`{}`: {error}", path.display()))
}

fn native(engine: &mut Engine, texts: &[String], prompt: PromptKind) -> Batch {
    engine.embed(texts, prompt, RecipeName::Native).expect("every text can be embedded")
}

/// The texts that a reference of some of them is about.
fn chosen(reference: &Reference) -> Vec<String> {
    let all = texts();
    reference.counts("indices").into_iter().map(|index| all[index].clone()).collect()
}

/// The committed checkpoint NAME with the side files that older libraries wrote.
fn as_older_libraries_write(name: &str) -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    for file in ["model.safetensors", "tokenizer.json"] {
        copy(&reference::folder().join(name).join(file), &folder.path().join(file));
    }
    copy_all(&reference::folder().join(format!("{name}-old")), folder.path());
    folder
}

fn copy(from: &Path, to: &Path) {
    fs::copy(from, to).unwrap_or_else(|error| panic!("`{}` cannot be copied: {error}", from.display()));
}

fn copy_all(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap_or_else(|error| panic!("`{}`: {error}", from.display())) {
        let path = entry.expect("the folder can be listed").path();
        let target = to.join(path.file_name().expect("an entry has a name"));
        if path.is_dir() {
            fs::create_dir_all(&target).expect("a folder can be made");
            copy_all(&path, &target);
        } else {
            copy(&path, &target);
        }
    }
}

/// Counts of tokens read and, where the text was longer, of all.
fn assert_counts(batch: &Batch, read: &[usize], total: &[usize]) {
    assert_eq!(batch.tokens, read, "tokens that were read");
    for (index, truncated) in batch.truncated.iter().enumerate() {
        let found = truncated.map(|truncated| (truncated.total_tokens, truncated.kept_tokens));
        let expected = (total[index] > read[index]).then_some((total[index], read[index]));
        assert_eq!(found, expected, "truncation of text {index}");
    }
}

#[test]
fn the_values_belong_to_the_texts_and_files_that_are_committed() -> Result<()> {
    let sentences = checkpoint::sha256(&reference::folder().join("sentences.json"))?;
    for name in ["minilm", "qwen3-small", "bert-small", "xlm-roberta-small", "nomic-bert-small"] {
        let provenance = Reference::provenance(name);
        assert_eq!(provenance["sentences_sha256"], sentences, "{name}");
        let values = checkpoint::sha256(&reference::folder().join(format!("{name}.safetensors")))?;
        assert_eq!(provenance["sha256"], values, "{name}");
        let files = provenance["checkpoint"].as_object().expect("a checkpoint is named");
        for (file, expected) in files.iter().filter(|_| name != "minilm") {
            let found = checkpoint::sha256(&reference::folder().join(name).join(file))?;
            assert_eq!(expected, &found, "{name}/{file}");
        }
    }
    assert!(texts().len() >= 100);
    Ok(())
}

#[test]
fn minilm_in_f32_gives_the_vectors_of_sentence_transformers() -> Result<()> {
    let Some(path) = checkpoint::minilm_or_skip("minilm_in_f32_gives_the_vectors_of_sentence_transformers")? else {
        return Ok(());
    };
    let (texts, reference) = (texts(), Reference::open("minilm"));
    let batch = native(&mut open(&path), &texts, PromptKind::None);
    assert_counts(&batch, &reference.counts("token_counts"), &reference.counts("total_counts"));
    assert_near(&batch.vectors, &reference.vectors("embeddings"), &texts, EXACT);
    Ok(())
}

#[test]
fn the_bundled_int8_model_stays_near_the_vectors_of_sentence_transformers() {
    let (texts, reference) = (texts(), Reference::open("minilm"));
    let path = checkout().join("models/bundled/all-MiniLM-L6-v2-int8.gguf");
    // candle widens this architecture to F32: what is left is the rounding of the weights. The kernels round inputs as well.
    for (arithmetic, least, mean) in [(Arithmetic::Candle, QUANTISED, QUANTISED), (Arithmetic::Kernels, 0.997, 0.999)] {
        let how = How { arithmetic, ..How::default() };
        let mut engine = Engine::open_as("test", &path, &how).expect("the bundled model");
        let batch = native(&mut engine, &texts, PromptKind::None);
        assert_counts(&batch, &reference.counts("token_counts"), &reference.counts("total_counts"));
        let expected = reference.vectors("embeddings");
        assert_near(&batch.vectors, &expected, &texts, least);
        let found = mean_cosine(&batch.vectors, &expected);
        assert!(found >= mean, "{arithmetic:?}: the mean cosine is {found}");
    }
}

#[test]
fn a_batch_gives_what_each_text_gives_alone() -> Result<()> {
    let minilm = checkpoint::minilm_or_skip("a_batch_gives_what_each_text_gives_alone")?;
    let small = ["qwen3-small", "bert-small", "xlm-roberta-small", "nomic-bert-small"]
        .map(|name| reference::folder().join(name));
    for path in minilm.into_iter().chain(small) {
        // Every fourth text, and the longest, which pad the others most.
        let (all, mut engine) = (texts(), open(&path));
        let texts: Vec<String> = all.iter().step_by(4).chain(all.last()).cloned().collect();
        let together = native(&mut engine, &texts, PromptKind::None);
        let alone: Vec<Vec<f32>> = texts
            .iter()
            .map(|text| native(&mut engine, std::slice::from_ref(text), PromptKind::None).vectors.remove(0))
            .collect();
        let difference = largest_difference(&together.vectors, &alone);
        assert!(difference <= ROUNDING, "`{}` differs by {difference}", path.display());
    }
    Ok(())
}

#[test]
fn bert_with_first_token_pooling_gives_the_vectors_of_transformers() {
    let (texts, reference) = (texts(), Reference::open("bert-small"));
    let mut engine = open(&reference::folder().join("bert-small"));
    let batch = native(&mut engine, &texts, PromptKind::None);
    assert_counts(&batch, &reference.counts("token_counts"), &reference.counts("total_counts"));
    assert_near(&batch.vectors, &reference.vectors("native"), &texts, EXACT);
    let queries = native(&mut engine, &texts, PromptKind::Query);
    assert_near(&queries.vectors, &reference.vectors("native_query"), &texts, EXACT);
}

#[test]
fn xlm_roberta_gives_the_vectors_of_transformers() {
    let (texts, reference) = (texts(), Reference::open("xlm-roberta-small"));
    let mut engine = open(&reference::folder().join("xlm-roberta-small"));
    let batch = native(&mut engine, &texts, PromptKind::None);
    assert_counts(&batch, &reference.counts("token_counts"), &reference.counts("total_counts"));
    assert_near(&batch.vectors, &reference.vectors("native"), &texts, EXACT);
    let queries = native(&mut engine, &texts, PromptKind::Query);
    assert_near(&queries.vectors, &reference.vectors("native_query"), &texts, EXACT);
}

#[test]
fn nomic_bert_gives_the_vectors_of_transformers() {
    let (texts, reference) = (texts(), Reference::open("nomic-bert-small"));
    let path = reference::folder().join("nomic-bert-small");
    // On the kernels and on candle: both have to stretch the positions of the texts that are longer than the training's.
    for arithmetic in [Arithmetic::Kernels, Arithmetic::Candle] {
        let mut engine =
            Engine::open_as("truth", &path, &How { arithmetic, ..How::default() }).expect("it can be read");
        let batch = native(&mut engine, &texts, PromptKind::None);
        assert_counts(&batch, &reference.counts("token_counts"), &reference.counts("total_counts"));
        assert_near(&batch.vectors, &reference.vectors("native"), &texts, EXACT);
        let queries = native(&mut engine, &texts, PromptKind::Query);
        assert_near(&queries.vectors, &reference.vectors("native_query"), &texts, EXACT);
    }
}

#[test]
fn qwen3_gives_the_vectors_of_transformers() {
    let reference = Reference::open("qwen3-small");
    let texts = chosen(&reference);
    let mut engine = open(&reference::folder().join("qwen3-small"));
    let batch = native(&mut engine, &texts, PromptKind::None);
    let counts = reference.counts("token_counts");
    assert_counts(&batch, &counts, &counts);
    assert_near(&batch.vectors, &reference.vectors("native"), &texts, EXACT);
    let queries = native(&mut engine, &texts, PromptKind::Query);
    assert_near(&queries.vectors, &reference.vectors("native_query"), &texts, EXACT);
    assert_eq!(queries.tokens, reference.counts("query_token_counts"));
}

#[test]
fn the_papr_recipe_gives_what_the_sdks_converter_computes() {
    let reference = Reference::open("qwen3-small");
    let texts = chosen(&reference);
    let mut engine = open(&reference::folder().join("qwen3-small"));
    let batch = engine.embed(&texts, PromptKind::None, RecipeName::Papr).expect("every text can be embedded");
    assert_counts(&batch, &reference.counts("papr_token_counts"), &reference.counts("token_counts"));
    assert_near(&batch.vectors, &reference.vectors("papr"), &texts, EXACT);
}

#[test]
fn the_sdks_build_of_october_2025_can_be_followed_too() {
    let reference = Reference::open("qwen3-small");
    let texts = chosen(&reference);
    let mut engine = open(&reference::folder().join("qwen3-small"));
    let recipe = Recipe {
        padding: Padding::ReadUpTo(32),
        layers: 1,
        pooling: Pooling::Mean,
        clamp: None,
        l2: false,
        ..engine.recipe(RecipeName::Papr)
    };
    let batch = engine.embed_by(&texts, PromptKind::None, &recipe).expect("every text can be embedded");
    let expected = reference.vectors("papr_2025_10_16");
    assert_near(&batch.vectors, &expected, &texts, EXACT);
    let difference = largest_difference(&batch.vectors, &expected);
    assert!(difference <= 1e-4, "not normalised, so lengths count too: {difference}");
}

#[test]
fn a_checkpoint_reads_the_same_as_older_and_as_newest_libraries_write_it() {
    for name in ["qwen3-small", "bert-small", "xlm-roberta-small", "nomic-bert-small"] {
        let old = as_older_libraries_write(name);
        let (mut old, mut new) = (open(old.path()), open(&reference::folder().join(name)));
        assert_eq!(old.max_tokens(), new.max_tokens(), "tokens that {name} reads");
        for prompt in [PromptKind::None, PromptKind::Query, PromptKind::Document] {
            let (old, new) = (native(&mut old, &texts(), prompt), native(&mut new, &texts(), prompt));
            assert_eq!((&old.tokens, &old.truncated), (&new.tokens, &new.truncated), "{name}");
            assert!(old.vectors == new.vectors, "{name} differs");
        }
    }
}

#[test]
fn what_is_converted_gives_the_vectors_of_its_checkpoint() -> Result<()> {
    let texts = texts();
    for name in ["qwen3-small", "bert-small", "xlm-roberta-small"] {
        let source = reference::folder().join(name);
        let folder = tempfile::tempdir()?;
        let target = folder.path().join("x.gguf");
        let summary = convert(&Job::new(&source, &target, TargetPrecision::Fp16), &mut |_| ControlFlow::Continue(()))?;
        assert_eq!(summary.tokenizer_left_out, None, "{name}");
        let (mut checkpoint, mut converted) = (open(&source), open(&target));
        assert_eq!(converted.max_tokens(), checkpoint.max_tokens(), "tokens that {name} reads");
        let wanted = native(&mut checkpoint, &texts, PromptKind::None);
        let found = native(&mut converted, &texts, PromptKind::None);
        assert_eq!((&found.tokens, &found.truncated), (&wanted.tokens, &wanted.truncated), "{name}");
        assert_near(&found.vectors, &wanted.vectors, &texts, HALF);
    }
    Ok(())
}

/// A file has no word for the positions of texts that are longer than the training's, so it is read up to that length.
#[test]
fn a_converted_nomic_bert_reads_what_it_was_trained_with_and_gives_its_vectors() -> Result<()> {
    let source = reference::folder().join("nomic-bert-small");
    let reference = Reference::open("nomic-bert-small");
    let (trained, totals) = (128, reference.counts("total_counts"));
    let short: Vec<usize> = (0..totals.len()).filter(|&index| totals[index] <= trained).collect();
    let (all, vectors) = (texts(), reference.vectors("native"));
    let texts: Vec<String> = short.iter().map(|&index| all[index].clone()).collect();
    let wanted: Vec<Vec<f32>> = short.iter().map(|&index| vectors[index].clone()).collect();
    let counts: Vec<usize> = short.iter().map(|&index| totals[index]).collect();
    // In four bits by the mean only, as the certifier judges, and random weights lose more than trained ones. Swapping the gate with
    // what it gates alone leaves 0.82. llama.cpp finds 0.926 for the same file.
    for (precision, least, mean) in [
        (TargetPrecision::Fp16, HALF, HALF),
        (TargetPrecision::Int8, 0.995, QUANTISED),
        (TargetPrecision::FourBit, 0.0, 0.9),
    ] {
        let folder = tempfile::tempdir()?;
        let target = folder.path().join("x.gguf");
        let summary = convert(&Job::new(&source, &target, precision), &mut |_| ControlFlow::Continue(()))?;
        assert_eq!(summary.tokenizer_left_out, None);
        let mut converted = open(&target);
        assert_eq!(converted.max_tokens(), trained, "{precision:?}");
        let found = native(&mut converted, &texts, PromptKind::None);
        assert_counts(&found, &counts, &counts);
        assert_near(&found.vectors, &wanted, &texts, least);
        let found = mean_cosine(&found.vectors, &wanted);
        assert!(found >= mean, "{precision:?}: the mean cosine is {found}");
    }
    Ok(())
}

/// multilingual-e5-small is such a model: XLM-R's vocabulary, and positions that start with the first row of their table. Without
/// the rows that belong to no token, an XLM-R is one, and has the vectors that transformers gives for it.
#[test]
fn a_bert_with_the_vocabulary_of_xlm_r_gives_the_vectors_of_transformers() -> Result<()> {
    let folder = tempfile::tempdir()?;
    copy_all(&reference::folder().join("xlm-roberta-small"), folder.path());
    let config = folder.path().join("config.json");
    let mut settings: serde_json::Value = serde_json::from_slice(&fs::read(&config)?)?;
    let unused = 2;
    settings["model_type"] = "bert".into();
    settings["architectures"] = serde_json::json!(["BertModel"]);
    settings["max_position_embeddings"] =
        (settings["max_position_embeddings"].as_u64().expect("it is a count") - unused).into();
    fs::write(&config, settings.to_string())?;
    let path = folder.path().join("model.safetensors");
    let bytes = fs::read(&path)?;
    let tensors = SafeTensors::deserialize(&bytes)?;
    let cut = tensors.tensors().into_iter().map(|(name, view)| {
        let (mut shape, mut data) = (view.shape().to_vec(), view.data());
        if name.ends_with("position_embeddings.weight") {
            data = &data[data.len() / shape[0] * unused as usize..];
            shape[0] -= unused as usize;
        }
        TensorView::new(view.dtype(), shape, data).map(|view| (name, view))
    });
    let cut = cut.collect::<Result<Vec<_>, _>>()?;
    fs::write(&path, safetensors::serialize(cut, None)?)?;
    let (texts, reference) = (texts(), Reference::open("xlm-roberta-small"));
    let batch = native(&mut open(folder.path()), &texts, PromptKind::None);
    assert_counts(&batch, &reference.counts("token_counts"), &reference.counts("total_counts"));
    assert_near(&batch.vectors, &reference.vectors("native"), &texts, EXACT);
    Ok(())
}

/// The committed checkpoint of a family of the catalogue: a new one has to get its own.
fn small_one_of(family: &Architecture) -> &'static str {
    match family {
        Architecture::Bert(_) => "bert-small",
        Architecture::XlmRoberta(_) => "xlm-roberta-small",
        Architecture::NomicBert(_) => "nomic-bert-small",
        Architecture::Qwen3(_) => "qwen3-small",
    }
}

#[test]
fn every_family_of_the_catalogue_is_run_and_what_it_says_to_be_made_of_one_is() -> Result<()> {
    let texts = ["a text", "another one"].map(str::to_owned);
    let mut seen = Vec::new();
    for entry in Catalogue::builtin().entries() {
        let name = small_one_of(&entry.architecture);
        if seen.contains(&name) {
            continue;
        }
        seen.push(name);
        let source = reference::folder().join(name);
        assert_eq!(native(&mut open(&source), &texts, PromptKind::None).vectors.len(), texts.len(), "{name}");
        for (step, precision) in [
            (Precision::Fp16, TargetPrecision::Fp16),
            (Precision::Int8, TargetPrecision::Int8),
            (Precision::FourBit, TargetPrecision::FourBit),
        ] {
            for (storage, target) in [(Storage::Gguf, "x.gguf"), (Storage::Package, "x.mlpackage")] {
                let folder = tempfile::tempdir()?;
                let mut job = Job::new(&source, folder.path().join(target), precision);
                if storage == Storage::Package {
                    job.format = Format::Package(Package::native(System::MacOs15));
                }
                let made = convert(&job, &mut |_| ControlFlow::Continue(()));
                assert_eq!(
                    made.is_ok(),
                    entry.architecture.makes(storage, step),
                    "{name}, {storage:?}, {step}: {made:?}"
                );
                if storage == Storage::Gguf {
                    native(&mut open(&job.target), &texts, PromptKind::None);
                }
            }
        }
    }
    Ok(())
}

#[test]
fn weights_with_a_prefix_in_their_names_give_the_same_vectors() -> Result<()> {
    for (name, prefix) in [
        ("qwen3-small", "model."),
        ("bert-small", "bert."),
        ("xlm-roberta-small", "roberta."),
        ("nomic-bert-small", "nomic_bert."),
    ] {
        let folder = tempfile::tempdir()?;
        copy_all(&reference::folder().join(name), folder.path());
        let path = folder.path().join("model.safetensors");
        let bytes = fs::read(&path)?;
        let tensors = SafeTensors::deserialize(&bytes)?;
        let renamed = tensors.tensors().into_iter().map(|(tensor, view)| (format!("{prefix}{tensor}"), view));
        fs::write(&path, safetensors::serialize(renamed, None)?)?;
        let plain = native(&mut open(&reference::folder().join(name)), &texts(), PromptKind::None);
        let prefixed = native(&mut open(folder.path()), &texts(), PromptKind::None);
        assert!(prefixed.vectors == plain.vectors, "{name} differs");
    }
    Ok(())
}

#[test]
fn the_catalogues_reference_vectors_are_those_of_sentence_transformers() {
    let (texts, vectors) = (texts(), Reference::open("minilm").vectors("embeddings"));
    let entry = Catalogue::builtin().find("minilm").expect("it comes with the program");
    assert!(!entry.references.is_empty());
    for reference in &entry.references {
        let at = texts.iter().position(|text| *text == reference.text).expect("a text of the list");
        let far = reference.begins.iter().zip(&vectors[at]).map(|(one, other)| (one - other).abs()).fold(0.0, f32::max);
        assert!(far < 1e-6 && reference.begins.len() == 16, "{}: {far}", reference.text);
    }
}
