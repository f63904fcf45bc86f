//! Counters and states, read once: what `Engine.stats` gives to Python.

use crate::addon::{Addon, OUTCOMES};
use crate::engine::Binding;
use crate::exchange::CopyOutcome;
use crate::forward::{Forward, SharedRule};
use crate::observe::metrics::{BOUNDS, Counter, InterceptionCounters, ListenerCounters, RouteCounters, Sharded};
use crate::snapshot::{SharedRoute, SharedUpstream, Snapshot, UpstreamSettings};
use crate::tls::{Certificates, Served};
use crate::upstream::affinity::Affinity;
use crate::upstream::circuit::Limit;
use crate::upstream::endpoint::{Endpoint, Place};
use crate::worker::Shared;
use penstock_plan::{Hook, Protocol};
use penstock_rules::error::{Kind, Side};
use penstock_rules::health::State;
use penstock_rules::session::End;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

/// Connections and sessions of datagrams that are open now, of all listeners.
pub(crate) fn open_connections(shared: &Shared) -> u64 {
    shared.counters.sum(|counters| counters.connections.get() + counters.sessions.get())
}

/// All of it, as a JSON text.
pub(crate) fn collect(shared: &Shared) -> String {
    let snapshot = shared.snapshot.load_full();
    let Some(snapshot) = snapshot else { return "{}".into() };
    let workers = shared.counters.len();
    let draining = shared.draining.load(Relaxed);
    let most = shared.connections_each.load(Relaxed);
    let counters = &shared.counters;
    let buckets: Vec<u64> = (0..=BOUNDS.len())
        .map(|bucket| counters.sum(|counters| counters.latency.get(bucket).map_or(0, Counter::get)))
        .collect();
    json!({
        "version": snapshot.plan.version,
        "uptime": shared.began.elapsed().as_secs_f64(),
        "workers": workers,
        "stuck": (0..workers).filter(|worker| counters.of(*worker).stuck.get() > 0).collect::<Vec<_>>(),
        "draining": draining,
        "connections": open_connections(shared),
        "listeners": listeners(&snapshot, &shared.binds.load(), draining),
        "routes": routes(&snapshot),
        "upstreams": upstreams(&snapshot),
        "lists": snapshot.lists.iter().map(|list| list.stats()).collect::<Vec<_>>(),
        "addons": snapshot.addons.iter().map(|addon| self::addon(addon)).collect::<Vec<_>>(),
        "latency": {
            "bounds_us": BOUNDS,
            "counts": buckets,
            "sum_us": counters.sum(|counters| counters.latency_sum.get()),
        },
        "rejected": by_kind(shared, true),
        "failures": by_kind(shared, false),
        "memory": {
            "limit": shared.memory.limit.load(Relaxed),
            "used": shared.memory.used.load(Relaxed),
            "pressure": shared.memory.pressure.load(Relaxed),
            "failed": penstock_system::memory::failed(),
        },
        "connections_limit": most.checked_mul(workers as u64).filter(|_| most != u64::MAX),
        "shed": {
            "idle_connections": counters.sum(|counters| counters.shed_connections.get()),
            "pooled_connections": counters.sum(|counters| counters.shed_pooled.get()),
        },
        "panics": counters.sum(|counters| counters.panics.get()),
        "dropped_fields": counters.sum(|counters| counters.dropped_fields.get()),
        "access_log": {
            "records": counters.sum(|counters| counters.records.get()),
            "dropped": counters.sum(|counters| counters.records_dropped.get()).wrapping_add(shared.log.lost()),
        },
        "events_dropped": shared.events.dropped(),
    })
    .to_string()
}

fn listeners(snapshot: &Snapshot, binds: &BTreeMap<String, Binding>, draining: bool) -> Vec<Value> {
    let row = |listener: &crate::snapshot::Listener| {
        let addresses: Vec<&str> = binds
            .values()
            .filter(|binding| binding.owner_id() == listener.shared.id)
            .map(|binding| binding.address.as_str())
            .collect();
        let counters = &listener.shared.counters;
        let datagrams = |at: usize| counters.sum(|counters| counters.datagrams.get(at).map_or(0, Counter::get));
        json!({
            "name": listener.shared.name,
            "addresses": addresses,
            "connections": listener.shared.open.load(Relaxed),
            "accepted": counters.sum(|counters| counters.accepted.get()),
            "refused": counters.sum(|counters| counters.refused.iter().map(Counter::get).sum()),
            "tunnels": counters.sum(|counters| counters.tunnels.get()),
            "handshakes": counters.sum(|counters| counters.handshakes.get()),
            "resumed": counters.sum(|counters| counters.resumed.get()),
            "certificates": listener.tls.as_ref().map_or_else(Vec::new, |tls| certificates(&tls.certificates())),
            "state": if draining { "draining" } else { "open" },
            "protocol": listener.plan.protocol,
            "sessions": sessions(listener.plan.protocol, counters),
            "bytes_in": counters.sum(|counters| counters.bytes_in.get()),
            "bytes_out": counters.sum(|counters| counters.bytes_out.get()),
            "datagrams_in": datagrams(0),
            "datagrams_out": datagrams(1),
            "datagrams_dropped": datagrams(2),
            "rules": listener.forward.as_ref().map_or_else(Map::new, |forward| rules(forward)),
            "interception": listener.forward.as_ref().map_or_else(Map::new, |forward| interception(forward)),
            "users": listener.forward.as_ref().and_then(|forward| Some(forward.users.as_ref()?.stats())),
            "capture": listener.capture.as_ref().map(|capture| capture.ring.stats()),
        })
    };
    snapshot.listeners.iter().map(row).collect()
}

/// Requests that rules of a forward proxy took, by name.
fn rules(forward: &Forward) -> Map<String, Value> {
    let count = |rule: &SharedRule| (rule.name.clone(), json!(rule.counters.sum(|counters| counters.taken.get())));
    forward.taken.iter().map(|rule| count(rule)).collect()
}

/// Tunnels that a forward proxy was to open, by what became of them.
fn interception(forward: &Forward) -> Map<String, Value> {
    let Some(interception) = &forward.interception else { return Map::new() };
    let count =
        |of: fn(&InterceptionCounters) -> &Counter| json!(interception.shared.counters.sum(|one| of(one).get()));
    let rows = [
        ("opened", count(|one| &one.opened)),
        ("pinned", count(|one| &one.pinned)),
        ("no_tls", count(|one| &one.no_tls)),
        ("refused", count(|one| &one.refused)),
        ("unverified", count(|one| &one.unverified)),
    ];
    rows.into_iter().map(|(word, count)| (word.to_owned(), count)).collect()
}

/// Sessions of layer 4 that have ended, by how.
fn sessions(protocol: Protocol, counters: &Sharded<ListenerCounters>) -> Map<String, Value> {
    let ends = match protocol {
        Protocol::Http => &[],
        Protocol::Forward => End::OF_ASSOCIATIONS,
        Protocol::Tcp => End::OF_CONNECTIONS,
        Protocol::Udp => End::OF_DATAGRAMS,
    };
    let count = |at: usize| counters.sum(|counters| counters.sessions.get(at).map_or(0, Counter::get));
    ends.iter().filter_map(|at| Some(((*End::WORDS.get(*at)?).to_owned(), json!(count(*at))))).collect()
}

fn certificates(served: &Certificates) -> Vec<Value> {
    let row = |one: &Served| {
        json!({
            "cert": one.paths.cert,
            "names": one.certificate.names,
            "key": one.kind.word(),
            "not_before": one.certificate.not_before,
            "not_after": one.certificate.not_after,
            "ocsp_until": one.staple.as_ref().map(|stapled| stapled.staple.next_update),
        })
    };
    served.list.iter().map(row).collect()
}

fn routes(snapshot: &Snapshot) -> Vec<Value> {
    let row = |route: &SharedRoute, shut: bool| {
        let counters: &Sharded<RouteCounters> = &route.counters;
        let class = |class: usize| counters.sum(|counters| counters.statuses.get(class - 1).map_or(0, Counter::get));
        let statuses: Map<String, Value> = (1..=5).map(|digit| (format!("{digit}xx"), json!(class(digit)))).collect();
        json!({
            "name": route.name,
            "maintenance": shut,
            "requests": (1..=5).map(class).sum::<u64>(),
            "statuses": statuses,
            "bytes_in": counters.sum(|counters| counters.bytes_in.get()),
            "bytes_out": counters.sum(|counters| counters.bytes_out.get()),
        })
    };
    let routes = snapshot.routes.iter().map(|route| row(&route.shared, route.maintenance.is_on()));
    routes.chain([row(&snapshot.unrouted, false)]).collect()
}

fn addon(addon: &Addon) -> Value {
    let counters = &addon.shared.counters;
    let hook = |hook: &Hook| {
        let of = hook.index();
        let outcome = |at: usize| {
            counters.sum(|hooks| hooks.get(of).and_then(|hook| hook.outcomes.get(at)).map_or(0, Counter::get))
        };
        let outcomes: Map<String, Value> =
            OUTCOMES.iter().enumerate().map(|(at, word)| ((*word).to_owned(), json!(outcome(at)))).collect();
        json!({
            "hook": hook.word(),
            "outcomes": outcomes,
            "waited_us": counters.sum(|hooks| hooks.get(of).map_or(0, |hook| hook.micros.get())),
        })
    };
    let [waiting, running, late] = addon.lane.0.counts();
    json!({
        "name": addon.shared.name,
        "hooks": addon.plan.hooks.iter().map(hook).collect::<Vec<_>>(),
        "waiting": waiting,
        "running": running,
        "late": late,
    })
}

fn upstreams(snapshot: &Snapshot) -> Vec<Value> {
    let copied: HashSet<u32> =
        snapshot.plan.routes.iter().filter_map(|route| Some(route.mirror.as_ref()?.upstream)).collect();
    let rows = (0..).zip(&snapshot.upstreams);
    rows.map(|(at, settings)| upstream(settings, copied.contains(&at))).collect()
}

fn upstream(settings: &UpstreamSettings, copied: bool) -> Value {
    let endpoints = settings.endpoints.iter().zip(&settings.plan.endpoints);
    let probed = settings.plan.health_check.is_some();
    let endpoints: Vec<Value> = endpoints.map(|(endpoint, plan)| self::endpoint(endpoint, plan, probed)).collect();
    let balance = penstock_rules::balance::name(&settings.plan.balance);
    let counters = &settings.shared.counters;
    json!({
        "name": settings.plan.name,
        "balance": balance,
        "all_down": settings.is_all_down(),
        "waiting": settings.shared.gate.waiting(),
        "retries": counters.sum(|counters| counters.retries.get()),
        "retries_refused": counters.sum(|counters| counters.retries_refused.get()),
        "limits": limits(settings),
        "affinity": match &settings.affinity {
            Some(Affinity::Table(affinity)) => affinity.report(),
            _ => Value::Null,
        },
        "mirror": copied.then(|| copies(&settings.shared)),
        "endpoints": endpoints,
    })
}

/// The limits of an upstream that it has, how much of each is taken, and how often it refused a request.
fn limits(settings: &UpstreamSettings) -> Map<String, Value> {
    let Some(circuit) = &settings.circuit else { return Map::new() };
    let row = |limit: Limit| {
        let refused = settings.shared.counters.sum(|counters| counters.limited[limit as usize].get());
        let row = json!({"most": circuit.most(limit)?, "taken": circuit.counts().of(limit), "refused": refused});
        Some((limit.word().to_owned(), row))
    };
    Limit::ALL.into_iter().filter_map(row).collect()
}

/// Copies of requests to an upstream that routes mirror to.
fn copies(shared: &SharedUpstream) -> Map<String, Value> {
    let count = |outcome: CopyOutcome| shared.counters.sum(|counters| counters.copies[outcome as usize].get());
    let ended = CopyOutcome::ALL.into_iter().map(|outcome| (outcome.word().to_owned(), json!(count(outcome))));
    let in_flight = shared.counters.sum(|counters| counters.copies_in_flight.get());
    ended.chain([("in_flight".to_owned(), json!(in_flight))]).collect()
}

fn endpoint(endpoint: &Endpoint, plan: &penstock_plan::Endpoint, probed: bool) -> Value {
    let counters = &endpoint.counters;
    let (health, standing) = (endpoint.health(), endpoint.standing.report(Instant::now()));
    let ejected = standing.ejection.filter(|_| health.state() == State::Up);
    let (since, reason) = match (ejected, health.reason()) {
        (Some((ejection, cause)), _) => (ejection.until.checked_sub(ejection.length), cause.to_string()),
        (None, Some(reason)) => (Some(health.since()), reason.to_string()),
        (None, None) if probed => (Some(health.since()), "not yet probed".into()),
        (None, None) => (Some(health.since()), "not probed".into()),
    };
    let resolved: Vec<String> = match &endpoint.place {
        Place::Tcp { addresses, .. } => addresses.load().iter().map(ToString::to_string).collect(),
        Place::Unix(path) => vec![path.display().to_string()],
    };
    json!({
        "address": endpoint.address,
        "weight": endpoint.duty.weight(),
        "priority": plan.priority,
        "max_connections": plan.max_connections,
        "admin": endpoint.duty.admin(),
        "state": match health.state() {
            State::Up if ejected.is_some() => "ejected",
            State::Up => "up",
            State::Down => "down",
            State::Starting => "starting",
        },
        "since": since.unwrap_or_else(Instant::now).elapsed().as_secs_f64(),
        "reason": reason,
        "ejected_for": standing.ejection.map(|(ejection, _)| {
            ejection.until.saturating_duration_since(Instant::now()).as_secs_f64()
        }),
        "ejections": standing.ejections,
        "failures_in_a_row": standing.failures_in_a_row,
        "probe": health.last().map(|last| json!({
            "ago": last.at.elapsed().as_secs_f64(),
            "passed": last.outcome.is_success(),
            "outcome": last.outcome.to_string(),
            "took": last.took.as_secs_f64(),
            "failures_in_a_row": health.failures(),
        })),
        "in_flight": counters.sum(|counters| counters.in_flight.get()),
        "requests": counters.sum(|counters| counters.requests.get()),
        "failures": counters.sum(|counters| counters.failures.get()),
        "connects": counters.sum(|counters| counters.connects.get()),
        "reused": counters.sum(|counters| counters.reused.get()),
        "idle": counters.sum(|counters| counters.idle.get()),
        "latency_us": counters.most(|counters| counters.latency.get()),
        "resolved": resolved,
    })
}

/// Counts by word: what clients were refused for, or everything else that failed.
fn by_kind(shared: &Shared, rejected: bool) -> Map<String, Value> {
    let kinds = Kind::ALL.iter().filter(|kind| (kind.side() == Side::Downstream) == rejected);
    let count =
        |kind: &Kind| shared.counters.sum(|counters| counters.failures.get(kind.index()).map_or(0, Counter::get));
    kinds.map(|kind| (kind.word().to_owned(), json!(count(kind)))).collect()
}
