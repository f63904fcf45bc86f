//! The explanation itself: what `penstock explain` shows and the admin API returns.

use super::Request;
use crate::auth::ForwardAuth;
use crate::http::RequestHead;
use crate::list::Hit;
use penstock_plan::{AdminState, Endpoint, Plan, Span};
use serde::Serialize;

/// Which way a request takes, and why not another.
#[derive(Clone, Debug, Serialize)]
pub struct Explanation {
    /// Name of the listener.
    pub listener: String,
    /// The request as matches see it.
    pub request: Parts,
    /// The route it takes; `None`: none matches, or it was refused before.
    pub route: Option<RouteTaken>,
    /// The rule of a forward proxy that takes it; `None`: none matches, so it goes out.
    pub rule: Option<RouteTaken>,
    /// `upstream`, `split`, `respond` or `redirect`; `https_redirect` where the listener answers and no route is asked; of a forward
    /// proxy `forward`, `parent`, `intercept`, `deny` or `close`.
    pub action: Option<&'static str>,
    /// Bytes a second that go each way of it, where a rule of a forward proxy says so.
    pub throttle: Option<u64>,
    /// Index of the upstream through which a forward proxy goes, which is the only one of `upstreams`.
    #[serde(skip)]
    pub parent: Option<u32>,
    /// The status that is answered without an endpoint.
    pub status: Option<u16>,
    /// The word of [`crate::error::Kind`], where the request is refused.
    pub refused: Option<&'static str>,
    /// `refused` or `excepted`, where the route is in maintenance.
    pub maintenance: Option<&'static str>,
    /// Routes that stand before the one taken, in order.
    pub passed_over: Vec<PassedOver>,
    /// Where lists have what the matches of these routes, and of the one taken, look for.
    pub lists: Vec<Hit>,
    /// What the filters of the route do, in order.
    pub filters: Vec<Effect>,
    /// The service that would be asked whether the request may go on; it is not.
    pub forward_auth: Option<Asking>,
    /// Names of the add-ons that would be asked, in order; none is.
    pub addons: Vec<String>,
    /// What an endpoint gets, for each upstream that may be asked: for every share of a split that is drawn.
    pub forwarded: Vec<Forwarded>,
    /// Which share of a split takes it; `None` where there is no split.
    pub share: Option<ShareTaken>,
    /// The copy of the request; `None` where the route makes none.
    pub mirror: Option<MirrorTaken>,
    /// The upstreams that the route may use.
    pub upstreams: Vec<Choice>,
}

/// Parts of a request that matches ask for.
#[derive(Clone, Debug, Serialize)]
pub struct Parts {
    /// As sent.
    pub method: String,
    /// `http` or `https`.
    pub scheme: String,
    /// Canonical, without port.
    pub host: String,
    /// Canonical.
    pub path: String,
    /// As sent.
    pub query: Option<String>,
}

/// The route, or the rule, that a request takes.
#[derive(Clone, Debug, Serialize)]
pub struct RouteTaken {
    /// In the plan.
    pub index: usize,
    /// In the plan.
    pub name: String,
}

/// A route that was tried before and does not match.
#[derive(Clone, Debug, Serialize)]
pub struct PassedOver {
    /// In the plan.
    pub index: usize,
    /// In the plan.
    pub name: String,
    /// What says no.
    #[serde(flatten)]
    pub why: Why,
}

/// What says no.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "why", rename_all = "snake_case")]
pub enum Why {
    /// The route does not serve the listener.
    Listener,
    /// A part of its match.
    Match {
        /// The part's place in the match; `None` for a constant.
        at: Option<Span>,
        /// What the request has there; `None` if it has nothing, or if no single value decided.
        found: Option<String>,
    },
}

/// What one filter does.
#[derive(Clone, Debug, Serialize)]
pub struct Effect {
    /// As in the configuration.
    pub name: String,
    /// For people.
    pub effect: String,
}

/// What a service would be asked about the request.
#[derive(Clone, Debug, Serialize)]
pub struct Asking {
    /// Name of its upstream.
    pub upstream: String,
    /// Path and query.
    pub target: String,
    /// Names of the fields that its answer gives to the request, and that the client cannot.
    pub copied: Vec<String>,
}

/// The request as an endpoint gets it, less the request id.
#[derive(Clone, Debug, Serialize)]
pub struct Forwarded {
    /// Name of the upstream that gets it.
    pub upstream: String,
    /// The method.
    pub method: String,
    /// `Host`; where it is the endpoint's own, that of the first that may be picked.
    pub host: String,
    /// Path and query.
    pub target: String,
    /// All other fields, in order.
    pub headers: Vec<(String, String)>,
}

/// The share of a split that a request takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ShareTaken {
    /// Name of the upstream; `None`: it is drawn, each time anew.
    pub name: Option<String>,
    /// `header`, `cookie`, `key` or `drawn`.
    pub why: &'static str,
}

/// The copy of a request.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MirrorTaken {
    /// Name of the upstream.
    pub upstream: String,
    /// How many of a hundred requests are copied.
    pub percent: f64,
    /// Whether one like this may be among them.
    pub eligible: bool,
}

/// An upstream that the route may use.
#[derive(Clone, Debug, Serialize)]
pub struct Choice {
    /// In the plan.
    pub name: String,
    /// Its share of a split; 1 where there is no split.
    pub weight: u32,
    /// How one endpoint is chosen.
    pub balance: &'static str,
    /// In the order of the plan.
    pub endpoints: Vec<Candidate>,
}

/// An endpoint that may be picked.
#[derive(Clone, Debug, Serialize)]
pub struct Candidate {
    /// In the plan.
    pub address: String,
    /// As it is now.
    pub weight: u16,
    /// What people let it do.
    pub admin: AdminState,
    /// What is known of it.
    pub state: State,
    /// Whether it may be picked.
    pub eligible: bool,
}

/// How an endpoint stands: what a plan, or an order since, says of it, and its health.
#[derive(Clone, Copy, Debug)]
pub struct Standing {
    /// What people let it do.
    pub admin: AdminState,
    /// Its weight.
    pub weight: u16,
    /// What is known of it.
    pub state: State,
}

impl Standing {
    /// As it is planned, where nothing was ordered.
    pub fn planned(endpoint: &Endpoint, state: State) -> Standing {
        Standing { admin: endpoint.admin, weight: endpoint.weight, state }
    }
}

/// What is known of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It takes requests.
    Up,
    /// It takes none.
    Down,
    /// It failed too often and takes none for a while.
    Ejected,
    /// Nothing runs that could know.
    Unknown,
}

impl Explanation {
    pub(super) fn new(listener: &str, request: Parts) -> Explanation {
        Explanation {
            listener: listener.to_owned(),
            request,
            route: None,
            rule: None,
            action: None,
            throttle: None,
            parent: None,
            status: None,
            refused: None,
            maintenance: None,
            passed_over: Vec::new(),
            lists: Vec::new(),
            filters: Vec::new(),
            forward_auth: None,
            addons: Vec::new(),
            forwarded: Vec::new(),
            share: None,
            mirror: None,
            upstreams: Vec::new(),
        }
    }
}

impl Parts {
    /// Of a request that may be none.
    pub(super) fn asked(request: &Request) -> Parts {
        let (path, query) = match request.target.split_once('?') {
            Some((path, query)) => (path, Some(query.to_owned())),
            None => (request.target.as_str(), None),
        };
        Parts {
            method: request.method.clone(),
            scheme: request.scheme.clone(),
            host: request.host.clone(),
            path: path.to_owned(),
            query,
        }
    }

    /// Of a request that was understood.
    pub(super) fn read(head: &RequestHead, request: &Request) -> Parts {
        Parts {
            method: head.method().to_owned(),
            scheme: request.scheme.clone(),
            host: head.host().to_owned(),
            path: head.path().to_owned(),
            query: head.query().map(str::to_owned),
        }
    }
}

impl Asking {
    /// Of the route of this index; takes out of `head` what the service alone may say.
    pub(super) fn of(plan: &Plan, auth: &penstock_plan::ForwardAuth, head: &mut RequestHead) -> Option<Asking> {
        // It was built with the plan: it cannot be wrong now.
        let built = ForwardAuth::build(auth, plan.upstreams.len(), 0).ok()?;
        built.ask(head);
        let upstream = plan.upstreams.get(auth.upstream as usize)?.name.clone();
        Some(Asking { upstream, target: auth.path.clone(), copied: auth.copy_headers.clone() })
    }
}

impl Forwarded {
    /// Of a head that we have written ourselves.
    pub(super) fn read(upstream: &str, text: &str) -> Forwarded {
        let mut lines = text.split("\r\n").filter(|line| !line.is_empty());
        let mut start = lines.next().unwrap_or_default().split(' ').map(str::to_owned);
        let mut headers: Vec<(String, String)> =
            lines.filter_map(|line| line.split_once(": ")).map(|(name, value)| (name.into(), value.into())).collect();
        let host = headers.iter().position(|(name, _)| name == "host").map(|at| headers.remove(at).1);
        Forwarded {
            upstream: upstream.to_owned(),
            method: start.next().unwrap_or_default(),
            host: host.unwrap_or_default(),
            target: start.next().unwrap_or_default(),
            headers,
        }
    }
}

impl Choice {
    /// The address of the first endpoint that may be picked, or of the first at all.
    pub(super) fn likely(&self) -> Option<&str> {
        let eligible = self.endpoints.iter().find(|endpoint| endpoint.eligible);
        eligible.or(self.endpoints.first()).map(|endpoint| endpoint.address.as_str())
    }
}
