//! What a request must say about host and path for a route to match: the keys that the table is indexed by.

use super::predicate::literal_prefix;
use penstock_plan::{Comparison, Literal, Operand, Operator, Predicate};

/// One way to match. A request that fits none of a route's keys cannot match the route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key<'p> {
    pub(super) host: Option<&'p str>,
    pub(super) path: PathKey<'p>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PathKey<'p> {
    Any,
    Prefix(&'p str),
    Exact(&'p str),
}

/// All the ways to match.
#[derive(Clone, Debug)]
pub(super) struct Keys<'p> {
    pub(super) any_of: Vec<Key<'p>>,
    /// Whether fitting a key is not only needed but enough.
    pub(super) decide: bool,
}

/// Combining two parts of an `and` may not make more keys than this, unless one of them has more already.
const MOST: usize = 64;

impl<'p> Keys<'p> {
    /// The keys of a predicate of bounded depth.
    pub(super) fn of(predicate: &'p Predicate) -> Keys<'p> {
        match predicate {
            Predicate::And(parts) => parts.iter().map(Keys::of).fold(Keys::everything(), Keys::and),
            Predicate::Or(parts) => {
                let mut keys = Keys { any_of: Vec::new(), decide: true };
                for part in parts.iter().map(Keys::of) {
                    keys.any_of.extend(part.any_of);
                    keys.decide &= part.decide;
                }
                if keys.any_of.contains(&Key::ANY) { Keys::unknown() } else { keys }
            }
            Predicate::Constant(true) => Keys::everything(),
            Predicate::Constant(false) => Keys { any_of: Vec::new(), decide: true },
            Predicate::Compare(comparison) => Keys::of_comparison(comparison),
            Predicate::In { value, set, .. } => {
                let texts = set.iter().filter_map(|member| match member {
                    Literal::Text(text) => Some(text.as_str()),
                    Literal::Number(_) => None,
                });
                Keys::of_texts(value, texts, PathKey::Exact, true)
            }
            Predicate::StartsWith { value: value @ Operand::Path, prefixes, .. } => {
                Keys::of_texts(value, prefixes.iter().map(String::as_str), PathKey::Prefix, true)
            }
            Predicate::Glob { value: value @ Operand::Path, pattern, .. } => {
                let prefix = literal_prefix(pattern);
                let decide = pattern.strip_prefix(prefix) == Some("**");
                Keys::of_texts(value, [prefix].into_iter(), PathKey::Prefix, decide)
            }
            _ => Keys::unknown(),
        }
    }

    /// Every request fits.
    pub(super) fn everything() -> Keys<'p> {
        Keys { any_of: vec![Key::ANY], decide: true }
    }

    /// No key can be told: the route is looked at for every request.
    fn unknown() -> Keys<'p> {
        Keys { any_of: vec![Key::ANY], decide: false }
    }

    fn of_comparison(comparison: &'p Comparison) -> Keys<'p> {
        match (&comparison.left, comparison.operator, &comparison.right) {
            (value, Operator::Equal, Operand::Text(text)) | (Operand::Text(text), Operator::Equal, value) => {
                Keys::of_texts(value, [text.as_str()].into_iter(), PathKey::Exact, true)
            }
            _ => Keys::unknown(),
        }
    }

    fn of_texts(
        value: &Operand,
        texts: impl Iterator<Item = &'p str>,
        path: fn(&'p str) -> PathKey<'p>,
        decide: bool,
    ) -> Keys<'p> {
        let any_of = match value {
            Operand::Host => texts.map(|text| Key { host: Some(text), ..Key::ANY }).collect(),
            Operand::Path => texts.map(|text| Key { path: path(text), ..Key::ANY }).collect(),
            _ => return Keys::unknown(),
        };
        Keys { any_of, decide }
    }

    fn and(self, other: Keys<'p>) -> Keys<'p> {
        let (here, there) = (self.any_of.len(), other.any_of.len());
        if here.saturating_mul(there) > MOST.max(here).max(there) {
            // Either alone is still needed.
            let any_of = if here <= there { self.any_of } else { other.any_of };
            return Keys { any_of, decide: false };
        }
        let pairs = self.any_of.iter().flat_map(|left| other.any_of.iter().map(move |right| (left, right)));
        Keys {
            any_of: pairs.filter_map(|(left, right)| left.and(right)).collect(),
            decide: self.decide && other.decide,
        }
    }
}

impl<'p> Key<'p> {
    /// What every request fits.
    pub(super) const ANY: Key<'static> = Key { host: None, path: PathKey::Any };

    /// What fits both; `None` if nothing can.
    fn and(&self, other: &Key<'p>) -> Option<Key<'p>> {
        let host = match (self.host, other.host) {
            (Some(left), Some(right)) if left != right => return None,
            (left, right) => left.or(right),
        };
        Some(Key { host, path: self.path.and(other.path)? })
    }
}

impl<'p> PathKey<'p> {
    fn and(self, other: PathKey<'p>) -> Option<PathKey<'p>> {
        match (self, other) {
            (PathKey::Any, path) | (path, PathKey::Any) => Some(path),
            (PathKey::Exact(left), PathKey::Exact(right)) => (left == right).then_some(self),
            (PathKey::Exact(path), PathKey::Prefix(prefix)) => path.starts_with(prefix).then_some(self),
            (PathKey::Prefix(prefix), PathKey::Exact(path)) => path.starts_with(prefix).then_some(other),
            (PathKey::Prefix(left), PathKey::Prefix(right)) if left.starts_with(right) => Some(self),
            (PathKey::Prefix(left), PathKey::Prefix(right)) => right.starts_with(left).then_some(other),
        }
    }
}
