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
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::limits::GUARD_TIMEOUT;

/// What a program may send to its whole group does not concern the guard. It says when that is so.
const SCRIPT: &str = "trap '' HUP INT QUIT PIPE ALRM TERM USR1 USR2 TSTP TTIN TTOU; \
                      echo; read _; kill -KILL 0";

/// The end of the pipe that a guard waits at, for whoever may have to end its group.
#[derive(Clone, Default)]
pub struct Leash(Arc<Mutex<Option<ChildStdin>>>);

impl Leash {
    /// Has the guard, if there is one, kill its group, without waiting for that.
    pub fn cut(&self) {
        *self.lock() = None;
    }

    fn lock(&self) -> MutexGuard<'_, Option<ChildStdin>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Leads a process group that ends with it.
pub struct Guard {
    shell: Child,
    leash: Leash,
}

impl Guard {
    /// Starts one that waits at the end of `leash`, which no other guard does.
    ///
    /// # Errors
    /// The system's.
    pub fn start(leash: &Leash) -> io::Result<Guard> {
        let mut shell = shell(SCRIPT);
        shell.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut shell = shell.process_group(0).spawn()?;
        let ready = shell.stdout.take().expect("it is a pipe");
        *leash.lock() = shell.stdin.take();
        let leash = leash.clone();
        let guard = Guard { shell, leash };
        ready.take(1).read_exact(&mut [0])?;
        Ok(guard)
    }

    /// Whether it lives and is to go on. A group whose guard was killed is not guarded.
    pub fn stands(&mut self) -> bool {
        self.leash.lock().is_some() && matches!(self.shell.try_wait(), Ok(None))
    }

    /// For [`CommandExt::process_group`].
    pub fn group(&self) -> i32 {
        self.shell.id() as i32
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.leash.cut();
        if wait_within(&mut self.shell, GUARD_TIMEOUT).is_none() {
            // The program has stopped the whole group. One that joins it is not stopped.
            let killer = shell("kill -KILL 0").process_group(self.group()).spawn();
            let _ = killer.and_then(|mut killer| killer.wait());
            wait_within(&mut self.shell, GUARD_TIMEOUT);
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
