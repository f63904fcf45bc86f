//! TLS that ends here: the endpoint gets what was in it.

use super::open::Opening;
use crate::clear::ClearStream;
use crate::snapshot::Listener;
use crate::stream::Stream;
use crate::tls::{self, Carrier, Shown, Tls};
use penstock_rules::error::Kind;
use penstock_rules::tls::Hello;
use std::rc::Rc;
use std::time::Duration;

impl Opening {
    /// Shake hands with the client; what it asked for.
    ///
    /// # Errors
    /// One of TLS, of which the client was told by an alert where it can be; `ClientClosed`.
    pub(super) async fn secure(&mut self, (tls, listener): (&Tls, &Listener), wait: Duration) -> Result<Hello, Kind> {
        let (worker, until) = (Rc::clone(&self.worker), self.worker.clock.after(wait));
        let carrier = std::mem::replace(&mut self.client, Stream::Clear(ClearStream::Fresh(None))).into();
        let closing = || worker.is_draining();
        match tls::accept(&worker, (Shown::Own(tls), listener), (carrier, &[]), (&self.alarm, until), closing).await {
            Ok(Some((stream, secured))) => {
                self.client = stream;
                let counters = self.listener().counters.of(worker.index);
                counters.handshakes.add(1);
                counters.resumed.add(u64::from(secured.resumed));
                Ok(Hello { sni: secured.sni.map(String::from), alpn: None })
            }
            Ok(None) => Err(Kind::ClientClosed),
            Err(refused) => {
                if let Carrier::Stream(stream) = refused.carrier {
                    self.client = stream;
                }
                self.told = true;
                Err(refused.kind)
            }
        }
    }
}
