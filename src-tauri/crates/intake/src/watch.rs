//! How long work is followed and ended by somebody else.

/// Follows work; asked at every block of a megabyte or so.
pub trait Watch {
    /// `done` of `total` bytes of the whole phase, at `item` now. The phases are `unpacking`, `copying`, `reading` and `comparing`,
    /// and `checking`, which counts files.
    fn progress(&self, phase: &str, item: &str, done: u64, total: u64);

    /// Whether the work should end now.
    fn cancelled(&self) -> bool;
}

/// Nobody looks and nobody ends it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unwatched;

impl Watch for Unwatched {
    fn progress(&self, _phase: &str, _item: &str, _done: u64, _total: u64) {}

    fn cancelled(&self) -> bool {
        false
    }
}
