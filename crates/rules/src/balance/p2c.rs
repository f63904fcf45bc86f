//! The better of two endpoints picked at random (M. Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing",
//! 2001), judged by in-flight requests and peak-EWMA latency.

use super::Loads;
use std::cell::Cell;
use std::time::Instant;

/// Power of two choices. Endpoints are drawn in proportion to their weights; of two, the one with the lower
/// `(in-flight / share + 1) × latency` wins, where `share` is the weight over the mean weight. (Weight stands at the in-flight
/// requests alone: an idle endpoint of twice the weight is drawn twice as often already.) Latencies that are alike count as equal,
/// and where queues are equal, too, the one whose turn it is wins: noise in latencies would spread low load unevenly.
#[derive(Debug)]
pub(super) struct P2c {
    endpoints: Box<[Endpoint]>,
    total: u32,
    /// Where the turns have come to.
    front: Cell<f64>,
}

#[derive(Debug)]
struct Endpoint {
    weight: u32,
    /// Sum of the weights before it.
    before: u32,
    /// Weight over mean weight.
    share: f64,
    /// Grows by 1/share with every pick, so that turns come in proportion to weight.
    turn: Cell<f64>,
}

/// Latencies within this factor say nothing: the peaks of equal endpoints differ by as much.
const ALIKE: f32 = 2.0;
/// Turns that an endpoint may have missed and still catch up. Without a bound, one that comes back after an hour would get
/// every request for long.
const CATCH_UP: f64 = 16.0;

impl P2c {
    pub(super) fn new(weights: &[u16]) -> P2c {
        let total: u32 = weights.iter().map(|weight| u32::from(*weight)).sum();
        let taking = weights.iter().filter(|weight| **weight > 0).count();
        let mean = f64::from(total) / taking.max(1) as f64;
        let mut before = 0;
        let endpoint = |weight: &u16| {
            let weight = u32::from(*weight);
            before += weight;
            let share = (f64::from(weight) / mean).max(f64::MIN_POSITIVE);
            Endpoint { weight, before: before - weight, share, turn: Cell::new(0.0) }
        };
        P2c { endpoints: weights.iter().map(endpoint).collect(), total, front: Cell::new(0.0) }
    }

    #[inline]
    pub(super) fn pick(
        &self,
        open: &impl Fn(usize) -> bool,
        loads: &impl Loads,
        random: u64,
        now: Instant,
    ) -> Option<usize> {
        let (first, second) = self.draw(random)?;
        let picked = match second {
            Some(second) if open(first) && open(second) => self.better(first, second, loads, now),
            // Anew among those that are open: passing to a neighbour would give the neighbour twice its share.
            _ => match self.draw_open(open, mixed(random))? {
                (first, Some(second)) => self.better(first, second, loads, now),
                (first, None) => first,
            },
        };
        self.advance(picked);
        Some(picked)
    }

    /// Two different endpoints in proportion to their weights; one, if only one has any.
    #[inline]
    fn draw(&self, random: u64) -> Option<(usize, Option<usize>)> {
        let (high, low) = (random >> 32, random & u64::from(u32::MAX));
        let at = |place: u32| self.endpoints.partition_point(|endpoint| endpoint.before + endpoint.weight <= place);
        let first = at(scaled(high, self.total));
        let drawn = self.endpoints.get(first)?;
        let rest = self.total - drawn.weight;
        let place = scaled(low, rest);
        let second = at(if place < drawn.before { place } else { place + drawn.weight });
        Some((first, (rest > 0).then_some(second)))
    }

    /// The same among open endpoints; visits all of them.
    fn draw_open(&self, open: &impl Fn(usize) -> bool, random: u64) -> Option<(usize, Option<usize>)> {
        let (high, low) = (random >> 32, random & u64::from(u32::MAX));
        let first = self.one_of(open, high)?;
        Some((first, self.one_of(&|endpoint| endpoint != first && open(endpoint), low)))
    }

    fn one_of(&self, open: &impl Fn(usize) -> bool, random: u64) -> Option<usize> {
        let opened = || self.endpoints.iter().enumerate().filter(|(at, endpoint)| endpoint.weight > 0 && open(*at));
        let mut place = scaled(random, opened().map(|(_, endpoint)| endpoint.weight).sum());
        for (at, endpoint) in opened() {
            match place.checked_sub(endpoint.weight) {
                Some(left) => place = left,
                None => return Some(at),
            }
        }
        None
    }

    fn better(&self, first: usize, second: usize, loads: &impl Loads, now: Instant) -> usize {
        let (left, right) = (self.queue(first, loads), self.queue(second, loads));
        let order = match (loads.latency(first, now), loads.latency(second, now)) {
            (Some(of_left), Some(of_right)) if of_left * ALIKE < of_right || of_right * ALIKE < of_left => {
                (left * f64::from(of_left)).total_cmp(&(right * f64::from(of_right)))
            }
            // Against one that was never measured, too, only the queue counts.
            _ => left.total_cmp(&right),
        };
        let order = order.then_with(|| self.turn(first).total_cmp(&self.turn(second)));
        if order.is_le() { first } else { second }
    }

    fn queue(&self, endpoint: usize, loads: &impl Loads) -> f64 {
        let share = self.endpoints.get(endpoint).map_or(1.0, |endpoint| endpoint.share);
        f64::from(loads.in_flight(endpoint)) / share + 1.0
    }

    fn turn(&self, endpoint: usize) -> f64 {
        self.endpoints.get(endpoint).map_or(0.0, |endpoint| endpoint.turn.get())
    }

    /// Start-time fair queueing (Goyal, Vin and Cheng, 1996), with a bound on what can be caught up.
    fn advance(&self, picked: usize) {
        let Some(endpoint) = self.endpoints.get(picked) else { return };
        let start = endpoint.turn.get().max(self.front.get() - CATCH_UP);
        endpoint.turn.set(start + 1.0 / endpoint.share);
        self.front.set(self.front.get().max(start));
    }
}

/// A place in `0..total` for a number of 32 bits.
fn scaled(random: u64, total: u32) -> u32 {
    ((random * u64::from(total)) >> 32) as u32
}

/// Other bits of the same randomness (the finaliser of SplitMix64), so that a second draw does not repeat the first.
fn mixed(random: u64) -> u64 {
    let random = (random ^ (random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let random = (random ^ (random >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    random ^ (random >> 31)
}
