//! Which files of a repository make a model that can be run here: a checkpoint in safetensors, one GGUF file, or a Core ML
//! package. A pure function of the listing and of what a person wishes.
//!
//! Only files of known kinds are ever chosen. Pickles and Python are programs of strangers; other formats (ONNX, OpenVINO)
//! nobody here reads. What is not here: what stands in the files, and whether it fits into memory.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::cleaned;
use crate::{Chosen, Entry, FilePath};

/// The files beside the weights that say how text becomes tokens and vectors; whatever of them there is, is taken.
const COMPANIONS: &[&str] = &[
    "added_tokens.json",
    "config.json",
    "config_sentence_transformers.json",
    "modules.json",
    "sentence_bert_config.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
];

/// How PyTorch and its kin end names of files that are programs.
const PICKLES: &[&str] = &["bin", "ckpt", "pickle", "pkl", "pt", "pth"];

/// The GGUF file that is taken where nobody says otherwise: as good as the original, at half its size.
const DEFAULT_GGUF: &str = "Q8_0";

/// The words of our own for a precision, and what GGUF files call it, the better first.
const WORDS: &[(&str, &[&str])] = &[
    ("4bit", &["Q4_K_M", "Q4_K_S", "Q4_0", "Q4_1"]),
    ("int8", &["Q8_0"]),
    ("8bit", &["Q8_0"]),
    ("fp16", &["F16", "FP16"]),
    ("f16", &["F16", "FP16"]),
    ("fp32", &["F32", "FP32"]),
    ("f32", &["F32", "FP32"]),
];

/// The most names that an error lists.
const MOST_LISTED: usize = 20;

/// What kind of model was chosen.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// Weights in safetensors, with their configuration.
    Checkpoint,
    /// One GGUF file, which holds everything.
    Gguf,
    /// A `.mlpackage`, or the same without a folder of that name: `Manifest.json` and `Data/`.
    Package,
}

/// The files of one model.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Choice {
    /// What they are together.
    pub kind: Kind,
    /// In order. Never empty.
    pub files: Vec<FilePath>,
    /// Below which folder of the repository the model lies: of a package the package itself. Empty for the repository.
    pub folder: String,
}

/// Why no model was chosen. Names are cleaned.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ChoiceError {
    /// Several models, and nobody said which.
    #[error("there is more than one model in this repository; name one of {}", listed(.there))]
    Ambiguous {
        /// What can be named.
        there: Vec<String>,
    },
    /// What was wished for is not there.
    #[error("there is no `{wish}` in this repository{}", match .there.as_slice() { [] => String::new(), there => format!("; there is {}", listed(there)) })]
    Unmet {
        /// As it was wished.
        wish: String,
        /// What can be named.
        there: Vec<String>,
    },
    /// Weights, but only such as run code when they are opened.
    #[error(
        "its weights are pickles ({}), which are programs and are not opened here; look for a repository with safetensors or GGUF",
        listed(.files)
    )]
    Pickles {
        /// Their names.
        files: Vec<String>,
    },
    /// Weights without what belongs to them.
    #[error("there are weights, but no {missing}, without which they cannot be run")]
    Companion {
        /// The file that is missing.
        missing: &'static str,
    },
    /// Parts of a checkpoint, and not all.
    #[error("the checkpoint has {of} parts, of which {there} are in the repository")]
    Parts {
        /// How many there should be.
        of: usize,
        /// How many there are.
        there: usize,
    },
    /// A GGUF file in several parts.
    #[error(
        "`{file}` is one of several parts of a GGUF file, which cannot be read; choose a smaller precision that is one file"
    )]
    SplitGguf {
        /// The file.
        file: String,
    },
    /// Nothing that could be a model.
    #[error(
        "there is no model in this repository: neither safetensors with a config.json, nor GGUF, nor a Core ML package"
    )]
    Nothing,
}

fn listed(names: &[String]) -> String {
    let shown: Vec<_> = names.iter().take(MOST_LISTED).map(|name| format!("`{name}`")).collect();
    let more = names.len().saturating_sub(MOST_LISTED);
    if more == 0 { shown.join(", ") } else { format!("{} and {more} more", shown.join(", ")) }
}

/// The files that a choice is made of, to list with [`HubClient::snapshot`](crate::HubClient::snapshot): what else there is may
/// have any name. Pickles are among them, so that they can be named.
pub fn candidates() -> Chosen {
    let pickles = format!("**/*.{{{}}}", PICKLES.join(","));
    let patterns = [
        "*.json",
        "*.safetensors",
        "*/{config,tokenizer*,special_tokens_map,added_tokens}.json",
        "*/model.safetensors",
        "**/*.gguf",
        "**/*.GGUF",
        "**/Manifest.json",
        "**/Data/**",
        &pickles,
    ];
    Chosen::new(patterns).expect("the patterns are ours. This is a bug.")
}

/// Chooses of a repository's files. A wish is the path or the name of a file or a folder, or a word for a precision.
pub fn choose(files: &[Entry], wish: Option<&str>) -> Result<Choice, ChoiceError> {
    let listing = Listing::new(files);
    match wish.map(str::trim).filter(|wish| !wish.is_empty()) {
        Some(wish) => listing.wished(wish),
        None => listing.usual(),
    }
}

/// The files of a repository, sorted into what they could be part of.
struct Listing<'a> {
    paths: BTreeSet<&'a str>,
    gguf: Vec<&'a str>,
    /// Folders of packages, and what of each is taken.
    packages: BTreeMap<&'a str, Vec<&'a str>>,
}

impl<'a> Listing<'a> {
    fn new(files: &'a [Entry]) -> Self {
        let paths: BTreeSet<&str> = files.iter().map(|entry| entry.path.as_str()).collect();
        let gguf = paths.iter().copied().filter(|path| has_extension(path, "gguf")).collect();
        let mut packages = BTreeMap::new();
        for manifest in paths.iter().copied().filter(|path| file_name(path) == "Manifest.json") {
            let folder = folder(manifest);
            let data = below(folder, "Data/");
            let content: Vec<_> = paths.iter().copied().filter(|path| path.starts_with(&data)).collect();
            if !content.is_empty() {
                packages.insert(folder, [vec![manifest], content].concat());
            }
        }
        Self { paths, gguf, packages }
    }

    /// Without a wish: the checkpoint, or the GGUF file, or the package.
    fn usual(&self) -> Result<Choice, ChoiceError> {
        if self.paths.contains("config.json") && !self.weights().is_empty() {
            return self.checkpoint(None);
        }
        match self.gguf.as_slice() {
            [] => {}
            [only] => return gguf(only),
            several => {
                let mut usual = several.iter().filter(|path| says(path, DEFAULT_GGUF));
                return match (usual.next(), usual.next()) {
                    (Some(one), None) => gguf(one),
                    _ => Err(ChoiceError::Ambiguous { there: self.names() }),
                };
            }
        }
        let mut packages = self.packages.keys();
        match (packages.next(), packages.next()) {
            (Some(one), None) => return self.package(one),
            (Some(_), Some(_)) => return Err(ChoiceError::Ambiguous { there: self.names() }),
            (None, _) => {}
        }
        if !self.weights().is_empty() {
            return Err(ChoiceError::Companion { missing: "config.json" });
        }
        let pickles: Vec<_> = self.paths.iter().filter(|path| is_pickle(path)).map(|path| cleaned(path)).collect();
        if pickles.is_empty() { Err(ChoiceError::Nothing) } else { Err(ChoiceError::Pickles { files: pickles }) }
    }

    fn wished(&self, wish: &str) -> Result<Choice, ChoiceError> {
        let unmet = || ChoiceError::Unmet { wish: cleaned(wish), there: self.names() };
        if is_pickle(wish) && !wish.contains("Data/") {
            return Err(ChoiceError::Pickles { files: vec![cleaned(wish)] });
        }
        let named = |path: &&&str| **path == wish || file_name(path).eq_ignore_ascii_case(wish);
        if has_extension(wish, "gguf") {
            return one_of(self.gguf.iter().filter(named), gguf).unwrap_or_else(|| Err(unmet()));
        }
        if has_extension(wish, "safetensors") {
            let weights = self.weights();
            let file = weights.iter().find(|path| **path == wish).copied().ok_or_else(unmet)?;
            // One part of several is not meant alone.
            return self.checkpoint(Some(file).filter(|file| part(file).is_none()));
        }
        let wished = wish.trim_end_matches('/');
        let inside = |folder: &str| !folder.is_empty() && wished.starts_with(&format!("{folder}/"));
        let is_wished = |folder: &&&str| {
            let stem = file_name(folder).trim_end_matches(".mlpackage");
            **folder == wished || inside(folder) || stem.eq_ignore_ascii_case(wished) || file_name(folder) == wished
        };
        if let Some(found) = one_of(self.packages.keys().filter(is_wished), |folder| self.package(folder)) {
            return found;
        }
        let word = wished.to_lowercase();
        let words = WORDS.iter().find(|(ours, _)| *ours == word).map_or(&[][..], |(_, theirs)| theirs);
        for theirs in words.iter().copied().chain([wished]) {
            if let Some(found) = one_of(self.gguf.iter().filter(|path| says(path, theirs)), gguf) {
                return found;
            }
        }
        let speaks = |folder: &&&str| says(folder, wished);
        let found = one_of(self.packages.keys().filter(speaks), |folder| self.package(folder));
        found.unwrap_or_else(|| Err(unmet()))
    }

    /// What can be named, for a person.
    fn names(&self) -> Vec<String> {
        let packages = self.packages.keys().filter(|folder| !folder.is_empty());
        let names = self.weights().into_iter().filter(|path| part(path).is_none());
        names.chain(self.gguf.iter().copied()).chain(packages.copied()).map(cleaned).collect()
    }

    /// All files of the root that could be weights of a checkpoint.
    fn weights(&self) -> Vec<&'a str> {
        let weights =
            |path: &&str| path.starts_with("model") && !path.contains('/') && has_extension(path, "safetensors");
        self.paths.iter().copied().filter(weights).collect()
    }

    /// The checkpoint of the root, with all its weights or those of one file.
    fn checkpoint(&self, only: Option<&'a str>) -> Result<Choice, ChoiceError> {
        let all = self.weights();
        let parts: Vec<_> = all.iter().copied().filter(|path| part(path).is_some()).collect();
        let weights = match only {
            Some(file) => vec![file],
            None if all.contains(&"model.safetensors") && !self.paths.contains("model.safetensors.index.json") => {
                vec!["model.safetensors"]
            }
            None if !parts.is_empty() => {
                let of = parts.iter().filter_map(|path| part(path)).max().unwrap_or_default();
                if of != parts.len() {
                    return Err(ChoiceError::Parts { of, there: parts.len() });
                }
                parts
            }
            None => all,
        };
        for missing in ["config.json", "tokenizer.json"] {
            if !self.paths.contains(missing) {
                return Err(ChoiceError::Companion { missing });
            }
        }
        let index = self.paths.get("model.safetensors.index.json").filter(|_| only.is_none());
        let modules = self.paths.iter().filter(|path| is_module(path));
        let files = weights.into_iter().chain(index.copied()).chain(modules.copied()).chain(self.companions(""));
        choice(Kind::Checkpoint, "", files)
    }

    /// A package, and what says how its text becomes tokens, beside it or at the root.
    fn package(&self, folder: &'a str) -> Result<Choice, ChoiceError> {
        let content = self.packages.get(folder).into_iter().flatten().copied();
        let beside = self.companions(folder).chain(self.companions(self::folder(folder))).chain(self.companions(""));
        choice(Kind::Package, folder, content.chain(beside))
    }

    fn companions(&self, folder: &str) -> impl Iterator<Item = &'a str> {
        COMPANIONS.iter().filter_map(move |name| self.paths.get(below(folder, name).as_str()).copied())
    }
}

/// The only one, an error for several, nothing for none.
fn one_of<'a: 'b, 'b>(
    mut found: impl Iterator<Item = &'b &'a str>,
    choose: impl Fn(&'a str) -> Result<Choice, ChoiceError>,
) -> Option<Result<Choice, ChoiceError>> {
    let one = found.next()?;
    let rest: Vec<_> = found.collect();
    if rest.is_empty() {
        return Some(choose(one));
    }
    let there = std::iter::once(one).chain(rest).map(|path| cleaned(path)).collect();
    Some(Err(ChoiceError::Ambiguous { there }))
}

fn gguf(path: &str) -> Result<Choice, ChoiceError> {
    if part(path).is_some() {
        return Err(ChoiceError::SplitGguf { file: cleaned(path) });
    }
    choice(Kind::Gguf, folder(path), std::iter::once(path))
}

fn choice<'a>(kind: Kind, folder: &str, files: impl Iterator<Item = &'a str>) -> Result<Choice, ChoiceError> {
    let files: BTreeSet<FilePath> = files.filter_map(|path| FilePath::new(path).ok()).collect();
    if files.is_empty() {
        return Err(ChoiceError::Nothing);
    }
    Ok(Choice { kind, files: files.into_iter().collect(), folder: folder.to_owned() })
}

/// The configuration or the weights of a further step of a sentence-transformers model: `1_Pooling/config.json`,
/// `2_Dense/model.safetensors`.
fn is_module(path: &str) -> bool {
    let Some((folder, file)) = path.split_once('/') else { return false };
    let numbered = folder.split_once('_').is_some_and(|(number, name)| {
        !number.is_empty()
            && number.bytes().all(|it| it.is_ascii_digit())
            && !name.is_empty()
            && name.bytes().all(|it| it.is_ascii_alphanumeric())
    });
    numbered && matches!(file, "config.json" | "model.safetensors")
}

/// Of `…-00002-of-00005.ext` the 5.
fn part(path: &str) -> Option<usize> {
    let stem = file_name(path).rsplit_once('.')?.0;
    let (rest, of) = stem.rsplit_once("-of-")?;
    let number = rest.rsplit_once('-')?.1;
    let digits = |text: &str| text.len() == 5 && text.bytes().all(|it| it.is_ascii_digit());
    (digits(number) && digits(of)).then(|| of.parse().ok()).flatten()
}

/// Whether a name holds a word, between dots, hyphens, underscores or its ends: `model-Q8_0.gguf` says `q8_0`.
fn says(path: &str, word: &str) -> bool {
    let (name, word) = (file_name(path).to_lowercase(), word.to_lowercase());
    let limit = |it: Option<char>| it.is_none_or(|it| !it.is_ascii_alphanumeric());
    // A letter and a digit: neither the `0` of `Q8_0` is a precision nor its `Q`.
    word.contains(|it: char| it.is_ascii_digit())
        && word.contains(|it: char| it.is_ascii_alphabetic())
        && name.match_indices(&word).any(|(at, _)| {
            let (before, after) = (&name[..at], &name[at + word.len()..]);
            // `Q4_K` is not `Q4_K_M`, while `model_q8_0` is `q8_0`.
            let longer =
                after.strip_prefix('_').is_some_and(|after| after.starts_with(|it: char| it.is_ascii_alphanumeric()));
            limit(before.chars().next_back()) && limit(after.chars().next()) && !longer
        })
}

fn is_pickle(path: &str) -> bool {
    PICKLES.iter().any(|extension| has_extension(path, extension))
}

fn has_extension(path: &str, extension: &str) -> bool {
    file_name(path).rsplit_once('.').is_some_and(|(_, found)| found.eq_ignore_ascii_case(extension))
}

fn file_name(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, name)| name)
}

fn folder(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

fn below(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Digest;

    fn chosen(paths: &[&str], wish: Option<&str>) -> Result<Vec<String>, ChoiceError> {
        let entry =
            |path: &&str| Entry { path: FilePath::new(path).expect("a path"), size: 1, digest: Digest::Git([0; 20]) };
        // Listed as the caller lists them: a candidate that is not listed would not be chosen.
        let files: Vec<_> = paths.iter().map(entry).filter(|entry| candidates().wants(&entry.path)).collect();
        Ok(choose(&files, wish)?.files.iter().map(ToString::to_string).collect())
    }

    // As the listing of sentence-transformers/all-MiniLM-L6-v2 has it, in part.
    const MINILM: &[&str] = &[
        ".gitattributes",
        "1_Pooling/config.json",
        "README.md",
        "config.json",
        "config_sentence_transformers.json",
        "model.safetensors",
        "modules.json",
        "onnx/model.onnx",
        "onnx/model_O1.onnx",
        "openvino/openvino_model.bin",
        "openvino/openvino_model.xml",
        "pytorch_model.bin",
        "rust_model.ot",
        "sentence_bert_config.json",
        "special_tokens_map.json",
        "tf_model.h5",
        "tokenizer.json",
        "tokenizer_config.json",
        "train_script.py",
        "vocab.txt",
    ];

    #[test]
    fn a_checkpoint_is_its_weights_and_what_belongs_to_them_and_no_program() {
        let files = chosen(MINILM, None).expect("a checkpoint");
        assert_eq!(
            files,
            [
                "1_Pooling/config.json",
                "config.json",
                "config_sentence_transformers.json",
                "model.safetensors",
                "modules.json",
                "sentence_bert_config.json",
                "special_tokens_map.json",
                "tokenizer.json",
                "tokenizer_config.json",
            ]
        );
        assert_eq!(chosen(MINILM, Some("model.safetensors")).expect("the same"), files);
    }

    #[test]
    fn all_parts_or_none() {
        let mut paths = vec!["config.json", "tokenizer.json", "model.safetensors.index.json"];
        paths.extend([
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
            "model.fp16.safetensors",
        ]);
        let files = chosen(&paths, None).expect("a checkpoint");
        assert_eq!(files.len(), 5);
        assert!(!files.iter().any(|file| file.contains("fp16")));
        assert_eq!(chosen(&paths, Some("model.fp16.safetensors")).expect("a variant").len(), 3);
        assert_eq!(chosen(&paths, Some("model-00002-of-00002.safetensors")).expect("all parts").len(), 5);
        paths.remove(4);
        assert_eq!(chosen(&paths, None), Err(ChoiceError::Parts { of: 2, there: 1 }));
    }

    #[test]
    fn weights_without_a_tokenizer_and_pickles_are_told_apart() {
        let missing = |missing| Err(ChoiceError::Companion { missing });
        assert_eq!(chosen(&["config.json", "model.safetensors"], None), missing("tokenizer.json"));
        assert_eq!(chosen(&["tokenizer.json", "model.safetensors"], None), missing("config.json"));
        for paths in [&["config.json", "tokenizer.json", "pytorch_model.bin"][..], &["model.pt"], &["a/model.ckpt"]] {
            let error = chosen(paths, None).expect_err("pickles");
            assert!(matches!(error, ChoiceError::Pickles { .. }) && error.to_string().contains("programs"), "{error}");
        }
        assert!(matches!(chosen(MINILM, Some("pytorch_model.bin")), Err(ChoiceError::Pickles { .. })));
        assert_eq!(chosen(&["README.md", "model.onnx"], None), Err(ChoiceError::Nothing));
    }

    #[test]
    fn one_gguf_file_of_several_by_its_name_or_its_precision() {
        let paths = ["README.md", "m-Q4_K_M.gguf", "m-Q4_K_S.gguf", "m-Q8_0.gguf", "m-f16.gguf", "q/m-Q5_K_M.gguf"];
        for (wish, expected) in [
            (None, "m-Q8_0.gguf"),
            (Some("q8_0"), "m-Q8_0.gguf"),
            (Some("8bit"), "m-Q8_0.gguf"),
            (Some("int8"), "m-Q8_0.gguf"),
            (Some("4bit"), "m-Q4_K_M.gguf"),
            (Some("Q4_K_S"), "m-Q4_K_S.gguf"),
            (Some("fp16"), "m-f16.gguf"),
            (Some("q/m-Q5_K_M.gguf"), "q/m-Q5_K_M.gguf"),
            (Some("M-q5_k_m.GGUF"), "q/m-Q5_K_M.gguf"),
        ] {
            assert_eq!(chosen(&paths, wish).expect("a file"), [expected], "{wish:?}");
        }
        for wish in ["Q4_K", "Q2_K", "none.gguf", "0"] {
            let error = chosen(&paths, Some(wish)).expect_err(wish).to_string();
            assert!(error.contains("m-Q4_K_M.gguf") && error.contains(wish), "{error}");
        }
        let error = chosen(&paths[1..3], None).expect_err("two").to_string();
        assert!(error.contains("m-Q4_K_M.gguf") && error.contains("m-Q4_K_S.gguf"), "{error}");
        let split = ["m-Q8_0-00001-of-00002.gguf", "m-Q8_0-00002-of-00002.gguf"];
        assert!(matches!(chosen(&split[..1], None), Err(ChoiceError::SplitGguf { .. })));
        // Beside a checkpoint a wish decides.
        let both = [MINILM, &paths].concat();
        assert_eq!(chosen(&both, None).expect("the checkpoint").len(), 9);
        assert_eq!(chosen(&both, Some("Q8_0")).expect("the file"), ["m-Q8_0.gguf"]);
    }

    #[test]
    fn a_package_is_all_below_it_and_its_tokenizer() {
        let bare = |folder: &str| {
            let files =
                ["Manifest.json", "Data/com.apple.CoreML/model.mlmodel", "Data/com.apple.CoreML/weights/weight.bin"];
            files.map(|file| format!("{folder}/{file}")).to_vec()
        };
        let mut paths: Vec<String> = bare("fp16");
        paths.extend(["tokenizer.json", "fp16/setup.py", "config.json"].map(str::to_owned));
        let borrowed = |paths: &[String], wish| {
            let paths: Vec<_> = paths.iter().map(String::as_str).collect();
            chosen(&paths, wish)
        };
        let mut expected = bare("fp16");
        expected.extend(["tokenizer.json", "config.json"].map(str::to_owned));
        expected.sort();
        assert_eq!(borrowed(&paths, None).expect("a package"), expected);
        paths.extend(bare("packages/model_int8.mlpackage"));
        assert!(matches!(borrowed(&paths, None), Err(ChoiceError::Ambiguous { there }) if there.len() == 2));
        assert_eq!(borrowed(&paths, Some("fp16")).expect("a package"), expected);
        assert_eq!(borrowed(&paths, Some("fp16/Data")).expect("a package"), expected);
        for wish in ["int8", "model_int8", "model_int8.mlpackage", "packages/model_int8.mlpackage/"] {
            let files = borrowed(&paths, Some(wish)).expect(wish);
            assert!(
                files.iter().filter(|file| file.starts_with("packages/model_int8.mlpackage/")).count() == 3,
                "{wish}"
            );
        }
        assert!(matches!(borrowed(&paths, Some("fp32")), Err(ChoiceError::Unmet { .. })));
    }
}
