//! Where the datagrams of an association may go, decided once for each destination.

use super::{Asked, Association, HOLD};
use crate::clock::Clock;
use crate::exchange::Exchange;
use crate::forward::moment;
use crate::listen::is_own;
use crate::upstream::resolve;
use penstock_plan::Verdict;
use penstock_rules::error::Kind;
use penstock_rules::forward::Errand;
use penstock_rules::forward::socks::{self, Way};
use penstock_rules::http::RequestHead;
use penstock_rules::route::View;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use tokio::time::timeout;

/// Names that are asked for at once.
const NAMES: usize = 16;

impl Association<'_> {
    /// The first datagram to a destination.
    pub(super) fn begin(&mut self, said: &[u8], payload: &[u8]) -> Option<()> {
        let (now, hold) = self.times();
        let head = self.head(said)?;
        let port = head.place_port();
        if let Err(kind) = self.forward.leave.port(port, true) {
            self.exchange.worker.counters().fail(kind);
            self.destinations.put(said, Way::Closed, now, hold);
            return None;
        }
        let host = head.host();
        if let Ok(ip) = host.trim_matches(['[', ']']).parse::<IpAddr>() {
            let way = self.choose(&head, vec![SocketAddr::new(ip, port)]);
            return match way {
                Way::Open(to) if self.destinations.put(said, way, now, hold) => self.send(to, payload),
                _ => {
                    self.destinations.put(said, way, now, hold);
                    None
                }
            };
        }
        let Exchange { worker, local, .. } = self.exchange;
        let resolver = local.snapshot.resolvers.get(worker.index)?.clone()?;
        if self.asked.len() >= NAMES || !self.destinations.put(said, Way::Asking, now, hold) {
            return None;
        }
        let (name, wait) = (host.to_owned(), self.forward.settings.plan.timeouts.connect);
        let found = Box::pin(async move {
            let asked = timeout(wait, resolve::ask(&resolver, &name, port)).await;
            asked.ok().and_then(Result::ok).map_or_else(Vec::new, |(found, _)| found)
        });
        self.asked.push(Asked { said: said.into(), found, waiting: vec![payload.into()] });
        Some(())
    }

    /// What is asked for as a tunnel would be: names that are addresses are read as such there.
    fn head(&self, said: &[u8]) -> Option<RequestHead> {
        let mut head = RequestHead::default();
        let place = socks::destination(said).ok()?;
        socks::tunnel_to(&place, None, &mut head).ok()?;
        Some(head)
    }

    /// Names that were found.
    pub(super) fn poll_names(&mut self, cx: &mut Context<'_>) {
        let mut at = 0;
        while let Some(asked) = self.asked.get_mut(at) {
            let Poll::Ready(found) = asked.found.as_mut().poll(cx) else {
                at += 1;
                continue;
            };
            let Asked { said, waiting, .. } = self.asked.swap_remove(at);
            let ((now, hold), count) = (self.times(), waiting.len() as u64);
            let way = match self.head(&said) {
                Some(_) if found.is_empty() => {
                    self.exchange.worker.counters().fail(Kind::NameUnresolved);
                    Way::Closed
                }
                Some(head) => self.choose(&head, found),
                None => Way::Closed,
            };
            self.destinations.put(&said, way, now, hold);
            match way {
                Way::Open(to) => {
                    for payload in waiting {
                        if self.send(to, &payload).is_none() {
                            self.dropped(1);
                        }
                    }
                }
                _ => self.dropped(count),
            }
        }
    }

    /// The first of these addresses that may be sent to.
    fn choose(&self, head: &RequestHead, found: Vec<SocketAddr>) -> Way {
        let mut refused = Kind::AddressForbidden;
        for address in found {
            if !self.forward.leave.address(address.ip()) || is_own(&self.exchange.worker.shared, address) {
                continue;
            }
            match self.judge(head, address.ip()) {
                Ok(()) => return Way::Open(address),
                Err(kind) => refused = kind,
            }
        }
        self.exchange.worker.counters().fail(refused);
        Way::Closed
    }

    fn judge(&self, head: &RequestHead, address: IpAddr) -> Result<(), Kind> {
        let Exchange { worker, origin, listener, .. } = self.exchange;
        let moment = moment(worker.shared.ahead_of_utc.load(Ordering::Relaxed));
        let (user, address) = (self.user.as_deref(), Some(address));
        let errand = Errand { user, address, moment, datagrams: true, response: None };
        let view = View {
            listener: &listener.plan.name,
            port: origin.port,
            client: Some(self.client),
            client_port: origin.peer.map(|peer| peer.port()),
            errand: Some(&errand),
            ..View::of(head)
        };
        // What goes through a parent, and what is throttled, has no way for datagrams.
        let default = if self.forward.plan.parent.is_none() { Ok(()) } else { Err(Kind::RuleDenied) };
        let Some((at, rule)) = self.forward.rules.judge(&view) else { return default };
        if let Some(shared) = self.forward.taken.get(at) {
            shared.counters.of(worker.index).taken.add(1);
        }
        match rule.verdict {
            _ if rule.throttle.is_some() => Err(Kind::RuleDenied),
            Verdict::Direct => Ok(()),
            Verdict::Allow | Verdict::Tunnel | Verdict::Intercept => default,
            Verdict::Parent(_) | Verdict::Deny(_) | Verdict::Close => Err(Kind::RuleDenied),
        }
    }

    /// Now, and how long decisions hold, in ticks.
    pub(super) fn times(&self) -> (u64, u64) {
        (self.exchange.worker.clock.now(), Clock::ticks(HOLD))
    }
}
