//! Which model, precision and backend fit into the memory that is there, and when to step down or up.
//!
//! ```text
//! wishes, catalogue, artefacts, reading, history ─► plan() ─► every candidate with its sentence, and one choice
//!                                                     │
//! time, latencies, page-ins, requests ────────────────┴─► Governor ─► unload, smaller batch, step down or up:
//!                                                                      each with its reason and later its effect
//! ```
//!
//! Everything here is a function of its arguments: no clock, no file, no system call. Time is a
//! [`Duration`](std::time::Duration) since whenever the caller began to count. [`trace`] has recorded days of simulated
//! machines for tests and for the simulation.
//!
//! What is not here: taking readings, loading and ending workers, the settings of the `.env`, anything that waits.

mod baseline;
mod candidate;
mod governor;
mod history;
mod plan;
mod reading;
mod reserve;
mod table;
mod text;
mod thresholds;
pub mod trace;
mod wishes;

pub use candidate::{Artefact, Backend, Candidate, Form, Standing, Unit};
pub use governor::{
    Action, Batch, Cause, Effect, Event, Governor, GovernorRules, KeepAlive, Place, QuerySeen, Step, Tick,
};
pub use history::{History, Measured, UsualUse};
pub use plan::{Choice, Judged, Making, Plan, Refusal, RemotePlan, Verdict, plan};
pub use reading::{Present, Reading, System};
pub use reserve::{Reserve, ReserveCause};
pub use table::{everything_made, readme_table};
pub use text::bytes as memory_text;
pub use thresholds::Thresholds;
pub use wishes::{PrecisionWish, Purpose, Wishes};
