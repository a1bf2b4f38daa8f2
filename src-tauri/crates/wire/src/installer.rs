//! What an installer is told and what it says at the end; how, is for [`crate::errand`] to say.
//!
//! It reads files that nobody has checked, so that a crafted one takes this process and not the owner.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use embedbar_contract::{Card, Inspection, OriginFile, Placing};

/// One piece of work on a model's files.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(tag = "work", rename_all = "snake_case")]
pub enum Order {
    /// Say what a path is.
    Inspect {
        /// The file, the folder or the archive.
        path: PathBuf,
        /// An empty folder, into which an archive is unpacked.
        scratch: PathBuf,
    },
    /// Bring a path's files into a folder and test the model there.
    Bring {
        /// The file, the folder or the archive.
        path: PathBuf,
        /// An empty folder, into which an archive is unpacked.
        scratch: PathBuf,
        /// The empty folder that becomes the model.
        folder: PathBuf,
        /// Its id.
        id: String,
        /// How its files get there.
        manner: Manner,
        /// Where matrices are kept in the form that is computed with.
        packed: PathBuf,
    },
    /// Test a model that is there, and compare its files with what they were.
    Test {
        /// The model, as the library gives it.
        model: PathBuf,
        /// Its folder.
        folder: PathBuf,
        /// Its id.
        id: String,
        /// What its files were when they came.
        files: Vec<OriginFile>,
        /// Where matrices are kept in the form that is computed with.
        packed: PathBuf,
    },
}

/// How files get into a model's folder.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Manner {
    /// As clones where the file system can, else as copies.
    Copy,
    /// As links to where they are.
    Link,
    /// As further names of the same files: what was downloaded for this is not needed elsewhere.
    Take,
}

/// What came of it.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Done {
    /// What the path is.
    Inspected(Box<Inspection>),
    /// The files are in the folder; whether they are a model that can be used is in the card.
    Brought(Box<Brought>),
    /// What the test found.
    Tested(Box<Card>),
}

/// Files that were brought into a folder.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Brought {
    /// What they are.
    pub inspection: Inspection,
    /// How they came.
    pub placed: Placing,
    /// All of them.
    pub files: Vec<OriginFile>,
    /// What the test found.
    pub card: Card,
}
