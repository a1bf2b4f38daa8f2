//! A package that is written here byte by byte, after the format's definitions: what `cargo test` alone can prove. And what
//! becomes of it when bytes are changed: an error or a result, never a panic.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;

use embedbar_mil::{Arithmetic, ElementType, Lengths, MilError, Package, Precision, StorageKind, Tensor};
use proptest::prelude::*;

fn varint(mut number: u64, bytes: &mut Vec<u8>) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn number(field: u64, number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    varint(field << 3, &mut bytes);
    varint(number, &mut bytes);
    bytes
}

fn message(field: u64, parts: &[Vec<u8>]) -> Vec<u8> {
    let inner = parts.concat();
    let mut bytes = Vec::new();
    varint(field << 3 | 2, &mut bytes);
    varint(inner.len() as u64, &mut bytes);
    bytes.extend(inner);
    bytes
}

fn text(field: u64, text: &str) -> Vec<u8> {
    message(field, &[text.as_bytes().to_vec()])
}

const HALF: u64 = 10;
const SINGLE: u64 = 11;
const INT8: u64 = 21;
const INT32: u64 = 23;

/// `ValueType` as the given field.
fn value_type(field: u64, dtype: u64, shape: &[u64]) -> Vec<u8> {
    let mut parts = vec![number(1, dtype), number(2, shape.len() as u64)];
    parts.extend(shape.iter().map(|size| message(3, &[message(1, &[number(1, *size)])])));
    message(field, &[message(1, &parts)])
}

fn named(field: u64, name: &str, dtype: u64, shape: &[u64]) -> Vec<u8> {
    message(field, &[text(1, name), value_type(2, dtype, shape)])
}

/// The parts of a `Value`.
fn immediate(dtype: u64, shape: &[u64], elements: Vec<u8>) -> Vec<Vec<u8>> {
    vec![value_type(2, dtype, shape), message(3, &[message(1, &[elements])])]
}

fn stored(dtype: u64, shape: &[u64], offset: u64) -> Vec<Vec<u8>> {
    let reference = message(5, &[text(1, "@model_path/weights/weight.bin"), number(2, offset)]);
    vec![value_type(2, dtype, shape), reference]
}

fn integers(values: &[u64]) -> Vec<u8> {
    let mut packed = Vec::new();
    for value in values {
        varint(*value, &mut packed);
    }
    message(2, &[message(1, &[packed])])
}

fn truth(value: bool) -> Vec<Vec<u8>> {
    immediate(1, &[], message(3, &[message(1, &[vec![u8::from(value)]])]))
}

fn word(value: &str) -> Vec<Vec<u8>> {
    immediate(2, &[], message(4, &[text(1, value)]))
}

fn attribute(name: &str, value: &[Vec<u8>]) -> Vec<u8> {
    message(5, &[text(1, name), message(2, value)])
}

fn input(name: &str, of: &str) -> Vec<u8> {
    message(2, &[text(1, name), message(2, &[message(1, &[text(1, of)])])])
}

/// An operation with one output.
fn operation(kind: &str, output: (&str, u64, &[u64]), mut rest: Vec<Vec<u8>>) -> Vec<u8> {
    let mut parts = vec![text(1, kind), named(3, output.0, output.1, output.2), attribute("name", &word(output.0))];
    parts.append(&mut rest);
    message(3, &parts)
}

fn constant(name: &str, dtype: u64, shape: &[u64], value: &[Vec<u8>]) -> Vec<u8> {
    operation("const", (name, dtype, shape), vec![attribute("val", value)])
}

fn feature(field: u64, name: &str, dtype: u64, shape: &[u64]) -> Vec<u8> {
    let mut parts: Vec<Vec<u8>> = shape.iter().map(|size| number(1, *size)).collect();
    parts.push(number(2, dtype));
    message(field, &[text(1, name), message(3, &[message(5, &parts)])])
}

/// Halves, little-endian.
fn halves(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| half::f16::from_f32(*value).to_le_bytes()).collect()
}

/// A weight file; the offsets of its blobs, too.
fn weight_file(blobs: &[(u32, Vec<u8>)]) -> (Vec<u8>, Vec<u64>) {
    let mut bytes = vec![0; 64];
    bytes[0] = blobs.len() as u8;
    bytes[4] = 2;
    let mut offsets = Vec::new();
    for (dtype, data) in blobs {
        bytes.resize(bytes.len().next_multiple_of(64), 0);
        let offset = bytes.len();
        offsets.push(offset as u64);
        bytes.extend(0xDEAD_BEEF_u32.to_le_bytes());
        bytes.extend(dtype.to_le_bytes());
        bytes.extend((data.len() as u64).to_le_bytes());
        bytes.extend((offset as u64 + 64).to_le_bytes());
        bytes.resize(offset + 64, 0);
        bytes.extend(data);
    }
    (bytes, offsets)
}

/// Looks rows of a table up, takes their mean, and multiplies it with a matrix of bytes.
fn model() -> (Vec<u8>, Vec<u8>) {
    model_with("key", "value")
}

/// With something in its metadata.
fn model_with(key: &str, value: &str) -> (Vec<u8>, Vec<u8>) {
    let table: Vec<f32> = (0_u8..8).map(f32::from).collect();
    let (weights, offsets) = weight_file(&[
        (1, halves(&table)),
        (4, vec![1, 0xff, 2, 0, 127, 3]),
        (4, vec![0, 0, 0]),
        (1, halves(&[0.5, 1.0, 2.0])),
    ]);
    let scalar = |name: &str, value: u64| constant(name, INT32, &[], &immediate(INT32, &[], integers(&[value])));
    let flag = |name: &str, value: bool| constant(name, 1, &[], &truth(value));
    let operations = [
        constant("table", HALF, &[4, 2], &stored(HALF, &[4, 2], offsets[0])),
        scalar("axis", 0),
        scalar("batch", 0),
        operation(
            "gather",
            ("rows", HALF, &[1, 3, 2]),
            vec![
                input("x", "table"),
                input("indices", "input_ids"),
                input("axis", "axis"),
                input("batch_dims", "batch"),
            ],
        ),
        constant("axes", INT32, &[1], &immediate(INT32, &[1], integers(&[1]))),
        flag("keep", false),
        operation(
            "reduce_mean",
            ("mean", HALF, &[1, 2]),
            vec![input("x", "rows"), input("axes", "axes"), input("keep_dims", "keep")],
        ),
        operation(
            "constexpr_affine_dequantize",
            ("matrix", HALF, &[3, 2]),
            vec![
                attribute("quantized_data", &stored(INT8, &[3, 2], offsets[1])),
                attribute("zero_point", &stored(INT8, &[3], offsets[2])),
                attribute("scale", &stored(HALF, &[3], offsets[3])),
                attribute("axis", &immediate(INT32, &[], integers(&[0]))),
            ],
        ),
        constant("bias", HALF, &[3], &immediate(HALF, &[3], message(7, &[message(1, &[halves(&[0.0, 1.0, 0.0])])]))),
        operation(
            "linear",
            ("product", HALF, &[1, 3]),
            vec![input("x", "mean"), input("weight", "matrix"), input("bias", "bias")],
        ),
        constant("single", 2, &[], &word("fp32")),
        operation("cast", ("vector", SINGLE, &[1, 3]), vec![input("x", "product"), input("dtype", "single")]),
    ];
    let mut block = vec![text(2, "vector")];
    block.extend(operations);
    let specialised = message(3, &[text(1, "CoreML6"), message(2, &block)]);
    let function = message(2, &[named(1, "input_ids", INT32, &[1, 3]), text(2, "CoreML6"), specialised]);
    let program = message(502, &[number(1, 1), message(2, &[text(1, "main"), function])]);
    let description = message(
        2,
        &[
            feature(1, "input_ids", 131_104, &[1, 3]),
            feature(10, "vector", 65_568, &[1, 3]),
            message(100, &[text(3, "nobody"), message(100, &[text(1, key), text(2, value)])]),
        ],
    );
    ([number(1, 7), description, program].concat(), weights)
}

fn write(folder: &Path, model: &[u8], weights: &[u8]) {
    let inner = folder.join("Data/com.apple.CoreML");
    std::fs::create_dir_all(inner.join("weights")).expect("folders");
    let item = |name: &str, path: &str| {
        format!(r#"{{"author":"com.apple.CoreML","description":"","name":"{name}","path":"com.apple.CoreML/{path}"}}"#)
    };
    let manifest = format!(
        r#"{{"fileFormatVersion":"1.0.0","rootModelIdentifier":"m","itemInfoEntries":{{"w":{},"m":{}}}}}"#,
        item("weights", "weights"),
        item("model.mlmodel", "model.mlmodel"),
    );
    std::fs::write(folder.join("Manifest.json"), manifest).expect("a manifest");
    std::fs::write(inner.join("model.mlmodel"), model).expect("a model");
    std::fs::write(inner.join("weights/weight.bin"), weights).expect("weights");
}

fn package() -> (tempfile::TempDir, Package) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (model, weights) = model();
    write(folder.path(), &model, &weights);
    let package = Package::open(folder.path()).unwrap_or_else(|error| panic!("{error}"));
    (folder, package)
}

fn ids(values: &[i32]) -> BTreeMap<String, Tensor> {
    let tensor = Tensor::int32(&[1, values.len()], values).expect("a tensor");
    BTreeMap::from([("input_ids".to_owned(), tensor)])
}

#[test]
fn a_package_is_opened_in_a_folder_of_any_name_described_and_clean() {
    let (_folder, package) = package();
    assert_eq!(package.lint(), []);
    let description = package.describe();
    assert_eq!(description.specification_version, 7);
    assert_eq!(description.author, "nobody");
    assert_eq!(description.user_defined["key"], "value");
    assert_eq!(description.functions[0].inputs[0].dtype, Some(ElementType::Int32));
    assert_eq!(description.operations["const"], 7);
    assert_eq!(description.weight_bytes[&StorageKind::Fp16], 16);
    assert_eq!(description.weight_bytes[&StorageKind::Int8], 6);
    assert_eq!(description.weight_bytes[&StorageKind::Parameters], 9);
    assert_eq!(description.precision_class, Some(Precision::Fp16));
}

#[test]
fn it_computes_what_can_be_computed_by_hand() {
    let (_folder, package) = package();
    let program = package.program(None, Arithmetic::Single).unwrap_or_else(|error| panic!("{error}"));
    let outputs = program.run(&ids(&[0, 3, -1])).unwrap_or_else(|error| panic!("{error}"));
    // Rows (0,1), (6,7), (6,7) have the mean (4,5); the matrix is ((0.5,-0.5), (2,0), (254,6)).
    let vector = &outputs["vector"];
    assert_eq!((vector.shape(), vector.floats()), (&[1, 3][..], Some(&[-0.5, 9.0, 1046.0][..])));
    assert_eq!(vector.dtype(), ElementType::Float32);
    let mut seen = Vec::new();
    program
        .run_watched(&ids(&[0, 0, 0]), |name, _| {
            seen.push(name.to_owned());
            ControlFlow::Continue(())
        })
        .unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(seen, ["rows", "mean", "product", "vector"]);
    let mut runs = 0;
    let stopped = program.run_watched(&ids(&[0, 0, 0]), |name, _| {
        runs += 1;
        if name == "mean" { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert!(matches!(stopped, Err(MilError::Stopped { .. })));
    assert_eq!((runs, program.steps()), (2, 4));
}

#[test]
fn weights_are_given_expanded() {
    let (_folder, package) = package();
    let matrix = package.weight("matrix").unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((matrix.shape(), matrix.dtype()), (&[3, 2][..], ElementType::Float16));
    let mut row = [0.0; 2];
    matrix.read(2, &mut row).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(row.map(f32::to_bits), [254.0_f32, 6.0].map(f32::to_bits));
    assert!(matches!(package.weight("mean"), Err(MilError::UnknownWeight { .. })));
}

#[test]
fn its_interface_is_that_of_an_embedding_model() {
    let (_folder, package) = package();
    let interface = package.embedding_interface(None).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((interface.ids.as_str(), interface.mask.as_deref()), ("input_ids", None));
    assert_eq!((&interface.lengths, interface.dimensions), (&Lengths::Fixed(3), 3));
    assert_eq!(interface.inputs(&[0, 3, -1], &[1; 3]), Some(ids(&[0, 3, -1])));
}

#[test]
fn a_part_of_a_model_is_no_embedding_model() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (model, weights) = model_with("embedbar.chunk", "1/3");
    write(folder.path(), &model, &weights);
    let package = Package::open(folder.path()).unwrap_or_else(|error| panic!("{error}"));
    let error = package.embedding_interface(None).expect_err("the rest is missing").to_string();
    assert!(error.contains("`1/3`"), "{error}");
}

#[test]
fn wrong_inputs_are_named() {
    let (_folder, package) = package();
    let program = package.program(None, Arithmetic::Single).unwrap_or_else(|error| panic!("{error}"));
    let error = |inputs| program.run(&inputs).expect_err("it is wrong").to_string();
    assert!(error(ids(&[0, 1])).contains("`input_ids`"));
    assert!(error(BTreeMap::new()).contains("it was not given"));
    assert!(error(ids(&[0, 1, 4])).contains("`gather` for `rows`"));
    let mut more = ids(&[0, 1, 2]);
    more.extend([("other".to_owned(), Tensor::int32(&[], &[1]).expect("a scalar"))]);
    assert!(error(more).contains("`other`"));
}

#[test]
fn an_operation_that_is_not_known_is_named_with_its_output() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (mut model, weights) = model();
    let at = model.windows(11).position(|window| window == b"reduce_mean").expect("it is there");
    model[at..at + 11].copy_from_slice(b"reduce_mode");
    write(folder.path(), &model, &weights);
    let package = Package::open(folder.path()).unwrap_or_else(|error| panic!("{error}"));
    match package.program(None, Arithmetic::Single) {
        Err(MilError::UnknownOperation { operation, output, path }) => {
            assert_eq!((operation.as_str(), output.as_str(), path.as_path()), ("reduce_mode", "mean", folder.path()));
        }
        other => panic!("{other:?}"),
    }
    assert!(package.lint().iter().any(|finding| finding.code == "unknown-operation"));
}

#[test]
fn weights_that_are_a_link_to_another_place_are_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let outside = tempfile::NamedTempFile::new().expect("a temporary file");
    let (model, weights) = model();
    write(folder.path(), &model, &weights);
    let path = folder.path().join("Data/com.apple.CoreML/weights/weight.bin");
    std::fs::remove_file(&path).expect("it was there");
    std::os::unix::fs::symlink(outside.path(), &path).expect("a link");
    assert!(matches!(Package::open(folder.path()), Err(MilError::NotAPackage { .. })));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn whatever_the_bytes_there_is_an_error_or_a_result(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        weight_changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in prop::option::weighted(0.1, any::<prop::sample::Index>()),
    ) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (mut model, mut weights) = model();
        for (index, byte) in changes {
            let at = index.index(model.len());
            model[at] = byte;
        }
        for (index, byte) in weight_changes {
            let at = index.index(weights.len());
            weights[at] = byte;
        }
        if let Some(cut) = cut {
            weights.truncate(cut.index(weights.len()));
        }
        write(folder.path(), &model, &weights);
        if let Ok(package) = Package::open(folder.path()) {
            let _ = package.describe();
            let _ = package.lint();
            let _ = package.embedding_interface(None);
            for (name, _) in package.weights(0) {
                if let Ok(weight) = package.weight(&name) {
                    let (rows, width) = weight.extent();
                    prop_assert!(rows * width <= 8 * weights.len() + model.len());
                    let _ = weight.read(0, &mut vec![0.0; rows * width]);
                }
            }
            if let Ok(program) = package.program(None, Arithmetic::HalfRounded) {
                let _ = program.run(&ids(&[0, 1, 2]));
            }
        }
    }
}
