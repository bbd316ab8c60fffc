//! What becomes of lines and reports.
//!
//! What it is: the workload by hand. What it is not: a program that runs.
//!
//! Invariant: no test looks at the bytes of a parcel; they are taken apart as the output does.

use super::*;

const CHOICES: Choices = Choices {
    is_null: false,
    rows: Rows {
        format: Format::Text,
        details: false,
    },
    has_log: false,
    has_folder: false,
    line_bytes_max: 1000,
};

fn map(mode: Mode, choices: Choices) -> Map {
    let words = [&b"wc"[..], b"-c", b"<{}>"].map(<[u8]>::to_vec);
    let command = CommandLine::new(mode, words.to_vec()).unwrap();
    Map::new(command, choices)
}

fn report(code: u8, stdout: &[u8], stderr: &[u8]) -> Vec<u8> {
    let mut output = Vec::new();
    let report = Report {
        ended: Ended::Exited(code),
        stderr,
        stdout,
    };
    report.encode(&mut output);
    output
}

fn delivery(task: u64, status: Status, output: &[u8]) -> Delivery<'_> {
    Delivery {
        task,
        status,
        output,
        worker: "w:1",
        attempts: 0,
        queue_us: 5,
        run_us: 1_234_567,
        answered_ms: 2_000,
    }
}

/// What a delivery puts in each place, one after another.
#[derive(Debug, Default, PartialEq, Eq)]
struct Places {
    output: String,
    errors: String,
    log: String,
    folder: String,
}

fn deliver(map: &mut Map, delivery: &Delivery<'_>) -> Places {
    let mut text = Vec::new();
    map.deliver(delivery, &mut text);
    let (mut rest, mut places) = (&text[..], Places::default());
    let string = String::from_utf8_lossy;
    while let Some(parcel) = Parcel::take(&mut rest) {
        match parcel {
            Parcel::Output(bytes) => places.output += &string(bytes),
            Parcel::Errors(bytes) => places.errors += &string(bytes),
            Parcel::Log(bytes) => places.log += &string(bytes),
            Parcel::Folder {
                line,
                stdout,
                stderr,
            } => places.folder += &format!("{line}: {} {}", string(stdout), string(stderr)),
        }
    }
    places
}

#[test]
fn the_output_of_programs_is_passed_on_byte_for_byte_also_if_they_fail() {
    let mut job = map(Mode::PerTask, CHOICES);
    let output = report(0, b"no end of line", b"");
    let places = deliver(&mut job, &delivery(0, Status::Done, &output));
    let expected = Places {
        output: "no end of line".into(),
        ..Places::default()
    };
    assert_eq!(places, expected);
    let output = report(3, b"half\n", b"oh\x1b[2J\tno\xff\nend");
    let places = deliver(&mut job, &delivery(7, Status::Failed, &output));
    assert_eq!(places.output, "half\n");
    assert_eq!(
        places.errors,
        "task 7 at worker w:1: oh\\u{1b}[2J\tno\\xff\n\
         task 7 at worker w:1: end\n\
         head: error: task 7 (line 8) failed at worker w:1: exit status 3\n"
    );
    assert!(job.finish(&mut Vec::new()));
}

#[test]
fn an_answer_of_a_process_that_lives_on_is_a_line() {
    for mode in [Mode::Lines, Mode::Lengths] {
        let mut job = map(mode, CHOICES);
        let output = report(0, b"49", b"");
        let places = deliver(&mut job, &delivery(0, Status::Done, &output));
        assert_eq!(places.output, "49\n");
        let places = deliver(&mut job, &delivery(1, Status::Failed, b"it died"));
        assert_eq!(places.output, "");
        assert!(places.errors.ends_with("failed at worker w:1: it died\n"));
    }
}

#[test]
fn rows_are_rows_whatever_a_program_writes() {
    let row = |format, code, status| {
        let details = false;
        let rows = Rows { format, details };
        let mut job = map(Mode::PerTask, Choices { rows, ..CHOICES });
        let output = report(code, b"a\tb\\\n\xff", b"");
        let places = deliver(&mut job, &delivery(0, status, &output));
        places.output
    };
    assert_eq!(row(Format::Tsv, 3, Status::Failed), "0\tfailed\t\n");
    assert_eq!(
        row(Format::Json, 0, Status::Done),
        "{\"task\":0,\"outcome\":\"done\",\"output_base64\":\"YQliXAr/\"}\n"
    );
    assert_eq!(
        row(Format::Json, 3, Status::Failed),
        "{\"task\":0,\"outcome\":\"failed\",\"error\":\"exit status 3\"}\n"
    );
}

#[test]
fn the_log_has_a_row_per_task_and_the_folder_a_folder() {
    let choices = Choices {
        has_log: true,
        has_folder: true,
        ..CHOICES
    };
    let mut job = map(Mode::PerTask, choices);
    job.begin(1_700_000_000_000);
    job.feed(b"a b\tc\nd\0\nlong");
    job.feed(b"");
    let mut line = Vec::new();
    while job.next(&mut line) == Next::Task {
        line.clear();
    }
    let output = report(0, b"5\n", b"hm");
    let places = deliver(&mut job, &delivery(0, Status::Done, &output));
    assert_eq!(
        places.log,
        "1\tw:1\t1700000000.766\t1.234\t5\t2\t0\t0\twc -c '<a b\\tc>'\n"
    );
    assert_eq!(places.folder, "1: 5\n hm");
    let refused = Delivery {
        worker: "-",
        run_us: 0,
        answered_ms: 0,
        ..delivery(1, Status::Failed, b"a zero byte")
    };
    let places = deliver(&mut job, &refused);
    assert_eq!(places.log, "2\t-\t0.000\t0.000\t2\t0\t-1\t0\t'd\0'\n");
    let failed = "head: error: task 1 (line 2) failed: a zero byte\n";
    assert_eq!(places.errors, failed);
    assert_eq!(places.folder, format!("2:  {failed}"));
    let mut output = Vec::new();
    let ended = Ended::Signalled(9);
    let (stderr, stdout) = (&b""[..], &b""[..]);
    Report {
        ended,
        stderr,
        stdout,
    }
    .encode(&mut output);
    let places = deliver(&mut job, &delivery(2, Status::Failed, &output));
    assert!(places.log.ends_with("\t4\t0\t0\t9\twc -c '<long>'\n"));
    assert!(places.errors.ends_with(": killed by signal 9\n"));
}

#[test]
fn what_is_no_report_makes_the_job_unsound() {
    let mut job = map(Mode::PerTask, CHOICES);
    let places = deliver(&mut job, &delivery(0, Status::Done, b"?"));
    assert!(places.errors.contains("something else than a report"));
    assert!(!job.finish(&mut Vec::new()));
}

#[test]
fn a_job_is_known_by_its_command_and_by_how_lines_end() {
    let job = map(Mode::PerTask, CHOICES);
    assert_eq!(job.describe(), "map -- wc -c '<{}>'");
    let is_null = true;
    let job = map(Mode::Lengths, Choices { is_null, ..CHOICES });
    let described = "map --null --persistent --length-prefixed -- wc -c '<{}>'";
    assert_eq!(job.describe(), described);
}

#[test]
fn what_no_program_takes_is_told_and_what_is_shown_a_shell_takes() {
    let job = map(Mode::PerTask, CHOICES);
    assert!(job.unfit(b"a\0b").unwrap().contains("zero byte"));
    assert_eq!(job.unfit(b"it's"), None);
    assert_eq!(job.shown(b"it's").unwrap(), b"wc -c '<it'\\''s>'");
    assert_eq!(quoted(&[b"x".to_vec(), Vec::new()]), b"x ''");
}
