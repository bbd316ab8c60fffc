//! One socket with its buffers.
//!
//! What it is: a stream, what is known of its readiness, and the codec of its two directions. What it
//! is not: a decision; when to read, write or close is the reactor's.
//!
//! Invariants: readiness is learnt from events and unlearnt by `WouldBlock`, or by a read that
//! leaves room; only `read` and `write` say the truth about a close.

use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;

use mio::net::TcpStream;

use crate::frame::{Decoder, HEADER_BYTES, Outbox, Side};
use crate::role::{CloseReason, ConnId};
use crate::time::Time;

/// A connection in the reactor's slab.
#[derive(Debug)]
pub(super) struct Connection {
    pub generation: u32,
    pub stream: TcpStream,
    pub stage: Stage,
    /// Sticky: `read` has not found the end of what is there since it was last readable.
    pub readable: bool,
    /// An event told of an end. It tells only once, so `read` has to get there.
    pub is_ending: bool,
    /// Sticky, likewise.
    pub writable: bool,
    /// On the list of connections to read from.
    pub in_read_list: bool,
    /// On the list of connections to write to.
    pub in_write_list: bool,
    /// Taken out while its frames are lent to the role.
    pub decoder: Option<Decoder>,
    pub outbox: Outbox,
    /// Bytes of a frame that is still incomplete, gained since its progress was last judged.
    pub gained_bytes: usize,
    /// Opening bytes still in the outbox; the role did not send them and is not told of them.
    opening_bytes: usize,
}

#[derive(Debug)]
pub(super) enum Stage {
    /// The kernel is connecting; on failure the next of the host's addresses is tried.
    Connecting {
        dial: u32,
        others: Vec<SocketAddr>,
        /// When the last of them must have answered.
        until: Time,
    },
    /// The role knows it.
    Open,
    /// The role asked to close it: the outbox goes out, then the write side is shut.
    Closing {
        /// The role has had its `Closed`.
        is_told: bool,
        is_shut: bool,
    },
    /// Of no more use; freed at the end of the turn.
    Doomed,
}

/// Where bytes were read to.
#[derive(Clone, Copy)]
pub(super) enum Place {
    /// The buffer that all connections share.
    Buffer,
    /// The decoder's room for the rest of a large frame.
    Room,
}

/// What a read came to.
pub(super) enum ReadResult {
    /// So many bytes are there.
    Bytes(Place, usize),
    /// Nothing now.
    Empty,
    /// Nothing ever again.
    End(CloseReason),
}

impl Connection {
    pub fn new(
        stream: TcpStream,
        generation: u32,
        stage: Stage,
        side: Side,
        payload_bytes_max: usize,
    ) -> Connection {
        Connection {
            generation,
            stream,
            stage,
            readable: false,
            is_ending: false,
            writable: false,
            in_read_list: false,
            in_write_list: false,
            decoder: Some(Decoder::new(side, payload_bytes_max)),
            outbox: Outbox::new(side),
            gained_bytes: 0,
            opening_bytes: HEADER_BYTES,
        }
    }

    pub fn id(&self, slot: usize) -> ConnId {
        ConnId {
            slot: slot as u32,
            generation: self.generation,
        }
    }

    pub fn is_open(&self) -> bool {
        matches!(self.stage, Stage::Open)
    }

    /// Whether its peer has shown that it speaks for the other side: it has greeted.
    pub fn is_proven(&self) -> bool {
        (self.decoder.as_ref()).is_none_or(Decoder::is_greeted)
    }

    /// One `read`, straight into the decoder if it has room for much, else into `buffer`.
    pub fn read(&mut self, buffer: &mut [u8]) -> ReadResult {
        let decoder = match self.stage {
            Stage::Open => self.decoder.as_mut(),
            _ => None,
        };
        let (place, target) = match decoder.and_then(Decoder::room) {
            Some(room) => (Place::Room, room),
            None => (Place::Buffer, buffer),
        };
        loop {
            match self.stream.read(target) {
                Ok(0) => return ReadResult::End(CloseReason::Peer),
                Ok(count) => {
                    // Room that is left says what `WouldBlock` would, and whatever comes later, an end
                    // too, comes with an event of its own. (Urgent data cuts a read short as well; who
                    // sends some waits for his own next bytes.)
                    self.readable = self.is_ending || count == target.len();
                    return ReadResult::Bytes(place, count);
                }
                Err(error) => match error.kind() {
                    ErrorKind::Interrupted => {}
                    ErrorKind::WouldBlock => {
                        self.readable = false;
                        return ReadResult::Empty;
                    }
                    _ => return ReadResult::End(CloseReason::Broken(describe(&error))),
                },
            }
        }
    }

    /// Writes as much of the outbox as the socket takes; returns how many bytes of it were the
    /// role's.
    ///
    /// # Errors
    /// Why nothing can be written ever again.
    pub fn write(&mut self) -> Result<usize, CloseReason> {
        let mut written = 0;
        while self.writable && !self.outbox.is_empty() {
            match self.stream.write(self.outbox.pending()) {
                Ok(0) => return Err(CloseReason::Broken("the socket takes no bytes".into())),
                Ok(count) => {
                    self.outbox.consume(count);
                    written += count;
                }
                Err(error) => match error.kind() {
                    ErrorKind::Interrupted => {}
                    ErrorKind::WouldBlock => self.writable = false,
                    _ => return Err(CloseReason::Broken(describe(&error))),
                },
            }
        }
        let opening = written.min(self.opening_bytes);
        self.opening_bytes -= opening;
        Ok(written - opening)
    }
}

/// An error in words a user knows, without the number Rust appends.
pub(super) fn describe(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::ConnectionRefused => "connection refused: nothing listens there".into(),
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => "connection reset".into(),
        ErrorKind::TimedOut => "connection timed out".into(),
        ErrorKind::HostUnreachable => "host unreachable".into(),
        ErrorKind::NetworkUnreachable => "network unreachable".into(),
        _ => {
            let text = error.to_string();
            match text.find(" (os error") {
                Some(end) => text[..end].to_owned(),
                None => text,
            }
        }
    }
}
