//! Reads what the Python scripts of `tests/truth` wrote, and compares vectors with it.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

/// The folder of the committed expected values.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("truth")
}

/// The texts of `sentences.json`, in order.
pub fn texts() -> Vec<String> {
    let path = folder().join("sentences.json");
    let entries: Vec<HashMap<String, String>> =
        serde_json::from_slice(&fs::read(path).expect("the texts are committed"))
            .expect("the texts are a list of objects");
    entries.into_iter().map(|mut entry| entry.remove("text").expect("every entry has a text")).collect()
}

/// One file of expected values.
pub struct Reference {
    bytes: Vec<u8>,
}

impl Reference {
    /// Opens NAME.safetensors.
    pub fn open(name: &str) -> Self {
        let path = folder().join(format!("{name}.safetensors"));
        Self { bytes: fs::read(&path).unwrap_or_else(|error| panic!("`{}`: {error}", path.display())) }
    }

    /// How NAME.safetensors was made.
    pub fn provenance(name: &str) -> Value {
        let path = folder().join(format!("{name}.json"));
        serde_json::from_slice(&fs::read(path).expect("provenance is committed")).expect("provenance is JSON")
    }

    /// A matrix, row by row.
    pub fn vectors(&self, name: &str) -> Vec<Vec<f32>> {
        let (dtype, shape, data) = self.tensor(name);
        assert_eq!(dtype, Dtype::F32, "{name}");
        let numbers: Vec<f32> = data.as_chunks().0.iter().copied().map(f32::from_le_bytes).collect();
        numbers.chunks_exact(shape[1]).map(<[f32]>::to_vec).collect()
    }

    /// Whole numbers.
    pub fn counts(&self, name: &str) -> Vec<usize> {
        let (dtype, _, data) = self.tensor(name);
        assert_eq!(dtype, Dtype::I64, "{name}");
        let numbers = data.as_chunks().0.iter().copied().map(i64::from_le_bytes);
        numbers.map(|number| usize::try_from(number).expect("counts are not negative")).collect()
    }

    /// The texts whose places the tensor `indices` names.
    pub fn texts(&self, indices: &str) -> Vec<String> {
        let all = texts();
        self.counts(indices).into_iter().map(|index| all[index].clone()).collect()
    }

    fn tensor(&self, name: &str) -> (Dtype, Vec<usize>, &[u8]) {
        let file = SafeTensors::deserialize(&self.bytes).expect("the file is whole");
        let tensor = file.tensor(name).unwrap_or_else(|error| panic!("{name}: {error}"));
        (tensor.dtype(), tensor.shape().to_vec(), tensor.data())
    }
}

/// Cosine in double precision.
pub fn cosine(left: &[f32], right: &[f32]) -> f64 {
    assert_eq!(left.len(), right.len(), "the vectors differ in width");
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>();
    dot(left, right) / (dot(left, left) * dot(right, right)).sqrt()
}

/// The mean of the cosines of every vector with the expected one.
pub fn mean_cosine(found: &[Vec<f32>], expected: &[Vec<f32>]) -> f64 {
    assert_eq!(found.len(), expected.len(), "a vector for each text");
    let mean =
        found.iter().zip(expected).map(|(found, expected)| cosine(found, expected)).sum::<f64>() / found.len() as f64;
    println!("mean cosine {mean:.9} of {} texts", found.len());
    mean
}

/// The largest difference between two numbers at the same place.
pub fn largest_difference(left: &[Vec<f32>], right: &[Vec<f32>]) -> f32 {
    assert_eq!(left.len(), right.len(), "the lists differ in length");
    let pairs = left.iter().zip(right).flat_map(|(left, right)| left.iter().zip(right));
    pairs.map(|(left, right)| (left - right).abs()).fold(0.0, f32::max)
}

/// Asserts that every vector points where the expected one does; names the text that is farthest off.
pub fn assert_near(found: &[Vec<f32>], expected: &[Vec<f32>], texts: &[String], floor: f64) {
    assert_eq!(found.len(), expected.len(), "a vector for each text");
    let cosines = found.iter().zip(expected).map(|(found, expected)| cosine(found, expected));
    let (worst, lowest) =
        cosines.enumerate().min_by(|(_, left), (_, right)| left.total_cmp(right)).expect("there are texts");
    println!("lowest cosine {lowest:.9} of {} texts", found.len());
    let beginning: String = texts[worst].chars().take(80).collect();
    assert!(lowest >= floor, "cosine {lowest:.9} is below {floor} for text {worst}: {beginning:?}");
}
