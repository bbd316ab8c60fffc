//! What it is: the kernel as the pool calls it, with programs of every system. What it is not: a test
//! of the format, which is in `command`.
//!
//! Invariant: what a test leaves running it finds again by an argument that no other test uses.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use super::*;
use crate::command::{Ended, Report};
use crate::kernel::Kernels;
use crate::limits::PROGRAM_GRACE;

const REPORT_MAX: usize = 1 << 20;

/// A kernel for this command, which is allowed.
fn kernel(mode: Mode, words: &[&str]) -> Arc<dyn Kernel> {
    let programs = Programs::allow(&[PathBuf::from(words[0])]).unwrap();
    open(programs, mode, words).unwrap()
}

fn open(programs: Programs, mode: Mode, words: &[&str]) -> Result<Arc<dyn Kernel>, String> {
    let words = words.iter().map(|word| word.as_bytes().to_vec()).collect();
    let setup = CommandLine::new(mode, words).unwrap().encode();
    let kernels = Kernels::new().with("map", opener(programs, REPORT_MAX));
    kernels.open("map", &setup)
}

/// How it ended, and what it wrote to standard output and standard error.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    ended: Ended,
    stdout: Vec<u8>,
    stderr: String,
}

impl Told {
    fn exited(code: u8, stdout: &[u8], stderr: &str) -> Told {
        Told {
            ended: Ended::Exited(code),
            stdout: stdout.to_vec(),
            stderr: stderr.into(),
        }
    }
}

fn run(kernel: &dyn Kernel, line: impl AsRef<[u8]>) -> Result<Told, KernelError> {
    let mut output = Vec::new();
    let result = kernel.run(line.as_ref(), &Stop::new(), &mut output);
    if let Err(error @ (KernelError::Failed(_) | KernelError::Host(_))) = result {
        return Err(error);
    }
    let report = Report::decode(&output).unwrap();
    assert_eq!(result.is_ok(), report.ended == Ended::Exited(0));
    Ok(Told {
        ended: report.ended,
        stdout: report.stdout.to_vec(),
        stderr: String::from_utf8_lossy(report.stderr).into_owned(),
    })
}

/// What a shell script does with each line as its `$1`.
fn script(script: &str) -> Arc<dyn Kernel> {
    kernel(Mode::PerTask, &["/bin/sh", "-c", script, "sh"])
}

fn failed(kernel: &dyn Kernel, line: &str) -> String {
    match run(kernel, line) {
        Err(KernelError::Failed(reason)) => reason,
        other => panic!("{other:?}"),
    }
}

/// Waits until no process has this command line; says whether that came to be.
fn is_gone(marker: &str) -> bool {
    let end = Instant::now() + Duration::from_secs(1);
    while Instant::now() < end {
        if !is_running(marker) {
            return true;
        }
        thread::sleep(Duration::from_millis(10));
    }
    false
}

fn is_running(marker: &str) -> bool {
    fs::read_dir("/proc").unwrap().flatten().any(|entry| {
        let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        command
            .split(|&byte| byte == 0)
            .any(|word| word == marker.as_bytes())
    })
}

/// Seconds to sleep that no other test sleeps: found again in `/proc`.
fn marker() -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("1000.{}{number:03}", std::process::id())
}

#[test]
fn what_a_program_writes_and_how_it_ends_is_told() {
    let kernel = script("echo out; echo err >&2; exit $1");
    for code in [0, 3, 255, 0] {
        let told = run(&*kernel, code.to_string());
        assert_eq!(told, Ok(Told::exited(code, b"out\n", "err\n")));
    }
    let killed = run(&*script("kill -9 $$"), "").unwrap();
    assert_eq!(killed.ended, Ended::Signalled(9));
}

#[test]
fn a_line_reaches_the_program_with_exactly_its_bytes() {
    let kernel = kernel(Mode::PerTask, &["/usr/bin/printf", "%s|", "{}", "<{}>"]);
    let nasty: [&[u8]; 9] = [
        b"",
        b" a  b ",
        b"'\"\\",
        b"$(touch x) `x` ${x}",
        b"; rm -rf x & | x > y",
        b"../../x",
        b"\xff\xfe\x80",
        b"*?[a]~",
        b"a\nb\r\tc",
    ];
    for line in nasty {
        let expected = [line, b"|<", line, b">|"].concat();
        assert_eq!(run(&*kernel, line), Ok(Told::exited(0, &expected, "")));
    }
    let reason = failed(&*kernel, "a\0b");
    assert!(reason.contains("zero byte"), "{reason}");
    let long = vec![b'a'; 100_000];
    let told = run(&*kernel, &long).unwrap();
    assert_eq!(told.stdout.len(), 2 * long.len() + 4);
    let reason = failed(&*kernel, &"a".repeat(1 << 20));
    assert!(reason.contains("systems take"), "{reason}");
}

#[test]
fn a_program_has_little_of_the_worker() {
    let told = run(&*kernel(Mode::PerTask, &["/usr/bin/env", "-u"]), "X").unwrap();
    let names: Vec<&[u8]> = (told.stdout.split(|&byte| byte == b'\n'))
        .filter_map(|line| line.split(|&byte| byte == b'=').next())
        .collect();
    assert!(names.contains(&&b"PATH"[..]) && names.contains(&&b"TMPDIR"[..]));
    assert!(!names.iter().any(|name| name.starts_with(b"CARGO")));
    assert_eq!(
        run(&*script("cat"), "").unwrap().stdout,
        b"",
        "no standard input"
    );
}

#[test]
fn a_folder_of_its_own_is_empty_for_each_task_and_gone_with_the_session() {
    let kernel = script("pwd; ls -A; touch a; mkdir b; touch b/c; ls -d \"$TMPDIR\"");
    let told = run(&*kernel, "").unwrap();
    let text = String::from_utf8(told.stdout).unwrap();
    let (first, second) = text.trim_end().split_once('\n').unwrap();
    assert_eq!(first, second);
    assert_eq!(run(&*kernel, "").unwrap().stdout, text.as_bytes());
    assert!(Path::new(first).exists());
    drop(kernel);
    assert!(!Path::new(first).exists());
}

#[test]
fn a_folder_that_cannot_be_emptied_is_replaced() {
    let kernel = script("cd ..; chmod 0 \"$TMPDIR\"; pwd");
    for _ in 0..2 {
        assert_eq!(run(&*kernel, "").unwrap().ended, Ended::Exited(0));
    }
}

#[test]
fn at_home_it_runs_as_its_user_would() {
    let programs = Programs::at_home(Path::new("/bin/sh")).unwrap();
    let words = ["/bin/sh", "-c", "pwd; echo $CARGO_PKG_NAME"];
    let kernel = open(programs, Mode::PerTask, &words).unwrap();
    let here = env::current_dir().unwrap();
    let expected = format!("{}\nteamster\n", here.display());
    assert_eq!(run(&*kernel, "").unwrap().stdout, expected.as_bytes());
}

#[test]
fn the_name_of_a_program_is_what_was_typed() {
    let programs = Programs::allow(&["/bin/sh".into()]).unwrap();
    let kernel = open(programs, Mode::PerTask, &["sh", "-c", "echo $0"]).unwrap();
    assert_eq!(run(&*kernel, "typed").unwrap().stdout, b"typed\n");
    let programs = Programs::allow(&["/bin/ls".into()]).unwrap();
    let kernel = open(programs, Mode::PerTask, &["ls", "/no/such"]).unwrap();
    let told = run(&*kernel, "").unwrap();
    assert!(told.stderr.starts_with("ls: "), "{}", told.stderr);
}

#[test]
fn what_is_not_allowed_is_refused_and_what_cannot_start_is_the_machines_fault() {
    let refused = open(Programs::default(), Mode::PerTask, &["wc"])
        .err()
        .unwrap();
    assert!(refused.contains("\"wc\" is not allowed here"), "{refused}");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("program");
    fs::write(&path, "no program").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let kernel = kernel(Mode::PerTask, &[path.to_str().unwrap()]);
    let broken = |what: &str| match run(&*kernel, "") {
        Err(KernelError::Host(reason)) => assert!(reason.contains(what), "{reason}"),
        other => panic!("{other:?}"),
    };
    broken("Exec format error");
    fs::remove_file(&path).unwrap();
    broken("No such file");
}

#[test]
fn an_output_that_is_too_long_ends_its_program() {
    let told = run(&*script("head -c $1 /dev/zero"), "1048570").unwrap();
    assert_eq!(told.stdout.len(), REPORT_MAX - Report::HEADER_BYTES);
    for line in ["1048571", "2000000"] {
        let reason = failed(&*script("head -c $1 /dev/zero"), line);
        assert!(
            reason.starts_with("/bin/sh wrote more than the 1048576 bytes"),
            "{reason}"
        );
    }
    let reason = failed(&*script("yes"), "");
    assert!(reason.contains("was ended"), "{reason}");
    let told = run(&*script("head -c 1000000 /dev/zero >&2; echo last >&2"), "").unwrap();
    assert!(told.stderr.len() < 70_000 && told.stderr.ends_with("last\n"));
    assert!(told.stderr.contains("bytes left out]"));
}

#[test]
fn what_is_left_behind_ends_with_its_program() {
    let marker = marker();
    let kernel = script("sleep $1 & echo hi");
    let begin = Instant::now();
    assert_eq!(run(&*kernel, &marker).unwrap().stdout, b"hi\n");
    assert!(begin.elapsed() < Duration::from_secs(10));
    assert!(is_gone(&marker));
    // Also one that goes on writing.
    let kernel = script("(while :; do echo $1; sleep 0.1; done >&2) & echo hi");
    assert_eq!(run(&*kernel, &marker).unwrap().stdout, b"hi\n");
    assert!(is_gone(&marker));
    // One that holds no pipe ends with the session.
    let kernel = script("sleep $1 >/dev/null 2>&1 & sleep 0.1; echo hi");
    assert_eq!(run(&*kernel, &marker).unwrap().stdout, b"hi\n");
    assert!(is_running(&marker));
    drop(kernel);
    assert!(is_gone(&marker));
}

#[test]
fn outputs_may_be_closed_before_the_end() {
    let told = run(&*script("exec >&- 2>&-; sleep 0.1; exit 5"), "");
    assert_eq!(told, Ok(Told::exited(5, b"", "")));
}

/// Raises the stop once the program runs.
fn stopped(kernel: &dyn Kernel, line: &str) {
    let stop = Stop::new();
    thread::scope(|scope| {
        let running = scope.spawn(|| kernel.run(line.as_bytes(), &stop, &mut Vec::new()));
        while !is_running(line) && !running.is_finished() {
            thread::sleep(Duration::from_millis(1));
        }
        stop.set(true);
        assert_eq!(running.join().unwrap(), Err("stopped".into()));
    });
    assert!(is_gone(line), "{line}");
}

#[test]
fn a_stop_ends_a_program_and_all_it_has_started() {
    for text in [
        "sleep $1",
        "sleep $1 & sleep $1 & wait",
        "(sleep $1 >/dev/null 2>&1 &); sleep $1",
        "trap '' TERM INT HUP; exec >&- 2>&-; sleep $1; sleep $1",
        "(kill -STOP 0 &) ; sleep $1",
        "trap '' TERM; kill 0; sleep $1",
    ] {
        let kernel = script(text);
        for _ in 0..3 {
            stopped(&*kernel, &marker());
        }
        // And the next task is none the worse.
        let kernel = script("echo $1");
        assert_eq!(run(&*kernel, "on").unwrap().stdout, b"on\n");
    }
}

#[test]
fn a_killed_guard_is_replaced() {
    let kernel = script("kill -9 0; sleep $1");
    for _ in 0..3 {
        let told = run(&*kernel, "1").unwrap();
        assert_eq!(told.ended, Ended::Signalled(9));
    }
    let marker = marker();
    let kernel = script("if [ $1 = kill ]; then kill -9 0; else sleep $1; fi");
    assert!(run(&*kernel, "kill").is_ok());
    stopped(&*kernel, &marker);
}

/// A shell that answers each line.
fn answering(body: &str) -> Arc<dyn Kernel> {
    let text = format!("while read -r line; do {body}; done");
    kernel(Mode::Lines, &["/bin/sh", "-c", &text])
}

#[test]
fn a_process_that_lives_on_answers_line_after_line() {
    let kernel = answering("echo \"$$ $line\"");
    let answers: Vec<Vec<u8>> = (["a", "b c", ""].iter())
        .map(|line| run(&*kernel, line).unwrap().stdout)
        .collect();
    let text = answers.concat();
    let pid = std::str::from_utf8(&answers[0])
        .unwrap()
        .split_once(' ')
        .unwrap()
        .0;
    assert_eq!(text, format!("{pid} a{pid} b c{pid} ").as_bytes());
    assert!(Path::new("/proc").join(pid).exists());
    drop(kernel);
    assert!(
        !Path::new("/proc").join(pid).exists(),
        "it ends with the session"
    );
    let long = "x".repeat(500_000);
    let cat = self::kernel(Mode::Lines, &["/bin/cat"]);
    assert_eq!(run(&*cat, &long).unwrap().stdout, long.as_bytes());
    let kernel = answering("echo warn >&2; echo ok");
    assert_eq!(run(&*kernel, "x"), Ok(Told::exited(0, b"ok", "warn\n")));
}

#[test]
fn blocks_of_bytes_have_lengths() {
    let cat = kernel(Mode::Lengths, &["/bin/cat"]);
    for block in [&b""[..], b"\0\n\xff", &[7; 300_000]] {
        assert_eq!(run(&*cat, block).unwrap().stdout, block);
    }
    let zeros = kernel(Mode::Lengths, &["/usr/bin/head", "-c", "9", "/dev/zero"]);
    let reason = failed(&*zeros, "x");
    assert!(reason.contains("more than one block of bytes"), "{reason}");
    let ones = kernel(
        Mode::Lengths,
        &["/bin/sh", "-c", "printf '\\377\\377\\377\\377'; sleep 1000"],
    );
    assert!(failed(&*ones, "x").contains("wrote more than the"));
}

#[test]
fn one_that_dies_or_answers_out_of_step_fails_its_task_and_is_replaced() {
    let kernel = answering("[ $line = die ] && { echo why >&2; exit 3; }; echo $line");
    assert_eq!(run(&*kernel, "a").unwrap().stdout, b"a");
    assert_eq!(
        failed(&*kernel, "die"),
        "/bin/sh ended (exit status: 3) before it answered; the next task gets a new process; its \
         last words: why"
    );
    assert_eq!(run(&*kernel, "b").unwrap().stdout, b"b");
    let kernel = answering("printf '%b' \"$line\"");
    let reason = failed(&*kernel, "a\\nb\\n");
    assert!(
        reason.contains("more than one line for one task"),
        "{reason}"
    );
    assert_eq!(run(&*kernel, "b\\n").unwrap().stdout, b"b");
    // Also while a child of it still holds its output.
    for body in [
        "echo $line; kill -9 $$",
        "sleep 1000 & echo $line; kill -9 $$",
    ] {
        let kernel = answering(body);
        for line in ["a", "b"] {
            assert_eq!(run(&*kernel, line).unwrap().stdout, line.as_bytes());
            thread::sleep(Duration::from_millis(100));
        }
    }
}

#[test]
fn one_that_lives_on_is_stopped_and_replaced() {
    let kernel = answering("case $line in 1000.*) sleep $line;; esac; echo $line");
    let marker = marker();
    assert_eq!(run(&*kernel, "a").unwrap().stdout, b"a");
    stopped(&*kernel, &marker);
    assert_eq!(run(&*kernel, "b").unwrap().stdout, b"b");
    // It ignores the end of its input, and ends all the same.
    let kernel = self::kernel(
        Mode::Lines,
        &["/bin/sh", "-c", "read x; echo $x; sleep $0", &marker],
    );
    assert_eq!(run(&*kernel, "a").unwrap().stdout, b"a");
    drop(kernel);
    assert!(is_gone(&marker));
}

#[test]
fn the_end_of_a_session_waits_for_nothing_while_the_worker_goes_on() {
    let programs = Programs::allow(&["/bin/sh".into()]).unwrap();
    // One that has answered already may be asked by a thread that comes late.
    let text = "while read x; do sleep 0.1; echo $x; done; sleep 1000";
    let words = ["/bin/sh", "-c", text].map(|word| word.into());
    let setup = CommandLine::new(Mode::Lines, words.into())
        .unwrap()
        .encode();
    let kernels = Kernels::new().with("map", opener(programs, REPORT_MAX));
    let kernel = kernels.open("map", &setup).unwrap();
    thread::scope(|scope| {
        let running = [(); 16].map(|()| scope.spawn(|| run(&*kernel, "x").unwrap()));
        for running in running {
            running.join().unwrap();
        }
    });
    let clearing = Instant::now();
    drop(kernel);
    let ended = clearing.elapsed();
    drop(kernels);
    let cleared = clearing.elapsed();
    // The programs ignore the end of their input, and have one grace together before they are killed.
    assert!(ended < cleared / 2 && cleared >= PROGRAM_GRACE);
    assert!(cleared < 8 * PROGRAM_GRACE, "{cleared:?}");
}

#[test]
fn attempts_at_a_time_have_processes_of_their_own() {
    let kernel = answering("sleep 0.05; echo $$");
    let answers: Vec<Told> = thread::scope(|scope| {
        let running = [(); 4].map(|()| scope.spawn(|| run(&*kernel, "x").unwrap()));
        running.map(|thread| thread.join().unwrap()).into()
    });
    let mut pids: Vec<_> = answers.into_iter().map(|told| told.stdout).collect();
    pids.sort();
    pids.dedup();
    assert_eq!(pids.len(), 4);
}
