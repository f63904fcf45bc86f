//! Step 2 of a forward proxy once more: rules that ask for the answer are asked when its head is there, and before the client gets any of it.

use super::Story;
use crate::forward::moment;
use penstock_rules::error::Kind;
use penstock_rules::forward::Errand;
use penstock_rules::http::{RequestHead, ResponseHead};
use penstock_rules::route::View;
use std::sync::atomic::Ordering;

impl Story<'_> {
    /// Whether a rule may still refuse what the origin answers.
    pub(super) fn may_refuse(&self) -> bool {
        self.exchange.listener.forward.as_deref().is_some_and(|forward| forward.rules.wait(self.rule))
    }

    /// Whether the client may have this answer. What is refused is answered by us; the connection to the origin ends, with what is
    /// still to come on it.
    pub(super) fn judge_response(&mut self, request: &RequestHead, response: &ResponseHead) -> Result<(), Kind> {
        let Some(forward) = self.exchange.listener.forward.as_deref() else { return Ok(()) };
        if !self.may_refuse() {
            return Ok(());
        }
        let worker = self.exchange.worker;
        let moment = moment(worker.shared.ahead_of_utc.load(Ordering::Relaxed));
        let errand = Errand { user: self.user.as_deref(), moment, response: Some(response), ..Errand::default() };
        let view = View { errand: Some(&errand), ..self.view(request) };
        let Some((at, rule)) = forward.rules.judge_response(&view, self.rule) else { return Ok(()) };
        let listed = if rule.refuses() { rule.listed(&view) } else { None };
        if let Some(shared) = forward.taken.get(at) {
            shared.counters.of(worker.index).taken.add(1);
        }
        (self.rule, self.listed) = (Some(rule), listed.map(Box::new));
        if rule.refuses() { Err(Kind::RuleDenied) } else { Ok(()) }
    }
}
