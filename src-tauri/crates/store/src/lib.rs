//! State and models on disk: where things are, who owns them, which models there are.
//!
//! [`Home`] is the folder of all state; [`Ownership`] is the lock that makes one program its owner; [`Library`] knows the models.
//! What is not here (yet): downloads, verification, removal; what a model file means.

mod error;
mod home;
mod hub_cache;
mod library;
mod ownership;

pub use error::StoreError;
pub use home::{Home, LAYOUT_VERSION};
pub use hub_cache::{downloaded, is_id};
pub use library::{BUNDLED_ID, Library, Model, bytes_below};
pub use ownership::Ownership;
