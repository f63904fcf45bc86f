//! The table of an affinity, as all workers share it. It outlives changes of the configuration, as long as the upstream has its name
//! and clients are known by the same.
//!
//! A pick locks one of [`PARTS`] twice at most, for some tens of nanoseconds: whoever uses no table locks nothing. The number of all
//! clients is one word that is written when a client comes or goes, never for one that is seen again.

use penstock_plan::AffinityTable as Plan;
use penstock_rules::affinity::table::{Bonds, Tenths};
use penstock_rules::route::Key;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Workers that look for different clients seldom meet at the same lock.
const PARTS: usize = 64;
/// A part with fewer clients does not know well who was not seen for longest: then all are asked.
const FEW: usize = 16;
/// Clients that are forgotten under one hold of a lock.
const BATCH: usize = 64;

/// Which clients of an upstream are bound to which endpoints, by the endpoints' ids.
#[derive(Debug)]
pub(crate) struct Table {
    parts: [Part; PARTS],
    /// Clients choose the keys: they do not choose who stands beside whom.
    secret: ahash::RandomState,
    began: Instant,
    pub(super) count: AtomicUsize,
    pub(super) size: AtomicU32,
    pub(super) ttl: AtomicU32,
    /// Clients that were forgotten because there were too many.
    pub(super) evicted: AtomicU64,
    /// What clients are known by.
    pub(super) key: penstock_plan::Key,
}

/// On a cache line of its own.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Part(Mutex<Bonds>);

/// A table with the endpoints of one plan.
#[derive(Debug)]
pub(crate) struct TableAffinity {
    pub(crate) key: Key,
    pub(crate) table: Arc<Table>,
    /// Indexes of endpoints by their ids.
    places: HashMap<u64, usize, ahash::RandomState>,
    plan: Plan,
}

/// What a table knows of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    /// Id of its endpoint, which the plan may have no more.
    pub(crate) id: Option<u64>,
    /// Its index.
    pub(crate) endpoint: Option<usize>,
}

impl TableAffinity {
    /// For endpoints of these ids, in order. What the plan says of size and time holds once it runs ([`Self::configure`]).
    pub(super) fn new(key: Key, plan: &Plan, table: Arc<Table>, ids: impl Iterator<Item = u64>) -> TableAffinity {
        let places = ids.enumerate().map(|(at, id)| (id, at)).collect();
        TableAffinity { key, table, places, plan: plan.clone() }
    }

    /// This plan runs now.
    pub(crate) fn configure(&self) {
        self.table.configure(&self.plan);
    }

    /// What is known of the client with this key, which is seen now.
    pub(crate) fn see(&self, key: u64, now: Instant) -> Known {
        let id = self.table.see(key, now);
        Known { id, endpoint: id.and_then(|id| self.places.get(&id).copied()) }
    }

    /// Bind the client to the endpoint of this id, if it is known as `before`: what is known of it then.
    pub(crate) fn bind(&self, key: u64, before: Known, id: u64, now: Instant) -> Known {
        let id = self.table.bind(key, before.id, id, now);
        Known { id: Some(id), endpoint: self.places.get(&id).copied() }
    }
}

impl Table {
    pub(super) fn new(plan: &Plan) -> Table {
        let random = || RandomState::new().hash_one(0u8);
        let table = Table {
            parts: std::array::from_fn(|_| Part::default()),
            secret: ahash::RandomState::with_seeds(random(), random(), random(), random()),
            began: Instant::now(),
            count: AtomicUsize::new(0),
            size: AtomicU32::new(0),
            ttl: AtomicU32::new(0),
            evicted: AtomicU64::new(0),
            key: plan.key.clone(),
        };
        table.configure(plan);
        table
    }

    fn configure(&self, plan: &Plan) {
        self.ttl.store(tenths(plan.ttl).max(1), Relaxed);
        self.size.store(plan.size, Relaxed);
        while self.count.load(Relaxed) > plan.size as usize && self.evict_oldest(None) {}
    }

    fn see(&self, key: u64, now: Instant) -> Option<u64> {
        let key = self.hash(key);
        let mut bonds = self.part(key);
        let before = bonds.len();
        let found = bonds.see(key, self.tenths(now), self.ttl.load(Relaxed));
        self.count.fetch_sub(before - bonds.len(), Relaxed);
        found
    }

    fn bind(&self, key: u64, before: Option<u64>, id: u64, now: Instant) -> u64 {
        let (key, now) = (self.hash(key), self.tenths(now));
        let mut bonds = self.part(key);
        // Two go for each that comes, so that none stays much longer than it should.
        self.gone(bonds.expire(now, self.ttl.load(Relaxed), 2));
        let (id, is_new) = bonds.bind(key, before, id, now);
        if is_new && self.count.fetch_add(1, Relaxed) >= self.size.load(Relaxed) as usize {
            if bonds.len() > FEW {
                self.evicted(usize::from(bonds.evict()));
            } else {
                drop(bonds);
                self.evict_oldest(Some(key));
            }
        }
        id
    }

    /// Forget the client that was not seen for longest, that with the key `but` last of all; whether there was one.
    fn evict_oldest(&self, but: Option<u64>) -> bool {
        let kept = but.map(at);
        let oldest = |part: usize| Some((self.lock(part).oldest()?, Some(part) == kept, part));
        let Some((.., part)) = (0..PARTS).filter_map(oldest).min() else { return false };
        self.evicted(usize::from(self.lock(part).evict()));
        true
    }

    /// The endpoint of this client, and how long ago it was seen.
    pub(super) fn look(&self, key: u64, now: Instant) -> Option<(u64, Tenths)> {
        let (key, now) = (self.hash(key), self.tenths(now));
        let (id, seen) = self.part(key).look(key, now, self.ttl.load(Relaxed))?;
        Some((id, now.saturating_sub(seen)))
    }

    /// Forget one client; how many there were.
    pub(super) fn forget(&self, key: u64) -> usize {
        let key = self.hash(key);
        let gone = usize::from(self.part(key).remove(key));
        self.gone(gone);
        gone
    }

    /// Clients by the ids of their endpoints.
    pub(super) fn counts(&self) -> HashMap<u64, usize> {
        let mut counts = HashMap::new();
        (0..PARTS).for_each(|part| self.lock(part).endpoints().for_each(|id| *counts.entry(id).or_default() += 1));
        counts
    }

    pub(super) fn memory(&self) -> usize {
        (0..PARTS).map(|part| self.lock(part).memory()).sum()
    }

    /// Forget who was not seen for too long.
    pub(super) fn expire(&self) {
        let (now, ttl) = (self.tenths(Instant::now()), self.ttl.load(Relaxed));
        for part in 0..PARTS {
            loop {
                let gone = self.lock(part).expire(now, ttl, BATCH);
                self.gone(gone);
                if gone < BATCH {
                    break;
                }
            }
        }
    }

    /// Forget all clients, or those of one endpoint; how many there were.
    pub(super) fn clear(&self, endpoint: Option<u64>) -> usize {
        let clear = |part: usize| {
            let mut bonds = self.lock(part);
            let before = bonds.len();
            match endpoint {
                Some(endpoint) => {
                    bonds.remove_endpoint(endpoint);
                }
                None => *bonds = Bonds::default(),
            }
            before - bonds.len()
        };
        let gone = (0..PARTS).map(clear).sum();
        self.gone(gone);
        gone
    }

    fn gone(&self, count: usize) {
        if count > 0 {
            self.count.fetch_sub(count, Relaxed);
        }
    }

    fn evicted(&self, count: usize) {
        self.gone(count);
        self.evicted.fetch_add(count as u64, Relaxed);
    }

    fn hash(&self, key: u64) -> u64 {
        self.secret.hash_one(key)
    }

    fn part(&self, key: u64) -> MutexGuard<'_, Bonds> {
        self.lock(at(key))
    }

    fn lock(&self, part: usize) -> MutexGuard<'_, Bonds> {
        self.parts[part % PARTS].0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tenths(&self, now: Instant) -> Tenths {
        tenths(now.saturating_duration_since(self.began))
    }
}

/// The part where a client with this hash stands: by the bits that its chain is not chosen by.
fn at(key: u64) -> usize {
    (key >> 32) as usize % PARTS
}

fn tenths(time: Duration) -> Tenths {
    u32::try_from(time.as_millis() / 100).unwrap_or(u32::MAX)
}
