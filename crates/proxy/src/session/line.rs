//! Step 4 where all endpoints have as many sessions as they may: wait in line for a place.

use super::open::{Choice, Opening};
use crate::exchange::Course;
use crate::upstream::circuit::Limit;
use crate::upstream::local::{InFlight, Unpicked};
use crate::upstream::queue::Ticket;
use penstock_rules::error::Kind;
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Instant;

impl Opening {
    /// Wait for a place at an endpoint, and take it.
    pub(super) async fn wait_in_line(
        &mut self,
        course: &Course<'_>,
        choice: &Choice,
    ) -> Result<(usize, InFlight), Kind> {
        let (settings, upstream) = (course.settings, course.upstream);
        let Some(queue) = settings.plan.queue else { return Err(Kind::QueueFull) };
        let _pending = course.enter(Limit::Pending, self.worker.index)?;
        let ticket = upstream.queue.enter(&settings.shared.gate, queue.size).ok_or(Kind::QueueFull)?;
        let (began, until) = (Instant::now(), self.worker.clock.after(queue.timeout));
        let outcome = loop {
            if ticket.is_first() {
                match upstream.pick(course.tried, choice.bond, &choice.draw(&self.worker)) {
                    Ok(picked) => break Ok(picked),
                    Err(Unpicked::None) => break Err(Kind::NoEndpoint),
                    Err(Unpicked::Busy) => {}
                }
            }
            if let Err(kind) = self.stand(&ticket, until).await {
                break Err(kind);
            }
        };
        self.about.queued += began.elapsed();
        self.alarm.clear();
        outcome
    }

    /// Until there may be a place, or an end to waiting.
    async fn stand(&mut self, ticket: &Ticket, until: u64) -> Result<(), Kind> {
        let clock = std::rc::Rc::clone(&self.worker.clock);
        let (was_first, next) = (ticket.is_first(), clock.now() + 1);
        let mut freed = pin!(ticket.freed());
        poll_fn(|cx| {
            self.alarm.clear();
            // Readable it may also be for what the client said already; broken it never is for that.
            if self.client.poll_readable(cx).is_ready() && self.client.is_broken() {
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
                self.alarm.lower(next);
            }
            ticket.register(cx);
            self.alarm.lower(until);
            Poll::Pending
        })
        .await
    }
}
