//! What requests say of an endpoint, shared by all workers. A request that goes well reads one flag and writes nothing that another
//! worker reads; one that failed may lock, and so may the first that goes well after it. What follows is decided in `rules::health`.

use super::endpoint::Endpoint;
use crate::observe::events::Level;
use crate::snapshot::UpstreamSettings;
use crate::worker::Shared;
use penstock_plan::Outlier as Rules;
use penstock_rules::health::{Cause, Ejection, Outlier, may_eject};
use serde_json::json;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How one endpoint stands.
#[derive(Debug)]
pub(crate) struct Standing {
    born: Instant,
    /// End of the ejection, in milliseconds since `born`; 0 while there is none.
    until: AtomicU64,
    /// Whether a success would change anything.
    suspect: AtomicBool,
    /// Whether nothing went well since the last ejection.
    on_trial: AtomicBool,
    /// So far; only whether it has changed matters.
    ejections: AtomicU32,
    judged: Mutex<Judged>,
}

#[derive(Debug, Default)]
struct Judged {
    outlier: Outlier,
    last: Option<(Ejection, Cause)>,
}

/// What there is to tell of an endpoint.
pub(crate) struct Report {
    /// The ejection that is under way, and why.
    pub(crate) ejection: Option<(Ejection, Cause)>,
    pub(crate) ejections: u64,
    /// That count.
    pub(crate) failures_in_a_row: usize,
}

impl Standing {
    pub(crate) fn new() -> Standing {
        Standing {
            born: Instant::now(),
            until: AtomicU64::new(0),
            suspect: AtomicBool::new(false),
            on_trial: AtomicBool::new(false),
            ejections: AtomicU32::new(0),
            judged: Mutex::default(),
        }
    }

    #[inline]
    pub(crate) fn is_ejected(&self, now: Instant) -> bool {
        let until = self.until.load(Relaxed);
        until != 0 && self.millis(now) < until
    }

    /// Whether one request at a time is to find out how it fares.
    #[inline]
    pub(crate) fn is_on_trial(&self) -> bool {
        self.on_trial.load(Relaxed)
    }

    /// See [`Outlier::back_for`].
    pub(crate) fn back_for(&self, now: Instant) -> Option<Duration> {
        self.locked().outlier.back_for(now)
    }

    #[inline]
    pub(crate) fn ejections(&self) -> u32 {
        self.ejections.load(Relaxed)
    }

    /// A request went well.
    #[inline]
    pub(crate) fn succeeded(&self, now: Instant) {
        if self.suspect.load(Relaxed) {
            let mut judged = self.locked();
            judged.outlier.succeeded(now);
            self.publish(&judged.outlier);
        }
    }

    /// Whether an ejection has ended since the last call.
    pub(crate) fn has_returned(&self, now: Instant) -> bool {
        let until = self.until.load(Relaxed);
        until != 0 && self.millis(now) >= until && self.until.compare_exchange(until, 0, Relaxed, Relaxed).is_ok()
    }

    /// Nobody judges it any more.
    pub(crate) fn forget(&self) {
        let mut judged = self.locked();
        *judged = Judged::default();
        self.publish(&judged.outlier);
        self.until.store(0, Relaxed);
    }

    pub(crate) fn report(&self, now: Instant) -> Report {
        let judged = self.locked();
        Report {
            ejection: judged.last.filter(|(ejection, _)| now < ejection.until),
            ejections: judged.outlier.ejections(),
            failures_in_a_row: judged.outlier.failures(),
        }
    }

    /// Whether this failure is one too many.
    fn failed(&self, rules: &Rules, now: Instant) -> bool {
        let mut judged = self.locked();
        let too_many = judged.outlier.failed(rules, now);
        self.publish(&judged.outlier);
        too_many
    }

    fn eject(&self, rules: &Rules, cause: Cause, now: Instant) -> Ejection {
        let mut judged = self.locked();
        let ejection = judged.outlier.eject(rules, now);
        judged.last = Some((ejection, cause));
        self.ejections.fetch_add(1, Relaxed);
        self.publish(&judged.outlier);
        // Rounded up: whoever is told that it has ended may rely on it.
        self.until.store(self.millis(ejection.until) + 1, Relaxed);
        ejection
    }

    fn publish(&self, outlier: &Outlier) {
        self.suspect.store(outlier.is_suspect(), Relaxed);
        self.on_trial.store(outlier.is_on_trial(), Relaxed);
    }

    /// Microseconds of its life.
    #[inline]
    pub(super) fn micros(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.born).as_micros()).unwrap_or(u64::MAX)
    }

    fn millis(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.born).as_millis()).unwrap_or(u64::MAX)
    }

    fn locked(&self) -> MutexGuard<'_, Judged> {
        self.judged.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request to `endpoint` failed for `cause`: eject it, if that was one too many.
pub(crate) fn failed(settings: &UpstreamSettings, endpoint: &Endpoint, cause: Cause, shared: &Shared) {
    let Some(rules) = &settings.plan.outlier else { return };
    let now = Instant::now();
    if endpoint.standing.failed(rules, now) {
        eject(settings, endpoint, cause, shared);
    }
}

/// Eject `endpoint`, unless too many are or it is the last.
pub(crate) fn eject(settings: &UpstreamSettings, endpoint: &Endpoint, cause: Cause, shared: &Shared) {
    let Some(rules) = &settings.plan.outlier else { return };
    // One at a time: two workers that eject two endpoints at once could eject the last.
    let _one = settings.shared.ejecting.lock().unwrap_or_else(PoisonError::into_inner);
    let now = Instant::now();
    let members = || settings.endpoints.iter().filter(|one| one.duty.takes_new());
    let ejected = members().filter(|one| one.standing.is_ejected(now)).count();
    let usable = members().filter(|one| !one.is_out(now)).count();
    if endpoint.is_out(now) || !may_eject(rules, members().count(), ejected, usable) {
        return;
    }
    let ejection = endpoint.standing.eject(rules, cause, now);
    tell(settings, endpoint, Turn::Ejected(ejection.length, cause), shared);
}

/// What becomes of an endpoint.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Turn {
    Ejected(Duration, Cause),
    OnTrial,
    Back,
}

/// Say what becomes of an endpoint.
pub(crate) fn tell(settings: &UpstreamSettings, endpoint: &Endpoint, turn: Turn, shared: &Shared) {
    let (upstream, address) = (&settings.plan.name, &endpoint.address);
    let (level, state, rest) = match turn {
        Turn::Ejected(length, cause) => {
            (Level::Warning, "ejected", format!("ejected for {:.1} s: {cause}", length.as_secs_f64()))
        }
        Turn::OnTrial => (Level::Info, "on_trial", "on trial: its ejection is over".into()),
        Turn::Back => (Level::Info, "up", "back: a request went well".into()),
    };
    let fields = [("upstream", json!(upstream)), ("endpoint", json!(address)), ("state", json!(state))];
    shared.events.add(level, "outlier", format!("{upstream}/{address} is {rest}"), &fields);
}
