//! Workers that count, and what is in a journal.
//!
//! What it is: [`Team`], two workers in threads of this process that note which tasks each head has
//! them run; [`Journal`], a file in a folder of its own. What it is not: the heads, which are processes.
//!
//! Invariant: a task that was recorded when a head began is not run for that head.

use std::collections::BTreeSet;
use std::fs;
use std::io::Cursor;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex};

use teamster::journal::{HEADER_START_BYTES, Header, Record};
use teamster::kernel::{Kernel, KernelError, Kernels, Stop};
use teamster::kernels::square;
use teamster::limits::PAYLOAD_BYTES_DEFAULT;
use teamster::recorder::Reader;

use crate::common::{head, worker_thread};

/// What the heads of one team have had run.
struct Log {
    /// What was recorded when each head began.
    recorded: Vec<BTreeSet<u64>>,
    /// Which head's task began.
    begun: Vec<(usize, u64)>,
}

static LOGS: [Mutex<Log>; 16] = [const {
    Mutex::new(Log {
        recorded: Vec::new(),
        begun: Vec::new(),
    })
}; 16];

/// `square`, with a note of every run.
struct Counted<const KEY: usize> {
    square: Arc<dyn Kernel>,
    head: usize,
}

impl<const KEY: usize> Kernel for Counted<KEY> {
    fn run(&self, input: &[u8], stop: &Stop, output: &mut Vec<u8>) -> Result<(), KernelError> {
        let n = u64::from_be_bytes(input.try_into().unwrap());
        LOGS[KEY].lock().unwrap().begun.push((self.head, n));
        self.square.run(input, stop, output)
    }
}

fn open<const KEY: usize>(setup: &[u8]) -> Result<Arc<dyn Kernel>, String> {
    Ok(Arc::new(Counted::<KEY> {
        square: square::open(setup)?,
        head: LOGS[KEY].lock().unwrap().recorded.len(),
    }))
}

/// Two workers. `KEY` is one test's alone.
pub struct Team<const KEY: usize> {
    /// As `--workers` takes them.
    pub addresses: String,
}

impl<const KEY: usize> Team<KEY> {
    pub fn start() -> Team<KEY> {
        let kernels = || Kernels::new().with(square::NAME, open::<KEY>);
        let addresses = [(); 2].map(|()| worker_thread(kernels(), PAYLOAD_BYTES_DEFAULT));
        Team {
            addresses: addresses.map(|address| address.to_string()).join(","),
        }
    }

    /// The next head, with these workers and this journal.
    pub fn head(&self, journal: &Journal, args: &str) -> Command {
        LOGS[KEY].lock().unwrap().recorded.push(journal.tasks());
        let journal = journal.path.display();
        head(&format!("-w {} --journal {journal} {args}", self.addresses))
    }

    /// Whether the head that began last had anything run.
    pub fn has_worked(&self) -> bool {
        let log = LOGS[KEY].lock().unwrap();
        log.begun
            .iter()
            .any(|(head, _)| *head == log.recorded.len())
    }

    #[track_caller]
    pub fn check_nothing_ran_again(&self) {
        let log = LOGS[KEY].lock().unwrap();
        for (head, task) in &log.begun {
            let was_recorded = log.recorded[head - 1].contains(task);
            assert!(!was_recorded, "task {task} ran again for head {head}");
        }
    }
}

/// A journal in a folder of its own.
pub struct Journal {
    pub path: PathBuf,
    /// Removed with it.
    _folder: Option<tempfile::TempDir>,
}

impl Journal {
    pub fn new() -> Journal {
        let folder = tempfile::tempdir().unwrap();
        Journal {
            path: folder.path().join("journal"),
            _folder: Some(folder),
        }
    }

    /// In somebody else's folder.
    pub fn at(path: PathBuf) -> Journal {
        Journal {
            path,
            _folder: None,
        }
    }

    pub fn bytes(&self) -> Vec<u8> {
        fs::read(&self.path).unwrap_or_default()
    }

    pub fn set(&self, bytes: &[u8]) {
        fs::write(&self.path, bytes).unwrap();
    }

    /// Length of the header.
    pub fn header_bytes(&self) -> usize {
        let bytes = self.bytes();
        let start: &[u8; HEADER_START_BYTES] = bytes.first_chunk().unwrap();
        Header::encoded_bytes(start).unwrap()
    }

    /// Which tasks are recorded.
    pub fn tasks(&self) -> BTreeSet<u64> {
        let bytes = self.bytes();
        if bytes.len() < HEADER_START_BYTES || bytes.len() < self.header_bytes() {
            return BTreeSet::new();
        }
        let at = self.header_bytes() as u64;
        let mut source = Cursor::new(&bytes[..]);
        source.set_position(at);
        let mut reader = Reader::new(source, at);
        let mut tasks = BTreeSet::new();
        while let Some(record) = reader.read().unwrap() {
            if let Record::Outcome(outcome) = record {
                assert!(tasks.insert(outcome.task), "{} twice", outcome.task);
            }
        }
        tasks
    }
}

/// A journal of the squares below `count`, as a run with `--work-ms 0` that answered all but the last
/// `missing` would have left it.
pub fn forge(count: u64, missing: u64, journal: &Journal) {
    use std::io::Write;
    use teamster::frame::Status;
    use teamster::journal::{Mark, Outcome, encode, input_hash};
    let description = format!("square --count {count} --work-ms 0, in input order");
    let mut bytes = Header::new(square::NAME, &[0; 4], &description).encode();
    let at = bytes.len() as u64;
    Mark { durable: at, at }.encode(&mut bytes);
    let file = fs::File::create(&journal.path).unwrap();
    let mut file = std::io::BufWriter::new(file);
    for task in 0..count - missing {
        let outcome = Outcome {
            task,
            input_hash: input_hash(&task.to_be_bytes()),
            status: Status::Done,
            losses: 0,
            queue_us: 0,
            run_us: 0,
            worker: "10.0.0.11:5000",
            output: &(task * task).to_be_bytes(),
        };
        encode(&outcome, &mut bytes);
        file.write_all(&bytes).unwrap();
        bytes.clear();
    }
    file.flush().unwrap();
}
