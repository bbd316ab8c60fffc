//! The run in Prometheus' text format.
//!
//! What it is: one rendering of an [`Overview`], version 0.0.4 of the format. What it is not: an
//! exposition of more than the page shows.
//!
//! Invariant: counters never fall while the head lives, and all of one metric stand together.

use std::fmt::{self, Write};

use crate::overview::{Overview, Standing, Worker};
use crate::time::Duration;

/// The whole page.
pub(super) fn text(overview: &Overview<'_>) -> String {
    let mut text = Text(String::with_capacity(4096 + 1024 * overview.workers.len()));
    tasks(overview, &mut text);
    workers(&overview.workers, &mut text);
    text.0
}

fn tasks(overview: &Overview<'_>, text: &mut Text) {
    let tasks = &overview.tasks;
    text.single(
        "elapsed_seconds",
        "gauge",
        "Time since the first dial.",
        Seconds(overview.elapsed),
    );
    text.single(
        "tasks_done_total",
        "counter",
        "Tasks that are done.",
        tasks.done,
    );
    text.single(
        "tasks_failed_total",
        "counter",
        "Tasks that have failed for good.",
        tasks.failed,
    );
    text.single(
        "tasks_replayed",
        "gauge",
        "Tasks answered in an earlier run.",
        tasks.replayed,
    );
    if let Some(total) = tasks.total {
        text.single("tasks_expected", "gauge", "Tasks there are in all.", total);
    }
    text.head(
        "tasks_open",
        "gauge",
        "Tasks begun and neither done nor failed, by where they are.",
    );
    for (place, count) in [
        ("ready", tasks.ready),
        ("in_flight", tasks.in_flight),
        ("doubted", tasks.doubted),
        ("recording", tasks.recording),
    ] {
        text.sample("tasks_open", &[("place", place)], count);
    }
    text.single(
        "tasks_running",
        "gauge",
        "Tasks that run now, at most one per slot.",
        overview.running(),
    );
    if let Some(cpu) = overview.head_cpu {
        text.single(
            "head_cpu_seconds_total",
            "counter",
            "Processor time of the head's process in this run.",
            Seconds(cpu),
        );
    }
    if let Some(left) = overview.left {
        text.single(
            "left_seconds",
            "gauge",
            "Time left at the recent rate.",
            Seconds(left),
        );
    }
}

fn workers(workers: &[Worker<'_>], text: &mut Text) {
    text.head(
        "workers",
        "gauge",
        "Workers by how the head stands with them.",
    );
    for standing in Standing::ALL {
        let alike = workers.iter().filter(|worker| worker.standing == standing);
        text.sample("workers", &[("state", standing.word())], alike.count());
    }
    text.each(
        workers,
        "worker_up",
        "gauge",
        "Whether the worker takes tasks.",
        |worker| u64::from(worker.standing.takes_tasks()),
    );
    text.each(
        workers,
        "worker_slots",
        "gauge",
        "Threads that compute.",
        |worker| u64::from(worker.slots),
    );
    text.each(
        workers,
        "worker_in_flight",
        "gauge",
        "Attempts the worker holds.",
        |worker| u64::from(worker.in_flight),
    );
    text.head(
        "worker_attempts_total",
        "counter",
        "Attempts by how they ended.",
    );
    for worker in workers {
        for (outcome, count) in [
            ("done", worker.tally.done),
            ("failed", worker.tally.failed),
            ("lost", worker.tally.lost),
            ("returned", worker.tally.returned),
            ("late", worker.tally.late),
        ] {
            let labels = [("worker", worker.name), ("outcome", outcome)];
            text.sample("worker_attempts_total", &labels, count);
        }
    }
    let help = "Time its kernels ran.";
    text.each(
        workers,
        "worker_run_seconds_total",
        "counter",
        help,
        |worker| Seconds(worker.run_time),
    );
    let help = "Time its slots were there.";
    text.each(
        workers,
        "worker_slot_seconds_total",
        "counter",
        help,
        |worker| Seconds(worker.slot_time),
    );
    let help = "Processor time of its process, with its programs, while it worked for this head.";
    text.known(
        workers,
        "worker_cpu_seconds_total",
        "counter",
        help,
        |worker| worker.usage.map(|usage| Seconds(usage.cpu)),
    );
    let help = "Time its threads had to wait for a processor, while they had under half of them.";
    text.known(
        workers,
        "worker_waited_seconds_total",
        "counter",
        help,
        |worker| worker.usage.map(|usage| Seconds(usage.waited)),
    );
    let help = "Bytes sent to the worker.";
    text.each(
        workers,
        "worker_sent_bytes_total",
        "counter",
        help,
        |worker| worker.sent_bytes,
    );
    let help = "Output bytes received from the worker.";
    text.each(
        workers,
        "worker_received_bytes_total",
        "counter",
        help,
        |worker| worker.received_bytes,
    );
    let help = "Time since the worker was last heard, if it is connected.";
    text.known(workers, "worker_silence_seconds", "gauge", help, |worker| {
        worker.silence.map(Seconds)
    });
}

/// The format, as far as it is needed.
struct Text(String);

impl Text {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        self.put(format_args!(
            "# HELP teamster_{name} {help}\n# TYPE teamster_{name} {kind}\n"
        ));
    }

    fn single(&mut self, name: &str, kind: &str, help: &str, value: impl fmt::Display) {
        self.head(name, kind, help);
        self.sample(name, &[], value);
    }

    fn each<V: fmt::Display>(
        &mut self,
        workers: &[Worker<'_>],
        name: &str,
        kind: &str,
        help: &str,
        value: impl Fn(&Worker<'_>) -> V,
    ) {
        self.head(name, kind, help);
        for worker in workers {
            self.sample(name, &[("worker", worker.name)], value(worker));
        }
    }

    /// Of those workers of which it is known.
    fn known<V: fmt::Display>(
        &mut self,
        workers: &[Worker<'_>],
        name: &str,
        kind: &str,
        help: &str,
        value: impl Fn(&Worker<'_>) -> Option<V>,
    ) {
        self.head(name, kind, help);
        for worker in workers {
            if let Some(value) = value(worker) {
                self.sample(name, &[("worker", worker.name)], value);
            }
        }
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl fmt::Display) {
        self.put(format_args!("teamster_{name}"));
        for (i, (label, text)) in labels.iter().enumerate() {
            self.0.push(if i == 0 { '{' } else { ',' });
            self.put(format_args!("{label}=\""));
            for c in text.chars() {
                match c {
                    '\\' => self.0.push_str("\\\\"),
                    '"' => self.0.push_str("\\\""),
                    '\n' => self.0.push_str("\\n"),
                    c => self.0.push(c),
                }
            }
            self.0.push('"');
        }
        if !labels.is_empty() {
            self.0.push('}');
        }
        self.put(format_args!(" {value}\n"));
    }

    fn put(&mut self, what: fmt::Arguments<'_>) {
        self.0.write_fmt(what).expect("a String takes everything");
    }
}

struct Seconds(Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}", self.0.as_secs(), self.0.subsec_millis())
    }
}
