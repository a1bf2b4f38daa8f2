//! Packages that coremltools made, against a forward pass in numpy, and copies of one that are wrong in one way each.
//! `tests/mil/make_packages.py` makes them; `EMBEDBAR_PYTHON` names the interpreter, which `cargo xtask test` provides.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use embedbar_mil::{Arithmetic, Package, Tensor};
use serde_json::Value;

/// The folder with the packages, made once; `None`: they cannot be made here.
fn packages(test: &str) -> Option<&'static Path> {
    static FOLDER: OnceLock<Option<PathBuf>> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let python = std::env::var_os("EMBEDBAR_PYTHON")?;
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../tests/mil/make_packages.py");
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("packages");
        if folder.is_dir() {
            std::fs::remove_dir_all(&folder).expect("the packages of an earlier run can be removed");
        }
        let output = Command::new(python).arg(script).arg(&folder).output().expect("Python starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Some(folder)
    });
    if folder.is_none() {
        skip(test, "EMBEDBAR_PYTHON is not set; `cargo xtask test` sets it");
    }
    folder.as_deref()
}

/// What `embedbar_tests::skip` does; that package depends on too much to be depended on here.
fn skip(test: &str, reason: &str) {
    eprintln!("SKIPPED {test}: {reason}");
    let Some(path) = std::env::var_os("EMBEDBAR_SKIPS") else { return };
    let mut file = std::fs::OpenOptions::new().append(true).create(true).open(path).expect("the list of skips opens");
    file.write_all(format!("{test}\t{reason}\n").as_bytes()).expect("the list of skips is written");
}

fn list(folder: &Path, name: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(folder.join(name)).expect("the script wrote it");
    serde_json::from_str(&text).expect("JSON")
}

fn open(folder: &Path, name: &Value) -> Package {
    let path = folder.join(format!("{}.mlpackage", name.as_str().expect("a name")));
    Package::open(&path).unwrap_or_else(|error| panic!("{error}"))
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().expect("a list").iter().map(|number| number.as_f64().expect("a number")).collect()
}

fn inputs(run: &Value) -> BTreeMap<String, Tensor> {
    let inputs = run["inputs"].as_object().expect("inputs").iter().map(|(name, tensor)| {
        let shape: Vec<usize> = numbers(&tensor["shape"]).into_iter().map(|size| size as usize).collect();
        let values: Vec<i32> = numbers(&tensor["values"]).into_iter().map(|value| value as i32).collect();
        (name.clone(), Tensor::int32(&shape, &values).expect("a tensor"))
    });
    inputs.collect()
}

/// The largest difference between an output and what numpy computed.
fn difference(package: &Package, arithmetic: Arithmetic, case: &Value) -> f64 {
    let program = package.program(None, arithmetic).unwrap_or_else(|error| panic!("{error}"));
    let mut worst: f64 = 0.0;
    for run in case["runs"].as_array().expect("runs") {
        let outputs = program.run(&inputs(run)).unwrap_or_else(|error| panic!("{error}"));
        let found = &outputs[case["output"].as_str().expect("a name")];
        let expected = numbers(&run["output"]["values"]);
        let found = found.floats().expect("floats");
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(expected) {
            let difference = (f64::from(*found) - expected).abs();
            assert!(!difference.is_nan());
            worst = worst.max(difference);
        }
    }
    worst
}

#[test]
fn what_coremltools_writes_computes_what_numpy_computes() {
    let Some(folder) = packages("mil-coremltools-computes") else { return };
    let cases = list(folder, "cases.json");
    assert!(cases.len() > 20);
    let mut failures = Vec::new();
    for case in &cases {
        let package = open(folder, &case["name"]);
        let tolerance = case["tolerance"].as_f64().expect("a number");
        let single = difference(&package, Arithmetic::Single, case);
        let half = difference(&package, Arithmetic::HalfRounded, case);
        println!("{}: {single:.1e}, rounded to halves {half:.1e}", case["name"]);
        if single > tolerance || half > 1e-2 {
            failures.push(format!("{}: {single:.1e} and {half:.1e}", case["name"]));
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

#[test]
fn what_coremltools_writes_is_described_as_what_it_is() {
    let Some(folder) = packages("mil-coremltools-described") else { return };
    for case in list(folder, "cases.json") {
        let package = open(folder, &case["name"]);
        let description = package.describe();
        let expect = &case["expect"];
        let found = serde_json::to_value(&description).expect("JSON");
        assert_eq!(found["precision"], expect["precision"], "{case:.60}");
        assert_eq!(found["functions"][0]["opset"], expect["opset"]);
        assert_eq!(description.author, "Embedbar's tests");
        assert_eq!(description.license, "MIT");
        assert_eq!(description.user_defined["case"], case["name"].as_str().expect("a name"));
        let interface = package.embedding_interface(None).unwrap_or_else(|error| panic!("{error}"));
        let interface = serde_json::to_value(interface).expect("JSON");
        for key in ["ids", "mask", "lengths", "dimensions", "per_token"] {
            assert_eq!(interface[key], expect[key], "{key} of {}", case["name"]);
        }
        assert_eq!(interface["output"], case["output"]);
    }
}

#[test]
fn what_coremltools_writes_has_no_finding() {
    let Some(folder) = packages("mil-coremltools-clean") else { return };
    for case in list(folder, "cases.json") {
        let findings = open(folder, &case["name"]).lint();
        assert!(findings.is_empty(), "{}: {findings:#?}", case["name"]);
    }
    let findings = open(folder, &"multifunction".into()).lint();
    assert!(findings.is_empty(), "{findings:#?}");
}

#[test]
fn every_mutation_is_found() {
    let Some(folder) = packages("mil-coremltools-mutations") else { return };
    let mutations = list(folder, "mutations.json");
    assert!(mutations.len() > 25);
    let mut missed = Vec::new();
    for mutation in &mutations {
        let findings = open(folder, &mutation["name"]).lint();
        if !findings.iter().any(|finding| mutation["code"] == finding.code) {
            missed.push(format!("{mutation}: {findings:#?}"));
        }
    }
    assert!(missed.is_empty(), "{missed:#?}");
}

#[test]
fn a_function_is_chosen_by_name_and_has_a_length_of_its_own() {
    let Some(folder) = packages("mil-coremltools-functions") else { return };
    let package = open(folder, &"multifunction".into());
    assert_eq!(package.function_names(), ["s16", "s32"]);
    assert_eq!(package.default_function(), "s32");
    let default = package.embedding_interface(None).expect("it embeds");
    let short = package.embedding_interface(Some("s16")).expect("it embeds");
    assert_eq!((default.lengths.fitting(1), short.lengths.fitting(1)), (32, 16));
    let ids: Vec<i32> = (1..11).chain([-1; 22]).collect();
    let embed = |interface: &embedbar_mil::EmbeddingInterface, length: usize| {
        let program = package.program(Some(&interface.function), Arithmetic::Single).expect("it can be prepared");
        let inputs = interface.inputs(&ids[..length], &vec![1; length]).expect("inputs");
        let outputs = program.run(&inputs).unwrap_or_else(|error| panic!("{error}"));
        outputs[&interface.output].floats().expect("floats").to_vec()
    };
    let (long, short) = (embed(&default, 32), embed(&short, 16));
    for (long, short) in long.iter().zip(&short) {
        assert!((long - short).abs() < 1e-5);
    }
    assert!(package.program(Some("s64"), Arithmetic::Single).is_err());
}

#[test]
fn inputs_of_a_shape_that_is_not_allowed_are_refused() {
    let Some(folder) = packages("mil-coremltools-shapes") else { return };
    for (name, good, bad) in [("bert_enumerated", 32, 33), ("bert_range", 33, 65), ("bert_exact", 32, 16)] {
        let program = open(folder, &name.into()).program(None, Arithmetic::Single).expect("it can be prepared");
        let run = |length: usize| {
            let ids = Tensor::int32(&[1, length], &vec![1; length]).expect("a tensor");
            program.run(&BTreeMap::from([("input_ids".to_owned(), ids)]))
        };
        run(good).unwrap_or_else(|error| panic!("{error}"));
        let error = run(bad).expect_err("it is not allowed").to_string();
        assert!(error.contains("`input_ids`"), "{error}");
    }
}

#[test]
fn weights_are_read_in_rows() {
    let Some(folder) = packages("mil-coremltools-weights") else { return };
    let package = open(folder, &"qwen3_int8_coreml8".into());
    let (name, declared) = package.weights(2048).into_iter().next().expect("it has weights");
    let weight = package.weight(&name).expect("it is there");
    assert_eq!(declared.fixed().as_deref(), Some(weight.shape()));
    let (rows, width) = weight.extent();
    let mut all = vec![0.0; rows * width];
    weight.read(0, &mut all).expect("all rows");
    let mut row = vec![0.0; width];
    weight.read(rows - 1, &mut row).expect("the last row");
    assert_eq!(row, all[(rows - 1) * width..]);
    assert!(weight.read(rows, &mut row).is_err());
    assert!(package.weight("nothing").is_err());
}
