//! The origins that one worker knows, each with its pool. They come with the first request and go when nobody has asked for a while.

use super::Forward;
use crate::clock::{Clock, Tick};
use crate::tls::{Secure, UpstreamTls};
use crate::upstream::endpoint::{Endpoint, LocalEndpoint};
use crate::upstream::local::{Lasting, LocalUpstream};
use ahash::AHashMap;
use penstock_plan::{AdminState, Balance, Upstream};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Origins that are known at once: for one more, that which was asked for longest ago is forgotten.
const MOST: usize = 1024;
/// One that nobody has asked for so long, and to which no connection is kept, is forgotten.
const FORGOTTEN: Duration = Duration::from_secs(60);

/// What a worker keeps of origins.
#[derive(Default)]
pub(crate) struct Origins {
    known: RefCell<AHashMap<Key, Known>>,
    /// Unused connections that there are descriptors for, to all of them together.
    most_idle: Cell<usize>,
}

/// Under which configuration, where, who it has to prove to be, and behind which parent.
type Key = (u64, Box<str>, Option<Box<str>>, Option<Behind>);

/// A parent, and the configuration that says who we are to it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Behind {
    pub(crate) version: u64,
    /// The endpoint.
    pub(crate) parent: u64,
    /// Whether a way is for whoever asks. It is not where the parent is told of the client.
    pub(crate) shares: bool,
}

/// An origin that is asked for.
pub(crate) struct Site<'a> {
    /// `host:port`
    pub(crate) place: String,
    /// How it proves who it is, where it is spoken to with TLS.
    pub(crate) secure: Option<(&'a Arc<UpstreamTls>, &'a str)>,
    /// `None`: it is reached directly.
    pub(crate) behind: Option<Behind>,
}

struct Known {
    endpoint: Rc<LocalEndpoint>,
    asked: Cell<Tick>,
}

impl Origins {
    /// The origin; `None` if its place is not `host:port`, or its name none that anybody could prove to have.
    pub(crate) fn get(&self, forward: &Forward, site: &Site<'_>, clock: &Clock) -> Option<Rc<LocalEndpoint>> {
        let key = (forward.id, site.place.as_str().into(), site.secure.map(|(_, name)| name.into()), site.behind);
        let mut known = self.known.borrow_mut();
        if let Some(found) = known.get(&key) {
            found.asked.set(clock.now());
            return Some(Rc::clone(&found.endpoint));
        }
        if known.len() >= MOST {
            let unused = known.iter().filter(|(_, one)| one.endpoint.in_flight() == 0);
            let oldest = unused.min_by_key(|(_, one)| one.asked.get()).map(|(key, _)| key.clone());
            oldest.and_then(|key| known.remove(&key)).iter().for_each(|one| one.endpoint.clear());
        }
        let plan = plan(&key.1);
        let shared = Endpoint::of_origin(forward.id, &plan, site.behind.is_none(), &forward.settings.shared.gate)?;
        // Nobody else counts what happens there.
        let mut endpoint = LocalEndpoint::new(Arc::new(shared), None, 0);
        if let Some((tls, name)) = site.secure {
            Rc::get_mut(&mut endpoint)?.secure = Some(Secure::named(tls, name)?);
        }
        let limit = usize::from(forward.settings.plan.limits.idle_connections);
        endpoint.most_idle.set(limit);
        endpoint.most_pooled.set(self.most_idle.get());
        // With every place taken by a request under way it is used for this one, and not remembered.
        if known.len() < MOST {
            known.insert(key, Known { endpoint: Rc::clone(&endpoint), asked: Cell::new(clock.now()) });
        } else {
            endpoint.most_idle.set(0);
        }
        Some(endpoint)
    }

    /// Have as many unused connections as there are descriptors for.
    pub(crate) fn allow(&self, most_idle: usize) {
        self.most_idle.set(most_idle);
    }

    /// Close what is unused for too long, and forget who is.
    pub(crate) fn sweep(&self, clock: &Clock) {
        let mut known = self.known.borrow_mut();
        if known.is_empty() {
            return;
        }
        known.values().for_each(|one| one.endpoint.sweep(clock));
        let now = clock.now();
        known.retain(|_, one| {
            let used = one.endpoint.in_flight() > 0 || one.endpoint.idle() > 0 || one.endpoint.channels.is_open();
            used || one.asked.get().saturating_add(Clock::ticks(FORGOTTEN)) > now
        });
        let mut idle: usize = known.values().map(|one| one.endpoint.idle()).sum();
        while idle > self.most_idle.get() {
            let kept = known.values().filter(|one| one.endpoint.idle() > 0);
            let Some(oldest) = kept.min_by_key(|one| one.asked.get()) else { break };
            idle = idle.saturating_sub(oldest.endpoint.shed());
        }
    }

    /// Close an unused connection through this endpoint of a parent, to make room; whether there was one.
    pub(crate) fn shed_one_behind(&self, parent: u64) -> bool {
        let known = self.known.borrow();
        let mut behind = known.iter().filter(|(key, _)| key.3.is_some_and(|behind| behind.parent == parent));
        behind.any(|(_, one)| one.endpoint.shed_one())
    }

    /// Close all unused connections; how many there were.
    pub(crate) fn shed(&self) -> usize {
        self.known.borrow().values().map(|one| one.endpoint.shed()).sum()
    }
}

fn plan(address: &str) -> penstock_plan::Endpoint {
    penstock_plan::Endpoint {
        address: address.to_owned(),
        weight: 1,
        priority: 0,
        max_connections: None,
        slow_start: None,
        admin: AdminState::Ready,
    }
}

/// What stands for the upstream of origins: it has no endpoints to choose from, and so no other to ask.
pub(crate) fn nowhere(plan: &Upstream) -> LocalUpstream {
    let plan = Upstream { balance: Balance::RoundRobin, ..plan.clone() };
    LocalUpstream::new(&plan, Vec::new(), (&[], None), Lasting::new(Instant::now()))
}
