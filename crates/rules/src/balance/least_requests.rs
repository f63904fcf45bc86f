//! The endpoint with the fewest requests in flight.

use super::Loads;
use super::turns::Turns;

/// The least in-flight requests for its weight, of all endpoints; where several have as few, the one whose turn it is, so that an
/// idle upstream is used in proportion to the weights.
#[derive(Debug)]
pub(super) struct LeastRequests(Turns);

impl LeastRequests {
    pub(super) fn new(weights: &[u32]) -> LeastRequests {
        LeastRequests(Turns::new(weights))
    }

    pub(super) fn pick(&self, open: &impl Fn(usize) -> bool, loads: &impl Loads) -> Option<usize> {
        self.0.least(open, |endpoint| self.0.queue(endpoint, loads))
    }
}
