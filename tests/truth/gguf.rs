//! GGUF files without a `tokenizer.json` beside them, as llama.cpp's converters write them (`make_gguf.py`), and the tokenizer
//! that the engine finds in them.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use embedbar_contract::PromptKind;
use embedbar_engine::{TextEnd, token_ids, tokenizer_json};
use embedbar_tests::program::checkout;

use crate::{HALF, assert_counts, chosen, native, open};
use embedbar_tests::reference::{self, Reference, assert_near, texts};

fn file(name: &str) -> PathBuf {
    reference::folder().join("gguf").join(format!("{name}.gguf"))
}

/// Ordinary and awkward texts: those of the truth, lines of this repository, and random characters.
fn many_texts() -> Vec<String> {
    let mut many = texts();
    for path in ["README.md", "tests/truth/main.rs", "ui/index.html", "Cargo.toml"] {
        let text = fs::read_to_string(checkout().join(path)).unwrap_or_default();
        many.extend(text.lines().map(str::to_owned));
        many.push(text.chars().take(20_000).collect());
    }
    many.extend(random_texts(2_000));
    many
}

/// Characters of all planes, most of them where writing systems are, with spaces of every kind between them.
fn random_texts(count: usize) -> Vec<String> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move |below: u32| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        u32::try_from(state >> 32).expect("it is half as long") % below
    };
    (0..count)
        .map(|_| {
            (0..random(40))
                .filter_map(|_| match random(10) {
                    0 => char::from_u32(random(0x11_0000)),
                    1 => char::from_u32(random(0x3_0000)),
                    2..=4 => char::from_u32(random(0x80)),
                    5..=7 => char::from_u32(random(0x2e80)),
                    8 => char::from_u32(0x2e80 + random(0xa000)),
                    _ => char::from_u32(
                        [0x20, 0x09, 0x0a, 0xa0, 0x3000, 0x200b, 0x0300, 0x2581, 0x0130][random(9) as usize],
                    ),
                })
                .collect()
        })
        .collect()
}

/// The ids of all texts by the tokenizer in `gguf` are those by the file that it was made of.
fn assert_same_ids(gguf: &Path, original: &Path, rows: usize) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let written = folder.path().join("tokenizer.json");
    fs::write(&written, tokenizer_json(gguf)?.expect("the file brings a tokenizer"))?;
    let texts = many_texts();
    let ids = |path: &Path| token_ids(path, &texts, rows, 1 << 20, TextEnd::Tokenizer);
    let (found, wanted) = (ids(&written)?, ids(original)?);
    for (text, (found, wanted)) in texts.iter().zip(found.iter().zip(&wanted)) {
        assert_eq!(found, wanted, "{}: {text:?}", gguf.display());
    }
    Ok(())
}

#[test]
fn the_tokenizer_in_a_gguf_file_gives_the_ids_of_the_one_that_it_was_made_of() -> Result<()> {
    for (name, original) in [
        ("bert-small", "bert-small"),
        ("qwen3-small", "qwen3-small"),
        ("xlm-roberta-small", "xlm-roberta-small"),
        ("xlm-roberta-small-spm", "xlm-roberta-small"),
    ] {
        assert_same_ids(&file(name), &reference::folder().join(original).join("tokenizer.json"), 2048)?;
    }
    let bundled = checkout().join("models/bundled");
    assert_same_ids(&bundled.join("all-MiniLM-L6-v2-int8.gguf"), &bundled.join("tokenizer.json"), 30_522)
}

#[test]
fn a_gguf_file_alone_gives_the_vectors_of_its_checkpoint() {
    for name in ["bert-small", "xlm-roberta-small", "qwen3-small"] {
        let reference = Reference::open(name);
        let texts = if name == "qwen3-small" { chosen(&reference) } else { texts() };
        let mut engine = open(&file(name));
        // What a GGUF file cannot say: that bert-small reads less than it has positions.
        let short = name == "bert-small";
        let kept: Vec<usize> = reference.counts("token_counts");
        let total = if name == "qwen3-small" { kept.clone() } else { reference.counts("total_counts") };
        let chosen: Vec<usize> = (0..texts.len()).filter(|&at| !short || kept[at] == total[at]).collect();
        let pick = |from: &[usize]| chosen.iter().map(|&at| from[at]).collect::<Vec<_>>();
        let texts: Vec<String> = chosen.iter().map(|&at| texts[at].clone()).collect();
        let batch = native(&mut engine, &texts, PromptKind::None);
        assert_counts(&batch, &pick(&kept), &pick(&total));
        let wanted = reference.vectors("native");
        let wanted: Vec<Vec<f32>> = chosen.iter().map(|&at| wanted[at].clone()).collect();
        println!("{name}:");
        assert_near(&batch.vectors, &wanted, &texts, HALF);
    }
}
