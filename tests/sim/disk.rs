//! The head's disk, with the journal on it.
//!
//! What it is: the bytes of one file, which of them are durable, and what a head's death leaves of the
//! others. It writes batches as the real recorder does, and is read by the real reader. What it is
//! not: a clock; the run says when a batch is durable.
//!
//! Invariant: what was durable once is never changed.

use std::io::Cursor;

use teamster::journal::{Header, Mark};
use teamster::kernel::Workload;
use teamster::recorder::{End, Reader};
use teamster::rng::SplitMix64;

use crate::job::{Job, Tasks};

/// A block that never reached the disk reads as so many zeros.
const BLOCK_BYTES: usize = 512;

pub struct Disk {
    file: Vec<u8>,
    /// Offset of the first record.
    records_at: usize,
    durable: usize,
    /// Records behind what is durable.
    batch: usize,
    /// Records that came while another batch was synced.
    waiting: Vec<u8>,
    waiting_count: usize,
}

impl Disk {
    pub fn new(tasks: &Tasks) -> Disk {
        let job = Job::new(tasks.clone(), 0, false);
        let file = Header::new(job.kernel(), &job.setup(), &job.describe()).encode();
        Disk {
            records_at: file.len(),
            durable: file.len(),
            file,
            batch: 0,
            waiting: Vec::new(),
            waiting_count: 0,
        }
    }

    pub fn is_busy(&self) -> bool {
        self.batch + self.waiting_count > 0
    }

    /// Takes whole records; says whether it had nothing to do before.
    pub fn append(&mut self, records: &[u8], count: usize) -> bool {
        let was_busy = self.is_busy();
        self.waiting.extend_from_slice(records);
        self.waiting_count += count;
        !was_busy
    }

    /// The batch under way is durable, and the next one begins. Returns how many records it had.
    pub fn sync(&mut self) -> usize {
        self.durable = self.file.len();
        let count = std::mem::take(&mut self.batch);
        self.write();
        count
    }

    /// The end of a run that ends itself: everything is durable, and marked.
    pub fn close(&mut self) {
        self.sync();
        self.sync();
        self.mark();
        self.durable = self.file.len();
    }

    /// The head dies: of what is not durable any part remains, and that may be damaged.
    pub fn crash(&mut self, rng: &mut SplitMix64) {
        if self.batch == 0 {
            self.write();
        }
        self.batch = 0;
        self.waiting.clear();
        self.waiting_count = 0;
        let torn = &mut self.file[self.durable..];
        let kept = rng.below(torn.len() as u64 + 1) as usize;
        if kept > 0 && rng.chance(25) {
            let at = rng.below(kept as u64) as usize;
            match rng.chance(50) {
                true => torn[at] ^= 1 << rng.below(8),
                false => torn[at..kept.min(at + BLOCK_BYTES)].fill(0),
            }
        }
        self.file.truncate(self.durable + kept);
    }

    pub fn reader(&self) -> Reader<Cursor<&[u8]>> {
        let at = self.records_at as u64;
        let mut source = Cursor::new(&self.file[..]);
        source.set_position(at);
        Reader::new(source, at)
    }

    /// A new head goes on behind what it has read, and makes it durable first. Returns how much it had
    /// been promised beyond that, in bytes.
    pub fn go_on(&mut self, end: End) -> usize {
        self.file.truncate(end.at as usize);
        let broken = self.durable.saturating_sub(self.file.len());
        self.durable = self.file.len();
        broken
    }

    fn write(&mut self) {
        if self.waiting_count > 0 {
            self.mark();
            self.file.append(&mut self.waiting);
            self.batch = std::mem::take(&mut self.waiting_count);
        }
    }

    fn mark(&mut self) {
        let (durable, at) = (self.durable as u64, self.file.len() as u64);
        Mark { durable, at }.encode(&mut self.file);
    }
}
