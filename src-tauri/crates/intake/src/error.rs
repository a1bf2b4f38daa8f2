//! Why something is refused, and what a person can do about it.

use std::io;
use std::path::{Path, PathBuf};

use embedbar_contract::{Failure, FailureCode};

use crate::archive::ArchiveProblem;

/// What is wrong with the bytes of one format; which file they are of is the caller's knowledge.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    /// They contradict the format, themselves, or what a model can be.
    #[error("{0}")]
    Malformed(String),
    /// The system refused to read on.
    #[error("it cannot be read: {0}")]
    Unreadable(#[from] io::Error),
}

impl FormatError {
    pub(crate) fn malformed(problem: impl Into<String>) -> Self {
        Self::Malformed(problem.into())
    }
}

/// Why a dropped path is not taken. Sizes are in bytes.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IntakeError {
    /// Nothing is there, or a link that leads nowhere.
    #[error("there is nothing at `{path}`")]
    NotFound {
        /// What was looked for.
        path: PathBuf,
    },
    /// The system refused to read.
    #[error("`{path}` cannot be read: {source}")]
    Unreadable {
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The system refused to write.
    #[error("`{path}` cannot be written: {source}")]
    Unwritable {
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A device, a pipe or a socket in the place of a file.
    #[error("`{path}` is {what}, not a file; it is not read")]
    NotAFile {
        /// Where.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// Bytes that contradict their format or what a model can be.
    #[error("`{path}` is damaged or not what its name says: {problem}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What does not add up.
        problem: String,
    },
    /// A folder or an archive without any file.
    #[error("`{path}` is empty")]
    Empty {
        /// Which.
        path: PathBuf,
    },
    /// Something else than a model.
    #[error("`{path}` is not a model: {what}")]
    NotAModel {
        /// What was dropped.
        path: PathBuf,
        /// What it is instead.
        what: String,
    },
    /// Weights in a format that is a program.
    #[error("the weights in `{path}` are pickles, which are programs and are never opened: {}", quoted(.files))]
    OnlyPickles {
        /// What was dropped.
        path: PathBuf,
        /// The pickles.
        files: Vec<String>,
    },
    /// Weights in a format of another engine.
    #[error("the weights in `{path}` are in the format of {format}, which Embedbar does not read: {}", quoted(.files))]
    OtherFormat {
        /// What was dropped.
        path: PathBuf,
        /// Whose.
        format: &'static str,
        /// The files.
        files: Vec<String>,
    },
    /// A program.
    #[error("`{path}` is a program; programs are never opened")]
    Program {
        /// What was dropped.
        path: PathBuf,
    },
    /// An archive of another kind than zip.
    #[error("`{path}` is an archive of the kind `{kind}`; of archives only `.zip` is opened")]
    OtherArchive {
        /// What was dropped.
        path: PathBuf,
        /// By its name.
        kind: String,
    },
    /// An archive that contradicts itself, or that would do harm.
    #[error("`{path}` is refused: {problem}")]
    Archive {
        /// The archive.
        path: PathBuf,
        /// What is wrong.
        problem: ArchiveProblem,
    },
    /// More than one model where one is wanted.
    #[error("`{path}` holds `{}` models, and one is wanted: {}", .models.len(), quoted(.models))]
    Several {
        /// The folder.
        path: PathBuf,
        /// What they are called, below the folder.
        models: Vec<String>,
    },
    /// A GGUF model in several files.
    #[error("`{path}` is one part of a GGUF model that was split into several files")]
    SplitGguf {
        /// The part.
        path: PathBuf,
    },
    /// Weights that only work together with another model's.
    #[error("`{path}` is {what}, not a whole model")]
    Partial {
        /// The file.
        path: PathBuf,
        /// An adapter, a projector.
        what: &'static str,
    },
    /// A file without which the others are no model.
    #[error("there is no `{file}` in `{folder}`{}", .instead.as_deref().map(|it| format!("; {it}")).unwrap_or_default())]
    Missing {
        /// Where it was looked for.
        folder: PathBuf,
        /// Its name.
        file: String,
        /// What is there instead.
        instead: Option<String>,
    },
    /// Too little room.
    #[error("`{folder}` has room for `{free}` bytes, `{needed}` are needed")]
    NoSpace {
        /// Where.
        folder: PathBuf,
        /// With a margin.
        needed: u64,
        /// What is free.
        free: u64,
    },
    /// The file is another one than when it was looked at.
    #[error("`{path}` changed meanwhile: it had `{expected}` bytes, it has `{found}`")]
    Changed {
        /// The file.
        path: PathBuf,
        /// Its first size.
        expected: u64,
        /// Its later size.
        found: u64,
    },
    /// A place to write to that is not as promised.
    #[error("`{folder}` is not an empty folder")]
    NotEmpty {
        /// The folder.
        folder: PathBuf,
    },
    /// A path to write to that would lead out of the folder.
    #[error("`{name}` is no path below a folder: {problem}")]
    Name {
        /// The path.
        name: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// Somebody ended it.
    #[error("it was cancelled")]
    Cancelled,
}

/// At most eight names in backticks.
fn quoted(names: &[String]) -> String {
    const SHOWN: usize = 8;
    let shown: Vec<String> = names.iter().take(SHOWN).map(|name| format!("`{name}`")).collect();
    let rest = names.len().saturating_sub(SHOWN);
    if rest == 0 { shown.join(", ") } else { format!("{} and `{rest}` more", shown.join(", ")) }
}

impl IntakeError {
    pub(crate) fn damaged(path: &Path, problem: impl Into<String>) -> Self {
        Self::Damaged { path: path.to_path_buf(), problem: problem.into() }
    }

    /// Makes an error of the system say what was read.
    pub(crate) fn reading(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| match source.kind() {
            io::ErrorKind::NotFound => Self::NotFound { path },
            _ => Self::Unreadable { path, source },
        }
    }

    /// Makes an error of the system say what was written.
    pub(crate) fn writing(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Unwritable { path, source }
    }

    /// Makes an error of a format say which file it is of.
    pub(crate) fn format(path: &Path) -> impl FnOnce(FormatError) -> Self {
        let path = path.to_path_buf();
        move |error| match error {
            FormatError::Malformed(problem) => Self::Damaged { path, problem },
            FormatError::Unreadable(source) => Self::Unreadable { path, source },
        }
    }

    /// What kind of failure it is for whoever asked.
    pub fn code(&self) -> FailureCode {
        match self {
            Self::NotFound { .. } => FailureCode::NotFound,
            Self::Unreadable { .. } | Self::Unwritable { .. } | Self::NoSpace { .. } => FailureCode::Io,
            Self::NotAFile { .. }
            | Self::Damaged { .. }
            | Self::Empty { .. }
            | Self::Archive { .. }
            | Self::Missing { .. }
            | Self::Changed { .. } => FailureCode::ModelInvalid,
            Self::NotAModel { .. }
            | Self::OnlyPickles { .. }
            | Self::OtherFormat { .. }
            | Self::Program { .. }
            | Self::OtherArchive { .. }
            | Self::Several { .. }
            | Self::SplitGguf { .. }
            | Self::Partial { .. } => FailureCode::ModelUnsupported,
            Self::NotEmpty { .. } | Self::Name { .. } => FailureCode::Internal,
            Self::Cancelled => FailureCode::Cancelled,
        }
    }

    /// One sentence of advice.
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::NotFound { .. } => "Check the path; a link may lead to something that was removed.",
            Self::Unreadable { .. } => "Check that you may read it and that its disk is connected.",
            Self::Unwritable { .. } => "Check that the disk is not full and that its folder may be written to.",
            Self::NoSpace { .. } => "Free some space, or leave the model in place.",
            Self::NotAFile { .. } => "Take it out of the folder.",
            Self::Damaged { .. } | Self::Changed { .. } => "Download it again, from a source that you trust.",
            Self::Empty { .. } | Self::NotAModel { .. } => {
                "Drop a folder with config.json and safetensors, a .gguf file, a Core ML package, or a .zip of one of these."
            }
            Self::OnlyPickles { .. } => {
                "Look for a copy in safetensors; `save_pretrained` of transformers writes one on the machine that you trust it on."
            }
            Self::OtherFormat { .. } => "Look for a copy in safetensors or GGUF.",
            Self::Program { .. } => "Drop the folder of a model.",
            Self::OtherArchive { .. } => "Unpack it and drop the folder.",
            Self::Archive { .. } => "Unpack it with a program that you trust, look at it, and drop the folder.",
            Self::Several { .. } => "Drop the one that you want.",
            Self::SplitGguf { .. } => "Join the parts with `llama-gguf-split --merge`.",
            Self::Partial { .. } => "Merge it into the model that it was made for, and drop that.",
            Self::Missing { .. } => "Copy it from where the model came from, beside the other files.",
            Self::NotEmpty { .. } | Self::Name { .. } => {
                "This is a bug in Embedbar; nothing was written outside its folder."
            }
            Self::Cancelled => return None,
        })
    }
}

impl From<IntakeError> for Failure {
    fn from(error: IntakeError) -> Self {
        let failure = Self::new(error.code(), error.to_string());
        match error.hint() {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}
