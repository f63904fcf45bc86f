//! Step 7, where a page of the configuration stands in for what an endpoint answered.

use super::Story;
use crate::codec::{Chunk, Downstream, Incoming, Upstream};
use crate::respond;
use penstock_rules::error::{Error, Kind};
use penstock_rules::http::{RequestHead, ResponseHead};
use penstock_rules::page::{self, Page};
use std::future::poll_fn;
use std::task::Poll;

/// Bytes of a body in whose place a page stands that are read, so that its connection can be used again.
const MOST_DISCARDED: u64 = 64 << 10;

impl<'a> Story<'a> {
    /// The page that stands in for an endpoint's answer with this status.
    ///
    /// # Errors
    /// `ParentRefused`, or `BadResponse`: who else asks a client of a forward proxy who it is, would learn what is for the proxy alone.
    #[inline]
    pub(super) fn page_for(&self, request: &RequestHead, status: u16) -> Result<Option<&'a Page>, Kind> {
        if status < 400 { Ok(None) } else { self.page_for_failure(request, status) }
    }

    fn page_for_failure(&self, request: &RequestHead, status: u16) -> Result<Option<&'a Page>, Kind> {
        if status == 407 && self.exchange.listener.forward.is_some() {
            let by_parent = self.upstream.is_some_and(|settings| settings.parent.is_some());
            return Err(if by_parent { Kind::ParentRefused } else { Kind::BadResponse });
        }
        Ok(page::choose(self.pages(), status, page::wants_json(&request.fields), true))
    }

    /// Send the page.
    pub(super) async fn stand_in(
        &mut self,
        down: &mut impl Downstream,
        up: &mut impl Upstream,
        (request, response): (&RequestHead, &mut ResponseHead),
        page: &Page,
    ) -> Result<(), Error> {
        up.accept_answer(response);
        discard(up).await;
        self.leave();
        let body = respond::stand_in(page, self.id(request), response);
        self.answer(down, request, response, &body).await
    }
}

/// Use up what is here of a body that nobody will read. Nothing is waited for: what has not come costs the connection.
async fn discard(up: &mut impl Incoming) {
    poll_fn(|cx| {
        while up.received() < MOST_DISCARDED {
            match up.poll_chunk(cx) {
                Poll::Ready(Ok(Chunk::Bytes)) => {
                    let length = up.chunk().len();
                    up.consume(length);
                }
                Poll::Ready(_) | Poll::Pending => break,
            }
        }
        Poll::Ready(())
    })
    .await;
}
