//! What lies between a socket and the codec where both sides have a key.
//!
//! What it is: a pure transformation of a connection's two streams. After the openings there is one
//! handshake message each way, and from then on what waits in the outbox goes out as sealed records,
//! and what comes in is opened for the decoder. What it is not: there at all without a key, whose
//! absence costs nothing; nor a source of randomness: its driver gives it the one secret it needs.
//!
//! Invariants: the decoder gets no byte that the peer has not sealed, for this session and in this
//! order. A record is sealed when all before it are written, from as much as waits by then: a batch
//! costs one record, not one per task. Beside one record each way nothing is held here.

#[cfg_attr(not(feature = "noise"), path = "channel/without.rs")]
mod noise;

use std::fmt;
use std::ops::Range;

use crate::frame::{FrameError, HEADER_BYTES, Outbox, Side, check_opening, keyed_opening};
use crate::key::Keys;
use crate::limits::GREETING_BYTES_MAX;
use crate::role::CloseReason;
use noise::{Handshake, Transport};

/// Whether this build can have keyed sessions.
pub const IS_AVAILABLE: bool = cfg!(feature = "noise");
/// Longest text of one record.
pub const PLAIN_BYTES_MAX: usize = SEALED_BYTES_MAX - TAG_BYTES;
/// By so much a text grows when it is sealed.
pub const TAG_BYTES: usize = 16;
/// Length of a handshake message: an ephemeral key and the tag of an empty text.
pub const MESSAGE_BYTES: usize = 32 + TAG_BYTES;
/// A record begins with the length of what is sealed.
pub const LENGTH_BYTES: usize = 2;

/// Longest that is.
const SEALED_BYTES_MAX: usize = u16::MAX as usize;
/// And from a head of which no record was opened yet: then all it has sent is within its limit.
const FIRST_SEALED_BYTES_MAX: usize =
    GREETING_BYTES_MAX - HEADER_BYTES - MESSAGE_BYTES - LENGTH_BYTES;

/// The keyed part of one connection, both directions.
#[derive(Debug)]
pub struct Channel {
    side: Side,
    stage: Stage,
    /// What has come of an opening, message or record that is not complete.
    partial: Vec<u8>,
    /// What goes to the socket, opening and message included ...
    sealed: Vec<u8>,
    /// ... and where in it that is. What is before it has been written, behind it is old.
    unwritten: Range<usize>,
    /// So many bytes of the outbox are in there.
    plain_bytes: usize,
}

enum Stage {
    /// The peer's opening is awaited.
    Opening(Handshake),
    /// Its message is.
    Handshake(Handshake),
    /// Its records are.
    Transport {
        cipher: Transport,
        /// One was opened: the peer has the key and is there now, not in a recording.
        is_proven: bool,
    },
    /// Nothing is, nor sent.
    Failed(FrameError),
}

impl Channel {
    /// The channel of a connection that has just been made. `secret` must be random, and used for
    /// nothing else.
    pub fn new(side: Side, keys: &Keys, secret: [u8; 32]) -> Channel {
        let (handshake, message) = Handshake::new(side, keys, secret);
        let mut sealed = keyed_opening(side).to_vec();
        // The head's waits for nothing: only one opening of the worker's goes with it.
        sealed.extend(message.into_iter().flatten());
        Channel {
            side,
            stage: Stage::Opening(handshake),
            partial: Vec::new(),
            unwritten: 0..sealed.len(),
            sealed,
            plain_bytes: 0,
        }
    }

    /// Takes bytes that the peer has sent from the beginning of `bytes`, until they have brought
    /// something for the decoder or none is left. Returns how long it is that they have brought; it
    /// is written to the beginning of `plain`, which has room for `PLAIN_BYTES_MAX`.
    ///
    /// # Errors
    /// The first error is final: it is returned now and at every later call.
    pub fn open(&mut self, bytes: &mut &[u8], plain: &mut [u8]) -> Result<usize, FrameError> {
        let opened = self.open_next(bytes, plain);
        if let Err(error) = &opened {
            self.stage = Stage::Failed(error.clone());
            self.partial = Vec::new();
        }
        opened
    }

    fn open_next(&mut self, bytes: &mut &[u8], plain: &mut [u8]) -> Result<usize, FrameError> {
        loop {
            let unit_bytes = self.unit_bytes(bytes)?;
            let missing = unit_bytes.map(|unit| unit - self.partial.len());
            let Some(missing) = missing.filter(|&missing| missing <= bytes.len()) else {
                self.partial.extend_from_slice(take(bytes, bytes.len()));
                return Ok(0);
            };
            let part = take(bytes, missing);
            let opened = match self.partial.is_empty() {
                true => self.open_unit(part, plain)?,
                false => {
                    let mut unit = std::mem::take(&mut self.partial);
                    unit.extend_from_slice(part);
                    let opened = self.open_unit(&unit, plain)?;
                    unit.clear();
                    self.partial = unit; // Its memory is for the next.
                    opened
                }
            };
            if opened > 0 {
                return Ok(opened);
            }
        }
    }

    /// How long the opening, message or record is that begins in `partial` and goes on in `bytes`;
    /// `None` if too little is there to tell.
    fn unit_bytes(&self, bytes: &[u8]) -> Result<Option<usize>, FrameError> {
        let limit_bytes = match &self.stage {
            Stage::Opening(_) => return Ok(Some(HEADER_BYTES)),
            Stage::Handshake(_) => return Ok(Some(MESSAGE_BYTES)),
            Stage::Transport { is_proven, .. } => match *is_proven || self.side == Side::Head {
                true => SEALED_BYTES_MAX,
                false => FIRST_SEALED_BYTES_MAX,
            },
            Stage::Failed(error) => return Err(error.clone()),
        };
        let mut first = self.partial.iter().chain(bytes);
        let (Some(&high), Some(&low)) = (first.next(), first.next()) else {
            return Ok(None);
        };
        let sealed_bytes = usize::from(u16::from_be_bytes([high, low]));
        // A record of nothing would be a way to be heard without saying anything.
        match sealed_bytes > TAG_BYTES && sealed_bytes <= limit_bytes {
            true => Ok(Some(LENGTH_BYTES + sealed_bytes)),
            false => Err(FrameError::Forged),
        }
    }

    /// Takes a whole unit; returns how much it has brought for the decoder.
    fn open_unit(&mut self, unit: &[u8], plain: &mut [u8]) -> Result<usize, FrameError> {
        if let Stage::Transport { cipher, is_proven } = &mut self.stage {
            let opened = cipher.open(&unit[LENGTH_BYTES..], plain);
            *is_proven = true;
            return opened.ok_or(FrameError::Forged);
        }
        let failed = Stage::Failed(FrameError::Forged);
        self.stage = match std::mem::replace(&mut self.stage, failed) {
            Stage::Opening(handshake) => {
                check_opening(self.side, true, unit.try_into().expect("8 bytes"))?;
                Stage::Handshake(handshake)
            }
            Stage::Handshake(handshake) => {
                let message = unit.try_into().expect("it has the length of one");
                let (cipher, answer) = handshake.read(message).ok_or(match self.side {
                    // Only who has our key answers.
                    Side::Head => FrameError::Forged,
                    Side::Worker => FrameError::WrongKey,
                })?;
                // Perhaps behind an opening that has yet to be written.
                self.sealed.extend(answer.into_iter().flatten());
                self.unwritten.end = self.sealed.len();
                let is_proven = false;
                Stage::Transport { cipher, is_proven }
            }
            Stage::Transport { .. } | Stage::Failed(_) => unreachable!("these have no such units"),
        };
        Ok(0)
    }

    /// Bytes held of an opening, message or record that is not complete.
    pub fn partial_bytes(&self) -> usize {
        self.partial.len()
    }

    /// Whether the handshake is not over yet. While it is not, nothing of the outbox can go.
    pub fn is_shaking_hands(&self) -> bool {
        matches!(self.stage, Stage::Opening(_) | Stage::Handshake(_))
    }

    /// Why the connection has ended, as far as this side got: a worker whose key is another closes
    /// without a word.
    pub fn explain(&self, reason: CloseReason) -> CloseReason {
        match (&self.stage, &reason) {
            (Stage::Handshake(_), CloseReason::Peer | CloseReason::Broken(_))
                if self.side == Side::Head =>
            {
                CloseReason::Protocol(FrameError::WrongKey)
            }
            _ => reason,
        }
    }

    /// Whether something can be written, `outbox` being what waits.
    pub fn has_pending(&self, outbox: &Outbox) -> bool {
        let can_seal = matches!(self.stage, Stage::Transport { .. });
        !self.unwritten.is_empty() || (can_seal && !outbox.is_empty())
    }

    /// What is to be written next; more may follow it. If nothing sealed is left, more is sealed.
    pub fn pending(&mut self, outbox: &mut Outbox) -> &[u8] {
        if self.unwritten.is_empty()
            && let Stage::Transport { cipher, .. } = &mut self.stage
            && !outbox.is_empty()
        {
            let plain = outbox.pending();
            let plain = &plain[..plain.len().min(PLAIN_BYTES_MAX)];
            let sealed_bytes = plain.len() + TAG_BYTES;
            self.unwritten = 0..LENGTH_BYTES + sealed_bytes;
            if self.sealed.len() < self.unwritten.end {
                self.sealed.resize(self.unwritten.end, 0);
            }
            let (length, sealed) = self.sealed.split_at_mut(LENGTH_BYTES);
            length.copy_from_slice(&(sealed_bytes as u16).to_be_bytes());
            cipher.seal(plain, sealed);
            self.plain_bytes = plain.len();
            outbox.consume(self.plain_bytes);
        }
        &self.sealed[self.unwritten.clone()]
    }

    /// Drops the first `count` pending bytes: they have been written. Returns how many bytes of the
    /// outbox went with them: a record's at once, with its last, as before that the peer has nothing.
    ///
    /// # Panics
    /// If fewer are pending.
    pub fn consume(&mut self, count: usize) -> usize {
        assert!(count <= self.unwritten.len(), "more written than pending");
        self.unwritten.start += count;
        match self.unwritten.is_empty() {
            true => std::mem::take(&mut self.plain_bytes),
            false => 0,
        }
    }
}

impl fmt::Debug for Stage {
    /// Without the secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Stage::Opening(_) => "Opening",
            Stage::Handshake(_) => "Handshake",
            Stage::Transport { .. } => "Transport",
            Stage::Failed(_) => "Failed",
        })
    }
}

/// Splits the first `count` off.
fn take<'a>(bytes: &mut &'a [u8], count: usize) -> &'a [u8] {
    let (taken, rest) = bytes.split_at(count);
    *bytes = rest;
    taken
}

#[cfg(all(test, feature = "noise"))]
mod tests;
