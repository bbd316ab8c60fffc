//! One process: a role and the order of its turns.
//!
//! What it is: [`Node::turn`], which keeps the five promises of `Role`'s driver. What it is not: the
//! network or the faults.
//!
//! Invariant: a turn is events, then deadlines, then the flush, all at one `now`; of a connection the
//! role hears `Opened`, then any number of `Sent`, `Heard`, `Frame` in their order, then one `Closed`.

use teamster::channel::Channel;
use teamster::frame::{FIXED_BYTES_MAX, Frame, FrameError, Frames, HEADER_BYTES, Outcome, Task};
use teamster::limits::PROGRESS_TIMEOUT;
use teamster::role::{CloseReason, ConnId, Event, Role};

use crate::oracle;
use crate::rim::{Deck, News, Rim, label};
use crate::trace::enter;
use crate::world::{World, end_of};

pub struct Node<R> {
    pub role: R,
    pub rim: Rim,
}

impl<R: Role> Node<R> {
    pub fn turn(&mut self, world: &mut World) {
        self.rim.turn_at = None;
        let us = 1 + world.rng.below(world.plan.turn_us);
        self.rim.busy_until = world.after_us(us);
        let (told, answered) = (self.rim.told, self.rim.answered);

        self.tell_news(world);
        for slot in 0..self.rim.conns.len() {
            self.tell_connection(slot, world);
        }
        self.tell_finished(world);
        self.tell_signal(world);
        let was_due = self.fire_timers(world);
        let clock = self.rim.clock(world.now);
        self.with_sink(world, |role, deck| role.flush(clock, deck));
        if was_due && (told, answered) == (self.rim.told, self.rim.answered) {
            self.rim.idle_turns += 1;
        }
        if let Some(pool) = &mut self.rim.pool {
            pool.start(world);
        }
        self.rim.write_all(world);
        if let Some(at) = self.role.next_deadline() {
            self.rim.wake(self.rim.world_time(at), world);
        }
        if let Some(at) = self.rim.measure_at(self.role.awaited(), 0) {
            self.rim.wake(at, world);
        }
        let pool = self.rim.pool.as_mut();
        if let Some(at) = pool.and_then(|pool| pool.next_check(world.now)) {
            self.rim.wake(at, world);
        }
    }

    fn tell_news(&mut self, world: &mut World) {
        for news in std::mem::take(&mut self.rim.news) {
            let dial = match news {
                News::Opened { dial, .. } => dial,
                News::DialFailed { dial } => Some(dial),
                News::Cancel { .. } => None,
            };
            self.rim.dialing.retain(|&other| Some(other) != dial);
            match news {
                News::Opened { cable, dial } => {
                    let channel = world.channel(self.rim.side);
                    let conn = self.rim.open(cable, channel);
                    let peer = "peer";
                    let end = end_of(self.rim.side);
                    if end == 0 {
                        world.ledger.dialled(dial.expect("the head dials"), cable);
                    }
                    self.tell("opened", conn, Event::Opened { conn, dial, peer }, world);
                }
                News::Cancel {
                    conn,
                    attempt,
                    running,
                } => {
                    let frame = Frame::Cancel { attempt, running };
                    if self.rim.live(conn).is_some() {
                        let frame = &frame;
                        self.tell("cancelled", conn, Event::Frame { conn, frame }, world);
                    }
                }
                News::DialFailed { dial } => {
                    let (slot, generation) = (dial, 0);
                    let reason = "refused";
                    let event = Event::DialFailed { dial, reason };
                    self.tell("dial-failed", ConnId { slot, generation }, event, world);
                }
            }
        }
    }

    fn tell_connection(&mut self, slot: usize, world: &mut World) {
        let Some(conn) = &mut self.rim.conns[slot] else {
            return;
        };
        let (id, cable, end) = (conn.id, conn.cable, end_of(self.rim.side));
        if conn.is_over {
            return self.close(id, CloseReason::Asked, world);
        }
        if conn.closing.is_some() {
            return self.rim.shake_on(slot, world);
        }
        let sent = std::mem::take(&mut conn.sent);
        if sent > 0 {
            let event = Event::Sent {
                conn: id,
                bytes: sent,
            };
            self.tell("sent", id, event, world);
        }
        let now = world.now;
        if world.cables[cable].pipes[end].is_readable(now) && self.rim.live(id).is_some() {
            self.read(id, cable, world);
        }
        if self.rim.live(id).is_none() {
            return;
        }
        if let Some(reason) = world.cables[cable].pipes[end].ended(now).cloned() {
            oracle!(
                "no-loss",
                world.cables[cable].is_struck,
                "{id} ends, which no fault has touched: {reason}"
            );
            world.detach(cable, end, CloseReason::Peer);
            self.close(id, reason, world);
        } else if world.cables[cable].pipes[end].is_readable(now) {
            self.rim.wake(now, world);
        } else {
            self.check_progress(id, cable, world);
        }
    }

    fn close(&mut self, id: ConnId, reason: CloseReason, world: &mut World) {
        let conn = self.rim.conns[id.slot as usize].take().expect("it is open");
        world.ledger.session_over(self.rim.side, conn.cable);
        self.tell("closed", id, Event::Closed { conn: id, reason }, world);
        let is_revoked = !self.rim.prepared.contains(&id);
        oracle!("revoke", is_revoked, "{id} is over and not revoked");
    }

    /// Feeds what arrived to the decoder, cut anywhere, and its frames to the role.
    fn read(&mut self, id: ConnId, cable: usize, world: &mut World) {
        let mut bytes = Vec::new();
        let budget = world.plan.read_budget;
        world.ledger.heard(self.rim.side, cable);
        world.read(cable, end_of(self.rim.side), budget, &mut bytes);
        self.tell("heard", id, Event::Heard { conn: id }, world);
        let Some(conn) = self.rim.live(id) else {
            return;
        };
        let mut decoder = conn.decoder.take().expect("it is here between reads");
        let is_cut = world.rng.chance(world.plan.cut_percent);
        let mut rest = &bytes[..];
        let mut plain = std::mem::take(&mut world.plain);
        let mut frames = 0;
        while !rest.is_empty() && self.rim.live(id).is_some() {
            let count = match is_cut {
                true => 1 + world.rng.below(rest.len().min(200) as u64) as usize,
                false => rest.len(),
            };
            let (mut piece, after) = rest.split_at(count);
            rest = after;
            while !piece.is_empty()
                && let Some(conn) = self.rim.live(id)
            {
                let opened = match &mut conn.channel {
                    None => Ok(std::mem::take(&mut piece)),
                    Some(channel) => {
                        let opened = channel.open(&mut piece, &mut plain);
                        opened.map(|count| &plain[..count])
                    }
                };
                let heard = opened
                    .and_then(|bytes| self.hear(id, cable, decoder.feed(bytes), !is_cut, world));
                match heard {
                    Ok(count) => frames += count,
                    Err(error) => {
                        let is_garbled = world.cables[cable].is_garbled;
                        oracle!("right-bytes", is_garbled, "{id}: {error}");
                        world.plain = plain;
                        world.detach(cable, end_of(self.rim.side), CloseReason::Peer);
                        return self.close(id, CloseReason::Protocol(error), world);
                    }
                }
            }
        }
        world.plain = plain;
        let limit = world.plan.tasks.payload_bytes_max + FIXED_BYTES_MAX + HEADER_BYTES;
        let partial = decoder.partial_bytes();
        oracle!("bounds", partial <= limit, "{partial} bytes of one frame");
        if let Some(conn) = self.rim.live(id) {
            let sealed = conn.channel.as_ref().map_or(0, Channel::partial_bytes);
            if frames > 0 || partial + sealed == 0 {
                conn.partial_since = None;
            }
            if partial + sealed > 0 {
                conn.partial_since.get_or_insert(world.now);
            }
            conn.decoder = Some(decoder);
        }
    }

    /// Tells the role of the tasks and outcomes next in what was read, as the reactor does; returns how
    /// many they were.
    fn hear_rows(
        &mut self,
        id: ConnId,
        cable: usize,
        frames: &mut Frames<'_>,
        world: &mut World,
    ) -> usize {
        let tasks: Vec<Task> = frames.tasks().collect();
        let outcomes: Vec<Outcome> = frames.outcomes().collect();
        let count = tasks.len() + outcomes.len();
        if count == 0 {
            return 0;
        }
        let row: Vec<Frame> = (tasks.iter().map(|&task| Frame::Task(task)))
            .chain(outcomes.iter().map(|&outcome| Frame::Outcome(outcome)))
            .collect();
        for frame in &row {
            world.ledger.hears(self.rim.side, cable, frame);
            let (kind, number, _) = label(frame);
            self.note(kind, id, number, world);
        }
        let clock = self.rim.clock(world.now);
        let (mut tasks, mut outcomes) = (tasks.into_iter(), outcomes.into_iter());
        self.with_sink(world, |role, deck| {
            role.handle_tasks(id, tasks.by_ref(), clock, deck);
            role.handle_outcomes(id, outcomes.by_ref(), clock, deck);
        });
        for frame in &row[count - tasks.len() - outcomes.len()..] {
            self.tell("left", id, Event::Frame { conn: id, frame }, world);
        }
        let is_live = self.rim.live(id).is_some();
        oracle!("no-refusal", is_live, "{id} is closed in a row");
        count
    }

    /// Tells the role of frames, one by one or what is in a row as such; returns how many they were.
    fn hear(
        &mut self,
        id: ConnId,
        cable: usize,
        mut frames: Frames<'_>,
        in_rows: bool,
        world: &mut World,
    ) -> Result<usize, FrameError> {
        let mut count = 0;
        loop {
            if in_rows {
                count += self.hear_rows(id, cable, &mut frames, world);
            }
            let Some(frame) = frames.next() else {
                return Ok(count);
            };
            let frame = frame?;
            count += 1;
            world.ledger.hears(self.rim.side, cable, &frame);
            let (kind, ..) = label(&frame);
            let event = Event::Frame {
                conn: id,
                frame: &frame,
            };
            self.tell(kind, id, event, world);
            // All are honest here: no frame is a reason to end a session, but that of a worker
            // that is about to end.
            let is_live = self.rim.live(id).is_some() || kind == "Refuse";
            oracle!("no-refusal", is_live, "{id} is closed for a {kind}");
        }
    }

    /// Ends a connection on which a changed length has the rest of a record awaited for too long.
    fn check_progress(&mut self, id: ConnId, cable: usize, world: &mut World) {
        let conn = self.rim.live(id).expect("the caller has it");
        let Some(since) = conn
            .partial_since
            .filter(|_| world.cables[cable].is_garbled)
        else {
            return;
        };
        let until = since + PROGRESS_TIMEOUT;
        if world.now < until {
            return self.rim.wake(until, world);
        }
        world.detach(cable, end_of(self.rim.side), CloseReason::Peer);
        let reason = CloseReason::Broken("it dribbles a frame".into());
        self.close(id, reason, world);
    }

    fn tell_finished(&mut self, world: &mut World) {
        if let Some(pool) = &mut self.rim.pool {
            pool.check(world);
            let (finished, changes) = (pool.take_finished(world), pool.take_changes());
            let due = self.rim.measure_at(self.role.awaited(), finished.len());
            if due.is_some_and(|at| at <= world.now) {
                let usage = self.rim.measure(world);
                let (slot, generation) = (0, 0);
                let id = ConnId { slot, generation };
                self.tell("measured", id, Event::Measured(usage), world);
            }
            for done in &finished {
                self.note("completed", done.conn, done.attempt.task, world);
            }
            let clock = self.rim.clock(world.now);
            self.with_sink(world, |role, deck| {
                role.handle_completed(&finished, clock, deck)
            });
            for (count, hung) in changes {
                let (slot, generation) = (u32::from(count), 0);
                let id = ConnId { slot, generation };
                self.tell("slots", id, Event::Slots { count, hung }, world);
            }
        }
        if let Some(count) = self.rim.take_input() {
            let (slot, generation) = (0, 0);
            let bytes = &vec![0; count][..];
            let event = Event::Input { bytes };
            self.tell("input", ConnId { slot, generation }, event, world);
        }
        let bytes = std::mem::take(&mut self.rim.written);
        if bytes > 0 {
            let (slot, generation) = (0, 0);
            let event = Event::Written { bytes };
            self.tell("written", ConnId { slot, generation }, event, world);
        }
        let count = std::mem::take(&mut self.rim.recorded);
        if count > 0 {
            world.ledger.records.told(count);
            let (slot, generation) = (0, 0);
            let event = Event::Recorded { count };
            self.tell("recorded", ConnId { slot, generation }, event, world);
        }
    }

    fn tell_signal(&mut self, world: &mut World) {
        if std::mem::take(&mut self.rim.interrupted) {
            let (slot, generation) = (0, 0);
            let id = ConnId { slot, generation };
            self.tell("interrupted", id, Event::Interrupted, world);
        }
    }

    fn fire_timers(&mut self, world: &mut World) -> bool {
        let now = self.rim.clock(world.now);
        let is_due = self.role.next_deadline().is_some_and(|at| at <= now);
        if is_due {
            self.with_sink(world, |role, deck| role.handle_timeout(now, deck));
            let next = self.role.next_deadline();
            oracle!(
                "deadline-advance",
                next.is_none_or(|at| at > now),
                "node {} has a deadline at {next:?} after those of {now} were handled",
                self.rim.node
            );
        }
        is_due
    }

    fn note(&mut self, what: &'static str, conn: ConnId, number: u64, world: &mut World) {
        self.rim.told += 1;
        let numbers = [u64::from(conn.slot), u64::from(conn.generation), number];
        world.trace.note(world.now, self.rim.node, what, numbers);
    }

    fn tell(&mut self, what: &'static str, conn: ConnId, event: Event<'_>, world: &mut World) {
        let number = match &event {
            Event::Sent { bytes, .. } | Event::Written { bytes } => *bytes as u64,
            Event::Frame { frame, .. } => label(frame).1,
            Event::Input { bytes } => bytes.len() as u64,
            Event::Recorded { count } => *count as u64,
            _ => 0,
        };
        self.note(what, conn, number, world);
        let clock = self.rim.clock(world.now);
        self.with_sink(world, |role, deck| role.handle(event, clock, deck));
    }

    fn with_sink(&mut self, world: &mut World, call: impl FnOnce(&mut R, &mut Deck<'_>)) {
        enter("role-assertion", world.now);
        let rim = &mut self.rim;
        call(&mut self.role, &mut Deck { rim, world });
        enter("simulator", world.now);
    }
}
