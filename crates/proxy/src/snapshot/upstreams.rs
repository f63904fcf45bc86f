//! What an upstream is in a snapshot.

use super::{Registry, SharedUpstream, UpstreamSettings, outward, tables};
use crate::observe::events::Told;
use crate::observe::metrics::Sharded;
use crate::tls::SystemRoots;
use crate::upstream::affinity;
use crate::upstream::circuit::Circuit;
use crate::upstream::endpoint::Endpoint;
use arc_swap::ArcSwap;
use penstock_plan::{Balance, HealthCheck, Start, Upstream};
use penstock_rules::balance::HashTable;
use penstock_rules::fault::Fault;
use penstock_rules::health::Question;
use penstock_rules::http::HeadLimits;
use penstock_rules::route::Key;
use std::sync::{Arc, Mutex};

impl Registry {
    pub(super) fn upstream(
        &self,
        at: usize,
        plan: &Upstream,
        roots: &SystemRoots,
        faults: &mut Vec<Fault>,
    ) -> UpstreamSettings {
        let shared = self.upstreams.get(&plan.name).cloned().unwrap_or_else(|| self.shared_upstream(&plan.name));
        let endpoints = self.endpoints_of(at, plan, &shared, faults);
        let question = plan.health_check.as_ref().and_then(|check| question(at, check, faults));
        let limits = HeadLimits {
            bytes: plan.limits.head as usize,
            fields: usize::from(plan.limits.fields),
            uri: 0,
            elsewhere: false,
        };
        let (key, tables) = self.hashed(at, plan, &endpoints, faults);
        let known = (&self.secret, self.bonds.get(&plan.name));
        let affinity = affinity::build(plan, known, &endpoints, &format!("upstreams[{at}].affinity"));
        let affinity = affinity.map_err(|found| faults.extend(found)).ok().flatten();
        let circuit = Circuit::new(&plan.limits, &shared.counts);
        let (tls, renewed) = self.upstream_tls(at, plan, roots, faults);
        let (probe_tls, probe_renewed) = self.probe_tls(at, plan, roots, faults);
        let parent = plan.parent.as_ref().map(|parent| outward::parent(parent, &format!("upstreams[{at}].parent")));
        let parent = parent.transpose().map_err(|fault| faults.push(fault)).ok().flatten();
        UpstreamSettings {
            shared,
            parent,
            plan: plan.clone(),
            limits,
            circuit,
            endpoints,
            tls,
            renewed,
            probe_tls,
            probe_renewed,
            question,
            key,
            tables: ArcSwap::from_pointee(tables),
            affinity,
            outward: None,
        }
    }

    /// What outlives a reload of one of this name.
    pub(super) fn shared_upstream(&self, name: &str) -> Arc<SharedUpstream> {
        Arc::new(SharedUpstream {
            id: self.id(),
            name: name.to_owned(),
            counters: Sharded::new(self.workers),
            ejecting: Mutex::default(),
            gate: Arc::default(),
            counts: Arc::default(),
            told: Told::default(),
        })
    }

    fn endpoints_of(
        &self,
        at: usize,
        plan: &Upstream,
        shared: &SharedUpstream,
        faults: &mut Vec<Fault>,
    ) -> Vec<Arc<Endpoint>> {
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
        endpoints.collect()
    }

    /// What of a request is hashed, and where that leads; nothing where the balance hashes nothing.
    fn hashed(
        &self,
        at: usize,
        plan: &Upstream,
        endpoints: &[Arc<Endpoint>],
        faults: &mut Vec<Fault>,
    ) -> (Option<Key>, Vec<Arc<HashTable>>) {
        let Balance::Hash(hash) = &plan.balance else { return (None, Vec::new()) };
        let key = Key::compile(&hash.key, &format!("upstreams[{at}].balance.hash.key"));
        let known = self.tables.get(&plan.name).map_or(&[][..], |tables| tables);
        let tables = tables(plan, hash.method, endpoints.iter().map(|one| &**one), known);
        (key.map_err(|found| faults.extend(found)).ok(), tables)
    }
}

fn question(at: usize, check: &HealthCheck, faults: &mut Vec<Fault>) -> Option<Arc<Question>> {
    let question = Question::build(&check.probe).map_err(|(key, message)| {
        faults.push(Fault::new(format!("upstreams[{at}].health_check.{key}"), message));
    });
    question.ok().map(Arc::new)
}
