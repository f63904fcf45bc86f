//! Maglev hashing (Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer", NSDI 2016, §3.4), with weights.

use super::address_hash;

/// A table of places, each an endpoint's: one look for a key.
#[derive(Debug)]
pub(super) struct Maglev(Box<[u32]>);

/// Places unless there are very many endpoints: a prime.
const PLACES: u64 = 65_537;
/// Places for each endpoint, at least; fewer would make shares uneven by more than a percent.
const EACH: u64 = 100;

/// An endpoint while the table is filled: its permutation of the places, and how far it has come.
struct Filler {
    endpoint: u32,
    next: u64,
    skip: u64,
    weight: u64,
    credit: u64,
}

impl Maglev {
    pub(super) fn build(members: &[(String, u16)]) -> Maglev {
        let mut taking: Vec<_> = (0..).zip(members).filter(|(_, (_, weight))| *weight > 0).collect();
        // Who chooses first matters, so it must not depend on the order of the list.
        taking.sort_by_key(|(_, member)| *member);
        let places = prime_from(PLACES.max(EACH * taking.len() as u64));
        let most = taking.iter().map(|(_, (_, weight))| u64::from(*weight)).max().unwrap_or(1);
        let mut fillers: Vec<Filler> = taking
            .into_iter()
            .map(|(endpoint, (address, weight))| Filler {
                endpoint,
                next: address_hash(address, 1) % places,
                skip: address_hash(address, 2) % (places - 1) + 1,
                weight: u64::from(*weight),
                credit: 0,
            })
            .collect();
        let mut table = vec![None; usize::try_from(places).unwrap_or_default()];
        let mut left = if fillers.is_empty() { 0 } else { table.len() };
        while left > 0 {
            for filler in &mut fillers {
                // The heaviest takes a place in every round, the others in proportion.
                filler.credit += filler.weight;
                if filler.credit < most || left == 0 {
                    continue;
                }
                filler.credit -= most;
                filler.take(&mut table, places);
                left -= 1;
            }
        }
        Maglev(table.into_iter().flatten().collect())
    }

    #[inline]
    pub(super) fn find(&self, key: u64, members: usize, open: impl Fn(usize) -> bool) -> Option<usize> {
        let first = usize::try_from(key % (self.0.len() as u64).max(1)).ok()?;
        let endpoint = *self.0.get(first)? as usize;
        if open(endpoint) {
            return Some(endpoint);
        }
        if !(0..members).any(&open) {
            return None;
        }
        // Neighbours in the table are as good as random: the keys of one that is down go to all others.
        let (before, behind) = self.0.split_at_checked(first)?;
        behind.iter().chain(before).map(|endpoint| *endpoint as usize).find(|endpoint| open(*endpoint))
    }
}

impl Filler {
    /// Take the next free place of the permutation; there is one.
    fn take(&mut self, table: &mut [Option<u32>], places: u64) {
        for _ in 0..table.len() {
            let at = self.next;
            self.next = (self.next + self.skip) % places;
            if let Some(place) =
                usize::try_from(at).ok().and_then(|at| table.get_mut(at)).filter(|place| place.is_none())
            {
                *place = Some(self.endpoint);
                return;
            }
        }
    }
}

/// The smallest prime that is not below `least`.
fn prime_from(least: u64) -> u64 {
    let is_prime =
        |number: &u64| (2..).take_while(|part| part * part <= *number).all(|part| !number.is_multiple_of(part));
    (least.max(2)..).find(is_prime).unwrap_or(PLACES)
}
