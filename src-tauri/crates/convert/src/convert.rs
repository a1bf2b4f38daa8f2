//! One conversion from its first check to the rename: everything that can be refused is refused before a weight is read.
//!
//! What is common to all targets is here; [`file`] makes a GGUF file and [`folder`] Core ML packages.

mod file;
mod folder;
mod rows;
mod staging;

use std::ops::ControlFlow;
use std::path::Path;

use crate::checkpoint::Checkpoint;
use crate::configuration::Configuration;
use crate::job::Format;
use crate::plan::Model;
use crate::{ConvertError, Job, Progress, Summary};

/// What targets record as their maker. The number is raised whenever the same checkpoint gives other bytes; it is not the
/// program's version, so that a release which changes nothing here does not change every model's revision.
pub const CONVERTER: &str = "embedbar-convert 2";

const SHA256_DIGITS: usize = 64;

/// Converts a checkpoint.
///
/// `progress` is called after each block; [`ControlFlow::Break`] cancels. Whatever goes wrong, the target is as it was;
/// only where a rename fails among several packages, those that were renamed before stay.
pub fn convert(job: &Job, progress: &mut dyn FnMut(Progress) -> ControlFlow<()>) -> Result<Summary, ConvertError> {
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
