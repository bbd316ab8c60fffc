//! When attempts ran.
//!
//! What it is: the part of the head that notes a span per attempt if a trace is wanted. What it is
//! not: the trace.
//!
//! Invariant: every attempt that was sent is noted once, when it is answered or can no longer be.

use super::Head;
use crate::frame::Status;
use crate::kernel::Workload;
use crate::role::{Attempt, Sink, Span};
use crate::time::{Duration, Time};

impl<W: Workload> Head<W> {
    /// An attempt is answered; before the scheduler forgets it.
    #[cold]
    pub(super) fn trace_answer(
        &mut self,
        index: u32,
        attempt: Attempt,
        ran: (Status, Duration),
        now: Time,
    ) {
        if let Some(sent_at) = self.scheduler.sent_at(index, attempt) {
            self.note_span(index, attempt, sent_at, Some(ran), now);
        }
    }

    /// What a worker holds will not be answered any more.
    pub(super) fn trace_loss(&mut self, index: u32, now: Time) {
        if self.config.is_traced {
            let held: Vec<(Attempt, Time)> = self.scheduler.held(index).collect();
            for (attempt, sent_at) in held {
                self.note_span(index, attempt, sent_at, None, now);
            }
        }
    }

    /// Hands over what was noted.
    pub(super) fn write_spans(&mut self, out: &mut impl Sink) {
        self.spans.drain(..).for_each(|span| out.trace(span));
    }

    fn note_span(
        &mut self,
        worker: u32,
        attempt: Attempt,
        sent_at: Time,
        ran: Option<(Status, Duration)>,
        ended_at: Time,
    ) {
        self.spans.push(Span {
            worker,
            slots: self.links[worker as usize].slots,
            attempt,
            sent_at,
            ended_at,
            ran,
        });
    }
}
