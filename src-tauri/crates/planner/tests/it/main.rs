//! The planner and its governor on simulated machines. Nothing here reads a clock or this machine.

mod governor;
mod machines;
mod plans;
mod properties;
mod table;
mod traces;
