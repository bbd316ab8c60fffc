//! What a role's answers do at once: mostly append to buffers.
//!
//! What it is: the reactor's [`Sink`]. Frames are encoded straight into the connection's outbox;
//! everything else is noted for the end of the turn. What it is not: a system call, except that
//! output is handed to its thread, and input asked for.
//!
//! Invariant: nothing here fails or blocks, and nothing is done twice.

use std::iter;
use std::sync::Arc;

use slab::Slab;

use super::connection::{Connection, Stage};
use crate::frame::{Frame, Outbox, Task};
use crate::input::Input;
use crate::kernel::Kernel;
use crate::lanes::Batch;
use crate::output::Output;
use crate::payload::Bytes;
use crate::pool::Command;
use crate::role::{Attempt, ConnId, Exit, Line, Sink, Span};
use crate::time::Duration;

/// What a turn has noted for its end.
#[derive(Default)]
pub(super) struct Notes {
    pub dials: Vec<u32>,
    /// Slots with something to write, or to close.
    pub write_list: Vec<usize>,
    pub pool: Vec<Command>,
    /// Of an earlier submission, for the next.
    pub spare: Batch,
    /// For the journal, and how many they are.
    pub records: Vec<u8>,
    pub records_count: usize,
    /// For the trace.
    pub spans: Vec<Span>,
    pub exit: Option<Exit>,
}

/// The sink of one call into the role.
pub(super) struct Outlet<'a> {
    pub conns: &'a mut Slab<Connection>,
    pub notes: &'a mut Notes,
    pub input: Option<&'a Input>,
    pub output: Option<&'a Output>,
}

impl Outlet<'_> {
    /// The connection, if it lives and the role has not closed it; it will be written to.
    #[inline(always)]
    fn dirty_conn(&mut self, conn: ConnId) -> Option<&mut Connection> {
        let slot = conn.slot as usize;
        let connection = self.conns.get_mut(slot)?;
        if connection.generation != conn.generation || !connection.is_open() {
            return None;
        }
        if !std::mem::replace(&mut connection.in_write_list, true) {
            self.notes.write_list.push(slot);
        }
        Some(connection)
    }
}

impl Line for Option<&mut Outbox> {
    #[inline(always)]
    fn send(&mut self, frame: Frame<'_>) {
        if let Some(outbox) = self {
            outbox.push(&frame);
        }
    }
}

impl Sink for Outlet<'_> {
    fn dial(&mut self, dial: u32) {
        self.notes.dials.push(dial);
    }

    #[inline(always)]
    fn send(&mut self, conn: ConnId, frame: Frame<'_>) {
        // A connection that broke in this turn takes nothing; its `Closed` is on the way.
        if let Some(connection) = self.dirty_conn(conn) {
            connection.outbox.push(&frame);
        }
    }

    #[inline(always)]
    fn line(&mut self, conn: ConnId) -> impl Line {
        self.dirty_conn(conn)
            .map(|connection| &mut connection.outbox)
    }

    fn close(&mut self, conn: ConnId) {
        if let Some(connection) = self.dirty_conn(conn) {
            connection.stage = Stage::Closing {
                is_told: false,
                is_shut: false,
            };
        }
    }

    fn prepare(&mut self, conn: ConnId, kernel: Arc<dyn Kernel>, timeout: Option<Duration>) {
        self.notes
            .pool
            .push(Command::Prepare(conn, kernel, timeout));
    }

    #[inline(always)]
    fn submit(&mut self, conn: ConnId, attempt: Attempt, input: Bytes<'_>) {
        self.submit_all(conn, iter::once(Task { attempt, input }));
    }

    #[inline(always)]
    fn submit_all<'a>(&mut self, conn: ConnId, mut tasks: impl Iterator<Item = Task<'a>>) {
        let Some(first) = tasks.next() else {
            return;
        };
        let notes = &mut *self.notes;
        if !matches!(notes.pool.last(), Some(Command::Submit(last, _)) if *last == conn) {
            let batch = std::mem::take(&mut notes.spare);
            notes.pool.push(Command::Submit(conn, batch));
        }
        let Some(Command::Submit(_, batch)) = notes.pool.last_mut() else {
            unreachable!("it was just added if it was not there");
        };
        batch.push().set(conn, first);
        for task in tasks {
            batch.push().set(conn, task);
        }
    }

    fn revoke(&mut self, conn: ConnId) {
        self.notes.pool.push(Command::Revoke(conn));
    }

    fn recall(&mut self, conn: ConnId) {
        self.notes.pool.push(Command::Recall(conn));
    }

    fn cancel(&mut self, conn: ConnId, attempt: Attempt, running: bool) {
        let command = Command::Cancel(conn, attempt, running);
        self.notes.pool.push(command);
    }

    fn pause(&mut self, conn: ConnId, paused: bool) {
        self.notes.pool.push(Command::Pause(conn, paused));
    }

    fn record(&mut self, records: &[u8], count: usize) {
        self.notes.records.extend_from_slice(records);
        self.notes.records_count += count;
    }

    fn read(&mut self) {
        // A job that has none is fed by who drives it.
        if let Some(input) = self.input {
            input.ask();
        }
    }

    fn write(&mut self, bytes: &[u8]) {
        let output = self.output.expect("a role that writes has an output");
        output.write(bytes);
    }

    fn trace(&mut self, span: Span) {
        self.notes.spans.push(span);
    }

    fn exit(&mut self, exit: Exit) {
        self.notes.exit = Some(exit);
    }
}
