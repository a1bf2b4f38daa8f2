//! Models that are dropped on the real window, by the pointer, and what the window says of them.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use embedbar_tests::checkpoint;
use embedbar_tests::desktop::{Desktop, LIBRARY_TITLE};
use embedbar_tests::program::checkout;
use embedbar_tests::webdriver::WebDriver;

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
    let truth = checkout().join("tests/truth");
    let quantised = put(&truth.join("mlx-qwen3-small"), "quantised", &["config.json", "model.safetensors"]);
    fs::copy(truth.join("qwen3-small/tokenizer.json"), quantised.join("tokenizer.json")).expect("it can be copied");
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
            offered(&bench, &library, &quantised)?;
            installed(&library, "quantised", "Tested")?;
            desktop.picture_of(LIBRARY_TITLE, &checkout().join("out/desktop/library.png"))?;
            // What is corrupt is refused before anything could be clicked.
            bench.rig.drop_on(&corrupt, LIBRARY_TITLE)?;
            library.wait_for_text("main", |text| text.contains("model.safetensors"))?;
            assert!(library.find("[data-testid=offer-install]")?.is_none(), "a corrupt model can be installed");
            Ok(())
        })
        .expect("what is dropped is shown for what it is");
}
