//! Loads, queues, measures and replaces: the one owner of the worker process.
//!
//! [`Lifecycle`] is a handle on one actor task. The actor owns the worker, the queue and the state; everybody else sends it
//! messages. Nothing is locked, so no two of them can ever load the same model twice or answer from two models at once.
//!
//! ```text
//! embed(Query) ─► query lane ┐
//!                            ├─► actor ──► worker process (one request at a time) ──► answer with its timing
//! embed(Bulk)  ─► bulk lane  ┘     │
//! activate ────────────────────────┴─► a second worker starts beside the first, then takes over
//! ```
//!
//! A worker that dies is replaced, and what it had not answered is sent once more. What is not here: which model and which
//! precision to choose, memory readings, anything about documents.

mod actor;
mod process;
mod queue;
mod worker;

pub use actor::{Answer, Guard, Lifecycle, Manner, Options, Running, Target};
pub use embedbar_wire::worker::{Lane, RemoteSource, Source};
pub use process::{Environment, Process, Spawn, Spawned, WorkerProgram};
