//! Files of an arrival in a folder of ours: the same bytes, their digests, and nothing outside.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::Path;
use std::process::Command;

use proptest::prelude::*;

use embedbar_intake::{ArrivedFile, IntakeError, Manner, Placed, Unwatched, Way, place, recognise};

use crate::samples::{self, Impatient, arrived};

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

/// By a program that is not ours.
fn sha256sum(path: &Path) -> String {
    let (program, arguments): (_, &[&str]) =
        if cfg!(target_vendor = "apple") { ("shasum", &["-a", "256"]) } else { ("sha256sum", &[]) };
    let output = Command::new(program).args(arguments).arg(path).output().expect("it can be run");
    String::from_utf8_lossy(&output.stdout).split_whitespace().next().expect("a digest").to_owned()
}

fn check(placed: &Placed, folder: &Path, original: &dyn Fn(&str) -> Vec<u8>) {
    let names: Vec<String> = samples::tree(folder).into_iter().map(|(name, _)| name).collect();
    let mut said: Vec<&str> = placed.files.iter().map(|file| file.to.as_str()).collect();
    said.sort_unstable();
    let mut found: Vec<&str> = names.iter().map(String::as_str).collect();
    found.sort_unstable();
    assert_eq!(said, found);
    for file in &placed.files {
        let path = folder.join(&file.to);
        assert_eq!(fs::read(&path).expect("a file"), original(&file.to), "{}", file.to);
        assert_eq!(file.sha256, sha256sum(&path));
    }
    assert_eq!(placed.bytes, placed.files.iter().map(|file| file.bytes).sum::<u64>());
}

#[test]
fn copies_are_the_same_bytes_in_files_of_their_own() {
    let (source, target) = (folder(), folder());
    samples::checkpoint(source.path());
    // More than one block.
    let large = samples::tensors(&[("w", safetensors::Dtype::F32, &[1_000_003])]);
    samples::write(source.path(), &[("model.safetensors", &large)]);
    let arrival = arrived(source.path());
    let watch = Impatient::default();
    watch.looks_left.set(usize::MAX);
    let placed = place(&arrival, target.path(), Manner::Copy, &watch).expect("placed");
    check(&placed, target.path(), &|name| fs::read(source.path().join(name)).expect("the original"));
    assert!([Way::Cloned, Way::Copied].contains(&placed.manner));
    assert_eq!(watch.last.get(), (arrival.bytes, arrival.bytes));
    let inode = |folder: &Path| fs::symlink_metadata(folder.join("model.safetensors")).expect("a file").ino();
    assert_ne!(inode(source.path()), inode(target.path()));
    let text = serde_json::to_string(&placed).expect("JSON");
    assert_eq!(serde_json::from_str::<Placed>(&text).expect("it is read"), placed);
}

#[test]
fn links_lead_to_the_real_files() {
    let (source, target) = (folder(), folder());
    samples::package(&source.path().join("real.mlpackage"));
    let blob = source.path().join("blob");
    let weight = source.path().join("real.mlpackage/Data/com.apple.CoreML/weights/weight.bin");
    fs::rename(&weight, &blob).expect("moved");
    symlink(&blob, &weight).expect("a link");
    let arrival = arrived(&source.path().join("real.mlpackage"));
    let placed = place(&arrival, target.path(), Manner::Link, &Unwatched).expect("placed");
    assert_eq!(placed.manner, Way::Linked);
    check(&placed, target.path(), &|name| fs::read(source.path().join(name)).expect("the original"));
    let link = target.path().join("real.mlpackage/Data/com.apple.CoreML/weights/weight.bin");
    assert_eq!(fs::read_link(link).expect("a link"), fs::canonicalize(blob).expect("it is there"));
}

#[test]
fn what_was_unpacked_stays_when_the_scratch_folder_goes() {
    let (source, root) = (folder(), folder());
    samples::checkpoint(source.path());
    let archive = root.path().join("x.zip");
    fs::write(&archive, samples::zip_of(source.path(), "x/")).expect("written");
    for manner in [Manner::Copy, Manner::Link] {
        let (scratch, target) = (root.path().join("scratch"), root.path().join("target"));
        fs::create_dir(&scratch).expect("a folder");
        fs::create_dir(&target).expect("a folder");
        let arrival = recognise(&archive, &scratch, &Unwatched).expect("a model");
        let placed = place(&arrival, &target, manner, &Unwatched).expect("placed");
        assert_eq!(placed.manner, Way::Moved);
        fs::remove_dir_all(&scratch).expect("removed");
        check(&placed, &target, &|name| fs::read(source.path().join(name)).expect("the original"));
        fs::remove_dir_all(&target).expect("removed");
    }
}

#[test]
fn what_changed_since_it_was_looked_at_is_refused() {
    let (source, root) = (folder(), folder());
    samples::checkpoint(source.path());
    let arrival = arrived(source.path());
    let placing = |name: &str| {
        let target = root.path().join(name);
        fs::create_dir(&target).expect("a folder");
        place(&arrival, &target, Manner::Copy, &Unwatched).expect_err(name)
    };
    let path = source.path().join("model.safetensors");
    let sound = fs::read(&path).expect("weights");
    fs::write(&path, &sound[..sound.len() - 1]).expect("written");
    assert!(matches!(placing("shorter"), IntakeError::Changed { .. }));
    fs::write(&path, [&sound[..], b"x"].concat()).expect("written");
    assert!(matches!(placing("longer"), IntakeError::Changed { .. }));
    fs::write(&path, vec![255; sound.len()]).expect("written");
    assert!(matches!(placing("other"), IntakeError::Damaged { .. }));
    fs::remove_file(&path).expect("removed");
    assert!(matches!(placing("gone"), IntakeError::NotFound { .. }));
    symlink("/dev/zero", &path).expect("a link");
    assert!(matches!(placing("device"), IntakeError::NotAFile { .. }));
}

#[test]
fn an_arrival_that_was_tampered_with_writes_nothing_outside() {
    let (source, root) = (folder(), folder());
    samples::checkpoint(source.path());
    let sound = arrived(source.path());
    let target = root.path().join("target");
    fs::create_dir(&target).expect("a folder");
    for to in ["../x", "/x", "a/../../x", "", "a\\b", "config.json"] {
        let mut arrival = sound.clone();
        arrival.files.push(ArrivedFile { from: source.path().join("config.json"), to: to.to_owned(), bytes: 1 });
        let error = place(&arrival, &target, Manner::Copy, &Unwatched).expect_err(to);
        assert!(matches!(error, IntakeError::Name { .. }), "{to}: {error}");
    }
    assert_eq!(samples::tree(root.path()), []);
    let elsewhere = folder();
    symlink(elsewhere.path(), root.path().join("link")).expect("a link");
    for place_at in [root.path().join("link"), root.path().join("none"), source.path().to_path_buf()] {
        let error = place(&sound, &place_at, Manner::Copy, &Unwatched).expect_err("refused");
        assert!(matches!(error, IntakeError::NotEmpty { .. }), "{error}");
    }
    assert_eq!(samples::tree(elsewhere.path()), []);
}

#[test]
fn placing_ends_when_asked() {
    let (source, root) = (folder(), folder());
    samples::checkpoint(source.path());
    let arrival = arrived(source.path());
    for (looks, manner) in [(0, Manner::Copy), (3, Manner::Copy), (3, Manner::Link)] {
        let watch = Impatient::default();
        watch.looks_left.set(looks);
        let target = root.path().join(format!("{looks}-{manner:?}"));
        fs::create_dir(&target).expect("a folder");
        assert!(matches!(place(&arrival, &target, manner, &watch), Err(IntakeError::Cancelled)));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever a damaged model does, it is an error or its very bytes in the target folder, and nothing else is touched.
    #[test]
    fn a_changed_model_is_an_error_or_placed_as_it_is(
        which in 0..4_usize,
        file in any::<usize>(),
        changes in proptest::collection::vec((any::<usize>(), any::<u8>()), 1..4),
        cut in proptest::option::of(any::<usize>()),
    ) {
        let root = folder();
        let (source, target) = (root.path().join("in/model"), root.path().join("target"));
        match which {
            0 => samples::checkpoint(&source),
            1 => samples::mlx(&source),
            2 => samples::package(&source),
            _ => samples::write(&source, &[("x.gguf", &samples::plain_gguf())]),
        }
        let files = samples::tree(&source);
        let (name, mut bytes) = files[file % files.len()].clone();
        for (at, to) in changes {
            // Headers are where the harm is done.
            let at = at % bytes.len().min(400);
            bytes[at] = to;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut % bytes.len());
        }
        fs::write(source.join(&name), &bytes).expect("written");
        fs::create_dir(&target).expect("a folder");
        let before = samples::tree(&root.path().join("in"));
        if let Ok(arrival) = recognise(&source, root.path(), &Unwatched) {
            let placed = place(&arrival, &target, Manner::Copy, &Unwatched).expect("what was recognised can be placed");
            for (from, to) in arrival.files.iter().zip(&placed.files) {
                prop_assert_eq!(fs::read(&from.from).expect("a file"), fs::read(target.join(&to.to)).expect("a file"));
            }
        }
        prop_assert_eq!(samples::tree(&root.path().join("in")), before);
        let names = fs::read_dir(root.path()).expect("a folder").count();
        prop_assert_eq!(names, 2);
    }
}
