//! One compiled match: a tree of tests on a request.
//!
//! Everything that can fail (types, regular expressions, networks, depth) fails here, when the plan comes; a test on a request
//! always has an answer, takes time linear in the request, and is false on a value that the request does not have.

use super::View;
use super::json::{Found, Pointer};
use super::value::{Number, Text, Value, has_field};
use crate::fault::{self, Fault};
use crate::list::{Hit, Lists, Shared};
use crate::network::Network;
use ahash::AHashSet;
use memchr::memmem::Finder;
use penstock_plan::{Comparison, Field, ListKind, Literal, Operand, Operator, Predicate, Span};
use std::cmp::Ordering;
use std::fmt::Display;
use std::sync::Arc;

/// Trees deeper than this are refused, so that no plan can exhaust the stack.
const DEEPEST: usize = 64;

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
        let mut compiler = Compiler { path: &path, lists, faults: Vec::new() };
        match compiler.node(predicate, 0) {
            Some(node) if compiler.faults.is_empty() => Ok(Test(node)),
            _ => Err(compiler.faults),
        }
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

struct Compiler<'a> {
    /// Written only for a fault: of 10 000 routes hardly any has one.
    path: &'a dyn Display,
    lists: &'a Lists,
    faults: Vec<Fault>,
}

impl Compiler<'_> {
    /// `None` where a fault was noted.
    fn node(&mut self, predicate: &Predicate, depth: usize) -> Option<Node> {
        if depth > DEEPEST {
            return self.fault(format!("nested deeper than {DEEPEST} levels"));
        }
        let (leaf, at) = match predicate {
            Predicate::And(parts) => return self.nodes(parts, depth).map(Node::All),
            Predicate::Or(parts) => return self.nodes(parts, depth).map(Node::Any),
            Predicate::Not(part) => return self.node(part, depth + 1).map(|node| Node::Not(Box::new(node))),
            Predicate::Constant(answer) => return Some(Node::Constant(*answer)),
            Predicate::Compare(comparison) => (self.compare(comparison)?, comparison.at),
            Predicate::In { value, set, at } => (self.one_of(value, set)?, *at),
            Predicate::InNetworks { networks, at } => (Leaf::InNetworks(self.networks(networks)?), *at),
            Predicate::DestInNetworks { networks, at } => (Leaf::DestInNetworks(self.networks(networks)?), *at),
            Predicate::DestInList { list, at } => (Leaf::DestInList(self.list_of_networks(list)?), *at),
            Predicate::InList { value, list, at } => (self.in_list(value, list)?, *at),
            Predicate::Contains { value, part, at } => (self.contains(value, part)?, *at),
            Predicate::Exists { field: Field::Json(pointer), at } => (Leaf::JsonExists(self.pointer(pointer)?), *at),
            Predicate::Exists { field, at } => (Leaf::Exists(field.clone()), *at),
            Predicate::JsonIs { pointer, value, at } => (Leaf::JsonIs(self.pointer(pointer)?, *value), *at),
            Predicate::StartsWith { value, prefixes, at } => {
                (Leaf::StartsWith(self.text(value)?, boxed(prefixes)), *at)
            }
            Predicate::EndsWith { value, suffixes, at } => (Leaf::EndsWith(self.text(value)?, boxed(suffixes)), *at),
            Predicate::Matches { value, regex, at } => (Leaf::Matches(self.text(value)?, self.regex(regex)?), *at),
            Predicate::Glob { value, pattern, at } => (self.glob(value, pattern)?, *at),
        };
        Some(Node::Leaf(leaf, at))
    }

    fn nodes(&mut self, parts: &[Predicate], depth: usize) -> Option<Box<[Node]>> {
        // Every part is compiled, so that every fault is told.
        let nodes: Vec<_> = parts.iter().map(|part| self.node(part, depth + 1)).collect();
        nodes.into_iter().collect()
    }

    fn compare(&mut self, comparison: &Comparison) -> Option<Leaf> {
        match (self.value(&comparison.left)?, self.value(&comparison.right)?) {
            (Value::Text(left), Value::Text(right)) => Some(Leaf::Text(left, comparison.operator, right)),
            (Value::Number(left), Value::Number(right)) => Some(Leaf::Number(left, comparison.operator, right)),
            _ => self.fault("compares a text with a number"),
        }
    }

    fn one_of(&mut self, value: &Operand, set: &[Literal]) -> Option<Leaf> {
        match self.value(value)? {
            Value::Text(value) => {
                let texts: Option<Vec<&str>> = set
                    .iter()
                    .map(|member| match member {
                        Literal::Text(text) => Some(text.as_str()),
                        Literal::Number(_) => self.fault("looks for a text among numbers"),
                    })
                    .collect();
                Some(Leaf::OneOfTexts(value, Texts::of(&texts?)))
            }
            Value::Number(value) => {
                let numbers: Option<Vec<i64>> = set
                    .iter()
                    .map(|member| match member {
                        Literal::Number(number) => Some(*number),
                        Literal::Text(_) => self.fault("looks for a number among texts"),
                    })
                    .collect();
                let mut numbers = numbers?;
                numbers.sort_unstable();
                Some(Leaf::OneOfNumbers(value, numbers.into()))
            }
        }
    }

    fn networks(&mut self, networks: &[String]) -> Option<Box<[Network]>> {
        let networks: Vec<Option<Network>> = networks
            .iter()
            .map(|text| text.parse().map_or_else(|error| self.fault(format!("{text:?} is {error}")), Some))
            .collect();
        networks.into_iter().collect()
    }

    fn in_list(&mut self, value: &Operand, name: &str) -> Option<Leaf> {
        if matches!(value, Operand::ClientIp) {
            return Some(Leaf::ClientInList(self.list_of_networks(name)?));
        }
        let list = self.list(name)?;
        if list.kind() == ListKind::Networks {
            return self.fault(format!("looks for a text in the list {name:?} of networks"));
        }
        Some(Leaf::InList(self.text(value)?, list))
    }

    fn list_of_networks(&mut self, name: &str) -> Option<Arc<Shared>> {
        let list = self.list(name)?;
        if list.kind() != ListKind::Networks {
            return self.fault(format!("looks for an address in the list {name:?} of texts"));
        }
        Some(list)
    }

    fn list(&mut self, name: &str) -> Option<Arc<Shared>> {
        match self.lists.get(name).cloned() {
            Some(list) => Some(list),
            None => self.fault(format!("looks into the list {name:?}, which is not there")),
        }
    }

    fn contains(&mut self, value: &Operand, part: &Operand) -> Option<Leaf> {
        let (value, part) = (self.text(value), self.text(part));
        let part = match part? {
            part if part.literal().is_some() => {
                Part::Literal(Box::new(Finder::new(part.literal().unwrap_or_default()).into_owned()))
            }
            part => Part::Read(part),
        };
        Some(Leaf::Contains(value?, part))
    }

    fn glob(&mut self, value: &Operand, pattern: &str) -> Option<Leaf> {
        let value = self.text(value)?;
        let prefix = literal_prefix(pattern);
        if pattern.strip_prefix(prefix) == Some("**") {
            return Some(Leaf::StartsWith(value, Box::new([prefix.into()])));
        }
        Some(Leaf::Matches(value, self.regex(&glob_regex(pattern))?))
    }

    fn regex(&mut self, pattern: &str) -> Option<regex::bytes::Regex> {
        fault::regex(pattern).map_or_else(|reason| self.fault(format!("regular expression: {reason}")), Some)
    }

    fn pointer(&mut self, text: &str) -> Option<Pointer> {
        Pointer::compile(text).map_or_else(|reason| self.fault(reason), Some)
    }

    fn text(&mut self, operand: &Operand) -> Option<Text> {
        match self.value(operand)? {
            Value::Text(text) => Some(text),
            Value::Number(_) => self.fault("needs a text, not a number"),
        }
    }

    fn value(&mut self, operand: &Operand) -> Option<Value> {
        Value::compile(operand).map_or_else(|reason| self.fault(reason), Some)
    }

    fn fault<T>(&mut self, message: impl Into<String>) -> Option<T> {
        self.faults.push(Fault::new(self.path.to_string(), message));
        None
    }
}

impl Texts {
    /// Up to this many, comparing is faster than hashing.
    const FEW: usize = 8;

    fn of(texts: &[&str]) -> Texts {
        if texts.len() <= Texts::FEW {
            Texts::Few(texts.iter().map(|text| Box::from(*text)).collect())
        } else {
            Texts::Many(texts.iter().map(|text| Box::from(text.as_bytes())).collect())
        }
    }
}

fn boxed(texts: &[String]) -> Box<[Box<str>]> {
    texts.iter().map(|text| text.as_str().into()).collect()
}

/// The part of a glob before its first wildcard.
pub(super) fn literal_prefix(pattern: &str) -> &str {
    pattern.find(['*', '?']).and_then(|end| pattern.get(..end)).unwrap_or(pattern)
}

/// A glob as an anchored regular expression, which keeps it linear. `*` and `**` take any bytes, `?` one character.
fn glob_regex(pattern: &str) -> String {
    let mut regex = String::from(r"\A");
    let mut rest = pattern;
    while !rest.is_empty() {
        let literal = literal_prefix(rest);
        regex.push_str(&regex::escape(literal));
        rest = rest.strip_prefix(literal).unwrap_or_default();
        if let Some(behind) = rest.strip_prefix("**") {
            regex.push_str(r"(?s-u:.)*");
            rest = behind.trim_start_matches('*');
        } else if let Some(behind) = rest.strip_prefix('*') {
            regex.push_str(r"(?-u:[^/])*");
            rest = behind;
        } else if let Some(behind) = rest.strip_prefix('?') {
            regex.push_str("[^/]");
            rest = behind;
        }
    }
    regex.push_str(r"\z");
    regex
}

#[cfg(test)]
mod tests;
