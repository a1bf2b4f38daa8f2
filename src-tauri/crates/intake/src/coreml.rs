//! Core ML models: the package (`Manifest.json` and `Data/`), by its own name or bare as repositories have it, and the folder
//! that a Mac compiles it to. What the program in it computes is not looked at here: the crate `mil` is its judge.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use crate::folder::Folder;
use crate::leftovers::{self, Leftover};
use crate::recognise::Model;
use crate::{IntakeError, Kind, Summary, files, json, manifest, names, tokenizer};

const MANIFEST: &str = "Manifest.json";
const DATA: &str = "Data";
/// Of one package.
const FILES: usize = 10_000;
const DEPTH: usize = 8;

/// Where the files are that packages do not have in them.
pub(crate) struct Beside {
    /// What was dropped: outside of it only the tokenizer is looked for.
    pub(crate) root: PathBuf,
    /// Folders, the nearest first.
    pub(crate) folders: Vec<PathBuf>,
}

/// Whether this folder is a package, by its name or by what is in it.
pub(crate) fn is_package(folder: &Folder) -> bool {
    has_extension(&folder.path, "mlpackage") || (folder.has(MANIFEST) && folder.folders.contains(DATA))
}

/// Whether this folder is a compiled model, by its name or by what is in it.
pub(crate) fn is_compiled(folder: &Folder) -> bool {
    has_extension(&folder.path, "mlmodelc") || folder.has("coremldata.bin") || folder.has("model.mil")
}

fn has_extension(path: &Path, wanted: &str) -> bool {
    path.extension().is_some_and(|found| found.eq_ignore_ascii_case(wanted))
}

/// Reads the package in `folder`, which becomes `name.mlpackage`; a tokenizer is looked for in `beside`, in turn.
pub(crate) fn package(folder: &Folder, name: &str, beside: &Beside) -> Result<Model, IntakeError> {
    let (path, _) = folder.needed(MANIFEST)?;
    let manifest = manifest::read(&files::read(&path, json::LIMIT)?).map_err(IntakeError::format(&path))?;
    if !folder.folders.contains(DATA) {
        return Err(match folder.odd.get(DATA) {
            Some(what) => IntakeError::NotAFile { path: folder.path.join(DATA), what },
            None => IntakeError::Missing { folder: folder.path.clone(), file: DATA.to_owned(), instead: None },
        });
    }
    let mut model = Model::new(Kind::CoreMlPackage);
    model.take(folder, MANIFEST, &format!("{name}.mlpackage/{MANIFEST}"))?;
    let data = folder.path.join(DATA);
    let mut tree = Vec::new();
    walk(&data, "", 0, &mut tree)?;
    let mut left_out = Vec::new();
    for (inner, file) in &tree {
        let below = below(inner, file);
        // A part that is a link to a folder or to nothing would be missing from the copy.
        if inner.folder.odd.contains_key(file) && manifest.covers(&below) {
            inner.folder.needed(file)?;
        }
        if !manifest.covers(&below) || leftovers::kind(file) == Leftover::Program || inner.folder.odd.contains_key(file)
        {
            left_out.push(format!("{DATA}/{below}"));
            continue;
        }
        if file == "weight.bin" {
            count_weights(&inner.folder.path.join(file), &mut model.summary)?;
        }
        model.take(&inner.folder, file, &format!("{name}.mlpackage/{DATA}/{below}"))?;
    }
    for item in &manifest.items {
        let part = |it: &crate::ArrivedFile| {
            let rest = it.to.strip_prefix(&format!("{name}.mlpackage/{DATA}/{item}"));
            rest.is_some_and(|rest| {
                if *item == manifest.model { rest.is_empty() } else { rest.is_empty() || rest.starts_with('/') }
            })
        };
        if !model.files.iter().any(part) {
            return Err(IntakeError::Missing { folder: data, file: item.clone(), instead: None });
        }
    }
    model.summary.quantisation = model.summary.prevailing();
    // The indices of tables are packed, so what is stored is not what the model has.
    model.summary.parameters = None;
    model.notes.extend(leftovers::notes(left_out.iter().map(String::as_str)));
    finish(model, folder, beside)
}

/// Reads the compiled model in `folder`, which becomes `name.mlmodelc`.
pub(crate) fn compiled(folder: &Folder, name: &str, beside: &Beside) -> Result<Model, IntakeError> {
    if !folder.has("coremldata.bin") && !folder.has("model.mil") {
        folder.needed("coremldata.bin")?;
    }
    let mut model = Model::new(Kind::CompiledCoreMl);
    let mut tree = Vec::new();
    walk(&folder.path, "", 0, &mut tree)?;
    let mut left_out = Vec::new();
    for (inner, file) in &tree {
        let below = below(inner, file);
        let known = ["bin", "mil", "json", "net", "shape", "weights", "plist"];
        if !known.contains(&names::extension(file).as_str()) || inner.folder.odd.contains_key(file) {
            left_out.push(below);
            continue;
        }
        if inner.prefix.is_empty() && (file == "tokenizer.json" || file == "config.json") {
            continue;
        }
        model.take(&inner.folder, file, &format!("{name}.mlmodelc/{below}"))?;
    }
    model.notes.extend(leftovers::notes(left_out.iter().map(String::as_str)));
    finish(model, folder, beside)
}

/// The tokenizer and the licence, which packages do not have in them.
fn finish(mut model: Model, folder: &Folder, beside: &Beside) -> Result<Model, IntakeError> {
    const NAMES: [&str; 3] = ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"];
    // A folder that cannot be listed has nothing beside the package that could be taken.
    let around: Vec<Folder> = beside.folders.iter().filter_map(|path| Folder::named(path, &NAMES).ok()).collect();
    match around.iter().find(|it| it.has(NAMES[0])) {
        Some(found) => {
            let path = found.path.join(NAMES[0]);
            tokenizer::read(&files::read(&path, tokenizer::MAX_BYTES)?).map_err(IntakeError::format(&path))?;
            for name in NAMES.iter().filter(|name| found.has(name)) {
                model.take(found, name, name)?;
            }
            if found.path != folder.path {
                model.notes.push("the `tokenizer.json` beside it is taken with it".to_owned());
            }
        }
        None => model.notes.push("no `tokenizer.json` is beside it; the model cannot read text without one".to_owned()),
    }
    if model.licence.is_none() {
        let own = beside.folders.iter().filter(|path| path.starts_with(&beside.root));
        model.licence = own.map(|path| Folder::read(path).ok()?.licence()).find_map(|it| it);
    }
    Ok(model)
}

/// A folder within a package, and its path below the package's.
struct Inner {
    folder: std::rc::Rc<Folder>,
    prefix: String,
}

fn below(inner: &Inner, file: &str) -> String {
    if inner.prefix.is_empty() { file.to_owned() } else { format!("{}/{file}", inner.prefix) }
}

/// All files below `path`, and what is neither file nor folder.
fn walk(path: &Path, prefix: &str, depth: usize, tree: &mut Vec<(Inner, String)>) -> Result<(), IntakeError> {
    if depth > DEPTH {
        return Err(IntakeError::damaged(path, format!("it is more than `{DEPTH}` folders deep")));
    }
    let folder = std::rc::Rc::new(Folder::read(path)?);
    for file in folder.files.keys().chain(folder.odd.keys()) {
        if tree.len() == FILES {
            return Err(IntakeError::damaged(path, format!("the package has more than `{FILES}` files")));
        }
        tree.push((Inner { folder: std::rc::Rc::clone(&folder), prefix: prefix.to_owned() }, file.clone()));
    }
    for name in &folder.folders {
        let below = if prefix.is_empty() { name.clone() } else { format!("{prefix}/{name}") };
        walk(&path.join(name), &below, depth + 1, tree)?;
    }
    Ok(())
}

/// Counts the numbers in a file of weights by their types; one of an older format is left to Core ML.
fn count_weights(path: &Path, summary: &mut Summary) -> Result<(), IntakeError> {
    const UNIT: u64 = 64;
    const SENTINEL: u32 = 0xDEAD_BEEF;
    const VERSION: u32 = 2;
    /// Weights of one file at most.
    const COUNT: u32 = 1 << 20;
    let (file, length) = files::open(path)?;
    let block = |at: u64| -> Result<Option<[u8; UNIT as usize]>, IntakeError> {
        let mut bytes = [0; UNIT as usize];
        if at.checked_add(UNIT).is_none_or(|end| end > length) {
            return Ok(None);
        }
        read_at(&file, &mut bytes, at, path)?;
        Ok(Some(bytes))
    };
    let Some(start) = block(0)?.filter(|start| word(start, 4) == VERSION) else { return Ok(()) };
    let count = word(&start, 0);
    if count > COUNT {
        return Err(IntakeError::damaged(path, format!("it claims `{count}` weights")));
    }
    let mut at = UNIT;
    for number in 0..count {
        let head = block(at)?.filter(|head| word(head, 0) == SENTINEL);
        let head = head.ok_or_else(|| IntakeError::damaged(path, format!("its weight `{number}` has no beginning")))?;
        let (size, offset, padding) = (long(&head, 8), long(&head, 16), long(&head, 24));
        let end = offset.checked_add(size).filter(|end| *end <= length && offset >= at + UNIT);
        let end = end.ok_or_else(|| IntakeError::damaged(path, format!("its weight `{number}` ends after its end")))?;
        let (name, bits) = blob_type(word(&head, 4));
        summary.count(name, (size.saturating_mul(8)).saturating_sub(padding) / bits);
        at = end.checked_next_multiple_of(UNIT).unwrap_or(u64::MAX);
    }
    Ok(())
}

fn read_at(file: &File, bytes: &mut [u8], at: u64, path: &Path) -> Result<(), IntakeError> {
    file.read_exact_at(bytes, at).map_err(IntakeError::reading(path))
}

fn word(bytes: &[u8; 64], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes are four bytes. This is a bug."))
}

fn long(bytes: &[u8; 64], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes are eight bytes. This is a bug."))
}

/// The name of a type of the format, and its bits.
fn blob_type(kind: u32) -> (&'static str, u64) {
    match kind {
        1 => ("F16", 16),
        2 => ("F32", 32),
        3 => ("U8", 8),
        4 => ("I8", 8),
        5 => ("BF16", 16),
        6 => ("I16", 16),
        7 => ("U16", 16),
        8 => ("I4", 4),
        9 => ("U1", 1),
        10 => ("U2", 2),
        11 => ("U4", 4),
        12 => ("U3", 3),
        13 => ("U6", 6),
        14 => ("I32", 32),
        15 => ("U32", 32),
        16 => ("F8_E4M3", 8),
        17 => ("F8_E5M2", 8),
        _ => ("unknown", 8),
    }
}
