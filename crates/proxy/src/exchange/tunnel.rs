//! Step 7 of a tunnel, which a `101` or a `CONNECT` has opened: bytes both ways, for as long as there are any.

use super::{Exchange, Story};
use crate::clock::{NEVER, Tick};
use crate::codec::h1::H1;
use crate::codec::{Downstream, Outgoing, Tunnel, Upstream};
use crate::observe::metrics::Raised;
use crate::relay::{Stay, is_cut, tunnel};
use crate::session::{Duplex, Lenders};
use crate::stream::Stream;
use crate::worker::Worker;
use penstock_rules::error::{Error, Kind};
use penstock_rules::session::End;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::task::Poll;

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

    /// The same where both connections carry nothing else: past the codecs, as a session of layer 4.
    pub(super) async fn pass_whole(&mut self, down: &mut H1, mut endpoint: Stream) -> Result<(), Error> {
        let Worker { buffers, pipes, clock, .. } = &**self.exchange.worker;
        let idle = self.exchange.listener.plan.timeouts.tunnel;
        self.upgraded = true;
        down.become_tunnel(idle);
        let _open = self.count_tunnel();
        let alarm = Rc::clone(&down.alarm);
        let opened = poll_fn(|cx| {
            alarm.clear();
            down.poll_flush(cx)
        });
        if opened.await.is_err() {
            return Ok(());
        }
        let duplex = Duplex::beginning_with(down.wire.input(), buffers, idle, &alarm);
        down.wire.release();
        let mut passage = Passage { duplex, lenders: (buffers, pipes) };
        let mut term = self.term();
        let end = poll_fn(|cx| {
            if is_cut(&alarm, term.stay(), false) {
                return Poll::Ready(End::Shutdown);
            }
            let ends = (down.wire.stream_mut(), &mut endpoint);
            match passage.duplex.poll(cx, passage.lenders, clock, ends) {
                Poll::Pending => passage.duplex.poll_idle(&alarm, term.by),
                ended => ended,
            }
        })
        .await;
        let [came, went] = passage.duplex.moved();
        down.end_tunnel(came, went);
        match end {
            End::Idle => Err(Kind::TunnelIdle.into()),
            End::ClientClosed | End::EndpointClosed => Ok(()),
            _ => {
                // Neither side may take what it got for all.
                endpoint.break_off();
                down.abort();
                Ok(())
            }
        }
    }

    fn count_tunnel(&self) -> Raised<'a> {
        self.exchange.origin.listener.counters.of(self.exchange.worker.index).tunnels.raise()
    }

    fn term(&self) -> Term<'a> {
        Term { exchange: self.exchange, version: self.exchange.local.version, by: NEVER }
    }
}

/// Both directions, and whose buffers are in them.
struct Passage<'w> {
    duplex: Duplex,
    lenders: Lenders<'w>,
}

impl Drop for Passage<'_> {
    fn drop(&mut self) {
        self.duplex.let_go(self.lenders);
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
