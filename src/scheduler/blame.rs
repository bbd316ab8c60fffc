//! Whom a loss is blamed on.
//!
//! What it is: the count of losses of each task, and the order in which tasks that were lost are sent
//! again. What it is not: a judge of workers; those are set aside by the head.
//!
//! When a worker is lost, only attempts that *ran* count, and the head cannot always know which did:
//! of many attempts in flight most are queued, and some may have ended without their outcome having
//! left. So: if no more are in flight than the worker has slots, all were running (but for what ended
//! in its last milliseconds), and each counts a loss. If there are more, nobody is blamed yet; all are
//! *suspects*, and are sent again without others ahead of them, so that the next loss tells more. A
//! suspect that is then lost while running was most likely to blame for the first one, too, and both
//! count. And a task whose next loss would be its last runs alone on a worker. So an innocent
//! neighbour may be delayed, but is never given up. Nor is what only ever had a worker that dies of
//! itself: before its last loss another worker must have had it, if there is one.
//!
//! Invariant: a task that is given up was alone at its last loss (unless one loss is all it has).

use std::collections::BTreeSet;

use crate::words::count;

/// The losses that a task has been blamed for, oldest first. Most tasks never are: then it owns no
/// memory, and is one word in each of them.
#[derive(Debug, Default)]
#[allow(clippy::box_collection)] // A `Vec` is three words.
pub(super) struct Blame(Option<Box<Vec<Lost>>>);

#[derive(Debug)]
struct Lost {
    worker: u32,
    /// It was running; otherwise it may have been.
    is_certain: bool,
    /// Where and how it ended.
    cause: String,
}

impl Blame {
    pub const NONE: Blame = Blame(None);

    /// One more loss.
    pub fn add(&mut self, worker: u32, is_certain: bool, cause: &str) {
        let cause = cause.to_owned();
        self.0.get_or_insert_default().push(Lost {
            worker,
            is_certain,
            cause,
        });
    }

    /// The latest loss of `worker` was none. Others may have come since.
    pub fn forgive(&mut self, worker: u32) {
        if let Some(losses) = &mut self.0
            && let Some(index) = losses.iter().rposition(|lost| lost.worker == worker)
        {
            losses.remove(index);
        }
    }

    /// Losses at which it was running: suspicions count with the first certain loss after them.
    #[inline(always)]
    pub fn losses(&self) -> u32 {
        match self.is_any() {
            true => self.count(),
            false => 0,
        }
    }

    #[cold]
    fn count(&self) -> u32 {
        let last = self.all().iter().rposition(|lost| lost.is_certain);
        last.map_or(0, |index| index as u32 + 1)
    }

    fn all(&self) -> &[Lost] {
        self.0.as_ref().map_or(&[], |losses| losses)
    }

    /// Whether it is blamed for anything.
    pub fn is_any(&self) -> bool {
        !self.all().is_empty()
    }

    /// Whether it must run alone: its next loss would be its last.
    pub fn is_lonely(&self, attempts_max: u32) -> bool {
        self.is_any() && self.all().len() + 1 >= attempts_max as usize
    }

    /// Whether it has met no other worker's end than that one's.
    pub fn is_all_by(&self, worker: u32) -> bool {
        self.all().iter().all(|lost| lost.worker == worker)
    }

    /// Why the task is given up, if it is.
    pub fn verdict(&self, attempts_max: u32) -> Option<String> {
        let losses = self.losses();
        (losses >= attempts_max).then(|| {
            let causes: Vec<&str> = self.all().iter().map(|lost| &lost.cause[..]).collect();
            let workers = count(losses.into(), "worker");
            format!(
                "given up: {workers} lost while it ran ({}); it may be what kills them (--attempts \
                 {attempts_max})",
                causes.join("; ")
            )
        })
    }
}

/// Tasks that go before fresh ones, in this order, and within each kind the oldest first.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// Must run alone.
    lonely: BTreeSet<u64>,
    /// Must not run with others ahead of them.
    careful: BTreeSet<u64>,
    /// Just have to be sent again.
    plain: BTreeSet<u64>,
}

impl Waiting {
    pub fn add(&mut self, task: u64, blame: &Blame, attempts_max: u32) {
        let set = if blame.is_lonely(attempts_max) {
            &mut self.lonely
        } else if blame.is_any() {
            &mut self.careful
        } else {
            &mut self.plain
        };
        set.insert(task);
    }

    /// Says whether it was there.
    pub fn remove(&mut self, task: u64) -> bool {
        self.plain.remove(&task) || self.careful.remove(&task) || self.lonely.remove(&task)
    }

    pub fn has_lonely(&self) -> bool {
        !self.lonely.is_empty()
    }

    /// The first of those that a worker may have.
    pub fn lonely(&self, may_have: impl Fn(u64) -> bool) -> Option<u64> {
        self.lonely.iter().copied().find(|&task| may_have(task))
    }

    pub fn careful(&self) -> Option<u64> {
        self.careful.first().copied()
    }

    pub fn plain(&self) -> Option<u64> {
        self.plain.first().copied()
    }

    pub fn has_blamed(&self) -> bool {
        self.has_lonely() || !self.careful.is_empty()
    }

    pub fn all(&self) -> Vec<u64> {
        let careful = self.lonely.iter().chain(&self.careful);
        careful.chain(&self.plain).copied().collect()
    }

    pub fn is_empty(&self) -> bool {
        self.plain.is_empty() && !self.has_blamed()
    }

    pub fn len(&self) -> usize {
        self.lonely.len() + self.careful.len() + self.plain.len()
    }
}
