//! The encoders on Embedbar's kernels: against the definition, against candle, and every text against itself in company.

use candle_core::quantized::GgmlDType;
use embedbar_contract::{BackendName, PromptKind, RecipeName};
use embedbar_engine::{Arithmetic, Engine, How};
use embedbar_kernels::{Bf16Products, Isa};
use safetensors::Dtype;

use crate::make::{self, Model};
use crate::vectors::{
    bert_vectors, embed, largest_difference, nomic_bert_vectors, qwen3_vectors, rounded, smallest_cosine,
};

const QUANTISED: [GgmlDType; 10] = [
    GgmlDType::Q8_0,
    GgmlDType::Q4_0,
    GgmlDType::Q4_1,
    GgmlDType::Q4K,
    // Packed as eight bits.
    GgmlDType::Q5_0,
    GgmlDType::Q5_1,
    GgmlDType::Q6K,
    GgmlDType::Q5K,
    GgmlDType::Q3K,
    GgmlDType::Q2K,
];

/// As llama.cpp mixes types in a file of `Q4_K_M`: more bits for values and for what leads back, other types where rows are no
/// whole blocks of 256, and whatever else somebody may have asked for.
fn mixed(tensor: &str) -> GgmlDType {
    match tensor {
        "token_embd.weight" => GgmlDType::Q6K,
        "blk.0.attn_output.weight" => GgmlDType::F16,
        "blk.1.attn_output.weight" => GgmlDType::BF16,
        "blk.2.attn_output.weight" => GgmlDType::F32,
        "blk.1.ffn_up.weight" => GgmlDType::Q4_1,
        tensor if tensor.contains("attn_v") => GgmlDType::Q6K,
        tensor if tensor.contains("attn_k") => GgmlDType::Q5_0,
        tensor if tensor.contains("ffn_down") => GgmlDType::Q8_0,
        tensor if tensor.contains("ffn_gate") => GgmlDType::Q5K,
        _ => GgmlDType::Q4K,
    }
}

/// The vectors of the texts by the definition.
type Definition = fn(&Model) -> Vec<Vec<f32>>;

/// A model of each family.
fn families() -> [(Model, Definition); 3] {
    [(make::bert(256), bert_vectors), (make::nomic_bert(256), nomic_bert_vectors), (make::qwen3(256), qwen3_vectors)]
}

fn open(path: &std::path::Path, arithmetic: Arithmetic) -> Engine {
    let engine = Engine::open_as("test", path, &How { arithmetic, ..How::default() }).expect("it can be opened");
    let wanted = if arithmetic == Arithmetic::Candle { BackendName::CandleCpu } else { BackendName::Cpu };
    assert_eq!(engine.backend(), wanted);
    engine
}

#[test]
fn exact_weights_give_the_definition() {
    for (model, definition) in families() {
        for dtype in [Dtype::F32, Dtype::F16, Dtype::BF16] {
            let folder = tempfile::tempdir().expect("a folder");
            model.write(folder.path(), dtype);
            let mut engine = open(folder.path(), Arithmetic::Kernels);
            for recipe in [RecipeName::Native, RecipeName::Papr] {
                let candle = embed(&mut open(folder.path(), Arithmetic::Candle), recipe);
                let difference = largest_difference(&embed(&mut engine, recipe), &candle);
                assert!(difference < 5e-6, "{dtype:?} {recipe} against candle: {difference}");
            }
            let wanted = definition(&rounded(&model, dtype));
            let difference = largest_difference(&embed(&mut engine, RecipeName::Native), &wanted);
            assert!(difference < 5e-6, "{dtype:?}: {difference}");
        }
    }
}

#[test]
fn inputs_are_rounded_to_bf16_where_that_is_asked_for_and_pays() {
    for (model, definition) in families() {
        for dtype in [Dtype::F16, Dtype::BF16] {
            let folder = tempfile::tempdir().expect("a folder");
            model.write(folder.path(), dtype);
            let packed = folder.path().join("packed");
            let wanted = definition(&rounded(&model, dtype));
            // Both keep their matrices in the same folder.
            let found = [Arithmetic::KernelsInBf16, Arithmetic::Kernels, Arithmetic::KernelsInBf16].map(|arithmetic| {
                let how = How { arithmetic, packed: Some(packed.clone()) };
                embed(&mut Engine::open_as("test", folder.path(), &how).expect("it opens"), RecipeName::Native)
            });
            let pays = dtype == Dtype::BF16 && Bf16Products::pay(Isa::best());
            assert_eq!(found[0] != found[1], pays, "{dtype:?}");
            assert_eq!(found[0], found[2], "{dtype:?}");
            let cosine = smallest_cosine(&found[0], &wanted);
            assert!(cosine > if pays { 0.999 } else { 0.999_999 }, "{dtype:?}: {cosine}");
            assert!(largest_difference(&found[1], &wanted) < 5e-6, "{dtype:?}");
        }
    }
}

#[test]
fn quantised_weights_are_near_the_definition_on_the_rounded_weights() {
    for (model, definition) in families() {
        for dtype in QUANTISED {
            let folder = tempfile::tempdir().expect("a folder");
            let rounded = model.write_gguf(folder.path(), dtype);
            let mut engine = open(&folder.path().join("model.gguf"), Arithmetic::Kernels);
            let found = embed(&mut engine, RecipeName::Native);
            let cosine = smallest_cosine(&found, &definition(&rounded));
            assert!(cosine > 0.998, "{dtype:?}: {cosine}");
            let candle = embed(&mut open(&folder.path().join("model.gguf"), Arithmetic::Candle), RecipeName::Native);
            let cosine = smallest_cosine(&found, &candle);
            // Both round the inputs of products, each in its own way.
            assert!(cosine > 0.995, "{dtype:?} against candle: {cosine}");
        }
    }
}

#[test]
fn a_file_of_many_types_is_near_the_definition_on_its_rounded_weights() {
    for (model, definition) in families() {
        let folder = tempfile::tempdir().expect("a folder");
        let wanted = definition(&model.write_mixed_gguf(folder.path(), mixed));
        let path = folder.path().join("model.gguf");
        let found = [Arithmetic::Kernels, Arithmetic::Candle]
            .map(|arithmetic| embed(&mut open(&path, arithmetic), RecipeName::Native));
        for found in found {
            let cosine = smallest_cosine(&found, &wanted);
            assert!(cosine > 0.998, "{cosine}");
        }
    }
}

#[test]
fn a_text_gives_the_same_bits_in_any_company() {
    for (model, _) in families() {
        for dtype in [GgmlDType::F32, GgmlDType::Q8_0, GgmlDType::Q4K] {
            let folder = tempfile::tempdir().expect("a folder");
            model.write_gguf(folder.path(), dtype);
            let mut engine = open(&folder.path().join("model.gguf"), Arithmetic::Kernels);
            let mut texts = make::texts();
            let together = embed(&mut engine, RecipeName::Native);
            texts.truncate(together.len());
            for (text, wanted) in texts.iter().zip(&together) {
                let alone = engine.embed(std::slice::from_ref(text), PromptKind::None, RecipeName::Native);
                assert_eq!(alone.expect("it can be embedded").vectors[0], *wanted, "{dtype:?}: {text}");
            }
        }
    }
}

#[test]
fn packed_matrices_are_written_once_and_mapped_from_then_on() {
    for (model, _) in families() {
        for dtype in [GgmlDType::F16, GgmlDType::Q8_0, GgmlDType::Q4K] {
            let folder = tempfile::tempdir().expect("a folder");
            model.write_gguf(folder.path(), dtype);
            let path = folder.path().join("model.gguf");
            let packed = folder.path().join("packed");
            let how = How { packed: Some(packed.clone()), ..How::default() };
            let open = |how: &How| Engine::open_as("a/model", &path, how).expect("it can be opened");
            let wanted = embed(&mut open(&How::default()), RecipeName::Native);
            assert_eq!(embed(&mut open(&how), RecipeName::Native), wanted, "{dtype:?}, written");
            let files: Vec<_> = packed.join("a_model").read_dir().expect("it is there").flatten().collect();
            let [file] = files.as_slice() else { panic!("one file, not {files:?}") };
            let (file, written) = (file.path(), file.metadata().and_then(|it| it.modified()).expect("a time"));
            assert_eq!(embed(&mut open(&how), RecipeName::Native), wanted, "{dtype:?}, mapped");
            assert_eq!(file.metadata().and_then(|it| it.modified()).expect("a time"), written);

            // Whatever became of the file, the model is loaded, and what cannot be right is made again.
            let whole = std::fs::read(&file).expect("it can be read");
            for damaged in [&whole[..5000], &whole[..100], b"", b"something else", &[&whole[..], &[0; 64]].concat()] {
                std::fs::write(&file, damaged).expect("it can be written");
                assert_eq!(embed(&mut open(&how), RecipeName::Native), wanted, "{dtype:?}, {} bytes", damaged.len());
                assert_eq!(std::fs::read(&file).expect("it can be read"), whole, "{dtype:?}");
            }
            // Bytes of the right number are not looked at, and do no harm.
            let noise: Vec<u8> =
                whole.iter().enumerate().map(|(at, &byte)| if at < 4096 { byte } else { (at * 31) as u8 }).collect();
            std::fs::write(&file, noise).expect("it can be written");
            let _vectors_or_a_refusal = open(&how).embed(&make::texts(), PromptKind::None, RecipeName::Native);
        }
    }
}

#[test]
fn a_folder_that_cannot_be_written_leaves_packed_matrices_in_memory() {
    let (model, folder) = (make::bert(256), tempfile::tempdir().expect("a folder"));
    model.write_gguf(folder.path(), GgmlDType::Q8_0);
    std::fs::write(folder.path().join("file"), "in the way").expect("it can be written");
    let how = How { packed: Some(folder.path().join("file")), ..How::default() };
    let mut engine = Engine::open_as("model", &folder.path().join("model.gguf"), &how).expect("it can be opened");
    assert_eq!(embed(&mut engine, RecipeName::Native).len(), make::texts().len());
}
