//! The job `map` with the real programs: any lines, any outputs, and other people's tools.
//!
//! What it is: `head map` on workers inside the process and beside it. What it is not: a test of
//! how a worker runs programs; `tests/programs/program.rs` is.
//!
//! Invariant: what comes out is compared with what the same programs give without us.

mod formats;
mod kill;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use crate::common::{Ended, Process, Worker, head, until, worker};

/// `head` with these options and `map`, before `--` and the command.
pub fn map(options: &str, command: &[&str]) -> Command {
    let mut map = head(options);
    map.arg("map").arg("--").args(command);
    map
}

/// Runs it to its end, with this on its standard input.
pub fn run(options: &str, command: &[&str], input: &[u8]) -> Ended {
    Process::fed(&mut map(options, command), input).end()
}

/// A worker with one slot that runs these programs.
pub fn helper(programs: &[&str]) -> Worker {
    let mut command = worker("-l 127.0.0.1:0 -s 1 --insecure");
    for program in programs {
        command.args(["--allow-program", program]);
    }
    Worker::listening(&mut command)
}

/// Numbers from 1, one a line.
pub fn numbers(count: u32) -> String {
    (1..=count).map(|number| format!("{number}\n")).collect()
}

#[test]
fn outputs_come_in_the_order_of_the_lines() {
    let script = "sleep 0.0$(($0 % 3)); echo $0";
    let ended = run("--local 4", &["sh", "-c", script], numbers(60).as_bytes()).expect(0);
    assert_eq!(ended.text(), numbers(60));
    let ended = run("--unordered", &["sh", "-c", script], numbers(60).as_bytes()).expect(0);
    let mut lines: Vec<u32> = ended.text().lines().map(|n| n.parse().unwrap()).collect();
    lines.sort();
    assert_eq!(lines, (1..=60).collect::<Vec<_>>());
}

/// Nothing in a line is ever interpreted, wherever the program runs.
#[test]
fn a_line_is_passed_on_exactly() {
    let nasty: &[&[u8]] = &[
        b" a  b ",
        b"",
        b"'\"\\",
        b"$(touch x) `x` ${x}",
        b"; rm -rf x & | x > y",
        b"../../x",
        b"-rf",
        b"{} {.} {/}",
        b"\xff\xfe\x80",
        b"*?[a]~",
        b"\r\t\x1b[2J",
        b"the last one has no end",
    ];
    let input = nasty.join(&b'\n');
    let mut expected = input.clone();
    expected.push(b'\n');
    let (first, second) = (helper(&["/usr/bin/printf"]), helper(&["/usr/bin/printf"]));
    let workers = format!("-w {},{}", first.address, second.address);
    for options in ["", &workers] {
        let ended = run(options, &["printf", "%s\\n"], &input).expect(0);
        assert_eq!(ended.out, expected, "{options}");
        let ended = run(options, &["printf", "%s\\n", "{}"], &input).expect(0);
        assert_eq!(ended.out, expected, "{options}");
    }
    let zeros = [&b"a\nb"[..], b"", b"c"].join(&0);
    let ended = run("-0", &["printf", "<%s>"], &zeros).expect(0);
    assert_eq!(ended.out, b"<a\nb><><c>");
}

#[test]
fn a_line_that_no_program_takes_is_a_failed_task_with_its_number() {
    let long = "x".repeat(1 << 20);
    let longer = "y".repeat(3 << 20);
    let input = format!("a\nb\0b\n{long}\n{longer}\nc\n");
    let ended = run("", &["echo"], input.as_bytes()).expect(1);
    assert_eq!(ended.text(), "a\nc\n");
    ended.says("task 1 (line 2) failed: a zero byte");
    ended.says("task 2 (line 3) failed: an argument of 1048576 bytes");
    ended.says("task 3 (line 4) failed: its input is longer than");
}

#[test]
fn a_slow_producer_gets_each_line_run_at_once() {
    let mut process = Process::reading(&mut map("-q", &["echo"]), Stdio::piped());
    let mut stdin = process.child.stdin.take().unwrap();
    let mut answers = BufReader::new(process.stdout());
    for number in 0..5 {
        writeln!(stdin, "{number}").unwrap();
        let mut answer = String::new();
        answers.read_line(&mut answer).unwrap();
        assert_eq!(answer, format!("{number}\n"));
    }
    drop(stdin);
    assert_eq!(process.wait(), Some(0));
}

#[test]
fn an_endless_input_starts_at_once_and_stays_small() {
    let mut seq = Command::new("seq");
    let mut seq = seq
        .arg("1000000000")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let stdin = seq.stdout.take().unwrap();
    let mut process = Process::reading(&mut map("-q --local 1", &["echo"]), stdin.into());
    let answers = BufReader::new(process.stdout());
    for (number, line) in (1..=300).zip(answers.lines()) {
        assert_eq!(line.unwrap(), number.to_string());
    }
    let status = format!("/proc/{}/status", process.child.id());
    let status = fs::read_to_string(status).unwrap();
    let peak = status
        .lines()
        .find(|line| line.starts_with("VmHWM:"))
        .unwrap();
    let kib: u64 = peak.split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!(kib < 32 << 10, "{kib} KiB");
    process.kill();
    seq.kill().unwrap();
    seq.wait().unwrap();
}

#[test]
fn waiting_for_input_can_be_interrupted() {
    let mut process = Process::reading(&mut map("", &["echo"]), Stdio::piped());
    let mut stdin = process.child.stdin.take().unwrap();
    let out = process.stdout_lines();
    writeln!(stdin, "a").unwrap();
    out.wait_for("a");
    process.signal("INT");
    assert_eq!(process.wait(), Some(130));
}

#[test]
fn a_program_that_fails_is_heard_and_final() {
    let script = "echo out $0; echo err $0 >&2; exit $0";
    let ended = run("", &["sh", "-c", script], b"0\n3\n").expect(1);
    assert_eq!(ended.text(), "out 0\nout 3\n");
    ended.says(": err 3");
    let said = ended
        .err
        .iter()
        .filter(|line| line.starts_with("head: ") && line.ends_with("exit status 3"))
        .count();
    assert_eq!(said, 1, "it ran once: {:#?}", ended.err);
    let line = ended
        .err
        .iter()
        .find(|line| line.ends_with(": err 0"))
        .unwrap();
    assert!(line.starts_with("task 0 at worker 127.0.0.1:"), "{line}");
}

#[test]
fn what_failed_is_tried_again_if_it_may_be() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x").display().to_string();
    let script = "mkdir $0$1 || { echo ok $1; exit 0; }; exit 1";
    let command = ["sh", "-c", script, &path];
    let ended = run("--retries 1", &command, b"1\n2\n").expect(0);
    assert_eq!(ended.text(), "ok 1\nok 2\n");
    run("--retries 3", &["false"], b"1\n")
        .expect(1)
        .says("line 1");
}

#[test]
fn a_run_halts_at_the_first_failure() {
    let input = numbers(10_000);
    for when in ["now", "soon"] {
        let options = format!("--halt {when},fail=1");
        let script = "test $0 != 20";
        let ended = run(&options, &["sh", "-c", script], input.as_bytes()).expect(1);
        ended.says("task 19 (line 20) failed");
        ended.says("ending early");
    }
}

#[test]
fn a_dry_run_prints_what_a_shell_would_take() {
    let input = b"it's\n$(x) \"y\"\n\n";
    let shown = run("--dry-run", &["printf", "<%s>\\n", "{}", "a b"], input).expect(0);
    let sh = Process::fed(&mut Command::new("sh"), &shown.out);
    let by_shell = Process::end(sh);
    let by_head = run("", &["printf", "<%s>\\n", "{}", "a b"], input).expect(0);
    assert_eq!(by_shell.out, by_head.out);
    let ended = run("--dry-run -w nowhere:1", &["x"], b"a\0\nb").expect(1);
    assert_eq!(ended.text(), "x b\n");
    ended.says("line 1 cannot be run");
}

#[test]
fn a_dry_run_replaces_its_file_as_a_whole_at_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("commands");
    fs::write(&file, "old").unwrap();
    let mut command = map(&format!("--dry-run -o {}", file.display()), &["x"]);
    let mut process = Process::reading(&mut command, Stdio::piped());
    let mut stdin = process.child.stdin.take().unwrap();
    writeln!(stdin, "a").unwrap();
    let files = || fs::read_dir(folder.path()).unwrap().count();
    until("the temporary file", || files() == 2);
    assert_eq!(fs::read(&file).unwrap(), b"old");
    drop(stdin);
    assert_eq!(process.wait(), Some(0));
    assert_eq!((fs::read(&file).unwrap(), files()), (b"x a\n".to_vec(), 1));
}

#[test]
fn a_journal_goes_on_with_the_same_lines_and_refuses_others() {
    let folder = tempfile::tempdir().unwrap();
    let journal = folder.path().join("journal").display().to_string();
    let ran = folder.path().join("ran").display().to_string();
    let script = "echo $1 >> $0; echo $1; test $1 != 30 || test -e $0.on";
    let command = ["sh", "-c", script, &ran];
    let options = format!("--journal {journal} --max-failures 0");
    let input = numbers(60);
    run(&options, &command, input.as_bytes()).expect(1);
    fs::write(format!("{ran}.on"), "").unwrap();
    let options = format!("--journal {journal} --resume");
    let other = input.replace("\n2\n", "\n02\n");
    run(&options, &command, other.as_bytes())
        .expect(4)
        .says("another input");
    let ended = run(&options, &command, input.as_bytes()).expect(1);
    assert_eq!(
        ended.text(),
        input,
        "its failure is in the journal, with its output"
    );
    // Two things in one file would destroy one another.
    for both in ["--joblog", "--report", "--trace", "--output"] {
        run(&format!("{options} {both} {journal}"), &command, b"")
            .expect(2)
            .says("are both");
    }
    let again = run(&options, &command, input.as_bytes()).expect(1);
    assert_eq!(again.text(), input);
    let runs = fs::read_to_string(&ran).unwrap();
    assert_eq!(runs.lines().filter(|line| *line == "1").count(), 1);
}

#[test]
fn a_process_that_lives_on_answers_line_by_line() {
    let script = "while read n; do echo $((n * n)); done";
    let squares: String = (1..=500_u32).map(|n| format!("{}\n", n * n)).collect();
    let command = ["sh", "-c", script];
    let ended = run("--persistent", &command, numbers(500).as_bytes()).expect(0);
    assert_eq!(ended.text(), squares);
    let worker = helper(&["/bin/sh"]);
    let options = format!("--persistent -w {}", worker.address);
    let ended = run(&options, &command, numbers(500).as_bytes()).expect(0);
    assert_eq!(ended.text(), squares);
    let script = "while read n; do test $n != 3 || exit 7; echo $n; done";
    let ended = run("--persistent", &["sh", "-c", script], b"1\n2\n3\n4\n").expect(1);
    assert_eq!(ended.text(), "1\n2\n4\n");
    ended.says("task 2 (line 3) failed");
}

#[test]
fn what_cannot_be_is_said_before_anything_runs() {
    let cases: &[(&str, &[&str], &str)] = &[
        (
            "",
            &["no-such-program"],
            "no program no-such-program in any folder of PATH",
        ),
        ("", &["/dev/null"], "no executable file"),
        ("", &["x", ":::", "a"], "is not understood"),
        ("", &[], "needs -- and a command"),
    ];
    for (options, command, reason) in cases {
        let ended = run(options, command, b"a\n").expect(2);
        ended.says(reason);
        assert!(ended.out.is_empty());
    }
    run("--joblog /dev/null/x", &["echo"], b"a\n")
        .expect(5)
        .says("/dev/null/x");
    let worker = helper(&["/bin/true"]);
    let options = format!("-w {}", worker.address);
    run(&options, &["echo"], b"a\n")
        .expect(3)
        .says("--allow-program");
}

#[test]
fn a_full_disk_under_the_log_ends_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    std::os::unix::fs::symlink("/dev/full", &log).unwrap();
    let options = format!("--joblog {}", log.display());
    run(&options, &["echo"], b"a\n")
        .expect(5)
        .says("No space left");
}
