//! Judges what the converter made, before it becomes a model.
//!
//! ```text
//! convert ─► self-test ─► source's vectors ─┬─► compare ─► certificate ─► rename
//!            (reload,     target's vectors ─┘      │
//!             structure)  (streamed)               └─► below the floor: worst matrices in 8 bits, again; else set aside
//! ```
//!
//! Both sides' vectors of the probe set (`probes`) come from one evaluator (`forward`) that reads weights a few rows at a time
//! while all texts are in flight, so that judging a model takes no more memory than converting it. A package's program is
//! judged by `embedbar-mil`, which shares no code with its writer; a GGUF file is read by the engine's reader.
//!
//! A model that comes from elsewhere has nothing to be compared with but itself and what is declared of it: [`trial`] runs it
//! and writes its card.
//!
//! What this is not: a benchmark of retrieval. A certificate says how near the vectors of the smaller model are to those of
//! the checkpoint that it was made from, on sentences that everybody can read, and who computed them.

mod certify;
mod compare;
mod error;
mod forward;
mod probes;
mod product;
mod repeat;
mod self_test;
mod trial;
mod weights;

pub use certify::{Certifier, Outcome, Phase, Progress};
pub use compare::agreement;
pub use embedbar_convert::certificate::{Agreement, Certificate, SelfTest, Vectors, Verdict};
pub use error::CertifyError;
pub use probes::probes;
pub use repeat::{Repetition, open, repeat};
pub use trial::{Declared, Reference, Stage, trial};
