//! `head check` against workers that are well, and against everything that is not.
//!
//! What it is: the whole text that a user reads, for what can be wrong on loopback. What it is not: the
//! set-ups that a plain run meets as well (`golden.rs`), or the role one event at a time; that is beside
//! its source.
//!
//! Invariant: figures that differ from run to run are replaced, the words are not.

use std::io::Read;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::common::net::{free_port, peer, serve};
use crate::common::{Ended, Process, Worker, head, keyed_worker, keys, run_head, worker_thread};
use teamster::channel::IS_AVAILABLE;
use teamster::frame::{Frame, Refusal, Side, opening};
use teamster::kernel::Kernels;

const FINE: &str = "release 0.1.0, no key, 1 slot, credit 4096 tasks and 16 MiB, round trip N ms, \
                    N/s tasks of square";

fn check(workers: &[&str]) -> Ended {
    run_head(&format!("check -w {}", workers.join(",")))
}

/// Standard output without addresses and measurements.
fn steady(text: &str, address: &str) -> String {
    let text = text.replace(address, "HOST:PORT");
    let (before, rest) = text.split_once("round trip ").unwrap_or((&text, ""));
    let mut steady = before.to_owned();
    if !rest.is_empty() {
        let (_, rest) = rest.split_once(" ms, ").unwrap();
        let (_, rest) = rest.split_once("/s ").unwrap();
        steady.push_str(&format!("round trip N ms, N/s {rest}"));
    }
    steady
}

/// What is said of the one worker at `address`, and nothing beside it.
#[track_caller]
fn assert_defect(address: &str, reason: &str) {
    let ended = check(&[address]).expect(3);
    assert_eq!(ended.text(), "");
    let port = address.rsplit(':').next().unwrap();
    let said = ended.err.join("\n").replace(address, "HOST:PORT");
    let said = said.replace(&format!("port {port}"), "port PORT");
    assert_eq!(said, format!("head: error: worker HOST:PORT: {reason}"));
}

#[test]
fn a_worker_that_is_well_has_its_figures() {
    let worker = Worker::start(1);
    let ended = check(&[&worker.address]).expect(0);
    let expected = format!("worker HOST:PORT: {FINE}\n");
    assert_eq!(steady(ended.text(), &worker.address), expected);
    assert_eq!(ended.err, [""; 0]);
    worker.says("is gone (closed by the other side)");
    let warnings = worker.process.err.count("warning");
    assert_eq!(warnings, 0, "no head was lost, and no task of its");
}

#[test]
fn some_that_cannot_be_used_are_told_from_all() {
    let (worker, port) = (Worker::start(1), free_port("127.77.12.1").to_string());
    let ended = check(&[&port, &worker.address]).expect(1);
    let expected = format!("worker HOST:PORT: {FINE}\n");
    assert_eq!(steady(ended.text(), &worker.address), expected);
    ended.says(&format!("worker {port}: connection refused"));
}

#[test]
fn a_key_is_told() {
    if !IS_AVAILABLE {
        return;
    }
    let (_folder, keys) = keys(&["key"]);
    let worker = keyed_worker(&keys[0]);
    let args = format!(
        "check -w {} --key-file {}",
        worker.address,
        keys[0].display()
    );
    let ended = run_head(&args).expect(0);
    let expected = format!("worker HOST:PORT: {}\n", FINE.replace("no key", "key"));
    assert_eq!(steady(ended.text(), &worker.address), expected);
}

#[test]
fn a_name_without_an_address() {
    let ended = check(&["no-such-name.invalid:5000"]).expect(3);
    ended.says("worker no-such-name.invalid:5000: no address is known for the name");
    ended.says(
        "; are name and port right, and does a worker run there that listens for other machines \
         (worker --listen)?",
    );
}

#[test]
fn one_that_closes_before_it_greets() {
    let closing: SocketAddr = serve(|mut stream| drop(stream.read(&mut [0; 64])));
    assert_defect(
        &closing.to_string(),
        "closed by the other side before it greeted; is it a worker, and does its --allow include \
         this machine?",
    );
}

#[test]
fn a_worker_has_other_kernels() {
    let kernels = Kernels::new().with_fn("reverse", |input| Ok(input.to_vec()));
    assert_defect(
        &worker_thread(kernels, 1 << 20).to_string(),
        "it refused: no kernel \"square\" here, only reverse; start the worker of this release \
         there, if it is not meant for other jobs",
    );
}

#[test]
fn a_worker_fails_what_it_is_given() {
    let kernels = Kernels::new().with("square", |_| {
        Ok(Arc::new(|_: &[u8]| Err("out of order".into())))
    });
    assert_defect(
        &worker_thread(kernels, 1 << 20).to_string(),
        "it fails empty tasks of square: out of order; see what it says on its machine",
    );
}

#[test]
fn a_worker_s_words_stay_within_their_line() {
    let refuse = Frame::Refuse {
        refusal: Refusal::Busy,
        reason: "no\nhead: all is well\x1b[2J",
    };
    let mut bytes = opening(Side::Worker).to_vec();
    refuse.encode(&mut bytes);
    assert_defect(
        &peer(bytes.leak()),
        "it refused: no\\nhead: all is well\\u{1b}[2J; try again later, or use another worker",
    );
}

/// All at once: those that are silent take no longer than one, and the one that answers is measured.
#[test]
fn silence_ends_in_time() {
    let (worker, mute) = (Worker::start(1), peer(b""));
    // Its queue is full, so it does not even connect.
    let full = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    full.bind(&any.into()).unwrap();
    full.listen(0).unwrap();
    let unreached = full.local_addr().unwrap().as_socket().unwrap();
    let _filler = std::net::TcpStream::connect(unreached).unwrap();
    let begun = Instant::now();
    let ended = check(&[&mute, &worker.address, &unreached.to_string()]).expect(1);
    let elapsed = begun.elapsed();
    assert!(elapsed < Duration::from_secs(9), "{elapsed:?}");
    let expected = format!("worker HOST:PORT: {FINE}\n");
    assert_eq!(steady(ended.text(), &worker.address), expected);
    let port = unreached.port();
    ended.says(&format!(
        "worker {unreached}: no answer within 5 s: is the machine up, does a firewall let port {port} \
         through?"
    ));
    ended.says(&format!(
        "worker {mute}: it took the connection, but no greeting came within 5 s: is it a worker that \
         listens on port"
    ));
}

#[test]
fn ctrl_c_ends_it() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let process = Process::start(&mut head(&format!("check -w {address}")));
    let _stream = listener.accept().unwrap();
    process.signal("INT");
    let ended = process.end().expect(130);
    assert_eq!((ended.text(), &ended.err[..]), ("", &[][..]));
}
