//! Affinity by table: who was sent where, bounded in number and in time. One [`Bonds`] is one part of a table; whoever shares it between
//! threads puts several of them behind locks of their own.
//!
//! Clients stand in chains by their keys, which must not be of the clients' choice (hash them with a secret first), and in one list by when
//! they were last seen. Memory: 32 bytes for each client, a quarter of that for some to come, and at most 8 for the chains ([`BYTES`]).

/// The most bytes of memory for each client, of a table that has more than a few.
pub const BYTES: usize = size_of::<Bond>() * 5 / 4 + 8;

/// Time as tables count it: tenths of a second since a beginning of the caller's.
pub type Tenths = u32;

/// Which clients are bound to which endpoints.
#[derive(Debug, Default)]
pub struct Bonds {
    bonds: Vec<Bond>,
    /// The first of each chain; their number is a power of two.
    chains: Vec<u32>,
    /// The ends of the list by time.
    newest: u32,
    oldest: u32,
    /// The first of those that hold nobody, chained by `next`.
    vacant: u32,
    count: usize,
}

/// A client and its endpoint. Neighbours are named by their place plus one, so that 0 is nobody.
#[derive(Debug)]
struct Bond {
    key: u64,
    endpoint: u64,
    /// When the client was last seen.
    seen: Tenths,
    /// Of the chain, or of those that hold nobody.
    next: u32,
    newer: u32,
    older: u32,
}

const NOBODY: u32 = 0;
/// Chains of the smallest table.
const FEWEST: usize = 8;

impl Bonds {
    /// How many clients are bound, those included whose time is over and who were not asked for since.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether no client is bound.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes of memory that are taken.
    pub fn memory(&self) -> usize {
        self.bonds.capacity() * size_of::<Bond>() + self.chains.capacity() * size_of::<u32>()
    }

    /// The endpoint of this client, which is seen now. One that was not seen for `ttl` is forgotten.
    pub fn see(&mut self, key: u64, now: Tenths, ttl: Tenths) -> Option<u64> {
        let at = self.find(key)?;
        if self.is_over(at, now, ttl) {
            self.remove(key);
            return None;
        }
        self.touch(at, now);
        self.at(at).map(|bond| bond.endpoint)
    }

    /// The endpoint of this client and when it was last seen, without counting as a sign of it.
    pub fn look(&self, key: u64, now: Tenths, ttl: Tenths) -> Option<(u64, Tenths)> {
        let at = self.find(key)?;
        let bond = self.at(at).filter(|_| !self.is_over(at, now, ttl))?;
        Some((bond.endpoint, bond.seen))
    }

    /// Bind this client to `endpoint`, if it is bound as it was `before`: whoever was faster has decided. To which endpoint it is bound
    /// now, and whether it was bound to none.
    pub fn bind(&mut self, key: u64, before: Option<u64>, endpoint: u64, now: Tenths) -> (u64, bool) {
        let Some(at) = self.find(key) else {
            self.insert(key, endpoint, now);
            return (endpoint, true);
        };
        self.touch(at, now);
        let Some(bond) = self.at_mut(at) else { return (endpoint, false) };
        if Some(bond.endpoint) == before {
            bond.endpoint = endpoint;
        }
        (bond.endpoint, false)
    }

    /// Forget this client; whether it was bound.
    pub fn remove(&mut self, key: u64) -> bool {
        let Some(at) = self.find(key) else { return false };
        self.unlink(at);
        self.unchain(at);
        let vacant = std::mem::replace(&mut self.vacant, at);
        if let Some(bond) = self.at_mut(at) {
            bond.next = vacant;
        }
        self.count -= 1;
        if self.count == 0 {
            // Nothing is kept of a crowd that is gone.
            *self = Bonds::default();
        }
        true
    }

    /// When the client that was not seen for longest was seen.
    pub fn oldest(&self) -> Option<Tenths> {
        self.at(self.oldest).map(|bond| bond.seen)
    }

    /// Forget the client that was not seen for longest; whether there was one.
    pub fn evict(&mut self) -> bool {
        self.at(self.oldest).map(|bond| bond.key).is_some_and(|key| self.remove(key))
    }

    /// Forget up to `most` clients that were not seen for `ttl`; how many there were.
    pub fn expire(&mut self, now: Tenths, ttl: Tenths, most: usize) -> usize {
        (0..most).take_while(|_| self.is_over(self.oldest, now, ttl) && self.evict()).count()
    }

    /// Forget all clients of this endpoint; how many there were.
    pub fn remove_endpoint(&mut self, endpoint: u64) -> usize {
        let of = self.iter().filter(|bond| bond.endpoint == endpoint).map(|bond| bond.key);
        let keys: Vec<u64> = of.collect();
        keys.iter().filter(|key| self.remove(**key)).count()
    }

    /// The endpoint of each client.
    pub fn endpoints(&self) -> impl Iterator<Item = u64> {
        self.iter().map(|bond| bond.endpoint)
    }

    /// All clients, from the one that was seen last.
    fn iter(&self) -> impl Iterator<Item = &Bond> {
        std::iter::successors(self.at(self.newest), |bond| self.at(bond.older))
    }

    fn at(&self, at: u32) -> Option<&Bond> {
        self.bonds.get((at as usize).checked_sub(1)?)
    }

    fn at_mut(&mut self, at: u32) -> Option<&mut Bond> {
        self.bonds.get_mut((at as usize).checked_sub(1)?)
    }

    fn chain_of(&self, key: u64) -> Option<usize> {
        // A power of two, so the mask is one less.
        let mask = self.chains.len().checked_sub(1)?;
        usize::try_from(key & mask as u64).ok()
    }

    fn find(&self, key: u64) -> Option<u32> {
        let mut at = *self.chains.get(self.chain_of(key)?)?;
        while let Some(bond) = self.at(at) {
            if bond.key == key {
                return Some(at);
            }
            at = bond.next;
        }
        None
    }

    fn is_over(&self, at: u32, now: Tenths, ttl: Tenths) -> bool {
        self.at(at).is_some_and(|bond| now.saturating_sub(bond.seen) >= ttl)
    }

    fn touch(&mut self, at: u32, now: Tenths) {
        if self.newest != at {
            self.unlink(at);
            self.link(at);
        }
        if let Some(bond) = self.at_mut(at) {
            // Workers look at their clocks before they have the lock.
            bond.seen = bond.seen.max(now);
        }
    }

    fn insert(&mut self, key: u64, endpoint: u64, now: Tenths) {
        if self.count == self.chains.len() {
            self.grow();
        }
        let bond = Bond { key, endpoint, seen: now, next: NOBODY, newer: NOBODY, older: NOBODY };
        let vacant = self.vacant;
        let at = match self.at_mut(vacant) {
            Some(place) => {
                self.vacant = std::mem::replace(place, bond).next;
                vacant
            }
            None => {
                // The number of clients is bounded far below what counts places.
                let Ok(at) = u32::try_from(self.bonds.len() + 1) else { return };
                if self.bonds.len() == self.bonds.capacity() {
                    self.bonds.reserve_exact(self.bonds.len() / 4 + FEWEST);
                }
                self.bonds.push(bond);
                at
            }
        };
        self.chain(at);
        self.link(at);
        self.count += 1;
    }

    /// Twice as many chains.
    fn grow(&mut self) {
        let chains = (self.chains.len() * 2).max(FEWEST);
        self.chains = vec![NOBODY; chains];
        let mut at = self.newest;
        while let Some(older) = self.at(at).map(|bond| bond.older) {
            self.chain(at);
            at = older;
        }
    }

    fn unchain(&mut self, at: u32) {
        let Some((key, next)) = self.at(at).map(|bond| (bond.key, bond.next)) else { return };
        let Some(first) = self.chain_of(key).and_then(|chain| self.chains.get_mut(chain)) else { return };
        let mut before = *first;
        if before == at {
            *first = next;
            return;
        }
        while let Some(bond) = self.at_mut(before) {
            if bond.next == at {
                bond.next = next;
                return;
            }
            before = bond.next;
        }
    }

    /// Put it before the others of its chain.
    fn chain(&mut self, at: u32) {
        let chain = self.at(at).and_then(|bond| self.chain_of(bond.key));
        let Some(first) = chain.and_then(|chain| self.chains.get_mut(chain)) else { return };
        let next = std::mem::replace(first, at);
        if let Some(bond) = self.at_mut(at) {
            bond.next = next;
        }
    }

    /// Put it before all others by time.
    fn link(&mut self, at: u32) {
        let older = std::mem::replace(&mut self.newest, at);
        if let Some(bond) = self.at_mut(at) {
            (bond.newer, bond.older) = (NOBODY, older);
        }
        match self.at_mut(older) {
            Some(older) => older.newer = at,
            None => self.oldest = at,
        }
    }

    /// Take it out of the list by time.
    fn unlink(&mut self, at: u32) {
        let Some((newer, older)) = self.at(at).map(|bond| (bond.newer, bond.older)) else { return };
        match self.at_mut(newer) {
            Some(newer) => newer.older = older,
            None => self.newest = older,
        }
        match self.at_mut(older) {
            Some(older) => older.newer = newer,
            None => self.oldest = newer,
        }
    }
}

#[cfg(test)]
mod tests;
