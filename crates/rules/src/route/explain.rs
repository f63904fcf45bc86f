//! Which way a request would take, and why not another: the same table, tests, filters and writing as for a real request, with
//! every step told.

mod answer;
mod outward;

pub use answer::{
    Asking, Candidate, Choice, Effect, Explanation, Forwarded, MirrorTaken, Parts, PassedOver, RouteTaken, ShareTaken,
    Standing, State, Why,
};

use super::json::{self, Body};
use super::mirror::Mirror;
use super::{Split, Table, View};
use crate::balance;
use crate::error::Kind;
use crate::fault::Fault;
use crate::filter::{Asked, Filters};
use crate::forward::Moment;
use crate::http::{
    BodyFraming, Fields, HostLine, Identity, Length, RequestHead, RequestLines, Target, forwarded, take_hop,
    write_request,
};
use crate::https::ToHttps;
use crate::list::{Hit, Lists};
use crate::maintenance::Exception;
use crate::network::Network;
use penstock_plan::{Action, AdminState, Endpoint, Filter, Listener, Plan, Protocol, Route, Upstream};
use serde::Deserialize;
use std::net::{IpAddr, SocketAddr};

/// A request to explain.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// Name of the listener; the first of the plan if there is none.
    pub listener: Option<String>,
    /// As in a request line.
    pub method: String,
    /// `http` or `https`.
    pub scheme: String,
    /// With a port, if the `Host` field would name one.
    pub host: String,
    /// In origin form: `/path?query`.
    pub target: String,
    /// Fields in order, `Host` left out.
    pub headers: Vec<(String, String)>,
    /// The body that matches may ask for values.
    #[serde(default)]
    pub body: Option<String>,
    /// Who asks, where a forward proxy wants that proved; it is believed.
    #[serde(default)]
    pub user: Option<String>,
    /// Address of the client's connection, `192.0.2.1:40000` or without a port; `None`: it came by a unix socket.
    pub client: Option<String>,
}

/// What is not in a plan.
pub struct Now<S, M> {
    /// Of an endpoint, by the indexes of its upstream and itself, and its plan.
    pub standing: S,
    /// Whether the route of this index is in maintenance.
    pub shut: M,
    /// In local time.
    pub moment: Moment,
}

/// Explain `request` under `plan`, whose routes are `table`.
///
/// # Errors
/// A fault of the request: `listener` or `client` that is none.
pub fn explain(
    plan: &Plan,
    table: &Table,
    request: &Request,
    now: &Now<impl Fn(usize, usize, &Endpoint) -> Standing, impl Fn(usize) -> bool>,
) -> Result<Explanation, Fault> {
    let (index, listener) = find_listener(plan, request)?;
    let peer = peer(request)?;
    if let Some(forward) = &listener.forward {
        let mut answer = outward::explain((listener, forward), request, peer, (now.moment, table.lists()))?;
        if let Some(at) = answer.parent {
            answer.upstreams = choices(plan, &Action::Upstream(at), &now.standing);
        }
        return Ok(answer);
    }
    let mut answer = Explanation::new(&listener.name, Parts::asked(request));
    let mut head = match RequestHead::compose(&request.method, &request.target, &request.host, &request.headers) {
        Ok(head) => head,
        Err(kind) => return Ok(answer.refuse(kind)),
    };
    answer.request = Parts::read(&head, request);
    if head.target == Target::Server {
        // `OPTIONS *` asks for the proxy itself: no route is tried.
        answer.status = Some(204);
        return Ok(answer);
    }
    let entry = Entry::new(listener, request, peer, &head);
    if !entry.trusted {
        head.strip_identity(false);
    }
    head.strip_listed();
    if let Some(redirect) = listener.https_redirect
        && ToHttps::build(&redirect, 0).is_ok_and(|to| to.takes(&entry.view(&head, &Body::new(json::State::None))))
    {
        (answer.action, answer.status) = (Some("https_redirect"), Some(redirect.status));
        return Ok(answer);
    }
    let (route, refusal, spared) = {
        let body = Body::new(body_of(request, &head));
        let view = entry.view(&head, &body);
        let found = match table.choose(&view, index) {
            Ok(found) => found,
            Err(kind) => return Ok(answer.refuse(kind)),
        };
        let refusal = found.and_then(|at| body.refusal(at));
        answer.passed_over = passed_over(plan, table, &view, index, found);
        answer.lists = hits(plan, table, &view, index, found);
        let route = found.and_then(|at| Some((at, plan.routes.get(at)?)));
        let shut = route.filter(|(at, _)| (now.shut)(*at));
        (route, refusal, shut.map(|(_, route)| spares(route, &view, table.lists())))
    };
    let Some((at, route)) = route else {
        answer.status = Some(Kind::NoRoute.status());
        return Ok(answer);
    };
    answer.take(at, route);
    if let Some(kind) = refusal {
        return Ok(answer.refuse(kind));
    }
    answer.maintenance = spared.map(|spared| if spared { "excepted" } else { "refused" });
    // What would be without it is told all the same.
    let answer = take_way((plan, table.lists()), &entry, (route, &mut head), answer, &now.standing);
    Ok(if spared == Some(false) { answer.refuse(Kind::Maintenance) } else { answer })
}

/// Whether the request passes though its route is in maintenance.
fn spares(route: &Route, view: &View<'_>, lists: &Lists) -> bool {
    // It was built with the plan: it cannot be wrong now.
    Exception::build(&route.maintenance, "", lists).is_ok_and(|exception| exception.spares(view))
}

/// What becomes of a request behind its route.
fn take_way(
    (plan, lists): (&Plan, &Lists),
    entry: &Entry<'_>,
    (route, head): (&Route, &mut RequestHead),
    mut answer: Explanation,
    standing: impl Fn(usize, usize, &Endpoint) -> Standing,
) -> Explanation {
    answer.forward_auth = route.forward_auth.as_ref().and_then(|auth| Asking::of(plan, auth, head));
    match run_filters(&route.filters, head, entry.scheme, &mut answer.filters) {
        Err(kind) => return answer.refuse(kind),
        Ok(Some(status)) => {
            // Answered here: no endpoint is asked.
            answer.status = Some(status);
            return answer;
        }
        Ok(None) => {}
    }
    let addons = route.addons.iter().filter_map(|at| plan.addons.get(*at as usize));
    answer.addons = addons.map(|addon| addon.name.clone()).collect();
    answer.upstreams = choices(plan, &route.action, standing);
    answer.mirror = route
        .mirror
        .as_ref()
        .map(|mirror| copy((plan, lists), mirror, &entry.view(head, &Body::new(json::State::None))));
    if !answer.upstreams.is_empty() && !take_hop(head) {
        answer.status = Some(204);
        return answer;
    }
    if let Action::Split(split) = &route.action {
        answer.share = Some(share(plan, split, &entry.view(head, &Body::new(json::State::None))));
    }
    let taken = answer.share.as_ref().and_then(|share| share.name.as_deref());
    let asked = answer.upstreams.iter().filter(|choice| taken.map_or(choice.weight > 0, |name| name == choice.name));
    let asked = asked.filter_map(|choice| Some((choice, plan.upstreams.iter().find(|one| one.name == choice.name)?)));
    answer.forwarded = asked.map(|(choice, upstream)| entry.forwarded(head, upstream, choice)).collect();
    answer
}

/// The share that takes the request, and why.
fn share(plan: &Plan, split: &penstock_plan::Split, view: &View<'_>) -> ShareTaken {
    // It was built with the plan: it cannot be wrong now.
    let built = Split::build(split, |at| plan.upstream_name(at), "").ok();
    let Some((upstream, reason)) = built.and_then(|built| built.assigned(view)) else {
        return ShareTaken { name: None, why: "drawn" };
    };
    ShareTaken { name: Some(plan.upstream_name(upstream).to_owned()), why: reason.word() }
}

/// The copy that may be made of the request.
fn copy((plan, lists): (&Plan, &Lists), mirror: &penstock_plan::Mirror, view: &View<'_>) -> MirrorTaken {
    // It was built with the plan: it cannot be wrong now.
    let eligible = mirror.of_10000 > 0 && Mirror::build(mirror, "", lists).is_ok_and(|built| built.may_want(view));
    let upstream = plan.upstream_name(mirror.upstream).to_owned();
    MirrorTaken { upstream, percent: f64::from(mirror.of_10000) / 100.0, eligible }
}

/// The body as it would be once it was read.
fn body_of<'r>(request: &'r Request, head: &RequestHead) -> json::State<'r> {
    match (json::State::announced(head), &request.body) {
        (json::State::Unread, Some(body)) if body.len() > json::MOST => json::State::TooLarge,
        (json::State::Unread, Some(body)) => json::State::Whole(body.as_bytes()),
        (json::State::Unread, None) => json::State::None,
        (announced, _) => announced,
    }
}

fn find_listener<'p>(plan: &'p Plan, request: &Request) -> Result<(u32, &'p Listener), Fault> {
    // Elsewhere there are no requests.
    let takes = |listener: &Listener| matches!(listener.protocol, Protocol::Http | Protocol::Forward);
    let of_http = || (0..).zip(&plan.listeners).filter(|(_, listener)| takes(listener));
    let wanted = |listener: &Listener| request.listener.as_ref().is_none_or(|name| *name == listener.name);
    of_http().find(|(_, listener)| wanted(listener)).ok_or_else(|| {
        let names: Vec<_> = of_http().map(|(_, listener)| listener.name.as_str()).collect();
        let message = match plan.listeners.iter().any(wanted) {
            true => "it takes no requests, only connections; there is nothing to explain".into(),
            false => format!("no such listener; there are: {}", names.join(", ")),
        };
        Fault::new("listener", message)
    })
}

fn peer(request: &Request) -> Result<Option<(IpAddr, Option<u16>)>, Fault> {
    let Some(text) = &request.client else { return Ok(None) };
    let whole = text.parse::<SocketAddr>().map(|peer| (peer.ip(), Some(peer.port())));
    let peer = whole.or_else(|_| text.parse::<IpAddr>().map(|peer| (peer, None)));
    peer.map(Some).map_err(|_| Fault::new("client", format!("{text:?} is not an address such as \"192.0.2.1:40000\"")))
}

/// How the request came in.
struct Entry<'a> {
    listener: &'a Listener,
    /// The client's.
    scheme: &'static str,
    /// The connection's.
    own: &'static str,
    port: Option<u16>,
    peer: Option<IpAddr>,
    trusted: bool,
    client: Option<IpAddr>,
    client_port: Option<u16>,
}

impl<'a> Entry<'a> {
    fn new(listener: &'a Listener, request: &Request, peer: Option<(IpAddr, Option<u16>)>, head: &RequestHead) -> Self {
        let networks: Vec<Network> = listener.trusted_proxies.iter().filter_map(|text| text.parse().ok()).collect();
        let address = peer.map(|(address, _)| address);
        let trusted = address.is_some_and(|address| forwarded::is_trusted(address, &networks));
        let port =
            listener.bind.first().and_then(|bind| bind.rsplit(':').next()?.parse().ok()).filter(|port| *port > 0);
        let own = if request.scheme == "https" { "https" } else { "http" };
        Entry {
            listener,
            scheme: if trusted { forwarded::scheme(own, &head.fields) } else { own },
            own,
            port,
            peer: address,
            trusted,
            client: address.map(|address| forwarded::client(address, &networks, &head.fields)),
            // Behind a proxy, the port is the proxy's.
            client_port: peer.and_then(|(_, port)| port).filter(|_| !trusted),
        }
    }

    fn view<'v>(&'v self, head: &'v RequestHead, body: &'v Body<'v>) -> View<'v> {
        let is_secured = self.own == "https";
        View {
            listener: &self.listener.name,
            scheme: self.scheme,
            // As a client would that follows this address.
            sni: Some(head.host()).filter(|host| is_secured && !host.is_empty() && host.parse::<IpAddr>().is_err()),
            alpn: is_secured.then_some("http/1.1"),
            port: self.port,
            client: self.client,
            client_port: self.client_port,
            body: Some(body),
            ..View::of(head)
        }
    }

    /// The request as an endpoint gets it, written and read back.
    fn forwarded(&self, head: &RequestHead, upstream: &Upstream, choice: &Choice) -> Forwarded {
        let peer = self.peer.map_or_else(|| "unix".to_owned(), |peer| peer.to_canonical().to_string());
        let lines = RequestLines {
            outward: None,
            host: HostLine::of(&upstream.host, choice.likely().unwrap_or_default()),
            framing: match head.length {
                Length::None | Length::UntilClose => BodyFraming::None,
                Length::Bytes(bytes) => BodyFraming::Bytes(bytes),
                Length::Chunked => BodyFraming::Chunked,
            },
            identity: &Identity::new(&peer, self.own, self.port),
            trusted: self.trusted,
            request_id: b"",
            upgrade: head.options.upgrade,
        };
        let mut text = Vec::new();
        write_request(head, &lines, &mut text);
        Forwarded::read(&upstream.name, &String::from_utf8_lossy(&text))
    }
}

fn passed_over(plan: &Plan, table: &Table, view: &View<'_>, listener: u32, found: Option<usize>) -> Vec<PassedOver> {
    let before = plan.routes.iter().enumerate().take(found.unwrap_or(plan.routes.len()));
    let passed = before.map(|(index, route)| {
        let serves = route.listeners.as_ref().is_none_or(|listeners| listeners.contains(&listener));
        let refusal = table.test(index).and_then(|test| test.refusal(view)).filter(|_| serves);
        let why = match refusal {
            Some(refusal) => Why::Match { at: refusal.at, found: refusal.found },
            None => Why::Listener,
        };
        PassedOver { index, name: route.name.clone(), why }
    });
    passed.collect()
}

/// Where lists have what was looked for, of the routes up to the one taken.
fn hits(plan: &Plan, table: &Table, view: &View<'_>, listener: u32, found: Option<usize>) -> Vec<Hit> {
    let mut hits = Vec::new();
    for (index, route) in plan.routes.iter().enumerate().take(found.map_or(plan.routes.len(), |found| found + 1)) {
        if route.listeners.as_ref().is_none_or(|listeners| listeners.contains(&listener)) {
            hits.extend(table.test(index).map_or_else(Vec::new, |test| test.hits(view)));
        }
    }
    hits.dedup();
    hits
}

/// Run the filters one by one, telling what each does; a status, where one answers.
fn run_filters(
    filters: &[Filter],
    head: &mut RequestHead,
    scheme: &'static str,
    effects: &mut Vec<Effect>,
) -> Result<Option<u16>, Kind> {
    for filter in filters {
        let name = serde_json::to_value(filter).ok();
        let name = name.and_then(|value| Some(value.as_object()?.keys().next()?.clone())).unwrap_or_default();
        // They were built with the plan: none can be wrong now.
        let one = Filters::build(std::slice::from_ref(filter), 0).unwrap_or_default();
        let before = head.clone();
        let answer = one.on_request(head)?;
        let mut effect = changes(&before, head);
        if let Some(answer) = &answer {
            effect.push(format!("answers {}", answer.status));
        } else if one.has_response() {
            effect.extend(response_change(filter, &one, &Asked { head, scheme, host: None }));
        } else if one.compress().is_some() {
            effect.push("codes the response if the client takes it".to_owned());
        }
        if effect.is_empty() {
            effect.push("changes nothing".to_owned());
        }
        effects.push(Effect { name, effect: effect.join(", ") });
        if let Some(answer) = answer {
            return Ok(Some(answer.status));
        }
    }
    Ok(None)
}

/// What became different in a request.
fn changes(before: &RequestHead, after: &RequestHead) -> Vec<String> {
    let mut changes = Vec::new();
    if before.path() != after.path() {
        changes.push(format!("{} -> {}", before.path(), after.path()));
    }
    if before.query() != after.query() {
        let query =
            |head: &RequestHead| head.query().map_or_else(|| "no query".to_owned(), |query| format!("?{query}"));
        changes.push(format!("{} -> {}", query(before), query(after)));
    }
    let (old, new) = (lines(&before.fields), lines(&after.fields));
    changes.extend(old.iter().filter(|line| !new.contains(line)).map(|line| format!("-{line}")));
    changes.extend(new.iter().filter(|line| !old.contains(line)).map(|line| format!("+{line}")));
    changes
}

/// What a filter will do to the response, whatever that is; `None`: nothing.
fn response_change(filter: &Filter, built: &Filters, asked: &Asked<'_>) -> Option<String> {
    let change = match filter {
        Filter::RemoveResponseHeader(names) => format!("-{}", names.join(", -")),
        Filter::MapLocation(entries) => {
            let entries: Vec<_> = entries.iter().map(|entry| format!("{} -> {}", entry.from, entry.to)).collect();
            format!("location: {}", entries.join(", "))
        }
        Filter::EditCookies(edit) if edit.names.is_empty() => "attributes of all cookies".to_owned(),
        Filter::EditCookies(edit) => format!("attributes of the cookies {}", edit.names.join(", ")),
        _ => {
            let mut fields = Fields::default();
            built.on_response(asked, &mut fields);
            format!("+{}", Some(lines(&fields).join(", +")).filter(|lines| !lines.is_empty())?)
        }
    };
    Some(format!("on the response: {change}"))
}

fn lines(fields: &Fields) -> Vec<String> {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    fields.iter().map(|field| format!("{}: {}", text(field.name), text(field.value))).collect()
}

fn choices(plan: &Plan, action: &Action, standing: impl Fn(usize, usize, &Endpoint) -> Standing) -> Vec<Choice> {
    let shares: Vec<(u32, u32)> = match action {
        Action::Upstream(upstream) => vec![(*upstream, 1)],
        Action::Split(split) => split.shares.iter().map(|share| (share.upstream, share.weight)).collect(),
        Action::Respond(_) | Action::Redirect(_) => Vec::new(),
    };
    let choice = |(at, weight): (u32, u32)| {
        let at = at as usize;
        let upstream = plan.upstreams.get(at)?;
        let candidate = |(endpoint, plan): (usize, &Endpoint)| {
            let Standing { admin, weight, state } = standing(at, endpoint, plan);
            let is_out = matches!(state, State::Down | State::Ejected);
            let eligible = weight > 0 && admin == AdminState::Ready && !is_out;
            Candidate { address: plan.address.clone(), weight, admin, state, eligible }
        };
        let endpoints = upstream.endpoints.iter().enumerate().map(candidate).collect();
        Some(Choice { name: upstream.name.clone(), weight, balance: balance::name(&upstream.balance), endpoints })
    };
    shares.into_iter().filter_map(choice).collect()
}

impl Explanation {
    fn take(&mut self, index: usize, route: &Route) {
        self.route = Some(RouteTaken { index, name: route.name.clone() });
        (self.action, self.status) = match &route.action {
            Action::Upstream(_) => (Some("upstream"), None),
            Action::Split(_) => (Some("split"), None),
            Action::Respond(respond) => (Some("respond"), Some(respond.status)),
            Action::Redirect(redirect) => (Some("redirect"), Some(redirect.status)),
        };
    }

    fn refuse(mut self, kind: Kind) -> Explanation {
        (self.refused, self.status) = (Some(kind.word()), Some(kind.status()));
        self
    }
}

#[cfg(test)]
mod tests;
