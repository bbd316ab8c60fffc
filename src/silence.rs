//! How long a peer has been silent, and what that means.
//!
//! What it is: three thresholds over one "last heard" stamp. What it is not: a timer; its owner keeps
//! one coarse deadline and asks again when that is due, so that hearing a frame costs one store.
//!
//! Invariant: each threshold is reported once per silence, in order.

use crate::limits::{CLOSE_AFTER, LOST_AFTER};
use crate::time::{Duration, Time};

/// The silence of one peer.
#[derive(Clone, Copy, Debug)]
pub struct Silence {
    /// When to ask.
    ask_after: Duration,
    heard: Time,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Fresh,
    Asked,
    Lost,
    Gone,
}

/// A threshold that was passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passed {
    /// Silent long enough to be asked for a sign of life.
    Ask,
    /// Lost: do not count on it any more.
    Lost,
    /// Gone: close the connection.
    Close,
}

impl Silence {
    /// Heard just now; to be asked after so long.
    pub fn new(ask_after: Duration, now: Time) -> Silence {
        Silence {
            ask_after,
            heard: now,
            stage: Stage::Fresh,
        }
    }

    /// Any byte arrived. Returns whether the peer had been lost.
    pub fn heard(&mut self, now: Time) -> bool {
        let was_lost = self.is_lost();
        *self = Silence::new(self.ask_after, now);
        was_lost
    }

    /// When it was last heard.
    pub fn since(&self) -> Time {
        self.heard
    }

    /// Whether it is lost.
    pub fn is_lost(&self) -> bool {
        matches!(self.stage, Stage::Lost | Stage::Gone)
    }

    /// When the next threshold will be passed if nothing is heard.
    pub fn deadline(&self) -> Time {
        self.heard + self.threshold()
    }

    /// The next threshold, if it has been passed by `now`. Call until `None`.
    pub fn check(&mut self, now: Time) -> Option<Passed> {
        if now < self.deadline() {
            return None;
        }
        let passed;
        (passed, self.stage) = match self.stage {
            Stage::Fresh => (Passed::Ask, Stage::Asked),
            Stage::Asked => (Passed::Lost, Stage::Lost),
            Stage::Lost => (Passed::Close, Stage::Gone),
            Stage::Gone => return None,
        };
        Some(passed)
    }

    fn threshold(&self) -> Duration {
        match self.stage {
            Stage::Fresh => self.ask_after,
            Stage::Asked => LOST_AFTER,
            Stage::Lost => CLOSE_AFTER,
            Stage::Gone => Duration::MAX,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::PING_AFTER;

    #[test]
    fn thresholds_come_once_and_in_order() {
        let start = Time::from_micros(5);
        let mut silence = Silence::new(PING_AFTER, start);
        assert_eq!(silence.check(start + Duration::from_millis(2999)), None);
        assert_eq!(silence.check(start + PING_AFTER), Some(Passed::Ask));
        assert_eq!(silence.check(start + PING_AFTER), None);
        assert_eq!(silence.deadline(), start + LOST_AFTER);
        assert_eq!(silence.check(start + LOST_AFTER), Some(Passed::Lost));
        assert!(silence.is_lost());
        assert!(silence.heard(start + LOST_AFTER));
        assert!(!silence.heard(start + LOST_AFTER));
        let later = start + LOST_AFTER + CLOSE_AFTER;
        let all: Vec<_> = std::iter::from_fn(|| silence.check(later)).collect();
        assert_eq!(all, [Passed::Ask, Passed::Lost, Passed::Close]);
    }
}
