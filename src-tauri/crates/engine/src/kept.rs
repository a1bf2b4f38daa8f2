//! Files that are made of a model once and mapped from then on: where they lie, and how they come to be.
//!
//! They are written beside their place and get their name when they are whole and on the disk, so that a file of the right
//! name is never half of one, whoever is killed in between. What is in them is the business of those who write them.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    time::Duration,
};

/// Ends the name of a file that is not finished.
const PART: &str = ".part";
/// Nobody writes a file for as long as this.
const LONG: Duration = Duration::from_mins(10);

/// Where the file `name` of `model` lies below `folder`.
pub(crate) fn place(folder: &Path, model: &str, name: &str) -> PathBuf {
    let model: String =
        model.trim_start_matches('.').chars().map(|it| if it == '/' || it == '\0' { '_' } else { it }).collect();
    folder.join(model).join(name)
}

/// A file that is being written. It is removed where it is not finished.
pub(crate) struct Draft {
    file: BufWriter<File>,
    part: PathBuf,
    path: PathBuf,
}

impl Draft {
    /// One for `path`, whose folder is made.
    pub(crate) fn begin(path: &Path) -> io::Result<Self> {
        let folder = path.parent().unwrap_or(Path::new(""));
        fs::create_dir_all(folder)?;
        sweep(folder);
        let name = path.file_name().unwrap_or_default().display();
        let part = folder.join(format!(".{}-{name}{PART}", std::process::id()));
        let file = OpenOptions::new().write(true).create(true).truncate(true).open(&part)?;
        Ok(Self { file: BufWriter::new(file), part, path: path.to_path_buf() })
    }

    /// Gives the file its name.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        self.file.flush()?;
        // Readers trust its name, so its bytes have to be there first.
        self.file.get_ref().sync_all()?;
        fs::rename(&self.part, &self.path)
    }
}

impl Write for Draft {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.part); // after `finish` it is not there
    }
}

/// Removes what processes left that were killed while they wrote.
fn sweep(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let modified = || entry.metadata().and_then(|it| it.modified());
        let old = || modified().is_ok_and(|at| at.elapsed().is_ok_and(|it| it > LONG));
        if entry.file_name().to_str().is_some_and(|name| name.ends_with(PART)) && old() {
            let _ = fs::remove_file(entry.path()); // somebody else may sweep too
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        folder.read_dir().unwrap().flatten().map(|entry| entry.file_name().display().to_string()).collect()
    }

    #[test]
    fn a_file_has_its_name_when_it_is_whole_and_leaves_nothing_where_it_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = place(folder.path(), "../an/id", "file");
        let inside = path.parent().unwrap();
        assert_eq!(inside.parent().unwrap(), folder.path());
        let mut draft = Draft::begin(&path).unwrap();
        draft.write_all(b"half").unwrap();
        drop(draft);
        assert!(names(inside).is_empty());
        let mut draft = Draft::begin(&path).unwrap();
        draft.write_all(b"whole").unwrap();
        assert!(!path.exists());
        draft.finish().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"whole");
        assert_eq!(names(inside), ["file"]);
    }

    #[test]
    fn what_was_left_long_ago_is_swept_away() {
        let folder = tempfile::tempdir().unwrap();
        for (name, age) in [(".1-x.part", LONG * 2), (".2-x.part", LONG / 2), ("x", LONG * 2)] {
            let file = File::create(folder.path().join(name)).unwrap();
            file.set_modified(std::time::SystemTime::now() - age).unwrap();
        }
        drop(Draft::begin(&folder.path().join("y")).unwrap());
        let mut names = names(folder.path());
        names.sort();
        assert_eq!(names, [".2-x.part", "x"]);
    }
}
