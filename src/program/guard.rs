//! What ends a program and all it has started.
//!
//! What it is: [`Guard`], a process that leads a process group and waits at a pipe whose other end
//! this process alone holds. When that closes, because the guard is dropped here or because this
//! process has died of whatever, it kills its group and thereby itself. Programs are in the group
//! before their first instruction. What it is not: a cage; a program may leave the group, or kill the
//! guard if it looks for it.
//!
//! It is the system's `sh`, as a guard of our own would need `unsafe` or a third program to install.
//! The options not taken: a parent-death signal (`unsafe`, and it misses grandchildren), and killing
//! from here by group number, which a `kill -9` of this process prevents.
//!
//! Invariant: a group has one guard, which is waited for after the group is killed, so that its number
//! is never another's while it is used.

use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::limits::GUARD_TIMEOUT;

/// What a program may send to its whole group does not concern the guard. It says when that is so.
const SCRIPT: &str = "trap '' HUP INT QUIT PIPE ALRM TERM USR1 USR2 TSTP TTIN TTOU; \
                      echo; read _; kill -KILL 0";

/// Leads a process group that ends with it.
pub struct Guard(Child);

impl Guard {
    /// Starts one.
    ///
    /// # Errors
    /// The system's.
    pub fn start() -> io::Result<Guard> {
        let mut shell = shell(SCRIPT);
        shell.process_group(0).stdin(Stdio::piped());
        let mut guard = shell.stdout(Stdio::piped()).spawn().map(Guard)?;
        let ready = guard.0.stdout.take().expect("it is a pipe");
        ready.take(1).read_exact(&mut [0])?;
        Ok(guard)
    }

    /// Whether it lives. A group whose guard was killed is not guarded.
    pub fn stands(&mut self) -> bool {
        matches!(self.0.try_wait(), Ok(None))
    }

    /// For [`CommandExt::process_group`].
    pub fn group(&self) -> i32 {
        self.0.id() as i32
    }

    /// Has it kill its group, without waiting for that.
    pub fn close(&mut self) {
        drop(self.0.stdin.take());
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.close();
        if wait_within(&mut self.0, GUARD_TIMEOUT).is_none() {
            // The program has stopped the whole group. One that joins it is not stopped.
            let killer = shell("kill -KILL 0").process_group(self.group()).spawn();
            let _ = killer.and_then(|mut killer| killer.wait());
            wait_within(&mut self.0, GUARD_TIMEOUT);
        }
    }
}

/// A shell that shares nothing with this process. Only texts of ours are ever its commands.
fn shell(script: &str) -> Command {
    let mut shell = Command::new("/bin/sh");
    shell.arg("-c").arg(script).env_clear().current_dir("/");
    shell.stdin(Stdio::null()).stdout(Stdio::null());
    shell.stderr(Stdio::null());
    shell
}

/// Waits for the end of a process that is about to end.
pub fn wait_within(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let begin = Instant::now();
    for pause_us in (0..).map(|round: u32| 20 << round.min(8)) {
        match child.try_wait() {
            Ok(None) if begin.elapsed() < limit => {
                thread::sleep(Duration::from_micros(pause_us));
            }
            ended => return ended.ok().flatten(),
        }
    }
    unreachable!("the rounds do not end")
}
