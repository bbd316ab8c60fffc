//! `head check` against workers that are well, and against everything that is not.
//!
//! What it is: the whole text that a user reads, for each set-up that can be broken on loopback. What it
//! is not: the role one event at a time; that is beside its source.
//!
//! Invariant: figures that differ from run to run are replaced, the words are not.

mod common;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::net::{Client, free_port, serve};
use common::{Ended, Process, Worker, head, run_head, worker, worker_thread};
use teamster::channel::IS_AVAILABLE;
use teamster::frame::{Frame, Refusal, Side, opening};
use teamster::kernel::Kernels;
use teamster::limits::CONNECTIONS_MAX;
use tempfile::TempDir;

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
    let said = said.replace(&format!("is {port} "), "is PORT ");
    assert_eq!(said, format!("head: error: worker HOST:PORT: {reason}"));
}

/// A folder with a key file of each name.
fn keys(names: &[&str]) -> (TempDir, Vec<PathBuf>) {
    let folder = tempfile::tempdir().unwrap();
    let make = |name: &&str| {
        let path = folder.path().join(name);
        let made = head(&format!("--keygen {}", path.display()));
        Process::start(&mut { made }).end().expect(0);
        path
    };
    let paths = names.iter().map(make).collect();
    (folder, paths)
}

fn keyed_worker(key: &Path) -> Worker {
    let args = format!("-l 127.0.0.1:0 -s 1 --key-file {}", key.display());
    Worker::listening(&mut worker(&args))
}

/// A peer that says `bytes` first.
fn peer(bytes: &'static [u8]) -> String {
    let serve = serve(move |mut stream| {
        let _ = stream.write_all(bytes);
        let _ = stream.read_to_end(&mut Vec::new());
    });
    serve.to_string()
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
fn a_key_is_told_and_a_missing_or_wrong_one_as_well() {
    if !IS_AVAILABLE {
        return;
    }
    let (_folder, keys) = keys(&["one", "other"]);
    let (with, without) = (keyed_worker(&keys[0]), Worker::start(1));
    let checked = |worker: &Worker, key: &Path| {
        run_head(&format!(
            "check -w {} --key-file {}",
            worker.address,
            key.display()
        ))
    };
    let ended = checked(&with, &keys[0]).expect(0);
    let expected = format!("worker HOST:PORT: {}\n", FINE.replace("no key", "key"));
    assert_eq!(steady(ended.text(), &with.address), expected);
    checked(&with, &keys[1]).expect(3).says(&format!(
        "error: worker {}: it does not have the key of this side; copy the key file of one to the other",
        with.address
    ));
    checked(&without, &keys[0]).expect(3).says(&format!(
        "error: worker {}: this side has a key and it has none; give it the same by --key-file FILE",
        without.address
    ));
    assert_defect(
        &with.address,
        "it has a key and this side has none; give this side the same by --key-file FILE",
    );
}

#[test]
fn nobody_listens() {
    let cure = "are name and port right, and does a worker run there that listens for other machines \
                (worker --listen)?";
    assert_defect(
        &free_port("127.77.12.2").to_string(),
        &format!("connection refused: nothing listens there; {cure}"),
    );
    let ended = check(&["no-such-name.invalid:5000"]).expect(3);
    ended.says("worker no-such-name.invalid:5000: no address is known for the name");
    ended.says(cure);
}

#[test]
fn something_else_listens() {
    assert_defect(
        &peer(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
        "it is another program, not Teamster; is PORT the port of the worker?",
    );
    assert_defect(
        &peer(b"TM\r\n\x00\x63w\x00"),
        "it speaks protocol version 99, this side version 3; install the same release on both",
    );
    let closing: SocketAddr = serve(|mut stream| drop(stream.read(&mut [0; 64])));
    assert_defect(
        &closing.to_string(),
        "closed by the other side before it greeted; is it a worker, and does its --allow include \
         this machine?",
    );
}

#[test]
fn a_worker_is_full() {
    let worker = Worker::start(1);
    let heads: Vec<Client> = (0..CONNECTIONS_MAX)
        .map(|_| Client::greeted(&worker.address))
        .collect();
    assert_defect(
        &worker.address,
        "it refused: it serves 64 connections already; check again later",
    );
    drop(heads);
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
        "it refused: no\\nhead: all is well\\u{1b}[2J; check again later",
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
