//! What a newcomer reads when a set-up is broken.
//!
//! What it is: set-ups that cannot work, each met by a plain run and by `head check`; the whole of
//! standard error and the exit code are in `tests/golden`. What it is not: what is said of set-ups
//! that work, or the roles' choice of words one event at a time.
//!
//! `UPDATE_GOLDEN=1 cargo test --test programs golden::` writes the files anew. Then read them: does
//! each say who, what, and what to do next?
//!
//! Invariant: addresses, measured times and sizes are replaced, the words are not.

use std::any::Any;
use std::env;
use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::thread;

use crate::common::net::{Client, free_port, peer, serve};
use crate::common::{PATIENCE, Worker, keyed_worker, keys, run_head};
use teamster::channel::IS_AVAILABLE;
use teamster::frame::{Decoder, Frame, Side, opening};
use teamster::limits::CONNECTIONS_MAX;

/// Every set-up, as its two files are called.
const NAMES: [&str; 9] = [
    "all-lost",
    "key-only-here",
    "key-only-there",
    "no-free-slot",
    "no-listener",
    "other-program",
    "other-version",
    "wrong-key",
    "wrong-port",
];

/// What a head is told of, and what has to live as long as it runs.
struct Broken {
    addresses: Vec<String>,
    flags: String,
    give_up_s: u32,
    _alive: Box<dyn Any>,
}

impl Broken {
    fn at(address: impl ToString) -> Broken {
        Broken {
            addresses: vec![address.to_string()],
            flags: String::new(),
            // More than it takes until nothing is left to wait for.
            give_up_s: 30,
            _alive: Box::new(()),
        }
    }

    fn with_key(mut self, key: &Path) -> Broken {
        self.flags = format!(" --key-file {}", key.display());
        self
    }

    /// Of one that a run goes on to dial.
    fn given_up(mut self) -> Broken {
        self.give_up_s = 2;
        self
    }

    fn alive(mut self, what: impl Any) -> Broken {
        self._alive = Box::new(what);
        self
    }

    /// What `args` make of it, as the golden file has it.
    fn met_by(&self, before: &str, after: &str) -> String {
        let workers = self.addresses.join(",");
        let args = format!("{before}-w {workers}{}{after}", self.flags);
        let ended = run_head(&args);
        assert_eq!(ended.text(), "", "nothing is printed as a result");
        let (code, said) = (ended.code.expect("it exits"), ended.err.join("\n"));
        self.steady(&format!("$ head {args}\n{said}\n(exit code {code})\n"))
    }

    /// The same without what differs from run to run.
    fn steady(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for address in &self.addresses {
            text = text.replace(address, "HOST:PORT");
        }
        if let Some(path) = self.flags.split(' ').nth(2) {
            text = text.replace(path, "FILE");
        }
        // What the run cost is not known everywhere.
        let lines = text.lines().filter(|line| !line.starts_with("CPU: "));
        lines.map(|line| steady_line(line) + "\n").collect()
    }
}

/// Without measured times and sizes, and without the width of columns that depends on them.
fn steady_line(line: &str) -> String {
    let indent = line.len() - line.trim_start().len();
    let words: Vec<&str> = line.split_whitespace().collect();
    let steady = words.iter().enumerate().map(|(i, &word)| {
        let unit = words
            .get(i + 1)
            .map_or("", |next| next.trim_end_matches(','));
        let is_measured = match unit {
            "s" => word.contains('.'),
            "B" | "KiB" => true,
            _ => false,
        };
        if is_measured { "N" } else { word }
    });
    " ".repeat(indent) + &steady.collect::<Vec<_>>().join(" ")
}

/// Compares what `name` makes a newcomer read with what it did when somebody last looked at it.
fn hold(name: &str, set_up: impl Fn() -> Broken) {
    assert!(NAMES.contains(&name));
    let (run, check) = (set_up(), set_up());
    let job = format!(" --give-up {} square --count 1", run.give_up_s);
    let run = run.met_by("", &job);
    let check = check.met_by("check ", "");
    for (kind, text) in [("run", run), ("check", check)] {
        let path = folder().join(format!("{name}.{kind}.txt"));
        if env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&path, &text).unwrap();
        }
        let golden = fs::read_to_string(&path).unwrap_or_default();
        assert!(
            text == golden,
            "{} is\n{golden}\nbut is read\n{text}\nUPDATE_GOLDEN=1 writes it anew",
            path.display()
        );
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

#[test]
fn every_golden_file_is_held() {
    let names = fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    let mut there: Vec<String> = names.map(|name| name.into_string().unwrap()).collect();
    there.sort();
    let held = NAMES.map(|name| ["check", "run"].map(|kind| format!("{name}.{kind}.txt")));
    assert_eq!(there, held.concat());
}

#[test]
fn no_listener() {
    hold("no-listener", || {
        Broken::at(free_port("127.77.13.1")).given_up()
    });
}

#[test]
fn wrong_port() {
    // A web server waits for a line's end, or closes at what cannot be a request.
    let server: SocketAddr = serve(|mut stream| {
        let _ = stream.read(&mut [0; 1024]);
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n");
        close(stream);
    });
    hold("wrong-port", || Broken::at(server));
}

#[test]
fn other_program() {
    hold("other-program", || {
        Broken::at(peer(b"SSH-2.0-OpenSSH_9.2p1\r\n"))
    });
}

#[test]
fn other_version() {
    hold("other-version", || Broken::at(peer(b"TM\r\n\x00\x63w\x00")));
}

#[test]
fn wrong_key() {
    if IS_AVAILABLE {
        let (_folder, keys) = keys(&["one", "other"]);
        let worker = keyed_worker(&keys[0]);
        hold("wrong-key", || {
            Broken::at(&worker.address).with_key(&keys[1])
        });
    }
}

#[test]
fn key_only_here() {
    if IS_AVAILABLE {
        let (_folder, keys) = keys(&["key"]);
        let worker = Worker::start(1);
        hold("key-only-here", || {
            Broken::at(&worker.address).with_key(&keys[0])
        });
    }
}

#[test]
fn key_only_there() {
    if IS_AVAILABLE {
        let (_folder, keys) = keys(&["key"]);
        let worker = keyed_worker(&keys[0]);
        hold("key-only-there", || Broken::at(&worker.address));
    }
}

#[test]
fn no_free_slot() {
    hold("no-free-slot", || {
        let worker = Worker::start(1);
        let head = |_| Client::greeted(&worker.address);
        let heads: Vec<Client> = (0..CONNECTIONS_MAX).map(head).collect();
        Broken::at(&worker.address)
            .alive((worker, heads))
            .given_up()
    });
}

#[test]
fn all_lost() {
    hold("all-lost", || Broken {
        addresses: vec![mortal("127.77.13.2"), mortal("127.77.13.3")],
        ..Broken::at("").given_up()
    });
}

/// A worker of one slot whose machine is gone at its first task.
fn mortal(host: &str) -> String {
    let listener = TcpListener::bind((host, 0)).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        drop(listener);
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut bytes = opening(Side::Worker).to_vec();
        let welcome = Frame::Welcome {
            slots: 1,
            credit_tasks: 1,
            credit_bytes: 1 << 20,
            payload_max: 1 << 20,
            incarnation: 1,
            release: "test",
        };
        welcome.encode(&mut bytes);
        let (mut decoder, mut piece) = (Decoder::new(Side::Worker, 1 << 20), [0; 4096]);
        loop {
            stream.write_all(&bytes).unwrap();
            bytes.clear();
            let count = stream.read(&mut piece).unwrap();
            let mut frames = decoder.feed(&piece[..count]);
            while let Some(frame) = frames.next() {
                match frame.unwrap() {
                    Frame::Ping => drop(Frame::Pong.encode(&mut bytes)),
                    Frame::Task(_) => return close(stream),
                    _ => {}
                }
            }
        }
    });
    address
}

/// Reads what comes until the other side closes, so that nothing is lost to a reset.
fn close(mut stream: TcpStream) {
    let _ = stream.shutdown(Shutdown::Write);
    let _ = stream.read_to_end(&mut Vec::new());
}
