//! Reading a journal from front to back.
//!
//! What it is: a [`Reader`] of records that tells a torn tail from a damaged middle. What it is not: a
//! cutter; it changes nothing.
//!
//! Invariants: it holds one record at a time, and memory for what has arrived of it, not for what a
//! length claims. What it yields is a prefix of what was recorded, whatever has become of the bytes.

use std::fmt;
use std::io::{self, BufReader, Cursor, Read, Seek, SeekFrom};

use crate::journal::{FIXED_BYTES_MAX, MARK_BYTES, Mark, PREFIX_BYTES, Record, body_bytes};
use crate::limits::{PAYLOAD_BYTES_MAX, READ_BUFFER_BYTES};

/// Longest body that was ever written. `--payload-max` may have been another then.
const BODY_BYTES_MAX: usize = PAYLOAD_BYTES_MAX + FIXED_BYTES_MAX;

/// Why a journal cannot be read on.
#[derive(Debug)]
pub enum ReadError {
    /// The system's words.
    Failed(io::Error),
    /// What was durable once is no longer what was written.
    Damaged {
        /// Offset of the first record that is none.
        at: u64,
    },
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> ReadError {
        ReadError::Failed(error)
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReadError::Failed(error) => write!(f, "cannot be read: {error}"),
            ReadError::Damaged { at } => write!(
                f,
                "is damaged at byte {at}, and was sound beyond that: restore it from a copy, or \
                 remove it to start afresh"
            ),
        }
    }
}

/// Where a journal ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// Length up to the last whole record, in bytes.
    pub at: u64,
    /// What follows: a part of a batch that was never durable.
    pub torn_bytes: u64,
    /// The last whole record is a mark.
    pub is_marked: bool,
}

/// A reader of the records behind a journal's header.
#[derive(Debug)]
pub struct Reader<R> {
    source: BufReader<R>,
    /// The record that was read last.
    record: Vec<u8>,
    end: End,
}

impl<'a> Reader<Cursor<&'a [u8]>> {
    /// Reads records from memory; offsets are those in `bytes`.
    pub fn of_bytes(bytes: &'a [u8]) -> Self {
        Reader::new(Cursor::new(bytes), 0)
    }
}

impl<R: Read + Seek> Reader<R> {
    /// Reads from offset `at`, where `source` must stand.
    pub fn new(source: R, at: u64) -> Reader<R> {
        let end = End {
            at,
            torn_bytes: 0,
            is_marked: false,
        };
        Reader {
            source: BufReader::with_capacity(READ_BUFFER_BYTES, source),
            record: Vec::new(),
            end,
        }
    }

    /// The next record; `None` at the end, be it torn or not.
    ///
    /// # Errors
    /// See [`ReadError`]; nothing further can be read.
    pub fn read(&mut self) -> Result<Option<Record<'_>>, ReadError> {
        if self.end.torn_bytes > 0 {
            return Ok(None);
        }
        let at = self.end.at;
        let is_whole = read_record(&mut self.source, &mut self.record)?;
        if self.record.is_empty() {
            return Ok(None);
        }
        // If it is short, its CRC need not be asked.
        let record = match is_whole {
            true => Record::parse(&self.record, at),
            false => None,
        };
        if let Some(record) = &record {
            self.end.at += self.record.len() as u64;
            self.end.is_marked = matches!(record, Record::Mark(_));
        } else if has_mark_beyond(&mut self.source, at)? {
            return Err(ReadError::Damaged { at });
        } else {
            // Blocks of an unsynced batch reach the disk in any order, so whole records may follow.
            self.end.torn_bytes = self.source.seek(SeekFrom::End(0))?.saturating_sub(at);
        }
        Ok(record)
    }

    /// Where the journal ends, as far as was read.
    pub fn end(&self) -> End {
        self.end
    }
}

/// Reads the bytes of one record into `record`; none at the end. False if there are too few, or their
/// length is impossible.
fn read_record(source: &mut impl Read, record: &mut Vec<u8>) -> io::Result<bool> {
    record.clear();
    source
        .by_ref()
        .take(PREFIX_BYTES as u64)
        .read_to_end(record)?;
    let Some(prefix) = record.first_chunk() else {
        return Ok(false);
    };
    let body_bytes = body_bytes(prefix);
    if body_bytes > BODY_BYTES_MAX {
        return Ok(false);
    }
    let read_bytes = source.take(body_bytes as u64).read_to_end(record)?;
    Ok(read_bytes == body_bytes)
}

/// Whether some mark behind offset `at` says that what is there was durable.
fn has_mark_beyond(source: &mut (impl Read + Seek), at: u64) -> io::Result<bool> {
    source.seek(SeekFrom::Start(at))?;
    let mut window = Vec::new();
    let mut start = at;
    loop {
        let read_bytes = source
            .by_ref()
            .take(READ_BUFFER_BYTES as u64)
            .read_to_end(&mut window)?;
        let mut places = (start..).zip(window.windows(MARK_BYTES));
        if places.any(|(place, bytes)| Mark::parse(bytes, place).is_some_and(|m| m.durable > at)) {
            return Ok(true);
        }
        if read_bytes == 0 {
            return Ok(false);
        }
        // A mark may lie across two pieces.
        let done_bytes = window.len().saturating_sub(MARK_BYTES - 1);
        window.drain(..done_bytes);
        start += done_bytes as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Status;
    use crate::journal::{Outcome, encode};

    const HEADER_BYTES: u64 = 100;

    /// A journal of batches of so many records each, and the offsets of its records with the marks.
    struct Sample {
        bytes: Vec<u8>,
        /// Offset of each record that is an outcome.
        outcomes: Vec<u64>,
        /// Offset of the last batch.
        last_batch: u64,
    }

    fn sample(batches: &[u64], output: &[u8], is_ended: bool) -> Sample {
        let mut bytes = vec![0xaa; HEADER_BYTES as usize];
        let (mut outcomes, mut last_batch) = (Vec::new(), HEADER_BYTES);
        for &count in batches {
            last_batch = mark(&mut bytes);
            for _ in 0..count {
                let task = outcomes.len() as u64;
                outcomes.push(bytes.len() as u64);
                let outcome = Outcome {
                    task,
                    input_hash: task * 3,
                    status: Status::Done,
                    losses: 0,
                    queue_us: 1,
                    run_us: 2,
                    worker: "w:1",
                    output,
                };
                encode(&outcome, &mut bytes);
            }
        }
        if is_ended {
            last_batch = mark(&mut bytes);
        }
        Sample {
            bytes,
            outcomes,
            last_batch,
        }
    }

    fn mark(bytes: &mut Vec<u8>) -> u64 {
        let at = bytes.len() as u64;
        Mark { durable: at, at }.encode(bytes);
        at
    }

    /// The tasks read, and how it ended.
    fn read(bytes: &[u8]) -> (Vec<u64>, Result<End, u64>) {
        let mut source = Cursor::new(bytes);
        source.set_position(HEADER_BYTES);
        let mut reader = Reader::new(source, HEADER_BYTES);
        let mut tasks = Vec::new();
        loop {
            match reader.read() {
                Ok(Some(Record::Outcome(outcome))) => {
                    assert_eq!(outcome.input_hash, outcome.task * 3);
                    tasks.push(outcome.task);
                }
                Ok(Some(Record::Mark(_))) => {}
                Ok(None) => {
                    assert!(reader.read().unwrap().is_none(), "the end stays");
                    return (tasks, Ok(reader.end()));
                }
                Err(ReadError::Damaged { at }) => return (tasks, Err(at)),
                Err(ReadError::Failed(error)) => panic!("{error}"),
            }
        }
    }

    /// What is read is a prefix, up to the first record that is none.
    fn check(sample: &Sample, changed: &[u8], bad: u64) -> Result<End, u64> {
        let (tasks, end) = read(changed);
        let sound = sample.outcomes.iter().filter(|&&at| at < bad).count();
        assert_eq!(tasks, (0..sound as u64).collect::<Vec<_>>());
        end
    }

    /// Offsets of all records and of the end.
    fn edges(sample: &Sample) -> Vec<u64> {
        let mut edges = vec![HEADER_BYTES];
        while let Some(prefix) = sample.bytes[*edges.last().unwrap() as usize..].first_chunk() {
            edges.push(edges.last().unwrap() + (PREFIX_BYTES + body_bytes(prefix)) as u64);
        }
        edges
    }

    #[test]
    fn a_sound_journal_is_read_to_its_end() {
        for is_ended in [false, true] {
            let sample = sample(&[3, 1, 2], b"four", is_ended);
            let end = check(&sample, &sample.bytes, u64::MAX).unwrap();
            assert_eq!(end.at, sample.bytes.len() as u64);
            assert_eq!((end.torn_bytes, end.is_marked), (0, is_ended));
        }
    }

    #[test]
    fn a_cut_at_any_byte_is_a_torn_tail() {
        let sample = sample(&[3, 1, 2], b"four", true);
        let edges = edges(&sample);
        for cut in HEADER_BYTES..=sample.bytes.len() as u64 {
            let last_edge = *edges.iter().rfind(|&&edge| edge <= cut).unwrap();
            let end = check(&sample, &sample.bytes[..cut as usize], last_edge).unwrap();
            assert_eq!((end.at, end.torn_bytes), (last_edge, cut - last_edge));
        }
    }

    #[test]
    fn any_bit_changed_is_damage_if_it_was_durable_and_a_torn_tail_if_not() {
        for is_ended in [false, true] {
            let sample = sample(&[3, 1, 2], b"four", is_ended);
            let edges = edges(&sample);
            for bit in HEADER_BYTES as usize * 8..sample.bytes.len() * 8 {
                let mut changed = sample.bytes.clone();
                changed[bit / 8] ^= 1 << (bit % 8);
                let place = bit as u64 / 8;
                let bad = *edges.iter().rfind(|&&edge| edge <= place).unwrap();
                let end = check(&sample, &changed, bad);
                if bad < sample.last_batch {
                    assert_eq!(end, Err(bad), "bit {bit}");
                } else {
                    let torn_bytes = sample.bytes.len() as u64 - bad;
                    let end = end.unwrap();
                    assert_eq!((end.at, end.torn_bytes), (bad, torn_bytes), "bit {bit}");
                }
            }
        }
    }

    #[test]
    fn blocks_that_arrived_out_of_order_are_a_torn_tail() {
        let sample = sample(&[2, 4], b"four", false);
        let mut changed = sample.bytes.clone();
        let hole = sample.outcomes[3] as usize..sample.outcomes[4] as usize;
        changed[hole].fill(0);
        let end = check(&sample, &changed, sample.outcomes[3]).unwrap();
        assert_eq!(
            end.at, sample.outcomes[3],
            "task 4 and 5 are whole, yet lost"
        );
    }

    #[test]
    fn nothing_that_has_moved_is_believed() {
        // Bytes that are missing cannot be told from a batch that was never synced: the marks behind
        // them have moved, too.
        let sample = sample(&[2, 2], b"four", true);
        let hole = sample.outcomes[1] as usize..sample.outcomes[2] as usize - MARK_BYTES;
        let mut changed = sample.bytes.clone();
        changed.drain(hole.clone());
        let (tasks, end) = read(&changed);
        assert_eq!((tasks, end.unwrap().at), (vec![0], hole.start as u64));
    }

    #[test]
    fn a_mark_in_an_output_is_none() {
        let mut copy = Vec::new();
        let at = HEADER_BYTES + 1000;
        Mark { durable: at, at }.encode(&mut copy);
        let sample = sample(&[2, 2], &copy, false);
        let mut changed = sample.bytes.clone();
        changed[sample.outcomes[2] as usize + 9] ^= 1;
        let end = check(&sample, &changed, sample.outcomes[2]).unwrap();
        assert_eq!(end.at, sample.outcomes[2]);
    }

    #[test]
    fn a_mark_across_two_pieces_is_found() {
        for shift in 0..MARK_BYTES {
            let output = vec![7; READ_BUFFER_BYTES - shift];
            let sample = sample(&[1], &output, true);
            let mut changed = sample.bytes.clone();
            changed[sample.outcomes[0] as usize + 4] ^= 1;
            let end = check(&sample, &changed, sample.outcomes[0]);
            assert_eq!(end, Err(sample.outcomes[0]), "{shift}");
        }
    }

    /// Is asked for no more than a buffer at once.
    struct Pieces(Cursor<Vec<u8>>);

    impl Read for Pieces {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            assert!(buffer.len() <= READ_BUFFER_BYTES, "more than the buffer");
            self.0.read(buffer)
        }
    }

    impl Seek for Pieces {
        fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
            self.0.seek(to)
        }
    }

    #[test]
    fn no_memory_is_taken_for_a_length_that_is_only_claimed() {
        let claimed = (BODY_BYTES_MAX as u32).to_be_bytes();
        let bytes = [&claimed[..], &[0; 1000]].concat();
        let mut reader = Reader::new(Pieces(Cursor::new(bytes)), 0);
        assert!(reader.read().unwrap().is_none());
        assert_eq!(reader.end().torn_bytes, 1004);
        assert!(reader.record.capacity() < 1 << 16);
        let too_long = (BODY_BYTES_MAX as u32 + 1).to_be_bytes();
        let bytes = [&too_long[..], &[0; 1000]].concat();
        let mut reader = Reader::of_bytes(&bytes);
        assert!(reader.read().unwrap().is_none());
        assert_eq!(reader.record.len(), PREFIX_BYTES, "nothing of it was read");
    }

    #[test]
    fn a_long_journal_needs_memory_for_one_record() {
        let output = [5; 1000];
        let batches = [1000; 20];
        let sample = sample(&batches, &output, true);
        assert!(sample.bytes.len() > 20_000_000);
        let mut source = Cursor::new(&sample.bytes[..]);
        source.set_position(HEADER_BYTES);
        let mut reader = Reader::new(source, HEADER_BYTES);
        let mut outcomes = 0;
        while let Some(record) = reader.read().unwrap() {
            outcomes += u64::from(matches!(record, Record::Outcome(_)));
        }
        assert_eq!(outcomes, 20_000);
        assert!(reader.record.capacity() < 4096);
    }
}
