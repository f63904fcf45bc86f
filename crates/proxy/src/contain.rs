//! A panic ends one request and nothing else (ARCHITECTURE.md, What must never be).

use crate::worker::Worker;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::Poll;

/// A panic came out of the future; what it owned was dropped.
pub(crate) struct Panicked;

/// Run `future`, turning a panic into a counted value.
///
/// # Errors
/// The future panicked.
pub(crate) async fn contain<F: Future>(worker: &Worker, mut future: Pin<&mut F>) -> Result<F::Output, Panicked> {
    poll_fn(|cx| {
        // The future is never polled again after a panic. What it borrowed may be half done: its owner uses of it only what
        // holds no invariant over a poll. The worker's own cells hold none.
        match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
            Ok(poll) => poll.map(Ok),
            Err(_) => {
                worker.counters().panics.add(1);
                Poll::Ready(Err(Panicked))
            }
        }
    })
    .await
}
