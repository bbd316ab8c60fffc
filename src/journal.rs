//! The journal: what its bytes mean. `docs/JOURNAL.md` is its page.
//!
//! What it is: the header that says whose journal it is, the records, their encoding and their strict
//! decoding. What it is not: a file or a thread (the recorder has them), or a judge of whether an
//! outcome fits the job; the head does that.
//!
//! Invariant: a record that was changed in any bit, or moved within the file, is none, but for one
//! chance in 2^32.

use byteorder::{BigEndian, ByteOrder};

use crate::frame::Status;
use crate::hash;

/// Version of this format, not of the release. It changes when an old reader would misread it.
pub const VERSION: u16 = 1;
/// Longest description in a header; a longer one is cut.
pub const DESCRIPTION_BYTES_MAX: usize = 4096;
/// What stands before every record's body: its length and its CRC.
pub const PREFIX_BYTES: usize = 8;
/// Length of a whole mark.
pub const MARK_BYTES: usize = PREFIX_BYTES + field::MARK_END;
/// Most bytes the body of an outcome may have beside its output.
pub const FIXED_BYTES_MAX: usize = field::WORKER.start + u8::MAX as usize;
/// Length of a header without its description.
pub const HEADER_FIXED_BYTES: usize = HEADER_START_BYTES + CRC_BYTES;
/// Length of what stands before it.
pub const HEADER_START_BYTES: usize = field::DESCRIPTION.start;

/// The line end makes `cat` of a journal begin with a line of its own.
const MAGIC: [u8; 6] = *b"TMlog\n";
/// What is said of a file, behind its name.
const NO_JOURNAL: &str = "is not a journal";
const DAMAGED: &str = "has a damaged header: restore it from a copy, or remove it";
const CRC_BYTES: usize = 4;
const KIND_OUTCOME: u8 = 1;
/// First bytes of a mark's body, its kind among them; what is searched for when a journal is damaged.
const MARK: [u8; 8] = *b"\x02TMmark\n";
/// How a task may end for good, with the numbers of the wire.
const STATUSES: &[(Status, u8)] = &[
    (Status::Done, 0),
    (Status::Failed, 1),
    (Status::TimedOut, 3),
];

/// Field positions, in the header, in what stands before a body, and in the bodies.
mod field {
    use std::ops::{Range, RangeFrom};

    pub const MAGIC: Range<usize> = 0..6;
    pub const VERSION: Range<usize> = 6..8;
    pub const FINGERPRINT: Range<usize> = 8..16;
    pub const DESCRIPTION_LEN: Range<usize> = 16..18;
    pub const DESCRIPTION: RangeFrom<usize> = 18..;

    pub const LENGTH: Range<usize> = 0..4;
    pub const CRC: Range<usize> = 4..8;

    pub const KIND: usize = 0;
    pub const STATUS: usize = 1;
    pub const TASK: Range<usize> = 2..10;
    pub const INPUT_HASH: Range<usize> = 10..18;
    pub const LOSSES: Range<usize> = 18..22;
    pub const QUEUE_US: Range<usize> = 22..26;
    pub const RUN_US: Range<usize> = 26..30;
    pub const WORKER_LEN: usize = 30;
    pub const WORKER: RangeFrom<usize> = 31..;

    pub const MARK: Range<usize> = 0..8;
    pub const DURABLE: Range<usize> = 8..16;
    pub const AT: Range<usize> = 16..24;
    pub const MARK_END: usize = 24;
}

/// Runs the byte examples of the page, so that it cannot drift from the code.
#[cfg(doctest)]
#[doc = include_str!("../docs/JOURNAL.md")]
pub struct JournalPage;

/// Whose journal it is: equal for equal jobs, whatever the time and the workers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Of kernel, set-up and the whole description.
    pub fingerprint: u64,
    /// The job in words, at most [`DESCRIPTION_BYTES_MAX`] bytes.
    pub description: String,
}

impl Header {
    /// The header of the job that runs `kernel` with `setup` and calls itself `description`.
    pub fn new(kernel: &str, setup: &[u8], description: &str) -> Header {
        let parts = [kernel.as_bytes(), setup, description.as_bytes()];
        let end = description.floor_char_boundary(DESCRIPTION_BYTES_MAX);
        Header {
            fingerprint: parts.into_iter().fold(0, hash::bytes),
            description: description[..end].to_owned(),
        }
    }

    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![0; HEADER_START_BYTES];
        bytes[field::MAGIC].copy_from_slice(&MAGIC);
        BigEndian::write_u16(&mut bytes[field::VERSION], VERSION);
        BigEndian::write_u64(&mut bytes[field::FINGERPRINT], self.fingerprint);
        let len = self.description.len() as u16;
        BigEndian::write_u16(&mut bytes[field::DESCRIPTION_LEN], len);
        bytes.extend_from_slice(self.description.as_bytes());
        let crc = crc32fast::hash(&bytes);
        bytes.extend_from_slice(&crc.to_be_bytes());
        bytes
    }

    /// Length of the whole header that begins with `start`, its bytes before the description.
    ///
    /// # Errors
    /// Why it is none, or none that this release reads.
    pub fn encoded_bytes(start: &[u8; HEADER_START_BYTES]) -> Result<usize, String> {
        if start[field::MAGIC] != MAGIC {
            return Err(NO_JOURNAL.into());
        }
        let version = BigEndian::read_u16(&start[field::VERSION]);
        if version != VERSION {
            return Err(format!(
                "has version {version} of the format, this release reads {VERSION}"
            ));
        }
        match usize::from(BigEndian::read_u16(&start[field::DESCRIPTION_LEN])) {
            len if len <= DESCRIPTION_BYTES_MAX => Ok(HEADER_FIXED_BYTES + len),
            _ => Err(DAMAGED.into()),
        }
    }

    /// Reads a whole header.
    ///
    /// # Errors
    /// Why it is none, or none that this release reads.
    pub fn parse(bytes: &[u8]) -> Result<Header, String> {
        let start = bytes.first_chunk().ok_or(NO_JOURNAL)?;
        if Header::encoded_bytes(start)? != bytes.len() {
            return Err(DAMAGED.into());
        }
        let (body, crc) = bytes.split_at(bytes.len() - CRC_BYTES);
        let description = str::from_utf8(&body[field::DESCRIPTION]);
        match description {
            Ok(description) if crc32fast::hash(body) == BigEndian::read_u32(crc) => Ok(Header {
                fingerprint: BigEndian::read_u64(&body[field::FINGERPRINT]),
                description: description.to_owned(),
            }),
            _ => Err(DAMAGED.into()),
        }
    }
}

/// How one task ended, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome<'a> {
    /// The task's number.
    pub task: u64,
    /// Of its input, by [`input_hash`]: another input under the same number is noticed.
    pub input_hash: u64,
    /// How it ended; never `Returned`.
    pub status: Status,
    /// How many attempts were lost while they ran.
    pub losses: u32,
    /// Time between sending the attempt that counted and its answer, less `run_us`; in microseconds.
    pub queue_us: u32,
    /// How long the kernel ran, in microseconds.
    pub run_us: u32,
    /// The worker whose answer counted; of a name longer than 255 bytes the beginning.
    pub worker: &'a str,
    /// The output, or the error's text.
    pub output: &'a [u8],
}

/// How far the file was durable when this was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Every byte before this offset is synced.
    pub durable: u64,
    /// The mark's own offset, so that a copy of it in an output is none.
    pub at: u64,
}

/// One record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record<'a> {
    /// A task has ended.
    Outcome(Outcome<'a>),
    /// Here a batch begins, or the run ended.
    Mark(Mark),
}

/// The hash by which a task's input is known again.
pub fn input_hash(input: &[u8]) -> u64 {
    hash::bytes(0, input)
}

/// Appends one whole record to `out`.
///
/// # Panics
/// If the attempt was returned, which is no outcome, or an output is near 4 GiB: ours to prevent.
pub fn encode(outcome: &Outcome<'_>, out: &mut Vec<u8>) {
    let status = STATUSES
        .iter()
        .find(|(status, _)| *status == outcome.status);
    let end = outcome.worker.floor_char_boundary(u8::MAX.into());
    let worker = &outcome.worker[..end];
    let mut fixed = [0; field::WORKER.start];
    fixed[field::KIND] = KIND_OUTCOME;
    fixed[field::STATUS] = status.expect("a returned attempt is no outcome").1;
    BigEndian::write_u64(&mut fixed[field::TASK], outcome.task);
    BigEndian::write_u64(&mut fixed[field::INPUT_HASH], outcome.input_hash);
    BigEndian::write_u32(&mut fixed[field::LOSSES], outcome.losses);
    BigEndian::write_u32(&mut fixed[field::QUEUE_US], outcome.queue_us);
    BigEndian::write_u32(&mut fixed[field::RUN_US], outcome.run_us);
    fixed[field::WORKER_LEN] = worker.len() as u8;
    seal(&[&fixed, worker.as_bytes(), outcome.output], out);
}

impl Mark {
    /// Appends it to `out`, as one whole record.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut body = [0; field::MARK_END];
        body[field::MARK].copy_from_slice(&MARK);
        BigEndian::write_u64(&mut body[field::DURABLE], self.durable);
        BigEndian::write_u64(&mut body[field::AT], self.at);
        seal(&[&body], out);
    }

    /// The mark that these bytes at offset `at` are, if they are one.
    pub fn parse(bytes: &[u8], at: u64) -> Option<Mark> {
        // First what is cheap: every place of a damaged file is tried.
        if !bytes.get(PREFIX_BYTES..)?.starts_with(&MARK) {
            return None;
        }
        match Record::parse(bytes, at)? {
            Record::Mark(mark) => Some(mark),
            Record::Outcome(_) => None,
        }
    }
}

impl<'a> Record<'a> {
    /// Reads a whole record, which stands at offset `at`; `None` if it is none, whatever the reason.
    pub fn parse(bytes: &'a [u8], at: u64) -> Option<Record<'a>> {
        let (prefix, body) = bytes.split_first_chunk()?;
        let crc = crc(&prefix[field::LENGTH], body);
        if body_bytes(prefix) != body.len() || crc != BigEndian::read_u32(&prefix[field::CRC]) {
            return None;
        }
        if body.starts_with(&MARK) && body.len() == field::MARK_END {
            let mark = Mark {
                durable: BigEndian::read_u64(&body[field::DURABLE]),
                at: BigEndian::read_u64(&body[field::AT]),
            };
            return (mark.at == at && mark.durable <= at).then_some(Record::Mark(mark));
        }
        if body.len() < field::WORKER.start || body[field::KIND] != KIND_OUTCOME {
            return None;
        }
        let status = STATUSES
            .iter()
            .find(|(_, byte)| *byte == body[field::STATUS]);
        let (worker, output) =
            body[field::WORKER].split_at_checked(body[field::WORKER_LEN].into())?;
        Some(Record::Outcome(Outcome {
            task: BigEndian::read_u64(&body[field::TASK]),
            input_hash: BigEndian::read_u64(&body[field::INPUT_HASH]),
            status: status?.0,
            losses: BigEndian::read_u32(&body[field::LOSSES]),
            queue_us: BigEndian::read_u32(&body[field::QUEUE_US]),
            run_us: BigEndian::read_u32(&body[field::RUN_US]),
            worker: std::str::from_utf8(worker).ok()?,
            output,
        }))
    }
}

/// Length of the body that follows `prefix`, as claimed.
pub fn body_bytes(prefix: &[u8; PREFIX_BYTES]) -> usize {
    BigEndian::read_u32(&prefix[field::LENGTH]) as usize
}

/// Appends a record whose body is these parts.
fn seal(body: &[&[u8]], out: &mut Vec<u8>) {
    let bytes = body.iter().map(|part| part.len()).sum::<usize>();
    let length = u32::try_from(bytes).expect("a body is below 4 GiB");
    let start = out.len();
    out.reserve(PREFIX_BYTES + bytes);
    out.resize(start + PREFIX_BYTES, 0);
    body.iter().for_each(|part| out.extend_from_slice(part));
    // Over the body as a whole: a CRC of short parts costs more.
    let (prefix, body) = out[start..].split_at_mut(PREFIX_BYTES);
    BigEndian::write_u32(&mut prefix[field::LENGTH], length);
    let crc = crc(&prefix[field::LENGTH], body);
    BigEndian::write_u32(&mut prefix[field::CRC], crc);
}

/// Over the length, too: a damaged one would otherwise be believed whenever what follows fits it.
fn crc(length: &[u8], body: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(length);
    crc.update(body);
    crc.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTCOME: Outcome<'static> = Outcome {
        task: 7,
        input_hash: 0x0123_4567_89ab_cdef,
        status: Status::Done,
        losses: 1,
        queue_us: 250,
        run_us: 1_000_000,
        worker: "10.0.0.11:5000",
        output: &[0, 49],
    };

    fn encoded(outcome: &Outcome<'_>) -> Vec<u8> {
        let mut bytes = Vec::new();
        encode(outcome, &mut bytes);
        bytes
    }

    #[test]
    fn an_outcome_comes_back_whole() {
        let failed = Outcome {
            status: Status::Failed,
            worker: "",
            output: b"no luck",
            ..OUTCOME
        };
        for outcome in [OUTCOME, failed] {
            let bytes = encoded(&outcome);
            assert_eq!(Record::parse(&bytes, 99), Some(Record::Outcome(outcome)));
        }
    }

    #[test]
    fn a_long_name_is_cut_between_letters() {
        let name = format!("{}é", "w".repeat(254));
        let bytes = encoded(&Outcome {
            worker: &name,
            ..OUTCOME
        });
        let Some(Record::Outcome(outcome)) = Record::parse(&bytes, 0) else {
            panic!("it is whole")
        };
        assert_eq!(outcome.worker, &name[..254]);
        assert_eq!(outcome.output, OUTCOME.output);
    }

    #[test]
    fn a_record_with_any_bit_changed_is_none() {
        let mut mark = Vec::new();
        let place = Mark { durable: 5, at: 9 };
        place.encode(&mut mark);
        assert_eq!(Record::parse(&mark, 9), Some(Record::Mark(place)));
        for bytes in [mark, encoded(&OUTCOME)] {
            for bit in 0..bytes.len() * 8 {
                let mut other = bytes.clone();
                other[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(Record::parse(&other, 9), None, "bit {bit}");
            }
        }
    }

    #[test]
    fn what_no_writer_writes_is_no_record_though_its_crc_is_right() {
        let sealed = |body: &[u8]| {
            let mut bytes = Vec::new();
            seal(&[body], &mut bytes);
            bytes
        };
        let good = encoded(&OUTCOME)[PREFIX_BYTES..].to_vec();
        assert!(Record::parse(&sealed(&good), 0).is_some());
        let changed = |at: usize, to: u8| {
            let mut body = good.clone();
            body[at] = to;
            body
        };
        for body in [
            vec![],
            good[..field::WORKER_LEN].to_vec(),
            good[..field::WORKER.start + 3].to_vec(),
            changed(field::KIND, 3),
            changed(field::STATUS, 2),
            changed(field::WORKER.start, 0xff),
        ] {
            assert_eq!(Record::parse(&sealed(&body), 0), None, "{body:?}");
        }
    }

    #[test]
    fn a_mark_counts_only_where_it_was_written() {
        let mut bytes = Vec::new();
        Mark { durable: 5, at: 9 }.encode(&mut bytes);
        assert_eq!(bytes.len(), MARK_BYTES);
        assert_eq!(Mark::parse(&bytes, 9), Some(Mark { durable: 5, at: 9 }));
        assert_eq!(Mark::parse(&bytes, 10), None, "a copy");
        bytes.clear();
        Mark { durable: 10, at: 9 }.encode(&mut bytes);
        assert_eq!(Mark::parse(&bytes, 9), None, "it knows the future");
        assert_eq!(Mark::parse(&bytes[..MARK_BYTES - 1], 9), None);
        assert_eq!(Mark::parse(&encoded(&OUTCOME), 9), None);
    }

    #[test]
    fn a_header_tells_jobs_apart() {
        let header = Header::new("square", &[0, 0, 0, 5], "square --count 10, in input order");
        for other in [
            Header::new("squares", &[0, 0, 0, 5], &header.description),
            Header::new("square", &[0, 0, 0, 6], &header.description),
            Header::new("square", &[0, 0, 0, 5], "square --count 11, in input order"),
            Header::new("squar", b"e\0\0\0\x05", &header.description),
        ] {
            assert_ne!(header.fingerprint, other.fingerprint);
        }
        let bytes = header.encode();
        let start = bytes.first_chunk().unwrap();
        assert_eq!(Header::encoded_bytes(start), Ok(bytes.len()));
        assert_eq!(Header::parse(&bytes), Ok(header));
    }

    #[test]
    fn a_long_description_is_cut_and_counts_whole() {
        let long = "é".repeat(3000);
        let header = Header::new("map", &[], &long);
        assert_eq!(header.description.len(), DESCRIPTION_BYTES_MAX);
        let longer = Header::new("map", &[], &format!("{long}!"));
        assert_eq!(header.description, longer.description);
        assert_ne!(header.fingerprint, longer.fingerprint);
        assert_eq!(Header::parse(&header.encode()), Ok(header));
    }
}
