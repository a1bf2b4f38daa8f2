//! Core ML packages from checkpoint to vector: converted by `embedbar convert`, answered from by a worker, compared with the
//! same model from its checkpoint.

use std::path::Path;

use embedbar_tests::checkpoint;
use embedbar_tests::program::{TestHome, checkout};
use serde_json::Value;

const TEXTS: [&str; 4] =
    ["a cat sat on the mat", "Wo liegt der Schlüssel zum Serverraum?", "tail -f /var/log/syslog", "メモリが足りない"];

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// Converts and embeds; the vectors of the package and its line of the conversion.
fn through_a_package(home: &TestHome, source: &Path, precision: &str, recipe: &str) -> (Vec<Vec<f64>>, Value) {
    let target = home.scratch().join("model.mlpackage");
    let convert = ["convert", "--hf", text(source), "--out", text(&target), precision, "--recipe", recipe];
    let lengths = if recipe == "papr" { &[][..] } else { &["--lengths", "64"] };
    let mut converted = home.json(&[&convert, lengths].concat());
    let embed = [&["embed", "--model", text(&target), "--recipe", recipe][..], &TEXTS].concat();
    let lines = home.json(&embed);
    assert!(lines.iter().all(|line| line["generation"]["recipe"] == recipe));
    (lines.iter().map(vector).collect(), converted.remove(0))
}

fn from_the_checkpoint(home: &TestHome, source: &Path, recipe: &str) -> Vec<Vec<f64>> {
    let embed = [&["embed", "--model", text(source), "--recipe", recipe][..], &TEXTS].concat();
    home.json(&embed).iter().map(vector).collect()
}

fn vector(line: &Value) -> Vec<f64> {
    line["embedding"].as_array().expect("a vector").iter().map(|number| number.as_f64().expect("a number")).collect()
}

fn farthest(one: &[Vec<f64>], other: &[Vec<f64>]) -> f64 {
    let pairs = one.iter().flatten().zip(other.iter().flatten());
    pairs.map(|(one, other)| (one - other).abs()).fold(0.0, f64::max)
}

fn lowest_cosine(one: &[Vec<f64>], other: &[Vec<f64>]) -> f64 {
    let cosine = |(one, other): (&Vec<f64>, &Vec<f64>)| one.iter().zip(other).map(|(one, other)| one * other).sum();
    one.iter().zip(other).map(cosine).fold(1.0, f64::min)
}

#[test]
fn a_half_precision_package_of_each_family_gives_what_its_checkpoint_gives() {
    let home = TestHome::new();
    for (model, recipe) in
        [("bert-small", "native"), ("xlm-roberta-small", "native"), ("qwen3-small", "native"), ("qwen3-small", "papr")]
    {
        let source = checkout().join("tests/truth").join(model);
        let (made, line) = through_a_package(&home, &source, "--fp16", recipe);
        let wanted = from_the_checkpoint(&home, &source, recipe);
        assert_eq!(made[0].len(), wanted[0].len());
        // The checkpoints of the first two are in single precision: rounding their random weights moves the vectors too.
        let cosine = lowest_cosine(&made, &wanted);
        assert!(cosine >= 0.9999, "{model}, {recipe}: {cosine}");
        let distance = farthest(&made, &wanted);
        assert!(distance <= 1e-3 || model != "qwen3-small", "{model}, {recipe}: {distance:e}");
        assert_eq!(line["neural_engine"], true);
    }
}

#[test]
fn packages_of_real_weights_stay_near_their_source_in_each_precision() {
    let name = "packages::packages_of_real_weights_stay_near_their_source_in_each_precision";
    let Some(source) = checkpoint::minilm_or_skip(name).expect("the checkpoint can be fetched") else { return };
    let home = TestHome::new();
    let wanted = from_the_checkpoint(&home, &source, "native");
    for (precision, floor) in [("--fp16", 0.99999), ("--int8", 0.99), ("--k4bit", 0.9)] {
        let (made, _) = through_a_package(&home, &source, precision, "native");
        let cosine = lowest_cosine(&made, &wanted);
        assert!(cosine >= floor, "{precision}: {cosine}");
        if precision == "--fp16" {
            assert!(farthest(&made, &wanted) <= 1e-3);
        }
    }
}

#[test]
fn another_recipe_than_the_built_in_one_is_refused_and_inspect_says_what_a_package_is() {
    let home = TestHome::new();
    let source = checkout().join("tests/truth/qwen3-small");
    through_a_package(&home, &source, "--int8", "papr");
    let target = home.scratch().join("model.mlpackage");
    let error = home.failure(&["embed", "hello", "--model", text(&target)]);
    assert!(error.contains("papr") && error.contains("hint: "), "{error}");
    let told = home.json(&["inspect", text(&target)]).remove(0);
    assert_eq!(told["kind"], "core_ml_package");
    assert_eq!(told["precision"], "int8");
    assert_eq!(told["package"]["user_defined"]["embedbar.recipe"], "papr");
    assert_eq!(told["embedding"]["lengths"]["fixed"], 32);
    assert_eq!(told["findings"].as_array().map(Vec::len), Some(0), "{}", told["findings"]);
    std::fs::write(target.join("Data/com.apple.CoreML/weights/weight.bin"), "short").expect("it can be written");
    let told = home.json(&["inspect", text(&target)]).remove(0);
    assert_ne!(told["findings"].as_array().map(Vec::len), Some(0), "a damaged weight file is found");
    let error = home.failure(&["inspect", "/no/such/file"]);
    assert!(error.contains("/no/such/file") && error.contains("hint: "), "{error}");
}
