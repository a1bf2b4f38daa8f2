//! What crosses a process boundary on this machine, and how it is framed.
//!
//! Two conversations share one frame format: the owner of a home with its worker ([`worker`], over an inherited socket), and
//! a client program with the owner ([`owner`], over `owner.sock`). Each opens with a [`Hello`] from both sides; programs whose
//! wire types differ refuse each other with a sentence instead of misreading each other. A third one, of the owner with children
//! that do one long piece of work ([`errand`]: a [`converter`], an [`installer`]), carries no vectors and is made of lines that
//! a person can read.
//!
//! What is not here: who restarts whom, queues, or anything about models.

pub mod converter;
pub mod errand;
pub mod frame;
mod hello;
pub mod installer;
pub mod owner;
pub mod worker;

pub use frame::{Frame, FrameError};
pub use hello::{BUILD, Hello, Role};
