//! What requests are answered, byte by byte.
//!
//! What it is: good requests and bad ones. What it is not: sockets; `tests/programs/status.rs` has
//! those.
//!
//! Invariant: a request that is refused is never looked up.

use super::*;
use crate::overview::tests::overview;

/// Status line, headers and body.
#[track_caller]
fn get(request: &str) -> (String, String, String) {
    let response = answer(request.as_bytes(), overview).expect("it is complete");
    let response = String::from_utf8(response).unwrap();
    let (head, body) = response.split_once("\r\n\r\n").unwrap();
    let (status, headers) = head.split_once("\r\n").unwrap();
    let length = format!("Content-Length: {}\r\n", body.len());
    assert!(body.is_empty() || headers.contains(&length), "{headers}");
    let status = status.strip_prefix("HTTP/1.1 ").unwrap().to_owned();
    (status, headers.to_owned(), body.to_owned())
}

fn page(path: &str) -> (String, String, String) {
    get(&format!(
        "GET {path} HTTP/1.1\r\nHost: localhost:8080\r\n\r\n"
    ))
}

#[test]
fn every_page_is_what_it_says() {
    for (path, content_type, part) in [
        ("/", "text/html", "<script src=\"page.js\"></script>"),
        ("/?a=b", "text/html", "page.css"),
        ("/page.js", "text/javascript", "fetch(\"status.json\""),
        ("/page.css", "text/css", "prefers-color-scheme: dark"),
        ("/status.json", "application/json", "\"done\":300,"),
        (
            "/metrics",
            "text/plain; version=0.0.4",
            "\nteamster_tasks_done_total 300\n",
        ),
    ] {
        let (status, headers, body) = page(path);
        assert_eq!(status, "200 OK");
        let content_type = format!("Content-Type: {content_type}; charset=utf-8\r\n");
        assert!(headers.starts_with(&content_type), "{headers}");
        assert!(headers.contains("Cache-Control: no-store\r\n"));
        assert!(headers.contains("default-src 'none'"));
        assert!(
            !headers.contains("Access-Control"),
            "other pages read nothing"
        );
        assert!(body.contains(part), "{body}");
    }
}

#[test]
fn the_page_loads_nothing_from_elsewhere_and_writes_no_markup() {
    let files = ["/", "/page.js", "/page.css"].map(|path| page(path).2);
    for file in &files {
        for word in [
            "http:",
            "https:",
            "//www",
            "innerHTML",
            "outerHTML",
            "eval",
            "style=",
        ] {
            let is_comment = |line: &&str| !line.trim_start().starts_with("//");
            let found = file
                .lines()
                .filter(is_comment)
                .any(|line| line.contains(word));
            assert!(!found, "{word}");
        }
    }
}

#[test]
fn head_has_no_body() {
    let (status, headers, body) = get("HEAD /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
    assert_eq!((&status[..], &body[..]), ("200 OK", ""));
    let (_, full, _) = page("/metrics");
    assert_eq!(headers, full, "but for that it is the same");
}

#[test]
fn refusals_say_why_and_look_nothing_up() {
    let long = format!(
        "GET / HTTP/1.1\r\nX: {}",
        "x".repeat(STATUS_REQUEST_BYTES_MAX)
    );
    let many = format!(
        "GET / HTTP/1.1\r\n{}\r\n",
        "A: b\r\n".repeat(HEADERS_MAX + 1)
    );
    for (request, status) in [
        (
            "GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n",
            "404 Not Found",
        ),
        (
            "GET /../page.js HTTP/1.1\r\nHost: localhost\r\n\r\n",
            "404 Not Found",
        ),
        (
            "GET http://localhost/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
            "404 Not Found",
        ),
        (
            "POST / HTTP/1.1\r\nHost: localhost\r\n\r\n",
            "405 Method Not Allowed",
        ),
        (
            "GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n",
            "403 Forbidden",
        ),
        ("GET /metrics HTTP/1.1\r\n\r\n", "403 Forbidden"),
        (
            "GET / HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n",
            "403 Forbidden",
        ),
        ("GET / HTTP/1.1\r\nHost: \u{e9}\r\n\r\n", "403 Forbidden"),
        ("TM\r\n\0\u{3}h\0", "400 Bad Request"),
        ("\u{16}\u{3}\u{1}\u{2}", "400 Bad Request"),
        (&long, "431 Request Header Fields Too Large"),
        (&many, "431 Request Header Fields Too Large"),
    ] {
        let look = || panic!("nothing is looked up");
        let response = answer(request.as_bytes(), look).expect("it is complete");
        let start = format!("HTTP/1.1 {status}\r\nContent-Type: text/plain");
        assert!(response.starts_with(start.as_bytes()), "{request}");
    }
}

#[test]
fn a_request_is_awaited_byte_by_byte() {
    let request = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    for end in 0..request.len() {
        assert_eq!(answer(&request[..end], overview), None, "{end}");
    }
    assert!(answer(request, overview).is_some());
}

#[test]
fn metrics_escape_names_and_count_what_the_report_does() {
    let text = metrics::text(&overview());
    for line in [
        "teamster_elapsed_seconds 6.300",
        "teamster_tasks_open{place=\"ready\"} 2",
        "teamster_worker_up{worker=\"b\\\"\\\\<b>:2\"} 0",
        "teamster_worker_attempts_total{worker=\"a:1\",outcome=\"failed\"} 4",
        "teamster_worker_silence_seconds{worker=\"a:1\"} 0.020",
        "teamster_worker_cpu_seconds_total{worker=\"a:1\"} 9.400",
        "teamster_head_cpu_seconds_total 0.310",
        "teamster_workers{state=\"throttled\"} 0",
        "teamster_workers{state=\"unreachable\"} 1",
    ] {
        assert!(text.lines().any(|other| other == line), "{line} in\n{text}");
    }
    let mut names: Vec<&str> = Vec::new();
    for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let name = line.split(' ').next().unwrap();
        assert!(!names.contains(&name), "{name} stands together");
        names.push(name);
    }
}
