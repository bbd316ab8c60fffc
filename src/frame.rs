//! The wire: what the bytes between a head and a worker mean. `docs/PROTOCOL.md` is its page.
//!
//! What it is: the opening, the frames, their encoding ([`Frame::encode`]), their strict decoding
//! ([`Decoder`]) and the buffer in which they wait for the socket ([`Outbox`]). What it is not: a
//! socket, or a judge of what a frame means at this moment; that is for the roles.
//!
//! Invariant: the encoding is canonical. Whatever the decoder accepts re-encodes to the same bytes;
//! everything else is a [`FrameError`], and a stream that has had one yields nothing further.

use std::fmt;

use byteorder::{BigEndian, ByteOrder};

use crate::role::Attempt;

mod decoder;
mod error;
mod kind;
mod outbox;

pub use decoder::{Decoder, Frames};
pub use error::FrameError;
pub use kind::Kind;
pub use outbox::Outbox;

/// Runs the byte examples of the page, so that it cannot drift from the code.
#[cfg(doctest)]
#[doc = include_str!("../docs/PROTOCOL.md")]
pub struct ProtocolPage;

/// Version of this wire, not of the release. It changes when an old peer would misread a new one.
pub const PROTOCOL_VERSION: u16 = 2;
/// Length of the opening, and of every frame's header.
pub const HEADER_BYTES: usize = 8;
/// Most bytes a frame body may have beside its payload.
pub const FIXED_BYTES_MAX: usize = 32;
/// Longest release string in a greeting.
pub const RELEASE_BYTES_MAX: usize = 32;

/// First bytes of both directions. The line end makes a web server answer at once, so that it is
/// recognised by its answer and not by a time-out.
const MAGIC: [u8; 4] = *b"TM\r\n";

/// Field positions, in the opening, the header and the bodies.
mod field {
    use std::ops::{Range, RangeFrom};

    pub const MAGIC: Range<usize> = 0..4;
    pub const VERSION: Range<usize> = 4..6;
    pub const SIDE: usize = 6;
    pub const KEYED: usize = 7;

    pub const LENGTH: Range<usize> = 0..4;
    pub const KIND: usize = 4;
    pub const RESERVED: Range<usize> = 5..8;

    pub const HELLO_PAYLOAD_MAX: Range<usize> = 0..4;
    pub const HELLO_RELEASE: RangeFrom<usize> = 4..;

    pub const WELCOME_SLOTS: Range<usize> = 0..2;
    pub const WELCOME_CREDIT_TASKS: Range<usize> = 2..6;
    pub const WELCOME_CREDIT_BYTES: Range<usize> = 6..10;
    pub const WELCOME_PAYLOAD_MAX: Range<usize> = 10..14;
    pub const WELCOME_INCARNATION: Range<usize> = 14..22;
    pub const WELCOME_RELEASE: RangeFrom<usize> = 22..;

    pub const REFUSE_CODE: usize = 0;
    pub const REFUSE_REASON: RangeFrom<usize> = 1..;

    pub const JOB_TIMEOUT_MS: Range<usize> = 0..4;
    pub const JOB_KERNEL_LEN: usize = 4;
    pub const JOB_KERNEL: RangeFrom<usize> = 5..;

    pub const TASK_NUMBER: Range<usize> = 0..8;
    pub const TASK_ATTEMPT: Range<usize> = 8..12;
    pub const TASK_INPUT: RangeFrom<usize> = 12..;

    pub const OUTCOME_STATUS: usize = 12;
    pub const OUTCOME_RUN_US: Range<usize> = 13..17;
    pub const OUTCOME_OUTPUT: RangeFrom<usize> = 17..;

    pub const CANCEL_RUNNING: usize = 12;
    pub const CANCEL_END: usize = 13;

    pub const SLOTS: Range<usize> = 0..2;
}

/// Which end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Dials, sends tasks.
    Head,
    /// Listens, sends outcomes.
    Worker,
}

impl Side {
    /// The other end.
    pub const fn peer(self) -> Side {
        match self {
            Side::Head => Side::Worker,
            Side::Worker => Side::Head,
        }
    }

    const fn byte(self) -> u8 {
        match self {
            Side::Head => b'h',
            Side::Worker => b'w',
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Side::Head => "head",
            Side::Worker => "worker",
        })
    }
}

/// The 8 plain bytes that `side` sends first: magic, version, side, 0 for "no key".
pub fn opening(side: Side) -> [u8; HEADER_BYTES] {
    let mut bytes = [0; HEADER_BYTES];
    bytes[field::MAGIC].copy_from_slice(&MAGIC);
    BigEndian::write_u16(&mut bytes[field::VERSION], PROTOCOL_VERSION);
    bytes[field::SIDE] = side.byte();
    bytes
}

/// Checks the opening that the peer of `ours` sent.
fn check_opening(ours: Side, bytes: &[u8; HEADER_BYTES]) -> Result<(), FrameError> {
    if bytes[field::MAGIC] != MAGIC {
        return Err(FrameError::NotTeamster);
    }
    let version = BigEndian::read_u16(&bytes[field::VERSION]);
    if version != PROTOCOL_VERSION {
        return Err(FrameError::Version { theirs: version });
    }
    if bytes[field::SIDE] != ours.peer().byte() {
        return Err(FrameError::SameSide);
    }
    if bytes[field::KEYED] != 0 {
        return Err(FrameError::Keyed);
    }
    Ok(())
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
    Task {
        /// Which attempt of which task.
        attempt: Attempt,
        /// Input for the kernel.
        input: &'a [u8],
    },
    /// The end of one attempt; exactly one per `Task` unless the session ends first.
    Outcome {
        /// Which attempt of which task.
        attempt: Attempt,
        /// How it ended.
        status: Status,
        /// How long the kernel ran, in microseconds; `u32::MAX` if longer.
        run_us: u32,
        /// The output, or the error's text.
        output: &'a [u8],
    },
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
}

impl<'a> Frame<'a> {
    /// Its kind.
    pub fn kind(&self) -> Kind {
        match self {
            Frame::Hello { .. } => Kind::Hello,
            Frame::Welcome { .. } => Kind::Welcome,
            Frame::Refuse { .. } => Kind::Refuse,
            Frame::Job { .. } => Kind::Job,
            Frame::Task { .. } => Kind::Task,
            Frame::Outcome { .. } => Kind::Outcome,
            Frame::Ping => Kind::Ping,
            Frame::Pong => Kind::Pong,
            Frame::Drain => Kind::Drain,
            Frame::Cancel { .. } => Kind::Cancel,
            Frame::Slots { .. } => Kind::Slots,
        }
    }

    /// Bytes it takes on the wire, header included.
    pub fn encoded_bytes(&self) -> usize {
        HEADER_BYTES
            + match self {
                Frame::Hello { release, .. } => field::HELLO_RELEASE.start + release.len(),
                Frame::Welcome { release, .. } => field::WELCOME_RELEASE.start + release.len(),
                Frame::Refuse { reason, .. } => field::REFUSE_REASON.start + reason.len(),
                Frame::Job { kernel, setup, .. } => {
                    field::JOB_KERNEL.start + kernel.len() + setup.len()
                }
                Frame::Task { input, .. } => field::TASK_INPUT.start + input.len(),
                Frame::Outcome { output, .. } => field::OUTCOME_OUTPUT.start + output.len(),
                Frame::Ping | Frame::Pong | Frame::Drain => 0,
                Frame::Cancel { .. } => field::CANCEL_END,
                Frame::Slots { .. } => field::SLOTS.end,
            }
    }

    /// Appends its encoding to `out` and returns the number of bytes appended.
    ///
    /// # Panics
    /// If a kernel's name is longer than 255 bytes or a body than 4 GiB: ours to prevent.
    pub fn encode(&self, out: &mut Vec<u8>) -> usize {
        let bytes = self.encoded_bytes();
        let body_bytes = u32::try_from(bytes - HEADER_BYTES).expect("a body is below 4 GiB");
        // Header and fixed part are built in place, then copied at once with the tail: two copies
        // of known length instead of one bounds check per field.
        let mut fixed = [0; HEADER_BYTES + FIXED_BYTES_MAX];
        BigEndian::write_u32(&mut fixed[field::LENGTH], body_bytes);
        fixed[field::KIND] = self.kind() as u8;
        let tail = self.fill(&mut fixed[HEADER_BYTES..]);
        out.reserve(bytes);
        match *self {
            Frame::Job { kernel, setup, .. } => {
                out.extend_from_slice(&fixed[..HEADER_BYTES + field::JOB_KERNEL.start]);
                out.extend_from_slice(kernel.as_bytes());
                out.extend_from_slice(setup);
            }
            _ => {
                out.extend_from_slice(&fixed[..bytes - tail.len()]);
                out.extend_from_slice(tail);
            }
        }
        bytes
    }

    /// Writes the fixed fields into `body` and returns the variable tail.
    fn fill(&self, body: &mut [u8]) -> &'a [u8] {
        match *self {
            Frame::Hello {
                payload_max,
                release,
            } => {
                BigEndian::write_u32(&mut body[field::HELLO_PAYLOAD_MAX], payload_max);
                release.as_bytes()
            }
            Frame::Welcome {
                slots,
                credit_tasks,
                credit_bytes,
                payload_max,
                incarnation,
                release,
            } => {
                BigEndian::write_u16(&mut body[field::WELCOME_SLOTS], slots);
                BigEndian::write_u32(&mut body[field::WELCOME_CREDIT_TASKS], credit_tasks);
                BigEndian::write_u32(&mut body[field::WELCOME_CREDIT_BYTES], credit_bytes);
                BigEndian::write_u32(&mut body[field::WELCOME_PAYLOAD_MAX], payload_max);
                BigEndian::write_u64(&mut body[field::WELCOME_INCARNATION], incarnation);
                release.as_bytes()
            }
            Frame::Refuse { refusal, reason } => {
                body[field::REFUSE_CODE] = match refusal {
                    Refusal::Job => 1,
                    Refusal::Busy => 2,
                    Refusal::Protocol => 3,
                };
                reason.as_bytes()
            }
            Frame::Job {
                timeout_ms,
                kernel,
                setup,
            } => {
                BigEndian::write_u32(&mut body[field::JOB_TIMEOUT_MS], timeout_ms);
                body[field::JOB_KERNEL_LEN] =
                    u8::try_from(kernel.len()).expect("a kernel's name has at most 255 bytes");
                setup
            }
            Frame::Task { attempt, input } => {
                fill_attempt(body, attempt);
                input
            }
            Frame::Outcome {
                attempt,
                status,
                run_us,
                output,
            } => {
                fill_attempt(body, attempt);
                body[field::OUTCOME_STATUS] = match status {
                    Status::Done => 0,
                    Status::Failed => 1,
                    Status::Returned => 2,
                    Status::TimedOut => 3,
                };
                BigEndian::write_u32(&mut body[field::OUTCOME_RUN_US], run_us);
                output
            }
            Frame::Ping | Frame::Pong | Frame::Drain => &[],
            Frame::Cancel { attempt, running } => {
                fill_attempt(body, attempt);
                body[field::CANCEL_RUNNING] = u8::from(running);
                &[]
            }
            Frame::Slots { slots } => {
                BigEndian::write_u16(&mut body[field::SLOTS], slots);
                &[]
            }
        }
    }

    /// Reads a body of `kind`. Strict: every byte has a meaning and only one encoding.
    fn parse(kind: Kind, body: &'a [u8]) -> Result<Frame<'a>, FrameError> {
        let value = |what| FrameError::Value { kind, what };
        let fixed_bytes = match kind {
            Kind::Hello => field::HELLO_RELEASE.start,
            Kind::Welcome => field::WELCOME_RELEASE.start,
            Kind::Refuse => field::REFUSE_REASON.start,
            Kind::Job => field::JOB_KERNEL.start,
            Kind::Task => field::TASK_INPUT.start,
            Kind::Outcome => field::OUTCOME_OUTPUT.start,
            Kind::Ping | Kind::Pong | Kind::Drain => 0,
            Kind::Cancel => field::CANCEL_END,
            Kind::Slots => field::SLOTS.end,
        };
        if body.len() < fixed_bytes {
            return Err(FrameError::Short { kind });
        }
        if body.len() > fixed_bytes && !kind.has_tail() {
            return Err(FrameError::Trailing { kind });
        }
        Ok(match kind {
            Kind::Hello => Frame::Hello {
                payload_max: BigEndian::read_u32(&body[field::HELLO_PAYLOAD_MAX]),
                release: release(kind, &body[field::HELLO_RELEASE])?,
            },
            Kind::Welcome => Frame::Welcome {
                slots: match BigEndian::read_u16(&body[field::WELCOME_SLOTS]) {
                    0 => return Err(value("no slots")),
                    slots => slots,
                },
                credit_tasks: match BigEndian::read_u32(&body[field::WELCOME_CREDIT_TASKS]) {
                    0 => return Err(value("no credit")),
                    credit => credit,
                },
                credit_bytes: BigEndian::read_u32(&body[field::WELCOME_CREDIT_BYTES]),
                payload_max: BigEndian::read_u32(&body[field::WELCOME_PAYLOAD_MAX]),
                incarnation: BigEndian::read_u64(&body[field::WELCOME_INCARNATION]),
                release: release(kind, &body[field::WELCOME_RELEASE])?,
            },
            Kind::Refuse => Frame::Refuse {
                refusal: match body[field::REFUSE_CODE] {
                    1 => Refusal::Job,
                    2 => Refusal::Busy,
                    3 => Refusal::Protocol,
                    _ => return Err(value("unknown refusal")),
                },
                reason: text(kind, &body[field::REFUSE_REASON])?,
            },
            Kind::Job => {
                let tail = &body[field::JOB_KERNEL];
                let kernel_bytes = usize::from(body[field::JOB_KERNEL_LEN]);
                if tail.len() < kernel_bytes {
                    return Err(FrameError::Short { kind });
                }
                let (kernel, setup) = tail.split_at(kernel_bytes);
                Frame::Job {
                    timeout_ms: BigEndian::read_u32(&body[field::JOB_TIMEOUT_MS]),
                    kernel: text(kind, kernel)?,
                    setup,
                }
            }
            Kind::Task => Frame::Task {
                attempt: read_attempt(kind, body)?,
                input: &body[field::TASK_INPUT],
            },
            Kind::Outcome => Frame::Outcome {
                attempt: read_attempt(kind, body)?,
                status: match body[field::OUTCOME_STATUS] {
                    0 => Status::Done,
                    1 => Status::Failed,
                    2 => Status::Returned,
                    3 => Status::TimedOut,
                    _ => return Err(value("unknown status")),
                },
                run_us: BigEndian::read_u32(&body[field::OUTCOME_RUN_US]),
                output: &body[field::OUTCOME_OUTPUT],
            },
            Kind::Ping => Frame::Ping,
            Kind::Pong => Frame::Pong,
            Kind::Drain => Frame::Drain,
            Kind::Cancel => Frame::Cancel {
                attempt: read_attempt(kind, body)?,
                running: match body[field::CANCEL_RUNNING] {
                    0 => false,
                    1 => true,
                    _ => return Err(value("unknown extent")),
                },
            },
            Kind::Slots => Frame::Slots {
                slots: match BigEndian::read_u16(&body[field::SLOTS]) {
                    0 => return Err(value("no slots")),
                    slots => slots,
                },
            },
        })
    }
}

/// The beginning of an error text that may travel.
pub fn cut(reason: &str) -> &str {
    &reason[..reason.floor_char_boundary(crate::limits::REASON_BYTES_MAX)]
}

fn fill_attempt(body: &mut [u8], attempt: Attempt) {
    BigEndian::write_u64(&mut body[field::TASK_NUMBER], attempt.task);
    BigEndian::write_u32(&mut body[field::TASK_ATTEMPT], attempt.number);
}

fn read_attempt(kind: Kind, body: &[u8]) -> Result<Attempt, FrameError> {
    let task = BigEndian::read_u64(&body[field::TASK_NUMBER]);
    match BigEndian::read_u32(&body[field::TASK_ATTEMPT]) {
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
