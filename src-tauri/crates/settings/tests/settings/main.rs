//! The crate from outside: python-dotenv's own readings, every case of the lint, edits and saves on a real disk.

mod dotenv;
mod edits;
mod findings;
mod kill;
mod properties;
mod saves;
mod world;
