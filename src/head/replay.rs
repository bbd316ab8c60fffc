//! A run that goes on where another ended.
//!
//! What it is: the part of the head that takes the journal's outcomes before the run begins, and
//! delivers them as if they had just come. What it is not: a reader of journals.
//!
//! Invariant: what was replayed is never sent to a worker.

use super::work::{Gaps, unsendable};
use super::{Head, Timer};
use crate::journal::Outcome;
use crate::kernel::{Next, Workload};
use crate::limits::FORMER_WORKERS_MAX;
use crate::scheduler::{Misfit, NO_WORKER};
use crate::time::Time;

/// Stands for the first former worker in an answer; those of this run are below.
pub(super) const FORMER: u32 = 1 << 31;

impl<W: Workload> Head<W> {
    /// Takes the next outcome of the journal. False if the job must be fed before ([`Head::feed`]),
    /// and then the same again.
    ///
    /// # Errors
    /// If it is not one of this job's. Then the run must not go on.
    pub fn replay(&mut self, outcome: &Outcome<'_>) -> Result<bool, Misfit> {
        while self.scheduler.end() <= outcome.task {
            self.input.clear();
            match self.exhausted {
                true => return Err(Misfit::NoTask(outcome.task)),
                false => match self.workload.next(&mut self.input) {
                    Next::Task => self.scheduler.add_replayed(&self.input)?,
                    Next::Later => return Ok(false),
                    Next::End => self.exhausted = true,
                },
            }
        }
        let worker = self.former(outcome.worker);
        self.scheduler.restore(worker, outcome)?;
        self.replayed += 1;
        while self.deliver_next(Gaps::Wait) {}
        Ok(true)
    }

    /// There is nothing more in the journal: the run may begin. False if the job must be fed
    /// before, and then the same again: it is not known yet whether anything is left to do.
    pub fn end_replay(&mut self) -> bool {
        let limit_bytes = self.config.payload_bytes_max;
        self.scheduler
            .fail_unsendable(|input| unsendable(&self.workload, input, limit_bytes));
        if self.scheduler.counts().open() == 0 && !self.pull() {
            if !self.exhausted {
                return false;
            }
            // All is done: no worker need be dialled, only the first turn be taken.
            self.timers = crate::time::Timers::new();
            self.timers.set(Timer::Settle, Time::ZERO);
        }
        true
    }

    /// Outcomes taken from the journal.
    pub fn replayed(&self) -> u64 {
        self.replayed
    }

    /// Takes out the text of replayed outcomes for the output, once there is so much of it. The rest
    /// goes the usual way in the first turn.
    pub fn take_text(&mut self, bytes_min: usize) -> Option<Vec<u8>> {
        (self.text.len() >= bytes_min).then(|| std::mem::take(&mut self.text))
    }

    fn former(&mut self, name: &str) -> u32 {
        if let Some(index) = self.links.iter().position(|link| link.name == name) {
            return index as u32;
        }
        if let Some(index) = self.former.iter().position(|former| former == name) {
            return FORMER + index as u32;
        }
        if self.former.len() == FORMER_WORKERS_MAX {
            return NO_WORKER;
        }
        self.former.push(name.to_owned());
        FORMER + self.former.len() as u32 - 1
    }
}
