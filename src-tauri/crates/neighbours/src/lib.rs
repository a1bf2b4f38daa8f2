//! What other programs on this machine hold, and how they are asked to give it back: by consent, by name, through their own API.
//!
//! ```text
//! places ─► survey ─► offers: name, size, id ─► (a person chooses) ─► accept ─► outcomes
//!             │                                                          │
//!             ├─ servers: Ollama, LM Studio, llama-server                ├─ unload, then look whether it is gone
//!             └─ docker: bollard on the engines' sockets                 └─ stops: journal, stop, start again
//! ```
//!
//! Stopped containers are started again by [`Stops::start_again`], and after a kill by [`Stops::recover`]: exactly those that
//! ran before. Sizes are what the other program says that it holds. What a clean-up gained, including nothing, is measured by
//! whoever calls this.
//!
//! What is not here: any decision, any reading of this machine's memory, any other machine, ending a process, dropping a cache of
//! the system, taking memory so that others are paged out.

mod docker;
mod error;
mod journal;
mod neighbours;
mod offer;
mod servers;
mod sockets;
mod stops;
mod text;

pub use docker::{Container, Docker, Refusal};
pub use error::NeighboursError;
pub use journal::{Pending, Stage};
pub use neighbours::{Neighbours, Places};
pub use offer::{Deed, Note, Offer, Outcome, Program, Survey};
pub use servers::{AddressError, Server};
pub use stops::{Patience, StartOutcome, StartResult, StopOutcome, StopResult, Stops};
