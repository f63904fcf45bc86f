//! Step 2 of a request of a forward proxy: which rule takes it, and so what becomes of it.

use super::Story;
use crate::codec::Downstream;
use crate::forward::{Forward, moment};
use penstock_rules::error::{Error, Kind};
use penstock_rules::forward::{Decided, Errand, Rule};
use penstock_rules::http::RequestHead;
use penstock_rules::list::Hit;
use penstock_rules::route::View;
use std::net::IpAddr;
use std::sync::atomic::Ordering;
use std::time::Instant;

impl<'a> Story<'a> {
    /// Step 2 where rules ask for the address and do not only refuse: the way that it takes is that of the first address that may be
    /// connected to.
    pub(super) async fn find_way(
        &mut self,
        forward: &'a Forward,
        request: &RequestHead,
        down: &mut impl Downstream,
        port: u16,
    ) -> Result<(), Error> {
        let worker = self.exchange.worker;
        let site = self.site(forward, request, port)?;
        let endpoint = worker.origins.get(forward, &site, &worker.clock).ok_or(Kind::Internal)?;
        let began = Instant::now();
        let wait = forward.settings.plan.timeouts.connect.min(worker.clock.until(self.total_by));
        let found = self.find_out(request, &endpoint, wait).await;
        self.note_connect(began, down, found).map(|_| ())
    }

    /// Step 2: the first rule that matches, if that can be said; false: not without an address.
    pub(super) fn judge(&mut self, forward: &'a Forward, request: &RequestHead) -> Result<bool, Kind> {
        let errand = self.errand(None);
        let view = View { errand: Some(&errand), ..self.view(request) };
        let Decided::By(found) = forward.rules.decide(&view) else { return Ok(false) };
        let listed = listed(found, &view);
        self.obey(forward, found, listed).map(|()| true)
    }

    /// Step 2: the same for one address.
    pub(super) fn judge_address(
        &mut self,
        forward: &'a Forward,
        request: &RequestHead,
        address: IpAddr,
    ) -> Result<(), Kind> {
        let errand = self.errand(Some(address));
        let view = View { errand: Some(&errand), ..self.view(request) };
        let found = forward.rules.judge(&view);
        let listed = listed(found, &view);
        self.obey(forward, found, listed)
    }

    fn errand(&self, address: Option<IpAddr>) -> Errand<'_> {
        let ahead = self.exchange.worker.shared.ahead_of_utc.load(Ordering::Relaxed);
        Errand { user: self.user.as_deref(), address, moment: moment(ahead), ..Errand::default() }
    }

    fn obey(
        &mut self,
        forward: &Forward,
        found: Option<(usize, &'a Rule)>,
        listed: Option<Box<Hit>>,
    ) -> Result<(), Kind> {
        self.listed = listed;
        let Some((at, rule)) = found else {
            self.rule = None;
            return Ok(());
        };
        if !self.rule.is_some_and(|before| std::ptr::eq(before, rule)) {
            forward.taken.iter().skip(at).take(1).for_each(|shared| {
                shared.counters.of(self.exchange.worker.index).taken.add(1);
            });
        }
        self.rule = Some(rule);
        if rule.refuses() { Err(Kind::RuleDenied) } else { Ok(()) }
    }
}

/// What was found in a list, where the rule refuses for that.
fn listed(found: Option<(usize, &Rule)>, view: &View<'_>) -> Option<Box<Hit>> {
    found.filter(|(_, rule)| rule.refuses()).and_then(|(_, rule)| rule.listed(view)).map(Box::new)
}
