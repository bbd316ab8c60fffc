//! One socket with its buffers.
//!
//! What it is: a stream, what is known of its readiness, the codec of its two directions, and with a
//! key the channel between. What it is not: a decision; when to read, write or close is the reactor's.
//!
//! Invariants: readiness is learnt from events and unlearnt by `WouldBlock`, or by a read that
//! leaves room; only `read` and `write` say the truth about a close.

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::SocketAddr;

use mio::net::TcpStream;

use crate::channel::Channel;
use crate::frame::{Decoder, HEADER_BYTES, Outbox, Side};
use crate::limits::WRITE_PIECES_MAX;
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
    /// If this side has a key.
    pub channel: Option<Box<Channel>>,
    /// Taken out while its frames are lent to the role.
    pub decoder: Option<Decoder>,
    pub outbox: Outbox,
    /// Bytes of a frame that is still incomplete, gained since its progress was last judged.
    pub gained_bytes: usize,
    /// Something waits that the socket did not take.
    pub is_stuck: bool,
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
        channel: Option<Channel>,
    ) -> Connection {
        let (decoder, outbox, opening_bytes) = match channel {
            None => (
                Decoder::new(side, payload_bytes_max),
                Outbox::new(side),
                HEADER_BYTES,
            ),
            Some(_) => (
                Decoder::without_opening(side, payload_bytes_max),
                Outbox::without_opening(),
                0,
            ),
        };
        Connection {
            generation,
            stream,
            stage,
            readable: false,
            is_ending: false,
            writable: false,
            in_read_list: false,
            in_write_list: false,
            channel: channel.map(Box::new),
            decoder: Some(decoder),
            outbox,
            gained_bytes: 0,
            is_stuck: false,
            opening_bytes,
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

    /// Bytes held of what has only come in part.
    pub fn partial_bytes(&self) -> usize {
        let sealed = self.channel.as_ref().map_or(0, |c| c.partial_bytes());
        let decoder = self.decoder.as_ref();
        sealed + decoder.map_or(0, Decoder::partial_bytes)
    }

    /// Whether something can be written, if the socket takes it.
    pub fn has_pending(&self) -> bool {
        match &self.channel {
            None => !self.outbox.is_empty(),
            Some(channel) => channel.has_pending(&self.outbox),
        }
    }

    /// Whether all was written.
    pub fn is_done(&self) -> bool {
        self.outbox.is_empty() && !self.has_pending()
    }

    /// Why it has ended; a handshake that was cut short says more than the end itself.
    pub fn explain(&self, reason: CloseReason) -> CloseReason {
        match &self.channel {
            None => reason,
            Some(channel) => channel.explain(reason),
        }
    }

    /// One `read`, straight into the decoder if it has room for much, else into `buffer`.
    pub fn read(&mut self, buffer: &mut [u8]) -> ReadResult {
        let decoder = match (&self.stage, &self.channel) {
            (Stage::Open, None) => self.decoder.as_mut(),
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
        while self.writable && self.has_pending() {
            let result = match &mut self.channel {
                None => write_pieces(&mut self.stream, &self.outbox),
                Some(channel) => self.stream.write(channel.pending(&mut self.outbox)),
            };
            match result {
                Ok(0) => return Err(CloseReason::Broken("the socket takes no bytes".into())),
                Ok(count) => {
                    written += match &mut self.channel {
                        None => self.outbox.consume(count),
                        Some(channel) => channel.consume(count),
                    }
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

/// One `write` of as many pieces as it takes.
fn write_pieces(stream: &mut TcpStream, outbox: &Outbox) -> io::Result<usize> {
    let mut slices = [IoSlice::new(&[]); WRITE_PIECES_MAX];
    let mut count = 0;
    for (slice, piece) in slices.iter_mut().zip(outbox.pieces()) {
        *slice = IoSlice::new(piece);
        count += 1;
    }
    stream.write_vectored(&slices[..count])
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
