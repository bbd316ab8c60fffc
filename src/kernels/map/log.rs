//! The log of a map run, in GNU parallel's nine columns.
//!
//! What it is: which command each open task is, and its row. What it is not: a file.
//!
//! Invariant: one row per task, on one line, whatever is in its command.

use std::collections::BTreeMap;

use crate::command::{CommandLine, Ended};
use crate::format::escape_tsv;
use crate::kernel::Delivery;
use crate::limits::LOGGED_BYTES_MAX;

use super::quoted;

/// Its first line.
pub const HEAD: &str =
    "Seq\tHost\tStarttime\tJobRuntime\tSend\tReceive\tExitval\tSignal\tCommand\n";

/// Commands of the tasks that are not delivered yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Log {
    epoch_ms: u64,
    /// The number of the next task.
    next: u64,
    open: BTreeMap<u64, Sent>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Sent {
    input_bytes: usize,
    command: Vec<u8>,
}

impl Log {
    /// When the run began, in milliseconds since 1970.
    pub fn begin(&mut self, epoch_ms: u64) {
        self.epoch_ms = epoch_ms;
    }

    /// The next task is `line`'s. A line that no program takes stands alone.
    pub fn note(&mut self, command: &CommandLine, line: &[u8]) {
        let mut shown = match command.argv(line) {
            Ok(argv) => quoted(&argv),
            Err(_) => quoted(&[line.to_vec()]),
        };
        // Outcomes may wait for one before them, and with each its command.
        shown.truncate(LOGGED_BYTES_MAX);
        shown.shrink_to_fit();
        let sent = Sent {
            input_bytes: line.len(),
            command: shown,
        };
        self.open.insert(self.next, sent);
        self.next += 1;
    }

    /// The row of a delivery; `ended` if its program ran to an end.
    pub fn row(
        &mut self,
        delivery: &Delivery<'_>,
        ended: Option<Ended>,
        output_bytes: usize,
    ) -> Vec<u8> {
        let sent = self.open.remove(&delivery.task);
        let sent = sent.expect("every task was given out once");
        let (exit, signal) = match ended {
            Some(Ended::Exited(code)) => (i32::from(code), 0),
            Some(Ended::Signalled(number)) => (0, number),
            None => (-1, 0),
        };
        let run_ms = u64::from(delivery.run_us / 1000);
        let start_ms = match delivery.answered_ms {
            // In an earlier run, or never.
            0 => 0,
            at => (self.epoch_ms + u64::from(at)).saturating_sub(run_ms),
        };
        let mut row = format!(
            "{}\t{}\t{}\t{}\t{}\t{output_bytes}\t{exit}\t{signal}\t",
            delivery.task + 1,
            delivery.worker,
            seconds(start_ms),
            seconds(run_ms),
            sent.input_bytes,
        )
        .into_bytes();
        escape_tsv(&sent.command, &mut row);
        row.push(b'\n');
        row
    }
}

fn seconds(ms: u64) -> String {
    format!("{}.{:03}", ms / 1000, ms % 1000)
}
