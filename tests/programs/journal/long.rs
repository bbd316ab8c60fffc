//! A journal of ten million records.
//!
//! What it is: a measurement of what going on with it costs.
//! `cargo test --release --test programs journal:: -- --ignored --nocapture ten_million`
//! What it is not: a judgement, except that the memory is bounded.
//!
//! Invariant: the head's memory does not grow with the journal.

use std::time::{Duration, Instant};

use super::team::{Journal, forge};
use crate::common::{Process, head};

const COUNT: u64 = 10_000_000;
/// Far below the journal's length of some 700 MB.
const MEMORY_KIB_MAX: u64 = 64 << 10;

#[test]
#[ignore = "takes seconds, and 700 MB of disk; see the head of this file"]
fn ten_million_records_are_gone_on_with_in_bounded_memory() {
    let journal = Journal::new();
    forge(COUNT, 1000, &journal);
    let path = journal.path.display();
    let args = format!(
        "--local 1 --journal {path} --resume square --count {COUNT} --work-ms 0 -o /dev/null"
    );
    let start = Instant::now();
    let mut process = Process::start(&mut head(&args));
    let status = format!("/proc/{}/status", process.child.id());
    let mut peak_kib = 0;
    while process.child.try_wait().unwrap().is_none() {
        let said = std::fs::read_to_string(&status).unwrap_or_default();
        let line = said.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        peak_kib = kib.unwrap_or(0).max(peak_kib);
        std::thread::sleep(Duration::from_millis(5));
    }
    let elapsed = start.elapsed();
    process.end().expect(0);
    println!(
        "{COUNT} records: {:.1} s, {:.0} records/s, {:.1} MiB at most",
        elapsed.as_secs_f64(),
        COUNT as f64 / elapsed.as_secs_f64(),
        peak_kib as f64 / 1024.0
    );
    assert!((1..MEMORY_KIB_MAX).contains(&peak_kib), "{peak_kib} KiB");
}
