//! Read buffers of one worker, lent and given back: an idle connection holds none, a busy worker touches the same few.

use penstock_rules::http::{RequestHead, ResponseHead};
use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// A buffer for heads and small bodies.
pub(crate) const SMALL: usize = 16 * 1024;
/// A buffer for a body that is still coming after the first 64 KB.
pub(crate) const LARGE: usize = 64 * 1024;
/// What is staged for writing is put into memory of at most this size that is kept.
pub(crate) const STAGE: usize = 16 * 1024;
/// Memory of a head that is longer than this is not kept.
const LONG_HEAD: usize = 4 * 1024;
/// Buffers kept for the next borrower; more go back to the system.
const KEPT_SMALL: usize = 128;
const KEPT_LARGE: usize = 16;

/// Whether there is room behind `start..end`. Where there is none, what stands there moves to the front, which may make some.
#[inline]
pub(crate) fn has_room(buffer: &mut [u8], start: &mut usize, end: &mut usize) -> bool {
    if *end == buffer.len() && *start > 0 {
        buffer.copy_within(*start..*end, 0);
        (*start, *end) = (0, *end - *start);
    }
    *end < buffer.len()
}

/// A request and its response.
pub(crate) type Heads = (RequestHead, ResponseHead);

/// The free buffers of a worker.
#[derive(Default)]
pub(crate) struct Buffers {
    small: RefCell<Vec<Box<[u8]>>>,
    large: RefCell<Vec<Box<[u8]>>>,
    /// Empty ones that grow with what is staged in them.
    stages: RefCell<Vec<Vec<u8>>>,
    heads: RefCell<Vec<Heads>>,
    /// Bytes that may yet be taken from the system: charged before they are.
    room: Cell<u64>,
    /// Bytes that are lent.
    lent: Cell<u64>,
    /// Memory is short: nothing is kept, and long bodies go through small buffers.
    frugal: Cell<bool>,
    /// Whether one was lent since the last look, and whether since the last rest.
    used: Cell<bool>,
    worked: Cell<bool>,
}

impl Buffers {
    pub(crate) fn new() -> Rc<Buffers> {
        let buffers = Buffers::default();
        buffers.room.set(u64::MAX);
        Rc::new(buffers)
    }

    /// What may be taken until the next tick, and whether memory is short.
    pub(crate) fn allow(&self, room: u64, frugal: bool) {
        self.room.set(room);
        self.frugal.set(frugal);
        if frugal {
            self.discard();
        }
    }

    /// Look whether anything was lent since the last look. The first time that nothing was, after it had been, what is kept goes, and
    /// this says so.
    pub(crate) fn rest(&self) -> bool {
        if self.used.replace(false) {
            self.worked.set(true);
            return false;
        }
        let rests = self.worked.replace(false);
        if rests {
            self.discard();
        }
        rests
    }

    fn discard(&self) {
        self.small.take();
        self.large.take();
        self.stages.take();
        self.heads.take();
    }

    /// To read a request and its response into. What stands in them is of another exchange: both are filled anew, whole.
    pub(crate) fn heads(&self) -> Heads {
        self.heads.borrow_mut().pop().unwrap_or_default()
    }

    /// They are used no more.
    pub(crate) fn give_back_heads(&self, (mut request, mut response): Heads) {
        let mut heads = self.heads.borrow_mut();
        if heads.len() < KEPT_SMALL && !self.frugal.get() {
            request.clear();
            response.compose(0);
            request.fields.shrink(LONG_HEAD);
            response.fields.shrink(LONG_HEAD);
            heads.push((request, response));
        }
    }

    /// To stage in what is to be written.
    pub(crate) fn stage(&self) -> Vec<u8> {
        self.stages.borrow_mut().pop().unwrap_or_default()
    }

    /// It is used no more.
    pub(crate) fn give_back_stage(&self, mut stage: Vec<u8>) {
        let mut stages = self.stages.borrow_mut();
        if (1..=STAGE).contains(&stage.capacity()) && stages.len() < KEPT_SMALL && !self.frugal.get() {
            stage.clear();
            stages.push(stage);
        }
    }

    /// Whether more was taken than there was room for.
    pub(crate) fn is_overdrawn(&self) -> bool {
        self.room.get() == 0
    }

    /// Bytes that are lent now.
    pub(crate) fn lent(&self) -> u64 {
        self.lent.get()
    }

    /// Take so much of what is left until the next tick for what is no buffer of ours; false, and nothing taken, where there is not as
    /// much or memory is short.
    pub(crate) fn charge(&self, bytes: usize) -> bool {
        let room = self.room.get();
        let left = room.checked_sub(bytes as u64).filter(|_| !self.frugal.get());
        if let Some(left) = left {
            self.room.set(if room == u64::MAX { room } else { left });
        }
        left.is_some()
    }

    /// So much was taken for what is no buffer of ours, and could not be refused.
    pub(crate) fn spend(&self, bytes: usize) {
        // No limit stays none.
        if self.room.get() != u64::MAX {
            self.room.set(self.room.get().saturating_sub(bytes as u64));
        }
    }

    /// So much of it came back.
    pub(crate) fn regain(&self, bytes: usize) {
        if self.room.get() != u64::MAX {
            self.room.set(self.room.get().saturating_add(bytes as u64).min(u64::MAX - 1));
        }
    }

    /// A buffer of another length than those that are kept: for a head that is longer than they are.
    pub(crate) fn grown(&self, bytes: usize) -> Box<[u8]> {
        self.lend(bytes);
        self.take(bytes)
    }

    fn take(&self, bytes: usize) -> Box<[u8]> {
        self.spend(bytes);
        vec![0; bytes].into_boxed_slice()
    }

    /// A buffer for a body that is still coming after the first 64 KB.
    pub(crate) fn bulk(&self) -> Box<[u8]> {
        if self.frugal.get() || self.room.get() < LARGE as u64 { self.small() } else { self.large() }
    }

    pub(crate) fn small(&self) -> Box<[u8]> {
        self.lend(SMALL);
        self.small.borrow_mut().pop().unwrap_or_else(|| self.take(SMALL))
    }

    pub(crate) fn large(&self) -> Box<[u8]> {
        self.lend(LARGE);
        self.large.borrow_mut().pop().unwrap_or_else(|| self.take(LARGE))
    }

    fn lend(&self, bytes: usize) {
        self.used.set(true);
        self.lent.set(self.lent.get() + bytes as u64);
    }

    pub(crate) fn give_back(&self, buffer: Box<[u8]>) {
        let (list, kept) = match buffer.len() {
            SMALL => (&self.small, KEPT_SMALL),
            LARGE => (&self.large, KEPT_LARGE),
            _ => (&self.large, 0),
        };
        self.lent.set(self.lent.get().saturating_sub(buffer.len() as u64));
        let mut list = list.borrow_mut();
        if list.len() < kept && !self.frugal.get() {
            list.push(buffer);
        } else {
            self.regain(buffer.len());
        }
    }
}

/// A buffer on loan: it goes back when the loan ends.
pub(crate) struct Loan {
    home: Rc<Buffers>,
    pub(crate) buffer: Option<Box<[u8]>>,
}

impl Loan {
    pub(crate) fn new(home: Rc<Buffers>) -> Loan {
        Loan { home, buffer: None }
    }

    pub(crate) fn home(&self) -> &Buffers {
        &self.home
    }

    /// Give the buffer back now.
    pub(crate) fn end(&mut self) {
        if let Some(buffer) = self.buffer.take() {
            self.home.give_back(buffer);
        }
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_goes_when_nothing_was_lent_for_a_while() {
        let buffers = Buffers::new();
        assert!(!buffers.rest());
        buffers.give_back(buffers.small());
        buffers.give_back(buffers.large());
        for capacity in [0, 100, STAGE + 1] {
            buffers.give_back_stage(Vec::with_capacity(capacity));
        }
        let (mut request, response) = buffers.heads();
        request.fields.push("a", "of another");
        buffers.give_back_heads((request, response));
        assert!(buffers.heads.borrow().iter().all(|(request, _)| request.fields.is_empty()));
        assert!(!buffers.rest());
        let kept = || {
            let Buffers { small, large, stages, heads, .. } = &*buffers;
            [small.borrow().len(), large.borrow().len(), stages.borrow().len(), heads.borrow().len()]
        };
        assert_eq!(kept(), [1; 4]);
        assert!(buffers.rest());
        assert_eq!(kept(), [0; 4]);
        assert!(!buffers.rest());
    }

    #[test]
    fn what_is_taken_is_charged_and_what_comes_back_is_room_again() {
        let buffers = Buffers::new();
        assert!(buffers.charge(usize::MAX), "no limit");
        buffers.allow(300_000, false);
        assert!(buffers.charge(100_000) && !buffers.charge(200_001));
        let long = buffers.grown(150_000);
        assert_eq!((buffers.lent(), buffers.charge(50_001)), (150_000, false));
        buffers.give_back(long);
        assert_eq!((buffers.lent(), buffers.charge(200_000), buffers.is_overdrawn()), (0, true, true));
        buffers.allow(300_000, true);
        assert!(!buffers.charge(1), "memory is short");
    }

    #[test]
    fn what_others_keep_is_spent_until_it_comes_back() {
        let buffers = Buffers::new();
        buffers.spend(usize::MAX);
        assert!(!buffers.is_overdrawn(), "no limit");
        buffers.allow(100_000, false);
        buffers.spend(99_999);
        assert!(!buffers.is_overdrawn());
        buffers.spend(2);
        assert!(buffers.is_overdrawn() && !buffers.charge(1));
        buffers.regain(50_000);
        assert!(!buffers.is_overdrawn() && buffers.charge(50_000) && !buffers.charge(1));
    }
}
