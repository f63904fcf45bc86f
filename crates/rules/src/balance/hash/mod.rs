//! The same endpoint for the same key, on every machine that has the same endpoints.
//!
//! Everything here is a function of keys, addresses and weights alone: no seed of the process, no order of the list, no
//! arithmetic that differs between machines. Hashes are XXH3 with 64 bits: a key's with seed 0, an endpoint's of its address as
//! configured with seeds of their own ([`address_hash`]). docs/balancing.md has the algorithms in words; a change here moves every
//! key of every user.

mod maglev;
mod rendezvous;
mod ring;
#[cfg(test)]
mod tests;

use super::p2c::P2c;
use super::{Draw, Loads};
use maglev::Maglev;
use penstock_plan::HashMethod;
pub(crate) use rendezvous::Rendezvous;
use ring::Ring;
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Where keys go: built once for a list of endpoints, read by all workers.
#[derive(Debug)]
pub struct HashTable {
    method: HashMethod,
    members: Box<[(String, u16)]>,
    places: Places,
}

#[derive(Debug)]
enum Places {
    Maglev(Maglev),
    Ring(Ring),
    Rendezvous(Rendezvous),
}

impl HashTable {
    /// The table over endpoints with an address and a weight each; one of weight 0 has no keys.
    pub fn build(method: HashMethod, members: &[(String, u16)]) -> HashTable {
        let places = match method {
            HashMethod::Maglev => Places::Maglev(Maglev::build(members)),
            HashMethod::Ring => Places::Ring(Ring::build(members)),
            HashMethod::Rendezvous => {
                let members = members.iter().map(|(address, weight)| (address.as_str(), u32::from(*weight)));
                Places::Rendezvous(Rendezvous::build(members))
            }
        };
        HashTable { method, members: members.into(), places }
    }

    /// Whether [`Self::build`] would give this table.
    pub fn is_of(&self, method: HashMethod, members: &[(String, u16)]) -> bool {
        self.method == method && *self.members == *members
    }

    /// The first endpoint that is open, in the order that the key prefers.
    #[inline]
    pub fn find(&self, key: u64, open: impl Fn(usize) -> bool) -> Option<usize> {
        match &self.places {
            Places::Maglev(maglev) => maglev.find(key, self.members.len(), open),
            Places::Ring(ring) => ring.find(key, self.members.len(), open),
            Places::Rendezvous(rendezvous) => rendezvous.find(key, open),
        }
    }
}

/// What stands for an endpoint: one hash for each `seed`.
fn address_hash(address: &str, seed: u64) -> u64 {
    xxh3_64_with_seed(address.as_bytes(), seed)
}

/// The policy that asks a [`HashTable`].
#[derive(Debug)]
pub(super) struct Hashed {
    table: Arc<HashTable>,
    weights: Box<[u32]>,
    /// The most load of an endpoint over the mean.
    bound: Option<f64>,
    /// For requests without a key.
    keyless: P2c,
}

impl Hashed {
    pub(super) fn new(table: Arc<HashTable>, weights: &[u32], bound: Option<u32>) -> Hashed {
        let bound = bound.map(|percent| f64::from(percent) / 100.0);
        Hashed { table, weights: weights.into(), bound, keyless: P2c::new(weights) }
    }

    pub(super) fn pick(&self, open: &impl Fn(usize) -> bool, loads: &impl Loads, draw: &Draw) -> Option<usize> {
        let Some(key) = draw.key else { return self.keyless.pick(open, loads, draw) };
        let Some(bound) = self.bound else { return self.table.find(key, open) };
        // Consistent hashing with bounded loads (Mirrokni, Thorup and Zadimoghaddam, 2016): an endpoint takes no more than its
        // share of all requests under way, this one included, times the bound. Some endpoint is always below.
        let opened = || self.weights.iter().enumerate().filter(|(at, _)| open(*at));
        let (weight, requests) = opened().fold((0.0, 1.0), |(weight, requests), (at, of)| {
            (weight + f64::from(*of), requests + f64::from(loads.in_flight(at)))
        });
        let has_room = |at: usize| {
            let share = self.weights.get(at).map_or(0.0, |of| f64::from(*of) / weight);
            f64::from(loads.in_flight(at)) < (bound * requests * share).ceil()
        };
        self.table.find(key, |at| open(at) && has_room(at)).or_else(|| self.table.find(key, open))
    }
}
