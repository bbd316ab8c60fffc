//! What is left to do for a session's programs once nobody waits for them.
//!
//! What it is: [`Clearing`], the threads that wait for processes and remove folders. What it is not: a
//! way to end them; they have been told.
//!
//! Invariant: whoever ends a session, the reactor with the pool's lock, waits for nothing of it.
//! Whoever ends the worker waits for `CLEARING_TIMEOUT` at most.

use std::sync::{Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use crate::limits::{CLEARING_TIMEOUT, LOOK_MIN};

/// The threads that clear up after the sessions of one worker.
#[derive(Default)]
pub struct Clearing(Mutex<Vec<JoinHandle<()>>>);

impl Clearing {
    /// Drops `what` elsewhere; here if the system refuses a thread.
    pub fn drop_later(&self, what: impl Send + 'static) {
        let work = move || drop(what);
        let Ok(thread) = thread::Builder::new().name("clearing".into()).spawn(work) else {
            return;
        };
        let mut threads = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        threads.retain(|thread| !thread.is_finished());
        threads.push(thread);
    }
}

impl Drop for Clearing {
    fn drop(&mut self) {
        let threads = self.0.get_mut().unwrap_or_else(PoisonError::into_inner);
        let begun = Instant::now();
        while threads.iter().any(|thread| !thread.is_finished()) {
            if begun.elapsed() >= CLEARING_TIMEOUT {
                return;
            }
            thread::sleep(LOOK_MIN);
        }
    }
}
