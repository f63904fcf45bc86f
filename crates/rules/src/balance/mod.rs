//! Which endpoint of an upstream takes the next request.
//!
//! One file per policy. A [`Balancer`] belongs to one worker and one upstream; what it has to know of the endpoints it asks a
//! [`Loads`] for, which the runtime implements over its own counters. Randomness and time are parameters.

mod first;
mod hash;
mod latency;
mod least_requests;
mod lottery;
mod p2c;
mod peak_ewma;
mod random;
mod round_robin;
#[cfg(test)]
mod simulation;
mod slow_start;
mod turns;

pub use hash::HashTable;
pub use latency::Latency;

pub(crate) use hash::Rendezvous;

use hash::Hashed;
pub use slow_start::grown_weight;

use least_requests::LeastRequests;
use p2c::P2c;
use peak_ewma::PeakEwma;
use penstock_plan::Balance;
use random::Random;
use round_robin::RoundRobin;
use std::sync::Arc;
use std::time::Instant;

/// Latencies within this factor say nothing: the peaks of equal endpoints differ by as much.
const ALIKE: f32 = 2.0;

/// What a policy may ask about the endpoints of an upstream, by their index in the plan.
pub trait Loads {
    /// Whether the endpoint may take a request: healthy, ready, and not excluded because this request failed on it before.
    fn usable(&self, endpoint: usize) -> bool;

    /// Whether others are to be preferred for now ([`crate::health::Avoidance`]). An avoided endpoint is picked only where no
    /// other is usable.
    fn avoided(&self, endpoint: usize) -> bool;

    /// Requests of this worker that the endpoint has not answered yet.
    fn in_flight(&self, endpoint: usize) -> u32;

    /// Peak-EWMA latency in microseconds ([`Latency::value`]); `None` if it was never measured.
    fn latency(&self, endpoint: usize, now: Instant) -> Option<f32>;
}

/// A balance policy with the state that it keeps for one worker and one upstream.
#[derive(Debug)]
pub struct Balancer {
    /// Lowest priority first.
    tiers: Box<[Tier]>,
}

/// What a policy knows beforehand of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Share of the requests against the others of its tier; 0 takes none.
    pub weight: u32,
    /// Its tier.
    pub priority: u8,
}

/// The endpoints of one priority. Its policy sees all endpoints, those of other tiers with weight 0.
#[derive(Debug)]
struct Tier {
    weights: Box<[u32]>,
    policy: Policy,
}

/// The priorities that there are, lowest first: one tier each.
pub fn priorities(of: impl Iterator<Item = u8>) -> Vec<u8> {
    let mut priorities: Vec<_> = of.collect();
    priorities.sort_unstable();
    priorities.dedup();
    priorities
}

#[derive(Debug)]
enum Policy {
    P2c(P2c),
    RoundRobin(RoundRobin),
    LeastRequests(LeastRequests),
    PeakEwma(PeakEwma),
    Random(Random),
    First,
    Hash(Hashed),
}

/// What a pick depends on beside the endpoints.
#[derive(Clone, Copy, Debug)]
pub struct Draw {
    /// Uniform over all its values.
    pub random: u64,
    /// The time of the pick.
    pub now: Instant,
    /// What the policy hashes ([`crate::route::Key::hash`]); `None` if there is nothing to hash.
    pub key: Option<u64>,
}

/// The name of a policy, as it is configured.
pub fn name(balance: &Balance) -> &'static str {
    match balance {
        Balance::P2c => "p2c",
        Balance::RoundRobin => "round_robin",
        Balance::LeastRequests => "least_requests",
        Balance::PeakEwma => "peak_ewma",
        Balance::Random => "random",
        Balance::First => "first",
        Balance::Hash(_) => "hash",
    }
}

impl Balancer {
    /// A balancer over `members`. A hash asks `tables`, one for each tier.
    pub fn build(balance: &Balance, members: &[Member], tables: &[Arc<HashTable>]) -> Balancer {
        let tier = |(at, priority): (usize, u8)| {
            let weight = |member: &Member| if member.priority == priority { member.weight } else { 0 };
            let weights: Box<[u32]> = members.iter().map(weight).collect();
            Tier { policy: Policy::build(balance, &weights, tables.get(at)), weights }
        };
        let priorities = priorities(members.iter().map(|member| member.priority));
        Balancer { tiers: priorities.into_iter().enumerate().map(tier).collect() }
    }

    /// Index of the endpoint that takes the next request; `None` if no endpoint may.
    #[inline]
    pub fn pick(&self, loads: &impl Loads, draw: &Draw) -> Option<usize> {
        if let [tier] = &*self.tiers
            && let [weight] = *tier.weights
        {
            return (weight > 0 && loads.usable(0)).then_some(0);
        }
        let preferred = |endpoint: usize| loads.usable(endpoint) && !loads.avoided(endpoint);
        let possible = |endpoint: usize| loads.usable(endpoint);
        let preferred = self.tiers.iter().find_map(|tier| tier.pick(preferred, loads, draw));
        preferred.or_else(|| self.tiers.iter().find_map(|tier| tier.pick(possible, loads, draw)))
    }

    /// Whether any endpoint of some weight is `open`.
    pub fn any(&self, open: impl Fn(usize) -> bool) -> bool {
        self.tiers.iter().any(|tier| (0..tier.weights.len()).any(|endpoint| tier.takes(endpoint) && open(endpoint)))
    }
}

impl Tier {
    fn takes(&self, endpoint: usize) -> bool {
        self.weights.get(endpoint).is_some_and(|weight| *weight > 0)
    }

    #[inline]
    fn pick(&self, open: impl Fn(usize) -> bool, loads: &impl Loads, draw: &Draw) -> Option<usize> {
        let open = &|endpoint: usize| self.takes(endpoint) && open(endpoint);
        match &self.policy {
            Policy::P2c(policy) => policy.pick(open, loads, draw),
            Policy::RoundRobin(policy) => policy.pick(open),
            Policy::LeastRequests(policy) => policy.pick(open, loads),
            Policy::PeakEwma(policy) => policy.pick(open, loads, draw.now),
            Policy::Random(policy) => policy.pick(open, draw.random),
            Policy::Hash(policy) => policy.pick(open, loads, draw),
            Policy::First => first::pick(open, self.weights.len()),
        }
    }
}

impl Policy {
    fn build(balance: &Balance, weights: &[u32], table: Option<&Arc<HashTable>>) -> Policy {
        match balance {
            Balance::Hash(hash) if let Some(table) = table => {
                Policy::Hash(Hashed::new(Arc::clone(table), weights, hash.bounded_load))
            }
            Balance::Hash(_) | Balance::P2c => Policy::P2c(P2c::new(weights)),
            Balance::RoundRobin => Policy::RoundRobin(RoundRobin::new(weights)),
            Balance::LeastRequests => Policy::LeastRequests(LeastRequests::new(weights)),
            Balance::PeakEwma => Policy::PeakEwma(PeakEwma::new(weights)),
            Balance::Random => Policy::Random(Random::new(weights)),
            Balance::First => Policy::First,
        }
    }
}
