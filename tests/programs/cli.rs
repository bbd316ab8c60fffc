//! The two programs as a user types them: exit codes, streams, and the exact bytes of the results.
//!
//! What it is: what scripts rely on. What it is not: the grammar of the options, which is tested where
//! it is written, or what happens on the wire.
//!
//! Invariant: standard output carries results and what was asked for; everything else goes to
//! standard error.

use std::io::Read;
use std::process::{Command, Stdio};

use crate::common::{Ended, Process, Worker, head, run_head, squares, worker};

/// Runs `head` on two embedded workers; the job must succeed.
#[track_caller]
fn local(args: &str) -> Ended {
    run_head(&format!("--local 2 {args}")).expect(0)
}

fn run_worker(args: &str) -> Ended {
    Process::start(&mut worker(args)).end()
}

/// Runs a shell script in which `HEAD` and `WORKER` stand for the programs.
fn shell(script: &str) -> Ended {
    let script = script.replace("HEAD", env!("CARGO_BIN_EXE_head"));
    let script = script.replace("WORKER", env!("CARGO_BIN_EXE_worker"));
    Process::start(Command::new("sh").args(["-c", &script])).end()
}

#[test]
fn help_and_version_are_answers() {
    for (ended, name) in [
        (run_head("--help"), "head"),
        (run_head("-h --local 3"), "head"),
        (run_worker("--help"), "worker"),
    ] {
        let ended = ended.expect(0);
        assert!(
            ended
                .text()
                .starts_with(&format!("Usage: {name} [OPTIONS]"))
        );
        assert!(ended.text().ends_with("RUST_LOG=debug tells more.\n"));
        assert!(ended.err.is_empty(), "{:?}", ended.err);
    }
    let release = env!("CARGO_PKG_VERSION");
    for (ended, name) in [
        (run_head("-V"), "head"),
        (run_worker("--version"), "worker"),
    ] {
        let ended = ended.expect(0);
        let start = format!("{name} {release} (Teamster, protocol ");
        assert!(ended.text().starts_with(&start), "{}", ended.text());
        assert_eq!(ended.text().lines().count(), 1);
    }
}

#[test]
fn bad_usage_is_2_with_a_hint_on_standard_error() {
    for (ended, name, reason) in [
        (
            run_head("--frmat json"),
            "head",
            "unknown option --frmat; did you mean --format?",
        ),
        (
            run_head("--worker a"),
            "head",
            "unknown option --worker; did you mean --workers?",
        ),
        (
            run_head("-workers a"),
            "head",
            "unknown option -workers; did you mean --workers?",
        ),
        (run_head("sqare"), "head", "did you mean square?"),
        (
            run_head("--format xml"),
            "head",
            "--format is \"xml\", which is none of text, tsv, json",
        ),
        (
            run_head("-w a --local 2"),
            "head",
            "--workers and --local exclude each other",
        ),
        (run_head("-w a,,b"), "head", "part 2 of \"a,,b\" is empty"),
        (
            run_head("--local 0"),
            "head",
            "--local is 0, but must be from 1",
        ),
        (
            run_head("--give-up 0"),
            "head",
            "--give-up is \"0\", not a number of seconds above 0",
        ),
        (
            run_head("--payload-max 65"),
            "head",
            "--payload-max is 65, but must be from 1 to 64",
        ),
        (
            run_head("primes 10 1"),
            "head",
            "FROM is 10, which is above TO, 1",
        ),
        (run_head("primes 1"), "head", "primes takes two arguments"),
        (
            run_head("primes 1 x"),
            "head",
            "TO is \"x\", not a whole number in digits",
        ),
        (
            run_worker("--slot 2"),
            "worker",
            "unknown option --slot; did you mean --slots?",
        ),
        (run_worker("square"), "worker", "worker takes options only"),
    ] {
        let ended = ended.expect(2);
        assert_eq!(ended.text(), "");
        assert!(
            ended.err[0].starts_with(&format!("{name}: ")),
            "{:?}",
            ended.err
        );
        ended.says(reason);
        assert_eq!(ended.err[1], format!("Try '{name} --help'."));
    }
}

#[test]
#[cfg(not(feature = "noise"))]
fn a_key_is_refused_by_a_build_without_encryption() {
    for ended in [
        run_worker("-l 127.0.0.1:0 --key-file k"),
        run_head("-w 127.0.0.1:1 --key-file k square"),
    ] {
        ended.expect(2).says("this build has no encryption");
    }
}

#[test]
fn a_worker_that_cannot_listen_is_5() {
    let first = Worker::start(1);
    let ended = run_worker(&format!("-l {}", first.address)).expect(5);
    ended.says("another program does, choose another port with --listen");
    run_worker("--insecure -l 192.0.2.1:0")
        .expect(5)
        .says("that is not an address of this machine");
    run_worker("--insecure -l no-such-host.invalid:0")
        .expect(5)
        .says("cannot listen on no-such-host");
}

#[test]
fn a_worker_says_where_it_listens_on_standard_output_alone() {
    let mut process = Process::start(&mut worker("-l 127.0.0.1:0 --quiet"));
    let mut stdout = process.stdout();
    let mut line = [0; 23];
    stdout.read_exact(&mut line).unwrap();
    assert_eq!(&line, b"Listening on 127.0.0.1:");
    process.kill();
    let mut port = String::new();
    stdout.read_to_string(&mut port).unwrap();
    assert!(port.ends_with('\n') && port.trim_end().parse::<u16>().unwrap() > 0);
    assert!(process.err_at_end().is_empty());
}

#[test]
fn squares_in_every_format() {
    let text = local("square --count 4 --work-ms 0");
    assert_eq!(text.text(), "0 -> 0\n1 -> 1\n2 -> 4\n3 -> 9\n");
    let tsv = local("square --count 3 --work-ms 0 --format tsv");
    assert_eq!(tsv.text(), "0\tdone\t0\n1\tdone\t1\n2\tdone\t4\n");
    let json = local("--format json --count 2 --work-ms 0 square");
    let lines = "{\"task\":0,\"outcome\":\"done\",\"output\":0}\n\
                 {\"task\":1,\"outcome\":\"done\",\"output\":1}\n";
    assert_eq!(json.text(), lines);
    assert_eq!(local("square --count 0").text(), "");
    assert_eq!(
        local("square --count 2 --work-ms 0 --details").text(),
        squares(2)
    );
}

/// Whether `text` is milliseconds with three decimals.
fn is_millis(text: &str) -> bool {
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    text.split_once('.')
        .is_some_and(|(whole, rest)| digits(whole) && digits(rest) && rest.len() == 3)
}

#[test]
fn details_stand_before_the_output() {
    let worker = Worker::start(1);
    let job = format!(
        "-w {} square --count 3 --work-ms 5 --details",
        worker.address
    );
    let tsv = run_head(&format!("{job} --format tsv")).expect(0);
    for (n, line) in tsv.text().lines().enumerate() {
        let columns: Vec<&str> = line.split('\t').collect();
        let [task, outcome, by, attempts, queue_ms, run_ms, output] = columns[..] else {
            panic!("7 columns in {line:?}");
        };
        assert_eq!(
            (task, output),
            (&n.to_string()[..], &(n * n).to_string()[..])
        );
        assert_eq!((outcome, by, attempts), ("done", &worker.address[..], "0"));
        assert!(is_millis(queue_ms) && is_millis(run_ms), "{line}");
        assert!(run_ms.parse::<f64>().unwrap() >= 5.0, "{line}");
    }
    let json = run_head(&format!("{job} --format json")).expect(0);
    for (n, line) in json.text().lines().enumerate() {
        let start = format!(
            "{{\"task\":{n},\"outcome\":\"done\",\"worker\":\"{}\",\"attempts\":0,\"queue_ms\":",
            worker.address
        );
        let rest = line
            .strip_prefix(&start)
            .unwrap_or_else(|| panic!("{line}"));
        let (queue_ms, rest) = rest.split_once(",\"run_ms\":").unwrap();
        let (run_ms, rest) = rest.split_once(",\"output\":").unwrap();
        assert!(is_millis(queue_ms) && is_millis(run_ms), "{line}");
        assert_eq!(rest, format!("{}}}", n * n));
    }
}

#[test]
fn primes_in_every_format() {
    assert_eq!(local("primes 1 100000").text(), "9592\n");
    assert_eq!(
        local("primes 1 100_000 --format tsv").text(),
        "0\tdone\t9592\n"
    );
    let json = local("primes 1 100000 --format json");
    assert_eq!(
        json.text(),
        "{\"task\":0,\"outcome\":\"done\",\"output\":9592}\n"
    );
    let details = local("primes 1 100000 --format tsv --details");
    let columns: Vec<&str> = details.text().trim_end().split('\t').collect();
    assert_eq!(columns.len(), 7, "{columns:?}");
    assert!(is_millis(columns[4]) && is_millis(columns[5]));
    assert_eq!((columns[0], columns[1], columns[6]), ("0", "done", "9592"));
}

/// Primes in `from..=to` by a sieve that is too simple to be wrong.
fn count_primes(from: usize, to: usize) -> usize {
    let mut is_composite = vec![false; to - from + 1];
    let root = to.isqrt();
    let mut is_factor = vec![true; root + 1];
    for factor in 2..=root {
        if !is_factor[factor] {
            continue;
        }
        (factor * factor..=root)
            .step_by(factor)
            .for_each(|n| is_factor[n] = false);
        let first = from.next_multiple_of(factor).max(factor * factor);
        (first..=to)
            .step_by(factor)
            .for_each(|n| is_composite[n - from] = true);
    }
    is_composite.iter().filter(|&&is| !is).count()
}

#[test]
fn primes_at_the_edges() {
    for (range, count) in [
        ("0 0", 0),
        ("0 1", 0),
        ("1 1", 0),
        ("2 2", 1),
        ("0 2", 1),
        ("4 4", 0),
    ] {
        assert_eq!(
            local(&format!("primes {range}")).text(),
            format!("{count}\n"),
            "{range}"
        );
    }
    let from = 1_000_000_000_000;
    let count = count_primes(from, from + 1_000_000);
    let far = local(&format!("primes {from} {}", from + 1_000_000));
    assert_eq!(far.text(), format!("{count}\n"));
    assert_eq!(count_primes(1_000_000, 90_000_000), 5_216_954 - 78_498);
    let wide = local("primes 1000000 90000000");
    assert_eq!(
        wide.text(),
        format!("{}\n", 5_216_954 - 78_498),
        "many chunks"
    );
}

/// Asserts that `line` is `start`, a number with two decimals, and `end`.
#[track_caller]
fn assert_number(line: &str, start: &str, end: &str) -> f64 {
    let number = line
        .strip_prefix(start)
        .and_then(|rest| rest.strip_suffix(end));
    let number = number.unwrap_or_else(|| panic!("{line:?} is not {start:?} number {end:?}"));
    let (_, decimals) = number.split_once('.').expect(line);
    assert_eq!(decimals.len(), 2, "{line:?}");
    number.parse().expect(line)
}

#[test]
fn a_compared_run_prints_times_and_verdict_on_standard_error() {
    for args in [
        "--count 8 --work-ms 50",
        "--compare square --count 8 --work-ms 50 --local 2",
    ] {
        let ended = run_head(args).expect(0);
        assert_eq!(ended.text(), squares(8), "the results, once");
        let [
            serial,
            distributed,
            speed_up,
            verdict,
            first,
            _,
            second,
            _,
            total,
            cost,
        ] = &ended.err[..]
        else {
            panic!("10 lines: {:?}", ended.err);
        };
        let serial = assert_number(serial, "Serial time: ", " s");
        let distributed = assert_number(distributed, "Distributed time: ", " s");
        let speed_up = assert_number(speed_up, "Speed-up: ", "x on 2 slots");
        assert_eq!(verdict, "Results: identical");
        assert!(serial >= 0.4 && distributed >= 0.2, "{:?}", ended.err);
        let of_both = serial / distributed;
        assert!(
            (of_both * 0.9..of_both * 1.1).contains(&speed_up),
            "{:?}",
            ended.err
        );
        for line in [first, second] {
            assert!(line.starts_with("worker 127.0.0.1:"), "{line}");
            assert!(line.ends_with(" done, 0 failed, 0 lost"), "{line}");
        }
        assert!(total.starts_with("8 tasks done, 0 failed in 0."), "{total}");
        assert!(total.contains(", 2 slots "), "{total}");
        assert_number(cost, "CPU: ", " s at the head");
    }
}

#[test]
fn a_named_job_is_not_compared_unless_asked() {
    let ended = local("square --count 2 --work-ms 0");
    let [first, more, second, _, total, _] = &ended.err[..] else {
        panic!("6 lines: {:?}", ended.err);
    };
    assert!(first.starts_with("worker ") && second.starts_with("worker "));
    assert!(more.starts_with("  "), "{more}");
    assert!(total.starts_with("2 tasks done, 0 failed in "), "{total}");
}

#[test]
fn quiet_says_nothing_when_all_goes_well() {
    let ended = local("-q --compare square --count 2 --work-ms 0");
    assert_eq!((ended.text(), ended.err.len()), ("0 -> 0\n1 -> 1\n", 0));
    let failed = run_head("-q -w 127.77.3.1:9 --give-up 0.3 square").expect(3);
    failed.says("giving up");
    assert!(
        failed
            .err
            .iter()
            .all(|line| line.starts_with("head: error: "))
    );
}

#[test]
fn rust_log_is_honoured() {
    let run = |level: &str, args: &str| {
        let mut command = head(args);
        Process::start(command.env("RUST_LOG", level)).end()
    };
    let told = run("info", "--local 1 square --count 1 --work-ms 0").expect(0);
    told.says(" is up: 1 slot, release ");
    let told = run("teamster=debug", "--local 1 square --count 1 --work-ms 0").expect(0);
    told.says(" runs release ");
    let gives_up = "-w 127.77.3.2:9 --give-up 0.3 square --count 1";
    assert!(
        run("off", gives_up)
            .expect(3)
            .err
            .iter()
            .all(|line| !line.starts_with("head: "))
    );
    // What RUST_LOG says goes before what --quiet says.
    run("warn", &format!("-q {gives_up}"))
        .expect(3)
        .says("head: warning: worker 127.77.3.2:9");
}

#[test]
fn a_closed_standard_error_does_no_harm() {
    let job = "--local 1 --compare square --count 3 --work-ms 0";
    assert_eq!(
        shell(&format!("exec HEAD {job} 2>&-")).expect(0).text(),
        squares(3)
    );
    let mut command = head(job);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(child.stderr.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(output.stdout, squares(3).into_bytes());
    assert_eq!(shell("exec HEAD primes 2 1 2>&-").code, Some(2));
}

#[test]
fn a_picture_is_whole_and_the_same_on_one_worker_and_on_three() {
    let line = "mandelbrot --size 31x20 --iterations 50";
    let one = run_head(&format!("--local 1 {line} --compare")).expect(0);
    one.says("Results: identical");
    let three = run_head(&format!("--local 3 {line}")).expect(0);
    assert_eq!(one.out, three.out);
    assert_eq!(one.out[..2], *b"BM");
    let length = u32::from_le_bytes(one.out[2..6].try_into().unwrap());
    assert_eq!(one.out.len(), length as usize);
    assert_eq!(one.out.len(), 54 + 96 * 20);
}

#[test]
fn a_terminal_gets_no_picture() {
    // `script` gives the program a terminal, and its exit code is the program's.
    let ended = shell("script -qec 'HEAD mandelbrot --size 3x2 2>&1' /dev/null").expect(2);
    assert!(
        ended.text().contains("say where it goes with -o FILE"),
        "{}",
        ended.text()
    );
}

#[test]
fn a_kernel_runs_without_a_head() {
    let ran = shell("echo 1 1000000 | WORKER --run primes").expect(0);
    assert_eq!((ran.text(), ran.err.len()), ("78498\n", 0));
    let failed = shell("echo 4294967296 | WORKER --run square").expect(1);
    failed.says("worker: error: the square of 4294967296 does not fit 64 bits");
    let wrong = shell("echo seven | WORKER --run square").expect(2);
    wrong.says("standard input: \"seven\\n\", where there should be 1 whole numbers");
    let unknown = shell("WORKER --run cube </dev/null").expect(2);
    unknown.says("no kernel \"cube\" here, only mandelbrot, primes, square");
}
