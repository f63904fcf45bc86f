//! Step 3 on routes that name add-ons: ask Python, wait for a bounded time, carry out what it says.
//!
//! A route without add-ons never comes here. What may be said is decided in `rules::addon`; whatever goes wrong in Python is one
//! of three kinds here, and becomes the add-on's default: the request is refused, or goes on.

mod calls;

pub use calls::{Call, Calls};

use crate::clock::Clock;
use crate::codec::Downstream;
use crate::exchange::Story;
use crate::observe::metrics::{Counter, Sharded};
use crate::worker::Worker;
use penstock_plan::{Hook, OnFailure};
use penstock_rules::addon::{Answer, Verdict, describe_request, describe_response};
use penstock_rules::error::Kind;
use penstock_rules::http::{RequestHead, ResponseHead};
use penstock_rules::users::Login;
use serde_json::json;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// An add-on under one plan.
#[derive(Debug)]
pub(crate) struct Addon {
    pub(crate) plan: penstock_plan::Addon,
    pub(crate) shared: Arc<SharedAddon>,
    pub(crate) lane: Arc<Lane>,
}

/// What outlives a reload of an add-on.
#[derive(Debug)]
pub(crate) struct SharedAddon {
    pub(crate) name: String,
    /// By [`Hook::index`].
    pub(crate) counters: Sharded<[HookCounters; Hook::ALL.len()]>,
}

/// The calls of one loading, closed when no snapshot has it any more.
#[derive(Debug)]
pub(crate) struct Lane(pub(crate) Arc<Calls>);

/// The add-ons of one route that there is something to ask of.
#[derive(Debug)]
pub(crate) struct RouteAddons {
    request: Box<[Arc<Addon>]>,
    response: Box<[Arc<Addon>]>,
}

/// What is counted of one hook.
#[derive(Debug, Default)]
pub(crate) struct HookCounters {
    /// By [`OUTCOMES`].
    pub(crate) outcomes: [Counter; OUTCOMES.len()],
    /// Time that requests waited.
    pub(crate) micros: Counter,
}

/// How a call may end, as counted.
pub(crate) const OUTCOMES: [&str; 5] = ["continued", "answered", "failed", "timeout", "busy"];

impl Addon {
    pub(crate) fn lane(plan: &penstock_plan::Addon) -> Arc<Lane> {
        Arc::new(Lane(Arc::new(Calls::new(plan))))
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl RouteAddons {
    /// `None` where nothing is to be asked.
    pub(crate) fn of(addons: &[Arc<Addon>]) -> Option<Box<RouteAddons>> {
        let with = |hook| addons.iter().filter(|addon| addon.plan.hooks.contains(&hook)).cloned().collect();
        let found = RouteAddons { request: with(Hook::RequestHeaders), response: with(Hook::ResponseHeaders) };
        (!found.request.is_empty() || !found.response.is_empty()).then(|| Box::new(found))
    }

    pub(crate) fn has_response(&self) -> bool {
        !self.response.is_empty()
    }
}

impl Addon {
    /// Whether the add-on takes this name and this password for a user's. Who cannot be asked lets nobody in.
    ///
    /// # Errors
    /// `UserRefused`, or why there was no answer.
    pub(crate) async fn authenticate(&self, worker: &Worker, login: &Login) -> Result<(), Kind> {
        // Bytes that are no text are nobody's password.
        let password = str::from_utf8(&login.password).map_err(|_| Kind::UserRefused)?;
        let document = json!({"user": login.user, "password": password}).to_string();
        let (began, events, wait) = (Instant::now(), &worker.shared.events, self.plan.timeout);
        let result = match self.lane.0.put(Hook::Authenticate, document, began + wait, events) {
            Ok(awaited) => awaited.verdict(wait, events).await,
            Err(kind) => Err(kind),
        };
        if let Some(counters) = self.shared.counters.of(worker.index).get(Hook::Authenticate.index()) {
            counters.observe(&result, began.elapsed());
        }
        if result?.is_answer() { Err(Kind::UserRefused) } else { Ok(()) }
    }
}

impl HookCounters {
    fn observe(&self, result: &Result<Verdict, Kind>, waited: Duration) {
        let outcome = match result {
            Ok(verdict) => usize::from(verdict.is_answer()),
            Err(Kind::AddonTimeout) => 3,
            Err(Kind::AddonBusy) => 4,
            Err(_) => 2,
        };
        if let Some(counter) = self.outcomes.get(outcome) {
            counter.add(1);
        }
        self.micros.add(u64::try_from(waited.as_micros()).unwrap_or(u64::MAX));
    }
}

impl Story<'_> {
    /// Ask the route's add-ons of a request, in order; an answer, where one gives it and the request goes no further.
    pub(crate) async fn ask_of_request(
        &self,
        addons: &RouteAddons,
        down: &mut impl Downstream,
        request: &mut RequestHead,
    ) -> Result<Option<Box<Answer>>, Kind> {
        for addon in &addons.request {
            let document = describe_request(&self.view(request), self.route_name(), self.id(request));
            if let Some(verdict) = self.ask(addon, Hook::RequestHeaders, document, down).await?
                && let Some(answer) = verdict.on_request(request)
            {
                return Ok(Some(answer));
            }
        }
        Ok(None)
    }

    /// Ask the route's add-ons of an endpoint's response, in order.
    pub(crate) async fn ask_of_response(
        &self,
        addons: &RouteAddons,
        down: &mut impl Downstream,
        request: &RequestHead,
        response: &mut ResponseHead,
    ) -> Result<(), Kind> {
        // What the endpoint named for one hop is nothing to be told, and nothing it could take away from an add-on.
        response.strip_listed();
        for addon in &addons.response {
            let document = describe_response(&self.view(request), self.route_name(), self.id(request), response);
            if let Some(verdict) = self.ask(addon, Hook::ResponseHeaders, document, down).await? {
                let carried_out = verdict.on_response(response);
                if addon.plan.on_failure == OnFailure::Deny {
                    carried_out?;
                }
            }
        }
        Ok(())
    }

    /// One call; nothing where it failed and the request goes on all the same.
    async fn ask(
        &self,
        addon: &Addon,
        hook: Hook,
        document: String,
        down: &mut impl Downstream,
    ) -> Result<Option<Verdict>, Kind> {
        let worker = self.exchange.worker;
        let (began, events) = (Instant::now(), &worker.shared.events);
        let wait = addon.plan.timeout.min(worker.clock.until(self.total_by));
        let result = match addon.lane.0.put(hook, document, began + wait, events) {
            Ok(awaited) => awaited.verdict(wait, events).await,
            Err(kind) => Err(kind),
        };
        let waited = began.elapsed();
        // The client was not asked for its body meanwhile.
        down.excuse(Clock::ticks(waited));
        if let Some(counters) = addon.shared.counters.of(worker.index).get(hook.index()) {
            counters.observe(&result, waited);
        }
        self.check_total(down)?;
        match (result, addon.plan.on_failure) {
            (Ok(verdict), _) => Ok(Some(verdict)),
            (Err(kind), OnFailure::Deny) => Err(kind),
            (Err(_), OnFailure::Allow) => Ok(None),
        }
    }

    fn route_name(&self) -> &str {
        self.route.map_or("", |route| &route.plan.name)
    }
}
