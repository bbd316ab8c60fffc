//! What can be wrong with a byte stream.
//!
//! What it is: one variant per check that the decoder makes, with its words for the user. What it is
//! not: a breach of the protocol by a well-formed frame; the roles judge those.
//!
//! Invariant: every error is final for its connection.

use std::fmt;

use super::{Kind, PROTOCOL_VERSION};

/// Why a byte stream is not (or no longer) Teamster's. Always final for its connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FrameError {
    /// The first bytes are another program's.
    NotTeamster,
    /// Another version of this protocol.
    Version {
        /// The peer's version.
        theirs: u16,
    },
    /// A head that reached a head, or a worker a worker.
    SameSide,
    /// The peer has a key and we have none.
    Keyed,
    /// We have a key and the peer has none.
    Unkeyed,
    /// Both have a key, and the peer does not have ours.
    WrongKey,
    /// Something in a keyed session that the peer did not seal like that.
    Forged,
    /// The first frame is no greeting.
    NotGreeted,
    /// A kind this version does not know.
    UnknownKind(u8),
    /// A kind that only the other side sends.
    Direction(Kind),
    /// The header's reserved bytes are not zero.
    Reserved,
    /// The body is longer than agreed; noticed before any of it is read.
    TooLong {
        /// What the header claims.
        body_bytes: u32,
        /// What would have been accepted.
        limit_bytes: usize,
    },
    /// The body is too short for its kind.
    Short {
        /// Which kind.
        kind: Kind,
    },
    /// The body goes on after its kind's last field.
    Trailing {
        /// Which kind.
        kind: Kind,
    },
    /// A field has a value without a meaning.
    Value {
        /// Which kind.
        kind: Kind,
        /// Which value.
        what: &'static str,
    },
}

impl FrameError {
    /// Whether the same peer would fail the same way again, so that dialling it again is pointless.
    pub fn is_permanent(&self) -> bool {
        matches!(
            self,
            FrameError::NotTeamster
                | FrameError::Version { .. }
                | FrameError::SameSide
                | FrameError::Keyed
                | FrameError::Unkeyed
        )
    }
}

impl std::error::Error for FrameError {}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FrameError::NotTeamster => f.write_str("it is another program, not Teamster"),
            FrameError::Version { theirs } => write!(
                f,
                "it speaks protocol version {theirs}, this side version {PROTOCOL_VERSION}; \
                 install the same release on both"
            ),
            FrameError::SameSide => f.write_str("it plays the same role as this side"),
            FrameError::Keyed => f.write_str(
                "it has a key and this side has none; give this side the same by --key-file FILE",
            ),
            FrameError::Unkeyed => f.write_str(
                "this side has a key and it has none; give it the same by --key-file FILE",
            ),
            FrameError::WrongKey => f.write_str(
                "it does not have the key of this side; copy the key file of one to the other",
            ),
            FrameError::Forged => f.write_str("what came was not sealed by it, or was changed"),
            FrameError::NotGreeted => f.write_str("its first frame is no greeting"),
            FrameError::UnknownKind(byte) => write!(f, "frame of unknown kind {byte}"),
            FrameError::Direction(kind) => write!(f, "{kind:?} frame from the wrong side"),
            FrameError::Reserved => f.write_str("reserved header bytes are not zero"),
            FrameError::TooLong {
                body_bytes,
                limit_bytes,
            } => write!(
                f,
                "frame of {body_bytes} bytes where {limit_bytes} are allowed"
            ),
            FrameError::Short { kind } => write!(f, "{kind:?} frame is too short"),
            FrameError::Trailing { kind } => write!(f, "{kind:?} frame is too long for its kind"),
            FrameError::Value { kind, what } => write!(f, "{kind:?} frame with {what}"),
        }
    }
}
