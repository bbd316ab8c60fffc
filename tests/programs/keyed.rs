//! Keyed sessions between the real programs.
//!
//! What it is: what passes between them, recorded, and what becomes of it when it is sent again,
//! changed or cut short. What it is not: every place at which that can be done; those are tried without
//! sockets, beside the channel.
//!
//! Invariant: the key files are the tests' own, and gone afterwards.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Instant;

use crate::common::net::{Client, HELLO, serve};
use crate::common::{Process, Worker, head, squares, worker};
use teamster::channel::MESSAGE_BYTES;
use teamster::frame::{HEADER_BYTES, Side, keyed_opening, opening};
use teamster::limits::GREETING_TIMEOUT;
use tempfile::TempDir;

/// A folder with keys.
struct Keys(TempDir);

impl Keys {
    fn new() -> Keys {
        Keys(tempfile::tempdir().unwrap())
    }

    /// The file of a key that it makes.
    fn make(&self, name: &str) -> PathBuf {
        let path = self.0.path().join(name);
        let made = Process::start(&mut head(&format!("--keygen {}", path.display())));
        made.end().expect(0);
        path
    }
}

/// `command` with this key.
fn keyed(mut command: Command, key: &PathBuf) -> Command {
    command.arg("--key-file").arg(key);
    command
}

fn keyed_worker(key: &PathBuf) -> Worker {
    Worker::listening(&mut keyed(worker("-l 127.0.0.1:0 -s 1"), key))
}

/// What has passed through a relay, by direction.
#[derive(Clone, Default)]
struct Recording {
    from_head: Arc<Mutex<Vec<u8>>>,
    from_worker: Arc<Mutex<Vec<u8>>>,
}

impl Recording {
    /// A relay to `worker` that records.
    fn of(worker: &str) -> (String, Recording) {
        let recording = Recording::default();
        let (ours, worker) = (recording.clone(), worker.to_owned());
        let address = serve(move |head| {
            let worker = TcpStream::connect(&worker).unwrap();
            let (to, from) = (worker.try_clone().unwrap(), head.try_clone().unwrap());
            let record = Arc::clone(&ours.from_head);
            thread::spawn(move || copy(from, to, &record));
            copy(worker, head, &ours.from_worker);
        });
        (address.to_string(), recording)
    }

    fn bytes(&self) -> [Vec<u8>; 2] {
        [&self.from_head, &self.from_worker].map(|bytes| bytes.lock().unwrap().clone())
    }
}

fn copy(mut from: TcpStream, mut to: TcpStream, record: &Mutex<Vec<u8>>) {
    let mut buffer = [0; 64 << 10];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        record.lock().unwrap().extend_from_slice(&buffer[..count]);
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack
        .windows(needle.len())
        .any(|window| window == needle)
}

/// A run of the job over a recording relay.
fn recorded(worker: &Worker, head: impl Fn(&str) -> Command) -> [Vec<u8>; 2] {
    let (relay, recording) = Recording::of(&worker.address);
    let args = format!("-w {relay} square --count 1000 --work-ms 0");
    let ended = Process::start(&mut head(&args)).end().expect(0);
    assert_eq!(ended.text(), squares(1000));
    recording.bytes()
}

#[test]
fn a_recording_shows_neither_inputs_nor_outputs() {
    let keys = Keys::new();
    let key = keys.make("key");
    let recordings = [
        recorded(&Worker::start(1), head),
        recorded(&keyed_worker(&key), |args| keyed(head(args), &key)),
    ];
    for (number, [from_head, from_worker]) in recordings.iter().enumerate() {
        // Without a key they are all there, so the search is no vain one.
        let is_plain = number == 0;
        assert_eq!(contains(from_head, b"square"), is_plain);
        for n in [999_u64, 998, 700] {
            let (input, output) = (n.to_be_bytes(), (n * n).to_be_bytes());
            assert_eq!(contains(from_head, &input), is_plain, "{n}");
            assert_eq!(contains(from_worker, &output), is_plain, "{n}");
        }
    }
}

#[test]
fn a_recording_sent_again_is_answered_and_then_closed() {
    let keys = Keys::new();
    let key = keys.make("key");
    let worker = keyed_worker(&key);
    let [from_head, _] = recorded(&worker, |args| keyed(head(args), &key));
    let served = worker.process.err.count("sends tasks");
    assert_eq!(served, 1);
    let mut client = Client::connect(&worker.address);
    let (first, rest) = from_head.split_at(HEADER_BYTES + MESSAGE_BYTES);
    client.send(first);
    let mut answer = [0; HEADER_BYTES + MESSAGE_BYTES];
    client.0.read_exact(&mut answer).unwrap();
    assert_eq!(answer[..HEADER_BYTES], keyed_opening(Side::Worker));
    client.send(rest);
    assert!(client.until_closed().is_empty(), "no session");
    worker.says("was not sealed by it");
    assert_eq!(worker.process.err.count("sends tasks"), served);
}

/// A relay to `worker` that changes a byte of what the head sends on each connection.
fn changing(worker: &str, at: usize) -> SocketAddr {
    let address = worker.to_owned();
    serve(move |mut head| {
        let mut worker = TcpStream::connect(&address).unwrap();
        let (mut to, mut from) = (head.try_clone().unwrap(), worker.try_clone().unwrap());
        thread::spawn(move || {
            let _ = std::io::copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Both);
        });
        let (mut buffer, mut passed) = ([0; 64 << 10], 0);
        while let Ok(count @ 1..) = head.read(&mut buffer) {
            if (passed..passed + count).contains(&at) {
                buffer[at - passed] ^= 0x10;
            }
            passed += count;
            let _ = worker.write_all(&buffer[..count]);
        }
        let _ = worker.shutdown(Shutdown::Write);
    })
}

#[test]
fn a_changed_byte_lets_nothing_run() {
    let keys = Keys::new();
    let key = keys.make("key");
    let worker = keyed_worker(&key);
    // In the opening, the message, a record's length, the greeting, the job, a task.
    thread::scope(|scope| {
        for at in [5, 30, 57, 70, 130, 180] {
            let relay = changing(&worker.address, at);
            let args = format!("-w {relay} --give-up 1 square --count 10 --work-ms 0");
            let mut command = keyed(head(&args), &key);
            scope.spawn(move || {
                let ended = Process::start(&mut command).end();
                let end = (ended.code, ended.text());
                assert_eq!(end, (Some(3), ""), "byte {at}: {:?}", ended.err);
            });
        }
    });
}

#[test]
fn the_wrong_key_and_random_bytes_get_the_same_answer() {
    let keys = Keys::new();
    let (right, wrong) = (keys.make("right"), keys.make("wrong"));
    let worker = keyed_worker(&right);
    let mut random = keyed_opening(Side::Head).to_vec();
    random.extend((0..500).map(|i| (i * 7 + i / 256) as u8));
    let mut client = Client::connect(&worker.address);
    client.send(&random);
    assert_eq!(client.until_closed(), keyed_opening(Side::Worker));
    let begun = Instant::now();
    let args = format!("-w {} square --count 10", worker.address);
    let ended = Process::start(&mut keyed(head(&args), &wrong)).end();
    let ended = ended.expect(3);
    ended.says("does not have the key of this side");
    assert!(begun.elapsed() < GREETING_TIMEOUT, "nothing will change");
    assert_eq!(ended.text(), "");
    worker.says("does not have the key of this side");
}

#[test]
fn who_says_nothing_after_the_opening_is_closed_in_time() {
    let keys = Keys::new();
    let worker = keyed_worker(&keys.make("key"));
    let begun = Instant::now();
    let clients: Vec<Client> = [&b""[..], &keyed_opening(Side::Head)]
        .iter()
        .map(|bytes| {
            let mut client = Client::connect(&worker.address);
            client.send(bytes);
            client
        })
        .collect();
    for client in clients {
        assert_eq!(client.until_closed(), keyed_opening(Side::Worker));
    }
    assert!(begun.elapsed() >= GREETING_TIMEOUT);
    worker.process.err.wait_for_nth("no greeting within", 2);
    let mut client = Client::connect(&worker.address);
    client.send(&opening(Side::Head));
    assert_eq!(client.until_closed(), keyed_opening(Side::Worker));
}

#[test]
fn workers_inside_a_head_have_a_key_that_nobody_else_has() {
    let mut command = head("--local 1 square --count 1000000 --work-ms 5");
    let head = Process::start(command.env("RUST_LOG", "info"));
    let line = head.err.wait_for(" is up: 1 slot,");
    let address = line
        .split_whitespace()
        .find(|word| word.contains("127.0.0.1:"));
    let mut stranger = Client::opened(address.expect("whose"));
    stranger.frame(HELLO);
    assert_eq!(stranger.until_closed(), keyed_opening(Side::Worker));
}
