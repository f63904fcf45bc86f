//! Pipes of the system: what bulk goes through from one socket to another without being copied into this process (splice(2)).

use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::pipe::{self, PipeFlags, SpliceFlags};
use std::cell::{Cell, RefCell};
use std::io;
use tokio::io::Interest;
use tokio::net::TcpStream;

/// What a pipe holds, where the system lets it: fewer calls than with its 64 KB.
const CAPACITY: usize = 256 * 1024;
/// Unused pipes that a worker keeps.
const KEPT: usize = 8;

/// A pipe, for one direction of one session while something is in it.
#[derive(Debug)]
pub(crate) struct SystemPipe {
    end: OwnedFd,
    start: OwnedFd,
    /// Bytes that are in it.
    pub(crate) held: usize,
}

impl SystemPipe {
    fn open() -> io::Result<SystemPipe> {
        let (end, start) = pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        // One that stays small works as well.
        let _ = pipe::fcntl_setpipe_size(&start, CAPACITY);
        Ok(SystemPipe { end, start, held: 0 })
    }

    /// Take in what has come to `from`; 0 is its end. Only into an empty pipe: a full one cannot be told from a silent socket.
    ///
    /// # Errors
    /// What the system says; `WouldBlock`: nothing has come.
    pub(crate) fn fill(&mut self, from: &TcpStream) -> io::Result<usize> {
        let count = from.try_io(Interest::READABLE, || {
            uninterrupted(|| {
                pipe::splice(from, None, &self.start, None, CAPACITY, SpliceFlags::NONBLOCK | SpliceFlags::MOVE)
            })
        })?;
        self.held += count;
        Ok(count)
    }

    /// Let go to `to` what it takes.
    ///
    /// # Errors
    /// What the system says; `WouldBlock`: it takes nothing now.
    pub(crate) fn empty(&mut self, to: &TcpStream) -> io::Result<usize> {
        let count = to.try_io(Interest::WRITABLE, || {
            uninterrupted(|| {
                pipe::splice(&self.end, None, to, None, self.held, SpliceFlags::NONBLOCK | SpliceFlags::MOVE)
            })
        })?;
        self.held = self.held.saturating_sub(count);
        Ok(count)
    }
}

/// Whether the system does not splice such sockets at all.
pub(crate) fn is_unsupported(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::PERM))
}

fn uninterrupted(call: impl Fn() -> rustix::io::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            // As in `clear.rs` (safety.md 177).
            Err(Errno::INTR) => {}
            done => return Ok(done?),
        }
    }
}

/// The pipes of a worker: those that are lent and those that are kept.
#[derive(Debug, Default)]
pub(crate) struct SystemPipes {
    kept: RefCell<Vec<SystemPipe>>,
    open: Cell<u64>,
    /// How many may be.
    most: Cell<u64>,
    /// Whether one was lent since `rest` was asked.
    used: Cell<bool>,
}

impl SystemPipes {
    /// Have so many open at most from now on, as descriptors and memory allow.
    pub(crate) fn allow(&self, most: u64) {
        self.most.set(most);
    }

    /// An empty pipe; `None`: as many as may be are open, or the system has none.
    pub(crate) fn lend(&self) -> Option<SystemPipe> {
        self.used.set(true);
        if let Some(kept) = self.kept.borrow_mut().pop() {
            return Some(kept);
        }
        if self.open.get() >= self.most.get() {
            return None;
        }
        let opened = SystemPipe::open().ok()?;
        self.open.set(self.open.get() + 1);
        Some(opened)
    }

    /// Take one back. What is still in it is lost, and it with that.
    pub(crate) fn give_back(&self, pipe: SystemPipe) {
        let mut kept = self.kept.borrow_mut();
        if pipe.held == 0 && kept.len() < KEPT && self.open.get() <= self.most.get() {
            kept.push(pipe);
        } else {
            self.open.set(self.open.get().saturating_sub(1));
        }
    }

    /// Pipes that are open, each of two descriptors.
    #[cfg(test)]
    pub(crate) fn open(&self) -> u64 {
        self.open.get()
    }

    /// Close what was not needed since it was asked last.
    pub(crate) fn rest(&self) {
        if !self.used.replace(false) {
            let unused = self.kept.take().len() as u64;
            self.open.set(self.open.get().saturating_sub(unused));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_only_so_many_and_what_is_not_needed_is_closed() {
        let pipes = SystemPipes::default();
        assert!(pipes.lend().is_none());
        pipes.allow(2);
        let lent: Vec<_> = (0..3).filter_map(|_| pipes.lend()).collect();
        assert_eq!((lent.len(), pipes.open()), (2, 2));
        lent.into_iter().for_each(|pipe| pipes.give_back(pipe));
        pipes.rest();
        let lent = pipes.lend();
        assert_eq!((lent.is_some(), pipes.open()), (true, 2), "one that was kept");
        pipes.rest();
        pipes.rest();
        assert_eq!(pipes.open(), 1, "that is still lent");
        pipes.allow(0);
        lent.into_iter().for_each(|pipe| pipes.give_back(pipe));
        assert_eq!(pipes.open(), 0, "there may be none any more");
    }

    #[test]
    fn one_with_something_in_it_is_not_lent_again() {
        let pipes = SystemPipes::default();
        pipes.allow(1);
        let Some(mut pipe) = pipes.lend() else { panic!("the system has no pipe") };
        pipe.held = 1;
        pipes.give_back(pipe);
        assert_eq!(pipes.open(), 0);
    }
}
