//! A run in figures: for programs as JSON, for people as a few lines.
//!
//! What it is: the two renderings of an [`Overview`] that say all of it. `docs/REPORT.md` is the page
//! of the first. What it is not: a file, or a reader of one.
//!
//! Invariant: a member that is there once is there always; what is not known is `null`.

use crate::format::{json_string, printable};
use crate::frame::Status;
use crate::overview::{Failure, Overview, Standing, Worker};
use crate::role::Exit;
use crate::time::Duration;
use crate::words::{Bytes, PerTime, Percent, Span, count};

/// Changes when a member changes its meaning or goes; not when one is added.
const VERSION: u64 = 1;
/// Of so many workers at most a second line is told, which fits a terminal beside the rest.
const DETAILED_MAX: usize = 8;

/// How a run compared with a serial one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Comparison {
    /// How long that took.
    pub serial: Duration,
    /// From the first dial to the last outcome of the other; `None` if the run was cut short, or
    /// went on with an earlier one: then times do not compare.
    pub distributed: Option<Duration>,
    /// Whether there are as many results.
    pub is_complete: bool,
    /// Whether they are the same.
    pub is_identical: bool,
}

/// One word for how a run stands.
fn state(ended: Option<Exit>) -> &'static str {
    match ended {
        None => "running",
        Some(Exit::Done) => "done",
        Some(Exit::Failed) => "failed",
        Some(Exit::Interrupted) => "interrupted",
        Some(Exit::NoWorker) => "no worker",
        Some(Exit::Usage | Exit::Journal | Exit::Output | Exit::ReaderGone) => "broken off",
    }
}

/// Appends the run as one JSON object and a line end.
pub fn json(overview: &Overview<'_>, comparison: Option<&Comparison>, out: &mut Vec<u8>) {
    let mut json = Json(out);
    json.open('{');
    json.number("version", VERSION);
    json.string("job", &overview.job);
    json.string("state", state(overview.ended));
    json.optional("exit_code", overview.ended.map(|exit| exit.code().into()));
    json.seconds("elapsed_s", Some(overview.elapsed));
    json.seconds("head_cpu_s", overview.head_cpu);
    tasks(overview, &mut json);
    json.milli("tasks_per_s", overview.rate.map(|rate| rate.per_s_milli()));
    json.seconds("left_s", overview.left);
    json.text("idle", overview.idle.as_deref());
    json.number("workers_up", overview.up() as u64);
    json.number("slots", overview.slots());
    json.milli("busy", Some(overview.busy_milli()));
    json.name("failures");
    json.open('[');
    overview
        .failures
        .iter()
        .for_each(|group| failure(group, &mut json));
    json.close(']');
    json.number("failures_other", overview.failures_other);
    json.name("workers");
    json.open('[');
    overview
        .workers
        .iter()
        .for_each(|each| worker(each, &mut json));
    json.close(']');
    if let Some(comparison) = comparison {
        compared(comparison, overview.slots(), &mut json);
    }
    json.close('}');
    out.push(b'\n');
}

fn tasks(overview: &Overview<'_>, json: &mut Json<'_>) {
    let tasks = &overview.tasks;
    json.name("tasks");
    json.open('{');
    json.optional("total", tasks.total);
    json.milli("share", tasks.share_milli);
    json.number("ready", tasks.ready);
    json.number("in_flight", tasks.in_flight);
    json.number("running", overview.running());
    json.number("doubted", tasks.doubted);
    json.number("recording", tasks.recording);
    json.number("done", tasks.done);
    json.number("failed", tasks.failed);
    json.number("replayed", tasks.replayed);
    json.close('}');
}

fn failure(failure: &Failure<'_>, json: &mut Json<'_>) {
    json.element('{');
    json.number("count", failure.count);
    json.string(
        "outcome",
        match failure.status {
            Status::TimedOut => "timeout",
            _ => "failed",
        },
    );
    json.string("reason", &printable(failure.reason));
    json.number("task", failure.task);
    json.text("worker", failure.worker);
    json.string("next", next_step(failure));
    json.close('}');
}

fn worker(worker: &Worker<'_>, json: &mut Json<'_>) {
    json.element('{');
    json.string("name", worker.name);
    json.string("state", worker.standing.word());
    json.number("slots", worker.slots.into());
    json.number("slots_hung", worker.slots_hung.into());
    json.number("in_flight", worker.in_flight.into());
    json.number("done", worker.tally.done);
    json.number("failed", worker.tally.failed);
    json.number("lost", worker.tally.lost);
    json.number("returned", worker.tally.returned);
    json.number("late", worker.tally.late);
    json.milli("busy", Some(worker.busy_milli()));
    json.seconds("run_s", Some(worker.run_time));
    json.seconds("slot_s", Some(worker.slot_time));
    json.seconds("cpu_s", worker.usage.map(|usage| usage.cpu));
    json.seconds("waited_s", worker.usage.map(|usage| usage.waited));
    json.number("sent_bytes", worker.sent_bytes);
    json.number("received_bytes", worker.received_bytes);
    json.seconds("silence_s", worker.silence);
    json.close('}');
}

fn compared(comparison: &Comparison, slots: u64, json: &mut Json<'_>) {
    json.name("compared");
    json.open('{');
    json.seconds("serial_s", Some(comparison.serial));
    json.seconds("distributed_s", comparison.distributed);
    json.milli("speed_up", comparison.speed_up_milli());
    let efficiency = comparison
        .speed_up_milli()
        .and_then(|milli| milli.checked_div(slots));
    json.milli("efficiency", efficiency);
    json.name("identical");
    json.raw(if comparison.is_identical {
        "true"
    } else {
        "false"
    });
    json.close('}');
}

impl Comparison {
    /// How many times as fast, in thousandths.
    pub fn speed_up_milli(&self) -> Option<u64> {
        let us = self.distributed?.as_micros().max(1);
        Some((self.serial.as_micros() * 1000 / us) as u64)
    }
}

/// The run in lines for people: each worker's, then what they come to.
pub fn summary(overview: &Overview<'_>) -> Vec<String> {
    let mut lines = Vec::new();
    workers(overview, &mut lines);
    lines.push(totals(overview));
    lines.extend(cpu(overview));
    for failure in &overview.failures {
        let of = match failure.worker {
            Some(worker) => format!("task {} on worker {worker}", failure.task),
            None => format!("task {}", failure.task),
        };
        let (tasks, reason) = (count(failure.count, "task"), printable(failure.reason));
        lines.push(format!(
            "{tasks} failed for this reason, first {of}: `{reason}`"
        ));
        lines.push(format!("  {}", next_step(failure)));
    }
    if overview.failures_other > 0 {
        let others = count(overview.failures_other, "task");
        lines.push(format!("{others} failed for yet other reasons"));
    }
    lines
}

fn totals(overview: &Overview<'_>) -> String {
    let tasks = &overview.tasks;
    let mut totals = format!(
        "{} done, {} failed",
        count(tasks.done, "task"),
        tasks.failed
    );
    let begun = tasks.ready + tasks.in_flight + tasks.doubted;
    let others = |total: u64| total.saturating_sub(tasks.done + tasks.failed);
    let undone = tasks.total.map_or(begun, others).max(begun);
    if undone > 0 {
        totals += &format!(", {undone} undone");
    }
    if tasks.replayed > 0 {
        totals += &format!(", {} of an earlier run", tasks.replayed);
    }
    totals += &format!(" in {}", Span(overview.elapsed));
    if let Some(rate) = overview.mean_rate() {
        totals += &format!(", {}", PerTime(rate));
    }
    let busy = Percent(overview.busy_milli());
    totals + &format!(", {} {busy} busy", count(overview.slots(), "slot"))
}

/// What the run cost at each end, if there was one and that is known.
fn cpu(overview: &Overview<'_>) -> Option<String> {
    if overview.slots() == 0 {
        return None;
    }
    let at = [
        ("at the workers", overview.workers_cpu()),
        ("at the head", overview.head_cpu),
    ];
    let known = at
        .into_iter()
        .filter_map(|(place, cpu)| Some((place, cpu?)));
    let parts: Vec<_> = known
        .map(|(place, cpu)| format!("{} {place}", Span(cpu)))
        .collect();
    (!parts.is_empty()).then(|| format!("CPU: {}", parts.join(", ")))
}

/// What each worker did, in a line that scripts may rely on; and beneath it what more there is to
/// say, of those first of which that is most if there are many. Not as a table, which would have to
/// name them all a second time.
fn workers(overview: &Overview<'_>, lines: &mut Vec<String>) {
    let mut told: Vec<usize> = (0..overview.workers.len()).collect();
    if told.len() > DETAILED_MAX {
        // Stable, so that of equals the first named are told of.
        told.sort_by_key(|&index| {
            let worker = &overview.workers[index];
            let trouble = worker.tally.lost + worker.tally.failed + worker.tally.returned;
            (
                worker.standing == Standing::Up,
                trouble == 0,
                worker.busy_milli(),
            )
        });
        told.truncate(DETAILED_MAX);
    }
    for (index, worker) in overview.workers.iter().enumerate() {
        let (name, tally) = (worker.name, &worker.tally);
        lines.push(format!(
            "worker {name}: {} done, {} failed, {} lost",
            tally.done, tally.failed, tally.lost
        ));
        if told.contains(&index) {
            lines.push(details(worker));
        }
    }
    let left_out = overview.workers.len() - told.len();
    if left_out > 0 {
        let workers = count(left_out as u64, "worker");
        lines.push(format!("  {workers} in less detail; --report FILE has it"));
    }
}

/// States, hand-backs and late outcomes only where there are some.
fn details(worker: &Worker<'_>) -> String {
    if worker.slot_time.is_zero() {
        // It has never been up.
        return format!("  {}", worker.standing);
    }
    let mut line = "  ".to_owned();
    if worker.standing != Standing::Up {
        line += &format!("{}, ", worker.standing);
    }
    line += &format!(
        "{} {} busy",
        count(worker.slots.into(), "slot"),
        Percent(worker.busy_milli())
    );
    if let Some(usage) = worker.usage {
        line += &format!(", {} CPU", Span(usage.cpu));
    }
    line += &format!(
        ", {} sent, {} received",
        Bytes(worker.sent_bytes),
        Bytes(worker.received_bytes)
    );
    for (number, what) in [
        (worker.tally.returned, "returned"),
        (worker.tally.late, "late"),
    ] {
        if number > 0 {
            line += &format!(", {number} {what}");
        }
    }
    line
}

/// What to do about failures.
fn next_step(failure: &Failure<'_>) -> &'static str {
    match (failure.status, failure.worker) {
        (Status::TimedOut, _) => "raise --timeout if such tasks need longer",
        // Only what it cannot send, and what its workers died of.
        (_, None) => "run it alone on a spare worker to see what it does",
        _ => "that is the task's own answer: mend its input, or the kernel",
    }
}

/// JSON that is written as it comes.
struct Json<'a>(&'a mut Vec<u8>);

impl Json<'_> {
    fn separate(&mut self) {
        if !matches!(self.0.last(), None | Some(b'{' | b'[')) {
            self.0.push(b',');
        }
    }

    fn raw(&mut self, text: &str) {
        self.0.extend_from_slice(text.as_bytes());
    }

    fn open(&mut self, bracket: char) {
        self.0.push(bracket as u8);
    }

    fn element(&mut self, bracket: char) {
        self.separate();
        self.open(bracket);
    }

    fn close(&mut self, bracket: char) {
        self.0.push(bracket as u8);
    }

    fn name(&mut self, name: &str) {
        self.separate();
        json_string(name, self.0);
        self.0.push(b':');
    }

    fn string(&mut self, name: &str, value: &str) {
        self.name(name);
        json_string(value, self.0);
    }

    fn text(&mut self, name: &str, value: Option<&str>) {
        self.name(name);
        match value {
            Some(value) => json_string(value, self.0),
            None => self.raw("null"),
        }
    }

    fn number(&mut self, name: &str, value: u64) {
        self.optional(name, Some(value));
    }

    fn optional(&mut self, name: &str, value: Option<u64>) {
        self.name(name);
        match value {
            Some(value) => self.raw(&value.to_string()),
            None => self.raw("null"),
        }
    }

    fn milli(&mut self, name: &str, value: Option<u64>) {
        self.name(name);
        match value {
            Some(milli) => self.raw(&format!("{}.{:03}", milli / 1000, milli % 1000)),
            None => self.raw("null"),
        }
    }

    fn seconds(&mut self, name: &str, value: Option<Duration>) {
        self.milli(name, value.map(|time| time.as_millis() as u64));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::overview::tests::{overview, worker};

    #[test]
    fn the_report_of_a_run() {
        let comparison = Comparison {
            serial: Duration::from_secs(12),
            distributed: Some(Duration::from_millis(6300)),
            is_complete: true,
            is_identical: true,
        };
        let mut text = Vec::new();
        json(&overview(), Some(&comparison), &mut text);
        let expected = concat!(
            r#"{"version":1,"job":"square --count 1000","state":"running","exit_code":null,"#,
            r#""elapsed_s":6.300,"head_cpu_s":0.310,"tasks":{"total":1000,"share":0.304,"ready":2,"in_flight":5,"#,
            r#""running":3,"doubted":0,"recording":0,"done":300,"failed":4,"replayed":0},"#,
            r#""tasks_per_s":48.200,"left_s":14.400,"idle":null,"workers_up":1,"slots":3,"busy":0.950,"#,
            r#""failures":[{"count":4,"outcome":"failed","reason":"n is \"odd\"\\u{1b}","#,
            r#""task":17,"worker":"a:1","next":"that is the task's own answer: mend its input, "#,
            r#"or the kernel"}],"failures_other":0,"workers":[{"name":"a:1","state":"up","#,
            r#""slots":3,"slots_hung":0,"in_flight":5,"done":300,"failed":4,"lost":0,"#,
            r#""returned":0,"late":0,"busy":0.950,"run_s":9.500,"slot_s":10.000,"#,
            r#""cpu_s":9.400,"waited_s":0.070,"#,
            r#""sent_bytes":1536,"received_bytes":96,"silence_s":0.020},"#,
            r#"{"name":"b\"\\<b>:2","state":"unreachable","slots":0,"slots_hung":0,"#,
            r#""in_flight":0,"done":0,"failed":0,"lost":0,"returned":0,"late":0,"busy":0.950,"#,
            r#""run_s":9.500,"slot_s":10.000,"cpu_s":null,"waited_s":null,"#,
            r#""sent_bytes":1536,"received_bytes":96,"#,
            r#""silence_s":null}],"compared":{"serial_s":12.000,"distributed_s":6.300,"#,
            r#""speed_up":1.904,"efficiency":0.634,"identical":true}}"#,
            "\n"
        );
        assert_eq!(String::from_utf8(text).unwrap(), expected);
    }

    #[test]
    fn the_summary_of_a_run() {
        let mut run = overview();
        run.workers[0].tally.late = 2;
        run.workers[1].name = "b:2";
        run.workers[1].run_time = Duration::ZERO;
        run.workers[1].slot_time = Duration::ZERO;
        let expected = [
            "worker a:1: 300 done, 4 failed, 0 lost",
            "  3 slots 95% busy, 9.40 s CPU, 1.5 KiB sent, 96 B received, 2 late",
            "worker b:2: 0 done, 0 failed, 0 lost",
            "  unreachable",
            "300 tasks done, 4 failed, 696 undone in 6.30 s, 48.2/s, 3 slots 95% busy",
            "CPU: 9.40 s at the workers, 0.31 s at the head",
            "4 tasks failed for this reason, first task 17 on worker a:1: `n is \"odd\"\\u{1b}`",
            "  that is the task's own answer: mend its input, or the kernel",
        ];
        assert_eq!(summary(&run), expected);
    }

    #[test]
    fn of_64_workers_those_in_trouble_are_told_of() {
        let mut run = overview();
        let names: Vec<String> = (0..64).map(|i| format!("10.0.0.{i}:5000")).collect();
        run.workers = names
            .iter()
            .map(|name| Worker { name, ..worker("") })
            .collect();
        run.workers
            .iter_mut()
            .for_each(|worker| worker.tally.failed = 0);
        run.workers[40].standing = Standing::Lost;
        run.workers[50].tally.lost = 1;
        run.workers[60].run_time = Duration::ZERO;
        let lines = summary(&run);
        let tallies = lines.iter().filter(|line| line.starts_with("worker "));
        assert_eq!(tallies.count(), 64);
        let name = |line: &str| line.split(' ').nth(1).unwrap().to_owned();
        let detailed = lines.windows(2).filter(|pair| pair[1].contains(" busy, "));
        let detailed: Vec<String> = detailed.map(|pair| name(&pair[0])).collect();
        let expected = [0, 1, 2, 3, 4, 40, 50, 60].map(|i| format!("10.0.0.{i}:5000:"));
        assert_eq!(detailed, expected);
        assert!(lines.contains(&"  56 workers in less detail; --report FILE has it".to_owned()));
        assert!(lines.iter().all(|line| line.len() < 80), "{lines:#?}");
    }
}
