//! The 8 bytes before all frames.
//!
//! What it is: who says them, what they say, and what is wrong with a peer's. What it is not: a
//! frame; they are plain in a keyed session, too.
//!
//! Invariant: from them alone a foreign program, another version, a peer in the same role and a key
//! on one side only can be told apart.

use std::fmt;

use byteorder::{BigEndian, ByteOrder};

use super::{FrameError, HEADER_BYTES};

/// Version of this wire, not of the release. It changes when an old peer would misread a new one.
pub const PROTOCOL_VERSION: u16 = 3;

/// First bytes of both directions. The line end makes a web server answer at once, so that it is
/// recognised by its answer and not by a time-out.
const MAGIC: [u8; 4] = *b"TM\r\n";

/// Field positions.
mod field {
    use std::ops::Range;

    pub const MAGIC: Range<usize> = 0..4;
    pub const VERSION: Range<usize> = 4..6;
    pub const SIDE: usize = 6;
    pub const KEYED: usize = 7;
}

/// Which end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Dials, sends tasks.
    Head,
    /// Listens, sends outcomes.
    Worker,
}

impl Side {
    /// The other end.
    pub const fn peer(self) -> Side {
        match self {
            Side::Head => Side::Worker,
            Side::Worker => Side::Head,
        }
    }

    const fn byte(self) -> u8 {
        match self {
            Side::Head => b'h',
            Side::Worker => b'w',
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Side::Head => "head",
            Side::Worker => "worker",
        })
    }
}

/// The 8 plain bytes that `side` sends first if it has no key: magic, version, side, 0.
pub fn opening(side: Side) -> [u8; HEADER_BYTES] {
    let mut bytes = [0; HEADER_BYTES];
    bytes[field::MAGIC].copy_from_slice(&MAGIC);
    BigEndian::write_u16(&mut bytes[field::VERSION], PROTOCOL_VERSION);
    bytes[field::SIDE] = side.byte();
    bytes
}

/// The same if it has one.
pub fn keyed_opening(side: Side) -> [u8; HEADER_BYTES] {
    let mut bytes = opening(side);
    bytes[field::KEYED] = 1;
    bytes
}

/// Checks the opening that the peer of `ours` sent, which must have a key or none like this side.
///
/// # Errors
/// What is wrong with it. All of these are permanent.
pub fn check_opening(
    ours: Side,
    is_keyed: bool,
    bytes: &[u8; HEADER_BYTES],
) -> Result<(), FrameError> {
    if bytes[field::MAGIC] != MAGIC {
        return Err(FrameError::NotTeamster);
    }
    let version = BigEndian::read_u16(&bytes[field::VERSION]);
    if version != PROTOCOL_VERSION {
        return Err(FrameError::Version { theirs: version });
    }
    if bytes[field::SIDE] != ours.peer().byte() {
        return Err(FrameError::SameSide);
    }
    match (bytes[field::KEYED], is_keyed) {
        (0, false) | (1, true) => Ok(()),
        (0, true) => Err(FrameError::Unkeyed),
        (_, false) => Err(FrameError::Keyed),
        (_, true) => Err(FrameError::NotTeamster),
    }
}
