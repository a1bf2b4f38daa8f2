//! What a dropped path is, and how its files get safely into a folder of ours.
//!
//! [`recognise`] says what a folder, a file or an archive is, from names and headers alone; [`place`] copies, clones or links the
//! files that it allowed; [`compare`] says later whether they are still what they were. Nothing is run and no weight is looked
//! at: whether the model can be embedded with is for the engine to say. Everything that is read is hostile until it is checked,
//! so a program calls this in a child process. There is no network here and nothing of the engine.
//!
//! The readers of single formats are public, so that each can be fuzzed alone: [`archive`], [`gguf_header`], [`manifest`],
//! [`safetensors_header`], [`tokenizer`].

pub mod archive;
mod arrival;
mod checkpoint;
mod compare;
mod coreml;
mod error;
mod files;
mod folder;
mod gguf;
pub mod gguf_header;
mod json;
mod leftovers;
mod licence;
pub mod manifest;
mod names;
mod pass;
mod place;
mod recognise;
pub mod safetensors_header;
mod share;
mod summary;
pub mod tokenizer;
mod watch;

pub use arrival::{Arrival, ArrivedFile, Kind};
pub use compare::compare;
pub use error::{FormatError, IntakeError};
pub use place::{Manner, Placed, PlacedFile, Way, place};
pub use recognise::recognise;
pub use summary::Summary;
pub use watch::{Unwatched, Watch};
