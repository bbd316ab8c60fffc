//! Lines out of pieces.
//!
//! What it is: [`Lines`], which is fed pieces of an input, cut anywhere, and gives the lines
//! between their ends. What it is not: a decoder of text; a line is any bytes.
//!
//! Invariant: it never holds more than one piece and one line of the length that is allowed.

use crate::kernel::Next;

/// What has been fed and not been given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lines {
    /// What stands at the end of a line.
    end: u8,
    /// Of a longer line only this and one byte more are kept: nobody takes it.
    line_bytes_max: usize,
    buffer: Vec<u8>,
    /// Where the next line begins.
    start: usize,
    /// No end of it stands before this.
    searched: usize,
    /// The rest of a long line, up to its end, is dropped as it comes.
    is_cut: bool,
    is_over: bool,
}

impl Lines {
    /// None yet. Each ends with the byte `end`; the last need not.
    pub fn new(end: u8, line_bytes_max: usize) -> Lines {
        Lines {
            end,
            line_bytes_max,
            buffer: Vec::new(),
            start: 0,
            searched: 0,
            is_cut: false,
            is_over: false,
        }
    }

    /// Takes the next piece; an empty one is the end.
    pub fn feed(&mut self, mut piece: &[u8]) {
        self.is_over = piece.is_empty();
        if self.is_cut {
            let end = piece.iter().position(|&byte| byte == self.end);
            piece = &piece[end.unwrap_or(piece.len())..];
            self.is_cut = end.is_none();
        }
        self.buffer.drain(..self.start);
        self.searched -= self.start;
        self.start = 0;
        self.buffer.extend_from_slice(piece);
    }

    /// Appends the next line, without its end, to `line`.
    pub fn next(&mut self, line: &mut Vec<u8>) -> Next {
        let ahead = &self.buffer[self.searched..];
        let end = match ahead.iter().position(|&byte| byte == self.end) {
            Some(at) => self.searched + at,
            None if self.is_over && self.start == self.buffer.len() => return Next::End,
            None if self.is_over => self.buffer.len(),
            None => {
                let cut = self.start + self.line_bytes_max + 1;
                if self.buffer.len() > cut {
                    self.buffer.truncate(cut);
                    self.is_cut = true;
                }
                self.searched = self.buffer.len();
                return Next::Later;
            }
        };
        let whole = &self.buffer[self.start..end];
        line.extend_from_slice(&whole[..whole.len().min(self.line_bytes_max + 1)]);
        self.start = self.buffer.len().min(end + 1);
        self.searched = self.start;
        Next::Task
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::SplitMix64;

    const LINE_BYTES_MAX: usize = 10;

    /// All lines of `input`, cut in pieces as `rng` will.
    fn lines(input: &[u8], end: u8, rng: &mut SplitMix64) -> Vec<Vec<u8>> {
        let mut lines = Lines::new(end, LINE_BYTES_MAX);
        let (mut rest, mut all) = (input, Vec::new());
        loop {
            let mut line = Vec::new();
            match lines.next(&mut line) {
                Next::Task => all.push(line),
                Next::Later => {
                    let count = rest.len().min(1 + rng.below(20) as usize);
                    let (piece, after) = rest.split_at(count);
                    lines.feed(piece);
                    rest = after;
                    assert!(lines.buffer.len() <= 20 + LINE_BYTES_MAX + 1);
                }
                Next::End => return all,
            }
        }
    }

    #[test]
    fn the_last_line_need_not_end_and_an_empty_one_is_one() {
        let rng = &mut SplitMix64::new(1);
        for (input, expected) in [
            (&b""[..], &[][..]),
            (b"a", &[&b"a"[..]]),
            (b"a\n", &[b"a"]),
            (b"\n", &[b""]),
            (b"a\n\nb", &[b"a", b"", b"b"]),
            (b"\xff\r\0\n", &[b"\xff\r\0"]),
        ] {
            assert_eq!(lines(input, b'\n', rng), expected);
        }
        assert_eq!(lines(b"a\nb\0\0c", 0, rng), [&b"a\nb"[..], b"", b"c"]);
    }

    #[test]
    fn however_it_is_cut_the_lines_are_the_same_and_long_ones_are_not_kept() {
        let rng = &mut SplitMix64::new(2);
        for _ in 0..2_000 {
            let mut input = vec![b'a'; rng.below(100) as usize];
            for byte in &mut input {
                if rng.chance(8) {
                    *byte = b'\n';
                }
            }
            let mut expected: Vec<&[u8]> = input.split(|&byte| byte == b'\n').collect();
            expected.pop_if(|last| last.is_empty());
            for line in &mut expected {
                *line = &line[..line.len().min(LINE_BYTES_MAX + 1)];
            }
            assert_eq!(lines(&input, b'\n', rng), expected);
        }
    }
}
