//! The kinds of frames.
//!
//! What it is: their numbers, and who may send which. What it is not: what is in them.
//!
//! Invariant: a number never changes its meaning within a version of the protocol.

use super::Side;

/// The numbers of the kinds on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs)]
pub enum Kind {
    Hello = 1,
    Welcome = 2,
    Refuse = 3,
    Job = 4,
    Task = 5,
    Outcome = 6,
    Ping = 7,
    Pong = 8,
    Drain = 9,
    Cancel = 10,
    Slots = 11,
    Usage = 12,
}

impl Kind {
    /// All kinds, in the order of their numbers.
    pub const ALL: [Kind; 12] = [
        Kind::Hello,
        Kind::Welcome,
        Kind::Refuse,
        Kind::Job,
        Kind::Task,
        Kind::Outcome,
        Kind::Ping,
        Kind::Pong,
        Kind::Drain,
        Kind::Cancel,
        Kind::Slots,
        Kind::Usage,
    ];

    pub(super) fn from_byte(byte: u8) -> Option<Kind> {
        let index = usize::from(byte).checked_sub(1)?;
        Kind::ALL.get(index).copied()
    }

    /// Whether `side` sends frames of this kind.
    pub fn is_sent_by(self, side: Side) -> bool {
        match self {
            Kind::Hello | Kind::Job | Kind::Task | Kind::Cancel => side == Side::Head,
            Kind::Welcome
            | Kind::Refuse
            | Kind::Outcome
            | Kind::Drain
            | Kind::Slots
            | Kind::Usage => side == Side::Worker,
            Kind::Ping | Kind::Pong => true,
        }
    }

    /// Whether `side` may send it as its first frame.
    pub fn opens(self, side: Side) -> bool {
        match side {
            Side::Head => self == Kind::Hello,
            Side::Worker => matches!(self, Kind::Welcome | Kind::Refuse),
        }
    }
}
