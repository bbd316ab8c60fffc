//! Entries by task number, in a circle.
//!
//! What it is: a queue of consecutive tasks of which each can be reached at once, in memory that is
//! used again and again. What it is not: a `VecDeque`, which builds an entry elsewhere and copies it
//! in, and copies it out again. Nor a map, which would cost two thirds of the throughput.
//!
//! Invariants: the slots are a power of two and no fewer than the tasks; a slot of no task holds a
//! delivered entry.

use super::entry::{Entry, State};

/// Least number of slots.
const SLOTS_MIN: usize = 64;

/// The entries of tasks `base` to `end`, the latter not included.
#[derive(Debug)]
pub(super) struct Ring {
    slots: Box<[Entry]>,
    base: u64,
    end: u64,
}

impl Ring {
    pub fn new() -> Ring {
        Ring {
            slots: empty(SLOTS_MIN),
            base: 0,
            end: 0,
        }
    }

    /// The first task that it has.
    pub fn base(&self) -> u64 {
        self.base
    }

    /// The task that is added next.
    pub fn end(&self) -> u64 {
        self.end
    }

    pub fn len(&self) -> usize {
        (self.end - self.base) as usize
    }

    /// Adds a ready task without input.
    #[inline(always)]
    pub fn push(&mut self) -> &mut Entry {
        if self.len() == self.slots.len() {
            self.grow();
        }
        let slot = self.slot(self.end);
        self.end += 1;
        let entry = &mut self.slots[slot];
        debug_assert_eq!((entry.state, entry.attempt), (State::Delivered, 0));
        entry.state = State::Ready;
        entry
    }

    /// The slot of a task that it has.
    #[inline(always)]
    pub fn find(&self, task: u64) -> Option<usize> {
        let is_there = (self.base..self.end).contains(&task);
        is_there.then(|| self.slot(task))
    }

    #[inline(always)]
    pub fn at(&mut self, slot: usize) -> &mut Entry {
        &mut self.slots[slot]
    }

    #[inline(always)]
    pub fn get(&self, task: u64) -> Option<&Entry> {
        let is_there = (self.base..self.end).contains(&task);
        is_there.then(|| &self.slots[self.slot(task)])
    }

    #[inline(always)]
    pub fn get_mut(&mut self, task: u64) -> Option<&mut Entry> {
        let is_there = (self.base..self.end).contains(&task);
        let slot = self.slot(task);
        is_there.then(|| &mut self.slots[slot])
    }

    /// The oldest.
    #[inline(always)]
    pub fn front(&self) -> Option<&Entry> {
        self.get(self.base)
    }

    /// Leaves the oldest behind, which is the caller's to end.
    #[inline(always)]
    pub fn drop_front(&mut self) -> &mut Entry {
        let slot = self.leave_front();
        &mut self.slots[slot]
    }

    /// Takes out the oldest.
    pub fn pop_front(&mut self) -> Entry {
        let slot = self.leave_front();
        std::mem::replace(&mut self.slots[slot], Entry::delivered())
    }

    /// All of them, the oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        (self.base..self.end).map(|task| &self.slots[self.slot(task)])
    }

    /// The slot of the oldest, which is no task's any more.
    #[inline(always)]
    fn leave_front(&mut self) -> usize {
        assert!(self.base < self.end, "there is a front");
        let slot = self.slot(self.base);
        self.base += 1;
        slot
    }

    #[inline(always)]
    fn slot(&self, task: u64) -> usize {
        task as usize & self.slots.len().wrapping_sub(1)
    }

    #[cold]
    fn grow(&mut self) {
        let mut slots = empty(2 * self.slots.len());
        for task in self.base..self.end {
            let from = self.slot(task);
            let to = task as usize & (slots.len() - 1);
            std::mem::swap(&mut slots[to], &mut self.slots[from]);
        }
        self.slots = slots;
    }
}

fn empty(count: usize) -> Box<[Entry]> {
    (0..count).map(|_| Entry::delivered()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_stay_where_they_are_found_while_it_turns_and_grows() {
        let mut ring = Ring::new();
        for round in 0..1000_u64 {
            for _ in 0..3 {
                let input = ring.end().to_be_bytes();
                ring.push().payload.set(&input);
            }
            for task in ring.base()..ring.end() {
                assert_eq!(ring.get(task).unwrap().payload[..], task.to_be_bytes());
            }
            assert!(ring.get(ring.end()).is_none());
            match round % 2 {
                0 => ring.drop_front().end(),
                _ => assert_eq!(ring.pop_front().payload[..], round.to_be_bytes()),
            }
            assert!(ring.get_mut(round).is_none());
            assert_eq!(ring.iter().count(), ring.len());
        }
        assert_eq!((ring.base(), ring.len()), (1000, 2000));
        assert_eq!(ring.slots.len(), 2048);
    }
}
