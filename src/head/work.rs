//! One turn's work: outcomes to the job, tasks to the workers.
//!
//! What it is: the part of the head that delivers and assigns, once per turn. What it is not: the
//! choice of the task; that is the scheduler's.
//!
//! Invariant: tasks are taken from the job only when a worker has room for them now.

use log::{error, info};

use super::link::Link;
use super::replay::FORMER;
use super::{Head, Supply, Timer};
use crate::frame::{Frame, Status, Task};
use crate::journal;
use crate::kernel::{Delivery, Next, Workload};
use crate::limits::{DOUBTS_MAX, OUTPUT_BYTES_MAX};
use crate::payload::Bytes;
use crate::role::{Exit, Line, Sink};
use crate::scheduler::{NO_WORKER, Pick};
use crate::time::Time;
use crate::words::count;

impl<W: Workload> Head<W> {
    /// Hands new outcomes to the journal.
    pub(super) fn record(&mut self, out: &mut impl Sink) {
        let links = &self.links;
        let mut count = 0;
        while let Some(outcome) = self.scheduler.next_to_record(|index| name(links, index)) {
            journal::encode(&outcome, &mut self.records);
            count += 1;
        }
        if count > 0 {
            out.record(&self.records, count);
            self.records.clear();
        }
    }

    /// Hands finished tasks to the job and its text to the output, as far as the output keeps up.
    /// Says whether there was any.
    pub(super) fn deliver(&mut self, out: &mut impl Sink) -> bool {
        self.record(out);
        let mut has_delivered = false;
        while self.unwritten_bytes + self.text.len() < OUTPUT_BYTES_MAX {
            if !self.deliver_next(Gaps::Wait) {
                break;
            }
            has_delivered = true;
        }
        self.write_text(out);
        has_delivered
    }

    /// Hands the next finished task to the job; false if there is none.
    #[inline(always)]
    pub(super) fn deliver_next(&mut self, gaps: Gaps) -> bool {
        if gaps == Gaps::Skip {
            self.scheduler.skip_gap();
        }
        let Some(answer) = self.scheduler.due() else {
            return false;
        };
        if answer.status != Status::Done {
            let reason = self.workload.reason(answer.output);
            let (task, worker) = (answer.task, answer.worker);
            self.failures.note(task, worker, answer.status, &reason);
        }
        let worker = match answer.worker.checked_sub(FORMER) {
            Some(index) if answer.worker != NO_WORKER => &self.former[index as usize],
            _ => name(&self.links, answer.worker),
        };
        let delivery = Delivery {
            task: answer.task,
            status: answer.status,
            output: answer.output,
            worker,
            attempts: answer.losses,
            queue_us: answer.queue_us,
            run_us: answer.run_us,
            answered_ms: answer.answered_ms,
        };
        self.workload.deliver(&delivery, &mut self.text);
        self.scheduler.delivered();
        true
    }

    pub(super) fn write_text(&mut self, out: &mut impl Sink) {
        if !self.text.is_empty() {
            self.unwritten_bytes += self.text.len();
            out.write(&self.text);
            self.text.clear();
        }
    }

    /// Fills the workers, and settles doubts that keep all of them from getting more.
    pub(super) fn assign(&mut self, now: Time, out: &mut impl Sink) {
        self.first_link = (self.first_link + 1) % self.links.len();
        if !self.settled {
            self.settled = self.links.iter().all(|link| link.was_tried());
            if self.settled {
                self.timers.cancel(Timer::Settle);
            }
        }
        loop {
            if self.scheduler.counts().open() == 0 {
                // Also without a worker: a job without tasks needs none.
                self.pull();
            }
            self.fill_all(now, out);
            // Tasks that are too long, and doubts that were settled, have their outcome already;
            // nothing else would call for another turn.
            let has_settled = self.settle_if_stuck(now);
            if !self.deliver(out) && !has_settled {
                break;
            }
        }
        self.cancel(out);
        self.relieve(now, out);
    }

    /// First a task for every slot of every worker, then what they hold ahead. While some worker was
    /// not heard from yet, nobody gets tasks ahead: they may be its own.
    fn fill_all(&mut self, now: Time, out: &mut impl Sink) {
        let count = self.links.len();
        for is_ahead in [false, true] {
            if is_ahead && !self.settled {
                return;
            }
            for i in 0..count {
                let index = (self.first_link + i) % count;
                if !self.fill(index as u32, is_ahead, now, out) {
                    return;
                }
            }
        }
    }

    /// Fills one worker; false once there are no tasks to be had.
    fn fill(&mut self, index: u32, is_ahead: bool, now: Time, out: &mut impl Sink) -> bool {
        if !self.may_send(index) {
            return true;
        }
        let link = &mut self.links[index as usize];
        let slots = u32::from(link.slots);
        let wanted = link.up().tasks_wanted(is_ahead, now);
        self.fill_fresh(index, wanted, now, out);
        let is_only = self.scheduler.has_blamed() && self.is_only(index);
        loop {
            let held = self.scheduler.held_tasks(index);
            if held >= self.scheduler.depth(index, slots, wanted) {
                return true;
            }
            let (task, input_bytes) = loop {
                match self.scheduler.pick(index, slots, is_only) {
                    Pick::Task { task, input_bytes } => break (task, input_bytes),
                    Pick::Wait => return true,
                    Pick::Nothing if self.pull() => {}
                    // What is ready all the same is kept for another worker.
                    Pick::Nothing => return self.scheduler.counts().ready > 0,
                }
            };
            let session = self.links[index as usize].up();
            if !session.may_hold(held, self.scheduler.held_bytes(index), input_bytes) {
                return true;
            }
            let (attempt, input) = self.scheduler.assign(task, index, now);
            session.send(Frame::Task(Task { attempt, input }), out);
        }
    }

    /// The same while nothing but fresh tasks is to be had, as in nearly all of a run: less is asked
    /// for each of them.
    fn fill_fresh(&mut self, index: u32, wanted: u32, now: Time, out: &mut impl Sink) {
        let mut room = self.scheduler.fresh_room(index, wanted) as usize;
        if room == 0 {
            return;
        }
        let mut line = out.line(self.links[index as usize].up().conn);
        while room > 0 {
            if !self.scheduler.has_fresh() {
                let (sent, may_be_more) = self.send_row(index, room, now, &mut line);
                if !may_be_more {
                    return;
                }
                room -= sent;
                continue;
            }
            let session = self.links[index as usize].up();
            let fits = |tasks, bytes, input_bytes| session.may_hold(tasks, bytes, input_bytes);
            let Some((attempt, input)) = self.scheduler.assign_fresh(index, now, fits) else {
                return;
            };
            session.send_on(Frame::Task(Task { attempt, input }), &mut line);
            room -= 1;
        }
    }

    /// Sends new tasks as the job gives them, as nearly all are sent. Returns how many, and whether
    /// there may be more: one that did not fit, or may not be sent, is added to the table.
    fn send_row(
        &mut self,
        index: u32,
        room: usize,
        now: Time,
        line: &mut impl Line,
    ) -> (usize, bool) {
        if self.exhausted || self.is_halting {
            return (0, false);
        }
        let session = self.links[index as usize].up();
        let mut row = self.scheduler.begin_fresh(index, now);
        let limit_bytes = self.config.payload_bytes_max;
        let end = loop {
            if row.tasks() == room {
                break RowEnd::Full;
            }
            if !row.has_room() {
                break RowEnd::WindowFull;
            }
            self.input.clear();
            match self.workload.next(&mut self.input) {
                Next::Task => {}
                other => break RowEnd::Next(other),
            }
            if let Some(reason) = unsendable(&self.workload, &self.input, limit_bytes) {
                break RowEnd::Unsendable(reason);
            }
            let fits = |tasks, bytes| session.may_hold(tasks, bytes, self.input.len());
            let Some(attempt) = row.send(&self.input, fits) else {
                break RowEnd::Unfit;
            };
            let input = Bytes::from(&self.input);
            session.send_on(Frame::Task(Task { attempt, input }), line);
        };
        let sent = row.tasks();
        row.end();
        let may_be_more = matches!(end, RowEnd::Unsendable(_) | RowEnd::Unfit);
        match end {
            RowEnd::Full => {}
            RowEnd::WindowFull => self.say_window_full(),
            RowEnd::Next(next) => self.note_end(next),
            RowEnd::Unsendable(reason) => self.scheduler.add_failed(&self.input, &reason),
            RowEnd::Unfit => self.scheduler.add_from(&mut self.input),
        }
        (sent, may_be_more)
    }

    /// Whether no other worker can be used.
    #[cold]
    fn is_only(&self, index: u32) -> bool {
        let mut links = self.links.iter().enumerate();
        !links.any(|(other, link)| other != index as usize && link.is_usable())
    }

    /// Whether a worker may be sent tasks at all.
    pub(super) fn may_send(&self, index: u32) -> bool {
        let is_trusted = self.scheduler.doubted(index) < DOUBTS_MAX;
        self.links[index as usize].is_usable() && is_trusted && !self.is_halting
    }

    /// Takes one more task from the job, if the window has room for it.
    pub(super) fn pull(&mut self) -> bool {
        if self.exhausted || self.is_halting {
            return false;
        }
        if !self.scheduler.has_room() {
            self.say_window_full();
            return false;
        }
        self.input.clear();
        match self.workload.next(&mut self.input) {
            Next::Task => {}
            other => {
                self.note_end(other);
                return false;
            }
        }
        match unsendable(&self.workload, &self.input, self.config.payload_bytes_max) {
            Some(reason) => self.scheduler.add_failed(&self.input, &reason),
            None => self.scheduler.add_from(&mut self.input),
        }
        true
    }

    /// The job has given no task.
    fn note_end(&mut self, next: Next) {
        match next {
            Next::Task => unreachable!("that is one"),
            Next::Later => self.want_input(),
            Next::End => self.exhausted = true,
        }
    }

    /// The job has no task to give before it is fed.
    #[cold]
    pub(super) fn want_input(&mut self) {
        if self.supply == Supply::Enough {
            self.supply = Supply::Wanted;
        }
    }

    /// Asks for the job's input, if it has said that it wants some: once per turn and piece.
    pub(super) fn ask(&mut self, out: &mut impl Sink) {
        if self.supply == Supply::Wanted {
            self.supply = Supply::Asked;
            out.read();
        }
    }

    /// Hands the job a piece of its input; an empty one is the end.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.supply = Supply::Enough;
        self.workload.feed(bytes);
    }

    /// Whether another task can be had now.
    pub(super) fn has_next(&self) -> bool {
        !self.exhausted && self.supply == Supply::Enough && self.scheduler.has_room()
    }

    fn say_window_full(&mut self) {
        if std::mem::replace(&mut self.window_full_said, true) {
            return;
        }
        if let Some((task, Some(worker))) = self.scheduler.oldest() {
            info!(
                "results wait for task {task} at worker {}: no new tasks until it is done \
                 (--unordered does not wait)",
                self.links[worker as usize].name
            );
        }
    }

    /// Sends nothing more from now on, if that is how the run is to end and too much has failed.
    pub(super) fn halt_if_due(&mut self) {
        self.is_halting |= self.config.ends_softly && self.has_failed_too_often();
    }

    fn has_failed_too_often(&self) -> bool {
        let failed = self.scheduler.failed();
        self.config.failures_max.is_some_and(|max| failed > max)
    }

    /// Ends the run if every task is delivered, or if more have failed than may.
    pub(super) fn end_if_done(&mut self, now: Time, out: &mut impl Sink) {
        let counts = self.scheduler.counts();
        let is_all_answered = self.exhausted && counts.undone() == 0;
        let is_awaited = self.config.ends_softly && counts.in_flight + counts.doubted > 0;
        if !is_all_answered && self.has_failed_too_often() && !is_awaited {
            let tasks = count(self.scheduler.failed(), "task");
            error!("{tasks} failed: ending early (--max-failures)");
            return self.end(Exit::Failed, now, out);
        }
        if self.exhausted && counts.open() == 0 {
            self.end(Exit::Done, now, out);
        }
    }
}

/// Why no more tasks are in a row.
enum RowEnd {
    /// The worker has as many as it should.
    Full,
    WindowFull,
    /// The job has none now, or none at all.
    Next(Next),
    /// The latest may not be sent, for this reason.
    Unsendable(String),
    /// It may, but not in a row.
    Unfit,
}

/// What delivery does at a task that has no outcome.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Gaps {
    Wait,
    /// Drops it: the run cannot go on.
    Skip,
}

/// A worker's name in results and in the journal.
fn name(links: &[Link], index: u32) -> &str {
    match index {
        NO_WORKER => "-",
        index => &links[index as usize].name,
    }
}

/// Why an input cannot be sent, if it cannot.
#[inline(always)]
pub(super) fn unsendable(
    workload: &impl Workload,
    input: &[u8],
    limit_bytes: usize,
) -> Option<String> {
    if input.len() > limit_bytes {
        return Some(format!(
            "its input is longer than the {limit_bytes} bytes allowed; raise --payload-max on both \
             sides"
        ));
    }
    workload.unfit(input)
}
