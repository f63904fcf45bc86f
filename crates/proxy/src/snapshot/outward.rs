//! What a listener of `forward` has in a snapshot.

use super::{Registry, SharedUpstream, UpstreamSettings};
use crate::addon::Addon;
use crate::forward::{Forward, Interception, ORIGINS, Resolvers, SharedInterception, SharedRule};
use crate::observe::metrics::Sharded;
use crate::secret;
use crate::tls::{Authority, BuiltUpstream, SystemRoots, build_upstream};
use crate::upstream::circuit::Circuit;
use crate::upstream::resolve;
use crate::users::Users;
use arc_swap::ArcSwap;
use penstock_plan::{Balance, HostHeader, Listener, Plan, Retry, Upstream, UpstreamProtocol};
use penstock_rules::fault::Fault;
use penstock_rules::forward::{Leave, Outward, Parent, Rules};
use penstock_rules::http::HeadLimits;
use penstock_rules::list::Lists;
use penstock_rules::users::Login;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::{Arc, Mutex};
use std::time::Duration;

impl Registry {
    /// What this listener had, if its part of the plan and the lists are the same, or all of it anew.
    pub(super) fn forward(
        &self,
        (at, listener): (usize, &Listener),
        (lists, roots, addons): (&Lists, &SystemRoots, &[Arc<Addon>]),
        faults: &mut Vec<Fault>,
    ) -> Option<Arc<Forward>> {
        let plan = listener.forward.as_ref()?;
        let known = self.forwards.get(&listener.name);
        let before = known.and_then(|known| known.interception.as_ref());
        let interception = plan.interception.as_ref().map(|plan| {
            let path = format!("listeners[{at}].forward.interception");
            self.interception((plan, &path), before).map_err(|found| faults.extend(found)).ok()
        });
        let interception = match interception {
            Some(built) => Some(built?),
            None => None,
        };
        let addon = plan.users.as_ref().and_then(|users| addons.get(users.addon? as usize));
        if let Some(known) = known.filter(|known| known.plan == *plan && known.lists.are(lists))
            && known.users.as_ref().is_none_or(|users| users.asks(addon))
            && known.interception.as_ref().map(|one| Arc::as_ptr(&one.authority))
                == interception.as_ref().map(|one| Arc::as_ptr(&one.authority))
        {
            return Some(Arc::clone(known));
        }
        let tls = self.origin_tls((at, plan), known, roots, faults)?;
        let (tls, renewed) = tls.map_or((None, None), |(tls, renewed)| (Some(tls), renewed));
        let leave = Leave::build(plan, &format!("listeners[{at}].forward"));
        let leave = leave.map_err(|found| faults.extend(found)).ok();
        let rules = Rules::build(&plan.rules, &format!("listeners[{at}].forward"), lists);
        let rules = rules.map_err(|found| faults.extend(found)).ok()?;
        let counted = |name: &str| known.and_then(|known| known.taken.iter().find(|rule| rule.name == name).cloned());
        let users = plan.users.as_ref().map(|users| {
            let path = format!("listeners[{at}].forward.users");
            Users::build(users, known.and_then(|known| known.users.as_ref()), addon, (&self.line, &path))
        });
        let users = users.transpose().map_err(|fault| faults.push(fault)).ok()?;
        let taken = rules.names();
        let taken = taken.map(|name| counted(name).unwrap_or_else(|| Arc::new(SharedRule::new(name, self.workers))));
        let taken = taken.collect();
        let shared = known.map_or_else(|| self.shared_upstream(ORIGINS), |known| Arc::clone(&known.settings.shared));
        let settings = self.origin_settings((plan, UpstreamProtocol::Http1), Arc::clone(&shared));
        let secure = self.origin_settings((plan, UpstreamProtocol::Auto), shared);
        let (leave, lists) = (leave?, lists.clone());
        Some(Arc::new(Forward {
            id: self.id(),
            plan: plan.clone(),
            leave,
            chooses_ways: plan.parent.is_some() || rules.choose_ways(),
            users,
            lists,
            rules,
            taken,
            settings,
            secure,
            tls,
            renewed,
            interception,
        }))
    }

    /// How tunnels are opened: what runs already of it, as far as the plan and the files say the same.
    fn interception(
        &self,
        (plan, path): (&penstock_plan::Interception, &str),
        known: Option<&Interception>,
    ) -> Result<Interception, Vec<Fault>> {
        let authority = Authority::open(&plan.authority, known.map(|known| &known.authority));
        let authority = authority.map_err(|message| vec![Fault::new(format!("{path}.authority"), message)])?;
        let shared = known.map(|known| Arc::clone(&known.shared)).unwrap_or_else(|| {
            Arc::new(SharedInterception { counters: Sharded::new(self.workers), pinned: Mutex::default() })
        });
        Ok(Interception { authority, shared })
    }

    /// How origins prove who they are: what runs already of it. A machine that trusts nobody may still have a proxy, of which nobody
    /// wants TLS to be spoken.
    fn origin_tls(
        &self,
        (at, plan): (usize, &penstock_plan::Forward),
        known: Option<&Arc<Forward>>,
        roots: &SystemRoots,
        faults: &mut Vec<Fault>,
    ) -> Option<Option<BuiltUpstream>> {
        let path = format!("listeners[{at}].forward.tls");
        let known = known.and_then(|known| known.tls.as_ref());
        match build_upstream(&plan.tls, known, roots, (|| self.id(), &path)) {
            Ok(built) => Some(Some(built)),
            Err(_) if plan.tls.ca.is_none() && plan.interception.is_none() => Some(None),
            Err(found) => {
                faults.extend(found);
                None
            }
        }
    }

    /// Whoever is asked for names by each worker, where a listener needs that; those that there are, if the same servers are asked.
    pub(super) fn resolvers(&self, plan: &Plan) -> Arc<Resolvers> {
        if plan.listeners.iter().all(|listener| listener.forward.is_none()) {
            return Arc::default();
        }
        match &self.resolvers {
            Some((dns, known)) if *dns == plan.dns => Arc::clone(known),
            _ => Arc::new((0..self.workers).map(|_| resolve::resolver(&plan.dns)).collect()),
        }
    }

    fn origin_settings(
        &self,
        (plan, protocol): (&penstock_plan::Forward, UpstreamProtocol),
        shared: Arc<SharedUpstream>,
    ) -> UpstreamSettings {
        let outward = Outward {
            pseudonym: self.pseudonym.clone(),
            via: plan.via && !plan.anonymous,
            forwarded_for: plan.forwarded_for,
            forwarded: plan.forwarded,
            anonymous: plan.anonymous,
        };
        let plan = Upstream {
            name: ORIGINS.into(),
            endpoints: Vec::new(),
            balance: Balance::RoundRobin,
            affinity: None,
            host: HostHeader::Keep,
            proxy_protocol: None,
            protocol,
            parent: None,
            tls: None,
            timeouts: plan.timeouts,
            limits: plan.limits,
            queue: None,
            health_check: None,
            outlier: None,
            // Only over a connection that the origin had closed: there is no other origin to ask.
            retry: Retry {
                attempts: 1,
                per_try_timeout: None,
                on: Vec::new(),
                least_pause: Duration::ZERO,
                most_pause: Duration::ZERO,
                buffer: 64 << 10,
            },
        };
        UpstreamSettings {
            limits: HeadLimits {
                bytes: plan.limits.head as usize,
                fields: usize::from(plan.limits.fields),
                uri: 0,
                elsewhere: false,
            },
            circuit: Circuit::new(&plan.limits, &shared.counts),
            shared,
            endpoints: Vec::new(),
            tls: None,
            renewed: None,
            probe_tls: None,
            probe_renewed: None,
            question: None,
            key: None,
            tables: ArcSwap::default(),
            affinity: None,
            parent: None,
            outward: Some(outward),
            plan,
        }
    }
}

/// How an upstream is asked for origins, whose part of the plan is at `path`.
pub(super) fn parent(plan: &penstock_plan::Parent, path: &str) -> Result<Parent, Fault> {
    let fault = |message: String| Fault::new(format!("{path}.password"), message);
    let password = plan.password.as_ref().map(|password| secret::read(password, 1)).transpose().map_err(fault)?;
    let login = plan.user.as_ref().map(|user| {
        Login::new(user.as_bytes(), &password.unwrap_or_default())
            .ok_or_else(|| fault("a name and a password are at most 255 bytes each, without control characters".into()))
    });
    Ok(Parent::new(plan.protocol, login.transpose()?))
}

/// What this process is called in `Via`.
pub(super) fn pseudonym() -> String {
    format!("penstock-{:08x}", RandomState::new().build_hasher().finish() as u32)
}
