//! Lists that expressions look into: `host in list("social")`.
//!
//! A [`List`] is what was read at one time; it never changes. [`Shared`] is what a plan names: the list as it is now, which whoever
//! reads files swaps for a newer one while requests go on. Compiled tests hold the shared part, so a refresh needs no new plan and
//! a new plan no refresh. What a list's text may be is told by `read.rs`; entries are kept without an allocation of their own
//! (`names.rs`, `networks.rs`), so that millions of them stay small and a lookup takes a few cache lines.

mod draft;
mod names;
mod networks;
mod patterns;
mod read;

pub use draft::Draft;

use ahash::AHashMap;
use arc_swap::ArcSwap;
use names::Names;
use networks::Networks;
use patterns::Patterns;
use penstock_plan::ListKind;
use serde::Serialize;
use std::net::IpAddr;
use std::sync::Arc;

/// What a list says about bad lines: so many with their reasons.
pub const SHOWN: usize = 5;

/// The lists of a plan, by name.
#[derive(Clone, Debug, Default)]
pub struct Lists(AHashMap<String, Arc<Shared>>);

impl FromIterator<Arc<Shared>> for Lists {
    fn from_iter<I: IntoIterator<Item = Arc<Shared>>>(lists: I) -> Lists {
        Lists(lists.into_iter().map(|list| (list.name.clone(), list)).collect())
    }
}

impl Lists {
    /// Whether these are the very same lists, whatever is in them now.
    pub fn are(&self, others: &Lists) -> bool {
        let same = |name: &str, list: &Arc<Shared>| others.get(name).is_some_and(|other| Arc::ptr_eq(list, other));
        self.0.len() == others.0.len() && self.0.iter().all(|(name, list)| same(name, list))
    }

    /// The list of this name.
    pub(crate) fn get(&self, name: &str) -> Option<&Arc<Shared>> {
        self.0.get(name)
    }
}

/// A list as plans and tests share it.
#[derive(Debug)]
pub struct Shared {
    name: String,
    kind: ListKind,
    /// Names of the files or addresses that it is read from.
    sources: Box<[String]>,
    now: ArcSwap<List>,
}

/// What was read of a list.
#[derive(Debug)]
pub struct List {
    entries: Entries,
    /// What was counted while it was read.
    pub tally: Tally,
}

#[derive(Debug)]
enum Entries {
    Names(Names),
    Networks(Networks),
    Patterns(Patterns),
}

/// What was counted while a list was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Lines that are no entry and need not be one: rules of elements, names such as `localhost`.
    pub ignored: u64,
    /// Lines that are wrong.
    pub bad: u64,
    /// The first of them.
    pub first_bad: Vec<BadLine>,
}

/// A line that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadLine {
    /// Index of the source.
    pub source: u8,
    /// Counted from 1.
    pub line: u32,
    /// The line's beginning, and what is wrong.
    pub reason: String,
}

/// Where an entry was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    pub(crate) line: u32,
    pub(crate) source: u8,
}

/// A list that said yes, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Hit {
    /// Name of the list.
    pub list: String,
    /// What was looked for.
    pub value: String,
    /// The entry that it is found under.
    pub entry: String,
    /// The file or address that has it.
    pub source: String,
    /// Its line there, counted from 1.
    pub line: u32,
}

impl Shared {
    /// A list of these sources that was read as `now`.
    pub fn new(name: &str, kind: ListKind, sources: impl IntoIterator<Item = String>, now: List) -> Shared {
        Shared { name: name.into(), kind, sources: sources.into_iter().collect(), now: ArcSwap::from_pointee(now) }
    }

    /// In the configuration.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What its lines are.
    pub fn kind(&self) -> ListKind {
        self.kind
    }

    /// Hold this from now on.
    pub fn put(&self, list: List) {
        self.now.store(Arc::new(list));
    }

    /// What it holds.
    pub fn now(&self) -> Arc<List> {
        self.now.load_full()
    }

    /// Whether a text is in it.
    #[inline]
    pub fn has_text(&self, text: &[u8]) -> bool {
        self.now.load().has_text(text)
    }

    /// Whether an address is in it.
    #[inline]
    pub fn has_address(&self, address: IpAddr) -> bool {
        self.now.load().has_address(address)
    }

    /// Which entry a text is found under.
    pub fn hit_text(&self, text: &[u8]) -> Option<Hit> {
        let (entry, origin) = match &self.now.load().entries {
            Entries::Names(names) => names.find(text)?,
            Entries::Patterns(patterns) => patterns.find(text)?,
            Entries::Networks(_) => return None,
        };
        Some(self.hit(String::from_utf8_lossy(text).into_owned(), entry, origin))
    }

    /// Which entry an address is found under.
    pub fn hit_address(&self, address: IpAddr) -> Option<Hit> {
        let Entries::Networks(networks) = &self.now.load().entries else { return None };
        let (entry, origin) = networks.find(address)?;
        Some(self.hit(address.to_canonical().to_string(), entry, origin))
    }

    fn hit(&self, value: String, entry: String, origin: Origin) -> Hit {
        let source = self.sources.get(usize::from(origin.source)).cloned().unwrap_or_default();
        Hit { list: self.name.clone(), value, entry, source, line: origin.line }
    }
}

impl List {
    /// One without entries, as long as nothing could be read.
    pub fn empty(kind: ListKind) -> List {
        Draft::new(kind).into_empty()
    }

    /// Whether a text is in it.
    #[inline]
    pub fn has_text(&self, text: &[u8]) -> bool {
        match &self.entries {
            Entries::Names(names) => names.has(text),
            Entries::Patterns(patterns) => patterns.has(text),
            Entries::Networks(_) => false,
        }
    }

    /// Whether an address is in it.
    #[inline]
    pub fn has_address(&self, address: IpAddr) -> bool {
        matches!(&self.entries, Entries::Networks(networks) if networks.has(address))
    }

    /// Distinct entries.
    pub fn len(&self) -> usize {
        match &self.entries {
            Entries::Names(names) => names.len(),
            Entries::Networks(networks) => networks.len(),
            Entries::Patterns(patterns) => patterns.len(),
        }
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes that its entries take in memory; of regular expressions, the text alone.
    pub fn bytes(&self) -> usize {
        match &self.entries {
            Entries::Names(names) => names.bytes(),
            Entries::Networks(networks) => networks.bytes(),
            Entries::Patterns(patterns) => patterns.bytes(),
        }
    }
}

#[cfg(test)]
mod tests;
