//! Large pieces of memory, kept for their next use.
//!
//! What it is: an owned byte string of fixed length that, if it is large, goes to a short list of
//! spares of its thread when it is dropped, and is taken from there when one is needed: what comes
//! fresh from the system costs a page fault per 4 KiB, and those cost many times the copy. What it is
//! not: an allocator; what another thread drops serves that thread's next need.
//!
//! Invariant: a thread keeps at most [`SPARE_BYTES_MAX`] of spares, or less if it has said so. Their
//! old bytes are never read: whoever takes one keeps count of what it has filled.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::hint::black_box;
use std::ops::{Deref, DerefMut};

use crate::limits::SPARE_BYTES_MAX;

thread_local! {
    /// The longest unused first.
    static SPARES: RefCell<VecDeque<Box<[u8]>>> = const { RefCell::new(VecDeque::new()) };
    static SPARE_BYTES: Cell<usize> = const { Cell::new(SPARE_BYTES_MAX) };
}

/// An owned byte string of fixed length.
#[derive(Default)]
pub struct Buffer(Box<[u8]>);

impl Buffer {
    /// From this length on it is kept. Below, the system's allocator does the same by itself.
    pub const LARGE_BYTES: usize = 64 << 10;

    /// At least `bytes`, whatever they are; a large buffer has room for a header more, so that a
    /// payload's serves a frame's need, too.
    pub fn with_room(bytes: usize) -> Buffer {
        Buffer::spare(bytes).unwrap_or_else(|| Buffer::zeroed(bytes))
    }

    /// At least `bytes` zeros.
    pub fn zeroed(bytes: usize) -> Buffer {
        if bytes < Buffer::LARGE_BYTES {
            return Buffer(vec![0; bytes].into());
        }
        // What glibc maps by itself begins 16 bytes into a page. What the kernel copies there, or from
        // there behind a header, is then written a few bytes ahead of where it is read, modulo the
        // page, which takes some processors (AMD's) half as long again. Once glibc has seen as much
        // freed it maps no more of this size; what it finds elsewhere begins anywhere.
        drop(black_box(Vec::<u8>::with_capacity(2 * bytes)));
        Buffer(vec![0; (bytes + 64).next_multiple_of(4096)].into())
    }

    /// The latest spare with room for `bytes` and not for more than twice as many, if there is one.
    pub fn spare(bytes: usize) -> Option<Buffer> {
        if bytes < Buffer::LARGE_BYTES {
            return None;
        }
        SPARES.with_borrow_mut(|spares| {
            let mut lengths = spares.iter().map(|spare| spare.len());
            let index = lengths.rposition(|length| (bytes..=2 * bytes).contains(&length))?;
            spares.remove(index).map(Buffer)
        })
    }

    /// This thread, which has no spares yet, keeps no more than that from now on.
    pub fn keep_at_most(bytes: usize) {
        SPARE_BYTES.set(bytes);
    }

    /// Gives back what this thread keeps.
    #[cfg(test)]
    pub fn forget_spares() {
        SPARES.take();
    }

    fn is_large(&self) -> bool {
        self.len() >= Buffer::LARGE_BYTES
    }
}

impl From<Vec<u8>> for Buffer {
    /// All of the vector's memory.
    fn from(mut vec: Vec<u8>) -> Buffer {
        vec.resize(vec.capacity(), 0);
        Buffer(vec.into())
    }
}

impl From<Buffer> for Vec<u8> {
    fn from(mut buffer: Buffer) -> Vec<u8> {
        std::mem::take(&mut buffer.0).into()
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

impl std::fmt::Debug for Buffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "room for {} bytes", self.len())
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if self.is_large() {
            keep(std::mem::take(&mut self.0));
        }
    }
}

/// Makes it the latest spare; the oldest go if they are too many.
#[cold]
fn keep(bytes: Box<[u8]>) {
    let kept_bytes_max = SPARE_BYTES.get();
    if bytes.len() > kept_bytes_max {
        return;
    }
    // A thread that ends has no spares any more.
    let _ = SPARES.try_with(|spares| {
        let mut spares = spares.borrow_mut();
        spares.push_back(bytes);
        let mut kept_bytes: usize = spares.iter().map(|spare| spare.len()).sum();
        while kept_bytes > kept_bytes_max {
            kept_bytes -= spares.pop_front().expect("it is what is kept").len();
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_buffer_is_used_again() {
        Buffer::forget_spares();
        let first = Buffer::with_room(1 << 20);
        let place = first.as_ptr();
        drop(first);
        assert!(Buffer::spare(8 << 10).is_none(), "small ones are not kept");
        assert!(Buffer::spare(400 << 10).is_none(), "it is far too long");
        assert!(Buffer::spare(2 << 20).is_none(), "it is too short");
        assert_eq!(Buffer::with_room(1 << 20).as_ptr(), place);
        assert_eq!(Buffer::with_room((1 << 20) + 64).as_ptr(), place);
    }

    #[test]
    fn a_thread_keeps_the_latest_within_its_bound() {
        let kept_bytes = || SPARES.with_borrow(|spares| spares.iter().map(|s| s.len()).sum());
        let of = |bytes| drop(Buffer::zeroed(bytes));
        Buffer::forget_spares();
        of(SPARE_BYTES_MAX + 1);
        assert_eq!(kept_bytes(), 0_usize);
        let some: Vec<Buffer> = (0..10).map(|_| Buffer::zeroed(1 << 20)).collect();
        drop(some);
        assert!((1..=SPARE_BYTES_MAX).contains(&kept_bytes()));
        of(SPARE_BYTES_MAX / 2);
        assert!((1..=SPARE_BYTES_MAX).contains(&kept_bytes()));
        assert!(Buffer::spare(SPARE_BYTES_MAX / 2).is_some());
    }
}
