//! The thread that makes records durable.
//!
//! What it is: a [`Recorder`], which takes records from the reactor and reports once they are synced.
//! Records that come while a batch is synced are the next batch (group commit). What it is not: a
//! bound of its own; the head hands over no more than its window.
//!
//! Invariants: a batch follows a mark, which says that everything before it is durable. After a failed
//! write or sync nothing further is written or reported: the system may have dropped the pages, and a
//! second try would succeed without them.

use std::fs::File;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use crate::journal::Mark;
use crate::limits::SYNC_BYTES;
use crate::mailbox::{Mailbox, Notice};
use crate::recorder::End;
use crate::time::Duration;

/// What a journal is written to.
pub trait Storage: Write {
    /// Makes what was written durable.
    ///
    /// # Errors
    /// If that is not sure; then it never will be.
    fn sync(&mut self) -> io::Result<()>;
}

impl Storage for File {
    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }
}

/// What a run has added to its journal.
#[derive(Debug)]
pub struct Recorded {
    /// Outcomes that are durable.
    pub count: u64,
    /// Whether that is all, or what kept it from being so.
    pub result: io::Result<()>,
}

/// The way to the thread.
#[derive(Debug)]
pub struct Recorder {
    queue: Arc<Queue>,
    thread: JoinHandle<Recorded>,
}

/// Records on their way to the thread.
#[derive(Debug, Default)]
struct Queue {
    pending: Mutex<Pending>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Pending {
    records: Vec<u8>,
    count: usize,
    /// When the first of them came; `None` while there are none.
    since: Option<Instant>,
    is_closed: bool,
}

impl Recorder {
    /// Starts a thread that writes to `storage`, of which everything is durable and which stands at
    /// `end`. A batch waits for at most `sync_after`. `what` begins the words of a failure.
    ///
    /// # Errors
    /// If the system refuses a thread.
    pub fn start(
        mut storage: impl Storage + Send + 'static,
        end: End,
        sync_after: Duration,
        what: String,
        mailbox: Mailbox,
    ) -> io::Result<Recorder> {
        let queue = Arc::new(Queue::default());
        let shared = Arc::clone(&queue);
        let work = move || {
            let mut count = 0;
            let report = |batch| {
                count += batch as u64;
                mailbox.post(Notice::Recorded { count: batch });
            };
            let result = commit(&mut storage, end, sync_after, &shared, report);
            if let Err(error) = &result {
                let reason = format!("{what}: {error}");
                mailbox.post(Notice::JournalFailed { reason });
            }
            Recorded { count, result }
        };
        let thread = thread::Builder::new().name("journal".into()).spawn(work)?;
        Ok(Recorder { queue, thread })
    }

    /// Hands over `count` whole records and leaves `records` empty; answered by `Recorded` notices, or
    /// one `JournalFailed`.
    pub fn append(&self, records: &mut Vec<u8>, count: usize) {
        self.queue.append(records, count);
    }

    /// Makes durable what is on its way, and marks the end.
    pub fn finish(self) -> Recorded {
        self.queue.close();
        let ended = self.thread.join();
        ended.expect("the journal's thread does not panic")
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn append(&self, records: &mut Vec<u8>, count: usize) {
        let mut pending = self.lock();
        pending.count += count;
        let is_first = pending.since.is_none();
        if is_first {
            pending.since = Some(Instant::now());
            std::mem::swap(&mut pending.records, records);
        } else {
            pending.records.append(records);
        }
        // Between the first record and enough of them the thread's own deadline wakes it.
        if is_first || pending.records.len() >= SYNC_BYTES {
            self.changed.notify_one();
        }
    }

    fn close(&self) {
        self.lock().is_closed = true;
        self.changed.notify_one();
    }

    /// Waits for a batch that is due and swaps it into `batch`; `None` once nothing further comes.
    fn take(&self, batch: &mut Vec<u8>, sync_after: Duration) -> Option<usize> {
        let mut pending = self.lock();
        while !pending.is_closed && pending.records.len() < SYNC_BYTES {
            let waited = pending.since.map(|since| since.elapsed());
            pending = match waited {
                None => (self.changed.wait(pending)).unwrap_or_else(PoisonError::into_inner),
                Some(waited) if waited >= sync_after => break,
                Some(waited) => {
                    let wait = self.changed.wait_timeout(pending, sync_after - waited);
                    wait.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        pending.since.take()?;
        std::mem::swap(batch, &mut pending.records);
        Some(std::mem::take(&mut pending.count))
    }
}

/// Writes batch after batch until the queue is closed, and reports the size of each.
fn commit(
    storage: &mut impl Storage,
    end: End,
    sync_after: Duration,
    queue: &Queue,
    mut report: impl FnMut(usize),
) -> io::Result<()> {
    let (mut at, mut is_marked) = (end.at, end.is_marked);
    let mut batch = Vec::new();
    while let Some(count) = queue.take(&mut batch, sync_after) {
        at += write(storage, at, &batch)?;
        is_marked = false;
        batch.clear();
        report(count);
    }
    // Damage to the last batch can be told from a torn tail only by a mark behind it.
    if !is_marked {
        write(storage, at, &[])?;
    }
    Ok(())
}

/// Writes a mark and `batch` behind the durable end `at`; returns how many bytes are durable more.
fn write(storage: &mut impl Storage, at: u64, batch: &[u8]) -> io::Result<u64> {
    let mut mark = Vec::new();
    Mark { durable: at, at }.encode(&mut mark);
    storage.write_all(&mark)?;
    storage.write_all(batch)?;
    storage.sync()?;
    Ok((mark.len() + batch.len()) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Status;
    use crate::journal::{Outcome, Record, encode};
    use crate::recorder::Reader;
    use std::sync::mpsc::{self, Receiver, Sender};

    /// Where the journal begins.
    const START: End = End {
        at: 0,
        torn_bytes: 0,
        is_marked: false,
    };
    const NEVER: Duration = Duration::from_secs(3600);

    /// A disk in memory whose syncs wait to be let through, or are refused.
    struct Disk {
        bytes: Vec<u8>,
        /// How much it holds.
        room: usize,
        /// Bytes at the beginning of each sync.
        asked: Sender<usize>,
        answers: Receiver<io::Result<()>>,
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let count = bytes.len().min(self.room - self.bytes.len());
            self.bytes.extend_from_slice(&bytes[..count]);
            match count {
                0 if !bytes.is_empty() => Err(io::ErrorKind::StorageFull.into()),
                count => Ok(count),
            }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Storage for Disk {
        fn sync(&mut self) -> io::Result<()> {
            self.asked.send(self.bytes.len()).unwrap();
            self.answers.recv().unwrap()
        }
    }

    /// A thread that commits to a disk.
    struct Bench {
        queue: Arc<Queue>,
        asked: Receiver<usize>,
        answers: Sender<io::Result<()>>,
        reports: Receiver<usize>,
        thread: JoinHandle<(Vec<u8>, io::Result<()>)>,
    }

    fn bench_of(room: usize, sync_after: Duration, end: End) -> Bench {
        let (to_asked, asked) = mpsc::channel();
        let (answers, from_answers) = mpsc::channel();
        let (report, reports) = mpsc::channel();
        let mut disk = Disk {
            bytes: Vec::new(),
            room,
            asked: to_asked,
            answers: from_answers,
        };
        let queue = Arc::new(Queue::default());
        let shared = Arc::clone(&queue);
        let thread = thread::spawn(move || {
            let report = |count| report.send(count).unwrap();
            let result = commit(&mut disk, end, sync_after, &shared, report);
            (disk.bytes, result)
        });
        Bench {
            queue,
            asked,
            answers,
            reports,
            thread,
        }
    }

    impl Bench {
        fn append(&self, tasks: std::ops::Range<u64>, output: &[u8]) {
            let mut records = Vec::new();
            let count = tasks.clone().count();
            for task in tasks {
                let outcome = Outcome {
                    task,
                    input_hash: 0,
                    status: Status::Done,
                    losses: 0,
                    queue_us: 0,
                    run_us: 0,
                    worker: "w",
                    output,
                };
                encode(&outcome, &mut records);
            }
            self.queue.append(&mut records, count);
        }

        fn let_through(&self) {
            self.asked.recv().unwrap();
            self.answers.send(Ok(())).unwrap();
        }

        fn close(self) -> (Vec<u8>, io::Result<()>) {
            self.queue.close();
            self.thread.join().unwrap()
        }
    }

    /// The tasks and marks of a journal without header.
    fn read(bytes: &[u8]) -> Vec<String> {
        let mut reader = Reader::of_bytes(bytes);
        let mut read = Vec::new();
        while let Some(record) = reader.read().unwrap() {
            read.push(match record {
                Record::Outcome(outcome) => outcome.task.to_string(),
                Record::Mark(mark) => {
                    assert_eq!(mark.durable, mark.at);
                    "mark".into()
                }
            });
        }
        assert_eq!(reader.end().torn_bytes, 0);
        read
    }

    #[test]
    fn what_comes_during_a_sync_is_one_batch_and_nothing_is_reported_before_its_sync() {
        let bench = bench_of(usize::MAX, Duration::ZERO, START);
        bench.append(0..1, b"");
        let first = bench.asked.recv().unwrap();
        bench.append(1..2, b"");
        bench.append(2..4, b"");
        assert!(bench.reports.try_recv().is_err(), "it is not synced");
        bench.answers.send(Ok(())).unwrap();
        assert_eq!(bench.reports.recv(), Ok(1));
        let second = bench.asked.recv().unwrap();
        assert!(second > first);
        assert!(bench.reports.try_recv().is_err());
        bench.answers.send(Ok(())).unwrap();
        assert_eq!(bench.reports.recv(), Ok(3));
        bench.answers.send(Ok(())).unwrap();
        let (bytes, result) = bench.close();
        result.unwrap();
        let expected = ["mark", "0", "mark", "1", "2", "3", "mark"];
        assert_eq!(read(&bytes), expected);
    }

    #[test]
    fn a_batch_waits_for_its_time_or_its_size() {
        let bench = bench_of(usize::MAX, NEVER, START);
        bench.append(0..1, b"small");
        assert!(bench.asked.try_recv().is_err(), "it waits for more");
        bench.append(1..2, &vec![0; SYNC_BYTES]);
        bench.let_through();
        assert_eq!(bench.reports.recv(), Ok(2));
        bench.append(2..3, b"small");
        bench.answers.send(Ok(())).unwrap();
        bench.answers.send(Ok(())).unwrap();
        let (bytes, result) = bench.close();
        result.unwrap();
        assert_eq!(read(&bytes), ["mark", "0", "1", "mark", "2", "mark"]);

        let wait = Duration::from_millis(20);
        let bench = bench_of(usize::MAX, wait, START);
        let start = Instant::now();
        bench.append(0..1, b"small");
        bench.let_through();
        assert!(start.elapsed() >= wait);
        bench.answers.send(Ok(())).unwrap();
        bench.close().1.unwrap();
    }

    #[test]
    fn after_a_failed_sync_nothing_further_is_written_or_reported() {
        let bench = bench_of(usize::MAX, Duration::ZERO, START);
        bench.append(0..2, b"");
        bench.let_through();
        assert_eq!(bench.reports.recv(), Ok(2));
        bench.append(2..3, b"");
        let asked_bytes = bench.asked.recv().unwrap();
        bench.append(3..4, b"");
        bench
            .answers
            .send(Err(io::ErrorKind::Other.into()))
            .unwrap();
        let reports = bench.reports.iter().count();
        let (bytes, result) = bench.close();
        assert!(result.is_err());
        assert_eq!((reports, bytes.len()), (0, asked_bytes));
    }

    #[test]
    fn a_full_disk_leaves_a_torn_tail_at_worst() {
        for room in 1..200 {
            let bench = bench_of(room, Duration::ZERO, START);
            bench.append(0..3, b"output");
            let (bytes, result) = {
                let _ = bench.answers.send(Ok(()));
                let _ = bench.answers.send(Ok(()));
                bench.close()
            };
            let mut reader = Reader::of_bytes(&bytes);
            while reader.read().unwrap().is_some() {}
            assert!(result.is_ok() || bytes.len() == room, "{room}");
        }
    }

    #[test]
    fn an_end_is_marked_once() {
        for is_marked in [false, true] {
            let end = End { is_marked, ..START };
            let bench = bench_of(usize::MAX, NEVER, end);
            bench.answers.send(Ok(())).unwrap();
            let (bytes, result) = bench.close();
            result.unwrap();
            assert_eq!(bytes.is_empty(), is_marked);
        }
    }
}
