//! The one place that turns a failure into an answer. Nothing of the request is echoed (safety.md R9).

use crate::clear::ClearStream;
use crate::codec::Downstream;
use crate::connection::Origin;
use crate::exchange::Story;
use crate::observe::access_log;
use crate::tls::Refused;
use crate::users::Users;
use crate::worker::{Local, Worker};
use penstock_plan::Verdict;
use penstock_rules::error::Kind;
use penstock_rules::forward::Rule;
use penstock_rules::grpc;
use penstock_rules::http::{
    BodyFraming, Length, Persistence, RequestHead, ResponseHead, ResponseLines, reason_phrase, write_response,
};
use penstock_rules::maintenance::retry_after;
use penstock_rules::page::{self, Page, Pages};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::ready;

/// How long a client is asked to stay away when no endpoint can take its request, in seconds.
const RETRY_AFTER: &str = "1";

/// Answer a failed exchange; the status that was sent, or that stands for it where nobody is left to read one.
pub(crate) async fn fail(story: &Story<'_>, down: &mut impl Downstream, request: &RequestHead, kind: Kind) -> u16 {
    if !page::has_reader(kind) {
        down.close_after();
        return kind.status();
    }
    if kind == Kind::RuleDenied
        && let Some(rule) = story.rule
    {
        return deny(story, down, request, rule).await;
    }
    let look = Look::of(request, kind.status(), story.pages());
    let why = story.reason_of_origin(kind);
    let told = why.as_deref().map(|why| ("reason", why));
    let (mut head, body) = compose_as((kind, kind.status(), told), story.id(request), look);
    if let (Kind::Maintenance, Some(route)) = (kind, story.route) {
        head.fields.push("retry-after", retry_after(route.plan.maintenance.retry_after));
    }
    if let (407, Some(users)) = (kind.status(), users_of(story)) {
        head.fields.push("proxy-authenticate", &users.challenge);
    }
    if send(down, &head, &body).await.is_err() {
        down.close_after();
    }
    kind.status()
}

/// Those whom the listener asks who they are.
fn users_of<'s>(story: &Story<'s>) -> Option<&'s Users> {
    story.exchange.listener.forward.as_deref().and_then(|forward| forward.users.as_deref())
}

/// Answer what a rule of a forward proxy refuses, by the rule's name; the status.
async fn deny(story: &Story<'_>, down: &mut impl Downstream, request: &RequestHead, rule: &Rule) -> u16 {
    let Verdict::Deny(status) = rule.verdict else {
        down.abort();
        return Kind::RuleDenied.status();
    };
    let look = Look::of(request, status, story.pages());
    let told = Some(("rule", rule.name.as_str()));
    let (head, body) = compose_as((Kind::RuleDenied, status, told), story.id(request), look);
    if send(down, &head, &body).await.is_err() {
        down.close_after();
    }
    status
}

/// Answer what never became a request, and close. `request` holds what of it could be read.
pub(crate) async fn refuse(
    worker: &Rc<Worker>,
    (local, origin): (&Local, &Origin),
    down: &mut impl Downstream,
    request: &RequestHead,
    kind: Kind,
) {
    worker.counters().fail(kind);
    let id = worker.request_id();
    down.close_after();
    let before = down.written();
    if kind != Kind::ClientClosed {
        let listener = local.snapshot.listener(origin.listener.id).map(|(_, listener)| &listener.pages);
        let pages = listener.into_iter().chain([&local.snapshot.pages]);
        let (head, body) = compose(kind, &id, Look::of(request, kind.status(), pages));
        // Whether the client still reads it is its own affair.
        let _ = send(down, &head, &body).await;
    }
    let bytes_out = down.written().saturating_sub(before);
    note(worker, (local, origin), kind, &id, (request.raw_length() as u64, bytes_out));
}

/// Record a handshake that failed. Who spoke in clear is told so in clear; anybody else was told by an alert.
pub(crate) fn refuse_handshake(worker: &Worker, to: (&Local, &Origin), refused: &Refused) {
    worker.counters().fail(refused.kind);
    if refused.kind == Kind::PlainOnTls {
        refused.carrier.socket().iter().for_each(|socket| turn_away(worker, socket, refused.kind));
    }
    note(worker, to, refused.kind, &worker.request_id(), (0, 0));
}

/// Record a connection that ended for what its client did.
pub(crate) fn refuse_connection(worker: &Worker, to: (&Local, &Origin), kind: Kind) {
    worker.counters().fail(kind);
    note(worker, to, kind, &worker.request_id(), (0, 0));
}

/// Record a request that was refused without an answer.
pub(crate) fn note_refused(worker: &Worker, to: (&Local, &Origin), request: &RequestHead, kind: Kind) {
    worker.counters().fail(kind);
    note(worker, to, kind, &worker.request_id(), (request.raw_length() as u64, 0));
}

/// Record what has no story.
fn note(worker: &Worker, (local, origin): (&Local, &Origin), kind: Kind, id: &[u8], (bytes_in, bytes_out): (u64, u64)) {
    local.snapshot.unrouted.counters.of(worker.index).observe(kind.status(), bytes_in, bytes_out);
    if let Some(log) = &local.snapshot.plan.access_log {
        let refusal = access_log::Refusal { origin, kind, id, bytes_out };
        access_log::add_refused(log.format, &refusal, &mut worker.records.borrow_mut());
        worker.counters().records.add(1);
    }
}

/// Answer for an exchange that a defect of ours ended: with 500 if nothing of its answer went yet, else by an end that nobody can
/// take for a whole one. `before`: bytes that the connection had written when it began.
pub(crate) async fn own_up(worker: &Rc<Worker>, to: (&Local, &Origin), down: &mut impl Downstream, before: u64) {
    if down.take_back(before) {
        // What the head said is not asked any more: it may be what broke us.
        refuse(worker, to, down, &RequestHead::default(), Kind::Internal).await;
        return;
    }
    let bytes_out = down.written().saturating_sub(before);
    down.abort();
    worker.counters().fail(Kind::Internal);
    note(worker, to, Kind::Internal, &worker.request_id(), (0, bytes_out));
}

/// Tell somebody who was not taken in, as far as that needs no waiting; the connection is closed behind it.
pub(crate) fn turn_away(worker: &Worker, socket: &ClearStream, kind: Kind) {
    let (mut head, body) = compose(kind, &worker.request_id(), Look::Text);
    let length = body.len() as u64;
    (head.length, head.declared) = (Length::Bytes(length), Some(length));
    let mut answer = Vec::new();
    let lines = ResponseLines {
        framing: BodyFraming::Bytes(length),
        persistence: Persistence::Close,
        via: false,
        date: Some(worker.clock.date()),
    };
    write_response(&head, &lines, &mut answer);
    answer.extend_from_slice(&body);
    socket.say_last(&answer);
}

/// How a failure is told.
enum Look<'p> {
    Grpc,
    Text,
    Json,
    Page(&'p Page),
}

impl<'p> Look<'p> {
    fn of(request: &RequestHead, status: u16, pages: impl IntoIterator<Item = &'p Pages>) -> Look<'p> {
        if grpc::is_call(request) {
            return Look::Grpc;
        }
        let json = page::wants_json(&request.fields);
        match page::choose(pages, status, json, false) {
            Some(page) => Look::Page(page),
            None if json => Look::Json,
            None => Look::Text,
        }
    }
}

/// The answer to a failure: a page of the configuration, or the status and the id to ask for, in text or JSON.
fn compose(kind: Kind, id: &[u8], look: Look<'_>) -> (ResponseHead, Vec<u8>) {
    compose_as((kind, kind.status(), None), id, look)
}

/// The same with a status of somebody's choice, and what else the client is told, by name.
fn compose_as(
    (kind, status, told): (Kind, u16, Option<(&str, &str)>),
    id: &[u8],
    look: Look<'_>,
) -> (ResponseHead, Vec<u8>) {
    let mut head = ResponseHead::default();
    head.compose(status);
    match kind {
        Kind::NoEndpoint
        | Kind::QueueFull
        | Kind::UpstreamFull
        | Kind::QueueTimeout
        | Kind::Unresolved
        | Kind::TooManyConnections
        | Kind::TooManyPerClient
        | Kind::ConnectionRate
        | Kind::ConnectionRatePerClient
        | Kind::OutOfDescriptors
        | Kind::Exhausted
        | Kind::Overloaded
        | Kind::AddonBusy
        | Kind::GuessRate
        | Kind::UsersBusy
        | Kind::AddonTimeout
        | Kind::AuthUnavailable => {
            head.fields.push("retry-after", RETRY_AFTER);
        }
        Kind::MethodNotAllowed => head.fields.push("allow", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"),
        _ => {}
    }
    head.fields.push("x-request-id", id);
    let phrase = reason_phrase(status);
    match look {
        Look::Grpc => {
            grpc::translate(&mut head);
            (head, Vec::new())
        }
        Look::Page(page) => {
            head.fields.push("content-type", page.content_type.as_bytes());
            (head, page.render(status, id))
        }
        Look::Json => {
            head.fields.push("content-type", "application/json");
            let id = String::from_utf8_lossy(id);
            let mut body = serde_json::json!({ "status": status, "error": phrase, "request_id": id });
            if let (Some((name, told)), Some(members)) = (told, body.as_object_mut()) {
                members.insert(name.into(), told.into());
            }
            (head, body.to_string().into_bytes())
        }
        Look::Text => {
            head.fields.push("content-type", "text/plain; charset=utf-8");
            let hint = match kind {
                Kind::PlainOnTls => "this port speaks TLS: the address begins with https://\n",
                Kind::TlsOnPlain => "this port speaks no TLS: the address begins with http://\n",
                Kind::ClientForbidden => "this proxy does not serve your address\n",
                Kind::UserMissing | Kind::UserRefused => "this proxy asks for a name and a password\n",
                Kind::GuessRate => "too many wrong passwords from your address\n",
                Kind::PortForbidden => "this proxy does not go to that port\n",
                Kind::AddressForbidden => "this proxy does not go to that address\n",
                Kind::NameUnresolved => "the name has no address\n",
                Kind::UpstreamCertificate if told.is_some() => "the server has not proved who it is\n",
                _ => "",
            };
            let told = told.map(|(name, told)| format!("{name}: {told}\n")).unwrap_or_default();
            (head, format!("{status} {phrase}\n{hint}{told}request id: {}\n", String::from_utf8_lossy(id)).into_bytes())
        }
    }
}

/// Put a page in place of an endpoint's content; what its answer says beyond that stays.
pub(crate) fn stand_in(page: &Page, id: &[u8], response: &mut ResponseHead) -> Vec<u8> {
    page::strip_content(&mut response.fields);
    response.fields.push("content-type", page.content_type.as_bytes());
    let body = page.render(response.status, id);
    response.length = Length::Bytes(body.len() as u64);
    response.declared = Some(body.len() as u64);
    body
}

/// Send a response of our own whole.
///
/// # Errors
/// That of the client's side.
pub(crate) async fn send(down: &mut impl Downstream, head: &ResponseHead, body: &[u8]) -> Result<(), Kind> {
    let mut sized = std::borrow::Cow::Borrowed(head);
    let length = body.len() as u64;
    // That of a 304 would be the length of the content that the client has (RFC 9110 §8.6), which is not known here.
    let declared = (head.status != 304).then_some(length);
    if (head.length, head.declared) != (Length::Bytes(length), declared) {
        let sized = sized.to_mut();
        (sized.length, sized.declared) = (Length::Bytes(length), declared);
    }
    if !down.is_ended() {
        // A body that nobody will read: the connection ends behind the answer (safety.md R4).
        down.close_after();
    }
    down.respond(&sized, false);
    let mut sent = 0;
    poll_fn(|cx| {
        down.alarm().clear();
        while let Some(rest) = body.get(sent..).filter(|rest| !rest.is_empty()) {
            sent += ready!(down.poll_send(cx, rest))?;
        }
        down.poll_flush(cx)
    })
    .await?;
    down.finish(None);
    poll_fn(|cx| down.poll_flush(cx)).await
}
