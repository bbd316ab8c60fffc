//! The bytes of a task: its input on the way out, its output on the way back.
//!
//! What it is: an owned byte string that keeps up to 22 bytes in place, because an allocation per
//! small task is the second largest cost of a task farm after a map per task. What it is not: a
//! growable buffer.
//!
//! Invariant: a payload of at most [`Payload::INLINE_BYTES`] owns no heap memory.

use std::fmt;
use std::ops::Deref;

use crate::buffer::Buffer;

/// An owned, immutable byte string.
#[derive(Clone)]
pub struct Payload(Repr);

#[derive(Clone)]
enum Repr {
    Inline {
        len: u8,
        bytes: [u8; Payload::INLINE_BYTES],
    },
    Heap {
        len: u32,
        buffer: Buffer,
    },
}

impl Payload {
    /// Longest payload kept without a heap allocation; 22 makes the whole type 24 bytes.
    pub const INLINE_BYTES: usize = 22;

    /// No bytes.
    pub const EMPTY: Payload = Payload(Repr::Inline {
        len: 0,
        bytes: [0; Payload::INLINE_BYTES],
    });

    /// Takes other bytes, in its place. A small payload that is made elsewhere and moved here at once
    /// makes the processor wait: it cannot load wide what was just stored in parts.
    #[inline(always)]
    pub fn set(&mut self, source: &[u8]) {
        match &mut self.0 {
            Repr::Inline { len, bytes } if source.len() <= Payload::INLINE_BYTES => {
                *len = source.len() as u8;
                copy_small(source, bytes);
            }
            _ => self.set_other(source),
        }
    }

    #[cold]
    fn set_other(&mut self, source: &[u8]) {
        *self = Payload::from(source);
    }

    /// The same with the bytes of `vec`, see [`Payload::take`].
    #[inline(always)]
    pub fn set_from(&mut self, vec: &mut Vec<u8>) {
        if vec.len() < Buffer::LARGE_BYTES {
            self.set(vec);
            vec.clear();
        } else {
            *self = Payload::take(vec);
        }
    }

    /// How many bytes it has.
    #[inline(always)]
    pub fn len(&self) -> usize {
        match &self.0 {
            Repr::Inline { len, .. } => usize::from(*len),
            Repr::Heap { len, .. } => *len as usize,
        }
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Becomes empty, and owns no memory.
    #[inline(always)]
    pub fn clear(&mut self) {
        match &mut self.0 {
            Repr::Inline { len, .. } => *len = 0,
            Repr::Heap { .. } => *self = Payload::EMPTY,
        }
    }

    /// The bytes of `vec`, which is empty afterwards. Many of them are not copied: their memory goes
    /// along, and `vec` gets as much elsewhere.
    pub fn take(vec: &mut Vec<u8>) -> Payload {
        if vec.len() >= Buffer::LARGE_BYTES.max(vec.capacity() / 2) {
            return Payload::take_memory(vec);
        }
        let payload = Payload::from(&vec[..]);
        vec.clear();
        payload
    }

    #[cold]
    fn take_memory(vec: &mut Vec<u8>) -> Payload {
        let bytes = vec.len();
        let mut other = Vec::from(Buffer::with_room(bytes));
        other.clear();
        Payload::heap(bytes, Buffer::from(std::mem::replace(vec, other)))
    }

    fn heap(len: usize, buffer: Buffer) -> Payload {
        let len = u32::try_from(len).expect("a body is below 4 GiB");
        Payload(Repr::Heap { len, buffer })
    }

    /// Bytes of heap memory held.
    pub fn heap_bytes(&self) -> usize {
        match &self.0 {
            Repr::Inline { .. } => 0,
            Repr::Heap { buffer, .. } => buffer.len(),
        }
    }
}

/// A number, as most small payloads are, is one store and no call.
#[inline(always)]
fn copy_small(source: &[u8], bytes: &mut [u8; Payload::INLINE_BYTES]) {
    match <&[u8; 8]>::try_from(source) {
        Ok(number) => bytes[..8].copy_from_slice(number),
        Err(_) => bytes[..source.len()].copy_from_slice(source),
    }
}

impl From<&[u8]> for Payload {
    fn from(source: &[u8]) -> Payload {
        if source.len() > Payload::INLINE_BYTES {
            return Payload::heap(source.len(), Buffer::from(source));
        }
        let mut bytes = [0; Payload::INLINE_BYTES];
        copy_small(source, &mut bytes);
        Payload(Repr::Inline {
            len: source.len() as u8,
            bytes,
        })
    }
}

impl Deref for Payload {
    type Target = [u8];

    #[inline(always)]
    fn deref(&self) -> &[u8] {
        match &self.0 {
            Repr::Inline { len, bytes } => &bytes[..usize::from(*len)],
            Repr::Heap { len, buffer } => &buffer[..*len as usize],
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
            let mut short = Payload::from(&b"short"[..]);
            let mut long = Payload::from(&[1; 99][..]);
            short.set(&bytes);
            long.set(&bytes);
            for payload in [Payload::from(&bytes[..]), short, long] {
                assert_eq!(&payload[..], &bytes[..]);
                let is_inline = bytes.len() <= Payload::INLINE_BYTES;
                assert_eq!(payload.heap_bytes() == 0, is_inline);
            }
        }
        assert_eq!(size_of::<Payload>(), 24);
    }

    #[test]
    fn many_bytes_are_taken_without_a_copy() {
        let mut vec: Vec<u8> = (0..Buffer::LARGE_BYTES).map(|i| i as u8).collect();
        let (expected, place) = (vec.clone(), vec.as_ptr());
        let payload = Payload::take(&mut vec);
        assert_eq!(&payload[..], &expected[..]);
        assert_eq!(payload.as_ptr(), place);
        assert!(vec.is_empty());
        // Little in a large buffer would waste it.
        vec.extend_from_slice(&[1; 100]);
        assert_eq!(Payload::take(&mut vec).heap_bytes(), 100);
        assert!(vec.is_empty() && vec.capacity() >= Buffer::LARGE_BYTES);
    }
}
