//! One compiled match: a tree of tests on a request.
//!
//! Everything that can fail (types, regular expressions, networks, depth) fails in `compile.rs`, when the plan comes; a test on a request
//! always has an answer, takes time linear in the request, and is false on a value that the request does not have.

mod compile;

pub(super) use compile::literal_prefix;

use super::View;
use super::json::{Found, Pointer};
use super::value::{Number, Text, has_field};
use crate::fault::Fault;
use crate::list::{Hit, Lists, Shared};
use crate::network::Network;
use ahash::AHashSet;
use memchr::memmem::Finder;
use penstock_plan::{Field, Operator, Predicate, Span};
use std::cmp::Ordering;
use std::fmt::Display;
use std::sync::Arc;

/// A compiled [`Predicate`].
#[derive(Clone, Debug)]
pub struct Test(Node);

/// The part of a test that said no.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Its place in the expression; `None` for a constant.
    pub at: Option<Span>,
    /// The value that the request has there; `None` if it has none, or if no single value decided.
    pub found: Option<String>,
}

#[derive(Clone, Debug)]
enum Node {
    All(Box<[Node]>),
    Any(Box<[Node]>),
    Not(Box<Node>),
    Constant(bool),
    Leaf(Leaf, Span),
}

#[derive(Clone, Debug)]
enum Leaf {
    Text(Text, Operator, Text),
    Number(Number, Operator, Number),
    OneOfTexts(Text, Texts),
    OneOfNumbers(Number, Box<[i64]>),
    InNetworks(Box<[Network]>),
    DestInNetworks(Box<[Network]>),
    InList(Text, Arc<Shared>),
    ClientInList(Arc<Shared>),
    DestInList(Arc<Shared>),
    Contains(Text, Part),
    Exists(Field),
    JsonExists(Pointer),
    /// `None`: null.
    JsonIs(Pointer, Option<bool>),
    StartsWith(Text, Box<[Box<str>]>),
    EndsWith(Text, Box<[Box<str>]>),
    Matches(Text, regex::bytes::Regex),
}

#[derive(Clone, Debug)]
enum Texts {
    Few(Box<[Box<str>]>),
    Many(AHashSet<Box<[u8]>>),
}

#[derive(Clone, Debug)]
enum Part {
    Literal(Box<Finder<'static>>),
    Read(Text),
}

impl Test {
    /// Compile `predicate`, which stands at `path` in a plan that has these lists.
    ///
    /// # Errors
    /// All faults: regular expressions or networks that are none, types that do not fit, lists that are not there, a tree deeper
    /// than 64.
    pub fn compile(predicate: &Predicate, path: impl Display, lists: &Lists) -> Result<Test, Vec<Fault>> {
        compile::compile(predicate, &path, lists).map(Test)
    }

    /// Whether the request matches.
    pub fn matches(&self, view: &View<'_>) -> bool {
        self.0.matches(view)
    }

    /// Whether it asks for a value of the body.
    pub(super) fn asks_body(&self) -> bool {
        self.0.asks_body()
    }

    /// Which part says no, and the value it found; `None` if the request matches.
    pub fn refusal(&self, view: &View<'_>) -> Option<Refusal> {
        if self.matches(view) { None } else { Some(self.0.refusal(view)) }
    }

    /// The entries under which lists have what the test looks for in them, whatever the test makes of it.
    pub fn hits(&self, view: &View<'_>) -> Vec<Hit> {
        let mut hits = Vec::new();
        self.0.hits(view, &mut hits);
        hits
    }

    /// Where the first list stands, of those that make the test match, that has what is looked for in it.
    pub fn listed(&self, view: &View<'_>) -> Option<Hit> {
        self.0.listed(view)
    }
}

impl Node {
    fn matches(&self, view: &View<'_>) -> bool {
        match self {
            Node::All(nodes) => nodes.iter().all(|node| node.matches(view)),
            Node::Any(nodes) => nodes.iter().any(|node| node.matches(view)),
            Node::Not(node) => !node.matches(view),
            Node::Constant(answer) => *answer,
            Node::Leaf(leaf, _) => leaf.matches(view),
        }
    }

    /// Why a node that does not match does not.
    fn refusal(&self, view: &View<'_>) -> Refusal {
        match self {
            Node::All(nodes) => match nodes.iter().find(|node| !node.matches(view)) {
                Some(node) => node.refusal(view),
                None => Refusal { at: self.span(), found: None },
            },
            Node::Leaf(leaf, at) => Refusal { at: Some(*at), found: leaf.found(view) },
            Node::Not(node) => match &**node {
                Node::Leaf(leaf, at) => Refusal { at: Some(*at), found: leaf.found(view) },
                _ => Refusal { at: self.span(), found: None },
            },
            // Of several that all said no, none is the reason.
            Node::Any(_) | Node::Constant(_) => Refusal { at: self.span(), found: None },
        }
    }

    fn hits(&self, view: &View<'_>, hits: &mut Vec<Hit>) {
        match self {
            Node::All(nodes) | Node::Any(nodes) => nodes.iter().for_each(|node| node.hits(view, hits)),
            Node::Not(node) => node.hits(view, hits),
            Node::Leaf(leaf, _) => hits.extend(leaf.hit(view)),
            Node::Constant(_) => {}
        }
    }

    fn listed(&self, view: &View<'_>) -> Option<Hit> {
        match self {
            Node::All(nodes) => nodes.iter().find_map(|node| node.listed(view)),
            Node::Any(nodes) => nodes.iter().filter(|node| node.matches(view)).find_map(|node| node.listed(view)),
            Node::Leaf(leaf, _) => leaf.hit(view),
            // What is in a list makes no test match that asks whether it is not.
            Node::Not(_) | Node::Constant(_) => None,
        }
    }

    fn asks_body(&self) -> bool {
        match self {
            Node::All(nodes) | Node::Any(nodes) => nodes.iter().any(Node::asks_body),
            Node::Not(node) => node.asks_body(),
            Node::Constant(_) => false,
            Node::Leaf(leaf, _) => leaf.asks_body(),
        }
    }

    /// From the first to the last leaf.
    fn span(&self) -> Option<Span> {
        match self {
            Node::All(nodes) | Node::Any(nodes) => {
                nodes.iter().filter_map(Node::span).reduce(|whole, part| Span(whole.0.min(part.0), whole.1.max(part.1)))
            }
            Node::Not(node) => node.span(),
            Node::Constant(_) => None,
            Node::Leaf(_, at) => Some(*at),
        }
    }
}

impl Leaf {
    /// Where the list that is looked into has what is looked for.
    fn hit(&self, view: &View<'_>) -> Option<Hit> {
        match self {
            Leaf::InList(value, list) => value.read(view, |value| list.hit_text(value)).flatten(),
            Leaf::ClientInList(list) => list.hit_address(view.client?),
            Leaf::DestInList(list) => list.hit_address(view.errand?.address?),
            _ => None,
        }
    }

    fn matches(&self, view: &View<'_>) -> bool {
        // A value that is missing makes the whole leaf false: also `!=`.
        self.answer(view).unwrap_or(false)
    }

    fn answer(&self, view: &View<'_>) -> Option<bool> {
        match self {
            Leaf::Text(left, operator, right) => {
                left.read(view, |left| right.read(view, |right| holds(left.cmp(right), *operator)))?
            }
            Leaf::Number(left, operator, right) => Some(holds(left.read(view)?.cmp(&right.read(view)?), *operator)),
            Leaf::OneOfTexts(value, texts) => value.read(view, |value| match texts {
                Texts::Few(texts) => texts.iter().any(|text| text.as_bytes() == value),
                Texts::Many(texts) => texts.contains(value),
            }),
            Leaf::OneOfNumbers(value, numbers) => Some(numbers.binary_search(&value.read(view)?).is_ok()),
            Leaf::InNetworks(networks) => {
                let client = view.client?;
                Some(networks.iter().any(|network| network.contains(client)))
            }
            Leaf::DestInNetworks(networks) => {
                let address = view.errand?.address?;
                Some(networks.iter().any(|network| network.contains(address)))
            }
            Leaf::InList(value, list) => value.read(view, |value| list.has_text(value)),
            Leaf::ClientInList(list) => Some(list.has_address(view.client?)),
            Leaf::DestInList(list) => Some(list.has_address(view.errand?.address?)),
            Leaf::Contains(value, Part::Literal(part)) => value.read(view, |value| part.find(value).is_some()),
            Leaf::Contains(value, Part::Read(part)) => {
                value.read(view, |value| part.read(view, |part| memchr::memmem::find(value, part).is_some()))?
            }
            Leaf::Exists(field) => Some(has_field(field, view)),
            Leaf::JsonExists(pointer) => view.body?.read(pointer, |_| Some(true)),
            Leaf::JsonIs(pointer, wanted) => view.body?.read(pointer, |found| match found {
                Found::Bool(value) => Some(Some(*value) == *wanted),
                Found::Null => Some(wanted.is_none()),
                _ => None,
            }),
            Leaf::StartsWith(value, prefixes) => {
                value.read(view, |value| prefixes.iter().any(|prefix| value.starts_with(prefix.as_bytes())))
            }
            Leaf::EndsWith(value, suffixes) => {
                value.read(view, |value| suffixes.iter().any(|suffix| value.ends_with(suffix.as_bytes())))
            }
            Leaf::Matches(value, regex) => value.read(view, |value| regex.is_match(value)),
        }
    }

    fn asks_body(&self) -> bool {
        match self {
            Leaf::JsonExists(_) | Leaf::JsonIs(..) => true,
            Leaf::Text(left, _, right) => left.asks_body() || right.asks_body(),
            Leaf::Number(left, _, right) => left.asks_body() || right.asks_body(),
            Leaf::OneOfNumbers(value, _) => value.asks_body(),
            Leaf::Contains(value, Part::Read(part)) => value.asks_body() || part.asks_body(),
            Leaf::OneOfTexts(value, _)
            | Leaf::InList(value, _)
            | Leaf::Contains(value, _)
            | Leaf::StartsWith(value, _)
            | Leaf::EndsWith(value, _)
            | Leaf::Matches(value, _) => value.asks_body(),
            Leaf::InNetworks(_) | Leaf::DestInNetworks(_) | Leaf::Exists(_) => false,
            Leaf::ClientInList(_) | Leaf::DestInList(_) => false,
        }
    }

    /// The value that was compared, for people.
    fn found(&self, view: &View<'_>) -> Option<String> {
        let text = |value: &Text| value.read(view, |value| String::from_utf8_lossy(value).into_owned());
        match self {
            Leaf::Text(value, _, other) if value.literal().is_some() => text(other),
            Leaf::Number(value, _, other) if value.is_literal() => other.read(view).map(|number| number.to_string()),
            Leaf::Number(value, ..) | Leaf::OneOfNumbers(value, _) => value.read(view).map(|number| number.to_string()),
            Leaf::InNetworks(_) | Leaf::ClientInList(_) => view.client.map(|client| client.to_canonical().to_string()),
            Leaf::DestInNetworks(_) | Leaf::DestInList(_) => Some(view.errand?.address?.to_canonical().to_string()),
            Leaf::Exists(_) | Leaf::JsonExists(_) | Leaf::JsonIs(..) => None,
            Leaf::Text(value, ..)
            | Leaf::OneOfTexts(value, _)
            | Leaf::InList(value, _)
            | Leaf::Contains(value, _)
            | Leaf::StartsWith(value, _)
            | Leaf::EndsWith(value, _)
            | Leaf::Matches(value, _) => text(value),
        }
    }
}

#[inline]
fn holds(order: Ordering, operator: Operator) -> bool {
    match operator {
        Operator::Equal => order.is_eq(),
        Operator::NotEqual => order.is_ne(),
        Operator::Less => order.is_lt(),
        Operator::LessOrEqual => order.is_le(),
        Operator::Greater => order.is_gt(),
        Operator::GreaterOrEqual => order.is_ge(),
    }
}

#[cfg(test)]
mod tests;
