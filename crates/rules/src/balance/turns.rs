//! Whose turn it is, where nothing else decides.

use super::Loads;
use std::cell::Cell;

/// Turns in proportion to weight: start-time fair queueing (Goyal, Vin and Cheng, 1996), with a bound on what can be caught up.
#[derive(Debug)]
pub(super) struct Turns {
    endpoints: Box<[Endpoint]>,
    /// Where the turns have come to.
    front: Cell<f64>,
}

#[derive(Debug)]
struct Endpoint {
    /// Weight over mean weight.
    share: f64,
    /// Grows by 1/share with every pick.
    turn: Cell<f64>,
}

/// Turns that an endpoint may have missed and still catch up. Without a bound, one that comes back after an hour would get
/// every request for long.
const CATCH_UP: f64 = 16.0;

impl Turns {
    pub(super) fn new(weights: &[u32]) -> Turns {
        let total: f64 = weights.iter().map(|weight| f64::from(*weight)).sum();
        let taking = weights.iter().filter(|weight| **weight > 0).count();
        let mean = total / taking.max(1) as f64;
        let endpoint =
            |weight: &u32| Endpoint { share: (f64::from(*weight) / mean).max(f64::MIN_POSITIVE), turn: Cell::new(0.0) };
        Turns { endpoints: weights.iter().map(endpoint).collect(), front: Cell::new(0.0) }
    }

    pub(super) fn len(&self) -> usize {
        self.endpoints.len()
    }

    /// How long the endpoint's queue is for its weight: in-flight requests over its share, and the one to come. (Weight stands at
    /// the in-flight requests alone: an idle endpoint of twice the weight gets twice the turns already.)
    #[inline]
    pub(super) fn queue(&self, endpoint: usize, loads: &impl Loads) -> f64 {
        let share = self.endpoints.get(endpoint).map_or(1.0, |endpoint| endpoint.share);
        f64::from(loads.in_flight(endpoint)) / share + 1.0
    }

    #[inline]
    pub(super) fn turn(&self, endpoint: usize) -> f64 {
        self.endpoints.get(endpoint).map_or(0.0, |endpoint| endpoint.turn.get())
    }

    /// The endpoint had its turn.
    #[inline]
    pub(super) fn advance(&self, picked: usize) {
        let Some(endpoint) = self.endpoints.get(picked) else { return };
        let start = endpoint.turn.get().max(self.front.get() - CATCH_UP);
        endpoint.turn.set(start + 1.0 / endpoint.share);
        self.front.set(self.front.get().max(start));
    }

    /// Of the open endpoints, the one of the least cost; of several, the one whose turn is next.
    pub(super) fn least(&self, open: &impl Fn(usize) -> bool, cost: impl Fn(usize) -> f64) -> Option<usize> {
        let costed = (0..self.endpoints.len()).filter(|at| open(*at)).map(|at| (at, cost(at)));
        let (picked, _) = costed.min_by(|(left, left_cost), (right, right_cost)| {
            left_cost.total_cmp(right_cost).then_with(|| self.turn(*left).total_cmp(&self.turn(*right)))
        })?;
        self.advance(picked);
        Some(picked)
    }
}
