//! From a plan to a snapshot: what was there before is found again, so that a change leaves alone what it does not name.

use super::{Listener, Route, SharedListener, SharedRoute, SharedUpstream, Snapshot};
use crate::addon::{Addon, Lane, RouteAddons, SharedAddon};
use crate::admit::{Clients, Pace};
use crate::capture::{Capture, Ring};
use crate::forward::{Forward, Resolvers};
use crate::lists::Loaded;
use crate::maintenance::Maintenance;
use crate::observe::metrics::Sharded;
use crate::tls::{SystemRoots, Tls, UpstreamTls};
use crate::upstream::affinity::{self, Affinity, OwnSecret};
use crate::upstream::endpoint::Endpoint;
use crate::users;
use ahash::AHashMap;
use penstock_plan::{Action, Dns, ErrorPages, Plan};
use penstock_rules::answer::Answer;
use penstock_rules::auth::ForwardAuth;
use penstock_rules::balance::HashTable;
use penstock_rules::fault::Fault;
use penstock_rules::filter::Filters;
use penstock_rules::http::HeadLimits;
use penstock_rules::https::ToHttps;
use penstock_rules::list::Lists;
use penstock_rules::maintenance::Exception;
use penstock_rules::page::{self, Pages};
use penstock_rules::proxy_protocol::Senders;
use penstock_rules::route::mirror::Mirror;
use penstock_rules::route::{Split, Table};
use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What snapshots share by identity.
pub(crate) struct Registry {
    pub(super) workers: usize,
    pub(super) next_id: AtomicU64,
    pub(super) listeners: HashMap<String, Arc<SharedListener>>,
    /// By name of the listener.
    pub(super) tls: HashMap<String, Arc<Tls>>,
    pub(super) upstreams: HashMap<String, Arc<SharedUpstream>>,
    /// By name of the upstream.
    pub(super) upstream_tls: HashMap<String, Arc<UpstreamTls>>,
    /// By name of the upstream.
    pub(super) probe_tls: HashMap<String, Arc<UpstreamTls>>,
    pub(super) endpoints: HashMap<(String, String), Arc<Endpoint>>,
    /// By name of the upstream.
    pub(super) tables: HashMap<String, Arc<Vec<Arc<HashTable>>>>,
    pub(super) secret: OwnSecret,
    /// By name of the upstream.
    pub(super) bonds: HashMap<String, Arc<affinity::Table>>,
    /// With the maintenance of each.
    pub(super) routes: AHashMap<String, (Arc<SharedRoute>, Arc<Maintenance>)>,
    pub(super) lists: HashMap<String, Arc<Loaded>>,
    /// By name of the listener.
    pub(super) rings: HashMap<String, Arc<Ring>>,
    /// Counts captured exchanges of all listeners.
    pub(super) captured: Arc<AtomicU64>,
    /// All routes were ordered into maintenance, so those that come are, too.
    pub(crate) all_shut: bool,
    pub(super) addons: HashMap<String, Arc<SharedAddon>>,
    /// By the id of the loading.
    pub(super) lanes: HashMap<u64, Arc<Lane>>,
    pub(super) unrouted: Arc<SharedRoute>,
    /// By name of the listener.
    pub(super) forwards: HashMap<String, Arc<Forward>>,
    pub(super) resolvers: Option<(Dns, Arc<Resolvers>)>,
    /// Where passwords wait to be looked at.
    pub(super) line: users::Line,
    /// What this process is called by proxies that it is a client of.
    pub(super) pseudonym: String,
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
            probe_tls: HashMap::new(),
            endpoints: HashMap::new(),
            tables: HashMap::new(),
            secret: OwnSecret::default(),
            bonds: HashMap::new(),
            routes: AHashMap::new(),
            lists: HashMap::new(),
            rings: HashMap::new(),
            captured: Arc::new(AtomicU64::new(1)),
            all_shut: false,
            addons: HashMap::new(),
            lanes: HashMap::new(),
            unrouted,
            forwards: HashMap::new(),
            resolvers: None,
            line: users::line(workers),
            pseudonym: super::outward::pseudonym(),
        }
    }

    /// Build all of a plan that needs neither socket nor name. Nothing of the registry changes before [`Self::keep`].
    ///
    /// # Errors
    /// All faults of the plan.
    pub(crate) fn build(&self, plan: Plan) -> Result<Snapshot, Vec<Fault>> {
        let mut faults = Vec::new();
        let loaded: Vec<_> = plan.lists.iter().enumerate().map(|list| self.list(list, &mut faults)).collect();
        let lists: Lists = loaded.iter().map(|list| Arc::clone(&list.shared)).collect();
        let table = Table::build(&plan, lists.clone()).map_err(|found| faults.extend(found)).ok();
        let roots = SystemRoots::default();
        let addons: Vec<_> = plan.addons.iter().map(|plan| Arc::new(self.addon(plan))).collect();
        let known = (&lists, &roots, &*addons);
        let listeners: Vec<_> =
            plan.listeners.iter().enumerate().map(|listener| self.listener(listener, known, &mut faults)).collect();
        let upstreams: Vec<_> =
            plan.upstreams.iter().enumerate().map(|(at, plan)| self.upstream(at, plan, &roots, &mut faults)).collect();
        let routes: Vec<_> = plan
            .routes
            .iter()
            .enumerate()
            .map(|route| self.route(route, &plan, (&addons, &lists), &mut faults))
            .collect();
        check_addons(&plan, &mut faults);
        let pages = error_pages(&plan.error_pages, format_args!("error_pages"), &mut faults);
        check_servers(&plan.dns, &mut faults);
        let (Some(table), true) = (table, faults.is_empty()) else { return Err(faults) };
        let by_id = listeners.iter().enumerate().map(|(at, listener)| (listener.shared.id, at)).collect();
        let unrouted = Arc::clone(&self.unrouted);
        let announces = plan.upstreams.iter().any(|upstream| upstream.proxy_protocol.is_some());
        let resolvers = self.resolvers(&plan);
        let lists = loaded;
        Ok(Snapshot {
            table,
            listeners,
            upstreams,
            routes,
            lists,
            pages,
            addons,
            unrouted,
            announces,
            resolvers,
            by_id,
            plan,
        })
    }

    /// This snapshot runs now: what it shares is found again by the next plan, what it does not name is forgotten.
    pub(crate) fn keep(&mut self, snapshot: &Snapshot) {
        self.listeners = snapshot
            .listeners
            .iter()
            .map(|listener| (listener.shared.name.clone(), Arc::clone(&listener.shared)))
            .collect();
        let forwards = snapshot.listeners.iter();
        let forwards = forwards.filter_map(|one| Some((one.shared.name.clone(), Arc::clone(one.forward.as_ref()?))));
        self.forwards = forwards.collect();
        self.resolvers = Some((snapshot.plan.dns.clone(), Arc::clone(&snapshot.resolvers)))
            .filter(|(_, resolvers)| !resolvers.is_empty());
        self.keep_tls(snapshot);
        self.keep_rings(snapshot);
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
        self.keep_bonds(snapshot);
        for upstream in &snapshot.upstreams {
            upstream
                .endpoints
                .iter()
                .zip(&upstream.plan.endpoints)
                .for_each(|(endpoint, plan)| endpoint.duty.configure(plan));
        }
        let routes = snapshot.routes.iter();
        let routes = routes.map(|one| (one.plan.name.clone(), (Arc::clone(&one.shared), Arc::clone(&one.maintenance))));
        self.routes = routes.collect();
        let addons = snapshot.addons.iter();
        self.lists = snapshot.lists.iter().map(|list| (list.shared.name().to_owned(), Arc::clone(list))).collect();
        self.addons = addons.clone().map(|addon| (addon.plan.name.clone(), Arc::clone(&addon.shared))).collect();
        self.lanes = addons.map(|addon| (addon.plan.id, Arc::clone(&addon.lane))).collect();
    }

    fn keep_rings(&mut self, snapshot: &Snapshot) {
        let captures = snapshot.listeners.iter().filter_map(|one| Some((&one.plan.name, one.capture.as_ref()?)));
        let rings = captures.map(|(name, capture)| {
            capture.ring.configure(capture.plan.memory);
            (name.clone(), Arc::clone(&capture.ring))
        });
        self.rings = rings.collect();
    }

    fn keep_bonds(&mut self, snapshot: &Snapshot) {
        let tables = snapshot.upstreams.iter().filter_map(|upstream| match &upstream.affinity {
            Some(Affinity::Table(affinity)) => {
                affinity.configure();
                Some((upstream.plan.name.clone(), Arc::clone(&affinity.table)))
            }
            _ => None,
        });
        self.bonds = tables.collect();
    }

    pub(super) fn id(&self) -> u64 {
        self.next_id.fetch_add(1, Relaxed)
    }

    fn listener(
        &self,
        (at, plan): (usize, &penstock_plan::Listener),
        (lists, roots, addons): (&Lists, &SystemRoots, &[Arc<Addon>]),
        faults: &mut Vec<Fault>,
    ) -> Listener {
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
                pace: Pace::default(),
            })
        });
        let limits = HeadLimits {
            bytes: plan.limits.head as usize,
            fields: usize::from(plan.limits.fields),
            uri: plan.limits.uri as usize,
            elsewhere: plan.forward.is_some(),
        };
        let trusted = trusted.collect();
        let pages = error_pages(&plan.error_pages, format_args!("listeners[{at}].error_pages"), faults);
        let to_https = plan.https_redirect.as_ref().map(|redirect| ToHttps::build(redirect, at));
        let to_https = to_https.transpose().map_err(|fault| faults.push(fault)).ok().flatten();
        let path = format!("listeners[{at}].proxy_protocol");
        let senders = plan.proxy_protocol.as_ref().map(|senders| Senders::build(senders, &path));
        let senders = senders.transpose().map_err(|found| faults.extend(found)).ok().flatten();
        let (tls, renewed) = self.listener_tls(at, plan, faults);
        let forward = self.forward((at, plan), (lists, roots, addons), faults);
        let path = format!("listeners[{at}].capture");
        let known = self.rings.get(&plan.name);
        let capture =
            plan.capture.as_ref().map(|plan| Capture::build(plan, known, &self.captured, (path.as_str(), lists)));
        let capture = capture.transpose().map_err(|found| faults.extend(found)).ok().flatten().map(Box::new);
        Listener {
            capture,
            trusted,
            senders,
            tls,
            renewed,
            forward,
            to_https,
            shared,
            limits,
            pages,
            plan: plan.clone(),
        }
    }

    fn list(&self, (at, plan): (usize, &penstock_plan::List), faults: &mut Vec<Fault>) -> Arc<Loaded> {
        let loaded = Loaded::build(plan, self.lists.get(&plan.name));
        Arc::new(loaded.unwrap_or_else(|message| {
            faults.push(Fault::new(format!("lists[{at}]"), message));
            Loaded::empty(plan)
        }))
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
        (at, plan): (usize, &Arc<penstock_plan::Route>),
        whole: &Plan,
        (addons, lists): (&[Arc<Addon>], &Lists),
        faults: &mut Vec<Fault>,
    ) -> Route {
        let filters = Filters::build(&plan.filters, at).map_err(|found| faults.extend(found)).unwrap_or_default();
        let answer = Answer::build(&plan.action, at).map_err(|found| faults.extend(found)).ok().flatten().map(Box::new);
        let auth = plan.forward_auth.as_ref().map(|auth| ForwardAuth::build(auth, whole.upstreams.len(), at));
        let auth = auth.transpose().map_err(|found| faults.extend(found)).ok().flatten().map(Box::new);
        let split = match &plan.action {
            Action::Split(split) => {
                Split::build(split, |at| whole.upstream_name(at), &format!("routes[{at}].action.split"))
                    .map_err(|found| faults.extend(found))
                    .ok()
                    .map(Box::new)
            }
            _ => None,
        };
        let before = self.routes.get(&plan.name);
        let shared = before
            .map_or_else(|| Arc::new(SharedRoute::new(&plan.name, self.workers)), |(shared, _)| Arc::clone(shared));
        let named: Vec<_> = plan.addons.iter().filter_map(|at| addons.get(*at as usize).cloned()).collect();
        let pages = error_pages(&plan.error_pages, format_args!("routes[{at}].error_pages"), faults);
        let mirror = plan.mirror.as_ref().and_then(|mirror| {
            let built = Mirror::build(mirror, &format!("routes[{at}].mirror"), lists);
            built.map_err(|found| faults.extend(found)).ok().map(Box::new)
        });
        let exception = Exception::build(&plan.maintenance, format_args!("routes[{at}].maintenance"), lists)
            .map_err(|found| faults.extend(found))
            .unwrap_or_default();
        Route {
            shared,
            maintenance: Maintenance::of(before.map(|(_, maintenance)| maintenance), (at, plan), self.all_shut),
            filters,
            auth,
            addons: RouteAddons::of(&named),
            answer,
            pages,
            split,
            exception,
            mirror,
            plan: Arc::clone(plan),
        }
    }
}

fn error_pages(plan: &[ErrorPages], path: fmt::Arguments<'_>, faults: &mut Vec<Fault>) -> Pages {
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
