//! The trace of a run in which a worker dies.
//!
//! What it is: that every attempt is in it once, and that rows are as Perfetto wants them. What it is
//! not: a picture.
//!
//! Invariant: one event stands on one line, which is all the reading that is done here.

use std::collections::BTreeMap;

use crate::common::{Run, Worker, squares};

/// The whole number behind `"name":`.
fn number(event: &str, name: &str) -> Option<u64> {
    let (_, rest) = event.split_once(&format!("\"{name}\":"))?;
    let digits = rest.chars().take_while(char::is_ascii_digit);
    digits.collect::<String>().parse().ok()
}

#[test]
fn every_attempt_is_one_span_and_none_overlap_in_a_slot() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trace.json");
    let (mut killed, other) = (Worker::start(2), Worker::start(2));
    let args = format!(
        "-w {},{} --trace {} square --count 200 --work-ms 10",
        killed.address,
        other.address,
        path.display()
    );
    let run = Run::start(&args);
    run.out.wait_for("50 -> 2500");
    killed.process.kill();
    let ended = run.end().expect(0);
    assert_eq!(ended.text(), squares(200));

    let trace = std::fs::read_to_string(&path).unwrap();
    assert!(trace.starts_with("[{") && trace.ends_with("}\n]\n"));
    let with_phase = |phase: &str| {
        let part = format!("\"ph\":\"{phase}\"");
        trace.lines().filter(move |line| line.contains(&part))
    };
    assert_eq!(with_phase("M").count(), 2, "workers have names");
    let mut rows: BTreeMap<(u64, u64), Vec<(u64, u64)>> = BTreeMap::new();
    for event in with_phase("X") {
        let field = |name| number(event, name).unwrap_or_else(|| panic!("{name} in {event}"));
        let spans = rows.entry((field("pid"), field("tid"))).or_default();
        spans.push((field("ts"), field("dur")));
    }
    assert!(
        rows.keys()
            .all(|(pid, tid)| (1..=2).contains(pid) && (1..=2).contains(tid))
    );
    for (row, spans) in &mut rows {
        spans.sort_unstable();
        for pair in spans.windows(2) {
            let [(start, length), (next, _)] = pair else {
                unreachable!("windows of two");
            };
            assert!(start + length <= *next, "{row:?}: {pair:?}");
        }
    }
    let lost = format!("worker {}: {{}} done, 0 failed, {{}} lost", killed.address);
    let start = lost.split("{}").next().unwrap();
    let tally = ended
        .err
        .iter()
        .find(|line| line.starts_with(start))
        .unwrap();
    let lost = tally.split_once("failed, ").unwrap().1.replace(" lost", "");
    assert_eq!(with_phase("b").count().to_string(), lost);
    assert_eq!(with_phase("e").count().to_string(), lost);
    let done: u64 = [&killed, &other]
        .map(|worker| ended.done_by(&worker.address))
        .iter()
        .sum();
    assert_eq!(done, 200);
    assert!(rows.values().map(Vec::len).sum::<usize>() >= 200);
}
