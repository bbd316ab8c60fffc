//! The output formats: how one result becomes text, tsv or json.
//!
//! What it is: [`Rows`], which appends one [`Row`] at a time, and the escaping that takes. What it is
//! not: a writer, or a judge of what a result means; the jobs know that.
//!
//! Invariant: one row is one line in tsv and json, whatever bytes a worker sent, and the reason of
//! every failed task is logged, whatever the format.

use std::io::Write;
use std::str::FromStr;

use crate::frame::Status;
use crate::kernel::Delivery;

/// How results are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// For people: each job has its own; failed tasks leave nothing.
    #[default]
    Text,
    /// Columns between tabs, without a header.
    Tsv,
    /// One object per line.
    Json,
}

impl Format {
    /// The names that `--format` takes.
    pub const NAMES: [&'static str; 3] = ["text", "tsv", "json"];
}

impl FromStr for Format {
    type Err = ();

    fn from_str(name: &str) -> Result<Format, ()> {
        match name {
            "text" => Ok(Format::Text),
            "tsv" => Ok(Format::Tsv),
            "json" => Ok(Format::Json),
            _ => Err(()),
        }
    }
}

/// What a row says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// A number; a line of its own in text.
    Number(u64),
    /// Bytes; in text they stay as they are, line ends included.
    Bytes(&'a [u8]),
    /// Nothing but the reason why.
    Failed(&'a str),
    /// The same for a task that ran for too long.
    TimedOut(&'a str),
}

/// One result.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    /// The task's number.
    pub task: u64,
    /// What stands before ` -> ` in text.
    pub label: Option<u64>,
    /// What came of it.
    pub value: Value<'a>,
    /// The worker whose answer counted.
    pub worker: &'a str,
    /// How many attempts were lost while they ran.
    pub attempts: u64,
    /// Time between sending and answer, less `run_us`; in microseconds.
    pub queue_us: u64,
    /// How long the kernel ran, in microseconds.
    pub run_us: u64,
}

impl<'a> Row<'a> {
    /// The row of one delivery, with what the job made of its output.
    pub fn new(delivery: &Delivery<'a>, value: Value<'a>) -> Row<'a> {
        let value = match value {
            Value::Failed(reason) if delivery.status == Status::TimedOut => Value::TimedOut(reason),
            value => value,
        };
        Row {
            task: delivery.task,
            label: None,
            value,
            worker: delivery.worker,
            attempts: u64::from(delivery.attempts),
            queue_us: u64::from(delivery.queue_us),
            run_us: u64::from(delivery.run_us),
        }
    }
}

/// The 8 bytes of a delivery whose output is one number, or in words why there is none.
///
/// # Errors
/// The task's own reason if it failed; otherwise that the worker sent something else than 8 bytes.
pub fn number(delivery: &Delivery<'_>) -> Result<u64, String> {
    if delivery.status.is_failure() {
        return Err(printable(delivery.output));
    }
    match <[u8; 8]>::try_from(delivery.output) {
        Ok(bytes) => Ok(u64::from_be_bytes(bytes)),
        Err(_) => Err(format!(
            "worker {} answered {} bytes where a number has 8; install the same release on both",
            delivery.worker,
            delivery.output.len()
        )),
    }
}

/// Says on standard error that a task failed, and why.
pub fn log_failure(task: u64, reason: &str) {
    log::error!("task {task} failed: {reason}");
}

/// Appends rows in one format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rows {
    /// How.
    pub format: Format,
    /// Whether worker, attempts and times go before the output; no effect in text.
    pub details: bool,
}

impl Rows {
    /// Appends the row of one task to `out`; logs the reason if it failed.
    pub fn append(self, row: &Row<'_>, out: &mut Vec<u8>) {
        if let Value::Failed(reason) | Value::TimedOut(reason) = row.value {
            log_failure(row.task, reason);
        }
        self.append_quietly(row, out);
    }

    /// The same for a row that stands for many tasks, whose failures have been logged one by one.
    pub fn append_quietly(self, row: &Row<'_>, out: &mut Vec<u8>) {
        match self.format {
            Format::Text => text(row, out),
            Format::Tsv => self.tsv(row, out),
            Format::Json => self.json(row, out),
        }
    }

    fn tsv(self, row: &Row<'_>, out: &mut Vec<u8>) {
        decimal(row.task, out);
        out.push(b'\t');
        out.extend_from_slice(outcome(row).as_bytes());
        out.push(b'\t');
        if self.details {
            escape_tsv(row.worker.as_bytes(), out);
            let (queue, run) = (Millis(row.queue_us), Millis(row.run_us));
            put(out, format_args!("\t{}\t{queue}\t{run}\t", row.attempts));
        }
        match row.value {
            Value::Number(number) => decimal(number, out),
            Value::Bytes(bytes) => escape_tsv(bytes, out),
            Value::Failed(_) | Value::TimedOut(_) => {}
        }
        out.push(b'\n');
    }

    fn json(self, row: &Row<'_>, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"task\":");
        decimal(row.task, out);
        out.extend_from_slice(b",\"outcome\":\"");
        out.extend_from_slice(outcome(row).as_bytes());
        out.push(b'"');
        if self.details {
            out.extend_from_slice(b",\"worker\":");
            json_string(row.worker, out);
            let (queue, run) = (Millis(row.queue_us), Millis(row.run_us));
            put(
                out,
                format_args!(
                    ",\"attempts\":{},\"queue_ms\":{queue},\"run_ms\":{run}",
                    row.attempts
                ),
            );
        }
        match row.value {
            Value::Number(number) => {
                out.extend_from_slice(b",\"output\":");
                decimal(number, out);
            }
            Value::Bytes(bytes) => match std::str::from_utf8(bytes) {
                Ok(string) => json_member("output", string, out),
                Err(_) => json_member("output_base64", &base64(bytes), out),
            },
            Value::Failed(reason) | Value::TimedOut(reason) => json_member("error", reason, out),
        }
        out.extend_from_slice(b"}\n");
    }
}

fn text(row: &Row<'_>, out: &mut Vec<u8>) {
    let is_answered = matches!(row.value, Value::Number(_) | Value::Bytes(_));
    if let (Some(label), true) = (row.label, is_answered) {
        decimal(label, out);
        out.extend_from_slice(b" -> ");
    }
    match row.value {
        Value::Number(number) => {
            decimal(number, out);
            out.push(b'\n');
        }
        Value::Bytes(bytes) => out.extend_from_slice(bytes),
        Value::Failed(_) | Value::TimedOut(_) => {}
    }
}

fn outcome(row: &Row<'_>) -> &'static str {
    match row.value {
        Value::Number(_) | Value::Bytes(_) => "done",
        Value::Failed(_) => "failed",
        Value::TimedOut(_) => "timeout",
    }
}

/// Appends a number, two digits per division. Not by `write!`, whose machinery a million short results
/// a second show.
fn decimal(mut number: u64, out: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let mut start = digits.len();
    for place in digits.rchunks_exact_mut(2) {
        let pair = (number % 100) as u8;
        place.copy_from_slice(&[b'0' + pair / 10, b'0' + pair % 10]);
        number /= 100;
        start -= 2;
        if number == 0 {
            start += usize::from(pair < 10);
            break;
        }
    }
    out.extend_from_slice(&digits[start..]);
}

fn put(out: &mut Vec<u8>, what: std::fmt::Arguments<'_>) {
    out.write_fmt(what).expect("a Vec takes everything");
}

/// Microseconds, printed as milliseconds with three decimals and no floating point on the way.
struct Millis(u64);

impl std::fmt::Display for Millis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{:03}", self.0 / 1000, self.0 % 1000)
    }
}

/// A reason as people may safely see it: a worker's bytes must neither begin a line of their own nor
/// steer the terminal.
pub fn printable(bytes: &[u8]) -> String {
    let mut safe = String::with_capacity(bytes.len());
    for c in String::from_utf8_lossy(bytes).chars() {
        if c.is_control() {
            safe.extend(c.escape_default());
        } else {
            safe.push(c);
        }
    }
    safe
}

/// Appends bytes so that they stay within one column of one line.
pub fn escape_tsv(bytes: &[u8], out: &mut Vec<u8>) {
    for &byte in bytes {
        match byte {
            b'\t' => out.extend_from_slice(b"\\t"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\\' => out.extend_from_slice(b"\\\\"),
            _ => out.push(byte),
        }
    }
}

fn json_member(name: &str, value: &str, out: &mut Vec<u8>) {
    put(out, format_args!(",\"{name}\":"));
    json_string(value, out);
}

/// RFC 8259, section 7: quotation mark, reverse solidus and the controls below U+0020.
pub(crate) fn json_string(string: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    for &byte in string.as_bytes() {
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0..0x20 => put(out, format_args!("\\u{byte:04x}")),
            _ => out.push(byte),
        }
    }
    out.push(b'"');
}

/// RFC 4648, section 4, with padding.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let mut three = [0; 3];
        three[..group.len()].copy_from_slice(group);
        let bits = u32::from_be_bytes([0, three[0], three[1], three[2]]);
        for i in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * i)) as usize & 63];
            out.push(if i > group.len() { '=' } else { digit.into() });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const DELIVERY: Delivery<'static> = Delivery {
        task: 3,
        status: Status::Done,
        output: &[0, 0, 0, 0, 0, 0, 0, 9],
        worker: "10.0.0.11:5000",
        attempts: 2,
        queue_us: 1_007,
        run_us: 1_000_120,
        answered_ms: 0,
    };

    fn row(value: Value<'_>) -> Row<'_> {
        let mut row = Row::new(&DELIVERY, value);
        row.label = Some(3);
        row
    }

    fn append(format: Format, details: bool, value: Value<'_>) -> String {
        let mut out = Vec::new();
        Rows { format, details }.append(&row(value), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_number_in_every_format() {
        let nine = Value::Number(9);
        assert_eq!(append(Format::Text, false, nine), "3 -> 9\n");
        assert_eq!(append(Format::Text, true, nine), "3 -> 9\n");
        assert_eq!(append(Format::Tsv, false, nine), "3\tdone\t9\n");
        assert_eq!(
            append(Format::Tsv, true, nine),
            "3\tdone\t10.0.0.11:5000\t2\t1.007\t1000.120\t9\n"
        );
        assert_eq!(
            append(Format::Json, false, nine),
            "{\"task\":3,\"outcome\":\"done\",\"output\":9}\n"
        );
        assert_eq!(
            append(Format::Json, true, nine),
            "{\"task\":3,\"outcome\":\"done\",\"worker\":\"10.0.0.11:5000\",\"attempts\":2,\
             \"queue_ms\":1.007,\"run_ms\":1000.120,\"output\":9}\n"
        );
    }

    #[test]
    fn text_without_a_label_is_the_number_alone() {
        let mut out = Vec::new();
        let row = Row::new(&DELIVERY, Value::Number(u64::MAX));
        Rows::default().append(&row, &mut out);
        assert_eq!(out, b"18446744073709551615\n");
    }

    #[test]
    fn a_failed_task_in_every_format() {
        let failed = Value::Failed("no \"luck\"");
        assert_eq!(append(Format::Text, true, failed), "");
        assert_eq!(append(Format::Tsv, false, failed), "3\tfailed\t\n");
        assert_eq!(
            append(Format::Tsv, true, failed),
            "3\tfailed\t10.0.0.11:5000\t2\t1.007\t1000.120\t\n"
        );
        assert_eq!(
            append(Format::Json, false, failed),
            "{\"task\":3,\"outcome\":\"failed\",\"error\":\"no \\\"luck\\\"\"}\n"
        );
    }

    #[test]
    fn a_task_that_ran_for_too_long_says_so() {
        let late = Delivery {
            status: Status::TimedOut,
            output: b"too long",
            ..DELIVERY
        };
        let reason = number(&late).unwrap_err();
        let row = Row::new(&late, Value::Failed(&reason));
        for (format, line) in [
            (Format::Text, ""),
            (Format::Tsv, "3\ttimeout\t\n"),
            (
                Format::Json,
                "{\"task\":3,\"outcome\":\"timeout\",\"error\":\"too long\"}\n",
            ),
        ] {
            let (mut out, details) = (Vec::new(), false);
            Rows { format, details }.append(&row, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), line);
        }
    }

    #[test]
    fn bytes_in_every_format() {
        let bytes = Value::Bytes("a\tb\\c\n\"é\u{1}\r".as_bytes());
        assert_eq!(
            append(Format::Text, false, Value::Bytes(b"a\n")),
            "3 -> a\n"
        );
        assert_eq!(
            append(Format::Tsv, false, bytes),
            "3\tdone\ta\\tb\\\\c\\n\"é\u{1}\r\n"
        );
        assert_eq!(
            append(Format::Json, false, bytes),
            "{\"task\":3,\"outcome\":\"done\",\"output\":\"a\\tb\\\\c\\n\\\"é\\u0001\\r\"}\n"
        );
        assert_eq!(
            append(Format::Json, false, Value::Bytes(&[0xff, 0xfe])),
            "{\"task\":3,\"outcome\":\"done\",\"output_base64\":\"//4=\"}\n"
        );
    }

    #[test]
    fn base64_matches_rfc_4648() {
        let plain = ["", "f", "fo", "foo", "foob", "fooba", "foobar"];
        let coded = [
            "", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy",
        ];
        for (plain, coded) in plain.into_iter().zip(coded) {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
    }

    #[test]
    fn milliseconds_keep_three_decimals() {
        for (us, ms) in [(0, "0.000"), (1, "0.001"), (999, "0.999"), (1000, "1.000")] {
            assert_eq!(Millis(us).to_string(), ms);
        }
        assert_eq!(Millis(u64::MAX).to_string(), "18446744073709551.615");
    }

    #[test]
    fn a_number_is_eight_bytes() {
        assert_eq!(number(&DELIVERY), Ok(9));
        let short = Delivery {
            output: &[1, 2],
            ..DELIVERY
        };
        let reason = number(&short).unwrap_err();
        assert!(reason.contains("worker 10.0.0.11:5000 answered 2 bytes"));
    }

    #[test]
    fn a_reason_cannot_steer_the_terminal() {
        let failed = Delivery {
            status: Status::Failed,
            output: b"bad\n\x1b[2J \xff \"n\"",
            ..DELIVERY
        };
        assert_eq!(
            number(&failed).unwrap_err(),
            "bad\\n\\u{1b}[2J \u{fffd} \"n\""
        );
    }

    #[test]
    fn every_name_is_a_format() {
        for name in Format::NAMES {
            assert!(name.parse::<Format>().is_ok());
        }
        assert!("xml".parse::<Format>().is_err());
    }
}
