//! HTTP/1 to an endpoint.

use super::H1;
use crate::codec::Upstream;
use penstock_rules::error::Kind;
use penstock_rules::http::{HeadLimits, HeadScan, Length, RequestHead, RequestLines, ResponseHead, write_request};
use penstock_rules::pace::LeastRate;
use std::task::{Context, Poll, ready};

impl Upstream for H1 {
    #[inline(always)]
    fn ask(&mut self, head: &RequestHead, lines: &RequestLines<'_>) {
        write_request(head, lines, &mut self.wire.out);
        self.begin_body(lines.framing);
    }

    #[inline(always)]
    fn poll_response(
        &mut self,
        cx: &mut Context<'_>,
        head: &mut ResponseHead,
        limits: &HeadLimits,
        to_head: bool,
    ) -> Poll<Result<Option<()>, Kind>> {
        let whole = ready!(self.poll_head(cx, limits)).map_err(|kind| match kind {
            Kind::HeadTooLarge | Kind::UriTooLong => Kind::ResponseTooLarge,
            // Some of an answer came: it is not for another endpoint to give it.
            Kind::ClientClosed => Kind::UpstreamCut,
            _ => Kind::BadResponse,
        })?;
        let Some((start, end)) = whole else { return Poll::Ready(Ok(None)) };
        let bytes = self.wire.input().get(start..end).unwrap_or_default();
        let parsed = head.parse(bytes, limits, to_head);
        self.scan = HeadScan::default();
        self.wire.consume(end);
        parsed?;
        self.persistent = head.options.keep_alive && head.length != Length::UntilClose;
        Poll::Ready(Ok(Some(())))
    }

    fn is_unprocessed(&self) -> bool {
        // A connection that closes does not say what was done with its last request.
        false
    }

    fn accept_answer(&mut self, head: &ResponseHead) {
        self.expect_body(head.length, None, LeastRate::NONE);
    }

    fn spoil(&mut self) {
        self.persistent = false;
    }

    fn break_off(&mut self) {
        self.wire.break_off();
    }

    fn failure(&self) -> Option<Box<str>> {
        self.wire.stream().failure().map(Into::into)
    }
}
