//! Between steps 3 and 4: another service is asked whether the request may go on. It is asked as any endpoint is, by an exchange of
//! its own that nobody is told of, so that pools, health and limits of its upstream are the ordinary ones.

use super::whole::Whole;
use super::{Exchange, Story};
use crate::clock::Clock;
use crate::codec::Downstream;
use crate::upstream::reserved::Reserved;
use penstock_rules::auth::{ForwardAuth, LONGEST};
use penstock_rules::error::{Error, Kind};
use penstock_rules::http::{RequestHead, ResponseHead};
use std::time::Instant;

impl Story<'_> {
    /// Ask; whether the request goes on. Otherwise the client has the service's answer.
    pub(super) async fn authorize(
        &mut self,
        auth: &ForwardAuth,
        question: &mut RequestHead,
        down: &mut impl Downstream,
        (request, response): (&mut RequestHead, &mut ResponseHead),
    ) -> Result<bool, Error> {
        let began = Instant::now();
        let mut whole = Whole::new(down, LONGEST);
        let asked = self.consult(question, &mut whole, response).await;
        let body = whole.body;
        let took = began.elapsed();
        self.auth = Some(took);
        // The client was not asked for its body meanwhile.
        down.excuse(Clock::ticks(took));
        if let Err(error) = asked {
            self.check_total(down)?;
            return Err(ForwardAuth::failure(error.kind).into());
        }
        response.strip_listed();
        if !ForwardAuth::allows(response.status) {
            self.answer(down, request, response, &body).await?;
            return Ok(false);
        }
        auth.accept(response, request);
        Ok(true)
    }

    /// An exchange with the service.
    async fn consult(
        &self,
        question: &mut RequestHead,
        whole: &mut impl Downstream,
        response: &mut ResponseHead,
    ) -> Result<(), Error> {
        let plan = self.route.and_then(|route| route.plan.forward_auth.as_ref()).ok_or(Kind::Internal)?;
        // A connection that the client has authenticated is one to the endpoint, and stays its own.
        let (reserved, at) = (Reserved::default(), plan.upstream as usize);
        let exchange = Exchange { reserved: &reserved, ..*self.exchange };
        let mut aside = self.aside(&exchange);
        aside.total_by = self.exchange.worker.clock.after(plan.timeout).min(self.total_by);
        aside.bind(question, at);
        aside.forward(whole, question, response, at).await
    }
}
