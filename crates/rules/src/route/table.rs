//! The route table: the first route that matches, found without looking at most of the others.
//!
//! Routes are indexed by what they need of host and path ([`super::keys`]): a hash of hosts, and for each host a sorted list of
//! paths and prefixes, of which one search finds all that apply. Of the routes that remain, the lowest index whose test
//! says yes wins: the order of the plan decides, the index never does.

use super::View;
use super::keys::{Key, Keys, PathKey};
use super::predicate::Test;
use crate::error::Kind;
use crate::fault::Fault;
use crate::http::readings;
use crate::list::Lists;
use ahash::AHashMap;
use penstock_plan::{Action, Plan, Route};
use std::collections::BTreeMap;
use std::fmt;

/// All routes of a plan, ready to be asked.
#[derive(Debug)]
pub struct Table {
    routes: Vec<Entry>,
    /// Whether route 0 takes every request of every listener.
    first_takes_all: bool,
    asks_body: bool,
    /// What tests of the plan may look into.
    lists: Lists,
    /// Routes that serve every listener.
    shared: Index,
    /// Routes that serve some listeners, by listener.
    own: Vec<Index>,
}

#[derive(Debug)]
struct Entry {
    test: Option<Test>,
    /// Whether being found in the index is enough.
    decided: bool,
    /// Whether it takes a request to refuse it, where its test asks in vain for a value of the body.
    strict: bool,
}

impl Entry {
    #[inline]
    fn takes(&self, view: &View<'_>, route: u32) -> bool {
        let Some(test) = &self.test else { return true };
        if !self.strict {
            return test.matches(view);
        }
        let Some(body) = view.body else { return test.matches(view) };
        body.forget_vain();
        test.matches(view) || body.refuse_if_vain(route as usize)
    }
}

impl Table {
    /// Compile the routes of `plan`, which has these lists.
    ///
    /// # Errors
    /// All faults of all routes: matches that do not compile, and indexes that name no listener or upstream.
    pub fn build(plan: &Plan, lists: Lists) -> Result<Table, Vec<Fault>> {
        let (mut faults, mut routes) = (Vec::new(), Vec::with_capacity(plan.routes.len()));
        let mut shared = Drafts::default();
        let mut own: Vec<Drafts<'_>> = plan.listeners.iter().map(|_| Drafts::default()).collect();
        let mut reached = true;
        for (at, route) in plan.routes.iter().enumerate() {
            check_references(plan, at, route, &mut faults);
            let Some(test) = compile(at, route, &lists, &mut faults) else { continue };
            let keys = match &route.matches {
                Some(matches) => Keys::of(&matches.predicate),
                None => Keys::everything(),
            };
            routes.push(Entry { decided: keys.decide, test, strict: route.strict });
            if !reached {
                continue;
            }
            let index = u32::try_from(at).unwrap_or(u32::MAX);
            match &route.listeners {
                None => shared.add(index, &keys.any_of),
                Some(listeners) => {
                    let named =
                        own.iter_mut().enumerate().filter(|(at, _)| listeners.iter().any(|l| *l as usize == *at));
                    named.for_each(|(_, drafts)| drafts.add(index, &keys.any_of));
                }
            }
            // Routes behind one that takes everything are never reached: they need no place in the index.
            reached = route.listeners.is_some() || !(keys.decide && keys.any_of.contains(&Key::ANY));
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        let first_takes_all =
            plan.routes.first().is_some_and(|route| route.listeners.is_none() && route.matches.is_none());
        let asks_body = routes.iter().any(|entry| entry.test.as_ref().is_some_and(Test::asks_body));
        let own = own.into_iter().map(Drafts::into_index).collect();
        Ok(Table { routes, first_takes_all, asks_body, lists, shared: shared.into_index(), own })
    }

    /// Index of the first route in the plan's order that serves the listener of this index and matches the request, or refuses
    /// it ([`super::json::Body::refusal`]).
    #[inline]
    pub fn find(&self, view: &View<'_>, listener: u32) -> Option<usize> {
        if self.first_takes_all { Some(0) } else { self.search(view, listener, || ()) }
    }

    /// [`Self::find`], and whether a server that reads the path otherwise would have been reached by another route.
    ///
    /// # Errors
    /// `BadUri` if so: a rule about one reading of a path is a rule about all (safety.md 131).
    pub fn choose(&self, view: &View<'_>, listener: u32) -> Result<Option<usize>, Kind> {
        let found = self.find(view, listener);
        if !self.first_takes_all && memchr::memchr2(b'%', b';', view.head.path().as_bytes()).is_some() {
            for reading in readings(view.head.path()) {
                let mut head = view.head.clone();
                head.set_path(&reading);
                if self.find(&View { head: &head, ..*view }, listener) != found {
                    return Err(Kind::BadUri);
                }
            }
        }
        Ok(found)
    }

    /// Whether any route asks for values of a body.
    pub fn asks_body(&self) -> bool {
        self.asks_body
    }

    /// What tests of the plan may look into.
    pub(super) fn lists(&self) -> &Lists {
        &self.lists
    }

    /// The compiled match of a route; `None` where there is none, and every request matches.
    pub fn test(&self, route: usize) -> Option<&Test> {
        self.routes.get(route)?.test.as_ref()
    }

    /// [`Self::find`] by the index; calls `tested` for every test that is evaluated.
    fn search(&self, view: &View<'_>, listener: u32, mut tested: impl FnMut()) -> Option<usize> {
        let (host, path) = (view.head.host(), view.head.path());
        let mut best = u32::MAX;
        let own = self.own.get(listener as usize);
        for index in std::iter::once(&self.shared).chain(own) {
            index.visit(host, path, |routes| {
                for &route in routes {
                    if route >= best {
                        break;
                    }
                    let Some(entry) = self.routes.get(route as usize) else { break };
                    if !entry.decided && entry.test.is_some() {
                        tested();
                        if !entry.takes(view, route) {
                            continue;
                        }
                    }
                    best = route;
                }
            });
        }
        (best != u32::MAX).then_some(best as usize)
    }
}

/// The route's test; the outer `None` where a fault was noted.
fn compile(at: usize, route: &Route, lists: &Lists, faults: &mut Vec<Fault>) -> Option<Option<Test>> {
    let Some(matches) = &route.matches else { return Some(None) };
    match Test::compile(&matches.predicate, format_args!("routes[{at}].match"), lists) {
        Ok(test) => Some(Some(test)),
        Err(found) => {
            faults.extend(found);
            None
        }
    }
}

fn check_references(plan: &Plan, at: usize, route: &Route, faults: &mut Vec<Fault>) {
    for (place, listener) in route.listeners.iter().flatten().enumerate() {
        if *listener as usize >= plan.listeners.len() {
            faults.push(Fault::new(format!("routes[{at}].listeners[{place}]"), "names no listener"));
        }
    }
    let mut upstream = |upstream: u32, path: fmt::Arguments<'_>| {
        if upstream as usize >= plan.upstreams.len() {
            faults.push(Fault::new(format!("routes[{at}].{path}.upstream"), "names no upstream"));
        }
    };
    if let Some(mirror) = &route.mirror {
        upstream(mirror.upstream, format_args!("mirror"));
    }
    match &route.action {
        Action::Upstream(index) => upstream(*index, format_args!("action")),
        Action::Split(split) => {
            for (place, share) in split.shares.iter().enumerate() {
                upstream(share.upstream, format_args!("action.split.shares[{place}]"));
            }
        }
        Action::Respond(_) | Action::Redirect(_) => {}
    }
}

/// Routes by host; those that name none stand apart.
#[derive(Debug, Default)]
struct Index {
    // Clients choose the host that is looked up: ahash's seed keeps them from choosing collisions.
    hosts: AHashMap<Box<str>, Paths>,
    any_host: Paths,
}

impl Index {
    /// Hand every list of routes whose key fits to `look`. The narrow ones come first: they tend to stand first in a plan, and
    /// a low index found early saves looking at higher ones.
    #[inline]
    fn visit(&self, host: &str, path: &str, mut look: impl FnMut(&[u32])) {
        // A host that is missing compares false even with an empty literal.
        if !self.hosts.is_empty()
            && !host.is_empty()
            && let Some(paths) = self.hosts.get(host)
        {
            paths.visit(path, &mut look);
        }
        self.any_host.visit(path, &mut look);
    }
}

/// Routes by path.
#[derive(Debug, Default)]
struct Paths {
    /// Sorted by text.
    nodes: Box<[Node]>,
    /// A shorter way to them, where it is one.
    jump: Option<Jump>,
    /// Routes that name no path.
    any: Box<[u32]>,
}

/// One text that routes name as a whole path or as a prefix.
#[derive(Debug)]
struct Node {
    text: Box<str>,
    /// The longest other node that is a prefix of this one.
    parent: Option<u32>,
    exact: Box<[u32]>,
    prefix: Box<[u32]>,
}

impl Paths {
    #[inline]
    fn visit(&self, path: &str, look: &mut impl FnMut(&[u32])) {
        let mut next = self.nearest(path);
        while let Some(node) = next.and_then(|at| self.nodes.get(at)) {
            if path.starts_with(&*node.text) {
                if node.text.len() == path.len() {
                    look(&node.exact);
                }
                look(&node.prefix);
            }
            next = node.parent.map(|parent| parent as usize);
        }
        look(&self.any);
    }

    /// A node on whose way up all the nodes lie that are prefixes of `path`: the longest of them, or the greatest node that is
    /// not above `path`. (Between a prefix and a text there are only texts with the same prefix.)
    #[inline]
    fn nearest(&self, path: &str) -> Option<usize> {
        match &self.jump {
            Some(jump) => jump.longest(path.as_bytes()),
            None => self.nodes.partition_point(|node| *node.text <= *path).checked_sub(1),
        }
    }
}

/// Nodes by text: where there are many nodes of few lengths, some hashes touch less memory than a binary search.
#[derive(Debug)]
struct Jump {
    // Clients choose what is looked up here, too.
    nodes: AHashMap<Box<[u8]>, u32>,
    /// Lengths of prefixes, longest first.
    lengths: Box<[usize]>,
}

impl Jump {
    const NODES: usize = 32;
    const LENGTHS: usize = 16;

    fn over(nodes: &[Node]) -> Option<Jump> {
        let mut lengths: Vec<usize> =
            nodes.iter().filter(|node| !node.prefix.is_empty()).map(|node| node.text.len()).collect();
        lengths.sort_unstable_by(|left, right| right.cmp(left));
        lengths.dedup();
        if nodes.len() < Jump::NODES || lengths.len() > Jump::LENGTHS {
            return None;
        }
        let nodes = (0u32..).zip(nodes).map(|(at, node)| (Box::from(node.text.as_bytes()), at)).collect();
        Some(Jump { nodes, lengths: lengths.into() })
    }

    /// The node of the whole path, or the longest that is a prefix of it.
    #[inline]
    fn longest(&self, path: &[u8]) -> Option<usize> {
        let shorter =
            self.lengths.iter().filter_map(|length| path.get(..*length)).skip_while(|part| part.len() == path.len());
        let node = std::iter::once(path).chain(shorter).find_map(|part| self.nodes.get(part))?;
        Some(*node as usize)
    }
}

/// An [`Index`] being filled, in order of the routes.
#[derive(Default)]
struct Drafts<'p> {
    hosts: BTreeMap<Option<&'p str>, Draft<'p>>,
}

#[derive(Default)]
struct Draft<'p> {
    /// Routes that name a text as a whole path, and as a prefix.
    nodes: BTreeMap<&'p str, (Vec<u32>, Vec<u32>)>,
    any: Vec<u32>,
}

impl<'p> Drafts<'p> {
    fn add(&mut self, route: u32, keys: &[Key<'p>]) {
        for key in keys {
            let draft = self.hosts.entry(key.host).or_default();
            let routes = match key.path {
                PathKey::Any => &mut draft.any,
                PathKey::Exact(path) => &mut draft.nodes.entry(path).or_default().0,
                PathKey::Prefix(path) => &mut draft.nodes.entry(path).or_default().1,
            };
            if routes.last() != Some(&route) {
                routes.push(route);
            }
        }
    }

    fn into_index(mut self) -> Index {
        let any_host = self.hosts.remove(&None).unwrap_or_default().into_paths();
        let hosts = self.hosts.into_iter().filter_map(|(host, draft)| Some((host?.into(), draft.into_paths())));
        Index { hosts: hosts.collect(), any_host }
    }
}

impl Draft<'_> {
    fn into_paths(self) -> Paths {
        let mut nodes: Vec<Node> = Vec::with_capacity(self.nodes.len());
        for (text, (exact, prefix)) in self.nodes {
            // The nodes before it, nearest first: the last one, its parent, and so on up.
            let mut parent = nodes.len().checked_sub(1);
            while let Some(node) = parent.and_then(|at| nodes.get(at)) {
                // Only prefixes lead to routes from further down.
                if text.starts_with(&*node.text) && !node.prefix.is_empty() {
                    break;
                }
                parent = node.parent.map(|parent| parent as usize);
            }
            let parent = parent.and_then(|parent| u32::try_from(parent).ok());
            nodes.push(Node { text: text.into(), parent, exact: exact.into(), prefix: prefix.into() });
        }
        Paths { jump: Jump::over(&nodes), nodes: nodes.into(), any: self.any.into() }
    }
}

#[cfg(test)]
mod tests;
