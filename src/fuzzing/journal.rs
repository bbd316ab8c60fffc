//! What must hold of a journal for any bytes at all.
//!
//! What it is: the body of the fuzz target `journal`: any bytes, and a sound journal to which things
//! have happened that happen to disks. What it is not: a forger; whoever computes CRCs may write a
//! journal of his own.
//!
//! Invariant: what is read is a prefix of what was written.

use crate::frame::Status;
use crate::journal::{Header, Mark, Outcome, Record, encode};
use crate::recorder::{End, ReadError, Reader};
use crate::rng::SplitMix64;

/// Changed bits that a CRC-32 is sure to notice in records as short as these.
const FLIPS_MAX: usize = 3;

/// Any bytes as a header and as records; and, taken as a seed and a list of accidents, what they make
/// of a sound journal.
pub fn journal(bytes: &[u8]) {
    if let Ok(header) = Header::parse(bytes) {
        assert_eq!(header.encode(), bytes, "one encoding each");
    }
    let (records, end) = read(bytes);
    if let Ok(End { at, torn_bytes, .. }) = end {
        assert_eq!(at + torn_bytes, bytes.len() as u64);
    }
    assert!(records.iter().map(Vec::len).sum::<usize>() <= bytes.len());

    let Some((seed, accidents)) = bytes.split_first_chunk() else {
        return;
    };
    let (mut disk, written) = write(u64::from_be_bytes(*seed));
    let sound = disk.clone();
    happen(accidents, &mut disk);
    let (read, end) = read(&disk);
    assert!(written.starts_with(&read), "a prefix");
    if disk == sound {
        assert_eq!(read.len(), written.len());
        assert_eq!(end.expect("it is sound").torn_bytes, 0);
    }
}

/// The outcomes that a reader gives, encoded again, and how it ends.
fn read(bytes: &[u8]) -> (Vec<Vec<u8>>, Result<End, ReadError>) {
    let mut reader = Reader::of_bytes(bytes);
    let mut records = Vec::new();
    loop {
        match reader.read() {
            Ok(Some(Record::Outcome(outcome))) => {
                let mut record = Vec::new();
                encode(&outcome, &mut record);
                records.push(record);
            }
            Ok(Some(Record::Mark(mark))) => assert!(mark.durable <= mark.at),
            Ok(None) => return (records, Ok(reader.end())),
            Err(error) => return (records, Err(error)),
        }
    }
}

/// A journal without header, and its outcomes.
fn write(seed: u64) -> (Vec<u8>, Vec<Vec<u8>>) {
    let mut rng = SplitMix64::new(seed);
    let (mut disk, mut written) = (Vec::new(), Vec::new());
    for _ in 0..rng.below(4) {
        mark(&mut disk);
        for _ in 0..rng.below(6) {
            let mut output = vec![0; rng.below(40) as usize];
            output.fill_with(|| rng.next() as u8);
            if rng.chance(10) {
                let at = rng.below(500);
                Mark { durable: at, at }.encode(&mut output);
            }
            let outcome = Outcome {
                task: written.len() as u64,
                input_hash: rng.next(),
                status: [Status::Done, Status::Failed][rng.below(2) as usize],
                losses: 0,
                queue_us: rng.next() as u32,
                run_us: rng.next() as u32,
                worker: ["", "w", "10.0.0.11:5000"][rng.below(3) as usize],
                output: &output,
            };
            let mut record = Vec::new();
            encode(&outcome, &mut record);
            disk.extend_from_slice(&record);
            written.push(record);
        }
    }
    if rng.chance(50) {
        mark(&mut disk);
    }
    (disk, written)
}

fn mark(disk: &mut Vec<u8>) {
    let at = disk.len() as u64;
    Mark { durable: at, at }.encode(disk);
}

/// Each accident is three bytes: what, and where.
fn happen(accidents: &[u8], disk: &mut Vec<u8>) {
    let mut flips = 0;
    for accident in accidents.chunks_exact(3) {
        let place = usize::from(u16::from_be_bytes([accident[1], accident[2]]));
        if disk.is_empty() {
            return;
        }
        match accident[0] % 4 {
            0 => disk.truncate(place),
            1 if flips < FLIPS_MAX => {
                flips += 1;
                let place = place % (disk.len() * 8);
                disk[place / 8] ^= 1 << (place % 8);
            }
            // A block that never arrived.
            2 => {
                let start = place % disk.len();
                let end = disk.len().min(start + usize::from(accident[0]));
                disk[start..end].fill(0);
            }
            // The file was longer already than what had arrived.
            _ => disk.resize(disk.len() + place % 512, 0),
        }
    }
}
