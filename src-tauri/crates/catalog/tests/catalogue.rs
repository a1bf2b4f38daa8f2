//! The catalogue against figures from elsewhere: published parameter counts and file sizes, arithmetic by hand, and the
//! one file that this repository holds.

use std::path::Path;

use embedbar_catalog::{
    Architecture, Bert, CatalogError, Catalogue, Certainty, Engine, Entry, Footprint, Format, NomicBert, Pooling,
    Qwen3, SPECIALISING_BYTES, SourceWeights, Storage, Workload, XlmRoberta,
};
use embedbar_contract::Precision::{self, FourBit, Fp16, Fp32, Int8};
use proptest::prelude::*;

const MODELS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../models");

fn entry(name: &str) -> &'static Entry {
    Catalogue::builtin().find(name).unwrap_or_else(|| panic!("`{name}` is in the catalogue"))
}

fn weights(name: &str, precision: Precision) -> u64 {
    entry(name).architecture.weights_bytes(Storage::Gguf, precision)
}

fn near(found: u64, expected: f64, tolerance: f64) -> bool {
    (found as f64 / expected - 1.0).abs() <= tolerance
}

#[test]
fn every_file_of_the_folder_is_built_in() {
    let mut files: Vec<String> = std::fs::read_dir(MODELS)
        .expect("the folder is there")
        .map(|found| found.expect("it can be read").file_name().into_string().expect("UTF-8"))
        .filter_map(|name| name.strip_suffix(".toml").map(str::to_owned))
        .collect();
    let mut built: Vec<&str> = Catalogue::builtin().entries().iter().map(|entry| entry.id.as_str()).collect();
    files.sort();
    built.sort_unstable();
    assert_eq!(files, built);
}

#[test]
fn parameters_are_those_that_are_published() {
    // Qwen's to the last one, from mteb's metadata; `Entry::parse` holds the files' figures against the shapes.
    for (name, parameters) in [("0.6B", 595_776_512), ("4B", 4_021_774_336), ("8B", 7_567_295_488)] {
        assert_eq!(entry(&format!("Qwen3-Embedding-{name}")).architecture.parameters(), parameters);
    }
    // The others in millions, as mteb rounds them.
    let published = [
        ("all-MiniLM-L6-v2", 22.7),
        ("bge-small-en-v1.5", 33.4),
        ("bge-base-en-v1.5", 109.0),
        ("bge-large-en-v1.5", 335.0),
        ("bge-m3", 568.0),
        ("multilingual-e5-small", 118.0),
        ("multilingual-e5-large", 560.0),
        ("nomic-embed-text-v1.5", 136.731_648),
        ("snowflake-arctic-embed-s", 33.0),
    ];
    for (name, millions) in published {
        let counted = entry(name).parameters;
        assert!(near(counted, millions * 1e6, 0.011), "{name}: {counted} for {millions} million");
    }
    assert_eq!(Catalogue::builtin().entries().len(), 3 + published.len(), "none is unchecked");
}

#[test]
fn dims_lengths_pooling_and_licences_are_those_of_the_models_cards() {
    let expected = [
        ("all-MiniLM-L6-v2", 384, 256, Pooling::Mean, "Apache-2.0"),
        ("Qwen3-Embedding-0.6B", 1024, 32_768, Pooling::Last, "Apache-2.0"),
        ("Qwen3-Embedding-4B", 2560, 32_768, Pooling::Last, "Apache-2.0"),
        ("Qwen3-Embedding-8B", 4096, 32_768, Pooling::Last, "Apache-2.0"),
        ("bge-small-en-v1.5", 384, 512, Pooling::First, "MIT"),
        ("bge-base-en-v1.5", 768, 512, Pooling::First, "MIT"),
        ("bge-large-en-v1.5", 1024, 512, Pooling::First, "MIT"),
        ("bge-m3", 1024, 8192, Pooling::First, "MIT"),
        ("multilingual-e5-small", 384, 512, Pooling::Mean, "MIT"),
        ("multilingual-e5-large", 1024, 512, Pooling::Mean, "MIT"),
        ("nomic-embed-text-v1.5", 768, 2048, Pooling::Mean, "Apache-2.0"),
        ("snowflake-arctic-embed-s", 384, 512, Pooling::First, "Apache-2.0"),
    ];
    for (name, dims, max_tokens, pooling, licence) in expected {
        let Entry { recipe, licence: found, .. } = entry(name);
        assert_eq!(
            (recipe.dims, recipe.max_tokens, recipe.pooling, found.as_str()),
            (dims, max_tokens, pooling, licence)
        );
    }
    assert!(entry("Qwen3-Embedding-4B").recipe.query_prompt.ends_with("\nQuery:"), "no space behind the colon");
    assert_eq!(entry("me5-small").recipe.document_prompt, "passage: ");
    let Entry { recipe, .. } = entry("nomic-embed-text");
    assert_eq!([recipe.query_prompt.as_str(), &recipe.document_prompt], ["search_query: ", "search_document: "]);
    assert_eq!(entry("bge-m3").weights, SourceWeights::Pickle);
    assert_eq!(entry("Qwen3-Embedding-8B").recipe.least_dims, Some(32));
}

#[test]
fn weights_are_as_large_as_published_files() {
    // F32 and F16 in GB of 10^9 by hand from the counts; Q8_0 as the official GGUF files are published.
    let published = [("0.6b", 2.383, 1.192, 0.633), ("4b", 16.09, 8.044, 4.28), ("8b", 30.27, 15.135, 8.05)];
    for (name, f32_gb, f16_gb, q8_gb) in published {
        let name = format!("qwen3-{name}");
        for (precision, gb) in [(Fp32, f32_gb), (Fp16, f16_gb), (Int8, q8_gb)] {
            let found = weights(&name, precision);
            assert!(near(found, gb * 1e9, 0.005), "{name} {precision}: {found} bytes for {gb} GB");
        }
    }
    // Q4_K_M mixes in wider types and has the table in Q6_K; ours has all matrices in Q4_K and the table in Q8_0.
    for (name, gb) in [("qwen3-4b", 2.4), ("qwen3-8b", 4.68)] {
        assert!(near(weights(name, FourBit), gb * 1e9, 0.05), "{name}: {} for {gb} GB", weights(name, FourBit));
    }
}

#[test]
fn four_bits_of_4b_by_hand() {
    // 36 layers of 2 * 4096 * 2560 + 2 * 1024 * 2560 + 3 * 9728 * 2560 = 100,925,440 numbers at 144 bytes for 256; the
    // table of 151,665 * 2560 at 34 bytes for 32; 196,096 numbers of norms at 4 bytes.
    let by_hand: u64 = 36 * 100_925_440 / 256 * 144 + 151_665 * 2560 / 32 * 34 + 196_096 * 4;
    assert_eq!(by_hand, 2_457_053_344);
    assert_eq!(weights("qwen3-4b", FourBit), by_hand);
}

#[test]
fn packages_by_hand() {
    // 0.6B: the table of 151,669 rows of 1024; 28 layers of 2048 + 1024 + 1024 + 1024 rows of 1024 and 2048, and so on.
    let architecture = &entry("qwen3-0.6b").architecture;
    let numbers: u64 = 151_669 * 1024 + 28 * (2048 * 1024 + 2 * 1024 * 1024 + 1024 * 2048 + 3 * 3072 * 1024);
    let rows: u64 = 151_669 + 28 * (2048 + 1024 + 1024 + 1024 + 3072 + 3072 + 1024);
    let exact: u64 = 595_776_512 - numbers;
    assert_eq!(architecture.weights_bytes(Storage::Package, Fp16), 2 * 595_776_512);
    assert_eq!(architecture.weights_bytes(Storage::Package, Int8), numbers + 3 * rows + 2 * exact);
}

#[test]
fn rows_that_do_not_divide_into_blocks_are_stored_wider() {
    let with_hidden = |hidden| {
        let sizes =
            Bert { layers: 1, hidden, heads: 1, intermediate: 256, vocabulary: 1, positions: 1, token_types: 1 };
        Architecture::Bert(sizes)
    };
    let bytes = |hidden, precision| with_hidden(hidden).weights_bytes(Storage::Gguf, precision);
    // 16 columns: everything but `down` (rows of 256) is F16 whatever was asked for.
    let exact = 4 * (16 + 16 + 2 * 16 + 9 * 16 + 256);
    let halves = 2 * (16 + 4 * 16 * 16 + 256 * 16);
    assert_eq!(bytes(16, Int8), exact + halves + 16 * 256 / 32 * 34);
    assert_eq!(bytes(16, FourBit), exact + halves + 16 * 144);
    // 32 columns: Q4_0 instead of Q4_K, except for `down`, and the table in Q8_0.
    let exact = 4 * (32 + 32 + 2 * 32 + 9 * 32 + 256);
    assert_eq!(bytes(32, FourBit), exact + 34 + (4 * 32 + 256) * 18 + 32 * 144);
}

/// Just enough of a reader of GGUF to sum up the tensors of the bundled file, by the types' names in the format's
/// description.
mod gguf {
    pub(super) struct Reader<'a>(pub(super) &'a [u8]);

    impl<'a> Reader<'a> {
        fn take(&mut self, bytes: usize) -> &'a [u8] {
            let (taken, rest) = self.0.split_at(bytes);
            self.0 = rest;
            taken
        }

        fn u32(&mut self) -> u32 {
            u32::from_le_bytes(self.take(4).try_into().expect("four bytes"))
        }

        fn u64(&mut self) -> u64 {
            u64::from_le_bytes(self.take(8).try_into().expect("eight bytes"))
        }

        fn skip_text(&mut self) {
            let length = self.u64();
            self.take(length as usize);
        }

        fn skip_value(&mut self, kind: u32) {
            match kind {
                0 | 1 | 7 => drop(self.take(1)),
                2 | 3 => drop(self.take(2)),
                4..=6 => drop(self.take(4)),
                10..=12 => drop(self.take(8)),
                8 => self.skip_text(),
                9 => {
                    let (inner, count) = (self.u32(), self.u64());
                    (0..count).for_each(|_| self.skip_value(inner));
                }
                other => panic!("a value of kind {other}"),
            }
        }

        /// Bytes of all tensors.
        pub(super) fn tensor_bytes(&mut self) -> u64 {
            assert_eq!(self.take(4), b"GGUF");
            assert_eq!(self.u32(), 3);
            let (tensors, keys) = (self.u64(), self.u64());
            for _ in 0..keys {
                self.skip_text();
                let kind = self.u32();
                self.skip_value(kind);
            }
            let mut bytes = 0;
            for _ in 0..tensors {
                self.skip_text();
                let dimensions = self.u32();
                let numbers: u64 = (0..dimensions).map(|_| self.u64()).product();
                bytes += match self.u32() {
                    0 => numbers * 4,
                    8 => numbers / 32 * 34,
                    other => panic!("a tensor of type {other}"),
                };
                self.u64();
            }
            bytes
        }
    }
}

#[test]
fn the_bundled_file_has_the_bytes_that_the_shapes_say() {
    let file = std::fs::read(Path::new(MODELS).join("bundled/all-MiniLM-L6-v2-int8.gguf")).expect("it is there");
    assert_eq!(weights("minilm", Int8), gguf::Reader(&file).tensor_bytes());
}

#[test]
fn the_bundled_entry_pins_the_files_of_its_provenance() {
    let provenance = std::fs::read_to_string(Path::new(MODELS).join("bundled/provenance.json")).expect("it is there");
    let bundled = entry("minilm");
    assert!(bundled.bundled && bundled.files.len() == 3);
    for file in &bundled.files {
        for known in
            [format!("\"{}\"", file.path), format!("\"bytes\": {}", file.bytes), format!("\"{}\"", file.sha256)]
        {
            assert!(provenance.contains(&known), "{known}");
        }
    }
    assert_eq!(Catalogue::builtin().entries().iter().filter(|entry| entry.bundled).count(), 1);
}

#[test]
fn a_model_is_found_by_its_id_with_or_without_its_owner_and_by_an_alias_in_any_case() {
    for name in ["Qwen/Qwen3-Embedding-4B", "qwen3-embedding-4b", " QWEN3-4B ", "qwen3-embedding:4b"] {
        assert_eq!(entry(name).id, "Qwen3-Embedding-4B");
    }
    for name in ["", "somebody/Qwen3-Embedding-4B", "Qwen3-Embedding", "mlx-community/Qwen3-Embedding-4B-4bit-DWQ"] {
        assert_eq!(Catalogue::builtin().find(name), None, "{name}");
    }
}

#[test]
fn smaller_models_come_the_largest_first() {
    let smaller = Catalogue::builtin().smaller_than(entry("qwen3-4b"));
    let ids: Vec<&str> = smaller.iter().map(|entry| entry.id.as_str()).take(3).collect();
    assert_eq!(ids, ["Qwen3-Embedding-0.6B", "bge-m3", "multilingual-e5-large"]);
    assert!(Catalogue::builtin().smaller_than(entry("minilm")).is_empty());
}

fn text(id: &str) -> String {
    std::fs::read_to_string(Path::new(MODELS).join(format!("{id}.toml"))).expect("it is there")
}

#[test]
fn a_file_with_an_unknown_missing_or_contradictory_figure_is_refused_with_the_numbers() {
    let good = text("bge-base-en-v1.5");
    let refused = |from: &str, to: &str| {
        assert!(good.contains(from), "{from}");
        Entry::parse("x.toml", &good.replacen(from, to, 1)).expect_err("it is wrong").to_string()
    };
    let cases = [
        ("bundled = false", "bundeled = false", "bundeled"),
        ("token_types = 2", "token_type = 2", "token_type"),
        ("dims = 768", "", "dims"),
        ("family = \"bert\"", "family = \"gpt\"", "gpt"),
        ("109_482_240", "109_482_241", "its shapes have `109482240`"),
        ("layers = 12", "layers = 11", "parameters"),
        ("dims = 768", "dims = 512", "`512` dims of `768` columns"),
        ("heads = 12", "heads = 7", "`7` heads do not divide `768` columns"),
        ("heads = 12", "heads = 0", "a count is 0"),
        ("max_tokens = 512", "max_tokens = 513", "`513` tokens for `512` positions"),
        ("\"fp16\", \"int8\", \"4bit\"", "\"int8\", \"fp16\"", "does not go down"),
        ("version = 1", "version = 2", "its version is `2`"),
        ("licence =", "revision = \"main\"\nlicence =", "is no commit"),
        ("\"4bit\"", "\"unknown\"", "unknown"),
        ("pooling = \"first\"", "", "pooling"),
        ("query_prompt", "#", "query_prompt"),
        ("document_prompt", "#", "document_prompt"),
        ("id = \"bge-base-en-v1.5\"", "id = \"bge\"", "`bge` is not the name of"),
    ];
    for (from, to, expected) in cases {
        let message = refused(from, to);
        assert!(message.contains("x.toml") && message.contains(expected), "{message}");
    }
}

#[test]
fn nomic_by_hand() {
    // The table of 30,528 tokens and 2 types, a norm; 12 layers of 4 * 768 * 768 + 3 * 3072 * 768 numbers and two norms.
    let matrices: u64 = 12 * (4 * 768 * 768 + 3 * 3072 * 768);
    let exact: u64 = 2 * 768 + 2 * 768 + 12 * 4 * 768;
    assert_eq!(entry("nomic-embed-text-v1.5").parameters, 30_528 * 768 + matrices + exact);
    let by_hand = 30_528 * 768 / 32 * 34 + matrices / 32 * 34 + exact * 4;
    assert_eq!(weights("nomic-embed-text-v1.5", Int8), by_hand);
    // As large as the authors' own file, which lacks the table's six rows without a token and has a vocabulary of 0.7 MB.
    assert!(near(by_hand, 146_146_432.0, 0.006), "{by_hand}");
}

#[test]
fn what_others_have_made_is_named_with_how_certain_it_is() {
    for entry in Catalogue::builtin().entries() {
        for variant in &entry.variants {
            let own = variant.repo.split('/').next() == entry.repo.split('/').next();
            assert_eq!(variant.certainty == Certainty::Published, own, "{}", variant.repo);
            assert_eq!(variant.format == Format::Gguf, variant.file.is_some(), "{}", variant.repo);
        }
    }
    let file = |name: &str, precision| {
        let found = entry(name).variants.iter().find(|it| (it.format, it.precision) == (Format::Gguf, precision));
        found.and_then(|variant| variant.file.clone()).expect("there is one")
    };
    assert_eq!(file("qwen3-0.6b", Int8), "Qwen3-Embedding-0.6B-Q8_0.gguf");
    assert_eq!(file("qwen3-8b", FourBit), "Qwen3-Embedding-8B-Q4_K_M.gguf");
    assert_eq!(file("nomic-embed-text", Fp16), "nomic-embed-text-v1.5.f16.gguf");
}

#[test]
fn a_variant_that_cannot_be_is_refused() {
    let good = text("Qwen3-Embedding-4B");
    for (from, to, expected) in [
        ("format = \"gguf\"", "format = \"onnx\"", "onnx"),
        ("format = \"gguf\"", "format = \"mlx\"", "is all of"),
        ("f16.gguf", "f16.bin", "is no GGUF file"),
        ("file = \"Qwen3-Embedding-4B-f16.gguf\"", "", "is no GGUF file"),
        ("file = \"Qwen3", "file = \"../Qwen3", "is no GGUF file"),
        ("4B-f16.gguf", "4B-Q8_0.gguf", "named twice"),
        ("repo = \"Qwen/Qwen3-Embedding-4B-GGUF\"", "repo = \"Qwen3-Embedding-4B-GGUF\"", "is no repository"),
        ("precision = \"fp16\"", "precision = \"fp32\"", "no step of a ladder"),
        ("certainty = \"published\"", "", "certainty"),
        ("certainty = \"published\"", "certainty = \"published\"\nsha256 = \"0\"", "sha256"),
    ] {
        assert!(good.contains(from), "{from}");
        let message = Entry::parse("x.toml", &good.replacen(from, to, 1)).expect_err("it is wrong").to_string();
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn no_family_has_a_package_that_nobody_writes() {
    for entry in Catalogue::builtin().entries() {
        let packaged = !matches!(entry.architecture, Architecture::NomicBert(_));
        for precision in [Fp16, Int8, FourBit] {
            assert!(entry.architecture.makes(Storage::Gguf, precision), "{}", entry.id);
            assert_eq!(entry.architecture.makes(Storage::Package, precision), packaged, "{}", entry.id);
        }
        assert!(!entry.architecture.makes(Storage::Gguf, Fp32), "{}", entry.id);
    }
}

#[test]
fn two_entries_cannot_share_a_name() {
    let one = Entry::parse("one", &text("bge-m3")).expect("it is good");
    let renamed = text("bge-small-en-v1.5").replace("aliases = [\"bge-small\"]", "aliases = [\"BGE-M3\"]");
    let other = Entry::parse("other", &renamed).expect("it is good by itself");
    let outcome = Catalogue::new(vec![one, other]);
    assert!(matches!(&outcome, Err(CatalogError::SharedName { name, .. }) if name == "bge-m3"), "{outcome:?}");
}

#[test]
fn core_ml_takes_twice_the_weights_and_one_and_a_half_gigabytes_while_it_specialises() {
    let entry = entry("qwen3-4b");
    let at = |specialised| entry.footprint(Fp16, Engine::CoreMl { specialised }, Workload::default());
    // 4,021,774,336 numbers in halves.
    assert_eq!(at(false).peak_bytes(), 2 * 8_043_548_672 + SPECIALISING_BYTES);
    assert_eq!(SPECIALISING_BYTES, 1_610_612_736);
    assert_eq!(at(true).peak_bytes(), at(true).running_bytes());
    assert_eq!(at(false).running_bytes(), at(true).running_bytes());
    assert!(at(true).running_bytes() < 9_000_000_000);
}

#[test]
fn what_was_measured_replaces_the_estimate_but_never_goes_below_the_weights() {
    let estimate = entry("qwen3-0.6b").footprint(Int8, Engine::Cpu, Workload::default());
    let gigabyte = 1 << 30;
    assert_eq!(estimate.corrected(Some(gigabyte)).running_bytes(), gigabyte);
    assert_eq!(
        estimate.corrected(Some(5)).running_bytes(),
        estimate.weights_bytes,
        "mapped weights are not in a footprint"
    );
    assert_eq!(estimate.corrected(None), estimate);
}

#[test]
fn the_estimate_is_near_what_was_measured() {
    // Resident memory of a worker with the bundled model after a bulk run, from the README: 106 MB.
    let estimate = entry("minilm").footprint(Int8, Engine::Cpu, Workload::default()).running_bytes();
    assert!(near(estimate, 106e6, 0.15), "{estimate}");
}

#[test]
fn a_gpu_materialises_the_scores_of_long_texts_and_the_processor_does_not() {
    // `facts`: 0.6B on Metal at 8192 tokens takes 8.6 GB for the scores alone, before rounding.
    let entry = entry("qwen3-0.6b");
    let long = Workload { tokens_per_batch: 8192, longest_text: 8192 };
    assert!(near(entry.footprint(Fp16, Engine::Metal, long).activations_bytes, 2.0 * 8.6e9, 0.05));
    assert!(entry.footprint(Fp16, Engine::Cpu, long).activations_bytes < 1 << 29);
}

fn precision() -> impl Strategy<Value = Precision> {
    prop::sample::select(vec![Fp32, Fp16, Int8, FourBit])
}

fn architecture() -> impl Strategy<Value = Architecture> {
    // Rows divide into blocks of 32, as those of every real model; narrower ones are stored wider than asked.
    let sizes = (1_u64..40, 1_u64..130, 1_u64..300, 1_u64..300_000, 1_u64..9000, 0_u8..4);
    sizes.prop_map(|(layers, hidden, intermediate, vocabulary, positions, family)| {
        let (hidden, intermediate) = (hidden * 32, intermediate * 32);
        let bert = Bert { layers, hidden, heads: 1, intermediate, vocabulary, positions, token_types: 2 };
        match family {
            0 => Architecture::Bert(bert),
            1 => Architecture::XlmRoberta(XlmRoberta(bert)),
            2 => Architecture::NomicBert(NomicBert {
                layers,
                hidden,
                heads: 1,
                intermediate,
                vocabulary,
                positions,
                token_types: 2,
            }),
            _ => Architecture::Qwen3(Qwen3 {
                layers,
                hidden,
                heads: 4,
                kv_heads: 2,
                head_width: 32,
                intermediate,
                vocabulary,
                positions,
            }),
        }
    })
}

proptest! {
    #[test]
    fn a_narrower_precision_never_takes_more(architecture in architecture()) {
        for storage in [Storage::Gguf, Storage::Package] {
            let bytes = [Fp32, Fp16, Int8, FourBit].map(|precision| architecture.weights_bytes(storage, precision));
            prop_assert!(bytes.is_sorted_by(|wider, narrower| wider >= narrower), "{:?}", bytes);
            prop_assert_eq!(bytes[0], 4 * architecture.loaded_parameters());
            prop_assert!(architecture.token_table_bytes(storage, Int8) == architecture.token_table_bytes(storage, FourBit));
        }
    }

    #[test]
    fn the_peak_is_never_below_what_runs_and_more_work_never_takes_less(
        architecture in architecture(),
        precision in precision(),
        tokens in 1_u64..20_000,
        longest in 1_u64..20_000,
        measured in prop::option::of(any::<u32>()),
    ) {
        for engine in [Engine::Cpu, Engine::Metal, Engine::CoreMl { specialised: false }, Engine::CoreMl { specialised: true }] {
            let weights = architecture.weights_bytes(engine.storage(), precision);
            let work = Workload { tokens_per_batch: tokens, longest_text: longest };
            let found = Footprint::of_weights(weights, &architecture, engine, work);
            let corrected = found.corrected(measured.map(u64::from));
            prop_assert!(corrected.peak_bytes() >= corrected.running_bytes());
            prop_assert!(corrected.running_bytes() >= weights);
            let more = Workload { tokens_per_batch: 2 * tokens, ..work };
            let larger = Footprint::of_weights(weights, &architecture, engine, more);
            prop_assert!(larger.activations_bytes >= found.activations_bytes);
        }
    }
}
