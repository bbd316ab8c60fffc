//! Crowds of strangers at the door of a worker, and a head's job that ends right meanwhile.
//!
//! What it is: connections that dribble, stay silent, or come and go, more than a worker has room for;
//! how long the job takes beside them, and how much memory the worker ever has. What it is not: one
//! peer that breaks the protocol; see `hostile.rs`.
//!
//! Each in a short form, and in a long one that is ignored:
//! `cargo test --release --test programs flood:: -- --ignored --nocapture`.
//!
//! Invariant: a crowd stays, or goes on coming, until the job is done.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::common::{Worker, run_head, squares, until};
use teamster::frame::{Side, keyed_opening, opening};
use teamster::{channel, keyfile};

/// How much more memory a worker takes with all the sockets it may have than with one head: buffers
/// of a few hundred bytes each, and what the allocator makes of them.
const GROWTH_KIB_MAX: u64 = 2048;
/// Beside this the start of a process counts for nothing.
const JOB_TIME: Duration = Duration::from_secs(1);

/// Held by whoever measures times.
static MACHINE: Mutex<()> = Mutex::new(());

/// What strangers do, for as long as a crowd lasts.
#[derive(Clone, Copy)]
enum Habit {
    /// Each sends a byte per period, and is replaced if it is closed: half of them an opening and then
    /// garbage, half of them nothing else.
    Dribble(Duration),
    /// Each says nothing, and is replaced if it is closed.
    Silent,
    /// They come and go.
    ComeAndGo,
}

/// A worker under attack, with a key or without.
struct Target {
    worker: Worker,
    /// What its heads need.
    key_flag: String,
    _folder: tempfile::TempDir,
}

impl Target {
    /// With so many descriptors.
    fn start(is_keyed: bool, descriptors: u32) -> Target {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        keyfile::generate(&path).unwrap();
        let key_flag = match is_keyed {
            true => format!("--key-file {}", path.display()),
            false => String::new(),
        };
        let script = format!(
            "ulimit -n {descriptors}; exec {} -l 127.0.0.1:0 -s 1 {key_flag}",
            env!("CARGO_BIN_EXE_worker")
        );
        let mut shell = Command::new("sh");
        shell.args(["-c", &script]).env_remove(keyfile::VARIABLE);
        Target {
            worker: Worker::listening(&mut shell),
            key_flag,
            _folder: folder,
        }
    }

    /// What a head says first.
    fn opening(&self) -> [u8; 8] {
        match self.key_flag.is_empty() {
            true => opening(Side::Head),
            false => keyed_opening(Side::Head),
        }
    }

    /// Runs a job of about [`JOB_TIME`] and checks it; says how long it took.
    fn job(&self) -> Duration {
        let count = JOB_TIME.as_millis() as u64 / 2;
        let (address, key_flag) = (&self.worker.address, &self.key_flag);
        let begun = Instant::now();
        let args = format!("-w {address} {key_flag} square --count {count} --work-ms 2");
        assert_eq!(run_head(&args).expect(0).text(), squares(count));
        begun.elapsed()
    }
}

/// Both, in a build that can.
fn with_and_without_key() -> Vec<bool> {
    [false, true][..1 + usize::from(channel::IS_AVAILABLE)].to_vec()
}

/// Strangers on a thread of their own.
struct Crowd {
    end: Arc<AtomicBool>,
    connects: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

impl Crowd {
    /// At once `size` of them.
    fn start(target: &Target, size: usize, habit: Habit) -> Crowd {
        let address: SocketAddr = target.worker.address.parse().unwrap();
        let opening = target.opening();
        let end = Arc::new(AtomicBool::new(false));
        let connects = Arc::new(AtomicUsize::new(0));
        let (ended, counter) = (Arc::clone(&end), Arc::clone(&connects));
        let thread = thread::spawn(move || {
            let is_over = || ended.load(Ordering::SeqCst);
            let connect = || {
                counter.fetch_add(1, Ordering::SeqCst);
                TcpStream::connect(address).expect("the worker listens")
            };
            crowd(size, habit, opening, is_over, connect);
        });
        Crowd {
            end,
            connects,
            thread: Some(thread),
        }
    }

    /// How many have connected so far.
    fn connects(&self) -> usize {
        self.connects.load(Ordering::SeqCst)
    }

    /// Waits until so many have connected.
    fn reaches(&self, connects: usize) {
        until("the crowd", || self.connects() >= connects);
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.end.store(true, Ordering::SeqCst);
        let joined = self.thread.take().expect("joined once").join();
        assert!(joined.is_ok() || thread::panicking(), "the crowd panicked");
    }
}

fn crowd(
    size: usize,
    habit: Habit,
    opening: [u8; 8],
    is_over: impl Fn() -> bool,
    connect: impl Fn() -> TcpStream,
) {
    let (period, speaks) = match habit {
        Habit::ComeAndGo => {
            while !is_over() {
                drop(connect());
            }
            return;
        }
        Habit::Dribble(period) => (period, true),
        Habit::Silent => (Duration::from_millis(100), false),
    };
    let mut members: Vec<(TcpStream, usize)> = (0..size).map(|_| (connect(), 0)).collect();
    while !is_over() {
        for (i, (stream, sent)) in members.iter_mut().enumerate() {
            let garbage = (i * 31 + *sent * 17) as u8;
            let byte = match opening.get(*sent) {
                Some(&byte) if i % 2 == 0 => byte,
                _ => garbage,
            };
            let is_closed = is_closed(stream) || (speaks && stream.write_all(&[byte]).is_err());
            *sent += 1;
            if is_closed {
                (*stream, *sent) = (connect(), 0);
            }
        }
        // The pace of the attack, not a wait for anything.
        thread::sleep(period);
    }
}

/// Whether the worker has closed; its opening may be there to read first.
fn is_closed(stream: &TcpStream) -> bool {
    let mut byte = [0; 9];
    stream.set_nonblocking(true).unwrap();
    let peeked = stream.peek(&mut byte);
    stream.set_nonblocking(false).unwrap();
    match peeked {
        Ok(count) => {
            count == 0 || {
                let mut opening = [0; 8];
                std::io::Read::read(&mut &*stream, &mut opening).is_err()
            }
        }
        Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
    }
}

/// A job beside a crowd of which so many have connected, again and again in the time of a long form; the
/// memory stays within its bound. Only long forms have an eye on time: others run beside other tests.
fn withstands(size: usize, connects: usize, habit: Habit, long: Option<Duration>) {
    let _machine = MACHINE.lock().unwrap_or_else(PoisonError::into_inner);
    for is_keyed in with_and_without_key() {
        let target = Target::start(is_keyed, 1024);
        // The slowest of a few, as beside the crowd: the machine may have other things to do.
        let alone = long.and_then(|_| (0..5).map(|_| target.job()).max());
        let at_least = long.unwrap_or_default();
        let before_kib = target.worker.memory_peak_kib();
        let begun = Instant::now();
        let crowd = Crowd::start(&target, size, habit);
        crowd.reaches(connects.min(size));
        let mut slowest = Duration::ZERO;
        while slowest.is_zero() || begun.elapsed() < at_least || crowd.connects() < connects {
            slowest = slowest.max(target.job());
        }
        let peak_kib = target.worker.memory_peak_kib();
        let lines = target.worker.process.err.all().len();
        println!(
            "keyed: {is_keyed}; {} connects in {:.1} s: job at most {slowest:.2?} beside them, \
             {alone:.2?} alone; VmHWM {before_kib} KiB, then {peak_kib} KiB; {lines} lines",
            crowd.connects(),
            begun.elapsed().as_secs_f64(),
        );
        if let Some(alone) = alone {
            assert!(slowest < 2 * alone, "{slowest:?} instead of {alone:?}");
        }
        let grown_kib = peak_kib - before_kib;
        assert!(grown_kib <= GROWTH_KIB_MAX, "{grown_kib} KiB more");
        drop(crowd);
        target.job();
    }
}

#[test]
fn some_that_dribble() {
    let pace = Habit::Dribble(Duration::from_millis(50));
    withstands(150, 300, pace, None);
}

#[test]
fn some_that_are_silent() {
    withstands(50, 50, Habit::Silent, None);
}

#[test]
fn some_that_come_and_go() {
    withstands(1, 2000, Habit::ComeAndGo, None);
}

#[test]
#[ignore = "takes two minutes"]
fn five_hundred_that_dribble() {
    let pace = Habit::Dribble(Duration::from_secs(1));
    withstands(500, 500, pace, Some(Duration::from_secs(60)));
}

#[test]
#[ignore = "takes a minute"]
fn a_hundred_that_are_silent() {
    withstands(100, 100, Habit::Silent, Some(Duration::from_secs(30)));
}

#[test]
#[ignore = "a flood"]
fn ten_thousand_that_come_and_go() {
    withstands(1, 10_000, Habit::ComeAndGo, Some(Duration::ZERO));
}

#[test]
fn with_64_descriptors_heads_are_served_during_a_flood_and_after_it() {
    let _machine = MACHINE.lock().unwrap_or_else(PoisonError::into_inner);
    for is_keyed in with_and_without_key() {
        let target = Target::start(is_keyed, 64);
        let crowd = Crowd::start(&target, 200, Habit::Silent);
        crowd.reaches(200);
        let said = "no room for more connections (Too many open files)";
        target.worker.says(said);
        target.job();
        drop(crowd);
        target.job();
        assert_eq!(target.worker.process.err.count(said), 1, "said once");
    }
}
