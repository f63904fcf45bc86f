//! Domains and hosts: one behind the other, and a table of where each stands.
//!
//! A name costs its text, 7 bytes that say where it was written, and 6 to 12 of the table: 4 that say where it stands, and one byte
//! of its hash, in a table that is at most 7/8 full and doubles. A lookup hashes each suffix that begins a label, the longest first.
//! Those that are not there are told by the bytes of hashes alone, which lie close together; only for one that is there its place
//! and its text are looked at.

use super::Origin;
use ahash::RandomState;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry as Room;

/// The longest name (RFC 1035 §2.3.4), with a dot behind it.
const LONGEST: usize = 254;
/// Of an entry, before its name: the line's number, the source's, whether it takes names out, and the name's length.
const HEAD: usize = 7;

/// Names that are looked for whole, or with all that ends in them.
#[derive(Debug, Default)]
pub(super) struct Names {
    entries: Vec<u8>,
    /// Where each entry begins.
    places: HashTable<u32>,
    /// Whoever writes a list does not know the seed, so cannot choose names that collide.
    hasher: RandomState,
    /// Whether subdomains count, too.
    wide: bool,
    /// Whether some entry takes names out.
    has_exceptions: bool,
    /// Labels of the longest name: suffixes with more need not be looked for.
    most_labels: usize,
}

/// An entry, read.
#[derive(Clone, Copy, Debug)]
struct Entry<'e> {
    origin: Origin,
    exception: bool,
    name: &'e [u8],
}

impl Names {
    /// None yet; with `wide`, subdomains count, too.
    pub(super) fn new(wide: bool) -> Names {
        Names { wide, ..Names::default() }
    }

    /// Make room for so many more.
    pub(super) fn reserve(&mut self, more: usize) {
        self.places.reserve(more, |place| self.hasher.hash_one(name_at(&self.entries, *place)));
    }

    /// Add a name of at most 253 bytes. Whether there was room. What is written twice stays once: as an exception, if it is one
    /// anywhere.
    pub(super) fn add(&mut self, name: &[u8], exception: bool, origin: Origin) -> bool {
        let end = self.entries.len();
        let (Ok(place), Ok(length)) = (u32::try_from(end), u8::try_from(name.len())) else { return false };
        let [a, b, c, d] = origin.line.to_ne_bytes();
        let head = [a, b, c, d, origin.source, exception.into(), length];
        self.entries.extend_from_slice(&head);
        self.entries.extend(name.iter().map(u8::to_ascii_lowercase));
        let hash_of = |place: &u32| self.hasher.hash_one(name_at(&self.entries, *place));
        let is_same = |other: &u32| name_at(&self.entries, *other) == name_at(&self.entries, place);
        match self.places.entry(hash_of(&place), is_same, hash_of) {
            Room::Vacant(room) => {
                room.insert(place);
            }
            Room::Occupied(before) => {
                let before = *before.get();
                self.entries.truncate(end);
                if exception && entry_at(&self.entries, before).is_some_and(|before| !before.exception) {
                    let room = self.entries.get_mut(before as usize..).and_then(<[u8]>::first_chunk_mut);
                    room.into_iter().for_each(|room| *room = head);
                }
            }
        }
        self.has_exceptions |= exception;
        self.most_labels = self.most_labels.max(labels(name));
        true
    }

    /// There will be no more of them.
    pub(super) fn finish(&mut self) {
        self.entries.shrink_to_fit();
        self.places.shrink_to_fit(|place| self.hasher.hash_one(name_at(&self.entries, *place)));
    }

    /// Whether `text`, or a domain that it belongs to, is here and nothing takes it out.
    #[inline]
    pub(super) fn has(&self, text: &[u8]) -> bool {
        self.lookup(text).is_some()
    }

    /// The entry that says so.
    pub(super) fn find(&self, text: &[u8]) -> Option<(String, Origin)> {
        let entry = self.lookup(text)?;
        Some((String::from_utf8_lossy(entry.name).into_owned(), entry.origin))
    }

    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.entries.capacity() + self.places.allocation_size()
    }

    fn lookup(&self, text: &[u8]) -> Option<Entry<'_>> {
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
    fn get(&self, name: &[u8]) -> Option<Entry<'_>> {
        let place = self.places.find(self.hasher.hash_one(name), |place| name_at(&self.entries, *place) == name)?;
        entry_at(&self.entries, *place)
    }
}

fn entry_at(entries: &[u8], place: u32) -> Option<Entry<'_>> {
    let (&[a, b, c, d, source, exception, length], behind) =
        entries.get(place as usize..)?.split_first_chunk::<HEAD>()?;
    let origin = Origin { line: u32::from_ne_bytes([a, b, c, d]), source };
    Some(Entry { origin, exception: exception != 0, name: behind.get(..usize::from(length))? })
}

#[inline]
fn name_at(entries: &[u8], place: u32) -> &[u8] {
    entry_at(entries, place).map_or(&[], |entry| entry.name)
}

/// How many labels a name has.
fn labels(name: &[u8]) -> usize {
    memchr::memchr_iter(b'.', name).count() + 1
}
