//! Step 2 of an exchange: which route takes the request. Where a match asks for values of the body, that is read first.

use super::{Exchange, Story};
use crate::codec::Downstream;
use crate::snapshot::Route;
use penstock_rules::error::{Error, Kind};
use penstock_rules::http::{Length, RequestHead, ResponseHead};
use penstock_rules::route::{View, json};
use std::future::poll_fn;
use std::task::ready;

impl<'a> Story<'a> {
    /// Step 2, route.
    pub(super) async fn route(
        &mut self,
        down: &mut impl Downstream,
        request: &mut RequestHead,
    ) -> Result<&'a Route, Error> {
        let Exchange { local, listener, .. } = self.exchange;
        let announced = match local.snapshot.table.asks_body() {
            true => json::State::announced(request),
            false => json::State::None,
        };
        let body = json::Body::new(announced);
        let mut found = self.find(request, &body);
        if body.is_wanted() {
            let whole = self.gather(down, request).await?;
            self.start_over();
            let state = if whole { json::State::Whole(self.replay.kept()) } else { json::State::TooLarge };
            found = self.find(request, &json::Body::new(state));
        }
        let route = found?;
        self.route = Some(route);
        if route.maintenance.is_on() && !route.exception.spares(&self.view(request)) {
            return Err(Kind::Maintenance.into());
        }
        let limit = route.plan.limits.body.or(listener.plan.limits.body);
        if let Some(limit) = route.plan.limits.body {
            down.limit_body(limit);
        }
        let known = if let Length::Bytes(bytes) = request.length { bytes } else { down.received() };
        if limit.is_some_and(|limit| known > limit) {
            return Err(Kind::BodyTooLarge.into());
        }
        if let Some(total) = route.plan.timeouts.total {
            self.total_by = self.exchange.worker.clock.after(total);
        }
        Ok(route)
    }

    #[inline(always)]
    fn find(&self, request: &RequestHead, body: &json::Body<'_>) -> Result<&'a Route, Error> {
        let Exchange { local, index, .. } = self.exchange;
        let view = View { body: Some(body), ..self.view(request) };
        let index = u32::try_from(*index).unwrap_or(u32::MAX);
        let at = local.snapshot.table.choose(&view, index)?.ok_or(Kind::NoRoute)?;
        match body.refusal(at) {
            Some(kind) => Err(kind.into()),
            None => Ok(local.snapshot.routes.get(at).ok_or(Kind::Internal)?),
        }
    }

    /// Read the body that a match asks for; whether it is all there. It goes on to the endpoint as it came.
    async fn gather(&mut self, down: &mut impl Downstream, request: &mut RequestHead) -> Result<bool, Kind> {
        // Whoever offers a body and waits is told to send it here; the endpoint has no say in it any more.
        if std::mem::take(&mut request.options.expect_continue) {
            let mut go_on = ResponseHead::default();
            go_on.compose(100);
            down.interim(&go_on);
        }
        let replay = &mut self.replay;
        poll_fn(|cx| {
            down.alarm().clear();
            ready!(down.poll_flush(cx))?;
            replay.poll_gather(cx, down, json::MOST)
        })
        .await
    }
}
