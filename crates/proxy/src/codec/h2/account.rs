//! What is kept of the bodies on one connection, charged to the memory that its worker may take. Our own side of it says how much
//! that is ([`Account::keep`]); the `h2` crate, which speaks to endpoints, has buffers of its own and tells of none.

use crate::buffers::Buffers;
use std::cell::Cell;
use std::rc::Rc;

/// The account of one connection. It is exact between two looks at the process's memory; what is thrown away with its stream is
/// seen by the next.
pub(super) struct Account {
    buffers: Rc<Buffers>,
    /// Bytes of what is kept for the connection, whatever is on it: buffers, tables.
    codec: usize,
    /// Bytes of bodies that the socket has not taken.
    unsent: Cell<usize>,
}

impl Account {
    pub(super) fn open(buffers: &Rc<Buffers>, codec: usize) -> Account {
        buffers.spend(codec);
        Account { buffers: Rc::clone(buffers), codec, unsent: Cell::new(0) }
    }

    /// So much is kept for bodies, in all.
    pub(super) fn keep(&self, bytes: usize) {
        let before = self.unsent.replace(bytes);
        match bytes.checked_sub(before) {
            Some(0) => {}
            Some(more) => self.buffers.spend(more),
            None => self.buffers.regain(before - bytes),
        }
    }

    /// So much was read, and is the crate's.
    pub(super) fn received(&self, bytes: usize) {
        self.buffers.spend(bytes);
    }

    /// So much of it is used up.
    pub(super) fn used_up(&self, bytes: usize) {
        self.buffers.regain(bytes);
    }

    /// The crate was given so much of a body to send.
    pub(super) fn staged(&self, bytes: usize) {
        self.unsent.set(self.unsent.get().saturating_add(bytes));
        self.buffers.spend(bytes);
    }

    /// The socket took so much, of which bodies are a part.
    pub(super) fn written(&self, bytes: usize) {
        let bodies = bytes.min(self.unsent.get());
        self.unsent.set(self.unsent.get() - bodies);
        self.buffers.regain(bodies);
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.buffers.regain(self.codec + self.unsent.get());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CODEC: usize = 32 * 1024;

    /// How much is left of a million.
    fn left(buffers: &Buffers) -> usize {
        let left = (0..=1_000_000).rev().find(|&bytes| buffers.charge(bytes));
        buffers.regain(left.unwrap_or_default());
        left.unwrap_or_default()
    }

    #[test]
    fn what_the_crate_keeps_is_charged_until_it_goes() {
        let buffers = Buffers::new();
        buffers.allow(1_000_000, false);
        let account = Account::open(&buffers, CODEC);
        assert_eq!(left(&buffers), 1_000_000 - CODEC);
        account.received(10_000);
        account.staged(20_000);
        assert_eq!(left(&buffers), 970_000 - CODEC);
        account.used_up(4_000);
        account.written(5_000);
        assert_eq!(left(&buffers), 979_000 - CODEC);
        // Heads and the like were never charged.
        account.written(50_000);
        assert_eq!(left(&buffers), 994_000 - CODEC);
        account.used_up(6_000);
        account.staged(30_000);
        drop(account);
        assert_eq!(left(&buffers), 1_000_000);
    }

    #[test]
    fn what_we_keep_ourselves_is_charged_as_it_is_told() {
        let buffers = Buffers::new();
        buffers.allow(1_000_000, false);
        let account = Account::open(&buffers, CODEC);
        for (kept, room) in [(30_000, 970_000), (30_000, 970_000), (10_000, 990_000), (0, 1_000_000), (7, 999_993)] {
            account.keep(kept);
            assert_eq!(left(&buffers), room - CODEC);
        }
        drop(account);
        assert_eq!(left(&buffers), 1_000_000);
    }

    #[test]
    fn more_than_there_is_leaves_no_room_for_new_requests() {
        let buffers = Buffers::new();
        buffers.allow(100_000, false);
        let account = Account::open(&buffers, CODEC);
        account.received(40_000);
        assert!(!buffers.is_overdrawn());
        account.staged(40_000);
        assert!(buffers.is_overdrawn());
        account.written(40_000);
        assert!(!buffers.is_overdrawn());
    }
}
