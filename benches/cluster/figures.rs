//! What is measured, and how it is told.
//!
//! What it is: the list of all figures with what is wanted of them, their medians over the rounds, the
//! table and the JSON. What it is not: a judge; nothing fails because a machine is slow.
//!
//! Invariant: a figure has one value per round, and a ratio is taken within a round, so that both its
//! sides have had the same weather.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::sections::Section;

/// One row of the table.
pub struct Row {
    section: Section,
    /// Its name in the JSON.
    key: &'static str,
    what: &'static str,
    wanted: &'static str,
}

const fn row(section: Section, key: &'static str, what: &'static str, wanted: &'static str) -> Row {
    Row {
        section,
        key,
        what,
        wanted,
    }
}

use Section::{Echo, Empty, Fair, Journal, Keyed, Long, Many, Map, Mix, Rtt, Short, Ten};

/// All there are, in the order of the table.
const ROWS: &[Row] = &[
    row(Empty, "empty_per_s", "tasks/s", ""),
    row(Empty, "empty_floor_per_s", "tasks/s, echo floor", ""),
    row(
        Empty,
        "handover_floor_per_s",
        "tasks/s, hand-over floor",
        "",
    ),
    row(Empty, "empty_of_floor", "of the echo floor", ""),
    row(
        Empty,
        "empty_of_handover",
        "of the hand-over floor",
        ">= 0.35",
    ),
    row(Empty, "empty_in_flight_max", "most tasks in flight", ""),
    row(Empty, "empty_4096_per_s", "tasks/s, 4,096 in flight", ""),
    row(
        Empty,
        "handover_floor_4096_per_s",
        "tasks/s, hand-over floor, 4,096",
        "",
    ),
    row(
        Empty,
        "empty_of_handover_4096",
        "of the hand-over floor, 4,096",
        ">= 0.35",
    ),
    row(Empty, "empty_2048_per_s", "tasks/s, 2,048 in flight", ""),
    row(
        Empty,
        "handover_floor_2048_per_s",
        "tasks/s, hand-over floor, 2,048",
        "",
    ),
    row(
        Empty,
        "empty_of_handover_2048",
        "of the hand-over floor, 2,048",
        ">= 0.35",
    ),
    row(Empty, "head_cpu_us_per_task", "CPU us per task, head", ""),
    row(
        Empty,
        "worker_cpu_us_per_task",
        "CPU us per task, workers",
        "",
    ),
    row(
        Empty,
        "cpu_us_per_task",
        "CPU us per task, together",
        "<= 0.25",
    ),
    row(Empty, "head_peak_kib", "peak KiB, head", "<= 16384"),
    row(Empty, "worker_peak_kib", "peak KiB, worker", "<= 6144"),
    row(Rtt, "rtt_p50_us", "us, median", ""),
    row(Rtt, "rtt_floor_p50_us", "us, median, hand-over floor", ""),
    row(Rtt, "rtt_of_floor", "of the floor's median", "<= 1.15"),
    row(Rtt, "rtt_p99_us", "us, 99 %", ""),
    row(Rtt, "rtt_floor_p99_us", "us, 99 %, hand-over floor", ""),
    row(Echo, "echo_mb_s", "MB/s", ""),
    row(Echo, "echo_floor_mb_s", "MB/s, floor", ""),
    row(Echo, "echo_of_floor", "of the floor", ">= 0.80"),
    row(Short, "short_per_s", "tasks/s", ""),
    row(Short, "short_ideal_per_s", "tasks/s, two threads alone", ""),
    row(Short, "short_of_slots", "of 2 slots / 10 us", ">= 0.85"),
    row(Short, "short_of_ideal", "of two threads alone", ""),
    row(Mix, "mix_per_s", "tasks/s", ""),
    row(Mix, "mix_ideal_per_s", "tasks/s, two threads alone", ""),
    row(Mix, "mix_of_ideal", "of two threads alone", ">= 0.90"),
    row(Mix, "mix_wait_p50_us", "us a short one waits, median", ""),
    row(Mix, "mix_wait_p99_us", "us a short one waits, 99 %", ""),
    row(Ten, "ten_s", "s from start to exit", "<= 5.02"),
    row(
        Many,
        "head_cpu_us_per_task_2",
        "CPU us per task, head, 2 workers",
        "",
    ),
    row(
        Many,
        "head_cpu_us_per_task_1000",
        "CPU us per task, head, 1000 workers",
        "",
    ),
    row(Many, "many_of_two", "of that with 2", "<= 1.30"),
    row(Many, "tasks_per_visit_2", "tasks per visit, 2 workers", ""),
    row(
        Many,
        "tasks_per_visit_1000",
        "tasks per visit, 1000 workers",
        "",
    ),
    row(
        Fair,
        "fair_alone_s",
        "s, ten tasks on half the slots alone",
        "",
    ),
    row(Fair, "fair_s", "s, beside a million equal tasks", ""),
    row(Fair, "fair_of_alone", "of that alone", "<= 1.50"),
    row(Fair, "fair_flood_s", "s, beside a flood of empty tasks", ""),
    row(Fair, "fair_flood_of_alone", "of that alone", "<= 1.50"),
    row(
        Journal,
        "unjournalled_per_s",
        "empty tasks/s without a journal",
        "",
    ),
    row(Journal, "journalled_per_s", "empty tasks/s with one", ""),
    row(
        Journal,
        "journalled_of_without",
        "of that without",
        ">= 0.70",
    ),
    row(
        Journal,
        "unjournalled_1ms_per_s",
        "1 ms tasks/s without a journal",
        "",
    ),
    row(Journal, "journalled_1ms_per_s", "1 ms tasks/s with one", ""),
    row(
        Journal,
        "journalled_1ms_of_without",
        "of that without",
        "1.00",
    ),
    row(Keyed, "unkeyed_per_s", "empty tasks/s without a key", ""),
    row(Keyed, "keyed_per_s", "empty tasks/s with one", ""),
    row(Keyed, "keyed_of_without", "of that without", ">= 0.50"),
    row(Keyed, "unkeyed_1ms_per_s", "1 ms tasks/s without a key", ""),
    row(Keyed, "keyed_1ms_per_s", "1 ms tasks/s with one", ""),
    row(Keyed, "keyed_1ms_of_without", "of that without", ">= 0.97"),
    row(Keyed, "keyed_echo_mb_s", "MB/s of echoes with a key", ""),
    row(Keyed, "seal_mb_s", "MB/s of sealing and opening alone", ""),
    row(Keyed, "keyed_echo_of_seal", "of that alone", ">= 0.50"),
    row(
        Map,
        "map_spawn_floor_per_s",
        "programs/s, spawned bare, two at a time",
        "",
    ),
    row(Map, "map_per_s", "programs/s, one per line", ""),
    row(Map, "map_of_spawn", "of spawned bare", ">= 0.80"),
    row(Map, "map_lasting_per_s", "lines/s, --persistent", ""),
    row(Map, "map_lasting_of_map", "times one per line", ">= 20"),
    row(Long, "long_first_per_s", "tasks/s, first 10 million", ""),
    row(Long, "long_last_per_s", "tasks/s, last 10 million", ""),
    row(
        Long,
        "long_last_of_first",
        "a task's time, last of first",
        "<= 1.10",
    ),
    row(Long, "long_head_peak_kib", "peak KiB, head", "<= 16384"),
    row(Long, "long_worker_peak_kib", "peak KiB, worker", "<= 6144"),
];

/// All that was measured.
#[derive(Default)]
pub struct Figures(BTreeMap<&'static str, Vec<f64>>);

impl Figures {
    /// Adds one round's value of the figure `key`.
    pub fn add(&mut self, key: &str, value: f64) {
        let row = ROWS.iter().find(|row| row.key == key);
        let row = row.unwrap_or_else(|| panic!("no row for {key}"));
        self.0.entry(row.key).or_default().push(value);
    }

    /// Adds the ratio of this round's values of two figures.
    pub fn add_ratio(&mut self, key: &str, of: &str, to: &str) {
        let latest = |key| *self.0[key].last().expect("it was measured");
        self.add(key, latest(of) / latest(to));
    }

    /// The rows of one section: medians, range over the rounds, what is wanted.
    pub fn table(&self, section: Section) -> String {
        let mut text = format!("\n{}: {}\n", section.name(), section.about());
        for row in ROWS.iter().filter(|row| row.section == section) {
            let Some(values) = self.0.get(row.key) else {
                continue;
            };
            let (low, median, high) = summary(values);
            let what = row.what;
            let (median, range) = (human(median), format!("{}..{}", human(low), human(high)));
            let wanted = match row.wanted {
                "" => String::new(),
                wanted => format!("  wanted {wanted}"),
            };
            let line = format!("  {what:<38}{median:>12}  {range:<24}{wanted}");
            writeln!(text, "{}", line.trim_end()).expect("a string grows");
        }
        text
    }

    /// One object: the medians by key, and the ranges by key in an object of their own.
    pub fn json(&self) -> String {
        let members = |of: &dyn Fn(&[f64]) -> String| {
            let member = |(key, values): (_, &Vec<f64>)| format!("\"{key}\": {}", of(values));
            self.0.iter().map(member).collect::<Vec<_>>()
        };
        let medians = members(&|values| summary(values).1.to_string());
        let ranges = members(&|values| {
            let (low, _, high) = summary(values);
            format!("[{low}, {high}]")
        });
        format!(
            "{{\n  {},\n  \"ranges\": {{\n    {}\n  }}\n}}\n",
            medians.join(",\n  "),
            ranges.join(",\n    ")
        )
    }
}

/// Smallest, median, largest.
fn summary(values: &[f64]) -> (f64, f64, f64) {
    let mut sorted = values.to_vec();
    let median = percentile(&mut sorted, 50);
    (sorted[0], median, sorted[sorted.len() - 1])
}

/// The value below which `percent` of them lie.
pub fn percentile(values: &mut [f64], percent: usize) -> f64 {
    assert!(!values.is_empty(), "nothing was measured");
    values.sort_by(f64::total_cmp);
    values[(values.len() - 1) * percent / 100]
}

/// Three or more digits that count, thousands apart.
fn human(value: f64) -> String {
    if value < 1.0 {
        return format!("{value:.3}");
    }
    if value < 100.0 {
        return format!("{value:.2}");
    }
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
