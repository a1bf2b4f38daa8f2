//! Bytes on their way from the network to the digest: what was written to the file just now, kept for a moment, so that the
//! hasher does not read it back.
//!
//! Ranges arrive side by side and a digest goes through the file in order, so what lies ahead waits here, up to a limit. Beyond
//! it those who write wait a little while the hasher is busy, for then the processor is what is short and reading back would
//! take more of it; while the hasher itself waits, for a range that is slow, nobody waits for it and the file is read back later.
//! What is not here: whether the bytes are right, and the hashing.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The most bytes that wait: one piece of each connection.
const MOST: usize = 32 << 20;

/// The most bytes that are taken at once, so that there is room again soon.
const MOST_TAKEN: usize = 4 << 20;

/// How long those who write wait for room.
const WAITED: Duration = Duration::from_millis(200);

/// The most empty buffers that are kept for the next write.
const MOST_SPARE: usize = 16;

/// Buffers by where in the file they were written.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    inner: Mutex<Inner>,
    /// Told when there is room.
    room: Condvar,
}

#[derive(Debug, Default)]
struct Inner {
    waiting: BTreeMap<u64, Vec<u8>>,
    bytes: usize,
    spare: Vec<Vec<u8>>,
    /// The hasher has something to do.
    busy: bool,
    /// The digest is done; nobody takes anything any more.
    closed: bool,
}

impl Kept {
    /// Takes a buffer that was written at `at`; says whether it waits now. May block for a moment.
    pub(crate) fn keep(&self, at: u64, buffer: Vec<u8>) -> bool {
        let full = |inner: &mut Inner| inner.busy && !inner.closed && inner.bytes + buffer.len() > MOST;
        let waited = self.room.wait_timeout_while(self.lock(), WAITED, full);
        let mut inner = waited.unwrap_or_else(PoisonError::into_inner).0;
        if inner.closed || buffer.is_empty() || inner.bytes + buffer.len() > MOST {
            inner.recycle(buffer);
            return false;
        }
        inner.bytes += buffer.len();
        if let Some(older) = inner.waiting.insert(at, buffer) {
            inner.bytes -= older.len();
            inner.recycle(older);
        }
        true
    }

    /// The buffers that continue the file from `at` on without a gap, and where the next one begins that does not.
    pub(crate) fn take(&self, at: u64) -> (Vec<Vec<u8>>, Option<u64>) {
        let mut inner = self.lock();
        let mut taken = Vec::new();
        let mut end = at;
        let mut next = None;
        while let Some((start, buffer)) = inner.waiting.pop_first() {
            if start > end || end - at > MOST_TAKEN as u64 {
                inner.waiting.insert(start, buffer);
                next = Some(start);
                break;
            }
            inner.bytes -= buffer.len();
            if start < end {
                // Read back already.
                inner.recycle(buffer);
                continue;
            }
            end += buffer.len() as u64;
            taken.push(buffer);
        }
        inner.busy = !taken.is_empty();
        self.room.notify_all();
        (taken, next)
    }

    /// The hasher reads from the file what is missing here, and comes for the rest afterwards.
    pub(crate) fn read_back(&self) {
        self.lock().busy = true;
    }

    /// Takes buffers that have been used.
    pub(crate) fn give_back(&self, buffers: Vec<Vec<u8>>) {
        let mut inner = self.lock();
        for buffer in buffers {
            inner.recycle(buffer);
        }
    }

    /// An empty buffer.
    pub(crate) fn spare(&self, capacity: usize) -> Vec<u8> {
        let spare = self.lock().spare.pop();
        spare.unwrap_or_else(|| Vec::with_capacity(capacity))
    }

    /// Nothing is kept from now on.
    pub(crate) fn close(&self) {
        *self.lock() = Inner { closed: true, ..Inner::default() };
        self.room.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Whole after every statement that could panic.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn recycle(&mut self, mut buffer: Vec<u8>) {
        if self.spare.len() < MOST_SPARE {
            buffer.clear();
            self.spare.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_come_out_in_the_order_of_the_file_and_never_twice() {
        let kept = Kept::default();
        assert!(kept.keep(4, b"efgh".to_vec()) && kept.keep(0, b"abcd".to_vec()) && kept.keep(20, b"x".to_vec()));
        assert_eq!(kept.take(0), (vec![b"abcd".to_vec(), b"efgh".to_vec()], Some(20)));
        assert_eq!(kept.take(8), (vec![], Some(20)));
        // What lies before the place was read back meanwhile.
        assert_eq!(kept.take(21), (vec![], None));
        assert_eq!(kept.lock().bytes, 0);
    }

    #[test]
    fn no_more_waits_than_is_allowed_and_nothing_after_the_end() {
        let kept = Kept::default();
        assert!(kept.keep(0, vec![0; MOST - 1]) && !kept.keep(MOST as u64, vec![0; 2]) && !kept.keep(7, vec![]));
        // Somebody who writes waits while the hasher is busy, and goes on when there is room.
        assert_eq!(kept.take(0).0.len(), 1);
        assert!(kept.keep(MOST as u64, vec![0; MOST]));
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| kept.keep(0, vec![0; 2]));
            std::thread::sleep(Duration::from_millis(20));
            assert_eq!(kept.take(MOST as u64).0.len(), 1);
            assert!(waits.join().expect("it ends"));
        });
        kept.close();
        assert!(!kept.keep(0, vec![0; 2]));
        assert_eq!(kept.take(0), (vec![], None));
    }
}
