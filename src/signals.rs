//! Ctrl-C and SIGTERM.
//!
//! What it is: the first signal becomes a byte in a socket, which the reactor turns into an event; the
//! second one ends the process at once. Where there is no reactor yet, a thread that waits for such a
//! byte raises a [`Stop`]. What it is not: a judge of what ends; a handler cannot know.
//!
//! Invariant: a handler only writes a byte or leaves, which is all a handler may do.

use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use signal_hook::low_level::pipe;

use crate::kernel::Stop;

/// Catches SIGINT and SIGTERM from now on: the first arrives as a byte in the stream returned, the
/// second ends the process with `exit_code`.
///
/// # Errors
/// If the system refuses a socket or a handler.
pub fn catch(exit_code: u8) -> io::Result<UnixStream> {
    let (read, write) = UnixStream::pair()?;
    let was_caught = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // In this order: the first signal finds the flag lowered, and raises it.
        let code = i32::from(exit_code);
        flag::register_conditional_shutdown(signal, code, Arc::clone(&was_caught))?;
        flag::register(signal, Arc::clone(&was_caught))?;
        pipe::register(signal, write.try_clone()?)?;
    }
    Ok(read)
}

/// Raises `stop` at the first signal from now on, whatever else that does.
///
/// # Errors
/// If the system refuses a socket, a handler or a thread.
pub fn raise(stop: Arc<Stop>) -> io::Result<()> {
    let (mut read, write) = UnixStream::pair()?;
    for signal in [SIGINT, SIGTERM] {
        pipe::register(signal, write.try_clone()?)?;
    }
    // The handlers keep their ends, so there is a byte or nothing: the thread waits as long as the
    // process lives.
    let wait = move || {
        if read.read_exact(&mut [0]).is_ok() {
            stop.set(true);
        }
    };
    thread::Builder::new().name("signals".into()).spawn(wait)?;
    Ok(())
}
