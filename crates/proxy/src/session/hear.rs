//! For whom a proxy in front connects, as it says in a header of the PROXY protocol before everything else.

use super::open::Opening;
use crate::announced;
use crate::snapshot::Listener;
use crate::stream::Stream;
use penstock_rules::error::Kind;
use std::rc::Rc;

impl Opening {
    /// Read the header: from then on it is known who the client is, and it counts for itself.
    ///
    /// # Errors
    /// `ProxyHeaderMissing`, `ProxyHeaderBad`, `ProxyHeaderTimeout`, `TooManyPerClient`; `ClientClosed`: nothing was said.
    pub(super) async fn hear(&mut self, listener: &Listener) -> Result<(), Kind> {
        let (Some(senders), Stream::Clear(socket)) = (&listener.senders, &mut self.client) else { return Ok(()) };
        let worker = Rc::clone(&self.worker);
        let until = worker.clock.after(senders.timeout);
        let header = announced::read(&worker, &listener.shared, socket, (&self.alarm, until)).await;
        // What follows asks for moments of its own.
        self.alarm.clear();
        let Some(header) = header? else {
            return Err(if worker.clock.now() >= until { Kind::ProxyHeaderTimeout } else { Kind::ClientClosed });
        };
        let Some(addresses) = header.addresses else { return Ok(()) };
        self.about.peer = Some(addresses.source);
        self.destination = Some(addresses.destination);
        self.place.count_for(listener, addresses.source.ip())
    }
}
