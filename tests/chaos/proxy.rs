//! A bad network between the head and one worker.
//!
//! What it is: [`serve`], a TCP proxy that delays, stalls, dribbles, changes, cuts and
//! resets on command, and
//! [`Proxy`], which runs it in a process of its own, since only a process can be put into a network
//! namespace. What it is not: a reader of frames; it knows bytes only.
//!
//! Invariant: while nothing is commanded every byte passes, in order and at once.

use std::io::{self, BufRead, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::thread;
use std::time::{Duration, Instant};

use crate::cluster::START_TIMEOUT;
use crate::net::{Net, Place};
use crate::process::Process;

/// Names the variable with the address to listen on and the one to dial, for the proxy's process.
const VARIABLE: &str = "TEAMSTER_CHAOS_PROXY";
/// The test that is the proxy's process.
const ENTRY: &str = "proxy_process";
/// Its port.
pub const PORT: u16 = 5000;

/// How often a connection looks whether its mode has changed.
const TICK: Duration = Duration::from_millis(5);
/// A reset waits so long for bytes that nobody has read: only with these is it one.
const RESET_WAIT: Duration = Duration::from_secs(1);
const DRIBBLE_GAP: Duration = Duration::from_millis(2);
/// A stream is cut so many bytes before the end of what was read at most: less than any frame has.
const CUT_BYTES_MAX: usize = 7;

/// What happens to the bytes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Pass,
    /// Each piece waits so many milliseconds.
    Delay(u64),
    /// Nothing is read.
    Stall,
    /// One byte at a time.
    Dribble,
    /// A bit of every so many-th byte changes, counted from the connection's first.
    Corrupt(u64),
    /// Both sides get a reset.
    Reset,
    /// The next piece loses its last bytes, then both sides get a proper end. To the worker, or to
    /// the head.
    Cut {
        to_worker: bool,
    },
}

impl Mode {
    fn command(self) -> String {
        match self {
            Mode::Pass => "pass".into(),
            Mode::Delay(ms) => format!("delay {ms}"),
            Mode::Stall => "stall".into(),
            Mode::Dribble => "dribble".into(),
            Mode::Corrupt(every) => format!("corrupt {every}"),
            Mode::Reset => "reset".into(),
            Mode::Cut { to_worker: true } => "cut worker".into(),
            Mode::Cut { to_worker: false } => "cut head".into(),
        }
    }

    fn parse(command: &str) -> Option<Mode> {
        Some(match command.split_once(' ').unwrap_or((command, "")) {
            ("pass", _) => Mode::Pass,
            ("delay", ms) => Mode::Delay(ms.parse().ok()?),
            ("stall", _) => Mode::Stall,
            ("dribble", _) => Mode::Dribble,
            ("corrupt", every) => Mode::Corrupt(every.parse().ok()?),
            ("reset", _) => Mode::Reset,
            ("cut", to) => Mode::Cut {
                to_worker: to == "worker",
            },
            _ => return None,
        })
    }
}

/// A running proxy.
#[derive(Debug)]
pub struct Proxy(Process);

impl Proxy {
    /// Starts one beside the bridge, in front of a worker.
    pub fn start(net: &Net, worker: usize) -> Result<Proxy, String> {
        let program = std::env::current_exe().map_err(|error| error.to_string())?;
        let mut command: Command = net.command(Place::Switch, &program.to_string_lossy());
        command.args(["--exact", ENTRY, "--ignored", "--nocapture"]);
        let (listen, dial) = (Place::Switch.address(), Place::Worker(worker).address());
        command.env(VARIABLE, format!("{listen}:{PORT} {dial}:{PORT}"));
        let process = Process::spawn(&mut command)?;
        process.wait_for("proxy listens", START_TIMEOUT)?;
        Ok(Proxy(process))
    }

    /// Has the connections that are open now, and for a lasting mode those to come, treated so.
    /// Returns how many bytes were touched since the last command.
    pub fn command(&mut self, mode: Mode) -> Result<u64, String> {
        let answers = self.answers().len();
        let written = writeln!(self.0.stdin(), "{}", mode.command());
        written.map_err(|error| format!("the proxy takes no commands: {error}"))?;
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            if let Some(touched) = self.answers().get(answers) {
                return Ok(*touched);
            }
            if Instant::now() >= deadline {
                return Err("the proxy does not answer".into());
            }
            thread::sleep(TICK);
        }
    }

    fn answers(&self) -> Vec<u64> {
        let text = self.0.stdout.text();
        // A line that is not whole yet does not count.
        let lines = text.split_inclusive('\n').filter(|l| l.ends_with('\n'));
        lines
            .filter_map(|line| line.trim_end().strip_prefix("touched ")?.parse().ok())
            .collect()
    }

    pub fn stop(&mut self) {
        self.0.kill();
    }

    /// What it printed to standard error.
    pub fn log(&self) -> String {
        self.0.stderr.text()
    }
}

/// Is the proxy, if this process was started as one; it then ends with the process that started it.
pub fn serve() {
    let Ok(addresses) = std::env::var(VARIABLE) else {
        return;
    };
    let (listen, dial) = addresses.split_once(' ').expect("two addresses");
    let listener = TcpListener::bind(listen).expect("the address is free");
    let shared = Arc::new(Shared::default());
    let (accepting, dial) = (Arc::clone(&shared), dial.to_owned());
    thread::spawn(move || accept(&listener, &dial, &accepting));
    say("proxy listens");
    for command in io::stdin().lock().lines() {
        let mode = Mode::parse(&command.expect("text")).expect("a command");
        shared.set(mode);
        say(&format!(
            "touched {}",
            shared.touched.swap(0, Ordering::SeqCst)
        ));
    }
    // Nobody is there to command it any more.
    std::process::exit(0);
}

/// One line on standard output, past the test harness that may hold back what is printed.
fn say(line: &str) {
    let mut stdout = io::stdout().lock();
    let written = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
    written.expect("the test reads it");
}

#[derive(Debug, Default)]
struct Shared {
    pairs: Mutex<Vec<Weak<Pair>>>,
    /// The mode of connections to come, unless it is `Pass`.
    lasting: Mutex<Option<Mode>>,
    /// Bytes that met anything but `Pass`.
    touched: AtomicU64,
}

impl Shared {
    fn set(&self, mode: Mode) {
        let is_lasting = matches!(
            mode,
            Mode::Delay(_) | Mode::Stall | Mode::Dribble | Mode::Corrupt(_)
        );
        *self.lasting.lock().expect("no thread panics") = is_lasting.then_some(mode);
        let pairs = self.pairs.lock().expect("no thread panics");
        for pair in pairs.iter().filter_map(Weak::upgrade) {
            *pair.mode.lock().expect("no thread panics") = mode;
        }
    }
}

/// A head's connection and the one to the worker. A socket is closed when both threads let go.
#[derive(Debug)]
struct Pair {
    head: TcpStream,
    worker: TcpStream,
    mode: Mutex<Mode>,
}

impl Pair {
    fn mode(&self) -> Mode {
        *self.mode.lock().expect("no thread panics")
    }

    fn end(&self) {
        let _ = self.head.shutdown(Shutdown::Both);
        let _ = self.worker.shutdown(Shutdown::Both);
    }
}

fn accept(listener: &TcpListener, dial: &str, shared: &Arc<Shared>) {
    for head in listener.incoming() {
        // A worker that is not there: the head is told by the end of its connection.
        let (Ok(head), Ok(worker)) = (head, TcpStream::connect(dial)) else {
            continue;
        };
        for stream in [&head, &worker] {
            stream.set_nodelay(true).expect("it is a TCP socket");
            let timeout = stream.set_read_timeout(Some(TICK));
            timeout.expect("it is not zero");
        }
        let lasting = *shared.lasting.lock().expect("no thread panics");
        let pair = Arc::new(Pair {
            head,
            worker,
            mode: Mutex::new(lasting.unwrap_or(Mode::Pass)),
        });
        let mut pairs = shared.pairs.lock().expect("no thread panics");
        pairs.push(Arc::downgrade(&pair));
        drop(pairs);
        for to_worker in [true, false] {
            let (pair, shared) = (Arc::clone(&pair), Arc::clone(shared));
            thread::spawn(move || pump(&pair, to_worker, &shared));
        }
    }
}

/// Carries one direction until its end.
fn pump(pair: &Pair, to_worker: bool, shared: &Shared) {
    let (mut from, to) = match to_worker {
        true => (&pair.head, &pair.worker),
        false => (&pair.worker, &pair.head),
    };
    let mut buffer = [0; 16 << 10];
    let mut passed = 0;
    loop {
        match pair.mode() {
            Mode::Stall => {
                thread::sleep(TICK);
                continue;
            }
            Mode::Reset => return await_unread(from),
            _ => {}
        }
        match from.read(&mut buffer) {
            Ok(0) => {
                let _ = to.shutdown(Shutdown::Write);
                return;
            }
            Ok(len) => {
                if let Mode::Corrupt(every) = pair.mode() {
                    corrupt(&mut buffer[..len], passed, every);
                }
                passed += len as u64;
                if carry(&buffer[..len], pair, to, to_worker, shared).is_err() {
                    return pair.end();
                }
            }
            Err(error) if is_timeout(&error) => {}
            Err(_) => return pair.end(),
        }
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted
    )
}

/// Changes each byte whose number in the connection is a multiple of `every`; not the first.
fn corrupt(bytes: &mut [u8], passed: u64, every: u64) {
    for (byte, number) in bytes.iter_mut().zip(passed..) {
        if number > 0 && number.is_multiple_of(every) {
            *byte ^= 1 << (number / every % 8);
        }
    }
}

/// Waits for bytes and leaves them: the kernel answers them with a reset when the socket is closed.
fn await_unread(from: &TcpStream) {
    let deadline = Instant::now() + RESET_WAIT;
    while Instant::now() < deadline {
        match from.peek(&mut [0]) {
            Err(error) if is_timeout(&error) => {}
            _ => return,
        }
    }
}

/// Writes what was read, as the mode has it. An error ends the connection.
fn carry(
    bytes: &[u8],
    pair: &Pair,
    mut to: &TcpStream,
    to_worker: bool,
    shared: &Shared,
) -> io::Result<()> {
    let mut mode = pair.mode();
    if mode != Mode::Pass {
        shared
            .touched
            .fetch_add(bytes.len() as u64, Ordering::SeqCst);
    }
    while mode == Mode::Stall {
        thread::sleep(TICK);
        mode = pair.mode();
    }
    match mode {
        Mode::Delay(ms) => {
            thread::sleep(Duration::from_millis(ms));
            to.write_all(bytes)
        }
        Mode::Dribble => {
            let mut rest = bytes;
            while let [byte, after @ ..] = rest {
                if pair.mode() != Mode::Dribble {
                    break;
                }
                to.write_all(&[*byte])?;
                thread::sleep(DRIBBLE_GAP);
                rest = after;
            }
            to.write_all(rest)
        }
        Mode::Cut { to_worker: cut } if cut == to_worker => {
            // One to seven, by the length: no two streams are cut alike, and a replay cuts alike.
            let missing = 1 + bytes.len() % CUT_BYTES_MAX;
            to.write_all(&bytes[..bytes.len().saturating_sub(missing)])?;
            to.shutdown(Shutdown::Write)?;
            Err(io::ErrorKind::ConnectionAborted.into())
        }
        _ => to.write_all(bytes),
    }
}
