//! What a client says first, read before a route is chosen and passed on as it came: whom its TLS asks for.

use super::open::Opening;
use penstock_rules::error::Kind;
use penstock_rules::tls::{First, Hello, HelloReader, LONGEST};
use std::future::poll_fn;
use std::task::{Context, Poll, ready};
use std::time::Duration;

impl Opening {
    /// Read until it is known what the client asks for; `None`: it speaks no TLS.
    ///
    /// # Errors
    /// `TlsTimeout`: it did not say so in time. `TlsFailed`: it never will. `ClientClosed`.
    pub(super) async fn read_first(&mut self, wait: Duration) -> Result<Option<Hello>, Kind> {
        let until = self.worker.clock.after(wait);
        let mut reader = HelloReader::default();
        let first = poll_fn(|cx| match self.poll_first(cx, &mut reader) {
            Poll::Pending if self.worker.clock.now() >= until => Poll::Ready(Err(Kind::TlsTimeout)),
            Poll::Pending => {
                self.alarm.clear();
                self.alarm.lower(until);
                Poll::Pending
            }
            told => told,
        });
        match first.await? {
            First::Hello(hello) => Ok(Some(hello)),
            First::Other | First::Partial => Ok(None),
        }
    }

    /// A buffer is borrowed to read, and what is kept is what came: nobody holds more than he has sent.
    fn poll_first(&mut self, cx: &mut Context<'_>, reader: &mut HelloReader) -> Poll<Result<First, Kind>> {
        loop {
            ready!(self.client.poll_readable(cx)).map_err(|_| Kind::ClientClosed)?;
            let mut buffer = self.worker.buffers.small();
            let room = buffer.get_mut(..LONGEST.saturating_sub(self.said.len())).unwrap_or_default();
            let read = self.client.poll_read(cx, room);
            let (told, count) = match &read {
                Poll::Ready(Ok(count @ 1..)) => {
                    let came = room.get(..*count).unwrap_or_default();
                    self.said.extend_from_slice(came);
                    (reader.take(came).map_err(|_| Kind::TlsFailed), *count)
                }
                _ => (Ok(First::Partial), 0),
            };
            self.worker.buffers.give_back(buffer);
            match (told?, read) {
                (First::Partial, Poll::Pending) => return Poll::Pending,
                (First::Partial, _) if count == 0 => return Poll::Ready(Err(Kind::ClientClosed)),
                (First::Partial, _) => {}
                (first, _) => return Poll::Ready(Ok(first)),
            }
        }
    }
}
