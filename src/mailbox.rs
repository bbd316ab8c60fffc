//! From helper threads to the reactor.
//!
//! What it is: a list under a lock that wakes the reactor when it stops being empty. What it is not: a
//! channel; the reactor takes the whole list at once and never waits for it.
//!
//! Invariant: one wake per change from empty to non-empty, so a burst costs one system call.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mio::Waker;

/// What a helper thread reports.
#[derive(Debug)]
pub enum Notice {
    /// The next piece of the job's input; an empty one is its end.
    Input {
        /// The piece.
        bytes: Vec<u8>,
    },
    /// The job's input cannot be read any further.
    InputFailed {
        /// In words.
        reason: String,
    },
    /// So many bytes have reached the output.
    Written {
        /// How many.
        bytes: usize,
    },
    /// The output takes nothing further.
    OutputFailed {
        /// Its reader has gone away.
        reader_gone: bool,
    },
    /// The oldest so many of the records are durable.
    Recorded {
        /// How many.
        count: usize,
    },
    /// The journal takes nothing further.
    JournalFailed {
        /// In words.
        reason: String,
    },
    /// A name look-up ended.
    Resolved {
        /// For which dial.
        dial: u32,
        /// The addresses, of which there is at least one; or what to tell the user.
        result: Result<Vec<SocketAddr>, String>,
    },
}

/// Where helper threads leave their notices. Clones share the list.
#[derive(Clone, Debug)]
pub struct Mailbox {
    notices: Arc<Mutex<Vec<Notice>>>,
    waker: Arc<Waker>,
}

impl Mailbox {
    /// An empty one that wakes through `waker`.
    pub fn new(waker: Arc<Waker>) -> Mailbox {
        Mailbox {
            notices: Arc::default(),
            waker,
        }
    }

    /// Leaves a notice.
    pub fn post(&self, notice: Notice) {
        let mut notices = self.lock();
        let was_empty = notices.is_empty();
        notices.push(notice);
        drop(notices);
        if was_empty {
            // It can fail only when the kernel is out of memory; then the reactor finds the notice
            // at its next turn.
            let _ = self.waker.wake();
        }
    }

    /// Swaps everything that is there into `notices`, which must be empty.
    pub fn take(&self, notices: &mut Vec<Notice>) {
        debug_assert!(notices.is_empty());
        std::mem::swap(&mut *self.lock(), notices);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Notice>> {
        self.notices.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
