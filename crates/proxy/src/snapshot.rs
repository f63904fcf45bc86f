//! The running configuration: one immutable value, built whole before it is swapped in.

mod secure;

use crate::addon::{Addon, Lane, RouteAddons, SharedAddon};
use crate::admit::Clients;
use crate::maintenance::Maintenance;
use crate::observe::events::Told;
use crate::observe::metrics::{ListenerCounters, RouteCounters, Sharded, UpstreamCounters};
use crate::tls::{Certificates, Credentials, SystemRoots, Tls, UpstreamTls};
use crate::upstream::affinity::{self, Affinity, OwnSecret};
use crate::upstream::circuit::{Circuit, Counts};
use crate::upstream::endpoint::Endpoint;
use crate::upstream::queue::Gate;
use ahash::AHashMap;
use arc_swap::ArcSwap;
use penstock_plan::{Action, Balance, Dns, ErrorPages, HashMethod, Plan, Start, Upstream};
use penstock_rules::answer::Answer;
use penstock_rules::auth::ForwardAuth;
use penstock_rules::balance::{self, HashTable};
use penstock_rules::fault::Fault;
use penstock_rules::filter::Filters;
use penstock_rules::health::Question;
use penstock_rules::http::HeadLimits;
use penstock_rules::https::ToHttps;
use penstock_rules::maintenance::Exception;
use penstock_rules::network::Network;
use penstock_rules::pace::LeastRate;
use penstock_rules::page::{self, Pages};
use penstock_rules::route::mirror::Mirror;
use penstock_rules::route::{Key, Split, Table};
use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// Everything a worker needs to serve requests under one plan.
pub(crate) struct Snapshot {
    pub(crate) plan: Plan,
    pub(crate) table: Table,
    pub(crate) listeners: Vec<Listener>,
    pub(crate) upstreams: Vec<UpstreamSettings>,
    pub(crate) routes: Vec<Route>,
    /// Error pages, where neither route nor listener has one.
    pub(crate) pages: Pages,
    pub(crate) addons: Vec<Arc<Addon>>,
    /// Counts what took no route.
    pub(crate) unrouted: Arc<SharedRoute>,
    /// Index into `listeners` by the id of the shared part.
    by_id: AHashMap<u64, usize>,
}

/// A listener under one plan.
pub(crate) struct Listener {
    pub(crate) shared: Arc<SharedListener>,
    pub(crate) plan: penstock_plan::Listener,
    pub(crate) limits: HeadLimits,
    pub(crate) trusted: Vec<Network>,
    pub(crate) pages: Pages,
    pub(crate) tls: Option<Arc<Tls>>,
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
}

/// What outlives a reload of an upstream.
#[derive(Debug)]
pub(crate) struct SharedUpstream {
    /// The key of what workers keep for it.
    pub(crate) id: u64,
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
    /// What probes ask.
    pub(crate) question: Option<Arc<Question>>,
    /// What its policy hashes; `None` for policies that hash nothing.
    pub(crate) key: Option<Key>,
    /// Where keys go, one table for each tier. A command that changes a weight puts new ones here.
    tables: ArcSwap<Vec<Arc<HashTable>>>,
    /// What binds clients to its endpoints.
    pub(crate) affinity: Option<Affinity>,
}

/// A route under one plan.
pub(crate) struct Route {
    pub(crate) shared: Arc<SharedRoute>,
    pub(crate) plan: penstock_plan::Route,
    pub(crate) filters: Filters,
    /// A service that is asked; most routes have none.
    pub(crate) auth: Option<ForwardAuth>,
    /// Python that is asked; most routes have none.
    pub(crate) addons: Option<Box<RouteAddons>>,
    /// A fixed answer or a redirect.
    pub(crate) answer: Option<Answer>,
    pub(crate) pages: Pages,
    /// Which of several upstreams takes a request.
    pub(crate) split: Option<Split>,
    /// Who passes while the route is in maintenance.
    pub(crate) exception: Exception,
    /// Which requests are copied elsewhere.
    pub(crate) mirror: Option<Mirror>,
}

/// What outlives a reload of a route.
#[derive(Debug)]
pub(crate) struct SharedRoute {
    pub(crate) name: String,
    pub(crate) counters: Sharded<RouteCounters>,
    pub(crate) maintenance: Maintenance,
}

impl SharedRoute {
    fn new(name: &str, workers: usize) -> SharedRoute {
        SharedRoute { name: name.into(), counters: Sharded::new(workers), maintenance: Maintenance::default() }
    }
}

/// What snapshots share by identity.
pub(crate) struct Registry {
    workers: usize,
    next_id: AtomicU64,
    listeners: HashMap<String, Arc<SharedListener>>,
    /// By name of the listener.
    tls: HashMap<String, Arc<Tls>>,
    upstreams: HashMap<String, Arc<SharedUpstream>>,
    /// By name of the upstream.
    upstream_tls: HashMap<String, Arc<UpstreamTls>>,
    endpoints: HashMap<(String, String), Arc<Endpoint>>,
    /// By name of the upstream.
    tables: HashMap<String, Arc<Vec<Arc<HashTable>>>>,
    secret: OwnSecret,
    routes: HashMap<String, Arc<SharedRoute>>,
    addons: HashMap<String, Arc<SharedAddon>>,
    /// By the id of the loading.
    lanes: HashMap<u64, Arc<Lane>>,
    unrouted: Arc<SharedRoute>,
}

impl Registry {
    pub(crate) fn new(workers: usize) -> Registry {
        let unrouted = Arc::new(SharedRoute::new("_none", workers));
        Registry {
            workers,
            next_id: AtomicU64::new(1),
            listeners: HashMap::new(),
            tls: HashMap::new(),
            upstreams: HashMap::new(),
            upstream_tls: HashMap::new(),
            endpoints: HashMap::new(),
            tables: HashMap::new(),
            secret: OwnSecret::default(),
            routes: HashMap::new(),
            addons: HashMap::new(),
            lanes: HashMap::new(),
            unrouted,
        }
    }

    /// Build all of a plan that needs neither socket nor name. Nothing of the registry changes before [`Self::keep`].
    ///
    /// # Errors
    /// All faults of the plan.
    pub(crate) fn build(&self, plan: Plan) -> Result<Snapshot, Vec<Fault>> {
        let mut faults = Vec::new();
        let table = Table::build(&plan).map_err(|found| faults.extend(found)).ok();
        let listeners: Vec<_> =
            plan.listeners.iter().enumerate().map(|(at, plan)| self.listener(at, plan, &mut faults)).collect();
        let roots = SystemRoots::default();
        let upstreams: Vec<_> =
            plan.upstreams.iter().enumerate().map(|(at, plan)| self.upstream(at, plan, &roots, &mut faults)).collect();
        let addons: Vec<_> = plan.addons.iter().map(|plan| Arc::new(self.addon(plan))).collect();
        let routes: Vec<_> =
            plan.routes.iter().enumerate().map(|route| self.route(route, &plan, &addons, &mut faults)).collect();
        check_addons(&plan, &mut faults);
        let pages = error_pages(&plan.error_pages, "error_pages", &mut faults);
        check_servers(&plan.dns, &mut faults);
        let (Some(table), true) = (table, faults.is_empty()) else { return Err(faults) };
        let by_id = listeners.iter().enumerate().map(|(at, listener)| (listener.shared.id, at)).collect();
        let unrouted = Arc::clone(&self.unrouted);
        Ok(Snapshot { table, listeners, upstreams, routes, pages, addons, unrouted, by_id, plan })
    }

    /// This snapshot runs now: what it shares is found again by the next plan, what it does not name is forgotten.
    pub(crate) fn keep(&mut self, snapshot: &Snapshot) {
        self.listeners = snapshot
            .listeners
            .iter()
            .map(|listener| (listener.shared.name.clone(), Arc::clone(&listener.shared)))
            .collect();
        self.keep_tls(snapshot);
        self.upstreams = snapshot
            .upstreams
            .iter()
            .map(|upstream| (upstream.plan.name.clone(), Arc::clone(&upstream.shared)))
            .collect();
        self.endpoints = snapshot
            .upstreams
            .iter()
            .flat_map(|upstream| {
                upstream
                    .endpoints
                    .iter()
                    .map(|endpoint| ((upstream.plan.name.clone(), endpoint.address.clone()), Arc::clone(endpoint)))
            })
            .collect();
        let tables = snapshot.upstreams.iter().map(|upstream| (upstream.plan.name.clone(), upstream.tables()));
        self.tables = tables.collect();
        for upstream in &snapshot.upstreams {
            upstream
                .endpoints
                .iter()
                .zip(&upstream.plan.endpoints)
                .for_each(|(endpoint, plan)| endpoint.duty.configure(plan));
        }
        for (at, route) in snapshot.routes.iter().enumerate() {
            route.shared.maintenance.configure(at, &route.plan);
        }
        self.routes =
            snapshot.routes.iter().map(|route| (route.shared.name.clone(), Arc::clone(&route.shared))).collect();
        let addons = snapshot.addons.iter();
        self.addons = addons.clone().map(|addon| (addon.plan.name.clone(), Arc::clone(&addon.shared))).collect();
        self.lanes = addons.map(|addon| (addon.plan.id, Arc::clone(&addon.lane))).collect();
    }

    fn id(&self) -> u64 {
        self.next_id.fetch_add(1, Relaxed)
    }

    fn listener(&self, at: usize, plan: &penstock_plan::Listener, faults: &mut Vec<Fault>) -> Listener {
        let trusted = plan.trusted_proxies.iter().enumerate().filter_map(|(entry, text)| {
            let path = format!("listeners[{at}].trusted_proxies[{entry}]");
            text.parse().map_err(|error| faults.push(Fault::new(path, format!("{text:?} is {error}")))).ok()
        });
        let shared = self.listeners.get(&plan.name).cloned().unwrap_or_else(|| {
            Arc::new(SharedListener {
                id: self.id(),
                name: plan.name.clone(),
                counters: Sharded::new(self.workers),
                open: AtomicU64::new(0),
                clients: Clients::default(),
            })
        });
        let limits = HeadLimits {
            bytes: plan.limits.head as usize,
            fields: usize::from(plan.limits.fields),
            uri: plan.limits.uri as usize,
        };
        let trusted = trusted.collect();
        let pages = error_pages(&plan.error_pages, &format!("listeners[{at}].error_pages"), faults);
        let to_https = plan.https_redirect.as_ref().map(|redirect| ToHttps::build(redirect, at));
        let to_https = to_https.transpose().map_err(|fault| faults.push(fault)).ok().flatten();
        let (tls, renewed) = self.listener_tls(at, plan, faults);
        Listener { trusted, tls, renewed, to_https, shared, limits, pages, plan: plan.clone() }
    }

    fn upstream(&self, at: usize, plan: &Upstream, roots: &SystemRoots, faults: &mut Vec<Fault>) -> UpstreamSettings {
        let shared = self.upstreams.get(&plan.name).cloned().unwrap_or_else(|| {
            Arc::new(SharedUpstream {
                id: self.id(),
                counters: Sharded::new(self.workers),
                ejecting: Mutex::default(),
                gate: Arc::default(),
                counts: Arc::default(),
                told: Told::default(),
            })
        });
        let start = plan.health_check.as_ref().map_or(Start::Up, |check| check.start);
        let endpoints = plan.endpoints.iter().enumerate().filter_map(|(entry, endpoint)| {
            let key = (plan.name.clone(), endpoint.address.clone());
            if let Some(known) = self.endpoints.get(&key) {
                return Some(Arc::clone(known));
            }
            let made = Endpoint::new(self.id(), endpoint, (self.workers, start), &shared.gate);
            if made.is_none() {
                let path = format!("upstreams[{at}].endpoints[{entry}]");
                let message = format!("{:?} is neither \"host:port\" nor \"unix:/path\"", endpoint.address);
                faults.push(Fault::new(path, message));
            }
            made.map(Arc::new)
        });
        let endpoints: Vec<Arc<Endpoint>> = endpoints.collect();
        let question = plan.health_check.as_ref().and_then(|check| match Question::build(&check.probe) {
            Ok(question) => Some(Arc::new(question)),
            Err((key, message)) => {
                faults.push(Fault::new(format!("upstreams[{at}].health_check.{key}"), message));
                None
            }
        });
        let limits = HeadLimits { bytes: plan.limits.head as usize, fields: usize::from(plan.limits.fields), uri: 0 };
        let (key, tables) = match &plan.balance {
            Balance::Hash(hash) => {
                let key = Key::compile(&hash.key, &format!("upstreams[{at}].balance.hash.key"));
                let known = self.tables.get(&plan.name).map_or(&[][..], |tables| tables);
                (
                    key.map_err(|found| faults.extend(found)).ok(),
                    tables(plan, hash.method, endpoints.iter().map(|one| &**one), known),
                )
            }
            _ => (None, Vec::new()),
        };
        let tables = ArcSwap::from_pointee(tables);
        let affinity = affinity::build(plan, &self.secret, &format!("upstreams[{at}].affinity"));
        let affinity = affinity.map_err(|found| faults.extend(found)).ok().flatten();
        let circuit = Circuit::new(&plan.limits, &shared.counts);
        let (tls, renewed) = self.upstream_tls(at, plan, roots, faults);
        let plan = plan.clone();
        UpstreamSettings { shared, circuit, endpoints, tls, renewed, question, limits, key, tables, affinity, plan }
    }

    fn addon(&self, plan: &penstock_plan::Addon) -> Addon {
        let shared =
            self.addons.get(&plan.name).cloned().unwrap_or_else(|| {
                Arc::new(SharedAddon { name: plan.name.clone(), counters: Sharded::new(self.workers) })
            });
        let lane = self.lanes.get(&plan.id).cloned().unwrap_or_else(|| Addon::lane(plan));
        Addon { shared, lane, plan: plan.clone() }
    }

    fn route(
        &self,
        (at, plan): (usize, &penstock_plan::Route),
        whole: &Plan,
        addons: &[Arc<Addon>],
        faults: &mut Vec<Fault>,
    ) -> Route {
        let filters = Filters::build(&plan.filters, at).map_err(|found| faults.extend(found)).unwrap_or_default();
        let answer = Answer::build(&plan.action, at).map_err(|found| faults.extend(found)).ok().flatten();
        let auth = plan.forward_auth.as_ref().map(|auth| ForwardAuth::build(auth, whole.upstreams.len(), at));
        let auth = auth.transpose().map_err(|found| faults.extend(found)).ok().flatten();
        let split = match &plan.action {
            Action::Split(split) => {
                Split::build(split, |at| whole.upstream_name(at), &format!("routes[{at}].action.split"))
                    .map_err(|found| faults.extend(found))
                    .ok()
            }
            _ => None,
        };
        let shared = self
            .routes
            .get(&plan.name)
            .cloned()
            .unwrap_or_else(|| Arc::new(SharedRoute::new(&plan.name, self.workers)));
        let named: Vec<_> = plan.addons.iter().filter_map(|at| addons.get(*at as usize).cloned()).collect();
        let pages = error_pages(&plan.error_pages, &format!("routes[{at}].error_pages"), faults);
        let mirror = plan.mirror.as_ref().and_then(|mirror| {
            Mirror::build(mirror, &format!("routes[{at}].mirror")).map_err(|found| faults.extend(found)).ok()
        });
        let exception = Exception::build(&plan.maintenance, &format!("routes[{at}].maintenance"))
            .map_err(|found| faults.extend(found))
            .unwrap_or_default();
        Route {
            shared,
            filters,
            auth,
            addons: RouteAddons::of(&named),
            answer,
            pages,
            split,
            exception,
            mirror,
            plan: plan.clone(),
        }
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

fn error_pages(plan: &[ErrorPages], path: &str, faults: &mut Vec<Fault>) -> Pages {
    Pages::build(plan, path, read_page).map_err(|found| faults.extend(found)).unwrap_or_default()
}

/// A file of a page; one byte beyond the limit is enough to be refused.
fn read_page(path: &str) -> Result<String, String> {
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(page::LONGEST as u64 + 1).read_to_string(&mut text));
    read.map_err(|error| format!("{path} cannot be read: {error}"))?;
    Ok(text)
}

fn check_servers(dns: &Dns, faults: &mut Vec<Fault>) {
    for (at, server) in dns.servers.iter().enumerate() {
        if server.parse::<SocketAddr>().is_err() {
            faults.push(Fault::new(format!("dns.servers[{at}]"), format!("{server:?} is no address with a port")));
        }
    }
}

/// A plan that Python made names only what is there; a plan from elsewhere might not. Of listeners and upstreams the table knows.
fn check_addons(plan: &Plan, faults: &mut Vec<Fault>) {
    for (at, route) in plan.routes.iter().enumerate() {
        for addon in route.addons.iter().filter(|addon| **addon as usize >= plan.addons.len()) {
            faults.push(Fault::new(format!("routes[{at}].addons"), format!("there is no add-on {addon}")));
        }
    }
}
