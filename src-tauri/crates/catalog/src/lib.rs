//! The known embedding models, and what each of them needs in memory.
//!
//! One file a model, `models/*.toml`, becomes part of the program when it is built ([`Catalogue::builtin`]). A file
//! says where the model comes from, its shapes and its recipe. No size is typed in: parameters and bytes follow from
//! the shapes ([`Architecture::weights_bytes`]), with the types that this project's converter stores matrices in, and
//! the parameters that a file names are only compared with what its shapes give.
//!
//! What a model needs in order to be run is not optional: pooling and prompts are said, an empty prompt too; a ladder has only
//! what the converter makes of the family. [`Variant`] names what was made of a model elsewhere.
//!
//! [`Entry::footprint`] estimates what a model takes while it runs and while it is loaded; [`Footprint::corrected`]
//! puts what was measured on this machine in its place. An unknown model whose header was read gets the same arithmetic
//! through [`Architecture`].
//!
//! What is not here: files on disk, downloads, any reading of the machine, any decision.

mod architecture;
mod catalogue;
mod entry;
mod error;
mod footprint;
mod variant;

pub use architecture::{Architecture, Bert, NomicBert, Qwen3, Storage, XlmRoberta};
pub use catalogue::Catalogue;
pub use entry::{Entry, PinnedFile, Pooling, Recipe, Reference, SourceWeights};
pub use error::CatalogError;
pub use footprint::{Engine, Footprint, SPECIALISING_BYTES, Workload};
pub use variant::{Certainty, Format, Variant};
