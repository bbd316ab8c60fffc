//! Counts the primes in a range.
//!
//! What it is: a segmented sieve of Eratosthenes on one thread; its time grows with the length of
//! the range, plus a start-up that grows with the square root of the range's end. What it is not: a
//! list of primes, a primality test or a pi(x) formula.
//!
//! Sources: Eratosthenes for the sieve; C. Bays and R. Hudson, "The segmented sieve of Eratosthenes
//! and arithmetic progressions to 10^12" (BIT 17, 1977) for the segments; P. Pritchard, "Explaining
//! the wheel sieve" (Acta Informatica 17, 1982) for the wheel.
//!
//! One byte stands for 30 numbers: bit `i` of byte `b` is `30 * b + RESIDUES[i]`, set when that
//! number is crossed off. The multiples of a prime `p` then repeat every `p` bytes, eight of them
//! in each such period, and periods begin at multiples of `p` bytes.
//!
//! Invariant: after `Block::sieve`, a number coprime to 30 in the block is crossed off exactly if
//! it has a prime factor among the block's crossing primes, *themselves included*. They hold every
//! prime whose square is at most the last number wanted, so the primes wanted are the numbers left
//! (but 1) and the crossing primes among them.

use std::ops::Range;

/// Largest upper end accepted: 10^14.
pub const TO_MAX: u64 = 100_000_000_000_000;

/// The residues modulo 30 that a prime above 5 can have.
const RESIDUES: [u32; 8] = [1, 7, 11, 13, 17, 19, 23, 29];

/// By residue modulo 30, the bit of a number in its byte; 0 if it shares a factor with 30.
const BIT: [u8; 30] = bit();

/// The primes of the wheel and of `PATTERN`: they cross off in every block, needed or not.
const PRESIEVED: [u32; 7] = [2, 3, 5, 7, 11, 13, 17];

/// The period of the multiples of 7, 11, 13 and 17 taken together.
const PATTERN_BYTES: usize = 7 * 11 * 13 * 17;

/// Where `PRESIEVED` above 5 cross off in the first `PATTERN_BYTES` of the number line.
static PATTERN: [u8; PATTERN_BYTES] = pattern();

/// Sieved as one piece, about an L2 cache: large primes jump about in it, each after one division.
const BLOCK_BYTES: usize = 512 * 1024;

/// The part of a block that the small primes go through together, about an L1 cache.
const TILE_BYTES: usize = 48 * 1024;

/// Primes up to here cross off a whole period at a time, larger ones a number at a time.
const SMALL_PRIME_MAX: u32 = 32 * 1024;

/// Large primes between two polls of `stopped`: well below a millisecond of work.
const LARGE_PRIMES_PER_POLL: usize = 1024;

/// Counts the primes `p` with `from <= p <= to`, or gives `None` as soon as `stopped()` says true.
/// It is polled about every millisecond of work. A range with `from > to` is empty.
///
/// # Panics
///
/// If `to` is above `TO_MAX`.
pub fn count_primes(from: u64, to: u64, stopped: impl Fn() -> bool) -> Option<u64> {
    assert!(to <= TO_MAX, "{to} is above the largest end {TO_MAX}");
    let from = from.max(2);
    if from > to {
        return Some(0);
    }
    let primes = primes_up_to(to.isqrt(), &stopped)?;
    let mut block = Block::default();
    let mut count = 0;
    let mut block_from = from;
    while block_from <= to {
        let first_byte = block_from / 30;
        let block_to = to.min((first_byte + BLOCK_BYTES as u64) * 30 - 1);
        let crossing = block.sieve(&primes, first_byte..block_to / 30 + 1, &stopped)?;
        block.cross_off_outside(block_from, block_to);
        let crossing_below = |n| crossing.partition_point(|&p| u64::from(p) < n) as u64;
        count += block.count_left() + crossing_below(block_to + 1) - crossing_below(block_from);
        block_from = block_to + 1;
    }
    Some(count)
}

/// Lists the primes up to `limit`, and at least `PRESIEVED`; `limit` must fit in one block.
fn primes_up_to(limit: u64, stopped: &impl Fn() -> bool) -> Option<Vec<u32>> {
    if limit <= u64::from(PRESIEVED[PRESIEVED.len() - 1]) {
        return Some(PRESIEVED.to_vec());
    }
    let mut primes = primes_up_to(limit.isqrt(), stopped)?;
    let mut block = Block::default();
    block.sieve(&primes, 0..limit / 30 + 1, stopped)?;
    block.cross_off_outside(2, limit);
    primes.reserve(block.count_left() as usize);
    let mut base = 0;
    for tile in block.bytes().chunks(TILE_BYTES) {
        if stopped() {
            return None;
        }
        for byte in tile {
            let mut left = !byte;
            while left != 0 {
                primes.push(base + RESIDUES[left.trailing_zeros() as usize]);
                left &= left - 1;
            }
            base += 30;
        }
    }
    Some(primes)
}

/// A piece of the number line and what is crossed off in it.
#[derive(Default)]
struct Block {
    /// The block's bytes between two margins of `margin_bytes`, so that every period that touches
    /// the block can be written whole.
    marks: Vec<u8>,
    margin_bytes: usize,
    len_bytes: usize,
    first_byte: u64,
}

/// A prime up to `SMALL_PRIME_MAX` and the index in `Block::marks` of its next period.
struct Small {
    prime: u32,
    next_period: u32,
}

impl Block {
    /// Makes this the block of `bytes` of the number line and crosses off in it, giving the primes
    /// that did so: a beginning of `primes`, which ascend and hold all whose square is needed.
    fn sieve<'a>(
        &mut self,
        primes: &'a [u32],
        bytes: Range<u64>,
        stopped: &impl Fn() -> bool,
    ) -> Option<&'a [u32]> {
        let needed = primes.partition_point(|&p| u64::from(p).pow(2) < bytes.end * 30);
        let crossing = &primes[..needed.max(PRESIEVED.len())];
        let (small, large) = crossing.split_at(crossing.partition_point(|&p| p <= SMALL_PRIME_MAX));

        self.first_byte = bytes.start;
        self.len_bytes = (bytes.end - bytes.start) as usize;
        self.margin_bytes = small[small.len() - 1] as usize;
        self.marks.resize(self.len_bytes + 2 * self.margin_bytes, 0);
        self.copy_pattern();
        self.cross_off_small(&small[PRESIEVED.len()..], stopped)?;
        for primes in large.chunks(LARGE_PRIMES_PER_POLL) {
            if stopped() {
                return None;
            }
            self.cross_off_large(primes);
        }
        Some(crossing)
    }

    fn bytes(&self) -> &[u8] {
        &self.marks[self.margin_bytes..][..self.len_bytes]
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.marks[self.margin_bytes..][..self.len_bytes]
    }

    /// Crosses off 7 to 17, and clears what an earlier block left.
    fn copy_pattern(&mut self) {
        let mut pattern = PATTERN;
        pattern.rotate_left((self.first_byte % PATTERN_BYTES as u64) as usize);
        for piece in self.bytes_mut().chunks_mut(PATTERN_BYTES) {
            piece.copy_from_slice(&pattern[..piece.len()]);
        }
    }

    /// Crosses off `primes` tile by tile. The margins take what a period has outside the block, and
    /// the next tile what it has there, so no period is ever cut.
    fn cross_off_small(&mut self, primes: &[u32], stopped: &impl Fn() -> bool) -> Option<()> {
        let margin_bytes = self.margin_bytes;
        let bytes_into_period = |prime| (self.first_byte % u64::from(prime)) as u32;
        let first = |&prime| Small {
            prime,
            next_period: margin_bytes as u32 - bytes_into_period(prime),
        };
        let mut smalls: Vec<Small> = primes.iter().map(first).collect();
        for tile in (0..self.len_bytes).step_by(TILE_BYTES) {
            if stopped() {
                return None;
            }
            let end = margin_bytes + self.len_bytes.min(tile + TILE_BYTES);
            for small in &mut smalls {
                match small.prime % 30 {
                    1 => small.cross_off::<1>(&mut self.marks, end),
                    7 => small.cross_off::<7>(&mut self.marks, end),
                    11 => small.cross_off::<11>(&mut self.marks, end),
                    13 => small.cross_off::<13>(&mut self.marks, end),
                    17 => small.cross_off::<17>(&mut self.marks, end),
                    19 => small.cross_off::<19>(&mut self.marks, end),
                    23 => small.cross_off::<23>(&mut self.marks, end),
                    _ => small.cross_off::<29>(&mut self.marks, end),
                }
            }
        }
        Some(())
    }

    /// Crosses off each prime's multiples by a factor coprime to 6: these factors are 4 and 2 apart
    /// by turns. `BIT` leaves out the multiples of 5.
    fn cross_off_large(&mut self, primes: &[u32]) {
        let first_number = self.first_byte * 30;
        let bytes = self.bytes_mut();
        let end = bytes.len() * 30;
        for &prime in primes {
            let prime = u64::from(prime);
            let factor = first_number.div_ceil(prime);
            let (to_coprime, mut gap) = match factor % 6 {
                residue @ 0..=1 => (1 - residue, 4),
                residue => (5 - residue, 2),
            };
            let mut at = (prime * (factor + to_coprime) - first_number) as usize;
            while at < end {
                bytes[at / 30] |= BIT[at % 30];
                at += prime as usize * gap;
                gap = 6 - gap;
            }
        }
    }

    /// Crosses off the block's numbers below `from` and above `to`, which lie in its first and last
    /// byte.
    fn cross_off_outside(&mut self, from: u64, to: u64) {
        let first_number = self.first_byte * 30;
        let bytes = self.bytes_mut();
        let last = bytes.len() - 1;
        for (i, &residue) in RESIDUES.iter().enumerate() {
            if first_number + u64::from(residue) < from {
                bytes[0] |= 1 << i;
            }
            if first_number + last as u64 * 30 + u64::from(residue) > to {
                bytes[last] |= 1 << i;
            }
        }
    }

    /// Counts the numbers not crossed off.
    fn count_left(&self) -> u64 {
        let (words, rest) = self.bytes().as_chunks();
        let in_words: u32 = (words.iter())
            .map(|&w| u64::from_le_bytes(w).count_zeros())
            .sum();
        let in_rest: u32 = rest.iter().map(|b| b.count_zeros()).sum();
        u64::from(in_words + in_rest)
    }
}

impl Small {
    /// Crosses off the periods that begin before `end`. `R` is the prime modulo 30, known to the
    /// compiler so that the bits are constants.
    fn cross_off<const R: u32>(&mut self, marks: &mut [u8], end: usize) {
        let prime = self.prime as usize;
        let offsets = RESIDUES.map(|r| (self.prime / 30 * r + R * r / 30) as usize);
        let mut start = self.next_period as usize;
        while start < end {
            let period = &mut marks[start..start + prime];
            for i in 0..8 {
                period[offsets[i]] |= BIT[(R * RESIDUES[i] % 30) as usize];
            }
            start += prime;
        }
        self.next_period = start as u32;
    }
}

const fn bit() -> [u8; 30] {
    let mut bit = [0; 30];
    let mut i = 0;
    while i < 8 {
        bit[RESIDUES[i] as usize] = 1 << i;
        i += 1;
    }
    bit
}

const fn pattern() -> [u8; PATTERN_BYTES] {
    let mut pattern = [0; PATTERN_BYTES];
    let mut i = 3;
    while i < PRESIEVED.len() {
        let prime = PRESIEVED[i] as usize;
        let mut multiple = prime;
        while multiple < PATTERN_BYTES * 30 {
            pattern[multiple / 30] |= BIT[multiple % 30];
            multiple += 2 * prime;
        }
        i += 1;
    }
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    fn count(from: u64, to: u64) -> u64 {
        count_primes(from, to, || false).unwrap()
    }

    /// Counts by crossing off the multiples of every number from 2 to the root: slow, and with
    /// nothing in common with the code tested.
    fn plain_count(from: u64, to: u64) -> u64 {
        let mut prime: Vec<bool> = (from..=to).map(|n| n >= 2).collect();
        for d in (2..).take_while(|d| d * d <= to) {
            let first = from.div_ceil(d).max(2) * d;
            for n in (first..=to).step_by(d as usize) {
                prime[(n - from) as usize] = false;
            }
        }
        prime.iter().filter(|&&p| p).count() as u64
    }

    #[test]
    fn known_values_of_pi() {
        let known = [4, 25, 168, 1229, 9592, 78_498, 664_579, 5_761_455];
        for (exponent, pi) in (1..).zip(known) {
            assert_eq!(count(1, 10_u64.pow(exponent)), pi, "10^{exponent}");
        }
    }

    #[test]
    fn every_range_up_to_200() {
        let is_prime = |n: u64| n >= 2 && (2..n).all(|d| !n.is_multiple_of(d));
        for from in 0..=200 {
            assert_eq!(count(from + 1, from), 0);
            let mut expected = 0;
            for to in from..=200 {
                expected += u64::from(is_prime(to));
                assert_eq!(count(from, to), expected, "{from}..={to}");
            }
        }
    }

    #[test]
    fn windows_match_the_plain_count() {
        let e12 = 1_000_000_000_000;
        let mut windows = vec![
            (999_000_000, 1_000_000_000),
            (e12 + 1, e12 + 1_000_000),
            (TO_MAX - 1_000_000, TO_MAX),
            (TO_MAX, TO_MAX),
        ];
        // 32_749 and 32_771 are the primes on either side of SMALL_PRIME_MAX.
        for prime in [7, 17, 19, 23, 31, 32_749, 32_771, 999_983, 9_999_991_u64] {
            let square = prime.pow(2);
            windows.extend([
                (square - 40, square),
                (square, square),
                (square, square + 40),
            ]);
        }
        for (from, to) in windows {
            assert_eq!(count(from, to), plain_count(from, to), "{from}..={to}");
        }
    }

    #[test]
    fn ends_at_borders() {
        for border in [TILE_BYTES, BLOCK_BYTES].map(|bytes| bytes as u64 * 30) {
            let up_to_border = count(0, border);
            for end in border - 31..=border + 31 {
                let between = plain_count(border.min(end) + 1, border.max(end));
                let counted = count(0, end).abs_diff(up_to_border);
                assert_eq!(counted, between, "from {border} to {end}");
            }
        }
    }

    #[test]
    fn splits_add_up() {
        const LEN: u64 = 40_000_000;
        let mut random = 1_u64;
        for start in [0, 1_000_000_000_000] {
            let mut cuts = vec![start, start + LEN];
            for _ in 0..30 {
                random = random.wrapping_mul(6_364_136_223_846_793_005) + 1;
                cuts.push(start + (random >> 32) % LEN);
            }
            cuts.sort_unstable();
            let parts: u64 = cuts.windows(2).map(|cut| count(cut[0] + 1, cut[1])).sum();
            assert_eq!(parts, count(start + 1, start + LEN), "cut at {cuts:?}");
        }
    }

    #[test]
    fn stops_at_any_poll() {
        for (from, to) in [(1, 20_000_000), (TO_MAX - 1000, TO_MAX)] {
            let polls = Cell::new(0);
            let stop_at = |limit: u32| {
                polls.set(0);
                count_primes(from, to, || {
                    polls.set(polls.get() + 1);
                    polls.get() == limit
                })
            };
            assert!(stop_at(0).is_some());
            let all = polls.get();
            assert!(all >= 14, "{all} polls");
            for limit in [1, 2, all / 2, all] {
                assert_eq!(stop_at(limit), None);
                assert_eq!(polls.get(), limit, "polled again after the stop");
            }
        }
    }

    #[test]
    #[should_panic(expected = "above the largest end")]
    fn too_far() {
        count(1, TO_MAX + 1);
    }
}
