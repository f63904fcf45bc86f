//! A client whose exchange is captured: all that goes through it, both ways, is noted on its way. It changes nothing of the exchange.

use super::{Exchange, Story, run};
use crate::capture::{Capture, Room, UNDER_WAY};
use crate::clock::Alarm;
use crate::codec::{Chunk, Downstream, Incoming, Outgoing, Tunnel};
use crate::observe::access_log::Stamp;
use penstock_rules::capture::{Body, Captured};
use penstock_rules::error::Kind;
use penstock_rules::http::{Fields, RequestHead, ResponseHead};
use penstock_rules::pace::LeastRate;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

/// Run one exchange of a listener that captures.
pub(crate) async fn run_tapped(
    exchange: &Exchange<'_>,
    capture: &Capture,
    down: &mut impl Downstream,
    request: &mut RequestHead,
    response: &mut ResponseHead,
) {
    let mut story = Story::new(exchange);
    story.meet(request);
    let room = match capture.wants(&story.view(request)) {
        true => Room::begin(&capture.ring, UNDER_WAY + request.raw_length()),
        false => None,
    };
    drop(story);
    let Some(room) = room else { return run(exchange, down, request, response).await };
    let mut tap = Tap {
        client: down,
        capture,
        room,
        began: Stamp::default().rfc3339(),
        request: Box::new(without_credentials(request)),
        response: None,
        bodies: usize::try_from(capture.plan.bodies).unwrap_or(usize::MAX),
        upload: Body::default(),
        download: Body::default(),
    };
    run(exchange, &mut tap, request, response).await;
}

/// The request, less what is for us alone.
fn without_credentials(request: &RequestHead) -> RequestHead {
    let mut request = request.clone();
    request.fields.remove("proxy-authorization");
    request
}

// Of any version of HTTP: an exchange over it is compiled once.
struct Tap<'d> {
    client: &'d mut dyn Downstream,
    capture: &'d Capture,
    room: Room,
    began: String,
    request: Box<RequestHead>,
    response: Option<Box<ResponseHead>>,
    /// Bytes of a body that are kept.
    bodies: usize,
    upload: Body,
    download: Body,
}

impl Tap<'_> {
    fn forget_answer(&mut self) {
        self.response = None;
        self.download = Body::default();
    }
}

impl Incoming for Tap<'_> {
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Result<Chunk, Kind>> {
        self.client.poll_chunk(cx)
    }

    fn chunk(&self) -> &[u8] {
        self.client.chunk()
    }

    fn consume(&mut self, count: usize) {
        let bytes = self.client.chunk().get(..count).unwrap_or_default();
        self.room.keep(&mut self.upload, self.bodies, bytes);
        self.client.consume(count);
    }

    fn trailers(&self) -> Option<Fields> {
        self.client.trailers()
    }

    fn is_ended(&self) -> bool {
        self.client.is_ended()
    }

    fn received(&self) -> u64 {
        self.client.received()
    }

    fn excuse(&mut self, ticks: u64) {
        self.client.excuse(ticks);
    }
}

impl Outgoing for Tap<'_> {
    fn poll_send(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize, Kind>> {
        let sent = self.client.poll_send(cx, bytes);
        if let Poll::Ready(Ok(count)) = sent {
            self.room.keep(&mut self.download, self.bodies, bytes.get(..count).unwrap_or_default());
        }
        sent
    }

    fn sent(&self) -> u64 {
        self.client.sent()
    }

    fn finish(&mut self, trailers: Option<&Fields>) {
        self.client.finish(trailers);
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Kind>> {
        self.client.poll_flush(cx)
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.client.poll_shutdown(cx)
    }
}

impl Tunnel for Tap<'_> {
    fn become_tunnel(&mut self, idle: Duration) {
        // What is said in another protocol is no body.
        self.bodies = 0;
        self.client.become_tunnel(idle);
    }
}

impl Downstream for Tap<'_> {
    fn accept_body(&mut self, head: &RequestHead, limit: Option<u64>, rate: LeastRate) {
        self.client.accept_body(head, limit, rate);
    }

    fn limit_body(&mut self, limit: u64) {
        self.client.limit_body(limit);
    }

    fn retract(&mut self) -> bool {
        let retracted = self.client.retract();
        if retracted {
            self.forget_answer();
        }
        retracted
    }

    fn take_back(&mut self, before: u64) -> bool {
        let taken = self.client.take_back(before);
        if taken {
            self.forget_answer();
        }
        taken
    }

    fn written(&self) -> u64 {
        self.client.written()
    }

    fn alarm(&self) -> &Rc<Alarm> {
        self.client.alarm()
    }

    fn takes(&self, status: u16) -> bool {
        self.client.takes(status)
    }

    fn respond(&mut self, head: &ResponseHead, via: bool) {
        self.response = Some(Box::new(head.clone()));
        self.client.respond(head, via);
    }

    fn respond_switched(&mut self, head: &ResponseHead) -> u16 {
        self.response = Some(Box::new(head.clone()));
        self.client.respond_switched(head)
    }

    fn respond_connected(&mut self) -> bool {
        let connected = self.client.respond_connected();
        if connected {
            let mut head = Box::<ResponseHead>::default();
            head.compose(200);
            self.response = Some(head);
        }
        connected
    }

    fn poll_ahead(&mut self, cx: &mut Context<'_>, seen: usize) -> Poll<Result<&[u8], Kind>> {
        self.client.poll_ahead(cx, seen)
    }

    fn hand_over(&mut self) {
        self.client.hand_over();
    }

    fn interim(&mut self, head: &ResponseHead) {
        self.client.interim(head);
    }

    fn close_after(&mut self) {
        self.client.close_after();
    }

    fn abort(&mut self) {
        self.client.abort();
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.client.poll_gone(cx)
    }

    fn poll_broken(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.client.poll_broken(cx)
    }

    fn tell_broken(&mut self) {
        self.client.tell_broken();
    }

    fn ended(&mut self, story: &Story<'_>) {
        let endpoint = story.endpoint.as_ref().map(|endpoint| endpoint.endpoint.shared.address.as_str());
        let captured = Captured {
            began: &self.began,
            listener: &story.exchange.listener.plan.name,
            scheme: story.scheme,
            client: story.client.map(|client| client.to_canonical().to_string()),
            request: &self.request,
            upload: &self.upload,
            response: self.response.as_deref(),
            download: &self.download,
            route: story.route.map(|route| route.plan.name.as_str()),
            upstream: story.upstream.map(|upstream| upstream.plan.name.as_str()),
            endpoint,
            error: story.error.map(Kind::word),
            total: story.began.elapsed(),
            answered: story.answered,
            connect: story.connect,
            secrets: self.capture.plan.secrets,
        };
        self.capture.ring.put(&captured);
    }
}
