//! The TLS of a snapshot's listeners and upstreams.

use super::{Registry, Snapshot};
use crate::forward::Forward;
use crate::tls::{
    self, BuiltUpstream, Certificates, Credentials, Secure, SystemRoots, Tls, UpstreamTls, build_upstream,
};
use penstock_plan::{Listener, Upstream};
use penstock_rules::fault::Fault;
use std::sync::Arc;

impl Registry {
    /// What a plan makes of a listener's TLS, if it has any, and what that is to serve with once the plan runs.
    pub(super) fn listener_tls(
        &self,
        at: usize,
        plan: &Listener,
        faults: &mut Vec<Fault>,
    ) -> (Option<Arc<Tls>>, Option<Arc<Certificates>>) {
        let Some(tls) = &plan.tls else { return (None, None) };
        match tls::build(tls, self.tls.get(&plan.name), &format!("listeners[{at}].tls")) {
            Ok((tls, renewed)) => (Some(tls), renewed),
            Err(found) => {
                faults.extend(found);
                (None, None)
            }
        }
    }

    /// What a plan makes of an upstream's TLS, if it has any, and what that is to speak with once the plan runs.
    pub(super) fn upstream_tls(
        &self,
        at: usize,
        plan: &Upstream,
        roots: &SystemRoots,
        faults: &mut Vec<Fault>,
    ) -> (Option<Arc<UpstreamTls>>, Option<Arc<Credentials>>) {
        let Some(tls) = &plan.tls else { return (None, None) };
        let path = format!("upstreams[{at}].tls");
        let built = build_upstream(tls, self.upstream_tls.get(&plan.name), roots, (|| self.id(), &path));
        named(built, (at, plan, "tls.name"), faults)
    }

    /// What a plan makes of the TLS of an upstream's probes, if they have their own.
    pub(super) fn probe_tls(
        &self,
        at: usize,
        plan: &Upstream,
        roots: &SystemRoots,
        faults: &mut Vec<Fault>,
    ) -> (Option<Arc<UpstreamTls>>, Option<Arc<Credentials>>) {
        let Some(tls) = plan.health_check.as_ref().and_then(|check| check.tls.as_ref()) else { return (None, None) };
        let path = format!("upstreams[{at}].health_check.tls");
        let built = build_upstream(tls, self.probe_tls.get(&plan.name), roots, (|| self.id(), &path));
        named(built, (at, plan, "health_check.tls.name"), faults)
    }

    /// The TLS of this snapshot runs now.
    pub(super) fn keep_tls(&mut self, snapshot: &Snapshot) {
        for listener in &snapshot.listeners {
            if let (Some(tls), Some(renewed)) = (&listener.tls, &listener.renewed) {
                tls.renew(Arc::clone(renewed));
            }
        }
        for upstream in &snapshot.upstreams {
            if let (Some(tls), Some(renewed)) = (&upstream.tls, &upstream.renewed) {
                tls.renew(renewed);
            }
            if let (Some(tls), Some(renewed)) = (&upstream.probe_tls, &upstream.probe_renewed) {
                tls.renew(renewed);
            }
        }
        for forward in snapshot.forwards() {
            if let (Some(tls), Some(renewed)) = (&forward.tls, &forward.renewed) {
                tls.renew(renewed);
            }
        }
        let listeners = snapshot.listeners.iter().filter_map(|one| Some((one.shared.name.clone(), one.tls.clone()?)));
        self.tls = listeners.collect();
        let upstreams = snapshot.upstreams.iter().filter_map(|one| Some((one.plan.name.clone(), one.tls.clone()?)));
        self.upstream_tls = upstreams.collect();
        let probes = snapshot.upstreams.iter().filter_map(|one| Some((one.plan.name.clone(), one.probe_tls.clone()?)));
        self.probe_tls = probes.collect();
    }
}

/// What was built, if each endpoint has a name that its certificate could be for; `key` is where such a name is given.
fn named(
    built: Result<BuiltUpstream, Vec<Fault>>,
    (at, plan, key): (usize, &Upstream, &str),
    faults: &mut Vec<Fault>,
) -> (Option<Arc<UpstreamTls>>, Option<Arc<Credentials>>) {
    match built {
        Ok((tls, renewed)) => {
            let nameless =
                plan.endpoints.iter().enumerate().filter(|(_, one)| Secure::new(&tls, &one.address).is_none());
            faults.extend(nameless.map(|(entry, one)| {
                let message = format!("{:?} has no name that a certificate could be for: give {key}", one.address);
                Fault::new(format!("upstreams[{at}].endpoints[{entry}]"), message)
            }));
            (Some(tls), renewed)
        }
        Err(found) => {
            faults.extend(found);
            (None, None)
        }
    }
}

impl Snapshot {
    /// Its forward proxies.
    pub(crate) fn forwards(&self) -> impl Iterator<Item = &Forward> {
        self.listeners.iter().filter_map(|listener| listener.forward.as_deref())
    }

    /// What is doubtful, but stops nothing: where in the plan, and why.
    pub(crate) fn doubts(&self) -> Vec<Fault> {
        let now = tls::now();
        let served = self.listeners.iter().enumerate().filter_map(|(at, listener)| {
            let certificates = listener.renewed.clone().or_else(|| Some(listener.tls.as_ref()?.certificates()))?;
            Some((at, certificates))
        });
        let lists = self.lists.iter().enumerate().flat_map(|(at, list)| {
            list.doubts().into_iter().map(move |message| Fault::new(format!("lists[{at}]"), message))
        });
        let users = self.listeners.iter().enumerate().flat_map(|(at, listener)| {
            let users = listener.forward.as_ref().and_then(|forward| forward.users.as_ref());
            let doubts = users.map(|users| users.doubts()).unwrap_or_default().into_iter();
            doubts.map(move |message| Fault::new(format!("listeners[{at}].forward.users.htpasswd"), message))
        });
        served
            .flat_map(|(at, certificates)| {
                let doubts = certificates.doubts(now).into_iter();
                doubts.map(move |(key, message)| Fault::new(format!("listeners[{at}].tls.{key}"), message))
            })
            .chain(lists)
            .chain(users)
            .collect()
    }
}
