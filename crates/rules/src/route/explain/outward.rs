//! Which way a request of a forward proxy would take: who may ask for it, which rule takes it, and where it may not go. No name is
//! asked for, so a rule about an address takes only what names one.

use super::{Entry, Explanation, Parts, PassedOver, Request, RouteTaken, Why};
use crate::error::Kind;
use crate::fault::Fault;
use crate::forward::{Errand, Leave, Moment, Rules};
use crate::http::{HeadLimits, RequestHead, Target};
use crate::list::Lists;
use crate::route::View;
use penstock_plan::{Forward, Listener, Verdict};
use std::net::IpAddr;

pub(super) fn explain(
    place: (&Listener, &Forward),
    request: &Request,
    peer: Option<(IpAddr, Option<u16>)>,
    known: (Moment, &Lists),
) -> Result<Explanation, Fault> {
    if request.scheme == "https" && request.method != "CONNECT" {
        // Where a tunnel there is opened, it is a request in that. Nobody sees what is in another: then only the URL can be meant.
        let tunnel = Request { method: "CONNECT".to_owned(), ..request.clone() };
        let opened = weigh(place, (&tunnel, false), peer, known)?.action == Some("intercept");
        return weigh(place, (request, opened), peer, known);
    }
    weigh(place, (request, false), peer, known)
}

/// One request or tunnel. `inside`: it comes through a tunnel that was opened.
fn weigh(
    (listener, forward): (&Listener, &Forward),
    (request, inside): (&Request, bool),
    peer: Option<(IpAddr, Option<u16>)>,
    (moment, lists): (Moment, &Lists),
) -> Result<Explanation, Fault> {
    let mut answer = Explanation::new(&listener.name, Parts::asked(request));
    let head = match read(request, inside) {
        Ok(head) => head,
        Err(kind) => return Ok(answer.refuse(kind)),
    };
    answer.request = Parts::read(&head, request);
    let entry = Entry::new(listener, request, peer, &head);
    let first = |mut faults: Vec<Fault>| faults.pop().unwrap_or_else(|| Fault::new("forward", "cannot be built"));
    let leave = Leave::build(forward, "forward").map_err(first)?;
    let rules = Rules::build(&forward.rules, "forward", lists).map_err(first)?;
    let tunnel = head.target == Target::Tunnel;
    let port = head.place_port();
    let proved = || match (&forward.users, &request.user) {
        (Some(_), None) => Err(Kind::UserMissing),
        _ => Ok(()),
    };
    let allowed = leave.client(entry.client).and_then(|()| proved());
    if let Err(kind) = allowed.and_then(|()| leave.port(port, tunnel || inside)) {
        return Ok(answer.refuse(kind));
    }
    let literal = head.host().trim_matches(['[', ']']).parse::<IpAddr>().ok();
    if literal.is_some_and(|address| !leave.address(address)) {
        return Ok(answer.refuse(Kind::AddressForbidden));
    }
    let errand = Errand { user: request.user.as_deref(), address: literal, moment, ..Errand::default() };
    let view = View {
        listener: &listener.name,
        port: entry.port,
        client: entry.client,
        client_port: entry.client_port,
        // What the client speaks: to the proxy, or in its tunnel.
        scheme: if inside || listener.tls.is_some() { "https" } else { "http" },
        sni: Some(head.host()).filter(|_| inside && literal.is_none()),
        alpn: inside.then_some("http/1.1"),
        errand: Some(&errand),
        ..View::of(&head)
    };
    let passed = rules.passed_over(&view).map(|(index, name, refusal)| {
        let why = Why::Match { at: refusal.at, found: refusal.found };
        PassedOver { index, name: name.to_owned(), why }
    });
    answer.passed_over = passed.collect();
    answer.lists = rules.hits(&view);
    answer.action = Some("forward");
    let mut parent = forward.parent;
    if let Some((index, rule)) = rules.judge(&view) {
        answer.rule = Some(RouteTaken { index, name: rule.name.clone() });
        match rule.verdict {
            Verdict::Allow | Verdict::Tunnel => {}
            Verdict::Intercept if tunnel => answer.action = Some("intercept"),
            Verdict::Intercept => {}
            Verdict::Direct => parent = None,
            Verdict::Parent(at) => parent = Some(at),
            Verdict::Deny(status) => (answer.action, answer.status) = (Some("deny"), Some(status)),
            Verdict::Close => answer.action = Some("close"),
        }
        answer.throttle = rule.throttle;
    }
    if matches!(answer.action, Some("forward" | "intercept")) {
        answer.parent = parent;
    }
    if answer.action == Some("forward") && parent.is_some() {
        answer.action = Some("parent");
    }
    Ok(answer)
}

/// The head as a client sends it to a proxy.
fn read(request: &Request, inside: bool) -> Result<RequestHead, Kind> {
    let target = match request.method.as_str() {
        "CONNECT" if request.host.rsplit(']').next().is_some_and(|rest| rest.contains(':')) => request.host.clone(),
        "CONNECT" => format!("{}:443", request.host),
        _ if inside => request.target.clone(),
        _ => format!("{}://{}{}", request.scheme, request.host, request.target),
    };
    let mut text = format!("{} {target} HTTP/1.1\r\nhost: {}\r\n", request.method, request.host);
    for (name, value) in &request.headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("\r\n");
    let mut head = RequestHead::default();
    head.parse(text.as_bytes(), &HeadLimits { bytes: 1 << 20, fields: 1000, uri: 1 << 16, elsewhere: true })?;
    if inside {
        let (host, port) = (head.host().to_owned(), head.port().unwrap_or(443));
        head.enter(&host, port)?;
    }
    Ok(head)
}
