//! The two tables of fields: the one that the standard has (RFC 7541 Appendix A), and one of what went by on this connection (§2.3.2).

use std::collections::VecDeque;
use std::fmt;

/// A name and a value.
pub(super) type Pair<'a> = (&'a [u8], &'a [u8]);

/// What an entry costs beyond its bytes (RFC 7541 §4.1).
const OVERHEAD: usize = 32;

/// What an entry of this name and value costs (RFC 7541 §4.1).
pub(super) fn cost(name: &[u8], value: &[u8]) -> usize {
    name.len().saturating_add(value.len()).saturating_add(OVERHEAD)
}

/// Where the name of a new entry is.
#[derive(Clone, Copy)]
pub(super) enum Name<'a> {
    Given(&'a [u8]),
    /// That of the entry so far back in the table: it can fall out to make room for the new one (RFC 7541 §4.4).
    Back(usize),
}

/// Where an entry's name begins; its value is behind it.
#[derive(Clone, Copy)]
struct Entry {
    start: u32,
    name: u32,
    value: u32,
}

impl Entry {
    fn value_start(self) -> usize {
        self.start as usize + self.name as usize
    }

    fn end(self) -> usize {
        self.value_start() + self.value as usize
    }

    fn cost(self) -> usize {
        self.end() - self.start as usize + OVERHEAD
    }
}

/// Fields that went by, the newest of which can be named by a number.
///
/// Their bytes lie in one buffer, one behind the other, so that each part is a slice. Those of the oldest stay there when an entry
/// falls out, until the buffer would become longer than twice what the table may hold: moving the rest then costs less for each
/// byte than it cost to write it.
pub(super) struct Table {
    bytes: Vec<u8>,
    /// The oldest first.
    entries: VecDeque<Entry>,
    /// As RFC 7541 §4.1 counts.
    size: usize,
    most: usize,
}

impl Table {
    /// Of `most` bytes, as RFC 7541 §4.1 counts. Takes no memory until something is put into it.
    pub(super) fn new(most: usize) -> Table {
        Table { bytes: Vec::new(), entries: VecDeque::new(), size: 0, most: most.min(MOST) }
    }

    /// Number of entries.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Bytes that it may hold.
    pub(super) fn most(&self) -> usize {
        self.most
    }

    /// The entry so far back, where 0 is the newest.
    pub(super) fn get(&self, back: usize) -> Option<Pair<'_>> {
        let entry = self.entry(back)?;
        let bytes = self.bytes.get(entry.start as usize..entry.end())?;
        bytes.split_at_checked(entry.name as usize)
    }

    /// Put a field in front. One that is larger than the table empties it (RFC 7541 §4.4).
    pub(super) fn insert(&mut self, name: Name<'_>, value: &[u8]) {
        let length = match name {
            Name::Given(name) => name.len(),
            Name::Back(back) => self.entry(back).map_or(0, |entry| entry.name as usize),
        };
        let cost = length.saturating_add(value.len()).saturating_add(OVERHEAD);
        if cost > self.most {
            self.evict(0);
            return;
        }
        // Before anything falls out: the name may be that of what does.
        self.make_room(cost - OVERHEAD);
        let start = self.bytes.len();
        match name {
            Name::Given(name) => self.bytes.extend_from_slice(name),
            Name::Back(back) => {
                if let Some(entry) = self.entry(back) {
                    self.bytes.extend_from_within(entry.start as usize..entry.value_start());
                }
            }
        }
        self.bytes.extend_from_slice(value);
        self.evict(self.most - cost);
        // All below MOST twice.
        self.entries.push_back(Entry { start: start as u32, name: length as u32, value: value.len() as u32 });
        self.size += cost;
    }

    /// It may hold so many bytes from now on (RFC 7541 §4.3).
    pub(super) fn resize(&mut self, most: usize) {
        self.most = most.min(MOST);
        self.evict(self.most);
    }

    fn entry(&self, back: usize) -> Option<Entry> {
        let at = self.entries.len().checked_sub(1)?.checked_sub(back)?;
        self.entries.get(at).copied()
    }

    /// Let the oldest fall out until it is no larger than `size`.
    fn evict(&mut self, size: usize) {
        while self.size > size
            && let Some(entry) = self.entries.pop_front()
        {
            self.size -= entry.cost();
        }
    }

    /// For so many bytes more. What is there is no more than the table may hold, so that this is never more than twice as much.
    fn make_room(&mut self, more: usize) {
        let limit = 2 * self.most;
        if self.bytes.len() + more > limit {
            let gone = self.entries.front().map_or(self.bytes.len(), |entry| entry.start as usize);
            self.bytes.drain(..gone);
            for entry in &mut self.entries {
                entry.start -= gone as u32;
            }
        }
        let needed = self.bytes.len() + more;
        if needed > self.bytes.capacity() {
            let capacity = (2 * self.bytes.capacity()).min(limit).max(needed);
            self.bytes.reserve_exact(capacity - self.bytes.len());
        }
    }
}

#[cfg(test)]
impl Table {
    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// Bytes that fields take.
    pub(super) fn memory(&self) -> usize {
        self.bytes.capacity()
    }
}

/// Bytes of the largest table, so that twice as much is a number of 32 bits. A peer can ask for one of 4 GiB (RFC 9113 §6.5.2).
const MOST: usize = 1 << 30;

/// Numbers only: what went by may be secret.
impl fmt::Debug for Table {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.debug_struct("Table").field("entries", &self.entries.len()).field("size", &self.size).finish_non_exhaustive()
    }
}

/// The index of the first entry of the dynamic table (RFC 7541 §2.3.3).
pub(super) const FIRST_DYNAMIC: usize = STATIC.len() + 1;

/// The static table, whose first entry has the index 1 (RFC 7541 Appendix A).
pub(super) static STATIC: [Pair<'static>; 61] = [
    (b":authority", b""),
    (b":method", b"GET"),
    (b":method", b"POST"),
    (b":path", b"/"),
    (b":path", b"/index.html"),
    (b":scheme", b"http"),
    (b":scheme", b"https"),
    (b":status", b"200"),
    (b":status", b"204"),
    (b":status", b"206"),
    (b":status", b"304"),
    (b":status", b"400"),
    (b":status", b"404"),
    (b":status", b"500"),
    (b"accept-charset", b""),
    (b"accept-encoding", b"gzip, deflate"),
    (b"accept-language", b""),
    (b"accept-ranges", b""),
    (b"accept", b""),
    (b"access-control-allow-origin", b""),
    (b"age", b""),
    (b"allow", b""),
    (b"authorization", b""),
    (b"cache-control", b""),
    (b"content-disposition", b""),
    (b"content-encoding", b""),
    (b"content-language", b""),
    (b"content-length", b""),
    (b"content-location", b""),
    (b"content-range", b""),
    (b"content-type", b""),
    (b"cookie", b""),
    (b"date", b""),
    (b"etag", b""),
    (b"expect", b""),
    (b"expires", b""),
    (b"from", b""),
    (b"host", b""),
    (b"if-match", b""),
    (b"if-modified-since", b""),
    (b"if-none-match", b""),
    (b"if-range", b""),
    (b"if-unmodified-since", b""),
    (b"last-modified", b""),
    (b"link", b""),
    (b"location", b""),
    (b"max-forwards", b""),
    (b"proxy-authenticate", b""),
    (b"proxy-authorization", b""),
    (b"range", b""),
    (b"referer", b""),
    (b"refresh", b""),
    (b"retry-after", b""),
    (b"server", b""),
    (b"set-cookie", b""),
    (b"strict-transport-security", b""),
    (b"transfer-encoding", b""),
    (b"user-agent", b""),
    (b"vary", b""),
    (b"via", b""),
    (b"www-authenticate", b""),
];

/// The index of the first static entry of this name, which is in lower case.
pub(super) fn index_of(name: &[u8]) -> Option<usize> {
    let index = usize::from(SLOTS[slot(name)?]);
    let (found, _) = STATIC.get(index.checked_sub(1)?)?;
    (*found == name).then_some(index)
}

/// Where each name of the static table is found: no two share a slot.
static SLOTS: [u8; 128] = {
    let mut slots = [0; 128];
    let mut index = STATIC.len();
    // Backwards, so that the first of one name stays.
    while index > 0 {
        let (name, _) = STATIC[index - 1];
        if let Some(slot) = slot(name) {
            slots[slot] = index as u8;
        }
        index -= 1;
    }
    slots
};

/// Found by trying: it gives every name of the static table a slot of its own.
const SPREAD: u32 = 0xf98f_5de1;

/// Below 128.
const fn slot(name: &[u8]) -> Option<usize> {
    let ([first, ..], [.., last]) = (name, name) else { return None };
    let key = u32::from_le_bytes([name.len() as u8, *first, name[name.len() / 2], *last]);
    Some((key.wrapping_mul(SPREAD) >> 25) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_static_name_is_found() {
        for (at, (name, _)) in STATIC.iter().enumerate() {
            let first = STATIC.iter().position(|(other, _)| other == name).unwrap();
            assert_eq!(index_of(name), Some(first + 1), "{at}");
        }
        for name in [&b""[..], b"a", b"x-request-id", b"Age", b"datf", &[b'a'; 300]] {
            assert_eq!(index_of(name), None);
        }
    }

    #[test]
    fn the_oldest_falls_out() {
        let mut table = Table::new(100);
        table.insert(Name::Given(b"a"), b"1");
        table.insert(Name::Given(b"b"), b"2");
        assert_eq!((table.len(), table.size, table.get(1)), (2, 68, Some((&b"a"[..], &b"1"[..]))));
        table.insert(Name::Given(b"c"), b"3");
        assert_eq!((table.len(), table.size, table.get(1)), (2, 68, Some((&b"b"[..], &b"2"[..]))));
        assert_eq!(table.get(2), None);
        table.resize(67);
        assert_eq!((table.len(), table.get(0)), (1, Some((&b"c"[..], &b"3"[..]))));
        table.insert(Name::Given(b"d"), &[0; 35]);
        assert_eq!((table.len(), table.size), (0, 0));
    }

    #[test]
    fn an_entry_may_have_the_name_of_one_that_it_drives_out() {
        let mut table = Table::new(64);
        table.insert(Name::Given(b"name"), b"0");
        for round in 0..1000u32 {
            let value = vec![b'v'; round as usize % 28];
            table.insert(Name::Back(0), &value);
            assert_eq!(table.get(0), Some((&b"name"[..], &value[..])));
            assert!(table.size <= 64 && table.bytes.capacity() <= 128, "{}", table.bytes.capacity());
        }
    }
}
