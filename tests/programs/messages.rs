//! What a user reads when a run does not go well.
//!
//! What it is: the lines on standard error, from outside. What it is not: exit codes and results alone;
//! those are in `cli.rs` and `output.rs`.
//!
//! Invariant: a message is true, is one line, and says nothing in a peer's place.

use std::io::Write;

use crate::common::net::serve;
use crate::common::run_head;
use teamster::frame::{Frame, Refusal, Side, opening};

#[test]
fn a_run_without_workers_is_incomplete_and_not_different() {
    let ended = run_head("-w 127.77.4.1:9 --give-up 0.3 --compare square --work-ms 0").expect(3);
    ended.says("Results: incomplete");
    let is_time = |line: &String| line.starts_with("Distributed") || line.starts_with("Speed-up");
    assert!(!ended.err.iter().any(is_time), "{:?}", ended.err);
}

#[test]
fn a_peer_s_words_stay_within_their_line() {
    let worker = serve(|mut stream| {
        let mut bytes = opening(Side::Worker).to_vec();
        let refuse = Frame::Refuse {
            refusal: Refusal::Job,
            reason: "no\nhead: all is well\x1b[2J",
        };
        refuse.encode(&mut bytes);
        stream.write_all(&bytes).unwrap();
    });
    let ended = run_head(&format!("-w {worker} square --count 1")).expect(3);
    ended.says("it refused: no\\nhead: all is well\\u{1b}[2J");
}
