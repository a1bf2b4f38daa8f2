//! Whole programs with each other: owner, client, worker, and what happens when one of them dies or is given rubbish.

mod bad_input;
mod conversions;
mod documents;
mod following;
mod http;
mod installing;
mod limited;
mod owners_and_workers;
mod packages;
mod remote;
mod settings;
mod simulated;
mod standing_in;
mod swaps;
