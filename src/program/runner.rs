//! One program at a time: started, listened to, and ended.
//!
//! What it is: [`Runner`], what one attempt needs and the next one uses again: the guard, the working
//! directory, the poll. What it is not: a thread; the pool's are waiting here, for the program's
//! outputs, its end, or a stop, which ends it.
//!
//! A process ends without a sound; what is heard is that its outputs are closed, and then its end is
//! waited for. If it has ended and left behind something that holds them open, only looking tells:
//! that is done after ever longer pauses.
//!
//! Invariant: when an attempt returns, its process has been waited for, or is the one that lives on.

use std::ffi::OsStr;
use std::io::{self, ErrorKind, Read};
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::unix::pipe::Receiver;
use mio::{Events, Interest, Poll, Registry, Token, Waker};
use signal_hook::consts::SIGKILL;

use super::excerpt::Excerpt;
use super::folder::Folder;
use super::guard::{Guard, Leash};
use super::lasting::Lasting;
use super::{Job, host};
use crate::command::{Ended, Report};
use crate::kernel::{KernelError, Stop, Wake};
use crate::limits::{CLEAR_UP_READS, LOOK_MAX, LOOK_MIN, PIPE_BYTES};

pub(super) const STDOUT: Token = Token(0);
pub(super) const STDERR: Token = Token(1);
pub(super) const STDIN: Token = Token(2);
const WAKE: Token = Token(3);

/// What is used again from attempt to attempt.
pub(super) struct Runner {
    pub(super) poll: Poll,
    events: Events,
    /// Ends the program, and has this look.
    wake: Wake,
    leash: Leash,
    /// Started with the first program, and anew after each whose group had to be killed.
    guard: Option<Guard>,
    folder: Option<Folder>,
    /// The process that lives on, if one does.
    pub(super) lasting: Option<Lasting>,
    /// Bytes just read.
    pub(super) piece: Box<[u8]>,
    pub(super) stdout: Vec<u8>,
    pub(super) stderr: Excerpt,
}

/// A process and the ends of its outputs that are not closed.
pub(super) struct Process {
    pub(super) child: Child,
    pub(super) stdout: Option<Receiver>,
    pub(super) stderr: Option<Receiver>,
}

/// What became of reading once.
pub(super) enum Heard {
    /// Nothing yet.
    Nothing,
    /// So many bytes; there may be more.
    Bytes(usize),
    /// Nothing ever again.
    End,
}

impl Runner {
    pub(super) fn new() -> io::Result<Runner> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKE)?;
        let leash = Leash::default();
        let held = leash.clone();
        Ok(Runner {
            poll,
            events: Events::with_capacity(4),
            wake: Arc::new(move || {
                held.cut();
                // It fails for one who is gone only.
                let _ = waker.wake();
            }),
            leash,
            guard: None,
            folder: None,
            lasting: None,
            piece: vec![0; PIPE_BYTES].into(),
            stdout: Vec::new(),
            stderr: Excerpt::default(),
        })
    }

    /// What a stop is to call.
    pub(super) fn wake(&self) -> &Wake {
        &self.wake
    }

    /// Runs the program of one line to its end.
    pub(super) fn run(
        &mut self,
        job: &Job,
        line: &[u8],
        stop: &Stop,
        output: &mut Vec<u8>,
    ) -> Result<(), KernelError> {
        let mut process = self.start(job, line, Stdio::null())?;
        self.stdout.clear();
        match self.follow(&mut process, job, stop) {
            Ok(status) => {
                let ended = ended(status);
                if status.signal() == Some(SIGKILL) {
                    // Perhaps with all its group, and then the guard is about to end as well.
                    self.guard = None;
                }
                self.report(job, ended, 0..self.stdout.len(), output)?;
                match ended {
                    Ended::Exited(0) => Ok(()),
                    _ => Err(KernelError::FailedWithOutput),
                }
            }
            Err(error) => {
                self.kill(&mut process.child);
                Err(error)
            }
        }
    }

    /// Starts the program in its group, and watches its outputs.
    pub(super) fn start(
        &mut self,
        job: &Job,
        line: &[u8],
        stdin: Stdio,
    ) -> Result<Process, KernelError> {
        let argv = job.command.argv(line);
        let argv = argv.map_err(|unfit| KernelError::Failed(unfit.to_string()))?;
        let argv: Vec<&OsStr> = argv.iter().map(|word| OsStr::from_bytes(word)).collect();
        let mut command = Command::new(&job.path);
        command.arg0(argv[0]).args(&argv[1..]);
        command.stdin(stdin).stdout(Stdio::piped());
        command.stderr(Stdio::piped());
        let group = self.group();
        command.process_group(group.map_err(|error| host("cannot start a guard", &error))?);
        if let Some(variables) = &job.variables {
            let folder = self.folder();
            let folder = folder.map_err(|error| host("no working directory", &error))?;
            command.env_clear().envs(variables.iter().cloned());
            command.env("TMPDIR", folder).current_dir(folder);
        }
        let mut child = command.spawn().map_err(|error| match error.kind() {
            // Its environment counts, too, so that it may be more than was checked.
            io::ErrorKind::ArgumentListTooLong => KernelError::Failed(error.to_string()),
            _ => host(&format!("cannot start {}", job.path.display()), &error),
        })?;
        let mut process = Process {
            stdout: child.stdout.take().map(Receiver::from),
            stderr: child.stderr.take().map(Receiver::from),
            child,
        };
        let watched = process.watch(self.poll.registry());
        if let Err(error) = watched {
            self.kill(&mut process.child);
            return Err(host("cannot watch a program", &error));
        }
        Ok(process)
    }

    /// The process group of a guard that stands.
    fn group(&mut self) -> io::Result<i32> {
        if !self.is_guarded() {
            // The old one first, as they share the leash.
            self.guard = None;
            self.guard = Some(Guard::start(&self.leash)?);
        }
        Ok(self.guard.as_ref().expect("it was just started").group())
    }

    /// Whether a guard stands, and was not told to end by a stop that came late.
    pub(super) fn is_guarded(&mut self) -> bool {
        self.guard.as_mut().is_some_and(Guard::stands)
    }

    /// The working directory, empty.
    fn folder(&mut self) -> io::Result<&Path> {
        let folder = self.folder.get_or_insert_with(Folder::new);
        match folder.empty() {
            // A program has made it such that its worker cannot; another place may do.
            Err(error) if is_spoilt(&error) => {
                *folder = Folder::new();
                folder.empty()?;
            }
            emptied => emptied?,
        }
        Ok(folder.path())
    }

    /// Takes in what a process writes until it has ended.
    fn follow(
        &mut self,
        process: &mut Process,
        job: &Job,
        stop: &Stop,
    ) -> Result<ExitStatus, KernelError> {
        let (mut pauses, mut looked_at) = (pauses(), Instant::now());
        // One that was just started has nothing to say yet.
        let mut is_heard = false;
        loop {
            go_on(stop)?;
            let is_silent = !is_heard && self.wait(pauses.next())?;
            is_heard = self.hear(process, job)?;
            if process.is_closed() {
                break;
            }
            // What it has left behind may write for ever.
            if !is_silent && looked_at.elapsed() < LOOK_MAX {
                continue;
            }
            looked_at = Instant::now();
            if let Some(status) = look(&mut process.child)? {
                self.clear_up(process, job)?;
                return Ok(status);
            }
        }
        // From here on a stop does not wake this thread, but ends what it waits for. One that has also
        // left its group holds its thread, as any kernel can.
        let waited = process.child.wait();
        waited.map_err(|error| host("cannot wait for a program", &error))
    }

    /// Reads each output once. Says whether there was anything.
    pub(super) fn hear(&mut self, process: &mut Process, job: &Job) -> Result<bool, KernelError> {
        let mut is_heard = false;
        if let Heard::Bytes(count) = read(&mut process.stdout, &mut self.piece) {
            if self.stdout.len() + count > job.report_bytes_max {
                return Err(job.too_long());
            }
            self.stdout.extend_from_slice(&self.piece[..count]);
            is_heard = true;
        }
        if let Heard::Bytes(count) = read(&mut process.stderr, &mut self.piece) {
            self.stderr.push(&self.piece[..count]);
            is_heard = true;
        }
        Ok(is_heard)
    }

    /// Sleeps until there is something to read or write, or a stop; true if the pause was over first.
    pub(super) fn wait(&mut self, pause: Option<Duration>) -> Result<bool, KernelError> {
        match self.poll.poll(&mut self.events, pause) {
            Ok(()) => Ok(self.events.is_empty()),
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(false),
            Err(error) => Err(host("cannot wait for a program", &error)),
        }
    }

    /// Ends what a program that has ended left behind, and takes in what is still in its pipes.
    fn clear_up(&mut self, process: &mut Process, job: &Job) -> Result<(), KernelError> {
        self.guard = None;
        // What has escaped may go on writing, so the end of it is not waited for.
        for _ in 0..CLEAR_UP_READS {
            if !self.hear(process, job)? {
                break;
            }
        }
        Ok(())
    }

    /// Ends a process with all its group.
    pub(super) fn kill(&mut self, child: &mut Child) {
        self.guard = None;
        // It may have left the group, or have ended by itself.
        let _ = child.kill();
        let _ = child.wait();
        self.stderr.take();
    }

    /// Appends the report of a task to `output`; its answer is a part of what was heard.
    pub(super) fn report(
        &mut self,
        job: &Job,
        ended: Ended,
        answer: Range<usize>,
        output: &mut Vec<u8>,
    ) -> Result<(), KernelError> {
        let stderr = self.stderr.take();
        if Report::HEADER_BYTES + stderr.len() + answer.len() > job.report_bytes_max {
            return Err(job.too_long());
        }
        let report = Report {
            ended,
            stderr: &stderr,
            stdout: &self.stdout[answer],
        };
        report.encode(output);
        Ok(())
    }

    /// Begins the end of whatever still runs, without waiting for it.
    pub(super) fn close(&mut self) {
        match &mut self.lasting {
            Some(lasting) => lasting.close(),
            None => self.leash.cut(),
        }
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        self.close();
        if let Some(mut lasting) = self.lasting.take() {
            lasting.wait();
            self.kill(&mut lasting.process.child);
        }
    }
}

impl Process {
    /// Whether both outputs are closed.
    fn is_closed(&self) -> bool {
        self.stdout.is_none() && self.stderr.is_none()
    }

    fn watch(&mut self, registry: &Registry) -> io::Result<()> {
        for (stream, token) in [(&mut self.stdout, STDOUT), (&mut self.stderr, STDERR)] {
            let stream = stream.as_mut().expect("both are pipes");
            stream.set_nonblocking(true)?;
            registry.register(stream, token, Interest::READABLE)?;
        }
        Ok(())
    }
}

/// Reads once; a stream that has ended is closed.
pub(super) fn read(stream: &mut Option<Receiver>, piece: &mut [u8]) -> Heard {
    let Some(open) = stream else {
        return Heard::End;
    };
    match open.read(piece) {
        Ok(count @ 1..) => Heard::Bytes(count),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Heard::Nothing,
        // A signal: it is read again, as after bytes.
        Err(error) if error.kind() == ErrorKind::Interrupted => Heard::Bytes(0),
        Ok(_) | Err(_) => {
            *stream = None;
            Heard::End
        }
    }
}

/// Whether a process has ended, and how.
pub(super) fn look(child: &mut Child) -> Result<Option<ExitStatus>, KernelError> {
    let looked = child.try_wait();
    looked.map_err(|error| host("cannot wait for a program", &error))
}

/// An error once nobody waits for the attempt any more.
pub(super) fn go_on(stop: &Stop) -> Result<(), KernelError> {
    match stop.is_raised() {
        true => Err("stopped".into()),
        false => Ok(()),
    }
}

/// How long to wait before looking again, each time.
pub(super) fn pauses() -> impl Iterator<Item = Duration> {
    let doubled = |pause: &Duration| Some((*pause * 2).min(LOOK_MAX));
    std::iter::successors(Some(LOOK_MIN), doubled)
}

/// Whether it is the folder, and not this process that has no descriptors left.
fn is_spoilt(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::PermissionDenied | ErrorKind::DirectoryNotEmpty | ErrorKind::NotADirectory
    )
}

fn ended(status: ExitStatus) -> Ended {
    match (status.code(), status.signal()) {
        (Some(code), _) => Ended::Exited(code as u8),
        (None, Some(signal)) => Ended::Signalled(signal as u8),
        (None, None) => unreachable!("a process that has ended was not just stopped"),
    }
}
