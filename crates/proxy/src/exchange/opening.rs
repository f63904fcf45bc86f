//! Tunnels that a forward proxy opens (`forward/inside.rs`): whether this one is, and what the client says first in it.

use super::{Exchange, Story};
use crate::codec::Downstream;
use crate::forward::{Forward, Inside, Interception, Opening, Site, prepare};
use crate::stream::Stream;
use crate::upstream::endpoint::Place;
use penstock_rules::error::{Error, Kind};
use penstock_rules::forward::Rule;
use penstock_rules::http::{RequestHead, Target};
use penstock_rules::tls::{First, Hello, HelloReader, LONGEST};
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, ready};

/// Characters of a reason that a client is told.
const LONGEST_REASON: usize = 300;

impl<'a> Story<'a> {
    /// The tunnel that the request came through, if that was opened.
    pub(super) fn inside(&self) -> Option<&'a Inside> {
        self.exchange.origin.inside()
    }

    /// Whether we are to speak TLS to the origin.
    pub(super) fn is_secure(&self, request: &RequestHead) -> bool {
        self.inside().is_some() || request.target == Target::Secure
    }

    /// The origin of a request, or of a tunnel.
    pub(super) fn site<'s>(
        &mut self,
        forward: &'s Forward,
        request: &'s RequestHead,
        port: u16,
    ) -> Result<Site<'s>, Kind>
    where
        'a: 's,
    {
        if let Some(inside) = self.inside() {
            // A reload may have taken away that tunnels are opened.
            let tls = forward.tls.as_ref().filter(|_| forward.interception.is_some()).ok_or(Kind::Misdirected)?;
            let place = format!("{}:{}", inside.host, inside.port);
            return Ok(Site { place, secure: Some((tls, &*inside.name)), behind: None });
        }
        let host = request.host();
        let secure = match (request.target, &forward.tls) {
            (Target::Secure, None) => {
                self.reason = Some("this machine trusts no authority that could prove who a server is".into());
                return Err(Kind::UpstreamCertificate);
            }
            (Target::Secure, Some(tls)) => Some((tls, host)),
            _ => None,
        };
        Ok(Site { place: format!("{host}:{port}"), secure, behind: None })
    }

    /// What its client is shown is made while the origin is connected to, where it is known by then that the tunnel is opened.
    pub(super) fn prepare_opening(&self, request: &RequestHead) {
        if let Some(interception) = self.interception() {
            let host = request.host().trim_start_matches('[').trim_end_matches(']');
            prepare(self.exchange.worker, &interception.authority, host);
        }
    }

    /// How the tunnel is opened, if the rule that took it says that it is.
    fn interception(&self) -> Option<&'a Interception> {
        self.rule.filter(|rule| rule.opens())?;
        self.exchange.listener.forward.as_ref()?.interception.as_ref()
    }

    /// Whether a rule says that the tunnel is opened, and there is no authority to stand for its origin: it is none, then, rather than
    /// closed.
    pub(super) fn cannot_open(&self) -> bool {
        self.interception().is_none() && self.rule.is_some_and(Rule::opens)
    }

    /// Whether the tunnel, whose origin is connected, is to be opened: then the name in its client's hello, if there is one.
    pub(super) async fn overhear(
        &mut self,
        down: &mut impl Downstream,
        request: &RequestHead,
    ) -> Result<Option<Option<String>>, Error> {
        let Some(interception) = self.interception() else { return Ok(None) };
        let counters = interception.shared.counters.of(self.exchange.worker.index);
        let Some(Hello { sni, .. }) = self.read_hello(down).await? else {
            counters.no_tls.add(1);
            return Ok(None);
        };
        if interception.is_pinned(self.client, sni.as_deref().unwrap_or(request.host())) {
            counters.pinned.add(1);
            return Ok(None);
        }
        Ok(Some(sni))
    }

    /// What the client says first in its tunnel, which stays where it is; `None`: it speaks no TLS, or waits for the origin to speak.
    async fn read_hello(&self, down: &mut impl Downstream) -> Result<Option<Hello>, Kind> {
        let Exchange { worker, listener, .. } = self.exchange;
        let until = worker.clock.after(listener.plan.timeouts.hello);
        let (mut reader, mut seen) = (HelloReader::default(), 0);
        poll_fn(|cx| {
            down.alarm().clear();
            ready!(down.poll_flush(cx))?;
            loop {
                let said = match down.poll_ahead(cx, seen)? {
                    Poll::Ready(said) => said,
                    Poll::Pending if worker.clock.now() < until => {
                        down.alarm().lower(until);
                        return Poll::Pending;
                    }
                    Poll::Pending if seen == 0 => return Poll::Ready(Ok(None)),
                    Poll::Pending => return Poll::Ready(Err(Kind::TlsTimeout)),
                };
                let fresh = said.get(seen..).filter(|fresh| !fresh.is_empty());
                let Some(fresh) = fresh else {
                    return Poll::Ready(if seen == 0 { Ok(None) } else { Err(Kind::ClientClosed) });
                };
                seen += fresh.len();
                match reader.take(fresh) {
                    Ok(First::Partial) if seen < LONGEST => {}
                    Ok(First::Hello(hello)) if seen <= LONGEST => return Poll::Ready(Ok(Some(hello))),
                    Ok(First::Other) => return Poll::Ready(Ok(None)),
                    Ok(_) | Err(_) => return Poll::Ready(Err(Kind::TlsFailed)),
                }
            }
        })
        .await
    }

    /// Leave the tunnel to the client's connection, which opens it.
    pub(super) fn leave_tunnel(
        &mut self,
        down: &mut impl Downstream,
        request: &RequestHead,
        (sni, stream): (Option<String>, Stream),
    ) -> Result<(), Error> {
        let Exchange { listener, reserved, .. } = self.exchange;
        let forward = listener.forward.as_ref().map(Arc::clone).ok_or(Kind::Internal)?;
        let endpoint = self.endpoint.as_ref().map(|in_flight| &in_flight.endpoint).ok_or(Kind::Internal)?;
        let behind =
            self.upstream.filter(|settings| settings.parent.is_some()).map(|settings| self.behind(settings, endpoint));
        let addresses = match &endpoint.shared.place {
            Place::Tcp { addresses, .. } if behind.is_none() => addresses.load_full(),
            _ => Arc::default(),
        };
        reserved.leave_tunnel(Opening {
            forward,
            host: request.host().into(),
            port: request.place_port(),
            sni,
            stream,
            taken: self.taken.take(),
            addresses,
            parent: behind.map(|behind| (Rc::clone(endpoint), behind)),
            client: self.client,
            user: self.user.clone(),
        });
        self.upgraded = true;
        down.hand_over();
        Ok(())
    }

    /// Why an origin was not believed, for a client that we speak TLS for: it does not see the origin's certificate.
    pub(crate) fn reason_of_origin(&self, kind: Kind) -> Option<String> {
        let forward = self.exchange.listener.forward.as_deref()?;
        let directly = || self.upstream.is_none_or(|settings| std::ptr::eq(settings, &raw const forward.secure));
        if !self.greeted && !directly() {
            return None;
        }
        let of_tls = [Kind::UpstreamCertificate, Kind::UpstreamTlsFailed, Kind::UpstreamTlsTimeout];
        let reason = self.reason.as_deref().filter(|_| of_tls.contains(&kind))?;
        // It can hold names of the origin's certificate.
        Some(reason.chars().filter(|one| one.is_ascii_graphic() || *one == ' ').take(LONGEST_REASON).collect())
    }

    /// What became of a tunnel that a rule says is opened, in one word.
    pub(crate) fn opening(&self, request: &RequestHead) -> Option<&'static str> {
        self.interception().filter(|_| request.target == Target::Tunnel && self.status == 200)?;
        Some(if self.exchange.reserved.has_tunnel() { "opened" } else { "closed" })
    }
}
