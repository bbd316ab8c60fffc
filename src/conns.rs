//! What a role knows of each connection.
//!
//! What it is: the one look-up by [`ConnId`] that every path uses and that strangers fail. What it is
//! not: the reactor's slab, which owns the sockets.
//!
//! Invariant: an entry answers only to the generation it was inserted under.

use crate::role::ConnId;

/// Values by connection.
#[derive(Debug)]
pub struct Conns<T>(Vec<Option<(u32, T)>>);

impl<T> Conns<T> {
    /// None.
    pub fn new() -> Conns<T> {
        Conns(Vec::new())
    }

    /// Adds a connection.
    ///
    /// # Panics
    /// If its slot is taken: the driver opened it twice.
    pub fn insert(&mut self, conn: ConnId, value: T) {
        let slot = conn.slot as usize;
        if slot >= self.0.len() {
            self.0.resize_with(slot + 1, || None);
        }
        assert!(self.0[slot].is_none(), "connection {conn} opened twice");
        self.0[slot] = Some((conn.generation, value));
    }

    /// The value of a connection, unless it is gone.
    #[inline(always)]
    pub fn get_mut(&mut self, conn: ConnId) -> Option<&mut T> {
        match self.0.get_mut(conn.slot as usize) {
            Some(Some((generation, value))) if *generation == conn.generation => Some(value),
            _ => None,
        }
    }

    /// Removes a connection; `None` if it is gone already.
    pub fn remove(&mut self, conn: ConnId) -> Option<T> {
        self.get_mut(conn)?;
        self.0[conn.slot as usize].take().map(|(_, value)| value)
    }

    /// All of them, by slot.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (ConnId, &mut T)> {
        self.0.iter_mut().enumerate().filter_map(|(slot, entry)| {
            let (generation, value) = entry.as_mut()?;
            let conn = ConnId {
                slot: slot as u32,
                generation: *generation,
            };
            Some((conn, value))
        })
    }

    /// Their values, by slot.
    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.0.iter().flatten().map(|(_, value)| value)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.values().count()
    }
}

impl<T> Default for Conns<T> {
    fn default() -> Self {
        Conns::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_find_nothing() {
        let mut conns = Conns::new();
        let old = ConnId {
            slot: 2,
            generation: 7,
        };
        let new = ConnId {
            slot: 2,
            generation: 8,
        };
        conns.insert(old, "old");
        assert_eq!(conns.remove(old), Some("old"));
        conns.insert(new, "new");
        assert_eq!(conns.get_mut(old), None);
        assert_eq!(conns.remove(old), None);
        assert_eq!(conns.get_mut(new), Some(&mut "new"));
        assert_eq!(conns.count(), 1);
    }
}
