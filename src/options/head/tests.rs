//! Command lines of `head`.
//!
//! What it is: what each option means, and what is said of a line that cannot be meant. What it is
//! not: the jobs' own options.
//!
//! Invariant: a line is understood whole or not at all.

use super::super::cli::tests::{assert_fits_a_screen, split};
use super::*;
use crate::kernels::primes::Primes;

/// What a command line means.
pub fn ok(line: &str) -> HeadOptions {
    HeadOptions::parse(split(line)).unwrap_or_else(|early| panic!("{line}: {early:?}"))
}

/// What is wrong with a command line.
pub fn error(line: &str) -> String {
    match HeadOptions::parse(split(line)) {
        Err(Early::Usage(text)) => {
            let reason = text.strip_suffix(" --help'.").unwrap();
            let reason = reason.trim_end_matches(" map");
            let reason = reason.strip_suffix("\nTry 'head").unwrap();
            reason.strip_prefix("head: ").unwrap().to_owned()
        }
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn nothing_typed_is_the_demonstration() {
    let expected = HeadOptions {
        cluster: Cluster::Local(2),
        key_file: None,
        job: Job::Square(Squares::new(10, 1000, Rows::default())),
        is_check: false,
        compare: true,
        give_up: Duration::from_secs(60),
        attempts_max: 3,
        retries: 0,
        failures_max: None,
        ends_softly: false,
        relief: Relief::Duplicate,
        timeout: None,
        output: None,
        joblog: None,
        results: None,
        dry_run: false,
        journal: None,
        unordered: false,
        payload_max_bytes: 1 << 20,
        quiet: false,
        progress: When::Auto,
        status: None,
        report: None,
        trace: None,
    };
    assert_eq!(ok(""), expected);
}

#[test]
fn workers() {
    let expected = ["10.0.0.11:5000", "w:81", "[::1]:5000"].map(|w| w.parse().unwrap());
    let expected = Cluster::Remote(expected.to_vec());
    for flag in ["-w ", "-w", "--workers ", "--workers="] {
        assert_eq!(ok(&format!("{flag}10.0.0.11,w:81,::1")).cluster, expected);
    }
    assert_eq!(error("-w a,,b"), "--workers: part 2 of \"a,,b\" is empty");
    assert!(error("-w a:x").contains("\"a:x\" has the port \"x\""));
    assert!(error("--workers --local").contains("\"--local\" is neither"));
    assert!(error("-w a --local 2").contains("exclude each other"));
}

#[test]
fn local() {
    for n in [1, 1024] {
        let line = format!("--local {n}");
        assert_eq!(ok(&line).cluster, Cluster::Local(n));
    }
    for typed in ["0", "1025", "-1"] {
        let expected = format!("--local is {typed}, but must be from 1 to 1_024");
        assert_eq!(error(&format!("--local {typed}")), expected);
    }
    assert!(error("--local two").contains("not a whole number"));
}

#[test]
fn a_key_file_is_for_workers_elsewhere() {
    assert_eq!(ok("-w a --key-file k").key_file, Some("k".into()));
    assert_eq!(ok("-w a").key_file, None);
    for line in ["--key-file k", "--local 2 --key-file k"] {
        let reason = error(line);
        assert!(
            reason.starts_with("--key-file is for --workers"),
            "{reason}"
        );
    }
    assert_eq!(
        error("-w a --key-file="),
        "--key-file needs the name of a file"
    );
    assert!(error("-w a --key-file -q").contains("write ./-q"));
}

#[test]
fn a_new_key_is_made_and_nothing_else() {
    let early = HeadOptions::parse(split("--keygen k")).unwrap_err();
    assert_eq!(early, Early::Keygen("k".into()));
    for line in ["--keygen k square", "-w a --keygen k", "--keygen k -q"] {
        assert_eq!(error(line), "--keygen FILE stands alone: it runs no job");
    }
    assert_eq!(error("--keygen="), "--keygen needs the name of a file");
    assert_eq!(error("--keygen"), "--keygen needs its FILE");
}

#[test]
fn attempts_and_failures() {
    assert_eq!(ok("--attempts 1").attempts_max, 1);
    assert!(error("--attempts 0").starts_with("--attempts is 0, but must be from 1"));
    assert_eq!(ok("--max-failures 0").failures_max, Some(0));
    assert_eq!(ok("--retries 2").retries, 2);
    assert!(error("--retries 1001").starts_with("--retries is 1001, but must be from 0"));
    assert_eq!(ok("square").relief, Relief::Duplicate);
    assert_eq!(ok("--no-duplicates").relief, Relief::None);
    assert_eq!(
        ok("map -- x").relief,
        Relief::HandBack,
        "programs have side effects"
    );
    assert!(error("--max-failures some").contains("not a whole number"));
}

#[test]
fn compare_is_the_default_only_without_a_job() {
    assert!(ok("--count 5").compare);
    assert!(!ok("square").compare);
    assert!(!ok("primes 1 2").compare);
    assert!(ok("square --compare").compare);
    assert!(ok("-c primes 1 2").compare);
}

#[test]
fn give_up() {
    assert_eq!(ok("--give-up 5").give_up, Duration::from_secs(5));
    assert_eq!(ok("--give-up 0.25").give_up, Duration::from_millis(250));
    for typed in ["0", "-1", "soon"] {
        assert!(error(&format!("--give-up {typed}")).starts_with("--give-up is"));
    }
}

#[test]
fn timeout() {
    let ms = |ms| Some(Duration::from_millis(ms));
    assert_eq!(ok("--timeout 1.5").timeout, ms(1500));
    assert_eq!(ok("--timeout 0.001").timeout, ms(1));
    assert_eq!(ok("--timeout 4294967").timeout, ms(4_294_967_000));
    for typed in ["0.0009", "4294968"] {
        let expected = format!("--timeout is {typed}, but must be from 0.001 to 4_294_967");
        assert_eq!(error(&format!("--timeout {typed}")), expected);
    }
    assert!(error("--timeout 0").starts_with("--timeout is \"0\", not a number"));
}

#[test]
fn output_file() {
    assert_eq!(ok("-o out.tsv").output, Some("out.tsv".into()));
    assert_eq!(ok("--output=./-x").output, Some("./-x".into()));
    assert!(error("-o --quiet").contains("write ./--quiet"));
    assert!(error("-o -").contains("leave --output out"));
    assert_eq!(error("--output="), "--output needs the name of a file");
    assert_eq!(error("-o"), "-o needs its FILE");
}

#[test]
fn formats_and_details() {
    for (line, format, details) in [
        ("square", Format::Text, false),
        ("square --format text --details", Format::Text, true),
        ("square --format tsv", Format::Tsv, false),
        ("square --format=json --details", Format::Json, true),
    ] {
        let rows = Rows { format, details };
        let expected = Job::Square(Squares::new(10, 1000, rows));
        assert_eq!(ok(line).job, expected);
    }
    let rows = Rows {
        format: Format::Json,
        details: true,
    };
    let job = ok("--details primes 1 --format json 2").job;
    assert_eq!(job, Job::Primes(Primes::new(1, 2, rows)));
    assert_eq!(
        error("--format jsn"),
        "--format is \"jsn\", which is none of text, tsv, json; did you mean json?"
    );
}

#[test]
fn a_journal_and_how_it_is_kept() {
    assert_eq!(ok("square").journal, None);
    let mut journal = JournalOptions {
        path: "j".into(),
        resumes: false,
        sync_after: SYNC_DEFAULT,
    };
    assert_eq!(ok("--journal j").journal, Some(journal.clone()));
    journal.resumes = true;
    journal.sync_after = Duration::ZERO;
    let line = "--resume --sync-ms 0 --journal j";
    assert_eq!(ok(line).journal, Some(journal));
    for (line, reason) in [
        ("--resume", "--resume needs --journal FILE"),
        ("--sync-ms 5", "--sync-ms needs --journal FILE"),
        (
            "--journal j --sync-ms 60001",
            "--sync-ms is 60001, but must",
        ),
        (
            "--journal --resume",
            "write ./--resume, for none leave --journal out",
        ),
        ("--journal=", "--journal needs the name of a file"),
        ("--journal j -o j", "--output and --journal are both j"),
    ] {
        assert!(
            error(line).starts_with(reason) || error(line).ends_with(reason),
            "{line}"
        );
    }
}

#[test]
fn unordered_and_quiet() {
    assert!(ok("--unordered").unordered);
    assert!(ok("-q").quiet && ok("--quiet").quiet);
}

#[test]
fn watching() {
    assert_eq!(ok("--progress always").progress, When::Always);
    assert_eq!(ok("--progress never").progress, When::Never);
    assert_eq!(ok("--progress always -q").progress, When::Never);
    assert!(error("--progress evr").contains("did you mean never?"));
    for (typed, address) in [
        ("8080", "127.0.0.1:8080"),
        ("[::1]:0", "[::1]:0"),
        ("0.0.0.0:80", "0.0.0.0:80"),
    ] {
        let address = Some(address.parse().unwrap());
        assert_eq!(ok(&format!("--status {typed}")).status, address);
    }
    assert!(error("--status here").contains("neither a port nor ADDRESS:PORT"));
    assert_eq!(ok("--trace t.json").trace, Some("t.json".into()));
    assert_eq!(ok("--report r.json").report, Some("r.json".into()));
}

#[test]
fn payload_max() {
    assert_eq!(ok("--payload-max 64").payload_max_bytes, 64 << 20);
    for typed in ["0", "65", "1.5"] {
        assert!(error(&format!("--payload-max {typed}")).starts_with("--payload-max is"));
    }
}

#[test]
fn help_and_version() {
    for line in ["-h", "primes --help", "-V", "--version -w x:y"] {
        let early = HeadOptions::parse(split(line)).unwrap_err();
        assert!(matches!(early, Early::Answer(_)), "{line}");
    }
}

#[test]
fn the_help_of_map_fits_and_tells_its_own() {
    let help = flags::program(true).help();
    assert_fits_a_screen(&help);
    assert!(help.contains("--persistent") && !help.contains("--count"));
}

#[test]
fn help_fits_and_tells_the_limits() {
    let help = flags::program(false).help();
    assert_fits_a_screen(&help);
    let help = help.replace('\n', " ");
    for part in ["65_536 tasks", "16 MiB ahead", "64 MiB at most", "141 the"] {
        assert!(help.contains(part), "{part}");
    }
}

#[test]
fn a_check_takes_workers_and_their_key() {
    let options = ok("check -w a,b --key-file k");
    assert!(options.is_check);
    assert_eq!(options.key_file, Some("k".into()));
    for (line, reason) in [
        ("check", "check needs to know which: --workers"),
        (
            "check a:1",
            "check takes no arguments, and there is \"a:1\"",
        ),
        ("check -w a --local 2", "--local means nothing to check"),
        ("check -w a --count 5", "--count means nothing to check"),
        ("check -w a -c", "--compare means nothing to check"),
        ("check -w a,,b", "--workers: part 2"),
    ] {
        assert!(error(line).starts_with(reason), "{line}: {}", error(line));
    }
}
