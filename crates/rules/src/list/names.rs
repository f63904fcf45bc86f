//! Domains and hosts: one text behind the other, and a table of places in it.
//!
//! A name costs its text, 12 bytes that say where the text stands and where it was written, and about 11 of the table. A lookup
//! hashes each suffix that begins a label, the longest first, and touches one line of the table for each that is not there: a place
//! of the table has half of the hash in it, so that texts are compared only where they are equal.

use super::Origin;
use ahash::RandomState;

/// The longest name (RFC 1035 §2.3.4), with a dot behind it.
const LONGEST: usize = 254;

/// Names that are looked for whole, or with all that ends in them.
#[derive(Debug, Default)]
pub(super) struct Names {
    text: Vec<u8>,
    entries: Vec<Entry>,
    table: Table,
    /// Whether subdomains count, too.
    wide: bool,
    /// Whether some entry takes names out.
    has_exceptions: bool,
    /// Labels of the longest name: suffixes with more need not be looked for.
    most_labels: usize,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    offset: u32,
    line: u32,
    length: u8,
    source: u8,
    exception: bool,
}

/// Places of entries by the hash of their names: open addressing, at most 7 of 10 taken.
#[derive(Debug, Default)]
struct Table {
    /// Half of the hash, and the entry's number + 1; 0: nothing is here.
    places: Vec<u64>,
    hasher: RandomState,
}

enum Place {
    Taken(usize),
    /// To be taken; `None`: the table is full.
    Free(Option<usize>),
}

impl Names {
    /// None yet; with `wide`, subdomains count, too.
    pub(super) fn new(wide: bool) -> Names {
        Names { wide, ..Names::default() }
    }

    /// Add a name in lower case, of at most 253 bytes. Whether there was room.
    pub(super) fn add(&mut self, name: &[u8], exception: bool, origin: Origin) -> bool {
        let (Ok(offset), Ok(length)) = (u32::try_from(self.text.len()), u8::try_from(name.len())) else { return false };
        self.text.extend(name.iter().map(u8::to_ascii_lowercase));
        self.entries.push(Entry { offset, line: origin.line, length, source: origin.source, exception });
        self.has_exceptions |= exception;
        self.most_labels = self.most_labels.max(labels(name));
        true
    }

    /// Make them ready to be asked. What is written twice stays once: as an exception, if it is one anywhere.
    pub(super) fn finish(&mut self) {
        let (mut kept, mut end) = (0, 0);
        let mut table = Table::of(self.entries.len());
        for at in 0..self.entries.len() {
            let Some(&entry) = self.entries.get(at) else { break };
            let from = entry.offset as usize;
            let name = from..from.saturating_add(usize::from(entry.length));
            let place = self.text.get(name.clone()).map(|name| table.find(name, &self.entries, &self.text));
            match place {
                Some(Place::Taken(before)) => {
                    if let Some(before) = self.entries.get_mut(before)
                        && entry.exception
                        && !before.exception
                    {
                        *before = Entry { offset: before.offset, ..entry };
                    }
                }
                Some(Place::Free(Some(free))) => {
                    let hash = self.text.get(name.clone()).map_or(0, |name| table.hash(name));
                    table.take(free, hash, kept);
                    // Texts move towards the beginning only: none is overwritten before it was read.
                    self.text.copy_within(name, end);
                    let offset = u32::try_from(end).unwrap_or(u32::MAX);
                    if let Some(room) = self.entries.get_mut(kept) {
                        *room = Entry { offset, ..entry };
                    }
                    kept += 1;
                    end += usize::from(entry.length);
                }
                Some(Place::Free(None)) | None => {}
            }
        }
        let many_were_twice = kept < self.entries.len() / 4 * 3;
        self.entries.truncate(kept);
        self.entries.shrink_to_fit();
        self.text.truncate(end);
        self.text.shrink_to_fit();
        self.table = if many_were_twice { self.table_of_all() } else { table };
    }

    /// Whether `text`, or a domain that it belongs to, is here and nothing takes it out.
    #[inline]
    pub(super) fn has(&self, text: &[u8]) -> bool {
        self.lookup(text).is_some()
    }

    /// The entry that says so.
    pub(super) fn find(&self, text: &[u8]) -> Option<(String, Origin)> {
        let entry = self.lookup(text)?;
        let name = String::from_utf8_lossy(entry.name(&self.text)).into_owned();
        Some((name, Origin { line: entry.line, source: entry.source }))
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.text.capacity()
            + self.entries.capacity() * size_of::<Entry>()
            + self.table.places.capacity() * size_of::<u64>()
    }

    fn lookup(&self, text: &[u8]) -> Option<&Entry> {
        let text = text.strip_suffix(b".").unwrap_or(text);
        let mut room = [0; LONGEST];
        let name = room.get_mut(..text.len())?;
        name.copy_from_slice(text);
        name.make_ascii_lowercase();
        if !self.wide {
            return self.get(name);
        }
        let mut skip = labels(name).saturating_sub(self.most_labels);
        let (mut rest, mut found) = (&*name, None);
        loop {
            if skip > 0 {
                skip -= 1;
            } else if let Some(entry) = self.get(rest) {
                if entry.exception {
                    return None;
                }
                found = found.or(Some(entry));
                if !self.has_exceptions {
                    return found;
                }
            }
            match memchr::memchr(b'.', rest).and_then(|dot| rest.get(dot + 1..)) {
                Some(parent) => rest = parent,
                None => return found,
            }
        }
    }

    #[inline]
    fn get(&self, name: &[u8]) -> Option<&Entry> {
        match self.table.find(name, &self.entries, &self.text) {
            Place::Taken(at) => self.entries.get(at),
            Place::Free(_) => None,
        }
    }

    fn table_of_all(&self) -> Table {
        let mut table = Table::of(self.entries.len());
        for (at, entry) in self.entries.iter().enumerate() {
            let name = entry.name(&self.text);
            if let Place::Free(Some(free)) = table.find(name, &self.entries, &self.text) {
                let hash = table.hash(name);
                table.take(free, hash, at);
            }
        }
        table
    }
}

impl Entry {
    fn name<'t>(&self, text: &'t [u8]) -> &'t [u8] {
        let from = self.offset as usize;
        text.get(from..from.saturating_add(usize::from(self.length))).unwrap_or_default()
    }
}

impl Table {
    fn of(entries: usize) -> Table {
        // Whoever writes a list does not know the hasher's seed, so cannot choose names that collide.
        Table { places: vec![0; entries.saturating_mul(10) / 7 + 1], hasher: RandomState::new() }
    }

    #[inline]
    fn hash(&self, name: &[u8]) -> u64 {
        self.hasher.hash_one(name)
    }

    #[inline]
    fn find(&self, name: &[u8], entries: &[Entry], text: &[u8]) -> Place {
        let hash = self.hash(name);
        // The upper half of the hash says where to begin, the lower half whether it may be this one.
        let begin = (u128::from(hash >> 32) * self.places.len() as u128) >> 32;
        let begin = usize::try_from(begin).unwrap_or_default();
        let (before, behind) = self.places.split_at_checked(begin).unwrap_or_default();
        let places = behind.iter().zip(begin..).chain(before.iter().zip(0..));
        for (&place, at) in places {
            if place == 0 {
                return Place::Free(Some(at));
            }
            if place >> 32 == hash & 0xffff_ffff {
                let number = (place & 0xffff_ffff) as usize - 1;
                if entries.get(number).is_some_and(|entry| entry.name(text) == name) {
                    return Place::Taken(number);
                }
            }
        }
        Place::Free(None)
    }

    fn take(&mut self, at: usize, hash: u64, number: usize) {
        if let Some(place) = self.places.get_mut(at) {
            *place = (hash << 32) | (number as u64 + 1);
        }
    }
}

/// How many labels a name has.
fn labels(name: &[u8]) -> usize {
    memchr::memchr_iter(b'.', name).count() + 1
}
