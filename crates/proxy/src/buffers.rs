//! Read buffers of one worker, lent and given back: an idle connection holds none, a busy worker touches the same few.

use std::cell::RefCell;
use std::rc::Rc;

/// A buffer for heads and small bodies.
pub(crate) const SMALL: usize = 16 * 1024;
/// A buffer for a body that is still coming after the first 64 KB.
pub(crate) const LARGE: usize = 64 * 1024;
/// Buffers kept for the next borrower; more go back to the system.
const KEPT_SMALL: usize = 128;
const KEPT_LARGE: usize = 16;

/// The free buffers of a worker.
#[derive(Default)]
pub(crate) struct Buffers {
    small: RefCell<Vec<Box<[u8]>>>,
    large: RefCell<Vec<Box<[u8]>>>,
}

impl Buffers {
    pub(crate) fn new() -> Rc<Buffers> {
        Rc::default()
    }

    pub(crate) fn small(&self) -> Box<[u8]> {
        self.small.borrow_mut().pop().unwrap_or_else(|| vec![0; SMALL].into_boxed_slice())
    }

    pub(crate) fn large(&self) -> Box<[u8]> {
        self.large.borrow_mut().pop().unwrap_or_else(|| vec![0; LARGE].into_boxed_slice())
    }

    pub(crate) fn give_back(&self, buffer: Box<[u8]>) {
        let (list, kept) = match buffer.len() {
            SMALL => (&self.small, KEPT_SMALL),
            LARGE => (&self.large, KEPT_LARGE),
            _ => return,
        };
        let mut list = list.borrow_mut();
        if list.len() < kept {
            list.push(buffer);
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
