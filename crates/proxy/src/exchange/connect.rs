//! Step 5, connect.

use super::{Exchange, Story};
use crate::clock::Clock;
use crate::codec::Downstream;
use crate::codec::h1::{ENDPOINT, H1, Waits};
use crate::snapshot::UpstreamSettings;
use crate::upstream::connect::connect;
use crate::wire::Wire;
use penstock_rules::error::{Error, Kind, Retry};
use penstock_rules::pace::LeastRate;
use std::rc::Rc;
use std::time::{Duration, Instant};

impl Story<'_> {
    /// Step 5, connect: from the pool, or anew. A second attempt always connects anew.
    pub(super) async fn connect(
        &mut self,
        settings: &UpstreamSettings,
        down: &mut impl Downstream,
        patience: Option<Duration>,
    ) -> Result<H1, Error> {
        let Exchange { worker, .. } = self.exchange;
        let Some(in_flight) = &self.endpoint else { return Err(Kind::Internal.into()) };
        let endpoint = &in_flight.endpoint;
        let pooled = match self.pinned.take() {
            None if self.attempts == 1 => endpoint.take_idle(),
            pinned => pinned,
        };
        self.reused = pooled.is_some();
        let stream = match pooled {
            Some(stream) => {
                endpoint.counters().reused.add(1);
                stream
            }
            None => {
                let began = Instant::now();
                let wait = settings.plan.timeouts.connect;
                let (wait, clock) = (patience.map_or(wait, |patience| patience.min(wait)), &worker.clock);
                let opened = connect(endpoint, wait.min(clock.until(self.total_by))).await;
                self.connect += began.elapsed();
                // The client was not asked for its body meanwhile.
                down.excuse(Clock::ticks(began.elapsed()));
                if opened.is_err() && clock.now() >= self.total_by {
                    return Err(Kind::TotalTimeout.into());
                }
                opened.map_err(|kind| {
                    // That we have no descriptor left says nothing of the endpoint.
                    if kind == Kind::Exhausted {
                        worker.shed_pools();
                    } else {
                        endpoint.unreachable(Instant::now());
                    }
                    Error { kind, retry: Retry::Always }
                })?
            }
        };
        let timeouts = &settings.plan.timeouts;
        let body = self.route.and_then(|route| route.plan.timeouts.body).unwrap_or(timeouts.body);
        let waits = Waits { body, write: timeouts.write, rate: LeastRate::NONE };
        Ok(H1::new(Wire::new(stream, Rc::clone(&worker.buffers)), Rc::clone(down.alarm()), ENDPOINT, waits))
    }
}
