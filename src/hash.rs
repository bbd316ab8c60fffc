//! A 64-bit hash that is the same on every machine and in every release.
//!
//! What it is: SplitMix64's mixing, a word at a time, over numbers and bytes. What it is not:
//! cryptographic. It finds mistakes, not forgeries.
//!
//! Invariant: the values are part of the journal's format, and never change.

use crate::rng::SplitMix64;

/// Takes one word into a hash. Any start will do; 0 is usual.
pub fn word(hash: u64, word: u64) -> u64 {
    SplitMix64::new(hash ^ word).next()
}

/// Takes a string of bytes into a hash. Eight bytes a step; a bytewise hash would take longer than
/// some kernels.
pub fn bytes(hash: u64, bytes: &[u8]) -> u64 {
    // The length first: the last word is filled up with zeros.
    let mut hash = word(hash, bytes.len() as u64);
    for chunk in bytes.chunks(8) {
        let mut filled = [0; 8];
        filled[..chunk.len()].copy_from_slice(chunk);
        hash = word(hash, u64::from_le_bytes(filled));
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_values_never_change() {
        assert_eq!(word(0, 0), 0xe220_a839_7b1d_cdaf);
        assert_eq!(bytes(0, b""), word(0, 0));
        let five = u64::from_le_bytes(*b"three\0\0\0");
        assert_eq!(bytes(7, b"three"), word(word(7, 5), five));
    }

    #[test]
    fn every_byte_and_the_length_count() {
        let long = [7; 29];
        for i in 0..long.len() {
            let mut other = long;
            other[i] ^= 0x80;
            assert_ne!(bytes(0, &long), bytes(0, &other));
        }
        assert_ne!(bytes(0, b"a"), bytes(0, b"a\0"));
        assert_ne!(bytes(0, b""), bytes(1, b""));
    }
}
