//! Whether a route is in maintenance, as all workers know it.

use penstock_plan::Route;
use penstock_rules::maintenance::{Switch, identity};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Written by commands, read by every request. Snapshots whose files say the same of a route share one: so a change of the file
/// holds with its snapshot, and never before or after it.
#[derive(Debug)]
pub(crate) struct Maintenance {
    on: AtomicBool,
    switch: Mutex<Switch>,
    identity: Option<Box<str>>,
}

impl Maintenance {
    /// That of the route at this place of a plan. `before` is what the route of its name has in the plan that runs; `all`: all
    /// routes were ordered into maintenance.
    pub(crate) fn of(before: Option<&Arc<Maintenance>>, (at, route): (usize, &Route), all: bool) -> Arc<Maintenance> {
        let (configured, identity) = (route.maintenance.on, identity(at, route));
        let Some(before) = before.filter(|before| before.identity.as_deref() == identity) else {
            return Self::new(Switch::new(configured, all), identity);
        };
        let changed = before.switch().under(configured);
        changed.map_or_else(|| Arc::clone(before), |switch| Self::new(switch, identity))
    }

    fn new(switch: Switch, identity: Option<&str>) -> Arc<Maintenance> {
        let (on, identity) = (AtomicBool::new(switch.is_on()), identity.map(Into::into));
        Arc::new(Maintenance { on, switch: Mutex::new(switch), identity })
    }

    #[inline]
    pub(crate) fn is_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }

    /// A command.
    pub(crate) fn order(&self, on: bool) {
        let mut switch = self.switch();
        switch.order(on);
        self.on.store(switch.is_on(), Ordering::Relaxed);
    }

    fn switch(&self) -> MutexGuard<'_, Switch> {
        self.switch.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
