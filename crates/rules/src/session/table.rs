//! The sessions of datagrams that are open, by client, and which of them makes room for another. A client is nobody before it has
//! shown that it hears us: an address that was made up costs one datagram, so of those that never showed it a flood ends its own.

use ahash::AHashMap;
use std::hash::Hash;

/// No slot.
const NONE: u32 = u32::MAX;
/// Slots that an empty table keeps.
const KEPT: usize = 1024;

/// One session of a table; another that comes into its place later is not it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionId {
    slot: u32,
    generation: u32,
}

impl SessionId {
    /// Both numbers in one, as whoever tells of events carries it.
    pub fn to_bits(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.slot)
    }

    /// What [`Self::to_bits`] gave.
    pub fn from_bits(bits: u64) -> SessionId {
        SessionId { slot: (bits & u64::from(u32::MAX)) as u32, generation: (bits >> 32) as u32 }
    }
}

/// What is known of the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// It has sent something; whether it hears us nobody knows.
    New = 0,
    /// It has sent something after it was answered.
    Proven = 1,
}

/// Sessions by the client's key, in the order in which they were used last.
#[derive(Debug)]
pub struct SessionTable<K, V> {
    slots: Vec<Option<Held<K, V>>>,
    free: Vec<u32>,
    by_key: AHashMap<K, u32>,
    /// By [`Standing`].
    lists: [List; 2],
    generation: u32,
}

#[derive(Debug)]
struct Held<K, V> {
    key: K,
    value: V,
    generation: u32,
    standing: Standing,
    used: u64,
    older: u32,
    newer: u32,
}

/// Sessions in the order of their last use, linked by slots.
#[derive(Clone, Copy, Debug)]
struct List {
    oldest: u32,
    newest: u32,
    len: usize,
}

const EMPTY: List = List { oldest: NONE, newest: NONE, len: 0 };

impl<K, V> Default for SessionTable<K, V> {
    fn default() -> SessionTable<K, V> {
        // The keys are what clients choose: the map's hash has a secret (safety.md 117).
        let by_key = AHashMap::new();
        SessionTable { slots: Vec::new(), free: Vec::new(), by_key, lists: [EMPTY; 2], generation: 0 }
    }
}

impl<K: Hash + Eq + Clone, V> SessionTable<K, V> {
    /// Sessions that are open.
    pub fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    /// The session of this client.
    pub fn find(&self, key: &K) -> Option<SessionId> {
        let slot = *self.by_key.get(key)?;
        Some(SessionId { slot, generation: self.held(slot)?.generation })
    }

    /// A session, if it is still open.
    pub fn get(&self, id: SessionId) -> Option<&V> {
        self.held(id.slot).filter(|held| held.generation == id.generation).map(|held| &held.value)
    }

    /// A session, if it is still open.
    pub fn get_mut(&mut self, id: SessionId) -> Option<&mut V> {
        let held = self.slots.get_mut(id.slot as usize)?.as_mut()?;
        (held.generation == id.generation).then_some(&mut held.value)
    }

    /// The place that the next session will have.
    pub fn next_id(&self) -> SessionId {
        let slot = self.free.last().copied().unwrap_or(u32::try_from(self.slots.len()).unwrap_or(NONE));
        SessionId { slot, generation: self.generation.wrapping_add(1) }
    }

    /// A client that has no session yet gets one, used now, at [`Self::next_id`].
    pub fn insert(&mut self, key: K, value: V, now: u64) -> SessionId {
        let id = self.next_id();
        self.generation = id.generation;
        self.by_key.insert(key.clone(), id.slot);
        let held = Held {
            key,
            value,
            generation: id.generation,
            standing: Standing::New,
            used: now,
            older: NONE,
            newer: NONE,
        };
        match self.free.pop() {
            Some(slot) => {
                if let Some(place) = self.slots.get_mut(slot as usize) {
                    *place = Some(held);
                }
            }
            None => self.slots.push(Some(held)),
        }
        self.append(id.slot);
        id
    }

    /// The session was used; `proven`: by a client that had been answered before.
    pub fn touch(&mut self, id: SessionId, now: u64, proven: bool) {
        if self.get(id).is_none() {
            return;
        }
        let newest = self.held(id.slot).is_some_and(|held| {
            self.lists[held.standing as usize].newest == id.slot && (held.standing == Standing::Proven || !proven)
        });
        if !newest {
            self.unlink(id.slot);
        }
        if let Some(held) = self.held_mut(id.slot) {
            held.used = now;
            if proven {
                held.standing = Standing::Proven;
            }
        }
        if !newest {
            self.append(id.slot);
        }
    }

    /// Take a session out.
    pub fn remove(&mut self, id: SessionId) -> Option<V> {
        self.get(id)?;
        self.unlink(id.slot);
        let held = self.slots.get_mut(id.slot as usize)?.take()?;
        self.by_key.remove(&held.key);
        self.free.push(id.slot);
        // What a flood took is given back.
        if self.by_key.is_empty() && self.slots.len() > KEPT {
            (self.slots, self.free, self.by_key) = (Vec::new(), Vec::new(), AHashMap::new());
        }
        Some(held.value)
    }

    /// Who makes room for another: of clients that have shown nothing, if they have a quarter of the table, else of those
    /// that have, the session that was used least recently.
    pub fn least(&self) -> Option<SessionId> {
        let [new, proven] = &self.lists;
        let list = if (new.len > 0 && new.len * 4 >= self.len()) || proven.len == 0 { new } else { proven };
        self.id_of(list.oldest)
    }

    /// The session that was used least recently of all, and when.
    pub fn oldest(&self) -> Option<(SessionId, u64)> {
        let used = |list: &List| Some((self.id_of(list.oldest)?, self.held(list.oldest)?.used));
        self.lists.iter().filter_map(used).min_by_key(|(_, used)| *used)
    }

    fn id_of(&self, slot: u32) -> Option<SessionId> {
        Some(SessionId { slot, generation: self.held(slot)?.generation })
    }

    fn held(&self, slot: u32) -> Option<&Held<K, V>> {
        self.slots.get(slot as usize)?.as_ref()
    }

    fn held_mut(&mut self, slot: u32) -> Option<&mut Held<K, V>> {
        self.slots.get_mut(slot as usize)?.as_mut()
    }

    fn unlink(&mut self, slot: u32) {
        let Some(held) = self.held(slot) else { return };
        let (older, newer, standing) = (held.older, held.newer, held.standing);
        match self.held_mut(older) {
            Some(held) => held.newer = newer,
            None => self.lists[standing as usize].oldest = newer,
        }
        match self.held_mut(newer) {
            Some(held) => held.older = older,
            None => self.lists[standing as usize].newest = older,
        }
        self.lists[standing as usize].len -= 1;
    }

    fn append(&mut self, slot: u32) {
        let Some(standing) = self.held(slot).map(|held| held.standing as usize) else { return };
        let before = self.lists[standing].newest;
        if let Some(held) = self.held_mut(slot) {
            (held.older, held.newer) = (before, NONE);
        }
        match self.held_mut(before) {
            Some(held) => held.newer = slot,
            None => self.lists[standing].oldest = slot,
        }
        self.lists[standing].newest = slot;
        self.lists[standing].len += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keys in the order in which they make room.
    fn order(mut table: SessionTable<u32, u32>) -> Vec<u32> {
        std::iter::from_fn(|| table.least().and_then(|id| table.remove(id))).collect()
    }

    fn filled(keys: std::ops::Range<u32>) -> SessionTable<u32, u32> {
        let mut table = SessionTable::default();
        for key in keys {
            table.insert(key, key, u64::from(key));
        }
        table
    }

    #[test]
    fn who_was_used_least_recently_makes_room() {
        let mut table = filled(0..5);
        for key in [1, 4, 0] {
            let id = table.find(&key).unwrap();
            table.touch(id, 10, false);
        }
        assert_eq!(order(table), [2, 3, 1, 4, 0]);
    }

    #[test]
    fn a_flood_ends_its_own_sessions_and_nobody_elses() {
        let mut table = filled(0..75);
        for key in 0..75 {
            let id = table.find(&key).unwrap();
            table.touch(id, 100, true);
        }
        for key in 1000..1_000_000 {
            if table.len() == 100 {
                let id = table.least().unwrap();
                table.remove(id);
            }
            table.insert(key, key, 200);
        }
        assert_eq!(table.len(), 100);
        assert!((0..75).all(|key| table.find(&key).is_some()));
    }

    #[test]
    fn who_has_proven_itself_makes_room_where_few_have_not() {
        let mut table = filled(0..100);
        for key in 0..80 {
            let id = table.find(&key).unwrap();
            table.touch(id, 100, true);
        }
        assert_eq!(table.least(), table.find(&0));
        let id = table.find(&80).unwrap();
        table.touch(id, 1, true);
        table.remove(id);
        assert_eq!(order(filled(0..1)), [0]);
    }

    #[test]
    fn a_place_that_was_taken_again_is_another_session() {
        let mut table = filled(0..3);
        let first = table.find(&1).unwrap();
        assert_eq!(table.remove(first), Some(1));
        let next = table.next_id();
        assert_eq!((table.insert(9, 9, 0), next.slot), (next, first.slot));
        assert_eq!((table.remove(first), table.get(first), table.get(next)), (None, None, Some(&9)));
        table.touch(first, 99, true);
        assert_eq!(SessionId::from_bits(next.to_bits()), next);
        assert_eq!(table.len(), 3);
    }

    #[test]
    fn the_oldest_of_both_kinds_is_found_for_its_silence() {
        let mut table = filled(5..8);
        let id = table.find(&5).unwrap();
        table.touch(id, 6, true);
        assert_eq!(table.oldest().map(|(_, used)| used), Some(6));
        let id = table.find(&6).unwrap();
        table.touch(id, 9, false);
        assert_eq!(table.oldest(), Some((table.find(&5).unwrap(), 6)));
        assert_eq!(SessionTable::<u32, u32>::default().oldest(), None);
    }

    #[test]
    fn what_a_flood_took_is_given_back() {
        let mut table = filled(0..10_000);
        let first = table.find(&0).unwrap();
        while let Some(id) = table.least() {
            table.remove(id);
        }
        assert_eq!((table.slots.capacity(), table.by_key.capacity(), table.is_empty()), (0, 0, true));
        table.insert(0, 0, 0);
        assert_eq!(table.get(first), None);
    }
}
