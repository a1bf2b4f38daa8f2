//! One conversion from its first check to the rename: everything that can be refused is refused before a weight is read.
//!
//! What is common to all targets is here; [`file`] makes a GGUF file and [`folder`] Core ML packages.

mod file;
mod folder;
mod rows;
mod staging;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use staging::Set;

use crate::checkpoint::Checkpoint;
use crate::configuration::Configuration;
use crate::job::Format;
use crate::output::Partial;
use crate::plan::Model;
use crate::sidecar::Sidecar;
use crate::{ConvertError, Job, Progress, Summary};

/// What targets record as their maker. The number is raised whenever the same checkpoint gives other bytes; it is not the
/// program's version, so that a release which changes nothing here does not change every model's revision.
pub const CONVERTER: &str = "embedbar-convert 2";

/// Behind the name of a model that was made and did not pass.
pub const QUARANTINED: &str = ".quarantined";

const SHA256_DIGITS: usize = 64;

/// Converts a checkpoint and puts the result in the target's place.
///
/// `progress` is called after each block; [`ControlFlow::Break`] cancels. Whatever goes wrong, the target is as it was;
/// only where a rename fails among several packages, those that were renamed before stay.
pub fn convert(job: &Job, progress: &mut dyn FnMut(Progress) -> ControlFlow<()>) -> Result<Summary, ConvertError> {
    prepare(job, progress)?.commit()
}

/// Converts a checkpoint and leaves the result, complete and on the disk, under a hidden name for a caller to judge.
///
/// Otherwise as [`convert()`].
pub fn prepare(job: &Job, progress: &mut dyn FnMut(Progress) -> ControlFlow<()>) -> Result<Prepared, ConvertError> {
    let name = check_target(&job.target, &job.format)?;
    let name = job.name.as_deref().unwrap_or(name);
    let configuration = Configuration::open(&job.source)?;
    let checkpoint = Checkpoint::open(&job.source, &configuration)?;
    let model = Model::recognise(&checkpoint, &configuration)?;
    let meter = Meter { done: 0, total: 0, source: &job.source, progress };
    match &job.format {
        Format::Gguf => file::make(job, name, &checkpoint, &model, meter),
        Format::Package(target) => folder::make(job, target, name, &checkpoint, &model, meter),
    }
}

/// A finished conversion whose target is as it was. Dropped, it leaves nothing behind.
#[derive(Debug)]
pub struct Prepared {
    summary: Summary,
    made: Made,
    sidecar: Sidecar,
}

#[derive(Debug)]
enum Made {
    File(Partial),
    Folders(Set),
}

impl Prepared {
    /// What the conversion did.
    pub fn summary(&self) -> &Summary {
        &self.summary
    }

    /// Where the result is, under names that do not say what it is: a GGUF file, or the packages of the first length, in the order
    /// in which they run.
    pub fn paths(&self) -> Vec<&Path> {
        match &self.made {
            Made::File(partial) => vec![partial.path()],
            Made::Folders(set) => set.first().iter().map(|member| member.staged.path()).collect(),
        }
    }

    /// Puts the result in the target's place, and the tokenizer beside it.
    pub fn commit(self) -> Result<Summary, ConvertError> {
        self.sidecar.place()?;
        self.made.commit()?;
        Ok(self.summary)
    }

    /// Puts the result beside the target under a name that nothing loads, [`QUARANTINED`] behind the target's, and gives that.
    /// The target stays as it was. Of several packages, those of further lengths are dropped.
    pub fn set_aside(self, target: &Path) -> Result<PathBuf, ConvertError> {
        match self.made {
            Made::File(mut partial) => {
                let aside = quarantined(target);
                partial.rename_to(aside.clone());
                partial.commit()?;
                Ok(aside)
            }
            Made::Folders(set) => set.set_aside(),
        }
    }
}

impl Made {
    fn commit(self) -> Result<(), ConvertError> {
        match self {
            Self::File(partial) => partial.commit(),
            Self::Folders(set) => set.commit(),
        }
    }
}

/// Where a model is set aside.
fn quarantined(target: &Path) -> PathBuf {
    let mut name = target.as_os_str().to_owned();
    name.push(QUARANTINED);
    PathBuf::from(name)
}

/// The target's name without its suffix.
fn check_target<'a>(target: &'a Path, format: &Format) -> Result<&'a str, ConvertError> {
    let bad = |problem| ConvertError::BadTarget { path: target.to_path_buf(), problem };
    let is_folder = target.is_dir();
    match format {
        Format::Gguf if target.extension().is_none_or(|suffix| suffix != "gguf") => {
            return Err(bad("it does not end in `.gguf`"));
        }
        Format::Gguf if is_folder => return Err(bad("it is a folder")),
        Format::Package(_) if target.extension().is_none_or(|suffix| suffix != "mlpackage") => {
            return Err(bad("it does not end in `.mlpackage`"));
        }
        Format::Package(_) if target.exists() && !is_folder => return Err(bad("it is a file")),
        // Anything else that has the name would be lost.
        Format::Package(_) if is_folder && !target.join("Manifest.json").is_file() => {
            return Err(bad("it is a folder that is no package"));
        }
        _ => {}
    }
    target.file_stem().and_then(|name| name.to_str()).ok_or_else(|| bad("its name is not UTF-8"))
}

/// Counts bytes and asks the caller whether to go on.
struct Meter<'a> {
    done: u64,
    total: u64,
    source: &'a Path,
    progress: &'a mut dyn FnMut(Progress) -> ControlFlow<()>,
}

impl Meter<'_> {
    fn advance(&mut self, bytes: u64, tensor: &str) -> Result<(), ConvertError> {
        self.done += bytes;
        let progress = Progress { bytes_done: self.done, bytes_total: self.total, tensor: tensor.to_owned() };
        match (self.progress)(progress) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(ConvertError::Cancelled { path: self.source.to_path_buf() }),
        }
    }
}

#[cfg(test)]
mod tests;
