//! When each attempt ran, in Chrome's trace format, which <https://ui.perfetto.dev> opens.
//!
//! What it is: the file, the thread that writes it, and which attempt stands in which row: one
//! process per worker, one row per slot. What it is not: exact. The head knows when an answer came
//! and how long the kernel ran; answers that come together are drawn one after the other, so by up to
//! 20 milliseconds later than they ran. Attempts that were lost are drawn from sending to loss, apart
//! from the rows.
//!
//! Invariant: no two spans of a row overlap, and the run never waits for the file: what it cannot
//! keep up with is left out and counted.

use std::io::{self, BufWriter, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use crate::format::json_string;
use crate::frame::Status;
use crate::limits::TRACE_BATCHES_MAX;
use crate::output::Replacement;
use crate::role::Span;
use crate::time::Time;

/// A trace that is being written.
#[derive(Debug)]
pub struct Trace {
    queue: SyncSender<Vec<Span>>,
    thread: JoinHandle<io::Result<()>>,
    left_out: u64,
}

impl Trace {
    /// Begins a trace of these workers in `file`.
    ///
    /// # Errors
    /// If the system refuses a thread.
    pub fn start(file: Replacement, workers: Vec<String>) -> io::Result<Trace> {
        let (queue, batches) = sync_channel(TRACE_BATCHES_MAX);
        let work = move || write_all(file, &workers, &batches);
        let thread = thread::Builder::new().name("trace".into()).spawn(work)?;
        Ok(Trace {
            queue,
            thread,
            left_out: 0,
        })
    }

    /// Hands over a turn's spans.
    pub fn add(&mut self, spans: &mut Vec<Span>) {
        let spans = std::mem::take(spans);
        let count = spans.len() as u64;
        if self.queue.try_send(spans).is_err() {
            self.left_out += count;
        }
    }

    /// Waits until all is written; returns how many spans were left out.
    ///
    /// # Errors
    /// What kept it from being written.
    pub fn finish(self) -> io::Result<u64> {
        drop(self.queue);
        let written = self
            .thread
            .join()
            .expect("the trace's thread does not panic");
        written.map(|()| self.left_out)
    }
}

fn write_all(
    file: Replacement,
    workers: &[String],
    batches: &Receiver<Vec<Span>>,
) -> io::Result<()> {
    let mut file = BufWriter::new(file);
    let mut text = b"[".to_vec();
    for (worker, name) in workers.iter().enumerate() {
        name_process(worker, name, &mut text);
    }
    let mut rows: Vec<Rows> = workers.iter().map(|_| Rows::default()).collect();
    for batch in batches {
        for span in &batch {
            append(span, &mut rows[span.worker as usize], &mut text);
        }
        file.write_all(&text)?;
        text.clear();
    }
    text.extend_from_slice(b"\n]\n");
    file.write_all(&text)?;
    file.into_inner()
        .map_err(|error| error.into_error())?
        .finish(true)?;
    Ok(())
}

/// When each row of one worker is free.
#[derive(Debug, Default)]
struct Rows(Vec<Time>);

impl Rows {
    /// A row for what ran from `start` to `end`, and when it is drawn to begin.
    fn place(&mut self, slots: u16, start: Time, end: Time) -> (usize, Time) {
        let row = self.0.iter().position(|&free_at| free_at <= start);
        let row = row.unwrap_or_else(|| {
            if self.0.len() < usize::from(slots.max(1)) {
                self.0.push(Time::ZERO);
                return self.0.len() - 1;
            }
            let rows = self.0.iter().enumerate();
            rows.min_by_key(|(_, free_at)| **free_at)
                .expect("there is one")
                .0
        });
        let drawn = start.max(self.0[row]);
        self.0[row] = drawn + end.since(start);
        (row, drawn)
    }
}

fn name_process(worker: usize, name: &str, text: &mut Vec<u8>) {
    separate(text, worker == 0);
    let start = "{\"ph\":\"M\",\"name\":\"process_name\"";
    put(
        text,
        format_args!("{start},\"pid\":{},\"args\":{{\"name\":", worker + 1),
    );
    json_string(&format!("worker {name}"), text);
    text.extend_from_slice(b"}}");
}

fn append(span: &Span, rows: &mut Rows, text: &mut Vec<u8>) {
    let (pid, task, number) = (span.worker + 1, span.attempt.task, span.attempt.number);
    let sent_us = span.sent_at.as_micros();
    separate(text, false);
    let Some((status, run)) = span.ran else {
        // A pair of events with an id of its own overlaps whatever it likes.
        for (phase, at) in [("b", span.sent_at), ("e", span.ended_at)] {
            let us = at.as_micros();
            put(
                text,
                format_args!(
                    "{{\"ph\":\"{phase}\",\"cat\":\"lost\",\"id\":\"{}\",\"name\":\"task {task}\",\
                 \"ts\":{us},\"pid\":{pid},\"tid\":0,\"args\":{{\"attempt\":{number}}}}}",
                    span.attempt
                ),
            );
            separate(text, phase == "e");
        }
        return;
    };
    let end = span.ended_at;
    let start = Time::from_micros(end.as_micros().saturating_sub(run.as_micros() as u64));
    let (row, start) = rows.place(span.slots, start.max(span.sent_at), end);
    let outcome = match status {
        Status::Done => "done",
        Status::Failed => "failed",
        Status::TimedOut => "timeout",
        Status::Returned => "returned",
    };
    put(
        text,
        format_args!(
            "{{\"ph\":\"X\",\"cat\":\"{outcome}\",\"name\":\"task {task}\",\"ts\":{},\"dur\":{},\
         \"pid\":{pid},\"tid\":{},\"args\":{{\"attempt\":{number},\"sent_us\":{sent_us}}}}}",
            start.as_micros(),
            rows.0[row].since(start).as_micros(),
            row + 1,
        ),
    );
}

fn separate(text: &mut Vec<u8>, is_first: bool) {
    if !is_first {
        text.extend_from_slice(b",\n");
    }
}

fn put(text: &mut Vec<u8>, what: std::fmt::Arguments<'_>) {
    text.write_fmt(what).expect("a Vec takes everything");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::role::Attempt;
    use crate::time::Duration;
    use std::fs;

    fn span(task: u64, slots: u16, ended_ms: u64, run_ms: u64) -> Span {
        Span {
            worker: 0,
            slots,
            attempt: Attempt { task, number: 1 },
            sent_at: Time::ZERO,
            ended_at: Time::from_micros(ended_ms * 1000),
            ran: Some((Status::Done, Duration::from_millis(run_ms))),
        }
    }

    #[test]
    fn no_two_spans_of_a_row_overlap_and_rows_are_slots() {
        let mut rows = Rows::default();
        let mut ends = [Time::ZERO; 2];
        let ms = |ms| Time::from_micros(ms * 1000);
        // Three that were answered together, though only two can run at once.
        for (start, end) in [(0, 10), (0, 10), (5, 10), (10, 20), (12, 20), (30, 40)] {
            let (row, drawn) = rows.place(2, ms(start), ms(end));
            assert!(drawn >= ends[row], "row {row} at {drawn}");
            ends[row] = drawn + Duration::from_millis(end - start);
        }
        assert_eq!(rows.place(2, ms(90), ms(95)).1, ms(90), "it catches up");
    }

    #[test]
    fn a_trace_is_one_array_of_events() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("trace.json");
        let file = Replacement::open(&path).unwrap();
        let mut trace = Trace::start(file, vec!["a\"b:1".into()]).unwrap();
        let mut lost = span(9, 1, 7, 0);
        lost.ran = None;
        trace.add(&mut vec![span(0, 1, 5, 2), lost]);
        assert_eq!(trace.finish().unwrap(), 0);
        let expected = concat!(
            r#"[{"ph":"M","name":"process_name","pid":1,"args":{"name":"worker a\"b:1"}},"#,
            "\n",
            r#"{"ph":"X","cat":"done","name":"task 0","ts":3000,"dur":2000,"pid":1,"tid":1,"#,
            r#""args":{"attempt":1,"sent_us":0}},"#,
            "\n",
            r#"{"ph":"b","cat":"lost","id":"9/1","name":"task 9","ts":0,"pid":1,"tid":0,"#,
            r#""args":{"attempt":1}},"#,
            "\n",
            r#"{"ph":"e","cat":"lost","id":"9/1","name":"task 9","ts":7000,"pid":1,"tid":0,"#,
            r#""args":{"attempt":1}}"#,
            "\n]\n"
        );
        assert_eq!(fs::read_to_string(&path).unwrap(), expected);
    }
}
