//! The calls of one add-on: which run, which wait, and which found no room.
//!
//! A call runs from when it is taken to when it is answered, also where nobody waits for the answer any more: a function that
//! hangs keeps its place, so no more of them run than allowed, and while all places are lost that way the next call fails at once.

use penstock_plan::Hook;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The line before one add-on. `C` is what it takes to make the call.
#[derive(Debug)]
pub struct Line<C> {
    most_running: usize,
    most_waiting: usize,
    next: u64,
    waiting: VecDeque<(u64, C)>,
    running: Vec<Running>,
}

#[derive(Clone, Copy, Debug)]
struct Running {
    id: u64,
    hook: Hook,
    since: Instant,
    /// Nobody waits for it any more.
    late: bool,
}

/// Why there is no room for a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// As many wait as may.
    Full,
    /// Every call that may run does, and is late; the oldest is of this hook and runs this long.
    Stuck(Hook, Duration),
}

/// What became of a call that nobody waits for any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// It never began, and never will.
    Unbegun,
    /// It runs on.
    Running,
    /// It had been answered.
    Answered,
}

impl<C> Line<C> {
    /// A line of which so many run and so many wait.
    pub fn new(running: u32, waiting: u32) -> Line<C> {
        Line {
            most_running: running.max(1) as usize,
            most_waiting: waiting as usize,
            next: 0,
            waiting: VecDeque::new(),
            running: Vec::new(),
        }
    }

    /// Let a call wait for its turn; its number.
    ///
    /// # Errors
    /// There is no room.
    pub fn put(&mut self, call: C, now: Instant) -> Result<u64, Refusal> {
        let oldest = self.running.iter().filter(|call| call.late).min_by_key(|call| call.since);
        if let Some(oldest) = oldest
            && self.late() >= self.most_running
        {
            return Err(Refusal::Stuck(oldest.hook, now.saturating_duration_since(oldest.since)));
        }
        let free = self.most_running.saturating_sub(self.running.len());
        if self.waiting.len() >= self.most_waiting.saturating_add(free) {
            return Err(Refusal::Full);
        }
        self.next += 1;
        self.waiting.push_back((self.next, call));
        Ok(self.next)
    }

    /// Begin the call that waits longest, if one more may run. `hook` says which it is of.
    pub fn take(&mut self, hook: impl FnOnce(&C) -> Hook, now: Instant) -> Option<(u64, C)> {
        if self.running.len() >= self.most_running {
            return None;
        }
        let (id, call) = self.waiting.pop_front()?;
        self.running.push(Running { id, hook: hook(&call), since: now, late: false });
        Some((id, call))
    }

    /// The call has ended. Whether somebody waited for it still; if not, how long it ran.
    pub fn end(&mut self, id: u64, now: Instant) -> Option<Duration> {
        let at = self.running.iter().position(|call| call.id == id)?;
        let call = self.running.swap_remove(at);
        call.late.then(|| now.saturating_duration_since(call.since))
    }

    /// Nobody waits for this call any more.
    pub fn leave(&mut self, id: u64) -> Left {
        if let Some(call) = self.running.iter_mut().find(|call| call.id == id) {
            call.late = true;
            return Left::Running;
        }
        // Calls of one add-on have one timeout: who leaves is mostly the first.
        match self.waiting.iter().position(|(waiting, _)| *waiting == id) {
            Some(at) => {
                self.waiting.remove(at);
                Left::Unbegun
            }
            None => Left::Answered,
        }
    }

    /// Forget the calls that wait.
    pub fn clear(&mut self) {
        self.waiting.clear();
    }

    /// Calls that wait.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Calls that run.
    pub fn running(&self) -> usize {
        self.running.len()
    }

    /// Those of them that nobody waits for any more.
    pub fn late(&self) -> usize {
        self.running.iter().filter(|call| call.late).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hook(_: &&str) -> Hook {
        Hook::RequestHeaders
    }

    #[test]
    fn calls_run_in_order_and_no_more_than_allowed() {
        let (mut line, now) = (Line::new(1, 1), Instant::now());
        line.put("a", now).unwrap();
        line.put("b", now).unwrap();
        assert_eq!(line.put("c", now), Err(Refusal::Full));
        let (first, call) = line.take(hook, now).unwrap();
        assert_eq!(call, "a");
        assert!(line.take(hook, now).is_none());
        assert_eq!(line.put("c", now), Err(Refusal::Full));
        assert_eq!(line.end(first, now), None);
        assert_eq!(line.take(hook, now).unwrap().1, "b");
    }

    #[test]
    fn who_leaves_before_its_turn_never_begins() {
        let (mut line, now) = (Line::new(1, 4), Instant::now());
        let first = line.put("a", now).unwrap();
        line.put("b", now).unwrap();
        assert_eq!(line.leave(first), Left::Unbegun);
        assert_eq!(line.take(hook, now).unwrap().1, "b");
        assert_eq!(line.leave(first), Left::Answered);
    }

    #[test]
    fn a_line_whose_calls_all_hang_refuses_at_once_until_one_ends() {
        let (mut line, now) = (Line::new(2, 8), Instant::now());
        let ids: Vec<u64> = ["a", "b"].map(|call| line.put(call, now).unwrap()).into();
        line.take(hook, now).unwrap();
        line.take(hook, now).unwrap();
        assert_eq!(line.leave(ids[0]), Left::Running);
        assert!(line.put("c", now).is_ok(), "one of the two may still end in time");
        assert_eq!(line.leave(ids[1]), Left::Running);
        assert_eq!((line.running(), line.late(), line.waiting()), (2, 2, 1));
        assert!(matches!(line.put("d", now), Err(Refusal::Stuck(..))));
        line.end(ids[1], now);
        assert!(line.put("d", now).is_ok());
    }

    #[test]
    fn lateness_is_told_when_a_call_ends() {
        let (mut line, now) = (Line::new(1, 8), Instant::now());
        let later = now + Duration::from_secs(3);
        let id = line.put("a", now).unwrap();
        line.take(hook, now).unwrap();
        line.leave(id);
        assert_eq!(line.put("b", later), Err(Refusal::Stuck(Hook::RequestHeaders, Duration::from_secs(3))));
        assert_eq!(line.end(id, later), Some(Duration::from_secs(3)));
        assert!(line.put("b", later).is_ok());
        assert_eq!(line.end(id, later), None);
    }
}
