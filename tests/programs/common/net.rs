//! Sockets of the tests' own: a relay that counts, strangers, and a client that knows the wire.
//!
//! What it is: short-lived peers on loopback, each on a thread that ends with its sockets. What it is
//! not: the reactor; here reads block, with a time-out.
//!
//! Invariant: everything listens on a port the system chose.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Instant;

use teamster::frame::{Decoder, Frame, Side, opening};

use super::PATIENCE;

/// Listens, and gives each connection to `serve` on a thread of its own.
pub fn serve(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let serve = Arc::new(serve);
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            let serve = Arc::clone(&serve);
            thread::spawn(move || serve(stream));
        }
    });
    address
}

/// A peer that says `bytes` first.
pub fn peer(bytes: &'static [u8]) -> String {
    let serve = serve(move |mut stream| {
        let _ = stream.write_all(bytes);
        let _ = stream.read_to_end(&mut Vec::new());
    });
    serve.to_string()
}

/// An address at which nobody listens. `host` is within 127.0.0.0/8 and each test's own, so that no
/// other takes the port meanwhile.
pub fn free_port(host: &str) -> SocketAddr {
    let listener = TcpListener::bind((host, 0)).unwrap();
    listener.local_addr().unwrap()
}

/// A relay to one worker.
pub struct Relay {
    pub address: SocketAddr,
    counts: Arc<Counts>,
}

struct Counts {
    accepts: AtomicUsize,
    /// When bytes last passed in bulk, in milliseconds after `start`: not a heartbeat.
    bulk_ms: AtomicU64,
    /// When any last came from the worker.
    from_worker: Mutex<Instant>,
    start: Instant,
}

/// More than a few heartbeats in one read.
const BULK_BYTES: usize = 64;

impl Relay {
    pub fn to(worker: &str) -> Relay {
        let worker: SocketAddr = worker.parse().unwrap();
        let counts = Arc::new(Counts {
            accepts: AtomicUsize::new(0),
            bulk_ms: AtomicU64::new(0),
            from_worker: Mutex::new(Instant::now()),
            start: Instant::now(),
        });
        let shared = Arc::clone(&counts);
        let address = serve(move |head| {
            shared.accepts.fetch_add(1, Ordering::SeqCst);
            let worker = TcpStream::connect(worker).unwrap();
            let (to, from) = (worker.try_clone().unwrap(), head.try_clone().unwrap());
            let counts = Arc::clone(&shared);
            thread::spawn(move || copy(from, to, &counts, || {}));
            let note = || *shared.from_worker.lock().unwrap() = Instant::now();
            copy(worker, head, &shared, note);
        });
        Relay { address, counts }
    }

    /// Connections so far.
    pub fn accepts(&self) -> usize {
        self.counts.accepts.load(Ordering::SeqCst)
    }

    /// When the worker last sent anything.
    pub fn heard_at(&self) -> Instant {
        *self.counts.from_worker.lock().unwrap()
    }

    /// For how long no more than heartbeats have passed.
    pub fn quiet_ms(&self) -> u64 {
        let now = self.counts.start.elapsed().as_millis() as u64;
        now - self.counts.bulk_ms.load(Ordering::SeqCst)
    }
}

fn copy(mut from: TcpStream, mut to: TcpStream, counts: &Counts, note: impl Fn()) {
    from.set_nodelay(true).unwrap();
    let mut buffer = [0; 64 << 10];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        note();
        if count > BULK_BYTES {
            let now = counts.start.elapsed().as_millis() as u64;
            counts.bulk_ms.store(now, Ordering::SeqCst);
        }
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}

/// A head made by hand.
pub struct Client(pub TcpStream);

impl Client {
    pub fn connect(worker: &str) -> Client {
        let stream = TcpStream::connect(worker).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Client(stream)
    }

    /// Connected, and the opening sent.
    pub fn opened(worker: &str) -> Client {
        let mut client = Client::connect(worker);
        client.send(&opening(Side::Head));
        client
    }

    /// Welcomed, too.
    pub fn greeted(worker: &str) -> Client {
        let mut client = Client::opened(worker);
        client.frame(HELLO);
        let mut welcome = [0; 8 + 8];
        client.0.read_exact(&mut welcome).unwrap();
        assert_eq!(welcome[12], 2, "a Welcome");
        client
    }

    /// Sends bytes, and does not mind if the worker has closed already.
    pub fn send(&mut self, bytes: &[u8]) {
        let _ = self.0.write_all(bytes);
    }

    pub fn frame(&mut self, frame: Frame<'_>) {
        let mut bytes = Vec::new();
        frame.encode(&mut bytes);
        self.send(&bytes);
    }

    /// Waits until the worker has closed; returns what it sent.
    pub fn until_closed(mut self) -> Vec<u8> {
        let mut sent = Vec::new();
        match self.0.read_to_end(&mut sent) {
            Ok(_) => {}
            // A reset is a close, too.
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {}
            Err(error) => panic!("the worker did not close: {error}"),
        }
        sent
    }
}

pub const HELLO: Frame<'static> = Frame::Hello {
    payload_max: 1 << 20,
    release: "test",
};

/// What the worker refused with, if it did.
pub fn refusal(sent: &[u8]) -> Option<String> {
    let mut decoder = Decoder::new(Side::Head, 1 << 20);
    let mut frames = decoder.feed(sent);
    while let Some(Ok(frame)) = frames.next() {
        if let Frame::Refuse { reason, .. } = frame {
            return Some(reason.to_owned());
        }
    }
    None
}
