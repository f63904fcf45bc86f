//! A tunnel between two connections that carry nothing else: past the codecs, as a session of layer 4. The client's connection moves
//! its bytes while the exchange waits for its end, however many futures lie between the two: a tunnel lives for hours, and wakes for
//! each piece.

use crate::clock::{Alarm, NEVER, Tick};
use crate::relay::{Stay, is_cut};
use crate::session::Duplex;
use crate::snapshot::SharedListener;
use crate::stream::Stream;
use crate::worker::Worker;
use penstock_rules::session::End;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

/// Both directions, and both connections.
pub(crate) struct Passage {
    pub(super) client: Stream,
    pub(super) endpoint: Stream,
    duplex: Duplex,
    alarm: Rc<Alarm>,
    term: Term,
    /// How it ended, if it has.
    end: Option<End>,
}

impl Passage {
    /// One that begins with what the client `said` already, and ends when nothing has moved for as long as `idle`.
    pub(super) fn new(
        (client, endpoint): (Stream, Stream),
        said: &[u8],
        idle: Duration,
        alarm: Rc<Alarm>,
        term: Term,
    ) -> Passage {
        let duplex = Duplex::beginning_with(said, &term.worker.buffers, idle, &alarm);
        Passage { client, endpoint, duplex, alarm, term, end: None }
    }

    /// Move what can be moved; ready when it has ended.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.end.is_none() {
            self.end = Some(ready!(self.poll_end(cx)));
        }
        Poll::Ready(())
    }

    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        if is_cut(&self.alarm, self.term.stay(), false) {
            return Poll::Ready(End::Shutdown);
        }
        let Worker { buffers, pipes, clock, .. } = &*self.term.worker;
        match self.duplex.poll(cx, (buffers, pipes), clock, (&mut self.client, &mut self.endpoint)) {
            Poll::Pending => self.duplex.poll_idle(&self.alarm, self.term.by),
            ended => ended,
        }
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.end.is_some()
    }

    /// How it ended; `None`: it has not yet.
    pub(super) fn end(&self) -> Option<End> {
        self.end
    }

    /// Bytes that came from the client, and that went to it.
    pub(super) fn moved(&self) -> [u64; 2] {
        self.duplex.moved()
    }
}

impl Drop for Passage {
    fn drop(&mut self) {
        let Worker { buffers, pipes, .. } = &*self.term.worker;
        self.duplex.let_go((buffers, pipes));
    }
}

/// How long a tunnel may go on: one whose listener a reload removed, for as long as a stopping process would wait.
pub(super) struct Term {
    worker: Rc<Worker>,
    listener: Arc<SharedListener>,
    /// Of the configuration that was looked at last.
    version: u64,
    by: Tick,
}

impl Term {
    pub(super) fn since(version: u64, worker: &Rc<Worker>, listener: &Arc<SharedListener>) -> Term {
        Term { worker: Rc::clone(worker), listener: Arc::clone(listener), version, by: NEVER }
    }

    #[inline]
    pub(super) fn stay(&mut self) -> Stay {
        let version = self.worker.version();
        if version != self.version {
            self.look_for_listener(version);
        }
        match self.by {
            _ if self.worker.is_leaving() => Stay::Leaving,
            NEVER => Stay::Open,
            by => Stay::Until(by),
        }
    }

    #[cold]
    fn look_for_listener(&mut self, version: u64) {
        let Some(local) = self.worker.local() else { return };
        let gone = local.snapshot.listener(self.listener.id).is_none();
        let by = self.worker.clock.after(local.snapshot.plan.engine.drain_timeout);
        (self.version, self.by) = (version, if gone { self.by.min(by) } else { NEVER });
    }
}
