//! Every parser is given the bytes of its corpus: what fuzzing found once, and what it took to reach each of its branches.

use std::fs;
use std::path::{Path, PathBuf};

use embedbar_hostile::PARSERS;

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz")
}

fn names(folder: &Path, cut: &str) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut names: Vec<String> = entries
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().trim_end_matches(cut).to_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn every_parser_has_a_target_and_a_corpus() {
    let parsers: Vec<&str> = PARSERS.iter().map(|(name, _)| *name).collect();
    assert_eq!(names(&fuzz().join("fuzz_targets"), ".rs"), parsers);
    assert_eq!(names(&fuzz().join("corpus"), ""), parsers);
    let manifest = fs::read_to_string(fuzz().join("Cargo.toml")).expect("a manifest");
    for parser in parsers {
        assert!(manifest.contains(&format!("name = \"{parser}\"\n")), "`{parser}` is no program of the package");
    }
}

#[test]
fn the_corpus_holds() {
    for (name, parser) in PARSERS {
        let folder = fuzz().join("corpus").join(name);
        let inputs = names(&folder, "");
        assert!(!inputs.is_empty(), "`{name}` has no corpus");
        for input in inputs {
            let bytes = fs::read(folder.join(&input)).expect("an input");
            let holds = std::panic::catch_unwind(|| parser(&bytes)).is_ok();
            assert!(holds, "`{name}` does not hold of `src-tauri/fuzz/corpus/{name}/{input}`: the reason is above");
        }
    }
}
