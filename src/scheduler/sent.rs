//! The tasks that one worker was sent.
//!
//! What it is: their numbers in the order sent, as ranges: nearly all are sent in a row and answered
//! in that order, so that a row of thousands is two numbers. What it is not: who still has them; the
//! table knows. Those that were answered out of turn are dropped now and then.
//!
//! Invariant: no range is empty, and `len` is what they come to.

use std::collections::VecDeque;
use std::ops::Range;

/// Task numbers, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Sent {
    ranges: VecDeque<Range<u64>>,
    len: usize,
    /// At so many it is time to look for those that are gone.
    len_max: usize,
}

impl Sent {
    /// A list that is this short is not worth looking through.
    const SHORT: usize = 64;

    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it is time for [`Sent::retain`] before more are added.
    #[inline(always)]
    pub fn is_full(&self) -> bool {
        self.len >= self.len_max
    }

    /// Adds one that was just sent.
    #[inline(always)]
    pub fn push(&mut self, task: u64) {
        self.push_row(task..task + 1);
    }

    /// Adds several that were.
    #[inline(always)]
    pub fn push_row(&mut self, row: Range<u64>) {
        if row.is_empty() {
            return;
        }
        self.len += (row.end - row.start) as usize;
        match self.ranges.back_mut() {
            Some(last) if last.end == row.start => last.end = row.end,
            _ => self.ranges.push_back(row),
        }
    }

    /// The oldest, and those sent in a row with it; where there are none, what no task is in.
    #[inline(always)]
    pub fn oldest(&self) -> Range<u64> {
        self.ranges.front().cloned().unwrap_or(u64::MAX..u64::MAX)
    }

    /// Drops those of the oldest row that are before `task`, which is in it, or next to it.
    #[inline(always)]
    pub fn drop_before(&mut self, task: u64) {
        let Some(oldest) = self.ranges.front_mut() else {
            return;
        };
        assert!(
            (oldest.start..=oldest.end).contains(&task),
            "it is of the oldest row"
        );
        self.len -= (task - oldest.start) as usize;
        oldest.start = task;
        if oldest.is_empty() {
            self.ranges.pop_front();
        }
    }

    pub fn iter(&self) -> impl DoubleEndedIterator<Item = u64> {
        self.ranges.iter().flat_map(|range| range.clone())
    }

    /// Drops a task, wherever it is.
    pub fn remove(&mut self, task: u64) {
        // From the end: what comes back was mostly sent late.
        let holds = |range: &Range<u64>| range.contains(&task);
        let Some(index) = self.ranges.iter().rposition(holds) else {
            return;
        };
        let range = &mut self.ranges[index];
        let rest = task + 1..range.end;
        range.end = task;
        self.len -= 1;
        match (range.is_empty(), rest.is_empty()) {
            (true, true) => _ = self.ranges.remove(index),
            (true, false) => *range = rest,
            (false, true) => {}
            (false, false) => self.ranges.insert(index + 1, rest),
        }
    }

    /// Drops those of which `is_there` says no. There is room then for as many more as stay.
    pub fn retain(&mut self, is_there: impl Fn(u64) -> bool) {
        let mut kept = Sent::default();
        self.iter()
            .filter(|&task| is_there(task))
            .for_each(|task| kept.push(task));
        kept.len_max = 2 * kept.len + Sent::SHORT;
        *self = kept;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tasks(sent: &Sent) -> Vec<u64> {
        let tasks: Vec<u64> = sent.iter().collect();
        assert_eq!(tasks.len(), sent.len());
        assert!(sent.ranges.iter().all(|range| !range.is_empty()));
        tasks
    }

    #[test]
    fn a_row_is_one_range_and_gaps_make_more() {
        let mut sent = Sent::default();
        sent.push_row(3..6);
        sent.push_row(6..6);
        sent.push(6);
        sent.push(2);
        assert_eq!(tasks(&sent), [3, 4, 5, 6, 2]);
        assert_eq!(sent.ranges.len(), 2);
        assert_eq!(sent.iter().next_back(), Some(2));
        assert_eq!(sent.oldest(), 3..7);
        sent.drop_before(3);
        sent.drop_before(5);
        assert_eq!(tasks(&sent), [5, 6, 2]);
        sent.retain(|task| task != 6);
        assert_eq!(tasks(&sent), [5, 2]);
        sent.drop_before(6);
        assert_eq!(sent.oldest(), 2..3);
        sent.drop_before(3);
        assert_eq!((tasks(&sent), sent.oldest()), (vec![], u64::MAX..u64::MAX));
        sent.drop_before(u64::MAX);
    }

    #[test]
    fn there_is_room_for_as_many_more_as_stay() {
        let mut sent = Sent::default();
        assert!(sent.is_full());
        sent.retain(|_| true);
        sent.push_row(0..63);
        assert!(!sent.is_full());
        sent.push_row(63..1000);
        assert!(sent.is_full());
        sent.retain(|task| task % 10 == 0);
        sent.push_row(1000..1163);
        assert!(!sent.is_full());
        // One that goes makes room for one.
        sent.remove(1001);
        sent.push(1163);
        assert!(!sent.is_full());
        sent.push(1164);
        assert!(sent.is_full());
    }

    #[test]
    fn one_is_dropped_wherever_it_is() {
        let mut sent = Sent::default();
        sent.push_row(0..5);
        sent.push_row(9..10);
        for (task, expected) in [
            (2, vec![0, 1, 3, 4, 9]),
            (9, vec![0, 1, 3, 4]),
            (3, vec![0, 1, 4]),
            (1, vec![0, 4]),
            (7, vec![0, 4]),
            (0, vec![4]),
            (4, vec![]),
        ] {
            sent.remove(task);
            assert_eq!(tasks(&sent), expected);
        }
    }
}
