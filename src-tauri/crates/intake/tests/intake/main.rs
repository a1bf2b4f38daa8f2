//! Recognising and placing, on samples made here and on hostile ones.

mod archives;
mod folders;
mod placing;
mod samples;
