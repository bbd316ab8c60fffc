//! Why tasks failed, in groups.
//!
//! What it is: the reasons of failed tasks, those that differ only in their numbers taken together,
//! with the first of each as an example. What it is not: the list of failed tasks; standard error and
//! the results have each.
//!
//! Invariant: every failure is counted once, and memory is bounded whatever the reasons are.

use crate::frame::Status;
use crate::limits::{FAILURE_GROUPS_MAX, FAILURE_REASON_BYTES};

/// All failures of a run.
#[derive(Debug, Default)]
pub struct Failures {
    groups: Vec<Group>,
    others: u64,
}

/// Failures that have a reason in common.
#[derive(Debug, PartialEq, Eq)]
pub struct Group {
    /// How many tasks.
    pub count: u64,
    /// How they ended.
    pub status: Status,
    /// The reason of the first, cut to `FAILURE_REASON_BYTES`; any bytes at all.
    pub reason: Vec<u8>,
    /// Its number.
    pub task: u64,
    /// The worker that said so, as the scheduler numbers them.
    pub worker: u32,
}

impl Failures {
    /// Counts one more.
    #[cold]
    pub fn note(&mut self, task: u64, worker: u32, status: Status, reason: &[u8]) {
        let reason = &reason[..reason.len().min(FAILURE_REASON_BYTES)];
        let alike = |group: &&mut Group| group.status == status && is_alike(&group.reason, reason);
        if let Some(group) = self.groups.iter_mut().find(alike) {
            group.count += 1;
        } else if self.groups.len() < FAILURE_GROUPS_MAX {
            self.groups.push(Group {
                count: 1,
                status,
                reason: reason.to_vec(),
                task,
                worker,
            });
        } else {
            self.others += 1;
        }
    }

    /// The groups, in the order of their first.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// How many failures had yet other reasons.
    pub fn others(&self) -> u64 {
        self.others
    }
}

/// Whether two reasons differ at most in the numbers they name.
fn is_alike(mut one: &[u8], mut other: &[u8]) -> bool {
    loop {
        match (one, other) {
            ([], []) => return true,
            ([a, ..], [b, ..]) if a.is_ascii_digit() && b.is_ascii_digit() => {
                one = after_digits(one);
                other = after_digits(other);
            }
            ([a, rest @ ..], [b, other_rest @ ..]) if a == b => (one, other) = (rest, other_rest),
            _ => return false,
        }
    }
}

fn after_digits(text: &[u8]) -> &[u8] {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit());
    &text[digits.count()..]
}

#[cfg(test)]
mod tests {
    use super::*;
    use Status::{Failed, TimedOut};

    #[test]
    fn reasons_that_differ_in_numbers_are_one_group() {
        let mut failures = Failures::default();
        failures.note(7, 1, Failed, b"line 17: no such file");
        failures.note(9, 0, Failed, b"line 4: no such file");
        failures.note(9, 0, TimedOut, b"line 4: no such file");
        failures.note(9, 0, Failed, b"line x: no such file");
        let groups = failures.groups();
        assert_eq!(groups.len(), 3);
        assert_eq!(
            (groups[0].count, groups[0].task, groups[0].worker),
            (2, 7, 1)
        );
        assert_eq!(groups[0].reason, b"line 17: no such file");
    }

    #[test]
    fn alike() {
        for (one, other, is) in [
            ("", "", true),
            ("1", "22", true),
            ("a1b2", "a33b4", true),
            ("a1", "a", false),
            ("a1", "1a", false),
            ("a 1", "a1", false),
        ] {
            assert_eq!(
                is_alike(one.as_bytes(), other.as_bytes()),
                is,
                "{one} {other}"
            );
        }
    }

    #[test]
    fn every_failure_counts_and_groups_are_few() {
        let mut failures = Failures::default();
        for task in 0..1000 {
            let letter = (b'a' + (task % 26) as u8) as char;
            let reason = format!("{letter}{}", "x".repeat(5000));
            failures.note(task, 0, Failed, reason.as_bytes());
        }
        assert_eq!(failures.groups().len(), FAILURE_GROUPS_MAX);
        let grouped: u64 = failures.groups().iter().map(|group| group.count).sum();
        assert_eq!(grouped + failures.others(), 1000);
        assert_eq!(failures.groups()[0].reason.len(), FAILURE_REASON_BYTES);
    }
}
