//! Models that are dropped on the real window, by the pointer, and what the window says of them.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use embedbar_tests::checkpoint;
use embedbar_tests::desktop::{self, Desktop, LIBRARY_TITLE};
use embedbar_tests::mlx::quantised_minilm;
use embedbar_tests::program::{checkout, embedbar};
use embedbar_tests::reference::{Reference, assert_near};
use embedbar_tests::webdriver::WebDriver;
use serde_json::Value;

use crate::{Bench, bench};

/// A copy, a look into every file and a test of the model, on a machine that is busy with other tests.
const INSTALLED: Duration = Duration::from_mins(2);

/// What a checkpoint is made of.
const FILES: [&str; 3] = ["config.json", "model.safetensors", "tokenizer.json"];

/// Drops a path on the window and waits for what the window says that it is.
fn offered(bench: &Bench, library: &WebDriver, path: &Path) -> Result<String> {
    bench.rig.drop_on(path, LIBRARY_TITLE)?;
    library.wait_for_text("[data-testid=offer]", |text| !text.trim().is_empty())
}

/// Clicks on the offer's button and waits until the model is in the list with this health.
fn installed(library: &WebDriver, id: &str, health: &str) -> Result<()> {
    let button = library.wait_for("[data-testid=offer-install]")?;
    library.click(&button)?;
    let row = format!("[data-testid=library-model][data-id='{id}'] [data-testid=library-health]");
    library.wait_for_text_within(&row, INSTALLED, |text| text == health)?;
    Ok(())
}

/// Makes a model the app's active one and has the app embed texts.
fn vectors(bench: &Bench, model: &str, texts: &[String]) -> Result<Vec<Vec<f32>>> {
    let asked = |arguments: &[&str]| -> Result<String> {
        let mut command = Command::new(embedbar());
        let output = command.args(arguments).env("EMBEDBAR_HOME", desktop::home(&bench.rig)).output()?;
        anyhow::ensure!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?)
    };
    asked(&["use", model])?;
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let answer = asked(&[&["embed", "--json", "--prompt", "none", "--"], &*texts].concat())?;
    let item = |line: &str| -> Result<Vec<f32>> {
        let item: Value = serde_json::from_str(line)?;
        anyhow::ensure!(item["generation"]["model"] == model, "{item}");
        Ok(serde_json::from_value(item["embedding"].clone())?)
    };
    answer.lines().map(item).collect()
}

#[test]
fn models_that_are_dropped_on_the_window_are_installed_and_a_corrupt_one_is_not() {
    const NAME: &str = "dropping::models_that_are_dropped_on_the_window_are_installed_and_a_corrupt_one_is_not";
    let Some(bench) = bench(NAME) else { return };
    let Some(minilm) = checkpoint::minilm_or_skip(&format!("desktop::{NAME}")).expect("it can be fetched") else {
        return;
    };
    let home = bench.rig.home();
    let put = |from: &Path, name: &str, files: &[&str]| {
        let folder = home.join(name);
        fs::create_dir_all(&folder).expect("it can be made");
        for file in files {
            fs::copy(from.join(file), folder.join(file)).expect("it can be copied");
        }
        folder
    };
    let real = put(&minilm, "dropped", &FILES);
    let archive = home.join("zipped.zip");
    let folder = put(&minilm, "zipped", &FILES);
    let zipped = Command::new("python3").args(["-m", "zipfile", "-c"]).arg(&archive).arg(&folder).status();
    assert!(zipped.is_ok_and(|status| status.success()), "python3 packs it");
    let quantised = put(&minilm, "quantised", &[]);
    let digest = quantised_minilm(&minilm, 4, &quantised).expect("it can be written");
    assert_eq!(Reference::provenance("mlx-models")["quantised"]["minilm_4"], digest, "MLX's own bytes");
    let corrupt = put(&minilm, "corrupt", &FILES);
    let whole = fs::read(corrupt.join("model.safetensors")).expect("it can be read");
    fs::write(corrupt.join("model.safetensors"), &whole[..whole.len() / 3]).expect("it can be written");

    let mut desktop = Desktop::start(&bench.rig, bench.launch.clone()).expect("the app starts");
    desktop
        .explain(|desktop| {
            desktop.choose(&["Models…"])?;
            let library = desktop.shown(LIBRARY_TITLE, "library")?;
            library.wait_for("[data-testid=library-model]")?;
            let said = offered(&bench, &library, &real)?;
            assert!(said.contains("384") && said.contains("bert"), "{said}");
            fs::create_dir_all(checkout().join("out/desktop"))?;
            desktop.picture_of(LIBRARY_TITLE, &checkout().join("out/desktop/offer.png"))?;
            installed(&library, "dropped", "Tested")?;
            offered(&bench, &library, &archive)?;
            installed(&library, "zipped", "Tested")?;
            let said = offered(&bench, &library, &quantised)?;
            assert!(said.contains("MLX"), "{said}");
            installed(&library, "quantised", "Tested")?;
            desktop.picture_of(LIBRARY_TITLE, &checkout().join("out/desktop/library.png"))?;
            // What is corrupt is refused before anything could be clicked.
            bench.rig.drop_on(&corrupt, LIBRARY_TITLE)?;
            library.wait_for_text("main", |text| text.contains("model.safetensors"))?;
            assert!(library.find("[data-testid=offer-install]")?.is_none(), "a corrupt model can be installed");
            // What MLX has quantised answers in the app as it does in MLX.
            let reference = Reference::open("mlx-models");
            let texts = reference.texts("minilm_indices");
            let found = vectors(&bench, "quantised", &texts)?;
            assert_near(&found, &reference.vectors("minilm_4"), &texts, 0.998);
            Ok(())
        })
        .expect("what is dropped is shown for what it is");
}
