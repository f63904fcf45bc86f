//! Which share of a split takes a request: the one it names, the one of its key, or any by weight.
//!
//! A key's share follows from the key, the upstreams' names and the weights alone, so it is the same on every machine and after
//! every reload: weighted rendezvous hashing, as docs/balancing.md describes it. Where one weight changes, keys move only to or from
//! that share, so no fewer could; where several do, at most 2 ÷ (1 + d) times as many as the least, d being the part of all keys that
//! must move, and no rule that knows only the present weights can promise less (Angel and Spinka, 2019).

use super::value::{Text, Value};
use super::{Key, View};
use crate::balance::Rendezvous;
use crate::fault::Fault;
use penstock_plan::{Field, Operand, Override, Share};

/// A compiled [`penstock_plan::Split`].
#[derive(Debug)]
pub struct Split {
    shares: Box<[Share]>,
    /// Sum of the weights.
    total: u64,
    key: Option<Key>,
    places: Rendezvous,
    /// Where a request names its share, the first to be looked at first.
    named_by: Vec<(Text, Reason)>,
    /// What it may say there, and the upstream that is meant.
    values: Box<[(Box<[u8]>, u32)]>,
}

/// Why a request has the share it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// A header names it.
    Header,
    /// A cookie names it.
    Cookie,
    /// Its key is there.
    Key,
}

impl Reason {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Reason::Header => "header",
            Reason::Cookie => "cookie",
            Reason::Key => "key",
        }
    }
}

impl Split {
    /// Compile `plan`, which stands at `path`; `name` tells of an upstream by its index.
    ///
    /// # Errors
    /// All faults: a key that is none, shares that sum to nothing, an override that names nothing or another upstream.
    pub fn build<'n>(
        plan: &penstock_plan::Split,
        name: impl Fn(u32) -> &'n str,
        path: &str,
    ) -> Result<Split, Vec<Fault>> {
        let mut faults = Vec::new();
        let total = plan.shares.iter().map(|share| u64::from(share.weight)).sum();
        if total == 0 {
            faults.push(Fault::new(format!("{path}.shares"), "every weight is 0; at least one must be greater"));
        }
        let key = plan
            .key
            .as_ref()
            .and_then(|key| Key::compile(key, &format!("{path}.key")).map_err(|found| faults.extend(found)).ok());
        let (mut named_by, mut values) = (Vec::new(), Vec::new());
        if let Some(wanted) = &plan.named_by {
            named_by = places(wanted);
            if named_by.is_empty() {
                faults.push(Fault::new(format!("{path}.override"), "needs a header or a cookie"));
            }
            for (value, upstream) in &wanted.values {
                if !plan.shares.iter().any(|share| share.upstream == *upstream) {
                    let message = format!("{value:?} means an upstream that is no share of this split");
                    faults.push(Fault::new(format!("{path}.override.values"), message));
                }
                values.push((value.as_bytes().into(), *upstream));
            }
        }
        let places = Rendezvous::build(plan.shares.iter().map(|share| (name(share.upstream), share.weight)));
        if !faults.is_empty() {
            return Err(faults);
        }
        Ok(Split { shares: plan.shares.as_slice().into(), total, key, places, named_by, values: values.into() })
    }

    /// Index of the upstream that takes the request; `random` decides where nothing else does.
    #[inline]
    pub fn choose(&self, view: &View<'_>, random: u64) -> u32 {
        self.assigned(view).map_or_else(|| self.drawn(random), |(upstream, _)| upstream)
    }

    /// Index of the upstream that takes every request like this one, and why. `None`: each is drawn.
    #[inline]
    pub fn assigned(&self, view: &View<'_>) -> Option<(u32, Reason)> {
        let named = self.named_by.iter().find_map(|(text, reason)| Some((self.named(text, view)?, *reason)));
        named.or_else(|| {
            let place = self.places.find(self.key.as_ref()?.hash(view)?, |_| true)?;
            Some((self.shares.get(place)?.upstream, Reason::Key))
        })
    }

    fn named(&self, text: &Text, view: &View<'_>) -> Option<u32> {
        let found = text.read(view, |found| self.values.iter().find(|(value, _)| **value == *found));
        found.flatten().map(|(_, upstream)| *upstream)
    }

    fn drawn(&self, random: u64) -> u32 {
        let mut point = random % self.total.max(1);
        let taken = self.shares.iter().find(|share| {
            let taken = point < u64::from(share.weight);
            point = point.saturating_sub(u64::from(share.weight));
            taken
        });
        taken.map_or(0, |share| share.upstream)
    }
}

/// Where a request may name its share, in the order of looking.
fn places(wanted: &Override) -> Vec<(Text, Reason)> {
    let header = wanted.header.clone().map(|name| (Field::Header(name), Reason::Header));
    let cookie = wanted.cookie.clone().map(|name| (Field::Cookie(name), Reason::Cookie));
    let found =
        header.into_iter().chain(cookie).filter_map(|(field, reason)| match Value::compile(&Operand::Field(field)) {
            Ok(Value::Text(text)) => Some((text, reason)),
            _ => None,
        });
    found.collect()
}

#[cfg(test)]
mod tests;
