//! The endpoint that will probably answer first: the least of all by in-flight requests and peak-EWMA latency.

use super::turns::Turns;
use super::{ALIKE, Loads};
use std::time::Instant;

/// The least queue × latency of all endpoints ([`Turns::queue`]). A latency within a factor of the least counts as the least, and
/// so does one that was never measured: noise would otherwise send low load to one endpoint alone, and a new one would
/// never be tried.
#[derive(Debug)]
pub(super) struct PeakEwma(Turns);

impl PeakEwma {
    pub(super) fn new(weights: &[u32]) -> PeakEwma {
        PeakEwma(Turns::new(weights))
    }

    pub(super) fn pick(&self, open: &impl Fn(usize) -> bool, loads: &impl Loads, now: Instant) -> Option<usize> {
        let latencies = (0..self.0.len()).filter(|at| open(*at)).filter_map(|at| loads.latency(at, now));
        let least = latencies.min_by(f32::total_cmp).unwrap_or(1.0);
        self.0.least(open, |endpoint| {
            let latency = loads.latency(endpoint, now).filter(|latency| *latency > least * ALIKE);
            self.0.queue(endpoint, loads) * f64::from(latency.unwrap_or(least))
        })
    }
}
