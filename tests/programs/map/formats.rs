//! Results, logs and folders as other tools read them.
//!
//! What it is: the same outputs through Python's json and csv, `cut`, `jq` and GNU parallel. What
//! it is not: a judge of those.
//!
//! Invariant: the one script that reads a log reads GNU parallel's as well.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::{helper, map, run};
use crate::common::{Process, Run, assert_same_text};

/// Reads a log as `column:column…` of each row, in the order of the first.
const LOG_READER: &str = "
import csv, sys
rows = list(csv.DictReader(sys.stdin, delimiter='\\t', quoting=csv.QUOTE_NONE))
for row in sorted(rows, key=lambda row: int(row['Seq'])):
    assert float(row['Starttime']) > 1.6e9 and float(row['JobRuntime']) >= 0, row
    print(row['Seq'], row['Receive'], row['Exitval'], row['Signal'], row['Command'], sep=':')
";

/// What `command` makes of `input`.
fn filter(command: &mut Command, input: &[u8]) -> String {
    let ended = Process::fed(command, input).end().expect(0);
    String::from_utf8(ended.out).unwrap()
}

fn python(script: &str, input: &[u8]) -> String {
    filter(Command::new("python3").args(["-c", script]), input)
}

#[test]
fn rows_are_read_by_other_tools() {
    let input = b"a b\n\\x\n\xff\n\t\n";
    let command = ["printf", "%s\\n\\\\\\t"];
    let json = run("--format json", &command, input).expect(0);
    let script = "
import base64, json, sys
for line in sys.stdin:
    row = json.loads(line)
    output = row['output'].encode() if 'output' in row else base64.b64decode(row['output_base64'])
    sys.stdout.buffer.write(b'%d %s %s|' % (row['task'], row['outcome'].encode(), output))
    sys.stdout.flush()
";
    let ended = Process::fed(Command::new("python3").args(["-c", script]), &json.out).end();
    let expected = b"0 done a b\n\\\t|1 done \\x\n\\\t|2 done \xff\n\\\t|3 done \t\n\\\t|";
    assert_eq!(ended.expect(0).out, expected);
    if Command::new("jq").arg("--version").output().is_ok() {
        let text = &json.out[..];
        assert_eq!(
            filter(Command::new("jq").arg(".task"), text),
            "0\n1\n2\n3\n"
        );
    }
    let tsv = run("--format tsv --details", &command, input).expect(0);
    let outcomes = filter(Command::new("cut").args(["-f", "1,2"]), &tsv.out);
    assert_eq!(outcomes, "0\tdone\n1\tdone\n2\tdone\n3\tdone\n");
    let script = "
import csv, sys
sys.stdin.reconfigure(errors='surrogateescape')
rows = csv.reader(sys.stdin, delimiter='\\t', quoting=csv.QUOTE_NONE)
print([(len(row), row[6]) for row in rows][1])
";
    assert_eq!(
        python(script, &tsv.out),
        "(7, '\\\\\\\\x\\\\n\\\\\\\\\\\\t')\n"
    );
}

#[test]
fn a_log_has_nine_columns_and_a_folder_the_outputs() {
    let folder = tempfile::tempdir().unwrap();
    let (log, results) = (folder.path().join("log"), folder.path().join("results"));
    let options = format!("--joblog {} --results {}", log.display(), results.display());
    let script = "echo $0; echo e >&2; exit $(($0 % 2))";
    run(&options, &["sh", "-c", script], b"2\n3\n../x\n").expect(1);
    let rows = python(LOG_READER, &fs::read(&log).unwrap());
    let rows: Vec<&str> = rows.lines().collect();
    assert!(rows[0].starts_with("1:2:0:0:sh -c 'echo $0;"), "{rows:?}");
    assert!(rows[1].starts_with("2:2:1:0:sh -c"), "{rows:?}");
    assert!(rows[2].ends_with(" ../x"), "{rows:?}");
    let read = |path: &str| fs::read_to_string(results.join(path)).unwrap();
    assert_eq!(
        (read("2/stdout"), read("2/stderr")),
        ("3\n".into(), "e\n".into())
    );
    assert_eq!(read("3/stdout"), "../x\n");
    let names = fs::read_dir(&results).unwrap().count();
    assert_eq!(names, 3, "whatever the lines are");
}

/// A thousand files of different lengths, and their names.
fn files(folder: &Path, count: usize) -> String {
    let mut names = String::new();
    for number in 0..count {
        let path = folder.join(format!("file {number}"));
        fs::write(&path, "x".repeat(number)).unwrap();
        names += &format!("{}\n", path.display());
    }
    names
}

#[test]
fn a_thousand_files_are_counted_as_without_us() {
    let folder = tempfile::tempdir().unwrap();
    let names = files(folder.path(), 1_000);
    let (first, second) = (helper(&["/usr/bin/wc"]), helper(&["/usr/bin/wc"]));
    let options = format!("-w {},{} -k", first.address, second.address);
    let ended = run(&options, &["wc", "-c"], names.as_bytes()).expect(0);
    let lines = names.lines().enumerate();
    let expected: String = lines
        .map(|(size, name)| format!("{size} {name}\n"))
        .collect();
    assert_same_text(ended.text(), &expected);
}

/// Outputs and logs of both, read by the same script. Needs GNU parallel.
#[test]
#[ignore = "needs GNU parallel"]
fn gnu_parallel_gives_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let names = files(folder.path(), 1_000);
    let (ours, theirs) = (folder.path().join("ours"), folder.path().join("theirs"));
    let mut parallel = Command::new("parallel");
    parallel
        .args(["--keep-order", "--joblog"])
        .arg(&theirs)
        .args(["wc", "-c"]);
    let expected = Process::fed(&mut parallel, names.as_bytes())
        .end()
        .expect(0);
    let options = format!("--keep-order --joblog {}", ours.display());
    let ended = run(&options, &["wc", "-c"], names.as_bytes()).expect(0);
    assert_same_text(ended.text(), expected.text());
    let read = |path: &Path| python(LOG_READER, &fs::read(path).unwrap());
    assert_same_text(&read(&ours), &read(&theirs));
}

/// The whole of standard error is there, whatever a program writes, and so are the reasons.
#[test]
fn no_word_of_a_program_is_dropped() {
    let script = "for i in 1 2 3 4 5 6 7 8 9; do echo $0-$i >&2; done; exit 1";
    let mut command = map("", &["sh", "-c", script]);
    let numbers = super::numbers(300);
    let process = Process::fed(&mut command, numbers.as_bytes());
    let mut process = process;
    let out = process.stdout_lines();
    let ended = Run { process, out }.end().expect(1);
    let count = |part: &str| ended.err.iter().filter(|line| line.contains(part)).count();
    assert_eq!(count("at worker 127.0.0.1:"), 300 * 10);
    assert_eq!(count(": exit status 1"), 300);
    ended.says("300 tasks failed for this reason");
}
