//! Messages on their way to standard error.
//!
//! What it is: the logger's sink: a bounded queue and the one thread that may block on it, so that a
//! full pipe behind standard error cannot stop the event loop. What it is not: where results go; of
//! those none may be dropped.
//!
//! Invariant: a message is written whole or not at all, and the reader is told how many are missing.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use log::LevelFilter;

use crate::format::printable;
use crate::screen::Screen;
use crate::words::count;

/// Messages that wait at most.
const QUEUE_MAX: usize = 1024;
/// How long the end of the program waits for a reader that does not read.
const FINISH_TIMEOUT: Duration = Duration::from_secs(1);

static QUEUE: OnceLock<SyncSender<Message>> = OnceLock::new();
static DROPPED: AtomicU64 = AtomicU64::new(0);
/// Whoever writes to the terminal holds it meanwhile.
static SCREEN: Mutex<Screen> = Mutex::new(Screen::new());

enum Message {
    Text(Vec<u8>),
    /// The line that stays.
    Line(String),
    /// All before it are written once this is dropped.
    Last(SyncSender<()>),
}

/// Has `log` write lines that begin with the program's name. `RUST_LOG` says which, as in every
/// program that uses env_logger; by default those of `level` and above.
pub fn start(program: &'static str, level: LevelFilter) {
    let (queue, messages) = sync_channel(QUEUE_MAX);
    let writer = move || write_all(program, &messages);
    let spawned = thread::Builder::new().name("messages".into()).spawn(writer);
    if spawned.is_ok() && QUEUE.set(queue).is_err() {
        return; // It was started already.
    }
    let mut builder = env_logger::Builder::new();
    builder.filter_level(level);
    if program == "head" && std::env::var_os("RUST_LOG").is_none() {
        // What workers inside a head say of it is not news there; it says what becomes of them.
        builder.filter_module("teamster::worker", LevelFilter::Error.min(level));
    }
    builder.parse_default_env();
    builder.target(env_logger::Target::Pipe(Box::new(Sink)));
    // Peers have their words in many of them.
    let text = |record: &log::Record<'_>| printable(record.args().to_string().as_bytes());
    builder.format(move |line, record| match record.level() {
        log::Level::Error => writeln!(line, "{program}: error: {}", text(record)),
        log::Level::Warn => writeln!(line, "{program}: warning: {}", text(record)),
        _ => writeln!(line, "{program}: {}", text(record)),
    });
    // Only a program that has a logger of its own can make this fail; then it keeps that one.
    let _ = builder.try_init();
}

/// Prints a line as it is.
pub fn say(line: &str) {
    let _ = writeln!(Sink, "{line}");
}

/// Has `line` stay below everything else; none if it is empty. If the terminal does not keep up it is
/// left out: the next one says more.
pub fn show(line: String) {
    if let Some(queue) = QUEUE.get() {
        let _ = queue.try_send(Message::Line(line));
    }
}

/// Has `write` write `text` to the terminal on which such a line may stand.
///
/// # Errors
/// What `write` says.
pub fn above_line(text: &[u8], write: impl FnOnce(&[u8]) -> io::Result<()>) -> io::Result<()> {
    let mut screen = SCREEN.lock().unwrap_or_else(PoisonError::into_inner);
    screen.above(text, &mut io::stderr(), write)
}

/// Waits until all is written, or nobody reads it.
pub fn finish() {
    if let Some(queue) = QUEUE.get() {
        let (written, done) = sync_channel(0);
        if queue.try_send(Message::Last(written)).is_ok() {
            let _ = done.recv_timeout(FINISH_TIMEOUT);
        }
    }
}

/// Takes one message per call of `write`.
struct Sink;

impl Write for Sink {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        match QUEUE.get() {
            // Without a thread it is written here: better late than never.
            None => return io::stderr().write(text),
            Some(queue) => {
                if let Err(TrySendError::Full(_)) = queue.try_send(Message::Text(text.to_vec())) {
                    DROPPED.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        Ok(text.len())
    }

    fn write_fmt(&mut self, text: std::fmt::Arguments<'_>) -> io::Result<()> {
        self.write_all(text.to_string().as_bytes())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn write_all(program: &str, messages: &Receiver<Message>) {
    let mut stderr = io::stderr();
    for message in messages {
        // A standard error that is closed is no reason to fail.
        match message {
            Message::Text(text) => {
                drop(above_line(&text, |text| io::stderr().write_all(text)));
            }
            Message::Line(line) => {
                let mut screen = SCREEN.lock().unwrap_or_else(PoisonError::into_inner);
                drop(screen.show(line, &mut stderr));
            }
            Message::Last(written) => drop(written),
        }
        let dropped = DROPPED.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            let messages = count(dropped, "message");
            let text = format!("{program}: {messages} dropped: nobody read them\n");
            let _ = above_line(text.as_bytes(), |text| io::stderr().write_all(text));
        }
    }
}
