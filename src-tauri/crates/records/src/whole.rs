//! Reading a file whole, and replacing it whole.
//!
//! A replacement is written beside the file, flushed to the disk and renamed over it. What a killed process leaves beside a file
//! disturbs nobody, and the next replacement of that file removes it.
//!
//! What is not here: what the bytes are.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::OFlags;
use tempfile::NamedTempFile;

/// The permission bits of what only its owner may read.
pub const PRIVATE: u32 = 0o600;

/// After this time a temporary file was left by a process that is gone.
const LEFT_OVER: Duration = Duration::from_mins(1);

/// What the system refused.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} `{}`", .path.display())]
pub struct Refused {
    /// What was tried.
    pub action: &'static str,
    /// On what.
    pub path: PathBuf,
    /// Why not.
    #[source]
    pub source: io::Error,
}

impl Refused {
    pub(crate) fn to(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self { action, path, source }
    }
}

/// Why a file was not read whole.
#[derive(Debug, thiserror::Error)]
pub enum Unread {
    /// The system refused.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// A folder, a pipe, a device.
    #[error("`{}` is not a file", .path.display())]
    NotAFile {
        /// Its path.
        path: PathBuf,
    },
    /// Larger than was asked for.
    #[error("`{}` has {bytes} bytes; at most {most} are read", .path.display())]
    TooLarge {
        /// Its path.
        path: PathBuf,
        /// Its size.
        bytes: u64,
        /// The limit.
        most: u64,
    },
}

/// A file as it was at one moment.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Whole {
    /// Its content.
    pub bytes: Vec<u8>,
    /// Its permission bits.
    pub mode: u32,
}

/// Reads a file, through links, that is a file and has at most `most` bytes.
pub fn read_whole(path: &Path, most: u64) -> Result<Whole, Unread> {
    // A pipe would wait for a writer.
    let mut file = OpenOptions::new()
        .read(true)
        .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
        .open(path)
        .map_err(Refused::to("read", path))?;
    let metadata = file.metadata().map_err(Refused::to("read", path))?;
    if !metadata.is_file() {
        return Err(Unread::NotAFile { path: path.to_owned() });
    }
    let mut bytes = Vec::new();
    (&mut file).take(most.saturating_add(1)).read_to_end(&mut bytes).map_err(Refused::to("read", path))?;
    if bytes.len() as u64 > most {
        return Err(Unread::TooLarge { path: path.to_owned(), bytes: metadata.len(), most });
    }
    Ok(Whole { bytes, mode: metadata.permissions().mode() & 0o7777 })
}

/// A file's next content, complete and flushed beside it. Dropping it leaves the file as it is.
#[derive(Debug)]
pub struct Draft {
    temporary: NamedTempFile,
    path: PathBuf,
}

impl Draft {
    /// Writes what is to take the place of `path`, with these permission bits.
    pub fn beside(path: &Path, bytes: &[u8], mode: u32) -> Result<Self, Refused> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidFilename.into()).map_err(Refused::to("write", path))?;
        let (folder, prefix) = (folder_of(path), format!(".{}.embedbar-", name.to_string_lossy()));
        sweep(folder, &prefix);
        // Secret until it is complete: it has the mode of a private file until it gets its own.
        let mut temporary = tempfile::Builder::new()
            .prefix(&prefix)
            .suffix(".tmp")
            .permissions(Permissions::from_mode(PRIVATE))
            .tempfile_in(folder)
            .map_err(Refused::to("write in", folder))?;
        let file = temporary.as_file_mut();
        file.write_all(bytes)
            .and_then(|()| file.set_permissions(Permissions::from_mode(mode)))
            .and_then(|()| file.sync_all())
            .map_err(Refused::to("write beside", path))?;
        Ok(Self { temporary, path: path.to_owned() })
    }

    /// Puts it into the place of the file. A link there is replaced, and what it led to stays.
    pub fn replace(self) -> Result<(), Refused> {
        self.temporary.persist(&self.path).map_err(|error| Refused::to("replace", &self.path)(error.error))?;
        // The rename itself must survive a power cut; some filesystems cannot flush a folder, and the file is whole either way.
        if let Err(error) = flush_folder(&self.path) {
            tracing::debug!(path = %self.path.display(), error = %error.source, "the folder was not flushed");
        }
        Ok(())
    }
}

/// Flushes the folder in which `path` is or was: when this returns, its name there, or that it is gone, survives a power cut.
/// For whoever must know; [`Draft::replace`] has tried it.
pub fn flush_folder(path: &Path) -> Result<(), Refused> {
    let folder = folder_of(path);
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(Refused::to("flush the folder of", path))
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Removes what killed processes have left; what cannot be removed stays.
fn sweep(folder: &Path, prefix: &str) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let ours = name.to_string_lossy().starts_with(prefix) && name.to_string_lossy().ends_with(".tmp");
        let age = || {
            entry.metadata().and_then(|it| it.modified()).ok().and_then(|it| SystemTime::now().duration_since(it).ok())
        };
        if ours && age().is_some_and(|age| age > LEFT_OVER) {
            let _left_for_next_time = fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn put(path: &Path, bytes: &[u8], mode: u32) {
        Draft::beside(path, bytes, mode).and_then(Draft::replace).expect("it can be written");
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).expect("it is there").flatten();
        let mut names: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_as_it_was_until_its_draft_takes_its_place() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("file");
        put(&path, b"old", 0o640);
        let draft = Draft::beside(&path, b"new", 0o604).expect("it can be written");
        assert_eq!(read_whole(&path, 3).expect("it is there"), Whole { bytes: b"old".into(), mode: 0o640 });
        assert_eq!(draft.temporary.as_file().metadata().expect("it is there").permissions().mode() & 0o777, 0o604);
        drop(Draft::beside(&path, b"never", PRIVATE).expect("it can be written"));
        draft.replace().expect("it can be replaced");
        assert_eq!(read_whole(&path, 3).expect("it is there"), Whole { bytes: b"new".into(), mode: 0o604 });
        assert_eq!(names(folder.path()), ["file"]);
    }

    #[test]
    fn what_a_killed_process_left_disturbs_nobody_and_goes_when_it_is_old() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("file");
        let left = |name: &str, age: Duration| {
            let file = File::create(folder.path().join(name)).expect("it can be made");
            file.set_modified(SystemTime::now().checked_sub(age).expect("a time")).expect("it can be set");
        };
        left(".file.embedbar-old.tmp", LEFT_OVER * 2);
        left(".file.embedbar-young.tmp", LEFT_OVER / 2);
        left(".file.embedbar-of-tomorrow.tmp", Duration::ZERO);
        left(".other.embedbar-old.tmp", LEFT_OVER * 2);
        left("file.embedbar-old.tmp", LEFT_OVER * 2);
        put(&path, b"new", PRIVATE);
        assert_eq!(read_whole(&path, 3).expect("it is there").bytes, b"new");
        let others = [
            ".file.embedbar-of-tomorrow.tmp",
            ".file.embedbar-young.tmp",
            ".other.embedbar-old.tmp",
            "file",
            "file.embedbar-old.tmp",
        ];
        assert_eq!(names(folder.path()), others);
    }

    #[test]
    fn what_is_no_file_or_too_large_is_not_read() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (path, pipe) = (folder.path().join("file"), folder.path().join("pipe"));
        put(&path, b"1234", PRIVATE);
        assert_eq!(read_whole(&path, 4).expect("it fits").bytes, b"1234");
        let error = read_whole(&path, 3).expect_err("it is too large");
        assert!(matches!(error, Unread::TooLarge { bytes: 4, most: 3, .. }), "{error}");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status().expect("mkfifo is everywhere");
        assert!(made.success());
        for path in [folder.path(), &pipe, Path::new("/dev/zero")] {
            let error = read_whole(path, 4).expect_err("it is no file");
            assert!(matches!(error, Unread::NotAFile { .. }), "{error}");
        }
        let error = read_whole(&folder.path().join("gone"), 4).expect_err("it is not there");
        assert!(matches!(error, Unread::Refused(refused) if refused.source.kind() == io::ErrorKind::NotFound));
    }

    #[test]
    fn a_link_is_replaced_and_what_it_led_to_stays() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (path, elsewhere) = (folder.path().join("file"), folder.path().join("elsewhere"));
        put(&elsewhere, b"theirs", PRIVATE);
        symlink(&elsewhere, &path).expect("it can be made");
        put(&path, b"ours", PRIVATE);
        assert!(!path.is_symlink());
        assert_eq!(read_whole(&elsewhere, 6).expect("it is there").bytes, b"theirs");
    }

    #[test]
    fn what_cannot_be_written_says_where_and_leaves_nothing() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let gone = Draft::beside(&folder.path().join("gone/file"), b"", PRIVATE).expect_err("there is no folder");
        assert!(gone.to_string().starts_with("cannot write in `") && gone.path.ends_with("gone"), "{gone}");
        let none = Draft::beside(Path::new(".."), b"", PRIVATE).expect_err("it has no name");
        assert_eq!(none.to_string(), "cannot write `..`");
        let taken = folder.path().join("taken");
        fs::create_dir(&taken).expect("it can be made");
        let error = Draft::beside(&taken, b"", PRIVATE).and_then(Draft::replace).expect_err("a folder is there");
        assert!(error.to_string().starts_with("cannot replace `"), "{error}");
        assert_eq!(names(folder.path()), ["taken"]);
        flush_folder(&folder.path().join("gone")).expect("the folder is there");
        let error = flush_folder(&folder.path().join("gone/file")).expect_err("it is not");
        assert!(error.to_string().starts_with("cannot flush the folder of `"), "{error}");
    }
}
