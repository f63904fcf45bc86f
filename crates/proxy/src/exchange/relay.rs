//! Step 7, relay.

use super::{Exchange, Story};
use crate::codec::{Downstream, Upstream};
use crate::connection::is_closing_since;
use crate::faults;
use crate::relay::{Failure, Pump};
use penstock_rules::error::{Error, Kind};
use penstock_rules::grpc;
use penstock_rules::http::{Known, RequestHead, ResponseHead, websocket};
use std::future::poll_fn;
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
}

/// Whether the answer belongs to the key of the request.
fn is_accepted(request: &RequestHead, response: &ResponseHead) -> bool {
    let key = request.fields.all("sec-websocket-key").next();
    let accept = response.fields.all("sec-websocket-accept").next();
    key.zip(accept).is_some_and(|(key, accept)| websocket::is_accepted(key, accept))
}
