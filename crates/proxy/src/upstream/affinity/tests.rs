//! Picks by table against endpoints that are drained, die and are weighed anew.

use super::*;
use crate::upstream::endpoint::LocalEndpoint;
use crate::upstream::local::{Lasting, LocalUpstream};
use penstock_plan::{AdminState, Order};
use penstock_rules::affinity::table::BYTES;
use penstock_rules::balance::Draw;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::time::{Duration, Instant};

const CLIENTS: u64 = 20_000;

fn plan(endpoints: usize, balance: Value, size: u64) -> Upstream {
    let endpoint = |at: usize| {
        json!({"address": format!("10.0.0.{at}:1"), "weight": 1, "priority": 0, "max_connections": null, "slow_start": null,
               "admin": "ready"})
    };
    let plan = json!({
        "name": "shop", "balance": balance, "host": "keep", "proxy_protocol": null, "protocol": "http1", "tls": null,
        "queue": null, "affinity": {"table": {"key": ["client_ip"], "ttl": 60_000, "size": size}},
        "health_check": null, "parent": null, "outlier": null,
        "retry": {"attempts": 1, "per_try_timeout": null, "on": [], "least_pause": 1, "most_pause": 1, "buffer": 1},
        "endpoints": (0..endpoints).map(endpoint).collect::<Vec<_>>(),
        "timeouts": {"connect": 1, "head": 1, "body": 1, "write": 1, "idle": 1},
        "limits": {"head": 1, "fields": 1, "interim": 1, "streams": 1, "idle_connections": 1, "connections": null,
                   "pending": null, "requests": null},
    });
    serde_json::from_value(plan).unwrap()
}

/// An upstream as the plans of one process make it, one after the other.
struct Simulated {
    endpoints: Vec<Arc<Endpoint>>,
    table: Arc<Table>,
    local: LocalUpstream,
    dice: u64,
}

impl Simulated {
    fn new(plan: &Upstream) -> Simulated {
        let Some(Plan::Table(table)) = &plan.affinity else { unreachable!() };
        Simulated::under(plan, Vec::new(), Arc::new(Table::new(table)))
    }

    fn under(plan: &Upstream, known: Vec<Arc<Endpoint>>, table: Arc<Table>) -> Simulated {
        let next = known.iter().map(|one| one.id + 1).max().unwrap_or(1);
        let endpoint = |(at, plan): (u64, &penstock_plan::Endpoint)| {
            let found = known.iter().find(|one| one.address == plan.address).cloned();
            let made = || Endpoint::new(next + at, plan, (1, penstock_plan::Start::Up), &Arc::default()).map(Arc::new);
            found.or_else(made).unwrap()
        };
        let endpoints: Vec<_> = (0..).zip(&plan.endpoints).map(endpoint).collect();
        let own = OwnSecret::default();
        let affinity = build(plan, (&own, Some(&table)), &endpoints, "x").unwrap().unwrap();
        let Affinity::Table(by_table) = &affinity else { unreachable!() };
        assert!(Arc::ptr_eq(&by_table.table, &table), "the table is kept");
        by_table.configure();
        let local = endpoints.iter().map(|one| LocalEndpoint::new(Arc::clone(one), None, 0)).collect();
        let local = LocalUpstream::new(plan, local, (&[], Some(&affinity)), Lasting::new(Instant::now()));
        Simulated { endpoints, table, local, dice: 7 }
    }

    /// A reload to this plan.
    fn reload(self, plan: &Upstream) -> Simulated {
        Simulated::under(plan, self.endpoints, self.table)
    }

    fn pick_at(&mut self, client: u64, tried: u64, now: Instant) -> String {
        self.dice = self.dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let draw = Draw { random: self.dice, now, key: None };
        let (_, in_flight) = self.local.pick(tried, Bond::Table(client), &draw).unwrap();
        in_flight.endpoint.shared.address.clone()
    }

    fn homes(&mut self) -> Vec<String> {
        (0..CLIENTS).map(|client| self.pick_at(client, 0, Instant::now())).collect()
    }
}

/// Clients by their endpoints.
fn shares(homes: &[String]) -> HashMap<&str, usize> {
    homes.iter().fold(HashMap::new(), |mut shares, home| {
        *shares.entry(&**home).or_default() += 1;
        shares
    })
}

#[test]
fn nobody_moves_when_weights_change_and_only_those_of_an_endpoint_that_goes() {
    for balance in [json!("random"), json!("p2c"), json!("round_robin")] {
        let mut four = plan(4, balance, CLIENTS);
        let mut upstream = Simulated::new(&four);
        let before = upstream.homes();
        assert!(shares(&before).values().all(|count| count.abs_diff(5000) < 300), "{:?}", shares(&before));
        // Weights, by reload and by command.
        four.endpoints[0].weight = 0;
        four.endpoints[1].weight = 100;
        let mut upstream = upstream.reload(&four);
        upstream.endpoints[2].duty.order(Order::Weight(0));
        assert_eq!(upstream.homes(), before);
        // One drains and keeps whom it has; one comes; one goes.
        upstream.endpoints[1].duty.order(Order::Admin(AdminState::Draining));
        assert_eq!(upstream.homes(), before);
        let mut five = plan(5, json!("random"), CLIENTS);
        five.endpoints.remove(1);
        let after = upstream.reload(&five).homes();
        let moved: Vec<_> = before.iter().zip(&after).filter(|(before, after)| before != after).collect();
        assert_eq!(moved.len(), shares(&before)["10.0.0.1:1"]);
        assert!(moved.iter().all(|(before, _)| *before == "10.0.0.1:1"));
    }
}

#[test]
fn a_client_of_an_endpoint_that_is_not_used_moves_once() {
    let mut upstream = Simulated::new(&plan(3, json!("random"), CLIENTS));
    let now = Instant::now();
    let home = upstream.pick_at(1, 0, now);
    let at = upstream.endpoints.iter().position(|one| one.address == home).unwrap();
    let other = upstream.pick_at(1, 1 << at, now);
    assert_ne!(other, home, "it refused the connection");
    assert!((0..50).all(|_| upstream.pick_at(1, 0, now) == other));
    let at = upstream.endpoints.iter().position(|one| one.address == other).unwrap();
    upstream.endpoints[at].duty.order(Order::Admin(AdminState::Disabled));
    let third = upstream.pick_at(1, 0, now);
    assert_ne!(third, other);
    upstream.endpoints[at].duty.order(Order::Admin(AdminState::Ready));
    assert!((0..50).all(|_| upstream.pick_at(1, 0, now) == third));
}

#[test]
fn one_that_is_full_for_a_moment_keeps_its_clients() {
    let mut plan = plan(2, json!("first"), CLIENTS);
    plan.endpoints[0].max_connections = Some(1);
    let mut upstream = Simulated::new(&plan);
    let now = Instant::now();
    assert_eq!(upstream.pick_at(1, 0, now), "10.0.0.0:1");
    let held = upstream.local.pick(0, Bond::None, &Draw { random: 0, now, key: None }).unwrap();
    assert_eq!((held.0, upstream.pick_at(1, 0, now)), (0, "10.0.0.1:1".to_owned()));
    drop(held);
    assert_eq!(upstream.pick_at(1, 0, now), "10.0.0.0:1");
}

#[test]
fn clients_are_forgotten_by_time_by_number_and_by_command() {
    let mut upstream = Simulated::new(&plan(2, json!("random"), 3));
    let start = Instant::now();
    for client in 0..3 {
        upstream.pick_at(client, 0, start + Duration::from_secs(client));
    }
    let table = Arc::clone(&upstream.table);
    upstream.pick_at(3, 0, start + Duration::from_secs(3));
    let known = |client, second| table.look(client, start + Duration::from_secs(second)).is_some();
    assert_eq!([0, 1, 2, 3].map(|client| known(client, 3)), [false, true, true, true]);
    assert_eq!([1, 2, 3].map(|client| known(client, 62)), [false, false, true]);
    assert_eq!((table.forget(1), table.forget(1)), (1, 0));
    assert_eq!(table.counts().values().sum::<usize>(), 2);
    let (first, second) = (upstream.endpoints[0].id, upstream.endpoints[1].id);
    assert_eq!(table.clear(Some(first)) + table.clear(Some(second)), 2);
    upstream.pick_at(9, 0, start);
    assert_eq!((table.clear(None), table.clear(None), table.memory()), (1, 0, 0));
    // A plan with less room.
    let mut upstream = upstream.reload(&plan(2, json!("random"), 1000));
    (0..1000).for_each(|client| drop(upstream.pick_at(client, 0, start)));
    let upstream = upstream.reload(&plan(2, json!("random"), 10));
    assert_eq!(upstream.table.counts().values().sum::<usize>(), 10);
}

#[test]
fn a_million_clients_take_the_memory_that_is_stated() {
    let mut upstream = Simulated::new(&plan(4, json!("random"), 1_000_000));
    let now = Instant::now();
    (0..1_100_000).for_each(|client| drop(upstream.pick_at(client, 0, now)));
    let (count, memory) = (upstream.table.counts().values().sum::<usize>(), upstream.table.memory());
    assert!((999_000..=1_000_000).contains(&count), "{count} clients");
    assert!(memory <= 1_000_000 * BYTES, "{memory} bytes");
    println!("{count} clients in {memory} bytes");
    assert!((1_099_000..1_100_000).all(|client| upstream.table.look(client, now).is_some()), "the last are known");
}

/// As many workers do at once: every client has one home, whoever asks.
#[test]
fn workers_that_ask_at_once_agree() {
    let table = {
        let plan = plan(8, json!("random"), CLIENTS);
        Simulated::new(&plan).table
    };
    let homes: Vec<Vec<String>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|dice| {
                let table = Arc::clone(&table);
                scope.spawn(move || {
                    let plan = plan(8, json!("random"), CLIENTS);
                    let mut upstream = Simulated::under(&plan, Vec::new(), table);
                    upstream.dice = dice;
                    upstream.homes()
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(homes.iter().all(|of| *of == homes[0]));
    assert_eq!(table.count.load(std::sync::atomic::Ordering::Relaxed), CLIENTS as usize);
}
