//! Step 4 where all endpoints have as many requests as they may: wait in line for a place.

use super::Story;
use super::course::Course;
use crate::clock::Clock;
use crate::codec::Downstream;
use crate::upstream::circuit::Limit;
use crate::upstream::local::Unpicked;
use crate::upstream::queue::Ticket;
use penstock_rules::error::{Error, Kind, Retry};
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Instant;

impl Story<'_> {
    /// Wait for a place at an endpoint, and take it.
    pub(super) async fn wait_in_line(
        &mut self,
        down: &mut impl Downstream,
        course: &Course<'_>,
        key: Option<u64>,
    ) -> Result<usize, Error> {
        let (settings, upstream) = (course.settings, course.upstream);
        let Some(queue) = settings.plan.queue else { return Err(Kind::QueueFull.into()) };
        // A request that goes to another endpoint is not kept from its place at the one before.
        if let Some(before) = &mut self.endpoint {
            before.leave();
        }
        let _pending = course.enter(Limit::Pending, self.exchange.worker.index)?;
        let ticket = upstream.queue.enter(&settings.shared.gate, queue.size).ok_or(Kind::QueueFull)?;
        let (began, until) = (Instant::now(), self.exchange.worker.clock.after(queue.timeout));
        let outcome = loop {
            if ticket.is_first() {
                match self.pick(upstream, course.tried, key) {
                    Ok(endpoint) => break Ok(endpoint),
                    Err(Unpicked::None) => break Err(Kind::NoEndpoint),
                    Err(Unpicked::Busy) => {}
                }
            }
            if let Err(kind) = self.stand(down, &ticket, until).await {
                break Err(kind);
            }
        };
        self.queued += began.elapsed();
        self.start_over();
        // The client was not asked for its body meanwhile.
        down.excuse(Clock::ticks(began.elapsed()));
        outcome.map_err(|kind| Error { kind, retry: Retry::Never })
    }

    /// Until there may be a place, or an end to waiting.
    async fn stand(&self, down: &mut impl Downstream, ticket: &Ticket, until: u64) -> Result<(), Kind> {
        let clock = &self.exchange.worker.clock;
        let (was_first, next) = (ticket.is_first(), clock.now() + 1);
        let mut freed = pin!(ticket.freed());
        poll_fn(|cx| {
            down.alarm().clear();
            if let Err(kind) = self.check_total(down) {
                return Poll::Ready(Err(kind));
            }
            if down.is_ended() && down.poll_gone(cx).is_ready() {
                return Poll::Ready(Err(Kind::ClientClosed));
            }
            if clock.now() >= until {
                return Poll::Ready(Err(Kind::QueueTimeout));
            }
            if ticket.is_first() {
                // Places also appear that nobody gives back: endpoints that come up, limits that a reload raises.
                if !was_first || clock.now() >= next || freed.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(Ok(()));
                }
                down.alarm().lower(next);
            }
            ticket.register(cx);
            down.alarm().lower(until);
            Poll::Pending
        })
        .await
    }
}
