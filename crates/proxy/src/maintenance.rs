//! Whether a route is in maintenance, as all workers know it.

use penstock_plan::Route;
use penstock_rules::maintenance::Switch;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Written by reloads and commands, read by every request.
#[derive(Debug, Default)]
pub(crate) struct Maintenance {
    on: AtomicBool,
    switch: Mutex<Switch>,
}

impl Maintenance {
    #[inline]
    pub(crate) fn is_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }

    /// This plan runs now; `at` is the route's place in it.
    pub(crate) fn configure(&self, at: usize, route: &Route) {
        self.change(|switch| switch.configure(at, route));
    }

    /// A command.
    pub(crate) fn order(&self, on: bool) {
        self.change(|switch| switch.order(on));
    }

    fn change(&self, change: impl FnOnce(&mut Switch)) {
        let mut switch: MutexGuard<'_, Switch> = self.switch.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut switch);
        self.on.store(switch.is_on(), Ordering::Relaxed);
    }
}
