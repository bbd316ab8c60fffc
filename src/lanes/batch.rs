//! Executions in memory that is used again and again.
//!
//! What it is: a queue that is filled at its end and taken from at both, whose places stay when what
//! was in them is gone. An execution stays in its place from the task's arrival to its outcome, where
//! it changes; whole batches change hands by a swap. What it is not: a `VecDeque`, which builds each
//! element elsewhere and copies it in and out, and whose elements lie in two pieces.
//!
//! Invariant: a place that is not in use holds no payload.

use std::ops::Range;

use crate::role::{Attempt, Execution};

/// Executions, the oldest first.
#[derive(Debug, Default)]
pub struct Batch {
    places: Vec<Execution>,
    /// Those in use are from here to `end`, the latter not included.
    start: usize,
    end: usize,
}

impl Batch {
    /// None.
    pub fn new() -> Batch {
        Batch::default()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.end - self.start
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// All of them.
    pub fn as_slice(&self) -> &[Execution] {
        &self.places[self.start..self.end]
    }

    /// The one at `index`, if there are so many.
    #[inline(always)]
    pub fn get_mut(&mut self, index: usize) -> Option<&mut Execution> {
        self.places[self.start..self.end].get_mut(index)
    }

    /// Adds one, which is the caller's to fill in: its payload is empty, all else is another's.
    #[inline(always)]
    pub fn push(&mut self) -> &mut Execution {
        if self.end == self.places.len() {
            self.make_room();
        }
        self.end += 1;
        &mut self.places[self.end - 1]
    }

    #[cold]
    fn make_room(&mut self) {
        if self.start > self.len() {
            // Moved each time that most of them have gone, so not often.
            self.places[..self.end].rotate_left(self.start);
            (self.start, self.end) = (0, self.len());
        } else {
            let places = (2 * self.places.len()).max(16);
            self.places.resize_with(places, Execution::nothing);
        }
    }

    /// Moves all of `other` to the end.
    pub fn append(&mut self, other: &mut Batch) {
        other.move_to(0..other.len(), self);
    }

    /// Leaves room for so many before the oldest, and for as many as there are, so that it is not
    /// needed again for each of several pieces.
    #[cold]
    fn make_room_before(&mut self, count: usize) {
        let more = count + self.len();
        let places = self.places.len().max(self.end + more);
        self.places.resize_with(places, Execution::nothing);
        self.places[..self.end + more].rotate_right(more);
        self.start += more;
        self.end += more;
    }

    /// Moves some to the end of `to`, in their order. All of them, and to where there is nothing, is
    /// one swap.
    ///
    /// # Panics
    /// If there are not so many.
    pub fn move_to(&mut self, range: Range<usize>, to: &mut Batch) {
        let (count, len) = (range.len(), self.len());
        assert!(range.end <= len, "only what is there is moved");
        if count == len && to.is_empty() {
            (to.start, to.end) = (0, 0);
            return std::mem::swap(self, to);
        }
        let (from, end) = (self.start + range.start, self.start + range.end);
        for place in &mut self.places[from..end] {
            std::mem::swap(place, to.push());
        }
        // The emptied places go to the nearer end.
        match range.start {
            0 => self.start = end,
            _ => {
                self.places[from..self.end].rotate_left(count);
                self.end -= count;
            }
        }
        self.rewind();
    }

    /// An empty one is filled from its beginning: one that went through all of its memory would find
    /// none of it in the caches.
    fn rewind(&mut self) {
        if self.is_empty() {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Moves what is behind the first `index` of `other` to before all others.
    pub fn prepend(&mut self, other: &mut Batch, index: usize) {
        let count = other.len() - index;
        if count == 0 {
            return;
        }
        if self.is_empty() {
            return other.move_to(index..other.len(), self);
        }
        if count > self.start {
            self.make_room_before(count);
        }
        self.start -= count;
        let (from, to) = (other.start + index, self.start);
        let places = &mut self.places[to..to + count];
        places.swap_with_slice(&mut other.places[from..from + count]);
        other.end -= count;
        other.rewind();
    }

    /// Drops what is behind the first `len`.
    pub fn truncate(&mut self, len: usize) {
        let from = self.end.min(self.start + len);
        for place in &mut self.places[from..self.end] {
            place.payload.clear();
        }
        self.end = from;
        self.rewind();
    }

    /// Drops all of them.
    pub fn clear(&mut self) {
        self.truncate(0);
    }

    /// Where an attempt is, of those behind the first `index`.
    pub fn find(&self, index: usize, attempt: Attempt) -> Option<usize> {
        let mut rest = self.as_slice()[index..].iter();
        let found = rest.position(|execution| execution.attempt == attempt)?;
        Some(index + found)
    }
}

impl Extend<Execution> for Batch {
    fn extend<I: IntoIterator<Item = Execution>>(&mut self, executions: I) {
        for execution in executions {
            *self.push() = execution;
        }
    }
}

impl FromIterator<Execution> for Batch {
    fn from_iter<I: IntoIterator<Item = Execution>>(executions: I) -> Batch {
        let mut batch = Batch::new();
        batch.extend(executions);
        batch
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Task;
    use crate::payload::Bytes;
    use crate::rng::SplitMix64;
    use crate::role::ConnId;
    use std::collections::VecDeque;

    fn conn() -> ConnId {
        Execution::nothing().conn
    }

    fn attempt(task: u64) -> Attempt {
        Attempt { task, number: 1 }
    }

    fn push(batch: &mut Batch, task: u64) {
        let input = vec![7; task as usize % 40];
        let (attempt, input) = (attempt(task), Bytes::from(&input));
        batch.push().set(conn(), Task { attempt, input });
    }

    /// Which tasks are in it; what is not in use holds nothing.
    fn tasks(batch: &Batch) -> Vec<u64> {
        let unused = [&batch.places[..batch.start], &batch.places[batch.end..]];
        assert!(
            unused
                .concat()
                .iter()
                .all(|place| place.payload.heap_bytes() == 0)
        );
        let check = |execution: &Execution| {
            let task = execution.attempt.task;
            assert_eq!(execution.payload.len(), task as usize % 40);
            assert_eq!(execution.input_bytes as u64, task % 40);
            task
        };
        batch.as_slice().iter().map(check).collect()
    }

    /// Whatever is done, it is what three queues come to.
    #[test]
    fn executions_stay_in_their_order_wherever_they_are_moved() {
        let mut rng = SplitMix64::new(5);
        let mut batches = [(); 3].map(|()| Batch::new());
        let mut queues = [(); 3].map(|()| VecDeque::new());
        let mut below = |n: usize| rng.below(n as u64 + 1) as usize;
        for step in 0..100_000 {
            let (a, b) = [(0, 1), (1, 2), (2, 0)][below(2)];
            let [one, other] = batches.get_disjoint_mut([a, b]).unwrap();
            let [its, others] = queues.get_disjoint_mut([a, b]).unwrap();
            let from = below(its.len());
            let to = from + below(its.len() - from);
            match below(9) {
                0..4 if its.len() < 40 => {
                    push(one, step);
                    its.push_back(step);
                }
                4 => {
                    one.move_to(from..to, other);
                    others.extend(its.drain(from..to));
                }
                5 => {
                    one.move_to(0..to, other);
                    others.extend(its.drain(..to));
                }
                6 => {
                    other.append(one);
                    others.append(its);
                }
                7 => {
                    other.prepend(one, from);
                    let mut front = its.split_off(from);
                    front.append(others);
                    *others = front;
                }
                8 => {
                    one.truncate(to);
                    its.truncate(to);
                }
                _ => {
                    let found = its.get(to).map(|&task| (task, Some(to)));
                    let (task, found) = found.unwrap_or((step, None));
                    let wanted = found.filter(|&index| index >= from);
                    assert_eq!(one.find(from, attempt(task)), wanted);
                }
            }
            for (batch, queue) in batches.iter().zip(&queues) {
                assert_eq!(
                    (batch.len(), batch.is_empty()),
                    (queue.len(), queue.is_empty())
                );
                assert_eq!(*queue, tasks(batch));
            }
        }
    }

    #[test]
    fn memory_is_used_again() {
        let mut batch = Batch::new();
        for round in 0..1000 {
            for task in 0..10 {
                push(&mut batch, 10 * round + task);
            }
            // Some always stay.
            let gone = batch.len() - 5;
            batch.move_to(0..gone, &mut Batch::new());
        }
        assert_eq!(batch.places.len(), 32);
        batch.clear();
        assert!(batch.is_empty());
        push(&mut batch, 1);
        assert_eq!(batch.start, 0);
    }
}
