//! Runs that go on where another ended.
//!
//! What it is: the real `head` with a journal, seen from outside: exit codes, messages, results, and
//! which tasks the workers were given. `kill.rs` kills it, `disk.rs` fills its disk, `long.rs`
//! measures. What it is not: every byte cut and every bit flipped; `src/recorder/reader.rs` does that.
//!
//! Invariant: whatever happened before, a resumed run prints what a run without trouble prints.

mod disk;
mod kill;
mod long;
mod team;

use std::fs;
use std::io::{BufRead, BufReader, Read};

use crate::common::net::free_port;
use crate::common::{Process, Run, assert_same_text, run_head, squares, until};
use team::{Journal, Team, forge};
use teamster::journal::{Header, MARK_BYTES, PREFIX_BYTES, body_bytes};

const JOB: &str = "square --count 30 --work-ms 1";
const COUNT: u64 = 30;

#[test]
fn a_finished_journal_prints_its_results_again_without_a_worker() {
    let (team, journal) = (Team::<0>::start(), Journal::new());
    let details = format!("{JOB} --format tsv --details --sync-ms 0");
    let first = Process::start(&mut team.head(&journal, &details))
        .end()
        .expect(0);
    let bytes = journal.bytes();
    let nobody = free_port("127.77.30.1");
    let path = journal.path.display();
    let again = |args: &str| run_head(&format!("-w {nobody} --journal {path} --resume {args}"));
    // The recorded worker, attempts and times are printed, too.
    assert_same_text(again(&details).expect(0).text(), first.text());
    assert_same_text(again(JOB).expect(0).text(), &squares(COUNT));
    assert_eq!(journal.bytes(), bytes, "there was nothing to add");
    again(&format!("{JOB} --compare"))
        .expect(0)
        .says("Results: identical");
}

#[test]
fn a_cut_journal_is_gone_on_with() {
    let (team, journal) = (Team::<1>::start(), Journal::new());
    let ended = Process::start(&mut team.head(&journal, JOB))
        .end()
        .expect(0);
    assert_eq!(ended.text(), squares(COUNT));
    let whole = journal.bytes();
    for cut in (0..whole.len())
        .step_by(whole.len() / 14)
        .chain([1, whole.len() - 1])
    {
        journal.set(&whole[..cut]);
        let is_done = journal.tasks().len() as u64 == COUNT;
        let mut head = team.head(&journal, &format!("{JOB} --resume"));
        let ended = Process::start(&mut head).end().expect(0);
        assert_same_text(ended.text(), &squares(COUNT));
        assert_eq!(team.has_worked(), !is_done);
        assert_eq!(journal.tasks().len() as u64, COUNT);
    }
    team.check_nothing_ran_again();
}

#[test]
fn what_is_cut_is_said() {
    let journal = Journal::new();
    forge(5, 1, &journal);
    let whole = journal.bytes();
    journal.set(&whole[..whole.len() - 1]);
    let record_bytes = 8 + 31 + 14 + 8;
    let at = whole.len() - record_bytes;
    let path = journal.path.display();
    let args = format!("--local 1 --journal {path} --resume square --count 5 --work-ms 0");
    let ended = run_head(&args).expect(0);
    assert_eq!(ended.text(), squares(5));
    ended.says(&format!(
        "head: warning: journal {path}: the last {} bytes, from byte {at}, were never durable",
        record_bytes - 1
    ));
}

#[test]
fn a_damaged_middle_is_refused_and_left_alone() {
    let (team, journal) = (Team::<2>::start(), Journal::new());
    Process::start(&mut team.head(&journal, JOB))
        .end()
        .expect(0);
    let mut bytes = journal.bytes();
    let mut at = journal.header_bytes();
    for _ in 0..3 {
        at += PREFIX_BYTES + body_bytes(bytes[at..].first_chunk().unwrap());
    }
    bytes[at + 20] ^= 1;
    journal.set(&bytes);
    let path = journal.path.display();
    let ended = run_head(&format!("--local 1 --journal {path} --resume {JOB}")).expect(4);
    ended.says(&format!(
        "head: error: journal {path} is damaged at byte {at}, "
    ));
    assert_eq!(ended.text(), "", "what is there is not printed either");
    assert_eq!(journal.bytes(), bytes);
}

#[test]
fn a_journal_that_is_there_or_is_anothers_is_refused() {
    let journal = Journal::new();
    let path = journal.path.display().to_string();
    let run = |args: &str| run_head(&format!("--local 1 --journal {path} {args}"));
    run(JOB).expect(0);
    let bytes = journal.bytes();
    let refused = |args: &str, reason: &str| {
        let ended = run(args).expect(4);
        ended.says(&format!("head: error: journal {path} {reason}"));
        assert_eq!((ended.text(), ended.err.len()), ("", 1), "{:?}", ended.err);
        assert_eq!(journal.bytes(), bytes);
    };
    refused(
        JOB,
        "is there already: add --resume to go on with it, or remove it",
    );
    let own = "\"square --count 30 --work-ms 1, in input order\"";
    for (args, other) in [
        (
            "square --count 31 --work-ms 1",
            "square --count 31 --work-ms 1, in input order",
        ),
        (
            "square --count 30 --work-ms 2",
            "square --count 30 --work-ms 2, in input order",
        ),
        ("primes 1 30", "primes 1 30, in input order"),
        (
            "square --count 30 --work-ms 1 --unordered",
            "square --count 30 --work-ms 1, unordered",
        ),
    ] {
        let reason = format!("is of another job: {own}; this one is \"{other}\": name another");
        refused(&format!("{args} --resume"), &reason);
    }
    // How results are written is not part of the job.
    run(&format!("{JOB} --resume --format json")).expect(0);
}

#[test]
fn another_input_is_refused_with_its_task() {
    let journal = Journal::new();
    forge(10, 0, &journal);
    // The outcomes of ten squares behind the header of a job that counts primes in one task.
    let args = "primes 1 30";
    let mut bytes = Header::new("primes", &[], &format!("{args}, in input order")).encode();
    bytes.extend_from_slice(&journal.bytes()[journal.header_bytes() + MARK_BYTES..]);
    journal.set(&bytes);
    let path = journal.path.display();
    let ended = run_head(&format!("--local 1 --journal {path} --resume {args}")).expect(4);
    ended.says(&format!(
        "journal {path} does not fit: task 0 has another input now"
    ));
    assert_eq!(journal.bytes(), bytes);
}

#[test]
fn what_cannot_be_a_journal_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let notes = folder.path().join("notes");
    fs::write(&notes, "do not lose me\n").unwrap();
    for (path, reason) in [
        (folder.path().to_owned(), "cannot be opened: Is a directory"),
        (
            folder.path().join("none/journal"),
            "cannot be opened: No such file",
        ),
        ("/dev/null".into(), "is not a regular file"),
        (notes.clone(), "is not a journal"),
    ] {
        let path = path.display();
        let ended = run_head(&format!("--local 1 --journal {path} --resume {JOB}")).expect(4);
        ended.says(&format!("head: error: journal {path} {reason}"));
    }
    assert_eq!(fs::read(&notes).unwrap(), b"do not lose me\n");
    for args in ["--resume", "--sync-ms 5"] {
        run_head(&format!("{args} {JOB}"))
            .expect(2)
            .says("needs --journal FILE");
    }
}

#[test]
fn a_second_head_is_refused() {
    let (team, journal) = (Team::<3>::start(), Journal::new());
    let job = "square --count 30 --work-ms 100 --resume";
    let mut first = Process::start(&mut team.head(&journal, job));
    until("the first has the journal", || !journal.bytes().is_empty());
    let path = journal.path.display();
    let second = run_head(&format!("--local 1 --journal {path} {job}")).expect(4);
    second.says(&format!("journal {path} is in use by another head"));
    first.kill();
    let third = Process::start(&mut team.head(&journal, job))
        .end()
        .expect(0);
    assert_eq!(third.text(), squares(30));
    team.check_nothing_ran_again();
}

#[test]
fn an_early_end_says_how_to_go_on() {
    let (team, journal) = (Team::<4>::start(), Journal::new());
    let job = "square --count 200 --work-ms 5 --sync-ms 5 --resume";
    let mut head = team.head(&journal, job);
    let mut process = Process::start(&mut head);
    let out = process.stdout_lines();
    out.wait_for("9 -> 81");
    process.signal("INT");
    let ended = Run { process, out }.end().expect(130);
    let recorded = journal.tasks().len();
    let path = journal.path.display();
    let how = format!("in {path}: the same command with --resume goes on from there");
    ended.says(&format!("head: warning: {recorded} outcomes {how}"));
    let printed = ended.text().lines().count();
    assert!((10..=recorded).contains(&printed) && recorded < 200);

    let nobody = free_port("127.77.30.2");
    let args = format!("-w {nobody} --give-up 0.2 --journal {path} {job}");
    let ended = run_head(&args).expect(3);
    ended.says(&format!("{recorded} outcomes {how}"));
    // What was done is written, also behind a task that was not.
    let before = squares(200);
    let again: Vec<&str> = ended.text().lines().collect();
    assert!(again.len() == recorded && recorded >= printed);
    let mut all = before.lines();
    assert!(again.iter().all(|line| all.any(|other| other == *line)));

    let ended = Process::start(&mut team.head(&journal, job))
        .end()
        .expect(0);
    assert_same_text(ended.text(), &before);
    assert!(!ended.err.iter().any(|line| line.contains("--resume")));
    team.check_nothing_ran_again();
}

#[test]
fn unordered_results_are_gone_on_with() {
    let (team, journal) = (Team::<5>::start(), Journal::new());
    let job = "square --count 300 --work-ms 1 --sync-ms 5 --resume --unordered";
    let mut process = Process::start(&mut team.head(&journal, job));
    until("some records", || journal.tasks().len() > 20);
    process.kill();
    let ended = Process::start(&mut team.head(&journal, job))
        .end()
        .expect(0);
    let number = |line: &str| line.split(' ').next().unwrap().parse::<u64>().unwrap();
    let mut lines: Vec<&str> = ended.text().split_inclusive('\n').collect();
    lines.sort_by_key(|line| number(line));
    assert_same_text(&lines.concat(), &squares(300));
    team.check_nothing_ran_again();
}

#[test]
fn the_recorded_worker_is_named_after_a_resume() {
    let (team, journal) = (Team::<6>::start(), Journal::new());
    let job = "square --count 40 --work-ms 0 --format tsv --details --resume";
    Process::start(&mut team.head(&journal, job))
        .end()
        .expect(0);
    let bytes = journal.bytes();
    journal.set(&bytes[..bytes.len() / 2]);
    let recorded = journal.tasks();
    assert!((1..40).contains(&recorded.len()));
    let others = Team::<7>::start();
    let ended = Process::start(&mut others.head(&journal, job))
        .end()
        .expect(0);
    for (task, line) in (0..).zip(ended.text().lines()) {
        let fields: Vec<&str> = line.split('\t').collect();
        assert_eq!(fields[0], task.to_string());
        let names = if recorded.contains(&task) {
            &team.addresses
        } else {
            &others.addresses
        };
        assert!(names.contains(fields[2]), "{line} with {names}");
    }
    assert_eq!(ended.text().lines().count(), 40);
    others.check_nothing_ran_again();
}

/// More than the pipe and all buffers of the head take.
const LONG: u64 = 1_000_000;

#[test]
fn a_signal_while_the_journal_is_read_ends_the_run() {
    let journal = Journal::new();
    forge(LONG, 1, &journal);
    let bytes = journal.bytes();
    let path = journal.path.display();
    let nobody = free_port("127.77.30.3");
    let args = format!("-w {nobody} --journal {path} --resume square --count {LONG} --work-ms 0");
    let mut process = Process::start(&mut crate::common::head(&args));
    let mut stdout = BufReader::new(process.stdout());
    let mut text = String::new();
    stdout.read_line(&mut text).unwrap();
    // The head stands still now, as nobody reads on.
    process.signal("TERM");
    process.err.wait_for("the results so far are written");
    stdout.read_to_string(&mut text).unwrap();
    assert_eq!(process.wait(), Some(130));
    let all = squares(LONG);
    assert!(all.starts_with(&text) && text.len() < all.len());
    process.err.wait_for(&format!(
        "{path} is as it was: the same command with --resume"
    ));
    assert!(journal.bytes() == bytes);
}

#[test]
fn a_reader_that_leaves_while_the_journal_is_read_ends_the_run() {
    let journal = Journal::new();
    forge(LONG, 1, &journal);
    let path = journal.path.display();
    let nobody = free_port("127.77.30.4");
    let args = format!("-w {nobody} --journal {path} --resume square --count {LONG} --work-ms 0");
    let mut process = Process::start(&mut crate::common::head(&args));
    let mut stdout = BufReader::new(process.stdout());
    stdout.read_line(&mut String::new()).unwrap();
    drop(stdout);
    assert_eq!(process.wait(), Some(141));
}
