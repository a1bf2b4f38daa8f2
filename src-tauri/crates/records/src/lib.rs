//! Small files that are read whole and replaced whole, and what is remembered in them from one start to the next.
//!
//! ```text
//! read, write      a record: versioned JSON that only its owner may read
//!    └─► read_whole, Draft      any bytes, with a limit and a mode
//! ```
//!
//! Whoever reads, and whatever kills the process that writes, finds the old bytes or the new ones. A record that a newer
//! Embedbar has written is refused and left alone, and so is a damaged one: whether nothing is then known, or nothing is done,
//! is for whoever asked to say.
//!
//! What is not here: what the bytes mean, who may write at the same time (a home has one owner), and files that are larger than
//! memory should hold.

mod record;
mod whole;

pub use record::{MOST_BYTES, RecordError, read, write};
pub use whole::{Draft, PRIVATE, Refused, Unread, Whole, flush_folder, read_whole};
