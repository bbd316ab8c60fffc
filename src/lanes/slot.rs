//! What one thread of the pool has in hand.
//!
//! What it is: the attempts that it took together: which waits, which runs and for how long it may,
//! which are finished. What it is not: the thread, or the flag that stops its kernel; the pool has
//! both beside it. (A thread could keep its attempts to itself and save a lock for each; but then
//! none could be cancelled, and a kernel that hangs would take the others along.)
//!
//! Invariant: every attempt that is loaded leaves exactly once, completed or not started; whatever a
//! kernel returns after its attempt left is dropped.

use super::Batch;
use crate::frame::Status;
use crate::limits::{FINISHED_BYTES_MAX, HOLD_TIME, STOP_GRACE};
use crate::payload::Payload;
use crate::role::{Attempt, ConnId, Execution};
use crate::time::{Duration, Time};

/// One thread's attempts, all of one session.
#[derive(Debug, Default)]
pub struct Slot {
    conn: Option<ConnId>,
    timeout: Option<Duration>,
    chunk_time: Duration,
    /// When it began what it took last; `None` while it has not.
    begun: Option<Time>,
    state: State,
    /// What it has taken: first what is finished, then what runs, then what waits.
    pub(super) batch: Batch,
    /// So many are finished.
    pub(super) done: usize,
    /// How long those ran in all.
    pub(super) run_us: u64,
    /// And what they brought.
    pub(super) output_bytes: usize,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Free,
    Running(Running),
    /// In a kernel that does not return, and whose attempt has been answered without it.
    Hung,
}

#[derive(Clone, Copy, Debug)]
struct Running {
    since: Time,
    limit: Limit,
    is_cancelled: bool,
}

#[derive(Clone, Copy, Debug)]
enum Limit {
    /// It may run for as long as it takes.
    None,
    /// It may run until then.
    Until(Time),
    /// It was asked to stop, and must have done so then.
    Stopping(Time),
}

/// What [`Lanes::check`](super::Lanes::check) found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// Nothing to do.
    InTime,
    /// The kernel must be asked to stop.
    Stop,
    /// It was, and has not: this attempt is answered without it, and the thread of no use.
    Hung(Attempt),
}

impl Slot {
    /// Takes the first `count` attempts of a session's queue, each of which may run for `timeout`, all
    /// in `chunk_time`.
    pub(super) fn load(
        &mut self,
        conn: ConnId,
        timeout: Option<Duration>,
        queue: &mut Batch,
        count: usize,
        chunk_time: Duration,
    ) {
        assert!(matches!(self.state, State::Free) && self.batch.is_empty());
        self.conn = Some(conn);
        self.timeout = timeout;
        self.chunk_time = chunk_time;
        self.begun = None;
        queue.move_to(0..count, &mut self.batch);
    }

    /// How many it has begun, the finished included.
    pub(super) fn begun_count(&self) -> usize {
        self.done + usize::from(matches!(self.state, State::Running(_)))
    }

    /// Whether it has not begun all.
    pub(super) fn has_waiting(&self) -> bool {
        self.begun_count() < self.batch.len()
    }

    /// Moves what is finished to the end of `finished`.
    pub(super) fn hand_in(&mut self, finished: &mut Batch) {
        self.batch
            .move_to(0..std::mem::take(&mut self.done), finished);
    }

    /// The attempt that runs.
    fn current(&self) -> Attempt {
        self.batch.as_slice()[self.done].attempt
    }

    /// Whose attempts it has, or had last.
    pub fn conn(&self) -> Option<ConnId> {
        self.conn
    }

    /// Goes to work on what it has just taken; says when it is to be through with that.
    pub fn start(&mut self, now: Time) -> Time {
        self.begun = Some(now);
        now + self.chunk_time
    }

    /// Until when it may hold back what it has finished.
    pub(super) fn holds_until(&self, now: Time) -> Time {
        self.begun.unwrap_or(now) + HOLD_TIME
    }

    /// Begins the next attempt, whose input takes the place of `input`.
    #[inline(always)]
    pub fn begin(&mut self, now: Time, input: &mut Payload) -> Option<Attempt> {
        let execution = self.batch.get_mut(self.done)?;
        assert!(matches!(self.state, State::Free), "one at a time");
        self.state = State::Running(Running {
            since: now,
            limit: self.timeout.map_or(Limit::None, |t| Limit::Until(now + t)),
            is_cancelled: false,
        });
        input.take_over(&mut execution.payload);
        Some(execution.attempt)
    }

    /// The kernel has returned; what, may not count any more. `fill` writes the output where it stays.
    #[inline(always)]
    pub fn end(&mut self, status: Status, fill: impl FnOnce(&mut Payload), now: Time) {
        let State::Running(running) = self.state else {
            return;
        };
        let execution = self.batch.get_mut(self.done);
        let execution = execution.expect("what runs stays until it has ended");
        let run_us = u32::try_from(now.micros_since(running.since)).unwrap_or(u32::MAX);
        execution.run_us = run_us;
        match (running.is_cancelled, running.limit) {
            (false, Limit::None | Limit::Until(_)) => {
                execution.status = status;
                fill(&mut execution.payload);
            }
            (is_cancelled, _) => overrule(execution, is_cancelled, self.timeout),
        }
        self.run_us += u64::from(run_us);
        self.output_bytes += execution.payload.len();
        self.done += 1;
        self.state = State::Free;
    }

    /// Whether something that it has finished was not taken yet.
    pub fn holds_back(&self) -> bool {
        self.done > 0
    }

    /// Whether what it has finished is to be taken before it begins another.
    #[inline(always)]
    pub fn is_full(&self) -> bool {
        self.output_bytes >= FINISHED_BYTES_MAX
    }

    /// Whether the thread was of no use until now; it is of use again.
    pub fn recover(&mut self) -> bool {
        let was_hung = matches!(self.state, State::Hung);
        if was_hung {
            self.state = State::Free;
        }
        was_hung
    }

    /// Has a session's attempts that have not started come back in `finished`.
    pub fn recall(&mut self, conn: ConnId, finished: &mut Batch) {
        if self.conn == Some(conn) {
            let begun = self.begun_count();
            super::give_back(&mut self.batch, begun, finished);
        }
    }

    /// Has one attempt come back in `finished` if it has not started; says whether it does.
    pub fn take_back(&mut self, conn: ConnId, attempt: Attempt, finished: &mut Batch) -> bool {
        let begun = self.begun_count();
        self.conn == Some(conn) && super::take_back(&mut self.batch, begun, attempt, finished)
    }

    /// Gives up one attempt if it runs; says whether it does. Its kernel must be asked to stop.
    pub fn stop(&mut self, conn: ConnId, attempt: Attempt) -> bool {
        let State::Running(running) = self.state else {
            return false;
        };
        let is_it = (self.conn, self.current()) == (Some(conn), attempt);
        if is_it {
            self.state = State::Running(Running {
                is_cancelled: true,
                ..running
            });
        }
        is_it
    }

    /// Drops what waits; says whether an attempt runs. Nobody wants its result, but how long it may
    /// run stays: a thread is not given up because a head has gone away.
    pub fn abandon(&mut self) -> bool {
        self.batch.truncate(self.begun_count());
        matches!(self.state, State::Running(_))
    }

    /// Holds what runs against the time.
    pub(super) fn check(&mut self, now: Time) -> Check {
        let State::Running(running) = &mut self.state else {
            return Check::InTime;
        };
        match running.limit {
            Limit::Until(at) if at <= now => {
                running.limit = Limit::Stopping(now + STOP_GRACE);
                Check::Stop
            }
            Limit::Stopping(at) if at <= now => {
                let attempt = self.current();
                self.end(Status::TimedOut, |_| {}, now);
                self.state = State::Hung;
                Check::Hung(attempt)
            }
            _ => Check::InTime,
        }
    }

    /// When [`Slot::check`] must be called at the latest: what waits may begin any time, and then
    /// be overdue after its timeout.
    pub(super) fn next_check(&self, now: Time) -> Option<Time> {
        let begins = self.timeout.filter(|_| self.has_waiting());
        let running = match &self.state {
            State::Running(Running {
                limit: Limit::Until(at) | Limit::Stopping(at),
                ..
            }) => Some(*at),
            _ => None,
        };
        begins
            .map(|timeout| now + timeout)
            .into_iter()
            .chain(running)
            .min()
    }

    /// The process did not run for so long, which is not the kernel's fault.
    pub(super) fn extend(&mut self, by: Duration) {
        if let State::Running(running) = &mut self.state
            && let Limit::Until(at) | Limit::Stopping(at) = &mut running.limit
        {
            *at = *at + by;
        }
    }
}

/// What is said of an attempt that was stopped, whatever its kernel says.
#[cold]
fn overrule(execution: &mut Execution, is_cancelled: bool, timeout: Option<Duration>) {
    let (status, reason) = match timeout {
        Some(timeout) if !is_cancelled => {
            let seconds = timeout.as_secs_f64();
            let reason = format!("it ran for longer than --timeout {seconds} s");
            (Status::TimedOut, reason)
        }
        _ => (Status::Returned, "cancelled".into()),
    };
    execution.status = status;
    execution.payload.set(reason.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::super::Lanes;
    use super::*;
    use crate::frame::Task;
    use crate::kernel::{Kernel, KernelError, Stop};
    use crate::limits::CHUNK_TIME;
    use crate::payload::Bytes;
    use std::sync::Arc;

    const CONN: ConnId = ConnId {
        slot: 3,
        generation: 1,
    };
    const OTHER: ConnId = ConnId {
        slot: 3,
        generation: 2,
    };
    const TIMEOUT: Duration = Duration::from_secs(1);

    struct Nothing;

    impl Kernel for Nothing {
        fn run(&self, _: &[u8], _: &Stop, _: &mut Vec<u8>) -> Result<(), KernelError> {
            Ok(())
        }
    }

    fn attempt(task: u64) -> Attempt {
        Attempt { task, number: 1 }
    }

    fn at(ms: u64) -> Time {
        Time::from_micros(ms * 1000)
    }

    fn execution(task: u64) -> Execution {
        let (attempt, input) = (attempt(task), Bytes::default());
        Execution::new(CONN, Task { attempt, input })
    }

    /// Tasks 0, 1 and 2 in hand, of which 0 runs since the beginning.
    fn slot(timeout: Option<Duration>) -> (Lanes, Slot) {
        let (mut lanes, mut slot) = (Lanes::default(), Slot::default());
        lanes.open(CONN, Arc::new(Nothing), timeout);
        let mut batch = (0..3).map(execution).collect();
        slot.load(CONN, timeout, &mut batch, 3, CHUNK_TIME);
        begin(&mut slot, at(0)).unwrap();
        (lanes, slot)
    }

    fn begin(slot: &mut Slot, now: Time) -> Option<Attempt> {
        slot.begin(now, &mut Payload::EMPTY.clone())
    }

    fn end(slot: &mut Slot, ms: u64) {
        slot.end(Status::Done, |_| {}, at(ms));
    }

    fn tasks(batch: &Batch) -> impl Iterator<Item = u64> {
        batch.as_slice().iter().map(|e| e.attempt.task)
    }

    /// What was answered, and what is in the lane.
    fn collect(lanes: &mut Lanes, slot: &mut Slot) -> (Vec<(u64, Status)>, Vec<u64>) {
        let (mut finished, mut rest) = (Batch::new(), Batch::new());
        lanes.collect(slot, &mut finished);
        lanes.recall(CONN, &mut rest);
        let statuses = finished.as_slice().iter().map(|done| done.status);
        (
            tasks(&finished).zip(statuses).collect(),
            tasks(&rest).collect(),
        )
    }

    #[test]
    fn an_attempt_is_taken_back_only_before_it_starts() {
        let (mut lanes, mut slot) = slot(None);
        let mut back = Batch::new();
        assert!(!slot.take_back(CONN, attempt(0), &mut back));
        assert!(!slot.take_back(OTHER, attempt(1), &mut back));
        assert!(slot.take_back(CONN, attempt(1), &mut back));
        assert!(!slot.take_back(CONN, attempt(1), &mut back));
        assert_eq!(tasks(&back).collect::<Vec<_>>(), [1]);
        assert_eq!(back.as_slice()[0].status, Status::Returned);
        end(&mut slot, 1);
        assert_eq!(
            collect(&mut lanes, &mut slot),
            (vec![(0, Status::Done)], vec![2])
        );
    }

    #[test]
    fn a_cancelled_attempt_is_returned_whatever_its_kernel_says() {
        let (mut lanes, mut slot) = slot(Some(TIMEOUT));
        assert!(!slot.stop(CONN, attempt(1)), "it does not run");
        assert!(!slot.stop(OTHER, attempt(0)), "it is another's");
        assert!(slot.stop(CONN, attempt(0)));
        // Also if its time is over before it returns.
        assert_eq!(slot.check(at(1000)), Check::Stop);
        end(&mut slot, 1001);
        begin(&mut slot, at(1001)).unwrap();
        end(&mut slot, 1002);
        let answered = vec![(0, Status::Returned), (1, Status::Done)];
        assert_eq!(collect(&mut lanes, &mut slot), (answered, vec![2]));
    }

    #[test]
    fn a_kernel_has_its_time_and_then_a_grace() {
        let (mut lanes, mut slot) = slot(Some(TIMEOUT));
        assert_eq!(slot.check(at(999)), Check::InTime);
        assert_eq!(slot.check(at(1000)), Check::Stop);
        assert_eq!(slot.check(at(1001)), Check::InTime, "it was asked");
        end(&mut slot, 1500);
        begin(&mut slot, at(1500)).unwrap();
        assert_eq!(slot.check(at(2499)), Check::InTime);
        assert_eq!(slot.check(at(2500)), Check::Stop);
        assert_eq!(slot.check(at(2500) + STOP_GRACE), Check::Hung(attempt(1)));
        let answered = vec![(0, Status::TimedOut), (1, Status::TimedOut)];
        assert_eq!(collect(&mut lanes, &mut slot), (answered, vec![2]));
        // One day it returns.
        end(&mut slot, 9000);
        assert!(begin(&mut slot, at(9000)).is_none());
        assert_eq!(collect(&mut lanes, &mut slot), (vec![], vec![]));
        assert!(slot.recover());
        assert!(!slot.recover());
    }

    #[test]
    fn an_abandoned_attempt_keeps_its_time_and_gets_none() {
        let (mut lanes, mut slot) = slot(None);
        assert!(slot.abandon());
        assert_eq!(slot.next_check(at(0)), None);
        assert_eq!(slot.check(at(1 << 40)), Check::InTime);
        end(&mut slot, 1);
        assert!(begin(&mut slot, at(1)).is_none());
        assert!(!slot.abandon());
        lanes.close(CONN);
        assert_eq!(collect(&mut lanes, &mut slot).1, []);
    }

    #[test]
    fn the_next_check_is_in_time_for_what_runs_and_what_may_begin() {
        let (_, mut slot) = slot(Some(TIMEOUT));
        assert_eq!(slot.next_check(at(400)), Some(at(1000)));
        slot.extend(TIMEOUT);
        assert_eq!(
            slot.next_check(at(400)),
            Some(at(1400)),
            "what waits may begin"
        );
        slot.recall(CONN, &mut Batch::new());
        assert_eq!(slot.next_check(at(400)), Some(at(2000)));
        end(&mut slot, 500);
        assert_eq!(slot.next_check(at(500)), None);
    }
}
