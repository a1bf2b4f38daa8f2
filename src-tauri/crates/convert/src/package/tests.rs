//! Whole packages of small random models. `EMBEDBAR_PACKAGES=FOLDER cargo test --package embedbar-convert package` leaves them
//! in FOLDER, where `tests/package/check.py` loads and evaluates them with Apple's coremltools.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use safetensors::Dtype;
use serde_json::{Value as Json, json};

use super::architecture::{Activation, Architecture, Bert, Qwen3, Role};
use super::blob::Place;
use super::options::{Options, PackageRecipe, Target, WeightPrecision};
use super::segment::{Segment, Start, Stored};
use super::{PackagePlan, path};
use crate::Pooling;
use crate::samples::{Numbers, Sample};

const SHA256: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// Three layers, so that a mean of layers is not one of all.
fn bert() -> Bert {
    Bert {
        layers: 3,
        width: 64,
        inner: 96,
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
    Options { target, precision, length, recipe, name: "Sample".to_owned(), licence: Some("MIT".to_owned()) }
}

/// Random weights for a model. Norms are around 1, and one number of each table is far out.
fn sample(architecture: &Architecture) -> BTreeMap<String, Numbers> {
    let mut sample = Sample::qwen3(Dtype::F32);
    sample.tensors.clear();
    for weight in architecture.weights() {
        sample.add(&weight.name, &weight.shape, Dtype::F32);
        let numbers = sample.tensors.get_mut(&weight.name).expect("it was added");
        if weight.role == Role::Exact && weight.shape.len() == 1 && weight.name.ends_with("weight") {
            numbers.values.iter_mut().for_each(|number| *number += 1.0);
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
                    Start::Encode(encoder) => encoder,
                    Start::Survey(mut survey) => {
                        rows().for_each(|row| survey.row(row).expect("in range"));
                        survey.finish()
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
    for (path, bytes) in [
        (path::MANIFEST, plan.manifest(&model).into_bytes()),
        (path::MODEL, model),
        (path::WEIGHTS, fill(plan, tensors)),
    ] {
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
        Architecture::Qwen3(it) => json!({
            "family": "qwen3", "layers": it.layers, "heads": it.heads, "groups": it.groups, "head": it.head,
            "epsilon": it.epsilon, "theta": it.theta,
        }),
    }
}

/// Every family, target, precision and recipe at two lengths.
fn cases() -> Vec<(String, &'static str, Options)> {
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
            }
        }
    }
    cases
}

fn architecture(family: &str) -> Architecture {
    match family {
        "bert" => Architecture::Bert(bert()),
        "xlm-r" => Architecture::Bert(xlm_r()),
        _ => Architecture::Qwen3(qwen3()),
    }
}

#[test]
fn every_array_fills_its_place_and_every_tensor_is_used_once() {
    let kept = std::env::var_os("EMBEDBAR_PACKAGES").map(PathBuf::from);
    for family in ["bert", "xlm-r", "qwen3"] {
        let architecture = architecture(family);
        let tensors = sample(&architecture);
        if let Some(folder) = &kept {
            let folder = folder.join(family);
            fs::create_dir_all(&folder).expect("it can be made");
            let mut checkpoint = Sample::qwen3(Dtype::F32);
            (checkpoint.tensors, checkpoint.config) = (tensors.clone(), reference(&architecture));
            checkpoint.write(&folder);
        }
        for (case, _, options) in cases().into_iter().filter(|(_, of, _)| *of == family) {
            let plan = PackagePlan::make(&architecture, options).expect("it fits the model");
            let stored = plan.segments.iter().filter_map(|segment| match segment {
                Segment::Stored(Stored { weight, .. }) => Some(*weight),
                Segment::Constant { .. } => None,
            });
            let used: Vec<usize> = stored.collect();
            let distinct: BTreeSet<usize> = used.iter().copied().collect();
            assert_eq!((used.len(), distinct.len()), (plan.weights.len(), plan.weights.len()), "{case}");
            match &kept {
                Some(folder) => write(&folder.join(format!("{case}.mlpackage")), &plan, &tensors),
                None => drop(fill(&plan, &tensors)),
            }
        }
    }
}
