//! What the journal was given, and what came of it.
//!
//! What it is: by task the outcome that was handed to the journal, and whether the head was told that
//! it is durable. What it is not: a judge of whether an outcome is right; the ledger judges each when
//! it is handed over.
//!
//! Invariant: between two lives of the head it has what the journal has.

use std::collections::{BTreeMap, VecDeque};

use teamster::journal::{Outcome, PREFIX_BYTES, Record, body_bytes};

use crate::job::Delivered;
use crate::oracle;

#[derive(Default)]
pub struct Records {
    kept: BTreeMap<u64, Kept>,
    /// What the head was not told of yet.
    pending: VecDeque<u64>,
    /// What was handed over in this turn.
    fresh: Vec<Delivered>,
}

struct Kept {
    outcome: Delivered,
    is_durable: bool,
    /// The head that lives now has read it.
    is_read: bool,
}

fn whole(outcome: &Outcome<'_>) -> Delivered {
    Delivered {
        task: outcome.task,
        status: outcome.status,
        output: outcome.output.to_vec(),
        worker: outcome.worker.to_owned(),
        attempts: outcome.losses,
    }
}

impl Records {
    /// The head hands records to the journal.
    pub fn hand_over(&mut self, mut records: &[u8], count: usize) {
        let pending = self.pending.len();
        while let Some(prefix) = records.first_chunk() {
            let (record, rest) = records.split_at(PREFIX_BYTES + body_bytes(prefix));
            records = rest;
            let Some(Record::Outcome(outcome)) = Record::parse(record, 0) else {
                crate::trace::fail("recorded-once", "what is handed over is no outcome");
            };
            let task = outcome.task;
            let kept = Kept {
                outcome: whole(&outcome),
                is_durable: false,
                is_read: false,
            };
            let is_first = self.kept.insert(task, kept).is_none();
            oracle!("recorded-once", is_first, "task {task} is recorded twice");
            self.pending.push_back(task);
            self.fresh.push(whole(&outcome));
        }
        let added = self.pending.len() - pending;
        oracle!(
            "recorded-once",
            added == count,
            "{added} records, not {count}"
        );
    }

    /// What was handed over since the last call.
    pub fn take_fresh(&mut self) -> Vec<Delivered> {
        std::mem::take(&mut self.fresh)
    }

    /// The head is told that its oldest so many records are durable.
    pub fn told(&mut self, count: usize) {
        for task in self.pending.drain(..count) {
            let kept = self.kept.get_mut(&task).expect("it was handed over");
            kept.is_durable = true;
        }
    }

    /// A task is sent to a worker.
    pub fn sent(&self, task: u64) {
        let is_new = !self.kept.contains_key(&task);
        oracle!(
            "recorded-once",
            is_new,
            "task {task} has a record and is sent"
        );
    }

    /// The job gets an outcome.
    pub fn delivered(&self, got: &Delivered) {
        let kept = self.kept.get(&got.task);
        oracle!(
            "durable",
            kept.is_some_and(|kept| kept.is_durable && kept.outcome == *got),
            "task {} is delivered otherwise than the journal has it, or before",
            got.task
        );
    }

    /// Another head begins to read the journal.
    pub fn begin_replay(&mut self) {
        self.pending.clear();
        self.fresh.clear();
        self.kept.values_mut().for_each(|kept| kept.is_read = false);
    }

    pub fn read(&mut self, outcome: &Outcome<'_>) {
        let task = outcome.task;
        let kept = self.kept.get_mut(&task);
        let Some(kept) = kept.filter(|kept| kept.outcome == whole(outcome)) else {
            crate::trace::fail("durable", &format!("nobody recorded this of task {task}"));
        };
        let is_again = std::mem::replace(&mut kept.is_read, true);
        oracle!("recorded-once", !is_again, "task {task} has two records");
    }

    /// It has come to the end.
    pub fn end_replay(&mut self) {
        for (task, kept) in &self.kept {
            let is_there = kept.is_read || !kept.is_durable;
            oracle!("durable", is_there, "the journal has lost task {task}");
        }
        self.kept.retain(|_, kept| kept.is_read);
        self.kept
            .values_mut()
            .for_each(|kept| kept.is_durable = true);
    }

    /// Tasks with a record.
    pub fn tasks(&self) -> Vec<u64> {
        self.kept.keys().copied().collect()
    }
}
