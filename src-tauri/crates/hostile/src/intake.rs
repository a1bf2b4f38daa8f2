//! Archives, folders and the smaller files of a model that was dropped.

use std::fs;
use std::io::Cursor;
use std::path::{Component, Path, PathBuf};

use embedbar_intake::{Arrival, Manner, Unwatched, archive as zip, manifest as package, place, recognise};
use embedbar_mlx::Quantisation;

use crate::folder::{scratch, write};

/// A zip archive: unpacked as it was listed, below the folder, or not at all.
pub fn archive(bytes: &[u8]) {
    let listed = zip::list(Cursor::new(bytes));
    let scratch = scratch();
    let folder = scratch.path().join("unpacked");
    match zip::extract(Cursor::new(bytes), Path::new("some.zip"), &folder, &Unwatched) {
        Err(_) => assert!(!folder.exists(), "of what is refused nothing is left"),
        Ok(unpacked) => {
            let listed = listed.expect("what can be unpacked can be listed");
            assert_eq!((listed.bytes, listed.wanted.len()), (unpacked.bytes, unpacked.wanted.len()));
            let mut there = files(&folder);
            there.sort();
            let mut wanted: Vec<(PathBuf, u64)> =
                unpacked.wanted.iter().map(|entry| (folder.join(&entry.name), entry.bytes)).collect();
            wanted.sort();
            assert_eq!(there, wanted, "there is what was listed, with the sizes that were declared");
        }
    }
    assert!(fs::read_dir(scratch.path()).expect("it can be read").count() <= 1, "nothing lies beside the folder");
}

/// A folder, or as a file of a name with a dot before it whatever it is: recognised and put in its place, or refused.
pub fn arrival(bytes: &[u8]) {
    let root = scratch();
    let (dropped, own) = (root.path().join("dropped"), root.path().join("own"));
    for folder in [&dropped, &own] {
        fs::create_dir(folder).expect("a folder can be made");
    }
    write(bytes, &dropped);
    let Ok(arrival) = recognise(&dropped, &own, &Unwatched) else { return };
    check(&arrival, &dropped);
    let model = root.path().join("model");
    fs::create_dir(&model).expect("a folder can be made");
    let placed = place(&arrival, &model, Manner::Copy, &Unwatched).expect("what was recognised can be taken");
    assert_eq!(placed.bytes, arrival.bytes, "it is as large as was said");
    let mut there = files(&model);
    there.sort();
    let mut taken: Vec<(PathBuf, u64)> = arrival.files.iter().map(|file| (model.join(&file.to), file.bytes)).collect();
    taken.sort();
    assert_eq!(there, taken, "there is what was said, and nothing else");
    // What we have made of it is a model again, of the same kind.
    let again = recognise(&model, &own, &Unwatched).expect("what was taken is a model");
    assert_eq!(again.kind, arrival.kind);
}

fn check(arrival: &Arrival, dropped: &Path) {
    let dropped = dropped.canonicalize().expect("it is there");
    assert!(!arrival.name.is_empty() && !arrival.files.is_empty());
    assert!(arrival.name.bytes().all(|it| it.is_ascii_alphanumeric() || b"._-".contains(&it)), "{}", arrival.name);
    for file in &arrival.files {
        assert!(file.from.starts_with(&dropped), "`{}` is not below what was dropped", file.from.display());
        let parts = Path::new(&file.to).components();
        assert!(parts.into_iter().all(|part| matches!(part, Component::Normal(_))), "`{}` leads elsewhere", file.to);
    }
}

/// Every file below a folder with its size.
fn files(folder: &Path) -> Vec<(PathBuf, u64)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("it can be read") {
        let path = entry.expect("it can be read").path();
        let metadata = fs::symlink_metadata(&path).expect("it is there");
        if metadata.is_dir() {
            found.extend(files(&path));
        } else {
            assert!(metadata.is_file(), "`{}` is neither a file nor a folder", path.display());
            found.push((path, metadata.len()));
        }
    }
    found
}

/// The `Manifest.json` of a Core ML package: what it names stays below `Data`.
pub fn manifest(bytes: &[u8]) {
    let Ok(manifest) = package::read(bytes) else { return };
    assert!(manifest.items.contains(&manifest.model) && manifest.covers(&manifest.model));
    for item in &manifest.items {
        let mut parts = Path::new(item).components();
        assert!(!item.is_empty() && parts.all(|part| matches!(part, Component::Normal(_))), "`{item}` leads elsewhere");
    }
}

/// What `config.json` says of quantisation, and the numbers that it makes of other bytes.
pub fn mlx_settings(bytes: &[u8]) {
    let end = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    let (config, packed) = (&bytes[..end], bytes.get(end + 1..).unwrap_or_default());
    let Ok(config) = serde_json::from_slice::<serde_json::Value>(config) else { return };
    let read = Quantisation::read(config.get("quantization"), config.get("quantization_config"));
    let Ok(Some(quantisation)) = read else { return };
    for module in ["", "lm_head", "model.layers.0.mlp.up_proj", "layers.0.mlp.up_proj"] {
        let Ok(Some(packing)) = quantisation.of(module) else { continue };
        let words = packed.len() / 4;
        let Some(columns) = packing.columns(words) else { continue };
        assert_eq!(packing.row_bytes(columns), words * 4, "all words belong to the row");
        let groups = vec![1.0; columns / packing.group];
        let mut row = vec![f32::NAN; columns];
        packing.numbers(&packed[..words * 4], &groups, &groups, &mut row);
        let most = (1_u32 << packing.bits.count()) as f32;
        assert!(row.iter().all(|number| (1.0..=most).contains(number)), "each number is that of a code");
    }
}
