//! Heads that are sent to something that is no worker.
//!
//! What it is: each kind of wrong address, the message it gets and how soon the head ends. What it is
//! not: hostile; these peers do what they always do.
//!
//! Invariant: what will not become right by itself ends the run at once; for the rest the head waits
//! as long as `--give-up` says, and not for ever.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::common::net::{free_port, serve};
use crate::common::{Ended, Worker, run_head, squares};
use socket2::{Domain, Socket, Type};
use teamster::frame::{Side, opening};

/// Below this a head ended at once: long before `--give-up`, which is 60 s there.
const AT_ONCE: Duration = Duration::from_secs(30);

/// Runs a head against `address` alone, which is of no use at all.
#[track_caller]
fn ends_at_once(address: SocketAddr, reason: &str) {
    let start = Instant::now();
    let ended = run_head(&format!("-w {address} square --count 3")).expect(3);
    assert!(start.elapsed() < AT_ONCE, "it waited");
    ended.says(&format!(
        "head: error: worker {address} cannot be used: {reason}"
    ));
    ended.says("head: error: no worker can be used");
    assert_eq!(ended.text(), "");
}

/// Runs a head that gives `address` up after so many seconds.
fn gives_up(address: SocketAddr, seconds: u32) -> Ended {
    let ended = run_head(&format!(
        "-w {address} --give-up {seconds} square --count 3"
    ))
    .expect(3);
    ended.says(&format!("no worker could be used for {seconds} s"));
    ended.says("giving up");
    ended
}

/// Reads what comes until the other side closes, so that nothing is lost to a reset.
fn drain(mut stream: &TcpStream) {
    let _ = stream.shutdown(Shutdown::Write);
    let _ = stream.read_to_end(&mut Vec::new());
}

#[test]
fn nothing_listens() {
    let address = free_port("127.77.1.1");
    let ended = gives_up(address, 1);
    ended.says(&format!(
        "worker {address} cannot be used yet: connection refused: nothing listens there; it is \
         tried again"
    ));
}

#[test]
fn a_host_that_does_not_answer() {
    // A listener whose queue is full drops further SYNs, as a host that is switched off does.
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket
        .bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into())
        .unwrap();
    socket.listen(0).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let wait = Duration::from_millis(200);
    let connect = || TcpStream::connect_timeout(&address, wait);
    let queued: Vec<TcpStream> = std::iter::from_fn(|| connect().ok()).collect();
    let ended = gives_up(address, 11);
    ended.says(&format!(
        "worker {address} cannot be used yet: no answer to connect within 10 s; it is tried again"
    ));
    drop(queued);
}

#[test]
fn a_peer_that_accepts_and_never_greets() {
    let address = serve(|mut stream| drop(stream.read_to_end(&mut Vec::new())));
    let ended = gives_up(address, 6);
    ended.says(&format!(
        "worker {address} cannot be used yet: no greeting within 5 s; it is tried again"
    ));
}

#[test]
fn a_peer_that_closes_at_once() {
    let ended = gives_up(serve(drop), 1);
    ended.says(" cannot be used yet: ");
}

#[test]
fn a_web_server() {
    let address = serve(|mut stream| {
        let mut line = Vec::new();
        let mut byte = [0];
        while !line.ends_with(b"\r\n") && stream.read_exact(&mut byte).is_ok() {
            line.extend(byte);
        }
        assert!(!line.starts_with(b"GET"), "no web client");
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n");
        drain(&stream);
    });
    ends_at_once(address, "it is another program, not Teamster");
}

#[test]
fn an_ssh_server() {
    let address = serve(|mut stream| {
        let _ = stream.write_all(b"SSH-2.0-OpenSSH_9.2p1\r\n");
        drain(&stream);
    });
    ends_at_once(address, "it is another program, not Teamster");
}

/// A peer that sends 8 bytes and reads.
fn opens_with(bytes: [u8; 8]) -> SocketAddr {
    serve(move |mut stream| {
        let _ = stream.write_all(&bytes);
        drain(&stream);
    })
}

#[test]
fn openings_that_do_not_fit() {
    ends_at_once(
        opens_with(*b"TM\r\n\0\x04w\0"),
        "it speaks protocol version 4, this side version 3; install the same release on both",
    );
    ends_at_once(
        opens_with(*b"TM\r\n\0\x03w\x01"),
        "it has a key and this side has none",
    );
    ends_at_once(
        opens_with(opening(Side::Head)),
        "it plays the same role as this side",
    );
}

#[test]
fn a_worker_that_takes_smaller_payloads() {
    let worker = Worker::start(1);
    let ended = run_head(&format!("-w {} --payload-max 2 square", worker.address)).expect(3);
    ended.says("it takes payloads of 1048576 bytes, this run may need 2097152");
}

#[test]
fn one_stranger_among_workers_does_not_hold_up_the_run() {
    let worker = Worker::start(1);
    let stranger = opens_with(*b"220 mail");
    let args = format!(
        "-w {stranger},{} square --count 20 --work-ms 1",
        worker.address
    );
    let ended = run_head(&args).expect(0);
    assert_eq!(ended.text(), squares(20));
    ended.says(&format!(
        "worker {stranger} cannot be used: it is another program"
    ));
    assert_eq!(ended.done_by(&worker.address), 20);
}
