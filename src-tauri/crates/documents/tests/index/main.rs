//! The index from outside: real folders, a real database, an embedder that needs no model.

mod kill;
mod refresh;
mod search;
mod support;
