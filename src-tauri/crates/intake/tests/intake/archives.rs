//! Zip archives: sound ones of each kind, and hostile ones made by hand.

use std::fs;
use std::io::Cursor;
use std::path::Path;

use embedbar_intake::archive::{self, ArchiveProblem};
use embedbar_intake::{IntakeError, Kind, Unwatched, recognise};
use proptest::prelude::*;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use crate::samples::{self, Impatient, targets};

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

/// Drops an archive of these bytes; what is refused leaves nothing in the scratch folder.
fn dropped(bytes: &[u8]) -> (tempfile::TempDir, Result<embedbar_intake::Arrival, IntakeError>) {
    let root = folder();
    let (path, scratch) = (root.path().join("Tiny model.zip"), root.path().join("scratch"));
    fs::write(&path, bytes).expect("written");
    fs::create_dir(&scratch).expect("a folder");
    let found = recognise(&path, &scratch, &Unwatched);
    if found.is_err() {
        assert_eq!(samples::tree(&scratch), []);
    }
    (root, found)
}

fn problem(bytes: &[u8]) -> ArchiveProblem {
    match dropped(bytes).1 {
        Err(IntakeError::Archive { problem, .. }) => problem,
        other => panic!("{other:?}"),
    }
}

/// The same bytes with all of `from` replaced by as many of `to`.
fn patched(mut bytes: Vec<u8>, from: &[u8], to: &[u8]) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut count = 0;
    for at in 0..=bytes.len() - from.len() {
        if bytes[at..].starts_with(from) {
            bytes[at..at + to.len()].copy_from_slice(to);
            count += 1;
        }
    }
    assert!(count > 0, "it is not there");
    bytes
}

/// Where each of the signatures is: `PK\x03\x04` of files, `PK\x01\x02` of the list.
fn places(bytes: &[u8], signature: [u8; 4]) -> Vec<usize> {
    (0..bytes.len() - 4).filter(|at| bytes[*at..].starts_with(&signature)).collect()
}

#[test]
fn every_kind_is_found_in_an_archive_with_or_without_a_top_folder() {
    type Maker<'a> = (&'a dyn Fn(&Path), Kind);
    let makers: [Maker<'_>; 5] = [
        (&samples::checkpoint, Kind::Checkpoint),
        (&samples::mlx, Kind::MlxCheckpoint),
        (&|folder| samples::write(folder, &[("Tiny-model.gguf", &samples::plain_gguf())]), Kind::Gguf),
        (&samples::package, Kind::CoreMlPackage),
        (&samples::compiled, Kind::CompiledCoreMl),
    ];
    for (make, kind) in makers {
        let sample = folder();
        make(sample.path());
        let mut names = Vec::new();
        for top in ["", "Tiny-model/", "outer/Tiny-model/"] {
            let (_root, arrival) = dropped(&samples::zip_of(sample.path(), top));
            let arrival = arrival.unwrap_or_else(|error| panic!("{kind:?} below `{top}`: {error}"));
            assert_eq!((arrival.kind, arrival.name.as_str()), (kind, "Tiny-model"), "{top}");
            assert!(arrival.in_scratch && arrival.origin.ends_with("Tiny model.zip"));
            for file in &arrival.files {
                let below = file.to.strip_prefix("Tiny-model.mlpackage/").unwrap_or(&file.to);
                let below = below.strip_prefix("Tiny-model.mlmodelc/").unwrap_or(below);
                let original = fs::read(sample.path().join(below)).expect("the original");
                assert_eq!(fs::read(&file.from).expect("unpacked"), original, "{}", file.to);
            }
            names.push(targets(&arrival).iter().map(|it| (*it).to_owned()).collect::<Vec<_>>());
        }
        assert!(names.iter().all(|it| *it == names[0]), "{names:?}");
    }
}

#[test]
fn debris_and_what_no_model_has_is_not_unpacked() {
    let sample = folder();
    samples::checkpoint(sample.path());
    samples::write(
        sample.path(),
        &[
            ("__MACOSX/._config.json", b"x"),
            (".DS_Store", b"x"),
            ("pytorch_model.bin", b"x"),
            ("run.py", b"x"),
            ("more.zip", &samples::zip(&[("x.gguf", b"x")])),
        ],
    );
    let (root, arrival) = dropped(&samples::zip_of(sample.path(), "top/"));
    let notes = arrival.expect("a model").notes;
    assert_eq!(notes.len(), 3, "{notes:?}");
    let unpacked = samples::tree(&root.path().join("scratch"));
    assert!(
        unpacked
            .iter()
            .all(|(name, _)| ![".py", "model.bin", ".zip", "Store", "MACOSX"].iter().any(|it| name.contains(it)))
    );
    let (_root, pickles) = dropped(&samples::zip(&[("pytorch_model.bin", b"x"), ("config.json", b"{}")]));
    assert!(matches!(pickles, Err(IntakeError::OnlyPickles { .. })));
    let (_root, torch) = dropped(&samples::zip(&[("archive/data.pkl", b"x"), ("archive/data/0", b"x")]));
    assert!(matches!(torch, Err(IntakeError::OnlyPickles { .. })));
    assert!(matches!(dropped(&samples::zip(&[])).1, Err(IntakeError::Empty { .. })));
}

#[test]
fn names_that_lead_out_are_refused() {
    for name in [
        "../x.json",
        "/x.json",
        "a/../../x.json",
        "a\\x.json",
        "C:x.json",
        "a/./x.json",
        "a//x.json",
        "x\u{7}.json",
        "x\0.json",
    ] {
        let bytes = samples::zip(&[("config.json", b"{}"), (&"~".repeat(name.len()), b"{}")]);
        let bytes = patched(bytes, "~".repeat(name.len()).as_bytes(), name.as_bytes());
        assert!(matches!(problem(&bytes), ArchiveProblem::Name { .. }), "{name:?}");
    }
}

#[test]
fn links_and_special_files_are_refused() {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    writer.add_symlink("config.json", "/etc/passwd", SimpleFileOptions::default()).expect("a link");
    let bytes = writer.finish().expect("an archive").into_inner();
    assert!(matches!(problem(&bytes), ArchiveProblem::Link { .. }));
    for kind in [0o010_000_u32, 0o020_000, 0o060_000, 0o140_000, 0o040_000] {
        let mut bytes = samples::zip(&[("config.json", b"{}")]);
        let entry = places(&bytes, *b"PK\x01\x02")[0];
        bytes[entry + 5] = 3; // made on Unix
        bytes[entry + 38..entry + 42].copy_from_slice(&((kind | 0o644) << 16).to_le_bytes());
        assert!(matches!(problem(&bytes), ArchiveProblem::Special { .. }), "{kind:o}");
    }
}

#[test]
fn two_entries_of_one_name_are_refused_whatever_their_case() {
    let bytes = samples::zip(&[("config.json", b"{}"), ("CONFIG.json", b"[]")]);
    assert!(matches!(problem(&bytes), ArchiveProblem::Twice { .. }));
    let same = patched(bytes, b"CONFIG.json", b"config.json");
    assert!(matches!(problem(&same), ArchiveProblem::Twice { .. }));
    // A file in the place of a folder.
    let (_root, found) = dropped(&samples::zip(&[("a.json", b"{}"), ("a.json/b.json", b"{}")]));
    assert!(found.is_err());
}

#[test]
fn encrypted_and_unknown_entries_are_refused() {
    let sound = samples::zip(&[("config.json", b"{\"model_type\":\"bert\"}")]);
    let (file, entry) = (places(&sound, *b"PK\x03\x04")[0], places(&sound, *b"PK\x01\x02")[0]);
    let mut encrypted = sound.clone();
    encrypted[file + 6] |= 1;
    encrypted[entry + 8] |= 1;
    assert!(matches!(problem(&encrypted), ArchiveProblem::Encrypted { .. }));
    let mut method = sound.clone();
    method[file + 8] = 12;
    method[entry + 10] = 12;
    assert!(matches!(problem(&method), ArchiveProblem::Method { .. }));
    assert!(matches!(problem(b"no archive at all"), ArchiveProblem::Damaged(_)));
    assert!(matches!(problem(&sound[..sound.len() - 30]), ArchiveProblem::Damaged(_)));
}

#[test]
fn sizes_that_are_not_the_truth_are_refused() {
    let content = vec![b' '; 100_000];
    let sound = samples::zip(&[("config.json", &content)]);
    for declared in [10_u32, 99_999, 100_001, 3_000_000] {
        let lying = patched(sound.clone(), &100_000_u32.to_le_bytes(), &declared.to_le_bytes());
        let found = problem(&lying);
        assert!(matches!(found, ArchiveProblem::Lied { .. } | ArchiveProblem::Damaged(_)), "{declared}: {found}");
    }
    let mut flipped = samples::zip(&[("config.json", b"{}")]);
    let entry = places(&flipped, *b"PK\x01\x02")[0];
    flipped[entry + 16] ^= 1; // its checksum
    assert!(matches!(problem(&flipped), ArchiveProblem::Damaged(_)));
}

#[test]
fn bombs_are_refused_before_and_while_they_are_unpacked() {
    let zeros = vec![0; 3 << 20];
    let shrunk = samples::zip(&[("model.safetensors", &zeros)]);
    assert!(shrunk.len() < 8192);
    // Honest or not about its size: no model shrinks like that.
    let bomb = patched(shrunk.clone(), &(3_u32 << 20).to_le_bytes(), &(300_u32 << 20).to_le_bytes());
    assert!(matches!(problem(&bomb), ArchiveProblem::Bomb { .. }));
    // Lying about it: what is declared is all that is ever written.
    let lying = patched(shrunk, &(3_u32 << 20).to_le_bytes(), &1000_u32.to_le_bytes());
    assert!(matches!(problem(&lying), ArchiveProblem::Lied { .. } | ArchiveProblem::Damaged(_)));
    // Many entries with the same bytes.
    let mut overlapping = samples::zip(&[("a.json", b"{}"), ("b.json", b"{}")]);
    let entry = places(&overlapping, *b"PK\x01\x02")[1];
    overlapping[entry + 42..entry + 46].fill(0);
    assert!(matches!(problem(&overlapping), ArchiveProblem::Overlap | ArchiveProblem::Damaged(_)));
    // More than anybody has.
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    let stored = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    for number in 0..=archive::MAX_ENTRIES {
        writer.start_file(format!("{number}.json"), stored).expect("an entry");
    }
    let many = writer.finish().expect("an archive").into_inner();
    assert!(matches!(problem(&many), ArchiveProblem::TooMany { .. }));
}

#[test]
fn unpacking_is_followed_and_ends_when_asked() {
    let sample = folder();
    samples::checkpoint(sample.path());
    let root = folder();
    let (path, scratch) = (root.path().join("x.zip"), root.path().join("scratch"));
    fs::write(&path, samples::zip_of(sample.path(), "")).expect("written");
    fs::create_dir(&scratch).expect("a folder");
    for looks in 0..4 {
        let watch = Impatient::default();
        watch.looks_left.set(looks);
        assert!(matches!(recognise(&path, &scratch, &watch), Err(IntakeError::Cancelled)));
        assert_eq!(fs::read_dir(&scratch).expect("a folder").count(), 0);
    }
    let watch = Impatient::default();
    watch.looks_left.set(usize::MAX);
    recognise(&path, &scratch, &watch).expect("a model");
    assert!(watch.phases.borrow().contains("unpacking"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever a changed archive does, it writes below its own folder, and no more than it declares.
    #[test]
    fn a_changed_archive_writes_nothing_outside(
        changes in proptest::collection::vec((any::<usize>(), any::<u8>()), 1..4),
        cut in proptest::option::of(any::<usize>()),
    ) {
        let mut bytes = samples::zip(&[("a/config.json", samples::CONFIG.as_bytes()), ("a/tokenizer.json", samples::TOKENIZER.as_bytes())]);
        // Mostly the parts that are not content.
        let interesting: Vec<usize> = places(&bytes, *b"PK\x03\x04").into_iter().flat_map(|at| at..at + 46)
            .chain(places(&bytes, *b"PK\x01\x02")[0]..bytes.len()).filter(|at| *at < bytes.len()).collect();
        for (at, to) in changes {
            bytes[interesting[at % interesting.len()]] = to;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut % bytes.len());
        }
        let root = folder();
        let target = root.path().join("in/unpacked");
        fs::create_dir(root.path().join("in")).expect("a folder");
        let found = archive::extract(Cursor::new(&bytes), Path::new("x.zip"), &target, &Unwatched);
        let written = samples::tree(root.path());
        prop_assert!(written.iter().all(|(name, _)| name.starts_with("in/unpacked/")));
        match found {
            Ok(listing) => prop_assert_eq!(written.iter().map(|(_, bytes)| bytes.len() as u64).sum::<u64>(), listing.bytes),
            Err(_) => prop_assert!(!target.exists()),
        }
    }
}
