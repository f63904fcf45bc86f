//! Step 6, send: the request, until the head of its final response is there.

use super::Story;
use crate::clock::{Clock, NEVER, Tick};
use crate::codec::{Downstream, Incoming, Upstream};
use crate::relay::{Failure, Pump};
use crate::snapshot::UpstreamSettings;
use penstock_rules::error::{Error, Kind, Retry};
use penstock_rules::http::{BodyFraming, Known, Length, RequestHead, RequestLines, ResponseHead};
use std::future::poll_fn;
use std::task::{Context, Poll, ready};
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

/// What has been said until the head of the final response is there.
struct Conversation<'a> {
    clock: &'a Clock,
    settings: &'a UpstreamSettings,
    deadline: Deadline,
    /// Since when the client waits to be told to go on. It is not late with its body; the endpoint is with its answer.
    waiting: Option<Tick>,
    interim: u32,
    /// The endpoint asked for the body.
    continued: bool,
    /// Why the endpoint takes no more of the request.
    broken: Option<Kind>,
}

impl Conversation<'_> {
    /// A client that waits is excused. It does so until the first interim response, or until it sends after all.
    fn excuse(&mut self, down: &mut impl Downstream) {
        let Some(since) = self.waiting else { return };
        down.excuse(self.clock.now().saturating_sub(since));
        if self.interim == 0 && down.received() == 0 {
            self.waiting = Some(self.clock.now());
        } else {
            self.waiting = None;
            self.deadline.by = NEVER;
        }
    }

    /// Send what is there of the request.
    fn send(
        &mut self,
        cx: &mut Context<'_>,
        upload: &mut Pump,
        body: &mut impl Incoming,
        up: &mut impl Upstream,
    ) -> Result<(), Kind> {
        match upload.poll(cx, self.clock, body, up) {
            Poll::Ready(Ok(())) | Poll::Pending => {}
            Poll::Ready(Err(Failure::Source(kind))) => return Err(kind),
            // The endpoint takes no more; it may have said why.
            Poll::Ready(Err(Failure::Sink(kind))) => {
                upload.stop();
                self.broken = Some(kind);
                self.deadline.by = self.clock.after(LAST_WORDS);
            }
        }
        Ok(())
    }

    /// Read heads, and pass interim ones on; ready with the final one. None is read before the client took the last. `may_refuse`: whether
    /// the client may not get the answer that they come before.
    fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        down: &mut impl Downstream,
        up: &mut impl Upstream,
        (request, response): (&RequestHead, &mut ResponseHead),
        may_refuse: impl Fn() -> bool,
    ) -> Poll<Result<(), Kind>> {
        loop {
            ready!(down.poll_flush(cx))?;
            if ready!(up.poll_response(cx, response, &self.settings.limits, request.is_head()))?.is_none() {
                return Poll::Ready(Err(self.broken.unwrap_or(Kind::UpstreamClosed)));
            }
            if !response.is_interim() {
                return Poll::Ready(Ok(()));
            }
            self.interim += 1;
            if self.interim > u32::from(self.settings.plan.limits.interim) {
                return Poll::Ready(Err(Kind::ResponseTooLarge));
            }
            self.continued |= response.status == 100;
            if may_refuse() {
                if response.status != 100 {
                    continue;
                }
                // What its client waits for with the body: that alone, with nothing of the answer.
                response.compose(100);
            }
            response.strip_listed();
            down.interim(response);
        }
    }

    /// The request is sent, as far as it will be: the endpoint has its time to answer, if somebody still wants it.
    #[inline(always)]
    fn wait(&mut self, cx: &mut Context<'_>, down: &mut impl Downstream, is_whole: bool) -> Result<(), Kind> {
        self.deadline.start(self.clock, is_whole);
        if self.clock.now() >= self.deadline.by {
            return Err(self.broken.unwrap_or(Kind::UpstreamHeadTimeout));
        }
        down.alarm().lower(self.deadline.by);
        if down.is_ended() && down.poll_gone(cx).is_ready() {
            return Err(Kind::ClientClosed);
        }
        Ok(())
    }
}

impl Story<'_> {
    /// Step 6, send: the head is staged here; it goes out with the first bytes of the body.
    #[inline(always)]
    pub(super) fn send(&self, up: &mut impl Upstream, request: &RequestHead, settings: &UpstreamSettings) {
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
            outward: settings.outward.as_ref(),
            request_id: match settings.outward.is_some() || request.fields.known(Known::XRequestId).is_some() {
                true => b"",
                false => &self.request_id,
            },
            upgrade: request.options.upgrade,
        };
        up.ask(request, &lines);
    }

    /// Send the request and wait for the head of its final response; interim ones are passed on.
    pub(super) async fn converse(
        &mut self,
        down: &mut impl Downstream,
        up: &mut impl Upstream,
        upload: &mut Pump,
        (request, response): (&RequestHead, &mut ResponseHead),
        patience: Option<Duration>,
    ) -> Result<(), Error> {
        let Some(settings) = self.upstream else { return Err(Kind::Internal.into()) };
        let clock = &*self.exchange.worker.clock;
        let wait = self.route.and_then(|route| route.plan.timeouts.head).unwrap_or(settings.plan.timeouts.head);
        let judged = settings.plan.outlier.as_ref().is_some_and(|rules| rules.latency.is_some());
        let mut talk = Conversation {
            clock,
            settings,
            deadline: Deadline { wait, patience, by: NEVER, hasty: false },
            waiting: request.options.expect_continue.then(|| clock.now()),
            interim: 0,
            continued: false,
            broken: None,
        };
        let outcome = poll_fn(|cx| {
            down.alarm().clear();
            self.check_total(down)?;
            talk.excuse(down);
            if !upload.is_done() {
                talk.send(cx, upload, &mut self.replay.of(down), up)?;
            }
            if let Poll::Ready(head) = talk.poll_head(cx, down, up, (request, response), || self.may_refuse()) {
                return Poll::Ready(head);
            }
            if upload.is_done() && (judged || request.length != Length::None) {
                self.note_sent(request, judged);
            }
            if upload.is_done() || talk.waiting.is_some() {
                talk.wait(cx, down, self.replay.is_whole())?;
            }
            Poll::Pending
        })
        .await;
        self.continued |= talk.continued;
        let unprocessed = up.is_unprocessed();
        outcome.map_err(|kind| {
            self.endpoint.iter_mut().for_each(|in_flight| in_flight.heard(Instant::now()));
            // A connection that broke before a byte of an answer came: the request may be repeated, if it can be.
            let silent = matches!(kind, Kind::UpstreamClosed | Kind::UpstreamReset)
                || (talk.deadline.hasty && kind == Kind::UpstreamHeadTimeout);
            let retry = match talk.interim {
                0 if unprocessed => Retry::Always,
                0 if silent => Retry::Idempotent,
                _ => Retry::Never,
            };
            Error { kind, retry }
        })?;
        self.note_answer(settings, request, response.status);
        Ok(())
    }
}
