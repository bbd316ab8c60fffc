//! The wire: what the bytes between a head and a worker mean. `docs/PROTOCOL.md` is its page.
//!
//! What it is: the opening, the frames, their encoding ([`Frame::encode`]), their strict decoding
//! ([`Decoder`]) and the buffer in which they wait for the socket ([`Outbox`]). What it is not: a
//! socket, or a judge of what a frame means at this moment; that is for the roles.
//!
//! Invariant: the encoding is canonical. Whatever the decoder accepts re-encodes to the same bytes;
//! everything else is a [`FrameError`], and a stream that has had one yields nothing further.

use byteorder::{BigEndian, ByteOrder};

use crate::payload::Bytes;
use crate::role::Attempt;

mod decoder;
mod error;
mod kind;
mod opening;
mod outbox;
mod row;

pub use decoder::{Decoder, Frames};
pub use error::FrameError;
pub use kind::Kind;
pub use opening::{PROTOCOL_VERSION, Side, check_opening, keyed_opening, opening};
pub use outbox::Outbox;
pub use row::{Outcome, Task};

/// Runs the byte examples of the page, so that it cannot drift from the code.
#[cfg(doctest)]
#[doc = include_str!("../docs/PROTOCOL.md")]
pub struct ProtocolPage;

/// Length of the opening, and of every frame's header.
pub const HEADER_BYTES: usize = 8;
/// Most bytes a frame body may have beside its payload.
pub const FIXED_BYTES_MAX: usize = 32;
/// Longest release string in a greeting.
pub const RELEASE_BYTES_MAX: usize = 32;

/// Field positions, in the header and the bodies.
mod field {
    use std::ops::Range;

    pub const LENGTH: Range<usize> = 0..4;
    pub const KIND: usize = 4;
    pub const RESERVED: Range<usize> = 5..8;

    // `_END`: where the fixed fields of a body end. In some the rest is one more field.
    pub const HELLO_PAYLOAD_MAX: Range<usize> = 0..4;
    pub const HELLO_END: usize = 4;

    pub const WELCOME_SLOTS: Range<usize> = 0..2;
    pub const WELCOME_CREDIT_TASKS: Range<usize> = 2..6;
    pub const WELCOME_CREDIT_BYTES: Range<usize> = 6..10;
    pub const WELCOME_PAYLOAD_MAX: Range<usize> = 10..14;
    pub const WELCOME_INCARNATION: Range<usize> = 14..22;
    pub const WELCOME_END: usize = 22;

    pub const REFUSE_CODE: usize = 0;
    pub const REFUSE_END: usize = 1;

    pub const JOB_TIMEOUT_MS: Range<usize> = 0..4;
    pub const JOB_KERNEL_LEN: usize = 4;
    pub const JOB_END: usize = 5;

    pub const TASK_NUMBER: Range<usize> = 0..8;
    pub const TASK_ATTEMPT: Range<usize> = 8..12;
    pub const TASK_END: usize = 12;

    pub const OUTCOME_STATUS: usize = 12;
    pub const OUTCOME_RUN_US: Range<usize> = 13..17;
    pub const OUTCOME_END: usize = 17;

    pub const CANCEL_RUNNING: usize = 12;
    pub const CANCEL_END: usize = 13;

    pub const SLOTS: Range<usize> = 0..2;
    pub const SLOTS_END: usize = 2;

    pub const USAGE_CPU_MS: Range<usize> = 0..4;
    pub const USAGE_WAITED_MS: Range<usize> = 4..8;
    pub const USAGE_END: usize = 8;
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// The kernel returned an output.
    Done,
    /// The kernel returned an error, or panicked: the task's own answer.
    Failed,
    /// It has no answer, for a reason that is not the task's: it did not run, or was cancelled.
    Returned,
    /// It ran for longer than the job allows: the task's own answer, like a failure.
    TimedOut,
}

impl Status {
    /// Whether it is the task's own answer and there is no output, only a reason.
    pub fn is_failure(self) -> bool {
        matches!(self, Status::Failed | Status::TimedOut)
    }
}

/// Why a worker turns a head away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It has no kernel of that name, or not with that set-up. It will not have it later either.
    Job,
    /// It serves as many heads as it may, or is about to end. Later it may serve this one.
    Busy,
    /// The head broke the protocol.
    Protocol,
}

/// One message. Borrowed from the buffer it arrived in, or from whatever is to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// Head's greeting: its first frame.
    Hello {
        /// Longest payload it takes, in bytes.
        payload_max: u32,
        /// Its release, for log lines only.
        release: &'a str,
    },
    /// Worker's answer to `Hello`: its first frame.
    Welcome {
        /// Threads that compute; at least 1.
        slots: u16,
        /// Attempts the head may have in flight on this session; at least 1.
        credit_tasks: u32,
        /// Input bytes the head may have in flight; one task may exceed it alone.
        credit_bytes: u32,
        /// Longest payload it takes, in bytes.
        payload_max: u32,
        /// Drawn when its process began: the same number on a later connection means that the
        /// process has lived on, and so has whatever it ran.
        incarnation: u64,
        /// Its release, for log lines only.
        release: &'a str,
    },
    /// The worker will not serve this head; nothing follows.
    Refuse {
        /// For programs.
        refusal: Refusal,
        /// For people.
        reason: &'a str,
    },
    /// What all tasks of this session run. Once, before the first `Task`.
    Job {
        /// How long the kernel may run for one attempt, in milliseconds; 0 for as long as it takes.
        timeout_ms: u32,
        /// Name of the kernel.
        kernel: &'a str,
        /// Whatever that kernel wants to know once rather than with every task.
        setup: &'a [u8],
    },
    /// One attempt to run.
    Task(Task<'a>),
    /// The end of one attempt; exactly one per `Task` unless the session ends first.
    Outcome(Outcome<'a>),
    /// "Are you there?" Either way.
    Ping,
    /// "Yes." Either way.
    Pong,
    /// The worker is about to end: it answers what runs, returns the rest and takes nothing new.
    Drain,
    /// The head does not need this attempt any more; it still gets its one `Outcome`. Of one that
    /// was answered already nothing follows: the two have crossed.
    Cancel {
        /// Which attempt of which task.
        attempt: Attempt,
        /// Stop it if it runs; otherwise only take it back if it has not started.
        running: bool,
    },
    /// How many threads of the worker compute now: less than it said if a kernel does not end.
    Slots {
        /// At least 1: a worker without any drains.
        slots: u16,
    },
    /// What the worker's process has had of its machine since the last `Usage` of this session, or
    /// since it was last looked at before its `Job`. Tasks of other heads are in it.
    Usage {
        /// How long its threads, and programs it has started, ran on a processor, summed.
        cpu_ms: u32,
        /// How long they could have run and got no processor, summed; but see
        /// [`Usage::waited`](crate::role::Usage::waited).
        waited_ms: u32,
    },
}

impl<'a> Frame<'a> {
    /// Its kind.
    pub fn kind(&self) -> Kind {
        match self {
            Frame::Hello { .. } => Kind::Hello,
            Frame::Welcome { .. } => Kind::Welcome,
            Frame::Refuse { .. } => Kind::Refuse,
            Frame::Job { .. } => Kind::Job,
            Frame::Task(_) => Kind::Task,
            Frame::Outcome(_) => Kind::Outcome,
            Frame::Ping => Kind::Ping,
            Frame::Pong => Kind::Pong,
            Frame::Drain => Kind::Drain,
            Frame::Cancel { .. } => Kind::Cancel,
            Frame::Slots { .. } => Kind::Slots,
            Frame::Usage { .. } => Kind::Usage,
        }
    }

    /// Bytes it takes on the wire, header included.
    #[inline(always)]
    pub fn encoded_bytes(&self) -> usize {
        HEADER_BYTES
            + match self {
                Frame::Hello { release, .. } => field::HELLO_END + release.len(),
                Frame::Welcome { release, .. } => field::WELCOME_END + release.len(),
                Frame::Refuse { reason, .. } => field::REFUSE_END + reason.len(),
                Frame::Job { kernel, setup, .. } => field::JOB_END + kernel.len() + setup.len(),
                Frame::Task(task) => field::TASK_END + task.input.len(),
                Frame::Outcome(outcome) => field::OUTCOME_END + outcome.output.len(),
                Frame::Ping | Frame::Pong | Frame::Drain => 0,
                Frame::Cancel { .. } => field::CANCEL_END,
                Frame::Slots { .. } => field::SLOTS_END,
                Frame::Usage { .. } => field::USAGE_END,
            }
    }

    /// Appends its encoding to `out` and returns the number of bytes appended.
    ///
    /// # Panics
    /// If a kernel's name is longer than 255 bytes or a body than 4 GiB: ours to prevent.
    #[inline(always)]
    pub fn encode(&self, out: &mut Vec<u8>) -> usize {
        let kind = self.kind();
        match *self {
            Frame::Hello {
                payload_max,
                release,
            } => {
                let mut fixed = [0; field::HELLO_END];
                BigEndian::write_u32(&mut fixed[field::HELLO_PAYLOAD_MAX], payload_max);
                append(kind, fixed, [release.as_bytes()], out)
            }
            Frame::Welcome {
                slots,
                credit_tasks,
                credit_bytes,
                payload_max,
                incarnation,
                release,
            } => {
                let mut fixed = [0; field::WELCOME_END];
                BigEndian::write_u16(&mut fixed[field::WELCOME_SLOTS], slots);
                BigEndian::write_u32(&mut fixed[field::WELCOME_CREDIT_TASKS], credit_tasks);
                BigEndian::write_u32(&mut fixed[field::WELCOME_CREDIT_BYTES], credit_bytes);
                BigEndian::write_u32(&mut fixed[field::WELCOME_PAYLOAD_MAX], payload_max);
                BigEndian::write_u64(&mut fixed[field::WELCOME_INCARNATION], incarnation);
                append(kind, fixed, [release.as_bytes()], out)
            }
            Frame::Refuse { refusal, reason } => {
                let mut fixed = [0; field::REFUSE_END];
                fixed[field::REFUSE_CODE] = match refusal {
                    Refusal::Job => 1,
                    Refusal::Busy => 2,
                    Refusal::Protocol => 3,
                };
                append(kind, fixed, [reason.as_bytes()], out)
            }
            Frame::Job {
                timeout_ms,
                kernel,
                setup,
            } => {
                let mut fixed = [0; field::JOB_END];
                BigEndian::write_u32(&mut fixed[field::JOB_TIMEOUT_MS], timeout_ms);
                fixed[field::JOB_KERNEL_LEN] =
                    u8::try_from(kernel.len()).expect("a kernel's name has at most 255 bytes");
                append(kind, fixed, [kernel.as_bytes(), setup], out)
            }
            Frame::Task(Task { attempt, input }) => {
                let write = |fixed: &mut [u8]| write_attempt(fixed, attempt);
                const NUMBER_END: usize = HEADER_BYTES + field::TASK_END + 8;
                if let Ok(number) = <&[u8; 8]>::try_from(&input[..]) {
                    return append_number::<NUMBER_END>(kind, write, number, out);
                }
                let mut fixed = [0; field::TASK_END];
                write(&mut fixed);
                append(kind, fixed, [&input], out)
            }
            Frame::Outcome(Outcome {
                attempt,
                status,
                run_us,
                output,
            }) => {
                let write = |fixed: &mut [u8]| {
                    write_attempt(fixed, attempt);
                    fixed[field::OUTCOME_STATUS] = match status {
                        Status::Done => 0,
                        Status::Failed => 1,
                        Status::Returned => 2,
                        Status::TimedOut => 3,
                    };
                    BigEndian::write_u32(&mut fixed[field::OUTCOME_RUN_US], run_us);
                };
                const NUMBER_END: usize = HEADER_BYTES + field::OUTCOME_END + 8;
                if let Ok(number) = <&[u8; 8]>::try_from(&output[..]) {
                    return append_number::<NUMBER_END>(kind, write, number, out);
                }
                let mut fixed = [0; field::OUTCOME_END];
                write(&mut fixed);
                append(kind, fixed, [&output], out)
            }
            Frame::Ping | Frame::Pong | Frame::Drain => append(kind, [], [], out),
            Frame::Cancel { attempt, running } => {
                let mut fixed = [0; field::CANCEL_END];
                write_attempt(&mut fixed, attempt);
                fixed[field::CANCEL_RUNNING] = u8::from(running);
                append(kind, fixed, [], out)
            }
            Frame::Slots { slots } => {
                let mut fixed = [0; field::SLOTS_END];
                BigEndian::write_u16(&mut fixed[field::SLOTS], slots);
                append(kind, fixed, [], out)
            }
            Frame::Usage { cpu_ms, waited_ms } => {
                let mut fixed = [0; field::USAGE_END];
                BigEndian::write_u32(&mut fixed[field::USAGE_CPU_MS], cpu_ms);
                BigEndian::write_u32(&mut fixed[field::USAGE_WAITED_MS], waited_ms);
                append(kind, fixed, [], out)
            }
        }
    }

    /// Reads a body of `kind`. Strict: every byte has a meaning and only one encoding.
    #[inline(always)]
    fn parse(kind: Kind, body: Bytes<'a>) -> Result<Frame<'a>, FrameError> {
        match kind {
            Kind::Task => Task::parse(body).map(Frame::Task),
            Kind::Outcome => Outcome::parse(body).map(Frame::Outcome),
            _ => Frame::parse_rare(kind, body.as_slice()),
        }
    }

    /// The same for the kinds that do not come by the million.
    #[cold]
    fn parse_rare(kind: Kind, body: &'a [u8]) -> Result<Frame<'a>, FrameError> {
        let value = |what| FrameError::Value { kind, what };
        Ok(match kind {
            Kind::Hello => {
                let (fixed, tail) = split::<{ field::HELLO_END }>(kind, body)?;
                Frame::Hello {
                    payload_max: BigEndian::read_u32(&fixed[field::HELLO_PAYLOAD_MAX]),
                    release: release(kind, tail)?,
                }
            }
            Kind::Welcome => {
                let (fixed, tail) = split::<{ field::WELCOME_END }>(kind, body)?;
                Frame::Welcome {
                    slots: match BigEndian::read_u16(&fixed[field::WELCOME_SLOTS]) {
                        0 => return Err(value("no slots")),
                        slots => slots,
                    },
                    credit_tasks: match BigEndian::read_u32(&fixed[field::WELCOME_CREDIT_TASKS]) {
                        0 => return Err(value("no credit")),
                        credit => credit,
                    },
                    credit_bytes: BigEndian::read_u32(&fixed[field::WELCOME_CREDIT_BYTES]),
                    payload_max: BigEndian::read_u32(&fixed[field::WELCOME_PAYLOAD_MAX]),
                    incarnation: BigEndian::read_u64(&fixed[field::WELCOME_INCARNATION]),
                    release: release(kind, tail)?,
                }
            }
            Kind::Refuse => {
                let (fixed, tail) = split::<{ field::REFUSE_END }>(kind, body)?;
                Frame::Refuse {
                    refusal: match fixed[field::REFUSE_CODE] {
                        1 => Refusal::Job,
                        2 => Refusal::Busy,
                        3 => Refusal::Protocol,
                        _ => return Err(value("unknown refusal")),
                    },
                    reason: text(kind, tail)?,
                }
            }
            Kind::Job => {
                let (fixed, tail) = split::<{ field::JOB_END }>(kind, body)?;
                let kernel_bytes = usize::from(fixed[field::JOB_KERNEL_LEN]);
                let parts = tail.split_at_checked(kernel_bytes);
                let (kernel, setup) = parts.ok_or(FrameError::Short { kind })?;
                Frame::Job {
                    timeout_ms: BigEndian::read_u32(&fixed[field::JOB_TIMEOUT_MS]),
                    kernel: text(kind, kernel)?,
                    setup,
                }
            }
            Kind::Task | Kind::Outcome => unreachable!("the caller has read those"),
            Kind::Ping => whole::<0>(kind, body).map(|_| Frame::Ping)?,
            Kind::Pong => whole::<0>(kind, body).map(|_| Frame::Pong)?,
            Kind::Drain => whole::<0>(kind, body).map(|_| Frame::Drain)?,
            Kind::Cancel => {
                let fixed = whole::<{ field::CANCEL_END }>(kind, body)?;
                Frame::Cancel {
                    attempt: read_attempt(kind, fixed)?,
                    running: match fixed[field::CANCEL_RUNNING] {
                        0 => false,
                        1 => true,
                        _ => return Err(value("unknown extent")),
                    },
                }
            }
            Kind::Slots => {
                let fixed = whole::<{ field::SLOTS_END }>(kind, body)?;
                match BigEndian::read_u16(&fixed[field::SLOTS]) {
                    0 => return Err(value("no slots")),
                    slots => Frame::Slots { slots },
                }
            }
            Kind::Usage => {
                let fixed = whole::<{ field::USAGE_END }>(kind, body)?;
                Frame::Usage {
                    cpu_ms: BigEndian::read_u32(&fixed[field::USAGE_CPU_MS]),
                    waited_ms: BigEndian::read_u32(&fixed[field::USAGE_WAITED_MS]),
                }
            }
        })
    }
}

/// Appends a frame whose payload is a number, as most are: `BYTES` in all, and each field written
/// where it stays. `write` writes the fixed ones.
#[inline(always)]
fn append_number<const BYTES: usize>(
    kind: Kind,
    write: impl FnOnce(&mut [u8]),
    number: &[u8; 8],
    out: &mut Vec<u8>,
) -> usize {
    let begin = out.len();
    out.extend_from_slice(&[0; BYTES]);
    let frame: &mut [u8; BYTES] = out[begin..].first_chunk_mut().expect("it was just added");
    BigEndian::write_u32(&mut frame[field::LENGTH], (BYTES - HEADER_BYTES) as u32);
    frame[field::KIND] = kind as u8;
    write(&mut frame[HEADER_BYTES..BYTES - 8]);
    frame[BYTES - 8..].copy_from_slice(number);
    BYTES
}

/// Appends a frame whose body is `fixed` and then `rest`. Lengths known to the compiler make both
/// parts of a small frame plain stores instead of calls.
#[inline(always)]
fn append<const FIXED: usize, const PARTS: usize>(
    kind: Kind,
    fixed: [u8; FIXED],
    rest: [&[u8]; PARTS],
    out: &mut Vec<u8>,
) -> usize {
    let body_bytes = FIXED + rest.iter().map(|part| part.len()).sum::<usize>();
    let mut header = [0; HEADER_BYTES];
    let length = u32::try_from(body_bytes).expect("a body is below 4 GiB");
    BigEndian::write_u32(&mut header[field::LENGTH], length);
    header[field::KIND] = kind as u8;
    out.reserve(HEADER_BYTES + body_bytes);
    out.extend_from_slice(&header);
    out.extend_from_slice(&fixed);
    for part in rest {
        out.extend_from_slice(part);
    }
    HEADER_BYTES + body_bytes
}

/// The fixed fields of a body, and the rest.
fn split<const FIXED: usize>(kind: Kind, body: &[u8]) -> Result<(&[u8; FIXED], &[u8]), FrameError> {
    (body.split_first_chunk()).ok_or(FrameError::Short { kind })
}

/// The same of a body that ends with a payload.
#[inline(always)]
fn split_payload<const FIXED: usize>(
    kind: Kind,
    body: Bytes<'_>,
) -> Result<(&[u8; FIXED], Bytes<'_>), FrameError> {
    body.split_first_chunk().ok_or(FrameError::Short { kind })
}

/// The fixed fields of a body that has no others.
fn whole<const FIXED: usize>(kind: Kind, body: &[u8]) -> Result<&[u8; FIXED], FrameError> {
    match split(kind, body)? {
        (fixed, []) => Ok(fixed),
        _ => Err(FrameError::Trailing { kind }),
    }
}

/// The beginning of an error text that may travel.
pub fn cut(reason: &str) -> &str {
    &reason[..reason.floor_char_boundary(crate::limits::REASON_BYTES_MAX)]
}

fn write_attempt(fixed: &mut [u8], attempt: Attempt) {
    BigEndian::write_u64(&mut fixed[field::TASK_NUMBER], attempt.task);
    BigEndian::write_u32(&mut fixed[field::TASK_ATTEMPT], attempt.number);
}

fn read_attempt(kind: Kind, fixed: &[u8]) -> Result<Attempt, FrameError> {
    let task = BigEndian::read_u64(&fixed[field::TASK_NUMBER]);
    match BigEndian::read_u32(&fixed[field::TASK_ATTEMPT]) {
        0 => Err(FrameError::Value {
            kind,
            what: "attempt 0",
        }),
        number => Ok(Attempt { task, number }),
    }
}

fn text(kind: Kind, bytes: &[u8]) -> Result<&str, FrameError> {
    std::str::from_utf8(bytes).map_err(|_| FrameError::Value {
        kind,
        what: "text that is not UTF-8",
    })
}

fn release(kind: Kind, bytes: &[u8]) -> Result<&str, FrameError> {
    if bytes.len() > RELEASE_BYTES_MAX {
        return Err(FrameError::Trailing { kind });
    }
    text(kind, bytes)
}
