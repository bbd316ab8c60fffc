//! The status page of a running head, over real sockets.
//!
//! What it is: what browsers, Prometheus and scanners get, and that none of it harms the run. What it
//! is not: the wording of responses, which is tested where they are made.
//!
//! Invariant: the run beside it ends as if nobody had looked.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::common::{PATIENCE, Run, Worker, squares, until};
use teamster::limits::{STATUS_TIMEOUT, STATUS_VISITORS_MAX};

/// A head that goes on until it is interrupted, and where its page is.
fn watched(args: &str) -> (Run, String) {
    let run = Run::start(&format!("--status 0 {args}"));
    let line = run.process.err.wait_for("Status page: ");
    let address = line.strip_prefix("Status page: http://").unwrap();
    let address = address.strip_suffix('/').unwrap().to_owned();
    (run, address)
}

fn connect(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// The body of a page, and that the connection ends after it.
#[track_caller]
fn get(address: &str, path: &str) -> String {
    let mut stream = connect(address);
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n").unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    assert!(response.starts_with("HTTP/1.1 200 OK\r\n"), "{response}");
    response.split_once("\r\n\r\n").unwrap().1.to_owned()
}

/// The number behind the first `"name":`.
#[track_caller]
fn number(json: &str, name: &str) -> f64 {
    let (_, rest) = json.split_once(&format!("\"{name}\":")).expect(name);
    let end = rest.find([',', '}']).unwrap();
    rest[..end].parse().expect(name)
}

/// Whether the other side ends within `limit`.
fn ends_within(stream: &mut TcpStream, limit: Duration) -> bool {
    let start = Instant::now();
    stream.set_read_timeout(Some(limit)).unwrap();
    loop {
        match stream.read(&mut [0; 4096]) {
            Ok(0) => return true,
            Ok(_) if start.elapsed() < limit => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return true,
            _ => return false,
        }
    }
}

#[test]
fn page_figures_and_report_agree() {
    let folder = tempfile::tempdir().unwrap();
    let report = folder.path().join("report.json");
    let worker = Worker::start(2);
    let args = format!("-w {} --report {}", worker.address, report.display());
    let (run, address) = watched(&format!("{args} square --count 100000 --work-ms 20"));
    until("some tasks are done", || {
        number(&get(&address, "/status.json"), "done") >= 4.0
    });
    assert!(get(&address, "/").contains("page.js"));
    let json = get(&address, "/status.json");
    assert!(json.starts_with("{\"version\":1,\"job\":\"square --count 100000"));
    assert_eq!(number(&json, "total"), 100_000.0);
    assert_eq!(
        (number(&json, "workers_up"), number(&json, "slots")),
        (1.0, 2.0)
    );
    assert!(json.contains(&format!("\"name\":\"{}\",\"state\":\"up\"", worker.address)));
    let metrics = get(&address, "/metrics");
    check_metrics(&metrics);
    assert!(metrics.contains(&format!(
        "teamster_worker_up{{worker=\"{}\"}} 1\n",
        worker.address
    )));
    run.process.signal("INT");
    let ended = run.end().expect(130);
    let report = std::fs::read_to_string(report).unwrap();
    assert!(
        report.contains("\"state\":\"interrupted\",\"exit_code\":130,"),
        "{report}"
    );
    let done = number(&report, "done");
    assert!(done >= number(&json, "done"));
    assert_eq!(ended.done_by(&worker.address) as f64, done);
    ended.says(&format!("{done} tasks done, 0 failed, "));
}

/// As Prometheus' own checker sees it, where that is installed.
fn check_metrics(metrics: &str) {
    let mut command = Command::new("promtool");
    command.args(["check", "metrics"]);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let Ok(mut promtool) = command.spawn() else {
        return;
    };
    promtool
        .stdin
        .take()
        .unwrap()
        .write_all(metrics.as_bytes())
        .unwrap();
    let output = promtool.wait_with_output().unwrap();
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{output:?}"
    );
}

#[test]
fn scanners_and_slow_readers_harm_nothing() {
    let (run, address) = watched("--local 1 square --count 300 --work-ms 20");
    let start = Instant::now();
    // A silent one, one that dribbles, one that does not read, and garbage.
    let mut silent = connect(&address);
    let mut dribbler = connect(&address);
    dribbler.write_all(b"GET / HT").unwrap();
    let mut deaf = connect(&address);
    let request = format!("GET /page.js HTTP/1.1\r\nHost: {address}\r\n\r\n");
    deaf.write_all(request.as_bytes()).unwrap();
    for garbage in [
        &b"TM\r\n\0\x03h\0"[..],
        b"\x16\x03\x01\x02\0\x01\0",
        &[0xff; 9000],
    ] {
        let mut stream = connect(&address);
        // It may be closed before all is sent.
        let _ = stream.write_all(garbage);
        assert!(ends_within(&mut stream, STATUS_TIMEOUT * 2));
    }
    get(&address, "/status.json");
    for stream in [&mut silent, &mut dribbler] {
        assert!(ends_within(stream, STATUS_TIMEOUT * 2));
    }
    // More than there is room for: the newest are served all the same.
    let crowd: Vec<TcpStream> = (0..3 * STATUS_VISITORS_MAX)
        .map(|_| connect(&address))
        .collect();
    get(&address, "/metrics");
    drop(crowd);
    assert!(
        start.elapsed() < STATUS_TIMEOUT * 2,
        "they are dismissed in time"
    );
    let ended = run.end().expect(0);
    assert_eq!(ended.text(), squares(300));
}

#[test]
fn a_page_that_cannot_be_served_ends_the_run_before_it_begins() {
    let (_run, address) = watched("--local 1 square --count 100000 --work-ms 20");
    let ended = crate::common::run_head(&format!("--status {address} --local 1 square")).expect(5);
    ended.says("cannot serve the status page on");
    ended.says("choose another port with --status");
    let missing = Path::new("/nonexistent/r.json").display().to_string();
    crate::common::run_head(&format!("--report {missing} --local 1 square"))
        .expect(5)
        .says(&missing);
}
