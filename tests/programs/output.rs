//! Where results go: a file replaced as a whole, a pipe nobody reads, a pipe nobody will read again.
//!
//! What it is: the head's output seen from outside. What it is not: the formats (`cli.rs`).
//!
//! Invariant: results that could not be written are never a success, and a file is never half new.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::common::net::{Relay, free_port, serve};
use crate::common::{Process, Worker, assert_same_text, head, run_head, squares, until};

/// Enough results with `--details` to fill the pipe, the output's queue and the window: the head
/// comes to a stand.
const MORE_THAN_FITS: u64 = 200_000;

/// The names in a directory.
fn names(dir: &tempfile::TempDir) -> Vec<String> {
    let entries = fs::read_dir(dir.path()).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_file_keeps_its_old_content_until_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("squares");
    fs::write(&file, "old").unwrap();
    let worker = Worker::start(1);
    let args = format!(
        "-w {} square --count 50 --work-ms 10 -o {}",
        worker.address,
        file.display()
    );
    let mut process = Process::start(&mut head(&args));
    worker.says("sends tasks");
    assert_eq!(fs::read_to_string(&file).unwrap(), "old");
    assert_eq!(process.wait(), Some(0));
    assert_eq!(fs::read_to_string(&file).unwrap(), squares(50));
    assert_eq!(names(&dir), ["squares"], "nothing is left over");
    let mut stdout = String::new();
    process.stdout().read_to_string(&mut stdout).unwrap();
    assert_eq!(stdout, "");
}

#[test]
fn a_run_that_ends_early_leaves_the_old_file_and_a_partial_one() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("squares");
    fs::write(&file, "old").unwrap();
    let mut worker = Worker::start(1);
    let args = format!(
        "-w {} --give-up 0.5 square --count 100000 --work-ms 2 -o {}",
        worker.address,
        file.display()
    );
    let process = Process::start(&mut head(&args));
    until("some results", || {
        let is_begun = |name: &String| fs::metadata(dir.path().join(name)).unwrap().len() > 3;
        names(&dir).iter().any(is_begun)
    });
    worker.process.kill();
    let ended = process.end().expect(3);
    ended.says("squares.partial");
    assert_eq!(fs::read_to_string(&file).unwrap(), "old");
    assert_eq!(names(&dir), ["squares", "squares.partial"]);
    let partial = fs::read_to_string(dir.path().join("squares.partial")).unwrap();
    assert!(squares(100_000).starts_with(&partial) && !partial.is_empty());
}

#[test]
fn a_file_that_cannot_be_written_ends_the_run_before_any_work() {
    let dir = tempfile::tempdir().unwrap();
    let accepts = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&accepts);
    let worker = serve(move |_| {
        counter.fetch_add(1, Ordering::SeqCst);
    });
    for place in [dir.path().join("none/squares"), dir.path().to_owned()] {
        let place = place.display();
        let ended = run_head(&format!("-w {worker} --compare square -o {place}")).expect(5);
        ended.says(&format!("head: error: cannot write {place}: "));
        assert_eq!(ended.err.len(), 1, "no serial run either: {:?}", ended.err);
    }
    assert_eq!(accepts.load(Ordering::SeqCst), 0);
    assert!(names(&dir).is_empty());
}

#[test]
fn a_run_that_cannot_begin_leaves_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("squares");
    let script = format!(
        "ulimit -n 16; exec {} --local 9 square -o {}",
        env!("CARGO_BIN_EXE_head"),
        place.display()
    );
    let ended = Process::start(Command::new("sh").args(["-c", &script]))
        .end()
        .expect(5);
    ended.says("cannot start a local worker");
    assert!(names(&dir).is_empty(), "{:?}", names(&dir));
}

#[test]
fn what_is_no_file_is_written_and_not_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let pipe = dir.path().join("pipe");
    assert!(
        Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .unwrap()
            .success()
    );
    let process = Process::start(&mut head(&format!(
        "--local 1 square --count 5 --work-ms 0 -o {}",
        pipe.display()
    )));
    let path = pipe.clone();
    let reader = thread::spawn(move || fs::read_to_string(path));
    process.end().expect(0);
    assert!(fs::metadata(&pipe).unwrap().file_type().is_fifo());
    assert_eq!(reader.join().unwrap().unwrap(), squares(5));
    assert_eq!(names(&dir), ["pipe"]);
}

#[test]
fn of_a_link_the_file_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let [file, link] = ["squares", "link"].map(|name| dir.path().join(name));
    fs::write(&file, "old").unwrap();
    std::os::unix::fs::symlink("squares", &link).unwrap();
    let args = format!(
        "--local 1 square --count 5 --work-ms 0 -o {}",
        link.display()
    );
    run_head(&args).expect(0);
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(fs::read_to_string(&file).unwrap(), squares(5));
    assert_eq!(names(&dir), ["link", "squares"]);
}

#[test]
fn a_full_disk_is_an_error() {
    for script in [
        "exec {} --local 1 square --work-ms 0 >/dev/full",
        "exec {} --help >/dev/full",
    ] {
        let script = script.replace("{}", env!("CARGO_BIN_EXE_head"));
        let ended = Process::start(Command::new("sh").args(["-c", &script])).end();
        assert_eq!(ended.code, Some(5), "{script}: {:?}", ended.err);
    }
}

/// Runs a head whose standard output is not read for `quiet_ms` after it came to a stand.
fn unread_for(quiet_ms: u64) {
    let workers = [Worker::start(1), Worker::start(1)];
    let relays = workers.each_ref().map(|w| Relay::to(&w.address));
    let [a, b] = relays.each_ref().map(|relay| relay.address.to_string());
    let args =
        format!("-w {a},{b} square --count {MORE_THAN_FITS} --work-ms 0 --format tsv --details");
    let process = Process::start(&mut head(&args));
    workers.iter().for_each(|w| drop(w.says("sends tasks")));
    until("quiet", || relays.iter().all(|r| r.quiet_ms() > quiet_ms));
    let ended = process.end().expect(0);
    let text = ended.text();
    assert_eq!(text.lines().count() as u64, MORE_THAN_FITS);
    let tasks = text
        .lines()
        .map(|line| line.split('\t').next().unwrap().parse());
    assert!(
        tasks.eq((0..MORE_THAN_FITS).map(Ok)),
        "all of them, in order"
    );
    let is_calm = ended.err.iter().all(|line| !line.starts_with("head: "));
    assert!(is_calm, "nothing went wrong: {:?}", ended.err);
    assert_eq!(ended.done_by(&a) + ended.done_by(&b), MORE_THAN_FITS);
    assert_eq!(relays.each_ref().map(Relay::accepts), [1, 1]);
}

#[test]
fn output_unread_for_a_while_loses_no_worker() {
    // Long enough for each side to ask the other whether it lives.
    unread_for(4_000);
}

/// `cargo test --test programs output:: -- --ignored`
#[test]
#[ignore = "takes 35 s: three times as long as a worker may be silent"]
fn output_unread_for_long_loses_no_worker() {
    unread_for(30_000);
}

#[test]
fn output_closed_by_its_reader_ends_the_run_quietly() {
    let worker = Worker::start(1);
    let args = format!("-w {} square --count 1000000 --work-ms 1", worker.address);
    let mut process = Process::start(&mut head(&args));
    let mut stdout = BufReader::new(process.stdout());
    let mut lines = String::new();
    for _ in 0..5 {
        stdout.read_line(&mut lines).unwrap();
    }
    drop(stdout);
    assert_eq!(process.wait(), Some(141));
    assert_eq!(lines, squares(5));
    let err = process.err_at_end();
    let complaints = |line: &String| line.contains("error") || line.contains("warning");
    assert!(!err.iter().any(complaints), "{err:?}");
    // The worker is free again.
    let args = format!("-w {} square --count 5 --work-ms 0", worker.address);
    assert_eq!(run_head(&args).expect(0).text(), squares(5));
}

#[test]
fn a_reader_that_left_is_noticed_without_a_worker_too() {
    let mut process = Process::start(&mut head("--help"));
    drop(process.stdout());
    // It may have written before its reader left.
    assert!([Some(0), Some(141)].contains(&process.wait()));
    let args = format!("-w {} --give-up 0.5 square", free_port("127.77.2.1"));
    let mut process = Process::start(&mut head(&args));
    drop(process.stdout());
    assert_eq!(process.wait(), Some(3), "nothing was to be written");
}

#[test]
fn a_slow_reader_gets_everything() {
    let mut process = Process::start(&mut head("--local 2 square --count 30000 --work-ms 0"));
    let mut stdout = process.stdout();
    let (mut text, mut piece) = (Vec::new(), [0; 1000]);
    while let Ok(count @ 1..) = stdout.read(&mut piece) {
        text.extend_from_slice(&piece[..count]);
        thread::yield_now();
    }
    assert_eq!(process.wait(), Some(0));
    assert_same_text(std::str::from_utf8(&text).unwrap(), &squares(30_000));
}

/// Before any work is done, not after it.
#[test]
fn a_name_that_only_a_directory_can_have_is_refused_at_once() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["new/", "new/."] {
        let file = dir.path().join("x").with_file_name(name);
        let job = "-w 127.77.5.1:9 --give-up 60 square --count 1";
        let ended = run_head(&format!("{job} -o {}", file.display())).expect(5);
        ended.says("is a directory");
        assert_eq!(names(&dir), [""; 0]);
    }
}

#[test]
fn a_file_keeps_its_permissions() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("squares");
    fs::write(&file, "old").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let job = "--local 1 square --count 2 --work-ms 0";
    run_head(&format!("{job} -o {}", file.display())).expect(0);
    assert_eq!(fs::read_to_string(&file).unwrap(), squares(2));
    let mode = fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}
