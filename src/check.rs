//! Whether workers can be used, and how well: `head check`.
//!
//! What it is: a role that dials every worker once, greets it, names it a job, asks for signs of life
//! and has it do empty tasks for a moment. What it is not: a run: nothing is tried twice, and no
//! result is kept.
//!
//! Invariant: every worker ends with one [`Finding`] or one defect, all of them within
//! `CHECK_ANSWER_TIMEOUT` and `CHECK_TASK_TIMEOUT`.

mod subject;

use crate::conns::Conns;
use crate::frame::{Frame, Outcome, Refusal, Status, Task};
use crate::kernel::{Next, Workload};
use crate::limits::{
    CHECK_ANSWER_TIMEOUT, CHECK_MEASURE_TIME, CHECK_PINGS, CHECK_TASK_TIMEOUT, CREDIT_TASKS,
    OUTBOX_BYTES_LITTLE, PAYLOAD_BYTES_DEFAULT,
};
use crate::payload::Bytes;
use crate::rate::Rate;
use crate::role::{Attempt, CloseReason, ConnId, Event, Exit, Role, Sink};
use crate::time::{Duration, Time, Timers};
pub use subject::Finding;
use subject::{Stage, Subject};

/// The role. `W` names the job and gives empty tasks without end.
pub struct Check<W> {
    workload: W,
    subjects: Vec<Subject>,
    conns: Conns<u32>,
    timers: Timers<Timer>,
    /// Tasks are under way: whoever has not answered by then is left out.
    is_measuring: bool,
    has_ended: bool,
    /// No number is used twice, whoever gets the task.
    next_task: u64,
    input: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    /// All are dialled.
    Dial,
    /// All must have been reached, greeted and answered.
    Answer,
    /// One has been measured for long enough.
    Measured(u32),
    /// All must have done their tasks.
    Task,
}

impl<W: Workload> Check<W> {
    /// A check of workers with these names, `HOST:PORT` each, that dials them in its first turn.
    pub fn new(workers: Vec<String>, workload: W) -> Check<W> {
        let mut timers = Timers::new();
        timers.set(Timer::Dial, Time::ZERO);
        Check {
            workload,
            subjects: workers.into_iter().map(Subject::new).collect(),
            conns: Conns::new(),
            timers,
            is_measuring: false,
            has_ended: false,
            next_task: 0,
            input: Vec::new(),
        }
    }

    /// The kernel asked for.
    pub fn kernel(&self) -> &str {
        self.workload.kernel()
    }

    /// Name of each worker in the order given, and what was found, or what is wrong with it and what
    /// to do about that; those of which nothing is known yet are left out.
    pub fn findings(&self) -> impl Iterator<Item = (&str, Result<&Finding, &str>)> {
        self.subjects.iter().filter_map(|subject| {
            let found = match &subject.stage {
                Stage::Usable(finding) => Ok(finding),
                Stage::Defective(reason) => Err(&reason[..]),
                _ => return None,
            };
            Some((&subject.name[..], found))
        })
    }

    fn opened(&mut self, conn: ConnId, index: u32, out: &mut impl Sink) {
        let subject = &mut self.subjects[index as usize];
        if !matches!(subject.stage, Stage::Dialing) {
            return out.close(conn); // It has taken too long.
        }
        self.conns.insert(conn, index);
        subject.stage = Stage::Greeting(conn);
        let hello = Frame::Hello {
            payload_max: PAYLOAD_BYTES_DEFAULT as u32,
            release: env!("CARGO_PKG_VERSION"),
        };
        subject.send(conn, hello, out);
    }

    fn frame(&mut self, conn: ConnId, frame: &Frame<'_>, now: Time, out: &mut impl Sink) {
        let Some(&mut index) = self.conns.get_mut(conn) else {
            return;
        };
        let subject = &mut self.subjects[index as usize];
        match (&mut subject.stage, *frame) {
            (Stage::Greeting(_), Frame::Welcome { .. }) => self.welcome(index, *frame, now, out),
            (_, Frame::Refuse { refusal, reason }) => {
                let cure = match refusal {
                    Refusal::Job => {
                        "start the worker of this release there, if it is not meant for other jobs"
                    }
                    Refusal::Busy => "try again later, or use another worker",
                    Refusal::Protocol => "install the same release on both",
                };
                self.condemn(index, format!("it refused: {reason}; {cure}"), out);
            }
            (Stage::Pinging { .. }, Frame::Pong) => self.pong(index, now, out),
            (_, Frame::Ping) => subject.owes_pong = true,
            (_, Frame::Usage { .. }) => {}
            (_, Frame::Drain) => {
                let reason = "it is about to end; start it again".into();
                self.condemn(index, reason, out);
            }
            (
                Stage::Pinging { finding, .. }
                | Stage::Waiting { finding, .. }
                | Stage::Measuring { finding, .. }
                | Stage::Draining { finding, .. },
                Frame::Slots { slots },
            ) => finding.slots = slots,
            (
                Stage::Measuring { in_flight, .. } | Stage::Draining { in_flight, .. },
                Frame::Outcome(Outcome { status, output, .. }),
            ) if *in_flight > 0 => {
                *in_flight -= 1;
                match status {
                    Status::Done => self.answered(index, now),
                    _ => {
                        let reason = self.workload.reason(&output);
                        let reason = String::from_utf8_lossy(&reason);
                        let kernel = self.kernel();
                        let reason = format!(
                            "it fails empty tasks of {kernel}: {reason}; see what it says on its \
                             machine"
                        );
                        self.condemn(index, reason, out);
                    }
                }
            }
            (_, frame) => {
                let kind = frame.kind();
                let reason =
                    format!("{kind:?} frame at the wrong moment; install the same release on both");
                self.condemn(index, reason, out);
            }
        }
    }

    /// Names the job, so that a worker that lacks its kernel says so, and begins to ping.
    fn welcome(&mut self, index: u32, frame: Frame<'_>, now: Time, out: &mut impl Sink) {
        let subject = &mut self.subjects[index as usize];
        let (
            &Stage::Greeting(conn),
            Frame::Welcome {
                slots,
                credit_tasks,
                credit_bytes,
                release,
                ..
            },
        ) = (&subject.stage, frame)
        else {
            unreachable!("the caller matched it");
        };
        let job = Frame::Job {
            timeout_ms: 0,
            kernel: self.workload.kernel(),
            setup: &self.workload.setup(),
        };
        subject.send(conn, job, out);
        subject.send(conn, Frame::Ping, out);
        subject.stage = Stage::Pinging {
            conn,
            finding: Finding {
                release: release.to_owned(),
                slots,
                credit_tasks,
                credit_bytes,
                round_trip: Duration::ZERO,
                rate: None,
            },
            trips: Vec::with_capacity(CHECK_PINGS),
            sent_at: now,
        };
    }

    fn pong(&mut self, index: u32, now: Time, out: &mut impl Sink) {
        let subject = &mut self.subjects[index as usize];
        let Stage::Pinging {
            conn,
            finding,
            trips,
            sent_at,
        } = &mut subject.stage
        else {
            unreachable!("the caller matched it");
        };
        let conn = *conn;
        trips.push(now.since(*sent_at));
        *sent_at = now;
        if trips.len() < CHECK_PINGS {
            return subject.send(conn, Frame::Ping, out);
        }
        trips.sort_unstable();
        finding.round_trip = trips[CHECK_PINGS / 2];
        let finding = finding.clone();
        subject.stage = Stage::Waiting { conn, finding };
    }

    /// Counts an outcome.
    fn answered(&mut self, index: u32, now: Time) {
        let subject = &mut self.subjects[index as usize];
        if let Stage::Measuring {
            began_at, tasks, ..
        } = &mut subject.stage
        {
            match *began_at {
                None => {
                    *began_at = Some(now);
                    self.timers
                        .set(Timer::Measured(index), now + CHECK_MEASURE_TIME);
                }
                Some(at) if now > at => *tasks += 1,
                Some(_) => {}
            }
        }
    }

    /// One worker's moment is over.
    fn measured(&mut self, index: u32, now: Time) {
        let subject = &mut self.subjects[index as usize];
        if let Stage::Measuring {
            conn,
            ref mut finding,
            in_flight,
            began_at,
            tasks,
        } = subject.stage
        {
            let span = now.since(began_at.unwrap_or(now));
            finding.rate = (tasks > 0).then_some(Rate { tasks, span });
            let finding = finding.clone();
            subject.stage = Stage::Draining {
                conn,
                finding,
                in_flight,
            };
        }
    }

    /// The worker cannot be used.
    fn condemn(&mut self, index: u32, reason: String, out: &mut impl Sink) {
        self.conclude(index, Stage::Defective(reason), out);
    }

    fn conclude(&mut self, index: u32, stage: Stage, out: &mut impl Sink) {
        let subject = &mut self.subjects[index as usize];
        if let Some(conn) = subject.conn() {
            self.conns.remove(conn);
            out.close(conn);
        }
        subject.owes_pong = false;
        subject.stage = stage;
    }

    fn closed(&mut self, conn: ConnId, reason: &CloseReason) {
        if let Some(index) = self.conns.remove(conn) {
            let subject = &mut self.subjects[index as usize];
            subject.owes_pong = false;
            subject.stage = Stage::Defective(subject.end(reason));
        }
    }

    /// Once all are reached, or known not to be, those that can be used get their tasks.
    fn measure_if_reached(&mut self, now: Time) {
        if self.is_measuring || !self.subjects.iter().all(Subject::is_reached) {
            return;
        }
        self.is_measuring = true;
        self.timers.cancel(Timer::Answer);
        self.timers.set(Timer::Task, now + CHECK_TASK_TIMEOUT);
        for subject in &mut self.subjects {
            if let Stage::Waiting { conn, ref finding } = subject.stage {
                subject.stage = Stage::Measuring {
                    conn,
                    finding: finding.clone(),
                    in_flight: 0,
                    began_at: None,
                    tasks: 0,
                };
            }
        }
    }

    /// Sends as many tasks as there is credit for. A full outbox takes none: a worker that answers
    /// what it has not read cannot make it grow.
    fn assign(&mut self, out: &mut impl Sink) {
        for subject in &mut self.subjects {
            if let (Some(conn), true) = (subject.conn(), subject.owes_pong)
                && subject.unsent_bytes < OUTBOX_BYTES_LITTLE
            {
                subject.owes_pong = false;
                subject.send(conn, Frame::Pong, out);
            }
            while let Stage::Measuring {
                conn,
                finding,
                in_flight,
                ..
            } = &mut subject.stage
                && subject.unsent_bytes < OUTBOX_BYTES_LITTLE
            {
                // One that finds no credit is dropped: there are others.
                self.input.clear();
                let next = self.workload.next(&mut self.input);
                let held_bytes = *in_flight as usize * self.input.len();
                let has_credit = *in_flight < finding.credit_tasks.min(CREDIT_TASKS)
                    && (*in_flight == 0
                        || held_bytes + self.input.len() <= finding.credit_bytes as usize);
                if !has_credit || !matches!(next, Next::Task) {
                    break;
                }
                *in_flight += 1;
                let attempt = Attempt {
                    task: self.next_task,
                    number: 1,
                };
                self.next_task += 1;
                let (conn, input) = (*conn, Bytes::from(&self.input));
                subject.send(conn, Frame::Task(Task { attempt, input }), out);
            }
        }
    }

    /// Lets go of who has answered everything, and of all once the time is over.
    fn finish(&mut self, is_over: bool, out: &mut impl Sink) {
        for index in 0..self.subjects.len() as u32 {
            if let Stage::Draining {
                finding, in_flight, ..
            } = &self.subjects[index as usize].stage
                && (is_over || *in_flight == 0)
            {
                let finding = finding.clone();
                self.conclude(index, Stage::Usable(finding), out);
            }
        }
    }

    fn end(&mut self, exit: Exit, out: &mut impl Sink) {
        self.has_ended = true;
        self.timers = Timers::new();
        out.exit(exit);
    }

    fn end_if_done(&mut self, out: &mut impl Sink) {
        if self.findings().count() < self.subjects.len() {
            return;
        }
        let usable = self.findings().filter(|(_, found)| found.is_ok()).count();
        let exit = match usable {
            0 => Exit::NoWorker,
            _ if usable < self.subjects.len() => Exit::Failed,
            _ => Exit::Done,
        };
        self.end(exit, out);
    }
}

impl<W: Workload> Role for Check<W> {
    fn handle(&mut self, event: Event<'_>, now: Time, out: &mut impl Sink) {
        if self.has_ended {
            return;
        }
        match event {
            Event::Opened { conn, dial, .. } => {
                self.opened(conn, dial.expect("a head only dials"), out);
            }
            Event::DialFailed { dial, reason } => {
                if let stage @ Stage::Dialing = &mut self.subjects[dial as usize].stage {
                    *stage = Stage::Defective(format!(
                        "{reason}; are name and port right, and does a worker run there that listens \
                         for other machines (worker --listen)?"
                    ));
                }
            }
            Event::Frame { conn, frame } => self.frame(conn, frame, now, out),
            Event::Sent { conn, bytes } => {
                if let Some(&mut index) = self.conns.get_mut(conn) {
                    self.subjects[index as usize].unsent_bytes -= bytes;
                }
            }
            Event::Closed { conn, reason } => self.closed(conn, &reason),
            Event::Interrupted => self.end(Exit::Interrupted, out),
            Event::Heard { .. } => {}
            _ => unreachable!("a check has neither pool nor input, output or journal"),
        }
    }

    fn flush(&mut self, now: Time, out: &mut impl Sink) {
        if self.has_ended {
            return;
        }
        self.measure_if_reached(now);
        self.assign(out);
        self.finish(false, out);
        self.end_if_done(out);
    }

    fn next_deadline(&self) -> Option<Time> {
        self.timers.next()
    }

    fn handle_timeout(&mut self, now: Time, out: &mut impl Sink) {
        while let Some(timer) = self.timers.pop_due(now) {
            match timer {
                Timer::Dial => {
                    self.timers.set(Timer::Answer, now + CHECK_ANSWER_TIMEOUT);
                    (0..self.subjects.len() as u32).for_each(|index| out.dial(index));
                }
                Timer::Answer => {
                    for index in 0..self.subjects.len() as u32 {
                        let subject = &self.subjects[index as usize];
                        if !subject.is_reached() {
                            self.condemn(index, subject.silence(), out);
                        }
                    }
                }
                Timer::Measured(index) => self.measured(index, now),
                Timer::Task => {
                    (0..self.subjects.len() as u32).for_each(|index| self.measured(index, now));
                    self.finish(true, out);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
