//! What is seen only by looking at all endpoints of an upstream together: ejections that end, latencies that differ, and that none
//! is left. A few times a second, on the control thread.

use super::outlier::{self, Turn};
use super::waits;
use crate::observe::events::Level;
use crate::snapshot::UpstreamSettings;
use crate::worker::Shared;
use penstock_rules::health::{Cause, SlowWatch};
use serde_json::json;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// From one look to the next.
const LOOK: Duration = Duration::from_millis(100);

/// What is remembered of an upstream from look to look.
#[derive(Default)]
struct Seen {
    all_down: bool,
    /// Ids of the endpoints that are on trial.
    trials: HashSet<u64>,
    slow: SlowWatch,
}

/// Look at the upstreams of whatever snapshot runs, for as long as this does.
pub(crate) async fn watch(shared: Arc<Shared>) {
    let mut seen: HashMap<u64, Seen> = HashMap::new();
    loop {
        tokio::time::sleep(LOOK).await;
        let Some(snapshot) = shared.snapshot.load_full() else { continue };
        let now = Instant::now();
        let mut kept = HashMap::with_capacity(seen.len());
        for settings in &snapshot.upstreams {
            let mut known = seen.remove(&settings.shared.id).unwrap_or_default();
            tell_of_trials(settings, &mut known.trials, now, &shared);
            eject_slow(settings, &mut known.slow, now, &shared);
            tell_of_all(settings, &mut known.all_down, &shared);
            kept.insert(settings.shared.id, known);
        }
        seen = kept;
    }
}

fn tell_of_trials(settings: &UpstreamSettings, trials: &mut HashSet<u64>, now: Instant, shared: &Shared) {
    for endpoint in &settings.endpoints {
        let standing = &endpoint.standing;
        if standing.has_returned(now) {
            trials.insert(endpoint.id);
            outlier::tell(settings, endpoint, Turn::OnTrial, shared);
        } else if standing.is_ejected(now) {
            trials.remove(&endpoint.id);
        }
        if !standing.is_on_trial() && trials.remove(&endpoint.id) {
            outlier::tell(settings, endpoint, Turn::Back, shared);
        }
    }
}

fn eject_slow(settings: &UpstreamSettings, watch: &mut SlowWatch, now: Instant, shared: &Shared) {
    let Some(rules) = settings.plan.outlier.as_ref().and_then(|rules| rules.latency) else { return };
    if !watch.is_due(now) {
        return;
    }
    let waits = settings.endpoints.iter().map(|one| (one.id, waits::sum(&one.counters, &one.standing)));
    for at in watch.look(&rules, &waits.collect::<Vec<_>>(), now) {
        if let Some(endpoint) = settings.endpoints.get(at) {
            outlier::eject(settings, endpoint, Cause::Slow, shared);
        }
    }
}

/// Say when no endpoint of an upstream is left, and when that ends.
fn tell_of_all(settings: &UpstreamSettings, before: &mut bool, shared: &Shared) {
    let all_down = settings.is_all_down();
    if std::mem::replace(before, all_down) == all_down {
        return;
    }
    let (level, state, message) = if all_down {
        (Level::Error, "all_down", "every endpoint is down or ejected: requests go to all of them")
    } else {
        (Level::Info, "some_up", "an endpoint is up again: requests go to it")
    };
    let name = &settings.plan.name;
    let fields = [("upstream", json!(name)), ("state", json!(state))];
    shared.events.add(level, "health", format!("{name}: {message}"), &fields);
}
