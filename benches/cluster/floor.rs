//! The floor for small tasks: what these sockets and threads can do at all.
//!
//! What it is: an epoll loop that keeps so many 32-byte requests in flight over its connections, and
//! the servers that square a number each, on the thread that reads (*echo*) or on one behind a queue
//! (*hand-over*). What it is not: a task farm; it counts and sums the answers and keeps no records.
//!
//! Invariant: one read and one write per connection and turn, in large buffers that are reused.

use std::io::{ErrorKind, Read, Write};
use std::net::{self, Ipv4Addr};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Instant;

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token, Waker};

use crate::args::Args;
use crate::figures::percentile;

/// About as many as a task and its outcome have on Teamster's wire, with 8 bytes of payload: 28, 33.
const FRAME_BYTES: usize = 32;
const BUFFER_BYTES: usize = 256 << 10;
const CONN: Token = Token(0);
const WAKER: Token = Token(1);

/// A request: its number, the number to square, room for the answer.
fn request(number: u64) -> [u8; FRAME_BYTES] {
    let mut frame = [0; FRAME_BYTES];
    frame[0] = FRAME_BYTES as u8;
    frame[8..16].copy_from_slice(&number.to_le_bytes());
    frame[16..24].copy_from_slice(&number.to_le_bytes());
    frame
}

fn field(frame: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(frame[at..at + 8].try_into().expect("8 bytes"))
}

fn answer(frames: &mut [u8]) {
    for frame in frames.chunks_exact_mut(FRAME_BYTES) {
        let n = field(frame, 16);
        frame[24..].copy_from_slice(&n.wrapping_mul(n).to_le_bytes());
    }
}

struct Conn {
    stream: TcpStream,
    input: Box<[u8]>,
    filled: usize,
    output: Vec<u8>,
    written: usize,
}

/// What one read came to: so many bytes of whole frames, and whether there may be more to read.
enum Filled {
    Frames(usize, bool),
    Closed,
}

impl Conn {
    fn new(stream: net::TcpStream, poll: &Poll, token: Token) -> Conn {
        stream.set_nodelay(true).expect("a live socket");
        stream.set_nonblocking(true).expect("a live socket");
        let mut stream = TcpStream::from_std(stream);
        let both = Interest::READABLE | Interest::WRITABLE;
        let registered = poll.registry().register(&mut stream, token, both);
        registered.expect("epoll takes a socket");
        Conn {
            stream,
            input: vec![0; BUFFER_BYTES].into(),
            filled: 0,
            output: Vec::new(),
            written: 0,
        }
    }

    fn fill(&mut self) -> Filled {
        match self.stream.read(&mut self.input[self.filled..]) {
            Ok(0) => Filled::Closed,
            Ok(count) => {
                self.filled += count;
                let is_full = self.filled == BUFFER_BYTES;
                Filled::Frames(self.filled / FRAME_BYTES * FRAME_BYTES, is_full)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Filled::Frames(0, false),
            Err(_) => Filled::Closed,
        }
    }

    fn consume(&mut self, bytes: usize) {
        self.input.copy_within(bytes..self.filled, 0);
        self.filled -= bytes;
    }

    fn flush(&mut self) {
        while self.written < self.output.len() {
            match self.stream.write(&self.output[self.written..]) {
                Ok(count) => self.written += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                // The next read will say so.
                Err(_) => return,
            }
        }
        self.output.clear();
        self.written = 0;
    }
}

/// Keeps `in_flight` requests in flight until `count` are answered.
pub fn head(args: &Args) {
    let (count, in_flight): (u64, u64) = (args.number("count"), args.number("in_flight"));
    let mut poll = Poll::new().expect("an epoll instance");
    let dial = |(index, address)| {
        let stream = net::TcpStream::connect(address).expect("it listens");
        Conn::new(stream, &poll, Token(index))
    };
    let mut conns: Vec<Conn> = args.addresses().enumerate().map(dial).collect();
    let mut events = Events::with_capacity(16);
    let mut round_trips_us = Vec::new();
    let (mut sent, mut done, mut sum) = (0, 0, 0_u64);
    let start = Instant::now();
    let mut sent_at = start;
    while sent < in_flight.min(count) {
        let index = sent as usize % conns.len();
        conns[index].output.extend_from_slice(&request(sent));
        sent += 1;
    }
    conns.iter_mut().for_each(Conn::flush);
    while done < count {
        poll.poll(&mut events, None).expect("it polls");
        for event in &events {
            let conn = &mut conns[event.token().0];
            loop {
                let Filled::Frames(bytes, has_more) = conn.fill() else {
                    panic!("a server has gone");
                };
                for frame in conn.input[..bytes].chunks_exact(FRAME_BYTES) {
                    sum = sum.wrapping_add(field(frame, 24));
                    done += 1;
                    if sent < count {
                        conn.output.extend_from_slice(&request(sent));
                        sent += 1;
                    }
                }
                if in_flight == 1 && bytes > 0 {
                    round_trips_us.push(sent_at.elapsed().as_nanos() as f64 / 1e3);
                    sent_at = Instant::now();
                }
                conn.consume(bytes);
                if !has_more {
                    break;
                }
            }
            conn.flush();
        }
    }
    println!("seconds={}", start.elapsed().as_secs_f64());
    let wanted = (0..count).fold(0_u64, |sum, n| sum.wrapping_add(n.wrapping_mul(n)));
    assert_eq!(sum, wanted, "the answers are right");
    if in_flight == 1 {
        println!("p50_us={}", percentile(&mut round_trips_us, 50));
        println!("p99_us={}", percentile(&mut round_trips_us, 99));
    }
}

/// Bytes that one thread leaves for another.
#[derive(Default)]
struct Queue {
    bytes: Mutex<Vec<u8>>,
    filled: Condvar,
}

impl Queue {
    /// Says whether it was empty.
    fn push(&self, frames: &[u8]) -> bool {
        let mut bytes = self.bytes.lock().expect("nobody panics");
        let was_empty = bytes.is_empty();
        bytes.extend_from_slice(frames);
        was_empty
    }

    fn take(&self, frames: &mut Vec<u8>) {
        frames.clear();
        std::mem::swap(&mut *self.bytes.lock().expect("nobody panics"), frames);
    }

    fn wait(&self, frames: &mut Vec<u8>) {
        frames.clear();
        let bytes = self.bytes.lock().expect("nobody panics");
        let filled = self.filled.wait_while(bytes, |bytes| bytes.is_empty());
        std::mem::swap(&mut *filled.expect("nobody panics"), frames);
    }
}

/// Answers one head after the other, for ever.
pub fn server(args: &Args) {
    let hands_over: bool = args.text("hand_over") == "true";
    let listener = net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    println!(
        "Listening on {}",
        listener.local_addr().expect("it listens")
    );
    let mut poll = Poll::new().expect("an epoll instance");
    let waker = Waker::new(poll.registry(), WAKER).expect("an eventfd");
    let (requests, answers) = (Arc::new(Queue::default()), Arc::new(Queue::default()));
    let (todo, done) = (Arc::clone(&requests), Arc::clone(&answers));
    thread::spawn(move || {
        let mut frames = Vec::new();
        loop {
            todo.wait(&mut frames);
            answer(&mut frames);
            if done.push(&frames) {
                waker.wake().expect("an eventfd");
            }
        }
    });
    for stream in listener.incoming() {
        let conn = Conn::new(stream.expect("a connection"), &poll, CONN);
        serve(conn, &mut poll, hands_over.then_some((&requests, &answers)));
    }
}

fn serve(mut conn: Conn, poll: &mut Poll, queues: Option<(&Arc<Queue>, &Arc<Queue>)>) {
    let mut events = Events::with_capacity(4);
    let mut finished = Vec::new();
    loop {
        poll.poll(&mut events, None).expect("it polls");
        for event in &events {
            if event.token() == WAKER {
                let (_, answers) = queues.expect("it hands over");
                answers.take(&mut finished);
                conn.output.extend_from_slice(&finished);
                continue;
            }
            loop {
                let Filled::Frames(bytes, has_more) = conn.fill() else {
                    return;
                };
                match queues {
                    None => {
                        answer(&mut conn.input[..bytes]);
                        conn.output.extend_from_slice(&conn.input[..bytes]);
                    }
                    Some((requests, _)) if bytes > 0 => {
                        if requests.push(&conn.input[..bytes]) {
                            requests.filled.notify_one();
                        }
                    }
                    Some(_) => {}
                }
                conn.consume(bytes);
                if !has_more {
                    break;
                }
            }
        }
        conn.flush();
    }
}
