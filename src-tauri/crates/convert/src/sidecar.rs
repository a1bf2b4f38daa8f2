//! The tokenizer beside the model: copied as it is, and never over another model's.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use crate::output::{self, folder_of};
use crate::targets::is_named_for;
use crate::{ConvertError, stream};

/// The name that the engine looks for.
pub(crate) const TOKENIZER: &str = "tokenizer.json";

/// Several times the largest tokenizer in use.
const MAX_TOKENIZER_BYTES: u64 = 64 << 20;

/// A tokenizer that is to lie beside a target.
#[derive(Debug)]
pub(crate) struct Sidecar {
    path: PathBuf,
    /// `None` where the same bytes are there already.
    bytes: Option<Vec<u8>>,
}

impl Sidecar {
    /// Reads the source's tokenizer and makes sure that it may be placed beside `target`.
    pub(crate) fn read(source: &Path, target: &Path) -> Result<Self, ConvertError> {
        let bytes = read(source)?;
        let folder = folder_of(target);
        let path = folder.join(TOKENIZER);
        match stream::read_small(&path, MAX_TOKENIZER_BYTES) {
            Ok(present) if present == bytes => Ok(Self { path, bytes: None }),
            Err(ConvertError::Missing { .. }) => Ok(Self { path, bytes: Some(bytes) }),
            Err(error @ ConvertError::Unreadable { .. }) => Err(error),
            _ if serves_another(folder, target)? => Err(ConvertError::OtherTokenizer { path }),
            _ => Ok(Self { path, bytes: Some(bytes) }),
        }
    }

    /// Bytes that placing it takes.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)
    }

    /// Places it.
    pub(crate) fn place(&self) -> Result<(), ConvertError> {
        let Some(bytes) = &self.bytes else { return Ok(()) };
        output::place(&self.path, bytes)
    }
}

/// The tokenizer of the checkpoint in `folder`.
pub(crate) fn read(folder: &Path) -> Result<Vec<u8>, ConvertError> {
    stream::read_small(&folder.join(TOKENIZER), MAX_TOKENIZER_BYTES)
}

/// Whether `folder` holds a model other than those that a conversion to `target` makes.
fn serves_another(folder: &Path, target: &Path) -> Result<bool, ConvertError> {
    for entry in fs::read_dir(folder).map_err(ConvertError::reading(folder))? {
        let name = entry.map_err(ConvertError::reading(folder))?.file_name();
        let models = ["gguf", "safetensors", "mlpackage"].map(|suffix| Some(OsStr::new(suffix)));
        if models.contains(&Path::new(&name).extension()) && !is_named_for(&name, target) {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tokenizer_of_another_model_is_not_replaced_and_ones_own_is() {
        let source = tempfile::tempdir().expect("a temporary folder");
        let folder = tempfile::tempdir().expect("a temporary folder");
        let target = folder.path().join("mine.gguf");
        fs::write(source.path().join(TOKENIZER), "new").expect("it can be written");
        fs::write(folder.path().join(TOKENIZER), "old").expect("it can be written");
        fs::write(&target, "").expect("it can be written");
        Sidecar::read(source.path(), &target).expect("it is our own").place().expect("it can be placed");
        assert_eq!(fs::read(folder.path().join(TOKENIZER)).expect("it is there"), b"new");
        fs::write(folder.path().join("other.gguf"), "").expect("it can be written");
        Sidecar::read(source.path(), &target).expect("the same bytes serve both");
        fs::write(source.path().join(TOKENIZER), "newer").expect("it can be written");
        assert!(matches!(Sidecar::read(source.path(), &target), Err(ConvertError::OtherTokenizer { .. })));
        assert_eq!(fs::read(folder.path().join(TOKENIZER)).expect("it is there"), b"new");
    }

    #[test]
    fn a_package_is_a_model_too_and_its_other_lengths_are_the_same_one() {
        let source = tempfile::tempdir().expect("a temporary folder");
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::write(source.path().join(TOKENIZER), "new").expect("it can be written");
        fs::write(folder.path().join(TOKENIZER), "old").expect("it can be written");
        fs::create_dir(folder.path().join("mine-64.mlpackage")).expect("it can be made");
        Sidecar::read(source.path(), &folder.path().join("mine.mlpackage")).expect("its own other length");
        let refused = Sidecar::read(source.path(), &folder.path().join("other.mlpackage"));
        assert!(matches!(refused, Err(ConvertError::OtherTokenizer { .. })));
    }
}
