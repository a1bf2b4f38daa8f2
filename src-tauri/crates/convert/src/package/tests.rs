//! Whole packages of small random models, which `tests/package/check.py` loads and evaluates with Apple's coremltools.
//! `EMBEDBAR_PACKAGES=FOLDER cargo test --package embedbar-convert package` leaves them in FOLDER.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::Command;

use safetensors::Dtype;
use serde_json::{Value as Json, json};

use super::architecture::{Activation, Architecture, Bert, Qwen3, Role};
use super::blob::Place;
use super::chunk::{Chunk, split};
use super::manifest::{manifest, path};
use super::options::{Options, PackageRecipe, Target, WeightPrecision};
use super::segment::{Segment, Start, Stored, Survey};
use super::{NEURAL_ENGINE_BYTES, PackageError, PackagePlan};
use crate::Pooling;
use crate::samples::{Numbers, Sample};

const SHA256: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// Three layers, so that a mean of layers is not one of all, and matrices of more than 10,000 numbers, because coremltools
/// makes smaller palettes in another way.
fn bert() -> Bert {
    Bert {
        layers: 3,
        width: 64,
        inner: 192,
        heads: 4,
        vocabulary: 203,
        positions: 64,
        first_position: 0,
        token_types: 2,
        epsilon: 1e-12,
        activation: Activation::Gelu,
    }
}

fn xlm_r() -> Bert {
    let (positions, first_position, token_types) = (66, 2, 1);
    // A width of 48 is no whole number of int4's blocks.
    let (width, epsilon, activation) = (48, 1e-5, Activation::GeluTanh);
    Bert { width, positions, first_position, token_types, epsilon, activation, ..bert() }
}

fn qwen3() -> Qwen3 {
    Qwen3 {
        layers: 5,
        width: 64,
        inner: 96,
        heads: 4,
        groups: 2,
        head: 32,
        vocabulary: 203,
        positions: 128,
        epsilon: 1e-6,
        theta: 1e6,
    }
}

const NATIVE: [PackageRecipe; 3] = [recipe(Pooling::Mean), recipe(Pooling::Cls), recipe(Pooling::Last)];

const fn recipe(pooling: Pooling) -> PackageRecipe {
    PackageRecipe { name: "native", pooling, layers: NonZeroUsize::MIN, normalise: true }
}

fn papr(layers: usize) -> PackageRecipe {
    let layers = NonZeroUsize::new(layers).expect("there is a layer");
    PackageRecipe { name: "papr", pooling: Pooling::Mean, layers, normalise: true }
}

fn options(target: Target, precision: WeightPrecision, length: usize, recipe: PackageRecipe) -> Options {
    let length = NonZeroUsize::new(length).expect("it has a length");
    let (name, licence) = ("Sample".to_owned(), Some("MIT".to_owned()));
    Options { target, precision, raised: BTreeSet::new(), length, longest: length, recipe, name, licence }
}

/// What a family's hidden states are multiplied by. Those of `qwen3-large` are in the ten thousands, near the end of half
/// precision's range, as those of large models are; those of `qwen3-small` are so small that a norm's epsilon counts.
fn size_of_states(family: &str) -> f32 {
    match family {
        "qwen3-large" => 32_768.0,
        "qwen3-small" => 1.0 / 64.0,
        _ => 1.0,
    }
}

/// Random weights for a model. Norms are around 1, and Qwen3's first token is a row of zeros.
fn sample(family: &str) -> BTreeMap<String, Numbers> {
    let architecture = architecture(family);
    let mut sample = Sample::qwen3(Dtype::F32);
    sample.tensors.clear();
    for weight in architecture.weights() {
        sample.add(&weight.name, &weight.shape, Dtype::F32);
        let numbers = sample.tensors.get_mut(&weight.name).expect("it was added");
        if weight.role == Role::Exact && weight.shape.len() == 1 && weight.name.ends_with("weight") {
            numbers.values.iter_mut().for_each(|number| *number += 1.0);
        }
        if weight.name.contains("embed_tokens") {
            numbers.values[..weight.row()].fill(0.0);
        }
        if ["embed_tokens", "o_proj", "down_proj"].iter().any(|part| weight.name.contains(part)) {
            let size = size_of_states(family);
            numbers.values.iter_mut().for_each(|number| *number *= size);
        }
    }
    sample.tensors
}

/// The bytes of `weight.bin`, written as the contract says and with every tensor whole in memory.
fn fill(plan: &PackagePlan, tensors: &BTreeMap<String, Numbers>) -> Vec<u8> {
    let mut file = vec![0; plan.weight_bytes as usize];
    file[..64].copy_from_slice(&plan.file_head());
    let mut put = |place: &Place, data: &[u8]| {
        assert_eq!(data.len() as u64, place.bytes(), "an array does not fill its place");
        file[place.offset as usize..][..64].copy_from_slice(&place.head());
        file[place.data_offset() as usize..][..data.len()].copy_from_slice(data);
    };
    for segment in &plan.segments {
        match segment {
            Segment::Constant { place, constant } => put(place, &constant.bytes()),
            Segment::Stored(stored) => {
                let weight = &plan.weights[stored.weight];
                let values = &tensors[&weight.name].values;
                let rows = || values.chunks_exact(weight.row()).take(stored.rows.end).skip(stored.rows.start);
                let mut encoder = match stored.start() {
                    Start::Encode(encoding) => encoding.encoder(),
                    Start::Survey => {
                        let mut survey = Survey::new();
                        rows().for_each(|row| survey.row(row).expect("in range"));
                        survey.finish().encoder()
                    }
                };
                let mut codes = Vec::new();
                rows().for_each(|row| encoder.row(row, &mut codes).expect("in range"));
                let rest = encoder.finish(&mut codes);
                put(&stored.form.codes(), &codes);
                match stored.form.rest() {
                    Some(place) => put(&place, &rest),
                    None => assert!(rest.is_empty()),
                }
            }
        }
    }
    file
}

fn write(folder: &Path, plan: &PackagePlan, tensors: &BTreeMap<String, Numbers>) {
    let model = plan.model(SHA256);
    for (path, bytes) in
        [(path::MANIFEST, manifest(&model).into_bytes()), (path::MODEL, model), (path::WEIGHTS, fill(plan, tensors))]
    {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().expect("it has one")).expect("it can be made");
        fs::write(path, bytes).expect("it can be written");
    }
}

/// What the checker computes the wanted vectors from.
fn reference(architecture: &Architecture) -> Json {
    match architecture {
        Architecture::Bert(it) => json!({
            "family": "bert", "layers": it.layers, "heads": it.heads, "first_position": it.first_position,
            "epsilon": it.epsilon, "activation": format!("{:?}", it.activation),
        }),
        Architecture::NomicBert(_) => unreachable!("there is no package of it"),
        Architecture::Qwen3(it) => json!({
            "family": "qwen3", "layers": it.layers, "heads": it.heads, "groups": it.groups, "head": it.head,
            "epsilon": it.epsilon, "theta": it.theta,
        }),
    }
}

/// A package to be judged: its name, the model that it is of, and what it is made for.
type Case = (String, &'static str, Options);

const FAMILIES: [&str; 6] = ["bert", "bert-relu", "xlm-r", "qwen3", "qwen3-large", "qwen3-small"];

/// Every family, target, precision and recipe at two lengths, and shorter ones beside a longer one.
fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (target, system) in [(Target::MacOs13, 13), (Target::MacOs14, 14), (Target::MacOs15, 15)] {
        for precision in [WeightPrecision::Fp16, WeightPrecision::Int8, WeightPrecision::FourBit] {
            for family in ["bert", "xlm-r", "qwen3"] {
                let mut add = |length: usize, recipe: PackageRecipe| {
                    let pooling = format!("{:?}", recipe.pooling).to_lowercase();
                    let (name, layers, precision_name) = (recipe.name, recipe.layers, precision.name());
                    let case = format!("{family}-macos{system}-{precision_name}-{name}-{pooling}-{layers}-{length}");
                    cases.push((case, family, options(target, precision, length, recipe)));
                };
                let native = if family == "qwen3" { NATIVE[2] } else { NATIVE[0] };
                add(12, native);
                add(32, native);
                add(12, papr(if family == "qwen3" { 4 } else { 2 }));
                add(32, papr(if family == "qwen3" { 4 } else { 2 }));
                add(12, NATIVE[1]);
                let (case, _, long) = cases.last().expect("one was added").clone();
                let [length, longest] = [9, 32].map(|length| NonZeroUsize::new(length).expect("it is not 0"));
                cases.push((format!("{case}-as-9-of-32"), family, Options { length, longest, ..long }));
            }
        }
    }
    for target in [Target::MacOs13, Target::MacOs15] {
        let relu = PackageRecipe { normalise: false, ..NATIVE[0] };
        cases.push((
            format!("bert-relu-{target:?}-plain"),
            "bert-relu",
            options(target, WeightPrecision::Fp16, 20, relu),
        ));
        for recipe in [NATIVE[2], papr(4)] {
            for family in ["qwen3-large", "qwen3-small"] {
                let case = format!("{family}-{target:?}-{}", recipe.name);
                cases.push((case, family, options(target, WeightPrecision::Int8, 20, recipe)));
            }
        }
    }
    cases
}

/// Models in several packages, and each in one to compare with. Room for one layer or for two in each package.
fn chunks() -> Vec<(Case, Chunk)> {
    let mut chunks = Vec::new();
    for (target, precision, system) in
        [(Target::MacOs13, WeightPrecision::Fp16, 13), (Target::MacOs15, WeightPrecision::Int8, 15)]
    {
        for (family, layers) in [("bert", 2), ("xlm-r", 2), ("qwen3", 4)] {
            for (recipe, length) in [(papr(layers), 20), (NATIVE[2], 12)] {
                let mut options = options(target, precision, length, recipe);
                options.longest = NonZeroUsize::new(20).expect("it is not 0");
                let architecture = architecture(family);
                let alone = PackagePlan::make(&architecture, options.clone(), only(1)).expect("it fits").weight_bytes;
                let first = PackagePlan::make(&architecture, options.clone(), only(0)).expect("it fits").weight_bytes;
                for (room, limit) in [("one", first), ("two", first.max(2 * alone))] {
                    let case = format!("{family}-macos{system}-in-chunks-{}-{room}", recipe.name);
                    let parts = split(&architecture, &options, limit).expect("it can be split");
                    for chunk in parts {
                        let case = format!("{case}-{}of{}", chunk.number, chunk.of);
                        chunks.push(((case, family, options.clone()), chunk));
                    }
                    chunks.push(((case, family, options.clone()), Chunk::whole(&architecture)));
                }
            }
        }
    }
    chunks
}

/// A package with nothing but one layer.
fn only(layer: usize) -> Chunk {
    Chunk { number: 1, of: 1, layers: layer..layer + 1 }
}

fn architecture(family: &str) -> Architecture {
    match family {
        "bert" => Architecture::Bert(bert()),
        "bert-relu" => Architecture::Bert(Bert { activation: Activation::Relu, ..bert() }),
        "xlm-r" => Architecture::Bert(xlm_r()),
        _ => Architecture::Qwen3(qwen3()),
    }
}

#[test]
fn every_array_fills_its_place_and_every_tensor_is_used_once() {
    for family in FAMILIES {
        let architecture = architecture(family);
        let tensors = sample(family);
        for (case, _, options) in cases().into_iter().filter(|(_, of, _)| *of == family) {
            let plan = plan(&architecture, options);
            let stored = plan.segments.iter().filter_map(|segment| match segment {
                Segment::Stored(Stored { weight, .. }) => Some(*weight),
                Segment::Constant { .. } => None,
            });
            let used: Vec<usize> = stored.collect();
            let distinct: BTreeSet<usize> = used.iter().copied().collect();
            assert_eq!((used.len(), distinct.len()), (plan.weights.len(), plan.weights.len()), "{case}");
            drop(fill(&plan, &tensors));
        }
    }
}

/// Writes all packages, and for each family the checkpoint that they are of.
fn write_all(folder: &Path) {
    for family in FAMILIES {
        let architecture = architecture(family);
        let tensors = sample(family);
        let mut checkpoint = Sample::qwen3(Dtype::F32);
        (checkpoint.tensors, checkpoint.config) = (tensors.clone(), reference(&architecture));
        fs::create_dir_all(folder.join(family)).expect("it can be made");
        checkpoint.write(&folder.join(family));
        for (case, _, options) in cases().into_iter().filter(|(_, of, _)| *of == family) {
            write(&folder.join(format!("{case}.mlpackage")), &plan(&architecture, options), &tensors);
        }
        for ((case, _, options), chunk) in chunks().into_iter().filter(|((_, of, _), _)| *of == family) {
            let plan = PackagePlan::make(&architecture, options, chunk).expect("it fits the model");
            write(&folder.join(format!("{case}.mlpackage")), &plan, &tensors);
        }
    }
}

#[test]
fn apples_own_library_loads_every_package_and_two_evaluators_agree_with_what_the_model_is_by_definition() {
    let kept = std::env::var_os("EMBEDBAR_PACKAGES").map(PathBuf::from);
    let temporary = tempfile::tempdir().expect("a temporary folder");
    let folder = kept.as_deref().unwrap_or(temporary.path());
    let Some(python) = std::env::var_os("EMBEDBAR_PYTHON") else {
        if kept.is_some() {
            write_all(folder);
        }
        skip("no Python with coremltools: `cargo xtask test` brings one");
        return;
    };
    write_all(folder);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../tests/package/check.py");
    let output = Command::new(python).arg(script).arg(folder).output().expect("Python can be started");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    let count = cases().len() + chunks().len();
    assert!(said.contains(&format!("{count} packages, 0 wrong")), "{said}");
    let chains = chunks().iter().filter(|(_, chunk)| chunk.of > 1 && chunk.number == 1).count();
    assert!(said.contains(&format!("{chains} chains, 0 wrong")), "{said}");
}

/// Has `cargo xtask test` count the test as skipped.
fn skip(reason: &str) {
    let name = "package::tests::apples_own_library_loads_every_package_and_two_evaluators_agree_with_what_the_model_is_by_definition";
    if let Some(list) = std::env::var_os("EMBEDBAR_SKIPS") {
        let file = fs::OpenOptions::new().append(true).create(true).open(list);
        file.and_then(|mut file| writeln!(file, "{name}\t{reason}")).expect("the list of skips can be written");
    }
}

fn plan(architecture: &Architecture, options: Options) -> PackagePlan {
    PackagePlan::make(architecture, options, Chunk::whole(architecture)).expect("it fits the model")
}

/// The forms of the tensors whose role is `role`.
fn forms(plan: &PackagePlan, role: Role) -> BTreeSet<(&'static str, bool)> {
    let forms = plan.segments.iter().filter_map(|segment| match segment {
        Segment::Stored(stored) if plan.weights[stored.weight].role == role => {
            Some((stored.form.name(), stored.fell_back))
        }
        _ => None,
    });
    forms.collect()
}

#[test]
fn each_role_is_stored_as_the_precision_and_the_system_say() {
    use Target::{MacOs13, MacOs14, MacOs15};
    use WeightPrecision::{FourBit, Fp16, Int8};
    for (target, precision, tokens, matrix) in [
        (MacOs13, Fp16, "F16", "F16"),
        (MacOs14, Int8, "INT8", "INT8"),
        (MacOs15, Int8, "INT8", "INT8"),
        (MacOs13, FourBit, "INT8", "PALETTE4"),
        (MacOs14, FourBit, "INT8", "PALETTE4"),
        (MacOs15, FourBit, "INT8", "INT4"),
    ] {
        for architecture in [Architecture::Bert(bert()), Architecture::Qwen3(qwen3())] {
            let plan = plan(&architecture, options(target, precision, 16, NATIVE[0]));
            assert_eq!(forms(&plan, Role::Tokens), [(tokens, false)].into());
            assert_eq!(forms(&plan, Role::Matrix), [(matrix, false)].into());
            assert_eq!(forms(&plan, Role::Exact), [("F16", false)].into());
        }
    }
}

#[test]
fn rows_that_are_no_whole_number_of_blocks_fall_back_to_8_bits() {
    let plan = plan(&architecture("xlm-r"), options(Target::MacOs15, WeightPrecision::FourBit, 16, NATIVE[0]));
    // The inner width of 96 is three blocks, the width of 48 one and a half.
    assert_eq!(forms(&plan, Role::Matrix), [("INT4", false), ("INT8", true)].into());
}

#[test]
fn a_model_is_the_same_bytes_each_time_and_as_long_for_every_source() {
    let architecture = architecture("qwen3");
    let make = || plan(&architecture, options(Target::MacOs15, WeightPrecision::Int8, 16, papr(4)));
    let (one, other) = (make().model(SHA256), make().model(SHA256));
    assert_eq!(one, other);
    let elsewhere = make().model(&"f".repeat(64));
    assert_eq!(one.len(), elsewhere.len());
    assert_ne!(manifest(&one), manifest(&elsewhere));
}

#[test]
fn what_the_model_does_not_have_is_refused_with_numbers() {
    let refused = |family: &str, length, recipe| {
        let (model, options) = (architecture(family), options(Target::MacOs13, WeightPrecision::Fp16, length, recipe));
        PackagePlan::make(&model, options, Chunk::whole(&model)).map(|_| ()).expect_err("it does not fit")
    };
    // XLM-R's table has rows for two positions that no text has.
    assert_eq!(refused("xlm-r", 65, NATIVE[0]), PackageError::TooLong { length: 65, longest: 64 });
    assert_eq!(refused("qwen3", 129, NATIVE[2]), PackageError::TooLong { length: 129, longest: 128 });
    assert_eq!(refused("bert", 16, papr(4)), PackageError::TooFewLayers { wanted: 4, layers: 3 });
}

/// The number of operations of a kind.
fn operations(plan: &PackagePlan, kind: &str) -> usize {
    let main = &plan.program.functions["main"];
    let blocks = main.block_specializations.values();
    blocks.flat_map(|block| &block.operations).filter(|operation| operation.kind == kind).count()
}

#[test]
fn packages_of_several_lengths_have_the_same_weight_file_and_only_the_shorter_ones_cut_its_tables() {
    for (family, tables) in [("bert", 1), ("xlm-r", 1), ("qwen3", 3)] {
        let (architecture, tensors) = (architecture(family), sample(family));
        for target in [Target::MacOs13, Target::MacOs15] {
            let make = |length: usize, longest: usize| {
                let longest = NonZeroUsize::new(longest).expect("it is not 0");
                plan(&architecture, Options { longest, ..options(target, WeightPrecision::Int8, length, NATIVE[0]) })
            };
            let long = make(32, 32);
            let weights = fill(&long, &tensors);
            assert_eq!(operations(&long, "slice_by_size"), 0);
            for length in [1, 12, 31] {
                let short = make(length, 32);
                assert!(fill(&short, &tensors) == weights, "{family}, {length} tokens");
                assert_eq!(operations(&short, "slice_by_size"), tables, "{family}, {length} tokens");
            }
            assert!(fill(&make(31, 31), &tensors) != weights, "{family}: the tables are those of the longest length");
        }
    }
}

/// The least number of packages, by trying all ways to cut.
fn least(architecture: &Architecture, options: &Options, limit: u64) -> Option<usize> {
    let layers = architecture.layers();
    let fits = |cuts: u32| {
        let mut ends: Vec<usize> = (1..layers).filter(|at| cuts & 1 << at != 0).collect();
        ends.push(layers);
        let starts = [0].into_iter().chain(ends.clone());
        starts.zip(&ends).all(|(start, end)| {
            let chunk = Chunk { number: 1, of: 1, layers: start..*end };
            PackagePlan::make(architecture, options.clone(), chunk).expect("it fits").weight_bytes <= limit
        })
    };
    let ways = (0..1_u32 << layers).filter(|cuts| cuts & 1 == 0 && fits(*cuts));
    ways.map(|cuts| cuts.count_ones() as usize + 1).min()
}

#[test]
fn a_model_is_split_into_the_least_number_of_packages_that_have_each_tensor_once() {
    for family in ["bert", "qwen3"] {
        let architecture = architecture(family);
        let options = options(Target::MacOs14, WeightPrecision::Fp16, 16, papr(3));
        let whole = plan(&architecture, options.clone());
        for limit in (1..=24).map(|share| whole.weight_bytes * share / 20) {
            let Some(least) = least(&architecture, &options, limit) else {
                let error = split(&architecture, &options, limit).expect_err("a layer is too large");
                assert!(matches!(error, PackageError::LayerTooLarge { bytes, .. } if bytes > limit), "{error}");
                continue;
            };
            let chunks = split(&architecture, &options, limit).expect("it can be split");
            assert_eq!(chunks.len(), least, "{family}, {limit} bytes");
            let mut used = Vec::new();
            let mut end = 0;
            for (number, chunk) in (1..).zip(chunks) {
                assert_eq!((chunk.number, chunk.of, chunk.layers.start), (number, least, end));
                end = chunk.layers.end;
                let plan = PackagePlan::make(&architecture, options.clone(), chunk).expect("it fits the model");
                assert!(plan.weight_bytes <= limit, "{family}, {limit} bytes");
                used.extend(plan.segments.iter().filter_map(|segment| match segment {
                    Segment::Stored(stored) => Some(stored.weight),
                    Segment::Constant { .. } => None,
                }));
            }
            assert_eq!(end, architecture.layers());
            used.sort_unstable();
            assert_eq!(used, (0..whole.weights.len()).collect::<Vec<_>>(), "{family}, {limit} bytes");
        }
    }
}

#[test]
fn what_one_chunk_leaves_the_next_one_takes() {
    let (architecture, mut seen) = (architecture("qwen3"), BTreeSet::new());
    let options = options(Target::MacOs13, WeightPrecision::Fp16, 16, papr(4));
    let names = |features: &[super::FeatureDescription]| -> Vec<String> {
        features.iter().map(|feature| feature.name.clone()).collect()
    };
    let whole = plan(&architecture, options.clone());
    assert_eq!(
        (names(&whole.inputs), names(&whole.outputs)),
        (vec!["input_ids".to_owned(), "attention_mask".to_owned()], vec!["embedding".to_owned()])
    );
    assert!(!whole.metadata(SHA256).user_defined.contains_key("embedbar.chunk"));
    for limit in (4..20).map(|share| whole.weight_bytes * share / 20) {
        let Ok(chunks) = split(&architecture, &options, limit) else { continue };
        let plans: Vec<PackagePlan> = chunks
            .into_iter()
            .map(|chunk| PackagePlan::make(&architecture, options.clone(), chunk).expect("it fits the model"))
            .collect();
        for (number, plan) in (1..).zip(&plans) {
            let said = &plan.metadata(SHA256).user_defined["embedbar.chunk"];
            assert_eq!(*said, format!("{number}/{}", plans.len()));
        }
        for pair in plans.windows(2) {
            let mut left = names(&pair[0].outputs);
            for name in &mut left {
                *name = name.replace("_out", "");
            }
            let taken: Vec<String> =
                names(&pair[1].inputs).into_iter().filter(|name| name != "attention_mask").collect();
            assert_eq!(left, taken);
            seen.insert(taken);
        }
        assert_eq!(names(&plans.last().expect("there is one").outputs), ["embedding"]);
    }
    assert_eq!(seen.len(), 2, "with and without a sum of layers: {seen:?}");
}

/// Qwen3-Embedding 4B, as its configuration has it.
fn large() -> Architecture {
    Architecture::Qwen3(Qwen3 {
        layers: 36,
        width: 2560,
        inner: 9728,
        heads: 32,
        groups: 8,
        head: 128,
        vocabulary: 151_665,
        positions: 40_960,
        ..qwen3()
    })
}

#[test]
fn a_large_model_in_chunks_keeps_the_layers_that_are_averaged_together() {
    for (precision, count) in [(WeightPrecision::Fp16, 4), (WeightPrecision::Int8, 2), (WeightPrecision::FourBit, 2)] {
        let options = options(Target::MacOs15, precision, 128, papr(4));
        let chunks = split(&large(), &options, NEURAL_ENGINE_BYTES).expect("it can be split");
        assert_eq!(chunks.len(), count, "{precision:?}");
        let last = chunks.into_iter().next_back().expect("there is one");
        let plan = PackagePlan::make(&large(), options, last).expect("it fits the model");
        let inputs: Vec<&str> = plan.inputs.iter().map(|input| input.name.as_str()).collect();
        assert_eq!(inputs, ["hidden", "attention_mask"]);
    }
}

#[test]
fn the_size_of_a_large_model_is_known_without_its_weights() {
    let large = large();
    let bytes = |precision| plan(&large, options(Target::MacOs15, precision, 128, NATIVE[2])).weight_bytes;
    assert!(bytes(WeightPrecision::Fp16) > 8_000_000_000);
    assert!((4_000_000_000..4_100_000_000).contains(&bytes(WeightPrecision::Int8)));
    assert!((2_000_000_000..2_500_000_000).contains(&bytes(WeightPrecision::FourBit)));
    assert!(bytes(WeightPrecision::Int8) > NEURAL_ENGINE_BYTES);
}
