//! One program that a test started.
//!
//! What it is: [`Process`], a child whose two outputs are read as they come. What it is not: aware of
//! what the program is.
//!
//! Invariant: a process does not outlive its `Process`, and never waits for a full pipe.

use std::io::Read;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How often a wait looks again.
pub const POLL: Duration = Duration::from_millis(10);

/// Whether the process is a run of this test. A dead one whose parent has not reaped it is none, nor
/// is another program that was given its number.
pub fn is_test(pid: u32) -> bool {
    let program = std::fs::read_link(format!("/proc/{pid}/exe"));
    program.is_ok_and(|path| {
        let name = path.file_name().unwrap_or_default();
        name.to_string_lossy().starts_with("chaos")
    })
}

/// A running program, or one that has ended.
#[derive(Debug)]
pub struct Process {
    child: Child,
    pub stdout: Capture,
    pub stderr: Capture,
}

impl Process {
    /// Starts `command`. Its standard input stays open for as long as it is not taken.
    pub fn spawn(command: &mut Command) -> Result<Process, String> {
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let spawned = command.spawn();
        let mut child = spawned.map_err(|error| format!("cannot start {command:?}: {error}"))?;
        let stdout = Capture::start(child.stdout.take().expect("it is piped"));
        let stderr = Capture::start(child.stderr.take().expect("it is piped"));
        Ok(Process {
            child,
            stdout,
            stderr,
        })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its standard input, to write to.
    pub fn stdin(&mut self) -> &mut std::process::ChildStdin {
        self.child.stdin.as_mut().expect("it is piped and kept")
    }

    /// Sends it a signal, such as `STOP`.
    pub fn signal(&self, name: &str) -> Result<(), String> {
        let (flag, pid) = (format!("-{name}"), self.pid().to_string());
        match Command::new("kill").args([&flag, &pid]).status() {
            Ok(status) if status.success() => Ok(()),
            other => Err(format!("kill {flag} {pid}: {other:?}")),
        }
    }

    /// Ends it with signal 9 and reaps it.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.finish();
    }

    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Its exit status; `None` if it still runs at `deadline`.
    pub fn wait_until(&mut self, deadline: Instant) -> Option<ExitStatus> {
        loop {
            let status = self.child.try_wait().expect("it is our child");
            if status.is_some() {
                self.finish();
                return status;
            }
            if Instant::now() >= deadline {
                return None;
            }
            thread::sleep(POLL);
        }
    }

    /// Waits until its standard output has `text` in it.
    pub fn wait_for(&self, text: &str, patience: Duration) -> Result<(), String> {
        let deadline = Instant::now() + patience;
        while !self.stdout.text().contains(text) {
            if Instant::now() >= deadline {
                let stderr = self.stderr.text();
                return Err(format!("no {text:?} within {patience:?}: {stderr}"));
            }
            thread::sleep(POLL);
        }
        Ok(())
    }

    fn finish(&mut self) {
        self.stdout.finish();
        self.stderr.finish();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What a program has printed so far.
#[derive(Debug)]
pub struct Capture {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

impl Capture {
    fn start(mut pipe: impl Read + Send + 'static) -> Capture {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&bytes);
        let reader = thread::spawn(move || {
            let mut buffer = [0; 16 << 10];
            while let Ok(len @ 1..) = pipe.read(&mut buffer) {
                let mut bytes = shared.lock().expect("no reader panics");
                bytes.extend_from_slice(&buffer[..len]);
            }
        });
        Capture {
            bytes,
            reader: Some(reader),
        }
    }

    pub fn len(&self) -> usize {
        self.bytes.lock().expect("no reader panics").len()
    }

    pub fn text(&self) -> String {
        let bytes = self.bytes.lock().expect("no reader panics");
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Waits for the end of the pipe.
    fn finish(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.join().expect("no reader panics");
        }
    }
}
