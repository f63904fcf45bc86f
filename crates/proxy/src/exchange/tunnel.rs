//! Step 7 of a tunnel, which a `101` or a `CONNECT` has opened: bytes both ways, for as long as there are any.

use super::passage::{Passage, Term};
use super::{Exchange, Story};
use crate::codec::h1::H1;
use crate::codec::{Downstream, Outgoing, Tunnel, Upstream};
use crate::observe::metrics::Raised;
use crate::relay::tunnel;
use crate::stream::Stream;
use penstock_rules::error::{Error, Kind};
use penstock_rules::session::End;
use std::future::poll_fn;
use std::mem;
use std::rc::Rc;

impl<'a> Story<'a> {
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
        let _open = self.count_tunnel();
        let _told = websocket.then(|| self.exchange.worker.counters().websockets.raise());
        let alarm = Rc::clone(down.alarm());
        let mut term = self.term();
        let end = tunnel(&alarm, down, up, websocket, || term.stay()).await;
        // That one side ends a tunnel is how tunnels end.
        if end == Kind::TunnelIdle { Err(end.into()) } else { Ok(()) }
    }

    /// The same where both connections carry nothing else: the client's moves the bytes, and this waits.
    pub(super) async fn pass_whole(&mut self, down: &mut H1, endpoint: Stream) -> Result<(), Error> {
        let Exchange { listener, reserved, .. } = self.exchange;
        let idle = listener.plan.timeouts.tunnel;
        self.upgraded = true;
        down.become_tunnel(idle);
        let _open = self.count_tunnel();
        let opened = poll_fn(|cx| {
            down.alarm.clear();
            down.poll_flush(cx)
        });
        if opened.await.is_err() {
            return Ok(());
        }
        let client = mem::replace(down.wire.stream_mut(), Stream::nothing());
        let alarm = Rc::clone(&down.alarm);
        reserved.leave_passage(Passage::new((client, endpoint), down.wire.input(), idle, alarm, self.term()));
        down.wire.release();
        let mut begun = false;
        let mut passage = poll_fn(|cx| {
            if !begun {
                begun = true;
                // Its connection has the next turn.
                cx.waker().wake_by_ref();
            }
            reserved.poll_passed()
        })
        .await;
        mem::swap(down.wire.stream_mut(), &mut passage.client);
        let [came, went] = passage.moved();
        down.end_tunnel(came, went);
        match passage.end() {
            Some(End::Idle) => Err(Kind::TunnelIdle.into()),
            Some(End::ClientClosed | End::EndpointClosed) => Ok(()),
            _ => {
                // Neither side may take what it got for all.
                passage.endpoint.break_off();
                down.abort();
                Ok(())
            }
        }
    }

    fn count_tunnel(&self) -> Raised<'a> {
        self.exchange.origin.listener.counters.of(self.exchange.worker.index).tunnels.raise()
    }

    fn term(&self) -> Term {
        let Exchange { worker, local, origin, .. } = self.exchange;
        Term::since(local.version, worker, &origin.listener)
    }
}
