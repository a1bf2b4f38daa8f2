//! State and models on disk: where things are, who owns them, which models there are.
//!
//! [`Home`] is the folder of all state; [`Ownership`] is the lock that makes one program its owner; [`Library`] knows the models.
//! A model gets in and out through [`Staging`], so that half of one is never seen; [`read_origin`] and [`read_card`] tell what was
//! written beside it. What is not here: downloads, copying, what a model file means, whether a model is any good.

mod error;
mod home;
mod library;
mod ownership;
mod record;
mod size;
mod staging;

pub use error::StoreError;
pub use home::{Home, LAYOUT_VERSION};
pub use library::{BUNDLED_ID, Found, Library, Model, model_in};
pub use ownership::Ownership;
pub use record::{read_card, read_origin, write_card, write_origin};
pub use size::{Tally, bytes_below};
pub use staging::{Removal, SetAside, Staging, is_model_id};
