//! The attempts of one request, or one session of layer 4, at one upstream: what was tried, and what may still be.

use super::Story;
use crate::snapshot::UpstreamSettings;
use crate::upstream::circuit::{Full, Limit, Taken};
use crate::upstream::local::LocalUpstream;
use penstock_rules::error::{Error, Kind, Retry};
use penstock_rules::retry::Retries;
use std::time::{Duration, Instant};

/// The attempts of one request at one upstream.
pub(crate) struct Course<'a> {
    pub(crate) settings: &'a UpstreamSettings,
    /// What says how a request is sent: the same, if it goes through no parent.
    pub(crate) sent_as: &'a UpstreamSettings,
    pub(crate) upstream: &'a LocalUpstream,
    /// Bit N: endpoint N was tried. Those beyond 64 can be tried twice, which is harmless and rare.
    pub(crate) tried: u64,
    pub(crate) retries: Retries<'a>,
    /// Bit of the endpoint that is tried now.
    current: u64,
}

impl<'a> Course<'a> {
    pub(crate) fn new(settings: &'a UpstreamSettings, upstream: &'a LocalUpstream, idempotent: bool) -> Course<'a> {
        let retries = Retries::new(&settings.plan.retry, idempotent);
        Course { settings, sent_as: settings, upstream, tried: 0, retries, current: 0 }
    }

    /// The next attempt goes to this endpoint.
    pub(crate) fn begin(&mut self, endpoint: usize) {
        self.current = u32::try_from(endpoint).ok().and_then(|endpoint| 1u64.checked_shl(endpoint)).unwrap_or(0);
    }

    /// This endpoint is not asked again.
    pub(crate) fn give_up(&mut self) {
        self.tried |= self.current;
    }

    /// How long this attempt may wait, if another can follow.
    pub(super) fn patience(&self) -> Option<Duration> {
        let patience = self.settings.plan.retry.per_try_timeout?;
        (self.retries.may_repeat() && self.has_other()).then_some(patience)
    }

    fn has_other(&self) -> bool {
        self.upstream.has_other(self.tried | self.current, Instant::now())
    }
}

impl Course<'_> {
    /// Take a place of the upstream's, if it has such a limit.
    pub(crate) fn enter(&self, limit: Limit, worker: usize) -> Result<Option<Taken>, Kind> {
        let Some(circuit) = &self.settings.circuit else { return Ok(None) };
        circuit.enter(limit).map_err(|Full| self.refuse(limit, worker))
    }

    /// Take a place for a new connection. Where there is none, one that this worker does not use makes room.
    pub(crate) fn take_connection(&self, worker: usize) -> Result<Option<Taken>, Kind> {
        let Some(circuit) = &self.settings.circuit else { return Ok(None) };
        let retry = |Full| match self.upstream.endpoints.iter().any(|endpoint| endpoint.shed_one()) {
            true => circuit.enter(Limit::Connections),
            false => Err(Full),
        };
        circuit.enter(Limit::Connections).or_else(retry).map_err(|Full| {
            circuit.ask_for_room();
            self.refuse(Limit::Connections, worker)
        })
    }

    /// Charge one more attempt to the budget, or end with the failure of the last.
    pub(crate) fn charge(&self, worker: usize, error: Error) -> Result<(), Error> {
        if !self.upstream.budget.try_again(Instant::now()) {
            self.settings.shared.counters.of(worker).retries_refused.add(1);
            return Err(error);
        }
        Ok(())
    }

    fn refuse(&self, limit: Limit, worker: usize) -> Kind {
        self.settings.shared.counters.of(worker).limited[limit as usize].add(1);
        Kind::UpstreamFull
    }
}

impl Story<'_> {
    /// Whether another endpoint is asked instead of passing on an answer of this status. The attempt is charged to the budget here:
    /// where it cannot be, the answer is still at hand.
    #[inline(always)]
    pub(super) fn asks_another(&self, course: &Course<'_>, status: u16) -> bool {
        course.retries.is_reason(status)
            && self.replay.is_whole()
            && course.has_other()
            && course.charge(self.exchange.worker.index, Kind::UpstreamStatus.into()).is_ok()
    }

    /// Whether there is one more attempt; it may begin when this returns.
    ///
    /// # Errors
    /// `error`, if there is none.
    pub(super) async fn try_again(&mut self, course: &mut Course<'_>, error: Error) -> Result<(), Error> {
        if !course.retries.again(error.retry) || self.status != 0 || !self.replay.is_whole() {
            return Err(error);
        }
        let stale = self.is_stale(error);
        // One that asks no more of the endpoints is free: the last met a connection that the endpoint had closed, of which there are
        // no more than requests that went well before; or it had no descriptor to begin with; or nothing was asked.
        let free = [Kind::Exhausted, Kind::UpstreamStatus, Kind::UpgradeUnsupported];
        if !stale && !free.contains(&error.kind) {
            course.charge(self.exchange.worker.index, error)?;
        }
        // One that did not begin with the request because it had too many may, where it is the only one, a little later.
        let refused = error.kind == Kind::UpstreamRefused;
        if !stale && error.kind != Kind::Exhausted && (!refused || course.has_other()) {
            course.give_up();
        }
        if !stale && (refused || error.retry == Retry::Idempotent) {
            let left = self.exchange.worker.clock.until(self.total_by);
            tokio::time::sleep(course.retries.pause(self.exchange.worker.random()).min(left)).await;
        }
        self.replay.rewind();
        self.start_over();
        Ok(())
    }
}
