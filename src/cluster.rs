//! Functions on many machines: the head as an iterator.
//!
//! What it is: [`Cluster`], which workers there are and how they are used, and [`Results`], one run
//! on a thread of its own. What it is not: another head. The run is that of the program `head`,
//! with inputs from an iterator instead of a job; what the two threads hand each other is in
//! `feed`.
//!
//! Invariant: one result per input, in the order of the inputs, and then the end; a run that can
//! not go on says so last.

mod feed;

use std::error::Error as StdError;
use std::fmt;
use std::io::{self, Write};
use std::iter::FusedIterator;
use std::os::unix::net::UnixStream;
use std::panic::resume_unwind;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use crate::format::printable;
use crate::frame::{FIXED_BYTES_MAX, Frame, HEADER_BYTES, Side, Status};
use crate::head::{Head, HeadConfig, Relief};
use crate::kernel::Kernels;
use crate::key::Keys;
use crate::limits::{KERNEL_NAME_BYTES_MAX, PAYLOAD_BYTES_MAX};
use crate::options::{self, Address};
use crate::reactor::Target;
use crate::role::Exit;
use crate::run::{local_keys, new_reactor, remote_keys, start_local};
use crate::time::Duration;
use crate::worker::WorkerConfig;
use feed::{Feed, Job, Outcome, Taken};

/// Workers, and how a run uses them. Nothing is dialled before [`Cluster::map`]; one cluster serves
/// any number of runs, also at the same time.
#[derive(Clone, Debug)]
pub struct Cluster {
    workers: Vec<Address>,
    config: HeadConfig,
    keys: KeySource,
    /// They live as long as some clone of this, or some run, does.
    embedded: Arc<Vec<Embedded>>,
}

/// Where the key comes from.
#[derive(Clone, Debug)]
enum KeySource {
    /// The embedded workers have it, too.
    Own(Option<Keys>),
    /// The file named, or else where the programs look.
    File(Option<PathBuf>),
}

/// A worker inside this process.
#[derive(Debug)]
struct Embedded {
    stop: UnixStream,
}

impl Drop for Embedded {
    fn drop(&mut self) {
        // What could go wrong: it has ended already.
        let _ = self.stop.write_all(&[0]);
    }
}

impl Cluster {
    /// The workers of a list such as `10.0.0.11,worker-2:5001,[::1]`; port 5000 where none is
    /// named. Those that are not up yet, or come back, join a run at any time.
    ///
    /// # Errors
    /// [`Error::Address`] for what cannot be an address. Whether it is one is found out when it is
    /// dialled.
    pub fn connect(workers: &str) -> Result<Cluster, Error> {
        let workers = options::workers(workers).map_err(Error::Address)?;
        Ok(Cluster::new(workers, KeySource::File(None), Vec::new()))
    }

    /// `count` workers of one thread each inside this process, on real sockets. They end with the
    /// cluster. For tests, and for programs that also run without any other machine.
    ///
    /// # Errors
    /// [`Error::System`] if the system refuses a socket or a thread.
    ///
    /// # Panics
    /// If `count` is 0.
    pub fn local(count: usize, kernels: &Kernels) -> Result<Cluster, Error> {
        assert!(count > 0, "a cluster has at least one worker");
        let keys = local_keys()?;
        let (mut workers, mut embedded) = (Vec::new(), Vec::new());
        for _ in 0..count {
            let mut config = WorkerConfig::new(1, kernels.clone());
            config.payload_bytes_max = PAYLOAD_BYTES_MAX;
            let (stopped, stop) = UnixStream::pair()?;
            workers.push(start_local(config, keys.clone(), Some(stopped))?.into());
            embedded.push(Embedded { stop });
        }
        Ok(Cluster::new(workers, KeySource::Own(keys), embedded))
    }

    fn new(workers: Vec<Address>, keys: KeySource, embedded: Vec<Embedded>) -> Cluster {
        let names = workers.iter().map(Address::to_string).collect();
        let mut config = HeadConfig::new(names);
        config.seed = u64::from(std::process::id());
        Cluster {
            workers,
            config,
            keys,
            embedded: Arc::new(embedded),
        }
    }

    /// The file with the key that the workers have. Without this it is, as with the programs, the one
    /// that `$TEAMSTER_KEY_FILE` names, else `/etc/teamster/key`, and if there is none either, nothing
    /// is encrypted. It is read by [`Cluster::map`]. Workers inside this process have a key of their
    /// own.
    #[must_use]
    pub fn key_file(mut self, path: impl Into<PathBuf>) -> Cluster {
        if let KeySource::File(file) = &mut self.keys {
            *file = Some(path.into());
        }
        self
    }

    /// How long a kernel may run for one input, in whole milliseconds up to 49 days; what takes
    /// longer is stopped and is an [`Error::TimedOut`]. Without this: as long as it takes.
    #[must_use]
    pub fn timeout(mut self, limit: Duration) -> Cluster {
        let longest = Duration::from_millis(u32::MAX.into());
        self.config.timeout = Some(limit.clamp(Duration::from_millis(1), longest));
        self
    }

    /// How many workers may be lost while they run an input before it is given up as
    /// [`Error::Failed`]; at least 1, and 3 without this.
    #[must_use]
    pub fn attempts(mut self, count: u32) -> Cluster {
        self.config.attempts_max = count.max(1);
        self
    }

    /// How long a run goes on without any worker it can use; 60 s without this.
    #[must_use]
    pub fn give_up(mut self, after: Duration) -> Cluster {
        self.config.give_up = after;
        self
    }

    /// Never runs an input twice only to end sooner. One whose worker was lost is run again all the
    /// same: exactly once is a promise that nobody can keep.
    #[must_use]
    pub fn no_duplicates(mut self) -> Cluster {
        self.config.relief = Relief::None;
        self
    }

    /// Longest input, set-up and output in bytes; 1 MiB without this, and at most 64 MiB. Workers
    /// have a limit of their own (`--payload-max`), and the smaller one holds.
    #[must_use]
    pub fn payload_max(mut self, bytes: usize) -> Cluster {
        self.config.payload_bytes_max = bytes.min(PAYLOAD_BYTES_MAX);
        self
    }

    /// Has the workers run `kernel`, opened with `setup`, for each of `inputs`, and gives the
    /// outputs in their order.
    ///
    /// The inputs are pulled lazily, by whoever calls [`Results::next`] and in that thread: one for
    /// each result that is returned, and more while there is none to return. So an endless iterator
    /// is fine, memory stays bounded however many there are, and one that blocks holds the results
    /// back. Up to 4,096 inputs and 16 MiB of them wait here for a worker that has room for them,
    /// and 16 MiB of results for you; then the workers wait, too.
    ///
    /// # Errors
    /// [`Error::Job`] if the kernel's name or the set-up is too long, [`Error::Key`] if a key file
    /// cannot be used, [`Error::System`] if the system refuses the thread or its event loop. Whatever
    /// happens later is the iterator's.
    pub fn map<I>(
        &self,
        kernel: &str,
        setup: &[u8],
        inputs: I,
    ) -> Result<Results<I::IntoIter>, Error>
    where
        I: IntoIterator,
        I::Item: Into<Vec<u8>>,
    {
        let payload_max = self.config.payload_bytes_max;
        check_job(kernel, setup, payload_max).map_err(Error::Job)?;
        let keys = match &self.keys {
            KeySource::Own(keys) => keys.clone(),
            KeySource::File(file) => {
                remote_keys(&self.workers, file.as_deref()).map_err(Error::Key)?
            }
        };
        let mut reactor = new_reactor(Side::Head, payload_max, keys.as_ref())?;
        let targets = self.workers.iter().map(|worker| Target {
            host: worker.host(),
            port: worker.port,
        });
        reactor.set_targets(targets.collect());
        let (stopped, stop) = UnixStream::pair()?;
        reactor.watch_signals(stopped)?;
        let feed = Arc::new(Feed::new(reactor.mailbox()));
        let job = Job::new(kernel, setup, Arc::clone(&feed));
        let mut head = Head::new(self.config.clone(), job);
        let work = move || {
            let ran = reactor.run(&mut head);
            ran.map(|exit| (exit, head.trouble()))
            // The job says that it is over when it is dropped, however that comes about.
        };
        let thread = thread::Builder::new().name("head".into()).spawn(work)?;
        Ok(Results {
            inputs: inputs.into_iter(),
            is_exhausted: false,
            feed,
            stop,
            thread: Some(thread),
            _embedded: Arc::clone(&self.embedded),
        })
    }
}

/// Says what of a job is too long to be sent.
fn check_job(kernel: &str, setup: &[u8], payload_max: usize) -> Result<(), String> {
    if kernel.len() > KERNEL_NAME_BYTES_MAX {
        let bytes = kernel.len();
        return Err(format!(
            "a kernel's name of {bytes} bytes; it has at most {KERNEL_NAME_BYTES_MAX}"
        ));
    }
    let timeout_ms = 0;
    let frame = Frame::Job {
        timeout_ms,
        kernel,
        setup,
    };
    if frame.encoded_bytes() > HEADER_BYTES + FIXED_BYTES_MAX + payload_max {
        let bytes = setup.len();
        return Err(format!(
            "set-up of {bytes} bytes; at most {payload_max} are sent, see Cluster::payload_max"
        ));
    }
    Ok(())
}

/// The outputs of one [`Cluster::map`], in the order of its inputs. Dropped before its end, it ends
/// the run: the workers stop what they were running for it.
pub struct Results<I> {
    inputs: I,
    is_exhausted: bool,
    feed: Arc<Feed>,
    /// A byte in it ends the run.
    stop: UnixStream,
    /// The reactor's. `None` once it has been joined.
    thread: Option<JoinHandle<io::Result<(Exit, String)>>>,
    _embedded: Arc<Vec<Embedded>>,
}

impl<I> Iterator for Results<I>
where
    I: Iterator,
    I::Item: Into<Vec<u8>>,
{
    type Item = Result<Vec<u8>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.thread.as_ref()?;
        loop {
            let has_room = !self.is_exhausted && self.feed.has_room();
            if has_room {
                match self.inputs.next() {
                    Some(input) => self.feed.push(input.into()),
                    None => {
                        self.is_exhausted = true;
                        self.feed.close();
                    }
                }
            }
            match self.feed.take(!has_room) {
                Taken::Nothing => {}
                Taken::Outcome(outcome) => return Some(understand(outcome)),
                Taken::End => return self.end().map(Err),
            }
        }
    }
}

impl<I> FusedIterator for Results<I>
where
    I: Iterator,
    I::Item: Into<Vec<u8>>,
{
}

impl<I> Results<I> {
    /// Why there are no more, unless all is done.
    fn end(&mut self) -> Option<Error> {
        match self.thread.take()?.join() {
            Ok(Ok((Exit::NoWorker, trouble))) => Some(Error::NoWorker(trouble)),
            Ok(Ok(_)) => None,
            Ok(Err(error)) => Some(Error::System(error)),
            Err(panic) => resume_unwind(panic),
        }
    }
}

impl<I> Drop for Results<I> {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            // A run that is over needs no stop; of a panic its own message has told.
            let _ = self.stop.write_all(&[0]);
            let _ = thread.join();
        }
    }
}

impl<I> fmt::Debug for Results<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Results").finish_non_exhaustive()
    }
}

fn understand(outcome: Outcome) -> Result<Vec<u8>, Error> {
    let Outcome {
        task,
        status,
        output,
        worker,
    } = outcome;
    let reason = |output: &[u8]| printable(output);
    match status {
        Status::Done => Ok(output),
        Status::TimedOut => Err(Error::TimedOut {
            task,
            worker,
            reason: reason(&output),
        }),
        Status::Failed | Status::Returned => Err(Error::Failed {
            task,
            worker,
            reason: reason(&output),
        }),
    }
}

/// What can go wrong. `Failed` and `TimedOut` are the answers to one input, and the others follow;
/// after `NoWorker` and `System` nothing does.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// What is wrong with a list of workers.
    Address(String),
    /// What is too long of a kernel's name and its set-up.
    Job(String),
    /// What is wrong with a key file.
    Key(String),
    /// The kernel failed or panicked, or the input or output is too long, or so many workers were
    /// lost while they ran it that it was given up.
    Failed {
        /// The number of the input, from 0.
        task: u64,
        /// The worker's address, or `-` if none ran it.
        worker: String,
        /// In the kernel's words.
        reason: String,
    },
    /// The kernel ran for longer than [`Cluster::timeout`] allows.
    TimedOut {
        /// The number of the input, from 0.
        task: u64,
        /// The worker's address.
        worker: String,
        /// In words.
        reason: String,
    },
    /// No worker could be used: none has the kernel, or none could be reached for so long
    /// ([`Cluster::give_up`]). What is wrong with each, of many with the first few.
    NoWorker(String),
    /// The operating system refused something that a run cannot do without.
    System(io::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Address(reason) => write!(f, "list of workers: {reason}"),
            Error::Failed {
                task,
                worker,
                reason,
            }
            | Error::TimedOut {
                task,
                worker,
                reason,
            } => {
                write!(f, "task {task} failed at worker {worker}: {reason}")
            }
            Error::Job(reason) | Error::Key(reason) => f.write_str(reason),
            Error::NoWorker(reason) => write!(f, "no worker could be used: {reason}"),
            Error::System(error) => error.fmt(f),
        }
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Error::System(error) => error.source(),
            _ => None,
        }
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Error {
        Error::System(error)
    }
}
