//! Every limit and time-out of Teamster, in one place.
//!
//! What it is: the constants that bound queues, buffers and waits, each with its unit in its name.
//! What it is not: configuration; the few that a flag may change are defaults here.
//!
//! Invariant: every bound under which whole frames are held takes one frame of the default size, and
//! so does the budget under which they are read.

use crate::time::Duration;

/// Largest task input or output unless `--payload-max` says otherwise.
pub const PAYLOAD_BYTES_DEFAULT: usize = 1 << 20;
/// Largest value `--payload-max` accepts.
pub const PAYLOAD_BYTES_MAX: usize = 64 << 20;
/// Longest name of a kernel: its length is one byte on the wire.
pub const KERNEL_NAME_BYTES_MAX: usize = u8::MAX as usize;
/// Largest frame body before the greeting is done: strangers get no more of our memory.
pub const GREETING_BYTES_MAX: usize = 256;
/// Longest error text that travels in an outcome or a refusal; longer ones are cut.
pub const REASON_BYTES_MAX: usize = 4096;

/// Longest argument of a command; Linux takes one byte more with the zero that ends it.
pub const ARGUMENT_BYTES_MAX: usize = (128 << 10) - 1;
/// Arguments of a command together, as Linux counts them. It takes 2 MiB unless told otherwise; this
/// leaves half to the environment.
pub const ARGUMENTS_BYTES_MAX: usize = 1 << 20;
/// Words of a command.
pub const WORDS_MAX: usize = 4096;

/// What is kept of a program's standard error per task: its first half and its last.
pub const STDERR_BYTES_MAX: usize = 64 << 10;
/// Of that, what the reason of a process that has died quotes.
pub const LAST_WORDS_BYTES: usize = 2 << 10;
/// Read from a program at once: what a pipe holds.
pub const PIPE_BYTES: usize = 64 << 10;
/// Pieces of `PIPE_BYTES` read from a program that has ended: what its pipes can hold, and not
/// what something that has escaped goes on writing.
pub const CLEAR_UP_READS: usize = 16;
/// Whether a silent program has ended is looked at first after this, then after twice as long ...
pub const LOOK_MIN: Duration = Duration::from_millis(10);
/// ... and at last every so often.
pub const LOOK_MAX: Duration = Duration::from_secs(1);
/// A process that lives from task to task must end within this once its input is closed.
pub const PROGRAM_GRACE: Duration = Duration::from_millis(100);
/// A guard must have killed its group within this.
pub const GUARD_TIMEOUT: Duration = Duration::from_millis(100);
/// A worker that ends waits for so long until what its programs left is cleared up.
pub const CLEARING_TIMEOUT: Duration = Duration::from_secs(2);

/// Tasks one session may hold at a worker.
pub const CREDIT_TASKS: u32 = 4096;
/// Input bytes one session may hold at a worker.
pub const CREDIT_BYTES: u32 = 16 << 20;
/// Bytes waiting to be written to one connection: this, or one frame behind a little if that is
/// larger.
pub const OUTBOX_BYTES_MAX: usize = 4 << 20;
/// Behind less than this there is room for any frame; once so much has been written at once, the role
/// gets another turn to use the room. Below it no event would tell.
pub const OUTBOX_BYTES_LITTLE: usize = 64 << 10;
/// A worker stops starting attempts of a session with more than this unsent ...
pub const OUTBOX_BYTES_HIGH: usize = 1 << 20;
/// ... and starts them again below this. The gap saves a pool lock per frame.
pub const OUTBOX_BYTES_LOW: usize = 256 << 10;
/// Output bytes finished in the pool and not yet taken by the reactor, per session; at it the pool
/// hands out no further attempt of that session. (And so many in one slot: then it hands in.)
pub const FINISHED_BYTES_MAX: usize = 1 << 20;
/// A kernel whose time is over must return within this once it is asked to stop; otherwise its
/// thread is written off.
pub const STOP_GRACE: Duration = Duration::from_secs(1);
/// A pool thread takes no more attempts at once than run in this time ...
pub const CHUNK_TIME: Duration = Duration::from_millis(1);
/// ... or so few that run in this. A program takes about a millisecond: to hand in each alone is to
/// wake everybody between it and the output for each, and whoever wakes takes a processor from a
/// program. Four at once were 0.77 of the programs per second that spawning alone reaches, eight 0.82,
/// sixteen 0.85.
pub const CHUNK_FEW: usize = 16;
/// See [`CHUNK_FEW`].
pub const CHUNK_FEW_TIME: Duration = Duration::from_millis(16);
/// A pool thread whose attempt takes longer than expected holds back what it finished before for no
/// longer than this since it began with what it took. What takes as long as expected is handed in
/// together.
pub const HOLD_TIME: Duration = Duration::from_millis(20);
const _: () = assert!(CHUNK_FEW_TIME.as_micros() < HOLD_TIME.as_micros());
/// Connections a worker serves at once: those that have greeted.
pub const CONNECTIONS_MAX: usize = 64;

/// Sockets a worker holds at once. Those that it serves leave as many again to peers that have yet to
/// greet, or are being turned away; at it the oldest that has not greeted makes room for the next.
pub const SOCKETS_MAX: usize = 2 * CONNECTIONS_MAX;

/// Tasks the head may run ahead of the oldest unfinished one when results are in input order.
pub const WINDOW_TASKS: usize = 65_536;
/// Bytes of a command in the log of `map`; of a longer one the beginning. So many may wait, with
/// outcomes that wait for one before them.
pub const LOGGED_BYTES_MAX: usize = 1 << 10;
/// Bytes of a job's own input that are read at once: what a pipe holds.
pub const INPUT_BYTES: usize = 64 << 10;
/// Bytes of inputs and outputs the head may hold for open tasks.
pub const WINDOW_BYTES: usize = 16 << 20;
/// Result bytes handed to the output thread and not yet written; at it delivery pauses.
pub const OUTPUT_BYTES_MAX: usize = 1 << 20;

/// A batch of records is made durable once it holds so many bytes ...
pub const SYNC_BYTES: usize = 2 << 20;
/// ... or its oldest has waited for so long (`--sync-ms`).
pub const SYNC_DEFAULT: Duration = Duration::from_millis(50);
/// Results of a journal that is gone on with reach the output in pieces of at least so many bytes, and
/// signals are looked for at least once in so many records.
pub const REPLAY_BYTES: usize = 64 << 10;
/// See `REPLAY_BYTES`.
pub const REPLAY_RECORDS: u64 = 4096;
/// Names of former workers that a resumed run remembers; the outcomes of any others have none.
pub const FORMER_WORKERS_MAX: usize = 1024;

/// The rate of a run is taken over this long ...
pub const RATE_WINDOW: Duration = Duration::from_secs(10);
/// ... and over so many marks at least, if tasks are long ...
pub const RATE_MARKS_MIN: usize = 8;
/// ... of which there is one in so long ...
pub const RATE_MARK_INTERVAL: Duration = Duration::from_millis(250);
/// ... and nothing is said of it before this.
pub const RATE_AFTER: Duration = Duration::from_secs(1);
/// The progress line on a terminal is drawn again after this.
pub const REDRAW_INTERVAL: Duration = Duration::from_millis(250);
/// Elsewhere there is a first line after this ...
pub const PROGRESS_LINE_FIRST: Duration = Duration::from_secs(10);
/// ... and then one in so long; with `--progress always` ...
pub const PROGRESS_LINE_INTERVAL: Duration = Duration::from_secs(60);
/// ... the first comes after this, and one in `PROGRESS_LINE_FIRST`.
pub const PROGRESS_LINE_ALWAYS: Duration = Duration::from_secs(1);
/// Longest request to the status page.
pub const STATUS_REQUEST_BYTES_MAX: usize = 8 << 10;
/// Connections to the status page; at it the oldest makes room for the next.
pub const STATUS_VISITORS_MAX: usize = 16;
/// Such a connection must have asked and read its response within this.
pub const STATUS_TIMEOUT: Duration = Duration::from_secs(5);
/// Turns whose attempts wait to be written to a trace; those of any more are left out.
pub const TRACE_BATCHES_MAX: usize = 1024;
/// Reasons of failures that are told apart; the tasks that failed for any others are only counted.
pub const FAILURE_GROUPS_MAX: usize = 16;
/// So much of a reason is compared and kept.
pub const FAILURE_REASON_BYTES: usize = 256;
/// Workers of which the library's error says what is wrong; any more are only counted.
pub const TROUBLES_MAX: usize = 4;

/// Bytes of large buffers that a thread keeps for their next use: as many frames of the default
/// size as a head delivers in a turn, before it takes as many new tasks.
/// (Every bound on payloads counts their bytes; a large one may own up to twice as many.)
pub const SPARE_BYTES_MAX: usize = 8 << 20;
/// The same in a thread of the pool: of the default size an input's and an output's.
pub const SLOT_SPARE_BYTES_MAX: usize = 3 << 20;
/// Bytes read from one connection per turn before the others get theirs.
pub const READ_BUDGET_BYTES: usize = 2 << 20;
/// Nor is read on in that turn after a read that brought so many frames, which are small then: enough
/// for a turn to cost little for each, and what they ask for begins while the next are decoded. (To
/// take a whole credit of 4,096 at once left a fifth of two processors idle.)
pub const READ_FRAMES: usize = 256;
/// Pieces of memory written to one connection at once: a few large payloads, each with what is before
/// it.
pub const WRITE_PIECES_MAX: usize = 16;
/// Size of the one read buffer that all connections of a reactor share.
pub const READ_BUFFER_BYTES: usize = 64 << 10;
/// Connections accepted per turn before sockets already open get theirs.
pub const ACCEPTS_PER_TURN: usize = 16;

/// A name look-up must end within this, and then a TCP connection stand within it again; a host's
/// addresses share it.
pub const DIAL_TIMEOUT: Duration = Duration::from_secs(10);
/// Opening and greeting must be complete within this.
pub const GREETING_TIMEOUT: Duration = Duration::from_secs(5);
/// Silence after which a worker is asked for a sign of life ...
pub const PING_AFTER: Duration = Duration::from_secs(3);
/// ... and after which a worker asks its head: later, so that of two that wait only one is woken by
/// its own clock, and an idle worker once in `PING_AFTER`.
pub const PING_HEAD_AFTER: Duration = Duration::from_millis(3_500);
/// Silence after which a worker is lost: its tasks go elsewhere, its connection stays.
pub const LOST_AFTER: Duration = Duration::from_secs(10);
/// Silence after which the connection is closed as well.
pub const CLOSE_AFTER: Duration = Duration::from_secs(60);
/// A worker that holds attempts says this often what it has had of its machine ...
pub const USAGE_INTERVAL: Duration = Duration::from_secs(2);
/// ... and before the last of them is answered, unless it has just done so: looking takes some 60 µs,
/// and who holds one short attempt at a time would look after each.
pub const USAGE_PAUSE: Duration = Duration::from_millis(20);
/// A look takes at most this part of the time ...
pub const USAGE_PART: u32 = 50;
/// ... and at so many threads at most, those of programs included: some 10 µs each.
pub const GAUGED_THREADS_MAX: usize = 512;
/// Whether a worker is throttled is judged over spans of at least this, less than `USAGE_INTERVAL` so
/// that each of its reports ends one ...
pub const THROTTLE_SPAN: Duration = Duration::from_secs(1);
/// ... in which it waits for its processors so many times as long as it has them. Two threads that
/// share a processor wait as long as they run, which is no more than a machine in use; ...
pub const THROTTLE_RATIO: u64 = 2;
/// ... and for this part of the span at least: less is what a sleeping task wakes up to.
pub const THROTTLE_WAIT_PART: u64 = 4;
/// While workers are idle an attempt that has run for half as long again as usual is late, but not
/// before this: queues and round trips are no lateness, nor is what its worker holds back. What was
/// asked back and does not come within this is not expected any more.
pub const LATE_AFTER_MIN: Duration = Duration::from_millis(40);
const _: () = assert!(LATE_AFTER_MIN.as_micros() >= 2 * HOLD_TIME.as_micros());
/// The same for a worker that holds something and does not answer a probe; it has a quarter of the
/// usual time to answer.
pub const PROBE_WAIT_MIN: Duration = Duration::from_millis(50);
/// Losses while running at which a task is given up (`--attempts`).
pub const ATTEMPTS_DEFAULT: u32 = 3;
/// A failure after less than this may be the worker's fault rather than the task's.
pub const FAST_FAILURE: Duration = Duration::from_millis(10);
/// So many fast failures in a row while the others succeed set a worker aside ...
pub const STRIKES_MAX: u32 = 16;
/// ... and so many attempts in a row that it says it could not run.
pub const FAULTS_MAX: u32 = 3;
/// So many failures of a worker are doubted before it gets nothing more until they are judged.
pub const DOUBTS_MAX: usize = STRIKES_MAX as usize;
/// So many breaches of the protocol without an outcome that counted, and a worker is of no use.
pub const BREACHES_MAX: u32 = 3;
/// When only workers that cannot be reached could tell, doubts are settled without them after this,
/// and at once when they have not come for the time of `--give-up`.
pub const DOUBT_TIMEOUT: Duration = Duration::from_secs(10);
/// A worker is set aside for this at first ...
pub const ASIDE_MIN: Duration = Duration::from_secs(5);
/// ... and each time for twice as long, up to this.
pub const ASIDE_MAX: Duration = Duration::from_secs(300);
/// How long a worker that was told to end lets its kernels run (`--grace`).
pub const GRACE_DEFAULT: Duration = Duration::from_secs(30);

/// Lines about connections that came to nothing before they greeted: so many at once ...
pub const STRANGER_LINES_MAX: u32 = 20;
/// ... and then one per so long, the one that says how many were left out included. That is less than
/// 1 MiB a day, whoever scans the port.
pub const STRANGER_LINES_INTERVAL: Duration = Duration::from_secs(10);
/// `head check`: a worker must be reached, have greeted and answered its pings within this ...
pub const CHECK_ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// ... so many of them ...
pub const CHECK_PINGS: usize = 9;
/// ... and then does empty tasks for this long, counted from its first outcome ...
pub const CHECK_MEASURE_TIME: Duration = Duration::from_millis(200);
/// ... and is let go of after this, whatever it still holds.
pub const CHECK_TASK_TIMEOUT: Duration = Duration::from_secs(1);
/// So long after the start no worker that was not heard from yet keeps the others from getting tasks
/// ahead.
pub const SETTLE_TIMEOUT: Duration = Duration::from_millis(200);
/// A frame of which parts keep arriving must gain `PROGRESS_BYTES` in this time, or be complete.
pub const PROGRESS_TIMEOUT: Duration = Duration::from_secs(10);
/// See `PROGRESS_TIMEOUT`.
pub const PROGRESS_BYTES: usize = 64 << 10;
/// A socket that takes nothing of what waits for its peer is given up after this, however much the
/// peer has to say meanwhile.
pub const STALL_TIMEOUT: Duration = Duration::from_secs(60);
/// First wait before a worker is dialled again ...
pub const BACKOFF_MIN: Duration = Duration::from_millis(100);
/// ... doubling up to this.
pub const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// A connection this side has closed is read from for so long, so that its last frame arrives: the
/// kernel answers unread bytes with a reset, which destroys what the peer has not read yet.
pub const LINGER_TIMEOUT: Duration = Duration::from_secs(1);
/// A deadline that is overdue by this was missed because the process did not run.
pub const STOPPED_AFTER: Duration = Duration::from_secs(1);
/// How long accepting pauses when the process is out of descriptors and nothing can make room.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// That descriptors run out is said again only after so long without it.
pub const STARVED_QUIET: Duration = Duration::from_secs(60);
/// Without any usable worker for so long the head gives up (`--give-up`).
pub const GIVE_UP_DEFAULT: Duration = Duration::from_secs(60);

/// Largest key file: two keys and a page of remarks.
pub const KEY_FILE_BYTES_MAX: usize = 4096;

/// TCP port of a worker when none is named.
pub const PORT_DEFAULT: u16 = 5000;
