//! The beginning and the end of what a program writes to standard error.
//!
//! What it is: [`Excerpt`], bytes go in, at most [`STDERR_BYTES_MAX`] stay. What it is not: a log.
//!
//! Invariant: what is left out is said, where it would have stood.

use std::collections::VecDeque;

use crate::limits::STDERR_BYTES_MAX;

const HALF: usize = STDERR_BYTES_MAX / 2;

/// The first and the last bytes of a stream.
#[derive(Debug, Default)]
pub struct Excerpt {
    first: Vec<u8>,
    last: VecDeque<u8>,
    left_out: u64,
}

impl Excerpt {
    /// Takes in the next bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        let (first, rest) = bytes.split_at(bytes.len().min(HALF - self.first.len()));
        self.first.extend_from_slice(first);
        self.last.extend(rest);
        let excess = self.last.len().saturating_sub(HALF);
        self.last.drain(..excess);
        self.left_out += excess as u64;
    }

    /// All there is to show, and begins anew.
    pub fn take(&mut self) -> Vec<u8> {
        let Excerpt {
            first: mut out,
            last,
            left_out,
        } = std::mem::take(self);
        if left_out > 0 {
            out.extend_from_slice(format!("\n[{left_out} bytes left out]\n").as_bytes());
        }
        let (front, back) = last.as_slices();
        out.extend_from_slice(front);
        out.extend_from_slice(back);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_is_left_out_and_named() {
        let mut excerpt = Excerpt::default();
        excerpt.push(b"little");
        assert_eq!(excerpt.take(), b"little");
        for byte in [b'a', b'b', b'c'] {
            excerpt.push(&[byte; HALF]);
        }
        excerpt.push(b"d");
        let word = format!("\n[{} bytes left out]\n", HALF + 1);
        let expected = [&[b'a'; HALF][..], word.as_bytes(), &[b'c'; HALF - 1], b"d"];
        assert_eq!(excerpt.take(), expected.concat());
        assert_eq!(excerpt.take(), b"");
    }
}
