//! Limits of a whole upstream, counted over all workers.

use penstock_plan::UpstreamLimits;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// What there may be only so many of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limit {
    /// Open connections to its endpoints, unused ones included.
    Connections,
    /// Requests that wait in line, or for a connection to be made.
    Pending,
    /// Requests under way, from the choice of an endpoint to the last byte; a tunnel until it ends.
    Requests,
}

impl Limit {
    pub(crate) const ALL: [Limit; 3] = [Limit::Connections, Limit::Pending, Limit::Requests];

    /// The word for it, in the configuration as in metrics.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Limit::Connections => "connections",
            Limit::Pending => "pending",
            Limit::Requests => "requests",
        }
    }
}

/// What is counted of an upstream; it outlives a reload. One line for all workers, and so touched only where there is a limit.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    taken: [AtomicU32; Limit::ALL.len()],
    /// Counts up when a connection was refused: other workers give up those that they do not use.
    crowded: AtomicU32,
}

impl Counts {
    pub(crate) fn of(&self, limit: Limit) -> u32 {
        self.taken[limit as usize].load(Relaxed)
    }

    pub(crate) fn crowded(&self) -> u32 {
        self.crowded.load(Relaxed)
    }
}

/// The limits of an upstream under one plan.
#[derive(Debug)]
pub(crate) struct Circuit {
    counts: Arc<Counts>,
    most: [Option<u32>; Limit::ALL.len()],
}

/// One of a limited number of places, until it is dropped.
#[derive(Debug)]
pub(crate) struct Taken {
    counts: Arc<Counts>,
    limit: Limit,
}

/// There is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Full;

impl Circuit {
    /// `None` where nothing is limited.
    pub(crate) fn new(plan: &UpstreamLimits, counts: &Arc<Counts>) -> Option<Circuit> {
        let most = [plan.connections, plan.pending, plan.requests];
        most.iter().any(Option::is_some).then(|| Circuit { counts: Arc::clone(counts), most })
    }

    pub(crate) fn most(&self, limit: Limit) -> Option<u32> {
        self.most[limit as usize]
    }

    pub(crate) fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Take a place; `Ok(None)` where there is no such limit, and nothing is counted.
    pub(crate) fn enter(&self, limit: Limit) -> Result<Option<Taken>, Full> {
        let Some(most) = self.most(limit) else { return Ok(None) };
        let count = &self.counts.taken[limit as usize];
        match count.fetch_update(Relaxed, Relaxed, |taken| (taken < most).then_some(taken + 1)) {
            Ok(_) => Ok(Some(Taken { counts: Arc::clone(&self.counts), limit })),
            Err(_) => Err(Full),
        }
    }

    /// Ask all workers to give up connections that they do not use.
    pub(crate) fn ask_for_room(&self) {
        self.counts.crowded.fetch_add(1, Relaxed);
    }

    /// Whether a connection that is not needed now is better closed: all are taken, and whichever worker needs one next has none.
    pub(crate) fn is_short_of_connections(&self) -> bool {
        self.most(Limit::Connections).is_some_and(|most| self.counts.of(Limit::Connections) >= most)
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.counts.taken[self.limit as usize].fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(connections: Option<u32>, requests: Option<u32>) -> UpstreamLimits {
        UpstreamLimits {
            head: 1,
            fields: 1,
            interim: 1,
            streams: 1,
            idle_connections: 1,
            connections,
            pending: None,
            requests,
        }
    }

    #[test]
    fn a_place_is_taken_until_it_is_given_back() {
        let counts = Arc::default();
        let circuit = Circuit::new(&limits(Some(1), Some(2)), &counts).unwrap();
        let one = circuit.enter(Limit::Connections).unwrap();
        assert!(one.is_some() && circuit.is_short_of_connections());
        assert_eq!(circuit.enter(Limit::Connections).unwrap_err(), Full);
        assert!(circuit.enter(Limit::Requests).unwrap().is_some());
        drop(one);
        assert_eq!(Limit::ALL.map(|limit| counts.of(limit)), [0, 0, 0]);
        assert!(circuit.enter(Limit::Connections).is_ok() && !circuit.is_short_of_connections());
    }

    #[test]
    fn what_has_no_limit_is_not_counted() {
        let counts = Arc::default();
        assert!(Circuit::new(&limits(None, None), &counts).is_none());
        let circuit = Circuit::new(&limits(None, Some(1)), &counts).unwrap();
        assert!(circuit.enter(Limit::Pending).unwrap().is_none());
        assert!(!circuit.is_short_of_connections());
    }

    /// A plan that allows less than is taken refuses, and counts right when that is given back.
    #[test]
    fn counts_outlive_a_plan() {
        let counts = Arc::default();
        let before = Circuit::new(&limits(Some(2), None), &counts).unwrap();
        let taken = [before.enter(Limit::Connections), before.enter(Limit::Connections)];
        let after = Circuit::new(&limits(Some(1), None), &counts).unwrap();
        drop(before);
        assert!(after.enter(Limit::Connections).is_err());
        drop(taken);
        assert_eq!(counts.of(Limit::Connections), 0);
        assert!(after.enter(Limit::Connections).is_ok());
    }
}
