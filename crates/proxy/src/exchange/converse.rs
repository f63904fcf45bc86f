//! Step 6, send: the request, until the head of its final response is there.

use super::Story;
use crate::clock::{Clock, NEVER, Tick};
use crate::codec::Downstream;
use crate::codec::h1::H1;
use crate::relay::{Failure, Pump};
use crate::snapshot::UpstreamSettings;
use penstock_rules::error::{Error, Kind, Retry};
use penstock_rules::http::{BodyFraming, Known, Length, RequestHead, RequestLines, ResponseHead, write_request};
use std::future::poll_fn;
use std::task::Poll;
use std::time::{Duration, Instant};

/// How long an endpoint that takes no more of a request has to say why. One that is gone says so at once; this is for a connection that
/// the system only refuses to write to (safety.md 177).
const LAST_WORDS: Duration = Duration::from_secs(1);

/// How long is waited for the head of a response.
struct Deadline {
    /// For a response that nothing can replace.
    wait: Duration,
    /// For one attempt of several.
    patience: Option<Duration>,
    by: Tick,
    /// Whether patience has made it shorter.
    hasty: bool,
}

impl Deadline {
    /// The time runs, if it does not yet. What cannot be sent again from its beginning has the whole time.
    fn start(&mut self, clock: &Clock, is_whole: bool) {
        if self.by == NEVER {
            let patience = self.patience.filter(|patience| is_whole && *patience < self.wait);
            self.hasty = patience.is_some();
            self.by = clock.after(patience.unwrap_or(self.wait));
        }
    }
}

impl Story<'_> {
    /// Step 6, send: the head is staged here; it goes out with the first bytes of the body.
    pub(super) fn send(&self, up: &mut H1, request: &RequestHead, settings: &UpstreamSettings) {
        let framing = match request.length {
            Length::None | Length::UntilClose => BodyFraming::None,
            Length::Bytes(bytes) => BodyFraming::Bytes(bytes),
            Length::Chunked => BodyFraming::Chunked,
        };
        let lines = RequestLines {
            host: self.host_line(settings),
            framing,
            identity: self.exchange.identity,
            trusted: self.trusted,
            request_id: if request.fields.known(Known::XRequestId).is_some() { b"" } else { &self.request_id },
            upgrade: request.options.upgrade,
        };
        write_request(request, &lines, &mut up.wire.out);
        up.begin_body(framing);
    }

    /// Send the request and wait for the head of its final response; interim ones are passed on.
    pub(super) async fn converse(
        &mut self,
        down: &mut impl Downstream,
        up: &mut H1,
        upload: &mut Pump,
        (request, response): (&RequestHead, &mut ResponseHead),
        patience: Option<Duration>,
    ) -> Result<(), Error> {
        let Some(settings) = self.upstream else { return Err(Kind::Internal.into()) };
        let clock = &self.exchange.worker.clock;
        let wait = self.route.and_then(|route| route.plan.timeouts.head).unwrap_or(settings.plan.timeouts.head);
        let mut deadline = Deadline { wait, patience, by: NEVER, hasty: false };
        let (mut interim, mut broken) = (0u32, None);
        let judged = settings.plan.outlier.as_ref().is_some_and(|rules| rules.latency.is_some());
        // A client that waits to be told to go on is not late with its body; the endpoint is with its answer.
        let mut waiting = request.options.expect_continue.then(|| clock.now());
        let outcome = poll_fn(|cx| {
            down.alarm().clear();
            self.check_total(down)?;
            if let Some(since) = waiting {
                down.excuse(clock.now().saturating_sub(since));
                waiting = (interim == 0 && down.received() == 0).then(|| clock.now());
                if waiting.is_none() {
                    deadline.by = NEVER;
                }
            }
            if !upload.is_done() {
                match upload.poll(cx, clock, &mut self.replay.of(down), up) {
                    Poll::Ready(Ok(())) | Poll::Pending => {}
                    Poll::Ready(Err(Failure::Source(kind))) => return Poll::Ready(Err(kind)),
                    // The endpoint takes no more; it may have said why.
                    Poll::Ready(Err(Failure::Sink(kind))) => {
                        upload.stop();
                        broken = Some(kind);
                        deadline.by = clock.after(LAST_WORDS);
                    }
                }
            }
            // No further interim response before the client took the last.
            while down.poll_flush(cx)?.is_ready()
                && let Poll::Ready(head) = up.poll_response(cx, response, &settings.limits, request.is_head())?
            {
                if head.is_none() {
                    return Poll::Ready(Err(broken.unwrap_or(Kind::UpstreamClosed)));
                }
                if !response.is_interim() {
                    return Poll::Ready(Ok(()));
                }
                interim += 1;
                if interim > u32::from(settings.plan.limits.interim) {
                    return Poll::Ready(Err(Kind::ResponseTooLarge));
                }
                self.continued |= response.status == 100;
                down.interim(response);
            }
            if judged && upload.is_done() {
                self.note_sent(request);
            }
            if upload.is_done() || waiting.is_some() {
                deadline.start(clock, self.replay.is_whole());
                if clock.now() >= deadline.by {
                    return Poll::Ready(Err(broken.unwrap_or(Kind::UpstreamHeadTimeout)));
                }
                down.alarm().lower(deadline.by);
                if down.is_ended() && down.poll_gone(cx).is_ready() {
                    return Poll::Ready(Err(Kind::ClientClosed));
                }
            }
            Poll::Pending
        })
        .await;
        outcome.map_err(|kind| {
            self.endpoint.iter_mut().for_each(|in_flight| in_flight.heard(Instant::now()));
            // A connection that broke before a byte of an answer came: the request may be repeated, if it can be.
            let silent = kind == Kind::UpstreamClosed || (deadline.hasty && kind == Kind::UpstreamHeadTimeout);
            Error { kind, retry: if silent && interim == 0 { Retry::Idempotent } else { Retry::Never } }
        })?;
        self.note_answer(settings, response.status);
        Ok(())
    }
}
