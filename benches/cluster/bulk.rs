//! The floor for large payloads: what loopback TCP carries.
//!
//! What it is: echoes of 1 MiB over plain blocking sockets, per connection one thread that writes and
//! one that reads, four in flight. What it is not: an event loop; a floor should owe nothing to ours.
//!
//! Invariant: every buffer is allocated once.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use crate::args::Args;
use crate::load::{ECHO_BYTES, is_stamped, stamp};

const IN_FLIGHT: usize = 4;
/// A payload and as much as a frame of ours has beside it. Lengths that are whole pages would keep
/// every buffer at the same offset from the kernel's pages, and some offsets halve its copying.
const MESSAGE_BYTES: usize = ECHO_BYTES + 28;

/// Echoes `count` payloads over all connections together.
pub fn head(args: &Args) {
    let count: u64 = args.number("count");
    let dial = |address| {
        let stream = TcpStream::connect(address).expect("it listens");
        stream.set_nodelay(true).expect("a live socket");
        stream
    };
    let streams: Vec<TcpStream> = args.addresses().map(dial).collect();
    let each = count / streams.len() as u64;
    let start = Instant::now();
    thread::scope(|scope| {
        for mut reader in streams {
            let mut writer = reader.try_clone().expect("a descriptor");
            let (sent, answered) = mpsc::sync_channel(IN_FLIGHT);
            scope.spawn(move || {
                let mut payload = vec![7; MESSAGE_BYTES];
                for number in 0..each {
                    sent.send(()).expect("the reader waits for it");
                    stamp(&mut payload[..ECHO_BYTES], number);
                    writer.write_all(&payload).expect("a live socket");
                }
            });
            scope.spawn(move || {
                let mut payload = vec![0; MESSAGE_BYTES];
                for number in 0..each {
                    reader.read_exact(&mut payload).expect("a live socket");
                    assert!(
                        is_stamped(&payload[..ECHO_BYTES], number),
                        "the answer is right"
                    );
                    answered.recv().expect("it was sent");
                }
            });
        }
    });
    println!("seconds={}", start.elapsed().as_secs_f64());
}

/// Echoes for one head after the other, for ever.
pub fn server(_: &Args) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    println!(
        "Listening on {}",
        listener.local_addr().expect("it listens")
    );
    let mut payload = vec![0; MESSAGE_BYTES];
    for stream in listener.incoming() {
        let mut stream = stream.expect("a connection");
        stream.set_nodelay(true).expect("a live socket");
        while stream.read_exact(&mut payload).is_ok() {
            stream.write_all(&payload).expect("a live socket");
        }
    }
}
