//! The better of two endpoints picked at random (M. Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing",
//! 2001), judged by in-flight requests and peak-EWMA latency.

use super::lottery::{Lottery, mixed};
use super::turns::Turns;
use super::{ALIKE, Draw, Loads};
use std::time::Instant;

/// Power of two choices. Endpoints are drawn in proportion to their weights; of two, the one with the lower
/// queue × latency wins ([`Turns::queue`]). Latencies that are alike count as equal, and where queues are equal, too, the one
/// whose turn it is wins: noise in latencies would spread low load unevenly.
#[derive(Debug)]
pub(super) struct P2c {
    lottery: Lottery,
    turns: Turns,
}

impl P2c {
    pub(super) fn new(weights: &[u32]) -> P2c {
        P2c { lottery: Lottery::new(weights), turns: Turns::new(weights) }
    }

    #[inline]
    pub(super) fn pick(&self, open: &impl Fn(usize) -> bool, loads: &impl Loads, draw: &Draw) -> Option<usize> {
        let Draw { random, now, .. } = *draw;
        let (first, second) = self.lottery.two(random)?;
        let picked = match second {
            Some(second) if open(first) && open(second) => self.better(first, second, loads, now),
            // Anew among those that are open: passing to a neighbour would give the neighbour twice its share.
            _ => match self.two_open(open, mixed(random))? {
                (first, Some(second)) => self.better(first, second, loads, now),
                (first, None) => first,
            },
        };
        self.turns.advance(picked);
        Some(picked)
    }

    fn two_open(&self, open: &impl Fn(usize) -> bool, random: u64) -> Option<(usize, Option<usize>)> {
        let first = self.lottery.one_open(open, random >> 32)?;
        Some((first, self.lottery.one_open(&|endpoint| endpoint != first && open(endpoint), random)))
    }

    fn better(&self, first: usize, second: usize, loads: &impl Loads, now: Instant) -> usize {
        let (left, right) = (self.turns.queue(first, loads), self.turns.queue(second, loads));
        let order = match (loads.latency(first, now), loads.latency(second, now)) {
            (Some(of_left), Some(of_right)) if of_left * ALIKE < of_right || of_right * ALIKE < of_left => {
                (left * f64::from(of_left)).total_cmp(&(right * f64::from(of_right)))
            }
            // Against one that was never measured, too, only the queue counts.
            _ => left.total_cmp(&right),
        };
        let order = order.then_with(|| self.turns.turn(first).total_cmp(&self.turns.turn(second)));
        if order.is_le() { first } else { second }
    }
}
