//! The bytes of a task: its input on the way out, its output on the way back.
//!
//! What it is: an owned byte string that keeps up to 22 bytes in place, because an allocation per
//! small task is the second largest cost of a task farm after a map per task. What it is not: a
//! growable buffer.
//!
//! Invariant: a payload of at most [`Payload::INLINE_BYTES`] owns no heap memory.

use std::fmt;
use std::ops::Deref;

/// An owned, immutable byte string.
#[derive(Clone)]
pub struct Payload(Repr);

#[derive(Clone)]
enum Repr {
    Inline {
        len: u8,
        bytes: [u8; Payload::INLINE_BYTES],
    },
    Heap(Box<[u8]>),
}

impl Payload {
    /// Longest payload kept without a heap allocation; 22 makes the whole type 24 bytes.
    pub const INLINE_BYTES: usize = 22;

    /// No bytes.
    pub const EMPTY: Payload = Payload(Repr::Inline {
        len: 0,
        bytes: [0; Payload::INLINE_BYTES],
    });

    /// Bytes of heap memory held.
    pub fn heap_bytes(&self) -> usize {
        match &self.0 {
            Repr::Inline { .. } => 0,
            Repr::Heap(bytes) => bytes.len(),
        }
    }
}

impl From<&[u8]> for Payload {
    fn from(source: &[u8]) -> Payload {
        if source.len() > Payload::INLINE_BYTES {
            return Payload(Repr::Heap(source.into()));
        }
        let mut bytes = [0; Payload::INLINE_BYTES];
        bytes[..source.len()].copy_from_slice(source);
        Payload(Repr::Inline {
            len: source.len() as u8,
            bytes,
        })
    }
}

impl Deref for Payload {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Repr::Inline { len, bytes } => &bytes[..usize::from(*len)],
            Repr::Heap(bytes) => bytes,
        }
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_its_bytes_on_both_sides_of_the_edge() {
        for len in 0..50 {
            let bytes: Vec<u8> = (0..len).collect();
            let payload = Payload::from(&bytes[..]);
            assert_eq!(&payload[..], &bytes[..]);
            assert_eq!(
                payload.heap_bytes() == 0,
                bytes.len() <= Payload::INLINE_BYTES
            );
        }
        assert_eq!(size_of::<Payload>(), 24);
    }
}
