//! The story of one exchange, from a whole request head to the last byte of its answer, in nine steps:
//! 1 admit, 2 route, 3 request filters, 4 pick, 5 connect, 6 send, 7 relay, 8 finish or retry, 9 record.

mod answered;
mod authorize;
mod behind;
mod connect;
mod converse;
mod course;
mod forward;
mod help;
mod judge;
mod line;
mod mirror;
mod opening;
mod outward;
mod passage;
mod relay;
mod replay;
mod route;
mod stand_in;
mod story;
mod tap;
mod throttled;
mod through;
mod tunnel;
mod whole;

pub(crate) use course::Course;
pub(crate) use mirror::CopyOutcome;
pub(crate) use passage::Passage;
pub(crate) use story::Story;
pub(crate) use tap::run_tapped;

use crate::codec::Downstream;
use crate::connection::Origin;
use crate::faults;
use crate::respond;
use crate::snapshot::Listener;
use crate::upstream::reserved::Reserved;
use crate::worker::{Local, Worker};
use penstock_plan::Action;
use penstock_rules::error::{Error, Kind};
use penstock_rules::grpc;
use penstock_rules::http::{Fields, Identity, RequestHead, ResponseHead, Target, take_hop};
use std::borrow::Cow;
use std::rc::Rc;

/// What an exchange is told by its connection.
pub(crate) struct Exchange<'a> {
    pub(crate) worker: &'a Rc<Worker>,
    pub(crate) local: &'a Local,
    pub(crate) origin: &'a Origin,
    pub(crate) listener: &'a Listener,
    /// Index of the listener in the plan.
    pub(crate) index: usize,
    pub(crate) identity: &'a Identity,
    pub(crate) reserved: &'a Reserved,
}

/// Run one exchange to its end. What becomes of the connection is left in `down`.
pub(crate) async fn run(
    exchange: &Exchange<'_>,
    down: &mut impl Downstream,
    request: &mut RequestHead,
    response: &mut ResponseHead,
) {
    // Made where it stays: it is large.
    let mut story = Story::new(exchange);
    story.admit(down, request);
    let mut told = story.tell(down, request, response).await;
    if let Some((endpoint, down)) = story.tunnel.take().zip(down.whole_connection()) {
        // Here all that led to it is done, and what that needed is given back.
        told = Box::pin(story.pass_whole(down, endpoint)).await;
    }
    if let Err(error) = told {
        story.error = Some(error.kind);
        // What an endpoint failed at was counted with its attempt.
        if story.counted != Some(error.kind) {
            exchange.worker.counters().fail(error.kind);
        }
        story.leave();
        if story.status == 0 || down.retract() {
            // Whatever the client still sends of this request is not read as a next one.
            if !down.is_ended() {
                down.close_after();
            }
            story.status = respond::fail(&story, down, request, error.kind).await;
        } else {
            down.abort();
        }
    }
    story.record(down, request);
    down.ended(&story);
}

impl Story<'_> {
    async fn tell(
        &mut self,
        down: &mut impl Downstream,
        request: &mut RequestHead,
        response: &mut ResponseHead,
    ) -> Result<(), Error> {
        if let Some(to_https) = &self.exchange.listener.to_https
            && to_https.takes(&self.view(request))
        {
            to_https.write(&self.view(request), response)?;
            return self.answer(down, request, response, b"").await;
        }
        let Exchange { origin, listener, .. } = self.exchange;
        if origin.secured.as_ref().is_some_and(|secured| !secured.is_for(listener.tls.as_deref(), request.host()))
            // Of a forward proxy that is the host of somebody else.
            && listener.forward.is_none()
        {
            // What is asked of clients is something else for this host, or has changed: a new connection is asked for it.
            down.close_after();
            return Err(Kind::Misdirected.into());
        }
        let route = match request.target {
            Target::Resource => match self.route(down, request).await {
                Ok(route) => route,
                // A forward proxy has no routes: in a tunnel that was opened everything goes to its origin.
                Err(_) if self.inside().is_some() => return Box::pin(self.go_out(down, request, response)).await,
                Err(error) if listener.forward.is_some() && error.kind == Kind::NoRoute => {
                    return Box::pin(self.help(down, request, response)).await;
                }
                Err(error) => return Err(error),
            },
            // `OPTIONS *` asks for the proxy itself (RFC 9110 §9.3.7).
            Target::Server => return self.answer_fields(down, response, 204, &Fields::default()).await,
            // Boxed, so that the task of every other exchange stays small.
            Target::Elsewhere | Target::Secure | Target::Tunnel | Target::Inside => {
                return Box::pin(self.go_out(down, request, response)).await;
            }
        };
        let question = route.auth.as_ref().map(|auth| (auth, auth.ask(request)));
        if let Some(answer) = route.filters.on_request(request)? {
            return self.answer_fields(down, response, answer.status, &answer.fields).await;
        }
        faults::strike(self.exchange.worker, faults::Place::Filter, request);
        if let Some((auth, mut question)) = question {
            if !Box::pin(self.authorize(auth, &mut question, down, (request, response))).await? {
                return Ok(());
            }
            self.start_over();
        }
        if let Some(addons) = &route.addons {
            if let Some(answer) = Box::pin(self.ask_of_request(addons, down, request)).await? {
                answer.compose(response);
                return self.answer(down, request, response, &answer.body).await;
            }
            self.start_over();
        }
        if let Some(answer) = &route.answer {
            let body = answer.write(&self.view(request), self.id(request), response)?;
            return self.answer(down, request, response, &body).await;
        }
        if !take_hop(request) {
            return self.answer_fields(down, response, 204, &Fields::default()).await;
        }
        let at = match (&route.plan.action, &route.split) {
            (Action::Upstream(upstream), _) => *upstream,
            (_, Some(split)) => split.choose(&self.view(request), self.exchange.worker.random()),
            _ => return Err(Kind::Internal.into()),
        };
        self.bind(request, at as usize);
        if let Some(mirror) = &route.mirror {
            self.begin_copy(mirror, down, request);
        }
        self.forward(down, request, response, at as usize).await
    }

    pub(super) async fn answer(
        &mut self,
        down: &mut impl Downstream,
        request: &RequestHead,
        response: &mut ResponseHead,
        body: &[u8],
    ) -> Result<(), Error> {
        self.filter_response(request, response);
        if !down.takes(response.status) {
            return Err(Kind::BadUpgrade.into());
        }
        if response.status >= 400 && grpc::is_call(request) {
            self.status = response.status;
            grpc::translate(response);
            return respond::send(down, response, b"").await.map_err(Error::from);
        }
        let mut body = Cow::Borrowed(body);
        if let Some(mut coder) = self.coder(request, response)? {
            body = Cow::Owned(coder.whole(&body).ok_or(Kind::Exhausted)?);
        }
        self.status = response.status;
        respond::send(down, response, &body).await.map_err(Error::from)
    }

    pub(super) async fn answer_fields(
        &mut self,
        down: &mut impl Downstream,
        response: &mut ResponseHead,
        status: u16,
        fields: &Fields,
    ) -> Result<(), Error> {
        if !down.takes(status) {
            return Err(Kind::BadUpgrade.into());
        }
        response.compose(status);
        response.fields.clone_from(fields);
        self.status = status;
        respond::send(down, response, b"").await.map_err(Error::from)
    }
}
