//! Step 7, relay.

use super::{Exchange, Story};
use crate::clock::{NEVER, Tick};
use crate::codec::{Downstream, Upstream};
use crate::connection::is_closing_since;
use crate::faults;
use crate::relay::{Failure, Pump, Stay, tunnel};
use penstock_rules::error::{Error, Kind};
use penstock_rules::grpc;
use penstock_rules::http::{Known, RequestHead, ResponseHead, websocket};
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::task::Poll;

impl Story<'_> {
    /// Step 7, relay: the response back, and what is left of the request on.
    pub(super) async fn relay(
        &mut self,
        down: &mut impl Downstream,
        up: &mut impl Upstream,
        upload: &mut Pump,
        request: &RequestHead,
        response: &mut ResponseHead,
    ) -> Result<(), Error> {
        self.filter_response(request, response);
        up.accept_answer(response);
        let mut coder = self.coder(request, response)?;
        let Exchange { worker, local, origin, .. } = self.exchange;
        if is_closing_since(worker, origin, local.version) {
            down.close_after();
        }
        down.respond(response, true);
        self.status = response.status;
        let clock = &self.exchange.worker.clock;
        let mut download = Pump::default();
        let (streams, mut moved) = (grpc::is_call(request), 0);
        poll_fn(|cx| {
            down.alarm().clear();
            if streams && moved != down.received() + up.received() {
                // Silence is judged over both directions: who listens is not late.
                moved = down.received() + up.received();
                down.excuse(0);
                up.excuse(0);
            }
            if down.sent() > 0 {
                faults::strike(self.exchange.worker, faults::Place::Body, request);
            }
            if let Err(kind) = self.check_total(down) {
                return Poll::Ready(Err(kind));
            }
            if !upload.is_done()
                && let Poll::Ready(Err(failure)) = upload.poll(cx, clock, &mut self.replay.of(down), up)
            {
                // A server that still listens would answer to what it has, or wait for the rest.
                if streams && let Failure::Source(kind) = failure {
                    return Poll::Ready(Err(kind));
                }
                // Whoever failed, the answer is under way: it is delivered, and both connections end with it.
                upload.stop();
                down.close_after();
                up.spoil();
            }
            let read = match &mut coder {
                None => download.poll_source(cx, clock, up, down),
                Some(coder) => download.poll_source(cx, clock, &mut coder.over(up), down),
            };
            let moved = match read {
                Poll::Ready(Ok(())) => {
                    self.leave();
                    download.poll_end(cx, down)
                }
                read => read.map_err(Failure::kind),
            };
            match moved {
                // Nothing to write for now, which would have told.
                Poll::Pending if upload.is_done() && down.poll_gone(cx).is_ready() => {
                    Poll::Ready(Err(Kind::ClientClosed))
                }
                moved => moved,
            }
        })
        .await
        .map_err(Error::from)
    }

    /// Step 7 for an upgrade: after `101` the bytes are the client's and the endpoint's own affair.
    pub(super) async fn switch(
        &mut self,
        down: &mut impl Downstream,
        up: &mut impl Upstream,
        request: &RequestHead,
        response: &mut ResponseHead,
    ) -> Result<(), Error> {
        if !request.options.upgrade || !response.options.upgrade {
            return Err(Kind::BadUpgrade.into());
        }
        let websocket = response.fields.known(Known::Upgrade).is_some_and(|to| to.eq_ignore_ascii_case(b"websocket"));
        // A client of HTTP/2 leaves it to us to see that the endpoint understood (RFC 8441 §5.1).
        if request.is_extended_connect() && !(websocket && is_accepted(request, response)) {
            return Err(Kind::BadUpgrade.into());
        }
        self.filter_response(request, response);
        self.status = down.respond_switched(response);
        self.pass(down, up, websocket).await
    }

    /// Step 7 of a tunnel: bytes both ways, for as long as there are any.
    pub(super) async fn pass(
        &mut self,
        down: &mut impl Downstream,
        up: &mut impl Upstream,
        websocket: bool,
    ) -> Result<(), Error> {
        self.upgraded = true;
        let idle = self.exchange.listener.plan.timeouts.tunnel;
        down.become_tunnel(idle);
        up.become_tunnel(idle);
        let tunnels = &self.exchange.origin.listener.counters.of(self.exchange.worker.index).tunnels;
        let _open = tunnels.raise();
        let _told = websocket.then(|| self.exchange.worker.counters().websockets.raise());
        let alarm = Rc::clone(down.alarm());
        let mut term = Term { exchange: self.exchange, version: self.exchange.local.version, by: NEVER };
        let end = tunnel(&alarm, down, up, websocket, || term.stay()).await;
        // That one side ends a tunnel is how tunnels end.
        if end == Kind::TunnelIdle { Err(end.into()) } else { Ok(()) }
    }
}

/// How long a tunnel may go on: one whose listener a reload removed, for as long as a stopping process would wait.
struct Term<'a> {
    exchange: &'a Exchange<'a>,
    /// Of the configuration that was looked at last.
    version: u64,
    by: Tick,
}

impl Term<'_> {
    fn stay(&mut self) -> Stay {
        let Exchange { worker, origin, .. } = self.exchange;
        let version = worker.shared.version.load(Ordering::Acquire);
        if version != self.version
            && let Some(local) = worker.local()
        {
            let gone = local.snapshot.listener(origin.listener.id).is_none();
            let by = worker.clock.after(local.snapshot.plan.engine.drain_timeout);
            (self.version, self.by) = (version, if gone { self.by.min(by) } else { NEVER });
        }
        match self.by {
            _ if worker.is_leaving() => Stay::Leaving,
            NEVER => Stay::Open,
            by => Stay::Until(by),
        }
    }
}

/// Whether the answer belongs to the key of the request.
fn is_accepted(request: &RequestHead, response: &ResponseHead) -> bool {
    let key = request.fields.all("sec-websocket-key").next();
    let accept = response.fields.all("sec-websocket-accept").next();
    key.zip(accept).is_some_and(|(key, accept)| websocket::is_accepted(key, accept))
}
