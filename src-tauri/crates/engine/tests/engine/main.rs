//! The engine on small checkpoints that the tests make themselves: no network, no real model.
//!
//! Expected vectors come from a plain reimplementation in f64 that shares nothing with the engine but the definition.
//! Comparisons with other people's implementations on a real model are in the workspace's `tests/`.

mod allocations;
mod bad_input;
mod kernels;
mod make;
mod reference;
mod vectors;
