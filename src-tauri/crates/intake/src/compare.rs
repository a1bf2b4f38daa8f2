//! Whether the files of an installed model are still what they were when they came.
//!
//! What is not here: whether the model is any good.

use std::path::Path;

use embedbar_contract::OriginFile;

use crate::pass::{Pass, Source, check_length};
use crate::{IntakeError, Watch, files};

/// Reads the files of the model in `folder`, through links; a sentence about the first that is not what it was.
pub fn compare(folder: &Path, files: &[OriginFile], watch: &dyn Watch) -> Result<Option<String>, IntakeError> {
    let total = files.iter().map(|file| file.bytes).fold(0, u64::saturating_add);
    let mut pass = Pass::over(total, watch);
    for file in files {
        let OriginFile { path, bytes, sha256 } = file;
        let difference = match digest(&mut pass, folder, file) {
            Ok(found) if found == *sha256 => continue,
            Ok(found) => format!("`{path}` is not what it was: its sha256 is {found}"),
            Err(IntakeError::Cancelled) => return Err(IntakeError::Cancelled),
            Err(IntakeError::Changed { found, .. }) => {
                format!("`{path}` has {found} bytes; when it came it had {bytes}")
            }
            Err(IntakeError::Unreadable { source, .. }) => format!("`{path}` cannot be read: {source}"),
            Err(other) => format!("`{path}` cannot be read: {other}"),
        };
        return Ok(Some(difference));
    }
    Ok(None)
}

fn digest(pass: &mut Pass<'_>, folder: &Path, file: &OriginFile) -> Result<String, IntakeError> {
    let path = folder.join(&file.path);
    let (opened, length) = files::open(&path)?;
    check_length(&path, file.bytes, length)?;
    let source = Source { file: opened, path: &path, item: &file.path, bytes: file.bytes };
    pass.read(source, "comparing", |_| Ok(()))
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::Unwatched;

    /// The example of FIPS 180-4, `abc`.
    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    fn origin(path: &str, sha256: &str, bytes: u64) -> OriginFile {
        OriginFile { path: path.into(), bytes, sha256: sha256.into() }
    }

    #[test]
    fn a_file_that_changed_is_named() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("a");
        fs::write(&path, "abc").expect("it can be written");
        let compared = |file: OriginFile| compare(folder.path(), &[file], &Unwatched).expect("nobody ends it");
        assert_eq!(compared(origin("a", ABC, 3)), None);
        let said = |file| compared(file).expect("it differs");
        assert_eq!(
            said(origin("a", &ABC.replace('b', "c"), 3)),
            format!("`a` is not what it was: its sha256 is {ABC}")
        );
        assert_eq!(said(origin("a", ABC, 4)), "`a` has 3 bytes; when it came it had 4");
        fs::rename(&path, folder.path().join("elsewhere")).expect("it can be moved");
        assert!(said(origin("a", ABC, 3)).starts_with("`a` cannot be read: there is nothing at `"));
        symlink("elsewhere", &path).expect("it can be made");
        assert_eq!(compared(origin("a", ABC, 3)), None, "a model may be left in place, with links");
        fs::remove_file(&path).expect("it is there");
        fs::create_dir(&path).expect("it can be made");
        assert!(said(origin("a", ABC, 3)).contains("is a folder, not a file"));
    }

    #[test]
    fn it_is_told_how_far_it_is_and_can_be_ended() {
        struct Once(RefCell<Vec<(String, u64, u64)>>, usize);
        impl Watch for Once {
            fn progress(&self, phase: &str, item: &str, done: u64, total: u64) {
                assert_eq!(phase, "comparing");
                self.0.borrow_mut().push((item.to_owned(), done, total));
            }
            fn cancelled(&self) -> bool {
                self.0.borrow().len() > self.1
            }
        }
        let folder = tempfile::tempdir().expect("a temporary folder");
        let files = ["a", "b"].map(|name| origin(name, ABC, 3));
        for file in &files {
            fs::write(folder.path().join(&file.path), "abc").expect("it can be written");
        }
        let all = Once(RefCell::default(), usize::MAX);
        assert!(matches!(compare(folder.path(), &files, &all), Ok(None)));
        let told: Vec<(String, u64, u64)> = all.0.into_inner();
        let expected = [("a", 0), ("a", 3), ("b", 3), ("b", 6)].map(|(item, done)| (item.to_owned(), done, 6));
        assert_eq!(told, expected);
        let once = Once(RefCell::default(), 2);
        assert!(matches!(compare(folder.path(), &files, &once), Err(IntakeError::Cancelled)));
    }
}
