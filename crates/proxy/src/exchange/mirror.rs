//! A copy of a request to a further upstream. It is an exchange of its own, which begins when all of the request is here, whose client is
//! nobody, and for which nobody waits.

mod nobody;

use super::{Exchange, Story};
use crate::codec::Downstream;
use crate::connection::Origin;
use crate::contain::contain;
use crate::observe::events::Level;
use crate::snapshot::{SharedUpstream, UpstreamSettings};
use crate::upstream::reserved::Reserved;
use crate::worker::{Local, Worker};
use nobody::Nobody;
use penstock_rules::error::Kind;
use penstock_rules::http::{Identity, RequestHead, ResponseHead};
use penstock_rules::limit;
use penstock_rules::route::mirror::{self, MARK, MOST};
use serde_json::json;
use std::future::poll_fn;
use std::net::IpAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

/// From one line in the log on copies that fail to the next, of one upstream.
const TOLD: Duration = Duration::from_secs(10);

/// What becomes of the copy of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mirrored {
    pub(crate) upstream: u32,
    pub(crate) copied: Copied,
}

/// Whether it is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Copied {
    /// Its body is not whole yet.
    Waiting,
    Sent,
    /// There is no room for one more.
    Dropped,
    /// Its body is too long, or never became whole.
    Unfit,
}

impl Copied {
    /// The word for it in the log.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Copied::Sent => "sent",
            Copied::Dropped => "dropped",
            Copied::Waiting | Copied::Unfit => "unfit",
        }
    }
}

/// How copies end, as they are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CopyOutcome {
    Answered,
    Failed,
    Dropped,
    Unfit,
}

impl CopyOutcome {
    pub(crate) const ALL: [CopyOutcome; 4] =
        [CopyOutcome::Answered, CopyOutcome::Failed, CopyOutcome::Dropped, CopyOutcome::Unfit];

    /// The word for it in metrics.
    pub(crate) fn word(self) -> &'static str {
        match self {
            CopyOutcome::Answered => "answered",
            CopyOutcome::Failed => "failed",
            CopyOutcome::Dropped => "dropped",
            CopyOutcome::Unfit => "unfit",
        }
    }
}

impl Story<'_> {
    /// Whether this request is copied is drawn here. What has no body is sent at once.
    pub(super) fn begin_copy(&mut self, mirror: &mirror::Mirror, down: &impl Downstream, request: &mut RequestHead) {
        if !self.trusted {
            // Whoever is asked as the first must not take it for a copy.
            request.fields.remove(MARK);
        }
        if !mirror.wants(&self.view(request), self.exchange.worker.random()) {
            return;
        }
        self.mirrored = Some(Mirrored { upstream: mirror.upstream(), copied: Copied::Waiting });
        if mirror::fits(request.length) {
            self.replay.keep_up_to(MOST);
            self.copy_if_whole(down, request);
        } else {
            self.end_copy(Copied::Unfit);
        }
    }

    /// Send the copy that waits for the rest of its body, if that is here.
    pub(super) fn copy_if_whole(&mut self, down: &impl Downstream, request: &RequestHead) {
        let Some(Mirrored { upstream, copied: Copied::Waiting }) = self.mirrored else { return };
        if !self.replay.is_whole() || self.replay.kept().len() > MOST {
            self.end_copy(Copied::Unfit);
        } else if down.is_ended() {
            let sent = self.send_copy(upstream as usize, request);
            self.end_copy(if sent.is_some() { Copied::Sent } else { Copied::Dropped });
        }
    }

    /// Nothing more of the request will come.
    pub(super) fn give_up_copy(&mut self, down: &impl Downstream, request: &RequestHead) {
        self.copy_if_whole(down, request);
        if self.mirrored.is_some_and(|mirrored| mirrored.copied == Copied::Waiting) {
            self.end_copy(Copied::Unfit);
        }
    }

    fn end_copy(&mut self, copied: Copied) {
        let Some(mirrored) = &mut self.mirrored else { return };
        mirrored.copied = copied;
        let outcome = match copied {
            Copied::Dropped => CopyOutcome::Dropped,
            Copied::Unfit => CopyOutcome::Unfit,
            Copied::Waiting | Copied::Sent => return,
        };
        if let Some(settings) = self.exchange.local.snapshot.upstreams.get(mirrored.upstream as usize) {
            settings.shared.count_copy(self.exchange.worker, outcome);
        }
    }

    fn send_copy(&self, upstream: usize, request: &RequestHead) -> Option<()> {
        let Exchange { worker, local, origin, identity, .. } = self.exchange;
        let connections = worker.shared.connections_each.load(Ordering::Relaxed);
        let most = limit::copies(connections, worker.counters().connections.get());
        if worker.copies.get() >= most || worker.is_pressed() {
            return None;
        }
        let shared = &local.snapshot.upstreams.get(upstream)?.shared;
        worker.copies.set(worker.copies.get() + 1);
        let copy = Copy {
            worker: Rc::clone(worker),
            origin: (*origin).clone(),
            identity: (*identity).clone(),
            upstream: Arc::clone(shared),
            trusted: self.trusted,
            scheme: self.scheme,
            client: self.client,
            request_id: self.request_id,
            head: mirror::copy(request),
        };
        shared.counters.of(worker.index).copies_in_flight.add(1);
        let body = self.replay.kept().to_vec();
        tokio::task::spawn_local(copy.run(body));
        Some(())
    }
}

impl SharedUpstream {
    fn count_copy(&self, worker: &Worker, outcome: CopyOutcome) {
        self.counters.of(worker.index).copies[outcome as usize].add(1);
    }
}

/// A copy on its way.
struct Copy {
    worker: Rc<Worker>,
    origin: Origin,
    identity: Identity,
    upstream: Arc<SharedUpstream>,
    trusted: bool,
    scheme: &'static str,
    client: Option<IpAddr>,
    request_id: [u8; 32],
    head: RequestHead,
}

impl Drop for Copy {
    fn drop(&mut self) {
        self.worker.copies.set(self.worker.copies.get().saturating_sub(1));
        self.upstream.counters.of(self.worker.index).copies_in_flight.subtract(1);
    }
}

impl Copy {
    async fn run(mut self, body: Vec<u8>) {
        let worker = Rc::clone(&self.worker);
        // A reload may have come since: then it goes where the upstream is now, if there is still one.
        let Some((local, _)) = worker.local_of(self.origin.listener.id) else { return };
        let place = local.snapshot.upstreams.iter().position(|one| Arc::ptr_eq(&one.shared, &self.upstream));
        let Some((at, settings)) = place.and_then(|at| Some((at, local.snapshot.upstreams.get(at)?))) else { return };
        let ended = {
            let exchange = pin!(self.exchange(&local, (at, settings), body));
            contain(&worker, exchange).await.unwrap_or(Err(Kind::Internal))
        };
        match ended {
            // One that says more than is read has answered.
            Ok(()) | Err(Kind::ClientClosed) => self.upstream.count_copy(&worker, CopyOutcome::Answered),
            Err(kind) => {
                self.upstream.count_copy(&worker, CopyOutcome::Failed);
                self.tell(settings, kind);
            }
        }
    }

    /// Steps 4 to 8, with nobody as the client.
    async fn exchange(
        &mut self,
        local: &Local,
        (at, settings): (usize, &UpstreamSettings),
        body: Vec<u8>,
    ) -> Result<(), Kind> {
        let worker = &self.worker;
        let Some((index, listener)) = local.snapshot.listener(self.origin.listener.id) else { return Ok(()) };
        let alarm = Rc::new(worker.clock.alarm());
        poll_fn(|cx| {
            alarm.register(cx);
            Poll::Ready(())
        })
        .await;
        let mut down = Nobody::new(alarm, body);
        let exchange = Exchange {
            worker,
            local,
            origin: &self.origin,
            listener,
            index,
            identity: &self.identity,
            reserved: &Reserved::default(),
        };
        let mut story = Story::new(&exchange);
        (story.trusted, story.scheme, story.client) = (self.trusted, self.scheme, self.client);
        story.request_id = self.request_id;
        let timeouts = &settings.plan.timeouts;
        story.total_by = worker.clock.after(timeouts.connect + timeouts.head);
        story.bind(&mut self.head, at);
        let mut response = ResponseHead::default();
        story.forward(&mut down, &self.head, &mut response, at).await.map_err(|error| error.kind)
    }

    fn tell(&self, settings: &UpstreamSettings, kind: Kind) {
        if !self.upstream.told.is_due(TOLD) {
            return;
        }
        let (name, cause) = (&settings.plan.name, kind.word());
        let failed = self.upstream.counters.sum(|counters| counters.copies[CopyOutcome::Failed as usize].get());
        let message = format!("{name}: a mirrored request failed ({cause}); so far {failed}");
        let fields = [("upstream", json!(name)), ("cause", json!(cause))];
        self.worker.shared.events.add(Level::Warning, "mirror", message, &fields);
    }
}
