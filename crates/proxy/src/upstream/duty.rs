//! What people decide about an endpoint: whether it is used, with which weight, up to how many requests. Apart from its health,
//! which probes decide.

use super::queue::Gate;
use penstock_plan::{AdminState, Order};
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Written by reloads and commands, read by every pick.
#[derive(Debug)]
pub(crate) struct Duty {
    admin: AtomicU8,
    weight: AtomicU16,
    /// The most requests at once; 0: no limit.
    most: AtomicU32,
    /// Requests under way of all workers. One line for all of them, and so touched only where there is a limit.
    taken: AtomicU32,
    /// Whom to tell of a place that is given back.
    gate: Arc<Gate>,
    ordered: Mutex<Ordered>,
}

/// What was ordered, and the configuration that it overrides: it lasts until that one changes.
#[derive(Debug)]
struct Ordered {
    configured: (AdminState, u16),
    admin: Option<AdminState>,
    weight: Option<u16>,
}

impl Duty {
    pub(crate) fn new(plan: &penstock_plan::Endpoint, gate: Arc<Gate>) -> Duty {
        let ordered = Ordered { configured: (plan.admin, plan.weight), admin: None, weight: None };
        let duty = Duty {
            admin: AtomicU8::new(0),
            weight: AtomicU16::new(0),
            most: AtomicU32::new(0),
            taken: AtomicU32::new(0),
            gate,
            ordered: Mutex::new(ordered),
        };
        duty.configure(plan);
        duty
    }

    /// This plan runs now.
    pub(crate) fn configure(&self, plan: &penstock_plan::Endpoint) {
        let mut ordered = self.locked();
        if ordered.configured != (plan.admin, plan.weight) {
            *ordered = Ordered { configured: (plan.admin, plan.weight), admin: None, weight: None };
        }
        self.most.store(plan.max_connections.unwrap_or(0), Ordering::Relaxed);
        self.publish(&ordered);
    }

    /// The weight that the endpoint has if this plan runs.
    pub(crate) fn weight_under(&self, plan: &penstock_plan::Endpoint) -> u16 {
        let ordered = self.locked();
        let kept = ordered.weight.filter(|_| ordered.configured == (plan.admin, plan.weight));
        kept.unwrap_or(plan.weight)
    }

    /// A command; it holds at once, for all workers.
    pub(crate) fn order(&self, order: Order) {
        let mut ordered = self.locked();
        match order {
            Order::Admin(admin) => ordered.admin = Some(admin),
            Order::Weight(weight) => ordered.weight = Some(weight),
        }
        self.publish(&ordered);
    }

    pub(crate) fn admin(&self) -> AdminState {
        match self.admin.load(Ordering::Relaxed) {
            READY => AdminState::Ready,
            DRAINING => AdminState::Draining,
            _ => AdminState::Disabled,
        }
    }

    /// Whether it takes new requests, those of clients that are not bound to it.
    #[inline]
    pub(crate) fn is_ready(&self) -> bool {
        self.admin.load(Ordering::Relaxed) == READY
    }

    /// Whether it has a share of the requests of clients that are not bound.
    pub(crate) fn takes_new(&self) -> bool {
        self.is_ready() && self.weight() > 0
    }

    /// Whether it takes requests of clients that are bound to it.
    #[inline]
    pub(crate) fn keeps_bound(&self) -> bool {
        self.admin.load(Ordering::Relaxed) != DISABLED
    }

    pub(crate) fn weight(&self) -> u16 {
        self.weight.load(Ordering::Relaxed)
    }

    /// Whether one more request would be within the limit.
    #[inline]
    pub(crate) fn has_room(&self) -> bool {
        let most = self.most.load(Ordering::Relaxed);
        most == 0 || self.taken.load(Ordering::Relaxed) < most
    }

    /// Take a place for one request: whether there was one, and whether it is to be given back ([`Self::leave`]).
    #[inline]
    pub(crate) fn enter(&self) -> Entry {
        let most = self.most.load(Ordering::Relaxed);
        if most == 0 {
            return Entry::Free;
        }
        let entered =
            self.taken.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |taken| (taken < most).then_some(taken + 1));
        if entered.is_ok() { Entry::Counted } else { Entry::Full }
    }

    pub(crate) fn leave(&self) {
        self.taken.fetch_sub(1, Ordering::SeqCst);
        self.gate.freed();
    }

    fn publish(&self, ordered: &Ordered) {
        let (admin, weight) = ordered.configured;
        self.admin.store(number(ordered.admin.unwrap_or(admin)), Ordering::Relaxed);
        self.weight.store(ordered.weight.unwrap_or(weight), Ordering::Relaxed);
    }

    fn locked(&self) -> MutexGuard<'_, Ordered> {
        self.ordered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What came of asking for a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// There is no limit, and nothing was counted.
    Free,
    /// One place is taken.
    Counted,
    /// There is none.
    Full,
}

const READY: u8 = 0;
const DRAINING: u8 = 1;
const DISABLED: u8 = 2;

fn number(admin: AdminState) -> u8 {
    match admin {
        AdminState::Ready => READY,
        AdminState::Draining => DRAINING,
        AdminState::Disabled => DISABLED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(weight: u16, admin: AdminState, max_connections: Option<u32>) -> penstock_plan::Endpoint {
        penstock_plan::Endpoint {
            address: "10.0.0.1:1".into(),
            weight,
            priority: 0,
            max_connections,
            slow_start: None,
            admin,
        }
    }

    #[test]
    fn orders_last_until_the_endpoint_is_configured_otherwise() {
        let ready = plan(1, AdminState::Ready, None);
        let duty = Duty::new(&ready, Arc::default());
        duty.order(Order::Admin(AdminState::Draining));
        duty.order(Order::Weight(7));
        duty.configure(&plan(1, AdminState::Ready, Some(3)));
        assert_eq!((duty.admin(), duty.weight(), duty.is_ready()), (AdminState::Draining, 7, false));
        assert_eq!((duty.weight_under(&ready), duty.weight_under(&plan(2, AdminState::Ready, None))), (7, 2));
        duty.configure(&plan(2, AdminState::Ready, None));
        assert_eq!((duty.admin(), duty.weight()), (AdminState::Ready, 2));
    }

    #[test]
    fn places_are_counted_only_where_there_is_a_limit() {
        let duty = Duty::new(&plan(1, AdminState::Ready, None), Arc::default());
        assert_eq!((duty.enter(), duty.has_room()), (Entry::Free, true));
        duty.configure(&plan(1, AdminState::Ready, Some(1)));
        assert_eq!((duty.enter(), duty.has_room(), duty.enter()), (Entry::Counted, false, Entry::Full));
        duty.leave();
        assert!(duty.has_room());
    }
}
