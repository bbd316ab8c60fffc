//! The bytes of a task: its input on the way out, its output on the way back.
//!
//! What it is: [`Payload`], an owned byte string that keeps up to 22 bytes in place, because an
//! allocation per small task is the second largest cost of a task farm after a map per task; and
//! [`Bytes`], the same lent. Many bytes are shared, not copied, all the way from where they came to
//! the socket: a copy costs as much as the system takes to carry them. What it is not: a growable
//! buffer.
//!
//! Invariant: a payload of at most [`Payload::INLINE_BYTES`] owns no heap memory, and what is shared
//! does not change.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

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
    /// Too few to be worth sharing.
    Boxed(Box<[u8]>),
    /// At least [`Buffer::LARGE_BYTES`].
    Shared {
        len: u32,
        /// Where they end in their memory. Before them is what they arrived with, a frame's header.
        end: u32,
        memory: Arc<Buffer>,
    },
}

/// Bytes that are lent, and, as they may be many, whose they are: to keep those is to share them.
#[derive(Clone, Copy, Default)]
pub struct Bytes<'a> {
    bytes: &'a [u8],
    /// Ends with them.
    owner: Option<&'a Payload>,
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
    pub fn set<'a>(&mut self, source: impl Into<Bytes<'a>>) {
        let source = source.into();
        match &mut self.0 {
            Repr::Inline { len, bytes } if source.len() <= Payload::INLINE_BYTES => {
                *len = source.len() as u8;
                copy_small(&source, bytes);
            }
            _ => self.set_other(source.bytes, source.owner),
        }
    }

    /// By its parts, which need not be in memory for this to be called.
    #[cold]
    fn set_other(&mut self, bytes: &[u8], owner: Option<&Payload>) {
        *self = Payload::from(Bytes { bytes, owner });
    }

    /// The same with the bytes of `vec`, see [`Payload::take`].
    #[inline(always)]
    pub fn set_from(&mut self, vec: &mut Vec<u8>) {
        if vec.len() < Buffer::LARGE_BYTES {
            self.set(&vec[..]);
            vec.clear();
        } else {
            *self = Payload::take(vec);
        }
    }

    /// Takes over the bytes of `other`, which gets some in exchange. A few are copied as such: swapped
    /// in words of the whole, the processor would wait for those before it could load a number that
    /// lies across two of them.
    #[inline(always)]
    pub fn take_over(&mut self, other: &mut Payload) {
        match (&mut self.0, &other.0) {
            (
                Repr::Inline { len, bytes },
                Repr::Inline {
                    len: count,
                    bytes: source,
                },
            ) => {
                *len = *count;
                copy_small(&source[..usize::from(*count)], bytes);
            }
            _ => std::mem::swap(self, other),
        }
    }

    /// How many bytes it has.
    #[inline(always)]
    pub fn len(&self) -> usize {
        match &self.0 {
            Repr::Inline { len, .. } => usize::from(*len),
            _ => self.heap().len(),
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
            _ => *self = Payload::EMPTY,
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
        Payload::of(Buffer::from(std::mem::replace(vec, other)), bytes)
    }

    /// The first `len` bytes of `memory`, without a copy.
    pub fn of(memory: Buffer, len: usize) -> Payload {
        assert!(len <= memory.len(), "they are in it");
        let len = u32::try_from(len).expect("a body is below 4 GiB");
        Payload(Repr::Shared {
            len,
            end: len,
            memory: Arc::new(memory),
        })
    }

    /// All but its first `count` bytes.
    ///
    /// # Panics
    /// If it has fewer.
    pub fn lend_from(&self, count: usize) -> Bytes<'_> {
        Bytes {
            bytes: &self[count..],
            owner: Some(self),
        }
    }

    /// All of its bytes.
    #[inline(always)]
    pub fn lend(&self) -> Bytes<'_> {
        Bytes {
            bytes: self,
            owner: Some(self),
        }
    }

    /// The bytes of one that is not small.
    #[cold]
    fn heap(&self) -> &[u8] {
        match &self.0 {
            Repr::Inline { .. } => unreachable!("the caller has read that"),
            Repr::Boxed(bytes) => bytes,
            Repr::Shared { len, end, memory } => &memory[(end - len) as usize..*end as usize],
        }
    }

    /// Bytes of heap memory held.
    pub fn heap_bytes(&self) -> usize {
        match &self.0 {
            Repr::Inline { .. } => 0,
            Repr::Boxed(bytes) => bytes.len(),
            Repr::Shared { memory, .. } => memory.len(),
        }
    }
}

impl<'a> Bytes<'a> {
    /// The first `N`, and the rest; `None` if they are fewer.
    #[inline(always)]
    pub fn split_first_chunk<const N: usize>(self) -> Option<(&'a [u8; N], Bytes<'a>)> {
        let (first, bytes) = self.bytes.split_first_chunk()?;
        Some((first, Bytes { bytes, ..self }))
    }

    /// As a slice, for as long as they are lent.
    #[inline(always)]
    pub fn as_slice(self) -> &'a [u8] {
        self.bytes
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
        Payload(match source.len() {
            Buffer::LARGE_BYTES.. => {
                let mut memory = Buffer::with_room(source.len());
                memory[..source.len()].copy_from_slice(source);
                return Payload::of(memory, source.len());
            }
            len if len > Payload::INLINE_BYTES => Repr::Boxed(source.into()),
            len => {
                let mut bytes = [0; Payload::INLINE_BYTES];
                copy_small(source, &mut bytes);
                let len = len as u8;
                Repr::Inline { len, bytes }
            }
        })
    }
}

impl From<Bytes<'_>> for Payload {
    fn from(source: Bytes<'_>) -> Payload {
        match source.owner {
            Some(Payload(Repr::Shared { end, memory, .. }))
                if source.len() >= Buffer::LARGE_BYTES =>
            {
                Payload(Repr::Shared {
                    len: source.len() as u32,
                    end: *end,
                    memory: Arc::clone(memory),
                })
            }
            _ => Payload::from(source.bytes),
        }
    }
}

impl<'a, T: AsRef<[u8]> + ?Sized> From<&'a T> for Bytes<'a> {
    #[inline(always)]
    fn from(bytes: &'a T) -> Bytes<'a> {
        Bytes {
            bytes: bytes.as_ref(),
            owner: None,
        }
    }
}

impl Deref for Payload {
    type Target = [u8];

    #[inline(always)]
    fn deref(&self) -> &[u8] {
        match &self.0 {
            Repr::Inline { len, bytes } => &bytes[..usize::from(*len)],
            _ => self.heap(),
        }
    }
}

impl Deref for Bytes<'_> {
    type Target = [u8];

    #[inline(always)]
    fn deref(&self) -> &[u8] {
        self.bytes
    }
}

impl PartialEq for Bytes<'_> {
    fn eq(&self, other: &Bytes<'_>) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for Bytes<'_> {}

impl fmt::Debug for Bytes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.bytes.fmt(f)
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
        let large = Buffer::LARGE_BYTES;
        for len in (0..50).chain([large - 1, large, large + 1]) {
            let bytes: Vec<u8> = (0..len).map(|i| i as u8).collect();
            let mut short = Payload::from(&b"short"[..]);
            let mut long = Payload::from(&[1; 99][..]);
            short.set(&bytes);
            long.set(&bytes);
            let again = Payload::from(long.lend());
            for payload in [Payload::from(&bytes[..]), short, long, again] {
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

    #[test]
    fn many_bytes_that_are_lent_are_kept_without_a_copy() {
        let large = Buffer::LARGE_BYTES;
        let source: Vec<u8> = (0..large + 20).map(|i| i as u8).collect();
        let whole = Payload::from(&source[..]);
        let mut part = Payload::from(whole.lend_from(8));
        part = Payload::from(part.lend_from(12));
        assert_eq!(part[..], source[20..]);
        assert_eq!(part.as_ptr(), whole[20..].as_ptr());
        // Of a few bytes it would keep far more memory than they have.
        assert_eq!(Payload::from(part.lend_from(large - 100)).heap_bytes(), 100);
        drop(whole);
        assert_eq!(part[..], source[20..]);
    }
}
