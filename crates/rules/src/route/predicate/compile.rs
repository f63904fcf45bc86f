//! From a predicate of a plan to a tree that has an answer for every request: whatever can fail does so here.

use super::{Leaf, Node, Part, Texts};
use crate::fault::{self, Fault};
use crate::list::{Lists, Shared};
use crate::network::Network;
use crate::route::json::Pointer;
use crate::route::value::{Text, Value};
use memchr::memmem::Finder;
use penstock_plan::{Comparison, Field, ListKind, Literal, Operand, Predicate};
use std::fmt::Display;
use std::sync::Arc;

/// Trees deeper than this are refused, so that no plan can exhaust the stack.
const DEEPEST: usize = 64;

/// # Errors
/// As [`super::Test::compile`].
pub(super) fn compile(predicate: &Predicate, path: &dyn Display, lists: &Lists) -> Result<Node, Vec<Fault>> {
    let mut compiler = Compiler { path, lists, faults: Vec::new() };
    match compiler.node(predicate, 0) {
        Some(node) if compiler.faults.is_empty() => Ok(node),
        _ => Err(compiler.faults),
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
pub(in crate::route) fn literal_prefix(pattern: &str) -> &str {
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
