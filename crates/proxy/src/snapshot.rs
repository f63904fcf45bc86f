//! The running configuration: one immutable value, built whole before it is swapped in.

mod outward;
mod registry;
mod secure;
mod upstreams;

pub(crate) use registry::Registry;

use crate::addon::{Addon, RouteAddons};
use crate::admit::{Clients, Pace};
use crate::capture::Capture;
use crate::forward::{Forward, Resolvers};
use crate::lists::Loaded;
use crate::maintenance::Maintenance;
use crate::observe::events::Told;
use crate::observe::metrics::{ListenerCounters, RouteCounters, Sharded, UpstreamCounters};
use crate::tls::{Certificates, Credentials, Tls, UpstreamTls};
use crate::upstream::affinity::Affinity;
use crate::upstream::circuit::{Circuit, Counts};
use crate::upstream::endpoint::Endpoint;
use crate::upstream::queue::Gate;
use ahash::AHashMap;
use arc_swap::ArcSwap;
use penstock_plan::{Balance, HashMethod, Plan, Upstream};
use penstock_rules::answer::Answer;
use penstock_rules::auth::ForwardAuth;
use penstock_rules::balance::{self, HashTable};
use penstock_rules::filter::Filters;
use penstock_rules::forward::{Outward, Parent};
use penstock_rules::health::Question;
use penstock_rules::http::HeadLimits;
use penstock_rules::https::ToHttps;
use penstock_rules::maintenance::Exception;
use penstock_rules::network::Network;
use penstock_rules::pace::LeastRate;
use penstock_rules::page::Pages;
use penstock_rules::proxy_protocol::Senders;
use penstock_rules::route::mirror::Mirror;
use penstock_rules::route::{Key, Split, Table};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// Everything a worker needs to serve requests under one plan.
pub(crate) struct Snapshot {
    pub(crate) plan: Plan,
    pub(crate) table: Table,
    pub(crate) listeners: Vec<Listener>,
    pub(crate) upstreams: Vec<UpstreamSettings>,
    pub(crate) routes: Vec<Route>,
    pub(crate) lists: Vec<Arc<Loaded>>,
    /// Error pages, where neither route nor listener has one.
    pub(crate) pages: Pages,
    pub(crate) addons: Vec<Arc<Addon>>,
    /// Counts what took no route.
    pub(crate) unrouted: Arc<SharedRoute>,
    /// Whether some endpoint is told between whom a connection is: then each remembers what it was made to.
    pub(crate) announces: bool,
    /// By worker; none where no listener is a forward proxy.
    pub(crate) resolvers: Arc<Resolvers>,
    /// Index into `listeners` by the id of the shared part.
    by_id: AHashMap<u64, usize>,
}

/// A listener under one plan.
pub(crate) struct Listener {
    pub(crate) shared: Arc<SharedListener>,
    pub(crate) plan: penstock_plan::Listener,
    pub(crate) limits: HeadLimits,
    pub(crate) trusted: Vec<Network>,
    /// Those whose connections begin with a header of the PROXY protocol.
    pub(crate) senders: Option<Senders>,
    pub(crate) pages: Pages,
    pub(crate) tls: Option<Arc<Tls>>,
    /// Where clients go by themselves, if it is a forward proxy.
    pub(crate) forward: Option<Arc<Forward>>,
    /// What is kept of its exchanges; most listeners keep nothing.
    pub(crate) capture: Option<Box<Capture>>,
    /// Where who comes without TLS is sent.
    pub(crate) to_https: Option<ToHttps>,
    /// What `tls` is to serve with once this snapshot runs, where it runs already.
    renewed: Option<Arc<Certificates>>,
}

/// What outlives a reload of a listener.
#[derive(Debug)]
pub(crate) struct SharedListener {
    pub(crate) id: u64,
    pub(crate) name: String,
    pub(crate) counters: Sharded<ListenerCounters>,
    /// Open connections of all workers; touched once a connection, for the limit.
    pub(crate) open: AtomicU64,
    pub(crate) clients: Clients,
    /// How fast connections, or sessions of datagrams, come.
    pub(crate) pace: Pace,
}

/// What outlives a reload of an upstream.
#[derive(Debug)]
pub(crate) struct SharedUpstream {
    /// The key of what workers keep for it.
    pub(crate) id: u64,
    pub(crate) name: String,
    pub(crate) counters: Sharded<UpstreamCounters>,
    /// Held while an endpoint is ejected.
    pub(crate) ejecting: Mutex<()>,
    /// Where requests wait for places at its endpoints.
    pub(crate) gate: Arc<Gate>,
    /// What is counted for its limits.
    pub(crate) counts: Arc<Counts>,
    /// What was told of copies that failed.
    pub(crate) told: Told,
}

/// An upstream under one plan.
pub(crate) struct UpstreamSettings {
    pub(crate) shared: Arc<SharedUpstream>,
    pub(crate) plan: Upstream,
    pub(crate) limits: HeadLimits,
    /// Limits over all workers; most upstreams have none.
    pub(crate) circuit: Option<Circuit>,
    pub(crate) endpoints: Vec<Arc<Endpoint>>,
    /// How they are spoken to, where that is with TLS.
    pub(crate) tls: Option<Arc<UpstreamTls>>,
    /// What `tls` is to speak with once this snapshot runs, where it runs already.
    renewed: Option<Arc<Credentials>>,
    /// How probes speak to them, where that is otherwise.
    pub(crate) probe_tls: Option<Arc<UpstreamTls>>,
    /// As `renewed`, for `probe_tls`.
    probe_renewed: Option<Arc<Credentials>>,
    /// What probes ask.
    pub(crate) question: Option<Arc<Question>>,
    /// What its policy hashes; `None` for policies that hash nothing.
    pub(crate) key: Option<Key>,
    /// Where keys go, one table for each tier. A command that changes a weight puts new ones here.
    tables: ArcSwap<Vec<Arc<HashTable>>>,
    /// What binds clients to its endpoints.
    pub(crate) affinity: Option<Affinity>,
    /// How they are asked for origins of forward proxies; `None`: they are not.
    pub(crate) parent: Option<Parent>,
    /// What origins of a forward proxy are told, which are told nothing of the client; of an upstream `None`.
    pub(crate) outward: Option<Outward>,
}

/// A route under one plan.
pub(crate) struct Route {
    pub(crate) shared: Arc<SharedRoute>,
    pub(crate) plan: Arc<penstock_plan::Route>,
    pub(crate) filters: Filters,
    /// A service that is asked; most routes have none.
    pub(crate) auth: Option<Box<ForwardAuth>>,
    /// Python that is asked; most routes have none.
    pub(crate) addons: Option<Box<RouteAddons>>,
    /// A fixed answer or a redirect.
    pub(crate) answer: Option<Box<Answer>>,
    pub(crate) pages: Pages,
    /// Which of several upstreams takes a request.
    pub(crate) split: Option<Box<Split>>,
    pub(crate) maintenance: Arc<Maintenance>,
    /// Who passes while the route is in maintenance.
    pub(crate) exception: Exception,
    /// Which requests are copied elsewhere.
    pub(crate) mirror: Option<Box<Mirror>>,
}

/// What outlives a reload of a route.
#[derive(Debug)]
pub(crate) struct SharedRoute {
    pub(crate) name: String,
    pub(crate) counters: Sharded<RouteCounters>,
}

impl SharedRoute {
    fn new(name: &str, workers: usize) -> SharedRoute {
        SharedRoute { name: name.into(), counters: Sharded::new(workers) }
    }
}

impl UpstreamSettings {
    pub(crate) fn tables(&self) -> Arc<Vec<Arc<HashTable>>> {
        self.tables.load_full()
    }

    /// A weight was changed by a command: keys go where it says.
    pub(crate) fn rebuild_tables(&self) {
        if let Balance::Hash(hash) = &self.plan.balance {
            let tables = tables(&self.plan, hash.method, self.endpoints.iter().map(|one| &**one), &self.tables());
            self.tables.store(Arc::new(tables));
        }
    }

    /// Whether all endpoints are down or ejected: then all are used, because a probe that fails everywhere is a broken probe
    /// (safety.md 167). Those that wait for their first probe do not count, as long as there are others.
    pub(crate) fn is_all_down(&self) -> bool {
        let now = Instant::now();
        let mut of_use = self.endpoints.iter().filter(|one| one.duty.takes_new()).peekable();
        let mut starting = of_use.clone();
        of_use.peek().is_some() && of_use.all(|one| one.is_out(now)) && !starting.all(|one| one.is_starting())
    }
}

impl Listener {
    /// A least rate of this listener.
    pub(crate) fn least(&self, bytes: u32) -> LeastRate {
        LeastRate { bytes, grace: self.plan.timeouts.rate }
    }
}

impl Snapshot {
    /// The listener of this id and its index, if the plan still has it.
    pub(crate) fn listener(&self, id: u64) -> Option<(usize, &Listener)> {
        let at = *self.by_id.get(&id)?;
        Some((at, self.listeners.get(at)?))
    }
}

/// The tables of an upstream, one for each tier: those that are `known`, where neither endpoints nor weights have changed.
pub(crate) fn tables<'e>(
    plan: &Upstream,
    method: HashMethod,
    endpoints: impl Iterator<Item = &'e Endpoint> + Clone,
    known: &[Arc<HashTable>],
) -> Vec<Arc<HashTable>> {
    let table = |priority: u8| {
        let members = plan.endpoints.iter().zip(endpoints.clone()).map(|(plan, endpoint)| {
            let weight = if plan.priority == priority { endpoint.duty.weight_under(plan) } else { 0 };
            (plan.address.clone(), weight)
        });
        let members: Vec<_> = members.collect();
        let known = known.iter().find(|table| table.is_of(method, &members));
        known.map_or_else(|| Arc::new(HashTable::build(method, &members)), Arc::clone)
    };
    balance::priorities(plan.endpoints.iter().map(|endpoint| endpoint.priority)).into_iter().map(table).collect()
}
