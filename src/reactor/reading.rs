//! What arrives on connections.
//!
//! What it is: the part of the reactor that reads, within a budget for each connection, and lends
//! the role the frames. What it is not: a judge of silence; that is the role's.
//!
//! Invariant: every byte read is the decoder's before the next is, in the order in which they came.

use super::connection::{Place, ReadResult, Stage};
use super::{Deadline, Outlet, Reactor};
use crate::frame::{Decoder, FrameError};
use crate::limits::{PROGRESS_BYTES, PROGRESS_TIMEOUT, READ_BUDGET_BYTES, READ_FRAMES};
use crate::role::{CloseReason, ConnId, Event, Role};
use crate::time::Time;

impl Reactor {
    /// Reads from every readable connection, each within its budget; what is left is for the next
    /// turn.
    pub(super) fn read(&mut self, role: &mut impl Role, now: Time) {
        let mut list = std::mem::take(&mut self.read_list);
        list.retain(|&slot| {
            let goes_on = self.read_one(slot, role, now);
            if let Some(connection) = self.conns.get_mut(slot) {
                connection.in_read_list = goes_on;
            }
            goes_on
        });
        // `read_one` adds nothing to the list.
        self.read_list = list;
    }

    /// Reads from one connection; true if there may be more.
    fn read_one(&mut self, slot: usize, role: &mut impl Role, now: Time) -> bool {
        let mut budget = READ_BUDGET_BYTES;
        let mut is_first = true;
        while budget > 0 {
            let Some(connection) = self.conns.get_mut(slot) else {
                return false;
            };
            if !connection.readable {
                return false;
            }
            match connection.stage {
                Stage::Open | Stage::Closing { .. } => {}
                Stage::Connecting { .. } | Stage::Doomed => return false,
            }
            match connection.read(&mut self.read_buffer) {
                ReadResult::Bytes(place, count) => {
                    budget = budget.saturating_sub(count);
                    let frames = self.decode(slot, place, count, is_first, role, now);
                    is_first = false;
                    if frames >= READ_FRAMES {
                        // What they ask for is begun, in the pool or at the peer, while the next
                        // are decoded.
                        break;
                    }
                }
                ReadResult::Empty => return false,
                ReadResult::End(reason) => {
                    self.doom(slot, Some(reason));
                    return false;
                }
            }
        }
        self.conns
            .get(slot)
            .is_some_and(|connection| connection.readable)
    }

    /// Hands the `count` bytes just read to the role; returns how many frames they were.
    fn decode(
        &mut self,
        slot: usize,
        place: Place,
        count: usize,
        is_first: bool,
        role: &mut impl Role,
        now: Time,
    ) -> usize {
        let connection = &mut self.conns[slot];
        if !connection.is_open() {
            self.drop_read(slot, count);
            return 0;
        }
        let conn = connection.id(slot);
        let mut decoder = connection.decoder.take().expect("it is back between reads");
        if is_first {
            role.handle(Event::Heard { conn }, now, &mut self.outlet());
        }
        let (frames, error) = self.lend_frames(&mut decoder, conn, place, count, role, now);
        let connection = &mut self.conns[slot];
        connection.decoder = Some(decoder);
        connection.gained_bytes += count;
        let is_partial = connection.partial_bytes() > 0;
        let progress = Deadline::Progress(conn);
        if frames > 0 || !is_partial {
            self.timers.cancel(progress);
        }
        if let Some(error) = error {
            // From our opening, if it has not gone out yet, the peer can tell what is wrong as well.
            let _ = self.conns[slot].write();
            self.doom(slot, Some(CloseReason::Protocol(error)));
        } else if is_partial && self.timers.set_if_new(progress, now + PROGRESS_TIMEOUT) {
            self.conns[slot].gained_bytes = 0;
        }
        self.write_if_sealed(slot);
        frames
    }

    /// Lends the role the frames in the `count` bytes just read, as long as it keeps the connection;
    /// says how many there were, and what was wrong.
    fn lend_frames(
        &mut self,
        decoder: &mut Decoder,
        conn: ConnId,
        place: Place,
        count: usize,
        role: &mut impl Role,
        now: Time,
    ) -> (usize, Option<FrameError>) {
        let slot = conn.slot as usize;
        let mut outlet = Outlet {
            conns: &mut self.conns,
            notes: &mut self.notes,
            input: self.input.as_ref(),
            output: self.output.as_ref(),
        };
        let mut rest = match place {
            Place::Buffer => &self.read_buffer[..count],
            Place::Room => &[],
        };
        let mut lent = 0;
        loop {
            let mut frames = match (place, &mut outlet.conns[slot].channel) {
                (Place::Room, _) => decoder.advance(count),
                (Place::Buffer, None) => decoder.feed(std::mem::take(&mut rest)),
                (Place::Buffer, Some(channel)) => {
                    match channel.open(&mut rest, &mut self.plain_buffer) {
                        Ok(opened) => decoder.feed(&self.plain_buffer[..opened]),
                        Err(error) => return (lent, Some(error)),
                    }
                }
            };
            while outlet.conns[slot].is_open() {
                let tasks = frames.tasks().inspect(|_| lent += 1);
                role.handle_tasks(conn, tasks, now, &mut outlet);
                let outcomes = frames.outcomes().inspect(|_| lent += 1);
                role.handle_outcomes(conn, outcomes, now, &mut outlet);
                if !outlet.conns[slot].is_open() {
                    break;
                }
                // By reference: to move a frame that was just made is to wait for it, see
                // `Payload::set`.
                match &frames.next() {
                    Some(Ok(frame)) => {
                        lent += 1;
                        role.handle(Event::Frame { conn, frame }, now, &mut outlet);
                    }
                    Some(Err(error)) => return (lent, Some(error.clone())),
                    None => break,
                }
            }
            if rest.is_empty() || !outlet.conns[slot].is_open() {
                return (lent, None);
            }
        }
    }

    /// Drops what a closing connection still sends, but for a handshake: what was said to it before
    /// its end can only be sealed after that.
    fn drop_read(&mut self, slot: usize, count: usize) {
        if let Some(channel) = &mut self.conns[slot].channel
            && channel.is_shaking_hands()
        {
            // If it fails nothing can be said, and the time to linger ends it.
            let _ = channel.open(&mut &self.read_buffer[..count], &mut self.plain_buffer);
            self.write_if_sealed(slot);
        }
    }

    /// Has a keyed connection written to if its handshake has got to where it can be.
    fn write_if_sealed(&mut self, slot: usize) {
        let connection = &mut self.conns[slot];
        if connection.channel.is_some()
            && connection.has_pending()
            && !std::mem::replace(&mut connection.in_write_list, true)
        {
            self.notes.write_list.push(slot);
        }
    }

    /// Judges a frame that has been incomplete for long. One that gained nothing at all is a silent
    /// peer's, and silence is the role's to judge.
    pub(super) fn check_progress(&mut self, conn: ConnId, now: Time) {
        let slot = conn.slot as usize;
        let gained_bytes = std::mem::take(&mut self.conns[slot].gained_bytes);
        if (1..PROGRESS_BYTES).contains(&gained_bytes) {
            let reason = "it dribbles a frame instead of sending it".to_owned();
            self.doom(slot, Some(CloseReason::Broken(reason)));
        } else {
            let next = now + PROGRESS_TIMEOUT;
            self.timers.set(Deadline::Progress(conn), next);
        }
    }
}
